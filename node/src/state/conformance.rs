//! What every state engine must do, as stories and against a sorted map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dinhba_core::store::{Batch, Scan, StateEngine, StateView};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{EngineKind, KEY_BYTES_MAX, MemoryState, open};
use crate::seal::Unsealed;

type Open<'a> = &'a dyn Fn() -> Arc<dyn StateEngine>;
type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u32) -> Vec<u8> {
    [b"group 01".as_slice(), &number.to_be_bytes()].concat()
}

fn batch(writes: &[(&[u8], Option<&[u8]>)]) -> Batch {
    Batch { writes: writes.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect() }
}

fn numbers(range: std::ops::Range<u32>) -> Batch {
    Batch { writes: range.map(|number| (key(number), Some(number.to_string().into_bytes()))).collect() }
}

fn keys(scan: Scan<'_>) -> Vec<Vec<u8>> {
    scan.map(|item| item.unwrap().0).collect()
}

/// The suite. `open` opens the same state again each time, after the earlier one was dropped.
fn conforms(open: Open<'_>) {
    let state = open();
    batches_are_atomic(&*state);
    walks_go_both_ways(&*state);
    snapshots_do_not_change(&*state);
    ranges_are_cleared(&*state);
    drop(state);
    what_was_synced_is_there_again(open);
    the_largest_record_is_a_value_like_others(open);
}

fn the_largest_record_is_a_value_like_others(open: Open<'_>) {
    // What no compression makes smaller.
    let large: Vec<u8> = (0..4 * dinhba_core::share::FLOOD_BYTES / 32)
        .flat_map(|number| *blake3::hash(&number.to_be_bytes()).as_bytes())
        .collect();
    let state = open();
    for round in 0..3_u8 {
        state.apply(batch(&[(b"large", Some(&large)), (b"later", Some(&[round]))])).unwrap();
        let view = state.snapshot().unwrap();
        state.apply(batch(&[(b"large", Some(b"small"))])).unwrap();
        assert_eq!(view.get(b"large").unwrap().as_ref(), Some(&large));
        assert_eq!(state.get(b"large").unwrap(), Some(b"small".to_vec()));
    }
    state.apply(batch(&[(b"large", Some(&large))])).unwrap();
    state.sync().unwrap();
    drop(state);
    let state = open();
    let found: Vec<_> = state.scan(b"large", b"later0").map(Result::unwrap).collect();
    assert_eq!(found, [(b"large".to_vec(), large), (b"later".to_vec(), vec![2])]);
}

fn batches_are_atomic(state: &dyn StateEngine) {
    // The last write to a key counts; an empty batch is fine; an empty value is a value.
    state
        .apply(batch(&[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3")), (b"b", None), (b"c", Some(b""))]))
        .unwrap();
    state.apply(Batch::default()).unwrap();
    assert_eq!(state.get(b"a").unwrap(), Some(b"3".to_vec()));
    assert_eq!(state.get(b"b").unwrap(), None);
    assert_eq!(state.get(b"c").unwrap(), Some(Vec::new()));

    // A batch with a key that no engine takes changes nothing, and the engine goes on.
    for bad in [Vec::new(), vec![1; KEY_BYTES_MAX + 1]] {
        assert!(state.apply(batch(&[(b"a", Some(b"4")), (&bad, Some(b"x"))])).is_err());
    }
    assert_eq!(state.get(b"a").unwrap(), Some(b"3".to_vec()));
    state.apply(batch(&[(&[255; KEY_BYTES_MAX], Some(&[9; 100_000]))])).unwrap();
    assert_eq!(state.get(&[255; KEY_BYTES_MAX]).unwrap(), Some(vec![9; 100_000]));

    // Nobody sees half of a batch.
    let stop = AtomicBool::new(false);
    state.apply(batch(&[(b"left", Some(b"0")), (b"right", Some(b"0"))])).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..300_u32 {
                let value = round.to_string().into_bytes();
                state.apply(batch(&[(b"left", Some(&value)), (b"right", Some(&value))])).unwrap();
            }
            stop.store(true, Ordering::Release);
        });
        while !stop.load(Ordering::Acquire) {
            let view = state.snapshot().unwrap();
            assert_eq!(view.get(b"left").unwrap(), view.get(b"right").unwrap());
            let values: Vec<_> = state.scan(b"left", b"z").map(|item| item.unwrap().1).collect();
            assert_eq!(values[0], values[1]);
        }
    });
    state.clear(b"", &[255; KEY_BYTES_MAX + 1]).unwrap();
    assert_eq!(keys(state.scan(b"", &[255; KEY_BYTES_MAX + 1])), Vec::<Vec<u8>>::new());
}

