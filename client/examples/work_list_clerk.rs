//! A clerk with a work list: shows what is to be done and until when, what waits for an officer, and confirms what a colleague proposed about one record.
//!
//! ```sh
//! DINHBA_NODE=… DINHBA_IDENTITY=… cargo run -p dinhba-client --example work_list_clerk [-- r-…]
//! ```

use dinhba_client::standing::Judgement;
use dinhba_client::work::WorkQuery;
use dinhba_client::{Client, Context};
use dinhba_core::ids::RecordId;
use dinhba_core::standing::Standing;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let confirms: Option<RecordId> = std::env::args().nth(1).map(|id| id.parse()).transpose()?;
    let (client, context) = (Client::of_environment()?, Context::parse("adjudication", "XD-2026-1")?);

    // A page each; `next` says how to go on. First all that is this unit's to do, by the day until which it is to be done.
    let work = client.work(&context, &WorkQuery::default(), &[]).await?;
    println!("{} things are to be done at {}", work.items.len(), work.unit_name);
    for item in &work.items {
        let late = if item.late > 0 { format!(", {} days late", item.late) } else { String::new() };
        println!("  {} until {}{late}: {}", item.kind, item.due, item.record);
    }
    let conflicts = client.conflicts(&context, None, &[]).await?.conflicts;
    println!("{} conflicts are open", conflicts.len());
    for conflict in &conflicts {
        println!("  {} {}: {} values", conflict.record, conflict.field, conflict.values.len());
    }
    let pending = client.pending(&context, None, &[]).await?.entries;
    println!("{} edits wait for a second person", pending.len());
    for entry in &pending {
        println!("  {} by {}", entry.record, entry.subject);
    }

    if let Some(record) = confirms {
        for entry in client.pending_of(&context, record).await? {
            let grounds = "as in the certificate".to_owned();
            let judgement = Judgement { record, edit: entry.hash, standing: Standing::Confirmed, grounds };
            client.judge(client.session().next(), &context, &judgement).await?;
            println!("confirmed {record}");
        }
    }
    Ok(())
}
