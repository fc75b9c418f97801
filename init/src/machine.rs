//! What the steps of a boot share: consoles, command line, drivers, the network once it is up.

use crate::network::Online;
use serde::Deserialize;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tatara_init::backoff::Backoff;
use tatara_init::console::Reporter;
use tatara_init::drivers::{Class, Drivers};
use tatara_installer::{Progress, scan};
use tatara_spec::cmdline::{self, CommandLine};
use tatara_spec::plan::{Content, Disk, Origin};
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

/// Written by `tatara image build` into the initramfs.
const BUILD: &str = "/etc/tatara/build.json";
/// minisign public keys, one a line.
const KEYS: &str = "/etc/tatara/keys";
/// A boot from disk waits so long for the disk: slow RAID controllers take half a minute to find theirs.
const DISK_DEADLINE: Duration = Duration::from_secs(60);

/// What is known of this initramfs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// Seconds since 1970; no clock is earlier.
    pub release_epoch: u64,
}

/// The machine as far as it has come.
pub struct Machine {
    pub reporter: Reporter,
    pub build: Build,
    pub line: CommandLine,
    /// Keys of the initramfs and the command line: with any, config and release must be signed.
    pub keys: Vec<String>,
    pub drivers: Drivers,
    pub online: Option<Online>,
    /// The plan as printed.
    pub plan: String,
    pub backoff: Backoff,
    /// The step that runs, for the record of its failure.
    running: Mutex<Option<Step>>,
}

impl Machine {
    /// Opens the consoles and reads what the initramfs says of itself.
    pub fn new() -> Result<Self, Fault> {
        let build = std::fs::read(BUILD)
            .map_err(|e| Fault::caused(Code::Internal, format!("cannot read {BUILD}"), e))
            .and_then(|bytes| {
                serde_json::from_slice(&bytes).map_err(|e| Fault::caused(Code::Internal, format!("{BUILD} is wrong"), e))
            })?;
        let modules = Path::new("/lib/modules").join(kernel_release());
        Ok(Self {
            reporter: Reporter::open(Path::new("/")),
            build,
            line: cmdline::parse("")?,
            keys: Vec::new(),
            drivers: Drivers::new(&modules)?,
            online: None,
            plan: String::new(),
            backoff: Backoff::default(),
            running: Mutex::new(None),
        })
    }

    /// Runs one step: says that it begins, and what was done or why it failed.
    pub fn step<T>(
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
    pub fn running(&self) -> Step {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Step::Mounts)
    }

    /// Step: the kernel command line.
    pub fn read_command_line(&mut self) -> Result<((), String), Fault> {
        let text = std::fs::read_to_string("/proc/cmdline")
            .map_err(|e| Fault::caused(Code::Sys, "cannot read /proc/cmdline", e))?;
        self.line = cmdline::parse(&text)?;
        let built_in = std::fs::read_to_string(KEYS).unwrap_or_default();
        self.keys = built_in.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        self.keys.extend(self.line.keys.iter().cloned());
        Ok(((), format!("origin={:?}", self.line.request.origin).to_lowercase()))
    }

    /// Step: drivers of storage controllers. A boot from disk leaves the rest to systemd's udev.
    pub fn load_storage_drivers(&mut self) -> Result<((), String), Fault> {
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
    pub fn find_disks(&mut self) -> Result<(Vec<Disk>, String), Fault> {
        let mut disks = self.scan()?;
        if self.line.request.origin == Origin::Disk && !any_installed(&disks) {
            let deadline = Instant::now() + DISK_DEADLINE;
            // A disk may sit behind a controller of another class, USB before all.
            self.drivers.coldplug(Class::All)?;
            let mut last = Ok(Vec::new());
            self.drivers.wait_for(deadline, Class::All, || {
                last = scan::disks(Path::new("/sys"), Path::new("/dev"), None);
                last.as_ref().map_or(true, |disks| any_installed(disks))
            })?;
            disks = last?;
        }
        let detail = format!("disks={}", disks.len());
        Ok((disks, detail))
    }

    /// The disks as they are now.
    pub fn scan(&self) -> Result<Vec<Disk>, Fault> {
        scan::disks(Path::new("/sys"), Path::new("/dev"), None)
    }
}

fn any_installed(disks: &[Disk]) -> bool {
    disks.iter().any(|disk| matches!(disk.content, Content::Installed(_)))
}

/// `uname -r`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
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
        self.reporter.progress(step, done, total);
    }

    fn info(&self, text: &str) {
        self.reporter.info(text);
    }
}
