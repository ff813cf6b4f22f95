//! The one form of a policy file: written by [`write()`], read back by [`read`].
//!
//! ONNX, opset 18, one recurrent step. Inputs `observation` `[1, FEATURES]`, `h` and `c` `[1, cells]`, `mask`
//! `[1, ACTIONS]` (1 allowed, 0 refused); outputs `probabilities` `[1, ACTIONS]` (0 for a refused action), `value`
//! `[1, 1]` in dollars, `h_out` and `c_out` `[1, cells]`. A reader accepts this graph with other numbers and nothing
//! else: no other operator, no outside data, no other shape ever reaches the runtime.

use contract::{ACTION_COUNT, FEATURE_COUNT};
use prost::Message;

use crate::PolicyError;
use crate::pb::tensor_proto::DataType;
use crate::pb::tensor_shape_proto::{Dimension, dimension::Value};
use crate::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, type_proto,
};
use crate::wire;

/// Operator set of the file.
pub const OPSET: i64 = 18;
/// Metadata key of the schema hash.
pub const SCHEMA_HASH: &str = "schema_hash";
/// Metadata key of the number of LSTM cells.
pub const LSTM_CELLS: &str = "lstm_cells";
/// More cells than any policy of ours has; their weights would not fit the file's size limit.
pub const CELLS_MAX: usize = 1024;
/// Bytes of a file that are no weights: names, shapes and nodes take two thousand. The limit keeps the memory small that
/// decoding takes, which is hundreds of times as much.
pub const OTHER_BYTES_MAX: usize = 16 * 1024;
/// What the mask subtracts from a refused action's logit.
const REFUSED: f32 = 1e9;
/// ONNX's version of the file format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;

/// The numbers of a policy, in ONNX's layout: the gates are in the order input, output, forget, cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Layers {
    /// Cells of the LSTM.
    pub cells: usize,
    /// Input weights, `[4 cells, FEATURES]`, row-major.
    pub lstm_w: Vec<f32>,
    /// Recurrent weights, `[4 cells, cells]`.
    pub lstm_r: Vec<f32>,
    /// Biases, `[8 cells]`: those of the input, then those of the recurrence.
    pub lstm_b: Vec<f32>,
    /// Weights of the action logits, `[cells, ACTIONS]`.
    pub logits_w: Vec<f32>,
    /// Biases of the action logits, `[ACTIONS]`.
    pub logits_b: Vec<f32>,
    /// Weights of the value, `[cells, 1]`.
    pub value_w: Vec<f32>,
    /// Bias of the value, `[1]`.
    pub value_b: Vec<f32>,
}

/// Names and shapes of the weights, in the order of the file.
fn weight_shapes(cells: usize) -> [(&'static str, Vec<usize>); 7] {
    [
        ("lstm_w", vec![1, 4 * cells, FEATURE_COUNT]),
        ("lstm_r", vec![1, 4 * cells, cells]),
        ("lstm_b", vec![1, 8 * cells]),
        ("logits_w", vec![cells, ACTION_COUNT]),
        ("logits_b", vec![ACTION_COUNT]),
        ("value_w", vec![cells, 1]),
        ("value_b", vec![1]),
    ]
}

impl Layers {
    fn weights(&self) -> [&[f32]; 7] {
        [&self.lstm_w, &self.lstm_r, &self.lstm_b, &self.logits_w, &self.logits_b, &self.value_w, &self.value_b]
    }

    fn from_weights(cells: usize, weights: Vec<Vec<f32>>) -> Option<Self> {
        let [lstm_w, lstm_r, lstm_b, logits_w, logits_b, value_w, value_b] = weights.try_into().ok()?;
        Some(Self { cells, lstm_w, lstm_r, lstm_b, logits_w, logits_b, value_w, value_b })
    }
}

/// Writes a policy file with these metadata (the number of cells is added). The same arguments give the same bytes.
///
/// # Errors
/// If a weight has another length than its shape says.
pub fn write(layers: &Layers, producer: &str, metadata: &[(&str, &str)]) -> Result<Vec<u8>, PolicyError> {
    for ((name, shape), values) in weight_shapes(layers.cells).iter().zip(layers.weights()) {
        let expected = shape.iter().product::<usize>();
        if values.len() != expected {
            return Err(shape_error(name, format!("has {} numbers instead of {expected}", values.len())));
        }
    }
    let cells = layers.cells.to_string();
    let metadata = metadata.iter().copied().chain([(LSTM_CELLS, cells.as_str())]);
    let model = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        producer_name: producer.to_owned(),
        graph: Some(graph(layers)),
        metadata_props: metadata
            .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() })
            .collect(),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

