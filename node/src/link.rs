//! The links between sites: the driver around `dinhba_core::sync`'s sessions, at both ends.
//!
//! On the leader of each group that hosts shards, the child asks the parent where it hosts them, and opens one session
//! with each group's leader there: about the shards of its area, and the ancestor shards of the units above it. Who may
//! write which is in no list: the seal of each edit must be of a site that serves a unit on the shard's path, so nothing
//! that a child writes into an ancestor shard of a unit above it is taken. Who the parent is, the directory says; a session
//! ends when it says otherwise. A session ends when either leader changes, the connection breaks, or the session
//! says so; the child then tries again after a pause that doubles, with jitter. What a session changes goes through
//! its group's log, so a session may end at any point.
//!
//! When the connection of a session has had its time, the parent waits for a quiet moment, and ends the session with a status that
//! says so; the child goes on with another one at once, and both call the link up meanwhile. Of the sessions of one child about the
//! same shards the last one lives, and of all that it has with one group the last `SESSIONS_MAX`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use dinhba_client::error::moves_on;
use dinhba_client::tls::{MESSAGE_BYTES_MAX, lasting, named, node_name, site_name};
use dinhba_client::transport::Line;
use dinhba_core::command::{Answer, Command, MergeCommand, Renew, Seal, ShardInfo, Statement, StatementBody, Tip};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Incarnation, KeyMark, NodeId, ShardId, SiteId};
use dinhba_core::inject::{is_armed, rarely, sometimes};
use dinhba_core::place::Place;
use dinhba_core::store::StoreError;
use dinhba_core::sync::{BATCH_BYTES, Effect, Event, Here, Message, Moved, Session};
use dinhba_proto::v1::link_client::LinkClient;
use dinhba_proto::v1::{LinkFrame, LocateRequest, LocatedGroup};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use futures::channel::mpsc;
use futures::future::{self, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use openraft_rt::watch::WatchReceiver;
use tonic::Status;

use crate::hosted::{Hosted, PROPOSE_WAIT};
use crate::moves::Moves;
use crate::runtime::{self, Instant};
use crate::sessions::Seated;
use crate::shared::{Above, Shared};

/// How long the first words of a connection may take: three slow round trips.
pub(crate) const GREETING_WAIT: Duration = Duration::from_secs(10);

/// Nothing was said for so long: a round trip of a bad link, so that little that is on its way is sent twice.
const QUIET: Duration = Duration::from_secs(2);

/// A child comes back within this once a session was ended for its connection's age: until then the link is not said to be down.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// Messages above this size are compressed; below, the frame costs more than it saves.
const COMPRESS_FROM: usize = 512;

/// What a compressed message may grow to: several times the largest batch, and a bound on a hostile one.
const MESSAGE_BYTES_MAX_DECOMPRESSED: usize = 8 << 20;

/// Batches of a session that are being proposed or wait for one before them; nothing more is read beyond. Four of each of some
/// shards; at most 6 MiB that an entry of the log may have, and from a hostile neighbour one message above it, at which the session ends.
const MERGES_MAX: usize = 16;

/// Fast, and within a few percent of the best for batches of this size.
const ZSTD_LEVEL: i32 = 3;

/// Bytes of what a session says it is about.
pub(crate) const ABOUT_BYTES_MAX: usize = 16;

/// What a set of shards is called in the first frame of a session.
fn name_of(shards: &BTreeSet<ShardId>) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    for shard in shards {
        hasher.update(&shard.0.to_be_bytes());
    }
    hasher.finalize().as_bytes()[..ABOUT_BYTES_MAX].to_vec()
}

/// What holds a session at its parent: its place, and its connection's time.
pub(crate) struct Held {
    pub(crate) seated: Seated,
    pub(crate) over: BoxFuture<'static, ()>,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Its connection has had its time: it is to go on where it was.
    MoveOn,
    /// The child began another one.
    Replaced,
    /// In words.
    Why(String),
}

impl From<String> for End {
    fn from(why: String) -> Self {
        End::Why(why)
    }
}

