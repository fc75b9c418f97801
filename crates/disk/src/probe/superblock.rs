//! The superblocks of the two file systems that are written here.

use super::{Kind, text, u16_at, u32_at};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use uuid::Uuid;

/// Both superblocks start at this byte.
const OFFSET: u64 = 1024;

/// What an ext2, ext3 or ext4 superblock says (kernel, Documentation/filesystems/ext4/super.rst).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4 {
    /// UUID of the file system.
    pub uuid: Uuid,
    /// Its label.
    pub label: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Size of a block in bytes.
    pub block_bytes: u64,
    /// `Ext2`, `Ext3` or `Ext4`, by the features in use.
    pub kind: Kind,
}

/// What an erofs superblock says (kernel, fs/erofs/erofs_fs.h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erofs {
    /// UUID of the file system.
    pub uuid: Uuid,
    /// Its label.
    pub label: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Reads the ext superblock of a file system that starts at `first_byte`; `None` when there is none.
///
/// # Errors
/// What the device says; a device that is too short has no superblock.
pub fn ext4_superblock(dev: &mut (impl Read + Seek), first_byte: u64) -> io::Result<Option<Ext4>> {
    Ok(read(dev, first_byte)?.and_then(|data| parse_ext4(&data)))
}

/// Reads the erofs superblock of a file system that starts at `first_byte`; `None` when there is none.
///
/// # Errors
/// What the device says; a device that is too short has no superblock.
pub fn erofs_superblock(dev: &mut (impl Read + Seek), first_byte: u64) -> io::Result<Option<Erofs>> {
    Ok(read(dev, first_byte)?.and_then(|data| parse_erofs(&data)))
}

fn read(dev: &mut (impl Read + Seek), first_byte: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(at) = first_byte.checked_add(OFFSET) else { return Ok(None) };
    dev.seek(SeekFrom::Start(at))?;
    let mut data = vec![0; 1024];
    match dev.read_exact(&mut data) {
        Ok(()) => Ok(Some(data)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// `data` starts with the superblock.
pub(super) fn parse_ext4(data: &[u8]) -> Option<Ext4> {
    if data.len() < 1024 || u16_at(data, 56) != 0xEF53 {
        return None;
    }
    let (compat, incompat, ro_compat) = (u32_at(data, 92), u32_at(data, 96), u32_at(data, 100));
    // What ext3 knows: filetype, recover, meta_bg; sparse_super, large_file, btree_dir (kernel, fs/ext4/ext4.h).
    let kind = if incompat & !0x16 != 0 || ro_compat & !0x7 != 0 {
        Kind::Ext4
    } else if compat & 0x4 != 0 {
        Kind::Ext3
    } else {
        Kind::Ext2
    };
    let block_bytes = 1024_u64.checked_shl(u32_at(data, 24)).filter(|bytes| *bytes <= 65536)?;
    let high = if incompat & 0x80 == 0 { 0 } else { u32_at(data, 336) };
    let blocks = u64::from(u32_at(data, 4)) | u64::from(high) << 32;
    Some(Ext4 {
        uuid: Uuid::from_slice(&data[104..120]).ok()?,
        label: text(&data[120..136]),
        bytes: blocks.saturating_mul(block_bytes),
        block_bytes,
        kind,
    })
}

/// `data` starts with the superblock.
pub(super) fn parse_erofs(data: &[u8]) -> Option<Erofs> {
    if data.len() < 128 || u32_at(data, 0) != 0xE0F5_E1E2 {
        return None;
    }
    let block_bits = u32::from(data[12]);
    let block_bytes = 1_u64.checked_shl(block_bits).filter(|_| (9..=16).contains(&block_bits))?;
    Some(Erofs {
        uuid: Uuid::from_slice(&data[48..64]).ok()?,
        label: text(&data[64..80]),
        bytes: u64::from(u32_at(data, 36)) * block_bytes,
    })
}
