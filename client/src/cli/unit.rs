//! Administrative units as the centre says them: what `unit` takes and shows.

use dinhba_core::date::Date;
use dinhba_core::ids::RequestId;
use dinhba_core::units::Unit as Listed;
use dinhba_proto::v1;
use serde_json::json;

use super::sheet::{Cell, Sheet, Tint, column};
use super::show::plain;
use super::wording::with_request;
use super::{Desk, Failure, export, request, show};
use crate::client::Client;
use crate::language::{Lang, Message, say};
use crate::request::Context;
use crate::units::UnitChange;

/// What can be said of units, at the central site.
#[derive(Debug, clap::Subcommand)]
pub enum Unit {
    /// What was said of units, over those that are built in; any site tells
    List,
    /// There is a new unit: every site of the country learns of it, and sites may serve it
    Add {
        /// Its code: two digits for a province, three for a district, five for a commune
        #[arg(long)]
        code: String,
        /// Its name, with its kind in front ("Xã Tân Lập")
        #[arg(long)]
        name: String,
        /// The unit above it, by code and day (001@2025-06-30) or id (u-…); a code alone means the unit that has it on the first day
        #[arg(long)]
        parent: String,
        /// Its first day
        #[arg(long)]
        from: Date,
        /// Its last day, if that is known
        #[arg(long)]
        to: Option<Date>,
        /// The resolution by which it is so
        #[arg(long)]
        grounds: String,
        /// Does it again, under a request whose outcome was not known
        #[arg(long, value_parser = request)]
        request: Option<RequestId>,
    },
    /// A unit is called otherwise
    Rename {
        /// The unit, by code and day, or id
        unit: String,
        /// Its name, with its kind in front
        name: String,
        /// The resolution by which it is so
        #[arg(long)]
        grounds: String,
    },
    /// A unit ends: from the next day on its code may mean another one
    End {
        /// The unit, by code and day, or id
        unit: String,
        /// Its last day
        #[arg(long)]
        last: Date,
        /// The resolution by which it is so
        #[arg(long)]
        grounds: String,
    },
}

pub(super) async fn run(client: &Client, context: &Context, desk: &mut Desk<'_>, command: Unit) -> Result<(), Failure> {
    let find = async |unit: &str| export::find_unit(&client.units().await?, unit);
    let (change, grounds, again) = match command {
        Unit::List => {
            let units = client.said_units().await?;
            return desk
                .show(|lang| list(lang, &units), || json!({ "units": units.iter().map(json_of).collect::<Vec<_>>() }));
        }
        Unit::Add { code, name, parent, from, to, grounds, request } => {
            let dated = if parent.len() <= 5 { format!("{parent}@{from}") } else { parent };
            let parent = find(&dated).await?;
            (UnitChange::Add { code, name, parent, from, to }, grounds, request)
        }
        Unit::Rename { unit, name, grounds } => (UnitChange::Rename { unit: find(&unit).await?, name }, grounds, None),
        Unit::End { unit, last, grounds } => (UnitChange::End { unit: find(&unit).await?, last }, grounds, None),
    };
    let sent = client.change_unit(context, again, &change, &grounds).await;
    let is_repeatable = matches!(change, UnitChange::Add { .. });
    let (accepted, unit) = sent.map_err(|error| if is_repeatable { with_request(error) } else { error.into() })?;
    let Listed { id, code, name, .. } = &unit;
    let shown = |lang| format!("{}\n{id}  {code}  {name}", show::accepted(lang, &accepted));
    let object = || {
        let mut object = show::accepted_json(&accepted);
        (object["unit"], object["code"], object["name"]) = (json!(id.to_string()), json!(code), json!(name));
        object
    };
    desk.show(shown, object)
}

fn list(lang: Lang, units: &[v1::SaidUnit]) -> String {
    let columns = [
        column("unit"),
        column("code"),
        column("name").wraps(16),
        column("parent").spare(1),
        column("from"),
        column("to"),
        column("counts").wraps(16),
    ];
    let mut rows = Sheet::titled(lang, columns);
    for unit in units {
        let counts = match unit.misfit.as_str() {
            "" => Cell::from(say!("counts").text(lang)).tinted(Tint::Good),
            misfit => Cell::from(plain(&Message::from(misfit).text(lang))).tinted(Tint::Bad),
        };
        let row: [Cell; 7] = [
            unit.unit.clone().into(),
            unit.code.clone().into(),
            plain(&unit.name).into(),
            unit.parent.clone().into(),
            lang.days(&unit.from).into(),
            lang.days(&unit.to).into(),
            counts,
        ];
        rows.add_row(row);
    }
    rows.text()
}

fn json_of(unit: &v1::SaidUnit) -> serde_json::Value {
    json!({
        "unit": unit.unit, "code": unit.code, "name": unit.name, "parent": unit.parent, "from": unit.from, "to": unit.to,
        "misfit": unit.misfit, "record": unit.record,
    })
}
