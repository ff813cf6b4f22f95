//! Keys: the promoter's, and those that a reader trusts.

use std::fmt;

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use contract::limits::POLICY_KEYS_MAX;
use contract::schema::sha256_hex;

use crate::SigningError;

/// Bytes of a public key, and of a signing key's seed.
const KEY_BYTES: usize = 32;
/// Digits of a key's id.
const ID_DIGITS: usize = 16;
/// How a signing key's text begins: nobody takes it for a public key, which has as many digits.
const SIGNING_KEY_PREFIX: &str = "twinscaler-signing-key-1:";

/// A public key, with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; KEY_BYTES],
    id: String,
}

impl PublicKey {
    pub(crate) fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self { bytes, id: sha256_hex(&bytes)[..ID_DIGITS].to_owned() }
    }

    /// Reads one from its text.
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with(SIGNING_KEY_PREFIX) {
            return Err("is a signing key, which is secret: make a new one, and give its public half");
        }
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| "is not 64 hexadecimal digits")?;
        // such a point is of small order, or none: anybody could sign for the first
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err("stands for no key");
        }
        Ok(Self::new(bytes))
    }

    /// What the key is called in files and messages: the beginning of its SHA-256, in hexadecimal.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key, RFC 8032's 32 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// As [`PublicKeys::parse`] reads it.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes))
    }
}

/// The public keys that a reader trusts: one, or more while an old one is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys(Vec<PublicKey>);

impl PublicKeys {
    /// Reads keys in hexadecimal with commas or white space between.
    ///
    /// # Errors
    /// Lists everything that is wrong, by position; also if there is no key at all, for then nobody could sign.
    pub fn parse(text: &str) -> Result<Self, SigningError> {
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for (i, word) in words.enumerate() {
            match PublicKey::parse(word) {
                Ok(key) if !keys.contains(&key) => keys.push(key),
                Ok(_) => problems.push(format!("number {} is there twice", i + 1)),
                Err(problem) => problems.push(format!("number {} {problem}", i + 1)),
            }
        }
        if keys.len() > POLICY_KEYS_MAX {
            problems.push(format!("{} keys are more than {POLICY_KEYS_MAX}", keys.len()));
        }
        if keys.is_empty() && problems.is_empty() {
            problems.push("none is given".to_owned());
        }
        if problems.is_empty() { Ok(Self(keys)) } else { Err(SigningError::PublicKeys(problems)) }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    /// Their ids, for messages.
    pub fn ids(&self) -> String {
        self.0.iter().map(PublicKey::id).collect::<Vec<_>>().join(", ")
    }
}

/// The promoter's key. Its text is its secret: only [`SigningKey::secret_text`] gives it away.
#[derive(Clone)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Without the secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new one, from the system's random numbers.
    ///
    /// # Errors
    /// If there are none.
    pub fn generate() -> Result<Self, SigningError> {
        Ed25519KeyPair::generate().map(Self::of).map_err(|_| SigningError::Random)
    }

    /// The key with this seed, RFC 8032's private key. For tests and for keys that are kept elsewhere.
    ///
    /// # Errors
    /// If the library refuses it.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Result<Self, SigningError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self::of).map_err(|_| SigningError::SigningKey)
    }

    /// Reads the text that [`SigningKey::secret_text`] gave.
    ///
    /// # Errors
    /// If it is none; the error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, SigningError> {
        let digits = text.trim().strip_prefix(SIGNING_KEY_PREFIX).ok_or(SigningError::SigningKey)?;
        let mut seed = [0; KEY_BYTES];
        hex::decode_to_slice(digits, &mut seed).map_err(|_| SigningError::SigningKey)?;
        Self::from_seed(&seed)
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let bytes = pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        Self { pair, public: PublicKey::new(bytes) }
    }

    /// The secret, to be kept in a file or a vault and nowhere else.
    ///
    /// # Errors
    /// If the library does not give it.
    pub fn secret_text(&self) -> Result<String, SigningError> {
        let seed = self.pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| SigningError::SigningKey)?;
        Ok(format!("{SIGNING_KEY_PREFIX}{}", hex::encode(seed.as_ref())))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn pair(&self) -> &Ed25519KeyPair {
        &self.pair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        PublicKeys::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_key_comes_back_from_its_text() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::parse(&format!("{}\n", key.secret_text().unwrap())).unwrap();
        assert_eq!(again.public(), key.public());
        let other = SigningKey::generate().unwrap();
        assert_ne!(other.public(), key.public());
        let both = PublicKeys::parse(&format!(" {},\n{} ", key.public(), other.public())).unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), [key.public(), other.public()]);
        assert_eq!(both.ids(), format!("{}, {}", key.public().id(), other.public().id()));
    }

    /// RFC 8032, section 7.1, test 1.
    #[test]
    fn the_public_half_is_the_standards() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let key = SigningKey::parse(&format!("{SIGNING_KEY_PREFIX}{seed}")).unwrap();
        assert_eq!(key.public().to_string(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }

    #[test]
    fn everything_that_is_wrong_with_public_keys_is_listed_and_no_key_repeated() {
        let key = SigningKey::generate().unwrap();
        let (public, secret) = (key.public().to_string(), key.secret_text().unwrap());
        let said = problems(&format!("{public},abc,{secret},{},{public}", "00".repeat(32)));
        for problem in [
            "number 2 is not 64 hexadecimal digits",
            "number 3 is a signing key",
            "number 4 stands for no key",
            "number 5 is there twice",
        ] {
            assert!(said.contains(problem), "{problem}: {said}");
        }
        let digits = secret.strip_prefix(SIGNING_KEY_PREFIX).unwrap();
        assert!(!said.contains("number 1") && !said.contains(digits), "{said}");
        assert!(problems(" , ").contains("none is given"));
        let many: Vec<String> =
            (0..=POLICY_KEYS_MAX).map(|_| SigningKey::generate().unwrap().public().to_string()).collect();
        assert!(problems(&many.join(" ")).contains("more than"));
    }

    #[test]
    fn a_signing_key_that_is_cut_short_is_refused_without_repeating_it() {
        let secret = SigningKey::generate().unwrap().secret_text().unwrap();
        let digits = secret.strip_prefix(SIGNING_KEY_PREFIX).unwrap();
        for text in [&secret[..secret.len() - 1], digits, "", SIGNING_KEY_PREFIX] {
            let error = SigningKey::parse(text).unwrap_err();
            assert_eq!(error, SigningError::SigningKey);
            assert!(!error.to_string().contains(&digits[..8]), "{error}");
        }
    }

    #[test]
    fn the_secret_is_not_in_what_is_printed() {
        let key = SigningKey::generate().unwrap();
        let secret = key.secret_text().unwrap();
        let printed = format!("{key:?}");
        assert!(printed.contains(key.public().id()), "{printed}");
        assert!(!printed.contains(secret.strip_prefix(SIGNING_KEY_PREFIX).unwrap()), "{printed}");
    }
}
