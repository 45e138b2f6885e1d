//! All ways in which an officer looks at records; what he was shown goes into the oracle, for the access log. What his site accepted
//! before he asked, by whichever node, it knows: its request, and whoever was registered.
//!
//! Limit: answers that show nothing are not counted, though the log has those looks too.

use std::collections::BTreeSet;
use std::time::Duration;

use dinhba_client::{Error, Find};
use dinhba_core::access_log::Looked;
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_node::runtime;
use dinhba_proto::v1;
use futures::StreamExt;
use tonic::Code;

use super::{FILE_NUMBER, MOBILE, Officer};
use crate::looks::{Look, whole};

/// How long an officer follows the change feed.
const WATCHED: Duration = Duration::from_secs(3);

/// Entries of the feed after which he has seen enough.
const WATCHED_MAX: usize = 40;

/// Edits back from the end of a shard at which he begins to follow it.
const WATCHED_BACK: u64 = 20;

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Refused { code: Code::NotFound, .. })
}

impl Officer {
    /// One look: half of them at one record.
    pub(super) async fn look(&self, shard: ShardId, known: &[RecordId]) {
        let record = known[self.pick(known.len())];
        match self.pick(14) {
            0 => self.search(shard).await,
            1 => self.history(record).await,
            2 => self.conflicts(shard).await,
            3 => self.watch(shard).await,
            4 => drop(self.export(shard).await),
            5 => self.members(shard).await,
            6 => self.households(shard).await,
            pick => {
                let subject = if pick.is_multiple_of(2) { FILE_NUMBER } else { MOBILE };
                let _ = self.read(record, subject).await;
            }
        }
    }

    /// An answer showed something of a shard: its group's log has to have it.
    pub(super) fn was_shown(&self, looked: Looked, shard: &str, about: [u8; 16]) {
        let Ok(shard) = shard.parse() else { return };
        let Some(group) = self.country.sites()[self.site].group_of(shard) else { return };
        let look = Look { person: self.subject.clone(), looked: looked.name(), about };
        self.oracle.ledger().looks.answered(&self.country, (self.site, group), look);
    }

    /// What a page shows beside what was asked for.
    fn were_shown(&self, records: &[v1::Record]) {
        for record in records {
            if let Ok(id) = record.id.parse::<RecordId>() {
                self.was_shown(Looked::Shown, &record.shard, id.0);
            }
        }
    }

    async fn search(&self, shard: ShardId) {
        let home = if self.pick(2) == 0 { self.country.home(shard) } else { None };
        let unit = home.map(|unit| unit.to_string()).unwrap_or_default();
        let find = Find { unit, ..Find::by_name("nguyen thi lan", "1990-03-08") };
        let is_registered = self.oracle.ledger().registered.contains(&(self.site, shard));
        let found = self.client.find(&self.context, &find).await;
        let is_nobody = match &found {
            Ok(page) => page.records.is_empty() && page.next.is_empty(),
            Err(error) => is_not_found(error),
        };
        if is_registered && is_nobody && !self.forgets() {
            let text = format!("nobody is found in {shard}, where somebody was registered: {:?}", found.as_ref().err());
            self.oracle.ledger().contradictions.push(text);
        }
        let Ok(found) = found else { return };
        if found.records.iter().any(|record| record.shard == shard.to_string()) {
            self.was_shown(Looked::Find, &shard.to_string(), [0; 16]);
        }
        self.were_shown(&found.records);
    }

    /// Asks how far up the newest acceptance of his site is held, at whichever node.
    pub(super) async fn ask_held(&self) {
        let newest = {
            let ledger = self.oracle.ledger();
            let here = ledger.told.iter().filter(|(_, told)| told.site == self.site);
            here.max_by_key(|(_, told)| told.at).map(|(request, told)| (*request, told.shard))
        };
        let Some((request, shard)) = newest else { return };
        let client = if self.pick(2) == 0 { &self.client } else { &self.second };
        let asked = client.held(request, Some(shard)).await;
        if asked.is_err_and(|error| is_not_found(&error)) && !self.forgets() {
            let text = format!(
                "{request} was accepted, and who asks how far up it is held is told that there is no such request"
            );
            self.oracle.ledger().contradictions.push(text);
        }
    }

