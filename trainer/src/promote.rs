//! Promotion and roll-back: files written once under the policy's hash, then one pointer moved by compare-and-swap.

use std::path::Path;

use contract::manifest::{Manifest, Pointer};
use controller::ports::{PolicyPublisher, Port, PortError};

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
        let manifest = serde_json::to_vec_pretty(&self.manifest).expect("a manifest is plain data");
        [
            ("policy.onnx", self.onnx.clone()),
            ("checkpoint", self.checkpoint.clone()),
            ("report.html", self.report.clone()),
            ("manifest.json", manifest),
        ]
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
/// before the comparison). Readers see the old policy or the new one, never a mix.
///
/// # Errors
/// A conflict if another promotion moved the pointer meanwhile: then nothing changed.
pub async fn promote<P: PolicyPublisher>(
    store: &P,
    pool: &str,
    bundle: &Bundle,
    incumbent: Option<&(Pointer, String)>,
) -> Port<Pointer> {
    keep(store, bundle).await?;
    put_in_charge(store, pool, &bundle.manifest.sha256, incumbent).await
}

/// The first half: the files, which nobody looks at yet.
///
/// # Errors
/// A conflict if other files are there under the policy's hash.
pub async fn keep<P: PolicyPublisher>(store: &P, bundle: &Bundle) -> Port<()> {
    for (name, bytes) in bundle.files() {
        store.put_file(&bundle.manifest.sha256, name, bytes).await?;
    }
    Ok(())
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
