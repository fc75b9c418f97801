//! From the tree to JSON values, by the schema: it alone says whether `1` is a number or a text.
//!
//! YAML would decide by the look of a value. Here what [`super::check`] took for a text stays one as it was written, and
//! no second reading of the file can differ from the one that was checked.

use super::check::{is_any, resolve, type_name, words};
use super::tree::{Kind, Node};
use serde_json::{Map, Number, Value};

/// The values of `node`. What the schema does not allow becomes null: it was reported, and the types take it or not.
pub(super) fn value(root: &Value, schema: &Value, node: &Node) -> Value {
    let shape = resolve(root, schema);
    if shape.nullable && node.is_null() {
        return Value::Null;
    }
    let schema = shape.schema;
    if is_any(schema) {
        return any(node);
    }
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

/// A value whose type nobody names but its look: `true`, `false` and numbers without quotes, as YAML 1.2 and JSON have them, are what they
/// look like; everything else is a text.
fn any(node: &Node) -> Value {
    if node.is_null() {
        return Value::Null;
    }
    match &node.kind {
        Kind::Mapping(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), any(&entry.value))).collect())
        }
        Kind::Sequence(items) => items.iter().map(any).collect(),
        Kind::Scalar { text, plain: true } => match text.parse::<bool>() {
            Ok(word) => Value::Bool(word),
            Err(_) => number(text).map_or_else(|| Value::from(text.as_str()), Value::Number),
        },
        Kind::Scalar { text, .. } => Value::from(text.as_str()),
        Kind::Refused => Value::Null,
    }
}

/// A number that is written as it would be printed: `0644` and `1e3` are texts.
fn number(text: &str) -> Option<Number> {
    let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
    let number = whole.ok().or_else(|| text.parse().ok().and_then(Number::from_f64))?;
    (number.to_string() == text).then_some(number)
}
