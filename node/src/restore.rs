//! A site founded anew from an archive of its backups: `dinhba restore`.
//!
//! Offline, into a data directory that is absent or empty. Every edit is folded again, so what comes of it is checked
//! against the last backup's summary: positions, hashes, digests and counts. The directory that results is that of a site of
//! one node whose Raft log begins after its state; further nodes are added as to any site. Its former nodes are spent. The
//! site is a new incarnation from the start, so it numbers no edit again that was accepted after the backup; those that its
//! parent or its children hold come back at the first contact.
//!
//! If anything does not fit, or the disk is full, what was written is removed again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use dinhba_client::archive::{Archive, ArchiveError, Backup};
use dinhba_core::archive::{
    Content, FRAME_BYTES_MAX, GroupSummary, Life, LogName, Piece, RefillError, refill_accesses, refill_edits, refound,
};
use dinhba_core::date::InstantMs;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, Incarnation, NodeId, ShardId, SiteId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::place::{GroupEntry, NodeEntry, PlaceEntry};
use dinhba_core::registry::Context;
use dinhba_core::store::{LogEngine, StateEngine, StoreError};
use openraft::Vote;
use serde_json::{Value as Json, json};

use crate::config::Config;
use crate::datadir::Restoring;
use crate::disk::{Disk, RealDisk};
use crate::log::GroupCommit;
use crate::node::{owner_of, snapshots_of};
use crate::raft::stored::{position_batch, write_snapshot};
use crate::raft::types::{LogId, Membership, Node, SnapshotMeta, StoredMembership, encode_vote};
use crate::runtime;
use crate::seal::{Keyed, Sealer, Unsealed};
use crate::secrets::Secrets;
use crate::state::{self, EngineKind};

/// The longest content of a frame, before compression: edits are compressed to a fraction, and none is larger than this.
const CONTENT_BYTES_MAX: usize = 16 * FRAME_BYTES_MAX;

/// The term in which the restored state is said to have been written; the node's first own one is the next.
const TERM: u64 = 1;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    site: SiteId,
    node: NodeId,
    data_dir: PathBuf,
    has_parent: bool,
    /// Backups in the archive.
    backups: usize,
    /// When the last of them was taken, UTC milliseconds.
    taken_ms: i64,
    /// Each shard with its edits, those that the archive has beyond `until`, persons and households.
    shards: BTreeMap<ShardId, [u64; 4]>,
}

