//! Compression of single values of the state, with a dictionary of what records and edits have in common; and of blocks of
//! values, which need none.
//!
//! Some hundred bytes hold little that repeats among themselves, and much that stands in every other record: names, the
//! order of fields, how identities and cases are written. The dictionary was trained on invented people alone, by
//! `dinhba-bench dictionary`; it is part of the format of the data directory, as what is stored cannot be read without it.
//!
//! ```text
//! compressed = 0 value | 1 frame          frame: Zstandard's (RFC 8878) without its magic number, of this dictionary
//! ```

use std::sync::{LazyLock, Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CParameter, get_frame_content_size};

/// What values have in common.
static DICTIONARY: &[u8] = include_bytes!("values.dict");

/// Finds what repeats and leaves the rest as it is: coding that too (level 1) takes 6 % of what an edit takes, for two
/// hundredths of the room; higher levels gain one more.
const LEVEL: i32 = -1;

/// Shorter values are stored as they are: a frame's headers would take what is gained.
const BYTES_MIN: usize = 96;

/// Longer values are stored as they are, so that no length that is read has memory reserved beyond it.
const BYTES_MAX: usize = 16 << 20;

const PLAIN: u8 = 0;
const FRAME: u8 = 1;

/// What begins every frame.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

static COMPRESSORS: Pool<Compressor<'static>> = Pool::new();
static DECOMPRESSORS: Pool<Decompressor<'static>> = Pool::new();

/// Contexts that nobody uses now; each takes some 100 kB, and making one takes longer than what it is made for.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    const fn new() -> Self {
        Pool(Mutex::new(Vec::new()))
    }

    fn with<R>(&self, make: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut taken = free.unwrap_or_else(make);
        let result = work(&mut taken);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
        result
    }
}

fn compressor() -> Compressor<'static> {
    static PREPARED: LazyLock<EncoderDictionary<'static>> =
        LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));
    let mut compressor = Compressor::with_prepared_dictionary(&PREPARED).expect("memory for a context");
    for parameter in [CParameter::DictIdFlag(false), CParameter::ChecksumFlag(false)] {
        compressor.set_parameter(parameter).expect("a parameter that every version has");
    }
    compressor
}

fn decompressor() -> Decompressor<'static> {
    static PREPARED: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));
    Decompressor::with_prepared_dictionary(&PREPARED).expect("memory for a context")
}

/// The value as it is, behind the byte that says so.
pub(crate) fn plain(value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + value.len());
    stored.push(PLAIN);
    stored.extend_from_slice(value);
    stored
}

/// The value compressed, if that makes it shorter.
pub(crate) fn compress(value: &[u8]) -> Vec<u8> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&value.len()) {
        return plain(value);
    }
    match COMPRESSORS.with(compressor, |context| context.compress(value)) {
        Ok(mut frame) if frame.starts_with(&MAGIC) && frame.len() < value.len() => {
            frame.drain(..MAGIC.len() - 1);
            frame[0] = FRAME;
            frame
        }
        _ => plain(value),
    }
}

/// The value that `compress` or `plain` made this of; none if neither did.
pub(crate) fn decompress(stored: &[u8]) -> Option<Vec<u8>> {
    match stored.split_first()? {
        (&PLAIN, value) => Some(value.to_vec()),
        (&FRAME, rest) => {
            let mut frame = Vec::with_capacity(MAGIC.len() + rest.len());
            frame.extend_from_slice(&MAGIC);
            frame.extend_from_slice(rest);
            let length = usize::try_from(get_frame_content_size(&frame).ok()??).ok()?;
            if length > BYTES_MAX {
                return None;
            }
            DECOMPRESSORS.with(decompressor, |context| context.decompress(&frame, length)).ok()
        }
        _ => None,
    }
}

/// Of blocks: higher levels take longer than writing the values several times did.
const BLOCK_LEVEL: i32 = 1;

static PACKERS: Pool<Compressor<'static>> = Pool::new();
static UNPACKERS: Pool<Decompressor<'static>> = Pool::new();

/// A frame of many values.
pub(crate) fn pack(values: &[u8]) -> Vec<u8> {
    let make = || Compressor::new(BLOCK_LEVEL).expect("memory for a context");
    PACKERS.with(make, |context| context.compress(values)).expect("room for what cannot be made smaller")
}

/// What `pack` made the frame of; none if it did not, or if that would be more than `most` bytes.
pub(crate) fn unpack(frame: &[u8], most: usize) -> Option<Vec<u8>> {
    let length = usize::try_from(get_frame_content_size(frame).ok()??).ok()?;
    if length > most {
        return None;
    }
    let make = || Decompressor::new().expect("memory for a context");
    UNPACKERS.with(make, |context| context.decompress(frame, length)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_values_have_in_common_takes_little_room() {
        let value = "Nguyễn Thị Hà, Kinh, Việt Nam, Không, Thôn 3, 1990-03-08; ".repeat(3);
        let stored = compress(value.as_bytes());
        assert_eq!(stored[0], FRAME);
        assert!(stored.len() * 2 < value.len(), "{} of {} bytes", stored.len(), value.len());
        assert_eq!(decompress(&stored).as_deref(), Some(value.as_bytes()));
    }

    #[test]
    fn what_is_too_long_is_stored_as_it_is() {
        let value = vec![b'a'; BYTES_MAX + 1];
        let stored = compress(&value);
        assert_eq!((stored[0], stored.len()), (PLAIN, value.len() + 1));
        assert_eq!(decompress(&stored), Some(value));
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in prop::collection::vec(0..=255_u8, 0..600), times in 1..9_usize) {
            let value = value.repeat(times);
            prop_assert_eq!(decompress(&compress(&value)), Some(value.clone()));
            prop_assert_eq!(unpack(&pack(&value), value.len()), Some(value.clone()));
            prop_assert!(value.is_empty() || unpack(&pack(&value), value.len() - 1).is_none());
            prop_assert_eq!(decompress(&plain(&value)), Some(value));
        }

        #[test]
        fn nothing_that_is_read_makes_it_panic(stored in prop::collection::vec(0..=255_u8, 0..300)) {
            let _ = (decompress(&stored), unpack(&stored, 1 << 20));
            let _ = decompress(&[&[FRAME], &stored[..]].concat());
        }
    }
}