fn walks_go_both_ways(state: &dyn StateEngine) {
    state.apply(numbers(0..1000)).unwrap();
    let expected: Vec<_> = (100..900).map(key).collect();
    assert_eq!(keys(state.scan(&key(100), &key(900))), expected, "half open, in order");
    let mut backwards = keys(Box::new(state.scan(&key(100), &key(900)).rev()));
    backwards.reverse();
    assert_eq!(backwards, expected);

    // From both ends, in uneven steps, each key once.
    let mut walk = state.scan(&key(100), &key(900));
    let (mut front, mut back) = (Vec::new(), Vec::new());
    while let Some(item) = walk.next() {
        front.push(item.unwrap().0);
        back.extend(walk.by_ref().rev().take(3).map(|item| item.unwrap().0));
    }
    assert!(walk.next_back().is_none());
    back.reverse();
    assert_eq!([front, back].concat(), expected);

    assert_eq!(state.scan(&key(5), &key(5)).count(), 0);
    assert_eq!(state.scan(&key(6), &key(5)).count(), 0, "the wrong way round is empty");
    let values: Vec<_> = state.scan(&key(7), &key(9)).map(|item| item.unwrap().1).collect();
    assert_eq!(values, [b"7", b"8"]);
}

fn snapshots_do_not_change(state: &dyn StateEngine) {
    let (from, to) = (key(0), key(2000));
    let whole = |view: &dyn StateView| view.scan(&from, &to).map(Result::unwrap).collect::<Map>();
    let old = state.snapshot().unwrap();
    let old_whole = whole(&*old);
    assert_eq!(old_whole.len(), 1000);
    let mut walk = state.scan(&from, &to);
    assert_eq!(walk.next().unwrap().unwrap().0, key(0));

    state.apply(batch(&[(&key(1), Some(b"new")), (&key(500), None), (&key(1500), Some(b"more"))])).unwrap();
    let middle = state.snapshot().unwrap();
    let middle_whole = whole(&*middle);
    state.apply(batch(&[(&key(1), None), (&key(500), Some(b"again")), (&key(1500), Some(b"less"))])).unwrap();
    state.clear(&key(200), &key(400)).unwrap();

    assert_eq!(old.get(&key(1)).unwrap(), Some(b"1".to_vec()));
    assert_eq!(old.get(&key(300)).unwrap(), Some(b"300".to_vec()));
    assert_eq!(whole(&*old), old_whole);
    assert_eq!(middle.get(&key(500)).unwrap(), None);
    assert_eq!(whole(&*middle), middle_whole);
    drop(old);
    assert_eq!(whole(&*middle), middle_whole);
    assert_eq!(middle.scan(&from, &to).rev().map(Result::unwrap).collect::<Map>(), middle_whole);
    assert_eq!(walk.count(), 999, "a walk sees what was there when it began");
    drop(middle);
    assert_eq!(state.get(&key(1500)).unwrap(), Some(b"less".to_vec()));
    assert_eq!(state.scan(&from, &to).count(), 1000 - 200 - 1 + 1);
}

fn ranges_are_cleared(state: &dyn StateEngine) {
    state.clear(&key(0), &key(2000)).unwrap();
    state.apply(numbers(0..9000)).unwrap();
    state.clear(&key(9), &key(9)).unwrap();
    state.clear(&key(9), &key(8)).unwrap();
    state.clear(&key(10), &key(8990)).unwrap();
    let expected: Vec<_> = (0..10).chain(8990..9000).map(key).collect();
    assert_eq!(keys(state.scan(&key(0), &key(10_000))), expected);
    state.apply(numbers(100..102)).unwrap();
    assert_eq!(state.get(&key(100)).unwrap(), Some(b"100".to_vec()), "cleared, and written again");
}

