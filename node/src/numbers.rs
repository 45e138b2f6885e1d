//! Personal numbers: what a site's program does of itself, so that an office never waits for one.
//!
//! On every node: which blocks this site may use, looked up whenever something moved, for the door to send along with births
//! ([`Numbers`]). On the leaders: numbers for those who wait for one, and blocks for the sites below, before they run dry. What is
//! granted and given is decided where the command is applied; here is only asked for it, so it does no harm to ask in vain, or twice.
//!
//! A site below is not asked what it needs: its births are here, and how many there usually are says how many numbers it must
//! have at home to go on alone for `DAYS_ALONE`, at `BUSY` times the usual births. What is given to whom stands in the
//! ledgers; a life that the site has left is told by its statements, and is granted nothing more.
//!
//! Limit: a node grants for those shards alone whose group it runs. Where no node runs all groups, the leader of the first one
//! must be one that does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dinhba_core::blocks::{
    AVOIDED_MAX, BLOCKS_SENT_MAX, Block, FIRST_SERIAL, GRANTS_MAX, Wanted, covered, number_due, number_lacking,
};
use dinhba_core::claims::{Claims, Purpose, Role};
use dinhba_core::command::{Answer, Command, FileCommand, Filed, GrantCommand, RefusalCode, Statement, Subject};
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::edit::{Author, Dot, Origin};
use dinhba_core::event::Event;
use dinhba_core::ids::{AuthorId, GroupId, RecordId, RequestId, SessionId, ShardId, SiteId, UnitId};
use dinhba_core::inject::sometimes;
use dinhba_core::keys::{Range, suffix};
use dinhba_core::number::{PersonNumber, SERIAL_END, Series, Sex};
use dinhba_core::place::Place;
use dinhba_core::record::Record;
use dinhba_core::registry::{self, ShardState, read};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::sync::Moved;
use dinhba_core::units::{Directory, Tier};

use openraft_rt::watch::WatchReceiver;

use crate::hosted::{Hosted, ProposalFailed};
use crate::pki::evidence_of;
use crate::runtime;
use crate::shared::Shared;

/// So long an office must go on without a link.
const DAYS_ALONE: u32 = 30;

/// At so many times its usual births.
const BUSY: u32 = 3;

/// Numbers of each sex that an office without any births so far has for a year of birth.
const KEEP_MIN: u32 = 10;

/// A year of birth is begun so many months before it and kept supplied for as many after it: births are registered late.
const MONTHS_AROUND: u8 = 3;

/// Blocks are this large at least, by who holds them: the centre's grants are few that way, and what a lost disk wastes is little.
const COMMUNE_BLOCK: Sizes = (20, 1);
const DISTRICT_BLOCK: Sizes = (1_000, 20);
const PROVINCE_BLOCK: Sizes = (10_000, 1_000);

/// Of years in which births are registered now, and of those that are over.
type Sizes = (u32, u32);

/// Numbers of one series that a commune has at home at most, however many births it tells of: ten times what the largest needs.
const NEED_MAX: u32 = 1_000;

/// Lives of a site that are granted blocks of one series. Whoever has a site's key can say that it began another life, and each has blocks of
/// its own; nobody restores an office so often in a year.
const LIVES_MAX: usize = 8;

/// Persons to whom no number could be given that are remembered, so that they are not tried again before something is said of them.
const REFUSED_MAX: usize = 10_000;

/// Persons of a shard who lack a number, and are counted for what the shard needs.
const WAITING_MAX: usize = 1_000;

/// Persons of a shard who are given numbers at one look.
const ASSIGNED_AT_ONCE: usize = 64;

/// Shards that are looked at before others have their turn.
const AT_ONCE: usize = 32;
const PAUSE: Duration = Duration::from_millis(1);

/// Looks may take this share of the time: one in so many.
const REST: u32 = 20;

/// Without a move there is a look so often, since years end.
const LOOK_AT_LEAST: Duration = Duration::from_secs(3600);

/// What the door must know of numbers; looked up beside it.
#[derive(Debug, Default)]
pub struct Numbers(RwLock<Arc<Known>>);

/// What is known of blocks.
#[derive(Debug)]
struct Known {
    /// Those of this site, by shard, and whether they have numbers left.
    own: BTreeMap<ShardId, Vec<(Block, bool)>>,
    /// Below this serial are the numbers that were given before there were blocks: the first one that the centre ever granted.
    floor: u32,
    /// How often the state of the site's first group, where blocks are told, had moved by then.
    seen: u64,
}

