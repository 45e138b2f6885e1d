//! A group's state and snapshots as they are kept on this node: how one is made from the other, so that a crash at any point
//! leaves what the next start can tell and mend. Who may be shown what, and when, is the business of `machine`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dinhba_core::ids::GroupId;
use dinhba_core::inject::{is_armed, sometimes};
use dinhba_core::store::{Batch, StateEngine, StateView, StoreError};
use prost::Message;

use super::condition::Condition;
use super::snapshot::{self, SnapshotFile, machine_range, position_key};
use super::types::{SnapshotMeta, StoredMembership, decode, meta_from_wire, meta_to_wire};
use crate::disk::Disk;

/// The start of a complete snapshot's file name; index and term follow, so that names sort by age.
const COMPLETE_PREFIX: &str = "snapshot-";

/// The name of an empty file beside the snapshots, there after a damaged state could not be replaced: the engine's own
/// files are damaged, and the next start begins with new ones (see `node`).
pub(crate) const ENGINE_DAMAGED: &str = "engine-damaged";

/// The end of a file name that means nothing after a restart.
const TEMPORARY_SUFFIX: &str = ".tmp";

const BUILDING: &str = "building.tmp";

/// One group's state in the engine, and its snapshot files in a directory of their own.
pub(super) struct Stored {
    pub(super) condition: Arc<Condition>,
    /// Held while a snapshot is written and while the state is replaced: neither must see the other half done.
    exclusive: Mutex<()>,
    pub(super) engine: Arc<dyn StateEngine>,
    pub(super) group: GroupId,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
}

/// Under this key lies, while a snapshot is installed, the name of its file.
fn installing_key(group: GroupId) -> Vec<u8> {
    let mut key = position_key(group);
    key.push(1);
    key
}

pub(super) fn encode_position(position: &SnapshotMeta) -> Vec<u8> {
    meta_to_wire(position).encode_to_vec()
}

/// Up to where a group's state goes in `view`, and who its members are there.
pub(crate) fn read_position(view: &dyn StateView, group: GroupId) -> Result<SnapshotMeta, StoreError> {
    let Some(bytes) = view.get(&position_key(group))? else { return Ok(SnapshotMeta::default()) };
    decode("position", &bytes)
        .and_then(meta_from_wire)
        .map_err(|error| StoreError::Corrupt { place: format!("position of {group}"), detail: error.to_string() })
}

/// What makes a group's state one that goes up to `position`.
pub(crate) fn position_batch(group: GroupId, position: &SnapshotMeta) -> Batch {
    let mut batch = Batch::default();
    batch.put(position_key(group), encode_position(position));
    batch
}

impl Stored {
    pub(super) fn new(
        engine: Arc<dyn StateEngine>,
        group: GroupId,
        disk: Arc<dyn Disk>,
        dir: &Path,
        condition: Arc<Condition>,
    ) -> Result<Self, StoreError> {
        machine_range(group)?;
        disk.create_dir(dir)?;
        let (exclusive, current) = (Mutex::default(), Mutex::default());
        Ok(Stored { condition, exclusive, engine, group, disk, dir: dir.to_owned(), current })
    }

