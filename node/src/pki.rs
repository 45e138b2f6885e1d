//! Who is who on the wire: the identity in a peer's certificate, and a development authority that issues them.
//!
//! Owns: reading an [`Identity`] off a connection ([`peer_identity`]), the files of a development authority
//! ([`DevAuthority`]), the signing key of a site. Promises: an identity comes from the certificate that the TLS
//! handshake verified, or, only where the server itself marked the request with [`TrustHeader`], from a header; a
//! header never overrides a certificate; keys are written for their owner alone, and no file is overwritten unasked.
//! Leaves to others: the handshake (`tls`), what an identity may do (`dinhba_core::access`).
//! Limits: the authority is for development and demonstrations: its key lies unprotected beside what it issues, and it
//! revokes nothing. A certificate's end date is checked at the handshake, not again on a connection that stays open.
//!
//! ```text
//! <dir>/ca.pem, ca.key                              the authority
//! <dir>/nodes/<node id>.pem, .key                   one per node
//! <dir>/people/<subject>.<role>.<unit id>.pem, .key one per identity of a person or an application
//! <dir>/sites/<site id>.key, .pub                   the key that signs a site's heads, PKCS #8 and SPKI
//! <dir>/sites/<site id>.secrets                     the site's other keys (`secrets`)
//! <dir>/country.secrets                             the first of them: what all sites of the country have alike
//! ```

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dinhba_client::handshake::Validity;
use dinhba_client::tls::{Credentials, DialError, IDENTITY_HEADER, node_name, site_name};
pub use dinhba_core::claims::Identity;
use dinhba_core::claims::{Claims, ClaimsError, Role};
use dinhba_core::ids::{EvidenceId, NodeId, SiteId, UnitId};
use dinhba_core::registry::Key;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::runtime;
use crate::secrets::{self, Secrets};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates are valid from two days ago: a commune's clock may be hours off.
const BACKDATED: Duration = Duration::from_secs(2 * 24 * 60 * 60);
/// How long a development certificate lasts: long enough to forget about, short enough to have to be renewed once.
const LEAF_DAYS: u32 = 365;
/// How long the development authority lasts: longer than anything it issues.
const CA_DAYS: u32 = 3650;
/// Only their owner reads files with keys in them. Certificates get the same: nobody else has business there.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Why a peer has no identity. Said to the peer, so it holds nothing that the peer did not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Neither a certificate nor leave to send a header.
    #[error(
        "this connection shows no client certificate: \
         connect with mutual TLS, with a certificate of this country's authority"
    )]
    Anonymous,
    /// The certificate is not one.
    #[error("the client certificate cannot be read: ask for a new one")]
    Unreadable,
    /// An identity is one URI, no less and no more, else two readers could see two callers.
    #[error("the client certificate carries {0} URI names: ask for one with exactly one, the identity")]
    Uris(usize),
    /// The identity's text is wrong.
    #[error(transparent)]
    Identity(#[from] ClaimsError),
    /// The header is absent or not text.
    #[error("this node takes identities from the header {IDENTITY_HEADER:?}, once per request: send it")]
    Header,
}

/// A mark on a request (an extension): the server that set it lets the peer say by a header who it is. The server sets
/// it where the way to it is trusted: on loopback under `unsafe_loopback`, and in the simulator. Nothing that a peer
/// sends becomes an extension.
#[derive(Debug, Clone, Copy)]
pub struct TrustHeader;

/// Who is at the other end of a connection, by the certificate that the handshake verified: an extension of each request on
/// it. Nobody on a connection without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(pub Option<Result<Identity, PeerError>>);

/// Who sent `request`.
pub fn peer_identity<T>(request: &tonic::Request<T>) -> Result<Identity, PeerError> {
    identity_of(request.extensions(), request.metadata().as_ref())
}

/// The same by the parts of a request.
pub(crate) fn identity_of(extensions: &http::Extensions, headers: &http::HeaderMap) -> Result<Identity, PeerError> {
    // The certificate first: where there is one, a header says nothing.
    match extensions.get::<Shown>() {
        Some(Shown(Some(shown))) => shown.clone(),
        _ if extensions.get::<TrustHeader>().is_some() => header_identity(headers),
        _ => Err(PeerError::Anonymous),
    }
}

/// The identity that a certificate (DER) names. The evidence of its claims is the first half of the certificate's hash.
pub fn certificate_identity(der: &[u8]) -> Result<Identity, PeerError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Unreadable)?;
    if !rest.is_empty() {
        return Err(PeerError::Unreadable);
    }
    let names = certificate.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => Ok(Identity::parse(uri, evidence_of(der))?),
        _ => Err(PeerError::Uris(uris.len())),
    }
}

