//! Every directory of `tests/golden` is a config and the files that it must become: `config.yaml`, `files.txt` with
//! mode, owner and content of each, and `kernel.txt`.
//!
//! `TATARA_UPDATE_GOLDEN=1 cargo test -p tatara-firstboot` writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy.toml covers only the tests themselves"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tatara_firstboot::{BaseFiles, Content, Input, Rendered, apply, kernel, render};
use tatara_spec::config::{FileEntry, Isolation, NodeConfig, parse};
use tatara_spec::cpu::{CpuPlan, CpuSet};

const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

fn base() -> BaseFiles {
    BaseFiles {
        passwd: "root:x:0:0:root:/root:/bin/bash\n".into(),
        // Without a newline at its end, as a hand-edited file may be.
        group: "root:x:0:\nshadow:x:42:".into(),
        shadow: "root:*:20000:0:99999:7:::\n".into(),
        gshadow: "root:*::\nshadow:*::\n".into(),
    }
}

fn fetched_keys() -> BTreeMap<String, Vec<String>> {
    let keys = vec![
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxsbGxsbGxsbGxsbGxsbGxsbGxsbGxsbGxsbGxsbGxs fetched".to_owned(),
    ];
    BTreeMap::from([("https://keys.example.org/ops.keys".to_owned(), keys)])
}

