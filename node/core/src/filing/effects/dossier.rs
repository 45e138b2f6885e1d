//! Dossiers: their steps, one after the other.

use super::{Case, Done, EventRule, Place, Stop, Work, choice, refuse, warn};
use crate::date::{Date, PartialDate};
use crate::dossier::{Service, Shown, Step};
use crate::event::Event;
use crate::filing::part_place;
use crate::schema::codes::{DOSSIER_STEP, STEP_STATE};
use crate::schema::{Content, RecordKind, field};

event_rules! {
    OUT_OF_TURN = "step_out_of_turn", "Decree 63/2024/NĐ-CP",
        "that is not what the step waits for: the steps before it come first, and one that was done or refused is taken up again by a \
         decision",
        "chưa đến lượt hoặc bước này đã giải quyết: thực hiện các bước trước, hoặc giải quyết lại theo quyết định";
    NO_STEP = "no_such_step", "Decree 63/2024/NĐ-CP",
        "the service of this dossier has no such step",
        "thủ tục của hồ sơ này không có bước đó";
    CLOSED = "dossier_closed", "Decree 63/2024/NĐ-CP",
        "the dossier is closed: open another one",
        "hồ sơ đã đóng: tiếp nhận hồ sơ mới";
    OF_ANOTHER = "dossier_of_another", "Decree 63/2024/NĐ-CP",
        "the dossier is about another person, or it is not clear about whom: file the event for that person alone",
        "hồ sơ này của người khác, hoặc chưa rõ của ai";
    NO_STEP_DONE = "no_step_done", "Decree 63/2024/NĐ-CP",
        "the event does no step of this dossier that is to be done now: leave the dossier out",
        "sự kiện này không giải quyết bước nào của hồ sơ";
    NOTHING_OPEN = "dossier_done", "Decree 63/2024/NĐ-CP",
        "all steps are done: there is nothing to close",
        "tất cả các bước đã giải quyết xong";
    DAY_NEEDED = "day_needed", "Decree 63/2024/NĐ-CP",
        "give the whole day, since a term runs from it",
        "ghi đủ ngày, tháng, năm";
    BEFORE_DECLARED = "before_the_dossier", "Decree 63/2024/NĐ-CP",
        "that day lies before the dossier was handed in: check both",
        "ngày này trước ngày tiếp nhận hồ sơ: kiểm tra lại";
    OLD_DOSSIER = "dossier_older_than_a_year", "Decree 63/2024/NĐ-CP",
        "that day lies more than a year back",
        "ngày tiếp nhận cách đây hơn một năm", warning = true;
    BY_ITS_EVENT = "step_has_an_event", "Decree 63/2024/NĐ-CP",
        "the register ends this step with its event, filed with the dossier: say it only if that is in the register of another office",
        "bước này kết thúc khi đăng ký sự kiện kèm hồ sơ: chỉ ghi riêng nếu việc đăng ký ở đơn vị khác", warning = true;
}

/// Days after which nobody types in what lay there on paper without saying why.
const OLD_DAYS: i64 = 366;

/// The day from which a term runs: the one that was given, such as that of a dossier which lay there on paper until the power was back; the
/// day of the filing, if none was, or not the day.
fn term_from(given: Option<PartialDate>, on: Date) -> PartialDate {
    given.and_then(PartialDate::exact).map_or(on, |given| given.min(on)).into()
}

/// The day that was given for what is said of a dossier, or that of the filing.
fn day_given(case: &Case<'_>, at: usize) -> Result<PartialDate, Stop> {
    let Some(given) = case.input_date("date") else { return Ok(case.on.into()) };
    let Some(day) = given.exact() else { return refuse(Place::Input("date"), &DAY_NEEDED).map(|()| given) };
    let declared = case.works[at].value(field::DOSSIER_DECLARED, "").and_then(|value| value.date());
    if declared.is_some_and(|declared| day < declared.earliest()) {
        refuse(Place::Input("date"), &BEFORE_DECLARED)?;
    }
    Ok(day.min(case.on).into())
}

