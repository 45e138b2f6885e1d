//! An officer's edit: decided, checked against what the officer saw, numbered, chained and folded; all its parts or none.

use std::collections::BTreeSet;

use super::branches::alias;
use super::fold::{Basis, Entering, Kinds, Transition, conflicts_of, enter_alone};
use super::ledger;
use super::signposts::homes_here;
use super::standing::{is_other, settles};
use super::{Arrival, Context, GroupState, Poison, ShardState, StoredEdit, Tx, corrupt, indexed_record, numbers};
use crate::access::{Action, decide};
use crate::blocks::Block;
use crate::claims::Role;
use crate::command::{
    Accepted, Answer, EditCommand, FileCommand, Filed, GrantCommand, MOVED_DOTS_MAX, MOVED_MAX, Moved, PartDraft,
    Receipt, Refusal, RefusalCode, ShardInfo, Stale, Tip,
};
use crate::date::InstantMs;
use crate::edit::{
    Author, COMMAND_BYTES_MAX, Change, Dot, EDIT_BYTES_MAX, EXTENSION_FORM, Edit, EditKind, GROUNDS, Header, Origin,
    PARTS_MAX, form_commitment,
};
use crate::encoding::{Malformed, Wire};
use crate::event::{Event, SUBJECTS_MAX};
use crate::filing::{Registered, file};
use crate::ids::{AuthorId, Hash, KeyMark, RecordId, RequestId, ShardId, UnitId};
use crate::inject::{is_armed, sometimes};
use crate::level::{self, LEVEL_FIRST, LEVEL_GROUNDS, limits};
use crate::number::{PersonNumber, Sex};
use crate::record::{Record, Write};
use crate::schema::{FieldId, RecordKind, field};
use crate::search::{households_of, members_term, number_term};
use crate::share::{FLOOD_BYTES, SHARE_BYTES_MAX, Shares, Weight};
use crate::signed_receipt::SignedEdit;
use crate::standing::{Standing, check_kind, is_standing, needs_second, standing_field, standing_key};
use crate::store::{StateView, StoreError};
use crate::targets;
use crate::validity;

pub(super) fn apply(tx: &mut Tx<'_>, group: &GroupState, command: EditCommand) -> Result<Answer, StoreError> {
    let asked = |info: &ShardInfo| action_of(info, command.kind, &command.parts);
    let shard = match admit(tx, group, command.shard, asked, &command.origin)? {
        Ok(shard) => shard,
        Err(answer) => return Ok(answer),
    };
    if let Some(receipt) = tx.get::<Receipt>(&tx.keys().request(command.shard, command.origin.request))? {
        return answer_again(tx, &command, receipt);
    }
    make(tx, group, shard, command, None)
}

/// What somebody does who makes an edit of these parts in a shard.
#[must_use]
pub fn action_of(info: &ShardInfo, kind: EditKind, parts: &[PartDraft]) -> Action {
    let sets_target = || parts.iter().any(|part| part.record_kind == RecordKind::Target);
    match kind {
        EditKind::Grant => Action::GrantNumbers,
        _ if info.is_ancestor() => {
            if sets_target() {
                Action::SetTargets
            } else {
                Action::EditSites
            }
        }
        EditKind::Change | EditKind::Proposal => Action::Edit,
        _ => Action::Resolve,
    }
}

/// Files an event: what it makes of the records is an edit like any other.
pub(super) fn apply_filed(tx: &mut Tx<'_>, group: &GroupState, command: FileCommand) -> Result<Answer, StoreError> {
    let FileCommand { shard, origin, secret, filed, blocks } = command;
    let is_by_site = origin.claims.role == Role::Site && filed.event == Event::NumberAssigned;
    let asked = |info: &ShardInfo| match is_by_site {
        true => Action::AssignNumbers,
        false if info.is_ancestor() => Action::EditSites,
        false => Action::Edit,
    };
    let state = match admit(tx, group, shard, asked, &origin)? {
        Ok(state) => state,
        Err(answer) => return Ok(answer),
    };
    if let Some(receipt) = tx.get::<Receipt>(&tx.keys().request(shard, origin.request))? {
        return answer_filed_again(tx, &origin, &filed, receipt);
    }
    let here = Here { tx, home: state.info.home(), own: state.own, blocks: &blocks };
    let on = InstantMs(origin.received_ms).date_in_vietnam();
    let parts = match file(group.level, &filed, (origin.request, on), &here)? {
        Ok(parts) => parts,
        Err(not_filed) => return Ok(not_filed.answer()),
    };
    sometimes("an event is filed", true);
    make(tx, group, state, EditCommand { shard, kind: EditKind::Change, origin, secret, parts }, Some(&filed))
}

