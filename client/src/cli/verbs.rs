//! What each verb does: parse, ask, show.

use dinhba_core::ids::{GroupId, RecordId, RequestId, SiteId};
use dinhba_core::standing::Standing;
use dinhba_proto::v1;
use futures::StreamExt;
use serde_json::json;

use super::wording::{choose_shard, field_and_element, send, show_accepted, with_request};
use super::{
    Backup, Connection, Desk, Edit, Exit, Failure, Find, LookAtBackup, Site, Verb, backup, event, export, fields,
    figures, held, holidays, import, numbers, quality, receipt, roll, show, standing, status, target, unit, work,
};
use crate::client::{self, Client};
use crate::language::{Lang, Message, say};
use crate::request::{self, Accepted, Context, EditBuilder};
use crate::sites::SiteChange;

/// Does what asks no site; none of the other verbs.
pub(super) fn here(verb: &Verb, connection: &Connection, desk: &mut Desk<'_>) -> Option<Result<Exit, Failure>> {
    let unused = connection.refuse_unused();
    Some(match verb {
        Verb::Generate(generate) => unused.and_then(|()| export::generate(generate, desk)),
        Verb::Units { units } => unused.and_then(|()| export::units(units, desk)),
        Verb::Rules => unused.and_then(|()| event::rules(desk).map(|()| Exit::Done)),
        Verb::Events { event } => unused.and_then(|()| event::forms(*event, desk).map(|()| Exit::Done)),
        Verb::Fields { kind } => unused.and_then(|()| fields::list(*kind, desk)),
        Verb::Import(import) if import.check => unused.and_then(|()| import::check(import, desk)),
        Verb::Backup(Backup { look: Some(LookAtBackup::Verify { archive }), .. }) => {
            unused.and_then(|()| backup::verify(archive, desk))
        }
        Verb::Receipt(receipt::Receipt { check: Some(check), .. }) => unused.and_then(|()| receipt::check(check, desk)),
        _ => return None,
    })
}

