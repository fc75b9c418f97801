//! `tatara image build`: makes one release from Debian's packages and our programs.

mod apt;
mod archives;
mod bootstrap;
mod command;
mod first_read;
pub mod grub;
pub mod images;
pub mod initramfs;
mod kernel;
pub mod kernel_config;
pub mod kubernetes;
pub mod modules;
mod options;
mod pack;
pub mod packages;
pub mod progress;
mod release;
mod rootfs;
mod sign;
#[cfg(test)]
mod tests;
pub mod usb;
mod var;
pub mod verify;
mod versions;

pub use kernel::Overrides;
pub use options::{Options, Programs, RootOptions, Trust};

use anyhow::{Context as _, Result, bail};
use bootstrap::{Cache, Inputs};
use kernel::Kernel;
use progress::{Progress, mib};
use release::Staging;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tatara_spec::release::{Artifact, Release, Versions, artifact};

/// Makes a release and puts it to `options.output`; nothing is there before all of it is.
///
/// # Errors
/// The step that failed, with its cause; the output directory is then as it was.
pub fn run(options: &Options) -> Result<Release> {
    // First of all: a mistyped version is not to cost a root.
    let given = options.root.check()?;
    options.kubernetes.as_ref().map_or(Ok(()), kubernetes::check)?;
    let progress = Progress::new();
    let programs = find_programs(&options.programs)?;
    let archives = archives::find(&options.image)?;
    let signer = match &options.trust.sign_key {
        Some(path) => sign::Signer::read(path)?,
        None => sign::Signer::kept_in(&sign::state_directory()?)?,
    };
    let staging = Staging::new(&options.output)?;
    let (out, root) = (staging.path(), staging.scratch().join("root"));
    for directory in [&out, &root] {
        fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }

    let raw = progress.step("root", |_| raw_root(&options.root, &given))?;
    progress.step("unpack", |_| bootstrap::unpack(&raw, &root))?;
    let kernel = Kernel::find(&root, &options.kernel_files)?;
    let kernel_config = progress.step("kernel", |_| take_kernel(&kernel, &out))?;
    let epoch = epoch(options, &root, &kernel)?;
    progress
        .step("initramfs", |step| initramfs_file(options, &programs, &kernel, epoch, &root, &out, step))?;
    progress.step("shape", |_| rootfs::shape(&root, &programs.node))?;
    let kubernetes = progress.step("kubernetes", |_| kubernetes(options, &root, staging.scratch()))?;
    first_read::write_list(&root)?;
    let packages = rootfs::packages(&root)?;
    let runtime = options.root.runtime.map(packages::Runtime::in_release);
    let versions = versions::record(&root, kubernetes, &packages, runtime)?;
    let images = disk_images(options, &root, staging.scratch(), &out, epoch, &progress)?;
    progress.step("boot-loader", |_| boot_loader(&out, &options.args))?;
    progress.step("usb", |_| usb::write(&out, &out.join(usb::FILE), &options.args))?;

    let archives = match archives.is_empty() {
        true => Vec::new(),
        false => progress.step("images", |_| archives::copy(&archives, &out))?,
    };
    let release = manifest(
        &out,
        images,
        &archives,
        Facts { epoch, kernel_version: kernel.version, packages, versions, kernel_config },
    )?;
    progress.step("manifest", |_| release::finish(&out, &release, &signer))?;
    staging.publish()?;
    progress.note(&format!(
        "release {} of {}, dated {}, is in {}, made in {:.1} s, signed by {}",
        release.id,
        release.kernel_version,
        release.built(),
        options.output.display(),
        progress.total().as_secs_f64(),
        signer.public()
    ));
    Ok(release)
}

/// The programs' files.
struct ProgramFiles {
    init: PathBuf,
    node: PathBuf,
}

fn find_programs(given: &Programs) -> Result<ProgramFiles> {
    let find = |given: &Option<PathBuf>, name: &str| {
        let path = match given {
            Some(path) => path.clone(),
            None => {
                std::env::current_exe().context("cannot tell where this program is")?.with_file_name(name)
            }
        };
        if !path.is_file() {
            let option = name.trim_start_matches("tatara-");
            bail!("{} is missing: build the appliance's programs, or give --{option} FILE", path.display());
        }
        Ok(path)
    };
    Ok(ProgramFiles { init: find(&given.init, "tatara-init")?, node: find(&given.node, "tatara-node")? })
}

