//! The ledger of personal numbers, from what `apply` keeps: which numbers are spoken for, and which blocks are granted.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::blocks::{Account, Block, Granted, covered};
use dinhba_core::date::InstantMs;
use dinhba_core::edit::Author;
use dinhba_core::ids::{ShardId, UnitId};
use dinhba_core::number::{PersonNumber, SERIAL_END, Series, Sex};
use dinhba_core::registry;
use dinhba_core::store::{StateView, StoreError};
use dinhba_proto::v1;
use tonic::Status;

use super::RecordsService;
use crate::numbers::{self, place_of};
use crate::runtime;
use crate::service::Caller;
use crate::service::answer::{broken, denied, not_found, precondition, wrong};

/// Blocks in one answer: each is looked up.
const BLOCKS_MAX: usize = 5_000;

impl RecordsService {
    pub(super) async fn numbers_of(
        &self,
        caller: &Caller,
        request: &v1::NumbersRequest,
    ) -> Result<v1::NumbersReply, Status> {
        let series: Option<Series> = match request.series.as_str() {
            "" => None,
            series => Some(series.parse().map_err(|error| wrong("series", format!("series: {error}")))?),
        };
        let number: Option<PersonNumber> = match request.number.as_str() {
            "" => None,
            _ if series.is_some() => return Err(wrong("series", "series: a number says its own, leave it out")),
            number => Some(number.parse().map_err(|error| wrong("number", format!("number: {error}")))?),
        };
        let series = series.or(number.map(PersonNumber::series));
        let asked = self.asked_within(caller, (Action::Figures, Looked::Figures), &request.unit).await?;
        let homes = asked.iter().flat_map(|asked| asked.may.iter().map(|shard| (*shard, asked.homes[shard].home())));
        let units: Vec<(ShardId, UnitId)> = homes.collect();
        let root = self.root(&request.unit, caller)?;
        let ledger = Ledger::read(self, root, series).map_err(|error| broken(&error))?;
        let count = ledger.all.values().map(Vec::len).sum::<usize>();
        if count > BLOCKS_MAX {
            let text = format!("there are {count} blocks, and one answer tells of {BLOCKS_MAX}: ask for one series");
            return Err(precondition(text));
        }
        let homes: Vec<ShardId> = units.iter().map(|(shard, _)| *shard).collect();
        let way = number.map(|number| ledger.way(self, root, number, &homes)).transpose();
        let way = way.map_err(|error| broken(&error))?;
        let series = ledger.accounts(self, root, &homes).map_err(|error| broken(&error))?;
        let usable = ledger.usable(self);
        let units: Result<Vec<_>, StoreError> =
            units.into_iter().map(|(shard, unit)| self.unit_numbers((&ledger, &usable), shard, unit)).collect();
        Ok(v1::NumbersReply { series, units: units.map_err(|error| broken(&error))?, way })
    }

    /// The unit that is meant: the one that is asked for; or the caller's, or the site's if the caller's is above it.
    pub(super) fn root(&self, named: &str, caller: &Caller) -> Result<UnitId, Status> {
        let (units, own) = (self.0.units(), self.0.config.site.unit);
        let of_caller = if units.is_within(caller.claims.unit, own) { caller.claims.unit } else { own };
        if named.is_empty() {
            return Ok(of_caller);
        }
        // A code alone is one that this site uses.
        let by_code = || {
            let place = self.0.place();
            let mut hosted = place.shards.values().flat_map(|entry| units.path(entry.unit));
            hosted.find(|unit| units.get(*unit).is_some_and(|unit| unit.code == named))
        };
        let found = self.unit_named(named).or_else(by_code);
        match found.filter(|unit| units.is_within(*unit, own)) {
            Some(unit) if units.is_within(unit, caller.claims.unit) => Ok(unit),
            Some(_) => Err(denied("the caller's claims do not reach there; the attempt is logged")),
            None => {
                Err(not_found("unit: this site does not serve it: check its code, or ask its own site or one above it"))
            }
        }
    }