#[derive(Debug, thiserror::Error)]
enum PutBack {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Refill(#[from] RefillError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Unopened(String),
}

/// Restores a site into `config`'s data directory from the archive in `dir`; with `until`, without what any site received
/// later. On an error nothing is changed.
pub fn restore(config: &Config, secrets: &Secrets, dir: &Path, until: Option<InstantMs>) -> anyhow::Result<Restored> {
    let archive = Archive::open(dir)?;
    let backups = archive.verify()?;
    let last = backups.last().context("an archive without a backup")?;
    check_configuration(config, last)?;
    let sealer = Keyed::for_backups(&secrets.backup);
    let places = open_places(last, &sealer)?;
    let places = renewed_places(places, last, config)?;
    for group in &last.summary.groups {
        anyhow::ensure!(
            group.digest_key == secrets.digest.id,
            "site.secrets: the archive's digests are under digest key {}, and this file has {}: restore it with that key",
            group.digest_key,
            secrets.digest.id
        );
    }
    let restoring = Restoring::begin(&config.node.data_dir, &owner_of(config)).context("node.data_dir")?;
    let shards = {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let kind: EngineKind = config.storage.engine.name().parse()?;
        let filled = || -> anyhow::Result<_> {
            let state = state::open(kind, &restoring.path().join("state"), Arc::new(Unsealed))?;
            let log = GroupCommit::open(Arc::clone(&disk), &restoring.path().join("log"), Arc::new(Unsealed))?;
            let refilling = Refilling { config, secrets, sealer: &sealer, state: &*state, last };
            let shards = refilling.put_back(&archive, &backups, &places, until)?;
            refilling.found(&*log)?;
            // The log holds nothing that a state which is lost at the first start could be made of.
            for group in last.summary.groups.iter().map(|group| group.group) {
                let snapshots = snapshots_of(restoring.path(), group);
                write_snapshot(Arc::clone(&state), group, Arc::clone(&disk), &snapshots)?;
            }
            state.close()?;
            Ok(shards)
        };
        filled().context("nothing was restored, and what was written is removed again")?
    };
    restoring.finish().context("node.data_dir")?;
    Ok(Restored {
        site: config.node.site,
        node: config.node.id,
        data_dir: config.node.data_dir.clone(),
        has_parent: config.parent.is_some(),
        backups: backups.len(),
        taken_ms: last.summary.taken_ms,
        shards,
    })
}

/// Whether the configuration is of the archive's site, with all its groups and shards.
fn check_configuration(config: &Config, last: &Backup) -> anyhow::Result<()> {
    let summary = &last.summary;
    anyhow::ensure!(
        summary.site == config.node.site,
        "the archive is of site {}, and node.site is {}: restore it with that site's configuration and secrets",
        summary.site,
        config.node.site
    );
    anyhow::ensure!(
        config.storage.engine.name() != "memory",
        "storage.engine: \"memory\" keeps nothing: choose \"fjall\", \"lsm\" or \"sled\""
    );
    for group in &summary.groups {
        anyhow::ensure!(
            group.level <= LEVEL_MAX,
            "the archive is of feature level {}, and this version knows levels up to {LEVEL_MAX}: use a newer version",
            group.level
        );
        let listed = config.site.groups.iter().find(|listed| listed.id == group.group);
        let listed: BTreeSet<ShardId> = listed.iter().flat_map(|listed| &listed.shards).copied().collect();
        // What came to the site after its founding stands in no configuration.
        let held = group.shards.iter().map(|shard| &shard.info).filter(|info| !info.is_added());
        let held: BTreeSet<ShardId> = held.map(|info| info.shard).collect();
        let added = group.shards.iter().map(|shard| &shard.info).filter(|info| info.is_added());
        let added: BTreeSet<ShardId> = added.map(|info| info.shard).collect();
        let listed: BTreeSet<ShardId> = listed.difference(&added).copied().collect();
        let text = || held.iter().map(|shard| format!("\"{shard}\"")).collect::<Vec<_>>().join(", ");
        anyhow::ensure!(
            listed == held,
            "site.groups: the archive has the group {} with other shards than are listed: write shards = [{}]",
            group.group,
            text()
        );
    }
    let of_site = |id: GroupId| summary.groups.iter().any(|group| group.group == id);
    let unknown = config.site.groups.iter().find(|listed| !of_site(listed.id));
    anyhow::ensure!(
        unknown.is_none(),
        "site.groups: the archive has no group {}: leave it out",
        unknown.map(|listed| listed.id).unwrap_or_default()
    );
    let own = config.site.members.iter().find(|member| member.id == config.node.id);
    anyhow::ensure!(
        own.is_none_or(|own| summary.groups.iter().all(|group| own.groups.contains(&group.group))),
        "site.members: the first node of a restored site hosts all its groups: list them for {}",
        config.node.id
    );
    Ok(())
}

fn open_places(last: &Backup, sealer: &dyn Sealer) -> anyhow::Result<Vec<PlaceEntry>> {
    let bytes = opened(sealer, &last.summary.place(), &last.summary.sealed).map_err(|why| {
        anyhow::anyhow!(
            "site.secrets: {} cannot be opened with these keys ({why}): a backup opens only with the backup key that the \
             site had when it was taken",
            last.path.display()
        )
    })?;
    Vec::<PlaceEntry>::from_bytes(&bytes).with_context(|| format!("the directory in {}", last.path.display()))
}

/// The directory of the site that comes back: this node alone, and the former ones spent.
fn renewed_places(places: Vec<PlaceEntry>, last: &Backup, config: &Config) -> anyhow::Result<Vec<PlaceEntry>> {
    let own = config.node.id;
    let mut nodes: BTreeMap<NodeId, NodeEntry> = BTreeMap::new();
    // Members register themselves a moment after they have joined.
    for node in last.summary.groups.iter().flat_map(|group| &group.members) {
        nodes.insert(*node, NodeEntry { node: *node, address: String::new(), present: true, level_max: 0 });
    }
    nodes.extend(places.iter().filter_map(|entry| match entry {
        PlaceEntry::Node(node) => Some((node.node, node.clone())),
        _ => None,
    }));
    if let Some(former) = nodes.get(&own) {
        anyhow::ensure!(
            nodes.len() == 1 && former.present,
            "node.id: {own} was one of several nodes of this site, and the others may still know its votes: give the node \
             a new id, with a certificate of its own"
        );
    }
    let renew = |entry| match entry {
        PlaceEntry::Node(_) => None,
        PlaceEntry::Group(group) => Some(PlaceEntry::Group(GroupEntry { members: vec![own], ..group })),
        other => Some(other),
    };
    let nodes = nodes.into_values().map(|node| PlaceEntry::Node(NodeEntry { present: node.node == own, ..node }));
    Ok(places.into_iter().filter_map(renew).chain(nodes).collect())
}

fn opened(sealer: &dyn Sealer, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
    let packed = sealer.open(place, sealed).map_err(|error| error.to_string())?;
    zstd::bulk::decompress(&packed, CONTENT_BYTES_MAX).map_err(|error| format!("it does not decompress: {error}"))
}

/// The work on an empty state.
struct Refilling<'a> {
    config: &'a Config,
    secrets: &'a Secrets,
    sealer: &'a dyn Sealer,
    state: &'a dyn StateEngine,
    last: &'a Backup,
}