/// The root as a directory or archive: the given one, or the cached one, or a new one.
fn raw_root(options: &RootOptions, given: &[apt::Given]) -> Result<PathBuf> {
    if let Some(path) = &options.rootfs {
        return Ok(path.clone());
    }
    let inputs = Inputs {
        suite: options.suite.clone(),
        mirrors: mirrors(options)?,
        components: options.component.clone(),
        packages: packages::list(
            options.profile,
            options.runtime.unwrap_or_default(),
            options.kernel,
            &options.package,
        ),
    };
    bootstrap::require_root("keeping the owners of a Debian root's files")?;
    bootstrap::raw_root(&inputs, given, &bootstrap::cache_directory()?, cache(options))
}

fn mirrors(options: &RootOptions) -> Result<apt::Mirrors> {
    match &options.mirror {
        Some(url) => Ok(apt::Mirrors { archive: url.clone(), security: None }),
        None => apt::mirrors(Path::new("/")),
    }
}

fn cache(options: &RootOptions) -> Cache {
    if options.refresh { Cache::Refresh } else { Cache::Use }
}

/// Puts Kubernetes' programs into a shaped root, if they are asked for; gives their version.
fn kubernetes(options: &Options, root: &Path, scratch: &Path) -> Result<Option<String>> {
    let Some(source) = &options.kubernetes else { return Ok(None) };
    let programs = kubernetes::get(source, || mirrors(&options.root), scratch, cache(&options.root))?;
    kubernetes::install(&programs, root)?;
    Ok(Some(programs.version))
}

/// Checks the kernel's config and copies its image.
fn take_kernel(kernel: &Kernel, out: &Path) -> Result<BTreeMap<String, String>> {
    let config = fs::read_to_string(&kernel.config)
        .with_context(|| format!("cannot read {}", kernel.config.display()))?;
    let found = kernel_config::check(&config, kernel_config::REQUIREMENTS)
        .with_context(|| format!("kernel {} cannot be used", kernel.version))?;
    fs::copy(&kernel.image, out.join(artifact::KERNEL))
        .with_context(|| format!("cannot copy {}", kernel.image.display()))?;
    Ok(found)
}

/// The date of the release: given, or that of the newest package, or of the kernel when the root has no packages.
fn epoch(options: &Options, root: &Path, kernel: &Kernel) -> Result<u64> {
    if let Some(epoch) = options.epoch {
        return Ok(epoch);
    }
    let modified = |path: &Path| {
        let time = fs::metadata(path).and_then(|about| about.modified()).ok()?;
        time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
    };
    // dpkg keeps the dates of the files that came in a package; of those it wrote itself it has today's.
    let of_packages = fs::read_dir(root.join("var/lib/dpkg/info")).into_iter().flatten().flatten();
    of_packages
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md5sums"))
        .filter_map(|path| modified(&path))
        .max()
        .or_else(|| modified(&kernel.image))
        .context("no date for the release: give --epoch SECONDS")
}

fn initramfs_file(
    options: &Options,
    programs: &ProgramFiles,
    kernel: &Kernel,
    epoch: u64,
    root: &Path,
    out: &Path,
    step: &progress::Running,
) -> Result<()> {
    let tables = modules::Tables::read(&kernel.modules)?;
    let selection = tables.select(&modules::groups()?)?;
    let build_json = serde_json::json!({
        "releaseEpoch": epoch,
        "kernelVersion": kernel.version,
        "tataraVersion": env!("CARGO_PKG_VERSION"),
    });
    let pems = options
        .trust
        .ca
        .iter()
        .map(|path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())));
    let tree = initramfs::tree(&initramfs::Contents {
        init: &programs.init,
        tables: &tables,
        selection: &selection,
        kernel_version: &kernel.version,
        firmware: &root.join("usr/lib/firmware"),
        build_json: format!("{build_json}\n"),
        keys: options.trust.trust_key.iter().map(|path| sign::read_public(path)).collect::<Result<_>>()?,
        ca_pem: pems.collect::<Result<String>>()?,
    })?;
    let packed = initramfs::compress(&tree.to_cpio(epoch)?)?;
    release::write(&out.join(artifact::INITRAMFS), &packed)?;
    let groups = tree.sizes().iter().map(|(group, bytes)| format!("{group} {}", mib(*bytes)));
    step.detail(format!(
        "{}, {} modules; unpacked: {}",
        mib(packed.len() as u64),
        selection.len(),
        groups.collect::<Vec<_>>().join(", ")
    ));
    Ok(())
}

