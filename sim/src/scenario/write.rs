//! From a [`Scenario`] to a file that says the same, in the order in which a person would tell it.
//!
//! Promises: what it writes parses back to an equal scenario, whatever defaults become later: it names every knob.

use std::fmt::Display;
use std::time::Duration;

use super::{Fault, Officer, Promise, Scenario, Store, Theft, What, Work, length, word};

/// Lines of a file.
struct Lines(String);

impl Lines {
    fn header(&mut self, header: &str) {
        self.0.push_str(&format!("\n{header}\n"));
    }
    fn plain(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }
    fn text(&mut self, key: &str, text: &str) {
        self.plain(key, quoted(text));
    }
    fn length(&mut self, key: &str, value: Duration) {
        self.text(key, &length::write(value));
    }
    fn texts<'a>(&mut self, key: &str, texts: impl IntoIterator<Item = &'a str>) {
        let texts: Vec<String> = texts.into_iter().map(quoted).collect();
        self.plain(key, format!("[{}]", texts.join(", ")));
    }
}

/// A TOML string. Several lines are written as such, if they need no escapes.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\\' || c == '"');
    if text.contains('\n') && text.chars().all(is_plain) {
        return format!("\"\"\"\n{text}\"\"\"");
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

impl Scenario {
    /// A file that tells it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut lines = Lines(String::new());
        lines.text("name", &self.name);
        lines.text("about", &self.about);
        lines.plain("seed", self.seed);
        lines.length("lasts", self.lasts);
        lines.length("settles_within", self.settles_within);
        if self.beyond_promises {
            lines.plain("beyond_promises", true);
        }
        if !self.promises.is_empty() {
            lines.texts("promises", self.promises.iter().copied().map(Promise::name));
        }
        self.write_setting(&mut lines);
        for officer in &self.officers {
            officer.write(&mut lines);
        }
        for fault in &self.faults {
            fault.write(&mut lines);
        }
        lines.0
    }

    fn write_setting(&self, lines: &mut Lines) {
        let (tree, nodes) = (&self.tree, &self.tree.nodes);
        lines.header("[tree]");
        lines.text("province", &tree.province);
        lines.texts("districts", tree.districts.iter().map(String::as_str));
        lines.texts("communes", tree.communes.iter().map(String::as_str));
        let (central, province, district, commune) = (nodes.central, nodes.province, nodes.district, nodes.commune);
        let nodes =
            format!("{{ central = {central}, province = {province}, district = {district}, commune = {commune} }}");
        lines.plain("nodes", nodes);
        let knobs = &self.knobs;
        lines.header("[knobs]");
        lines.length("heartbeat", knobs.heartbeat);
        lines.length("election_min", knobs.election_min);
        lines.length("election_max", knobs.election_max);
        lines.plain("snapshot_every", knobs.snapshot_every);
        lines.plain("keep_entries", knobs.keep_entries);
        lines.plain("segment_bytes", knobs.segment_bytes);
        lines.length("flush", knobs.flush);
        lines.length("link_backoff_min", knobs.link_backoff_min);
        lines.length("link_backoff_max", knobs.link_backoff_max);
        lines.plain("level", knobs.level);
        let network = &self.network;
        lines.header("[network]");
        lines.length("latency", network.latency);
        lines.length("jitter", network.jitter);
        lines.plain("bits_per_second", network.bits_per_second);
        lines.length("latency_inside", network.latency_inside);
    }
}

impl Officer {
    fn write(&self, lines: &mut Lines) {
        lines.header("[[officers]]");
        lines.text("at", &self.at);
        if !self.shards.is_empty() {
            lines.texts("shards", self.shards.iter().map(String::as_str));
        }
        lines.length("every", self.every);
        if !self.starts.is_zero() {
            lines.length("starts", self.starts);
        }
        if self.edits > 0 {
            lines.plain("edits", self.edits);
        }
        lines.text("does", word(&Work::ALL, self.does));
        if self.impatient {
            lines.plain("impatient", true);
        }
    }
}

impl Fault {
    fn write(&self, lines: &mut Lines) {
        lines.header("[[faults]]");
        lines.length("at", self.at);
        if let Some(lasts) = self.lasts {
            lines.length("lasts", lasts);
        }
        lines.text("what", self.what.kind());
        if let Some(node) = self.what.node() {
            lines.text("node", &node.to_string());
        }
        if let Some((a, b)) = self.what.ends() {
            let [key_a, key_b] = if matches!(self.what, What::CutOneWay { .. }) { ["from", "to"] } else { ["a", "b"] };
            lines.text(key_a, &a.to_string());
            lines.text(key_b, &b.to_string());
        }
        match &self.what {
            What::Dark { sites } => lines.texts("sites", sites.iter().map(String::as_str)),
            What::Slow { bits_per_second, latency, .. } => {
                lines.plain("bits_per_second", bits_per_second);
                lines.length("latency", *latency);
            }
            What::Flap { every, .. } => lines.length("every", *every),
            What::Lossy { per_mille, .. } => lines.plain("per_mille", per_mille),
            What::CrashLoop { times, every, .. } => {
                lines.plain("times", times);
                lines.length("every", *every);
            }
            What::Rot { store, times, .. } => {
                lines.text("store", word(&Store::ALL, *store));
                if *times != 1 {
                    lines.plain("times", times);
                }
            }
            What::SlowDisk { flush, .. } => lines.length("flush", *flush),
            What::Restore { backup_at, twice, .. } => {
                lines.length("backup_at", *backup_at);
                if *twice {
                    lines.plain("twice", true);
                }
            }
            What::Clock { offset_ms, .. } => lines.text("offset", &length::write_offset_ms(*offset_ms)),
            What::Drift { ppm, .. } => lines.plain("ppm", ppm),
            What::AddNode { site }
            | What::TransferLeader { site }
            | What::Snapshot { site }
            | What::AddSite { site } => {
                lines.text("site", site);
            }
            What::RekeySite { site, revokes } => {
                lines.text("site", site);
                if *revokes {
                    lines.plain("revokes", true);
                }
            }
            What::MoveSite { site, parent } => {
                lines.text("site", site);
                lines.text("parent", parent);
            }
            What::RaiseLevel { site, level } => {
                lines.text("site", site);
                lines.plain("level", level);
            }
            What::Thief { site, theft } => {
                lines.text("site", site);
                lines.text("theft", word(&Theft::ALL, *theft));
            }
            _ => {}
        }
    }
}
