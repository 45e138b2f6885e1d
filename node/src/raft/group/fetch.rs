//! A snapshot of another member, for a replica that can make its state from nothing that it has itself.
//!
//! [`Asker`] asks one member after the other, again and again, until one has given a whole snapshot that reaches the asker's
//! log; [`Lending`] is the answering side. It is a pull: every call is answered with one chunk, or with word that the file is
//! being written or checked. Nothing of Raft is said by it: no vote, no entry, no promise. Any member may be asked, since a
//! snapshot is a state that a majority accepted, and only members are answered, as their certificates say who they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dinhba_core::ids::{GroupId, NodeId};
use dinhba_core::inject::sometimes;
use dinhba_proto::peer::v1 as wire;

use crate::disk::Disk;
use crate::proof::Spell;
use crate::raft::incoming::CHUNK_BYTES_MAX;
use crate::raft::incoming::{Incoming, NotTaken, PARTIAL_KEPT, judge};
use crate::raft::machine::Lender;
use crate::raft::network::{CHUNK_WAIT, chunk_of};
use crate::raft::peer::{Body, PeerPool, failure};
use crate::raft::snapshot::SnapshotFile;
use crate::raft::types::{Membership, SnapshotMeta, meta_from_wire};
use crate::runtime::{self, Instant};

/// Pause after all members were asked in vain; doubles up to [`ASK_PAUSE_MAX`].
const ASK_PAUSE_MIN: Duration = Duration::from_millis(500);

/// The longest pause: a member that comes back is asked soon, and the log is not full of refusals.
pub(super) const ASK_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pause before a member is asked again that is writing or checking its file.
const WRITING_PAUSE: Duration = Duration::from_millis(200);

/// How long it may write: the whole state is read and written, which takes minutes.
const WRITING_WAIT: Duration = Duration::from_secs(30 * 60);

/// How long a file that was read and checked is taken for whole when somebody begins to fetch it.
const CHECKED_LATELY: Duration = Duration::from_secs(30);

/// The name of a fetched file while it arrives; a start removes what it finds under it.
const FETCHED: &str = "fetched.tmp";

/// Asks for a snapshot.
pub(super) struct Asker {
    pub(super) group: GroupId,
    pub(super) here: u64,
    pub(super) pool: PeerPool,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// Who may have one, and where each listens, as far as known.
    pub(super) others: BTreeMap<NodeId, BTreeSet<String>>,
    pub(super) incoming: Option<Incoming>,
    /// Who has given nothing yet, for the log.
    pub(super) refusals: BTreeMap<NodeId, Spell>,
}

impl Asker {
    /// From now on this node is asked too.
    pub(super) fn learn(&mut self, node: NodeId, address: &str) {
        if node.0 != self.here && !address.is_empty() {
            self.others.entry(node).or_default().insert(address.to_owned());
        }
    }

    /// From now on these members are asked too.
    pub(super) fn learn_all(&mut self, membership: &Membership) {
        membership.nodes().for_each(|(&node, data)| self.learn(NodeId(node), &data.address));
    }

    /// Asks until it has a snapshot that goes at least up to `reach`; `tell` is told why it has none yet.
    pub(super) async fn fetch(&mut self, reach: u64, tell: impl Fn(String)) -> (SnapshotMeta, SnapshotFile) {
        let mut pause = ASK_PAUSE_MIN;
        loop {
            let mut whys = Vec::new();
            for (node, addresses) in self.others.clone() {
                for address in addresses {
                    match self.fetch_from(node, &address, reach).await {
                        Ok(fetched) => {
                            sometimes("a snapshot is fetched from another member", true);
                            tracing::warn!(group = %self.group, %node, bytes = fetched.1.bytes, "fetched its snapshot");
                            self.refusals.clear();
                            return fetched;
                        }
                        Err(why) => {
                            if self.refusals.entry(node).or_default().failed() {
                                tracing::warn!(group = %self.group, %node, address, why, "no snapshot from there yet");
                            }
                            whys.push(format!("{node}: {why}"));
                        }
                    }
                }
            }
            tell(whys.join("; "));
            runtime::sleep(runtime::jitter(pause)).await;
            pause = (pause * 2).min(ASK_PAUSE_MAX);
        }
    }

