//! A byte range of a device, as a device of its own.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};

/// The bytes `first_byte..first_byte + bytes` of `inner`.
///
/// A partition is reached through the disk's own device with this, so that there is one page cache:
/// what is written through `/dev/sda` need not be seen by readers of `/dev/sda1`, and the reverse.
pub struct Window<D> {
    inner: D,
    first_byte: u64,
    bytes: u64,
    position: u64,
}

impl<D> std::fmt::Debug for Window<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Window({}..+{})", self.first_byte, self.bytes)
    }
}

impl<D> Window<D> {
    /// The range that starts at `first_byte` and is `bytes` long. Nothing is read or checked.
    pub fn new(inner: D, first_byte: u64, bytes: u64) -> Self {
        Self { inner, first_byte, bytes, position: 0 }
    }

    /// Gives the device back.
    pub fn into_inner(self) -> D {
        self.inner
    }

    /// How much of a request of `wanted` bytes lies inside the range.
    fn clamp(&self, wanted: usize) -> usize {
        let left = self.bytes.saturating_sub(self.position);
        wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
    }
}

impl<D: Seek> Window<D> {
    fn seek_inner(&mut self) -> Result<()> {
        let at = self.first_byte.checked_add(self.position).ok_or(ErrorKind::InvalidInput)?;
        self.inner.seek(SeekFrom::Start(at)).map(|_| ())
    }
}

impl<D: Read + Seek> Read for Window<D> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let wanted = self.clamp(buf.len());
        if wanted == 0 {
            return Ok(0);
        }
        self.seek_inner()?;
        let got = self.inner.read(&mut buf[..wanted])?;
        self.position += got as u64;
        Ok(got)
    }
}

impl<D: Write + Seek> Write for Window<D> {
    /// Writes at most up to the end of the range; there, 0 bytes.
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        let wanted = self.clamp(buf.len());
        if wanted == 0 {
            return Ok(0);
        }
        self.seek_inner()?;
        let put = self.inner.write(&buf[..wanted])?;
        self.position += put as u64;
        Ok(put)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }
}

impl<D> Seek for Window<D> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(delta) => self.bytes.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "seek before the start of the partition"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::Window;
    use std::io::{Cursor, Read, Seek, SeekFrom, Write};

    #[test]
    fn stays_inside_its_range() {
        let mut disk = vec![0xEE; 16];
        let mut window = Window::new(Cursor::new(&mut disk), 4, 8);
        assert_eq!(window.write(&[1; 100]).unwrap(), 8);
        assert_eq!(window.write(&[2; 100]).unwrap(), 0);
        assert_eq!(window.seek(SeekFrom::End(-2)).unwrap(), 6);
        let mut rest = Vec::new();
        window.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [1, 1]);
        assert!(window.seek(SeekFrom::Current(-9)).is_err());
        assert_eq!(disk, [0xEE, 0xEE, 0xEE, 0xEE, 1, 1, 1, 1, 1, 1, 1, 1, 0xEE, 0xEE, 0xEE, 0xEE]);
    }
}
