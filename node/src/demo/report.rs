//! What the demonstration tells: progress on standard error, and at the end a table and a JSON object of facts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use dinhba_client::cli::sheet::{Cell, Sheet, Tint, column};
use dinhba_core::claims::Role;
use dinhba_core::date::Date;
use dinhba_proto::v1;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::layout::Country;
use crate::runtime::{Instant, now};

/// Progress, for people.
pub struct Say {
    since: Instant,
    quiet: bool,
    bar: ProgressBar,
}

impl Say {
    /// Progress counted from now on.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        // Draws nothing where standard error is no terminal.
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("          {spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Say { since: now(), quiet, bar: bar.with_style(style) }
    }

    /// Something that happened.
    pub fn step(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let elapsed = self.elapsed().as_secs_f64();
            self.bar.suspend(|| eprintln!("[{elapsed:6.1} s] {}", text.as_ref()));
        }
    }

    /// How far something is that goes on.
    pub fn progress(&self, text: String) {
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// The running message is over.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now() - self.since
    }
}

/// A process that was killed.
#[derive(Debug, Clone, Serialize)]
pub struct Kill {
    /// What it was, in words.
    pub what: String,
    /// The unit of its site.
    pub unit: String,
    /// The node.
    pub node: String,
    /// Edits of the batch that was under way which had been acknowledged.
    pub acknowledged_before: u64,
    /// Edits of that batch.
    pub of: u64,
    /// From the kill until the site had a leader again.
    pub served_again_after_seconds: f64,
}

/// One site at the end.
#[derive(Debug, Clone, Serialize)]
pub struct SiteFacts {
    /// The unit's name.
    pub unit: String,
    /// Its code.
    pub code: String,
    /// Its level.
    pub tier: String,
    /// Nodes that run.
    pub nodes: usize,
    /// The leader of the group that hosts its shards, and that node's address.
    pub leader: String,
    /// Persons and households.
    pub records: u64,
    /// Edits, by its heads.
    pub edits: u64,
    /// Edits that the site above is not known to hold.
    pub pending_up: u64,
    /// Open conflicts.
    pub open_conflicts: u64,
    /// `in_step`, or what else the worst of its shards says; `top` at the centre.
    pub step: String,
    /// The date of the oldest proof, UTC.
    pub proved_at: String,
    /// Where its nodes listen.
    pub addresses: Vec<String>,
}

/// The events of a commune.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UnitCounts {
    /// Its name.
    pub unit: String,
    /// Its code.
    pub code: String,
    /// How many there were, by event.
    pub counts: BTreeMap<String, u64>,
}

/// All facts, as `--json` prints them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// Whether every promise was kept.
    pub ok: bool,
    /// What was broken, in words.
    pub broken: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The state engine.
    pub engine: String,
    /// Processes.
    pub nodes: usize,
    /// Sites.
    pub site_count: usize,
    /// Edits that were acknowledged to clients.
    pub acknowledged: u64,
    /// Requests whose outcome no client was told.
    pub outcome_unknown: u64,
    /// Acknowledged edits that every node of the centre holds.
    pub at_centre: u64,
    /// Acknowledged edits that a node does not hold, or whose value is gone.
    pub lost: u64,
    /// Conflicts that were listed after the link was mended.
    pub conflicts_found: u64,
    /// Of those, the ones that the story set up.
    pub conflicts_scripted: u64,
    /// Of those, the ones that came of the officers' random work.
    pub conflicts_by_chance: u64,
    /// Conflicts that officers decided, with the decision back at the commune.
    pub conflicts_decided: u64,
    /// One of the records with a decided conflict, to look at.
    pub decided_record: String,
    /// Concurrent edits of one person, set up so that no conflict may come of them.
    pub concurrent_without_conflict: u64,
    /// Edits that the commune accepted while it was cut off.
    pub accepted_while_cut_off: u64,
    /// From mending the link until all was in step.
    pub in_step_after_seconds: f64,
    /// Personal numbers that offices gave of themselves.
    pub numbers_given: u64,
    /// Whether the commune that was cut off gave a child who was born there a number.
    pub numbered_far_from_the_line: bool,
    /// Edits of grave consequence that a second person confirmed.
    pub confirmed_by_second: u64,
    /// Work lists on which the late dossier stood: those of the tiers from its commune up.
    pub lists_with_late_dossier: u64,
    /// Cards that the commune handed over in a campaign, and how many of them its district wants.
    pub cards_delivered: u64,
    pub cards_wanted: u64,
    /// How many there were of each event, by commune.
    pub figures: Vec<UnitCounts>,
    /// Copies of shards that were read back whole, and what was read.
    pub copies_compared: u64,
    /// Edits in them.
    pub edits_compared: u64,
    /// Records in them.
    pub records_compared: u64,
    /// Processes that were killed.
    pub kills: Vec<Kill>,
    /// Seconds of each phase, in order.
    pub phases: Vec<(String, f64)>,
    /// Seconds in all.
    pub seconds: f64,
    /// Each site at the end.
    pub sites: Vec<SiteFacts>,
}

