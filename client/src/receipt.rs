//! Receipts for others: what a site wrote, checked without a connection, with its public key alone. What they hold and prove:
//! [`dinhba_core::signed_receipt`].

use dinhba_core::edit::{Change, Header};
use dinhba_core::ids::SiteId;
use dinhba_core::signed_receipt::{SignedReceipt, Unproved};
use ed25519_dalek::{Signature, VerifyingKey};

/// Why a receipt is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// The key is none.
    #[error("that is no Ed25519 key")]
    Key,
    /// The receipt names another site.
    #[error("it is in the name of site {0}: with which key that one signs, the directory says (`dinhba site list`)")]
    Site(SiteId),
    /// The signature is not of that key.
    #[error(
        "the site with that key did not sign it: ask the directory which keys the site has or had (`dinhba site list`)"
    )]
    Signature,
    /// What is signed is something else.
    #[error("{0}: it was changed after it was made")]
    Unproved(Unproved),
}

/// What a receipt proves, if that site signed it, whose key this is: that the key is the site's, somebody else has to say.
///
/// # Errors
/// Why it proves nothing.
pub fn verify<'r>(
    receipt: &'r SignedReceipt,
    site: SiteId,
    public_key: &[u8; 32],
) -> Result<Vec<(Header, Vec<&'r Change>)>, NotBelieved> {
    if receipt.tip.author.site != site {
        return Err(NotBelieved::Site(receipt.tip.author.site));
    }
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| NotBelieved::Key)?;
    let signature = Signature::from_bytes(&receipt.signature);
    key.verify_strict(&receipt.tip.signed_bytes(), &signature).map_err(|_| NotBelieved::Signature)?;
    receipt.check().map_err(NotBelieved::Unproved)
}
