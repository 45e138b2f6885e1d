//! Operators, as they write the directory: where sites are reached, and for the faults which sites there are, with which keys,
//! below whom.
//!
//! What they say is said by the SDK's own drafts, and what they are told goes into the oracle like any other acceptance. First of
//! the addresses that they write stands one at which nobody listens: it says which write it is from.
//!
//! Limit: of the operators of one site one speaks at a time. Two who say the first thing of a site at one moment make two records
//! of it, and only the later one counts for the directory.

use std::time::Duration;

use dinhba_client::generate::holidays;
use dinhba_client::sites::{Drafted, SiteChange};
use dinhba_client::units::{DraftedUnit, UnitChange};
use dinhba_core::ids::{RecordId, RequestId, ShardId};
use dinhba_core::schema::field;
use dinhba_core::units::{BEFORE_REFORM, Tier};
use dinhba_node::runtime;
use dinhba_proto::v1;

use super::{Became, Officer, OperationId, Sent, Subject, staff};
use crate::country::Country;
use crate::history::{Answered, Asked, ValueId};
use crate::oracle::Oracle;
use crate::scenario::{Officer as Plan, Work, directory};
use crate::trace::SitePlace;

/// The address that says which write it is from.
const ADDRESS: Subject =
    Subject { name: "address", element: "1", id: field::SITE_ADDRESS, prefix: "v", suffix: ":7400" };

/// Operators who do what a scenario's faults say have places from here on: no scenario has so many officers.
const OPERATORS: usize = 1_000_000;

/// What somebody said of a site.
pub(crate) struct Said {
    pub(crate) request: RequestId,
    pub(crate) drafted: Drafted,
    became: Became,
}

impl Said {
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self.became, Became::Accepted)
    }

    /// Whether it may be accepted, and has to be asked for again.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.became, Became::Unknown)
    }
}

/// An operator of a site, who does one thing.
pub(crate) fn operator(country: &Country, oracle: &Oracle, site: SitePlace) -> Officer {
    let plan = Plan {
        at: country.sites()[site].code.clone(),
        shards: Vec::new(),
        every: Duration::from_secs(1),
        starts: Duration::ZERO,
        edits: 1,
        does: Work::Sites,
        impatient: false,
    };
    staff(country.clone(), oracle.clone(), OPERATORS + site, plan, country.person(site), runtime::now())
}

impl Officer {
    /// Says of a site below where it is reached, or looks at what was said of one.
    pub(super) async fn work_on_sites(&self) {
        let known: Vec<RecordId> = {
            let ledger = self.oracle.ledger();
            self.shards.iter().filter_map(|shard| ledger.records.get(shard)).flatten().copied().collect()
        };
        let may_speak = self.country.sites()[self.site].tier != Tier::Commune;
        if may_speak && (known.is_empty() || self.pick(2) == 0) {
            let below = self.sites_below();
            self.say_where(below[self.pick(below.len())]).await;
        } else if !known.is_empty() {
            let _ = self.read(known[self.pick(known.len())], ADDRESS).await;
        }
    }

    /// Says the holidays of a year.
    async fn say_holidays(&self) {
        let year = [2026, 2027, 2028][self.pick(3)];
        let request = self.session.next();
        let edit = match self.client.draft_holidays(&self.context, &holidays(year), "QĐ 1").await {
            Ok(edit) => edit,
            Err(error) => return self.not(&format!("not drafted: {error}")),
        };
        let shard = ShardId::of_unit_above(self.country.sites()[self.site].unit);
        if let Became::Accepted = self.send_on(request, Sent::Edit(&edit), shard, "holidays", false).await {
            self.oracle.ledger().holidays.insert(request, year);
        }
    }

    /// Says that there is another commune, below the unit of some site; or the holidays of a year.
    pub(super) async fn make_unit(&self) {
        if self.pick(3) == 0 {
            return self.say_holidays().await;
        }
        let above: Vec<_> = self.country.sites().iter().filter(|site| site.tier != Tier::Commune).collect();
        // No commune of the lists has such a code.
        let code = (40_000 + self.value().0 % 60_000).to_string();
        let change = UnitChange::Add {
            name: format!("Xã {code}"),
            code,
            parent: above[self.pick(above.len())].unit,
            from: BEFORE_REFORM,
            to: None,
        };
        let request = self.session.next();
        let DraftedUnit { edit, unit } = match self.client.draft_unit(&self.context, request, &change, "NQ 1").await {
            Ok(drafted) => drafted,
            Err(error) => return self.not(&format!("not drafted: {error}")),
        };
        let shard = ShardId::of_unit_above(self.country.sites()[self.site].unit);
        if let Became::Accepted = self.send_on(request, Sent::Edit(&edit), shard, "units", false).await {
            self.oracle.ledger().units.insert(request, unit);
        }
    }

