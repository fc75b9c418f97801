//! A kernel made of a directory that refuses what the real one refuses.

use super::checks::Difference;
use super::kernel::{Kernel, Live};
use super::noise::{Gaps, Noise, of_cpu};
use super::pin::{Outcome, PinReport, once};
use super::point::Topic;
use super::{interrupts, noise_svg, noise_text, verify};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;
use tatara_spec::config::{Governor, HugepageSize, Hugepages, Isolation};
use tatara_spec::cpu::CpuSet;
use tatara_spec::record::TuningRecord;

/// Writes go into the tree unless the path is one that is refused; an interrupt follows what it is told.
struct Fake {
    live: Live,
    root: tempfile::TempDir,
    refused: BTreeMap<String, Errno>,
    writes: RefCell<Vec<String>>,
    /// No interrupt comes: what is set is not in force yet.
    silent: bool,
}

impl Kernel for Fake {
    fn read(&self, path: &str) -> io::Result<String> {
        self.live.read(path)
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        if let Some(errno) = self.refused.get(path) {
            return Err((*errno).into());
        }
        self.writes.borrow_mut().push(path.to_owned());
        // The kernel shows all words, and the chosen one in brackets.
        let shown = if path.ends_with("transparent_hugepage/enabled") {
            format!("always [{text}]")
        } else {
            text.to_owned()
        };
        self.put(path, &shown);
        if let Some(irq) = path.strip_suffix("/smp_affinity_list").filter(|_| !self.silent) {
            self.put(&format!("{irq}/effective_affinity_list"), text.split([',', '-']).next().unwrap());
        }
        Ok(())
    }

    fn dirs(&self, path: &str) -> Vec<String> {
        self.live.dirs(path)
    }

    fn exists(&self, path: &str) -> bool {
        self.live.exists(path)
    }

    fn log(&self) -> io::Result<String> {
        self.live.log()
    }

    fn set_affinity(&self, thread: i32, cpus: &CpuSet) -> io::Result<()> {
        self.writes.borrow_mut().push(format!("thread {thread}"));
        self.put(&format!("/proc/{thread}/status"), &format!("Name:\tx\nCpus_allowed_list:\t{cpus}\n"));
        Ok(())
    }
}

impl Fake {
    fn put(&self, path: &str, text: &str) {
        put(self.root.path(), path, text);
    }

    fn text(&self, path: &str) -> String {
        self.read(path).unwrap().trim().to_owned()
    }
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text, 63).unwrap()
}

fn record() -> TuningRecord {
    TuningRecord {
        isolation: Isolation::Balanced,
        housekeeping: set("0-1"),
        isolated: set("2-3"),
        nodes: [(0, set("0-3"))].into(),
        last_cpu: 3,
        kernel_arguments: vec!["nohz_full=2-3".into(), "skew_tick=1".into()],
        sysctls: [("vm.stat_interval".to_owned(), "10".to_owned())].into(),
        hugepages: vec![Hugepages { size: HugepageSize::Mib2, per_numa_node: 8 }],
        governor: Some(Governor::Performance),
        wakeup_latency_us: Some(0),
        warnings: vec![],
    }
}

/// As a machine of four CPUs is after its boot, recorded from Linux 6.12 and cut down.
const MACHINE: &str = include_str!("tests/machine.txt");

fn machine() -> Fake {
    let root = tempfile::tempdir().unwrap();
    for line in MACHINE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (path, text) = line.split_once('\t').unwrap_or_else(|| panic!("no tab in `{line}`"));
        put(root.path(), path, &text.replace("\\n", "\n").replace("\\t", "\t"));
    }
    let live = Live::new(root.path().to_owned());
    // The timer's (IRQ 0) and a managed interrupt (26).
    let refused =
        [("/proc/irq/0/smp_affinity_list", Errno::PERM), ("/proc/irq/26/smp_affinity_list", Errno::IO)];
    let refused = refused.into_iter().map(|(path, errno)| (path.to_owned(), errno)).collect();
    Fake { live, root, refused, writes: RefCell::default(), silent: false }
}

fn names(differences: &[Difference]) -> Vec<&str> {
    differences.iter().map(|difference| difference.name.as_str()).collect()
}

#[test]
fn one_run_sets_everything_and_the_next_nothing() {
    let kernel = machine();
    let first = once(&kernel, &record());
    assert_eq!(first.failed().count(), 0, "{first:?}");
    assert_eq!(first.count(Outcome::KeptByKernel), 2, "{first:?}");
    assert!(first.count(Outcome::Set) >= 10, "{first:?}");
    let writes = kernel.writes.borrow().len();
    let second = once(&kernel, &record());
    assert_eq!((second.count(Outcome::Set), kernel.writes.borrow().len()), (0, writes), "{second:?}");
    assert_eq!(second.count(Outcome::KeptByKernel), 2);
}

