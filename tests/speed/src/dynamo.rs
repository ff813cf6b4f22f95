//! Items as DynamoDB holds them, and the units that it charges for reading and writing them on demand.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A record as an item.
pub fn item(record: &impl Serialize) -> Value {
    attributes(&serde_json::to_value(record).expect("plain data"))
}

/// An object as an item.
pub fn attributes(object: &Value) -> Value {
    let fields = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    Value::Object(fields.map(|(name, value)| (name.clone(), attribute(value))).collect::<Map<_, _>>())
}

fn attribute(value: &Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(b) => json!({"BOOL": b}),
        Value::Number(n) => json!({"N": n.to_string()}),
        Value::String(s) => json!({"S": s}),
        Value::Array(values) => json!({"L": values.iter().map(attribute).collect::<Vec<_>>()}),
        Value::Object(_) => json!({"M": attributes(value)}),
    }
}

/// Units charged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Units {
    /// Read request units.
    pub read: f64,
    /// Write request units.
    pub written: f64,
}

impl Units {
    /// Adds those of one call: a unit for every 4 KB read (half of one if not consistently) and every 1 KB written, and
    /// one at least.
    pub fn add(&mut self, operation: &str, is_consistent: bool, bytes: usize) {
        let units = |each: usize| bytes.div_ceil(each).max(1) as f64;
        match operation {
            "GetItem" | "Query" => self.read += units(4096) * if is_consistent { 1.0 } else { 0.5 },
            _ => self.written += units(1024),
        }
    }
}

/// A row: an item as it goes over the wire, and its size in the table. Made once, so that answers are given at once.
#[derive(Clone, Debug)]
pub struct Row {
    pub json: String,
    pub bytes: usize,
}

impl Row {
    /// Of an item.
    pub fn of(item: &Value) -> Self {
        Self { json: item.to_string(), bytes: bytes(item) }
    }
}

/// An item's size by the developer guide's rules ("item sizes and formats").
fn bytes(item: &Value) -> usize {
    item.as_object().into_iter().flatten().map(|(name, attribute)| name.len() + value_bytes(attribute)).sum()
}

fn value_bytes(attribute: &Value) -> usize {
    let Some((kind, value)) = attribute.as_object().and_then(|of| of.iter().next()) else { return 0 };
    match kind.as_str() {
        "N" => value.as_str().unwrap_or_default().bytes().filter(u8::is_ascii_digit).count().div_ceil(2) + 1,
        "S" => value.as_str().unwrap_or_default().len(),
        "L" => 3 + value.as_array().into_iter().flatten().map(|value| 1 + value_bytes(value)).sum::<usize>(),
        "M" => 3 + bytes(value) + value.as_object().map_or(0, Map::len),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the developer guide: two digits a byte and one more; three bytes and one an element for a list or a map.
    #[test]
    fn sizes_are_names_and_values() {
        let row = |record: &Value| Row::of(&item(record)).bytes;
        assert_eq!(row(&json!({"ab": 123})), 2 + 3);
        assert_eq!(row(&json!({"ab": "xyz", "gone": null})), 2 + 3);
        assert_eq!(row(&json!({"a": [1, 2], "b": {"c": true}})), (1 + 3 + 2 * (1 + 2)) + (1 + 3 + (1 + 1 + 1)));
    }

    #[test]
    fn units_are_begun_blocks_and_half_if_not_consistent() {
        let mut units = Units::default();
        units.add("GetItem", true, 0);
        units.add("Query", true, 4097);
        units.add("Query", false, 100);
        units.add("PutItem", false, 1025);
        assert_eq!((units.read, units.written), (1.0 + 2.0 + 0.5, 2.0));
    }
}
