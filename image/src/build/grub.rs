//! GRUB's images for BIOS and UEFI, made by the build machine's `grub-mkimage`; no GRUB tool runs on a node.

use super::command::Tool;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use tatara_spec::release::artifact;
use tatara_spec::slot::GRUB_MODULES;

const MKIMAGE: Tool = Tool { program: "grub-mkimage", package: "grub-common" };

/// One firmware's image.
struct Platform {
    /// grub-mkimage's name of the target.
    format: &'static str,
    package: &'static str,
    /// Where GRUB looks for grub.cfg. On BIOS the device is the disk it was started from and the second partition, the ESP;
    /// on UEFI it is the partition that the image was loaded from.
    prefix: &'static str,
    /// Beside those that the configurations name (`spec::slot::GRUB_MODULES`): disks, consoles, screens. All of them are in the
    /// image, so that no module file has to be on the disk.
    modules: &'static [&'static str],
    output: &'static str,
}

const BIOS: Platform = Platform {
    format: "i386-pc",
    package: "grub-pc-bin",
    prefix: "(,gpt2)/grub",
    modules: &["biosdisk", "serial", "terminal"],
    output: artifact::GRUB_BIOS_CORE,
};
const EFI: Platform = Platform {
    format: "x86_64-efi",
    package: "grub-efi-amd64-bin",
    prefix: "/grub",
    modules: &["all_video", "efi_gop", "efi_uga", "serial", "terminal"],
    output: artifact::GRUB_EFI,
};

/// Where Debian keeps GRUB's modules.
const LIBRARY: &str = "/usr/lib/grub";

/// Writes `grub-bios-boot.img`, `grub-bios-core.img` and `grub-x64.efi` into a directory.
///
/// # Errors
/// A package is missing on this machine (it is named), or `grub-mkimage` failed.
pub fn build(directory: &Path) -> Result<()> {
    for platform in [BIOS, EFI] {
        let modules = library(&platform)?;
        let mut command = MKIMAGE.command();
        command
            .args(["--format", platform.format, "--prefix", platform.prefix])
            .arg("--directory")
            .arg(&modules)
            .arg("--output")
            .arg(directory.join(platform.output))
            .args(GRUB_MODULES)
            .args(platform.modules);
        MKIMAGE.output(&mut command)?;
    }
    let boot = library(&BIOS)?.join("boot.img");
    std::fs::copy(&boot, directory.join(artifact::GRUB_BIOS_BOOT))
        .with_context(|| format!("cannot copy {}", boot.display()))?;
    Ok(())
}

fn library(platform: &Platform) -> Result<PathBuf> {
    let path = Path::new(LIBRARY).join(platform.format);
    if !path.join("moddep.lst").is_file() {
        bail!(
            "GRUB for {} is not installed; run `apt-get install {}` as root",
            platform.format,
            platform.package
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_of_their_kind_fit_and_are_the_same_twice() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        build(one.path()).unwrap();
        build(two.path()).unwrap();
        let read = |name: &str| {
            let bytes = std::fs::read(one.path().join(name)).unwrap();
            assert_eq!(bytes, std::fs::read(two.path().join(name)).unwrap(), "{name}");
            bytes
        };
        assert_eq!(read(artifact::GRUB_BIOS_BOOT).len(), 512);
        let core = read(artifact::GRUB_BIOS_CORE);
        assert!((core.len() as u64) < tatara_spec::layout::BIOS.bytes, "{} bytes", core.len());
        assert_eq!(&read(artifact::GRUB_EFI)[..2], b"MZ");
    }
}
