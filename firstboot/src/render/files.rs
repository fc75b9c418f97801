//! `files`: further files below /etc, as they are.

use super::{Rendered, fault};
use tatara_spec::Fault;
use tatara_spec::config::FileEntry;

pub(super) fn render(files: &[FileEntry]) -> Result<Vec<Rendered>, Fault> {
    files.iter().map(file).collect()
}

fn file(entry: &FileEntry) -> Result<Rendered, Fault> {
    let path = entry.path.as_str();
    let inside = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if !path.strip_prefix("/etc/").is_some_and(|rest| rest.split('/').all(inside)) {
        return Err(fault(format!("files: {path:?} is not an absolute path of a file below /etc")));
    }
    let mode = entry.mode.as_deref().map_or(Ok(0o644), |text| parse_mode(path, text))?;
    Ok(Rendered::file(path, mode, entry.content.as_str()))
}

fn parse_mode(path: &str, text: &str) -> Result<u32, Fault> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(mode),
        _ => Err(fault(format!("files: mode {text:?} of {path} is not octal between 0 and 0777"))),
    }
}
