//! The people of a run: registrars at sites of all tiers, with the SDK that applications use.
//!
//! Every value that they write is different from all others, so that the checks can tell from a value who wrote it. What
//! they are told goes into the oracle. The ways to look at records are in `looks`, what nobody should do in `worst`; operators, who
//! write the directory and no records of people, in `sites`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use dinhba_client::event::EventBuilder;
use dinhba_client::request::field_of;
use dinhba_client::standing::Judgement;
use dinhba_client::{Accepted, Client, Context, EditBuilder, Error, Limits, Session};
use dinhba_core::access_log::Looked;
use dinhba_core::claims::Role;
use dinhba_core::command::MOVED_DOTS_MAX;
use dinhba_core::ids::{Hash, RecordId, RequestId, ShardId};
use dinhba_core::level::LEVEL_GROUNDS;
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_node::runtime::{self, Instant};
use dinhba_proto::v1;

use crate::country::Country;
use crate::history::{Answered, Asked, Key, OperationId, ValueId, Values};
use crate::oracle::{Oracle, Told};
use crate::scenario::{Officer as Plan, Work};
use crate::trace::{Event, SitePlace};
use crate::wire::Endpoint;

mod events;
mod looks;
mod sites;
mod worst;

pub(crate) use sites::operator;

/// A command of several parts has so many at most: a household with four members, or five records.
const PARTS_MAX: usize = 5;

/// Of the records of a shard, so many are the ones that officers of all tiers fight over.
const SHARED_RECORDS: usize = 3;

/// In runs in which some site knows grounds of plain changes, one in so many has them.
const GROUNDS_ONE_IN: usize = 3;

/// After one piece of work in so many an officer asks how far up it is held.
const HELD_ONE_IN: usize = 8;

/// How often a request without a definite answer is sent again by one who is patient: several times ten seconds, longer
/// than an election.
const ASKED_AGAIN_MAX: usize = 4;

/// How often somebody whose office is not there yet looks whether it is.
const OFFICE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// A field that officers write, with how a value says which write it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subject {
    name: &'static str,
    element: &'static str,
    id: FieldId,
    prefix: &'static str,
    suffix: &'static str,
}

/// Legal: two values at once are a conflict.
const FILE_NUMBER: Subject =
    Subject { name: "residence_file_number", element: "", id: field::RESIDENCE_FILE_NUMBER, prefix: "F", suffix: "" };
/// Of no legal weight: the latest is shown.
const MOBILE: Subject =
    Subject { name: "mobile_number", element: "", id: field::MOBILE_NUMBER, prefix: "09", suffix: "" };

impl Subject {
    fn text(self, value: ValueId) -> String {
        format!("{}{:08}{}", self.prefix, value.0, self.suffix)
    }

    fn value(self, text: &str) -> Option<ValueId> {
        text.strip_prefix(self.prefix)?.strip_suffix(self.suffix)?.parse().ok().map(ValueId)
    }

    fn values(self, record: &v1::Record) -> Values {
        let found = field_of(record, self.name, self.element).map(|found| found.values.as_slice()).unwrap_or_default();
        found.iter().filter_map(|value| self.value(&value.value)).collect()
    }

    fn key(self, record: RecordId) -> Key {
        Key { record, field: (self.id, self.element.as_bytes().to_vec()) }
    }
}

/// Runs one officer until the safety phase ends.
pub async fn work(country: Country, oracle: Oracle, place: usize, plan: Plan, began: Instant, until: Duration) {
    let site = country.site(&plan.at);
    let person = country.person(site);
    while !country.is_founded(site) {
        if runtime::now() >= began + until {
            return;
        }
        runtime::sleep(OFFICE_LOOK_EVERY).await;
    }
    staff(country, oracle, place, plan, person, began).work_until(until).await;
}

