//! Whole builds from a tiny root: the kernel has every module built in, so that no real modules are needed.

use super::{Options, kernel_config, modules, release, run, sign, usb, verify};
use clap::Parser as _;
use std::fs;
use std::path::{Path, PathBuf};
use tatara_spec::release::Archives;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

const KERNEL: &str = "6.12.0-test";

/// A directory with a root, programs and a key.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        let config: String = kernel_config::REQUIREMENTS
            .iter()
            .map(|needed| format!("CONFIG_{}={}\n", needed.option, needed.allowed[0]))
            .collect();
        let builtin: String = modules::groups()
            .unwrap()
            .iter()
            .flat_map(|group| &group.modules)
            .map(|module| format!("kernel/{module}.ko\n"))
            .collect();
        bench.file("root/boot/config-6.12.0-test", &config);
        bench.file("root/boot/vmlinuz-6.12.0-test", "a kernel");
        bench.file("root/usr/lib/modules/6.12.0-test/modules.builtin", &builtin);
        for table in ["modules.dep", "modules.alias", "modules.softdep"] {
            bench.file(&format!("root/usr/lib/modules/6.12.0-test/{table}"), "");
        }
        bench.file("root/usr/sbin/init", "the next init");
        bench.file("root/var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n");
        bench.file("init", "PID 1");
        bench.file("node", "the node's command");
        sign::Signer::kept_in(bench.directory.path()).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn options(&self, output: &str) -> Options {
        let option = |name: &str, path: &str| [name.to_owned(), self.path(path).display().to_string()];
        let mut arguments =
            vec!["build".to_owned(), "--epoch=1750000000".into(), "--args=tatara.refresh".into()];
        for (name, path) in [
            ("--output", output),
            ("--rootfs", "root"),
            ("--init", "init"),
            ("--node", "node"),
            ("--sign-key", "release.key"),
        ] {
            arguments.extend(option(name, path));
        }
        Cli::try_parse_from(arguments).unwrap().options
    }

    fn key(&self) -> String {
        sign::read_public(&self.path("release.pub")).unwrap()
    }
}

fn bytes(directory: &Path, name: &str) -> Vec<u8> {
    fs::read(directory.join(name)).unwrap()
}

#[test]
fn two_builds_are_the_same_and_a_changed_file_is_found() {
    let bench = Bench::new();
    let release = run(&bench.options("one")).unwrap();
    let again = run(&bench.options("two")).unwrap();
    assert_eq!(release, again);
    assert_eq!(release.kernel_version, KERNEL);
    assert_eq!(release.packages["a"], "1");
    let (one, two) = (bench.path("one"), bench.path("two"));
    for name in release.artifacts.keys().map(String::as_str).chain(["release.json", "boot.ipxe", usb::FILE]) {
        assert!(bytes(&one, name) == bytes(&two, name), "{name} differs");
    }
    assert!(
        String::from_utf8(bytes(&one, "boot.ipxe")).unwrap().contains("set tatara-args tatara.refresh\n")
    );

    assert_eq!(verify::check(&one, &bench.key()).unwrap(), release);
    for name in ["vmlinuz", usb::FILE] {
        let original = bytes(&one, name);
        let mut changed = original.clone();
        changed[5] ^= 1;
        fs::write(one.join(name), changed).unwrap();
        let error = format!("{:#}", verify::check(&one, &bench.key()).unwrap_err());
        assert!(error.contains(name), "{error}");
        fs::write(one.join(name), original).unwrap();
    }
    let other = tempfile::tempdir().unwrap();
    let key = sign::Signer::kept_in(other.path()).unwrap().public();
    assert!(verify::check(&one, &key).is_err(), "another key's signature was taken");
}

