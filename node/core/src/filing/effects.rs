//! What events do beyond what is filled in: what ends with a death, whose entries change together, which states follow which.

use super::{Case, EventRule, NotFiled, Place, Stop};
use crate::command::Subject;
use crate::date::PartialDate;
use crate::event::Event;
use crate::ids::RecordId;
use crate::schema::codes::{CARD_STATE, E_IDENTIFICATION, MARITAL_STATUS, RELATION_TO_HEAD, RESIDENCE_END};
use crate::schema::{Code, Content, FieldId, field};

type Done = Result<(), Stop>;

macro_rules! event_rules {
    ($($name:ident = $word:literal, $law:literal, $text:literal, $vi:literal;)*) => {
        $(static $name: EventRule = EventRule { name: $word, law: $law, text: $text, text_vi: $vi };)*
        /// Every rule of events.
        pub static RULES: &[&EventRule] = &[$(&$name),*];
    };
}

event_rules! {
    DEAD = "not_of_the_dead", "Law on Civil Status 60/2014/QH13, article 33",
        "the person is registered as dead: correct the death first, if it is wrong",
        "người này đã được đăng ký khai tử: nếu sai, hãy điều chỉnh việc khai tử trước";
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
    UNDER_AGE = "married_under_age", "Law on Marriage and Family 52/2014/QH13, article 8",
        "a man marries from 20 years on, a woman from 18",
        "nam từ đủ 20 tuổi, nữ từ đủ 18 tuổi mới được kết hôn";
    NEAR_KIN = "near_kin", "Law on Marriage and Family 52/2014/QH13, article 5",
        "the two are parent and child, or have a parent in common",
        "hai người là cha mẹ và con, hoặc có chung cha hoặc mẹ";
    OTHER_SPOUSE = "other_spouse_missing", "Law on Marriage and Family 52/2014/QH13, article 8",
        "name both: two records of this register, or one and the other's name and number",
        "ghi cả hai người: hai hồ sơ tại đây, hoặc một hồ sơ và họ tên, số định danh của người kia";
    RESIDENT = "resident_already", "Law on Residence 68/2020/QH14, article 20",
        "the permanent residence began after that day: a person has one at a time",
        "nơi thường trú hiện tại bắt đầu sau ngày này: mỗi người chỉ có một nơi thường trú";
    NOT_RESIDENT = "no_open_residence", "Law on Residence 68/2020/QH14, articles 24 and 29",
        "there is no such residence that could end or go on",
        "không có đăng ký cư trú đang còn hiệu lực";
    RESIDENCE_OPEN = "temporary_residence_open", "Law on Residence 68/2020/QH14, article 27",
        "a temporary residence is registered: renew it, or register its end first",
        "đang có đăng ký tạm trú: gia hạn hoặc xóa đăng ký trước";
    NOT_LONGER = "renewal_not_later", "Law on Residence 68/2020/QH14, article 27",
        "a renewal begins no later than the day after the present end, and ends after it",
        "thời hạn gia hạn phải nối tiếp và muộn hơn thời hạn hiện tại";
    STAY_TOO_LONG = "stay_too_long", "Law on Residence 68/2020/QH14, article 2",
        "a stay takes less than 30 days: register a temporary residence",
        "lưu trú dưới 30 ngày: hãy đăng ký tạm trú";
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
    NO_CARD = "no_such_card", "Law on Identification 26/2023/QH15, articles 19 to 29",
        "no card is in a state from which this may follow, or several are: name one by its key",
        "không có thẻ ở trạng thái phù hợp, hoặc có nhiều thẻ: ghi rõ thẻ nào";
    CARD_OPEN = "card_under_way", "Law on Identification 26/2023/QH15, article 21",
        "another card is under way or in use: it is delivered, or reported lost or damaged, first",
        "đang có thẻ khác đang xử lý hoặc còn sử dụng";
    NO_NUMBER = "number_needed", "Law on Identification 26/2023/QH15, article 18",
        "the person has no personal number: it is the number of the card",
        "người này chưa có số định danh cá nhân";
    ACCOUNT = "account_state", "Decree 69/2024, articles 9 to 20",
        "the account is in no state from which this may follow",
        "trạng thái tài khoản không phù hợp";
    HAS_NUMBER = "number_assigned", "Decree 70/2024, article 11",
        "the person has a personal number: it is cancelled first",
        "người này đã có số định danh: phải hủy trước";
    HAD_NUMBER = "number_cancelled", "Decree 70/2024, article 11",
        "a personal number was cancelled: another one is re-established, by a decision",
        "số định danh đã bị hủy: phải xác lập lại theo quyết định";
    NEVER_HAD = "number_never_cancelled", "Decree 70/2024, article 11",
        "no personal number was cancelled: the first one is assigned",
        "chưa có số định danh nào bị hủy: xác lập lần đầu";
    SAME_NUMBER = "number_used_up", "Decree 70/2024, article 11",
        "that number was cancelled and is given to nobody again",
        "số này đã bị hủy và không được cấp lại";
    NOTHING_CORRECTED = "nothing_corrected", "Decree 70/2024, article 6",
        "say which fields are corrected",
        "ghi rõ thông tin được điều chỉnh";
}

