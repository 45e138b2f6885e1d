//! What a replica answers to a command, and the batch that makes it so: `apply(view, commands) -> (answers, batch)`.
//!
//! Pure: the same view and commands give the same bytes on every replica. A refusal is an [`Answer`]; a `StoreError`
//! concerns this machine only and stops its replica. Every command is decided anew against the state at its place in the
//! log, whatever the door decided before.
//!
//! `edit` numbers an officer's edit, `merge` takes a neighbour's batch, `renew` gives a restored site a new incarnation,
//! `access` keeps the log of reads, `ledger` says which personal numbers are spoken for, `work` what officers have to do, `signposts` what the group knows of where its
//! shards have what. Edits end in `fold`, the one place where an edit enters log, chain, record, indexes
//! and digests; `raise` makes anew what a higher level derives otherwise; `branches` says where edits lie and what they are
//! called where an author's chain branches.

mod access;
mod branches;
mod edit;
mod figures;
mod fold;
mod ledger;
mod merge;
mod numbers;
mod past;
mod quality;
mod raise;
mod renew;
mod signposts;
mod standing;
mod state;
mod stock;
mod targets;
mod time;
mod tx;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Adopt, Answer, Command, Forget, Form, Nothing, Proposal, RefusalCode, Statement, StatementBody};
use crate::edit::{Author, Dot};
use crate::encoding::{Malformed, Wire};
use crate::ids::{AuthorId, Hash, NodeId, RecordId, ShardId};
use crate::inject::is_armed;
use crate::keys::Keys;
use crate::level::LEVEL_FIRST;
use crate::place::PlaceEntry;
use crate::store::{Batch, StateView, StoreError};

pub use access::{HEARD_MAX, access_head, heard, next_access_hash};
pub use branches::{BRANCHES_TOLD_MAX, Names, alias_id, heads, place_named, place_of_request, tips};
pub(crate) use branches::{is_head_of, way_down};
pub use edit::{
    AcceptedEdits, FormError, FormPlace, ToJudge, accepted_edits, action_of, check_form, misplaced, to_judge,
};
pub use figures::{Figures, figures, recount};
pub(crate) use fold::{Entering, enter_alone, poison_of};
pub use fold::{conflicts_of, folded_anew, running_hash};
pub use ledger::{blocks, blocks_of, numbers_taken, serials_taken, taken};
pub use merge::{ITEMS_MAX, LIVES_MAX, LIVES_OF_KEY_MAX, SECRETS_MAX};
pub(crate) use merge::{end_batch, keep_secret};
pub use past::{AsOf, Past, as_of};
pub use quality::{Coming, coming, quality_recounted};
pub use signposts::{homes, signposts_of};
pub use state::{Arrival, AuthorState, Context, GroupState, Key, Parked, Poison, ShardState, StoredEdit};
pub use stock::{Stocks, stocks, stocks_recounted};
pub use targets::targets;
pub use time::RECEIPT_DAYS;
pub use tx::{Tx, corrupt};
pub use work::{due_of, entry_of, work, work_recounted};

/// Commands in one log entry: bounds the work between two answers. An entry with more is refused whole, so replicas that
/// count by different bounds would diverge: another one needs a feature level.
pub const COMMANDS_MAX: usize = 1024;

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
        Command::Grant(command) => edit::apply_grant(tx, &group, *command),
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
                self.host(&ShardState::new(info, own, epoch));
                Ok(Answer::Done(Nothing))
            }
        }
    }

    /// Keeps each statement unless one that says more is here, and where its access log stands in any case. Their signatures were checked at the door.
    fn keep(&mut self, statements: &[Statement]) -> Result<Answer, StoreError> {
        for statement in statements {
            let key = self.keys().statement(statement.body.shard, statement.body.site);
            let kept: Option<Statement> = self.get(&key)?;
            if kept.as_ref().is_none_or(|kept| supersedes(statement, kept)) {
                self.put(key, statement);
                if let Some(kept) = kept.filter(|kept| kept.body.incarnation != statement.body.incarnation) {
                    self.remember_life(kept)?;
                }
            }
            access::hear(self, statement.body.site, statement.body.access)?;
        }
        Ok(Answer::Done(Nothing))
    }

    /// Keeps the word of a life that a site has left, unless it said more in one before: what was held then may not be held any more.
    fn remember_life(&mut self, said_then: Statement) -> Result<(), StoreError> {
        let key = self.keys().former(said_then.body.shard, said_then.body.site);
        if self.get::<Statement>(&key)?.is_none_or(|former| said(&former) <= said(&said_then)) {
            self.put(key, &said_then);
        }
        Ok(())
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

/// How much a statement says is held.
fn said(statement: &Statement) -> u128 {
    statement.body.heads.values().fold(0, |sum, (number, _)| sum + u128::from(*number))
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
