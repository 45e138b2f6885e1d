//! A client of one site: it fails over among the site's nodes and asks again until an answer comes or patience ends.
//!
//! Promises: a request named by a [`RequestId`] is sent unchanged every time, so that it is applied once whatever breaks in
//! between; [`Error::Unreachable`] is said only if surely nothing was accepted. Only the given addresses are dialed: they
//! must be nodes of one site, because another site would number the same request again. Of more calls than the site can
//! serve, each is refused within [`Limits::turn`], before anything was sent: what waits in a connection's own queue instead
//! runs into its deadline there, and nobody knows what became of it.
//! A refusal is believed only while no earlier attempt may still be under way, unless the request is refused by itself or for
//! its caller's sake: the first attempt may be accepted after the second was refused, as when a record comes in between, or
//! at a node that was stopped for an hour. An acceptance is always the last word. See `errors.proto`.
//! A node that says when to ask again (`google.rpc.RetryInfo`) is not asked earlier, within the client's own deadline.
//! Leaves to others: who the caller is (the [`Dial`]), what may be asked (the node).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, GroupId, NodeId, RecordId, RequestId, ShardId};
use dinhba_core::signed_receipt::SignedReceipt;
use dinhba_core::units::Tier;
use dinhba_proto::v1;
use tokio::sync::Semaphore;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status};
use v1::records_client::RecordsClient;
use v1::site_client::SiteClient;

use crate::ambient::{Ambient, Machine, jitter, within};
use crate::error::{Cause, Error, Told, Verdict};
use crate::event::EventBuilder;
use crate::request::{Accepted, Context, EditBuilder, Find, Session, element_key, field_of, wire_request};
use crate::tls::{CONNECT_TIMEOUT, Credentials, DialError, MESSAGE_BYTES_MAX, STREAMS_MAX, TlsDialer};
use crate::transport::Line;
use crate::transport::{Dial, Transport};

/// Calls under way at once, but for streams, of a client and its clones: below what a node takes on one connection, so that
/// none waits unseen, and streams find room.
pub const CALLS_MAX: usize = STREAMS_MAX as usize * 7 / 8;

/// How often a status of several pages is begun: anew where another node answers in the middle of it.
const STATUS_BEGUN_MAX: usize = 3;

pub(crate) const NO_ADDRESS: &str = "no address of a node was given";

/// How long a client waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a turn among [`CALLS_MAX`]. Two seconds are thousands of calls to a busy site; who waits longer is told to come
    /// back later.
    pub turn: Duration,
    /// For one answer of one node. Five seconds are an election and a slow disk.
    pub attempt: Duration,
    /// For an answer of any node, retries included.
    pub deadline: Duration,
    /// For the answer to an administrative call, which may wait for a learner to catch up.
    pub admin: Duration,
    /// The pause after all nodes have failed once; it doubles with every further round.
    pub pause_min: Duration,
    /// The longest such pause: a node that comes back is found within seconds.
    pub pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            turn: Duration::from_secs(2),
            attempt: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
            admin: Duration::from_secs(60),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        }
    }
}

/// A client of one site. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    site: Arc<Nodes>,
    limits: Limits,
    /// When its calls have ended, by its clock, if that is set.
    ends: Option<Duration>,
}

struct Nodes {
    dial: Arc<dyn Dial>,
    ambient: Arc<dyn Ambient>,
    nodes: Vec<Node>,
    /// The node that answered last.
    preferred: AtomicUsize,
    /// One for each call under way.
    turns: Semaphore,
}

struct Node {
    address: String,
    connection: Mutex<Option<Transport>>,
}

/// Why a call gave no answer.
enum Failure {
    Refused(Told),
    GaveUp { may_be_accepted: bool, cause: Cause },
}

impl Failure {
    /// As the failure of a call that changes nothing, or nothing that matters.
    fn of_read(self) -> Error {
        match self {
            Failure::Refused(told) => Error::refused(&told),
            Failure::GaveUp { cause, .. } => cause.unreachable(),
        }
    }

    fn of_change(self, request: Option<RequestId>) -> Error {
        match self {
            Failure::GaveUp { may_be_accepted: true, cause } => Error::OutcomeUnknown { request, text: cause.text },
            other => other.of_read(),
        }
    }
}

pub(crate) fn records(transport: Transport) -> RecordsClient<Line> {
    RecordsClient::new(Line(transport))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Zstd)
}

