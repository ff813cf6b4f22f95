//! A policy with everything that is stored of it, on disk and for a [`promotion`].

use std::path::Path;

use contract::manifest::Manifest;
pub use promotion::{Package, keep, promote, put_in_charge, roll_back, sign_stored, signed_by};

use crate::watch::replace;

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
    /// The same as it is stored.
    pub fn package(&self) -> Package {
        Package {
            sha256: self.manifest.sha256.clone(),
            files: vec![
                ("policy.onnx", self.onnx.clone()),
                ("checkpoint", self.checkpoint.clone()),
                ("report.html", self.report.clone()),
            ],
            manifest: serde_json::to_vec_pretty(&self.manifest).expect("a manifest is plain data"),
        }
    }

    /// Writes the bundle into a directory, which is made if it is not there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let Package { files, manifest, .. } = self.package();
        let files = files.into_iter().chain([("manifest.json", manifest)]);
        files.into_iter().try_for_each(|(name, bytes)| replace(&dir.join(name), &bytes))
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
