//! What depends on the versions of Kubernetes and containerd: one file a pair in `tests/kubernetes`, with kubeadm's JoinConfiguration
//! and the files that it changes. `TATARA_UPDATE_GOLDEN=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, end the test")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use tatara_firstboot::render::kubernetes::{Discovery, join_configuration};
use tatara_firstboot::{BaseFiles, Content, Input, Rendered, render};
use tatara_spec::Code;
use tatara_spec::config::{NodeConfig, parse};
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::cpu::{CpuPlan, CpuSet};
use tatara_spec::release::Versions;

const TOKEN: &str = "abcdef.0123456789abcdef";
const CONFIG: &str = include_str!("golden/kubernetes/config.yaml");

/// Kubernetes and containerd that were current together.
const VERSIONS: [(&str, &str); 5] = [
    ("1.20.2", "1.4.13~ds1"),
    ("1.22.17", "1.6.20"),
    ("1.30.4", "1.7.24"),
    ("1.31.4", "2.0.1"),
    ("1.34.1", "2.1.4"),
];

fn config() -> NodeConfig {
    parse("config.yaml", CONFIG.as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn versions(kubernetes: &str, containerd: &str) -> Versions {
    let some = |text: &str| Some(text.to_owned());
    Versions { kubernetes: some(kubernetes), containerd: some(containerd), runc: some("1.1.15") }
}

fn isolated() -> CpuPlan {
    let set = |text: &str| CpuSet::parse(text, 7).unwrap();
    CpuPlan {
        housekeeping: set("0,4"),
        isolated: set("1-3,5-7"),
        nodes: [(0, set("0-3")), (1, set("4-7"))].into(),
        last: 7,
        ..CpuPlan::default()
    }
}

fn rendered(config: &NodeConfig, versions: &Versions) -> Result<Vec<Rendered>, tatara_spec::Fault> {
    let (cpu, keys, base) = (isolated(), BTreeMap::new(), BaseFiles::default());
    let machine_id = "0123456789abcdef0123456789abcdef";
    render(&Input {
        config,
        cpu: &cpu,
        fetched_keys: &keys,
        machine_id,
        base: &base,
        versions: Some(versions),
    })
}

fn text<'f>(files: &'f [Rendered], path: &str) -> std::borrow::Cow<'f, str> {
    let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"));
    match &file.content {
        Content::File(bytes) => String::from_utf8_lossy(bytes),
        Content::Symlink(_) => panic!("{path} is a link"),
    }
}

#[test]
fn each_version_gets_its_formats() {
    for (kubernetes, containerd) in VERSIONS {
        let config = config();
        let files = rendered(&config, &versions(kubernetes, containerd)).unwrap();
        let mut found = String::new();
        let drop_in = "/etc/systemd/system/kubelet.service.d/20-tatara.conf";
        for path in ["/etc/tatara/kubelet.json", "/etc/containerd/config.toml", drop_in] {
            found.push_str(&format!("=== {path}\n{}", text(&files, path)));
        }
        let version = Version::parse(kubernetes).unwrap();
        for (name, discovery) in [
            ("token", Discovery::Token(TOKEN)),
            ("file", Discovery::File("/run/tatara/kubeadm-discovery.conf")),
        ] {
            let join = join_configuration(&config, version, discovery).unwrap();
            found.push_str(&format!("=== join by {name}\n{join}"));
        }
        let path = format!("tests/kubernetes/{kubernetes}.txt");
        if std::env::var_os("TATARA_UPDATE_GOLDEN").is_some() {
            fs::write(&path, &found).unwrap();
        }
        assert!(fs::read_to_string(&path).unwrap_or_default() == found, "{path} differs; now:\n{found}");
    }
}

#[test]
fn the_credential_is_in_no_file_of_etc() {
    let mut config = config();
    let join = &mut config.kubernetes.as_mut().unwrap().join;
    join.token_from = None;
    join.token = Some(tatara_spec::config::Secret::new(TOKEN));
    for file in rendered(&config, &versions("1.31.4", "2.0.1")).unwrap() {
        assert!(!format!("{file:?}").contains("0123456789abcdef\""), "{}", file.path);
        if let Content::File(bytes) = &file.content {
            assert!(!String::from_utf8_lossy(bytes).contains(TOKEN), "{}", file.path);
        }
    }
}

#[test]
fn a_release_without_kubernetes_is_refused_with_its_code() {
    let none = Versions::default();
    assert_eq!(rendered(&config(), &none).unwrap_err().code, Code::KubernetesPayload);
    let without_runtime = Versions { containerd: None, ..versions("1.31.4", "2.0.1") };
    assert_eq!(rendered(&config(), &without_runtime).unwrap_err().code, Code::KubernetesPayload);
    let mut plain = config();
    plain.kubernetes = None;
    plain.firewall = None;
    assert!(rendered(&plain, &none).is_ok());
}

#[test]
fn memory_that_the_manager_cannot_add_up_is_refused() {
    let mut config = config();
    let kubelet = &mut config.kubernetes.as_mut().unwrap().kubelet;
    kubelet.insert("evictionHard".to_owned(), serde_json::json!({"memory.available": "5%"}));
    let fault = rendered(&config, &versions("1.31.4", "2.0.1")).unwrap_err();
    assert!(fault.chain().contains("evictionHard"), "{}", fault.chain());
}

/// nft's own parser reads the table; it needs a network namespace of its own for that, and root in it.
#[test]
fn nft_takes_the_firewall() {
    let files = rendered(&config(), &versions("1.31.4", "2.0.1")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text(&files, "/etc/tatara/firewall.nft").as_bytes()).unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "nft", "--check", "--file"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// systemd's own parser reads the units: an unknown section or key would be named.
#[test]
fn systemd_takes_the_units() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("units");
    let ours = std::path::Path::new("../image/rootfs/usr/lib/systemd/system");
    fs::create_dir(&directory).unwrap();
    for name in ["tatara-images.service", "tatara-join.service", "tatara-firewall.service"] {
        // The programs are on the node only.
        let text = fs::read_to_string(ours.join(name)).unwrap();
        let text = text.replace("/usr/bin/tatara-node", "/bin/true").replace("/usr/sbin/nft", "/bin/true");
        fs::write(directory.join(name), text).unwrap();
    }
    let service = "[Service]\nExecStart=/bin/true\n";
    for name in ["containerd.service", "kubelet.service"] {
        fs::write(directory.join(name), service).unwrap();
    }
    let files = rendered(&config(), &versions("1.31.4", "2.0.1")).unwrap();
    for file in files.iter().filter(|file| file.path.starts_with("/etc/systemd/system/")) {
        let name = file.path.strip_prefix("/etc/systemd/system/").unwrap();
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text(&files, &file.path).replace("/usr/bin/tatara-node", "/bin/true")).unwrap();
    }
    let units = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let units: Vec<_> = units.filter(|path| path.is_file()).collect();
    assert!(units.len() >= 9, "{units:?}");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&units)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_ours: Vec<&str> = said
        .lines()
        .filter(|line| {
            ["tatara", "kubelet", "containerd", "etc-", "opt-", "usr-libexec"]
                .iter()
                .any(|word| line.contains(word))
        })
        .collect();
    assert!(about_ours.is_empty(), "{said}");
}