impl Default for Known {
    fn default() -> Self {
        Known { own: BTreeMap::new(), floor: FIRST_SERIAL, seen: 0 }
    }
}

impl Numbers {
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The blocks from which a number may come that is given in a shard: of persons whose birth is registered at a place, and of one
    /// sex and birth year if they are known.
    pub(crate) fn blocks(&self, shard: ShardId, place: u16, of: Option<(Sex, u16)>) -> Vec<Block> {
        let known = self.known();
        let is_meant = |block: &&Block| {
            let series = block.series;
            series.place() == place && of.is_none_or(|of| of == (series.sex(), series.birth_year()))
        };
        let with_some = known.own.get(&shard).into_iter().flatten().filter(|(_, is_some)| *is_some);
        with_some.map(|(block, _)| block).filter(is_meant).take(BLOCKS_SENT_MAX).copied().collect()
    }

    /// Whether a number is one that is given from blocks, and of none that this site has for a shard.
    pub(crate) fn is_anothers(&self, shard: ShardId, number: PersonNumber) -> bool {
        let known = self.known();
        number.serial() >= known.floor
            && !known.own.get(&shard).into_iter().flatten().any(|(block, _)| block.has(number))
    }
}

/// The blocks from which a number may come that a form leaves open; see [`Numbers::blocks`]. If none is known and one may have come a
/// moment ago, it is looked for: whoever was told of it need not wait.
pub(crate) fn blocks_for(shared: &Shared, shard: ShardId, of: Option<(Sex, u16)>, home: UnitId) -> Vec<Block> {
    let Some(place) = place_of(&shared.units(), home) else { return Vec::new() };
    let found = shared.numbers.blocks(shard, place, of);
    let has_moved = || {
        let (moved, _) = shared.site_group()?.moves().since(shared.numbers.known().seen);
        Some(match moved {
            Moved::Any => true,
            Moved::Shards(moved) => {
                let place = shared.place();
                moved.iter().any(|shard| place.shards.get(shard).is_some_and(|entry| entry.is_ancestor()))
            }
        })
    };
    if !found.is_empty() || has_moved() != Some(true) {
        return found;
    }
    match learn(shared) {
        Ok(()) => shared.numbers.blocks(shard, place, of),
        Err(_) => found,
    }
}

/// The three digits of numbers of persons whose birth is registered in a unit: of its province.
pub(crate) fn place_of(units: &Directory, unit: UnitId) -> Option<u16> {
    let province =
        units.path(unit).into_iter().find_map(|unit| units.get(unit).filter(|unit| unit.tier == Tier::Province));
    province?.code.parse().ok()
}

/// Looks after numbers until the node stops.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let mut desk = Desk {
        shared: Arc::clone(&shared),
        session: SessionId(runtime::random()),
        counter: 0,
        needs: BTreeMap::new(),
        seen: BTreeMap::new(),
        day: Date::MIN,
        looked_at: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    let (mut seen, mut looked): (Option<u64>, Option<runtime::Instant>) = (None, None);
    let mut rest = shared.rhythm();
    loop {
        if runtime::timeout(rest, WatchReceiver::changed(&mut stopping)).await.is_ok() {
            return;
        }
        rest = shared.rhythm();
        let moved: u64 = shared.hosted().map(|hosted| hosted.moves().count()).sum();
        let is_due = looked.is_none_or(|looked| runtime::now() - looked > LOOK_AT_LEAST);
        if !shared.has_caught_up() || (seen == Some(moved) && !is_due) {
            continue;
        }
        let began = runtime::now();
        match desk.look().await {
            // What was asked for may have come to nothing: it is looked at again once it moved.
            Ok(()) => (seen, looked) = (Some(moved), Some(began)),
            Err(error) => tracing::debug!(%error, "numbers are looked after again later"),
        }
        rest = rest.max((runtime::now() - began) * REST);
    }
}

/// One node's look after numbers.
struct Desk {
    shared: Arc<Shared>,
    /// Names what is asked for.
    session: SessionId,
    counter: u64,
    /// What shards need, by the state of their groups and the day on which that was found out: a centre has ten thousand of them.
    needs: BTreeMap<ShardId, BTreeMap<Series, u32>>,
    seen: BTreeMap<GroupId, u64>,
    day: Date,
    /// Who was looked at last of those who lack a number, where there are more.
    looked_at: BTreeMap<ShardId, RecordId>,
    /// Who could not be given a number, what was known of them then, and the blocks from which it should have come.
    refused: BTreeMap<RecordId, (Vec<Dot>, Vec<Block>)>,
}

