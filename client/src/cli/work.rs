//! Work lists on the command line.

use dinhba_core::event::Event;
use dinhba_core::work::Work as Kind;
use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Cell, Sheet, Tint, column};
use super::{Desk, Failure, Mark, mark, show};
use crate::client::Client;
use crate::language::{Lang, Message, day, say};
use crate::request::Context;
use crate::work::WorkQuery;

/// What `work` takes.
#[derive(clap::Args)]
pub struct Work {
    /// Whose list: a unit's code, code and day (02683@2025-06-30) or id (u-…); without it, that of the caller's unit
    #[arg(long)]
    unit: Option<String>,
    /// Also what is not that unit's to do yet: all of it and of the units below
    #[arg(long)]
    all: bool,
    /// Only what should have been done before today
    #[arg(long)]
    overdue: bool,
    /// Only one kind: conflict, rule, number-twice, second-person, number-pending, step, papers, step-failed
    #[arg(long, value_parser = kind)]
    kind: Option<&'static str>,
    /// Goes on where a page ended, as it said
    #[arg(long, value_parser = mark)]
    after: Option<Mark>,
}

fn kind(text: &str) -> Result<&'static str, String> {
    let mut names: Vec<&'static str> = Kind::all().map(Kind::name).collect();
    names.dedup();
    match names.iter().find(|name| **name == text) {
        Some(name) => Ok(name),
        None => {
            names.sort_unstable();
            names.dedup();
            Err(format!("one of {}", names.join(", ")))
        }
    }
}

/// What of the record it is about, in words.
fn what(item: &v1::WorkItem) -> String {
    let text = match item.kind.as_str() {
        "conflict" if item.element.is_empty() => item.field.clone(),
        "conflict" => format!("{}[{}]", item.field, item.element),
        "second-person" => format!("{} {}", item.event, show::hex(&item.edit).get(..8).unwrap_or_default()),
        "step" | "papers" | "step-failed" => format!("{} ({})", item.step_label, item.service),
        _ => item.rule.clone(),
    };
    show::plain(&text)
}

/// The same as people of a language call it: a rule by what it says, a field by its label.
fn what_in(lang: Lang, item: &v1::WorkItem) -> String {
    match (lang, item.kind.as_str()) {
        (Lang::Vi, "conflict") => show::plain(&show::label_of_any(&item.field)),
        (Lang::Vi, "second-person") => {
            let event = Event::named(&item.event).map(|event| event.label().to_owned());
            let event = event.unwrap_or_else(|| Message::word("edit", &item.event).text(lang));
            show::plain(&format!("{event} {}", show::hex(&item.edit).get(..8).unwrap_or_default()))
        }
        (Lang::Vi, "step" | "papers" | "step-failed") => {
            let service = Message::word("service", &item.service).text(lang);
            show::plain(&format!("{} ({service})", item.step_label))
        }
        _ => show::plain(&Message::from(what(item)).text(lang)),
    }
}

/// How it is done.
fn how(lang: Lang, item: &v1::WorkItem) -> String {
    let record = &item.record;
    let step = item.step.replace('_', "-");
    match item.kind.as_str() {
        "conflict" => {
            let value = say!("value-to-write").text(lang);
            format!("dinhba resolve {record} '{}' {value} --grounds …", what(item))
        }
        "rule" | "number-twice" => format!("dinhba get {record}"),
        "second-person" => {
            format!("dinhba confirm {record} {}", show::hex(&item.edit).get(..8).unwrap_or_default())
        }
        "number-pending" => say!("number-comes-by-itself").text(lang),
        "step" if item.event.is_empty() => format!("dinhba dossier-step-done dossier={record} step={step} result=…"),
        "step" => format!("dinhba {} … dossier={record}", item.event),
        "papers" => format!("dinhba dossier-papers-brought dossier={record} step={step}"),
        "step-failed" => format!("dinhba dossier-step-reopened dossier={record} step={step} --grounds …"),
        _ => String::new(),
    }
}

fn table(lang: Lang, reply: &v1::WorkReply) -> String {
    let mut rows = Sheet::titled(
        lang,
        [
            column("due"),
            column("task").wraps(20),
            column("task-what").wraps(24),
            column("record"),
            column("task-of").wraps(14),
            column("whose").wraps(14).spare(2),
            column("since").spare(1),
            column("how").wraps(30).spare(3),
        ],
    );
    for item in &reply.items {
        let mark = if item.due_is_sure { "" } else { " ?" };
        let due = match item.late {
            0 => Cell::from(format!("{}{mark}", lang.days(&item.due))),
            late => {
                let late = say!("due-late", due = day(&item.due), late = late).text(lang);
                Cell::from(format!("{late}{mark}")).tinted(Tint::Bad)
            }
        };
        let unit = |code: &str, name: &str| show::plain(format!("{code} {name}").trim());
        let row: [Cell; 8] = [
            due,
            item.label.clone().into(),
            what_in(lang, item).into(),
            item.record.clone().into(),
            unit(&item.unit_code, &item.unit_name).into(),
            unit(&item.owner_code, &item.owner_name).into(),
            lang.days(&item.since).into(),
            how(lang, item).into(),
        ];
        rows.add_row(row);
    }
    rows.text()
}

