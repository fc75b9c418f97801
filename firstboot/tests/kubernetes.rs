//! What depends on the versions of Kubernetes and the container runtime: one file a pair in `tests/kubernetes`, with kubeadm's JoinConfiguration
//! and the files that it changes. `TATARA_UPDATE_GOLDEN=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, end the test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Command;
use tatara_firstboot::render::kubernetes::{Discovery, join_configuration};
use tatara_firstboot::{BaseFiles, Content, Input, Rendered, render};
use tatara_spec::Code;
use tatara_spec::config::{NodeConfig, RegistryMirror, parse};
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::cpu::{CpuPlan, CpuSet};
use tatara_spec::release::{Runtime, Versions};

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

/// And with CRI-O, whose versions are the kubelet's. Those of kubeadm's v1beta2 are too old for the oldest one that is taken.
const CRI_O: [(&str, &str); 3] = [("1.30.4", "1.30.0"), ("1.31.4", "1.31.3"), ("1.34.1", "1.34.1")];

fn config() -> NodeConfig {
    parse("config.yaml", CONFIG.as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn versions(kubernetes: &str, containerd: &str) -> Versions {
    let some = |text: &str| Some(text.to_owned());
    Versions { kubernetes: some(kubernetes), containerd: some(containerd), runc: some("1.1.15"), crio: None }
}

fn with_crio(kubernetes: &str, crio: &str) -> Versions {
    let some = |text: &str| Some(text.to_owned());
    Versions { kubernetes: some(kubernetes), crio: some(crio), ..Versions::default() }
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

/// Compares with `tests/kubernetes/NAME.txt`.
fn golden(name: &str, versions: &Versions, paths: &[&str]) {
    let config = config();
    let files = rendered(&config, versions).unwrap();
    let (runtime, _) = versions.runtime().unwrap().unwrap();
    let mut found = String::new();
    for path in paths {
        found.push_str(&format!("=== {path}\n{}", text(&files, path)));
    }
    let version = Version::parse(versions.kubernetes.as_deref().unwrap()).unwrap();
    for (name, discovery) in
        [("token", Discovery::Token(TOKEN)), ("file", Discovery::File("/run/tatara/kubeadm-discovery.conf"))]
    {
        let join = join_configuration(&config, version, runtime, discovery).unwrap();
        found.push_str(&format!("=== join by {name}\n{join}"));
    }
    let path = format!("tests/kubernetes/{name}.txt");
    if std::env::var_os("TATARA_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == found, "{path} differs; now:\n{found}");
}

const KUBELET_DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/20-tatara.conf";

#[test]
fn each_version_gets_its_formats() {
    for (kubernetes, containerd) in VERSIONS {
        let paths = ["/etc/tatara/kubelet.json", "/etc/containerd/config.toml", KUBELET_DROP_IN];
        golden(kubernetes, &versions(kubernetes, containerd), &paths);
    }
}

const CRI_O_CONFIG: &str = "/etc/crio/crio.conf.d/20-tatara.conf";
const REGISTRIES: &str = "/etc/containers/registries.conf.d/tatara.conf";

#[test]
fn each_version_gets_its_formats_with_cri_o() {
    for (kubernetes, crio) in CRI_O {
        let paths = [
            "/etc/tatara/kubelet.json",
            CRI_O_CONFIG,
            REGISTRIES,
            "/etc/containers/registries.conf.d/shortnames.conf",
            "/etc/crictl.yaml",
            "/etc/systemd/system/multi-user.target.d/20-tatara.conf",
            "/etc/systemd/system/crio.service.d/20-tatara.conf",
            KUBELET_DROP_IN,
            "/etc/systemd/system/etc-cni-net.d.mount",
            "/etc/systemd/system/opt-cni-bin.mount",
        ];
        golden(&format!("{kubernetes}-cri-o"), &with_crio(kubernetes, crio), &paths);
    }
}

#[test]
fn of_containerd_nothing_is_left_with_cri_o() {
    for file in rendered(&config(), &with_crio("1.34.1", "1.34.1")).unwrap() {
        assert!(!format!("{file:?}").to_lowercase().contains("containerd"), "{}", file.path);
        if let Content::File(bytes) = &file.content {
            assert!(!String::from_utf8_lossy(bytes).to_lowercase().contains("containerd"), "{}", file.path);
        }
    }
    for file in rendered(&config(), &versions("1.34.1", "2.1.4")).unwrap() {
        assert!(!["crio", "containers/"].iter().any(|word| file.path.contains(word)), "{}", file.path);
    }
}

#[test]
fn mirrors_that_cri_o_has_no_words_for_are_refused() {
    let mirrors = |registry: &str, endpoint: &str| {
        let mut config = config();
        config.kubernetes.as_mut().unwrap().registry_mirrors =
            vec![RegistryMirror { registry: registry.to_owned(), endpoints: vec![endpoint.to_owned()] }];
        rendered(&config, &with_crio("1.34.1", "1.34.1"))
    };
    for (registry, endpoint, why) in [
        ("_default", "https://mirror.example.com", "name each instead of `_default`"),
        ("docker.io", "https://mirror.example.com/v2/hub", "no path before"),
        ("docker.io", "https://[2001:db8::1]:5000", "no IPv6 address"),
        ("2001:db8::1", "https://mirror.example.com", "no IPv6 address"),
    ] {
        let fault = mirrors(registry, endpoint).unwrap_err();
        assert!(fault.code == Code::Render && fault.message.contains(why), "{fault:?}");
    }
    let files = mirrors("docker.io", "http://mirror.example.com:5000/").unwrap();
    let wanted = "[[registry.mirror]]\nlocation = \"mirror.example.com:5000\"\ninsecure = true\n";
    assert!(text(&files, REGISTRIES).ends_with(wanted), "{}", text(&files, REGISTRIES));
}

/// The library that reads the file is CRI-O's own; skopeo has it, too.
#[test]
fn the_mirrors_are_asked_before_the_registry() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut line = String::new();
            let mut stream = BufReader::new(stream.unwrap());
            // Without `insecure` it would not go on to HTTP after this.
            let plain = stream.fill_buf().unwrap().starts_with(b"GET ");
            if plain {
                stream.read_line(&mut line).unwrap();
                return line;
            }
        }
        panic!("nobody has asked");
    });
    let mut config = config();
    let mirror =
        RegistryMirror { registry: "reg.invalid".to_owned(), endpoints: vec![format!("http://{address}")] };
    config.kubernetes.as_mut().unwrap().registry_mirrors = vec![mirror];
    let files = rendered(&config, &with_crio("1.34.1", "1.34.1")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join(".config/containers");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("registries.conf"), text(&files, REGISTRIES).as_bytes()).unwrap();
    let mut skopeo = Command::new("skopeo");
    skopeo.env("HOME", home.path()).args(["inspect", "--raw", "docker://reg.invalid/a:1"]);
    let output = skopeo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&address.to_string()), "{said}");
    assert_eq!(asked.join().unwrap(), "GET /v2/ HTTP/1.1\r\n");
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
    let two_runtimes = Versions { crio: Some("1.31.3".to_owned()), ..versions("1.31.4", "2.0.1") };
    let old = with_crio("1.29.1", "1.29.3");
    for (versions, why) in [
        (without_runtime, "no container runtime"),
        (two_runtimes, "two container runtimes, containerd 2.0.1 and CRI-O 1.31.3"),
        (old, "CRI-O 1.29; 1.30 or newer"),
    ] {
        let fault = rendered(&config(), &versions).unwrap_err();
        assert!(fault.code == Code::KubernetesPayload && fault.message.contains(why), "{fault:?}");
    }
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
    takes_the_units(Runtime::Containerd, &versions("1.31.4", "2.0.1"));
    takes_the_units(Runtime::CriO, &with_crio("1.34.1", "1.34.1"));
}

fn takes_the_units(runtime: Runtime, versions: &Versions) {
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
    for name in [runtime.unit(), "kubelet.service"] {
        fs::write(directory.join(name), service).unwrap();
    }
    let files = rendered(&config(), versions).unwrap();
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
            ["tatara", "kubelet", "containerd", "crio", "etc-", "opt-", "usr-libexec"]
                .iter()
                .any(|word| line.contains(word))
        })
        .collect();
    assert!(about_ours.is_empty(), "{said}");
}
