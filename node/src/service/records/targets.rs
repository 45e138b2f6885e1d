//! Targets: what is asked at the door before one is set, and how far each is. What was reached are the figures that `apply` keeps.
//!
//! A target counts for units within the one in whose ancestor shard it stands. The door asks that of the tree of units, which `apply`
//! does not have; so it is asked again of every target that is read, at every site: what a site with a stolen key, or a changed program,
//! sets for others counts nowhere.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::claims::Claims;
use dinhba_core::command::{PartDraft, ShardInfo};
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::event::Event;
use dinhba_core::ids::{RecordId, ShardId, UnitId};
use dinhba_core::registry;
use dinhba_core::schema::{RecordKind, field};
use dinhba_core::store::StoreError;
use dinhba_core::targets::{Aim, Forecast, Target, forecast};
use dinhba_core::units::{Directory, Tier};
use dinhba_proto::v1;
use tonic::Status;

use super::edit::known;
use super::{Asked, Place, RecordsService, Verdicts};
use crate::hosted::Hosted;
use crate::runtime;
use crate::service::answer::{broken, denied, not_accepted, not_found, precondition, wrong};
use crate::service::{Caller, all_groups_here, id};

/// Targets in one answer: the communes of a province with one each.
const TARGETS_MAX: usize = 200;

/// Units below them in one answer, with names and numbers: a quarter of a message.
const BELOW_MAX: usize = 5_000;

/// Targets of one ancestor shard that are looked at: of a few events for each unit below a province, for some years.
const TARGETS_READ_MAX: usize = 5_000;

/// Figures that are read for one answer: three months of a province. It takes a fifth of a second.
const FIGURES_READ_MAX: usize = 200_000;

/// For so long what has ended is told without being asked for: it is spoken of at the end of the month.
const TOLD_DAYS: i64 = 30;

/// A target, and who set it.
struct Set {
    record: RecordId,
    shard: ShardId,
    by: UnitId,
    target: Target,
}

/// A commune as it is counted.
struct Counted {
    path: Vec<UnitId>,
    persons: u64,
    events: BTreeMap<Event, BTreeMap<Date, u64>>,
}

impl RecordsService {
    /// The shard of an edit of targets that names none: what the caller's unit says to all below it.
    pub(super) fn shard_of_targets(&self, claims: &Claims) -> Result<ShardId, Status> {
        match self.0.units().get(claims.unit).map(|unit| unit.tier) {
            Some(Tier::Commune) => {
                Err(denied("a commune has no units below it to set targets for: ask the unit above it"))
            }
            Some(_) => Ok(ShardId::of_unit_above(claims.unit)),
            None => Err(not_found("shard: name the shard; the caller's unit is not known here")),
        }
    }

    /// Refuses a target for a unit that is not the caller's to command, or that is not there in its time.
    pub(super) fn check_targets(&self, caller: &Caller, place: &Place<'_>, parts: &[PartDraft]) -> Result<(), Status> {
        for (at, part) in parts.iter().enumerate().filter(|(_, part)| part.record_kind == RecordKind::Target) {
            // One that is withdrawn needs no unit.
            let Some(target) = would_be(place, part).map_err(|error| broken(&error))? else { continue };
            caller.may(self.0.level_max, Action::SetTargets, &self.0.path(target.unit))?;
            let of = |field: &str| format!("parts[{at}].changes[{field}]");
            let home = place.shard.info.home();
            if !self.0.units().is_within(target.unit, home) {
                let (code, name) = self.0.unit_words(home);
                let text = format!(
                    "unit: it is not in {code} {name}, which sets the target: set it there, or in a unit above both"
                );
                return Err(wrong(of("unit"), text));
            }
            if part.changes.iter().any(|change| change.field == field::TARGET_AIM) {
                self.check_days(&target).map_err(|text| wrong(of("aim"), text))?;
            }
        }
        Ok(())
    }

