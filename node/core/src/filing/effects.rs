//! What events do beyond what is filled in: what ends with a death, whose entries change together, which states follow which.

use super::{Case, EventRule, NotFiled, Place, Stop, Work};
use crate::command::Subject;
use crate::date::PartialDate;
use crate::event::Event;
use crate::ids::RecordId;
use crate::number::PersonNumber;
use crate::schema::codes::{CARD_STATE, E_IDENTIFICATION, MARITAL_STATUS, RELATION_TO_HEAD, RESIDENCE_END};
use crate::schema::{Code, Content, FieldId, MARRIAGE_LAW, RecordKind, field};

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
    NUMBER_BY_EVENT = "number_by_its_events", "Decree 70/2024, article 11",
        "a personal number is assigned, cancelled and re-established by events of its own, and corrected by none else",
        "số định danh chỉ được xác lập, hủy, xác lập lại bằng thủ tục riêng";
    NAMED_TWICE = "parent_named_twice", "Law on Civil Status 60/2014/QH13, article 14",
        "name a parent once: by the record that is here, or by name and number",
        "chỉ ghi cha hoặc mẹ một lần: bằng hồ sơ tại đây, hoặc bằng họ tên và số định danh";
    RELATION_NEEDED = "relation_to_head_needed", "Law on Residence 68/2020/QH14, article 10",
        "household and relation to its head go together: give both or neither",
        "ghi cả hộ và quan hệ với chủ hộ, hoặc không ghi cả hai";
    PAPER_UNNAMED = "kind_of_paper_needed", "Decree 70/2024, article 5",
        "say which kind of paper it is",
        "ghi rõ loại giấy tờ";
    NO_PERSON = "paper_of_nobody", "Decree 70/2024, article 5",
        "a paper is filed with a person, and the event is of none: leave it out",
        "giấy tờ được lưu cùng hồ sơ của một người";
    ABSENCE_OVER = "absence_is_over", "Law on Residence 68/2020/QH14, article 31",
        "the absence ended before that day",
        "thời gian tạm vắng đã kết thúc trước ngày này";
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
        "another card is under way: it is delivered or rejected first",
        "đang có thẻ khác đang được xử lý";
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
    NUMBER_TAKEN = "number_used_up", "Decree 70/2024, article 11",
        "a record here has that number, or had it until it was cancelled: it is given to nobody else ever",
        "số này đang hoặc đã từng được cấp, không cấp cho ai khác";
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

/// Events that only end what is written of somebody, or say what became of a life: they are filed of the dead, too.
const OF_THE_DEAD: [Event; 14] = [
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
];

