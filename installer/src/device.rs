//! A disk as the target of an install: everything through one node, past the page cache.
//!
//! A disk has one page cache, each of its partitions another, and they do not know of each other. So no partition node is
//! used while an install writes, and the cache is not used at all (O_DIRECT): what is read back comes from the device. Partition
//! nodes come into use when the table has been read anew, for mounting only.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tatara_disk::stream::{ALIGNMENT, Aligned, Target};
use tatara_spec::{Code, Fault};
use tatara_sys::block::{Access, Caching, Device, Extent};

/// Zeros written at once where the device has no command for it, and bytes copied into an aligned buffer at once.
const PIECE_BYTES: usize = 1024 * 1024;

/// An open disk, or a plain file that stands for one.
#[derive(Debug)]
pub struct Disk {
    device: Device,
    bytes: u64,
    sector_bytes: u32,
    /// Set when the device refused BLKZEROOUT once: it is not asked again.
    no_zeroout: AtomicBool,
    is_block: bool,
}

impl Disk {
    /// Opens `path`. A plain file has sectors of 512 bytes.
    ///
    /// # Errors
    /// [`Code::DiskRead`] or, when it is to be written, [`Code::DiskWrite`], with what the kernel said; `EBUSY` when somebody
    /// else uses it.
    pub fn open(path: &Path, access: Access) -> Result<Self, Fault> {
        let code = if access == Access::Read { Code::DiskRead } else { Code::DiskWrite };
        let fault =
            |cause: tatara_sys::Error| Fault::caused(code, format!("cannot use {}", path.display()), cause);
        let stat = std::fs::metadata(path)
            .map_err(|cause| Fault::caused(code, format!("cannot use {}", path.display()), cause))?;
        let is_block = std::os::unix::fs::FileTypeExt::is_block_device(&stat.file_type());
        let caching = if is_block { Caching::Direct } else { Caching::Buffered };
        let device = Device::open(path, access, caching).map_err(fault)?;
        let (bytes, sector_bytes) = if is_block {
            (device.bytes().map_err(fault)?, device.logical_sector().map_err(fault)?)
        } else {
            (stat.len(), 512)
        };
        Ok(Self { device, bytes, sector_bytes, no_zeroout: AtomicBool::new(!is_block), is_block })
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Logical sector size in bytes.
    #[must_use]
    pub fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    /// Has the kernel make partition nodes after the table that was written.
    ///
    /// # Errors
    /// [`Code::DiskWrite`]: somebody holds a partition.
    pub fn reread_partitions(&self, partitions: &[Extent]) -> Result<(), Fault> {
        if !self.is_block {
            return Ok(());
        }
        self.device.reread_partitions(partitions).map_err(|cause| {
            let text = format!("the kernel does not take {}'s new partitions", self.device.path().display());
            Fault::caused(Code::DiskWrite, text, cause)
        })
    }

    /// Whether the kernel can move these bytes directly, without a copy into an aligned buffer.
    fn aligned(&self, buffer: &[u8]) -> bool {
        !self.is_block || buffer.as_ptr().addr().is_multiple_of(ALIGNMENT)
    }
}

impl Target for Disk {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        if self.aligned(data) {
            self.device.write_at(data, offset).map_err(io::Error::other)?;
            return Ok(data.len());
        }
        let mut copy = Aligned::zeroed(data.len().min(PIECE_BYTES));
        let mut at = offset;
        for piece in data.chunks(PIECE_BYTES) {
            copy[..piece.len()].copy_from_slice(piece);
            self.device.write_at(&copy[..piece.len()], at).map_err(io::Error::other)?;
            at += piece.len() as u64;
        }
        Ok(data.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.aligned(buffer) {
            self.device.read_at(buffer, offset).map_err(io::Error::other)?;
            return Ok(buffer.len());
        }
        let mut copy = Aligned::zeroed(buffer.len().min(PIECE_BYTES));
        let mut at = offset;
        for piece in buffer.chunks_mut(PIECE_BYTES) {
            self.device.read_at(&mut copy[..piece.len()], at).map_err(io::Error::other)?;
            piece.copy_from_slice(&copy[..piece.len()]);
            at += piece.len() as u64;
        }
        Ok(buffer.len())
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if !self.no_zeroout.load(Ordering::Relaxed) {
            match self.device.zero_range(offset, bytes) {
                Ok(()) => return Ok(()),
                // A device that fails here fails below too, and then it is the write's error that counts.
                Err(_) => self.no_zeroout.store(true, Ordering::Relaxed),
            }
        }
        let zeros = Aligned::zeroed(usize::try_from(bytes).unwrap_or(PIECE_BYTES).min(PIECE_BYTES));
        let mut done = 0;
        while done < bytes {
            let piece = usize::try_from(bytes - done).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            self.device.write_at(&zeros[..piece], offset + done).map_err(io::Error::other)?;
            done += piece as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.device.flush().map_err(io::Error::other)
    }
}