    /// The sites of his unit and of those in it, that are there.
    fn sites_below(&self) -> Vec<SitePlace> {
        let (sites, own) = (self.country.sites(), self.country.sites()[self.site].unit);
        let is_below =
            |site: &SitePlace| directory().is_within(sites[*site].unit, own) && self.country.is_founded(*site);
        (0..sites.len()).filter(is_below).collect()
    }

    /// Says of a site where it is reached; whether that is accepted.
    pub(crate) async fn say_where(&self, about: SitePlace) -> bool {
        let mut addresses = vec![ADDRESS.text(self.value())];
        addresses.extend(self.country.addresses(about));
        self.say(None, about, &SiteChange::Reach { addresses }).await.is_some_and(|said| said.is_accepted())
    }

    /// What the directory of his site says of another one.
    pub(crate) async fn listed(&self, about: SitePlace) -> Option<v1::ListedSite> {
        let reply = self.client.sites(&self.context).await.ok()?;
        let id = self.country.sites()[about].id.to_string();
        reply.sites.into_iter().find(|listed| listed.site == id)
    }

    /// Says something of a site, and keeps what became of it; nothing if the directory does not allow it, or cannot be asked.
    /// `again` is an earlier request for this, whose outcome is not known.
    pub(crate) async fn say(&self, again: Option<RequestId>, about: SitePlace, change: &SiteChange) -> Option<Said> {
        let turn = self.country.turn(self.site);
        let _speaks = turn.lock().await;
        let site = self.country.sites()[about].id;
        let drafted = match self.client.draft_site(&self.context, again, site, change, directory()).await {
            Ok(drafted) => drafted,
            Err(error) => {
                self.not(&format!("not drafted: {error}"));
                return None;
            }
        };
        let request = again.unwrap_or_else(|| self.session.next());
        let operation = self.asked(request, &drafted);
        let shard = ShardId::of_unit_above(self.country.sites()[self.site].unit);
        let became = self.send_on(request, Sent::Edit(&drafted.edit), shard, "sites", again.is_some()).await;
        if let Some(operation) = operation {
            self.was_said(operation, &became);
        }
        if matches!(became, Became::Accepted) && drafted.record.is_none() {
            let mut ledger = self.oracle.ledger();
            let records = ledger.records.entry(shard).or_default();
            let record = RecordId::derive(request, 0);
            if !records.contains(&record) {
                records.push(record);
            }
        }
        Some(Said { request, drafted, became })
    }

    /// What the edit asks of the field that tells writes apart; nothing if it leaves that alone.
    fn asked(&self, request: RequestId, drafted: &Drafted) -> Option<OperationId> {
        let message = drafted.edit.build(request, 0);
        let is_it = |change: &&v1::FieldChange| change.field == ADDRESS.name && change.element == ADDRESS.element;
        let change = message.parts.iter().flat_map(|part| &part.changes).find(is_it)?;
        let id: ValueId = ADDRESS.value(&change.value)?;
        let record = match &drafted.record {
            Some(record) => record.id.parse().ok()?,
            None => RecordId::derive(request, 0),
        };
        let overwrites = drafted.record.as_ref().map(|record| ADDRESS.values(record)).unwrap_or_default();
        Some(self.called(ADDRESS.key(record), Asked::Write { overwrites, id }))
    }

    fn was_said(&self, operation: OperationId, became: &Became) {
        let answer = match became {
            Became::Accepted => Answered::Accepted,
            Became::Refused => Answered::Refused,
            Became::Stale(told) => {
                let is_it = |moved: &v1::Moved| moved.field == ADDRESS.name && moved.element == ADDRESS.element;
                match (told.fields.iter().any(is_it), told.more) {
                    (true, _) => Answered::Stale,
                    (false, 0) => Answered::Refused,
                    // Which fields moved beside those that are told, nobody says.
                    _ => return,
                }
            }
            Became::Unknown => return,
        };
        self.answered(operation, answer);
    }
}
