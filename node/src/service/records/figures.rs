//! How many of each event there were. Nothing is counted here: `apply` keeps the figures.

use dinhba_core::access::Action;
use dinhba_core::command::{Looked, ShardInfo};
use dinhba_core::date::Date;
use dinhba_core::event::Event;
use dinhba_core::registry;
use dinhba_proto::v1;
use tonic::Status;

use super::{Asked, RecordsService, Verdicts};
use crate::service::answer::{broken, precondition, wrong};
use crate::service::{Caller, all_groups_here, id};

/// Figures in one answer: a quarter of a message.
const FIGURES_MAX: usize = 20_000;

impl RecordsService {
    pub(super) async fn figures_of(
        &self,
        caller: &Caller,
        request: &v1::FiguresRequest,
    ) -> Result<v1::FiguresReply, Status> {
        let days: (Date, Date) = (id("from", &request.from)?, id("to", &request.to)?);
        if days.0 > days.1 {
            return Err(wrong("to", "to: the last day lies before the first"));
        }
        all_groups_here(&self.0).await?;
        let is_within = self.within_here(&request.unit).await?;
        let wanted = |info: &ShardInfo| !info.is_ancestor() && is_within(info);
        let (mut units, mut verdicts, mut left) = (Vec::new(), Verdicts::default(), FIGURES_MAX);
        for Asked { hosted, only, .. } in self.asked(caller, Action::Figures, &wanted)? {
            // Also who asks for one commune in vain is in its log.
            if !verdicts.may(self.log_or_denial(caller, Looked::Figures, hosted, only, [0; 16]).await?) {
                continue;
            }
            let asked = self.asked_of(hosted, caller, Action::Figures, &wanted)?;
            let Some(Asked { may, homes, .. }) = asked else { continue };
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
        verdicts.refuse_who_may_look_nowhere()?;
        Ok(v1::FiguresReply { units })
    }
}
