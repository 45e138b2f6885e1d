use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use dinhba_core::ids::{GroupId, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::store::{Batch, StateEngine, StateView};
use lsm_tree::Guard;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::seal::{Codec, Unsealed};
use crate::state::tests::{damaged_in_turn, is_open_or_damage};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where a batch says which it is, as a node's batches do.
const POSITION: &[u8] = b"position";
/// The least memtable: several are written out and merged within a test.
const SMALL: u64 = 48 * 1024;

fn open(dir: &Path, memtable_bytes: u64) -> Result<Unjournaled, StoreError> {
    Unjournaled::open_with(dir, Arc::new(Unsealed), memtable_bytes)
}

fn put(key: &[u8], value: &[u8]) -> Write {
    (key.to_vec(), Some(value.to_vec()))
}

fn get(tree: &Unjournaled, key: &[u8]) -> Option<Vec<u8>> {
    let stored = tree.shared.get(&tree.shared.latest(), key).unwrap()?;
    Some(if is_grown(key) { tree.shared.grown(key, &stored).unwrap() } else { stored.to_vec() })
}

fn all(tree: &Unjournaled, moment: &Moment) -> Map {
    let range = tree.shared.tree.iter(moment.number, None);
    let pairs = range.map(|guard| guard.into_inner().unwrap()).filter(|(key, _)| **key != END_KEY);
    let value = |key: &[u8], stored: Slice| {
        if is_grown(key) { tree.shared.grown(key, &stored).unwrap() } else { stored.to_vec() }
    };
    pairs.map(|(key, stored)| (key.to_vec(), value(&key, stored))).collect()
}

fn position(tree: &Unjournaled) -> u32 {
    get(tree, POSITION).map_or(0, |value| u32::from_be_bytes(value.try_into().unwrap()))
}

/// The batch of a number: keys anywhere, some of them of earlier batches, some removed.
fn batch(number: u32) -> Vec<Write> {
    let mut writes = BTreeMap::from([(POSITION.to_vec(), Some(number.to_be_bytes().to_vec()))]);
    for part in 0..8_u32 {
        let drawn = blake3::hash(&[number.to_be_bytes(), part.to_be_bytes()].concat());
        let drawn = drawn.as_bytes();
        let key = (u16::from_be_bytes([drawn[0], drawn[1]]) % 3_000).to_be_bytes().to_vec();
        let value = (!drawn[2].is_multiple_of(5)).then(|| drawn.repeat(usize::from(drawn[3] % 8)));
        writes.insert(key, value);
    }
    // What only grows: most of it once, some of it again, as after a snapshot was put in place.
    let keys = Keys(GroupId(1));
    for part in 0..4_u64 {
        let at = if part == 3 { u64::from(number) / 2 } else { u64::from(number) * 3 + part };
        let value = format!("{number} {part} ").repeat(usize::try_from(at % 60).unwrap());
        writes.insert(keys.arrival(ShardId(7), at), Some(value.into_bytes()));
    }
    if number.is_multiple_of(90) {
        writes.insert(keys.arrival(ShardId(7), u64::from(number)), None);
    }
    writes.into_iter().collect()
}

/// The state after all batches up to a number.
#[derive(Default)]
struct Model {
    at: u32,
    map: Map,
}

impl Model {
    fn up_to(number: u32) -> Self {
        let mut model = Model::default();
        while model.at < number {
            model.step();
        }
        model
    }

    fn step(&mut self) -> Vec<Write> {
        self.at += 1;
        let writes = batch(self.at);
        for (key, value) in &writes {
            match value {
                Some(value) => drop(self.map.insert(key.clone(), value.clone())),
                None => drop(self.map.remove(key)),
            }
        }
        writes
    }
}

/// As if the process were killed between two steps of its thread.
fn kill(tree: Unjournaled) {
    tree.shared.poison.0.set("killed".to_owned()).unwrap();
    drop(tree);
}

fn tables(dir: &Path) -> usize {
    fs::read_dir(dir.join(TABLES)).unwrap().count()
}

#[test]
fn a_value_under_anothers_key_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let state = LsmState::open(dir.path(), Arc::new(Unsealed)).unwrap();
    state.tree.commit(vec![put(b"b", &state.codec.encode(b"a", b"value"))]).unwrap();
    let damaged = |error: &StoreError| matches!(error, StoreError::Corrupt { place, .. } if place == "key 62");
    assert!(state.get(b"b").is_err_and(|error| damaged(&error)));
    let walked: Vec<_> = state.scan(b"a", b"z").collect();
    assert!(matches!(walked.as_slice(), [Err(error)] if damaged(error)));
    assert_eq!(state.get(b"a").unwrap(), None, "a bad value does not stop the engine");
}

