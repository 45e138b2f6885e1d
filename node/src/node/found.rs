//! How a site begins, and how a node comes to it: once, on an empty directory, and safe to repeat.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::command::{Adopt, Answer, Command, Form, ShardInfo};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Incarnation, ShardId, UnitId};
use dinhba_core::inject::{is_armed, sometimes};
use dinhba_core::level::LEVEL_FIRST;
use dinhba_core::place::{GroupEntry, KeyEntry, NodeEntry, Place, PlaceEntry, ShardEntry};
use dinhba_core::units::Tier;
use dinhba_proto::peer::v1::App as AppFrame;

use crate::call::{Call, Joined};
use crate::hosted::{Hosted, PROPOSE_WAIT, ProposalFailed};
use crate::place_file::{self, PlaceFile};
use crate::raft::peer::Body;
use crate::runtime;
use crate::shared::{CALL_WAIT, RHYTHM, Shared};

/// Refuses to take part under an id that has joined before: its data is lost, and with it its votes.
///
/// The founder waits until all others take part. So whoever votes in a group has been admitted before the group began, and
/// if it asks again, it has forgotten; and a founding member whose first start is slow is waited for.
pub(super) async fn refuse_a_forgotten_vote(shared: &Shared) -> anyhow::Result<()> {
    let config = &shared.config;
    let others: Vec<_> = config.site.members.iter().filter(|member| member.id != config.node.id).collect();
    let (mut answered, mut said) = (BTreeSet::new(), None);
    while answered.len() < others.len() {
        anyhow::ensure!(!shared.is_stopping(), "the node was stopped before the others of its site had answered");
        for other in others.iter().filter(|other| !answered.contains(&other.id)).collect::<Vec<_>>() {
            let request = Body::App(AppFrame { payload: Call::Joined(config.node.id).to_bytes() });
            let group = other.groups.first().copied().unwrap_or_default();
            let called = shared.pool.call(other.id.0, &other.address.to_string(), group, request, CALL_WAIT).await;
            let Ok(Body::AppAnswer(answer)) = called else { continue };
            let Ok(answer) = Joined::from_bytes(&answer.payload) else { continue };
            if answer.running || !config.site.bootstrap {
                answered.insert(other.id);
            }
            anyhow::ensure!(
                !answer.joined,
                "node.id: {} has joined this site before, and its data directory is empty: a node that lost its data must \
                 not vote under its old name. Remove it (`dinhba site remove-node`), then start with a new id and add it",
                config.node.id
            );
            if answer.formed {
                return Ok(());
            }
        }
        if answered.len() < others.len() {
            if said.replace(answered.len()) != Some(answered.len()) {
                tracing::info!(
                    answered = answered.len(),
                    of = others.len(),
                    "waiting for the other nodes of a new site"
                );
            }
            runtime::sleep(RHYTHM).await;
        }
    }
    Ok(())
}

/// Forms every group of a new site and writes its directory. All steps are repeated safely.
pub(super) async fn found_site(shared: &Shared) -> anyhow::Result<bool> {
    if shared.is_founded() {
        return Ok(true);
    }
    let config = &shared.config;
    let file = match &config.place {
        Some(place) => place_file::read(shared.disk.as_ref(), &place.file)?,
        None => PlaceFile::default(),
    };
    let home_of = |shard: ShardId| {
        file.shards.get(&shard).copied().ok_or_else(|| {
            anyhow::anyhow!("place.file: has no line for the shard {shard} of site.groups; add its home commune")
        })
    };
    let (units, _) = shared.listed_units.with(&file.units);
    for hosted in shared.hosted() {
        let group = hosted.id();
        if hosted.group.status().members.is_empty() {
            let voters = config.site.members.iter().filter(|member| member.groups.contains(&group));
            let voters = voters.map(|member| (member.id, member.address.to_string())).collect();
            if let Err(error) = hosted.group.initialize(voters).await {
                tracing::debug!(%group, %error, "not initialized now");
            }
        }
        // Operators raise the level once every node runs a version that knows more.
        let (index_key, digest_key) = (shared.secrets.index.id, shared.secrets.digest.id);
        let incarnation = Incarnation(runtime::random());
        let form = Form { site: config.node.site, level: LEVEL_FIRST, index_key, digest_key, incarnation };
        done(hosted, Command::Form(form)).await?;
        let shards = config.site.groups.iter().filter(|g| g.id == group).flat_map(|g| &g.shards);
        for shard in shards {
            let unit = home_of(*shard)?;
            if hosted.shard(*shard)?.is_none() {
                let info = ShardInfo { shard: *shard, path: units.path(unit) };
                let (incarnation, epoch) = (Incarnation(runtime::random()), runtime::random());
                done(hosted, Command::Adopt(Adopt { info, incarnation, epoch })).await?;
            }
        }
    }
    let Some(first) = shared.site_group() else { return Ok(false) };
    // What is replicated counts, also if this replica has not shown it yet: the file must not replace it.
    first.group.barrier(PROPOSE_WAIT).await?;
    shared.refresh_place()?;
    let mut entries: Vec<PlaceEntry> = file.sites.values().cloned().map(PlaceEntry::Site).collect();
    let keys = file.keys.iter().map(|(site, public_key)| KeyEntry { site: *site, public_key: *public_key });
    entries.extend(keys.map(PlaceEntry::Key));
    entries.extend(file.units.into_values().map(PlaceEntry::Unit));
    for group in &config.site.groups {
        let members = config.site.members.iter().filter(|member| member.groups.contains(&group.id));
        let members = members.map(|member| member.id).collect();
        entries.push(PlaceEntry::Group(GroupEntry { group: group.id, members }));
        for shard in &group.shards {
            entries.push(PlaceEntry::Shard(ShardEntry { shard: *shard, unit: home_of(*shard)?, group: group.id }));
        }
    }
    let place = shared.place();
    entries.retain(|entry| !is_in(&place, entry));
    if !entries.is_empty() {
        for part in entries.chunks(512) {
            done(first, Command::Place(part.to_vec())).await?;
        }
        tracing::info!(site = %config.node.site, "the site is founded");
    }
    Ok(true)
}

