//! The calls that stream: many edits, the change feed, an extract, a backup.
//!
//! Each is a loop around one connection that outlives it. Nothing is spawned: a stream makes progress while it is polled.

use std::collections::VecDeque;
use std::time::Duration;

use dinhba_core::archive::{Frame, Reached, advance};
use dinhba_core::date::Date;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{RequestId, ShardId, SiteId};
use dinhba_proto::v1;
use dinhba_proto::v1::edit_many_reply::Outcome;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::ambient::within;
use crate::client::{Client, NO_ADDRESS, Rounds, records, shard_text, site};
use crate::error::{Cause, Error, Told, Verdict};
use crate::request::{Accepted, Context, request_of};
use crate::transport::Transport;

/// Edits of a stream under way at once: enough to fill a batch of the log and a slow link, few enough to send again.
pub const IN_FLIGHT_MAX: usize = 128;

/// The answer to one edit of a stream.
#[derive(Debug)]
pub struct Answered {
    /// The edit.
    pub request: RequestId,
    /// Whether it was sent more than once, so that "accepted before" may mean: a moment ago.
    pub resent: bool,
    /// Its acceptance, or why it was refused: [`Error::Stale`] or [`Error::Refused`]. [`Error::OutcomeUnknown`] if it was sent
    /// again after a break and refused then, while the first sending may still be under way.
    pub outcome: Result<Accepted, Error>,
}

impl Client {
    /// Sends many edits over one stream, with a bounded number under way; each is one that
    /// [`EditBuilder::build`](crate::EditBuilder::build) made.
    /// Unanswered ones are sent again after a break, so each is applied once. Answers come in the order of the edits.
    pub fn edit_many(
        &self,
        edits: impl Stream<Item = v1::EditRequest> + Send + Unpin,
    ) -> impl Stream<Item = Result<Answered, Error>> + Send {
        edit_many(self.clone(), edits)
    }

    /// Edits as they arrive, from position `from` on, or with 0 from now on. Goes on by itself after a break; ends with an
    /// error once no node has answered for the deadline. From now on: what happens during a break before the first entry
    /// is missed.
    pub fn watch(
        &self,
        context: &Context,
        shard: Option<ShardId>,
        from: u64,
    ) -> impl Stream<Item = Result<v1::Entry, Error>> + Send + use<> {
        let request = v1::WatchRequest { context: context.wire(), shard: shard_text(shard), from };
        watch(self.clone(), request)
    }

    /// All records of a unit, in pages; each, and there is at least one, says from where a [`watch`](Self::watch) shows what
    /// changes since. Ends with an error if the stream breaks: ask again, from the start.
    pub fn export(
        &self,
        context: &Context,
        shard: Option<ShardId>,
    ) -> impl Stream<Item = Result<v1::ExportReply, Error>> + Send + use<> {
        let request = v1::ExportRequest { context: context.wire(), shard: shard_text(shard) };
        pages(self.clone(), request, |transport, request| async move { records(transport).export(request).await })
    }

    /// Who lives in a unit on a day and is of an age then (both included; none for all), in pages: the roll of an election. It is one
    /// access of the whole unit. Ends with an error if the stream breaks: ask again, from the start.
    pub fn roll(
        &self,
        context: &Context,
        shard: Option<ShardId>,
        on: Date,
        ages: Option<(u16, u16)>,
    ) -> impl Stream<Item = Result<Vec<v1::RollEntry>, Error>> + Send + use<> {
        let (age_min, age_max) = ages.unwrap_or_default();
        let request = v1::RollRequest {
            context: context.wire(),
            shard: shard_text(shard),
            on: on.to_string(),
            age_min: age_min.into(),
            age_max: age_max.into(),
        };
        let pages =
            pages(self.clone(), request, |transport, request| async move { records(transport).roll(request).await });
        pages.map(|page| page.map(|page: v1::RollReply| page.entries))
    }

    /// What an archive of the site does not hold yet, from where it stands: pieces, then their summary. Goes on by itself
    /// after a break; ends with an error once no node has answered for the deadline.
    pub fn backup(
        &self,
        context: &Context,
        of: SiteId,
        reached: Reached,
    ) -> impl Stream<Item = Result<Frame, Error>> + Send + use<> {
        backup(self.clone(), context.wire(), of, reached)
    }
}

struct Unanswered {
    edit: v1::EditRequest,
    request: RequestId,
    /// How often it may have reached a node.
    sendings: u32,
}

