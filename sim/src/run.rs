//! One run: a country is formed, officers work and faults happen (the *safety phase*), everything is healed, the tree must
//! come back in step within its time (the *liveness phase*), and the promises are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dinhba_core::ids::{Hash, ShardId};
use dinhba_core::inject;
use dinhba_core::keys::Keys;
use dinhba_core::registry;
use dinhba_core::store::StateView;
use dinhba_node::node::Node;
use dinhba_node::raft::group::Role;
use dinhba_node::runtime::{self, Instant};

use crate::checks::{self, Check, World, behind};
use crate::country::{Country, Power};
use crate::executor::{Handle, Simulator};
use crate::faults;
use crate::officers;
use crate::oracle::Oracle;
use crate::panics;
use crate::scenario::{CENTRE, Fault, NodeRef, Officer, Scenario, What, Which, Work};
use crate::state::{arrivals, engine};
use crate::trace::{Entry, Event, Trace};
use crate::watchdog;

/// What a panic inside a run breaks, beside the promises of `checks`.
pub const NO_PANIC: &str = "no_panic";

/// How long a country may take to be founded: elections, and links that back off.
const FORMING_MAX: Duration = Duration::from_secs(180);

/// How often the checks look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// In runs of days the checks look so often in all.
const LOOKS_MAX: u32 = 3_600;

/// How often a run of that length looks at its nodes and sites.
#[must_use]
pub fn looks_every(lasts: Duration) -> Duration {
    LOOK_EVERY.max(lasts / LOOKS_MAX)
}

/// How often the liveness phase looks whether all is in step.
const STEP_LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a replica may take to be had from another node once nothing is in its way: some elections, and some pauses of
/// whoever asks in vain while the others are not where they were.
const REPAIR_MAX: Duration = Duration::from_secs(60);

/// How long operators may take after healing for one change of the directory: some elections.
const CHANGES_WITHIN: Duration = Duration::from_secs(120);

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: &'static str,
    /// When it was found.
    pub at: Duration,
    /// What was seen.
    pub text: String,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The run's hash: over the order of all that ran, all random choices that showed, and the trace.
    pub hash: String,
    /// Broken promises; empty is a pass.
    pub violations: Vec<Violation>,
    /// How often rare branches of the node's code were reached ([`crate::coverage`]).
    pub reached: BTreeMap<&'static str, u64>,
    /// How often each kind of fault hit somebody.
    pub faults: BTreeMap<&'static str, u64>,
    /// Counts, by name.
    pub figures: BTreeMap<&'static str, u64>,
    /// Everything that happened.
    pub entries: Vec<Entry>,
    /// Names of the sites, in the trace's order.
    pub sites: Vec<String>,
    /// Names of the nodes, in the trace's order, with the place of their site.
    pub nodes: Vec<(String, usize)>,
}

impl Outcome {
    /// Whether every promise was kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// A run's stack: the services' futures are nested deeply, and more so without optimisation.
const STACK_BYTES: usize = 64 << 20;

type Found = Arc<Mutex<Vec<Violation>>>;

/// Runs a scenario on a thread of its own, with fresh thread-locals and, it may be, a deliberate fault in the node's code;
/// whatever panics becomes a violation.
#[must_use]
pub fn guarded(scenario: &Scenario, mutant: Option<&'static str>) -> Outcome {
    guarded_by(|| run(scenario, mutant))
}

fn guarded_by(run: impl FnOnce() -> Outcome + Send) -> Outcome {
    let panicked = |text: String| {
        let violation = Violation { promise: NO_PANIC, at: Duration::ZERO, text };
        Outcome { violations: vec![violation], ..Outcome::default() }
    };
    thread::scope(|scope| {
        let guard = || panics::caught(run);
        let thread = thread::Builder::new().name("run".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, guard);
        match thread.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(Ok(outcome))) => outcome,
            Ok(Ok(Err(text))) => panicked(text),
            Ok(Err(_)) => panicked("panicked while its thread ended".to_owned()),
            Err(error) => panicked(format!("no thread to run on: {error}")),
        }
    })
}

