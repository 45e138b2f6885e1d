//! An edit: a numbered, chained entry of an author, its canonical bytes and its hash. The set of edits is the database;
//! everything else is folded from it.
//!
//! The bytes (version 1; see `encoding` for the elements, `proto/EDIT.md` for the specification and golden vectors):
//!
//! ```text
//! edit       = header changes
//! header     = version level author number previous kind event record record_kind part of request
//!              claims purpose case authored received valid_from extensions
//! changes    = count (field element value overwrites)*
//! commitment = keyed_hash(salt, change)      salt = keyed_hash(secret, number index)
//! hash       = derive_key("dinhba 2026 edit", length(header) header count commitment*)
//! ```
//!
//! The hash covers one *hiding commitment* per change instead of the change: a proof can show the header and some
//! changes and withhold the others. Salts derive from one secret per (author, session), which travels once.
//! Codes, extensions and fields that this version does not know are kept as they came, hashed and passed on; an edit with such a
//! code or field is not folded but set aside, until the level rises to one that has it.

use crdts::OrdDot;

use crate::claims::{Case, Claims, Purpose};
use crate::encoding::{Malformed, Reader, Wire};
use crate::event::Event;
use crate::ids::{AuthorId, Domain, Hash, Incarnation, RecordId, RequestId, ShardId, SiteId, first_16};
use crate::level::{self, LEVEL_FIRST};
use crate::schema::{FieldId, RecordKind};
use crate::{wire_code, wire_struct};

/// The version of the encoding, the first byte of every edit.
pub const EDIT_VERSION: u8 = 1;

/// Edits of one command: more would make one log entry, one batch and one screen of an officer too large.
pub const PARTS_MAX: usize = 64;

/// The encoded size of an edit: all fields of a person with long texts are under 20 kB; engines take values under 128 kB.
pub const EDIT_BYTES_MAX: usize = 96 * 1024;

/// All edits of one command together: with what a batch may hold before it, it must still fit one log entry at every site
/// above, or it would block the stream there.
pub const COMMAND_BYTES_MAX: usize = 256 * 1024;

/// What the header of most edits takes.
const HEADER_BYTES_USUAL: usize = 320;

/// What a dot takes, unless an author has made very many edits.
pub(crate) const DOT_BYTES: usize = 20;

/// The pseudo-field that carries an edit's grounds (a decision's reason): it hides and travels like any change and is
/// never folded into the record.
pub const GROUNDS: FieldId = FieldId(0);

/// The extension of the first edit of an event that was filed: a commitment to what was filled in, by which the same request is
/// known when it comes again.
pub const EXTENSION_FORM: u64 = 2;

/// The one who numbers edits: one life of one site, for one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Author {
    /// The site.
    pub site: SiteId,
    /// The shard whose records it edits.
    pub shard: ShardId,
    /// The life of the site's data.
    pub incarnation: Incarnation,
}

impl Author {
    /// The short name by which dots and heads call this author.
    #[must_use]
    pub fn id(&self) -> AuthorId {
        static DOMAIN: Domain = Domain::new("dinhba 2026 author");
        AuthorId(first_16(&DOMAIN.hasher().update(&self.to_bytes()).finalize()))
    }
}

/// The name of one edit: its author and its number, from 1 without gaps.
pub type Dot = OrdDot<AuthorId>;

impl Wire for Dot {
    fn encode(&self, out: &mut Vec<u8>) {
        self.actor.encode(out);
        self.counter.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Dot { actor: AuthorId::decode(input)?, counter: u64::decode(input)? })
    }
    fn bytes_hint(&self) -> usize {
        DOT_BYTES
    }
}

/// What an edit is. The kinds that are reserved are named now and refused until the feature level that brings them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EditKind {
    /// Creates or changes a record.
    Change,
    /// Decides a conflict: overwrites all of its values with the right one, with grounds.
    Decision,
    /// A change that waits for a second person: it shows at once, and is pending.
    Proposal,
    /// The second person confirms an edit.
    Confirmation,
    /// Reserved: a record changes its home.
    Move,
    /// Sets another edit aside until it is released.
    Hold,
    /// Releases a held edit.
    Release,
    /// Discards an edit that waits or is held.
    Reject,
    /// A site grants a block of personal numbers.
    Grant,
    /// A kind of a newer version; its code.
    Unknown(u8),
}

