//! Sites in a row and in a tree, sessions between neighbours, and chance: links are cut in mid-message and opened twice,
//! offices come back from old copies and from archives and go on editing, officers edit one field at several sites, create several records
//! in one command, decide conflicts, and use rules that other sites do not know yet. Afterwards all links heal, and every
//! site must hold equal edits and records, and every edit that was acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::memory::{Office, SHARD, command, create_command, request, seal, value};
use dinhba_core::archive::{Content, Piece};
use dinhba_core::command::{Answer, Command, ConflictKey, EditCommand, Renew, Statement};
use dinhba_core::edit::{Change, Edit, EditKind, GROUNDS};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Hash, Incarnation, RecordId, RequestId, SiteId};
use dinhba_core::registry::{StoredEdit, conflicts_of, read_range};
use dinhba_core::schema::field;
use dinhba_core::sync::{Effect, Event, Message, Moved, STATEMENTS_PAUSE_MS, Session};
use proptest::prelude::*;

const SITES: usize = 4;
const LINKS: usize = SITES - 1;

/// Sessions that one link may have at once: a connection that is not yet known to be dead, and its successor.
const SLOTS: usize = 2;

/// Child and parent of each link.
type Shape = [(usize, usize); LINKS];
const ROW: Shape = [(0, 1), (1, 2), (2, 3)];
const TREE: Shape = [(0, 2), (1, 2), (2, 3)];

/// One connection: both ends, and per end what it said that has not arrived. An end that crashed is none; what it said
/// before still arrives.
#[derive(Default)]
struct Link {
    ends: [Option<Session>; 2],
    wire: [VecDeque<Message>; 2],
}

struct Country {
    shape: Shape,
    offices: Vec<Office>,
    links: Vec<[Link; SLOTS]>,
    /// What clients were told is accepted.
    acknowledged: BTreeSet<RequestId>,
    records: Vec<RecordId>,
    /// Edits that only the lost disk knew are lost with it: a restore forgives those, and only those.
    forgiven: BTreeSet<RequestId>,
    counter: u64,
    backups: Vec<Option<Office>>,
    /// What each site's archive holds.
    archives: Vec<Vec<(Piece, Content)>>,
    restores: usize,
    new_lives: usize,
    messages: usize,
}

impl Country {
    fn new(shape: Shape) -> Self {
        Country {
            shape,
            offices: (1..=SITES as u64).map(Office::new).collect(),
            links: (0..LINKS).map(|_| Default::default()).collect(),
            acknowledged: BTreeSet::new(),
            records: Vec::new(),
            forgiven: BTreeSet::new(),
            counter: 0,
            backups: vec![None; SITES],
            archives: vec![Vec::new(); SITES],
            restores: 0,
            new_lives: 0,
            messages: 0,
        }
    }

    fn site(&self, link: usize, end: usize) -> usize {
        if end == 0 { self.shape[link].0 } else { self.shape[link].1 }
    }

    fn connect(&mut self, link: usize, slot: usize) {
        let ends = [0, 1].map(|end| {
            let peer = SiteId(self.site(link, 1 - end) as u64 + 1);
            let session = Session::new(peer, end == 1, BTreeSet::from([SHARD]));
            // Of the two links between neighbours, one sleeps while nothing differs.
            Some(if (link + slot).is_multiple_of(2) { session } else { session.with_greeted_at_once(0) })
        });
        self.links[link][slot] = Link { ends, wire: Default::default() };
        self.event((link, slot), 0, Event::Opened);
        self.event((link, slot), 1, Event::Opened);
    }

    fn cut(&mut self, (link, slot): (usize, usize)) {
        self.links[link][slot] = Link::default();
    }

    fn is_up(&self, (link, slot): (usize, usize)) -> bool {
        self.links[link][slot].ends.iter().all(Option::is_some)
    }

    /// The site's process ends: so do its ends of all sessions, and what was said to it.
    fn crash(&mut self, site: usize) {
        for (link, end) in (0..LINKS).flat_map(|link| [(link, 0), (link, 1)]) {
            if self.site(link, end) == site {
                for connection in &mut self.links[link] {
                    connection.ends[end] = None;
                    connection.wire[1 - end].clear();
                }
            }
        }
    }

