//! Drivers by modalias: what a device says it is, against what modules say they drive.
//!
//! Coldplug looks at the devices that are there, again after every round of loading, because a bus's driver makes new devices appear.
//! What comes later is announced by the kernel. "All devices have settled" does not exist: callers wait for what they need, or, where
//! they need all disks, until nothing has appeared for a while ([`Settling`]).

mod alias;
mod class;
mod index;
mod load;
mod settle;

pub use class::Class;
pub use settle::Settling;

use index::Index;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tatara_spec::{Code, Fault};
use tatara_sys::module;
use tatara_sys::uevent::{Received, Uevent, UeventSocket};

/// What loading came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Modules that are loaded now and were not before, in the order of loading.
    pub loaded: Vec<String>,
    /// Modules that the kernel refused.
    pub failed: Vec<(String, tatara_sys::Error)>,
}

impl Report {
    /// Adds another report's modules.
    pub fn extend(&mut self, other: Report) {
        self.loaded.extend(other.loaded);
        self.failed.extend(other.failed);
    }
}

/// What waiting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for is there.
    Met,
    /// The deadline came first.
    Deadline,
}

/// How far loading a module has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// A thread is at it.
    Running,
    /// The kernel has it.
    Loaded,
    /// The kernel refused it.
    Refused,
}

/// The drivers of the running kernel; several threads may load at once.
#[derive(Debug)]
pub struct Drivers {
    modules_dir: PathBuf,
    sys: PathBuf,
    index: Index,
    /// `module.parameter=value` of the kernel command line, by module.
    parameters: HashMap<String, String>,
    /// `modprobe.blacklist=` and `module_blacklist=` of the kernel command line: not loaded for a device.
    blacklist: HashSet<String>,
    /// Modules that have been tried; none is tried twice for a device.
    tried: Mutex<HashMap<usize, Trial>>,
    /// Told when a trial has ended.
    ended: Condvar,
    /// Modaliases that have been looked up.
    seen: Mutex<HashSet<String>>,
    events: OnceLock<UeventSocket>,
}

impl Drivers {
    /// The modules in `modules_dir` (/lib/modules/VERSION), for the devices of /sys, with the parameters of /proc/cmdline.
    ///
    /// # Errors
    /// [`Code::Module`] when the directory has no `modules.dep` or `modules.alias`.
    pub fn new(modules_dir: &Path) -> Result<Self, Fault> {
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Self::at(modules_dir, Path::new("/sys"), &cmdline)
    }

    /// The same with another /sys and command line.
    ///
    /// # Errors
    /// As [`Drivers::new`].
    pub fn at(modules_dir: &Path, sys: &Path, cmdline: &str) -> Result<Self, Fault> {
        let (parameters, blacklist) = module_arguments(cmdline);
        Ok(Self {
            modules_dir: modules_dir.to_owned(),
            sys: sys.to_owned(),
            index: Index::read(modules_dir)?,
            parameters,
            blacklist,
            tried: Mutex::default(),
            ended: Condvar::new(),
            seen: Mutex::default(),
            events: OnceLock::new(),
        })
    }

    /// Loads the drivers of every device of the class that is there, until loading makes no new ones appear.
    ///
    /// # Errors
    /// [`Code::Sys`] when the kernel's events cannot be received. A module that cannot be loaded is in the report, and no error.
    pub fn coldplug(&self, class: Class) -> Result<Report, Fault> {
        // From here on nothing that appears is missed: it is either found below or announced.
        self.events()?;
        let mut report = Report::default();
        loop {
            let modaliases: Vec<_> = self.modaliases(class).into_iter().filter(|m| self.is_new(m)).collect();
            if modaliases.is_empty() {
                return Ok(report);
            }
            report.extend(self.load_for(&modaliases));
        }
    }

