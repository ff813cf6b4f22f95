//! Damaged and arbitrary bytes, and what reading them may cost.
//!
//! Deterministic and bounded: proptest draws from a fixed seed, so that a run of the tests is the same everywhere. The
//! tests beside this read events, records, manifests and policies: nothing panics, nothing takes memory out of all
//! proportion, and every error says something.

use std::fmt::Display;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// Peak of memory that reading may take for each byte of the input. A JSON number of one digit and a comma becomes a value
/// of 32 bytes in a vector that doubles, and is held twice while it does.
pub const BYTES_PER_BYTE: u64 = 64;

/// Peak of memory that reading may take whatever the input.
pub const BYTES_ALWAYS: u64 = 64 * 1024;

/// So many cases, the same in every run.
pub fn cases(cases: u32) -> Config {
    Config { rng_seed: RngSeed::Fixed(0x7715_ca1e), failure_persistence: None, ..Config::with_cases(cases) }
}

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Put(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index, usize),
    Again(prop::sample::Index, usize),
    End(prop::sample::Index),
}

/// What readers of numbers, text, nesting and lengths stumble over.
const ODD: [&[u8]; 22] = [
    b"0",
    b"-1",
    b"-0",
    b"1e999",
    b"-1e999",
    b"18446744073709551616",
    b"18446744073709551615",
    b"4294967296",
    b"0.1e-400",
    b"null",
    b"true",
    b"\"\"",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b"{\"a\":{\"a\":",
    b",",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
];

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        3 => (at(), 1u8..).prop_map(|(at, by)| Damage::Flip(at, by)),
        3 => (at(), prop::sample::select(&ODD[..])).prop_map(|(at, odd)| Damage::Put(at, odd.to_vec())),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, any)| Damage::Put(at, any)),
        2 => (at(), 1usize..40).prop_map(|(at, n)| Damage::Cut(at, n)),
        2 => (at(), 1usize..200).prop_map(|(at, n)| Damage::Again(at, n)),
        1 => at().prop_map(Damage::End),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let until = |at: usize, n: usize, len: usize| at.saturating_add(n).min(len);
    match damage {
        Damage::Flip(at, by) => {
            let at = at.index(bytes.len());
            bytes[at] ^= by;
        }
        Damage::Put(at, what) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, what.iter().copied());
        }
        Damage::Cut(at, n) => {
            let at = at.index(bytes.len());
            bytes.drain(at..until(at, *n, bytes.len()));
        }
        Damage::Again(at, n) => {
            let at = at.index(bytes.len());
            let again = bytes[at..until(at, *n, bytes.len())].to_vec();
            bytes.splice(at..at, again);
        }
        Damage::End(at) => bytes.truncate(at.index(bytes.len())),
    }
}

/// Valid bytes with one to six changes.
pub fn damaged(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(damage(), 1..7).prop_map(move |damages| {
        let mut bytes = valid.clone();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        bytes
    })
}

/// Bytes without any meaning, or with the letters of JSON only.
pub fn arbitrary() -> impl Strategy<Value = Vec<u8>> {
    let json = prop::sample::select(&b"{}[]\",:0123456789.eE+-truefalsn \\u"[..]);
    prop_oneof![prop::collection::vec(any::<u8>(), 0..600), prop::collection::vec(json, 0..600)]
}

/// Reads, and fails if that took memory out of proportion or an error says nothing; whether it was read.
///
/// # Panics
/// If so.
pub fn read<T, E: Display>(bytes: &[u8], always: u64, read: impl FnOnce(&[u8]) -> Result<T, E>) -> Option<T> {
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(read(bytes)));
    let allowed = always + BYTES_PER_BYTE * bytes.len() as u64;
    assert!(used.bytes_max <= allowed, "{} bytes of memory for {} bytes of input", used.bytes_max, bytes.len());
    match result.expect("it was called") {
        Ok(read) => Some(read),
        Err(error) => {
            let text = error.to_string();
            assert!(text.trim().len() > 3, "an error that says nothing: {text:?}");
            None
        }
    }
}
