//! Where policies are kept: a bucket, or a directory with the same rules for those who have no cloud at hand.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use aws::s3::PolicyBucket;
use contract::limits::{MANIFEST_BYTES_MAX, POLICY_BYTES_MAX};
use contract::manifest::{Manifest, Pointer, pointer_key, policy_key, run_key};
use contract::schema::sha256_hex;
use controller::ports::{PolicyPublisher, PolicyStore, Port, PortError, Runs};
use policy::{Policy, PolicyError};

use crate::watch::replace;

/// A store of policies.
#[derive(Clone, Debug)]
pub enum Store {
    /// In S3.
    Bucket(PolicyBucket),
    /// On this machine.
    Dir(DirStore),
}

/// A store in a directory, with the keys of the bucket as paths.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: PathBuf,
}

const S3: &str = "s3://";

impl Store {
    /// Whether a place names a directory.
    pub fn is_dir(place: &str) -> bool {
        !place.starts_with(S3)
    }

    /// The store that a place names: `s3://BUCKET`, or a directory.
    ///
    /// # Errors
    /// If it names something within a bucket.
    pub fn at(place: &str, config: &aws::SdkConfig) -> Result<Self, StoreError> {
        let Some(bucket) = place.strip_prefix(S3) else { return Ok(Self::Dir(DirStore::new(place))) };
        let bucket = bucket.trim_end_matches('/');
        if bucket.is_empty() || bucket.contains('/') {
            return Err(StoreError(place.to_owned()));
        }
        Ok(Self::Bucket(PolicyBucket::new(config, bucket)))
    }
}

/// A place that is no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keep policies in {0:?}: give s3://BUCKET, a whole bucket, or a directory")]
pub struct StoreError(String);

/// A policy of a store as the evaluator would run it, or why this version refuses it.
///
/// # Errors
/// If its files cannot be read, or its manifest is not its own.
pub async fn runnable<P: PolicyStore>(store: &P, sha256: &str) -> Port<Result<Policy, PolicyError>> {
    let wrong = |what: String| PortError::invalid("read the manifest", format!("policy {sha256}: {what}"));
    let manifest = store.manifest(sha256).await?;
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|e| wrong(e.to_string()))?;
    if manifest.sha256 != sha256 {
        return Err(wrong("it names another policy".to_owned()));
    }
    Ok(Policy::load(&store.file(sha256, "policy.onnx", POLICY_BYTES_MAX).await?, &manifest))
}

const READ: &str = "read";
const WRITE: &str = "write";

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PortError {
    let path = path.display().to_string();
    move |e| match e.kind() {
        ErrorKind::NotFound => PortError::not_found(operation, path),
        _ => PortError::invalid(operation, format!("{path}: {e}")),
    }
}

impl DirStore {
    /// The store in this directory, which is made when something is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Keys are made of names and hashes; one that would leave the directory is refused.
    fn path(&self, key: &str) -> Port<PathBuf> {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']);
        if key.split('/').all(is_plain) {
            return Ok(self.root.join(key));
        }
        Err(PortError::invalid(READ, format!("{key:?} is no key")))
    }

    fn read(&self, key: &str, bytes_max: usize) -> Port<Vec<u8>> {
        let path = self.path(key)?;
        let length = fs::metadata(&path).map_err(failed(READ, &path))?.len();
        if length > bytes_max as u64 {
            return Err(PortError::invalid(READ, format!("{} is larger than {bytes_max} bytes", path.display())));
        }
        fs::read(&path).map_err(failed(READ, &path))
    }

    /// The path of a key to write to, in a directory that is there.
    fn room(&self, key: &str) -> Port<PathBuf> {
        let path = self.path(key)?;
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed(WRITE, &path))?;
        Ok(path)
    }

    /// Writes a file once: beside it first, then by a link that fails if it is there.
    fn write_once(&self, key: &str, bytes: &[u8]) -> Port<()> {
        let path = self.room(key)?;
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            let linked = fs::hard_link(&beside, &path);
            fs::remove_file(&beside)?;
            linked
        };
        match write() {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => match self.read(key, usize::MAX)? == bytes {
                true => Ok(()),
                false => Err(PortError::conflict(WRITE, format!("{key} is there with other bytes"))),
            },
            written => written.map_err(failed(WRITE, &path)),
        }
    }

    fn pointer(&self, pool: &str) -> Port<Option<(Pointer, String)>> {
        let bytes = match self.read(&pointer_key(pool), MANIFEST_BYTES_MAX) {
            Err(e) if e.kind == controller::ports::Kind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let pointer = serde_json::from_slice(&bytes).map_err(|e| PortError::invalid(READ, e.to_string()))?;
        Ok(Some((pointer, sha256_hex(&bytes))))
    }

    /// Moves the pointer under a lock, so that two promotions cannot both win.
    fn move_pointer(&self, pool: &str, pointer: &Pointer, tag: Option<&str>) -> Port<()> {
        let path = self.room(&pointer_key(pool))?;
        let lock = File::create(path.with_extension("lock")).map_err(failed(WRITE, &path))?;
        lock.lock().map_err(failed(WRITE, &path))?;
        let stands = self.pointer(pool)?;
        if stands.as_ref().is_some_and(|(stands, _)| stands == pointer) {
            return Ok(());
        }
        if stands.as_ref().map(|(_, tag)| tag.as_str()) != tag {
            return Err(PortError::conflict(WRITE, format!("{} was moved by somebody else", pointer_key(pool))));
        }
        let bytes = serde_json::to_vec(pointer).expect("a pointer is plain data");
        replace(&path, &bytes).map_err(failed(WRITE, &path))
    }
}

