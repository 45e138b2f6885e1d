//! How a site is doing: one row for each group and, below it, one for each of its shards.

use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Cell, Sheet, Tint, column};
use super::show::{author, hex, plain};
use crate::language::{Lang, Message, instant, say};

pub(super) fn status(lang: Lang, reply: &v1::StatusReply) -> String {
    let columns = [
        column("site").spare(6),
        column("unit").wraps(11),
        column("group-or-shard"),
        column("nodes").number().spare(5),
        column("leader").spare(2),
        column("group-role").spare(4),
        column("records").number().spare(1),
        column("edits").number().spare(3),
        column("pending-up").number(),
        column("conflicts").number(),
        column("set-aside").number().spare(7),
        column("in-step").wraps(24),
        column("level").number().spare(8),
    ];
    let mut rows = Sheet::titled(lang, columns);
    // Those that left for good stay in the list, so that their ids are not used again.
    let nodes = reply.nodes.iter().filter(|node| node.present).count().to_string();
    let unit = plain(&reply.unit_name);
    let mut remarks: Vec<Message> = Vec::new();
    for group in &reply.groups {
        let sum = |of: fn(&v1::ShardStatus) -> u64| group.shards.iter().map(of).sum::<u64>().to_string();
        let leader = match group.leader.as_str() {
            "" => Cell::from(say!("no-leader").text(lang)).tinted(Tint::Bad),
            leader => Cell::from(leader),
        };
        let row: [Cell; 13] = [
            reply.site.clone().into(),
            unit.clone().into(),
            group.group.clone().into(),
            nodes.clone().into(),
            leader,
            Message::word("raft", &group.role).text(lang).into(),
            sum(|shard| shard.persons + shard.households).into(),
            sum(|shard| shard.edits).into(),
            sum(|shard| shard.pending_up).into(),
            sum(|shard| shard.conflicts).into(),
            sum(|shard| shard.set_aside).into(),
            step_of(lang, group),
            group.level.to_string().into(),
        ];
        rows.add_row(row);
        for shard in &group.shards {
            let row: [Cell; 12] = [
                "".into(),
                match shard.ancestor {
                    true => say!("shard-to-all-below", unit = plain(&shard.unit_name)).text(lang).into(),
                    false => plain(&shard.unit_name).into(),
                },
                shard.shard.clone().into(),
                "".into(),
                "".into(),
                "".into(),
                (shard.persons + shard.households).to_string().into(),
                shard.edits.to_string().into(),
                shard.pending_up.to_string().into(),
                shard.conflicts.to_string().into(),
                shard.set_aside.to_string().into(),
                step(lang, &shard.step, shard.step_at_ms),
            ];
            rows.add_row(row);
            for parked in &shard.parked {
                let author = author(&parked.author);
                let reason = Message::from(parked.reason.as_str());
                remarks.push(say!(
                    "author-parked",
                    author = author,
                    site = &parked.site,
                    shard = &shard.shard,
                    reason = reason
                ));
            }
        }
    }
    if reply.groups.is_empty() {
        rows.add_row([reply.site.clone(), unit, say!("no-group-yet").text(lang), nodes]);
    }
    for differs in reply.groups.iter().flat_map(|group| &group.access_differences) {
        let what = match differs.said_count.cmp(&differs.count) {
            _ if differs.said_incarnation != differs.incarnation => say!("log-named-twice"),
            std::cmp::Ordering::Less => say!("log-said-fewer"),
            _ => say!("log-said-others"),
        };
        remarks.push(say!(
            "access-log-differs",
            site = &differs.site,
            group = &differs.group,
            count = differs.count,
            what = what,
            said = differs.said_count,
            at = instant(differs.said_ms),
        ));
    }
    let sick = reply.groups.iter().filter(|group| !group.health.is_empty());
    for group in sick {
        remarks.push(say!("group-not-well", group = &group.group, why = Message::detail(&group.health)));
    }
    let mut out = format!("{}\n{}\n", health(lang, reply), rows.text());
    out.push_str(&format!("\n{}\n", nodes_of(lang, reply)));
    if !reply.links.is_empty() {
        let columns = [
            column("link"),
            column("peer"),
            column("group").spare(2),
            column("state"),
            column("since").spare(1),
            column("detail").wraps(18),
        ];
        let mut links = Sheet::titled(lang, columns);
        for link in &reply.links {
            let tint = if link.state == "connected" { Tint::Good } else { Tint::Waits };
            let row: [Cell; 6] = [
                Message::word("link", &link.direction).text(lang).into(),
                link.peer_site.clone().into(),
                link.group.clone().into(),
                Cell::from(Message::word("link", &link.state).text(lang)).tinted(tint),
                lang.instant(link.since_ms).into(),
                plain(&Message::from(link.detail.as_str()).text(lang)).into(),
            ];
            links.add_row(row);
        }
        out.push_str(&format!("\n{}\n", links.text()));
    }
    if !remarks.is_empty() {
        for remark in &remarks {
            out.push_str(&format!("\n{}", plain(&remark.text(lang))));
        }
        out.push('\n');
    }
    let asked = say!("node-asked", node = &reply.node, version = &reply.version, level = reply.level_max);
    out.push_str(&format!("\n{}\n", asked.text(lang)));
    out
}