/// What goes over the wire in one direction.
type Outgoing = mpsc::UnboundedSender<LinkFrame>;
/// What comes from the other.
pub(crate) type Incoming = Pin<Box<dyn Stream<Item = Result<LinkFrame, Status>> + Send>>;

/// A message as a frame.
fn frame(message: &Message) -> Result<LinkFrame, String> {
    let bytes = message.to_bytes();
    if bytes.len() < COMPRESS_FROM {
        return Ok(LinkFrame { message: bytes, ..LinkFrame::default() });
    }
    let packed = zstd::bulk::compress(&bytes, ZSTD_LEVEL).map_err(|error| format!("compression: {error}"))?;
    Ok(LinkFrame { message: packed, compressed: true, ..LinkFrame::default() })
}

/// The message in a frame.
fn message(frame: &LinkFrame) -> Result<Message, String> {
    let unpacked;
    let bytes = if frame.compressed {
        unpacked = zstd::bulk::decompress(&frame.message, MESSAGE_BYTES_MAX_DECOMPRESSED)
            .map_err(|error| format!("a message that cannot be decompressed: {error}"))?;
        &unpacked
    } else {
        &frame.message
    };
    Message::from_bytes(bytes).map_err(|error| error.to_string())
}

/// One session from its first word to its last.
pub(crate) struct Conversation {
    shared: Arc<Shared>,
    hosted: Hosted,
    peer: SiteId,
    peer_is_child: bool,
    session: Session,
    /// How often the state had moved when the session was told of it last.
    seen: u64,
    /// Batches that are being proposed: of each shard one at a time, since one is taken only after the one before it.
    merging: FuturesUnordered<BoxFuture<'static, (ShardId, Result<Answer, String>)>>,
    /// Those of these shards that come after it.
    merged_next: BTreeMap<ShardId, VecDeque<MergeCommand>>,
    outgoing: Outgoing,
    /// Whose signatures were refused: said once of each.
    refused: BTreeSet<SiteId>,
    /// The directory by which a signature or a batch was refused first: by another one it may be good.
    refused_by: Option<Arc<Place>>,
    /// At the parent.
    held: Option<Held>,
    /// When something was said last.
    spoke: Instant,
}

impl Conversation {
    /// A session of a group with a peer site, about `offered` shards.
    pub(crate) fn new(
        shared: Arc<Shared>,
        hosted: Hosted,
        peer: SiteId,
        peer_is_child: bool,
        offered: BTreeSet<ShardId>,
        outgoing: Outgoing,
        held: Option<Held>,
    ) -> Self {
        let batch_bytes = usize::try_from(shared.config.link.batch_bytes_max).unwrap_or(usize::MAX);
        let session = Session::new(peer, peer_is_child, offered).with_batch_bytes(batch_bytes);
        let seen = hosted.moves().count();
        Conversation {
            shared,
            hosted,
            peer,
            peer_is_child,
            session,
            seen,
            merging: FuturesUnordered::new(),
            merged_next: BTreeMap::new(),
            outgoing,
            refused: BTreeSet::new(),
            refused_by: None,
            held,
            spoke: runtime::now(),
        }
    }

    /// Speaks until the session ends; returns why it did. One that is to go on counts as one that runs for a while.
    pub(crate) async fn run(mut self, mut incoming: Incoming) -> End {
        let mut living = self.shared.links.begin(self.hosted.id(), self.peer, !self.peer_is_child);
        let end = match self.converse(&mut incoming).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        match &end {
            End::MoveOn => {
                "the peer did not come back".clone_into(&mut living.why);
                runtime::spawn("link moves on", async move {
                    runtime::sleep(BACK_WITHIN).await;
                    drop(living);
                });
            }
            End::Replaced => "replaced by another session of the peer".clone_into(&mut living.why),
            End::Why(why) => why.clone_into(&mut living.why),
        }
        end
    }

    /// Whether this is a moment to let go of a session whose connection has had its time: nothing is on its way, or it is late.
    fn may_move_on(&self, over: Instant) -> bool {
        let age_max = Duration::from_millis(self.shared.config.node.connection_age_ms);
        let now = runtime::now();
        let is_quiet = self.merging.is_empty() && now - self.spoke >= QUIET.min(age_max / 4);
        is_quiet || now - over >= age_max / 2
    }

