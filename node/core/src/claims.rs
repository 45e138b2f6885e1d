//! Who asks, and why: the claims of a caller, the purpose and the case that every request carries.
//!
//! Owns: the caller's [`Claims`] and their canonical bytes (they are part of an edit's hashed header, so they never
//! change), the [`Identity`] that a certificate names and its URI, the fixed list of [`Purpose`]s, the [`Case`]
//! reference. Promises: a value of these types is valid; the encoding is that of `encoding`, one per value.
//! Leaves to others: where an identity comes from (the door of a node), and what it may do (`access`).
//!
//! An identity is a SPIFFE URI, `spiffe://dinhba/site/<site id>/<node id>` for a node and
//! `spiffe://dinhba/person/<subject>/<role>/<unit id>` for a person or an application.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::{EvidenceId, NodeId, SiteId, UnitId};
use crate::level::LEVEL_FIRST;
use crate::text::{self, TextError};
use crate::{wire_code, wire_struct};

/// The longest subject: it is repeated in every edit's header, and an account name needs no more.
pub const SUBJECT_BYTES_MAX: usize = 64;
/// The longest case reference in characters, for the same reason; a Vietnamese one may take three bytes for each.
pub const CASE_CHARS_MAX: usize = 64;
/// Every identity starts with this: one trust domain for the whole country.
pub const TRUST_DOMAIN: &str = "spiffe://dinhba/";
/// How much of a refused text an error repeats: enough to recognise it, bounded since it came from outside.
const QUOTED_CHARS_MAX: usize = 40;

/// Text or bytes that are not claims, an identity, a purpose or a case. The message says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// A subject is empty, too long, or holds another character.
    #[error("{0:?} is not a subject: use 1 to {SUBJECT_BYTES_MAX} of a-z, 0-9, dot, underscore and dash")]
    Subject(String),
    /// A role's name is not known.
    #[error("{0:?} is not a role: use operator, registrar or auditor")]
    Role(String),
    /// No purpose was given.
    #[error("the request names no purpose: send one of {names}", names = Purpose::NAMES)]
    PurposeMissing,
    /// A purpose's name is not on the list.
    #[error("{0:?} is not a purpose: send one of {names}", names = Purpose::NAMES)]
    Purpose(String),
    /// A purpose's code is not on the list.
    #[error("purpose code {0} is not known: send the code of one of {names}", names = Purpose::NAMES)]
    PurposeCode(u8),
    /// No case was given.
    #[error(
        "the request names no case: send the reference of the file that it belongs to, 1 to {CASE_CHARS_MAX} characters"
    )]
    CaseMissing,
    /// A text that cannot be a case. It is not repeated: whoever types a name there by mistake finds it in no log.
    #[error("the case {0}")]
    Case(TextError),
    /// A URI names no identity of this system.
    #[error(
        "{0:?} is not an identity: expected {TRUST_DOMAIN}site/<site id>/<node id> \
         or {TRUST_DOMAIN}person/<subject>/<role>/<unit id>"
    )]
    Identity(String),
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

/// What kind of officer a caller is. One certificate or token carries one role; who has two jobs has two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Keeps the sites of a unit running, and sees no personal data.
    Operator,
    /// Reads and edits the records of a unit.
    Registrar,
    /// Checks what was done in a unit, and changes nothing.
    Auditor,
    /// The program of a site, which does what nobody has to be asked about: it grants and assigns numbers. No certificate says so.
    Site,
    /// A role of a newer version, in an edit that came from elsewhere; its code. It may do nothing here.
    Unknown(u8),
}

impl Role {
    /// Those of persons and applications, in the order of their bytes.
    pub const ALL: [Role; 3] = [Role::Operator, Role::Registrar, Role::Auditor];

    /// The feature level that brought it; none if this version does not know it.
    #[must_use]
    pub const fn since(self) -> Option<u16> {
        match self {
            Role::Operator | Role::Registrar | Role::Auditor | Role::Site => Some(LEVEL_FIRST),
            Role::Unknown(_) => None,
        }
    }

