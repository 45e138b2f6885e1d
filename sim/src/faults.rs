//! Makes a scenario's faults happen, each at its time, and ends them.
//!
//! A fault that finds nobody to hit (no leader, a node that is gone) does nothing and says so in the trace. Each fault
//! undoes only itself: a node that two faults switched off is on again when the first of them ends, which is a fault of its
//! own kind and allowed.

use std::path::Path;
use std::time::Duration;

use dinhba_client::{Client, Context, Limits};
use dinhba_core::claims::Role;
use dinhba_core::keys::Keys;
use dinhba_core::level::{LEVEL_FIRST, LEVEL_MAX};
use dinhba_core::registry::{self, GroupState};
use dinhba_node::runtime::{self, Instant};

use crate::country::{Backup, Country, LOG_DIR, Power, SNAPSHOT_DIR};
use crate::oracle::{Loss, Oracle};
use crate::scenario::{Fault, NodeRef, Place, Store, What};
use crate::state::{engine, hashes_at, hashes_of_machine};
use crate::thieves;
use crate::trace::{Event, NodePlace, SitePlace};
use crate::wire::{Disturbance, DisturbanceId, End, Trouble};

pub use sites::finish;

mod sites;

/// How long an operator's command may take: an election and a learner that catches up.
const ADMIN_WAIT: Duration = Duration::from_secs(60);

/// How often an operator tries before he leaves it: the site may have no majority at the moment.
const ADMIN_TRIES: usize = 10;

/// A power cut in the middle of work is at one of so many next calls on the disk: several entries' worth.
const DISK_CALLS_MAX: u64 = 40;

/// How long such a cut waits for the node to work.
const AT_WORK_WAIT: Duration = Duration::from_secs(1);

/// Runs one fault from its beginning to its end, which is at the latest that of the safety phase.
pub async fn happen(country: Country, oracle: Oracle, place: usize, fault: Fault, began: Instant) {
    let until = country.scenario().lasts;
    let ends = began + fault.ends(until).min(until);
    let teller = Teller { country: country.clone(), place, kind: fault.what.kind() };
    let acting = Acting { country, oracle, teller, began, ends };
    acting.act(fault).await;
    acting.teller.country.trace().add(Event::FaultEnds { fault: place });
}

fn operator(country: &Country, site: SitePlace) -> (Client, Context) {
    let limits = Limits { admin: ADMIN_WAIT, ..Limits::default() };
    let client = country.client(country.person(site), Role::Operator, limits, 0);
    (client, Context::parse("maintenance", "BT-1").expect("a purpose and a case"))
}

/// Raises the feature level of a site's groups; level 1 is what they are founded with.
pub async fn raise_level(country: &Country, site: SitePlace, level: u16) {
    if level <= 1 {
        return;
    }
    for _ in 0..ADMIN_TRIES {
        let (client, context) = operator(country, site);
        if client.raise_level(&context, u32::from(level)).await.is_ok() {
            return;
        }
        runtime::sleep(Duration::from_secs(5)).await;
    }
}

struct Teller {
    country: Country,
    place: usize,
    kind: &'static str,
}

impl Teller {
    fn tell(&self, text: String, nodes: Vec<NodePlace>, sites: Vec<SitePlace>) {
        self.country.note_hit(self.kind, &nodes, &sites);
        self.country.trace().add(Event::FaultBegins { fault: self.place, kind: self.kind, text, nodes, sites });
    }
}

struct Acting {
    country: Country,
    oracle: Oracle,
    teller: Teller,
    began: Instant,
    ends: Instant,
}

