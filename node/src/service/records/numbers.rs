//! The ledger of personal numbers, from what `apply` keeps: which numbers are spoken for, and which blocks are granted.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::access::Action;
use dinhba_core::blocks::{Account, Block, Granted, covered};
use dinhba_core::command::{Looked, ShardInfo};
use dinhba_core::date::InstantMs;
use dinhba_core::edit::Author;
use dinhba_core::ids::{ShardId, UnitId};
use dinhba_core::number::{SERIAL_END, Series};
use dinhba_core::registry;
use dinhba_core::store::StoreError;
use dinhba_proto::v1;
use tonic::Status;

use super::{Asked, RecordsService, Verdicts};
use crate::numbers::{self, place_of};
use crate::runtime;
use crate::service::answer::{broken, precondition, wrong};
use crate::service::{Caller, all_groups_here};

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
        all_groups_here(&self.0).await?;
        let is_within = self.within(&request.unit);
        let wanted = |info: &ShardInfo| !info.is_ancestor() && is_within(info);
        let (mut units, mut verdicts) = (Vec::new(), Verdicts::default());
        for Asked { hosted, only, may, homes } in self.asked(caller, Action::Figures, wanted)? {
            if !verdicts.may(self.log_or_denial(caller, Looked::Figures, hosted, only, [0; 16]).await?) {
                continue;
            }
            for id in may {
                units.push((id, homes[&id].home()));
            }
        }
        verdicts.refuse_who_may_look_nowhere()?;
        let ledger = Ledger::read(self, series).map_err(|error| broken(&error))?;
        if ledger.count > BLOCKS_MAX {
            let text =
                format!("there are {} blocks, and one answer tells of {BLOCKS_MAX}: ask for one series", ledger.count);
            return Err(precondition(text));
        }
        // Of a commune alone there is no more to say than what it has itself.
        let root = self.root(&request.unit, caller);
        let series = ledger.accounts(self, root).map_err(|error| broken(&error))?;
        let units: Result<Vec<_>, StoreError> =
            units.into_iter().map(|(shard, unit)| self.unit_numbers(&ledger, shard, unit)).collect();
        Ok(v1::NumbersReply { series, units: units.map_err(|error| broken(&error))? })
    }

    /// The unit whose numbers are accounted for: the one that is asked for, as far as the caller sees it.
    fn root(&self, named: &str, caller: &Caller) -> UnitId {
        let (units, own) = (self.0.units(), self.0.config.site.unit);
        let is_within = self.within(named);
        let named = units.iter().find(|unit| {
            let path = units.path(unit.id);
            let parent = path.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default();
            let info = |path: Vec<UnitId>| ShardInfo { shard: ShardId(0), path };
            !named.is_empty() && is_within(&info(path)) && (parent.is_empty() || !is_within(&info(parent)))
        });
        let asked = named.map_or(own, |unit| unit.id);
        // Who is of a unit below sees his own.
        let seen = if units.is_within(caller.claims.unit, asked) { caller.claims.unit } else { asked };
        if units.is_within(seen, own) { seen } else { own }
    }

    fn unit_numbers(&self, ledger: &Ledger, shard: ShardId, unit: UnitId) -> Result<v1::UnitNumbers, StoreError> {
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
        let mut left: BTreeMap<Series, u32> = BTreeMap::new();
        for block in ledger.all.values().flatten().map(|granted| &granted.block) {
            if block.holder.shard == shard && ledger.lives.contains(&block.holder) {
                *left.entry(block.series).or_default() += block.count - ledger.assigned(self, block)?.min(block.count);
            }
        }
        let today = InstantMs(runtime::utc_ms()).date_in_vietnam();
        let mut days = None::<u32>;
        for sex in numbers::SEXES {
            let usual = numbers::usual(hosted, (shard, place), sex, today)?;
            let now =
                Series::new(place, sex, today.year()).ok().and_then(|series| left.get(&series)).copied().unwrap_or(0);
            if let Some(lasts) = (now * 365).checked_div(usual) {
                days = Some(days.map_or(lasts, |days| days.min(lasts)));
            }
        }
        let is_now = |series: &Series| series.birth_year() + 1 >= today.year();
        told.left = left
            .into_iter()
            .filter(|(series, _)| is_now(series))
            .map(|(series, left)| v1::SeriesLeft { series: series.to_string(), left })
            .collect();
        told.days_left = days;
        Ok(told)
    }
}

/// All blocks that are known here, of one series or all.
struct Ledger {
    all: BTreeMap<ShardId, Vec<Granted>>,
    /// The present life of each site in each shard, as far as it is known.
    lives: BTreeSet<Author>,
    count: usize,
}

impl Ledger {
    fn read(service: &RecordsService, series: Option<Series>) -> Result<Self, StoreError> {
        let shared = &service.0;
        let (mut all, mut count) = (BTreeMap::new(), 0);
        let place = shared.place();
        for entry in place.shards.values().filter(|entry| entry.is_ancestor()) {
            let Some(hosted) = shared.host_of(entry.shard) else { continue };
            let found = hosted.look(|view| registry::blocks(view, hosted.keys(), entry.shard, series))?;
            count += found.len();
            all.insert(entry.shard, found);
        }
        let mut lives = BTreeSet::new();
        let holders: BTreeSet<Author> = all.values().flatten().map(|granted| granted.block.holder).collect();
        for holder in holders {
            let Some(hosted) = shared.host_of(holder.shard) else { continue };
            let is_present = match holder.site == shared.site() {
                true => hosted.shard(holder.shard)?.is_some_and(|state| state.own == holder),
                // Of a site that has said nothing yet nothing is over.
                false => numbers::author_of(hosted, holder.site, holder.shard)?.is_none_or(|present| present == holder),
            };
            if is_present {
                lives.insert(holder);
            }
        }
        Ok(Ledger { all, lives, count })
    }

    fn assigned(&self, service: &RecordsService, block: &Block) -> Result<u32, StoreError> {
        let Some(hosted) = service.0.host_of(block.holder.shard) else { return Ok(0) };
        let serials = block.serials();
        hosted.look(|view| registry::taken(view, hosted.keys(), block.holder.shard, (block.series, &serials)))
    }

    /// The account of each series, of the numbers that a unit has to give.
    fn accounts(&self, service: &RecordsService, root: UnitId) -> Result<Vec<v1::NumberSeries>, StoreError> {
        let shared = &service.0;
        let path = shared.path(root);
        let home = shared.place().home_of(root);
        let of_root = [Some(ShardId::of_unit_above(root)), home];
        let all_series: BTreeSet<Series> = self.all.values().flatten().map(|granted| granted.block.series).collect();
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
            if roots.is_empty() {
                continue;
            }
            for block in &roots {
                let mut assigned = |block: &Block| self.assigned(service, block);
                account.add(block, &grants, &|holder| self.lives.contains(holder), &mut assigned)?;
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
            });
        }
        Ok(told)
    }
}