/// What a site's status comes to in one line.
#[must_use]
pub fn site_facts(country: &Country, at: usize, status: Option<&v1::StatusReply>) -> SiteFacts {
    let site = &country.sites[at];
    let addresses: BTreeMap<String, String> =
        site.nodes.iter().map(|node| (node.id.to_string(), node.address())).collect();
    let mut facts = SiteFacts {
        unit: site.name.clone(),
        code: site.code.clone(),
        tier: site.tier.to_string(),
        nodes: site.nodes.len(),
        leader: "unknown".to_owned(),
        records: 0,
        edits: 0,
        pending_up: 0,
        open_conflicts: 0,
        step: "unknown".to_owned(),
        proved_at: String::new(),
        addresses: addresses.values().cloned().collect(),
    };
    let Some(status) = status else { return facts };
    let of_people = |shard: &&v1::ShardStatus| !shard.ancestor;
    let shards: Vec<&v1::ShardStatus> =
        status.groups.iter().flat_map(|group| &group.shards).filter(of_people).collect();
    if let Some(group) = status.groups.iter().find(|group| group.shards.iter().any(|shard| !shard.ancestor)) {
        let address = addresses.get(&group.leader).map_or("?", String::as_str);
        facts.leader = if group.leader.is_empty() { "none".to_owned() } else { address.to_owned() };
    }
    for shard in &shards {
        facts.records += shard.persons + shard.households;
        facts.edits += shard.edits;
        facts.pending_up += shard.pending_up;
        facts.open_conflicts += shard.conflicts;
    }
    let worst = ["differs", "unknown", "behind", "in_step", "top"]
        .into_iter()
        .find(|word| shards.iter().any(|shard| shard.step == *word));
    facts.step = worst.unwrap_or("unknown").to_owned();
    facts.proved_at = match shards.iter().map(|shard| shard.step_at_ms).min() {
        Some(at_ms) if facts.step == "in_step" => written(at_ms),
        _ => String::new(),
    };
    facts
}

