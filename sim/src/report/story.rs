//! A run's trace, sorted for the page: what each node, site, line and edit went through. No markup here.

use std::collections::BTreeMap;
use std::time::Duration;

use dinhba_core::ids::{Hash, RecordId};
use dinhba_core::units::Tier;

use crate::run::Outcome;
use crate::scenario::{Scenario, Site, unit};
use crate::trace::{Event, NodePlace, SitePlace};

/// How a node is for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It was switched on and reads its disk, or waits to be let in.
    Starts,
    /// It runs.
    Up,
    /// It is off, and why.
    Off(String),
}

/// A while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span<T> {
    pub(super) from: Duration,
    pub(super) to: Duration,
    pub(super) what: T,
}

/// A fault as it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its place in the scenario; repairs come after all.
    pub(super) place: usize,
    pub(super) kind: &'static str,
    pub(super) text: String,
    pub(super) nodes: Vec<NodePlace>,
    pub(super) sites: Vec<SitePlace>,
}

/// An accepted edit and its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) at: Duration,
    pub(super) site: SitePlace,
    pub(super) record: RecordId,
    pub(super) request: String,
    pub(super) work: &'static str,
    /// When a site of each tier, highest first, was first seen to hold it.
    pub(super) arrived: [Option<Duration>; 4],
}

impl Way {
    /// How long it took to the last tier; none if it did not come everywhere.
    pub(super) fn took(&self) -> Option<Duration> {
        self.arrived.iter().try_fold(Duration::ZERO, |most, at| at.map(|at| most.max(at.saturating_sub(self.at))))
    }
}

/// Messages over a line in one direction, at the ends of the intervals in which they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) at: Duration,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A period in which a node leads a group: the group's place among those of its site that were seen, and the term.
pub(super) type Lead = (usize, u64);

/// What happened.
pub(super) struct Story<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) outcome: &'a Outcome,
    /// Sites, those above before those below: the trace's order.
    pub(super) sites: Vec<Site>,
    pub(super) parents: Vec<Option<SitePlace>>,
    /// When the officers began: the zero of scenario files.
    pub(super) zero: Duration,
    /// When the run ended.
    pub(super) end: Duration,
    pub(super) phases: Vec<Span<&'static str>>,
    pub(super) in_step: Option<Duration>,
    pub(super) states: Vec<Vec<Span<State>>>,
    pub(super) leads: Vec<Vec<Span<Lead>>>,
    pub(super) faults: Vec<Span<Fault>>,
    pub(super) flows: BTreeMap<(SitePlace, SitePlace), Vec<Flow>>,
    pub(super) conflicts: BTreeMap<SitePlace, Vec<(Duration, u64)>>,
    pub(super) ways: Vec<Way>,
    /// What others were told, by site.
    pub(super) not_accepted: Vec<(Duration, SitePlace, String)>,
    /// When edits came to a site from elsewhere.
    pub(super) arrivals: BTreeMap<SitePlace, Vec<Duration>>,
}

impl<'a> Story<'a> {
    /// Sorts a run's trace.
    pub(super) fn of(scenario: &'a Scenario, outcome: &'a Outcome) -> Self {
        let sites = scenario.tree.sites();
        let parents =
            sites.iter().map(|site| sites.iter().position(|other| Some(&other.code) == site.parent.as_ref())).collect();
        let last = outcome.entries.last().map_or(Duration::ZERO, |entry| entry.at);
        // A run of no length would have no scale.
        let end = last.max(Duration::from_secs(1));
        let mut story = Story {
            scenario,
            outcome,
            sites,
            parents,
            zero: Duration::ZERO,
            end,
            phases: Vec::new(),
            in_step: None,
            states: vec![Vec::new(); outcome.nodes.len()],
            leads: vec![Vec::new(); outcome.nodes.len()],
            faults: Vec::new(),
            flows: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            ways: Vec::new(),
            not_accepted: Vec::new(),
            arrivals: BTreeMap::new(),
        };
        story.sort();
        story
    }

