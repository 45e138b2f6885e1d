//! Public holidays: what the centre says of them to all sites, and so by which days deadlines are counted.
//!
//! Those of a year are one record of the centre's ancestor shard. They are said whole: what has a hole is refused before it is sent, and
//! counts for nothing where it came another way.

use std::collections::BTreeMap;

use dinhba_core::calendar::Year;
use dinhba_core::date::Date;
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::schema::RecordKind;
use dinhba_proto::v1;
use tonic::Code;

use crate::client::{Client, site};
use crate::error::Error;
use crate::request::{Accepted, Context, EditBuilder};
use crate::units::listed;

/// The holidays of a year as they are to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holidays {
    /// The year.
    pub year: u16,
    /// Days off, each with the holiday that it is: a name or label of the schema's list (`tet`, "Tết Nguyên đán", `compensation`).
    pub off: Vec<(Date, String)>,
    /// Days of weekends that are worked.
    pub worked: Vec<Date>,
}

impl Client {
    /// The holidays of all years that the centre said, as the site that is asked knows them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn holidays(&self) -> Result<Vec<v1::HolidaysOfYear>, Error> {
        let ask = |transport, request| async move { site(transport).holidays(request).await };
        Ok(self.read(v1::HolidaysRequest {}, ask).await?.years)
    }

    /// Says the holidays of a year to all sites, by `grounds` (a decision), at the centre's site. What was said of it before is replaced.
    ///
    /// # Errors
    /// See [`Error`]; a refusal before anything is sent if the list has a hole, or a year between it and those that were said.
    pub async fn set_holidays(&self, context: &Context, holidays: &Holidays, grounds: &str) -> Result<Accepted, Error> {
        let edit = self.draft_holidays(context, holidays, grounds).await?;
        self.edit(&self.session(), &edit).await
    }

    /// The edit by which [`set_holidays`](Self::set_holidays) says it, by what is said now; for whoever sends it himself.
    ///
    /// # Errors
    /// As of [`set_holidays`](Self::set_holidays), before anything is sent.
    pub async fn draft_holidays(
        &self,
        context: &Context,
        holidays: &Holidays,
        grounds: &str,
    ) -> Result<EditBuilder, Error> {
        let refused = |text: String| Error::refusal(Code::FailedPrecondition, text);
        let said = self.holidays().await?;
        let named: Vec<(Date, &str)> = holidays.off.iter().map(|(day, name)| (*day, name.as_str())).collect();
        let year = Year::new(holidays.year, &named, &holidays.worked);
        let invalid = |wrong: Vec<String>| Error::refusal(Code::InvalidArgument, wrong.join("; "));
        let year = year.map_err(invalid)?;
        follows(holidays.year, &said).map_err(refused)?;
        let before = match said.iter().find(|said| said.year == u32::from(holidays.year)) {
            Some(said) => {
                let record = said.record.parse::<RecordId>().map_err(|error| refused(error.to_string()))?;
                Some(self.get(context, record).await?)
            }
            None => None,
        };
        draft(context, (holidays.year, &year), before.as_ref(), grounds)
    }
}

/// Whether a year follows those that were said, or is one of them: a deadline that is counted over a year between would be wrong.
fn follows(year: u16, said: &[v1::HolidaysOfYear]) -> Result<(), String> {
    let is_beside = |said: &v1::HolidaysOfYear| said.year.abs_diff(u32::from(year)) <= 1;
    if said.is_empty() || said.iter().any(is_beside) {
        return Ok(());
    }
    let years: Vec<String> = said.iter().map(|said| said.year.to_string()).collect();
    Err(format!("{year} does not follow the years that were said ({}): say those between first", years.join(", ")))
}

fn draft(
    context: &Context,
    (number, year): (u16, &Year),
    before: Option<&v1::Record>,
    grounds: &str,
) -> Result<EditBuilder, Error> {
    let units = listed()?;
    let centre = units.iter().find(|unit| unit.parent.is_none()).map(|unit| unit.id).unwrap_or_default();
    let mut edit = EditBuilder::new(context);
    edit.shard(ShardId::of_unit_above(centre));
    let part = match before {
        Some(record) => edit.change(record),
        None => edit.create(RecordKind::Calendar),
    };
    if before.is_none() {
        edit.set(part, "year", "", &number.to_string());
    }
    let off = year.days_off().map(|(day, name)| (("off", day.to_string()), name));
    let worked = year.days_worked().map(|day| (("worked", day.to_string()), "yes"));
    let days: BTreeMap<(&str, String), &str> = off.chain(worked).collect();
    for field in before.iter().flat_map(|record| &record.fields) {
        let is_of_day = ["off", "worked"].into_iter().find(|name| *name == field.field);
        if let Some(name) = is_of_day.filter(|name| !days.contains_key(&(*name, field.element.clone()))) {
            edit.set(part, name, &field.element, "");
        }
    }
    for ((field, day), value) in &days {
        edit.set(part, field, day, value);
    }
    edit.set(part, "grounds", "", grounds);
    Ok(edit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_are_said_one_after_the_other() {
        let said = |years: &[u32]| -> Vec<v1::HolidaysOfYear> {
            years.iter().map(|year| v1::HolidaysOfYear { year: *year, ..Default::default() }).collect()
        };
        assert!(follows(2027, &said(&[])).is_ok());
        for year in [2025, 2026, 2027, 2028] {
            assert!(follows(year, &said(&[2026, 2027])).is_ok());
        }
        assert!(follows(2029, &said(&[2026, 2027])).unwrap_err().contains("say those between first"));
    }
}
