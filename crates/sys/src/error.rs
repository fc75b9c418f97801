//! The error of this crate: which operation, on what, and the kernel's answer.

use std::io;
use std::path::Path;

/// An operation that the kernel refused. The kernel's answer is the [source](std::error::Error::source), not part of the text.
#[derive(Debug, thiserror::Error)]
#[error("{op} {object}")]
pub struct Error {
    /// The operation: a system call, an ioctl, or a verb, e.g. `mount`.
    pub op: &'static str,
    /// What it was done to, e.g. `/dev/vda5 on /sysroot/var`.
    pub object: String,
    /// The kernel's answer.
    #[source]
    pub cause: io::Error,
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `op` on `object`.
    pub fn new(op: &'static str, object: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self { op, object: object.into(), cause: cause.into() }
    }

    /// The error number, if the kernel gave one (errno(3)).
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }
}

/// Adds operation and object to an I/O result.
pub(crate) trait Context<T> {
    /// The object is a path.
    fn on(self, op: &'static str, path: &Path) -> Result<T>;
    /// The object is described in words.
    fn of(self, op: &'static str, object: &str) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn on(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|cause| Error::new(op, path.display().to_string(), cause))
    }

    fn of(self, op: &'static str, object: &str) -> Result<T> {
        self.map_err(|cause| Error::new(op, object, cause))
    }
}
