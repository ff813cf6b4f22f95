//! A policy's signature: what is signed, and the file beside the policy that holds it.
//!
//! One file a key (`policies/<sha256>/signature-<key id>.json`) and not one a policy, because files are written once: a
//! policy can be signed with a new key when the old one is given up, and nobody can keep the promoter from signing by
//! writing the one file first.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use contract::limits::SIGNATURE_BYTES_MAX;
use contract::schema::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::{PublicKey, SigningError, SigningKey};

/// Version of the stored form of [`Signature`].
pub const SIGNATURE_VERSION: u32 = 1;
/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// The file with one key's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Version of this form.
    pub version: u32,
    /// The key, by its id.
    pub key_id: String,
    /// The signature, hexadecimal.
    pub signature: String,
}

/// Name of the file with the signature by this key, beside the policy.
pub fn file_name(key: &PublicKey) -> String {
    format!("signature-{}.json", key.id())
}

/// What is signed: a line that no other use of the key begins with, the policy's name, which is the SHA-256 of its ONNX
/// file, and the SHA-256 of the manifest's bytes as they are stored.
fn message(sha256: &str, manifest: &[u8]) -> Vec<u8> {
    format!("twinscaler policy v1\n{sha256}\n{}\n", sha256_hex(manifest)).into_bytes()
}

impl SigningKey {
    /// The file with this key's signature of the policy that is called `sha256` and has this manifest. The same policy
    /// always has the same (Ed25519 takes no random numbers), so that it can be written once, twice.
    pub fn sign(&self, sha256: &str, manifest: &[u8]) -> Vec<u8> {
        let signature = self.pair().sign(&message(sha256, manifest));
        let key_id = self.public().id().to_owned();
        let file = Signature { version: SIGNATURE_VERSION, key_id, signature: hex::encode(signature) };
        serde_json::to_vec(&file).expect("a signature is plain data")
    }
}

impl PublicKey {
    /// Checks a signature's file. That the ONNX file's hash is `sha256` is for the policy's loader to check, before it
    /// reads the file.
    ///
    /// # Errors
    /// If the file is no signature of this policy and manifest by this key.
    pub fn verify(&self, sha256: &str, manifest: &[u8], file: &[u8]) -> Result<(), SigningError> {
        if file.len() > SIGNATURE_BYTES_MAX {
            return Err(SigningError::NotReadable(format!("{} bytes are too many", file.len())));
        }
        let file: Signature = serde_json::from_slice(file).map_err(|e| SigningError::NotReadable(e.to_string()))?;
        if file.version != SIGNATURE_VERSION {
            return Err(SigningError::Version(file.version));
        }
        if file.key_id != self.id() {
            return Err(SigningError::OtherKey);
        }
        let mut signature = [0; SIGNATURE_BYTES];
        hex::decode_to_slice(&file.signature, &mut signature)
            .map_err(|_| SigningError::NotReadable("it is not 128 hexadecimal digits".to_owned()))?;
        let key = UnparsedPublicKey::new(&ED25519, self.bytes());
        let valid = key.verify(&message(sha256, manifest), &signature);
        valid.map_err(|_| SigningError::Invalid(self.id().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &[u8] = b"{\"a\": 1}";

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&[byte; 32]).unwrap()
    }

    fn sha256() -> String {
        sha256_hex(b"onnx")
    }

    #[test]
    fn what_is_signed_is_this_text() {
        let manifest = sha256_hex(MANIFEST);
        let expected = format!("twinscaler policy v1\n{}\n{manifest}\n", sha256());
        assert_eq!(String::from_utf8(message(&sha256(), MANIFEST)).unwrap(), expected);
    }

    /// RFC 8032, section 7.1, test 3: the primitive is the standard's.
    #[test]
    fn the_signature_is_the_standards() {
        let seed = hex::decode("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7").unwrap();
        let key = SigningKey::from_seed(&seed.try_into().unwrap()).unwrap();
        let expected = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                        18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";
        assert_eq!(hex::encode(key.pair().sign(&[0xaf, 0x82])), expected);
    }

    #[test]
    fn a_signature_is_of_one_policy_one_manifest_and_one_key() {
        let (ours, other) = (key(1), key(2));
        let file = ours.sign(&sha256(), MANIFEST);
        assert_eq!(file, ours.sign(&sha256(), MANIFEST), "the same bytes each time");
        assert_eq!(ours.public().verify(&sha256(), MANIFEST, &file), Ok(()));
        let invalid = Err(SigningError::Invalid(ours.public().id().to_owned()));
        assert_eq!(ours.public().verify(&sha256_hex(b"another"), MANIFEST, &file), invalid);
        assert_eq!(ours.public().verify(&sha256(), b"{\"a\": 2}", &file), invalid);
        assert_eq!(other.public().verify(&sha256(), MANIFEST, &file), Err(SigningError::OtherKey));
        let mut forged: Signature = serde_json::from_slice(&file).unwrap();
        forged.key_id = other.public().id().to_owned();
        let forged = serde_json::to_vec(&forged).unwrap();
        let invalid = Err(SigningError::Invalid(other.public().id().to_owned()));
        assert_eq!(other.public().verify(&sha256(), MANIFEST, &forged), invalid);
    }

    #[test]
    fn what_is_no_signature_says_why() {
        let key = key(1);
        let good: Signature = serde_json::from_slice(&key.sign(&sha256(), MANIFEST)).unwrap();
        let verify = |file: &[u8]| key.public().verify(&sha256(), MANIFEST, file).unwrap_err();
        let written = |file: &Signature| serde_json::to_vec(file).unwrap();
        assert_eq!(verify(&written(&Signature { version: 2, ..good.clone() })), SigningError::Version(2));
        for signature in [&good.signature[..126], &format!("{}00", good.signature), &"x".repeat(128)] {
            let short = Signature { signature: signature.to_owned(), ..good.clone() };
            assert!(matches!(verify(&written(&short)), SigningError::NotReadable(_)), "{signature}");
        }
        assert!(matches!(verify(b"{}"), SigningError::NotReadable(_)));
        let padded = [written(&good), vec![b' '; SIGNATURE_BYTES_MAX]].concat();
        assert!(matches!(verify(&padded), SigningError::NotReadable(_)), "valid, but larger than any of ours");
    }
}