    /// Loads a module by name or alias, e.g. `fs-erofs` or `overlay`; one that is loaded or built in already is fine.
    ///
    /// # Errors
    /// [`Code::Module`] when there is no such module, or the kernel refused it.
    pub fn load(&self, name: &str) -> Result<(), Fault> {
        let wanted = self.index.resolve(name);
        if wanted.is_empty() {
            if self.index.is_builtin(name) || self.is_loaded(&alias::normalise(name)) {
                return Ok(());
            }
            let message = format!("no module in {} is or drives `{name}`", self.modules_dir.display());
            return Err(Fault::new(Code::Module, message));
        }
        // Who asks by name cannot do without: memory that was short then may be there now.
        lock(&self.tried).retain(|_, trial| *trial != Trial::Refused);
        let mut report = self.load_all(&wanted);
        // What it needs only softly may be refused: a CPU has no instruction for CRC-32C, say, and there is another module for it.
        let tried = lock(&self.tried);
        if wanted.iter().any(|number| tried.get(number) != Some(&Trial::Refused)) {
            return Ok(());
        }
        match report.failed.pop() {
            Some((module, error)) => {
                Err(Fault::caused(Code::Module, format!("cannot load `{module}` for `{name}`"), error))
            }
            None => Err(Fault::new(Code::Module, format!("the kernel refused `{name}` to another thread"))),
        }
    }

    /// Waits until `met` holds, loading drivers of the class for devices that appear. `met` is asked at once, and again whenever a
    /// device came or changed. The report is of the modules loaded meanwhile.
    ///
    /// # Errors
    /// [`Code::Sys`] when the kernel's events cannot be received.
    pub fn wait_for(
        &self,
        deadline: Instant,
        class: Class,
        mut met: impl FnMut() -> bool,
    ) -> Result<(Waited, Report), Fault> {
        let mut report = self.coldplug(class)?;
        loop {
            if met() {
                return Ok((Waited::Met, report));
            }
            if !self.follow_events(deadline, class, &mut report)? {
                let waited = if met() { Waited::Met } else { Waited::Deadline };
                return Ok((waited, report));
            }
        }
    }

