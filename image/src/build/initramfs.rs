//! The initramfs: one newc cpio in one zstd frame, the same bytes for the same input.
//!
//! Sources: kernel `Documentation/driver-api/early-userspace/buffer-format.rst`, and `lib/decompress_unzstd.c` for what
//! the kernel can unpack (windows up to 128 MiB; level 19 uses 8 MiB).

use super::command::Tool;
use super::modules::{Selection, Storage, Tables};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tatara_spec::layout::UNPACKED;

/// The highest ordinary level: 20 and above need long windows at unpacking, which costs memory on small machines.
const ZSTD_LEVEL: i32 = 19;
const XZ: Tool = Tool { program: "xz", package: "xz-utils" };
const MODINFO: Tool = Tool { program: "modinfo", package: "kmod" };

/// What a path in the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory with its permission bits.
    Directory(u32),
    /// A file with its permission bits.
    File(u32, Vec<u8>),
    /// A character device: permission bits, major, minor.
    Character(u32, u32, u32),
}

/// The archive's paths, without a leading `/`. The order of a map puts a directory before what is in it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Bytes by group, for the size report.
    sizes: BTreeMap<String, u64>,
}

impl Tree {
    /// Adds a path and the directories above it. A path added twice keeps the last node.
    pub fn add(&mut self, group: &str, path: &str, node: Node) {
        for (i, _) in path.match_indices('/') {
            self.nodes.entry(path[..i].to_owned()).or_insert(Node::Directory(0o755));
        }
        if let Node::File(_, bytes) = &node {
            *self.sizes.entry(group.to_owned()).or_default() += bytes.len() as u64;
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Bytes before compression, by group.
    #[must_use]
    pub fn sizes(&self) -> &BTreeMap<String, u64> {
        &self.sizes
    }

    /// The newc archive: owner root, times `epoch`, inode numbers in order, [`UNPACKED`] last.
    ///
    /// # Errors
    /// A file is larger than newc's 4 GiB, or the date is after 2106.
    pub fn to_cpio(&self, epoch: u64) -> Result<Vec<u8>> {
        let mtime = u32::try_from(epoch).context("the epoch does not fit newc's 32 bits")?;
        let mut out = Vec::new();
        let last = (UNPACKED.to_owned(), Node::File(0o444, b"complete\n".to_vec()));
        let nodes = self.nodes.iter().chain([(&last.0, &last.1)]);
        for (i, (path, node)) in nodes.enumerate() {
            let (mode, data, links): (u32, &[u8], u32) = match node {
                Node::Directory(mode) => (0o040_000 | mode, &[], 2),
                Node::File(mode, bytes) => (0o100_000 | mode, bytes, 1),
                Node::Character(mode, ..) => (0o020_000 | mode, &[], 1),
            };
            let mut entry = cpio::NewcBuilder::new(path).mode(mode).nlink(links).mtime(mtime);
            entry = entry.ino(u32::try_from(i + 1).context("too many files")?);
            if let Node::Character(_, major, minor) = node {
                entry = entry.rdev_major(*major).rdev_minor(*minor);
            }
            let size = u32::try_from(data.len()).with_context(|| format!("{path} is too large for newc"))?;
            let mut writer = entry.write(&mut out, size);
            std::io::Write::write_all(&mut writer, data)?;
            writer.finish()?;
        }
        cpio::newc::trailer(&mut out)?;
        Ok(out)
    }
}

/// Compresses an archive into one zstd frame; one thread, since the output of several depends on their number.
///
/// # Errors
/// The compressor failed.
pub fn compress(archive: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(archive, ZSTD_LEVEL).context("cannot compress the initramfs")
}

/// What the initramfs is made of.
#[derive(Debug)]
pub struct Contents<'a> {
    /// PID 1.
    pub init: &'a Path,
    /// The kernel's module tables.
    pub tables: &'a Tables,
    /// What of them goes in.
    pub selection: &'a Selection,
    /// `uname -r`.
    pub kernel_version: &'a str,
    /// The root's `lib/firmware`; it need not exist.
    pub firmware: &'a Path,
    /// `/etc/tatara/build.json`.
    pub build_json: String,
    /// minisign public keys, base64.
    pub keys: Vec<String>,
    /// PEM of CAs to trust beside pins.
    pub ca_pem: String,
}

/// Lays out the archive.
///
/// # Errors
/// A file cannot be read, or a module cannot be decompressed.
pub fn tree(contents: &Contents<'_>) -> Result<Tree> {
    let mut tree = Tree::default();
    for directory in ["proc", "sys", "dev", "run", "sysroot"] {
        tree.add("base", directory, Node::Directory(0o755));
    }
    tree.add("base", "tmp", Node::Directory(0o1777));
    // PID 1's standard streams before it has mounted devtmpfs (kernel init/main.c, console_on_rootfs).
    tree.add("base", "dev/console", Node::Character(0o600, 5, 1));
    tree.add("init", "init", Node::File(0o755, read(contents.init)?));
    tree.add("base", "etc/tatara/build.json", Node::File(0o644, contents.build_json.clone().into_bytes()));
    if !contents.keys.is_empty() {
        let keys: String = contents.keys.iter().map(|key| format!("{key}\n")).collect();
        tree.add("base", "etc/tatara/keys", Node::File(0o644, keys.into_bytes()));
    }
    if !contents.ca_pem.is_empty() {
        let pem = contents.ca_pem.clone().into_bytes();
        tree.add("base", "etc/tatara/ca.pem", Node::File(0o644, pem));
    }
    add_modules(contents, &mut tree)?;
    add_firmware(contents, &mut tree)?;
    Ok(tree)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn add_modules(contents: &Contents<'_>, tree: &mut Tree) -> Result<()> {
    let base = format!("lib/modules/{}", contents.kernel_version);
    for (path, chosen) in contents.selection {
        let source = contents.tables.directory().join(path);
        let compressed = path.ends_with(".xz");
        let (path, bytes) = match chosen.storage {
            Storage::Raw if compressed => {
                let arguments = ["--decompress".as_ref(), "--stdout".as_ref(), source.as_os_str()];
                (path.trim_end_matches(".xz"), XZ.run(arguments)?)
            }
            Storage::Raw | Storage::Xz => (path.as_str(), read(&source)?),
        };
        let storage = if chosen.storage == Storage::Raw { ", raw" } else { "" };
        tree.add(&format!("{}{storage}", chosen.group), &format!("{base}/{path}"), Node::File(0o644, bytes));
    }
    for (name, text) in contents.tables.reduced(contents.selection) {
        tree.add("tables", &format!("{base}/{name}"), Node::File(0o644, text.into_bytes()));
    }
    Ok(())
}

/// Firmware that the selected modules name and the root has; Debian's main archive has little of it.
fn add_firmware(contents: &Contents<'_>, tree: &mut Tree) -> Result<()> {
    if contents.selection.is_empty() || !contents.firmware.is_dir() {
        return Ok(());
    }
    let paths = contents.selection.keys().map(|path| contents.tables.directory().join(path).into_os_string());
    let names = MODINFO.run(["-F".into(), "firmware".into()].into_iter().chain(paths))?;
    for name in String::from_utf8_lossy(&names).lines() {
        for suffix in ["", ".xz", ".zst"] {
            let file = format!("{name}{suffix}");
            let source: PathBuf = contents.firmware.join(&file);
            if source.is_file() {
                tree.add("firmware", &format!("lib/firmware/{file}"), Node::File(0o644, read(&source)?));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.add("base", "lib/modules/a.ko", Node::File(0o644, b"module".to_vec()));
        tree.add("init", "init", Node::File(0o755, b"#!odd".to_vec()));
        tree.add("base", "dev/console", Node::Character(0o600, 5, 1));
        tree.add("base", "tmp", Node::Directory(0o1777));
        tree
    }

    #[test]
    fn parents_come_first_and_the_reader_agrees() {
        let archive = sample().to_cpio(1_700_000_000).unwrap();
        let mut rest: &[u8] = &archive;
        let mut seen = Vec::new();
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let entry = reader.entry();
            assert_eq!((entry.uid(), entry.gid(), entry.mtime()), (0, 0, 1_700_000_000));
            let (name, mode, rdev) = (entry.name().to_owned(), entry.mode(), entry.rdev_major());
            let mut data = Vec::new();
            reader.read_to_end(&mut data).unwrap();
            rest = reader.finish().unwrap();
            seen.push((name, mode, rdev, data));
        }
        let expected = [
            ("dev", 0o040_755, 0, ""),
            ("dev/console", 0o020_600, 5, ""),
            ("init", 0o100_755, 0, "#!odd"),
            ("lib", 0o040_755, 0, ""),
            ("lib/modules", 0o040_755, 0, ""),
            ("lib/modules/a.ko", 0o100_644, 0, "module"),
            ("tmp", 0o041_777, 0, ""),
            ("unpacked", 0o100_444, 0, "complete\n"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|&(n, m, r, d)| (n.to_owned(), m, r, d.as_bytes().to_vec())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn one_frame_and_the_same_bytes_twice() {
        let archive = sample().to_cpio(1).unwrap();
        let packed = compress(&archive).unwrap();
        assert_eq!(packed, compress(&sample().to_cpio(1).unwrap()).unwrap());
        assert_eq!(zstd::zstd_safe::find_frame_compressed_size(&packed).unwrap(), packed.len());
        assert_eq!(zstd::bulk::decompress(&packed, 1 << 20).unwrap(), archive);
    }
}