    fn sort(&mut self) {
        let outcome = self.outcome;
        let mut seen: BTreeMap<Hash, [Option<Duration>; 4]> = BTreeMap::new();
        let mut told: Vec<Hash> = Vec::new();
        // Groups in the order in which their first leaders were seen, with who leads now.
        let mut groups: BTreeMap<(SitePlace, &str), (usize, Option<NodePlace>)> = BTreeMap::new();
        let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for entry in &outcome.entries {
            let at = entry.at;
            match &entry.event {
                Event::Phase { name } => {
                    if *name == "safety" {
                        self.zero = at;
                    }
                    self.phases.push(Span { from: at, to: at, what: name });
                }
                Event::NodeStarts { node } => self.becomes(*node, at, State::Starts),
                Event::NodeRuns { node } => self.becomes(*node, at, State::Up),
                Event::NodeStops { node, why } => {
                    self.becomes(*node, at, State::Off(why.clone()));
                    for (_, leader) in groups.values_mut().filter(|(_, leader)| *leader == Some(*node)) {
                        *leader = None;
                    }
                    self.end_leads(*node, at, None);
                }
                Event::Leads { node, group, term } => {
                    let Some((_, site)) = outcome.nodes.get(*node) else { continue };
                    let next = groups.keys().filter(|(other, _)| other == site).count();
                    let (place, leader) = groups.entry((*site, group)).or_insert((next, None));
                    let before = leader.replace(*node);
                    let place = *place;
                    if let Some(before) = before {
                        self.end_leads(before, at, Some(place));
                    }
                    self.leads[*node].push(Span { from: at, to: self.end, what: (place, *term) });
                }
                Event::FaultBegins { fault, kind, text, nodes, sites } => {
                    open.entry(*fault).or_default().push(self.faults.len());
                    let (text, nodes, sites) = (text.clone(), nodes.clone(), sites.clone());
                    let what = Fault { place: *fault, kind, text, nodes, sites };
                    self.faults.push(Span { from: at, to: self.end, what });
                }
                Event::FaultEnds { fault } => {
                    for place in open.remove(fault).unwrap_or_default() {
                        self.faults[place].to = at;
                    }
                }
                Event::Accepted { site, request, record, work, hash, .. } => {
                    told.push(*hash);
                    let (request, arrived) = (request.clone(), [None; 4]);
                    self.ways.push(Way { at, site: *site, record: *record, request, work, arrived });
                    let place = seen.entry(*hash).or_default();
                    if let Some(tier) = self.tier(*site) {
                        place[tier as usize].get_or_insert(at);
                    }
                }
                Event::NotAccepted { site, told, .. } => self.not_accepted.push((at, *site, told.clone())),
                Event::Arrived { site, hashes } => {
                    let Some(tier) = self.tier(*site) else { continue };
                    self.arrivals.entry(*site).or_default().push(at);
                    for hash in hashes {
                        seen.entry(*hash).or_default()[tier as usize].get_or_insert(at);
                    }
                }
                Event::Conflicts { site, open } => self.conflicts.entry(*site).or_default().push((at, *open)),
                Event::Traffic { ways } => {
                    for (from, to, messages, bytes) in ways {
                        let flow = Flow { at, messages: *messages, bytes: *bytes };
                        self.flows.entry((*from, *to)).or_default().push(flow);
                    }
                }
                Event::InStep => {
                    self.in_step.get_or_insert(at);
                }
                Event::Violation { .. } => {}
            }
        }
        for (way, hash) in self.ways.iter_mut().zip(&told) {
            way.arrived = seen.get(hash).copied().unwrap_or_default();
        }
        let starts: Vec<Duration> = self.phases.iter().map(|phase| phase.from).skip(1).chain([self.end]).collect();
        for (phase, to) in self.phases.iter_mut().zip(starts) {
            phase.to = to;
        }
    }

