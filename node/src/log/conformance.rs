//! What every log engine must do, as stories; then what only a disk that fails can show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dinhba_core::ids::GroupId;
use dinhba_core::store::{Done, LogEngine, LogState, StoreError};

use super::faulty::{Fault, FaultyDisk};
use super::model::{DIR, Model, ModelGroup, Op, SMALL, Step, observe, open, stage};
use super::writer::segment_path;
use super::{GroupCommit, Inline, LogOptions, SegmentLog, Tasked};
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::seal::Unsealed;

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

/// Calls and waits for the answer.
fn now(call: impl FnOnce(Done)) -> Result<(), StoreError> {
    let (sender, answer) = channel();
    call(Box::new(move |outcome| {
        let _nobody_waits_any_more = sender.send(outcome);
    }));
    answer.recv().expect("an answer")
}

fn entries(indexes: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    indexes.map(|index| (index, format!("entry {index}").into_bytes())).collect()
}

fn append(log: &dyn LogEngine, group: GroupId, indexes: std::ops::Range<u64>) -> Result<(), StoreError> {
    now(|done| log.append(group, entries(indexes), done))
}

/// The suite. `open` opens the same log again each time.
fn conforms(open: &dyn Fn() -> Arc<dyn LogEngine>) {
    // A new log is empty.
    let log = open();
    assert_eq!(log.groups().unwrap(), []);
    assert_eq!(log.state(A).unwrap(), LogState::default());
    assert_eq!(log.read(A, 0, 100).unwrap(), []);

    // Entries are read as they were given, within the bounds that are asked for.
    append(&*log, A, 1..11).unwrap();
    append(&*log, B, 0..3).unwrap();
    assert_eq!(log.read(A, 0, 100).unwrap(), entries(1..11));
    assert_eq!(log.read(A, 4, 7).unwrap(), entries(4..7));
    assert_eq!(log.read(A, 7, 4).unwrap(), []);
    assert_eq!(log.state(B).unwrap().last, entries(2..3).pop());

    // What does not go on where the log ends is refused, whole, and harms nothing.
    for bad in [5..7, 10..12, 12..14] {
        assert!(append(&*log, A, bad).is_err());
    }
    let gap = [entries(11..12), entries(13..14)].concat();
    assert!(now(|done| log.append(A, gap, done)).is_err());
    assert_eq!(log.read(A, 0, 100).unwrap(), entries(1..11));

    // A vote replaces the earlier one and is the group's own.
    now(|done| log.save_vote(B, b"first".to_vec(), done)).unwrap();
    now(|done| log.save_vote(B, b"second".to_vec(), done)).unwrap();
    now(|done| log.save_vote(GroupId(9), b"ninth".to_vec(), done)).unwrap();
    assert_eq!(log.groups().unwrap(), [A, B, GroupId(9)]);

    // Truncated entries make room for others at the same indexes.
    now(|done| log.truncate_from(A, 8, done)).unwrap();
    now(|done| log.truncate_from(A, 50, done)).unwrap();
    assert_eq!(log.state(A).unwrap().last, entries(7..8).pop());
    now(|done| log.append(A, vec![(8, b"another 8".to_vec())], done)).unwrap();

    // A purge keeps its mark; an earlier one does nothing.
    now(|done| log.purge_to(A, 3, b"mark 3".to_vec(), done)).unwrap();
    now(|done| log.purge_to(A, 2, b"mark 2".to_vec(), done)).unwrap();
    let expected = [entries(4..8), vec![(8, b"another 8".to_vec())]].concat();
    assert_eq!(log.read(A, 0, 100).unwrap(), expected);

    // A purge beyond the end empties the log, which goes on behind it and nowhere else.
    now(|done| log.purge_to(B, 40, b"mark 40".to_vec(), done)).unwrap();
    assert_eq!(log.state(B).unwrap().last, None);
    assert!(append(&*log, B, 3..4).is_err());
    append(&*log, B, 41..43).unwrap();

    // All of it is there again, more than once.
    let mut log = log;
    for _ in 0..2 {
        drop(log);
        log = open();
        assert_eq!(log.groups().unwrap(), [A, B, GroupId(9)]);
        assert_eq!(log.read(A, 0, 100).unwrap(), expected);
        assert_eq!(log.state(A).unwrap().purged, Some((3, b"mark 3".to_vec())));
        assert_eq!(log.read(B, 0, 100).unwrap(), entries(41..43));
        let (vote, purged) = (Some(b"second".to_vec()), Some((40, b"mark 40".to_vec())));
        assert_eq!(log.state(B).unwrap(), LogState { vote, purged, last: entries(42..43).pop() });
        assert_eq!(log.state(GroupId(9)).unwrap().vote, Some(b"ninth".to_vec()));
    }

    // A long life: a thousand entries, purged as they go; votes and marks outlive the segments that they were in.
    for round in 0..50 {
        append(&*log, B, 43 + round * 20..63 + round * 20).unwrap();
        now(|done| log.purge_to(B, 50 + round * 20, b"moving".to_vec(), done)).unwrap();
    }
    now(|done| log.purge_to(A, 8, b"mark 8".to_vec(), done)).unwrap();
    append(&*log, B, 1043..1100).unwrap();
    drop(log);
    let log = open();
    assert_eq!(log.read(B, 0, 2000).unwrap(), entries(1031..1100));
    assert_eq!(log.state(B).unwrap().purged, Some((1030, b"moving".to_vec())));
    assert_eq!(log.state(B).unwrap().vote, Some(b"second".to_vec()));
    assert_eq!(log.state(GroupId(9)).unwrap().vote, Some(b"ninth".to_vec()));
    assert_eq!(log.state(A).unwrap(), LogState { vote: None, purged: Some((8, b"mark 8".to_vec())), last: None });
}

