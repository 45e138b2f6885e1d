//! Stocks: how many identity cards, e-identification accounts and steps of dossiers there are in which state. Figures
//! (`registry::figures`) count what happened; these, what is.
//!
//! Kept by `apply` as records change (`registry::stock`), and at any time equal to a recount. Whether a step is late depends on holidays, which
//! the centre may say afterwards; so steps are counted by their days, and that is found out when they are shown.

use std::collections::BTreeMap;

use crate::calendar::Calendar;
use crate::date::Date;
use crate::dossier::{SERVICES, Service, Stage, Step, done_steps, open_steps};
use crate::record::Record;
use crate::schema::codes::{CARD_STATE, Code, E_IDENTIFICATION, STEP_STATE};
use crate::schema::{RecordKind, Value, field};
use crate::work::Work;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stock {
    /// Cards in a state, by its number; 0 for those of which none is known.
    Card(u8),
    /// Accounts in a state, by its number.
    Account(u8),
    /// Steps of a service at a stage: stage, service, step as in [`Work::Step`]...
    Open(Stage, u8, u8),
    /// ...and those that are done.
    Done(u8, u8),
}

/// So many of something, and since when: of a step its days, of all else nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// What.
    pub stock: Stock,
    /// The day on which a step was done; of an open one that on which its term began; the first of all days for cards and accounts.
    pub day: Date,
    /// The day on which the term of a step that is done began, which counts for nothing with the others.
    pub began: Date,
}

/// Codes of what is counted, in keys: kinds of work have theirs from 0x40 on.
const CARDS: u8 = 0x01;
const ACCOUNTS: u8 = 0x02;
const OPEN: u8 = 0x03;
const DONE: u8 = 0x04;

impl Stock {
    /// All that are counted, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Stock> {
        let numbers = |codes: &'static [Code]| std::iter::once(0).chain(codes.iter().map(|code| code.number));
        let step = |work| if let Work::Step(stage, service, step) = work { Some((stage, service, step)) } else { None };
        let steps = move || Work::all().filter_map(step);
        let open = steps().map(|(stage, service, step)| Stock::Open(stage, service, step));
        let done =
            steps().filter(|(stage, ..)| *stage == Stage::Open).map(|(_, service, step)| Stock::Done(service, step));
        let cards = numbers(CARD_STATE).map(Stock::Card);
        cards.chain(numbers(E_IDENTIFICATION).map(Stock::Account)).chain(open).chain(done)
    }

    /// What stands in keys.
    #[must_use]
    pub fn code(self) -> [u8; 2] {
        match self {
            Stock::Card(state) => [CARDS, state],
            Stock::Account(state) => [ACCOUNTS, state],
            Stock::Open(stage, service, step) => [OPEN, Work::Step(stage, service, step).code()],
            Stock::Done(service, step) => [DONE, Work::Step(Stage::Open, service, step).code()],
        }
    }

    /// What has that code.
    #[must_use]
    pub fn of_code(code: [u8; 2]) -> Option<Stock> {
        match (code[0], Work::of_code(code[1])) {
            (CARDS, _) => Some(Stock::Card(code[1])),
            (ACCOUNTS, _) => Some(Stock::Account(code[1])),
            (OPEN, Some(Work::Step(stage, service, step))) => Some(Stock::Open(stage, service, step)),
            (DONE, Some(Work::Step(Stage::Open, service, step))) => Some(Stock::Done(service, step)),
            _ => None,
        }
    }

    /// Its word, as on the wire and on the command line: `card`, `account`, `step`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stock::Card(_) => "card",
            Stock::Account(_) => "account",
            Stock::Open(..) | Stock::Done(..) => "step",
        }
    }

    /// The state that it is counted under, and its name for officers; empty where none is known.
    #[must_use]
    pub fn state(self) -> (&'static str, &'static str) {
        let code = match self {
            Stock::Card(number) => CARD_STATE.iter().find(|code| code.number == number),
            Stock::Account(number) => E_IDENTIFICATION.iter().find(|code| code.number == number),
            Stock::Open(stage, ..) => named(STEP_STATE, stage.state()),
            Stock::Done(..) => named(STEP_STATE, "done"),
        };
        code.map_or(("", ""), |code| (code.name, code.label))
    }

    /// The service and the step that it is about.
    #[must_use]
    pub fn step(self) -> Option<(&'static Service, &'static Step)> {
        let (Stock::Open(_, service, step) | Stock::Done(service, step)) = self else { return None };
        let service = SERVICES.get(usize::from(service))?;
        Some((service, service.steps.get(usize::from(step))?))
    }
}

