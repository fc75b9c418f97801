//! Files of the state partition: written so that a power cut leaves the old or the new one, never half of one.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use tatara_spec::{Code, Fault, layout};

/// A file below the root of the state partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFile {
    /// Relative path, e.g. [`layout::state::CONFIG`].
    pub path: String,
    /// Permissions, e.g. `0o600`.
    pub mode: u32,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl StateFile {
    /// A file that only root may read, mode 0600.
    #[must_use]
    pub fn private(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o600, bytes }
    }
}

/// Writes a file below `root`: temporary file, fsync, rename, fsync of the directory. Missing directories are made, our own
/// ([`layout::state::DIR`] and below) with mode 0700.
///
/// # Errors
/// [`Code::DiskWrite`] with the path and what the kernel said.
pub(crate) fn write(root: &Path, file: &StateFile) -> Result<(), Fault> {
    write_io(root, file).map_err(|cause| {
        Fault::caused(Code::DiskWrite, format!("cannot write {} on the state partition", file.path), cause)
    })
}

fn write_io(root: &Path, file: &StateFile) -> io::Result<()> {
    let path = root.join(&file.path);
    let directory = make_directories(root, Path::new(&file.path))?;
    let temporary = root.join(unfinished(&file.path));
    // One that a power cut left behind may have other permissions, and hold a secret. What is no file is only removed.
    match erase_io(root, &unfinished(&file.path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => fs::remove_file(&temporary)?,
        _ => {}
    }
    if let Err(error) = fill(&temporary, file) {
        // The room that it took is needed by others.
        let _ = erase_io(root, &unfinished(&file.path));
        return Err(error);
    }
    fs::rename(&temporary, &path)?;
    File::open(&directory)?.sync_all()
}

fn fill(path: &Path, file: &StateFile) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path)?;
    out.write_all(&file.bytes)?;
    out.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(file.mode))?;
    out.sync_all()
}

/// Where a file is until it is whole.
fn unfinished(path: &str) -> String {
    format!("{path}.new")
}

/// Makes the directories above `relative`, durable; gives the lowest.
fn make_directories(root: &Path, relative: &Path) -> io::Result<std::path::PathBuf> {
    let mut directory = root.to_owned();
    let mut below = std::path::PathBuf::new();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        let above = directory.clone();
        directory.push(part);
        below.push(part);
        let mode = if below.starts_with(layout::state::DIR) { 0o700 } else { 0o755 };
        match DirBuilder::new().mode(mode).create(&directory) {
            Ok(()) => File::open(&above)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(directory)
}

/// Opens a regular file. Any disk with our partitions is looked at, so nothing on it may lead elsewhere (a link to a device) or make
/// us wait (a FIFO).
fn open(root: &Path, path: &str, access: OFlags) -> io::Result<File> {
    let directory = File::open(root)?;
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = File::from(openat2(&directory, path, flags, Mode::empty(), inside)?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"))
}

/// Reads a file below `root`, at most `limit` bytes; `None` when there is none.
///
/// # Errors
/// [`Code::DiskRead`] with the path and what the kernel said, or that it is too large.
pub(crate) fn read(root: &Path, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
    let wrong = |cause: io::Error| {
        Fault::caused(Code::DiskRead, format!("cannot read {path} on the state partition"), cause)
    };
    let file = match open(root, path, OFlags::RDONLY) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error)),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > limit {
        return Err(wrong(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes"))));
    }
    Ok(Some(bytes))
}

/// As [`write`], where the file that was there may have held a secret: when the new one is there, its bytes are overwritten.
///
/// # Errors
/// [`Code::DiskWrite`] with the path and what the kernel said.
pub(crate) fn replace(root: &Path, file: &StateFile) -> Result<(), Fault> {
    let failed = |cause| {
        Fault::caused(Code::DiskWrite, format!("cannot replace {} on the state partition", file.path), cause)
    };
    let old = match open(root, &file.path, OFlags::WRONLY) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    write(root, file)?;
    old.map_or(Ok(()), |old| overwrite(&old)).map_err(failed)
}

fn overwrite(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file)?;
    file.sync_all()
}

/// Removes a file below `root` that has held a secret: its bytes are overwritten first, not left in blocks that nobody uses any more; and
/// what a power cut left of one that was being written. Nothing is done where there is none. A power cut leaves the file, or one with zeros
/// in it, or none.
///
/// # Errors
/// [`Code::DiskWrite`] with the path and what the kernel said.
pub(crate) fn erase(root: &Path, path: &str) -> Result<(), Fault> {
    erase_unfinished(root, path)?;
    erase_one(root, path)
}

/// Removes in the same way what a power cut left of a file that was being written; nothing where there is none.
///
/// # Errors
/// [`Code::DiskWrite`] with the path and what the kernel said.
pub(crate) fn erase_unfinished(root: &Path, path: &str) -> Result<(), Fault> {
    erase_one(root, &unfinished(path))
}

/// Whether a power cut has left something of a file that was being written.
pub(crate) fn is_unfinished(root: &Path, path: &str) -> bool {
    root.join(unfinished(path)).symlink_metadata().is_ok()
}

fn erase_one(root: &Path, path: &str) -> Result<(), Fault> {
    match erase_io(root, path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let message = format!("cannot erase {path} on the state partition");
            Err(Fault::caused(Code::DiskWrite, message, error))
        }
        _ => Ok(()),
    }
}