pub(crate) fn site(transport: Transport) -> SiteClient<Line> {
    SiteClient::new(Line(transport))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Zstd)
}

impl Client {
    /// A client of the site whose nodes listen at `nodes` (`host:port`, or `name@host:port`, see [`crate::tls`]).
    #[must_use]
    pub fn new(
        dial: Arc<dyn Dial>,
        nodes: impl IntoIterator<Item = String>,
        ambient: Arc<dyn Ambient>,
        limits: Limits,
    ) -> Self {
        let nodes = nodes.into_iter().map(|address| Node { address, connection: Mutex::new(None) }).collect();
        Client {
            site: Arc::new(Nodes {
                dial,
                ambient,
                nodes,
                preferred: AtomicUsize::new(0),
                turns: Semaphore::new(CALLS_MAX),
            }),
            limits,
            ends: None,
        }
    }

    /// The same client with other limits.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Client { site: Arc::clone(&self.site), limits, ends: self.ends }
    }

    /// The same client for one errand of several calls: all of them, but for streams, end within `wait` from now.
    #[must_use]
    pub fn for_errand(&self, wait: Duration) -> Self {
        Client { ends: Some(self.ambient().elapsed() + wait), ..self.clone() }
    }

    /// Its clock and chance.
    #[must_use]
    pub fn ambient(&self) -> &dyn Ambient {
        &*self.site.ambient
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// A new session.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::mint(self.ambient())
    }

    // Records.

    /// Sends an edit under the session's next name; see [`edit_as`](Self::edit_as).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn edit(&self, session: &Session, edit: &EditBuilder) -> Result<Accepted, Error> {
        self.edit_as(session.next(), edit).await
    }

    /// Sends an edit under the name `request`, which was not sent before, again and again until a definite answer or the
    /// deadline. It is applied once.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if it may have been accepted: send it again to the same site, with
    /// [`edit_again`](Self::edit_again).
    pub async fn edit_as(&self, request: RequestId, edit: &EditBuilder) -> Result<Accepted, Error> {
        self.send_edit(request, edit, false).await
    }

    /// Sends an edit once more whose outcome is not known. The earlier sending may still be under way: so a refusal that
    /// depends on what the site holds leaves the outcome open, and [`history`](Self::history) shows sooner or later whether
    /// the request was accepted.
    ///
    /// # Errors
    /// As of [`edit_as`](Self::edit_as).
    pub async fn edit_again(&self, request: RequestId, edit: &EditBuilder) -> Result<Accepted, Error> {
        self.send_edit(request, edit, true).await
    }

    async fn send_edit(&self, request: RequestId, edit: &EditBuilder, is_open: bool) -> Result<Accepted, Error> {
        let message = edit.build(request, self.ambient().utc_ms());
        let send = |transport, request| async move { records(transport).edit(request).await };
        self.write(request, is_open, message, send).await
    }

    /// Files an event under the session's next name; see [`file_as`](Self::file_as).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn file(&self, session: &Session, event: &EventBuilder) -> Result<Accepted, Error> {
        self.file_as(session.next(), event).await
    }

    /// Files an event under the name `request`, as [`edit_as`](Self::edit_as) sends an edit. The records of the acceptance are
    /// those of its subjects, in order.
    ///
    /// # Errors
    /// As of [`edit_as`](Self::edit_as): with [`file_again`](Self::file_again).
    pub async fn file_as(&self, request: RequestId, event: &EventBuilder) -> Result<Accepted, Error> {
        self.send_event(request, event, false).await
    }

    /// Files an event once more whose outcome is not known, as [`edit_again`](Self::edit_again) does with an edit. What was seen of
    /// its records may be read anew: it does not count for whether the two are the same.
    ///
    /// # Errors
    /// As of [`edit_as`](Self::edit_as).
    pub async fn file_again(&self, request: RequestId, event: &EventBuilder) -> Result<Accepted, Error> {
        self.send_event(request, event, true).await
    }

    async fn send_event(&self, request: RequestId, event: &EventBuilder, is_open: bool) -> Result<Accepted, Error> {
        let message = event.build(request, self.ambient().utc_ms());
        let send = |transport, request| async move { records(transport).file(request).await };
        self.write(request, is_open, message, send).await
    }

    /// A receipt for others of a request that this site accepted, with the new values of these fields shown; see
    /// [`crate::receipt`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn receipt(
        &self,
        context: &Context,
        request: RequestId,
        shard: Option<ShardId>,
        show: &[String],
    ) -> Result<SignedReceipt, Error> {
        let (context, request) = (context.wire(), Some(wire_request(request)));
        let message = v1::ReceiptRequest { context, request, shard: shard_text(shard), show: show.to_vec() };
        let reply = self.read(message, |transport, request| async move { records(transport).receipt(request).await });
        SignedReceipt::from_bytes(&reply.await?.receipt).map_err(|_| Error::Protocol("no receipt"))
    }

    /// A client as the environment describes it: the nodes of one site in `DINHBA_NODE` (`name@host:port`, with commas), and in
    /// `DINHBA_IDENTITY` the directory with the caller's `ca.pem`, `cert.pem` and `key.pem`. So the command line finds its site too.
    ///
    /// # Errors
    /// What is missing, or cannot be used.
    pub fn of_environment() -> Result<Self, DialError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let missing = |name: &str| DialError::Credentials {
            path: name.to_owned(),
            reason: "this variable of the environment is not set".to_owned(),
        };
        let nodes = variable("DINHBA_NODE").ok_or_else(|| missing("DINHBA_NODE"))?;
        let identity = variable("DINHBA_IDENTITY").ok_or_else(|| missing("DINHBA_IDENTITY"))?;
        let [ca, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|file| Path::new(&identity).join(file));
        let dial = Arc::new(TlsDialer::new(&Credentials::read(&ca, &certificate, &key)?));
        let nodes = nodes.split(',').map(|node| node.trim().to_owned());
        Ok(Client::new(dial, nodes, Arc::new(Machine::default()), Limits::default()))
    }

    /// How far up an accepted request is held, by the signed words of the sites that hold it.
    ///
    /// # Errors
    /// See [`Error`]; a refusal with `NOT_FOUND` if the site does not know the request.
    pub async fn held(&self, request: RequestId, shard: Option<ShardId>) -> Result<v1::HeldReply, Error> {
        self.held_within(request, shard, None, Duration::ZERO).await
    }

    /// Waits until a site of this tier holds an accepted request, for at most `patience`; the answer says whether it does by then,
    /// and who does. Such a word is never taken back, but a site whose data came back from an older copy is told as one that held
    /// it, until what it lacks was sent again.
    ///
    /// # Errors
    /// As of [`held`](Self::held).
    pub async fn wait_until_held(
        &self,
        request: RequestId,
        shard: Option<ShardId>,
        tier: Tier,
        patience: Duration,
    ) -> Result<v1::HeldReply, Error> {
        let over = self.ambient().elapsed() + patience;
        loop {
            let left = over.saturating_sub(self.ambient().elapsed());
            // The answer has the rest of an attempt to come.
            let wait = left.min(self.limits.attempt / 2);
            let reply = self.held_within(request, shard, Some(tier), wait).await?;
            if reply.reached || left <= wait {
                return Ok(reply);
            }
        }
    }

    async fn held_within(
        &self,
        request: RequestId,
        shard: Option<ShardId>,
        tier: Option<Tier>,
        wait: Duration,
    ) -> Result<v1::HeldReply, Error> {
        let until = tier.map(Tier::name).unwrap_or_default().to_owned();
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let message =
            v1::HeldRequest { shard: shard_text(shard), request: Some(wire_request(request)), until, wait_ms };
        self.read(message, |transport, request| async move { records(transport).held(request).await }).await
    }

    /// Decides a conflict: `value` replaces all values of the field that were read in `record`.
    ///
    /// # Errors
    /// See [`edit_as`](Self::edit_as); also if the record has no such field.
    #[allow(clippy::too_many_arguments)] // A decision is that much; a struct would only name it again.
    pub async fn resolve(
        &self,
        request: RequestId,
        context: &Context,
        record: &v1::Record,
        field: &str,
        element: &str,
        value: &str,
        grounds: &str,
    ) -> Result<Accepted, Error> {
        self.edit_as(request, &decision(context, record, field, element, value, grounds)?).await
    }

    /// One record, as it is now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, context: &Context, record: RecordId) -> Result<v1::Record, Error> {
        self.get_as_of(context, record, "", "").await
    }

    /// One record as it was: in law on a day, as it was known at the end of a day or at a moment, or both; empty for now. A look
    /// into the history: it takes the right to that, and is logged so.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_as_of(
        &self,
        context: &Context,
        record: RecordId,
        in_law_on: &str,
        known_on: &str,
    ) -> Result<v1::Record, Error> {
        let (context, record) = (context.wire(), record.to_string());
        let (in_law_on, known_on) = (in_law_on.to_owned(), known_on.to_owned());
        let message = v1::GetRequest { context, record, in_law_on, known_on };
        let reply = self.read(message, |transport, request| async move { records(transport).get(request).await });
        reply.await?.record.ok_or(Error::Protocol("no record in the answer"))
    }

    /// Records by number or name: a page of at most 50. If its `next` is not empty there may be more: ask again with it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn find(&self, context: &Context, find: &Find) -> Result<v1::FindReply, Error> {
        let message = find.wire(context);
        self.read(message, |transport, request| async move { records(transport).find(request).await }).await
    }

    /// The persons who name a household as theirs: a page, as of [`find`](Self::find); `after` is empty for the first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn members(&self, context: &Context, household: RecordId, after: &[u8]) -> Result<v1::FindReply, Error> {
        let (household, after) = (household.to_string(), after.to_vec());
        let message = v1::MembersOfRequest { context: context.wire(), household, after };
        self.read(message, |transport, request| async move { records(transport).members_of(request).await }).await
    }

    /// The households that a person names, then those whose head the person is: a page, as of [`members`](Self::members).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn households(&self, context: &Context, person: RecordId, after: &[u8]) -> Result<v1::FindReply, Error> {
        let (person, after) = (person.to_string(), after.to_vec());
        let message = v1::HouseholdsOfRequest { context: context.wire(), person, after };
        self.read(message, |transport, request| async move { records(transport).households_of(request).await }).await
    }

    /// Every edit of a record, in the order of arrival at the site.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn history(&self, context: &Context, record: RecordId) -> Result<Vec<v1::Entry>, Error> {
        let (mut entries, mut from) = (Vec::new(), 0);
        loop {
            let message = v1::HistoryRequest { context: context.wire(), record: record.to_string(), from };
            let page =
                self.read(message, |transport, request| async move { records(transport).history(request).await });
            let v1::HistoryReply { entries: page, next } = page.await?;
            entries.extend(page);
            match next {
                0 => return Ok(entries),
                next if next > from => from = next,
                _ => return Err(Error::Protocol("a page of a history that leads nowhere")),
            }
        }
    }

    /// Open conflicts of one shard or of all that the caller may see: a page of at most 500, the oldest of them first; `after` is empty
    /// for the first. If its `next` is not empty there may be more: ask again with it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn conflicts(
        &self,
        context: &Context,
        shard: Option<ShardId>,
        after: &[u8],
    ) -> Result<v1::ConflictsReply, Error> {
        let message = v1::ConflictsRequest { context: context.wire(), shard: shard_text(shard), after: after.to_vec() };
        self.read(message, |transport, request| async move { records(transport).conflicts(request).await }).await
    }

    /// A page of a group's access log, from entry `from` (the first is 1).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn access_log(&self, context: &Context, group: GroupId, from: u64) -> Result<v1::AccessLogReply, Error> {
        let message = v1::AccessLogRequest { context: context.wire(), group: group.to_string(), from };
        self.read(message, |transport, request| async move { records(transport).access_log(request).await }).await
    }

    // The site.

    /// How the site is doing, as the node that answers knows it: all pages of it. What is said of different shards may be of different
    /// moments.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self, context: &Context) -> Result<v1::StatusReply, Error> {
        let (mut whole, mut after): (Option<v1::StatusReply>, Vec<u8>) = (None, Vec::new());
        let mut begun = 0;
        loop {
            let message = v1::StatusRequest { context: context.wire(), after: after.clone() };
            let page = self.read(message, |transport, request| async move { site(transport).status(request).await });
            let mut page = match page.await {
                // A node that did not begin it cannot go on with it.
                Err(Error::Refused { code: Code::InvalidArgument, .. })
                    if whole.is_some() && begun < STATUS_BEGUN_MAX =>
                {
                    (whole, after) = (None, Vec::new());
                    continue;
                }
                page => page?,
            };
            let next = std::mem::take(&mut page.next);
            begun += usize::from(whole.is_none());
            let whole = match &mut whole {
                Some(whole) => {
                    add_page(whole, page);
                    whole
                }
                none => none.insert(page),
            };
            if next.is_empty() {
                return Ok(std::mem::take(whole));
            }
            if next == after {
                return Err(Error::Protocol("a page of a status that leads nowhere"));
            }
            after = next;
        }
    }

    /// The directory of the country's sites, as far as the site that answers knows it. How it is changed: [`crate::sites`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sites(&self, context: &Context) -> Result<v1::SitesReply, Error> {
        let message = v1::SitesRequest { context: context.wire() };
        self.read(message, |transport, request| async move { site(transport).sites(request).await }).await
    }

    /// What the centre says of administrative units, over the lists that are built in.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn said_units(&self) -> Result<Vec<v1::SaidUnit>, Error> {
        let (mut units, mut after) = (Vec::new(), String::new());
        loop {
            let message = v1::UnitsRequest { after };
            let page =
                self.read(message, |transport, request| async move { site(transport).units(request).await }).await?;
            units.extend(page.units);
            // Each page goes on behind the one before.
            if page.next.is_empty() || units.last().is_none_or(|last: &v1::SaidUnit| last.unit != page.next) {
                return Ok(units);
            }
            after = page.next;
        }
    }

    /// Makes a started node a learner of all groups.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_node(&self, context: &Context, node: NodeId, address: &str) -> Result<v1::MembersReply, Error> {
        let (node, address) = (node.to_string(), address.to_owned());
        let message = v1::AddNodeRequest { context: context.wire(), node, address };
        self.administer(message, |transport, request| async move { site(transport).add_node(request).await }).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn promote_node(&self, context: &Context, node: NodeId) -> Result<v1::MembersReply, Error> {
        let message = v1::NodeRequest { context: context.wire(), node: node.to_string() };
        self.administer(message, |transport, request| async move { site(transport).promote_node(request).await }).await
    }

    /// Takes a node out for good.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_node(&self, context: &Context, node: NodeId) -> Result<v1::MembersReply, Error> {
        let message = v1::NodeRequest { context: context.wire(), node: node.to_string() };
        self.administer(message, |transport, request| async move { site(transport).remove_node(request).await }).await
    }

    /// Hands the leadership of a group to another voter.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfer_leader(
        &self,
        context: &Context,
        group: GroupId,
        node: NodeId,
    ) -> Result<v1::MembersReply, Error> {
        let (group, node) = (group.to_string(), node.to_string());
        let message = v1::TransferLeaderRequest { context: context.wire(), group, node };
        self.administer(message, |transport, request| async move { site(transport).transfer_leader(request).await })
            .await
    }

    /// Takes a snapshot of every group now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn snapshot(&self, context: &Context) -> Result<v1::SnapshotReply, Error> {
        let message = v1::SnapshotRequest { context: context.wire() };
        self.administer(message, |transport, request| async move { site(transport).snapshot(request).await }).await
    }

    /// Raises the feature level of all groups to `level`, which is one above the present one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn raise_level(&self, context: &Context, level: u32) -> Result<u32, Error> {
        let message = v1::RaiseLevelRequest { context: context.wire(), level };
        let reply =
            self.administer(message, |transport, request| async move { site(transport).raise_level(request).await });
        Ok(reply.await?.level)
    }

    /// Takes a parked author's edits again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn release_author(&self, context: &Context, shard: ShardId, author: AuthorId) -> Result<(), Error> {
        let (shard, author) = (shard.to_string(), author.0.to_vec());
        let message = v1::ReleaseAuthorRequest { context: context.wire(), shard, author };
        self.administer(message, |transport, request| async move { site(transport).release_author(request).await })
            .await
            .map(|_| ())
    }

    // One call.

    pub(crate) async fn read<M: Clone, T, Answer>(
        &self,
        message: M,
        send: impl Fn(Transport, Request<M>) -> Answer,
    ) -> Result<T, Error>
    where
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        let reply = self.call(self.limits.attempt, self.limits.deadline, None, message, send);
        reply.await.map_err(Failure::of_read)
    }

    /// What is accepted once, under the name `request`.
    pub(crate) async fn write<M: Clone, Answer>(
        &self,
        request: RequestId,
        is_open: bool,
        message: M,
        send: impl Fn(Transport, Request<M>) -> Answer,
    ) -> Result<Accepted, Error>
    where
        Answer: Future<Output = Result<Response<v1::EditReply>, Status>>,
    {
        let reply = self.call(self.limits.attempt, self.limits.deadline, Some(is_open), message, send);
        Accepted::from_wire(request, reply.await.map_err(|failure| failure.of_change(Some(request)))?)
    }

    /// Every administrative call says the state that it wants, so that it can be sent twice.
    async fn administer<M: Clone, T, Answer>(
        &self,
        message: M,
        send: impl Fn(Transport, Request<M>) -> Answer,
    ) -> Result<T, Error>
    where
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        let reply = self.call(self.limits.admin, self.limits.admin, Some(false), message, send);
        reply.await.map_err(|failure| failure.of_change(None))
    }

    /// Sends `message` to one node after the other until one gives a definite answer, or `deadline` is over. `is_open` says of
    /// a request that changes something whether it was sent before with an outcome that is not known; none of a read.
    async fn call<M: Clone, T, Answer>(
        &self,
        attempt: Duration,
        deadline: Duration,
        is_open: Option<bool>,
        message: M,
        send: impl Fn(Transport, Request<M>) -> Answer,
    ) -> Result<T, Failure>
    where
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        let (changes, mut is_open) = (is_open.is_some(), is_open.unwrap_or(false));
        let Some(Ok(_turn)) = within(self.ambient(), self.limits.turn, self.site.turns.acquire()).await else {
            let text = format!("{CALLS_MAX} calls of this client are under way already and none was answered in time");
            return Err(Failure::GaveUp { may_be_accepted: is_open, cause: Cause::plain(text) });
        };
        let left = self.ends.map_or(deadline, |ends| ends.saturating_sub(self.ambient().elapsed()));
        let mut rounds = Rounds::start(self, deadline.min(left));
        // Since when nothing new was left open.
        let mut open_since = self.ambient().elapsed();
        let mut cause = Cause::plain(if self.site.nodes.is_empty() { NO_ADDRESS } else { "the time was over" });
        while let Some((node, left)) = rounds.next().await {
            let limit = attempt.min(left);
            let connection = match self.connect(node, limit).await {
                Ok(connection) => connection,
                Err(why) => {
                    rounds.failed(&why);
                    cause.then(why);
                    continue;
                }
            };
            let mut request = Request::new(message.clone());
            request.set_timeout(limit);
            let told = match within(self.ambient(), limit, send(connection, request)).await {
                Some(Ok(reply)) => {
                    self.prefer(node);
                    return Ok(reply.into_inner());
                }
                Some(Err(status)) => Told::from(&status),
                None => Told::nothing("no answer in time"),
            };
            let verdict = Verdict::of(&told);
            if verdict.is_definite(is_open) {
                self.prefer(node);
                return Err(Failure::Refused(told));
            }
            rounds.heed(node, &told);
            if verdict == Verdict::Refused {
                // What is still under way shows within the time of an attempt, if ever.
                let waited = self.ambient().elapsed().saturating_sub(open_since);
                cause.then(Cause::plain(format!(
                    "it was sent before, which may yet be accepted, and now it is refused: {}",
                    told.text
                )));
                if waited >= attempt {
                    break;
                }
                continue;
            }
            if verdict == Verdict::Uncertain && changes {
                (is_open, open_since) = (true, self.ambient().elapsed());
            }
            let why = self.failed(node, &told);
            rounds.failed(&why);
            cause.then(why);
        }
        Err(Failure::GaveUp { may_be_accepted: is_open, cause })
    }

    /// A connection to node `node`, an old one or a new one.
    pub(crate) async fn connect(&self, node: usize, limit: Duration) -> Result<Transport, Cause> {
        let Node { address, connection } = &self.site.nodes[node];
        // The lock is never held while waiting, and a poisoned one guards a plain value.
        let open = connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(open) = open {
            return Ok(open);
        }
        let dialed = within(self.ambient(), limit.min(CONNECT_TIMEOUT), self.site.dial.dial(address.clone())).await;
        match dialed {
            Some(Ok(new)) => {
                *connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(new.clone());
                Ok(new)
            }
            Some(Err(error)) => Err(Cause::of(&*error)),
            None => Err(Cause::plain(format!("no connection to {address} in time"))),
        }
    }

    /// Says what happened at a node, and forgets the connection to it. One that is too busy is not asked for another handshake.
    pub(crate) fn failed(&self, node: usize, told: &Told) -> Cause {
        let Node { address, connection } = &self.site.nodes[node];
        if !told.is_overload() {
            *connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        tracing::debug!(node = address, code = ?told.code, "attempt failed");
        told.fault.clone().unwrap_or_else(|| Cause::plain(format!("{address}: {}", told.text)))
    }

    /// The node that answered is asked first the next time.
    pub(crate) fn prefer(&self, node: usize) {
        self.site.preferred.store(node, Ordering::Relaxed);
    }
}

