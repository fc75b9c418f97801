//! FAT32 of the EFI system partition, without the kernel's vfat: format, read, write, overwrite in place.
//!
//! Every operation mounts, does its work, and unmounts: between two calls the volume is consistent and
//! marked clean. All timestamps are 1980-01-01, so the same calls give the same bytes. Why this library:
//! docs/adr/0002-fat.md.

use hadris_fat::sync::{FatFs, format as format_fat};
use hadris_fat::{FatKind, FatOptions, VolumeLabel};
use hadris_fs::sync::FileSystem as _;
use hadris_fs::{ErrorKind, Extent, MountOptions, Name, NodeId, OpenMode, SetAttr};
use hadris_io::StdIo;
use hadris_storage::BlockSize;
use hadris_storage::sync::StreamDevice;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes that are copied from a source at a time.
const COPY_BYTES: usize = 256 * 1024;
/// More pieces than this of one file are refused: [`Volume::overwrite`] is for files of a few clusters.
const EXTENTS_MAX: usize = 64;

/// What can go wrong with a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter of [`format`] cannot be used.
    #[error("cannot make a FAT32 volume with {0}")]
    Options(String),
    /// The operation failed: the device, or damage of the volume.
    #[error("cannot {operation} `{path}` on the FAT volume")]
    Io {
        /// `read`, `write`, …
        operation: &'static str,
        /// The path inside the volume; empty for the volume itself.
        path: String,
        /// What happened.
        source: io::Error,
    },
    /// The volume has no room left.
    #[error("no room for the {needed} bytes of `{path}`: {free} bytes are free")]
    Full {
        /// The path inside the volume.
        path: String,
        /// Bytes that were to be written.
        needed: u64,
        /// Bytes that were free before.
        free: u64,
    },
    /// The file is larger than the caller wants to hold in memory.
    #[error("`{path}` has {bytes} bytes, more than the {limit} allowed")]
    Large {
        /// The path inside the volume.
        path: String,
        /// Its size in bytes.
        bytes: u64,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// [`Volume::overwrite`] was called with another size than the file has.
    #[error("`{path}` has {found} bytes and cannot be overwritten in place with {given}")]
    Size {
        /// The path inside the volume.
        path: String,
        /// Its size in bytes.
        found: u64,
        /// Bytes given.
        given: u64,
    },
    /// The source of [`Volume::write`] ended early. The file is gone or incomplete.
    #[error("the source of `{path}` ended after {found} of {expected} bytes")]
    Short {
        /// The path inside the volume.
        path: String,
        /// Bytes that came.
        found: u64,
        /// Bytes announced.
        expected: u64,
    },
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// How to make a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatOptions {
    /// Size of the volume in bytes.
    pub bytes: u64,
    /// Logical sector size of the disk in bytes: firmware compares it with the volume's.
    pub sector_bytes: u32,
    /// Volume label, at most 11 upper-case ASCII characters.
    pub label: String,
    /// Volume serial number.
    pub volume_id: u32,
}

/// Makes an empty FAT32 volume at the start of `dev`. Only metadata is written: old data stays in free clusters.
///
/// # Errors
/// [`Error::Options`] when size, sector size or label do not make a FAT32; [`Error::Io`].
pub fn format(dev: &mut (impl Read + Write + Seek), options: &FormatOptions) -> Result<()> {
    let wrong = |what: String| Error::Options(what);
    let label = VolumeLabel::new(&options.label)
        .map_err(|kind| wrong(format!("the label `{}`: {kind}", options.label)))?;
    let block = block_size(options.sector_bytes)
        .ok_or_else(|| wrong(format!("a sector size of {} bytes", options.sector_bytes)))?;
    let fat = FatOptions::new()
        .with_kind(FatKind::Fat32)
        .with_size(options.bytes)
        .with_label(label)
        .with_serial(options.volume_id)
        .with_sector_size(options.sector_bytes)
        .with_partition_offset(0);
    let blocks = options.bytes / u64::from(options.sector_bytes);
    let mut device = StreamDevice::with_block_count(StdIo::new(&mut *dev), block, blocks);
    format_fat(&mut device, &fat).map_err(|error| match error.kind() {
        ErrorKind::NoSpace | ErrorKind::LimitExceeded | ErrorKind::InvalidInput => {
            wrong(format!("{} bytes in sectors of {}: {error}", options.bytes, options.sector_bytes))
        }
        _ => io_error("format", "", error),
    })?;
    dev.flush().map_err(|source| Error::Io { operation: "flush", path: String::new(), source })
}

fn block_size(bytes: u32) -> Option<BlockSize> {
    [512, 4096].contains(&bytes).then(|| BlockSize::new(bytes)).flatten()
}

