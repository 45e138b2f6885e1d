//! Administrative units: those that are built in, and what the centre says over them.
//!
//! What is said is one edit of one record in the centre's ancestor shard, which goes to every site of the country; so it is said at the
//! centre's site, by its operator. A site asks its own nodes what there is.

use std::collections::BTreeMap;

use dinhba_core::date::Date;
use dinhba_core::ids::{RecordId, RequestId, ShardId, UnitId};
use dinhba_core::schema::RecordKind;
use dinhba_core::units::{Directory, Tier, Unit};
use dinhba_proto::v1;
use tonic::Code;

use crate::client::Client;
use crate::error::Error;
use crate::request::{Accepted, Context, EditBuilder};

/// What is to be said of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitChange {
    /// There is one.
    Add {
        /// Its code: two digits for a province, three for a district, five for a commune.
        code: String,
        /// Its name, with its kind in front ("Phường Phúc Xá").
        name: String,
        /// The unit above it.
        parent: UnitId,
        /// Its first day.
        from: Date,
        /// Its last day, if that is known.
        to: Option<Date>,
    },
    /// It is called otherwise. Documents of before show the present name too: what they mean is the unit.
    Rename {
        /// The unit.
        unit: UnitId,
        /// Its name.
        name: String,
    },
    /// It ends. Its code may be given to another one from the next day on.
    End {
        /// The unit.
        unit: UnitId,
        /// Its last day.
        last: Date,
    },
}

/// An edit of what is said of units, and the unit as it will be.
#[derive(Debug)]
pub struct DraftedUnit {
    /// The edit.
    pub edit: EditBuilder,
    /// The unit.
    pub unit: Unit,
}

impl Client {
    /// All units of the country, as the site that is asked knows them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn units(&self) -> Result<Directory, Error> {
        let said = self.said_units().await?.iter().filter_map(of_wire).map(|unit| (unit.id, unit)).collect();
        Ok(listed()?.with(&said).0)
    }

    /// Says something of a unit to all sites of the country, by `grounds` (a resolution). `again` is the request of an earlier
    /// [`UnitChange::Add`] whose outcome was not known.
    ///
    /// # Errors
    /// See [`Error`]; a refusal before anything is sent if it fits no tree, and by the node if its site is not the centre's.
    pub async fn change_unit(
        &self,
        context: &Context,
        again: Option<RequestId>,
        change: &UnitChange,
        grounds: &str,
    ) -> Result<(Accepted, Unit), Error> {
        let request = again.unwrap_or_else(|| self.session().next());
        let drafted = self.draft_unit(context, request, change, grounds).await?;
        let accepted = match again {
            Some(request) => self.edit_again(request, &drafted.edit).await?,
            None => self.edit_as(request, &drafted.edit).await?,
        };
        Ok((accepted, drafted.unit))
    }

    /// The edit by which [`change_unit`](Self::change_unit) says it, by what is said now, under the name `request`, which may have been
    /// sent before; for whoever sends it himself.
    ///
    /// # Errors
    /// As of [`change_unit`](Self::change_unit), before anything is sent.
    pub async fn draft_unit(
        &self,
        context: &Context,
        request: RequestId,
        change: &UnitChange,
        grounds: &str,
    ) -> Result<DraftedUnit, Error> {
        let said = self.said_units().await?;
        let refused = |text: String| Error::refusal(Code::FailedPrecondition, text);
        let made = UnitId::said_by(RecordId::derive(request, 0));
        // An edit that may have been accepted is made as it was: without what it made.
        let known = said.iter().filter_map(of_wire).filter(|unit| unit.id != made);
        let units = listed()?.with(&known.map(|unit| (unit.id, unit)).collect::<BTreeMap<_, _>>()).0;
        let unit = changed(&units, made, change).map_err(refused)?;
        let mut would_be = units.clone();
        would_be.take(&unit).map_err(|error| refused(error.to_string()))?;
        let record = said.iter().find(|said| said.unit == unit.id.to_string() && unit.id != made);
        let record = match record.map(|said| said.record.parse::<RecordId>()) {
            Some(Ok(record)) => Some(self.get(context, record).await?),
            _ => None,
        };
        let edit = draft(context, &units, &unit, record.as_ref(), grounds).map_err(refused)?;
        Ok(DraftedUnit { edit, unit })
    }
}

/// Those that are built in.
pub(crate) fn listed() -> Result<Directory, Error> {
    Directory::vietnam().map_err(|error| Error::refusal(Code::Internal, error.to_string()))
}

/// A unit that a node tells of; nothing if it is of a newer version's kind.
fn of_wire(said: &v1::SaidUnit) -> Option<Unit> {
    Some(Unit {
        id: said.unit.parse().ok()?,
        tier: Tier::of_code(&said.code)?,
        code: said.code.clone(),
        name: said.name.clone(),
        parent: Some(said.parent.parse().ok()?),
        valid_from: said.from.parse().ok()?,
        valid_to: match said.to.as_str() {
            "" => None,
            last => Some(last.parse().ok()?),
        },
    })
}

/// The unit as it will be.
fn changed(units: &Directory, made: UnitId, change: &UnitChange) -> Result<Unit, String> {
    let known = |unit: &UnitId| {
        units.get(*unit).cloned().ok_or_else(|| format!("{unit} is no unit that is known here: see `dinhba unit list`"))
    };
    Ok(match change {
        UnitChange::Add { code, name, parent, from, to } => Unit {
            id: made,
            tier: Tier::of_code(code)
                .ok_or("code: write two digits for a province, three for a district, five for a commune")?,
            code: code.clone(),
            name: name.clone(),
            parent: Some(*parent),
            valid_from: *from,
            valid_to: *to,
        },
        UnitChange::Rename { unit, name } => Unit { name: name.clone(), ..known(unit)? },
        UnitChange::End { unit, last } => {
            let unit = known(unit)?;
            if unit.valid_to.is_some_and(|before| before < *last) {
                return Err(format!("{} {} ended before: what ended goes on no more", unit.code, unit.name));
            }
            if let Some(below) = units.children(unit.id).find(|below| below.valid_to.is_none_or(|it| it > *last)) {
                return Err(format!("{} {} is below it and lasts longer: end that one first", below.code, below.name));
            }
            Unit { valid_to: Some(*last), ..unit }
        }
    })
}

/// The edit that says all of a unit, by the record that says it already, if one does.
fn draft(
    context: &Context,
    units: &Directory,
    unit: &Unit,
    record: Option<&v1::Record>,
    grounds: &str,
) -> Result<EditBuilder, String> {
    let centre = units.iter().find(|unit| unit.parent.is_none()).ok_or("there is no centre")?;
    let mut edit = EditBuilder::new(context);
    edit.shard(ShardId::of_unit_above(centre.id));
    let (part, is_new) = match record {
        Some(record) => (edit.change(record), false),
        None => (edit.create(RecordKind::Unit), true),
    };
    if is_new {
        let parent = unit.parent.map(|parent| parent.to_string()).unwrap_or_default();
        edit.set(part, "unit", "", &unit.id.to_string()).set(part, "code", "", &unit.code);
        edit.set(part, "parent", "", &parent).set(part, "from", "", &unit.valid_from.to_string());
    }
    edit.set(part, "name", "", &unit.name);
    if let Some(last) = unit.valid_to {
        edit.set(part, "to", "", &last.to_string());
    }
    if !grounds.is_empty() {
        edit.set(part, "grounds", "", grounds);
    }
    Ok(edit)
}
