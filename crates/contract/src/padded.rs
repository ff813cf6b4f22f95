//! Arrays by action, as an earlier version with fewer actions stored them: what is missing was not allowed, or not likely.

use serde::{Deserialize, Deserializer, de};

/// Reads an array; a shorter one is filled up with defaults.
///
/// # Errors
/// If there are more entries than the array has.
pub(crate) fn array<'de, D, T, const N: usize>(reader: D) -> Result<[T; N], D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + Copy,
{
    filled(Vec::deserialize(reader)?)
}

/// The same where there may be none.
///
/// # Errors
/// As [`array`].
pub(crate) fn option<'de, D, T, const N: usize>(reader: D) -> Result<Option<[T; N]>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + Copy,
{
    Option::<Vec<T>>::deserialize(reader)?.map(filled).transpose()
}

fn filled<T: Default + Copy, E: de::Error, const N: usize>(stored: Vec<T>) -> Result<[T; N], E> {
    if stored.len() > N {
        return Err(E::invalid_length(stored.len(), &"an entry for each action at most"));
    }
    let mut array = [T::default(); N];
    array[..stored.len()].copy_from_slice(&stored);
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Stored {
        #[serde(deserialize_with = "array")]
        mask: [bool; 4],
        #[serde(default, deserialize_with = "option")]
        probabilities: Option<[f32; 4]>,
    }

    #[test]
    fn a_shorter_array_is_filled_up_and_a_longer_one_is_refused() {
        let read = |json: &str| serde_json::from_str::<Stored>(json);
        let old = read(r#"{"mask": [true, true], "probabilities": [0.25, 0.75]}"#).unwrap();
        assert_eq!(old.mask, [true, true, false, false]);
        assert_eq!(old.probabilities, Some([0.25, 0.75, 0.0, 0.0]));
        assert_eq!(read(r#"{"mask": [true, true, true, true]}"#).unwrap().probabilities, None);
        assert!(read(r#"{"mask": [true, true, true, true, true]}"#).is_err());
    }
}
