//! What happens to a life: birth, death, marriage and its end, parents, nationality.

use super::households::{enter, goes_on, relation};
use super::identity::{is_free, next_number, void_cards};
use super::residence::end_residences;
use super::{Case, Done, EventRule, Place, Stop, Work, choice, refuse, warn};
use crate::date::PartialDate;
use crate::ids::RecordId;
use crate::schema::codes::{E_IDENTIFICATION, MARITAL_STATUS};
use crate::schema::{Content, MARRIAGE_LAW, field};

event_rules! {
    DEAD_ALREADY = "dead_already", "Law on Civil Status 60/2014/QH13, article 33",
        "the death is registered already",
        "việc khai tử đã được đăng ký";
    NOT_GONE = "not_gone", "Civil Code 91/2015/QH13, articles 70 and 73",
        "the person is neither declared missing nor dead: there is nothing to undo",
        "người này không bị tuyên bố mất tích hay đã chết";
    PARENT_OF_WRONG_SEX = "parent_of_wrong_sex", "Law on Marriage and Family 52/2014/QH13, article 88",
        "the mother's record is a man's, or the father's a woman's: the two may be exchanged",
        "giới tính của cha hoặc mẹ không phù hợp: có thể đã nhập nhầm";
    PARENT_TOO_YOUNG = "parent_too_young", "Law on Marriage and Family 52/2014/QH13, article 88",
        "the father or mother was surely younger than 10 years at the birth: check whose record it is",
        "cha hoặc mẹ chưa đủ 10 tuổi khi sinh con: kiểm tra lại hồ sơ";
    PARENT_DEAD = "parent_dead", "Law on Marriage and Family 52/2014/QH13, article 88",
        "the mother died before the birth, or the father more than 300 days before it: check whose record it is",
        "mẹ đã chết trước khi sinh, hoặc cha đã chết quá 300 ngày trước đó";
    PARENT_MISSING = "no_parent_named", "Law on Adoption 52/2010/QH12, article 22",
        "name the father, the mother or both",
        "ghi cha, mẹ hoặc cả hai";
    MARRIED = "married_already", "Law on Marriage and Family 52/2014/QH13, article 5",
        "one of the two is married: register the divorce or the death of the spouse first",
        "một trong hai người đang có vợ, có chồng: đăng ký ly hôn hoặc khai tử trước";
    NOT_MARRIED = "not_married", "Law on Marriage and Family 52/2014/QH13, article 57",
        "one of the two is not registered as married",
        "một trong hai người không ở tình trạng đã kết hôn";
    NOT_EACH_OTHERS = "not_each_others_spouse", "Law on Marriage and Family 52/2014/QH13, article 57",
        "the two are not registered as each other's spouse",
        "hai người không phải là vợ chồng theo hồ sơ";
    UNDER_AGE = "married_under_age", "Law on Marriage and Family 52/2014/QH13, article 8; before 2015, Law 22/2000/QH10, article 9",
        "a man marries from 20 years on, a woman from 18; before 2015 in the twentieth and in the eighteenth year of life",
        "nam từ đủ 20 tuổi, nữ từ đủ 18 tuổi; trước năm 2015: nam từ 20 tuổi, nữ từ 18 tuổi trở lên";
    BEFORE_THE_LAST = "status_before_the_last", "Law on Marriage and Family 52/2014/QH13, articles 8 and 57",
        "the marital status on record began after that day: check both dates",
        "tình trạng hôn nhân hiện tại bắt đầu sau ngày này: kiểm tra lại hai ngày";
    SPOUSE_NEEDED = "spouse_here_not_named", "Law on Marriage and Family 52/2014/QH13, articles 57 and 65",
        "the spouse is in this register too: name the record as spouse=, so that both change together",
        "vợ hoặc chồng có hồ sơ tại đây: ghi cả hồ sơ đó để cùng cập nhật";
    SPOUSE_LIVES = "spouse_lives", "Law on Marriage and Family 52/2014/QH13, article 65",
        "the spouse is in this register too, and lives by it: register the death, which widows the other",
        "vợ hoặc chồng có hồ sơ tại đây và đang sống: hãy đăng ký khai tử, khi đó hồ sơ này cũng được cập nhật";
    NAMED_TWICE = "parent_named_twice", "Law on Civil Status 60/2014/QH13, article 14",
        "name a parent once: by the record that is here, or by name and number",
        "chỉ ghi cha hoặc mẹ một lần: bằng hồ sơ tại đây, hoặc bằng họ tên và số định danh";
    RELATION_NEEDED = "relation_to_head_needed", "Law on Residence 68/2020/QH14, article 10",
        "household and relation to its head go together: give both or neither",
        "ghi cả hộ và quan hệ với chủ hộ, hoặc không ghi cả hai";
    NEAR_KIN = "near_kin", "Law on Marriage and Family 52/2014/QH13, article 5",
        "the two are parent and child, or have a parent in common",
        "hai người là cha mẹ và con, hoặc có chung cha hoặc mẹ";
    OTHER_SPOUSE = "other_spouse_missing", "Law on Marriage and Family 52/2014/QH13, article 8",
        "name both: two records of this register, or one and the other's name and number",
        "ghi cả hai người: hai hồ sơ tại đây, hoặc một hồ sơ và họ tên, số định danh của người kia";
    PARENT_OF_UNUSUAL_AGE = "parent_of_unusual_age", "Law on Marriage and Family 52/2014/QH13, article 88",
        "the mother was surely younger than 15 or older than 50 years at the birth, or the father younger than 15 or older than 80: check \
         whose record it is",
        "khi sinh con, mẹ chưa đủ 15 tuổi hoặc quá 50 tuổi, hoặc cha chưa đủ 15 tuổi hoặc quá 80 tuổi: kiểm tra lại hồ sơ", warning = true;
    OLDER_THAN_ANYBODY = "older_than_anybody", "Law on Civil Status 60/2014/QH13, article 34",
        "by their dates the deceased was surely older than 120 years: check whose record it is",
        "theo hồ sơ, người chết thọ hơn 120 tuổi: kiểm tra lại hồ sơ", warning = true;
}

