//! Loading a kernel to go on with: kexec_file_load(2). [`crate::power::reboot`] starts it.

use crate::error::{Context, Error, Result};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `KEXEC_FILE_UNLOAD` (include/uapi/linux/kexec.h).
const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;

/// Puts a kernel (bzImage) and its initramfs into memory, from files or memfds.
///
/// # Errors
/// What kexec_file_load(2) says: `EPERM` (lockdown, or kexec_load_disabled), `ENOEXEC`, `EADDRNOTAVAIL` or `ENOMEM` (no room),
/// `EKEYREJECTED` (signature), `ENOSYS`; `EINVAL` also for a command line that is too long.
pub fn load(kernel: impl AsFd, initrd: impl AsFd, cmdline: &str) -> Result<()> {
    let line = CString::new(cmdline)
        .map_err(|e| Error::new("kexec_file_load", "the node's kernel", io::Error::from(e)))?;
    let (kernel, initrd) = (kernel.as_fd(), initrd.as_fd());
    // SAFETY: both descriptors are open for the whole call, the length includes the terminating zero as the call wants, and the
    // kernel copies the text before it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            libc::c_long::from(kernel.as_raw_fd()),
            libc::c_long::from(initrd.as_raw_fd()),
            line.as_bytes_with_nul().len(),
            line.as_ptr(),
            0 as libc::c_ulong,
        )
    };
    check(result).of("kexec_file_load", "the node's kernel")
}

/// Forgets the loaded kernel and frees its memory.
///
/// # Errors
/// What kexec_file_load(2) says.
pub fn unload() -> Result<()> {
    // SAFETY: with KEXEC_FILE_UNLOAD the kernel looks at none of the other arguments (kernel/kexec_file.c).
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            -1 as libc::c_long,
            -1 as libc::c_long,
            0 as libc::c_ulong,
            std::ptr::null::<libc::c_char>(),
            KEXEC_FILE_UNLOAD,
        )
    };
    check(result).of("kexec_file_load", "nothing (unload)")
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
