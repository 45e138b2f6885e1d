//! What operators of the centre change of the directory in mid-run: a site is added, gets another key, is linked elsewhere.
//!
//! Each change is said by an edit of the centre's ancestor shard, and then done: the site is founded, or its nodes start again. What
//! finds no ear is said again; what is not done when the faults are over, operators finish then ([`finish`]).
//!
//! Limits: who moves a site says before where the new one above is reached. The centre, which says itself that it has another key,
//! signs with it only once every site has heard: what announces the key is signed anew whenever it is sent, and whoever knows the
//! former key alone does not take it.

use std::collections::BTreeSet;
use std::time::Duration;

use dinhba_client::sites::SiteChange;
use dinhba_core::ids::{Hash, ShardId};
use dinhba_node::runtime::{self, Instant};
use ed25519_dalek::SigningKey;

use crate::country::{Country, Power, spelled};
use crate::officers;
use crate::oracle::Oracle;
use crate::run::is_formed;
use crate::scenario::{CENTRE, What};
use crate::state::{engine, hashes_of_machine, shard_copy};
use crate::trace::SitePlace;

use super::raise_level;

/// From one attempt of an operator to the next.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a site may take to form itself, or a node to come back, before operators go on: some elections.
const FORMS_WITHIN: Duration = Duration::from_secs(30);

/// How often that, or what every site holds, is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether it changes the directory.
pub(super) const fn is_change(what: &What) -> bool {
    matches!(what, What::AddSite { .. } | What::RekeySite { .. } | What::MoveSite { .. })
}

/// Does what the fault of this place says, trying until then; whether it is done.
pub(super) async fn change(country: &Country, oracle: &Oracle, place: usize, what: &What, until: Instant) -> bool {
    let changing = Changing { country, oracle, place, until };
    loop {
        let done = match what {
            What::AddSite { site } => changing.add(country.site(site)).await,
            What::RekeySite { site, revokes } => changing.rekey(country.site(site), *revokes).await,
            What::MoveSite { site, parent } => changing.link(country.site(site), country.site(parent)).await,
            _ => true,
        };
        if done {
            country.note_done(place);
            return true;
        }
        if runtime::now() + PAUSE >= until {
            return false;
        }
        runtime::sleep(PAUSE).await;
    }
}

/// Once the faults are over: what is left of them to do. Tells what could not be done.
pub async fn finish(country: &Country, oracle: &Oracle, within: Duration) -> Vec<String> {
    let mut left = Vec::new();
    for (place, fault) in country.scenario().faults.iter().enumerate() {
        if is_change(&fault.what)
            && !country.is_done(place)
            && !change(country, oracle, place, &fault.what, runtime::now() + within).await
        {
            left.push(format!("operators did not come to an end with {}", fault.what.kind()));
        }
    }
    left
}

struct Changing<'a> {
    country: &'a Country,
    oracle: &'a Oracle,
    place: usize,
    until: Instant,
}