/// Hosts, in the site's first group, what the directory says belongs here and is not here yet: the ancestor shards of the
/// units on the way to this site's and of those below it, and the shards of communes that were added below it. Whether it
/// was for this node to do, as the leader. All steps are repeated safely.
pub(super) async fn adopt_missing(shared: &Shared, place: &Place) -> anyhow::Result<bool> {
    let Some(first) = shared.site_group().filter(|first| first.group.is_leader()) else { return Ok(false) };
    if !shared.is_founded() {
        return Ok(false);
    }
    let mut refused = None;
    for info in belonging(shared, place) {
        let (shard, unit) = (info.shard, info.home());
        if place.shards.contains_key(&shard) {
            continue;
        }
        let (incarnation, epoch) = (Incarnation(runtime::random()), runtime::random());
        let is_ancestor = info.is_ancestor();
        let hosts = async {
            done(first, Command::Adopt(Adopt { info, incarnation, epoch })).await?;
            let entry = ShardEntry { shard, unit, group: first.id() };
            done(first, Command::Place(vec![PlaceEntry::Shard(entry)])).await
        };
        match hosts.await {
            Ok(()) if is_ancestor => tracing::info!(%shard, %unit, "an ancestor shard is hosted from now on"),
            Ok(()) => {
                sometimes("the shard of an added commune is hosted", true);
                tracing::info!(%shard, %unit, "the shard of an added commune is hosted from now on");
            }
            // One that cannot be hosted must not keep the others away.
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(true), |error| Err(error.into()))
}

/// The shards that belong to a site beside those that it was founded with.
fn belonging(shared: &Shared, place: &Place) -> Vec<ShardInfo> {
    let own = shared.config.site.unit;
    // Of a unit that is not known here there is nothing to say.
    let units = shared.units();
    let is_above = |unit: &UnitId| units.get(*unit).is_some_and(|unit| unit.tier != Tier::Commune);
    let mut above: BTreeSet<UnitId> = shared.path(own).into_iter().filter(is_above).collect();
    let mut communes = BTreeMap::new();
    for listed in place.sites.values().filter(|listed| listed.is_active && units.get(listed.unit).is_some()) {
        let path = shared.path(listed.unit);
        if !path.contains(&own) {
            continue;
        }
        above.extend(path.iter().copied().filter(is_above));
        if let (Some(shard), false) = (listed.shard, is_above(&listed.unit) || is_armed("added-commune-not-hosted")) {
            communes.insert(shard, ShardInfo { shard, path });
        }
    }
    let ancestors = above.into_iter().map(|unit| ShardInfo::of_unit_above(shared.path(unit)));
    // A record cannot make an ancestor shard of what is none.
    ancestors.chain(communes.into_values().filter(|info| !info.is_ancestor())).collect()
}

fn is_in(place: &Place, entry: &PlaceEntry) -> bool {
    match entry {
        PlaceEntry::Site(entry) => place.sites.contains_key(&entry.site),
        PlaceEntry::Node(entry) => place.nodes.contains_key(&entry.node),
        PlaceEntry::Group(entry) => place.groups.contains_key(&entry.group),
        PlaceEntry::Shard(entry) => place.shards.contains_key(&entry.shard),
        PlaceEntry::Unit(unit) => place.units.contains_key(&unit.id),
        // Of a site of which something was said since, the founding file says nothing more.
        PlaceEntry::Key(KeyEntry { site, public_key }) => {
            place.sites.get(site).is_some_and(|listed| listed.said.is_some() || listed.keys.contains(public_key))
        }
    }
}

/// Writes this node into the directory when it has joined, listens elsewhere than before, or runs a version that knows another
/// feature level. Not if it is to leave: its id is
/// spent, and what is proposed in vain is an entry of the log all the same.
pub(super) async fn register_node(shared: &Shared) -> anyhow::Result<()> {
    let (config, place) = (&shared.config, shared.place());
    let Some(first) = shared.site_group() else { return Ok(()) };
    let is_member = first.group.status().members.contains_key(&config.node.id);
    let entry = NodeEntry {
        node: config.node.id,
        address: config.node.advertise.to_string(),
        present: true,
        level_max: shared.level_max,
    };
    let known = place.nodes.get(&entry.node);
    if known.is_some_and(|known| !known.present) {
        return Ok(());
    }
    if is_member && first.state()?.is_some() && known != Some(&entry) {
        done(first, Command::Place(vec![PlaceEntry::Node(entry)])).await?;
    }
    Ok(())
}

async fn done(hosted: &Hosted, command: Command) -> Result<(), ProposalFailed> {
    match hosted.propose(command).await? {
        (Answer::Done(_), _) => Ok(()),
        (Answer::Refused(refusal), _) => Err(ProposalFailed::NotAccepted(refusal.text)),
        (other, _) => Err(ProposalFailed::NotAccepted(format!("unexpected answer {other:?}"))),
    }
}
