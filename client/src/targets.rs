//! Targets: how many of an event a unit is to reach by a day; set, changed, withdrawn, and how far each is.
//!
//! What is said is one edit of one record in what a unit says to all below it; its registrar says it at its site, or one above it. How far a
//! target is, any site tells of the units that it serves: its figures, which nobody typed in.
//!
//! ```no_run
//! # async fn plan(client: dinhba_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use dinhba_client::targets::{ChangeTarget, SetTarget, TargetsOf};
//! use dinhba_client::Context;
//! use dinhba_core::event::Event;
//! use dinhba_core::targets::Aim;
//!
//! let context = Context::parse("statistics", "KH 12/2026")?;
//! let commune = client.units().await?.by_code("02683", "2025-06-30".parse()?).ok_or("no such unit")?.id;
//! let aim = Aim::new("2026-12-01".parse()?, "2027-02-28".parse()?, 500)?;
//! let set = SetTarget::of(commune, Event::CardDelivered, aim, "Kế hoạch 12/KH-CAT");
//! let accepted = client.edit(&client.session(), &set.build(&context)).await?;
//!
//! for target in client.targets(&context, &TargetsOf::default()).await?.targets {
//!     let Some(progress) = target.progress else { continue };
//!     println!("{}: {} of {}, {} {}", target.unit_name, progress.done, target.count, progress.outlook, progress.day);
//! }
//!
//! let record = client.get(&context, accepted.records[0]).await?;
//! let later = ChangeTarget::of(&record, "Kế hoạch 3/KH-CAT")?.last("2027-03-31".parse()?);
//! client.edit(&client.session(), &later.build(&context)?).await?;
//! # Ok(()) }
//! ```

use dinhba_core::date::Date;
use dinhba_core::event::Event;
use dinhba_core::ids::{ShardId, UnitId};
use dinhba_core::schema::{RecordKind, field, parse};
use dinhba_core::targets::{Aim, NoAim};
use dinhba_core::units::NoUnits;
use dinhba_proto::v1;

use crate::client::{Client, records};
use crate::error::Error;
use crate::request::{Context, EditBuilder, field_of};

/// Which targets are asked for.
#[derive(Debug, Clone, Default)]
pub struct TargetsOf {
    /// The unit that they bear on: its code, code and day, or id; empty for the caller's own, or the site's if that is below it.
    pub unit: String,
    /// Only of this event.
    pub event: Option<Event>,
    /// Only those whose last day is not before this one; without it, thirty days ago.
    pub since: Option<Date>,
}

impl Client {
    /// The targets that bear on a unit: of it, of those within it and of those above it, with what the figures say of each today.
    ///
    /// # Errors
    /// See [`Error`]; a refusal if there are too many, which says what to ask for instead.
    pub async fn targets(&self, context: &Context, of: &TargetsOf) -> Result<v1::TargetsReply, Error> {
        let message = v1::TargetsRequest {
            context: context.wire(),
            unit: of.unit.clone(),
            event: of.event.map(|event| event.name().to_owned()).unwrap_or_default(),
            since: of.since.map(|since| since.to_string()).unwrap_or_default(),
        };
        self.read(message, |transport, request| async move { records(transport).targets(request).await }).await
    }
}

/// A target that is to be set.
#[derive(Debug, Clone)]
pub struct SetTarget {
    unit: UnitId,
    event: Event,
    aim: Aim,
    grounds: String,
    by: Option<UnitId>,
}

impl SetTarget {
    /// For a unit with all below it, by a plan or a decision.
    #[must_use]
    pub fn of(unit: UnitId, event: Event, aim: Aim, grounds: &str) -> Self {
        SetTarget { unit, event, aim, grounds: grounds.to_owned(), by: None }
    }

    /// The unit that sets it, above the one that it is for; without it, the caller's.
    #[must_use]
    pub fn by(self, unit: UnitId) -> Self {
        SetTarget { by: Some(unit), ..self }
    }

    /// The edit.
    #[must_use]
    pub fn build(&self, context: &Context) -> EditBuilder {
        let mut edit = EditBuilder::new(context);
        if let Some(by) = self.by {
            edit.shard(ShardId::of_unit_above(by));
        }
        let part = edit.create(RecordKind::Target);
        edit.set(part, "unit", "", &self.unit.to_string()).set(part, "event", "", self.event.name());
        edit.set(part, "aim", "", &self.aim.to_string()).set(part, "grounds", "", &self.grounds);
        edit
    }
}

/// A change of a target as it was read: how many, until when, or that it is withdrawn. Its unit, its event and its first day stay.
#[derive(Debug, Clone)]
pub struct ChangeTarget {
    record: v1::Record,
    aim: Aim,
    count: Option<u64>,
    last: Option<Date>,
    is_withdrawn: bool,
    grounds: String,
}

