//! Every key and value against the JSON Schema that is made from the config's types.
//!
//! Only what schemars makes of these types is understood: `$ref`, `anyOf` with null, `type`, `oneOf` of constants,
//! `properties`, `required`, `additionalProperties`, `propertyNames`, `items`, `minItems`, `minimum`, `maximum`, `format`,
//! `writeOnly`, and `true` for anything.
//! A test holds the two together.

use super::diagnostic::{Problem, alternatives, did_you_mean, nearest, quote};
use super::format;
use super::tree::{Entry, Kind, Node};
use serde_json::Value;

/// Pushes a problem for everything in `root` that the schema does not allow.
pub(super) fn check(schema: &Value, root: &Node, problems: &mut Vec<Problem>) {
    Checker { root: schema, problems }.value(schema, root, "");
}

/// A part of the schema with its references resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'s> {
    /// What the value must be.
    pub(super) schema: &'s Value,
    /// Whether it may be absent.
    pub(super) nullable: bool,
}

/// Follows `$ref` and the `anyOf` by which an optional structure is written.
pub(super) fn resolve<'s>(root: &'s Value, schema: &'s Value) -> Shape<'s> {
    if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return root
            .pointer(pointer)
            .map_or(Shape { schema, nullable: false }, |target| resolve(root, target));
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let present = choices.iter().find(|choice| choice["type"] != "null");
        let schema = present.map_or(schema, |choice| resolve(root, choice).schema);
        return Shape { schema, nullable: choices.iter().any(|choice| choice["type"] == "null") };
    }
    let nullable = schema["type"].as_array().is_some_and(|types| types.iter().any(|name| name == "null"));
    Shape { schema, nullable }
}

/// Whether anything may stand there.
pub(super) fn is_any(schema: &Value) -> bool {
    *schema == Value::Bool(true)
}

/// The name of the type that a value must have, null aside.
pub(super) fn type_name(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(types) => {
            types.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("")
        }
        other => other.as_str().unwrap_or(""),
    }
}

/// The words of an enumeration; empty for other types.
pub(super) fn words(schema: &Value) -> Vec<&str> {
    let choices = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    choices.iter().filter_map(|choice| choice["const"].as_str()).collect()
}

struct Checker<'s, 'p> {
    root: &'s Value,
    problems: &'p mut Vec<Problem>,
}

impl Checker<'_, '_> {
    fn value(&mut self, schema: &Value, node: &Node, path: &str) {
        let shape = resolve(self.root, schema);
        if matches!(node.kind, Kind::Refused) || (shape.nullable && node.is_null()) {
            return;
        }
        if is_any(shape.schema) {
            return;
        }
        let words = words(shape.schema);
        match (type_name(shape.schema), &node.kind) {
            _ if !words.is_empty() => self.word(&words, node, path),
            ("object", Kind::Mapping(entries)) => self.mapping(shape.schema, node, entries, path),
            ("array", Kind::Sequence(items)) => self.sequence(shape.schema, node, items, path),
            ("integer", Kind::Scalar { text, plain: true }) => self.integer(shape.schema, node, text, path),
            ("boolean", Kind::Scalar { text, plain: true }) if matches!(text.as_str(), "true" | "false") => {}
            ("boolean", Kind::Scalar { text, .. }) if !node.is_null() => self.not_boolean(node, text, path),
            ("string", Kind::Scalar { text, .. }) if !node.is_null() => {
                self.text(shape.schema, node, text, path);
            }
            (expected, _) => {
                let expected = type_phrase(expected);
                self.wrong(node, path, &format!("expected {expected}"));
            }
        }
    }

    fn mapping(&mut self, schema: &Value, node: &Node, entries: &[Entry], path: &str) {
        let Some(properties) = schema["properties"].as_object() else {
            return self.free_mapping(schema, entries, path);
        };
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut meant = Vec::new();
        for entry in entries {
            match properties.get(&entry.key) {
                Some(schema) => self.value(schema, &entry.value, &join(path, &entry.key)),
                None => meant.extend(self.unknown_key(entry, &known, path)),
            }
        }
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        for key in required.iter().filter_map(Value::as_str) {
            // A mistyped key is one fault, not two.
            if node.entry(key).is_none() && !meant.contains(&key) {
                self.problems.push(Problem::invalid(node.at, format!("missing key `{key}`{}", within(path))));
            }
        }
    }

