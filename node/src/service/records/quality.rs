//! How good the records of each commune are. Nothing is counted here but what comes due by age: `apply` keeps the counts.

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::date::InstantMs;
use dinhba_core::registry;
use dinhba_proto::v1;
use tonic::Status;

use super::{Asked, RecordsService};
use crate::runtime;
use crate::service::Caller;
use crate::service::answer::{broken, precondition};

/// Communes in one answer: all that there are, at 200 bytes each, fit a message.
const UNITS_MAX: usize = 12_000;

impl RecordsService {
    pub(super) async fn quality_of(
        &self,
        caller: &Caller,
        request: &v1::QualityRequest,
    ) -> Result<v1::QualityReply, Status> {
        let today = InstantMs(runtime::utc_ms()).date_in_vietnam();
        let mut units = Vec::new();
        let asked = self.asked_within(caller, (Action::Figures, Looked::Figures), &request.unit).await?;
        for Asked { hosted, may, .. } in asked {
            if units.len() + may.len() > UNITS_MAX {
                return Err(precondition(format!("there are more than {UNITS_MAX} communes: ask for a smaller unit")));
            }
            for id in may {
                let Some(state) = hosted.shard(id).map_err(|error| broken(&error))? else { continue };
                let coming = hosted.look(|view| registry::coming(view, hosted.keys(), id));
                let coming = coming.map_err(|error| broken(&error))?;
                let (mut required, mut filled) = (state.quality.required, state.quality.filled);
                for (_, (due, of_them)) in coming.range(..=today) {
                    (required, filled) = (required + due, filled + of_them);
                }
                let (_, step) = self.0.statements_and_step(hosted, &state)?;
                let home = state.info.home();
                let (unit_code, unit_name) = self.0.unit_words(home);
                units.push(v1::UnitQuality {
                    shard: id.to_string(),
                    unit: home.to_string(),
                    unit_code,
                    unit_name,
                    records: state.persons + state.households + state.dossiers,
                    disputed: state.quality.disputed,
                    doubled: state.quality.doubled,
                    required,
                    filled,
                    step: step.word.to_owned(),
                    step_at_ms: step.at_ms,
                    pending_up: step.pending_up,
                });
            }
        }
        Ok(v1::QualityReply { units })
    }
}
