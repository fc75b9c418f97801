//! mount(2), umount(2).

use crate::error::{Error, Result};
use rustix::mount as sys;
use std::ffi::CString;
use std::io;
use std::path::Path;

pub use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

fn context(source: &str, target: &Path) -> String {
    format!("{source} on {}", target.display())
}

/// Mounts `source` on `target`. `data` are the file system's own options, comma separated; empty for none.
///
/// # Errors
/// What mount(2) says; `EINVAL` when `data` holds a zero byte.
pub fn mount(source: &str, target: &Path, fstype: &str, flags: MountFlags, data: &str) -> Result<()> {
    let error = |cause: io::Error| Error::new("mount", context(source, target), cause);
    let data = CString::new(data).map_err(|e| error(e.into()))?;
    sys::mount(source, target, fstype, flags, Some(data.as_c_str())).map_err(|e| error(e.into()))
}

/// Mounts a kernel file system (proc, sysfs, tmpfs, …), whose source is only a name, and makes the directory first. A target
/// that is a mount point of the same type already is left alone.
///
/// # Errors
/// What mkdir(2) and mount(2) say.
pub fn mount_once(fstype: &str, target: &Path, flags: MountFlags, data: &str) -> Result<()> {
    std::fs::create_dir_all(target)
        .map_err(|cause| Error::new("create directory", target.display().to_string(), cause))?;
    if is_mount_point(target)? {
        return Ok(());
    }
    match mount(fstype, target, fstype, flags, data) {
        // The kernel mounted devtmpfs by itself (CONFIG_DEVTMPFS_MOUNT), or another process was quicker.
        Err(error) if error.errno() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}

/// Moves a mount (`MS_MOVE`).
///
/// # Errors
/// What mount(2) says.
pub fn move_mount(from: &Path, to: &Path) -> Result<()> {
    sys::mount_move(from, to)
        .map_err(|e| Error::new("move mount", context(&from.display().to_string(), to), e))
}

/// Makes a directory or file visible at a second place (`MS_BIND`).
///
/// # Errors
/// What mount(2) says.
pub fn bind(from: &Path, to: &Path) -> Result<()> {
    sys::mount_bind(from, to)
        .map_err(|e| Error::new("bind mount", context(&from.display().to_string(), to), e))
}

/// Changes a mount's flags (`MS_REMOUNT`).
///
/// # Errors
/// What mount(2) says.
pub fn remount(target: &Path, flags: MountFlags, data: &str) -> Result<()> {
    sys::mount_remount(target, flags, data)
        .map_err(|e| Error::new("remount", target.display().to_string(), e))
}

/// Unmounts.
///
/// # Errors
/// What umount2(2) says.
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<()> {
    sys::unmount(target, flags).map_err(|e| Error::new("unmount", target.display().to_string(), e))
}

/// Whether something is mounted on this directory: its device differs from its parent's, or it is the root.
///
/// A bind mount within one file system is not seen; this is for the kernel's file systems and for partitions.
///
/// # Errors
/// What stat(2) says.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let stat =
        |p: &Path| std::fs::metadata(p).map_err(|cause| Error::new("stat", p.display().to_string(), cause));
    let here = stat(path)?;
    let above = stat(&path.join(".."))?;
    Ok(here.dev() != above.dev() || here.ino() == above.ino())
}
