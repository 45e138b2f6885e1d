//! A commune whose certificate and key are in wrong hands, at a district with an honest one beside it. It sends what no honest
//! site sends, over link after link. What it may not write is nowhere; the honest commune and the district's officers notice
//! nothing; and what the thief wrote in its own name is an ordinary edit that can be looked at.

use std::collections::BTreeSet;
use std::fs;
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

use crate::PROGRAM;

const DISTRICT: &str = "082";
const STOLEN: &str = "02683";
const HONEST: &str = "02686";
const SECRET: [u8; 32] = [7; 32];
/// Lives that the thief invents; each as an author of its own.
const LIVES: u64 = 4_500;
/// How long a thief goes on with one attack.
const ATTACK: Duration = Duration::from_millis(1_500);
/// How much later than before an edit may be above, on a busy machine.
const LAG_MAX: Duration = Duration::from_secs(10);

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

/// How long until an edit of the honest commune is at the district.
async fn lag(commune: &Officer, district: &Officer) -> Duration {
    let record = commune.register("Lê/Thị/Hoa").await.unwrap();
    let began = Instant::now();
    eventually("the district has it", Duration::from_secs(60), async || district.read(record).await.is_ok()).await;
    began.elapsed()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_commune_writes_nothing_in_anothers_name_and_its_neighbour_notices_nothing() {
    let communes = [STOLEN, HONEST];
    let sites = [
        site(DISTRICT, 1, None, &communes),
        site(STOLEN, 1, Some(DISTRICT), &[STOLEN]),
        site(HONEST, 1, Some(DISTRICT), &[HONEST]),
    ];
    let mut country = Country::plan(PROGRAM, &sites).await;
    let (district_node, honest_node) = (country.node(DISTRICT, 0), country.node(HONEST, 0));
    country.start_node(&district_node);
    country.start_node(&honest_node);
    for code in [DISTRICT, HONEST] {
        country.site_ready(code).await;
    }
    let district_process = country.process(district_node.id).id();
    let ledger = Ledger::default();
    let (stolen, honest) = (country.shard(STOLEN), country.shard(HONEST));
    let commune = Officer::new(country.site_client(HONEST, Role::Registrar, HONEST), honest, &ledger);
    let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), honest, &ledger);
    let other = Ledger::default();
    let above = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), stolen, &other);
    let thief = Thief::new(&country);

    // The district itself writes in the stolen commune's shard; so there is a chain that can be forked.
    let record = above.register("Giàng/Thị/Mỷ").await.unwrap();
    above.write(record, "note", "", "as it is").await.unwrap();
    let kept = async || shard_status(&country, DISTRICT, &district_node, stolen).await.unwrap();
    let before = kept().await;
    let calm = lag(&commune, &district).await;
    let (memory, cpu) = cost(district_process);
    let began = Instant::now();

    // Garbage.
    for bytes in [vec![0xff; 3_000], vec![2; 100_000], Vec::new()] {
        thief.say([thief.hello().to_bytes(), bytes], ATTACK).await;
    }
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

    // Authors without end, each in the stolen site's own name; and questions about heads that there are not.
    let lives = (1..=LIVES).map(|number| thief.edit(thief.life(number), 1, Hash::default()));
    let batches = lives.map(|edit| Message::Batch(Box::new(thief.batch(&edit))).to_bytes());
    thief.say([thief.hello().to_bytes()].into_iter().chain(batches), 3 * ATTACK).await;
    let heads = (0..4_000_u64)
        .map(|number| (AuthorId(thief.life(number).incarnation.0), (number + 1, Hash([1; 32]))))
        .collect();
    let again = Message::Again(Again { shard: stolen, heads }).to_bytes();
    let ask = Message::Ask(Ask { shard: stolen, author: seal.tip.author.id(), from: 1, to: u64::MAX }).to_bytes();
    let questions = (0..2_000).flat_map(|_| [again.clone(), ask.clone()]);
    let attack = thief.say([thief.hello().to_bytes()].into_iter().chain(questions.take(200)), ATTACK);
    let (_, while_attacked) = tokio::join!(attack, lag(&commune, &district));
    let authors = kept().await;
    let took = began.elapsed();

    assert!(authors.edits - before.edits <= dinhba_core::registry::LIVES_MAX as u64, "{}", authors.edits);
    let last = lag(&commune, &district).await;
    assert!(while_attacked.max(last) < calm + LAG_MAX, "{calm:?}, {while_attacked:?}, {last:?}");
    agree(&country, &[DISTRICT, HONEST], honest).await;
    all_hold(&country, &[DISTRICT, HONEST], honest, DISTRICT, &ledger).await;
    let log = fs::read_to_string(district_node.log()).unwrap();
    assert!(log.contains("does not give its word"), "it is said who");
    let lines: BTreeSet<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(lines.len() < 100, "and not for each of thousands: {}", lines.len());
    let (memory_after, cpu_after) = cost(district_process);
    println!(
        "honest commune's lag: {calm:.1?} before, {while_attacked:.1?} while attacked, {last:.1?} after; district: {memory} MiB \
         before, {memory_after} MiB after, {:.1} s of CPU in {took:.0?}",
        cpu_after - cpu
    );
    assert!(memory_after < memory + 200, "{memory} {memory_after}");
}
