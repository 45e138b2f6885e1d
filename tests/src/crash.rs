//! What becomes of a site when its machines break: real processes, on real disks or on [`Disk`]s that can be broken.
//!
//! A *life* is a site of one node (nobody else has its data) or of three, with officers who register families and write
//! notes without a pause. In each *round* something breaks at a moment that the seed chooses, is mended, and all nodes serve
//! again. Then, at every node: each acknowledged request is there with all its edits, as its receipt says; what was refused
//! is not there; numbers have no gap; replicas have equal digests; records read back hold what was written last; a request
//! that is sent again gets the same receipt. A request without an answer is asked for again until it has one.
//!
//! | disaster | what breaks | on |
//! |---|---|---|
//! | `kills` | kill -9, also of nodes that are just opening | the machine's own file system |
//! | `power` | kill -9, and what was not flushed is gone, torn or scattered | [`Disk`], FUSE |
//! | `full` | no space for some seconds | the same |
//! | `errors` | blocks cannot be read, of the log, the state or anything, also while the node opens | the same |
//! | `slow` | flushes take tenths of a second, some of them seconds, with kills meanwhile | the same |
//!
//! Not tried here: bits that rot (`rotten_state` among the stories), a second disaster before
//! the first was mended. The seed fixes what breaks and when; what the processes do at that moment it cannot.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use dinhba_client::{Client, Context, EditBuilder, Error, Limits, Session};
use dinhba_core::claims::Role;
use dinhba_core::ids::{NodeId, RecordId, RequestId, ShardId};
use dinhba_core::schema::RecordKind;
use dinhba_node::config::Engine;
use futures::{FutureExt, StreamExt, stream};
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::country::{Country, NodePlan, limits, site};
use crate::disk::{Cut, Disk, Lost, Trouble};
use crate::evidence::{Wrong, agree, compare, feed, strangers};
use crate::officer::{Ledger, dot_of, values};
use crate::process::tail;

const COMMUNE: &str = "02683";
/// Rounds of one site: long enough that its log begins new segments and its state is written out, short enough that
/// comparing its whole history after each round stays cheap.
const LIFE_ROUNDS: usize = 20;
/// Officers at work: enough that flushes are shared.
const OFFICERS: usize = 6;
/// Snapshots come every few rounds, and the log below them goes. What is kept is more than calm officers write while a node
/// of the slower engine puts a snapshot in place; less, and it would need another one for ever.
const SNAPSHOT_EVERY: u64 = 400;
const KEEP_ENTRIES: u64 = 1_000;
/// The pause between two edits of an officer while nodes open.
const CALM: Duration = Duration::from_millis(100);
/// How long officers work before something breaks.
const LOAD: std::ops::Range<u64> = 150..1_000;
/// How long a mended node may take to serve: an election, and replay on a busy machine.
const OPEN_WAIT: Duration = Duration::from_secs(30);
/// Starts that a node may need: one may meet damage in its engine's files and say so, the next makes the state again.
const STARTS_MAX: usize = 3;
/// How long a request may remain without a definite answer once all nodes serve.
const SETTLE_WAIT: Duration = Duration::from_secs(60);
/// Records read back, and requests sent again, after each round.
const SAMPLE: usize = 24;
/// How long an officer waits for an answer, of one node and of all: short, so that disasters leave requests without one.
const ATTEMPT: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_millis(800);
/// Space left on a disk that is about to be full.
const SPACE: u64 = 1_500_000;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Disaster {
    /// Processes are killed.
    Kills,
    /// Power is cut.
    Power,
    /// Disks run full.
    Full,
    /// Disks cannot be read.
    Errors,
    /// Disks are slow.
    Slow,
}

impl fmt::Display for Disaster {
    /// As on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("none is hidden").get_name())
    }
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The engine of all nodes.
    pub engine: Engine,
    /// What breaks.
    pub disaster: Disaster,
    /// How often.
    pub rounds: usize,
    /// What chooses.
    pub seed: u64,
    /// What becomes of unflushed writes when power is cut: one of these each time.
    pub cuts: Vec<Cut>,
    /// Sites at once.
    pub jobs: usize,
    /// Whether the disks confirm flushes that they do not make: nothing can help then, and it has to be found out.
    pub lying: bool,
}

