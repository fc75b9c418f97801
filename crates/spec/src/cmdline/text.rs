//! Text work of the command line: words, quotes, percent-encoding, the nearest name.

use crate::error::{Code, Fault};
use crate::redact;

/// Longest command line that x86 kernels take, in bytes without the final NUL (`COMMAND_LINE_SIZE`,
/// `arch/x86/include/asm/setup.h`); what is beyond is cut off silently.
const COMMAND_LINE_BYTES: usize = 2047;

/// Splits at white space outside double quotes and removes the quotes, as the kernel does (`lib/cmdline.c`, next_arg).
/// A quote that is never closed reaches to the end.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        if c == '"' {
            quoted = !quoted;
        } else if !quoted && (c.is_ascii_whitespace() || c == '\x0b') {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The reverse of [`split`]: one line, values with white space in double quotes.
///
/// # Errors
/// [`Code::CmdlineBad`] when an argument is empty, holds a double quote or a control character (the kernel knows no escape),
/// or the line is longer than the kernel takes.
pub fn join(args: &[String]) -> Result<String, Fault> {
    let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect::<Result<_, _>>()?;
    let line = words.join(" ");
    if line.len() > COMMAND_LINE_BYTES {
        let why =
            format!("kernel command line of {} bytes; the kernel takes {COMMAND_LINE_BYTES}", line.len());
        return Err(Fault::new(Code::CmdlineBad, why));
    }
    Ok(line)
}

fn quoted(arg: &str) -> Result<String, Fault> {
    if arg.is_empty() || arg.contains(|c: char| c == '"' || c.is_control()) {
        let why = format!(
            "kernel argument {arg:?}: it may not be empty, nor hold a double quote or control character"
        );
        return Err(Fault::new(Code::CmdlineBad, why));
    }
    Ok(match arg.split_once('=') {
        _ if !arg.contains(' ') => arg.to_owned(),
        Some((name, value)) if !name.contains(' ') => format!("{name}=\"{value}\""),
        _ => format!("\"{arg}\""),
    })
}

/// Percent-encodes everything but RFC 3986's unreserved characters and `:`, which a path segment may hold and MACs need.
pub(super) fn percent_encoded(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:".contains(&b);
    let encode = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    value.bytes().map(encode).collect()
}

/// Says that a name is unknown, and which known one is nearest, or all of them when none is near.
pub(super) fn unknown(what: &str, prefix: &str, found: &str, known: &[&str]) -> String {
    let found = &redact::url(found);
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(found, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 2.max(name.len() / 3) => {
            format!("unknown {what} `{prefix}{found}`; did you mean `{prefix}{name}`?")
        }
        _ => format!("unknown {what} `{prefix}{found}`; known are {}", known.join(", ")),
    }
}
