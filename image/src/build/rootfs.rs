//! Makes a node's root out of a raw Debian root: our files, links for a read-only system, nothing that belongs to one machine.

use super::var;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path};

/// A file or link of `image/rootfs`, embedded so that the tool is one file.
#[derive(Debug, Clone, Copy)]
struct RootfsEntry {
    path: &'static str,
    node: RootfsNode,
}

#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "the table decides which kinds there are")]
enum RootfsNode {
    File { mode: u32, bytes: &'static [u8] },
    Symlink(&'static str),
}

/// Made by the root build script.
const ROOTFS: &[RootfsEntry] = include!(concat!(env!("OUT_DIR"), "/rootfs.rs"));

/// Links of a root that is read-only: the state partition has /home, /run has what changes while the node runs.
const LINKS: &[(&str, &str)] = &[
    ("home", "var/home"),
    ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ("etc/mtab", "../proc/self/mounts"),
    ("var/lib/dpkg", "../../usr/lib/sysimage/dpkg"),
];

/// Mount points, and directories that a program expects.
const DIRECTORIES: &[&str] = &["dev", "proc", "sys", "run", "tmp", "var", "etc", "usr/lib/sysimage"];

/// What belongs to the build or to one machine: removed, with everything below.
const REMOVED: &[&str] = &[
    "boot",
    "initrd.img",
    "initrd.img.old",
    "vmlinuz",
    "vmlinuz.old",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/hostname",
    "etc/ssh/ssh_host_ecdsa_key",
    "etc/ssh/ssh_host_ecdsa_key.pub",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    // Debian enables what it installs. Here the node's config says what runs.
    "etc/systemd/system/etcd2.service",
    "etc/systemd/system/multi-user.target.wants/containerd.service",
    "etc/systemd/system/multi-user.target.wants/crio.service",
    "etc/systemd/system/multi-user.target.wants/etcd.service",
    "etc/.pwd.lock",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "usr/lib/sysimage/dpkg/status-old",
    "usr/lib/sysimage/dpkg/available",
    "usr/lib/sysimage/dpkg/available-old",
    "usr/lib/sysimage/dpkg/diversions-old",
    "usr/lib/sysimage/dpkg/statoverride-old",
    "usr/lib/sysimage/dpkg/lock",
    "usr/lib/sysimage/dpkg/lock-frontend",
    "usr/lib/sysimage/dpkg/triggers/Lock",
];

/// dpkg's database, where it is in a raw root and where it goes: /var is the state partition's, but which packages there are
/// is a fact of the root.
const DPKG_FROM: &str = "var/lib/dpkg";
const DPKG_TO: &str = "usr/lib/sysimage/dpkg";

/// Turns a raw root into a node's. The kernel and its config must have been read before: /boot goes.
///
/// # Errors
/// A file cannot be written; the error names it.
pub(crate) fn shape(root: &Path, node_binary: &Path) -> Result<()> {
    for directory in DIRECTORIES {
        make_directory(&root.join(directory))?;
    }
    if root.join(DPKG_FROM).is_dir() {
        rename(&root.join(DPKG_FROM), &root.join(DPKG_TO))?;
    }
    for path in REMOVED {
        remove(&root.join(path))?;
    }
    empty(&root.join("run"))?;
    empty(&root.join("tmp"))?;
    empty(&root.join("dev"))?;
    for entry in ROOTFS {
        place(root, entry)?;
    }
    for (path, target) in LINKS {
        link(&root.join(path), target)?;
    }
    copy_executable(node_binary, &root.join("usr/bin/tatara-node"))?;
    // Empty, not missing: systemd then takes the id that is mounted over it, and a boot is no "first boot".
    write(&root.join("etc/machine-id"), b"", 0o444)?;
    let rules = var::rules(root)?;
    write(&root.join("usr/lib/tmpfiles.d/tatara-payload.conf"), rules.as_bytes(), 0o644)?;
    empty(&root.join("var"))
}

/// Places one of our files. A directory of ours may be a link in the root (`lib` → `usr/lib`), but no link may lead outside.
fn place(root: &Path, entry: &RootfsEntry) -> Result<()> {
    let path = Path::new(entry.path);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        bail!("the payload file {} is not below the root", path.display());
    }
    let target = root.join(path);
    if let Some(parent) = target.parent() {
        make_directory(parent)?;
    }
    match entry.node {
        RootfsNode::File { mode, bytes } => write(&target, bytes, mode),
        RootfsNode::Symlink(to) => link(&target, to),
    }
}

/// Makes a directory and those above it.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the directory {}", path.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// Writes a file anew: what was there, perhaps a link to elsewhere, is not written through.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    remove(path)?;
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Copies a program; what was there is replaced.
pub(crate) fn copy_executable(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &bytes, 0o755)
}

