//! Who gets in at the door: handshakes, and how many may be in one and inside.
//!
//! Promises: a handshake has an end; callers of one address (of IPv6: of one network of 64 bits) and of one identity have a share
//! of the places; nodes have some inside that people cannot take, and in the door some that are kept for addresses from which nodes
//! have got in; who did not get in is told of and counted.
//! Limits: who has many addresses can keep people out, and after a start nodes too, for as long as he goes on: that is for the
//! network to prevent.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use dinhba_client::handshake::{By, Fault, Refusal, Validity};
use dinhba_client::tls::{ALPN_HTTP2, CONNECT_TIMEOUT, Credentials, authorities};
use dinhba_core::claims::Identity;
use dinhba_core::date::InstantMs;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::certified_key;
use crate::pki::{Shown, certificate_identity};
use crate::refusals::{Refusals, Side};
use crate::runtime;

/// Handshakes under way: some tens of kB each, over within [`CONNECT_TIMEOUT`], and thousands a second where nobody dawdles.
const HANDSHAKES_MAX: usize = 256;
/// Of these for addresses from which no node has got in: the rest is for nodes that were here and come back.
const HANDSHAKES_OF_STRANGERS_MAX: usize = 192;
/// Of these for one address: a quarter, so that one machine that sends nothing does not keep the others out.
pub(super) const HANDSHAKES_OF_ONE_MAX: usize = 64;
/// Addresses of nodes that are remembered: those of a province's sites, 32 bytes each.
const KNOWN_MAX: usize = 4096;
/// Open connections: with the handshakes, the engine's tables and the log they stay below the 1,024 files that a system allows a
/// process by default.
const CONNECTIONS_MAX: usize = 512;
/// Of these for people and applications: the rest is for nodes, so that a crowd does not cut the site off from itself.
const CONNECTIONS_OF_PEOPLE_MAX: usize = 384;
/// Of these for one identity: an application's pool is some dozens, a peer or a link has one per node and group.
pub(super) const CONNECTIONS_OF_ONE_MAX: usize = 64;

/// What each handshake is made with.
pub(super) struct Handshakes {
    provider: Arc<CryptoProvider>,
    callers: Arc<dyn ClientCertVerifier>,
    own: Arc<SingleCertAndKey>,
    validity: Option<Validity>,
}

impl Handshakes {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(authorities(&credentials.ca)?);
        let callers = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let own = Arc::new(SingleCertAndKey::from(certified_key(credentials, &provider)?));
        let callers = callers.map_err(|error| error.to_string())?;
        Ok(Handshakes { provider, callers, own, validity: Validity::of(&credentials.certificate) })
    }

    /// A configuration of its own for each handshake, whose witness says afterwards who was refused.
    fn config(&self, witness: Arc<Witness>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions()?.with_client_cert_verifier(witness);
        let mut config = builder.with_cert_resolver(Arc::clone(&self.own) as _);
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        // Nobody comes back without showing a certificate that is valid then.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Remembers whose certificate is being verified.
#[derive(Debug)]
struct Witness {
    callers: Arc<dyn ClientCertVerifier>,
    seen: OnceLock<CertificateDer<'static>>,
}

impl ClientCertVerifier for Witness {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.callers.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let _ = self.seen.set(end_entity.clone().into_owned());
        self.callers.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.callers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.callers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.callers.supported_verify_schemes()
    }
}

/// How many stand in the door, by address, and how many are inside, by identity.
#[derive(Debug, Default)]
struct Crowd {
    handshakes: Count<IpAddr>,
    strangers: usize,
    /// From where nodes have got in.
    known: BTreeSet<IpAddr>,
    connections: Count<String>,
    people: usize,
}

#[derive(Debug)]
struct Count<K> {
    all: usize,
    of_one: BTreeMap<K, usize>,
}

impl<K> Default for Count<K> {
    fn default() -> Self {
        Count { all: 0, of_one: BTreeMap::new() }
    }
}

