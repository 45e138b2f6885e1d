//! What a thief sends: batches and messages, made from what the site holds whose key he has.
//!
//! Promises: everything has the form that the link's messages have, but for what says otherwise; edits of the thief write on
//! records and fields of their own, so that what officers are told of theirs is still theirs to judge.

use dinhba_core::claims::{Claims, Purpose, Role};
use dinhba_core::command::{Cursor, Heads, Item, Seal, Statement, StatementBody, Tip};
use dinhba_core::edit::{Author, Change, Dot, Edit, EditKind, Header, Origin};
use dinhba_core::encoding::Wire;
use dinhba_core::event::Event;
use dinhba_core::ids::{AuthorId, EvidenceId, Hash, Incarnation, RecordId, RequestId, SessionId, ShardId, SiteId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, AuthorState, Authors, SECRETS_MAX, StoredEdit};
use dinhba_core::schema::{self, FieldId, RecordKind, field};
use dinhba_core::sync::{Ack, Again, Ask, Batch, HEADS_MAX, Hashes, Hello, Message, ShardHello};
use dinhba_node::runtime;
use ed25519_dalek::{Signer, SigningKey};

use crate::country::Country;
use crate::scenario::directory;
use crate::state::engine;
use crate::trace::SitePlace;

/// Lives that one batch invents: a few batches come to the bound.
const CROWD: usize = 60;

/// Secrets of one session that are sent: more than are taken.
const SECRETS: usize = SECRETS_MAX + 4;

/// Papers in one large edit, each of about a kilobyte; such edits in one batch, and such batches: together more than a site's
/// share of a record.
const PAPERS: u32 = 60;
const LARGE_EDITS: u32 = 4;
const LARGE_BATCHES: u32 = 3;

/// What the thief took.
pub(super) struct Goods {
    country: Country,
    key: SigningKey,
    own: Author,
    claims: Claims,
    authors: Authors,
    /// Where the site's own commands begin: the number of the first edit, and the hash of the one before.
    begins: Vec<(u64, Hash)>,
    /// The site's last edit: its number and hash.
    last: Option<(u64, Hash)>,
    /// Records of the shard.
    records: Vec<RecordId>,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    runtime::fill_random(&mut bytes);
    bytes
}

fn change(field: FieldId, value: &str) -> Change {
    Change { field, element: Vec::new(), value: value.as_bytes().to_vec(), overwrites: Vec::new() }
}

/// Edits of one author, each upon the one before.
struct Chain<'g> {
    goods: &'g Goods,
    author: Author,
    number: u64,
    previous: Hash,
    session: SessionId,
    secret: [u8; 32],
    edits: Vec<Edit>,
}

impl Chain<'_> {
    /// A command of these parts, each on a record of its own.
    fn command(mut self, parts: Vec<Vec<Change>>) -> Self {
        let of = u32::try_from(parts.len()).unwrap_or(1);
        for (part, changes) in (0..).zip(parts) {
            self = self.edit((part, of), RecordId(random()), changes, |_| {});
        }
        self
    }

    fn edit(
        mut self,
        (part, of): (u32, u32),
        record: RecordId,
        changes: Vec<Change>,
        alter: impl Fn(&mut Header),
    ) -> Self {
        self.number += 1;
        let now_ms = runtime::utc_ms();
        let mut header = Header {
            level: 1,
            author: self.author,
            number: self.number,
            previous: self.previous,
            kind: EditKind::Change,
            event: Event::Change,
            record,
            record_kind: RecordKind::Person,
            part,
            of,
            origin: Origin {
                request: RequestId { session: self.session, counter: self.number },
                claims: self.goods.claims.clone(),
                purpose: Purpose::Registration,
                case: "HS-2026-1".parse().expect("a case"),
                authored_ms: now_ms,
                received_ms: now_ms,
            },
            valid_from: Vec::new(),
            extensions: Vec::new(),
        };
        alter(&mut header);
        let edit = Edit { header, changes };
        self.previous = edit.hash(&self.secret);
        self.edits.push(edit);
        self
    }

    fn tip(&self) -> Tip {
        Tip { author: self.author, number: self.number, hash: self.previous }
    }
}

