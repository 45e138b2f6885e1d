//! Public holidays on the command line.

use dinhba_core::date::Date;
use dinhba_core::schema::codes::HOLIDAY;
use dinhba_core::text::fold;
use dinhba_proto::v1;
use serde_json::json;

use super::sheet::{Cell, Sheet, Tint, column};
use super::{Desk, Failure, show};
use crate::client::Client;
use crate::holidays::Holidays as Said;
use crate::language::{Lang, Message, say};
use crate::request::Context;

/// What can be said of public holidays, at the central site.
#[derive(Debug, clap::Subcommand)]
pub enum Holidays {
    /// What was said; any site tells
    List,
    /// Those of a year, all of them: every site of the country counts deadlines by them
    Set {
        /// The year
        year: u16,
        /// Days off with the holiday that they are: 2027-01-01=new_year, 2027-02-05..2027-02-09=tet; and days of a weekend that are worked:
        /// 2027-01-09=worked
        #[arg(required = true, value_name = "DAY=HOLIDAY")]
        days: Vec<String>,
        /// The decision by which it is so
        #[arg(long)]
        grounds: String,
    },
}

/// The word of a day of a weekend that is worked.
const WORKED: &str = "worked";

/// Reads `2027-02-05..2027-02-09=tet`.
fn days(text: &str) -> Result<(Date, Date, String), String> {
    let form = || format!("{text}: write 2027-01-01=new_year or 2027-02-05..2027-02-09=tet");
    let (days, name) = text.split_once('=').ok_or_else(form)?;
    let (first, last) = days.split_once("..").unwrap_or((days, days));
    let day = |day: &str| day.parse::<Date>().map_err(|error| format!("{text}: {error}"));
    let (first, last) = (day(first)?, day(last)?);
    if last < first || last.days() - first.days() > 30 {
        return Err(format!("{text}: the last day comes after the first, within a month"));
    }
    let is_meant = |typed: &str| fold(typed).replace(' ', "_") == fold(name).replace(' ', "_");
    let code = HOLIDAY
        .iter()
        .find(|code| is_meant(code.name) || is_meant(code.label) || code.aliases.iter().any(|alias| is_meant(alias)));
    match code {
        Some(code) => Ok((first, last, code.name.to_owned())),
        None if name == WORKED => Ok((first, last, WORKED.to_owned())),
        None => {
            let names: Vec<&str> = HOLIDAY.iter().map(|code| code.name).collect();
            Err(format!("{text}: the holiday is one of {}, or {WORKED}", names.join(", ")))
        }
    }
}

fn said(year: u16, texts: &[String]) -> Result<Said, String> {
    let mut said = Said { year, off: Vec::new(), worked: Vec::new() };
    for text in texts {
        let (first, last, name) = days(text)?;
        for day in (first.days()..=last.days()).map(Date::from_days) {
            match name.as_str() {
                WORKED => said.worked.push(day),
                name => said.off.push((day, name.to_owned())),
            }
        }
    }
    Ok(said)
}

pub(super) async fn run(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    command: Holidays,
) -> Result<(), Failure> {
    match command {
        Holidays::List => {
            let years = client.holidays().await?;
            desk.show(|lang| list(lang, &years), || json!({ "years": years.iter().map(json_of).collect::<Vec<_>>() }))?;
            if years.is_empty() {
                desk.remark(&say!("no-holidays-said"));
            }
            Ok(())
        }
        Holidays::Set { year, days, grounds } => {
            let said = said(year, &days).map_err(Failure::usage)?;
            let accepted = client.set_holidays(context, &said, &grounds).await?;
            super::wording::show_accepted(desk, &accepted)
        }
    }
}

fn list(lang: Lang, years: &[v1::HolidaysOfYear]) -> String {
    let mut rows = Sheet::titled(lang, [column("day"), column("holiday").wraps(20), column("counts").wraps(20)]);
    for year in years {
        let said = year.off.iter().map(|off| (off.day.clone(), off.label.clone()));
        let mut days: Vec<(String, String)> =
            said.chain(year.worked.iter().map(|day| (day.clone(), "Làm bù".to_owned()))).collect();
        days.sort();
        for (day, label) in days {
            let counts = Cell::from(say!("counts").text(lang)).tinted(Tint::Good);
            rows.add_row::<Cell>([lang.days(&day).into(), label.into(), counts]);
        }
        if !year.misfits.is_empty() {
            let misfits = year.misfits.iter().map(|misfit| Message::from(misfit.as_str()).text(lang));
            let misfits = show::plain(&misfits.collect::<Vec<_>>().join("; "));
            rows.add_row::<Cell>([year.year.to_string().into(), "".into(), Cell::from(misfits).tinted(Tint::Bad)]);
        }
    }
    rows.text()
}

fn json_of(year: &v1::HolidaysOfYear) -> serde_json::Value {
    let off: Vec<_> = year.off.iter().map(|off| json!({ "day": off.day, "holiday": off.holiday })).collect();
    json!({ "year": year.year, "off": off, "worked": year.worked, "misfits": year.misfits, "record": year.record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_one_by_one_and_in_rows_by_name_or_label() {
        let read = |texts: &[&str]| said(2027, &texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let year =
            read(&["2027-02-05..2027-02-09=Tết Nguyên đán", "01/01/2027=new_year", "2027-01-09=worked"]).unwrap();
        assert_eq!((year.off.len(), year.off[0].1.as_str(), year.worked.len()), (6, "tet", 1));
        for wrong in ["2027-02-05", "2027-02-30=tet", "2027-02-09..2027-02-05=tet", "2027-02-05=carnival"] {
            assert!(read(&[wrong]).is_err(), "{wrong}");
        }
    }
}
