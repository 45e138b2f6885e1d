//! The promises that can be checked, by their words in files.

use super::word;

/// A check, one file each in `checks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What clients of a site saw could have come from one register at a time.
    Linearizable,
    /// Nodes of a group are equal byte for byte at equal applied index.
    ReplicasAgree,
    /// Every author's edits are chained without a gap.
    ChainsHold,
    /// After healing, all sites of a shard hold the same.
    Converges,
    /// What was acknowledged is visible, replaced by who had seen it, in conflict, or held.
    NothingLost,
    /// Heads, terms and finality never go back.
    NeverBack,
    /// After healing, everything works within [`Scenario::settles_within`](super::Scenario::settles_within).
    Alive,
    /// No site states edits that it does not hold.
    StatementsTrue,
    /// A link that was cut goes on where it stood.
    LinksGoOn,
    /// A site that lost nothing keeps its incarnation.
    NamesStay,
    /// Whatever showed a record is in the access log, and was there before.
    ReadsLogged,
    /// What a replica keeps beside its edits follows from them.
    DigestsTrue,
    /// What nodes take for the directory is what was said of it.
    DirectoryTrue,
    /// No replica shows a part of a command.
    CommandsWhole,
    /// Nobody's edits are another's.
    NothingForged,
    /// What callers and thieves leave behind stays within its bounds.
    BoundsHold,
    /// No personal number is two persons'.
    NumbersOnce,
}

impl Promise {
    /// All, with their words in files.
    pub const ALL: [(&'static str, Promise); 17] = [
        ("linearizable", Promise::Linearizable),
        ("replicas_agree", Promise::ReplicasAgree),
        ("chains_hold", Promise::ChainsHold),
        ("converges", Promise::Converges),
        ("nothing_lost", Promise::NothingLost),
        ("never_back", Promise::NeverBack),
        ("alive", Promise::Alive),
        ("statements_true", Promise::StatementsTrue),
        ("links_go_on", Promise::LinksGoOn),
        ("names_stay", Promise::NamesStay),
        ("reads_logged", Promise::ReadsLogged),
        ("digests_true", Promise::DigestsTrue),
        ("directory_true", Promise::DirectoryTrue),
        ("commands_whole", Promise::CommandsWhole),
        ("nothing_forged", Promise::NothingForged),
        ("bounds_hold", Promise::BoundsHold),
        ("numbers_once", Promise::NumbersOnce),
    ];

    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        word(&Self::ALL, self)
    }
}
