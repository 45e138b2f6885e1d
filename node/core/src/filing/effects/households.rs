//! Households: who belongs to them, and who leads them.

use super::{Case, Done, EventRule, Place, choice, refuse};
use crate::date::PartialDate;
use crate::ids::RecordId;
use crate::schema::codes::RELATION_TO_HEAD;
use crate::schema::{Content, FieldId, field};

event_rules! {
    HOUSEHOLD_ENDED = "household_dissolved", "Law on Residence 68/2020/QH14, article 10",
        "the household is dissolved",
        "hộ này đã giải thể";
    IN_A_HOUSEHOLD = "in_another_household", "Law on Residence 68/2020/QH14, article 10",
        "the person belongs to another household: register the leaving first",
        "người này đang thuộc hộ khác: đăng ký rời hộ trước";
    NOT_A_MEMBER = "not_a_member", "Law on Residence 68/2020/QH14, article 10",
        "the person does not belong to that household",
        "người này không thuộc hộ đó";
    HEAD_STAYS = "head_stays", "Law on Residence 68/2020/QH14, article 10",
        "the head leaves last: register another head first",
        "chủ hộ không thể rời hộ: thay đổi chủ hộ trước";
    HEAD_TOO_YOUNG = "head_too_young", "Law on Residence 68/2020/QH14, article 10; Civil Code 91/2015/QH13, article 20",
        "the head of a household has full civil capacity: 18 years or more",
        "chủ hộ phải có năng lực hành vi dân sự đầy đủ: từ đủ 18 tuổi";
    HEAD_OF_MEMBERS = "one_head", "Law on Residence 68/2020/QH14, article 10",
        "the relation \"head\" is the head's alone: say what everybody else is to the head",
        "chỉ chủ hộ mới có quan hệ \"chủ hộ\"";
    HAS_MEMBERS = "household_has_members", "Law on Residence 68/2020/QH14, article 10",
        "persons still belong to the household: register their leaving first",
        "hộ vẫn còn thành viên: đăng ký rời hộ trước";
}

/// The household is there and goes on.
pub(super) fn goes_on(case: &Case<'_>, at: usize) -> Done {
    match case.works[at].had_any(field::HOUSEHOLD_DISSOLVED, "") {
        true => refuse(Place::Subject(at), &HOUSEHOLD_ENDED),
        false => Ok(()),
    }
}

fn head_of(case: &Case<'_>, household: usize) -> Option<RecordId> {
    case.works[household].value(field::HEAD, "")?.record()
}

fn household_of(case: &Case<'_>, person: usize) -> Option<RecordId> {
    case.works[person].value(field::HOUSEHOLD, "")?.record()
}

/// A household by whose record it is not known yet is nobody's; in dispute it is.
fn has_household(case: &Case<'_>, person: usize) -> bool {
    case.works[person].had_any(field::HOUSEHOLD, "")
}

/// Makes a person a member, in that relation to the head; none makes the head.
pub(super) fn enter(case: &mut Case<'_>, person: usize, household: RecordId, relation: Option<Content>) -> Done {
    let is_head = relation.is_none();
    let relation = relation.unwrap_or_else(|| choice(RELATION_TO_HEAD, "head"));
    if !is_head && relation.code() == Some("head") {
        return refuse(Place::SubjectInput(person, "relation"), &HEAD_OF_MEMBERS);
    }
    case.works[person].set(field::HOUSEHOLD, "", Content::Record(household));
    case.works[person].set(field::RELATION_TO_HEAD, "", relation);
    Ok(())
}

/// Years of a person of full age (Civil Code, article 20).
const FULL_AGE: u16 = 18;

/// The head is of full age on the day of the event, or may be.
fn may_lead(case: &Case<'_>, head: usize) -> Done {
    let day = case.date().map(PartialDate::latest);
    match (case.works[head].born(), day) {
        (Some(born), Some(day)) if born.earliest().years_until(day) < FULL_AGE => {
            refuse(Place::Subject(head), &HEAD_TOO_YOUNG)
        }
        _ => Ok(()),
    }
}

pub(super) fn relation(case: &Case<'_>, person: usize) -> Option<Content> {
    case.works[person].inputs.get("relation").cloned()
}