/// Days that a child may be born after its father's death (Law on Marriage and Family, article 88).
const DAYS_AFTER_FATHER: i64 = 300;
/// Years that a parent surely has.
const PARENT_YEARS: u16 = 10;
/// Years that nearly every mother has at a birth, and every father.
const MOTHER_YEARS: [u16; 2] = [15, 50];
const FATHER_YEARS: [u16; 2] = [15, 80];
/// Years that nobody lives.
const LIFE_YEARS: u16 = 120;

pub(super) fn birth(case: &mut Case<'_>) -> Done {
    let Some(child) = case.one("child") else { return Ok(()) };
    let born = case.works[child].born();
    for (role, named, sex) in [("mother", "mother-named", "female"), ("father", "father-named", "male")] {
        if let Some(content) = case.works[child].inputs.get(named)
            && (case.one(role).is_some() || has_record(content))
        {
            return refuse(Place::SubjectInput(child, named), &NAMED_TWICE);
        }
        let Some(parent) = case.one(role) else { continue };
        let (place, work) = (Place::Subject(parent), &case.works[parent]);
        if work.code(field::SEX).is_some_and(|other| other != sex) {
            return refuse(place, &PARENT_OF_WRONG_SEX);
        }
        if let (Some(born), Some(parent)) = (born, work.born())
            && parent.earliest().years_until(born.latest()) < PARENT_YEARS
        {
            return refuse(place, &PARENT_TOO_YOUNG);
        }
        if let (Some(born), Some(parent)) = (born, work.born()) {
            let [least, most] = if role == "mother" { MOTHER_YEARS } else { FATHER_YEARS };
            let (oldest, youngest) =
                (parent.earliest().years_until(born.latest()), parent.latest().years_until(born.earliest()));
            if oldest < least || youngest > most {
                warn(case, place, &PARENT_OF_UNUSUAL_AGE)?;
            }
        }
        let died = work.value(field::DEATH_DATE, "").and_then(|value| value.date());
        if let (Some(born), Some(died)) = (born, died) {
            let days_after = if role == "father" { DAYS_AFTER_FATHER } else { 0 };
            if born.earliest().days() > died.latest().days() + days_after {
                return refuse(place, &PARENT_DEAD);
            }
        }
        name_relative(case, child, role, parent, None);
    }
    if let Some(Content::Number(number)) = case.works[child].inputs.get("number") {
        let number = *number;
        is_free(case, child, number, Place::SubjectInput(child, "number"))?;
    }
    let home = case.there.home();
    let work = &mut case.works[child];
    if work.value(field::BIRTH_REGISTRATION_PLACE, "").is_none() {
        work.amend(field::BIRTH_REGISTRATION_PLACE, "", &[("unit", Content::Unit(home))]);
    }
    if let Some(number) = next_number(case, child)? {
        case.works[child].set(field::PERSONAL_NUMBER, "", Content::Number(number));
    }
    match (case.one("household"), relation(case, child)) {
        (None, None) => Ok(()),
        (Some(household), relation @ Some(_)) => {
            goes_on(case, household)?;
            let id = case.works[household].id;
            enter(case, child, id, relation)
        }
        _ => refuse(Place::SubjectInput(child, "relation"), &RELATION_NEEDED),
    }
}

