//! An open block device: its ioctls (include/uapi/linux/fs.h) and positioned I/O.

use crate::error::{Context, Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, ioctl, opcode};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BLKRRPART: Opcode = opcode::none(0x12, 95);
const BLKFLSBUF: Opcode = opcode::none(0x12, 97);
const BLKPG: Opcode = opcode::none(0x12, 105);
/// The header says size_t; the kernel writes 64 bits (block/ioctl.c).
const BLKGETSIZE64: Opcode = opcode::read::<u64>(0x12, 114);
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKZEROOUT: Opcode = opcode::none(0x12, 127);

/// `BLKPG_ADD_PARTITION`, `BLKPG_DEL_PARTITION` (include/uapi/linux/blkpg.h).
const BLKPG_ADD_PARTITION: libc::c_int = 1;
const BLKPG_DEL_PARTITION: libc::c_int = 2;

/// The most partitions that are looked for when the kernel's list is replaced: more than GPT's usual 128 entries.
const PARTITIONS_MAX: u32 = 256;

/// `struct blkpg_partition` (include/uapi/linux/blkpg.h).
#[repr(C)]
struct BlkpgPartition {
    /// Bytes from the start of the disk.
    start: libc::c_longlong,
    /// Bytes.
    length: libc::c_longlong,
    /// Partition number, from 1.
    number: libc::c_int,
    /// Both names are ignored by the kernel.
    devname: [u8; 64],
    volname: [u8; 64],
}

/// `struct blkpg_ioctl_arg` (include/uapi/linux/blkpg.h).
#[repr(C)]
struct BlkpgArg {
    op: libc::c_int,
    /// Not used.
    flags: libc::c_int,
    datalen: libc::c_int,
    data: *mut BlkpgPartition,
}

/// What a device is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing; fails with `EBUSY` when it, or a partition of it, is mounted or otherwise claimed (O_EXCL).
    Write,
    /// Reading and writing beside whoever has mounted a partition of it: for the parts that nobody mounts.
    WriteShared,
}

/// Whether the page cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Through the page cache.
    Buffered,
    /// Past it (O_DIRECT): buffers, offsets and lengths must be multiples of the logical sector.
    Direct,
}

