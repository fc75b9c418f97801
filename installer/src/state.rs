//! The state partition: mounting, growing, its files and the install record.

use crate::fault::because;
use crate::files;
use crate::{Disk, Medium, parts};
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tatara_disk::gpt::table::Entry;
use tatara_spec::layout::{self, MIB, STATE};
use tatara_spec::record::InstallRecord;
use tatara_spec::{Code, Fault};
use tatara_sys::block::Access;
use tatara_sys::mount::{self, MountFlags, UnmountFlags};

pub use crate::files::StateFile;

/// Below this, each disk's state partition is mounted at its own name.
pub const MOUNT_DIR: &str = "/run/tatara/state";
/// A record has a few hundred bytes.
const RECORD_MAX_BYTES: u64 = MIB;

/// A mounted state partition. It stays mounted when this is dropped; [`StateMount::unmount`] ends it.
#[derive(Debug)]
pub struct StateMount {
    path: PathBuf,
    /// Size of the partition; 0 when it is not known, and then the file system is not grown.
    bytes: u64,
}

impl StateMount {
    /// Mounts the state partition of an installed disk (`/dev/NAME`), or finds it mounted; writable, and grown to its partition.
    ///
    /// # Errors
    /// [`Code::StateMount`] when it cannot be mounted; [`Code::DiskRead`] when it cannot be found.
    pub fn mount(disk: &str) -> Result<Self, Fault> {
        let found = Self::mount_to_read(disk)?;
        found.writable()?;
        Ok(found)
    }

    /// As [`StateMount::mount`], for reading: one that is not mounted yet is mounted read-only.
    ///
    /// # Errors
    /// As [`StateMount::mount`].
    pub fn mount_to_read(disk: &str) -> Result<Self, Fault> {
        let path = mount_point(disk);
        if is_mounted(&path) {
            // Writable means grown: nobody makes it writable otherwise.
            let bytes = if is_writable(&path) { 0 } else { partition_bytes(&path)? };
            return Ok(Self { path, bytes });
        }
        let open = Disk::open(Path::new(disk), Access::Read)?;
        let table = parts::read(&open.medium())?;
        Self::mount_entry(disk, parts::entry(&table.partitions, &STATE)?)
    }

