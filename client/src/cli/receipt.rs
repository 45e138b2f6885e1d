//! Receipts for others on the command line: made by the site that wrote the edits, checked by anybody.

use std::fs;
use std::path::PathBuf;

use dinhba_core::date::InstantMs;
use dinhba_core::edit::GROUNDS;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{RequestId, ShardId, SiteId};
use dinhba_core::schema::display;
use dinhba_core::signed_receipt::SignedReceipt;
use serde_json::{Value as Json, json};

use super::export::directory;
use super::{Desk, Exit, Failure, key, request, show};
use crate::client::Client;
use crate::language::{Message, instant, say};
use crate::receipt::verify;
use crate::request::Context;

/// What `receipt` takes.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Receipt {
    #[command(subcommand)]
    pub(super) check: Option<Check>,
    /// The request that was accepted (q-…/1), as it was printed then
    #[arg(required = true, value_parser = request)]
    request: Option<RequestId>,
    /// The shard that it was sent to (h-…); without it, the one of the caller's unit
    #[arg(long)]
    shard: Option<ShardId>,
    /// Fields whose new values are shown, with commas between; grounds are one. Of all others it is only proved that something
    /// stands there
    #[arg(long, value_delimiter = ',')]
    show: Vec<String>,
    /// The file; without it, the standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// What can be asked of a receipt.
#[derive(clap::Subcommand)]
pub enum Check {
    /// Checks a receipt with the public key of the site that signed it; needs no connection
    Verify {
        /// The file
        file: PathBuf,
        /// The site that signed it (s-…)
        #[arg(long)]
        site: SiteId,
        /// The site's key: 64 hex digits, as `dinhba site list` shows them
        #[arg(long, value_parser = key)]
        public_key: [u8; 32],
    },
}

/// Makes one.
pub(super) async fn make(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    command: Receipt,
) -> Result<(), Failure> {
    let request = command.request.ok_or_else(|| Failure::usage(say!("name-request")))?;
    let receipt = client.receipt(context, request, command.shard, &command.show).await?;
    let text = format!("{}\n", show::hex(&receipt.to_bytes()));
    match command.output {
        None => {
            desk.out.write_all(text.as_bytes())?;
            Ok(desk.out.flush()?)
        }
        Some(path) => {
            let failed = |error| Failure::of_file(&path, error);
            fs::write(&path, text).map_err(failed)?;
            desk.show(
                |lang| say!("receipt-made", file = path.display(), count = receipt.edits.len()).text(lang),
                || json!({ "file": path.display().to_string(), "edits": receipt.edits.len() }),
            )
        }
    }
}

/// Checks one.
pub(super) fn check(command: &Check, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let Check::Verify { file, site, public_key } = command;
    let failed = |error| Failure::of_file(file, error);
    let text = fs::read_to_string(file).map_err(failed)?;
    let no_receipt = || Failure::usage(say!("no-receipt", file = file.display()));
    let bytes = show::bytes_of(text.trim()).ok_or_else(no_receipt)?;
    let receipt = SignedReceipt::from_bytes(&bytes).map_err(|_| no_receipt())?;
    let proved = verify(&receipt, *site, public_key);
    let proved = proved.map_err(|why| {
        Failure::usage(say!("proves-nothing", file = file.display(), why = Message::from(why.to_string())))
    })?;
    let units = directory()?;
    let mut lines = Vec::new();
    let mut objects = Vec::new();
    for ((header, shown), edit) in proved.iter().zip(&receipt.edits) {
        let origin = &header.origin;
        let at = InstantMs(origin.received_ms).to_string();
        lines.push(Message::plain(format!("{} ({})", header.event.label(), header.event.name())));
        lines.push(say!(
            "receipt-edit",
            kind = Message::word("kind", header.record_kind.name()),
            record = header.record,
            number = header.number,
            site = header.author.site,
            shard = header.author.shard,
        ));
        lines.push(say!(
            "receipt-by",
            subject = origin.claims.subject.to_string(),
            role = Message::word("role", origin.claims.role.to_string()),
            at = instant(origin.received_ms),
            purpose = Message::word("purpose", origin.purpose.to_string()),
            case = origin.case.to_string(),
        ));
        let mut changes = Vec::new();
        for change in shown {
            let (name, value) = match change.field {
                GROUNDS => ("grounds".to_owned(), String::from_utf8_lossy(&change.value).into_owned()),
                field => (field.to_string(), display(field, &change.value, &units)),
            };
            let element = String::from_utf8_lossy(&change.element).into_owned();
            lines.push(Message::plain(format!("  {} = {value}", show::field_name(&name, &element))));
            changes.push(json!({ "field": name, "element": element, "value": value }));
        }
        let withheld = edit.changes.len() - shown.len();
        if withheld > 0 {
            lines.push(say!("receipt-withheld", count = withheld));
        }
        objects.push(json!({
            "event": header.event.name(), "record": header.record.to_string(), "site": header.author.site.to_string(), "shard": header.author.shard.to_string(),
            "kind": header.kind.name(),
            "number": header.number, "received": at, "subject": origin.claims.subject.to_string(), "changes": changes,
            "withheld": withheld,
        }));
    }
    lines.push(say!("receipt-holds"));
    let text = |lang| lines.iter().map(|line| line.text(lang)).collect::<Vec<_>>().join("\n");
    desk.show(|lang| show::plain(&text(lang)), || Json::Array(objects))?;
    Ok(Exit::Done)
}
