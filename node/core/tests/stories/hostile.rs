//! A neighbour that sends what no honest site sends: damaged bytes, numbers at their ends, edits that lie about
//! themselves. Nothing may panic, and what the site holds must stay what its edits fold to: another site that takes its
//! whole stream must come to the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::memory::{Office, SHARD, create_command, request, seal_all, value};
use dinhba_core::access_log::AccessHead;
use dinhba_core::command::{Command, Cursor, Heads, Item, Renew, Seal, Statement, StatementBody, Tip};
use dinhba_core::digest::Digest;
use dinhba_core::edit::{Author, Change, Dot, EDIT_BYTES_MAX, Edit, EditKind};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, Hash, Incarnation, KeyMark, RecordId, SiteId};
use dinhba_core::record::Record;
use dinhba_core::registry::{
    Arrival, ITEMS_MAX, LIVES_MAX, LIVES_OF_KEY_MAX, Parked, SECRETS_MAX, StoredEdit, authors, read, read_range,
    running_hash,
};
use dinhba_core::schema::{RecordKind, field};
use dinhba_core::sync::{
    Ack, Again, Ask, Batch, Effect, Event, HEADS_MAX, Hashes, Hello, Message, REFUSED_AGAIN_MS, Session, ShardHello,
    Skip,
};
use proptest::prelude::*;

const PEER: SiteId = SiteId(2);
const SECRET: [u8; 32] = [7; 32];

/// An office with edits of its own and of a neighbour, one author of which forked.
fn office() -> (Office, Office) {
    let (mut here, mut peer) = (Office::new(1), Office::new(PEER.0));
    let record = here.create(request(1, 1), "Lê//An");
    let backup = peer.clone();
    for counter in 1..4 {
        peer.create(request(2, counter), "Lê//Bình");
    }
    here.merge(PEER, peer.stream(), 1);
    let mut second = backup;
    second.skip_chance(100);
    second.create(request(3, 1), "Lê//Chi");
    here.merge(PEER, second.stream(), 1);
    here.set(request(1, 2), record, field::NOTE, "a note");
    (here, peer)
}

/// What must hold whatever came.
fn audit(office: &Office) {
    let (shard, keys) = (office.shard(), office.keys());
    let (mut running, mut edits) = (Hash::default(), Digest::default());
    for position in 1..=shard.arrivals {
        let arrival: Arrival = read(&office.state, &keys.arrival(SHARD, position)).unwrap().unwrap();
        let stored: StoredEdit = read(&office.state, &keys.edit(SHARD, &arrival.dot)).unwrap().unwrap();
        assert_eq!(stored.position, position);
        running = running_hash(&running, &stored.hash);
        assert_eq!(running, arrival.running);
        edits.add(Digest::of(&office.context.digest_key.secret, &stored.hash.0));
    }
    assert_eq!((running, edits), (shard.running, shard.edits_digest));
    let mut records = Digest::default();
    let folded: Vec<(Vec<u8>, Record)> = read_range(&office.state, keys.records(SHARD)).unwrap();
    for (key, record) in &folded {
        let member = [&key[key.len() - 16..], &record.to_bytes()].concat();
        records.add(Digest::of(&office.context.digest_key.secret, &member));
    }
    assert_eq!(records, shard.state_digest);
    assert_eq!(folded.len() as u64, shard.persons + shard.households);

    let mut copy = Office::new(9);
    let (mut start, mut scanned) = (Cursor::start(shard.epoch), 0);
    while scanned < shard.arrivals {
        let (batch, position) = office.batch(start, scanned, &Skip::default(), usize::MAX);
        (start, scanned) = (batch.end, position);
        assert!(copy.merge(office.site, batch, 1).taken);
    }
    assert_eq!(copy.here().heads(SHARD).unwrap(), office.here().heads(SHARD).unwrap());
    assert_eq!(copy.shard().state_digest, shard.state_digest);
    assert_eq!((copy.shard().conflicts, copy.shard().poisoned), (shard.conflicts, shard.poisoned));
}

