//! The same edits in any order. Authors whose chains branch, edits that are set aside by kind, level or value, edits that
//! claim to replace what they cannot have seen, sites that flood a record, requests that were accepted twice, and what officers say of
//! how edits stand, of their own too: whoever holds the same set of them holds the same
//! records, conflicts, index and names, and has set the same aside for the same reasons, however they came.

use std::collections::{BTreeMap, BTreeSet};

use crate::memory::{Office, PATH, SHARD, request, seal_all, value};
use dinhba_core::claims::{Claims, Purpose, Role};
use dinhba_core::command::{Cursor, Item};
use dinhba_core::edit::{Author, Change, Dot, Edit, EditKind, Header, Origin};
use dinhba_core::encoding::Wire;
use dinhba_core::event::Event;
use dinhba_core::ids::{AuthorId, EvidenceId, Hash, Incarnation, RecordId, SiteId};
use dinhba_core::keys::{Space, space_of, suffix};
use dinhba_core::registry::{AuthorState, ITEMS_MAX, Poison, StoredEdit, alias_id, authors, read, read_range};
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::standing::{Standing, standing_field, standing_key};
use dinhba_core::sync::Batch;
use proptest::prelude::*;
use proptest::sample::Index;

const PEER: SiteId = SiteId(2);
const SECRET: [u8; 32] = [7; 32];
const AUTHORS: u64 = 3;

/// One edit as chance wants it.
#[derive(Debug, Clone)]
pub struct Draft {
    author: u64,
    /// Mostly it goes on from its author's last edit; else from any of them, or from none.
    branches_at: Option<Index>,
    /// Which of its site's lives it is of.
    life: u8,
    record: u8,
    field: usize,
    value: u8,
    size: Size,
    /// Edits of before, and whether by their aliases.
    overwrites: Vec<(Index, bool)>,
    lie: Lie,
    /// Which of two persons, with which of two certificates.
    person: (u8, u8),
    act: Act,
}

/// What an edit is, besides a change of a field.
#[derive(Debug, Clone)]
enum Act {
    /// Nothing else.
    Write,
    /// It says how an edit of before stands.
    Say(Index, usize),
    /// Another acceptance of the request of an edit of before.
    Again(Index),
    /// It decides what is said of an edit of before, or takes all of it back.
    Decide(Index, Option<usize>),
    /// It decides between values of the field.
    Settle,
    /// It says that it makes the record.
    Make,
    /// A command of two edits: it goes on with a second one, of this record.
    Both(u8),
    /// A command that has its first edit from one of before, and another second one.
    Split(Index),
}

#[derive(Debug, Clone, Copy)]
enum Lie {
    /// It replaces itself.
    OwnDot,
    /// It replaces what its author will write later.
    OwnFuture(u64),
    /// It replaces what another author will write later.
    OthersFuture(u64),
    Kind,
    Level(u16),
    Value,
    RecordKind,
    None,
}

/// How much an edit costs its site.
#[derive(Debug, Clone, Copy)]
enum Size {
    Usual,
    /// Two of them fit what counts of a life in a flood, three do not.
    Large,
    /// A few of them flood a record.
    Huge,
}

/// Of three authors, as sites are; or of two lives of one site that floods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crowd {
    Sites,
    Flood,
    /// Few fields of few records, of which much is said.
    Words,
}