#[test]
fn group_commit_on_a_real_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in [("small", SMALL), ("usual", LogOptions::default())] {
        let dir = dir.path().join(name);
        conforms(&|| GroupCommit::open_with(Arc::new(RealDisk), &dir, Arc::new(Unsealed), options).unwrap());
    }
}

#[test]
fn inline_on_a_real_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    conforms(&|| Inline::open_with(Arc::new(RealDisk), &dir, Arc::new(Unsealed), SMALL).unwrap());
    let files = RealDisk.list(&dir).unwrap();
    assert!(files.len() < 20, "segments are freed and recycled: {files:?}");
}

/// A runtime for the writer's task; the suite's thread waits outside it.
fn writers_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

#[test]
fn tasked_on_a_real_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = writers_runtime();
    let _entered = runtime.enter();
    for micros in [0, 200] {
        let dir = dir.path().join(micros.to_string());
        let flush_time: Arc<dyn Fn() -> Duration + Send + Sync> = Arc::new(move || Duration::from_micros(micros));
        conforms(&|| {
            Tasked::open_with(Arc::new(RealDisk), &dir, Arc::new(Unsealed), SMALL, flush_time.clone()).unwrap()
        });
    }
}

#[test]
fn inline_on_a_disk_that_forgets_conforms() {
    for seed in 0..8 {
        let disk = Mutex::new(FaultyDisk::default());
        conforms(&|| {
            let mut disk = disk.lock().unwrap();
            *disk = disk.after_power_cut(seed);
            Inline::open_with(Arc::new(disk.clone()), Path::new(DIR), Arc::new(Unsealed), SMALL).unwrap()
        });
    }
}

/// A history that rotates, frees and recycles, in flushes of one or several calls.
fn history() -> Vec<Vec<Op>> {
    let mut flushes = vec![
        vec![Op::Vote(1, 1)],
        vec![Op::Append(1, 3, 30), Op::Append(2, 2, 20), Op::Vote(2, 7)],
        vec![Op::Truncate(1, 1)],
        vec![Op::Append(1, 2, 60), Op::Truncate(1, 2), Op::Append(1, 4, 10)],
        vec![Op::Purge(2, 5)],
    ];
    for round in 0..4 {
        flushes.push(vec![Op::Append(1, 4, 40), Op::Append(2, 3, 25)]);
        flushes.push(vec![Op::Purge(1, 3)]);
        flushes.push(vec![Op::Vote(1, round), Op::Purge(2, 2), Op::Append(1, 1, 300)]);
        flushes.push(vec![Op::Append(2, 9, 70)]);
        flushes.push(vec![Op::Truncate(2, 6), Op::Purge(1, 4)]);
    }
    flushes
}

