//! The state engines: one ordered key space per node, behind [`StateEngine`].
//!
//! Owns the choice of engine and what all of them share: values sealed and checksummed by one codec, limits on keys, the
//! folding of a batch, and the rule that a failed write stops the engine until a restart. Promises what the trait
//! promises. Leaves to its caller what goes into a batch and when to `sync`.
//!
//! | engine | for | snapshot |
//! |---|---|---|
//! | `lsm` | production; has no journal but the Raft log | its own |
//! | `fjall` | by name, the default of earlier versions | its own |
//! | `sled` | experimental; nothing of it outlives a crash; its limits are in its file | copies of what later batches replace |
//! | `memory` | tests and the simulator | the same |
//!
//! Limit: [`clear`](StateEngine::clear) removes a long range in several batches, so a power cut in the middle of it
//! leaves a part of the range. Who replaces a group by a snapshot keeps a mark outside the range until it is in place.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use dinhba_core::store::{Batch, StateEngine, StoreError};

use crate::seal::{Codec, Sealer, hex};

#[cfg(test)]
mod conformance;
mod fjall;
mod lsm;
mod memory;
mod overlaid;
mod segments;
mod sled;

pub use self::fjall::Paced as PacedFjall;
pub use self::lsm::{Unjournaled as UnjournaledLsm, is_grown};
pub use memory::MemoryState;
pub use segments::{End, Place, SegmentSizes, Segments};

/// A key has at most this many bytes: ours are below 100, and no engine is tried with longer ones.
pub const KEY_BYTES_MAX: usize = 1024;
/// `clear` removes this many keys per batch: enough that a flush is not dominated by batches, few enough that a batch
/// (keys of up to a hundred bytes) stays far below a memtable.
const CLEAR_BATCH_KEYS: usize = 4096;

/// Which engine holds the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// fjall 3.
    Fjall,
    /// `lsm-tree` 3, without a journal: the default.
    #[default]
    Lsm,
    /// sled 0.34, experimental.
    Sled,
    /// A map in memory, empty at each start.
    Memory,
}

/// The name of an engine was not one we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an engine: expected fjall, lsm, sled or memory")]
pub struct UnknownEngine(String);

impl FromStr for EngineKind {
    type Err = UnknownEngine;
    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        match name {
            "fjall" => Ok(EngineKind::Fjall),
            "lsm" => Ok(EngineKind::Lsm),
            "sled" => Ok(EngineKind::Sled),
            "memory" => Ok(EngineKind::Memory),
            other => Err(UnknownEngine(other.to_owned())),
        }
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EngineKind::Fjall => "fjall",
            EngineKind::Lsm => "lsm",
            EngineKind::Sled => "sled",
            EngineKind::Memory => "memory",
        })
    }
}

/// Opens the state in `dir`, making it if it is not there. `memory` ignores `dir` and starts empty.
pub fn open(kind: EngineKind, dir: &Path, sealer: Arc<dyn Sealer>) -> Result<Arc<dyn StateEngine>, StoreError> {
    Ok(match kind {
        EngineKind::Fjall => Arc::new(fjall::FjallState::open(dir, Codec::new(sealer))?),
        EngineKind::Lsm => Arc::new(lsm::LsmState::open(dir, sealer)?),
        EngineKind::Sled => Arc::new(sled::open(dir, Codec::new(sealer))?),
        EngineKind::Memory => Arc::new(MemoryState::new(sealer)),
    })
}

/// Stored writes of one batch: one per key (the last counts), in the order of the keys.
type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Seals the values of `batch` and keeps the last write to each key. Refuses keys that an engine could not hold.
fn fold(batch: Batch, codec: &Codec) -> Result<Writes, StoreError> {
    Ok(in_order(batch, |key, value| codec.encode(key, &value))?.into_iter().collect())
}

/// A stored write: its key, and the value or that there is none.
type Write = (Vec<u8>, Option<Vec<u8>>);

/// The same as a list in the order of the keys, whatever is stored for a value. Most batches come in that order, but for one key.
fn in_order(mut batch: Batch, stored: impl Fn(&[u8], Vec<u8>) -> Vec<u8>) -> Result<Vec<Write>, StoreError> {
    // Stable: of two writes to one key the later stays behind the earlier.
    batch.writes.sort_by(|one, other| one.0.cmp(&other.0));
    let mut writes: Vec<Write> = Vec::with_capacity(batch.writes.len());
    for (key, value) in batch.writes {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let start = hex(&key[..key.len().min(16)]);
            let text = format!("refused a key of {} bytes ({start}…): 1 to {KEY_BYTES_MAX} are allowed", key.len());
            return Err(StoreError::Io(text));
        }
        let stored = value.map(|value| stored(&key, value));
        match writes.last_mut().filter(|last| last.0 == key) {
            Some(earlier) => earlier.1 = stored,
            None => writes.push((key, stored)),
        }
    }
    Ok(writes)
}

