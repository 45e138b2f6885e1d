//! The canonical encoding: one value has one byte string, and one byte string at most one value.
//!
//! Numbers are LEB128 varints in their shortest form, signed numbers zigzag; byte strings and lists carry their length
//! in front; ids are their big-endian bytes; maps are lists in strictly rising key order. A decoder refuses anything else, so that equal
//! values have equal hashes on every replica. Structs are their fields in order, with nothing between: a format that
//! must grow ends in a list of tagged extensions (see `edit`).

use std::collections::BTreeMap;

use crate::ids::{
    AuthorId, EvidenceId, GroupId, Hash, Incarnation, KeyMark, NodeId, RecordId, RequestId, SessionId, ShardId, SiteId,
    UnitId,
};
use crate::schema::{FieldId, RecordKind};

/// Room for a number, a code or a flag.
const BYTES_OF_NUMBER: usize = 6;

/// Room for what most lists hold; longer ones grow.
const LIST_USUAL: usize = 32;

/// Bytes that are not the encoding of anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// What could not be read.
    pub what: &'static str,
}

/// The rest of a byte string that is being decoded.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed { what: "length" })?;
        self.rest = rest;
        Ok(head)
    }

    /// The next length-prefixed byte string, borrowed.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        self.take(length)
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A length that the remaining bytes can hold (one byte an element at least), so that it is safe to allocate for.
    pub(crate) fn length(&mut self) -> Result<usize, Malformed> {
        let length = u64::decode(self)?;
        usize::try_from(length).ok().filter(|l| *l <= self.rest.len()).ok_or(Malformed { what: "length" })
    }
}

/// A type with a canonical encoding.
pub trait Wire: Sized {
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads a value from the front.
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// The value's bytes.
    #[must_use]
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes_hint());
        self.encode(&mut out);
        out
    }

    /// About how many bytes there will be, rather too many: room for them is made at once, and a value that is kept as it
    /// was written should not take much more than it needs.
    fn bytes_hint(&self) -> usize {
        BYTES_OF_NUMBER
    }

    /// The value of exactly these bytes.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let value = Self::decode(&mut input)?;
        if input.rest.is_empty() { Ok(value) } else { Err(Malformed { what: "end: bytes left over" }) }
    }

    /// Appends the elements of a list. Bytes override it: they go in one piece.
    fn encode_all(items: &[Self], out: &mut Vec<u8>) {
        items.iter().for_each(|item| item.encode(out));
    }

    /// Reads the `count` elements of a list.
    fn decode_all(count: usize, input: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        // Collected through `Result`, a list grows step by step; a length is at most the bytes that are there, but an
        // element in memory may be many times larger than on the wire.
        let mut items = Vec::with_capacity(count.min(LIST_USUAL));
        for _ in 0..count {
            items.push(Self::decode(input)?);
        }
        Ok(items)
    }
}

impl Wire for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(input.take(1)?[0])
    }
    fn bytes_hint(&self) -> usize {
        1
    }
    fn encode_all(items: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(items);
    }
    fn decode_all(count: usize, input: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        input.take(count).map(<[u8]>::to_vec)
    }
}

impl Wire for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut left = *self;
        while left >= 0x80 {
            out.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        const NOT_SHORTEST: Malformed = Malformed { what: "number" };
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = input.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(NOT_SHORTEST);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(NOT_SHORTEST) } else { Ok(value) };
            }
        }
        Err(NOT_SHORTEST)
    }
}

macro_rules! wire_narrow {
    ($($int:ty),*) => {$(
        impl Wire for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                u64::from(*self).encode(out);
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
                <$int>::try_from(u64::decode(input)?).map_err(|_| Malformed { what: "number: too large" })
            }
        }
    )*};
}
wire_narrow!(u16, u32);

impl Wire for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        (((*self << 1) ^ (*self >> 63)) as u64).encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let zigzag = u64::decode(input)?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

impl Wire for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed { what: "flag" }),
        }
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(input.take(N)?.try_into().expect("take returns as many bytes as asked"))
    }
    fn bytes_hint(&self) -> usize {
        N
    }
}

impl Wire for String {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(input.bytes()?).map_err(|_| Malformed { what: "text: not UTF-8" })?;
        Ok(text.to_owned())
    }
    fn bytes_hint(&self) -> usize {
        BYTES_OF_NUMBER + self.len()
    }
}

/// A list, its length in front; a byte string is the list of its bytes.
impl<T: Wire> Wire for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        T::encode_all(self, out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = input.length()?;
        T::decode_all(count, input)
    }
    fn bytes_hint(&self) -> usize {
        BYTES_OF_NUMBER + self.iter().map(Wire::bytes_hint).sum::<usize>()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(if bool::decode(input)? { Some(T::decode(input)?) } else { None })
    }
    fn bytes_hint(&self) -> usize {
        1 + self.as_ref().map_or(0, Wire::bytes_hint)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::decode(input).map(Box::new)
    }
    fn bytes_hint(&self) -> usize {
        T::bytes_hint(self)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
    fn bytes_hint(&self) -> usize {
        self.0.bytes_hint() + self.1.bytes_hint()
    }
}

impl<A: Wire, B: Wire, C: Wire> Wire for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::decode(input)?, B::decode(input)?, C::decode(input)?))
    }
    fn bytes_hint(&self) -> usize {
        self.0.bytes_hint() + self.1.bytes_hint() + self.2.bytes_hint()
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut map = BTreeMap::new();
        for _ in 0..input.length()? {
            let key = K::decode(input)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(Malformed { what: "map: keys out of order" });
            }
            map.insert(key, V::decode(input)?);
        }
        Ok(map)
    }
    fn bytes_hint(&self) -> usize {
        BYTES_OF_NUMBER + self.iter().map(|(key, value)| key.bytes_hint() + value.bytes_hint()).sum::<usize>()
    }
}