fn config(text: &str) -> NodeConfig {
    parse("config.yaml", text.as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn cpu_plan(config: &NodeConfig) -> CpuPlan {
    let set = |text: &str| CpuSet::parse(text, 7).unwrap();
    let isolated = if config.tuning.isolation == Isolation::None { "" } else { "2-7" };
    let housekeeping = if isolated.is_empty() { "0-7" } else { "0-1" };
    CpuPlan {
        housekeeping: set(housekeeping),
        isolated: set(isolated),
        nodes: [(0, set("0-3")), (1, set("4-7"))].into(),
        last: 7,
        ..CpuPlan::default()
    }
}

fn rendered(config: &NodeConfig) -> Vec<Rendered> {
    let (cpu, keys, base) = (cpu_plan(config), fetched_keys(), base());
    let input =
        Input { config, cpu: &cpu, fetched_keys: &keys, machine_id: MACHINE_ID, base: &base, versions: None };
    render(&input).unwrap()
}

fn golden() -> PathBuf {
    PathBuf::from("tests/golden")
}

fn text(files: &[Rendered]) -> String {
    let one = |file: &Rendered| match &file.content {
        Content::File(bytes) => {
            let owner = format!("{:04o} {}:{}", file.mode, file.uid, file.gid);
            format!("=== {} {owner}\n{}", file.path, String::from_utf8_lossy(bytes))
        }
        Content::Symlink(target) => format!("=== {} -> {target}\n", file.path),
    };
    files.iter().map(one).collect()
}

fn compare(path: &Path, text: &str) {
    if std::env::var_os("TATARA_UPDATE_GOLDEN").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(expected == text, "{} differs; now:\n{text}", path.display());
}

fn each(check: impl Fn(&Path, &NodeConfig)) {
    let mut seen = 0;
    for entry in fs::read_dir(golden()).unwrap() {
        let directory = entry.unwrap().path();
        check(&directory, &config(&fs::read_to_string(directory.join("config.yaml")).unwrap()));
        seen += 1;
    }
    assert!(seen >= 4, "only {seen} golden directories");
}

#[test]
fn files_are_as_recorded() {
    each(|directory, config| compare(&directory.join("files.txt"), &text(&rendered(config))));
}

#[test]
fn kernel_arguments_are_as_recorded() {
    each(|directory, config| {
        let arguments = kernel::arguments(config, &cpu_plan(config)).unwrap();
        compare(&directory.join("kernel.txt"), &format!("{}\n", arguments.join("\n")));
    });
}

#[test]
fn paths_are_below_etc_sorted_and_unique() {
    each(|_, config| {
        let files = rendered(config);
        assert!(files.iter().all(|file| file.path.starts_with("/etc/")));
        assert!(files.windows(2).all(|pair| pair[0].path < pair[1].path));
    });
}

/// Mode, owner and group that a file of ours has; whoever renders a new secret has to say so here.
fn expected(path: &str) -> (u32, u32, u32) {
    match path {
        // Passwords, though there are none: root and group shadow (Debian Policy 9.2.2).
        "/etc/shadow" | "/etc/gshadow" => (0o640, 0, 42),
        // sudo takes no file that others can write; its own are 0440 (sudoers(5)).
        path if path.starts_with("/etc/sudoers.d/") => (0o440, 0, 0),
        // machine-id(5).
        "/etc/machine-id" => (0o444, 0, 0),
        _ => (0o644, 0, 0),
    }
}

#[test]
fn every_file_has_the_mode_and_owner_that_it_needs() {
    let mut private = 0;
    each(|_, config| {
        for file in rendered(config).into_iter().filter(|file| matches!(file.content, Content::File(_))) {
            let wanted = match config.files.iter().find(|entry| entry.path == file.path) {
                Some(entry) => {
                    (entry.mode.as_deref().map_or(0o644, |mode| u32::from_str_radix(mode, 8).unwrap()), 0, 0)
                }
                None => expected(&file.path),
            };
            assert_eq!((file.mode, file.uid, file.gid), wanted, "{}: mode {:o}", file.path, file.mode);
            assert_eq!(file.mode & 0o022, 0, "{} can be written by others", file.path);
        }
    });
    each_file_of("users", |file| private += usize::from(file.mode == 0o600));
    assert!(private > 0, "a file of `files` is private");
}

fn each_file_of(name: &str, mut check: impl FnMut(&Rendered)) {
    let text = fs::read_to_string(golden().join(name).join("config.yaml")).unwrap();
    rendered(&config(&text)).iter().for_each(&mut check);
}

#[test]
fn sshd_takes_keys_of_the_config_only() {
    for name in ["minimal", "users"] {
        let mut seen = 0;
        each_file_of(name, |file| {
            if let ("/etc/ssh/sshd_config.d/10-tatara.conf", Content::File(bytes)) =
                (file.path.as_str(), &file.content)
            {
                let text = String::from_utf8_lossy(bytes);
                for line in [
                    "AuthenticationMethods publickey",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin no",
                    "AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u",
                ] {
                    assert!(text.lines().any(|found| found == line), "{line}");
                }
                seen += 1;
            }
        });
        assert_eq!(seen, 1);
    }
}

/// Why this config cannot be rendered.
fn refused(config: &NodeConfig) -> String {
    let input = Input {
        config,
        cpu: &cpu_plan(config),
        fetched_keys: &fetched_keys(),
        machine_id: MACHINE_ID,
        base: &base(),
        versions: None,
    };
    render(&input).unwrap_err().chain()
}

#[test]
fn a_file_that_is_made_anyway_cannot_be_replaced() {
    let mut config = config(&fs::read_to_string(golden().join("minimal/config.yaml")).unwrap());
    let content = "x".to_owned();
    config.files = vec![FileEntry { path: "/etc/hostname".into(), content, mode: None }];
    let message = refused(&config);
    assert!(message.starts_with("files: /etc/hostname is made from the rest"), "{message}");
}

#[test]
fn a_file_cannot_be_a_directory_too() {
    let mut config = config(&fs::read_to_string(golden().join("minimal/config.yaml")).unwrap());
    let entry = |path: &str| FileEntry { path: path.into(), content: String::new(), mode: None };
    config.files = vec![entry("/etc/a"), entry("/etc/a-b"), entry("/etc/a/b")];
    let message = refused(&config);
    assert!(message.starts_with("files: /etc/a/b cannot be below /etc/a,"), "{message}");
}

#[test]
fn an_account_of_the_root_cannot_be_taken() {
    let mut config = config(&fs::read_to_string(golden().join("users/config.yaml")).unwrap());
    let (cpu, keys) = (cpu_plan(&config), fetched_keys());
    let mut base = base();
    base.passwd.push_str("taken:x:15132:15132::/:/bin/sh\n");
    let check = |config: &NodeConfig| {
        let input = Input {
            config,
            cpu: &cpu,
            fetched_keys: &keys,
            machine_id: MACHINE_ID,
            base: &base,
            versions: None,
        };
        render(&input).unwrap_err().chain()
    };
    assert_eq!(
        check(&config),
        "users: number 15132, due to `retired`, belongs to `taken` in the root's /etc/passwd"
    );
    config.users[0].name = "taken".into();
    assert_eq!(check(&config), "users: `taken` is already in the root's /etc/passwd; choose another name");
}

#[test]
fn removing_somebody_moves_nobody_elses_number() {
    let mut config = config(&fs::read_to_string(golden().join("users/config.yaml")).unwrap());
    let accounts = |config: &NodeConfig| -> Vec<String> {
        let files = rendered(config);
        let passwd = files.iter().find(|file| file.path == "/etc/passwd").unwrap();
        let Content::File(bytes) = &passwd.content else { panic!("no file") };
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
    };
    let before = accounts(&config);
    let retired = config.users.iter().position(|user| user.name == "retired").unwrap();
    assert!(retired + 1 < config.users.len(), "somebody comes after");
    config.users.remove(retired);
    let rest: Vec<String> = before.into_iter().filter(|line| !line.starts_with("retired:")).collect();
    assert_eq!(accounts(&config), rest);
    config.users.reverse();
    let (mut turned, mut rest) = (accounts(&config), rest);
    turned.sort();
    rest.sort();
    assert_eq!(turned, rest);
}

#[test]
fn a_line_break_cannot_become_a_directive() {
    let mut config = config(&fs::read_to_string(golden().join("network/config.yaml")).unwrap());
    let (cpu, keys, base) = (cpu_plan(&config), fetched_keys(), base());
    config.network.interfaces[0].matches.mac = Some("52:54:00:00:00:01\nName=*".into());
    let input = Input {
        config: &config,
        cpu: &cpu,
        fetched_keys: &keys,
        machine_id: MACHINE_ID,
        base: &base,
        versions: None,
    };
    assert!(render(&input).unwrap_err().chain().contains("must be one line of text"));
}

/// systemd's own parser reads the drop-ins: an unknown section or key would be named.
#[test]
fn systemd_takes_the_slices() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let own = |mut file: Rendered| {
        (file.uid, file.gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        file
    };
    let config = config(&fs::read_to_string(golden().join("isolated/config.yaml")).unwrap());
    let units =
        rendered(&config).into_iter().filter(|file| file.path.starts_with("/etc/systemd/system/")).map(own);
    apply(root.path(), &units.collect::<Vec<_>>()).unwrap();
    let directory = root.path().join("etc/systemd/system");
    fs::write(directory.join("system.slice"), "[Slice]\n").unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(directory.join("system.slice"))
        .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("tatara-cpus"), "{said}");
}
