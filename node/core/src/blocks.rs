//! Blocks of personal numbers: who may give which numbers, so that offices that cannot hear each other never give one twice.
//!
//! Of each [`Series`] the centre grants blocks to the sites below it, these grant parts of them on, and the lowest site of a
//! commune assigns from its own, in the edit that registers a birth. A grant is a record of the granting unit's ancestor shard, so
//! all below hear of it. It names the *life* of its holder's data: one that came back from an old copy may have forgotten what
//! was given, so it uses no block of a former life, and what was left of that is void for ever. No clock ends a block.
//!
//! What a grant says is believed no further than what its author was granted ([`Granted::is_backed`]): whoever has the key of
//! a district can spoil that district's numbers, and nobody else's.
//!
//! Which numbers of a series are spoken for is kept as bits ([`Taken`]), set by every edit that ever wrote such a number, and never
//! unset: a number that was cancelled, or whose registration was rejected, is nobody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::edit::Author;
use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::{AuthorId, ShardId, UnitId};
use crate::number::{PersonNumber, SERIAL_END, Series, Sex};
use crate::record::{Record, Tagged, are_disputed};
use crate::schema::{Content, FieldId, RecordKind, Value, field};
use crate::wire_struct;

/// The first serial of each series that is granted, where nothing else is said: what was given in a province to one sex and birth year before
/// there were blocks is far less than half a million.
pub const FIRST_SERIAL: u32 = 500_000;

/// Grants that one command asks for: an edit has as many parts.
pub const GRANTS_MAX: usize = 64;

/// Blocks that go with an event, from which its number may come: one is in use, and the next one is there before that ends.
pub const BLOCKS_SENT_MAX: usize = 16;

/// Some numbers of a series, one after the other, and who may give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The series.
    pub series: Series,
    /// The serial of its first number.
    pub first: u32,
    /// How many numbers it has; at least one.
    pub count: u32,
    /// Who may use it: a site, in one shard, in one life.
    pub holder: Author,
}

impl Block {
    /// What a record says; nothing if it does not say what a block needs, or one that does not fit into its series.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        if record.kind != RecordKind::Block {
            return None;
        }
        let number = record.value(field::BLOCK_FIRST, b"")?.number()?;
        let block = Block {
            series: number.series(),
            first: number.serial(),
            count: record.text(field::BLOCK_COUNT)?.parse().ok()?,
            holder: Author {
                site: record.text(field::BLOCK_SITE)?.parse().ok()?,
                shard: record.text(field::BLOCK_SHARD)?.parse().ok()?,
                incarnation: record.text(field::BLOCK_LIFE)?.parse().ok()?,
            },
        };
        (block.count > 0 && block.count <= SERIAL_END - block.first).then_some(block)
    }

    /// Its serials.
    #[must_use]
    pub fn serials(&self) -> Range<u32> {
        self.first..self.first + self.count
    }

    /// Whether a number is one of it.
    #[must_use]
    pub fn has(&self, number: PersonNumber) -> bool {
        number.series() == self.series && self.serials().contains(&number.serial())
    }

    /// Whether all of another one is of it.
    #[must_use]
    pub fn covers(&self, other: &Block) -> bool {
        let (own, others) = (self.serials(), other.serials());
        self.series == other.series && own.start <= others.start && others.end <= own.end
    }
}

/// A block, and who granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The block.
    pub block: Block,
    /// The author of the grant, as its edit is called: who granted beside his own chain is nobody.
    pub by: AuthorId,
}

wire_struct! {
    Block { series, first, count, holder }
    Granted { block, by }
}

impl Granted {
    /// What a record of an ancestor shard says.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let block = Block::of(record)?;
        let by = record.dots(&(field::BLOCK_FIRST, Vec::new())).first()?.actor;
        Some(Granted { block, by })
    }

    /// Whether whoever granted it had it to grant. `above` are the grants of the ancestor shards over the one it stands in, nearest
    /// first; none of the centre's, who has all numbers.
    #[must_use]
    pub fn is_backed(&self, above: &[Vec<Granted>]) -> bool {
        if above.is_empty() {
            return true;
        }
        // A unit without a site grants nothing: what is below it has its blocks from further up.
        (0..above.len()).any(|at| {
            let covers = |granted: &&Granted| granted.block.holder.id() == self.by && granted.block.covers(&self.block);
            above[at].iter().filter(covers).any(|granted| granted.is_backed(&above[at + 1..]))
        })
    }
}