wire_code! { open EditKind {
    1 => Change, 2 => Decision, 3 => Proposal, 4 => Confirmation, 5 => Move, 6 => Hold, 7 => Release, 8 => Reject, 9 => Grant,
} }

impl EditKind {
    /// The feature level from which on the kind is folded; none if this version knows none: it is reserved, or unknown.
    #[must_use]
    pub const fn since(self) -> Option<u16> {
        match self {
            EditKind::Change | EditKind::Decision | EditKind::Proposal | EditKind::Confirmation => Some(LEVEL_FIRST),
            EditKind::Hold | EditKind::Release | EditKind::Reject | EditKind::Grant => Some(LEVEL_FIRST),
            EditKind::Move | EditKind::Unknown(_) => None,
        }
    }
    /// The kind's word, as logs, tables and JSON print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EditKind::Change => "change",
            EditKind::Decision => "decision",
            EditKind::Proposal => "proposal",
            EditKind::Confirmation => "confirmation",
            EditKind::Move => "move",
            EditKind::Hold => "hold",
            EditKind::Release => "release",
            EditKind::Reject => "reject",
            EditKind::Grant => "grant",
            EditKind::Unknown(_) => "unknown",
        }
    }
}

/// Who did it, why and under which request: the part of an edit that is the same for all edits of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The request, for applying a retry once.
    pub request: RequestId,
    /// The caller.
    pub claims: Claims,
    /// Why.
    pub purpose: Purpose,
    /// The case file it belongs to.
    pub case: Case,
    /// When the officer wrote it, by the caller's clock: UTC milliseconds.
    pub authored_ms: i64,
    /// When the author site received it, by its clock: UTC milliseconds. Set once.
    pub received_ms: i64,
}

/// What the first edit of an event keeps of the form that was filed: binding, and hiding without the session's secret.
#[must_use]
pub fn form_commitment(secret: &[u8; 32], number: u64, form: &[u8]) -> [u8; 16] {
    // No change has this place.
    let salt = blake3::keyed_hash(secret, &(number, u32::MAX).to_bytes());
    first_16(&blake3::keyed_hash(salt.as_bytes(), form))
}

/// What an edit's hash covers in the place of a change: binding, and hiding without the salt.
#[must_use]
pub fn commitment(salt: &[u8; 32], change: &Change) -> [u8; 32] {
    *blake3::keyed_hash(salt, &change.to_bytes()).as_bytes()
}

/// The hash of an edit, from the bytes of its header and the commitments of its changes.
#[must_use]
pub fn hash_of(header: &[u8], commitments: &[[u8; 32]]) -> Hash {
    static DOMAIN: Domain = Domain::new("dinhba 2026 edit");
    let mut hasher = DOMAIN.hasher();
    hasher.update(&(header.len() as u64).to_bytes());
    hasher.update(header);
    hasher.update(&(commitments.len() as u64).to_bytes());
    for commitment in commitments {
        hasher.update(commitment);
    }
    Hash(*hasher.finalize().as_bytes())
}

/// Everything of an edit but its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The lowest feature level that understands this edit.
    pub level: u16,
    /// Who numbered it.
    pub author: Author,
    /// Its number, from 1.
    pub number: u64,
    /// The hash of the author's edit before it; zero for number 1.
    pub previous: Hash,
    /// What it is.
    pub kind: EditKind,
    /// What happened in law.
    pub event: Event,
    /// The record it changes.
    pub record: RecordId,
    /// What the record is.
    pub record_kind: RecordKind,
    /// Its place among the edits of its command, from 0. Nothing splits a command.
    pub part: u32,
    /// How many edits the command has.
    pub of: u32,
    /// Who, why, when.
    pub origin: Origin,
    /// The civil date from which it holds in law: a `PartialDate`'s bytes, or empty for the day it was received.
    pub valid_from: Vec<u8>,
    /// Tagged additions, tags rising; unknown ones are kept.
    pub extensions: Vec<(u64, Vec<u8>)>,
}