    async fn fetch_from(
        &mut self,
        node: NodeId,
        address: &str,
        reach: u64,
    ) -> Result<(SnapshotMeta, SnapshotFile), String> {
        let mut patience = runtime::now() + WRITING_WAIT;
        loop {
            let (hash, offset) = self
                .incoming
                .as_ref()
                .map_or_else(Default::default, |incoming| (incoming.hash().0.to_vec(), incoming.next()));
            let request = Body::Fetch(wire::FetchRequest { reach, hash, offset });
            let chunk = match self.pool.call(node.0, address, self.group, request, CHUNK_WAIT).await {
                Ok(Body::FetchAnswer(chunk)) => chunk,
                Ok(Body::Failure(failure)) if failure.kind() == wire::FailureKind::Malformed => {
                    return Err(format!("it does not understand, is it of an older version? ({})", failure.detail));
                }
                Ok(Body::Failure(failure)) => return Err(failure.detail),
                Ok(_) => return Err("an answer of another kind".to_owned()),
                Err(error) => return Err(error.to_string()),
            };
            if chunk.data.is_empty() {
                if runtime::now() >= patience {
                    return Err(format!("its snapshot was not written in {WRITING_WAIT:?}"));
                }
                runtime::sleep(WRITING_PAUSE).await;
                continue;
            }
            patience = runtime::now() + WRITING_WAIT;
            match self.take(&chunk, reach) {
                Ok(Some(fetched)) => return Ok(fetched),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Takes a chunk; gives the file if it was the last. What is here stays for another attempt, unless it proved wrong.
    fn take(
        &mut self,
        chunk: &wire::SnapshotChunk,
        reach: u64,
    ) -> Result<Option<(SnapshotMeta, SnapshotFile)>, NotTaken> {
        let refused = |why: String| NotTaken::Refused(why);
        let hash = judge(chunk)?;
        let position = chunk.position.clone().ok_or_else(|| refused("a chunk without a position".to_owned()))?;
        let meta = meta_from_wire(position).map_err(|error| refused(error.to_string()))?;
        if meta.last_log_id.is_none_or(|last| last.index < reach) {
            return Err(refused(format!("its snapshot does not reach entry {reach}")));
        }
        let is_same = self.incoming.as_ref().is_some_and(|there| there.is_of(hash, chunk.bytes));
        if !is_same {
            self.incoming = None;
            self.incoming = Some(Incoming::begin(&*self.disk, self.dir.join(FETCHED), hash, chunk.bytes)?);
        }
        let Some(mut incoming) = self.incoming.take() else { return Ok(None) };
        match incoming.take(chunk) {
            Ok(()) if incoming.is_complete() => {
                let file = runtime::blocking(|| incoming.finish(&*self.disk, self.group, &meta))?;
                Ok(Some((meta, file)))
            }
            Ok(()) => {
                self.incoming = Some(incoming);
                Ok(None)
            }
            Err(NotTaken::Refused(why)) => {
                self.incoming = Some(incoming);
                Err(NotTaken::Refused(why))
            }
            Err(error) => Err(error),
        }
    }
}

/// The snapshot that is being given to others. It stays the same while it is asked for, though newer ones are written.
pub(super) struct Lending {
    group: GroupId,
    lender: Lender,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// It is written, or checked.
    Writing,
    Failed(String),
    Lent(Lent),
}

struct Lent {
    meta: SnapshotMeta,
    file: SnapshotFile,
    checked: Instant,
    used: Instant,
}

impl Lent {
    /// From where on it is given for this request: from the beginning only if it was checked just now.
    fn offset_for(&self, request: &wire::FetchRequest) -> Option<u64> {
        let reaches = self.meta.last_log_id.is_some_and(|last| last.index >= request.reach);
        let goes_on = request.hash == self.file.hash.0 && request.offset > 0;
        let begins = runtime::now() - self.checked < CHECKED_LATELY;
        (reaches && (goes_on || begins)).then_some(if goes_on { request.offset } else { 0 })
    }
}

impl Lending {
    pub(super) fn new(group: GroupId, lender: Lender) -> Arc<Self> {
        Arc::new(Lending { group, lender, state: Mutex::new(State::Idle) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a member. At once: what takes long is done meanwhile, and the member asks again.
    pub(super) fn answer(self: &Arc<Self>, request: &wire::FetchRequest) -> Body {
        let mut state = self.state();
        if let State::Lent(lent) = &mut *state
            && let Some(offset) = lent.offset_for(request)
        {
            lent.used = runtime::now();
            let chunk = chunk_of(&lent.meta, &lent.file, offset, CHUNK_BYTES_MAX);
            return chunk.map_or_else(|error| refused(error.to_string()), Body::FetchAnswer);
        }
        if let State::Failed(why) = &mut *state {
            let why = std::mem::take(why);
            *state = State::Idle;
            return refused(why);
        }
        if !matches!(*state, State::Writing) {
            *state = State::Writing;
            runtime::spawn("lend a snapshot", Arc::clone(self).prepare(request.reach));
        }
        Body::FetchAnswer(wire::SnapshotChunk::default())
    }

    /// Has the snapshot ready, and lets it go once nobody has asked for it for long: a file that a newer one replaced takes room
    /// on the disk for as long as it is held.
    async fn prepare(self: Arc<Self>, reach: u64) {
        let lent = runtime::blocking(|| self.lender.lend(reach));
        let now = runtime::now();
        let lent = match lent {
            Ok((meta, file)) => State::Lent(Lent { meta, file, checked: now, used: now }),
            Err(error) => {
                tracing::warn!(group = %self.group, %error, "another member asks for a snapshot, and there is none to give");
                State::Failed(error.to_string())
            }
        };
        *self.state() = lent;
        let lending = Arc::downgrade(&self);
        drop(self);
        expire(lending, now + PARTIAL_KEPT).await;
    }
}

async fn expire(lending: Weak<Lending>, mut until: Instant) {
    loop {
        runtime::sleep_until(until).await;
        let Some(lending) = lending.upgrade() else { return };
        let mut state = lending.state();
        match &*state {
            State::Lent(lent) if lent.used + PARTIAL_KEPT > runtime::now() => until = lent.used + PARTIAL_KEPT,
            // It has a successor that looks after it.
            State::Writing => return,
            _ => {
                *state = State::Idle;
                return;
            }
        }
    }
}

fn refused(why: String) -> Body {
    failure(wire::FailureKind::Refused, why)
}
