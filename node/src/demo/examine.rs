//! Reading back what every node holds, all of it, and comparing it with what clients were told.
//!
//! Promises: nothing here comes from a node's own figures: the history is read edit by edit and the records value by value,
//! from each node that hosts a shard, leader or not, over a connection to that node alone. Leaves to others: the
//! comparison (`oracle`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dinhba_client::{Client, Context, Limits};
use dinhba_core::claims::Role;
use dinhba_core::event::Event;
use dinhba_core::ids::{NodeId, RecordId, RequestId, ShardId};
use dinhba_proto::v1;
use futures::{StreamExt, stream};

use super::layout::{Country, NodePlan};
use super::officers::{Ledger, changes, dot_of, field_named, next_within, request_of};
use super::oracle::{Copy, Dot, Entry, Problem, Shown, Told};

/// Nodes that are read at once: enough to keep two cores busy, few enough for their memory.
const READ_AT_ONCE: usize = 3;
/// How long a history may fall silent before the node says that it is at its end: generous, since a machine that is busy
/// with other things must not look like one that lost something.
const SILENCE: Duration = Duration::from_secs(20);
/// The same, once everything has come that the node claims to have: then only a miscount can bring more.
const SILENCE_AT_END: Duration = Duration::from_secs(1);
/// Attempts to read one copy; a stream may break while leaders change.
const ATTEMPTS: usize = 3;
/// What all copies together come to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Copies of shards that were read.
    pub copies: usize,
    /// Edits read from them.
    pub edits_read: usize,
    /// Records read from them.
    pub records_read: usize,
    /// Acknowledged edits that some node does not hold, or whose value is gone there.
    pub lost: BTreeSet<Told>,
    /// Acknowledged edits that every node of the centre holds.
    pub at_centre: usize,
    /// The personal numbers that offices gave of themselves, and to whom.
    pub given: BTreeSet<(String, RecordId)>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// Reads every copy of every shard.
pub async fn examine(country: &Country, ledger: &Ledger, progress: impl Fn(usize, usize)) -> Result<Verdict> {
    let mut nodes: Vec<(usize, &NodePlan)> = Vec::new();
    for (at, site) in country.sites.iter().enumerate() {
        nodes.extend(site.nodes.iter().map(|node| (at, node)));
    }
    let counts = ledger.oracle().per_shard();
    let all = nodes.len();
    let mut examined = stream::iter(nodes.into_iter().map(|(at, node)| {
        let (country, counts, node) = (country.clone(), counts.clone(), node.clone());
        // A task of its own, so that decoding uses all cores.
        crate::runtime::spawn("examining a node", async move {
            let client = country.client_of(std::iter::once(&node), 0, Role::Registrar, Limits::default())?;
            let mut copies = Vec::new();
            for shard in country.sites[at].shards() {
                let expected = counts.get(&shard).copied().unwrap_or(0);
                copies.push((shard, read_copy(&client, shard, expected).await));
            }
            anyhow::Ok((at, node.id, copies))
        })
    }))
    .buffer_unordered(READ_AT_ONCE);

    let mut verdict = Verdict::default();
    let mut digests: BTreeMap<ShardId, BTreeMap<[u8; 32], Vec<NodeId>>> = BTreeMap::new();
    let mut at_centre: Option<BTreeSet<Told>> = None;
    // The same loss shows at many nodes.
    let mut problems: BTreeMap<(ShardId, Problem), BTreeMap<usize, usize>> = BTreeMap::new();
    let mut done = 0;
    while let Some(joined) = examined.next().await {
        let (at, node, copies) = joined??;
        let site = &country.sites[at];
        let mut found: BTreeSet<Told> = BTreeSet::new();
        for (shard, copy) in copies {
            let copy = match copy {
                Ok(copy) => copy,
                Err(error) => {
                    verdict
                        .problems
                        .push(format!("{}, node {node}, shard {shard}: cannot be read: {error:#}", site.name));
                    continue;
                }
            };
            let findings = ledger.oracle().examine(shard, &copy);
            verdict.copies += 1;
            verdict.edits_read += copy.entries.len();
            verdict.records_read += copy.records.len();
            verdict.given.extend(findings.given);
            verdict.lost.extend(findings.problems.iter().filter_map(Problem::loses));
            for problem in findings.problems {
                *problems.entry((shard, problem)).or_default().entry(at).or_default() += 1;
            }
            digests.entry(shard).or_default().entry(findings.digest).or_default().push(node);
            found.extend(findings.found);
        }
        if site.parent.is_none() {
            at_centre =
                Some(at_centre.map_or_else(|| found.clone(), |before| before.intersection(&found).copied().collect()));
        }
        done += 1;
        progress(done, all);
    }
    for ((shard, problem), places) in &problems {
        let places: Vec<String> =
            places.iter().map(|(at, nodes)| format!("{} ({nodes})", country.sites[*at].name)).collect();
        verdict.problems.push(format!("{shard}: {problem}; at (nodes): {}", places.join(", ")));
    }
    for (shard, copies) in digests.iter().filter(|(_, copies)| copies.len() > 1) {
        let groups: Vec<String> = copies.values().map(|nodes| format!("{nodes:?}")).collect();
        verdict.problems.push(format!("shard {shard}: nodes hold different copies: {}", groups.join(" against ")));
    }
    let numbers: BTreeSet<&String> = verdict.given.iter().map(|(number, _)| number).collect();
    if numbers.len() < verdict.given.len() {
        let twice = verdict.given.len() - numbers.len();
        verdict.problems.push(format!("{twice} personal numbers were given to a second person"));
    }
    verdict.at_centre = at_centre.map_or(0, |found| found.len());
    Ok(verdict)
}