/// Runs a scenario, it may be with a deliberate fault in the node's code ([`crate::mutants`]).
#[must_use]
pub fn run(scenario: &Scenario, mutant: Option<&'static str>) -> Outcome {
    let injected = inject::install(mutant, Some(scenario.seed));
    let mut simulator = Simulator::new(scenario.seed);
    let handle = simulator.handle();
    let trace = Trace::new(handle.clone());
    let found: Found = Arc::default();
    let limit = FORMING_MAX + scenario.lasts + scenario.settles_within * 2 + Duration::from_secs(3600);
    let story = Story {
        handle: handle.clone(),
        scenario: scenario.clone(),
        trace: trace.clone(),
        found: Arc::clone(&found),
        oracle: Oracle::default(),
        world: Arc::default(),
        ends_at_once: mutant.is_some(),
    };
    let (oracle, world) = (story.oracle.clone(), Arc::clone(&story.world));
    let ran = {
        let _watched = watchdog::watch(handle.clone(), scenario);
        panics::caught(|| simulator.run(limit, story.tell()))
    };
    match ran {
        Ok(Some(())) => {}
        Ok(None) => violated(
            &trace,
            &found,
            "alive",
            "the run came to no end: everything waits for something else, or tasks wake one another without end"
                .to_owned(),
        ),
        Err(text) => violated(&trace, &found, NO_PANIC, text),
    }
    let hash = simulator.hash();
    let (polls, took) = simulator.extent();
    let mut figures = {
        let ledger = oracle.ledger();
        BTreeMap::from([
            ("polls", polls),
            ("virtual_seconds", took.as_secs()),
            ("accepted", ledger.told.len() as u64),
            ("operations", ledger.history.operations().len() as u64),
            ("undecided", ledger.undecided as u64),
            ("numbers", ledger.numbers.len() as u64),
        ])
    };
    let (mut sites, mut nodes) = (Vec::new(), Vec::new());
    if let Some(world) = world.lock().unwrap_or_else(PoisonError::into_inner).take() {
        sites = world.country.sites().iter().map(|site| site.code.clone()).collect();
        let count = world.country.machines().len();
        nodes = (0..count).map(|node| (world.country.name(node), world.country.machines()[node].site)).collect();
        let sent = world.country.wire().total();
        figures.extend([("messages", sent.messages), ("message_bytes", sent.bytes)]);
        simulator.within(|| world.country.close());
    }
    let violations = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let entries = trace.entries();
    drop(simulator);
    let (reached, faults) = (injected.counts(), faults_in(&entries));
    Outcome { reached, faults, hash, violations, figures, entries, sites, nodes }
}

/// The kinds of fault that hit somebody, with how often.
fn faults_in(entries: &[Entry]) -> BTreeMap<&'static str, u64> {
    let mut faults = BTreeMap::new();
    for entry in entries {
        if let Event::FaultBegins { kind, nodes, sites, .. } = &entry.event
            && !(nodes.is_empty() && sites.is_empty())
        {
            *faults.entry(*kind).or_default() += 1;
        }
    }
    faults
}

struct Story {
    handle: Handle,
    scenario: Scenario,
    trace: Trace,
    found: Found,
    oracle: Oracle,
    world: Arc<Mutex<Option<World>>>,
    /// Whether the first violation ends the run: a mutant is caught then.
    ends_at_once: bool,
}

