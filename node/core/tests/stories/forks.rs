//! What a fork costs. A neighbour that is stolen may forge an edit at any number of any chain, so an edit that arrives must
//! cost what it is, and not what lies there already.

use std::collections::BTreeSet;

use crate::memory::{Office, SHARD, request, seal_all, value};
use dinhba_core::command::{Cursor, Item, Merged};
use dinhba_core::edit::{Dot, Edit};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Hash, RecordId, RequestId, SiteId};
use dinhba_core::registry::{BRANCHES_TOLD_MAX, LIVES_MAX, alias_id, authors};
use dinhba_core::schema::field;
use dinhba_core::sync::{Batch, Effect, Event, HEADS_MAX, Hello, Message, Session};

const SECRET: [u8; 32] = [7; 32];
const RECORDS: u64 = 500;
const EDITS: u64 = 2_000;
const BRANCHES: u64 = 100;
const TEETH: u64 = 40;

/// What an edit, its chain, its shard and two records of four edits with conflict, index and counters take.
const WRITES_MAX: usize = 20;
/// The same to read, and the branches of the author.
const READS_MAX: u64 = 60;

/// A commune with a long chain over many records, and its district, which holds it.
fn long_chain() -> (Office, Office, Vec<Edit>) {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let records: Vec<RecordId> = (1..=RECORDS).map(|at| commune.create(request(1, at), "Lê//An")).collect();
    for counter in RECORDS + 1..=EDITS {
        let record = records[(counter % RECORDS) as usize];
        commune.set(request(1, counter), record, field::NOTE, &format!("note {counter}"));
    }
    let whole = commune.stream();
    assert_eq!(district.merge(commune.site, whole.clone(), 1).folded, EDITS as u32);
    let edits = whole.items.iter().map(|item| Edit::from_bytes(&item.bytes).unwrap()).collect();
    (commune, district, edits)
}

/// An edit beside that with this number, of another record.
fn forged(edits: &[Edit], number: u64, request: RequestId) -> Edit {
    let mut edit = edits[number as usize - 1].clone();
    edit.header.record = edits[(number as usize + 200) % edits.len()].header.record;
    edit.header.origin.request = request;
    edit.changes.truncate(1);
    (edit.changes[0].field, edit.changes[0].value) = (field::NOTE, value(field::NOTE, "forged"));
    edit.changes[0].overwrites = Vec::new();
    edit
}

fn send(office: &mut Office, edits: &[Edit]) -> Merged {
    let start = Cursor::start([9; 16]);
    let items = edits.iter().map(|edit| Item { dot: edit.dot(), bytes: edit.to_bytes() }).collect();
    let sessions: BTreeSet<_> =
        edits.iter().map(|edit| (edit.dot().actor, edit.header.origin.request.session)).collect();
    let secrets = sessions.into_iter().map(|(author, session)| (author, session, SECRET)).collect();
    let mut batch = Batch { shard: SHARD, start, end: start, items, secrets, seals: Vec::new() };
    seal_all(&mut batch);
    office.merge(SiteId(3), batch, 2)
}

fn ends(office: &Office) -> usize {
    authors(&office.state, office.keys(), SHARD).unwrap().len()
}

#[test]
fn a_forged_fork_costs_two_records_however_long_the_chain_is_and_wherever_it_comes() {
    let (commune, mut district, edits) = long_chain();
    for (count, number) in std::iter::once(5).chain((1..=50).map(|at| 39 * at)).enumerate() {
        let edit = forged(&edits, number, request(99, count as u64 + 1));
        assert_eq!(send(&mut district, std::slice::from_ref(&edit)).folded, 1);
        let (written, read) = (district.written, district.read);
        assert!(written <= WRITES_MAX, "{written} writes for fork {count} at {number}");
        assert!(read <= READS_MAX + ends(&district) as u64 * 3, "{read} reads for fork {count} at {number}");
        let names = |record| district.record(record).dots(&(field::NOTE, vec![]));
        let alias = Dot { actor: alias_id(edit.dot().actor, &edit.hash(&SECRET)), counter: number };
        assert!(names(edit.header.record).contains(&alias));
    }
    let heads = district.here().heads(SHARD).unwrap();
    assert_eq!((heads.len(), heads[&commune.shard().own.id()].0), (52, EDITS));
}