/// Whether a relative is said to have a record here.
fn has_record(relative: &Content) -> bool {
    let Content::Parts(parts) = relative else { return false };
    parts.iter().any(|(_, part)| part.record().is_some())
}

/// Names one person as the relative of another: by record, number and name, so that it is read where the record is not.
fn name_relative(case: &mut Case<'_>, of: usize, element: &str, relative: usize, since: Option<PartialDate>) {
    let other = &case.works[relative];
    let mut parts = vec![("record", Content::Record(other.id))];
    if let Some(name) = other.value(field::NAME, "").and_then(|value| value.spoken()) {
        parts.push(("name", Content::Text(name)));
    }
    if let Some(number) = other.number() {
        parts.push(("number", Content::Number(number)));
    }
    if let Some(nationality) = other.value(field::NATIONALITY, "") {
        parts.push(("nationality", nationality.content().clone()));
    }
    parts.extend(since.map(|since| ("since", Content::Date(since))));
    case.works[of].amend(field::RELATIVE, element, &parts);
}

pub(super) fn death(case: &mut Case<'_>) -> Done {
    let (Some(deceased), Some(date)) = (case.one("deceased"), case.date()) else { return Ok(()) };
    let work = &mut case.works[deceased];
    if work.had_any(field::DEATH_DATE, "") {
        return refuse(Place::Subject(deceased), &DEAD_ALREADY);
    }
    let is_too_old = |born: PartialDate| born.latest().years_until(date.earliest()) > LIFE_YEARS;
    if case.works[deceased].born().is_some_and(is_too_old) {
        warn(case, Place::Subject(deceased), &OLDER_THAN_ANYBODY)?;
    }
    let work = &mut case.works[deceased];
    end_residences(work, date, "death");
    for field in [field::CURRENT_DWELLING, field::TEMPORARY_ABSENCE, field::HOUSEHOLD, field::RELATION_TO_HEAD] {
        work.clear(field, "");
    }
    void_cards(work, "void");
    if work.code(field::E_IDENTIFICATION).is_some_and(|state| !["none", "closed"].contains(&state)) {
        work.set(field::E_IDENTIFICATION, "", choice(E_IDENTIFICATION, "closed"));
    }
    match case.one("spouse") {
        Some(spouse) => {
            if !is_spouse(&case.works[spouse], &case.works[deceased]) {
                return refuse(Place::Subject(spouse), &NOT_EACH_OTHERS);
            }
            case.works[spouse].status("widowed", date);
            spouse_is_past(case, spouse);
            Ok(())
        }
        None => match has_living_spouse_here(case, deceased)? {
            true => refuse(Place::Event, &SPOUSE_NEEDED),
            false => Ok(()),
        },
    }
}