    async fn converse(&mut self, incoming: &mut Incoming) -> Result<Infallible, End> {
        // Who was just elected or restarted may not show yet what this site numbered and sent before. Told of it by the
        // peer, it would take itself for restored from a backup.
        if !is_armed("speak-before-caught-up") {
            self.hosted.group.barrier(PROPOSE_WAIT).await.map_err(|error| error.to_string())?;
        }
        let mut moved = self.hosted.follow();
        self.handle(Event::Opened).await?;
        let mut stopping = self.shared.stopping();
        // How soon statements follow news, and how soon the loss of leadership ends the session.
        let pause = self.shared.rhythm();
        let mut tick = Box::pin(runtime::sleep(pause));
        // The place is given back with the session.
        let (mut seat, over) = self.held.take().map(|held| (held.seated, held.over)).unzip();
        let mut over = over.unwrap_or_else(|| future::pending().boxed()).fuse();
        let mut taken =
            seat.as_mut().map_or_else(|| future::pending().boxed(), |seat: &mut Seated| seat.taken().boxed()).fuse();
        let mut over_since: Option<Instant> = None;
        loop {
            let is_full =
                self.merging.len() + self.merged_next.values().map(VecDeque::len).sum::<usize>() >= MERGES_MAX;
            let mut next = pin!(async { if is_full { future::pending().await } else { incoming.next().await } }.fuse());
            // Biased, in an order that lets time pass even under a flood of messages.
            futures::select_biased! {
                _ = WatchReceiver::changed(&mut stopping).fuse() => {
                    return Err("this node is stopping".to_owned().into());
                }
                () = &mut taken => return Err(End::Replaced),
                () = &mut over => over_since = Some(runtime::now()),
                () = (&mut tick).fuse() => {
                    if !self.hosted.group.is_leader() {
                        sometimes("a link ends since the lead moved", true);
                        return Err("this node no longer leads the group".to_owned().into());
                    }
                    if sometimes("a link ends since its site is linked elsewhere", !self.is_still_linked()) {
                        return Err(format!("the directory has moved: {} is linked elsewhere now", self.peer).into());
                    }
                    if sometimes("what was refused may be good now", self.may_be_good_now()) {
                        return Err("the directory has moved: what was refused may be good now".to_owned().into());
                    }
                    if over_since.is_some_and(|since| self.may_move_on(since)) {
                        return Err(End::MoveOn);
                    }
                    self.handle(Event::Tick(runtime::utc_ms())).await?;
                    tick = Box::pin(runtime::sleep(pause));
                }
                (shard, answer) = self.merging.select_next_some() => self.merged(shard, answer?).await?,
                frame = next => match frame {
                    Some(Ok(frame)) => {
                        self.spoke = runtime::now();
                        self.handle(Event::Received(message(&frame)?)).await?;
                    }
                    Some(Err(status)) if moves_on(&status) => return Err(End::MoveOn),
                    Some(Err(status)) => return Err(format!("the peer: {}", status.message()).into()),
                    None => return Err("the peer closed the link".to_owned().into()),
                },
                change = WatchReceiver::changed(&mut moved).fuse() => match change {
                    Ok(()) => {
                        let (moved, count) = self.hosted.moves().since(self.seen);
                        self.seen = count;
                        self.handle(Event::Advanced(moved)).await?;
                    }
                    // It says so at once and for ever: going on would keep the thread busy.
                    Err(_) => return Err("this node's replica of the group has stopped".to_owned().into()),
                },
            }
        }
    }

    /// Whether the directory still has the link on which this session speaks. The site below says so: it has to hear first that it is
    /// linked elsewhere.
    fn is_still_linked(&self) -> bool {
        match self.peer_is_child {
            true => self.shared.may_be_child(self.peer),
            false => self.shared.parent().is_some_and(|parent| parent.site == self.peer),
        }
    }

    /// Whether something was refused by a directory that has moved since. What was refused is only told again in another
    /// session.
    fn may_be_good_now(&self) -> bool {
        self.refused_by.as_ref().is_some_and(|by| !Arc::ptr_eq(by, &self.shared.place()))
    }

