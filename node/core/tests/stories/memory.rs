//! Sites made of nothing but their folded state, in memory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::archive::{
    Content, GroupSummary, Life, Piece, RefillError, goes_through, next_piece, refill_accesses, refill_edits, refound,
};
use dinhba_core::claims::{Claims, Purpose, Role};
use dinhba_core::command::{
    Accepted, Adopt, Answer, Command, Cursor, EditCommand, Form, Merged, PartDraft, Proposal, Raise, RefusalCode, Seal,
    ShardInfo, Tip,
};
use dinhba_core::date::Date;
use dinhba_core::edit::{Change, Dot, Edit, EditKind, GROUNDS, Origin};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{
    EvidenceId, GroupId, Hash, Incarnation, KeyMark, RecordId, RequestId, SessionId, ShardId, SiteId, UnitId,
};
use dinhba_core::keys::Keys;
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::record::Record;
use dinhba_core::registry::{
    Context, GroupState, Key, Poison, ShardState, StoredEdit, apply, coming, quality_recounted, read, read_range,
    stocks, stocks_recounted, work, work_recounted,
};
use dinhba_core::schema::{FieldId, RecordKind, display, parse};
use dinhba_core::store::{self, Scan, StateView, StoreError};
use dinhba_core::sync::{Batch, Here, Skip};
use dinhba_core::units::NoUnits;
use dinhba_core::work::Entry;

/// The state, and how many values were read of it.
#[derive(Clone, Default)]
pub struct Memory(pub BTreeMap<Vec<u8>, Vec<u8>>, Cell<u64>);

impl StateView for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.1.set(self.1.get() + 1);
        Ok(self.0.get(key).cloned())
    }
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        let range = self.0.range(from.to_vec()..to.to_vec());
        Box::new(range.inspect(|_| self.1.set(self.1.get() + 1)).map(|(key, value)| Ok((key.clone(), value.clone()))))
    }
}

impl Memory {
    pub fn write(&mut self, batch: store::Batch) {
        for (key, value) in batch.writes {
            match value {
                Some(value) => drop(self.0.insert(key, value)),
                None => drop(self.0.remove(&key)),
            }
        }
    }
}

pub const SHARD: ShardId = ShardId(77);
pub const PATH: [UnitId; 4] = [UnitId(1), UnitId(2), UnitId(3), UnitId(4)];

/// One site with one group that hosts one shard.
#[derive(Clone)]
pub struct Office {
    pub site: SiteId,
    pub state: Memory,
    pub context: Context,
    /// What the last command wrote and read.
    pub written: usize,
    pub read: u64,
    index: u64,
    chance: u64,
    /// The clock of whoever proposes.
    pub now_ms: i64,
}

impl Office {
    pub fn new(site: u64) -> Self {
        let context = Context {
            group: GroupId(site),
            index_key: Key { id: 1, secret: [site as u8; 32] },
            digest_key: Key { id: 1, secret: [9; 32] },
            level_max: LEVEL_MAX,
        };
        let mut office = Office {
            site: SiteId(site),
            state: Memory::default(),
            context,
            written: 0,
            read: 0,
            index: 0,
            chance: site,
            now_ms: 1,
        };
        office.run(Command::Form(Form {
            site: SiteId(site),
            level: 1,
            index_key: 1,
            digest_key: 1,
            incarnation: Incarnation([site as u8; 16]),
        }));
        let info = ShardInfo { shard: SHARD, path: PATH.to_vec() };
        let (incarnation, epoch) = (Incarnation(office.random()), office.random());
        office.run(Command::Adopt(Adopt { info, incarnation, epoch }));
        office
    }

    pub fn random(&mut self) -> [u8; 16] {
        self.chance += 1;
        let hash = blake3::hash(&[self.site.0.to_be_bytes(), self.chance.to_be_bytes()].concat());
        hash.as_bytes()[..16].try_into().unwrap()
    }

    /// Goes on as if so many numbers had been drawn: chance never repeats, also not after a restore.
    pub fn skip_chance(&mut self, count: u64) {
        self.chance += count;
    }

