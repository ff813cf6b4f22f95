//! Why a key or a signature is no good.

use thiserror::Error;

/// Why a key or a signature was refused. None of them repeats a key: somebody may have given the wrong half.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SigningError {
    /// Public keys as text, with everything that is wrong with them.
    #[error("public keys: {}; give the 64 hexadecimal digits that `twinscaler key new` prints, with commas between", .0.join("; "))]
    PublicKeys(Vec<String>),
    /// A signing key as text.
    #[error("signing key is not the line that `twinscaler key new` writes; give that whole line, or make a new key")]
    SigningKey,
    /// No key could be made.
    #[error("cannot make a key, the system gives no random numbers")]
    Random,
    /// A signature's file is not one.
    #[error("signature is not readable: {0}")]
    NotReadable(String),
    /// A signature's file is of another version.
    #[error("signature has version {0}, this program reads {version}; update it", version = crate::signature::SIGNATURE_VERSION)]
    Version(u32),
    /// A signature names another key than its file.
    #[error("signature names another key than its file does")]
    OtherKey,
    /// The signature is not one of this policy and its manifest by this key.
    #[error("signature is not by key {0} or not of this policy and manifest")]
    Invalid(String),
}