/// Grants blocks of numbers: an edit like any other, of a record for each.
pub(super) fn apply_grant(tx: &mut Tx<'_>, group: &GroupState, command: GrantCommand) -> Result<Answer, StoreError> {
    let state = match admit(tx, group, command.shard, |_| Action::GrantNumbers, &command.origin)? {
        Ok(state) => state,
        Err(answer) => return Ok(answer),
    };
    // Whoever asks again names what he has seen since; a request counts once all the same.
    if tx.get::<Receipt>(&tx.keys().request(command.shard, command.origin.request))?.is_some() {
        return Ok(named_before(&command.origin, "by this site"));
    }
    let parts = ledger::grants(tx, &state, &command)?;
    if parts.is_empty() {
        let text = "nothing of it is to be granted: it was already, or this site has no such numbers left";
        return Ok(Answer::refused(RefusalCode::Rule, text));
    }
    let GrantCommand { shard, origin, secret, .. } = command;
    make(tx, group, state, EditCommand { shard, kind: EditKind::Grant, origin, secret, parts }, None)
}

/// Records that are asked whether a number is theirs: two are a conflict already.
const HOLDERS_MAX: usize = 8;

/// The records of a shard, as an event finds them.
struct Here<'t> {
    tx: &'t Tx<'t>,
    home: UnitId,
    /// This site as the shard's author.
    own: Author,
    blocks: &'t [Block],
}

impl Registered for Here<'_> {
    fn record(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        Ok(self.tx.record(self.own.shard, id)?.map(|(record, _)| record))
    }

    fn holders(&self, number: PersonNumber) -> Result<Vec<(RecordId, Record)>, StoreError> {
        let term = number_term(&self.tx.context.index_key.secret, &number.to_string());
        let keys = self.tx.some_keys(self.tx.keys().index_term(self.own.shard, &term), HOLDERS_MAX)?;
        let mut found = Vec::new();
        for key in keys {
            let id = indexed_record(&key)?;
            found.extend(self.record(id)?.map(|record| (id, record)));
        }
        Ok(found)
    }

    fn members(&self, household: RecordId) -> Result<usize, StoreError> {
        let term = members_term(&self.tx.context.index_key.secret, household);
        let (level, mut count) = (self.tx.level()?, 0);
        for key in self.tx.some_keys(self.tx.keys().index_term(self.own.shard, &term), SUBJECTS_MAX + 1)? {
            let record = self.record(indexed_record(&key)?)?;
            count += usize::from(record.is_some_and(|record| households_of(level, &record).contains(&household)));
        }
        Ok(count)
    }

    fn home(&self) -> UnitId {
        self.home
    }

    fn next_number(&self, sex: Sex, birth_year: u16) -> Result<Option<PersonNumber>, StoreError> {
        ledger::next_number(self.tx, &self.own, self.blocks, (sex, birth_year))
    }
}

/// The shard that a caller may edit so, or the refusal.
fn admit(
    tx: &Tx<'_>,
    group: &GroupState,
    shard: ShardId,
    asked: impl Fn(&ShardInfo) -> Action,
    origin: &Origin,
) -> Result<Result<ShardState, Answer>, StoreError> {
    let Some(shard) = tx.shard(shard)? else {
        return Ok(Err(Answer::refused(
            RefusalCode::Unknown,
            format!("shard {shard} is not hosted by this group: ask the site of the record's home or one above it"),
        )));
    };
    Ok(match decide(group.level, &origin.claims, asked(&shard.info), &shard.info.path) {
        Ok(()) => Ok(shard),
        Err(denied) => Err(Answer::refused(RefusalCode::Denied, denied.to_string())),
    })
}

/// Makes the edits of a request that is new.
fn make(
    tx: &mut Tx<'_>,
    group: &GroupState,
    mut shard: ShardState,
    mut command: EditCommand,
    filed: Option<&Filed>,
) -> Result<Answer, StoreError> {
    // Of a caller with a certificate the door has made sure; a node of a newer version may have proposed it.
    if !level::has(group.level, command.origin.purpose.since()) {
        let text = format!("no such purpose at feature level {}: give another one, or raise the level", group.level);
        return Ok(Answer::refused(RefusalCode::Level, text));
    }
    let is_event = filed.is_some();
    if let Some(FormError { code, text, .. }) =
        check_form(group.level, command.kind, is_event, command.origin.request, &command.parts).into_iter().next()
    {
        return Ok(Answer::Refused(Refusal { code, text }));
    }
    if let Some(text) = misplaced(&shard.info, &command.parts) {
        return Ok(Answer::refused(RefusalCode::Invalid, text));
    }
    let needs = |part: &PartDraft| needs_second(command.kind, &part.changes, || part.create);
    if command.kind == EditKind::Change && command.parts.iter().any(needs) {
        // All of it, since a command is taken as a whole or not at all.
        command.kind = EditKind::Proposal;
    }
    let says_standing = command.parts.iter().flat_map(|part| &part.changes).any(|change| is_standing(change.field));
    if says_standing && let Some(answer) = check_said(tx, &shard, &command)? {
        return Ok(answer);
    }
    let head = head(tx, &shard)?;
    let mut transitions = Vec::with_capacity(command.parts.len());
    for (part, number) in command.parts.iter().zip(head.number + 1..) {
        let dot = Dot { actor: head.author, counter: number };
        match check_against_state(tx, (&shard, group.level), &command, part, dot)? {
            Ok(transition) => transitions.push(transition),
            Err(answer) => return Ok(answer),
        }
    }
    number(tx, group, &mut shard, (command, filed), head, transitions)
}

