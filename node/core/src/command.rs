//! Commands, which a group's log orders, and the answers that `registry` gives to them.
//!
//! A command is complete: who, why, when and every random choice are in it, put there at the door, so that all replicas
//! fold it to the same bytes. A log entry is a list of commands; its answer is the list of their answers.

use std::collections::BTreeMap;

use crate::access_log::{AccessEntry, AccessHead};
use crate::blocks::{Block, Wanted};
use crate::digest::Digest;
use crate::edit::{Author, Dot, EditKind, Origin};
use crate::encoding::{Malformed, Reader, Wire};
use crate::event::Event;
use crate::ids::{AuthorId, Hash, Incarnation, KeyMark, RecordId, SessionId, ShardId, SiteId, UnitId};
use crate::number::PersonNumber;
use crate::place::PlaceEntry;
use crate::record::FieldKey;
use crate::schema::RecordKind;
use crate::{wire_code, wire_enum, wire_struct};

/// Per author, the number and hash of its last edit: the version of a shard.
pub type Heads = BTreeMap<AuthorId, (u64, Hash)>;

/// A random name of one run of a shard's arrival order at one site; positions mean nothing outside it.
pub type Epoch = [u8; 16];

/// How far a neighbour's stream of a shard has been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which stream.
    pub epoch: Epoch,
    /// The last position taken.
    pub position: u64,
    /// The stream's running hash there.
    pub running: Hash,
}

impl Cursor {
    /// The beginning of a stream.
    #[must_use]
    pub fn start(epoch: Epoch) -> Self {
        Cursor { epoch, position: 0, running: Hash::default() }
    }
}

/// What a group's log orders: commands that were proposed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The proposer's clock, UTC milliseconds.
    pub at_ms: i64,
    /// In order.
    pub commands: Vec<Command>,
}

impl Proposal {
    /// The bytes of a proposal of commands that are encoded already.
    #[must_use]
    pub fn of_encoded(at_ms: i64, commands: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = at_ms.to_bytes();
        bytes.reserve_exact(commands.iter().map(Vec::len).sum::<usize>() + 4);
        (commands.len() as u64).encode(&mut bytes);
        commands.iter().for_each(|command| bytes.extend_from_slice(command));
        bytes
    }
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The first command of a group: whose it is.
    Form(Form),
    /// Hosts a shard from now on.
    Adopt(Adopt),
    /// An officer's edit.
    Edit(Box<EditCommand>),
    /// An event that an officer files.
    File(Box<FileCommand>),
    /// Blocks of personal numbers that the site grants to those below it.
    Grant(Box<GrantCommand>),
    /// A batch of a neighbour's stream.
    Merge(Box<MergeCommand>),
    /// Reads that wait for their entry in the access log.
    Access(Vec<AccessEntry>),
    /// Gives this site a new incarnation as an author, after its data came back from a backup.
    Renew(Renew),
    /// Keeps other sites' signed statements.
    Keep(Vec<Statement>),
    /// Allows the rules and encodings of a feature level.
    Raise(Raise),
    /// Changes the directory of units and sites.
    Place(Vec<PlaceEntry>),
    /// Forgets how far a neighbour's stream was taken, so that the next contact goes by heads.
    Forget(Forget),
}

/// Whose a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The site that runs the group.
    pub site: SiteId,
    /// Its first feature level.
    pub level: u16,
    /// The number of the key under which it will have its index.
    pub index_key: u32,
    /// The number of the key of its digests.
    pub digest_key: u32,
    /// The name of its access log: random.
    pub incarnation: Incarnation,
}

/// What a group must know of a shard that it hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// The shard.
    pub shard: ShardId,
    /// The units from the centre down to the shard's home, inclusive.
    pub path: Vec<UnitId>,
}

impl ShardInfo {
    /// The ancestor shard of the unit at the end of a path.
    #[must_use]
    pub fn of_unit_above(path: Vec<UnitId>) -> Self {
        ShardInfo { shard: ShardId::of_unit_above(path.last().copied().unwrap_or_default()), path }
    }

