//! A registration counter: registers a birth, shows whom it registered, and waits until the district holds it.
//!
//! ```sh
//! DINHBA_NODE=… DINHBA_IDENTITY=… cargo run -p dinhba-client --example registration_counter -- 'Nguyễn Thị Mai' female 2026-06-01
//! ```

use std::time::Duration;

use dinhba_client::event::Birth;
use dinhba_client::person::Person;
use dinhba_client::{Client, Context};
use dinhba_core::number::Sex;
use dinhba_core::units::Tier;

/// How long a parent waits at the counter.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, sex, date] = &words[..] else { return Err("give a name, male or female, and the day of birth".into()) };
    let sex = match sex.as_str() {
        "male" => Sex::Male,
        "female" => Sex::Female,
        _ => return Err("the sex is male or female".into()),
    };
    let (client, context) = (Client::of_environment()?, Context::parse("registration", "KS-2026-1")?);

    let birth = Birth::of(name, sex, date.parse()?).nationality("VN").paper("Giấy chứng sinh", "12");
    let accepted = client.file(&client.session(), &birth.build(&context)).await?;

    let child = client.get(&context, accepted.records[0]).await?;
    let child = Person::of(&child, &client.units().await?)?;
    println!("registered {} as {}", child.name.as_deref().unwrap_or("a child"), child.id);
    let held = client.wait_until_held(accepted.request, None, Tier::District, PATIENCE).await?;
    println!(
        "{}",
        if held.reached { "the district holds it" } else { "the district does not hold it yet: it will be sent" }
    );
    Ok(())
}