/// What a request is told whose name was accepted before in its shard: its receipt, if it is the same request. Names can be
/// guessed, given twice by mistake, and come with a neighbour's edits, so the name alone proves nothing.
///
/// A name counts within its shard, so that its receipts can move with it. Whoever asks again names the same shard, so nothing is
/// accepted twice; and what was accepted under the name in one shard is answered there, whatever another took under it. One
/// thing two shards of a group must not both take: a new record, whose id derives from the request. That is refused where
/// the record is looked for.
fn answer_again(tx: &Tx<'_>, command: &EditCommand, receipt: Receipt) -> Result<Answer, StoreError> {
    let edits = edits_of(tx, &receipt)?;
    let says = |(edit, part): (&Edit, &PartDraft)| {
        let header = &edit.header;
        (kind_asked(header.kind), header.record, header.record_kind)
            == (kind_asked(command.kind), part.record, part.record_kind)
            && header.valid_from == part.valid_from
            && edit.changes.len() == part.changes.len()
            && edit.changes.iter().zip(&part.changes).all(|(one, two)| says_the_same(one, two))
    };
    let is_filed = edits.iter().any(|edit| edit.header.event != Event::Change);
    let is_same = !is_filed && edits.len() == command.parts.len() && edits.iter().zip(&command.parts).all(says);
    Ok(answer_known(&command.origin, &edits, is_same, receipt))
}

/// Whether two changes are of one request. What was said of an edit before, the door puts in that says how it stands: then it has
/// moved on.
fn says_the_same(one: &Change, two: &Change) -> bool {
    one == two
        || (is_standing(one.field) && (one.field, &one.element, &one.value) == (two.field, &two.element, &two.value))
}

/// What was asked for when an edit of that kind was made: whether a change is a proposal is decided here.
fn kind_asked(kind: EditKind) -> EditKind {
    if kind == EditKind::Proposal { EditKind::Change } else { kind }
}

/// The same of an event: what was filled in counts, not what came of it, since the records have moved on.
fn answer_filed_again(tx: &Tx<'_>, origin: &Origin, filed: &Filed, receipt: Receipt) -> Result<Answer, StoreError> {
    let edits = edits_of(tx, &receipt)?;
    let (first, form) = (&receipt.first, filed.content_bytes());
    let key = tx.keys().secret(receipt.shard, first.actor, origin.request.session);
    let secrets: Vec<[u8; 32]> = tx.get(&key)?.unwrap_or_default();
    let is_same = edits.first().is_some_and(|edit| {
        let kept = edit.header.extensions.iter().find(|(tag, _)| *tag == EXTENSION_FORM);
        let is_kept =
            |secret: &[u8; 32]| kept.is_some_and(|(_, kept)| *kept == form_commitment(secret, first.counter, &form));
        edit.header.event == filed.event && secrets.iter().any(is_kept)
    });
    Ok(answer_known(origin, &edits, is_same, receipt))
}

fn answer_known(origin: &Origin, edits: &[Edit], is_same: bool, receipt: Receipt) -> Answer {
    let by = |edit: &Edit| {
        let (one, two) = (&edit.header.origin.claims, &origin.claims);
        (&one.subject, one.role, one.unit) == (&two.subject, two.role, two.unit)
    };
    let other = if !edits.iter().all(by) {
        Some("by another caller")
    } else if !is_same {
        Some("with other content")
    } else {
        None
    };
    if let Some(how) = other.filter(|_| !is_armed("receipt-ignores-content")) {
        return named_before(origin, how);
    }
    sometimes("a request is answered again", true);
    let pending = edits.iter().any(Edit::needs_second);
    let number = number_given(edits);
    Answer::Accepted(Accepted { receipt, replayed: true, pending, number })
}

/// The personal number that an event gave: whoever filed it is told, also if he had left it open.
fn number_given<'e>(edits: impl IntoIterator<Item = &'e Edit>) -> Option<PersonNumber> {
    let edits = edits.into_iter().filter(|edit| edit.header.event.gives_number());
    let mut changes = edits.flat_map(|edit| &edit.changes);
    changes.find_map(|change| {
        PersonNumber::from_bytes(&change.value).ok().filter(|_| change.field == field::PERSONAL_NUMBER)
    })
}

fn named_before(origin: &Origin, how: &str) -> Answer {
    sometimes("another request has the name of an accepted one", true);
    let request = origin.request;
    let text = format!("request {request} was made before, {how}: nothing was accepted now, give this one a new name");
    Answer::refused(RefusalCode::Exists, text)
}

/// What is signed of an accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedEdits {
    /// The last of its edits.
    pub tip: Tip,
    /// The records that they are of, in order.
    pub records: Vec<RecordId>,
    /// What is shown of them.
    pub edits: Vec<SignedEdit>,
    /// Whether all of them were made here: what came from a neighbour, under whatever name, this site never saw its officers do.
    pub are_made_here: bool,
}

