//! Changes of the country's directory, by the site of a unit for all sites below it.
//!
//! Each is one edit of one record of a site, in the ancestor shard of the unit of the site that is asked: every site that
//! must learn of it lies on the way to that unit or below it, and every one of those has that shard. So whoever asks at the
//! centre is heard everywhere, and whoever asks at a district by the district, those above it and those below it. What
//! a higher unit said of a site is changed where it was said.

use dinhba_core::ids::{RecordId, RequestId, ShardId, SiteId, UnitId};
use dinhba_core::schema::RecordKind;
use dinhba_core::units::{Directory, Tier, Unit};
use dinhba_proto::v1;
use tonic::Code;

use crate::client::Client;
use crate::error::Error;
use crate::request::{Accepted, Context, EditBuilder};

/// Characters of a key's name in a record: enough to tell a site's keys apart, and short to read.
const KEY_NAME_CHARS: usize = 16;

/// What is to be said of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteChange {
    /// It serves a unit from now on, below another site.
    Add {
        /// The unit.
        unit: UnitId,
        /// The site above it.
        parent: SiteId,
        /// The key that verifies what it signs: 64 hex digits.
        key: String,
        /// Where its nodes are reached, if sites will be below it.
        addresses: Vec<String>,
    },
    /// It signs with another key from now on; what was signed before stays signed.
    Rekey {
        /// 64 hex digits.
        key: String,
    },
    /// A key of it verifies nothing any more.
    Revoke {
        /// 64 hex digits.
        key: String,
    },
    /// It is linked below another site from now on.
    Move {
        /// The site above it.
        parent: SiteId,
    },
    /// Where its nodes are reached from now on.
    Reach {
        /// `host:port`.
        addresses: Vec<String>,
    },
    /// It serves its unit no more. What it wrote stays.
    Retire,
}

/// An edit of the directory, and what it was made of.
#[derive(Debug)]
pub struct Drafted {
    /// The edit.
    pub edit: EditBuilder,
    /// The record that it changes, as it was read; none if it makes one.
    pub record: Option<v1::Record>,
    /// The shard that the site writes, if it is a commune's.
    pub shard: Option<ShardId>,
    /// The place file with which a site that is added is founded: itself, those above it, and others that write its shard.
    pub place_file: String,
}

impl Client {
    /// Says something of a site to all sites below the unit of the one that is asked. `again` is the request of an earlier
    /// [`SiteChange::Add`] whose outcome was not known; what came of any other change the directory shows.
    ///
    /// # Errors
    /// See [`Error`]; a refusal before anything is sent if the directory here does not allow it.
    pub async fn change_site(
        &self,
        context: &Context,
        again: Option<RequestId>,
        site: SiteId,
        change: &SiteChange,
        units: &Directory,
    ) -> Result<(Accepted, Drafted), Error> {
        let drafted = self.draft_site(context, again, site, change, units).await?;
        let accepted = match again {
            Some(request) => self.edit_again(request, &drafted.edit).await,
            None => self.edit(&self.session(), &drafted.edit).await,
        };
        Ok((accepted?, drafted))
    }

    /// The edit by which [`change_site`](Self::change_site) says it, by what the directory of the site that is asked says now; for
    /// whoever names the request himself.
    ///
    /// # Errors
    /// As of [`change_site`](Self::change_site), before anything is sent.
    pub async fn draft_site(
        &self,
        context: &Context,
        again: Option<RequestId>,
        site: SiteId,
        change: &SiteChange,
        units: &Directory,
    ) -> Result<Drafted, Error> {
        let reply = self.sites(context).await?;
        let listed = reply.sites.iter().find(|listed| listed.site == site.to_string());
        let here = listed.filter(|listed| listed.said_in == reply.ancestor_shard && !listed.record.is_empty());
        // An edit that may have been accepted is made as it was: without what it made.
        let is_own = |listed: &&v1::ListedSite| {
            again.is_some_and(|request| listed.record == RecordId::derive(request, 0).to_string())
        };
        let (listed, here) = match here.filter(is_own) {
            Some(_) if matches!(change, SiteChange::Add { .. }) => (None, None),
            _ => (listed, here),
        };
        let record = match here.map(|listed| listed.record.parse::<RecordId>()) {
            Some(Ok(record)) => Some(self.get(context, record).await?),
            _ => None,
        };
        let drafted = draft(context, site, change, &reply, listed, record.as_ref(), units)
            .map_err(|text| Error::refusal(Code::FailedPrecondition, text))?;
        Ok(Drafted { record, ..drafted })
    }
}

