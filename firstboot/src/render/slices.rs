//! Keeps everything that systemd starts on the housekeeping CPUs (systemd.resource-control(5), `AllowedCPUs=`).

use super::{Rendered, header};
use tatara_spec::cpu::CpuPlan;

/// The units below the root of the tree and the section of their type: systemd ignores the wrong one with a warning.
/// Per-user slices lie below user.slice and cannot have more than it has. Pods (kubepods.slice) are not here: the
/// kubelet gives isolated CPUs to them.
const UNITS: [(&str, &str); 4] =
    [("init.scope", "Scope"), ("system.slice", "Slice"), ("user.slice", "Slice"), ("machine.slice", "Slice")];

pub(super) fn render(cpu: &CpuPlan) -> Vec<Rendered> {
    if cpu.isolated.0.is_empty() {
        return Vec::new();
    }
    let drop_in = |(unit, section): &(&str, &str)| {
        let text =
            format!("{}[{section}]\nAllowedCPUs={}\n", header("tuning.housekeeping"), cpu.housekeeping);
        Rendered::public(format!("/etc/systemd/system/{unit}.d/10-tatara-cpus.conf"), text)
    };
    UNITS.iter().map(drop_in).collect()
}
