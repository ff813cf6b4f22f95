//! Whether a policy is signed by a key that this evaluator trusts.

use contract::limits::SIGNATURE_BYTES_MAX;
use controller::ports::{Kind, PolicyStore, Port};
use signing::{PublicKey, PublicKeys, file_name};

/// A policy's signatures as they were read: by each of the trusted keys, in their order.
pub struct Signatures<'a>(Vec<(&'a PublicKey, Port<Vec<u8>>)>);

impl<'a> Signatures<'a> {
    /// Reads them. A key without a signature is no failure: one of several is enough.
    pub async fn read<P: PolicyStore>(store: &P, keys: &'a PublicKeys, sha256: &str) -> Self {
        let mut read = Vec::new();
        for key in keys.iter() {
            read.push((key, store.file(sha256, &file_name(key), SIGNATURE_BYTES_MAX).await));
        }
        Self(read)
    }

    /// Whether one of them is of this policy and its manifest's bytes.
    ///
    /// # Errors
    /// What is wrong with each.
    pub fn check(&self, sha256: &str, manifest: &[u8]) -> Result<(), String> {
        let mut problems = Vec::new();
        for (key, read) in &self.0 {
            match read {
                Ok(file) => match key.verify(sha256, manifest, file) {
                    Ok(()) => return Ok(()),
                    Err(error) => problems.push(error.to_string()),
                },
                Err(e) if e.kind == Kind::NotFound => problems.push(format!("no signature by key {}", key.id())),
                Err(error) => problems.push(error.to_string()),
            }
        }
        Err(problems.join(", "))
    }
}
