//! The same policy's step in onnxruntime, on the same core.

use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::inside::Files;
use crate::stats::{Samples, head};

/// Runs onnxruntime beside this program's own figures; the script says what it measures.
pub fn compare(files: &Files, python: &Path) -> Result<(), Failure> {
    let path = std::env::temp_dir().join(format!("twinscaler-speed-{}.onnx", std::process::id()));
    std::fs::write(&path, &files.onnx)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("step.py");
    let cells = files.loaded()?.cells().to_string();
    let run = Command::new(python).arg(script).arg(&path).arg(&cells).output();
    std::fs::remove_file(&path)?;
    let run = run.map_err(|e| format!("run {}: {e}; `make tools` sets it up", python.display()))?;
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into());
    }
    let said: serde_json::Value = serde_json::from_slice(&run.stdout)?;
    let version = said["version"].as_str().ok_or("onnxruntime said no version")?;
    head("the same in onnxruntime");
    for (name, what) in [("bound", "buffers bound once"), ("fed", "fed and fetched each time")] {
        let seconds = said[name].as_array().ok_or("onnxruntime said no times")?;
        let seconds = seconds.iter().filter_map(serde_json::Value::as_f64).collect();
        Samples::of(seconds).tell(&format!("onnxruntime {version}, {what}"));
    }
    Ok(())
}