    fn event(&mut self, (link, slot): (usize, usize), end: usize, event: Event) {
        let site = self.site(link, end);
        let peer = self.offices[self.site(link, 1 - end)].site;
        let Some(session) = &mut self.links[link][slot].ends[end] else { return };
        let effects = session.handle(&self.offices[site].here(), event).unwrap();
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    // What goes over a link is bytes.
                    let message = Message::from_bytes(&message.to_bytes()).unwrap();
                    self.links[link][slot].wire[end].push_back(message);
                }
                Effect::Edits { mut batch, own } => {
                    seal(&mut batch, own);
                    let message = Message::from_bytes(&Message::Batch(batch).to_bytes()).unwrap();
                    self.links[link][slot].wire[end].push_back(message);
                }
                Effect::Merge(batch) => {
                    let author = self.offices[site].shard().own.id();
                    let merged = self.offices[site].merge(peer, batch, self.counter as i64);
                    self.new_lives += usize::from(self.offices[site].shard().own.id() != author);
                    self.event((link, slot), end, Event::Merged(merged));
                    self.advanced(site);
                }
                Effect::Renew { author, .. } => {
                    self.renew(site, author);
                    self.crash(site);
                    return;
                }
                Effect::State { own, relayed } => {
                    let signed = own.into_iter().map(|body| Statement { body, signature: [7; 64] });
                    let statements = Message::Statements(signed.chain(relayed).collect());
                    self.links[link][slot].wire[end].push_back(statements);
                }
                Effect::Keep(statements) => _ = self.offices[site].run(Command::Keep(statements)),
                Effect::Close(_) => return self.cut((link, slot)),
            }
            if self.links[link][slot].ends[end].is_none() {
                return;
            }
        }
    }

    fn renew(&mut self, site: usize, author: dinhba_core::ids::AuthorId) {
        let office = &mut self.offices[site];
        let (incarnation, epoch) = (Incarnation(office.random()), office.random());
        let renew = Renew { shard: SHARD, author, incarnation, epoch };
        let answer = office.run(Command::Renew(renew));
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
        self.new_lives += usize::from(office.shard().own.incarnation == incarnation);
    }

    /// Time passes, enough for the next statements.
    fn tick(&mut self, at: (usize, usize), end: usize) {
        self.counter += 1;
        self.event(at, end, Event::Tick(self.counter as i64 * STATEMENTS_PAUSE_MS as i64));
    }

    fn advanced(&mut self, site: usize) {
        for (link, end, slot) in
            (0..LINKS).flat_map(|link| [(link, 0), (link, 1)]).flat_map(|(link, end)| [(link, end, 0), (link, end, 1)])
        {
            if self.site(link, end) == site {
                self.event((link, slot), end, Event::Advanced(Moved::Any));
            }
        }
    }

    /// Delivers one message of one end, if there is one.
    fn deliver(&mut self, at: (usize, usize), end: usize) -> bool {
        match self.links[at.0][at.1].wire[end].pop_front() {
            Some(message) => {
                self.messages += 1;
                self.event(at, 1 - end, Event::Received(message));
                true
            }
            None => false,
        }
    }

    fn officer(&mut self, site: usize, which: u8, value: u8) {
        self.counter += 1;
        let request = request(site as u8 + 1, self.counter);
        let office = &self.offices[site];
        let is_here = |record: &&RecordId| office.state.0.contains_key(&office.keys().record(SHARD, **record));
        let known: Vec<RecordId> = self.records.iter().filter(is_here).copied().collect();
        let command = match known.get(usize::from(which) % known.len().max(1)) {
            Some(record) if value >= 60 => change_or_decision(office, request, *record, value),
            _ => family(request, 1 + u32::from(value % 3)),
        };
        let new = command.parts.iter().filter(|part| part.create).map(|part| part.record).collect::<Vec<_>>();
        if let Answer::Accepted(_) = self.offices[site].edit(command) {
            self.acknowledged.insert(request);
            self.records.extend(new);
        }
        self.advanced(site);
    }

    fn back_up(&mut self, site: usize) {
        self.backups[site] = Some(self.offices[site].clone());
        self.offices[site].back_up(&mut self.archives[site]);
    }

    /// Whatever became of a site, what is founded from its archive is equal to it but for its new life.
    fn check_archives(&mut self) {
        for site in 0..SITES {
            self.back_up(site);
            let office = &self.offices[site];
            let again = office.founded_from(&self.archives[site], None).unwrap();
            assert_eq!(again.here().heads(SHARD).unwrap(), office.here().heads(SHARD).unwrap());
            assert_eq!(again.records(), office.records());
            let (mut was, now) = (office.summary(), again.summary());
            assert_ne!(was.shards[0].incarnation, now.shards[0].incarnation);
            was.shards[0].incarnation = now.shards[0].incarnation;
            assert_eq!(was, now);
            let requests = self.acknowledged.iter().map(|request| office.keys().request(SHARD, *request));
            for key in requests.filter(|key| office.state.0.contains_key(key)) {
                assert_eq!(again.state.0.get(&key), office.state.0.get(&key), "another receipt");
            }
        }
    }

    fn restore(&mut self, site: usize, from_archive: bool) {
        let mut backup = self.backups[site].clone();
        if from_archive {
            let office = &self.offices[site];
            backup = backup.map(|_| office.founded_from(&self.archives[site], None).unwrap());
        }
        let Some(backup) = backup else { return };
        self.restores += 1;
        self.crash(site);
        let held =
            |office: &Office, request: &RequestId| office.state.0.contains_key(&office.keys().request(SHARD, *request));
        // What the lost disk sent may still arrive.
        let on_the_way: BTreeSet<RequestId> =
            self.links.iter().flatten().flat_map(|link| &link.wire).flatten().flat_map(requests_of).collect();
        let others = || self.offices.iter().enumerate().filter(|(at, _)| *at != site).map(|(_, office)| office);
        let lost = self.acknowledged.iter().filter(|request| {
            !held(&backup, request) && !on_the_way.contains(request) && !others().any(|office| held(office, request))
        });
        self.forgiven.extend(lost);
        // What is on the way and never arrives was known to the lost disk alone, too.
        let maybe = on_the_way.iter().filter(|request| !held(&backup, request));
        self.forgiven.extend(maybe.filter(|request| !others().any(|office| held(office, request))));
        self.offices[site] = backup;
        self.offices[site].skip_chance(1_000 * self.counter + 100 * self.restores as u64);
    }

    /// All links work, everyone learns the newest rules, nothing else happens. Returns the messages it took.
    fn heal(&mut self) -> usize {
        (0..SITES).for_each(|site| self.crash(site));
        (0..LINKS).for_each(|link| (0..SLOTS).for_each(|slot| self.cut((link, slot))));
        self.messages = 0;
        for _ in 0..HEAL_ROUNDS {
            for link in 0..LINKS {
                if !self.is_up((link, 0)) {
                    self.connect(link, 0);
                }
            }
            while (0..LINKS).any(|link| self.deliver((link, 0), 0) | self.deliver((link, 0), 1)) {
                assert!(self.messages < 100_000, "the sessions spin");
            }
            for (link, end) in (0..LINKS).flat_map(|link| [(link, 0), (link, 1)]) {
                self.tick((link, 0), end);
            }
        }
        self.offices.iter_mut().for_each(|office| _ = office.raise());
        self.messages
    }

    fn check_whole_commands(&self) {
        for office in &self.offices {
            let mut parts: BTreeMap<RequestId, (u32, BTreeSet<u32>)> = BTreeMap::new();
            for (hash, edit) in edits_of(office) {
                let (known, seen) =
                    parts.entry(edit.header.origin.request).or_insert((edit.header.of, BTreeSet::new()));
                assert_eq!(*known, edit.header.of);
                assert!(seen.insert(edit.header.part), "{:?} of {hash} is here twice", edit.header.origin.request);
            }
            for (request, (of, seen)) in parts {
                assert_eq!(seen.len(), of as usize, "{request:?} is split at {}", office.site);
            }
        }
    }

    fn check_equal_and_nothing_lost(&self) {
        self.check_whole_commands();
        let top = &self.offices[SITES - 1];
        for office in &self.offices {
            let (here, there) = (office.shard(), top.shard());
            assert_eq!(office.here().heads(SHARD).unwrap(), top.here().heads(SHARD).unwrap());
            assert_eq!(office.here().edits_above(SHARD, &top.here().heads(SHARD).unwrap()).unwrap(), 0);
            assert_eq!(here.edits_digest, there.edits_digest);
            assert_eq!(here.state_digest, there.state_digest);
            assert_eq!((here.conflicts, here.poisoned), (there.conflicts, 0));
            assert_eq!(office.listed().len() as u64, here.conflicts + here.pending + here.unnumbered);
            assert_eq!((here.persons, here.households), (there.persons, there.households));
            for request in self.acknowledged.difference(&self.forgiven) {
                assert!(
                    office.state.0.contains_key(&office.keys().request(SHARD, *request)),
                    "{request:?} is lost at {}",
                    office.site
                );
            }
        }
    }
}

