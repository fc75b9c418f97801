//! What is compared and never set: it was decided when the kernel or a process started.

use super::kernel::Kernel;
use super::point::{Point, Topic, Wanted, allowed};
use super::points::numbers;
use serde::Serialize;
use tatara_spec::config::Isolation;
use tatara_spec::cpu::CpuSet;
use tatara_spec::record::TuningRecord;

/// A difference between what is and what should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Difference {
    pub(super) topic: Topic,
    pub(super) name: String,
    pub(super) wanted: String,
    pub(super) actual: String,
}

/// What was compared: how many, and which differ.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) points: usize,
    pub(super) differences: Vec<Difference>,
}

impl Compared {
    /// Counts a point; `actual` is `None` where it is as wanted.
    pub(super) fn point(
        &mut self,
        topic: Topic,
        name: impl Into<String>,
        wanted: impl ToString,
        actual: Option<String>,
    ) {
        self.points += 1;
        let difference = |actual| Difference { topic, name: name.into(), wanted: wanted.to_string(), actual };
        self.differences.extend(actual.map(difference));
    }

    pub(super) fn file(&mut self, kernel: &dyn Kernel, point: &Point) {
        let actual = match point.actual(kernel) {
            Ok(text) if point.wanted.is(&text) => None,
            Ok(text) => Some(text),
            Err(error) => Some(error.to_string()),
        };
        self.point(point.topic, point.name.clone(), &point.wanted, actual);
    }
}

/// Compares everything that only a boot can change.
pub(super) fn compare(kernel: &dyn Kernel, record: &TuningRecord) -> Compared {
    let mut compared = Compared::default();
    arguments(kernel, record, &mut compared);
    cpu_lists(kernel, record, &mut compared);
    kernel_log(kernel, record, &mut compared);
    sysctls(kernel, record, &mut compared);
    if !record.isolated.is_empty() {
        slices(kernel, record, &mut compared);
        processes(kernel, record, &mut compared);
    }
    compared
}

/// As a set: order means nothing, but for huge pages, whose count belongs to the size before it and is compared itself.
fn arguments(kernel: &dyn Kernel, record: &TuningRecord, compared: &mut Compared) {
    let line = kernel.read("/proc/cmdline").unwrap_or_default();
    let running = tatara_spec::cmdline::split(&line);
    for argument in &record.kernel_arguments {
        let name = argument.split('=').next().unwrap_or(argument);
        let same_name = |other: &&String| other.split('=').next() == Some(name);
        let others = || running.iter().filter(same_name).cloned().collect::<Vec<_>>().join(" ");
        let there = running.contains(argument);
        compared.point(Topic::KernelArgument, argument.clone(), "on the command line", (!there).then(others));
    }
}

/// What the kernel made of them. `isolated` has the CPUs without scheduler domains only.
fn cpu_lists(kernel: &dyn Kernel, record: &TuningRecord, compared: &mut Compared) {
    let none = CpuSet::default();
    let without_domains = if record.isolation == Isolation::Static { &record.isolated } else { &none };
    for (name, cpus) in [("isolated", without_domains), ("nohz_full", &record.isolated)] {
        let path = format!("/sys/devices/system/cpu/{name}");
        if cpus.is_empty() && !kernel.exists(&path) {
            continue;
        }
        compared.file(kernel, &Point::read_only(Topic::CpuList, path, Wanted::List(cpus.clone())));
    }
}