/// Lets an office hear messages, and does what its session says.
fn hear(office: &mut Office, messages: Vec<Message>) {
    let mut session = Session::new(PEER, true, BTreeSet::from([SHARD]));
    let mut events: Vec<Event> = messages.into_iter().map(Event::Received).rev().collect();
    events.push(Event::Opened);
    while let Some(event) = events.pop() {
        for effect in session.handle(&office.here(), event).unwrap() {
            match effect {
                Effect::Merge(batch) => {
                    let merged = office.merge(PEER, batch, 4);
                    events.push(Event::Merged(merged));
                }
                Effect::Close(_) | Effect::Renew { .. } => return,
                _ => {}
            }
        }
    }
}

#[test]
fn a_child_takes_no_life_from_the_site_above_by_naming_an_edit_that_there_is_not() {
    let mut office = Office::new(2);
    office.create(request(1, 1), "Lê//An");
    let own = office.shard().own.id();
    let heads = Heads::from([(own, (u64::MAX, Hash([7; 32])))]);
    let hello = || ShardHello { shard: SHARD, epoch: [1; 16], heads: heads.clone(), cursor: None };
    let renews = |peer_is_child| {
        let mut session = Session::new(PEER, peer_is_child, BTreeSet::from([SHARD]));
        session.handle(&office.here(), Event::Opened).unwrap();
        let heard = Event::Received(Message::Hello(Hello::of(vec![hello()])));
        session.handle(&office.here(), heard).unwrap().iter().any(|effect| matches!(effect, Effect::Renew { .. }))
    };
    assert!(renews(false), "the site above is believed");
    assert!(!renews(true), "a child has to show the edit");
}

/// Numbers that hurt.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..6_u64, Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 63), any::<u64>()]
}

/// What an edit may lie about.
#[derive(Debug, Clone)]
enum Lie {
    Number(u64),
    Previous(u8),
    Part(u32, u32),
    Level(u16),
    Kind(EditKind),
    RecordKind,
    Record(u8),
    Received(i64),
    Overwrites(u64),
    Truth,
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        number().prop_map(Lie::Number),
        any::<u8>().prop_map(Lie::Previous),
        (0..70_u32, 0..70_u32).prop_map(|(part, of)| Lie::Part(part, of)),
        any::<u16>().prop_map(Lie::Level),
        prop_oneof![Just(EditKind::Hold), Just(EditKind::Move)].prop_map(Lie::Kind),
        Just(Lie::RecordKind),
        any::<u8>().prop_map(Lie::Record),
        any::<i64>().prop_map(Lie::Received),
        number().prop_map(Lie::Overwrites),
        Just(Lie::Truth),
    ]
}

