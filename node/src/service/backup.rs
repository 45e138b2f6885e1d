//! Giving a backup out: what an archive does not hold yet, page by page, while the site works.
//!
//! Both kinds of log only grow, so the end of each is noted once, in one view of all groups, and then they are read up to
//! there, in as many views as it takes. Nothing is kept for a caller who breaks off: it asks again from where it stands, at
//! any node. What it holds of people is compressed and sealed before it leaves. An operator may ask, since none of it can be
//! read; each group's access log says so first, and that entry is also what makes this replica show all that was
//! acknowledged before.

use std::collections::VecDeque;
use std::sync::Arc;

use dinhba_core::access_log::Looked;
use dinhba_core::archive::{
    Frame, GroupSummary, LogName, Piece, Reached, Summary, directory, goes_through, log_text, next_piece,
};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, Hash, NodeId, ShardId};
use dinhba_core::store::StoreError;
use dinhba_proto::v1::{BackupPosition, BackupReply, BackupRequest};
use futures::stream::{self, BoxStream, StreamExt};
use tonic::Status;

use super::answer::{broken, denied, failed, not_accepted, precondition, wrong};
use super::{Caller, all_groups_here, id, up_to_date};
use crate::raft::stored::read_position;
use crate::runtime;
use crate::seal::{Keyed, Sealer};
use crate::shared::Shared;

/// zstd's own default: twice as small as none, several times as fast as the disk that it is written to.
const COMPRESSION: i32 = 3;

/// One log on its way: where it stands, and where it ends.
struct Course {
    log: LogName,
    after: u64,
    last: u64,
}

pub(super) async fn stream(
    shared: Arc<Shared>,
    caller: &Caller,
    request: BackupRequest,
) -> Result<BoxStream<'static, Result<BackupReply, Status>>, Status> {
    if !request.site.is_empty() && request.site != shared.site().to_string() {
        let text = format!("the archive is of site {}, and this is {}: ask its own nodes", request.site, shared.site());
        return Err(wrong("site", text));
    }
    let held: Result<Reached, Status> = request.held.iter().map(position).collect();
    let held = held?;
    all_groups_here(&shared).await?;
    let taken_ms = runtime::utc_ms();
    log_it(&shared, caller).await?;
    let sealer = Arc::new(Keyed::for_backups(&shared.secrets.backup));
    let summary = summarize(&shared, &held, &*sealer, taken_ms)?;
    let courses: VecDeque<Course> = summary
        .reached()
        .into_iter()
        .map(|(log, (last, _))| Course { log, after: held.get(&log).map_or(0, |(after, _)| *after), last })
        .collect();
    let frames = stream::try_unfold((courses, Some(summary)), move |(mut courses, mut summary)| {
        let next = next_frame(&shared, &*sealer, &mut courses, &mut summary);
        let item = next.map(|frame| frame.map(|frame| (BackupReply { frame: frame.to_bytes() }, (courses, summary))));
        async move { item.map_err(|error| broken(&error)) }
    });
    Ok(frames.boxed())
}

/// A place in a log that the caller holds.
fn position(held: &BackupPosition) -> Result<(LogName, (u64, Hash)), Status> {
    let group: GroupId = id("group", &held.group)?;
    let shard: Option<ShardId> = if held.shard.is_empty() { None } else { Some(id("shard", &held.shard)?) };
    let hash = <[u8; 32]>::try_from(&held.hash[..]).map_err(|_| wrong("held", "hash: give its 32 bytes"))?;
    Ok(((group, shard), (held.position, Hash(hash))))
}

/// Says in each group's access log that a backup is taken. Afterwards this replica shows all that was acknowledged before.
async fn log_it(shared: &Shared, caller: &Caller) -> Result<(), Status> {
    for hosted in shared.hosted() {
        let has_none = || Ok::<_, Status>(hosted.shards().map_err(|error| broken(&error))?.is_empty());
        if has_none()? {
            up_to_date(hosted).await?;
            // Those that came here by now are given out as well.
            if has_none()? {
                continue;
            }
        }
        let entry = caller.entry(Looked::Backup, None, [0; 16]);
        if hosted.log_accesses(vec![entry]).await.map_err(failed)? != [true] {
            let text = format!("a backup needs an operator of all units of {}: ask one", hosted.id());
            return Err(denied(text));
        }
    }
    Ok(())
}

/// Where all logs end, in one view; refuses an archive that they do not go through.
fn summarize(shared: &Shared, held: &Reached, sealer: &dyn Sealer, taken_ms: i64) -> Result<Summary, Status> {
    let Some(first) = shared.site_group() else { return Err(not_accepted("the node is starting")) };
    let read = first.look(|view| {
        let mut groups = Vec::new();
        for hosted in shared.hosted() {
            let position = read_position(view, hosted.id())?;
            let applied = position.last_log_id.map_or(0, |last| last.index);
            let members = position.last_membership.nodes().map(|(node, _)| NodeId(*node)).collect();
            groups.push(GroupSummary::read(view, hosted.id(), applied, members)?);
        }
        for (log, at) in held {
            if !goes_through(view, *log, *at)? {
                return Ok(Err(log_text(*log)));
            }
        }
        Ok(Ok((groups, directory(view, first.id())?)))
    });
    let (groups, places) = read.map_err(|error| broken(&error))?.map_err(|log| {
        let text = format!(
            "the archive holds another past of this site ({log}): the site was restored from an earlier backup since. \
             Keep that archive, and begin a new one in an empty directory"
        );
        precondition(text)
    })?;
    let groups: Option<Vec<GroupSummary>> = groups.into_iter().collect();
    let groups = groups.ok_or_else(|| not_accepted("the site is not founded yet: try again in a moment"))?;
    let mut summary =
        Summary { site: shared.site(), node: shared.config.node.id, taken_ms, groups, sealed: Vec::new() };
    summary.sealed = sealed(sealer, &summary.place(), &places).map_err(|error| broken(&error))?;
    Ok(summary)
}

/// The next frame: a page of the first log that has not reached its end, or the summary; nothing after that.
fn next_frame(
    shared: &Shared,
    sealer: &dyn Sealer,
    courses: &mut VecDeque<Course>,
    summary: &mut Option<Summary>,
) -> Result<Option<Frame>, StoreError> {
    while let Some(course) = courses.front_mut() {
        let Some(hosted) = shared.group(course.log.0) else { break };
        let Some((piece, content)) = hosted.look(|view| next_piece(view, course.log, course.after, course.last))?
        else {
            courses.pop_front();
            continue;
        };
        course.after = piece.to;
        let sealed = sealed(sealer, &piece.place(shared.site()), &content.to_bytes())?;
        return Ok(Some(Frame::Piece(Piece { sealed, ..piece })));
    }
    Ok(summary.take().map(Frame::Summary))
}

fn sealed(sealer: &dyn Sealer, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    let packed = runtime::blocking(|| zstd::bulk::compress(plain, COMPRESSION));
    Ok(sealer.seal(place, &packed.map_err(|error| StoreError::Io(format!("zstd: {error}")))?))
}