impl Changing<'_> {
    fn operator(&self) -> officers::Officer {
        officers::operator(self.country, self.oracle, self.country.site(CENTRE))
    }

    async fn add(&self, site: SitePlace) -> bool {
        let (country, plan) = (self.country, &self.country.sites()[site]);
        let Some(parent) = country.parent(site) else { return true };
        let (parent, key) = (country.sites()[parent].id, country.public_key(site));
        let change = SiteChange::Add { unit: plan.unit, parent, key, addresses: Vec::new() };
        let Some(said) = self.operator().say(country.open(self.place), site, &change).await else { return false };
        country.note_open(self.place, said.is_open().then_some(said.request));
        if !said.is_accepted() {
            return false;
        }
        country.found_site(site, said.drafted.place_file);
        let nodes = country.machines_of(site);
        nodes.iter().for_each(|node| country.start(*node));
        if self.comes(|| is_formed(country, site)).await {
            raise_level(country, site, country.scenario().knobs.level).await;
        }
        true
    }

    async fn rekey(&self, site: SitePlace, revokes: bool) -> bool {
        let (country, plan) = (self.country, &self.country.sites()[site]);
        let secret = [&plan.id.0.to_be_bytes()[..], &self.place.to_be_bytes()].concat();
        let key = SigningKey::from_bytes(blake3::hash(&secret).as_bytes());
        let public = spelled(&key);
        let Some(listed) = self.operator().listed(site).await else { return false };
        if !listed.keys.contains(&public) {
            let change = SiteChange::Rekey { key: public.clone() };
            if !self.operator().say(None, site, &change).await.is_some_and(|said| said.is_accepted()) {
                return false;
            }
        }
        // What it says of itself goes on under its new signature, and whoever did not hear before cannot check that.
        if country.parent(site).is_none() && country.public_key(site) != public && !self.is_held_everywhere(site).await
        {
            return false;
        }
        if country.public_key(site) != public {
            country.set_key(site, key);
            self.restart(site).await;
        }
        if !revokes || !self.is_held_everywhere(site).await {
            return true;
        }
        for former in listed.keys.into_iter().filter(|former| *former != public) {
            let Some(said) = self.operator().say(None, site, &SiteChange::Revoke { key: former }).await else {
                return false;
            };
            let told = self.oracle.ledger().told.get(&said.request).map(|told| told.hash);
            let Some(hash) = told.filter(|_| said.is_accepted()) else { return false };
            country.note_revocation(site, hash);
        }
        true
    }

    async fn link(&self, site: SitePlace, parent: SitePlace) -> bool {
        let operator = self.operator();
        if !operator.say_where(parent).await {
            return false;
        }
        let change = SiteChange::Move { parent: self.country.sites()[parent].id };
        let is_said = operator.say(None, site, &change).await.is_some_and(|said| said.is_accepted());
        if is_said {
            self.country.set_parent(site, parent);
        }
        is_said
    }

    /// Starts the nodes of a site again that are on, one after the other.
    async fn restart(&self, site: SitePlace) {
        for node in self.country.machines_of(site) {
            if self.country.machines()[node].power != Power::On {
                continue;
            }
            self.country.kill(node);
            self.country.start(node);
            self.comes(|| is_formed(self.country, site)).await;
        }
    }

    /// Waits for something, for a while.
    async fn comes(&self, is_so: impl Fn() -> bool) -> bool {
        let until = (runtime::now() + FORMS_WITHIN).min(self.until);
        while !is_so() && runtime::now() < until {
            runtime::sleep(LOOK_EVERY).await;
        }
        is_so()
    }

    /// Waits until every site that is to hold them holds all edits that this one has written by now.
    async fn is_held_everywhere(&self, author: SitePlace) -> bool {
        let shards: Vec<ShardId> = self.country.sites()[author].shards().collect();
        let written: Vec<(ShardId, BTreeSet<Hash>)> =
            shards.into_iter().map(|shard| (shard, self.written(author, shard))).collect();
        while !written.iter().all(|(shard, edits)| self.is_held(*shard, edits)) {
            if runtime::now() + LOOK_EVERY >= self.until {
                return false;
            }
            runtime::sleep(LOOK_EVERY).await;
        }
        true
    }

    /// The edits of a site in a shard, wherever they are.
    fn written(&self, author: SitePlace, shard: ShardId) -> BTreeSet<Hash> {
        let (country, mut found) = (self.country, BTreeSet::new());
        for (site, plan) in country.sites().iter().enumerate() {
            let Some(group) = plan.group_of(shard) else { continue };
            for node in country.machines_of(site) {
                let Ok(Some(copy)) = shard_copy(&*engine(country, node), group, shard) else { continue };
                let edits = copy.edits.values();
                let own = edits.filter(|(_, edit)| edit.header.author.site == country.sites()[author].id);
                found.extend(own.map(|(hash, _)| *hash));
            }
        }
        found
    }

    fn is_held(&self, shard: ShardId, edits: &BTreeSet<Hash>) -> bool {
        let country = self.country;
        let holds = |site: SitePlace| {
            let nodes = country.machines_of(site);
            nodes.into_iter().any(|node| edits.is_subset(&hashes_of_machine(country, node)))
        };
        let sites = country.sites().iter().enumerate();
        let mut holders = sites.filter(|(site, plan)| country.is_founded(*site) && plan.group_of(shard).is_some());
        holders.all(|(site, _)| holds(site))
    }
}
