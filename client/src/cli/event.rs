//! Events on the command line: a verb for each, made from the table of forms. Each takes what the paper form has, and asks on
//! a terminal for what is missing.

use std::io::{BufRead, IsTerminal};

use dinhba_core::event::{Event, Form, Input, Role};
use dinhba_core::ids::{RecordId, RequestId, ShardId};
use dinhba_core::{filing, schema};
use serde_json::{Value as Json, json};

use super::sheet::{Sheet, column};
use super::{Desk, Failure, request, show, wording};
use crate::client::Client;
use crate::event::EventBuilder;
use crate::language::{Lang, Message, say};
use crate::request::{Accepted, Context};

/// What the verb of an event takes.
#[derive(clap::Args)]
pub struct File {
    /// The records that it is about (role=r-…), then what the form asks (input=value); see the list below
    #[arg(value_name = "ROLE=RECORD | INPUT=VALUE")]
    words: Vec<String>,
    /// The decision or judgment that it rests on: number, date, issuer
    #[arg(long)]
    grounds: Option<String>,
    /// The shard (h-…); without it, that of the records, or the one of the caller's unit
    #[arg(long)]
    shard: Option<ShardId>,
    /// Asks nothing on the terminal
    #[arg(long)]
    no_questions: bool,
    /// The request to do again, after an outcome that was not known (q-…/1)
    #[arg(long, value_parser = request)]
    request: Option<RequestId>,
}

/// The event of that name.
pub(super) fn event(text: &str) -> Result<Event, String> {
    Event::named(text).ok_or_else(|| "no such event: `dinhba events` shows them".to_owned())
}

/// The verbs of all events; they stand in `events` instead of the help.
pub(super) fn commands() -> impl Iterator<Item = clap::Command> {
    Form::ALL.iter().map(|form| {
        let verb = clap::Command::new(form.event.name()).hide(true);
        let about = about(Lang::En, form);
        <File as clap::Args>::augment_args(verb)
            .about(about.clone())
            .long_about(about)
            .after_help(asked(form).to_string())
    })
}

/// What a form is about.
pub(super) fn about(lang: Lang, form: &Form) -> String {
    say!("form-about", label = form.event.label(), title = form.title, law = Message::law(form.law)).text(lang)
}

fn written(input: &Input, of: Option<&Role>) -> Message {
    let value = input.part.map_or_else(|| input.field.to_string(), |part| format!("{}.{part}", input.field));
    let of = of.map_or_else(|| Message::plain(""), |role| say!("form-input-of", role = role.name, label = role.label));
    match input.is_required {
        true => say!("form-input", name = input.name, label = input.label(), of = of, value = value),
        false => say!("form-input-if-known", name = input.name, label = input.label(), of = of, value = value),
    }
}

/// What a form asks, in lines.
pub(super) fn asked(form: &Form) -> Message {
    let mut lines = vec![say!("form-asked"), Message::plain("\n")];
    let mut line = |message: Message| lines.extend([Message::plain("  "), message, Message::plain("\n")]);
    for role in form.roles {
        let (least, most) = role.count;
        line(match (role.is_new, least, most) {
            (true, ..) => say!("form-role-made", role = role.name, label = role.label),
            (_, 0, 1) => say!("form-role-perhaps", role = role.name, label = role.label),
            (_, _, 1) => say!("form-role", role = role.name, label = role.label),
            (_, least, most) => {
                say!("form-role-times", role = role.name, label = role.label, least = least, most = most)
            }
        });
        role.inputs.iter().for_each(|input| line(written(input, Some(role))));
    }
    form.inputs.iter().for_each(|input| line(written(input, None)));
    if form.corrects {
        line(say!("form-corrects"));
    }
    if (Event::CardCaptured..=Event::CardRejected).contains(&form.event) {
        line(say!("form-which-card"));
    }
    if form.needs_grounds {
        line(say!("form-needs-grounds"));
    }
    Message::row(lines)
}