impl Acting {
    async fn act(&self, fault: Fault) {
        let country = &self.country;
        if let What::Restore { node, backup_at, twice } = &fault.what {
            return self.restore(node, *backup_at, *twice, &fault).await;
        }
        runtime::sleep_until(self.began + fault.at).await;
        if self.is_too_early(&fault.what) {
            return self.nobody();
        }
        match &fault.what {
            What::Dark { sites } => {
                let sites: Vec<SitePlace> = sites.iter().map(|code| country.site(code)).collect();
                self.teller.tell("no line to anybody".to_owned(), Vec::new(), sites.clone());
                let mut cuts = Vec::new();
                for site in sites {
                    cuts.extend(self.both_ways(End::Site(site), End::Anyone, Trouble::Cut));
                }
                self.while_it_lasts(cuts).await;
            }
            What::Cut { a, b } => self.between(a, b, Trouble::Cut, "cut").await,
            What::Slow { a, b, bits_per_second, latency } => {
                self.between(a, b, Trouble::Slow(*latency, *bits_per_second), "slow").await;
            }
            What::Lossy { a, b, per_mille } => self.between(a, b, Trouble::Lossy(*per_mille), "lossy").await,
            What::CutOneWay { from, to } => {
                let (Some((from, at)), Some((to, there))) = (self.end(from), self.end(to)) else {
                    return self.nobody();
                };
                self.teller.tell("what the first sends vanishes".to_owned(), Vec::new(), vec![at, there]);
                let cut = country.wire().disturb(Disturbance { from, to, trouble: Trouble::Cut });
                self.while_it_lasts(vec![cut]).await;
            }
            What::Flap { a, b, every } => {
                let (Some((a, at)), Some((b, there))) = (self.end(a), self.end(b)) else { return self.nobody() };
                self.teller.tell(format!("cut and whole every {every:?}"), Vec::new(), vec![at, there]);
                while runtime::now() < self.ends {
                    let cuts = self.both_ways(a, b, Trouble::Cut);
                    self.pause(*every).await;
                    cuts.into_iter().for_each(|cut| country.wire().mend(cut));
                    self.pause(*every).await;
                }
            }
            What::AddNode { site } => self.add_node(country.site(site)).await,
            What::TransferLeader { site } => self.transfer_leaders(country.site(site)).await,
            What::RaiseLevel { site, level } => {
                let site = country.site(site);
                self.teller.tell(format!("feature level {level}"), Vec::new(), vec![site]);
                raise_level(country, site, *level).await;
            }
            What::Snapshot { site } => {
                let site = country.site(site);
                self.teller.tell("snapshots now".to_owned(), Vec::new(), vec![site]);
                let (client, context) = self.operator(site);
                // A site without a majority takes none; that is its right.
                let _ = client.snapshot(&context).await;
            }
            What::AddSite { .. } | What::RekeySite { .. } | What::MoveSite { .. } => {
                self.change_directory(&fault).await
            }
            What::Thief { site, theft } => {
                let scenario = country.scenario();
                let over = fault.ends(scenario.lasts);
                let rekeys = |later: &Fault| {
                    later.at >= over && matches!(&later.what, What::RekeySite { site: other, .. } if other == site)
                };
                let takes_all = scenario.faults.iter().any(rekeys);
                let (site, theft) = (country.site(site), *theft);
                self.teller.tell("somebody has its key".to_owned(), Vec::new(), vec![site]);
                thieves::steal(country.clone(), site, (theft, takes_all), self.ends).await;
            }
            what => match what.node().and_then(|node| country.resolve(node)) {
                Some(node) => self.hit(what, node).await,
                None => self.nobody(),
            },
        }
    }

    /// The power goes at a random moment: half of the times in the middle of one of the next calls on the disk, so that it
    /// finds the node at work; otherwise between two millionths of a second.
    async fn cut_power(&self, node: NodePlace) {
        let country = &self.country;
        let pick = country.random();
        if pick.is_multiple_of(2) {
            let disk = country.machines()[node].disk.clone();
            let cut = disk.cut_power_at(1 + pick / 2 % DISK_CALLS_MAX);
            // An idle disk is not waited for, and a process may end before: the next one must not meet the cut.
            if runtime::timeout(AT_WORK_WAIT, cut).await.is_err() {
                disk.call_off_cut();
            }
        } else {
            runtime::sleep(Duration::from_nanos(pick / 2 % 1_000_000)).await;
        }
        country.cut_power(node);
    }