async fn read_copy(client: &Client, shard: ShardId, expected: u64) -> Result<Copy> {
    let context = Context::parse("inspection", "KT-2024-001")?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match read_once(client, &context, shard, expected).await {
            Ok(copy) => return Ok(copy),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("at least one attempt was made")?)
}

async fn read_once(client: &Client, context: &Context, shard: ShardId, expected: u64) -> Result<Copy> {
    let mut copy = Copy::default();
    // The node may hold more than anybody was told of: its own count says how far to read at least, never how little.
    let status = client.status(context).await?;
    let claimed = status.groups.iter().flat_map(|group| &group.shards).filter(|there| there.shard == shard.to_string());
    let claimed = claimed.map(|there| there.edits).max().unwrap_or(0);
    let mut history = std::pin::pin!(client.watch(context, Some(shard), 1));
    let (mut read, mut position) = (0, 0);
    while read < claimed.max(expected) {
        let silence = if read < claimed { SILENCE } else { SILENCE_AT_END };
        let Some(entry) = next_within(&mut history, silence).await else { break };
        let entry = entry?;
        if entry.position <= position {
            bail!("the history is out of order at position {}", entry.position);
        }
        (read, position) = (read + 1, entry.position);
        let (dot, entry) = entry_of(&entry)?;
        if copy.entries.insert(dot, entry).is_some() {
            bail!("edit {} of {} is in the history twice", dot.1, dot.0);
        }
    }
    let mut pages = std::pin::pin!(client.export(context, Some(shard)));
    let mut records = Vec::new();
    while let Some(page) = pages.next().await {
        records.extend(page?.records);
    }
    for record in records {
        let shown = copy.records.entry(record.id.parse()?).or_default();
        for field in &record.fields {
            let mut at = Shown { disputed: field.disputed, ..Shown::default() };
            for value in &field.values {
                at.values.insert(dot_of(value.dot.as_ref().context("a value without a dot")?)?, value.value.clone());
            }
            shown.cells.insert((field_named(&record.kind, &field.field)?, field.element.clone()), at);
        }
        shown.broken_rules = record.broken_rules;
    }
    Ok(copy)
}

fn entry_of(wire: &v1::Entry) -> Result<(Dot, Entry)> {
    let request: RequestId = request_of(wire.request.as_ref()).context("an edit without a request")?;
    let entry = Entry {
        record: wire.record.parse()?,
        request,
        changes: changes(&wire.record_kind, &wire.changes)?,
        hash: wire.hash.clone(),
        set_aside: !wire.set_aside.is_empty(),
        gives_number: wire.role == Role::Site.name() && wire.event == Event::NumberAssigned.name(),
        numbered_as: wire.numbered_as.as_ref().map(dot_of).transpose()?,
    };
    Ok((dot_of(wire.dot.as_ref().context("an edit without a dot")?)?, entry))
}
