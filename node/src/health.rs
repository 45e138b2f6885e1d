//! Whether this node is well: one answer, for `/healthz`, the standard gRPC health service, the status and the metrics.
//!
//! Well is proved, not assumed: within [`unproved_max`](crate::raft::group::Settings::unproved_max) (two election timeouts) the
//! node's disk has answered a flush and has room, and of each group here it was seen that a proposal which came in here would
//! pass ([`Group::prove`](crate::raft::group::Group::prove)). What is known to be wrong counts at once: a replica that has
//! stopped, a disk that refused, a node that was removed from its site or has not caught up since it started.
//!
//! Nothing is written to prove it: the disk is asked to flush what is there already, and the groups by messages beside their
//! heartbeats. So an idle site costs its disks no bytes, and what only a write would meet (an engine that hangs while nobody
//! writes) shows with the first write that meets it.
//!
//! Leaves to others: to say it ([`crate::server`], [`crate::service`], [`crate::metrics`]).

use std::sync::Arc;
use std::time::Duration;

use dinhba_core::encoding::Wire;
use dinhba_core::ids::NodeId;
use dinhba_core::store::StoreError;
use dinhba_proto::peer::v1::App as AppFrame;
use futures::channel::oneshot;
use openraft_rt::watch::WatchReceiver;

use crate::call::{Call, Joined};
use crate::hosted::Hosted;
use crate::node::remedy;
use crate::proof::Spell;
use crate::raft::peer::Body;
use crate::runtime;
use crate::shared::Shared;

/// Less room than this is no room: the next segment of the log, the largest entry in it, and what the state's engine writes
/// beside them.
pub const FREE_BYTES_MIN: u64 = 32 << 20;

/// How long another node may take to say whether this one was removed.
const ASK_WAIT: Duration = Duration::from_secs(1);

/// What to do with a node that was removed.
pub(crate) const LEFT: &str = "this node was removed from its site for good: stop it. Its id is spent; a node that is to join needs a new \
     id and an empty data directory";

impl Shared {
    /// Why this node is not well, if it is not.
    pub fn health(&self) -> Result<(), String> {
        if self.is_stopping() {
            return Err("the node is stopping".to_owned());
        }
        if self.has_left() {
            return Err(LEFT.to_owned());
        }
        self.certificate_health()?;
        if self.hosted().next().is_none() {
            return Err("the node is starting".to_owned());
        }
        self.disk_proof.verdict()?;
        self.room_proof.verdict()?;
        let mut sick = self.hosted().filter_map(|hosted| self.group_health(hosted).err().map(|why| (hosted.id(), why)));
        if let Some((group, why)) = sick.next() {
            let others = match sick.count() {
                0 => String::new(),
                count => format!(" (and {count} more groups are not well)"),
            };
            return Err(format!("{group}: {why}{others}"));
        }
        if !self.has_caught_up() {
            return Err("the node has not caught up with its site since it started".to_owned());
        }
        Ok(())
    }

    /// Why a group here is not well, if it is not.
    pub fn group_health(&self, hosted: &Hosted) -> Result<(), String> {
        if self.has_left() {
            return Err(LEFT.to_owned());
        }
        let status = hosted.group.status();
        if status.stopped.is_none() && !status.members.contains_key(&self.config.node.id) {
            let why = if status.members.is_empty() {
                "it has not begun here: found the site, or add this node to it"
            } else {
                "this node is no member of it: add it, or stop it"
            };
            return Err(why.to_owned());
        }
        if let Some(why) = status.stopped {
            let remedy = if status.heals {
                String::new()
            } else {
                format!("; when the cause is mended restart the node; {}", remedy(&self.config, self.has_others()))
            };
            return Err(format!("this replica has stopped: {why}{remedy}"));
        }
        hosted.group.health()?;
        hosted.readable()
    }
}

/// Keeps the proofs fresh until the node stops.
pub(crate) async fn keep(shared: Arc<Shared>) {
    // A proof may miss its turn three times before it is too old.
    let every = shared.disk_proof.limit() / 4;
    runtime::spawn("disk's health", keep_disk(Arc::clone(&shared), every));
    let mut started = false;
    let mut said = false;
    while !shared.is_stopping() {
        if !started && shared.hosted().next().is_some() {
            started = true;
            for hosted in shared.hosted() {
                runtime::spawn("group's health", keep_group(Arc::clone(&shared), hosted.clone(), every));
            }
        }
        if started && !said && was_removed(&shared).await {
            said = true;
            shared.leave();
            tracing::error!(node = %shared.config.node.id, site = %shared.site(), "{LEFT}");
        }
        pause(&shared, every).await;
    }
}

/// Waits for the next of the moments at which all that is due `every` so often is done.
async fn pause(shared: &Shared, every: Duration) {
    let mut stopping = shared.stopping();
    let next = shared.pool.next_beat(every);
    // Either the time has come, or the node stops.
    let _ = runtime::timeout_at(next, WatchReceiver::changed(&mut stopping)).await;
}

async fn keep_group(shared: Arc<Shared>, hosted: Hosted, every: Duration) {
    let (group, spell, mut was_well) = (hosted.id(), Spell::default(), false);
    while !shared.is_stopping() {
        hosted.group.prove(2 * every).await;
        match shared.group_health(&hosted) {
            // A group that has just started is not ill.
            Err(why) if was_well && spell.failed() => tracing::error!(%group, why, "not well"),
            Err(_) => {}
            Ok(()) => {
                was_well = true;
                if let Some(spell) = spell.ended() {
                    tracing::info!(%group, ?spell, "well again");
                }
            }
        }
        pause(&shared, every).await;
    }
}