/// A commune's shard that is hosted here.
struct Served {
    shard: ShardId,
    unit: UnitId,
    place: u16,
    /// The lowest site that serves its unit or one above: it assigns.
    by: SiteId,
    /// The site below this one, or this one itself, by way of which it has its blocks.
    next: SiteId,
}

impl Desk {
    async fn look(&mut self) -> Result<(), ProposalFailed> {
        let (shared, place) = (Arc::clone(&self.shared), self.shared.place());
        let Some(first) = shared.site_group() else { return Ok(()) };
        let served = served(&shared, &place);
        learn(&shared)?;
        for shard in served.iter().filter(|served| served.by == shared.site()) {
            let Some(hosted) = shared.host_of(shard.shard).filter(|hosted| hosted.group.is_leader()) else { continue };
            self.assign(hosted, shard).await?;
        }
        let grants = shared.units().get(shared.config.site.unit).is_some_and(|unit| unit.tier != Tier::Commune);
        if grants && first.group.is_leader() {
            self.grant(first, &place, &served).await?;
        }
        Ok(())
    }

    /// Gives numbers to those who wait for one, as far as there are some.
    async fn assign(&mut self, hosted: &Hosted, served: &Served) -> Result<(), ProposalFailed> {
        let waiting = hosted.look(|view| {
            let state: Option<ShardState> = read(view, &hosted.keys().shard(served.shard))?;
            if state.is_none_or(|state| state.unnumbered == 0) {
                return Ok(Vec::new());
            }
            // From where the last look ended, so that who cannot be given one keeps nobody else waiting.
            let (mut from, to) = hosted.keys().all_unnumbered(served.shard);
            if let Some(last) = self.looked_at.get(&served.shard) {
                from = hosted.keys().unnumbered(served.shard, *last);
                from.push(0);
            }
            lacking_number(view, hosted, served.shard, (from, to), ASSIGNED_AT_ONCE)
        })?;
        match waiting.last().filter(|_| waiting.len() == ASSIGNED_AT_ONCE) {
            Some((id, _)) => drop(self.looked_at.insert(served.shard, *id)),
            None => drop(self.looked_at.remove(&served.shard)),
        }
        for (id, record) in waiting {
            let Some(due) = number_due(&record, served.unit) else { continue };
            let blocks = self.shared.numbers.blocks(served.shard, served.place, Some(due));
            if blocks.is_empty() {
                continue;
            }
            let seen: BTreeSet<Dot> =
                record.fields().flat_map(|(_, values)| values).map(|tagged| tagged.dot.clone()).collect();
            let as_it_is = (seen.into_iter().collect::<Vec<Dot>>(), blocks.clone());
            if self.refused.get(&id) == Some(&as_it_is) {
                continue;
            }
            let subject = Subject {
                role: 0,
                record: Some(id),
                element: String::new(),
                seen: as_it_is.0.clone(),
                inputs: Vec::new(),
                corrections: Vec::new(),
            };
            let filed = Filed {
                event: Event::NumberAssigned,
                subjects: vec![subject],
                inputs: Vec::new(),
                grounds: String::new(),
            };
            let origin = self.origin();
            let command = FileCommand { shard: served.shard, origin, secret: runtime::random(), filed, blocks };
            match hosted.propose(Command::File(Box::new(command))).await?.0 {
                Answer::Accepted(_) => drop(sometimes("a number is assigned later", true)),
                Answer::Refused(refusal) => {
                    tracing::info!(record = %id, text = refusal.text, "no number can be given: it is tried again when something changes");
                    if self.refused.len() >= REFUSED_MAX {
                        self.refused.clear();
                    }
                    self.refused.insert(id, as_it_is);
                }
                // Somebody was faster.
                answer => tracing::debug!(?answer, "a number is not assigned now"),
            }
        }
        Ok(())
    }

