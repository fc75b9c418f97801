//! What the steps of a boot share: consoles, command line, drivers, the network once it is up.

use crate::network::Online;
use crate::rehearsal;
use serde::Deserialize;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tatara_http::backoff::Backoff;
use tatara_init::clock::Source;
use tatara_init::console::{Kernel, Reporter};
use tatara_init::drivers::{Class, Drivers, Settling};
use tatara_installer::{Progress, StateFile, StateMount, scan, state as state_partition};
use tatara_spec::cmdline::{self, CommandLine};
use tatara_spec::layout::{MIB, run, state};
use tatara_spec::plan::{Content, Disk, Origin, Serials};
use tatara_spec::record::Timeline;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

/// Written by `tatara image build` into the initramfs.
const BUILD: &str = "/etc/tatara/build.json";
/// minisign public keys, one a line.
const KEYS: &str = "/etc/tatara/keys";
/// A boot from disk waits so long for the disk: slow RAID controllers take half a minute to find theirs.
const DISK_DEADLINE: Duration = Duration::from_secs(60);

/// A boot waits so long for modules that systemd would load itself: a self-test of a random number generator takes two seconds.
const LOADING_DEADLINE: Duration = Duration::from_secs(5);

/// File systems of a node, the state partition's first: it is needed first.
pub(crate) const FILE_SYSTEMS: [&str; 3] = [STATE_FILE_SYSTEM, "erofs", "overlay"];
const STATE_FILE_SYSTEM: &str = "ext4";
/// systemd loads these, and what [`Class::Early`] drives, before its first line, one after the other (systemd 257, src/core/kmod-setup.c).
const SYSTEMD_EARLY: [&str; 2] = ["autofs4", "ip_tables"];

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
    pub(crate) drivers: Arc<Drivers>,
    /// Ends with the thread of [`load_ahead`].
    loading: Option<Mutex<Receiver<()>>>,
    /// Whether disks are still appearing; from the search for the disk on.
    settling: Option<Settling>,
    pub(crate) online: Option<Online>,
    /// Where the time on the clock comes from, once it was looked at.
    pub(crate) clock: Option<Source>,
    /// Where the config wants failures reported.
    pub(crate) report_url: Option<String>,
    /// The plan as printed.
    pub(crate) plan: String,
    pub(crate) backoff: Backoff,
    /// This try is for a staged config, and there is an accepted one that boots without it.
    pub(crate) accepted_can_boot: bool,
    /// Since when nobody gave a config; `None` when the last try got one.
    pub(crate) offline_since: Option<Instant>,
    /// The configs that were accepted, for as long as this worker runs.
    pub(crate) serials: Serials,
    /// What is not as configured about this boot, so far.
    pub(crate) degraded: Vec<String>,
    /// The failure that the last boot left was shown.
    pub(crate) showed_last: bool,
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
        let drivers = Arc::new(Drivers::new(&modules)?);
        let reporter = Arc::new(Reporter::open(Path::new("/")));
        let loading = load_ahead(&drivers, &reporter).map(Mutex::new);
        Ok(Self {
            reporter,
            build,
            line: cmdline::parse("")?,
            keys: Vec::new(),
            drivers,
            loading,
            settling: None,
            online: None,
            clock: None,
            report_url: None,
            plan: String::new(),
            backoff: Backoff::default(),
            accepted_can_boot: false,
            offline_since: None,
            serials: Serials::default(),
            degraded: Vec::new(),
            showed_last: false,
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
        // Who knows its disk need not wait for the links of others to come up.
        let class = if self.knows_its_disk() { Class::Direct } else { Class::Storage };
        let mut report = self.drivers.coldplug(class)?;
        if self.line.request.origin != Origin::Disk {
            report.extend(self.drivers.coldplug(Class::Usb)?);
        }
        for (module, error) in &report.failed {
            self.reporter.info(&format!("driver {module} could not be loaded: {error}"));
        }
        Ok(((), format!("loaded={}", report.loaded.len())))
    }

    /// Waits until what systemd wants at its start is loaded: for one module that is missing it reads the index of all. A driver that
    /// hangs is named; where it can be killed, the node is entered all the same.
    pub(crate) fn finish_loading(&mut self) {
        let Some(Ok(loading)) = self.loading.take().map(Mutex::into_inner) else { return };
        // The thread sends nothing: its end is what ends the wait.
        if loading.recv_timeout(LOADING_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            let names = self.drivers.loading().join(", ");
            let seconds = LOADING_DEADLINE.as_secs();
            self.reporter.info(&format!("after {seconds} s still loading: {names}"));
        }
    }

    fn knows_its_disk(&self) -> bool {
        self.line.request.origin == Origin::Disk && self.line.esp.is_some()
    }

    /// The drivers that a boot from disk did without: what follows needs to know all disks, which appear while the network comes up.
    pub(crate) fn load_late_drivers(&self) -> Result<(), Fault> {
        self.drivers.coldplug(Class::AnyDisk).map(drop)
    }

    /// The disks, when no more are appearing: one that comes late may be the one that is meant, or make the choice ambiguous.
    pub(crate) fn settled_disks(&mut self) -> Result<Vec<Disk>, Fault> {
        let mut settling = self.settling.take().unwrap_or_else(begin_settling);
        let waited = self.drivers.settle(&mut settling)?;
        self.settling = Some(settling);
        if waited >= Duration::from_secs(1) {
            self.reporter.info(&format!("waited {:.1} s until no more disks appeared", waited.as_secs_f64()));
        }
        self.scan()
    }

    /// Step: the disks. A boot from disk waits for the disk that it came from.
    pub(crate) fn find_disks(&mut self) -> Result<(Vec<Disk>, String), Fault> {
        self.settling = Some(begin_settling());
        let mut disks = self.scan()?;
        let from_disk = self.line.request.origin == Origin::Disk;
        let mut found = !from_disk || self.is_ours_there(&disks);
        if !found && self.knows_its_disk() {
            self.drivers.coldplug(Class::Storage)?;
            disks = self.scan()?;
            found = self.is_ours_there(&disks);
        }
        if !found {
            let deadline = Instant::now() + DISK_DEADLINE;
            // A disk may sit behind a controller of another class, USB before all.
            self.drivers.coldplug(Class::All)?;
            self.drivers.wait_for(deadline, Class::All, || {
                // A disk that cannot be looked at yet is looked at again at the next event.
                disks = self.scan().unwrap_or_default();
                self.is_ours_there(&disks)
            })?;
        }
        let detail = format!("disks={}", disks.len());
        Ok((disks, detail))
    }

    /// Whether the disk that this machine was booted from is among these.
    fn is_ours_there(&self, disks: &[Disk]) -> bool {
        let mut installed = disks.iter().filter(|disk| matches!(disk.content, Content::Installed(_)));
        match &self.line.esp {
            Some(esp) => installed.any(|disk| scan::has_esp(&disk.path, esp)),
            None => installed.next().is_some(),
        }
    }

    /// The disks as they are now.
    pub(crate) fn scan(&self) -> Result<Vec<Disk>, Fault> {
        // Also when something else was booted: a stick left in the machine must not be taken for its disk.
        // Without the driver the kernel would start a modprobe; it is loaded beside the search, which waits for it only here.
        let driver = || self.drivers.load(STATE_FILE_SYSTEM);
        scan::disks(Path::new("/sys"), Path::new("/dev"), Some(scan::USB_ESP_LABEL), &driver)
    }

    /// Says how little memory was left during the install.
    pub(crate) fn tell_memory(&self) {
        let lowest = self.lowest_memory.load(Ordering::Relaxed);
        if lowest != u64::MAX {
            self.reporter.info(&format!("lowest free memory during the install: mib={}", lowest / MIB));
        }
    }

    /// Keeps the timeline on the state partition: after a kexec nobody else knows the times before.
    pub(crate) fn save_timeline(&self, mount: &StateMount) {
        let path = format!("{}/{BEFORE_KEXEC}", state::TIMELINE_DIR);
        let saved =
            json(&self.reporter.timeline()).and_then(|json| mount.write(&StateFile::private(path, json)));
        self.or_say("the timeline is not kept", saved);
    }

    /// Says a failure that is no reason not to go on, say on a full state partition.
    pub(crate) fn or_say(&self, what: &str, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.reporter.info(&format!("{what}: {}: {}", fault.code, fault.chain()));
        }
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

/// Loads what is needed later beside all that comes before, in the order of need, so that the first is not held up by the others. Who
/// needs one of them loads it again, which waits.
fn load_ahead(drivers: &Arc<Drivers>, reporter: &Arc<Reporter>) -> Option<Receiver<()>> {
    let (running, ended) = channel();
    let (drivers, reporter) = (Arc::clone(drivers), Arc::clone(reporter));
    let load = move || {
        for name in FILE_SYSTEMS {
            if let Err(fault) = drivers.load(name) {
                reporter.info(&format!("{}: {}", fault.code, fault.chain()));
            }
        }
        // What fails here systemd tries again, and says so.
        for name in SYSTEMD_EARLY {
            let _ = drivers.load(name);
        }
        let _ = drivers.coldplug(Class::Early);
        drop(running);
    };
    // Without memory for a thread they are loaded when they are needed.
    std::thread::Builder::new().spawn(load).is_ok().then_some(ended)
}

fn begin_settling() -> Settling {
    Settling::begin(Path::new("/sys"), Instant::now())
}

/// A value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec_pretty(value)
        .map_err(|e| Fault::caused(Code::Internal, "a record cannot be written as JSON", e))
}

/// Writes a file below /run/tatara.
pub(crate) fn write_run(path: &str, bytes: &[u8]) -> Result<(), Fault> {
    state_partition::make_run_dir(Path::new("/"))
        .and_then(|()| fs::write(path, bytes))
        .map_err(|e| Fault::caused(Code::Sys, format!("cannot write {path}"), e))
}

impl Progress for Machine {
    fn begin(&self, step: Step) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
        self.reporter.begin(step);
        rehearsal::panic_at(step, &self.line.panics);
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