    /// Takes events up to one that is of interest and those pending behind it; false when the deadline came first.
    fn follow_events(&self, deadline: Instant, class: Class, report: &mut Report) -> Result<bool, Fault> {
        let mut interesting = false;
        loop {
            let left =
                if interesting { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            let received = self.events()?.receive(left);
            match received.map_err(|e| Fault::caused(Code::Sys, "cannot receive the kernel's events", e))? {
                Received::Timeout => return Ok(interesting),
                Received::Overflow => {
                    report.extend(self.coldplug(class)?);
                    interesting = true;
                }
                Received::Event(event) => {
                    report.extend(self.load_for_event(class, &event));
                    interesting |= event.action != "remove";
                }
            }
        }
    }

    fn load_for_event(&self, class: Class, event: &Uevent) -> Report {
        match event.modalias.as_ref().filter(|modalias| class.wants(modalias)) {
            Some(modalias) if self.is_new(modalias) => self.load_for(std::slice::from_ref(modalias)),
            _ => Report::default(),
        }
    }

    fn events(&self) -> Result<&UeventSocket, Fault> {
        if let Some(socket) = self.events.get() {
            return Ok(socket);
        }
        let socket = UeventSocket::open()
            .map_err(|e| Fault::caused(Code::Sys, "cannot listen to the kernel's events", e))?;
        Ok(self.events.get_or_init(|| socket))
    }

    /// Whether a modalias has not been looked up yet; it counts as looked up from then on.
    fn is_new(&self, modalias: &str) -> bool {
        lock(&self.seen).insert(modalias.to_owned())
    }

    /// The modaliases of the class's devices, each once. Every device with one is on a bus, so /sys/bus is enough.
    fn modaliases(&self, class: Class) -> BTreeSet<String> {
        let bus_dir = self.sys.join("bus");
        let buses = match class.buses() {
            Some(buses) => buses.iter().map(|bus| bus_dir.join(bus)).collect(),
            None => entries(&bus_dir),
        };
        let devices = buses.iter().flat_map(|bus| entries(&bus.join("devices")));
        let texts = devices.filter_map(|device| std::fs::read_to_string(device.join("modalias")).ok());
        texts.map(|text| text.trim().to_owned()).filter(|m| !m.is_empty() && class.wants(m)).collect()
    }

    fn load_for(&self, modaliases: &[String]) -> Report {
        let resolved = modaliases.iter().flat_map(|modalias| self.index.resolve(modalias));
        let wanted: Vec<_> = resolved.filter(|module| !self.is_blacklisted(*module)).collect();
        self.load_all(&wanted)
    }

    fn is_blacklisted(&self, module: usize) -> bool {
        self.index.module(module).is_some_and(|module| self.blacklist.contains(&module.name))
    }

    /// Whether the kernel has it and its start is over (Documentation/ABI/testing/sysfs-module); one that is built in has no state.
    fn is_loaded(&self, name: &str) -> bool {
        let state = self.sys.join("module").join(name).join("initstate");
        std::fs::read(state).is_ok_and(|state| state.starts_with(b"live"))
    }

    /// Claims a module for this thread, or tells that it was tried before. While another thread is at it, this one waits: what
    /// it loads next may need the module.
    fn claim(&self, number: usize) -> bool {
        let mut tried = lock(&self.tried);
        loop {
            match tried.get(&number) {
                Some(Trial::Loaded | Trial::Refused) => return false,
                Some(Trial::Running) => {
                    tried = self.ended.wait(tried).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    tried.insert(number, Trial::Running);
                    return true;
                }
            }
        }
    }

    /// The modules that are being loaded now.
    pub fn loading(&self) -> Vec<&str> {
        let tried = lock(&self.tried);
        let running = tried.iter().filter(|(_, trial)| **trial == Trial::Running);
        running.filter_map(|(number, _)| Some(self.index.module(*number)?.name.as_str())).collect()
    }

    /// Ends what [`Drivers::claim`] began.
    fn release(&self, number: usize, trial: Trial) {
        lock(&self.tried).insert(number, trial);
        self.ended.notify_all();
    }

    fn load_all(&self, wanted: &[usize]) -> Report {
        let skip = |number: usize| match lock(&self.tried).get(&number).copied() {
            Some(trial) => trial != Trial::Running,
            None => self.index.module(number).is_some_and(|module| self.is_loaded(&module.name)),
        };
        let jobs = self.index.plan(wanted, &skip);
        let report = Mutex::new(Report::default());
        load::run_all(&jobs, &|number| {
            let Some(module) = self.index.module(number) else { return };
            if !self.claim(number) {
                return;
            }
            let parameters = self.parameters.get(&module.name).map_or("", String::as_str);
            let result = module::load(&self.modules_dir.join(&module.file), parameters);
            self.release(number, if result.is_ok() { Trial::Loaded } else { Trial::Refused });
            let mut report = lock(&report);
            match result {
                Ok(module::Loaded::New) => report.loaded.push(module.name.clone()),
                Ok(module::Loaded::Already) => {}
                Err(error) => report.failed.push((module.name.clone(), error)),
            }
        });
        report.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The paths in a directory; a directory that is absent, or goes away meanwhile, is empty.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Parameters and blacklist of the kernel command line, as modprobe(8) takes them.
fn module_arguments(cmdline: &str) -> (HashMap<String, String>, HashSet<String>) {
    let mut parameters: HashMap<String, String> = HashMap::new();
    let mut blacklist = HashSet::new();
    for argument in tatara_spec::cmdline::split(cmdline) {
        let Some((key, value)) = argument.split_once('=') else { continue };
        if matches!(key, "modprobe.blacklist" | "module_blacklist") {
            blacklist.extend(value.split(',').map(alias::normalise));
        } else if let Some((module, parameter)) = key.split_once('.') {
            let all = parameters.entry(alias::normalise(module)).or_default();
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(&format!("{parameter}={value}"));
        }
    }
    (parameters, blacklist)
}

#[cfg(test)]
mod tests;
