//! The story: a country starts, registers its people, loses a line and two machines, works on, and is whole again.
//!
//! Owns: the phases and what each promises. A promise that is broken is written down and the story goes on as far as it
//! can, so that the reading back at the end can say what was lost by it. Leaves to others: what officers send (`officers`),
//! the judgement of what nodes hold (`oracle`, `examine`).

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dinhba_client::draft::Draft;
use dinhba_client::generate::generate;
use dinhba_client::request::field_of;
use dinhba_client::{Context, Limits};
use dinhba_core::claims::Role;
use dinhba_core::ids::{NodeId, RecordId, ShardId};
use dinhba_core::schema::RecordKind;
use dinhba_core::units::Tier;
use dinhba_proto::v1;
use futures::future::{join_all, try_join_all};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Mutex;

use super::counter::Begun;
use super::cutter::Line;
use super::examine::examine;
use super::layout::{Country, NodePlan};
use super::officers::{Ledger, Officer};
use super::oracle::Cell;
use super::processes::{Processes, port_was_taken};
use super::report::{Facts, Kill, Say, grouped, site_facts};
use crate::runtime::{Instant, now, sleep, timeout};

/// How long 16 processes may take until each serves, on a machine that is busy.
const SERVE_WAIT: Duration = Duration::from_secs(60);
/// How long all sites may take to be in step once the lines are whole.
const STEP_WAIT: Duration = Duration::from_secs(45);
/// How long nothing may move meanwhile: an election and the longest pause of a link, twice.
const STILL_WAIT: Duration = Duration::from_secs(10);
/// How long a site may go without a leader after one of its nodes died: an election and a slow disk.
const LEADER_WAIT: Duration = Duration::from_secs(20);
/// Between two looks at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Between two looks for processes that have ended, while the country is left up: none stays undead for longer.
const LEFT_EVERY: Duration = Duration::from_secs(1);
/// Between two lines of progress, where it is longer in coming.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long a killed commune stays dark: until somebody has gone over and pressed the button.
const DARK: Duration = Duration::from_secs(1);
/// Between two registrations of an office that works while machines die: then the batch lasts some seconds.
const PACE: Duration = Duration::from_millis(30);
/// Of a hundred registrations, those before the line is cut.
const FIRST_PART: usize = 62;
/// Every so many-th household is registered at the district, and at the province, instead of the commune.
const AT_DISTRICT_EVERY: usize = 9;
const AT_PROVINCE_EVERY: usize = 8;
/// A machine is killed when this share (of a hundred) of its batch is acknowledged.
const KILL_AT: u64 = 35;
/// Persons whom officers at three sites edit at random, and how many edits each of the three makes.
const RANDOM_PERSONS: usize = 40;
const RANDOM_EDITS: [(usize, usize); 3] = [(0, 110), (1, 60), (3, 60)];
/// Persons who are kept for the edits that the story sets up.
const SCRIPTED_PERSONS: usize = 6;

/// A field, with the value that an office writes: the office by its place on the way up from the commune.
type Write = (usize, &'static str, &'static str);
/// Two offices write at once: a person's place in the list, the field, and for each office its place on the way up from
/// the commune and the value.
type Pair = (usize, &'static str, [(usize, &'static str); 2]);

/// Both write the same field: a conflict each.
const CONFLICTS: [Pair; 3] = [
    (0, "name", [(0, "Nguyễn/Thị/Thảo"), (1, "Nguyễn/Thị/Thao")]),
    (1, "other_name", [(0, "Tư Hiền"), (3, "Tư Hiển")]),
    (2, "old_identity_number", [(0, "063123456"), (3, "063123465")]),
];
/// Both write the same field without legal weight: no conflict.
const LATEST: [Pair; 2] = [
    (3, "mobile_number", [(0, "01620000001"), (3, "01620000002")]),
    (4, "note", [(0, "đã gặp tại nhà"), (1, "hẹn trả kết quả thứ hai")]),
];
/// They write different fields of one person: no conflict.
const APART: [(usize, [Write; 2]); 1] =
    [(5, [(0, "residence_file_number", "HS-02683-900001"), (3, "other_name", "Năm Lành")])];

/// The country with its processes, and everything that is known of them.
pub struct Story {
    /// What runs.
    pub country: Country,
    /// Its processes.
    pub processes: Processes,
    /// What was found.
    pub facts: Facts,
    lines: Vec<Line>,
    ledger: Arc<Ledger>,
    seed: u64,
}

/// Registrations that wait to be sent: the site that sends them, and each household with its shard.
struct Batch {
    site: usize,
    drafts: Vec<(ShardId, Draft)>,
}

