//! What is believed only as long as it is proved: [`Proof`] keeps when something last worked, and why it has not since.
//! And [`Spell`], for what goes wrong again and again: its beginning and its end are told, not each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::{self, Instant};

/// Evidence that something works, which grows old. Clones are the same.
#[derive(Debug, Clone)]
pub struct Proof(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    /// What is said of it when the evidence is old, such as "no proposal has passed".
    missed: &'static str,
    /// How old evidence may be.
    limit: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Since when somebody looks.
    since: Option<Instant>,
    /// When it last worked.
    good: Option<Instant>,
    /// Why it did not, since then.
    why: Option<String>,
    /// What is waited for now.
    awaited: Option<String>,
    /// Whether it will not until something is done.
    is_refused: bool,
}

impl Proof {
    /// Nothing is proved yet, and nobody looks. `missed` is what is said when it is not, or too long ago.
    #[must_use]
    pub fn new(missed: &'static str, limit: Duration) -> Self {
        Proof(Arc::new(Kept { missed, limit, seen: Mutex::default() }))
    }

    /// How old evidence may be.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on somebody looks.
    pub fn begin(&self) {
        self.seen().since.get_or_insert_with(runtime::now);
    }

    /// It worked at `then`, or was seen to have worked then by somebody else.
    pub fn worked(&self, then: Instant) {
        let mut seen = self.seen();
        seen.good = seen.good.max(Some(then));
        (seen.why, seen.awaited, seen.is_refused) = (None, None, false);
    }

    /// It did not work, as was found now.
    pub fn failed(&self, why: impl Into<String>) {
        let mut seen = self.seen();
        (seen.why, seen.awaited) = (Some(why.into()), None);
    }

    /// It is tried, and this is why it may take long: said where nothing is known of an earlier failure.
    pub fn tried(&self, awaited: impl Into<String>) {
        self.seen().awaited = Some(awaited.into());
    }

    /// It will not work until something is done: what was proved before counts no more.
    pub fn refused(&self, why: impl Into<String>) {
        let mut seen = self.seen();
        seen.good = None;
        seen.why = Some(why.into());
        seen.is_refused = true;
    }

    /// How old the evidence is, or why there is none that counts.
    pub fn verdict(&self) -> Result<Duration, String> {
        let (seen, now) = (self.seen(), runtime::now());
        if let (true, Some(why)) = (seen.is_refused, &seen.why) {
            return Err(why.clone());
        }
        if let Some(good) = seen.good
            && now - good <= self.0.limit
        {
            return Ok(now - good);
        }
        let missed = self.0.missed;
        let since = match seen.good.or(seen.since) {
            Some(since) => format!("{missed} for {} s", (now - since).as_secs()),
            None => format!("{missed} yet"),
        };
        let why = seen.why.as_ref().or(seen.awaited.as_ref());
        Err(why.map_or(since.clone(), |why| format!("{since}: {why}")))
    }

    /// As [`verdict`](Self::verdict), but what nobody looks at, or not for long enough yet, is not held against it.
    pub fn overdue(&self) -> Result<(), String> {
        let seen = self.seen();
        let is_young = seen.since.is_none_or(|since| runtime::now() - since <= self.0.limit) && !seen.is_refused;
        drop(seen);
        if is_young { Ok(()) } else { self.verdict().map(|_| ()) }
    }

    /// How old the last evidence is, whether it counts or not; none if there was never any.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.seen().good.map(|good| runtime::now() - good)
    }
}

/// A spell of failures of one thing that is tried again and again: told of once when it begins, and once when it ends.
#[derive(Debug, Default)]
pub struct Spell(Mutex<Option<Instant>>);

impl Spell {
    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It failed; whether that is to be told, since it is the first time.
    pub fn failed(&self) -> bool {
        let mut began = self.began();
        let is_first = began.is_none();
        began.get_or_insert_with(runtime::now);
        is_first
    }

    /// It works; how long it did not, if it did not.
    pub fn ended(&self) -> Option<Duration> {
        self.began().take().map(|began| runtime::now() - began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn what_is_not_proved_again_is_not_believed_for_long() {
        let proof = Proof::new("nothing has passed", LIMIT);
        assert_eq!(proof.verdict(), Err("nothing has passed yet".to_owned()));
        assert_eq!(proof.overdue(), Ok(()), "nobody looks");
        proof.begin();
        proof.worked(runtime::now());
        assert!(proof.verdict().is_ok_and(|age| age < LIMIT));
        proof.failed("the line is cut");
        assert!(proof.verdict().is_ok(), "it worked a moment ago");
        runtime::sleep(LIMIT * 2).await;
        assert_eq!(proof.verdict(), Err("nothing has passed for 0 s: the line is cut".to_owned()));
        assert!(proof.overdue().is_err());
        proof.tried("no answer yet");
        assert_eq!(proof.verdict(), Err("nothing has passed for 0 s: the line is cut".to_owned()), "that is known");
        // Somebody else's word of long ago proves nothing now, and does not take back what is known.
        proof.worked(runtime::now() - LIMIT * 3);
        proof.tried("no answer yet");
        assert!(proof.verdict().is_err_and(|why| why.ends_with("no answer yet")));
        proof.worked(runtime::now());
        assert!(proof.verdict().is_ok());
    }

    #[tokio::test]
    async fn a_spell_is_told_of_when_it_begins_and_when_it_ends() {
        let spell = Spell::default();
        assert_eq!(spell.ended(), None);
        assert_eq!([spell.failed(), spell.failed(), spell.failed()], [true, false, false]);
        assert!(spell.ended().is_some());
        assert_eq!(spell.ended(), None);
        assert!(spell.failed());
    }
}
