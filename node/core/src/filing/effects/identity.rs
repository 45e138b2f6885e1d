//! Cards, accounts and personal numbers.

use super::{Case, Done, EventRule, Place, Stop, Work, choice, refuse, warn};
use crate::blocks::said_by_number;
use crate::event::Event;
use crate::number::PersonNumber;
use crate::schema::codes::{CARD_STATE, E_IDENTIFICATION};
use crate::schema::{Content, field};

event_rules! {
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
    NONE_LEFT = "no_number_to_give", "Law on Identification 26/2023/QH15, article 12",
        "this office has no number to give to somebody of that sex and birth year whose birth is registered here: the site above \
         grants some as soon as it hears of the person, so file it again in a minute, or when the line is back",
        "đơn vị chưa có số định danh để cấp cho trường hợp này: cấp trên sẽ cấp khi nhận được dữ liệu, hãy thực hiện lại sau";
    NUMBER_TAKEN = "number_used_up", "Decree 70/2024, article 11",
        "a record here has that number, or had it until it was cancelled: it is given to nobody else ever",
        "số này đang hoặc đã từng được cấp, không cấp cho ai khác";
    CARD_EARLY = "card_before_14", "Law on Identification 26/2023/QH15, article 19",
        "the person is surely younger than 14 years, from when on a card is owed: before that it is given on the wish of the legal representative",
        "người này chưa đủ 14 tuổi: thẻ được cấp theo nhu cầu của người đại diện hợp pháp", warning = true;
}

/// From this age on everybody has a card.
const CARD_YEARS: u16 = 14;

fn card_state(work: &Work, element: &str) -> Option<&'static str> {
    work.part(field::IDENTITY_CARD, element, "state")?.code()
}

pub(super) fn card_requested(case: &mut Case<'_>) -> Done {
    let (Some(at), Some(kind)) = (case.one("person"), case.input("kind")) else { return Ok(()) };
    if case.works[at].born().is_some_and(|born| born.earliest().years_until(case.on) < CARD_YEARS) {
        warn(case, Place::Subject(at), &CARD_EARLY)?;
    }
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
pub(super) fn card(case: &mut Case<'_>, from: &[&str], to: &str) -> Done {
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

/// States of a card that is of no use any more.
const ENDED_CARDS: [&str; 6] = ["expired", "lost", "revoked", "damaged", "void", "rejected"];

pub(super) fn void_cards(work: &mut Work, state: &str) {
    for element in work.elements(field::IDENTITY_CARD) {
        let now = card_state(work, &element);
        if !work.is_disputed(field::IDENTITY_CARD, &element) && !now.is_some_and(|now| ENDED_CARDS.contains(&now)) {
            work.amend(field::IDENTITY_CARD, &element, &[("state", choice(CARD_STATE, state))]);
        }
    }
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

pub(super) fn account(case: &mut Case<'_>) -> Done {
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
pub(super) fn is_free(case: &Case<'_>, person: usize, number: PersonNumber, place: Place) -> Done {
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

/// The number that a person is given who has none, if there is one to give: of a citizen whose birth is registered here. Otherwise it
/// is pending, and given later.
pub(super) fn next_number(case: &Case<'_>, at: usize) -> Result<Option<PersonNumber>, Stop> {
    let work = &case.works[at];
    match said_by_number(case.there.home(), |field| work.value(field, "")).filter(|_| work.number().is_none()) {
        Some((sex, born)) => Ok(case.there.next_number(sex, born)?),
        None => Ok(None),
    }
}

pub(super) fn number_given(case: &mut Case<'_>, again: bool) -> Done {
    let Some(at) = case.one("person") else { return Ok(()) };
    let given = case.input("number").and_then(|number| number.number());
    let next = if given.is_none() { next_number(case, at)? } else { None };
    let work = &mut case.works[at];
    if work.had_any(field::PERSONAL_NUMBER, "") {
        return refuse(Place::Subject(at), &HAS_NUMBER);
    }
    match (work.elements(field::FORMER_NUMBER).is_empty(), again) {
        (false, false) => return refuse(Place::Subject(at), &HAD_NUMBER),
        (true, true) => return refuse(Place::Subject(at), &NEVER_HAD),
        _ => {}
    }
    let Some(number) = given.or(next) else { return refuse(Place::Input("number"), &NONE_LEFT) };
    // Whatever it was cancelled for, it was the wrong one here.
    if work.had_any(field::FORMER_NUMBER, &number.to_string()) {
        return refuse(Place::Input("number"), &NUMBER_TAKEN);
    }
    work.set(field::PERSONAL_NUMBER, "", Content::Number(number));
    is_free(case, at, number, Place::Input("number"))
}

pub(super) fn number_cancelled(case: &mut Case<'_>) -> Done {
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
