//! `tatara-node tuning accept`: the gate before the node joins its cluster. The isolated CPUs are measured, and what is over
//! a limit of `tuning.accept` is named with its source.

use super::noise::{self, CpuNoise, Noise};
use super::{Live, noise_text, record};
use crate::node::console::announce;
use crate::node::{Node, print, read_json, write_atomically};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::time::Duration;
use tatara_spec::config::Accept;
use tatara_spec::layout::{self, run};
use tatara_spec::{Code, Fault};

/// The last measurement at this boot; field names are the JSON's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AcceptReport {
    /// Nothing was over its limit.
    pub(crate) accepted: bool,
    /// What was.
    pub(crate) excesses: Vec<Excess>,
    pub(super) noise: Noise,
}

/// Something over its limit on one CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Excess {
    pub(super) cpu: u32,
    /// The key of `tuning.accept`.
    pub(super) limit: String,
    pub(super) at_most: u32,
    pub(super) actual: f64,
    /// What disturbed it.
    pub(super) sources: Vec<String>,
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, limit, at_most, actual, sources } = self;
        write!(f, "CPU {cpu}: {actual:.1} is over {limit} {at_most}: {}", sources.join(", "))
    }
}

/// Measures and compares. [`Code::CpuNoise`] when something is over its limit; nothing is done without limits.
pub(crate) fn run(node: &Node, kernel: &Live) -> Result<ExitCode, Fault> {
    let Some(limits) = read_json::<Accept>(&node.run(layout::ACCEPT))? else {
        print("the node's config has no `tuning.accept`: nothing is measured\n")?;
        return Ok(ExitCode::SUCCESS);
    };
    let during = Duration::from_secs(u64::from(limits.seconds));
    let noise = noise::measure(kernel, &record(node)?, during)?;
    print(&noise_text::render(&noise))?;
    let excesses = over(&limits, &noise);
    let report = AcceptReport { accepted: excesses.is_empty(), excesses, noise };
    let json = serde_json::to_vec_pretty(&report)
        .map_err(|error| Fault::caused(Code::Internal, "write the measurement as JSON", error))?;
    write_atomically(&node.run(run::ACCEPT), &json)?;
    if report.accepted {
        return Ok(ExitCode::SUCCESS);
    }
    let fault = Fault::new(Code::CpuNoise, summary(&report.excesses));
    announce(node, &format!("tatara: {}: {}", fault.code, fault.message));
    announce(node, &format!("tatara: hint: {}", fault.code.hint()));
    Err(fault)
}

/// The last measurement at this boot.
pub(crate) fn last(node: &Node) -> Result<Option<AcceptReport>, Fault> {
    read_json(&node.run(run::ACCEPT))
}

/// Whether the node may take pods: what `tuning.accept` wants was measured at this boot, and was so. Not measured is not accepted.
pub(crate) fn gate(node: &Node) -> Result<((), String), Fault> {
    if read_json::<Accept>(&node.run(layout::ACCEPT))?.is_none() {
        return Ok(((), String::new()));
    }
    match last(node)? {
        Some(report) if report.accepted => Ok(((), "accepted=yes".to_owned())),
        Some(report) => Err(Fault::new(Code::CpuNoise, summary(&report.excesses))),
        None => Err(Fault::new(Code::CpuNoise, "the isolated CPUs were not measured at this boot")),
    }
}

/// A console line, and the kernel's log, hold about a thousand bytes (`kernel/printk/printk.c`, PRINTK_MESSAGE_MAX).
const SHOWN: usize = 4;

fn summary(excesses: &[Excess]) -> String {
    let mut parts: Vec<String> = excesses.iter().take(SHOWN).map(Excess::to_string).collect();
    if excesses.len() > SHOWN {
        parts.push(format!("and {} more", excesses.len() - SHOWN));
    }
    parts.join("; ")
}

/// What is over a limit, CPU by CPU.
pub(super) fn over(limits: &Accept, noise: &Noise) -> Vec<Excess> {
    let seconds = noise.seconds.max(f64::MIN_POSITIVE);
    let mut excesses = Vec::new();
    for cpu in noise.cpus.iter().filter(|cpu| cpu.isolated) {
        let ipis: u64 = cpu.ipi.values().sum();
        let devices: u64 = cpu.irqs.values().map(|irq| irq.count).sum();
        let compared = [
            ("maxTicksPerSecond", limits.max_ticks_per_second, cpu.tick as f64 / seconds, ticks(cpu)),
            ("maxIpisPerSecond", limits.max_ipis_per_second, ipis as f64 / seconds, rows(cpu)),
            ("maxDeviceInterrupts", limits.max_device_interrupts, devices as f64, device_names(cpu)),
            ("maxGapUs", limits.max_gap_us, cpu.longest_gap_us, everything(cpu)),
        ];
        for (limit, at_most, actual, sources) in compared {
            if let Some(at_most) = at_most.filter(|most| actual > f64::from(*most)) {
                excesses.push(Excess { cpu: cpu.cpu, limit: limit.to_owned(), at_most, actual, sources });
            }
        }
    }
    excesses
}

