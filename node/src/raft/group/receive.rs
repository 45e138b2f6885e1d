//! Receiving a snapshot that the leader sends: chunks into a file, then the hash, then openraft installs it.
//!
//! One file at a time: another one replaces what there is of an earlier. A transfer that was broken off goes on where it
//! stopped if the same file is offered again, by whomever; what is not offered again is removed after a while, so that
//! transfers that fail do not fill the disk. A restart forgets what there was.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use dinhba_core::ids::GroupId;
use dinhba_core::inject::sometimes;
use dinhba_proto::peer::v1 as wire;
use openraft::Raft;
use openraft::storage::Snapshot;
use tokio::sync::Mutex;

use super::serve::stopped;
use crate::disk::Disk;
use crate::raft::incoming::{Incoming, NotTaken, PARTIAL_KEPT, judge};
use crate::raft::machine::StateMachine;
use crate::raft::peer::{Body, failure};
use crate::raft::types::{TypeConfig, meta_from_wire, vote_required, vote_to_wire};
use crate::runtime;

pub(super) struct Receiving {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    group: GroupId,
    current: Mutex<Option<Transfer>>,
}

struct Transfer {
    /// Whose chunks are taken: those of the last one that began or went on.
    id: u64,
    incoming: Incoming,
}

/// What became of a chunk.
enum Taken {
    /// The offset that is expected next.
    Next(u64),
    Complete(Incoming),
}

fn refused(why: impl ToString) -> Body {
    failure(wire::FailureKind::Refused, why.to_string())
}

impl Receiving {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, group: GroupId) -> Arc<Self> {
        Arc::new(Receiving { disk, dir: dir.to_owned(), group, current: Mutex::new(None) })
    }

    pub(super) async fn chunk(
        self: &Arc<Self>,
        raft: &Raft<TypeConfig, StateMachine>,
        chunk: wire::SnapshotChunk,
    ) -> Body {
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
        let incoming = match self.take(&mut current, &chunk) {
            Ok(Taken::Next(next)) => return Body::SnapshotAnswer(wire::SnapshotAnswer { next, vote: None }),
            Ok(Taken::Complete(incoming)) => incoming,
            Err(error) => {
                // A chunk that is refused leaves the file as it was; a disk that refuses one does not.
                if matches!(error, NotTaken::Store(_))
                    && let Some(given_up) = current.take()
                {
                    self.remove(given_up.incoming.path());
                }
                return refused(error);
            }
        };
        // Held until it is installed: a second transfer would write over the file.
        let path = incoming.path().to_owned();
        let file = match runtime::blocking(|| incoming.finish(&*self.disk, self.group, &meta)) {
            Ok(complete) => complete,
            Err(error) => {
                self.remove(&path);
                return refused(error);
            }
        };
        match raft.install_full_snapshot(vote, Snapshot { meta, snapshot: file }).await {
            Ok(answer) => {
                // If it was installed it has its lasting name by now; openraft passes over one that tells it nothing new.
                self.remove(&path);
                let vote = Some(vote_to_wire(&answer.vote));
                Body::SnapshotAnswer(wire::SnapshotAnswer { next: chunk.bytes, vote })
            }
            Err(error) => stopped(&error),
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path) {
            tracing::warn!(group = %self.group, file = %path.display(), %error, "a received file stays until the next start");
        }
    }

    /// Takes a chunk; gives the file back if it was the last.
    fn take(self: &Arc<Self>, current: &mut Option<Transfer>, chunk: &wire::SnapshotChunk) -> Result<Taken, NotTaken> {
        let hash = judge(chunk)?;
        if chunk.offset == 0 {
            if let Some(there) = current.as_mut().filter(|there| there.incoming.is_of(hash, chunk.bytes))
                && chunk.resumable
            {
                sometimes("a snapshot's transfer goes on where it broke off", true);
                there.id = chunk.transfer;
                there.incoming.touch();
                return Ok(Taken::Next(there.incoming.next()));
            }
            if let Some(old) = current.take() {
                sometimes("a snapshot's transfer begins anew", true);
                self.disk.remove(old.incoming.path())?;
            }
            let path = self.dir.join(format!("incoming-{:016x}.tmp", chunk.transfer));
            let incoming = Incoming::begin(&*self.disk, path, hash, chunk.bytes)?;
            *current = Some(Transfer { id: chunk.transfer, incoming });
            runtime::spawn("partial snapshot", Self::expire(Arc::downgrade(self), chunk.transfer));
        }
        let there = current.as_mut().filter(|there| there.id == chunk.transfer);
        let there =
            there.ok_or_else(|| NotTaken::Refused("no such transfer, or another took over: begin again".into()))?;
        there.incoming.take(chunk)?;
        if !there.incoming.is_complete() {
            return Ok(Taken::Next(there.incoming.next()));
        }
        let complete = current.take().ok_or_else(|| NotTaken::Refused("no such transfer".into()))?;
        Ok(Taken::Complete(complete.incoming))
    }

    /// Removes the file that began with this transfer once nobody has sent anything of it for long.
    async fn expire(receiving: Weak<Self>, began_as: u64) {
        let name = format!("incoming-{began_as:016x}.tmp");
        let mut until = runtime::now() + PARTIAL_KEPT;
        loop {
            runtime::sleep_until(until).await;
            let Some(receiving) = receiving.upgrade() else { return };
            let mut current = receiving.current.lock().await;
            let is_it = |there: &&mut Transfer| there.incoming.path().ends_with(&name);
            let Some(there) = current.as_mut().filter(is_it) else { return };
            until = there.incoming.touched() + PARTIAL_KEPT;
            if until > runtime::now() {
                continue;
            }
            if let Some(given_up) = current.take() {
                tracing::info!(group = %receiving.group, "a snapshot that nobody goes on sending is removed");
                receiving.remove(given_up.incoming.path());
            }
            return;
        }
    }
}