    /// Whether the unit of a target is there on its days. One that ended goes on as long as its records are kept here.
    fn check_days(&self, target: &Target) -> Result<(), String> {
        let units = self.0.units();
        let unit = units.get(target.unit).ok_or("unit: it is not known here")?;
        if target.aim.first() < unit.valid_from {
            return Err(format!(
                "aim: {} {} begins on {}: give a first day from then on",
                unit.code, unit.name, unit.valid_from
            ));
        }
        let is_kept = || {
            let place = self.0.place();
            place.shards.values().any(|entry| !entry.is_ancestor() && units.is_within(entry.unit, unit.id))
        };
        match unit.valid_to {
            Some(end) if end < target.aim.last() && !is_kept() => Err(format!(
                "aim: {} {} ends on {end}: give a last day up to then, or set the target for the unit that follows it",
                unit.code, unit.name
            )),
            _ => Ok(()),
        }
    }

    pub(super) async fn targets_of(
        &self,
        caller: &Caller,
        request: &v1::TargetsRequest,
    ) -> Result<v1::TargetsReply, Status> {
        let event =
            match request.event.as_str() {
                "" => None,
                name => Some(Event::named(name).ok_or_else(|| {
                    wrong("event", "event: name an event that is filed, as `dinhba events` lists them")
                })?),
            };
        let today = InstantMs(runtime::utc_ms()).date_in_vietnam();
        let since = match request.since.as_str() {
            "" => Date::from_days(today.days() - TOLD_DAYS),
            since => id("since", since)?,
        };
        all_groups_here(&self.0).await?;
        let is_within = self.within_here(&request.unit).await?;
        let wanted = |info: &ShardInfo| !info.is_ancestor() && is_within(info);
        let first = self.0.site_group().ok_or_else(|| not_accepted("the node is starting: try again in a moment"))?;
        let (mut communes, mut verdicts, mut is_first_asked) = (Vec::new(), Verdicts::default(), false);
        for Asked { hosted, only, .. } in self.asked(caller, Action::Figures, &wanted)? {
            is_first_asked |= hosted.id() == first.id();
            if verdicts.may(self.log_or_denial(caller, Looked::Figures, hosted, only, [0; 16]).await?) {
                let asked = self.asked_of(hosted, caller, Action::Figures, &wanted)?;
                let Some(Asked { may, homes, .. }) = asked else { continue };
                communes.extend(may.into_iter().map(|shard| (hosted, homes[&shard].clone())));
            }
        }
        verdicts.refuse_who_may_look_nowhere()?;
        let root = self.root(&request.unit, caller)?;
        // Targets stand in the site's first group: whoever looks at them is in its log, and sees what was set before he asked.
        if !is_first_asked
            && let Some(denial) = self.log_or_denial(caller, Looked::Figures, first, None, [0; 16]).await?
        {
            return Err(denial);
        }
        communes.retain(|(_, info)| info.path.contains(&root));
        let mut sets = self.sets(root, &communes)?;
        sets.retain(|set| event.is_none_or(|event| event == set.target.event) && set.target.aim.last() >= since);
        if sets.len() > TARGETS_MAX {
            return Err(too_much(&format!("{} targets", sets.len())));
        }
        let counted = counted(&sets, communes, today)?;
        let targets = Weighing { units: &self.0.units(), root, today, sets: &sets, counted: &counted }.weigh();
        if targets.iter().map(|target| target.below.len()).sum::<usize>() > BELOW_MAX {
            return Err(too_much(&format!("more than {BELOW_MAX} units below them")));
        }
        Ok(v1::TargetsReply { today: today.to_string(), targets })
    }

    /// The targets that bear on a unit: of it, of those within it and of those above it.
    fn sets(&self, root: UnitId, communes: &[(&Hosted, ShardInfo)]) -> Result<Vec<Set>, Status> {
        let (place, units) = (self.0.place(), self.0.units());
        let on_way: BTreeSet<UnitId> =
            communes.iter().flat_map(|(_, info)| info.path.clone()).chain(units.path(root)).collect();
        let mut found = Vec::new();
        for entry in place.shards.values().filter(|entry| entry.is_ancestor()) {
            let Some(hosted) = self.0.host_of(entry.shard) else { continue };
            // Of a unit above only what it sets for these: it may have thousands below.
            let of: Vec<Option<UnitId>> = if units.is_within(entry.unit, root) {
                vec![None]
            } else if units.is_within(root, entry.unit) {
                on_way.iter().copied().map(Some).collect()
            } else {
                continue;
            };
            let look =
                |unit| hosted.look(|view| registry::targets(view, hosted.keys(), entry.shard, unit, TARGETS_READ_MAX));
            for unit in of {
                let (set, more) = look(unit).map_err(|error| broken(&error))?;
                if more {
                    return Err(too_much(&format!("more than {TARGETS_READ_MAX} targets that one unit set")));
                }
                let counts = |target: &Target| units.is_within(target.unit, entry.unit);
                let bears = |target: &Target| units.is_within(target.unit, root) || units.is_within(root, target.unit);
                let set = set.into_iter().filter(|(_, target)| counts(target) && bears(target));
                found.extend(set.map(|(record, target)| Set { record, shard: entry.shard, by: entry.unit, target }));
            }
        }
        found.sort_by_key(|Set { record, target: Target { unit, event, aim }, .. }| {
            let unit = units.get(*unit).map(|unit| (unit.tier, unit.code.clone()));
            (unit, *event, aim.last(), *record)
        });
        Ok(found)
    }
}

