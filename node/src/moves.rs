//! Which shards of a group moved when, so that whoever follows many of them looks at those alone that did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dinhba_core::ids::ShardId;
use dinhba_core::sync::Moved;

/// The moves of one group's state; a clone speaks of the same ones.
#[derive(Debug, Clone, Default)]
pub struct Moves(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// How often the state moved since the node started.
    count: u64,
    /// The last move that may have been one of every shard.
    of_all: u64,
    /// The last move of each shard, and the same by moves.
    of_shard: BTreeMap<ShardId, u64>,
    by_move: BTreeSet<(u64, ShardId)>,
}

impl Moves {
    /// The state moved, of these shards.
    pub fn note(&self, moved: Moved) {
        let mut inner = self.inner();
        inner.count += 1;
        let count = inner.count;
        let shards = match moved {
            Moved::Shards(shards) => shards,
            Moved::Any => {
                *inner = Inner { count, of_all: count, ..Inner::default() };
                return;
            }
        };
        for shard in shards {
            if let Some(before) = inner.of_shard.insert(shard, count) {
                inner.by_move.remove(&(before, shard));
            }
            inner.by_move.insert((count, shard));
        }
    }

    /// How often the state has moved by now.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.inner().count
    }

    /// What moved after the state had moved `seen` times, and how often it has by now.
    #[must_use]
    pub fn since(&self, seen: u64) -> (Moved, u64) {
        let inner = self.inner();
        let moved = match inner.of_all > seen {
            true => Moved::Any,
            false => {
                let later = inner.by_move.range((seen + 1, ShardId(0))..);
                Moved::Shards(later.map(|(_, shard)| *shard).collect())
            }
        };
        (moved, inner.count)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(shards: &[u64]) -> Moved {
        Moved::Shards(shards.iter().copied().map(ShardId).collect())
    }

    #[test]
    fn whoever_was_away_is_told_each_shard_once_and_after_a_snapshot_all() {
        let moves = Moves::default();
        moves.note(shards(&[1, 2]));
        let seen = moves.count();
        assert_eq!(moves.since(0), (shards(&[1, 2]), seen));
        assert_eq!(moves.since(seen), (shards(&[]), seen));
        moves.note(shards(&[2]));
        moves.note(shards(&[3, 2]));
        assert_eq!(moves.since(seen), (shards(&[2, 3]), seen + 2));
        assert_eq!(moves.since(seen + 1).0, shards(&[2, 3]));
        moves.note(Moved::Any);
        assert_eq!(moves.since(seen), (Moved::Any, seen + 3));
        moves.note(shards(&[5]));
        assert_eq!(moves.since(seen + 3), (shards(&[5]), seen + 4));
    }
}