fn ticks(cpu: &CpuNoise) -> Vec<String> {
    vec![format!("the timer (LOC) {} times", cpu.tick)]
}

fn rows(cpu: &CpuNoise) -> Vec<String> {
    cpu.ipi.iter().map(|(row, count)| format!("{row} {count} times")).collect()
}

fn device_names(cpu: &CpuNoise) -> Vec<String> {
    cpu.irqs
        .iter()
        .map(|(irq, device)| format!("irq {irq} ({}) {} times", device.name, device.count))
        .collect()
}

/// Everything that came to the CPU may have been the gap; what takes a CPU without an interrupt is below the kernel.
fn everything(cpu: &CpuNoise) -> Vec<String> {
    let mut sources: Vec<String> = device_names(cpu).into_iter().chain(rows(cpu)).collect();
    if cpu.tick > 0 {
        sources.extend(ticks(cpu));
    }
    sources.extend(cpu.others.iter().map(|(row, count)| format!("{row} {count} times")));
    if sources.is_empty() {
        sources.push("no interrupt came, so it is the firmware (SMI) or a hypervisor".to_owned());
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::super::noise::{CpuNoise, DeviceIrq, Noise};
    use super::{over, summary};
    use tatara_spec::config::Accept;

    fn quiet() -> CpuNoise {
        CpuNoise { cpu: 3, isolated: true, tick: 11, longest_gap_us: 20.0, ..CpuNoise::default() }
    }

    fn found(limits: &Accept, cpu: CpuNoise) -> Vec<String> {
        let busy = CpuNoise { cpu: 0, tick: 2500, longest_gap_us: 1e6, ..CpuNoise::default() };
        let noise = Noise { seconds: 10.0, cpus: vec![busy, cpu] };
        over(limits, &noise).iter().map(ToString::to_string).collect()
    }

    fn all(ticks: u32, ipis: u32, devices: u32, gap: u32) -> Accept {
        Accept {
            seconds: 10,
            max_ticks_per_second: Some(ticks),
            max_ipis_per_second: Some(ipis),
            max_device_interrupts: Some(devices),
            max_gap_us: Some(gap),
        }
    }

    #[test]
    fn a_quiet_cpu_is_accepted_and_housekeeping_is_not_asked() {
        assert_eq!(found(&all(2, 0, 0, 20), quiet()), [""; 0]);
        // A limit is the most that is taken: 11 in 10 s are more than one a second.
        assert_eq!(
            found(&all(1, 0, 0, 20), quiet()),
            ["CPU 3: 1.1 is over maxTicksPerSecond 1: the timer (LOC) 11 times"]
        );
    }

    #[test]
    fn every_limit_names_what_disturbs() {
        let irq = DeviceIrq { name: "virtio1-req.2".into(), count: 7 };
        let cpu = CpuNoise {
            ipi: [("CAL".to_owned(), 30), ("TLB".to_owned(), 5)].into(),
            irqs: [("26".to_owned(), irq)].into(),
            longest_gap_us: 151.5,
            ..quiet()
        };
        assert_eq!(
            found(&all(2, 3, 6, 150), cpu),
            [
                "CPU 3: 3.5 is over maxIpisPerSecond 3: CAL 30 times, TLB 5 times",
                "CPU 3: 7.0 is over maxDeviceInterrupts 6: irq 26 (virtio1-req.2) 7 times",
                "CPU 3: 151.5 is over maxGapUs 150: irq 26 (virtio1-req.2) 7 times, CAL 30 times, TLB 5 times, the timer (LOC) 11 times",
            ]
        );
    }

    #[test]
    fn a_gap_without_an_interrupt_is_below_the_kernel() {
        let limits = Accept { max_gap_us: Some(19), ..Accept::default() };
        let found = found(&limits, CpuNoise { tick: 0, ..quiet() });
        assert!(found.len() == 1 && found[0].contains("firmware (SMI)"), "{found:?}");
    }

    #[test]
    fn a_console_line_ends_somewhere() {
        let limits = Accept { max_gap_us: Some(1), ..Accept::default() };
        let noise = Noise { seconds: 1.0, cpus: (0..30).map(|cpu| CpuNoise { cpu, ..quiet() }).collect() };
        let text = summary(&over(&limits, &noise));
        assert!(text.ends_with("; and 26 more") && text.len() < 900, "{text}");
    }
}