#[test]
fn whatever_happens_to_its_files_it_opens_or_says_that_they_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let tree = open(dir.path(), 4 * 1024).unwrap();
    for number in 0..400_u32 {
        tree.commit(vec![put(&number.to_be_bytes(), &[7; 64])]).unwrap();
    }
    drop(tree);
    let told = damaged_in_turn(dir.path(), &|dir| LsmState::open(dir, Arc::new(Unsealed)).map(drop));
    assert!(told.iter().filter(|(_, outcome)| outcome.is_err()).count() > 8, "{told:?}");
    assert_eq!(told.iter().find(|(_, outcome)| !is_open_or_damage(outcome)), None);
    let lost = told.iter().find(|(what, _)| what == "current gone").unwrap();
    assert!(lost.1.is_err(), "an empty state in place of one that was there");
}

#[test]
fn a_burst_of_small_batches_is_written_out_and_closed() {
    const MEMTABLE: u64 = 256 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let (done, is_done) = mpsc::channel();
    let burst = thread::Builder::new().spawn(move || {
        let tree = open(&path, MEMTABLE).unwrap();
        let (mut largest, mut sealed) = (0, 0);
        for number in 0..200_000_u32 {
            // Keys that lie anywhere, so that merging has something to do.
            let key = number.wrapping_mul(2_654_435_761).to_be_bytes();
            tree.commit(vec![put(&key, &[7; 40])]).unwrap();
            largest = largest.max(tree.shared.tree.active_memtable().size());
            sealed = sealed.max(tree.shared.tree.sealed_memtable_count());
        }
        drop(tree);
        done.send((largest, sealed)).unwrap();
    });
    let (largest, sealed) = is_done.recv_timeout(Duration::from_secs(120)).expect("somebody waits for ever");
    burst.unwrap().join().unwrap();
    assert!(largest < MEMTABLE + 1024 && sealed <= 1, "{sealed} memtables and one of {largest} bytes");
    let again = Unjournaled::open(dir.path(), Arc::new(Unsealed)).unwrap();
    assert_eq!(all(&again, &again.shared.latest()).len(), 200_000);
}

#[test]
fn no_view_shows_half_a_batch_while_memtables_are_written_out_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let tree = open(dir.path(), 64 * 1024).unwrap();
    let (first, last) = (0_u32.to_be_bytes(), 999_u32.to_be_bytes());
    let is_over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !is_over.load(Ordering::Relaxed) {
                let moment = tree.shared.latest();
                let pair = [first, last].map(|key| tree.shared.get(&moment, &key).unwrap().map(|value| value.to_vec()));
                assert_eq!(pair[0], pair[1], "half of a batch");
                seen.insert(pair[0].clone());
            }
            seen.len()
        });
        // Another one has everything written out all the time, by which the tree's own number moves.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                tree.sync().unwrap();
            }
        });
        for number in 0..300_u32 {
            let writes = (0..1_000_u32).map(|key| put(&key.to_be_bytes(), &number.to_be_bytes()));
            tree.commit(writes.collect()).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(seen > 20, "the reader saw {seen} batches");
}

#[test]
fn a_view_keeps_what_it_shows_and_lets_go_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let tree = open(dir.path(), SMALL).unwrap();
    let mut model = Model::default();
    let mut views = Vec::new();
    for _ in 0..2_000 {
        tree.commit(model.step()).unwrap();
        if model.at % 250 == 0 {
            views.push((tree.shared.latest(), model.map.clone()));
        }
    }
    tree.sync().unwrap();
    for (moment, map) in &views {
        assert_eq!(&all(&tree, moment), map);
    }
    let kept = tables(dir.path());
    drop(views);
    tree.sync().unwrap();
    tree.end();
    tree.shared.let_go().unwrap();
    assert_eq!(tree.shared.tree.version_free_list_len(), 0);
    let left = tables(dir.path());
    assert!(left < kept && left == tree.shared.tree.table_count(), "{kept} files before, {left} after");
    assert_eq!(all(&tree, &tree.shared.latest()), model.map);
}

#[derive(Debug, Clone)]
enum Act {
    Commit(u32),
    Sync,
    Kill,
    End,
}