    /// Whether it is about a site that is not there yet. Its lines, nobody uses.
    fn is_too_early(&self, what: &What) -> bool {
        let is_there = |code: &&str| self.country.is_founded(self.country.site(code));
        let is_begun = |code: &&str| self.has_begun(self.country.site(code));
        // Whoever founds a site waits for all its nodes: if one of these is taken away before, its operators begin anew.
        let takes_away = matches!(what, What::RemoveNode { .. } | What::ReplaceNode { .. });
        !matches!(what, What::AddSite { .. } | What::Dark { .. }) && !what.sites().iter().all(is_there)
            || takes_away && !what.sites().iter().all(is_begun)
    }

    /// Whether some node of a site has all of its groups formed.
    fn has_begun(&self, site: SitePlace) -> bool {
        let groups = &self.country.sites()[site].groups;
        let is_formed = |node: &NodePlace| {
            let state = engine(&self.country, *node);
            let formed =
                |group| registry::read::<GroupState>(&*state, &Keys(group).group()).is_ok_and(|state| state.is_some());
            groups.iter().all(|(group, _)| formed(*group))
        };
        self.country.machines_of(site).iter().any(is_formed)
    }

    async fn change_directory(&self, fault: &Fault) {
        let country = &self.country;
        let (text, site) = match &fault.what {
            What::AddSite { site } => ("is added".to_owned(), site),
            What::RekeySite { site, revokes: false } => ("gets another key".to_owned(), site),
            What::RekeySite { site, revokes: true } => ("gets another key, and the former is revoked".to_owned(), site),
            What::MoveSite { site, parent } => (format!("is linked below {parent}"), site),
            other => unreachable!("{} changes nothing of the directory", other.kind()),
        };
        self.teller.tell(text, Vec::new(), vec![country.site(site)]);
        let until = self.began + country.scenario().lasts;
        sites::change(country, &self.oracle, self.teller.place, &fault.what, until).await;
    }

    fn nobody(&self) {
        self.teller.tell("finds nobody to hit".to_owned(), Vec::new(), Vec::new());
    }