/// Runs the history until something fails. Returns what was acknowledged, and the steps that were under way.
fn run(log: &mut SegmentLog) -> (Model, Vec<Step>, Result<(), StoreError>) {
    let mut acknowledged = Model::default();
    for flush in history() {
        let (mut staged, mut under_way) = (acknowledged.clone(), Vec::new());
        for op in flush {
            let steps = staged.steps(&op);
            stage(log, &steps).unwrap();
            steps.iter().for_each(|step| staged.apply(step));
            under_way.extend(steps);
        }
        if let Err(error) = log.flush() {
            return (acknowledged, under_way, Err(error));
        }
        acknowledged = staged;
    }
    (acknowledged, Vec::new(), Ok(()))
}

/// All that is acknowledged is there; of what was under way, a beginning, each entry whole.
fn assert_fits(found: &BTreeMap<GroupId, ModelGroup>, acknowledged: &Model, under_way: &[Step], story: &str) {
    let mut allowed = acknowledged.clone();
    let mut fits = *found == allowed.groups;
    for step in under_way {
        allowed.apply(step);
        fits |= *found == allowed.groups;
    }
    assert!(fits, "{story}: found {found:?}\nacknowledged {:?}\nunder way {under_way:?}", acknowledged.groups);
}

/// The log goes on working: it takes an entry and a vote for each group, and they survive another power cut.
fn assert_goes_on(disk: &FaultyDisk, mut log: SegmentLog, seed: u64, story: &str) {
    let mut model = Model { groups: observe(&log).unwrap(), values: 1000 };
    for op in [Op::Append(1, 2, 33), Op::Vote(2, 3), Op::Append(2, 1, 150), Op::Append(1, 5, 44)] {
        let steps = model.steps(&op);
        stage(&mut log, &steps).unwrap();
        log.flush().unwrap();
        steps.iter().for_each(|step| model.apply(step));
    }
    let again = open(&disk.after_power_cut(seed)).unwrap_or_else(|error| panic!("{story}, then on: {error}"));
    assert_eq!(observe(&again).unwrap(), model.groups, "{story}, then on");
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    for point in 1.. {
        let disk = FaultyDisk::default();
        disk.fail_at(point, Fault::PowerCut);
        let (acknowledged, under_way, outcome) = match open(&disk) {
            Ok(mut log) => run(&mut log),
            Err(error) => (Model::default(), Vec::new(), Err(error)),
        };
        if outcome.is_ok() {
            assert!(point > 150, "the history met {point} disk calls only");
            break;
        }
        for seed in 0..12 {
            let story = format!("power cut at call {point}, seed {seed}");
            let disk = disk.after_power_cut(seed);
            let log = open(&disk).unwrap_or_else(|error| panic!("{story}: {error}"));
            assert_fits(&observe(&log).unwrap(), &acknowledged, &under_way, &story);
            assert_goes_on(&disk, log, seed, &story);
        }
    }
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_either() {
    for point in (1..400).step_by(7) {
        let disk = FaultyDisk::default();
        disk.fail_at(point, Fault::PowerCut);
        let Ok(mut log) = open(&disk) else { continue };
        let (acknowledged, under_way, _) = run(&mut log);
        for seed in 0..8 {
            for second in 1.. {
                let story = format!("power cut at call {point}, seed {seed}, and at call {second} of the recovery");
                let disk = disk.after_power_cut(seed);
                disk.fail_at(second, Fault::PowerCut);
                if open(&disk).is_ok() {
                    break;
                }
                let disk = disk.after_power_cut(seed + second as u64);
                let log = open(&disk).unwrap_or_else(|error| panic!("{story}: {error}"));
                assert_fits(&observe(&log).unwrap(), &acknowledged, &under_way, &story);
                assert_goes_on(&disk, log, seed, &story);
            }
        }
    }
}

#[test]
fn a_full_or_broken_disk_stops_the_log_and_changes_nothing_acknowledged() {
    for fault in [Fault::Full, Fault::Broken] {
        for point in 1.. {
            let disk = FaultyDisk::default();
            let mut log = open(&disk).unwrap();
            disk.fail_at(point, fault);
            let (acknowledged, under_way, outcome) = run(&mut log);
            let Err(error) = outcome else { break };
            assert_eq!(matches!(error, StoreError::Full(_)), fault == Fault::Full, "{error}");
            let poisoned = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::Poisoned(_)));
            assert!(poisoned(log.save_vote(A, Vec::new())) && poisoned(log.truncate_from(A, 0)));
            assert!(poisoned(log.append(A, Vec::new())) && poisoned(log.purge_to(A, 0, Vec::new())));
            assert!(poisoned(log.flush()) && poisoned(log.close()) && poisoned(log.state(A).map(drop)));
            assert!(poisoned(log.groups().map(drop)) && poisoned(log.read(A, 0, 9).map(drop)));

            let story = format!("{fault:?} at call {point}");
            // A sync that failed may have lost pages that the system still shows: only the power cut tells.
            let others = (0..4).map(|seed| disk.after_power_cut(seed));
            for disk in others.chain((fault == Fault::Full).then(|| disk.copy())) {
                let log = open(&disk).unwrap_or_else(|error| panic!("{story}: {error}"));
                assert_fits(&observe(&log).unwrap(), &acknowledged, &under_way, &story);
                assert_goes_on(&disk, log, 3, &story);
            }
        }
    }
}