/// An officer at his desk.
fn staff(country: Country, oracle: Oracle, place: usize, plan: Plan, person: Endpoint, began: Instant) -> Officer {
    let site = person.site;
    let limits = if plan.impatient {
        let attempt = Duration::from_millis(700);
        Limits { attempt, deadline: attempt * 3, ..Limits::default() }
    } else {
        Limits { attempt: Duration::from_secs(3), deadline: Duration::from_secs(10), ..Limits::default() }
    };
    let is_operator = matches!(plan.does, Work::Sites | Work::Units);
    let role = if is_operator { Role::Operator } else { Role::Registrar };
    let client = country.client(person, role, limits, place);
    let second = country.client(person, role, limits, place + 1);
    let purpose = if is_operator { "maintenance" } else { "registration" };
    let context = Context::parse(purpose, "HS-2026-1").expect("a purpose and a case");
    let shards: Vec<ShardId> = if is_operator {
        country.sites()[site].shards().filter(|shard| country.is_ancestor(*shard)).collect()
    } else {
        plan.works_on(&country.scenario().tree).iter().map(|commune| country.shard(commune)).collect()
    };
    let (session, subject, filed) = (client.session(), country.subject(person), Mutex::default());
    Officer { country, oracle, place, plan, site, subject, client, second, context, shards, session, filed, began }
}

pub(crate) struct Officer {
    country: Country,
    oracle: Oracle,
    place: usize,
    plan: Plan,
    site: SitePlace,
    /// What the access log calls him.
    subject: String,
    client: Client,
    /// Connections of its own: an impatient officer sends the same request by both.
    second: Client,
    context: Context,
    shards: Vec<ShardId>,
    session: Session,
    /// Something that he filed and was told is accepted, to be filed again one day.
    filed: Mutex<Option<(RequestId, EventBuilder)>>,
    began: Instant,
}

