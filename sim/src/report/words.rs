//! What kinds, promises and parts of a run mean, for somebody who did not write them.

use dinhba_core::units::Tier;

use crate::run::NO_PANIC;
use crate::scenario::Work;

/// A promise.
pub(super) fn promise(name: &str) -> &'static str {
    match name {
        "linearizable" => {
            "What officers at one site saw and were told fits one order of all their requests, as if there were one register."
        }
        "replicas_agree" => "The nodes of a site that have applied the same log hold the same bytes.",
        "chains_hold" => "Each author's edits form a chain of hashes without a gap.",
        "converges" => {
            "After healing, all sites that hold a commune's records, or what a unit above says, hold the same edits and the same records."
        }
        "nothing_lost" => {
            "What an officer was told is accepted is there: visible, replaced by somebody who had seen it, or in conflict."
        }
        "never_back" => "Heads, terms and finality never go back.",
        "alive" => {
            "Once everything is healed, all sites come back in step and accept a fresh edit, within the time that the scenario gives."
        }
        "statements_true" => "No site states that it holds edits which it does not hold.",
        "links_go_on" => "A link that was cut goes on where it stood, instead of sending everything again.",
        "names_stay" => "A site that lost nothing goes on under its name, its incarnation.",
        "reads_logged" => "Whatever showed a record is in the access log, and was there before.",
        "digests_true" => "Hashes, digests, counts and records are what the edits make.",
        "directory_true" => "What nodes take for the directory of sites is what was said of it.",
        "commands_whole" => "What was entered in one go is nowhere seen in part.",
        "nothing_forged" => "Nobody's edits are another's, whoever has whose key.",
        "numbers_once" => "No personal number was given to two persons, and none was granted to two sites.",
        "bounds_hold" => "What callers and thieves leave behind stays within its bounds.",
        NO_PANIC => "The program does not stop with a panic.",
        _ => "A promise of a later capability.",
    }
}

/// A kind of fault.
pub(super) fn fault(kind: &str) -> &'static str {
    match kind {
        "dark" => "sites without any line: they work on alone",
        "cut" => "the line between two places is cut",
        "cut_one_way" => "one direction of a line is cut",
        "slow" => "a thin and long line",
        "flap" => "a line that is cut and whole in turn",
        "lossy" => "connections break at random",
        "crash" => "power cut: unflushed data is lost",
        "kill" => "the process is killed, the disk stays",
        "older" => "the node runs an older program for a while",
        "crash_loop" => "power cuts one after the other",
        "pause" => "the machine stands still and does not know it",
        "isolate" => "no line to the other nodes of the site",
        "gone" => "the machine never comes back",
        "rot" => "bits flip in old data",
        "slow_disk" => "flushes take long",
        "full_disk" => "nothing more fits on the disk",
        "failing_disk" => "writes fail",
        "lose_disk" => "the disk is lost; the site starts anew",
        "restore" => "the disk comes back as an old copy",
        "forget_vote" => "a node comes back empty; it must be refused",
        "clock" => "the wall clock is wrong",
        "drift" => "the clocks run at the wrong pace",
        "add_node" => "an operator adds a node",
        "remove_node" => "an operator removes a node",
        "replace_node" => "an operator replaces a node",
        "transfer_leader" => "leaders hand over",
        "snapshot" => "all nodes take a snapshot now",
        "raise_level" => "an operator raises the feature level",
        "add_site" => "a commune's site is added and founded",
        "rekey_site" => "operators give a site another key",
        "move_site" => "operators link a site below another one",
        "thief" => "somebody who stole a site's key speaks in its name",
        _ => "",
    }
}

/// The colour class of a kind of fault.
pub(super) fn fault_class(kind: &str) -> &'static str {
    match kind {
        "dark" | "cut" | "cut_one_way" | "slow" | "flap" | "lossy" | "isolate" => "f-net",
        "rot" | "slow_disk" | "full_disk" | "failing_disk" | "lose_disk" | "restore" | "forget_vote" => "f-disk",
        "clock" | "drift" => "f-clock",
        "add_node" | "remove_node" | "replace_node" | "transfer_leader" | "snapshot" | "raise_level" | "add_site"
        | "rekey_site" | "move_site" => "f-ops",
        _ => "f-node",
    }
}

/// A part of a run.
pub(super) fn phase(name: &str) -> &'static str {
    match name {
        "forming" => "the sites are founded",
        "safety" => "officers work, faults happen",
        "healing" => "faults are over, the tree comes back in step",
        "judging" => "the promises are judged",
        _ => "",
    }
}

/// What an officer does.
pub(super) fn work(work: Work) -> &'static str {
    match work {
        Work::Births => "registers births",
        Work::Cards => "issues identity cards",
        Work::Shared => "edits a field that other tiers edit too",
        Work::Mixed => "does a bit of everything",
        Work::Reads => "looks at records in all ways",
        Work::Families => "registers households, and changes several records at once",
        Work::Newborns => "files births",
        Work::Events => "files events: births, deaths, marriages, corrections",
        Work::Sites => "says where sites are reached, for all below",
        Work::Units => "makes communes, for the whole country",
        Work::Worst => "does all that a caller may and nobody should",
    }
}

/// A level of the tree, of one site.
pub(super) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Central => "centre",
        Tier::Province => "province",
        Tier::District => "district",
        Tier::Commune => "commune",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Promise, What};

    #[test]
    fn every_kind_and_promise_is_explained() {
        assert!(What::KINDS.iter().all(|kind| !fault(kind).is_empty()));
        let later = promise("of a later capability");
        assert!(Promise::ALL.iter().all(|(name, _)| promise(name) != later));
    }
}