impl ChangeTarget {
    /// By a plan or a decision.
    ///
    /// # Errors
    /// A record that is no target.
    pub fn of(record: &v1::Record, grounds: &str) -> Result<Self, Error> {
        let text = field_of(record, "aim", "").and_then(|field| field.values.first());
        let value = text.and_then(|text| parse(field::TARGET_AIM, &text.value, &NoUnits).ok());
        let aim = value.filter(|_| record.kind == RecordKind::Target.name()).as_ref().and_then(Aim::of);
        let Some(Ok(aim)) = aim else {
            let text = format!("{} is no target: see `dinhba target list`", record.id);
            return Err(Error::refusal(tonic::Code::InvalidArgument, text));
        };
        let (record, grounds) = (record.clone(), grounds.to_owned());
        Ok(ChangeTarget { record, aim, count: None, last: None, is_withdrawn: false, grounds })
    }

    /// Another count.
    #[must_use]
    pub fn count(self, count: u64) -> Self {
        ChangeTarget { count: Some(count), ..self }
    }

    /// Another last day.
    #[must_use]
    pub fn last(self, last: Date) -> Self {
        ChangeTarget { last: Some(last), ..self }
    }

    /// It counts no more; its history stays.
    #[must_use]
    pub fn withdrawn(self) -> Self {
        ChangeTarget { is_withdrawn: true, ..self }
    }

    /// The edit.
    ///
    /// # Errors
    /// An aim beyond the bounds.
    pub fn build(&self, context: &Context) -> Result<EditBuilder, NoAim> {
        let mut edit = EditBuilder::new(context);
        let part = edit.change(&self.record);
        if self.count.is_some() || self.last.is_some() {
            let (count, last) = (self.count.unwrap_or(self.aim.count()), self.last.unwrap_or(self.aim.last()));
            edit.set(part, "aim", "", &Aim::new(self.aim.first(), last, count)?.to_string());
        }
        if self.is_withdrawn {
            edit.set(part, "withdrawn", "", "yes");
        }
        edit.set(part, "grounds", "", &self.grounds);
        Ok(edit)
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::ids::RequestId;

    use super::*;

    fn context() -> Context {
        Context::parse("statistics", "KH-12").unwrap()
    }

    fn target() -> v1::Record {
        let value = v1::FieldValue {
            value: "count=500; from=2026-12-01; until=2027-02".into(),
            dot: Some(v1::Dot { author: vec![7; 16], number: 3 }),
            ..v1::FieldValue::default()
        };
        let aim = v1::Field { field: "aim".into(), values: vec![value], ..v1::Field::default() };
        v1::Record { kind: "target".into(), fields: vec![aim], ..v1::Record::default() }
    }

    fn changes(edit: &EditBuilder) -> Vec<(String, String)> {
        let part = edit.build(RequestId::default(), 0).parts.remove(0);
        part.changes.into_iter().map(|change| (change.field, change.value)).collect()
    }

    #[test]
    fn a_target_is_set_by_its_unit_or_the_one_that_is_named() {
        let aim = Aim::new("2026-12-01".parse().unwrap(), "2027-02-28".parse().unwrap(), 500).unwrap();
        let set = SetTarget::of(UnitId(5), Event::CardDelivered, aim, "KH 12");
        let edit = set.build(&context());
        assert_eq!(edit.build(RequestId::default(), 0).shard, "");
        let said: Vec<String> = changes(&edit).into_iter().map(|(field, value)| format!("{field} {value}")).collect();
        assert_eq!(
            said,
            [
                "unit u-0000000000000005",
                "event card-delivered",
                "aim count=500; from=2026-12-01; until=2027-02-28",
                "grounds KH 12"
            ]
        );
        let shard = set.by(UnitId(2)).build(&context()).build(RequestId::default(), 0).shard;
        assert_eq!(shard, ShardId::of_unit_above(UnitId(2)).to_string());
    }

    #[test]
    fn a_change_keeps_what_is_not_said_otherwise_and_replaces_what_was_read() {
        let change = ChangeTarget::of(&target(), "KH 13").unwrap();
        let edit = change.clone().count(600).build(&context()).unwrap();
        assert_eq!(changes(&edit)[0], ("aim".into(), "count=600; from=2026-12-01; until=2027-02-28".into()));
        assert_eq!(edit.build(RequestId::default(), 0).parts[0].changes[0].overwrites[0].number, 3);
        let edit = change.clone().withdrawn().build(&context()).unwrap();
        assert_eq!(changes(&edit), [("withdrawn".into(), "yes".into()), ("grounds".into(), "KH 13".into())]);
        assert_eq!(change.last("2026-11-30".parse().unwrap()).build(&context()).err(), Some(NoAim::Order));
        assert!(ChangeTarget::of(&v1::Record { kind: "person".into(), ..target() }, "KH").is_err());
    }
}
