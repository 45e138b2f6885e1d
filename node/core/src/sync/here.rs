//! What a session reads of its own site.

use std::collections::{BTreeMap, BTreeSet};

use super::{Batch, Bucket, ShardHello};
use crate::command::{Cursor, Heads, Item, Seal, Statement, StatementBody, Tip};
use crate::edit::{COMMAND_BYTES_MAX, Dot, Edit, PARTS_MAX};
use crate::encoding::{Malformed, Wire};
use crate::ids::{AuthorId, Hash, SessionId, ShardId, SiteId};
use crate::inject::rarely;
use crate::keys::Keys;
use crate::registry::{
    Arrival, AuthorState, Authors, GroupState, ITEMS_MAX, ShardState, StoredEdit, access_head, authors, corrupt, heads,
    is_head_of, read, read_range, supersedes, tips, way_down,
};
use crate::store::{StateView, StoreError};

/// The edits of a batch before compression, about 16 kB after it: a few seconds of a 64 kbit/s link, so that a cut
/// wastes little. A command that is larger travels alone.
pub const BATCH_BYTES: usize = 48 * 1024;

/// Positions scanned for one batch: bounds the time that one event takes.
const SCAN_MAX: usize = 4_096;

/// A batch ends below this, unless what came in one from a neighbour, and must go on in one, has more: that fitted a message and
/// a log entry then.
const BATCH_BYTES_MAX: usize = BATCH_BYTES + COMMAND_BYTES_MAX;

/// Edits in one batch; a command more may follow, and stays below what a receiver takes.
const BATCH_ITEMS: usize = ITEMS_MAX - PARTS_MAX;

/// The edits of the stream that the peer has: per branch, as it lies here, up to a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skip(BTreeMap<AuthorId, u64>);

impl Skip {
    /// Whether the peer has the edit that lies here.
    #[must_use]
    pub fn covers(&self, place: &Dot) -> bool {
        place.counter <= self.up_to(place.actor)
    }

    fn up_to(&self, branch: AuthorId) -> u64 {
        self.0.get(&branch).copied().unwrap_or(0)
    }

    /// Adds an edit and what is below it down to the author's first.
    pub(super) fn add(&mut self, authors: &Authors, place: Dot) {
        for end in way_down(authors, place) {
            let number = self.0.entry(end.actor).or_default();
            if *number >= end.counter {
                // What is below was added with it.
                return;
            }
            *number = end.counter;
        }
    }

    /// What it has of an author's edits: where it ends on each branch.
    pub(super) fn ends_of(&self, authors: &Authors, author: AuthorId) -> Vec<Dot> {
        let ends = branches_of(authors, author).map(|(branch, state)| (self.up_to(branch), branch, state));
        let begun = ends.filter(|(number, _, state)| *number > state.below());
        begun.map(|(counter, actor, _)| Dot { actor, counter }).collect()
    }
}

/// An author's branches; none of an alias.
fn branches_of(authors: &Authors, author: AuthorId) -> impl Iterator<Item = (AuthorId, &AuthorState)> {
    let root = authors.get(&author).filter(|root| root.trunk.is_none());
    let of_author = move |(id, state): &(&AuthorId, &AuthorState)| {
        **id == author || root.is_some_and(|root| state.trunk.is_some() && state.author == root.author)
    };
    authors.iter().filter(move |_| root.is_some()).filter(of_author).map(|(id, state)| (*id, state))
}

/// A stretch of the stream that becomes a batch.
struct Stretch {
    batch: Batch,
    /// The edits to which no later one of the stretch chains, and where they stand in the stream.
    tips: Vec<(Tip, u64)>,
    secrets: BTreeMap<(AuthorId, SessionId), [u8; 32]>,
    /// The session of each item.
    sessions: Vec<(AuthorId, SessionId)>,
    bytes: usize,
}