/// What cuts leave of unflushed writes, unless one kind is asked for: half of them nothing, the others parts.
pub const CUTS: [Cut; 4] = [Cut::Clean, Cut::Clean, Cut::Torn, Cut::Scattered];

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Rounds that were seen to their end.
    pub rounds: usize,
    /// Nodes that something broke at.
    pub struck: usize,
    /// What power cuts took.
    pub cut: Lost,
    /// Operations of nodes that met a full, unreadable or slow disk.
    pub met: u64,
    /// Requests that were acknowledged.
    pub acknowledged: usize,
    /// Requests without an answer, which were asked for again until they had one.
    pub unanswered: u64,
    /// Requests of which was said that nothing was accepted.
    pub denied: u64,
    /// Acknowledged requests that were lost.
    pub lost: usize,
    /// Requests of which some edits are there and some not.
    pub half: usize,
    /// What else is wrong: a text each. Those of `lost` and `half` too.
    pub wrong: Vec<String>,
    /// From the start of each mended node until it answered a read.
    pub opened: Vec<Duration>,
    /// Starts that ended in a refusal, of nodes that opened at a later one.
    pub started_again: usize,
}

impl Outcome {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    fn add(&mut self, wrong: &Wrong, place: &str) {
        match wrong {
            Wrong::Lost(_) => self.lost += 1,
            Wrong::Half(_) => self.half += 1,
            Wrong::Differs(_) | Wrong::Gap(_) => {}
        }
        self.wrong.push(format!("{place}: {}", wrong.text()));
    }
}

/// What a life writes its findings to: kept even if the life itself breaks off.
type Findings = Arc<Mutex<Outcome>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Breaks sites as planned. `program` runs a node as its command `node`.
pub async fn run(program: &str, plan: &Plan) -> Outcome {
    let findings = Findings::default();
    // At least two lives: one of a single node, one of three.
    let each = plan.rounds.div_ceil(2).clamp(1, LIFE_ROUNDS);
    let mut lives = Vec::new();
    let mut left = plan.rounds;
    while left > 0 {
        lives.push(left.min(each));
        left -= left.min(each);
    }
    let running = lives.into_iter().enumerate().map(|(number, rounds)| {
        let findings = &findings;
        async move {
            let life = AssertUnwindSafe(live(program, plan, number, rounds, findings)).catch_unwind();
            if let Err(panic) = life.await {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("see above");
                lock(findings).wrong.push(format!("life {number} broke off: {text}"));
            }
        }
    });
    stream::iter(running).buffer_unordered(plan.jobs.max(1)).collect::<Vec<()>>().await;
    std::mem::take(&mut lock(&findings))
}

/// A site, its disks, and what its officers know. In this order: processes end before their disks go.
struct Life {
    country: Country,
    disks: BTreeMap<NodeId, Disk>,
    _disks_dir: TempDir,
    officers: Arc<Officers>,
    findings: Findings,
    rng: ChaCha8Rng,
    shard: ShardId,
    cuts: Vec<Cut>,
}

