//! What nodes hold, compared with what officers were told.
//!
//! Checks, for a shard at a node: every acknowledged request is there with all its edits, each once, numbered as its receipt
//! says and with its hash; the numbers of every author are 1, 2, 3 and so on without a gap, though some may be there twice
//! where a restored backup made a chain fork.
//! Not checked: that what nobody was told is absent; a request without an answer may have been accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dinhba_client::Context;
use dinhba_core::claims::Role;
use dinhba_core::ids::ShardId;
use dinhba_proto::v1;
use futures::StreamExt;

use crate::country::{Country, NodePlan, eventually};
use crate::officer::{Dot, Ledger, dot_of};

/// How long sites may take to agree once nothing stands in their way.
pub const AGREE_WAIT: Duration = Duration::from_secs(40);

/// How long a node may take to send a shard's whole history.
const FEED_WAIT: Duration = Duration::from_secs(30);

/// The status of a shard at a node.
pub async fn shard_status(country: &Country, code: &str, node: &NodePlan, shard: ShardId) -> Option<v1::ShardStatus> {
    let status = country.status(code, node).await?;
    let mut shards = status.groups.into_iter().flat_map(|group| group.shards);
    shards.find(|found| found.shard == shard.to_string())
}

/// What two replicas that agree have in common.
type Fingerprint = (Vec<(Vec<u8>, u64, Vec<u8>)>, Vec<u8>, Vec<u8>);

fn fingerprint(status: &v1::ShardStatus) -> Fingerprint {
    let heads = status.heads.iter().map(|head| (head.author.clone(), head.number, head.hash.clone())).collect();
    (heads, status.edits_digest.clone(), status.state_digest.clone())
}

/// Waits until a shard has equal heads and digests at all nodes of these sites; returns its status.
pub async fn agree(country: &Country, codes: &[&str], shard: ShardId) -> v1::ShardStatus {
    let nodes: Vec<(&str, NodePlan)> =
        codes.iter().flat_map(|code| country.sites[*code].nodes.iter().map(|node| (*code, node.clone()))).collect();
    agree_at(country, &nodes, shard).await
}

/// Waits until a shard has equal heads and digests at these nodes; returns its status.
pub async fn agree_at(country: &Country, nodes: &[(&str, NodePlan)], shard: ShardId) -> v1::ShardStatus {
    let mut last = None;
    eventually(&format!("{shard} is equal at {} nodes", nodes.len()), AGREE_WAIT, async || {
        let mut seen = BTreeSet::new();
        for (code, node) in nodes {
            let Some(status) = shard_status(country, code, node, shard).await else { return false };
            seen.insert(fingerprint(&status));
            last = Some(status);
        }
        seen.len() == 1
    })
    .await;
    last.expect("at least one node was asked")
}

/// Waits until a child's status proves a shard in step with the parent.
pub async fn in_step(country: &Country, code: &str, shard: ShardId) {
    let leader = country.leader(code).await;
    let node = country.node(code, leader);
    eventually(&format!("{shard} of {code} is in step"), AGREE_WAIT, async || {
        shard_status(country, code, &node, shard).await.is_some_and(|status| status.step == "in_step")
    })
    .await;
}

/// A shard's whole change feed at one node, read as a registrar of `unit`.
pub async fn feed(country: &Country, code: &str, node: &NodePlan, shard: ShardId, unit: &str) -> Vec<v1::Entry> {
    let status = shard_status(country, code, node, shard).await.expect("the node tells its status");
    let client = country.client([node], Role::Registrar, unit);
    let context = Context::parse("verification", "KT-1").expect("a purpose and a case");
    let entries = client.watch(&context, Some(shard), 1).take(usize::try_from(status.edits).expect("a small shard"));
    let entries: Vec<_> = tokio::time::timeout(FEED_WAIT, entries.collect()).await.expect("the feed ends in time");
    entries.into_iter().collect::<Result<_, _>>().expect("the feed has no error")
}

/// What is wrong with a node's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// An acknowledged request is not there.
    Lost(String),
    /// Of a request's edits some are there and some are not.
    Half(String),
    /// A request is there otherwise than its receipt says: under other dots, twice, with another hash.
    Differs(String),
    /// The numbers of an author have a gap.
    Gap(String),
}

