//! What an officer waits for at a commune with many people: a birth while the line is down beside flushes of its disk, searches beside reads, work
//! lists, figures.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dinhba_client::event::Birth;
use dinhba_client::generate::generate;
use dinhba_client::work::WorkQuery;
use dinhba_client::{Client, Context, EditBuilder, Find};
use dinhba_core::claims::Role;
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::ids::RecordId;
use dinhba_core::number::Sex;
use dinhba_core::schema::{RecordKind, field};
use dinhba_proto::v1;
use dinhba_tests::country::{Country, site};
use futures::{StreamExt, stream};
use rand::seq::IndexedRandom as _;

use crate::Options;
use crate::alone::Figure;
use crate::meter::Latencies;
use crate::site::COMMUNE;

const CENTRE: &str = "00";

/// Calls of each kind that are timed.
const CALLS: usize = 1_000;

/// Things to do: each a birth date that waits for a second person. A commune with more has other troubles.
const TO_DO: usize = 3_000;

/// Edits of one stream: a million at once would not fit into memory.
const SENT_AT_ONCE: usize = 10_000;

/// Bytes of a flush: about what an edit is in the log.
const FLUSH_BYTES: usize = 1_500;

/// How long the first block of numbers may take to come.
const WAIT: Duration = Duration::from_secs(120);

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// What calls took, one after the other.
async fn timed(mut call: impl AsyncFnMut(usize) -> anyhow::Result<()>) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    for at in 0..CALLS {
        let began = Instant::now();
        call(at).await?;
        latencies.add(began.elapsed());
    }
    Ok(latencies)
}

/// What writing and flushing so little takes on the disk of the node's directory.
fn flushes(dir: &Path) -> anyhow::Result<Latencies> {
    let file = File::create(dir.join("flushed"))?;
    let mut latencies = Latencies::default();
    for at in 0..CALLS {
        let began = Instant::now();
        file.write_all_at(&[7; FLUSH_BYTES], (at * FLUSH_BYTES) as u64)?;
        file.sync_data()?;
        latencies.add(began.elapsed());
    }
    Ok(latencies)
}

/// Who was registered: id and what a search asks for.
struct Person {
    id: RecordId,
    name: String,
    born: String,
}

/// Registers invented households.
async fn populate(
    client: &Client,
    context: &Context,
    country: &Country,
    persons: usize,
) -> anyhow::Result<Vec<Person>> {
    let (session, shard, unit) = (client.session(), country.shard(COMMUNE), country.unit(COMMUNE));
    let mut found = Vec::with_capacity(persons);
    let mut requests = Vec::with_capacity(SENT_AT_ONCE);
    for draft in generate(&country.directory, &[unit], persons, 1)? {
        let named: Vec<_> = draft.records.iter().map(|record| (record.id.clone(), session.next())).collect();
        let ids: BTreeMap<&str, RecordId> =
            named.iter().map(|(name, request)| (name.as_str(), RecordId::derive(*request, 0))).collect();
        for (mut record, (_, request)) in draft.records.into_iter().zip(&named) {
            record.link(|name| ids.get(name).copied())?;
            let mut edit = EditBuilder::new(context);
            edit.shard(shard);
            let part = edit.create(record.kind);
            for entry in &record.fields {
                edit.set(part, &entry.field.to_string(), &entry.element, &entry.text);
            }
            requests.push(edit.build(*request, 0));
            if record.kind == RecordKind::Person
                && let (Some(name), Some(born)) = (record.text(field::NAME), record.text(field::BIRTH_DATE))
            {
                let (name, born) = (name.replace('/', " "), born.to_owned());
                found.push(Person { id: RecordId::derive(*request, 0), name, born });
            }
        }
        if requests.len() >= SENT_AT_ONCE {
            send(client, std::mem::take(&mut requests)).await?;
        }
    }
    send(client, requests).await?;
    Ok(found)
}

async fn send(client: &Client, requests: Vec<v1::EditRequest>) -> anyhow::Result<()> {
    let mut answers = std::pin::pin!(client.edit_many(stream::iter(requests)));
    while let Some(answered) = answers.next().await {
        answered?.outcome?;
    }
    Ok(())
}

