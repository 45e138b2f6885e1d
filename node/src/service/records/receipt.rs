//! Receipts for others: what a site wrote, under its signature. Making one is a look into the history of its records.

use dinhba_core::access_log::Looked;
use dinhba_core::edit::{Change, GROUNDS};
use dinhba_core::encoding::Wire;
use dinhba_core::registry::{self, AcceptedEdits};
use dinhba_core::schema::{FieldId, RecordKind};
use dinhba_core::signed_receipt::SignedReceipt;
use dinhba_proto::v1;
use ed25519_dalek::Signer;
use tonic::Status;

use super::RecordsService;
use crate::service::Caller;
use crate::service::answer::{broken, not_found, precondition, wrong};
use crate::service::convert::request_from_wire;

/// What the grounds are called among the fields.
const GROUNDS_NAME: &str = "grounds";

fn is_field(name: &str) -> bool {
    RecordKind::OF_PEOPLE.into_iter().any(|kind| FieldId::named(kind, name).is_some())
}

impl RecordsService {
    pub(super) async fn receipt_of(
        &self,
        caller: &Caller,
        request: v1::ReceiptRequest,
    ) -> Result<v1::ReceiptReply, Status> {
        let name = request_from_wire(request.request).map_err(|text| wrong("request", text))?;
        if let Some(unknown) = request.show.iter().find(|name| *name != GROUNDS_NAME && !is_field(name)) {
            let unknown: String = unknown.chars().take(40).collect();
            return Err(wrong("show", format!("show: {unknown:?} is no field: `dinhba fields` lists them")));
        }
        let shard = self.shard_of(&request.shard, &caller.claims).await?;
        let place = self.place_of(shard).await?;
        // Who may not is told so by the log, which keeps the attempt; and it is the barrier of a read: what was acknowledged before is found.
        self.log(caller, Looked::History, place.hosted, Some(shard), [0; 16]).await?;
        let shows = |change: &Change| match change.field {
            GROUNDS => request.show.iter().any(|name| name == GROUNDS_NAME),
            field => request.show.contains(&field.to_string()),
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