fn link(path: &Path, target: &str) -> Result<()> {
    remove(path)?;
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    symlink(target, path).with_context(|| format!("cannot link {} to {target}", path.display()))
}

/// Removes a file, link or tree; nothing there is fine.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// Empties a directory and keeps it with its mode and owner.
fn empty(directory: &Path) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        remove(&entry.with_context(|| format!("cannot list {}", directory.display()))?.path())?;
    }
    Ok(())
}

/// Packages of dpkg's database below a shaped root: name to version, of those that are installed.
///
/// # Errors
/// The database is there and cannot be read; a root without one has no packages.
pub(crate) fn packages(root: &Path) -> Result<std::collections::BTreeMap<String, String>> {
    let path = root.join(DPKG_TO).join("status");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let stanza = |text: &str| {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
        };
        let installed = field("Status")?.ends_with(" installed");
        installed.then_some((field("Package")?, field("Version")?))
    };
    Ok(text.split("\n\n").filter_map(stanza).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("etc/hostname", "builder\n");
        file("etc/machine-id", "0123\n");
        file("etc/ssh/ssh_host_rsa_key", "secret");
        file("boot/vmlinuz-1", "kernel");
        file(
            "var/lib/dpkg/status",
            "Package: a\nStatus: install ok installed\nVersion: 1.0-1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 2\n\n",
        );
        file("var/cache/debconf/passwords.dat", "secret");
        fs::create_dir_all(root.path().join("var/lib/private")).unwrap();
        fs::set_permissions(root.path().join("var/lib/private"), Permissions::from_mode(0o700)).unwrap();
        file("home/.keep", "");
        root
    }

    #[test]
    fn shaped_root_is_read_only_material_without_identity() {
        let root = raw_root();
        let node = tempfile::NamedTempFile::new().unwrap();
        shape(root.path(), node.path()).unwrap();
        let path = |name: &str| root.path().join(name);
        assert_eq!(fs::read_link(path("home")).unwrap(), Path::new("var/home"));
        assert_eq!(fs::read(path("etc/machine-id")).unwrap(), b"");
        for gone in ["boot", "etc/hostname", "etc/ssh/ssh_host_rsa_key"] {
            assert!(!path(gone).exists(), "{gone}");
        }
        assert_eq!(fs::read_dir(path("var")).unwrap().count(), 0);
        let mode = fs::metadata(path("usr/bin/tatara-node")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        let rules = fs::read_to_string(path("usr/lib/tmpfiles.d/tatara-payload.conf")).unwrap();
        assert!(rules.contains("d /var/lib/private 0700 "), "{rules}");
        assert!(rules.contains("L /var/lib/dpkg - - - - ../../usr/lib/sysimage/dpkg\n"), "{rules}");
        assert!(!rules.contains("passwords.dat"), "{rules}");
    }

    #[test]
    fn packages_are_those_installed() {
        let root = raw_root();
        shape(root.path(), tempfile::NamedTempFile::new().unwrap().path()).unwrap();
        let found = packages(root.path()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "1.0-1".to_owned())]);
    }

    #[test]
    fn a_file_is_not_written_through_a_link() {
        let work = tempfile::tempdir().unwrap();
        let outside = work.path().join("outside");
        fs::write(&outside, "host").unwrap();
        symlink(&outside, work.path().join("inside")).unwrap();
        write(&work.path().join("inside"), b"ours", 0o644).unwrap();
        assert_eq!(fs::read(outside).unwrap(), b"host");
    }
}
