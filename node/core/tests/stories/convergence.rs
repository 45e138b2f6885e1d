//! Sites in a row, sessions between neighbours, and chance: links are cut in mid-message, offices come back from old
//! backups and go on editing, officers edit one field at several sites. Afterwards all links heal, and every site must
//! hold equal edits and records, and every edit that was acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::memory::{Office, SHARD, request};
use dinhba_core::command::{Answer, Command};
use dinhba_core::ids::{RecordId, RequestId, SiteId};
use dinhba_core::schema::field;
use dinhba_core::sync::{Effect, Event, Message, Session, edits_above};
use proptest::prelude::*;

/// Neighbours `i` and `i + 1`; the higher index is the parent.
#[derive(Default)]
struct Link {
    ends: Option<[Session; 2]>,
    wire: [VecDeque<Message>; 2],
}

struct Country {
    offices: Vec<Office>,
    links: Vec<Link>,
    acknowledged: BTreeMap<RequestId, RecordId>,
    counter: u64,
    backups: Vec<Option<Office>>,
}

impl Country {
    fn new(sites: usize) -> Self {
        let offices: Vec<Office> = (1..=sites as u64).map(Office::new).collect();
        let links = (1..sites).map(|_| Link::default()).collect();
        Country { offices, links, acknowledged: BTreeMap::new(), counter: 0, backups: vec![None; sites] }
    }

    fn connect(&mut self, link: usize) {
        let session = |peer: usize, child| Session::new(SiteId(peer as u64 + 1), child, BTreeSet::from([SHARD]));
        let ends = [session(link + 1, false), session(link, true)];
        self.links[link] = Link { ends: Some(ends), wire: Default::default() };
        self.event(link, 0, Event::Opened);
        self.event(link, 1, Event::Opened);
    }

    fn event(&mut self, link: usize, end: usize, event: Event) {
        let Some(ends) = &mut self.links[link].ends else { return };
        let office = &self.offices[link + end];
        let effects = ends[end].handle(&office.here(), event).unwrap();
        for effect in effects {
            let (site, peer) = (link + end, SiteId((link + 1 - end) as u64 + 1));
            match effect {
                Effect::Send(message) => self.links[link].wire[end].push_back(message),
                Effect::Merge(batch) => {
                    let merged = self.offices[site].merge(peer, batch, 3);
                    self.event(link, end, Event::Merged(merged));
                    self.advanced(site);
                    if self.links[link].ends.is_none() {
                        return;
                    }
                }
                Effect::Renew { author, common, .. } => {
                    let answer = self.offices[site].renew(author, common);
                    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
                    self.cut_all(site);
                    return;
                }
                Effect::Reissue(branch) => {
                    let answer = self.offices[site].run(Command::Reissue(branch));
                    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
                    self.advanced(site);
                    if self.links[link].ends.is_none() {
                        return;
                    }
                }
                Effect::State(_) | Effect::Keep(_) => {}
                Effect::Close(_) => {
                    self.links[link] = Link::default();
                    return;
                }
            }
        }
    }

    fn cut_all(&mut self, site: usize) {
        for link in [site.checked_sub(1), Some(site)].into_iter().flatten() {
            if let Some(link) = self.links.get_mut(link) {
                *link = Link::default();
            }
        }
    }

    fn advanced(&mut self, site: usize) {
        if site > 0 {
            self.event(site - 1, 1, Event::Advanced);
        }
        if site < self.links.len() {
            self.event(site, 0, Event::Advanced);
        }
    }

    /// Delivers one message of one end, if there is one.
    fn deliver(&mut self, link: usize, end: usize) -> bool {
        match self.links[link].wire[end].pop_front() {
            Some(message) => {
                self.event(link, 1 - end, Event::Received(message));
                true
            }
            None => false,
        }
    }