    /// As [`StateMount::mount`] where the partition is known already, but read-only: what a power cut left in the journal is
    /// replayed, nothing else is written.
    pub(crate) fn mount_entry(disk: &str, entry: &Entry) -> Result<Self, Fault> {
        let path = mount_point(disk);
        let found = Self { path: path.clone(), bytes: entry.bytes };
        if is_mounted(&path) {
            return Ok(found);
        }
        let failed = || because(Code::Sys, format!("cannot make {}", path.display()));
        make_run_dir(Path::new("/")).map_err(failed())?;
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed())?;
        let node = parts::node(Path::new("/sys"), Path::new("/dev"), disk, entry)?;
        mount_ext4(&node, &path)?;
        Ok(found)
    }

    /// One that is mounted at `path` by other hands, e.g. at the node's /var.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, bytes: 0 }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is known that its file system need not be grown.
    pub(crate) fn has_its_size(&mut self) {
        self.bytes = 0;
    }

    /// Makes it writable and grows its file system to the size of its partition; does nothing when both are so. For every boot:
    /// an install that was cut off between the two, or a disk that has grown, is put right.
    ///
    /// # Errors
    /// [`Code::StateMount`].
    pub(crate) fn writable(&self) -> Result<(), Fault> {
        if is_writable(&self.path) && self.bytes == 0 {
            return Ok(());
        }
        self.remount_writable("")
    }

    /// Makes it writable, and grown if it is not known to be; the tables of inodes that mkfs left out are written from now on (ext4(5),
    /// init_itable).
    ///
    /// # Errors
    /// [`Code::StateMount`].
    pub(crate) fn writable_for_the_node(&self) -> Result<(), Fault> {
        self.remount_writable("init_itable")
    }

    fn remount_writable(&self, options: &str) -> Result<(), Fault> {
        mount::remount(&self.path, MountFlags::empty(), options)
            .map_err(because(Code::StateMount, "the state partition cannot be made writable"))?;
        if self.bytes == 0 {
            return Ok(());
        }
        match tatara_sys::ext4::resize(&self.path, self.bytes) {
            // The kernel does not grow a file system that has noted an error; one that has most of its room still serves.
            Err(cause) if !self.mostly_grown() => {
                // Writable means grown to whoever finds it mounted.
                let _ = mount::remount(&self.path, MountFlags::RDONLY, "");
                Err(Fault::caused(Code::StateMount, "the state file system cannot be grown", cause))
            }
            _ => Ok(()),
        }
    }

    fn mostly_grown(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|stat| stat.f_blocks * stat.f_frsize >= self.bytes / 2)
    }

    /// The install record; `None` when the install did not get so far.
    ///
    /// # Errors
    /// [`Code::DiskRead`] when there is one and it cannot be read or understood.
    pub fn record(&self) -> Result<Option<InstallRecord>, Fault> {
        record_below(&self.path)
    }

    /// Writes the install record, atomically and durable.
    ///
    /// # Errors
    /// [`Code::DiskWrite`].
    pub fn write_record(&self, record: &InstallRecord) -> Result<(), Fault> {
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(because(Code::Internal, "the install record cannot be encoded"))?;
        self.write(&StateFile::private(layout::state::RECORD, bytes))
    }

    /// Writes a file, atomically and durable.
    ///
    /// # Errors
    /// [`Code::DiskWrite`].
    pub fn write(&self, file: &StateFile) -> Result<(), Fault> {
        files::write(&self.path, file)
    }

    /// Reads a file of at most `limit` bytes; `None` when there is none.
    ///
    /// # Errors
    /// [`Code::DiskRead`].
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
        files::read(&self.path, path, limit)
    }

    /// Removes a file that has held a secret, its bytes first; nothing where there is none.
    ///
    /// # Errors
    /// [`Code::DiskWrite`].
    pub fn erase(&self, path: &str) -> Result<(), Fault> {
        files::erase(&self.path, path)
    }

    /// Removes what a power cut left of a file that was being written, its bytes first. One that is mounted read-only is made writable
    /// when there is something to remove.
    ///
    /// # Errors
    /// [`Code::DiskWrite`]; [`Code::StateMount`].
    pub fn erase_unfinished(&self, path: &str) -> Result<(), Fault> {
        if !files::is_unfinished(&self.path, path) {
            return Ok(());
        }
        self.writable()?;
        files::erase_unfinished(&self.path, path)
    }

    /// As [`StateMount::write`], where the file does not hold these bytes already: a full partition takes what is there as it is.
    ///
    /// # Errors
    /// [`Code::DiskWrite`].
    pub fn write_changed(&self, file: &StateFile) -> Result<(), Fault> {
        let same = |bytes: Option<Vec<u8>>| bytes.as_ref() == Some(&file.bytes);
        if self.read(&file.path, file.bytes.len() as u64).is_ok_and(same) {
            return Ok(());
        }
        self.write(file)
    }

    /// As [`StateMount::write`] in the place of a file that has held a secret: its bytes are overwritten when the new one is there.
    ///
    /// # Errors
    /// [`Code::DiskWrite`].
    pub fn replace(&self, file: &StateFile) -> Result<(), Fault> {
        files::replace(&self.path, file)
    }

    /// Moves the mount, e.g. to the node's /var.
    ///
    /// # Errors
    /// [`Code::StateMount`].
    pub fn move_to(&mut self, target: &Path) -> Result<(), Fault> {
        mount::move_mount(&self.path, target)
            .map_err(because(Code::StateMount, "the state partition cannot become /var"))?;
        target.clone_into(&mut self.path);
        Ok(())
    }

    /// Writes everything out and unmounts.
    ///
    /// # Errors
    /// [`Code::StateMount`]: a file is open.
    pub fn unmount(self) -> Result<(), Fault> {
        mount::unmount(&self.path, UnmountFlags::empty())
            .map_err(because(Code::StateMount, "the state partition cannot be unmounted"))
    }
}

/// Unmounts a disk's state partition if it is mounted where [`StateMount::mount`] puts it.
///
/// # Errors
/// [`Code::StateMount`]: a file is open.
pub fn unmount(disk: &str) -> Result<(), Fault> {
    let path = mount_point(disk);
    if is_mounted(&path) {
        return StateMount::at(path).unmount();
    }
    Ok(())
}

/// Makes [`layout::run::DIR`] below `root`: everybody may look into it, while what is not for everybody has a mode of its own.
///
/// # Errors
/// What the kernel says.
pub fn make_run_dir(root: &Path) -> std::io::Result<()> {
    let path = root.join(layout::run::DIR.trim_start_matches('/'));
    DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))
}

fn is_mounted(path: &Path) -> bool {
    path.exists() && mount::is_mount_point(path).unwrap_or(false)
}