/// A new household, of persons without one or of members of another.
pub(super) fn founded(case: &mut Case<'_>, from: Option<usize>) -> Done {
    let (Some(household), Some(head)) = (case.one("household"), case.one("head")) else { return Ok(()) };
    let old = from.map(|from| case.works[from].id);
    if let Some(from) = from {
        goes_on(case, from)?;
    }
    let old_head = from.and_then(|from| head_of(case, from));
    let members = case.all("member");
    for &person in members.iter().chain([&head]) {
        match old {
            None if has_household(case, person) => return refuse(Place::Subject(person), &IN_A_HOUSEHOLD),
            Some(_) if household_of(case, person) != old => return refuse(Place::Subject(person), &NOT_A_MEMBER),
            _ => {}
        }
        if old_head == Some(case.works[person].id) {
            return refuse(Place::Subject(person), &HEAD_STAYS);
        }
    }
    may_lead(case, head)?;
    let id = case.works[household].id;
    let head_id = case.works[head].id;
    case.works[household].set(field::HEAD, "", Content::Record(head_id));
    enter(case, head, id, None)?;
    enter_all(case, &members, id)
}

fn enter_all(case: &mut Case<'_>, members: &[usize], household: RecordId) -> Done {
    for &person in members {
        let relation = relation(case, person);
        enter(case, person, household, relation)?;
    }
    Ok(())
}

pub(super) fn joined(case: &mut Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    goes_on(case, household)?;
    let id = case.works[household].id;
    let head = head_of(case, household);
    let members = case.all("member");
    for &person in &members {
        if has_household(case, person) {
            return refuse(Place::Subject(person), &IN_A_HOUSEHOLD);
        }
        // Who is still its head comes back as that, whatever was written.
        let relation = relation(case, person).filter(|_| head != Some(case.works[person].id));
        enter(case, person, id, relation)?;
    }
    Ok(())
}

pub(super) fn left(case: &mut Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    let id = case.works[household].id;
    let head = head_of(case, household);
    let members = case.all("member");
    for &person in &members {
        if household_of(case, person) != Some(id) {
            return refuse(Place::Subject(person), &NOT_A_MEMBER);
        }
        // The last one may go whoever it is: a household of nobody can be dissolved. And the dead are gone.
        let is_dead = case.works[person].had_any(field::DEATH_DATE, "");
        if head == Some(case.works[person].id) && !is_dead && case.there.members(id)? > members.len() {
            return refuse(Place::Subject(person), &HEAD_STAYS);
        }
        case.works[person].clear(field::HOUSEHOLD, "");
        case.works[person].clear(field::RELATION_TO_HEAD, "");
    }
    Ok(())
}

pub(super) fn merged(case: &mut Case<'_>) -> Done {
    let (Some(into), Some(from)) = (case.one("household"), case.one("from")) else { return Ok(()) };
    goes_on(case, into)?;
    goes_on(case, from)?;
    let (old, new) = (case.works[from].id, case.works[into].id);
    let members = case.all("member");
    if let Some(person) = members.iter().find(|person| household_of(case, **person) != Some(old)) {
        return refuse(Place::Subject(*person), &NOT_A_MEMBER);
    }
    enter_all(case, &members, new)?;
    match case.there.members(old)? > members.len() {
        true => refuse(Place::Subject(from), &HAS_MEMBERS),
        false => Ok(()),
    }
}

pub(super) fn head_changed(case: &mut Case<'_>) -> Done {
    let (Some(household), Some(head)) = (case.one("household"), case.one("head")) else { return Ok(()) };
    goes_on(case, household)?;
    let (id, head_id) = (case.works[household].id, case.works[head].id);
    let before = head_of(case, household);
    let members = case.all("member");
    if let Some(person) = members.iter().chain([&head]).find(|person| household_of(case, **person) != Some(id)) {
        return refuse(Place::Subject(*person), &NOT_A_MEMBER);
    }
    may_lead(case, head)?;
    case.works[household].set(field::HEAD, "", Content::Record(head_id));
    enter(case, head, id, None)?;
    enter_all(case, &members, id)?;
    // Whoever was the head is something else from now on, unless he is gone.
    let Some(before) = before.filter(|before| *before != head_id) else { return Ok(()) };
    let is_named = case.works.iter().any(|work| work.id == before);
    let stays = match case.there.record(before)? {
        Some(record) => {
            let shown = |field: FieldId| record.shown(&(field, Vec::new())).map(|tagged| tagged.value.clone());
            let is_dead = shown(field::DEATH_DATE).is_some_and(|value| !value.is_empty());
            !is_dead && shown(field::HOUSEHOLD) == Some(Content::Record(id).encode())
        }
        None => false,
    };
    if stays && !is_named { refuse(Place::Event, &HEAD_OF_MEMBERS) } else { Ok(()) }
}

pub(super) fn dissolved(case: &Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    goes_on(case, household)?;
    match case.there.members(case.works[household].id)? {
        0 => Ok(()),
        _ => refuse(Place::Subject(household), &HAS_MEMBERS),
    }
}