/// A block that somebody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of which series.
    pub series: Series,
    /// For whom.
    pub holder: Author,
    /// How many numbers; fewer are granted if there is no longer row of them.
    pub count: u32,
    /// How many numbers of the series whoever asks has seen granted to the holder here: if there are others by now, nothing is granted,
    /// so that two who ask at once do not grant twice.
    pub granted: u64,
    /// Serials that are spoken for though nobody granted them, from and to: numbers that were typed in. At most [`AVOIDED_MAX`].
    pub avoided: Vec<(u32, u32)>,
}

wire_struct! { Wanted { series, holder, count, granted, avoided } }

/// Rows of numbers that were typed in and are kept out of one block.
pub const AVOIDED_MAX: usize = 256;

/// Serials in one entry of the ledger.
pub const PAGE: u32 = 256;

/// Which serials of a page are spoken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken([u8; 32]);

impl Taken {
    /// The page of a serial.
    #[must_use]
    pub fn page(serial: u32) -> u16 {
        // A serial has six digits.
        u16::try_from(serial / PAGE).unwrap_or(u16::MAX)
    }

    /// Whether a serial of this page is.
    #[must_use]
    pub fn has(&self, serial: u32) -> bool {
        self.0[(serial % PAGE / 8) as usize] & (1 << (serial % 8)) != 0
    }

    /// Takes it; whether it was free.
    pub fn take(&mut self, serial: u32) -> bool {
        let was_free = !self.has(serial);
        self.0[(serial % PAGE / 8) as usize] |= 1 << (serial % 8);
        was_free
    }

    /// How many of this page, which begins at `start`, are within these serials.
    #[must_use]
    pub fn count_in(&self, start: u32, serials: &Range<u32>) -> u32 {
        let end = start.saturating_add(PAGE).min(serials.end);
        (start.max(serials.start)..end).map(|serial| u32::from(self.has(serial))).sum()
    }
}

impl Wire for Taken {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Wire::decode(input).map(Taken)
    }
    fn bytes_hint(&self) -> usize {
        self.0.len()
    }
}

/// The first serials of `within`, one after the other, that are of none of `used`: at most `count`, and at least one. What was used
/// need not be in order, nor apart.
#[must_use]
pub fn next_row(within: Range<u32>, used: impl Iterator<Item = Range<u32>>, count: u32) -> Option<Range<u32>> {
    let used: BTreeSet<(u32, u32)> = used.map(|used| (used.start, used.end)).collect();
    let Range { mut start, mut end } = within;
    for (from, to) in used {
        if from > start {
            end = end.min(from);
            break;
        }
        start = start.max(to);
    }
    end = end.min(start.saturating_add(count));
    (start < end).then_some(start..end)
}

/// Fields that say whether a number is due to somebody.
pub const DUE_BY: [FieldId; 7] = [
    field::PERSONAL_NUMBER,
    field::FORMER_NUMBER,
    field::SEX,
    field::BIRTH_DATE,
    field::BIRTH_REGISTRATION_PLACE,
    field::NATIONALITY,
    field::DEATH_DATE,
];

/// Of what sex and birth year the number is that a person lacks: as [`number_due`], and also who had one that was cancelled, to whom
/// an officer gives another one.
#[must_use]
pub fn number_lacking(record: &Record, home: UnitId) -> Option<(Sex, u16)> {
    lacks(record, home, &[field::PERSONAL_NUMBER, field::DEATH_DATE])
}

/// Of what sex and birth year the number is that is due to a person: one who has none and had none, who lives, is a citizen as far
/// as is known, and whose birth is registered at `home`. While one of these facts is in dispute none is due: a number says some of them.
#[must_use]
pub fn number_due(record: &Record, home: UnitId) -> Option<(Sex, u16)> {
    lacks(record, home, &[field::PERSONAL_NUMBER, field::FORMER_NUMBER, field::DEATH_DATE])
}

fn lacks(record: &Record, home: UnitId, without: &[FieldId]) -> Option<(Sex, u16)> {
    let has = |of: FieldId| {
        let values = |(key, values): (&(FieldId, Vec<u8>), &[Tagged])| {
            key.0 == of && values.iter().any(|tagged| !tagged.value.is_empty())
        };
        record.fields().any(values)
    };
    if record.kind != RecordKind::Person || without.iter().copied().any(has) {
        return None;
    }
    if DUE_BY.into_iter().any(|field| are_disputed(record.values(&(field, Vec::new())))) {
        return None;
    }
    said_by_number(home, |field| record.value(field, b""))
}