impl Story {
    async fn tell(self) {
        let country = Country::new(self.handle.clone(), &self.scenario, self.trace.clone());
        let world = World { country: country.clone(), oracle: self.oracle.clone() };
        *self.world.lock().unwrap_or_else(PoisonError::into_inner) = Some(world.clone());
        self.phase("forming");
        let machines = country.machines().len();
        (0..machines).for_each(|node| country.start(node));
        if !self.formed(&country).await {
            return self.violated("alive", format!("the country was not founded within {FORMING_MAX:?}"));
        }

        self.raise_levels(&country, self.scenario.knobs.level).await;

        self.phase("safety");
        let promised = self.scenario.promised();
        let checks: Vec<Box<dyn Check>> =
            checks::all().into_iter().filter(|check| promised.contains(&check.promise())).collect();
        let began = runtime::now();
        let officers: Vec<_> = self
            .scenario
            .officers
            .iter()
            .enumerate()
            .map(|(place, plan)| self.officer(&world, place, plan.clone(), began, self.scenario.lasts))
            .collect();
        let faults = self.scenario.faults.iter().enumerate().map(|(place, fault)| {
            runtime::spawn("fault", faults::happen(country.clone(), self.oracle.clone(), place, fault.clone(), began))
        });
        let faults: Vec<_> = faults.collect();
        let mut watcher = Watcher {
            world: world.clone(),
            checks,
            trace: self.trace.clone(),
            found: Arc::clone(&self.found),
            ends_at_once: self.ends_at_once,
            looks: 0,
            leads: BTreeMap::new(),
            held: BTreeMap::new(),
            read: BTreeMap::new(),
            conflicts: BTreeMap::new(),
        };
        watcher.watch_until(began + self.scenario.lasts, self.scenario.lasts).await;
        if watcher.is_over() {
            return;
        }
        for officer in officers {
            let _ = officer.await;
        }
        for fault in faults {
            let _ = fault.await;
        }

        self.phase("healing");
        inject::calm();
        self.heal(&country, began).await;
        for left in faults::finish(&country, &self.oracle, CHANGES_WITHIN).await {
            self.violated("alive", left);
        }
        // What a neighbour set aside for its level is folded once the level is raised there too.
        self.raise_levels(&country, self.scenario.level_max()).await;
        let deadline = runtime::now() + self.scenario.settles_within;
        self.settle(&world, &mut watcher, deadline).await;
        self.fresh_work(&world, deadline).await;
        self.settle(&world, &mut watcher, deadline).await;

        self.phase("judging");
        watcher.tell();
        for check in &mut watcher.checks {
            for text in check.judge(&world) {
                self.violated(check.promise().name(), text);
            }
        }
    }

    fn officer(
        &self,
        world: &World,
        place: usize,
        plan: Officer,
        began: Instant,
        until: Duration,
    ) -> runtime::JoinHandle<()> {
        let working = officers::work(world.country.clone(), self.oracle.clone(), place, plan, began, until);
        runtime::spawn("officer", working)
    }

    fn phase(&self, name: &'static str) {
        self.trace.add(Event::Phase { name });
    }

    fn violated(&self, promise: &'static str, text: String) {
        violated(&self.trace, &self.found, promise, text);
    }

    /// Waits until every group has a leader and every shard is there.
    async fn formed(&self, country: &Country) -> bool {
        let deadline = runtime::now() + FORMING_MAX;
        while runtime::now() < deadline {
            if (0..country.sites().len()).all(|site| !country.is_founded(site) || is_formed(country, site)) {
                return true;
            }
            runtime::sleep(Duration::from_millis(200)).await;
        }
        false
    }

