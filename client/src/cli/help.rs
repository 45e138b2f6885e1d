//! The help of the command line, and what is wrong with one, in another language than English.
//!
//! In English the help stands beside the verbs themselves, as the parser's library reads it there. For another language the tree of commands
//! is walked, and what stands in `help.ftl` takes its place: a message for each verb, with those above it, its options as attributes. What
//! the library writes of its own (headings, defaults, the usage) is said here too. Names of verbs and options are the same
//! in every language: they are typed, and stand in scripts.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use dinhba_core::event::{Event, Form};

use super::event;
use crate::language::{Lang, Message, help_in, say};

/// A program with its help in a language.
#[must_use]
pub fn translate(mut program: Command, lang: Lang) -> Command {
    if lang == Lang::En {
        return program;
    }
    // Before that the options for help and version are not there.
    program.build();
    let program = said(program, lang, "");
    match help_in(lang, "exit-codes", None) {
        Some(codes) => program.after_help(codes),
        None => program,
    }
}

/// A command and all below it; its key is its names from the top, and nothing for the program itself.
fn said(command: Command, lang: Lang, key: &str) -> Command {
    let form = Event::named(key).and_then(Event::form);
    // The verb `help` has a copy of the tree, of which nothing is shown.
    let command = match key.rsplit('-').next() {
        Some("help") => command,
        _ => command.mut_subcommands(|below| {
            let key = [key, below.get_name()].join("-");
            said(below, lang, key.trim_start_matches('-'))
        }),
    };
    let command = command.mut_args(|arg| option(arg, lang, key, form));
    let (about, after) = match (form, key) {
        (Some(form), _) => (Some(event::about(lang, form)), Some(event::asked(form).text(lang))),
        (None, "") => (help_in(lang, "program", None), None),
        (None, "import") => (help_in(lang, key, None), help_in(lang, "about-files", None)),
        _ if key.ends_with("help") => (help_in(lang, "help", None), None),
        _ => (help_in(lang, key, None), None),
    };
    let command = match about {
        // Where English has no longer one, the list stays short.
        Some(about) if command.get_long_about().is_some() => command.about(about.clone()).long_about(about),
        Some(about) => command.about(about),
        None => command,
    };
    headed(after.into_iter().fold(command, Command::after_help), lang)
}

/// With what the library writes around the texts.
fn headed(mut command: Command, lang: Lang) -> Command {
    let word = |word: &str| Message::word("help", word).text(lang);
    let usage = usage_in(lang, &command.render_usage());
    let usage_heading = word("usage");
    let template =
        format!("{{before-help}}{{about-with-newline}}\n{usage_heading} {{usage}}\n\n{{all-args}}{{after-help}}");
    command.override_usage(usage).help_template(template).subcommand_help_heading(word("commands"))
}

/// A usage without its heading.
fn usage_in(lang: Lang, usage: &StyledStr) -> String {
    let word = |word: &str| Message::word("help", word).text(lang);
    let text = usage.to_string();
    let text = text.strip_prefix("Usage: ").unwrap_or(&text).trim_end();
    text.replace("[OPTIONS]", &word("options-here"))
        .replace("<COMMAND>", &word("command-here"))
        .replace("[COMMAND]", &word("command-here"))
}

fn option(arg: Arg, lang: Lang, key: &str, form: Option<&Form>) -> Arg {
    let id = arg.get_id().as_str().replace('_', "-");
    let of_verb = if form.is_some() { "filed" } else { key };
    let text = help_in(lang, of_verb, Some(&id)).or_else(|| help_in(lang, "options", Some(&id)));
    let word = |word: &str| Message::word("help", word).text(lang);
    let heading = if arg.is_positional() { "arguments" } else { "options" };
    let heading = match arg.get_help_heading() {
        Some(_) => word("options-of-all"),
        None => word(heading),
    };
    let mut said = text;
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let takes_value = arg.get_action().takes_values();
    let choices: Vec<String> = arg.get_possible_values().iter().map(|choice| choice.get_name().to_owned()).collect();
    for (all, what) in [(&defaults, "default"), (&choices, "choices")] {
        if takes_value && !all.is_empty() && all.iter().any(|one| !one.is_empty()) {
            said = said.map(|text| format!("{text} [{} {}]", word(what), all.join(", ")));
        }
    }
    let name = arg.get_value_names().and_then(|names| names.first()).map_or_else(|| id.clone(), ToString::to_string);
    let arg = if takes_value { arg.value_name(Message::word("placeholder", name).text(lang)) } else { arg };
    let arg = arg.help_heading(heading).hide_default_value(true).hide_possible_values(true);
    match said {
        Some(text) if arg.get_long_help().is_some() => arg.help(text.clone()).long_help(text),
        Some(text) => arg.help(text),
        None => arg,
    }
}

/// What is wrong with a command line.
pub(super) fn misuse(error: &clap::Error, lang: Lang) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(all)) => all.join(", "),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (option, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let said = match error.kind() {
        ErrorKind::UnknownArgument => say!("misuse-unknown-option", option = option),
        ErrorKind::InvalidSubcommand => say!("misuse-unknown-command", command = text(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingRequiredArgument => say!("misuse-missing", options = option),
        ErrorKind::InvalidValue if value.is_empty() => say!("misuse-no-value", option = option),
        ErrorKind::InvalidValue => {
            say!("misuse-value-of", value = value, option = option, choices = text(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            say!("misuse-value", value = value, option = option, why = Message::detail(&why))
        }
        ErrorKind::ArgumentConflict => say!("misuse-conflict", option = option, other = text(ContextKind::PriorArg)),
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => say!("misuse-too-many", option = option),
        ErrorKind::TooFewValues | ErrorKind::NoEquals => say!("misuse-no-value", option = option),
        ErrorKind::MissingSubcommand => say!("misuse-no-command"),
        _ => Message::detail(&super::misuse(error).to_string()),
    };
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let suggested = suggested.map(text).into_iter().find(|text| !text.is_empty());
    let mut lines = vec![said];
    lines.extend(suggested.map(|suggested| say!("misuse-suggested", suggested = suggested)));
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        lines.extend([Message::plain(""), say!("misuse-usage", usage = usage_in(lang, usage))]);
    }
    lines.extend([Message::plain(""), say!("misuse-help")]);
    lines.iter().map(|line| line.text(lang)).collect::<Vec<_>>().join("\n")
}