fn is_writable(path: &Path) -> bool {
    let read_only = rustix::fs::StatVfsMountFlags::RDONLY;
    rustix::fs::statvfs(path).is_ok_and(|stat| !stat.f_flag.contains(read_only))
}

/// The size of the partition that is mounted at `path`, from sysfs, which counts in 512 bytes (Documentation/ABI/stable/sysfs-block).
fn partition_bytes(path: &Path) -> Result<u64, Fault> {
    const WHAT: &str = "the size of the state partition cannot be read";
    let device = rustix::fs::stat(path).map_err(because(Code::StateMount, WHAT))?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/size"))
        .map_err(because(Code::StateMount, WHAT))?;
    Ok(text.trim().parse::<u64>().map_err(because(Code::StateMount, WHAT))? * 512)
}

fn mount_point(disk: &str) -> PathBuf {
    let name = Path::new(disk).file_name().unwrap_or_default();
    Path::new(MOUNT_DIR).join(name)
}

fn mount_ext4(node: &Path, path: &Path) -> Result<(), Fault> {
    let flags = MountFlags::RDONLY;
    let source = node.to_string_lossy();
    // Errors of the file system make it read-only instead of being passed over: a node that cannot keep its state must not look well.
    // The tables of inodes that mkfs left out are written by the node, not by a boot that may be refused (ext4(5), noinit_itable).
    mount::mount(&source, path, "ext4", flags, "errors=remount-ro,noinit_itable")
        .map_err(because(Code::StateMount, format!("the state partition {source} cannot be mounted")))
}

pub(crate) fn record_below(root: &Path) -> Result<Option<InstallRecord>, Fault> {
    let Some(bytes) = files::read(root, layout::state::RECORD, RECORD_MAX_BYTES)? else { return Ok(None) };
    let record = serde_json::from_slice(&bytes).map_err(because(
        Code::DiskRead,
        format!("the install record {} is damaged", layout::state::RECORD),
    ))?;
    Ok(Some(record))
}

/// Makes a machine id (machine-id(5)): 128 random bits as 32 lower-case hex digits and a line feed, marked as a random
/// UUID as systemd does.
///
/// # Errors
/// [`Code::Sys`] when the kernel gives no random bytes.
pub fn machine_id() -> Result<StateFile, Fault> {
    let mut id = random()?;
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(33);
    for byte in id {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    Ok(StateFile { path: layout::state::MACHINE_ID.to_owned(), mode: 0o444, bytes: text.into_bytes() })
}

/// 16 random bytes; waits until the kernel's generator is seeded.
pub(crate) fn random() -> Result<[u8; 16], Fault> {
    let mut bytes = [0; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(because(Code::Sys, "the kernel gives no random bytes"))?;
    if got == bytes.len() { Ok(bytes) } else { Err(Fault::new(Code::Sys, "too few random bytes")) }
}

/// A disk as the functions of this crate take it.
impl Disk {
    /// What is needed to read and write parts of it.
    #[must_use]
    pub fn medium(&self) -> Medium<'_> {
        Medium { target: self, bytes: self.bytes(), sector_bytes: self.sector_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::{machine_id, make_run_dir, record_below};
    use std::os::unix::fs::PermissionsExt;
    use tatara_spec::layout::state::RECORD;

    #[test]
    fn machine_ids_are_random_and_well_formed() {
        let (one, two) = (machine_id().unwrap(), machine_id().unwrap());
        assert_ne!(one.bytes, two.bytes);
        let text = String::from_utf8(one.bytes).unwrap();
        assert_eq!(text.len(), 33);
        assert!(text.trim_end().bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        assert_eq!(&text[12..13], "4");
    }

    #[test]
    fn everybody_may_look_into_the_run_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run/tatara");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
        make_run_dir(root.path()).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_record_is_absent_read_or_damaged() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(record_below(root.path()).unwrap(), None);
        std::fs::create_dir_all(root.path().join("lib/tatara")).unwrap();
        let good =
            br#"{"node":"n1","generation":2,"serial":3,"slots":{"a":{"release":"r","rootBytes":4096}}}"#;
        std::fs::write(root.path().join(RECORD), good).unwrap();
        assert_eq!(record_below(root.path()).unwrap().unwrap().generation, 2);
        std::fs::write(root.path().join(RECORD), &good[..40]).unwrap();
        assert!(record_below(root.path()).unwrap_err().chain().contains("damaged"));
    }
}
