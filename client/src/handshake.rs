//! Why two ends of a connection do not get past the handshake, in words that say what to do: the same at both ends.
//!
//! Owns: what can be wrong ([`Fault`]), who refused whom ([`Refusal`]), until when a certificate is valid ([`Validity`]).
//! Promises: a sentence begins with the fault, and names the dates and this machine's clock where a clock can be the cause.
//! A fault of the other's certificate and one of ours that the other tells by an alert become the same words. Leaves to
//! others: the handshake (`tls`, the node's door), what is counted and logged.
//! Limit: an alert has few words. Whether the other end thinks our certificate expired or not yet valid, it does not say;
//! nor does it say what its clock is.

use std::fmt;
use std::io;

use dinhba_core::date::InstantMs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, Error, InconsistentKeys};
use x509_parser::prelude::{FromDer, X509Certificate};

/// From when until when a certificate is valid, with all that lie between it and the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: InstantMs,
    /// Not after.
    pub until: InstantMs,
}

impl Validity {
    /// Of the certificates in a PEM text; none if there are none that can be read.
    #[must_use]
    pub fn of(pem: &str) -> Option<Self> {
        let mut common: Option<Validity> = None;
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.ok()?;
            let (_, certificate) = X509Certificate::from_der(&der).ok()?;
            let ms = |time: x509_parser::time::ASN1Time| InstantMs(time.timestamp().saturating_mul(1000));
            let (from, until) = (ms(certificate.validity().not_before), ms(certificate.validity().not_after));
            common = Some(common.map_or(Validity { from, until }, |common| Validity {
                from: common.from.max(from),
                until: common.until.min(until),
            }));
        }
        common
    }

    /// What is wrong with it at `now`.
    pub fn check(&self, now: InstantMs) -> Result<(), Fault> {
        if now < self.from {
            return Err(Fault::NotYetValid(Some(self.from)));
        }
        if now > self.until {
            return Err(Fault::Expired(Some(self.until)));
        }
        Ok(())
    }

    /// What to say of one's own certificate, if something is wrong with it at `now`.
    #[must_use]
    pub fn complaint(&self, now: InstantMs) -> Option<String> {
        self.check(now).err().map(|fault| own(&fault, &clock(now)))
    }
}

fn own(fault: &Fault, clock: &str) -> String {
    match fault {
        Fault::Expired(until) => format!(
            "this end's own certificate expired on {}: is this machine's clock right?{clock} If it is, ask for a new certificate",
            shown(until)
        ),
        Fault::NotYetValid(from) => format!(
            "this end's own certificate is not valid before {}: is this machine's clock right?{clock} Set it",
            shown(from)
        ),
        other => other.word().to_owned(),
    }
}

fn shown(time: &Option<InstantMs>) -> String {
    time.map_or_else(|| "a day that it does not say".to_owned(), |time| time.to_string())
}

