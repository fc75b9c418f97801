//! The config reference, docs/config.md, from the schema.

use super::check::{Shape, is_any, resolve, type_name, words};
use super::{NodeConfig, format};
use serde_json::Value;

/// A real config, which the tests parse.
const EXAMPLE: &str = include_str!("../../../../tests/fixtures/config/good/full.yaml");

const INTRODUCTION: &str = "\
<!-- Generated from crates/spec/src/config; `TATARA_UPDATE_DOCS=1 cargo test -p tatara-spec --test docs` writes it anew. -->

# Config reference

One YAML file a node, at most 1 MiB, UTF-8. It is read strictly: an unknown key, a wrong type or a value that makes no sense is
refused with line and column, and nothing is written to the machine. Anchors, aliases, merge keys, tags and several
documents are refused; `true` and `false` are the only booleans. `tatara config check FILE…` says the same as a machine
would, `tatara config schema` prints the JSON Schema for editors.

Only `apiVersion`, `kind`, `metadata.name` and `install.release.url` must be there:

```yaml
apiVersion: tatara.dev/v1alpha1
kind: NodeConfig
metadata:
  name: node-1
install:
  release:
    url: release.json
```
";

/// The text of docs/config.md.
#[must_use]
pub fn reference() -> String {
    let root = NodeConfig::schema();
    let mut writer = Writer { root: &root, text: INTRODUCTION.to_owned() };
    writer.section(&root, "");
    writer.formats();
    writer.text.push_str(&format!("\n## An example with every key\n\n```yaml\n{EXAMPLE}```\n"));
    writer.text
}

struct Writer<'s> {
    root: &'s Value,
    text: String,
}

impl Writer<'_> {
    /// One table a mapping, then those of the mappings in it.
    fn section(&mut self, schema: &Value, path: &str) {
        let Some(properties) = schema["properties"].as_object() else { return };
        let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
        let head = "| key | type | default | meaning |\n|---|---|---|---|\n";
        self.text.push_str(&format!("\n## {title}\n\n{head}"));
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (key, property) in properties {
            let shape = resolve(self.root, property);
            let needed = required.iter().any(|name| name == key);
            let default = if needed { "**needed**".to_owned() } else { default(property) };
            let cells = [self.type_phrase(shape.schema), default, meaning(property, shape)]
                .map(|cell| cell.replace('|', "\\|"));
            self.text.push_str(&format!("| `{key}` | {} | {} | {} |\n", cells[0], cells[1], cells[2]));
        }
        for (key, property) in properties {
            let inner = resolve(self.root, property).schema;
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match type_name(inner) {
                "array" => self.section(resolve(self.root, &inner["items"]).schema, &format!("{path}[]")),
                _ => self.section(inner, &path),
            }
        }
    }

    fn type_phrase(&self, schema: &Value) -> String {
        if let Some(only) = schema["const"].as_str() {
            return format!("`{only}`");
        }
        if is_any(schema) {
            return "anything".to_owned();
        }
        let words = words(schema);
        if !words.is_empty() {
            return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        }
        match type_name(schema) {
            "array" => format!("list of {}", self.type_phrase(resolve(self.root, &schema["items"]).schema)),
            "object" if schema["properties"].is_object() => "mapping".to_owned(),
            "object" => format!("mapping of {}", self.type_phrase(&schema["additionalProperties"])),
            "integer" => range(schema),
            "boolean" => "`true`, `false`".to_owned(),
            _ => schema["format"]
                .as_str()
                .map_or_else(|| "text".to_owned(), |name| format!("[{name}](#formats)")),
        }
    }

    /// What each format expects, in the words of its own message.
    fn formats(&mut self) {
        self.text.push_str("\n## Formats\n\n| format | what is expected |\n|---|---|\n");
        for (name, check) in format::FORMATS {
            let expected = check(format::WRONG_FOR_ALL).err().unwrap_or_default();
            let expected = expected.trim_start_matches("expected ").replace('|', "\\|");
            self.text.push_str(&format!("| `{name}` | {expected} |\n"));
        }
    }
}

fn range(schema: &Value) -> String {
    match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => "whole number".to_owned(),
    }
}

/// The default, where it is a value that a person would write.
fn default(property: &Value) -> String {
    match &property["default"] {
        Value::String(text) if !text.is_empty() => format!("`{text}`"),
        value @ (Value::Bool(_) | Value::Number(_)) => format!("`{value}`"),
        _ => "–".to_owned(),
    }
}

/// The doc comment of the field, with those of an enumeration's words.
fn meaning(property: &Value, shape: Shape<'_>) -> String {
    let own = property["description"].as_str().or(shape.schema["description"].as_str()).unwrap_or_default();
    let mut text = own.replace('\n', " ");
    for choice in shape.schema["oneOf"].as_array().into_iter().flatten() {
        if let (Some(word), Some(description)) = (choice["const"].as_str(), choice["description"].as_str()) {
            text.push_str(&format!(" `{word}`: {}", description.replace('\n', " ")));
        }
    }
    text
}
