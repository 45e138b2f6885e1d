//! What a replica answers to a command, and the batch that makes it so: `apply(view, commands) -> (answers, batch)`.
//!
//! Pure: the same view and commands give the same bytes on every replica. A refusal is an [`Answer`]; a `StoreError`
//! concerns this machine only and stops its replica. Every command is decided anew against the state at its place in the
//! log, whatever the door decided before.
//!
//! `edit` numbers an officer's edit, `merge` takes a neighbour's batch, `renew` gives a restored site a new incarnation,
//! `access` keeps the log of reads, `signposts` what the group knows of where its
//! shards have what. Edits end in `fold`, the one place where an edit enters log, chain, record, indexes
//! and digests; `raise` makes anew what a higher level derives otherwise; `family` says where edits lie and what they are
//! called where an author's chain branches.

mod access;
mod edit;
mod family;
mod figures;
mod fold;
mod merge;
mod numbers;
mod past;
mod raise;
mod renew;
mod signposts;
mod standing;
mod time;
mod tx;

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{
    Adopt, Answer, Command, Digest, Epoch, Forget, Form, Nothing, Proposal, RefusalCode, ShardInfo, Statement,
    StatementBody,
};
use crate::edit::{Author, Dot};
use crate::encoding::{Malformed, Wire};
use crate::ids::{AuthorId, GroupId, Hash, Incarnation, NodeId, RecordId, ShardId, SiteId};
use crate::inject::is_armed;
use crate::keys::Keys;
use crate::level::LEVEL_FIRST;
use crate::place::PlaceEntry;
use crate::store::{Batch, StateView, StoreError};
use crate::{wire_code, wire_struct};

pub use access::{HEARD_MAX, access_head, heard, next_access_hash};
pub use edit::{AcceptedEdits, FormError, FormPlace, ToJudge, accepted_edits, check_form, misplaced, to_judge};
pub use family::{BRANCHES_TOLD_MAX, Names, alias_id, heads, place_named, tips};
pub(crate) use family::{is_head_of, way_down};
pub use figures::{Figures, figures, recount};
pub(crate) use fold::{Entering, enter_alone, poison_of};
pub use fold::{conflicts_of, folded_anew, running_hash};
pub use merge::{ITEMS_MAX, LIVES_MAX, SECRETS_MAX};
pub(crate) use merge::{end_batch, keep_secret};
pub use past::{AsOf, Past, as_of};
pub use signposts::{homes, signposts_of};
pub use time::RECEIPT_DAYS;
pub use tx::{Tx, corrupt};

/// Commands in one log entry: bounds the work between two answers. An entry with more is refused whole, so replicas that
/// count by different bounds would diverge: another one needs a feature level.
pub const COMMANDS_MAX: usize = 1024;

/// A secret key, and the number by which it is spoken of. Another secret has another number, also at other sites that have it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// From 1; the highest is the newest.
    pub id: u32,
    /// Known to nobody else.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}", self.id)
    }
}

/// What every replica of a group knows beside its state.
#[derive(Clone)]
pub struct Context {
    /// The group.
    pub group: GroupId,
    /// Keys the search index, so that its keys tell nothing; the same on all nodes of a site, kept outside the data.
    pub index_key: Key,
    /// Keys the digests; the same in the whole country.
    pub digest_key: Key,
    /// The highest feature level that this replica works at: [`LEVEL_MAX`](crate::level::LEVEL_MAX), unless its process
    /// was told to know less. It decides nothing but where the replica stops, and so may differ between replicas.
    pub level_max: u16,
}

impl Context {
    /// The keys of the group's state.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys(self.group)
    }

    /// Whether this replica works at a feature level.
    ///
    /// # Errors
    /// The one that stops it: others know the level and go on, and it must not.
    pub fn check_level(&self, level: u16) -> Result<(), StoreError> {
        if level <= self.level_max {
            return Ok(());
        }
        let known = self.level_max;
        Err(StoreError::Newer {
            place: self.group.to_string(),
            detail: format!("it is at feature level {level}, and this version knows up to {known}"),
        })
    }
}

