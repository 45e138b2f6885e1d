//! Backups: adding to an archive, and looking whether it is whole.
//!
//! The files are the node's frames as they came; what they hold of people stays sealed. After a break the same command goes
//! on where it stopped.

use std::path::Path;

use dinhba_core::archive::Frame;
use dinhba_core::date::InstantMs;
use dinhba_core::ids::SiteId;
use futures::StreamExt;
use serde_json::{Value as Json, json};

use super::sheet::{Sheet, column};
use super::{Desk, Exit, Failure};
use crate::archive::{Archive, Backup, Writer};
use crate::client::Client;
use crate::error::Error;
use crate::language::{Lang, instant, say};
use crate::request::Context;

/// Adds a backup to the archive in `dir`.
pub(super) async fn take(dir: &Path, client: &Client, context: &Context, desk: &mut Desk<'_>) -> Result<(), Failure> {
    let reply = client.status(context).await?;
    let site: SiteId = reply.site.parse().map_err(|_| Error::Protocol("a status that names no site"))?;
    let mut writer = Writer::begin(dir, site)?;
    if writer.resumed() {
        desk.remark(&say!("backup-goes-on"));
    }
    let before: u64 = edits(writer.reached().iter().map(|((_, shard), (position, _))| (shard.is_some(), *position)));
    let mut frames = std::pin::pin!(client.backup(context, site, writer.reached().clone()));
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Piece(piece) => writer.add(piece)?,
            Frame::Summary(summary) => {
                let backup = writer.finish(summary)?;
                let added = backup.summary.edits().saturating_sub(before);
                return desk.show(
                    |lang| {
                        let (file, until) = (backup.path.display(), instant(backup.summary.taken_ms));
                        say!("backup-taken", file = file, added = added, bytes = backup.bytes, until = until).text(lang)
                    },
                    || backup_json(&backup),
                );
            }
            Frame::Begin(_) => return Err(Error::Protocol("the beginning of a backup in its middle").into()),
        }
    }
    Err(Error::Protocol("a backup without a summary").into())
}

fn edits(logs: impl Iterator<Item = (bool, u64)>) -> u64 {
    logs.filter(|(of_shard, _)| *of_shard).map(|(_, position)| position).sum()
}

fn taken(backup: &Backup) -> InstantMs {
    InstantMs(backup.summary.taken_ms)
}

fn backup_json(backup: &Backup) -> Json {
    let Backup { path, begin, summary, hash, bytes } = backup;
    json!({
        "file": path, "site": begin.site.to_string(), "number": begin.number, "node": summary.node.to_string(),
        "taken_at": taken(backup).to_string(), "edits": summary.edits(), "bytes": bytes, "hash": hash.to_string(),
    })
}

/// Reads every byte of the archive in `dir` and lists its backups.
pub(super) fn verify(dir: &Path, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let backups = Archive::open(dir)?.verify()?;
    let table = |lang: Lang| {
        let columns = [
            column("backup").number(),
            column("up-to"),
            column("edits-in-all").number(),
            column("bytes").number(),
            column("hash").spare(1),
        ];
        let mut table = Sheet::titled(lang, columns);
        for backup in &backups {
            table.add_row([
                backup.begin.number.to_string(),
                lang.instant(backup.summary.taken_ms),
                backup.summary.edits().to_string(),
                backup.bytes.to_string(),
                backup.hash.to_string(),
            ]);
        }
        table.text()
    };
    desk.show(table, || json!({ "backups": backups.iter().map(backup_json).collect::<Vec<_>>() }))?;
    desk.remark(&say!("archive-is-whole"));
    Ok(Exit::Done)
}
