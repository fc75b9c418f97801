//! What is secret in a config or URL never shows: not in a diagnostic, a fault, a failure record, a plan or kernel arguments.
//!
//! Secrets of a config are the contents of `files`, the credential of `kubernetes.join`, and user information and queries of URLs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, end the test")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;
use tatara_firstboot::{BaseFiles, Input, kernel, render};
use tatara_http::dns::Servers;
use tatara_http::fetch::{Artifact, Authenticity, Client, File, Timing, Verdict};
use tatara_http::tls::Trust;
use tatara_spec::Fault;
use tatara_spec::cmdline::{self, Placeholders};
use tatara_spec::config::{self, NodeConfig};
use tatara_spec::cpu::{CpuPlan, CpuSet};
use tatara_spec::plan::{self, Content, Desired, Disk, Origin, Plan, Request};
use tatara_spec::record::FailureRecord;
use tatara_spec::step::Step;

/// Stands wherever a secret may.
const MARKER: &str = "hunter2";

const CONFIG: &str = r#"
apiVersion: tatara.dev/v1alpha1
kind: NodeConfig
metadata:
  name: node-1
install:
  release:
    url: https://boot.example/release.json?sig=hunter2
  disk:
    model: "Samsung*"
users:
  - name: ops
    keysUrl: https://keys.example/ops.keys?token=hunter2
kubernetes:
  endpoint: k8s.example:6443
  join:
    token: abcdef.hunter2hunter2ab
    caCertHashes:
      - sha256:7c2e69131a36ae2a042a339b33381c6d0d43887e2de83720eff5359e26aec866
files:
  - path: /etc/secrets/token
    mode: 0600
    content: "hunter2"
  - path: /etc/secrets/kubeconfig
    mode: 0600
    content: |
      token: hunter2
      [client]
      password=hunter2
      -----BEGIN PRIVATE KEY-----
      hunter2 'hunter2 "hunter2
      -----END PRIVATE KEY-----
report:
  url: https://report.example/failures?token=hunter2
"#;

/// The same with the other credential that a node may have.
fn with_identity() -> String {
    let identity = "tokenFrom: https://tokens.example/node-1
    identity: |
      -----BEGIN CERTIFICATE-----
      AAAA
      -----END CERTIFICATE-----
      -----BEGIN PRIVATE KEY-----
      hunter2A
      -----END PRIVATE KEY-----";
    CONFIG.replace("token: abcdef.hunter2hunter2ab", identity)
}

fn hidden(what: &str, text: &str) {
    assert!(!text.contains(MARKER), "{what} shows a secret: {text}");
}

fn fault_hides(what: &str, fault: &Fault) {
    hidden(what, &fault.chain());
    let record = FailureRecord {
        code: fault.code.name().to_owned(),
        step: Step::Config,
        message: fault.chain(),
        hint: fault.code.hint().to_owned(),
        unix_time: 0,
        attempt: 1,
        shown: false,
    };
    hidden(what, &serde_json::to_string(&record).unwrap());
}

/// The config with one thing wrong: every way, at every line.
fn damaged(config: &str) -> Vec<String> {
    let lines: Vec<&str> = config.lines().collect();
    let with = |at: usize, line: &[&str]| {
        let mut changed = lines.clone();
        changed.splice(at..=at, line.iter().copied());
        changed.join("\n")
    };
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let deeper = format!(" {line}");
        let much_deeper = format!("          {line}");
        let key = line.split_once(": ").map_or(*line, |(key, _)| key);
        let value = line.split_once(": ").map_or("", |(_, value)| value.trim_matches('"'));
        all.push(with(at, &[]));
        all.push(with(at, &[line, line]));
        all.extend([&deeper, &much_deeper].map(|line| with(at, &[line])));
        all.push(with(at, &[line.strip_prefix("  ").unwrap_or(line)]));
        all.push(with(at, &[&line.replacen(": ", ":", 1)]));
        for odd in [
            "[x, {v}",
            "{a: {v}}",
            "[{v}]",
            "&a {v}",
            "*a",
            "!!int {v}",
            "\"{v}",
            "'{v}",
            "{v}: {v}",
            "\t{v}",
            "http://user:{v}@host/{v}",
            "\u{7f}{v}",
            "%{v}",
            "@{v}",
            "`{v}",
            ">\n{v}",
            "? {v}",
        ] {
            all.push(with(at, &[&format!("{key}: {}", odd.replace("{v}", value))]));
            let quoted = odd.replace("{v}", "https://user:hunter2@host/x?token=hunter2");
            if key.ends_with("rl") {
                all.push(with(at, &[&format!("{key}: {quoted}")]));
            }
        }
    }
    all
}

/// A damage can turn contents into keys or into values of other fields; those are shown, as nobody can know what they were.
fn became_structure(damaged: &str) -> bool {
    let content = |line: &&str| line.trim_start() == "token: hunter2" && !line.starts_with("      ");
    damaged.lines().any(|line| content(&line))
}

#[test]
fn diagnostics_of_a_damaged_config_hide_them() {
    assert!(config::parse("node.yaml", with_identity().as_bytes()).is_ok());
    let damaged: Vec<String> = [CONFIG, &with_identity()].into_iter().flat_map(damaged).collect();
    assert!(damaged.len() > 1000, "{}", damaged.len());
    let mut refused = 0;
    for text in damaged.iter().filter(|text| !became_structure(text)) {
        if let Err(diagnostics) = config::parse("node.yaml", text.as_bytes()) {
            refused += 1;
            let fault = config::to_fault(&diagnostics);
            assert!(!fault.chain().contains(MARKER), "{}\n--- of\n{text}", fault.chain());
            fault_hides("a diagnostic", &fault);
        }
    }
    assert!(refused > 600, "{refused}");
}