/// Adds the shards of a further page of a status to their groups.
fn add_page(whole: &mut v1::StatusReply, page: v1::StatusReply) {
    for group in page.groups {
        match whole.groups.iter_mut().find(|known| known.group == group.group) {
            Some(known) => {
                known.shards.extend(group.shards);
                if known.health.is_empty() {
                    known.health = group.health;
                }
            }
            None => whole.groups.push(group),
        }
    }
}

/// The edit that decides a conflict.
pub(crate) fn decision(
    context: &Context,
    record: &v1::Record,
    field: &str,
    element: &str,
    value: &str,
    grounds: &str,
) -> Result<EditBuilder, Error> {
    if field_of(record, field, &element_key(&record.kind, field, element)).is_none() {
        let text = format!("record {} has no field {field} with that element: look at its conflicts", record.id);
        return Err(Error::refusal(tonic::Code::NotFound, text));
    }
    let mut edit = EditBuilder::new(context);
    let part = edit.change(record);
    edit.set(part, field, element, value).decision().grounds(grounds);
    Ok(edit)
}

pub(crate) fn shard_text(shard: Option<ShardId>) -> String {
    shard.map(|shard| shard.to_string()).unwrap_or_default()
}

/// Goes round the nodes of the site, the preferred one first, with a growing pause after each round, until the deadline.
pub(crate) struct Rounds {
    client: Client,
    since: Duration,
    deadline: Duration,
    first: usize,
    tried: usize,
    /// Of the tried ones, those at which trying again does not help.
    lasting: usize,
    pause: Duration,
    /// Before when a node does not want to be asked again; none for all nodes.
    not_before: BTreeMap<Option<usize>, Duration>,
}