/// The nodes of the site, but for those that left, and which feature levels they know.
fn nodes_of(lang: Lang, reply: &v1::StatusReply) -> String {
    let columns = [column("node"), column("reached-at").wraps(12), column("knows-level").number()];
    let mut rows = Sheet::titled(lang, columns);
    for node in reply.nodes.iter().filter(|node| node.present) {
        let known = match node.level_max {
            0 => Cell::from(say!("level-not-said").text(lang)).tinted(Tint::Waits),
            level => Cell::from(level.to_string()),
        };
        let row: [Cell; 3] = [node.node.clone().into(), plain(&node.address).into(), known];
        rows.add_row(row);
    }
    rows.text()
}

/// The directory of the country's sites.
pub(super) fn sites(lang: Lang, reply: &v1::SitesReply) -> String {
    let columns = [
        column("site"),
        column("unit").wraps(11),
        column("tier").spare(3),
        column("parent").spare(1),
        column("state"),
        column("keys").wraps(16),
        column("reached-at").wraps(12).spare(2),
        column("said-in").spare(4),
    ];
    let mut rows = Sheet::titled(lang, columns);
    for listed in &reply.sites {
        let tint = if listed.state == "active" { Tint::Good } else { Tint::Waits };
        let row: [Cell; 8] = [
            listed.site.clone().into(),
            plain(&format!("{} {}", listed.unit_code, listed.unit_name)).into(),
            Message::word("tier", &listed.tier).text(lang).into(),
            listed.parent.clone().into(),
            Cell::from(Message::word("site", &listed.state).text(lang)).tinted(tint),
            listed.keys.join("\n").into(),
            plain(&listed.addresses.join(", ")).into(),
            match listed.said_in.as_str() {
                "" => say!("said-at-founding").text(lang).into(),
                shard => shard.into(),
            },
        ];
        rows.add_row(row);
    }
    rows.text()
}

pub(super) fn sites_json(reply: &v1::SitesReply) -> Json {
    let site = |listed: &v1::ListedSite| {
        json!({
            "site": listed.site, "unit": listed.unit, "unit_code": listed.unit_code, "unit_name": listed.unit_name,
            "tier": listed.tier, "parent": listed.parent, "keys": listed.keys, "addresses": listed.addresses,
            "shard": listed.shard, "state": listed.state, "said_in": listed.said_in, "record": listed.record,
        })
    };
    json!({
        "unit": reply.unit, "ancestor_shard": reply.ancestor_shard,
        "sites": reply.sites.iter().map(site).collect::<Vec<_>>(),
    })
}

/// The first line, for people who read no further.
fn health(lang: Lang, reply: &v1::StatusReply) -> String {
    if reply.health.is_empty() {
        say!("node-is-well", node = &reply.node).text(lang)
    } else {
        let why = Message::detail(&reply.health);
        plain(&say!("node-is-not-well", node = &reply.node, why = why).text(lang))
    }
}

/// A group is in step if all its shards are; it says the worst of them, and the oldest date.
fn step_of(lang: Lang, group: &v1::GroupStatus) -> Cell {
    const WORST_FIRST: [&str; 5] = ["differs", "unknown", "behind", "in_step", "top"];
    let rank = |shard: &&v1::ShardStatus| {
        let known = WORST_FIRST.iter().position(|&step| step == shard.step);
        (known.unwrap_or(0), shard.step_at_ms)
    };
    let worst = group.shards.iter().min_by_key(rank);
    worst.map_or_else(|| Cell::from(""), |worst| step(lang, &worst.step, worst.step_at_ms))
}