    /// Ends everything that is wrong, as operators would: what is off goes on, what is damaged is replaced.
    async fn heal(&self, country: &Country, began: Instant) {
        country.wire().mend_all();
        let count = country.machines().len();
        for node in 0..count {
            let (endpoint, disk, power) = {
                let machines = country.machines();
                (machines[node].endpoint, machines[node].disk.clone(), machines[node].power.clone())
            };
            country.simulator().resume(endpoint.scope);
            country.simulator().set_clock_offset_ms(endpoint.scope, 0);
            disk.set_full(false);
            disk.set_failing(false);
            disk.set_flush_time(self.scenario.knobs.flush);
            if power == Power::Off {
                country.start(node);
            }
        }
        runtime::sleep(Duration::from_secs(5)).await;
        // What a scrub would do: who meets damage in the state has it made again.
        for node in 0..count {
            let node = country.machines()[node].node.clone();
            for hosted in node.iter().flat_map(|node| node.shared.hosted()) {
                let (from, to) = hosted.keys().all();
                let scrubbed = hosted.look(|view| view.scan(&from, &to).try_for_each(|item| item.map(|_| ())));
                if let Err(error) = scrubbed {
                    tracing::debug!(%error, "the scrub met damage");
                }
            }
        }
        runtime::sleep(Duration::from_secs(5)).await;
        self.restart_stopped(country).await;
        let mut repairs = Vec::new();
        for node in 0..count {
            let (site, number, power, members) = {
                let machines = country.machines();
                let machine = &machines[node];
                let members =
                    machines.iter().filter(|other| other.site == machine.site && other.power == Power::On).count();
                (machine.site, machine.number, machine.power.clone(), members)
            };
            let stopped = has_stopped(country, node);
            // Rot that no replica came across yet: a scrub would find it.
            let rotten = country.sites()[site].groups.iter().any(|(group, _)| {
                let (from, to) = Keys(*group).all();
                engine(country, node).scan(&from, &to).any(|item| item.is_err())
            });
            let is_broken = matches!(power, Power::Refused(_)) || (power == Power::On && (stopped || rotten));
            if !is_broken {
                continue;
            }
            let world = World { country: country.clone(), oracle: self.oracle.clone() };
            if !checks::is_excused(&world, node) {
                self.violated(
                    "alive",
                    format!("{} has to be replaced, and no fault hit it: {power:?}", country.name(node)),
                );
            }
            let others: Vec<usize> = country.machines_of(site).into_iter().filter(|other| *other != node).collect();
            let has_voters = members > 1 && !others.iter().all(|other| only_learns(country, *other));
            if !has_voters {
                // Who was joining when the only node broke has nothing with which its site could go on: the parent has more.
                others.iter().filter(|other| only_learns(country, **other)).for_each(|other| country.take_away(*other));
            }
            let site = country.sites()[site].code.clone();
            let node = NodeRef { site, which: Which::Number(number) };
            let lasts = Some(Duration::ZERO);
            let what = if has_voters { What::ReplaceNode { node } } else { What::LoseDisk { node } };
            let place = self.scenario.faults.len();
            let fault = Fault { at: Duration::ZERO, lasts, what };
            let (country, oracle) = (country.clone(), self.oracle.clone());
            repairs.push(runtime::spawn("repair", faults::happen(country, oracle, place, fault, began)));
        }
        for repair in repairs {
            let _ = repair.await;
        }
    }

    /// Starts nodes of which a replica has stopped again, and waits for them: what is damaged beyond what a node has itself, it
    /// has from another of its site, but not at once for a second time.
    async fn restart_stopped(&self, country: &Country) {
        let count = country.machines().len();
        let stopped: Vec<usize> = (0..count).filter(|node| has_stopped(country, *node)).collect();
        for node in &stopped {
            country.kill(*node);
            country.start(*node);
        }
        let deadline = runtime::now() + REPAIR_MAX;
        while stopped.iter().any(|node| has_stopped(country, *node)) && runtime::now() < deadline {
            runtime::sleep(STEP_LOOK_EVERY).await;
        }
    }

    /// Raises the feature level everywhere.
    async fn raise_levels(&self, country: &Country, level: u16) {
        let raise = |site| faults::raise_level(country, site, level);
        let there = (0..country.sites().len()).filter(|site| country.is_founded(*site));
        futures::future::join_all(there.map(raise)).await;
    }

    /// Waits until all is in step.
    async fn settle(&self, world: &World, watcher: &mut Watcher, deadline: Instant) {
        // What was accepted at this moment, its replica's own figures say only in the next.
        runtime::sleep(STEP_LOOK_EVERY).await;
        while let Some(why) = behind(world) {
            watcher.tell();
            if runtime::now() >= deadline {
                return self
                    .violated("alive", format!("not in step {:?} after healing: {why}", self.scenario.settles_within));
            }
            runtime::sleep(STEP_LOOK_EVERY).await;
        }
        self.trace.add(Event::InStep);
    }