macro_rules! wire_number_id {
    ($($id:ident),*) => {$(
        impl Wire for $id {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0.to_be_bytes());
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
                <[u8; 8]>::decode(input).map(|bytes| $id(u64::from_be_bytes(bytes)))
            }
            fn bytes_hint(&self) -> usize {
                8
            }
        }
    )*};
}
wire_number_id!(UnitId, SiteId, ShardId, NodeId, GroupId, KeyMark);

macro_rules! wire_bytes_id {
    ($($id:ident),*) => {$(
        impl Wire for $id {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
                Wire::decode(input).map($id)
            }
            fn bytes_hint(&self) -> usize {
                self.0.bytes_hint()
            }
        }
    )*};
}
wire_bytes_id!(Incarnation, AuthorId, RecordId, SessionId, EvidenceId, Hash);

/// Gives structs their canonical encoding: the named fields, in this order.
#[macro_export]
macro_rules! wire_struct {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl $crate::encoding::Wire for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::encoding::Wire::encode(&self.$field, out);)*
            }
            fn decode(input: &mut $crate::encoding::Reader<'_>) -> Result<Self, $crate::encoding::Malformed> {
                Ok($name { $($field: $crate::encoding::Wire::decode(input)?),* })
            }
            fn bytes_hint(&self) -> usize {
                0 $(+ $crate::encoding::Wire::bytes_hint(&self.$field))*
            }
        }
    )*};
}

/// Gives enums of one-field variants their canonical encoding: a tag byte, then the field.
#[macro_export]
macro_rules! wire_enum {
    ($name:ident, $what:literal { $($tag:literal => $variant:ident),* $(,)? }) => {
        impl $crate::encoding::Wire for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant(inner) => {
                        out.push($tag);
                        $crate::encoding::Wire::encode(inner, out);
                    })*
                }
            }
            fn decode(input: &mut $crate::encoding::Reader<'_>) -> Result<Self, $crate::encoding::Malformed> {
                match <u8 as $crate::encoding::Wire>::decode(input)? {
                    $($tag => Ok($name::$variant($crate::encoding::Wire::decode(input)?)),)*
                    _ => Err($crate::encoding::Malformed { what: $what }),
                }
            }
            fn bytes_hint(&self) -> usize {
                1 + match self { $($name::$variant(inner) => $crate::encoding::Wire::bytes_hint(inner)),* }
            }
        }
    };
}

/// Gives an enum without fields its canonical encoding: one byte.
#[macro_export]
macro_rules! wire_code {
    // A code of a newer version is kept as it came.
    (open $name:ident { $($tag:literal => $variant:ident),* $(,)? }) => {
        impl $crate::encoding::Wire for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(match self { $($name::$variant => $tag,)* $name::Unknown(code) => *code });
            }
            fn decode(input: &mut $crate::encoding::Reader<'_>) -> Result<Self, $crate::encoding::Malformed> {
                Ok(match <u8 as $crate::encoding::Wire>::decode(input)? {
                    $($tag => $name::$variant,)*
                    code => $name::Unknown(code),
                })
            }
        }
    };
    ($name:ident, $what:literal { $($tag:literal => $variant:ident),* $(,)? }) => {
        impl $crate::encoding::Wire for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(match self { $($name::$variant => $tag),* });
            }
            fn decode(input: &mut $crate::encoding::Reader<'_>) -> Result<Self, $crate::encoding::Malformed> {
                match <u8 as $crate::encoding::Wire>::decode(input)? {
                    $($tag => Ok($name::$variant),)*
                    _ => Err($crate::encoding::Malformed { what: $what }),
                }
            }
        }
    };
}

wire_struct! { RequestId { session, counter } }

impl Wire for FieldId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Wire::decode(input).map(FieldId)
    }
}

wire_code! { open RecordKind { 1 => Person, 2 => Household, 3 => Site, 4 => Unit, 5 => Block, 6 => Target, 7 => Dossier, 8 => Calendar } }

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(300_u64.to_bytes(), [0xac, 0x02]);
        assert_eq!((-1_i64).to_bytes(), [0x01]);
        assert!(u64::from_bytes(&[0x80, 0x00]).is_err(), "a longer form of zero");
        assert!(u64::from_bytes(&[0xff; 10]).is_err(), "more than 64 bits");
        assert!(u16::from_bytes(&70_000_u64.to_bytes()).is_err());
    }

    #[test]
    fn lengths_beyond_the_input_are_refused_before_any_allocation() {
        let huge = u64::MAX.to_bytes();
        assert!(Vec::<u64>::from_bytes(&huge).is_err());
        assert!(String::from_bytes(&huge).is_err());
    }

    #[test]
    fn maps_must_rise() {
        let falling = vec![(2_u8, 0_u8), (1, 0)].to_bytes();
        assert!(BTreeMap::<u8, u8>::from_bytes(&falling).is_err());
        let twice = vec![(1_u8, 0_u8), (1, 0)].to_bytes();
        assert!(BTreeMap::<u8, u8>::from_bytes(&twice).is_err());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(numbers: Vec<i64>, map: BTreeMap<u64, String>, flag: Option<bool>) {
            let value = (numbers, map, flag);
            prop_assert_eq!(Wire::from_bytes(&value.to_bytes()), Ok(value));
        }

        #[test]
        fn any_bytes_decode_to_at_most_one_value_with_those_bytes(bytes: Vec<u8>) {
            if let Ok(value) = <(Vec<(u64, i64, bool)>, BTreeMap<u64, Vec<u8>>)>::from_bytes(&bytes) {
                prop_assert_eq!(value.to_bytes(), bytes);
            }
        }
    }
}