    async fn hit(&self, what: &What, node: NodePlace) {
        let country = &self.country;
        let site = country.machines()[node].site;
        let tell = |text: &str| self.teller.tell(format!("{}: {text}", country.name(node)), vec![node], vec![site]);
        let (endpoint, disk) = {
            let machines = country.machines();
            (machines[node].endpoint, machines[node].disk.clone())
        };
        match what {
            What::Crash { .. } => {
                tell("power cut");
                self.cut_power(node).await;
                self.wait().await;
                country.start(node);
            }
            What::Kill { .. } => {
                tell("killed");
                country.kill(node);
                self.wait().await;
                country.start(node);
            }
            What::Older { .. } => {
                tell("runs an older program");
                country.kill(node);
                country.set_level_max(node, LEVEL_FIRST);
                country.start(node);
                self.wait().await;
                country.kill(node);
                country.set_level_max(node, LEVEL_MAX);
                country.start(node);
            }
            What::CrashLoop { times, every, .. } => {
                tell(&format!("{times} power cuts, every {every:?}"));
                for _ in 0..*times {
                    self.cut_power(node).await;
                    country.start(node);
                    self.pause(*every).await;
                }
            }
            What::Pause { .. } => {
                tell("held");
                country.simulator().pause(endpoint.scope);
                self.wait().await;
                country.simulator().resume(endpoint.scope);
            }
            What::Isolate { .. } => {
                tell("cut from the other nodes of its site");
                let here = End::Node(endpoint.scope);
                let others = country.machines_of(site).into_iter().filter(|other| *other != node);
                let scopes: Vec<_> = others.map(|other| country.machines()[other].endpoint.scope).collect();
                let cuts = scopes.into_iter().flat_map(|other| self.both_ways(here, End::Node(other), Trouble::Cut));
                self.while_it_lasts(cuts.collect()).await;
            }
            What::Gone { .. } => {
                tell("gone for good");
                country.take_away(node);
            }
            What::Rot { store, times, .. } => {
                for _ in 0..*times {
                    let hit = match store {
                        Store::State => {
                            country.machines()[node].state.rot_any(country.random()).map(|_| "a value".to_owned())
                        }
                        Store::Log => disk.rot(Path::new(LOG_DIR), country.random()),
                        Store::Snapshots => disk.rot(Path::new(SNAPSHOT_DIR), country.random()),
                    };
                    tell(&format!("a bit flips in {}", hit.unwrap_or_else(|| "nothing".to_owned())));
                }
            }
            What::SlowDisk { flush, .. } => {
                tell(&format!("a flush takes {flush:?}"));
                disk.set_flush_time(*flush);
                self.wait().await;
                disk.set_flush_time(country.scenario().knobs.flush);
            }
            What::FullDisk { .. } => {
                tell("disk full");
                disk.set_full(true);
                self.wait().await;
                disk.set_full(false);
                self.restart_if_broken(node);
            }
            What::FailingDisk { .. } => {
                tell("disk fails");
                disk.set_failing(true);
                self.wait().await;
                disk.set_failing(false);
                self.restart_if_broken(node);
            }
            What::LoseDisk { .. } => {
                tell("loses its disk");
                country.cut_power(node);
                self.lose(node, None);
                country.wipe(node);
                self.wait().await;
                country.start(node);
            }
            What::ForgetVote { .. } => {
                let is_log_alone = country.random().is_multiple_of(2);
                tell(if is_log_alone { "comes back without its log" } else { "comes back with an empty disk" });
                country.cut_power(node);
                if is_log_alone {
                    country.lose_log(node);
                } else {
                    country.wipe(node);
                }
                self.wait().await;
                country.start(node);
            }
            What::Clock { offset_ms, .. } => {
                tell(&format!("clock off by {} s", offset_ms / 1000));
                country.simulator().set_clock_offset_ms(endpoint.scope, *offset_ms);
                self.wait().await;
                country.simulator().set_clock_offset_ms(endpoint.scope, 0);
            }
            What::Drift { ppm, .. } => {
                tell(&format!("clock drifts by {ppm} ppm"));
                country.simulator().set_clock_drift_ppm(endpoint.scope, *ppm);
                self.wait().await;
                country.simulator().set_clock_offset_ms(endpoint.scope, 0);
            }
            What::RemoveNode { .. } => {
                tell("is removed");
                if self.remove(site, node).await {
                    country.take_away(node);
                }
            }
            What::ReplaceNode { .. } => {
                tell("is replaced");
                country.take_away(node);
                if self.remove(site, node).await {
                    self.add_node(site).await;
                }
            }
            other => unreachable!("{} names no node", other.kind()),
        }
    }

    async fn wait(&self) {
        runtime::sleep_until(self.ends).await;
    }

    async fn pause(&self, duration: Duration) {
        runtime::sleep_until((runtime::now() + duration).min(self.ends)).await;
    }

    fn end(&self, place: &Place) -> Option<(End, SitePlace)> {
        match place {
            Place::Site(code) => {
                let site = self.country.site(code);
                Some((End::Site(site), site))
            }
            Place::Node(node) => {
                let node = self.country.resolve(node)?;
                let machines = self.country.machines();
                Some((End::Node(machines[node].endpoint.scope), machines[node].site))
            }
        }
    }

    fn both_ways(&self, a: End, b: End, trouble: Trouble) -> Vec<DisturbanceId> {
        let wire = self.country.wire();
        [(a, b), (b, a)].map(|(from, to)| wire.disturb(Disturbance { from, to, trouble })).to_vec()
    }

    async fn between(&self, a: &Place, b: &Place, trouble: Trouble, text: &str) {
        let (Some((a, at)), Some((b, there))) = (self.end(a), self.end(b)) else { return self.nobody() };
        self.teller.tell(text.to_owned(), Vec::new(), vec![at, there]);
        self.while_it_lasts(self.both_ways(a, b, trouble)).await;
    }

    async fn while_it_lasts(&self, disturbances: Vec<DisturbanceId>) {
        self.wait().await;
        disturbances.into_iter().for_each(|id| self.country.wire().mend(id));
    }

