//! How far up an accepted request is held, on the command line.

use std::time::Duration;

use dinhba_core::ids::{RequestId, ShardId};
use dinhba_core::units::Tier;
use dinhba_proto::v1;
use serde_json::json;

use super::sheet::{Cell, Sheet, Tint, column};
use super::show::plain;
use super::{Desk, Exit, Failure, request};
use crate::client::Client;
use crate::language::{Lang, Message, say};

/// What `held` takes.
#[derive(clap::Args)]
pub struct Held {
    /// The request that was accepted (q-…/1), as it was printed then
    #[arg(value_parser = request)]
    request: RequestId,
    /// The shard that it was sent to (h-…); without it, the one of the caller's unit
    #[arg(long)]
    shard: Option<ShardId>,
    /// Wait until a site of this tier holds it: district, province or central
    #[arg(long, value_parser = tier)]
    until: Option<Tier>,
    /// For how many seconds at most
    #[arg(long, default_value_t = 60, requires = "until")]
    within: u64,
}

fn tier(text: &str) -> Result<Tier, String> {
    Tier::named(text).ok_or_else(|| "write commune, district, province or central".to_owned())
}

pub(super) async fn run(client: &Client, desk: &mut Desk<'_>, command: Held) -> Result<Exit, Failure> {
    let Held { request, shard, until, within } = command;
    let reply = match until {
        None => client.held(request, shard).await?,
        Some(tier) => client.wait_until_held(request, shard, tier, Duration::from_secs(within)).await?,
    };
    desk.show(|lang| table(lang, &reply), || {
        let site = |by: &v1::HeldBy| {
            json!({
                "site": by.site, "unit_code": by.unit_code, "unit_name": by.unit_name, "tier": by.tier, "holds": by.holds,
                "said_ms": by.said_ms,
            })
        };
        json!({ "sites": reply.sites.iter().map(site).collect::<Vec<_>>(), "reached": reply.reached })
    })?;
    match until {
        Some(tier) if !reply.reached => {
            desk.remark(&say!("no-site-holds-it", tier = Message::word("tier", tier.name())));
            Ok(Exit::NotYet)
        }
        _ => Ok(Exit::Done),
    }
}

fn table(lang: Lang, reply: &v1::HeldReply) -> String {
    let columns = [column("tier"), column("site"), column("unit").wraps(12), column("holds-it"), column("said")];
    let mut rows = Sheet::titled(lang, columns);
    for by in &reply.sites {
        let holds = match by.holds {
            true => Cell::from(say!("holds-it").text(lang)).tinted(Tint::Good),
            false => Cell::from(say!("re-establishing").text(lang)).tinted(Tint::Waits),
        };
        let said = match by.said_ms {
            0 => say!("held-now").text(lang),
            at => lang.instant(at),
        };
        let unit = plain(&format!("{} {}", by.unit_code, by.unit_name));
        let tier = Message::word("tier", &by.tier).text(lang);
        let row: [Cell; 5] = [tier.into(), by.site.clone().into(), unit.into(), holds, said.into()];
        rows.add_row(row);
    }
    rows.text()
}
