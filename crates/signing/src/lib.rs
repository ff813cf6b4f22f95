//! Ed25519 signatures of policies (RFC 8032): whoever promotes a policy signs it, whoever runs it checks that.
//!
//! - [`key`]: a promoter's [`SigningKey`] and the [`PublicKeys`] that a reader trusts, as text
//! - [`signature`]: what is signed, the file that holds a signature, and the check
//!
//! It knows no store and no environment: bytes come in, bytes go out. Nothing here prints a signing key.

pub mod error;
pub mod key;
pub mod signature;

/// Name of the setting with the [`PublicKeys`] that an evaluator trusts. Set to nothing it is an error: an evaluator that
/// was meant to ask for signatures never goes without because a value got lost.
pub const POLICY_KEYS: &str = "TWINSCALER_POLICY_KEYS";
/// Name of the setting with a promoter's [`SigningKey`].
pub const SIGNING_KEY: &str = "TWINSCALER_SIGNING_KEY";

pub use error::SigningError;
pub use key::{PublicKey, PublicKeys, SigningKey};
pub use signature::{Signature, file_name};