struct Many<S> {
    client: Client,
    edits: S,
    is_complete: bool,
    unanswered: VecDeque<Unanswered>,
    line: Option<Line>,
    /// Since the last answer.
    rounds: Rounds,
    cause: Cause,
    is_over: bool,
}

/// An open stream to a node.
struct Line {
    node: usize,
    /// None once all edits are sent.
    sender: Option<mpsc::UnboundedSender<v1::EditRequest>>,
    replies: Streaming<v1::EditManyReply>,
}

fn edit_many<S>(client: Client, edits: S) -> impl Stream<Item = Result<Answered, Error>> + Send
where
    S: Stream<Item = v1::EditRequest> + Send + Unpin,
{
    let rounds = Rounds::start(&client, client.limits().deadline);
    let many = Many {
        client,
        edits,
        is_complete: false,
        unanswered: VecDeque::new(),
        line: None,
        rounds,
        cause: Cause::plain(NO_ADDRESS),
        is_over: false,
    };
    stream::unfold(many, |mut many| async move {
        let item = many.next().await?;
        many.is_over |= item.is_err();
        Some((item, many))
    })
}

/// What happened next on a line.
enum Event {
    Edit(Option<v1::EditRequest>),
    Reply(Option<Result<v1::EditManyReply, Status>>),
    Silence,
}