    /// Reports an unknown key; the known one that was probably meant.
    fn unknown_key<'k>(&mut self, entry: &Entry, known: &[&'k str], path: &str) -> Option<&'k str> {
        let meant = nearest(&entry.key, known.iter().copied());
        let hint = match meant {
            Some(name) => format!("; did you mean `{name}`?"),
            None => format!("; expected {}", alternatives(known)),
        };
        let message = format!("unknown key {}{}{hint}", quote(&entry.key), within(path));
        self.problems.push(Problem::invalid(entry.at, message));
        meant
    }

    /// A mapping from names of the user's choice.
    fn free_mapping(&mut self, schema: &Value, entries: &[Entry], path: &str) {
        for entry in entries {
            if let Err(expected) = format::check(&schema["propertyNames"]["format"], &entry.key) {
                let message = format!("key {}{}; {expected}", quote(&entry.key), within(path));
                self.problems.push(Problem::invalid(entry.at, message));
            }
            self.value(&schema["additionalProperties"], &entry.value, &join(path, &entry.key));
        }
    }

    fn sequence(&mut self, schema: &Value, node: &Node, items: &[Node], path: &str) {
        for (index, item) in items.iter().enumerate() {
            self.value(&schema["items"], item, &format!("{path}[{index}]"));
        }
        if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
            self.problems
                .push(Problem::invalid(node.at, format!("`{path}` is empty; expected at least one item")));
        }
    }

    fn integer(&mut self, schema: &Value, node: &Node, text: &str, path: &str) {
        let (least, most) = bounds(schema);
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // A number with more digits than i128 has is out of every range, too.
        if !plain {
            self.wrong(node, path, &format!("expected a whole number from {least} to {most}"));
        } else if !text.parse::<i128>().is_ok_and(|number| (least..=most).contains(&number)) {
            self.wrong(node, path, &format!("expected a number from {least} to {most}"));
        }
    }

    fn not_boolean(&mut self, node: &Node, text: &str, path: &str) {
        let hint = match text.to_ascii_lowercase().as_str() {
            "yes" | "y" | "on" | "1" | "true" => "; did you mean `true`?",
            "no" | "n" | "off" | "0" | "false" => "; did you mean `false`?",
            _ => "",
        };
        self.wrong(node, path, &format!("expected `true` or `false`{hint}"));
    }

    fn word(&mut self, words: &[&str], node: &Node, path: &str) {
        let hint = match &node.kind {
            Kind::Scalar { text, .. } if words.contains(&text.as_str()) => return,
            Kind::Scalar { text, .. } => did_you_mean(text, words.iter().copied()),
            _ => String::new(),
        };
        self.wrong(node, path, &format!("expected {}{hint}", alternatives(words)));
    }

    fn text(&mut self, schema: &Value, node: &Node, text: &str, path: &str) {
        if let Err(expected) = format::check(&schema["format"], text) {
            if schema["writeOnly"] == true {
                self.problems.push(Problem::invalid(
                    node.at,
                    format!("`{path}` is wrong (not shown: it is a secret); {expected}"),
                ));
            } else {
                self.wrong(node, path, &expected);
            }
        }
    }

    /// `` `path` is FOUND; EXPECTED ``.
    fn wrong(&mut self, node: &Node, path: &str, expected: &str) {
        let found = match &node.kind {
            _ if node.is_null() => "empty".to_owned(),
            Kind::Scalar { text, plain: true } => quote(text),
            Kind::Scalar { text, plain: false } if !text.is_empty() => format!("the text {}", quote(text)),
            Kind::Scalar { .. } => "empty".to_owned(),
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(_) | Kind::Refused => "a mapping".to_owned(),
        };
        self.problems.push(Problem::invalid(node.at, format!("`{path}` is {found}; {expected}")));
    }
}

/// Least and largest value; where the schema says nothing, those of the type.
fn bounds(schema: &Value) -> (i128, i128) {
    let most = match schema["format"].as_str() {
        Some("uint32") => i128::from(u32::MAX),
        _ => i128::from(u64::MAX),
    };
    let least = schema["minimum"].as_u64().map_or(0, i128::from);
    (least, schema["maximum"].as_u64().map_or(most, i128::from))
}

/// A type of JSON Schema in words.
fn type_phrase(name: &str) -> &str {
    match name {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "`true` or `false`",
        _ => "another type",
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn within(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" in `{path}`") }
}
