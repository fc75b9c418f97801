//! Mounting an installed system: root, state, and the overlay of /etc.

use crate::fault::because;
use crate::span::{Medium, get};
use crate::{Disk, StateMount, ext4, parts};
use rustix::fs::{Advice, Mode, OFlags, ResolveFlags};
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use tatara_disk::gpt::table::Entry;
use tatara_spec::layout::STATE;
use tatara_spec::slot::Slot;
use tatara_spec::{Code, Fault, layout};
use tatara_sys::block::Access;
use tatara_sys::mount::{self, MountFlags, UnmountFlags};

/// The overlay's layers, on the tmpfs of /run: they move to the node with it.
const ETC_DIR: &str = "/run/tatara/etc";
/// What the kernel starts next, below the root.
const INIT: &str = "sbin/init";
/// Symbolic links are followed inside of the root; this is how the kernel does that (openat2(2)).
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT;
/// What [`read_ahead`] asks for at once: the kernel may leave out what is beyond a device's read-ahead, whose default this is
/// (mm/readahead.c, `force_page_cache_ra`).
const READ_AHEAD_BYTES: u64 = 128 * 1024;

/// Mounts a slot of a disk (`/dev/NAME`) at `target`: the root read-only, the state partition at /var, and a fresh overlay at /etc;
/// it checks that there is an init to start. What an earlier attempt left at `target` is unmounted; when this one fails, nothing
/// stays mounted there.
///
/// # Errors
/// [`Code::RootMount`], [`Code::StateMount`], [`Code::RootInit`]; [`Code::DiskRead`] when the partitions cannot be found.
pub fn mount_root(disk: &str, slot: Slot, target: &Path, state: &mut StateMount) -> Result<(), Fault> {
    let open = Disk::open(Path::new(disk), Access::Read)?;
    let table = parts::read(&open.medium())?;
    let entry = parts::entry(&table.partitions, parts::root_of(slot))?;
    let node = parts::node(Path::new("/sys"), Path::new("/dev"), disk, entry)?;
    if fills_its_partition(&open.medium(), parts::entry(&table.partitions, &STATE)?) {
        state.has_its_size();
    }
    DirBuilder::new()
        .recursive(true)
        .create(target)
        .map_err(because(Code::Sys, format!("cannot make {}", target.display())))?;
    if mount::is_mount_point(target).unwrap_or(false) {
        unmount_root(target)?;
    }
    let source = node.to_string_lossy();
    mount::mount(&source, target, "erofs", MountFlags::RDONLY, "")
        .map_err(because(Code::RootMount, format!("the root of slot {slot} ({source}) cannot be mounted")))?;
    let result = check_init(target).and_then(|()| overlay_etc(target));
    let result = result.and_then(|()| state.writable_for_the_node());
    let result = result.and_then(|()| state.move_to(&target.join("var")));
    if result.is_err() {
        // The next attempt begins with nothing mounted here; the state partition is not among what is taken away.
        let _ = mount::unmount(&target.join("etc"), UnmountFlags::DETACH);
        let _ = mount::unmount(target, UnmountFlags::DETACH);
    }
    result
}

/// Whether the state partition's file system is known to need no growing, as at all boots but the first.
fn fills_its_partition(medium: &Medium<'_>, entry: &Entry) -> bool {
    let mut head = [0; ext4::HEAD_BYTES];
    get(&medium.span(entry), 0, &mut head).is_ok() && ext4::fills(&head, entry.bytes)
}

/// Undoes [`mount_root`]: unmounts /etc, /var and the root.
///
/// # Errors
/// [`Code::RootMount`]: a file is open.
pub fn unmount_root(target: &Path) -> Result<(), Fault> {
    let failed = || because(Code::RootMount, "the node's root cannot be unmounted");
    for below in ["etc", "var"] {
        let path = target.join(below);
        if mount::is_mount_point(&path).unwrap_or(false) {
            mount::unmount(&path, UnmountFlags::empty()).map_err(failed())?;
        }
    }
    mount::unmount(target, UnmountFlags::empty()).map_err(failed())
}

/// An overlay of the root's /etc and an empty tmpfs: every boot starts from the release's files.
fn overlay_etc(target: &Path) -> Result<(), Fault> {
    let base = Path::new(ETC_DIR);
    let failed = || because(Code::Sys, format!("cannot prepare {ETC_DIR}"));
    match std::fs::remove_dir_all(base) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed()(error)),
        _ => {}
    }
    crate::state::make_run_dir(Path::new("/")).map_err(failed())?;
    DirBuilder::new().mode(0o700).create(base).map_err(failed())?;
    for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
        DirBuilder::new().mode(mode).create(base.join(name)).map_err(failed())?;
    }
    let etc = target.join("etc");
    let data = format!("lowerdir={},upperdir={ETC_DIR}/upper,workdir={ETC_DIR}/work", etc.display());
    mount::mount("overlay", &etc, "overlay", MountFlags::empty(), &data)
        .map_err(because(Code::RootMount, "the overlay of /etc cannot be mounted"))
}