/// A partition as the kernel is to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number, from 1.
    pub number: u32,
    /// First byte.
    pub start_bytes: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// An open disk or partition.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens a block device, or a plain file that stands for one.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(path: &Path, access: Access, caching: Caching) -> Result<Self> {
        let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
        flags |= match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR | OFlags::EXCL,
            Access::WriteShared => OFlags::RDWR,
        };
        if caching == Caching::Direct {
            flags |= OFlags::DIRECT;
        }
        let fd = rustix::fs::open(path, flags, Mode::empty()).on("open", path)?;
        Ok(Self { file: File::from(fd), path: path.to_owned() })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for code over `Read`, `Write` and `Seek`.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Size in bytes.
    ///
    /// # Errors
    /// `ENOTTY` when it is no block device.
    pub fn bytes(&self) -> Result<u64> {
        // SAFETY: BLKGETSIZE64 writes a u64.
        unsafe { ioctl(&self.file, Getter::<BLKGETSIZE64, u64>::new()) }.on("BLKGETSIZE64", &self.path)
    }

    /// Logical sector size in bytes: the unit of addresses on the device.
    ///
    /// # Errors
    /// `ENOTTY` when it is no block device.
    pub fn logical_sector(&self) -> Result<u32> {
        rustix::fs::ioctl_blksszget(&self.file).on("BLKSSZGET", &self.path)
    }

    /// Physical sector size in bytes: the unit the medium writes at once.
    ///
    /// # Errors
    /// `ENOTTY` when it is no block device.
    pub fn physical_sector(&self) -> Result<u32> {
        rustix::fs::ioctl_blkpbszget(&self.file).on("BLKPBSZGET", &self.path)
    }

    /// Fills `buffer` from `offset` bytes on.
    ///
    /// # Errors
    /// What pread(2) says; `UnexpectedEof` beyond the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| self.failed("read", offset, e))
    }

    /// Writes all of `data` at `offset` bytes.
    ///
    /// # Errors
    /// What pwrite(2) says.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(data, offset).map_err(|e| self.failed("write", offset, e))
    }

    /// Makes a range read as zeros, by the device's own command where it has one. Both are in bytes and multiples of the sector.
    ///
    /// # Errors
    /// What the ioctl says: `EINVAL` when not aligned, `ENOTTY` for a plain file.
    pub fn zero_range(&self, offset: u64, bytes: u64) -> Result<()> {
        // SAFETY: BLKZEROOUT reads two u64, start and length.
        unsafe { ioctl(&self.file, Setter::<BLKZEROOUT, [u64; 2]>::new([offset, bytes])) }
            .map_err(|e| self.failed("BLKZEROOUT", offset, e.into()))
    }

    /// Tells the device that a range is not in use (TRIM, UNMAP); what it reads as afterwards is undefined.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the device knows no such command, `EINVAL` when not aligned.
    pub fn discard(&self, offset: u64, bytes: u64) -> Result<()> {
        // SAFETY: BLKDISCARD reads two u64, start and length.
        unsafe { ioctl(&self.file, Setter::<BLKDISCARD, [u64; 2]>::new([offset, bytes])) }
            .map_err(|e| self.failed("BLKDISCARD", offset, e.into()))
    }

    /// Waits until everything is on the medium, the device's own write cache included (fsync(2)).
    ///
    /// # Errors
    /// What fsync(2) says; a write error of before can show here first.
    pub fn flush(&self) -> Result<()> {
        rustix::fs::fsync(&self.file).on("fsync", &self.path)
    }

    /// Forgets what the page cache holds of the device, so that the next read comes from the medium (BLKFLSBUF).
    ///
    /// # Errors
    /// What the ioctl says.
    pub fn drop_cache(&self) -> Result<()> {
        // SAFETY: BLKFLSBUF takes no argument.
        unsafe { ioctl(&self.file, NoArg::<BLKFLSBUF>::new()) }.on("BLKFLSBUF", &self.path)
    }

    /// Has the kernel read the partition table again; where it refuses because a partition is in use, or does not scan this kind
    /// of device, its list is replaced by `partitions` one by one.
    ///
    /// # Errors
    /// What the ioctls say: `EBUSY` when a partition that is in use would change.
    pub fn reread_partitions(&self, partitions: &[Extent]) -> Result<()> {
        // SAFETY: BLKRRPART takes no argument.
        let reread = unsafe { ioctl(&self.file, NoArg::<BLKRRPART>::new()) };
        match reread {
            Ok(()) => Ok(()),
            Err(Errno::BUSY | Errno::INVAL) => self.replace_partitions(partitions),
            Err(error) => Err(error).on("BLKRRPART", &self.path),
        }
    }

    fn replace_partitions(&self, partitions: &[Extent]) -> Result<()> {
        for number in 1..=PARTITIONS_MAX {
            match self.blkpg(BLKPG_DEL_PARTITION, Extent { number, start_bytes: 0, bytes: 0 }) {
                // One in use stays; adding another in its place then fails and says so.
                Ok(()) | Err(Errno::NXIO | Errno::BUSY) => {}
                Err(error) => return Err(error).on("BLKPG_DEL_PARTITION", &self.path),
            }
        }
        for extent in partitions {
            let object = || format!("{} partition {}", self.path.display(), extent.number);
            self.blkpg(BLKPG_ADD_PARTITION, *extent)
                .map_err(|e| Error::new("BLKPG_ADD_PARTITION", object(), e))?;
        }
        Ok(())
    }

    fn blkpg(&self, op: libc::c_int, extent: Extent) -> rustix::io::Result<()> {
        let mut partition = BlkpgPartition {
            start: extent.start_bytes.try_into().map_err(|_| Errno::INVAL)?,
            length: extent.bytes.try_into().map_err(|_| Errno::INVAL)?,
            number: extent.number.try_into().map_err(|_| Errno::INVAL)?,
            devname: [0; 64],
            volname: [0; 64],
        };
        let argument = BlkpgArg {
            op,
            flags: 0,
            datalen: size_of::<BlkpgPartition>() as libc::c_int,
            data: &raw mut partition,
        };
        // SAFETY: BLKPG reads a blkpg_ioctl_arg, and the blkpg_partition that it points to, which outlives the call.
        unsafe { ioctl(&self.file, Setter::<BLKPG, BlkpgArg>::new(argument)) }
    }

    fn failed(&self, op: &'static str, offset: u64, cause: std::io::Error) -> Error {
        Error::new(op, format!("{} at byte {offset}", self.path.display()), cause)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, BLKGETSIZE64, BLKZEROOUT, BlkpgArg, BlkpgPartition, Caching, Device};

    #[test]
    fn numbers_and_layouts_are_the_kernels() {
        assert_eq!((BLKGETSIZE64, BLKZEROOUT), (0x8008_1272, 0x127f));
        assert_eq!((size_of::<BlkpgPartition>(), size_of::<BlkpgArg>()), (152, 24));
    }

    #[test]
    fn a_plain_file_can_be_read_and_written_but_has_no_ioctls() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192).unwrap();
        let device = Device::open(file.path(), Access::Write, Caching::Buffered).unwrap();
        device.write_at(b"tatara", 4096).unwrap();
        let mut read = [0; 6];
        device.read_at(&mut read, 4096).unwrap();
        assert_eq!(&read, b"tatara");
        device.flush().unwrap();
        let error = device.read_at(&mut read, 8190).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(error.object.ends_with("at byte 8190"), "{}", error.object);
        assert_eq!(device.bytes().unwrap_err().errno(), Some(libc::ENOTTY));
        assert_eq!(device.zero_range(0, 512).unwrap_err().errno(), Some(libc::ENOTTY));
    }

    #[test]
    fn reading_does_not_allow_writing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = Device::open(file.path(), Access::Read, Caching::Buffered).unwrap();
        assert_eq!(device.write_at(b"x", 0).unwrap_err().errno(), Some(libc::EBADF));
    }
}