fn segments(disk: &FaultyDisk) -> Vec<PathBuf> {
    let dir = Path::new(DIR);
    let names = disk.list(dir).unwrap().into_iter().filter(|name| name.ends_with(".seg"));
    names.map(|name| dir.join(name)).collect()
}

#[test]
fn a_flipped_bit_in_what_was_acknowledged_is_never_missed() {
    let disk = FaultyDisk::default();
    let mut log = open(&disk).unwrap();
    let (acknowledged, _, outcome) = run(&mut log);
    outcome.unwrap();
    log.close().unwrap();
    let mut detected = 0;
    for path in segments(&disk) {
        for byte in 0..disk.bytes(&path).len() {
            let disk = disk.copy();
            disk.meddle(&path, |bytes| bytes[byte] ^= 1 << (byte % 8));
            match open(&disk) {
                Ok(log) => assert_eq!(observe(&log).unwrap(), acknowledged.groups, "byte {byte} of {}", path.display()),
                Err(StoreError::Corrupt { place, .. }) => {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    assert!(place.contains(&name) && place.contains("at byte"), "{place} names {name}");
                    detected += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(detected > 1000, "only {detected} flips were in frames");
}

#[test]
fn a_segment_that_is_missing_short_or_of_another_number_is_damage() {
    let disk = FaultyDisk::default();
    let mut log = open(&disk).unwrap();
    run(&mut log).2.unwrap();
    log.close().unwrap();
    let paths = segments(&disk);
    assert!(paths.len() >= 3, "{paths:?}");
    let corrupt = |meddle: &dyn Fn(&FaultyDisk)| {
        let disk = disk.copy();
        meddle(&disk);
        assert!(matches!(open(&disk).map(drop), Err(StoreError::Corrupt { .. })));
    };
    corrupt(&|disk| disk.remove(&paths[1]).unwrap());
    corrupt(&|disk| disk.meddle(&paths[0], |bytes| bytes.truncate(100)));
    corrupt(&|disk| disk.meddle(&paths[2], |bytes| bytes.truncate(0)));
    corrupt(&|disk| disk.rename(&paths[1], &paths[2]).unwrap());
    // The oldest holds entries that are not purged.
    corrupt(&|disk| disk.remove(&paths[0]).unwrap());
}

#[test]
fn rot_under_an_open_log_is_found_when_the_entry_is_read() {
    let disk = FaultyDisk::default();
    let options = LogOptions { segment_bytes: 4096, cache_bytes: 0 };
    let mut log = SegmentLog::open_with(Arc::new(disk.clone()), Path::new(DIR), Arc::new(Unsealed), options).unwrap();
    log.append(A, entries(0..20)).unwrap();
    log.flush().unwrap();
    assert_eq!(log.read(A, 0, 100).unwrap(), entries(0..20), "read from the disk, for nothing is cached");
    disk.meddle(&segment_path(Path::new(DIR), 1), |bytes| bytes[600] ^= 4);
    assert!(matches!(log.read(A, 0, 100), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_frame_of_a_torn_write_never_lines_up_with_later_ones() {
    let disk = FaultyDisk::default();
    let mut log = open(&disk).unwrap();
    log.save_vote(A, Vec::new()).unwrap();
    log.save_vote(B, b"torn".to_vec()).unwrap();
    disk.fail_at(2, Fault::PowerCut);
    log.flush().unwrap_err();
    // The disk kept the second frame only. What recovery writes is as long as the first.
    let disk = disk.after_power_cut(1);
    let first =
        disk.bytes(&segment_path(Path::new(DIR), 1)).windows(4).rposition(|four| four == b"torn").unwrap() - 41 - 41;
    disk.meddle(&segment_path(Path::new(DIR), 1), |bytes| bytes[first] ^= 1);
    for _ in 0..3 {
        assert_eq!(open(&disk).unwrap().groups().unwrap(), []);
    }
}

#[test]
fn a_segment_that_was_never_begun_leaves_no_frames_to_the_next() {
    let disk = FaultyDisk::default();
    let mut log = open(&disk).unwrap();
    // Fills the segment, so that not even a mark has room.
    log.append(A, vec![(0, vec![b'.'; 374])]).unwrap();
    log.flush().unwrap();
    log.save_vote(A, b"1".to_vec()).unwrap();
    log.save_vote(B, b"never acknowledged".to_vec()).unwrap();
    // The calls are: sync, make, set the length, write, sync, rename.
    disk.fail_at(6, Fault::PowerCut);
    log.flush().unwrap_err();
    let unfinished =
        |disk: &FaultyDisk| disk.list(Path::new(DIR)).unwrap() == ["0000000000000001.seg", "0000000000000002.free"];
    let mut disks = (0..32).map(|seed| disk.after_power_cut(seed));
    let disk = disks.find(unfinished).expect("a power cut between the sync and the rename");

    let mut log = open(&disk).unwrap();
    log.save_vote(A, b"2".to_vec()).unwrap();
    log.flush().unwrap();
    assert_eq!(segments(&disk).len(), 2);
    let log = open(&disk.after_power_cut(0)).unwrap();
    assert_eq!(log.groups().unwrap(), [A]);
    assert_eq!(log.state(A).unwrap().vote, Some(b"2".to_vec()));
}

#[test]
fn what_a_restart_found_outlives_a_power_cut() {
    let disk = FaultyDisk::default();
    let mut log = open(&disk).unwrap();
    log.save_vote(A, b"not synced".to_vec()).unwrap();
    disk.fail_at(2, Fault::PowerCut);
    log.flush().unwrap_err();
    // The process died, the machine did not: the vote is in the system's cache, and the next process acts on it.
    let disk = disk.copy();
    let found = open(&disk).unwrap().state(A).unwrap().vote;
    assert_eq!(found, Some(b"not synced".to_vec()));
    assert_eq!(open(&disk.after_power_cut(0)).unwrap().state(A).unwrap().vote, found);
}

/// A disk whose syncs wait for permission, and say when they begin.
struct Gate {
    disk: FaultyDisk,
    begun: Mutex<Sender<()>>,
    permits: Arc<Mutex<Receiver<()>>>,
}
struct GateFile(Box<dyn DiskFile>, Sender<()>, Arc<Mutex<Receiver<()>>>);

impl Disk for Gate {
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn DiskFile>, StoreError> {
        let begun = self.begun.lock().unwrap().clone();
        Ok(Box::new(GateFile(self.disk.open(path, create)?, begun, self.permits.clone())))
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> Result<(), StoreError> {
        self.disk.create_dir(dir)
    }
    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), StoreError> {
        self.disk.sync_dir(dir)
    }
}

impl DiskFile for GateFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write_at(offset, bytes)
    }
    fn len(&self) -> Result<u64, StoreError> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        self.0.set_len(len)
    }
    fn sync(&self) -> Result<(), StoreError> {
        let _nobody_watches = self.1.send(());
        self.2.lock().unwrap().recv().map_err(|_| StoreError::Io("the gate is gone".to_owned()))?;
        self.0.sync()
    }
}

/// The story of two drivers: calls that wait share one flush and are answered in order.
fn shares_flushes(open: &dyn Fn(Arc<dyn Disk>) -> Arc<dyn LogEngine>) {
    let (begun, begins) = channel();
    let (permit, permits) = channel();
    let disk = FaultyDisk::default();
    let gate = Gate { disk: disk.clone(), begun: Mutex::new(begun), permits: Arc::new(Mutex::new(permits)) };
    // Opening syncs the first segment when it is made, and once more when it was read.
    (0..2).for_each(|_| permit.send(()).unwrap());
    let log = open(Arc::new(gate));
    (0..2).for_each(|_| begins.recv().unwrap());

    let (told, answers) = channel();
    let tell = |name: String| -> Done {
        let told = told.clone();
        Box::new(move |outcome| told.send((name, outcome)).unwrap())
    };
    log.append(A, entries(0..1), tell("0".to_owned()));
    begins.recv().unwrap();
    let syncs = disk.syncs();
    for at in 1..30 {
        let group = if at % 2 == 0 { A } else { B };
        log.append(group, entries(at / 2..at / 2 + 1), tell(at.to_string()));
    }
    assert_eq!(log.read(A, 0, 100).unwrap(), entries(0..15), "visible at once, though the disk is busy");
    assert!(answers.try_recv().is_err(), "nobody is answered before the flush");

    permit.send(()).unwrap();
    assert_eq!(answers.recv().unwrap().0, "0");
    begins.recv().unwrap();
    permit.send(()).unwrap();
    for at in 1..30 {
        assert_eq!(answers.recv().unwrap(), (at.to_string(), Ok(())));
    }
    assert_eq!(disk.syncs(), syncs + 2);

    // An orderly end answers those who wait.
    log.save_vote(A, b"last".to_vec(), tell("vote".to_owned()));
    (0..2).for_each(|_| permit.send(()).unwrap());
    drop(log);
    assert_eq!(answers.recv().unwrap(), ("vote".to_owned(), Ok(())));
    let log = Inline::open(Arc::new(disk.after_power_cut(0)), Path::new(DIR), Arc::new(Unsealed)).unwrap();
    assert_eq!(log.state(A).unwrap().vote, Some(b"last".to_vec()));
}

#[test]
fn calls_that_wait_share_one_flush_of_the_thread() {
    shares_flushes(&|disk| GroupCommit::open(disk, Path::new(DIR), Arc::new(Unsealed)).unwrap());
}

/// The driver with a task, on the runtime that is entered.
fn tasked(disk: Arc<dyn Disk>) -> Arc<dyn LogEngine> {
    let options = LogOptions::default();
    Tasked::open_with(disk, Path::new(DIR), Arc::new(Unsealed), options, Arc::new(|| Duration::ZERO)).unwrap()
}

#[test]
fn calls_that_wait_share_one_flush_of_the_task() {
    let runtime = writers_runtime();
    let _entered = runtime.enter();
    shares_flushes(&tasked);
}

#[test]
fn a_failed_flush_fails_all_who_wait_and_all_who_come() {
    let runtime = writers_runtime();
    let _entered = runtime.enter();
    fails_all(&|disk| GroupCommit::open(disk, Path::new(DIR), Arc::new(Unsealed)).unwrap());
    fails_all(&tasked);
}

fn fails_all(open: &dyn Fn(Arc<dyn Disk>) -> Arc<dyn LogEngine>) {
    let disk = FaultyDisk::default();
    let log = open(Arc::new(disk.clone()));
    append(&*log, A, 0..5).unwrap();
    disk.fail_at(1, Fault::Full);
    assert!(matches!(append(&*log, A, 5..6), Err(StoreError::Full(_))));
    assert!(matches!(append(&*log, A, 6..7), Err(StoreError::Poisoned(_))));
    assert!(matches!(log.state(A), Err(StoreError::Poisoned(_))));
    drop(log);
    let log = open(Arc::new(disk));
    assert_eq!(log.read(A, 0, 100).unwrap(), entries(0..5));
}

#[test]
fn many_threads_append_to_many_groups() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 16 * 1024, cache_bytes: 4096 };
    let open = || GroupCommit::open_with(Arc::new(RealDisk), dir.path(), Arc::new(Unsealed), options).unwrap();
    let log = open();
    thread::scope(|scope| {
        for group in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for at in 0..40 {
                    append(&**log, GroupId(group), at * 3..at * 3 + 3).unwrap();
                    assert_eq!(log.read(GroupId(group), at * 3, u64::MAX).unwrap(), entries(at * 3..at * 3 + 3));
                }
            });
        }
    });
    drop(log);
    let log = open();
    for group in 0..4 {
        assert_eq!(log.read(GroupId(group), 0, u64::MAX).unwrap(), entries(0..120));
    }
}
