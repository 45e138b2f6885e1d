//! Receipts for others: what a site wrote, checked without a connection, with its public key alone. What they hold and prove:
//! [`dinhba_core::signed_receipt`].

use dinhba_core::edit::{Change, Header};
use dinhba_core::signed_receipt::{SignedReceipt, Unproved};
use ed25519_dalek::{Signature, VerifyingKey};

/// Why a receipt is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// The key is none.
    #[error("that is no Ed25519 key")]
    Key,
    /// The signature is not of that key.
    #[error(
        "the site with that key did not sign it: ask the directory which keys the site has or had (`dinhba site list`)"
    )]
    Signature,
    /// What is signed is something else.
    #[error("{0}: it was changed after it was made")]
    Unproved(Unproved),
}

/// What a receipt proves, if the site with that key signed it.
///
/// # Errors
/// Why it proves nothing.
pub fn verify<'r>(
    receipt: &'r SignedReceipt,
    public_key: &[u8; 32],
) -> Result<Vec<(Header, Vec<&'r Change>)>, NotBelieved> {
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| NotBelieved::Key)?;
    let signature = Signature::from_bytes(&receipt.signature);
    key.verify_strict(&receipt.tip.signed_bytes(), &signature).map_err(|_| NotBelieved::Signature)?;
    receipt.check().map_err(NotBelieved::Unproved)
}
