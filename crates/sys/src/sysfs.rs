//! Reading attributes: sysfs gives one value a file, with a newline at its end.

use crate::error::{Context, Result};
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// An attribute's text, trimmed; `None` when it is absent, unreadable (many attributes fail while a device is down) or empty.
pub(crate) fn text(dir: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(dir.join(name)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// An attribute that is a number.
pub(crate) fn number<T: FromStr>(dir: &Path, name: &str) -> Option<T> {
    text(dir, name)?.parse().ok()
}

/// An attribute that is `0` or `1`; an absent one counts as `0`.
pub(crate) fn flag(dir: &Path, name: &str) -> bool {
    number::<u8>(dir, name).is_some_and(|value| value != 0)
}

/// The names in a directory, sorted; an absent directory is empty.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).on("read directory", dir),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.on("read directory", dir)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The last component of where a link points to, e.g. the driver behind `device/driver`.
pub(crate) fn link_name(dir: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(dir.join(name)).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}