impl Stretch {
    /// Adds an edit; not if its session has another secret here.
    fn add(&mut self, edit: &Edit, stored: StoredEdit, position: u64, secret: [u8; 32]) -> bool {
        let (dot, header) = (edit.dot(), &edit.header);
        let session = (dot.actor, header.origin.request.session);
        if *self.secrets.entry(session).or_insert(secret) != secret {
            return false;
        }
        self.sessions.push(session);
        let tip = Tip { author: header.author, number: header.number, hash: stored.hash };
        match self.tips.iter_mut().find(|(before, _)| before.author == tip.author && before.hash == header.previous) {
            Some(before) => *before = (tip, position),
            None => self.tips.push((tip, position)),
        }
        self.bytes += stored.bytes.len();
        self.batch.items.push(Item { dot, bytes: stored.bytes });
        true
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
        // An author that does not fit is tried again at each contact, and for that the peer must go by heads.
        let parked = self.authors(shard)?.values().any(|author| author.parked.is_some());
        let cursor = if parked { None } else { read(self.view, &self.keys.cursor(shard, peer))? };
        Ok(Some(ShardHello { shard, epoch: state.epoch, heads: self.heads(shard)?, cursor }))
    }

    /// Whether the last that `peer` stated of a shard is what is here.
    pub(super) fn has_stated(&self, state: &ShardState, peer: SiteId) -> Result<bool, StoreError> {
        let stated: Option<Statement> = read(self.view, &self.keys.statement(state.info.shard, peer))?;
        let group: Option<GroupState> = read(self.view, &self.keys.group())?;
        let (Some(StatementBody { digest_key, level, edits, state: records, .. }), Some(group)) =
            (stated.map(|said| said.body), group)
        else {
            return Ok(false);
        };
        let said = (digest_key, level, edits, records);
        Ok(said == (group.digest_key, group.level, state.edits_digest, state.state_digest))
    }

    pub(super) fn authors(&self, shard: ShardId) -> Result<Authors, StoreError> {
        authors(self.view, self.keys, shard)
    }

    /// Where the edit at the end of a peer's head lies, if it is held. The head may be called by an alias that the edit has
    /// there and not here, or the other way round: sites may know different branches.
    pub(super) fn locate(
        &self,
        shard: ShardId,
        authors: &Authors,
        id: AuthorId,
        (number, hash): (u64, Hash),
    ) -> Result<Option<Dot>, StoreError> {
        // Whoever is parked without an edit may bear any id.
        let is_author = |state: &AuthorState| state.trunk.is_none() && state.number > 0;
        let author = if authors.get(&id).is_some_and(is_author) {
            id
        } else {
            let mut roots = authors.iter().filter(|(_, state)| is_author(state));
            let Some((author, _)) = roots.find(|(author, _)| is_head_of(**author, id, &hash)) else { return Ok(None) };
            *author
        };
        for (branch, state) in branches_of(authors, author).filter(|(_, state)| state.holds(number)) {
            let held = if number == state.number { Some(state.hash) } else { self.hash(shard, branch, number)? };
            if held == Some(hash) {
                return Ok(Some(Dot { actor: branch, counter: number }));
            }
        }
        Ok(None)
    }

    /// What a peer with these heads has. Of a head whose edit is not held here, `of_unknown` tells up to which edits.
    pub(super) fn covered(
        &self,
        shard: ShardId,
        authors: &Authors,
        heads: &Heads,
        of_unknown: impl Fn(AuthorId, u64) -> Result<Vec<Dot>, StoreError>,
    ) -> Result<Skip, StoreError> {
        let mut skip = Skip::default();
        for (id, head) in heads {
            let held = match self.locate(shard, authors, *id, *head)? {
                Some(place) => vec![place],
                None => of_unknown(*id, head.0)?,
            };
            held.into_iter().for_each(|place| skip.add(authors, place));
        }
        Ok(skip)
    }

    /// The edits of a shard that a site with these heads is known to hold, for people. A site that is ahead on somebody
    /// else's longest branch is taken to hold what is here of it. Where it names an edit of this site, or one with a number
    /// that is held, that is not held, it is on another branch, and nothing of this one is known to be common until a
    /// session has looked.
    pub fn known_to_hold(&self, shard: ShardId, heads: &Heads) -> Result<Skip, StoreError> {
        let authors = self.authors(shard)?;
        let tips = tips(&authors);
        self.covered(shard, &authors, heads, |id, counter| {
            let is_ahead = |(_, state): &&(AuthorId, &AuthorState)| state.from.is_some() && state.number < counter;
            let tip = tips.get(&id).filter(is_ahead);
            Ok(tip.map(|(branch, state)| Dot { actor: *branch, counter: state.number }).into_iter().collect())
        })
    }

