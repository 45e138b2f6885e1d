//! openraft's log storage over the node's [`LogEngine`], for one group.
//!
//! Promises: a vote, a truncation and a purge are durable when their call returns; an append is reported as flushed only
//! from the engine's own callback. What is read is checked: an entry that does not carry the index under which it is
//! stored, or a gap, is an error, and openraft then stops the replica.
//!
//! Left out: the committed index is not saved. A restarted node learns it from its leader, which is why the groups run
//! with `enable_leader_restore` off and serve reads only behind a barrier.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use dinhba_core::ids::GroupId;
use dinhba_core::inject::{is_armed, sometimes};
use dinhba_core::store::{Done, LogEngine, StoreError};
use futures::stream::{self, Stream, TryStreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, entry::RaftEntry};
use tokio::sync::oneshot;

use super::types::{
    Entry, LogId, Malformed, Membership, RaftVote, TypeConfig, decode_entry, decode_log_id, decode_vote, encode_entry,
    encode_log_id, encode_vote,
};

/// Entries read from the engine at a time: bounds memory while a long log is replayed, at 64 times the longest command.
const STEP_ENTRIES: u64 = 64;

/// Bytes of entries for one message to a follower: with one more entry and the envelope they stay below a frame.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// The log of one group. Clones read and write the same log.
#[derive(Clone)]
pub struct LogStore {
    engine: Arc<dyn LogEngine>,
    group: GroupId,
    /// The last durable vote: openraft asks for it around every read of the log.
    vote: Arc<Mutex<Option<RaftVote>>>,
}

impl LogStore {
    /// Opens the group's log; fails if the engine's last vote does not parse.
    pub fn open(engine: Arc<dyn LogEngine>, group: GroupId) -> Result<Self, StoreError> {
        let vote = engine.state(group)?.vote;
        let vote = vote.map(|bytes| decode_vote(&bytes)).transpose().map_err(|error| damaged(group, &error))?;
        Ok(LogStore { engine, group, vote: Arc::new(Mutex::new(vote)) })
    }

    /// The last entry that it holds or held.
    pub(crate) fn last(&self) -> Result<Option<u64>, StoreError> {
        let state = self.engine.state(self.group)?;
        Ok(state.last.map(|(index, _)| index).max(state.purged.map(|(index, _)| index)))
    }

