//! Leaving the initramfs: what switch_root(8) of util-linux does, after checking that there is something to go to.

use crate::error::{Context, Error, Result};
use crate::{mount, process};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `RAMFS_MAGIC` and `TMPFS_MAGIC` (include/uapi/linux/magic.h): what an initramfs can be.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x8584_58f6, 0x0102_1994];

/// Mounts that go along.
const MOVED: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Whether `init` (absolute) in `new_root` is an executable file; its symbolic links are followed inside `new_root`.
///
/// # Errors
/// What openat2(2) says; `EACCES` for a file that is not executable, `EISDIR` for something that is no file.
pub fn check_init(new_root: &Path, init: &Path) -> Result<()> {
    let object = new_root.join(init.strip_prefix("/").unwrap_or(init));
    let dir = open_dir(CWD, new_root).on("open", new_root)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat2(&dir, init, flags, Mode::empty(), ResolveFlags::IN_ROOT).on("open", &object)?;
    let stat = rustix::fs::fstat(&file).on("stat", &object)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ISDIR).on("check", &object);
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS).on("check", &object);
    }
    Ok(())
}

/// Makes `new_root`, a mount point, the root of this process, takes /dev, /proc, /sys and /run along, and frees the initramfs'
/// memory in a child, which the next init reaps, as util-linux does: nobody waits for it. The caller has one thread and executes the
/// next init. Call [`check_init`] first: this cannot be undone.
///
/// # Errors
/// What mount(2), chdir(2) and chroot(2) say. Files of the initramfs that cannot be removed only cost memory, and are no error.
pub fn switch_root(new_root: &Path) -> Result<()> {
    let old_root = open_dir(CWD, Path::new("/")).on("open", Path::new("/"))?;
    if !mount::is_mount_point(new_root)? {
        return Err(Errno::INVAL).on("switch root to (no mount point)", new_root);
    }
    for name in MOVED {
        let from = Path::new("/").join(name);
        let to = new_root.join(name);
        if !mount::is_mount_point(&from).unwrap_or(false) {
            continue;
        }
        if mount::move_mount(&from, &to).is_err() {
            // The new root has no such directory, or has one of its own mounted: ours must not keep the initramfs busy.
            mount::unmount(&from, UnmountFlags::DETACH)?;
        }
    }
    rustix::process::chdir(new_root).on("chdir", new_root)?;
    mount::move_mount(Path::new("."), Path::new("/"))?;
    rustix::process::chroot(".").on("chroot", new_root)?;
    rustix::process::chdir("/").on("chdir", Path::new("/"))?;
    if is_in_memory(&old_root)? {
        let device = device(old_root.as_fd())?;
        process::beside(|| remove_contents(old_root.as_fd(), device));
    }
    Ok(())
}

fn open_dir(at: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn is_in_memory(root: &OwnedFd) -> Result<bool> {
    let magic = rustix::fs::fstatfs(root).of("statfs", "the old root")?.f_type;
    Ok(u64::try_from(magic).is_ok_and(|magic| MEMORY_FILE_SYSTEMS.contains(&magic)))
}

fn device(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(rustix::fs::fstat(fd).map_err(|e| Error::new("stat", "the old root", e))?.st_dev)
}

/// Removes what is below `dir` on `device` and never goes into another file system. What cannot be removed stays.
fn remove_contents(dir: BorrowedFd<'_>, device: u64) {
    let Ok(entries) = Dir::read_from(dir) else { return };
    for entry in entries.flatten() {
        let name: &CStr = entry.file_name();
        if name != c"." && name != c".." {
            remove(dir, name, device);
        }
    }
}

fn remove(dir: BorrowedFd<'_>, name: &CStr, device: u64) {
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    if stat.st_dev != device {
        return;
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
        return;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(below) = rustix::fs::openat(dir, name, flags, Mode::empty()) {
        remove_contents(below.as_fd(), device);
    }
    let _ = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR);
}

#[cfg(test)]
mod tests {
    use super::{check_init, device, open_dir, remove_contents};
    use rustix::fs::CWD;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    #[test]
    fn init_is_looked_for_inside_the_new_root() {
        let root = tempfile::tempdir().unwrap();
        let init = Path::new("/sbin/init");
        assert_eq!(check_init(root.path(), init).unwrap_err().errno(), Some(libc::ENOENT));
        fs::create_dir_all(root.path().join("usr/lib/systemd")).unwrap();
        fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
        symlink("usr/sbin", root.path().join("sbin")).unwrap();
        // Absolute: outside of the new root it would be the host's.
        symlink("/usr/lib/systemd/tatara-test", root.path().join("usr/sbin/init")).unwrap();
        let target = root.path().join("usr/lib/systemd/tatara-test");
        fs::write(&target, "#!").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(check_init(root.path(), init).unwrap_err().errno(), Some(libc::EACCES));
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
        check_init(root.path(), init).unwrap();
        assert_eq!(check_init(root.path(), Path::new("/usr")).unwrap_err().errno(), Some(libc::EISDIR));
    }

    #[test]
    fn contents_are_removed_and_links_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("lib/modules/a/b")).unwrap();
        fs::write(root.path().join("lib/modules/a/b/c.ko"), "x").unwrap();
        symlink(outside.path(), root.path().join("link")).unwrap();
        let dir = open_dir(CWD, root.path()).unwrap();
        remove_contents(dir.as_fd(), device(dir.as_fd()).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn another_device_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("kept"), "x").unwrap();
        let dir = open_dir(CWD, root.path()).unwrap();
        remove_contents(dir.as_fd(), device(dir.as_fd()).unwrap() + 1);
        assert!(root.path().join("kept").exists());
    }
}