/// The edits of an accepted request, as whoever signs for them shows them to others: of their changes those that `shows` says.
/// None if no such request is known. The tip's author says whose they are.
///
/// # Errors
/// What cannot be read, and what is named and not there.
pub fn accepted_edits(
    view: &dyn StateView,
    context: &Context,
    shard: ShardId,
    request: RequestId,
    shows: impl Fn(&Change) -> bool,
) -> Result<Option<AcceptedEdits>, StoreError> {
    let tx = Tx::new(view, context);
    let Some(receipt) = tx.get::<Receipt>(&tx.keys().request(shard, request))? else { return Ok(None) };
    let edits = edits_of(&tx, &receipt)?;
    let Some(last) = edits.last() else { return Ok(None) };
    let tip = Tip { author: last.header.author, number: last.header.number, hash: receipt.hash };
    let key = tx.keys().secret(shard, receipt.first.actor, request.session);
    let secrets: Vec<[u8; 32]> = tx.must(&key)?;
    let missing = || corrupt(&key, Malformed { what: "secrets: none of them gives the edit's hash" });
    let secret = secrets.iter().find(|secret| last.hash(secret) == receipt.hash).ok_or_else(missing)?;
    let signed = edits.iter().map(|edit| SignedEdit::of(edit, secret, &shows));
    let mut are_made_here = true;
    for (edit, number) in edits.iter().zip(receipt.first.counter..) {
        let place = tx.locate(shard, receipt.first.actor, number, &edit.hash(secret))?;
        let stored = place.map(|place| tx.edit(shard, &place)).transpose()?.flatten();
        let arrival =
            stored.map(|stored| tx.must::<Arrival>(&tx.keys().arrival(shard, stored.position))).transpose()?;
        are_made_here &= arrival.is_some_and(|arrival| arrival.from.is_none());
    }
    let (records, edits) = (edits.iter().map(|edit| edit.header.record).collect(), signed.collect());
    Ok(Some(AcceptedEdits { tip, records, edits, are_made_here }))
}

/// The edits that a receipt speaks of, from its last one back to the first.
fn edits_of(tx: &Tx<'_>, receipt: &Receipt) -> Result<Vec<Edit>, StoreError> {
    let Receipt { shard, ref first, count, mut hash } = *receipt;
    let missing = || corrupt(&tx.keys().author(shard, first.actor), Malformed { what: "receipt: it names no edit" });
    let mut edits = Vec::with_capacity(count as usize);
    for number in (first.counter..first.counter + u64::from(count)).rev() {
        let place = tx.locate(shard, first.actor, number, &hash)?.ok_or_else(missing)?;
        let key = tx.keys().edit(shard, &place);
        let stored: StoredEdit = tx.must(&key)?;
        let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&key, error))?;
        hash = edit.header.previous;
        edits.push(edit);
    }
    edits.reverse();
    Ok(edits)
}

/// Something that is wrong with a command, whatever the state is; but for the feature level, which grounds may need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormError {
    /// Where.
    pub place: FormPlace,
    /// [`RefusalCode::Invalid`] or [`RefusalCode::Level`].
    pub code: RefusalCode,
    /// What to do. Never contains a value.
    pub text: String,
}

/// A place in a command. Parts and changes are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormPlace {
    /// The whole.
    Edit,
    /// The grounds.
    Grounds,
    /// A part.
    Part(usize),
    /// The date from which a part holds.
    ValidFrom(usize),
    /// A change of a part.
    Change(usize, usize),
}

/// What of a dossier may be edited without an event.
const OF_DOSSIERS_FREE: [FieldId; 3] = [GROUNDS, field::DOSSIER_NOTE, field::DOSSIER_PHONE];