pub fn draft(crowd: Crowd) -> impl Strategy<Value = Draft> {
    let lie = prop_oneof![
        1 => Just(Lie::OwnDot),
        1 => (1..3_u64).prop_map(Lie::OwnFuture),
        1 => (1..4_u64).prop_map(Lie::OthersFuture),
        1 => Just(Lie::Kind),
        2 => (2..4_u16).prop_map(Lie::Level),
        1 => Just(Lie::Value),
        1 => Just(Lie::RecordKind),
        if crowd == Crowd::Words { 30 } else { 8 } => Just(Lie::None),
    ];
    let branches = prop::option::weighted(0.25, any::<Index>());
    let overwrites = prop::collection::vec((any::<Index>(), prop::bool::weighted(0.3)), 0..4);
    // Once a record is flooded, what counts of a life is seen by small edits.
    let size = match crowd {
        Crowd::Sites | Crowd::Words => Just(Size::Usual).boxed(),
        Crowd::Flood => prop_oneof![4 => Just(Size::Usual), 3 => Just(Size::Large), 3 => Just(Size::Huge)].boxed(),
    };
    let (authors, lives) = match crowd {
        Crowd::Sites => ((0..AUTHORS).boxed(), 2_u8),
        Crowd::Flood => (prop_oneof![4 => Just(0), 1 => Just(1_u64)].boxed(), 2),
        Crowd::Words => (prop_oneof![2 => Just(0), 1 => Just(1_u64)].boxed(), 3),
    };
    let who = (authors, 1..=lives, 0..8_u8);
    let act = prop_oneof![
        6 => Just(Act::Write),
        3 => (any::<Index>(), 0..4_usize).prop_map(|(target, standing)| Act::Say(target, standing)),
        1 => any::<Index>().prop_map(Act::Again),
        1 => (any::<Index>(), prop::option::of(0..4_usize)).prop_map(|(target, said)| Act::Decide(target, said)),
        1 => Just(Act::Settle),
        1 => Just(Act::Make),
        1 => (0..2_u8).prop_map(Act::Both),
        1 => any::<Index>().prop_map(Act::Split),
    ];
    let act = match crowd {
        Crowd::Words => prop_oneof![
            3 => act,
            2 => (any::<Index>(), 0..4_usize).prop_map(|(target, standing)| Act::Say(target, standing)),
            2 => any::<Index>().prop_map(Act::Again),
        ]
        .boxed(),
        _ => act.boxed(),
    };
    let (person, what) = ((0..2_u8, 0..2_u8), (size, lie, act));
    (who, branches, 0..5_usize, any::<u8>(), overwrites, person, what).prop_map(
        move |((author, life, record), branches_at, field, value, overwrites, person, (size, lie, act))| Draft {
            person,
            act,
            author,
            branches_at,
            life,
            // Most are of the first one.
            record: if crowd == Crowd::Sites { record % 2 } else { record / 6 },
            field: if crowd == Crowd::Words { [0, 0, 3, 3, 2][field] } else { field },
            value,
            size,
            overwrites,
            lie,
        },
    )
}

/// Edits of `author` that nobody made; to name them costs as much as to write.
fn invented(author: AuthorId) -> Vec<Dot> {
    (1_000..3_600).map(|counter| Dot { actor: author, counter }).collect()
}

/// A command of one edit or two, and the one that it follows.
pub struct Forged {
    edit: Edit,
    hash: Hash,
    second: Option<(Edit, Hash)>,
    parent: Option<usize>,
}

impl Forged {
    /// The last of its edits.
    fn end(&self) -> (u64, Hash) {
        self.second.as_ref().map_or((self.edit.header.number, self.hash), |(edit, hash)| (edit.header.number, *hash))
    }

    fn edits(&self) -> impl Iterator<Item = (&Edit, &Hash)> {
        let second = self.second.as_ref().map(|(edit, hash)| (edit, hash));
        [(&self.edit, &self.hash)].into_iter().chain(second)
    }

    /// One of its edits, as chance wants it.
    fn any(&self, chance: u8) -> (&Edit, &Hash) {
        let all: Vec<_> = self.edits().collect();
        all[usize::from(chance) % all.len()]
    }
}