    /// Takes one event and what follows from it.
    async fn handle(&mut self, event: Event) -> Result<(), String> {
        let keys = self.hosted.keys();
        let session = &mut self.session;
        let effects = self
            .hosted
            .look(|view| session.handle(&Here { view, keys }, event))
            .map_err(|error| format!("this node's storage: {error}"))?;
        for effect in effects {
            match effect {
                Effect::Send(message) => self.send(&message)?,
                Effect::Edits { mut batch, own } => {
                    batch.seals.extend(own.into_iter().map(|tip| self.seal(tip)));
                    self.send(&Message::Batch(batch))?;
                }
                Effect::Merge(batch) => {
                    let shard =
                        self.hosted.shard(batch.shard).map_err(|error| format!("this node's storage: {error}"))?;
                    let shard = shard.ok_or_else(|| format!("shard {} is not hosted here", batch.shard))?.info;
                    let command = batch.into_command(self.peer, runtime::utc_ms(), |seal| self.holds(&shard, seal));
                    match self.merged_next.get_mut(&command.shard) {
                        Some(before) => before.push_back(command),
                        None => self.merge(command),
                    }
                }
                Effect::Renew { shard, author } => {
                    tracing::warn!(%shard, %author, "this site came back from a backup: renewing the incarnation");
                    if is_armed("no-renew") {
                        return Err("the incarnation was not renewed".to_owned());
                    }
                    let renew =
                        Renew { shard, author, incarnation: Incarnation(runtime::random()), epoch: runtime::random() };
                    propose(&self.hosted, Command::Renew(renew)).await?;
                    return Err("the incarnation was renewed".to_owned());
                }
                Effect::State { own, relayed } => {
                    let signed = own.into_iter().map(|body| self.sign(body));
                    for statements in chunks(signed.chain(relayed)) {
                        self.send(&Message::Statements(statements))?;
                    }
                }
                Effect::Keep(mut statements) => {
                    statements.retain(|Statement { body, signature }| {
                        self.signed_with(body.site, &body.to_bytes(), signature, "a statement").is_some()
                    });
                    if !statements.is_empty() {
                        propose(&self.hosted, Command::Keep(statements)).await?;
                    }
                }
                Effect::Close(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Begins to propose a batch. Those of other shards do not wait for it.
    fn merge(&mut self, command: MergeCommand) {
        let (shard, hosted) = (command.shard, self.hosted.clone());
        let command = Command::Merge(Box::new(command));
        let twice = rarely("a batch is proposed twice").then(|| command.clone());
        self.merged_next.entry(shard).or_default();
        let proposed = async move {
            let answer = propose(&hosted, command).await;
            if let (Some(again), Ok(_)) = (twice, &answer)
                && let Err(why) = propose(&hosted, again).await
            {
                return (shard, Err(why));
            }
            (shard, answer)
        };
        self.merging.push(proposed.boxed());
    }

    /// A batch was decided: the next one of its shard takes its turn.
    async fn merged(&mut self, shard: ShardId, answer: Answer) -> Result<(), String> {
        let Answer::Merged(merged) = answer else { return Err(format!("a batch was not taken: {answer:?}")) };
        match self.merged_next.get_mut(&shard).and_then(VecDeque::pop_front) {
            // What was refused has no second batch.
            Some(next) if merged.refused.is_none() => self.merge(next),
            _ => _ = self.merged_next.remove(&shard),
        }
        self.report(&merged);
        if rarely("a link is lost before it acknowledges") {
            return Err("lost before the acknowledgement".to_owned());
        }
        self.handle(Event::Merged(merged)).await
    }

    fn report(&mut self, merged: &dinhba_core::command::Merged) {
        if let Some(author) = merged.refused {
            // Under another key of its site it may be taken.
            self.refused_by.get_or_insert(self.shared.place());
            tracing::error!(
                shard = %merged.shard, %author, peer = %self.peer,
                "the peer sends edits for which their author's site does not give its word, or that no honest site sends: nothing \
                 more of this shard is taken from it on this link. If it is a site of this country, look at its key in the \
                 directory",
            );
        }
        for author in &merged.parked {
            tracing::error!(shard = %merged.shard, %author, peer = %self.peer, "an author's chain broke: parked");
        }
        if merged.poisoned > 0 {
            tracing::warn!(shard = %merged.shard, edits = merged.poisoned, peer = %self.peer, "edits were set aside");
        }
    }

    fn send(&mut self, message: &Message) -> Result<(), String> {
        self.spoke = runtime::now();
        self.outgoing.unbounded_send(frame(message)?).map_err(|_| "the link is closed".to_owned())
    }

    fn sign(&self, body: StatementBody) -> Statement {
        let signature = self.shared.signing_key.sign(&body.to_bytes()).to_bytes();
        Statement { body, signature }
    }

    fn seal(&self, tip: Tip) -> Seal {
        Seal { tip, signature: self.shared.signing_key.sign(&tip.signed_bytes()).to_bytes() }
    }

    /// The key with which its author's site gave its word, if it did and is one that may write this shard: it serves the shard's
    /// home, or a unit above it.
    fn holds(&mut self, shard: &ShardInfo, seal: &Seal) -> Option<KeyMark> {
        if is_armed("door-takes-any-word") {
            return Some(KeyMark::default());
        }
        let (site, place) = (seal.tip.author.site, self.shared.place());
        let may_write = is_armed("any-site-writes-anywhere")
            || place.sites.get(&site).is_some_and(|listed| shard.path.contains(&listed.unit));
        if !may_write && self.note_refused(site) {
            tracing::error!(%site, shard = %shard.shard, peer = %self.peer, "edits of a site that does not write this shard");
        }
        may_write.then(|| self.signed_with(site, &seal.tip.signed_bytes(), &seal.signature, "edits")).flatten()
    }

    /// Keeps that a site's signature was refused; whether it is the first time.
    fn note_refused(&mut self, site: SiteId) -> bool {
        self.refused_by.get_or_insert(self.shared.place());
        self.refused.insert(site)
    }

    /// The key with which a site signed it; none if it did not, or if the directory does not list the site.
    fn signed_with(&mut self, site: SiteId, bytes: &[u8], signature: &[u8; 64], what: &str) -> Option<KeyMark> {
        let place = self.shared.place();
        let Some(listed) = place.sites.get(&site) else {
            if self.note_refused(site) {
                tracing::warn!(%site, peer = %self.peer, what, "signed by an unknown site");
            }
            return None;
        };
        let signature = Signature::from_bytes(signature);
        let by = |key: &&[u8; 32]| {
            VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(bytes, &signature).is_ok())
        };
        let signed = listed.keys.iter().find(by).map(KeyMark::of);
        if signed.is_none() && self.note_refused(site) {
            tracing::error!(%site, peer = %self.peer, what, "a false signature");
        }
        signed
    }
}

/// Proposes a command, and waits until this replica, which the session reads, shows what was decided.
async fn propose(hosted: &Hosted, command: Command) -> Result<Answer, String> {
    match hosted.propose(command).await {
        Ok((Answer::Refused(refusal), _)) => Err(format!("refused by this site: {}", refusal.text)),
        Ok((answer, index)) => {
            hosted.wait_applied(index).await.map_err(|error| error.to_string())?;
            Ok(answer)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Statements in the order given, in lists of about the size of a batch: each becomes one log entry of its receiver.
fn chunks(statements: impl Iterator<Item = Statement>) -> Vec<Vec<Statement>> {
    let (mut chunks, mut bytes): (Vec<Vec<Statement>>, _) = (Vec::new(), 0);
    for statement in statements {
        let size = statement.to_bytes().len();
        bytes += size;
        match chunks.last_mut() {
            Some(chunk) if bytes <= BATCH_BYTES => chunk.push(statement),
            _ => {
                chunks.push(vec![statement]);
                bytes = size;
            }
        }
    }
    chunks
}

/// The shards that a group hosts, kept by what moves: of thousands that are there already none is read again.
#[derive(Default)]
struct Hosting {
    /// How often the state had moved when it was looked at last.
    seen: Option<u64>,
    shards: BTreeSet<ShardId>,
}

impl Hosting {
    /// The shards by now. `all` reads which there are, `has` whether one is there.
    fn look<E>(
        &mut self,
        moves: &Moves,
        all: impl FnOnce() -> Result<BTreeSet<ShardId>, E>,
        has: impl Fn(ShardId) -> Result<bool, E>,
    ) -> Result<&BTreeSet<ShardId>, E> {
        // What moves while it is read is looked at again the next time.
        let (moved, count) = self.seen.map_or_else(|| (Moved::Any, moves.count()), |seen| moves.since(seen));
        match moved {
            Moved::Any => self.shards = all()?,
            Moved::Shards(moved) => {
                for shard in moved {
                    if !self.shards.contains(&shard) && has(shard)? {
                        self.shards.insert(shard);
                    }
                }
            }
        }
        self.seen = Some(count);
        Ok(&self.shards)
    }

    fn of(&mut self, hosted: &Hosted) -> Result<&BTreeSet<ShardId>, StoreError> {
        let all = || Ok(hosted.shards()?.iter().map(|shard| shard.info.shard).collect());
        self.look(hosted.moves(), all, |shard| Ok(hosted.shard(shard)?.is_some()))
    }
}

/// Keeps the links of one group with the parent, for as long as this node runs.
pub(crate) async fn keep_parent_links(shared: Arc<Shared>, hosted: Hosted) {
    let (mut pause, mut running) = (shared.backoff_min(), FuturesUnordered::new());
    let mut covered: BTreeSet<ShardId> = BTreeSet::new();
    let mut hosting = Hosting::default();
    while !shared.is_stopping() {
        let parent = shared.parent().filter(|_| hosted.group.is_leader());
        let wanted: BTreeSet<ShardId> = match parent.is_some().then(|| hosting.of(&hosted)) {
            Some(Ok(shards)) => shards.difference(&covered).copied().collect(),
            _ => BTreeSet::new(),
        };
        let Some(parent) = parent.filter(|_| !wanted.is_empty()) else {
            pause = shared.backoff_min();
            wait(&shared, shared.rhythm(), &mut running, &mut covered).await;
            continue;
        };
        let before = covered.len();
        let why = match locate(&shared, &parent, &wanted).await {
            Ok(groups) => {
                for group in groups {
                    let shards: BTreeSet<ShardId> = group
                        .shards
                        .iter()
                        .filter_map(|shard| shard.parse().ok())
                        .filter(|shard| wanted.contains(shard) && !covered.contains(shard))
                        .collect();
                    // Not a session about nothing: the next round would open another one beside it.
                    if shards.is_empty() {
                        continue;
                    }
                    covered.extend(&shards);
                    let (shared, hosted) = (Arc::clone(&shared), hosted.clone());
                    let parent = parent.site;
                    running.push(speak(shared, hosted, parent, group, shards).boxed());
                }
                None
            }
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            shared.links.failed(hosted.id(), parent.site, true, why);
        }
        let has_more = covered.len() > before;
        wait(&shared, runtime::jitter(pause), &mut running, &mut covered).await;
        // A parent that lacks some of the shards is not asked for them at every turn.
        pause = if has_more { shared.backoff_min() } else { (pause * 2).min(shared.backoff_max()) };
    }
}

type Running<'a> = FuturesUnordered<BoxFuture<'a, (String, BTreeSet<ShardId>)>>;

/// Lets the sessions run for `pause`; of those that end, the shards are wanted again.
async fn wait(shared: &Shared, pause: Duration, running: &mut Running<'_>, covered: &mut BTreeSet<ShardId>) {
    let mut stopping = shared.stopping();
    let mut pause = Box::pin(runtime::sleep(pause).fuse());
    loop {
        futures::select_biased! {
            _ = WatchReceiver::changed(&mut stopping).fuse() => return,
            ended = running.select_next_some() => {
                let (why, shards) = ended;
                tracing::debug!(why, "session ended");
                covered.retain(|shard| !shards.contains(shard));
            }
            () = pause => return,
        }
    }
}

/// Asks the parent's nodes in turn where the shards are.
async fn locate(shared: &Shared, parent: &Above, wanted: &BTreeSet<ShardId>) -> Result<Vec<LocatedGroup>, String> {
    let mut last = format!("no address of the parent {} is known: its record in the directory has none", parent.site);
    for address in &parent.addresses {
        let ask = async {
            let transport = shared.dial.dial(named(&site_name(parent.site), address)).await;
            let mut client = LinkClient::new(Line(transport.map_err(|error| lasting(&error))?));
            let shards = wanted.iter().map(ToString::to_string).collect();
            let reply = client.locate(LocateRequest { shards }).await;
            reply.map(|reply| reply.into_inner().groups).map_err(|status| format!("{address}: {}", status.message()))
        };
        match runtime::timeout(GREETING_WAIT, ask).await {
            Ok(Ok(groups)) => {
                if groups.is_empty() {
                    return Err(format!("the parent {} hosts none of the shards", parent.site));
                }
                let led: Vec<_> = groups.into_iter().filter(|group| !group.address.is_empty()).collect();
                if !led.is_empty() {
                    return Ok(led);
                }
                last = format!("{address}: the parent has no leader for the shards now");
            }
            Ok(Err(why)) => last = why,
            Err(_) => last = format!("{address}: no answer in time"),
        }
    }
    Err(last)
}

/// Sessions with one of the parent's groups, one after the other for as long as each ends only since its connection has had its time.
async fn speak(
    shared: Arc<Shared>,
    hosted: Hosted,
    parent: SiteId,
    group: LocatedGroup,
    shards: BTreeSet<ShardId>,
) -> (String, BTreeSet<ShardId>) {
    loop {
        let began = runtime::now();
        let (outgoing, frames) = mpsc::unbounded();
        let naming = LinkFrame { group: group.group.clone(), about: name_of(&shards), ..LinkFrame::default() };
        if outgoing.unbounded_send(naming).is_err() {
            return ("the link is closed".to_owned(), shards);
        }
        let opened = runtime::timeout(GREETING_WAIT, async {
            let leader: NodeId = group.leader.parse().map_err(|_| "the parent names its leader wrongly".to_owned())?;
            let address = shared.parent_address(leader, &group.address);
            let transport =
                shared.dial.dial(named(&node_name(leader), &address)).await.map_err(|error| lasting(&error))?;
            let mut client = LinkClient::new(Line(transport))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            client.session(frames).await.map_err(|status| status.message().to_owned())
        });
        let why = match opened.await.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(reply) => {
                let (here, hosted) = (Arc::clone(&shared), hosted.clone());
                let conversation = Conversation::new(here, hosted, parent, false, shards.clone(), outgoing, None);
                match conversation.run(Box::pin(reply.into_inner())).await {
                    // One that ends at once would be begun again and again.
                    End::MoveOn if runtime::now() - began >= shared.backoff_min() => continue,
                    End::MoveOn => "the parent ends a session that has just begun".to_owned(),
                    End::Replaced => "ended".to_owned(),
                    End::Why(why) => why,
                }
            }
            Err(why) => {
                shared.links.failed(hosted.id(), parent, true, why.clone());
                why
            }
        };
        return (why, shards);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn of_many_shards_none_is_read_again_but_what_is_new() {
        let (moves, there, reads) = (Moves::default(), Cell::new(5_000), Cell::new(0));
        let all = || {
            reads.set(reads.get() + there.get());
            Ok::<_, Infallible>((1..=there.get()).map(ShardId).collect())
        };
        let has = |shard: ShardId| {
            reads.set(reads.get() + 1);
            Ok(shard.0 <= there.get())
        };
        let mut hosting = Hosting::default();
        let mut look = |expected: u64, cost: u64| {
            reads.set(0);
            let count = hosting.look(&moves, all, has).unwrap().len() as u64;
            assert_eq!((count, reads.get()), (expected, cost));
        };
        look(5_000, 5_000);
        look(5_000, 0);
        for _ in 0..1_000 {
            moves.note(Moved::Shards((1..=100).map(ShardId).collect()));
        }
        look(5_000, 0);
        there.set(5_001);
        moves.note(Moved::Shards(BTreeSet::from([ShardId(7), ShardId(5_001), ShardId(6_000)])));
        look(5_001, 2);
        moves.note(Moved::Any);
        look(5_001, 5_001);
    }
}
