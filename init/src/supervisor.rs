//! PID 1: mounts what every process needs, runs the worker, adopts orphans, and ends this kernel's life when the worker says how.
//!
//! It never ends and never blocks: the end of PID 1 is a kernel panic. So it does next to nothing itself.

mod ending;
mod worker;

pub use ending::{KEXEC, POWER_OFF, REBOOT, SWITCH_ROOT, SYSROOT};

use crate::console::Reporter;
use ending::Ending;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tatara_spec::layout::{MEMORY_MIN_MIB, MIB, UNPACKED};
use tatara_spec::{Code, Fault};
use tatara_sys::button::PowerButton;
use tatara_sys::mount::{MountFlags, mount_once};
use tatara_sys::process::{End, Signal, Signals, reap};
use worker::Worker;

/// The longest wait before a worker that keeps dying is started again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A worker that lived this long had got somewhere: the next pause is short again.
const LONG_LIFE: Duration = Duration::from_secs(600);

/// Runs PID 1. Returns only when the process is not PID 1: it would take over a machine that somebody uses.
#[must_use]
pub fn run() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("this is an init: it runs only as process 1");
        return ExitCode::FAILURE;
    }
    let mounted = mount_all(Path::new("/")).and_then(|()| answer_modprobe(Path::new("/")));
    // Before the first child, so that its end is among them.
    let signals = Signals::block();
    // The worker has most to do: it does not wait for what only this process needs.
    let mut first = Some(start_worker());
    let mut supervisor = Supervisor::new(signals);
    if let Err(fault) = mounted {
        supervisor.reporter.fail_as("mounts", &fault);
    }
    loop {
        let started = Instant::now();
        match supervisor.run_worker(first.take().unwrap_or_else(start_worker)) {
            Happened::Ended(ending) => {
                let fault = ending.carry_out(&supervisor.reporter);
                supervisor.retry_after(&fault, started);
            }
            Happened::Asked(wish) => supervisor.obey(wish),
            Happened::Failed(fault) => supervisor.retry_after(&fault, started),
        }
    }
}

/// Mounts /proc, /sys, /dev and /run below `root`; what is mounted already stays.
///
/// # Errors
/// [`Code::Sys`] with the first that fails.
pub fn mount_all(root: &Path) -> Result<(), Fault> {
    let closed = MountFlags::NOSUID | MountFlags::NODEV;
    let kernel = closed | MountFlags::NOEXEC;
    // The options are systemd's (src/shared/mount-setup.c), which finds these mounts and keeps them.
    let mounts = [
        ("proc", "proc", kernel, ""),
        ("sysfs", "sys", kernel, ""),
        ("devtmpfs", "dev", MountFlags::NOSUID, "mode=0755"),
        ("tmpfs", "run", closed, "mode=0755,size=20%,nr_inodes=800k"),
    ];
    for (fstype, name, flags, data) in mounts {
        mount_once(fstype, &root.join(name), flags, data)
            .map_err(|e| Fault::caused(Code::Sys, format!("cannot provide /{name}"), e))?;
    }
    // For systemd, which would wait for a modprobe: the kernel starts one for `bpf_preload` at the first such mount (kernel/bpf/inode.c,
    // `bpf_preload_mod_get`), and here it finds at once that there is none. A kernel without BPF has no such directory.
    let _ = mount_once("bpf", &root.join("sys/fs/bpf"), kernel, "mode=0700");
    Ok(())
}

/// Makes this binary the kernel's `modprobe` below `root`. The archive has none: until /dev is there no program of ours can run, and the
/// kernel asks for some thirty modules while it starts.
///
/// # Errors
/// [`Code::Sys`] when it cannot be made.
pub fn answer_modprobe(root: &Path) -> Result<(), Fault> {
    let sbin = root.join("sbin");
    std::fs::create_dir_all(&sbin)
        .and_then(|()| std::os::unix::fs::symlink("/init", sbin.join("modprobe")))
        .map_err(|e| Fault::caused(Code::Sys, "cannot answer the kernel's modprobe", e))
}