fn json_of(reply: &v1::WorkReply) -> Json {
    let item = |item: &v1::WorkItem| {
        json!({
            "kind": item.kind, "label": item.label, "law": item.law, "shard": item.shard, "unit": item.unit,
            "unit_code": item.unit_code, "unit_name": item.unit_name, "record": item.record, "field": item.field,
            "element": item.element, "rule": item.rule, "edit": show::hex(&item.edit), "service": item.service,
            "step": item.step, "event": item.event, "since": item.since, "due": item.due,
            "due_is_sure": item.due_is_sure, "late": item.late, "owner": item.owner, "owner_code": item.owner_code,
            "owner_name": item.owner_name, "owner_role": item.owner_role, "step_label": item.step_label,
        })
    };
    json!({
        "unit": reply.unit, "unit_code": reply.unit_code, "unit_name": reply.unit_name, "today": reply.today, "next": show::hex(&reply.next),
        "items": reply.items.iter().map(item).collect::<Vec<_>>(),
    })
}

pub(super) async fn show_work(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    command: Work,
) -> Result<(), Failure> {
    let Work { unit, all, overdue, kind, after } = command;
    let is_narrow = kind.is_some() || overdue;
    let kind = kind.unwrap_or_default().to_owned();
    let query = WorkQuery { unit: unit.unwrap_or_default(), all, overdue, kind };
    let reply = client.work(context, &query, &after.map(|mark| mark.0).unwrap_or_default()).await?;
    desk.show(|lang| table(lang, &reply), || json_of(&reply))?;
    let next = show::hex(&reply.next);
    match (reply.items.is_empty(), next.is_empty()) {
        (true, true) => {
            let unit = format!("{} {}", reply.unit_code, reply.unit_name);
            desk.remark(&match is_narrow {
                true => say!("nothing-of-that-kind-to-do", unit = unit),
                false => say!("nothing-to-do", unit = unit),
            });
        }
        (_, false) => desk.remark(&say!("there-is-more", next = next)),
        (false, true) => {}
    }
    let is_unsure = |item: &&v1::WorkItem| !item.due_is_sure;
    if let Some(item) = reply.items.iter().find(is_unsure) {
        let year = item.due.split('-').next().unwrap_or_default();
        desk.remark(&say!("holidays-not-said", year = year));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::vietnamese::assert_vietnamese;

    #[test]
    fn an_item_says_what_it_is_whose_and_how_it_is_done() {
        let item = v1::WorkItem {
            kind: "step".into(),
            label: "Bước hồ sơ liên thông".into(),
            record: "r-01".into(),
            service: "birth".into(),
            step: "health_insurance".into(),
            step_label: "Cấp thẻ bảo hiểm y tế".into(),
            due: "2026-06-17".into(),
            late: 2,
            owner_code: "082".into(),
            ..v1::WorkItem::default()
        };
        let text = table(Lang::En, &v1::WorkReply { items: vec![item.clone()], ..v1::WorkReply::default() });
        for word in ["2 days late", "Cấp thẻ bảo hiểm y tế", "r-01", "082", "step=health-insurance"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        let told = table(Lang::Vi, &v1::WorkReply { items: vec![item.clone()], ..v1::WorkReply::default() });
        assert!(told.contains("17/06/2026, quá hạn 2 ngày") && told.contains("(khai sinh)"), "{told}");
        for kind in ["conflict", "rule", "number-twice", "second-person", "number-pending", "papers", "step-failed"] {
            let rule = dinhba_core::validity::rule_text(dinhba_core::schema::RULES[0].id.0);
            let field = "birth_date".into();
            let item = v1::WorkItem { kind: kind.into(), field, rule, event: "death".into(), ..item.clone() };
            assert_vietnamese(&table(Lang::Vi, &v1::WorkReply { items: vec![item], ..v1::WorkReply::default() }));
        }
        let birth = v1::WorkItem { event: "birth".into(), ..item };
        assert_eq!(how(Lang::En, &birth), "dinhba birth … dossier=r-01");
        assert!(kind("step").is_ok() && kind("steps").unwrap_err().contains("step-failed"));
    }
}