/// Whether somebody is registered as married to a person: by the record, or by the number alone.
fn is_spouse(one: &Work, of: &Work) -> bool {
    let named = |part| one.part(field::RELATIVE, "spouse", part);
    let is_meant = match named("record").and_then(|record| record.record()) {
        Some(record) => record == of.id,
        None => of.number().is_some_and(|number| named("number").and_then(|named| named.number()) == Some(number)),
    };
    one.code_of_status() == Some("married") && is_meant
}

/// Whether the spouse has a record here, lives, and is as married the other way round: then both change together. Who is
/// named by one side alone, or is dead, keeps nobody from anything.
fn has_living_spouse_here(case: &Case<'_>, at: usize) -> Result<bool, Stop> {
    let work = &case.works[at];
    let Some(spouse) = work.spouse() else { return Ok(false) };
    let Some(record) = case.there.record(spouse)? else { return Ok(false) };
    let other = Work::beside(work.level, spouse, record);
    Ok(!other.had_any(field::DEATH_DATE, "") && is_spouse(&other, work))
}

pub(super) fn disappearance(case: &mut Case<'_>) {
    let (Some(at), Some(date)) = (case.one("person"), case.date()) else { return };
    end_residences(&mut case.works[at], date, "declared_missing");
}

pub(super) fn came_back(case: &mut Case<'_>) -> Done {
    let Some(at) = case.one("person") else { return Ok(()) };
    let work = &mut case.works[at];
    let gone = [field::DISAPPEARANCE_DATE, field::DEATH_DATE];
    if !gone.iter().any(|field| work.had_any(*field, "")) {
        return refuse(Place::Subject(at), &NOT_GONE);
    }
    // Of several dates none is right any more; that they are in dispute is said.
    for field in gone {
        if work.had_any(field, "") {
            work.set(field, "", Content::Cleared);
        }
    }
    Ok(())
}

impl Work {
    fn code_of_status(&self) -> Option<&'static str> {
        self.part(field::MARITAL_STATUS, "", "status")?.code()
    }

    fn status(&mut self, status: &str, since: PartialDate) {
        let parts = [("status", choice(MARITAL_STATUS, status)), ("since", Content::Date(since))];
        self.amend(field::MARITAL_STATUS, "", &parts);
    }

    /// The record of the present spouse.
    fn spouse(&self) -> Option<RecordId> {
        self.part(field::RELATIVE, "spouse", "record")?.record()
    }

    fn parents(&self) -> impl Iterator<Item = Content> + '_ {
        let roles = ["father", "mother"].into_iter();
        roles.flat_map(move |role| {
            ["record", "number"].into_iter().filter_map(move |part| self.part(field::RELATIVE, role, part))
        })
    }
}

/// The present spouse is one of the former ones.
fn spouse_is_past(case: &mut Case<'_>, at: usize) {
    let Some(spouse) = case.works[at].value(field::RELATIVE, "spouse") else { return };
    let element = format!("spouse-{}", case.fresh_key());
    case.works[at].set(field::RELATIVE, &element, spouse.content().clone());
    case.works[at].clear(field::RELATIVE, "spouse");
}