fn edits_of(office: &Office) -> impl Iterator<Item = (Hash, Edit)> {
    let edits: Vec<(Vec<u8>, StoredEdit)> = read_range(&office.state, office.keys().edits(SHARD)).unwrap();
    edits.into_iter().map(|(_, stored)| (stored.hash, Edit::from_bytes(&stored.bytes).unwrap()))
}

fn requests_of(message: &Message) -> Vec<RequestId> {
    match message {
        Message::Batch(batch) => {
            let edits = batch.items.iter().map(|item| Edit::from_bytes(&item.bytes).unwrap());
            edits.map(|edit| edit.header.origin.request).collect()
        }
        _ => Vec::new(),
    }
}

/// Several persons in one command.
fn family(request: RequestId, parts: u32) -> EditCommand {
    let mut edit = create_command(request, "Lê//An");
    for part in 1..parts {
        let mut more = edit.parts[0].clone();
        more.record = RecordId::derive(request, part);
        edit.parts.push(more);
    }
    edit
}

/// Decides a conflict if there is one and the dice say so, else changes a field, with grounds if the level allows it.
fn change_or_decision(office: &Office, request: RequestId, record: RecordId, dice: u8) -> EditCommand {
    let current = office.record(record);
    let disputed = conflicts_of(office.level(), &current).into_iter().find_map(|conflict| match conflict {
        ConflictKey::Field((field, _)) => Some(field),
        ConflictKey::Rule(_) | ConflictKey::Number(_) => None,
    });
    let (field, text) = match (dice % 3, disputed) {
        (_, Some(field)) if field == field::SEX => (field, "male".to_owned()),
        (0, _) => (field::SEX, if dice.is_multiple_of(2) { "male" } else { "female" }.to_owned()),
        (1, _) => (field::NOTE, format!("note {dice}")),
        _ => (field::NAME, format!("Lê//An{}", ["a", "b", "c"][usize::from(dice / 3) % 3])),
    };
    let decides = disputed == Some(field) && !dice.is_multiple_of(4);
    let with_grounds = decides || (dice.is_multiple_of(5) && office.level() == 2);
    let change = Change {
        field,
        element: Vec::new(),
        value: value(field, &text),
        overwrites: current.dots(&(field, Vec::new())),
    };
    let grounds =
        Change { field: GROUNDS, element: Vec::new(), value: b"birth certificate".to_vec(), overwrites: Vec::new() };
    let changes = if with_grounds { vec![grounds, change] } else { vec![change] };
    let kind = if decides { EditKind::Decision } else { EditKind::Change };
    command(request, kind, record, false, changes)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Edit { site: usize, which: u8, value: u8 },
    Deliver { link: usize, slot: usize, end: usize },
    Connect { link: usize, slot: usize },
    Cut { link: usize, slot: usize },
    Backup(usize),
    Restore(usize),
    Refound(usize),
    Raise(usize),
    Tick { link: usize, slot: usize, end: usize },
}
use Step::{Backup, Connect, Cut, Deliver, Raise, Refound, Restore, Tick};

