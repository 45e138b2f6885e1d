//! Who speaks with whom: how the links of a node are doing, and the sessions of children that it holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dinhba_core::ids::{GroupId, SiteId};
use futures::channel::oneshot;

use crate::runtime;

/// Sessions of one child with one group here: it has one for each of its groups, and another for what such a group took in since.
const SESSIONS_MAX: usize = 64;

/// How a link is doing, for the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkReport {
    /// Whether this site dialled.
    pub up: bool,
    /// Whether a session runs.
    pub connected: bool,
    /// The peer, or why there is none.
    pub detail: String,
    /// Since when, UTC milliseconds.
    pub since_ms: i64,
}

/// The links of a node, by group and peer site; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct LinkReports(Arc<Mutex<BTreeMap<(GroupId, SiteId), Kept>>>);

#[derive(Debug, Default)]
struct Kept {
    report: Option<LinkReport>,
    /// Sessions that run, or are about to go on.
    living: usize,
}

/// A session that counts as one that runs, until it is dropped.
pub(crate) struct Living {
    reports: LinkReports,
    link: (GroupId, SiteId),
    up: bool,
    /// What ended it.
    pub(crate) why: String,
}

impl LinkReports {
    /// All links, in order.
    #[must_use]
    pub fn all(&self) -> BTreeMap<(GroupId, SiteId), LinkReport> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter_map(|(link, kept)| Some((*link, kept.report.clone()?))).collect()
    }

    /// A session runs.
    pub(crate) fn begin(&self, group: GroupId, peer: SiteId, up: bool) -> Living {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry((group, peer)).or_default();
        kept.living += 1;
        kept.set((group, peer), up, true, format!("with {peer}"));
        Living { reports: self.clone(), link: (group, peer), up, why: "ended".to_owned() }
    }

    /// No session came about; where another one runs, the link is not down.
    pub(crate) fn failed(&self, group: GroupId, peer: SiteId, up: bool, why: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry((group, peer)).or_default();
        if kept.living == 0 {
            kept.set((group, peer), up, false, why);
        }
    }
}

impl Kept {
    fn set(&mut self, (group, peer): (GroupId, SiteId), up: bool, connected: bool, detail: String) {
        if self.report.as_ref().is_some_and(|old| old.connected == connected && old.detail == detail) {
            return;
        }
        // Each attempt may fail for another reason: a link that is down is said to be once.
        match (connected, self.report.as_ref().map(|old| old.connected)) {
            (true, _) => tracing::info!(%group, %peer, "link is up"),
            (false, Some(false)) => tracing::debug!(%group, %peer, detail, "link is still down"),
            (false, _) => tracing::info!(%group, %peer, detail, "link is down"),
        }
        self.report = Some(LinkReport { up, connected, detail, since_ms: runtime::utc_ms() });
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let mut all = self.reports.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = all.get_mut(&self.link) else { return };
        kept.living -= 1;
        if kept.living == 0 {
            kept.set(self.link, self.up, false, std::mem::take(&mut self.why));
        }
    }
}

/// The sessions of children at this node; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Seats>>);

/// By group and child, the last one behind.
type Seats = BTreeMap<(GroupId, SiteId), VecDeque<Seat>>;

struct Seat {
    /// What it is about, in the child's words.
    about: Vec<u8>,
    /// Dropped when another one takes its place.
    holds: oneshot::Sender<()>,
}

/// A session's place among those of its child, which is free again when it is dropped.
pub(crate) struct Seated {
    sessions: Sessions,
    link: (GroupId, SiteId),
    /// Resolves when it is taken.
    taken: oneshot::Receiver<()>,
}

impl Sessions {
    /// A place for a session of a child with a group here. Whoever has it already makes room, and of too many the first.
    pub(crate) fn sit(&self, group: GroupId, child: SiteId, about: &[u8]) -> Seated {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = all.entry((group, child)).or_default();
        seats.retain(|seat| seat.about.is_empty() || seat.about != about);
        if seats.len() >= SESSIONS_MAX {
            seats.pop_front();
        }
        let (holds, taken) = oneshot::channel();
        seats.push_back(Seat { about: about.to_vec(), holds });
        Seated { sessions: self.clone(), link: (group, child), taken }
    }
}

impl Seated {
    /// Resolves when another session has its place.
    pub(crate) async fn taken(&mut self) {
        let _ = (&mut self.taken).await;
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut all = self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seats) = all.get_mut(&self.link) {
            seats.retain(|seat| !seat.holds.is_connected_to(&self.taken));
            if seats.is_empty() {
                all.remove(&self.link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn of_the_sessions_about_the_same_shards_the_last_one_lives() {
        let (sessions, group, child) = (Sessions::default(), GroupId(1), SiteId(2));
        let mut holds = |seated: &mut Seated| (&mut seated.taken).now_or_never().is_none();
        let mut first = sessions.sit(group, child, b"one set");
        let mut other = sessions.sit(group, child, b"another set");
        let mut elsewhere = sessions.sit(GroupId(2), child, b"one set");
        let mut of_another = sessions.sit(group, SiteId(3), b"one set");
        let mut second = sessions.sit(group, child, b"one set");
        assert!(!holds(&mut first));
        drop(first);
        assert!([&mut other, &mut elsewhere, &mut of_another, &mut second].into_iter().all(&mut holds));
        // A child that gives no names has as many as one that gives many.
        let mut unnamed: Vec<Seated> = (0..SESSIONS_MAX).map(|_| sessions.sit(group, child, b"")).collect();
        assert!(!holds(&mut other) && !holds(&mut second) && unnamed.iter_mut().all(&mut holds));
        let named: Vec<Seated> =
            (0..=SESSIONS_MAX as u64).map(|set| sessions.sit(group, child, &set.to_be_bytes())).collect();
        assert!(!unnamed.iter_mut().any(holds));
        drop((named, unnamed, other, second, elsewhere, of_another));
        assert!(sessions.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_link_is_up_for_as_long_as_one_of_its_sessions_runs() {
        let (reports, group, peer) = (LinkReports::default(), GroupId(1), SiteId(2));
        let is_up = || reports.all()[&(group, peer)].connected;
        reports.failed(group, peer, true, "nobody is there".to_owned());
        assert!(!is_up());
        let first = reports.begin(group, peer, true);
        let second = reports.begin(group, peer, true);
        reports.failed(group, peer, true, "nobody is there".to_owned());
        drop(first);
        assert!(is_up());
        drop(second);
        assert!(!is_up());
    }
}