fn too_much(what: &str) -> Status {
    precondition(format!("there are {what}: ask for one event, or for a smaller unit"))
}

/// The target that a part of an edit makes or changes, as it would be; none if it would be withdrawn.
fn would_be(place: &Place<'_>, part: &PartDraft) -> Result<Option<Target>, StoreError> {
    Ok(Target::after(known(place, part)?, &part.changes))
}

/// The communes with what they have of the events that targets count.
fn counted(sets: &[Set], communes: Vec<(&Hosted, ShardInfo)>, today: Date) -> Result<Vec<Counted>, Status> {
    let events: BTreeSet<Event> = sets.iter().map(|set| set.target.event).collect();
    let Some(first) = sets.iter().map(|set| set.target.aim.first()).min() else { return Ok(Vec::new()) };
    let (mut counted, mut left) = (Vec::with_capacity(communes.len()), FIGURES_READ_MAX);
    for (hosted, info) in communes {
        let found = hosted.look(|view| registry::figures(view, hosted.keys(), info.shard, (first, today), left));
        let (figures, more) = found.map_err(|error| broken(&error))?;
        if more {
            return Err(too_much(&format!("more than {FIGURES_READ_MAX} figures to read since {first}")));
        }
        left -= figures.len();
        let mut of_events: BTreeMap<Event, BTreeMap<Date, u64>> = BTreeMap::new();
        for ((day, event), count) in figures.into_iter().filter(|((_, event), _)| events.contains(event)) {
            of_events.entry(event).or_default().insert(day, count);
        }
        let persons = hosted.shard(info.shard).map_err(|error| broken(&error))?.map_or(0, |state| state.persons);
        counted.push(Counted { path: info.path, persons, events: of_events });
    }
    Ok(counted)
}

/// What it takes to say how far targets are.
struct Weighing<'a> {
    units: &'a Directory,
    /// The unit that is asked for: of what lies beside it nothing is known here.
    root: UnitId,
    today: Date,
    sets: &'a [Set],
    counted: &'a [Counted],
}

/// What some communes have together.
#[derive(Default)]
struct Sum {
    persons: u64,
    by_day: BTreeMap<Date, u64>,
}

impl Sum {
    fn add(&mut self, persons: u64, by_day: Option<&BTreeMap<Date, u64>>) {
        self.persons += persons;
        for (day, count) in by_day.into_iter().flatten() {
            *self.by_day.entry(*day).or_default() += count;
        }
    }
}

