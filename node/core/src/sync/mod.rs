//! What two neighbour sites say to each other about the shards that both hold: a pure state machine,
//! `handle(here, event) -> effects`. The driver does the IO. Both ends run the same code; being the child only decides
//! who dials, and being the parent who passes on the statements of the sites above.
//!
//! Per shard and direction, edits flow in the sender's order of arrival, which is causal, from a cursor that the
//! receiver keeps. A batch is taken only where the cursor stands, so a cut link leaves nothing to clean up. When the
//! cursor does not fit (first contact, a renewed incarnation, a restored backup), the sender goes through its stream
//! from the beginning. Either way it leaves out what the receiver is known to have: by its heads at the beginning of the
//! session, and by what it sent since.
//!
//! Heads are compared as (number, hash). Where an author's chain branches, its longest branch goes by the author's id and
//! the others by aliases, which tell their author to whoever knows it (`registry::branches`). Of an author of whom a site
//! holds as many edits as the peer, but not the peer's last, the peer must be on another branch: the site asks for hashes
//! until it knows the last common edit, then both send each other what is above it. Of a shorter branch that a site does
//! not know, nothing is known to be common but what other heads cover: some edits may come twice. A site whose parent knows
//! an edit of its own present incarnation that it does not know itself, on whichever branch, was restored from a backup:
//! it renews its incarnation and starts the session again. A child is not believed without the edit and its seal, with which the
//! incarnation is left in the merge.
//!
//! Left to others: who may speak (the connection's certificate), signatures (the driver), hints for urgent edits.

mod here;
mod message;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use here::bucket_digest;
pub(crate) use here::position_of;
pub use here::{BATCH_BYTES, Here, Skip};
pub use message::{Ack, Again, Ask, Batch, Bucket, Hashes, Hello, LINK_VERSION, Message, ShardHello};

use crate::access_log::AccessHead;
use crate::command::{Cursor, Heads, Merged, Statement, StatementBody, Tip};
use crate::edit::{Dot, Edit};
use crate::encoding::{Malformed, Wire};
use crate::ids::{AuthorId, Hash, ShardId, SiteId};
use crate::inject::{is_armed, rarely, rarely_once, sometimes};
use crate::registry::{AuthorState, corrupt, is_head_of};
use crate::store::StoreError;

/// Batches on the way at once per shard: enough to hide a round trip, few enough to waste on a mismatch.
pub const BATCHES_IN_FLIGHT_MAX: u32 = 4;

/// Positions passed over without news for the peer before its cursor is moved by an empty batch: bounds what a
/// reconnection scans again.
pub const SCAN_SILENT_MAX: u64 = 2_000;

/// Hashes asked for at once when looking for the last common edit.
pub const HASHES_MAX: u64 = 256;

/// Refused batches per shard and session before the session is given up, so that a disagreement that heads do not
/// cure backs off instead of spinning.
pub const AGAIN_MAX: u32 = 16;

/// Branches of authors in the heads of one shard: an author is one life of one site, so a shard of a century has fewer.
pub const HEADS_MAX: usize = 4_096;

/// Statements of the shards that are awake are repeated after this time even if nothing changed, so that "in step" carries a fresh
/// date; and that of one that is asleep. Each costs its
/// receivers a signature to check and a place in their logs: thousands of quiet shards must not add up to work.
pub const STATEMENTS_EVERY_MS: u64 = 300_000;

/// After this time a session ends in which a shard was refused since its edits were not sealed: by now this site may know
/// the key that it did not know then.
pub const REFUSED_AGAIN_MS: u64 = 600_000;

/// The shortest time between two rounds of statements of a session: while edits flow, one round speaks for many of them.
/// After a quiet time the next change is stated at once.
pub const STATEMENTS_PAUSE_MS: u64 = 5_000;

/// Shards of which the first word tells all. Of more it gives digests, and of what differs, all is told a round trip later.
pub const GREETED_AT_ONCE: usize = 64;

/// Greetings in one message: most links need one, and those of ten thousand shards with many lives fit several.
const GREETING_BYTES: usize = 512 * 1024;

/// Into so many buckets go the shards of a link: 4 kB of digests, and of each that differs what is in it is told.
pub const BUCKETS: usize = 256;