fn good() -> NodeConfig {
    config::parse("node.yaml", CONFIG.as_bytes()).unwrap_or_else(|found| panic!("{found:?}"))
}

fn disk(content: Content) -> Disk {
    Disk {
        path: "/dev/nvme0n1".to_owned(),
        bytes: 64 << 30,
        sector_bytes: 512,
        wwn: None,
        serial: None,
        model: Some("Samsung SSD".to_owned()),
        transport: Some("nvme".to_owned()),
        rotational: false,
        removable: false,
        read_only: false,
        boot_medium: false,
        content,
    }
}

#[test]
fn plans_hide_them() {
    let config = good();
    let request = Request { origin: Origin::Network, slot: None, refresh: false };
    let foreign = Content::Foreign(vec!["ext4 at byte 1080".to_owned()]);
    let sets = [
        vec![],
        vec![disk(Content::Empty)],
        vec![disk(foreign)],
        vec![disk(Content::Empty), disk(Content::Empty)],
    ];
    for disks in sets {
        let desired = Desired { config: &config, release: Some("0123456789abcdef") };
        let answer = plan::plan(Some(desired), &disks, &request);
        if let Plan::Refuse(fault) = &answer {
            fault_hides("a refused plan", fault);
        }
        hidden("a plan", &format!("{answer:?}"));
        hidden("a wipe plan", &plan::wipe_plan(&answer, &disks, &config.install.disk).join("\n"));
    }
}

#[test]
fn rendering_hides_them() {
    let cpu = CpuPlan {
        housekeeping: CpuSet::parse("0-7", 7).unwrap(),
        isolated: CpuSet::default(),
        nodes: BTreeMap::new(),
        last: 7,
        warnings: Vec::new(),
    };
    let (base, keys) = (BaseFiles::default(), BTreeMap::new());
    let try_render = |config: &NodeConfig| {
        let machine_id = "0123456789abcdef0123456789abcdef";
        render(&Input { config, cpu: &cpu, fetched_keys: &keys, machine_id, base: &base, versions: None })
    };
    let config = good();
    hidden("kernel arguments", &kernel::arguments(&config, &cpu).unwrap().join(" "));
    for file in try_render(&config).unwrap() {
        let holds = format!("{file:?}").contains(MARKER) || file_text(&file).contains(MARKER);
        assert_eq!(holds, file.path.starts_with("/etc/secrets/"), "{}", file.path);
        assert!(!holds || file.mode == 0o600, "{} has mode {:o}", file.path, file.mode);
    }
    // Configs that the parser would not let through.
    for path in ["/etc/hostname", "/etc/hostname/x", "/var/x", "/etc/../x"] {
        let mut wrong = config.clone();
        wrong.files[0].path = path.to_owned();
        fault_hides("a fault of rendering", &try_render(&wrong).unwrap_err());
    }
    let mut wrong = config;
    wrong.files[0].mode = Some("rwx".to_owned());
    fault_hides("a fault of rendering", &try_render(&wrong).unwrap_err());
}

fn file_text(file: &tatara_firstboot::Rendered) -> String {
    match &file.content {
        tatara_firstboot::Content::File(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        tatara_firstboot::Content::Symlink(target) => target.clone(),
    }
}

#[test]
fn the_command_line_hides_them() {
    for argument in [
        "tatara.config=htps://user:hunter2@boot.example/c",
        "tatara.report=ftp://boot.example/c?token=hunter2",
        "tatara.confg=https://user:hunter2@boot.example/c",
        "tatara.refresh=https://user:hunter2@boot.example",
        "tatara.boot=https://hunter2@boot.example",
    ] {
        fault_hides(argument, &cmdline::parse(argument).unwrap_err());
    }
    for url in ["https://user:hunter2@h/${mac}", "https://h/${nothing}?t=hunter2", "https://hunter2@h/${mac"]
    {
        fault_hides(url, &Placeholders::default().fill(url).unwrap_err());
    }
}

fn client() -> Client {
    let second = Duration::from_secs(1);
    let timing =
        Timing { connect: second, stall: second, whole: second, first_retry: Duration::from_millis(1) };
    Client::new(Trust::default().client().unwrap(), Servers::default(), timing).unwrap()
}

#[test]
fn failed_transfers_hide_them() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let client = client();
    for place in
        [closed.to_string(), "no-such-host.example".to_owned(), "[::1".to_owned(), "h:99999".to_owned()]
    {
        for scheme in ["https", "http", "ftp", "htt ps"] {
            let url = format!("{scheme}://user:hunter2@{place}/c?token=hunter2#hunter2");
            for authenticity in [Authenticity::Connection, Authenticity::Content] {
                let file = File { url: &url, what: "config", limit: 9, authenticity };
                fault_hides(&url, &client.get(&file).unwrap_err());
            }
            fault_hides(&url, &client.post_json(&url, "{}".to_owned()).unwrap_err());
            let artifact = Artifact {
                url: url.clone(),
                what: "root image".into(),
                bytes: 1,
                authenticity: Authenticity::Content,
            };
            let stopped = |attempt: &tatara_http::fetch::Attempt| {
                fault_hides("an attempt", &attempt.fault);
                Verdict::Stop
            };
            match client.open(&artifact, stopped) {
                Err(fault) => fault_hides(&url, &fault),
                Ok(mut reader) => {
                    let error = std::io::Read::read(&mut reader, &mut [0]).unwrap_err();
                    hidden(&url, &error.to_string());
                }
            }
        }
    }
}