async fn live(program: &str, plan: &Plan, number: usize, rounds: usize, findings: &Findings) {
    let nodes = if number.is_multiple_of(2) { 1 } else { 3 };
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed.wrapping_mul(1_000).wrapping_add(number as u64));
    let mut country = Country::plan(program, &[site(COMMUNE, nodes, None, &[COMMUNE])]).await;
    let disks_dir = tempfile::Builder::new().prefix("dinhba-disks-").tempdir().expect("a temporary directory");
    let mut disks = BTreeMap::new();
    if plan.disaster != Disaster::Kills {
        for node in &country.sites[COMMUNE].nodes {
            let (at, backing) =
                (disks_dir.path().join(node.id.to_string()), disks_dir.path().join(format!("{}.flushed", node.id)));
            disks.insert(node.id, Disk::mount(&at, &backing, rng.random()).expect("a disk can be mounted"));
        }
    }
    country.configure(COMMUNE, |config| {
        config.storage.engine = plan.engine;
        config.raft.snapshot_every_entries = SNAPSHOT_EVERY;
        config.raft.keep_entries = KEEP_ENTRIES;
        if plan.disaster != Disaster::Kills {
            config.node.data_dir = disks_dir.path().join(config.node.id.to_string()).join("data");
        }
    });
    country.start_all();
    let shard = country.shard(COMMUNE);
    let officers = Arc::new(Officers::default());
    let mut life = Life {
        country,
        disks,
        _disks_dir: disks_dir,
        officers,
        findings: Arc::clone(findings),
        rng,
        shard,
        cuts: plan.cuts.clone(),
    };
    if matches!(plan.disaster, Disaster::Kills | Disaster::Power) && life.rng.random() {
        // While the site is founded.
        life.pause(0..800).await;
        life.strike(plan.disaster).await;
    }
    life.country.ready().await;
    for disk in life.disks.values().filter(|_| plan.lying) {
        disk.set(Trouble { lies: true, ..Trouble::default() });
    }
    for round in 1..=rounds {
        let before = life.officers.ledger.len();
        let work = Work::start(&life);
        sleep(Duration::from_millis(life.rng.random_range(LOAD))).await;
        let what = life.strike(plan.disaster).await;
        work.stop().await;
        life.verify(&format!("{} {} life {number} round {round}", plan.engine.name(), plan.disaster)).await;
        let edits = life.officers.ledger.len() - before;
        let mut findings = lock(findings);
        findings.rounds += 1;
        findings.acknowledged += edits;
        let opened = findings.opened.last().copied().unwrap_or_default();
        eprintln!(
            "{} {} life {number} round {round}/{rounds}: {nodes} nodes, {edits} edits, {what}, open after {opened:?}, wrong {}",
            plan.engine.name(),
            plan.disaster,
            findings.wrong.len()
        );
    }
    let mut findings = lock(findings);
    findings.unanswered += life.officers.unanswered.load(Ordering::Relaxed);
    findings.denied += life.officers.denied.load(Ordering::Relaxed);
    findings.met += life.disks.values().map(Disk::met).sum::<u64>();
}

impl Life {
    /// Some of the nodes; all of them one time in four.
    fn victims(&mut self) -> Vec<NodePlan> {
        let nodes = &self.country.sites[COMMUNE].nodes;
        let count = if self.rng.random_ratio(1, 4) { nodes.len() } else { self.rng.random_range(1..=nodes.len()) };
        let victims: Vec<NodePlan> = nodes.choose_multiple(&mut self.rng, count).cloned().collect();
        lock(&self.findings).struck += victims.len();
        victims
    }

    fn set(&self, victims: &[NodePlan], trouble: &Trouble) {
        for victim in victims {
            self.disks[&victim.id].set(trouble.clone());
        }
    }

    fn kill(&mut self, victims: &[NodePlan]) {
        for victim in victims {
            self.country.kill(victim.id);
        }
    }

    fn start(&mut self, victims: &[NodePlan]) {
        for victim in victims {
            self.country.start_node(victim);
        }
    }

    async fn pause(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.rng.random_range(ms);
        sleep(Duration::from_millis(ms)).await;
    }

    /// How long nodes are away: one time in five so long that the others purge what they lack, and send a snapshot.
    async fn absence(&mut self) {
        let ms = if self.rng.random_ratio(1, 5) { 1_500..3_000 } else { 0..300 };
        self.pause(ms).await;
    }

