//! The ledger of personal numbers: which are spoken for in a shard, which blocks an ancestor shard grants, to whom a number is due.
//!
//! All of it is a function of the edits. Which numbers are taken only grows, by every edit that ever wrote one, set aside or not:
//! so a number that was given once is given to nobody else, whatever became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{ShardState, Tx, corrupt};
use crate::blocks::{AVOIDED_MAX, Block, GRANTS_MAX, Granted, PAGE, Taken, next_row};
use crate::command::{GrantCommand, PartDraft};
use crate::edit::{Author, Change};
use crate::encoding::Malformed;
use crate::ids::{RecordId, ShardId, UnitId};
use crate::inject::{is_armed, sometimes};
use crate::keys::{Keys, suffix};
use crate::number::{PersonNumber, SERIAL_END, Series, Sex};
use crate::schema::{Content, FieldId, RecordKind, field};
use crate::store::{StateView, StoreError};

/// The number that a change gives somebody. That one was somebody's once proves nothing: then the edit that gave it says so.
fn written(change: &Change) -> Option<PersonNumber> {
    (change.field == field::PERSONAL_NUMBER).then(|| PersonNumber::from_bytes(&change.value).ok())?
}

/// Takes note of the numbers that an edit writes, whatever else becomes of it.
#[inline(never)] // its share is told when instructions are counted
pub(super) fn note(tx: &mut Tx<'_>, shard: ShardId, changes: &[Change]) -> Result<(), StoreError> {
    for number in changes.iter().filter_map(written) {
        let key = tx.keys().taken(shard, number.series(), Taken::page(number.serial()));
        let mut taken: Taken = tx.get(&key)?.unwrap_or_default();
        if taken.take(number.serial()) && !is_armed("numbers-forgotten") {
            tx.put(key, &taken);
        }
    }
    Ok(())
}

/// The next number of a sex and birth year that `own` may give, of these blocks.
#[inline(never)] // its share is told when instructions are counted
pub(super) fn next_number(
    tx: &Tx<'_>,
    own: &Author,
    blocks: &[Block],
    (sex, birth_year): (Sex, u16),
) -> Result<Option<PersonNumber>, StoreError> {
    let is_own = |block: &&Block| block.holder == *own;
    let is_asked = |block: &&Block| block.series.sex() == sex && block.series.birth_year() == birth_year;
    for block in blocks.iter().filter(is_own).filter(is_asked) {
        let mut page: Option<(u16, Taken)> = None;
        for serial in block.serials() {
            let at = Taken::page(serial);
            if page.is_none_or(|(read, _)| read != at) {
                let taken: Option<Taken> = tx.get(&tx.keys().taken(own.shard, block.series, at))?;
                page = Some((at, taken.unwrap_or_default()));
            }
            if page.is_some_and(|(_, taken)| !taken.has(serial)) {
                sometimes("a number is assigned from a block", true);
                return Ok(block.series.number(serial).ok());
            }
        }
    }
    Ok(None)
}

