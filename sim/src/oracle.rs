//! What the people of a run were told: the only source from which the checks know what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dinhba_core::ids::{Hash, RecordId, RequestId, ShardId};
use dinhba_core::number::PersonNumber;
use dinhba_core::units::Unit;

use crate::history::History;
use crate::looks::Looks;
use crate::trace::SitePlace;

/// An edit that somebody was told is accepted.
#[derive(Debug, Clone)]
pub struct Told {
    /// When he asked first: it was accepted later.
    pub asked: Duration,
    /// When he was told.
    pub at: Duration,
    /// By which site.
    pub site: SitePlace,
    /// The shard.
    pub shard: ShardId,
    /// The hash of its last edit.
    pub hash: Hash,
    /// How many edits it has.
    pub count: u32,
    /// The records of its parts.
    pub records: Vec<RecordId>,
}

/// A loss that the promises do not cover: a site of one node lost its disk, or got an old copy of it.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Where.
    pub site: SitePlace,
    /// When the disk was lost.
    pub at: Duration,
    /// Edits that another site held then, or the copy: these must be there ever after.
    pub held_elsewhere: BTreeSet<Hash>,
}

/// Everything that people were told.
#[derive(Default)]
pub struct Ledger {
    /// Accepted edits, by request.
    pub told: BTreeMap<RequestId, Told>,
    /// Personal numbers that officers were told were given, by which requests.
    pub numbers: BTreeMap<PersonNumber, BTreeSet<RequestId>>,
    /// A second answer to a request that differs from the first.
    pub contradictions: Vec<String>,
    /// Requests on single fields, for linearizability.
    pub history: History,
    /// What officers were shown, for the access logs.
    pub looks: Looks,
    /// Households that exist for sure, each with its members, by shard.
    pub households: BTreeMap<ShardId, Vec<(RecordId, Vec<RecordId>)>>,
    /// Records that exist for sure, by shard, in the order in which they were registered.
    pub records: BTreeMap<ShardId, Vec<RecordId>>,
    /// Sites that registered somebody under the name that all have, and in which shard.
    pub registered: BTreeSet<(SitePlace, ShardId)>,
    /// Units that the centre was told it made.
    pub units: BTreeMap<RequestId, Unit>,
    /// Years of which the centre was told that it said the holidays.
    pub holidays: BTreeMap<RequestId, u16>,
    /// Fields on which the search for an order gave up.
    pub undecided: usize,
    /// The last value given out.
    pub values: u64,
    /// Losses beyond the promises.
    pub losses: Vec<Loss>,
    /// Sites whose history began anew, and when: what a field is after a loss cannot follow from what it was before.
    pub breaks: Vec<(SitePlace, Duration)>,
}

impl Ledger {
    /// Whether the promises cover this edit: it was not lost with a disk that alone held it. What was asked before and
    /// told after may have been accepted before. Once the site that accepted it lost it, whoever holds it may lose it too.
    #[must_use]
    pub fn is_covered(&self, told: &Told) -> bool {
        let mut at_home = self.losses.iter().filter(|loss| loss.site == told.site && told.asked <= loss.at);
        let lost_at_home = at_home.clone().map(|loss| loss.at).min();
        let later = |loss: &&Loss| lost_at_home.is_some_and(|lost| told.at <= loss.at && lost <= loss.at);
        let mut elsewhere = self.losses.iter().filter(|loss| loss.site != told.site).filter(later);
        let is_held = |loss: &Loss| loss.held_elsewhere.contains(&told.hash);
        at_home.all(is_held) && elsewhere.all(is_held)
    }
}

/// The ledger of a run; clones are the same.
#[derive(Clone, Default)]
pub struct Oracle(Arc<Mutex<Ledger>>);

impl Oracle {
    /// Looks at it.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an acceptance; a second one of the same request must say the same.
    pub fn accepted(&self, request: RequestId, told: Told) {
        let mut ledger = self.ledger();
        match ledger.told.get(&request) {
            Some(before) if before.hash != told.hash || before.count != told.count => {
                let text = format!("request {request} was accepted twice, as {} and as {}", before.hash, told.hash);
                ledger.contradictions.push(text);
            }
            Some(_) => {}
            None => {
                ledger.told.insert(request, told);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_owed_while_a_disk_is_left_that_should_hold_it() {
        let (home, above) = (5, 3);
        let hash = Hash([7; 32]);
        let at = Duration::from_secs;
        let told =
            Told { asked: at(10), at: at(11), site: home, shard: ShardId(1), hash, count: 1, records: Vec::new() };
        let loss =
            |site, second, held: &[Hash]| Loss { site, at: at(second), held_elsewhere: held.iter().copied().collect() };
        let is_owed = |losses: &[Loss]| Ledger { losses: losses.to_vec(), ..Ledger::default() }.is_covered(&told);
        assert!(is_owed(&[]));
        assert!(!is_owed(&[loss(home, 20, &[])]), "nobody else had it");
        assert!(is_owed(&[loss(home, 20, &[hash])]), "the site above had it");
        assert!(!is_owed(&[loss(home, 20, &[hash]), loss(above, 30, &[])]), "until it lost it too");
        assert!(is_owed(&[loss(above, 20, &[])]), "its own site still has it, whatever it has shown");
        assert!(is_owed(&[loss(above, 15, &[]), loss(home, 20, &[hash])]));
        assert!(is_owed(&[loss(home, 5, &[])]), "it was accepted after the loss");
    }
}
