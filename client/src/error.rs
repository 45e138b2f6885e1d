//! What can come of a request besides its answer, and what to do then.
//!
//! The line that matters is between *refused* (nothing changed, and a retry gives the same), *unreachable* (nothing
//! changed, a retry may work) and *outcome unknown* (send the same request again). `Verdict` draws it.

use std::error::Error as _;

use dinhba_core::ids::RequestId;
use dinhba_proto::v1;
use prost::Message;
use tonic::{Code, ConnectError, Status};

use crate::tls::DialError;

/// Why there is no answer. Messages say what to do; they hold no value of a record.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The touched fields have moved on since the caller read them; with the record as it is now.
    #[error(
        "the record has changed since it was read ({}): look at it as it is now, and edit it anew if that still holds",
        .0.fields.join(", ")
    )]
    Stale(Box<v1::Stale>),
    /// A definite refusal: nothing changed, and the same request will be refused again.
    #[error("{text}")]
    Refused {
        /// Its kind.
        code: Code,
        /// What is wrong and what to do, as the node says it.
        text: String,
    },
    /// No node gave an answer, and surely nothing was accepted.
    #[error("{}", unreachable(.text, .fault.as_deref()))]
    Unreachable {
        /// The last failure.
        text: String,
        /// Why certificates, keys or clocks let no connection come about, at one node at least.
        fault: Option<Box<DialError>>,
    },
    /// The request may or may not have been accepted.
    #[error("it is not known whether the request{} was accepted: {} ({text})", named(.request), remedy(.request))]
    OutcomeUnknown {
        /// The request to send again, to the same site; none for an administrative call, whose effect `status` shows.
        request: Option<RequestId>,
        /// The last failure.
        text: String,
    },
    /// An answer that makes no sense.
    #[error("the node's answer is not understood ({0}): check that client and node are of compatible versions")]
    Protocol(&'static str),
}

fn unreachable(text: &str, fault: Option<&DialError>) -> String {
    match fault.map(ToString::to_string) {
        // What is known to be wrong comes first, and no advice that leads elsewhere.
        Some(fault) if fault == text => format!("{fault}. Nothing was accepted"),
        Some(fault) => format!("{fault}. No node of the site took the request, and nothing was accepted ({text})"),
        None => format!(
            "no node of the site could take the request, and nothing was accepted: try again, and check the link if \
             that lasts ({text})"
        ),
    }
}

fn named(request: &Option<RequestId>) -> String {
    request.map(|request| format!(" {request}")).unwrap_or_default()
}

fn remedy(request: &Option<RequestId>) -> &'static str {
    match request {
        Some(_) => "send the same request to the same site again, it will be applied once",
        None => "look at the site's status before doing it again",
    }
}

impl Error {
    /// The error that a definite refusal stands for.
    pub(crate) fn refused(status: &Status) -> Self {
        match v1::Stale::decode(status.details()) {
            Ok(stale) if status.code() == Code::Aborted && stale.current.is_some() => Error::Stale(Box::new(stale)),
            _ => Error::Refused { code: status.code(), text: status.message().to_owned() },
        }
    }
}

/// Why attempts at a site's nodes failed: the last one, and a fault of certificates, keys or clocks if there was one.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    pub(crate) text: String,
    pub(crate) fault: Option<Box<DialError>>,
}

impl Reason {
    /// A reason without a fault.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Reason { text: text.into(), fault: None }
    }

    /// What an error of a transport says.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        match DialError::in_chain(error) {
            Some(cause) => Reason { text: cause.to_string(), fault: cause.lasts().then(|| Box::new(cause.clone())) },
            None => Reason::plain(error.to_string()),
        }
    }

    /// One more attempt failed.
    pub(crate) fn then(&mut self, next: Reason) {
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
    /// The node answered, and will answer the same again.
    Definite,
    /// Surely nothing was accepted: the request can be sent again, whatever it is.
    NotAccepted,
    /// It may have been accepted.
    Uncertain,
}

impl Verdict {
    /// What `status` says. A node's own UNAVAILABLE means that nothing was accepted; one that the transport made out of a
    /// broken connection does not, unless the connection never came about.
    pub(crate) fn of(status: &Status) -> Self {
        let mut cause = status.source();
        let is_from_transport = cause.is_some();
        while let Some(error) = cause {
            if error.is::<ConnectError>() {
                return Verdict::NotAccepted;
            }
            cause = error.source();
        }
        match status.code() {
            Code::Unavailable if is_from_transport => Verdict::Uncertain,
            code => Verdict::of_code(code),
        }
    }

    /// What a code that a node sent says.
    pub(crate) fn of_code(code: Code) -> Self {
        match code {
            Code::Unavailable | Code::ResourceExhausted => Verdict::NotAccepted,
            Code::Ok | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled | Code::Internal | Code::DataLoss => {
                Verdict::Uncertain
            }
            _ => Verdict::Definite,
        }
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::ids::SessionId;

    use super::*;

    #[test]
    fn only_a_node_can_say_that_nothing_was_accepted() {
        assert_eq!(Verdict::of(&Status::unavailable("no leader")), Verdict::NotAccepted);
        assert_eq!(Verdict::of(&Status::resource_exhausted("busy")), Verdict::NotAccepted);
        let cut: Box<dyn std::error::Error + Send + Sync> = "connection reset".into();
        assert_eq!(Verdict::of(&Status::from_error(cut)), Verdict::Uncertain);
        let unconnected = ConnectError("connection refused".into());
        assert_eq!(Verdict::of(&Status::from_error(Box::new(unconnected))), Verdict::NotAccepted);
        for code in [Code::Unknown, Code::DeadlineExceeded, Code::Internal, Code::Cancelled] {
            assert_eq!(Verdict::of(&Status::new(code, "")), Verdict::Uncertain, "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::PermissionDenied, Code::NotFound, Code::Aborted, Code::AlreadyExists]
        {
            assert_eq!(Verdict::of(&Status::new(code, "")), Verdict::Definite, "{code:?}");
        }
    }

    #[test]
    fn a_stale_edit_brings_the_record_as_it_is() {
        let stale = v1::Stale { fields: vec!["email".into()], current: Some(v1::Record::default()) };
        let status = Status::with_details(Code::Aborted, "stale", stale.encode_to_vec().into());
        assert!(matches!(Error::refused(&status), Error::Stale(found) if *found == stale));
        assert!(matches!(
            Error::refused(&Status::aborted("lost")),
            Error::Refused { code: Code::Aborted, text } if text == "lost"
        ));
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
