//! When a site says what it holds: often enough to be believed, seldom enough that thousands of quiet shards cost little.

use std::collections::BTreeSet;

use crate::memory::{Office, PATH, SHARD, claims, request, shown};
use dinhba_core::access_log::{AccessEntry, AccessHead, AccessSeen, Looked};
use dinhba_core::claims::{Purpose, Role};
use dinhba_core::command::{Command, Renew, Statement, StatementBody};
use dinhba_core::ids::{Hash, Incarnation, SiteId};
use dinhba_core::registry::{HEARD_MAX, heard, place_of_request};
use dinhba_core::sync::{Effect, Event, Moved, STATEMENTS_EVERY_MS, STATEMENTS_PAUSE_MS, Session};

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
        self.session.handle(&self.office.here(), Event::Advanced(Moved::Any)).unwrap();
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

/// Somebody looks at a record.
fn reads(office: &mut Office) {
    office.now_ms += 1;
    let entry = AccessEntry {
        claims: claims(Role::Registrar, PATH[3]),
        purpose: Purpose::Registration,
        case: "KS-1".parse().unwrap(),
        looked: Looked::Record,
        shard: Some(SHARD),
        subject: [office.now_ms as u8; 16],
        at_ms: office.now_ms,
    };
    office.run(Command::Access(vec![entry]));
}

fn body_of(office: &Office) -> StatementBody {
    let here = office.here();
    here.statement(SHARD, here.heads(SHARD).unwrap(), office.now_ms).unwrap().unwrap()
}

/// The neighbour hears a statement, and knows then of that access log...
fn hears(neighbour: &mut Office, body: StatementBody) -> AccessSeen {
    let AccessHead { incarnation, .. } = body.access;
    neighbour.run(Command::Keep(vec![Statement { body, signature: [5; 64] }]));
    let all = heard(&neighbour.state, neighbour.keys()).unwrap();
    all.into_iter().map(|(_, seen)| seen).find(|seen| seen.head.incarnation == incarnation).unwrap()
}

#[test]
fn a_site_that_cuts_its_access_log_is_found_out_and_stays_so() {
    let (mut site, mut above) = (Office::new(2), Office::new(1));
    site.create(request(2, 1), "Lê//An");
    reads(&mut site);
    let before = site.clone();
    for _ in 0..3 {
        reads(&mut site);
    }
    let stated = body_of(&site);
    assert_eq!((stated.access.count, stated.access.group), (4, site.context.group));
    let seen = hears(&mut above, stated.clone());
    assert_eq!((seen.head, seen.differs), (stated.access, None));

    // The last looks are taken out of its disk, and it goes on.
    let mut cut = before.clone();
    cut.now_ms += 60_000;
    reads(&mut cut);
    let lie = body_of(&cut);
    assert_eq!(lie.access.count, 2);
    let seen = hears(&mut above, lie.clone());
    assert_eq!((seen.head, seen.differs), (stated.access, Some(lie.access)), "the furthest is kept, and the first lie");
    for _ in 0..9 {
        reads(&mut cut);
    }
    let later = body_of(&cut);
    let seen = hears(&mut above, later.clone());
    assert_eq!((seen.head, seen.differs), (later.access, Some(lie.access)), "that it has more by now mends nothing");
}

#[test]
fn another_entry_in_the_place_of_one_is_found_out_whatever_its_date() {
    let (mut site, mut above) = (Office::new(2), Office::new(1));
    let mut other = site.clone();
    reads(&mut site);
    hears(&mut above, body_of(&site));
    other.now_ms -= 1;
    reads(&mut other);
    let lie = body_of(&other);
    assert_eq!(lie.access.count, 1);
    assert_eq!(hears(&mut above, lie.clone()).differs, Some(lie.access));
}