#[test]
fn whenever_it_ends_it_is_whole_up_to_its_position() {
    let act = prop_oneof![
        6 => (1..200_u32).prop_map(Act::Commit),
        1 => Just(Act::Sync),
        2 => Just(Act::Kill),
        1 => Just(Act::End),
    ];
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&prop::collection::vec(act, 1..16), |acts| {
        let dir = tempfile::tempdir().unwrap();
        let open = || open(dir.path(), SMALL).unwrap();
        let (mut tree, mut model, mut synced) = (open(), Model::default(), 0);
        for act in acts {
            match act {
                Act::Commit(count) => (0..count).for_each(|_| tree.commit(model.step()).unwrap()),
                Act::Sync => {
                    tree.sync().unwrap();
                    synced = model.at;
                }
                Act::Kill => {
                    kill(tree);
                    tree = open();
                    assert!((synced..=model.at).contains(&position(&tree)));
                    model = Model::up_to(position(&tree));
                    synced = model.at;
                }
                Act::End => {
                    drop(tree);
                    tree = open();
                    synced = model.at;
                }
            }
            assert_eq!(all(&tree, &tree.shared.latest()), model.map);
        }
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The directory of the process that is to be killed: this test program, at the same test.
const VICTIM: &str = "DINHBA_LSM_VICTIM";

/// Its name to the test program.
const THIS_TEST: &str = "state::lsm::tests::a_process_that_is_killed_leaves_a_state_that_is_whole_up_to_its_position";

/// Commits until it is killed, and tells what was synced.
fn be_the_victim(dir: &Path) {
    let tree = open(dir, SMALL).unwrap();
    for number in position(&tree) + 1.. {
        tree.commit(batch(number)).unwrap();
        if number % 100 == 0 {
            tree.sync().unwrap();
            println!("synced {number}");
        }
    }
}

#[test]
fn a_process_that_is_killed_leaves_a_state_that_is_whole_up_to_its_position() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return be_the_victim(Path::new(&dir));
    }
    let times = std::env::var("DINHBA_KILLS").map_or(8_u64, |times| times.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    for round in 0..times {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS_TEST, "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(victim.stdout.take().unwrap());
        thread::park_timeout(Duration::from_millis(60 + round * 37 % 400));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let synced = told.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("synced ")?.parse().ok());
        let synced: u32 = synced.last().unwrap_or(model.at);
        let tree = open(dir.path(), SMALL).unwrap();
        let at = position(&tree);
        assert!(at >= synced, "round {round}: {synced} was synced, and {at} is there");
        while model.at < at {
            model.step();
        }
        assert_eq!(all(&tree, &tree.shared.latest()), model.map, "round {round}");
    }
    println!("{times} kills, {} batches", model.at);
    assert!(model.at > 0);
}

#[test]
fn a_disk_that_takes_no_new_file_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = LsmState { tree: open(dir.path(), SMALL).unwrap(), codec: Codec::new(Arc::new(Unsealed)) };
    fs::remove_dir_all(dir.path().join(TABLES)).unwrap();
    let error = (0..).find_map(|number| state.tree.commit(batch(number)).err()).unwrap();
    assert!(matches!(error, StoreError::Io(_) | StoreError::Poisoned(_)), "{error}");
    let poisoned = |error: StoreError| matches!(error, StoreError::Poisoned(_));
    assert!(state.sync().is_err_and(poisoned) && state.apply(Batch::default()).is_err_and(poisoned));
    assert!(state.get(b"a").is_err_and(poisoned) && state.clear(b"a", b"b").is_err_and(poisoned));
    assert!(state.snapshot().map(drop).is_err_and(poisoned));
    assert!(state.scan(b"a", b"b").next().is_some_and(|item| item.is_err_and(poisoned)));
}

#[test]
fn damage_that_only_merging_meets_is_told_by_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let tree = open(dir.path(), SMALL).unwrap();
    let mut model = Model::default();
    (0..200).for_each(|_| tree.commit(model.step()).unwrap());
    drop(tree);
    for table in fs::read_dir(dir.path().join(TABLES)).unwrap() {
        let path = table.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[100..200].fill(0xa5);
        fs::write(&path, bytes).unwrap();
    }
    let tree = open(dir.path(), SMALL).unwrap();
    let failed = (0..20_000).find_map(|_| tree.commit(model.step()).err());
    assert!(matches!(failed, Some(StoreError::Poisoned(_))), "{failed:?}");
    drop(tree);
    let again = Unjournaled::open(dir.path(), Arc::new(Unsealed)).map(drop);
    assert!(matches!(&again, Err(StoreError::Corrupt { detail, .. }) if detail.contains("merged")), "{again:?}");
}

#[test]
fn who_waits_for_merging_that_does_not_happen_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let tree = open(dir.path(), 1).unwrap();
    tree.end();
    let mut written = 0_u32;
    let failed = loop {
        *lock(&tree.shared.turn) = MERGE_WAIT_MAX - 3 * MERGE_POLL;
        // From the least to the greatest key, so that no table fits behind another.
        let writes = vec![put(&[0], &[1]), put(&[1, 0], &written.to_be_bytes()), put(&[255], &[1])];
        match tree.commit(writes) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&failed, StoreError::Io(text) if text.contains("restart the node")), "{failed}");
    assert!(written as usize >= NEWEST_TABLES_MAX, "{written}");
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = LsmState::open(dir.path(), Arc::new(Unsealed)).unwrap();
    let second = LsmState::open(dir.path(), Arc::new(Unsealed)).map(drop);
    assert!(matches!(second, Err(StoreError::Io(text)) if text.contains("another process")));
    drop(state);
    LsmState::open(dir.path(), Arc::new(Unsealed)).unwrap();
}