fn io_error(operation: &'static str, path: &str, source: impl Into<io::Error>) -> Error {
    Error::Io { operation, path: path.to_owned(), source: source.into() }
}

/// A FAT32 volume on a device.
#[derive(Debug)]
pub struct Volume<D> {
    device: D,
    block: BlockSize,
    blocks: u64,
}

type Mounted<'d, D> = FatFs<StreamDevice<StdIo<&'d mut D>>>;

impl<D: Read + Write + Seek> Volume<D> {
    /// Opens the volume that starts at the device's first byte. Its boot sector is checked; nothing is written.
    ///
    /// # Errors
    /// [`Error::Io`] when it is no FAT volume or the device fails.
    pub fn open(mut device: D) -> Result<Self> {
        let failed = |source| Error::Io { operation: "open", path: String::new(), source };
        let mut boot_sector = [0; 512];
        device.seek(SeekFrom::Start(0)).and_then(|_| device.read_exact(&mut boot_sector)).map_err(failed)?;
        let sector_bytes = u32::from(u16::from_le_bytes([boot_sector[11], boot_sector[12]]));
        let block = block_size(sector_bytes)
            .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, "no FAT boot sector")))?;
        let bytes = device.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut volume = Self { device, block, blocks: bytes / u64::from(sector_bytes) };
        volume.mount("open", "", MountOptions::new().read_only())?;
        Ok(volume)
    }

    /// Gives the device back.
    pub fn into_inner(self) -> D {
        self.device
    }

    /// The contents of a file, `None` when there is no such file. `path` has `/` as separator and no leading one.
    ///
    /// # Errors
    /// [`Error::Large`] when it has more than `limit_bytes`; [`Error::Io`].
    pub fn read_if_exists(&mut self, path: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>> {
        let mut fs = self.mount("read", path, MountOptions::new().read_only())?;
        let Some(node) = find(&mut fs, path)? else { return Ok(None) };
        let bytes = size(&mut fs, node, path)?;
        if bytes > limit_bytes {
            return Err(Error::Large { path: path.to_owned(), bytes, limit: limit_bytes });
        }
        let mut data = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let mut at = 0;
        while at < data.len() {
            match fs.read(node, at as u64, &mut data[at..]).map_err(|e| io_error("read", path, e))? {
                0 => return Err(io_error("read", path, io::ErrorKind::UnexpectedEof)),
                got => at += got,
            }
        }
        Ok(Some(data))
    }

    /// The contents of a file of at most `limit_bytes`.
    ///
    /// # Errors
    /// As [`Volume::read_if_exists`]; a missing file is an [`Error::Io`] of kind `NotFound`.
    pub fn read(&mut self, path: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        self.read_if_exists(path, limit_bytes)?.ok_or_else(|| io_error("read", path, io::ErrorKind::NotFound))
    }

    /// Writes a file of `bytes` bytes from `source`, creating directories. A file that was there is replaced: not
    /// atomically, so that what must survive a power cut goes to a path that is not in use.
    ///
    /// # Errors
    /// [`Error::Full`] before anything was changed; [`Error::Short`]; [`Error::Io`].
    pub fn write(&mut self, path: &str, source: &mut dyn Read, bytes: u64) -> Result<()> {
        let mut fs = self.mount("write", path, MountOptions::new())?;
        let old = find(&mut fs, path)?;
        let reusable = old.map_or(Ok(0), |node| size(&mut fs, node, path))?;
        let free = free(&mut fs, path)?;
        if bytes > free + reusable {
            return Err(Error::Full { path: path.to_owned(), needed: bytes, free });
        }
        let failed = |error| io_error("write", path, error);
        let (dir, name) = parent(&mut fs, path)?;
        if old.is_some() {
            fs.unlink(dir, name).map_err(failed)?;
        }
        let node = fs.create(dir, name, &SetAttr::default()).map_err(failed)?;
        fs.open(node, OpenMode::Write).map_err(failed)?;
        copy_in(&mut fs, node, path, source, bytes)?;
        fs.close(node).map_err(failed)?;
        unmount(fs, "write", path)
    }

    /// Overwrites a file's data where it is, without touching any metadata. A file inside one sector changes
    /// in one write: this is how grubenv is written.
    ///
    /// # Errors
    /// [`Error::Size`] unless `data` has exactly the size of the file; [`Error::Io`].
    pub fn overwrite(&mut self, path: &str, data: &[u8]) -> Result<()> {
        let extents = self.extents(path, data.len() as u64)?;
        let failed = |source| Error::Io { operation: "overwrite", path: path.to_owned(), source };
        let mut rest = data;
        for extent in extents {
            let (now, later) =
                rest.split_at(rest.len().min(usize::try_from(extent.len()).unwrap_or(usize::MAX)));
            self.device
                .seek(SeekFrom::Start(extent.offset()))
                .and_then(|_| self.device.write_all(now))
                .map_err(failed)?;
            rest = later;
        }
        if !rest.is_empty() {
            return Err(io_error("overwrite", path, io::ErrorKind::UnexpectedEof));
        }
        self.device.flush().map_err(failed)
    }

    /// Removes a file. It is no error when there is none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&mut self, path: &str) -> Result<()> {
        let mut fs = self.mount("remove", path, MountOptions::new())?;
        if find(&mut fs, path)?.is_none() {
            return Ok(());
        }
        let (dir, name) = parent(&mut fs, path)?;
        fs.unlink(dir, name).map_err(|error| io_error("remove", path, error))?;
        unmount(fs, "remove", path)
    }

    /// Bytes in free clusters.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn free_bytes(&mut self) -> Result<u64> {
        let mut fs = self.mount("measure", "", MountOptions::new().read_only())?;
        free(&mut fs, "")
    }

    /// Flushes the device.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<()> {
        self.device.flush().map_err(|error| io_error("flush", "", error))
    }

    /// Where the data of a file of exactly `bytes` bytes lies.
    fn extents(&mut self, path: &str, bytes: u64) -> Result<Vec<Extent>> {
        let mut fs = self.mount("overwrite", path, MountOptions::new().read_only())?;
        let node =
            find(&mut fs, path)?.ok_or_else(|| io_error("overwrite", path, io::ErrorKind::NotFound))?;
        let found = size(&mut fs, node, path)?;
        if found != bytes {
            return Err(Error::Size { path: path.to_owned(), found, given: bytes });
        }
        let mut extents = vec![Extent::new(0, 0); EXTENTS_MAX];
        let count = fs.extents(node, 0, &mut extents).map_err(|e| io_error("overwrite", path, e))?;
        extents.truncate(count);
        Ok(extents)
    }

    fn mount(
        &mut self,
        operation: &'static str,
        path: &str,
        options: MountOptions,
    ) -> Result<Mounted<'_, D>> {
        let device = StreamDevice::with_block_count(StdIo::new(&mut self.device), self.block, self.blocks);
        FatFs::mount(device, options).map_err(|error| io_error(operation, path, error))
    }
}

