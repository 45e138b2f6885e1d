//! What officers have to do, and until when: open conflicts, broken rules, numbers that two persons have, what waits for a second person, who lacks
//! a personal number, and steps of dossiers. Each kind of it has its term in working days, the office that owns it, and what becomes of it
//! once the term is over: it shows in the list of the unit above as well, and after as long again in that of the one above that, who may
//! decide it like the owner.
//!
//! Lists are kept by `apply` (`registry::work`): an entry is there as long as what it tells of. Deadlines are counted when a list is shown,
//! by the holidays that are known then ([`Calendar`]); so a list goes by kind and day, in which order deadlines rise.

use crate::calendar::{Calendar, Deadline};
use crate::date::Date;
use crate::dossier::{PAPERS_DAYS, SERVICES, Service, Stage, Step};
use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::RecordId;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A legal field has several values.
    Conflict,
    /// A record breaks a rule, since two edits met.
    Rule,
    /// Two records have one personal number.
    NumberTwice,
    /// An edit waits for a second person.
    Second,
    /// A person waits for a personal number.
    Number,
    /// A step of a dossier: service and step by their places.
    Step(Stage, u8, u8),
}

/// The first code of steps at each stage; 64 have room: eight services of eight steps.
const STEPS_FROM: u8 = 0x40;

/// The steps that one service may have.
const STEPS_OF_SERVICE: u8 = 8;

/// An adjustment of what a record says is made in three working days.
const ADJUSTMENT: &str = "Law on Residence 68/2020/QH14, article 26";

impl Work {
    const PLAIN: [Work; 5] = [Work::Conflict, Work::Rule, Work::NumberTwice, Work::Second, Work::Number];

    /// All kinds, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Work> {
        let steps = Stage::ALL.into_iter().flat_map(|stage| {
            let of = move |(service, of): (u8, &'static Service)| {
                (0..).zip(of.steps).map(move |(step, _)| Work::Step(stage, service, step))
            };
            (0..).zip(SERVICES).flat_map(of)
        });
        Work::PLAIN.into_iter().chain(steps)
    }

    /// What stands in keys.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Work::Conflict => 1,
            Work::Rule => 2,
            Work::NumberTwice => 3,
            Work::Second => 4,
            Work::Number => 5,
            Work::Step(stage, service, step) => STEPS_FROM * (stage as u8 + 1) + service * STEPS_OF_SERVICE + step,
        }
    }

    /// The kind of that code.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Work> {
        Work::all().find(|work| work.code() == code)
    }

    /// Its word, as on the wire and on the command line; of a step that of its stage.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Work::Conflict => "conflict",
            Work::Rule => "rule",
            Work::NumberTwice => "number-twice",
            Work::Second => "second-person",
            Work::Number => "number-pending",
            Work::Step(Stage::Open, ..) => "step",
            Work::Step(Stage::Papers, ..) => "papers",
            Work::Step(Stage::Failed, ..) => "step-failed",
        }
    }

    /// Its name for officers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Work::Conflict => "Thông tin mâu thuẫn cần quyết định",
            Work::Rule => "Thông tin trái quy định cần xử lý",
            Work::NumberTwice => "Trùng số định danh",
            Work::Second => "Chờ người thứ hai xác nhận",
            Work::Number => "Chờ cấp số định danh",
            Work::Step(Stage::Open, ..) => "Bước hồ sơ liên thông",
            Work::Step(Stage::Papers, ..) => "Chờ bổ sung giấy tờ",
            Work::Step(Stage::Failed, ..) => "Bước hồ sơ bị từ chối",
        }
    }

    /// The service and the step that it is about.
    #[must_use]
    pub fn step(self) -> Option<(&'static Service, &'static Step)> {
        let Work::Step(_, service, step) = self else { return None };
        let service = SERVICES.get(usize::from(service))?;
        Some((service, service.steps.get(usize::from(step))?))
    }

    /// The law that says until when; or where none says it, whose term was taken.
    #[must_use]
    pub fn law(self) -> &'static str {
        match self {
            Work::Conflict | Work::Rule | Work::NumberTwice | Work::Second => ADJUSTMENT,
            Work::Number => "Decree 63/2024/NĐ-CP",
            Work::Step(Stage::Open, ..) => self.step().map_or("", |(_, step)| step.law),
            Work::Step(..) => "Decree 63/2024/NĐ-CP",
        }
    }

    /// The term, in working days; 0 for the same one.
    #[must_use]
    pub fn days(self) -> u16 {
        match self {
            Work::Conflict | Work::Rule | Work::NumberTwice | Work::Second => 3,
            Work::Number => 0,
            Work::Step(Stage::Open, ..) => self.step().map_or(0, |(_, step)| step.days),
            Work::Step(Stage::Papers, ..) => PAPERS_DAYS,
            Work::Step(Stage::Failed, ..) => 3,
        }
    }

    /// How far above the record's home the office is that owns it: 0 is the home itself.
    #[must_use]
    pub fn owner(self) -> u8 {
        self.step().map_or(0, |(_, step)| step.owner)
    }

    /// How far above the home it shows from its first day on. What failed, the owner's superior hears of at once; who wrote what waits for
    /// a second person is often alone in his office; and a number that two communes have, neither of them knows of.
    fn shown_to(self) -> u8 {
        self.owner()
            + match self {
                Work::Step(Stage::Failed, ..) | Work::Second => 1,
                Work::NumberTwice => 2,
                _ => 0,
            }
    }

    /// Until when it is to be done, if it is open since a day.
    #[must_use]
    pub fn deadline(self, calendar: &Calendar, since: Date) -> Deadline {
        calendar.after(since, self.days())
    }

    /// Whether it stands in the list of the unit so far above the record's home, and since when it must be open for that: it is the owner's
    /// from the first day, and shows one unit further up each time that its term has gone by.
    #[must_use]
    pub fn shows(self, calendar: &Calendar, above: usize, today: Date) -> ShowsSince {
        let shown_to = usize::from(self.shown_to());
        if above < usize::from(self.owner()) {
            return ShowsSince::Never;
        }
        let Some(further) = above.checked_sub(shown_to).filter(|further| *further > 0) else {
            return ShowsSince::Always;
        };
        let again = u16::try_from(further - 1).unwrap_or(u16::MAX).saturating_mul(self.days().max(1));
        match calendar.last_overdue(today, self.days().saturating_add(again)) {
            Some(last) => ShowsSince::UpTo(last),
            None => ShowsSince::Never,
        }
    }
}