/// A step as a record is to say it.
#[derive(Default)]
struct Said<'a> {
    state: &'a str,
    ended: Option<PartialDate>,
    result: Option<Content>,
    lacking: Option<Content>,
}

impl Work {
    fn is_done(&self, step: &Step) -> bool {
        self.said_of(step) == Some("done")
    }

    fn said_of(&self, step: &Step) -> Option<&'static str> {
        self.part(field::DOSSIER_STEP, &step.element(), "state")?.code()
    }

    /// Whether the steps before one are done.
    fn is_turn_of(&self, service: &Service, step: &Step) -> bool {
        step.after.iter().all(|name| service.step(name).is_some_and(|(_, before)| self.is_done(before)))
    }

    /// The state of a step: one of which nothing is said is open, once it is its turn.
    fn state_of(&self, service: &Service, step: &Step) -> Option<&'static str> {
        match self.said_of(step) {
            None if self.is_disputed(field::DOSSIER_STEP, &step.element()) => None,
            None => self.is_turn_of(service, step).then_some("open"),
            said => said,
        }
    }

    fn waits(&self, service: &Service, step: &Step) -> bool {
        self.is_turn_of(service, step) && matches!(self.state_of(service, step), Some("open" | "papers_missing"))
    }

    fn say_step(&mut self, step: &Step, said: Said<'_>, on: PartialDate) {
        let parts = [
            ("step", Some(choice(DOSSIER_STEP, step.name))),
            ("state", Some(choice(STEP_STATE, said.state))),
            ("since", Some(Content::Date(on))),
            ("ended", said.ended.map(Content::Date)),
            ("result", said.result),
            ("lacking", said.lacking),
        ];
        let parts = parts.into_iter();
        let parts = parts.filter_map(|(name, content)| Some((part_place(field::DOSSIER_STEP, name)?, content?)));
        let parts = parts.collect();
        self.set(field::DOSSIER_STEP, &step.element(), Content::Parts(parts));
    }

    /// Whether a person's record shows that a step is done.
    fn shows(&self, shown: Shown) -> bool {
        match shown {
            Shown::No => false,
            Shown::Registered => true,
            Shown::Resident => self.is_open(field::PERMANENT_RESIDENCE, "until"),
            Shown::NoResident => !self.is_open(field::PERMANENT_RESIDENCE, "until"),
            Shown::Dead => self.value(field::DEATH_DATE, "").is_some(),
        }
    }
}

/// The dossier of an event, and its service. One whose service nobody knows, or which is closed, takes nothing.
fn dossier(case: &Case<'_>) -> Result<Option<(usize, &'static Service)>, Stop> {
    let Some(at) = case.one("dossier") else { return Ok(None) };
    let work = &case.works[at];
    if work.had_any(field::DOSSIER_CLOSED, "") {
        refuse(Place::Subject(at), &CLOSED)?;
    }
    match work.code(field::DOSSIER_SERVICE).and_then(Service::named) {
        Some(service) => Ok(Some((at, service))),
        None => refuse(Place::Subject(at), &NO_STEP).map(|()| None),
    }
}

/// Ends the steps that a person's record shows as done, as far as it is their turn. Whether there were any.
fn end_shown(case: &mut Case<'_>, (at, service): (usize, &'static Service), person: usize) -> bool {
    let on = case.on.into();
    let mut is_any = false;
    for step in service.steps {
        if case.works[at].waits(service, step) && case.works[person].shows(step.shown) {
            case.works[at].say_step(step, Said { state: "done", ended: Some(on), ..Said::default() }, on);
            is_any = true;
        }
    }
    is_any
}