/// One field's new value and exactly the values it replaces.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// The field.
    pub field: FieldId,
    /// Which element of a repeating field; empty otherwise.
    pub element: Vec<u8>,
    /// The new value's canonical bytes; empty clears the field.
    pub value: Vec<u8>,
    /// The dots whose values this one replaces, rising.
    pub overwrites: Vec<Dot>,
}

impl std::fmt::Debug for Change {
    /// Names the field and lengths only: a value is personal data and never reaches a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}[{} B] = {} B over {:?}", self.field, self.element.len(), self.value.len(), self.overwrites)
    }
}

/// A numbered, chained entry of an author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Who, what, when.
    pub header: Header,
    /// The fields it changes; each (field, element) at most once.
    pub changes: Vec<Change>,
}

wire_struct! {
    Author { site, shard, incarnation }
    Origin { request, claims, purpose, case, authored_ms, received_ms }
    Change { field, element, value, overwrites }
}

impl Wire for Header {
    fn encode(&self, out: &mut Vec<u8>) {
        EDIT_VERSION.encode(out);
        self.level.encode(out);
        self.author.encode(out);
        self.number.encode(out);
        self.previous.encode(out);
        self.kind.encode(out);
        self.event.encode(out);
        self.record.encode(out);
        self.record_kind.encode(out);
        self.part.encode(out);
        self.of.encode(out);
        self.origin.encode(out);
        self.valid_from.encode(out);
        self.extensions.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        if u8::decode(input)? != EDIT_VERSION {
            return Err(Malformed { what: "edit: unknown version of the encoding" });
        }
        let header = Header {
            level: Wire::decode(input)?,
            author: Wire::decode(input)?,
            number: Wire::decode(input)?,
            previous: Wire::decode(input)?,
            kind: Wire::decode(input)?,
            event: Wire::decode(input)?,
            record: Wire::decode(input)?,
            record_kind: Wire::decode(input)?,
            part: Wire::decode(input)?,
            of: Wire::decode(input)?,
            origin: Wire::decode(input)?,
            valid_from: Wire::decode(input)?,
            extensions: Wire::decode(input)?,
        };
        let rising = header.extensions.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if header.number <= u64::from(header.part)
            || header.part >= header.of
            || header.of as usize > PARTS_MAX
            || !rising
        {
            return Err(Malformed { what: "edit header" });
        }
        Ok(header)
    }

    fn bytes_hint(&self) -> usize {
        HEADER_BYTES_USUAL
    }
}

impl Wire for Edit {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.changes.encode(out);
    }

    fn bytes_hint(&self) -> usize {
        self.header.bytes_hint() + self.changes.bytes_hint()
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let edit = Edit { header: Wire::decode(input)?, changes: Wire::decode(input)? };
        let keys_rise =
            edit.changes.windows(2).all(|two| (two[0].field, &two[0].element) < (two[1].field, &two[1].element));
        let dots_rise = edit.changes.iter().all(|change| change.overwrites.windows(2).all(|two| two[0] < two[1]));
        if keys_rise && dots_rise { Ok(edit) } else { Err(Malformed { what: "edit: changes out of order" }) }
    }
}

impl Edit {
    /// The edit's name.
    #[must_use]
    pub fn dot(&self) -> Dot {
        Dot { actor: self.header.author.id(), counter: self.header.number }
    }

    /// The hash that the author's next edit chains to. `secret` is the author's secret for the request's session.
    #[must_use]
    pub fn hash(&self, secret: &[u8; 32]) -> Hash {
        self.hash_with(&self.header.to_bytes(), secret)
    }

    /// The bytes of the edit and its hash: the header is encoded once for both.
    pub(crate) fn to_bytes_and_hash(&self, secret: &[u8; 32]) -> (Vec<u8>, Hash) {
        let mut bytes = Vec::with_capacity(self.bytes_hint());
        self.header.encode(&mut bytes);
        let hash = self.hash_with(&bytes, secret);
        self.changes.encode(&mut bytes);
        (bytes, hash)
    }

    fn hash_with(&self, header: &[u8], secret: &[u8; 32]) -> Hash {
        let mut bytes = Vec::new();
        let mut commitment = |(index, change): (u32, &Change)| {
            bytes.clear();
            change.encode(&mut bytes);
            *blake3::keyed_hash(&self.salt(secret, index), &bytes).as_bytes()
        };
        let commitments: Vec<[u8; 32]> = (0..).zip(&self.changes).map(&mut commitment).collect();
        hash_of(header, &commitments)
    }