/// Everything that can be said of an edit without looking at records. The door says all of it to the caller; `apply`
/// refuses with the first.
#[must_use]
pub fn check_form(
    level: u16,
    kind: EditKind,
    is_event: bool,
    request: RequestId,
    parts: &[PartDraft],
) -> Vec<FormError> {
    let mut errors = Vec::new();
    let mut found = |place, code, text: String| errors.push(FormError { place, code, text });
    let count = parts.len();
    if count == 0 || count > PARTS_MAX {
        found(FormPlace::Edit, RefusalCode::Invalid, format!("an edit has 1 to {PARTS_MAX} parts, not {count}"));
        return errors;
    }
    if request.counter == 0 {
        found(FormPlace::Edit, RefusalCode::Invalid, "request counters start at 1".to_owned());
    }
    if !level::has(level, kind.since()) {
        let text = format!("edits of kind {} are reserved: no feature level has them yet", kind.name());
        found(FormPlace::Edit, RefusalCode::Level, text);
    }
    let has_grounds =
        |part: &PartDraft| part.changes.iter().any(|change| change.field == GROUNDS && !change.value.is_empty());
    let standing = Standing::of_kind(kind);
    if let Some(standing) = standing.filter(|standing| standing.needs_grounds() && !parts.iter().all(has_grounds)) {
        let text = format!("that an edit is {} needs its grounds: say why", standing.name());
        found(FormPlace::Grounds, RefusalCode::Invalid, text);
    }
    if kind == EditKind::Decision && !parts.iter().all(has_grounds) {
        let text = "a decision needs its grounds: say why this value is right".to_owned();
        found(FormPlace::Grounds, RefusalCode::Invalid, text);
    }
    let is_plain = kind_asked(kind) == EditKind::Change && !is_event;
    if is_plain && level < LEVEL_GROUNDS && parts.iter().any(has_grounds) {
        let text =
            format!("grounds with a plain change need feature level {LEVEL_GROUNDS}; raise it or leave them out");
        found(FormPlace::Grounds, RefusalCode::Level, text);
    }
    let mut records = BTreeSet::new();
    for (index, part) in parts.iter().enumerate() {
        let mut invalid = |place, text: &str| found(place, RefusalCode::Invalid, text.to_owned());
        if (kind == EditKind::Grant) != (part.record_kind == RecordKind::Block) {
            invalid(
                FormPlace::Part(index),
                "blocks of numbers are granted by the sites themselves, and nothing else is",
            );
        }
        // Who may set a target may not say what else stands in its shard.
        if (part.record_kind == RecordKind::Target) != (parts[0].record_kind == RecordKind::Target) {
            invalid(FormPlace::Part(index), "targets are set by edits of their own: leave out the other parts");
        }
        if part.record_kind == RecordKind::Target
            && let Err(text) = targets::check_all(part.create, &part.changes)
        {
            invalid(FormPlace::Part(index), text);
        }
        // A changed program may have put two edits of one record into a command, of which all is said at once.
        let said = standing.and_then(|_| part.changes.iter().find(|change| is_standing(change.field)));
        if !records.insert((part.record, said.map(|change| &change.element))) {
            let text = format!("record {} appears in two parts: put its changes into one", part.record);
            invalid(FormPlace::Part(index), &text);
        }
        if part.create && part.record != RecordId::derive(request, index as u32) {
            let text = "the id of a new record must be derived from its request and part";
            invalid(FormPlace::Part(index), text);
        }
        if !part.create && part.record == RecordId::derive(request, index as u32) {
            let text = "a request of this name made the record: give this one a new name";
            invalid(FormPlace::Part(index), text);
        }
        if let Err(text) = check_kind(kind, &part.changes) {
            invalid(FormPlace::Part(index), text);
        }
        if is_plain && part.record_kind == RecordKind::Dossier {
            let is_free = |change: &Change| OF_DOSSIERS_FREE.contains(&change.field);
            if part.create || !part.changes.iter().all(is_free) {
                let text = "a dossier is opened, goes on and is closed by its events: `dinhba events` shows them";
                invalid(FormPlace::Part(index), text);
            }
        }
        if part.changes.iter().all(|change| change.field == GROUNDS) {
            invalid(FormPlace::Part(index), "a part must change at least one field");
        }
        if !validity::is_valid_date(&part.valid_from) {
            invalid(FormPlace::ValidFrom(index), "valid_from is not a civil date");
        }
        for (at, change) in part.changes.iter().enumerate() {
            let place = FormPlace::Change(index, at);
            let before = at.checked_sub(1).map(|before| &part.changes[before]);
            if before.is_some_and(|before| (before.field, &before.element) >= (change.field, &change.element)) {
                invalid(place, "the changes of a part must be in the order of their fields, each field once");
            }
            if let Err(error) = validity::validate(level, part.record_kind, change) {
                // The grounds are the same in each part.
                let place = if change.field == GROUNDS { FormPlace::Grounds } else { place };
                invalid(place, &error);
            }
        }
    }
    errors
}

/// Why a part may not stand in this shard, if one may not: people are in the shards of communes, sites in ancestor shards, units in
/// the centre's.
#[must_use]
pub fn misplaced(info: &ShardInfo, parts: &[PartDraft]) -> Option<&'static str> {
    let kind = parts.iter().map(|part| part.record_kind).find(|kind| !info.takes(*kind))?;
    Some(match kind {
        RecordKind::Site => {
            "the record of a site belongs in the ancestor shard of a unit above it: `dinhba site add-child` finds it"
        }
        RecordKind::Unit => {
            "the record of a unit belongs in the ancestor shard of the country: `dinhba unit add` at the central site finds it"
        }
        RecordKind::Calendar => {
            "the holidays of a year belong in the ancestor shard of the country: `dinhba holidays set` at the central site finds it"
        }
        RecordKind::Block => "the record of a block of numbers belongs in an ancestor shard",
        RecordKind::Target => {
            "a target belongs in the ancestor shard of the unit that sets it: `dinhba target set` finds it"
        }
        RecordKind::Person | RecordKind::Household | RecordKind::Dossier | RecordKind::Unknown(_) => {
            "an ancestor shard goes to every site below its unit: persons, households and dossiers belong in the shard of a commune"
        }
    })
}

/// This site's author of a shard and its last edit.
struct Head {
    author: AuthorId,
    number: u64,
    hash: Hash,
}

fn head(tx: &Tx<'_>, shard: &ShardState) -> Result<Head, StoreError> {
    let author = shard.own.id();
    let (mut number, mut hash) = tx.head(shard.info.shard, author)?;
    if is_armed("reuse-number") && number > 1 && number.is_multiple_of(4) {
        let before = Dot { actor: author, counter: number - 1 };
        (number, hash) =
            tx.edit(shard.info.shard, &before)?.map_or((0, Hash::default()), |stored| (number - 1, stored.hash));
    }
    Ok(Head { author, number, hash })
}

