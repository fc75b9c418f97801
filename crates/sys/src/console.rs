//! The kernel's consoles: /proc/consoles (Documentation/filesystems/proc.rst) and their device nodes.

use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::path::Path;

/// Names of the consoles in use, e.g. `ttyS0`, in the kernel's order; boot consoles (flag `B`), which have no device, left out.
///
/// # Errors
/// When `consoles` below `proc` cannot be read.
pub fn list(proc: &Path) -> Result<Vec<String>> {
    let path = proc.join("consoles");
    let text = std::fs::read_to_string(&path).on("read", &path)?;
    Ok(text.lines().filter_map(parse_line).collect())
}

/// `ttyS0                -W- (EC p a)    4:64`
fn parse_line(line: &str) -> Option<String> {
    let name = line.split_whitespace().next()?;
    let flags = line.split_once('(')?.1.split_once(')')?.0;
    (flags.contains('E') && !flags.contains('B')).then(|| name.to_owned())
}

/// Opens a console for writing; it never becomes the controlling terminal, and a write never waits.
///
/// # Errors
/// What open(2) says.
pub fn open(device: &Path) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(device, flags, Mode::empty()).map(File::from).on("open", device)
}

/// Opens a console to read what is typed there; it never becomes the controlling terminal, and a read never waits.
///
/// # Errors
/// What open(2) says.
pub fn open_to_read(device: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(device, flags, Mode::empty()).map(File::from).on("open", device)
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn enabled_consoles_with_a_device_are_listed() {
        let proc = tempfile::tempdir().unwrap();
        let text = "tty0                 -WU (EC p  )    4:1\n\
                    ttyS0                -W- (E  p a)    4:64\n\
                    earlyser0            -W- (E B   )\n\
                    netcon0              -W- (   p  )\n";
        std::fs::write(proc.path().join("consoles"), text).unwrap();
        assert_eq!(list(proc.path()).unwrap(), ["tty0", "ttyS0"]);
    }

    #[test]
    fn without_the_file_the_error_names_it() {
        let proc = tempfile::tempdir().unwrap();
        let error = list(proc.path()).unwrap_err();
        assert!(error.object.ends_with("/consoles"), "{}", error.object);
    }
}
