//! Units that the state makes, ends or renames: what the centre says of them to all sites, over the lists that are built in.
//!
//! Each is a record of the centre's ancestor shard, and nobody else may say so (`ShardInfo::takes`). A unit that is in the lists, or was
//! said before, keeps its code, its superior and its first day for ever, since documents mean them; its name may change, and it may
//! end. What fits no tree counts for nothing ([`Directory::with`]), so that a slip at the centre stops no site, and it says why.

use std::collections::BTreeMap;

use super::{Directory, Tier, Unit, UnitsError, refuse};
use crate::date::Date;
use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::{RecordId, UnitId};
use crate::record::Record;
use crate::schema::{RecordKind, field};

impl UnitId {
    /// That of a unit which the state makes, by the record that says so.
    #[must_use]
    pub fn said_by(record: RecordId) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = record.0;
        UnitId(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl Unit {
    /// What a record says of a unit; nothing if it does not say what a unit needs.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        if record.kind != RecordKind::Unit {
            return None;
        }
        let code = record.text(field::UNIT_CODE)?;
        Some(Unit {
            id: record.text(field::UNIT)?.parse().ok()?,
            tier: Tier::of_code(&code)?,
            code,
            name: record.text(field::UNIT_NAME)?,
            parent: Some(record.value(field::UNIT_PARENT, b"")?.content().unit()?),
            valid_from: record.value(field::UNIT_FROM, b"")?.date()?.earliest(),
            valid_to: record.value(field::UNIT_TO, b"").and_then(|last| Some(last.date()?.latest())),
        })
    }
}

impl Wire for Unit {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.id, self.code.clone(), self.name.clone()).encode(out);
        self.parent.encode(out);
        (self.valid_from.days(), self.valid_to.map(Date::days)).encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (id, code, name): (UnitId, String, String) = Wire::decode(input)?;
        let tier = Tier::of_code(&code).ok_or(Malformed { what: "unit: a code of no tier" })?;
        let parent = Wire::decode(input)?;
        let (from, to): (i64, Option<i64>) = Wire::decode(input)?;
        let (valid_from, valid_to) = (Date::from_days(from), to.map(Date::from_days));
        Ok(Unit { id, tier, code, name, parent, valid_from, valid_to })
    }
}

impl Directory {
    /// These units with what is said of some and of others; and what of that fits no tree, and counts for nothing. It does not matter
    /// in which order things are said.
    #[must_use]
    pub fn with(&self, said: &BTreeMap<UnitId, Unit>) -> (Directory, BTreeMap<UnitId, UnitsError>) {
        let (mut directory, mut misfits) = (self.clone(), BTreeMap::new());
        let (listed, mut new): (Vec<&Unit>, Vec<&Unit>) = said.values().partition(|unit| self.get(unit.id).is_some());
        // Who ends may give his code to one who begins; and superiors come before those below them.
        new.sort_by_key(|unit| (unit.tier, unit.valid_from, unit.id));
        for unit in listed.into_iter().chain(new) {
            if let Err(error) = directory.take(unit) {
                misfits.insert(unit.id, error);
            }
        }
        (directory, misfits)
    }

    /// Takes what is said of a unit, if it fits those that are here.
    ///
    /// # Errors
    /// What does not fit; nothing is changed then.
    pub fn take(&mut self, unit: &Unit) -> Result<(), UnitsError> {
        let fail = |reason| Err(refuse(unit, reason));
        if unit.tier == Tier::Central {
            return fail("is the country, which nobody makes or ends");
        }
        if unit.valid_to.is_some_and(|last| last < unit.valid_from) {
            return fail("ends before it begins");
        }
        if let Some(known) = self.by_id.get_mut(&unit.id) {
            let is_same = (&known.code, known.parent, known.valid_from) == (&unit.code, unit.parent, unit.valid_from);
            if !is_same {
                return fail(
                    "keeps its code, the unit above it and its first day for ever: end it, and make another one",
                );
            }
            // What ended goes on no more: another one may have its code since.
            let last = known.valid_to.into_iter().chain(unit.valid_to).min();
            (known.name, known.valid_to) = (unit.name.clone(), last);
            return Ok(());
        }
        let of_code = |day| (unit.tier, unit.code.clone(), day);
        let mut namesakes = self.by_code.range(of_code(Date::MIN)..=of_code(unit.valid_to.unwrap_or(Date::MAX)));
        if namesakes
            .any(|(_, id)| self.get(*id).is_some_and(|other| other.valid_to.is_none_or(|last| last >= unit.valid_from)))
        {
            return fail("has the code of another one in its time");
        }
        let Some(above) = unit.parent.and_then(|above| self.get(above)) else {
            return fail("has a parent that is not in the list");
        };
        if above.tier >= unit.tier {
            return fail("has a parent that is not above it");
        }
        if !above.is_valid_on(unit.named_at()) {
            return fail("has a parent of another time");
        }
        let above = above.id;
        self.by_code.insert(of_code(unit.valid_from), unit.id);
        self.by_id.insert(unit.id, unit.clone());
        let by_id = &self.by_id;
        let children = self.children.entry(above).or_default();
        children.push(unit.id);
        children.sort_by_key(|child| by_id.get(child).map(|unit| (unit.valid_from, unit.tier, unit.code.clone())));
        Ok(())
    }
}