    /// The salt of change `index`.
    #[must_use]
    pub fn salt(&self, secret: &[u8; 32], index: u32) -> [u8; 32] {
        *blake3::keyed_hash(secret, &(self.header.number, index).to_bytes()).as_bytes()
    }

    /// Whether a feature level has its kind and its event, its record's kind, and that as which and why its caller acted.
    #[must_use]
    pub fn is_known(&self, level: u16) -> bool {
        let Header { kind, event, record_kind, origin, .. } = &self.header;
        let who = [origin.claims.role.since(), origin.purpose.since()];
        let mut since = [kind.since(), event.since(), record_kind.since()].into_iter().chain(who);
        since.all(|since| level::has(level, since))
    }

    /// The grounds given, as bytes of text.
    #[must_use]
    pub fn grounds(&self) -> Option<&[u8]> {
        self.changes.iter().find(|change| change.field == GROUNDS).map(|change| change.value.as_slice())
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! One edit, for golden vectors and damage tests.
    use super::*;
    use crate::claims::Role;
    use crate::ids::{EvidenceId, SessionId, UnitId};

    pub(crate) fn edit() -> Edit {
        let author = Author { site: SiteId(1), shard: ShardId(2), incarnation: Incarnation([3; 16]) };
        Edit {
            header: Header {
                level: 1,
                author,
                number: 7,
                previous: Hash([4; 32]),
                kind: EditKind::Change,
                event: Event::Birth,
                record: RecordId([5; 16]),
                record_kind: RecordKind::Person,
                part: 0,
                of: 2,
                origin: Origin {
                    request: RequestId { session: SessionId([6; 16]), counter: 9 },
                    claims: Claims {
                        subject: "nguyen.thi.a".parse().expect("a subject"),
                        role: Role::Registrar,
                        unit: UnitId(8),
                        evidence: EvidenceId([9; 16]),
                    },
                    purpose: Purpose::Registration,
                    case: "KS-2026/001".parse().expect("a case"),
                    authored_ms: 1_780_000_000_000,
                    received_ms: 1_780_000_000_250,
                },
                valid_from: Vec::new(),
                extensions: vec![(900, vec![1, 2, 3])],
            },
            changes: vec![Change {
                field: FieldId(1),
                element: Vec::new(),
                value: "Hòa".as_bytes().to_vec(),
                overwrites: vec![Dot { actor: author.id(), counter: 3 }],
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [0x5e; 32];

    #[test]
    fn bytes_and_hash_together_are_what_they_are_alone() {
        let edit = samples::edit();
        assert_eq!(edit.to_bytes_and_hash(&SECRET), (edit.to_bytes(), edit.hash(&SECRET)));
        let of_change = commitment(&edit.salt(&SECRET, 0), &edit.changes[0]);
        assert_eq!(edit.hash(&SECRET), hash_of(&edit.header.to_bytes(), &[of_change]));
    }

    #[test]
    fn an_edit_survives_its_bytes_with_extensions_it_does_not_know() {
        let edit = samples::edit();
        assert_eq!(Edit::from_bytes(&edit.to_bytes()), Ok(edit));
    }

    #[test]
    fn no_single_damaged_byte_keeps_the_hash() {
        let edit = samples::edit();
        let (bytes, hash) = (edit.to_bytes(), edit.hash(&SECRET));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x11;
            if let Ok(other) = Edit::from_bytes(&damaged) {
                assert_ne!(other.hash(&SECRET), hash, "byte {place}");
            }
        }
    }

    #[test]
    fn commitments_hide_without_the_secret_and_differ_for_equal_values() {
        let edit = samples::edit();
        let change = &edit.changes[0];
        let of = |secret, index| commitment(&edit.salt(secret, index), change);
        assert_ne!(of(&SECRET, 0), of(&SECRET, 1));
        assert_ne!(of(&SECRET, 0), of(&[0; 32], 0));
    }

    #[test]
    fn personal_data_stays_out_of_debug_output() {
        assert!(!format!("{:?}", samples::edit()).contains("Hòa"));
    }
}