/// Texts of `kernel/sched/isolation.c`, `kernel/time/tick-sched.c` and `init/main.c`.
fn kernel_log(kernel: &dyn Kernel, record: &TuningRecord, compared: &mut Compared) {
    let log = match kernel.log() {
        Ok(log) => log,
        Err(error) => {
            return compared.point(Topic::KernelLog, "/dev/kmsg", "readable", Some(error.to_string()));
        }
    };
    let lines: Vec<&str> = log.lines().filter_map(|record| Some(record.split_once(';')?.1)).collect();
    // An old log has lost its beginning, where all of this stands.
    if !lines.iter().any(|line| line.starts_with("Linux version ")) {
        return;
    }
    let find = |start: &str| lines.iter().find(|line| line.starts_with(start)).map(|line| (*line).to_owned());
    for dropped in ["isolcpus: ", "Housekeeping: ", "nohz_full: "] {
        compared.point(Topic::KernelLog, format!("`{dropped}…`"), "no complaint", find(dropped));
    }
    // A CPU needs its tick to correct an unstable clock: nohz_full is then in force by name only.
    if !record.isolated.is_empty() {
        let unstable = find("sched_clock: Marking unstable").or_else(|| find("tsc: Marking TSC unstable"));
        compared.point(Topic::KernelLog, "clock", "stable, for the tick to stop", unstable);
    }
    let unknown = find("Unknown kernel command line parameters ");
    let ours = unknown.filter(|line| names_one(line, &record.kernel_arguments));
    compared.point(Topic::KernelLog, "unknown parameters", "none of the node's arguments", ours);
    if !record.isolated.is_empty() {
        let line = find("NO_HZ: Full dynticks CPUs: ");
        let list = line
            .as_deref()
            .and_then(|line| line.rsplit_once(": "))
            .map(|(_, list)| list.trim_end_matches('.'));
        let same = list.is_some_and(|list| Wanted::List(record.isolated.clone()).is(list));
        let actual = (!same).then(|| line.unwrap_or_else(|| "not in the log".to_owned()));
        compared.point(Topic::KernelLog, "NO_HZ: Full dynticks CPUs", &record.isolated, actual);
    }
}

/// `… parameters "BOOT_IMAGE=/vmlinuz splash", will be passed to user space.`
fn names_one(line: &str, arguments: &[String]) -> bool {
    let quoted = line.split('"').nth(1).unwrap_or_default();
    quoted.split(' ').any(|word| arguments.iter().any(|argument| argument == word))
}

fn sysctls(kernel: &dyn Kernel, record: &TuningRecord, compared: &mut Compared) {
    for (name, value) in &record.sysctls {
        // A dot inside a name is written as a slash in the form with dots (sysctl.d(5)).
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        };
        let path = format!("/proc/sys/{}", name.chars().map(swap).collect::<String>());
        if kernel.exists(&path) {
            let point = Point {
                name: name.clone(),
                ..Point::read_only(Topic::Sysctl, path, Wanted::Text(value.clone()))
            };
            compared.file(kernel, &point);
        }
    }
}

/// Slices that are not there have nobody in them.
fn slices(kernel: &dyn Kernel, record: &TuningRecord, compared: &mut Compared) {
    for slice in ["init.scope", "system.slice", "user.slice", "machine.slice"] {
        let directory = format!("/sys/fs/cgroup/{slice}");
        if kernel.exists(&directory) {
            let wanted = Wanted::List(record.housekeeping.clone());
            let path = format!("{directory}/cpuset.cpus.effective");
            compared.file(kernel, &Point::read_only(Topic::Slice, path, wanted));
        }
    }
    let irqbalance = numbers(kernel, "/proc").into_iter().find(|process| {
        kernel.read(&format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "irqbalance")
    });
    let actual = irqbalance.map(|process| format!("runs as {process}, and moves interrupts back"));
    compared.point(Topic::Service, "irqbalance", "absent", actual);
}

/// What systemd started, by its slice; pods have their own, and the kubelet gives them CPUs.
fn processes(kernel: &dyn Kernel, record: &TuningRecord, compared: &mut Compared) {
    for process in numbers(kernel, "/proc") {
        let file = |name: &str| kernel.read(&format!("/proc/{process}/{name}"));
        let Ok(cgroup) = file("cgroup") else { continue };
        let ours = ["init.scope", "system.slice", "user.slice"];
        let top =
            cgroup.trim().rsplit("::/").next().unwrap_or_default().split('/').next().unwrap_or_default();
        let (true, Ok(status), Ok(name)) = (ours.contains(&top), file("status"), file("comm")) else {
            continue;
        };
        let cpus = allowed(&status).unwrap_or_default();
        let wanted =
            Wanted::Within { allowed: record.housekeeping.clone(), set: record.housekeeping.clone() };
        let actual = (!wanted.is(&cpus)).then_some(cpus);
        compared.point(Topic::Process, format!("{} ({process})", name.trim()), &wanted, actual);
    }
}
