//! The node's config: from bytes to the files, kernel arguments and plan that are made of it.

use crate::check_refusal;
use std::collections::BTreeMap;
use tatara_firstboot::{BaseFiles, Content, Input, Rendered, kernel, render};
use tatara_spec::config::{self, NodeConfig};
use tatara_spec::cpu::{self, Topology, TopologyTexts};
use tatara_spec::plan::{self, Desired, Disk, Origin, Plan, Request};
use tatara_spec::slot::node_cfg;

/// Most diagnostics at once, and the longest one in bytes: a message has at most 500 characters.
const DIAGNOSTICS: usize = 100;
const DIAGNOSTIC_BYTES: usize = 2048;

pub(crate) fn check(input: &[u8]) {
    match config::parse("node.yaml", input) {
        Ok(config) => {
            read_again(&config);
            rendered(&config);
            planned(&config);
        }
        Err(found) => {
            let lines = String::from_utf8_lossy(input).split(['\n', '\r']).count();
            assert!((1..=DIAGNOSTICS).contains(&found.len()), "{} diagnostics", found.len());
            for diagnostic in found {
                let text = diagnostic.to_string();
                assert!(text.len() <= DIAGNOSTIC_BYTES && !text.contains(char::is_control), "{text:?}");
                assert!((1..=lines).contains(&diagnostic.line) && diagnostic.column >= 1, "{text}");
            }
        }
    }
}

/// What is printed is read as the same: JSON is YAML.
fn read_again(config: &NodeConfig) {
    let printed = serde_json::to_vec(config).expect("a config is JSON");
    let again = config::parse("printed.json", &printed).unwrap_or_else(|found| panic!("{found:?}"));
    assert_eq!(*config, again);
}

fn topology() -> Topology {
    let list = |text: &str| text.to_owned();
    let siblings = (0..8).map(|cpu| (cpu, format!("{},{}", cpu & 6, cpu | 1))).collect();
    let nodes = BTreeMap::from([(0, list("0-3")), (1, list("4-7"))]);
    let packages = (0..8).map(|cpu| (cpu, (cpu / 4).to_string())).collect();
    let all = list("0-7");
    let texts = TopologyTexts {
        possible: all.clone(),
        present: all.clone(),
        online: all,
        siblings,
        nodes,
        packages,
        kinds: BTreeMap::new(),
    };
    Topology::from_texts(&texts).expect("CPU lists")
}

fn rendered(config: &NodeConfig) {
    let cpu = match cpu::split(&config.tuning, &topology()) {
        Ok(cpu) => cpu,
        Err(fault) => return check_refusal(&fault),
    };
    match kernel::arguments(config, &cpu) {
        Ok(arguments) => {
            let script = node_cfg(&arguments).expect("what the config takes, GRUB can pass");
            assert_eq!(script.matches('\'').count(), 2, "an argument ends its quotes: {script}");
            let commands = script.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(commands, 1, "{script}");
        }
        Err(fault) => check_refusal(&fault),
    }
    let base = BaseFiles { passwd: "root:x:0:0:root:/root:/bin/bash\n".to_owned(), ..BaseFiles::default() };
    let keys = BTreeMap::new();
    let machine_id = "0123456789abcdef0123456789abcdef";
    match render(&Input { config, cpu: &cpu, fetched_keys: &keys, machine_id, base: &base, versions: None }) {
        Ok(files) => files.iter().for_each(|file| check_file(config, file)),
        Err(fault) => check_refusal(&fault),
    }
}

/// Nothing lands outside /etc, and no value becomes a line of its own in the files that decide who is root.
fn check_file(config: &NodeConfig, file: &Rendered) {
    let inside = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    assert!(file.path.strip_prefix("/etc/").is_some_and(|path| path.split('/').all(inside)), "{}", file.path);
    let Content::File(bytes) = &file.content else { return };
    assert!(file.mode <= 0o777, "{}: mode {:o}", file.path, file.mode);
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    match file.path.as_str() {
        "/etc/passwd" => {
            let users: Vec<&str> = lines.collect();
            assert_eq!(users.len(), 1 + config.users.len());
            assert!(users.iter().all(|line| line.split(':').count() == 7), "{text}");
            let roots = users.iter().filter(|line| line.split(':').nth(2) == Some("0")).count();
            assert_eq!(roots, 1, "{text}");
        }
        "/etc/shadow" => assert!(lines.into_iter().all(|line| line.contains(":!*:")), "{text}"),
        "/etc/sudoers.d/90-tatara" => {
            assert_eq!(file.mode, 0o440);
            assert_eq!(lines.count(), config.users.iter().filter(|user| user.sudo).count());
        }
        _ => {}
    }
}

fn planned(config: &NodeConfig) {
    let disk = |path: &str, model: &str| Disk {
        path: path.to_owned(),
        bytes: 64 << 30,
        sector_bytes: 512,
        wwn: Some("eui.0123456789abcdef".to_owned()),
        serial: Some("S1".to_owned()),
        model: Some(model.to_owned()),
        transport: Some("nvme".to_owned()),
        rotational: false,
        removable: false,
        read_only: false,
        boot_medium: false,
        content: plan::Content::Empty,
    };
    let disks = [disk("/dev/nvme0n1", "Samsung SSD 990 PRO 1TB"), disk("/dev/sda", &"a".repeat(40))];
    let request = Request { origin: Origin::Network, slot: None, refresh: false };
    let answer = plan::plan(Some(Desired { config, release: Some("0123456789abcdef") }), &disks, &request);
    // Two empty disks that both match are never chosen from.
    if plan::matching(&config.install.disk, &disks).len() != 1 {
        assert!(matches!(answer, Plan::Refuse(_)), "{answer:?}");
    }
    if let Plan::Refuse(fault) = &answer {
        assert!(!fault.chain().chars().any(|c| c.is_control() && c != '\n'), "{fault}");
    }
    assert_eq!(plan::wipe_plan(&answer, &disks, &config.install.disk).len(), disks.len());
}