pub(super) fn opened(case: &mut Case<'_>) -> Done {
    let Some((at, service)) = dossier(case)? else { return Ok(()) };
    if case.input_date("date").is_some_and(|given| given.exact().is_none()) {
        return refuse(Place::Input("date"), &DAY_NEEDED);
    }
    let on = term_from(case.input_date("date"), case.on);
    if case.on.days() - on.earliest().days() > OLD_DAYS {
        warn(case, Place::Input("date"), &OLD_DOSSIER)?;
    }
    let work = &mut case.works[at];
    if work.value(field::DOSSIER_DECLARED, "").is_none() {
        work.set(field::DOSSIER_DECLARED, "", Content::Date(on));
    }
    if let Some(person) = case.one("person") {
        let id = case.works[person].id;
        case.works[at].set(field::DOSSIER_PERSON, "", Content::Record(id));
        end_shown(case, (at, service), person);
    }
    Ok(())
}

/// What an event about a person does of the dossier that it names.
pub(super) fn advance(case: &mut Case<'_>) -> Done {
    let Some((at, service)) = dossier(case)? else { return Ok(()) };
    let is_main = |work: &Work| work.role.is_main && work.role.kind == RecordKind::Person;
    let persons: Vec<usize> = (0..case.works.len()).filter(|one| is_main(&case.works[*one])).collect();
    let named = case.works[at].value(field::DOSSIER_PERSON, "").and_then(|value| value.record());
    // Whom a dossier is about that names nobody yet, the event of its next step says: a birth.
    let is_next = |step: &Step| step.event == Some(case.filed.event) && case.works[at].waits(service, step);
    let is_unnamed = !case.works[at].is_disputed(field::DOSSIER_PERSON, "") && service.steps.iter().any(is_next);
    let person = match (named, &persons[..]) {
        (Some(named), _) => persons.iter().copied().find(|one| case.works[*one].id == named),
        (None, [one]) if is_unnamed => Some(*one),
        _ => None,
    };
    let Some(person) = person else { return refuse(Place::Subject(at), &OF_ANOTHER) };
    if named.is_none() {
        let id = case.works[person].id;
        case.works[at].set(field::DOSSIER_PERSON, "", Content::Record(id));
    }
    if !end_shown(case, (at, service), person) {
        return refuse(Place::Subject(at), &NO_STEP_DONE);
    }
    Ok(())
}

/// What is said of one step, or of the whole dossier.
pub(super) fn step(case: &mut Case<'_>) -> Done {
    let Some((at, service)) = dossier(case)? else { return Ok(()) };
    let event = case.filed.event;
    if event == Event::DossierClosed {
        if service.steps.iter().all(|step| case.works[at].is_done(step)) {
            return refuse(Place::Subject(at), &NOTHING_OPEN);
        }
        return day_given(case, at).map(drop);
    }
    let named = case.input("step").and_then(|step| step.code());
    let Some((_, step)) = named.and_then(|name| service.step(name)) else {
        return refuse(Place::Input("step"), &NO_STEP);
    };
    let (state, waits) = (case.works[at].state_of(service, step), case.works[at].waits(service, step));
    let (on, ended) = (PartialDate::from(case.on), day_given(case, at)?);
    if event == Event::DossierStepDone && step.event.is_some() {
        warn(case, Place::Input("step"), &BY_ITS_EVENT)?;
    }
    let said = match event {
        Event::DossierStepDone if waits => {
            Said { state: "done", ended: Some(ended), result: case.input("result"), ..Said::default() }
        }
        Event::DossierStepRejected if waits => Said { state: "rejected", ended: Some(ended), ..Said::default() },
        Event::DossierPapersAsked if waits => {
            Said { state: "papers_missing", lacking: case.input("lacking"), ..Said::default() }
        }
        Event::DossierPapersBrought if state == Some("papers_missing") => Said { state: "open", ..Said::default() },
        Event::DossierStepReopened if matches!(state, Some("done" | "rejected")) => {
            Said { state: "open", ..Said::default() }
        }
        _ => return refuse(Place::Input("step"), &OUT_OF_TURN),
    };
    let since = said.ended.unwrap_or(on);
    case.works[at].say_step(step, said, since);
    Ok(())
}