fn step(lang: Lang, word: &str, at_ms: i64) -> Cell {
    let (text, tint) = match word {
        "top" => return Cell::from(say!("step-top").text(lang)),
        "differs" => (say!("step-differs"), Tint::Bad),
        "in_step" => (say!("step-in-step"), Tint::Good),
        "behind" => (say!("step-behind"), Tint::Waits),
        "unknown" => (say!("step-unknown"), Tint::Waits),
        _ => (Message::plain(word.replace('_', " ")), Tint::Waits),
    };
    Cell::from(format!("{} {}", text.text(lang), lang.instant(at_ms)).trim_end()).tinted(tint)
}

pub(super) fn status_json(reply: &v1::StatusReply) -> Json {
    let nodes = reply.nodes.iter();
    let links = reply.links.iter().map(|link| {
        json!({
            "direction": link.direction, "peer_site": link.peer_site, "group": link.group, "state": link.state,
            "detail": link.detail, "since_ms": link.since_ms,
        })
    });
    json!({
        "node": reply.node, "site": reply.site, "unit": reply.unit, "unit_code": reply.unit_code,
        "unit_name": reply.unit_name, "tier": reply.tier, "parent_site": reply.parent_site,
        "nodes": nodes.map(|node| json!({
            "node": node.node, "address": node.address, "present": node.present, "level_max": node.level_max,
        }))
            .collect::<Vec<_>>(),
        "groups": groups_json(&reply.groups), "links": links.collect::<Vec<_>>(),
        "version": reply.version, "level_max": reply.level_max,
        "healthy": reply.health.is_empty(), "health": reply.health,
    })
}

pub(super) fn groups_json(groups: &[v1::GroupStatus]) -> Json {
    let groups = groups.iter().map(|group| {
        json!({
            "group": group.group, "leader": group.leader, "term": group.term, "role": group.role,
            "last_log": group.last_log, "applied": group.applied, "snapshot": group.snapshot, "purged": group.purged,
            "voters": group.voters, "learners": group.learners, "level": group.level,
            "shards": group.shards.iter().map(shard_json).collect::<Vec<_>>(),
            "access_count": group.access_count, "access_hash": hex(&group.access_hash),
            "access_incarnation": hex(&group.access_incarnation),
            "access_differences": group.access_differences.iter().map(difference_json).collect::<Vec<_>>(),
            "healthy": group.health.is_empty(), "health": group.health,
        })
    });
    groups.collect()
}

fn difference_json(differs: &v1::AccessDifference) -> Json {
    json!({
        "site": differs.site, "group": differs.group, "incarnation": hex(&differs.incarnation),
        "count": differs.count, "hash": hex(&differs.hash),
        "said_incarnation": hex(&differs.said_incarnation), "said_count": differs.said_count,
        "said_hash": hex(&differs.said_hash), "said_ms": differs.said_ms,
    })
}

fn shard_json(shard: &v1::ShardStatus) -> Json {
    let heads = shard.heads.iter().map(|head| {
        json!({ "author": author(&head.author), "site": head.site, "number": head.number, "hash": hex(&head.hash) })
    });
    let parked = shard
        .parked
        .iter()
        .map(|parked| json!({ "author": author(&parked.author), "site": parked.site, "reason": parked.reason }));
    let held = shard
        .held
        .iter()
        .map(|held| json!({ "site": held.site, "tier": held.tier, "at_ms": held.at_ms, "missing": held.missing }));
    json!({
        "shard": shard.shard, "unit": shard.unit, "unit_code": shard.unit_code, "unit_name": shard.unit_name,
        "persons": shard.persons, "households": shard.households, "edits": shard.edits, "ancestor": shard.ancestor,
        "heads": heads.collect::<Vec<_>>(), "edits_digest": hex(&shard.edits_digest),
        "state_digest": hex(&shard.state_digest), "conflicts": shard.conflicts, "set_aside": shard.set_aside,
        "parked": parked.collect::<Vec<_>>(), "pending_up": shard.pending_up, "step": shard.step,
        "step_at_ms": shard.step_at_ms, "held": held.collect::<Vec<_>>(),
    })
}

/// What an administrative call answers with: the groups as they are now.
pub(super) fn groups(lang: Lang, groups: &[v1::GroupStatus]) -> String {
    let columns = [
        column("group"),
        column("leader"),
        column("group-role").spare(3),
        column("voters").wraps(18),
        column("learners").wraps(18).spare(1),
        column("last-log").number().spare(2),
        column("snapshot").number().spare(4),
        column("purged").number().spare(5),
        column("level").number().spare(6),
    ];
    let mut rows = Sheet::titled(lang, columns);
    for group in groups {
        rows.add_row([
            group.group.clone(),
            group.leader.clone(),
            Message::word("raft", &group.role).text(lang),
            group.voters.join(" "),
            group.learners.join(" "),
            group.last_log.to_string(),
            group.snapshot.to_string(),
            group.purged.to_string(),
            group.level.to_string(),
        ]);
    }
    rows.text()
}

