//! systemd itself: watchdog, journal, and the CPUs that it and what it starts run on.

use super::{Rendered, header};
use tatara_spec::cpu::CpuPlan;

pub(super) fn render(cpu: &CpuPlan) -> Vec<Rendered> {
    let mut rendered = vec![
        Rendered::public("/etc/systemd/system.conf.d/10-tatara.conf", manager()),
        Rendered::public("/etc/systemd/journald.conf.d/10-tatara.conf", journal()),
    ];
    if !cpu.isolated.is_empty() {
        rendered.push(Rendered::public("/etc/systemd/system.conf.d/20-tatara-cpus.conf", affinity(cpu)));
    }
    rendered
}

/// The same as `systemd.cpu_affinity=`, for a kernel that was started without the node's arguments.
fn affinity(cpu: &CpuPlan) -> String {
    format!("{}[Manager]\nCPUAffinity={}\n", header("tuning.housekeeping"), cpu.housekeeping)
}

/// 30 s is what the shortest common hardware watchdog can do (iTCO's default); without a device it does nothing.
fn manager() -> String {
    header("the release")
        + "\
[Manager]
# A machine whose PID 1 or kernel hangs is reset by its hardware, also when it hangs on the way down.
RuntimeWatchdogSec=30s
RebootWatchdogSec=5min
"
}

/// Kept on the state partition, so that the log of a boot that hung is there afterwards; synced every minute for the
/// same reason.
fn journal() -> String {
    header("the release")
        + "\
[Journal]
Storage=persistent
SystemMaxUse=512M
SystemKeepFree=256M
RuntimeMaxUse=64M
SyncIntervalSec=1min
"
}
