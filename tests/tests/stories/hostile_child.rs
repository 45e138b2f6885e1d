//! A commune whose certificate and key are in wrong hands, at a district with two honest ones beside it. It sends what no honest
//! site sends, over link after link. What it may not write is nowhere; the honest communes and the district's officers notice
//! nothing; and what the thief wrote in its own name is an ordinary edit that can be looked at.
//!
//! It prints what each attack costs: how late the honest communes' edits are above, and the district's memory and CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dinhba_client::tls::{Credentials, TlsDialer, named, node_name};
use dinhba_client::transport::{Dial, Line};
use dinhba_core::claims::{Claims, Purpose, Role};
use dinhba_core::command::{Cursor, Item, Seal, Tip};
use dinhba_core::edit::{Author, Change, Edit, EditKind, Header, Origin};
use dinhba_core::encoding::Wire;
use dinhba_core::event::Event;
use dinhba_core::ids::{AuthorId, EvidenceId, Hash, Incarnation, RecordId, RequestId, SessionId, ShardId, SiteId};
use dinhba_core::schema::{RecordKind, field, parse};
use dinhba_core::sync::{Again, Ask, Batch, Hello, Message, ShardHello};
use dinhba_core::units::NoUnits;
use dinhba_node::config::Tls;
use dinhba_node::pki::read_signing_key;
use dinhba_proto::v1::LinkFrame;
use dinhba_proto::v1::link_client::LinkClient;
use dinhba_tests::country::{Country, eventually, site};
use dinhba_tests::evidence::{agree, all_hold, shard_status};
use dinhba_tests::officer::{Ledger, Officer};
use ed25519_dalek::{Signer, SigningKey};
use futures::StreamExt;
use futures::channel::mpsc;
use tokio::task::JoinHandle;

use crate::PROGRAM;

const DISTRICT: &str = "082";
const STOLEN: &str = "02683";
const HONEST: &str = "02686";
const BESIDE: &str = "02689";
const SECRET: [u8; 32] = [7; 32];
/// Lives that the thief invents; each as an author of its own.
const LIVES: u64 = 4_500;
/// How long a thief goes on with one attack.
const ATTACK: Duration = Duration::from_millis(1_500);
/// Edits of one record, of [`LARGE_BYTES`] each: more than 20 MB in all.
const LARGE_EDITS: u64 = 400;
const LARGE_BYTES: usize = 54_000;
/// How late an edit may be above, on a busy machine.
const LAG_MAX: Duration = Duration::from_secs(10);
/// How often an honest commune registers somebody.
const BEAT: Duration = Duration::from_millis(100);

/// The stolen site's credentials.
struct Thief {
    dialer: TlsDialer,
    key: SigningKey,
    site: SiteId,
    shard: ShardId,
    address: String,
    group: String,
    claims: Claims,
}

impl Thief {
    fn new(country: &Country) -> Self {
        let (node, district) = (country.node(STOLEN, 0), country.node(DISTRICT, 0));
        let Tls::Mutual { ca, certificate, key } = &node.config.tls else { panic!("stories are protected") };
        let [ca, certificate, key] = [ca, certificate, key].map(|path| fs::read_to_string(path).unwrap());
        let credentials = Credentials { ca, certificate, key };
        let unit = country.unit(STOLEN);
        Thief {
            dialer: TlsDialer::new(&credentials),
            key: read_signing_key(&node.config.site.signing_key).unwrap(),
            site: country.sites[STOLEN].id,
            shard: country.shard(STOLEN),
            address: named(&node_name(district.id), &district.address()),
            group: country.sites[DISTRICT].groups[0].0.to_string(),
            claims: Claims::new("nguyen.lan", Role::Registrar, unit, EvidenceId([1; 16])).unwrap(),
        }
    }