#[test]
fn an_image_archive_is_an_artifact_that_is_verified() {
    let bench = Bench::new();
    bench.file("tar/manifest.json", "[]");
    for name in ["pod.tar", "pause.tar"] {
        let arguments = ["--create", "--file", name, "--directory", "tar", "manifest.json"];
        let status = std::process::Command::new("tar").args(arguments).current_dir(&bench.directory).status();
        assert!(status.unwrap().success());
    }
    let mut options = bench.options("out");
    options.image = vec![bench.path("pod.tar"), bench.path("pause.tar")];
    let release = run(&options).unwrap();
    let (out, archives) = (bench.path("out"), Archives::of(&release));
    assert_eq!(archives.archives.keys().collect::<Vec<_>>(), ["pause.tar", "pod.tar"]);
    let pod = archives.get("pod.tar").unwrap();
    let found = release::artifact(&bench.path("pod.tar")).unwrap();
    assert_eq!((pod.bytes, pod.sha256), (found.bytes, found.sha256));
    assert_eq!(verify::check(&out, &bench.key()).unwrap(), release);
    assert!(String::from_utf8(bytes(&out, "SHA256SUMS")).unwrap().contains("  image-pod.tar\n"));
    fs::write(out.join("image-pod.tar"), "another file").unwrap();
    let error = format!("{:#}", verify::check(&out, &bench.key()).unwrap_err());
    assert!(error.contains("image-pod.tar: 12 bytes"), "{error}");

    let without = run(&bench.options("without")).unwrap();
    assert_ne!(without.id, release.id, "it is another release");
    options.image.push(bench.path("missing.tar"));
    options.output = bench.path("never");
    assert!(format!("{:#}", run(&options).unwrap_err()).contains("missing.tar"));
    assert!(!bench.path("never").exists());
}

#[test]
fn a_kernel_without_an_option_is_refused_and_nothing_is_written() {
    let bench = Bench::new();
    bench.file("root/boot/config-6.12.0-test", "CONFIG_MODULES=y\n");
    let error = format!("{:#}", run(&bench.options("out")).unwrap_err());
    assert!(error.contains("CONFIG_NO_HZ_FULL=n, needed y"), "{error}");
    assert!(error.contains("CONFIG_EROFS_FS=n"), "{error}");
    assert!(!bench.path("out").exists());
}

#[test]
fn a_missing_program_is_named_before_anything_is_made() {
    let bench = Bench::new();
    fs::remove_file(bench.path("node")).unwrap();
    let error = run(&bench.options("out")).unwrap_err().to_string();
    assert!(error.contains("give --node FILE"), "{error}");
}

#[test]
fn a_runtime_that_no_package_source_has_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    let refused = |arguments: &[&str]| {
        let output = bench.path("out").display().to_string();
        let arguments = ["build", "--output", &output].into_iter().chain(arguments.iter().copied());
        let options = Cli::try_parse_from(arguments).unwrap().options;
        let error = format!("{:#}", run(&options).unwrap_err());
        assert!(!bench.path("out").exists());
        error
    };
    let error = refused(&["--runtime", "cri-o"]);
    assert!(
        error.contains("Debian has no package of CRI-O") && error.contains("--apt-source FILE"),
        "{error}"
    );
    let error = refused(&["--runtime", "cri-o", "--profile", "base"]);
    assert!(error.contains("give --profile node"), "{error}");
    bench.file("cri-o.list", "deb https://k.test/ /\n");
    let list = bench.path("cri-o.list").display().to_string();
    let error = refused(&["--runtime", "cri-o", "--apt-source", &list]);
    assert!(error.contains("https://k.test/ has no key"), "{error}");
    let with_a_root = ["build", "--output", "x", "--rootfs", "y", "--apt-source", &list];
    assert!(Cli::try_parse_from(with_a_root).is_err(), "nothing is installed there");
}

#[test]
fn a_given_root_says_its_runtime_and_has_one() {
    let bench = Bench::new();
    let package =
        |name: &str| format!("Package: {name}\nStatus: install ok installed\nVersion: 1.34.1-1.1\n\n");
    bench.file("root/var/lib/dpkg/status", &package("cri-o"));
    let mut options = bench.options("out");
    assert_eq!(run(&options).unwrap().versions.crio.as_deref(), Some("1.34.1"));
    options.root.runtime = Some(super::packages::Runtime::Containerd);
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("the root has CRI-O, not containerd"), "{error}");
    options.root.runtime = None;
    bench.file("root/var/lib/dpkg/status", &(package("cri-o") + &package("containerd")));
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("two container runtimes"), "{error}");
}
