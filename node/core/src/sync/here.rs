//! What a session reads of its own site.

use std::collections::{BTreeMap, BTreeSet};

use super::{BEGINNING, ShardHello};
use crate::command::{Batch, Branch, Cursor, Heads, Item, Statement, StatementBody};
use crate::edit::{Author, Dot, Edit};
use crate::encoding::{Malformed, Wire};
use crate::ids::{AuthorId, Hash, SessionId, ShardId, SiteId};
use crate::keys::Keys;
use crate::registry::{Arrival, AuthorState, ShardState, StoredEdit, authors, corrupt, heads, read, read_range};
use crate::store::{StateView, StoreError};

/// The edits of a batch before compression, about 16 kB after it: a few seconds of a 64 kbit/s link, so that a cut
/// wastes little. A command that is larger travels alone.
pub const BATCH_BYTES: usize = 48 * 1024;

/// The edits of a branch in one message; the rest follows when these were re-issued.
const BRANCH_BYTES: usize = 512 * 1024;

/// Positions scanned for one batch: bounds the time that one event takes.
const SCAN_MAX: usize = 4_096;

/// Which edits of the stream the peer does not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// Those that came from this neighbour.
    From(SiteId),
    /// Those that these heads cover.
    Heads(Heads),
}

impl Skip {
    fn covers(&self, arrival: &Arrival) -> bool {
        match self {
            Skip::From(peer) => arrival.from == Some(*peer),
            Skip::Heads(heads) => {
                heads.get(&arrival.dot.actor).is_some_and(|(number, _)| arrival.dot.counter <= *number)
            }
        }
    }
}

/// The state of one group, as a session reads it.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// The state.
    pub view: &'a dyn StateView,
    /// The group's keys.
    pub keys: Keys,
}