/// The sex and birth year that a person's number says, by the values of its fields: of a citizen, as far as is known, whose birth is
/// registered at `home`.
#[must_use]
pub fn said_by_number(home: UnitId, value: impl Fn(FieldId) -> Option<Value>) -> Option<(Sex, u16)> {
    let registered = value(field::BIRTH_REGISTRATION_PLACE)?.part("unit")?.unit()?;
    let is_citizen = value(field::NATIONALITY).is_none_or(|value| *value.content() == Content::Country(*b"VN"));
    let born = value(field::BIRTH_DATE)?.date()?.earliest().year();
    let sex = Sex::of_code(value(field::SEX)?.code()?)?;
    (registered == home && is_citizen && Series::new(0, sex, born).is_ok()).then_some((sex, born))
}

/// Grants on the way of a number: by the centre, a province and a district; and the holder at the end.
const TIERS: u32 = 4;

/// Blocks that are looked at of one that is accounted for.
const STEPS_MAX: usize = 20_000;

/// Where the numbers of a series are, of those that a unit has to give. Everybody's numbers are in it once, or it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// All of them.
    pub total: u64,
    /// Granted to nobody. At the centre those that were given before there were blocks are among them.
    pub free: u64,
    /// Granted to a site on the way, which has not granted them on.
    pub on_the_way: u64,
    /// Granted to whoever assigns them, and not assigned.
    pub left: u64,
    /// Spoken for: assigned, or typed in.
    pub assigned: u64,
    /// Nobody's ever: a life had them that is over.
    pub void: u64,
}

impl Account {
    /// Whether each number is in one place. If not, one was granted twice: a site granted from an old copy of its data, or its key
    /// was stolen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.total == self.free + self.on_the_way + self.left + self.assigned + self.void
    }

    /// Adds what became of a block. `all` are the grants of the series, by ancestor shard. Whatever a site granted of it counts, in whichever
    /// life or branch of its chain: somebody may have used it.
    ///
    /// # Errors
    /// What `assigned` says.
    pub fn add<E>(
        &mut self,
        block: &Block,
        all: &BTreeMap<ShardId, Vec<Granted>>,
        is_current: &impl Fn(&Author) -> bool,
        assigned: &mut impl FnMut(&Block) -> Result<u32, E>,
    ) -> Result<(), E> {
        let mut steps = STEPS_MAX;
        self.add_within(block, all, (TIERS, &mut steps), is_current, assigned)
    }

    /// The same, no further down than there are tiers, and with an end: whoever has a site's key can grant to himself, and whatever he granted
    /// is in here as often as he granted it.
    fn add_within<E>(
        &mut self,
        block: &Block,
        all: &BTreeMap<ShardId, Vec<Granted>>,
        (tiers, steps): (u32, &mut usize),
        is_current: &impl Fn(&Author) -> bool,
        assigned: &mut impl FnMut(&Block) -> Result<u32, E>,
    ) -> Result<(), E> {
        let holder = block.holder;
        let further = tiers.checked_sub(1).zip(steps.checked_sub(1));
        let Some((tiers, left)) = further else { return Ok(()) };
        *steps = left;
        let rest = match all.get(&holder.shard) {
            Some(grants) => {
                let own = grants.iter().map(|granted| &granted.block);
                let own: Vec<&Block> =
                    own.filter(|own| block.covers(own) && own.holder.shard != holder.shard).collect();
                for block in &own {
                    self.add_within(block, all, (tiers, &mut *steps), is_current, assigned)?;
                }
                block.count - covered(own.iter().map(|block| block.serials()))
            }
            None => {
                let assigned = assigned(block)?.min(block.count);
                self.assigned += u64::from(assigned);
                block.count - assigned
            }
        };
        let place = match (is_current(&holder), all.contains_key(&holder.shard)) {
            (false, _) => &mut self.void,
            (true, true) => &mut self.on_the_way,
            (true, false) => &mut self.left,
        };
        *place += u64::from(rest);
        Ok(())
    }
}