/// The edit that says it, or why it may not be said here.
fn draft(
    context: &Context,
    site: SiteId,
    change: &SiteChange,
    reply: &v1::SitesReply,
    listed: Option<&v1::ListedSite>,
    record: Option<&v1::Record>,
    units: &Directory,
) -> Result<Drafted, String> {
    let own: ShardId = reply.ancestor_shard.parse().map_err(|_| {
        "a commune's site says nothing to others: ask the site of a unit above it, as an operator of that unit"
            .to_owned()
    })?;
    let here: UnitId = reply.unit.parse().map_err(|_| "the site does not say which unit it serves".to_owned())?;
    let mut edit = EditBuilder::new(context);
    edit.shard(own);
    let asked = Asked { reply, here, units };
    match (change, listed) {
        (SiteChange::Add { unit, parent, key, addresses }, None) => {
            let place = asked.place_of(site, *unit, *parent)?;
            let built_in = crate::units::listed().map_err(|error| error.to_string())?;
            let path: Vec<&Unit> = units.path(*unit).into_iter().filter_map(|unit| units.get(unit)).collect();
            let place_file = place_file(reply, &place, key, &path, &built_in);
            Ok(draft_addition(edit, &place, key, addresses, place_file))
        }
        (_, None) => Err(format!("{site} is not in the directory here: see `dinhba site list`")),
        (_, Some(listed)) => {
            let unit = asked.may_speak_of(listed)?;
            draft_change(edit, change, &asked, (listed, unit), record)
        }
    }
}

/// The site that is asked: what its directory says, and its unit.
struct Asked<'a> {
    reply: &'a v1::SitesReply,
    here: UnitId,
    units: &'a Directory,
}

/// Where a new site stands.
struct SitePlace {
    site: SiteId,
    unit: UnitId,
    parent: SiteId,
    shard: Option<ShardId>,
}

impl Asked<'_> {
    /// Whether `parent` may have a site of `unit` below it.
    fn is_above(&self, parent: SiteId, unit: UnitId) -> Result<(), String> {
        let is_it = |listed: &&v1::ListedSite| listed.site == parent.to_string() && listed.state == "active";
        let found = self.reply.sites.iter().find(is_it);
        let found = found.ok_or_else(|| format!("parent: {parent} is no active site of the directory here"))?;
        match found.unit.parse::<UnitId>() {
            Ok(above) if above != unit && self.units.is_within(unit, above) => Ok(()),
            _ => Err(format!(
                "parent: {parent} serves {} {}, which is not above the site's unit",
                found.unit_code, found.unit_name
            )),
        }
    }

    /// The place of a new site, if it may have it.
    fn place_of(&self, site: SiteId, unit: UnitId, parent: SiteId) -> Result<SitePlace, String> {
        if unit == self.here || !self.units.is_within(unit, self.here) {
            return Err(
                "unit: it does not lie below the unit of the site that is asked: ask a site above it".to_owned()
            );
        }
        // Not itself: an addition that is asked for again may be there already.
        let serves = |other: &&v1::ListedSite| {
            other.site != site.to_string() && other.state == "active" && other.unit == unit.to_string()
        };
        if let Some(other) = self.reply.sites.iter().find(serves) {
            return Err(format!("unit: {} serves it already: retire that one first", other.site));
        }
        self.is_above(parent, unit)?;
        let is_commune = self.units.get(unit).is_some_and(|unit| unit.tier == Tier::Commune);
        let before = |listed: &&v1::ListedSite| listed.unit == unit.to_string() && !listed.shard.is_empty();
        let before = self.reply.sites.iter().find(before).and_then(|listed| listed.shard.parse().ok());
        let shard = is_commune.then(|| before.unwrap_or(ShardId::of_commune(unit)));
        Ok(SitePlace { site, unit, parent, shard })
    }

    /// The unit of a site of which something may be said here.
    fn may_speak_of(&self, listed: &v1::ListedSite) -> Result<UnitId, String> {
        let unit: UnitId = listed.unit.parse().map_err(|_| "the directory names no unit of the site".to_owned())?;
        let is_higher = |above: &Unit| listed.said_in == ShardId::of_unit_above(above.id).to_string();
        if let Some(above) = self.units.ancestors(self.here).find(|above| is_higher(above)) {
            return Err(format!(
                "what is known of {} was said by {} {}: ask its site",
                listed.site, above.code, above.name
            ));
        }
        if !self.units.is_within(unit, self.here) {
            return Err(format!(
                "{} serves no unit below that of the site that is asked: ask a site above it",
                listed.site
            ));
        }
        Ok(unit)
    }
}