    /// Speaks on a link of its own until the district ends it or the time is up; what it answered.
    async fn say(&self, messages: impl IntoIterator<Item = Vec<u8>>, patience: Duration) -> Vec<Message> {
        let Ok(transport) = self.dialer.dial(self.address.clone()).await else { return Vec::new() };
        let (frames, rest) = mpsc::unbounded();
        let naming = LinkFrame { group: self.group.clone(), ..LinkFrame::default() };
        let frame = |message| LinkFrame { message, ..LinkFrame::default() };
        frames.unbounded_send(naming).unwrap();
        messages.into_iter().for_each(|message| frames.unbounded_send(frame(message)).unwrap());
        let mut client = LinkClient::new(Line(transport));
        let Ok(answer) = client.session(rest).await else { return Vec::new() };
        let mut answers = answer.into_inner();
        let mut heard = Vec::new();
        let until = tokio::time::Instant::now() + patience;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, answers.next()).await {
            let bytes = match frame.compressed {
                true => zstd::bulk::decompress(&frame.message, 8 << 20).unwrap(),
                false => frame.message,
            };
            heard.extend(Message::from_bytes(&bytes).ok());
        }
        heard
    }

    fn hello(&self) -> Message {
        let hello = ShardHello { shard: self.shard, epoch: [9; 16], heads: Default::default(), cursor: None };
        Message::Hello(Hello::of(vec![hello]))
    }

    fn edit(&self, author: Author, number: u64, previous: Hash) -> Edit {
        let request = RequestId { session: SessionId([7; 16]), counter: number };
        let name = parse(field::NAME, "Kẻ//Cắp", &NoUnits).unwrap().encode();
        let header = Header {
            level: 1,
            author,
            number,
            previous,
            kind: EditKind::Change,
            event: Event::Change,
            record: RecordId::derive(request, 0),
            record_kind: RecordKind::Person,
            part: 0,
            of: 1,
            origin: Origin {
                request,
                claims: self.claims.clone(),
                purpose: Purpose::Registration,
                case: "KS-1".parse().unwrap(),
                authored_ms: 1,
                received_ms: 1,
            },
            valid_from: Vec::new(),
            extensions: Vec::new(),
        };
        let change = Change { field: field::NAME, element: Vec::new(), value: name, overwrites: Vec::new() };
        Edit { header, changes: vec![change] }
    }

    fn seal(&self, tip: Tip) -> Seal {
        Seal { tip, signature: self.key.sign(&tip.signed_bytes()).to_bytes() }
    }

    /// A batch of one edit, sealed with the stolen key.
    fn batch(&self, edit: &Edit) -> Batch {
        let tip = Tip { author: edit.header.author, number: edit.header.number, hash: edit.hash(&SECRET) };
        let start = Cursor::start([9; 16]);
        Batch {
            shard: edit.header.author.shard,
            start,
            end: start,
            items: vec![Item { dot: edit.dot(), bytes: edit.to_bytes() }],
            secrets: vec![(edit.dot().actor, edit.header.origin.request.session, SECRET)],
            seals: vec![self.seal(tip)],
        }
    }

    fn life(&self, number: u64) -> Author {
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&number.to_be_bytes());
        Author { site: self.site, shard: self.shard, incarnation: Incarnation(incarnation) }
    }
}

/// An honest commune at work: how late what it registers is at the district, by attacks.
struct Honest {
    stop: Arc<AtomicBool>,
    work: JoinHandle<BTreeMap<usize, Vec<Duration>>>,
}

impl Honest {
    /// It registers people until it is stopped, while `attack` tells which attack goes on.
    fn at_work(country: &Country, code: &str, ledger: &Ledger, attack: &Arc<AtomicUsize>) -> Self {
        let shard = country.shard(code);
        let commune = Officer::new(country.site_client(code, Role::Registrar, code), shard, ledger);
        let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, ledger);
        let (stop, attack) = (Arc::<AtomicBool>::default(), Arc::clone(attack));
        let stopped = Arc::clone(&stop);
        let work = tokio::spawn(async move {
            let mut lags: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
            while !stopped.load(Ordering::SeqCst) {
                let during = attack.load(Ordering::SeqCst);
                let record = commune.register("Lê/Thị/Hoa").await.expect("an honest commune works on");
                let began = Instant::now();
                while district.read(record).await.is_err() {
                    assert!(began.elapsed() < Duration::from_secs(60), "the district does not get it");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                lags.entry(during).or_default().push(began.elapsed());
                tokio::time::sleep(BEAT).await;
            }
            lags
        });
        Honest { stop, work }
    }

    /// The lags, sorted, by attacks.
    async fn stop(self) -> BTreeMap<usize, Vec<Duration>> {
        self.stop.store(true, Ordering::SeqCst);
        let mut lags = self.work.await.expect("an honest commune");
        lags.values_mut().for_each(|lags| lags.sort_unstable());
        lags
    }
}

/// Which attack goes on, and what those before it cost the district.
struct Attacks {
    process: u32,
    now: Arc<AtomicUsize>,
    began: Instant,
    all: Vec<(&'static str, Duration, u64, f64)>,
    before: f64,
}

impl Attacks {
    fn begin(process: u32) -> Self {
        let before = cost(process).1;
        Attacks { process, now: Arc::default(), began: Instant::now(), all: Vec::new(), before }
    }

    /// What was going on until now had this name.
    fn was(&mut self, name: &'static str) {
        let (memory, cpu) = cost(self.process);
        self.all.push((name, self.began.elapsed(), memory, cpu - self.before));
        (self.began, self.before) = (Instant::now(), cpu);
        self.now.fetch_add(1, Ordering::SeqCst);
    }