    /// A fresh edit at every site that has officers' work to do, which must be accepted.
    async fn fresh_work(&self, world: &World, deadline: Instant) {
        let before = self.oracle.ledger().told.len();
        let plan = |code: &String| Officer {
            at: code.clone(),
            shards: Vec::new(),
            every: Duration::from_secs(1),
            starts: Duration::ZERO,
            edits: 1,
            does: Work::Births,
            impatient: false,
        };
        let now = runtime::now();
        let left = deadline - now;
        let first = self.scenario.officers.len();
        let codes: Vec<String> = world.country.sites().iter().map(|site| site.code.clone()).collect();
        let fresh: Vec<_> = codes
            .iter()
            .enumerate()
            .map(|(place, code)| self.officer(world, first + place, plan(code), now, left))
            .collect();
        for officer in fresh {
            let _ = officer.await;
        }
        let centre = world.country.site(CENTRE);
        if !officers::operator(&world.country, &self.oracle, centre).say_where(centre).await {
            self.violated("alive", "after healing, the centre does not accept what it says to all below it".to_owned());
        }
        let accepted = self.oracle.ledger().told.len() - before;
        if accepted < codes.len() {
            self.violated("alive", format!("of {} sites, {accepted} accepted a fresh edit after healing", codes.len()));
        }
    }
}

/// Whether a node is on of which a replica does not run.
fn has_stopped(country: &Country, node: usize) -> bool {
    let (power, node) = {
        let machines = country.machines();
        (machines[node].power.clone(), machines[node].node.clone())
    };
    let stops = |node: Arc<Node>| node.shared.hosted().any(|group| group.group.status().stopped.is_some());
    power == Power::On && node.is_some_and(stops)
}

/// Whether it runs, and in some group of its site was never given a vote; or waits for the site to let it in.
fn only_learns(country: &Country, node: usize) -> bool {
    let (power, admitted, id, node) = {
        let machines = country.machines();
        let machine = &machines[node];
        (machine.power.clone(), machine.admitted, machine.id, machine.node.clone())
    };
    let learns = |node: Arc<Node>| {
        node.shared.hosted().any(|group| {
            let status = group.group.status();
            status.stopped.is_none() && !status.members.get(&id).is_some_and(|(_, votes)| *votes)
        })
    };
    power == Power::On && (!admitted || node.is_some_and(learns))
}

/// Whether every group of a site has a leader, and every shard that belongs there is there.
pub(crate) fn is_formed(country: &Country, site: usize) -> bool {
    let nodes: Vec<_> = {
        let machines = country.machines();
        machines.iter().filter(|machine| machine.site == site).map(|machine| machine.node.clone()).collect()
    };
    let plan = &country.sites()[site];
    let Some(nodes) = nodes.into_iter().collect::<Option<Vec<_>>>() else { return false };
    plan.groups.iter().all(|(group, shards)| {
        nodes.iter().filter_map(|node| node.shared.group(*group)).any(|hosted| {
            hosted.group.status().role == Role::Leader
                && (shards.iter().filter(|shard| country.has_shard(**shard)))
                    .all(|shard| matches!(hosted.shard(*shard), Ok(Some(_))))
        })
    }) && nodes.iter().all(|node| shards_are_listed(country, node, plan))
}

fn shards_are_listed(country: &Country, node: &Node, site: &crate::country::Site) -> bool {
    let place = node.shared.place();
    let mut shards = site.shards().filter(|shard| country.has_shard(*shard));
    shards.all(|shard| place.shards.contains_key(&shard)) && !place.nodes.is_empty()
}

/// Tells of a broken promise, once, however often the checks see it.
fn violated(trace: &Trace, found: &Found, promise: &'static str, text: String) {
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    if found.iter().any(|known| known.promise == promise && known.text == text) {
        return;
    }
    trace.add(Event::Violation { promise, text: text.clone() });
    found.push(Violation { promise, at: trace.now(), text });
}