impl<K: Ord> Count<K> {
    fn of(&self, one: &K) -> usize {
        self.of_one.get(one).copied().unwrap_or_default()
    }

    fn add(&mut self, one: K) {
        self.all += 1;
        *self.of_one.entry(one).or_default() += 1;
    }

    fn remove(&mut self, one: &K) {
        self.all -= 1;
        if let Some(count) = self.of_one.get_mut(one) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(one);
            }
        }
    }
}

/// A place in the door or inside, which is free again when it is dropped.
struct Place {
    crowd: Arc<Mutex<Crowd>>,
    whose: Whose,
}

enum Whose {
    Stranger(IpAddr),
    Known(IpAddr),
    Person(String),
    Node(String),
}

/// For whom one machine counts: the network of 64 bits is the least that an IPv6 customer has.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

impl Place {
    fn in_door(crowd: &Arc<Mutex<Crowd>>, origin: IpAddr) -> Result<Self, Fault> {
        let is_known = crowd.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&origin);
        Place::take(crowd, if is_known { Whose::Known(origin) } else { Whose::Stranger(origin) })
    }

    fn take(crowd: &Arc<Mutex<Crowd>>, whose: Whose) -> Result<Self, Fault> {
        let mut counts = crowd.lock().unwrap_or_else(PoisonError::into_inner);
        match &whose {
            Whose::Stranger(address) | Whose::Known(address) => {
                let is_stranger = matches!(whose, Whose::Stranger(_));
                if counts.handshakes.all >= HANDSHAKES_MAX
                    || is_stranger && counts.strangers >= HANDSHAKES_OF_STRANGERS_MAX
                {
                    return Err(Fault::Many("too many handshakes of all under way"));
                }
                if counts.handshakes.of(address) >= HANDSHAKES_OF_ONE_MAX {
                    return Err(Fault::Many("too many handshakes under way"));
                }
                counts.strangers += usize::from(is_stranger);
                counts.handshakes.add(*address);
            }
            Whose::Person(identity) | Whose::Node(identity) => {
                let is_person = matches!(whose, Whose::Person(_));
                if counts.connections.of(identity) >= CONNECTIONS_OF_ONE_MAX {
                    return Err(Fault::Many("too many connections open"));
                }
                if counts.connections.all >= CONNECTIONS_MAX || is_person && counts.people >= CONNECTIONS_OF_PEOPLE_MAX
                {
                    return Err(Fault::Many("come when too many connections of all were open"));
                }
                counts.people += usize::from(is_person);
                counts.connections.add(identity.clone());
            }
        }
        drop(counts);
        Ok(Place { crowd: Arc::clone(crowd), whose })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.whose {
            Whose::Stranger(address) => {
                counts.strangers -= 1;
                counts.handshakes.remove(address);
            }
            Whose::Known(address) => counts.handshakes.remove(address),
            Whose::Node(identity) => counts.connections.remove(identity),
            Whose::Person(identity) => {
                counts.people -= 1;
                counts.connections.remove(identity);
            }
        }
    }
}

/// Lets callers in, or not.
pub(super) struct Porter {
    tls: Option<Handshakes>,
    refusals: Arc<Refusals>,
    crowd: Arc<Mutex<Crowd>>,
}

impl Porter {
    /// At a door with nobody in it. Without handshakes everybody gets in who finds a place.
    pub(super) fn new(tls: Option<Handshakes>, refusals: Arc<Refusals>) -> Self {
        Porter { tls, refusals, crowd: Arc::default() }
    }

