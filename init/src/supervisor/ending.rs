//! How this kernel's life ends: the worker's exit status says it, PID 1 does it.

use crate::console::Reporter;
use crate::handover;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tatara_spec::{Code, Fault};
use tatara_sys::mount::{UnmountFlags, unmount};
use tatara_sys::power::{self, Reboot};
use tatara_sys::process::End;
use tatara_sys::switch_root;

/// The worker's exit status for "the root is ready at [`SYSROOT`]".
pub const SWITCH_ROOT: u8 = 0;
/// The worker's exit status for "the kernel to go on with is loaded".
pub const KEXEC: u8 = 10;
/// The worker's exit status for "restart through the firmware".
pub const REBOOT: u8 = 11;
/// The worker's exit status for "power off".
pub const POWER_OFF: u8 = 12;

/// Where the worker mounts the node's root.
pub const SYSROOT: &str = "/sysroot";

/// The next init, inside the root.
const INIT: &str = "/sbin/init";

/// What comes after the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    SwitchRoot,
    Kexec,
    Reboot,
    PowerOff,
}

impl Ending {
    /// What the worker's end says; `None` when it died.
    pub(super) fn of(end: End) -> Option<Self> {
        let End::Exit(status) = end else { return None };
        match u8::try_from(status).ok()? {
            SWITCH_ROOT => Some(Ending::SwitchRoot),
            KEXEC => Some(Ending::Kexec),
            REBOOT => Some(Ending::Reboot),
            POWER_OFF => Some(Ending::PowerOff),
            _ => None,
        }
    }

    /// Does it; returns only when it failed.
    pub(super) fn carry_out(self, reporter: &Reporter) -> Fault {
        match self {
            Ending::SwitchRoot => enter_root(reporter),
            Ending::Kexec => {
                let cause = end_kernel(Reboot::Kexec);
                let fault = Fault::caused(Code::KexecFailed, "the loaded kernel was not started", cause);
                // The next worker boots the node without it; its memory is needed then.
                handover::refuse(Path::new("/"), &fault);
                let _ = tatara_sys::kexec::unload();
                fault
            }
            Ending::Reboot => {
                let cause = end_kernel(Reboot::Restart);
                Fault::caused(Code::Sys, "the machine was not restarted", cause)
            }
            Ending::PowerOff => {
                let cause = end_kernel(Reboot::PowerOff);
                Fault::caused(Code::Sys, "the machine was not powered off", cause)
            }
        }
    }
}

/// Executes the node's init in the node's root.
fn enter_root(reporter: &Reporter) -> Fault {
    let (root, init) = (Path::new(SYSROOT), Path::new(INIT));
    // Up to here the worker can try again; after switch_root the initramfs is gone.
    if let Err(cause) = switch_root::check_init(root, init) {
        return Fault::caused(Code::RootInit, "the root cannot be entered", cause);
    }
    let fault = match switch_root::switch_root(root) {
        Ok(()) => {
            let mut command = Command::new(INIT);
            command.env_clear();
            // The kernel's own word on the console's terminal type (init/main.c, envp_init), which systemd reads.
            if let Some(term) = std::env::var_os("TERM") {
                command.env("TERM", term);
            }
            // `exec` also gives the new program an empty signal mask; every descriptor of ours is close-on-exec.
            Fault::caused(Code::RootInit, format!("cannot execute {INIT}"), command.exec())
        }
        Err(cause) => Fault::caused(Code::Sys, "the root could not be entered", cause),
    };
    reporter.fail_as("switch-root", &fault);
    reporter.info("  next: the machine restarts");
    let cause = end_kernel(Reboot::Restart);
    Fault::caused(Code::Sys, "the machine was not restarted", cause)
}

/// Leaves the disks clean and ends this kernel; returns only when the kernel refuses.
fn end_kernel(how: Reboot) -> tatara_sys::Error {
    power::sync();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for target in mounts_below(&mounts, Path::new(SYSROOT)) {
        // A file system that stays mounted was synced, and its journal does the rest.
        let _ = unmount(&target, UnmountFlags::empty());
    }
    power::sync();
    match power::reboot(how) {
        Err(error) => error,
        Ok(()) => {
            tatara_sys::Error::new("reboot", "returned", std::io::Error::from(std::io::ErrorKind::Other))
        }
    }
}

/// The mount points at and below `root`, the last mounted first (proc_pid_mounts(5), fstab(5) for the escapes).
fn mounts_below(mounts: &str, root: &Path) -> Vec<PathBuf> {
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<_> = targets.map(unescape).filter(|target| target.starts_with(root)).collect();
    below.reverse();
    below
}

fn unescape(target: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(escapes.iter().fold(target.to_owned(), |text, (code, plain)| text.replace(code, plain)))
}

#[cfg(test)]
mod tests {
    use super::{Ending, mounts_below};
    use std::path::{Path, PathBuf};
    use tatara_sys::process::End;

    #[test]
    fn only_agreed_statuses_are_endings() {
        for (end, wanted) in [
            (End::Exit(0), Some(Ending::SwitchRoot)),
            (End::Exit(10), Some(Ending::Kexec)),
            (End::Exit(11), Some(Ending::Reboot)),
            (End::Exit(12), Some(Ending::PowerOff)),
            (End::Exit(1), None),
            (End::Exit(101), None),
            (End::Exit(256), None),
            (End::Signal(9), None),
        ] {
            assert_eq!(Ending::of(end), wanted, "{end}");
        }
    }

    #[test]
    fn mounts_are_undone_from_the_last() {
        let mounts = "proc /proc proc rw 0 0\n/dev/vda3 /sysroot erofs ro 0 0\n/dev/vda5 /sysroot/var ext4 rw 0 0\n\
            tmpfs /sysroot2 tmpfs rw 0 0\n/dev/vdb1 /sysroot/my\\040data ext4 rw 0 0\n";
        let wanted = ["/sysroot/my data", "/sysroot/var", "/sysroot"].map(PathBuf::from);
        assert_eq!(mounts_below(mounts, Path::new("/sysroot")), wanted);
    }
}
