//! Finding the kernel, its config and its modules in a root.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// `uname -r`.
    pub version: String,
    /// The bzImage.
    pub image: PathBuf,
    /// `config-VERSION`.
    pub config: PathBuf,
    /// `…/lib/modules/VERSION`.
    pub modules: PathBuf,
}

/// Files that stand in for those of the root.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Kernel image, instead of the root's /boot/vmlinuz-VERSION
    #[arg(long, value_name = "FILE")]
    pub kernel_image: Option<PathBuf>,
    /// The kernel's config, instead of /boot/config-VERSION
    #[arg(long, value_name = "FILE")]
    pub kernel_config: Option<PathBuf>,
    /// The kernel's modules (a directory named as the version), instead of /usr/lib/modules/VERSION
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,
}

impl Kernel {
    /// Looks in a root, except for what is given.
    ///
    /// # Errors
    /// Something is missing, or the root has modules of several kernels and none was named.
    pub(crate) fn find(root: &Path, overrides: &Overrides) -> Result<Self> {
        let modules = match &overrides.modules {
            Some(path) => path.clone(),
            None => only_version(root)?,
        };
        let version = modules
            .file_name()
            .and_then(|name| name.to_str())
            .with_context(|| format!("{} is not named as a kernel version", modules.display()))?
            .to_owned();
        let boot = |given: &Option<PathBuf>, kind: &str| {
            given.clone().unwrap_or_else(|| root.join("boot").join(format!("{kind}-{version}")))
        };
        let kernel = Self {
            image: boot(&overrides.kernel_image, "vmlinuz"),
            config: boot(&overrides.kernel_config, "config"),
            modules,
            version,
        };
        for (path, option) in [(&kernel.image, "--kernel-image"), (&kernel.config, "--kernel-config")] {
            if !path.is_file() {
                bail!(
                    "the root has no {}: install a kernel package in it, or give {option} FILE",
                    path.display()
                );
            }
        }
        Ok(kernel)
    }
}

fn only_version(root: &Path) -> Result<PathBuf> {
    let directory =
        ["usr/lib/modules", "lib/modules"].map(|path| root.join(path)).into_iter().find(|path| path.is_dir());
    let Some(directory) = directory else {
        bail!(
            "the root {} has no kernel modules: install a kernel package in it, or give --modules DIR",
            root.display()
        );
    };
    let mut versions = fs::read_dir(&directory)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>())
        .with_context(|| format!("cannot list {}", directory.display()))?;
    // A directory without modules.dep is what a removed kernel left behind.
    versions.retain(|path| path.join("modules.dep").is_file());
    versions.sort();
    match versions.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("{} has no modules.dep: run depmod there, or give --modules DIR", directory.display()),
        several => bail!(
            "{} has {} kernels; choose one with --modules DIR: {}",
            directory.display(),
            several.len(),
            several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(versions: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        for version in versions {
            let modules = root.path().join("usr/lib/modules").join(version);
            fs::create_dir_all(&modules).unwrap();
            fs::write(modules.join("modules.dep"), "").unwrap();
            for kind in ["vmlinuz", "config"] {
                fs::write(root.path().join(format!("boot/{kind}-{version}")), "").unwrap();
            }
        }
        root
    }

    #[test]
    fn the_only_kernel_is_found() {
        let root = root(&["6.12.1-x"]);
        let kernel = Kernel::find(root.path(), &Overrides::default()).unwrap();
        assert_eq!(kernel.version, "6.12.1-x");
        assert_eq!(kernel.image, root.path().join("boot/vmlinuz-6.12.1-x"));
    }

    #[test]
    fn none_several_and_a_missing_config_say_what_to_do() {
        let find = |root: &tempfile::TempDir| {
            Kernel::find(root.path(), &Overrides::default()).unwrap_err().to_string()
        };
        assert!(find(&root(&[])).contains("--modules"));
        assert!(find(&root(&["1", "2"])).contains("has 2 kernels"));
        let incomplete = root(&["1"]);
        fs::remove_file(incomplete.path().join("boot/config-1")).unwrap();
        assert!(find(&incomplete).contains("--kernel-config"));
    }
}
