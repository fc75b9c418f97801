//! Ends of a kernel's life: reboot(2).

use crate::error::{Context, Result};
use rustix::system::RebootCommand;

/// How the machine goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reboot {
    /// Through the firmware.
    Restart,
    /// Into the kernel of [`crate::kexec::load`].
    Kexec,
    /// Off.
    PowerOff,
}

/// Ends this kernel at once; call [`sync`] first. Returns only on failure.
///
/// # Errors
/// What reboot(2) says: `EPERM` outside PID 1's namespace or rights, `EINVAL` for kexec when no kernel is loaded.
pub fn reboot(how: Reboot) -> Result<()> {
    let (command, name) = match how {
        Reboot::Restart => (RebootCommand::Restart, "restart"),
        Reboot::Kexec => (RebootCommand::Kexec, "kexec"),
        Reboot::PowerOff => (RebootCommand::PowerOff, "power off"),
    };
    rustix::system::reboot(command).of("reboot", name)
}

/// Has Ctrl-Alt-Del send SIGINT to PID 1 instead of restarting the machine without syncing its disks.
///
/// # Errors
/// What reboot(2) says.
pub fn catch_ctrl_alt_del() -> Result<()> {
    rustix::system::reboot(RebootCommand::CadOff).of("reboot", "CAD_OFF")
}

/// Writes all dirty data to the disks and waits for it (sync(2)).
pub fn sync() {
    rustix::fs::sync();
}