/// The bucket of a shard.
#[must_use]
pub fn bucket_of(shard: ShardId) -> u8 {
    blake3::hash(&shard.0.to_be_bytes()).as_bytes()[0]
}

/// Of which shards the state moved on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Of these: edits came, or a statement about them.
    Shards(BTreeSet<ShardId>),
    /// Of any: the whole state was replaced.
    Any,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The link is up.
    Opened,
    /// The peer said something.
    Received(Message),
    /// This site's answer to a batch that the peer sent.
    Merged(Merged),
    /// This site's state moved on.
    Advanced(Moved),
    /// Time passed; UTC milliseconds.
    Tick(i64),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say it to the peer.
    Send(Message),
    /// Seal these tips of this site's own edits, then send the batch.
    Edits {
        /// The batch, with the seals of others.
        batch: Box<Batch>,
        /// What this site wrote itself.
        own: Vec<Tip>,
    },
    /// Check the seals and leave out those that are false, then propose the batch; tell the answer as [`Event::Merged`]. Batches of one shard in order.
    Merge(Batch),
    /// Propose the renewal of this author, then close; the next session goes on.
    Renew {
        /// The shard.
        shard: ShardId,
        /// The author that this site has been.
        author: AuthorId,
    },
    /// Send statements.
    State {
        /// Of this site: to be signed.
        own: Vec<StatementBody>,
        /// Of the sites above, as they came.
        relayed: Vec<Statement>,
    },
    /// Check their signatures, then propose to keep them.
    Keep(Vec<Statement>),
    /// End the session: the reason.
    Close(String),
}

/// How this site speaks with one neighbour over one link.
#[derive(Debug)]
pub struct Session {
    peer: SiteId,
    /// Whether the peer is a child: it gets the statements of the sites above.
    peer_is_child: bool,
    offered: BTreeSet<ShardId>,
    /// Shards of which the first word gave only a digest, and the last arrival then. Until one of the two sites says more of one, it
    /// has nothing new, and costs nothing.
    asleep: BTreeMap<ShardId, u64>,
    /// The digests in the first word.
    buckets: Vec<Bucket>,
    is_greeted: bool,
    flows: BTreeMap<ShardId, Flow>,
    probes: BTreeMap<(ShardId, AuthorId), Probe>,
    /// Shards that wait for the end of a search before they flow.
    waiting: BTreeMap<ShardId, Waiting>,
    /// Per shard, the last numbers of the batches whose merging is on the way.
    merging: BTreeMap<ShardId, VecDeque<BTreeMap<AuthorId, u64>>>,
    greeted: BTreeSet<ShardId>,
    /// The heads that this site has said first: against these the peer compares its own.
    said: BTreeMap<ShardId, Heads>,
    /// What was stated last, without its date.
    stated: BTreeMap<ShardId, StatementBody>,
    /// The last statement of each site that was passed on, by its signature.
    relayed: BTreeMap<(ShardId, SiteId), [u8; 64]>,
    /// What moved since the last round of statements.
    moved: BTreeSet<ShardId>,
    /// When the last round of statements was, and the last one that repeated all; UTC milliseconds.
    stated_ms: Option<i64>,
    repeated_ms: Option<i64>,
    /// Whether a shard was refused whose edits were not sealed, and the first tick after that.
    is_refused: bool,
    refused_ms: Option<i64>,
    batch_bytes: usize,
    greeted_at_once: usize,
}

/// The way of one shard's edits to the peer.
#[derive(Debug)]
struct Flow {
    /// Where the peer stands once it has taken what is on the way.
    sent: Cursor,
    /// How far the stream was searched for news.
    scanned: u64,
    skip: Skip,
    in_flight: u32,
    refused: u32,
}

/// The search for the last edit of a branch that the peer has too.
#[derive(Debug)]
struct Probe {
    /// Hashes were asked for from here,
    from: u64,
    /// to here; above, there is no match.
    to: u64,
}

/// A shard of which the peer has spoken.
#[derive(Debug)]
struct Waiting {
    there: ShardHello,
    /// The last common edit of each branch on which the two sites differ; none if nothing of it is common.
    common: BTreeMap<AuthorId, Option<(u64, Hash)>>,
    /// Whether batches came meanwhile.
    passed_over: bool,
}