pub(super) fn marriage(case: &mut Case<'_>) -> Done {
    let spouses = case.all("spouse");
    let other = case.input("other");
    let Some(date) = case.date() else { return Ok(()) };
    if (spouses.len() == 2) == other.is_some() || other.as_ref().is_some_and(has_record) {
        return refuse(Place::Input("other"), &OTHER_SPOUSE);
    }
    for &at in &spouses {
        let work = &case.works[at];
        let has_spouse = work.value(field::RELATIVE, "spouse").is_some();
        match work.code_of_status() {
            Some("married") => return refuse(Place::Subject(at), &MARRIED),
            None if has_spouse => return refuse(Place::Subject(at), &MARRIED),
            _ => {}
        }
        if work.starts_after(field::MARITAL_STATUS, "since", date) {
            return refuse(Place::Subject(at), &BEFORE_THE_LAST);
        }
        // From then on the record's own rule says so.
        let years = if work.code(field::SEX) == Some("male") { 19 } else { 17 };
        let is_young = |born: PartialDate| born.earliest().years_until(date.latest()) < years;
        if date.latest() < MARRIAGE_LAW && work.born().is_some_and(is_young) {
            return refuse(Place::Subject(at), &UNDER_AGE);
        }
    }
    if let [one, two] = spouses[..] {
        let (one, two) = (&case.works[one], &case.works[two]);
        let is_named = |parents: &[Content], work: &Work| {
            parents.contains(&Content::Record(work.id))
                || work.number().is_some_and(|number| parents.contains(&Content::Number(number)))
        };
        let (of_one, of_two): (Vec<Content>, Vec<Content>) = (one.parents().collect(), two.parents().collect());
        let is_parent = is_named(&of_one, two) || is_named(&of_two, one);
        if is_parent || of_one.iter().any(|parent| of_two.contains(parent)) {
            return refuse(Place::Event, &NEAR_KIN);
        }
    }
    for &at in &spouses {
        spouse_is_past(case, at);
        case.works[at].status("married", date);
    }
    match (&spouses[..], other) {
        ([one, two], _) => {
            name_relative(case, *one, "spouse", *two, Some(date));
            name_relative(case, *two, "spouse", *one, Some(date));
        }
        (&[one], Some(other)) => case.works[one].set(field::RELATIVE, "spouse", other),
        _ => {}
    }
    Ok(())
}

/// The marriage of one or two persons is over.
fn marriage_ends(case: &mut Case<'_>, ended: &[usize], status: &str, date: PartialDate) -> Done {
    for &at in ended {
        if case.works[at].code_of_status() != Some("married") {
            return refuse(Place::Subject(at), &NOT_MARRIED);
        }
        if case.works[at].starts_after(field::MARITAL_STATUS, "since", date) {
            return refuse(Place::Subject(at), &BEFORE_THE_LAST);
        }
    }
    match *ended {
        [one, two]
            if is_spouse(&case.works[one], &case.works[two]) && is_spouse(&case.works[two], &case.works[one]) => {}
        [_, _] => return refuse(Place::Event, &NOT_EACH_OTHERS),
        [one] if has_living_spouse_here(case, one)? => {
            let rule = if status == "widowed" { &SPOUSE_LIVES } else { &SPOUSE_NEEDED };
            return refuse(Place::Event, rule);
        }
        _ => {}
    }
    for &at in ended {
        case.works[at].status(status, date);
        spouse_is_past(case, at);
    }
    Ok(())
}

pub(super) fn divorce(case: &mut Case<'_>) -> Done {
    let Some(date) = case.date() else { return Ok(()) };
    marriage_ends(case, &case.all("spouse"), "divorced", date)
}

pub(super) fn widowhood(case: &mut Case<'_>) -> Done {
    let Some(date) = case.date() else { return Ok(()) };
    marriage_ends(case, &case.all("person"), "widowed", date)
}

pub(super) fn parents_named(case: &Case<'_>) -> Done {
    let Some(child) = case.one("child") else { return Ok(()) };
    let inputs = &case.works[child].inputs;
    match inputs.contains_key("father") || inputs.contains_key("mother") {
        true => Ok(()),
        false => refuse(Place::Subject(child), &PARENT_MISSING),
    }
}

/// Who is no longer a citizen has no residence here as one, and no card (Law on Residence, article 24; Law on Identification,
/// article 29).
pub(super) fn nationality_changed(case: &mut Case<'_>) {
    const VIETNAM: Content = Content::Country(*b"VN");
    let (Some(at), Some(date)) = (case.one("person"), case.date()) else { return };
    let work = &mut case.works[at];
    let was = work.before(field::NATIONALITY, "").map(|value| value.content().clone());
    if was == Some(VIETNAM) && work.inputs.get("nationality") != Some(&VIETNAM) {
        end_residences(work, date, "nationality_lost");
        void_cards(work, "revoked");
    }
}