    /// Grants blocks to those who will need them.
    async fn grant(&mut self, first: &Hosted, place: &Place, served: &[Served]) -> Result<(), ProposalFailed> {
        let shard = ShardId::of_unit_above(self.shared.config.site.unit);
        if first.shard(shard)?.is_none() {
            return Ok(());
        }
        self.learn_needs(served).await?;
        let wanted = self.wanted(first, place, served).await?;
        let first_serial = u32::try_from(self.shared.config.numbers.first_serial).unwrap_or(SERIAL_END);
        for part in wanted.chunks(GRANTS_MAX) {
            let origin = self.origin();
            let command =
                GrantCommand { shard, origin, secret: runtime::random(), first_serial, wanted: part.to_vec() };
            match first.propose(Command::Grant(Box::new(command))).await?.0 {
                Answer::Accepted(_) => tracing::info!(wanted = part.len(), "blocks of personal numbers are granted"),
                Answer::Refused(refusal) if refusal.code == RefusalCode::Rule => {
                    tracing::debug!(text = refusal.text, "no block of personal numbers is granted");
                }
                answer => tracing::warn!(?answer, "no block of personal numbers is granted"),
            }
        }
        Ok(())
    }

    /// Finds out what shards need of which something moved.
    async fn learn_needs(&mut self, served: &[Served]) -> Result<(), StoreError> {
        let today = InstantMs(runtime::utc_ms()).date_in_vietnam();
        if today != self.day {
            self.needs.clear();
            self.day = today;
        }
        let shared = Arc::clone(&self.shared);
        for hosted in shared.hosted() {
            let (moved, seen) = hosted.moves().since(self.seen.get(&hosted.id()).copied().unwrap_or(0));
            for (at, shard) in served.iter().enumerate() {
                let is_known = self.needs.contains_key(&shard.shard);
                let has_moved = match &moved {
                    Moved::Any => true,
                    Moved::Shards(moved) => moved.contains(&shard.shard),
                };
                if shared.host_of(shard.shard).map(Hosted::id) != Some(hosted.id()) || (is_known && !has_moved) {
                    continue;
                }
                if hosted.shard(shard.shard)?.is_some() {
                    self.needs.insert(shard.shard, needs(hosted, shard, today)?);
                }
                if at.is_multiple_of(AT_ONCE) {
                    runtime::sleep(PAUSE).await;
                }
            }
            self.seen.insert(hosted.id(), seen);
        }
        Ok(())
    }

    /// What the sites below lack.
    async fn wanted(&self, first: &Hosted, place: &Place, served: &[Served]) -> Result<Vec<Wanted>, StoreError> {
        let (shared, units) = (&self.shared, self.shared.units());
        let own_shard = ShardId::of_unit_above(shared.config.site.unit);
        let grants = first.look(|view| registry::blocks(view, first.keys(), own_shard, None))?;
        // What was granted, by holder and series, whatever it is worth.
        let mut granted: BTreeMap<(Author, Series), u64> = BTreeMap::new();
        for block in grants.into_iter().map(|granted| granted.block) {
            *granted.entry((block.holder, block.series)).or_default() += u64::from(block.count);
        }
        // Who needs how many: what a site on the way must have to grant on is what its communes must have at home.
        let mut needed: BTreeMap<(Author, Series), (u32, Sizes)> = BTreeMap::new();
        for shard in served {
            let (Some(hosted), Some(needs)) = (shared.host_of(shard.shard), self.needs.get(&shard.shard)) else {
                continue;
            };
            let (holder, sizes) = if shard.next == shard.by {
                let holder = match shard.by == shared.site() {
                    true => hosted.shard(shard.shard)?.map(|state| state.own),
                    false => author_of(hosted, shard.by, shard.shard)?,
                };
                (holder, COMMUNE_BLOCK)
            } else {
                let Some(listed) = place.sites.get(&shard.next) else { continue };
                let sizes = match units.get(listed.unit).map(|unit| unit.tier) {
                    Some(Tier::Province) => PROVINCE_BLOCK,
                    _ => DISTRICT_BLOCK,
                };
                (author_of(first, shard.next, ShardId::of_unit_above(listed.unit))?, sizes)
            };
            let Some(holder) = holder else { continue };
            for (series, need) in needs {
                let entry = needed.entry((holder, *series)).or_insert((0, sizes));
                entry.0 = entry.0.saturating_add(*need);
            }
        }
        let holders: BTreeSet<Author> = needed.keys().map(|(holder, _)| *holder).collect();
        let above = shared.path(shared.config.site.unit);
        // Those alone that count: what a branch of a chain granted that was left, nobody uses.
        let blocks = first.look(|view| registry::blocks_of(view, first.keys(), &above, &holders))?;
        let mut wanted = Vec::new();
        for ((holder, series), (need, sizes)) in needed {
            let of_series = blocks.get(&holder).into_iter().flatten().filter(|block| block.series == series);
            let mut left: u64 = 0;
            for block in of_series {
                left += u64::from(self.left_of(first, block)?);
            }
            let already = granted.get(&(holder, series)).copied().unwrap_or(0);
            let is_over = series.birth_year() + 1 < self.day.year();
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let Some(count) = lacking((need, left), is_over, sizes) else { continue };
            if may_have_more(&granted, holder, series) {
                let avoided = self.typed_in(served, series).await?;
                wanted.push(Wanted { series, holder, count, granted: already, avoided });
            }
        }
        Ok(wanted)
    }

