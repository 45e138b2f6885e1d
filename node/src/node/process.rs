//! A node as a process: what `dinhba node` opens, in which order, and what it says if that cannot be.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dinhba_core::ids::GroupId;
use dinhba_core::store::{LogEngine, StateEngine, StoreError};
use dinhba_core::units::Directory;
use futures::FutureExt;
use futures::future::Either;

use super::{Node, Seams};
use crate::config::Config;
use crate::datadir::{DataDir, Owner};
use crate::disk::{Disk, RealDisk};
use crate::log::{GroupCommit, LOST_VOTE, refuse_lost};
use crate::pki::SiteKeys;
use crate::raft::group::StartError;
use crate::raft::stored::ENGINE_DAMAGED;
use crate::runtime;
use crate::seal::Unsealed;
use crate::secrets::Secrets;
use crate::state::{self, EngineKind};
use crate::tls::Door;
use crate::{pki, server};

/// How long open connections may go on when the node stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// The country whose units are built in.
const COUNTRY: &str = "vietnam";

/// Opens the state in the data directory. If the engine's own files are damaged, as it says itself or as a replica found that
/// could not replace its part, they are set aside, and the groups fill new ones from their snapshots and logs; a group that
/// cannot says so and refuses to start. Never without the votes: a node that has neither state nor vote looks like a new one.
fn open_state(
    kind: EngineKind,
    data: &Path,
    config: &Config,
    log: &dyn LogEngine,
) -> anyhow::Result<Arc<dyn StateEngine>> {
    let dir = data.join("state");
    let open = || state::open(kind, &dir, Arc::new(Unsealed));
    let marks: Vec<PathBuf> = config.site.groups.iter().map(|group| snapshots_of(data, group.id)).collect();
    let marks: Vec<PathBuf> =
        marks.into_iter().map(|dir| dir.join(ENGINE_DAMAGED)).filter(|mark| mark.exists()).collect();
    let damage = if marks.is_empty() {
        match open() {
            Err(damage @ StoreError::Corrupt { .. }) => damage.to_string(),
            opened => return Ok(opened?),
        }
    } else {
        "a replica could not replace its part of it".to_owned()
    };
    let lost = |what: String| StoreError::Corrupt {
        place: dir.display().to_string(),
        detail: format!("{damage}; and {what}: {LOST_VOTE}"),
    };
    let groups = log.groups()?;
    for group in &groups {
        if log.state(*group)?.vote.is_none() {
            return Err(lost(format!("the log has no vote of {group}")).into());
        }
    }
    if groups.is_empty() {
        return Err(lost("the log is empty".to_owned()).into());
    }
    let aside = data.join("state.damaged");
    tracing::warn!(%damage, aside = %aside.display(), "the state is set aside, and made again from snapshots and log");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).with_context(|| aside.display().to_string())?;
    }
    std::fs::rename(&dir, &aside).with_context(|| dir.display().to_string())?;
    let opened = open()?;
    for mark in marks {
        std::fs::remove_file(&mark).with_context(|| mark.display().to_string())?;
    }
    Ok(opened)
}

/// What to do about a node whose data cannot be used: it depends on whether others of its site have it.
pub(crate) fn remedy(config: &Config, has_others: bool) -> String {
    let node = config.node.id;
    if has_others {
        return format!(
            "if that is damage, the others of its site have what it had: remove this node (`dinhba site remove-node {node}`), and \
             add one with a new id and an empty data directory; if a majority of them is damaged, restore the site from an \
             archive (`dinhba restore`)"
        );
    }
    let parent = match &config.parent {
        Some(parent) => format!(
            ", or move its data directory away and start it empty: its parent {} gives back what it holds, and what it had not \
             sent up is lost",
            parent.site
        ),
        None => String::new(),
    };
    format!(
        "if that is damage, no other node of this site has what it had: restore it from an archive (`dinhba restore`){parent}"
    )
}