    pub(super) fn current(&self) -> MutexGuard<'_, Option<(SnapshotMeta, SnapshotFile)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete_path(&self, meta: &SnapshotMeta) -> PathBuf {
        let (index, term) = meta.last_log_id.map_or((0, 0), |id| (id.index, id.leader_id.term));
        self.dir.join(format!("{COMPLETE_PREFIX}{index:016x}-{term:016x}"))
    }

    /// Gives a durable file its lasting name.
    fn complete(&self, meta: &SnapshotMeta, mut file: SnapshotFile) -> Result<SnapshotFile, StoreError> {
        let path = self.complete_path(meta);
        if file.path != path {
            self.disk.rename(&file.path, &path)?;
            self.disk.sync_dir(&self.dir)?;
            file.path = path;
        }
        Ok(file)
    }

    /// Makes `file` the snapshot that is sent to others, unless a newer one came meanwhile; the older is removed.
    fn make_current(&self, meta: SnapshotMeta, file: SnapshotFile) -> Result<(), StoreError> {
        let mut current = self.current();
        let stale = match &mut *current {
            Some((newer, _)) if newer.last_log_id > meta.last_log_id => Some(file),
            slot => slot.replace((meta, file)).map(|(_, old)| old),
        };
        let kept = current.as_ref().map(|(_, file)| file.path.clone());
        drop(current);
        match stale {
            Some(stale) if Some(&stale.path) != kept.as_ref() => self.disk.remove(&stale.path),
            _ => Ok(()),
        }
    }

    pub(super) fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.exclusive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn build(&self) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
        let _exclusive = self.exclusive();
        let view = self.engine.snapshot()?;
        let meta = read_position(&*view, self.group)?;
        let file = snapshot::write(&*self.disk, &self.dir.join(BUILDING), self.group, &meta, &*view)?;
        drop(view);
        // Only now may the log below it go: what it holds is also durable in the engine.
        self.engine.sync()?;
        let file = self.complete(&meta, file)?;
        self.make_current(meta.clone(), file.clone())?;
        Ok((meta, file))
    }

    /// Replaces the group's state by the file's. The order makes a crash at any point visible: see the module's promises.
    pub(super) fn install(&self, file: SnapshotFile) -> Result<SnapshotMeta, StoreError> {
        let (meta, file) = self.take_in(file)?;
        self.replace_by(meta, file)
    }

    /// Verifies a whole snapshot and gives it its lasting name. Nothing is replaced yet.
    pub(super) fn take_in(&self, file: SnapshotFile) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
        let meta = snapshot::verify(&file, self.group)?;
        let file = self.complete(&meta, file)?;
        Ok((meta, file))
    }

    fn replace_by(&self, meta: SnapshotMeta, file: SnapshotFile) -> Result<SnapshotMeta, StoreError> {
        sometimes("a snapshot is installed", true);
        let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut batch = Batch::default();
        batch.put(installing_key(self.group), name.into_bytes());
        batch.delete(position_key(self.group));
        self.engine.apply(batch)?;
        self.engine.sync()?;

        let (from, to) = machine_range(self.group)?;
        if !is_armed("install-over-old-state") {
            self.engine.clear(&from, &to)?;
        }
        snapshot::pairs(&file, self.group, |pairs| {
            let writes = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
            self.engine.apply(Batch { writes })
        })?;
        // An engine may keep later batches and lose earlier ones unless a sync stands between.
        self.engine.sync()?;

        let mut batch = Batch::default();
        batch.put(position_key(self.group), encode_position(&meta));
        batch.delete(installing_key(self.group));
        self.engine.apply(batch)?;
        self.engine.sync()?;
        self.make_current(meta.clone(), file)?;
        Ok(meta)
    }

    /// The group as if nothing had been applied.
    pub(super) fn drop_state(&self) -> Result<(), StoreError> {
        // The position first: without it, what is left after a crash in the middle counts as nothing.
        drop_state(&*self.engine, self.group)
    }

    fn remove_snapshots(&self) -> Result<(), StoreError> {
        for name in self.disk.list(&self.dir)?.iter().filter(|name| name.starts_with(COMPLETE_PREFIX)) {
            self.disk.remove(&self.dir.join(name))?;
        }
        self.disk.sync_dir(&self.dir)
    }

    /// Installs again what a crash interrupted.
    pub(super) fn finish_interrupted_install(&self) -> Result<(), StoreError> {
        let Some(name) = self.engine.get(&installing_key(self.group))? else { return Ok(()) };
        let name = String::from_utf8(name).unwrap_or_default();
        let path = self.dir.join(&name);
        tracing::warn!(group = %self.group, file = %path.display(), "installing an interrupted snapshot again");
        let taken = snapshot::open(&*self.disk, &path, self.group).and_then(|(_, file)| self.take_in(file));
        let (meta, file) = taken.map_err(|error| StoreError::Corrupt {
            place: format!("state of {}", self.group),
            detail: format!(
                "an installation of the snapshot {name:?} was interrupted and cannot be repeated ({error})"
            ),
        })?;
        self.replace_or_mark(meta, file).map(|_| ())
    }

    /// Replaces the state by a whole snapshot; if the engine does not take it, leaves word for the next start.
    pub(super) fn replace_or_mark(&self, meta: SnapshotMeta, file: SnapshotFile) -> Result<SnapshotMeta, StoreError> {
        let replaced = self.replace_by(meta, file);
        replaced.map_err(|error| cannot_replace(&*self.disk, &self.dir, self.group, error))
    }

    /// Finds the newest complete snapshot and removes everything else.
    pub(super) fn find_current(&self) -> Result<(), StoreError> {
        for name in self.disk.list(&self.dir)?.iter().rev() {
            let path = self.dir.join(name);
            if name.ends_with(TEMPORARY_SUFFIX) {
                self.disk.remove(&path)?;
            } else if name.starts_with(COMPLETE_PREFIX) {
                match snapshot::open(&*self.disk, &path, self.group) {
                    Ok((meta, file)) if self.complete_path(&meta) == path => self.make_current(meta, file)?,
                    result => {
                        let error = result.err().map(|error| error.to_string());
                        tracing::warn!(group = %self.group, file = %path.display(), error, "removed a damaged snapshot");
                        self.disk.remove(&path)?;
                        sometimes("a damaged snapshot is removed", true);
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a whole snapshot that another member gave the only one here, and drops the state: the group's next start installs
    /// it. A crash in between leaves the old state with a snapshot from which it can be made again.
    pub(super) fn adopt(&self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), StoreError> {
        // What is here is damaged, and may claim to be newer.
        self.remove_snapshots()?;
        self.complete(meta, file)?;
        self.drop_state_or_mark()
    }

    /// Drops a damaged state and the snapshots beside it, for a group whose log holds everything.
    pub(super) fn begin_again(&self) -> Result<(), StoreError> {
        self.remove_snapshots()?;
        self.drop_state_or_mark()
    }

    fn drop_state_or_mark(&self) -> Result<(), StoreError> {
        self.drop_state().map_err(|error| cannot_replace(&*self.disk, &self.dir, self.group, error))
    }
}

fn drop_state(engine: &dyn StateEngine, group: GroupId) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.delete(position_key(group));
    batch.delete(installing_key(group));
    engine.apply(batch)?;
    engine.sync()?;
    let (from, to) = machine_range(group)?;
    engine.clear(&from, &to)?;
    engine.sync()
}

/// Writes the first snapshot of a group that does not run, to `dir`; durable when this returns.
pub(crate) fn write_snapshot(
    engine: Arc<dyn StateEngine>,
    group: GroupId,
    disk: Arc<dyn Disk>,
    dir: &Path,
) -> Result<(), StoreError> {
    Stored::new(engine, group, disk, dir, Arc::default())?.build().map(drop)
}

/// What to say where a state can be neither read nor replaced; if the engine's own files are to blame, leaves word beside the
/// group's snapshots for the next start.
pub(crate) fn cannot_replace(disk: &dyn Disk, dir: &Path, group: GroupId, error: StoreError) -> StoreError {
    // After a full disk and the like the next start does it again.
    if !matches!(error, StoreError::Corrupt { .. } | StoreError::Poisoned(_)) {
        return error;
    }
    let mark = || {
        disk.create_dir(dir)?;
        disk.open(&dir.join(ENGINE_DAMAGED), true)?.sync()?;
        disk.sync_dir(dir)
    };
    if let Err(unmarked) = mark() {
        return unmarked;
    }
    let detail = format!(
        "it cannot be replaced ({error}): restart the node, and it begins with new files, filled from snapshots and log"
    );
    StoreError::Corrupt { place: format!("state of {group}"), detail }
}

/// Whom the state and the snapshots of a group name as members, as far as they can be read.
pub(crate) fn named_members(
    engine: &dyn StateView,
    group: GroupId,
    disk: &dyn Disk,
    dir: &Path,
) -> Vec<StoredMembership> {
    let names = disk.list(dir).unwrap_or_default();
    let snapshots = names.iter().filter(|name| name.starts_with(COMPLETE_PREFIX));
    let snapshots = snapshots.filter_map(|name| snapshot::open(disk, &dir.join(name), group).ok());
    let metas = read_position(engine, group).into_iter().chain(snapshots.map(|(meta, _)| meta));
    metas.map(|meta| meta.last_membership).collect()
}

/// Drops a state of which not even the position can be read; whether it did. openraft then installs the newest snapshot
/// here and applies the log above it. Only for a group whose log has its vote: without a position and a vote the node
/// would be taken for a new one.
pub(crate) fn drop_unreadable(engine: &dyn StateEngine, group: GroupId) -> Result<bool, StoreError> {
    let read = engine.get(&installing_key(group)).and_then(|_| read_position(engine, group));
    match read {
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::warn!(%group, %error, "the state is damaged: it is made again from snapshot and log");
            drop_state(engine, group)?;
            Ok(true)
        }
        other => other.map(|_| false),
    }
}

/// The state cannot be had from what is on this node.
pub(crate) fn unreachable_state(group: GroupId, entry: Option<u64>) -> StoreError {
    let entry = entry.map_or_else(|| "some".to_owned(), |index| index.to_string());
    StoreError::Corrupt {
        place: format!("state of {group}"),
        detail: format!("neither state, nor snapshot, nor log here leads beyond entry {entry}"),
    }
}
