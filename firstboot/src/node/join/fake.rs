//! A cluster for tests: an API server whose answers the test decides, and programs that do what kubeadm does, or fail.

use crate::node::Node;
use crate::node::system::System;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(super) const TOKEN: &str = "abcdef.0123456789abcdef";
pub(super) const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

/// What the API server answers.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    /// Of everything, when it is not 200.
    pub(super) status: u16,
    /// Ids of tokens that it signs with.
    pub(super) tokens: Vec<&'static str>,
    /// The Node of our name: Ready or not, and its machine id.
    pub(super) node: Option<(bool, &'static str)>,
    /// What `tokenFrom` gives.
    pub(super) token_from: String,
}

pub(super) struct Fake {
    pub(super) root: tempfile::TempDir,
    pub(super) answers: Arc<Mutex<Answers>>,
    /// Paths that were asked for, with the credential.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    pub(super) system: System,
    pub(super) ca_hash: String,
    /// Base64 of PEM, as in a kubeconfig.
    pub(super) ca: String,
    pub(super) port: u16,
    /// Certificate and key of a client that the CA knows, PEM.
    pub(super) identity: String,
}

impl Fake {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let answers = Answers { status: 200, tokens: vec!["abcdef"], node: None, token_from: String::new() };
        let (answers, asked) = (Arc::new(Mutex::new(answers)), Arc::new(Mutex::new(Vec::new())));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pem = STANDARD.encode(ca.pem());
        let ca_data = pem.clone();
        let tls = tls(&ca);
        let identity = identity(&ca);
        let (shared, log) = (Arc::clone(&answers), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream =
                    StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).unwrap(), stream.unwrap());
                // A client that leaves is no failure of the server.
                let _ = serve(&mut stream, &shared.lock().unwrap().clone(), &pem, &log);
            }
        });
        let ca_hash = format!("sha256:{}", tatara_http::tls::pin(ca.der()).unwrap());
        let system = System {
            kubeadm: root.path().join("kubeadm"),
            ctr: root.path().join("ctr"),
            journalctl: root.path().join("journalctl"),
            kubelet_health: healthy(),
            ..System::default()
        };
        let fake = Self { root, answers, asked, system, ca_hash, ca: ca_data, port, identity };
        fake.put("kubeadm", &script(fake.root.path()));
        fs::set_permissions(&fake.system.kubeadm, fs::Permissions::from_mode(0o755)).unwrap();
        fake.put("var/lib/tatara/machine-id", MACHINE_ID);
        fake.put(
            "usr/lib/tatara/versions.json",
            r#"{"kubernetes": "1.31.4", "containerd": "2.0.1", "runc": null}"#,
        );
        fake.put("proc/cmdline", &format!("quiet tatara.ca={}", fake.ca_hash));
        fake.config(&format!("token: {TOKEN}"));
        fake
    }

    /// Writes the node's config, which joins by `how`.
    pub(super) fn config(&self, how: &str) {
        let hash = &self.ca_hash;
        self.config_with(&format!("{{{how}, caCertHashes: ['{hash}']}}"));
    }

    pub(super) fn config_with(&self, join: &str) {
        let text = format!(
            "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {{name: node-1}}\n\
             install: {{release: {{url: r.json}}}}\nkubernetes:\n  endpoint: '127.0.0.1:{}'\n  join: {join}\n",
            self.port
        );
        self.put("var/lib/tatara/config.yaml", &text);
    }

    pub(super) fn node(&self) -> Node {
        Node::new(self.root.path().to_owned())
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn answer(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    /// What kubeadm was told to do, in order.
    pub(super) fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default().replace('\n', " ").trim().to_owned()
    }

    /// Files below the root that hold a text.
    pub(super) fn holding(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(self.root.path(), text.as_bytes(), &mut found);
        found
    }
}

fn collect(directory: &Path, text: &[u8], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text, found);
        } else if fs::read(&path).unwrap().windows(text.len()).any(|window| window == text) {
            found.push(path);
        }
    }
}

/// Leaves what kubeadm leaves; with a file `fail`, it says that and fails, once.
fn script(root: &Path) -> String {
    let root = root.display();
    format!(
        r#"#!/bin/sh
echo "$1" >> {root}/calls
case "$1" in
reset) rm -rf {root}/etc/kubernetes {root}/var/lib/kubelet;;
join)
    stat -c %a "$3" > {root}/config.mode
    mkdir -p {root}/etc/kubernetes {root}/var/lib/kubelet
    echo > {root}/var/lib/kubelet/config.yaml
    cat "$3"
    test -e {root}/etc/kubernetes/bootstrap-kubelet.conf && exit 9
    cat "$3" > {root}/etc/kubernetes/bootstrap-kubelet.conf
    readlink {root}/etc/kubernetes/bootstrap-kubelet.conf > {root}/bootstrap.link
    if test -e {root}/fail; then cat {root}/fail; rm {root}/fail; exit 1; fi
    echo > {root}/etc/kubernetes/kubelet.conf;;
esac
"#
    )
}

fn identity(ca: &CertifiedIssuer<'static, KeyPair>) -> String {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(Vec::new()).unwrap().signed_by(&key, ca).unwrap();
    leaf.pem() + &key.serialize_pem()
}

fn tls(ca: &CertifiedIssuer<'static, KeyPair>) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let clients = clients.allow_unauthenticated().build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![leaf.der().clone(), ca.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

/// A kubelet that is well.
fn healthy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok");
        }
    });
    address
}

fn serve(
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    answers: &Answers,
    pem: &str,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    // Asked for, but not demanded: most of what is served is for everybody.
    let known = stream.conn.peer_certificates().is_some();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let path = if known { path } else { path.replace("/private/", "/refused/") };
    let bearer = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
    log.lock().unwrap().push(format!("{path} {}", bearer.unwrap_or("-")));
    let (status, body) =
        if answers.status == 200 { answer(answers, &path, pem) } else { (answers.status, "no".to_owned()) };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn answer(answers: &Answers, path: &str, pem: &str) -> (u16, String) {
    match path.rsplit('/').next().unwrap_or_default() {
        "cluster-info" => {
            let kubeconfig = format!(
                "clusters:\n- name: ''\n  cluster:\n    certificate-authority-data: {pem}\n    server: https://x\n"
            );
            let mut data = json!({"kubeconfig": kubeconfig});
            for id in &answers.tokens {
                data[format!("jws-kubeconfig-{id}")] = json!("signature");
            }
            (200, json!({"kind": "ConfigMap", "data": data}).to_string())
        }
        "readyz" => (200, "ok".to_owned()),
        "token" if path.starts_with("/refused/") => (401, "who are you?".to_owned()),
        "token" => (200, answers.token_from.clone()),
        _ => match answers.node {
            None => (404, "{}".to_owned()),
            Some((ready, machine_id)) => {
                let status = if ready { "True" } else { "Unknown" };
                let conditions = json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": status}]);
                (
                    200,
                    json!({"status": {"conditions": conditions, "nodeInfo": {"machineID": machine_id}}})
                        .to_string(),
                )
            }
        },
    }
}