pub fn forge(drafts: &[Draft]) -> Vec<Forged> {
    let mut all: Vec<Forged> = Vec::new();
    for (count, draft) in drafts.iter().enumerate() {
        let author =
            Author { site: SiteId(10 + draft.author), shard: SHARD, incarnation: Incarnation([draft.life; 16]) };
        let own: Vec<usize> = (0..all.len()).filter(|at| all[*at].edit.header.author == author).collect();
        let parent = match &draft.branches_at {
            Some(at) => [None].into_iter().chain(own.iter().copied().map(Some)).nth(at.index(own.len() + 1)).flatten(),
            None => own.last().copied(),
        };
        let (number, previous) = parent.map_or((1, Hash::default()), |at| (all[at].end().0 + 1, all[at].end().1));
        let mut overwrites: BTreeSet<Dot> = BTreeSet::new();
        if !all.is_empty() {
            overwrites.extend(draft.overwrites.iter().map(|(at, by_alias)| {
                let (edit, hash) = all[at.index(all.len())].any(draft.value / 2);
                let Dot { actor, counter } = edit.dot();
                Dot { actor: if *by_alias { alias_id(actor, hash) } else { actor }, counter }
            }));
        }
        let other = Author { site: SiteId(10 + (draft.author + 1) % AUTHORS), ..author };
        let (mut kind, mut level, mut record_kind) = (EditKind::Change, 1, RecordKind::Person);
        let (written, mut bytes): (FieldId, Vec<u8>) = match draft.field {
            0 => (field::SEX, value(field::SEX, ["male", "female"][usize::from(draft.value % 2)])),
            1 => (field::NAME, value(field::NAME, ["Lê//An", "Lê//Bình", "Lê//Chi"][usize::from(draft.value % 3)])),
            2 => (field::NOTE, value(field::NOTE, &format!("note {}", draft.value))),
            3 => (
                field::DEATH_DATE,
                value(field::DEATH_DATE, ["2024-01-02", "2024-01-03"][usize::from(draft.value % 2)]),
            ),
            _ => {
                let number = ["001190000123", "001190000456"][usize::from(draft.value % 2)];
                (field::PERSONAL_NUMBER, value(field::PERSONAL_NUMBER, number))
            }
        };
        match draft.lie {
            Lie::OwnDot => drop(overwrites.insert(Dot { actor: author.id(), counter: number })),
            Lie::OwnFuture(by) => drop(overwrites.insert(Dot { actor: author.id(), counter: number + by })),
            Lie::OthersFuture(number) => {
                overwrites.insert(Dot { actor: other.id(), counter: number });
            }
            Lie::Kind => kind = EditKind::Move,
            Lie::Level(above) => level = above,
            Lie::Value => bytes = vec![0xff],
            Lie::RecordKind => record_kind = RecordKind::Household,
            Lie::None => {}
        }
        // A field of persons alone would set the edit aside.
        let written = if record_kind == RecordKind::Household { field::NOTE } else { written };
        let bytes = if record_kind == RecordKind::Household { value(field::NOTE, "a house") } else { bytes };
        let (mut written, mut element, mut bytes) = (written, Vec::new(), bytes);
        match draft.size {
            Size::Large if record_kind == RecordKind::Person && !matches!(draft.lie, Lie::Value) => {
                (written, bytes) = (field::NOTE, value(field::NOTE, &"dài".repeat(220)));
            }
            Size::Huge if record_kind == RecordKind::Person => {
                (written, element, bytes) = (field::DOCUMENT, vec![b'a' + draft.value % 2; 48], Vec::new());
                overwrites.extend(invented(other.id()));
            }
            _ => {}
        }
        let mut record = RecordId::derive(request(9, u64::from(draft.record) + 1), 0);
        let of_what = |target: &Index| {
            let (edit, hash) = all[target.index(all.len())].any(draft.value / 4);
            (edit.header.record, edit.header.record_kind, standing_key(hash))
        };
        match &draft.act {
            Act::Say(target, standing) if !all.is_empty() => {
                let standing = Standing::ALL[*standing];
                kind = standing.kind();
                (record, record_kind, element) = of_what(target);
                // Some take the record for one of another kind.
                if draft.value % 16 == 15 {
                    record_kind = RecordKind::Household;
                }
                written = standing_field(record_kind).unwrap();
                bytes = standing.value();
            }
            Act::Decide(target, standing) if !all.is_empty() => {
                kind = EditKind::Decision;
                (record, record_kind, element) = of_what(target);
                written = standing_field(record_kind).unwrap();
                bytes = standing.map(|at| Standing::ALL[at].value()).unwrap_or_default();
            }
            Act::Settle if !matches!(draft.lie, Lie::Kind) => kind = EditKind::Decision,
            _ => {}
        }
        let asked = match &draft.act {
            Act::Make => request(9, u64::from(draft.record) + 1),
            _ => request(10 + draft.author as u8, count as u64 + 1),
        };
        let changes =
            vec![Change { field: written, element, value: bytes, overwrites: overwrites.into_iter().collect() }];
        let subject = ["nguyen.lan", "tran.binh"][usize::from(draft.person.0)];
        let claims = Claims::new(subject, Role::Registrar, PATH[3], EvidenceId([draft.person.1; 16])).unwrap();
        let header = Header {
            level,
            author,
            number,
            previous,
            kind,
            event: Event::Change,
            record,
            record_kind,
            part: 0,
            of: 1,
            origin: Origin {
                request: asked,
                claims,
                purpose: Purpose::Registration,
                case: "KS-1".parse().unwrap(),
                authored_ms: 1,
                received_ms: i64::from(draft.value),
            },
            valid_from: Vec::new(),
            extensions: Vec::new(),
        };
        let mut edit = Edit { header, changes };
        let of_site: Vec<&Forged> = all.iter().filter(|forged| forged.edit.header.author.site == author.site).collect();
        let mut second = None;
        if let Act::Again(first) = &draft.act
            && let Some(first) = of_site.get(first.index(of_site.len().max(1)))
        {
            // In another life, on another branch or later on this one; all but its place and the time is as it was.
            let Header { number, previous, .. } = edit.header;
            let received_ms = edit.header.origin.received_ms;
            let again = |(edit, _): (&Edit, &Hash)| {
                let mut header = Header { author, number, previous, ..edit.header.clone() };
                header.origin.received_ms = received_ms;
                Edit { header, ..edit.clone() }
            };
            let mut edits = first.edits().map(again);
            (edit, second) = (edits.next().unwrap(), edits.next());
        }
        if let Act::Both(other) = &draft.act {
            edit.header.of = 2;
            let mut next = edit.clone();
            (next.header.part, next.header.record) = (1, RecordId::derive(request(9, u64::from(*other) + 1), 0));
            second = Some(next);
        }
        let mut parent = parent;
        let halves: Vec<&Forged> =
            all.iter().filter(|forged| forged.second.is_some() && forged.edit.header.author == author).collect();
        if let Act::Split(half) = &draft.act
            && !halves.is_empty()
        {
            let half = halves[half.index(halves.len())];
            (edit, parent) = (half.edit.clone(), half.parent);
            let mut next = half.second.clone().unwrap().0;
            next.changes[0].element.clear();
            (next.changes[0].field, next.changes[0].value) =
                (field::NOTE, value(field::NOTE, &format!("half {}", draft.value)));
            next.header.record_kind = RecordKind::Person;
            second = Some(next);
        }
        let hash = edit.hash(&SECRET);
        let second = second.map(|mut next| {
            (next.header.number, next.header.previous) = (edit.header.number + 1, hash);
            let hash = next.hash(&SECRET);
            (next, hash)
        });
        all.push(Forged { edit, hash, second, parent });
    }
    all
}

