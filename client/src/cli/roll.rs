//! The roll of a commune on a day, on the command line.

use std::path::PathBuf;

use dinhba_core::date::Date;
use dinhba_proto::v1;
use futures::StreamExt;
use serde_json::json;

use super::export::Extract;
use super::wording::choose_shard;
use super::{Desk, Failure, ShardChoice};
use crate::client::Client;
use crate::language::say;
use crate::request::Context;

/// The columns.
const COLUMNS: [&str; 7] = ["name", "birth_date", "sex", "personal_number", "line", "doubtful", "record"];

/// What `roll` takes.
#[derive(clap::Args)]
pub struct Roll {
    /// The day (2026-05-24)
    #[arg(long)]
    on: Date,
    /// Whole years of age on that day, at least: 18 for an election
    #[arg(long, default_value_t = 0)]
    age_min: u16,
    /// And at most
    #[arg(long, default_value_t = 200)]
    age_max: u16,
    #[command(flatten)]
    of: ShardChoice,
    /// The file (.csv), which gets its name once it is whole; without it, the standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, context: &Context, desk: &mut Desk<'_>, command: Roll) -> Result<(), Failure> {
    let Roll { on, age_min, age_max, of, output } = command;
    let shard = choose_shard(client, context, of.shard, of.unit.as_deref()).await?;
    let of_file = |error| match &output {
        Some(path) => Failure::of_file(path, error),
        None => Failure::Output(error),
    };
    let mut extract = output.as_deref().map(Extract::begin).transpose().map_err(of_file)?;
    let (mut count, mut doubtful) = (0_u64, 0_u64);
    let mut pages = std::pin::pin!(client.roll(context, shard, on, Some((age_min, age_max))));
    let mut rows = csv::Writer::from_writer(Vec::new());
    let row = |rows: &mut csv::Writer<Vec<u8>>, cells: [&str; 7]| {
        rows.write_record(cells).map_err(|error| Failure::other(error.to_string()))
    };
    if !desk.json {
        row(&mut rows, COLUMNS)?;
    }
    while let Some(page) = pages.next().await {
        for entry in page? {
            count += 1;
            doubtful += u64::from(entry.doubtful);
            if desk.json && output.is_none() {
                desk.show(|_| String::new(), || json_of(&entry))?;
                continue;
            }
            let v1::RollEntry { record, name, birth_date, sex, personal_number, line, doubtful } = &entry;
            let is_doubtful = if *doubtful { "doubtful" } else { "" };
            row(&mut rows, [name, birth_date, sex, personal_number, line, is_doubtful, record])?;
        }
        let bytes = rows.into_inner().map_err(|error| Failure::other(error.to_string()))?;
        match &mut extract {
            Some(extract) => std::io::Write::write_all(extract, &bytes).map_err(of_file)?,
            None => std::io::Write::write_all(desk.out, &bytes).map_err(of_file)?,
        }
        rows = csv::Writer::from_writer(Vec::new());
    }
    if let Some(extract) = extract {
        extract.finish().map_err(of_file)?;
    }
    let summary = || json!({ "on": on.to_string(), "persons": count, "doubtful": doubtful });
    match &output {
        Some(_) if desk.json => desk.show(|_| String::new(), summary),
        _ if desk.json => desk.aside(&summary()),
        _ => {
            desk.remark(&say!("roll-summary", count = count, doubtful = doubtful));
            Ok(())
        }
    }
}

fn json_of(entry: &v1::RollEntry) -> serde_json::Value {
    json!({
        "name": entry.name, "birth_date": entry.birth_date, "sex": entry.sex, "personal_number": entry.personal_number,
        "line": entry.line, "doubtful": entry.doubtful, "record": entry.record,
    })
}
