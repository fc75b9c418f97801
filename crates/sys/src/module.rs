//! Loading kernel modules: finit_module(2).

use crate::error::{Context, Error, Result};
use std::ffi::CString;
use std::fs::File;
use std::path::Path;

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the file (include/uapi/linux/module.h, CONFIG_MODULE_DECOMPRESS).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// What loading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It was loaded now.
    New,
    /// The kernel had it already.
    Already,
}

/// Loads the module in `file`; `params` as on modprobe(8)'s command line, blank separated. Compressed files (`.xz`, `.zst`, `.gz`)
/// are unpacked by the kernel, which knows the one form it was built for.
///
/// # Errors
/// What open(2) and finit_module(2) say: `ENOENT` (an unknown symbol: a dependency is missing), `ENOEXEC` (another kernel's),
/// `ENODEV` (the driver found nothing to do), `EOPNOTSUPP` (no decompressor in the kernel).
pub fn load(file: &Path, params: &str) -> Result<Loaded> {
    let opened = File::open(file).on("open", file)?;
    let params = CString::new(params)
        .map_err(|e| Error::new("finit_module", file.display().to_string(), std::io::Error::from(e)))?;
    match rustix::system::finit_module(&opened, &params, flags(file)) {
        Ok(()) => Ok(Loaded::New),
        Err(rustix::io::Errno::EXIST) => Ok(Loaded::Already),
        Err(error) => Err(error).on("finit_module", file),
    }
}

fn flags(file: &Path) -> libc::c_int {
    match file.extension().and_then(|e| e.to_str()) {
        Some("xz" | "zst" | "gz") => MODULE_INIT_COMPRESSED_FILE,
        _ => 0,
    }
}

/// `uname -r`: the running kernel's release, which names its directory below /lib/modules.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{flags, load};
    use std::path::Path;

    #[test]
    fn compressed_files_are_marked() {
        assert_eq!(flags(Path::new("/lib/modules/6.12/kernel/fs/erofs/erofs.ko.xz")), 4);
        assert_eq!(flags(Path::new("nvme.ko.zst")), 4);
        assert_eq!(flags(Path::new("nvme.ko")), 0);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Path::new("/nonexistent/a.ko"), "").unwrap_err();
        assert_eq!((error.op, error.object.as_str()), ("open", "/nonexistent/a.ko"));
        assert_eq!(error.errno(), Some(libc::ENOENT));
    }
}
