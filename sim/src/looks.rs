//! What officers were shown of records, and what the access logs of sites say of it.
//!
//! Owns: how a look is named, alike in an answer and in a log; how often officers were answered; a reading of the logs that goes
//! on where it stopped. Leaves to others: what is asked (`officers`), and what may be concluded (`checks::reads_logged`).

use std::collections::BTreeMap;
use std::time::Duration;

use dinhba_core::access_log::{AccessEntry, LoggedAccess, Looked};
use dinhba_core::ids::{GroupId, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, GroupState};
use dinhba_core::store::StateView;

use crate::country::Country;
use crate::state::engine;
use crate::trace::SitePlace;

/// Whose log has to have a look.
pub type Log = (SitePlace, GroupId);

/// A look at a record, or at a whole shard: who, in which way, at what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look {
    /// What the log calls the person.
    pub person: String,
    /// The word for the kind of look.
    pub looked: &'static str,
    /// The record, or the shard of which nothing particular was asked.
    pub about: [u8; 16],
}

/// A shard as what a look is about.
#[must_use]
pub fn whole(shard: ShardId) -> [u8; 16] {
    u128::from(shard.0).to_be_bytes()
}

impl Look {
    /// An entry's look. A search is about no record: what it shows has entries of its own.
    #[must_use]
    pub fn of(entry: &AccessEntry) -> Self {
        let about = match (entry.looked, entry.shard) {
            (Looked::Find, _) => [0; 16],
            (_, Some(shard)) if entry.subject == [0; 16] => whole(shard),
            _ => entry.subject,
        };
        Look { person: entry.claims.subject.to_string(), looked: entry.looked.name(), about }
    }
}

/// How often each look was answered, or stands in a log.
pub type Counts = BTreeMap<Look, u64>;

/// Everything that was shown.
#[derive(Default)]
pub struct Looks {
    /// How often answers showed something, by the log that has to have it.
    pub shown: BTreeMap<Log, Counts>,
    /// Answers at whose coming the site's logs had less than was shown by then, with the time.
    pub early: Vec<(Log, Look, Duration)>,
    /// How far each log was read, and what is there.
    read: BTreeMap<Log, (u64, Counts)>,
}

impl Looks {
    /// An answer came that shows what this look is about.
    pub fn answered(&mut self, country: &Country, log: Log, look: Look) {
        let shown = self.shown.entry(log).or_default().entry(look.clone()).or_default();
        *shown += 1;
        let shown = *shown;
        if self.logged(country, log, &look, shown) < shown {
            self.early.push((log, look, country.simulator().now()));
        }
    }

    /// How often a look stands in a log by now, going by the node that has most of it; read on only if more is wanted than
    /// was read.
    fn logged(&mut self, country: &Country, log: Log, look: &Look, wanted: u64) -> u64 {
        let (read, counts) = self.read.entry(log).or_default();
        if counts.get(look).is_none_or(|count| *count < wanted) {
            for node in country.machines_of(log.0) {
                read_on(&*engine(country, node), log.1, read, counts);
            }
        }
        counts.get(look).copied().unwrap_or_default()
    }
}

/// Reads what a log has beyond what was read.
fn read_on(view: &dyn StateView, group: GroupId, read: &mut u64, counts: &mut Counts) {
    let keys = Keys(group);
    let Ok(Some(state)) = registry::read::<GroupState>(view, &keys.group()) else { return };
    for number in *read + 1..=state.access_count {
        let Ok(Some(logged)) = registry::read::<LoggedAccess>(view, &keys.access(number)) else { return };
        add(counts, &logged);
        *read = number;
    }
}

/// Counts an entry, if the look was allowed.
pub fn add(counts: &mut Counts, logged: &LoggedAccess) {
    if logged.allowed {
        *counts.entry(Look::of(&logged.entry)).or_default() += 1;
    }
}