/// An order in which each edit comes after the one that it follows, as near as that allows to rising `wishes`.
pub fn order(all: &[Forged], wishes: &[u32]) -> Vec<usize> {
    let mut order = Vec::new();
    while order.len() < all.len() {
        let may_come = |at: &usize| !order.contains(at) && all[*at].parent.is_none_or(|parent| order.contains(&parent));
        let next = (0..all.len()).filter(may_come).min_by_key(|at| (wishes[*at], *at)).unwrap();
        order.push(next);
    }
    order
}

/// A site that took the edits in this order, a few to a batch, and learned level 2 before the `raised`th batch.
pub fn site(all: &[Forged], order: &[usize], batches: &[usize], raised: usize) -> Office {
    let mut office = Office::new(1);
    let mut rest = order;
    let mut sizes = batches.iter().copied().cycle();
    for batch in 0.. {
        if batch == raised || rest.is_empty() {
            office.raise();
        }
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(sizes.next().unwrap_or(ITEMS_MAX).clamp(1, rest.len()));
        rest = later;
        let items = now.iter().flat_map(|at| all[*at].edits());
        let items = items.map(|(edit, _)| Item { dot: edit.dot(), bytes: edit.to_bytes() });
        let secrets: BTreeSet<_> = now.iter().map(|at| of(&all[*at].edit)).collect();
        let start = Cursor::start([1; 16]);
        let mut batch = Batch {
            shard: SHARD,
            start,
            end: start,
            items: items.collect(),
            secrets: secrets.into_iter().map(|(author, session)| (author, session, SECRET)).collect(),
            seals: Vec::new(),
        };
        seal_all(&mut batch);
        let merged = office.merge(PEER, batch, 6);
        assert!(merged.taken && merged.parked.is_empty(), "{merged:?}");
    }
    office
}

