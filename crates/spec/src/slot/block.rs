//! GRUB's environment block as bytes.
//!
//! Source: GRUB manual, section "The GRUB environment block", and `grub-core/lib/envblk.c`: a signature line, lines
//! `NAME=VALUE` in which a backslash goes before each backslash and newline of the value, and `#` up to 1024 bytes.

use super::{BootEnv, GRUBENV_BYTES, Slot, TRIAL_BOOTS, Trial};
use thiserror::Error;

const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";

/// Longest request that always leaves room for the other variables, in bytes after escaping.
const REQUEST_BYTES: usize = 900;

/// A block that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvError {
    /// The file has the wrong length.
    #[error("GRUB environment block of {0} bytes; expected {GRUBENV_BYTES}")]
    Length(usize),
    /// The first line is not GRUB's.
    #[error("not a GRUB environment block: its first line is wrong")]
    Signature,
    /// There is no usable `slot`.
    #[error("GRUB environment block without a usable `slot` (found `{0}`)")]
    Slot(String),
}

impl BootEnv {
    /// Reads a block as GRUB and grub.cfg read it: unknown variables are ignored, a count that grub.cfg does not know is 0.
    ///
    /// # Errors
    /// [`EnvError`]: a wrong length or signature, or no slot.
    pub fn parse(block: &[u8]) -> Result<Self, EnvError> {
        if block.len() != GRUBENV_BYTES {
            return Err(EnvError::Length(block.len()));
        }
        let body = block.strip_prefix(SIGNATURE).ok_or(EnvError::Signature)?;
        let variables = variables(body);
        let get = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let slot = get("slot").unwrap_or_default();
        let slot = slot.parse().map_err(|_| EnvError::Slot(slot.to_owned()))?;
        let boots_left = get("boots_left").and_then(|text| text.parse().ok()).filter(|n| *n <= TRIAL_BOOTS);
        let trial = get("trial").and_then(|text| text.parse::<Slot>().ok());
        Ok(Self {
            slot,
            trial: trial.map(|slot| Trial { slot, boots_left: boots_left.unwrap_or(0) }),
            request: get("request").filter(|text| !text.is_empty()).map(str::to_owned),
        })
    }

    /// Writes the block. A request too long for it is left out whole: half an argument would mean something else.
    #[must_use]
    pub fn to_block(&self) -> [u8; GRUBENV_BYTES] {
        let mut bytes = SIGNATURE.to_vec();
        let mut add =
            |name: &str, value: &str| bytes.extend(format!("{name}={}\n", escaped(value)).into_bytes());
        add("slot", &self.slot.to_string());
        if let Some(trial) = self.trial {
            add("trial", &trial.slot.to_string());
            add("boots_left", &trial.boots_left.min(TRIAL_BOOTS).to_string());
        }
        if let Some(request) = self.request.as_deref().filter(|text| escaped(text).len() <= REQUEST_BYTES) {
            add("request", request);
        }
        bytes.resize(GRUBENV_BYTES, b'#');
        let mut block = [b'#'; GRUBENV_BYTES];
        block.copy_from_slice(&bytes);
        block
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\\n")
}

/// The variables in order. A line that begins with `#` is a comment, and so is the filling.
fn variables(mut body: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some(first) = body.first() {
        if *first == b'#' {
            let line = body.iter().position(|b| *b == b'\n').map_or(body.len(), |end| end + 1);
            body = &body[line..];
            continue;
        }
        let (line, rest) = unescaped_line(body);
        body = rest;
        if let Some((name, value)) = line.split_once('=') {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}

/// One line with its escapes undone, and what follows its newline. Bytes that are not UTF-8 are replaced: no value of ours
/// has any.
fn unescaped_line(body: &[u8]) -> (String, &[u8]) {
    let mut line = Vec::new();
    let mut bytes = body.iter().enumerate();
    while let Some((i, byte)) = bytes.next() {
        match byte {
            b'\n' => return (String::from_utf8_lossy(&line).into_owned(), &body[i + 1..]),
            b'\\' => line.extend(bytes.next().map(|(_, escaped)| *escaped)),
            other => line.push(*other),
        }
    }
    (String::from_utf8_lossy(&line).into_owned(), &[])
}