impl Refilling<'_> {
    fn context(&self, group: GroupId) -> Context {
        self.secrets.context(group, LEVEL_MAX)
    }

    /// Puts everything back and checks what it folds to.
    fn put_back(
        &self,
        archive: &Archive,
        backups: &[Backup],
        places: &[PlaceEntry],
        until: Option<InstantMs>,
    ) -> anyhow::Result<BTreeMap<ShardId, [u64; 4]>> {
        for (number, group) in self.last.summary.groups.iter().enumerate() {
            let life = || Life { incarnation: Incarnation(runtime::random()), epoch: runtime::random() };
            let lives = &group.shards.iter().map(|shard| (shard.info.shard, life())).collect();
            let incarnation = Incarnation(runtime::random());
            // The first group keeps the directory.
            let places = if number == 0 { places } else { &[] };
            let batch = {
                let view = self.state.snapshot()?;
                refound(&*view, &self.context(group.group), self.last.summary.site, group, (incarnation, lives), places)
            };
            self.state.apply(batch)?;
        }
        let mut cut = BTreeSet::new();
        for backup in backups {
            let number = backup.begin.number;
            archive
                .read(number, None, |piece| self.put_piece(piece, until, &mut cut))
                .with_context(|| format!("{} cannot be put back", backup.path.display()))?;
        }
        let mut shards = BTreeMap::new();
        for group in &self.last.summary.groups {
            self.compare(group, &cut, &mut shards)?;
        }
        Ok(shards)
    }

    fn put_piece(&self, piece: Piece, until: Option<InstantMs>, cut: &mut BTreeSet<LogName>) -> Result<(), PutBack> {
        if cut.contains(&piece.log()) {
            return Ok(());
        }
        let unopened = |why: String| PutBack::Unopened(format!("positions {} to {}: {why}", piece.after + 1, piece.to));
        let bytes = opened(self.sealer, &piece.place(self.last.summary.site), &piece.sealed).map_err(unopened)?;
        let content = Content::from_bytes(&bytes).map_err(|error| unopened(error.to_string()))?;
        let context = self.context(piece.group);
        let batch = {
            let view = self.state.snapshot()?;
            match (content, piece.shard) {
                (Content::Edits(edits), Some(_)) => {
                    let until = until.map(|until| until.0);
                    let (batch, is_whole) = refill_edits(&*view, &context, &piece, edits, until)?;
                    if !is_whole {
                        cut.insert(piece.log());
                    }
                    batch
                }
                (Content::Accesses(accesses), None) => refill_accesses(&*view, &context, &piece, &accesses)?,
                _ => return Err(unopened("it is of another log than it says".to_owned())),
            }
        };
        Ok(self.state.apply(batch)?)
    }

    /// Whether the group is what the last backup says, but for logs that were cut.
    fn compare(
        &self,
        wanted: &GroupSummary,
        cut: &BTreeSet<LogName>,
        shards: &mut BTreeMap<ShardId, [u64; 4]>,
    ) -> anyhow::Result<()> {
        let found = GroupSummary::read(&*self.state.snapshot()?, wanted.group, wanted.applied, wanted.members.clone())?;
        let found = found.with_context(|| format!("{} was not put back", wanted.group))?;
        let accesses = |group: &GroupSummary| (group.level, group.accesses, group.access_hash);
        anyhow::ensure!(
            accesses(&found) == accesses(wanted),
            "{} has another access log than its backup",
            wanted.group
        );
        anyhow::ensure!(found.shards.len() == wanted.shards.len(), "{} has other shards than its backup", wanted.group);
        for (found, wanted_shard) in found.shards.iter().zip(&wanted.shards) {
            let shard = found.info.shard;
            let mut wanted_now = wanted_shard.clone();
            wanted_now.incarnation = found.incarnation;
            anyhow::ensure!(
                *found == wanted_now || cut.contains(&(wanted.group, Some(shard))),
                "{shard} does not fold to what its backup says (edits {} of {}, persons {} of {}, conflicts {} of {}): \
                 use the version that took the backup, and report this",
                found.edits,
                wanted_shard.edits,
                found.persons,
                wanted_shard.persons,
                found.conflicts,
                wanted_shard.conflicts
            );
            let left_out = wanted_shard.edits - found.edits;
            shards.insert(shard, [found.edits, left_out, found.persons, found.households]);
        }
        Ok(())
    }

    /// Makes of the state a site of one node: it is its only voter, and its log begins after the state.
    fn found(&self, log: &dyn LogEngine) -> Result<(), StoreError> {
        // What was put back is durable before anything says that it is there.
        self.state.sync()?;
        let node = self.config.node.id.0;
        let address = self.config.node.advertise.to_string();
        let at = LogId::new_term_index(TERM, 1);
        let members = Membership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, Node { address })]));
        let members = members.expect("the only voter is a member");
        let position =
            SnapshotMeta { last_log_id: Some(at), last_membership: StoredMembership::new(Some(at), members) };
        for group in &self.last.summary.groups {
            let (done, saved) = std::sync::mpsc::channel();
            let vote = encode_vote(&Vote::new(TERM, node));
            log.save_vote(group.group, vote, Box::new(move |result| drop(done.send(result))));
            saved.recv().unwrap_or_else(|_| Err(StoreError::Io("the log's writer ended".to_owned())))?;
            self.state.apply(position_batch(group.group, &position))?;
        }
        self.state.sync()
    }
}

