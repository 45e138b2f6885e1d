//! What is counted: the same few works on the same invented people, each time and on every machine.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::{Context as _, anyhow, ensure};
use dinhba_core::access_log::{AccessEntry, Looked};
use dinhba_core::blocks::Block;
use dinhba_core::claims::{Claims, Purpose, Role};
use dinhba_core::command::{
    Adopt, Answer, Command, Cursor, EditCommand, FileCommand, Form, Item, PartDraft, Proposal, Seal, ShardInfo, Tip,
};
use dinhba_core::date::Date;
use dinhba_core::edit::{Change, Dot, Edit, EditKind, Origin};
use dinhba_core::encoding::Wire as _;
use dinhba_core::filing::{Typed, TypedSubject};
use dinhba_core::ids::{
    EvidenceId, GroupId, Hash, Incarnation, KeyMark, RecordId, RequestId, SessionId, ShardId, SiteId, UnitId,
};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::number::{Series, Sex};
use dinhba_core::record::Record;
use dinhba_core::registry::{Arrival, Context, Key, ShardState, StoredEdit, apply, read, read_range, running_hash};
use dinhba_core::schema::{FieldId, RecordKind, Value, field, parse};
use dinhba_core::store::{Batch, Scan, StateView, StoreError};
use dinhba_core::sync;
use dinhba_core::units::NoUnits;

/// How often a work is done before it is counted, so that the state is none of an empty shard.
const BEFORE: u64 = 512;

/// How often it is counted.
pub const COUNTED: u64 = 512;

/// Commands of one log entry where many callers write at once, and edits of one batch of a neighbour.
const TOGETHER: usize = 64;

/// Requests of one session: about an officer's day.
const SESSION_REQUESTS: u64 = 1_000;

const SHARD: ShardId = ShardId(0xc000_0a7b);
const PATH: [UnitId; 4] = [UnitId(1), UnitId(2), UnitId(3), UnitId(4)];
const MORNING_MS: i64 = 1_780_000_000_000;
const TODAY: Date = match Date::new(2026, 5, 29) {
    Ok(day) => day,
    Err(_) => panic!("a day"),
};
const SECRET: [u8; 32] = [3; 32];

/// What a registration takes, as an edit: some 0.8 KB.
const EDIT_BYTES: std::ops::Range<usize> = 700..900;

/// Numbers that the office may give to those who are born this year, of each sex.
const NUMBERS: u32 = 10_000;

/// A work that is counted: its name, and what it does.
pub struct Work {
    pub name: &'static str,
    run: fn() -> anyhow::Result<()>,
}

/// All of them. `alone` is what one caller waits for; without it, 64 callers' commands make one log entry.
pub const WORKS: &[Work] = &[
    Work { name: "registration", run: || registrations(TOGETHER) },
    Work { name: "registration-alone", run: || registrations(1) },
    Work { name: "change", run: || changes(TOGETHER) },
    Work { name: "change-alone", run: || changes(1) },
    Work { name: "birth", run: || births(TOGETHER, true) },
    Work { name: "birth-alone", run: || births(1, true) },
    Work { name: "birth-unnumbered", run: || births(TOGETHER, false) },
    Work { name: "merged-registration", run: || merges(false) },
    Work { name: "merged-change", run: || merges(true) },
    Work { name: "read", run: || reads(TOGETHER) },
    Work { name: "read-alone", run: || reads(1) },
];

impl Work {
    /// Does it. What is to be counted is inside [`measured`].
    pub fn run(&self) -> anyhow::Result<()> {
        (self.run)()
    }
}

/// The function inside which instructions are counted: its name is what the counter is told.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// A state that is nothing but a sorted map.
#[derive(Default)]
struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

impl StateView for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        let range = self.0.range(from.to_vec()..to.to_vec());
        Box::new(range.map(|(key, value)| Ok((key.clone(), value.clone()))))
    }
}

impl Map {
    fn write(&mut self, batch: Batch) {
        for (key, value) in batch.writes {
            match value {
                Some(value) => drop(self.0.insert(key, value)),
                None => drop(self.0.remove(&key)),
            }
        }
    }
}

/// A site of one group with one shard.
struct Site {
    context: Context,
    state: Map,
    /// Entries of its log so far.
    entries: u64,
}

