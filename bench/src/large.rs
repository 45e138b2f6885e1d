//! What is large: a record of many edits beside one of two, and a site that hosts the shards of all communes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dinhba_client::{Client, Context, EditBuilder, Find};
use dinhba_core::claims::Role;
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::schema::RecordKind;
use dinhba_core::units::{BEFORE_REFORM, Tier};
use dinhba_tests::country::{Country, Wish};

use crate::Options;
use crate::alone::Figure;
use crate::meter::{Latencies, Usage};
use crate::site::{COMMUNE, Site};

/// Edits of the large record.
const EDITS: usize = 10_000;

/// Calls of which the middle one is told.
const CALLS: usize = 100;

/// How long a start or a contact may take before it is called a failure.
const WAIT: Duration = Duration::from_secs(120);

const CENTRE: &str = "00";
const PROVINCE: &str = "01";

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// The middle one of some calls, in milliseconds.
async fn middle<T>(mut call: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let mut latencies = Latencies::default();
    for _ in 0..CALLS {
        let began = Instant::now();
        call().await?;
        latencies.add(began.elapsed());
    }
    Ok(ms(latencies.quantile(0.5)))
}

async fn register(client: &Client, context: &Context, shard: ShardId) -> anyhow::Result<RecordId> {
    let mut edit = EditBuilder::new(context);
    edit.shard(shard);
    let part = edit.create(RecordKind::Person);
    edit.set(part, "name", "", "Hà/Thị/Tải").set(part, "birth_date", "", "1990-03-08");
    let accepted = client.edit(&client.session(), &edit).await?;
    accepted.records.first().copied().context("an acceptance without a record")
}

/// A record that was edited again and again, beside one that was not.
pub async fn record(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("a record of {EDITS} edits");
    let site = Site::start(1, options).await?;
    let client = site.country.client(&site.nodes, Role::Registrar, COMMUNE);
    let context = &site.context;
    let session = client.session();
    let [small, large] = [register(&client, context, site.shard).await?, register(&client, context, site.shard).await?];
    let write = async |record: RecordId, note: usize| {
        let read = client.get(context, record).await?;
        let mut edit = EditBuilder::new(context);
        let part = edit.change(&read);
        edit.set(part, "note", "", &format!("note {note}"));
        client.edit(&session, &edit).await?;
        anyhow::Ok(())
    };
    for note in 1..EDITS {
        write(large, note).await?;
    }
    let mut figures = Vec::new();
    for (record, get, edit) in [
        (small, "a record of 2 edits: read, p50", "a record of 2 edits: read and edit, p50"),
        (large, "a record of 10,000 edits: read, p50", "a record of 10,000 edits: read and edit, p50"),
    ] {
        let read = middle(async || Ok(client.get(context, record).await?)).await?;
        let mut note = 0;
        let both = middle(async || {
            note += 1;
            write(record, EDITS + note).await
        });
        figures.extend([Figure::new(get, read, "ms", ""), Figure::new(edit, both.await?, "ms", "")]);
    }
    let began = Instant::now();
    let entries = client.history(context, large).await?;
    ensure!(entries.len() >= EDITS, "{} edits are in the history", entries.len());
    figures.push(Figure::new("a record of 10,000 edits: all of its history", ms(began.elapsed()), "ms", ""));
    Ok(figures)
}