/// Root and state images, packed; gives their manifest entries.
fn disk_images(
    options: &Options,
    root: &Path,
    scratch: &Path,
    out: &Path,
    epoch: u64,
    progress: &Progress,
) -> Result<Vec<(&'static str, Artifact)>> {
    let (erofs, ext4) = (scratch.join("root.erofs"), scratch.join("state.ext4"));
    progress.step("erofs", |_| images::erofs(root, &erofs, epoch))?;
    progress.step("ext4", |_| images::ext4(&ext4, epoch))?;
    let pack = |name: &'static str, image: &Path| {
        progress.step(&format!("pack {}", name.split('.').next().unwrap_or(name)), |step| {
            let packed = pack::pack(image, &out.join(name), options.compression_level, step)?;
            Ok((name, packed))
        })
    };
    Ok(vec![pack(artifact::ROOT, &erofs)?, pack(artifact::STATE, &ext4)?])
}

fn boot_loader(out: &Path, args: &str) -> Result<()> {
    grub::build(out)?;
    release::write(&out.join(artifact::GRUB_CFG), tatara_spec::slot::GRUB_CFG.as_bytes())?;
    release::write(&out.join("boot.ipxe"), ipxe_script(args).as_bytes())
}

/// iPXE resolves names against the URL that the script came from. `initrd=` is for kernels that are started through their EFI
/// entry, which look the name up themselves.
fn ipxe_script(args: &str) -> String {
    let args = args.trim();
    let space = if args.is_empty() { "" } else { " " };
    format!(
        "#!ipxe\n\
         # Kernel arguments of the machines that boot this, such as tatara.config=https://HOST/${{mac}}.yaml tatara.ca=sha256:…\n\
         set tatara-args{space}{args}\n\
         kernel {kernel} initrd={initramfs} ${{tatara-args}} || exit 1\n\
         initrd {initramfs} || exit 1\n\
         boot\n",
        kernel = artifact::KERNEL,
        initramfs = artifact::INITRAMFS,
    )
}

/// What the manifest says beside the files.
struct Facts {
    epoch: u64,
    kernel_version: String,
    packages: BTreeMap<String, String>,
    versions: Versions,
    kernel_config: BTreeMap<String, String>,
}

/// The manifest over the files that a node fetches: disk images, archives of container images, and what every release has.
fn manifest(
    out: &Path,
    images: Vec<(&'static str, Artifact)>,
    archives: &[String],
    facts: Facts,
) -> Result<Release> {
    let mut artifacts: BTreeMap<String, Artifact> =
        images.into_iter().map(|(name, artifact)| (name.to_owned(), artifact)).collect();
    let plain = [
        artifact::KERNEL,
        artifact::INITRAMFS,
        artifact::GRUB_BIOS_BOOT,
        artifact::GRUB_BIOS_CORE,
        artifact::GRUB_EFI,
        artifact::GRUB_CFG,
    ];
    for name in plain.into_iter().chain(archives.iter().map(String::as_str)) {
        artifacts.insert(name.to_owned(), release::artifact(&out.join(name))?);
    }
    let mut release = Release {
        api_version: "tatara.dev/v1alpha1".to_owned(),
        kind: "Release".to_owned(),
        id: String::new(),
        tatara_version: env!("CARGO_PKG_VERSION").to_owned(),
        build_epoch: facts.epoch,
        kernel_version: facts.kernel_version,
        packages: facts.packages,
        versions: facts.versions,
        kernel_config: facts.kernel_config,
        artifacts,
    };
    release.id = release.compute_id();
    Ok(release)
}