    /// How many numbers of a block are left to its holder: not assigned, or not granted on.
    fn left_of(&self, first: &Hosted, block: &Block) -> Result<u32, StoreError> {
        let shard = block.holder.shard;
        let is_commune = self.shared.place().shards.get(&shard).is_some_and(|entry| !entry.is_ancestor());
        let gone = if is_commune {
            let Some(hosted) = self.shared.host_of(shard) else { return Ok(0) };
            let serials = block.serials();
            hosted.look(|view| registry::taken(view, hosted.keys(), shard, (block.series, &serials)))?
        } else {
            let grants = first.look(|view| registry::blocks(view, first.keys(), shard, Some(block.series)))?;
            covered(grants.iter().filter(|granted| block.covers(&granted.block)).map(|granted| granted.block.serials()))
        };
        Ok(block.count.saturating_sub(gone))
    }

    /// Rows of numbers of a series that stand in records though they are in no block here: they were typed in, and must not be granted.
    async fn typed_in(&self, served: &[Served], series: Series) -> Result<Vec<(u32, u32)>, StoreError> {
        let first_serial = u32::try_from(self.shared.config.numbers.first_serial).unwrap_or(SERIAL_END);
        let from = self.shared.numbers.known().floor.min(first_serial);
        let mut typed: BTreeSet<u32> = BTreeSet::new();
        for (at, shard) in served.iter().enumerate() {
            if at.is_multiple_of(AT_ONCE) {
                runtime::sleep(PAUSE).await;
            }
            let Some(hosted) = self.shared.host_of(shard.shard) else { continue };
            typed
                .extend(hosted.look(|view| registry::serials_taken(view, hosted.keys(), shard.shard, (series, from)))?);
        }
        let mut rows: Vec<(u32, u32)> = Vec::new();
        for serial in typed {
            let room = rows.len() < AVOIDED_MAX;
            match rows.last_mut() {
                Some((_, to)) if *to == serial => *to += 1,
                _ if room => rows.push((serial, serial + 1)),
                _ => break,
            }
        }
        Ok(rows)
    }

    /// Who asks: this site itself, under a name that it never used.
    fn origin(&mut self) -> Origin {
        self.counter += 1;
        let evidence = evidence_of(self.shared.signing_key.verifying_key().as_bytes());
        let now_ms = runtime::utc_ms();
        Origin {
            request: RequestId { session: self.session, counter: self.counter },
            claims: Claims::new("dinhba", Role::Site, self.shared.config.site.unit, evidence).expect("a subject"),
            purpose: Purpose::Registration,
            case: "CAP-SO".parse().expect("a case"),
            authored_ms: now_ms,
            received_ms: now_ms,
        }
    }
}

/// The communes' shards that are hosted here, and by way of whom they have their blocks.
fn served(shared: &Shared, place: &Place) -> Vec<Served> {
    let units = shared.units();
    let own = shared.config.site.unit;
    let communes = place.shards.values().filter(|entry| !entry.is_ancestor());
    let served = communes.filter_map(|entry| {
        // From the commune upwards, as far as this site's own unit.
        let path = units.path(entry.unit);
        let below = path.iter().rev().take_while(|unit| **unit != own);
        let sites: Vec<SiteId> = below.filter_map(|unit| place.site_of(*unit)).map(|listed| listed.site).collect();
        let by = sites.first().copied().unwrap_or_else(|| shared.site());
        let next = sites.last().copied().unwrap_or_else(|| shared.site());
        Some(Served { shard: entry.shard, unit: entry.unit, place: place_of(&units, entry.unit)?, by, next })
    });
    served.collect()
}

