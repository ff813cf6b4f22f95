//! Export of a policy as ONNX: the weights in ONNX's layout, the value in dollars, the schema in the metadata.

use contract::schema_hash;
use contract::{ACTION_COUNT, FEATURE_COUNT};
use policy::PolicyError;
use policy::format::{self, Layers};
use thiserror::Error;

use crate::ppo::Weights;
use crate::ppo::weights::HEAD_OUTPUTS;

/// What wrote the file.
const PRODUCER: &str = "twinscaler";
/// Where ONNX's gates (input, output, forget, cell) are in ours (input, forget, cell, output).
const ONNX_GATES: [usize; 4] = [0, 3, 1, 2];

/// Why there is no policy file of some weights.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Policies are a single LSTM that keeps its state.
    #[error(
        "the setting {0} makes a network for comparison only: the functions cannot run it, and no file is made of it"
    )]
    Compared(&'static str),
    /// The weights do not fit the form.
    #[error(transparent)]
    Form(#[from] PolicyError),
}

/// The policy file of these weights. The same weights give the same bytes.
///
/// # Errors
/// If the network is for comparison only, or the weights do not fit their number of cells.
pub fn export(weights: &Weights) -> Result<Vec<u8>, ExportError> {
    if let Some(setting) = weights.compared_for() {
        return Err(ExportError::Compared(setting));
    }
    let metadata = [(format::SCHEMA_HASH, schema_hash())];
    Ok(format::write(&layers(weights), PRODUCER, &metadata)?)
}

fn layers(weights: &Weights) -> Layers {
    let cells = weights.cells;
    let [lstm_w, lstm_b, _, head_w, head_b] = weights.layout().split(&weights.values);
    let (of_input, of_state) = lstm_w.split_at(FEATURE_COUNT * 4 * cells);
    let biases = gates(lstm_b, 1, cells);
    // the value head learned dollars times the scale
    let dollars = |row: &[f32]| row[ACTION_COUNT] / weights.reward_scale;
    Layers {
        cells,
        lstm_w: gates(of_input, FEATURE_COUNT, cells),
        lstm_r: gates(of_state, cells, cells),
        lstm_b: [biases, vec![0.0; 4 * cells]].concat(),
        logits_w: head_w.chunks_exact(HEAD_OUTPUTS).flat_map(|row| &row[..ACTION_COUNT]).copied().collect(),
        logits_b: head_b[..ACTION_COUNT].to_vec(),
        value_w: head_w.chunks_exact(HEAD_OUTPUTS).map(dollars).collect(),
        value_b: vec![dollars(head_b)],
    }
}

/// Transposes `[inputs, 4 cells]` into `[4 cells, inputs]`, with the gates in ONNX's order.
fn gates(ours: &[f32], inputs: usize, cells: usize) -> Vec<f32> {
    let rows = ONNX_GATES.iter().flat_map(|gate| (0..cells).map(move |cell| gate * cells + cell));
    rows.flat_map(|row| (0..inputs).map(move |k| ours[k * 4 * cells + row])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_reordered_and_transposed() {
        // one cell, two inputs; ours are rows of (input, forget, cell, output)
        let ours = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        assert_eq!(gates(&ours, 2, 1), [1.0, 10.0, 4.0, 40.0, 2.0, 20.0, 3.0, 30.0]);
    }

    #[test]
    fn the_same_weights_give_the_same_bytes() {
        let weights = Weights::new(4, 1);
        assert_eq!(export(&weights).unwrap(), export(&weights).unwrap());
        assert_ne!(export(&weights).unwrap(), export(&Weights::new(4, 2)).unwrap());
    }
}