impl Weighing<'_> {
    fn weigh(&self) -> Vec<v1::Target> {
        self.sets.iter().map(|set| self.weighed(set)).collect()
    }

    fn weighed(&self, set: &Set) -> v1::Target {
        let Set { target: Target { unit, event, aim }, .. } = *set;
        let is_whole = self.units.is_within(unit, self.root);
        let (mut all, mut below) = (Sum::default(), BTreeMap::<UnitId, Sum>::new());
        for Counted { path, persons, events } in self.counted.iter().filter(|counted| counted.path.contains(&unit)) {
            let by_day = events.get(&event);
            all.add(*persons, by_day);
            let next = path.iter().skip_while(|above| **above != unit).nth(1).copied();
            let child = if is_whole { next } else { Some(self.root) };
            if let Some(child) = child {
                below.entry(child).or_default().add(*persons, by_day);
            }
        }
        let count = below.len() as u64;
        let part_of = |sum: &Sum| match all.persons {
            _ if !is_whole => None,
            0 => Some(aim.part(1, count)),
            persons => Some(aim.part(sum.persons, persons)),
        };
        let mut rows: Vec<(Forecast, v1::UnitProgress)> = below
            .iter()
            .map(|(child, sum)| {
                let own = self.own(set, *child);
                let part = own.map_or_else(|| part_of(sum), |own| Some(own.target.aim));
                self.row(*child, sum, (part, &aim), own)
            })
            .collect();
        rows.sort_by(|(one, row), (other, next)| {
            (one.by_due(), &row.unit_code).cmp(&(other.by_due(), &next.unit_code))
        });
        let ((unit_code, unit_name), (set_by_code, set_by_name)) = (self.words(unit), self.words(set.by));
        v1::Target {
            record: set.record.to_string(),
            shard: set.shard.to_string(),
            set_by: set.by.to_string(),
            set_by_code,
            set_by_name,
            unit: unit.to_string(),
            unit_code,
            unit_name,
            event: event.name().to_owned(),
            event_label: event.label().to_owned(),
            first: aim.first().to_string(),
            last: aim.last().to_string(),
            count: aim.count(),
            progress: is_whole.then(|| progress_to_wire(&forecast(&aim, &all.by_day, self.today), &aim)),
            below: rows.into_iter().map(|(_, row)| row).collect(),
        }
    }

    /// The target that a unit below has of its own today, within the days of one above.
    fn own(&self, above: &Set, unit: UnitId) -> Option<&Set> {
        let Target { event, aim, .. } = above.target;
        self.sets.iter().find(|set| {
            let own = set.target.aim;
            let runs = own.first() <= self.today && self.today <= own.last();
            (set.target.unit, set.target.event) == (unit, event)
                && runs
                && own.first() <= aim.last()
                && aim.first() <= own.last()
        })
    }

    fn row(
        &self,
        unit: UnitId,
        sum: &Sum,
        (part, of): (Option<Aim>, &Aim),
        own: Option<&Set>,
    ) -> (Forecast, v1::UnitProgress) {
        let found = forecast(part.as_ref().unwrap_or(of), &sum.by_day, self.today);
        let progress = match &part {
            Some(part) => progress_to_wire(&found, part),
            None => v1::Progress {
                done: found.done,
                recent: found.recent,
                recent_days: found.recent_days,
                ..v1::Progress::default()
            },
        };
        let (unit_code, unit_name) = self.words(unit);
        let row = v1::UnitProgress {
            unit: unit.to_string(),
            unit_code,
            unit_name,
            part: part.map_or(0, |part| part.count()),
            own: own.map(|own| own.record.to_string()).unwrap_or_default(),
            persons: sum.persons,
            progress: Some(progress),
        };
        (found, row)
    }

    fn words(&self, unit: UnitId) -> (String, String) {
        self.units.get(unit).map(|unit| (unit.code.clone(), unit.name.clone())).unwrap_or_default()
    }
}