fn start_worker() -> Result<Worker, Fault> {
    unpacked(Path::new("/"))?;
    Worker::start()
}

struct Supervisor {
    reporter: Reporter,
    /// `None` when the kernel gives no signalfd; then children are looked for twice a second.
    signals: Option<Signals>,
    /// `None` on a machine without ACPI, which has no such button.
    button: Option<PowerButton>,
    /// How many workers have died in a row.
    failures: u32,
}

/// What ends a wait.
enum Happened {
    /// The worker has ended and said how to go on.
    Ended(Ending),
    /// Somebody wants the machine to end.
    Asked(Wish),
    /// The worker died, or could not be started.
    Failed(Fault),
}

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Ctrl-Alt-Del.
    Restart,
    /// The power button.
    PowerOff,
    /// SIGTERM or SIGPWR, from whoever it may be.
    End,
}

impl Wish {
    fn of(signal: Signal) -> Option<Self> {
        match signal {
            Signal::Child => None,
            Signal::Interrupt => Some(Wish::Restart),
            Signal::Terminate | Signal::Power => Some(Wish::End),
        }
    }
}

impl Supervisor {
    /// Opens the consoles, and takes what may ask for the machine's end.
    fn new(signals: Result<Signals, tatara_sys::Error>) -> Self {
        let reporter = Reporter::open(Path::new("/"));
        let or_say =
            |what: &str, error: &tatara_sys::Error| reporter.info(&format!("{what}: {}", chain(error)));
        let signals = signals.inspect_err(|error| or_say("PID 1 takes no signals", error)).ok();
        // Caught, it comes as a signal.
        if signals.is_some()
            && let Err(error) = tatara_sys::power::catch_ctrl_alt_del()
        {
            or_say("Ctrl-Alt-Del restarts without syncing", &error);
        }
        let button =
            PowerButton::open().inspect_err(|error| or_say("the power button is not heard", error)).ok();
        Self { signals, button, failures: 0, reporter }
    }

    /// Runs a worker to its end.
    fn run_worker(&mut self, started: Result<Worker, Fault>) -> Happened {
        let mut worker = match started {
            Ok(worker) => worker,
            Err(fault) => return Happened::Failed(fault),
        };
        loop {
            self.wait(Some(&worker), None);
            worker.forward(&self.reporter);
            // Before the children are looked at: a child that ends afterwards makes its signal pending anew, so that the next wait is
            // short. The other way round its signal could be taken here, its end be missed, and nothing would ever wake PID 1.
            let wish = self.asked();
            while let Some((pid, end)) = self.reap() {
                if pid == worker.pid() {
                    worker.forward(&self.reporter);
                    return match Ending::of(end) {
                        Some(ending) => Happened::Ended(ending),
                        None => Happened::Failed(worker.died(end)),
                    };
                }
            }
            if let Some(wish) = wish {
                worker.kill();
                return Happened::Asked(wish);
            }
        }
    }

    /// Reports a failure and waits before the next worker.
    fn retry_after(&mut self, fault: &Fault, started: Instant) {
        if started.elapsed() >= LONG_LIFE {
            self.failures = 0;
        }
        let pause = pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.reporter.fail_as("worker", fault);
        self.reporter.info(&format!("  next: the worker is started again in {} s", pause.as_secs()));
        let deadline = Instant::now() + pause;
        while Instant::now() < deadline {
            self.wait(None, Some(deadline));
            let wish = self.asked();
            while self.reap().is_some() {}
            if let Some(wish) = wish {
                self.obey(wish);
            }
        }
    }