#[test]
fn what_is_written_is_in_each_files_own_form() {
    let kernel = machine();
    once(&kernel, &record());
    for (path, text) in [
        ("/proc/irq/default_smp_affinity", "00000003"),
        ("/sys/devices/virtual/workqueue/cpumask", "00000003"),
        ("/sys/devices/virtual/workqueue/writeback/cpumask", "00000003"),
        // It was on 1-3: what was right stays.
        ("/proc/irq/24/smp_affinity_list", "1"),
        ("/proc/irq/25/smp_affinity_list", "0-1"),
        ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "00000003"),
        ("/sys/class/net/eth0/queues/tx-0/xps_cpus", "00000001"),
        ("/sys/class/net/eth0/queues/tx-1/xps_cpus", "00000002"),
        ("/sys/class/net/lo/queues/tx-0/xps_cpus", "untouched"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always [never]"),
        ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance"),
        ("/sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us", "n/a"),
        ("/sys/devices/system/cpu/cpu0/power/pm_qos_resume_latency_us", "0"),
        ("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "8"),
    ] {
        assert_eq!(kernel.text(path), text, "{path}");
    }
    assert!(kernel.text("/proc/44/status").ends_with("Cpus_allowed_list:\t0-1"));
    assert!(
        !kernel.writes.borrow().iter().any(|path| path.contains("/proc/irq/9/")),
        "nobody listens to IRQ 9"
    );
}

#[test]
fn refusals_are_told_apart() {
    for (errno, outcome) in [
        (Errno::IO, Outcome::KeptByKernel),
        (Errno::PERM, Outcome::KeptByKernel),
        (Errno::NOSPC, Outcome::NoVectors),
        (Errno::INVAL, Outcome::Wrong),
        (Errno::OVERFLOW, Outcome::Wrong),
        (Errno::RANGE, Outcome::Wrong),
    ] {
        let mut kernel = machine();
        kernel.refused.insert("/proc/irq/25/smp_affinity_list".into(), errno);
        let report = once(&kernel, &record());
        let irq = report.others.iter().find(|point| point.name.starts_with("irq 25")).unwrap();
        assert_eq!(irq.outcome, outcome, "{errno}");
        assert!(irq.error.is_some());
    }
    // Only an interrupt can be the kernel's own: elsewhere the same error is a failure.
    let mut kernel = machine();
    kernel.refused.insert("/sys/devices/virtual/workqueue/cpumask".into(), Errno::PERM);
    assert_eq!(once(&kernel, &record()).count(Outcome::Wrong), 1);
}

#[test]
fn an_interrupt_that_does_not_come_is_pending_and_not_set_again() {
    let kernel = Fake { silent: true, ..machine() };
    let first = once(&kernel, &record());
    assert_eq!((first.count(Outcome::Pending), first.failed().count()), (2, 0), "{first:?}");
    let writes = kernel.writes.borrow().len();
    let report = once(&kernel, &record());
    assert_eq!((report.count(Outcome::Pending), kernel.writes.borrow().len()), (2, writes));
    let verdict = verify::compare(&kernel, &record(), &report);
    assert_eq!(names(&verdict.pending), ["irq 24 (eth0-rx-0)", "irq 25 (eth0-tx-0)"]);
    assert_eq!(verdict.differences, []);
}

/// The kernel takes the count and finds fewer pages.
#[test]
fn what_was_taken_and_is_not_there_is_wrong() {
    let root = machine();
    let few = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    let many = TuningRecord {
        hugepages: vec![Hugepages { size: HugepageSize::Gib1, per_numa_node: 1 }],
        ..record()
    };
    let report = once(&root, &many);
    let failed: Vec<_> = report.failed().map(|point| point.topic).collect();
    assert_eq!(failed, [Topic::Hugepages], "no 1 GiB pages on this machine: {report:?}");
    assert_eq!(root.text(few), "0", "other sizes are left alone");
}

#[test]
fn nothing_isolated_leaves_the_machine_alone() {
    let kernel = machine();
    let idle = TuningRecord {
        isolated: CpuSet::default(),
        housekeeping: set("0-3"),
        hugepages: vec![],
        governor: None,
        wakeup_latency_us: None,
        ..record()
    };
    assert_eq!(once(&kernel, &idle).points, 0);
    assert!(kernel.writes.borrow().is_empty());
}

#[test]
fn a_pinned_machine_is_verified() {
    let kernel = machine();
    let before = verify::compare(&kernel, &record(), &PinReport::default());
    assert!(names(&before.differences).contains(&"/proc/irq/default_smp_affinity"), "{before:?}");
    let report = once(&kernel, &record());
    let after = verify::compare(&kernel, &record(), &report);
    assert_eq!(after.differences, [], "{after:?}");
    assert!(after.points > 25, "{}", after.points);
    assert_eq!(names(&after.kept_by_kernel), ["irq 26 (virtio1-req.0)"], "IRQ 0 is on housekeeping anyway");
}

/// Everything that a boot decides, spoilt one by one.
#[test]
fn each_difference_is_found() {
    for (path, text, topic, name) in [
        ("/proc/cmdline", "nohz_full=2-3", Topic::KernelArgument, "skew_tick=1"),
        ("/proc/cmdline", "nohz_full=3 skew_tick=1", Topic::KernelArgument, "nohz_full=2-3"),
        ("/sys/devices/system/cpu/nohz_full", "(null)", Topic::CpuList, "/sys/devices/system/cpu/nohz_full"),
        ("/sys/devices/system/cpu/isolated", "2-3", Topic::CpuList, "/sys/devices/system/cpu/isolated"),
        ("/proc/sys/vm/stat_interval", "1", Topic::Sysctl, "vm.stat_interval"),
        (
            "/sys/fs/cgroup/system.slice/cpuset.cpus.effective",
            "0-3",
            Topic::Slice,
            "/sys/fs/cgroup/system.slice/cpuset.cpus.effective",
        ),
        ("/proc/301/status", "Cpus_allowed_list:\t0-3", Topic::Process, "sshd (301)"),
        ("/proc/301/comm", "irqbalance", Topic::Service, "irqbalance"),
        (
            "/dev/kmsg",
            "5,0,0,-;Linux version 6\n5,1,0,-;NO_HZ: Full dynticks CPUs: 3.\n",
            Topic::KernelLog,
            "NO_HZ: Full dynticks CPUs",
        ),
        (
            "/dev/kmsg",
            "5,0,0,-;Linux version 6\n6,1,0,-;NO_HZ: Full dynticks CPUs: 2-3.\n4,2,0,-;Housekeeping: nohz_full= must match isolcpus=\n",
            Topic::KernelLog,
            "`Housekeeping: …`",
        ),
        (
            "/dev/kmsg",
            "5,0,0,-;Linux version 6\n6,1,0,-;NO_HZ: Full dynticks CPUs: 2-3.\n4,2,0,-;sched_clock: Marking unstable (1, 2)<-(3, 4)\n",
            Topic::KernelLog,
            "clock",
        ),
        (
            "/dev/kmsg",
            "5,0,0,-;Linux version 6\n6,1,0,-;NO_HZ: Full dynticks CPUs: 2-3.\n5,2,0,-;Unknown kernel command line parameters \"skew_tick=1 x\", will be passed to user space.\n",
            Topic::KernelLog,
            "unknown parameters",
        ),
    ] {
        let kernel = machine();
        let report = once(&kernel, &record());
        kernel.put(path, text);
        let found = verify::compare(&kernel, &record(), &report).differences;
        assert_eq!(names(&found), [name], "{path}: {found:?}");
        assert_eq!(found[0].topic, topic);
    }
}

#[test]
fn a_log_that_lost_its_beginning_says_nothing() {
    let kernel = machine();
    let report = once(&kernel, &record());
    kernel.put("/dev/kmsg", "6,900,1,-;something late\n");
    assert_eq!(verify::compare(&kernel, &record(), &report).differences, []);
}

#[test]
fn noise_is_counted_and_shown() {
    let mut gaps = Gaps::default();
    for us in [0, 1, 3, 5, 900, 10_000_000] {
        gaps.note(Duration::from_micros(us));
    }
    assert_eq!(
        (gaps.counts[0], gaps.counts[1], gaps.counts[2], gaps.counts[9], gaps.counts[19]),
        (1, 1, 1, 1, 1)
    );
    let table = |loc: u32, irq: u32| {
        let text = format!(
            "      CPU0 CPU3\n24: 0 {irq} PCI-MSIX eth0<&>\nLOC: 1 {loc} Local timer interrupts\nRES: 0 {irq} Rescheduling\n"
        );
        interrupts::parse(&text)
    };
    let cpu = of_cpu(3, true, (&table(5, 1), &table(16, 3)), &gaps);
    assert_eq!((cpu.tick, cpu.ipi["RES"], cpu.irqs["24"].count), (11, 2, 2));
    let noise = Noise { seconds: 10.0, cpus: vec![cpu] };
    let text = noise_text::render(&noise);
    assert!(text.contains("    3 isolated           11       2       2"), "{text}");
    assert!(text.contains("cpu 3: irq 24, 2 times: PCI-MSIX eth0<&>"), "{text}");
    let svg = noise_svg::render(&noise);
    assert_eq!(svg.matches("class=\"c\"").count(), 5, "{svg}");
    assert!(svg.contains("CPU 3 isolated") && svg.contains("11 ticks"), "{svg}");
}
