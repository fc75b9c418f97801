//! A plain file as target.

use super::Target;
use super::buffer::Aligned;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Zeros that are written at a time, in bytes.
const ZEROS_BYTES: usize = 1024 * 1024;

/// What is where nothing was written yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// Zeros: the file was just made, or made empty and grown. Zeros of the image are left out, the file stays sparse.
    Zeros,
    /// Anything: zeros are written.
    Unknown,
}

/// A file, or a device without special treatment. Open it with `O_DIRECT` when the read-back is to come from the device.
#[derive(Debug)]
pub struct FileTarget {
    file: File,
    first_byte: u64,
    holes: Holes,
    zeros: Aligned,
}

impl FileTarget {
    /// The image's first byte goes to `first_byte` of `file`.
    #[must_use]
    pub fn new(file: File, first_byte: u64, holes: Holes) -> Self {
        let zeros = Aligned::zeroed(if holes == Holes::Zeros { 0 } else { ZEROS_BYTES });
        Self { file, first_byte, holes, zeros }
    }

    /// Makes `file` empty and `bytes` long: all of it reads as zeros and takes no room.
    ///
    /// # Errors
    /// What `ftruncate(2)` says.
    pub fn sparse(file: File, bytes: u64) -> io::Result<Self> {
        file.set_len(0)?;
        file.set_len(bytes)?;
        Ok(Self::new(file, 0, Holes::Zeros))
    }

    /// Gives the file back.
    #[must_use]
    pub fn into_inner(self) -> File {
        self.file
    }
}

impl Target for FileTarget {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.file.write_at(data, self.first_byte + offset)
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if self.holes == Holes::Zeros {
            return Ok(());
        }
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(ZEROS_BYTES);
            match self.write_at(at, &self.zeros[..wanted.min(ZEROS_BYTES)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(put) => at += put as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, self.first_byte + offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
