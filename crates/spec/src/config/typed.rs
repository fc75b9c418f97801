//! From the tree to JSON values, by the schema: it alone says whether `1` is a number or a text.
//!
//! YAML would decide by the look of a value. Here what [`super::check`] took for a text stays one as it was written, and
//! no second reading of the file can differ from the one that was checked.

use super::check::{resolve, type_name, words};
use super::tree::{Kind, Node};
use serde_json::{Map, Value};

/// The values of `node`. What the schema does not allow becomes null: it was reported, and the types take it or not.
pub(super) fn value(root: &Value, schema: &Value, node: &Node) -> Value {
    let shape = resolve(root, schema);
    if shape.nullable && node.is_null() {
        return Value::Null;
    }
    let schema = shape.schema;
    match (type_name(schema), &node.kind) {
        ("object", Kind::Mapping(entries)) => {
            let of_key = |key: &str| schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
            let fields = entries.iter().map(|entry| {
                let field = value(root, of_key(&entry.key), &entry.value);
                (entry.key.clone(), field)
            });
            Value::Object(Map::from_iter(fields))
        }
        ("array", Kind::Sequence(items)) => {
            items.iter().map(|item| value(root, &schema["items"], item)).collect()
        }
        ("integer", Kind::Scalar { text, plain: true }) => {
            text.parse::<u64>().map_or(Value::Null, Value::from)
        }
        ("boolean", Kind::Scalar { text, plain: true }) => {
            text.parse::<bool>().map_or(Value::Null, Value::from)
        }
        ("string", Kind::Scalar { text, .. }) => Value::from(text.as_str()),
        (_, Kind::Scalar { text, .. }) if !words(schema).is_empty() => Value::from(text.as_str()),
        _ => Value::Null,
    }
}
