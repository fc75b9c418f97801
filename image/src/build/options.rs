//! What `tatara image build` can be told.

use super::apt::{self, Given};
use super::kernel::Overrides;
use super::kubernetes::Source;
use super::packages::{Flavour, Profile, Runtime};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Options of `tatara image build`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory to write the release to; an earlier release there is replaced
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// The root and its packages
    #[command(flatten)]
    pub root: RootOptions,
    /// Kubernetes' programs for the root: release:VERSION (upstream's files, verified; `release:` lists the newest versions), dir:PATH (kubeadm, kubelet and
    /// kubectl in a directory), or debian-source (1.20, built from Debian 12's source package and cached)
    #[arg(long, value_name = "SOURCE")]
    pub kubernetes: Option<Source>,
    /// Archive of container images to put into the release, as `docker save` or `skopeo copy` writes it; nodes import it by its
    /// file name, with `kubernetes.images: [{release: NAME}]`. May be given several times
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// Kernel files that are not the root's
    #[command(flatten)]
    pub kernel_files: Overrides,
    /// The appliance's programs
    #[command(flatten)]
    pub programs: Programs,
    /// What machines trust
    #[command(flatten)]
    pub trust: Trust,
    /// Kernel arguments to fill in on the USB image and in boot.ipxe, such as `tatara.config=URL tatara.ca=PIN`
    #[arg(long, value_name = "ARGUMENTS", default_value = "")]
    pub args: String,
    /// Date of every file, seconds since 1970 [default: SOURCE_DATE_EPOCH, or the newest package's date]
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub epoch: Option<u64>,
    /// zstd level of the disk images, 1 to 19
    #[arg(long, value_name = "LEVEL", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub compression_level: i32,
}

/// Where the root comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct RootOptions {
    /// A root to take instead of making one: a directory or a tar archive
    #[arg(long, value_name = "DIR|TAR", conflicts_with_all = ["package", "profile", "suite", "mirror", "apt_source", "refresh"])]
    pub rootfs: Option<PathBuf>,
    /// What the root is for
    #[arg(long, value_enum, default_value_t = Profile::Node)]
    pub profile: Profile,
    /// A Debian package to add; may be given several times
    #[arg(long, value_name = "NAME")]
    pub package: Vec<String>,
    /// Container runtime of the profile `node` [default: containerd]. Debian has no CRI-O: it needs --apt-source
    #[arg(long, value_enum)]
    pub runtime: Option<Runtime>,
    /// A package source beside Debian's: a file NAME.list or NAME.sources as apt has them, with the source's key in
    /// Signed-By. Nodes do not get it. May be given several times
    #[arg(long, value_name = "FILE")]
    pub apt_source: Vec<PathBuf>,
    /// Kernel flavour
    #[arg(long, value_enum, default_value_t = Flavour::Generic)]
    pub kernel: Flavour,
    /// Debian release
    #[arg(long, default_value = "trixie")]
    pub suite: String,
    /// Debian archive [default: the one in this machine's apt configuration]
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Archive component; may be given several times, then `main` too: `--component main --component non-free-firmware` has what some
    /// network cards need
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub component: Vec<String>,
    /// Make the cached root anew, with the packages of today
    #[arg(long)]
    pub refresh: bool,
}

impl RootOptions {
    /// The operator's package sources; refuses what no root could be made with.
    ///
    /// # Errors
    /// A source that [`apt::given`] refuses, or a runtime without a source or profile that has it.
    pub(super) fn check(&self) -> Result<Vec<Given>> {
        let given = apt::given(&self.apt_source)?;
        if self.rootfs.is_some() {
            return Ok(given);
        }
        match (self.profile, self.runtime) {
            (Profile::Base, Some(_)) => {
                bail!("--runtime: the profile `base` has no container runtime; give --profile node")
            }
            (Profile::Node, Some(Runtime::CriO)) if given.is_empty() => bail!(
                "--runtime cri-o: Debian has no package of CRI-O; give a source that has one with --apt-source FILE, such as a \
                 line `deb [signed-by=KEY] https://pkgs.k8s.io/addons:/cri-o:/stable:/v1.34/deb/ /` in cri-o.list (docs/kubernetes.md)"
            ),
            _ => Ok(given),
        }
    }
}

/// Binaries for the target, static.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Programs {
    /// PID 1 of the initramfs [default: `tatara-init` beside this program]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// The command on a node [default: `tatara-node` beside this program]
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,
}

/// Keys and certificates.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Trust {
    /// minisign secret key to sign with [default: one that is made once and kept in the state directory]
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,
    /// minisign public key built into the initramfs: config and release must then be signed. May be given several times
    #[arg(long, value_name = "FILE")]
    pub trust_key: Vec<PathBuf>,
    /// PEM file of a CA that machines trust beside pins. May be given several times
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
}
