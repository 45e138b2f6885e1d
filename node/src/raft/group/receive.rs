//! Receiving a snapshot: chunks into a file, then the hash, then openraft installs it.
//!
//! One transfer at a time: a new one replaces what an earlier one left. The sender starts over if anything is amiss, and
//! what was received of it is removed, so that a transfer that fails again and again does not fill the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinhba_core::ids::{GroupId, Hash};
use dinhba_core::inject::sometimes;
use dinhba_core::store::StoreError;
use dinhba_proto::peer::v1 as wire;
use openraft::Raft;
use openraft::storage::Snapshot;
use tokio::sync::Mutex;

use super::serve::stopped;
use crate::disk::{Disk, DiskFile};
use crate::raft::machine::StateMachine;
use crate::raft::network::CHUNK_BYTES_MAX;
use crate::raft::peer::{Body, failure};
use crate::raft::snapshot::{self, SnapshotFile};
use crate::raft::types::{SnapshotMeta, TypeConfig, meta_from_wire, vote_required, vote_to_wire};
use crate::runtime;

/// The length of the hash that ends a snapshot file.
const HASH_BYTES: u64 = 32;

pub(super) struct Receiving {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    group: GroupId,
    current: Mutex<Option<Incoming>>,
}

struct Incoming {
    transfer: u64,
    bytes: u64,
    hash: Hash,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    next: u64,
    hasher: blake3::Hasher,
}

fn refused(why: impl Into<String>) -> Body {
    failure(wire::FailureKind::Refused, why)
}

impl Receiving {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, group: GroupId) -> Self {
        Receiving { disk, dir: dir.to_owned(), group, current: Mutex::new(None) }
    }

    pub(super) async fn chunk(&self, raft: &Raft<TypeConfig, StateMachine>, chunk: wire::SnapshotChunk) -> Body {
        let malformed = |why: String| failure(wire::FailureKind::Malformed, why);
        let vote = match vote_required(chunk.vote, "snapshot chunk") {
            Ok(vote) => vote,
            Err(error) => return malformed(error.to_string()),
        };
        let meta = match chunk.position.clone().map(meta_from_wire) {
            Some(Ok(meta)) => meta,
            Some(Err(error)) => return malformed(error.to_string()),
            None => return malformed("a chunk without a position".into()),
        };
        // openraft takes such a snapshot for a forgery and stops.
        if meta.last_log_id.is_some_and(|last| last.leader_id.term > vote.leader_id.term) {
            return malformed("a snapshot from after its leader's term".into());
        }
        let mut current = self.current.lock().await;
        let taken = match self.take(&mut current, &chunk) {
            Ok(taken) => taken,
            Err(why) => {
                sometimes("a snapshot's transfer begins anew", true);
                if let Some(given_up) = current.take() {
                    self.remove(&given_up.path);
                }
                return refused(why);
            }
        };
        let Some(incoming) = taken else {
            let next = chunk.offset + chunk.data.len() as u64;
            return Body::SnapshotAnswer(wire::SnapshotAnswer { next, vote: None });
        };
        // Held until it is installed: a second transfer would write over the file.
        let (bytes, path) = (incoming.bytes, incoming.path.clone());
        let (meta, file) = match runtime::blocking(|| self.finish(incoming, &meta)) {
            Ok(complete) => complete,
            Err(error) => {
                self.remove(&path);
                return refused(error.to_string());
            }
        };
        match raft.install_full_snapshot(vote, Snapshot { meta, snapshot: file }).await {
            Ok(answer) => {
                // If it was installed it has its lasting name by now; openraft passes over one that tells it nothing new.
                self.remove(&path);
                Body::SnapshotAnswer(wire::SnapshotAnswer { next: bytes, vote: Some(vote_to_wire(&answer.vote)) })
            }
            Err(error) => stopped(&error),
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path) {
            tracing::warn!(group = %self.group, file = %path.display(), %error, "a received file stays until the next start");
        }
    }

    /// Writes a chunk; gives the transfer back if it was the last.
    fn take(&self, current: &mut Option<Incoming>, chunk: &wire::SnapshotChunk) -> Result<Option<Incoming>, String> {
        let hash = Hash(<[u8; 32]>::try_from(&chunk.hash[..]).map_err(|_| "a hash of another length")?);
        if chunk.data.is_empty() || chunk.data.len() > CHUNK_BYTES_MAX {
            return Err(format!("a chunk of {} bytes", chunk.data.len()));
        }
        if chunk.offset == 0 {
            let path = self.dir.join(format!("incoming-{:016x}.tmp", chunk.transfer));
            if let Some(old) = current.take() {
                self.disk.remove(&old.path).map_err(|error| error.to_string())?;
            }
            self.disk.remove(&path).map_err(|error| error.to_string())?;
            let file = self.disk.open(&path, true).map_err(|error| error.to_string())?;
            let hasher = blake3::Hasher::new();
            *current =
                Some(Incoming { transfer: chunk.transfer, bytes: chunk.bytes, hash, path, file, next: 0, hasher });
        }
        let incoming = current.as_mut().filter(|incoming| incoming.transfer == chunk.transfer);
        let incoming = incoming.ok_or("no such transfer: begin again")?;
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        if incoming.next != chunk.offset || incoming.bytes != chunk.bytes || incoming.hash != hash || end > chunk.bytes
        {
            return Err(format!("a chunk for {} where {} is next: begin again", chunk.offset, incoming.next));
        }
        incoming.file.write_at(chunk.offset, &chunk.data).map_err(|error| error.to_string())?;
        // The last bytes are the hash itself, over all that comes before.
        let hashed = chunk.bytes.saturating_sub(HASH_BYTES).saturating_sub(chunk.offset);
        let hashed = usize::try_from(hashed).unwrap_or(usize::MAX).min(chunk.data.len());
        incoming.hasher.update(&chunk.data[..hashed]);
        incoming.next = end;
        Ok(if end == chunk.bytes { current.take() } else { None })
    }

    /// Makes a received file durable and checks that it is the one that was announced.
    fn finish(&self, incoming: Incoming, meta: &SnapshotMeta) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
        let place = incoming.path.display().to_string();
        let corrupt = |detail: &str| StoreError::Corrupt { place: place.clone(), detail: detail.into() };
        incoming.file.sync()?;
        if *incoming.hasher.finalize().as_bytes() != incoming.hash.0 {
            return Err(corrupt("the received bytes have another hash"));
        }
        let (found, file) = snapshot::open(&*self.disk, &incoming.path, self.group)?;
        if found != *meta || file.hash != incoming.hash {
            return Err(corrupt("the received file is not the one that was announced"));
        }
        Ok((found, file))
    }
}