/// Asks the disk again and again. One question at a time: a disk that hangs is not asked more.
async fn keep_disk(shared: Arc<Shared>, every: Duration) {
    shared.disk_proof.begin();
    shared.room_proof.begin();
    let spell = Spell::default();
    let look = || match shared.disk_proof.overdue().and_then(|()| shared.room_proof.overdue()) {
        Err(why) if spell.failed() => tracing::error!(why, "the disk is not well"),
        Err(_) => {}
        Ok(()) => {
            if let Some(spell) = spell.ended() {
                tracing::info!(?spell, "the disk is well again");
            }
        }
    };
    while !shared.is_stopping() {
        let Some(log) = shared.log.upgrade() else { return };
        let asked = runtime::now();
        let (told, mut answer) = oneshot::channel();
        // Another caller may hold the log while the disk hangs; this thread is then not missed.
        runtime::blocking(|| log.touch(Box::new(move |outcome| _ = told.send(outcome))));
        drop(log);
        let outcome = loop {
            match runtime::timeout(every, &mut answer).await {
                Ok(outcome) => {
                    break outcome.unwrap_or_else(|_| Err(StoreError::Poisoned("its writer ended".to_owned())));
                }
                Err(_) if shared.is_stopping() => return,
                Err(_) => {
                    shared.disk_proof.failed("a flush has begun and does not end: look at the disk");
                    look();
                }
            }
        };
        match outcome {
            Ok(()) => {
                shared.disk_proof.worked(asked);
                match room(&shared) {
                    Ok(()) => shared.room_proof.worked(asked),
                    Err(error) => shared.room_proof.refused(error.to_string()),
                }
            }
            Err(error) => shared.disk_proof.refused(error.to_string()),
        }
        look();
        pause(&shared, every).await;
    }
}

/// Whether a node was removed, if it can tell by itself: by whether its id is spent, and by whether each group has it as a
/// member and follows a leader that proves that proposals pass.
fn knows_whether_removed(is_spent: bool, seats: impl Iterator<Item = (bool, bool)>) -> Option<bool> {
    let seats: Vec<(bool, bool)> = seats.collect();
    if is_spent && seats.iter().all(|(is_member, _)| !is_member) {
        return Some(true);
    }
    // Of a group that took it out no leader would prove anything to it.
    let is_at_work = seats.iter().any(|(is_member, is_well)| *is_member && *is_well);
    (is_at_work || seats.iter().all(|(_, is_well)| *is_well)).then_some(false)
}

/// An error if there is no room to speak of. What is left is written to all the same: only health counts it.
fn room(shared: &Shared) -> Result<(), StoreError> {
    let dir = &shared.config.node.data_dir;
    match runtime::blocking(|| shared.disk.free_bytes(dir))? {
        free if free < FREE_BYTES_MIN => {
            Err(StoreError::Full(format!("{free} bytes are left at {}, {FREE_BYTES_MIN} are needed", dir.display())))
        }
        _ => Ok(()),
    }
}

/// Whether the site has taken this node out: its id is spent, and no membership in force has it any more. What it knows itself
/// may say so; one that was away then has to ask. A removal that was begun and not carried out leaves a voter, which its site
/// may need.
async fn was_removed(shared: &Shared) -> bool {
    let here = shared.config.node.id;
    let seats = shared.hosted().map(|hosted| {
        let (is_member, is_well) = (hosted.group.status().members.contains_key(&here), hosted.group.health().is_ok());
        (is_member, is_well)
    });
    let is_spent = shared.place().nodes.get(&here).is_some_and(|entry| !entry.present);
    if let Some(left) = knows_whether_removed(is_spent, seats) {
        return left;
    }
    let Some(sick) = shared.hosted().find(|hosted| hosted.group.health().is_err()) else { return false };
    let configured = shared.config.site.members.iter().map(|member| (member.id, member.address.to_string()));
    let members = sick.group.status().members.into_iter().map(|(node, (address, _))| (node, address));
    let others: std::collections::BTreeMap<NodeId, String> = configured.chain(members).collect();
    for (node, address) in others.into_iter().filter(|(node, _)| *node != here) {
        let question = Body::App(AppFrame { payload: Call::Joined(here).to_bytes() });
        let answer = shared.pool.call(node.0, &address, sick.id(), question, ASK_WAIT).await;
        if let Ok(Body::AppAnswer(answer)) = answer
            && Joined::from_bytes(&answer.payload).is_ok_and(|joined| joined.left)
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_still_votes_has_not_left() {
        let knows = |is_spent, seats: &[(bool, bool)]| knows_whether_removed(is_spent, seats.iter().copied());
        // Registered as gone, and the change of members was refused or is still to come: it is needed.
        assert_eq!(knows(true, &[(true, true)]), Some(false));
        assert_eq!(knows(true, &[(false, false), (true, true)]), Some(false));
        assert_eq!(knows(true, &[(false, false), (false, true)]), Some(true));
        // Its leader may have gone on without it, and it has not heard.
        assert_eq!(knows(true, &[(true, false)]), None);
        assert_eq!(knows(false, &[(true, false)]), None);
        assert_eq!(knows(false, &[(true, false), (true, true)]), Some(false));
        assert_eq!(knows(false, &[(true, true)]), Some(false));
    }
}