#[test]
fn an_author_with_many_branches_goes_on_above_them_for_no_more_than_before() {
    let (mut commune, mut district, edits) = long_chain();
    let fresh = |commune: &mut Office, district: &mut Office, counter| {
        let before = commune.shard().arrivals;
        commune.set(request(1, counter), edits[7].header.record, field::NOTE, "a note");
        let mut batch = commune.stream();
        batch.items = batch.items.split_off(before as usize);
        assert_eq!(district.merge(commune.site, batch, 3).folded, 1);
        (district.written, district.read)
    };
    let before = fresh(&mut commune, &mut district, 5_001);
    let forks: Vec<Edit> = (1..=BRANCHES).map(|count| forged(&edits, 5, request(99, count))).collect();
    assert_eq!(send(&mut district, &forks).folded, BRANCHES as u32);
    assert_eq!(ends(&district), BRANCHES as usize + 1);
    // Whether a branch has the request of each too, and no other life of its site, takes two looks more.
    assert_eq!(fresh(&mut commune, &mut district, 5_002), (before.0, before.1 + 2));
}

#[test]
fn branches_that_grow_from_branches_are_the_same_from_either_end() {
    // A comb: each tooth begins one above the last one's beginning, on the way of its second edit.
    let (_, mut district, edits) = long_chain();
    let mut other = district.clone();
    let mut comb: Vec<Edit> = Vec::new();
    let mut previous: Hash = edits[4].header.previous;
    for tooth in 0..TEETH {
        for side in 0..2 {
            let mut edit = forged(&edits, 5, request(99, 2 * tooth + side + 1));
            edit.header.record = edits[0].header.record;
            (edit.header.number, edit.header.previous) = (5 + tooth, previous);
            // What it overwrites is on its way, where it has one.
            edit.changes[0].overwrites =
                (5..5 + tooth).map(|number| Dot { actor: edit.dot().actor, counter: number }).collect();
            comb.push(edit);
        }
        previous = comb[comb.len() - 1].hash(&SECRET);
    }
    for edit in &comb {
        assert_eq!(send(&mut district, std::slice::from_ref(edit)).folded, 1);
    }
    // The spine first, then all that grows beside it.
    let (beside, spine): (Vec<_>, Vec<_>) = comb.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    for (_, edit) in spine.iter().chain(beside.iter().rev()) {
        assert_eq!(send(&mut other, std::slice::from_ref(edit)).folded, 1);
    }
    assert_eq!(district.shard().edits_digest, other.shard().edits_digest);
    assert_eq!(district.shard().state_digest, other.shard().state_digest);
    assert_eq!(district.here().heads(SHARD).unwrap(), other.here().heads(SHARD).unwrap());
    let values = district.record(edits[0].header.record).dots(&(field::NOTE, vec![]));
    let last: Vec<u64> = values.iter().map(|dot| dot.counter).filter(|number| *number < 5 + TEETH).collect();
    assert_eq!(
        last.len() as u64,
        TEETH + 1,
        "each tooth stands beside the others; of the spine, which replaced itself, the end"
    );
    assert_eq!(last.iter().filter(|number| **number == 4 + TEETH).count(), 2, "the end, and what grew beside it");
}