impl Restored {
    /// For programs.
    #[must_use]
    pub fn json(&self) -> Json {
        let shards = self.shards.iter().map(|(shard, [edits, left_out, persons, households])| {
            json!({
                "shard": shard.to_string(), "edits": edits, "edits_left_out": left_out, "persons": persons,
                "households": households,
            })
        });
        json!({
            "site": self.site.to_string(), "node": self.node.to_string(), "data_dir": self.data_dir,
            "backups": self.backups, "taken_at": InstantMs(self.taken_ms).to_string(),
            "shards": shards.collect::<Vec<_>>(),
        })
    }

    /// For people: what was done, and what to do next.
    #[must_use]
    pub fn text(&self, config: &Path) -> String {
        let mut lines = vec![format!(
            "{} is restored into {} from {} backups, the last of {}, as a new incarnation",
            self.site,
            self.data_dir.display(),
            self.backups,
            InstantMs(self.taken_ms)
        )];
        for (shard, [edits, left_out, persons, households]) in &self.shards {
            let without = if *left_out > 0 { format!(", {left_out} later edits left out") } else { String::new() };
            lines.push(format!("  {shard}: {edits} edits, {persons} persons, {households} households{without}"));
        }
        lines.push("next:".to_owned());
        lines.push("  make sure that no former node of this site runs: their ids are spent".to_owned());
        lines.push(format!("  start it: dinhba node --config {}", config.display()));
        if self.has_parent {
            lines
                .push("  what its parent holds beyond the backup comes back by itself: see `dinhba status`".to_owned());
        }
        lines.push(
            "  if sites below name this one's nodes under [parent], give them the new node and restart them".to_owned(),
        );
        lines.push("  add further nodes with new ids, whose site.members names this node alone: dinhba site add-node, then promote-node"
                .to_owned());
        lines.join("\n")
    }
}
