use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use dinhba_core::ids::GroupId;
use dinhba_core::store::{Done, LogEngine};
use dinhba_node::log::{Inline, LogOptions, Tasked};
use dinhba_node::runtime::{self, NodeScope};
use dinhba_node::seal::Unsealed;

use super::*;
use crate::executor::Simulator;

const DIR: &str = "log";

/// Small enough that a few calls rotate, free and recycle segments; large enough that a sector is part of one.
const SMALL: LogOptions = LogOptions { segment_bytes: 2048, cache_bytes: 128 };

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// A disk with the directory.
fn new(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new(DIR)).unwrap();
    disk
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(&path(name), true).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    file
}

fn bytes(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(&path(name), false).unwrap();
    let mut bytes = vec![1; usize::try_from(file.len().unwrap()).unwrap() + 1];
    let count = file.read_at(0, &mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn bytes_are_read_as_they_were_written_across_pages_holes_and_changes_of_length() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for seed in 0..40 {
        let disk = new(seed);
        let file = disk.open(&path("x"), true).unwrap();
        let mut model: Vec<u8> = Vec::new();
        for _ in 0..60 {
            let at = usize::try_from(random.next_u64() % 20_000).unwrap();
            match random.next_u64() % 8 {
                0 => {
                    file.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                }
                1 => file.sync().unwrap(),
                _ => {
                    let part = vec![random.next_u64() as u8; usize::try_from(random.next_u64() % 9000).unwrap()];
                    file.write_at(at as u64, &part).unwrap();
                    if !part.is_empty() {
                        model.resize(model.len().max(at + part.len()), 0);
                        model[at..at + part.len()].copy_from_slice(&part);
                    }
                }
            }
            assert!(bytes(&disk, "x") == model, "seed {seed}");
        }
        file.sync().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        disk.power_cut();
        assert!(bytes(&disk, "x") == model, "seed {seed}: what was synced is there after the power cut");
    }
}

#[test]
fn a_power_cut_loses_keeps_and_tears_what_was_not_synced() {
    let (old, new_bytes) = (vec![b'o'; 3000], vec![b'n'; 3000]);
    let (mut none, mut all, mut beginning, mut sectors) = (0, 0, 0, 0);
    for seed in 0..200 {
        let disk = new(seed);
        let file = put(&disk, "x", &old);
        file.write_at(0, &new_bytes).unwrap();
        assert_eq!(bytes(&disk, "x"), new_bytes);
        disk.power_cut();
        assert!(file.len().is_err() && file.sync().is_err() && file.read_at(0, &mut [0]).is_err());
        let found = bytes(&disk, "x");
        let figures = disk.figures();
        let switches = found.windows(2).filter(|two| two[0] != two[1]).count();
        match (found.contains(&b'o'), found.contains(&b'n')) {
            (true, false) => none += 1,
            (false, true) => all += 1,
            _ if switches == 1 && found[0] == b'n' => beginning += 1,
            _ => {
                for sector in found.chunks(512) {
                    assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: a sector is whole");
                }
                sectors += 1;
            }
        }
        assert_eq!(figures.power_cuts_lost, u64::from(found != new_bytes), "seed {seed}");
        assert_eq!(figures.power_cuts_torn, u64::from(found != new_bytes && found.contains(&b'n')), "seed {seed}");
        disk.power_cut();
        assert_eq!(bytes(&disk, "x"), found, "seed {seed}: what was found once is durable");
    }
    assert!(none > 20 && all > 20 && beginning > 20 && sectors > 20, "{none} {all} {beginning} {sectors}");
}

#[test]
fn names_that_were_not_synced_are_kept_up_to_some_change() {
    let mut seen = BTreeMap::<Vec<String>, usize>::new();
    for seed in 0..100 {
        let disk = new(seed);
        put(&disk, "a", b"a");
        disk.rename(&path("a"), &path("b")).unwrap();
        disk.open(&path("c"), true).unwrap();
        disk.remove(&path("b")).unwrap();
        assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["c"]);
        disk.power_cut();
        let names = disk.list(Path::new(DIR)).unwrap();
        if names.first().is_some_and(|name| name != "c") {
            assert_eq!(bytes(&disk, &names[0]), b"a", "a file that lost its name and got it back has its bytes");
        }
        *seen.entry(names).or_default() += 1;
    }
    let seen: Vec<Vec<String>> = seen.into_keys().collect();
    let expected: [&[&str]; 4] = [&["a"], &["b"], &["b", "c"], &["c"]];
    assert_eq!(seen, expected);
}