    fn becomes(&mut self, node: NodePlace, at: Duration, what: State) {
        let Some(spans) = self.states.get_mut(node) else { return };
        if let Some(last) = spans.last_mut() {
            last.to = at;
        }
        spans.push(Span { from: at, to: self.end, what });
    }

    fn end_leads(&mut self, node: NodePlace, at: Duration, group: Option<usize>) {
        let end = self.end;
        let Some(spans) = self.leads.get_mut(node) else { return };
        let open = spans.iter_mut().filter(|span| span.to == end && group.is_none_or(|group| span.what.0 == group));
        open.for_each(|span| span.to = at);
    }

    /// A site's level.
    pub(super) fn tier(&self, site: SitePlace) -> Option<Tier> {
        self.sites.get(site).map(|site| site.tier)
    }

    /// A site's name, with its kind in front.
    pub(super) fn name(&self, site: SitePlace) -> String {
        let Some(site) = self.sites.get(site) else { return format!("site {site}") };
        unit(&site.code).map_or_else(|| site.code.clone(), |unit| unit.name.clone())
    }

    /// A node's name for people.
    pub(super) fn node(&self, node: NodePlace) -> String {
        self.outcome.nodes.get(node).map_or_else(|| format!("node {node}"), |(name, _)| name.clone())
    }

    /// The nodes of a site, also those that joined later.
    pub(super) fn nodes_of(&self, site: SitePlace) -> Vec<NodePlace> {
        let nodes = self.outcome.nodes.iter().enumerate();
        nodes.filter(|(_, (_, of))| *of == site).map(|(place, _)| place).collect()
    }

    /// What happened at an entry of the trace, in words; none for what is drawn only.
    pub(super) fn tell(&self, event: &Event) -> Option<String> {
        let name = |site: &SitePlace| self.name(*site);
        let named = |kind: &str, text: &str| {
            let kind = kind.replace('_', " ");
            if text == kind { kind } else { format!("{kind}: {text}") }
        };
        Some(match event {
            Event::Phase { name } => format!("phase “{name}”: {}", super::words::phase(name)),
            Event::FaultBegins { kind, text, nodes, sites, .. } => {
                let places: Vec<String> = if nodes.is_empty() { sites.iter().map(name).collect() } else { Vec::new() };
                let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
                format!("fault begins: {}{places}", named(kind, text))
            }
            Event::FaultEnds { fault } => {
                let fault = self.faults.iter().find(|span| span.what.place == *fault)?;
                format!("fault is over: {}", named(fault.what.kind, &fault.what.text))
            }
            Event::NodeStarts { node } => format!("{} is switched on", self.node(*node)),
            Event::NodeRuns { node } => format!("{} runs", self.node(*node)),
            Event::NodeStops { node, why } => format!("{} stops: {why}", self.node(*node)),
            Event::Leads { node, term, .. } => format!("{} leads its group, term {term}", self.node(*node)),
            Event::Accepted { site, work, record, .. } => {
                format!("{} accepts an edit ({work}) of record {}", name(site), short(record))
            }
            Event::NotAccepted { site, told, .. } => format!("{} does not accept: {told}", name(site)),
            Event::Arrived { site, hashes } => {
                format!("{} holds {} more", name(site), super::html::counted(hashes.len() as u64, "edit"))
            }
            Event::Conflicts { site, open } => {
                format!("{}: {} open", name(site), super::html::counted(*open, "conflict"))
            }
            Event::Traffic { .. } => return None,
            Event::InStep => "all sites are in step".to_owned(),
            Event::Violation { promise, text } => format!("BROKEN PROMISE {promise}: {text}"),
        })
    }
}

/// The beginning of a record's id: enough to tell it from others of a run.
pub(super) fn short(record: &RecordId) -> String {
    record.to_string().chars().take(10).collect()
}
