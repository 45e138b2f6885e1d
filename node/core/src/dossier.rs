//! Dossiers: services that are declared once, and then go through the hands of several authorities (liên thông thủ tục hành chính, Decree
//! 63/2024). What a service consists of is a table: another one is a row of [`SERVICES`] and a code.
//!
//! A dossier is a record of the commune where it was handed in. Each of its steps is an element of one field: in which state it is, since
//! when, and with which result. A step of which nothing is said begins once those before it are done; what the register itself shows, such as
//! a birth, ends its step with the event that registers it. What events make of that stands in `filing::effects::dossier`; what is open of it, in
//! `work`.

use crate::date::{Date, PartialDate};
use crate::event::Event;
use crate::record::Record;
use crate::schema::{RecordKind, Value, field};

/// A service.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, as in the list of services of the schema.
    pub name: &'static str,
    /// The law.
    pub law: &'static str,
    /// Its steps, none before one that it follows.
    pub steps: &'static [Step],
}

/// A step of a service. Steps stay where they are in their service for ever, since work lists name them so.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, as in the list of steps of the schema.
    pub name: &'static str,
    /// The law that says until when it is done.
    pub law: &'static str,
    /// How far above the commune the office is that does it: 0 the commune, 1 the unit above it.
    pub owner: u8,
    /// Working days; 0 for the same one.
    pub days: u16,
    /// The steps that are done before it begins.
    pub after: &'static [&'static str],
    /// What of the person's record shows that it is done.
    pub shown: Shown,
    /// The event by which an officer does it, if the register has it.
    pub event: Option<Event>,
}

/// What of a person's record shows that a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing: somebody says so.
    No,
    /// That there is one.
    Registered,
    /// A permanent residence.
    Resident,
    /// A date of death.
    Dead,
    /// That there is no permanent residence any more.
    NoResident,
}

/// Working days within which missing papers are brought (Decree 63/2024).
pub const PAPERS_DAYS: u16 = 7;

/// Every service, in the order of its codes.
pub static SERVICES: &[Service] = &[
    Service {
        name: "birth",
        law: "Decree 63/2024/NĐ-CP",
        steps: &[
            Step {
                name: "birth_registration",
                law: "Decree 63/2024/NĐ-CP; Law on Civil Status 60/2014/QH13, article 16",
                owner: 0,
                days: 0,
                after: &[],
                shown: Shown::Registered,
                event: Some(Event::Birth),
            },
            Step {
                name: "permanent_residence",
                law: "Law on Residence 68/2020/QH14, article 22",
                owner: 0,
                days: 7,
                after: &["birth_registration"],
                shown: Shown::Resident,
                event: Some(Event::PermanentResidence),
            },
            Step {
                name: "health_insurance",
                law: "Decree 63/2024/NĐ-CP",
                owner: 1,
                days: 2,
                after: &["birth_registration"],
                shown: Shown::No,
                event: None,
            },
        ],
    },
    Service {
        name: "death",
        law: "Decree 63/2024/NĐ-CP",
        steps: &[
            Step {
                name: "death_registration",
                law: "Decree 63/2024/NĐ-CP; Law on Civil Status 60/2014/QH13, article 34",
                owner: 0,
                days: 0,
                after: &[],
                shown: Shown::Dead,
                event: Some(Event::Death),
            },
            Step {
                name: "residence_end",
                law: "Law on Residence 68/2020/QH14, article 24",
                owner: 0,
                days: 3,
                after: &["death_registration"],
                shown: Shown::NoResident,
                event: Some(Event::PermanentResidenceEnd),
            },
            Step {
                name: "funeral_allowance",
                law: "Decree 63/2024/NĐ-CP",
                owner: 1,
                days: 7,
                after: &["residence_end"],
                shown: Shown::No,
                event: None,
            },
        ],
    },
];

impl Service {
    /// The service of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Service> {
        SERVICES.iter().find(|service| service.name == name)
    }

    /// The step of that name, and its place.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<(usize, &'static Step)> {
        self.steps.iter().enumerate().find(|(_, step)| step.name == name)
    }
}

impl Step {
    /// The element key under which a dossier has it: names of lists have underscores, and element keys hyphens.
    #[must_use]
    pub fn element(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// What somebody has to do about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Do it.
    Open,
    /// Have the missing papers brought.
    Papers,
    /// It failed: take it up again, or close the dossier.
    Failed,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Stage; 3] = [Stage::Open, Stage::Papers, Stage::Failed];

    /// The state of a step at this stage: a name of the list of states.
    #[must_use]
    pub fn state(self) -> &'static str {
        match self {
            Stage::Open => "open",
            Stage::Papers => "papers_missing",
            Stage::Failed => "rejected",
        }
    }
}

