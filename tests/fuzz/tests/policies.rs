//! Policy files through the whole loader, under a manifest that names them: the hash is no protection against whoever
//! wrote both.

use contract::manifest::{Golden, MANIFEST_VERSION, Manifest};
use contract::schema::sha256_hex;
use contract::{ACTION_COUNT, FEATURE_COUNT, schema_hash};
use fuzz::{arbitrary, cases, damaged, read};
use policy::format::{self, Layers};
use policy::{Policy, PolicyError};
use proptest::prelude::*;

const CELLS: usize = 3;
/// Memory that a sound policy of this size is planned in, with room.
const PLAN_BYTES: u64 = 4 * 1024 * 1024;

fn sound() -> Vec<u8> {
    let numbers = |n: usize| (0..n).map(|i| (i % 7) as f32 / 7.0 - 0.5).collect::<Vec<f32>>();
    let layers = Layers {
        cells: CELLS,
        lstm_w: numbers(4 * CELLS * FEATURE_COUNT),
        lstm_r: numbers(4 * CELLS * CELLS),
        lstm_b: numbers(8 * CELLS),
        logits_w: numbers(CELLS * ACTION_COUNT),
        logits_b: numbers(ACTION_COUNT),
        value_w: numbers(CELLS),
        value_b: numbers(1),
    };
    format::write(&layers, "fuzz", &[(format::SCHEMA_HASH, schema_hash())]).unwrap()
}

/// A manifest that names the bytes. Its golden step is wrong, so that what loads has come all the way to it.
fn manifest(onnx: &[u8], lstm_cells: usize) -> Manifest {
    let golden = Golden {
        features: vec![0.5; FEATURE_COUNT],
        mask: [true; ACTION_COUNT],
        probabilities: [2.0; ACTION_COUNT],
        value: 0.0,
    };
    Manifest {
        version: MANIFEST_VERSION,
        sha256: sha256_hex(onnx),
        onnx_bytes: onnx.len() as u64,
        schema_hash: schema_hash().to_owned(),
        lstm_cells,
        machines_per_action_max: 4,
        parent: None,
        settings: Default::default(),
        evaluation: Default::default(),
        golden: vec![golden],
    }
}

fn load(bytes: &[u8], cells: usize) -> Result<Policy, PolicyError> {
    Policy::load(bytes, &manifest(bytes, cells))
}

fn refused(bytes: &[u8], cells: usize) {
    assert!(read(bytes, PLAN_BYTES, |bytes| load(bytes, cells)).is_none());
}

/// A field of the wire format: a number, and bytes of a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(bytes);
    out
}

#[test]
fn the_policy_is_sound_up_to_its_golden_step() {
    assert!(matches!(load(&sound(), CELLS), Err(PolicyError::Golden { step: 0, .. })));
}

/// Two bytes make an empty message, and that takes hundreds of bytes of memory.
#[test]
fn many_empty_messages_take_memory_in_proportion() {
    const GRAPH: u8 = 7;
    let empty = |number: u8| field(number, &[]).repeat(500_000);
    // As many as are still decoded.
    refused(&field(GRAPH, &field(1, &[]).repeat(format::OTHER_BYTES_MAX / 2 - 4)), CELLS);
    for of_graph in [1u8, 5, 11, 12, 13, 14, 15] {
        refused(&field(GRAPH, &empty(of_graph)), CELLS);
        refused(&[sound(), field(GRAPH, &empty(of_graph))].concat(), CELLS);
    }
    for of_model in [8u8, 14] {
        refused(&empty(of_model), CELLS);
    }
    let of_node = |number: u8| field(GRAPH, &field(1, &empty(number)));
    let of_tensor = |number: u8| field(GRAPH, &field(5, &empty(number)));
    for number in [1u8, 5] {
        refused(&of_node(number), CELLS);
        refused(&of_tensor(number), CELLS);
    }
}

#[test]
fn deep_nesting_and_lengths_that_are_not_there_are_refused() {
    let mut nested = Vec::new();
    for _ in 0..2000 {
        // A graph in an attribute of a node of a graph.
        nested = field(1, &field(5, &field(6, &nested)));
    }
    refused(&field(7, &nested), CELLS);
    refused(b"\x3a\xff\xff\xff\xff\x0f", CELLS);
    refused(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", CELLS);
}

proptest! {
    #![proptest_config(cases(800))]

    #[test]
    fn a_damaged_policy(bytes in damaged(sound())) {
        refused(&bytes, CELLS);
    }

    #[test]
    fn a_policy_under_any_number_of_cells(bytes in damaged(sound()), cells: usize) {
        prop_assume!(cells != CELLS);
        refused(&bytes, cells);
        refused(&sound(), cells);
    }

    #[test]
    fn arbitrary_bytes(bytes in arbitrary()) {
        refused(&bytes, CELLS);
    }
}