    fn unit_numbers(
        &self,
        (ledger, usable): (&Ledger, &[Block]),
        shard: ShardId,
        unit: UnitId,
    ) -> Result<v1::UnitNumbers, StoreError> {
        let (unit_code, unit_name) = self.0.unit_words(unit);
        let mut told = v1::UnitNumbers {
            shard: shard.to_string(),
            unit: unit.to_string(),
            unit_code,
            unit_name,
            ..Default::default()
        };
        let (Some(hosted), Some(place)) = (self.0.host_of(shard), place_of(&self.0.units(), unit)) else {
            return Ok(told);
        };
        told.waiting = hosted.shard(shard)?.map_or(0, |state| state.unnumbered);
        let mut left: BTreeMap<Series, u64> = BTreeMap::new();
        for block in usable.iter().filter(|block| block.holder.shard == shard) {
            let of_block = block.count - ledger.assigned(self, block)?.min(block.count);
            *left.entry(block.series).or_default() += u64::from(of_block);
        }
        let today = InstantMs(runtime::utc_ms()).date_in_vietnam();
        let mut days = None::<u32>;
        for sex in Sex::ALL {
            let usual = numbers::usual(hosted, (shard, place), sex, today)?;
            let now =
                Series::new(place, sex, today.year()).ok().and_then(|series| left.get(&series)).copied().unwrap_or(0);
            if let Some(lasts) = (now * 365).checked_div(u64::from(usual)) {
                let lasts = u32::try_from(lasts).unwrap_or(u32::MAX);
                days = Some(days.map_or(lasts, |days| days.min(lasts)));
            }
        }
        // Of one series alone it is not known.
        let days = days.filter(|_| ledger.asked.is_none());
        let is_now = |series: &Series| series.birth_year() + 1 >= today.year();
        told.left = left
            .into_iter()
            .filter(|(series, _)| is_now(series))
            .map(|(series, left)| v1::SeriesLeft {
                series: series.to_string(),
                left: u32::try_from(left).unwrap_or(u32::MAX),
            })
            .collect();
        told.days_left = days;
        Ok(told)
    }
}

/// The blocks of a unit, of one series or all: those that were granted to it, and what became of them.
struct Ledger {
    all: BTreeMap<ShardId, Vec<Granted>>,
    /// The present life of each site in each shard, as far as it is known.
    lives: BTreeSet<Author>,
    /// The only series that it is of, if that was asked for.
    asked: Option<Series>,
}

impl Ledger {
    fn read(service: &RecordsService, root: UnitId, series: Option<Series>) -> Result<Self, StoreError> {
        let (shared, units) = (&service.0, service.0.units());
        let mut all = BTreeMap::new();
        let place = shared.place();
        let bears = |unit: UnitId| units.is_within(unit, root) || units.is_within(root, unit);
        for entry in place.shards.values().filter(|entry| entry.is_ancestor() && bears(entry.unit)) {
            let Some(hosted) = shared.host_of(entry.shard) else { continue };
            let mut found = hosted.look(|view| registry::blocks(view, hosted.keys(), entry.shard, series))?;
            // What those above grant to others is not asked for.
            let holds = |shard: ShardId| place.shards.get(&shard).is_some_and(|entry| bears(entry.unit));
            found.retain(|granted| holds(granted.block.holder.shard));
            all.insert(entry.shard, found);
        }
        let mut lives = BTreeSet::new();
        let holders: BTreeSet<Author> = all.values().flatten().map(|granted| granted.block.holder).collect();
        for holder in holders {
            let Some(hosted) = shared.host_of(holder.shard) else { continue };
            let is_present = match holder.site == shared.site() {
                true => hosted.shard(holder.shard)?.is_some_and(|state| state.own == holder),
                false => numbers::is_present(hosted, &holder)?,
            };
            if is_present {
                lives.insert(holder);
            }
        }
        Ok(Ledger { all, lives, asked: series })
    }