/// The group itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The site that runs it.
    pub site: SiteId,
    /// Rules and encodings above this level are not used.
    pub level: u16,
    /// The number of the key under which the index is.
    pub index_key: u32,
    /// The number of the key of the digests.
    pub digest_key: u32,
    /// The highest clock of a proposer so far, UTC milliseconds.
    pub time_ms: i64,
    /// The day, counted from 1970, up to which expired receipts were cleared away.
    pub cleared_day: u32,
    /// The name of its access log, beside the group.
    pub incarnation: Incarnation,
    /// Entries in the access log.
    pub access_count: u64,
    /// The access log's chain.
    pub access_hash: Hash,
}

/// A hosted shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardState {
    /// The shard and its place in the tree.
    pub info: ShardInfo,
    /// This site as its author.
    pub own: Author,
    /// The name of this site's stream.
    pub epoch: Epoch,
    /// Edits in the stream: the last position.
    pub arrivals: u64,
    /// The running hash over the stream.
    pub running: Hash,
    /// The digest of all edits.
    pub edits_digest: Digest,
    /// The digest of all records.
    pub state_digest: Digest,
    /// Person records.
    pub persons: u64,
    /// Household records.
    pub households: u64,
    /// Open conflicts.
    pub conflicts: u64,
    /// Edits set aside that want a higher level or a look: see [`Poison::is_counted`].
    pub poisoned: u64,
    /// Edits that wait for a second person.
    pub pending: u64,
    /// Sites that have had several lives as its authors, or whose chains branch: of these, one request may have been accepted
    /// twice.
    pub reborn: Vec<SiteId>,
}

impl ShardState {
    /// A shard without an edit.
    #[must_use]
    pub fn new(info: ShardInfo, own: Author, epoch: Epoch) -> Self {
        ShardState {
            info,
            own,
            epoch,
            arrivals: 0,
            running: Hash::default(),
            edits_digest: Digest::default(),
            state_digest: Digest::default(),
            persons: 0,
            households: 0,
            conflicts: 0,
            poisoned: 0,
            pending: 0,
            reborn: Vec::new(),
        }
    }
}

/// How far an author's chain, or one of its branches, is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorState {
    /// Who.
    pub author: Author,
    /// Its last edit held.
    pub number: u64,
    /// That edit's hash.
    pub hash: Hash,
    /// The neighbour from which its edits come; none for this site itself.
    pub from: Option<SiteId>,
    /// Set in the author's first branch when its chain broke.
    pub parked: Option<Parked>,
    /// Where the edit lies from which this branch grew; none for the author's first branch.
    pub trunk: Option<Dot>,
    /// The highest number on the author's other branches; 0 if there are none. Kept in its first branch alone.
    pub aside: u64,
}

/// Why an author's edits are not taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// The edit before it is not held, or its command is not whole.
    Chain,
}

/// An edit as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredEdit {
    /// Its position in this site's stream.
    pub position: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for StoredEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}, {} B", self.position, self.hash, self.bytes.len())
    }
}

/// One position of this site's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Where the edit lies.
    pub dot: Dot,
    /// The neighbour it came from; it is not sent back there.
    pub from: Option<SiteId>,
    /// The running hash up to here.
    pub running: Hash,
    /// Whether a batch may end here: after a command of this site, or after all that came in one batch, for whose end there
    /// are [`Seal`](crate::command::Seal)s.
    pub last: bool,
}

/// Why an edit is set aside: it counts in chain and heads, and is not folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// Its feature level is above the group's; it is folded when the level rises.
    Level,
    /// Its kind, or its record's, or its author's role or purpose is none that the group's level knows, and may be one of a higher
    /// one: it is looked at again when the level rises. Or its record may not be in this sort of shard, which no level changes.
    Kind,
    /// A field, or a part of a value, is none that the group's level knows, and may be one of a higher one: it is looked at again
    /// when the level rises. Or a value is not one of its field, which no level changes.
    Value,
    /// Its site floods the record with edits, and this one is beyond the first of its life: see [`crate::share`]. Looked at
    /// after the others, so that what each of them says of an edit does not change.
    Flood,
    /// Another edit is an acceptance of the same request, and counts.
    Twin,
    /// An officer holds it.
    Held,
    /// An officer rejected it.
    Rejected,
    /// It says of another edit what its author may not say of it.
    Void,
}