    /// Breaks something, mends it, and waits until all nodes serve; tells what it was.
    async fn strike(&mut self, disaster: Disaster) -> String {
        let victims = self.victims();
        let count = victims.len();
        let what = match disaster {
            Disaster::Kills => {
                self.kill(&victims);
                self.absence().await;
                let again = self.rng.random_ratio(1, 4);
                if again {
                    self.start(&victims);
                    self.pause(0..600).await;
                    self.kill(&victims);
                }
                format!("{count} killed{}", if again { " and again" } else { "" })
            }
            Disaster::Power => {
                let cut = *self.cuts.choose(&mut self.rng).expect("a plan names at least one");
                let again = self.rng.random_ratio(1, 4);
                self.cut_power(&victims, cut);
                self.absence().await;
                if again {
                    self.start(&victims);
                    self.pause(0..600).await;
                    self.cut_power(&victims, cut);
                }
                format!("{count} without power, {cut:?}{}", if again { ", and again" } else { "" })
            }
            Disaster::Full => {
                let space = self.rng.random_range(0..SPACE);
                for victim in &victims {
                    let disk = &self.disks[&victim.id];
                    disk.set(Trouble { bytes_max: Some(disk.used() + space), ..Trouble::default() });
                }
                self.pause(1_000..2_500).await;
                if self.rng.random() {
                    // An operator who restarts it without making room.
                    self.kill(&victims);
                    self.start(&victims);
                    self.pause(300..1_000).await;
                }
                self.set(&victims, &Trouble::default());
                self.kill(&victims);
                format!("{count} full")
            }
            Disaster::Errors => {
                let below = *["data/state", "data/log", ""].choose(&mut self.rng).expect("some");
                let one_in = *[1, 50, 1_000].choose(&mut self.rng).expect("some");
                let trouble = Trouble { unreadable: Some((below.into(), one_in)), ..Trouble::default() };
                self.set(&victims, &trouble);
                self.pause(500..1_500).await;
                if self.rng.random() {
                    self.kill(&victims);
                    self.start(&victims);
                    self.pause(300..1_500).await;
                }
                self.set(&victims, &Trouble::default());
                self.kill(&victims);
                format!("{count} with one in {one_in} blocks unreadable below {below:?}")
            }
            Disaster::Slow => {
                let slow = Duration::from_millis(self.rng.random_range(20..250));
                self.set(&victims, &Trouble { slow: Some(slow), ..Trouble::default() });
                self.pause(1_000..3_000).await;
                self.kill(&victims);
                if self.rng.random() {
                    self.start(&victims);
                    self.pause(500..1_500).await;
                    self.kill(&victims);
                }
                self.set(&victims, &Trouble::default());
                format!("{count} with flushes of up to {slow:?}")
            }
        };
        self.open(&victims).await;
        what
    }

    fn cut_power(&mut self, victims: &[NodePlan], cut: Cut) {
        self.kill(victims);
        for victim in victims {
            let disk = self.disks.get_mut(&victim.id).expect("every node has a disk");
            let lost = disk.lose_power(cut).expect("a disk whose node was killed can be taken away");
            let mut findings = lock(&self.findings);
            findings.cut.writes += lost.writes;
            findings.cut.bytes += lost.bytes;
            findings.cut.names += lost.names;
        }
    }

    /// Starts nodes and waits until each answers a read, its record being one that was acknowledged before.
    async fn open(&mut self, nodes: &[NodePlan]) {
        self.start(nodes);
        self.officers.calm.store(true, Ordering::SeqCst);
        let began = Instant::now();
        for node in nodes {
            let mut starts = 1;
            while !self.answers(node, began).await {
                let log = tail(&node.log());
                assert!(starts < STARTS_MAX, "{} does not open at {starts} starts:\n  {log}", node.id);
                starts += 1;
                lock(&self.findings).started_again += 1;
                let _ended_itself = self.country.process(node.id).ends(Duration::ZERO);
                self.country.kill(node.id);
                self.country.start_node(node);
            }
            lock(&self.findings).opened.push(began.elapsed());
        }
        self.country.site_ready(COMMUNE).await;
        self.officers.calm.store(false, Ordering::SeqCst);
    }

    /// Waits until the node answers a read; `false` if its process ended instead, or its time is over.
    async fn answers(&mut self, node: &NodePlan, began: Instant) -> bool {
        let client = self.country.client([node], Role::Registrar, COMMUNE);
        let client = client.with_limits(Limits {
            attempt: Duration::from_secs(1),
            deadline: Duration::from_secs(1),
            ..limits()
        });
        let known = lock(&self.officers.notes).keys().next().copied();
        let waited = Instant::now();
        while waited.elapsed() < OPEN_WAIT {
            if self.country.process(node.id).ends(Duration::ZERO).0.is_some() {
                return false;
            }
            let answer = match known {
                Some(record) => client.get(&context(), record).await.map(drop),
                None => return true,
            };
            match answer {
                Ok(()) => return true,
                Err(Error::Unreachable { .. } | Error::OutcomeUnknown { .. }) => sleep(Duration::from_millis(20)).await,
                Err(error) => {
                    let wrong = format!(
                        "{} says of an acknowledged record, {:?} after its start: {error}",
                        node.id,
                        began.elapsed()
                    );
                    lock(&self.findings).wrong.push(wrong);
                    return true;
                }
            }
        }
        false
    }