/// What the clock says, in seconds.
fn clock(now: InstantMs) -> String {
    format!(" (it says {})", InstantMs(now.0.div_euclid(1000) * 1000))
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A certificate was valid until then, by the clock of who refused it; when is not known of an alert.
    Expired(Option<InstantMs>),
    /// A certificate is valid only from then on.
    NotYetValid(Option<InstantMs>),
    /// A certificate has expired or is not yet valid: what an alert says.
    Untimely,
    /// A certificate is not of the authority that is believed.
    Authority,
    /// A certificate carries other names than the expected one.
    Name {
        /// Who was expected.
        expected: String,
        /// Who it is; of a peer, so in the debug form of a string where it is shown.
        shown: Vec<String>,
    },
    /// A key does not belong to its certificate.
    Key,
    /// A certificate is not made for this, as an officer's is not made for serving.
    Purpose,
    /// No certificate was shown.
    Absent,
    /// The other end does not speak TLS, or not this one.
    Tls,
    /// It took too long.
    Slow,
    /// The other end broke off without a word.
    Broken,
    /// Too many at once.
    Many(&'static str),
    /// Something else, in the library's words.
    Other(String),
}

impl Fault {
    /// A fixed word for figures.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Fault::Expired(_) => "expired",
            Fault::NotYetValid(_) => "not_yet_valid",
            Fault::Untimely => "expired_or_not_yet_valid",
            Fault::Authority => "other_authority",
            Fault::Name { .. } => "other_name",
            Fault::Key => "other_key",
            Fault::Purpose => "other_purpose",
            Fault::Absent => "no_certificate",
            Fault::Tls => "no_tls",
            Fault::Slow => "slow",
            Fault::Broken => "broken_off",
            Fault::Many(_) => "too_many",
            Fault::Other(_) => "other",
        }
    }

    /// Whether it lies in certificates, keys or clocks, so that trying again does not help.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !matches!(self, Fault::Slow | Fault::Broken | Fault::Many(_))
    }

    /// What we found wrong with the other end.
    fn found(error: &Error) -> Self {
        let ms = |time: &rustls::pki_types::UnixTime| {
            InstantMs(i64::try_from(time.as_secs()).map_or(i64::MAX, |seconds| seconds.saturating_mul(1000)))
        };
        match error {
            Error::InvalidCertificate(found) => match found {
                CertificateError::ExpiredContext { not_after, .. } => Fault::Expired(Some(ms(not_after))),
                CertificateError::Expired => Fault::Expired(None),
                CertificateError::NotValidYetContext { not_before, .. } => Fault::NotYetValid(Some(ms(not_before))),
                CertificateError::NotValidYet => Fault::NotYetValid(None),
                // Of two authorities of one name the other one's signature is wrong.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Fault::Authority,
                CertificateError::NotValidForNameContext { expected, presented } => {
                    Fault::Name { expected: expected.to_str().into_owned(), shown: presented.clone() }
                }
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Fault::Purpose,
                other => Fault::Other(other.to_string()),
            },
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Fault::Key,
            Error::NoCertificatesPresented => Fault::Absent,
            Error::InvalidMessage(_) | Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Fault::Tls,
            other => Fault::Other(other.to_string()),
        }
    }

    /// What the other end says is wrong with us.
    fn told(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Fault::Untimely,
            AlertDescription::UnknownCA | AlertDescription::DecryptError => Fault::Authority,
            AlertDescription::UnsupportedCertificate => Fault::Purpose,
            AlertDescription::BadCertificate => Fault::Name { expected: String::new(), shown: Vec::new() },
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Fault::Absent,
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::NoApplicationProtocol => Fault::Tls,
            other => Fault::Other(format!("alert {other:?}")),
        }
    }
}

/// Who found a fault in whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// This end, in the other one's certificate or conduct.
    Us,
    /// The other end, in ours.
    Them,
}

/// A handshake that did not end well, as this end knows it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The other end: its address, and who it says it is if that is known.
    pub peer: String,
    /// Who refused.
    pub by: By,
    /// Why.
    pub fault: Fault,
    /// Until when this end's own certificate is valid.
    pub own: Option<Validity>,
    /// What this machine's clock said. Not compared: the same refusal a minute later is the same.
    pub now: InstantMs,
}

impl PartialEq for Refusal {
    fn eq(&self, other: &Self) -> bool {
        (&self.peer, self.by, &self.fault, self.own) == (&other.peer, other.by, &other.fault, other.own)
    }
}

impl Eq for Refusal {}