/// A start that failed over what lies in the data directory, with what to do.
pub(super) fn with_remedy(config: &Config, error: anyhow::Error) -> anyhow::Error {
    let is_damage = |error: &StoreError| matches!(error, StoreError::Corrupt { .. });
    let damaged = error.downcast_ref::<StoreError>().is_some_and(is_damage)
        || matches!(error.downcast_ref::<StartError>(), Some(StartError::Store(error)) if is_damage(error));
    if damaged {
        let has_others = config.site.members.iter().any(|member| member.id != config.node.id);
        return anyhow::anyhow!("{error:#}; {}", remedy(config, has_others));
    }
    error
}

/// Where the snapshots of a group lie in a data directory.
pub(crate) fn snapshots_of(data: &Path, group: GroupId) -> PathBuf {
    data.join("snapshots").join(group.to_string())
}

/// Whose data directory a node of this configuration has.
pub(crate) fn owner_of(config: &Config) -> Owner {
    Owner { node: config.node.id, site: config.node.site, engine: config.storage.engine, country: COUNTRY.to_owned() }
}

/// Runs a node of this configuration until `stop` resolves: the whole of `dinhba node`. It works at feature levels up to
/// `level_max`.
pub async fn run(
    config: Config,
    level_max: u16,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let told = config.clone();
    run_here(config, level_max, stop).await.map_err(|error| with_remedy(&told, error))
}

async fn run_here(
    config: Config,
    level_max: u16,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let signing = pki::read_signing_key(&config.site.signing_key)?;
    let keys = SiteKeys { signing, secrets: Secrets::read(&config.site.secrets).context("site.secrets")? };
    let door = Door::open(&config)?;
    // First the port: it is the error that people make most, and nothing on the disk is touched by it.
    let incoming = door.listen(&config.node.listen)?;
    let data = DataDir::open(&config.node.data_dir, &owner_of(&config)).context("node.data_dir")?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let kind: EngineKind = config.storage.engine.name().parse()?;
    let log_dir = data.path().join("log");
    if data.is_admitted() {
        refuse_lost(&*disk, &log_dir)?;
    }
    let log = GroupCommit::open(Arc::clone(&disk), &log_dir, Arc::new(Unsealed))?;
    let mut seams = Seams {
        state: open_state(kind, data.path(), &config, &*log)?,
        log,
        disk,
        snapshots: data.path().join("snapshots"),
        dial: door.dialer(),
        is_new: !data.is_admitted(),
        directory: Arc::new(Directory::vietnam()?),
        level_max,
    };
    let state = Arc::clone(&seams.state);
    let node = Arc::new(Node::prepare(config, &seams, keys));
    let (closed, closing) = futures::channel::oneshot::channel::<()>();
    let serving = runtime::spawn("server", server::serve(Arc::clone(&node), door, incoming, closing));
    let mut stop = std::pin::pin!(stop.fuse());
    // The only part of a start that may wait for others, so the only one that must be left on request.
    let admission = async {
        if seams.is_new {
            node.admit().await?;
            data.admit()?;
        }
        anyhow::Ok(())
    };
    let admitted = match futures::future::select(std::pin::pin!(admission), stop.as_mut()).await {
        Either::Left((admitted, _)) => Some(admitted),
        Either::Right(_) => None,
    };
    seams.is_new = false;
    let result = match admitted {
        Some(Ok(())) => match node.start(seams).await {
            Ok(()) => {
                tracing::info!("the node has started, and catches up with its site");
                stop.await;
                tracing::info!("stopping");
                Ok(())
            }
            Err(error) => Err(error),
        },
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    node.stop().await;
    let _ = closed.send(());
    let _ = runtime::timeout(STOP_WAIT, serving).await;
    // Not left to a drop: tasks that are abandoned still hold it.
    if let Err(error) = runtime::blocking(|| state.close()) {
        tracing::error!(%error, "the state could not be closed");
    }
    drop(data);
    result
}
