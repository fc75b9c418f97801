//! Staging from a small web server, over HTTPS with a pinned CA and over HTTP with signatures.

use super::{ON_THE_WAY_DOWN, Outcome, report, stage, status};
use crate::node::Node;
use minisign::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as Key};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::NoClientAuth;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tatara_spec::Code;
use tatara_spec::record::StagedConfig;
use tatara_spec::release::Release;

const TOKEN: &str = "abcdef.0123456789abcdef";

/// What the server has, by path. A body may be announced longer than it is.
type Files = Arc<Mutex<BTreeMap<String, (usize, Vec<u8>)>>>;

/// A node whose accepted config came from a server of ours.
struct Fake {
    root: tempfile::TempDir,
    files: Files,
    /// Of the server's CA.
    pin: String,
}

fn config(serial: u64, more: &str) -> String {
    format!(
        "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {{name: n1, serial: {serial}}}\n\
         install: {{generation: 2, release: {{url: ../release.json}}}}\n{more}"
    )
}

fn manifest() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/release/good.json")).unwrap()
}

impl Fake {
    fn https() -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, Key::generate().unwrap()).unwrap();
        let pin = format!("sha256:{}", tatara_http::tls::pin(ca.der()).unwrap());
        Self::new(Some(tls(&ca)), pin)
    }

    /// The signer of its configs.
    fn http() -> (Self, KeyPair) {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let fake = Self::new(None, format!("sha256:{}", "1".repeat(64)));
        fake.put("run/tatara/signers", pair.pk.to_base64());
        fake.serve("release.json.sig", sign(&pair, &manifest()));
        (fake, pair)
    }

    fn new(tls: Option<Arc<ServerConfig>>, pin: String) -> Self {
        let files = Files::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let port = listen(tls, Arc::clone(&files));
        let fake = Self { root: tempfile::tempdir().unwrap(), files, pin };
        let release = Release::parse(&manifest()).unwrap().id;
        fake.put("proc/cmdline", format!("quiet tatara.ca={}", fake.pin));
        fake.put("run/tatara/signers", "");
        let boot = format!(
            r#"{{"plan": "", "slot": "a", "disk": "/dev/vda", "release": "{release}", "degraded": []}}"#
        );
        fake.put("run/tatara/boot.json", boot);
        fake.put("var/lib/tatara/config.url", format!("{scheme}://127.0.0.1:{port}/nodes/n1.yaml"));
        let slots = format!(r#"{{"a": {{"release": "{release}", "rootBytes": 4096}}}}"#);
        let record = format!(r#"{{"node": "n1", "generation": 2, "serial": 5, "slots": {slots}}}"#);
        fake.put("var/lib/tatara/record.json", record);
        fake.put("var/lib/tatara/config.yaml", config(5, ""));
        symlink("/sys", fake.path("sys")).unwrap();
        fake.serve("release.json", manifest());
        fake.serve("nodes/n1.yaml", config(5, ""));
        fake
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), bytes).unwrap();
    }

    fn serve(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref().to_vec();
        self.files.lock().unwrap().insert(format!("/{path}"), (bytes.len(), bytes));
    }

    fn publish(&self, config: &str) {
        self.serve("nodes/n1.yaml", config);
    }

    fn node(&self) -> Node {
        Node::new(self.root.path().to_owned())
    }

    /// One look, and how it is kept.
    fn stage(&self) -> Result<Outcome, Code> {
        let result = stage(&self.node(), ON_THE_WAY_DOWN);
        report::keep(&self.node(), result.as_ref().err()).unwrap();
        result.map_err(|fault| fault.code)
    }

    fn staged(&self) -> Option<StagedConfig> {
        let bytes = fs::read(self.path("var/lib/tatara/staged.json")).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    fn serial(&self) -> Option<u64> {
        let config = self.staged()?.config;
        Some(tatara_spec::config::parse("x", config.as_bytes()).unwrap().metadata.serial)
    }

    /// `staged` of `tatara-node status --json`.
    fn status(&self) -> serde_json::Value {
        serde_json::to_value(status(&self.node()).unwrap()).unwrap()
    }
}

fn sign(pair: &KeyPair, content: &[u8]) -> String {
    minisign::sign(Some(&pair.pk), &pair.sk, content, None, None).unwrap().into_string()
}

fn tls(ca: &CertifiedIssuer<'static, Key>) -> Arc<ServerConfig> {
    let key = Key::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, ca).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(NoClientAuth))
        .with_single_cert(
            vec![leaf.der().clone(), ca.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    Arc::new(config.unwrap())
}

/// Serves on loopback; gives the port.
fn listen(tls: Option<Arc<ServerConfig>>, files: Files) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A client that leaves is no failure of the server.
            let _ = match &tls {
                None => answer(&mut stream, &files),
                Some(tls) => {
                    let mut stream =
                        StreamOwned::new(ServerConnection::new(Arc::clone(tls)).unwrap(), stream);
                    answer(&mut stream, &files)
                }
            };
        }
    });
    port
}