/// Shows what events there are, or the form of one.
pub(super) fn forms(event: Option<Event>, desk: &mut Desk<'_>) -> Result<(), Failure> {
    let Some(form) = event.and_then(Event::form) else {
        let table = |lang| {
            let columns = [column("event"), column("happened").wraps(20), column("law").wraps(20).spare(1)];
            let mut rows = Sheet::titled(lang, columns);
            for form in Form::ALL {
                let law = Message::law(form.law).text(lang);
                rows.add_row([form.event.name(), form.event.label(), &law]);
            }
            rows.text()
        };
        return desk.show(table, || Form::ALL.iter().map(form_json).collect());
    };
    let text = |lang| format!("{}  {}\n{}", form.event.name(), about(lang, form), asked(form).text(lang));
    desk.show(text, || form_json(form))
}

/// Shows the rules of records, then those of events.
pub(super) fn rules(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let of_records = schema::RULES.iter().map(|rule| ("record", false, rule.name, rule.law, rule.text, rule.text_vi));
    let of_events =
        filing::rules().map(|rule| ("event", rule.is_warning, rule.name, rule.law, rule.text, rule.text_vi));
    let all: Vec<_> = of_records.chain(of_events).collect();
    let table = |lang| {
        let columns = [column("rule"), column("law").wraps(20).spare(1), column("rule-text").wraps(24)];
        let mut rows = Sheet::titled(lang, columns);
        for (_, is_warning, name, law, _, text_vi) in &all {
            let passes = if *is_warning { " (cảnh báo: ghi rõ căn cứ nếu đúng)" } else { "" };
            let law = Message::law(law).text(lang);
            rows.add_row([(*name).to_owned(), law, format!("{text_vi}{passes}")]);
        }
        rows.text()
    };
    let rule = |(of, is_warning, name, law, text, text_vi): &(&str, bool, &str, &str, &str, &str)| json!({ "of": of, "rule": name, "law": law, "text": text, "text_vi": text_vi, "warning": is_warning });
    desk.show(table, || all.iter().map(rule).collect())
}

fn form_json(form: &Form) -> Json {
    let input = |input: &Input| {
        let field = input.field.to_string();
        json!({ "name": input.name, "label": input.label(), "required": input.is_required, "field": field, "part": input.part })
    };
    let inputs = |all: &'static [Input]| all.iter().map(input).collect::<Vec<_>>();
    let roles = form.roles.iter().map(|role| {
        let (least, most) = role.count;
        json!({
            "role": role.name, "label": role.label, "kind": role.kind.name(), "is_new": role.is_new,
            "count_min": least, "count_max": most, "inputs": inputs(role.inputs),
        })
    });
    json!({
        "event": form.event.name(), "label": form.event.label(), "title": form.title, "law": form.law,
        "roles": roles.collect::<Vec<_>>(), "inputs": inputs(form.inputs),
        "needs_grounds": form.needs_grounds, "corrects": form.corrects,
    })
}