/// Whether the part fits the state: the record is there (or not yet), nothing moved on, no rule is broken anew. What it
/// makes of the record under the name that it will have, or the refusal.
fn check_against_state(
    tx: &Tx<'_>,
    (shard, level): (&ShardState, u16),
    command: &EditCommand,
    part: &PartDraft,
    dot: Dot,
) -> Result<Result<Option<Transition>, Answer>, StoreError> {
    let old = tx.record(shard.info.shard, part.record)?;
    let fresh = Record::new(part.record_kind);
    // The id of a new record derives from its request: another shard that has it took this request, or its like.
    if old.is_none() && part.create && !homes_here(tx, part.record)?.is_empty() {
        return Ok(Err(named_before(&command.origin, "for another shard")));
    }
    let current = match (&old, part.create) {
        (Some(_), true) => {
            return Ok(Err(Answer::refused(RefusalCode::Exists, format!("record {} exists already", part.record))));
        }
        (None, false) => {
            let text = format!("no record {} in shard {}", part.record, shard.info.shard);
            return Ok(Err(Answer::refused(RefusalCode::Unknown, text)));
        }
        (None, true) => &fresh,
        (Some((record, _)), false) => record,
    };
    if current.kind != part.record_kind {
        let text = format!("record {} is not of the kind that the edit says", part.record);
        return Ok(Err(Answer::refused(RefusalCode::Rule, text)));
    }
    let mut moved: Vec<Moved> = part
        .changes
        .iter()
        .filter(|change| change.field != GROUNDS)
        .map(|change| ((change.field, change.element.clone()), &change.overwrites))
        .filter_map(|(key, overwrites)| Some((current.dots(&key), key)).filter(|(dots, _)| dots != overwrites))
        .map(|(dots, key)| Moved { key, dots })
        .collect();
    if sometimes("an edit is stale", !moved.is_empty()) && !is_armed("ignore-stale") {
        let more = moved.len().saturating_sub(MOVED_MAX) as u32;
        moved.truncate(MOVED_MAX);
        moved.iter_mut().for_each(|moved| moved.dots.truncate(MOVED_DOTS_MAX));
        return Ok(Err(Answer::Stale(Stale { record: part.record, fields: moved, more })));
    }
    let has_conflict =
        || Ok(!conflicts_of(level, current).is_empty() || numbers::is_open(tx, shard.info.shard, part.record)?);
    if command.kind == EditKind::Decision && !has_conflict()? {
        let text = format!("record {} has no open conflict to decide", part.record);
        return Ok(Err(Answer::refused(RefusalCode::Unknown, text)));
    }
    let weight = Weight::new(shard.own.site, dot.actor, &part.changes);
    if let Some(text) = overfills(&current.shares, &weight) {
        return Ok(Err(Answer::refused(RefusalCode::Rule, format!("record {}: {text}", part.record))));
    }
    if part.changes.iter().any(|change| is_standing(change.field)) {
        // What it makes of the record, all of its edits say together; and nobody is kept from saying it.
        return Ok(Ok(None));
    }
    // Somebody claims to have replaced it before it was written: who of the two has seen the other, all edits say together.
    if current.awaits(|| dot.clone()) {
        return Ok(Ok(None));
    }
    let waits = needs_second(command.kind, &part.changes, || part.create).then_some(dot.actor);
    let kinds = Kinds { edit: command.kind, record: part.record_kind, waits };
    let write = Write::new(dot, command.origin.received_ms, &part.changes);
    let basis = Basis { level, home: shard.info.home(), index_key: &tx.context.index_key.secret };
    let transition = Transition::by_edit(basis, old, kinds, &weight, write);
    let bytes_max = limits(level).record_bytes;
    if let Some(bytes) = transition.outgrows(bytes_max).filter(|_| !is_armed("record-unbounded")) {
        let text = format!(
            "record {} would take {bytes} bytes, and may take {bytes_max}: clear what is not needed any more, or \
             keep long papers elsewhere and only refer to them here",
            part.record
        );
        return Ok(Err(Answer::refused(RefusalCode::Rule, text)));
    }
    Ok(match transition.breaks() {
        Some(rule) => Err(Answer::refused(RefusalCode::Rule, validity::rule_text(rule))),
        None => Ok(Some(transition)),
    })
}

