//! Memory of the machine, and files in memory.

use crate::error::{Context, Error, Result};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::path::Path;

/// A file in memory (memfd_create(2)); `name` is only for debugging.
///
/// # Errors
/// What memfd_create(2) says.
pub fn memfd(name: &str) -> Result<File> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).of("memfd_create", name)?;
    Ok(File::from(fd))
}

/// Memory in bytes, from /proc/meminfo (proc_meminfo(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `MemTotal`: usable memory, the kernel's own not counted.
    pub total: u64,
    /// `MemAvailable`: what can be used without swapping.
    pub available: u64,
}

/// Reads `meminfo` below `proc`.
///
/// # Errors
/// When the file cannot be read or lacks a line.
pub fn memory(proc: &Path) -> Result<Memory> {
    let path = proc.join("meminfo");
    let text = std::fs::read_to_string(&path).on("read", &path)?;
    let field = |name: &str| {
        kibibytes(&text, name).ok_or_else(|| {
            let cause = io::Error::new(io::ErrorKind::InvalidData, format!("no {name} line"));
            Error::new("read", path.display().to_string(), cause)
        })
    };
    Ok(Memory { total: field("MemTotal")?, available: field("MemAvailable")? })
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{kibibytes, memfd, memory};
    use std::io::{Read, Seek, Write};

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:         482300 kB\nMemFree:  1 kB\nMemAvailable:     400000 kB\n";
        assert_eq!(kibibytes(text, "MemTotal"), Some(482_300 * 1024));
        assert_eq!(kibibytes(text, "MemAvailable"), Some(400_000 * 1024));
        assert_eq!(kibibytes(text, "Mem"), None);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("meminfo"), "MemTotal: 1 kB\n").unwrap();
        let error = memory(dir.path()).unwrap_err();
        assert!(error.cause.to_string().contains("MemAvailable"));
    }

    #[test]
    fn memfd_holds_what_was_written() {
        let mut file = memfd("test").unwrap();
        file.write_all(b"kernel").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kernel");
    }
}
