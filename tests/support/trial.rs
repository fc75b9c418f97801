//! A row of the fault matrix: what is done to a machine, the code and hint that it must show on every console, and what has
//! become of its disks. A row that passed is kept as JSON in `$TATARA_FAULTS`, if that is set; `make faults` makes the table.

use crate::guest::{Guest, Setup, disk_digest};
use crate::server::Server;
use serde_json::json;
use std::time::{Duration, Instant};
use tatara_spec::Code;

/// For everything that a machine does by itself in emulation.
pub const SOON: Duration = Duration::from_secs(300);

/// A machine to which something is done.
pub struct Trial {
    area: &'static str,
    done: &'static str,
    /// The machine.
    pub setup: Setup,
    begin: Instant,
    before: Vec<u64>,
    codes: Vec<Code>,
    rows: Vec<Row>,
    row_begin: Instant,
}

/// One of several faults in one boot.
struct Row {
    done: String,
    codes: Vec<Code>,
    seconds: u64,
}

/// What has become of the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// Block for block as before: compared here.
    Untouched,
    /// The fault was over, and the machine installed and booted by itself: the caller has seen it.
    Installed,
    /// The same; and before it was over the caller saw that nothing had been written.
    RefusedThenInstalled,
    /// Partly written, and not bootable.
    Unbootable,
    /// The row is not about disks.
    Irrelevant,
}

impl Trial {
    /// `area` is the matrix' section, `done` what is done, for the table. Disks are read here: make them first.
    #[must_use]
    pub fn new(area: &'static str, done: &'static str, setup: Setup) -> Self {
        let before = digests(&setup);
        let begin = Instant::now();
        Self { area, done, setup, begin, before, codes: Vec::new(), rows: Vec::new(), row_begin: begin }
    }

    /// Starts the machine with a VGA console beside the serial one.
    #[must_use]
    pub fn start(&self, server: &Server) -> Guest {
        Guest::start(&self.setup, Some(server))
    }

    /// Waits until the machine says `code` with `says` in a line of its own or the same, the code's hint, and that it will
    /// try again; on every console.
    ///
    /// # Panics
    /// When it does not.
    pub fn refused(&mut self, guest: &Guest, code: Code, says: &str) {
        guest.expect(&format!("code={}", code.name()), SOON);
        guest.printed(says, SOON);
        // It must go on by itself: a further try, not a halt.
        guest.expect("try again", SOON);
        guest.printed(code.hint(), SOON);
        if self.setup.has_vga_console() {
            let screen = guest.vga_text();
            for text in [format!("code={}", code.name()), code.hint().to_owned()] {
                assert!(screen.contains(&text), "`{text}` is not on the VGA console:\n{screen}");
            }
        }
        self.codes.push(code);
    }

    /// The machine said this code, as the caller has seen.
    pub fn saw(&mut self, code: Code) {
        self.codes.push(code);
    }

    /// Compares the disks, also of a machine that runs but writes nothing.
    ///
    /// # Panics
    /// When one was written to.
    pub fn untouched(&self) {
        assert_eq!(self.before, digests(&self.setup), "a disk was written to");
    }

    /// Waits for the next failure of a machine to which one thing after another is done, each a row of its own: it must have this
    /// code, say all of `says` and the hint before it says that it tries again, stand on every console, and leave the disk alone.
    ///
    /// # Panics
    /// When it does not.
    pub fn fails(&mut self, guest: &Guest, done: &str, code: Code, says: &[&str]) {
        let failure = guest.expect("state=fail", SOON);
        let mut text = failure.clone();
        while !text.contains("try again") {
            text = format!("{text}\n{}", guest.expect("tatara: ", SOON));
        }
        let wanted = format!("code={} ", code.name());
        let Some((begin, _)) = failure.split_once(&wanted) else {
            panic!("{done}: {} was expected, the machine said:\n{text}", code.name());
        };
        for part in says.iter().copied().chain([code.hint()]) {
            assert!(text.contains(part), "{done}: `{part}` is not in what the machine said:\n{text}");
        }
        if self.setup.has_vga_console() {
            let screen = guest.vga_text();
            // With its time, which no other failure has.
            let begin = format!("{}{}", begin.trim_start(), wanted.trim_end());
            for text in [begin.as_str(), code.hint()] {
                assert!(screen.contains(text), "{done}: `{text}` is not on the VGA console:\n{screen}");
            }
        }
        assert_eq!(guest.bytes_written().expect("QEMU's count"), 0, "{done}: the disk was written to");
        let seconds = self.row_begin.elapsed().as_secs();
        self.row_begin = Instant::now();
        self.rows.push(Row { done: done.to_owned(), codes: vec![code], seconds });
    }

    /// The machine has ended: compares the disks if that is what is said of them, and keeps the row.
    ///
    /// # Panics
    /// When a disk that should be untouched was written to.
    pub fn ends(self, guest: Guest, disks: Disks) {
        drop(guest);
        if disks == Disks::Untouched {
            self.untouched();
        }
        self.keep(disks);
    }

    /// As [`Self::ends`] where machines have ended before.
    pub fn keeps(self, disks: Disks) {
        self.keep(disks);
    }

    fn keep(&self, disks: Disks) {
        let Some(dir) = std::env::var_os("TATARA_FAULTS").map(std::path::PathBuf::from) else { return };
        let thread = std::thread::current();
        let test = thread.name().unwrap_or_default();
        let last = match disks {
            Disks::Untouched => "untouched",
            Disks::Installed => "installed afterwards",
            Disks::RefusedThenInstalled => "untouched, then installed",
            Disks::Unbootable => "not bootable",
            Disks::Irrelevant => "–",
        };
        std::fs::create_dir_all(&dir).expect("the directory of the rows");
        let keep = |order: usize, done: &str, codes: &[Code], disks: &str, seconds: u64| {
            let codes: Vec<&str> = codes.iter().map(|code| code.name()).collect();
            let row = json!({
                "area": self.area, "test": test, "order": order, "done": done, "codes": codes, "disks": disks,
                "seconds": seconds,
            });
            let file = dir.join(format!("{}.{order}.json", test.replace("::", ".")));
            std::fs::write(file, row.to_string()).expect("a row");
        };
        for (order, row) in self.rows.iter().enumerate() {
            keep(order, &row.done, &row.codes, "untouched", row.seconds);
        }
        // A boot of rows only has no more to tell.
        if self.rows.is_empty() || disks != Disks::Untouched {
            let begin = if self.rows.is_empty() { self.begin } else { self.row_begin };
            keep(self.rows.len(), self.done, &self.codes, last, begin.elapsed().as_secs());
        }
    }
}

fn digests(setup: &Setup) -> Vec<u64> {
    setup.disk_paths().iter().map(|path| disk_digest(path)).collect()
}