/// Decodes the message of a policy file.
///
/// # Errors
/// If the bytes are not one, or more than [`OTHER_BYTES_MAX`] of them are no weights.
pub fn decode(bytes: &[u8]) -> Result<ModelProto, PolicyError> {
    match wire::bytes_besides_weights(bytes) {
        None => return Err(PolicyError::NotOnnx("its messages are cut short or overlap".into())),
        Some(n) if n > OTHER_BYTES_MAX => return Err(PolicyError::Graph("its size besides the weights")),
        Some(_) => {}
    }
    ModelProto::decode(bytes).map_err(|e| PolicyError::NotOnnx(e.to_string()))
}

/// The value of one metadata key, if there.
pub fn metadata<'a>(model: &'a ModelProto, key: &str) -> Option<&'a str> {
    model.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// Takes the weights out of a decoded file and checks that all the rest is exactly what [`write()`] writes.
///
/// # Errors
/// If a weight is missing, has another shape or is not finite, or if the graph differs.
pub fn read(model: &ModelProto, cells: usize) -> Result<Layers, PolicyError> {
    if !(1..=CELLS_MAX).contains(&cells) {
        return Err(shape_error("lstm_r", format!("cannot have {cells} cells, only 1 to {CELLS_MAX}")));
    }
    let found = model.graph.as_ref().ok_or(PolicyError::Graph("graph"))?;
    let weights = weight_shapes(cells)
        .iter()
        .map(|(name, shape)| read_weight(found, name, shape))
        .collect::<Result<Vec<_>, _>>()?;
    let layers = Layers::from_weights(cells, weights).ok_or(PolicyError::Graph("initializers"))?;
    compare(model, found, &graph(&layers))?;
    Ok(layers)
}

fn read_weight(graph: &GraphProto, name: &'static str, shape: &[usize]) -> Result<Vec<f32>, PolicyError> {
    let tensor = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name == name)
        .ok_or_else(|| shape_error(name, "is missing".to_owned()))?;
    if !tensor.dims.iter().map(|&d| usize::try_from(d).ok()).eq(shape.iter().map(|&d| Some(d))) {
        return Err(shape_error(name, format!("has shape {:?} instead of {shape:?}", tensor.dims)));
    }
    let bytes = shape.iter().try_fold(4usize, |product, &d| product.checked_mul(d));
    if tensor.data_type != DataType::Float as i32 || Some(tensor.raw_data.len()) != bytes {
        return Err(shape_error(name, format!("does not hold {bytes:?} bytes of 32-bit floats")));
    }
    let numbers = tensor.raw_data.chunks_exact(4);
    let numbers: Vec<f32> = numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    // the runtime's activations turn NaN into a number, so that no output would show it
    if numbers.iter().all(|x| x.is_finite()) { Ok(numbers) } else { Err(PolicyError::NotFinite(name)) }
}