/// All of it.
pub async fn office(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("a commune of {} persons", options.records);
    let program = std::env::current_exe()?;
    let program = program.to_str().context("the program lies at a path that is no text")?;
    let wishes = [site(CENTRE, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(CENTRE), &[COMMUNE])];
    let mut country = Country::plan(program, &wishes).await;
    if !options.tls {
        country.unprotected();
    }
    for code in [CENTRE, COMMUNE] {
        country.configure(code, |config| config.storage.engine = options.engine);
    }
    country.start_all();
    country.ready().await;
    let client = country.site_client(COMMUNE, Role::Registrar, COMMUNE);
    let context = Context::parse("registration", "KS-2026/1")?;
    let session = client.session();
    let today = InstantMs(client.ambient().utc_ms()).date_in_vietnam();
    let birth = || Birth::of("Giàng Thị Mỷ", Sex::Female, today.into()).nationality("VN").build(&context);

    // The first births bring the first block of numbers.
    let began = Instant::now();
    loop {
        let child = client.file(&session, &birth()).await?.records[0];
        let read = client.get(&context, child).await?;
        if read.fields.iter().any(|entry| entry.field == "personal_number") {
            break;
        }
        ensure!(began.elapsed() < WAIT, "no number came within {WAIT:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let persons = populate(&client, &context, &country, options.records).await?;
    country.sites[COMMUNE].line.cut();
    tokio::time::sleep(Duration::from_secs(5)).await;

    let dir = country.node(COMMUNE, 0).data();
    let mut flush = flushes(&dir)?;
    let mut births = timed(async |_| Ok(client.file(&session, &birth()).await.map(|_| ())?)).await?;
    flush.extend(flushes(&dir)?);
    let mut rng = rand::rng();
    let mut somebody = || persons.choose(&mut rng).context("nobody was registered");
    let mut reads = timed(async |_| Ok(client.get(&context, somebody()?.id).await.map(|_| ())?)).await?;
    let mut finds = timed(async |_| {
        let Person { name, born, .. } = somebody()?;
        let find = Find { name: name.clone(), born: born.clone(), ..Find::default() };
        let found = client.find(&context, &find).await?;
        ensure!(!found.records.is_empty(), "{name}, {born}: nobody is found");
        Ok(())
    })
    .await?;
    // As somebody asks who knows little: the given name with the first of the surnames, and a year.
    let mut vague = timed(async |_| {
        let Person { name, born, .. } = somebody()?;
        let words: Vec<&str> = name.split(' ').collect();
        let name = [words[0], words[words.len() - 1]].join(" ");
        let born = born.get(..4).unwrap_or(born).to_owned();
        Ok(client.find(&context, &Find { name, born, ..Find::default() }).await.map(|_| ())?)
    })
    .await?;

    for Person { id, born, .. } in persons.iter().filter(|person| person.born.len() == 10).take(TO_DO) {
        let read = client.get(&context, *id).await?;
        let mut edit = EditBuilder::new(&context);
        let part = edit.change(&read);
        // Another day of the month: the year is in the number.
        let (month, day) = born.split_at(8);
        let day = day.parse::<u8>()? % 28 + 1;
        edit.set(part, "birth_date", "", &format!("{month}{day:02}"));
        client.edit(&session, &edit).await?;
    }
    let lists = async |query: WorkQuery| {
        let mut page = Vec::new();
        timed(async |_| {
            let reply = client.work(&context, &query, &page).await?;
            page = reply.next;
            Ok(())
        })
        .await
    };
    let mut list = lists(WorkQuery::default()).await?;
    list.extend(lists(WorkQuery { all: true, ..WorkQuery::default() }).await?);
    list.extend(lists(WorkQuery { kind: "second-person".to_owned(), ..WorkQuery::default() }).await?);
    let statistics = Context::parse("statistics", "TK-1")?;
    let days = (Date::from_days(today.days() - 30), today);
    let mut figures = timed(async |_| Ok(client.figures(&statistics, "", days).await.map(|_| ())?)).await?;
    let mut quality = timed(async |_| Ok(client.quality(&statistics, "").await.map(|_| ())?)).await?;

    let flush_ms = ms(flush.quantile(0.5));
    let read_ms = ms(reads.quantile(0.5));
    let birth_ms = ms(births.quantile(0.5));
    let find_ms = ms(finds.quantile(0.99)).max(ms(vague.quantile(0.99)));
    Ok(vec![
        Figure::new("an office alone: persons", persons.len() as f64, "persons", ""),
        Figure::new("an office alone: a flush of its disk, p50", flush_ms, "ms", ""),
        Figure::new("an office alone: a birth with its number, p50", birth_ms, "ms", ""),
        Figure::new("...beyond three flushes", birth_ms - 3.0 * flush_ms, "ms", "at most 1"),
        Figure::new("an office alone: a birth with its number, p99", ms(births.quantile(0.99)), "ms", ""),
        Figure::new("an office alone: read, p50", read_ms, "ms", ""),
        Figure::new("an office alone: read, p99", ms(reads.quantile(0.99)), "ms", ""),
        Figure::new("an office alone: find by name and day of birth, p50", ms(finds.quantile(0.5)), "ms", ""),
        Figure::new("an office alone: find by name and day of birth, p99", ms(finds.quantile(0.99)), "ms", ""),
        Figure::new("an office alone: find by two words and a year, p50", ms(vague.quantile(0.5)), "ms", ""),
        Figure::new("an office alone: find by two words and a year, p99", ms(vague.quantile(0.99)), "ms", ""),
        Figure::new(
            "...the slower of both p99, in reads",
            find_ms / read_ms,
            "times a read's p50",
            "at most 20 at 1 million",
        ),
        Figure::new("an office alone: a page of a work list of 3,000, p50", ms(list.quantile(0.5)), "ms", ""),
        Figure::new("an office alone: a page of a work list of 3,000, p99", ms(list.quantile(0.99)), "ms", "50"),
        Figure::new("an office alone: figures of a month, p99", ms(figures.quantile(0.99)), "ms", ""),
        Figure::new("an office alone: quality, p99", ms(quality.quantile(0.99)), "ms", ""),
    ])
}
