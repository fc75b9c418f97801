//! Writes rendered files below a root.

use crate::render::{Content, Rendered};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, mkdirat, openat, openat2, renameat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use tatara_spec::{Code, Fault};

/// Name of the file that becomes the wanted one by rename; left over only by a crash, and replaced by the next run.
const TEMPORARY: &str = ".tatara-new";

/// Writes the files below `root`, which has their `/etc` in it.
///
/// Each appears at once (rename) with mode and owner as wanted: before, it is readable by root alone. Directories on
/// the way are made with mode 0755, and never followed out of `root` through a symbolic link (openat2(2)).
///
/// # Errors
/// [`Code::Render`] with the path and the kernel's error.
pub fn apply(root: &Path, files: &[Rendered]) -> Result<(), Fault> {
    let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root_fd = openat(CWD, root, open, Mode::empty())
        .map_err(|error| Fault::caused(Code::Render, format!("open {}", root.display()), error))?;
    for file in files {
        write(&root_fd, file)
            .map_err(|error| Fault::caused(Code::Render, format!("write {}", file.path), error))?;
    }
    Ok(())
}

fn write(root: &OwnedFd, file: &Rendered) -> io::Result<()> {
    let (directory, name) = file
        .path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
        .filter(|(_, name)| !name.is_empty())
        .ok_or(Errno::INVAL)?;
    let directory = open_directory(root, directory)?;
    match unlinkat(&directory, TEMPORARY, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match &file.content {
        Content::File(bytes) => create(&directory, file, bytes)?,
        Content::Symlink(target) => symlinkat(target.as_str(), &directory, TEMPORARY)?,
    }
    Ok(renameat(&directory, TEMPORARY, &directory, name)?)
}

fn create(directory: &OwnedFd, file: &Rendered, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(directory, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)?;
    // The owner first: chown clears mode bits, and a mode wider than 0600 must only be seen by the right group.
    fchown(&fd, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
    fchmod(&fd, Mode::from_raw_mode(file.mode))?;
    File::from(fd).write_all(bytes)
}

/// Opens a directory below the root, making what is missing.
fn open_directory(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut directory = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for part in path.split('/') {
        let open = || openat2(&directory, part, flags, Mode::empty(), resolve);
        directory = match open() {
            Err(Errno::NOENT) => {
                mkdirat(&directory, part, Mode::from_raw_mode(0o755))?;
                open()?
            }
            other => other?,
        };
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::apply;
    use crate::render::{Content, Rendered};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;
    use tatara_spec::Code;

    fn file(path: &str, mode: u32, text: &str) -> Rendered {
        // As who runs the test: only root can give files away.
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Rendered { path: path.into(), mode, uid, gid, content: Content::File(text.into()) }
    }

    fn link(path: &str, target: &str) -> Rendered {
        Rendered { content: Content::Symlink(target.into()), ..file(path, 0o777, "") }
    }

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        root
    }

    #[test]
    fn files_have_exact_modes_and_directories_are_made() {
        let root = root();
        apply(root.path(), &[file("/etc/a/b/secret", 0o600, "s"), file("/etc/sudoers", 0o440, "x")]).unwrap();
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("etc/a/b/secret"), mode("etc/sudoers"), mode("etc/a/b")), (0o600, 0o440, 0o755));
        assert_eq!(
            fs::read_dir(root.path().join("etc/a/b")).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn what_was_there_is_replaced_never_written_through() {
        let root = root();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::write(&target, "untouched").unwrap();
        symlink(&target, root.path().join("etc/hostname")).unwrap();
        fs::write(root.path().join("etc/localtime"), "a file").unwrap();
        let files =
            [file("/etc/hostname", 0o644, "node"), link("/etc/localtime", "../usr/share/zoneinfo/UTC")];
        apply(root.path(), &files).unwrap();
        apply(root.path(), &files).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("etc/hostname"), "node");
        assert_eq!(
            fs::read_link(root.path().join("etc/localtime")).unwrap(),
            Path::new("../usr/share/zoneinfo/UTC")
        );
    }

    #[test]
    fn a_directory_that_is_a_link_is_refused() {
        let root = root();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("etc/ssh")).unwrap();
        let fault = apply(root.path(), &[file("/etc/ssh/key", 0o600, "x")]).unwrap_err();
        assert_eq!((fault.code, fault.message.as_str()), (Code::Render, "write /etc/ssh/key"));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        for path in ["/etc/../x", "etc/x", "/", "/etc/"] {
            assert!(apply(root.path(), &[file(path, 0o600, "x")]).is_err(), "{path}");
        }
        assert!(!root.path().join("x").exists());
    }

    #[test]
    fn a_left_over_of_a_crash_is_replaced() {
        let root = root();
        let left = root.path().join("etc/.tatara-new");
        fs::write(&left, "half").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        apply(root.path(), &[file("/etc/x", 0o600, "whole")]).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("etc/x")).unwrap(), "whole");
        assert_eq!(fs::metadata(root.path().join("etc/x")).unwrap().mode() & 0o777, 0o600);
        assert!(!left.exists());
    }
}
