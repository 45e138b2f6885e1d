//! An event at the door: from the wire to a command. What it makes of the records is decided in `apply`.

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::blocks::{Block, number_lacking};
use dinhba_core::claims::Claims;
use dinhba_core::command::{Command, FileCommand, Filed, ShardInfo};
use dinhba_core::date::InstantMs;
use dinhba_core::edit::COMMAND_BYTES_MAX;
use dinhba_core::encoding::Wire;
use dinhba_core::event::{Form, Input, Role};
use dinhba_core::filing::{self, Typed, TypedSubject};
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::number::{PersonNumber, Sex};
use dinhba_core::record::Record;
use dinhba_core::registry::read;
use dinhba_core::schema::{Content, FieldId, Value, field};
use dinhba_core::search::Search;
use dinhba_core::text::is_nfc;
use dinhba_proto::v1;
use tonic::Status;

use super::RecordsService;
use crate::numbers;
use crate::runtime;
use crate::service::answer::{Problem, invalid, rules_broken, wrong};
use crate::service::convert::{NO_SUCH_UNIT, dots_from_wire, knows_units, request_from_wire, shard_named};
use crate::service::{Caller, context_from_wire, keep};
use crate::shared::Shared;

impl RecordsService {
    /// Files one event, and says what became of it.
    pub(super) async fn file_one(&self, claims: &Claims, request: v1::FileRequest) -> Result<v1::EditReply, Status> {
        self.counted(self.file_uncounted(claims, request).await)
    }

    async fn file_uncounted(&self, claims: &Claims, request: v1::FileRequest) -> Result<v1::EditReply, Status> {
        let home = if request.shard.is_empty() { self.shard_of("", claims).await } else { Ok(ShardId::default()) };
        // What is wrong with the event comes before where it goes, and is all said at once.
        let mut command = self.file_command(claims, home.as_ref().copied().unwrap_or_default(), request)?;
        home?;
        let place = self.place_of(command.shard).await?;
        command.blocks = blocks_for(&self.0, &place.shard.info, &command.filed);
        let FileCommand { origin, filed, .. } = &command;
        let caller = Caller { claims: claims.clone(), purpose: origin.purpose, case: origin.case.clone() };
        let is_ancestor = place.shard.info.is_ancestor();
        let action = if is_ancestor { Action::EditSites } else { Action::Edit };
        caller.may(self.0.level_max, action, &place.shard.info.path)?;
        if is_ancestor {
            return Err(wrong(
                "shard",
                "events are of people, and this shard goes to every site below its unit: name a commune's",
            ));
        }
        let number = number_asked(filed);
        if number.is_some_and(|number| self.0.numbers.is_anothers(place.shard.info.shard, number)) {
            return Err(wrong("event", NUMBER_OF_A_BLOCK));
        }
        let mut new = 0;
        let ids = filed.subjects.iter().map(|subject| {
            let id = subject.record.unwrap_or_else(|| RecordId::derive(origin.request, new));
            new += u32::from(subject.record.is_none());
            id.to_string()
        });
        let records = ids.collect();
        let bytes = Command::File(Box::new(command)).to_bytes();
        if bytes.len() > COMMAND_BYTES_MAX {
            let text = format!("an event may have {COMMAND_BYTES_MAX} bytes in all, this one has {}", bytes.len());
            return Err(wrong("event", text));
        }
        // Whether a number is somebody's the answer tells, as a search does.
        if let Some(number) = number {
            let search = Search::by_number(self.0.level_max, &number.to_string())
                .map_err(|error| wrong("event", error.to_string()))?;
            let hash = search.hash(&place.hosted.context.index_key.secret, "");
            self.log(&caller, Looked::Find, place.hosted, Some(place.shard.info.shard), hash).await?;
        }
        self.proposed(&place, "event", bytes, records).await
    }

    fn file_command(&self, claims: &Claims, home: ShardId, request: v1::FileRequest) -> Result<FileCommand, Status> {
        let mut problems = Vec::new();
        let shard = shard_named(&request.shard, home, &mut problems);
        let context = context_from_wire(request.context.as_ref(), &mut problems);
        let name = keep(&mut problems, "request", request_from_wire(request.request.clone()));
        if !is_nfc(&request.grounds) {
            problems.push(Problem::new("grounds", "grounds: send text in Unicode normal form NFC"));
        }
        let typed = typed(request.event, request.grounds, request.subjects, request.inputs, &mut problems);
        let today = InstantMs(runtime::utc_ms()).date_in_vietnam();
        let (filed, early) = match typed.read(self.0.level_max, today, &**self.0.units()) {
            Ok(filed) => {
                problems.extend(unknown_units(&self.0, &filed));
                (Some(filed), Vec::new())
            }
            Err(found) => {
                let (early, wrong): (Vec<_>, Vec<_>) = found.into_iter().partition(|problem| problem.is_early);
                let problem = |found: filing::Problem| Problem { field: found.path, text: found.text };
                problems.extend(wrong.into_iter().map(problem));
                (None, early.into_iter().map(problem).collect())
            }
        };
        let (true, Some((purpose, case)), Some(name)) = (problems.is_empty(), context, name) else {
            problems.extend(early);
            return Err(invalid(problems));
        };
        let Some(filed) = filed else { return Err(rules_broken(early)) };
        let caller = Caller { claims: claims.clone(), purpose, case };
        let origin = caller.origin(name, request.authored_ms);
        Ok(FileCommand { shard, origin, secret: runtime::random(), filed, blocks: Vec::new() })
    }
}