wire_struct! {
    GroupState { site, level, index_key, digest_key, time_ms, cleared_day, incarnation, access_count, access_hash }
    ShardState { info, own, epoch, arrivals, running, edits_digest, state_digest, persons, households, conflicts, poisoned, pending, reborn }
    AuthorState { author, number, hash, from, parked, trunk, aside }
    StoredEdit { position, hash, bytes }
    Arrival { dot, from, running, last }
}
wire_code! { Parked, "reason of parking" { 2 => Chain } }
wire_code! { Poison, "reason of setting aside" {
    1 => Level, 2 => Kind, 3 => Value, 4 => Flood, 5 => Twin, 6 => Held, 7 => Rejected, 8 => Void,
} }

impl Parked {
    /// The word that tables and JSON print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Parked::Chain => "chain",
        }
    }
}

impl Poison {
    /// Whether it is said by the other edits of its record: then it is judged anew whenever they are folded anew.
    #[must_use]
    pub fn is_by_others(self) -> bool {
        matches!(self, Poison::Twin | Poison::Held | Poison::Rejected | Poison::Void)
    }

    /// Whether somebody must do something about it. What officers decided is as it should be.
    #[must_use]
    pub fn is_counted(self) -> bool {
        !self.is_by_others()
    }

    /// The word that tables and JSON print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Poison::Level => "level",
            Poison::Kind => "kind",
            Poison::Value => "value",
            Poison::Flood => "flood",
            Poison::Twin => "twin",
            Poison::Held => "held",
            Poison::Rejected => "rejected",
            Poison::Void => "void",
        }
    }
}

/// Folds log entries, each the bytes of a list of commands, in order. Returns each entry's answers (the bytes of a list
/// of [`Answer`]) and one batch for all. An entry that cannot be read was written by a version above this one's, since its
/// checksum holds: the replica must stop rather than diverge. One with too many commands reads alike everywhere: each of them is
/// refused, since a fault would stop every replica, and again at each replay.
pub fn apply(
    view: &dyn StateView,
    context: &Context,
    entries: &[(u64, Vec<u8>)],
) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
    let mut tx = Tx::new(view, context);
    let mut answers = Vec::with_capacity(entries.len());
    for (index, bytes) in entries {
        let Proposal { at_ms, commands } = Proposal::from_bytes(bytes).map_err(|error| StoreError::Newer {
            place: format!("log entry {index} of {}", context.group),
            detail: error.to_string(),
        })?;
        time::advance(&mut tx, at_ms)?;
        let fits = commands.len() <= COMMANDS_MAX;
        let decide = |command| if fits { answer(&mut tx, command) } else { Ok(too_many()) };
        let answered: Result<Vec<Answer>, StoreError> = commands.into_iter().map(decide).collect();
        answers.push(answered?.to_bytes());
    }
    Ok((answers, tx.into_batch()))
}

fn too_many() -> Answer {
    let text =
        format!("a log entry takes {COMMANDS_MAX} commands; nothing of this one was done, propose fewer at once");
    Answer::refused(RefusalCode::Invalid, text)
}

/// Whether this replica has the keys under which a group's index and digests are: with others it would diverge from its peers.
pub fn check_keys(context: &Context, (index, digest): (u32, u32)) -> Result<(), StoreError> {
    for (what, asked, here) in [("index", index, context.index_key.id), ("digest", digest, context.digest_key.id)] {
        if asked != here {
            let detail = format!("{what} key {asked} is asked for, this node has {here}");
            return Err(StoreError::Keyed { place: context.group.to_string(), detail });
        }
    }
    Ok(())
}

