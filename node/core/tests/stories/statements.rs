//! When a site says what it holds: often enough to be believed, seldom enough that thousands of quiet shards cost little.

use std::collections::BTreeSet;

use crate::memory::{Office, SHARD, request};
use dinhba_core::ids::SiteId;
use dinhba_core::sync::{Effect, Event, STATEMENTS_EVERY_MS, STATEMENTS_PAUSE_MS, Session};

const SECOND_MS: i64 = 1_000;

/// An office on a link with another one that has said its first word.
struct Talker {
    office: Office,
    session: Session,
    edits: u64,
}

impl Talker {
    fn new() -> Self {
        let (office, peer) = (Office::new(1), Office::new(2));
        let opened = |office: &Office, with| {
            let mut session = Session::new(with, false, BTreeSet::from([SHARD]));
            let hello = session.handle(&office.here(), Event::Opened).unwrap().remove(0);
            (session, hello)
        };
        let (mut session, _) = opened(&office, SiteId(2));
        let (_, Effect::Send(hello)) = opened(&peer, SiteId(1)) else { panic!("its first word is a greeting") };
        session.handle(&office.here(), Event::Received(hello)).unwrap();
        Talker { office, session, edits: 0 }
    }

    fn edits(&mut self) {
        self.edits += 1;
        self.office.create(request(1, self.edits), "Lê//An");
        self.session.handle(&self.office.here(), Event::Advanced).unwrap();
    }

    /// Whether it states at this time what it holds, which must then be true.
    fn states(&mut self, at_ms: i64) -> bool {
        let effects = self.session.handle(&self.office.here(), Event::Tick(at_ms)).unwrap();
        let own = effects.into_iter().find_map(|effect| match effect {
            Effect::State { own, .. } => Some(own),
            _ => None,
        });
        let shard = self.office.shard();
        for body in own.iter().flatten() {
            assert_eq!((body.at_ms, body.edits, body.state), (at_ms, shard.edits_digest, shard.state_digest));
        }
        own.is_some()
    }
}

#[test]
fn while_edits_flow_a_round_of_statements_speaks_for_many() {
    let mut talker = Talker::new();
    assert!(talker.states(0), "the first word");
    let rounds = (1..=20).filter(|second| {
        talker.edits();
        talker.states(second * SECOND_MS)
    });
    assert_eq!(rounds.collect::<Vec<i64>>(), [5, 10, 15, 20]);
    assert!(!talker.states(40 * SECOND_MS), "nothing is new");
    talker.edits();
    assert!(talker.states(41 * SECOND_MS), "after a quiet time, news is stated at once");
    talker.edits();
    assert!(!talker.states(42 * SECOND_MS));
    assert!(talker.states(41 * SECOND_MS + STATEMENTS_PAUSE_MS as i64), "the last edit is not forgotten");
}

#[test]
fn what_does_not_change_is_repeated_with_a_fresh_date_whatever_the_clock_does() {
    let mut talker = Talker::new();
    let every = STATEMENTS_EVERY_MS as i64;
    let stated = [0, 1, every - 1, every, every + 1, 2 * every, 2 * every + 1].map(|at_ms| talker.states(at_ms));
    assert_eq!(stated, [true, false, false, true, false, true, false]);
    assert!(talker.states(-every), "the clock was set back");
    assert!(!talker.states(1 - every));
    talker.edits();
    assert!(talker.states(1 - every + STATEMENTS_PAUSE_MS as i64));
}