/// Learns which blocks this site may use; before a node serves anybody, and whenever something moved.
pub(crate) fn learn(shared: &Shared) -> Result<(), StoreError> {
    let Some(first) = shared.site_group() else { return Ok(()) };
    // Before the state is read: what moves meanwhile is looked at the next time.
    let seen = first.moves().count();
    let served = served(shared, &shared.place());
    let mut authors = BTreeSet::new();
    for shard in served.iter().filter(|served| served.by == shared.site()) {
        let state = shared.host_of(shard.shard).map(|hosted| hosted.shard(shard.shard)).transpose()?.flatten();
        authors.extend(state.map(|state| state.own));
    }
    // Also those of this site's own unit: it grants to itself where it is the lowest one.
    let above = shared.path(shared.config.site.unit);
    let found = first.look(|view| registry::blocks_of(view, first.keys(), &above, &authors))?;
    let mut own: BTreeMap<ShardId, Vec<(Block, bool)>> = BTreeMap::new();
    for (holder, mut blocks) in found {
        let Some(hosted) = shared.host_of(holder.shard) else { continue };
        blocks.sort();
        for block in blocks {
            let serials = block.serials();
            let taken =
                hosted.look(|view| registry::taken(view, hosted.keys(), holder.shard, (block.series, &serials)))?;
            own.entry(holder.shard).or_default().push((block, taken < block.count));
        }
    }
    let granted = match above.first() {
        Some(centre) => {
            let centre = ShardId::of_unit_above(*centre);
            first.look(|view| registry::blocks(view, first.keys(), centre, None))?
        }
        None => Vec::new(),
    };
    let floor = granted.iter().map(|granted| granted.block.first).min().unwrap_or(FIRST_SERIAL);
    let known = Known { own, floor, seen };
    *shared.numbers.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    Ok(())
}

/// How many numbers are granted to a holder who has fewer than he needs: so many that he has twice that, and is not back at once; but of
/// years that are over hardly anybody comes after him who comes now.
fn lacking((need, left): (u32, u32), is_over: bool, sizes: Sizes) -> Option<u32> {
    let (wished, size) = if is_over { (need, sizes.1) } else { (need.saturating_mul(2), sizes.0) };
    (left < need).then(|| (wished - left).min(SERIAL_END).next_multiple_of(size))
}

/// Whether a holder may be granted blocks of a series: not one more life of a site that has had too many.
fn may_have_more(granted: &BTreeMap<(Author, Series), u64>, holder: Author, series: Series) -> bool {
    let is_life = |other: &Author| (other.site, other.shard) == (holder.site, holder.shard);
    let lives: BTreeSet<Author> =
        granted.keys().filter(|(other, of)| *of == series && is_life(other)).map(|(other, _)| *other).collect();
    let may = lives.contains(&holder) || lives.len() < LIVES_MAX;
    if !may {
        tracing::warn!(site = %holder.site, %series, "a site began too many lives to be granted more numbers: find out who has its key");
    }
    may
}

/// The present life of a site as an author of a shard, as it says of itself.
pub(crate) fn author_of(hosted: &Hosted, site: SiteId, shard: ShardId) -> Result<Option<Author>, StoreError> {
    let statement = hosted.look(|view| read::<Statement>(view, &hosted.keys().statement(shard, site)))?;
    Ok(statement.map(|statement| Author { site, shard, incarnation: statement.body.incarnation }))
}

/// Whether a block's holder is the present life of its site, as far as is known here: by what the site says of itself, or, where it says so to
/// others alone, by its edits.
pub(crate) fn is_present(hosted: &Hosted, holder: &Author) -> Result<bool, StoreError> {
    if let Some(present) = author_of(hosted, holder.site, holder.shard)? {
        return Ok(present == *holder);
    }
    let lives: Option<Vec<AuthorId>> =
        hosted.look(|view| read(view, &hosted.keys().lives(holder.shard, holder.site)))?;
    // A life that has not written anything yet is not over.
    let lives = lives.unwrap_or_default();
    Ok(!lives.contains(&holder.id()) || lives.last() == Some(&holder.id()))
}

