//! A province that registers births: so many communes, each with an officer who files one after the other, while lines are cut and machines
//! are killed at random. What it is for: that of very many births none gets another one's number, and no number is lost from the ledger.
//!
//! Promises: equal arguments give equal scenarios, which can be run. Nobody loses a disk: whoever goes on from an old copy may give a number
//! again, and what becomes of that is for other scenarios.

use std::time::Duration;

use dinhba_core::units::{BEFORE_REFORM, Tier};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::scenario::{
    CENTRE, Fault, Knobs, Network, NodeRef, NodesPerTier, Officer, Place, Promise, Scenario, Tree, What, Which, Work,
    directory, unit,
};

/// From one birth to the next, at each commune.
const EVERY: Duration = Duration::from_secs(1);
/// Nothing goes wrong earlier: the first blocks are on their way.
const CALM: Duration = Duration::from_secs(10);
/// Births of a commune of which some are filed while the machine is off, so that more time than for all of them is needed.
const SPARE: u32 = 8;
/// The shortest outage.
const SHORTEST: Duration = Duration::from_secs(1);
/// Communes of which one may lose its line, or its machine, up to so often.
const OUTAGES_MAX: u64 = 3;

/// The province with the most communes (Thanh Hóa).
pub const COMMUNES_MAX: usize = 255;

/// Its code.
const PROVINCE: &str = "38";

/// The scenario: `births` among `communes`, which share them evenly.
#[must_use]
pub fn scenario(communes: usize, births: u32, seed: u64) -> Scenario {
    let tree = tree(communes.clamp(1, COMMUNES_MAX));
    let each = births.div_ceil(u32::try_from(tree.communes.len()).unwrap_or(u32::MAX)).max(1);
    let lasts = CALM + EVERY * (each + each.div_ceil(SPARE));
    let officer = |code: &String| Officer {
        at: code.clone(),
        shards: vec![code.clone()],
        every: EVERY,
        starts: Duration::ZERO,
        edits: each,
        does: Work::Newborns,
        impatient: false,
    };
    Scenario {
        name: format!("births_{seed}"),
        about: format!(
            "{births} births in {} communes of a province, whose lines and machines fail at random.",
            tree.communes.len()
        ),
        seed,
        lasts,
        settles_within: Duration::from_secs(30 * 60),
        beyond_promises: false,
        knobs: Knobs { link_backoff_max: Duration::from_secs(5), snapshot_every: 5_000, ..Knobs::default() },
        network: Network { bits_per_second: 0, ..Network::default() },
        officers: tree.communes.iter().map(officer).collect(),
        faults: faults(&tree, lasts, seed),
        promises: vec![Promise::NumbersOnce, Promise::DigestsTrue, Promise::NothingLost, Promise::Converges],
        tree,
    }
}

/// The first communes of the province, with their districts.
fn tree(communes: usize) -> Tree {
    let inside = |code: &str, tier| {
        let units = unit(code).map(|above| directory().descendants(above.id, tier, BEFORE_REFORM)).unwrap_or_default();
        units.into_iter().map(|unit| unit.code.clone())
    };
    let communes: Vec<String> = inside(PROVINCE, Tier::Commune).take(communes).collect();
    let mut tree = Tree {
        province: PROVINCE.to_owned(),
        districts: Vec::new(),
        communes: Vec::new(),
        nodes: NodesPerTier { central: 1, province: 3, district: 1, commune: 1 },
    };
    let mut districts: Vec<String> = communes.iter().filter_map(|commune| tree.parent_of(commune)).collect();
    districts.sort();
    districts.dedup();
    tree.districts = districts;
    tree.communes = communes;
    tree
}

/// Lines that are down up to a third of the time, machines that are killed, and the province's leader who dies once.
fn faults(tree: &Tree, lasts: Duration, seed: u64) -> Vec<Fault> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u64| random.next_u64() % bound.max(1);
    let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut faults = Vec::new();
    let mut add = |below: &mut dyn FnMut(u64) -> u64, most: Duration, what: What| {
        let at = CALM + Duration::from_millis(below(ms(lasts.saturating_sub(CALM + SHORTEST))));
        let longest = most.min(lasts.saturating_sub(at + SHORTEST));
        faults.push(Fault { at, lasts: Some(SHORTEST + Duration::from_millis(below(ms(longest)))), what });
    };
    for district in &tree.districts {
        let (a, b) = (Place::Site(district.clone()), Place::Site(tree.province.clone()));
        add(&mut below, lasts / 4, What::Cut { a, b });
    }
    for commune in &tree.communes {
        let above = tree.parent_of(commune).unwrap_or_else(|| CENTRE.to_owned());
        for _ in 0..below(OUTAGES_MAX + 1) {
            let (a, b) = (Place::Site(commune.clone()), Place::Site(above.clone()));
            add(&mut below, lasts / 3, What::Cut { a, b });
        }
        if below(OUTAGES_MAX) == 0 {
            let node = NodeRef { site: commune.clone(), which: Which::Number(1) };
            add(&mut below, Duration::from_secs(10), What::Kill { node });
        }
    }
    let node = NodeRef { site: tree.province.clone(), which: Which::Leader };
    add(&mut below, Duration::from_secs(20), What::Kill { node });
    faults.sort_by_key(|fault| fault.at);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;

    #[test]
    fn of_births_in_a_province_whose_lines_fail_none_gets_anothers_number() {
        let scenario = scenario(12, 480, 7);
        assert_eq!(scenario.check(), Ok(()));
        let outcome = run::guarded(&scenario, None);
        assert_eq!(outcome.violations, []);
        // At once, that is; who had to wait has one in the end, as `converges` asks.
        assert!(outcome.figures["accepted"] >= 480 && outcome.figures["numbers"] >= 400, "{:?}", outcome.figures);
    }

    #[test]
    fn the_largest_can_be_run() {
        assert_eq!(scenario(COMMUNES_MAX, 200_000, 1).check(), Ok(()));
    }
}