    fn secret(&mut self) -> [u8; 32] {
        [self.random(), self.random()].concat().try_into().unwrap()
    }

    /// Proposes an officer's edit as the door does: with a fresh secret.
    pub fn edit(&mut self, command: EditCommand) -> Answer {
        let secret = self.secret();
        self.run(Command::Edit(Box::new(EditCommand { secret, ..command })))
    }

    pub fn run(&mut self, command: Command) -> Answer {
        self.run_all(vec![command]).remove(0)
    }

    /// Several commands in one entry.
    pub fn run_all(&mut self, commands: Vec<Command>) -> Vec<Answer> {
        self.index += 1;
        let entry = (self.index, Proposal { at_ms: self.now_ms, commands }.to_bytes());
        self.state.1.set(0);
        let (answers, batch) = apply(&self.state, &self.context, &[entry]).unwrap();
        (self.written, self.read) = (batch.writes.len(), self.state.1.get());
        self.state.write(batch);
        Vec::<Answer>::from_bytes(&answers[0]).unwrap()
    }

    pub fn here(&self) -> Here<'_> {
        Here { view: &self.state, keys: self.keys() }
    }

    /// A batch of this office's stream, sealed as the driver of a link does.
    pub fn batch(&self, start: Cursor, scanned: u64, skip: &Skip, bytes_max: usize) -> (Batch, u64) {
        let (mut batch, own, position) = self.here().batch(&self.shard(), start, scanned, skip, bytes_max).unwrap();
        seal(&mut batch, own);
        (batch, position)
    }

    /// All of its stream.
    pub fn stream(&self) -> Batch {
        self.batch(Cursor::start(self.shard().epoch), 0, &Skip::default(), usize::MAX).0
    }

    pub fn keys(&self) -> Keys {
        self.context.keys()
    }

    pub fn shard(&self) -> ShardState {
        read(&self.state, &self.keys().shard(SHARD)).unwrap().unwrap()
    }

    pub fn record(&self, record: RecordId) -> Record {
        read(&self.state, &self.keys().record(SHARD, record)).unwrap().unwrap()
    }

    pub fn records(&self) -> Vec<(Vec<u8>, Record)> {
        read_range(&self.state, self.keys().records(SHARD)).unwrap()
    }

    pub fn merge(&mut self, peer: SiteId, batch: Batch, now_ms: i64) -> Merged {
        self.merge_under(KeyMark(1), peer, batch, now_ms)
    }

    /// The same, with words that are good by some key.
    pub fn merge_under(&mut self, key: KeyMark, peer: SiteId, batch: Batch, now_ms: i64) -> Merged {
        match self.run(Command::Merge(Box::new(batch.into_command(peer, now_ms, |_| Some(key))))) {
            Answer::Merged(merged) => merged,
            other => panic!("a batch was answered by {other:?}"),
        }
    }

    /// Takes what `archive` does not hold yet; begins it anew if this office has another past by now.
    pub fn back_up(&self, archive: &mut Vec<(Piece, Content)>) {
        let logs = [(self.context.group, Some(SHARD)), (self.context.group, None)];
        let held = |archive: &[(Piece, Content)], log| {
            let last = archive.iter().rev().find(|(piece, _)| piece.log() == log);
            last.map_or((0, Hash::default()), |(piece, _)| (piece.to, piece.hash))
        };
        if logs.iter().any(|log| !goes_through(&self.state, *log, held(archive, *log)).unwrap()) {
            archive.clear();
        }
        let ends = self.summary();
        for (log, last) in logs.into_iter().zip([ends.shards[0].edits, ends.accesses]) {
            let mut after = held(archive, log).0;
            while let Some((piece, content)) = next_piece(&self.state, log, after, last).unwrap() {
                after = piece.to;
                archive.push((piece, content));
            }
        }
    }

    pub fn summary(&self) -> GroupSummary {
        GroupSummary::read(&self.state, self.context.group, 0, Vec::new()).unwrap().unwrap()
    }

    /// The same office, founded anew from an archive, with as much of it as was received until `until_ms`.
    pub fn founded_from(&self, archive: &[(Piece, Content)], until_ms: Option<i64>) -> Result<Office, RefillError> {
        let mut office = Office { state: Memory::default(), ..self.clone() };
        let life = Life { incarnation: Incarnation(office.random()), epoch: office.random() };
        let lives = &[(SHARD, life)].into();
        let incarnation = Incarnation(office.random());
        let context = office.context.clone();
        let batch = refound(&office.state, &context, office.site, &self.summary(), (incarnation, lives), &[]);
        office.state.write(batch);
        let mut is_cut = false;
        for (piece, content) in archive {
            let batch = match content {
                Content::Edits(_) if is_cut => continue,
                Content::Edits(edits) => {
                    let (batch, whole) = refill_edits(&office.state, &context, piece, edits.clone(), until_ms)?;
                    is_cut = !whole;
                    batch
                }
                Content::Accesses(accesses) => refill_accesses(&office.state, &context, piece, accesses)?,
            };
            office.state.write(batch);
        }
        Ok(office)
    }

    /// The work lists, which must be what is open; as the counts of quality and the stocks must be those of the records.
    pub fn listed(&self) -> BTreeSet<Entry> {
        let listed = work(&self.state, self.keys(), SHARD).unwrap();
        assert_eq!(listed, work_recounted(&self.state, self.keys(), SHARD).unwrap());
        let counted = (self.shard().quality, coming(&self.state, self.keys(), SHARD).unwrap());
        assert_eq!(counted, quality_recounted(&self.state, self.keys(), SHARD).unwrap());
        let all_days = (Date::MIN, Date::MAX);
        let stocks = stocks(&self.state, self.keys(), SHARD, all_days).unwrap();
        assert_eq!(stocks, stocks_recounted(&self.state, self.keys(), SHARD).unwrap());
        listed
    }

    pub fn level(&self) -> u16 {
        read::<GroupState>(&self.state, &self.keys().group()).unwrap().unwrap().level
    }

    pub fn raise(&mut self) -> Answer {
        self.run(Command::Raise(Raise { level: 2, now_ms: 6 }))
    }

    /// Creates a person; returns its id.
    pub fn create(&mut self, request: RequestId, name: &str) -> RecordId {
        let record = RecordId::derive(request, 0);
        let answer = self.edit(create_command(request, name));
        assert!(matches!(answer, Answer::Accepted(_)), "{answer:?}");
        record
    }

    /// Sets one field over all that this office sees of it.
    pub fn set(&mut self, request: RequestId, record: RecordId, field: FieldId, text: &str) -> Answer {
        let current = self.record(record);
        let overwrites = current.dots(&(field, Vec::new()));
        let change = Change { field, element: Vec::new(), value: value(field, text), overwrites };
        self.edit(command(request, EditKind::Change, record, false, vec![change]))
    }

    /// Decides one disputed field.
    pub fn decide(&mut self, request: RequestId, record: RecordId, field: FieldId, text: &str) -> Answer {
        let overwrites = self.record(record).dots(&(field, Vec::new()));
        let grounds =
            Change { field: GROUNDS, element: Vec::new(), value: b"birth certificate".to_vec(), overwrites: vec![] };
        let change = Change { field, element: Vec::new(), value: value(field, text), overwrites };
        self.edit(command(request, EditKind::Decision, record, false, vec![grounds, change]))
    }
}