impl Here<'_> {
    /// A hosted shard.
    pub fn shard(&self, shard: ShardId) -> Result<Option<ShardState>, StoreError> {
        read(self.view, &self.keys.shard(shard))
    }

    /// A shard's heads.
    pub fn heads(&self, shard: ShardId) -> Result<Heads, StoreError> {
        heads(self.view, self.keys, shard)
    }

    /// What to say of a shard first; nothing if it is not hosted.
    pub(super) fn hello(&self, shard: ShardId, peer: SiteId) -> Result<Option<ShardHello>, StoreError> {
        let Some(state) = self.shard(shard)? else { return Ok(None) };
        let cursor = read(self.view, &self.keys.cursor(shard, peer))?;
        Ok(Some(ShardHello { shard, epoch: state.epoch, heads: self.heads(shard)?, cursor }))
    }

    /// The authors of a shard that the peer has by way of this site, itself included, each with its last number here.
    pub(super) fn authors_upstream(&self, shard: ShardId, peer: SiteId) -> Result<BTreeMap<AuthorId, u64>, StoreError> {
        let Some(state) = self.shard(shard)? else { return Ok(BTreeMap::new()) };
        let mut upstream: BTreeMap<AuthorId, u64> = authors(self.view, self.keys, shard)?
            .into_iter()
            .filter(|(_, author)| author.from != Some(peer))
            .map(|(id, author)| (id, author.number))
            .collect();
        upstream.entry(state.own.id()).or_insert(0);
        Ok(upstream)
    }

    /// The hash of an edit that is held; the hash of number 0 is zero.
    pub(super) fn hash(&self, shard: ShardId, author: AuthorId, number: u64) -> Result<Option<Hash>, StoreError> {
        if number == 0 {
            return Ok(Some(BEGINNING));
        }
        let dot = Dot { actor: author, counter: number };
        let stored: Option<StoredEdit> = read(self.view, &self.keys.edit(shard, &dot))?;
        Ok(stored.map(|stored| stored.hash))
    }

    /// The hashes of an author's edits `from..=to`, as far as they are held without a gap.
    pub(super) fn hashes(&self, shard: ShardId, author: AuthorId, from: u64, to: u64) -> Result<Vec<Hash>, StoreError> {
        let mut hashes = Vec::new();
        for number in from.max(1)..=to {
            match self.hash(shard, author, number)? {
                Some(hash) => hashes.push(hash),
                None => break,
            }
        }
        Ok(hashes)
    }

    /// Whether a cursor is a place in this site's present stream.
    pub(super) fn fits(&self, state: &ShardState, cursor: &Cursor) -> Result<bool, StoreError> {
        if cursor.epoch != state.epoch || cursor.position > state.arrivals {
            return Ok(false);
        }
        if cursor.position == 0 {
            return Ok(cursor.running == BEGINNING);
        }
        let arrival: Option<Arrival> = read(self.view, &self.keys.arrival(state.info.shard, cursor.position))?;
        Ok(arrival.is_some_and(|arrival| arrival.running == cursor.running))
    }

    /// Whether the peer has lost edits that came from it: then its cursor says too much.
    pub(super) fn lacks_own(&self, shard: ShardId, peer: SiteId, there: &Heads) -> Result<bool, StoreError> {
        let here = authors(self.view, self.keys, shard)?;
        Ok(here
            .iter()
            .filter(|(_, state)| state.from == Some(peer))
            .any(|(id, state)| there.get(id).map_or(0, |(number, _)| *number) < state.number))
    }

    /// The next batch of the stream after `scanned`, for a peer that stands at `start`, and how far was searched. It ends
    /// at the end of a command, and is empty where nothing is news.
    pub fn batch(
        &self,
        state: &ShardState,
        start: Cursor,
        scanned: u64,
        skip: &Skip,
        bytes_max: usize,
    ) -> Result<(Batch, u64), StoreError> {
        let shard = state.info.shard;
        let mut batch = Batch { shard, start, end: start, items: Vec::new(), secrets: Vec::new() };
        let (mut bytes, mut scanned) = (0, scanned);
        let mut sessions = BTreeSet::new();
        let (from, to) = self.keys.arrivals(shard, scanned + 1);
        for (count, entry) in self.view.scan(&from, &to).enumerate() {
            let (key, value) = entry?;
            let arrival = Arrival::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
            scanned = position_of(&key)?;
            if !skip.covers(&arrival) {
                let edit_key = self.keys.edit(shard, &arrival.dot);
                let stored: StoredEdit = read(self.view, &edit_key)?
                    .ok_or_else(|| corrupt(&edit_key, Malformed { what: "stream: its edit is missing" }))?;
                let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&edit_key, error))?;
                bytes += stored.bytes.len();
                sessions.insert((arrival.dot.actor, edit.header.origin.request.session));
                batch.items.push(Item { dot: arrival.dot, bytes: stored.bytes });
            }
            batch.end = Cursor { epoch: start.epoch, position: scanned, running: arrival.running };
            if arrival.last && (bytes >= bytes_max || count >= SCAN_MAX) {
                break;
            }
        }
        batch.secrets = self.secrets(shard, sessions)?;
        Ok((batch, scanned))
    }

    /// An author's edits from a number on, as many as a message holds.
    pub(super) fn branch(&self, shard: ShardId, author: AuthorId, from: u64) -> Result<Branch, StoreError> {
        let number = read::<AuthorState>(self.view, &self.keys.author(shard, author))?.map_or(0, |state| state.number);
        let edits = (from.max(1)..=number).map(|counter| {
            let key = self.keys.edit(shard, &Dot { actor: author, counter });
            read::<StoredEdit>(self.view, &key)?
                .ok_or_else(|| corrupt(&key, Malformed { what: "chain: an edit is missing" }))
        });
        self.branch_of(shard, edits, |_| true)
    }

    /// The stranded edits whose author is the peer or lies behind it, as many as a message holds.
    pub(super) fn stranded(&self, shard: ShardId, peer: SiteId) -> Result<Branch, StoreError> {
        let stranded = read_range::<StoredEdit>(self.view, self.keys.all_stranded(shard))?;
        if stranded.is_empty() {
            return Ok(Branch { shard, items: Vec::new(), secrets: Vec::new(), now_ms: 0 });
        }
        let known = authors(self.view, self.keys, shard)?;
        let towards_peer = |author: &Author| {
            author.site == peer || known.get(&author.id()).is_some_and(|state| state.from == Some(peer))
        };
        self.branch_of(shard, stranded.into_iter().map(|(_, stored)| Ok(stored)), towards_peer)
    }

    fn branch_of(
        &self,
        shard: ShardId,
        edits: impl Iterator<Item = Result<StoredEdit, StoreError>>,
        wanted: impl Fn(&Author) -> bool,
    ) -> Result<Branch, StoreError> {
        let mut branch = Branch { shard, items: Vec::new(), secrets: Vec::new(), now_ms: 0 };
        let (mut sessions, mut bytes) = (BTreeSet::new(), 0);
        for stored in edits {
            let stored = stored?;
            let unreadable = |error| corrupt(&self.keys.shard(shard), error);
            let edit = Edit::from_bytes(&stored.bytes).map_err(unreadable)?;
            if wanted(&edit.header.author) {
                sessions.insert((edit.dot().actor, edit.header.origin.request.session));
                bytes += stored.bytes.len();
                branch.items.push(Item { dot: edit.dot(), bytes: stored.bytes });
            }
            if bytes >= BRANCH_BYTES {
                break;
            }
        }
        branch.secrets = self.secrets(shard, sessions)?;
        Ok(branch)
    }

    fn secrets(
        &self,
        shard: ShardId,
        sessions: BTreeSet<(AuthorId, SessionId)>,
    ) -> Result<Vec<(AuthorId, SessionId, [u8; 32])>, StoreError> {
        let secret_of = |(author, session)| {
            let key = self.keys.secret(shard, author, session);
            let secret = read(self.view, &key)?
                .ok_or_else(|| corrupt(&key, Malformed { what: "stream: a session's secret is missing" }))?;
            Ok((author, session, secret))
        };
        sessions.into_iter().map(secret_of).collect()
    }

    /// What this site can state of a shard with these heads; nothing if it is not hosted.
    pub fn statement(&self, shard: ShardId, heads: Heads, now_ms: i64) -> Result<Option<StatementBody>, StoreError> {
        Ok(self.shard(shard)?.map(|state| StatementBody {
            site: state.own.site,
            shard,
            incarnation: state.own.incarnation,
            heads,
            edits: state.edits_digest,
            state: state.state_digest,
            at_ms: now_ms,
        }))
    }

    /// The statements of other sites about a shard.
    pub fn statements(&self, shard: ShardId) -> Result<Vec<Statement>, StoreError> {
        Ok(read_range(self.view, self.keys.statements(shard))?.into_iter().map(|(_, statement)| statement).collect())
    }

    /// Whether a statement is later than what is kept of its site.
    pub(super) fn is_news(&self, statement: &Statement) -> Result<bool, StoreError> {
        let key = self.keys.statement(statement.body.shard, statement.body.site);
        let kept: Option<Statement> = read(self.view, &key)?;
        Ok(kept.is_none_or(|kept| kept.body.at_ms < statement.body.at_ms))
    }
}

/// The position in the key of an arrival.
fn position_of(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = crate::keys::suffix(key, 8).try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| corrupt(key, Malformed { what: "key of an arrival" }))
}