    /// Sees to one caller, beside the others.
    pub(super) fn receive(self: &Arc<Self>, stream: TcpStream, inside: &mpsc::Sender<io::Result<Inside>>) {
        // Who has gone already needs no answer.
        let Ok(peer) = stream.peer_addr() else { return };
        let address = peer.ip().to_canonical();
        let place = match Place::in_door(&self.crowd, origin(address)) {
            Ok(place) => place,
            Err(fault) => {
                let refusal = self.refusal(address.to_string(), By::Us, fault);
                return self.refusals.note(Side::Door, &origin(address).to_string(), &refusal);
            }
        };
        let (porter, inside) = (Arc::clone(self), inside.clone());
        runtime::spawn("handshake", async move {
            let let_in = porter.let_in(stream, address).await;
            drop(place);
            match let_in {
                // The server takes no more when the node stops.
                Ok(let_in) => drop(inside.send(Ok(let_in)).await),
                Err((whose, refusal)) => porter.refusals.note(Side::Door, &whose, &refusal),
            }
        });
    }

    fn refusal(&self, peer: String, by: By, fault: Fault) -> Refusal {
        let own = self.tls.as_ref().and_then(|tls| tls.validity);
        Refusal { peer, by, fault, own, now: InstantMs(runtime::utc_ms()) }
    }

    /// Gives who was refused, as far as it is known who that is, and how.
    async fn let_in(&self, stream: TcpStream, address: IpAddr) -> Result<Inside, (String, Refusal)> {
        let origin = origin(address);
        let Some(tls) = &self.tls else {
            // All say of themselves who they are, in each request: no two connections are known to be of one.
            let place = Place::take(&self.crowd, Whose::Node(format!("{address} {}", runtime::random_u64())));
            let place =
                place.map_err(|fault| (origin.to_string(), self.refusal(address.to_string(), By::Us, fault)))?;
            return Ok(Inside::new(Either::Left(stream), Shown(None), place));
        };
        let witness = Arc::new(Witness { callers: Arc::clone(&tls.callers), seen: OnceLock::new() });
        let config = tls.config(Arc::clone(&witness)).map_err(|error| {
            (origin.to_string(), self.refusal(address.to_string(), By::Us, Fault::Other(error.to_string())))
        })?;
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let accepted = runtime::timeout(CONNECT_TIMEOUT, accepting).await;
        let shown = witness.seen.get().map(|certificate| certificate_identity(certificate));
        let peer = match &shown {
            Some(Ok(identity)) => format!("{address} ({})", identity.uri()),
            Some(Err(_)) => format!("{address} (nobody by its certificate)"),
            None => address.to_string(),
        };
        // What a certificate says is worth nothing before the handshake has ended: names can be invented.
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let refusal = Refusal::of(&error, peer, tls.validity, InstantMs(runtime::utc_ms()));
                return Err((origin.to_string(), refusal));
            }
            Err(_) => return Err((origin.to_string(), self.refusal(peer, By::Us, Fault::Slow))),
        };
        let refused = |by, fault| (peer.clone(), self.refusal(peer.clone(), by, fault));
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
            return Err(refused(By::Us, Fault::Tls));
        }
        let whose = match &shown {
            Some(Ok(identity @ Identity::Node { .. })) => Whose::Node(identity.uri()),
            Some(Ok(identity)) => Whose::Person(identity.uri()),
            // Its first call will say what is wrong.
            Some(Err(_)) | None => Whose::Person(String::new()),
        };
        let is_node = matches!(whose, Whose::Node(_));
        let place = Place::take(&self.crowd, whose).map_err(|fault| refused(By::Us, fault))?;
        if is_node {
            let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
            if crowd.known.len() < KNOWN_MAX {
                crowd.known.insert(origin);
            }
        }
        Ok(Inside::new(Either::Right(Box::new(stream)), Shown(shown), place))
    }
}

type Way = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A caller's connection, once it is in.
pub struct Inside {
    way: Way,
    shown: Shown,
    /// Dropped with it.
    gone: Option<oneshot::Sender<()>>,
    /// Ends it.
    cut: Option<oneshot::Receiver<()>>,
    is_cut: bool,
    _place: Place,
}

/// Holds a connection from outside.
pub(super) struct Tether {
    /// Resolves when it is gone.
    pub(super) gone: oneshot::Receiver<()>,
    /// If this is dropped, it breaks.
    pub(super) cut: oneshot::Sender<()>,
}