fn draft_addition(
    mut edit: EditBuilder,
    place: &SitePlace,
    key: &str,
    addresses: &[String],
    place_file: String,
) -> Drafted {
    let SitePlace { site, unit, parent, shard } = place;
    let part = edit.create(RecordKind::Site);
    edit.set(part, "site", "", &site.to_string()).set(part, "unit", "", &unit.to_string());
    edit.set(part, "parent", "", &parent.to_string()).set(part, "state", "", "active");
    edit.set(part, "key", key_name(key), key);
    set_addresses(&mut edit, part, None, addresses);
    if let Some(shard) = shard {
        edit.set(part, "shard", "", &shard.to_string());
    }
    Drafted { edit, record: None, shard: *shard, place_file }
}

/// What a new site is founded with: the units on its way that are not built in, itself, the sites above it and all others that serve a unit
/// on its way, since they write its shard wherever they are linked; and its shard.
fn place_file(reply: &v1::SitesReply, place: &SitePlace, key: &str, path: &[&Unit], built_in: &Directory) -> String {
    let said: Vec<&Unit> = path.iter().copied().filter(|unit| built_in.get(unit.id).is_none()).collect();
    let SitePlace { site, unit, parent, shard } = place;
    let mut rows =
        vec![["kind", "id", "unit", "parent", "public_key", "code", "name", "from", "to"].map(str::to_owned)];
    let row = |kind: &str, rest: [String; 4]| {
        let [id, unit, parent, key] = rest;
        let none = String::new;
        [kind.to_owned(), id, unit, parent, key, none(), none(), none(), none()]
    };
    for unit in &said {
        let parent = unit.parent.map(|parent| parent.to_string()).unwrap_or_default();
        let mut row = row("unit", [unit.id.to_string(), String::new(), parent, String::new()]);
        let last = unit.valid_to.map(|last| last.to_string()).unwrap_or_default();
        row[5..].clone_from_slice(&[unit.code.clone(), unit.name.clone(), unit.valid_from.to_string(), last]);
        rows.push(row);
    }
    rows.push(row("site", [site.to_string(), unit.to_string(), parent.to_string(), key.to_owned()]));
    let mut next = parent.to_string();
    // An addition that is asked for again is listed itself.
    let mut left: Vec<&v1::ListedSite> = reply.sites.iter().filter(|listed| listed.site != site.to_string()).collect();
    let mut others = Vec::new();
    while let Some(at) = left.iter().position(|listed| listed.site == next) {
        // Each once, so that a ring of parents ends.
        let above = left.swap_remove(at);
        next.clone_from(&above.parent);
        others.push(above);
    }
    others.extend(left.into_iter().filter(|listed| path.iter().any(|unit| unit.id.to_string() == listed.unit)));
    for v1::ListedSite { site, unit, parent, keys, .. } in others {
        rows.extend(keys.iter().map(|key| row("site", [site, unit, parent, key].map(String::clone))));
    }
    rows.extend(shard.map(|shard| row("shard", [shard.to_string(), unit.to_string(), String::new(), String::new()])));
    // Most countries have no such units: then the file is as short as it ever was.
    let columns = if said.is_empty() { 5 } else { 9 };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        // A vector takes all that is written.
        let _ = writer.write_record(&row[..columns]);
    }
    writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

