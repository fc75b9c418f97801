//! The two file system images of a release: the root as erofs, and an empty ext4 for the state partition.

use super::command::Tool;
use anyhow::{Context as _, Result};
use std::path::Path;
use tatara_spec::layout::MIB;

const MKFS_EROFS: Tool = Tool { program: "mkfs.erofs", package: "erofs-utils" };
const MKE2FS: Tool = Tool { program: "mke2fs", package: "e2fsprogs" };

/// Nothing looks a root up by its UUID: a slot is found by its partition, on the disk that was booted from. So it may be
/// constant, and the image depends on its files alone.
const ROOT_UUID: &str = "74617461-7261-4000-8000-726f6f740000";

/// The state image's UUID and hash seed; the installer gives every node its own UUID.
const STATE_UUID: &str = "74617461-7261-4000-8000-737461746500";

/// Size of the state image in bytes. It is grown to the partition on the node, so it only has to hold a journal and some
/// metadata; all of it but a few hundred KiB is zeros.
pub const STATE_BYTES: u64 = 256 * MIB;

/// ext4's journal in MiB: what mke2fs gives a file system of a few GiB. A grown file system keeps the journal that it was
/// made with, so it is not chosen for the size of the image.
const JOURNAL_MIB: u64 = 64;

/// How far the file system can grow while mounted, in 4096-byte blocks: 8 TiB, the most that resize_inode can reserve
/// descriptors for with 64-byte descriptors. Beyond it the kernel goes on with meta_bg.
const GROW_BLOCKS: u64 = 1 << 31;

/// Bytes of disk an inode stands for, mke2fs's default for large file systems: container images are many small files.
const BYTES_PER_INODE: u64 = 16384;

/// Writes the root's erofs. It is not compressed: it is read at every boot, and the release has it compressed already.
/// Owners, modes, capabilities and links are those of the directory, all times are `epoch`.
///
/// # Errors
/// `mkfs.erofs` is missing or failed.
pub fn erofs(directory: &Path, image: &Path, epoch: u64) -> Result<()> {
    let mut command = MKFS_EROFS.command();
    command.arg("-d0").arg(format!("-T{epoch}")).arg(format!("-U{ROOT_UUID}")).arg(image).arg(directory);
    MKFS_EROFS.output(&mut command)?;
    Ok(())
}

/// Writes the state partition's empty ext4.
///
/// # Errors
/// `mke2fs` is missing or failed.
pub fn ext4(image: &Path, epoch: u64) -> Result<()> {
    let file = std::fs::File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
    file.set_len(STATE_BYTES).with_context(|| format!("cannot size {}", image.display()))?;
    let extended = format!(
        "hash_seed={STATE_UUID},resize={GROW_BLOCKS},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard"
    );
    let mut command = MKE2FS.command();
    command
        // Debian's mke2fs takes the time of its superblock from here (e2fsprogs, lib/ext2fs/initialize.c).
        .env("E2FSPROGS_FAKE_TIME", epoch.to_string())
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        // The build machine's mke2fs.conf must not decide what the nodes get.
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-L", "tatara-state"])
        .args(["-i", &BYTES_PER_INODE.to_string(), "-U", STATE_UUID, "-J", &format!("size={JOURNAL_MIB}")])
        .args(["-O", EXT4_FEATURES, "-E", &extended])
        .arg(image);
    MKE2FS.output(&mut command)?;
    Ok(())
}

/// Features as Debian 13's mke2fs.conf has them, plus metadata_csum_seed: with it the UUID can be changed while mounted.
const EXT4_FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,sparse_super,filetype,extent,64bit,flex_bg,\
     metadata_csum,metadata_csum_seed,large_file,huge_file,dir_nlink,extra_isize";

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 1_750_000_000;

    fn tool(program: &'static str, arguments: &[&str]) -> String {
        let output = Tool { program, package: program }.run(arguments).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn ext4_is_sound_the_same_twice_and_grows() {
        let work = tempfile::tempdir().unwrap();
        let (one, two) = (work.path().join("one"), work.path().join("two"));
        ext4(&one, EPOCH).unwrap();
        ext4(&two, EPOCH).unwrap();
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(), "images differ");
        tool("e2fsck", &["-fn", one.to_str().unwrap()]);
        let about = tool("dumpe2fs", &["-h", one.to_str().unwrap()]);
        assert!(about.contains("metadata_csum_seed"), "{about}");
        assert!(
            about.contains("Reserved GDT blocks:      1024")
                || about.contains("Reserved GDT blocks:      1023"),
            "{about}"
        );
        assert!(about.contains("Block size:               4096"), "{about}");
    }

    #[test]
    fn erofs_depends_on_the_files_alone() {
        let work = tempfile::tempdir().unwrap();
        let build = |name: &str, order: &[&str]| {
            let root = work.path().join(name);
            std::fs::create_dir_all(root.join("usr/bin")).unwrap();
            for file in order {
                std::fs::write(root.join("usr/bin").join(file), file.repeat(3000)).unwrap();
            }
            let image = work.path().join(format!("{name}.erofs"));
            erofs(&root, &image, EPOCH).unwrap();
            std::fs::read(&image).unwrap()
        };
        let first = build("one", &["alpha", "beta", "gamma"]);
        let second = build("two", &["gamma", "alpha", "beta"]);
        assert_eq!(&first[1024..1028], 0xE0F5_E1E2_u32.to_le_bytes());
        assert!(first == second, "the order in which files were made shows");
    }
}