fn step() -> impl Strategy<Value = Step> {
    let link = || (0..LINKS, prop_oneof![4 => Just(0_usize), 1 => Just(1_usize)]);
    prop_oneof![
        12 => (0..SITES, any::<u8>(), any::<u8>()).prop_map(|(site, which, value)| Step::Edit { site, which, value }),
        30 => (link(), 0..2_usize).prop_map(|((link, slot), end)| Deliver { link, slot, end }),
        4 => link().prop_map(|(link, slot)| Connect { link, slot }),
        2 => link().prop_map(|(link, slot)| Cut { link, slot }),
        1 => (0..SITES).prop_map(Backup),
        1 => (0..SITES).prop_map(Restore),
        1 => (0..SITES).prop_map(Refound),
        1 => (0..SITES).prop_map(Raise),
        3 => (link(), 0..2_usize).prop_map(|((link, slot), end)| Tick { link, slot, end }),
    ]
}

/// Rounds after which a healed tree must be at rest: a restored site renews and connects anew, site by site.
const HEAL_ROUNDS: usize = 2 * SITES;

fn play(shape: Shape, steps: &[Step], restores: bool) {
    let mut country = Country::new(shape);
    for step in steps {
        match *step {
            Step::Edit { site, which, value } => country.officer(site, which, value),
            Deliver { link, slot, end } => drop(country.deliver((link, slot), end)),
            Connect { link, slot } => country.connect(link, slot),
            Cut { link, slot } => country.cut((link, slot)),
            Backup(site) => country.back_up(site),
            Restore(site) if restores => country.restore(site, false),
            Refound(site) if restores => country.restore(site, true),
            Restore(_) | Refound(_) => {}
            Raise(site) => drop(country.offices[site].raise()),
            Tick { link, slot, end } => country.tick((link, slot), end),
        }
    }
    country.check_whole_commands();
    country.check_archives();
    let messages = country.heal();
    country.check_equal_and_nothing_lost();
    country.check_archives();
    assert!(country.new_lives <= country.restores, "{} new lives, {} restores", country.new_lives, country.restores);
    let bound = HEAL_MESSAGES_MAX + 4 * country.acknowledged.len();
    assert!(messages <= bound, "healing took {messages} messages");
    // At rest: nothing more is said.
    let quiet = country.messages;
    for link in 0..LINKS {
        assert!(country.is_up((link, 0)));
        while country.deliver((link, 0), 0) | country.deliver((link, 0), 1) {}
    }
    assert_eq!(country.messages, quiet);
}

