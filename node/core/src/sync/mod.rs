//! What two neighbour sites say to each other about the shards that both hold: a pure state machine,
//! `handle(here, event) -> effects`. The driver does the IO. Both ends run the same code; being the child only decides
//! who dials, and being the parent who passes on the statements of the sites above.
//!
//! Per shard and direction, edits flow in the sender's order of arrival, which is causal, from a cursor that the
//! receiver keeps. A batch is taken only where the cursor stands, so a cut link leaves nothing to clean up. When the
//! cursor does not fit (first contact, a renewed incarnation, a restored backup), the sender goes through its stream
//! from the beginning and leaves out what the receiver's heads cover.
//!
//! Heads are compared as (number, hash). A site that finds its own edits forked asks for hashes until it knows the last
//! common one, renews its incarnation, and starts the session again.
//!
//! Left to others: who may speak (the connection's certificate), signatures (the driver), hints for urgent edits.

mod here;
mod message;

use std::collections::{BTreeMap, BTreeSet};

pub use here::{BATCH_BYTES, Here, Skip};
pub use message::{Ack, Again, Ask, Hashes, Hello, Message, Recall, ShardHello};

use crate::command::{Batch, Branch, Cursor, Heads, Merged, Statement, StatementBody};
use crate::ids::{AuthorId, Hash, ShardId, SiteId};
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

/// A statement is repeated after this time even if nothing changed, so that "in step" carries a fresh date.
pub const STATEMENT_EVERY_MS: i64 = 30_000;

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
    Advanced,
    /// Time passed; UTC milliseconds.
    Tick(i64),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say it to the peer.
    Send(Message),
    /// Propose the batch; tell the answer as [`Event::Merged`]. Batches of one shard in order.
    Merge(Batch),
    /// Propose the renewal of this author from `common` on, then close; the next session goes on.
    Renew {
        /// The shard.
        shard: ShardId,
        /// The author that forked.
        author: AuthorId,
        /// The last edit that both sides hold.
        common: u64,
    },
    /// Propose to re-issue these edits of this site, which a neighbour kept of an abandoned branch.
    Reissue(Branch),
    /// Sign it and send it.
    State(StatementBody),
    /// Check its signature, then propose to keep it.
    Keep(Statement),
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
    flows: BTreeMap<ShardId, Flow>,
    probes: BTreeMap<(ShardId, AuthorId), Probe>,
    waiting: BTreeMap<ShardId, ShardHello>,
    /// Shards of which a batch came while heads were being compared; the peer is told to go by heads afterwards.
    passed_over: BTreeSet<ShardId>,
    stated: BTreeMap<ShardId, (Heads, i64)>,
    relayed: BTreeMap<(ShardId, SiteId), i64>,
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

/// The search for the last edit of an author that the peer has too.
#[derive(Debug)]
struct Probe {
    /// The peer's head.
    there: u64,
    /// This site's head when the search began; batches that arrive meanwhile wait.
    here: u64,
    /// No match above this number; asked for hashes up to here.
    to: u64,
}

impl Session {
    /// A session with `peer` about `offered` shards.
    #[must_use]
    pub fn new(peer: SiteId, peer_is_child: bool, offered: BTreeSet<ShardId>) -> Self {
        Session {
            peer,
            peer_is_child,
            offered,
            flows: BTreeMap::new(),
            probes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            passed_over: BTreeSet::new(),
            stated: BTreeMap::new(),
            relayed: BTreeMap::new(),
        }
    }