    fn edit(&mut self, site: usize, which: u8, value: u8) {
        self.counter += 1;
        let request = request(site as u8 + 1, self.counter);
        let known: Vec<RecordId> = self
            .acknowledged
            .values()
            .copied()
            .filter(|record| self.offices[site].state.0.contains_key(&self.offices[site].keys().record(SHARD, *record)))
            .collect();
        let office = &mut self.offices[site];
        if known.is_empty() || value < 40 {
            let record = office.create(request, "Lê//An");
            self.acknowledged.insert(request, record);
        } else {
            let record = known[usize::from(which) % known.len()];
            let (field, text) = match value % 3 {
                0 => (field::SEX, if value.is_multiple_of(2) { "male" } else { "female" }.to_owned()),
                1 => (field::NOTE, format!("note {value}")),
                _ => (field::NAME, format!("Lê//An{}", ["a", "b", "c"][usize::from(value) % 3])),
            };
            if let Answer::Accepted(_) = office.set(request, record, field, &text) {
                self.acknowledged.insert(request, record);
            }
        }
        self.advanced(site);
    }

    fn heal(&mut self) {
        for round in 0..40 {
            for link in 0..self.links.len() {
                if self.links[link].ends.is_none() {
                    self.connect(link);
                }
            }
            let mut delivered = true;
            while delivered {
                delivered = (0..self.links.len()).any(|link| self.deliver(link, 0) | self.deliver(link, 1));
            }
            for link in 0..self.links.len() {
                self.event(link, 0, Event::Tick(round));
                self.event(link, 1, Event::Tick(round));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Edit { site: usize, which: u8, value: u8 },
    Deliver { link: usize, end: usize },
    Connect(usize),
    Cut(usize),
    Backup(usize),
    Restore(usize),
}

const SITES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let link = 0..SITES - 1;
    prop_oneof![
        12 => (0..SITES, any::<u8>(), any::<u8>()).prop_map(|(site, which, value)| Step::Edit { site, which, value }),
        24 => (link.clone(), 0..2_usize).prop_map(|(link, end)| Step::Deliver { link, end }),
        3 => link.clone().prop_map(Step::Connect),
        2 => link.prop_map(Step::Cut),
        1 => (0..SITES).prop_map(Step::Backup),
        1 => (0..SITES).prop_map(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_sites_end_equal_and_nothing_acknowledged_is_lost(
        steps in prop::collection::vec(step(), 1..250),
        restores: bool,
    ) {
        let mut country = Country::new(SITES);
        // An edit that only the lost disk knew is lost with it: a site's restore forgives those, and only those.
        let mut forgiven: BTreeSet<RequestId> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Edit { site, which, value } => country.edit(site, which, value),
                Step::Deliver { link, end } => drop(country.deliver(link, end)),
                Step::Connect(link) => country.connect(link),
                Step::Cut(link) => country.links[link] = Link::default(),
                Step::Backup(site) => country.backups[site] = Some(country.offices[site].clone()),
                Step::Restore(site) => {
                    if restores && let Some(backup) = country.backups[site].take() {
                        let held = |office: &Office, request: &RequestId| {
                            office.state.0.contains_key(&office.keys().request(*request))
                        };
                        let others = || country.offices.iter().enumerate().filter(|(at, _)| *at != site);
                        forgiven.extend(country.acknowledged.keys().filter(|request| {
                            !held(&backup, request) && !others().any(|(_, office)| held(office, request))
                        }));
                        let chance = country.counter;
                        country.offices[site] = backup;
                        // Chance never repeats, also not after a restore.
                        (0..=chance).for_each(|_| _ = country.offices[site].random());
                        country.cut_all(site);
                    }
                }
            }
        }
        country.heal();
        let top = &country.offices[SITES - 1];
        for office in &country.offices {
            let (here, there) = (office.shard(), top.shard());
            prop_assert_eq!(edits_above(&office.here().heads(SHARD).unwrap(), &top.here().heads(SHARD).unwrap()), 0);
            prop_assert_eq!(office.here().heads(SHARD).unwrap(), top.here().heads(SHARD).unwrap());
            prop_assert_eq!(here.edits_digest, there.edits_digest);
            prop_assert_eq!(here.state_digest, there.state_digest);
            prop_assert_eq!(here.conflicts, there.conflicts);
            for (request, record) in country.acknowledged.iter().filter(|(request, _)| !forgiven.contains(request)) {
                prop_assert!(
                    office.state.0.contains_key(&office.keys().request(*request)),
                    "{request} of {record} is lost at {}", office.site
                );
            }
        }
    }
}
