//! The raw root: Debian by mmdebstrap, kept in a cache under a name that is the hash of everything it was made from.

use super::apt::{Given, Mirrors};
use super::command::Tool;
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};

const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };
pub(crate) const TAR: Tool = Tool { program: "tar", package: "tar" };
const CP: Tool = Tool { program: "cp", package: "coreutils" };

/// Changes when this file makes a different root from the same inputs.
const RECIPE: &str = "1";

/// Not unpacked at all: nobody reads manuals on an appliance, and the licences (`copyright`) stay.
const DPKG_OPTIONS: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
];

/// Where Debian's archive keys are on a Debian machine.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a bootstrap is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// Debian's code name, `trixie`.
    pub suite: String,
    /// Where packages come from.
    pub mirrors: Mirrors,
    /// Archive components, `main`.
    pub components: Vec<String>,
    /// Package names, sorted.
    pub packages: Vec<String>,
}

/// Whether a cached root will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    /// A root with the same inputs is taken as it is.
    Use,
    /// The root is made anew, with the packages of today.
    Refresh,
}

impl Inputs {
    /// 16 hex digits over everything that goes into the root. Without sources of the operator it is what it was before there were any.
    fn key(&self, given: &[Given]) -> String {
        let mut text = format!("{RECIPE}\n{self:?}\n{DPKG_OPTIONS:?}");
        for source in given {
            // Where the file lies says nothing about what comes from it.
            text.push_str(&format!("\n{:?} {:?}", source.path.extension(), source.text));
        }
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// One-line sources, as mmdebstrap takes them.
    fn sources(&self) -> Vec<String> {
        let components = self.components.join(" ");
        let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} {components}");
        let mut lines = vec![
            line(&self.mirrors.archive, &self.suite),
            line(&self.mirrors.archive, &format!("{}-updates", self.suite)),
        ];
        if let Some(security) = &self.mirrors.security {
            lines.push(line(security, &format!("{}-security", self.suite)));
        }
        lines
    }
}

/// `$TATARA_CACHE`, or `tatara` below the user's cache directory.
///
/// # Errors
/// No home directory is known.
pub(crate) fn cache_directory() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = variable("TATARA_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("tatara")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/tatara")))
        .context("neither TATARA_CACHE, XDG_CACHE_HOME nor HOME is set: no place for the cache")?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make the cache directory {}", directory.display()))?;
    Ok(directory)
}

