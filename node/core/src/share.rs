//! Shares: how much each site has written into a record, and what counts of a site that writes too much.
//!
//! A site's signature lets its neighbours fold whatever it wrote, and a merge may not refuse by the size of what is there:
//! that depends on what came first. So edits are counted, not records. What an edit costs is a function of the edit alone,
//! and a site's share is the sum over its edits of the record: a function of the set of edits, which never falls.
//!
//! Once a share is above [`FLOOD_BYTES`], the site *floods* the record. From then on only the first edits of each of its
//! lives count, in the order of (number, hash), up to [`LIFE_BYTES_MAX`]; the others are set aside. This order too depends
//! on the set alone, however a chain branches, and an edit that is out stays out: whatever comes can only push further ones
//! out. Of most edits of a flooding site it shows at once that they are out ([`Shares::is_out`]), so they cost no folding.
//!
//! The bytes: for each site the site, then its share; a share that floods is a zero and its lives.
//!
//! Limits. An edit that is set aside for its level, kind or value is in no share until it is folded. What another site
//! wrote over values of edits that are out stays as it is: it waits for them.

use std::collections::BTreeMap;

use crate::edit::{Change, Edit, GROUNDS};
use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::{AuthorId, Hash, SiteId};
use crate::wire_struct;

/// The share above which a site floods a record. As a value of an engine a share takes at most four times its cost, and in an
/// answer, with names and labels, up to four times too: a message takes one. It is a third above what a site may write at its own
/// door, for what one writes twice that came back from a backup.
pub const FLOOD_BYTES: u64 = 512 * 1024;

/// What counts of each life of a site that floods a record: a person with its cards and papers as they were registered. All
/// lives that a site may have make no more of it than its share may be otherwise.
pub const LIFE_BYTES_MAX: u64 = 2 * 1024;

/// What a site may write into one record at its own door: 10,000 edits of a word each. So it never floods one, unless its
/// key is in wrong hands.
pub const SHARE_BYTES_MAX: u64 = 384 * 1024;

/// What a change costs beside what it says: a dot, a place and some lengths.
const CHANGE_BYTES: u64 = 24;

/// What an edit adds to its site's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Its author's site.
    pub site: SiteId,
    /// Its author.
    pub life: AuthorId,
    /// Its cost.
    pub bytes: u64,
}

impl Weight {
    /// Of changes by an author. Each value that they replace costs as much as a key: they may name what there is not, and
    /// the record remembers it.
    #[must_use]
    pub fn new(site: SiteId, life: AuthorId, changes: &[Change]) -> Self {
        let of_change = |change: &Change| {
            let keys = change.overwrites.len().max(1) as u64;
            keys * (CHANGE_BYTES + change.element.len() as u64) + change.value.len() as u64
        };
        let bytes: u64 = changes.iter().filter(|change| change.field != GROUNDS).map(of_change).sum();
        Weight { site, life, bytes: bytes.max(CHANGE_BYTES) }
    }

    /// Of an edit, as its author wrote it.
    #[must_use]
    pub fn of(edit: &Edit) -> Self {
        Weight::new(edit.header.author.site, edit.dot().actor, &edit.changes)
    }
}

/// Where an edit stands among those of its life: by its number, and where a chain branches by its hash.
pub type Rank = (u64, Hash);

/// What of a life counts in a record that its site floods.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    /// The cost of its edits that count.
    bytes: u64,
    /// Its first edit that does not; none if all do.
    cut: Option<Rank>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    /// All counts; its cost.
    Within(u64),
    Flooding(BTreeMap<AuthorId, Life>),
}

/// The shares of all sites that wrote a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares(BTreeMap<SiteId, Share>);

impl Shares {
    /// What a site has written, in bytes of cost; none if it floods the record.
    #[must_use]
    pub fn written(&self, site: SiteId) -> Option<u64> {
        match self.0.get(&site) {
            None => Some(0),
            Some(Share::Within(bytes)) => Some(*bytes),
            Some(Share::Flooding(_)) => None,
        }
    }

    /// Whether an edit is out by what is known already: it changes nothing of the record, wherever its chain branches.
    #[must_use]
    pub fn is_out(&self, weight: &Weight, rank: &Rank) -> bool {
        match self.0.get(&weight.site) {
            Some(Share::Flooding(lives)) => {
                lives.get(&weight.life).and_then(|life| life.cut.as_ref()).is_some_and(|cut| cut <= rank)
            }
            _ => false,
        }
    }