/// The event in words; what cannot be read of its names is a problem more.
fn typed(
    event: String,
    grounds: String,
    subjects: Vec<v1::Subject>,
    inputs: Vec<v1::Input>,
    problems: &mut Vec<Problem>,
) -> Typed {
    let inputs_of = |inputs: Vec<v1::Input>| inputs.into_iter().map(|input| (input.name, input.value)).collect();
    let mut read = Vec::with_capacity(subjects.len());
    for (at, subject) in subjects.into_iter().enumerate() {
        let record = match subject.record.as_str() {
            "" => None,
            named => {
                let id = named.parse::<RecordId>().map_err(|error| format!("record: {error}"));
                keep(problems, format!("subjects[{at}].record"), id)
            }
        };
        let seen = dots_from_wire("seen", &subject.seen);
        let seen = keep(problems, format!("subjects[{at}].seen"), seen).unwrap_or_default();
        let corrections = subject.corrections.into_iter().map(|change| (change.field, change.element, change.value));
        read.push(TypedSubject {
            role: subject.role,
            record,
            element: subject.element,
            seen,
            inputs: inputs_of(subject.inputs),
            corrections: corrections.collect(),
        });
    }
    Typed { event, subjects: read, inputs: inputs_of(inputs), grounds }
}

/// What was filled in, and where it stands.
fn filled(filed: &Filed) -> impl Iterator<Item = (filing::Place, &'static Input, Content)> + '_ {
    let form = filed.event.form();
    let of_event = form.map(|form| (None, form.inputs, &filed.inputs));
    let of_subjects = filed.subjects.iter().enumerate().filter_map(move |(at, subject)| {
        let role = form?.roles.get(usize::from(subject.role))?;
        Some((Some(at), role.inputs, &subject.inputs))
    });
    of_event.into_iter().chain(of_subjects).flat_map(|(at, asked, given)| {
        given.iter().filter_map(move |(place, bytes)| {
            let input = asked.get(usize::from(*place))?;
            let place = at.map_or(filing::Place::Input(input.name), |at| filing::Place::SubjectInput(at, input.name));
            Some((place, input, Content::decode_at(LEVEL_MAX, input.field, input.part, bytes).ok()?))
        })
    })
}

/// The personal number that is to be given to somebody, if one is.
fn number_asked(filed: &Filed) -> Option<PersonNumber> {
    let mut of_number = filled(filed).filter(|(_, input, _)| input.field == field::PERSONAL_NUMBER);
    of_number.find_map(|(.., content)| content.number())
}

const NUMBER_OF_A_BLOCK: &str = "the number is one of those that are given from blocks, and of none that this office has left: leave it \
                                 out, and the next one of its own is given";

/// The blocks from which an event may take the number that it leaves open: of the series of the child, or of whoever is given one.
fn blocks_for(shared: &Shared, info: &ShardInfo, filed: &Filed) -> Vec<Block> {
    if !filed.event.gives_number() || number_asked(filed).is_some() {
        return Vec::new();
    }
    let given =
        |of: FieldId| filled(filed).find(|(_, input, _)| input.field == of && input.part.is_none()).map(|(.., is)| is);
    let sex = given(field::SEX).and_then(|sex| Sex::of_code(sex.code()?));
    let born = given(field::BIRTH_DATE).and_then(|born| Some(born.date()?.earliest().year()));
    // Of somebody who is registered his record says it; nobody is shown it by that.
    let registered = || {
        let record = filed.subjects.first()?.record?;
        let hosted = shared.host_of(info.shard)?;
        let found = hosted.look(|view| read::<Record>(view, &hosted.keys().record(info.shard, record))).ok()??;
        number_lacking(&found, info.home())
    };
    numbers::blocks_for(shared, info.shard, sex.zip(born).or_else(registered), info.home())
}

/// Inputs that name a unit that there is not.
fn unknown_units(shared: &Shared, filed: &Filed) -> Vec<Problem> {
    let inputs = filled(filed).map(|(place, _, content)| (place.path(), content));
    let corrections = filed.subjects.iter().enumerate().flat_map(|(at, subject)| {
        subject.corrections.iter().filter_map(move |((field, _), bytes)| {
            let content = Value::decode(*field, bytes).ok()?.content().clone();
            Some((format!("subjects[{at}].corrections.{field}"), content))
        })
    });
    let unknown = inputs.chain(corrections).filter(|(_, content)| !knows_units(shared, content));
    unknown.map(|(path, _)| Problem::new(path, NO_SUCH_UNIT)).collect()
}

/// Every event with its form.
pub(super) fn forms() -> v1::EventsReply {
    let input = |input: &Input| v1::EventInput {
        name: input.name.to_owned(),
        label: input.label().to_owned(),
        required: input.is_required,
        field: input.field.to_string(),
        part: input.part.unwrap_or_default().to_owned(),
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let role = |role: &Role| v1::EventRole {
        role: role.name.to_owned(),
        label: role.label.to_owned(),
        kind: role.kind.to_string(),
        is_new: role.is_new,
        count_min: count(role.count.0),
        count_max: count(role.count.1),
        inputs: role.inputs.iter().map(input).collect(),
    };
    let form = |form: &Form| v1::EventForm {
        event: form.event.name().to_owned(),
        label: form.event.label().to_owned(),
        title: form.title.to_owned(),
        law: form.law.to_owned(),
        roles: form.roles.iter().map(role).collect(),
        inputs: form.inputs.iter().map(input).collect(),
        needs_grounds: form.needs_grounds,
        corrects: form.corrects,
    };
    v1::EventsReply { events: Form::ALL.iter().map(form).collect() }
}
