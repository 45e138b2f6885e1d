//! Identities that last: opaque numbers that are never re-used and never mean anything.
//!
//! A unit's *code* is re-used by the state over time, so nothing here is a code; `place` resolves (code, date)
//! to a [`UnitId`]. Ids print as a letter, a dash and sixteen hex digits (`u-00c3…`), and parse from the same.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

/// An id's text did not have the form `x-<hex>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: expected `{prefix}-` and {digits} hex digits")]
pub struct IdError {
    what: &'static str,
    prefix: char,
    digits: usize,
    text: String,
}

/// Digits alone: Rust's own reading of numbers takes a sign too.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{:016x}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix(concat!($prefix, "-")).filter(|d| d.len() == 16 && is_hex(d));
                digits.and_then(|d| u64::from_str_radix(d, 16).ok()).map($name).ok_or_else(|| IdError {
                    what: $what,
                    prefix: $prefix,
                    digits: 16,
                    text: text.chars().take(40).collect(),
                })
            }
        }
    };
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{:032x}"), u128::from_be_bytes(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix(concat!($prefix, "-")).filter(|d| d.len() == 32 && is_hex(d));
                digits
                    .and_then(|d| u128::from_str_radix(d, 16).ok())
                    .map(|n| $name(n.to_be_bytes()))
                    .ok_or_else(|| IdError {
                        what: $what,
                        prefix: $prefix,
                        digits: 32,
                        text: text.chars().take(40).collect(),
                    })
            }
        }
    };
}

number_id!(
    /// An administrative unit, for ever: (code, date) resolves to it, codes are re-used.
    UnitId, 'u', "a unit id"
);
number_id!(
    /// The 1 to 7 nodes that serve one unit.
    SiteId, 's', "a site id"
);
number_id!(
    /// The records whose home is one unit, a commune's or what a unit above says to those below: the unit of placement and
    /// synchronisation.
    ShardId, 'h', "a shard id"
);
number_id!(
    /// One process with one data directory. A wiped node comes back under a new node id.
    NodeId, 'n', "a node id"
);
number_id!(
    /// A Raft group: it hosts one or more shards of its site.
    GroupId, 'g', "a group id"
);
/// Which key a site gave its word with: the first bytes of the public key. Zero of what was written here, or put back from an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KeyMark(pub u64);

impl KeyMark {
    /// Of an Ed25519 public key.
    #[must_use]
    pub fn of(key: &[u8; 32]) -> Self {
        KeyMark(key.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
    }
}

bytes_id!(
    /// One life of a site's data; random, minted anew after every restore, rebuild or forced recovery.
    Incarnation, 'i', "an incarnation"
);
bytes_id!(
    /// Who numbers edits: the first 16 bytes of the hash of (site, shard, incarnation).
    AuthorId, 'a', "an author id"
);
bytes_id!(
    /// A record, for ever. Derived from the request that created it, so that a retry anywhere finds it.
    RecordId, 'r', "a record id"
);
bytes_id!(
    /// A client's session: random; with a counter it names a request.
    SessionId, 'q', "a session id"
);
bytes_id!(
    /// What a caller's claims were resolved from (a certificate, a token): the first 16 bytes of its hash.
    EvidenceId, 'e', "an evidence id"
);

/// A 32-byte BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A request: the session that sent it and the session's counter, which starts at 1 and never repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId {
    /// The caller's session.
    pub session: SessionId,
    /// The request's place in it.
    pub counter: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.session, self.counter)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RecordId {
    /// The id of the `part`-th record (from 0) that request `request` creates.
    #[must_use]
    pub fn derive(request: RequestId, part: u32) -> Self {
        static DOMAIN: Domain = Domain::new("dinhba 2026 record id");
        let mut hasher = DOMAIN.hasher();
        hasher.update(&request.session.0);
        hasher.update(&request.counter.to_be_bytes());
        hasher.update(&part.to_be_bytes());
        RecordId(first_16(&hasher.finalize()))
    }
}

impl ShardId {
    /// The ancestor shard of a unit: what it says to all units below it. Every site knows it by the unit alone, so that
    /// none must be told of the way on which it is told of everything else.
    #[must_use]
    pub fn of_unit_above(unit: UnitId) -> Self {
        static DOMAIN: Domain = Domain::new("dinhba 2026 ancestor shard");
        ShardId::derive(&DOMAIN, unit)
    }

    /// The shard of a commune that is added while the country runs: whoever learns of it calls it alike.
    #[must_use]
    pub fn of_commune(unit: UnitId) -> Self {
        static DOMAIN: Domain = Domain::new("dinhba 2026 shard of a commune");
        ShardId::derive(&DOMAIN, unit)
    }

    fn derive(domain: &Domain, unit: UnitId) -> Self {
        let mut hasher = domain.hasher();
        hasher.update(&unit.0.to_be_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        ShardId(u64::from_be_bytes(first))
    }
}

/// What is hashed for one purpose, so that no hash of another one is ever the same: BLAKE3's key derivation. The name of the purpose
/// is hashed once, not with each value: for the short ones that are hashed here that was nearly half of the work.
pub(crate) struct Domain {
    name: &'static str,
    key: OnceLock<ContextKey>,
}

impl Domain {
    /// Of a purpose, by its name.
    pub const fn new(name: &'static str) -> Self {
        Domain { name, key: OnceLock::new() }
    }

    /// A hasher for one value.
    pub fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_from_context_key(self.key.get_or_init(|| hash_derive_key_context(self.name)))
    }
}

/// The first sixteen bytes of a hash.
pub(crate) fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse() {
        let unit = UnitId(0xc3);
        assert_eq!(unit.to_string(), "u-00000000000000c3");
        assert_eq!("u-00000000000000c3".parse(), Ok(unit));
        assert!("s-00000000000000c3".parse::<UnitId>().is_err());
        assert!("u-c3".parse::<UnitId>().is_err());
        assert!("u-+0000000000000c3".parse::<UnitId>().is_err());
        let record = RecordId::derive(RequestId { session: SessionId([7; 16]), counter: 1 }, 0);
        assert_eq!(record.to_string().parse(), Ok(record));
    }

    #[test]
    fn the_shards_of_a_unit_are_permanent() {
        let [above, commune] = [ShardId::of_unit_above(UnitId(1)), ShardId::of_commune(UnitId(1))];
        assert_eq!([above.to_string(), commune.to_string()], ["h-8bebe171011afc8c", "h-6cfb00600b54946e"]);
        assert_ne!(above, ShardId::of_unit_above(UnitId(2)));
    }

    #[test]
    fn a_retry_derives_the_same_record_and_a_new_request_another() {
        let request = RequestId { session: SessionId([1; 16]), counter: 5 };
        assert_eq!(RecordId::derive(request, 0), RecordId::derive(request, 0));
        assert_ne!(RecordId::derive(request, 0), RecordId::derive(request, 1));
        assert_ne!(RecordId::derive(request, 0), RecordId::derive(RequestId { counter: 6, ..request }, 0));
    }
}
