//! How quiet the isolated CPUs are: a busy loop pinned to each looks at the clock and notes when it was away.
//!
//! One housekeeping CPU runs the same loop, for comparison. Debian's kernels have no osnoise or timerlat tracer.

use super::interrupts::{self, Interrupts, added};
use super::kernel::{Kernel, set_affinity};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};
use tatara_spec::cpu::CpuSet;
use tatara_spec::record::TuningRecord;
use tatara_spec::{Code, Fault};

/// Gaps below this are the loop itself, in microseconds.
pub(super) const SMALLEST_GAP_US: u64 = 1;
/// Gaps are counted by powers of two: `[i]` has those of 2^i µs and more, the last everything from 2^19 µs (0.5 s) on.
pub(super) const BUCKETS: usize = 20;

/// Interrupts of other CPUs: reschedule, function call, TLB shoot-down (kernel, `arch/x86/kernel/irq.c`).
const IPI: [&str; 3] = ["RES", "CAL", "TLB"];

/// The measurement; field names are the JSON's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Noise {
    /// Length of the measurement.
    pub(super) seconds: f64,
    pub(super) cpus: Vec<CpuNoise>,
}

/// One CPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CpuNoise {
    pub(super) cpu: u32,
    pub(super) isolated: bool,
    /// Timer interrupts (`LOC`).
    pub(super) tick: u64,
    /// Interrupts from other CPUs, by row.
    pub(super) ipi: BTreeMap<String, u64>,
    /// Device interrupts by number.
    pub(super) irqs: BTreeMap<String, DeviceIrq>,
    /// Every other row of /proc/interrupts.
    pub(super) others: BTreeMap<String, u64>,
    /// The longest time away, in microseconds.
    pub(super) longest_gap_us: f64,
    /// All time away, in microseconds.
    pub(super) away_us: f64,
    /// Gaps by powers of two of a microsecond.
    pub(super) gaps: Vec<u64>,
}

/// A device's interrupt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceIrq {
    pub(super) name: String,
    pub(super) count: u64,
}

/// Gaps of one loop.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    pub(super) counts: [u64; BUCKETS],
    pub(super) longest: Duration,
    pub(super) away: Duration,
}

impl Gaps {
    pub(super) fn note(&mut self, gap: Duration) {
        let us = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        if us < SMALLEST_GAP_US {
            return;
        }
        let bucket = (us.ilog2() as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.longest = self.longest.max(gap);
        self.away += gap;
    }
}

/// Measures all isolated CPUs at once, and the last housekeeping CPU: the first has the boot's own work.
///
/// # Errors
/// [`Code::Sys`] when the loops cannot be pinned: the caller must be root.
pub(super) fn measure(kernel: &dyn Kernel, record: &TuningRecord, during: Duration) -> Result<Noise, Fault> {
    leave_slice(kernel, &record.isolated).map_err(|error| fault("leave the slice of the login", error))?;
    let compared = record.housekeeping.last();
    let cpus: Vec<u32> = record.isolated.0.iter().copied().chain(compared).collect();
    let table = || kernel.read("/proc/interrupts").map_err(|error| fault("read /proc/interrupts", error));
    // Threads are made and pinned first: what that costs is not counted.
    let until = Instant::now() + SETTLE;
    let loops: Vec<_> =
        cpus.iter().map(|&cpu| (cpu, thread::spawn(move || sample(cpu, until, during)))).collect();
    thread::sleep(SETTLE + TICK_STOPS);
    let (begin, before) = (Instant::now(), table()?);
    thread::sleep(during);
    let (seconds, after) = (begin.elapsed().as_secs_f64(), table()?);
    let (before, after) = (interrupts::parse(&before), interrupts::parse(&after));
    let mut noise = Noise { seconds, cpus: Vec::new() };
    for (cpu, thread) in loops {
        let gaps = thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let gaps = gaps.map_err(|error| fault(&format!("pin a loop to CPU {cpu}"), error))?;
        noise.cpus.push(of_cpu(cpu, record.isolated.contains(cpu), (&before, &after), &gaps));
    }
    Ok(noise)
}

/// For threads to start.
const SETTLE: Duration = Duration::from_millis(500);
/// The tick stops at a tick after the only runnable task was left alone; generous for emulation.
const TICK_STOPS: Duration = Duration::from_millis(500);

fn fault(doing: &str, error: io::Error) -> Fault {
    Fault::caused(Code::Sys, doing, error)
}

/// A login's slice has the housekeeping CPUs alone. The root of the tree has all, and root may be in it.
fn leave_slice(kernel: &dyn Kernel, isolated: &CpuSet) -> io::Result<()> {
    let Some(first) = isolated.first() else { return Ok(()) };
    let probe = thread::spawn(move || set_affinity(None, &CpuSet::from_iter([first])));
    match probe.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            kernel.write("/sys/fs/cgroup/cgroup.procs", &std::process::id().to_string())
        }
        other => other,
    }
}

fn sample(cpu: u32, from: Instant, during: Duration) -> io::Result<Gaps> {
    set_affinity(None, &CpuSet::from_iter([cpu]))?;
    let mut gaps = Gaps::default();
    let begin = from + TICK_STOPS;
    let end = begin + during;
    let mut last = Instant::now();
    while last < end {
        let now = Instant::now();
        if last >= begin {
            gaps.note(now - last);
        }
        last = now;
    }
    Ok(gaps)
}

pub(super) fn of_cpu(
    cpu: u32,
    isolated: bool,
    (before, after): (&Interrupts, &Interrupts),
    gaps: &Gaps,
) -> CpuNoise {
    let mut noise = CpuNoise {
        cpu,
        isolated,
        longest_gap_us: gaps.longest.as_secs_f64() * 1e6,
        away_us: gaps.away.as_secs_f64() * 1e6,
        gaps: gaps.counts.to_vec(),
        ..CpuNoise::default()
    };
    for (row, count) in added(before, after, cpu) {
        if row == "LOC" {
            noise.tick = count;
        } else if IPI.contains(&row.as_str()) {
            noise.ipi.insert(row, count);
        } else if row.bytes().all(|byte| byte.is_ascii_digit()) {
            let name = after.names.get(&row).cloned().unwrap_or_default();
            noise.irqs.insert(row, DeviceIrq { name, count });
        } else {
            noise.others.insert(row, count);
        }
    }
    noise
}