/// Whether `root` has an init that the kernel could start: a regular file that is executable and is a program or a script.
///
/// # Errors
/// [`Code::RootInit`] with what was found instead.
pub fn check_init(root: &Path) -> Result<(), Fault> {
    let wrong = |what: &str| Fault::new(Code::RootInit, format!("/{INIT} {what}"));
    let mut init =
        open_inside(root, INIT).map_err(because(Code::RootInit, format!("cannot open /{INIT}")))?;
    let stat = init.metadata().map_err(because(Code::RootInit, format!("cannot examine /{INIT}")))?;
    if !stat.is_file() {
        return Err(wrong("is no regular file"));
    }
    if stat.permissions().mode() & 0o111 == 0 {
        return Err(wrong("is not executable"));
    }
    let mut magic = [0; 4];
    init.read_exact(&mut magic).map_err(because(Code::RootInit, format!("cannot read /{INIT}")))?;
    if magic == *b"\x7fELF" || magic.starts_with(b"#!") {
        return Ok(());
    }
    Err(wrong("is neither an ELF program nor a script"))
}

fn open_inside(root: &Path, path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::openat2(File::open(root)?, path, flags, Mode::empty(), INSIDE)?.into())
}

/// Has the kernel read what init begins with ([`layout::FIRST_READ`]), so that init need not wait for it; gives the bytes asked for. The
/// kernel goes on reading when this has returned. Only a help: a file that is not there, or cannot be read, is left to init.
#[must_use]
pub fn read_ahead(root: &Path) -> u64 {
    let mut list = String::new();
    let opened = open_inside(root, layout::FIRST_READ);
    if opened.and_then(|mut file| file.read_to_string(&mut list)).is_err() {
        return 0;
    }
    list.lines().filter_map(|path| will_need(&open_inside(root, path).ok()?)).sum()
}

/// Asks for all of a regular file; gives its size.
fn will_need(file: &File) -> Option<u64> {
    let stat = file.metadata().ok().filter(Metadata::is_file)?;
    let mut at = 0;
    while at < stat.len() {
        rustix::fs::fadvise(file, at, NonZeroU64::new(READ_AHEAD_BYTES), Advice::WillNeed).ok()?;
        at += READ_AHEAD_BYTES;
    }
    Some(stat.len())
}

#[cfg(test)]
mod tests {
    use super::{check_init, read_ahead};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn program(path: &Path, bytes: &[u8], mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn links_are_followed_inside_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        program(&root.path().join("usr/lib/systemd/systemd"), b"\x7fELF....", 0o755);
        std::fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
        symlink("usr/sbin", root.path().join("sbin")).unwrap();
        symlink("/lib/systemd/systemd", root.path().join("usr/sbin/init")).unwrap();
        assert!(check_init(root.path()).is_err(), "/lib is missing in the root, whatever the host has");
        symlink("usr/lib", root.path().join("lib")).unwrap();
        check_init(root.path()).unwrap();
    }

    #[test]
    fn what_the_list_names_is_read_ahead_and_nothing_outside_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read_ahead(root.path()), 0, "there is no list");
        program(&root.path().join("usr/lib/systemd/systemd"), &[7; 300_000], 0o755);
        symlink("/usr/lib/systemd/systemd", root.path().join("init")).unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), [7; 50]).unwrap();
        let list = format!("init\nusr/lib/missing.so\n{}\nusr/lib\n", outside.path().display());
        program(&root.path().join("usr/lib/tatara/first-read"), list.as_bytes(), 0o644);
        assert_eq!(read_ahead(root.path()), 300_000);
    }

    #[test]
    fn what_cannot_be_started_is_refused() {
        let cases: [(&[u8], u32, &str); 3] = [
            (b"\x7fELF....", 0o644, "not executable"),
            (b"text of no program", 0o755, "neither"),
            (b"", 0o755, "cannot read"),
        ];
        for (bytes, mode, wanted) in cases {
            let root = tempfile::tempdir().unwrap();
            program(&root.path().join("sbin/init"), bytes, mode);
            let fault = check_init(root.path()).unwrap_err();
            assert!(fault.message.contains(wanted), "{}", fault.message);
        }
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(check_init(empty.path()).unwrap_err().code, tatara_spec::Code::RootInit);
    }
}
