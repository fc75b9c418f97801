//! The superblock of the state image, before it is mounted: every node's file system gets a UUID of its own.
//!
//! `EXT4_IOC_SETFSUUID` does the same to a mounted file system, but only with `metadata_csum_seed`, and it would leave a moment in
//! which two nodes' file systems are the same.
//!
//! Source: kernel `Documentation/filesystems/ext4/super.rst`, `checksums.rst`.

use crc::{CRC_32_ISCSI, Crc};
use tatara_spec::{Code, Fault};

/// Bytes at the start of the file system that hold the superblock: 1024 bytes from offset 1024 on, in a block of 4096.
pub(crate) const HEAD_BYTES: usize = 4096;
/// Where the superblock starts.
const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_BYTES: usize = 1024;
const BLOCKS_LOW: usize = 0x4;
const LOG_BLOCK_BYTES: usize = 0x18;
const MAGIC: usize = 0x38;
/// `EXT4_MAX_BLOCK_LOG_SIZE` of 16 is 64 KiB, as the logarithm of so many KiB.
const MAX_LOG_BLOCK_BYTES: u32 = 6;
const FEATURE_INCOMPAT: usize = 0x60;
const FEATURE_RO_COMPAT: usize = 0x64;
const UUID: usize = 0x68;
const BLOCKS_HIGH: usize = 0x150;
const CHECKSUM_SEED: usize = 0x270;
const CHECKSUM: usize = 0x3fc;
/// `EXT4_FEATURE_INCOMPAT_64BIT`: block numbers have a high half.
const BITS_64: u32 = 0x80;
/// `EXT4_FEATURE_INCOMPAT_CSUM_SEED`: checksums start from `s_checksum_seed`, not from the UUID.
const CSUM_SEED: u32 = 0x2000;
/// `EXT4_FEATURE_RO_COMPAT_METADATA_CSUM`.
const METADATA_CSUM: u32 = 0x400;
/// `EXT4_FEATURE_RO_COMPAT_GDT_CSUM`: group checksums over the UUID, without a seed.
const GDT_CSUM: u32 = 0x10;

static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// ext4's crc32c: starts from all ones, the result is not inverted.
fn crc32c(bytes: &[u8]) -> u32 {
    !CRC32C.checksum(bytes)
}

fn u32_at(block: &[u8], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&block[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

fn put_u32(block: &mut [u8], offset: usize, value: u32) {
    block[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Sets the UUID in the first 4096 bytes of an ext4 file system.
///
/// # Errors
/// [`Code::ReleaseBad`] when there is no ext4, its checksum is wrong, or its features tie other checksums to the UUID.
pub(crate) fn set_uuid(head: &mut [u8; HEAD_BYTES], uuid: [u8; 16]) -> Result<(), Fault> {
    let wrong = |what: &str| Err(Fault::new(Code::ReleaseBad, format!("the state image {what}")));
    let block = &mut head[SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_BYTES];
    if block[MAGIC..MAGIC + 2] != [0x53, 0xef] {
        return wrong("is no ext4 file system");
    }
    let ro_compat = u32_at(block, FEATURE_RO_COMPAT);
    if ro_compat & METADATA_CSUM == 0 {
        if ro_compat & GDT_CSUM != 0 {
            return wrong("has uninit_bg without metadata_csum; make it with mke2fs's defaults");
        }
        block[UUID..UUID + 16].copy_from_slice(&uuid);
        return Ok(());
    }
    if crc32c(&block[..CHECKSUM]) != u32_at(block, CHECKSUM) {
        return wrong("has a superblock with a wrong checksum");
    }
    let incompat = u32_at(block, FEATURE_INCOMPAT);
    if incompat & CSUM_SEED == 0 {
        let seed = crc32c(&block[UUID..UUID + 16]);
        put_u32(block, CHECKSUM_SEED, seed);
        put_u32(block, FEATURE_INCOMPAT, incompat | CSUM_SEED);
    }
    block[UUID..UUID + 16].copy_from_slice(&uuid);
    let checksum = crc32c(&block[..CHECKSUM]);
    put_u32(block, CHECKSUM, checksum);
    Ok(())
}

/// Whether the file system with this head takes all of a partition of `bytes`.
pub(crate) fn fills(head: &[u8; HEAD_BYTES], bytes: u64) -> bool {
    let block = &head[SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_BYTES];
    let high = if u32_at(block, FEATURE_INCOMPAT) & BITS_64 == 0 { 0 } else { u32_at(block, BLOCKS_HIGH) };
    let blocks = u64::from(high) << 32 | u64::from(u32_at(block, BLOCKS_LOW));
    let log = u32_at(block, LOG_BLOCK_BYTES);
    block[MAGIC..MAGIC + 2] == [0x53, 0xef] && log <= MAX_LOG_BLOCK_BYTES && blocks == bytes / (1024 << log)
}

#[cfg(test)]
mod tests {
    use super::{HEAD_BYTES, fills, set_uuid};
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    fn mke2fs(features: &str) -> (tempfile::NamedTempFile, [u8; HEAD_BYTES]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let status = Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-O", features])
            .arg(file.path())
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .status()
            .unwrap();
        assert!(status.success());
        let mut head = [0; HEAD_BYTES];
        file.as_file().read_exact_at(&mut head, 0).unwrap();
        (file, head)
    }

    #[test]
    fn e2fsck_finds_nothing_after_the_change() {
        for features in ["metadata_csum,metadata_csum_seed", "metadata_csum,^metadata_csum_seed"] {
            let (file, mut head) = mke2fs(features);
            set_uuid(&mut head, *b"0123456789abcdef").unwrap();
            file.as_file().write_all_at(&head, 0).unwrap();
            let check = Command::new("e2fsck")
                .args(["-f", "-n"])
                .arg(file.path())
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&check.stdout).into_owned();
            assert!(check.status.success(), "{features}: {text}");
            assert_eq!(head[1024 + 0x68..1024 + 0x78], *b"0123456789abcdef");
        }
    }

    #[test]
    fn a_partition_is_filled_up_to_a_rest_of_a_block() {
        for features in ["64bit", "^64bit"] {
            let (_, head) = mke2fs(features);
            assert!(fills(&head, 16 << 20) && fills(&head, (16 << 20) + 1023), "{features}");
            assert!(!fills(&head, 32 << 20) && !fills(&head, 8 << 20), "{features}");
        }
        let (_, mut head) = mke2fs("64bit");
        super::put_u32(&mut head[1024..], super::BLOCKS_HIGH, 1);
        assert!(!fills(&head, 16 << 20), "the high half counts");
        super::put_u32(&mut head[1024..], super::FEATURE_INCOMPAT, 0);
        assert!(fills(&head, 16 << 20), "without 64bit it is something else");
        assert!(!fills(&[0; HEAD_BYTES], 0), "no file system");
        assert!(!fills(&[0xff; HEAD_BYTES], 16 << 20), "a block size that is none");
    }

    #[test]
    fn what_is_no_sound_ext4_is_refused() {
        assert!(set_uuid(&mut [0; HEAD_BYTES], [1; 16]).is_err());
        let (_file, mut head) = mke2fs("metadata_csum");
        head[1024] ^= 1;
        assert!(set_uuid(&mut head, [1; 16]).unwrap_err().message.contains("checksum"));
    }
}