/// Does what asks a site.
pub(super) async fn run(verb: Verb, client: &Client, context: &Context, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let limits = client.limits();
    let client = &match &verb {
        // Of these, each answer may take its time, and there are as many as there are.
        Verb::Watch { .. }
        | Verb::Import(_)
        | Verb::Export { .. }
        | Verb::AccessLog { .. }
        | Verb::Backup(_)
        | Verb::Roll(_)
        | Verb::Held(_) => client.clone(),
        Verb::Site(_) | Verb::Unit(_) | Verb::Holidays(_) => client.for_errand(limits.admin),
        _ => client.for_errand(limits.deadline),
    };
    match verb {
        Verb::Status => {
            let reply = client.status(context).await?;
            desk.show(|lang| status::status(lang, &reply), || status::status_json(&reply))?;
            if !reply.health.is_empty() {
                return Ok(Exit::Unwell);
            }
        }
        Verb::Get { record, in_law_on, known_on } => {
            let [in_law_on, known_on] = [in_law_on, known_on].map(Option::unwrap_or_default);
            let record = client.get_as_of(context, record, &in_law_on, &known_on).await?;
            desk.show(|lang| show::record(lang, &record), || show::record_json(&record))?;
        }
        Verb::Find(command) => find(client, context, desk, command).await?,
        Verb::Members { household, after } => {
            let reply = client.members(context, household, &after.map(|mark| mark.0).unwrap_or_default()).await?;
            show_found(desk, &reply, (say!("no-members"), None), show::found)?;
        }
        Verb::Households { person, after } => {
            let reply = client.households(context, person, &after.map(|mark| mark.0).unwrap_or_default()).await?;
            show_found(desk, &reply, (say!("none-known"), None), show::found)?;
        }
        Verb::Dossiers { person, after } => {
            let reply = client.dossiers(context, person, &after.map(|mark| mark.0).unwrap_or_default()).await?;
            show_found(desk, &reply, (say!("none-known"), None), |lang, reply| {
                reply.records.iter().map(|record| show::record(lang, record)).collect::<Vec<_>>().join("\n")
            })?;
        }
        Verb::Work(command) => work::show_work(client, context, desk, command).await?,
        Verb::Edit(edit) => {
            let accepted = send_edit(client, context, edit).await?;
            show_accepted(desk, &accepted)?;
        }
        Verb::File { event, file } => event::file(client, context, desk, event, file).await?,
        Verb::History { record } => {
            let entries = client.history(context, record).await?;
            let object = || json!({ "record": record.to_string(), "entries": entries.iter().map(show::entry_json).collect::<Vec<_>>() });
            desk.show(|lang| show::history(lang, &entries), object)?;
        }
        Verb::Conflicts { shard, after } => {
            let reply = client.conflicts(context, shard, &after.map(|mark| mark.0).unwrap_or_default()).await?;
            let conflicts = || reply.conflicts.iter().map(show::conflict_json).collect::<Vec<_>>();
            let next = show::hex(&reply.next);
            let object = || json!({ "conflicts": conflicts(), "more": reply.more, "next": next });
            desk.show(|lang| show::conflicts(lang, &reply), object)?;
            match (reply.conflicts.is_empty(), reply.next.is_empty()) {
                (true, true) => desk.remark(&say!("no-conflicts")),
                (false, true) => {}
                (_, false) => desk.remark(&say!("there-may-be-more", next = next)),
            }
        }
        Verb::Resolve { record, field, value, grounds, request } => {
            let (field, element) = field_and_element(&field)?;
            let record = client.get(context, record).await?;
            let edit = client::decision(context, &record, field, element, &value, &grounds)?;
            show_accepted(desk, &send(client, request, &edit).await?)?;
        }
        Verb::Pending { record, shard, after } => {
            standing::pending(client, context, desk, (record, shard), after).await?;
        }
        Verb::Confirm(command) => standing::judge(client, context, desk, (Standing::Confirmed, command)).await?,
        Verb::Reject(command) => standing::judge(client, context, desk, (Standing::Rejected, command)).await?,
        Verb::Hold(command) => standing::judge(client, context, desk, (Standing::Held, command)).await?,
        Verb::Release(command) => standing::judge(client, context, desk, (Standing::Released, command)).await?,
        Verb::Watch { shard, from, count } => {
            let mut entries = std::pin::pin!(client.watch(context, shard, from).take(count.unwrap_or(usize::MAX)));
            while let Some(entry) = entries.next().await {
                let entry = entry?;
                desk.show(|lang| show::entry_line(lang, &entry), || show::entry_json(&entry))?;
            }
        }
        Verb::Import(command) => return import::run(command, client, context, desk, import::interrupted()).await,
        Verb::Export { of, output, format } => {
            let output = export::Output::of(output, format)?;
            let shard = choose_shard(client, context, of.shard, of.unit.as_deref()).await?;
            export::export(client, context, shard, &output, desk).await?;
        }
        Verb::Receipt(command) => receipt::make(client, context, desk, command).await?,
        Verb::Roll(command) => roll::run(client, context, desk, command).await?,
        Verb::Held(command) => return held::run(client, desk, command).await,
        Verb::Figures(command) => figures::show_figures(client, context, desk, command).await?,
        Verb::Quality(command) => quality::show_quality(client, context, desk, command).await?,
        Verb::Target(command) => target::run(client, context, desk, command).await?,
        Verb::Numbers(command) => numbers::show_numbers(client, context, desk, command).await?,
        Verb::AccessLog { group, from } => access_log(client, context, desk, group, from).await?,
        Verb::Backup(Backup { archive, .. }) => {
            let archive = archive.ok_or_else(|| Failure::usage(say!("name-archive")))?;
            backup::take(&archive, client, context, desk).await?;
        }
        Verb::Generate(_) | Verb::Units { .. } | Verb::Fields { .. } | Verb::Events { .. } | Verb::Rules => {
            unreachable!("what asks no site is done here")
        }
        Verb::Site(command) => administer(client, context, desk, command).await?,
        Verb::Unit(command) => unit::run(client, context, desk, command).await?,
        Verb::Holidays(command) => holidays::run(client, context, desk, command).await?,
    }
    Ok(Exit::Done)
}

