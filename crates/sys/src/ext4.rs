//! ext4 while it is mounted: growing it, and giving it an UUID of its own (fs/ext4/ioctl.c).

use crate::error::{Context, Error, Result};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use std::fs::File;
use std::path::Path;

/// `EXT4_IOC_RESIZE_FS` (include/uapi/linux/ext4.h): the new size, in blocks of the file system.
const EXT4_IOC_RESIZE_FS: Opcode = opcode::write::<u64>(b'f', 16);
/// `EXT4_IOC_SETFSUUID`: the number counts the header only, not the flexible array behind it.
const EXT4_IOC_SETFSUUID: Opcode = opcode::write::<[u32; 2]>(b'f', 44);

/// `struct fsuuid` (include/uapi/linux/ext4.h) with its 16 bytes.
#[repr(C)]
struct FsUuid {
    /// Bytes of the UUID: 16.
    len: u32,
    /// None are defined.
    flags: u32,
    uuid: [u8; 16],
}

/// Grows the file system mounted at `mount_point` to `bytes`, rounded down to its blocks. Growing to the present size does nothing.
///
/// # Errors
/// What the ioctl says: `EINVAL` when it would shrink below what is in use or has no room for group descriptors, `EROFS`.
pub fn resize(mount_point: &Path, bytes: u64) -> Result<()> {
    let dir = File::open(mount_point).on("open", mount_point)?;
    let block = rustix::fs::fstatvfs(&dir).on("fstatvfs", mount_point)?.f_bsize;
    let blocks = bytes
        .checked_div(block)
        .ok_or_else(|| Error::new("fstatvfs", mount_point.display().to_string(), rustix::io::Errno::INVAL))?;
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64 through the pointer.
    unsafe { ioctl(&dir, Setter::<EXT4_IOC_RESIZE_FS, u64>::new(blocks)) }
        .on("EXT4_IOC_RESIZE_FS", mount_point)
}

/// Sets the UUID of the file system mounted at `mount_point`.
///
/// # Errors
/// What the ioctl says: `EOPNOTSUPP` unless the file system was made with `metadata_csum_seed`, because every checksum would depend
/// on the old UUID; `ENOTTY` before Linux 6.0.
pub fn set_uuid(mount_point: &Path, uuid: [u8; 16]) -> Result<()> {
    let dir = File::open(mount_point).on("open", mount_point)?;
    let argument = FsUuid { len: 16, flags: 0, uuid };
    // SAFETY: EXT4_IOC_SETFSUUID reads the header and as many bytes as its length field says: all of FsUuid.
    unsafe { ioctl(&dir, Setter::<EXT4_IOC_SETFSUUID, FsUuid>::new(argument)) }
        .on("EXT4_IOC_SETFSUUID", mount_point)
}

#[cfg(test)]
mod tests {
    use super::{EXT4_IOC_RESIZE_FS, EXT4_IOC_SETFSUUID, FsUuid, resize};

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!((EXT4_IOC_RESIZE_FS, EXT4_IOC_SETFSUUID), (0x4008_6610, 0x4008_662c));
        assert_eq!(size_of::<FsUuid>(), 24);
    }

    #[test]
    fn a_file_system_without_the_ioctl_says_so() {
        let error = resize(std::path::Path::new("/proc"), 1 << 30).unwrap_err();
        assert_eq!((error.op, error.errno()), ("EXT4_IOC_RESIZE_FS", Some(libc::ENOTTY)));
    }
}