/// The archive of the raw root, made if the cache has none. Two builds at once wait for each other.
///
/// # Errors
/// Not root, keyring or tool missing, or the bootstrap failed.
pub(crate) fn raw_root(inputs: &Inputs, given: &[Given], directory: &Path, cache: Cache) -> Result<PathBuf> {
    let key = inputs.key(given);
    let archive = directory.join(format!("root-{key}.tar.zst"));
    let lock_path = directory.join(format!("root-{key}.lock"));
    let lock =
        File::create(&lock_path).with_context(|| format!("cannot make the lock {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
    if cache == Cache::Refresh || !archive.is_file() {
        let partial = directory.join(format!(".root-{key}.partial.tar.zst"));
        let made = bootstrap(inputs, given, &partial);
        if made.is_err() {
            // What is left of a failed bootstrap has no use, and the next one writes the same name.
            std::fs::remove_file(&partial).ok();
        }
        made?;
        std::fs::rename(&partial, &archive)
            .with_context(|| format!("cannot rename {} to {}", partial.display(), archive.display()))?;
    }
    Ok(archive)
}

fn bootstrap(inputs: &Inputs, given: &[Given], archive: &Path) -> Result<()> {
    require_root("making a Debian root")?;
    if !Path::new(KEYRING).is_file() {
        bail!("Debian's keys are not installed; run `apt-get install debian-archive-keyring` as root");
    }
    let mut command = MMDEBSTRAP.command();
    command
        // Debian's kernel hook makes no initrd with this: ours takes its place, and making one takes half a minute.
        .env("INITRD", "No")
        .args(["--mode=root", "--variant=minbase", "--architectures=amd64"])
        .arg(format!("--include={}", inputs.packages.join(",")));
    for option in DPKG_OPTIONS {
        command.arg(format!("--dpkgopt={option}"));
    }
    // mmdebstrap(1): a file is taken over into the root's apt configuration, which a node's root does not keep.
    command
        .arg(&inputs.suite)
        .arg(archive)
        .args(inputs.sources())
        .args(given.iter().map(|source| &source.path));
    MMDEBSTRAP.output(&mut command)?;
    Ok(())
}

/// Owners, device nodes and file capabilities of a root can be kept by root only.
///
/// # Errors
/// This process is another user's.
pub(crate) fn require_root(what: &str) -> Result<()> {
    let id = Tool { program: "id", package: "coreutils" }.run(["-u"])?;
    if id.trim_ascii() != b"0" {
        bail!("{what} needs root: run this command with sudo, or in a container where you are root");
    }
    Ok(())
}

/// Unpacks a root, given as a directory or as a tar archive (compressed as tar knows it), into an empty directory.
/// Owners are kept when this process may set them.
///
/// # Errors
/// The source is neither, or cannot be copied.
pub(crate) fn unpack(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        let arguments =
            ["--archive".as_ref(), "--no-target-directory".as_ref(), source.as_os_str(), target.as_os_str()];
        CP.run(arguments)?;
        return Ok(());
    }
    let mut command = TAR.command();
    command
        .args(["--extract", "--auto-compress", "--numeric-owner", "--xattrs", "--xattrs-include=*"])
        // Nodes belong to the running system: the node mounts devtmpfs.
        .args(["--exclude=./dev/*", "--exclude=dev/*"])
        .arg("--file")
        .arg(source)
        .arg("--directory")
        .arg(target);
    TAR.output(&mut command)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Inputs {
        let mirrors = Mirrors { archive: "http://mirror.test/debian".into(), security: None };
        Inputs {
            suite: "trixie".into(),
            mirrors,
            components: vec!["main".into()],
            packages: vec!["a".into()],
        }
    }

    #[test]
    fn the_key_depends_on_every_input() {
        let base = inputs();
        let mut others = [inputs(), inputs(), inputs(), inputs()];
        others[0].suite = "forky".into();
        others[1].mirrors.security = Some("http://mirror.test/debian-security".into());
        others[2].components.push("non-free-firmware".into());
        others[3].packages.push("b".into());
        assert_eq!(base.key(&[]), inputs().key(&[]));
        assert!(others.iter().all(|other| other.key(&[]) != base.key(&[])));

        let source = |path: &str, text: &str| Given { path: path.into(), text: text.to_owned() };
        let (one, other) = (source("/a/x.list", "deb a /"), source("/a/x.list", "deb b /"));
        let keys = [
            base.key(&[]),
            base.key(std::slice::from_ref(&one)),
            base.key(std::slice::from_ref(&other)),
            base.key(&[one.clone(), other.clone()]),
            base.key(&[source("/a/x.sources", "deb a /")]),
        ];
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), keys.len(), "{keys:?}");
        assert_eq!(base.key(&[source("/b/y.list", "deb a /")]), keys[1], "the same source");
    }

    #[test]
    fn a_cached_root_is_taken_without_a_bootstrap() {
        let cache = tempfile::tempdir().unwrap();
        let expected = cache.path().join(format!("root-{}.tar.zst", inputs().key(&[])));
        std::fs::write(&expected, b"a root").unwrap();
        assert_eq!(raw_root(&inputs(), &[], cache.path(), Cache::Use).unwrap(), expected);
        assert_eq!(std::fs::read(&expected).unwrap(), b"a root");
    }

    /// A package `tatara-stub`, and the flat archive of it in `release`.
    fn flat_archive(work: &Path) {
        let package = work.join("package");
        for (path, text) in [
            (
                "DEBIAN/control",
                "Package: tatara-stub\nVersion: 1.2-3\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: stub\n",
            ),
            ("usr/share/tatara-stub", "from the operator's source\n"),
        ] {
            let path = package.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let archive = work.join("release");
        std::fs::create_dir(&archive).unwrap();
        let deb = archive.join("tatara-stub.deb");
        let arguments =
            ["--root-owner-group".as_ref(), "--build".as_ref(), package.as_os_str(), deb.as_os_str()];
        Tool { program: "dpkg-deb", package: "dpkg" }.run(arguments).unwrap();
        let bytes = std::fs::read(&deb).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let control = std::fs::read_to_string(package.join("DEBIAN/control")).unwrap();
        let about = format!("{control}Filename: tatara-stub.deb\nSize: {}\nSHA256: {digest}\n", bytes.len());
        std::fs::write(archive.join("Packages"), about).unwrap();
    }

    /// With Debian's own mirror, as this machine has it; as root. About 50 seconds.
    #[test]
    fn a_source_of_the_operators_reaches_the_root_and_does_not_stay_there() {
        let work = tempfile::tempdir().unwrap();
        flat_archive(work.path());
        let list = work.path().join("stub.list");
        let site = super::super::kubernetes::tests::site(work.path());
        std::fs::write(&list, format!("deb [trusted=yes] {site}/ ./\n")).unwrap();
        let given = super::super::apt::given(std::slice::from_ref(&list)).unwrap();
        let mirrors = super::super::apt::mirrors(Path::new("/")).unwrap();
        let inputs = Inputs { mirrors, packages: vec!["tatara-stub".into()], ..inputs() };
        let archive = raw_root(&inputs, &given, work.path(), Cache::Use).unwrap();

        let root = work.path().join("root");
        std::fs::create_dir(&root).unwrap();
        unpack(&archive, &root).unwrap();
        let stub = std::fs::read_to_string(root.join("usr/share/tatara-stub")).unwrap();
        assert_eq!(stub, "from the operator's source\n");
        let apt = || {
            Tool { program: "grep", package: "grep" }.run([
                "-rl".as_ref(),
                site.as_ref(),
                root.join("etc").as_os_str(),
            ])
        };
        assert!(apt().is_ok(), "mmdebstrap takes the source over");
        super::super::rootfs::shape(&root, &list).unwrap();
        assert!(apt().is_err(), "the node has the source");
        assert_eq!(super::super::rootfs::packages(&root).unwrap()["tatara-stub"], "1.2-3");
    }

    #[test]
    fn directory_and_archive_unpack_alike() {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        std::fs::create_dir_all(source.join("usr/bin")).unwrap();
        std::fs::write(source.join("usr/bin/tool"), b"x").unwrap();
        let archive = work.path().join("root.tar");
        TAR.run(["-C".as_ref(), source.as_os_str(), "-cf".as_ref(), archive.as_os_str(), ".".as_ref()])
            .unwrap();
        for from in [source.as_path(), archive.as_path()] {
            let target = tempfile::tempdir().unwrap();
            unpack(from, target.path()).unwrap();
            assert_eq!(std::fs::read(target.path().join("usr/bin/tool")).unwrap(), b"x");
        }
    }
}
