//! What is wrong with a config, and where.

use crate::error::{Code, Fault};
use crate::redact;
use std::fmt;

/// A place in a text: line and column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    /// Where a text begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A fault in a text that does not know the file's name yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: Position,
    pub(super) message: String,
    pub(super) code: Code,
}

impl Problem {
    pub(super) fn syntax(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), code: Code::ConfigSyntax }
    }

    pub(super) fn invalid(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), code: Code::ConfigInvalid }
    }

    pub(super) fn version(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), code: Code::ConfigVersion }
    }
}

/// One fault of a config. Displays as `file:line:column: message`, the form that editors and CI understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The name that was given to [`super::parse`]: a path or a URL.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was found, what was expected, and the nearest thing known; one line.
    pub message: String,
    /// `E-CONFIG-SYNTAX`, `E-CONFIG-INVALID` or `E-CONFIG-VERSION`.
    pub code: Code,
}

impl Diagnostic {
    pub(super) fn new(file: &str, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            line: problem.at.line,
            column: problem.at.column,
            message: cut(problem.message),
            code: problem.code,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Longest message, in characters: a hint may repeat a value, and a value may be the whole file.
const MESSAGE_MAX_CHARS: usize = 500;

fn cut(message: String) -> String {
    match message.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}

/// All diagnostics of one config as the fault that a booting machine reports: the very lines of `tatara config check`,
/// under the most basic of their codes, syntax before content.
#[must_use]
pub fn to_fault(diagnostics: &[Diagnostic]) -> Fault {
    let code = diagnostics.iter().map(|diagnostic| diagnostic.code).min().unwrap_or(Code::ConfigInvalid);
    let lines: Vec<String> = diagnostics.iter().map(Diagnostic::to_string).collect();
    Fault::new(code, lines.join("\n"))
}

/// Longest value repeated in a message, in characters.
const QUOTE_MAX_CHARS: usize = 48;

/// A value in backticks, safe for a console: control characters escaped, long ones cut, secrets not shown.
pub(super) fn quote(value: &str) -> String {
    if value.is_empty() {
        return "empty".to_owned();
    }
    if holds_secret(value) {
        return "(not shown: it holds a secret)".to_owned();
    }
    let shown = if value.contains("://") { redact::url(value) } else { value.to_owned() };
    let mut text: String = shown
        .chars()
        .take(QUOTE_MAX_CHARS)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if shown.chars().nth(QUOTE_MAX_CHARS).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

/// A private key, or a URL with a password (RFC 3986, section 3.2.1).
fn holds_secret(value: &str) -> bool {
    let authority = value.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    value.contains("PRIVATE KEY") || authority.is_some_and(|authority| authority.contains('@'))
}

/// `` `a`, `b` or `c` ``.
pub(super) fn alternatives(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

/// Longest word that a nearest one is looked for, in bytes: the comparison is quadratic.
const NEAREST_MAX_BYTES: usize = 64;

/// The known word nearest to a mistyped one, if one is near: at most a third of its letters differ, or only the case.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > NEAREST_MAX_BYTES {
        return None;
    }
    let folded = word.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// ``; did you mean `x`?``, or nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
