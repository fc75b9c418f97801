//! Sysctls and kernel modules.

use super::{Rendered, header, one_line, word};
use tatara_spec::Fault;
use tatara_spec::config::Tuning;
use tatara_spec::cpu::CpuPlan;

/// What every node gets unless the config says otherwise. The panic settings are also the ones that the kubelet
/// insists on with `protectKernelDefaults` (Kubernetes, pkg/kubelet/cm, setupKernelTunables).
const DEFAULTS: [(&str, &str, &str); 4] = [
    ("kernel.panic", "10", "seconds; an unattended machine restarts rather than stand still"),
    ("kernel.panic_on_oops", "1", "a kernel that has gone wrong is not trusted to go on"),
    ("kernel.hung_task_timeout_secs", "600", "seconds; slow disks and NFS are not yet hung tasks"),
    ("kernel.hung_task_panic", "0", "reported only: a panic would turn one dead mount into a dead node"),
];

/// What isolated CPUs need (tuned's cpu-partitioning, node-tuning-operator).
const ISOLATED: [(&str, &str, &str); 3] = [
    ("vm.stat_interval", "10", "seconds; the per-CPU statistics work wakes isolated CPUs"),
    ("kernel.numa_balancing", "0", "its page faults are noise on isolated CPUs"),
    ("kernel.timer_migration", "1", "lets timers leave CPUs that get pinned tasks later"),
];

pub(super) fn render(tuning: &Tuning, cpu: &CpuPlan) -> Result<Vec<Rendered>, Fault> {
    let mut rendered = vec![sysctls(tuning, cpu)?];
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

/// One file named `99-`, so that it comes after the distribution's (sysctl.d(5)).
fn sysctls(tuning: &Tuning, cpu: &CpuPlan) -> Result<Rendered, Fault> {
    let mut text = header("tuning.sysctls");
    let isolated: &[_] = if cpu.isolated.0.is_empty() { &[] } else { &ISOLATED };
    let own = |name: &str| tuning.sysctls.keys().any(|key| canonical(key) == name);
    for (name, value, why) in DEFAULTS.iter().chain(isolated).filter(|(name, ..)| !own(name)) {
        text.push_str(&format!("# {why}\n{name} = {value}\n"));
    }
    for (name, value) in &tuning.sysctls {
        let name = word("tuning.sysctls", name)?;
        text.push_str(&format!("{name} = {}\n", one_line(name, value)?));
    }
    Ok(Rendered::public("/etc/sysctl.d/99-tatara.conf", text))
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
