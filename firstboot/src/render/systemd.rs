//! systemd itself: watchdog and journal. The same on every node.

use super::{Rendered, header};

pub(super) fn render() -> Vec<Rendered> {
    vec![
        Rendered::public("/etc/systemd/system.conf.d/10-tatara.conf", manager()),
        Rendered::public("/etc/systemd/journald.conf.d/10-tatara.conf", journal()),
    ]
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