fn header_identity(headers: &http::HeaderMap) -> Result<Identity, PeerError> {
    let mut values = headers.get_all(IDENTITY_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(PeerError::Header) };
    let uri = value.to_str().map_err(|_| PeerError::Header)?;
    // The header is all the evidence there is.
    Ok(Identity::parse(uri, evidence_of(uri.as_bytes()))?)
}

/// What is noted of the evidence by which somebody says who he is.
pub(crate) fn evidence_of(bytes: &[u8]) -> EvidenceId {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    EvidenceId(half)
}

/// Why the authority could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// A file is there already.
    #[error("{path} exists and is not overwritten: if nobody needs it any more, remove it first")]
    Exists {
        /// The file.
        path: String,
    },
    /// There is no authority in that directory.
    #[error("{path} holds no authority: make one there first")]
    Absent {
        /// The directory.
        path: String,
    },
    /// The operating system refused.
    #[error("{path}: {reason}")]
    Io {
        /// The file or directory.
        path: String,
        /// What it said.
        reason: String,
    },
    /// A certificate or key could not be made or read.
    #[error("{what}: {reason}")]
    Material {
        /// What was being made or read.
        what: String,
        /// The library's words.
        reason: String,
    },
    /// A subject that cannot be named.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
}

fn io_error(path: &Path, error: &std::io::Error) -> PkiError {
    let path = path.display().to_string();
    match error.kind() {
        ErrorKind::AlreadyExists => PkiError::Exists { path },
        _ => PkiError::Io { path, reason: error.to_string() },
    }
}

fn material(what: impl Into<String>, reason: impl std::fmt::Display) -> PkiError {
    PkiError::Material { what: what.into(), reason: reason.to_string() }
}

/// The files of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertPaths {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The identity's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl CertPaths {
    /// Reads the three files, as a dialer wants them.
    pub fn read(&self) -> Result<Credentials, DialError> {
        Credentials::read(&self.ca, &self.certificate, &self.key)
    }
}

/// The files of a site's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPaths {
    /// The site's secrets.
    pub secrets: PathBuf,
    /// The private key, PKCS #8 in PEM.
    pub signing: PathBuf,
    /// The public key, SPKI in PEM.
    pub public: PathBuf,
}

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Refuse,
    Replace,
}

/// A certificate authority for development: a directory of files.
pub struct DevAuthority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    existing: Existing,
    /// From when until when what it issues is valid, if not as usual.
    valid: Option<Validity>,
}

impl DevAuthority {
    /// Makes a new authority in `dir`, which is created. Refuses if there is one.
    pub fn create(dir: &Path) -> Result<Self, PkiError> {
        Self::make(dir, Existing::Refuse)
    }

    /// Makes a new authority in `dir` in place of one that may be there: what that one issued is worth nothing then.
    /// The new authority replaces the files of what it issues.
    pub fn replace(dir: &Path) -> Result<Self, PkiError> {
        Self::make(dir, Existing::Replace)
    }

    fn make(dir: &Path, existing: Existing) -> Result<Self, PkiError> {
        let what = "the authority's certificate";
        let key = KeyPair::generate().map_err(|error| material(what, error))?;
        let mut params = params("dinhba development authority", CA_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| material(what, error))?;
        for part in [dir.to_owned(), dir.join("nodes"), dir.join("people"), dir.join("sites")] {
            let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(&part);
            made.map_err(|error| io_error(&part, &error))?;
        }
        write_pair(
            existing,
            (&dir.join("ca.pem"), certificate.pem().as_bytes()),
            (&dir.join("ca.key"), key.serialize_pem().as_bytes()),
        )?;
        Ok(DevAuthority { dir: dir.to_owned(), issuer: Issuer::new(params, key), existing, valid: None })
    }