#[test]
fn a_word_that_comes_late_and_a_site_from_its_archive_are_no_cuts() {
    let (mut site, mut above) = (Office::new(2), Office::new(1));
    site.create(request(2, 1), "Lê//An");
    reads(&mut site);
    let mut archive = Vec::new();
    site.back_up(&mut archive);
    let early = body_of(&site);
    reads(&mut site);
    let stated = body_of(&site);
    hears(&mut above, stated.clone());
    // A leader that others replaced signs what it has, and its clock goes on.
    let late = StatementBody { at_ms: i64::MAX, ..early };
    assert_eq!(hears(&mut above, late), AccessSeen { head: stated.access, differs: None });
    // What is made again lacks the last look, and says so under another name.
    let mut again = site.founded_from(&archive, None).unwrap();
    again.now_ms += 60_000;
    reads(&mut again);
    reads(&mut again);
    let body = body_of(&again);
    assert_ne!(body.access.incarnation, stated.access.incarnation);
    assert_eq!(hears(&mut above, body.clone()), AccessSeen { head: body.access, differs: None });
    let all = heard(&above.state, above.keys()).unwrap();
    assert_eq!(all.iter().map(|(site, seen)| (*site, seen.differs)).collect::<Vec<_>>(), [(SiteId(2), None); 2]);
}

#[test]
fn names_that_are_made_up_are_noted_once_and_not_kept() {
    let (site, mut above) = (Office::new(2), Office::new(1));
    let mut body = body_of(&site);
    for name in 0..2 * HEARD_MAX as u64 {
        body.access = AccessHead {
            incarnation: Incarnation(u128::from(name).to_be_bytes()),
            hash: Hash::default(),
            ..body.access
        };
        above.run(Command::Keep(vec![Statement { body: body.clone(), signature: [5; 64] }]));
    }
    let all = heard(&above.state, above.keys()).unwrap();
    assert_eq!(all.len(), HEARD_MAX);
    let noted: Vec<u64> = all
        .iter()
        .filter_map(|(_, seen)| seen.differs)
        .map(|said| u128::from_be_bytes(said.incarnation.0) as u64)
        .collect();
    assert_eq!(noted, [HEARD_MAX as u64]);
}

#[test]
fn reads_alone_are_no_news_and_go_along_with_what_is() {
    let mut talker = Talker::new();
    talker.edits();
    assert!(talker.states(0));
    for second in 1..=20 {
        reads(&mut talker.office);
        talker.session.handle(&talker.office.here(), Event::Advanced(Moved::Any)).unwrap();
        assert!(!talker.states(second * SECOND_MS), "a read every second states nothing");
    }
    talker.edits();
    let effects = talker.session.handle(&talker.office.here(), Event::Tick(21 * SECOND_MS)).unwrap();
    let [Effect::State { own, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(own[0].access.count, 20);
}

#[test]
fn what_a_site_held_in_an_earlier_life_and_does_not_say_since_is_remembered() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    commune.create(request(1, 1), "Nguyễn/Thị/Lan");
    district.merge(commune.site, commune.stream(), 5);
    let before = district.clone();
    let lan = commune.create(request(1, 2), "Lê//An");
    district.merge(commune.site, commune.stream(), 5);
    let said = |office: &Office| Statement { body: body_of(office), signature: [5; 64] };
    let formers = |commune: &Office| commune.here().formers(SHARD).unwrap();
    let is_held = |commune: &Office, said: &Statement| {
        let lies = place_of_request(&commune.state, &commune.context, SHARD, request(1, 2)).unwrap().unwrap();
        commune.here().known_to_hold(SHARD, &said.body.heads).unwrap().covers(&lies)
    };
    commune.run(Command::Keep(vec![said(&district)]));
    assert!(formers(&commune).is_empty() && is_held(&commune, &said(&district)));

    // The district's data comes back from an older copy, in another life: it lacks the edit, and says so.
    let mut restored = before;
    let own = restored.shard().own.id();
    let (incarnation, epoch) = (Incarnation([9; 16]), [9; 16]);
    restored.run(Command::Renew(Renew { shard: SHARD, author: own, incarnation, epoch }));
    commune.run(Command::Keep(vec![said(&restored)]));
    assert!(!is_held(&commune, &said(&restored)));
    assert!(matches!(&formers(&commune)[..], [former] if is_held(&commune, former)));

    // What it lacks is sent again; a word that comes late changes nothing.
    restored.merge(commune.site, commune.stream(), 6);
    commune.run(Command::Keep(vec![said(&restored), said(&district)]));
    assert!(is_held(&commune, &said(&restored)));
    assert_eq!(formers(&commune).len(), 1);
    assert_eq!(shown(&restored.record(lan), dinhba_core::schema::field::NAME), ["Lê//An"]);
}
