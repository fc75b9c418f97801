//! The worker's process: the same binary, called `/init worker`.

use crate::console::Reporter;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use tatara_spec::{Code, Fault};
use tatara_sys::process::End;

/// The running binary; its file may be gone from the initramfs.
const SELF: &str = "/proc/self/exe";

/// A line longer than this is cut: PID 1 does not grow with what a broken worker writes.
const LINE_BYTES: usize = 4096;

/// A worker that runs.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    stderr: Option<ChildStderr>,
    /// What came after the last newline.
    partial: Vec<u8>,
    last: LastWords,
}

impl Worker {
    /// Starts one. Its error output comes to us; consoles it opens itself.
    pub(super) fn start() -> Result<Self, Fault> {
        let cannot = |e: std::io::Error| Fault::caused(Code::Sys, "cannot start the worker", e);
        let mut command = Command::new(SELF);
        command.arg0("/init").arg("worker");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(cannot)?;
        let stderr = child.stderr.take();
        if let Some(pipe) = &stderr {
            // Without this a read would wait for the worker, so the pipe is dropped instead when it fails.
            let set = fcntl_getfl(pipe).and_then(|flags| fcntl_setfl(pipe, flags | OFlags::NONBLOCK));
            if set.is_err() {
                return Ok(Self { child, stderr: None, partial: Vec::new(), last: LastWords::default() });
            }
        }
        Ok(Self { child, stderr, partial: Vec::new(), last: LastWords::default() })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, so that what it has mounted can be unmounted. Its end is collected like any other.
    pub(super) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
    }

    /// Where its lines come from; `None` when it has closed the pipe.
    pub(super) fn lines(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().map(AsFd::as_fd)
    }

    /// Prints what it has written since the last call.
    pub(super) fn forward(&mut self, reporter: &Reporter) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.stderr {
            match pipe.read(&mut buffer) {
                Ok(bytes) if bytes > 0 => self.take(buffer.get(..bytes).unwrap_or_default(), reporter),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => self.stderr = None,
            }
        }
        if !self.partial.is_empty() {
            self.take(b"\n", reporter);
        }
    }

    fn take(&mut self, bytes: &[u8], reporter: &Reporter) {
        for byte in bytes {
            if *byte != b'\n' && self.partial.len() < LINE_BYTES {
                self.partial.push(*byte);
                continue;
            }
            let line = String::from_utf8_lossy(&self.partial).into_owned();
            self.partial.clear();
            reporter.info(&line);
            self.last.hear(&line);
        }
    }

    /// The failure of a worker that did not say how to go on.
    pub(super) fn died(&self, end: End) -> Fault {
        let words = self.last.text();
        Fault::new(Code::Panic, format!("the worker ended with {end}{words}"))
    }
}

/// What the worker wrote last: Rust's panic message and where it came from, or the last line.
#[derive(Debug, Default)]
struct LastWords {
    panic: Option<String>,
    line: String,
}

impl LastWords {
    fn hear(&mut self, line: &str) {
        // "note: run with `RUST_BACKTRACE=1`" tells nothing here.
        if line.trim().is_empty() || line.starts_with("note: ") {
            return;
        }
        if line.starts_with("thread '") && line.contains("panicked at") {
            self.panic = Some(line.to_owned());
        }
        line.clone_into(&mut self.line);
    }

    fn text(&self) -> String {
        match &self.panic {
            Some(place) if *place != self.line => format!(": {place} {}", self.line),
            Some(place) => format!(": {place}"),
            None if self.line.is_empty() => String::new(),
            None => format!(": {}", self.line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LastWords;

    fn words(lines: &[&str]) -> String {
        let mut last = LastWords::default();
        lines.iter().for_each(|line| last.hear(line));
        last.text()
    }

    #[test]
    fn a_panic_is_told_with_its_place() {
        let lines = [
            "warning",
            "",
            "thread 'main' panicked at src/boot.rs:1:2:",
            "index out of bounds",
            "note: run with",
        ];
        assert_eq!(words(&lines), ": thread 'main' panicked at src/boot.rs:1:2: index out of bounds");
    }

    #[test]
    fn otherwise_the_last_line_is_told() {
        assert_eq!(words(&["one", "two", ""]), ": two");
        assert_eq!(words(&[]), "");
    }
}