    async fn verify(&mut self, place: &str) {
        let (shard, ledger) = (self.shard, self.officers.ledger.clone());
        agree(&self.country, &[COMMUNE], shard).await;
        let nodes = self.country.sites[COMMUNE].nodes.clone();
        for node in &nodes {
            let entries = feed(&self.country, COMMUNE, node, shard, COMMUNE).await;
            let place = format!("{place}, {}", node.id);
            let mut findings = lock(&self.findings);
            for wrong in compare(&entries, &ledger, shard) {
                findings.add(&wrong, &place);
            }
            for request in strangers(&entries, &ledger) {
                findings.wrong.push(format!("{place}: request {request:02x?} was refused, and is there"));
            }
        }
        let notes = lock(&self.officers.notes).clone();
        let notes = notes.into_iter().choose_multiple(&mut self.rng, SAMPLE);
        for ((record, note), node) in notes.into_iter().zip(nodes.iter().cycle()) {
            let client = self.country.client([node], Role::Registrar, COMMUNE);
            let found = client.get(&context(), record).await.map(|record| values(&record, "note"));
            if found.as_ref().ok() != Some(&vec![note]) {
                lock(&self.findings).wrong.push(format!("{place}, {}: {record} reads {found:?}", node.id));
            }
        }
        let client = self.country.site_client(COMMUNE, Role::Registrar, COMMUNE);
        for (request, told) in ledger.told().into_iter().choose_multiple(&mut self.rng, SAMPLE) {
            let again = client.edit_as(request, &told.edit).await;
            let is_same = again.as_ref().is_ok_and(|again| {
                let receipt = &again.receipt;
                again.replayed
                    && (&receipt.shard, dot_of(receipt.first.as_ref()), receipt.count, &receipt.hash)
                        == (&told.shard, told.first.clone(), told.count, &told.hash)
            });
            if !is_same {
                lock(&self.findings).wrong.push(format!("{place}: request {request} sent again: {again:?}"));
            }
        }
    }
}

fn context() -> Context {
    Context::parse("registration", "HS-2024-1").expect("a purpose and a case")
}

/// What all officers of a life were told.
#[derive(Default)]
struct Officers {
    ledger: Ledger,
    /// The note of each record, as it was last acknowledged.
    notes: Mutex<BTreeMap<RecordId, String>>,
    unanswered: AtomicU64,
    denied: AtomicU64,
    calm: AtomicBool,
}

/// Officers at work.
struct Work {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Work {
    fn start(life: &Life) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..OFFICERS).map(|number| {
            let mut nodes = life.country.sites[COMMUNE].nodes.clone();
            let turn = number % nodes.len();
            nodes.rotate_left(turn);
            let impatient = Limits { attempt: ATTEMPT, deadline: DEADLINE, ..limits() };
            let client = life.country.client(&nodes, Role::Registrar, COMMUNE).with_limits(impatient);
            let session = client.session();
            let (told, findings) = (Arc::clone(&life.officers), Arc::clone(&life.findings));
            let officer = Officer { client, session, shard: life.shard, told, findings };
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    officer.family(number).await;
                    number += 1;
                }
            })
        });
        Work { tasks: tasks.collect(), stop }
    }

    /// Lets them finish what they do: everything they sent has a definite answer then.
    async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            task.await.expect("an officer under load");
        }
    }
}