impl Story {
    /// The story of a planned country whose files are written; `lines` are the sites' lines to their parents.
    #[must_use]
    pub fn new(country: Country, lines: Vec<Line>, seed: u64) -> Self {
        let ledger = Arc::new(Ledger::new(Arc::clone(&country.directory)));
        let facts = Facts {
            seed,
            nodes: country.sites.iter().map(|site| site.nodes.len()).sum(),
            site_count: country.sites.len(),
            ..Facts::default()
        };
        Story { country, processes: Processes::default(), facts, lines, ledger, seed }
    }

    /// Leaves the country up until `asked`, and tells of processes that end meanwhile: whoever looks at it may kill some.
    pub async fn stay_up(&mut self, say: &Say, asked: impl Future<Output = ()>) {
        let mut asked = std::pin::pin!(asked);
        while timeout(LEFT_EVERY, asked.as_mut()).await.is_err() {
            for (node, how) in self.processes.bury() {
                say.step(format!("node {node} ended: {how}"));
            }
        }
    }

    pub(super) fn broken(&mut self, say: &Say, text: String) {
        say.step(format!("BROKEN: {text}"));
        self.facts.broken.push(text);
    }

    fn phase(&mut self, name: &str, since: Instant) {
        self.facts.phases.push((name.to_owned(), rounded(now() - since)));
    }

    // Starting.

    /// Starts all nodes and waits until every one serves. Returns false if somebody else took a port meanwhile.
    pub async fn start(&mut self, say: &Say) -> Result<bool> {
        let since = now();
        let nodes: Vec<NodePlan> = self.country.sites.iter().flat_map(|site| site.nodes.clone()).collect();
        for node in &nodes {
            self.processes.start(node)?;
        }
        say.step(format!("{} processes of {} sites started", nodes.len(), self.country.sites.len()));
        let mut serving: BTreeSet<NodeId> = BTreeSet::new();
        while serving.len() < nodes.len() {
            let ended = self.processes.ended();
            if nodes.iter().any(|node| ended.iter().any(|(id, _)| *id == node.id) && port_was_taken(node)) {
                return Ok(false);
            }
            if let Some((id, how)) = ended.first() {
                bail!("node {id} ended at its start: {how}");
            }
            if now() - since > SERVE_WAIT {
                bail!("only {} of {} nodes serve after {} s", serving.len(), nodes.len(), SERVE_WAIT.as_secs());
            }
            let waiting: Vec<(usize, NodePlan)> = self
                .country
                .sites
                .iter()
                .enumerate()
                .flat_map(|(at, site)| site.nodes.iter().map(move |node| (at, node.clone())))
                .filter(|(_, node)| !serving.contains(&node.id))
                .collect();
            let country = &self.country;
            let looks = waiting.iter().map(|(at, node)| async move {
                let client = country.client_of(std::iter::once(node), *at, Role::Operator, short()).ok()?;
                let status = client.status(&maintenance()).await.ok()?;
                serves(country, *at, &status).then_some(node.id)
            });
            serving.extend(join_all(looks).await.into_iter().flatten());
            say.progress(format!("{} of {} nodes serve", serving.len(), nodes.len()));
            sleep(LOOK_EVERY).await;
        }
        say.step(format!("all {} nodes serve: every group has a leader", nodes.len()));
        self.phase("start", since);
        Ok(true)
    }

    // The whole story.

    /// Tells it from the registration to the reading back.
    pub async fn tell(&mut self, persons: usize, say: &Say) -> Result<()> {
        let communes: Vec<_> = self.country.homes.iter().map(|home| home.unit).collect();
        let drafts: Vec<Draft> = generate(&self.country.directory, &communes, persons, self.seed)?.collect();
        let cut_at = drafts.len() * FIRST_PART / 100;
        let (first, second) = drafts.split_at(cut_at);

        let people = self.register(first, say).await?;
        self.say_holidays(say).await?;
        let (kept, begun) = self.cut_off(second, &people, say).await?;
        let conflicts = self.heal(&kept, say).await?;
        self.after_the_line(&begun, say).await?;
        self.campaign(&people[SCRIPTED_PERSONS + RANDOM_PERSONS..], say).await?;
        self.decide(&conflicts, say).await?;
        self.read_back(say).await
    }

    /// The first registrations, with every line whole.
    async fn register(&mut self, drafts: &[Draft], say: &Say) -> Result<Vec<RecordId>> {
        let since = now();
        let batches = self.batches(drafts)?;
        let mut people = Vec::new();
        let mut sends = Vec::new();
        for batch in &batches {
            let officer = self.officer(batch.site)?;
            let edits = self.registrations(&officer, batch)?;
            if batch.site == self.country.homes[0].way_up[0] {
                people.extend(persons_of(&edits)?);
            }
            sends.push(async move { officer.send_all(edits, None).await });
        }
        let total: usize = drafts.iter().map(|draft| draft.records.len()).sum();
        say.step(format!("registering {} persons and households at {} offices", grouped(total as u64), sends.len()));
        let ledger = Arc::clone(&self.ledger);
        tokio::select! {
            sent = try_join_all(sends) => drop(sent?),
            never = self.show(say, total as u64) => match never {},
        }
        say.step(format!(
            "{} edits acknowledged in {:.1} s",
            grouped(ledger.acknowledged()),
            (now() - since).as_secs_f64()
        ));
        self.wait_in_step(say, "registration").await;
        self.phase("register", since);
        Ok(people)
    }