impl Rounds {
    pub(crate) fn start(client: &Client, deadline: Duration) -> Self {
        Rounds {
            client: client.clone(),
            since: client.ambient().elapsed(),
            deadline,
            first: client.site.preferred.load(Ordering::Relaxed),
            tried: 0,
            lasting: 0,
            pause: client.limits.pause_min,
            not_before: BTreeMap::new(),
        }
    }

    /// A node said when to ask again. What it does not take another node may take at once; what is too much for it, and for
    /// those to whom it hands it on, is so at the others too.
    pub(crate) fn heed(&mut self, node: usize, told: &Told) {
        let Some(after) = told.retry_after() else { return };
        let whom = if told.is_overload() { None } else { Some(node) };
        self.not_before.insert(whom, self.client.ambient().elapsed().saturating_add(after));
    }

    /// How long to wait, as nodes said, before that one is asked.
    fn wanted(&self, node: usize) -> Duration {
        let until = [None, Some(node)].iter().filter_map(|whom| self.not_before.get(whom)).max();
        until.map_or(Duration::ZERO, |until| until.saturating_sub(self.client.ambient().elapsed()))
    }

    /// The node that was tried last gave no answer.
    pub(crate) fn failed(&mut self, cause: &Cause) {
        self.lasting += usize::from(cause.fault.is_some());
    }

    /// The node to try next, and the time that is left. Ends early if certificates, keys or clocks kept every node away.
    pub(crate) async fn next(&mut self) -> Option<(usize, Duration)> {
        let nodes = self.client.site.nodes.len();
        if nodes == 0 {
            return None;
        }
        let node = (self.first + self.tried) % nodes;
        let mut pause = self.wanted(node);
        if self.tried > 0 && self.tried.is_multiple_of(nodes) {
            if self.lasting == self.tried {
                return None;
            }
            pause = pause.max(jitter(self.client.ambient(), self.pause));
            self.pause = (self.pause * 2).min(self.client.limits.pause_max);
        }
        let pause = pause.min(self.left());
        if !pause.is_zero() {
            self.client.ambient().sleep(pause).await;
        }
        let left = self.left();
        if left.is_zero() {
            return None;
        }
        self.tried += 1;
        Some((node, left))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.client.ambient().elapsed().saturating_sub(self.since))
    }
}

#[cfg(test)]
mod tests;