/// Compares field by field, to say what differs.
fn compare(model: &ModelProto, found: &GraphProto, expected: &GraphProto) -> Result<(), PolicyError> {
    let opset = [OperatorSetIdProto { domain: String::new(), version: OPSET }];
    let checks = [
        ("inputs", found.input == expected.input),
        ("outputs", found.output == expected.output),
        ("nodes", found.node == expected.node),
        ("graph", found == expected),
        ("opset", model.opset_import == opset && model.ir_version == IR_VERSION),
        ("functions", model.functions.is_empty() && model.training_info.is_empty()),
    ];
    match checks.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(PolicyError::Graph(what)),
        None => Ok(()),
    }
}

fn shape_error(tensor: &str, reason: String) -> PolicyError {
    PolicyError::Shape { tensor: tensor.to_owned(), reason }
}

fn graph(layers: &Layers) -> GraphProto {
    let state = |name| tensor_info(name, &[1, layers.cells]);
    let actions = |name| tensor_info(name, &[1, ACTION_COUNT]);
    GraphProto {
        name: "policy".to_owned(),
        input: vec![tensor_info("observation", &[1, FEATURE_COUNT]), state("h"), state("c"), actions("mask")],
        output: vec![actions("probabilities"), tensor_info("value", &[1, 1]), state("h_out"), state("c_out")],
        initializer: initializers(layers),
        node: nodes(layers.cells),
        ..GraphProto::default()
    }
}

fn initializers(layers: &Layers) -> Vec<TensorProto> {
    let mut tensors: Vec<_> = weight_shapes(layers.cells)
        .iter()
        .zip(layers.weights())
        .map(|((name, shape), values)| float_tensor(name, shape, values))
        .collect();
    tensors.push(TensorProto {
        name: "axis".to_owned(),
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        raw_data: 0i64.to_le_bytes().to_vec(),
        ..TensorProto::default()
    });
    tensors.push(float_tensor("one", &[1], &[1.0]));
    tensors.push(float_tensor("refused", &[1], &[REFUSED]));
    tensors
}

/// The step: the LSTM wants a sequence axis, which the state and the observation gain before it and lose after it;
/// then a linear layer for the logits and one for the value, and a softmax over the allowed actions.
fn nodes(cells: usize) -> Vec<NodeProto> {
    let hidden = AttributeProto {
        name: "hidden_size".to_owned(),
        r#type: AttributeType::Int as i32,
        i: cells as i64,
        ..AttributeProto::default()
    };
    let lstm_inputs = ["x_seq", "lstm_w", "lstm_r", "lstm_b", "", "h_seq", "c_seq"];
    vec![
        node("Unsqueeze", &["observation", "axis"], &["x_seq"], vec![]),
        node("Unsqueeze", &["h", "axis"], &["h_seq"], vec![]),
        node("Unsqueeze", &["c", "axis"], &["c_seq"], vec![]),
        node("LSTM", &lstm_inputs, &["", "h_next", "c_next"], vec![hidden]),
        node("Squeeze", &["h_next", "axis"], &["h_out"], vec![]),
        node("Squeeze", &["c_next", "axis"], &["c_out"], vec![]),
        node("Gemm", &["h_out", "logits_w", "logits_b"], &["logits"], vec![]),
        node("Gemm", &["h_out", "value_w", "value_b"], &["value"], vec![]),
        node("Sub", &["mask", "one"], &["mask_minus_one"], vec![]),
        node("Mul", &["mask_minus_one", "refused"], &["penalty"], vec![]),
        node("Add", &["logits", "penalty"], &["masked_logits"], vec![]),
        node("Softmax", &["masked_logits"], &["softmax"], vec![]),
        // makes the zero exact whatever the runtime's exponential does far below zero
        node("Mul", &["softmax", "mask"], &["probabilities"], vec![]),
    ]
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let name = outputs.iter().find(|name| !name.is_empty()).map(|name| format!("make_{name}"));
    NodeProto {
        op_type: op.to_owned(),
        name: name.unwrap_or_default(),
        input: owned(inputs),
        output: owned(outputs),
        attribute,
        ..NodeProto::default()
    }
}

fn float_tensor(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn tensor_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(Value::DimValue(d as i64)), ..Dimension::default() };
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