    /// The role's name, as in identities and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Registrar => "registrar",
            Role::Auditor => "auditor",
            Role::Site => "site",
            Role::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ClaimsError;
    fn from_str(text: &str) -> Result<Self, ClaimsError> {
        let found = Role::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| ClaimsError::Role(quoted(text)))
    }
}

/// The account name of a person or an application: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`. Reads as a `str`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

impl Deref for Subject {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Subject {
    type Err = ClaimsError;
    fn from_str(text: &str) -> Result<Self, ClaimsError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > SUBJECT_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(ClaimsError::Subject(quoted(text)));
        }
        Ok(Subject(text.to_owned()))
    }
}

/// What a caller may call on: resolved at the door from evidence that was checked there, then carried by the command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claims {
    /// Whose account it is.
    pub subject: Subject,
    /// As what they act.
    pub role: Role,
    /// For which unit: it and everything below it.
    pub unit: UnitId,
    /// The certificate or token that says so.
    pub evidence: EvidenceId,
}

impl Claims {
    /// Claims of the account `subject`.
    pub fn new(subject: &str, role: Role, unit: UnitId, evidence: EvidenceId) -> Result<Self, ClaimsError> {
        Ok(Claims { subject: subject.parse()?, role, unit, evidence })
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A node, of this site or of another.
    Node {
        /// The site it belongs to.
        site: SiteId,
        /// Which of its nodes.
        node: NodeId,
    },
    /// A person or an application.
    Person(Claims),
}

impl Identity {
    /// Reads the identity that `uri` names. `evidence` becomes part of a person's claims.
    pub fn parse(uri: &str, evidence: EvidenceId) -> Result<Self, ClaimsError> {
        let unknown = || ClaimsError::Identity(quoted(uri));
        let path = uri.strip_prefix(TRUST_DOMAIN).ok_or_else(unknown)?;
        let identity = match path.split('/').collect::<Vec<_>>()[..] {
            ["site", site, node] => {
                let site = site.parse().map_err(|_| unknown())?;
                let node = node.parse().map_err(|_| unknown())?;
                Identity::Node { site, node }
            }
            ["person", subject, role, unit] => {
                let unit = unit.parse().map_err(|_| unknown())?;
                Identity::Person(Claims::new(subject, role.parse()?, unit, evidence)?)
            }
            _ => return Err(unknown()),
        };
        // One spelling per identity: logs and audits compare the text.
        if identity.uri() == uri { Ok(identity) } else { Err(unknown()) }
    }

    /// The URI that names this identity; the evidence is not part of it.
    #[must_use]
    pub fn uri(&self) -> String {
        match self {
            Identity::Node { site, node } => format!("{TRUST_DOMAIN}site/{site}/{node}"),
            Identity::Person(claims) => {
                format!("{TRUST_DOMAIN}person/{}/{}/{}", claims.subject, claims.role, claims.unit)
            }
        }
    }
}

macro_rules! purposes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// Why a request is made: one of a fixed list, so that the access log can be counted and audited by purpose.
        /// A code is never re-used.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Purpose {
            $($(#[$doc])* $variant,)*
            /// A purpose of a newer version, in an edit that came from elsewhere; its code.
            Unknown(u8),
        }

        impl Purpose {
            /// All that this version knows, in the order of their codes.
            pub const ALL: &[Purpose] = &[$(Purpose::$variant),*];

            /// The purpose's name, as in requests and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Purpose::$variant => $name,)*
                    Purpose::Unknown(_) => "unknown",
                }
            }

            /// The feature level that brought it; none if this version does not know it.
            #[must_use]
            pub const fn since(self) -> Option<u16> {
                match self {
                    $(Purpose::$variant)|* => Some(LEVEL_FIRST),
                    Purpose::Unknown(_) => None,
                }
            }

            /// The code that stands for the purpose in encoded edits and access log entries.
            #[must_use]
            pub fn code(self) -> u8 {
                match self {
                    $(Purpose::$variant => $code,)*
                    Purpose::Unknown(code) => code,
                }
            }
        }
    };
}

