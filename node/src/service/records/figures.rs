//! How many of each event there were. Nothing is counted here: `apply` keeps the figures.

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::date::Date;
use dinhba_core::event::Event;
use dinhba_core::registry;
use dinhba_proto::v1;
use tonic::Status;

use super::{Asked, RecordsService};
use crate::service::answer::{broken, precondition, wrong};
use crate::service::{Caller, id};

/// Figures in one answer: a quarter of a message.
const FIGURES_MAX: usize = 20_000;

/// The first and the last day that are asked for.
pub(super) fn days_asked(from: &str, to: &str) -> Result<(Date, Date), Status> {
    let (from, to) = (id("from", from)?, id("to", to)?);
    if from > to { Err(wrong("to", "to: the last day lies before the first")) } else { Ok((from, to)) }
}

impl RecordsService {
    pub(super) async fn figures_of(
        &self,
        caller: &Caller,
        request: &v1::FiguresRequest,
    ) -> Result<v1::FiguresReply, Status> {
        let days = days_asked(&request.from, &request.to)?;
        let (mut units, mut left) = (Vec::new(), FIGURES_MAX);
        let asked = self.asked_within(caller, (Action::Figures, Looked::Figures), &request.unit).await?;
        for Asked { hosted, may, homes, .. } in asked {
            for id in may {
                let home = homes[&id].home();
                let found = hosted.look(|view| registry::figures(view, hosted.keys(), id, days, left));
                let (found, more) = found.map_err(|error| broken(&error))?;
                if more {
                    let text =
                        format!("there are more than {FIGURES_MAX} figures: ask for fewer days, or for a smaller unit");
                    return Err(precondition(text));
                }
                left -= found.len();
                let figure = |((day, event), count): ((Date, Event), u64)| v1::Figure {
                    day: day.to_string(),
                    event: event.name().to_owned(),
                    count,
                };
                let (unit_code, unit_name) = self.0.unit_words(home);
                units.push(v1::UnitFigures {
                    shard: id.to_string(),
                    unit: home.to_string(),
                    unit_code,
                    unit_name,
                    figures: found.into_iter().map(figure).collect(),
                });
            }
        }
        Ok(v1::FiguresReply { units })
    }
}