/// The values of a step: several, if it is in dispute.
fn values(record: &Record, step: &Step) -> Vec<Value> {
    let key = (field::DOSSIER_STEP, step.element().into_bytes());
    let values = record.values(&key).iter().filter_map(|tagged| Value::decode(field::DOSSIER_STEP, &tagged.value).ok());
    values.filter(|value| !value.is_cleared()).collect()
}

fn state(value: &Value) -> Option<&'static str> {
    value.part("state")?.code()
}

/// Since when a step is done, if all that is said of it says so.
fn done_since(record: &Record, step: &Step) -> Option<Date> {
    let values = values(record, step);
    if values.is_empty() || !values.iter().all(|value| state(value) == Some("done")) {
        return None;
    }
    values.iter().filter_map(since).max()
}

fn since(value: &Value) -> Option<Date> {
    Some(value.part("since")?.date()?.earliest())
}

/// The dossier's service by its place, and for each of its steps its place and the day on which it begins, if that has come: since those before
/// it are done; the first ones, since the dossier was handed in. Nothing of another kind of record, or of a newer version's service.
fn begun_steps(record: &Record) -> impl Iterator<Item = (usize, usize, &'static Step, Option<Date>)> {
    let named = record.value(field::DOSSIER_SERVICE, b"").and_then(|value| value.code());
    let service = SERVICES.iter().enumerate().find(|(_, service)| Some(service.name) == named);
    let service = service.filter(|_| record.kind == RecordKind::Dossier);
    let declared = record.value(field::DOSSIER_DECLARED, b"").and_then(|value| value.date());
    let declared = declared.map_or(Date::MIN, PartialDate::earliest);
    service.into_iter().flat_map(move |(at, service)| {
        service.steps.iter().enumerate().map(move |(place, step)| {
            let before = step.after.iter().filter_map(|name| service.step(name));
            let before: Option<Vec<Date>> = before.map(|(_, before)| done_since(record, before)).collect();
            (at, place, step, before.map(|before| before.into_iter().max().unwrap_or(declared)))
        })
    })
}

/// The steps of a dossier that are done, as all that is said of them says: service and step by their places, the day on which each began, and
/// the day on which it was done. One that is done though something before it is not has failed, and is none of them.
#[must_use]
pub fn done_steps(record: &Record) -> Vec<(usize, usize, Date, Date)> {
    let done = |(at, place, step, begins)| Some((at, place, begins?, done_since(record, step)?));
    begun_steps(record).filter_map(done).collect()
}

/// The steps of a dossier about which somebody has something to do: service and step by their places, the stage, and since when. Nothing of
/// one that is closed, of another kind of record, or of a newer version's service.
///
/// A step of which nothing is said is open since those before it are done; the first ones, since the dossier was handed in. Of a step in
/// dispute each value counts. One that is done though something before it is not, since that was rejected or taken up again, has failed.
#[must_use]
pub fn open_steps(record: &Record) -> Vec<(usize, usize, Stage, Date)> {
    if record.kind != RecordKind::Dossier || record.value(field::DOSSIER_CLOSED, b"").is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, place, step, begins) in begun_steps(record) {
        let said = values(record, step);
        if said.is_empty() {
            found.extend(begins.map(|begins| (at, place, Stage::Open, begins)));
        }
        for value in said {
            let stage = match state(&value) {
                Some("done") if begins.is_none() => Some(Stage::Failed),
                state => Stage::ALL.into_iter().find(|stage| Some(stage.state()) == state),
            };
            found.extend(stage.and_then(|stage| Some((at, place, stage, since(&value)?))));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::codes::{DOSSIER_STEP, SERVICE};

    #[test]
    fn every_service_is_a_code_and_its_steps_follow_those_before_them() {
        let names: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
        assert_eq!(names, SERVICE.iter().map(|code| code.name).collect::<Vec<_>>());
        for service in SERVICES {
            assert!((1..=8).contains(&service.steps.len()));
            for (place, step) in service.steps.iter().enumerate() {
                assert!(DOSSIER_STEP.iter().any(|code| code.name == step.name), "{}", step.name);
                assert_eq!(service.step(step.name).map(|(at, _)| at), Some(place), "each name once");
                let is_before = |name: &&str| service.steps[..place].iter().any(|before| before.name == *name);
                assert!(step.after.iter().all(is_before), "{}", step.name);
            }
        }
        let is_used = |name: &str| SERVICES.iter().any(|service| service.step(name).is_some());
        assert!(DOSSIER_STEP.iter().all(|code| is_used(code.name)));
    }
}
