//! What the steps of a boot share: consoles, command line, drivers, the network once it is up.

use crate::network::Online;
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tatara_init::backoff::Backoff;
use tatara_init::console::{Kernel, Reporter};
use tatara_init::drivers::{Class, Drivers};
use tatara_installer::{Progress, StateFile, StateMount, scan};
use tatara_spec::cmdline::{self, CommandLine};
use tatara_spec::layout::{MIB, run, state};
use tatara_spec::plan::{Content, Disk, Origin};
use tatara_spec::record::Timeline;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

/// Written by `tatara image build` into the initramfs.
const BUILD: &str = "/etc/tatara/build.json";
/// minisign public keys, one a line.
const KEYS: &str = "/etc/tatara/keys";
/// A boot from disk waits so long for the disk: slow RAID controllers take half a minute to find theirs.
const DISK_DEADLINE: Duration = Duration::from_secs(60);

/// The timeline of the kernel before a kexec, in [`state::TIMELINE_DIR`].
const BEFORE_KEXEC: &str = "before-kexec.json";

/// What is known of this initramfs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Build {
    /// Seconds since 1970; no clock is earlier.
    pub(crate) release_epoch: u64,
}

/// The machine as far as it has come.
pub(crate) struct Machine {
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) build: Build,
    pub(crate) line: CommandLine,
    /// Keys of the initramfs and the command line: with any, config and release must be signed.
    pub(crate) keys: Vec<String>,
    pub(crate) drivers: Drivers,
    pub(crate) online: Option<Online>,
    /// The plan as printed.
    pub(crate) plan: String,
    pub(crate) backoff: Backoff,
    /// The step that runs, for the record of its failure.
    running: Mutex<Option<Step>>,
    /// The least free memory seen while bytes were on their way, in bytes.
    lowest_memory: AtomicU64,
}

impl Machine {
    /// Opens the consoles and reads what the initramfs says of itself.
    pub(crate) fn new() -> Result<Self, Fault> {
        let build = fs::read(BUILD)
            .map_err(|e| Fault::caused(Code::Internal, format!("cannot read {BUILD}"), e))
            .and_then(|bytes| {
                serde_json::from_slice(&bytes)
                    .map_err(|e| Fault::caused(Code::Internal, format!("{BUILD} is wrong"), e))
            })?;
        let modules = Path::new("/lib/modules").join(tatara_sys::module::kernel_release());
        Ok(Self {
            reporter: Arc::new(Reporter::open(Path::new("/"))),
            build,
            line: cmdline::parse("")?,
            keys: Vec::new(),
            drivers: Drivers::new(&modules)?,
            online: None,
            plan: String::new(),
            backoff: Backoff::default(),
            running: Mutex::new(None),
            lowest_memory: AtomicU64::new(u64::MAX),
        })
    }

    /// Runs one step: says that it begins, and what was done or why it failed.
    pub(crate) fn step<T>(
        &mut self,
        step: Step,
        act: impl FnOnce(&mut Self) -> Result<(T, String), Fault>,
    ) -> Result<T, Fault> {
        self.begin(step);
        let (value, detail) = act(self)?;
        self.ok(step, &detail);
        Ok(value)
    }