/// Signatures are the door's business.
pub fn seal(batch: &mut Batch, own: Vec<Tip>) {
    batch.seals.extend(own.into_iter().map(|tip| Seal { tip, signature: [5; 64] }));
}

/// Seals every edit of a batch that can be read.
pub fn seal_all(batch: &mut Batch) {
    let secrets: BTreeMap<_, _> =
        batch.secrets.iter().map(|(author, session, secret)| ((*author, *session), *secret)).collect();
    let tips = batch.items.iter().filter_map(|item| {
        let edit = Edit::from_bytes(&item.bytes).ok()?;
        let secret = secrets.get(&(edit.dot().actor, edit.header.origin.request.session))?;
        Some(Tip { author: edit.header.author, number: edit.header.number, hash: edit.hash(secret) })
    });
    let tips = tips.collect();
    seal(batch, tips);
}

pub fn accepted(answer: Answer) -> Accepted {
    match answer {
        Answer::Accepted(accepted) => accepted,
        other => panic!("expected an acceptance, got {other:?}"),
    }
}

pub fn refusal(answer: Answer) -> (RefusalCode, String) {
    match answer {
        Answer::Refused(refusal) => (refusal.code, refusal.text),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub fn value(field: FieldId, text: &str) -> Vec<u8> {
    parse(field, text, &NoUnits).unwrap().encode()
}

pub fn request(session: u8, counter: u64) -> RequestId {
    RequestId { session: SessionId([session; 16]), counter }
}

pub fn claims(role: Role, unit: UnitId) -> Claims {
    Claims::new("nguyen.lan", role, unit, EvidenceId([1; 16])).unwrap()
}

pub fn create_command(request: RequestId, name: &str) -> EditCommand {
    let field = dinhba_core::schema::field::NAME;
    let change = Change { field, element: Vec::new(), value: value(field, name), overwrites: Vec::new() };
    command(request, EditKind::Change, RecordId::derive(request, 0), true, vec![change])
}

pub fn command(
    request: RequestId,
    kind: EditKind,
    record: RecordId,
    create: bool,
    changes: Vec<Change>,
) -> EditCommand {
    let part = PartDraft { record, record_kind: RecordKind::Person, create, valid_from: Vec::new(), changes };
    EditCommand {
        shard: SHARD,
        kind,
        origin: Origin {
            request,
            claims: claims(Role::Registrar, PATH[3]),
            purpose: Purpose::Registration,
            case: "KS-1".parse().unwrap(),
            authored_ms: 1,
            received_ms: request.counter as i64,
        },
        secret: [request.session.0[0]; 32],
        parts: vec![part],
    }
}

/// A registrar of the commune, and with which certificate; whoever writes by [`command`] is `nguyen.lan` with the first.
pub fn person(subject: &str, certificate: u8) -> Claims {
    Claims::new(subject, Role::Registrar, PATH[3], EvidenceId([certificate; 16])).unwrap()
}

/// The values of a field that stands once, as they are written.
pub fn shown(record: &Record, field: FieldId) -> Vec<String> {
    record.values(&(field, Vec::new())).iter().map(|tagged| display(field, &tagged.value, &NoUnits)).collect()
}

/// Why edits are set aside.
pub fn aside(office: &Office) -> Vec<Poison> {
    let found = read_range::<Poison>(&office.state, office.keys().poisons(SHARD)).unwrap();
    found.into_iter().map(|(_, poison)| poison).collect()
}

/// The edits of a record that say what it is, with their hashes, in the order in which they came.
pub fn edits(office: &Office, record: RecordId) -> Vec<(Edit, Hash)> {
    let places = read_range::<Dot>(&office.state, office.keys().history(SHARD, record)).unwrap();
    let stored = places.into_iter().map(|(_, place)| {
        let stored: StoredEdit = read(&office.state, &office.keys().edit(SHARD, &place)).unwrap().unwrap();
        (Edit::from_bytes(&stored.bytes).unwrap(), stored.hash)
    });
    stored.filter(|(edit, _)| edit.standing_change().is_none()).collect()
}

/// Brings two offices into step.
pub fn meet(one: &mut Office, two: &mut Office) {
    let (from_one, from_two) = (one.stream(), two.stream());
    two.merge(one.site, from_one, 6);
    one.merge(two.site, from_two, 6);
    assert_eq!(one.shard().edits_digest, two.shard().edits_digest);
    assert_eq!(one.shard().state_digest, two.shard().state_digest);
    assert_eq!((one.shard().pending, aside(one)), (two.shard().pending, aside(two)));
}
