//! Every point that can be set while the node runs, found on the machine as it is now.

use super::kernel::Kernel;
use super::point::{Place, Point, Topic, Wanted};
use tatara_spec::cpu::CpuSet;
use tatara_spec::record::TuningRecord;

/// Threads of memory management that `nohz_full` leaves where they are, one a NUMA node: their names end in its number.
const NODE_THREADS: [&str; 2] = ["kswapd", "kcompactd"];

/// The points, in the order in which they are set: what decides about things to come before what is there.
pub(super) fn settable(kernel: &dyn Kernel, record: &TuningRecord) -> Vec<Point> {
    let mut points = Vec::new();
    if !record.isolated.is_empty() {
        interrupts(kernel, record, &mut points);
        workqueues(kernel, record, &mut points);
        threads(kernel, record, &mut points);
        queues(kernel, record, &mut points);
        memory(kernel, &mut points);
    }
    hugepages(record, &mut points);
    power(kernel, record, &mut points);
    points
}

fn interrupts(kernel: &dyn Kernel, record: &TuningRecord, points: &mut Vec<Point>) {
    let housekeeping = &record.housekeeping;
    let mask = Wanted::mask(housekeeping, record.last_cpu);
    points.push(Point::file(Topic::Irq, "/proc/irq/default_smp_affinity", mask));
    for irq in numbers(kernel, "/proc/irq") {
        // A directory inside is an action: without one nothing is delivered, and whoever asks for it gets the default.
        let directory = format!("/proc/irq/{irq}");
        let actions = kernel.dirs(&directory);
        if actions.is_empty() {
            continue;
        }
        points.push(Point {
            topic: Topic::Irq,
            name: format!("irq {irq} ({})", actions.join(", ")),
            wanted: Wanted::Within { allowed: housekeeping.clone(), set: housekeeping.clone() },
            place: Place::Effective {
                set: format!("{directory}/smp_affinity_list"),
                actual: format!("{directory}/effective_affinity_list"),
            },
        });
    }
}

/// Names that are numbers, in their order.
pub(super) fn numbers(kernel: &dyn Kernel, directory: &str) -> Vec<i32> {
    let mut numbers: Vec<i32> = kernel.dirs(directory).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The global mask bounds those of the queues, but each shows all CPUs until it is set itself.
fn workqueues(kernel: &dyn Kernel, record: &TuningRecord, points: &mut Vec<Point>) {
    let root = "/sys/devices/virtual/workqueue";
    let each = kernel.dirs(root).into_iter().map(|name| format!("{root}/{name}/cpumask"));
    for path in [format!("{root}/cpumask")].into_iter().chain(each).filter(|path| kernel.exists(path)) {
        points.push(Point::file(Topic::Workqueue, path, Wanted::mask(&record.housekeeping, record.last_cpu)));
    }
}

fn threads(kernel: &dyn Kernel, record: &TuningRecord, points: &mut Vec<Point>) {
    for thread in numbers(kernel, "/proc") {
        let Ok(name) = kernel.read(&format!("/proc/{thread}/comm")) else { continue };
        let name = name.trim();
        let node = NODE_THREADS.iter().find_map(|known| name.strip_prefix(known)?.parse::<u32>().ok());
        let Some(node) = node else { continue };
        let near = record.nodes.get(&node).map(|cpus| cpus.intersection(&record.housekeeping));
        let set = near.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| record.housekeeping.clone());
        points.push(Point {
            topic: Topic::Thread,
            name: format!("{name} ({thread})"),
            wanted: Wanted::Within { allowed: record.housekeeping.clone(), set },
            place: Place::Thread(thread),
        });
    }
}

/// Packets are taken up on housekeeping CPUs (RPS), also where a pod's own isolated CPU sent them. With several transmit
/// queues each housekeeping CPU gets its own (XPS); isolated CPUs use any, and its completions come to housekeeping.
fn queues(kernel: &dyn Kernel, record: &TuningRecord, points: &mut Vec<Point>) {
    for nic in kernel.dirs("/sys/class/net") {
        let root = format!("/sys/class/net/{nic}/queues");
        let queues = kernel.dirs(&root);
        let transmit = queues.iter().filter(|queue| queue.starts_with("tx-")).count();
        for queue in queues {
            let (file, cpus) = if queue.starts_with("rx-") {
                ("rps_cpus", record.housekeeping.clone())
            } else if transmit > 1 {
                ("xps_cpus", dealt(&record.housekeeping, &queue, transmit))
            } else {
                // A single transmit queue has no choice, and its file can be neither read nor written (ENOENT).
                continue;
            };
            let path = format!("{root}/{queue}/{file}");
            if kernel.exists(&path) {
                points.push(Point::file(Topic::NicQueue, path, Wanted::mask(&cpus, record.last_cpu)));
            }
        }
    }
}

/// The housekeeping CPUs that are this queue's when they are dealt out one by one.
fn dealt(housekeeping: &CpuSet, queue: &str, queues: usize) -> CpuSet {
    let number = queue.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    housekeeping.0.iter().copied().skip(number).step_by(queues).collect()
}

/// Both walk over other processes' memory, and interrupt every CPU that runs them.
fn memory(kernel: &dyn Kernel, points: &mut Vec<Point>) {
    let huge = "/sys/kernel/mm/transparent_hugepage/enabled";
    let merge = "/sys/kernel/mm/ksm/run";
    for (path, wanted) in [(huge, Wanted::Chosen("never".to_owned())), (merge, Wanted::Text("0".to_owned()))]
    {
        if kernel.exists(path) {
            points.push(Point::file(Topic::Memory, path, wanted));
        }
    }
}

/// Set aside by the kernel's arguments; what it could not find then may be there now.
fn hugepages(record: &TuningRecord, points: &mut Vec<Point>) {
    for pages in &record.hugepages {
        for node in record.nodes.keys() {
            let size = pages.size.kib();
            let path =
                format!("/sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages");
            points.push(Point::file(Topic::Hugepages, path, Wanted::Text(pages.per_numa_node.to_string())));
        }
    }
}

/// Only what the machine has: virtual ones have neither.
fn power(kernel: &dyn Kernel, record: &TuningRecord, points: &mut Vec<Point>) {
    let root = "/sys/devices/system/cpu";
    for policy in
        kernel.dirs(&format!("{root}/cpufreq")).into_iter().filter(|name| name.starts_with("policy"))
    {
        let directory = format!("{root}/cpufreq/{policy}");
        let known = kernel.read(&format!("{directory}/scaling_available_governors")).unwrap_or_default();
        let governor = record.governor.map(|governor| governor.name());
        if let Some(governor) = governor.filter(|name| known.split_whitespace().any(|known| known == *name)) {
            let wanted = Wanted::Text(governor.to_owned());
            points.push(Point::file(Topic::Frequency, format!("{directory}/scaling_governor"), wanted));
        }
    }
    // 0 stands for no limit, and `n/a` for none allowed (kernel, Documentation/ABI/testing/sysfs-devices-power).
    let limit = |us: u32| if us == 0 { "n/a".to_owned() } else { us.to_string() };
    for cpu in &record.isolated.0 {
        let path = format!("{root}/cpu{cpu}/power/pm_qos_resume_latency_us");
        if let Some(us) = record.wakeup_latency_us.filter(|_| kernel.exists(&path)) {
            points.push(Point::file(Topic::Idle, path, Wanted::Text(limit(us))));
        }
    }
}
