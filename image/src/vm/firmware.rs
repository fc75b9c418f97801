//! Where firmware and option ROMs are on a Debian machine.

use super::NicModel;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// A file that a Debian package brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packaged {
    file: &'static str,
    package: &'static str,
}

/// OVMF's code, without Secure Boot.
#[must_use]
pub fn ovmf_code() -> Packaged {
    Packaged { file: "/usr/share/OVMF/OVMF_CODE_4M.fd", package: "ovmf" }
}

/// OVMF's variables as they leave the factory.
#[must_use]
pub fn ovmf_vars() -> Packaged {
    Packaged { file: "/usr/share/OVMF/OVMF_VARS_4M.fd", package: "ovmf" }
}

/// The option ROM with iPXE for a network card, for BIOS and UEFI alike. Debian 12's has both; Debian 13's has no iPXE for
/// UEFI, so that a UEFI machine does not boot from the network with it.
#[must_use]
pub fn ipxe_rom(model: NicModel) -> Packaged {
    let file = match model {
        NicModel::Virtio => "/usr/lib/ipxe/qemu/efi-virtio.rom",
        NicModel::E1000e => "/usr/lib/ipxe/qemu/efi-e1000e.rom",
    };
    Packaged { file, package: "ipxe-qemu" }
}

impl Packaged {
    /// The file's path.
    ///
    /// # Errors
    /// It is not there; the error names the package.
    pub fn path(self) -> Result<PathBuf> {
        if !Path::new(self.file).is_file() {
            bail!("{} is missing: install the Debian package `{}`", self.file, self.package);
        }
        Ok(PathBuf::from(self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::Packaged;

    #[test]
    fn a_missing_file_names_its_package() {
        let missing = Packaged { file: "/nonexistent/x.fd", package: "ovmf" };
        let error = missing.path().expect_err("missing").to_string();
        assert_eq!(error, "/nonexistent/x.fd is missing: install the Debian package `ovmf`");
    }
}
