//! What a person types on a console.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{QueueSelector, tcflush};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

/// A line on a terminal has at most this many bytes (termios(3), "Canonical and noncanonical mode").
const LINE_MAX_BYTES: usize = 4096;

/// Every console that can be typed on.
#[derive(Debug)]
pub struct Answers {
    consoles: Vec<(String, File)>,
}

impl Answers {
    /// Opens every console of `consoles` below `proc` whose node in `dev` can be read. What was typed before is forgotten: it answered
    /// another question.
    #[must_use]
    pub fn open_all(proc: &Path, dev: &Path) -> Self {
        let names = tatara_sys::console::list(proc).unwrap_or_default();
        let open = |name: String| Some((tatara_sys::console::open_to_read(&dev.join(&name)).ok()?, name));
        let consoles: Vec<_> = names.into_iter().filter_map(open).map(|(file, name)| (name, file)).collect();
        for (_, file) in &consoles {
            // What is no terminal has no line that was typed before.
            let _ = tcflush(file, QueueSelector::IFlush);
        }
        Self { consoles }
    }

    /// Whether nobody can type anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.consoles.is_empty()
    }

    /// The next line, without its end, and the console that it was typed on; `None` when the time is over, or no console is left.
    pub fn next(&mut self, within: Duration) -> Option<(String, String)> {
        let deadline = Instant::now() + within;
        while !self.consoles.is_empty() {
            let ready = self.ready(deadline.saturating_duration_since(Instant::now()))?;
            for (place, hung_up) in ready.into_iter().rev() {
                let (name, file) = self.consoles.get_mut(place)?;
                match line(file) {
                    Line::Typed(text) => return Some((name.clone(), text)),
                    // Nobody types there any more, and it would be ready for ever. Without that an end of file is a Ctrl-D.
                    Line::Nothing if hung_up => drop(self.consoles.remove(place)),
                    Line::Nothing => {}
                    Line::Gone => drop(self.consoles.remove(place)),
                }
            }
        }
        None
    }

    /// Places of the consoles that have something, or have hung up, and whether it was that; `None` when the time is over.
    fn ready(&self, left: Duration) -> Option<Vec<(usize, bool)>> {
        let mut polled: Vec<_> =
            self.consoles.iter().map(|(_, file)| PollFd::new(file, PollFlags::IN)).collect();
        match poll(&mut polled, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => None,
            Err(rustix::io::Errno::INTR) => Some(Vec::new()),
            // It has no memory for a moment (poll(2)); asked again at once, it would have none either.
            Err(_) => {
                std::thread::sleep(left);
                None
            }
            Ok(_) => {
                let events = polled.iter().map(PollFd::revents).enumerate();
                let some = events.filter(|(_, events)| !events.is_empty());
                Some(some.map(|(place, events)| (place, events.intersects(HUNG_UP))).collect())
            }
        }
    }
}

/// What poll(2) says of a terminal that is gone.
const HUNG_UP: PollFlags = PollFlags::HUP.union(PollFlags::ERR).union(PollFlags::NVAL);

enum Line {
    Typed(String),
    /// Not yet, or never again.
    Nothing,
    Gone,
}

/// A terminal gives one whole line at a time.
fn line(file: &mut File) -> Line {
    let mut bytes = vec![0; LINE_MAX_BYTES];
    match file.read(&mut bytes) {
        Ok(0) => Line::Nothing,
        Ok(count) => Line::Typed(String::from_utf8_lossy(&bytes[..count]).trim().to_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Line::Nothing,
        Err(_) => Line::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::Answers;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(20);

    /// A terminal below `dev`, and the hand that types on it.
    fn terminal(dev: &std::path::Path, name: &str) -> File {
        let hand = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&hand).unwrap();
        unlockpt(&hand).unwrap();
        let path = ptsname(&hand, Vec::new()).unwrap();
        symlink(path.to_str().unwrap(), dev.join(name)).unwrap();
        File::from(hand)
    }

    #[test]
    fn lines_of_every_console_and_none_that_was_typed_before() {
        let dir = tempfile::tempdir().unwrap();
        let consoles = "tty0 -WU (EC p  ) 4:1\nttyS0 -W- (E  p a) 4:64\nttyS1 -W- (E  p  ) 4:65\n";
        std::fs::write(dir.path().join("consoles"), consoles).unwrap();
        let (mut screen, mut serial) = (terminal(dir.path(), "tty0"), terminal(dir.path(), "ttyS0"));
        // The terminal must have been opened once for its line discipline to take anything.
        let early = File::open(dir.path().join("tty0")).unwrap();
        screen.write_all(b"vda\n").unwrap();
        let mut answers = Answers::open_all(dir.path(), dir.path());
        drop(early);
        assert!(!answers.is_empty());
        assert_eq!(answers.next(Duration::ZERO), None);
        // Ctrl-D on an empty line is an end of file, which is no answer and no hang-up.
        screen.write_all(b"\x04").unwrap();
        assert_eq!(answers.next(Duration::from_millis(50)), None);
        screen.write_all(b"vd").unwrap();
        serial.write_all(b"nvme0n1\n").unwrap();
        assert_eq!(answers.next(SOON), Some(("ttyS0".into(), "nvme0n1".into())));
        screen.write_all(b"a\n").unwrap();
        assert_eq!(answers.next(SOON), Some(("tty0".into(), "vda".into())));
        drop((screen, serial));
        assert_eq!(answers.next(SOON), None, "nobody is left to type");
        assert!(answers.is_empty());
    }
}