impl PolicyStore for Store {
    async fn pointer(&self, pool: &str) -> Port<Option<(Pointer, String)>> {
        match self {
            Self::Bucket(bucket) => bucket.pointer(pool).await,
            Self::Dir(dir) => dir.pointer(pool),
        }
    }

    async fn manifest(&self, sha256: &str) -> Port<Vec<u8>> {
        match self {
            Self::Bucket(bucket) => bucket.manifest(sha256).await,
            Self::Dir(dir) => dir.read(&policy_key(sha256, "manifest.json"), MANIFEST_BYTES_MAX),
        }
    }

    async fn file(&self, sha256: &str, name: &str, bytes_max: usize) -> Port<Vec<u8>> {
        match self {
            Self::Bucket(bucket) => bucket.file(sha256, name, bytes_max).await,
            Self::Dir(dir) => dir.read(&policy_key(sha256, name), bytes_max),
        }
    }
}

impl PolicyPublisher for Store {
    async fn put_file(&self, sha256: &str, name: &str, bytes: Vec<u8>) -> Port<()> {
        match self {
            Self::Bucket(bucket) => bucket.put_file(sha256, name, bytes).await,
            Self::Dir(dir) => dir.write_once(&policy_key(sha256, name), &bytes),
        }
    }

    async fn move_pointer(&self, pool: &str, pointer: &Pointer, tag: Option<&str>) -> Port<()> {
        match self {
            Self::Bucket(bucket) => bucket.move_pointer(pool, pointer, tag).await,
            Self::Dir(dir) => dir.move_pointer(pool, pointer, tag),
        }
    }
}

impl Runs for Store {
    async fn put_run_file(&self, run: &str, name: &str, bytes: Vec<u8>) -> Port<()> {
        match self {
            Self::Bucket(bucket) => bucket.put_run_file(run, name, bytes).await,
            Self::Dir(dir) => {
                let path = dir.room(&run_key(run, name))?;
                replace(&path, &bytes).map_err(failed(WRITE, &path))
            }
        }
    }

    async fn run_file(&self, run: &str, name: &str, bytes_max: usize) -> Port<Option<Vec<u8>>> {
        match self {
            Self::Bucket(bucket) => bucket.run_file(run, name, bytes_max).await,
            Self::Dir(dir) => match dir.read(&run_key(run, name), bytes_max) {
                Err(e) if e.kind == controller::ports::Kind::NotFound => Ok(None),
                bytes => bytes.map(Some),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::ports::Kind;

    fn pointer(sha256: &str, serial: u64) -> Pointer {
        Pointer { version: 1, sha256: sha256.into(), previous: None, serial }
    }

    #[tokio::test]
    async fn a_place_is_a_directory_or_a_whole_bucket() {
        let config = aws::config::load().await;
        for bucket in ["s3://policies", "s3://policies/"] {
            assert!(matches!(Store::at(bucket, &config), Ok(Store::Bucket(_))), "{bucket}");
        }
        assert!(matches!(Store::at("some/where", &config), Ok(Store::Dir(_))));
        for wrong in ["s3://policies/of/mine", "s3://"] {
            assert!(Store::at(wrong, &config).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_directory_keeps_the_rules_of_the_bucket() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::Dir(DirStore::new(dir.path()));
        store.put_file("ab", "policy.onnx", b"one".to_vec()).await.unwrap();
        store.put_file("ab", "policy.onnx", b"one".to_vec()).await.unwrap();
        let error = store.put_file("ab", "policy.onnx", b"two".to_vec()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);
        assert_eq!(store.file("ab", "policy.onnx", 3).await.unwrap(), b"one");
        assert_eq!(store.file("ab", "policy.onnx", 2).await.unwrap_err().kind, Kind::Invalid);
        assert_eq!(store.file("cd", "policy.onnx", 9).await.unwrap_err().kind, Kind::NotFound);
        assert_eq!(store.file("..", "x", 9).await.unwrap_err().kind, Kind::Invalid);

        assert_eq!(store.pointer("p").await.unwrap(), None);
        store.move_pointer("p", &pointer("ab", 1), None).await.unwrap();
        let (stands, tag) = store.pointer("p").await.unwrap().unwrap();
        assert_eq!(stands, pointer("ab", 1));
        assert_eq!(store.move_pointer("p", &pointer("cd", 2), None).await.unwrap_err().kind, Kind::Conflict);
        store.move_pointer("p", &pointer("cd", 2), Some(&tag)).await.unwrap();
        store.move_pointer("p", &pointer("cd", 2), Some(&tag)).await.unwrap();
        assert_eq!(store.move_pointer("p", &pointer("ef", 3), Some(&tag)).await.unwrap_err().kind, Kind::Conflict);

        assert_eq!(store.run_file("r", "0/state", 9).await.unwrap(), None);
        store.put_run_file("r", "0/state", b"x".to_vec()).await.unwrap();
        store.put_run_file("r", "0/state", b"y".to_vec()).await.unwrap();
        assert_eq!(store.run_file("r", "0/state", 9).await.unwrap(), Some(b"y".to_vec()));
    }
}