/// One command's answer. Until the group is formed, only `Form` is taken.
fn answer(tx: &mut Tx<'_>, command: Command) -> Result<Answer, StoreError> {
    let Some(group) = tx.group()? else {
        return match command {
            Command::Form(form) => {
                check_keys(tx.context, (form.index_key, form.digest_key))?;
                tx.form(&form)
            }
            _ => Ok(Answer::refused(RefusalCode::Unknown, "this group is not formed yet: bootstrap its site first")),
        };
    };
    tx.context.check_level(group.level)?;
    check_keys(tx.context, (group.index_key, group.digest_key))?;
    match command {
        Command::Form(form) if form.site == group.site => Ok(Answer::Done(Nothing)),
        Command::Form(_) => Ok(Answer::refused(RefusalCode::Exists, "this group belongs to another site")),
        Command::Adopt(adopt) => tx.adopt(&group, adopt),
        Command::Edit(command) => edit::apply(tx, &group, *command),
        Command::File(command) => edit::apply_filed(tx, &group, *command),
        Command::Merge(command) => merge::apply(tx, &group, *command),
        Command::Access(entries) => access::apply(tx, group, entries),
        Command::Renew(renew) => renew::apply(tx, &group, &renew),
        Command::Keep(statements) => tx.keep(&statements),
        Command::Raise(raise) => raise::apply(tx, group, &raise),
        Command::Place(entries) => tx.place(&entries),
        Command::Forget(forget) => tx.forget(&forget),
    }
}

impl Tx<'_> {
    fn form(&mut self, form: &Form) -> Result<Answer, StoreError> {
        if form.level < LEVEL_FIRST {
            return Ok(Answer::refused(RefusalCode::Level, format!("feature levels begin with {LEVEL_FIRST}")));
        }
        self.context.check_level(form.level)?;
        self.put_group(&GroupState {
            site: form.site,
            level: form.level,
            index_key: form.index_key,
            digest_key: form.digest_key,
            time_ms: 0,
            cleared_day: 0,
            incarnation: form.incarnation,
            access_count: 0,
            access_hash: Hash::default(),
        });
        Ok(Answer::Done(Nothing))
    }

    fn adopt(&mut self, group: &GroupState, adopt: Adopt) -> Result<Answer, StoreError> {
        let Adopt { info, incarnation, epoch } = adopt;
        if info.path.is_empty() {
            return Ok(Answer::refused(RefusalCode::Invalid, "a shard needs the path of its home unit"));
        }
        match self.shard(info.shard)? {
            Some(shard) if shard.info == info => Ok(Answer::Done(Nothing)),
            Some(_) => Ok(Answer::refused(RefusalCode::Exists, "the shard is hosted here with another place")),
            None => {
                let own = Author { site: group.site, shard: info.shard, incarnation };
                self.put_shard(&ShardState::new(info, own, epoch));
                Ok(Answer::Done(Nothing))
            }
        }
    }

    /// Keeps each statement unless one that says more is here, and where its access log stands in any case. Their signatures were checked at the door.
    fn keep(&mut self, statements: &[Statement]) -> Result<Answer, StoreError> {
        for statement in statements {
            let key = self.keys().statement(statement.body.shard, statement.body.site);
            if self.get::<Statement>(&key)?.is_none_or(|kept| supersedes(statement, &kept)) {
                self.put(key, statement);
            }
            access::hear(self, statement.body.site, statement.body.access)?;
        }
        Ok(Answer::Done(Nothing))
    }

    /// Writes all entries, or none.
    fn place(&mut self, entries: &[PlaceEntry]) -> Result<Answer, StoreError> {
        let mut left: BTreeSet<NodeId> = BTreeSet::new();
        for entry in entries {
            let PlaceEntry::Node(new) = entry else { continue };
            let old: Option<PlaceEntry> = self.get(&self.keys().place(&entry.key()))?;
            let has_left = matches!(old, Some(PlaceEntry::Node(old)) if !old.present) || left.contains(&new.node);
            if new.present && has_left {
                let text = format!("{} left this site for good: start the node with a new id", new.node);
                return Ok(Answer::refused(RefusalCode::Exists, text));
            }
            if !new.present {
                left.insert(new.node);
            }
        }
        for entry in entries {
            self.put(self.keys().place(&entry.key()), entry);
        }
        Ok(Answer::Done(Nothing))
    }

    fn forget(&mut self, forget: &Forget) -> Result<Answer, StoreError> {
        self.delete(self.keys().cursor(forget.shard, forget.peer));
        if let Some(author) = forget.author {
            let key = self.keys().author(forget.shard, author);
            if let Some(mut state) = self.get::<AuthorState>(&key)? {
                state.parked = None;
                if state.number == 0 { self.delete(key) } else { self.put(key, &state) }
            }
        }
        Ok(Answer::Done(Nothing))
    }
}