/// What is so of an event beyond its form.
pub(super) fn of(case: &mut Case<'_>) -> Done {
    let event = case.filed.event;
    if !OF_THE_DEAD.contains(&event) {
        all_live(case)?;
    }
    match event {
        Event::Birth => birth(case)?,
        Event::Death => death(case)?,
        Event::Disappearance => disappearance(case),
        Event::Return => came_back(case)?,
        Event::Marriage => marriage(case)?,
        Event::Divorce => divorce(case)?,
        Event::Widowhood => widowhood(case)?,
        Event::Adoption | Event::Recognition => parents_named(case)?,
        Event::NationalityChange => nationality_changed(case),
        Event::Correction => corrected(case)?,
        Event::PermanentResidence => permanent_residence(case)?,
        Event::PermanentResidenceEnd => residence_ended(case, field::PERMANENT_RESIDENCE, "until")?,
        Event::TemporaryResidence => temporary_residence(case)?,
        Event::TemporaryResidenceRenewal => renewal(case)?,
        Event::TemporaryResidenceEnd => residence_ended(case, field::TEMPORARY_RESIDENCE, "ended")?,
        Event::TemporaryAbsenceEnd => absence_ended(case)?,
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
        Event::CardRejected => card(case, &["requested", "captured", "approved"], "rejected")?,
        Event::CardLost => card(case, &["produced", "delivered"], "lost")?,
        Event::CardDamaged => card(case, &["produced", "delivered"], "damaged")?,
        Event::CardRevoked => card(case, &["produced", "delivered", "held"], "revoked")?,
        Event::CardHeld => card(case, &["delivered"], "held")?,
        Event::CardReturned => card(case, &["held"], "delivered")?,
        Event::AccountLevel1
        | Event::AccountLevel2
        | Event::AccountActivated
        | Event::AccountLocked
        | Event::AccountUnlocked
        | Event::AccountClosed => account(case)?,
        Event::NumberAssigned => number_given(case, false)?,
        Event::NumberReestablished => number_given(case, true)?,
        Event::NumberCancelled => number_cancelled(case)?,
        Event::PaperAttached => return attach(case, &PAPER_PARTS),
        Event::NameChange
        | Event::SexChange
        | Event::TemporaryAbsence
        | Event::Dwelling
        | Event::Change
        | Event::Unknown(_) => {}
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

// Civil status.

/// Days that a child may be born after its father's death (Law on Marriage and Family, article 88).
const DAYS_AFTER_FATHER: i64 = 300;
/// Years that a parent surely has.
const PARENT_YEARS: u16 = 10;

fn birth(case: &mut Case<'_>) -> Done {
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

/// The entries that end with a life, or with a right to them. What is in dispute is left to whoever decides it: nobody is kept
/// from registering a death.
fn end_residences(work: &mut Work, date: PartialDate, why: &str) {
    let ended = |part: &'static str| [(part, Content::Date(date)), ("end", choice(RESIDENCE_END, why))];
    if work.is_open(field::PERMANENT_RESIDENCE, "until")
        && !work.starts_after(field::PERMANENT_RESIDENCE, "since", date)
    {
        work.amend(field::PERMANENT_RESIDENCE, "", &ended("until"));
    }
    if work.is_open(field::TEMPORARY_RESIDENCE, "ended") {
        work.amend(field::TEMPORARY_RESIDENCE, "", &ended("ended"));
    }
}

fn void_cards(work: &mut Work, state: &str) {
    for element in work.elements(field::IDENTITY_CARD) {
        let now = card_state(work, &element);
        if !work.is_disputed(field::IDENTITY_CARD, &element) && !now.is_some_and(|now| ENDED_CARDS.contains(&now)) {
            work.amend(field::IDENTITY_CARD, &element, &[("state", choice(CARD_STATE, state))]);
        }
    }
}

fn death(case: &mut Case<'_>) -> Done {
    let (Some(deceased), Some(date)) = (case.one("deceased"), case.date()) else { return Ok(()) };
    let work = &mut case.works[deceased];
    if work.had_any(field::DEATH_DATE, "") {
        return refuse(Place::Subject(deceased), &DEAD_ALREADY);
    }
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

/// States of a card that is of no use any more.
const ENDED_CARDS: [&str; 6] = ["expired", "lost", "revoked", "damaged", "void", "rejected"];

fn disappearance(case: &mut Case<'_>) {
    let (Some(at), Some(date)) = (case.one("person"), case.date()) else { return };
    end_residences(&mut case.works[at], date, "declared_missing");
}

fn came_back(case: &mut Case<'_>) -> Done {
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
    pub(super) fn born(&self) -> Option<PartialDate> {
        self.value(field::BIRTH_DATE, "")?.date()
    }

    fn number(&self) -> Option<PersonNumber> {
        self.value(field::PERSONAL_NUMBER, "")?.number()
    }

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

    /// Whether an interval is there that has not ended.
    fn is_open(&self, of: FieldId, end: &str) -> bool {
        self.value(of, "").is_some_and(|value| value.part(end).is_none())
    }

    fn starts_after(&self, of: FieldId, start: &str, date: PartialDate) -> bool {
        self.part(of, "", start).and_then(|start| start.date()).is_some_and(|start| date.surely_precedes(start))
    }
}

/// The present spouse is one of the former ones.
fn spouse_is_past(case: &mut Case<'_>, at: usize) {
    let Some(spouse) = case.works[at].value(field::RELATIVE, "spouse") else { return };
    let element = format!("spouse-{}", case.fresh_key());
    case.works[at].set(field::RELATIVE, &element, spouse.content().clone());
    case.works[at].clear(field::RELATIVE, "spouse");
}

fn marriage(case: &mut Case<'_>) -> Done {
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

fn divorce(case: &mut Case<'_>) -> Done {
    let Some(date) = case.date() else { return Ok(()) };
    marriage_ends(case, &case.all("spouse"), "divorced", date)
}

fn widowhood(case: &mut Case<'_>) -> Done {
    let Some(date) = case.date() else { return Ok(()) };
    marriage_ends(case, &case.all("person"), "widowed", date)
}

fn parents_named(case: &Case<'_>) -> Done {
    let Some(child) = case.one("child") else { return Ok(()) };
    let inputs = &case.works[child].inputs;
    match inputs.contains_key("father") || inputs.contains_key("mother") {
        true => Ok(()),
        false => refuse(Place::Subject(child), &PARENT_MISSING),
    }
}

/// Who is no longer a citizen has no residence here as one, and no card (Law on Residence, article 24; Law on Identification,
/// article 29).
fn nationality_changed(case: &mut Case<'_>) {
    const VIETNAM: Content = Content::Country(*b"VN");
    let (Some(at), Some(date)) = (case.one("person"), case.date()) else { return };
    let work = &mut case.works[at];
    let was = work.before(field::NATIONALITY, "").map(|value| value.content().clone());
    if was == Some(VIETNAM) && work.inputs.get("nationality") != Some(&VIETNAM) {
        end_residences(work, date, "nationality_lost");
        void_cards(work, "revoked");
    }
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

// Residence.

fn permanent_residence(case: &mut Case<'_>) -> Done {
    let Some(date) = case.date() else { return Ok(()) };
    for at in case.all("person") {
        let before = case.works[at].before(field::PERMANENT_RESIDENCE, "");
        let since = before.and_then(|value| value.part("since")?.date());
        if since.is_some_and(|since| date.surely_precedes(since)) {
            return refuse(Place::Subject(at), &RESIDENT);
        }
        // Who has a place to live is no longer without one.
        case.works[at].clear(field::CURRENT_DWELLING, "");
    }
    Ok(())
}

/// A residence ends or goes on that is there, and had not ended.
fn residence_ended(case: &Case<'_>, of: FieldId, end: &str) -> Done {
    for at in case.all("person") {
        if case.works[at].before(of, "").is_none_or(|value| value.part(end).is_some()) {
            return refuse(Place::Subject(at), &NOT_RESIDENT);
        }
    }
    Ok(())
}

fn temporary_residence(case: &Case<'_>) -> Done {
    let Some(from) = case.input("from").and_then(|from| from.date()) else { return Ok(()) };
    for at in case.all("person") {
        let before = case.works[at].before(field::TEMPORARY_RESIDENCE, "");
        let Some(value) = before.filter(|value| value.part("ended").is_none()) else { continue };
        let until = value.part("until").and_then(|until| until.date());
        if until.is_none_or(|until| !until.surely_precedes(from)) {
            return refuse(Place::Subject(at), &RESIDENCE_OPEN);
        }
    }
    Ok(())
}

/// Goes on from within the present interval, or from the day after it; the first beginning stays in the history.
fn renewal(case: &Case<'_>) -> Done {
    residence_ended(case, field::TEMPORARY_RESIDENCE, "ended")?;
    let date = |name| case.input(name).and_then(|content| content.date());
    let (Some(from), Some(until)) = (date("from"), date("until")) else { return Ok(()) };
    for at in case.all("person") {
        let before = case.works[at].before(field::TEMPORARY_RESIDENCE, "");
        let part = |name| before.as_ref().and_then(|value| value.part(name)?.date());
        let (Some(begin), Some(end)) = (part("from"), part("until")) else { continue };
        let goes_on = begin.could_precede(from) && from.earliest().days() <= end.latest().days() + 1;
        if !goes_on || !end.surely_precedes(until) {
            return refuse(Place::Subject(at), &NOT_LONGER);
        }
    }
    Ok(())
}

fn absence_ended(case: &Case<'_>) -> Done {
    let date = case.input("date").and_then(|date| date.date());
    for at in case.all("person") {
        let Some(before) = case.works[at].before(field::TEMPORARY_ABSENCE, "") else {
            return refuse(Place::Subject(at), &NOT_RESIDENT);
        };
        let until = before.part("until").and_then(|until| until.date());
        if let (Some(until), Some(date)) = (until, date)
            && until.surely_precedes(date)
        {
            return refuse(Place::Subject(at), &ABSENCE_OVER);
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
    for at in case.all("person") {
        let element = case.fresh_key();
        case.works[at].amend(field::STAY, &element, &parts);
    }
    Ok(())
}

// Households.

/// The household is there and goes on.
fn goes_on(case: &Case<'_>, at: usize) -> Done {
    match case.works[at].had_any(field::HOUSEHOLD_DISSOLVED, "") {
        true => refuse(Place::Subject(at), &HOUSEHOLD_ENDED),
        false => Ok(()),
    }
}

fn household_of(case: &Case<'_>, person: usize) -> Option<RecordId> {
    case.works[person].value(field::HOUSEHOLD, "")?.record()
}

/// A household by whose record it is not known yet is nobody's; in dispute it is.
fn has_household(case: &Case<'_>, person: usize) -> bool {
    case.works[person].had_any(field::HOUSEHOLD, "")
}

/// Makes a person a member, in that relation to the head; none makes the head.
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
    match (case.works[head].born(), day) {
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

fn joined(case: &mut Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    goes_on(case, household)?;
    let id = case.works[household].id;
    let head = case.works[household].value(field::HEAD, "").and_then(|value| value.record());
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

fn left(case: &mut Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    let id = case.works[household].id;
    let head = case.works[household].value(field::HEAD, "").and_then(|value| value.record());
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

fn merged(case: &mut Case<'_>) -> Done {
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

fn head_changed(case: &mut Case<'_>) -> Done {
    let (Some(household), Some(head)) = (case.one("household"), case.one("head")) else { return Ok(()) };
    goes_on(case, household)?;
    let (id, head_id) = (case.works[household].id, case.works[head].id);
    let before = case.works[household].value(field::HEAD, "").and_then(|value| value.record());
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

fn dissolved(case: &Case<'_>) -> Done {
    let Some(household) = case.one("household") else { return Ok(()) };
    goes_on(case, household)?;
    match case.there.members(case.works[household].id)? {
        0 => Ok(()),
        _ => refuse(Place::Subject(household), &HAS_MEMBERS),
    }
}

// Cards, accounts, numbers.

fn card_state(work: &Work, element: &str) -> Option<&'static str> {
    work.part(field::IDENTITY_CARD, element, "state")?.code()
}

fn card_requested(case: &mut Case<'_>) -> Done {
    let (Some(at), Some(kind)) = (case.one("person"), case.input("kind")) else { return Ok(()) };
    let work = &mut case.works[at];
    let under_way = ["requested", "captured", "approved", "produced"];
    let elements = work.elements(field::IDENTITY_CARD);
    if elements.iter().any(|element| card_state(work, element).is_some_and(|state| under_way.contains(&state))) {
        return refuse(Place::Subject(at), &CARD_OPEN);
    }
    let Some(number) = work.number() else { return refuse(Place::Subject(at), &NO_NUMBER) };
    // Counted, for people to name: two that were asked for at two offices at once are one card, and in dispute.
    let last = elements.iter().filter_map(|key| key.parse::<u32>().ok()).max().unwrap_or(0);
    let element = last.saturating_add(1).to_string();
    if elements.contains(&element) {
        return refuse(Place::Subject(at), &CARD_OPEN);
    }
    let number = Content::Text(number.to_string());
    let parts = [("number", number), ("kind", kind), ("state", choice(CARD_STATE, "requested"))];
    work.amend(field::IDENTITY_CARD, &element, &parts);
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
    // A new card takes the place of the one before it, also of one that is held.
    let is_new = from == ["produced"];
    for other in elements.iter().filter(|other| is_new && *other != element) {
        if card_state(work, other).is_some_and(|state| ["delivered", "held"].contains(&state)) {
            work.amend(field::IDENTITY_CARD, other, &[("state", choice(CARD_STATE, "void"))]);
        }
    }
    let state = [("state", choice(CARD_STATE, to))];
    work.amend(field::IDENTITY_CARD, element, &[&state[..], &dates].concat());
    Ok(())
}

/// The state of an account after an event, if it may follow: empty before stands for an account that nobody ever wrote down.
fn account_after(event: Event, now: &str) -> Option<&'static str> {
    Some(match (event, now) {
        // Closed by mistake, or by a death that was undone: it begins anew.
        (Event::AccountLevel1, "" | "none" | "closed") => "level_1",
        (Event::AccountLevel2, "" | "none" | "closed" | "level_1" | "level_1_activated") => "level_2",
        (Event::AccountActivated, "level_1") | (Event::AccountUnlocked, "level_1_locked") => "level_1_activated",
        (Event::AccountActivated, "level_2") | (Event::AccountUnlocked, "level_2_locked") => "level_2_activated",
        (Event::AccountLocked, "level_1" | "level_1_activated") => "level_1_locked",
        (Event::AccountLocked, "level_2" | "level_2_activated") => "level_2_locked",
        (Event::AccountClosed, now) if !["", "none", "closed"].contains(&now) => "closed",
        _ => return None,
    })
}

fn account(case: &mut Case<'_>) -> Done {
    let Some(at) = case.one("person") else { return Ok(()) };
    let (event, work) = (case.filed.event, &mut case.works[at]);
    let is_disputed = work.is_disputed(field::E_IDENTIFICATION, "");
    let now = work.code(field::E_IDENTIFICATION).unwrap_or("");
    match account_after(event, now).filter(|_| !is_disputed) {
        Some(state) => work.set(field::E_IDENTIFICATION, "", choice(E_IDENTIFICATION, state)),
        None => return refuse(Place::Subject(at), &ACCOUNT),
    }
    Ok(())
}

/// Nobody else of the shard has the number, or had it by right.
fn is_free(case: &Case<'_>, person: usize, number: PersonNumber, place: Place) -> Done {
    for record in case.there.holders(number)? {
        if record.0 == case.works[person].id {
            continue;
        }
        let other = Work::beside(case.level, record.0, record.1);
        if other.number() == Some(number) || held_by_right(&other, number) {
            return refuse(place, &NUMBER_TAKEN);
        }
    }
    Ok(())
}

/// Whether a cancelled number stays a person's for ever, and is given to nobody else: not one that was somebody else's all
/// along.
fn held_by_right(work: &Work, number: PersonNumber) -> bool {
    let element = number.to_string();
    let reason = work.part(field::FORMER_NUMBER, &element, "reason").and_then(|reason| reason.code());
    work.had_any(field::FORMER_NUMBER, &element) && !reason.is_some_and(|reason| NOT_ONES_OWN.contains(&reason))
}

/// Reasons for which a number is cancelled that was written into the wrong record.
const NOT_ONES_OWN: [&str; 2] = ["wrongly_collected", "doubled"];

fn number_given(case: &mut Case<'_>, again: bool) -> Done {
    let (Some(at), Some(Content::Number(number))) = (case.one("person"), case.input("number")) else { return Ok(()) };
    let work = &mut case.works[at];
    if work.had_any(field::PERSONAL_NUMBER, "") {
        return refuse(Place::Subject(at), &HAS_NUMBER);
    }
    match (work.elements(field::FORMER_NUMBER).is_empty(), again) {
        (false, false) => return refuse(Place::Subject(at), &HAD_NUMBER),
        (true, true) => return refuse(Place::Subject(at), &NEVER_HAD),
        _ => {}
    }
    // Whatever it was cancelled for, it was the wrong one here.
    if work.had_any(field::FORMER_NUMBER, &number.to_string()) {
        return refuse(Place::Input("number"), &NUMBER_TAKEN);
    }
    work.set(field::PERSONAL_NUMBER, "", Content::Number(number));
    is_free(case, at, number, Place::Input("number"))
}

fn number_cancelled(case: &mut Case<'_>) -> Done {
    let (Some(at), Some(reason)) = (case.one("person"), case.input("reason")) else { return Ok(()) };
    let date = case.date();
    let work = &mut case.works[at];
    let Some(number) = work.number() else { return refuse(Place::Subject(at), &NO_NUMBER) };
    let mut parts = vec![("number", Content::Number(number)), ("reason", reason)];
    parts.extend(date.map(|date| ("cancelled", Content::Date(date))));
    work.amend(field::FORMER_NUMBER, &number.to_string(), &parts);
    work.clear(field::PERSONAL_NUMBER, "");
    Ok(())
}