/// Messages beside those that carry edits.
const HEAL_MESSAGES_MAX: usize = 400;

// More cases by `PROPTEST_CASES`, when sync or registry change: `PROPTEST_CASES=20000 cargo test --release -p dinhba-core`.
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_sites_end_equal_and_nothing_acknowledged_is_lost(
        steps in prop::collection::vec(step(), 1..250),
        restores in prop::bool::weighted(0.8),
        tree: bool,
    ) {
        play(if tree { TREE } else { ROW }, &steps, restores);
    }
}

/// Found by chance: neither restored site is the one whose edits the other numbers anew.
#[test]
fn two_neighbours_are_restored_one_after_the_other() {
    let edit = |site| Step::Edit { site, which: 0, value: 0 };
    let arrive = |link, end| Deliver { link, slot: 0, end };
    let steps = [
        &[Backup(0), Backup(1), Connect { link: 0, slot: 0 }, arrive(0, 0), arrive(0, 1), edit(0), arrive(0, 0)][..],
        &[Connect { link: 1, slot: 0 }, Restore(0), arrive(1, 0), arrive(1, 1), arrive(1, 0), Restore(1), edit(0)],
    ];
    play(ROW, &steps.concat(), true);
}

/// Found by chance: site 2 hears of one branch after its first word to site 3 and before site 3's, so what it knows is
/// not what it has said.
#[test]
fn a_branch_arrives_between_the_two_first_words() {
    let edit = |site, value| Step::Edit { site, which: 0, value };
    let arrive = |link, end| Deliver { link, slot: 0, end };
    let steps = [
        &[Connect { link: 2, slot: 0 }, Backup(2), Backup(3), edit(3, 0), arrive(2, 1), arrive(2, 0), arrive(2, 1)][..],
        &[Connect { link: 1, slot: 0 }, arrive(1, 0), Restore(2), Restore(3), edit(0, 0), arrive(1, 1), arrive(1, 1)],
        &[edit(3, 13)],
    ];
    play(ROW, &steps.concat(), true);
}

/// Found by chance: three branches from the first number on; the middle site learns one while it greets the next.
#[test]
fn one_backup_is_restored_twice_and_each_life_spoke_to_another_neighbour() {
    let edit = |site, value| Step::Edit { site, which: 0, value };
    let arrive = |link, end| Deliver { link, slot: 0, end };
    let steps = [
        &[Backup(1), edit(1, 0), Connect { link: 0, slot: 0 }, arrive(0, 0), Restore(1), arrive(0, 1), arrive(0, 1)][..],
        &[Connect { link: 1, slot: 0 }, edit(1, 3), arrive(1, 1), Restore(1), arrive(1, 0), arrive(1, 0), edit(1, 1)],
    ];
    play(ROW, &steps.concat(), true);
}
