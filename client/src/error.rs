//! What can come of a request besides its answer, and what to do then.
//!
//! The line that matters is between *refused* (nothing changed, and a retry gives the same), *unreachable* (nothing
//! changed, a retry may work) and *outcome unknown* (send the same request again). `Verdict` draws it, by the reason that a
//! node gives (`errors.proto`): nobody but a node can say that something is refused, and nobody but a node and this end's own transport ([`was_not_sent`])
//! that nothing was accepted. Another status without a reason is of something in between, and leaves the outcome open whatever its code.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use dinhba_core::ids::RequestId;
use dinhba_proto::v1::{self, ERROR_DOMAIN, Reason, STALE_TYPE_URL};
use prost::Message;
use prost_types::Any;
use tonic::{Code, ConnectError, Status};
use tonic_types::pb::{BadRequest, ErrorInfo, RetryInfo, Status as RichStatus};

use crate::language::Lang;
use crate::tls::DialError;

/// Why there is no answer. Messages say what to do; they hold no value of a record. In English; [`Error::text`] has them in
/// another language.
#[derive(Debug, Clone)]
pub enum Error {
    /// The touched fields have moved on since the caller read them. It says which, and shows no value: read the record.
    Stale(Box<v1::Stale>),
    /// A definite refusal: nothing changed, and the same request will be refused again.
    Refused {
        /// Its kind.
        code: Code,
        /// Why, as the node says it; unspecified if it is this end that refuses, or a newer version's reason.
        reason: Reason,
        /// What is wrong and what to do, as the node says it.
        text: String,
        /// What is wrong with the request, by field; for one that breaks a rule.
        problems: Vec<Problem>,
    },
    /// No node gave an answer, and surely nothing was accepted.
    Unreachable {
        /// The last failure.
        text: String,
        /// Why certificates, keys or clocks let no connection come about, at one node at least.
        fault: Option<Box<DialError>>,
    },
    /// The request may or may not have been accepted.
    OutcomeUnknown {
        /// The request to send again, to the same site; none for an administrative call, whose effect `status` shows.
        request: Option<RequestId>,
        /// The last failure.
        text: String,
    },
    /// An answer that makes no sense.
    Protocol(&'static str),
}

/// Something that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of the field in the request: `parts[0].changes[birth_date]`; empty where the node left some out.
    pub field: String,
    /// What to do about it.
    pub text: String,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Lang::En))
    }
}

impl Error {
    /// A refusal with nothing to say of single fields.
    #[must_use]
    pub fn refusal(code: Code, text: impl Into<String>) -> Self {
        Error::Refused { code, reason: Reason::Unspecified, text: text.into(), problems: Vec::new() }
    }

    /// The error that a definite refusal stands for.
    pub(crate) fn refused(told: &Told) -> Self {
        if let Some(stale) = told.detail::<v1::Stale>(STALE_TYPE_URL) {
            return Error::Stale(Box::new(stale));
        }
        let bad: BadRequest = told.detail("type.googleapis.com/google.rpc.BadRequest").unwrap_or_default();
        let problems = bad
            .field_violations
            .into_iter()
            .map(|violation| Problem { field: violation.field, text: violation.description });
        let reason = told.reason().unwrap_or_default();
        Error::Refused { code: told.code, reason, text: told.text.clone(), problems: problems.collect() }
    }
}

/// What was told in the place of an answer: by a status, or inside a stream of edits.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) code: Code,
    pub(crate) text: String,
    details: Vec<Any>,
    /// No node took the request from a connection.
    was_not_sent: bool,
    /// What the dialer says of that.
    pub(crate) fault: Option<Cause>,
}

impl Told {
    /// What this client itself says of an attempt of which it does not know what became.
    pub(crate) fn nothing(text: &str) -> Self {
        Told { code: Code::Unknown, text: text.to_owned(), details: Vec::new(), was_not_sent: false, fault: None }
    }