    /// Its home.
    #[must_use]
    pub fn home(&self) -> UnitId {
        self.path.last().copied().unwrap_or_default()
    }

    /// Whether it is of those that sites host without being founded with them.
    #[must_use]
    pub fn is_added(&self) -> bool {
        self.is_ancestor() || self.shard == ShardId::of_commune(self.home())
    }

    /// Whether this is an ancestor shard: not the records of a commune, but what a unit says to all below it.
    #[must_use]
    pub fn is_ancestor(&self) -> bool {
        self.shard == ShardId::of_unit_above(self.home())
    }

    /// Whether records of a kind may stand here. An ancestor shard goes to every site below: nobody may put people there. Units
    /// and holidays go to every site that there is, and are the centre's to say.
    #[must_use]
    pub fn takes(&self, kind: RecordKind) -> bool {
        match kind {
            RecordKind::Site | RecordKind::Block | RecordKind::Target => self.is_ancestor(),
            RecordKind::Unit | RecordKind::Calendar => self.is_ancestor() && self.path.len() == 1,
            RecordKind::Person | RecordKind::Household | RecordKind::Dossier | RecordKind::Unknown(_) => {
                !self.is_ancestor()
            }
        }
    }
}

/// Hosts a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    /// The shard.
    pub info: ShardInfo,
    /// This site's incarnation as an author for it; random.
    pub incarnation: Incarnation,
    /// The name of its stream; random.
    pub epoch: Epoch,
}

/// An officer's edit of one or several records of one shard, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditCommand {
    /// The shard of all its records.
    pub shard: ShardId,
    /// What it is.
    pub kind: EditKind,
    /// Who, why, when.
    pub origin: Origin,
    /// The secret for the session's commitments, if this is the session's first edit here; random.
    pub secret: [u8; 32],
    /// One edit each, in order.
    pub parts: Vec<PartDraft>,
}

/// An event that an officer files; what it makes of the records of one shard is all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCommand {
    /// The shard of all its records.
    pub shard: ShardId,
    /// Who, why, when.
    pub origin: Origin,
    /// As of an [`EditCommand`].
    pub secret: [u8; 32],
    /// What was filled in.
    pub filed: Filed,
    /// The blocks of this site, at most [`BLOCKS_SENT_MAX`](crate::blocks::BLOCKS_SENT_MAX), from which a number may be given that the
    /// form leaves open. They stand in other shards, so the door looks them up; those of another life count for nothing.
    pub blocks: Vec<Block>,
}

/// Blocks of personal numbers that the site of a unit grants to those below it. Which numbers they are, is said where the command is
/// applied: whoever asks for them cannot know what was granted a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantCommand {
    /// The ancestor shard of the unit.
    pub shard: ShardId,
    /// Who, why, when: the site itself.
    pub origin: Origin,
    /// As of an [`EditCommand`].
    pub secret: [u8; 32],
    /// Below which serial the centre grants none: there are the numbers that were given before there were blocks. Other sites grant
    /// of what they have.
    pub first_serial: u32,
    /// What is needed; at most [`GRANTS_MAX`](crate::blocks::GRANTS_MAX).
    pub wanted: Vec<Wanted>,
}

/// An event as it is filled in.
#[derive(Clone, PartialEq, Eq)]
pub struct Filed {
    /// What happened.
    pub event: Event,
    /// The records that it is about.
    pub subjects: Vec<Subject>,
    /// What the form asks about the event as a whole: the place of the input in the form, rising, and canonical bytes.
    pub inputs: Vec<(u8, Vec<u8>)>,
    /// On what it rests; perhaps empty.
    pub grounds: String,
}

/// A record in an event.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    /// The place of its role in the form.
    pub role: u8,
    /// The record; none if the event makes it.
    pub record: Option<RecordId>,
    /// Which card, of an event of a card; empty for the only one that it can be.
    pub element: String,
    /// The values that the officer was shown, rising.
    pub seen: Vec<Dot>,
    /// What the form asks about it, as of the event.
    pub inputs: Vec<(u8, Vec<u8>)>,
    /// What a correction puts into its fields, rising.
    pub corrections: Vec<(FieldKey, Vec<u8>)>,
}