impl Wrong {
    /// What it is, in words.
    #[must_use]
    pub fn text(&self) -> &str {
        let (Wrong::Lost(text) | Wrong::Half(text) | Wrong::Differs(text) | Wrong::Gap(text)) = self;
        text
    }
}

fn by_request(entries: &[v1::Entry]) -> BTreeMap<(Vec<u8>, u64), Vec<&v1::Entry>> {
    let mut found: BTreeMap<(Vec<u8>, u64), Vec<&v1::Entry>> = BTreeMap::new();
    // Of a request that was accepted twice, one acceptance counts.
    for entry in entries.iter().filter(|entry| entry.set_aside != "twin") {
        if let Some(request) = &entry.request {
            found.entry((request.session.clone(), request.counter)).or_default().push(entry);
        }
    }
    found
}

/// The dot that its author gave an edit, whatever it is called now.
fn numbered(entry: &v1::Entry) -> Dot {
    dot_of(entry.numbered_as.as_ref().or(entry.dot.as_ref()))
}

/// The requests in `entries` of which the ledger was told nothing.
#[must_use]
pub fn strangers(entries: &[v1::Entry], ledger: &Ledger) -> Vec<(Vec<u8>, u64)> {
    let told = ledger.told();
    let known: BTreeSet<(Vec<u8>, u64)> =
        told.keys().map(|request| (request.session.0.to_vec(), request.counter)).collect();
    by_request(entries).into_keys().filter(|request| !known.contains(request)).collect()
}

/// Compares `entries` with what the ledger was told of this shard: each request is there once, and the numbers are without
/// gaps.
#[must_use]
pub fn compare(entries: &[v1::Entry], ledger: &Ledger, shard: ShardId) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut numbers: BTreeMap<Vec<u8>, BTreeSet<u64>> = BTreeMap::new();
    for entry in entries {
        let (author, number) = numbered(entry);
        numbers.entry(author).or_default().insert(number);
    }
    for (author, numbers) in numbers {
        if !numbers.iter().copied().eq(1..=numbers.len() as u64) {
            wrong.push(Wrong::Gap(format!("the numbers of author {author:02x?} in {shard} are {numbers:?}")));
        }
    }
    let by_request = by_request(entries);
    for (request, told) in ledger.told().iter().filter(|(_, told)| told.shard == shard.to_string()) {
        let mut found = by_request.get(&(request.session.0.to_vec(), request.counter)).cloned().unwrap_or_default();
        found.sort_by_key(|entry| numbered(entry).1);
        let dots: Vec<Dot> = found.iter().map(|entry| numbered(entry)).collect();
        let (author, first) = &told.first;
        let expected: Vec<Dot> = (0..u64::from(told.count)).map(|at| (author.clone(), first + at)).collect();
        let text = format!("request {request} in {shard} has the edits {dots:02x?}, its receipt says {expected:02x?}");
        if dots.is_empty() {
            wrong.push(Wrong::Lost(text));
        } else if dots.len() < expected.len() {
            wrong.push(Wrong::Half(text));
        } else if dots != expected {
            wrong.push(Wrong::Differs(text));
        } else if found.last().map(|entry| &entry.hash) != Some(&told.hash) {
            wrong.push(Wrong::Differs(format!("request {request} in {shard} is not what its receipt says")));
        }
    }
    wrong
}

/// Panics unless what the ledger was told of this shard is in `entries`, once, and the numbers are without gaps.
pub fn holds(place: &str, entries: &[v1::Entry], ledger: &Ledger, shard: ShardId) {
    let wrong = compare(entries, ledger, shard);
    assert!(wrong.is_empty(), "{place}: {}", wrong[0].text());
}

/// Panics unless every node of these sites holds what the ledger was told of `shard`, as a registrar of `unit` reads it.
pub async fn all_hold(country: &Country, codes: &[&str], shard: ShardId, unit: &str, ledger: &Ledger) {
    for code in codes {
        for node in &country.sites[*code].nodes {
            let entries = feed(country, code, node, shard, unit).await;
            holds(&format!("{} of {code}", node.id), &entries, ledger, shard);
        }
    }
}