#[test]
fn a_killed_process_loses_nothing_and_reaches_nothing_any_more() {
    let disk = new(1);
    let process = disk.mount();
    let file = process.open(&path("x"), true).unwrap();
    file.write_at(0, b"written").unwrap();
    disk.kill();
    assert!(file.write_at(0, b"undead").is_err() && process.remove(&path("x")).is_err());
    assert!(process.open(&path("x"), false).is_err() && process.list(Path::new(DIR)).is_err());
    drop(file);
    assert_eq!(bytes(&disk.mount(), "x"), b"written");
    let lost = |seed| {
        let disk = new(seed);
        disk.open(&path("x"), true).unwrap().write_at(0, b"written").unwrap();
        disk.kill();
        disk.power_cut();
        disk.list(Path::new(DIR)).unwrap().is_empty()
    };
    assert!((0..20).any(lost), "it was not synced, and still is not");
}

#[test]
fn the_power_goes_in_the_call_that_was_set_and_comes_back_on_request() {
    let disk = new(1);
    let file = put(&disk, "x", b"old");
    let mut told = disk.cut_power_at(3);
    file.write_at(0, b"new").unwrap();
    file.sync().unwrap();
    assert_eq!(told.try_recv(), Ok(None));
    assert!(file.write_at(0, b"not").is_err());
    assert_eq!(told.try_recv(), Ok(Some(())));
    assert!(disk.is_dark() && disk.open(&path("x"), false).is_err());
    disk.power_cut();
    assert!(!disk.is_dark());
    let found = bytes(&disk, "x");
    assert!(matches!(&found[..], b"new" | b"nee" | b"noe" | b"not"), "{found:?}");
    assert_eq!(disk.figures().power_cuts, 1);
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_a_broken_one_loses_what_it_should_sync() {
    let disk = new(1);
    let file = put(&disk, "x", b"old");
    disk.set_full(true);
    let full = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::Full(_)));
    assert!(full(file.write_at(3, b"more")) && full(file.set_len(100)));
    assert!(full(disk.open(&path("y"), true).map(drop)));
    file.set_len(2).unwrap();
    disk.set_full(false);
    disk.set_failing(true);
    assert!(matches!(file.sync(), Err(StoreError::Io(_))));
    disk.set_failing(false);
    assert_eq!(bytes(&disk, "x"), b"old");
    file.write_at(0, b"new").unwrap();
    file.sync().unwrap();
    disk.power_cut();
    assert_eq!(bytes(&disk, "x"), b"new");
}

#[test]
fn a_backup_is_what_a_copy_shows_and_comes_back_more_than_once() {
    let disk = new(1);
    let file = put(&disk, "x", b"old");
    file.write_at(0, b"now").unwrap();
    let backup = disk.copy();
    for _ in 0..2 {
        let file = put(&disk, "x", b"later");
        put(&disk, "y", b"y");
        disk.restore(&backup);
        assert!(file.len().is_err());
        disk.power_cut();
        assert_eq!(bytes(&disk, "x"), b"now");
        assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["x"]);
    }
    disk.lose_all();
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), Vec::<String>::new());
    assert_eq!(bytes(&backup, "x"), b"now");
}

#[test]
fn rot_hits_one_bit_of_what_is_cold_and_stays() {
    let disk = new(1);
    let file = put(&disk, "log", &[0; 10]);
    file.set_len(100_000).unwrap();
    file.write_at(0, b"cold").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.rot(Path::new(""), 5), None, "the last sync is not cold");
    file.write_at(4, b"fresh").unwrap();
    file.sync().unwrap();
    file.write_at(9, b"dirty").unwrap();
    assert_eq!(disk.rot(Path::new(""), 5), None, "the page is being written");
    file.sync().unwrap();
    let before = bytes(&disk, "log");
    let mut hit = BTreeMap::<usize, usize>::new();
    for pick in 0..200 {
        let disk = disk.copy();
        let told = disk.rot(Path::new(""), pick).unwrap();
        disk.power_cut();
        let after = bytes(&disk, "log");
        let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!((before[changed[0]] ^ after[changed[0]]).count_ones(), 1);
        assert_eq!(told, format!("log/log at byte {}", changed[0]));
        *hit.entry(changed[0]).or_default() += 1;
    }
    assert!(hit.keys().copied().eq(0..9), "{hit:?}");

    // A snapshot is written once and whole: all of it is cold.
    put(&disk, "whole", &[7; 9000]);
    assert!((0..8).filter_map(|pick| disk.rot(Path::new(""), pick)).any(|told| told.starts_with("log/whole")));
}

#[test]
fn files_that_nobody_can_reach_take_no_room() {
    let disk = new(1);
    for _ in 0..100 {
        put(&disk, "new", &[1; 5000]);
        disk.rename(&path("new"), &path("current")).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
    }
    disk.remove(&path("current")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert!(disk.lock().files.is_empty());
}

/// What a group should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    vote: Option<Vec<u8>>,
    purged: Option<(u64, Vec<u8>)>,
    entries: Vec<(u64, Vec<u8>)>,
}

