//! Two neighbours with ten thousand shards in common: what a contact costs follows what differs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::memory::{Office, PATH, SHARD, create_command, request, seal};
use dinhba_core::command::{Adopt, Answer, Command, Heads, ShardInfo, Statement};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Incarnation, ShardId};
use dinhba_core::registry::{ShardState, read};
use dinhba_core::sync::{
    BUCKETS, Effect, Event, GREETED_AT_ONCE, Hello, LINK_VERSION, Message, Moved, Session, ShardHello,
};

const SHARDS: u64 = 10_000;

fn shards(count: u64) -> BTreeSet<ShardId> {
    (1..=count).map(ShardId).collect()
}

/// A site with so many shards.
fn office(site: u64, count: u64) -> Office {
    let mut office = Office::new(site);
    let adopts = shards(count).into_iter().filter(|shard| *shard != SHARD).map(|shard| {
        let info = ShardInfo { shard, path: PATH.to_vec() };
        let seed = blake3::hash(&[shard.0, site].map(u64::to_be_bytes).concat());
        let half = |at: usize| seed.as_bytes()[at..at + 16].try_into().unwrap();
        Command::Adopt(Adopt { info, incarnation: Incarnation(half(0)), epoch: half(16) })
    });
    for adopts in adopts.collect::<Vec<_>>().chunks(500) {
        office.run_all(adopts.to_vec());
    }
    office
}

/// A child and its parent, and what they have said to each other.
struct Link {
    count: u64,
    ends: [(Office, Session); 2],
    bytes: [usize; 2],
    /// The largest message, and about which shards each end has spoken by name.
    largest: usize,
    named: [BTreeSet<ShardId>; 2],
    closed: Option<String>,
}

impl Link {
    fn new(child: Office, parent: Office, count: u64) -> Self {
        let down = Session::new(parent.site, false, shards(count));
        let up = Session::new(child.site, true, shards(count));
        Link {
            count,
            ends: [(child, down), (parent, up)],
            bytes: [0; 2],
            largest: 0,
            named: Default::default(),
            closed: None,
        }
    }

    /// The same two after a cut.
    fn again(self) -> Self {
        let [(child, _), (parent, _)] = self.ends;
        let mut link = Link::new(child, parent, self.count);
        link.connect();
        link
    }

    fn connect(&mut self) {
        self.events([(0, Event::Opened), (1, Event::Opened)]);
    }

    fn tick(&mut self, at_ms: i64) {
        self.events([(0, Event::Tick(at_ms)), (1, Event::Tick(at_ms))]);
    }

    /// Somebody registers a person at one of the ends.
    fn edit(&mut self, end: usize, shard: u64, number: u64) {
        let mut command = create_command(request(end as u8 + 1, number), "Lê//An");
        command.shard = ShardId(shard);
        let answer = self.ends[end].0.edit(command);
        assert!(matches!(answer, Answer::Accepted(_)), "{answer:?}");
        self.events([(end, Event::Advanced(Moved::Shards([ShardId(shard)].into())))]);
    }

    fn events(&mut self, events: impl IntoIterator<Item = (usize, Event)>) {
        let mut events: VecDeque<(usize, Event)> = events.into_iter().collect();
        while let Some((end, event)) = events.pop_front() {
            let (office, session) = &mut self.ends[end];
            for effect in session.handle(&office.here(), event).unwrap() {
                match effect {
                    Effect::Send(message) => self.say(end, message, &mut events),
                    Effect::Edits { mut batch, own } => {
                        seal(&mut batch, own);
                        self.say(end, Message::Batch(batch), &mut events);
                    }
                    Effect::Merge(batch) => {
                        let peer = self.ends[1 - end].0.site;
                        let shard = batch.shard;
                        let merged = self.ends[end].0.merge(peer, batch, 5);
                        events.push_front((end, Event::Advanced(Moved::Shards([shard].into()))));
                        events.push_front((end, Event::Merged(merged)));
                    }
                    Effect::State { own, relayed } => {
                        let signed = own.into_iter().map(|body| Statement { body, signature: [7; 64] });
                        let message = Message::Statements(signed.chain(relayed).collect());
                        self.say(end, message, &mut events);
                    }
                    Effect::Keep(statements) => {
                        self.ends[end].0.run(Command::Keep(statements));
                    }
                    Effect::Renew { .. } => panic!("nobody came back from a backup"),
                    Effect::Close(why) => self.closed = Some(why),
                }
            }
        }
    }