impl Site {
    fn founded(number: u8) -> anyhow::Result<Self> {
        let context = Context {
            group: GroupId(u64::from(number)),
            index_key: Key { id: 1, secret: [7; 32] },
            digest_key: Key { id: 1, secret: [9; 32] },
            level_max: LEVEL_MAX,
        };
        let mut site = Site { context, state: Map::default(), entries: 0 };
        let (id, incarnation) = (SiteId(u64::from(number)), Incarnation([number; 16]));
        let info = ShardInfo { shard: SHARD, path: PATH.to_vec() };
        site.run(vec![
            Command::Form(Form { site: id, level: LEVEL_MAX, index_key: 1, digest_key: 1, incarnation }),
            Command::Adopt(Adopt { info, incarnation, epoch: [number; 16] }),
        ])?;
        Ok(site)
    }

    /// A log entry of these commands: the clock of whoever proposed it goes on from one to the next.
    fn entry(&mut self, commands: Vec<Command>) -> (u64, Vec<u8>) {
        self.entries += 1;
        (self.entries, Proposal { at_ms: MORNING_MS + self.entries as i64 * 20, commands }.to_bytes())
    }

    fn run(&mut self, commands: Vec<Command>) -> anyhow::Result<Vec<Answer>> {
        let entry = self.entry(commands);
        let decided = apply(&self.state, &self.context, &[entry]);
        self.take(decided)
    }

    /// The same, counted.
    fn run_measured(&mut self, commands: Vec<Command>) -> anyhow::Result<Vec<Answer>> {
        let entries = [self.entry(commands)];
        let decided = measured(|| apply(&self.state, &self.context, &entries));
        self.take(decided)
    }

    fn take(&mut self, decided: Result<(Vec<Vec<u8>>, Batch), StoreError>) -> anyhow::Result<Vec<Answer>> {
        let (answers, batch) = decided?;
        self.state.write(batch);
        let mut all = Vec::new();
        for bytes in answers {
            all.extend(Vec::<Answer>::from_bytes(&bytes)?);
        }
        Ok(all)
    }

    /// Does the first of the commands, counts the others, so many to one entry.
    fn run_edits(&mut self, mut commands: Vec<Command>, together: usize) -> anyhow::Result<()> {
        let counted = commands.split_off(BEFORE as usize);
        ensure!(counted.len() as u64 == COUNTED, "{} commands are counted", counted.len());
        for commands in commands.chunks(TOGETHER) {
            all_accepted(&self.run(commands.to_vec())?)?;
        }
        for commands in counted.chunks(together) {
            all_accepted(&self.run_measured(commands.to_vec())?)?;
        }
        Ok(())
    }

    fn shard(&self) -> anyhow::Result<ShardState> {
        read(&self.state, &self.context.keys().shard(SHARD))?.context("the shard was adopted")
    }
}

fn all_accepted(answers: &[Answer]) -> anyhow::Result<()> {
    let other = answers.iter().find(|answer| !matches!(answer, Answer::Accepted(_)));
    other.map_or(Ok(()), |answer| Err(anyhow!("an edit was answered by {answer:?}")))
}

/// The `number`th request of a life of work, from 1.
fn request(life: u8, number: u64) -> RequestId {
    let day = (number - 1) / SESSION_REQUESTS;
    // Ids must not look alike: they are random elsewhere.
    let session = RecordId::derive(RequestId { session: SessionId([life; 16]), counter: day + 1 }, 0);
    RequestId { session: SessionId(session.0), counter: (number - 1) % SESSION_REQUESTS + 1 }
}

fn claims() -> anyhow::Result<Claims> {
    Ok(Claims::new("nguyen.van.an", Role::Registrar, PATH[3], EvidenceId([5; 16]))?)
}

fn origin(request: RequestId) -> anyhow::Result<Origin> {
    let received_ms = MORNING_MS + request.counter as i64 * 20;
    let case = "HS-2026-1".parse()?;
    let purpose = Purpose::Registration;
    Ok(Origin { request, claims: claims()?, purpose, case, authored_ms: received_ms - 3, received_ms })
}

