//! The releases that the tests boot, built once by `tatara image build` and kept in the cache.

use crate::cluster::image;
use crate::{cache, path_from_environment, tool};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Speed over size: what is tested is the same at any level.
const COMPRESSION_LEVEL: &str = "3";

/// Bytes that do not compress, in the small root: an image is cut into frames of 4 MiB.
const BALLAST_BYTES: u64 = 6 << 20;

/// A file of the appliance: `tatara-init`, `tatara-node`, `tatara-checker`.
#[must_use]
pub fn appliance(name: &str) -> PathBuf {
    path_from_environment("TATARA_APPLIANCE_DIR").join(name)
}

/// Real Debian, as `--profile base` makes it.
#[must_use]
pub fn debian() -> PathBuf {
    of_debian("debian", &["--profile", "base"])
}

/// A node that can join the cluster of [`crate::cluster`], with one of that cluster's images, and its programs in the cache.
///
/// # Panics
/// When the release cannot be built.
#[must_use]
pub fn node() -> PathBuf {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let archive = scratch.path().join(image::PAUSE_FILE);
    drop(image::archive(&archive, image::PAUSE, &["pause"]));
    built("node", &[appliance("tatara-init"), appliance("tatara-node"), archive.clone()], |output| {
        let mut command = build(output);
        command.args(["--profile", "node", "--kubernetes", "debian-source", "--image"]).arg(&archive);
        run(&mut command);
    })
}

/// Real Debian with its tuned in it.
#[must_use]
pub fn with_tuned() -> PathBuf {
    of_debian("tuned", &["--profile", "base", "--package", "tuned"])
}

/// Debian's packages, chosen by these options of `tatara image build`.
fn of_debian(name: &str, options: &[&str]) -> PathBuf {
    built(name, &["tatara-init", "tatara-node"].map(appliance), |output| {
        let mut command = build(output);
        command.args(options);
        run(&mut command);
    })
}

/// The same kernel and initramfs with a root of a few files, whose init is `tests/checker`: a boot takes seconds.
#[must_use]
pub fn small() -> PathBuf {
    let debian = debian();
    built("small", &["tatara-init", "tatara-node", "tatara-checker"].map(appliance), |output| {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (root, donor) = (scratch.path().join("small"), scratch.path().join("donor"));
        small_root(&root);
        let version = kernel_version(&debian);
        unpack_kernel(&debian, &donor);
        let mut command = build(output);
        command.arg("--rootfs").arg(&root);
        command.arg("--kernel-image").arg(donor.join(format!("boot/vmlinuz-{version}")));
        command.arg("--kernel-config").arg(donor.join(format!("boot/config-{version}")));
        command.arg("--modules").arg(donor.join(format!("usr/lib/modules/{version}")));
        run(&mut command);
    })
}

/// Version of a release's kernel.
///
/// # Panics
/// When the release has no manifest.
#[must_use]
pub fn kernel_version(release: &Path) -> String {
    let manifest = fs::read(release.join("release.json")).expect("the release's manifest");
    tatara_spec::release::Release::parse(&manifest).expect("the release's manifest").kernel_version
}

/// Unpacks kernel and modules of the cached Debian root that a release was made from, below `donor`.
///
/// # Panics
/// When no cached root has the release's kernel.
pub fn unpack_kernel(release: &Path, donor: &Path) {
    fs::create_dir_all(donor).expect("a directory");
    let newest = cached_roots().pop().expect("a cached Debian root");
    assert!(
        unpack(&newest, donor, &["./boot", "./usr/lib/modules"]),
        "the cached Debian root cannot be unpacked"
    );
    let modules = donor.join("usr/lib/modules").join(kernel_version(release));
    assert!(modules.is_dir(), "the newest cached Debian root is not the release's: no {}", modules.display());
}