/// Why the command may not say how these edits stand, if it may not: all edits of one command stand alike.
fn check_said(tx: &Tx<'_>, shard: &ShardState, command: &EditCommand) -> Result<Option<Answer>, StoreError> {
    let (mut all, mut asked): (Vec<ToJudge>, BTreeSet<(RecordId, &[u8])>) = (Vec::new(), BTreeSet::new());
    let (mut is_any_pending, mut is_any_held, mut is_any_whole) = (false, false, false);
    for part in &command.parts {
        let Some(change) = part.changes.iter().find(|change| is_standing(change.field)) else { continue };
        asked.insert((part.record, &change.element));
        let known = all.iter().find(|one| (one.record, &one.key) == (part.record, &change.element));
        let place = match known {
            Some(known) => Some(known.place.clone()),
            None => place_of(tx, shard.info.shard, part.record, &change.element)?,
        };
        let Some(place) = place else {
            let text = format!("record {} has no such edit: `history` shows them, and their hashes", part.record);
            return Ok(Some(Answer::refused(RefusalCode::Unknown, text)));
        };
        let Spoken { edit, aside, is_pending } = spoken(tx, shard.info.shard, &place)?;
        let header = &edit.header;
        if all.is_empty() {
            all = command_of(tx, shard.info.shard, &place, header)?;
        }
        let is_own = !is_other(&command.origin.claims, &header.origin.claims);
        if settles(command.kind, change) && is_own && !is_armed("one-person-confirms") {
            let text = "a second person must say so, with a certificate of her own: this edit was written under your name, or with your certificate";
            return Ok(Some(Answer::refused(RefusalCode::Denied, text)));
        }
        if edit.standing_change().is_some() {
            let text = "it says how another edit stands: speak of that one";
            return Ok(Some(Answer::refused(RefusalCode::Rule, text)));
        }
        is_any_pending |= is_pending;
        is_any_held |= aside == Some(Poison::Held);
        is_any_whole |= aside.is_none();
    }
    let Some(standing) = Standing::of_kind(command.kind) else { return Ok(None) };
    if !all.iter().map(|one| (one.record, one.key.as_slice())).eq(asked.iter().copied()) {
        let of = all.len();
        let text = format!("the edits of one command stand alike: there are {of}, say it of each of them at once");
        return Ok(Some(Answer::refused(RefusalCode::Invalid, text)));
    }
    let refused = match standing {
        Standing::Confirmed if !is_any_pending => Some("nothing of it waits for a second person"),
        Standing::Rejected if !is_any_pending && !is_any_held => {
            Some("it neither waits for a second person nor is held: correct the record, or hold the edit first")
        }
        Standing::Held if !is_any_whole => Some("it is set aside already"),
        Standing::Released if !is_any_held => Some("it is not held"),
        _ => None,
    };
    sometimes("an edit is confirmed or rejected", refused.is_none());
    Ok(refused.map(|text| Answer::refused(RefusalCode::Rule, text)))
}

/// An edit of a command of which something is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToJudge {
    /// The record that it is of.
    pub record: RecordId,
    /// What that record is.
    pub record_kind: RecordKind,
    /// The element of its standing.
    pub key: Vec<u8>,
    /// Where it lies.
    pub place: Dot,
    /// The names of what was said of it so far.
    pub said: Vec<Dot>,
}