/// The parts of the edit that grants what is wanted, as far as there is something to grant and nobody was faster.
pub(super) fn grants(tx: &Tx<'_>, shard: &ShardState, command: &GrantCommand) -> Result<Vec<PartDraft>, StoreError> {
    let mut parts: Vec<PartDraft> = Vec::new();
    let mut new: Vec<Granted> = Vec::new();
    let by = shard.own.id();
    for wanted in command.wanted.iter().take(GRANTS_MAX) {
        let mut here = granted(tx, shard.info.shard, wanted.series)?;
        here.extend(new.iter().filter(|granted| granted.block.series == wanted.series));
        let to_holder = here.iter().filter(|granted| granted.block.holder == wanted.holder);
        let already: u64 = to_holder.map(|granted| u64::from(granted.block.count)).sum();
        if already != wanted.granted {
            continue;
        }
        let used = || {
            let granted =
                here.iter().map(|granted| granted.block.serials()).filter(|_| !is_armed("grant-from-the-start"));
            let avoided = wanted.avoided.iter().take(AVOIDED_MAX).filter(|(from, to)| from < to);
            granted.chain(avoided.map(|(from, to)| *from..*to))
        };
        let sources = sources(tx, shard, command.first_serial, wanted.series)?;
        let Some(row) = sources.into_iter().find_map(|source| next_row(source, used(), wanted.count)) else { continue };
        let block =
            Block { series: wanted.series, first: row.start, count: row.end - row.start, holder: wanted.holder };
        new.push(Granted { block, by });
        let record = RecordId::derive(command.origin.request, parts.len() as u32);
        parts.extend(part(&block).map(|changes| PartDraft {
            record,
            record_kind: RecordKind::Block,
            create: true,
            valid_from: Vec::new(),
            changes,
        }));
    }
    sometimes("blocks of numbers are granted", !parts.is_empty());
    Ok(parts)
}

fn part(block: &Block) -> Option<Vec<Change>> {
    let first = block.series.number(block.first).ok()?;
    let text = |text: String| Content::Text(text);
    let fields = [
        (field::BLOCK_FIRST, Content::Number(first)),
        (field::BLOCK_COUNT, text(block.count.to_string())),
        (field::BLOCK_SITE, text(block.holder.site.to_string())),
        (field::BLOCK_SHARD, text(block.holder.shard.to_string())),
        (field::BLOCK_LIFE, text(block.holder.incarnation.to_string())),
    ];
    let change = |(field, content): (FieldId, Content)| Change {
        field,
        element: Vec::new(),
        value: content.encode(),
        overwrites: Vec::new(),
    };
    Some(fields.into_iter().map(change).collect())
}

/// From which serials of a series the site of an ancestor shard may grant.
fn sources(tx: &Tx<'_>, shard: &ShardState, first: u32, series: Series) -> Result<Vec<Range<u32>>, StoreError> {
    if shard.info.path.len() == 1 {
        let all = first.min(SERIAL_END)..SERIAL_END;
        return Ok([all].into());
    }
    let above = above(tx, &shard.info.path, series)?;
    let mut found = Vec::new();
    for (at, grants) in above.iter().enumerate() {
        let own = grants.iter().filter(|granted| granted.block.holder == shard.own);
        found.extend(own.filter(|own| own.is_backed(&above[at + 1..])).map(|granted| granted.block.serials()));
    }
    found.sort_by_key(|row| row.start);
    Ok(found)
}

/// What the units above the last one of a path grant of a series, nearest first.
fn above(tx: &Tx<'_>, path: &[UnitId], series: Series) -> Result<Vec<Vec<Granted>>, StoreError> {
    let units = path.split_last().map_or(&[][..], |(_, above)| above);
    units.iter().rev().map(|unit| granted(tx, ShardId::of_unit_above(*unit), series)).collect()
}

fn granted(tx: &Tx<'_>, shard: ShardId, series: Series) -> Result<Vec<Granted>, StoreError> {
    Ok(tx.range(tx.keys().blocks(shard, Some(series)))?.into_iter().map(|(_, granted)| granted).collect())
}

/// The blocks that an ancestor shard grants: of one series, or all.
///
/// # Errors
/// What cannot be read.
pub fn blocks(
    view: &dyn StateView,
    keys: Keys,
    shard: ShardId,
    series: Option<Series>,
) -> Result<Vec<Granted>, StoreError> {
    Ok(super::read_range(view, keys.blocks(shard, series))?.into_iter().map(|(_, granted)| granted).collect())
}