    /// The last entry that it no longer holds.
    pub(crate) fn purged(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.engine.state(self.group)?.purged.map(|(index, _)| index))
    }

    /// Entries from `from` to before `to`, some of the first of them; none if it does not hold the first.
    pub(crate) fn some(&self, from: u64, to: u64) -> Result<Vec<Entry>, StoreError> {
        let stored = self.engine.read(self.group, from, to.min(from.saturating_add(STEP_ENTRIES)))?;
        let begins = stored.first().is_some_and(|(index, _)| *index == from);
        if begins { self.parse(stored) } else { Ok(Vec::new()) }
    }

    /// What the log holds at `index`; none if it holds nothing there, or no longer.
    pub(crate) fn at(&self, index: u64) -> Result<Option<LogId>, StoreError> {
        Ok(self.some(index, index.saturating_add(1))?.first().map(|entry| entry.log_id()))
    }

    /// The last two sets of members that it names.
    pub(crate) fn memberships(&self) -> Result<Vec<Membership>, StoreError> {
        let mut found: Vec<Membership> = Vec::new();
        let mut next = self.purged()?.map_or(0, |purged| purged + 1);
        loop {
            let entries = self.some(next, u64::MAX)?;
            let Some(last) = entries.last() else { break };
            next = last.index() + 1;
            found.extend(entries.iter().filter_map(|entry| entry.get_membership()));
            found.drain(..found.len().saturating_sub(2));
        }
        Ok(found)
    }

    /// Removes entries at `from` and above which a majority has replaced; with nothing to remove, waits until everything
    /// that was written before is durable.
    pub(crate) async fn truncate_from(&self, from: u64) -> Result<(), StoreError> {
        self.durable(|engine, done| engine.truncate_from(self.group, from, done))
            .await
            .map_err(|error| StoreError::Io(error.to_string()))
    }

    /// Whether a vote was ever saved.
    pub(crate) fn has_vote(&self) -> bool {
        self.vote.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Runs one of the engine's writes and waits until it is durable.
    async fn durable(&self, write: impl FnOnce(&dyn LogEngine, Done)) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        write(
            &*self.engine,
            Box::new(move |result| {
                // openraft may have given up on it: then nobody waits.
                let _ = sender.send(result);
            }),
        );
        match receiver.await {
            Ok(result) => result.map_err(to_io),
            Err(_) => Err(io::Error::other("the log engine stopped before it answered")),
        }
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, io::Error> {
        self.engine.read(self.group, from, to).and_then(|stored| self.parse(stored)).map_err(to_io)
    }

    fn parse(&self, stored: Vec<(u64, Vec<u8>)>) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = Vec::with_capacity(stored.len());
        for (index, bytes) in stored {
            let entry = decode_entry(&bytes).map_err(|error| damaged(self.group, &error))?;
            let follows = entries.last().is_none_or(|last| last.index() + 1 == index);
            if entry.index() != index || !follows {
                let error = Malformed { what: "log", why: format!("entry {} stored at {index}", entry.log_id()) };
                return Err(damaged(self.group, &error));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn damaged(group: GroupId, error: &Malformed) -> StoreError {
    StoreError::Corrupt { place: format!("log of {group}"), detail: error.to_string() }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&from) => from,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&to) => to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

pub(crate) fn to_io(error: StoreError) -> io::Error {
    io::Error::other(error)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = half_open(&range);
        if from >= to { Ok(Vec::new()) } else { self.read(from, to) }
    }

    /// In steps: a node that replays its log at start would otherwise hold all of it.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = half_open(&range);
        let steps = stream::try_unfold((self.clone(), from), move |(log, from)| async move {
            if from >= to {
                return Ok(None);
            }
            let entries = log.read(from, to.min(from.saturating_add(STEP_ENTRIES)))?;
            let Some(last) = entries.last() else { return Ok(None) };
            let next = last.index() + 1;
            Ok::<_, io::Error>(Some((stream::iter(entries.into_iter().map(Ok)), (log, next))))
        });
        Box::pin(steps.try_flatten())
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(*self.vote.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let (mut stored, mut bytes, mut from) = (Vec::new(), 0, start);
        'full: while from < end {
            let step = self.engine.read(self.group, from, end.min(from.saturating_add(STEP_ENTRIES))).map_err(to_io)?;
            let Some(&(last, _)) = step.last() else { break };
            from = last + 1;
            for entry in step {
                bytes += entry.1.len();
                // The first always goes, or replication would never move.
                if bytes > MESSAGE_BYTES_MAX && !stored.is_empty() {
                    break 'full;
                }
                stored.push(entry);
            }
        }
        self.parse(stored).map_err(to_io)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.engine.state(self.group).map_err(to_io)?;
        let in_group = |error: Malformed| to_io(damaged(self.group, &error));
        let purged = match state.purged {
            Some((index, mark)) => {
                let id = decode_log_id(&mark).map_err(in_group)?;
                if id.index != index {
                    let why = format!("the mark {id} stands at {index}");
                    return Err(in_group(Malformed { what: "purge mark", why }));
                }
                Some(id)
            }
            None => None,
        };
        let last = state.last.map(|(_, bytes)| decode_entry(&bytes)).transpose().map_err(in_group)?;
        let last = last.map(|entry| entry.log_id());
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        // Persist, then let it be seen: a vote that a crash could take back must not be answered.
        if is_armed("vote-not-saved") && self.has_vote() {
            *self.vote.lock().unwrap_or_else(PoisonError::into_inner) = Some(*vote);
            return Ok(());
        }
        self.durable(|engine, done| engine.save_vote(self.group, encode_vote(vote), done)).await?;
        *self.vote.lock().unwrap_or_else(PoisonError::into_inner) = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| (entry.index(), encode_entry(&entry))).collect();
        let done = Box::new(move |result: Result<(), StoreError>| callback.io_completed(result.map_err(to_io)));
        self.engine.append(self.group, entries, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        sometimes("entries that nobody accepted are removed", true);
        let from = last.map_or(0, |last| last.index + 1);
        self.durable(|engine, done| engine.truncate_from(self.group, from, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let too_far = if is_armed("purge-too-far") { 20 } else { 0 };
        let upto = LogId { index: upto.index + too_far, ..upto };
        self.durable(|engine, done| engine.purge_to(self.group, upto.index, encode_log_id(&upto), done)).await
    }
}