const FAMILY: [&str; 7] = ["Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Vũ", "Đặng"];
const MIDDLE: [&str; 5] = ["Thị Minh", "Văn", "Hữu", "Thị", "Đức"];
const GIVEN: [&str; 11] = ["Ngọc", "Hùng", "Lan", "Mai", "Phương", "Quỳnh", "Sơn", "Tâm", "Uyên", "Việt", "Xuân"];
const STREETS: [&str; 6] = ["Lý Thường Kiệt", "Trần Phú", "Hàng Bạc", "Nguyễn Trãi", "Điện Biên Phủ", "Lê Lợi"];
const HOME: &str = "u-0000000000000004";

fn of<const N: usize>(table: [&'static str; N], number: u64, step: u64) -> &'static str {
    table[(number / step % N as u64) as usize]
}

fn name(number: u64) -> String {
    format!("{}/{}/{}", of(FAMILY, number, 1), of(MIDDLE, number, 3), of(GIVEN, number, 2))
}

/// Some twenty fields of a person who lives here.
fn person(number: u64) -> Vec<(FieldId, &'static str, String)> {
    let is_male = number.is_multiple_of(2);
    let born = 1950 + number % 50;
    let (month, day) = (number % 12 + 1, number % 28 + 1);
    let place = format!("unit={HOME}; line=Số {} phố {}", number % 190 + 1, of(STREETS, number, 1));
    let household = RecordId::derive(request(9, number / 4 + 1), 0);
    // Century and sex, then the year: as a number of that sex and birth year begins.
    let numbered = format!("001{}{:02}{:06}", u8::from(!is_male), born % 100, number);
    let issued = format!("issued=2022-0{}-11; issued_by=Cục Cảnh sát quản lý hành chính", number % 9 + 1);
    let card = format!("number={numbered}; kind=cccd; state=delivered; {issued}");
    let relative = |role: &str| {
        format!("name={}; nationality=VN; since={born}", name(number + role.len() as u64).replace('/', " "))
    };
    vec![
        (field::NAME, "", name(number)),
        (field::PERSONAL_NUMBER, "", numbered),
        (field::BIRTH_DATE, "", format!("{born}-{month:02}-{day:02}")),
        (field::SEX, "", (if is_male { "male" } else { "female" }).to_owned()),
        (field::BIRTH_PLACE, "", format!("unit={HOME}; country=VN")),
        (field::BIRTH_REGISTRATION_PLACE, "", format!("unit={HOME}; country=VN")),
        (field::ORIGIN, "", format!("unit={HOME}")),
        (field::ETHNICITY, "", "kinh".to_owned()),
        (field::RELIGION, "", "none".to_owned()),
        (field::NATIONALITY, "", "VN".to_owned()),
        (field::IDENTITY_CARD, "cccd-2022", card),
        (field::RELATIVE, "father", relative("father")),
        (field::RELATIVE, "mother", relative("the mother")),
        (field::PERMANENT_RESIDENCE, "", format!("{place}; since={}", born + 20)),
        (field::CURRENT_DWELLING, "", place),
        (field::RESIDENCE_FILE_NUMBER, "", format!("HS-00004-{:06}", number / 4)),
        (field::MARITAL_STATUS, "", format!("status=married; since={}-{month:02}-{day:02}", born + 25)),
        (field::RELATION_TO_HEAD, "", "child".to_owned()),
        (field::HOUSEHOLD, "", household.to_string()),
        (field::MOBILE_NUMBER, "", format!("0168{:07}", number * 7_919 % 10_000_000)),
        (field::EMAIL, "", format!("nguoi.dan.{number}@example.com")),
        (field::E_IDENTIFICATION, "", "level_2".to_owned()),
        (field::NOTE, "", format!("Hồ sơ giấy số {number}/2009, đã đối chiếu với bản gốc lưu tại Ủy ban nhân dân xã")),
    ]
}

fn command(
    request: RequestId,
    record: RecordId,
    create: bool,
    mut changes: Vec<Change>,
) -> anyhow::Result<EditCommand> {
    changes.sort_by(|one, two| (one.field, &one.element).cmp(&(two.field, &two.element)));
    let part = PartDraft { record, record_kind: RecordKind::Person, create, valid_from: Vec::new(), changes };
    Ok(EditCommand {
        shard: SHARD,
        kind: EditKind::Change,
        origin: origin(request)?,
        secret: SECRET,
        parts: vec![part],
    })
}

/// The registrations of so many people.
fn registered(count: u64) -> anyhow::Result<Vec<Command>> {
    let mut commands = Vec::new();
    for number in 1..=count {
        let request = request(1, number);
        let mut changes = Vec::new();
        for (field, element, text) in person(number) {
            let value = parse(field, &text, &NoUnits).map_err(|error| anyhow!("{field}: {error}"))?.encode();
            changes.push(Change { field, element: element.as_bytes().to_vec(), value, overwrites: Vec::new() });
        }
        commands.push(Command::Edit(Box::new(command(request, RecordId::derive(request, 0), true, changes)?)));
    }
    Ok(commands)
}

/// A change of the note of each of them, once all are registered.
fn changed(author: dinhba_core::ids::AuthorId, count: u64) -> anyhow::Result<Vec<Command>> {
    let text = "HS-2026-17: đã đối chiếu";
    let mut commands = Vec::new();
    for number in 1..=count {
        let value = parse(field::NOTE, text, &NoUnits).map_err(|error| anyhow!("{error}"))?.encode();
        let overwrites = vec![Dot { actor: author, counter: number }];
        let change = Change { field: field::NOTE, element: Vec::new(), value, overwrites };
        let record = RecordId::derive(request(1, number), 0);
        commands.push(Command::Edit(Box::new(command(request(2, number), record, false, vec![change])?)));
    }
    Ok(commands)
}

fn register(site: &mut Site, count: u64) -> anyhow::Result<()> {
    for commands in registered(count)?.chunks(TOGETHER) {
        all_accepted(&site.run(commands.to_vec())?)?;
    }
    Ok(())
}

/// People are registered of whom the office knows all.
fn registrations(together: usize) -> anyhow::Result<()> {
    let mut site = Site::founded(1)?;
    site.run_edits(registered(BEFORE + COUNTED)?, together)?;
    let place = Dot { actor: site.shard()?.own.id(), counter: BEFORE };
    let stored: StoredEdit = read(&site.state, &site.context.keys().edit(SHARD, &place))?.context("an edit")?;
    ensure!(EDIT_BYTES.contains(&stored.bytes.len()), "a registration has {} bytes", stored.bytes.len());
    Ok(())
}

/// One field of each is changed.
fn changes(together: usize) -> anyhow::Result<()> {
    let mut site = Site::founded(1)?;
    register(&mut site, BEFORE + COUNTED)?;
    let author = site.shard()?.own.id();
    site.run_edits(changed(author, BEFORE + COUNTED)?, together)
}

/// Children are born: an event, with its figure. Each gets the next number of its series, or stands in the work lists without one.
fn births(together: usize, are_numbered: bool) -> anyhow::Result<()> {
    let mut site = Site::founded(1)?;
    let holder = site.shard()?.own;
    let block = |sex| {
        let series = Series::new(1, sex, 2026).map_err(|error| anyhow!("{error}"))?;
        Ok(Block { series, first: 500_000, count: NUMBERS, holder })
    };
    let blocks: Vec<Block> = Sex::ALL.into_iter().map(block).collect::<anyhow::Result<_>>()?;
    let mut commands = Vec::new();
    for number in 1..=BEFORE + COUNTED {
        let sex = if number.is_multiple_of(2) { "male" } else { "female" };
        let input = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let inputs = vec![
            input("name", &name(number).replace('/', " ")),
            input("sex", sex),
            input("birth-date", &format!("2026-05-{:02}", number % 28 + 1)),
            input("birth-place", &format!("unit={HOME}")),
            input("registration-place", &format!("unit={HOME}")),
            input("origin", &format!("unit={HOME}")),
            input("ethnicity", "kinh"),
            input("nationality", "VN"),
            input("father-named", &format!("name={}", name(number + 1).replace('/', " "))),
            input("mother-named", &format!("name={}", name(number + 2).replace('/', " "))),
            input("residence", &format!("unit={HOME}; line=Số {} phố Trần Phú", number % 190 + 1)),
        ];
        let child = TypedSubject { role: "child".to_owned(), inputs, ..TypedSubject::default() };
        let typed = Typed { event: "birth".to_owned(), subjects: vec![child], ..Typed::default() };
        let filed = typed.read(LEVEL_MAX, TODAY, &NoUnits).map_err(|problems| anyhow!("{problems:?}"))?;
        let origin = origin(request(3, number))?;
        let blocks = if are_numbered { blocks.clone() } else { Vec::new() };
        commands.push(Command::File(Box::new(FileCommand { shard: SHARD, origin, secret: SECRET, filed, blocks })));
    }
    site.run_edits(commands, together)
}

/// A neighbour's edits come, its registrations or its changes.
fn merges(of_changes: bool) -> anyhow::Result<()> {
    let mut neighbour = Site::founded(1)?;
    register(&mut neighbour, BEFORE + COUNTED)?;
    let shard = neighbour.shard()?;
    let mut before = BEFORE;
    if of_changes {
        for commands in changed(shard.own.id(), COUNTED)?.chunks(TOGETHER) {
            all_accepted(&neighbour.run(commands.to_vec())?)?;
        }
        before = BEFORE + COUNTED;
    }
    let (keys, state) = (neighbour.context.keys(), &neighbour.state);
    let mut here = Site::founded(2)?;
    let mut cursor = Cursor::start(shard.epoch);
    let arrivals: Vec<(Vec<u8>, Arrival)> = read_range(state, keys.arrivals(SHARD, 1))?;
    for arrivals in arrivals.chunks(TOGETHER) {
        let (mut items, mut secrets, mut seals) = (Vec::new(), BTreeMap::new(), Vec::new());
        let start = cursor;
        for (_, arrival) in arrivals {
            let stored: StoredEdit = read(state, &keys.edit(SHARD, &arrival.dot))?.context("an edit that arrived")?;
            let edit = Edit::from_bytes(&stored.bytes)?;
            secrets.insert((arrival.dot.actor, edit.header.origin.request.session), SECRET);
            let running: Hash = running_hash(&cursor.running, &stored.hash);
            cursor = Cursor { position: cursor.position + 1, running, ..cursor };
            // Signatures are checked at the door, which is not counted here.
            let tip = Tip { author: edit.header.author, number: edit.header.number, hash: stored.hash };
            seals = vec![Seal { tip, signature: [0; 64] }];
            items.push(Item { dot: arrival.dot.clone(), bytes: stored.bytes });
        }
        let secrets = secrets.into_iter().map(|((author, session), secret)| (author, session, secret)).collect();
        let batch = sync::Batch { shard: SHARD, start, end: cursor, items, secrets, seals };
        let command = batch.into_command(SiteId(1), MORNING_MS, |_| Some(KeyMark(1)));
        let commands = vec![Command::Merge(Box::new(command))];
        let answers = if start.position < before { here.run(commands)? } else { here.run_measured(commands)? };
        ensure!(
            matches!(answers.as_slice(), [Answer::Merged(merged)] if merged.taken && merged.folded as usize == arrivals.len()),
            "a batch was answered by {answers:?}"
        );
    }
    ensure!(here.shard()?.state_digest == neighbour.shard()?.state_digest, "the two sites differ");
    Ok(())
}

/// Records are looked at: each look is an entry of the access log, and all values are read.
fn reads(together: usize) -> anyhow::Result<()> {
    let mut site = Site::founded(1)?;
    register(&mut site, COUNTED)?;
    let keys = site.context.keys();
    for first in (0..COUNTED).step_by(together) {
        let records: Vec<RecordId> =
            (0..together as u64).map(|at| RecordId::derive(request(1, first + at + 1), 0)).collect();
        let mut commands = Vec::new();
        for record in &records {
            commands.push(Command::Access(vec![AccessEntry {
                claims: claims()?,
                purpose: Purpose::Registration,
                case: "HS-2026-1".parse()?,
                looked: Looked::Record,
                shard: Some(SHARD),
                subject: record.0,
                at_ms: MORNING_MS + first as i64,
            }]));
        }
        let answers = site.run_measured(commands)?;
        ensure!(
            answers.iter().all(|answer| *answer == Answer::Access(vec![true])),
            "reads were answered by {answers:?}"
        );
        for record in records {
            let look = || -> anyhow::Result<usize> {
                let record: Record = read(&site.state, &keys.record(SHARD, record))?.context("a record")?;
                let values =
                    record.fields().flat_map(|((field, _), values)| values.iter().map(|value| (*field, value)));
                Ok(values.filter(|(field, value)| black_box(Value::decode(*field, &value.value)).is_ok()).count())
            };
            ensure!(measured(look)? > 20, "a record of few values");
        }
    }
    Ok(())
}