impl Inside {
    fn new(way: Way, shown: Shown, place: Place) -> Self {
        Inside { way, shown, gone: None, cut: None, is_cut: false, _place: place }
    }

    /// Who is at the other end, by the certificate.
    pub(super) fn whose(&self) -> Option<&Identity> {
        self.shown.0.as_ref().and_then(|shown| shown.as_ref().ok())
    }

    pub(super) fn tether(&mut self) -> Tether {
        let ((gone, is_gone), (cut, is_cut)) = (oneshot::channel(), oneshot::channel());
        (self.gone, self.cut) = (Some(gone), Some(is_cut));
        Tether { gone: is_gone, cut }
    }

    /// An error once it was cut.
    fn holds(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        if let Some(cut) = &mut self.cut
            && Pin::new(cut).poll(task).is_ready()
        {
            self.cut = None;
            self.is_cut = true;
        }
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl Connected for Inside {
    type ConnectInfo = Shown;
    fn connect_info(&self) -> Shown {
        self.shown.clone()
    }
}

impl AsyncRead for Inside {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.holds(task)?;
        Pin::new(&mut self.way).poll_read(task, buffer)
    }
}

impl AsyncWrite for Inside {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.holds(task)?;
        Pin::new(&mut self.way).poll_write(task, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.holds(task)?;
        Pin::new(&mut self.way).poll_write_vectored(task, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.way.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.holds(task)?;
        Pin::new(&mut self.way).poll_flush(task)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.holds(task)?;
        Pin::new(&mut self.way).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_keeps_places_for_nodes_that_were_here_and_counts_networks() {
        let crowd: Arc<Mutex<Crowd>> = Arc::default();
        let address = |text: &str| origin(text.parse().unwrap());
        let node = address("10.0.0.9");
        crowd.lock().unwrap().known.insert(node);
        // Silent connections of four machines.
        let silent: Vec<_> = (0..4 * HANDSHAKES_OF_ONE_MAX)
            .filter_map(|at| Place::in_door(&crowd, address(&format!("10.0.0.{}", at % 4))).ok())
            .collect();
        assert_eq!(silent.len(), HANDSHAKES_OF_STRANGERS_MAX);
        let back = Place::in_door(&crowd, node).expect("it was here");
        drop((silent, back));
        // One customer has 2^64 of these.
        let one: Vec<_> = (0..2 * HANDSHAKES_OF_ONE_MAX)
            .filter_map(|at| Place::in_door(&crowd, address(&format!("2001:db8::{at:x}"))).ok())
            .collect();
        assert_eq!(one.len(), HANDSHAKES_OF_ONE_MAX);
        assert!(Place::in_door(&crowd, address("2001:db8:0:1::1")).is_ok());
        assert_eq!(address("::ffff:10.0.0.9"), node);
        drop(one);
        let crowd = crowd.lock().unwrap();
        assert!(crowd.handshakes.all == 0 && crowd.strangers == 0);
    }

    #[test]
    fn nodes_have_places_that_people_cannot_take() {
        let crowd = Arc::default();
        let people: Vec<_> =
            (0..CONNECTIONS_MAX).filter_map(|one| Place::take(&crowd, Whose::Person(one.to_string())).ok()).collect();
        assert_eq!(people.len(), CONNECTIONS_OF_PEOPLE_MAX);
        let nodes: Vec<_> =
            (0..CONNECTIONS_MAX).filter_map(|one| Place::take(&crowd, Whose::Node(one.to_string())).ok()).collect();
        assert_eq!(nodes.len(), CONNECTIONS_MAX - CONNECTIONS_OF_PEOPLE_MAX);
        drop((people, nodes));
        let crowd = crowd.lock().unwrap();
        assert!(crowd.connections.of_one.is_empty() && crowd.connections.all == 0 && crowd.people == 0);
    }
}
