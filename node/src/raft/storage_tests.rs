//! openraft's own storage suite over the engines in memory and over those on the disk, and what it does not ask:
//! snapshots and their accidents.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dinhba_core::ids::GroupId;
use dinhba_core::store::{Batch, Done, LogEngine, LogState, StateEngine, StateView, StoreError};
use futures::stream;
use openraft::Vote;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::log_store::LogStore;
use super::machine::{Machine, StateMachine};
use super::snapshot::{SnapshotFile, machine_range, position_key};
use super::stored::{ENGINE_DAMAGED, drop_unreadable};
use super::test_support::{ChainMachine, MemoryDisk, MemoryLog, MemoryState};
use super::types::{CommittedLeaderId, Entry, LogId, Node, Proposal, TypeConfig, encode_log_id};
use crate::disk::{Disk, RealDisk};
use crate::log::{GroupCommit, LogOptions};
use crate::seal::Unsealed;
use crate::state::{self, EngineKind};

const GROUP: GroupId = GroupId(5);
const DIR: &str = "snapshots";

/// Small, so that each of the suite's many cases costs little to begin.
const SEGMENT_BYTES: u64 = 64 * 1024;

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let log = LogStore::open(Arc::new(MemoryLog::default()), GROUP).expect("memory");
        Ok(((), log, Site::default().open().expect("memory")))
    }
}

/// The suite begins some logs in their middle, which groups never do and the engine refuses. They begin as after a purge.
struct FromTheMiddle(Arc<dyn LogEngine>);

impl LogEngine for FromTheMiddle {
    fn append(&self, group: GroupId, entries: Vec<(u64, Vec<u8>)>, done: Done) {
        let state = self.0.state(group).expect("an open log");
        let is_empty = state.last.is_none() && state.purged.is_none();
        if let Some(before) = entries.first().and_then(|(first, _)| first.checked_sub(1)).filter(|_| is_empty)
            && before > 0
        {
            let mark = encode_log_id(&LogId::new_term_index(0, before));
            self.0.purge_to(group, before, mark, Box::new(|purged| purged.expect("an open log")));
        }
        self.0.append(group, entries, done);
    }
    fn save_vote(&self, group: GroupId, vote: Vec<u8>, done: Done) {
        self.0.save_vote(group, vote, done);
    }
    fn truncate_from(&self, group: GroupId, index: u64, done: Done) {
        self.0.truncate_from(group, index, done);
    }
    fn purge_to(&self, group: GroupId, index: u64, mark: Vec<u8>, done: Done) {
        self.0.purge_to(group, index, mark, done);
    }
    fn touch(&self, done: Done) {
        self.0.touch(done);
    }
    fn read(&self, group: GroupId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.0.read(group, from, to)
    }
    fn state(&self, group: GroupId) -> Result<LogState, StoreError> {
        self.0.state(group)
    }
    fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        self.0.groups()
    }
}

/// What a node runs on: segment files with one writer for all groups, the operating system's disk, and this engine.
struct OnDisk(EngineKind);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let options = LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
        let log = GroupCommit::open_with(Arc::clone(&disk), &dir.path().join("log"), Arc::new(Unsealed), options);
        let log = Arc::new(FromTheMiddle(log.expect("an empty directory")));
        let log = LogStore::open(log, GROUP).expect("no vote yet");
        let state = state::open(self.0, &dir.path().join("state"), Arc::new(Unsealed)).expect("an empty directory");
        let machine = Box::new(ChainMachine::new(Arc::clone(&state), GROUP));
        let machine =
            StateMachine::open(state, GROUP, disk, &dir.path().join(DIR), machine).expect("nothing there yet");
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openraft_s_storage_suite_passes_in_memory() {
    Suite::test_all(InMemory).await.expect("every case");
}

#[tokio::test]
async fn openraft_s_storage_suite_passes_on_segment_files_and_fjall() {
    Suite::test_all(OnDisk(EngineKind::Fjall)).await.expect("every case");
}

#[tokio::test]
async fn openraft_s_storage_suite_passes_on_segment_files_and_lsm() {
    Suite::test_all(OnDisk(EngineKind::Lsm)).await.expect("every case");
}

#[tokio::test]
async fn openraft_s_storage_suite_passes_on_segment_files_and_sled() {
    Suite::test_all(OnDisk(EngineKind::Sled)).await.expect("every case");
}

