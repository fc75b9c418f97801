//! The kernel log as a place to write to: /dev/kmsg (Documentation/ABI/testing/dev-kmsg).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Level `debug`: kept in the log, but not printed on consoles, where the line stands already.
const LEVEL: &str = "<7>";

/// The kernel refuses records longer than `PRINTKRB_RECORD_MAX` = 1024 (kernel/printk/printk.c); this leaves room for the prefix.
const RECORD_BYTES: usize = 900;

/// An open kernel log.
#[derive(Debug)]
pub(crate) struct Kmsg(File);

impl Kmsg {
    /// Opens `kmsg` below `dev`, and lifts the rate limit (`printk_devkmsg` in Documentation/admin-guide/sysctl/kernel.rst); `None`
    /// when there is none: a boot goes on without a log.
    pub(crate) fn open(proc: &Path, dev: &Path) -> Option<Self> {
        // Fails when the command line has printk.devkmsg=, which is then what the operator wants.
        let _ = std::fs::write(proc.join("sys/kernel/printk_devkmsg"), "on\n");
        OpenOptions::new().write(true).open(dev.join("kmsg")).ok().map(Self)
    }

    /// Writes a line, in parts if it is long. What cannot be written is lost: the consoles have it too.
    pub(crate) fn line(&self, text: &str) {
        for part in parts(text) {
            // One write is one record.
            let _ = (&self.0).write(format!("{LEVEL}{part}\n").as_bytes());
        }
    }
}

/// Cuts a text between characters into parts that fit into a record.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > RECORD_BYTES {
        let (part, after) = rest.split_at(rest.floor_char_boundary(RECORD_BYTES));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::{Kmsg, RECORD_BYTES, parts};
    use std::fs;

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = "é".repeat(RECORD_BYTES);
        let cut = parts(&text);
        assert!(cut.len() > 1 && cut.iter().all(|part| part.len() <= RECORD_BYTES));
        assert_eq!(cut.concat(), text);
        assert_eq!(parts("short"), ["short"]);
    }

    #[test]
    fn lines_have_the_debug_level() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/kernel")).unwrap();
        fs::write(root.path().join("kmsg"), "").unwrap();
        let kmsg = Kmsg::open(root.path(), root.path()).unwrap();
        kmsg.line("tatara: hello");
        assert_eq!(fs::read_to_string(root.path().join("kmsg")).unwrap(), "<7>tatara: hello\n");
        assert_eq!(fs::read_to_string(root.path().join("sys/kernel/printk_devkmsg")).unwrap(), "on\n");
    }
}