fn named(codes: &'static [Code], name: &str) -> Option<&'static Code> {
    codes.iter().find(|code| code.name == name)
}

impl Counted {
    fn plain(stock: Stock) -> Self {
        Counted { stock, day: Date::MIN, began: Date::MIN }
    }

    /// Whether the term has gone by, or had when it was done; nothing of what has none.
    #[must_use]
    pub fn is_late(&self, calendar: &Calendar, today: Date) -> Option<bool> {
        let late =
            |stage, service, step, since, day| Work::Step(stage, service, step).deadline(calendar, since).day < day;
        match self.stock {
            Stock::Card(_) | Stock::Account(_) => None,
            Stock::Open(stage, service, step) => Some(late(stage, service, step, self.day, today)),
            Stock::Done(service, step) => Some(late(Stage::Open, service, step, self.began, self.day)),
        }
    }
}

/// What a record counts as, and how often. What is in dispute counts with each of its values.
#[must_use]
pub fn counted(record: &Record) -> BTreeMap<Counted, u64> {
    let mut found = BTreeMap::new();
    let mut count = |counted| *found.entry(counted).or_default() += 1;
    let place = |at: usize| u8::try_from(at).unwrap_or(u8::MAX);
    match record.kind {
        RecordKind::Person => {
            for ((field, _), values) in record.fields() {
                if *field != field::IDENTITY_CARD && *field != field::E_IDENTIFICATION {
                    continue;
                }
                let values = values.iter().filter_map(|tagged| Value::decode(*field, &tagged.value).ok());
                for value in values.filter(|value| !value.is_cleared()) {
                    let number = |codes: &'static [Code], name: Option<&str>| {
                        name.and_then(|name| named(codes, name)).map_or(0, |code| code.number)
                    };
                    count(Counted::plain(match *field == field::IDENTITY_CARD {
                        true => Stock::Card(number(CARD_STATE, value.part("state").and_then(|state| state.code()))),
                        false => Stock::Account(number(E_IDENTIFICATION, value.code())),
                    }));
                }
            }
        }
        RecordKind::Dossier => {
            for (service, step, stage, since) in open_steps(record) {
                let stock = Stock::Open(stage, place(service), place(step));
                count(Counted { stock, day: since, began: Date::MIN });
            }
            for (service, step, began, day) in done_steps(record) {
                count(Counted { stock: Stock::Done(place(service), place(step)), day, began });
            }
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_stock_has_a_code_of_its_own_and_words() {
        let all: Vec<Stock> = Stock::all().collect();
        assert_eq!(all.iter().map(|stock| stock.code()).collect::<BTreeSet<_>>().len(), all.len());
        for stock in all {
            assert_eq!(Stock::of_code(stock.code()), Some(stock));
            let is_known = !matches!(stock, Stock::Card(0) | Stock::Account(0));
            assert_eq!((!stock.state().0.is_empty(), !stock.state().1.is_empty()), (is_known, is_known), "{stock:?}");
        }
    }

    #[test]
    fn a_step_is_late_by_the_working_days_of_its_term() {
        let day = |text: &str| text.parse::<Date>().unwrap();
        let calendar = Calendar::default();
        // Health insurance: two working days from a Friday, until Tuesday.
        let (service, step) = (0, 2);
        let open = Counted { stock: Stock::Open(Stage::Open, service, step), day: day("2026-03-06"), began: Date::MIN };
        assert_eq!(open.is_late(&calendar, day("2026-03-10")), Some(false));
        assert_eq!(open.is_late(&calendar, day("2026-03-11")), Some(true));
        let done = |on: &str| Counted { stock: Stock::Done(service, step), day: day(on), began: day("2026-03-06") };
        assert_eq!(done("2026-03-10").is_late(&calendar, day("2027-01-01")), Some(false));
        assert_eq!(done("2026-03-11").is_late(&calendar, day("2027-01-01")), Some(true));
        assert_eq!(Counted::plain(Stock::Card(1)).is_late(&calendar, day("2027-01-01")), None);
    }
}