impl Session {
    /// A session with `peer` about `offered` shards.
    #[must_use]
    pub fn new(peer: SiteId, peer_is_child: bool, offered: BTreeSet<ShardId>) -> Self {
        Session {
            peer,
            peer_is_child,
            offered,
            asleep: BTreeMap::new(),
            buckets: Vec::new(),
            is_greeted: false,
            flows: BTreeMap::new(),
            probes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            merging: BTreeMap::new(),
            greeted: BTreeSet::new(),
            said: BTreeMap::new(),
            stated: BTreeMap::new(),
            relayed: BTreeMap::new(),
            moved: BTreeSet::new(),
            stated_ms: None,
            repeated_ms: None,
            is_refused: false,
            refused_ms: None,
            batch_bytes: BATCH_BYTES,
            greeted_at_once: GREETED_AT_ONCE,
        }
    }

    /// Sends smaller batches than [`BATCH_BYTES`].
    #[must_use]
    pub fn with_batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes.min(BATCH_BYTES);
        self
    }

    /// Gives digests of more shards than these in its first word, instead of more than [`GREETED_AT_ONCE`].
    #[must_use]
    pub fn with_greeted_at_once(mut self, shards: usize) -> Self {
        self.greeted_at_once = shards;
        self
    }

    /// The shards that are flowing.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.flows.keys().copied()
    }

    /// Takes one event; returns what to do, in order.
    pub fn handle(&mut self, here: &Here<'_>, event: Event) -> Result<Vec<Effect>, StoreError> {
        let mut effects = Vec::new();
        match event {
            Event::Opened => self.open(here, &mut effects)?,
            Event::Received(message) => self.receive(here, message, &mut effects)?,
            Event::Merged(merged) if merged.refused.is_some() => {
                // Others' shards go on; this one begins again at the next contact.
                self.is_refused = true;
                self.leave_out(merged.shard);
            }
            Event::Merged(merged) => {
                self.remember_taken(here, &merged)?;
                effects.push(Effect::Send(if let (true, Some(cursor)) = (merged.taken, merged.cursor) {
                    Message::Ack(Ack { shard: merged.shard, cursor })
                } else {
                    Message::Again(Again { shard: merged.shard, heads: here.heads(merged.shard)? })
                }));
                self.pump(here, merged.shard, &mut effects)?;
            }
            Event::Advanced(moved) => self.advance(here, moved, &mut effects)?,
            Event::Tick(now_ms) => {
                if self.is_refused && now_ms.abs_diff(*self.refused_ms.get_or_insert(now_ms)) >= REFUSED_AGAIN_MS {
                    effects.push(Effect::Close("a shard that was refused is tried again".to_owned()));
                    return Ok(effects);
                }
                self.state(here, now_ms, &mut effects)?;
            }
        }
        Ok(effects)
    }

    fn receive(&mut self, here: &Here<'_>, message: Message, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        if heads_of(&message).any(|heads| heads.len() > HEADS_MAX) {
            effects.push(Effect::Close(format!("the peer names more than {HEADS_MAX} authors of one shard")));
            return Ok(());
        }
        // Each costs something before it is known to be of use.
        if let Message::Batch(batch) = &message
            && batch.seals.len().max(batch.secrets.len()) > batch.items.len()
        {
            effects.push(Effect::Close("the peer sends a batch with more seals or secrets than edits".to_owned()));
            return Ok(());
        }
        match message {
            Message::Hello(hello) => self.take_hello(here, hello, effects)?,
            Message::Greet(shards) => self.greet_all(here, shards, effects)?,
            Message::Batch(batch) if self.greeted.contains(&batch.shard) && !self.offered.contains(&batch.shard) => {}
            Message::Batch(batch) if !self.offered.contains(&batch.shard) => {
                effects.push(Effect::Close(format!("shard {} is not on this link", batch.shard)));
            }
            Message::Batch(batch) => match self.waiting.get_mut(&batch.shard) {
                Some(waiting) => {
                    sometimes("a batch is passed over", true);
                    waiting.passed_over = true;
                }
                None => self.merge(*batch, effects),
            },
            Message::Ack(ack) => {
                if let Some(flow) = self.flows.get_mut(&ack.shard) {
                    flow.in_flight = flow.in_flight.saturating_sub(1);
                    self.pump(here, ack.shard, effects)?;
                }
            }
            Message::Again(again) => {
                sometimes("a session begins again", true);
                self.again(here, again, effects)?;
            }
            Message::Ask(ask) => {
                if self.offered.contains(&ask.shard) {
                    let to = ask.to.min(ask.from.saturating_add(HASHES_MAX - 1));
                    let hashes = match self.said_tip(here, (ask.shard, ask.author))? {
                        Some(tip) => here.hashes(ask.shard, tip, ask.from, to)?,
                        None => Vec::new(),
                    };
                    let hashes = Hashes { shard: ask.shard, author: ask.author, from: ask.from, hashes };
                    effects.push(Effect::Send(Message::Hashes(hashes)));
                }
            }
            Message::Hashes(hashes) => self.compare(here, &hashes, effects)?,
            Message::Statements(statements) => {
                let mut news = Vec::new();
                for statement in statements {
                    let body = &statement.body;
                    let credible = body.site == self.peer || !self.peer_is_child;
                    if credible && self.offered.contains(&body.shard) && here.is_news(&statement)? {
                        news.push(statement);
                    }
                }
                if !news.is_empty() {
                    effects.push(Effect::Keep(news));
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, batch: Batch, effects: &mut Vec<Effect>) {
        let mut last: BTreeMap<AuthorId, u64> = BTreeMap::new();
        for item in &batch.items {
            let number = last.entry(item.dot.actor).or_default();
            *number = item.dot.counter.max(*number);
        }
        self.merging.entry(batch.shard).or_default().push_back(last);
        effects.push(Effect::Merge(batch));
    }

    /// What the peer sent and this site took need not be sent back. Where a chain branches or does not fit, numbers say
    /// too little: then it may come twice.
    fn remember_taken(&mut self, here: &Here<'_>, merged: &Merged) -> Result<(), StoreError> {
        let sent = self.merging.get_mut(&merged.shard).and_then(VecDeque::pop_front);
        let (Some(sent), Some(flow), true) = (sent, self.flows.get_mut(&merged.shard), merged.taken) else {
            return Ok(());
        };
        let authors = here.authors(merged.shard)?;
        for (actor, counter) in sent {
            let fits = |root: &&AuthorState| root.parked.is_none() && root.aside < counter && root.number >= counter;
            if authors.get(&actor).filter(fits).is_some() {
                flow.skip.add(&authors, Dot { actor, counter });
            }
        }
        Ok(())
    }

    /// Says the first word. Of a shard that is left out of it, this site knows the peer to have stated what is here.
    fn open(&mut self, here: &Here<'_>, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let mut named = self.offered.clone();
        if self.offered.len() > self.greeted_at_once || rarely("few shards are greeted by digests") {
            self.buckets = vec![Bucket::default(); BUCKETS];
            for shard in &self.offered {
                let Some(state) = here.shard(*shard)? else { continue };
                let bucket = &mut self.buckets[usize::from(bucket_of(*shard))];
                bucket.iter_mut().zip(bucket_digest(&state)).for_each(|(sum, byte)| *sum ^= byte);
                if here.has_stated(&state, self.peer)? {
                    self.asleep.insert(*shard, state.arrivals);
                    named.remove(shard);
                }
            }
        }
        let mut said = self.say(here, named)?.into_iter();
        let shards = said.next().unwrap_or_default();
        let hello = Hello { buckets: self.buckets.clone(), ..Hello::of(shards) };
        effects.push(Effect::Send(Message::Hello(hello)));
        effects.extend(said.map(|shards| Effect::Send(Message::Greet(shards))));
        Ok(())
    }

    /// What to say of shards of which nothing was said yet, in pieces that fit a message.
    fn say(&mut self, here: &Here<'_>, shards: BTreeSet<ShardId>) -> Result<Vec<Vec<ShardHello>>, StoreError> {
        let (mut said, mut bytes): (Vec<Vec<ShardHello>>, _) = (Vec::new(), 0);
        for shard in shards {
            self.asleep.remove(&shard);
            let Some(hello) = here.hello(shard, self.peer)? else { continue };
            self.said.insert(shard, hello.heads.clone());
            let size = hello.to_bytes().len();
            bytes += size;
            match said.last_mut() {
                Some(piece) if bytes <= GREETING_BYTES => piece.push(hello),
                _ => {
                    said.push(vec![hello]);
                    bytes = size;
                }
            }
        }
        Ok(said)
    }

    /// Says what is here of shards that are asleep, since they moved, or since the peer speaks of them.
    fn wake(
        &mut self,
        here: &Here<'_>,
        shards: BTreeSet<ShardId>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        sometimes("a shard wakes", !shards.is_empty());
        let said = self.say(here, shards)?;
        effects.extend(said.into_iter().map(|shards| Effect::Send(Message::Greet(shards))));
        Ok(())
    }

    /// Speaks no more of a shard.
    fn leave_out(&mut self, shard: ShardId) {
        self.offered.remove(&shard);
        self.asleep.remove(&shard);
        self.merging.remove(&shard);
        self.waiting.remove(&shard);
        self.probes.retain(|(probed, _), _| *probed != shard);
        self.flows.remove(&shard);
    }

    fn take_hello(&mut self, here: &Here<'_>, hello: Hello, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let Hello { version, buckets, shards, .. } = hello;
        if version != LINK_VERSION {
            effects.push(Effect::Close(format!(
                "the peer speaks version {version} on links, and this site version {LINK_VERSION}: upgrade the older of the two"
            )));
            return Ok(());
        }
        if std::mem::replace(&mut self.is_greeted, true) || !(buckets.is_empty() || buckets.len() == BUCKETS) {
            effects.push(Effect::Close("the peer greets twice, or with digests of another form".to_owned()));
            return Ok(());
        }
        // Without digests the peer names all it has: a shard that sleeps here and is not named is not at the parent. A child's session
        // may be about a few of many.
        let names_all = buckets.is_empty() && !self.peer_is_child;
        let differs = |shard: &ShardId| {
            let bucket = usize::from(bucket_of(*shard));
            names_all || (!buckets.is_empty() && self.buckets.get(bucket) != buckets.get(bucket))
        };
        let differing = self.asleep.keys().copied().filter(differs).collect();
        self.wake(here, differing, effects)?;
        self.greet_all(here, shards, effects)
    }

    fn greet_all(
        &mut self,
        here: &Here<'_>,
        shards: Vec<ShardHello>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let asleep = shards.iter().map(|there| there.shard).filter(|shard| self.asleep.contains_key(shard)).collect();
        self.wake(here, asleep, effects)?;
        for there in shards {
            if !self.offered.contains(&there.shard) {
                // A parent speaks of all it has, whatever this session is about. A child speaks of what it was told to be here: if it
                // is not, since this site was founded anew in between, the child would wait for it as long as the session lives.
                if self.peer_is_child && !self.greeted.contains(&there.shard) {
                    sometimes("a child is sent back to ask where a shard is", true);
                    effects.push(Effect::Close(format!("shard {} is not here: locate it again", there.shard)));
                    return Ok(());
                }
                continue;
            }
            if !self.greeted.insert(there.shard) {
                effects.push(Effect::Close(format!("the peer greets twice about shard {}", there.shard)));
                return Ok(());
            }
            self.greet(here, there, effects)?;
        }
        Ok(())
    }

    /// Sends what is new of the shards that moved.
    fn advance(&mut self, here: &Here<'_>, moved: Moved, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let moved = match moved {
            Moved::Shards(shards) => shards,
            Moved::Any => self.offered.clone(),
        };
        let mut awake = BTreeSet::new();
        for shard in moved {
            if self.flows.contains_key(&shard) {
                self.moved.insert(shard);
                // What the peer sent is not news for it: that is known once its batch is.
                if self.merging.get(&shard).is_none_or(VecDeque::is_empty) {
                    self.pump(here, shard, effects)?;
                }
            } else if let Some(then) = self.asleep.get(&shard)
                && let Some(state) = here.shard(shard)?
                && (state.arrivals != *then || !here.has_stated(&state, self.peer)?)
            {
                awake.insert(shard);
            }
        }
        self.wake(here, awake, effects)
    }

    /// Compares the peer's heads with what is here, then lets the shard flow.
    fn greet(&mut self, here: &Here<'_>, there: ShardHello, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let shard = there.shard;
        let Some(state) = here.shard(shard)? else { return Ok(()) };
        let (authors, own) = (here.authors(shard)?, state.own.id());
        let mut differing = Vec::new();
        for (id, head) in &there.heads {
            if head.0 == 0 || here.locate(shard, &authors, *id, *head)?.is_some() {
                continue;
            }
            // A word of the site above is believed: the sooner this site stops numbering, the less it forks. Below, whoever stole a
            // key could take all lives of the sites above so; what there is of these edits comes with this site's own seals, and is
            // reason enough then.
            if is_head_of(own, *id, &head.1) && !self.peer_is_child {
                effects.push(Effect::Renew { shard, author: own });
                return Ok(());
            }
            let said = self.said.get(&shard).and_then(|said| said.get(id));
            if said.is_some_and(|said| head.0 <= said.0) {
                differing.push((*id, head.0));
            }
        }
        self.waiting.insert(shard, Waiting { there, common: BTreeMap::new(), passed_over: false });
        differing.into_iter().for_each(|(branch, to)| self.probe((shard, branch), to, effects));
        self.flow_if_settled(here, shard, effects)
    }

    /// Where the edit lies that this site has said to be the end of a head.
    fn said_tip(&self, here: &Here<'_>, (shard, id): (ShardId, AuthorId)) -> Result<Option<Dot>, StoreError> {
        match self.said.get(&shard).and_then(|said| said.get(&id)) {
            Some(head) => here.locate(shard, &here.authors(shard)?, id, *head),
            None => Ok(None),
        }
    }

    /// Asks for the hashes of a branch up to `to`, or ends the search where nothing is left to compare.
    fn probe(&mut self, (shard, author): (ShardId, AuthorId), to: u64, effects: &mut Vec<Effect>) {
        if to == 0 {
            return self.found_common((shard, author), None);
        }
        let count = if rarely("two hashes at a time") { 2 } else { HASHES_MAX };
        sometimes("the last common edit is looked for", true);
        let from = to.saturating_sub(count - 1).max(1);
        effects.push(Effect::Send(Message::Ask(Ask { shard, author, from, to })));
        self.probes.insert((shard, author), Probe { from, to });
    }

    fn found_common(&mut self, (shard, author): (ShardId, AuthorId), common: Option<(u64, Hash)>) {
        if let Some(waiting) = self.waiting.get_mut(&shard) {
            waiting.common.insert(author, common);
        }
    }

    fn compare(&mut self, here: &Here<'_>, hashes: &Hashes, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let (shard, author) = (hashes.shard, hashes.author);
        let Some(probe) = self.probes.remove(&(shard, author)) else { return Ok(()) };
        if hashes.from != probe.from {
            effects.push(Effect::Close("the peer answers with hashes that were not asked for".to_owned()));
            return Ok(());
        }
        let ours = match self.said_tip(here, (shard, author))? {
            Some(tip) => here.hashes(shard, tip, probe.from, probe.to)?,
            None => Vec::new(),
        };
        let pairs = (probe.from..).zip(ours.iter().zip(&hashes.hashes));
        match pairs.filter(|(_, (ours, theirs))| ours == theirs).last() {
            Some((number, (hash, _))) => self.found_common((shard, author), Some((number, *hash))),
            None => self.probe((shard, author), probe.from - 1, effects),
        }
        self.flow_if_settled(here, shard, effects)
    }

    /// Begins to send once no search is open for the shard. If there was one, the peer may have believed that this site
    /// is ahead of it on a branch that it does not have: it is told what is common.
    fn flow_if_settled(
        &mut self,
        here: &Here<'_>,
        shard: ShardId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        if self.probes.keys().any(|(probed, _)| *probed == shard) {
            return Ok(());
        }
        let Some(Waiting { mut there, common, passed_over }) = self.waiting.remove(&shard) else { return Ok(()) };
        if passed_over || !common.is_empty() {
            let mut heads = here.heads(shard)?;
            cap(&mut heads, &common);
            effects.push(Effect::Send(Message::Again(Again { shard, heads })));
        }
        let Some(state) = here.shard(shard)? else { return Ok(()) };
        cap(&mut there.heads, &common);
        // Where the peer is ahead of what this site has said, it finds out itself if the branches differ.
        let said = |id, number| {
            let tip = self.said_tip(here, (shard, id))?;
            Ok(tip.into_iter().filter(|tip| tip.counter < number).collect())
        };
        let skip = here.covered(shard, &here.authors(shard)?, &there.heads, said)?;
        let sent = match there.cursor {
            Some(cursor) if here.fits(&state, &cursor)? && here.has_taken(shard, &cursor, &skip)? => cursor,
            kept => {
                sometimes("a kept cursor does not fit", kept.is_some());
                Cursor::start(state.epoch)
            }
        };
        self.flows.insert(shard, Flow { scanned: sent.position, sent, skip, in_flight: 0, refused: 0 });
        self.moved.insert(shard);
        self.pump(here, shard, effects)
    }

    fn again(&mut self, here: &Here<'_>, again: Again, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let shard = again.shard;
        let Some(state) = here.shard(shard)? else { return Ok(()) };
        if let Some(waiting) = self.waiting.get_mut(&shard) {
            let authors = here.authors(shard)?;
            let mut heads = again.heads;
            for (branch, head) in &mut heads {
                // What the peer has of a branch that it alone knows to be another is what it said first.
                if here.locate(shard, &authors, *branch, *head)?.is_none()
                    && let Some(first) = waiting.there.heads.get(branch)
                {
                    *head = *first;
                }
            }
            (waiting.there.heads, waiting.there.cursor) = (heads, None);
            return Ok(());
        }
        let Some(flow) = self.flows.get_mut(&shard) else { return Ok(()) };
        flow.refused += 1;
        if flow.refused > AGAIN_MAX {
            effects.push(Effect::Close(format!("the peer keeps refusing batches of shard {shard}")));
            return Ok(());
        }
        // Of an author where the peer is ahead, it has what it had before.
        let (authors, before) = (here.authors(shard)?, &flow.skip);
        flow.skip = here.covered(shard, &authors, &again.heads, |id, _| Ok(before.ends_of(&authors, id)))?;
        flow.sent = Cursor::start(state.epoch);
        flow.scanned = 0;
        flow.in_flight = 0;
        self.pump(here, shard, effects)
    }

    /// Sends batches while there is news and room on the way.
    fn pump(&mut self, here: &Here<'_>, shard: ShardId, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let (Some(flow), Some(state)) = (self.flows.get_mut(&shard), here.shard(shard)?) else { return Ok(()) };
        if flow.sent.epoch != state.epoch {
            sometimes("a stream is renewed under a session", true);
            effects.push(Effect::Close(format!("the stream of shard {shard} was renewed")));
            return Ok(());
        }
        while flow.in_flight < BATCHES_IN_FLIGHT_MAX && flow.scanned < state.arrivals {
            let (mut batch, own, scanned) =
                here.batch(&state, flow.sent, flow.scanned, &flow.skip, self.batch_bytes)?;
            if scanned == flow.scanned {
                let what = "stream: no batch ends where one must";
                return Err(corrupt(&here.keys.arrival(shard, scanned + 1), Malformed { what }));
            }
            flow.scanned = scanned;
            // The receiver finds out by the edit after it, and asks for all again; twice it would not, until the next contact.
            if cfg!(feature = "faults") && is_missed(&batch) && rarely_once("an edit is left out of a batch") {
                leave_out_the_first(&mut batch);
            }
            let silent = batch.items.is_empty();
            let is_short = batch.end.position.saturating_sub(flow.sent.position) < SCAN_SILENT_MAX;
            // A peer without a position would begin at the first edit again at every contact.
            let is_told = flow.sent.position > 0;
            if silent && is_short && is_told && !rarely("an empty batch moves a cursor") {
                continue;
            }
            flow.sent = batch.end;
            flow.in_flight += 1;
            effects.push(Effect::Edits { batch: Box::new(batch), own });
        }
        Ok(())
    }

    /// States what this site holds, where that changed or all is due again; passes on what the sites above state.
    fn state(&mut self, here: &Here<'_>, now_ms: i64, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        // Either way: a clock that was set back must not silence the site until it has caught up.
        let is_past = |last: Option<i64>, pause_ms| last.is_none_or(|last| now_ms.abs_diff(last) >= pause_ms);
        if is_past(self.repeated_ms, STATEMENTS_EVERY_MS) {
            self.repeated_ms = Some(now_ms);
            self.stated.clear();
            // Of those that are asleep one speaks for the site: of its clock, and of where its access log stands.
            self.moved.extend(self.flows.keys().chain(self.asleep.keys().next()));
        }
        if self.moved.is_empty() || !is_past(self.stated_ms, STATEMENTS_PAUSE_MS) {
            return Ok(());
        }
        let (mut own, mut relayed) = (Vec::new(), Vec::new());
        for shard in std::mem::take(&mut self.moved).intersection(&self.offered) {
            let mut heads = here.heads(*shard)?;
            if is_armed("statement-lies") {
                for statement in here.statements(*shard)?.into_iter().filter(|said| said.body.site == self.peer) {
                    heads.extend(statement.body.heads);
                }
            }
            let Some(statement) = here.statement(*shard, heads, now_ms)? else { continue };
            // Whoever reads all day must not have all of it stated all day: where the access log stands goes along.
            let news = StatementBody { at_ms: 0, access: AccessHead::default(), ..statement.clone() };
            if self.stated.get(shard) != Some(&news) {
                own.push(statement);
                self.stated.insert(*shard, news);
            }
            if self.peer_is_child {
                for statement in here.statements(*shard)?.into_iter().filter(|said| said.body.site != self.peer) {
                    let last = self.relayed.insert((*shard, statement.body.site), statement.signature);
                    if last != Some(statement.signature) {
                        relayed.push(statement);
                    }
                }
            }
        }
        if !(own.is_empty() && relayed.is_empty()) {
            self.stated_ms = Some(now_ms);
            effects.push(Effect::State { own, relayed });
        }
        Ok(())
    }
}

