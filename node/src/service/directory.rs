//! The directory as operators see it: the units and the sites that this site was told of.

use std::ops::Bound;

use dinhba_core::access_log::Looked;
use dinhba_core::calendar::Year;
use dinhba_core::ids::{RecordId, ShardId, UnitId};
use dinhba_core::schema::codes::HOLIDAY;
use dinhba_core::units::Tier;
use dinhba_proto::v1::{
    Holiday, HolidaysOfYear, HolidaysReply, ListedSite, SaidUnit, SitesReply, UnitsReply, UnitsRequest,
};
use tonic::Status;

use super::answer::{broken, denied, failed, not_accepted, wrong};
use super::{Caller, SiteService};

/// Units in one page: a name has at most 400 bytes.
const UNITS_MAX: usize = 500;

impl SiteService {
    /// A page of the units that this site was told of, beside the built-in ones.
    pub(super) fn said_units(&self, request: &UnitsRequest) -> Result<UnitsReply, Status> {
        let after = match request.after.as_str() {
            "" => None,
            after => Some(after.parse::<UnitId>().map_err(|error| wrong("after", error.to_string()))?),
        };
        let (place, units) = (self.0.place(), self.0.units());
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut behind = place.units.range(behind);
        let page: Vec<SaidUnit> = behind
            .by_ref()
            .take(UNITS_MAX)
            .map(|(id, unit)| SaidUnit {
                unit: id.to_string(),
                code: unit.code.clone(),
                name: unit.name.clone(),
                parent: unit.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                from: unit.valid_from.to_string(),
                to: unit.valid_to.map(|last| last.to_string()).unwrap_or_default(),
                misfit: units.misfits.get(id).map(ToString::to_string).unwrap_or_default(),
                record: place.unit_records.get(id).map(ToString::to_string).unwrap_or_default(),
            })
            .collect();
        let next = page.last().filter(|_| behind.next().is_some()).map(|last| last.unit.clone());
        Ok(UnitsReply { units: page, next: next.unwrap_or_default() })
    }

    /// The holidays that this site was told of.
    pub(super) fn said_holidays(&self) -> HolidaysReply {
        let place = self.0.place();
        let of_year = |(year, (record, misfits)): (&u16, &(RecordId, Vec<String>))| {
            let said = place.calendar.years.get(year);
            let off = said.into_iter().flat_map(Year::days_off);
            let label = |name| HOLIDAY.iter().find(|code| code.name == name).map_or("", |code| code.label);
            HolidaysOfYear {
                year: u32::from(*year),
                off: off
                    .map(|(day, name)| Holiday {
                        day: day.to_string(),
                        holiday: name.to_owned(),
                        label: label(name).to_owned(),
                    })
                    .collect(),
                worked: said.into_iter().flat_map(Year::days_worked).map(|day| day.to_string()).collect(),
                misfits: misfits.clone(),
                record: record.to_string(),
            }
        };
        HolidaysReply { years: place.calendar_records.iter().map(of_year).collect() }
    }

    /// All sites of the directory, for operators and auditors of this site's units: the look is logged first.
    pub(super) async fn listed_sites(&self, caller: &Caller) -> Result<SitesReply, Status> {
        let shared = &self.0;
        let first = shared.site_group().ok_or_else(|| not_accepted("the node is starting: try again in a moment"))?;
        shared.metrics.read(Looked::Sites.name());
        let entry = caller.entry(Looked::Sites, None, [0; 16]);
        if first.log_accesses(vec![entry]).await.map_err(failed)? != [true] {
            return Err(denied(
                "the directory is for operators and auditors of this site's units; the attempt is logged",
            ));
        }
        // The entry's place in the log is the moment that is shown.
        shared.refresh_place().map_err(|error| broken(&error))?;
        let (place, unit) = (shared.place(), shared.config.site.unit);
        let is_above = shared.units().get(unit).is_some_and(|unit| unit.tier != Tier::Commune);
        let sites = place.sites.values().map(|listed| {
            let (unit_code, unit_name) = shared.unit_words(listed.unit);
            let (said_in, record) = listed.said.unzip();
            ListedSite {
                site: listed.site.to_string(),
                unit: listed.unit.to_string(),
                unit_code,
                unit_name,
                tier: shared.units().get(listed.unit).map_or("", |unit| unit.tier.name()).to_owned(),
                parent: listed.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                keys: listed.keys.iter().map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect()).collect(),
                addresses: listed.addresses.clone(),
                shard: (listed.shard.or_else(|| place.home_of(listed.unit)))
                    .map(|shard| shard.to_string())
                    .unwrap_or_default(),
                state: if listed.is_active { "active" } else { "retired" }.to_owned(),
                said_in: said_in.map(|shard| shard.to_string()).unwrap_or_default(),
                record: record.map(|record| record.to_string()).unwrap_or_default(),
            }
        });
        Ok(SitesReply {
            sites: sites.collect(),
            unit: unit.to_string(),
            ancestor_shard: if is_above { ShardId::of_unit_above(unit).to_string() } else { String::new() },
        })
    }
}