/// A centre that hosts all communes, and the line to a province of hundreds.
pub async fn site(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let program = std::env::current_exe()?;
    let program = program.to_str().context("the program lies at a path that is no text")?;
    let units = dinhba_core::units::Directory::vietnam()?;
    let communes = |code: &str| {
        let unit = units.by_code(code, BEFORE_REFORM).context("a unit of 2024")?;
        let communes = units.descendants(unit.id, Tier::Commune, BEFORE_REFORM);
        anyhow::Ok(communes.into_iter().map(|commune| commune.code.as_str()).collect::<Vec<_>>())
    };
    let (all, below) = (communes(CENTRE)?, communes(PROVINCE)?);
    eprintln!("a site of {} shards, and one of {} below it", all.len(), below.len());
    let wish = |code, parent, communes: &[_]| Wish { code, nodes: 1, parent, groups: vec![communes.to_vec()] };
    let mut country = Country::plan(program, &[wish(CENTRE, None, &all), wish(PROVINCE, Some(CENTRE), &below)]).await;
    if !options.tls {
        country.unprotected();
    }
    for code in [CENTRE, PROVINCE] {
        country.configure(code, |config| config.storage.engine = options.engine);
    }
    let node = country.node(CENTRE, 0);
    let mut figures = Vec::new();
    for (start, memory) in [
        ("10,035 shards, one node: founded", "10,035 shards, one node: memory, founded"),
        ("10,035 shards, one node: first status after kill -9", "10,035 shards, one node: memory after that"),
    ] {
        let began = Instant::now();
        country.start_node(&node);
        while country
            .status(CENTRE, &node)
            .await
            .is_none_or(|status| !status.health.is_empty() || shards_of(&status) < all.len())
        {
            ensure!(began.elapsed() < WAIT, "the node is not well {WAIT:?} after its start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        figures.push(Figure::new(start, began.elapsed().as_secs_f64(), "s", ""));
        let used = Usage::of(&[country.process(node.id).id()])?;
        figures.push(Figure::new(memory, used.resident as f64 / f64::from(1 << 20), "MiB", ""));
        if figures.len() == 2 {
            country.kill(node.id);
        }
    }
    let operator = country.site_client(CENTRE, Role::Operator, CENTRE);
    let maintenance = Context::parse("maintenance", "VH-1")?;
    let status = middle(async || {
        let reply = operator.status(&maintenance).await?;
        ensure!(shards_of(&reply) >= all.len(), "a status without some shards");
        Ok(())
    });
    figures.push(Figure::new("10,035 shards, one node: status, all pages, p50", status.await?, "ms", ""));
    let officer = country.site_client(CENTRE, Role::Registrar, CENTRE);
    let context = Context::parse("registration", "HS-2026-1")?;
    let person = register(&officer, &context, country.shard(all[5_000])).await?;
    let number = |number: &str| Find { number: number.to_owned(), ..Find::default() };
    let nobody = middle(async || Ok(officer.find(&context, &number("001090000018")).await?)).await?;
    let found = middle(async || {
        let find = Find { name: "Hà Thị Tải".to_owned(), born: "1990".to_owned(), ..Find::default() };
        ensure!(officer.find(&context, &find).await?.records.len() == 1, "who was registered is not found");
        Ok(())
    });
    let get = middle(async || Ok(officer.get(&context, person).await?)).await?;
    let absent = RecordId([9; 16]);
    let unknown = middle(async || {
        ensure!(officer.get(&context, absent).await.is_err(), "somebody has this id");
        Ok(())
    });
    figures.extend([
        Figure::new("10,035 shards, one node: find by a number that nobody has, p50", nobody, "ms", ""),
        Figure::new("10,035 shards, one node: find by name and birth, p50", found.await?, "ms", ""),
        Figure::new("10,035 shards, one node: read, p50", get, "ms", ""),
        Figure::new("10,035 shards, one node: read of an id that nobody has, p50", unknown.await?, "ms", ""),
    ]);
    let child = country.node(PROVINCE, 0);
    let line = country.sites[PROVINCE].line.clone();
    let began = Instant::now();
    country.start_node(&child);
    wait_in_step(&country, below.len()).await?;
    figures.push(Figure::new("526 shards of a child: start and first contact", began.elapsed().as_secs_f64(), "s", ""));
    figures.push(Figure::new(
        "526 shards of a child: first contact, bytes both ways",
        line.bytes() as f64 / 1e3,
        "kB",
        "",
    ));
    // What is stated in rounds is over.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = line.bytes();
    line.break_once();
    tokio::time::sleep(Duration::from_secs(2)).await;
    wait_in_step(&country, below.len()).await?;
    let again = line.bytes() - before;
    figures.push(Figure::new(
        "526 shards of a child: contact when nothing moved, both ways",
        again as f64 / 1e3,
        "kB",
        "",
    ));
    Ok(figures)
}

fn shards_of(status: &dinhba_proto::v1::StatusReply) -> usize {
    status.groups.iter().flat_map(|group| &group.shards).filter(|shard| !shard.ancestor).count()
}

/// Waits until the province knows of all its shards that the centre holds what it holds.
async fn wait_in_step(country: &Country, count: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let node = country.node(PROVINCE, 0);
    loop {
        if let Some(status) = country.status(PROVINCE, &node).await {
            let shards = status.groups.iter().flat_map(|group| &group.shards);
            let in_step = shards.filter(|shard| !shard.ancestor && shard.step == "in_step").count();
            if in_step >= count && status.links.iter().any(|link| link.state == "connected") {
                return Ok(());
            }
        }
        ensure!(began.elapsed() < WAIT, "the child is not in step after {WAIT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
