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
use crate::request::Context;
use crate::tls::{Credentials, DialError, LoopbackDialer, TlsDialer, split_name};
use crate::transport::Dial;

/// The longest time that may be waited: an hour, more is a mistyped unit.
const TIMEOUT_SECONDS_MAX: u64 = 3600;

/// Whom to ask, as whom, and why. What is not given comes from the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// A node of the site, host:port or name@host:port; several times for several nodes of one site [env: DINHBA_NODE, with commas]
    #[arg(long = "node", value_name = "ADDRESS", value_delimiter = ',', global = true)]
    pub nodes: Vec<String>,
    /// The directory with ca.pem, cert.pem and key.pem [env: DINHBA_IDENTITY]
    #[arg(long, value_name = "DIR", global = true)]
    pub identity: Option<PathBuf>,
    /// The authority's certificate, PEM
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// The caller's certificate, PEM
    #[arg(long, value_name = "FILE", global = true)]
    pub cert: Option<PathBuf>,
    /// The caller's private key, PEM
    #[arg(long, value_name = "FILE", global = true)]
    pub key: Option<PathBuf>,
    /// For development: no protection, on this machine only, as this identity (spiffe://dinhba/person/…)
    #[arg(long, value_name = "URI", conflicts_with_all = ["identity", "ca", "cert", "key"], global = true)]
    pub unsafe_loopback: Option<String>,
    /// Why the request is made: registration, correction, verification, residence, issuance, adjudication, subject, inspection, statistics or maintenance [env: DINHBA_PURPOSE]
    #[arg(long, global = true)]
    pub purpose: Option<String>,
    /// The reference of the case file that it belongs to [env: DINHBA_CASE]
    #[arg(long, global = true)]
    pub case: Option<String>,
    /// Writes JSON for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Seconds to go on trying
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_SECONDS_MAX), global = true)]
    pub timeout: u64,
}

/// Whether it looks like `host:port`; whether anybody is there shows when it is dialed.
fn is_address(node: &str) -> bool {
    let (_, address) = split_name(node);
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl Connection {
    /// A client as it is described here and, for the rest, by the environment.
    pub(crate) fn open(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<(Client, Context), Failure> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let context = self.context(&env)?;
        let mut nodes = self.nodes.clone();
        if nodes.is_empty() {
            nodes.extend(env("DINHBA_NODE").iter().flat_map(|list| list.split(',')).map(|node| node.trim().to_owned()));
        }
        if nodes.is_empty() {
            return Err(Failure::usage("no node is named: give --node host:port, or set DINHBA_NODE"));
        }
        if let Some(wrong) = nodes.iter().find(|node| !is_address(node)) {
            return Err(Failure::Usage(DialError::Address { address: wrong.clone() }.to_string()));
        }
        let dial = self.dial(&env)?;
        let deadline = Duration::from_secs(self.timeout);
        let limits = Limits { deadline, admin: deadline.max(Limits::default().admin), ..Limits::default() };
        Ok((Client::new(dial, nodes, Arc::new(Machine::default()), limits), context))
    }

    pub(super) fn context(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Context, Failure> {
        let given = |option: &Option<String>, variable| option.clone().or_else(|| env(variable));
        let purpose = given(&self.purpose, "DINHBA_PURPOSE").ok_or_else(|| {
            Failure::usage(
                "the request names no purpose: give --purpose (for example registration), or set DINHBA_PURPOSE",
            )
        })?;
        let case = given(&self.case, "DINHBA_CASE").ok_or_else(|| {
            Failure::usage("the request names no case: give --case with the reference of the file, or set DINHBA_CASE")
        })?;
        Context::parse(&purpose, &case).map_err(|error| Failure::Usage(error.to_string()))
    }

    fn dial(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Arc<dyn Dial>, Failure> {
        if let Some(uri) = &self.unsafe_loopback {
            // A node takes the evidence from the connection: what stands here is not looked at.
            let identity =
                Identity::parse(uri, EvidenceId::default()).map_err(|error| Failure::Usage(error.to_string()))?;
            return Ok(Arc::new(LoopbackDialer::new(&identity)));
        }
        let folder = self.identity.clone().or_else(|| env("DINHBA_IDENTITY").map(PathBuf::from));
        let file = |given: &Option<PathBuf>, name: &str| {
            given.clone().or_else(|| folder.as_deref().map(|folder: &Path| folder.join(name))).ok_or_else(|| {
                Failure::usage(
                    "no identity is given: give --identity with the directory that holds ca.pem, cert.pem and key.pem, \
                     or set DINHBA_IDENTITY, or give --ca, --cert and --key",
                )
            })
        };
        let (ca, cert, key) = (file(&self.ca, "ca.pem")?, file(&self.cert, "cert.pem")?, file(&self.key, "key.pem")?);
        let credentials = Credentials::read(&ca, &cert, &key).map_err(|error| Failure::Usage(error.to_string()))?;
        let dialer = TlsDialer::new(&credentials);
        dialer.check().map_err(|fault| match fault {
            DialError::Untimely(_) => {
                Error::Unreachable { text: fault.to_string(), fault: Some(Box::new(fault)) }.into()
            }
            _ => Failure::Usage(format!("{}: {fault}", cert.display())),
        })?;
        Ok(Arc::new(dialer))
    }
}