/// All edits of the command of which one has this element of its standing, by record; none if the record has no such edit here.
///
/// # Errors
/// What cannot be read.
pub fn to_judge(
    view: &dyn StateView,
    context: &Context,
    shard: ShardId,
    record: RecordId,
    key: &[u8],
) -> Result<Option<Vec<ToJudge>>, StoreError> {
    let tx = Tx::new(view, context);
    let Some(place) = place_of(&tx, shard, record, key)? else { return Ok(None) };
    let (edit, _) = tx.edit_at(shard, &place)?;
    let all = command_of(&tx, shard, &place, &edit.header)?;
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// All edits of the command of one that lies at a place, by record and element; but for those of which there is no record, since these
/// are set aside for their own sake, and for what is said of others.
fn command_of(tx: &Tx<'_>, shard: ShardId, asked: &Dot, header: &Header) -> Result<Vec<ToJudge>, StoreError> {
    let (first, of) = (asked.counter - u64::from(header.part), u64::from(header.of));
    let mut found = Vec::new();
    for counter in first..first + of {
        // What follows an edit in its command lies behind it. A changed program may have let a command branch off from another one, of
        // which it has the beginning.
        let place = match counter < asked.counter {
            true => tx.way(shard, header.author.id(), asked, counter)?,
            false => Dot { actor: asked.actor, counter },
        };
        let Some(StoredEdit { hash, bytes, .. }) = tx.edit(shard, &place)? else { continue };
        let edit = Edit::from_bytes(&bytes).map_err(|error| corrupt(&tx.keys().edit(shard, &place), error))?;
        // What it says of others stands for itself.
        if counter != asked.counter && edit.standing_change().is_some() {
            continue;
        }
        let (record, key) = (edit.header.record, standing_key(&hash));
        let Some((now, _)) = tx.record(shard, record)? else { continue };
        let field = standing_field(now.kind);
        let said = field.map(|field| now.dots(&(field, key.clone()))).unwrap_or_default();
        found.push(ToJudge { record, record_kind: now.kind, key, place, said });
    }
    found.sort_unstable_by(|one, two| (one.record, &one.key).cmp(&(two.record, &two.key)));
    Ok(found)
}

/// An edit of which another one speaks.
struct Spoken {
    edit: Edit,
    aside: Option<Poison>,
    is_pending: bool,
}

/// Where the edit of a record lies that has that element of its standing.
fn place_of(tx: &Tx<'_>, shard: ShardId, record: RecordId, key: &[u8]) -> Result<Option<Dot>, StoreError> {
    for (_, place) in tx.range::<Dot>(tx.keys().history(shard, record))? {
        let stored: StoredEdit = tx.must(&tx.keys().edit(shard, &place))?;
        if standing_key(&stored.hash) == key {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// The edit at a place, and how it stands.
fn spoken(tx: &Tx<'_>, shard: ShardId, place: &Dot) -> Result<Spoken, StoreError> {
    let (edit, hash) = tx.edit_at(shard, place)?;
    let aside: Option<Poison> = tx.get(&tx.keys().poison(shard, place))?;
    let names = [edit.dot(), alias(&edit.dot(), &hash)];
    let record = tx.record(shard, edit.header.record)?;
    let is_pending = record.is_some_and(|(record, _)| names.iter().any(|name| record.pending().contains_key(name)));
    Ok(Spoken { edit, aside, is_pending })
}

/// Why this site may not write so much more into a record, if it may not: the sites above would take it for a flood one day.
fn overfills(shares: &Shares, weight: &Weight) -> Option<String> {
    let written = shares.written(weight.site);
    if written.is_some_and(|written| written + weight.bytes <= SHARE_BYTES_MAX) {
        return None;
    }
    let written = written.map_or_else(|| format!("more than {FLOOD_BYTES}"), |written| written.to_string());
    Some(format!(
        "with all its edits this site has written {written} bytes of changes into it, and may write {SHARE_BYTES_MAX}: ask \
         another site that holds it, such as the one above, to make this change"
    ))
}

/// Gives the parts their numbers, chains them and folds them.
fn number(
    tx: &mut Tx<'_>,
    group: &GroupState,
    shard: &mut ShardState,
    (command, filed): (EditCommand, Option<&Filed>),
    head: Head,
    transitions: Vec<Option<Transition>>,
) -> Result<Answer, StoreError> {
    let Head { author, mut number, hash: mut previous } = head;
    let secret_key = tx.keys().secret(shard.info.shard, author, command.origin.request.session);
    let mut secrets: Vec<[u8; 32]> = tx.get_held(&secret_key)?.unwrap_or_default();
    let is_new_session = secrets.is_empty();
    if is_new_session {
        secrets.push(command.secret);
    }
    let secret = secrets[0];
    let (first, of, now_ms) = (number + 1, command.parts.len() as u32, command.origin.received_ms);
    let mut edits = Vec::with_capacity(command.parts.len());
    let (mut all_bytes, mut pending) = (0, false);
    for (part, draft) in command.parts.into_iter().enumerate() {
        number += 1;
        let has_grounds = draft.changes.iter().any(|change| change.field == GROUNDS);
        let is_plain = kind_asked(command.kind) == EditKind::Change && filed.is_none();
        let level = if is_plain && has_grounds { LEVEL_GROUNDS } else { LEVEL_FIRST };
        let form = filed
            .filter(|_| part == 0)
            .map(|filed| (EXTENSION_FORM, form_commitment(&secret, number, &filed.content_bytes()).to_vec()));
        debug_assert!(level <= group.level);
        let header = Header {
            level,
            author: shard.own,
            number,
            previous,
            kind: command.kind,
            event: filed.map_or(Event::Change, |filed| filed.event),
            record: draft.record,
            record_kind: draft.record_kind,
            part: part as u32,
            of,
            origin: command.origin.clone(),
            valid_from: draft.valid_from,
            extensions: form.into_iter().collect(),
        };
        let edit = Edit { header, changes: draft.changes };
        pending |= edit.needs_second();
        let (bytes, hash) = edit.to_bytes_and_hash(&secret);
        if bytes.len() > EDIT_BYTES_MAX {
            let text = format!("an edit may have {EDIT_BYTES_MAX} bytes, this one has {}: split it", bytes.len());
            return Ok(Answer::refused(RefusalCode::Invalid, text));
        }
        all_bytes += bytes.len();
        if all_bytes > COMMAND_BYTES_MAX {
            let text = format!("all parts of an edit may have {COMMAND_BYTES_MAX} bytes, these have more: split it");
            return Ok(Answer::refused(RefusalCode::Invalid, text));
        }
        previous = hash;
        edits.push((edit, bytes, previous));
    }
    if is_new_session {
        tx.put(secret_key, &secrets);
    }
    let number = number_given(edits.iter().map(|(edit, ..)| edit));
    for ((edit, bytes, hash), transition) in edits.into_iter().zip(transitions) {
        let dot = Dot { actor: author, counter: edit.header.number };
        let takes_all = transition.as_ref().is_some_and(Transition::takes_all);
        let name = dot.clone();
        let entering =
            Entering { edit: &edit, dot, bytes, hash, from: None, key: KeyMark::default(), poison: None, transition };
        enter_alone(tx, shard, entering, now_ms)?;
        if takes_all {
            // What is held is not seen, and yet another value stands in its place.
            let record = tx.record(shard.info.shard, edit.header.record)?;
            pending |= record.is_some_and(|(record, _)| record.pending().contains_key(&name));
        }
    }
    sometimes("a conflict is decided", command.kind == EditKind::Decision);
    tx.put_shard(shard);
    let first = Dot { actor: author, counter: first };
    let receipt = Receipt { shard: shard.info.shard, first, count: of, hash: previous };
    Ok(Answer::Accepted(Accepted { receipt, replayed: false, pending, number }))
}
