//! Measures a policy file before it is decoded.
//!
//! Decoding makes a hundred bytes of memory and more out of two, an empty message; a file within its size limit could take
//! gigabytes. All that is large in a policy are its weights, and their memory is what they have in the file. So the rest is
//! limited, and measured in the wire format itself (protobuf's "Encoding"), without making anything of it.

/// Fields on the way to a weight's bytes: the model's graph, its initialisers, and their raw data.
const TO_WEIGHTS: [u64; 3] = [7, 5, 9];

/// Bytes of a model that are not a weight's; none if it is no sound message as far as that takes to see.
pub fn bytes_besides_weights(model: &[u8]) -> Option<usize> {
    let mut weights = 0;
    for graph in sub_messages(model, TO_WEIGHTS[0])? {
        for tensor in sub_messages(graph, TO_WEIGHTS[1])? {
            weights += sub_messages(tensor, TO_WEIGHTS[2])?.map(<[u8]>::len).sum::<usize>();
        }
    }
    Some(model.len() - weights)
}

/// The contents of all fields with this number that have a length, if the message is sound.
fn sub_messages(message: &[u8], number: u64) -> Option<impl Iterator<Item = &[u8]>> {
    let mut rest = message;
    while !rest.is_empty() {
        rest = Field::first_of(rest)?.after;
    }
    let mut rest = message;
    let fields = std::iter::from_fn(move || {
        let field = Field::first_of(rest)?;
        rest = field.after;
        Some(field)
    });
    Some(fields.filter(move |field| field.number == number).filter_map(|field| field.content))
}

/// A field of a message.
struct Field<'a> {
    number: u64,
    /// Its content, if it has a length.
    content: Option<&'a [u8]>,
    /// What follows it.
    after: &'a [u8],
}

impl<'a> Field<'a> {
    fn first_of(message: &'a [u8]) -> Option<Self> {
        let (key, rest) = varint(message)?;
        let (content, after) = match key & 7 {
            0 => (None, varint(rest)?.1),
            1 => (None, rest.get(8..)?),
            2 => {
                let (len, rest) = varint(rest)?;
                let (content, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                (Some(content), after)
            }
            5 => (None, rest.get(4..)?),
            // Groups are no part of ONNX.
            _ => return None,
        };
        Some(Self { number: key >> 3, content, after })
    }
}

/// A number of at most ten bytes of seven bits, lowest first.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_raw_data_of_a_graphs_initialisers_counts_as_weights() {
        // ir_version 8; a graph of nine bytes: an initialiser with a name of one byte and raw data of two.
        let model = [0x08, 8, 0x3a, 9, 0x2a, 7, 0x42, 1, b'w', 0x4a, 2, 1, 2];
        assert_eq!(bytes_besides_weights(&model), Some(model.len() - 2));
        // The same bytes in another field than the graph.
        let mut other = model;
        other[2] = 0x42;
        assert_eq!(bytes_besides_weights(&other), Some(model.len()));
        assert_eq!(bytes_besides_weights(&[]), Some(0));
    }

    #[test]
    fn what_is_no_sound_message_is_none() {
        for broken in
            [&[0x3a][..], &[0x3a, 5, 0], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x0b], &[0xff; 11], &[0x09, 1]]
        {
            assert_eq!(bytes_besides_weights(broken), None, "{broken:?}");
        }
        assert_eq!(bytes_besides_weights(&[0x3a, 1, 0x2a]), None, "a graph that is cut short");
    }

    #[test]
    fn numbers_are_read_as_protobuf_writes_them() {
        assert_eq!(varint(&[0x96, 0x01, 7]), Some((150, &[7][..])));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Some((u64::MAX, &[][..])));
        assert_eq!(varint(&[0x80]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(bytes_besides_weights(&bytes).is_none_or(|n| n <= bytes.len()));
        }
    }
}