fn draft_change(
    mut edit: EditBuilder,
    change: &SiteChange,
    asked: &Asked<'_>,
    (listed, unit): (&v1::ListedSite, UnitId),
    record: Option<&v1::Record>,
) -> Result<Drafted, String> {
    let part = match record {
        Some(record) => edit.change(record),
        None => repeat(&mut edit, listed),
    };
    let site = &listed.site;
    match change {
        SiteChange::Add { .. } => return Err(format!("{site} is in the directory already: see `dinhba site list`")),
        SiteChange::Rekey { key } if listed.keys.contains(key) => {
            return Err(format!("key: {site} has it already"));
        }
        SiteChange::Rekey { key } => _ = edit.set(part, "key", key_name(key), key),
        SiteChange::Revoke { key } if !listed.keys.contains(key) => {
            return Err(format!("key: {site} has no such key: see `dinhba site list`"));
        }
        SiteChange::Revoke { key } if record.is_none() => edit.leave_out(part, "key", key_name(key)),
        SiteChange::Revoke { key } => _ = edit.set(part, "key", key_name(key), ""),
        SiteChange::Move { parent } => {
            asked.is_above(*parent, unit)?;
            edit.set(part, "parent", "", &parent.to_string());
        }
        SiteChange::Reach { addresses } => {
            listed.addresses.iter().zip(1..).for_each(|(_, at)| edit.leave_out(part, "address", &at.to_string()));
            set_addresses(&mut edit, part, record, addresses);
        }
        SiteChange::Retire => {
            let is_below = |other: &&v1::ListedSite| other.state == "active" && other.parent == listed.site;
            if let Some(child) = asked.reply.sites.iter().find(is_below) {
                return Err(format!("{} is still below {site}: move it first", child.site));
            }
            edit.set(part, "state", "", "retired");
        }
    }
    Ok(Drafted { edit, record: None, shard: listed.shard.parse().ok(), place_file: String::new() })
}

/// Says all that is known of a site of which nothing was said in this shard: what is said here counts for all of it.
fn repeat(edit: &mut EditBuilder, listed: &v1::ListedSite) -> usize {
    let part = edit.create(RecordKind::Site);
    edit.set(part, "site", "", &listed.site).set(part, "unit", "", &listed.unit);
    edit.set(part, "state", "", &listed.state);
    for (field, value) in [("parent", &listed.parent), ("shard", &listed.shard)] {
        if !value.is_empty() {
            edit.set(part, field, "", value);
        }
    }
    listed.keys.iter().for_each(|key| _ = edit.set(part, "key", key_name(key), key));
    set_addresses(edit, part, None, &listed.addresses);
    part
}

/// Under which element a key stands.
fn key_name(key: &str) -> &str {
    key.get(..KEY_NAME_CHARS).unwrap_or(key)
}

