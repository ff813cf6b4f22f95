//! Exported policies in a third program: what burn trained and tract runs, onnxruntime computes as well.

use std::process::Command;

use contract::ACTION_COUNT;
use localcloud::tools::tools_dir;
use serde_json::{Value, json};
use twinscaler::parity::{PARITY_FLOOR, PARITY_STEPS, PARITY_TOLERANCE, expected, package};
use twinscaler::ppo::Weights;

/// Weights whose head is as strong as that of a trained policy.
fn strong(cells: usize) -> Weights {
    let mut weights = Weights { reward_scale: 0.25, ..Weights::new(cells, 11) };
    let head = weights.values.len() - (cells + 1) * (ACTION_COUNT + 1);
    weights.values[head..].iter_mut().for_each(|w| *w *= 30.0);
    weights
}

/// The policy that new pools start with.
fn shipped() -> Weights {
    let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/initial/checkpoint");
    Weights::from_checkpoint(&std::fs::read(checkpoint).unwrap()).unwrap()
}

/// What onnxruntime says to the inputs that the parity test uses.
fn onnxruntime(weights: &Weights) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let (policy, inputs) = (dir.path().join("policy.onnx"), dir.path().join("inputs.json"));
    // burn against tract is part of packaging
    let (onnx, _) = package(weights, Default::default()).unwrap();
    std::fs::write(&policy, onnx).unwrap();
    let steps: Vec<Value> = expected(weights, PARITY_STEPS)
        .iter()
        .map(|step| json!({ "features": step.features, "mask": step.mask.map(u8::from) }))
        .collect();
    std::fs::write(&inputs, json!({ "cells": weights.cells, "steps": steps }).to_string()).unwrap();
    let python = tools_dir().join("onnx/bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/onnx/steps.py");
    let run = Command::new(&python).arg(script).arg(&policy).arg(&inputs).output();
    let run = run.unwrap_or_else(|e| panic!("run {}: {e}; `make tools` sets it up", python.display()));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn onnxruntime_computes_what_burn_computes() {
    for weights in [strong(16), strong(128), shipped()] {
        let theirs = onnxruntime(&weights);
        assert_eq!(theirs["steps"].as_array().unwrap().len(), PARITY_STEPS);
        for (i, burn) in expected(&weights, PARITY_STEPS).iter().enumerate() {
            let step = &theirs["steps"][i];
            let value = step["value"].as_f64().unwrap() as f32;
            assert!(
                (value - burn.value).abs() <= PARITY_TOLERANCE * burn.value.abs().max(1.0),
                "{i}: {value} {burn:?}"
            );
            for (a, p) in burn.probabilities.iter().enumerate() {
                let q = step["probabilities"][a].as_f64().unwrap() as f32;
                // allowed actions' logits, up to a constant; a refused action has none
                let logits = if burn.mask[a] && *p >= PARITY_FLOOR { (q.ln() - p.ln()).abs() } else { (q - p).abs() };
                assert!(logits <= PARITY_TOLERANCE, "step {i}, action {a}: {q} instead of {p}");
            }
        }
    }
}