fn erase_io(root: &Path, path: &str) -> io::Result<()> {
    overwrite(&open(root, path, OFlags::WRONLY)?)?;
    let path = root.join(path);
    fs::remove_file(&path)?;
    File::open(path.parent().ok_or(io::ErrorKind::InvalidFilename)?)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{StateFile, erase, erase_unfinished, is_unfinished, read, replace, write};
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &std::path::Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn modes_are_exact_and_directories_ours() {
        let root = tempfile::tempdir().unwrap();
        let file = StateFile { path: "lib/tatara/ssh/key".into(), mode: 0o600, bytes: b"secret".to_vec() };
        write(root.path(), &file).unwrap();
        assert_eq!(mode(&root.path().join("lib/tatara/ssh/key")), 0o600);
        assert_eq!(mode(&root.path().join("lib/tatara/ssh")), 0o700);
        assert_eq!(mode(&root.path().join("lib/tatara")), 0o700);
        assert_eq!(mode(&root.path().join("lib")), 0o755);
    }

    #[test]
    fn a_left_over_temporary_file_is_no_obstacle_and_no_leak() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("lib/tatara")).unwrap();
        let left = root.path().join("lib/tatara/config.yaml.new");
        std::fs::write(&left, "old").unwrap();
        std::fs::set_permissions(&left, PermissionsExt::from_mode(0o666)).unwrap();
        let file = StateFile { path: "lib/tatara/config.yaml".into(), mode: 0o600, bytes: b"new".to_vec() };
        write(root.path(), &file).unwrap();
        assert!(!left.exists());
        assert_eq!(mode(&root.path().join("lib/tatara/config.yaml")), 0o600);
        assert_eq!(read(root.path(), &file.path, 10).unwrap(), Some(b"new".to_vec()));
    }

    #[test]
    fn a_replaced_file_keeps_nothing_and_is_never_missing() {
        let root = tempfile::tempdir().unwrap();
        let file = |bytes: &[u8]| StateFile::private("lib/tatara/staged.json", bytes.to_vec());
        replace(root.path(), &file(b"token")).unwrap();
        let path = root.path().join("lib/tatara/staged.json");
        let second_name = root.path().join("old");
        std::fs::hard_link(&path, &second_name).unwrap();
        replace(root.path(), &file(b"newer")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"newer");
        assert_eq!(std::fs::read(&second_name).unwrap(), [0; 5]);
        std::fs::write(root.path().join("lib/tatara/staged.json.new"), "cut off").unwrap();
        erase(root.path(), "lib/tatara/staged.json").unwrap();
        assert_eq!(std::fs::read_dir(root.path().join("lib/tatara")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_cut_left_unfinished_is_overwritten_and_the_file_itself_stays() {
        let root = tempfile::tempdir().unwrap();
        let file = StateFile::private("lib/tatara/staged.json", b"whole".to_vec());
        write(root.path(), &file).unwrap();
        let (left, other) = (root.path().join("lib/tatara/staged.json.new"), root.path().join("other"));
        let leave = || {
            std::fs::write(&left, "token").unwrap();
            std::fs::hard_link(&left, &other).unwrap();
            assert!(is_unfinished(root.path(), &file.path));
        };
        let is_gone = || {
            assert!(!is_unfinished(root.path(), &file.path));
            assert_eq!(std::fs::read(&other).unwrap(), [0; 5]);
            std::fs::remove_file(&other).unwrap();
        };
        leave();
        erase_unfinished(root.path(), &file.path).unwrap();
        is_gone();
        assert_eq!(read(root.path(), &file.path, 10).unwrap(), Some(b"whole".to_vec()));
        leave();
        write(root.path(), &file).unwrap();
        is_gone();
    }

    /// On a disk that somebody else prepared.
    #[test]
    fn reading_follows_no_link_and_waits_for_no_fifo() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("record.json"), "{}").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("lib")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("record.json"), root.path().join("record.json"))
            .unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        for path in ["lib/record.json", "record.json", "../record.json", "fifo"] {
            assert!(read(root.path(), path, 10).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_erased_is_overwritten_first() {
        let root = tempfile::tempdir().unwrap();
        let file = StateFile::private("lib/tatara/staged.json", b"secret".to_vec());
        write(root.path(), &file).unwrap();
        let path = root.path().join(&file.path);
        // A second name shows what became of the blocks.
        let other = root.path().join("other");
        std::fs::hard_link(&path, &other).unwrap();
        for _ in 0..2 {
            erase(root.path(), &file.path).unwrap();
            assert!(!path.exists());
        }
        assert_eq!(std::fs::read(&other).unwrap(), [0; 6]);
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(erase(root.path(), &file.path).is_err(), "a link was followed");
    }

    #[test]
    fn reading_knows_absence_and_a_limit() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path(), "none", 1).unwrap(), None);
        std::fs::write(root.path().join("big"), "12").unwrap();
        assert!(read(root.path(), "big", 1).is_err());
    }
}