    /// A node whose disk failed under it has stopped its groups: its supervisor starts the process again.
    fn restart_if_broken(&self, node: NodePlace) {
        self.country.kill(node);
        self.country.start(node);
    }

    /// Notes what the promises no longer cover.
    fn lose(&self, node: NodePlace, backup: Option<&Backup>) {
        let site = self.country.machines()[node].site;
        let mut held_elsewhere = backup.map(|backup| backup.hashes(&self.country, site)).unwrap_or_default();
        for other in 0..self.country.sites().len() {
            for machine in self.country.machines_of(other).into_iter().filter(|machine| *machine != node) {
                held_elsewhere.extend(hashes_of_machine(&self.country, machine));
            }
        }
        let at = self.country.simulator().now();
        let mut ledger = self.oracle.ledger();
        ledger.losses.push(Loss { site, at, held_elsewhere });
        ledger.breaks.push((site, at));
    }

    async fn restore(&self, node: &NodeRef, backup_at: Duration, twice: bool, fault: &Fault) {
        let country = &self.country;
        runtime::sleep_until(self.began + backup_at).await;
        let Some(node) = country.resolve(node) else { return self.nobody() };
        let backup = country.back_up(node);
        runtime::sleep_until(self.began + fault.at).await;
        let site = country.machines()[node].site;
        self.teller.tell(
            format!("{}: comes back with its disk of {backup_at:?}", country.name(node)),
            vec![node],
            vec![site],
        );
        for _ in 0..if twice { 2 } else { 1 } {
            country.cut_power(node);
            self.lose(node, Some(&backup));
            country.restore(node, &backup);
            self.wait().await;
            country.start(node);
            if twice {
                runtime::sleep(Duration::from_secs(30)).await;
            }
        }
    }

    fn operator(&self, site: SitePlace) -> (Client, Context) {
        operator(&self.country, site)
    }

    async fn add_node(&self, site: SitePlace) {
        let country = &self.country;
        let number = country.machines().iter().filter(|machine| machine.site == site).count() + 1;
        let node = country.lay_machine(site, u8::try_from(number).unwrap_or(u8::MAX));
        country.introduce(node);
        self.teller.tell(format!("{} joins", country.name(node)), vec![node], vec![site]);
        country.start(node);
        let (id, address) = {
            let machines = country.machines();
            (machines[node].id, machines[node].config.node.listen.to_string())
        };
        for _ in 0..ADMIN_TRIES {
            let (client, context) = self.operator(site);
            if client.add_node(&context, id, &address).await.is_ok() && client.promote_node(&context, id).await.is_ok()
            {
                return;
            }
            runtime::sleep(Duration::from_secs(5)).await;
        }
    }

    async fn remove(&self, site: SitePlace, node: NodePlace) -> bool {
        let id = self.country.machines()[node].id;
        for _ in 0..ADMIN_TRIES {
            let (client, context) = self.operator(site);
            if client.remove_node(&context, id).await.is_ok() {
                return true;
            }
            runtime::sleep(Duration::from_secs(5)).await;
        }
        false
    }

    async fn transfer_leaders(&self, site: SitePlace) {
        let country = &self.country;
        self.teller.tell("leaders hand over".to_owned(), Vec::new(), vec![site]);
        let (client, context) = self.operator(site);
        for (group, _) in &country.sites()[site].groups {
            let others: Vec<_> = {
                let machines = country.machines();
                let on = machines.iter().filter(|machine| machine.site == site && machine.power == Power::On);
                on.map(|machine| machine.id).collect()
            };
            // Nobody is there to take over while the whole site is dark.
            let Some(to) = others.get(country.pick(others.len())) else { continue };
            let _ = client.transfer_leader(&context, *group, *to).await;
        }
    }
}

impl Backup {
    fn hashes(&self, country: &Country, site: SitePlace) -> std::collections::BTreeSet<dinhba_core::ids::Hash> {
        hashes_at(country, site, self.state())
    }
}
