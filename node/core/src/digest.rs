//! Digests of sets: of the edits of a shard, and of its records.

use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::Hash;

/// A sum of keyed hashes, modulo 2^256: equal sets have equal sums whatever the order, and one member can be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(pub [u8; 32]);

impl Wire for Digest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Wire::decode(input).map(Digest)
    }
    fn bytes_hint(&self) -> usize {
        self.0.bytes_hint()
    }
}

impl Digest {
    /// A member's keyed hash.
    #[must_use]
    pub fn of(key: &[u8; 32], member: &[u8]) -> Self {
        Digest(*blake3::keyed_hash(key, member).as_bytes())
    }

    /// Adds a member.
    pub fn add(&mut self, member: Digest) {
        self.carry(member, |left, right, carry| {
            let (sum, over_one) = left.overflowing_add(right);
            let (sum, over_two) = sum.overflowing_add(carry);
            (sum, over_one || over_two)
        });
    }

    /// Takes a member out.
    pub fn subtract(&mut self, member: Digest) {
        self.carry(member, |left, right, borrow| {
            let (rest, under_one) = left.overflowing_sub(right);
            let (rest, under_two) = rest.overflowing_sub(borrow);
            (rest, under_one || under_two)
        });
    }

    fn carry(&mut self, other: Digest, step: impl Fn(u64, u64, u64) -> (u64, bool)) {
        let mut carry = false;
        for (left, right) in self.0.chunks_exact_mut(8).zip(other.0.chunks_exact(8)) {
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a chunk of eight bytes"));
            let (result, over) = step(word(left), word(right), u64::from(carry));
            left.copy_from_slice(&result.to_le_bytes());
            carry = over;
        }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Hash(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_digest_forgets_order_and_what_was_taken_out(members: Vec<[u8; 8]>, extra: [u8; 8]) {
            let key = [7; 32];
            let (mut forward, mut backward) = (Digest::default(), Digest::default());
            members.iter().for_each(|member| forward.add(Digest::of(&key, member)));
            members.iter().rev().for_each(|member| backward.add(Digest::of(&key, member)));
            prop_assert_eq!(forward, backward);
            forward.add(Digest::of(&key, &extra));
            prop_assert_ne!(forward, backward);
            forward.subtract(Digest::of(&key, &extra));
            prop_assert_eq!(forward, backward);
        }
    }
}