/// Whether a statement replaces an earlier one of the same site: it must not say less, unless the site began a new life; a
/// word of an earlier life comes late. Lives have no order of their own, but a later one may hold edits of an earlier one,
/// and never the other way round: of two in which the site wrote nothing, the one that comes later counts.
/// Dates do not decide: a clock that was a year ahead for an hour must not silence its site for a year. Single heads do
/// not either, since the end of a branch goes by another alias once an edit follows; but the sum of their numbers never
/// falls then.
#[must_use]
pub fn supersedes(new: &Statement, kept: &Statement) -> bool {
    let said = |statement: &Statement| {
        statement.body.heads.values().fold(0_u128, |sum, (number, _)| sum + u128::from(*number))
    };
    if is_armed("newest-date-wins") {
        return new != kept && new.body.at_ms > kept.body.at_ms;
    }
    if new.body.incarnation == kept.body.incarnation {
        return new != kept && said(new) >= said(kept);
    }
    let StatementBody { site, shard, incarnation, .. } = new.body;
    let is_of_an_earlier_life = kept.body.heads.contains_key(&Author { site, shard, incarnation }.id());
    !is_of_an_earlier_life
}

/// Branches of authors, by what they lie under.
pub type Authors = BTreeMap<AuthorId, AuthorState>;

/// All branches of all authors of a shard, those whose first edit was refused included.
pub fn authors(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<Authors, StoreError> {
    let (from, to) = keys.authors(shard);
    let mut authors = BTreeMap::new();
    for item in view.scan(&from, &to) {
        let (key, value) = item?;
        let state = AuthorState::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
        authors.insert(branch_of(&key), state);
    }
    Ok(authors)
}

/// The branch in the key of its state.
fn branch_of(key: &[u8]) -> AuthorId {
    let mut id = AuthorId::default();
    id.0.iter_mut().zip(crate::keys::suffix(key, 16)).for_each(|(to, from)| *to = *from);
    id
}

/// The record in its own key.
pub fn record_of(key: &[u8]) -> Result<RecordId, StoreError> {
    let id = crate::keys::suffix(key, 0).try_into().map(RecordId);
    id.map_err(|_| corrupt(key, Malformed { what: "key of a record" }))
}

/// The record in a key of the index.
pub fn indexed_record(key: &[u8]) -> Result<RecordId, StoreError> {
    let id = crate::keys::suffix(key, size_of::<crate::search::Term>()).try_into().map(RecordId);
    id.map_err(|_| corrupt(key, Malformed { what: "key of the index" }))
}

/// The end of a key that names an edit, or where it lies.
fn dot_in(bytes: &[u8]) -> Option<Dot> {
    let (actor, counter) = bytes.split_first_chunk()?;
    Some(Dot { actor: AuthorId(*actor), counter: u64::from_be_bytes(counter.try_into().ok()?) })
}

/// The record and the edit's name in the key of an edit that waits.
pub fn pending_of(key: &[u8]) -> Result<(RecordId, Dot), StoreError> {
    let parts = crate::keys::suffix(key, 0).split_first_chunk();
    let parts = parts.and_then(|(record, rest)| Some((RecordId(*record), dot_in(rest)?)));
    parts.ok_or_else(|| corrupt(key, Malformed { what: "key of an edit that waits" }))
}

/// Reads and decodes one value.
pub fn read<T: Wire>(view: &dyn StateView, key: &[u8]) -> Result<Option<T>, StoreError> {
    view.get(key)?.map(|bytes| T::from_bytes(&bytes).map_err(|error| corrupt(key, error))).transpose()
}

/// Reads and decodes all values in a range, with their keys.
pub fn read_range<T: Wire>(
    view: &dyn StateView,
    (from, to): (Vec<u8>, Vec<u8>),
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    view.scan(&from, &to)
        .map(|item| {
            let (key, value) = item?;
            let value = T::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
            Ok((key, value))
        })
        .collect()
}