    /// The step that runs, or ran last.
    pub(crate) fn running(&self) -> Step {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Step::Mounts)
    }

    /// Step: the kernel command line.
    pub(crate) fn read_command_line(&mut self) -> Result<((), String), Fault> {
        let text = fs::read_to_string("/proc/cmdline")
            .map_err(|e| Fault::caused(Code::Sys, "cannot read /proc/cmdline", e))?;
        self.line = cmdline::parse(&text)?;
        let built_in = fs::read_to_string(KEYS).unwrap_or_default();
        self.keys =
            built_in.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        self.keys.extend(self.line.keys.iter().cloned());
        Ok(((), format!("origin={:?}", self.line.request.origin).to_lowercase()))
    }

    /// Step: drivers of storage controllers. A boot from disk leaves the rest to systemd's udev.
    pub(crate) fn load_storage_drivers(&mut self) -> Result<((), String), Fault> {
        let mut report = self.drivers.coldplug(Class::Storage)?;
        if self.line.request.origin != Origin::Disk {
            report.extend(self.drivers.coldplug(Class::Usb)?);
        }
        for (module, error) in &report.failed {
            self.reporter.info(&format!("driver {module} could not be loaded: {error}"));
        }
        Ok(((), format!("loaded={}", report.loaded.len())))
    }

    /// Step: the disks. A boot from disk waits for the disk that it came from.
    pub(crate) fn find_disks(&mut self) -> Result<(Vec<Disk>, String), Fault> {
        let mut disks = self.scan()?;
        if self.line.request.origin == Origin::Disk && !any_installed(&disks) {
            let deadline = Instant::now() + DISK_DEADLINE;
            // A disk may sit behind a controller of another class, USB before all.
            self.drivers.coldplug(Class::All)?;
            self.drivers.wait_for(deadline, Class::All, || {
                // A disk that cannot be looked at yet is looked at again at the next event.
                disks = self.scan().unwrap_or_default();
                any_installed(&disks)
            })?;
        }
        let detail = format!("disks={}", disks.len());
        Ok((disks, detail))
    }

    /// The disks as they are now.
    pub(crate) fn scan(&self) -> Result<Vec<Disk>, Fault> {
        let stick = (self.line.request.origin == Origin::Usb).then_some(scan::USB_ESP_LABEL);
        scan::disks(Path::new("/sys"), Path::new("/dev"), stick)
    }

    /// Says how little memory was left during the install.
    pub(crate) fn tell_memory(&self) {
        let lowest = self.lowest_memory.load(Ordering::Relaxed);
        if lowest != u64::MAX {
            self.reporter.info(&format!("lowest free memory during the install: mib={}", lowest / MIB));
        }
    }

    /// Keeps the timeline on the state partition: after a kexec nobody else knows the times before.
    pub(crate) fn save_timeline(&self, mount: &StateMount) -> Result<(), Fault> {
        let path = format!("{}/{BEFORE_KEXEC}", state::TIMELINE_DIR);
        mount.write(&StateFile { path, mode: 0o600, bytes: json(&self.reporter.timeline())? })
    }

    /// Takes up the timeline of the kernel that started this one by kexec.
    pub(crate) fn resume_timeline(&self, mount: &StateMount) -> Result<(), Fault> {
        let path = format!("{}/{BEFORE_KEXEC}", state::TIMELINE_DIR);
        // A timeline that cannot be read is no reason not to boot.
        if let Some(bytes) = mount.read(&path, MIB)?
            && let Ok(earlier) = serde_json::from_slice::<Timeline>(&bytes)
        {
            self.reporter.resume(earlier, Kernel::Earlier);
        }
        Ok(())
    }

    /// Hands the timeline to the node.
    pub(crate) fn hand_timeline_over(&self) -> Result<(), Fault> {
        write_run(run::TIMELINE, &json(&self.reporter.timeline())?)
    }
}

/// A value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec_pretty(value)
        .map_err(|e| Fault::caused(Code::Internal, "a record cannot be written as JSON", e))
}

/// Writes a file below /run/tatara.
pub(crate) fn write_run(path: &str, bytes: &[u8]) -> Result<(), Fault> {
    fs::create_dir_all(run::DIR)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|e| Fault::caused(Code::Sys, format!("cannot write {path}"), e))
}

fn any_installed(disks: &[Disk]) -> bool {
    disks.iter().any(|disk| matches!(disk.content, Content::Installed(_)))
}

impl Progress for Machine {
    fn begin(&self, step: Step) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
        self.reporter.begin(step);
    }

    fn ok(&self, step: Step, detail: &str) {
        self.reporter.ok(step, detail);
    }

    fn bytes(&self, step: Step, done: u64, total: u64) {
        if let Ok(memory) = tatara_sys::memory::memory(Path::new("/proc")) {
            self.lowest_memory.fetch_min(memory.available, Ordering::Relaxed);
        }
        self.reporter.progress(step, done, total);
    }

    fn info(&self, text: &str) {
        self.reporter.info(text);
    }
}