fn progress_to_wire(found: &Forecast, aim: &Aim) -> v1::Progress {
    let Forecast { done, due, days_left, recent, recent_days, outlook } = *found;
    v1::Progress {
        done,
        due,
        days_left,
        recent,
        recent_days,
        outlook: outlook.name().to_owned(),
        day: outlook.day().map(|day| day.to_string()).unwrap_or_default(),
        days_early: outlook.days_early(aim.last()).and_then(|days| i32::try_from(days).ok()),
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::units::Unit;

    use super::*;

    const PROVINCE: UnitId = UnitId(10);
    const DISTRICT: UnitId = UnitId(100);
    const COMMUNES: [UnitId; 3] = [UnitId(1001), UnitId(1002), UnitId(1003)];

    fn units() -> Directory {
        let unit = |id: UnitId, code: &str, parent| Unit {
            id,
            tier: Tier::of_code(code).unwrap(),
            code: code.to_owned(),
            name: format!("Đơn vị {code}"),
            parent,
            valid_from: Date::MIN,
            valid_to: None,
        };
        let above = [(UnitId(1), "00", None), (PROVINCE, "10", Some(UnitId(1))), (DISTRICT, "082", Some(PROVINCE))];
        let communes = COMMUNES.into_iter().zip(["02683", "02686", "02689"]);
        let communes = communes.map(|(id, code)| (id, code, Some(DISTRICT)));
        Directory::new(above.into_iter().chain(communes).map(|(id, code, parent)| unit(id, code, parent))).unwrap()
    }

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn set(record: u8, by: UnitId, unit: UnitId, count: u64) -> Set {
        let aim = Aim::new(day("2026-01-01"), day("2026-04-10"), count).unwrap();
        let target = Target { unit, event: Event::CardDelivered, aim };
        Set { record: RecordId([record; 16]), shard: ShardId::of_unit_above(by), by, target }
    }

    /// A commune that handed over so many cards on each of ten days.
    fn commune(at: usize, persons: u64, cards: u64) -> Counted {
        let days = (0..10).map(|days| (Date::from_days(day("2026-01-01").days() + days), cards));
        let events = BTreeMap::from([
            (Event::CardDelivered, days.collect()),
            (Event::Birth, BTreeMap::from([(day("2026-01-03"), 99)])),
        ]);
        Counted { path: vec![UnitId(1), PROVINCE, DISTRICT, COMMUNES[at]], persons, events }
    }

    fn weighed(root: UnitId, sets: &[Set], counted: &[Counted]) -> Vec<v1::Target> {
        Weighing { units: &units(), root, today: day("2026-01-11"), sets, counted }.weigh()
    }

    #[test]
    fn who_is_furthest_behind_its_part_comes_first() {
        // The largest has most cards, and is slowest for its people.
        let counted = [commune(0, 8000, 6), commune(1, 1000, 2), commune(2, 1000, 1)];
        let found = weighed(DISTRICT, &[set(1, PROVINCE, DISTRICT, 1000)], &counted);
        let rows: Vec<(&str, u64, u64, u64)> = found[0]
            .below
            .iter()
            .map(|row| {
                let progress = row.progress.as_ref().unwrap();
                (row.unit_code.as_str(), row.part, progress.done, progress.due)
            })
            .collect();
        assert_eq!(rows, [("02683", 800, 60, 80), ("02689", 100, 10, 10), ("02686", 100, 20, 10)]);
        let whole = found[0].progress.as_ref().unwrap();
        assert_eq!((whole.done, whole.due, whole.recent, whole.recent_days), (90, 100, 90, 10));
        assert_eq!((whole.outlook.as_str(), whole.days_early), ("expected", Some(-12)));
    }

    #[test]
    fn who_has_a_target_of_its_own_is_measured_by_it() {
        let counted = [commune(0, 8000, 6), commune(1, 1000, 2), commune(2, 1000, 1)];
        let sets = [set(1, PROVINCE, DISTRICT, 1000), set(2, DISTRICT, COMMUNES[1], 2000)];
        let found = weighed(DISTRICT, &sets, &counted);
        let first = &found[0].below[0];
        assert_eq!(
            (first.unit_code.as_str(), first.part, first.own.as_str()),
            ("02686", 2000, found[1].record.as_str())
        );
        assert_eq!(found[1].progress.as_ref().unwrap().done, 20);
        assert!(found[1].below.is_empty());
    }

    #[test]
    fn of_a_unit_that_reaches_beyond_what_is_asked_for_the_part_here_is_told_alone() {
        let sets = [set(1, PROVINCE, DISTRICT, 1000)];
        let found = weighed(COMMUNES[0], &sets, &[commune(0, 8000, 6)]);
        assert!(found[0].progress.is_none());
        let [row] = &found[0].below[..] else { panic!("{found:?}") };
        let progress = row.progress.as_ref().unwrap();
        assert_eq!((row.part, progress.done, progress.outlook.as_str()), (0, 60, ""));
    }

    #[test]
    fn where_nobody_is_registered_all_have_the_same_part() {
        let counted = [commune(0, 0, 6), commune(1, 0, 2)];
        let found = weighed(DISTRICT, &[set(1, PROVINCE, DISTRICT, 1001)], &counted);
        assert!(found[0].below.iter().all(|row| row.part == 501), "{found:?}");
        assert!(weighed(DISTRICT, &[], &counted).is_empty());
    }
}