impl Drop for Work {
    /// Where a life breaks off, nobody goes on asking.
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

struct Officer {
    client: Client,
    session: Session,
    shard: ShardId,
    told: Arc<Officers>,
    findings: Findings,
}

impl Officer {
    /// Registers a mother, a child and their household as one edit, then writes into what was registered.
    async fn family(&self, number: u64) {
        let mut edit = EditBuilder::new(&context());
        edit.shard(self.shard);
        for (name, sex, household) in [("Hà/Thị/Tải", "female", "@2"), ("Hà/A/Sinh", "male", "@2")] {
            let part = edit.create(RecordKind::Person);
            edit.set(part, "name", "", name).set(part, "birth_date", "", "2024-05-06").set(part, "sex", "", sex);
            edit.set(part, "household", "", household).set(part, "note", "", &note(number, "registered"));
        }
        let household = edit.create(RecordKind::Household);
        edit.set(household, "head", "", "@0").set(household, "note", "", &note(number, "household"));
        let Some(records) = self.send(&edit).await else { return };
        {
            let mut notes = lock(&self.told.notes);
            for record in &records[..2] {
                notes.insert(*record, note(number, "registered"));
            }
            notes.insert(records[2], note(number, "household"));
        }
        for record in records {
            let Ok(current) = self.client.get(&context(), record).await else { return };
            let text = note(number, "changed");
            let mut edit = EditBuilder::new(&context());
            let part = edit.change(&current);
            edit.set(part, "note", "", &text);
            if self.send(&edit).await.is_some() {
                lock(&self.told.notes).insert(record, text);
            }
        }
    }

    /// Sends an edit until there is a definite answer; its records if it was accepted.
    async fn send(&self, edit: &EditBuilder) -> Option<Vec<RecordId>> {
        if self.told.calm.load(Ordering::SeqCst) {
            sleep(CALM).await;
        }
        let request = self.session.next();
        let began = Instant::now();
        let mut is_open = false;
        loop {
            let sent = match is_open {
                false => self.client.edit_as(request, edit).await,
                true => self.client.edit_again(request, edit).await,
            };
            match sent {
                Ok(accepted) => {
                    self.told.ledger.keep(&accepted, edit);
                    return Some(accepted.records);
                }
                Err(Error::OutcomeUnknown { .. }) => {
                    if !is_open {
                        self.told.unanswered.fetch_add(1, Ordering::Relaxed);
                    }
                    is_open = true;
                }
                Err(Error::Unreachable { .. }) => {
                    self.told.denied.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Err(error) => {
                    self.wrong(request, &format!("was answered: {error}"));
                    return None;
                }
            }
            if began.elapsed() > SETTLE_WAIT {
                self.wrong(request, "has no definite answer");
                return None;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn wrong(&self, request: RequestId, text: &str) {
        lock(&self.findings).wrong.push(format!("request {request} {text}"));
    }
}

/// A note that says which it is, and is long enough to fill segments.
fn note(number: u64, what: &str) -> String {
    format!("{what} {number} {}", "đ".repeat(700))
}

/// The outcomes as a table, one row each.
#[must_use]
pub fn table(outcomes: &[(Plan, Outcome)]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "engine",
        "disaster",
        "rounds",
        "nodes struck",
        "what was met",
        "acknowledged",
        "unanswered",
        "denied",
        "lost",
        "half",
        "wrong in all",
        "open p50",
        "open max",
        "started again",
    ]);
    for (plan, outcome) in outcomes {
        let mut opened = outcome.opened.clone();
        opened.sort();
        let seconds =
            |time: Option<&Duration>| time.map_or_else(String::new, |time| format!("{:.2} s", time.as_secs_f64()));
        let met = match plan.disaster {
            Disaster::Kills => String::new(),
            Disaster::Power => {
                format!(
                    "gone: {} writes, {} kB, {} names",
                    outcome.cut.writes,
                    outcome.cut.bytes / 1000,
                    outcome.cut.names
                )
            }
            Disaster::Full => format!("{} refused", outcome.met),
            Disaster::Errors => format!("{} reads failed", outcome.met),
            Disaster::Slow => format!("{} slow flushes", outcome.met),
        };
        table.add_row([
            plan.engine.name().to_owned(),
            plan.disaster.to_string(),
            outcome.rounds.to_string(),
            outcome.struck.to_string(),
            met,
            outcome.acknowledged.to_string(),
            outcome.unanswered.to_string(),
            outcome.denied.to_string(),
            outcome.lost.to_string(),
            outcome.half.to_string(),
            outcome.wrong.len().to_string(),
            seconds(opened.get(opened.len() / 2)),
            seconds(opened.last()),
            outcome.started_again.to_string(),
        ]);
    }
    table.to_string()
}