fn of(edit: &Edit) -> (dinhba_core::ids::AuthorId, dinhba_core::ids::SessionId) {
    (edit.header.author.id(), edit.header.origin.request.session)
}

/// What must not depend on the order: records, conflicts, the index, byte for byte; heads; where the branches of authors
/// end, and what is set aside, which lie wherever they came.
fn told(office: &Office) -> impl PartialEq + std::fmt::Debug + use<> {
    let spaces = [
        Space::Home,
        Space::Term,
        Space::Record,
        Space::Conflict,
        Space::Index,
        Space::Number,
        Space::Pending,
        Space::Figure,
    ];
    let spaces = spaces.map(|space| Some(space as u8));
    let kept = office.state.0.iter().filter(|(key, _)| spaces.contains(&space_of(key)));
    let kept: BTreeMap<Vec<u8>, Vec<u8>> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    let ends = authors(&office.state, office.keys(), SHARD).unwrap().into_values();
    let ends: BTreeSet<_> = ends
        .map(|AuthorState { author, number, hash, from, parked, .. }| (author, number, hash, from, parked.is_some()))
        .collect();
    let aside = read_range::<Poison>(&office.state, office.keys().poisons(SHARD)).unwrap().into_iter();
    let aside: BTreeMap<Hash, Poison> = aside
        .map(|(key, poison)| {
            let (actor, counter) = suffix(&key, 0).split_first_chunk().unwrap();
            let place = Dot { actor: AuthorId(*actor), counter: u64::from_be_bytes(counter.try_into().unwrap()) };
            let edit: StoredEdit = read(&office.state, &office.keys().edit(SHARD, &place)).unwrap().unwrap();
            (edit.hash, poison)
        })
        .collect();
    (kept, office.here().heads(SHARD).unwrap(), ends, aside)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_edits_are_the_same_records_in_any_order(
        drafts in prop::collection::vec(draft(Crowd::Sites), 1..14),
        wishes in prop::collection::vec(prop::collection::vec(any::<u32>(), 14), 3),
        batches in prop::collection::vec(1..5_usize, 3),
        raised in prop::collection::vec(0..14_usize, 3),
    ) {
        check(&drafts, &wishes, &batches, &raised)?;
    }

    #[test]
    fn the_same_words_of_the_same_edits_settle_the_same_in_any_order(
        drafts in prop::collection::vec(draft(Crowd::Words), 2..12),
        wishes in prop::collection::vec(prop::collection::vec(any::<u32>(), 12), 3),
        batches in prop::collection::vec(1..5_usize, 3),
        raised in prop::collection::vec(0..12_usize, 3),
    ) {
        check(&drafts, &wishes, &batches, &raised)?;
    }
}

proptest! {
    // Each takes some twenty times as long as one of the others.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: (ProptestConfig::default().cases / 8).max(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_same_edits_of_a_site_that_floods_are_set_aside_in_any_order(
        drafts in prop::collection::vec(draft(Crowd::Flood), 6..18),
        wishes in prop::collection::vec(prop::collection::vec(any::<u32>(), 18), 3),
        batches in prop::collection::vec(1..5_usize, 3),
        raised in prop::collection::vec(0..18_usize, 3),
    ) {
        check(&drafts, &wishes, &batches, &raised)?;
    }
}

/// Three sites that take the same edits in orders of their own come to the same.
fn check(drafts: &[Draft], wishes: &[Vec<u32>], batches: &[usize], raised: &[usize]) -> Result<(), TestCaseError> {
    let all = forge(drafts);
    let sites: Vec<Office> =
        (0..3).map(|at| site(&all, &order(&all, &wishes[at]), &batches[at..=at], raised[at])).collect();
    for other in &sites[1..] {
        prop_assert_eq!(other.shard().edits_digest, sites[0].shard().edits_digest);
        let listed = |office: &Office| -> BTreeSet<_> {
            office.listed().into_iter().map(|entry| (entry.work, entry.record, entry.item)).collect()
        };
        prop_assert_eq!(listed(other), listed(&sites[0]));
        prop_assert_eq!(other.shard().state_digest, sites[0].shard().state_digest);
        prop_assert_eq!(other.shard().poisoned, sites[0].shard().poisoned);
        prop_assert_eq!(other.shard().pending, sites[0].shard().pending);
        prop_assert_eq!(told(other), told(&sites[0]));
    }
    Ok(())
}