    async fn history(&self, record: RecordId) {
        let Ok(entries) = self.client.history(&self.context, record).await else { return };
        let Some(shard) = self.shard_of(record).filter(|_| !entries.is_empty()) else { return };
        self.was_shown(Looked::History, &shard.to_string(), record.0);
    }

    fn shard_of(&self, record: RecordId) -> Option<ShardId> {
        let ledger = self.oracle.ledger();
        ledger.records.iter().find(|(_, records)| records.contains(&record)).map(|(shard, _)| *shard)
    }

    async fn conflicts(&self, shard: ShardId) {
        let Ok(listed) = self.client.conflicts(&self.context, Some(shard), &[]).await else { return };
        let shown: BTreeSet<RecordId> =
            listed.conflicts.iter().filter_map(|conflict| conflict.record.parse().ok()).collect();
        if !shown.is_empty() {
            self.was_shown(Looked::Conflicts, &shard.to_string(), whole(shard));
        }
        shown.into_iter().for_each(|record| self.was_shown(Looked::Shown, &shard.to_string(), record.0));
    }

    /// Follows the feed for a while, from some edits back.
    async fn watch(&self, shard: ShardId) {
        // Where the feed stands, an extract tells; what it shows of records is counted too.
        let Some(from) = self.export(shard).await else { return };
        let mut feed =
            std::pin::pin!(self.client.watch(&self.context, Some(shard), from.saturating_sub(WATCHED_BACK).max(1)));
        let (ends, mut shown) = (runtime::now() + WATCHED, BTreeSet::new());
        for _ in 0..WATCHED_MAX {
            let left = ends - runtime::now();
            let Ok(Some(Ok(entry))) = runtime::timeout(left, feed.next()).await else { return };
            // A page logs a record once, however many of its edits it has.
            let Ok(record) = entry.record.parse::<RecordId>() else { continue };
            if shown.is_empty() {
                self.was_shown(Looked::Watch, &shard.to_string(), whole(shard));
            }
            if shown.insert(record) {
                self.was_shown(Looked::Watch, &shard.to_string(), record.0);
            }
        }
    }

    /// Takes all records of a shard out; where the feed goes on from there.
    async fn export(&self, shard: ShardId) -> Option<u64> {
        let mut pages = std::pin::pin!(self.client.export(&self.context, Some(shard)));
        let mut from = None;
        while let Some(Ok(page)) = pages.next().await {
            if from.is_none() {
                self.was_shown(Looked::Export, &shard.to_string(), whole(shard));
            }
            from = Some(page.watch_from);
        }
        from
    }

    async fn members(&self, shard: ShardId) {
        let Some((household, members)) = self.a_household(shard) else { return };
        // It may not have come here yet.
        let Ok(found) = self.client.members(&self.context, household, &[]).await else { return };
        self.was_shown(Looked::Members, &shard.to_string(), household.0);
        self.were_shown(&found.records);
        let there: BTreeSet<&str> = found.records.iter().map(|record| record.id.as_str()).collect();
        // Nobody of these moves out, and a household is registered with its members in one command.
        let missing = members.iter().filter(|member| !there.contains(member.to_string().as_str())).count();
        if missing > 0 {
            let text = format!("of the {} members of a household, {missing} are not shown", members.len());
            self.oracle.ledger().contradictions.push(text);
        }
    }

    async fn households(&self, shard: ShardId) {
        let Some((_, members)) = self.a_household(shard) else { return };
        let person = members[self.pick(members.len())];
        let Ok(found) = self.client.households(&self.context, person, &[]).await else { return };
        self.was_shown(Looked::Households, &shard.to_string(), person.0);
        self.were_shown(&found.records);
    }

    fn a_household(&self, shard: ShardId) -> Option<(RecordId, Vec<RecordId>)> {
        let households = self.oracle.ledger().households.get(&shard).cloned().unwrap_or_default();
        let place = self.pick(households.len());
        households.get(place).cloned()
    }
}