/// Unpacks the newest cached Debian root that has this file, `./usr/bin/...`, as the package manager left it.
///
/// # Panics
/// When there is none, or it cannot be unpacked.
pub fn unpack_root(target: &Path, with: &str) {
    let has = |archive: &PathBuf| {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        unpack(archive, scratch.path(), &[with])
    };
    let archive = cached_roots().into_iter().rev().find(has);
    let archive = archive.unwrap_or_else(|| panic!("no cached Debian root has {with}"));
    let whole = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*", "."];
    assert!(unpack(&archive, target, &whole), "{} cannot be unpacked", archive.display());
}

/// The cached Debian roots, oldest first.
fn cached_roots() -> Vec<PathBuf> {
    let paths = fs::read_dir(cache()).expect("the cache").flatten().map(|entry| entry.path());
    let is_root = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("root-") && name.contains(".tar")
        })
    };
    let mut roots: Vec<PathBuf> = paths.filter(is_root).collect();
    roots.sort_by_key(|path| fs::metadata(path).and_then(|about| about.modified()).expect("a root's date"));
    roots
}

/// Whether tar could unpack what these arguments name.
fn unpack(archive: &Path, target: &Path, arguments: &[&str]) -> bool {
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(archive).arg("-C").arg(target).args(arguments).stderr(Stdio::null());
    tar.status().expect("tar").success()
}

fn small_root(root: &Path) {
    for dir in ["dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib/modules", "var"] {
        fs::create_dir_all(root.join(dir)).expect("a directory of the small root");
    }
    for (link, target) in [("sbin", "usr/sbin"), ("bin", "usr/bin"), ("lib", "usr/lib")] {
        symlink(target, root.join(link)).expect("a link of the small root");
    }
    // More than one frame: what is wrong in the last one is found when the first one is on the disk.
    let ballast: Vec<u8> = (0..BALLAST_BYTES / 8).flat_map(|i| crate::seed::mixed(i).to_le_bytes()).collect();
    fs::write(root.join("usr/lib/ballast"), ballast).expect("the ballast");
    let init = root.join("usr/sbin/init");
    fs::copy(appliance("tatara-checker"), &init).expect("the checker");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("its mode");
    for (name, text) in [
        ("passwd", "root:x:0:0:root:/root:/usr/sbin/nologin\n"),
        ("group", "root:x:0:\nsudo:x:27:\n"),
        ("shadow", "root:*:19000:0:99999:7:::\n"),
        ("gshadow", "root:*::\nsudo:*::\n"),
    ] {
        fs::write(root.join("etc").join(name), text).expect("a file of the small root");
    }
}

fn build(output: &Path) -> Command {
    let mut command = Command::new(tool());
    command.args(["image", "build", "--compression-level", COMPRESSION_LEVEL, "--output"]).arg(output);
    command.arg("--init").arg(appliance("tatara-init")).arg("--node").arg(appliance("tatara-node"));
    command
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("tatara image build");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{text}");
}

/// The release of this name for these files; older ones of the name are removed.
fn built(name: &str, inputs: &[PathBuf], make: impl FnOnce(&Path)) -> PathBuf {
    let dir = cache().join("test-releases");
    fs::create_dir_all(&dir).expect("the cache");
    // Several test programs may want it at once: one builds, the others wait.
    let lock = File::create(dir.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock");
    let release = dir.join(format!("{name}-{:016x}", fingerprint(inputs)));
    if !release.join("SHA256SUMS").exists() {
        for entry in fs::read_dir(&dir).expect("the cache").flatten() {
            let old = entry.file_name().to_string_lossy().starts_with(&format!("{name}-"));
            if old {
                fs::remove_dir_all(entry.path()).expect("an older release");
            }
        }
        make(&release);
    }
    release
}

fn fingerprint(inputs: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in inputs.iter().chain([&tool()]) {
        fs::read(file)
            .unwrap_or_else(|e| panic!("{}: {e}; run `make test`", file.display()))
            .hash(&mut hasher);
    }
    hasher.finish()
}
