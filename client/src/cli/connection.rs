//! Whom to ask, as whom, and why.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dinhba_core::claims::Identity;
use dinhba_core::ids::EvidenceId;

use super::Failure;
use crate::ambient::Machine;
use crate::client::{Client, Limits};
use crate::error::Error;
use crate::language::{Lang, say};
use crate::request::Context;
use crate::tls::{Credentials, DialError, LoopbackDialer, TlsDialer, split_name};
use crate::transport::Dial;

/// The longest time that may be waited: an hour, more is a mistyped unit.
const TIMEOUT_SECONDS_MAX: u64 = 3600;

/// Whom to ask, as whom, and why. What is not given comes from the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// A node of the site, host:port or name@host:port; several times for several nodes of one site [env: DINHBA_NODE, with commas]
    #[arg(long = "node", value_name = "ADDRESS", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// The directory with ca.pem, cert.pem and key.pem [env: DINHBA_IDENTITY]
    #[arg(long, value_name = "DIR")]
    pub identity: Option<PathBuf>,
    /// The authority's certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The caller's certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The caller's private key, PEM
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// For development: no protection, on this machine only, as this identity (spiffe://dinhba/person/…)
    #[arg(long, value_name = "URI", conflicts_with_all = ["identity", "ca", "cert", "key"])]
    pub unsafe_loopback: Option<String>,
    /// Why the request is made: registration, correction, verification, residence, issuance, adjudication, subject, inspection, statistics or maintenance [env: DINHBA_PURPOSE]
    #[arg(long)]
    pub purpose: Option<String>,
    /// The reference of the case file that it belongs to [env: DINHBA_CASE]
    #[arg(long)]
    pub case: Option<String>,
    /// Writes JSON for programs
    #[arg(long)]
    pub json: bool,
    /// The language of messages to people [env: DINHBA_LANG, else LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_name = "LANGUAGE", value_enum)]
    pub lang: Option<Lang>,
    /// Seconds to go on trying, in all; a verb that streams goes on for as long as answers come. Without it 15, and 60 for those of `site`
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_SECONDS_MAX))]
    pub timeout: Option<u64>,
}

/// Seconds to go on trying: an election, and a slow disk.
const TIMEOUT_SECONDS: u64 = 15;

/// Whether it looks like `host:port`; whether anybody is there shows when it is dialed.
fn is_address(node: &str) -> bool {
    let (_, address) = split_name(node);
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl Connection {
    /// What was written after the verb, and for the rest before it.
    #[must_use]
    pub fn or(self, before: Connection) -> Connection {
        let names_itself = self.identity.is_some() || self.ca.is_some() || self.unsafe_loopback.is_some();
        // Who asks is said in one place: half of one identity and half of another is none.
        let who = if names_itself { &self } else { &before };
        let (identity, unsafe_loopback) = (who.identity.clone(), who.unsafe_loopback.clone());
        let (ca, cert, key) = (who.ca.clone(), who.cert.clone(), who.key.clone());
        Connection {
            identity,
            ca,
            cert,
            key,
            unsafe_loopback,
            nodes: if self.nodes.is_empty() { before.nodes } else { self.nodes },
            purpose: self.purpose.or(before.purpose),
            case: self.case.or(before.case),
            json: self.json || before.json,
            lang: self.lang.or(before.lang),
            timeout: self.timeout.or(before.timeout),
        }
    }

    /// Whether it says anything of a site: more than how to write.
    fn is_given(&self) -> bool {
        let Connection { nodes, identity, ca, cert, key, unsafe_loopback, purpose, case, json: _, lang: _, timeout } =
            self;
        let files = [identity, ca, cert, key];
        let words = [unsafe_loopback, purpose, case];
        let is_named = files.iter().any(|file| file.is_some()) || words.iter().any(|word| word.is_some());
        !nodes.is_empty() || timeout.is_some() || is_named
    }

    /// Refuses what would do nothing for a verb that asks no site.
    pub(super) fn refuse_unused(&self) -> Result<(), Failure> {
        if self.is_given() {
            return Err(Failure::usage(say!("verb-asks-no-site")));
        }
        Ok(())
    }

    /// A client as it is described here and, for the rest, by the environment.
    pub(crate) fn open(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<(Client, Context), Failure> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let context = self.context(&env)?;
        let mut nodes = self.nodes.clone();
        if nodes.is_empty() {
            nodes.extend(env("DINHBA_NODE").iter().flat_map(|list| list.split(',')).map(|node| node.trim().to_owned()));
        }
        if nodes.is_empty() {
            return Err(Failure::usage(say!("no-node")));
        }
        if let Some(wrong) = nodes.iter().find(|node| !is_address(node)) {
            return Err(Failure::usage(DialError::Address { address: wrong.clone() }.to_string()));
        }
        let dial = self.dial(&env)?;
        let limits = self.limits();
        Ok((Client::new(dial, nodes, Arc::new(Machine::default()), limits), context))
    }

    /// What is given bounds everything: nobody who says ten seconds waits for sixty.
    pub(super) fn limits(&self) -> Limits {
        let usual = Limits::default();
        let given = self.timeout.map(Duration::from_secs);
        let deadline = given.unwrap_or(Duration::from_secs(TIMEOUT_SECONDS));
        Limits {
            turn: usual.turn.min(deadline),
            attempt: usual.attempt.min(deadline),
            deadline,
            admin: given.unwrap_or(usual.admin),
            ..usual
        }
    }

    pub(super) fn context(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Context, Failure> {
        let given = |option: &Option<String>, variable| option.clone().or_else(|| env(variable));
        let purpose = given(&self.purpose, "DINHBA_PURPOSE").ok_or_else(|| Failure::usage(say!("no-purpose")))?;
        let case = given(&self.case, "DINHBA_CASE").ok_or_else(|| Failure::usage(say!("no-case")))?;
        Context::parse(&purpose, &case).map_err(|error| Failure::usage(error.to_string()))
    }

    fn dial(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Arc<dyn Dial>, Failure> {
        if let Some(uri) = &self.unsafe_loopback {
            // A node takes the evidence from the connection: what stands here is not looked at.
            let identity =
                Identity::parse(uri, EvidenceId::default()).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(Arc::new(LoopbackDialer::new(&identity)));
        }
        let folder = self.identity.clone().or_else(|| env("DINHBA_IDENTITY").map(PathBuf::from));
        let file = |given: &Option<PathBuf>, name: &str| {
            given
                .clone()
                .or_else(|| folder.as_deref().map(|folder: &Path| folder.join(name)))
                .ok_or_else(|| Failure::usage(say!("no-identity")))
        };
        let (ca, cert, key) = (file(&self.ca, "ca.pem")?, file(&self.cert, "cert.pem")?, file(&self.key, "key.pem")?);
        let credentials = Credentials::read(&ca, &cert, &key).map_err(|error| Failure::usage(error.to_string()))?;
        let dialer = TlsDialer::new(&credentials);
        dialer.check().map_err(|fault| match fault {
            DialError::Untimely(_) => {
                Error::Unreachable { text: fault.to_string(), fault: Some(Box::new(fault)) }.into()
            }
            _ => Failure::usage(say!(
                "fault-of-file",
                file = cert.display(),
                fault = crate::language::Message::from(fault.to_string())
            )),
        })?;
        Ok(Arc::new(dialer))
    }
}
