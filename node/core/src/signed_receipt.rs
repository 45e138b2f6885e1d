//! A receipt that convinces somebody else: the edits of one request, signed by the site that wrote them, and checked with that
//! site's public key alone, without a connection.
//!
//! It has what the edits' hashes cover: each header (who, when, why, of which record, which event) and one commitment for each
//! change. A change is shown only if whoever made the receipt wanted it shown; of the others it says how many there are, and
//! nothing of what they say. The bytes: `proto/EDIT.md`, "Signed receipts".
//!
//! It proves that the site wrote these edits at these numbers of its chain. It does not prove that they still hold: later ones may
//! have replaced what they say. And whose key it is, somebody else must say: the directory, or the authority.

use crate::command::Tip;
use crate::edit::{Change, Edit, Header, commitment, hash_of};
use crate::encoding::{Malformed, Reader, Wire};
use crate::wire_struct;

/// The first bytes of every receipt: its form.
const MAGIC: [u8; 8] = *b"dinhbaR1";

/// A signed receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    /// The last of the edits.
    pub tip: Tip,
    /// The Ed25519 signature of the author's site over [`Tip::signed_bytes`].
    pub signature: [u8; 64],
    /// All edits of the request, in order.
    pub edits: Vec<SignedEdit>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEdit {
    /// Its header's canonical bytes.
    pub header: Vec<u8>,
    /// What stands for each of its changes.
    pub changes: Vec<Committed>,
}

/// A change, or what stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What the hash covers.
    pub commitment: [u8; 32],
    /// The salt and the change, if it is shown.
    pub shown: Option<([u8; 32], Change)>,
}

wire_struct! {
    SignedEdit { header, changes }
    Committed { commitment, shown }
}

impl Wire for SignedReceipt {
    fn encode(&self, out: &mut Vec<u8>) {
        MAGIC.encode(out);
        self.tip.encode(out);
        self.signature.encode(out);
        self.edits.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        if <[u8; 8]>::decode(input)? != MAGIC {
            return Err(Malformed { what: "receipt: another form, or none at all" });
        }
        Ok(SignedReceipt { tip: Wire::decode(input)?, signature: Wire::decode(input)?, edits: Wire::decode(input)? })
    }
}

/// Why a receipt proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// A header that is none.
    #[error("a header cannot be read")]
    Header,
    /// The edits are not the whole of one request.
    #[error("the edits are not all those of one request, one after the other")]
    Parts,
    /// A change that is shown is another one than was written.
    #[error("a change that is shown is not the one that was written")]
    Change,
    /// The edits are others than those that were signed.
    #[error("the edits are not those that were signed")]
    Hash,
}

impl SignedEdit {
    /// What is signed of an edit under its session's secret; of its changes those are shown that `shows` says.
    #[must_use]
    pub fn of(edit: &Edit, secret: &[u8; 32], shows: impl Fn(&Change) -> bool) -> Self {
        let committed = |(index, change): (u32, &Change)| {
            let salt = edit.salt(secret, index);
            let shown = shows(change).then(|| (salt, change.clone()));
            Committed { commitment: commitment(&salt, change), shown }
        };
        SignedEdit { header: edit.header.to_bytes(), changes: (0..).zip(&edit.changes).map(committed).collect() }
    }
}

impl SignedReceipt {
    /// The headers and the changes that are shown, if the edits are those of the tip. Whoever believes them has checked the
    /// signature over [`Tip::signed_bytes`] with the site's key.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn check(&self) -> Result<Vec<(Header, Vec<&Change>)>, Unproved> {
        let mut checked: Vec<(Header, Vec<&Change>)> = Vec::with_capacity(self.edits.len());
        let mut before = None;
        for (part, edit) in (0_u32..).zip(&self.edits) {
            let header = Header::from_bytes(&edit.header).map_err(|_| Unproved::Header)?;
            let is_next = before.is_none_or(|before| header.previous == before);
            let is_of_it = header.author == self.tip.author
                && (header.part, header.of as usize) == (part, self.edits.len())
                && checked.first().is_none_or(|(first, _)| {
                    first.origin == header.origin && first.number.checked_add(part.into()) == Some(header.number)
                });
            if !is_next || !is_of_it {
                return Err(Unproved::Parts);
            }
            let mut shown = Vec::new();
            for Committed { commitment: said, shown: change } in &edit.changes {
                if let Some((salt, change)) = change {
                    if commitment(salt, change) != *said {
                        return Err(Unproved::Change);
                    }
                    shown.push(change);
                }
            }
            let commitments: Vec<[u8; 32]> = edit.changes.iter().map(|change| change.commitment).collect();
            before = Some(hash_of(&edit.header, &commitments));
            checked.push((header, shown));
        }
        let last = checked.last().map(|(header, _)| header.number);
        if last != Some(self.tip.number) || before != Some(self.tip.hash) {
            return Err(Unproved::Hash);
        }
        Ok(checked)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::edit::samples;

    const SECRET: [u8; 32] = [0x5e; 32];

    fn receipt(shows: bool) -> SignedReceipt {
        let mut first = samples::edit();
        first.header.extensions.clear();
        let mut second = first.clone();
        (second.header.part, second.header.number) = (1, first.header.number + 1);
        second.header.previous = first.hash(&SECRET);
        let tip = Tip { author: second.header.author, number: second.header.number, hash: second.hash(&SECRET) };
        let edits = [first, second].iter().map(|edit| SignedEdit::of(edit, &SECRET, |_| shows)).collect();
        SignedReceipt { tip, signature: [7; 64], edits }
    }

    #[test]
    fn a_receipt_shows_what_is_wanted_and_proves_the_rest() {
        for shows in [false, true] {
            let receipt = receipt(shows);
            let bytes = receipt.to_bytes();
            assert_eq!(SignedReceipt::from_bytes(&bytes), Ok(receipt.clone()));
            let checked = receipt.check().unwrap();
            assert_eq!(checked.len(), 2);
            assert_eq!(checked[0].1.len(), usize::from(shows));
            let name = "Hòa".as_bytes();
            assert_eq!(bytes.windows(name.len()).any(|window| window == name), shows, "what is not shown is not there");
        }
    }

    #[test]
    fn a_part_of_a_request_and_another_order_prove_nothing() {
        let mut half = receipt(true);
        half.edits.remove(0);
        assert_eq!(half.check(), Err(Unproved::Parts));
        let mut turned = receipt(true);
        turned.edits.reverse();
        assert_eq!(turned.check(), Err(Unproved::Parts));
        let mut none = receipt(true);
        none.edits.clear();
        assert_eq!(none.check(), Err(Unproved::Hash));
        let mut other = receipt(true);
        other.edits[1].changes[0].shown.as_mut().unwrap().1.value = b"Hoa".to_vec();
        assert_eq!(other.check(), Err(Unproved::Change));
    }

    proptest! {
        #[test]
        fn no_changed_byte_proves_the_same(place: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = receipt(true).to_bytes();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // The tip and the signature are the signature's business.
            if let Ok(changed) = SignedReceipt::from_bytes(&bytes) {
                let whole = receipt(true);
                let is_signed_over = (changed.tip, changed.signature) != (whole.tip, whole.signature);
                prop_assert!(is_signed_over || changed.check().is_err());
            }
        }
    }
}