    fn print(&self, communes: &[BTreeMap<usize, Vec<Duration>>]) {
        let [memory, cpu, took, name] = ["memory", "CPU", "took", "attack"];
        println!("{name:<24} {took:>7} {memory:>9} {cpu:>6}   lag of each honest commune: p50, most (of how many)");
        for (at, (name, took, memory, cpu)) in self.all.iter().enumerate() {
            let lags = communes.iter().filter_map(|lags| {
                let lags = lags.get(&at)?;
                Some(format!("{:.0?}, {:.0?} ({})", lags[lags.len() / 2], lags.last()?, lags.len()))
            });
            let lags = lags.collect::<Vec<_>>().join("   ");
            println!("{name:<24} {:>6.1}s {memory:>5} MiB {cpu:>5.1}s   {lags}", took.as_secs_f64());
        }
    }
}

/// Memory of a process and the CPU time that it has taken.
fn cost(process: u32) -> (u64, f64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let ticks: u64 =
        stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    (resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024, ticks as f64 / 100.0)
}

/// Papers of about [`LARGE_BYTES`], that no edit before brought.
fn documents(number: u64) -> Vec<Change> {
    let text = format!("kind=Giấy chứng sinh; issued_by={}", "x".repeat(190));
    let value = parse(field::DOCUMENT, &text, &NoUnits).unwrap().encode();
    let count = LARGE_BYTES / (value.len() + 20);
    let element = |at| format!("{number:05}-{at:05}").into_bytes();
    let change = |at| Change { field: field::DOCUMENT, element: element(at), value: value.clone(), overwrites: vec![] };
    (0..count).map(change).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_commune_writes_nothing_in_anothers_name_and_its_neighbours_notice_nothing() {
    let communes = [STOLEN, HONEST, BESIDE];
    let sites = [
        site(DISTRICT, 1, None, &communes),
        site(STOLEN, 1, Some(DISTRICT), &[STOLEN]),
        site(HONEST, 1, Some(DISTRICT), &[HONEST]),
        site(BESIDE, 1, Some(DISTRICT), &[BESIDE]),
    ];
    let mut country = Country::plan(PROGRAM, &sites).await;
    let district_node = country.node(DISTRICT, 0);
    for code in [DISTRICT, HONEST, BESIDE] {
        country.start_node(&country.node(code, 0));
    }
    for code in [DISTRICT, HONEST, BESIDE] {
        country.site_ready(code).await;
    }
    let district_process = country.process(district_node.id).id();
    let (ledger, ledger_beside) = (Ledger::default(), Ledger::default());
    let (stolen, honest) = (country.shard(STOLEN), country.shard(HONEST));
    let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), honest, &ledger);
    let other = Ledger::default();
    let above = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), stolen, &other);
    let thief = Thief::new(&country);

    // The district itself writes in the stolen commune's shard; so there is a chain that can be forked.
    let record = above.register("Giàng/Thị/Mỷ").await.unwrap();
    above.write(record, "note", "", "as it is").await.unwrap();
    let kept = async || shard_status(&country, DISTRICT, &district_node, stolen).await.unwrap();
    let before = kept().await;
    let mut attacks = Attacks::begin(district_process);
    let at_work = [
        Honest::at_work(&country, HONEST, &ledger, &attacks.now),
        Honest::at_work(&country, BESIDE, &ledger_beside, &attacks.now),
    ];
    tokio::time::sleep(3 * ATTACK).await;
    attacks.was("none");
    let (memory, _) = cost(district_process);

    // Garbage.
    for bytes in [vec![0xff; 3_000], vec![2; 100_000], Vec::new()] {
        thief.say([thief.hello().to_bytes(), bytes], ATTACK).await;
    }
    attacks.was("garbage");
    // What the district wrote, told otherwise: a branch of its chain, with the thief's word for it.
    let heard = thief.say([thief.hello().to_bytes()], ATTACK).await;
    let batch = heard.iter().find_map(|message| match message {
        Message::Batch(batch) => Some(batch.clone()),
        _ => None,
    });
    let batch = batch.expect("the district tells the commune what it wrote in its shard");
    let seal = batch.seals[0];
    let mut forged = Edit::from_bytes(&batch.items[1].bytes).unwrap();
    forged.changes[0].value = parse(field::NOTE, "as the thief wants it", &NoUnits).unwrap().encode();
    let mut next = thief.edit(seal.tip.author, seal.tip.number + 1, seal.tip.hash);
    next.header.record = record;
    for edit in [&forged, &next] {
        let mut batch = thief.batch(edit);
        thief.say([thief.hello().to_bytes(), Message::Batch(Box::new(batch.clone())).to_bytes()], ATTACK).await;
        // With the thief's word under its own name for the same hash.
        batch.seals[0] = thief.seal(Tip { author: thief.life(1), ..batch.seals[0].tip });
        thief.say([thief.hello().to_bytes(), Message::Batch(Box::new(batch.clone())).to_bytes()], ATTACK).await;
        // And with the district's own word, which is for another edit.
        batch.seals = vec![seal];
        thief.say([thief.hello().to_bytes(), Message::Batch(Box::new(batch)).to_bytes()], ATTACK).await;
    }
    // A shard that is not its own.
    let foreign = thief.edit(Author { shard: honest, ..thief.life(1) }, 1, Hash::default());
    thief.say([thief.hello().to_bytes(), Message::Batch(Box::new(thief.batch(&foreign))).to_bytes()], ATTACK).await;
    attacks.was("forged forks");
    let after = kept().await;
    assert_eq!((after.edits, after.set_aside), (before.edits, before.set_aside), "nothing of it was taken");
    let note = above.read(record).await.unwrap();
    assert_eq!(dinhba_tests::officer::values(&note, "note"), ["as it is"]);

    // A person of the honest commune, told otherwise under its id: nobody above takes that for the person.
    let honest_alone = Officer::new(country.site_client(HONEST, Role::Registrar, HONEST), honest, &other);
    let person = honest_alone.register("Lê/Thị/Mai").await.unwrap();
    eventually("the district has it", Duration::from_secs(60), async || district.read(person).await.is_ok()).await;
    let mut double = thief.edit(thief.life(0), 1, Hash::default());
    double.header.record = person;
    thief.say([thief.hello().to_bytes(), Message::Batch(Box::new(thief.batch(&double))).to_bytes()], ATTACK).await;
    let refused = format!("{:?}", district.read(person).await.expect_err("it cannot tell who is who"));
    assert!(refused.contains(&honest.to_string()) && refused.contains(&stolen.to_string()), "{refused}");
    honest_alone.read(person).await.expect("her own commune has her alone");

    attacks.was("another's record");

    // Authors without end, each in the stolen site's own name; and questions about heads that there are not.
    let lives = (1..=LIVES).map(|number| thief.edit(thief.life(number), 1, Hash::default()));
    let batches = lives.map(|edit| Message::Batch(Box::new(thief.batch(&edit))).to_bytes());
    thief.say([thief.hello().to_bytes()].into_iter().chain(batches), 3 * ATTACK).await;
    attacks.was("4,500 authors");
    let authors = kept().await;
    assert!(authors.edits - before.edits <= dinhba_core::registry::LIVES_OF_KEY_MAX as u64, "{}", authors.edits);
    let heads = (0..4_000_u64)
        .map(|number| (AuthorId(thief.life(number).incarnation.0), (number + 1, Hash([1; 32]))))
        .collect();
    let again = Message::Again(Again { shard: stolen, heads }).to_bytes();
    let ask = Message::Ask(Ask { shard: stolen, author: seal.tip.author.id(), from: 1, to: u64::MAX }).to_bytes();
    let questions = (0..2_000).flat_map(|_| [again.clone(), ask.clone()]);
    thief.say([thief.hello().to_bytes()].into_iter().chain(questions.take(200)), ATTACK).await;
    attacks.was("400 questions");
    // A record of 20 MB, by the author that was taken before.
    let (mut previous, mut large) = (thief.edit(thief.life(1), 1, Hash::default()).hash(&SECRET), Vec::new());
    for number in 2..2 + LARGE_EDITS {
        let mut edit = thief.edit(thief.life(1), number, previous);
        edit.header.record = RecordId::derive(RequestId { session: SessionId([7; 16]), counter: 1 }, 0);
        edit.changes = documents(number);
        previous = edit.hash(&SECRET);
        large.push(Message::Batch(Box::new(thief.batch(&edit))).to_bytes());
    }
    assert!(large.iter().map(Vec::len).sum::<usize>() > 20_000_000);
    thief.say([thief.hello().to_bytes()].into_iter().chain(large), 6 * ATTACK).await;
    attacks.was("a record of 20 MB");
    tokio::time::sleep(3 * ATTACK).await;
    attacks.was("none, afterwards");

    let mut lags = Vec::new();
    for honest in at_work {
        lags.push(honest.stop().await);
    }
    attacks.print(&lags);
    let all = lags.iter().flat_map(BTreeMap::values).flatten();
    assert!(all.clone().count() > 50 && all.max().is_some_and(|most| *most < LAG_MAX));
    for (code, ledger) in [(HONEST, &ledger), (BESIDE, &ledger_beside)] {
        agree(&country, &[DISTRICT, code], country.shard(code)).await;
        all_hold(&country, &[DISTRICT, code], country.shard(code), DISTRICT, ledger).await;
    }
    let log = fs::read_to_string(district_node.log()).unwrap();
    assert!(log.contains("does not give its word"), "it is said who");
    let lines: BTreeSet<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(lines.len() < 100, "and not for each of thousands: {}", lines.len());
    let (memory_after, _) = cost(district_process);
    assert!(memory_after < memory + 200, "{memory} {memory_after}");
}