/// The blocks that holders may use, as the ancestor shards of the units `above` them say, from the top down: those alone that whoever
/// granted them had to grant.
///
/// # Errors
/// What cannot be read.
pub fn blocks_of(
    view: &dyn StateView,
    keys: Keys,
    above: &[UnitId],
    holders: &BTreeSet<Author>,
) -> Result<BTreeMap<Author, Vec<Block>>, StoreError> {
    // Nearest first.
    let mut grants: Vec<BTreeMap<Series, Vec<Granted>>> = Vec::with_capacity(above.len());
    for unit in above.iter().rev() {
        let mut of_unit: BTreeMap<Series, Vec<Granted>> = BTreeMap::new();
        for granted in blocks(view, keys, ShardId::of_unit_above(*unit), None)? {
            of_unit.entry(granted.block.series).or_default().push(granted);
        }
        grants.push(of_unit);
    }
    let mut found: BTreeMap<Author, Vec<Block>> = BTreeMap::new();
    for (at, of_unit) in grants.iter().enumerate() {
        for (series, here) in of_unit {
            let of_holders = here.iter().filter(|granted| holders.contains(&granted.block.holder));
            let further_up: Vec<Vec<Granted>> =
                grants[at + 1..].iter().map(|grants| grants.get(series).cloned().unwrap_or_default()).collect();
            for Granted { block, .. } in of_holders.filter(|granted| granted.is_backed(&further_up)) {
                found.entry(block.holder).or_default().push(*block);
            }
        }
    }
    Ok(found)
}

/// How many numbers of some serials of a series are spoken for in a shard.
///
/// # Errors
/// What cannot be read.
pub fn taken(
    view: &dyn StateView,
    keys: Keys,
    shard: ShardId,
    (series, serials): (Series, &Range<u32>),
) -> Result<u32, StoreError> {
    if serials.is_empty() {
        return Ok(0);
    }
    let from = keys.taken(shard, series, Taken::page(serials.start));
    let mut to = keys.taken(shard, series, Taken::page(serials.end - 1));
    to.push(0);
    let mut count = 0;
    for (key, taken) in super::read_range::<Taken>(view, (from, to))? {
        let (_, page) = page_of(&key)?;
        count += taken.count_in(u32::from(page) * PAGE, serials);
    }
    Ok(count)
}

/// The serials of a series, from one on, that are spoken for in a shard.
///
/// # Errors
/// What cannot be read.
pub fn serials_taken(
    view: &dyn StateView,
    keys: Keys,
    shard: ShardId,
    (series, first): (Series, u32),
) -> Result<BTreeSet<u32>, StoreError> {
    let from = keys.taken(shard, series, Taken::page(first));
    let to = keys.all_taken(shard, Some(series)).1;
    let mut found = BTreeSet::new();
    for (key, taken) in super::read_range::<Taken>(view, (from, to))? {
        let start = u32::from(page_of(&key)?.1) * PAGE;
        found.extend((start.max(first)..start + PAGE).filter(|serial| taken.has(*serial)));
    }
    Ok(found)
}

/// All numbers that are spoken for in a shard: for whoever checks a state.
///
/// # Errors
/// What cannot be read.
pub fn numbers_taken(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<BTreeSet<PersonNumber>, StoreError> {
    let mut found = BTreeSet::new();
    for (key, taken) in super::read_range::<Taken>(view, keys.all_taken(shard, None))? {
        let (series, page) = page_of(&key)?;
        let start = u32::from(page) * PAGE;
        let serials = (start..start + PAGE).filter(|serial| taken.has(*serial));
        found.extend(serials.filter_map(|serial| series.number(serial).ok()));
    }
    Ok(found)
}

fn page_of(key: &[u8]) -> Result<(Series, u16), StoreError> {
    let malformed = || corrupt(key, Malformed { what: "key of the ledger" });
    let (series, page) = suffix(key, 0).split_first_chunk::<4>().ok_or_else(malformed)?;
    let page = page.try_into().map(u16::from_be_bytes).map_err(|_| malformed())?;
    Ok((Series::from_key_bytes(*series).map_err(|_| malformed())?, page))
}