/// How many numbers of each series an office must have at home for a commune.
fn needs(hosted: &Hosted, served: &Served, today: Date) -> Result<BTreeMap<Series, u32>, StoreError> {
    let year = today.year();
    let mut years = vec![year];
    years.extend((today.month() <= MONTHS_AROUND).then_some(year - 1));
    years.extend((today.month() > 12 - MONTHS_AROUND).then_some(year + 1));
    let mut needs = BTreeMap::new();
    for sex in Sex::ALL {
        let usual = usual(hosted, (served.shard, served.place), sex, today)?;
        let need = (usual * DAYS_ALONE * BUSY).div_ceil(365).clamp(KEEP_MIN, NEED_MAX);
        let series = years.iter().filter_map(|year| Series::new(served.place, sex, *year).ok());
        needs.extend(series.map(|series| (series, need)));
    }
    let waiting = hosted.look(|view| {
        let mut waiting: BTreeMap<Series, u32> = BTreeMap::new();
        let all = hosted.keys().all_unnumbered(served.shard);
        for (_, record) in lacking_number(view, hosted, served.shard, all, WAITING_MAX)? {
            // Also who had one: an officer gives him another.
            let lacks = number_lacking(&record, served.unit);
            if let Some(series) = lacks.and_then(|(sex, born)| Series::new(served.place, sex, born).ok()) {
                *waiting.entry(series).or_default() += 1;
            }
        }
        Ok(waiting)
    })?;
    for (series, count) in waiting {
        let need: &mut u32 = needs.entry(series).or_default();
        *need = (*need).max(count);
    }
    Ok(needs)
}

/// Persons of a shard who lack a number, of a range of keys: at most so many.
fn lacking_number(
    view: &dyn StateView,
    hosted: &Hosted,
    shard: ShardId,
    (from, to): Range,
    count_max: usize,
) -> Result<Vec<(RecordId, Record)>, StoreError> {
    let mut found = Vec::new();
    for item in view.scan(&from, &to).take(count_max) {
        let (key, _) = item?;
        let id = suffix(&key, 0).try_into().map(RecordId).unwrap_or_default();
        found.extend(read(view, &hosted.keys().record(shard, id))?.map(|record| (id, record)));
    }
    Ok(found)
}

/// Numbers of a sex that a commune gives in a usual year: by those of this year's and the last one's children.
pub(crate) fn usual(hosted: &Hosted, (shard, place): (ShardId, u16), sex: Sex, today: Date) -> Result<u32, StoreError> {
    let (year, mut given) = (today.year(), 0);
    for year in [year - 1, year] {
        let Ok(series) = Series::new(place, sex, year) else { continue };
        let all = 0..SERIAL_END;
        given += hosted.look(|view| registry::taken(view, hosted.keys(), shard, (series, &all)))?;
    }
    let first = Date::new(year, 1, 1).map_or(0, Date::days);
    let days = u32::try_from(365 + today.days() - first).unwrap_or(365);
    Ok((given * 365).div_ceil(days.max(1)))
}

#[cfg(test)]
mod tests {
    use dinhba_core::ids::Incarnation;

    use super::*;

    #[test]
    fn who_has_too_few_is_granted_twice_what_he_needs_and_of_years_that_are_over_no_more_than_that() {
        assert_eq!(lacking((10, 10), false, COMMUNE_BLOCK), None);
        assert_eq!(lacking((10, 9), false, COMMUNE_BLOCK), Some(20));
        assert_eq!(lacking((100, 0), false, COMMUNE_BLOCK), Some(200));
        assert_eq!(lacking((3, 1), true, COMMUNE_BLOCK), Some(2));
        assert_eq!(lacking((3, 1), true, DISTRICT_BLOCK), Some(20));
        assert_eq!(lacking((u32::MAX, 0), false, COMMUNE_BLOCK), Some(SERIAL_END));
    }

    #[test]
    fn a_site_that_begins_life_after_life_is_granted_nothing_more_and_others_are() {
        let life = |site: u64, life: u8| Author {
            site: SiteId(site),
            shard: ShardId(7),
            incarnation: Incarnation([life; 16]),
        };
        let (girls, boys): (Series, Series) = ("010326".parse().unwrap(), "010226".parse().unwrap());
        let granted: BTreeMap<(Author, Series), u64> =
            (0..LIVES_MAX as u8).map(|number| ((life(1, number), girls), 20)).collect();
        assert!(!may_have_more(&granted, life(1, 99), girls));
        assert!(may_have_more(&granted, life(1, 3), girls), "one that has some goes on");
        assert!(may_have_more(&granted, life(1, 99), boys) && may_have_more(&granted, life(2, 99), girls));
    }
}
