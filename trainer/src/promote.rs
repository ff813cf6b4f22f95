//! Promotion and roll-back: files written once under the policy's hash, then one pointer moved by compare-and-swap.

use std::path::Path;

use contract::limits::{POLICY_BYTES_MAX, SIGNATURE_BYTES_MAX};
use contract::manifest::{Manifest, Pointer};
use controller::ports::{Kind, PolicyPublisher, PolicyStore, Port, PortError};
use policy::Policy;
use signing::{PublicKeys, SigningKey, file_name};

use crate::watch::replace;

/// Version of the stored pointer.
const POINTER_VERSION: u32 = 1;

/// Everything that is stored of one policy.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// Its manifest.
    pub manifest: Manifest,
    /// The weights to train on from.
    pub checkpoint: Vec<u8>,
    /// The report, HTML.
    pub report: Vec<u8>,
}

impl Bundle {
    /// The files, by name.
    fn files(&self) -> [(&'static str, Vec<u8>); 4] {
        [
            ("policy.onnx", self.onnx.clone()),
            ("checkpoint", self.checkpoint.clone()),
            ("report.html", self.report.clone()),
            ("manifest.json", self.manifest_bytes()),
        ]
    }

    /// The manifest as it is stored, and signed.
    fn manifest_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.manifest).expect("a manifest is plain data")
    }

    /// Writes the bundle into a directory, which is made if it is not there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        self.files().into_iter().try_for_each(|(name, bytes)| replace(&dir.join(name), &bytes))
    }

    /// Reads a bundle from a directory.
    ///
    /// # Errors
    /// If a file is missing or the manifest is broken.
    pub fn read(dir: &Path) -> std::io::Result<Self> {
        let file = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        };
        let manifest = serde_json::from_slice(&file("manifest.json")?)?;
        let (onnx, checkpoint) = (file("policy.onnx")?, file("checkpoint")?);
        Ok(Self { onnx, manifest, checkpoint, report: file("report.html")? })
    }
}

/// Stores a policy and puts it in charge of a pool, in place of the one behind `incumbent` (pointer and tag, as read
/// before the comparison), signed if there is a key. Readers see the old policy or the new one, never a mix.
///
/// # Errors
/// A conflict if another promotion moved the pointer meanwhile: then nothing changed.
pub async fn promote<P: PolicyPublisher>(
    store: &P,
    pool: &str,
    bundle: &Bundle,
    incumbent: Option<&(Pointer, String)>,
    key: Option<&SigningKey>,
) -> Port<Pointer> {
    keep(store, bundle, key).await?;
    put_in_charge(store, pool, &bundle.manifest.sha256, incumbent).await
}

/// The first half: the files, which nobody looks at yet, and the signature last.
///
/// # Errors
/// A conflict if other files are there under the policy's hash.
pub async fn keep<P: PolicyPublisher>(store: &P, bundle: &Bundle, key: Option<&SigningKey>) -> Port<()> {
    let sha256 = &bundle.manifest.sha256;
    for (name, bytes) in bundle.files() {
        store.put_file(sha256, name, bytes).await?;
    }
    let Some(key) = key else { return Ok(()) };
    store.put_file(sha256, &file_name(key.public()), key.sign(sha256, &bundle.manifest_bytes())).await
}

/// Signs a policy that is in the store already, if it passes the evaluator's own checks: when signatures are introduced,
/// or a key is replaced. A policy that this key has signed stays as it is.
///
/// # Errors
/// If it cannot be read, would be refused, or another signature is there under the key's name.
pub async fn sign_stored<P: PolicyPublisher>(store: &P, sha256: &str, key: &SigningKey) -> Port<()> {
    let (manifest, onnx) = (store.manifest(sha256).await?, store.file(sha256, "policy.onnx", POLICY_BYTES_MAX).await?);
    let refused = |e: String| PortError::invalid("sign", format!("policy {sha256} is not one to sign: {e}"));
    let read: Manifest = serde_json::from_slice(&manifest).map_err(|e| refused(e.to_string()))?;
    if read.sha256 != sha256 {
        return Err(refused("its manifest names another".to_owned()));
    }
    Policy::load(&onnx, &read).map_err(|e| refused(e.to_string()))?;
    store.put_file(sha256, &file_name(key.public()), key.sign(sha256, &manifest)).await
}