#[derive(Default)]
struct Site {
    state: Arc<MemoryState>,
    disk: Arc<MemoryDisk>,
}

impl Site {
    fn open(&self) -> Result<StateMachine, StoreError> {
        let machine = ChainMachine::new(Arc::clone(&self.state) as Arc<dyn StateEngine>, GROUP);
        self.open_with(Box::new(machine))
    }

    fn open_with(&self, machine: Box<dyn Machine>) -> Result<StateMachine, StoreError> {
        let (state, disk) = (Arc::clone(&self.state) as _, Arc::clone(&self.disk) as _);
        StateMachine::open(state, GROUP, disk, Path::new(DIR), machine)
    }

    fn commands(&self) -> Vec<Vec<u8>> {
        ChainMachine::commands(&*self.state, GROUP).expect("memory")
    }

    /// Whether the next start begins with new files of the engine.
    fn is_marked(&self) -> bool {
        self.disk.list(Path::new(DIR)).expect("memory").iter().any(|name| name == ENGINE_DAMAGED)
    }

    /// The files of snapshots, from this site's disk to another's.
    fn copy_files(&self, to: &Site) {
        for name in self.disk.list(Path::new(DIR)).expect("memory") {
            let path = Path::new(DIR).join(name);
            let from = self.disk.open(&path, false).expect("listed");
            let mut bytes = vec![0; usize::try_from(from.len().expect("memory")).expect("small")];
            from.read_at(0, &mut bytes).expect("memory");
            to.disk.open(&path, true).expect("memory").write_at(0, &bytes).expect("memory");
        }
    }
}

async fn apply(machine: &mut StateMachine, indexes: std::ops::Range<u64>) -> Result<(), std::io::Error> {
    let entries = indexes.map(|index| {
        let id = LogId::new_term_index(1, index);
        Ok((Entry::new_normal(id, Proposal(index.to_be_bytes().to_vec())), None))
    });
    machine.apply(stream::iter(entries.collect::<Vec<_>>())).await
}

async fn snapshot(machine: &mut StateMachine) -> Snapshot<CommittedLeaderId, u64, Node, SnapshotFile> {
    machine.get_snapshot_builder().await.build_snapshot().await.expect("memory")
}

#[tokio::test]
async fn position_and_commands_become_visible_together_and_outlive_a_restart() {
    let site = Site::default();
    let mut machine = site.open().expect("memory");
    apply(&mut machine, 1..700).await.expect("memory");
    drop(machine);
    let mut machine = site.open().expect("memory");
    let (applied, _) = machine.applied_state().await.expect("memory");
    assert_eq!(applied, Some(LogId::new_term_index(1, 699)));
    assert_eq!(site.commands().len(), 699);
}

#[tokio::test]
async fn only_the_newest_snapshot_is_kept() {
    let site = Site::default();
    let mut machine = site.open().expect("memory");
    apply(&mut machine, 1..10).await.expect("memory");
    snapshot(&mut machine).await;
    apply(&mut machine, 10..20).await.expect("memory");
    let newest = snapshot(&mut machine).await;
    assert_eq!(newest.meta.last_log_id, Some(LogId::new_term_index(1, 19)));
    let names = site.disk.list(Path::new(DIR)).expect("memory");
    assert_eq!(names.len(), 1, "{names:?}");
    let mut reopened = site.open().expect("memory");
    let current = reopened.get_current_snapshot().await.expect("memory").expect("one was built");
    assert_eq!(current.meta, newest.meta);
}

#[tokio::test]
async fn a_snapshot_replaces_everything_the_replica_had() {
    let (here, there) = (Site::default(), Site::default());
    let mut machine = here.open().expect("memory");
    apply(&mut machine, 1..400).await.expect("memory");
    let built = snapshot(&mut machine).await;

    let mut other = there.open().expect("memory");
    apply(&mut other, 1..3).await.expect("memory");
    let mut foreign = Batch::default();
    foreign.put(GroupId(6).0.to_be_bytes().to_vec(), vec![1]);
    there.state.apply(foreign).expect("memory");
    other.install_snapshot(&built.meta, built.snapshot).await.expect("it is whole");
    assert_eq!(here.commands(), there.commands());
    assert!(there.state.get(&GroupId(6).0.to_be_bytes()).expect("memory").is_some(), "another group's key went too");

    // The machine forgot what it remembered of the old state: the same next command has the same answer.
    apply(&mut machine, 400..401).await.expect("memory");
    apply(&mut other, 400..401).await.expect("memory");
    let group_part = |site: &Site| {
        let mut contents = site.state.contents();
        contents.retain(|key, _| key.starts_with(&GROUP.0.to_be_bytes()));
        contents
    };
    assert_eq!(group_part(&here), group_part(&there));
}