    /// A commune loses its line; everybody works on; the province's leader and the commune itself are killed.
    /// Returns the cells in which the story set up conflicts, and what was begun at the counter of the commune.
    async fn cut_off(
        &mut self,
        drafts: &[Draft],
        people: &[RecordId],
        say: &Say,
    ) -> Result<(BTreeSet<(RecordId, Cell)>, Begun)> {
        let since = now();
        let [commune, district, province, _] = self.country.homes[0].way_up;
        if people.len() < SCRIPTED_PERSONS + RANDOM_PERSONS {
            bail!("only {} persons live in {}: take more --persons", people.len(), self.country.sites[commune].name);
        }
        let sex = self.numbers_at_hand(say).await?;
        self.lines[commune].cut();
        let names = [commune, district].map(|at| self.country.sites[at].name.clone());
        say.step(format!("the line of {} to {} is cut", names[0], names[1]));
        let before = self.site_edits(commune).await?;

        let kept = self.scripted(people, say).await?;
        let begun = self.at_the_counter(&people[SCRIPTED_PERSONS + RANDOM_PERSONS..], sex, say).await?;
        let batches = self.batches(drafts)?;
        let mut sends = Vec::new();
        // The batch of the commune, and of the province, with how far each is.
        let mut watched: BTreeMap<usize, (Arc<Officer>, u64)> = BTreeMap::new();
        for batch in &batches {
            let officer = Arc::new(self.officer(batch.site)?);
            let edits = self.registrations(&officer, batch)?;
            let parts: usize = edits.iter().map(|edit| edit.parts.len()).sum();
            if [commune, province].contains(&batch.site) {
                watched.insert(batch.site, (Arc::clone(&officer), parts as u64));
            }
            sends.push(async move { officer.send_all(edits, Some(PACE)).await });
        }
        let random = &people[SCRIPTED_PERSONS..SCRIPTED_PERSONS + RANDOM_PERSONS];
        let mut works = Vec::new();
        for (step, edits) in RANDOM_EDITS {
            let officer = self.officer(self.country.homes[0].way_up[step])?;
            let rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(31).wrapping_add(step as u64));
            works.push(work_at_random(officer, random.to_vec(), edits, self.country.clone(), rng));
        }
        let at_work = async {
            let ((), changed) = futures::try_join!(async { try_join_all(sends).await.map(drop) }, try_join_all(works))?;
            anyhow::Ok(changed.into_iter().sum::<usize>())
        };
        let country = self.country.clone();
        let processes = Mutex::new(&mut self.processes);
        let kills = try_join_all(
            watched.iter().map(|(site, batch)| kill_in_mid_batch(&country, &processes, *site, batch, say)),
        );
        // An officer who fails ends the wait for a batch that will not come.
        let (changed, kills) = futures::try_join!(at_work, kills)?;
        self.facts.kills = kills;
        say.step(format!("{changed} random edits of {RANDOM_PERSONS} persons by officers at three sites"));
        for kill in self.facts.kills.clone() {
            // A kill after the last answer would prove nothing.
            if kill.acknowledged_before == 0 || kill.acknowledged_before >= kill.of {
                self.broken(say, format!("{} was not killed in the middle of its batch", kill.what));
            }
        }
        let after = self.site_edits(commune).await?;
        self.facts.accepted_while_cut_off = after.saturating_sub(before);
        say.step(format!(
            "{} accepted {} edits while nobody above could hear of them",
            names[0],
            grouped(self.facts.accepted_while_cut_off)
        ));
        self.phase("cut off", since);
        Ok((kept, begun))
    }

    /// The edits that the story sets up: at the commune, which is cut off, and above.
    async fn scripted(&mut self, people: &[RecordId], say: &Say) -> Result<BTreeSet<(RecordId, Cell)>> {
        let way_up = self.country.homes[0].way_up;
        let context = Context::parse("correction", "CC-2024-100")?;
        let mut writes: Vec<(usize, usize, &str, &str)> = Vec::new();
        for (person, field, values) in CONFLICTS.iter().chain(&LATEST) {
            writes.extend(values.iter().map(|(step, value)| (*step, *person, *field, *value)));
        }
        for (person, values) in &APART {
            writes.extend(values.iter().map(|(step, field, value)| (*step, *person, *field, *value)));
        }
        for (step, person, field, value) in writes {
            let officer = self.officer(way_up[step])?;
            if !officer.change(&context, people[person], field, "", value).await? {
                bail!("the story's own edit of {field} could not be made");
            }
        }
        self.facts.concurrent_without_conflict = (LATEST.len() + APART.len()) as u64;
        say.step(format!(
            "two officers each wrote the same field of one person in {} cases, and fields that do not clash in {}",
            CONFLICTS.len(),
            self.facts.concurrent_without_conflict
        ));
        CONFLICTS
            .iter()
            .map(|(person, field, _)| {
                let id =
                    dinhba_core::schema::FieldId::named(RecordKind::Person, field).context("a field of the story")?;
                Ok((people[*person], (id, String::new())))
            })
            .collect()
    }

    /// The line is mended; every edit must arrive, and every conflict be found, no more and no fewer.
    async fn heal(&mut self, scripted: &BTreeSet<(RecordId, Cell)>, say: &Say) -> Result<Vec<v1::Conflict>> {
        let since = now();
        let home = self.country.homes[0].clone();
        self.lines[home.way_up[0]].mend();
        say.step(format!("the line of {} is mended", self.country.sites[home.way_up[0]].name));
        if let Some(took) = self.wait_in_step(say, "healing").await {
            self.facts.in_step_after_seconds = rounded(took);
        }
        let expected = self.ledger.oracle().conflicts();
        let mut of_commune: Vec<v1::Conflict> = Vec::new();
        // Each site of the way up must list the same ones.
        for at in home.way_up {
            for shard in self.country.sites[at].shards() {
                let listed = self.conflicts(at, shard).await?;
                let wanted: BTreeSet<(RecordId, Cell)> = expected
                    .iter()
                    .filter(|(of, _, _)| *of == shard)
                    .map(|(_, record, cell)| (*record, cell.clone()))
                    .collect();
                let found: BTreeSet<(RecordId, Cell)> = listed.iter().filter_map(cell_of).collect();
                let rules = listed.iter().filter(|conflict| conflict.field.is_empty()).count();
                let (missing, too_many) =
                    (wanted.difference(&found).count(), found.difference(&wanted).count() + rules);
                if missing + too_many > 0 {
                    let name = self.country.sites[at].name.clone();
                    let text =
                        format!("{name}, {shard}: {missing} conflicts not found, {too_many} where none should be");
                    self.broken(say, text);
                }
                if at == home.way_up[0] {
                    of_commune.extend(listed);
                }
            }
        }
        let found: BTreeSet<(RecordId, Cell)> = of_commune.iter().filter_map(cell_of).collect();
        self.facts.conflicts_found = found.len() as u64;
        self.facts.conflicts_scripted = found.intersection(scripted).count() as u64;
        self.facts.conflicts_by_chance = self.facts.conflicts_found - self.facts.conflicts_scripted;
        say.step(format!(
            "{} conflicts found at every tier: {} set up by the story, {} by chance",
            self.facts.conflicts_found, self.facts.conflicts_scripted, self.facts.conflicts_by_chance
        ));
        if self.facts.conflicts_scripted < scripted.len() as u64 {
            self.broken(say, "a conflict that the story set up was not found".to_owned());
        }
        if self.facts.conflicts_by_chance == 0 {
            self.broken(say, "the officers' random work made no conflict: take another --seed".to_owned());
        }
        self.phase("heal", since);
        Ok(of_commune)
    }

    /// Officers of the commune and of the district decide all conflicts, and the decisions reach the commune.
    async fn decide(&mut self, conflicts: &[v1::Conflict], say: &Say) -> Result<()> {
        let since = now();
        let [commune, district, ..] = self.country.homes[0].way_up;
        let officers =
            [(commune, "Theo sổ hộ tịch gốc lưu tại xã"), (district, "Theo bản chính giấy tờ công dân xuất trình")];
        let mut decided: Vec<(usize, &v1::Conflict, String)> = Vec::new();
        for (place, conflict) in conflicts.iter().filter(|conflict| !conflict.field.is_empty()).enumerate() {
            let (site, grounds) = officers[place % officers.len()];
            let value = self.officer(site)?.decide(conflict, place / 2, grounds).await?;
            decided.push((site, conflict, value));
            say.progress(format!("{} of {} conflicts decided", decided.len(), conflicts.len()));
        }
        self.wait_in_step(say, "decisions").await;
        let context = Context::parse("verification", "KT-2024-002")?;
        let at_commune = self.officer(commune)?;
        let mut arrived = 0;
        for (_, conflict, value) in &decided {
            let record = at_commune.client.get(&context, conflict.record.parse()?).await?;
            let is_there = field_of(&record, &conflict.field, &conflict.element)
                .is_some_and(|field| !field.disputed && field.values.iter().all(|there| there.value == *value));
            arrived += u64::from(is_there);
        }
        self.facts.conflicts_decided = arrived;
        self.facts.decided_record = decided.first().map(|(_, conflict, _)| conflict.record.clone()).unwrap_or_default();
        let by_district = decided.iter().filter(|(site, ..)| *site == district).count();
        say.step(format!(
            "{arrived} conflicts decided, {by_district} of them at the district, and back at the commune"
        ));
        if arrived < decided.len() as u64 {
            self.broken(say, format!("{} decisions did not arrive at the commune", decided.len() as u64 - arrived));
        }
        for at in 0..self.country.sites.len() {
            for shard in self.country.sites[at].shards() {
                let open = self.conflicts(at, shard).await?.len();
                if open > 0 {
                    let name = self.country.sites[at].name.clone();
                    self.broken(say, format!("{name}, {shard}: {open} conflicts are still open"));
                }
            }
        }
        self.phase("decide", since);
        Ok(())
    }

    /// Everything is read back from every node and compared with what clients were told.
    async fn read_back(&mut self, say: &Say) -> Result<()> {
        let since = now();
        for (node, how) in self.processes.ended() {
            self.broken(say, format!("node {node} ended by itself: {how}"));
        }
        self.wait_for_numbers(say).await?;
        self.wait_in_step(say, "numbers").await;
        say.step(format!("reading everything back from all {} nodes", self.facts.nodes));
        let ledger = Arc::clone(&self.ledger);
        let verdict = examine(&self.country, &ledger, |done, all| {
            say.progress(format!("{done} of {all} nodes read"));
        })
        .await?;
        self.facts.acknowledged = ledger.oracle().acknowledged() as u64;
        self.facts.outcome_unknown = ledger.oracle().open() as u64;
        self.facts.at_centre = verdict.at_centre as u64;
        self.facts.lost = verdict.lost.len() as u64;
        self.facts.copies_compared = verdict.copies as u64;
        self.facts.edits_compared = verdict.edits_read as u64;
        self.facts.records_compared = verdict.records_read as u64;
        self.facts.numbers_given = verdict.given.len() as u64;
        self.facts.broken.extend(ledger.complaints());
        self.facts.broken.extend(verdict.problems);
        if self.facts.at_centre < self.facts.acknowledged {
            let missing = self.facts.acknowledged - self.facts.at_centre;
            self.broken(say, format!("{missing} acknowledged edits are not at the centre"));
        }
        self.count().await?;
        let statuses = self.statuses().await;
        self.facts.sites =
            statuses.iter().enumerate().map(|(at, status)| site_facts(&self.country, at, status.as_ref())).collect();
        say.step(format!(
            "{} copies compared: {} edits and {} records; {} lost",
            verdict.copies,
            grouped(self.facts.edits_compared),
            grouped(self.facts.records_compared),
            self.facts.lost
        ));
        self.phase("read back", since);
        Ok(())
    }

    /// Waits until everybody has a personal number to whom one is due, given by the offices themselves.
    async fn wait_for_numbers(&mut self, say: &Say) -> Result<()> {
        let (since, context) = (now(), Context::parse("statistics", "TK-2024-001")?);
        let client = self.officer(0)?.client;
        loop {
            let reply = client.numbers(&context, "", None).await?;
            let waiting: u64 = reply.units.iter().map(|unit| unit.waiting).sum();
            if reply.series.iter().any(|series| !series.complete) {
                self.broken(say, "the ledger of personal numbers does not add up".to_owned());
            }
            if waiting == 0 {
                let assigned: u64 = reply.series.iter().map(|series| series.assigned).sum();
                say.step(format!("nobody waits for a personal number; {} of blocks are assigned", grouped(assigned)));
                return Ok(());
            }
            if now() - since > STEP_WAIT {
                self.broken(say, format!("{waiting} persons wait for a personal number"));
                return Ok(());
            }
            say.progress(format!("{waiting} persons wait for a personal number"));
            sleep(LOOK_EVERY).await;
        }
    }

    // What the phases use.

    pub(super) fn officer(&self, site: usize) -> Result<Officer> {
        let client = self.country.client(site, site, Role::Registrar, Limits::default())?;
        Ok(Officer::new(client, Arc::clone(&self.ledger)))
    }

    /// Who registers which households: mostly the commune, some the district, some the province.
    fn batches(&self, drafts: &[Draft]) -> Result<Vec<Batch>> {
        let communes = self.country.shards_by_commune();
        let mut batches: BTreeMap<usize, Vec<(ShardId, Draft)>> = BTreeMap::new();
        for (place, draft) in drafts.iter().enumerate() {
            let written = draft.records.first().and_then(|household| household.home.as_deref());
            let home = *written.and_then(|written| communes.get(written)).context("a household without a commune")?;
            let home = &self.country.homes[home];
            let step = match place {
                place if place % AT_DISTRICT_EVERY == 4 => 1,
                place if place % AT_PROVINCE_EVERY == 7 => 2,
                _ => 0,
            };
            batches.entry(home.way_up[step]).or_default().push((home.shard, draft.clone()));
        }
        Ok(batches.into_iter().map(|(site, drafts)| Batch { site, drafts }).collect())
    }

    fn registrations(&self, officer: &Officer, batch: &Batch) -> Result<Vec<v1::EditRequest>> {
        let context = Context::parse("registration", "HS-2024-001")?;
        batch.drafts.iter().map(|(shard, draft)| officer.registration(&context, *shard, draft)).collect()
    }

    /// Shows the count of acknowledged edits, as long as it is asked to.
    async fn show(&self, say: &Say, total: u64) -> Infallible {
        let before = self.ledger.acknowledged();
        loop {
            let grown = self.ledger.acknowledged() - before;
            say.progress(format!("{} of {} edits acknowledged", grouped(grown), grouped(total)));
            sleep(LOOK_EVERY).await;
        }
    }

    async fn conflicts(&self, site: usize, shard: ShardId) -> Result<Vec<v1::Conflict>> {
        let context = Context::parse("adjudication", "XD-2024-016")?;
        let reply = self.officer(site)?.client.conflicts(&context, Some(shard), &[]).await?;
        if reply.more {
            bail!("more conflicts than one answer holds");
        }
        Ok(reply.conflicts)
    }

    async fn site_edits(&self, site: usize) -> Result<u64> {
        let status = self.country.client(site, site, Role::Operator, Limits::default())?.status(&maintenance()).await?;
        Ok(status.groups.iter().flat_map(|group| &group.shards).map(|shard| shard.edits).sum())
    }

    async fn statuses(&self) -> Vec<Option<v1::StatusReply>> {
        let looks = (0..self.country.sites.len()).map(|at| async move {
            self.country.client(at, at, Role::Operator, short()).ok()?.status(&maintenance()).await.ok()
        });
        join_all(looks).await
    }

    /// Waits until every site holds every acknowledged edit and has its parent's proof; returns how long that took.
    async fn wait_in_step(&mut self, say: &Say, what: &str) -> Option<Duration> {
        let since = now();
        let wanted = self.ledger.oracle().per_shard();
        let total: u64 = wanted.values().sum();
        let (mut told, mut moved, mut behind_before) = (since, since, Vec::new());
        loop {
            let statuses = self.statuses().await;
            let behind = behind(&self.country, &wanted, &statuses);
            let at_centre = statuses[0].iter().flat_map(|status| &status.groups).flat_map(|group| &group.shards);
            let at_centre: u64 = at_centre.map(|shard| shard.edits).sum();
            let took = now() - since;
            if behind.is_empty() {
                say.step(format!(
                    "all {} edits are at the centre, and every site has the proof ({:.1} s)",
                    grouped(total),
                    took.as_secs_f64()
                ));
                return Some(took);
            }
            if behind != behind_before {
                behind_before.clone_from(&behind);
                moved = now();
            }
            if took > STEP_WAIT || now() - moved > STILL_WAIT {
                let text = format!("{what}: not in step after {:.0} s: {}", took.as_secs_f64(), behind.join("; "));
                self.broken(say, text);
                return None;
            }
            let text = format!(
                "{} of {} edits at the centre; {} copies of shards behind",
                grouped(at_centre),
                grouped(total),
                behind.len()
            );
            if now() - told > TELL_EVERY {
                told = now();
                say.step(&text);
            }
            say.progress(text);
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Which sites do not prove that they hold all of `wanted`, in words.
fn behind(country: &Country, wanted: &BTreeMap<ShardId, u64>, statuses: &[Option<v1::StatusReply>]) -> Vec<String> {
    let mut behind = Vec::new();
    for (site, status) in country.sites.iter().zip(statuses) {
        for shard in site.shards() {
            let wanted = wanted.get(&shard).copied().unwrap_or(0);
            let shards = status.iter().flat_map(|status| &status.groups).flat_map(|group| &group.shards);
            let found = shards.into_iter().find(|found| found.shard == shard.to_string());
            let step = if site.tier == Tier::Central { "top" } else { "in_step" };
            match found {
                Some(found) if found.edits >= wanted && found.step == step && found.pending_up == 0 => {}
                Some(found) => behind.push(format!(
                    "{} {shard}: {} of {wanted} edits, {}, {} pending",
                    site.name, found.edits, found.step, found.pending_up
                )),
                None => behind.push(format!("{} {shard}: no answer", site.name)),
            }
        }
    }
    behind
}

/// Whether a node knows a leader of every group of its site, and the site's shards.
fn serves(country: &Country, at: usize, status: &v1::StatusReply) -> bool {
    let site = &country.sites[at];
    let shards: BTreeSet<&str> =
        status.groups.iter().flat_map(|group| &group.shards).map(|shard| shard.shard.as_str()).collect();
    status.groups.len() == site.groups.len()
        && status.groups.iter().all(|group| !group.leader.is_empty())
        && site.shards().iter().all(|shard| shards.contains(shard.to_string().as_str()))
}

/// Kills a commune's only node, or the leader of a site above, in the middle of a batch of `of` edits that `officer` sends
/// there; and starts it again.
async fn kill_in_mid_batch(
    country: &Country,
    processes: &Mutex<&mut Processes>,
    site: usize,
    (officer, of): &(Arc<Officer>, u64),
    say: &Say,
) -> Result<Kill> {
    let plan = &country.sites[site];
    // Asked beforehand: a short batch would be over when the answer comes.
    let status = country.client(site, site, Role::Operator, Limits::default())?.status(&maintenance()).await?;
    let leader = status.groups.first().map(|group| group.leader.clone()).unwrap_or_default();
    let node = plan.nodes.iter().find(|node| node.id.to_string() == leader).unwrap_or(&plan.nodes[0]);
    while officer.acknowledged() * 100 < of * KILL_AT {
        // Finer than the pace of the batch.
        sleep(PACE / 3).await;
    }
    let is_alone = plan.nodes.len() == 1;
    let what = if is_alone { "the commune's only node" } else { "the province's leader" };
    let since = now();
    processes.lock().await.kill(node.id).await?;
    let acknowledged_before = officer.acknowledged();
    say.step(format!(
        "{what} is killed ({}: {acknowledged_before} of {of} edits of its batch acknowledged)",
        plan.name
    ));
    if is_alone {
        sleep(DARK).await;
        processes.lock().await.start(node)?;
    }
    // The others elect one of them; a commune's only node elects itself.
    let others: Vec<&NodePlan> = plan.nodes.iter().filter(|other| is_alone || other.id != node.id).collect();
    wait_for_leader(country, site, &others, &node.id.to_string()).await?;
    let took = now() - since;
    if !is_alone {
        processes.lock().await.start(node)?;
    }
    say.step(format!("{} serves again after {:.1} s; the killed node is back", plan.name, took.as_secs_f64()));
    Ok(Kill {
        what: what.to_owned(),
        unit: plan.name.clone(),
        node: node.id.to_string(),
        acknowledged_before,
        of: *of,
        served_again_after_seconds: rounded(took),
    })
}

async fn wait_for_leader(country: &Country, site: usize, nodes: &[&NodePlan], killed: &str) -> Result<()> {
    let since = now();
    while now() - since < LEADER_WAIT {
        let client = country.client_of(nodes.iter().copied(), site, Role::Operator, short())?;
        if let Ok(status) = client.status(&maintenance()).await {
            let elected =
                |group: &v1::GroupStatus| !group.leader.is_empty() && (nodes.len() == 1 || group.leader != killed);
            if !status.groups.is_empty() && status.groups.iter().all(elected) {
                return Ok(());
            }
        }
        sleep(LOOK_EVERY).await;
    }
    bail!("{} has no leader {} s after a node was killed", country.sites[site].name, LEADER_WAIT.as_secs())
}

/// An officer edits random fields of random persons; returns how many edits were accepted.
async fn work_at_random(
    officer: Officer,
    people: Vec<RecordId>,
    edits: usize,
    country: Country,
    mut rng: ChaCha8Rng,
) -> Result<usize> {
    let context = Context::parse("correction", "CC-2024-200")?;
    let mut changed = 0;
    for _ in 0..edits {
        let person = *people.choose(&mut rng).context("somebody to edit")?;
        let (field, value) = random_value(&country, &mut rng);
        changed += usize::from(officer.change(&context, person, field, "", &value).await?);
    }
    Ok(changed)
}

/// A field that no rule looks at, and a value for it: eight with legal weight and three without.
fn random_value(country: &Country, rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let one_of = |rng: &mut ChaCha8Rng, choices: &[&str]| (*choices.choose(rng).unwrap_or(&"")).to_owned();
    let unit = country.homes[rng.random_range(0..country.homes.len())].written.clone();
    match rng.random_range(0..11) {
        0 => ("religion", one_of(rng, &["none", "buddhism", "catholicism", "protestantism", "other"])),
        1 => ("blood_group", one_of(rng, &["a+", "b+", "ab+", "o+", "a-", "b-", "ab-", "o-"])),
        2 => ("current_dwelling", format!("unit={unit}; line=Thôn {}", rng.random_range(1..40))),
        3 => ("origin", format!("unit={unit}; line=Bản {}", rng.random_range(1..40))),
        4 => ("other_name", one_of(rng, &["Hai Lúa", "Ba Sen", "Tư Hồng", "Năm Căn", "Sáu Mận", "Bảy Đào", "Út Mơ"])),
        5 => ("e_identification", one_of(rng, &["none", "level_1", "level_2", "level_2_activated", "locked"])),
        6 => ("residence_file_number", format!("HS-{:06}", rng.random_range(0..1_000_000))),
        7 => ("old_identity_number", format!("{:09}", rng.random_range(60_000_000..70_000_000))),
        8 => ("mobile_number", format!("0162{:07}", rng.random_range(0..10_000_000))),
        9 => ("email", format!("c{}@example.com", rng.random_range(0..1_000_000))),
        _ => ("note", format!("đã kiểm tra, lần {}", rng.random_range(1..1000))),
    }
}

/// The living and the dead who are registered by these edits.
fn persons_of(edits: &[v1::EditRequest]) -> Result<Vec<RecordId>> {
    let mut people = Vec::new();
    for edit in edits {
        let request = super::officers::request_of(edit.request.as_ref()).context("an edit without a name")?;
        let persons = edit.parts.iter().zip(0..).filter(|(part, _)| part.kind == RecordKind::Person.name());
        people.extend(persons.map(|(_, index)| RecordId::derive(request, index)));
    }
    Ok(people)
}

fn cell_of(conflict: &v1::Conflict) -> Option<(RecordId, Cell)> {
    let kind = RecordKind::named(&conflict.record_kind)?;
    let field = dinhba_core::schema::FieldId::named(kind, &conflict.field)?;
    Some((conflict.record.parse().ok()?, (field, conflict.element.clone())))
}

fn maintenance() -> Context {
    Context::parse("maintenance", "VH-2024-001").expect("a purpose and a case")
}

/// For looks that are repeated: one that fails is as good as one that waits.
fn short() -> Limits {
    Limits { attempt: Duration::from_secs(2), deadline: Duration::from_secs(2), ..Limits::default() }
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dinhba_core::level::LEVEL_FIRST;
    use dinhba_core::schema::{Class, FieldId, RULES, parse};

    use super::*;

    #[test]
    fn random_work_is_legal_and_meets_no_rule() {
        let country = Country::plan(Path::new("/nowhere"), 1).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut classes = BTreeMap::new();
        for _ in 0..500 {
            let (name, value) = random_value(&country, &mut rng);
            let field = FieldId::named(RecordKind::Person, name).unwrap();
            assert!(!parse(field, &value, &*country.directory).unwrap().is_cleared(), "{name}");
            assert!(RULES.iter().all(|rule| !rule.fields.contains(&field)), "{name}");
            classes.insert(name, field.class(LEVEL_FIRST));
        }
        assert_eq!(classes.values().filter(|class| **class == Class::Adjudicated).count(), 8);
        assert_eq!(classes.values().filter(|class| **class == Class::Latest).count(), 3);
    }

    #[test]
    fn what_the_story_sets_up_clashes_or_does_not_as_it_says() {
        let class = |name: &str| FieldId::named(RecordKind::Person, name).unwrap().class(LEVEL_FIRST);
        let directory = dinhba_core::units::Directory::vietnam().unwrap();
        for (_, field, [(one, a), (other, b)]) in CONFLICTS.iter().chain(&LATEST) {
            assert!(one == &0 && other > &0 && a != b, "one office is the commune that is cut off");
            for value in [a, b] {
                parse(FieldId::named(RecordKind::Person, field).unwrap(), value, &directory).unwrap();
            }
        }
        assert!(CONFLICTS.iter().all(|(_, field, _)| class(field) == Class::Adjudicated));
        assert!(LATEST.iter().all(|(_, field, _)| class(field) == Class::Latest));
        assert!(APART.iter().all(|(_, [(_, a, _), (_, b, _)])| a != b));
        let mut persons: Vec<usize> = CONFLICTS.iter().chain(&LATEST).map(|(person, ..)| *person).collect();
        persons.extend(APART.iter().map(|(person, _)| *person));
        persons.sort_unstable();
        assert_eq!(persons, (0..SCRIPTED_PERSONS).collect::<Vec<_>>());
    }

    #[test]
    fn a_site_without_a_proof_or_an_answer_is_behind() {
        let country = Country::plan(Path::new("/nowhere"), 1).unwrap();
        let wanted: BTreeMap<ShardId, u64> = country.homes.iter().map(|home| (home.shard, 10)).collect();
        let status = |at: usize, edits, step: &str| {
            let shards = country.sites[at].shards().into_iter().map(|shard| v1::ShardStatus {
                shard: shard.to_string(),
                edits,
                step: step.into(),
                ..v1::ShardStatus::default()
            });
            let group = v1::GroupStatus { shards: shards.collect(), ..v1::GroupStatus::default() };
            Some(v1::StatusReply { groups: vec![group], ..v1::StatusReply::default() })
        };
        let mut statuses: Vec<_> =
            (0..country.sites.len()).map(|at| status(at, 10, if at == 0 { "top" } else { "in_step" })).collect();
        assert_eq!(behind(&country, &wanted, &statuses), Vec::<String>::new());
        statuses[4] = status(4, 10, "behind");
        statuses[5] = None;
        statuses[6] = status(6, 9, "in_step");
        assert_eq!(behind(&country, &wanted, &statuses).len(), 3);
    }
}