purposes! {
    /// An event is declared: a birth, a death, a marriage, a new household.
    Registration = 1, "registration";
    /// A record says something wrong.
    Correction = 2, "correction";
    /// Somebody's statement is checked against the register.
    Verification = 3, "verification";
    /// Residence: a move, a stay, an absence.
    Residence = 4, "residence";
    /// An extract or a card is issued.
    Issuance = 5, "issuance";
    /// Conflicts and suspected duplicates are decided.
    Adjudication = 6, "adjudication";
    /// The person on record asks what is kept about them.
    Subject = 7, "subject";
    /// The work of an office is inspected.
    Inspection = 8, "inspection";
    /// Figures without persons.
    Statistics = 9, "statistics";
    /// Sites, nodes and links are looked after.
    Maintenance = 10, "maintenance";
}

impl Purpose {
    /// All names, as error messages list them.
    const NAMES: &str = "registration, correction, verification, residence, issuance, adjudication, subject, \
                         inspection, statistics, maintenance";

    /// The purpose that `code` stands for. Code 0 is what an unset field reads as: missing.
    pub fn from_code(code: u8) -> Result<Self, ClaimsError> {
        if code == 0 {
            return Err(ClaimsError::PurposeMissing);
        }
        let found = Purpose::ALL.iter().copied().find(|purpose| purpose.code() == code);
        found.ok_or(ClaimsError::PurposeCode(code))
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Purpose {
    type Err = ClaimsError;
    fn from_str(text: &str) -> Result<Self, ClaimsError> {
        if text.is_empty() {
            return Err(ClaimsError::PurposeMissing);
        }
        let found = Purpose::ALL.iter().copied().find(|purpose| purpose.name() == text);
        found.ok_or_else(|| ClaimsError::Purpose(quoted(text)))
    }
}

/// The reference of the file that a request belongs to, as its office writes it (`12/QĐ-UBND`): 1 to 64 characters in
/// normal form NFC, of those that records may hold, without needless spaces. Reads as a `str`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case(String);

impl Deref for Case {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Case {
    type Err = ClaimsError;
    fn from_str(text: &str) -> Result<Self, ClaimsError> {
        if text.is_empty() {
            return Err(ClaimsError::CaseMissing);
        }
        // What a record may not hold makes two references look alike in a log, or a table unreadable.
        text::check(text, CASE_CHARS_MAX).map_err(ClaimsError::Case)?;
        Ok(Case(text.to_owned()))
    }
}

wire_struct! { Claims { subject, role, unit, evidence } }
wire_code! { open Role { 1 => Operator, 2 => Registrar, 3 => Auditor, 4 => Site } }

impl Wire for Purpose {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = u8::decode(input)?;
        Ok(Purpose::from_code(code).unwrap_or(Purpose::Unknown(code)))
    }
}

macro_rules! wire_parsed {
    ($($name:ident, $what:literal);*) => {$(
        impl Wire for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
                String::decode(input)?.parse().map_err(|_| Malformed { what: $what })
            }
            fn bytes_hint(&self) -> usize {
                self.0.bytes_hint()
            }
        }
    )*};
}
wire_parsed!(Subject, "subject"; Case, "case");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lan() -> Claims {
        Claims::new("nguyen.lan", Role::Registrar, UnitId(0xc3), EvidenceId([9; 16])).unwrap()
    }

    #[test]
    fn the_bytes_of_claims_never_change() {
        let mut expected = vec![10];
        expected.extend(b"nguyen.lan");
        expected.push(2);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0xc3]);
        expected.extend([9; 16]);
        assert_eq!(lan().to_bytes(), expected);
        assert_eq!(Claims::from_bytes(&expected), Ok(lan()));
        let mut capital = expected;
        capital[1] = b'N';
        assert!(Claims::from_bytes(&capital).is_err());
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(claims) = Claims::from_bytes(&bytes) {
                prop_assert_eq!(claims.to_bytes(), bytes);
            }
        }

        #[test]
        fn claims_survive_the_bytes_and_the_uri(
            subject in "[a-z0-9._-]{1,64}", role in 0..3usize, unit in any::<u64>(), evidence in any::<[u8; 16]>(),
        ) {
            let claims = Claims::new(&subject, Role::ALL[role], UnitId(unit), EvidenceId(evidence)).unwrap();
            prop_assert_eq!(Claims::from_bytes(&claims.to_bytes()), Ok(claims.clone()));
            let person = Identity::Person(claims);
            prop_assert_eq!(Identity::parse(&person.uri(), EvidenceId(evidence)), Ok(person));
        }
    }

    #[test]
    fn a_subject_is_short_and_plain() {
        assert!("a".repeat(SUBJECT_BYTES_MAX).parse::<Subject>().is_ok());
        for bad in ["", "Lan", "lan/operator", "lan lan", "đinh", &"a".repeat(SUBJECT_BYTES_MAX + 1)] {
            assert!(matches!(bad.parse::<Subject>(), Err(ClaimsError::Subject(_))), "{bad}");
        }
    }

    #[test]
    fn an_identity_is_read_from_its_uri_and_nothing_else() {
        let evidence = EvidenceId([1; 16]);
        let node = Identity::Node { site: SiteId(7), node: NodeId(0x10) };
        assert_eq!(node.uri(), "spiffe://dinhba/site/s-0000000000000007/n-0000000000000010");
        assert_eq!(Identity::parse(&node.uri(), evidence), Ok(node));
        for bad in [
            "",
            "spiffe://other/site/s-0000000000000007/n-0000000000000010",
            "spiffe://dinhba/site/s-0000000000000007",
            "spiffe://dinhba/site/s-0000000000000007/n-0000000000000010/",
            "spiffe://dinhba/site/n-0000000000000010/s-0000000000000007",
            "spiffe://dinhba/person/lan/registrar",
            "spiffe://dinhba/person/lan/registrar/00003",
            "spiffe://dinhba/person/lan/registrar/u-00000000000000C3",
        ] {
            assert_eq!(Identity::parse(bad, evidence), Err(ClaimsError::Identity(quoted(bad))), "{bad}");
        }
        let chief = "spiffe://dinhba/person/lan/chief/u-00000000000000c3";
        assert_eq!(Identity::parse(chief, evidence), Err(ClaimsError::Role("chief".into())));
    }

    #[test]
    fn every_purpose_has_one_name_and_one_code() {
        for purpose in Purpose::ALL {
            assert_eq!(purpose.name().parse(), Ok(*purpose));
            assert_eq!(Purpose::from_code(purpose.code()), Ok(*purpose));
        }
        let names: Vec<_> = Purpose::ALL.iter().map(|purpose| purpose.name()).collect();
        assert_eq!(names.join(", "), Purpose::NAMES);
    }

    #[test]
    fn a_request_without_purpose_or_case_is_told_what_to_send() {
        assert_eq!("".parse::<Purpose>(), Err(ClaimsError::PurposeMissing));
        assert_eq!(Purpose::from_code(0), Err(ClaimsError::PurposeMissing));
        assert_eq!(Purpose::from_code(99), Err(ClaimsError::PurposeCode(99)));
        let curiosity = "curiosity".parse::<Purpose>().unwrap_err().to_string();
        assert!(curiosity.contains("not a purpose: send one of registration, correction"), "{curiosity}");
        assert_eq!("".parse::<Case>(), Err(ClaimsError::CaseMissing));
        assert_eq!(&*"HS-2025/00123".parse::<Case>().unwrap(), "HS-2025/00123");
        for good in ["12/QĐ-UBND", "hồ sơ số 1 (bổ sung)", "Số: 15/2025/TT-BCA", &"Ệ".repeat(CASE_CHARS_MAX)]
        {
            let case = good.parse::<Case>().unwrap();
            assert_eq!(&*case, good);
            assert_eq!(Case::from_bytes(&case.to_bytes()), Ok(case));
        }
        let decomposed = "Đo\u{302}i";
        let invisible = ["HS\n1", "HS\u{200b}1", "HS\u{202e}1", "\u{1b}[2J"];
        for bad in [" HS-1", "HS-1 ", "HS  1", decomposed, &"1".repeat(CASE_CHARS_MAX + 1)].iter().chain(&invisible) {
            let Err(error @ ClaimsError::Case(_)) = bad.parse::<Case>() else { panic!("{bad}") };
            assert!(!error.to_string().contains(bad), "{error}");
            assert!(Case::from_bytes(&bad.to_string().to_bytes()).is_err(), "{bad}");
        }
    }
}
