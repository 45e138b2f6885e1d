//! What every stored byte passes through: a sealer, and a checksum that also covers its place. State values on a disk are
//! compressed before.
//!
//! Owns the [`Sealer`] seam, the checksum of log frames and the `Codec` of state values. A value that was written under
//! one key and comes back under another, or with one bit changed, is [`StoreError::Corrupt`] and names the key in hex.
//! Keys themselves are not sealed: they hold ids and keyed hashes only.
//!
//! Limit: data at rest has only the identity sealer so far, so there the checksum is against accidents, not against
//! people. Backups, which leave the site, are sealed with [`Keyed`].

use std::collections::BTreeMap;
use std::sync::Arc;

use dinhba_core::store::StoreError;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::{compression, runtime};

/// Turns plain bytes into stored bytes and back. `place` says where the bytes belong (a key, or a frame's group, index
/// and kind); a sealer that authenticates binds it, so that stored bytes cannot be moved.
pub trait Sealer: Send + Sync {
    /// The bytes to store for `plain` at `place`.
    fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8>;
    /// The plain bytes that were sealed at `place`, or why they cannot be had.
    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StoreError>;
}

/// The identity: stores bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unsealed;

impl Sealer for Unsealed {
    fn seal(&self, _place: &[u8], plain: &[u8]) -> Vec<u8> {
        plain.to_vec()
    }
    fn open(&self, _place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(sealed.to_vec())
    }
}

/// ChaCha20-Poly1305. The number of the key (four bytes, big endian) and a nonce stand before the sealed bytes. A nonce is drawn for
/// each sealing: two of 2^32 sealings share one with a chance below 2^-32, and a site that takes a thousand pieces a day is far from
/// that in a century.
pub struct Keyed(BTreeMap<u32, LessSafeKey>);

/// Bytes of the number of a key.
const KEY_ID_BYTES: usize = 4;

impl Keyed {
    /// What a site's backups are sealed with: the newest of its backup keys, of which there is one at least. They open with the one
    /// that sealed them.
    #[must_use]
    pub fn for_backups(keys: &BTreeMap<u32, [u8; 32]>) -> Self {
        let key = |secret| UnboundKey::new(&CHACHA20_POLY1305, secret).expect("the algorithm takes keys of 32 bytes");
        Keyed(keys.iter().map(|(id, secret)| (*id, LessSafeKey::new(key(secret)))).collect())
    }
}

