//! Residences, absences and stays.

use super::{Case, Done, EventRule, Place, Work, choice, refuse};
use crate::date::PartialDate;
use crate::schema::codes::RESIDENCE_END;
use crate::schema::{Content, FieldId, field};

event_rules! {
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
    ABSENCE_OVER = "absence_is_over", "Law on Residence 68/2020/QH14, article 31",
        "the absence ended before that day",
        "thời gian tạm vắng đã kết thúc trước ngày này";
    STAY_TOO_LONG = "stay_too_long", "Law on Residence 68/2020/QH14, article 2",
        "a stay takes less than 30 days: register a temporary residence",
        "lưu trú dưới 30 ngày: hãy đăng ký tạm trú";
}

pub(super) fn permanent_residence(case: &mut Case<'_>) -> Done {
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
pub(super) fn residence_ended(case: &Case<'_>, of: FieldId, end: &str) -> Done {
    for at in case.all("person") {
        if case.works[at].before(of, "").is_none_or(|value| value.part(end).is_some()) {
            return refuse(Place::Subject(at), &NOT_RESIDENT);
        }
    }
    Ok(())
}

pub(super) fn temporary_residence(case: &Case<'_>) -> Done {
    let Some(from) = case.input_date("from") else { return Ok(()) };
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
pub(super) fn renewal(case: &Case<'_>) -> Done {
    residence_ended(case, field::TEMPORARY_RESIDENCE, "ended")?;
    let (Some(from), Some(until)) = (case.input_date("from"), case.input_date("until")) else { return Ok(()) };
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

pub(super) fn absence_ended(case: &Case<'_>) -> Done {
    let date = case.input_date("date");
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

pub(super) fn stay(case: &mut Case<'_>) -> Done {
    let parts: Vec<(&str, Content)> = ["unit", "line", "from", "until", "reason"]
        .into_iter()
        .filter_map(|name| Some((name, case.input(name)?)))
        .collect();
    let (Some(from), Some(until)) = (case.input_date("from"), case.input_date("until")) else { return Ok(()) };
    if until.latest().days() - from.earliest().days() >= STAY_DAYS {
        return refuse(Place::Input("until"), &STAY_TOO_LONG);
    }
    for at in case.all("person") {
        let element = case.fresh_key();
        case.works[at].amend(field::STAY, &element, &parts);
    }
    Ok(())
}

/// The entries that end with a life, or with a right to them. What is in dispute is left to whoever decides it: nobody is kept
/// from registering a death.
pub(super) fn end_residences(work: &mut Work, date: PartialDate, why: &str) {
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
