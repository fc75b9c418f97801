//! What a person sees of a boot: every console gets every line, and none of them can hold the boot up.

mod answers;
mod reporter;

pub use answers::Answers;
pub use reporter::{Kernel, Reporter};

use crate::kmsg::Kmsg;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tatara_spec::redact::printable;

/// How long a line waits for a console that takes nothing: a serial port at 115200 baud empties its 4 KiB in 0.36 s.
const PATIENCE: Duration = Duration::from_millis(400);

/// What is kept for a console that takes nothing (flow control, a dead BMC); older text is dropped.
const BACKLOG_BYTES: usize = 64 * 1024;

/// All consoles of the kernel, and its log.
#[derive(Debug)]
pub struct Console {
    outputs: Mutex<Vec<Output>>,
    kmsg: Option<Kmsg>,
}

/// One console.
#[derive(Debug)]
struct Output {
    file: File,
    backlog: VecDeque<u8>,
    /// It took nothing for [`PATIENCE`]: it is not waited for again before it takes something.
    stuck: bool,
}

impl Console {
    /// Opens every console of `consoles` below `proc` whose node in `dev` can be opened, and the kernel log.
    pub fn open_all(proc: &Path, dev: &Path) -> Self {
        let names = tatara_sys::console::list(proc).unwrap_or_default();
        let mut outputs: Vec<_> =
            names.iter().filter_map(|name| tatara_sys::console::open(&dev.join(name)).ok()).collect();
        if outputs.is_empty() {
            outputs.extend(tatara_sys::console::open(&dev.join("console")));
        }
        let outputs = outputs.into_iter().map(Output::new).collect();
        Self { outputs: Mutex::new(outputs), kmsg: Kmsg::open(proc, dev) }
    }

    /// Prints one line everywhere. Control characters are replaced: servers' texts must not steer terminals.
    pub fn line(&self, text: &str) {
        let text = printable(text);
        if let Some(kmsg) = &self.kmsg {
            kmsg.line(&text);
        }
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        for output in outputs.iter_mut() {
            output.line(&text);
        }
    }
}

impl Output {
    fn new(file: File) -> Self {
        Self { file, backlog: VecDeque::new(), stuck: false }
    }

    fn line(&mut self, text: &str) {
        self.backlog.extend(text.as_bytes());
        self.backlog.push_back(b'\n');
        self.drop_oldest();
        while !self.backlog.is_empty() {
            match self.file.write(self.backlog.as_slices().0) {
                Ok(0) => return,
                Ok(bytes) => {
                    self.backlog.drain(..bytes);
                    self.stuck = false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.stuck || !self.wait() {
                        self.stuck = true;
                        return;
                    }
                }
                // Hung up: what it missed is of no use later.
                Err(_) => return self.backlog.clear(),
            }
        }
    }

    /// Whether the console takes something again in time.
    fn wait(&self) -> bool {
        let patience = Timespec::try_from(PATIENCE).ok();
        poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], patience.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Drops whole lines from the front until the backlog is within its limit.
    fn drop_oldest(&mut self) {
        while self.backlog.len() > BACKLOG_BYTES {
            let line = self.backlog.iter().position(|byte| *byte == b'\n');
            self.backlog.drain(..line.map_or(self.backlog.len(), |end| end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BACKLOG_BYTES, Console, Output};
    use std::fs::{self, File};
    use std::io::Read;

    #[test]
    fn every_console_gets_the_line() {
        let root = tempfile::tempdir().unwrap();
        let consoles = "tty0 -WU (EC p  ) 4:1\nttyS0 -W- (E  p a) 4:64\nttyS9 -W- (E  p a) 4:73\n";
        fs::write(root.path().join("consoles"), consoles).unwrap();
        for name in ["tty0", "ttyS0", "kmsg"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        Console::open_all(root.path(), root.path()).line("tatara: \u{1b}[2Jhello");
        for (name, wanted) in [
            ("tty0", "tatara: ?[2Jhello\n"),
            ("ttyS0", "tatara: ?[2Jhello\n"),
            ("kmsg", "<7>tatara: ?[2Jhello\n"),
        ] {
            assert_eq!(fs::read_to_string(root.path().join(name)).unwrap(), wanted, "{name}");
        }
    }

    #[test]
    fn a_stuck_console_is_given_up_and_catches_up_later() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut output = Output::new(File::from(writer));
        let line = "x".repeat(1023);
        for _ in 0..300 {
            output.line(&line);
        }
        assert!(output.stuck && output.backlog.len() <= BACKLOG_BYTES);
        let mut taken = vec![0; 65_536];
        let mut reader = File::from(reader);
        assert!(reader.read(&mut taken).unwrap() > 0);
        output.line("last");
        assert!(!output.stuck || output.backlog.len() < BACKLOG_BYTES);
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest);
        assert!(!output.stuck || !rest.is_empty());
    }
}