fn what_was_synced_is_there_again(open: Open<'_>) {
    let state = open();
    state.clear(b"", &[255; 9]).unwrap();
    state.apply(numbers(0..500)).unwrap();
    state.apply(batch(&[(&key(3), None), (&key(4), Some(b"four"))])).unwrap();
    state.clear(&key(100), &key(200)).unwrap();
    state.sync().unwrap();
    drop(state);
    for _ in 0..2 {
        let state = open();
        assert_eq!(state.scan(&key(0), &key(1000)).count(), 399);
        assert_eq!(state.get(&key(3)).unwrap(), None);
        assert_eq!(state.get(&key(4)).unwrap(), Some(b"four".to_vec()));
        assert_eq!(state.get(&key(150)).unwrap(), None);
    }
}

fn conforms_on_disk(kind: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("state");
    conforms(&|| open(kind, &dir, Arc::new(Unsealed)).unwrap());
}

#[test]
fn fjall_conforms() {
    conforms_on_disk(EngineKind::Fjall);
}

#[test]
fn lsm_conforms() {
    conforms_on_disk(EngineKind::Lsm);
}

#[test]
fn sled_conforms() {
    conforms_on_disk(EngineKind::Sled);
}

#[test]
fn memory_conforms() {
    let state = Arc::new(MemoryState::new(Arc::new(Unsealed)));
    conforms(&|| {
        state.lose_unsynced(0);
        state.clone()
    });
}

#[derive(Debug, Clone)]
enum Act {
    Apply(Vec<(u8, Option<u8>)>),
    Clear(u8, u8),
    Snapshot,
    Drop(usize),
    Sync,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => prop::collection::vec((0..200_u8, any::<Option<u8>>()), 0..40).prop_map(Act::Apply),
        1 => (0..200_u8, 0..200_u8).prop_map(|(from, to)| Act::Clear(from, to)),
        2 => Just(Act::Snapshot),
        1 => (0..3_usize).prop_map(Act::Drop),
        1 => Just(Act::Sync),
    ]
}

fn whole(view: &dyn StateView) -> Map {
    let forwards: Map = view.scan(&[0], &[255]).map(Result::unwrap).collect();
    let backwards: Map = view.scan(&[0], &[255]).rev().map(Result::unwrap).collect();
    assert_eq!(forwards, backwards);
    forwards
}

/// The engine and each of its snapshots hold what a sorted map and copies of it hold.
fn is_a_sorted_map(state: &dyn StateEngine, acts: &[Act]) {
    state.clear(&[0], &[255]).unwrap();
    let mut model = Map::new();
    let mut views: Vec<(Box<dyn StateView + '_>, Map)> = Vec::new();
    for act in acts {
        match act {
            Act::Apply(writes) => {
                let mut batch = Batch::default();
                for (key, value) in writes {
                    match value {
                        Some(value) => {
                            batch.put(vec![*key], vec![*value; 3]);
                            model.insert(vec![*key], vec![*value; 3]);
                        }
                        None => {
                            batch.delete(vec![*key]);
                            model.remove([*key].as_slice());
                        }
                    }
                }
                state.apply(batch).unwrap();
            }
            Act::Clear(from, to) => {
                state.clear(&[*from], &[*to]).unwrap();
                model.retain(|key, _| key[0] < *from || key[0] >= *to);
            }
            Act::Snapshot => views.push((state.snapshot().unwrap(), model.clone())),
            Act::Drop(at) if *at < views.len() => drop(views.remove(*at)),
            Act::Drop(_) => {}
            Act::Sync => state.sync().unwrap(),
        }
        assert_eq!(whole(state), model);
        for (view, then) in &views {
            assert_eq!(&whole(&**view), then);
            assert_eq!(view.get(&[7]).unwrap().as_ref(), then.get([7].as_slice()));
        }
    }
}

fn matches_the_model(kind: EngineKind, cases: u32) {
    let dir = tempfile::tempdir().unwrap();
    let state = open(kind, dir.path(), Arc::new(Unsealed)).unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let acts = prop::collection::vec(any_act(), 1..30);
    let run = TestRunner::new(config).run(&acts, |acts| {
        is_a_sorted_map(&*state, &acts);
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn fjall_is_a_sorted_map() {
    matches_the_model(EngineKind::Fjall, 16);
}

#[test]
fn lsm_is_a_sorted_map() {
    matches_the_model(EngineKind::Lsm, 16);
}

#[test]
fn sled_is_a_sorted_map() {
    matches_the_model(EngineKind::Sled, 16);
}

#[test]
fn memory_is_a_sorted_map() {
    matches_the_model(EngineKind::Memory, 64);
}
