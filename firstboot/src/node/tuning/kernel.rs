//! The running kernel as far as tuning needs it, behind a trait: a test's kernel is a recorded tree that refuses as the
//! real one does.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use tatara_spec::cpu::CpuSet;

/// Files by absolute path, and threads by number.
pub(crate) trait Kernel {
    /// A file's text.
    fn read(&self, path: &str) -> io::Result<String>;
    /// Writes a file by one write(2): each is a command to the kernel.
    fn write(&self, path: &str, text: &str) -> io::Result<()>;
    /// Names of the directories in a directory, links to directories among them, sorted; an absent one has none.
    fn dirs(&self, path: &str) -> Vec<String>;
    /// Whether there is such a path.
    fn exists(&self, path: &str) -> bool;
    /// The kernel log from its beginning, in the form of /dev/kmsg (kernel, Documentation/ABI/testing/dev-kmsg).
    fn log(&self) -> io::Result<String>;
    /// sched_setaffinity(2).
    fn set_affinity(&self, thread: i32, cpus: &CpuSet) -> io::Result<()>;
}

/// The kernel that runs, or a tree below another root.
#[derive(Debug)]
pub(crate) struct Live {
    root: PathBuf,
}

impl Live {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Kernel for Live {
    fn read(&self, path: &str) -> io::Result<String> {
        fs::read(self.path(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        // The kernel takes a value whole or not at all: what write_all would send after a short write is another value.
        let mut file = fs::OpenOptions::new().write(true).open(self.path(path))?;
        let written = file.write(text.as_bytes())?;
        if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn dirs(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let directories =
            entries.flatten().filter(|entry| fs::metadata(entry.path()).is_ok_and(|about| about.is_dir()));
        let mut names: Vec<String> =
            directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    fn log(&self) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.path("/dev/kmsg"), flags, Mode::empty())?;
        let mut log = Vec::new();
        // A record a read; the kernel's largest is 8 KiB with its header (CONSOLE_EXT_LOG_MAX).
        let mut record = [0; 16 * 1024];
        loop {
            match rustix::io::read(&file, &mut record) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(String::from_utf8_lossy(&log).into_owned()),
                Ok(bytes) => log.extend_from_slice(&record[..bytes]),
                // Records were overwritten while we read: the next read goes on behind them.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn set_affinity(&self, thread: i32, cpus: &CpuSet) -> io::Result<()> {
        set_affinity(rustix::process::Pid::from_raw(thread), cpus)
    }
}

/// sched_setaffinity(2) of a thread, or of the calling one.
pub(super) fn set_affinity(thread: Option<rustix::process::Pid>, cpus: &CpuSet) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for &cpu in &cpus.0 {
        // glibc's and musl's cpu_set_t end there; larger ones are for machines that tatara has not met.
        let cpu = usize::try_from(cpu).ok().filter(|cpu| *cpu < rustix::thread::CpuSet::MAX_CPU);
        set.set(cpu.ok_or(Errno::RANGE)?);
    }
    Ok(rustix::thread::sched_setaffinity(thread, &set)?)
}