    /// The shards that are flowing.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.flows.keys().copied()
    }

    /// Takes one event; returns what to do, in order.
    pub fn handle(&mut self, here: &Here<'_>, event: Event) -> Result<Vec<Effect>, StoreError> {
        let mut effects = Vec::new();
        match event {
            Event::Opened => {
                let shards: Result<Vec<_>, _> =
                    self.offered.iter().map(|shard| here.hello(*shard, self.peer)).collect();
                let shards = shards?.into_iter().flatten().collect();
                effects.push(Effect::Send(Message::Hello(Hello { shards })));
            }
            Event::Received(message) => self.receive(here, message, &mut effects)?,
            Event::Merged(merged) => {
                effects.push(Effect::Send(if let (true, Some(cursor)) = (merged.taken, merged.cursor) {
                    Message::Ack(Ack { shard: merged.shard, cursor })
                } else {
                    Message::Again(Again { shard: merged.shard, heads: here.heads(merged.shard)? })
                }))
            }
            Event::Advanced => self.pump_all(here, &mut effects)?,
            Event::Tick(now_ms) => {
                self.pump_all(here, &mut effects)?;
                let shards: Vec<ShardId> = self.shards().collect();
                shards.into_iter().try_for_each(|shard| self.give_back(here, shard, &mut effects))?;
                self.state(here, now_ms, &mut effects)?;
            }
        }
        Ok(effects)
    }

    fn receive(&mut self, here: &Here<'_>, message: Message, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        match message {
            Message::Hello(hello) => {
                for there in hello.shards {
                    if self.offered.contains(&there.shard) {
                        self.greet(here, there, effects)?;
                    }
                }
            }
            Message::Batch(batch) if self.is_comparing(batch.shard) => drop(self.passed_over.insert(batch.shard)),
            Message::Batch(batch) if self.offered.contains(&batch.shard) => effects.push(Effect::Merge(*batch)),
            Message::Batch(batch) => effects.push(Effect::Close(format!("shard {} is not on this link", batch.shard))),
            Message::Ack(ack) => {
                if let Some(flow) = self.flows.get_mut(&ack.shard) {
                    flow.in_flight = flow.in_flight.saturating_sub(1);
                    self.pump(here, ack.shard, effects)?;
                }
            }
            Message::Again(again) => self.again(here, again, effects)?,
            Message::Ask(ask) => {
                if self.offered.contains(&ask.shard) {
                    let to = ask.to.min(ask.from.saturating_add(HASHES_MAX - 1));
                    let hashes = here.hashes(ask.shard, ask.author, ask.from, to)?;
                    let hashes = Hashes { shard: ask.shard, author: ask.author, from: ask.from, hashes };
                    effects.push(Effect::Send(Message::Hashes(hashes)));
                }
            }
            Message::Hashes(hashes) => self.compare(here, &hashes, effects)?,
            Message::Recall(recall) => {
                if self.offered.contains(&recall.shard) {
                    let branch = here.branch(recall.shard, recall.author, recall.from)?;
                    effects.push(Effect::Send(Message::Branch(Box::new(branch))));
                }
            }
            Message::Branch(branch) => {
                if self.offered.contains(&branch.shard) && !branch.items.is_empty() {
                    effects.push(Effect::Reissue(*branch));
                }
            }
            Message::Statement(statement) => {
                let body = &statement.body;
                let credible = body.site == self.peer || !self.peer_is_child;
                if credible && self.offered.contains(&body.shard) && here.is_news(&statement)? {
                    effects.push(Effect::Keep(*statement));
                }
            }
        }
        Ok(())
    }

    /// Compares the peer's heads with those authors that the peer has by way of this site, then lets the shard flow.
    fn greet(&mut self, here: &Here<'_>, there: ShardHello, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let shard = there.shard;
        self.flows.remove(&shard);
        self.probes.retain(|(probed, _), _| *probed != shard);
        for (author, here_number) in here.authors_upstream(shard, self.peer)? {
            let Some((number, hash)) = there.heads.get(&author) else { continue };
            let agrees = *number <= here_number && here.hash(shard, author, *number)? == Some(*hash);
            if !agrees {
                let to = (*number).min(here_number);
                self.probe(here, shard, author, Probe { there: *number, here: here_number, to }, effects)?;
            }
        }
        self.waiting.insert(shard, there);
        self.give_back(here, shard, effects)?;
        self.flow_if_settled(here, shard, effects)
    }

    /// Gives the peer those stranded edits whose author is the peer or lies behind it.
    fn give_back(&mut self, here: &Here<'_>, shard: ShardId, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let branch = here.stranded(shard, self.peer)?;
        if !branch.items.is_empty() {
            effects.push(Effect::Send(Message::Branch(Box::new(branch))));
        }
        Ok(())
    }

    /// Whether this site still looks for the last common edit of an author.
    fn is_comparing(&self, shard: ShardId) -> bool {
        self.probes.keys().any(|(probed, _)| *probed == shard)
    }

    /// Asks for the hashes just below `probe.to`, or ends the search where nothing is left to compare.
    fn probe(
        &mut self,
        here: &Here<'_>,
        shard: ShardId,
        author: AuthorId,
        probe: Probe,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        if probe.to == 0 {
            return self.found_common(here, (shard, author), 0, &probe, effects);
        }
        let from = probe.to.saturating_sub(HASHES_MAX - 1).max(1);
        effects.push(Effect::Send(Message::Ask(Ask { shard, author, from, to: probe.to })));
        self.probes.insert((shard, author), probe);
        Ok(())
    }

    fn compare(&mut self, here: &Here<'_>, hashes: &Hashes, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let (shard, author) = (hashes.shard, hashes.author);
        let Some(probe) = self.probes.remove(&(shard, author)) else { return Ok(()) };
        let ours = here.hashes(shard, author, hashes.from, probe.to)?;
        let last_equal = (0_u64..).zip(ours.iter().zip(&hashes.hashes)).filter(|(_, (a, b))| a == b).last();
        match last_equal {
            Some((offset, _)) => {
                self.found_common(here, (shard, author), hashes.from + offset, &probe, effects)?;
            }
            None => {
                let to = hashes.from.min(probe.to).saturating_sub(1);
                self.probe(here, shard, author, Probe { to, ..probe }, effects)?;
            }
        }
        self.flow_if_settled(here, shard, effects)
    }

    /// Renews this site's current incarnation if it forked, or if the peer knows more of it than this site, which must
    /// never number those edits again. Of any other author the peer holds a branch that was abandoned: it is asked to
    /// give it back, so that its author re-issues it, and takes it out when it hears of that.
    fn found_common(
        &mut self,
        here: &Here<'_>,
        (shard, author): (ShardId, AuthorId),
        common: u64,
        probe: &Probe,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        let is_current = here.shard(shard)?.is_some_and(|state| state.own.id() == author);
        let forked = common < probe.here && common < probe.there;
        if is_current && (forked || probe.here < probe.there) {
            self.waiting.remove(&shard);
            effects.push(Effect::Renew { shard, author, common });
        } else if forked {
            let recall = Recall { shard, author, from: common + 1 };
            effects.push(Effect::Send(Message::Recall(recall)));
        }
        Ok(())
    }

    /// Begins to send once no comparison is open for the shard.
    fn flow_if_settled(
        &mut self,
        here: &Here<'_>,
        shard: ShardId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StoreError> {
        if self.is_comparing(shard) {
            return Ok(());
        }
        let Some(there) = self.waiting.remove(&shard) else { return Ok(()) };
        if self.passed_over.remove(&shard) {
            effects.push(Effect::Send(Message::Again(Again { shard, heads: here.heads(shard)? })));
        }
        let Some(state) = here.shard(shard)? else { return Ok(()) };
        let fitting = match there.cursor {
            Some(cursor) if here.fits(&state, &cursor)? && !here.lacks_own(shard, self.peer, &there.heads)? => {
                Some(cursor)
            }
            _ => None,
        };
        let (sent, skip) = match fitting {
            Some(cursor) => (cursor, Skip::From(self.peer)),
            None => (Cursor::start(state.epoch), Skip::Heads(there.heads)),
        };
        self.flows.insert(shard, Flow { scanned: sent.position, sent, skip, in_flight: 0, refused: 0 });
        self.pump(here, shard, effects)
    }

    fn again(&mut self, here: &Here<'_>, again: Again, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let Some(state) = here.shard(again.shard)? else { return Ok(()) };
        let Some(flow) = self.flows.get_mut(&again.shard) else { return Ok(()) };
        flow.refused += 1;
        if flow.refused > AGAIN_MAX {
            effects.push(Effect::Close(format!("the peer keeps refusing batches of shard {}", again.shard)));
            return Ok(());
        }
        flow.sent = Cursor::start(state.epoch);
        flow.scanned = 0;
        flow.skip = Skip::Heads(again.heads);
        flow.in_flight = 0;
        self.pump(here, again.shard, effects)
    }

    fn pump_all(&mut self, here: &Here<'_>, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let shards: Vec<ShardId> = self.flows.keys().copied().collect();
        shards.into_iter().try_for_each(|shard| self.pump(here, shard, effects))
    }

    /// Sends batches while there is news and room on the way.
    fn pump(&mut self, here: &Here<'_>, shard: ShardId, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        let (Some(flow), Some(state)) = (self.flows.get_mut(&shard), here.shard(shard)?) else { return Ok(()) };
        if flow.sent.epoch != state.epoch {
            effects.push(Effect::Close(format!("the stream of shard {shard} was renewed")));
            return Ok(());
        }
        while flow.in_flight < BATCHES_IN_FLIGHT_MAX && flow.scanned < state.arrivals {
            let (batch, scanned) = here.batch(&state, flow.sent, flow.scanned, &flow.skip, BATCH_BYTES)?;
            flow.scanned = scanned;
            let silent = batch.items.is_empty();
            if silent && batch.end.position.saturating_sub(flow.sent.position) < SCAN_SILENT_MAX {
                continue;
            }
            flow.sent = batch.end;
            flow.in_flight += 1;
            effects.push(Effect::Send(Message::Batch(Box::new(batch))));
        }
        Ok(())
    }

    /// States what this site holds, where that changed or the last word is old; passes on what the sites above state.
    fn state(&mut self, here: &Here<'_>, now_ms: i64, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        for shard in self.flows.keys() {
            let heads = here.heads(*shard)?;
            let due = self
                .stated
                .get(shard)
                .is_none_or(|(stated, at_ms)| *stated != heads || now_ms - at_ms >= STATEMENT_EVERY_MS);
            if due && let Some(body) = here.statement(*shard, heads.clone(), now_ms)? {
                self.stated.insert(*shard, (heads, now_ms));
                effects.push(Effect::State(body));
            }
            if self.peer_is_child {
                for statement in here.statements(*shard)? {
                    let site = statement.body.site;
                    let last = self.relayed.insert((*shard, site), statement.body.at_ms);
                    if site != self.peer && last.is_none_or(|at_ms| at_ms < statement.body.at_ms) {
                        effects.push(Effect::Send(Message::Statement(Box::new(statement))));
                    }
                }
            }
        }
        Ok(())
    }
}

/// How many edits of `heads` are above `below`.
#[must_use]
pub fn edits_above(heads: &Heads, below: &Heads) -> u64 {
    heads
        .iter()
        .map(|(author, (number, _))| number.saturating_sub(below.get(author).map_or(0, |(known, _)| *known)))
        .sum()
}

/// Whether a statement proves that its site holds exactly these edits and records.
#[must_use]
pub fn proves_in_step(theirs: &StatementBody, ours: &StatementBody) -> bool {
    theirs.heads == ours.heads && theirs.edits == ours.edits && theirs.state == ours.state
}

/// The hash at position zero.
pub(crate) const BEGINNING: Hash = Hash([0; 32]);
