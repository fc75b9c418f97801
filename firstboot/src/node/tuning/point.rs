//! A point: one value of the running system that the plan decides.

use super::kernel::Kernel;
use serde::{Deserialize, Serialize};
use std::io;
use tatara_spec::cpu::CpuSet;

/// What a point is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topic {
    KernelArgument,
    KernelLog,
    CpuList,
    Irq,
    Workqueue,
    Thread,
    Process,
    Slice,
    NicQueue,
    Sysctl,
    Memory,
    Hugepages,
    Frequency,
    Idle,
    Service,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A hex mask of these CPUs; `last` is the machine's largest CPU number.
    Mask { cpus: CpuSet, last: u32 },
    /// A CPU list of exactly these.
    List(CpuSet),
    /// A CPU list of any of these; where it is not, these are set.
    Within { allowed: CpuSet, set: CpuSet },
    /// This text; white space between words does not count.
    Text(String),
    /// The one in brackets of several words, `always [madvise] never`.
    Chosen(String),
}

/// Where a value is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A file, written and read.
    File(String),
    /// A file that is written, and another that has what became of it.
    Effective { set: String, actual: String },
    /// The CPUs of a thread.
    Thread(i32),
    /// A file that others set.
    ReadOnly(String),
}

/// One value that the plan decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) topic: Topic,
    pub(super) name: String,
    pub(super) wanted: Wanted,
    pub(super) place: Place,
}

impl Wanted {
    /// Housekeeping alone, on a machine whose CPU numbers end at `last`.
    pub(super) fn mask(cpus: &CpuSet, last: u32) -> Self {
        Self::Mask { cpus: cpus.clone(), last }
    }

    /// Whether a file's text is what is wanted.
    pub(super) fn is(&self, text: &str) -> bool {
        let text = text.trim();
        match self {
            Self::Mask { cpus, .. } => CpuSet::parse_mask(text).is_ok_and(|actual| actual == *cpus),
            Self::List(cpus) => list(text).is_some_and(|actual| actual == *cpus),
            Self::Within { allowed, .. } => {
                list(text).is_some_and(|actual| actual.is_subset(allowed) && !actual.is_empty())
            }
            Self::Text(wanted) => wanted.split_whitespace().eq(text.split_whitespace()),
            Self::Chosen(wanted) => text.split_whitespace().any(|word| word == format!("[{wanted}]")),
        }
    }

    /// What is written to get it: what is allowed already stays, so that a driver's spread over housekeeping CPUs does.
    fn text(&self, actual: &str) -> String {
        match self {
            Self::Mask { cpus, last } => cpus.hex_mask(*last),
            Self::List(cpus) => cpus.to_string(),
            Self::Within { allowed, set } => {
                let kept = list(actual.trim()).unwrap_or_default().intersection(allowed);
                if kept.is_empty() { set.to_string() } else { kept.to_string() }
            }
            Self::Text(text) | Self::Chosen(text) => text.clone(),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mask { cpus, .. } | Self::List(cpus) => write!(f, "CPUs {cpus}"),
            Self::Within { allowed, .. } => write!(f, "within CPUs {allowed}"),
            Self::Text(text) | Self::Chosen(text) => f.write_str(text),
        }
    }
}

/// The text of an unset list: `nohz_full` reads `(null)` (kernel, `drivers/base/cpu.c`).
fn list(text: &str) -> Option<CpuSet> {
    if text == "(null)" {
        return Some(CpuSet::default());
    }
    // The largest CPU number that any kernel can have: what the kernel prints is not to be refused here.
    CpuSet::parse(text, 8191).ok()
}

impl Point {
    pub(super) fn file(topic: Topic, path: impl Into<String>, wanted: Wanted) -> Self {
        let path = path.into();
        Self { topic, name: path.clone(), wanted, place: Place::File(path) }
    }

    pub(super) fn read_only(topic: Topic, path: impl Into<String>, wanted: Wanted) -> Self {
        let path = path.into();
        Self { topic, name: path.clone(), wanted, place: Place::ReadOnly(path) }
    }

    /// The value now.
    pub(super) fn actual(&self, kernel: &dyn Kernel) -> io::Result<String> {
        let text = match &self.place {
            Place::File(path) | Place::ReadOnly(path) => kernel.read(path)?,
            Place::Effective { set, actual } => {
                // Empty until the interrupt has been delivered once: then what is set is what will be.
                match kernel.read(actual) {
                    Ok(text) if !text.trim().is_empty() => text,
                    _ => kernel.read(set)?,
                }
            }
            Place::Thread(thread) => allowed(&kernel.read(&format!("/proc/{thread}/status"))?)
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?,
        };
        Ok(text.trim().to_owned())
    }

    /// Sets it.
    pub(super) fn set(&self, kernel: &dyn Kernel) -> io::Result<()> {
        match &self.place {
            Place::File(path) | Place::Effective { set: path, .. } => {
                let before = kernel.read(path)?;
                kernel.write(path, &self.wanted.text(&before))
            }
            Place::Thread(thread) => match &self.wanted {
                Wanted::List(cpus) | Wanted::Mask { cpus, .. } => kernel.set_affinity(*thread, cpus),
                Wanted::Within { set, .. } => kernel.set_affinity(*thread, set),
                Wanted::Text(_) | Wanted::Chosen(_) => Err(io::ErrorKind::InvalidInput.into()),
            },
            Place::ReadOnly(_) => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// `Cpus_allowed_list` of /proc/PID/status.
pub(super) fn allowed(status: &str) -> Option<String> {
    status.lines().find_map(|line| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned()))
}