/// Files an event; gives the acceptance.
pub(super) async fn file(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    event: Event,
    command: File,
) -> Result<(), Failure> {
    let Some(form) = event.form() else { return Err(Failure::usage(say!("event-without-form"))) };
    let File { mut words, mut grounds, shard, no_questions, request } = command;
    if !no_questions && !desk.json && std::io::stdin().is_terminal() {
        ask(form, &mut words, &mut grounds, desk)?;
    }
    let mut event = EventBuilder::new(context, form.event);
    // The roles of its subjects, in their order.
    let mut subjects: Vec<&Role> = Vec::new();
    for role in form.roles.iter().filter(|role| role.is_new) {
        event.create(role.name);
        subjects.push(role);
    }
    for word in &words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Failure::usage(say!("filled-in-how")));
        };
        if let Some((_, role)) = form.role(name).filter(|(_, role)| !role.is_new) {
            let record: RecordId = value.parse().map_err(|_| Failure::usage(say!("write-record-id", name = name)))?;
            event.about(role.name, &client.get(context, record).await?);
            subjects.push(role);
            continue;
        }
        // Of the last record that is asked for it.
        let asked_of = subjects.iter().rposition(|role| role.inputs.iter().any(|input| input.name == name));
        let last = || subjects.len().checked_sub(1).ok_or_else(|| Failure::usage(say!("say-record-first")));
        if let Some(at) = asked_of {
            event.set_of(at, name, value);
        } else if form.inputs.iter().any(|input| input.name == name) {
            event.set(name, value);
        } else if name == "element" {
            event.element_of(last()?, value);
        } else if form.corrects {
            let (field, element) = wording::field_and_element(name)?;
            event.correct(last()?, field, element, value);
        } else {
            return Err(Failure::usage(say!("not-asked", name = name, asked = asked(form))));
        }
    }
    if let Some(grounds) = grounds {
        event.grounds(&grounds);
    }
    if let Some(shard) = shard {
        event.shard(shard);
    }
    let sent = match request {
        Some(request) => client.file_again(request, &event).await,
        None => client.file(&client.session(), &event).await,
    };
    let accepted = sent.map_err(wording::with_request)?;
    desk.show(|lang| registered(lang, form, &subjects, &accepted), || registered_json(form, &subjects, &accepted))
}

/// What was registered, in words.
fn registered(lang: Lang, form: &Form, roles: &[&Role], accepted: &Accepted) -> String {
    let mut text = say!("registered", label = form.event.label(), title = form.title).text(lang) + "\n";
    for (role, record) in roles.iter().zip(&accepted.records) {
        text.push_str(&format!("  {}: {record}\n", role.label));
    }
    match accepted.number {
        Some(number) => text += &format!("  Số định danh cá nhân: {number}\n"),
        None if form.event.gives_number() => text += &format!("  {}\n", say!("number-given-later").text(lang)),
        None => {}
    }
    text + &show::accepted(lang, accepted)
}

fn registered_json(form: &Form, roles: &[&Role], accepted: &Accepted) -> Json {
    let mut object = show::accepted_json(accepted);
    object["event"] = json!(form.event.name());
    let subjects = roles.iter().zip(&accepted.records);
    object["subjects"] =
        subjects.map(|(role, record)| json!({ "role": role.name, "record": record.to_string() })).collect();
    object
}

/// Asks on the terminal for what the form needs and was not written.
fn ask(form: &Form, words: &mut Vec<String>, grounds: &mut Option<String>, desk: &mut Desk<'_>) -> Result<(), Failure> {
    let has = |words: &[String], name: &str| {
        words.iter().any(|word| word.split_once('=').is_some_and(|(one, _)| one == name))
    };
    let mut lines = std::io::stdin().lock().lines();
    let mut question = |desk: &mut Desk<'_>, label: &str, hint: &str| -> Result<String, Failure> {
        write!(desk.err, "{label} ({hint}): ")?;
        desk.err.flush()?;
        Ok(lines.next().transpose()?.unwrap_or_default().trim().to_owned())
    };
    for role in form.roles.iter().filter(|role| role.count.1 == 1) {
        let is_named = has(words, role.name);
        if !role.is_new && role.count.0 == 1 && !is_named {
            let answer = question(desk, role.label, "r-…")?;
            words.push(format!("{}={answer}", role.name));
        }
        for input in role.inputs.iter().filter(|input| input.is_required && (role.is_new || role.count.0 == 1)) {
            if !has(words, input.name) {
                let answer = question(desk, input.label(), input.name)?;
                words.push(format!("{}={answer}", input.name));
            }
        }
    }
    for input in form.inputs.iter().filter(|input| input.is_required) {
        if !has(words, input.name) {
            let answer = question(desk, input.label(), input.name)?;
            words.push(format!("{}={answer}", input.name));
        }
    }
    if form.needs_grounds && grounds.is_none() {
        *grounds = Some(question(desk, "Căn cứ", "--grounds")?);
    }
    Ok(())
}