fn refuse(place: Place, rule: &'static EventRule) -> Done {
    Err(Stop::Refused(NotFiled::Rule(place, rule)))
}

fn choice(list: &'static [Code], name: &str) -> Content {
    let code = list.iter().find(|code| code.name == name);
    Content::Code(code.expect("a code of the list"))
}

/// What is so of an event beyond its form.
pub(super) fn of(case: &mut Case<'_>) -> Done {
    let event = case.filed.event;
    if !matches!(event, Event::Death | Event::Return | Event::Correction | Event::PaperAttached) {
        all_live(case)?;
    }
    match event {
        Event::Birth => birth(case)?,
        Event::Death => death(case)?,
        Event::Return => came_back(case)?,
        Event::Marriage => marriage(case)?,
        Event::Divorce => divorce(case)?,
        Event::Adoption | Event::Recognition => parents_named(case)?,
        Event::Correction => corrected(case)?,
        Event::PermanentResidence => permanent_residence(case)?,
        Event::PermanentResidenceEnd => residence_ended(case, field::PERMANENT_RESIDENCE)?,
        Event::TemporaryResidence => temporary_residence(case)?,
        Event::TemporaryResidenceRenewal => renewal(case)?,
        Event::TemporaryResidenceEnd => residence_ended(case, field::TEMPORARY_RESIDENCE)?,
        Event::TemporaryAbsenceEnd => residence_ended(case, field::TEMPORARY_ABSENCE)?,
        Event::Stay => stay(case)?,
        Event::HouseholdFounded => founded(case, None)?,
        Event::HouseholdSplit => founded(case, case.one("from"))?,
        Event::HouseholdJoined => joined(case)?,
        Event::HouseholdLeft => left(case)?,
        Event::HouseholdMerged => merged(case)?,
        Event::HeadChanged => head_changed(case)?,
        Event::HouseholdDissolved => dissolved(case)?,
        Event::CardRequested => card_requested(case)?,
        Event::CardCaptured => card(case, &["requested"], "captured")?,
        Event::CardApproved => card(case, &["captured"], "approved")?,
        Event::CardProduced => card(case, &["approved"], "produced")?,
        Event::CardDelivered => card(case, &["produced"], "delivered")?,
        Event::CardLost => card(case, &["delivered"], "lost")?,
        Event::CardDamaged => card(case, &["delivered"], "damaged")?,
        Event::CardRevoked => card(case, &["delivered", "held"], "revoked")?,
        Event::CardHeld => card(case, &["delivered"], "held")?,
        Event::CardReturned => card(case, &["held"], "delivered")?,
        Event::AccountLevel1 => account(case, &["", "none"], |_| Some("level_1"))?,
        Event::AccountLevel2 => account(case, &["", "none", "level_1", "level_1_activated"], |_| Some("level_2"))?,
        Event::AccountActivated => account(case, &["level_1", "level_2"], |now| match now {
            "level_1" => Some("level_1_activated"),
            _ => Some("level_2_activated"),
        })?,
        Event::AccountLocked => account(case, &LIVE_ACCOUNTS, |_| Some("locked"))?,
        Event::AccountUnlocked => unlocked(case)?,
        Event::AccountClosed => {
            account(case, &["level_1", "level_2", "level_1_activated", "level_2_activated", "locked"], |_| {
                Some("closed")
            })?
        }
        Event::NumberAssigned => number_given(case, false)?,
        Event::NumberReestablished => number_given(case, true)?,
        Event::NumberCancelled => number_cancelled(case)?,
        Event::PaperAttached => return attach(case, &PAPER_PARTS),
        Event::Disappearance
        | Event::NameChange
        | Event::SexChange
        | Event::NationalityChange
        | Event::TemporaryAbsence
        | Event::Dwelling
        | Event::Change
        | Event::Unknown(_) => {}
    }
    if case.input("paper").is_some() { attach(case, &RESTS_ON) } else { Ok(()) }
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

/// Files a paper with each person whom the event is about.
fn attach(case: &mut Case<'_>, inputs: &[(&str, &str)]) -> Done {
    let parts: Vec<(&str, Content)> =
        inputs.iter().filter_map(|(input, part)| Some((*part, case.input(input)?))).collect();
    for work in case.works.iter_mut().filter(|work| work.role.is_main && work.role.kind == field_kind(field::DOCUMENT))
    {
        let element = next_key(&work.elements(field::DOCUMENT));
        work.amend(field::DOCUMENT, &element, &parts);
    }
    Ok(())
}

fn field_kind(field: FieldId) -> crate::schema::RecordKind {
    field.get().map_or(crate::schema::RecordKind::Person, |field| field.kind)
}

/// The first number that no element has as its key. Two offices that are apart may take the same: the values then stand beside
/// each other, and an officer says which is which.
fn next_key(taken: &[String]) -> String {
    let last = taken.iter().filter_map(|key| key.parse::<u32>().ok()).max().unwrap_or(0);
    last.saturating_add(1).to_string()
}

/// Nothing happens to the dead but what their register says of them.
fn all_live(case: &Case<'_>) -> Done {
    for (at, work) in case.works.iter().enumerate() {
        let is_parent = case.filed.event == Event::Birth && !work.is_new;
        if !is_parent && work.value(field::DEATH_DATE, "").is_some() {
            return refuse(Place::Subject(at), &DEAD);
        }
    }
    Ok(())
}

// Civil status.

/// Days that a child may be born after its father's death (Law on Marriage and Family, article 88).
const DAYS_AFTER_FATHER: i64 = 300;
/// Years that a parent surely has.
const PARENT_YEARS: u16 = 10;

fn birth(case: &mut Case<'_>) -> Done {
    let Some(child) = case.one("child") else { return Ok(()) };
    let born = case.works[child].value(field::BIRTH_DATE, "").and_then(|value| value.date());
    for (role, sex) in [("mother", "female"), ("father", "male")] {
        let Some(parent) = case.one(role) else { continue };
        let (place, work) = (Place::Subject(parent), &case.works[parent]);
        if work.code(field::SEX).is_some_and(|other| other != sex) {
            return refuse(place, &PARENT_OF_WRONG_SEX);
        }
        let date = |field| work.value(field, "").and_then(|value| value.date());
        if let (Some(born), Some(parent)) = (born, date(field::BIRTH_DATE))
            && parent.earliest().years_until(born.latest()) < PARENT_YEARS
        {
            return refuse(place, &PARENT_TOO_YOUNG);
        }
        if let (Some(born), Some(died)) = (born, date(field::DEATH_DATE)) {
            let days_after = if role == "father" { DAYS_AFTER_FATHER } else { 0 };
            if born.earliest().days() > died.latest().days() + days_after {
                return refuse(place, &PARENT_DEAD);
            }
        }
        name_relative(case, child, role, parent, None);
    }
    Ok(())
}

/// Names one person as the relative of another: by record, number and name, so that it is read where the record is not.
fn name_relative(case: &mut Case<'_>, of: usize, element: &str, relative: usize, since: Option<PartialDate>) {
    let other = &case.works[relative];
    let mut parts = vec![("record", Content::Record(other.id))];
    if let Some(name) = other.value(field::NAME, "").and_then(|value| value.spoken()) {
        parts.push(("name", Content::Text(name)));
    }
    if let Some(number) = other.value(field::PERSONAL_NUMBER, "").and_then(|value| value.number()) {
        parts.push(("number", Content::Number(number)));
    }
    if let Some(nationality) = other.value(field::NATIONALITY, "") {
        parts.push(("nationality", nationality.content().clone()));
    }
    parts.extend(since.map(|since| ("since", Content::Date(since))));
    case.works[of].amend(field::RELATIVE, element, &parts);
}

fn death(case: &mut Case<'_>) -> Done {
    let (Some(deceased), Some(date)) = (case.one("deceased"), case.date()) else { return Ok(()) };
    let was_dead = !case.works[deceased]
        .record
        .values(&(field::DEATH_DATE, Vec::new()))
        .iter()
        .all(|tagged| tagged.value.is_empty());
    if was_dead {
        return refuse(Place::Subject(deceased), &DEAD_ALREADY);
    }
    let work = &mut case.works[deceased];
    let ended = [("until", Content::Date(date)), ("end", choice(RESIDENCE_END, "death"))];
    if is_open(work.part(field::PERMANENT_RESIDENCE, "", "unit"), work.part(field::PERMANENT_RESIDENCE, "", "until"))
        && !starts_after(work.part(field::PERMANENT_RESIDENCE, "", "since"), date)
    {
        work.amend(field::PERMANENT_RESIDENCE, "", &ended);
    }
    let is_open_stay = |work: &super::Work| {
        let part = |name| work.part(field::TEMPORARY_RESIDENCE, "", name);
        is_open(part("unit"), part("ended"))
    };
    if is_open_stay(work) {
        work.amend(
            field::TEMPORARY_RESIDENCE,
            "",
            &[("ended", Content::Date(date)), ("end", choice(RESIDENCE_END, "death"))],
        );
    }
    for field in [field::CURRENT_DWELLING, field::TEMPORARY_ABSENCE, field::HOUSEHOLD, field::RELATION_TO_HEAD] {
        work.clear(field, "");
    }
    for element in work.elements(field::IDENTITY_CARD) {
        let state = work.part(field::IDENTITY_CARD, &element, "state").and_then(|state| state.code());
        if !state.is_some_and(|state| ENDED_CARDS.contains(&state)) {
            work.amend(field::IDENTITY_CARD, &element, &[("state", choice(CARD_STATE, "void"))]);
        }
    }
    if work.code(field::E_IDENTIFICATION).is_some_and(|state| !["none", "closed"].contains(&state)) {
        work.set(field::E_IDENTIFICATION, "", choice(E_IDENTIFICATION, "closed"));
    }
    if let Some(spouse) = case.one("spouse") {
        let id = case.works[deceased].id;
        if case.works[spouse].code_of_status() != Some("married") || case.works[spouse].spouse() != Some(id) {
            return refuse(Place::Subject(spouse), &NOT_EACH_OTHERS);
        }
        case.works[spouse].status("widowed", date);
        case.works[spouse].spouse_is_past();
    }
    Ok(())
}

/// States of a card that is of no use any more.
const ENDED_CARDS: [&str; 5] = ["expired", "lost", "revoked", "damaged", "void"];

fn is_open(there: Option<Content>, end: Option<Content>) -> bool {
    there.is_some() && end.is_none()
}

fn starts_after(since: Option<Content>, date: PartialDate) -> bool {
    since.and_then(|since| since.date()).is_some_and(|since| date.surely_precedes(since))
}

fn came_back(case: &mut Case<'_>) -> Done {
    let Some(at) = case.one("person") else { return Ok(()) };
    let work = &mut case.works[at];
    let gone = [field::DISAPPEARANCE_DATE, field::DEATH_DATE];
    if gone.iter().all(|field| work.value(*field, "").is_none()) {
        return refuse(Place::Subject(at), &NOT_GONE);
    }
    gone.into_iter().for_each(|field| work.clear(field, ""));
    Ok(())
}

impl super::Work {
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

    /// The present spouse is one of the former ones.
    fn spouse_is_past(&mut self) {
        let Some(spouse) = self.value(field::RELATIVE, "spouse") else { return };
        let former = self.elements(field::RELATIVE);
        let numbers: Vec<String> =
            former.iter().filter_map(|key| key.strip_prefix("spouse-")).map(str::to_owned).collect();
        let element = format!("spouse-{}", next_key(&numbers));
        self.set(field::RELATIVE, &element, spouse.content().clone());
        self.clear(field::RELATIVE, "spouse");
    }

    fn parents(&self) -> impl Iterator<Item = RecordId> + '_ {
        ["father", "mother"].into_iter().filter_map(|role| self.part(field::RELATIVE, role, "record")?.record())
    }
}