    /// After how long the node wants to be asked again, if it says so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.reason()?;
        let info: RetryInfo = self.detail("type.googleapis.com/google.rpc.RetryInfo")?;
        info.retry_delay?.try_into().ok()
    }

    /// Whether the node is only too busy.
    pub(crate) fn is_overload(&self) -> bool {
        self.reason() == Some(Reason::Overloaded)
    }

    fn detail<T: Message + Default>(&self, type_url: &str) -> Option<T> {
        let found = self.details.iter().find(|any| any.type_url == type_url)?;
        T::decode(&found.value[..]).ok()
    }

    /// The node's reason; none if no node said this, unspecified if it is one of a newer version.
    fn reason(&self) -> Option<Reason> {
        let info: ErrorInfo = self.detail("type.googleapis.com/google.rpc.ErrorInfo")?;
        (info.domain == ERROR_DOMAIN).then(|| Reason::from_str_name(&info.reason).unwrap_or_default())
    }
}

impl From<&Status> for Told {
    fn from(status: &Status) -> Self {
        let rich = RichStatus::decode(status.details()).unwrap_or_default();
        let fault = DialError::in_chain(status).map(|error| Cause::of(error));
        let text = status.message().to_owned();
        Told { code: status.code(), text, details: rich.details, was_not_sent: was_not_sent(status), fault }
    }
}

impl From<v1::Refused> for Told {
    fn from(refused: v1::Refused) -> Self {
        let v1::Refused { code, message, details } = refused;
        Told { code: Code::from_i32(code), text: message, details, was_not_sent: false, fault: None }
    }
}

/// Why attempts at a site's nodes failed: the last one, and a fault of certificates, keys or clocks if there was one.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) text: String,
    pub(crate) fault: Option<Box<DialError>>,
}

impl Cause {
    /// One without a fault.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Cause { text: text.into(), fault: None }
    }

    /// What an error of a transport says.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        match DialError::in_chain(error) {
            Some(cause) => Cause { text: cause.to_string(), fault: cause.lasts().then(|| Box::new(cause.clone())) },
            None => Cause::plain(error.to_string()),
        }
    }

    /// One more attempt failed.
    pub(crate) fn then(&mut self, next: Cause) {
        self.text = next.text;
        // The clock of the last one is the best.
        self.fault = next.fault.or(self.fault.take());
    }

    pub(crate) fn unreachable(self) -> Error {
        Error::Unreachable { text: self.text, fault: self.fault }
    }
}

/// What a failed attempt says about the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request is refused by itself or for its caller's sake: whenever and wherever it comes, also if it came before.
    Final,
    /// It is refused as things are. An attempt before it, of which nothing is known, may still be accepted.
    Refused,
    /// Surely nothing was accepted: the request can be sent again, whatever it is.
    NotAccepted,
    /// It may have been accepted.
    Uncertain,
}

impl Verdict {
    pub(crate) fn of(told: &Told) -> Self {
        if told.was_not_sent {
            return Verdict::NotAccepted;
        }
        match told.reason() {
            Some(Reason::Invalid | Reason::Denied) => Verdict::Final,
            Some(Reason::NotAccepted | Reason::Overloaded) => Verdict::NotAccepted,
            Some(Reason::OutcomeUnknown | Reason::Damaged | Reason::Bug) => Verdict::Uncertain,
            // What a newer node says with a code that is a refusal is one.
            Some(Reason::Unspecified) if !is_refusal(told.code) => Verdict::Uncertain,
            Some(_) => Verdict::Refused,
            // It does not know the method: so says the library below every node.
            None if told.code == Code::Unimplemented => Verdict::Refused,
            None => Verdict::Uncertain,
        }
    }

    /// Whether it is the last word, also for a request of which nothing is known if `is_open`.
    pub(crate) fn is_definite(self, is_open: bool) -> bool {
        self == Verdict::Final || (self == Verdict::Refused && !is_open)
    }
}

fn is_refusal(code: Code) -> bool {
    use Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, PermissionDenied};
    matches!(code, InvalidArgument | NotFound | AlreadyExists | PermissionDenied | FailedPrecondition | OutOfRange)
        || matches!(code, Code::Aborted | Code::Unauthenticated)
}

/// The metadata of an `ErrorInfo` by which a node says that a stream ends only because its connection has had its time.
pub const MOVE_ON: &str = "connection";