async fn find(client: &Client, context: &Context, desk: &mut Desk<'_>, command: Find) -> Result<(), Failure> {
    let text = |given: Option<String>| given.unwrap_or_default();
    if command.number.is_none() && command.name.is_none() {
        return Err(Failure::usage(say!("say-whom-to-find")));
    }
    let find = request::Find {
        number: text(command.number),
        name: text(command.name),
        born: text(command.born),
        unit: text(command.unit),
        mother: text(command.mother),
        after: command.after.map(|mark| mark.0).unwrap_or_default(),
    };
    let reply = client.find(context, &find).await?;
    show_found(desk, &reply, (say!("nobody-found"), Some(say!("or-ask-for-fewer"))), show::found)
}

/// Shows a page of records, as `shown` writes them. `fewer` says how else to come to the end of many.
fn show_found(
    desk: &mut Desk<'_>,
    reply: &v1::FindReply,
    (nobody, fewer): (Message, Option<Message>),
    shown: fn(Lang, &v1::FindReply) -> String,
) -> Result<(), Failure> {
    let records = || reply.records.iter().map(show::record_json).collect::<Vec<_>>();
    let next = show::hex(&reply.next);
    desk.show(|lang| shown(lang, reply), || json!({ "records": records(), "next": next }))?;
    match (reply.records.is_empty(), reply.next.is_empty()) {
        (true, true) => desk.remark(&nobody),
        (false, true) => {}
        (_, false) => {
            let more = say!("there-may-be-more", next = next);
            desk.remark(&fewer.into_iter().fold(more, Message::then));
        }
    }
    Ok(())
}

/// Reads `field=value` and `field[element]=value`.
pub(super) fn assignment(word: &str) -> Result<(&str, &str, &str), Failure> {
    let wrong = || Failure::usage(say!("change-is-written"));
    // An element key has no equals sign, so the first one ends the name.
    let (name, value) = word.split_once('=').ok_or_else(wrong)?;
    let (field, element) = field_and_element(name)?;
    Ok((field, element, value))
}

async fn send_edit(client: &Client, context: &Context, command: Edit) -> Result<Accepted, Failure> {
    let Edit { words, create, valid_from, grounds, shard, request } = command;
    let mut edit = EditBuilder::new(context);
    let mut words = words.iter();
    let part = match create {
        Some(kind) => edit.create(kind),
        None => {
            let record = words
                .next()
                .and_then(|word| word.parse::<RecordId>().ok())
                .ok_or_else(|| Failure::usage(say!("say-which-record")))?;
            edit.change(&client.get(context, record).await?)
        }
    };
    let mut count = 0;
    for word in words {
        let (field, element, value) = assignment(word)?;
        edit.set(part, field, element, value);
        count += 1;
    }
    if count == 0 {
        return Err(Failure::usage(say!("nothing-changed")));
    }
    if let Some(date) = valid_from {
        edit.valid_from(part, &date);
    }
    if let Some(grounds) = grounds {
        edit.grounds(&grounds);
    }
    if let Some(shard) = shard {
        edit.shard(shard);
    }
    send(client, request, &edit).await
}