    /// The blocks that their holders may use: of a present life, and granted by whoever had them to grant.
    fn usable(&self, service: &RecordsService) -> Vec<Block> {
        let (shared, place) = (&service.0, service.0.place());
        let mut usable = Vec::new();
        for (shard, grants) in &self.all {
            let path = place.shards.get(shard).map(|entry| shared.path(entry.unit)).unwrap_or_default();
            for granted in grants.iter().filter(|granted| self.lives.contains(&granted.block.holder)) {
                let of_series = |other: &&Granted| other.block.series == granted.block.series;
                let above = path.iter().rev().skip(1).map(|unit| ShardId::of_unit_above(*unit));
                let above: Vec<Vec<Granted>> = above
                    .map(|shard| self.all.get(&shard).into_iter().flatten().filter(of_series).copied().collect())
                    .collect();
                if granted.is_backed(&above) {
                    usable.push(granted.block);
                }
            }
        }
        usable
    }

    /// How many numbers of a series stand in the records of these shards though they are in no block of theirs.
    fn outside(&self, service: &RecordsService, series: Series, homes: &[ShardId]) -> Result<u64, StoreError> {
        let mut count = 0;
        for shard in homes {
            let Some(hosted) = service.0.host_of(*shard) else { continue };
            let blocks = self.all.values().flatten().map(|granted| &granted.block);
            let own: Vec<&Block> =
                blocks.filter(|block| block.holder.shard == *shard && block.series == series).collect();
            let taken = hosted.look(|view| registry::serials_taken(view, hosted.keys(), *shard, (series, 0)))?;
            let is_outside = |serial: &&u32| !own.iter().any(|block| block.serials().contains(*serial));
            count += taken.iter().filter(is_outside).count() as u64;
        }
        Ok(count)
    }

    fn assigned(&self, service: &RecordsService, block: &Block) -> Result<u32, StoreError> {
        let Some(hosted) = service.0.host_of(block.holder.shard) else { return Ok(0) };
        let serials = block.serials();
        hosted.look(|view| registry::taken(view, hosted.keys(), block.holder.shard, (block.series, &serials)))
    }

    /// What became of one number: from the centre down, as far as this site knows.
    fn way(
        &self,
        service: &RecordsService,
        root: UnitId,
        number: PersonNumber,
        homes: &[ShardId],
    ) -> Result<v1::NumberWay, StoreError> {
        let (shared, place) = (&service.0, service.0.place());
        let (series, serial) = (number.series(), number.serial());
        let unit_of = |shard: &ShardId| place.shards.get(shard).map(|entry| entry.unit).unwrap_or_default();
        let is_in = |block: &Block| block.series == series && block.serials().contains(&serial);
        let of_shard = |(shard, grants): (&ShardId, &Vec<Granted>)| {
            let unit = unit_of(shard);
            let blocks = grants.iter().map(|granted| granted.block).filter(is_in);
            blocks.map(|block| (shared.path(unit).len(), unit, block)).collect::<Vec<_>>()
        };
        let mut grants: Vec<(usize, UnitId, Block)> = self.all.iter().flat_map(of_shard).collect();
        grants.sort_by_key(|(depth, ..)| *depth);
        let is_taken = |shard: ShardId| match shared.host_of(shard) {
            Some(hosted) => {
                let taken =
                    |view: &dyn StateView| registry::taken(view, hosted.keys(), shard, (series, &(serial..serial + 1)));
                Ok::<_, StoreError>(hosted.look(taken)? > 0)
            }
            None => Ok(false),
        };
        let (mut state, mut why) = ("unknown", "");
        match grants.last() {
            Some((.., block)) => {
                let is_commune = place.shards.get(&block.holder.shard).is_some_and(|entry| !entry.is_ancestor());
                state = match self.usable(service).contains(block) {
                    _ if is_commune && is_taken(block.holder.shard)? => "assigned",
                    true if is_commune => "left",
                    true => "on-the-way",
                    false => "void",
                };
                if state == "void" {
                    why = match self.lives.contains(&block.holder) {
                        true => "who granted it had it not to grant",
                        false => "the life of a site's data is over that it was granted to",
                    };
                }
            }
            None => {
                for shard in homes {
                    if is_taken(*shard)? {
                        state = "outside";
                    }
                }
                if state == "unknown" && shared.path(root).len() == 1 {
                    state = "free";
                }
            }
        }
        let told = grants.into_iter().map(|(_, by, block)| {
            let ((by_code, by_name), to) = (shared.unit_words(by), unit_of(&block.holder.shard));
            let (to_code, to_name) = shared.unit_words(to);
            let first = series.number(block.first).map(|number| number.to_string()).unwrap_or_default();
            let (site, count) = (block.holder.site.to_string(), block.count);
            v1::NumberGrant { by_code, by_name, to_code, to_name, site, first, count }
        });
        let grants = told.collect();
        Ok(v1::NumberWay { number: number.to_string(), state: state.to_owned(), why: why.to_owned(), grants })
    }