// Personal data never reaches a log.
impl std::fmt::Debug for Filed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", self.event, self.subjects)
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} as {}, {} inputs", self.record, self.role, self.inputs.len())
    }
}

impl Filed {
    /// Its bytes without what was seen: what makes two requests the same.
    #[must_use]
    pub fn content_bytes(&self) -> Vec<u8> {
        let mut plain = self.clone();
        plain.subjects.iter_mut().for_each(|subject| subject.seen.clear());
        plain.to_bytes()
    }
}

/// One record's part in an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartDraft {
    /// The record. For a new one, the id derived from the request and the part's place.
    pub record: RecordId,
    /// What the record is.
    pub record_kind: RecordKind,
    /// Whether the record is created.
    pub create: bool,
    /// From when it holds in law; empty for the day it was received.
    pub valid_from: Vec<u8>,
    /// The fields, rising, each once.
    pub changes: Vec<crate::edit::Change>,
}

/// What a neighbour sent of its stream of one shard, as this site orders it. What goes over the link is a type of its own
/// (`sync::Batch`), and so is what an archive holds (`archive::Edits`): each can take another form without the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeCommand {
    /// The neighbour.
    pub peer: SiteId,
    /// When the door received it, UTC milliseconds.
    pub now_ms: i64,
    /// The shard.
    pub shard: ShardId,
    /// Where it begins; it is taken only if this site stands there, or if this is a stream's beginning.
    pub start: Cursor,
    /// Where this site stands afterwards.
    pub end: Cursor,
    /// The edits, in the order of arrival at the neighbour, without those that this site has. No command is split.
    pub items: Vec<Item>,
    /// The secrets of the sessions of these edits.
    pub secrets: Vec<(AuthorId, SessionId, [u8; 32])>,
    /// For each author, its word for the last of these edits, and so for all before it, as the door checked it.
    pub seals: Vec<Checked>,
}

/// An edit up to which its author's chain is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Who numbered it.
    pub author: Author,
    /// Its number.
    pub number: u64,
    /// Its hash, and by the chain that of all before it.
    pub hash: Hash,
}

impl Tip {
    /// What a seal signs.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"dinhba 2026 seal ".to_vec();
        self.encode(&mut bytes);
        bytes
    }
}

/// The word of a site that it wrote its author's chain up to a tip: nobody else can continue or fork it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The tip.
    pub tip: Tip,
    /// The Ed25519 signature of the author's site over [`Tip::signed_bytes`]. Whoever receives it checks it at the door,
    /// before anything is proposed.
    pub signature: [u8; 64],
}

/// A word whose signature was checked, and by which of its site's keys it is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The word.
    pub seal: Seal,
    /// The key.
    pub key: KeyMark,
}

/// An edit on its way.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name, so that bytes which cannot be read can still be set aside.
    pub dot: Dot,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {} B", self.dot, self.bytes.len())
    }
}

/// A new incarnation for a site whose neighbour knows an edit of its present one that it does not know itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renew {
    /// The shard.
    pub shard: ShardId,
    /// The author that this site has been; if it is another one by now, nothing is done.
    pub author: AuthorId,
    /// The new incarnation; random.
    pub incarnation: Incarnation,
    /// The new name of this site's stream; random.
    pub epoch: Epoch,
}

/// What a site says of a shard at one moment; signed, it is a proof to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementBody {
    /// Who says it.
    pub site: SiteId,
    /// Of which shard.
    pub shard: ShardId,
    /// In which life.
    pub incarnation: Incarnation,
    /// What it holds durably.
    pub heads: Heads,
    /// The number of the key of both digests: those under different keys cannot be compared.
    pub digest_key: u32,
    /// The feature level of the group: at another one, the same edits may make other records.
    pub level: u16,
    /// The digest of those edits.
    pub edits: Digest,
    /// The digest of the records folded from them.
    pub state: Digest,
    /// Where the access log of the group stands that hosts the shard.
    pub access: AccessHead,
    /// When, UTC milliseconds, by its clock.
    pub at_ms: i64,
}