    /// Opens the authority that is in `dir`.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => PkiError::Absent { path: dir.display().to_string() },
                _ => io_error(&path, &error),
            })
        };
        let certificate = read("ca.pem")?;
        let key = KeyPair::from_pem(&read("ca.key")?)
            .map_err(|error| material(dir.join("ca.key").display().to_string(), error))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)
            .map_err(|error| material(dir.join("ca.pem").display().to_string(), error))?;
        Ok(DevAuthority { dir: dir.to_owned(), issuer, existing: Existing::Refuse, valid: None })
    }

    /// From here on, files of the same identity are replaced by newly issued ones.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.existing = Existing::Replace;
        self
    }

    /// From here on, what it issues is valid from then until then: to see what becomes of certificates that are not.
    #[must_use]
    pub fn valid(mut self, validity: Validity) -> Self {
        self.valid = Some(validity);
        self
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Issues a certificate for node `node` of site `site`: to serve with and to dial with.
    pub fn issue_node(&self, site: SiteId, node: NodeId) -> Result<CertPaths, PkiError> {
        let mut params = params(&format!("{site} {node}"), LEAF_DAYS);
        // The names that dialers expect, then those under which a developer reaches it.
        for name in [node_name(node), site_name(site), "localhost".to_owned()] {
            let name = name.try_into().map_err(|error| material("a node's name", error))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            params.subject_alt_names.push(SanType::IpAddress(ip));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, &Identity::Node { site, node }, &self.dir.join("nodes").join(node.to_string()))
    }

    /// Issues a certificate for an officer or an application. It cannot serve with it: no node is impersonated.
    pub fn issue_person(&self, subject: &str, role: Role, unit: UnitId) -> Result<CertPaths, PkiError> {
        let claims = Claims::new(subject, role, unit, EvidenceId::default())?;
        let mut params = params(subject, LEAF_DAYS);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let stem = self.dir.join("people").join(format!("{subject}.{role}.{unit}"));
        self.issue(params, &Identity::Person(claims), &stem)
    }

    fn issue(&self, mut params: CertificateParams, identity: &Identity, stem: &Path) -> Result<CertPaths, PkiError> {
        let what = || format!("the certificate of {}", identity.uri());
        let uri = identity.uri().try_into().map_err(|error| material(what(), error))?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        if let Some(Validity { from, until }) = self.valid {
            (params.not_before, params.not_after) = (time(from.0).into(), time(until.0).into());
        }
        let key = KeyPair::generate().map_err(|error| material(what(), error))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| material(what(), error))?;
        let paths =
            CertPaths { ca: self.ca_path(), certificate: with_suffix(stem, "pem"), key: with_suffix(stem, "key") };
        write_pair(
            self.existing,
            (&paths.certificate, certificate.pem().as_bytes()),
            (&paths.key, key.serialize_pem().as_bytes()),
        )?;
        Ok(paths)
    }

    /// Makes the Ed25519 key with which site `site` signs its heads, and the site's secrets, unless it has some: its data is under
    /// them.
    pub fn issue_site_key(&self, site: SiteId) -> Result<KeyPaths, PkiError> {
        let what = || format!("the signing key of {site}");
        let signing = SigningKey::from_bytes(&runtime::random());
        let private = signing.to_pkcs8_pem(LineEnding::LF).map_err(|error| material(what(), error))?;
        let public =
            signing.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| material(what(), error))?;
        let stem = self.dir.join("sites").join(site.to_string());
        let paths = KeyPaths {
            secrets: with_suffix(&stem, "secrets"),
            signing: with_suffix(&stem, "key"),
            public: with_suffix(&stem, "pub"),
        };
        write_pair(self.existing, (&paths.public, public.as_bytes()), (&paths.signing, private.as_bytes()))?;
        if !is_there(&paths.secrets)? {
            write_secrets(&paths.secrets, &Secrets::draw(self.digest_key()?).text())?;
        }
        Ok(paths)
    }

    /// The country's digest key; made when its first site is.
    fn digest_key(&self) -> Result<Key, PkiError> {
        let path = self.dir.join("country.secrets");
        if !is_there(&path)? {
            write_secrets(&path, &secrets::digest_text(&secrets::draw_digest()))?;
        }
        secrets::read_digest(&path).map_err(|error| material(path.display().to_string(), error))
    }
}

/// The keys of a site.
#[derive(Clone)]
pub struct SiteKeys {
    /// Signs its heads and seals.
    pub signing: SigningKey,
    /// What its index, its backups and the digests are keyed with.
    pub secrets: Secrets,
}

/// Reads the key with which a site signs from a file of PKCS #8 in PEM: the first one in it.
pub fn read_signing_key(path: &Path) -> Result<SigningKey, PkiError> {
    let text = fs::read_to_string(path).map_err(|error| io_error(path, &error))?;
    // What stands above the first key, as some tools write it, and below it is none.
    let lines = text.lines().skip_while(|line| !line.starts_with("-----BEGIN"));
    let (mut pem, mut is_over) = (String::new(), false);
    for line in lines.take_while(|line| !std::mem::replace(&mut is_over, line.starts_with("-----END"))) {
        pem.push_str(line);
        pem.push('\n');
    }
    SigningKey::from_pkcs8_pem(&pem).map_err(|error| material(path.display().to_string(), error))
}