/// The id of the first of these keys that has signed a policy, if one has.
///
/// # Errors
/// If the store fails.
pub async fn signed_by<P: PolicyStore>(store: &P, sha256: &str, keys: &PublicKeys) -> Port<Option<String>> {
    let manifest = store.manifest(sha256).await?;
    for key in keys.iter() {
        match store.file(sha256, &file_name(key), SIGNATURE_BYTES_MAX).await {
            Ok(file) if key.verify(sha256, &manifest, &file).is_ok() => return Ok(Some(key.id().to_owned())),
            Ok(_) => {}
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The second half: the pointer.
///
/// # Errors
/// A conflict if another promotion moved the pointer meanwhile: then nothing changed.
pub async fn put_in_charge<P: PolicyPublisher>(
    store: &P,
    pool: &str,
    sha256: &str,
    incumbent: Option<&(Pointer, String)>,
) -> Port<Pointer> {
    let pointer = Pointer {
        version: POINTER_VERSION,
        sha256: sha256.to_owned(),
        previous: incumbent.map(|(pointer, _)| pointer.sha256.clone()),
        serial: incumbent.map_or(1, |(pointer, _)| pointer.serial + 1),
    };
    store.move_pointer(pool, &pointer, incumbent.map(|(_, tag)| tag.as_str())).await?;
    Ok(pointer)
}

/// Puts the previous policy back in charge.
///
/// # Errors
/// If there is none, or the pointer moved meanwhile.
pub async fn roll_back<P: PolicyPublisher>(store: &P, pool: &str) -> Port<Pointer> {
    let nothing = |what: &str| PortError::not_found("roll back", format!("pool {pool} has no {what} policy"));
    let (current, tag) = store.pointer(pool).await?.ok_or_else(|| nothing("promoted"))?;
    let previous = current.previous.ok_or_else(|| nothing("previous"))?;
    let pointer = Pointer {
        version: POINTER_VERSION,
        sha256: previous,
        previous: Some(current.sha256),
        serial: current.serial + 1,
    };
    store.move_pointer(pool, &pointer, Some(&tag)).await?;
    Ok(pointer)
}

#[cfg(test)]
mod tests {
    use testkit::World;
    use testkit::builders::pool_config;

    use super::*;
    use crate::parity;
    use crate::ppo::weights::Weights;

    fn bundle(seed: u64) -> Bundle {
        let weights = Weights::new(4, seed);
        let (onnx, manifest) = parity::package(&weights, Default::default()).unwrap();
        Bundle { onnx, manifest, checkpoint: weights.to_checkpoint(), report: Vec::new() }
    }

    fn key(byte: u8) -> (SigningKey, PublicKeys) {
        let key = SigningKey::from_seed(&[byte; 32]).unwrap();
        let trusted = PublicKeys::parse(&key.public().to_string()).unwrap();
        (key, trusted)
    }

    async fn signed(world: &World, bundle: &Bundle, keys: &PublicKeys) -> bool {
        signed_by(world, &bundle.manifest.sha256, keys).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn what_is_promoted_with_a_key_is_signed_and_a_roll_back_brings_a_signed_one_back() {
        let (world, (key, trusted)) = (World::with_pool(&pool_config("p")), key(1));
        let (first, second) = (bundle(1), bundle(2));
        promote(&world, "p", &first, None, Some(&key)).await.unwrap();
        let stands = world.pointer("p").await.unwrap();
        promote(&world, "p", &second, stands.as_ref(), Some(&key)).await.unwrap();
        assert!(signed(&world, &second, &trusted).await);
        let pointer = roll_back(&world, "p").await.unwrap();
        assert_eq!(pointer.sha256, first.manifest.sha256);
        assert!(signed(&world, &first, &trusted).await);
    }

    #[tokio::test]
    async fn without_a_key_nothing_is_signed_until_somebody_signs_what_is_there() {
        let (world, (old, trusts_old), (new, trusts_new)) = (World::with_pool(&pool_config("p")), key(1), key(2));
        let bundle = bundle(1);
        promote(&world, "p", &bundle, None, None).await.unwrap();
        assert!(!signed(&world, &bundle, &trusts_old).await);
        for key in [&old, &old, &new] {
            sign_stored(&world, &bundle.manifest.sha256, key).await.unwrap();
        }
        assert!(signed(&world, &bundle, &trusts_old).await && signed(&world, &bundle, &trusts_new).await);
    }

    #[tokio::test]
    async fn what_the_evaluator_would_refuse_is_not_signed() {
        let (world, (key, trusted)) = (World::with_pool(&pool_config("p")), key(1));
        let bundle = bundle(1);
        keep(&world, &bundle, None).await.unwrap();
        world.overwrite_file(&bundle.manifest.sha256, "policy.onnx", b"another".to_vec());
        let error = sign_stored(&world, &bundle.manifest.sha256, &key).await.unwrap_err();
        assert!(error.to_string().contains("is not one to sign"), "{error}");
        assert!(!signed(&world, &bundle, &trusted).await);
    }
}