impl<S: Stream<Item = v1::EditRequest> + Send + Unpin> Many<S> {
    async fn next(&mut self) -> Option<Result<Answered, Error>> {
        while !self.is_over {
            if self.unanswered.is_empty() {
                if self.is_complete {
                    return None;
                }
                // Nothing is owed: wait for an edit, however long that takes.
                let edit = self.edits.next().await;
                self.rounds = Rounds::start(&self.client, self.client.limits().deadline);
                if let Err(error) = self.accept(edit) {
                    return Some(Err(error));
                }
                continue;
            }
            if self.line.is_none()
                && let Err(error) = self.connect().await
            {
                return Some(Err(error));
            }
            let outcome = match self.wait().await {
                Event::Edit(edit) => self.accept(edit).map(|()| None),
                Event::Reply(Some(Ok(reply))) => self.answer(reply),
                Event::Reply(Some(Err(status))) => self.broken(&Told::from(&status)).map(|()| None),
                Event::Reply(None) => self.broken(&Told::nothing("the node ended the stream")).map(|()| None),
                Event::Silence => self.broken(&Told::nothing("no answer in time")).map(|()| None),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(answered)) => return Some(Ok(answered)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    async fn wait(&mut self) -> Event {
        let Some(line) = &mut self.line else { return Event::Reply(None) };
        let has_room = !self.is_complete && self.unanswered.len() < IN_FLIGHT_MAX;
        // Longer than for one call: what is under way may take its time on a thin link. Short enough for another node.
        let limits = self.client.limits();
        let silence = self.client.ambient().sleep(limits.attempt.max(limits.deadline / 2));
        tokio::select! {
            biased;
            reply = line.replies.next() => Event::Reply(reply),
            edit = self.edits.next(), if has_room => Event::Edit(edit),
            () = silence => Event::Silence,
        }
    }

    /// Takes an edit of the caller's and sends it, if a line is open.
    fn accept(&mut self, edit: Option<v1::EditRequest>) -> Result<(), Error> {
        let Some(edit) = edit else {
            self.is_complete = true;
            if let Some(line) = &mut self.line {
                line.sender = None;
            }
            return Ok(());
        };
        let request = request_of(edit.request.as_ref()).ok_or(Error::Protocol("an edit without a request id"))?;
        let mut sendings = 0;
        if let Some(sender) = self.line.as_ref().and_then(|line| line.sender.as_ref()) {
            // A closed line shows in its replies.
            let _ = sender.send(edit.clone());
            sendings = 1;
        }
        self.unanswered.push_back(Unanswered { edit, request, sendings });
        Ok(())
    }

    /// Opens a line and sends everything unanswered over it.
    async fn connect(&mut self) -> Result<(), Error> {
        let attempt = self.client.limits().attempt;
        while let Some((node, left)) = self.rounds.next().await {
            let limit = attempt.min(left);
            let transport = match self.client.connect(node, limit).await {
                Ok(transport) => transport,
                Err(why) => {
                    self.rounds.failed(&why);
                    self.cause.then(why);
                    continue;
                }
            };
            // Never more than the edits in flight are in the channel.
            let (sender, receiver) = mpsc::unbounded_channel();
            for unanswered in &self.unanswered {
                let _ = sender.send(unanswered.edit.clone());
            }
            let sender = (!self.is_complete).then_some(sender);
            let mut client = records(transport);
            let opened = within(self.client.ambient(), limit, client.edit_many(UnboundedReceiverStream::new(receiver)));
            let told = match opened.await {
                Some(Ok(replies)) => {
                    self.unanswered.iter_mut().for_each(|unanswered| unanswered.sendings += 1);
                    self.line = Some(Line { node, sender, replies: replies.into_inner() });
                    return Ok(());
                }
                Some(Err(status)) => Told::from(&status),
                None => Told::nothing("no answer in time"),
            };
            let verdict = Verdict::of(&told);
            if verdict.is_definite(self.oldest_open().is_some()) {
                return Err(Error::refused(&told));
            }
            if verdict == Verdict::Uncertain {
                self.unanswered.iter_mut().for_each(|unanswered| unanswered.sendings += 1);
            }
            self.rounds.heed(node, &told);
            let why = self.client.failed(node, &told);
            self.rounds.failed(&why);
            self.cause.then(why);
        }
        let cause = std::mem::replace(&mut self.cause, Cause::plain(NO_ADDRESS));
        Err(match self.oldest_open() {
            Some(request) => Error::OutcomeUnknown { request: Some(request), text: cause.text },
            None => cause.unreachable(),
        })
    }

    /// The oldest edit that may have been accepted.
    fn oldest_open(&self) -> Option<RequestId> {
        self.unanswered.iter().find(|unanswered| unanswered.sendings > 0).map(|oldest| oldest.request)
    }

    /// The line is of no use any more; all that is unanswered will be sent again. Whatever ended it is no answer to an edit
    /// that was sent: the node may have accepted that before.
    fn broken(&mut self, told: &Told) -> Result<(), Error> {
        let line = self.line.take();
        if self.oldest_open().is_none() && Verdict::of(told).is_definite(false) {
            return Err(Error::refused(told));
        }
        if let Some(line) = line {
            self.rounds.heed(line.node, told);
            let why = self.client.failed(line.node, told);
            self.cause.then(why);
        }
        Ok(())
    }

    fn answer(&mut self, reply: v1::EditManyReply) -> Result<Option<Answered>, Error> {
        let answered = request_of(reply.request.as_ref());
        if self.unanswered.front().map(|oldest| oldest.request) != answered {
            return Err(Error::Protocol("an answer out of turn"));
        }
        let outcome = match reply.outcome.ok_or(Error::Protocol("an answer without an outcome"))? {
            Outcome::Accepted(accepted) => Ok(accepted),
            Outcome::Refused(refused) => {
                let told = Told::from(refused);
                // What was sent twice may be under way twice.
                let oldest = self.unanswered.front().filter(|oldest| oldest.sendings > 1);
                match Verdict::of(&told) {
                    verdict if verdict.is_definite(oldest.is_some()) => Err(Error::refused(&told)),
                    Verdict::Refused => {
                        let text = format!("it was sent before, and now it is refused: {}", told.text);
                        Err(Error::OutcomeUnknown { request: oldest.map(|oldest| oldest.request), text })
                    }
                    _ => {
                        self.broken(&told)?;
                        return Ok(None);
                    }
                }
            }
        };
        let Some(Unanswered { request, sendings, .. }) = self.unanswered.pop_front() else { return Ok(None) };
        if let Some(line) = &self.line {
            self.client.prefer(line.node);
        }
        self.rounds = Rounds::start(&self.client, self.client.limits().deadline);
        let outcome = match outcome {
            Ok(accepted) => Ok(Accepted::from_wire(request, accepted)?),
            Err(error) => Err(error),
        };
        Ok(Some(Answered { request, resent: sendings > 1, outcome }))
    }
}

struct Feed {
    client: Client,
    request: v1::WatchRequest,
    replies: Option<(usize, Streaming<v1::WatchReply>)>,
    /// Since the last sign of a node that serves the feed.
    rounds: Rounds,
    opened: Duration,
    is_over: bool,
}

fn watch(client: Client, request: v1::WatchRequest) -> impl Stream<Item = Result<v1::Entry, Error>> + Send + use<> {
    let rounds = Rounds::start(&client, client.limits().deadline);
    let feed = Feed { client, request, replies: None, rounds, opened: Duration::ZERO, is_over: false };
    stream::unfold(feed, |mut feed| async move {
        if feed.is_over {
            return None;
        }
        let item = feed.next().await;
        feed.is_over = item.is_err();
        Some((item, feed))
    })
}

impl Feed {
    async fn next(&mut self) -> Result<v1::Entry, Error> {
        loop {
            let (node, mut replies) = match self.replies.take() {
                Some(open) => open,
                None => {
                    let request = self.request.clone();
                    let opened = open(&self.client, &mut self.rounds, |transport| {
                        let request = request.clone();
                        async move { records(transport).watch(request).await }
                    });
                    let opened = opened.await?;
                    self.opened = self.client.ambient().elapsed();
                    opened
                }
            };
            // A quiet feed is no broken one: the transport's own signs of life find that out.
            let told = match replies.next().await {
                Some(Ok(reply)) => {
                    let entry = reply.entry.ok_or(Error::Protocol("a change without an entry"))?;
                    self.request.from = entry.position + 1;
                    self.client.prefer(node);
                    self.rounds = Rounds::start(&self.client, self.client.limits().deadline);
                    self.replies = Some((node, replies));
                    return Ok(entry);
                }
                Some(Err(status)) => Told::from(&status),
                None => Told::nothing("the node ended the stream"),
            };
            unless_refused(&self.client, node, &told)?;
            // A feed that held for a while was served: patience starts anew. One that breaks at once uses it up.
            let limits = self.client.limits();
            if self.client.ambient().elapsed().saturating_sub(self.opened) > limits.pause_max {
                self.rounds = Rounds::start(&self.client, limits.deadline);
            }
            self.rounds.heed(node, &told);
        }
    }
}

/// The pages of an answer that breaks for good if it breaks.
fn pages<Query, Page, Call, Answer>(
    client: Client,
    query: Query,
    call: Call,
) -> impl Stream<Item = Result<Page, Error>> + Send + use<Query, Page, Call, Answer>
where
    Query: Clone + Send + Sync + 'static,
    Page: Send + 'static,
    Call: Fn(Transport, Query) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Response<Streaming<Page>>, Status>> + Send,
{
    enum Stage<Query, Page> {
        Start(Query),
        Open(usize, Box<Streaming<Page>>),
        Over,
    }
    stream::unfold((client, call, Stage::Start(query)), |(client, call, mut stage)| async move {
        loop {
            match stage {
                Stage::Start(query) => {
                    let mut rounds = Rounds::start(&client, client.limits().deadline);
                    let opened = open(&client, &mut rounds, |transport| call(transport, query.clone())).await;
                    stage = match opened {
                        Ok((node, replies)) => Stage::Open(node, Box::new(replies)),
                        Err(error) => return Some((Err(error), (client, call, Stage::Over))),
                    };
                }
                Stage::Open(node, mut replies) => {
                    // A page may wait for the entry in the access log, and for a slow link.
                    let limit: Duration = client.limits().deadline;
                    let told = match within(client.ambient(), limit, replies.next()).await {
                        None => Told::nothing("no answer in time"),
                        Some(None) => return None,
                        Some(Some(Ok(page))) => return Some((Ok(page), (client, call, Stage::Open(node, replies)))),
                        Some(Some(Err(status))) => Told::from(&status),
                    };
                    let error = match unless_refused(&client, node, &told) {
                        Ok(cause) => cause.unreachable(),
                        Err(error) => error,
                    };
                    return Some((Err(error), (client, call, Stage::Over)));
                }
                Stage::Over => return None,
            }
        }
    })
}

struct Fetch {
    client: Client,
    context: Option<v1::Context>,
    of: SiteId,
    reached: Reached,
    replies: Option<(usize, Streaming<v1::BackupReply>)>,
    /// Since the last frame.
    rounds: Rounds,
    is_over: bool,
}

fn backup(
    client: Client,
    context: Option<v1::Context>,
    of: SiteId,
    reached: Reached,
) -> impl Stream<Item = Result<Frame, Error>> + Send + use<> {
    let rounds = Rounds::start(&client, client.limits().deadline);
    let fetch = Fetch { client, context, of, reached, replies: None, rounds, is_over: false };
    stream::unfold(fetch, |mut fetch| async move {
        if fetch.is_over {
            return None;
        }
        let item = fetch.next().await;
        fetch.is_over = matches!(item, Err(_) | Ok(Frame::Summary(_)));
        Some((item, fetch))
    })
}

impl Fetch {
    async fn next(&mut self) -> Result<Frame, Error> {
        loop {
            let (node, mut replies) = match self.replies.take() {
                Some(open) => open,
                None => {
                    let request = self.request();
                    let opened = open(&self.client, &mut self.rounds, |transport| {
                        let request = request.clone();
                        async move { site(transport).backup(request).await }
                    });
                    opened.await?
                }
            };
            let told = match within(self.client.ambient(), self.client.limits().deadline, replies.next()).await {
                Some(Some(Ok(reply))) => {
                    let frame = Frame::from_bytes(&reply.frame)
                        .map_err(|_| Error::Protocol("a frame of a backup that cannot be read: use a newer version"))?;
                    if let Frame::Piece(piece) = &frame {
                        advance(&mut self.reached, piece)
                            .map_err(|_| Error::Protocol("a piece of a backup out of turn"))?;
                    }
                    self.client.prefer(node);
                    self.rounds = Rounds::start(&self.client, self.client.limits().deadline);
                    self.replies = Some((node, replies));
                    return Ok(frame);
                }
                Some(Some(Err(status))) => Told::from(&status),
                Some(None) => Told::nothing("the node ended the stream"),
                None => Told::nothing("no answer in time"),
            };
            unless_refused(&self.client, node, &told)?;
            self.rounds.heed(node, &told);
        }
    }

    fn request(&self) -> v1::BackupRequest {
        let held = self.reached.iter().filter(|(_, (position, _))| *position > 0);
        let held = held.map(|((group, shard), (position, hash))| v1::BackupPosition {
            group: group.to_string(),
            shard: shard.map(|shard| shard.to_string()).unwrap_or_default(),
            position: *position,
            hash: hash.0.to_vec(),
        });
        v1::BackupRequest { context: self.context.clone(), site: self.of.to_string(), held: held.collect() }
    }
}

/// Opens a stream of answers at the first node that gives one.
async fn open<T, Answer>(
    client: &Client,
    rounds: &mut Rounds,
    send: impl Fn(crate::transport::Transport) -> Answer,
) -> Result<(usize, Streaming<T>), Error>
where
    Answer: Future<Output = Result<tonic::Response<Streaming<T>>, Status>>,
{
    let mut cause = Cause::plain(NO_ADDRESS);
    while let Some((node, left)) = rounds.next().await {
        let limit = client.limits().attempt.min(left);
        let transport = match client.connect(node, limit).await {
            Ok(transport) => transport,
            Err(why) => {
                rounds.failed(&why);
                cause.then(why);
                continue;
            }
        };
        let told = match within(client.ambient(), limit, send(transport)).await {
            Some(Ok(replies)) => return Ok((node, replies.into_inner())),
            Some(Err(status)) => Told::from(&status),
            None => Told::nothing("no answer in time"),
        };
        let why = unless_refused(client, node, &told)?;
        rounds.heed(node, &told);
        rounds.failed(&why);
        cause.then(why);
    }
    Err(cause.unreachable())
}

/// What happened at a node that did not answer, unless it refused: a read has no earlier attempt that matters.
fn unless_refused(client: &Client, node: usize, told: &Told) -> Result<Cause, Error> {
    match Verdict::of(told).is_definite(false) {
        true => Err(Error::refused(told)),
        false => Ok(client.failed(node, told)),
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::ids::SessionId;
    use dinhba_proto::v1::Reason;
    use tonic::Code;

    use super::*;
    use crate::error::node_status;
    use crate::testing::Memory;

    #[tokio::test]
    async fn what_ends_a_stream_is_no_answer_to_the_edits_that_were_sent() {
        let client = Memory::default().client(&["a"]);
        let rounds = Rounds::start(&client, client.limits().deadline);
        let mut many = Many {
            client,
            edits: stream::empty(),
            is_complete: true,
            unanswered: VecDeque::new(),
            line: None,
            rounds,
            cause: Cause::plain(NO_ADDRESS),
            is_over: false,
        };
        let told = Told::from(&node_status(Code::InvalidArgument, "it cannot be read", Reason::Invalid, Vec::new()));
        assert!(matches!(many.broken(&told), Err(Error::Refused { .. })), "nothing was sent");
        let request = RequestId { session: SessionId([1; 16]), counter: 1 };
        many.unanswered.push_back(Unanswered { edit: v1::EditRequest::default(), request, sendings: 1 });
        assert!(many.broken(&told).is_ok(), "it is sent again, and the outcome is not known until then");
    }
}