#[tokio::test]
async fn who_waits_for_an_entry_is_told_of_the_snapshot_that_holds_it() {
    struct Told(Arc<AtomicU64>);
    impl Machine for Told {
        fn apply(&mut self, commands: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
            Ok((vec![Vec::new(); commands.len()], Batch::default()))
        }
        fn applied(&mut self, index: u64) {
            self.0.store(index, Ordering::Relaxed);
        }
        fn replaced(&mut self) {}
    }
    let (here, there, told) = (Site::default(), Site::default(), Arc::new(AtomicU64::new(0)));
    let mut machine = here.open().expect("memory");
    apply(&mut machine, 1..400).await.expect("memory");
    let built = snapshot(&mut machine).await;
    let mut other = there.open_with(Box::new(Told(Arc::clone(&told)))).expect("memory");
    other.install_snapshot(&built.meta, built.snapshot).await.expect("it is whole");
    assert_eq!(told.load(Ordering::Relaxed), 399);
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_before_anything_is_replaced() {
    let (here, there) = (Site::default(), Site::default());
    let mut machine = here.open().expect("memory");
    apply(&mut machine, 1..400).await.expect("memory");
    let built = snapshot(&mut machine).await;
    here.disk.flip_bit(&built.snapshot.path, built.snapshot.bytes / 2);
    let mut other = there.open().expect("memory");
    apply(&mut other, 1..3).await.expect("memory");
    assert!(other.install_snapshot(&built.meta, built.snapshot).await.is_err());
    assert_eq!(there.commands().len(), 2);
    assert!(!there.is_marked(), "the engine is not to blame");
}

#[tokio::test]
async fn an_engine_that_does_not_take_a_whole_snapshot_is_replaced_at_the_next_start() {
    let (here, there) = (Site::default(), Site::default());
    let mut machine = here.open().expect("memory");
    apply(&mut machine, 1..400).await.expect("memory");
    let built = snapshot(&mut machine).await;
    let mut other = there.open().expect("memory");
    let damaged = || Some(StoreError::Corrupt { place: "page 1".into(), detail: String::new() });
    there.state.fail_with(Some(StoreError::Full("test".into())));
    assert!(other.install_snapshot(&built.meta, built.snapshot.clone()).await.is_err());
    assert!(!there.is_marked(), "after a full disk the same engine goes on");
    there.state.fail_with(damaged());
    here.copy_files(&there);
    assert!(other.install_snapshot(&built.meta, built.snapshot.clone()).await.is_err());
    assert!(there.is_marked());

    // The same where a start finds the installation interrupted.
    let third = Site::default();
    here.copy_files(&third);
    let name = built.snapshot.path.file_name().expect("a file").to_string_lossy().into_owned();
    interrupt(&third, &name);
    third.state.fail_with(damaged());
    assert!(third.open().is_err_and(|error| error.to_string().contains("restart the node")));
    assert!(third.is_marked());
}

#[tokio::test]
async fn a_snapshot_that_rotted_is_not_sent_but_written_anew() {
    let (here, there) = (Site::default(), Site::default());
    let mut machine = here.open().expect("memory");
    apply(&mut machine, 1..400).await.expect("memory");
    let built = snapshot(&mut machine).await;
    here.disk.flip_bit(&built.snapshot.path, built.snapshot.bytes / 2);
    let sent = machine.get_current_snapshot().await.expect("the state is whole").expect("it was built");
    let mut other = there.open().expect("memory");
    other.install_snapshot(&sent.meta, sent.snapshot).await.expect("it is whole");
    assert_eq!(there.commands(), here.commands());
}

/// The state as a crash in the middle of an installation leaves it.
fn interrupt(site: &Site, file_name: &str) {
    let mut batch = Batch::default();
    batch.put([position_key(GROUP), vec![1]].concat(), file_name.as_bytes().to_vec());
    batch.delete(position_key(GROUP));
    batch.put([&GROUP.0.to_be_bytes()[..], &[1, 0xff]].concat(), b"half".to_vec());
    site.state.apply(batch).expect("memory");
}

#[tokio::test]
async fn an_interrupted_installation_is_repeated_at_start() {
    let (here, there) = (Site::default(), Site::default());
    let mut machine = here.open().expect("memory");
    apply(&mut machine, 1..400).await.expect("memory");
    let built = snapshot(&mut machine).await;
    here.copy_files(&there);
    let name = built.snapshot.path.file_name().expect("a file").to_string_lossy().into_owned();
    interrupt(&there, &name);

    let mut other = there.open().expect("the file is there");
    assert_eq!(other.applied_state().await.expect("memory").0, built.meta.last_log_id);
    assert_eq!(here.commands(), there.commands());
}

#[tokio::test]
async fn an_interrupted_installation_without_its_file_refuses_to_start() {
    let site = Site::default();
    interrupt(&site, "snapshot-gone");
    assert!(matches!(site.open(), Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn an_error_of_the_engine_stops_the_replica() {
    let site = Site::default();
    let mut machine = site.open().expect("memory");
    apply(&mut machine, 1..3).await.expect("memory");
    site.state.fail_with(Some(StoreError::Full("test".into())));
    assert!(apply(&mut machine, 3..4).await.is_err());
    site.state.fail_with(None);
    assert_eq!(machine.applied_state().await.expect("memory").0, Some(LogId::new_term_index(1, 2)));
}

#[tokio::test]
async fn a_machine_that_writes_outside_its_keys_stops_the_replica() {
    struct Astray;
    impl Machine for Astray {
        fn apply(&mut self, commands: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
            let mut batch = Batch::default();
            batch.put(position_key(GROUP), vec![]);
            Ok((vec![Vec::new(); commands.len()], batch))
        }
        fn applied(&mut self, _: u64) {}
        fn replaced(&mut self) {}
    }
    let site = Site::default();
    let mut machine = site.open_with(Box::new(Astray)).expect("memory");
    assert!(apply(&mut machine, 1..2).await.is_err());
    assert!(site.state.contents().is_empty());
}

/// A replica whose state can rot, with the log that its machine repairs it from.
struct Rotting {
    state: Arc<state::MemoryState>,
    disk: Arc<MemoryDisk>,
    log: LogStore,
}

impl Rotting {
    async fn new(entries: std::ops::Range<u64>) -> (Self, StateMachine) {
        let mut log = LogStore::open(Arc::new(MemoryLog::default()), GROUP).expect("memory");
        let (state, disk) = (Arc::new(state::MemoryState::new(Arc::new(Unsealed))), Arc::new(MemoryDisk::default()));
        log.save_vote(&Vote::new(1, 1)).await.expect("memory");
        append(&mut log, entries.clone()).await;
        let rotting = Rotting { state, disk, log };
        let mut machine = rotting.open().expect("memory");
        apply(&mut machine, entries).await.expect("memory");
        (rotting, machine)
    }

    fn open(&self) -> Result<StateMachine, StoreError> {
        let (state, disk) = (Arc::clone(&self.state) as Arc<dyn StateEngine>, Arc::clone(&self.disk) as _);
        let machine = Box::new(ChainMachine::new(Arc::clone(&state), GROUP));
        Ok(StateMachine::open(state, GROUP, disk, Path::new(DIR), machine)?.with_log(self.log.clone()))
    }

    fn commands(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        ChainMachine::commands(&*self.state, GROUP)
    }

    /// Flips a bit of every value that the machine keeps.
    fn rot(&self) {
        let (from, to) = machine_range(GROUP).expect("a group");
        let keys: Vec<Vec<u8>> = self.state.scan(&from, &to).map(|item| item.expect("whole").0).collect();
        assert!(!keys.is_empty());
        keys.iter().for_each(|key| assert!(self.state.rot(key, 9)));
    }
}

async fn append(log: &mut LogStore, indexes: std::ops::Range<u64>) {
    let entries =
        indexes.map(|index| Entry::new_normal(LogId::new_term_index(1, index), Proposal(index.to_be_bytes().to_vec())));
    log.append(entries.collect::<Vec<_>>(), IOFlushed::noop()).await.expect("memory");
}

fn expected(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|index| index.to_be_bytes().to_vec()).collect()
}

#[tokio::test]
async fn damage_that_a_machine_or_a_reader_meets_is_repaired_from_snapshot_and_log() {
    let (mut rotting, mut machine) = Rotting::new(0..300).await;
    snapshot(&mut machine).await;
    rotting.log.purge(LogId::new_term_index(1, 250)).await.expect("memory");
    append(&mut rotting.log, 300..500).await;
    apply(&mut machine, 300..450).await.expect("memory");
    let before = machine.condition().steady().expect("nothing is replaced");
    rotting.rot();
    assert!(rotting.commands().is_err(), "the damage is there to be met");
    // A reader tells.
    assert!(machine.condition().suspect() && !machine.condition().suspect());
    apply(&mut machine, 450..460).await.expect("it is repaired");
    assert_eq!(rotting.commands().expect("whole"), expected(460));
    assert!(machine.condition().steady().is_some_and(|now| now != before), "who has read meanwhile finds out");
    assert_eq!(machine.applied_state().await.expect("memory").0, Some(LogId::new_term_index(1, 459)));
    // The same again at once has another cause.
    rotting.rot();
    let _ = machine.condition().suspect();
    let _ = apply(&mut machine, 460..461).await;
    assert!(rotting.commands().is_err());
}

#[tokio::test]
async fn a_snapshot_s_builder_that_meets_damage_keeps_the_one_before_and_has_it_repaired() {
    let (mut rotting, mut machine) = Rotting::new(0..300).await;
    let first = snapshot(&mut machine).await;
    append(&mut rotting.log, 300..320).await;
    apply(&mut machine, 300..310).await.expect("memory");
    rotting.rot();
    assert_eq!(snapshot(&mut machine).await.meta, first.meta);
    apply(&mut machine, 310..320).await.expect("it is repaired");
    assert_eq!(rotting.commands().expect("whole"), expected(320));
    assert_eq!(snapshot(&mut machine).await.meta.last_log_id, Some(LogId::new_term_index(1, 319)));
}

#[tokio::test]
async fn a_log_that_goes_back_to_the_beginning_needs_no_snapshot_to_repair() {
    let (rotting, mut machine) = Rotting::new(0..300).await;
    let built = snapshot(&mut machine).await;
    rotting.disk.flip_bit(&built.snapshot.path, built.snapshot.bytes / 2);
    rotting.rot();
    machine.condition().suspect();
    let mut log = rotting.log.clone();
    append(&mut log, 300..310).await;
    apply(&mut machine, 300..310).await.expect("it is repaired");
    assert_eq!(rotting.commands().expect("whole"), expected(310));
}

#[tokio::test]
async fn what_neither_snapshot_nor_log_can_repair_is_left_as_it_is() {
    let (mut rotting, mut machine) = Rotting::new(0..300).await;
    let built = snapshot(&mut machine).await;
    rotting.log.purge(LogId::new_term_index(1, 250)).await.expect("memory");
    rotting.disk.flip_bit(&built.snapshot.path, built.snapshot.bytes / 2);
    let (from, _) = machine_range(GROUP).expect("a group");
    let first = rotting.state.scan(&from, &[0xff; 9]).next().expect("there is one").expect("whole").0;
    assert!(rotting.state.rot(&first, 3));
    machine.condition().suspect();
    let _ = apply(&mut machine, 300..301).await;
    let steady = machine.condition().steady();
    assert!(steady.is_some(), "nothing was begun");
    assert!(rotting.state.get(&first).is_err());
}

#[tokio::test]
async fn a_state_without_a_readable_position_is_dropped_and_made_again() {
    let (rotting, mut machine) = Rotting::new(0..300).await;
    snapshot(&mut machine).await;
    drop(machine);
    assert!(!drop_unreadable(&*rotting.state, GROUP).expect("memory"), "it is whole");
    assert!(rotting.state.rot(&position_key(GROUP), 17));
    assert!(rotting.open().is_err());
    assert!(drop_unreadable(&*rotting.state, GROUP).expect("memory"));
    let machine = rotting.open().expect("an empty state");
    assert_eq!(
        (machine.applied(), machine.snapshot_position().map(|at| at.index)),
        (None, Some(299)),
        "openraft installs this snapshot"
    );
}
