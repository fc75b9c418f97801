//! Sysctls, kernel modules, and the record of what the CPUs are meant to be.

use super::{Rendered, header, one_line, word};
use crate::kernel;
use std::collections::BTreeMap;
use tatara_spec::config::{Governor, NodeConfig, Tuning};
use tatara_spec::cpu::CpuPlan;
use tatara_spec::record::TuningRecord;
use tatara_spec::{Code, Fault, layout};

/// What every node gets unless the config says otherwise. The panic settings are also the ones that the kubelet
/// insists on with `protectKernelDefaults` (Kubernetes, pkg/kubelet/cm, setupKernelTunables).
const DEFAULTS: [(&str, &str, &str); 4] = [
    ("kernel.panic", "10", "seconds; an unattended machine restarts rather than stand still"),
    ("kernel.panic_on_oops", "1", "a kernel that has gone wrong is not trusted to go on"),
    ("kernel.hung_task_timeout_secs", "600", "seconds; slow disks and NFS are not yet hung tasks"),
    ("kernel.hung_task_panic", "0", "reported only: a panic would turn one dead mount into a dead node"),
];

/// What isolated CPUs need (tuned's cpu-partitioning, node-tuning-operator).
const ISOLATED: [(&str, &str, &str); 5] = [
    ("vm.stat_interval", "10", "seconds; the per-CPU statistics work wakes isolated CPUs"),
    ("vm.swappiness", "10", "reclaim interrupts other CPUs to flush their caches of addresses"),
    ("kernel.numa_balancing", "0", "its page faults are noise on isolated CPUs"),
    ("kernel.timer_migration", "1", "lets timers leave CPUs that get pinned tasks later"),
    ("kernel.nmi_watchdog", "0", "its interrupt cannot be masked, and takes a counter of every CPU"),
];

pub(super) fn render(config: &NodeConfig, cpu: &CpuPlan) -> Result<Vec<Rendered>, Fault> {
    let tuning = &config.tuning;
    let mut rendered = vec![sysctls(tuning, cpu)?, record(config, cpu)?];
    if let Some(accept) = &tuning.accept {
        rendered.push(Rendered::public(layout::ACCEPT, json(accept)?));
    }
    if !tuning.modules.is_empty() {
        let mut text = header("tuning.modules");
        for module in &tuning.modules {
            text.push_str(word("tuning.modules", module)?);
            text.push('\n');
        }
        rendered.push(Rendered::public("/etc/modules-load.d/tatara.conf", text));
    }
    Ok(rendered)
}

/// The defaults that the config does not replace: name, value, reason.
fn defaults(tuning: &Tuning, cpu: &CpuPlan) -> Vec<(&'static str, &'static str, &'static str)> {
    let isolated: &[_] = if cpu.isolated.is_empty() { &[] } else { &ISOLATED };
    let own = |name: &str| tuning.sysctls.keys().any(|key| canonical(key) == name);
    DEFAULTS.iter().chain(isolated).filter(|(name, ..)| !own(name)).copied().collect()
}

/// One file named `99-`, so that it comes after the distribution's (sysctl.d(5)).
fn sysctls(tuning: &Tuning, cpu: &CpuPlan) -> Result<Rendered, Fault> {
    let mut text = header("tuning.sysctls");
    for (name, value, why) in defaults(tuning, cpu) {
        text.push_str(&format!("# {why}\n{name} = {value}\n"));
    }
    for (name, value) in &tuning.sysctls {
        let name = word("tuning.sysctls", name)?;
        text.push_str(&format!("{name} = {}\n", one_line(name, value)?));
    }
    Ok(Rendered::public("/etc/sysctl.d/99-tatara.conf", text))
}

/// What `tatara-node pin` and `tatara-node tuning verify` go by: the same plan that the kernel arguments are from.
fn record(config: &NodeConfig, cpu: &CpuPlan) -> Result<Rendered, Fault> {
    let tuning = &config.tuning;
    let mut sysctls: BTreeMap<String, String> = defaults(tuning, cpu)
        .into_iter()
        .map(|(name, value, _)| (name.to_owned(), value.to_owned()))
        .collect();
    sysctls.extend(tuning.sysctls.iter().map(|(name, value)| (canonical(name), value.clone())));
    let fastest = Some(Governor::Performance).filter(|_| !cpu.isolated.is_empty());
    let record = TuningRecord {
        isolation: tuning.isolation,
        housekeeping: cpu.housekeeping.clone(),
        isolated: cpu.isolated.clone(),
        nodes: cpu.nodes.clone(),
        last_cpu: cpu.last,
        kernel_arguments: kernel::arguments(config, cpu)?,
        sysctls,
        hugepages: tuning.hugepages.clone(),
        governor: tuning.governor.or(fastest),
        wakeup_latency_us: tuning.wakeup_latency_us,
        warnings: cpu.warnings.clone(),
    };
    Ok(Rendered::public(layout::TUNING, json(&record)?))
}

fn json(value: &impl serde::Serialize) -> Result<String, Fault> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Fault::caused(Code::Internal, "write a tuning file as JSON", error))?;
    Ok(text + "\n")
}

/// `net/ipv4/ip_forward` and `net.ipv4.ip_forward` are the same: the first separator decides (sysctl.d(5)).
fn canonical(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}