/// How many serials are in at least one of these rows.
#[must_use]
pub fn covered(rows: impl Iterator<Item = Range<u32>>) -> u32 {
    let rows: BTreeSet<(u32, u32)> = rows.map(|row| (row.start, row.end)).collect();
    let (mut count, mut end) = (0, 0);
    for (from, to) in rows {
        count += to.saturating_sub(from.max(end));
        end = end.max(to);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, SiteId};
    use proptest::prelude::*;

    fn author(site: u64) -> Author {
        Author { site: SiteId(site), shard: ShardId(site), incarnation: Incarnation([site as u8; 16]) }
    }

    fn granted(by: u64, to: u64, serials: Range<u32>) -> Granted {
        let series = "010126".parse().unwrap();
        let block = Block { series, first: serials.start, count: serials.end - serials.start, holder: author(to) };
        Granted { block, by: author(by).id() }
    }

    #[test]
    fn nobody_grants_what_was_not_granted_to_him() {
        let (centre, province) = (vec![granted(1, 10, 0..1000)], vec![granted(10, 100, 200..300)]);
        let above = [province.clone(), centre.clone()];
        assert!(granted(1, 10, 0..5).is_backed(&[]));
        assert!(granted(100, 7, 210..220).is_backed(&above));
        assert!(!granted(100, 7, 290..310).is_backed(&above));
        assert!(!granted(101, 7, 210..220).is_backed(&above));
        // The province never had what it granted.
        assert!(
            !granted(100, 7, 210..220).is_backed(&[vec![granted(10, 100, 200..300)], vec![granted(1, 10, 0..250)]])
        );
        // The district has no site: the province grants in its own shard, to whoever is below.
        assert!(granted(10, 7, 210..220).is_backed(&[Vec::new(), centre]));
        assert!(!granted(10, 7, 210..220).is_backed(&[Vec::new(), Vec::new()]));
    }

    #[test]
    fn an_account_has_each_number_once_or_says_that_it_has_not() {
        let at = |site: u64| ShardId(site);
        let mut grants = BTreeMap::from([
            (at(1), vec![granted(1, 10, 0..1000)]),
            (at(10), vec![granted(10, 7, 0..100), granted(10, 8, 100..120), granted(10, 9, 120..150)]),
        ]);
        let gone = author(9);
        let account = |grants: &BTreeMap<ShardId, Vec<Granted>>| {
            let mut account = Account { total: 5000, free: 4000, ..Account::default() };
            let mut assigned = |block: &Block| Ok::<_, ()>(if block.holder == author(7) { 30 } else { 5 });
            account.add(&granted(1, 10, 0..1000).block, grants, &|holder| *holder != gone, &mut assigned).unwrap();
            account
        };
        let expected = Account { total: 5000, free: 4000, on_the_way: 850, left: 70 + 15, assigned: 40, void: 25 };
        assert_eq!(account(&grants), expected);
        assert!(expected.is_complete());
        // A thief's grants, to himself and in a circle, come to an end, and say nothing of anybody else's.
        let mut circle = grants.clone();
        circle.insert(at(20), (0..200).map(|_| granted(20, 10, 0..900)).collect());
        let of_thief = circle.entry(at(10)).or_default();
        of_thief.extend((0..200).flat_map(|_| [granted(10, 10, 0..900), granted(10, 20, 0..900)]));
        assert!(!account(&circle).is_complete());
        // What is granted twice is there twice.
        grants.entry(at(10)).or_default().push(granted(10, 8, 90..110));
        assert!(!account(&grants).is_complete());
    }

    proptest! {
        #[test]
        fn a_row_is_free_and_the_first(used: Vec<(u8, u8)>, within in (0_u32..64, 0_u32..64), count in 0_u32..20) {
            let within = within.0..within.0 + within.1;
            let used: Vec<Range<u32>> =
                used.into_iter().map(|(from, count)| u32::from(from % 90)..u32::from(from % 90) + u32::from(count % 9)).collect();
            let is_free = |serial: u32| within.contains(&serial) && !used.iter().any(|used| used.contains(&serial));
            let first = within.clone().find(|serial| is_free(*serial)).filter(|_| count > 0);
            let row = next_row(within.clone(), used.iter().filter(|used| !used.is_empty()).cloned(), count);
            prop_assert_eq!(row.as_ref().map(|row| row.start), first);
            if let Some(row) = row {
                prop_assert!(row.clone().all(is_free) && row.len() <= count as usize);
                prop_assert!(row.len() == count as usize || !is_free(row.end));
            }
        }

        #[test]
        fn what_is_taken_stays_and_is_counted(serials: BTreeSet<u16>, within in (0_u32..70_000, 0_u32..70_000)) {
            let mut pages = std::collections::BTreeMap::<u16, Taken>::new();
            for serial in &serials {
                let page = pages.entry(Taken::page(u32::from(*serial))).or_default();
                prop_assert!(page.take(u32::from(*serial)) && !page.take(u32::from(*serial)));
            }
            let within = within.0..within.1;
            let counted: u32 = pages.iter().map(|(page, taken)| taken.count_in(u32::from(*page) * PAGE, &within)).sum();
            let expected = serials.iter().filter(|serial| within.contains(&u32::from(**serial))).count();
            prop_assert_eq!(counted as usize, expected);
        }
    }
}