/// A signed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What is said.
    pub body: StatementBody,
    /// The site's Ed25519 signature over the body's canonical bytes.
    pub signature: [u8; 64],
}

/// Allows a feature level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// The new level; at most one above the present one.
    pub level: u16,
    /// When, UTC milliseconds.
    pub now_ms: i64,
}

/// Forgets a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// The shard.
    pub shard: ShardId,
    /// Whose stream.
    pub peer: SiteId,
    /// The author to be tried again, if it was parked.
    pub author: Option<AuthorId>,
}

/// Proof of an acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The shard.
    pub shard: ShardId,
    /// The first of the command's edits, as its author numbered it, whatever it is called later.
    pub first: Dot,
    /// How many there are, numbered on from `first`.
    pub count: u32,
    /// The hash of the last of them.
    pub hash: Hash,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done; nothing to say.
    Done(Nothing),
    /// The edit has its numbers.
    Accepted(Accepted),
    /// A colleague or a merge was faster: nothing changed.
    Stale(Stale),
    /// Refused: nothing changed.
    Refused(Refusal),
    /// What became of a batch.
    Merged(Merged),
    /// Whether each read may go on.
    Access(Vec<bool>),
}

/// Nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nothing;

/// An edit was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The proof.
    pub receipt: Receipt,
    /// Whether the request had been accepted before: this is the answer to a retry.
    pub replayed: bool,
    /// Whether it holds until a second person confirms it, and no longer than until one rejects it.
    pub pending: bool,
    /// The personal number that the event gave, typed in or not: it goes onto the paper.
    pub number: Option<PersonNumber>,
}

/// Fields of a stale edit that are named: more than an officer's screen has.
pub const MOVED_MAX: usize = 64;

/// Values of a field that are named: one, but in conflicts.
pub const MOVED_DOTS_MAX: usize = 16;

/// The touched fields have moved on. What they hold now is not said: to look is a read, and reads are logged first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The record.
    pub record: RecordId,
    /// The fields that moved, at most [`MOVED_MAX`].
    pub fields: Vec<Moved>,
    /// How many more there are.
    pub more: u32,
}

/// A field that moved on.
#[derive(Clone, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub key: FieldKey,
    /// The names of its present values, at most [`MOVED_DOTS_MAX`].
    pub dots: Vec<Dot>,
}

impl std::fmt::Debug for Moved {
    /// Not the key of the element, which may be the number of a card.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}[{} B]: {:?}", self.key.0, self.key.1.len(), self.dots)
    }
}

/// Why a command was refused. All replicas agree on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what is wrong and what to do. Never contains a value of a record.
    pub text: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalCode {
    /// The caller's claims do not allow it.
    Denied,
    /// No such record, shard or conflict here.
    Unknown,
    /// The command breaks a rule by itself: it is refused whatever the state is.
    Invalid,
    /// A kind or encoding above the group's feature level.
    Level,
    /// It was done before, in a way that differs.
    Exists,
    /// The record as it is, or as it would become, breaks a rule.
    Rule,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The shard.
    pub shard: ShardId,
    /// Whether the batch was taken; if not, it did not begin where the cursor stands, or had a gap.
    pub taken: bool,
    /// Where the cursor stands now.
    pub cursor: Option<Cursor>,
    /// Edits that entered and that nobody has to look after: folded, or out for what others say of them.
    pub folded: u32,
    /// Edits that were here already.
    pub known: u32,
    /// Edits set aside.
    pub poisoned: u32,
    /// Whether an abandoned branch was taken out or a parked author released: the neighbour must go by heads, since what
    /// was passed over before fits now.
    pub rewound: bool,
    /// Authors whose chain broke in this batch; nothing of them is taken until an edit comes that fits.
    pub parked: Vec<AuthorId>,
    /// An author for one of whose edits no word of its site came, whose bytes cannot be read, whose command is not whole or too
    /// large, or who has too many lives or secrets: then nothing of the batch was taken, and the neighbour's stream of this
    /// shard ends here.
    pub refused: Option<AuthorId>,
}