impl Sealer for Keyed {
    fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = runtime::random::<NONCE_LEN>();
        let mut sealed = plain.to_vec();
        let (id, key) = self.0.last_key_value().expect("there is a backup key in every file of secrets");
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .expect("what is sealed is far below the algorithm's 256 GiB");
        [&id.to_be_bytes()[..], &nonce, &sealed].concat()
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let named = || hex(&place[..place.len().min(16)]);
        let refused =
            || StoreError::Corrupt { place: named(), detail: "it was not sealed here with this key".to_owned() };
        let (id, sealed) = sealed.split_first_chunk::<KEY_ID_BYTES>().ok_or_else(refused)?;
        let id = u32::from_be_bytes(*id);
        let Some(key) = self.0.get(&id) else {
            let here: Vec<String> = self.0.keys().map(u32::to_string).collect();
            let detail = format!("backup key {id} is asked for, there is {} here", here.join(", "));
            return Err(StoreError::Keyed { place: named(), detail });
        };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.open_in_place(nonce, Aad::from(place), &mut bytes).map_err(|_| refused())?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// CRC-32C over the length of `place`, `place` and `sealed`. The length keeps ("ab", "c") and ("a", "bc") apart.
pub(crate) fn checksum(place: &[u8], sealed: &[u8]) -> u32 {
    let length = crc32c::crc32c(&(place.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(length, place), sealed)
}

/// `bytes` in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The 32 bytes of 64 hex digits; nothing of another text.
pub(crate) fn of_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    // Digits alone: Rust's own reading of numbers takes a sign too.
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// What is stored on a disk for `value` under `key`, unsealed: to measure with.
#[must_use]
pub fn stored(key: &[u8], value: &[u8]) -> Vec<u8> {
    Codec::new(Arc::new(Unsealed)).encode(key, value)
}

/// How a state value is stored: four bytes of checksum (little endian), then the value, compressed and sealed.
#[derive(Clone)]
pub(crate) struct Codec {
    sealer: Arc<dyn Sealer>,
    compress: fn(&[u8]) -> Vec<u8>,
}

const CHECKSUM_BYTES: usize = 4;

impl Codec {
    /// For values on a disk.
    pub(crate) fn new(sealer: Arc<dyn Sealer>) -> Self {
        Codec { sealer, compress: compression::compress }
    }

    /// For values in memory, where time counts and not room.
    pub(crate) fn uncompressed(sealer: Arc<dyn Sealer>) -> Self {
        Codec { sealer, compress: compression::plain }
    }

    /// The bytes to store for `value` under `key`.
    pub(crate) fn encode(&self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let sealed = self.sealer.seal(key, &(self.compress)(value));
        let mut stored = Vec::with_capacity(CHECKSUM_BYTES + sealed.len());
        stored.extend_from_slice(&checksum(key, &sealed).to_le_bytes());
        stored.extend_from_slice(&sealed);
        stored
    }

    /// The value that `encode` stored under `key`.
    pub(crate) fn decode(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some((found, sealed)) = stored.split_first_chunk::<CHECKSUM_BYTES>() else {
            return Err(damaged(key, "too short to hold a checksum"));
        };
        if u32::from_le_bytes(*found) != checksum(key, sealed) {
            return Err(damaged(key, "the checksum of the value is wrong"));
        }
        let opened = self.sealer.open(key, sealed)?;
        compression::decompress(&opened).ok_or_else(|| damaged(key, "the value is not one that was compressed here"))
    }
}

fn damaged(key: &[u8], detail: &str) -> StoreError {
    StoreError::Corrupt { place: format!("key {}", hex(key)), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_whole_at_its_place_and_with_its_key() {
        let keyed = |secret| Keyed::for_backups(&BTreeMap::from([(1, secret)]));
        let (ours, others) = (keyed([1; 32]), keyed([2; 32]));
        let sealed = ours.seal(b"place", b"value");
        assert_eq!(ours.open(b"place", &sealed).unwrap(), b"value");
        assert_ne!(sealed, ours.seal(b"place", b"value"), "equal values must not look equal");
        assert!(!sealed.windows(5).any(|part| part == b"value"));
        assert!(ours.open(b"elsewhere", &sealed).is_err() && others.open(b"place", &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ours.open(b"place", &flipped).is_err(), "bit {bit} was not missed");
        }
        assert!(ours.open(b"place", &sealed[..KEY_ID_BYTES + NONCE_LEN]).is_err());
    }

    #[test]
    fn a_newer_key_seals_what_comes_and_the_older_one_opens_what_was() {
        let first = Keyed::for_backups(&BTreeMap::from([(1, [1; 32])]));
        let before = first.seal(b"place", b"before");
        let both = Keyed::for_backups(&BTreeMap::from([(1, [1; 32]), (2, [2; 32])]));
        let after = both.seal(b"place", b"after");
        assert_eq!(both.open(b"place", &before).unwrap(), b"before");
        assert_eq!(both.open(b"place", &after).unwrap(), b"after");
        let lacking = first.open(b"place", &after).unwrap_err().to_string();
        assert!(lacking.contains("backup key 2 is asked for, there is 1 here"), "{lacking}");
    }

    #[test]
    fn a_value_comes_back_only_whole_and_only_under_its_own_key() {
        let codec = Codec::new(Arc::new(Unsealed));
        let stored = codec.encode(b"ab", b"value");
        assert_eq!(codec.decode(b"ab", &stored).unwrap(), b"value");

        let moved = codec.decode(b"ac", &stored).unwrap_err();
        assert!(matches!(&moved, StoreError::Corrupt { place, .. } if place == "key 6163"), "{moved}");
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(codec.decode(b"ab", &flipped).is_err(), "bit {bit} was not missed");
        }
        assert!(codec.decode(b"ab", &stored[..3]).is_err());
        assert_ne!(checksum(b"ab", b"c"), checksum(b"a", b"bc"));
    }
}
