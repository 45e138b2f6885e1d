//! A reader of statistics: how many births and deaths each unit had, from one day to another. Figures name nobody.
//!
//! ```sh
//! DINHBA_NODE=… DINHBA_IDENTITY=… cargo run -p dinhba-client --example statistics_reader -- 2026-01-01 2026-12-31
//! ```

use dinhba_client::{Client, Context};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &words[..] else { return Err("give the first and the last day".into()) };
    let (client, context) = (Client::of_environment()?, Context::parse("statistics", "TK-2026-1")?);
    for unit in client.figures(&context, "", (from.parse()?, to.parse()?)).await? {
        let count = |event: &str| -> u64 {
            unit.figures.iter().filter(|figure| figure.event == event).map(|figure| figure.count).sum()
        };
        println!("{} {}: {} births, {} deaths", unit.unit_code, unit.unit_name, count("birth"), count("death"));
    }
    Ok(())
}
