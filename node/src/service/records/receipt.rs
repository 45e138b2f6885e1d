//! Receipts for others: what a site wrote, under its signature. Making one is a look into the history of its records.

use dinhba_core::command::Looked;
use dinhba_core::edit::{Change, GROUNDS, Header};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::ShardId;
use dinhba_core::registry::{self, AcceptedEdits};
use dinhba_core::schema::FieldId;
use dinhba_core::signed_receipt::SignedReceipt;
use dinhba_proto::v1;
use ed25519_dalek::Signer;
use tonic::Status;

use super::RecordsService;
use crate::service::answer::{broken, not_found, precondition, wrong};
use crate::service::convert::request_from_wire;
use crate::service::{Caller, id};

impl RecordsService {
    pub(super) async fn receipt_of(
        &self,
        caller: &Caller,
        request: v1::ReceiptRequest,
    ) -> Result<v1::ReceiptReply, Status> {
        let name = request_from_wire(request.request).map_err(|text| wrong("request", text.to_owned()))?;
        let shard: ShardId = match request.shard.as_str() {
            "" => self.shard_of("", &caller.claims).await?,
            named => id("shard", named)?,
        };
        let place = self.place_of(shard).await?;
        // Who may not is told so by the log, which keeps the attempt; and it is the barrier of a read: what was acknowledged before is found.
        self.log(caller, Looked::History, place.hosted, Some(shard), [0; 16]).await?;
        let shows = |header: &Header, change: &Change| {
            let is_named = |name: &String| FieldId::named(header.record_kind, name) == Some(change.field);
            match change.field {
                GROUNDS => request.show.iter().any(|name| name == "grounds"),
                _ => request.show.iter().any(is_named),
            }
        };
        let found = place.hosted.look(|view| registry::accepted_edits(view, &place.hosted.context, shard, name, shows));
        let found = found.map_err(|error| broken(&error))?;
        let Some(AcceptedEdits { tip, records, edits, are_made_here }) = found else {
            return Err(not_found("no such request was accepted in this shard, or it is more than 400 days ago"));
        };
        if tip.author.site != self.0.site() {
            return Err(precondition(format!("site {} wrote it, and signs for it: ask there", tip.author.site)));
        }
        if !are_made_here {
            let text = "it came here from a neighbour, after this site had lost it or under its name: nothing is signed anew for that";
            return Err(precondition(text));
        }
        for record in records {
            self.log(caller, Looked::History, place.hosted, Some(shard), record.0).await?;
        }
        let signature = self.0.signing_key.sign(&tip.signed_bytes()).to_bytes();
        Ok(v1::ReceiptReply { receipt: SignedReceipt { tip, signature, edits }.to_bytes() })
    }
}