    /// How many edits of a shard a site with these heads is not [known to hold](Self::known_to_hold).
    pub fn edits_above(&self, shard: ShardId, heads: &Heads) -> Result<u64, StoreError> {
        let held = self.known_to_hold(shard, heads)?;
        let above = |(branch, state): (AuthorId, AuthorState)| {
            state.number.saturating_sub(held.up_to(branch).max(state.below()))
        };
        Ok(self.authors(shard)?.into_iter().map(above).fold(0, u64::saturating_add))
    }

    /// Whether the peer has what its cursor says that it took.
    pub(super) fn has_taken(&self, shard: ShardId, cursor: &Cursor, skip: &Skip) -> Result<bool, StoreError> {
        for (branch, state) in self.authors(shard)? {
            let next = Dot { actor: branch, counter: skip.up_to(branch).max(state.below()).saturating_add(1) };
            let lacking: Option<StoredEdit> = read(self.view, &self.keys.edit(shard, &next))?;
            if lacking.is_some_and(|stored| stored.position <= cursor.position) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The hash of the edit that lies at a place, if any does.
    fn hash(&self, shard: ShardId, branch: AuthorId, number: u64) -> Result<Option<Hash>, StoreError> {
        let place = Dot { actor: branch, counter: number };
        let stored: Option<StoredEdit> = read(self.view, &self.keys.edit(shard, &place))?;
        Ok(stored.map(|stored| stored.hash))
    }

    /// The hashes of the edits `from..=to` on the way down from `tip`, as far as it reaches.
    pub(super) fn hashes(&self, shard: ShardId, tip: Dot, from: u64, to: u64) -> Result<Vec<Hash>, StoreError> {
        let authors = self.authors(shard)?;
        let mut way: Vec<Dot> = way_down(&authors, tip).collect();
        let mut hashes = Vec::new();
        for number in from.max(1)..=to {
            while way.last().is_some_and(|end| end.counter < number) {
                way.pop();
            }
            let hash = match way.last() {
                Some(end) => self.hash(shard, end.actor, number)?,
                None => None,
            };
            match hash {
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
            return Ok(cursor.running == Hash::default());
        }
        let arrival: Option<Arrival> = read(self.view, &self.keys.arrival(state.info.shard, cursor.position))?;
        Ok(arrival.is_some_and(|arrival| arrival.running == cursor.running))
    }

    /// The next batch of the stream after `scanned`, for a peer that stands at `start`; the tips that this site itself must
    /// seal in it; and how far was searched. It ends where a batch may end, and is empty where nothing is news.
    pub fn batch(
        &self,
        state: &ShardState,
        start: Cursor,
        scanned: u64,
        skip: &Skip,
        bytes_max: usize,
    ) -> Result<(Batch, Vec<Tip>, u64), StoreError> {
        let shard = state.info.shard;
        let empty = Batch { shard, start, end: start, items: Vec::new(), secrets: Vec::new(), seals: Vec::new() };
        let mut stretch =
            Stretch { batch: empty, tips: Vec::new(), secrets: BTreeMap::new(), sessions: Vec::new(), bytes: 0 };
        // The last place where a batch may end: how many items go up to there, and their tips.
        let (mut items, mut tips, mut end, mut searched) = (0, Vec::new(), start, scanned);
        let (from, to) = self.keys.arrivals(shard, scanned.saturating_add(1));
        for (count, entry) in self.view.scan(&from, &to).enumerate() {
            let (key, value) = entry?;
            let arrival = Arrival::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
            let position = position_of(&key)?;
            if !skip.covers(&arrival.dot) {
                let edit_key = self.keys.edit(shard, &arrival.dot);
                let stored: StoredEdit = read(self.view, &edit_key)?
                    .ok_or_else(|| corrupt(&edit_key, Malformed { what: "stream: its edit is missing" }))?;
                let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&edit_key, error))?;
                let secret = self.secret(shard, &edit, &stored.hash)?;
                // A batch has one secret per session; a second one begins the next batch.
                if !stretch.add(&edit, stored, position, secret) {
                    break;
                }
            }
            let is_large = stretch.bytes > bytes_max.max(BATCH_BYTES_MAX) || stretch.batch.items.len() > ITEMS_MAX;
            if is_large && items > 0 {
                break;
            }
            if arrival.last {
                items = stretch.batch.items.len();
                tips.clone_from(&stretch.tips);
                (end, searched) = (Cursor { epoch: start.epoch, position, running: arrival.running }, position);
                let is_full = stretch.bytes >= bytes_max || items >= BATCH_ITEMS || count >= SCAN_MAX;
                if is_full || (items > 0 && rarely("a batch of one command")) {
                    break;
                }
            }
        }
        let Stretch { mut batch, mut secrets, sessions, .. } = stretch;
        batch.items.truncate(items);
        if items < sessions.len() {
            let kept: BTreeSet<_> = sessions[..items].iter().collect();
            secrets.retain(|session, _| kept.contains(session));
        }
        batch.end = end;
        batch.secrets = secrets.into_iter().map(|((author, session), secret)| (author, session, secret)).collect();
        let mut own = Vec::new();
        for (tip, position) in tips {
            match read(self.view, &self.keys.seal(shard, position))? {
                Some(signature) => batch.seals.push(Seal { tip, signature }),
                None if tip.author.site == state.own.site => own.push(tip),
                None => {
                    let what = "stream: the seal of its author's site is missing";
                    return Err(corrupt(&self.keys.seal(shard, position), Malformed { what }));
                }
            }
        }
        Ok((batch, own, searched))
    }

    /// The secret with which an edit has its hash.
    fn secret(&self, shard: ShardId, edit: &Edit, hash: &Hash) -> Result<[u8; 32], StoreError> {
        let key = self.keys.secret(shard, edit.header.author.id(), edit.header.origin.request.session);
        let secrets: Vec<[u8; 32]> = read(self.view, &key)?.unwrap_or_default();
        let found = match secrets.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|secret| edit.hash(secret) == *hash),
        };
        found.copied().ok_or_else(|| corrupt(&key, Malformed { what: "stream: a session's secret is missing" }))
    }

    /// What this site can state of a shard with these heads; nothing if it is not hosted.
    pub fn statement(&self, shard: ShardId, heads: Heads, now_ms: i64) -> Result<Option<StatementBody>, StoreError> {
        let (Some(state), Some(group)) = (self.shard(shard)?, read::<GroupState>(self.view, &self.keys.group())?)
        else {
            return Ok(None);
        };
        Ok(Some(StatementBody {
            site: state.own.site,
            shard,
            incarnation: state.own.incarnation,
            heads,
            digest_key: group.digest_key,
            level: group.level,
            edits: state.edits_digest,
            state: state.state_digest,
            access: access_head(self.keys.0, &group),
            at_ms: now_ms,
        }))
    }

    /// The statements of other sites about a shard.
    pub fn statements(&self, shard: ShardId) -> Result<Vec<Statement>, StoreError> {
        Ok(read_range(self.view, self.keys.statements(shard))?.into_iter().map(|(_, statement)| statement).collect())
    }

    /// What other sites said in earlier lives that they held.
    pub fn formers(&self, shard: ShardId) -> Result<Vec<Statement>, StoreError> {
        Ok(read_range(self.view, self.keys.formers(shard))?.into_iter().map(|(_, statement)| statement).collect())
    }

    /// Whether a statement says more than what is kept of its site.
    pub(super) fn is_news(&self, statement: &Statement) -> Result<bool, StoreError> {
        let key = self.keys.statement(statement.body.shard, statement.body.site);
        let kept: Option<Statement> = read(self.view, &key)?;
        Ok(kept.is_none_or(|kept| supersedes(statement, &kept)))
    }
}

/// What a shard adds to the digest of its bucket: equal for sites that hold the same edits of it.
pub(super) fn bucket_digest(state: &ShardState) -> Bucket {
    let mut hasher = blake3::Hasher::new_derive_key("dinhba 2026 hello");
    hasher.update(&state.info.shard.0.to_be_bytes()).update(&state.edits_digest.0);
    let mut digest = Bucket::default();
    hasher.finalize_xof().fill(&mut digest);
    digest
}

/// The position in the key of an arrival or a seal.
pub(crate) fn position_of(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = crate::keys::suffix(key, 0).try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| corrupt(key, Malformed { what: "key of an arrival" }))
}