/// What a request sends.
#[derive(Clone, Copy)]
enum Sent<'a> {
    Edit(&'a EditBuilder),
    Event(&'a EventBuilder),
    Judgement(&'a Judgement),
}

impl Sent<'_> {
    async fn by(
        self,
        (client, context): (&Client, &Context),
        request: RequestId,
        is_open: bool,
    ) -> Result<Accepted, Error> {
        match (self, is_open) {
            (Sent::Judgement(judgement), false) => client.judge(request, context, judgement).await,
            (Sent::Judgement(judgement), true) => client.judge_again(request, context, judgement).await,
            (Sent::Edit(edit), false) => client.edit_as(request, edit).await,
            (Sent::Edit(edit), true) => client.edit_again(request, edit).await,
            (Sent::Event(event), false) => client.file_as(request, event).await,
            (Sent::Event(event), true) => client.file_again(request, event).await,
        }
    }

    /// How many edits it makes, if its sender can tell.
    fn parts(self) -> Option<usize> {
        match self {
            Sent::Edit(edit) => Some(edit.parts()),
            Sent::Event(_) | Sent::Judgement(_) => None,
        }
    }
}

/// What became of a request.
enum Became {
    Accepted,
    Stale(Box<v1::Stale>),
    Refused,
    Unknown,
}

impl Officer {
    fn now(&self) -> Duration {
        self.country.simulator().now()
    }

    async fn work_until(&self, until: Duration) {
        let deadline = self.began + until;
        runtime::sleep_until(self.began + self.plan.starts).await;
        let mut done = 0;
        while runtime::now() < deadline && (self.plan.edits == 0 || done < self.plan.edits) && !self.shards.is_empty() {
            let next = runtime::now() + self.plan.every;
            self.work_once().await;
            done += 1;
            if next >= deadline {
                return;
            }
            runtime::sleep_until(next).await;
        }
    }

    async fn work_once(&self) {
        let shard = self.shards[self.pick(self.shards.len())];
        let known = self.oracle.ledger().records.get(&shard).cloned().unwrap_or_default();
        let work = match self.plan.does {
            Work::Mixed => {
                [Work::Births, Work::Cards, Work::Cards, Work::Shared, Work::Reads, Work::Families, Work::Events]
                    [self.pick(7)]
            }
            work => work,
        };
        // The first records of a shard are everybody's; without them there is nothing to do but to register.
        let enough = known.len() >= SHARED_RECORDS;
        match work {
            Work::Births => self.register(shard).await,
            Work::Sites => self.work_on_sites().await,
            Work::Units => self.make_unit().await,
            Work::Newborns => self.file_newborn(shard).await,
            _ if !enough => self.register(shard).await,
            Work::Cards => {
                let record = known[self.pick(known.len())];
                self.change(record, MOBILE, "card").await;
            }
            Work::Shared => {
                let record = known[self.pick(SHARED_RECORDS)];
                self.change(record, FILE_NUMBER, "shared").await;
            }
            Work::Reads | Work::Mixed => self.look(shard, &known).await,
            Work::Families if self.pick(2) == 0 => self.register_family(shard).await,
            Work::Families => self.change_several(&known).await,
            Work::Events => self.file_event(shard, &known).await,
            Work::Worst => self.do_worst(shard, &known).await,
        }
        if self.pick(HELD_ONE_IN) == 0 {
            self.ask_held().await;
        }
    }

    fn pick(&self, count: usize) -> usize {
        self.country.pick(count)
    }

    fn value(&self) -> ValueId {
        // Unique for the digits of a telephone number.
        let mut ledger = self.oracle.ledger();
        ledger.values += 1;
        ValueId(ledger.values)
    }

    async fn register(&self, shard: ShardId) {
        self.register_as(self.session.next(), shard).await;
    }

    /// Somebody is born, and how the registration is told from all others.
    fn birth(&self, shard: ShardId) -> (EditBuilder, ValueId) {
        let value = self.value();
        let mut edit = EditBuilder::new(&self.context);
        edit.shard(shard);
        let part = edit.create(RecordKind::Person);
        edit.set(part, "name", "", "Nguyễn/Thị/Lan")
            .set(part, "birth_date", "", "1990-03-08")
            .set(part, "sex", "", "female")
            .set(part, FILE_NUMBER.name, "", &FILE_NUMBER.text(value));
        (edit, value)
    }

    /// Registers a birth under a name; whether it was accepted.
    async fn register_as(&self, request: RequestId, shard: ShardId) -> bool {
        let (edit, value) = self.birth(shard);
        let record = RecordId::derive(request, 0);
        let operation = self.called(FILE_NUMBER.key(record), Asked::Write { overwrites: Values::new(), id: value });
        let became = self.send(request, Sent::Edit(&edit), shard, "birth").await;
        self.born(operation, shard, record, &became);
        matches!(became, Became::Accepted)
    }

    /// Keeps what became of the registration of a birth.
    fn born(&self, operation: OperationId, shard: ShardId, record: RecordId, became: &Became) {
        match became {
            Became::Accepted => {
                self.answered(operation, Answered::Accepted);
                let mut ledger = self.oracle.ledger();
                ledger.records.entry(shard).or_default().push(record);
                ledger.registered.insert((self.site, shard));
            }
            Became::Refused => self.answered(operation, Answered::Refused),
            // A record under that id can only be that of this request.
            Became::Stale(_) | Became::Unknown => {}
        }
    }

    /// Registers a household with its members in one command.
    async fn register_family(&self, shard: ShardId) {
        let request = self.session.next();
        let mut edit = EditBuilder::new(&self.context);
        edit.shard(shard);
        let household = edit.create(RecordKind::Household);
        edit.set(household, "head", "", "@1");
        let (mut members, mut operations) = (Vec::new(), Vec::new());
        for part in 1..2 + self.pick(PARTS_MAX - 1) {
            let value = self.value();
            edit.create(RecordKind::Person);
            edit.set(part, "name", "", "Nguyễn/Thị/Lan")
                .set(part, "birth_date", "", "1990-03-08")
                .set(part, "household", "", "@0")
                .set(part, FILE_NUMBER.name, "", &FILE_NUMBER.text(value));
            let record = RecordId::derive(request, u32::try_from(part).unwrap_or(u32::MAX));
            let asked = Asked::Write { overwrites: Values::new(), id: value };
            operations.push(self.called(FILE_NUMBER.key(record), asked));
            members.push(record);
        }
        match self.send(request, Sent::Edit(&edit), shard, "family").await {
            Became::Accepted => {
                operations.into_iter().for_each(|operation| self.answered(operation, Answered::Accepted));
                let mut ledger = self.oracle.ledger();
                ledger.records.entry(shard).or_default().extend(&members);
                ledger.households.entry(shard).or_default().push((RecordId::derive(request, 0), members));
                ledger.registered.insert((self.site, shard));
            }
            Became::Refused => operations.into_iter().for_each(|operation| self.answered(operation, Answered::Refused)),
            Became::Stale(_) | Became::Unknown => {}
        }
    }

    /// Changes several records in one command: all of them or none.
    async fn change_several(&self, known: &[RecordId]) {
        let first = self.pick(known.len());
        let count = 2 + self.pick(PARTS_MAX - 1);
        let mut seen = Vec::new();
        for record in known.iter().cycle().skip(first).take(count.min(known.len())) {
            let Some(found) = self.read(*record, MOBILE).await else { return };
            seen.push((*record, found));
        }
        let mut edit = EditBuilder::new(&self.context);
        let (request, mut operations) = (self.session.next(), Vec::new());
        for (record, found) in &seen {
            let value = self.value();
            let part = edit.change(found);
            edit.set(part, MOBILE.name, "", &MOBILE.text(value));
            let asked = Asked::Write { overwrites: MOBILE.values(found), id: value };
            operations.push((*record, self.called(MOBILE.key(*record), asked)));
        }
        let shard = seen.first().and_then(|(_, found)| found.shard.parse().ok()).unwrap_or_default();
        match self.send(request, Sent::Edit(&edit), shard, "several").await {
            Became::Accepted => operations.iter().for_each(|(_, one)| self.answered(*one, Answered::Accepted)),
            Became::Refused => operations.iter().for_each(|(_, one)| self.answered(*one, Answered::Refused)),
            // One record moved on, and so nothing was done to the others.
            Became::Stale(told) => {
                for (record, operation) in operations {
                    let is_it = told.record == record.to_string();
                    self.answered(operation, if is_it { Answered::Stale } else { Answered::Refused });
                }
            }
            Became::Unknown => {}
        }
    }

    async fn read(&self, record: RecordId, subject: Subject) -> Option<v1::Record> {
        let operation = self.called(subject.key(record), Asked::Read);
        match self.client.get(&self.context, record).await {
            Ok(found) => {
                self.was_shown(Looked::Record, &found.shard, record.0);
                self.answered(operation, Answered::Saw(subject.values(&found)));
                Some(found)
            }
            Err(Error::Refused { code: tonic::Code::NotFound, .. }) => {
                self.answered(operation, Answered::Saw(Values::new()));
                None
            }
            Err(_) => None,
        }
    }

    async fn change(&self, record: RecordId, subject: Subject, work: &'static str) {
        let Some(found) = self.read(record, subject).await else { return };
        let value = self.value();
        let request = self.session.next();
        let overwrites = subject.values(&found);
        let disputed = field_of(&found, subject.name, "").is_some_and(|field| field.disputed);
        let mut edit = EditBuilder::new(&self.context);
        let part = edit.change(&found);
        edit.set(part, subject.name, "", &subject.text(value));
        let mut work = work;
        if disputed {
            edit.decision().grounds("as in the register of births");
            work = "decision";
        } else if self.country.scenario().level_max() >= LEVEL_GROUNDS && self.pick(GROUNDS_ONE_IN) == 0 {
            // Where the level is too low it is refused; where a neighbour's is, it is set aside there.
            edit.grounds("as in the register of births");
        }
        let shard = found.shard.parse().unwrap_or_default();
        let operation = self.called(subject.key(record), Asked::Write { overwrites, id: value });
        match self.send(request, Sent::Edit(&edit), shard, work).await {
            Became::Accepted => self.answered(operation, Answered::Accepted),
            Became::Stale(told) => {
                if let Some(lie) = lie(&told, &found, subject) {
                    self.oracle.ledger().contradictions.push(format!("request {request}: {lie}"));
                }
                self.answered(operation, Answered::Stale);
                // As an officer does: what is there now, a read shows.
                let _ = self.read(record, subject).await;
            }
            Became::Refused => self.answered(operation, Answered::Refused),
            Became::Unknown => {}
        }
    }

    fn called(&self, key: Key, asked: Asked) -> OperationId {
        let (now, code) = (self.now(), &self.plan.at);
        self.oracle.ledger().history.called(now, code, self.place, key, asked)
    }

    fn answered(&self, operation: OperationId, answer: Answered) {
        let now = self.now();
        self.oracle.ledger().history.answered(now, operation, answer);
    }

    /// Sends one request until it has a definite answer, or patience ends.
    async fn send(&self, request: RequestId, sent: Sent<'_>, shard: ShardId, work: &'static str) -> Became {
        self.send_on(request, sent, shard, work, false).await
    }

    /// The same for a request of which it may be unknown what became of an earlier sending.
    async fn send_on(
        &self,
        request: RequestId,
        sent: Sent<'_>,
        shard: ShardId,
        work: &'static str,
        mut unknown: bool,
    ) -> Became {
        let asked = self.now();
        for _ in 0..ASKED_AGAIN_MAX {
            let (one, two) = ((&self.client, &self.context), (&self.second, &self.context));
            let outcome = match (self.plan.impatient, unknown) {
                (false, _) => sent.by(one, request, unknown).await,
                (true, _) => better(futures::join!(sent.by(one, request, unknown), sent.by(two, request, unknown))),
            };
            match outcome {
                Ok(accepted) => {
                    self.keep((request, sent.parts()), &accepted, shard, work, asked);
                    return Became::Accepted;
                }
                Err(Error::Stale(told)) => {
                    self.not("stale");
                    return Became::Stale(told);
                }
                Err(Error::Refused { code, text, .. }) => {
                    self.not(&format!("refused: {code:?}: {text}"));
                    return Became::Refused;
                }
                Err(Error::OutcomeUnknown { .. }) => unknown = true,
                Err(Error::Unreachable { .. }) => {
                    self.not("unreachable");
                    return Became::Refused;
                }
                Err(Error::Protocol(text)) => {
                    self.not(&format!("protocol: {text}"));
                    return Became::Unknown;
                }
            }
        }
        self.not("unknown");
        Became::Unknown
    }

    /// Whether his site may not know what it accepted: one that came back from an old copy, that lost its disk, or whose key somebody
    /// else has.
    fn forgets(&self) -> bool {
        self.country.was_stolen(self.site) || !self.oracle.ledger().losses.is_empty()
    }

    fn not(&self, told: &str) {
        let (officer, site) = (self.place, self.site);
        self.country.trace().add(Event::NotAccepted { officer, site, told: told.to_owned() });
    }

    fn keep(
        &self,
        (request, parts): (RequestId, Option<usize>),
        accepted: &Accepted,
        shard: ShardId,
        work: &'static str,
        asked: Duration,
    ) {
        let hash = Hash(accepted.receipt.hash.as_slice().try_into().unwrap_or_default());
        let told = Told {
            asked,
            at: self.now(),
            site: self.site,
            shard: accepted.receipt.shard.parse().unwrap_or(shard),
            hash,
            count: accepted.receipt.count,
            records: accepted.records.clone(),
        };
        let count = accepted.receipt.count as usize;
        if let Some(parts) = parts.filter(|parts| *parts != count) {
            let text = format!("of the {parts} parts of {request}, {count} were accepted");
            self.oracle.ledger().contradictions.push(text);
        }
        self.oracle.accepted(request, told);
        if let Some(number) = accepted.number {
            self.oracle.ledger().numbers.entry(number).or_default().insert(request);
        }
        self.country.trace().add(Event::Accepted {
            officer: self.place,
            site: self.site,
            request: request.to_string(),
            record: accepted.records.first().copied().unwrap_or_default(),
            work,
            hash,
        });
    }
}

/// Of two answers to one request, the one that says more.
fn better(both: (Result<Accepted, Error>, Result<Accepted, Error>)) -> Result<Accepted, Error> {
    let rank = |outcome: &Result<Accepted, Error>| match outcome {
        Ok(_) => 0,
        // The other's attempt may yet be accepted where this one found the record moved on, by that very attempt.
        Err(Error::OutcomeUnknown { .. }) => 1,
        Err(Error::Stale(_)) => 2,
        Err(Error::Refused { .. }) => 3,
        Err(Error::Unreachable { .. }) => 4,
        Err(Error::Protocol(_)) => 5,
    };
    if rank(&both.0) <= rank(&both.1) { both.0 } else { both.1 }
}

/// What is untrue in the answer to an edit of one field that says what moved since `read`.
fn lie(told: &v1::Stale, read: &v1::Record, subject: Subject) -> Option<String> {
    let before = field_of(read, subject.name, "").map_or(&[][..], |field| &field.values);
    let moved = match &told.fields[..] {
        [moved] if told.more == 0 => moved,
        fields => return Some(format!("one field was edited, {} of them moved", fields.len())),
    };
    if told.record != read.id || moved.field != subject.name || !moved.element.is_empty() {
        return Some(format!(
            "{} of {} was edited, and {} of {} moved",
            subject.name, read.id, moved.field, told.record
        ));
    }
    let dot = |dot: &v1::Dot| (dot.author.clone(), dot.number);
    let before: BTreeSet<_> = before.iter().filter_map(|value| value.dot.as_ref()).map(dot).collect();
    let is_same = before == moved.dots.iter().map(dot).collect();
    // Of very many values only the first are told.
    (is_same && moved.dots.len() < MOVED_DOTS_MAX)
        .then(|| format!("{} of {} moved and is as it was", subject.name, read.id))
}

/// The records that an officer of a run may meet.
#[must_use]
pub fn records_of(oracle: &Oracle) -> BTreeSet<RecordId> {
    oracle.ledger().records.values().flatten().copied().collect()
}
