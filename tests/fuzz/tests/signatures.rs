//! Signatures' files, and the text of keys: only the bytes that the key gives are a signature, whatever else comes.

use contract::schema::sha256_hex;
use fuzz::{BYTES_ALWAYS, arbitrary, cases, damaged, read};
use proptest::prelude::*;
use signing::{PublicKeys, Signature, SigningKey};

const MANIFEST: &[u8] = b"{}";

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

fn signed() -> Vec<u8> {
    key().sign(&sha256_hex(MANIFEST), MANIFEST)
}

/// Whether it is taken for a signature.
fn valid(file: &[u8]) -> bool {
    let key = key();
    read(file, BYTES_ALWAYS, |file| key.public().verify(&sha256_hex(MANIFEST), MANIFEST, file)).is_some()
}

proptest! {
    #![proptest_config(cases(1500))]

    /// Damage may leave the same signature in other JSON, a letter in another case say; never another one.
    #[test]
    fn a_damaged_signature(file in damaged(signed())) {
        if valid(&file) {
            let lower = |file: &[u8]| {
                let signature: Signature = serde_json::from_slice(file).unwrap();
                Signature { signature: signature.signature.to_lowercase(), ..signature }
            };
            prop_assert_eq!(lower(&file), lower(&signed()));
        }
    }

    #[test]
    fn any_64_bytes(bytes in prop::collection::vec(any::<u8>(), 64)) {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = Signature { version: 1, key_id: key().public().id().to_owned(), signature: digits };
        prop_assert!(!valid(&serde_json::to_vec(&file).unwrap()));
    }

    #[test]
    fn arbitrary_bytes(file in arbitrary()) {
        prop_assert!(!valid(&file));
    }

    #[test]
    fn any_text_of_keys(text in "[0-9a-fx,: \n-]{0,400}") {
        read(text.as_bytes(), BYTES_ALWAYS, |_| PublicKeys::parse(&text));
        read(text.as_bytes(), BYTES_ALWAYS, |_| SigningKey::parse(&text));
    }
}