/// UTC milliseconds as `2024-11-22 07:13:05`.
fn written(at_ms: i64) -> String {
    let seconds = at_ms.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    format!("{} {:02}:{:02}:{:02}", Date::from_days(days), of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// The table that anyone understands, and the sums below it.
#[must_use]
pub fn table(country: &Country, facts: &Facts) -> String {
    let mut table = Sheet::new([
        column("unit").wraps(16),
        column("nodes").number().spare(4),
        column("leader").spare(3),
        column("records").number().spare(1),
        column("edits").number().spare(2),
        column("pending upward").number(),
        column("open conflicts").number(),
        column("in step").wraps(14),
    ])
    .framed();
    for (at, depth) in country.in_tree_order() {
        let Some(site) = facts.sites.get(at) else { continue };
        let step = match site.step.as_str() {
            "in_step" => Cell::from(format!("yes, proved {} UTC", site.proved_at)).tinted(Tint::Good),
            "top" => Cell::from("(the centre)"),
            other => Cell::from(format!("NO: {other}")).tinted(Tint::Bad),
        };
        let numbers = [site.records, site.edits, site.pending_up, site.open_conflicts].map(grouped);
        let mut row: Vec<Cell> = vec![format!("{}{} {}", "  ".repeat(depth), site.code, site.unit).into()];
        row.push(site.nodes.to_string().into());
        row.push(site.leader.clone().into());
        row.extend(numbers.map(Cell::from));
        row.push(step);
        table.add_row(row);
    }
    let mut text = table.text();
    let _ = writeln!(text);
    let _ = writeln!(
        text,
        "\n  acknowledged {}   at the centre {}   lost {}   conflicts found {} ({} by chance), decided {}",
        grouped(facts.acknowledged),
        grouped(facts.at_centre),
        facts.lost,
        facts.conflicts_found,
        facts.conflicts_by_chance,
        facts.conflicts_decided
    );
    let _ = writeln!(text, "  personal numbers given by the offices themselves {}", grouped(facts.numbers_given));
    let _ = writeln!(
        text,
        "  deaths confirmed by a second person {}   lists on which the late dossier stood {}   cards {} of {} wanted",
        facts.confirmed_by_second, facts.lists_with_late_dossier, facts.cards_delivered, facts.cards_wanted
    );
    for UnitCounts { unit, code, counts } in &facts.figures {
        let counts: Vec<String> = counts.iter().map(|(event, count)| format!("{event} {}", grouped(*count))).collect();
        let _ = writeln!(text, "  {code} {unit}: {}", counts.join(", "));
    }
    let _ = writeln!(
        text,
        "  read back and compared: {} copies on {} nodes, {} edits, {} records   {:.0} seconds in all",
        facts.copies_compared,
        facts.nodes,
        grouped(facts.edits_compared),
        grouped(facts.records_compared),
        facts.seconds
    );
    text
}

/// `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where everything is, and what to try.
#[must_use]
pub fn endpoints(country: &Country, facts: &Facts, program: &str) -> String {
    let mut text = String::from("\nThe country stays up. Its nodes:\n");
    for site in &country.sites {
        let addresses: Vec<String> = site.nodes.iter().map(super::layout::NodePlan::address).collect();
        let _ = writeln!(text, "  {:5} {:24} {}", site.code, site.name, addresses.join(" "));
    }
    let ask = |verb: &str, at: usize, role: Role, purpose: &str| {
        let nodes: Vec<String> = country.sites[at].nodes.iter().map(super::layout::NodePlan::address).collect();
        let identity = country.identity(at, role);
        format!(
            "  {program} {verb} --node {} --identity {} --purpose {purpose} --case DEMO-1\n",
            nodes.join(","),
            identity.display()
        )
    };
    let commune = country.homes.first().map_or(0, |home| home.way_up[0]);
    text.push_str("\nTry, in another terminal:\n");
    text.push_str(&ask("status", 0, Role::Operator, "maintenance"));
    text.push_str(&ask("status", commune, Role::Operator, "maintenance"));
    text.push_str(&ask("conflicts", 0, Role::Registrar, "adjudication"));
    text.push_str(&ask(&format!("history {}", facts.decided_record), commune, Role::Registrar, "verification"));
    let _ = writeln!(text, "\nLogs and data are in {}. Ctrl-C ends it.", country.dir.display());
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shard(step: &str, at_ms: i64, pending_up: u64) -> v1::ShardStatus {
        v1::ShardStatus {
            persons: 1000,
            households: 300,
            edits: 1400,
            pending_up,
            step: step.into(),
            step_at_ms: at_ms,
            ..v1::ShardStatus::default()
        }
    }

    #[test]
    fn a_site_is_as_far_as_its_worst_shard() {
        let country = Country::plan(Path::new("/nowhere"), 1).unwrap();
        let mut status = v1::StatusReply::default();
        let leader = country.sites[2].nodes[1].clone();
        status.groups.push(v1::GroupStatus {
            leader: leader.id.to_string(),
            shards: vec![shard("in_step", 1_732_259_585_000, 0), shard("behind", 1_732_259_580_000, 3)],
            ..v1::GroupStatus::default()
        });
        let facts = site_facts(&country, 2, Some(&status));
        assert_eq!((facts.step.as_str(), facts.pending_up, facts.records), ("behind", 3, 2600));
        assert_eq!(facts.leader, leader.address());
        assert_eq!(facts.proved_at, "");
        status.groups[0].shards[1].step = "in_step".into();
        assert_eq!(site_facts(&country, 2, Some(&status)).proved_at, "2024-11-22 07:13:00");
        assert_eq!(site_facts(&country, 2, None).step, "unknown");
    }

    #[test]
    fn the_table_shows_the_tree_and_the_sums() {
        let country = Country::plan(Path::new("/nowhere"), 1).unwrap();
        let sites = (0..country.sites.len()).map(|at| site_facts(&country, at, None)).collect();
        let facts = Facts { sites, acknowledged: 5512, at_centre: 5512, ..Facts::default() };
        let text = table(&country, &facts);
        for site in &country.sites {
            assert!(text.contains(&site.name), "{text}");
        }
        assert!(text.contains("acknowledged 5,512   at the centre 5,512   lost 0"), "{text}");
        assert!(text.contains("NO: unknown"), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 12, 999, 1000, 1_234_567].map(grouped), ["0", "12", "999", "1,000", "1,234,567"]);
    }
}