    /// The account of each series, of the numbers that a unit has to give.
    fn accounts(
        &self,
        service: &RecordsService,
        root: UnitId,
        homes: &[ShardId],
    ) -> Result<Vec<v1::NumberSeries>, StoreError> {
        let shared = &service.0;
        let path = shared.path(root);
        let home = shared.place().home_of(root);
        let of_root = [Some(ShardId::of_unit_above(root)), home];
        let mut all_series: BTreeSet<Series> =
            self.all.values().flatten().map(|granted| granted.block.series).collect();
        all_series.extend(self.asked);
        let tells_outside = all_series.len() * homes.len() <= BLOCKS_MAX;
        let mut told = Vec::new();
        for series in all_series {
            let of_series = |granted: &&Granted| granted.block.series == series;
            let grants: BTreeMap<ShardId, Vec<Granted>> =
                self.all.iter().map(|(shard, all)| (*shard, all.iter().filter(of_series).copied().collect())).collect();
            let is_central = path.len() == 1;
            let roots: Vec<Block> = match is_central {
                true => grants
                    .get(&ShardId::of_unit_above(root))
                    .into_iter()
                    .flatten()
                    .map(|granted| granted.block)
                    .collect(),
                false => {
                    let above = path.iter().rev().skip(1).map(|unit| ShardId::of_unit_above(*unit));
                    let granted = above.filter_map(|shard| grants.get(&shard)).flatten();
                    granted
                        .map(|granted| granted.block)
                        .filter(|block| of_root.contains(&Some(block.holder.shard)))
                        .collect()
                }
            };
            let given: u64 = roots.iter().map(|block| u64::from(block.count)).sum();
            let mut account = match is_central {
                true => {
                    let free = SERIAL_END - covered(roots.iter().map(Block::serials));
                    Account { total: u64::from(SERIAL_END), free: u64::from(free), ..Account::default() }
                }
                false => Account { total: given, ..Account::default() },
            };
            for block in &roots {
                let mut assigned = |block: &Block| self.assigned(service, block);
                account.add(block, &grants, &|holder| self.lives.contains(holder), &mut assigned)?;
            }
            let outside = match tells_outside {
                true => Some(self.outside(service, series, homes)?),
                false => None,
            };
            if roots.is_empty() && (self.asked.is_none() || outside.is_none_or(|outside| outside == 0)) {
                continue;
            }
            let Account { total, free, on_the_way, left, assigned, void } = account;
            told.push(v1::NumberSeries {
                series: series.to_string(),
                total,
                free,
                on_the_way,
                left,
                assigned,
                void,
                complete: account.is_complete(),
                outside,
            });
        }
        Ok(told)
    }
}
