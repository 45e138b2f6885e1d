//! How far up an accepted request is held: the signed word of each site that it has durably what the request wrote.
//!
//! What a site said once it may not say for ever: if its data came back from an older copy, it begins another life, and until what
//! it lacks was sent again, it is told as one that held the edit (`Space::Former`).

use std::cmp::Reverse;
use std::time::Duration;

use dinhba_core::claims::Claims;
use dinhba_core::command::Statement;
use dinhba_core::edit::Dot;
use dinhba_core::ids::{RequestId, ShardId, SiteId};
use dinhba_core::registry::place_of_request;
use dinhba_core::store::StoreError;
use dinhba_core::sync::Here;
use dinhba_core::units::Tier;
use dinhba_proto::v1;
use tonic::Status;

use super::RecordsService;
use crate::hosted::Hosted;
use crate::runtime;
use crate::service::answer::{broken, not_found, wrong};
use crate::service::convert::request_from_wire;
use crate::service::up_to_date;

/// How long one call may wait: a client that waits for longer asks again, and no connection is held for somebody who is gone.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How soon a state that moves all the time is looked at again.
const PAUSE: Duration = Duration::from_millis(100);

impl RecordsService {
    /// How far up a request is held, once a site of the wanted tier holds it or the time is over.
    pub(super) async fn wait_until_held(
        &self,
        claims: &Claims,
        asked: v1::HeldRequest,
    ) -> Result<v1::HeldReply, Status> {
        let request = request_from_wire(asked.request).map_err(|text| wrong("request", text))?;
        let shard = self.shard_of(&asked.shard, claims).await?;
        let until = match asked.until.as_str() {
            "" => None,
            name => {
                Some(Tier::named(name).ok_or_else(|| wrong("until", "write central, province, district or commune"))?)
            }
        };
        let over = runtime::now() + Duration::from_millis(asked.wait_ms.into()).min(WAIT_MAX);
        let place = self.place_of(shard).await?;
        let mut moved = place.hosted.follow();
        if self.holders(place.hosted, shard, request)?.is_none() {
            up_to_date(place.hosted).await?;
        }
        loop {
            let sites = self.holders(place.hosted, shard, request)?.ok_or_else(|| {
                not_found(
                    "no such request is known here: ask the site that accepted it; a name is forgotten 400 days after its session's \
                     last",
                )
            })?;
            let is_there = |by: &v1::HeldBy| by.holds && until.is_some_and(|tier| by.tier == tier.name());
            let reached = sites.iter().any(is_there);
            if reached || until.is_none() || runtime::now() >= over {
                return Ok(v1::HeldReply { sites, reached });
            }
            let left = || over - runtime::now();
            if let Ok(moved) = runtime::timeout(left(), self.has_moved(place.hosted, &mut moved)).await {
                if !moved? {
                    return Ok(v1::HeldReply { sites, reached });
                }
                runtime::sleep(PAUSE.min(left())).await;
            }
        }
    }

    /// Who holds what a request wrote, as this replica has it; none if it does not know the request.
    fn holders(&self, hosted: &Hosted, shard: ShardId, request: RequestId) -> Result<Option<Vec<v1::HeldBy>>, Status> {
        let found = hosted.look(|view| {
            let here = Here { view, keys: hosted.keys() };
            let Some(lies) = place_of_request(view, &hosted.context, shard, request)? else { return Ok(None) };
            let covered = |said: Statement, lies: &Dot| {
                Ok::<_, StoreError>(here.known_to_hold(shard, &said.body.heads)?.covers(lies).then_some(said))
            };
            let (mut now, mut before): (Vec<Statement>, Vec<Statement>) = (Vec::new(), Vec::new());
            for said in here.statements(shard)? {
                now.extend(covered(said, &lies)?);
            }
            for said in here.formers(shard)? {
                before.extend(covered(said, &lies)?);
            }
            Ok(Some((now, before)))
        });
        let Some((now, before)) = found.map_err(|error| broken(&error))? else { return Ok(None) };
        let place = self.0.place();
        let of = |site: SiteId, holds: bool, said_ms: i64| {
            let unit = place.sites.get(&site)?.unit;
            let tier = self.0.tier_of(&place, site)?;
            let (unit_code, unit_name) = self.0.unit_words(unit);
            let by = v1::HeldBy {
                site: site.to_string(),
                unit_code,
                unit_name,
                tier: tier.name().to_owned(),
                holds,
                said_ms,
            };
            Some((Reverse(tier), by))
        };
        let is_told = |site: SiteId| now.iter().any(|said| said.body.site == site);
        let own = of(self.0.site(), true, 0);
        let others = now.iter().filter_map(|said| of(said.body.site, true, said.body.at_ms));
        let lost = before.iter().filter(|said| !is_told(said.body.site));
        let lost = lost.filter_map(|said| of(said.body.site, false, said.body.at_ms));
        let mut all: Vec<_> = own.into_iter().chain(others).chain(lost).collect();
        all.sort_by(|one, two| (one.0, &one.1.site).cmp(&(two.0, &two.1.site)));
        Ok(Some(all.into_iter().map(|(_, by)| by).collect()))
    }
}