/// Reads a site's public key from an SPKI PEM file.
pub fn read_public_key(path: &Path) -> Result<VerifyingKey, PkiError> {
    let pem = fs::read_to_string(path).map_err(|error| io_error(path, &error))?;
    VerifyingKey::from_public_key_pem(&pem).map_err(|error| material(path.display().to_string(), error))
}

fn time(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn params(common_name: &str, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = time(runtime::utc_ms());
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + DAY * days).into();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// `stem` with `.suffix` behind it. `Path::with_extension` would cut a subject at its last dot.
fn with_suffix(stem: &Path, suffix: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

/// Writes a public and a private file, in this order; refuses before writing anything if one of them is there.
fn write_pair(existing: Existing, public: (&Path, &[u8]), private: (&Path, &[u8])) -> Result<(), PkiError> {
    if existing == Existing::Refuse {
        for path in [public.0, private.0] {
            if path.try_exists().map_err(|error| io_error(path, &error))? {
                return Err(PkiError::Exists { path: path.display().to_string() });
            }
        }
    }
    for (path, bytes) in [public, private] {
        write_file(existing, path, bytes).map_err(|error| io_error(path, &error))?;
    }
    Ok(())
}

fn is_there(path: &Path) -> Result<bool, PkiError> {
    path.try_exists().map_err(|error| io_error(path, &error))
}

/// Never over others.
fn write_secrets(path: &Path, text: &str) -> Result<(), PkiError> {
    write_file(Existing::Refuse, path, text.as_bytes()).map_err(|error| io_error(path, &error))
}

fn write_file(existing: Existing, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A file that is replaced is replaced whole: whoever starts meanwhile reads the old or the new one. Asked to
    // refuse, the operating system refuses, so that two callers at once cannot both believe that they wrote.
    let target = match existing {
        Existing::Refuse => path.to_owned(),
        Existing::Replace => with_suffix(path, "new"),
    };
    if existing == Existing::Replace {
        match fs::remove_file(&target) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&target)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if target != path {
        fs::rename(&target, path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ed25519_dalek::Signer;
    use rcgen::Certificate;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use tonic::Request;
    use tonic::metadata::MetadataValue;

    use super::*;

    const SITE: SiteId = SiteId(0x51);
    const NODE: NodeId = NodeId(0x11);
    const UNIT: UnitId = UnitId(0xc3);
    const LAN_URI: &str = "spiffe://dinhba/person/lan/registrar/u-00000000000000c3";

    fn der_of(path: &Path) -> Vec<u8> {
        let pem = fs::read(path).unwrap();
        CertificateDer::from_pem_slice(&pem).unwrap().to_vec()
    }

    fn self_signed(uris: &[&str]) -> Certificate {
        let mut params = params("test", 1);
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).to_owned().try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn what_the_authority_issues_names_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let node = authority.issue_node(SITE, NODE).unwrap();
        assert_eq!(certificate_identity(&der_of(&node.certificate)), Ok(Identity::Node { site: SITE, node: NODE }));

        let lan = authority.issue_person("lan.t", Role::Registrar, UNIT).unwrap();
        let der = der_of(&lan.certificate);
        let Identity::Person(claims) = certificate_identity(&der).unwrap() else { panic!("a person is no node") };
        assert_eq!((&*claims.subject, claims.role, claims.unit), ("lan.t", Role::Registrar, UNIT));
        assert_eq!(claims.evidence.0, blake3::hash(&der).as_bytes()[..16]);
        assert!(matches!(authority.issue_person("Lan", Role::Registrar, UNIT), Err(PkiError::Claims(_))));
    }

    #[test]
    fn files_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(&dir.path().join("pki")).unwrap();
        let node = authority.issue_node(SITE, NODE).unwrap();
        let key = authority.issue_site_key(SITE).unwrap();
        for path in [&node.ca, &node.certificate, &node.key, &key.signing, &key.public] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        assert_eq!(fs::metadata(dir.path().join("pki")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn nothing_is_overwritten_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let first = DevAuthority::create(dir.path()).unwrap();
        let node = first.issue_node(SITE, NODE).unwrap();
        let before = (fs::read(&node.certificate).unwrap(), fs::read(&node.key).unwrap());
        assert!(matches!(DevAuthority::create(dir.path()), Err(PkiError::Exists { .. })));

        // One of two files is enough to refuse, and then neither changes.
        fs::remove_file(&node.certificate).unwrap();
        let refused = DevAuthority::open(dir.path()).unwrap().issue_node(SITE, NODE).unwrap_err();
        assert_eq!(refused, PkiError::Exists { path: node.key.display().to_string() });
        assert!(!node.certificate.exists());
        assert_eq!(fs::read(&node.key).unwrap(), before.1);

        let replaced = DevAuthority::open(dir.path()).unwrap().replacing().issue_node(SITE, NODE).unwrap();
        assert_eq!(replaced, node);
        assert_ne!(fs::read(&node.key).unwrap(), before.1);
    }

    #[test]
    fn an_opened_authority_is_the_one_that_was_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DevAuthority::open(dir.path()), Err(PkiError::Absent { .. })));
        DevAuthority::create(dir.path()).unwrap();
        let lan = DevAuthority::open(dir.path()).unwrap().issue_person("lan", Role::Auditor, UNIT).unwrap();
        let (ca, leaf) = (der_of(&lan.ca), der_of(&lan.certificate));
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(ca.is_ca() && !leaf.is_ca());
        fs::write(dir.path().join("ca.key"), "rubbish").unwrap();
        assert!(matches!(DevAuthority::open(dir.path()), Err(PkiError::Material { .. })));
    }

    #[test]
    fn a_sites_key_signs_what_its_public_key_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let paths = DevAuthority::create(dir.path()).unwrap().issue_site_key(SITE).unwrap();
        let signature = read_signing_key(&paths.signing).unwrap().sign(b"heads");
        let public = read_public_key(&paths.public).unwrap();
        assert!(public.verify_strict(b"heads", &signature).is_ok());
        assert!(public.verify_strict(b"other heads", &signature).is_err());
        assert!(matches!(read_signing_key(&paths.public), Err(PkiError::Material { .. })));
    }

    #[test]
    fn the_sites_of_a_country_have_one_digest_key_and_all_else_of_their_own_whatever_they_sign_with() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let paths = [SITE, SiteId(0x52)].map(|site| authority.issue_site_key(site).unwrap());
        let [one, other] = paths.each_ref().map(|paths| Secrets::read(&paths.secrets).unwrap());
        assert!(one.digest == other.digest && one.index != other.index && one.backup != other.backup);
        assert_eq!(fs::metadata(&paths[0].secrets).unwrap().permissions().mode() & 0o777, 0o600);
        let signing = fs::read(&paths[0].signing).unwrap();
        DevAuthority::open(dir.path()).unwrap().replacing().issue_site_key(SITE).unwrap();
        assert_ne!(fs::read(&paths[0].signing).unwrap(), signing, "another key signs");
        assert!(Secrets::read(&paths[0].secrets).unwrap() == one, "what its data is under stays");
    }

    #[test]
    fn a_certificate_with_no_or_two_identities_is_refused() {
        assert!(certificate_identity(self_signed(&[LAN_URI]).der()).is_ok());
        assert_eq!(certificate_identity(self_signed(&[]).der()), Err(PeerError::Uris(0)));
        assert_eq!(certificate_identity(self_signed(&[LAN_URI, LAN_URI]).der()), Err(PeerError::Uris(2)));
        let elsewhere = self_signed(&["https://example.org/lan"]);
        assert!(matches!(certificate_identity(elsewhere.der()), Err(PeerError::Identity(_))));
        assert_eq!(certificate_identity(b"rubbish"), Err(PeerError::Unreadable));
        let mut longer = self_signed(&[LAN_URI]).der().to_vec();
        longer.push(0);
        assert_eq!(certificate_identity(&longer), Err(PeerError::Unreadable));
    }

    #[test]
    fn a_header_counts_only_where_the_server_says_so() {
        let mut request = Request::new(());
        request.metadata_mut().insert(IDENTITY_HEADER, MetadataValue::from_static(LAN_URI));
        let refused = peer_identity(&request).unwrap_err();
        assert_eq!(tonic::Status::from(refused.clone()).code(), tonic::Code::Unauthenticated);
        assert_eq!(refused, PeerError::Anonymous);

        request.extensions_mut().insert(TrustHeader);
        assert_eq!(peer_identity(&request).unwrap().uri(), LAN_URI);

        request.metadata_mut().append(IDENTITY_HEADER, MetadataValue::from_static(LAN_URI));
        assert_eq!(peer_identity(&request).unwrap_err(), PeerError::Header);
        request.metadata_mut().remove(IDENTITY_HEADER);
        assert_eq!(peer_identity(&request).unwrap_err(), PeerError::Header);
    }
}