type Model = BTreeMap<GroupId, Held>;

fn observe(log: &dyn LogEngine) -> Result<Model, StoreError> {
    let hold = |group| {
        let (state, entries) = (log.state(group)?, log.read(group, 0, u64::MAX)?);
        Ok((group, Held { vote: state.vote, purged: state.purged, entries }))
    };
    log.groups()?.into_iter().map(hold).collect()
}

/// Does something at random. Returns its outcome, and what may be found then if it failed; the last is what is found
/// if it did not.
fn act(log: &dyn LogEngine, model: &Model, random: &mut ChaCha8Rng) -> (Result<(), StoreError>, Vec<Model>) {
    let group = GroupId(1 + random.next_u64() % 3);
    let held = model.get(&group).cloned().unwrap_or_default();
    let last = held.entries.last().map(|(index, _)| *index).or(held.purged.as_ref().map(|(index, _)| *index));
    let next = last.map_or(0, |last| last + 1);
    let value = random.next_u64().to_le_bytes().to_vec();
    let (told, outcome) = channel();
    let done: Done = Box::new(move |outcome| told.send(outcome).unwrap());
    let mut allowed = vec![model.clone()];
    let mut then = |change: &dyn Fn(&mut Held)| {
        let mut model = allowed.last().cloned().unwrap_or_default();
        change(model.entry(group).or_default());
        allowed.push(model);
    };
    match random.next_u64() % 10 {
        0 => {
            then(&|held| held.vote = Some(value.clone()));
            log.save_vote(group, value, done);
        }
        1 => {
            let from = next.saturating_sub(random.next_u64() % 4);
            if held != Held::default() {
                then(&|held| held.entries.retain(|(index, _)| *index < from));
            }
            log.truncate_from(group, from, done);
        }
        2 => {
            let to = next.saturating_sub(random.next_u64() % 3);
            if held.purged.as_ref().is_none_or(|(purged, _)| *purged < to) {
                then(&|held| {
                    held.entries.retain(|(index, _)| *index > to);
                    held.purged = Some((to, value.clone()));
                });
            }
            log.purge_to(group, to, value, done);
        }
        _ => {
            let length = usize::try_from(random.next_u64() % 400).unwrap();
            let entry = |index: u64| (index, [value.clone(), vec![index as u8; length]].concat());
            let entries: Vec<(u64, Vec<u8>)> = (next..next + 1 + random.next_u64() % 3).map(entry).collect();
            for entry in &entries {
                then(&|held| held.entries.push(entry.clone()));
            }
            log.append(group, entries, done);
        }
    }
    (outcome.recv().unwrap(), allowed)
}

/// One machine's life: the log, ended by power cuts, kills, and power cuts in the middle of a flush.
fn live(seed: u64) -> (DiskFigures, Model) {
    let disk = SimDisk::new(seed);
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let mut model = Model::new();
    let mut allowed = vec![model.clone()];
    for life in 0..30 {
        let _told = (random.next_u64().is_multiple_of(2)).then(|| disk.cut_power_at(1 + random.next_u64() % 40));
        if let Ok(log) = Inline::open_with(Arc::new(disk.mount()), Path::new(DIR), Arc::new(Unsealed), SMALL) {
            if life > 0 {
                model = observe(&*log).unwrap();
            }
            assert!(allowed.contains(&model), "seed {seed}, life {life}: found {model:?}\nof {allowed:?}");
            allowed = vec![model.clone()];
            for _ in 0..random.next_u64() % 40 {
                let (outcome, possible) = act(&*log, &model, &mut random);
                if outcome.is_err() {
                    allowed = possible;
                    break;
                }
                model = possible.last().cloned().unwrap_or_default();
                allowed = vec![model.clone()];
            }
            // As a process that dies: the log must not close in good order.
            if random.next_u64().is_multiple_of(3) && !disk.is_dark() { disk.kill() } else { disk.power_cut() }
        } else {
            assert!(disk.is_dark(), "seed {seed}, life {life}: the log opens unless the power goes");
            disk.power_cut();
        }
    }
    (disk.figures(), model)
}

#[test]
fn the_log_loses_nothing_acknowledged_through_any_number_of_power_cuts() {
    let (mut lost, mut torn) = (0, 0);
    for seed in 0..40 {
        let (figures, held) = live(seed);
        lost += figures.power_cuts_lost;
        torn += figures.power_cuts_torn;
        assert!(figures.power_cuts >= 15, "seed {seed}: {figures:?}");
        if seed < 3 {
            assert_eq!(live(seed), (figures, held), "seed {seed} repeats itself");
        }
    }
    assert!(lost > 300 && torn > 60, "{lost} lost something, {torn} tore something");
}

