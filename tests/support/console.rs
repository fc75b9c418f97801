//! What a machine prints on its serial console, line by line, and waiting for it.

use std::io::{BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The lines so far. Waiting goes forward only: each wait starts after the line that the last one found.
#[derive(Clone, Default)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<(Instant, String)>,
    seen: usize,
    ended: bool,
}

/// A line without terminal control sequences (ECMA-48, CSI): systemd colours the names of units.
fn without_escapes(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(|c: char| ('@'..='~').contains(&c)).map_or(part.len(), |end| end + 1);
        text + &part[end..]
    })
}

/// What a wait came to.
pub enum Waited {
    /// The line, and when it came.
    Line(Instant, String),
    /// The machine ended before.
    Ended,
    /// The deadline passed.
    Late,
}

impl Console {
    /// Reads a stream to its end in a thread of its own.
    #[must_use]
    pub fn read(stream: impl Read + Send + 'static) -> Self {
        let console = Self::default();
        let writer = console.clone();
        std::thread::spawn(move || writer.fill(BufReader::new(stream)));
        console
    }

    fn fill(&self, mut stream: impl std::io::BufRead) {
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = without_escapes(&String::from_utf8_lossy(&bytes)).trim_end().to_owned();
            self.lock().lines.push((Instant::now(), line));
            self.shared.changed.notify_all();
            bytes.clear();
        }
        self.lock().ended = true;
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next line that holds `needle`.
    #[must_use]
    pub fn wait_for(&self, needle: &str, within: Duration) -> Waited {
        self.wait_for_any(&[needle], within)
    }

    /// Waits for the next line that holds any of `needles`.
    #[must_use]
    pub fn wait_for_any(&self, needles: &[&str], within: Duration) -> Waited {
        let deadline = Instant::now() + within;
        let mut state = self.lock();
        loop {
            while state.seen < state.lines.len() {
                state.seen += 1;
                let (at, line) = &state.lines[state.seen - 1];
                if needles.iter().any(|needle| line.contains(needle)) {
                    return Waited::Line(*at, line.clone());
                }
            }
            if state.ended {
                return Waited::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::Late;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All lines so far that hold `needle`, with the time at which they came.
    #[must_use]
    pub fn all(&self, needle: &str) -> Vec<(Instant, String)> {
        self.lock().lines.iter().filter(|(_, line)| line.contains(needle)).cloned().collect()
    }

    /// The last lines, for a failed test's message.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let state = self.lock();
        let from = state.lines.len().saturating_sub(lines);
        state.lines[from..].iter().map(|(_, line)| format!("  | {line}\n")).collect()
    }
}