#[cfg(test)]
mod tests {
    use dinhba_core::ids::{ShardId, UnitId};

    use super::*;
    use crate::testing;

    #[test]
    fn a_site_is_a_row_for_each_group_and_each_shard() {
        let one = testing::shard_status(ShardId(1), UnitId(2), "00001", "Phường Phúc Xá");
        let two = v1::ShardStatus {
            step: "differs".into(),
            parked: vec![v1::ParkedAuthor { author: vec![1; 16], site: "s-1".into(), reason: "bad chain".into() }],
            ..testing::shard_status(ShardId(2), UnitId(3), "00004", "Phường Trúc Bạch")
        };
        let one_more = v1::ShardStatus { parked: Vec::new(), ..two.clone() };
        let shown = status(Lang::En, &testing::status(vec![one, two]));
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "n-0000000000000001 is well");
        let lines = &lines[1..];
        let expected = "s-0000000000000077 Quận Ba Đình g-0000000000000005 2 n-0000000000000002 follower 8 24 4 0 0 \
                        DIFFERS 2025-06-15T15:06:40Z 1";
        assert_eq!(lines[1].join(" "), expected);
        assert_eq!(lines[2].join(" "), "Phường Phúc Xá h-0000000000000001 4 12 2 0 0 behind 2025-06-15T15:06:40Z");
        let rows: Vec<String> = lines.iter().map(|words| words.join(" ")).collect();
        let knows = |id: u64, level: &str| format!("n-{id:016x} 10.0.0.{id}:7400 {level}");
        assert!(rows.contains(&knows(1, "2")) && rows.contains(&knows(2, "not said")), "{shown}");
        assert!(!shown.contains(&knows(3, "2")), "who left is no node any more");
        assert!(shown.contains("up    s-0000000000000070"), "{shown}");
        crate::cli::tests::vietnamese::assert_vietnamese(&status(Lang::Vi, &testing::status(vec![one_more])));
        assert!(shown.contains("release-author h-0000000000000002 a-01010101"), "{shown}");
        let object = status_json(&testing::status(Vec::new()));
        assert_eq!((&object["nodes"][2]["present"], &object["nodes"][2]["level_max"]), (&json!(false), &json!(2)));
        assert_eq!(object["groups"][0]["role"], json!("follower"));
    }

    #[test]
    fn an_access_log_that_was_cut_is_told_with_what_to_do() {
        let mut reply = testing::status(Vec::new());
        assert!(!status(Lang::En, &reply).contains("access log"));
        reply.groups[0].access_differences.push(v1::AccessDifference {
            site: "s-0000000000000070".into(),
            group: "g-0000000000000009".into(),
            count: 40,
            said_count: 12,
            ..v1::AccessDifference::default()
        });
        let shown = status(Lang::En, &reply);
        let told = "s-0000000000000070 said of g-0000000000000009 that it has 40 entries, and then said fewer (12";
        assert!(shown.contains(told) && shown.contains("auditor"), "{shown}");
        assert_eq!(status_json(&reply)["groups"][0]["access_differences"][0]["said_count"], json!(12));
    }

    #[test]
    fn whether_it_is_well_stands_in_the_first_line() {
        let mut reply = testing::status(Vec::new());
        reply.health = "g-0000000000000005: this replica has stopped: the disk is full".into();
        reply.groups[0].health = "this replica has stopped: the disk is full".into();
        let shown = status(Lang::En, &reply);
        let first = "NOT WELL: n-0000000000000001: g-0000000000000005: this replica has stopped: the disk is full";
        assert_eq!(shown.lines().next(), Some(first));
        let object = status_json(&reply);
        assert_eq!((&object["healthy"], &object["groups"][0]["healthy"]), (&json!(false), &json!(false)));
        assert_eq!(object["health"], json!(reply.health));
    }

    #[test]
    fn a_site_without_a_group_is_still_a_row() {
        let shown = status(Lang::En, &v1::StatusReply { groups: Vec::new(), ..testing::status(Vec::new()) });
        assert!(shown.lines().nth(2).unwrap().starts_with("s-0000000000000077"), "{shown}");
    }
}