fn unmount<D: Read + Write + Seek>(fs: Mounted<'_, D>, operation: &'static str, path: &str) -> Result<()> {
    fs.unmount().map(|_| ()).map_err(|error| io_error(operation, path, error))
}

/// The node of a path, `None` when a component is missing.
fn find<D: Read + Write + Seek>(fs: &mut Mounted<'_, D>, path: &str) -> Result<Option<NodeId>> {
    let mut node = fs.root();
    for name in path.split('/') {
        node = match fs.lookup(node, Name::new(name)) {
            Ok(next) => next,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("find", path, error)),
        };
    }
    Ok(Some(node))
}

/// The directory of a path, made when it is missing, and the file's name.
fn parent<'p, D: Read + Write + Seek>(fs: &mut Mounted<'_, D>, path: &'p str) -> Result<(NodeId, &'p Name)> {
    let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut node = fs.root();
    for dir in dirs.split('/').filter(|dir| !dir.is_empty()) {
        let dir = Name::new(dir);
        node = match fs.lookup(node, dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs.mkdir(node, dir, &SetAttr::default()),
            other => other,
        }
        .map_err(|error| io_error("make directories of", path, error))?;
    }
    Ok((node, Name::new(name)))
}

fn size<D: Read + Write + Seek>(fs: &mut Mounted<'_, D>, node: NodeId, path: &str) -> Result<u64> {
    fs.stat(node).map(|meta| meta.len()).map_err(|error| io_error("look at", path, error))
}

fn free<D: Read + Write + Seek>(fs: &mut Mounted<'_, D>, path: &str) -> Result<u64> {
    let stats = fs.statfs().map_err(|error| io_error("measure the space for", path, error))?;
    Ok(stats.free_blocks() * u64::from(stats.block_size()))
}

/// Copies `bytes` bytes of `source` into the open file `node`.
fn copy_in<D: Read + Write + Seek>(
    fs: &mut Mounted<'_, D>,
    node: NodeId,
    path: &str,
    source: &mut dyn Read,
    bytes: u64,
) -> Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut done = 0;
    while done < bytes {
        let wanted = usize::try_from(bytes - done).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let got = match source.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(Error::Short { path: path.to_owned(), found: done, expected: bytes }),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_error("read the source of", path, error)),
        };
        let mut rest = &buffer[..got];
        while !rest.is_empty() {
            match fs.write(node, done, rest).map_err(|error| io_error("write", path, error))? {
                0 => return Err(io_error("write", path, io::ErrorKind::WriteZero)),
                put => {
                    done += put as u64;
                    rest = &rest[put..];
                }
            }
        }
    }
    Ok(())
}