fn answer(stream: &mut (impl Read + Write), files: &Files) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let found = files.lock().unwrap().get(path).cloned();
    let (status, (length, body)) = found.map_or(("404 Not Found", (0, Vec::new())), |file| ("200 OK", file));
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body)?;
    stream.flush()
}

const SYSCTL: &str = "tuning: {sysctls: {vm.swappiness: '7'}}\n";

#[test]
fn a_changed_config_is_staged_once_and_goes_when_it_is_the_accepted_one() {
    let fake = Fake::https();
    assert_eq!(fake.stage(), Ok(Outcome::Accepted));
    assert_eq!(fake.status()["waiting"], serde_json::Value::Null);
    // A serial need not be raised.
    for changed in [config(5, SYSCTL), config(6, SYSCTL)] {
        fake.publish(&changed);
        assert_eq!(fake.stage(), Ok(Outcome::Staged));
        assert_eq!(fake.stage(), Ok(Outcome::Same));
        let staged = fake.staged().unwrap();
        assert!(staged.config == changed && staged.signature.is_none());
        assert_eq!(
            fs::metadata(fake.path("var/lib/tatara/staged.json")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(fake.path("run/tatara/stage.json")).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(fake.status()["waiting"], serde_json::json!({"serial": 6, "nextBoot": "boot"}));
    fake.publish(&config(5, ""));
    assert_eq!(fake.stage(), Ok(Outcome::Accepted));
    assert!(fake.staged().is_none());
    assert_eq!(
        fs::read_to_string(fake.path("var/lib/tatara/config.yaml")).unwrap(),
        config(5, ""),
        "never written"
    );
}

#[test]
fn what_asks_for_more_than_a_boot_is_staged_and_named() {
    let fake = Fake::https();
    fake.publish(&config(5, "").replace("generation: 2", "generation: 3"));
    assert_eq!(fake.stage(), Ok(Outcome::Staged));
    assert_eq!(fake.status()["waiting"]["nextBoot"], "reinstall");
    let boot = fs::read_to_string(fake.path("run/tatara/boot.json")).unwrap();
    let running = Release::parse(&manifest()).unwrap().id;
    fake.put("run/tatara/boot.json", boot.replace(&running, "another"));
    fake.publish(&config(6, ""));
    assert_eq!(fake.stage(), Ok(Outcome::Staged));
    assert_eq!(fake.status()["waiting"]["nextBoot"], "upgrade");
}

/// What the server has instead of the good config, the code, and what becomes of one that was staged before.
#[test]
fn what_is_refused_is_not_staged() {
    let unknown = config(7, "tunning: {}\n");
    let impossible = config(7, "tuning: {isolation: static, housekeeping: {cpus: '0,4095'}}\n");
    let rows = [
        ("a lower serial", config(4, SYSCTL), Code::ConfigSerial, Some(6)),
        (
            "a lower generation",
            config(7, "").replace("generation: 2", "generation: 1"),
            Code::ConfigSerial,
            Some(6),
        ),
        ("another node's", config(7, "").replace("n1", "n2"), Code::DiskOtherNode, Some(6)),
        ("an unknown key", unknown, Code::ConfigInvalid, None),
        ("no YAML", "a: [".to_owned(), Code::ConfigSyntax, None),
        ("another version", config(7, "").replace("v1alpha1", "v9"), Code::ConfigVersion, None),
        ("CPUs that are not there", impossible, Code::CpuAbsent, None),
        (
            "a release that is not there",
            config(7, "").replace("../release", "../other"),
            Code::HttpStatus,
            Some(6),
        ),
        ("too large", "#".repeat(1 << 21), Code::HttpBody, Some(6)),
    ];
    for (what, text, code, left) in rows {
        let fake = Fake::https();
        fake.publish(&config(6, SYSCTL));
        assert_eq!(fake.stage(), Ok(Outcome::Staged));
        fake.publish(&text);
        assert_eq!(fake.stage(), Err(code), "{what}");
        assert_eq!(fake.serial(), left, "{what}");
        let failure = &fake.status()["lastLook"]["failure"];
        assert_eq!(
            (failure["code"].as_str(), failure["hint"].as_str()),
            (Some(code.name()), Some(code.hint()))
        );
    }
}

#[test]
fn status_has_the_place_and_the_nearest_key() {
    let fake = Fake::https();
    fake.publish(&config(7, "tunning: {}\n"));
    assert_eq!(fake.stage(), Err(Code::ConfigInvalid));
    let said = status(&fake.node()).unwrap();
    let refused = said.refused().unwrap();
    assert!(refused.contains("n1.yaml:5:1: ") && refused.contains("`tuning`"), "{refused}");
    assert_eq!(said.lines(), [""; 0]);
}

#[test]
fn who_is_not_the_server_neither_gives_nor_takes_a_config() {
    let fake = Fake::https();
    fake.publish(&config(6, SYSCTL));
    assert_eq!(fake.stage(), Ok(Outcome::Staged));
    fake.publish(&config(5, ""));
    fake.put("proc/cmdline", format!("tatara.ca=sha256:{}", "2".repeat(64)));
    assert_eq!(fake.stage(), Err(Code::TlsUntrusted));
    assert_eq!(fake.serial(), Some(6));
    let said = status(&fake.node()).unwrap();
    assert!(said.refused().is_none(), "the config may be right");
    assert!(said.lines()[1].contains("E-TLS-UNTRUSTED"), "{:?}", said.lines());
    fake.put("proc/cmdline", format!("tatara.ca={}", fake.pin));
    assert_eq!(fake.stage(), Ok(Outcome::Accepted));
}

#[test]
fn a_server_that_is_away_or_breaks_off_takes_nothing_back() {
    let fake = Fake::https();
    fake.publish(&config(6, SYSCTL));
    assert_eq!(fake.stage(), Ok(Outcome::Staged));
    let half = config(5, "").into_bytes();
    fake.files.lock().unwrap().insert("/nodes/n1.yaml".to_owned(), (half.len() + 9, half));
    assert_eq!(fake.stage(), Err(Code::HttpBody));
    assert_eq!(fake.serial(), Some(6));
    // A port that was free a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fake.put("var/lib/tatara/config.url", format!("https://{gone}/nodes/n1.yaml"));
    assert_eq!(fake.stage(), Err(Code::NetConnect));
    assert_eq!(fake.serial(), Some(6));
}

#[test]
fn with_a_key_the_signature_decides() {
    let (fake, pair) = Fake::http();
    let changed = config(6, SYSCTL);
    fake.publish(&changed);
    assert_eq!(fake.stage(), Err(Code::ConfigSignature), "none");
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    fake.serve("nodes/n1.yaml.sig", sign(&other, changed.as_bytes()));
    assert_eq!(fake.stage(), Err(Code::ConfigSignature), "another's");
    fake.serve("nodes/n1.yaml.sig", sign(&pair, changed.as_bytes()));
    assert_eq!(fake.stage(), Ok(Outcome::Staged));
    assert!(fake.staged().unwrap().signature.is_some(), "PID 1 checks it again");
    fake.publish(&config(7, SYSCTL));
    assert_eq!(fake.stage(), Err(Code::ConfigSignature), "of another text");
    assert_eq!(fake.serial(), Some(6));
    fake.serve("nodes/n1.yaml.sig", sign(&pair, config(7, SYSCTL).as_bytes()));
    fake.serve("release.json.sig", sign(&other, &manifest()));
    assert_eq!(fake.stage(), Err(Code::ReleaseSignature));
    assert_eq!(fake.serial(), Some(6));
}

#[test]
fn without_a_key_http_is_no_way_and_without_the_list_of_keys_there_is_none() {
    let (fake, _) = Fake::http();
    fake.put("run/tatara/signers", "");
    assert_eq!(fake.stage(), Err(Code::UrlBad));
    fs::remove_file(fake.path("run/tatara/signers")).unwrap();
    assert_eq!(fake.stage(), Err(Code::NodeState));
}

#[test]
fn a_staged_config_that_is_damaged_is_said_and_replaced() {
    let fake = Fake::https();
    fake.put("var/lib/tatara/staged.json", "{\"config\": \"S3CRET");
    let fault = status(&fake.node()).unwrap_err();
    assert_eq!(fault.code, Code::Staged);
    assert!(!fault.chain().contains("S3CRET"), "{}", fault.chain());
    fake.publish(&config(6, SYSCTL));
    assert_eq!(fake.stage(), Ok(Outcome::Staged));
    assert_eq!(fake.serial(), Some(6));
}

/// The member's copy has no token any more, so the server's differs from it in nothing else.
#[test]
fn the_token_of_a_member_is_no_news_and_that_of_a_node_that_waits_is() {
    let kubernetes = |token: &str| {
        let hash = "1".repeat(64);
        format!(
            "kubernetes:\n  endpoint: 'api:6443'\n  join: {{token: {token}, caCertHashes: ['sha256:{hash}']}}\n"
        )
    };
    let erased = kubernetes("000000.0000000000000000");
    let fake = Fake::https();
    fake.publish(&config(5, &kubernetes(TOKEN)));
    fake.put("var/lib/tatara/config.yaml", config(5, &erased));
    fake.put("var/lib/tatara/kubernetes/joined.json", "{}");
    assert_eq!(fake.stage(), Ok(Outcome::Accepted));
    fs::remove_file(fake.path("var/lib/tatara/kubernetes/joined.json")).unwrap();
    // The release of this server was built without Kubernetes, which is found before anything is staged.
    assert_eq!(fake.stage(), Err(Code::KubernetesPayload));
    assert!(fake.staged().is_none());
}