    fn say(&mut self, end: usize, message: Message, events: &mut VecDeque<(usize, Event)>) {
        let named: Vec<ShardId> = match &message {
            Message::Hello(hello) => hello.shards.iter().map(|hello| hello.shard).collect(),
            Message::Greet(shards) => shards.iter().map(|hello| hello.shard).collect(),
            _ => Vec::new(),
        };
        self.named[end].extend(named);
        let bytes = message.to_bytes();
        self.bytes[end] += bytes.len();
        self.largest = self.largest.max(bytes.len());
        events.push_back((1 - end, Event::Received(Message::from_bytes(&bytes).unwrap())));
    }

    fn states(&self) -> [BTreeMap<ShardId, [[u8; 32]; 2]>; 2] {
        [0, 1].map(|end| {
            let office = &self.ends[end].0;
            let state = |shard| read::<ShardState>(&office.state, &office.keys().shard(shard)).unwrap().unwrap();
            shards(self.count).into_iter().map(|shard| (shard, state(shard))).map(digests).collect()
        })
    }
}

fn digests((shard, state): (ShardId, ShardState)) -> (ShardId, [[u8; 32]; 2]) {
    (shard, [state.edits_digest.0, state.state_digest.0])
}

#[test]
fn ten_thousand_quiet_shards_are_greeted_in_a_few_kilobytes_and_what_differs_wakes() {
    const { assert!(GREETED_AT_ONCE < SHARDS as usize) };
    // First contact: nothing was stated yet, so all is said.
    let mut link = Link::new(office(1, SHARDS), office(2, SHARDS), SHARDS);
    for number in 1..=20 {
        link.edit(0, number * 400, number);
    }
    link.connect();
    assert!(link.largest < 600_000, "each message fits: {}", link.largest);
    assert_eq!(link.named.each_ref().map(BTreeSet::len), [SHARDS as usize; 2]);
    link.tick(10_000);
    assert!(link.bytes.iter().all(|bytes| *bytes > 1_000_000), "about every shard something is said: {:?}", link.bytes);
    let [child, parent] = link.states();
    assert_eq!(child, parent);

    // Nothing moved since.
    let mut link = link.again();
    assert!(link.bytes.iter().all(|bytes| *bytes < 5_000), "{:?}", link.bytes);
    assert_eq!(link.named.each_ref().map(BTreeSet::len), [0; 2]);
    link.tick(20_000);
    assert!(link.bytes.iter().all(|bytes| *bytes < 5_000), "quiet shards state nothing anew: {:?}", link.bytes);

    // One edit wakes its shard, at both ends, and no other.
    link.edit(1, 7, 21);
    assert_eq!(link.named, [BTreeSet::from([ShardId(7)]), BTreeSet::from([ShardId(7)])]);
    link.edit(0, 7, 22);
    link.tick(30_000);
    let [child, parent] = link.states();
    assert_eq!(child, parent);

    // What differs after a cut is found by its bucket.
    let [(child, _), (parent, _)] = link.ends;
    let mut link = Link::new(child, parent, SHARDS);
    link.edit(0, 123, 23);
    link.edit(1, 4_567, 24);
    link.connect();
    assert!(link.bytes.iter().all(|bytes| *bytes < 8_000), "{:?}", link.bytes);
    assert!(link.named.iter().all(|named| named.len() < 4 * SHARDS as usize / BUCKETS), "{:?}", link.named);
    let [child, parent] = link.states();
    assert_eq!(child, parent);
    assert_eq!(link.closed, None);
}

#[test]
fn a_shard_that_was_raised_at_both_ends_is_stated_again_and_of_quiet_ones_one_speaks_for_the_site() {
    let count = GREETED_AT_ONCE as u64 + 1;
    let mut link = Link::new(office(1, count), office(2, count), count);
    link.connect();
    link.tick(10_000);
    let mut link = link.again();
    assert_eq!(link.named.each_ref().map(BTreeSet::len), [0; 2]);
    let said = |link: &Link, shard| {
        let (office, peer) = (&link.ends[0].0, link.ends[1].0.site);
        read::<Statement>(&office.state, &office.keys().statement(shard, peer)).unwrap().unwrap().body
    };
    // Its date, and where its access log stands, are told while nothing else is.
    link.tick(20_000);
    assert_eq!([1, 2].map(|shard| said(&link, ShardId(shard)).at_ms), [20_000, 10_000]);
    assert_eq!(link.named.each_ref().map(BTreeSet::len), [0; 2]);
    // Equal digests of another level were not said of this one.
    for end in [0, 1] {
        link.ends[end].0.raise();
        link.events([(end, Event::Advanced(Moved::Shards(shards(count))))]);
    }
    link.tick(30_000);
    assert!(shards(count).into_iter().all(|shard| said(&link, shard).level == 2));
}

