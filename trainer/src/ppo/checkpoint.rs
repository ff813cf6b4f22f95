//! The file format of checkpoints: a mark with the version, the length of a JSON header, the header, then rows of numbers as
//! 32-bit little endian floats. The header has the hash of what follows it and the schema that it was trained with.

use contract::schema::{schema_hash, sha256_hex};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::TrainError;

/// The first bytes of the file.
const MAGIC: &[u8; 8] = b"TWSCALE2";
/// Rows at most, and numbers in a row: far more than any network of ours has.
const LIMITS: (usize, usize) = (16, 1 << 26);

#[derive(Serialize, Deserialize)]
struct Header<H> {
    /// What the caller wants to know.
    about: H,
    /// Lengths of the rows.
    rows: Vec<usize>,
    schema_hash: String,
    sha256: String,
}

/// The file of these rows.
pub(super) fn write(about: &impl Serialize, rows: &[&[f32]]) -> Vec<u8> {
    let numbers: Vec<u8> = rows.iter().flat_map(|row| row.iter()).flat_map(|x| x.to_le_bytes()).collect();
    let header = Header {
        about,
        rows: rows.iter().map(|row| row.len()).collect(),
        schema_hash: schema_hash().to_owned(),
        sha256: sha256_hex(&numbers),
    };
    let header = serde_json::to_vec(&header).expect("plain numbers and strings have a JSON form");
    let length = (header.len() as u32).to_le_bytes();
    [MAGIC.as_slice(), &length, &header, &numbers].concat()
}

/// What a file holds.
///
/// # Errors
/// If it is no checkpoint, is cut off or changed, or belongs to another schema.
pub(super) fn read<H: DeserializeOwned>(bytes: &[u8]) -> Result<(H, Vec<Vec<f32>>), TrainError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("it does not begin with TWSCALE2"))?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| bad("it is cut off"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (header, numbers) = rest.split_at_checked(length).ok_or_else(|| bad("it is cut off"))?;
    let header: Header<H> = serde_json::from_slice(header).map_err(|e| bad(&format!("its header is bad: {e}")))?;
    if header.schema_hash != schema_hash() {
        return Err(bad("it was trained with another schema"));
    }
    if sha256_hex(numbers) != header.sha256 {
        return Err(bad("its numbers do not have the hash of its header"));
    }
    let fits = header.rows.len() <= LIMITS.0 && header.rows.iter().all(|&n| n <= LIMITS.1);
    if !fits || 4 * header.rows.iter().sum::<usize>() != numbers.len() {
        return Err(bad("it has another number of weights than its header says"));
    }
    let mut numbers = numbers.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let rows = header.rows.iter().map(|&n| numbers.by_ref().take(n).collect()).collect();
    Ok((header.about, rows))
}

/// The error of a checkpoint.
pub(super) fn bad(reason: &str) -> TrainError {
    TrainError::Checkpoint(reason.to_owned())
}