/// Looks at the world from time to time: lets the checks look, and tells the trace what moved.
struct Watcher {
    world: World,
    checks: Vec<Box<dyn Check>>,
    trace: Trace,
    found: Found,
    /// Whether the first violation ends the run.
    ends_at_once: bool,
    /// Looks at the world so far.
    looks: u64,
    leads: BTreeMap<(usize, String), u64>,
    held: BTreeMap<usize, BTreeSet<Hash>>,
    /// Of each machine's shards, in which life and up to which position they were read.
    read: BTreeMap<(usize, ShardId), (u64, u64)>,
    conflicts: BTreeMap<usize, u64>,
}

impl Watcher {
    async fn watch_until(&mut self, until: Instant, lasts: Duration) {
        let every = looks_every(lasts);
        while runtime::now() < until && !self.is_over() {
            runtime::sleep_until((runtime::now() + every).min(until)).await;
            self.look();
        }
    }

    /// Whether what was found is enough.
    fn is_over(&self) -> bool {
        self.ends_at_once && !self.found.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn look(&mut self) {
        self.looks += 1;
        let looks = self.looks;
        for check in self.checks.iter_mut().filter(|check| looks.is_multiple_of(check.every())) {
            for text in check.look(&self.world) {
                violated(&self.trace, &self.found, check.promise().name(), text);
            }
        }
        self.tell();
    }

    /// Tells the trace what moved.
    fn tell(&mut self) {
        let mut leads = BTreeMap::new();
        for (node, group, status) in self.world.running().into_iter().filter(|(.., status)| status.role == Role::Leader)
        {
            let (key, term) = ((node, group.to_string()), status.term);
            if self.leads.get(&key) != Some(&term) {
                self.trace.add(Event::Leads { node, group: key.1.clone(), term });
            }
            leads.insert(key, term);
        }
        // Who was off in between, and leads again in the same term, is told again.
        self.leads = leads;
        self.arrivals();
        let counts = self.world.country.wire().take_counts();
        let ways: Vec<_> = counts
            .into_iter()
            .filter(|((from, to), _)| from != to)
            .map(|((from, to), count)| (from, to, count.messages, count.bytes))
            .collect();
        if !ways.is_empty() {
            self.trace.add(Event::Traffic { ways });
        }
    }

    /// Tells the trace which edits have come to which site, and how many conflicts are open there.
    fn arrivals(&mut self) {
        let country = self.world.country.clone();
        for (site, plan) in country.sites().iter().enumerate() {
            let mut hashes: BTreeSet<Hash> = BTreeSet::new();
            let mut open = 0;
            for node in country.machines_of(site) {
                let (state, life) = (engine(&country, node), country.machines()[node].lives);
                let mut conflicts = 0;
                for (group, shard) in plan.hosts() {
                    let key = Keys(group).shard(shard);
                    let Ok(Some(now)) = registry::read::<registry::ShardState>(&*state, &key) else { continue };
                    conflicts += now.conflicts;
                    let read = self.read.entry((node, shard)).or_default();
                    if *read != (life, now.arrivals) {
                        // After a restart what was not flushed may be gone: from the beginning.
                        let from = if read.0 == life { read.1 + 1 } else { 0 };
                        hashes.extend(arrivals(&*state, group, shard, from));
                        *read = (life, now.arrivals);
                    }
                }
                open = open.max(conflicts);
            }
            let held = self.held.entry(site).or_default();
            let hashes: Vec<Hash> = hashes.into_iter().filter(|hash| held.insert(*hash)).collect();
            if !hashes.is_empty() {
                self.trace.add(Event::Arrived { site, hashes });
            }
            if self.conflicts.insert(site, open).unwrap_or(0) != open {
                self.trace.add(Event::Conflicts { site, open });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_broken_promise() {
        let outcome = guarded_by(|| panic!("the roof leaks"));
        assert_eq!(outcome.violations.len(), 1);
        assert_eq!(outcome.violations[0].promise, NO_PANIC);
        assert!(outcome.violations[0].text.contains("the roof leaks"), "{outcome:?}");
        assert!(outcome.violations[0].text.contains("run.rs"), "the place is told: {outcome:?}");
        let next = guarded_by(Outcome::default);
        assert!(next.holds(), "one run's panic is not the next one's");
    }
}