/// Whether a status that ends a stream says that nothing is wrong: its connection has had its time, and the stream is to go on from
/// where it was, on another one.
#[must_use]
pub fn moves_on(status: &Status) -> bool {
    let info: Option<ErrorInfo> = Told::from(status).detail("type.googleapis.com/google.rpc.ErrorInfo");
    info.is_some_and(|info| info.domain == ERROR_DOMAIN && info.metadata.contains_key(MOVE_ON))
}

/// Whether no node took the request: there was no connection, or it ended before the request was sent or taken, as when it has had
/// its time just then (GOAWAY, REFUSED_STREAM: RFC 9113, sections 6.8 and 8.7).
#[must_use]
pub fn was_not_sent(status: &Status) -> bool {
    std::iter::successors(status.source(), |&error| error.source()).any(|error| {
        error.is::<ConnectError>()
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().is_some_and(|error| {
                let is_left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
                let is_turned_away = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
                error.is_remote() && (is_left || is_turned_away)
            })
    })
}

/// For tests: a status as a node makes it.
#[cfg(test)]
pub(crate) fn node_status(code: Code, text: &str, reason: Reason, details: Vec<Any>) -> Status {
    let info = ErrorInfo {
        reason: reason.as_str_name().to_owned(),
        domain: ERROR_DOMAIN.to_owned(),
        metadata: Default::default(),
    };
    let info = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: info.encode_to_vec() };
    let details = [vec![info], details].concat();
    let rich = RichStatus { code: code as i32, message: text.to_owned(), details };
    Status::with_details(code, text, rich.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use std::io;

    use dinhba_core::ids::SessionId;
    use dinhba_proto::v1::records_client::RecordsClient;
    use h2::Reason as Reset;
    use hyper_util::rt::TokioIo;
    use tonic::transport::Endpoint;

    use super::*;

    fn verdict(status: &Status) -> Verdict {
        Verdict::of(&Told::from(status))
    }

    #[test]
    fn only_a_node_can_say_that_nothing_was_accepted() {
        let node = |code, reason| verdict(&node_status(code, "", reason, Vec::new()));
        assert_eq!(node(Code::Unavailable, Reason::NotAccepted), Verdict::NotAccepted);
        assert_eq!(node(Code::ResourceExhausted, Reason::Overloaded), Verdict::NotAccepted);
        assert_eq!(node(Code::Unknown, Reason::OutcomeUnknown), Verdict::Uncertain);
        assert_eq!(node(Code::InvalidArgument, Reason::Invalid), Verdict::Final);
        for (code, reason) in [(Code::Aborted, Reason::Stale), (Code::NotFound, Reason::NotFound)] {
            assert_eq!(node(code, reason), Verdict::Refused);
        }
        // Of a newer version.
        assert_eq!(node(Code::FailedPrecondition, Reason::Unspecified), Verdict::Refused);
        assert_eq!(node(Code::Unavailable, Reason::Unspecified), Verdict::Uncertain);
        let unconnected = ConnectError("connection refused".into());
        assert_eq!(verdict(&Status::from_error(Box::new(unconnected))), Verdict::NotAccepted);
        let cut: Box<dyn std::error::Error + Send + Sync> = "connection reset".into();
        assert_eq!(verdict(&Status::from_error(cut)), Verdict::Uncertain);
        // What the transport, or something between client and node, can say of any call.
        for code in (1..=16).map(Code::from_i32).filter(|code| *code != Code::Unimplemented) {
            assert_eq!(verdict(&Status::new(code, "nothing was accepted")), Verdict::Uncertain, "{code:?}");
        }
    }

    /// What a node does with a call.
    #[derive(Debug)]
    enum Does {
        Leave,
        Reset(Reset),
        Cut,
    }

    /// What the caller is told then, over a real connection.
    async fn told(does: Does) -> Status {
        let (here, there) = tokio::io::duplex(1 << 16);
        let mut here = Some(TokioIo::new(here));
        let once = tower::service_fn(move |_| std::future::ready(here.take().ok_or(io::Error::other("one is enough"))));
        let channel = Endpoint::from_static("http://node").connect_with_connector_lazy(once);
        let call = async { RecordsClient::new(channel).get(v1::GetRequest::default()).await.unwrap_err() };
        let node = async {
            let mut connection = h2::server::handshake(there).await.unwrap();
            match does {
                Does::Leave => connection.abrupt_shutdown(Reset::NO_ERROR),
                Does::Reset(reason) => connection.accept().await.unwrap().unwrap().1.send_reset(reason),
                Does::Cut => return drop(connection.accept().await),
            }
            let _ = std::future::poll_fn(|task| connection.poll_closed(task)).await;
        };
        tokio::join!(call, node).0
    }

    #[tokio::test]
    async fn a_call_that_no_node_took_was_surely_not_accepted() {
        for does in [Does::Leave, Does::Reset(Reset::REFUSED_STREAM)] {
            let text = format!("{does:?}");
            let status = told(does).await;
            assert_eq!(verdict(&status), Verdict::NotAccepted, "{text}: {status:?}");
        }
        for does in [Does::Cut, Does::Reset(Reset::CANCEL), Does::Reset(Reset::INTERNAL_ERROR)] {
            let text = format!("{does:?}");
            let status = told(does).await;
            assert_eq!(verdict(&status), Verdict::Uncertain, "{text}: {status:?}");
        }
    }

    #[test]
    fn after_an_attempt_of_which_nothing_is_known_only_what_is_refused_by_itself_is_refused() {
        for is_open in [false, true] {
            assert!(Verdict::Final.is_definite(is_open));
            assert_eq!(Verdict::Refused.is_definite(is_open), !is_open);
            assert!(!Verdict::NotAccepted.is_definite(is_open) && !Verdict::Uncertain.is_definite(is_open));
        }
    }

    #[test]
    fn a_stale_edit_says_what_moved_and_is_printed_without_elements() {
        let moved = v1::Moved { field: "email".into(), element: "012345".into(), dots: Vec::new() };
        let stale = v1::Stale { record: "r-1".into(), fields: vec![moved], more: 2 };
        let detail = Any { type_url: STALE_TYPE_URL.to_owned(), value: stale.encode_to_vec() };
        let told = Told::from(&node_status(Code::Aborted, "stale", Reason::Stale, vec![detail]));
        let Error::Stale(found) = Error::refused(&told) else { panic!("{told:?}") };
        assert_eq!(*found, stale);
        let text = Error::Stale(found).to_string();
        assert!(text.contains("email and 2 more") && !text.contains("012345"), "{text}");
    }

    #[test]
    fn all_problems_of_a_request_are_told_by_field() {
        let violation = |field: &str, description: &str| tonic_types::pb::bad_request::FieldViolation {
            field: field.into(),
            description: description.into(),
            ..Default::default()
        };
        let bad = BadRequest { field_violations: vec![violation("a", "one"), violation("b", "two")] };
        let url = "type.googleapis.com/google.rpc.BadRequest".to_owned();
        let detail = Any { type_url: url, value: bad.encode_to_vec() };
        let told = Told::from(&node_status(Code::InvalidArgument, "2 things", Reason::Invalid, vec![detail]));
        let Error::Refused { problems, .. } = Error::refused(&told) else { panic!("{told:?}") };
        let expected = [("a", "one"), ("b", "two")].map(|(f, t)| Problem { field: f.into(), text: t.into() });
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_fault_of_certificates_is_said_first() {
        let fault = || Some(Box::new(DialError::Misfit("the key does not match".to_owned())));
        let text = Error::Unreachable { text: "cut".to_owned(), fault: fault() }.to_string();
        assert!(text.starts_with("the key does not match. No node") && !text.contains("check the link"), "{text}");
        let text = Error::Unreachable { text: "the key does not match".to_owned(), fault: fault() }.to_string();
        assert_eq!(text, "the key does not match. Nothing was accepted");
    }

    #[test]
    fn an_unknown_outcome_says_how_to_find_out() {
        let request = RequestId { session: SessionId([1; 16]), counter: 9 };
        let text = Error::OutcomeUnknown { request: Some(request), text: "cut".into() }.to_string();
        assert!(text.contains(&request.to_string()) && text.contains("send the same request"), "{text}");
        let text = Error::OutcomeUnknown { request: None, text: "cut".into() }.to_string();
        assert!(text.contains("status"), "{text}");
    }
}