fn set_addresses(edit: &mut EditBuilder, part: usize, record: Option<&v1::Record>, addresses: &[String]) {
    let before = record.iter().flat_map(|record| &record.fields).filter(|field| field.field == "address").count();
    for at in 0..before.max(addresses.len()) {
        edit.set(part, "address", &(at + 1).to_string(), addresses.get(at).map_or("", String::as_str));
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::units::BEFORE_REFORM;

    use super::*;

    const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn context() -> Context {
        Context::parse("maintenance", "VH-1").unwrap()
    }

    fn unit(units: &Directory, code: &str) -> UnitId {
        units.by_code(code, BEFORE_REFORM).unwrap().id
    }

    fn listed(units: &Directory, site: u64, code: &str, parent: Option<u64>) -> v1::ListedSite {
        v1::ListedSite {
            site: SiteId(site).to_string(),
            unit: unit(units, code).to_string(),
            unit_code: code.to_owned(),
            parent: parent.map(|parent| SiteId(parent).to_string()).unwrap_or_default(),
            keys: vec![KEY.replace('1', "2")],
            state: "active".to_owned(),
            ..v1::ListedSite::default()
        }
    }

    /// A district below its province, with one commune, as the site of `code` tells it.
    fn reply(units: &Directory, code: &str) -> v1::SitesReply {
        let sites =
            vec![listed(units, 1, "10", None), listed(units, 2, "082", Some(1)), listed(units, 3, "02683", Some(2))];
        let here = unit(units, code);
        let is_commune = code.len() == 5;
        let ancestor_shard = if is_commune { String::new() } else { ShardId::of_unit_above(here).to_string() };
        v1::SitesReply { sites, unit: here.to_string(), ancestor_shard }
    }

    fn says(reply: &v1::SitesReply, site: u64, change: &SiteChange) -> Result<v1::EditRequest, String> {
        let units = Directory::vietnam().unwrap();
        let site = SiteId(site);
        let listed = reply.sites.iter().find(|listed| listed.site == site.to_string());
        let drafted = draft(&context(), site, change, reply, listed, None, &units)?;
        Ok(drafted.edit.build(RequestId::default(), 0))
    }

    fn add(units: &Directory, code: &str, parent: u64) -> SiteChange {
        SiteChange::Add { unit: unit(units, code), parent: SiteId(parent), key: KEY.to_owned(), addresses: Vec::new() }
    }

    #[test]
    fn an_addition_that_is_asked_for_again_is_drafted_as_it_was_though_it_is_there_already() {
        let units = Directory::vietnam().unwrap();
        let mut reply = reply(&units, "10");
        let draft = |reply: &v1::SitesReply| {
            let change = add(&units, "02686", 2);
            let drafted = draft(&context(), SiteId(4), &change, reply, None, None, &units)?;
            Ok::<_, String>(drafted.edit.build(RequestId::default(), 0))
        };
        let before = draft(&reply).unwrap();
        reply.sites.push(listed(&units, 4, "02686", Some(2)));
        assert_eq!(draft(&reply).unwrap(), before);
        reply.sites.push(listed(&units, 5, "02686", Some(2)));
        assert!(draft(&reply).unwrap_err().contains("serves it already"));
    }

    #[test]
    fn what_is_said_stands_in_the_shard_of_the_unit_that_is_asked() {
        let units = Directory::vietnam().unwrap();
        for code in ["10", "082"] {
            let reply = reply(&units, code);
            let edit = says(&reply, 4, &add(&units, "02686", 2)).unwrap();
            assert_eq!(edit.shard, reply.ancestor_shard);
            let fields: Vec<&str> = edit.parts[0].changes.iter().map(|change| change.field.as_str()).collect();
            assert_eq!(fields, ["site", "unit", "parent", "state", "key", "shard"]);
            // Of whom nothing was said yet, all that is known is said.
            let edit = says(&reply, 3, &SiteChange::Rekey { key: KEY.to_owned() }).unwrap();
            let keys = edit.parts[0].changes.iter().filter(|change| change.field == "key").count();
            assert_eq!((edit.parts[0].record.as_str(), keys), ("", 2));
        }
    }

    #[test]
    fn a_new_site_is_founded_with_those_above_it() {
        let units = Directory::vietnam().unwrap();
        let (reply, change) = (reply(&units, "10"), add(&units, "02686", 2));
        let drafted = draft(&context(), SiteId(4), &change, &reply, None, None, &units).unwrap();
        let lines: Vec<&str> = drafted.place_file.lines().collect();
        let names =
            ["kind,id", "site,s-0000000000000004", "site,s-0000000000000002", "site,s-0000000000000001", "shard,h-"];
        assert_eq!(lines.len(), names.len());
        assert!(lines.iter().zip(names).all(|(line, name)| line.starts_with(name)), "{lines:?}");
        // The province writes its shard wherever the district is linked.
        let mut moved = reply;
        moved.sites[1].parent = String::new();
        let elsewhere = draft(&context(), SiteId(4), &change, &moved, None, None, &units).unwrap();
        assert!(elsewhere.place_file.contains("site,s-0000000000000001"), "{}", elsewhere.place_file);
    }

    #[test]
    fn what_may_not_be_said_here_is_refused_with_whom_to_ask() {
        let units = Directory::vietnam().unwrap();
        let (province, district, commune) = (reply(&units, "10"), reply(&units, "082"), reply(&units, "02683"));
        let mut said_above = district.clone();
        said_above.sites[2].said_in = province.ancestor_shard.clone();
        let moved = SiteChange::Move { parent: SiteId(3) };
        for (reply, site, change, words) in [
            (&commune, 3, SiteChange::Retire, "a unit above it"),
            (&province, 3, add(&units, "02686", 2), "already"),
            (&province, 4, add(&units, "02683", 2), "serves it already"),
            (&province, 4, add(&units, "00001", 2), "does not lie below"),
            (&province, 4, add(&units, "02686", 3), "not above"),
            (&province, 4, add(&units, "02686", 9), "no active site"),
            (&district, 1, SiteChange::Retire, "ask a site above it"),
            (&said_above, 3, SiteChange::Retire, "was said by 10"),
            (&province, 2, SiteChange::Retire, "move it first"),
            (&province, 2, moved, "not above"),
            (&province, 9, SiteChange::Retire, "not in the directory"),
            (&province, 3, SiteChange::Revoke { key: KEY.to_owned() }, "no such key"),
        ] {
            let refused = says(reply, site, &change).expect_err(words);
            assert!(refused.contains(words), "{words}: {refused}");
        }
    }
}