/// Which of the entries of a kind show in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowsSince {
    /// None.
    Never,
    /// All.
    Always,
    /// Those that are open since that day or longer.
    UpTo(Date),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What.
    pub work: Work,
    /// Since which day: for steps that of the record, which is the same everywhere; for all else the day on which this site saw it.
    pub since: Date,
    /// About which record.
    pub record: RecordId,
    /// What of it: the conflict's key, or the waiting edit's name; nothing of numbers and steps.
    pub item: Vec<u8>,
}

impl Wire for Work {
    fn encode(&self, out: &mut Vec<u8>) {
        self.code().encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Work::of_code(u8::decode(input)?).ok_or(Malformed { what: "kind of work" })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn every_kind_has_a_code_of_its_own_and_a_word() {
        let all: Vec<Work> = Work::all().collect();
        let codes: BTreeSet<u8> = all.iter().map(|work| work.code()).collect();
        assert_eq!(codes.len(), all.len());
        for work in all {
            assert_eq!(Work::of_code(work.code()), Some(work));
            assert!(!work.law().is_empty() && !work.label().is_empty());
        }
    }

    #[test]
    fn what_is_overdue_shows_one_unit_further_up_each_time_its_term_has_gone_by() {
        let calendar = Calendar::default();
        // Open since a Monday, for three working days: until Thursday.
        let since = day("2026-03-02");
        assert_eq!(Work::Conflict.deadline(&calendar, since).day, day("2026-03-05"));
        let shows = |above, today: &str| match Work::Conflict.shows(&calendar, above, day(today)) {
            ShowsSince::Never => false,
            ShowsSince::Always => true,
            ShowsSince::UpTo(last) => since <= last,
        };
        assert!(shows(0, "2026-03-02") && !shows(1, "2026-03-05") && shows(1, "2026-03-06"));
        assert!(!shows(2, "2026-03-10") && shows(2, "2026-03-11") && !shows(3, "2026-03-13") && shows(3, "2026-03-16"));
    }

    #[test]
    fn a_step_is_its_owners_and_one_that_failed_his_superiors_at_once() {
        let calendar = Calendar::default();
        let (service, insurance) = (0, 2);
        let open = Work::Step(Stage::Open, service, insurance);
        let today = day("2026-03-02");
        assert_eq!(open.shows(&calendar, 0, today), ShowsSince::Never);
        assert_eq!(open.shows(&calendar, 1, today), ShowsSince::Always);
        assert!(matches!(open.shows(&calendar, 2, today), ShowsSince::UpTo(last) if last < today));
        let failed = Work::Step(Stage::Failed, service, insurance);
        assert_eq!(failed.shows(&calendar, 2, today), ShowsSince::Always);
    }
}