/// Remembers the first failure that makes an engine unsafe to go on with.
#[derive(Debug, Default)]
struct Poison(OnceLock<String>);

impl Poison {
    /// Runs `work` unless poisoned. A panic inside it (sled panics on damaged files) poisons and reads as damage at
    /// `place`; its locks and caches can no longer be trusted.
    fn read<T>(&self, place: &str, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(reason) = self.0.get() {
            return Err(StoreError::Poisoned(reason.clone()));
        }
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            let detail = format!("the engine panicked: {text}");
            let _already_poisoned = self.0.set(detail.clone());
            Err(StoreError::Corrupt { place: place.to_owned(), detail })
        })
    }

    /// Like `read`, for what changes the disk: any error poisons.
    fn write<T>(&self, place: &str, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.read(place, work).inspect_err(|error| {
            if !matches!(error, StoreError::Poisoned(_)) {
                let _already_poisoned = self.0.set(error.to_string());
            }
        })
    }

    /// Whether something failed.
    fn is_set(&self) -> bool {
        self.0.get().is_some()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// What opening says after each file of a database was damaged, in each of four ways, in copies of it.
    pub(crate) fn damaged_in_turn(
        whole: &Path,
        open: &dyn Fn(&Path) -> Result<(), StoreError>,
    ) -> Vec<(String, Result<(), StoreError>)> {
        let mut told = Vec::new();
        let below = files_below(whole);
        for file in &below {
            for harm in ["gone", "emptied", "cut in half", "begins with zeros"] {
                let copy = tempfile::tempdir().unwrap();
                for from in &below {
                    let to = copy.path().join(from.strip_prefix(whole).unwrap());
                    fs::create_dir_all(to.parent().unwrap()).unwrap();
                    fs::copy(from, to).unwrap();
                }
                let path = copy.path().join(file.strip_prefix(whole).unwrap());
                let mut bytes = fs::read(&path).unwrap();
                match harm {
                    "gone" => fs::remove_file(&path).unwrap(),
                    "emptied" => fs::write(&path, []).unwrap(),
                    "cut in half" => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                    _ => {
                        bytes.iter_mut().take(16).for_each(|byte| *byte = 0);
                        fs::write(&path, bytes).unwrap();
                    }
                }
                told.push((format!("{} {harm}", path.strip_prefix(&copy).unwrap().display()), open(copy.path())));
            }
        }
        told
    }

    fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
        }
        files.sort();
        files
    }

    pub(crate) fn is_open_or_damage(outcome: &Result<(), StoreError>) -> bool {
        matches!(outcome, Ok(()) | Err(StoreError::Corrupt { .. }))
    }

    #[test]
    fn engines_are_named() {
        for kind in [EngineKind::Fjall, EngineKind::Lsm, EngineKind::Sled, EngineKind::Memory] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("rocksdb".parse::<EngineKind>().is_err());
    }

    #[test]
    fn a_failed_write_and_a_panic_poison_and_a_failed_read_does_not() {
        let damaged = || StoreError::Corrupt { place: "key 01".to_owned(), detail: String::new() };
        let poison = Poison::default();
        assert_eq!(poison.read("p", || Err::<(), _>(damaged())), Err(damaged()));
        assert_eq!(poison.read("p", || Ok(1)), Ok(1));
        assert_eq!(
            poison.write("p", || Err::<(), _>(StoreError::Full("f".to_owned()))),
            Err(StoreError::Full("f".to_owned()))
        );
        assert!(matches!(poison.read("p", || Ok(1)), Err(StoreError::Poisoned(_))));

        let poison = Poison::default();
        let caught = poison.read("db", || -> Result<(), StoreError> { std::panic::panic_any("damaged page") });
        assert!(
            matches!(&caught, Err(StoreError::Corrupt { place, detail }) if place == "db" && detail.contains("damaged page"))
        );
        assert!(matches!(poison.read("p", || Ok(1)), Err(StoreError::Poisoned(_))));
    }
}