/// Chains as a batch at the beginning of a stream that nobody knows.
fn batch(chains: &[Chain<'_>], seals: Vec<Seal>) -> Batch {
    let start = Cursor::start(random());
    let edits = chains.iter().flat_map(|chain| &chain.edits);
    let items: Vec<Item> = edits.map(|edit| Item { dot: edit.dot(), bytes: edit.to_bytes() }).collect();
    let secrets = chains.iter().map(|chain| (chain.author.id(), chain.session, chain.secret)).collect();
    let shard = chains.first().map(|chain| chain.author.shard).unwrap_or_default();
    Batch {
        shard,
        start,
        end: Cursor { position: items.len() as u64, running: Hash(random()), ..start },
        items,
        secrets,
        seals,
    }
}

impl Goods {
    /// What the site has of a shard; none if none of its nodes holds it.
    pub(super) fn of(country: &Country, site: SitePlace, shard: ShardId) -> Option<Self> {
        let plan = &country.sites()[site];
        let (node, group) = (country.machines_of(site).into_iter().next()?, plan.group_of(shard)?);
        let (state, keys) = (engine(country, node), Keys(group));
        let own = registry::read::<registry::ShardState>(&*state, &keys.shard(shard)).ok()??.own;
        let authors = registry::authors(&*state, keys, shard).ok()?;
        let last = authors.get(&own.id()).map_or(0, |author| author.number);
        let held = (1..=last).filter_map(|counter| {
            let key = keys.edit(shard, &Dot { actor: own.id(), counter });
            let stored = registry::read::<StoredEdit>(&*state, &key).ok()??;
            Some((stored.hash, Edit::from_bytes(&stored.bytes).ok()?.header))
        });
        let held: Vec<(Hash, Header)> = held.collect();
        let last = held.last().map(|(hash, header)| (header.number, *hash));
        let begins = held.iter().filter(|(_, header)| header.part == 0);
        let begins = begins.map(|(_, header)| (header.number, header.previous)).collect();
        let records = registry::read_range::<dinhba_core::record::Record>(&*state, keys.records(shard)).ok()?;
        let records = records.iter().filter_map(|(key, _)| registry::record_of(key).ok()).collect();
        let claims = Claims::new("thief", Role::Registrar, plan.unit, EvidenceId::default()).ok()?;
        let (country, key) = (country.clone(), country.stolen_key(site));
        Some(Goods { country, key, own, claims, authors, begins, last, records })
    }

    fn pick(&self, count: usize) -> usize {
        self.country.pick(count)
    }

    /// A word, signed with the stolen key whoever's it is.
    fn word(&self, tip: Tip) -> Seal {
        Seal { tip, signature: self.key.sign(&tip.signed_bytes()).to_bytes() }
    }

    /// As whom the site writes now.
    pub(super) fn author(&self) -> AuthorId {
        self.own.id()
    }

    fn chain(&self, author: Author, number: u64, previous: Hash) -> Chain<'_> {
        let (session, secret) = (SessionId(random()), random());
        Chain { goods: self, author, number, previous, session, secret, edits: Vec::new() }
    }

    /// A new life of a site.
    fn life(&self, site: SiteId) -> Chain<'_> {
        let author = Author { site, incarnation: Incarnation(random()), ..self.own };
        self.chain(author, 0, Hash::default())
    }

    fn said(&self, chain: Chain<'_>) -> Batch {
        let word = self.word(chain.tip());
        batch(&[chain], vec![word])
    }

    /// Another site's author in this shard, with its head.
    fn other(&self) -> Option<&AuthorState> {
        let others: Vec<&AuthorState> = self
            .authors
            .values()
            .filter(|state| state.author.site != self.own.site && state.number > 0 && state.trunk.is_none())
            .collect();
        others.get(self.pick(others.len())).copied()
    }

    fn note() -> Vec<Change> {
        vec![change(field::NOTE, "stolen")]
    }

    // What must not be taken.

    pub(super) fn noise(&self, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|_| random::<1>()[0]).collect()
    }

    /// The site's next edit, without a word for it.
    pub(super) fn without_a_word(&self) -> Option<Batch> {
        let (number, hash) = self.last?;
        let chain = self.chain(self.own, number, hash).command(vec![Self::note()]);
        Some(batch(&[chain], Vec::new()))
    }

    /// The next edit of another site, with the thief's word for it.
    pub(super) fn continued_for_another(&self) -> Option<Batch> {
        let other = self.other()?;
        Some(self.said(self.chain(other.author, other.number, other.hash).command(vec![Self::note()])))
    }

    /// Another first edit of another site.
    pub(super) fn forked_for_another(&self) -> Option<Batch> {
        let author = self.other()?.author;
        Some(self.said(self.chain(author, 0, Hash::default()).command(vec![Self::note()])))
    }

    /// The next edit of another site without its word, beside a true word of this site for its own edit of that number and hash.
    pub(super) fn with_a_word_for_another(&self) -> Option<Batch> {
        let other = self.other()?;
        let forged = self.chain(other.author, other.number, other.hash).command(vec![Self::note()]);
        let word = self.word(Tip { author: self.own, ..forged.tip() });
        Some(batch(&[forged], vec![word]))
    }

    /// A life that another site never had.
    pub(super) fn life_of_another(&self) -> Option<Batch> {
        let site = self.other()?.author.site;
        Some(self.said(self.life(site).command(vec![Self::note()])))
    }

    /// One part of two.
    pub(super) fn half_a_command(&self) -> Option<Batch> {
        let part = self.pick(2);
        let life = self.life(self.own.site);
        // The second part cannot be an author's first edit: it stands after a whole command.
        let life = if part == 1 { life.command(vec![Self::note()]) } else { life };
        let part = u32::try_from(part).unwrap_or(0);
        Some(self.said(life.edit((part, 2), RecordId(random()), Self::note(), |_| {})))
    }

    /// An edit that says it is another's, or nothing that can be read.
    pub(super) fn unreadable(&self) -> Option<Batch> {
        let mut batch = self.said(self.life(self.own.site).command(vec![Self::note()]));
        let item = batch.items.first_mut()?;
        match self.pick(3) {
            0 => item.dot.actor = AuthorId(random()),
            1 => item.bytes.truncate(item.bytes.len() / 2),
            _ => item.bytes = self.noise(300),
        }
        Some(batch)
    }

    /// Edits of another shard in this one's stream.
    pub(super) fn of_another_shard(&self) -> Option<Batch> {
        let author = Author { shard: ShardId(runtime::random_u64()), ..self.own };
        let mut batch = self.said(self.chain(author, 0, Hash::default()).command(vec![Self::note()]));
        batch.shard = self.own.shard;
        Some(batch)
    }

    /// Heads that there are not.
    fn heads(&self, count: usize) -> Heads {
        let head = |_| (AuthorId(random()), (runtime::random_u64(), Hash(random())));
        let known = self.authors.keys().map(|author| (*author, (u64::MAX, Hash(random()))));
        known.chain((0..count).map(head)).collect()
    }

    fn greeting(&self, count: usize) -> Message {
        let cursor = Cursor { epoch: random(), position: runtime::random_u64(), running: Hash(random()) };
        let shard =
            ShardHello { shard: self.own.shard, epoch: random(), heads: self.heads(count), cursor: Some(cursor) };
        Message::Hello(Hello::of(vec![shard]))
    }

    pub(super) fn greeting_of_too_many(&self) -> Message {
        self.greeting(HEADS_MAX + 1)
    }

    /// One message of each kind, none of which says what is so.
    pub(super) fn lies(&self) -> Vec<Message> {
        let shard = self.own.shard;
        let cursor = Cursor { epoch: random(), position: u64::MAX, running: Hash(random()) };
        let author = self.authors.keys().next().copied().unwrap_or_default();
        let hashes = (0..5).map(|_| Hash(random())).collect();
        let mut lies = vec![
            self.greeting(50),
            Message::Ack(Ack { shard, cursor }),
            Message::Again(Again { shard, heads: self.heads(50) }),
            Message::Ask(Ask { shard, author, from: 0, to: u64::MAX }),
            Message::Hashes(Hashes { shard, author, from: u64::MAX, hashes }),
            Message::Statements(self.statements()),
        ];
        lies.rotate_left(self.pick(6));
        lies
    }

    /// In another's name; of its own site, that it holds nothing.
    fn statements(&self) -> Vec<Statement> {
        let sites = [Some(self.own.site), self.other().map(|other| other.author.site)];
        let state = |site| {
            let body = StatementBody {
                site,
                shard: self.own.shard,
                incarnation: self.own.incarnation,
                heads: Heads::new(),
                digest_key: 1,
                level: 1,
                edits: Default::default(),
                state: Default::default(),
                access: Default::default(),
                at_ms: i64::MAX,
            };
            Statement { signature: self.key.sign(&body.to_bytes()).to_bytes(), body }
        };
        sites.into_iter().flatten().map(state).collect()
    }

    // What must be taken.

    /// Other edits from a number on that the site has given: one at which a command begins, or nobody would take it.
    pub(super) fn own_chain_forked(&self) -> Option<Batch> {
        let (number, previous) = *self.begins.get(self.pick(self.begins.len()))?;
        Some(self.said(self.chain(self.own, number - 1, previous).command(vec![Self::note(), Self::note()])))
    }

    /// The number that the site will give next.
    pub(super) fn own_chain_continued(&self) -> Option<Batch> {
        let (number, hash) = self.last?;
        Some(self.said(self.chain(self.own, number, hash).command(vec![Self::note()])))
    }

    /// On a field of somebody's record, three times. Replaces itself alone, which no later edit brings to light; or what comes after it
    /// too; or also edits that are not there, and edits to come.
    pub(super) fn hostile_overwrites(&self) -> Batch {
        let mut chain = self.life(self.own.site);
        let (own, pick) = (chain.author.id(), self.pick(3));
        let mut others: Vec<Dot> = Vec::new();
        if pick == 0 {
            let to_come = |(actor, state): (&AuthorId, &AuthorState)| Dot { actor: *actor, counter: state.number + 3 };
            others.extend(self.authors.iter().map(to_come));
            others.extend((0..20).map(|_| Dot { actor: AuthorId(random()), counter: u64::MAX }));
        }
        let record = self.records.get(self.pick(self.records.len())).copied().unwrap_or(RecordId(random()));
        for number in 1..4 {
            let of_own = if pick == 1 { number..number + 1 } else { 1..4 };
            let mut overwrites: Vec<Dot> = of_own.map(|counter| Dot { actor: own, counter }).collect();
            overwrites.extend(others.iter().cloned());
            overwrites.sort();
            overwrites.dedup();
            let changes = vec![Change { overwrites, ..change(field::OTHER_NAME, "Lan") }];
            chain = chain.edit((0, 1), record, changes, |_| {});
        }
        self.said(chain)
    }

    /// Kinds, levels, roles and fields that this version does not know, and values that no field has.
    pub(super) fn unknown(&self) -> Batch {
        let pick = self.pick(6);
        let alter = |header: &mut Header| match pick {
            0 => header.kind = EditKind::Unknown(200),
            1 => header.level = u16::MAX,
            2 => header.record_kind = RecordKind::Unknown(200),
            3 => header.origin.claims.role = Role::Unknown(200),
            5 => header.event = Event::Unknown(200),
            _ => {}
        };
        let changes = if pick == 4 { vec![change(FieldId(60_000), "?")] } else { Self::note() };
        self.said(self.life(self.own.site).edit((0, 1), RecordId(random()), changes, alter))
    }

    /// A command of which a part can be folded and another cannot.
    pub(super) fn partly_unknown(&self) -> Batch {
        let life = self.life(self.own.site).edit((0, 2), RecordId(random()), Self::note(), |_| {});
        self.said(life.edit((1, 2), RecordId(random()), vec![change(FieldId(60_000), "?")], |_| {}))
    }

    /// More on one record than a site's share of it. Of a new life each time, whose first edit is small: that may count, whatever
    /// becomes of the others.
    pub(super) fn flood(&self, record: RecordId) -> Vec<Batch> {
        let text = format!("kind={}; issued_by={}", "ữ".repeat(100), "ữ".repeat(200));
        let value = schema::parse(field::DOCUMENT, &text, directory()).expect("a paper").encode();
        let papers = || -> Vec<Change> {
            let shelf = u32::from_le_bytes(random());
            let paper = |number: u32| Change {
                element: format!("{shelf:08x}{number:04}").into_bytes(),
                value: value.clone(),
                ..change(field::DOCUMENT, "")
            };
            (0..PAPERS).map(paper).collect()
        };
        let flood = |_| {
            let life = self.life(self.own.site).edit((0, 1), record, Self::note(), |_| {});
            self.said((0..LARGE_EDITS).fold(life, |life, _| life.edit((0, 1), record, papers(), |_| {})))
        };
        (0..LARGE_BATCHES).map(flood).collect()
    }

    // What may be taken up to a bound.

    /// Edits of one session, each under another secret.
    pub(super) fn secrets(&self) -> Vec<Batch> {
        let mut chain = self.life(self.own.site);
        let mut batches = Vec::new();
        for _ in 0..SECRETS {
            (chain.secret, chain.edits) = (random(), Vec::new());
            chain = chain.command(vec![Self::note()]);
            batches.push(batch(std::slice::from_ref(&chain), vec![self.word(chain.tip())]));
        }
        batches
    }

    /// Lives of the site that it never had, each with one edit.
    pub(super) fn crowd(&self) -> Batch {
        let lives: Vec<Chain<'_>> = (0..CROWD).map(|_| self.life(self.own.site).command(vec![Self::note()])).collect();
        let words = lives.iter().map(|life| self.word(life.tip())).collect();
        batch(&lives, words)
    }
}