#[test]
fn both_may_wake_a_shard_at_once() {
    let count = GREETED_AT_ONCE as u64 + 1;
    let mut link = Link::new(office(1, count), office(2, count), count);
    link.connect();
    link.tick(10_000);
    let mut link = link.again();
    for end in [0, 1] {
        let mut command = create_command(request(end as u8 + 1, 1), "Lê//An");
        command.shard = ShardId(9);
        link.ends[end].0.edit(command);
    }
    let moved = || Event::Advanced(Moved::Shards([ShardId(9)].into()));
    link.events([(0, moved()), (1, moved())]);
    assert_eq!(link.closed, None);
    let [child, parent] = link.states();
    assert_eq!(child, parent);
    assert!(child[&ShardId(9)] != child[&ShardId(10)], "both edits are at both");
}

#[test]
fn two_that_speak_different_versions_say_so_and_nothing_else() {
    let office = Office::new(1);
    let mut session = Session::new(office.site, false, [SHARD].into());
    session.handle(&office.here(), Event::Opened).unwrap();
    // What a later version says after its number is not known here.
    let later = LINK_VERSION + 1;
    let bytes = [&[1], later.to_bytes().as_slice(), &[0xff, 0xfe, 0xfd]].concat();
    let hello = Message::from_bytes(&bytes).unwrap();
    let effects = session.handle(&office.here(), Event::Received(hello)).unwrap();
    let [Effect::Close(why)] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(why.contains(&format!("version {later}")) && why.contains("upgrade the older"), "{why}");
}

#[test]
fn a_child_is_sent_back_to_ask_where_a_shard_is_and_a_parent_may_speak_of_more() {
    let office = Office::new(1);
    let elsewhere = ShardHello { shard: ShardId(99), epoch: [7; 16], heads: Heads::new(), cursor: None };
    let said = [Message::Hello(Hello::of(vec![elsewhere.clone()])), Message::Greet(vec![elsewhere])];
    for (message, peer_is_child) in said.into_iter().flat_map(|message| [(message.clone(), true), (message, false)]) {
        let mut session = Session::new(office.site, peer_is_child, [SHARD].into());
        session.handle(&office.here(), Event::Opened).unwrap();
        let effects = session.handle(&office.here(), Event::Received(message)).unwrap();
        let closes =
            effects.iter().any(|effect| matches!(effect, Effect::Close(why) if why.contains("locate it again")));
        assert_eq!(closes, peer_is_child, "{effects:?}");
    }
}

#[test]
fn a_parent_that_was_founded_anew_hears_of_the_shards_that_slept() {
    let count = GREETED_AT_ONCE as u64 + 1;
    let mut link = Link::new(office(1, count), office(2, count), count);
    link.connect();
    link.tick(10_000);
    let [(child, _), _] = link.ends;
    let site = child.site;
    let mut link = Link::new(child, office(2, 1), count);
    link.ends[1].1 = Session::new(site, true, shards(1));
    link.connect();
    assert!(link.closed.is_some_and(|why| why.contains("locate it again")));
}

#[test]
fn a_first_word_of_another_form_ends_the_session() {
    let office = Office::new(1);
    let twice = [Hello::of(Vec::new()), Hello::of(Vec::new())];
    let buckets = [Hello { buckets: vec![[0; 16]; BUCKETS - 1], ..Hello::of(Vec::new()) }];
    for hellos in [twice.to_vec(), buckets.to_vec()] {
        let mut session = Session::new(office.site, false, [SHARD].into());
        session.handle(&office.here(), Event::Opened).unwrap();
        let heard = hellos
            .into_iter()
            .flat_map(|hello| session.handle(&office.here(), Event::Received(Message::Hello(hello))).unwrap());
        assert!(heard.into_iter().any(|effect| matches!(effect, Effect::Close(_))));
    }
}
