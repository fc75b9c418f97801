//! The config's YAML as a tree in which every key and value knows its position.
//!
//! The only reading of the text: positions, checks and values cannot disagree. What makes YAML
//! surprising is refused here: anchors, aliases, merge keys, tags, duplicate keys, several documents.

use super::diagnostic::{Position, Problem, quote};
use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, options};
use std::collections::HashMap;

/// A value.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A scalar; `plain` when it stands without quotes and not as a block.
    Scalar { text: String, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the text.
    Mapping(Vec<Entry>),
    /// Something that was already reported: fits anything.
    Refused,
}

/// One entry of a mapping.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) value: Node,
}

impl Node {
    /// An absent value: nothing after the colon, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The entry of a mapping with this key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The position of a value by its path, `network.interfaces.0.name`; where the path ends early, that of the
    /// nearest one above it.
    pub(super) fn position(&self, path: &str) -> Position {
        let mut node = self;
        for step in path.split('.') {
            let next = match &node.kind {
                Kind::Sequence(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => node.entry(step).map(|entry| &entry.value),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }
}

/// Deepest nesting; a NodeConfig needs six levels.
const DEPTH_MAX: usize = 32;

/// Most items of one list and entries of one mapping; a large cluster's node has some dozens. What compares each with each stays
/// a matter of milliseconds.
const ITEMS_MAX: usize = 1000;

/// Reads one YAML document.
///
/// Problems that do not hide the rest of the text are pushed to `problems`; the others end the reading.
pub(super) fn read(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    // Another crate of the same build may have asked the parser to tell comments: the option holds whatever its features are.
    let options = options! { emit_comments: false };
    let mut reader = Reader { events: Parser::new_from_str_with_options(text, options), problems };
    let node = loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd => {
                return Err(Problem::syntax(Position::START, "the file is empty; expected a NodeConfig"));
            }
            other => break reader.node(&other, &span, 0)?,
        }
    };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(node),
            _ => {
                return Err(Problem::syntax(
                    position(&span.start),
                    "a second document begins; expected one NodeConfig a file",
                ));
            }
        }
    }
}

struct Reader<'t, 'p> {
    events: Parser<'t, StrInput<'t>>,
    problems: &'p mut Vec<Problem>,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = position(error.marker());
                Err(Problem::syntax(at, format!("not valid YAML: {}", error.info())))
            }
            None => Err(Problem::syntax(Position::START, "not valid YAML: the text ends early")),
        }
    }

    fn node(&mut self, event: &Event<'t>, span: &Span, depth: usize) -> Result<Node, Problem> {
        let at = position(&span.start);
        if depth > DEPTH_MAX {
            return Err(Problem::syntax(at, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.refuse_properties(event, span);
        let kind = match event {
            Event::Scalar(text, style, ..) => {
                Kind::Scalar { text: text.to_string(), plain: *style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => Kind::Sequence(self.items(depth)?),
            Event::MappingStart(..) => Kind::Mapping(self.entries(depth)?),
            Event::Alias(_) => {
                self.problems
                    .push(Problem::syntax(at, "aliases (`*name`) are not allowed; write the value out"));
                Kind::Refused
            }
            _ => return Err(Problem::syntax(at, "not valid YAML: a value is missing")),
        };
        Ok(Node { at, kind })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            refuse_more(items.len(), "items in one list", &span)?;
            items.push(self.node(&event, &span, depth + 1)?);
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        for count in 0.. {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            refuse_more(count, "keys in one mapping", &span)?;
            let key = self.node(&event, &span, depth + 1)?;
            let (event, span) = self.next()?;
            let mut value = self.node(&event, &span, depth + 1)?;
            let at = key.at;
            if value.is_null() {
                // An absent value has no place of its own that a person would look at.
                value.at = at;
            }
            let Some(key) = self.key(key) else { continue };
            if let Some(line) = lines.insert(key.clone(), at.line) {
                self.problems.push(Problem::syntax(
                    at,
                    format!("duplicate key {}; it is already on line {line}", quote(&key)),
                ));
                continue;
            }
            entries.push(Entry { key, at, value });
        }
        Ok(entries)
    }

    /// The text of a key, or `None` after a report.
    fn key(&mut self, key: Node) -> Option<String> {
        match key.kind {
            Kind::Scalar { text, plain: true } if text == "<<" => {
                self.problems
                    .push(Problem::syntax(key.at, "merge keys (`<<`) are not allowed; write the keys out"));
                None
            }
            Kind::Scalar { text, .. } => Some(text),
            Kind::Refused => None,
            Kind::Sequence(_) | Kind::Mapping(_) => {
                self.problems.push(Problem::syntax(key.at, "a key is a list or a mapping; expected a word"));
                None
            }
        }
    }

    fn refuse_properties(&mut self, event: &Event<'t>, span: &Span) {
        let (anchor, tag) = match event {
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag),
            Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag) => (*anchor, tag),
            _ => return,
        };
        let at = position(&span.start);
        if anchor != 0 {
            self.problems.push(Problem::syntax(
                at,
                "anchors (`&name`) are not allowed; write the value out where it is needed",
            ));
        }
        if tag.is_some() {
            let at = span.tag_start.as_ref().map_or(at, position);
            self.problems.push(Problem::syntax(at, "tags (`!name`) are not allowed"));
        }
    }
}

fn refuse_more(count: usize, of: &str, span: &Span) -> Result<(), Problem> {
    if count < ITEMS_MAX {
        return Ok(());
    }
    Err(Problem::syntax(position(&span.start), format!("more than {ITEMS_MAX} {of}")))
}

/// The parser counts columns from 0.
fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}