fn told(item: &mut Item, lie: &Lie, other: &[Dot]) {
    let Ok(mut edit) = Edit::from_bytes(&item.bytes) else { return };
    match lie {
        Lie::Number(number) => edit.header.number = *number,
        Lie::Previous(byte) => edit.header.previous.0[0] ^= byte,
        Lie::Part(part, of) => (edit.header.part, edit.header.of) = (*part, *of),
        Lie::Level(level) => edit.header.level = *level,
        Lie::Kind(kind) => edit.header.kind = *kind,
        Lie::RecordKind => edit.header.record_kind = RecordKind::Household,
        Lie::Record(byte) => edit.header.record.0[0] ^= byte,
        Lie::Received(ms) => edit.header.origin.received_ms = *ms,
        Lie::Overwrites(number) => {
            let own = Dot { actor: item.dot.actor, counter: *number };
            let mut dots: Vec<Dot> = other.iter().cloned().chain([own]).collect();
            dots.sort();
            dots.dedup();
            edit.changes.iter_mut().for_each(|change| change.overwrites.clone_from(&dots));
        }
        Lie::Truth => {}
    }
    (item.dot, item.bytes) = (edit.dot(), edit.to_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_messages_leave_a_consistent_site(
        damage in prop::collection::vec((0..6_usize, any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let (mut here, peer) = office();
        let (state, heads) = (peer.shard(), peer.here().heads(SHARD).unwrap());
        let author = state.own.id();
        let cursor = Cursor { epoch: state.epoch, position: state.arrivals, running: state.running };
        let hello = ShardHello { shard: SHARD, epoch: state.epoch, heads: heads.clone(), cursor: Some(cursor) };
        let mut messages: Vec<Vec<u8>> = [
            Message::Hello(Hello::of(vec![hello])),
            Message::Batch(Box::new(peer.stream())),
            Message::Ack(Ack { shard: SHARD, cursor }),
            Message::Again(Again { shard: SHARD, heads }),
            Message::Ask(Ask { shard: SHARD, author, from: 1, to: 2 }),
            Message::Hashes(Hashes { shard: SHARD, author, from: 1, hashes: vec![Hash::default(); 3] }),
        ]
        .iter()
        .map(Wire::to_bytes)
        .collect();
        for (which, place, bits) in damage {
            let bytes = &mut messages[which];
            let place = place.index(bytes.len());
            bytes[place] ^= bits;
        }
        hear(&mut here, messages.iter().filter_map(|bytes| Message::from_bytes(bytes).ok()).collect());
        audit(&here);
    }

    #[test]
    fn numbers_at_their_ends_leave_a_consistent_site(
        heads in prop::collection::vec((0..4_usize, number(), any::<bool>()), 0..5),
        (from, to, position, counter) in (number(), number(), number(), number()),
        begins: bool,
    ) {
        let (mut here, peer) = office();
        let held = here.here().heads(SHARD).unwrap();
        let known: Vec<AuthorId> = held.keys().copied().chain([AuthorId([0xff; 16])]).collect();
        let heads: Heads = heads
            .into_iter()
            .map(|(which, number, honest)| {
                let author = known[which % known.len()];
                let hash = held.get(&author).filter(|_| honest).map_or(Hash([1; 32]), |(_, hash)| *hash);
                (author, (number, hash))
            })
            .collect();
        let epoch = here.shard().epoch;
        let cursor = Cursor { epoch, position, running: here.shard().running };
        let mut batch = peer.stream();
        batch.end = cursor;
        batch.start = if begins { Cursor::start([5; 16]) } else { cursor };
        batch.items.iter_mut().take(1).for_each(|item| item.dot.counter = counter);
        let author = known[0];
        let hello = ShardHello { shard: SHARD, epoch, heads: heads.clone(), cursor: Some(cursor) };
        let messages = vec![
            Message::Ask(Ask { shard: SHARD, author, from, to }),
            Message::Hello(Hello::of(vec![hello])),
            Message::Ask(Ask { shard: SHARD, author, from, to }),
            Message::Hashes(Hashes { shard: SHARD, author, from, hashes: vec![Hash::default()] }),
            Message::Batch(Box::new(batch.clone())),
            Message::Ack(Ack { shard: SHARD, cursor }),
            Message::Again(Again { shard: SHARD, heads }),
            Message::Batch(Box::new(batch)),
        ];
        hear(&mut here, messages);
        audit(&here);
    }

    #[test]
    fn edits_that_lie_about_themselves_leave_a_consistent_site(
        lies in prop::collection::vec((0..4_usize, lie()), 1..6),
        chained: bool,
    ) {
        let (mut here, mut peer) = office();
        peer.create(request(2, 9), "Lê//Dung");
        let mut batch = peer.stream();
        let others: Vec<Dot> = here.stream().items.into_iter().map(|item| item.dot).collect();
        for (which, lie) in &lies {
            let count = batch.items.len();
            told(&mut batch.items[which % count], lie, &others);
        }
        let secret_of = |batch: &Batch, edit: &Edit| {
            let of = (edit.header.author.id(), edit.header.origin.request.session);
            batch.secrets.iter().find(|(author, session, _)| (*author, *session) == of).map(|(.., secret)| *secret)
        };
        if chained {
            // A liar who takes the trouble to chain its lies.
            let mut previous = Hash::default();
            for index in 0..batch.items.len() {
                let Ok(mut edit) = Edit::from_bytes(&batch.items[index].bytes) else { continue };
                edit.header.previous = previous;
                let secret = secret_of(&batch, &edit).unwrap_or(SECRET);
                previous = edit.hash(&secret);
                batch.items[index] = Item { dot: edit.dot(), bytes: edit.to_bytes() };
            }
        }
        // It gives its word for all of them.
        batch.seals.clear();
        seal_all(&mut batch);
        hear(&mut here, vec![Message::Batch(Box::new(batch.clone())), Message::Batch(Box::new(batch))]);
        here.raise();
        audit_raised(&here);
    }
}

/// As [`audit`], for an office whose level is raised: so must the copy's be, which starts at the lowest.
fn audit_raised(office: &Office) {
    let mut copy = Office::new(9);
    copy.raise();
    copy.merge(office.site, office.stream(), 1);
    let (here, there) = (office.shard(), copy.shard());
    if office.stream().items.len() as u64 == here.arrivals {
        assert_eq!(copy.here().heads(SHARD).unwrap(), office.here().heads(SHARD).unwrap());
        assert_eq!(here.state_digest, there.state_digest);
        assert_eq!((here.persons, here.households), (there.persons, there.households));
        assert_eq!((here.conflicts, here.poisoned), (there.conflicts, there.poisoned));
    }
}

fn parked(office: &Office) -> BTreeMap<AuthorId, Parked> {
    let states = authors(&office.state, office.keys(), SHARD).unwrap();
    states.into_iter().filter_map(|(id, state)| Some((id, state.parked?))).collect()
}

#[test]
fn a_batch_with_a_command_that_lacks_a_part_is_taken_in_no_part() {
    let (mut here, mut liar, mut good) = (Office::new(1), Office::new(2), Office::new(3));
    let mut family = create_command(request(2, 1), "Lê//An");
    let mut second = family.parts[0].clone();
    second.record = RecordId::derive(request(2, 1), 1);
    family.parts.push(second);
    liar.edit(family);
    good.create(request(3, 1), "Lê//Bình");
    let whole = liar.stream();
    let mut batch = whole.clone();
    batch.items.pop();
    batch.items.extend(good.stream().items);
    batch.secrets.extend(good.stream().secrets);
    seal_all(&mut batch);
    let merged = here.merge(PEER, batch, 1);
    assert_eq!((merged.taken, merged.refused), (false, Some(liar.shard().own.id())));
    assert_eq!((here.shard().arrivals, parked(&here)), (0, BTreeMap::new()), "or it would lie there without its seal");
    let merged = here.merge(PEER, whole, 1);
    assert_eq!((merged.folded, here.shard().persons), (2, 2), "whole, it is taken");
}

#[test]
fn a_missing_edit_parks_its_author_once_asks_once_by_heads_and_is_healed_by_the_edit() {
    let (mut here, mut peer) = (Office::new(1), Office::new(2));
    let record = peer.create(request(2, 1), "Lê//An");
    peer.set(request(2, 2), record, field::NOTE, "x");
    let whole = peer.stream();
    let mut batch = whole.clone();
    batch.items.remove(0);
    let first = here.merge(PEER, batch.clone(), 1);
    assert!(first.taken && first.rewound && first.cursor.is_none());
    let again = here.merge(PEER, batch, 1);
    assert!(again.taken && !again.rewound, "it does not ask for ever");
    let mut session = Session::new(PEER, true, BTreeSet::from([SHARD]));
    let hello = session.handle(&here.here(), Event::Opened).unwrap().remove(0);
    let Effect::Send(Message::Hello(hello)) = hello else { panic!("{hello:?}") };
    assert_eq!(hello.shards[0].cursor, None, "at the next contact it is tried again");
    assert_eq!(here.merge(PEER, whole, 1).folded, 2);
    assert_eq!(parked(&here).len(), 0);
    audit(&here);
}

#[test]
fn a_secret_that_a_liar_sent_first_does_not_spoil_the_authors_own() {
    let (mut here, mut peer) = (Office::new(1), Office::new(2));
    peer.create(request(2, 1), "Lê//An");
    let honest = peer.stream();
    let mut planted = honest.clone();
    planted.items.clear();
    planted.secrets[0].2 = SECRET;
    here.merge(SiteId(3), planted, 1);
    assert_eq!(here.merge(PEER, honest.clone(), 1).folded, 1);
    // And whoever forges an edit for every secret is stopped at a bound, with nothing lost.
    for forged in 0..2 * SECRETS_MAX as u8 {
        let mut batch = honest.clone();
        batch.secrets[0].2 = [forged; 32];
        seal_all(&mut batch);
        here.merge(SiteId(3), batch, 1);
    }
    assert_eq!(here.shard().arrivals, SECRETS_MAX as u64);
    audit(&here);
}

#[test]
fn batches_and_edits_above_their_bounds_are_refused() {
    let (mut here, peer) = office();
    let mut batch = peer.stream();
    batch.items = vec![batch.items[0].clone(); ITEMS_MAX + 1];
    assert!(!here.merge(PEER, batch, 1).taken);

    let mut liar = Office::new(3);
    liar.create(request(3, 1), "Lê//An");
    let mut batch = liar.stream();
    let mut edit = Edit::from_bytes(&batch.items[0].bytes).unwrap();
    edit.changes[0].value = vec![b'x'; EDIT_BYTES_MAX];
    batch.items[0].bytes = edit.to_bytes();
    let before = here.shard().arrivals;
    seal_all(&mut batch);
    assert_eq!(here.merge(SiteId(3), batch, 1).refused, Some(liar.shard().own.id()));
    assert_eq!(here.shard().arrivals, before);
    audit(&here);
}

#[test]
fn what_its_author_does_not_give_its_word_for_is_taken_in_no_part_and_leaves_nothing() {
    let (mut here, _) = office();
    let mut author = Office::new(3);
    for counter in 1..5 {
        author.create(request(3, counter), "Lê//An");
    }
    let honest = author.stream();
    assert_eq!(honest.seals.len(), 1, "one word for four edits");
    let before = here.state.0.clone();
    let mut refused = |what: &str, change: &dyn Fn(&mut Batch)| {
        let mut batch = honest.clone();
        change(&mut batch);
        let merged = here.merge(SiteId(4), batch, 1);
        assert!(!merged.taken && merged.refused == Some(author.shard().own.id()), "{what}: {merged:?}");
        assert_eq!(here.state.0, before, "{what}");
    };
    refused("no word", &|batch| batch.seals.clear());
    refused("for another edit", &|batch| batch.seals[0].tip.hash = Hash([1; 32]));
    refused("for all but the last", &|batch| {
        seal_all(batch);
        batch.seals.retain(|seal| seal.tip.number < 4);
    });
    refused("an edit that is changed", &|batch| {
        let mut edit = Edit::from_bytes(&batch.items[3].bytes).unwrap();
        edit.header.record_kind = RecordKind::Household;
        batch.items[3].bytes = edit.to_bytes();
    });
    refused("an edit that changes nothing", &|batch| {
        let mut edit = Edit::from_bytes(&batch.items[3].bytes).unwrap();
        edit.changes.clear();
        batch.items[3].bytes = edit.to_bytes();
        batch.seals.clear();
        seal_all(batch);
    });
    refused("an edit that cannot be read", &|batch| batch.items[1].bytes.truncate(9));
    refused("a branch beside the chain that the word is for", &|batch| {
        let mut edit = Edit::from_bytes(&batch.items[2].bytes).unwrap();
        edit.changes[0].value = value(field::NAME, "Lê//Chi");
        batch.items.insert(2, Item { dot: edit.dot(), bytes: edit.to_bytes() });
    });
    // Somebody else's word, and somebody else's edit that calls it the one before.
    let thief = Author { site: SiteId(4), ..author.shard().own };
    refused("with another's word for it", &|batch| batch.seals[0].tip.author = thief);
    refused("with another's edit after it", &|batch| {
        let tip = batch.seals[0].tip;
        let mut edit = Edit::from_bytes(&batch.items[3].bytes).unwrap();
        (edit.header.author, edit.header.number, edit.header.previous) = (thief, tip.number + 1, tip.hash);
        let session = edit.header.origin.request.session;
        batch.items.push(Item { dot: edit.dot(), bytes: edit.to_bytes() });
        batch.secrets.push((thief.id(), session, SECRET));
        batch.seals = vec![Seal {
            tip: Tip { author: thief, number: tip.number + 1, hash: edit.hash(&SECRET) },
            signature: [5; 64],
        }];
    });
    assert_eq!(here.merge(SiteId(4), honest, 1).folded, 4);
    audit(&here);
}

#[test]
fn a_session_in_which_a_shard_was_refused_ends_after_a_while_even_if_that_was_its_first_word() {
    let (mut here, peer) = office();
    let mut session = Session::new(PEER, true, BTreeSet::from([SHARD]));
    let mut batch = peer.stream();
    batch.seals.clear();
    let merged = here.merge(PEER, batch, 1);
    assert!(session.handle(&here.here(), Event::Merged(merged)).unwrap().is_empty(), "nothing more is said of it");
    let mut ends = |ms| {
        let effects = session.handle(&here.here(), Event::Tick(ms)).unwrap();
        effects.iter().any(|effect| matches!(effect, Effect::Close(_)))
    };
    let again = REFUSED_AGAIN_MS as i64;
    assert!(!ends(1_000) && !ends(999 + again) && ends(1_000 + again));
}

#[test]
fn a_site_has_so_many_lives_and_no_more() {
    let mut here = Office::new(1);
    let life = |number: u64| {
        let mut author = Office::new(2);
        author.skip_chance(number);
        let author_of_life = author.shard().own;
        let renew = Renew {
            shard: SHARD,
            author: author_of_life.id(),
            incarnation: Incarnation(author.random()),
            epoch: author.random(),
        };
        author.run(Command::Renew(renew));
        author.create(request(2, number + 1), "Lê//An");
        author.stream()
    };
    for number in 0..LIVES_MAX as u64 {
        let key = |more: u64| KeyMark(1 + (number + more) / LIVES_OF_KEY_MAX as u64);
        assert_eq!(here.merge_under(key(0), PEER, life(number), 1).folded, 1, "{number}");
        // Whoever has the key has so many; a site that needs another one is given another key.
        if key(1) != key(0) {
            let before = here.state.0.clone();
            assert!(here.merge_under(key(0), PEER, life(number + 1), 1).refused.is_some());
            assert_eq!(here.state.0, before);
        }
    }
    let before = here.state.0.clone();
    let (next, fresh) = (life(LIVES_MAX as u64), KeyMark(u64::MAX));
    assert!(here.merge_under(fresh, PEER, next, 1).refused.is_some());
    assert_eq!(here.state.0, before);
    // Another site's lives are its own.
    let mut other = Office::new(3);
    other.create(request(3, 1), "Lê//Chi");
    assert_eq!(here.merge(SiteId(3), other.stream(), 1).folded, 1);
}

#[test]
fn the_words_of_authors_go_on_with_their_edits_whoever_passes_them_on() {
    let (mut author, mut between, mut third) = (Office::new(1), Office::new(2), Office::new(3));
    let (mut start, mut scanned) = (Cursor::start(author.shard().epoch), 0);
    for counter in 1..=12 {
        author.create(request(1, counter), "Lê//An");
        between.create(request(2, counter), "Lê//Bình");
        if counter % 4 == 0 {
            let (batch, position) = author.batch(start, scanned, &Skip::default(), usize::MAX);
            (start, scanned) = (batch.end, position);
            assert_eq!(between.merge(author.site, batch, 1).folded, 4);
        }
    }
    // The smallest batches that there may be: one command of its own, but what came together stays together.
    let (mut start, mut scanned, mut sizes) = (Cursor::start(between.shard().epoch), 0, Vec::new());
    while scanned < between.shard().arrivals {
        let (batch, position) = between.batch(start, scanned, &Skip::default(), 1);
        (start, scanned) = (batch.end, position);
        sizes.push(batch.items.len());
        let items = batch.items.len() as u32;
        assert_eq!(third.merge(between.site, batch, 1).folded, items);
    }
    assert_eq!(sizes, [1, 1, 1, 1, 4].repeat(3));
    // From a backup too.
    let mut archive = Vec::new();
    third.back_up(&mut archive);
    let restored = third.founded_from(&archive, None).unwrap();
    let mut fourth = Office::new(4);
    assert_eq!(fourth.merge(third.site, restored.stream(), 1).folded, 24);
    audit(&restored);
    audit(&fourth);
}

#[test]
fn the_kind_of_a_record_does_not_depend_on_which_lie_came_first() {
    let mut offices = [(); 2].map(|()| Office::new(1));
    let (mut one, mut other) = (Office::new(2), Office::new(3));
    let record = one.create(request(2, 1), "Lê//An");
    other.create(request(3, 1), "Lê//An");
    let mut lying = other.stream();
    let mut edit = Edit::from_bytes(&lying.items[0].bytes).unwrap();
    (edit.header.record, edit.header.record_kind) = (record, RecordKind::Household);
    edit.changes = vec![Change {
        field: field::NOTE,
        element: Vec::new(),
        value: value(field::NOTE, "a house"),
        overwrites: Vec::new(),
    }];
    lying.items[0].bytes = edit.to_bytes();
    let [first, second] = &mut offices;
    first.merge(PEER, one.stream(), 1);
    first.merge(SiteId(3), lying.clone(), 1);
    second.merge(SiteId(3), lying, 1);
    second.merge(PEER, one.stream(), 1);
    assert_eq!(first.shard().state_digest, second.shard().state_digest);
    assert_eq!((first.shard().persons, second.shard().persons), (1, 1));
}

#[test]
fn a_session_ends_at_a_second_greeting_at_too_many_heads_and_at_a_foreign_shard() {
    let (here, peer) = office();
    let opened = || {
        let mut session = Session::new(PEER, true, BTreeSet::from([SHARD]));
        session.handle(&here.here(), Event::Opened).unwrap();
        session
    };
    let closes = |effects: Vec<Effect>| matches!(effects.last(), Some(Effect::Close(_)));
    let hello = |heads: Heads| {
        let there = ShardHello { shard: SHARD, epoch: [1; 16], heads, cursor: None };
        Event::Received(Message::Hello(Hello::of(vec![there])))
    };
    let mut session = opened();
    assert!(!closes(session.handle(&here.here(), hello(Heads::new())).unwrap()));
    assert!(closes(session.handle(&here.here(), hello(Heads::new())).unwrap()));

    let many: Heads = (0..=HEADS_MAX as u128).map(|id| (AuthorId(id.to_be_bytes()), (1, Hash::default()))).collect();
    assert!(closes(opened().handle(&here.here(), hello(many)).unwrap()));

    let foreign = Batch { shard: dinhba_core::ids::ShardId(5), ..peer.stream() };
    assert!(closes(opened().handle(&here.here(), Event::Received(Message::Batch(Box::new(foreign)))).unwrap()));
}

#[test]
fn a_session_ends_at_a_batch_with_more_seals_or_secrets_than_edits() {
    let (here, peer) = office();
    let hears = |batch: Batch| {
        let mut session = Session::new(PEER, true, BTreeSet::from([SHARD]));
        session.handle(&here.here(), Event::Opened).unwrap();
        session.handle(&here.here(), Event::Received(Message::Batch(Box::new(batch)))).unwrap()
    };
    let honest = peer.stream();
    let (count, seal) = (honest.items.len(), honest.seals[0]);
    let session = |number: usize| dinhba_core::ids::SessionId((number as u128).to_be_bytes());
    let secrets = |count: usize| (0..count).map(|number| (AuthorId([1; 16]), session(number), [2; 32])).collect();
    for (batch, is_taken) in [
        (Batch { seals: vec![seal; count], ..honest.clone() }, true),
        (Batch { seals: vec![seal; count + 1], ..honest.clone() }, false),
        (Batch { secrets: secrets(count + 1), ..honest.clone() }, false),
    ] {
        let effects = hears(batch);
        assert_eq!(matches!(effects[0], Effect::Merge(_)), is_taken, "{effects:?}");
        assert_eq!(matches!(effects[0], Effect::Close(_)), !is_taken, "{effects:?}");
    }
}

#[test]
fn a_child_states_for_itself_only_and_takes_nothing_back() {
    let (mut here, peer) = office();
    let mut session = Session::new(PEER, true, BTreeSet::from([SHARD]));
    let statement = |site: SiteId, heads: Heads, at_ms| Statement {
        body: StatementBody {
            site,
            shard: SHARD,
            incarnation: Incarnation::default(),
            heads,
            digest_key: 1,
            level: 1,
            edits: peer.shard().edits_digest,
            state: peer.shard().state_digest,
            access: AccessHead::default(),
            at_ms,
        },
        signature: [0; 64],
    };
    let mut hears = |here: &mut Office, statement: Statement| {
        let event = Event::Received(Message::Statements(vec![statement]));
        match session.handle(&here.here(), event).unwrap().pop() {
            Some(Effect::Keep(statements)) => {
                here.run(Command::Keep(statements));
                true
            }
            _ => false,
        }
    };
    let author = AuthorId([1; 16]);
    let heads = |entries: &[(AuthorId, u64)]| -> Heads {
        entries.iter().map(|(author, number)| (*author, (*number, Hash::default()))).collect()
    };
    assert!(!hears(&mut here, statement(SiteId(7), heads(&[(author, 1)]), 1)), "another site's word");
    assert!(hears(&mut here, statement(PEER, heads(&[(author, 8)]), i64::MAX)), "a clock far ahead");
    assert!(!hears(&mut here, statement(PEER, heads(&[(author, 7)]), 2)), "less than before");
    let forked = heads(&[(author, 5), (AuthorId([2; 16]), 8), (AuthorId([3; 16]), 6)]);
    assert!(hears(&mut here, statement(PEER, forked, 3)), "a fork became known: the branch ends earlier");
}

#[test]
fn a_word_of_an_earlier_life_that_comes_late_does_not_silence_the_later_one() {
    let mut here = Office::new(1);
    let life = |number: u8| Author { site: PEER, shard: SHARD, incarnation: Incarnation([number; 16]) };
    let statement = |of: Author, heads: &[(Author, u64)]| Statement {
        body: StatementBody {
            site: PEER,
            shard: SHARD,
            incarnation: of.incarnation,
            heads: heads.iter().map(|(author, number)| (author.id(), (*number, Hash::default()))).collect(),
            digest_key: 1,
            level: 1,
            edits: Digest::default(),
            state: Digest::default(),
            access: AccessHead::default(),
            at_ms: 1,
        },
        signature: [0; 64],
    };
    let kept = |here: &mut Office, statement: &Statement| {
        here.run(Command::Keep(vec![statement.clone()]));
        read::<Statement>(&here.state, &here.keys().statement(SHARD, PEER)).unwrap().unwrap() == *statement
    };
    let first = statement(life(1), &[(life(1), 9)]);
    let second = statement(life(2), &[(life(1), 4)]);
    let later = statement(life(2), &[(life(1), 4), (life(2), 1)]);
    assert!(kept(&mut here, &first));
    assert!(kept(&mut here, &second), "restored, it holds less, and says so");
    assert!(!kept(&mut here, &first), "a word of before the restore");
    assert!(kept(&mut here, &later) && !kept(&mut here, &second) && !kept(&mut here, &first));
}