#[test]
fn a_site_whose_neighbour_knows_a_shorter_branch_of_its_own_chain_begins_a_new_life() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let record = commune.create(request(1, 1), "Lê//An");
    let mut copy = commune.clone();
    copy.skip_chance(100);
    copy.set(request(7, 1), record, field::NOTE, "of the copy");
    for counter in 2..5 {
        commune.set(request(1, counter), record, field::SEX, ["male", "female"][counter as usize % 2]);
    }
    district.merge(commune.site, commune.stream(), 1);
    district.merge(commune.site, copy.stream(), 1);
    let (own, heads) = (commune.shard().own.id(), district.here().heads(SHARD).unwrap());
    assert_eq!(heads[&own], commune.here().heads(SHARD).unwrap()[&own], "of the longest branch they know the same,");
    assert_eq!(heads.len(), 2, "and the other is called by no id that the commune has ever met");
    let [mut here, mut there] = [&district, &commune].map(|peer| Session::new(peer.site, false, [SHARD].into()));
    let hello = there.handle(&district.here(), Event::Opened).unwrap().remove(0);
    here.handle(&commune.here(), Event::Opened).unwrap();
    let Effect::Send(Message::Hello(Hello { shards, .. })) = hello else { panic!("{hello:?}") };
    let heard = here.handle(&commune.here(), Event::Received(Message::Hello(Hello::of(shards)))).unwrap();
    assert_eq!(heard, [Effect::Renew { shard: SHARD, author: own }]);

    // Should such an edit come in another way, the life is left all the same.
    let merged = commune.merge(district.site, district.stream(), 2);
    assert_eq!((merged.folded, merged.known), (1, 4));
    assert_ne!(commune.shard().own.id(), own);
    assert_eq!(commune.here().heads(SHARD).unwrap(), heads);
    assert_eq!(commune.shard().state_digest, district.shard().state_digest);
}

#[test]
fn an_edit_is_replaced_under_its_alias_where_no_fork_is_known_whatever_came_first_or_was_refused_under_that_id() {
    let (mut commune, mut other) = (Office::new(1), Office::new(4));
    let record = commune.create(request(1, 1), "Lê//An");
    commune.set(request(1, 2), record, field::NOTE, "replaced");
    let replaced = Edit::from_bytes(&commune.stream().items[1].bytes).unwrap();
    let hash = commune.stream().secrets.iter().map(|(.., secret)| replaced.hash(secret)).next().unwrap();
    let alias = Dot { actor: alias_id(replaced.dot().actor, &hash), counter: 2 };
    // As a site writes that knows another edit with that number.
    other.merge(commune.site, commune.stream(), 1);
    other.set(request(4, 1), record, field::NOTE, "the last word");
    let mut edit = Edit::from_bytes(&other.stream().items[2].bytes).unwrap();
    edit.changes[0].overwrites = vec![alias.clone()];

    let sites = [(false, false), (false, true), (true, false), (true, true)].map(|(is_refused, comes_first)| {
        let mut site = Office::new(2);
        if is_refused {
            let (start, item) = (Cursor::start([9; 16]), Item { dot: alias.clone(), bytes: vec![0xff] });
            let (items, secrets, seals) = (vec![item], Vec::new(), Vec::new());
            let batch = Batch { shard: SHARD, start, end: start, items, secrets, seals };
            assert_eq!(site.merge(SiteId(3), batch, 1).refused, Some(alias.actor));
        }
        if comes_first {
            send(&mut site, std::slice::from_ref(&edit));
        }
        site.merge(commune.site, commune.stream(), 1);
        send(&mut site, std::slice::from_ref(&edit));
        assert_eq!(site.record(record).dots(&(field::NOTE, vec![])), [edit.dot()], "{is_refused} {comes_first}");
        (site.shard().state_digest, site.here().heads(SHARD).unwrap())
    });
    assert!(sites.iter().all(|site| *site == sites[0]));
}

#[test]
fn of_a_chain_that_branches_without_end_heads_tell_the_longest_ways_and_the_same_ones_everywhere() {
    let (_, mut district, edits) = long_chain();
    let mut other = district.clone();
    let count = BRANCHES_TOLD_MAX as u64 + 40;
    let forks: Vec<Edit> = (0..count).map(|at| forged(&edits, 10 + at, request(99, at + 1))).collect();
    let turned: Vec<Edit> = forks.iter().rev().cloned().collect();
    assert_eq!(send(&mut district, &forks).folded, count as u32);
    assert_eq!(send(&mut other, &turned).folded, count as u32);
    let heads = district.here().heads(SHARD).unwrap();
    assert_eq!((heads.len(), &heads), (BRANCHES_TOLD_MAX + 1, &other.here().heads(SHARD).unwrap()));
    const { assert!(4 * (BRANCHES_TOLD_MAX + LIVES_MAX) < HEADS_MAX) };
}
