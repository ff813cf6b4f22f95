//! `twinscaler key …`, and the option of all commands that promote: keys that policies are signed with.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use controller::ports::{PolicyPublisher, Port, PortError};
use signing::{POLICY_KEYS, PublicKeys, SIGNING_KEY, SigningError, SigningKey};

use crate::promote::sign_stored;

/// What can be done with keys.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a key pair: writes the signing key, which is secret, and prints the public key, which evaluators are given
    New {
        /// The file for the signing key, which must not be there yet
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sign the policy that is in charge of a pool, and the one before it
    Sign {
        /// The pool
        #[arg(long)]
        pool: String,
        /// The key
        #[command(flatten)]
        signing: SigningArgs,
    },
}

/// The key that promoted policies are signed with.
#[derive(Args, Clone, Debug)]
pub struct SigningArgs {
    /// Sign the promoted policy with the key in this file; without it, with the key in TWINSCALER_SIGNING_KEY if that is
    /// set, and else not at all
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
}

/// Why a key cannot be used. None repeats the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its text.
    #[error("use the key of {from}")]
    Key {
        /// Where it was.
        from: String,
        /// What is wrong.
        source: SigningError,
    },
    /// None is given where one is needed.
    #[error("sign the policy: no key is given; use --signing-key or set TWINSCALER_SIGNING_KEY")]
    NotGiven,
}

impl SigningArgs {
    /// The key, if one is given.
    ///
    /// # Errors
    /// If it cannot be read, or is none. A variable that is set to nothing is an error too: whoever set it meant to sign.
    pub fn key(&self) -> Result<Option<SigningKey>, KeyError> {
        let (from, text) = match &self.signing_key {
            Some(path) => (path.display().to_string(), read(path)?),
            None => match std::env::var_os(SIGNING_KEY) {
                Some(text) => (SIGNING_KEY.to_owned(), text.to_string_lossy().into_owned()),
                None => return Ok(None),
            },
        };
        SigningKey::parse(&text).map(Some).map_err(|source| KeyError::Key { from, source })
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(file_error("read", path))
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
    let path = path.display().to_string();
    move |source| KeyError::File { what, path, source }
}

/// The public keys that evaluators trust, as this command's environment has them.
///
/// # Errors
/// If they are no keys.
pub fn trusted() -> Result<Option<PublicKeys>, KeyError> {
    let Some(text) = std::env::var_os(POLICY_KEYS) else { return Ok(None) };
    let keys = PublicKeys::parse(&text.to_string_lossy());
    keys.map(Some).map_err(|source| KeyError::Key { from: POLICY_KEYS.to_owned(), source })
}

/// Makes a key pair. The file is for its owner's eyes only, and never written over.
///
/// # Errors
/// If no key can be made, or the file is there or cannot be written.
pub fn new(out: &Path) -> Result<(), KeyError> {
    let made = SigningKey::generate().and_then(|key| Ok((key.secret_text()?, key)));
    let (secret, key) = made.map_err(|source| KeyError::Key { from: out.display().to_string(), source })?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(out);
    let written = file.and_then(|mut file| {
        writeln!(file, "{secret}")?;
        file.sync_all()
    });
    written.map_err(file_error("write", out))?;
    eprintln!(
        "key {}: signing key written to {}; its public key, for {POLICY_KEYS}:",
        key.public().id(),
        out.display()
    );
    println!("{}", key.public());
    Ok(())
}

/// Signs the policy in charge of a pool, and the one before it, which a roll-back would bring back.
///
/// # Errors
/// If the pool has none, or the one in charge cannot be read or would be refused. That the one before would be is only
/// said: after a change of the schema it always is.
pub async fn sign<P: PolicyPublisher>(store: &P, pool: &str, key: &SigningKey) -> Port<()> {
    let none = || PortError::not_found("sign", format!("pool {pool} has no policy; promote one"));
    let (pointer, _) = store.pointer(pool).await?.ok_or_else(none)?;
    let id = key.public().id();
    sign_stored(store, &pointer.sha256, key).await?;
    println!("policy {}, which is in charge, is signed by key {id}", pointer.sha256);
    let Some(previous) = pointer.previous else { return Ok(()) };
    match sign_stored(store, &previous, key).await {
        Ok(()) => println!("policy {previous}, the one before, is signed by key {id}"),
        Err(error) => {
            println!("policy {previous}, the one before, is not signed, and no roll-back to it works: {error}")
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key_of(path: &Path) -> Result<Option<SigningKey>, KeyError> {
        SigningArgs { signing_key: Some(path.to_owned()) }.key()
    }

    #[test]
    fn a_new_key_is_its_owners_alone_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let key = key_of(&path).unwrap().expect("a file is given");
        assert!(matches!(new(&path), Err(KeyError::File { .. })));
        assert_eq!(key_of(&path).unwrap().unwrap().public(), key.public(), "it is still the first");
    }

    #[test]
    fn a_file_that_is_no_key_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "secret").unwrap();
        let error = key_of(&path).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains("key") && source.contains("twinscaler key new"), "{error}: {source}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(matches!(key_of(&dir.path().join("none")), Err(KeyError::File { .. })));
    }
}