fn marriage(case: &mut Case<'_>) -> Done {
    let spouses = case.all("spouse");
    let other = case.input("other");
    let Some(date) = case.date() else { return Ok(()) };
    if (spouses.len() == 2) == other.is_some() {
        return refuse(Place::Input("other"), &OTHER_SPOUSE);
    }
    for &at in &spouses {
        let work = &case.works[at];
        if work.code_of_status() == Some("married") {
            return refuse(Place::Subject(at), &MARRIED);
        }
        let years = match work.code(field::SEX) {
            Some("male") => 20,
            _ => 18,
        };
        let born = work.value(field::BIRTH_DATE, "").and_then(|value| value.date());
        if born.is_some_and(|born| born.earliest().years_until(date.latest()) < years) {
            return refuse(Place::Subject(at), &UNDER_AGE);
        }
    }
    if let [one, two] = spouses[..] {
        let parents = |at: usize| case.works[at].parents().collect::<Vec<_>>();
        let (of_one, of_two) = (parents(one), parents(two));
        let is_parent = of_one.contains(&case.works[two].id) || of_two.contains(&case.works[one].id);
        if is_parent || of_one.iter().any(|parent| of_two.contains(parent)) {
            return refuse(Place::Event, &NEAR_KIN);
        }
    }
    for &at in &spouses {
        case.works[at].spouse_is_past();
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

fn divorce(case: &mut Case<'_>) -> Done {
    let spouses = case.all("spouse");
    let Some(date) = case.date() else { return Ok(()) };
    if let Some(at) = spouses.iter().find(|at| case.works[**at].code_of_status() != Some("married")) {
        return refuse(Place::Subject(*at), &NOT_MARRIED);
    }
    if let [one, two] = spouses[..] {
        let (one, two) = (&case.works[one], &case.works[two]);
        if one.spouse() != Some(two.id) || two.spouse() != Some(one.id) {
            return refuse(Place::Event, &NOT_EACH_OTHERS);
        }
    }
    for at in spouses {
        case.works[at].status("divorced", date);
        case.works[at].spouse_is_past();
    }
    Ok(())
}

fn parents_named(case: &Case<'_>) -> Done {
    let Some(child) = case.one("child") else { return Ok(()) };
    let inputs = &case.works[child].inputs;
    match inputs.contains_key("father") || inputs.contains_key("mother") {
        true => Ok(()),
        false => refuse(Place::Subject(child), &PARENT_MISSING),
    }
}

fn corrected(case: &Case<'_>) -> Done {
    let is_some = |subject: &Subject| !subject.corrections.is_empty();
    if !case.filed.subjects.is_empty() && case.filed.subjects.iter().all(is_some) {
        return Ok(());
    }
    refuse(Place::Event, &NOTHING_CORRECTED)
}

// Residence.

fn permanent_residence(case: &mut Case<'_>) -> Done {
    let Some(date) = case.date() else { return Ok(()) };
    for at in case.all("person") {
        let before = case.works[at].record.shown(&(field::PERMANENT_RESIDENCE, Vec::new()));
        let since =
            before.and_then(|tagged| crate::schema::Value::decode(field::PERMANENT_RESIDENCE, &tagged.value).ok());
        let since = since.and_then(|value| value.part("since").cloned()).and_then(|since| since.date());
        if since.is_some_and(|since| date.surely_precedes(since)) {
            return refuse(Place::Subject(at), &RESIDENT);
        }
        // Who has a place to live is no longer without one.
        case.works[at].clear(field::CURRENT_DWELLING, "");
    }
    Ok(())
}

/// Whether there is a residence that ends now, and had not ended.
fn residence_ended(case: &Case<'_>, of: FieldId) -> Done {
    for at in case.all("person") {
        let before = &case.works[at].record;
        let shown = before.shown(&(of, Vec::new())).filter(|tagged| !tagged.value.is_empty());
        let value = shown.and_then(|tagged| crate::schema::Value::decode(of, &tagged.value).ok());
        let has = |name| value.as_ref().and_then(|value| value.part(name)).is_some();
        let had_ended = match of {
            field::PERMANENT_RESIDENCE => has("until"),
            field::TEMPORARY_RESIDENCE => has("ended"),
            _ => false,
        };
        if value.is_none() || had_ended {
            return refuse(Place::Subject(at), &NOT_RESIDENT);
        }
    }
    Ok(())
}

fn temporary_residence(case: &Case<'_>) -> Done {
    let Some(from) = case.input("from").and_then(|from| from.date()) else { return Ok(()) };
    for at in case.all("person") {
        let before = case.works[at].record.shown(&(field::TEMPORARY_RESIDENCE, Vec::new()));
        let value =
            before.and_then(|tagged| crate::schema::Value::decode(field::TEMPORARY_RESIDENCE, &tagged.value).ok());
        let Some(value) = value.filter(|value| !value.is_cleared() && value.part("ended").is_none()) else { continue };
        let until = value.part("until").and_then(|until| until.date());
        if until.is_none_or(|until| !until.surely_precedes(from)) {
            return refuse(Place::Subject(at), &RESIDENCE_OPEN);
        }
    }
    Ok(())
}

fn renewal(case: &Case<'_>) -> Done {
    residence_ended(case, field::TEMPORARY_RESIDENCE)?;
    let date = |name| case.input(name).and_then(|content| content.date());
    let (Some(from), Some(until)) = (date("from"), date("until")) else { return Ok(()) };
    for at in case.all("person") {
        let before = case.works[at].record.shown(&(field::TEMPORARY_RESIDENCE, Vec::new()));
        let value =
            before.and_then(|tagged| crate::schema::Value::decode(field::TEMPORARY_RESIDENCE, &tagged.value).ok());
        let Some(end) = value.and_then(|value| value.part("until")?.date()) else { continue };
        if !end.surely_precedes(until) || from.earliest().days() > end.latest().days() + 1 {
            return refuse(Place::Subject(at), &NOT_LONGER);
        }
    }
    Ok(())
}

/// A stay takes fewer days (Law on Residence, article 2).
const STAY_DAYS: i64 = 30;

fn stay(case: &mut Case<'_>) -> Done {
    let parts: Vec<(&str, Content)> = ["unit", "line", "from", "until", "reason"]
        .into_iter()
        .filter_map(|name| Some((name, case.input(name)?)))
        .collect();
    let date = |name| case.input(name).and_then(|content| content.date());
    let (Some(from), Some(until)) = (date("from"), date("until")) else { return Ok(()) };
    if until.latest().days() - from.earliest().days() >= STAY_DAYS {
        return refuse(Place::Input("until"), &STAY_TOO_LONG);
    }
    let element = from.earliest().to_string();
    for at in case.all("person") {
        case.works[at].amend(field::STAY, &element, &parts);
    }
    Ok(())
}

// Households.

/// The household is there and goes on.
fn goes_on(case: &Case<'_>, at: usize) -> Done {
    match case.works[at].record.shown(&(field::HOUSEHOLD_DISSOLVED, Vec::new())) {
        Some(tagged) if !tagged.value.is_empty() => refuse(Place::Subject(at), &HOUSEHOLD_ENDED),
        _ => Ok(()),
    }
}

fn household_of(case: &Case<'_>, person: usize) -> Option<RecordId> {
    case.works[person].value(field::HOUSEHOLD, "")?.record()
}

/// Makes a person a member, in that relation to the head.
fn enter(case: &mut Case<'_>, person: usize, household: RecordId, relation: Option<Content>) -> Done {
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
    let born = case.works[head].value(field::BIRTH_DATE, "").and_then(|value| value.date());
    match (born, day) {
        (Some(born), Some(day)) if born.earliest().years_until(day) < FULL_AGE => {
            refuse(Place::Subject(head), &HEAD_TOO_YOUNG)
        }
        _ => Ok(()),
    }
}

fn relation(case: &Case<'_>, person: usize) -> Option<Content> {
    case.works[person].inputs.get("relation").cloned()
}

/// A new household, of persons without one or of members of another.
fn founded(case: &mut Case<'_>, from: Option<usize>) -> Done {
    let (Some(household), Some(head)) = (case.one("household"), case.one("head")) else { return Ok(()) };
    let old = from.map(|from| case.works[from].id);
    if let Some(from) = from {
        goes_on(case, from)?;
    }
    let old_head = from.and_then(|from| case.works[from].value(field::HEAD, "")?.record());
    let members = case.all("member");
    for &person in members.iter().chain([&head]) {
        match (household_of(case, person), old) {
            (Some(_), None) => return refuse(Place::Subject(person), &IN_A_HOUSEHOLD),
            (now, Some(old)) if now != Some(old) => return refuse(Place::Subject(person), &NOT_A_MEMBER),
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
    for person in members {
        let relation = relation(case, person);
        enter(case, person, id, relation)?;
    }
    Ok(())
}

fn joined(case: &mut Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    goes_on(case, household)?;
    let id = case.works[household].id;
    for person in case.all("member") {
        if household_of(case, person).is_some() {
            return refuse(Place::Subject(person), &IN_A_HOUSEHOLD);
        }
        let relation = relation(case, person);
        enter(case, person, id, relation)?;
    }
    Ok(())
}

fn left(case: &mut Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    let id = case.works[household].id;
    let head = case.works[household].value(field::HEAD, "").and_then(|value| value.record());
    let members = case.all("member");
    for &person in &members {
        if household_of(case, person) != Some(id) {
            return refuse(Place::Subject(person), &NOT_A_MEMBER);
        }
        // The last one may go whoever it is: a household of nobody can be dissolved.
        if head == Some(case.works[person].id) && case.there.members(id)? > members.len() {
            return refuse(Place::Subject(person), &HEAD_STAYS);
        }
        case.works[person].clear(field::HOUSEHOLD, "");
        case.works[person].clear(field::RELATION_TO_HEAD, "");
    }
    Ok(())
}

fn merged(case: &mut Case<'_>) -> Done {
    let (Some(into), Some(from)) = (case.one("household"), case.one("from")) else { return Ok(()) };
    goes_on(case, into)?;
    let (old, new) = (case.works[from].id, case.works[into].id);
    if case.works[from]
        .record
        .shown(&(field::HOUSEHOLD_DISSOLVED, Vec::new()))
        .is_some_and(|tagged| !tagged.value.is_empty())
    {
        return refuse(Place::Subject(from), &HOUSEHOLD_ENDED);
    }
    let members = case.all("member");
    for &person in &members {
        if household_of(case, person) != Some(old) {
            return refuse(Place::Subject(person), &NOT_A_MEMBER);
        }
        let relation = relation(case, person);
        enter(case, person, new, relation)?;
    }
    if case.there.members(old)? > members.len() {
        return refuse(Place::Subject(from), &HAS_MEMBERS);
    }
    Ok(())
}

fn head_changed(case: &mut Case<'_>) -> Done {
    let (Some(household), Some(head)) = (case.one("household"), case.one("head")) else { return Ok(()) };
    goes_on(case, household)?;
    let (id, head_id) = (case.works[household].id, case.works[head].id);
    let before = case.works[household].value(field::HEAD, "").and_then(|value| value.record());
    for person in case.all("member").into_iter().chain([head]) {
        if household_of(case, person) != Some(id) {
            return refuse(Place::Subject(person), &NOT_A_MEMBER);
        }
    }
    may_lead(case, head)?;
    case.works[household].set(field::HEAD, "", Content::Record(head_id));
    enter(case, head, id, None)?;
    for person in case.all("member") {
        let relation = relation(case, person);
        enter(case, person, id, relation)?;
    }
    // Whoever was the head is something else from now on, unless he is gone.
    let Some(before) = before.filter(|before| *before != head_id) else { return Ok(()) };
    let is_named = case.works.iter().any(|work| work.id == before);
    let stays = match case.there.record(before)? {
        Some(record) => {
            let key = (field::HOUSEHOLD, Vec::new());
            record.shown(&key).is_some_and(|tagged| tagged.value == Content::Record(id).encode())
        }
        None => false,
    };
    if stays && !is_named { refuse(Place::Event, &HEAD_OF_MEMBERS) } else { Ok(()) }
}

fn dissolved(case: &Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    if case.works[household]
        .record
        .shown(&(field::HOUSEHOLD_DISSOLVED, Vec::new()))
        .is_some_and(|tagged| !tagged.value.is_empty())
    {
        return refuse(Place::Subject(household), &HOUSEHOLD_ENDED);
    }
    match case.there.members(case.works[household].id)? {
        0 => Ok(()),
        _ => refuse(Place::Subject(household), &HAS_MEMBERS),
    }
}

// Cards, accounts, numbers.

fn card_state(work: &super::Work, element: &str) -> Option<&'static str> {
    work.part(field::IDENTITY_CARD, element, "state")?.code()
}

fn card_requested(case: &mut Case<'_>) -> Done {
    let (Some(at), Some(kind)) = (case.one("person"), case.input("kind")) else { return Ok(()) };
    let number = case.input("number");
    let work = &mut case.works[at];
    let under_way = ["requested", "captured", "approved", "produced"];
    let elements = work.elements(field::IDENTITY_CARD);
    if elements.iter().any(|element| card_state(work, element).is_some_and(|state| under_way.contains(&state))) {
        return refuse(Place::Subject(at), &CARD_OPEN);
    }
    let own = work.value(field::PERSONAL_NUMBER, "").and_then(|value| value.number());
    let Some(number) = number.or_else(|| Some(Content::Text(own?.to_string()))) else {
        return refuse(Place::Subject(at), &NO_NUMBER);
    };
    let parts = [("number", number), ("kind", kind), ("state", choice(CARD_STATE, "requested"))];
    work.amend(field::IDENTITY_CARD, &next_key(&elements), &parts);
    Ok(())
}

/// One card goes from one of these states to another.
fn card(case: &mut Case<'_>, from: &[&str], to: &str) -> Done {
    let Some(at) = case.one("person") else { return Ok(()) };
    let dates: Vec<(&str, Content)> = [("issued", "issued"), ("issued-by", "issued_by"), ("valid-to", "valid_to")]
        .into_iter()
        .filter_map(|(input, part)| Some((part, case.input(input)?)))
        .collect();
    let work = &mut case.works[at];
    let elements = work.elements(field::IDENTITY_CARD);
    let is_meant = |element: &&String| {
        (work.element.is_empty() || work.element == **element)
            && card_state(work, element).is_some_and(|state| from.contains(&state))
    };
    let [element] = &elements.iter().filter(is_meant).cloned().collect::<Vec<_>>()[..] else {
        return refuse(Place::Subject(at), &NO_CARD);
    };
    // A new card takes the place of the one before it.
    if to == "delivered" && from != ["held"] {
        for other in elements.iter().filter(|other| *other != element) {
            if card_state(work, other) == Some("delivered") {
                work.amend(field::IDENTITY_CARD, other, &[("state", choice(CARD_STATE, "void"))]);
            }
        }
    }
    let state = [("state", choice(CARD_STATE, to))];
    work.amend(field::IDENTITY_CARD, element, &[&state[..], &dates].concat());
    Ok(())
}

const LIVE_ACCOUNTS: [&str; 4] = ["level_1", "level_2", "level_1_activated", "level_2_activated"];

/// The account goes from one of these states (empty: none was ever written) to another.
fn account(case: &mut Case<'_>, from: &[&str], to: impl Fn(&str) -> Option<&'static str>) -> Done {
    let Some(at) = case.one("person") else { return Ok(()) };
    let work = &mut case.works[at];
    let now = work.code(field::E_IDENTIFICATION).unwrap_or("");
    match to(now).filter(|_| from.contains(&now) && !work.is_disputed(field::E_IDENTIFICATION, "")) {
        Some(state) => work.set(field::E_IDENTIFICATION, "", choice(E_IDENTIFICATION, state)),
        None => return refuse(Place::Subject(at), &ACCOUNT),
    }
    Ok(())
}

fn unlocked(case: &mut Case<'_>) -> Done {
    let to = case.input("state").and_then(|state| state.code());
    if !to.is_some_and(|to| LIVE_ACCOUNTS.contains(&to)) {
        return refuse(Place::Input("state"), &ACCOUNT);
    }
    account(case, &["locked"], |_| to)
}

fn number_given(case: &mut Case<'_>, again: bool) -> Done {
    let (Some(at), Some(Content::Number(number))) = (case.one("person"), case.input("number")) else { return Ok(()) };
    let work = &mut case.works[at];
    let has_one =
        !work.record.values(&(field::PERSONAL_NUMBER, Vec::new())).iter().all(|tagged| tagged.value.is_empty());
    if has_one {
        return refuse(Place::Subject(at), &HAS_NUMBER);
    }
    let former = work.elements(field::FORMER_NUMBER);
    match (former.is_empty(), again) {
        (false, false) => return refuse(Place::Subject(at), &HAD_NUMBER),
        (true, true) => return refuse(Place::Subject(at), &NEVER_HAD),
        _ if former.contains(&number.to_string()) => return refuse(Place::Input("number"), &SAME_NUMBER),
        _ => {}
    }
    work.set(field::PERSONAL_NUMBER, "", Content::Number(number));
    Ok(())
}

fn number_cancelled(case: &mut Case<'_>) -> Done {
    let (Some(at), Some(reason)) = (case.one("person"), case.input("reason")) else { return Ok(()) };
    let date = case.date();
    let work = &mut case.works[at];
    let Some(number) = work.value(field::PERSONAL_NUMBER, "").and_then(|value| value.number()) else {
        return refuse(Place::Subject(at), &NO_NUMBER);
    };
    let mut parts = vec![("number", Content::Number(number)), ("reason", reason)];
    parts.extend(date.map(|date| ("cancelled", Content::Date(date))));
    work.amend(field::FORMER_NUMBER, &number.to_string(), &parts);
    work.clear(field::PERSONAL_NUMBER, "");
    Ok(())
}