impl Answer {
    /// A refusal with a text.
    #[must_use]
    pub fn refused(code: RefusalCode, text: impl Into<String>) -> Self {
        Answer::Refused(Refusal { code, text: text.into() })
    }
}

/// A field of an open conflict, or the rule that a merge broke.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKey {
    /// A legal field with several different current values.
    Field(FieldKey),
    /// A rule that does not hold.
    Rule(u16),
    /// Another record that the group holds has the same personal number.
    Number(Nothing),
}

impl std::fmt::Debug for ConflictKey {
    /// Without the key of an element: it may be the number of a card.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConflictKey::Field((field, _)) => write!(f, "Field({field})"),
            ConflictKey::Rule(rule) => write!(f, "Rule({rule})"),
            ConflictKey::Number(_) => f.write_str("Number"),
        }
    }
}

/// Set when a conflict is first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictEntry {
    /// UTC milliseconds, by the clock of the site that keeps the entry.
    pub since_ms: i64,
}

/// Set when an edit is first seen that waits for a second person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEntry {
    /// UTC milliseconds, by the clock of the site that keeps the entry.
    pub since_ms: i64,
    /// Whose edit it is: a name may be an alias.
    pub author: AuthorId,
}

wire_struct! {
    Proposal { at_ms, commands }
    Cursor { epoch, position, running }
    Form { site, level, index_key, digest_key, incarnation }
    ShardInfo { shard, path }
    Adopt { info, incarnation, epoch }
    EditCommand { shard, kind, origin, secret, parts }
    FileCommand { shard, origin, secret, filed, blocks }
    GrantCommand { shard, origin, secret, first_serial, wanted }
    Filed { event, subjects, inputs, grounds }
    Subject { role, record, element, seen, inputs, corrections }
    PartDraft { record, record_kind, create, valid_from, changes }
    MergeCommand { peer, now_ms, shard, start, end, items, secrets, seals }
    Tip { author, number, hash }
    Seal { tip, signature }
    Checked { seal, key }
    Item { dot, bytes }
    Renew { shard, author, incarnation, epoch }
    StatementBody { site, shard, incarnation, heads, digest_key, level, edits, state, access, at_ms }
    Statement { body, signature }
    Raise { level, now_ms }
    Forget { shard, peer, author }
    Receipt { shard, first, count, hash }
    Accepted { receipt, replayed, pending, number }
    Stale { record, fields, more }
    Moved { key, dots }
    Refusal { code, text }
    Merged { shard, taken, cursor, folded, known, poisoned, rewound, parked, refused }
    ConflictEntry { since_ms }
    PendingEntry { since_ms, author }
}

wire_code! { RefusalCode, "code of a refusal" { 1 => Denied, 2 => Unknown, 3 => Invalid, 4 => Level, 5 => Exists, 6 => Rule } }

wire_enum! { Command, "command" {
    1 => Form, 2 => Adopt, 3 => Edit, 4 => Merge, 5 => Access, 6 => Renew, 7 => Keep, 8 => Raise, 9 => Place, 10 => Forget,
    11 => File, 12 => Grant,
} }

wire_enum! { Answer, "answer" {
    1 => Done, 2 => Accepted, 3 => Stale, 4 => Refused, 5 => Merged, 6 => Access,
} }

wire_enum! { ConflictKey, "conflict" { 1 => Field, 2 => Rule, 3 => Number } }

impl RefusalCode {
    /// The word that tables and JSON print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RefusalCode::Denied => "denied",
            RefusalCode::Unknown => "unknown",
            RefusalCode::Invalid => "invalid",
            RefusalCode::Level => "level",
            RefusalCode::Exists => "exists",
            RefusalCode::Rule => "rule",
        }
    }
}

impl Wire for Nothing {
    fn encode(&self, _: &mut Vec<u8>) {}
    fn decode(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Nothing)
    }
}
