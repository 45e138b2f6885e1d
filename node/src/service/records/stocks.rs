//! How many cards, accounts and steps of dossiers are in which state, and how many of the steps are late. Nothing is counted here but what is
//! late by today's holidays: `apply` keeps the counts.

use std::collections::BTreeMap;

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::date::InstantMs;
use dinhba_core::registry;
use dinhba_core::schema::codes::DOSSIER_STEP;
use dinhba_core::stock::Stock;
use dinhba_proto::v1;
use tonic::Status;

use super::figures::days_asked;
use super::{Asked, RecordsService};
use crate::runtime;
use crate::service::Caller;
use crate::service::answer::{broken, precondition};

/// Rows in one answer, at most 150 bytes each: most of a message.
const ROWS_MAX: usize = 20_000;

impl RecordsService {
    pub(super) async fn stocks_of(
        &self,
        caller: &Caller,
        request: &v1::StocksRequest,
    ) -> Result<v1::StocksReply, Status> {
        let done = days_asked(&request.from, &request.to)?;
        let asked = self.asked_within(caller, (Action::Figures, Looked::Figures), &request.unit).await?;
        let (place, today) = (self.0.place(), InstantMs(runtime::utc_ms()).date_in_vietnam());
        let (mut units, mut rows_left) = (Vec::new(), ROWS_MAX);
        for Asked { hosted, may, homes, .. } in asked {
            for id in may {
                let found = hosted.look(|view| registry::stocks(view, hosted.keys(), id, done));
                let mut rows: BTreeMap<Stock, (u64, u64)> = BTreeMap::new();
                for (counted, count) in found.map_err(|error| broken(&error))? {
                    let row = rows.entry(counted.stock).or_default();
                    row.0 += count;
                    row.1 += if counted.is_late(&place.calendar, today) == Some(true) { count } else { 0 };
                }
                rows_left = rows_left.checked_sub(rows.len()).ok_or_else(|| {
                    precondition(format!("there are more than {ROWS_MAX} counts: ask for a smaller unit"))
                })?;
                let home = homes[&id].home();
                let (unit_code, unit_name) = self.0.unit_words(home);
                units.push(v1::UnitStocks {
                    shard: id.to_string(),
                    unit: home.to_string(),
                    unit_code,
                    unit_name,
                    stocks: rows.into_iter().map(wire).collect(),
                });
            }
        }
        Ok(v1::StocksReply { units })
    }
}

fn wire((stock, (count, late)): (Stock, (u64, u64))) -> v1::Stock {
    let (state, state_label) = stock.state();
    let step = stock.step();
    let label = |name: &str| DOSSIER_STEP.iter().find(|code| code.name == name).map_or("", |code| code.label);
    v1::Stock {
        of: stock.name().to_owned(),
        state: state.to_owned(),
        state_label: state_label.to_owned(),
        service: step.map(|(service, _)| service.name.to_owned()).unwrap_or_default(),
        step: step.map(|(_, step)| step.name.to_owned()).unwrap_or_default(),
        step_label: step.map(|(_, step)| label(step.name).to_owned()).unwrap_or_default(),
        count,
        late,
    }
}