const A: GroupId = GroupId(1);
const MACHINE: NodeScope = NodeScope(1);
const LIMIT: Duration = Duration::from_secs(3600);

/// How many entries the machine was told are durable, had staged, and has after the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crash {
    told: u64,
    staged: u64,
    found: u64,
}

async fn open_tasked(disk: &SimDisk) -> Arc<dyn LogEngine> {
    let time = disk.clone();
    let flush_time = Arc::new(move || time.flush_time());
    Tasked::open_with(Arc::new(disk.mount()), Path::new(DIR), Arc::new(Unsealed), SMALL, flush_time).unwrap()
}

/// A machine that appends an entry each millisecond, flushes in ten, and loses its power at a random moment: between the
/// steps of its tasks, or (`mid_call`) within a call of the disk.
fn crash(seed: u64, mid_call: bool) -> (Crash, String) {
    let mut simulator = Simulator::new(seed);
    let (handle, disk) = (simulator.handle(), SimDisk::new(seed));
    let crash = simulator.run(LIMIT, async move {
        disk.set_flush_time(Duration::from_millis(10));
        let told = Arc::new(Mutex::new((0, 0)));
        let node = (disk.clone(), Arc::clone(&told));
        handle.spawn_in(MACHINE, "machine", async move {
            let (disk, told) = node;
            let log = open_tasked(&disk).await;
            for index in 0.. {
                let answer = Arc::clone(&told);
                let done: Done = Box::new(move |outcome| {
                    if outcome.is_ok() {
                        answer.lock().unwrap().0 = index + 1;
                    }
                });
                told.lock().unwrap().1 = index + 1;
                log.append(A, vec![(index, vec![7; 100])], done);
                runtime::sleep(Duration::from_millis(1)).await;
            }
        });
        if mid_call {
            runtime::sleep(Duration::from_millis(1)).await;
            disk.cut_power_at(1 + runtime::random_u64() % 30).await.expect("the machine writes on and on");
        } else {
            runtime::sleep(Duration::from_micros(runtime::random_u64() % 100_000)).await;
        }
        disk.power_cut();
        handle.kill(MACHINE);
        let log = Inline::open_with(Arc::new(disk.mount()), Path::new(DIR), Arc::new(Unsealed), SMALL).unwrap();
        let found = log.state(A).unwrap().last.map_or(0, |(index, _)| index + 1);
        let (told, staged) = *told.lock().unwrap();
        Crash { told, staged, found }
    });
    (crash.expect("the story ends"), simulator.hash())
}

#[test]
fn a_crash_falls_before_into_and_after_a_flush_and_loses_nothing_acknowledged() {
    for mid_call in [false, true] {
        let run = |seed| crash(seed, mid_call);
        let (mut unflushed, mut untold, mut partial) = (0, 0, 0);
        for seed in 0..60 {
            let (crash, hash) = run(seed);
            let Crash { told, staged, found } = crash;
            assert!(told <= found && found <= staged, "seed {seed}: {crash:?}");
            unflushed += u64::from(found < staged);
            untold += u64::from(told < found);
            // Of the ten entries or so of a flush.
            partial += u64::from((1..8).contains(&(found - told)));
            if seed < 2 {
                assert_eq!(run(seed), (crash, hash), "seed {seed} repeats itself");
            }
        }
        assert!(unflushed > 20 && untold > 10, "{mid_call}: {unflushed} {untold}");
        assert!(!mid_call || partial > 5, "{partial} flushes were torn");
    }
}

#[test]
fn calls_that_come_during_a_flush_share_the_next() {
    for flush_ms in [10, 0] {
        let watched = SimDisk::new(1);
        let took = Simulator::new(1).run(LIMIT, async move {
            watched.set_flush_time(Duration::from_millis(flush_ms));
            let log = open_tasked(&watched).await;
            let before = watched.figures().syncs;
            let start = runtime::now();
            let (told, answers) = futures::channel::mpsc::unbounded();
            let append = |indexes: std::ops::Range<u64>| {
                for index in indexes {
                    let told = told.clone();
                    log.append(
                        A,
                        vec![(index, vec![])],
                        Box::new(move |outcome| told.unbounded_send((index, outcome)).unwrap()),
                    );
                }
            };
            append(0..5);
            runtime::sleep(Duration::from_millis(flush_ms / 2)).await;
            append(5..20);
            drop(told);
            let answers: Vec<(u64, Result<(), StoreError>)> = futures::StreamExt::collect(answers).await;
            assert!(answers.into_iter().eq((0..20).map(|index| (index, Ok(())))));
            (watched.figures().syncs - before, runtime::now() - start)
        });
        let (found, took) = took.expect("the story ends");
        assert!((1..=2).contains(&found), "{found} syncs");
        assert_eq!(took, Duration::from_millis(2 * flush_ms));
    }
}