impl Refusal {
    /// What an error of a handshake, or of the first words after it, says.
    #[must_use]
    pub fn of(error: &io::Error, peer: String, own: Option<Validity>, now: InstantMs) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        let (by, fault) = match cause {
            Some(Error::AlertReceived(alert)) => (By::Them, Fault::told(*alert)),
            Some(found) => (By::Us, Fault::found(found)),
            // Whatever the link came to, another attempt may go better.
            None => match error.kind() {
                io::ErrorKind::TimedOut => (By::Us, Fault::Slow),
                _ => (By::Them, Fault::Broken),
            },
        };
        Refusal { peer, by, fault, own, now }
    }

    /// The same without what the clock said: for logs, whose lines carry it, so that one fault is one text.
    #[must_use]
    pub fn lasting(&self) -> String {
        self.text("")
    }

    fn text(&self, clock: &str) -> String {
        let Refusal { peer, fault, own: own_validity, .. } = self;
        // Whose certificate it is about.
        let whose = match self.by {
            By::Us => format!("the certificate of {peer}"),
            By::Them => format!("{peer} refuses this end: its certificate"),
        };
        let is_right = format!("is this machine's clock right?{clock}");
        match (fault, self.by) {
            (Fault::Untimely, _) => match own_validity.map(|validity| (validity, validity.check(self.now))) {
                Some((_, Err(fault))) => format!("{}; {peer} refuses it", own(&fault, clock)),
                Some((validity, Ok(()))) => format!(
                    "{peer} takes this end's certificate for expired or not yet valid, and it is valid from {} to {}: \
                     {is_right} Is that one's?",
                    validity.from, validity.until
                ),
                None => format!("{whose} has expired or is not yet valid: {is_right} Is that one's?"),
            },
            (Fault::Expired(until), _) => {
                format!("{whose} expired on {}: {is_right} If it is, a new certificate is needed there", shown(until))
            }
            (Fault::NotYetValid(from), _) => {
                format!("{whose} is not valid before {}: {is_right} If it is, is that of who issued it?", shown(from))
            }
            (Fault::Authority, _) => {
                format!(
                    "{whose} is of another authority: give both ends certificates of one, and its certificate as `ca`"
                )
            }
            (Fault::Name { expected, shown }, By::Us) => {
                let shown: Vec<_> = shown.iter().map(|name| format!("{name:?}")).collect();
                format!(
                    "{whose} is not that of {expected:?} but of {}: another node is at this address; mend the address",
                    if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") }
                )
            }
            (Fault::Name { .. }, By::Them) => {
                format!("{whose} is not the one that it expects here: mend the address there, or the certificate here")
            }
            (Fault::Key, _) => {
                format!("the key of {peer} does not match its certificate: give the key that was made with it")
            }
            (Fault::Purpose, _) => {
                format!(
                    "{whose} is not made for this: nodes serve with certificates of nodes, people call with their own"
                )
            }
            (Fault::Absent, By::Us) => {
                format!("{peer} shows no certificate: call with one of this country's authority")
            }
            (Fault::Absent, By::Them) => format!("{peer} asks for a certificate and got none: give one to call with"),
            (Fault::Tls, _) => {
                format!("{peer} does not speak this TLS (1.2 or 1.3, with HTTP/2): check address, port and version")
            }
            (Fault::Slow, _) => format!("{peer} did not finish the handshake in time: check the link"),
            (Fault::Broken, _) => {
                format!("{peer} broke off in the handshake: look into its log, and check the link if there is nothing")
            }
            (Fault::Many(what), _) => format!("{peer} has {what}: close some, or wait"),
            (Fault::Other(text), By::Us) => format!("the handshake with {peer} failed ({text}): look into its log too"),
            (Fault::Other(text), By::Them) => format!("{whose} did not do ({text}): look into its log"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&clock(self.now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_keys_and_clocks_last() {
        let lasts = |error: io::Error| Refusal::of(&error, "a:1".to_owned(), None, InstantMs(0)).fault.lasts();
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NotConnected, TimedOut};
        for kind in [ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NotConnected, TimedOut] {
            assert!(!lasts(kind.into()), "{kind:?}: another attempt may go better");
        }
        assert!(!lasts(io::Error::other("what a system has no word for")));
        assert!(lasts(io::Error::other(Error::AlertReceived(AlertDescription::UnknownCA))));
    }
}