    /// Whether an edit that ranks last in its life counts, and all others that do go on doing so.
    #[must_use]
    pub fn takes(&self, weight: &Weight) -> bool {
        match self.0.get(&weight.site) {
            None => weight.bytes <= FLOOD_BYTES,
            Some(Share::Within(bytes)) => bytes.saturating_add(weight.bytes) <= FLOOD_BYTES,
            Some(Share::Flooding(lives)) => {
                let (bytes, is_cut) =
                    lives.get(&weight.life).map_or((0, false), |life| (life.bytes, life.cut.is_some()));
                !is_cut && bytes.saturating_add(weight.bytes) <= LIFE_BYTES_MAX
            }
        }
    }

    /// Adds an edit that is taken.
    pub fn add(&mut self, weight: &Weight) {
        debug_assert!(self.takes(weight));
        match self.0.entry(weight.site).or_insert(Share::Within(0)) {
            Share::Within(bytes) => *bytes += weight.bytes,
            Share::Flooding(lives) => lives.entry(weight.life).or_default().bytes += weight.bytes,
        }
    }

    /// The shares by all edits of a record, and of each of them whether it counts. Those that were out by `before` are not
    /// among them. In the order of the edits.
    #[must_use]
    pub fn count(before: &Shares, edits: &[(Weight, Rank)]) -> (Shares, Vec<bool>) {
        let mut by_site: BTreeMap<SiteId, Vec<usize>> = BTreeMap::new();
        for (at, (weight, _)) in edits.iter().enumerate() {
            by_site.entry(weight.site).or_default().push(at);
        }
        // Of a site that floods, all may be out already.
        let flooding = before.0.iter().filter(|(_, share)| matches!(share, Share::Flooding(_)));
        for (site, _) in flooding {
            by_site.entry(*site).or_default();
        }
        let (mut shares, mut counts) = (BTreeMap::new(), vec![true; edits.len()]);
        for (site, ats) in by_site {
            let sum = ats.iter().fold(0_u64, |sum, at| sum.saturating_add(edits[*at].0.bytes));
            let share = match before.0.get(&site) {
                Some(Share::Flooding(lives)) => flood(lives, edits, ats, &mut counts),
                _ if sum > FLOOD_BYTES => flood(&BTreeMap::new(), edits, ats, &mut counts),
                _ => Share::Within(sum),
            };
            shares.insert(site, share);
        }
        (Shares(shares), counts)
    }

    /// Two states do not say what a site wrote into both: the greater counts. The registry folds edits, and merges no states.
    pub(crate) fn merge(&mut self, other: Shares) {
        for (site, share) in other.0 {
            let mine = self.0.entry(site).or_insert(Share::Within(0));
            *mine = share.max(mine.clone());
        }
    }
}

/// The share of a site that floods; marks those of its edits that are out.
fn flood(
    before: &BTreeMap<AuthorId, Life>,
    edits: &[(Weight, Rank)],
    mut ats: Vec<usize>,
    counts: &mut [bool],
) -> Share {
    let mut lives: BTreeMap<AuthorId, Life> =
        before.iter().map(|(id, life)| (*id, Life { bytes: 0, ..*life })).collect();
    ats.sort_unstable_by_key(|at| edits[*at].1);
    for at in ats {
        let (weight, rank) = edits[at];
        let life = lives.entry(weight.life).or_default();
        let bytes = life.bytes.saturating_add(weight.bytes);
        if life.cut.is_some_and(|cut| cut <= rank) || bytes > LIFE_BYTES_MAX {
            life.cut = Some(life.cut.map_or(rank, |cut| cut.min(rank)));
            counts[at] = false;
        } else {
            life.bytes = bytes;
        }
    }
    Share::Flooding(lives)
}

wire_struct! {
    Life { bytes, cut }
}

impl Wire for Share {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Share::Within(bytes) => bytes.encode(out),
            Share::Flooding(lives) => {
                0_u64.encode(out);
                lives.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u64::decode(input)? {
            0 => Ok(Share::Flooding(BTreeMap::decode(input)?)),
            bytes => Ok(Share::Within(bytes)),
        }
    }
}

impl Wire for Shares {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        BTreeMap::decode(input).map(Shares)
    }

    fn bytes_hint(&self) -> usize {
        self.0.bytes_hint()
    }
}
