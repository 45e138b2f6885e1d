//! Which feature levels the nodes of a site know: asked before a level is raised, and before a node is let in that would stop
//! at once.
//!
//! What a node knows it says in the directory, whenever it starts with a version that knows another level. The check here is
//! the leader's door for a moment that passes: between it and the entry of the log a node may be started with an older version.
//! The first group's directory is looked at once more where the entry is applied; whoever meets a level above its own stops,
//! loses nothing, and goes on with a newer version.

use std::collections::BTreeMap;
use std::time::Duration;

use dinhba_core::command::Nothing;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::NodeId;
use dinhba_core::place::{NodeEntry, PlaceEntry, knows};
use dinhba_core::registry::read_range;
use dinhba_core::store::StoreError;
use dinhba_proto::peer::v1::App as AppFrame;
use tonic::Status;

use super::SiteService;
use super::answer::{broken, not_accepted, precondition};
use crate::call::Call;
use crate::raft::peer::Body;
use crate::runtime;

/// How long a node that is about to be let in may take to answer: it was started a moment ago, and opens its door first.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Pause before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl SiteService {
    /// What the nodes of the site said of themselves. One that does not run the first group said it in another.
    pub(super) fn said_of_nodes(&self) -> Result<BTreeMap<NodeId, NodeEntry>, StoreError> {
        let mut said = BTreeMap::new();
        for hosted in self.0.hosted() {
            for (_, entry) in hosted.look(|view| read_range::<PlaceEntry>(view, hosted.keys().places()))? {
                if let PlaceEntry::Node(entry) = entry {
                    said.entry(entry.node).or_insert(entry);
                }
            }
        }
        Ok(said)
    }

    /// Refuses a level that a member in force of one of the groups does not know, as far as this replica has heard.
    pub(super) async fn check_all_know(&self, level: u16) -> Result<(), Status> {
        let said = self.said_of_nodes().map_err(|error| broken(&error))?;
        for hosted in self.0.hosted() {
            if hosted.level().map_err(|error| broken(&error))? >= level {
                continue;
            }
            for node in hosted.group.members().await.map_err(not_accepted)?.into_keys() {
                let known = said.get(&node).map_or(0, |entry| entry.level_max);
                knows(node, known, level).map_err(|why| precondition(format!("{}: {why}", hosted.id())))?;
            }
        }
        Ok(())
    }

    /// Refuses a node that does not know the level of each group here: it would stop as soon as it had caught up.
    pub(super) async fn check_knows_ours(&self, node: NodeId, address: &str) -> Result<(), Status> {
        let mut level = 0;
        for hosted in self.0.hosted() {
            level = level.max(hosted.level().map_err(|error| broken(&error))?);
        }
        let said = self.said_of_nodes().map_err(|error| broken(&error))?;
        let known = match said.get(&node) {
            Some(entry) if entry.level_max > 0 => entry.level_max,
            _ if node == self.0.config.node.id => self.0.level_max,
            _ => self.ask_level_max(node, address).await?,
        };
        knows(node, known, level).map_err(precondition)
    }

    /// Asks a node that this site has not heard of.
    async fn ask_level_max(&self, node: NodeId, address: &str) -> Result<u16, Status> {
        let group = self.0.site_group().map(crate::hosted::Hosted::id).unwrap_or_default();
        let deadline = runtime::now() + ANSWER_WAIT;
        loop {
            let request = Body::App(AppFrame { payload: Call::LevelMax(Nothing).to_bytes() });
            let why = match self.0.pool.call(node.0, address, group, request, deadline - runtime::now()).await {
                Ok(Body::AppAnswer(answer)) => match u16::from_bytes(&answer.payload) {
                    Ok(known) => return Ok(known),
                    Err(error) => error.to_string(),
                },
                Ok(Body::Failure(failure)) => failure.detail,
                Ok(other) => format!("it answered {other:?}"),
                Err(error) => error.to_string(),
            };
            if runtime::now() + ASK_AGAIN >= deadline {
                return Err(precondition(format!(
                    "{node} does not say at {address} which feature levels it knows ({why}); nothing was changed: start it, \
                     with a version that can tell, and do this again"
                )));
            }
            runtime::sleep(ASK_AGAIN).await;
        }
    }
}