    /// Waits for a signal, a line of the worker, or the deadline.
    fn wait(&self, worker: Option<&Worker>, deadline: Option<Instant>) {
        let mut fds = Vec::new();
        fds.extend(self.signals.as_ref().map(|signals| PollFd::new(signals, PollFlags::IN)));
        fds.extend(self.button.as_ref().map(|button| PollFd::new(button, PollFlags::IN)));
        fds.extend(worker.and_then(Worker::lines).map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
        let blind = self.signals.is_none().then_some(Duration::from_millis(500));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.into_iter().chain(blind).min().and_then(|wait| Timespec::try_from(wait).ok());
        // An interrupted or refused poll is a wait that was short.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// The end of a child, orphans included.
    fn reap(&self) -> Option<(u32, End)> {
        let (pid, end) = reap().unwrap_or_else(|error| {
            self.reporter.info(&chain(&error));
            None
        })?;
        Some((pid.unsigned_abs(), end))
    }

    /// What is wanted since the last call; news of children are none.
    fn asked(&mut self) -> Option<Wish> {
        match self.button.as_ref().map(PowerButton::pressed) {
            Some(Ok(true)) => return Some(Wish::PowerOff),
            // A socket that fails would be ready for ever: better no button than a busy loop.
            Some(Err(error)) => {
                self.reporter.info(&format!("the power button is not heard any more: {}", chain(&error)));
                self.button = None;
            }
            Some(Ok(false)) | None => {}
        }
        let signals = self.signals.as_mut()?;
        while let Ok(Some(signal)) = signals.take() {
            if let Some(wish) = Wish::of(signal) {
                return Some(wish);
            }
        }
        None
    }

    /// Ends the machine as asked. What the worker was writing is left as after a power cut, which an install survives.
    fn obey(&mut self, wish: Wish) {
        let (ending, text) = match wish {
            Wish::Restart => (Ending::Reboot, "Ctrl-Alt-Del: the machine restarts"),
            Wish::PowerOff => (Ending::PowerOff, "the power button: the machine powers off"),
            Wish::End => (Ending::PowerOff, "asked to end: the machine powers off"),
        };
        self.reporter.info(text);
        let fault = ending.carry_out(&self.reporter);
        self.reporter.fail_as("worker", &fault);
    }
}

/// Whether the whole initramfs is there. Where memory ends, the kernel stops unpacking it, says so in a line of its log, and boots
/// what there is (init/initramfs.c): drivers would be missing, and the failure would seem to be another one.
fn unpacked(root: &Path) -> Result<(), Fault> {
    if root.join(UNPACKED).exists() {
        return Ok(());
    }
    let memory = tatara_sys::memory::memory(&root.join("proc"))
        .map(|memory| format!("; the kernel has {} MiB of memory", memory.total / MIB));
    let text = format!(
        "the initramfs was unpacked in part only{}, the machine needs {MEMORY_MIN_MIB} MiB",
        memory.unwrap_or_default()
    );
    Err(Fault::new(Code::MemoryLow, text))
}

/// The pause after so many failures in a row: 1, 2, 4 … 60 seconds.
fn pause(failures: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(failures).unwrap_or(u64::MAX)).min(PAUSE_MAX)
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{pause, run, unpacked};

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<_> = [0, 1, 2, 5, 6, 63, 64, u32::MAX].map(|n| pause(n).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn an_initramfs_without_its_end_is_too_little_memory() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        std::fs::write(
            root.path().join("proc/meminfo"),
            "MemTotal: 92160 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n",
        )
        .unwrap();
        let fault = unpacked(root.path()).unwrap_err();
        assert_eq!(fault.code, tatara_spec::Code::MemoryLow);
        assert!(fault.chain().contains("90 MiB"), "{}", fault.chain());
        std::fs::write(root.path().join("unpacked"), "").unwrap();
        unpacked(root.path()).unwrap();
    }

    #[test]
    fn it_refuses_to_run_as_another_process() {
        assert_eq!(run(), std::process::ExitCode::FAILURE);
    }
}