async fn access_log(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    group: Option<GroupId>,
    from: u64,
) -> Result<(), Failure> {
    let groups = match group {
        Some(group) => vec![group],
        None => {
            let reply = client.status(context).await?;
            reply.groups.iter().filter_map(|group| group.group.parse().ok()).collect()
        }
    };
    let directory = client.units().await?;
    for group in groups {
        let name = group.to_string();
        let mut next = from.max(1);
        let mut last = u64::MAX;
        while next <= last {
            let reply = client.access_log(context, group, next).await?;
            // Every page is an access of its own: what comes after the first is not waited for.
            last = last.min(reply.count);
            if desk.json {
                for access in &reply.entries {
                    desk.show(|_| String::new(), || show::access_json(&name, access))?;
                }
            } else if !reply.entries.is_empty() {
                let table = |lang| format!("{name}\n{}", show::accesses(lang, &reply.entries, &directory));
                desk.show(table, || json!(null))?;
            }
            let Some(end) = reply.entries.last().map(|access| access.number).filter(|end| *end >= next) else { break };
            next = end + 1;
        }
    }
    Ok(())
}

async fn administer(client: &Client, context: &Context, desk: &mut Desk<'_>, command: Site) -> Result<(), Failure> {
    let groups = match command {
        Site::AddNode { member, address } => client.add_node(context, member, &address).await?.groups,
        Site::PromoteNode { member } => client.promote_node(context, member).await?.groups,
        Site::RemoveNode { member } => client.remove_node(context, member).await?.groups,
        Site::TransferLeader { group, member } => client.transfer_leader(context, group, member).await?.groups,
        Site::Snapshot => client.snapshot(context).await?.groups,
        Site::RaiseLevel { level } => {
            let level = client.raise_level(context, level).await?;
            return desk.show(|lang| say!("feature-level", level = level).text(lang), || json!({ "level": level }));
        }
        Site::List => {
            let reply = client.sites(context).await?;
            return desk.show(|lang| status::sites(lang, &reply), || status::sites_json(&reply));
        }
        Site::AddChild { unit, site, public_key: key, parent, address, request } => {
            let unit = export::find_unit(&client.units().await?, &unit)?;
            let change = SiteChange::Add { unit, parent, key, addresses: address };
            return change_site(client, context, desk, request, site, &change).await;
        }
        Site::Rekey { site, public_key: key } => {
            return change_site(client, context, desk, None, site, &SiteChange::Rekey { key }).await;
        }
        Site::Revoke { site, public_key: key } => {
            return change_site(client, context, desk, None, site, &SiteChange::Revoke { key }).await;
        }
        Site::Move { site, parent } => {
            return change_site(client, context, desk, None, site, &SiteChange::Move { parent }).await;
        }
        Site::Reach { site, addresses } => {
            return change_site(client, context, desk, None, site, &SiteChange::Reach { addresses }).await;
        }
        Site::Retire { site } => return change_site(client, context, desk, None, site, &SiteChange::Retire).await,
        Site::ReleaseAuthor { shard, author } => {
            client.release_author(context, shard, author).await?;
            let (shard, author) = (shard.to_string(), author.to_string());
            return desk.show(
                |lang| say!("author-released", author = &author, shard = &shard).text(lang),
                || json!({ "shard": shard, "author": author, "released": true }),
            );
        }
    };
    desk.show(|lang| status::groups(lang, &groups), || json!({ "groups": status::groups_json(&groups) }))
}

async fn change_site(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    again: Option<RequestId>,
    site: SiteId,
    change: &SiteChange,
) -> Result<(), Failure> {
    let sent = client.change_site(context, again, site, change, &client.units().await?).await;
    let is_repeatable = matches!(change, SiteChange::Add { .. });
    let (accepted, drafted) = sent.map_err(|error| if is_repeatable { with_request(error) } else { error.into() })?;
    let shard = drafted.shard.map(|shard| shard.to_string()).unwrap_or_default();
    let json = || {
        let mut object = show::accepted_json(&accepted);
        (object["site"], object["shard"]) = (json!(site.to_string()), json!(shard));
        object["place_file"] = json!(drafted.place_file);
        object
    };
    desk.show(|lang| show::accepted(lang, &accepted), json)?;
    if !drafted.place_file.is_empty() {
        desk.remark(&say!("place-file", file = drafted.place_file.trim_end()));
    }
    Ok(())
}
