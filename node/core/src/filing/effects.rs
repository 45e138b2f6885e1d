//! What events do beyond what is filled in: what ends with a death, whose entries change together, which states follow which.
//! Here what holds of any event; the rest by what they are about.

use super::{Case, EventRule, NotFiled, Place, Stop, Work};
use crate::command::Subject;
use crate::date::PartialDate;
use crate::event::Event;
use crate::number::PersonNumber;
use crate::schema::{Code, Content, FieldId, RecordKind, field};

/// Rules, and a list of them; `warning = true` behind one that an officer may pass with grounds.
macro_rules! event_rules {
    ($($name:ident = $word:literal, $law:literal, $text:literal, $vi:literal $(, warning = $warns:literal)?;)*) => {
        $(static $name: EventRule = EventRule {
            name: $word, law: $law, text: $text, text_vi: $vi, is_warning: false $(|| $warns)?,
        };)*
        pub(super) static RULES: &[&EventRule] = &[$(&$name),*];
    };
}

mod civil;
mod dossier;
mod households;
mod identity;
mod residence;

type Done = Result<(), Stop>;

event_rules! {
    DEAD = "not_of_the_dead", "Law on Civil Status 60/2014/QH13, article 33",
        "the person is registered as dead: correct the death first, if it is wrong",
        "người này đã được đăng ký khai tử: nếu sai, hãy điều chỉnh việc khai tử trước";
    NUMBER_BY_EVENT = "number_by_its_events", "Decree 70/2024, article 11",
        "a personal number is assigned, cancelled and re-established by events of its own, and corrected by none else",
        "số định danh chỉ được xác lập, hủy, xác lập lại bằng thủ tục riêng";
    PAPER_UNNAMED = "kind_of_paper_needed", "Decree 70/2024, article 5",
        "say which kind of paper it is",
        "ghi rõ loại giấy tờ";
    NO_PERSON = "paper_of_nobody", "Decree 70/2024, article 5",
        "a paper is filed with a person, and the event is of none: leave it out",
        "giấy tờ được lưu cùng hồ sơ của một người";
    NOTHING_CORRECTED = "nothing_corrected", "Decree 70/2024, article 6",
        "say which fields are corrected",
        "ghi rõ thông tin được điều chỉnh";
}

/// Every rule of events.
pub fn rules() -> impl Iterator<Item = &'static EventRule> {
    [RULES, civil::RULES, residence::RULES, households::RULES, identity::RULES, dossier::RULES]
        .into_iter()
        .flatten()
        .copied()
}

fn refuse(place: Place, rule: &'static EventRule) -> Done {
    Err(Stop::Refused(NotFiled::Rule(place, rule)))
}

/// Refuses what is not usual, unless the officer says why it is so.
fn warn(case: &Case<'_>, place: Place, warning: &'static EventRule) -> Done {
    debug_assert!(warning.is_warning);
    if case.filed.grounds.trim().is_empty() { refuse(place, warning) } else { Ok(()) }
}

fn choice(list: &'static [Code], name: &str) -> Content {
    let code = list.iter().find(|code| code.name == name);
    Content::Code(code.expect("a code of the list"))
}

/// Events that only end what is written of somebody, or say what became of a life: they are filed of the dead, too.
const OF_THE_DEAD: [Event; 15] = [
    Event::Death,
    Event::Return,
    Event::Correction,
    Event::PaperAttached,
    Event::Divorce,
    Event::HouseholdLeft,
    Event::HouseholdDissolved,
    Event::PermanentResidenceEnd,
    Event::TemporaryResidenceEnd,
    Event::TemporaryAbsenceEnd,
    Event::CardRevoked,
    Event::CardRejected,
    Event::AccountClosed,
    Event::NumberCancelled,
    Event::DossierOpened,
];

