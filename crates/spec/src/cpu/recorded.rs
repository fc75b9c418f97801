//! A machine's CPUs in a few lines of text: how machines are recorded.
//!
//! ```text
//! possible 0-255
//! present 0-255
//! online 0-255
//! cores 0-127 +128        each CPU of the list has a second thread, 128 further; several distances are several threads
//! cores 16-23             cores of one thread
//! package0 0-63,128-191   the CPUs of a socket
//! node0 0-15,128-143      the CPUs of a NUMA node
//! kind atom 16-23         the CPUs of a kind, on hybrid machines
//! ```
//!
//! `#` begins a comment. Lists are the kernel's. It says what sysfs says, file by file.

use super::{CpuSet, TopologyTexts};
use crate::error::{Code, Fault};

impl TopologyTexts {
    /// Reads a recorded machine.
    ///
    /// # Errors
    /// [`Code::CpuList`] with the line that is wrong.
    pub fn from_recording(text: &str) -> Result<Self, Fault> {
        let mut texts = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            if let [key, rest @ ..] = words.as_slice() {
                texts.line(key, rest).ok_or_else(|| {
                    Fault::new(Code::CpuList, format!("recorded machine: `{line}` is not understood"))
                })?;
            }
        }
        Ok(texts)
    }

    fn line(&mut self, key: &str, rest: &[&str]) -> Option<()> {
        let number = |prefix: &str| key.strip_prefix(prefix)?.parse::<u32>().ok();
        match (key, rest) {
            ("possible", [list]) => self.possible = (*list).to_owned(),
            ("present", [list]) => self.present = (*list).to_owned(),
            ("online", [list]) => self.online = (*list).to_owned(),
            ("cores", [list, further @ ..]) => self.cores(list, further)?,
            ("kind", [kind, list]) => drop(self.kinds.insert((*kind).to_owned(), (*list).to_owned())),
            (_, [list]) if number("package").is_some() => {
                let package = number("package")?.to_string();
                let cpus = CpuSet::parse_wide(list, 0).ok()?;
                self.packages.extend(cpus.0.iter().map(|cpu| (*cpu, package.clone())));
            }
            // A node of memory alone has no CPUs.
            (_, lists) if number("node").is_some() && lists.len() < 2 => {
                drop(self.nodes.insert(number("node")?, lists.concat()));
            }
            _ => return None,
        }
        Some(())
    }

    fn cores(&mut self, list: &str, further: &[&str]) -> Option<()> {
        let distances: Option<Vec<u32>> =
            further.iter().map(|word| word.strip_prefix('+')?.parse().ok()).collect();
        let distances = distances?;
        for first in CpuSet::parse_wide(list, 0).ok()?.0 {
            let threads: CpuSet = distances.iter().map(|by| first + by).chain([first]).collect();
            let text = threads.to_string();
            self.siblings.extend(threads.0.iter().map(|cpu| (*cpu, text.clone())));
        }
        Some(())
    }
}