/// Leaves out the first edit of a batch, and its secret if no other one needs it.
fn leave_out_the_first(batch: &mut Batch) {
    let first = batch.items.remove(0);
    let is_needless = batch.secrets.len() > batch.items.len();
    if let (true, Ok(edit)) = (is_needless, Edit::from_bytes(&first.bytes)) {
        let of = (edit.dot().actor, edit.header.origin.request.session);
        batch.secrets.retain(|(author, session, _)| (*author, *session) != of);
    }
}

/// Whether a receiver misses the first edit of a batch by the second, made upon it. Not where the first is one part of a
/// command: half a command is no gap in the chain, it is refused for good.
fn is_missed(batch: &Batch) -> bool {
    let mut edits = batch.items.iter().map(|item| Edit::from_bytes(&item.bytes));
    let (Some(Ok(first)), Some(Ok(second))) = (edits.next(), edits.next()) else { return false };
    let key = (first.dot().actor, first.header.origin.request.session);
    let secret = batch.secrets.iter().find(|(author, session, _)| (*author, *session) == key);
    first.header.of == 1 && secret.is_some_and(|(.., secret)| second.header.previous == first.hash(secret))
}

/// All heads in a message.
fn heads_of(message: &Message) -> impl Iterator<Item = &Heads> {
    let (hello, again, statements) = match message {
        Message::Hello(hello) => (hello.shards.as_slice(), None, &[][..]),
        Message::Greet(shards) => (shards.as_slice(), None, &[][..]),
        Message::Again(again) => (&[][..], Some(&again.heads), &[][..]),
        Message::Statements(statements) => (&[][..], None, statements.as_slice()),
        _ => (&[][..], None, &[][..]),
    };
    let stated = statements.iter().map(|statement| &statement.body.heads);
    hello.iter().map(|shard| &shard.heads).chain(again).chain(stated)
}

/// Lowers heads to what is common.
fn cap(heads: &mut Heads, common: &BTreeMap<AuthorId, Option<(u64, Hash)>>) {
    for (branch, common) in common {
        match common {
            Some(head) => drop(heads.insert(*branch, *head)),
            None => drop(heads.remove(branch)),
        }
    }
}

/// Whether a statement's digests must be ours, if all is well: of the same edits, under the same key, at the same level.
#[must_use]
pub fn are_comparable(theirs: &StatementBody, ours: &StatementBody) -> bool {
    let of = |body: &StatementBody| (body.digest_key, body.level);
    theirs.heads == ours.heads && of(theirs) == of(ours)
}

/// Whether a statement proves that its site holds exactly these edits and records.
#[must_use]
pub fn proves_in_step(theirs: &StatementBody, ours: &StatementBody) -> bool {
    let of = |body: &StatementBody| (body.digest_key, body.edits, body.state);
    theirs.heads == ours.heads && of(theirs) == of(ours)
}