/// What is so of an event beyond its form.
pub(super) fn of(case: &mut Case<'_>) -> Done {
    let event = case.filed.event;
    if !OF_THE_DEAD.contains(&event) {
        all_live(case)?;
    }
    match event {
        Event::Birth => civil::birth(case)?,
        Event::Death => civil::death(case)?,
        Event::Disappearance => civil::disappearance(case),
        Event::Return => civil::came_back(case)?,
        Event::Marriage => civil::marriage(case)?,
        Event::Divorce => civil::divorce(case)?,
        Event::Widowhood => civil::widowhood(case)?,
        Event::Adoption | Event::Recognition => civil::parents_named(case)?,
        Event::NationalityChange => civil::nationality_changed(case),
        Event::Correction => corrected(case)?,
        Event::PermanentResidence => residence::permanent_residence(case)?,
        Event::PermanentResidenceEnd => residence::residence_ended(case, field::PERMANENT_RESIDENCE, "until")?,
        Event::TemporaryResidence => residence::temporary_residence(case)?,
        Event::TemporaryResidenceRenewal => residence::renewal(case)?,
        Event::TemporaryResidenceEnd => residence::residence_ended(case, field::TEMPORARY_RESIDENCE, "ended")?,
        Event::TemporaryAbsenceEnd => residence::absence_ended(case)?,
        Event::Stay => residence::stay(case)?,
        Event::HouseholdFounded => households::founded(case, None)?,
        Event::HouseholdSplit => households::founded(case, case.one("from"))?,
        Event::HouseholdJoined => households::joined(case)?,
        Event::HouseholdLeft => households::left(case)?,
        Event::HouseholdMerged => households::merged(case)?,
        Event::HeadChanged => households::head_changed(case)?,
        Event::HouseholdDissolved => households::dissolved(case)?,
        Event::CardRequested => identity::card_requested(case)?,
        Event::CardCaptured => identity::card(case, &["requested"], "captured")?,
        Event::CardApproved => identity::card(case, &["captured"], "approved")?,
        Event::CardProduced => identity::card(case, &["approved"], "produced")?,
        Event::CardDelivered => identity::card(case, &["produced"], "delivered")?,
        Event::CardRejected => identity::card(case, &["requested", "captured", "approved"], "rejected")?,
        Event::CardLost => identity::card(case, &["produced", "delivered"], "lost")?,
        Event::CardDamaged => identity::card(case, &["produced", "delivered"], "damaged")?,
        Event::CardRevoked => identity::card(case, &["produced", "delivered", "held"], "revoked")?,
        Event::CardHeld => identity::card(case, &["delivered"], "held")?,
        Event::CardReturned => identity::card(case, &["held"], "delivered")?,
        Event::AccountLevel1
        | Event::AccountLevel2
        | Event::AccountActivated
        | Event::AccountLocked
        | Event::AccountUnlocked
        | Event::AccountClosed => identity::account(case)?,
        Event::NumberAssigned => identity::number_given(case, false)?,
        Event::NumberReestablished => identity::number_given(case, true)?,
        Event::NumberCancelled => identity::number_cancelled(case)?,
        Event::PaperAttached => return attach(case, &PAPER_PARTS),
        Event::DossierOpened => dossier::opened(case)?,
        Event::DossierStepDone
        | Event::DossierPapersAsked
        | Event::DossierPapersBrought
        | Event::DossierStepRejected
        | Event::DossierStepReopened
        | Event::DossierClosed => dossier::step(case)?,
        Event::NameChange
        | Event::SexChange
        | Event::TemporaryAbsence
        | Event::Dwelling
        | Event::Change
        | Event::Unknown(_) => {}
    }
    // Last: a step ends with what the event made of the person's record.
    if matches!(event, Event::Birth | Event::Death | Event::PermanentResidence | Event::PermanentResidenceEnd) {
        dossier::advance(case)?;
    }
    attach(case, &RESTS_ON)
}

/// Inputs that make a document, and the parts that they are.
const RESTS_ON: [(&str, &str); 4] =
    [("paper", "kind"), ("paper-number", "number"), ("paper-issued", "issued"), ("paper-issued-by", "issued_by")];
const PAPER_PARTS: [(&str, &str); 6] = [
    ("kind", "kind"),
    ("number", "number"),
    ("issued", "issued"),
    ("issued-by", "issued_by"),
    ("hash", "hash"),
    ("bytes", "bytes"),
];

/// Files a paper, if one is given, with each person whom the event is about.
fn attach(case: &mut Case<'_>, inputs: &[(&str, &str)]) -> Done {
    // An event may have inputs of that name and another meaning: those of a paper it names so.
    let is_of_paper =
        |input: &str| case.form.inputs.iter().any(|one| one.name == input && one.field == field::DOCUMENT);
    let given = inputs.iter().filter(|(input, _)| is_of_paper(input));
    let parts: Vec<(&str, Content)> = given.filter_map(|(input, part)| Some((*part, case.input(input)?))).collect();
    if parts.is_empty() {
        return Ok(());
    }
    if parts[0].0 != "kind" {
        return refuse(Place::Event, &PAPER_UNNAMED);
    }
    let is_holder = |at: &usize| case.works[*at].role.is_main && case.works[*at].role.kind == RecordKind::Person;
    let holders: Vec<usize> = (0..case.works.len()).filter(is_holder).collect();
    if holders.is_empty() {
        return refuse(Place::Event, &NO_PERSON);
    }
    for at in holders {
        let element = case.fresh_key();
        case.works[at].amend(field::DOCUMENT, &element, &parts);
    }
    Ok(())
}

/// Nothing happens to the dead but what their register says of them. Who is dead in one of several values is: an officer has
/// still to decide when he died.
fn all_live(case: &Case<'_>) -> Done {
    let is_dead = |work: &Work| work.had_any(field::DEATH_DATE, "");
    for (at, work) in case.works.iter().enumerate() {
        let is_parent = case.filed.event == Event::Birth && !work.is_new;
        // Another head is found because this one is gone.
        let is_gone = case.filed.event == Event::HeadChanged && work.role.name == "member";
        if !is_parent && !is_gone && work.role.kind == RecordKind::Person && is_dead(work) {
            return refuse(Place::Subject(at), &DEAD);
        }
    }
    Ok(())
}

fn corrected(case: &Case<'_>) -> Done {
    let is_some = |subject: &Subject| !subject.corrections.is_empty();
    let of_number = |subject: &Subject| {
        subject.corrections.iter().any(|((field, _), _)| [field::PERSONAL_NUMBER, field::FORMER_NUMBER].contains(field))
    };
    if let Some(at) = case.filed.subjects.iter().position(of_number) {
        return refuse(Place::Subject(at), &NUMBER_BY_EVENT);
    }
    if !case.filed.subjects.is_empty() && case.filed.subjects.iter().all(is_some) {
        return Ok(());
    }
    refuse(Place::Event, &NOTHING_CORRECTED)
}

impl Work {
    pub(super) fn born(&self) -> Option<PartialDate> {
        self.value(field::BIRTH_DATE, "")?.date()
    }

    fn number(&self) -> Option<PersonNumber> {
        self.value(field::PERSONAL_NUMBER, "")?.number()
    }

    /// Whether an interval is there that has not ended.
    fn is_open(&self, of: FieldId, end: &str) -> bool {
        self.value(of, "").is_some_and(|value| value.part(end).is_none())
    }

    fn starts_after(&self, of: FieldId, start: &str, date: PartialDate) -> bool {
        self.part(of, "", start).and_then(|start| start.date()).is_some_and(|start| date.surely_precedes(start))
    }
}
