//! The server as a machine sees it.

use super::{Options, Server};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Certificate, Client, StatusCode};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tatara_spec::release::Digest;
use tempfile::TempDir;

const KERNEL: &[u8] = b"not really a kernel";

struct Fixture {
    dir: TempDir,
    server: Server,
    lines: Arc<Mutex<Vec<String>>>,
    client: Client,
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir.join("served"), "127.0.0.1:0".parse().unwrap());
    options.http_listen = Some("127.0.0.1:0".parse().unwrap());
    options.names = vec!["boot.example".to_owned(), "192.0.2.1".to_owned()];
    options.state = Some(dir.join("state"));
    options.kernel_args = vec!["console=ttyS0".to_owned()];
    options
}

fn client(server: &Server) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

fn fixture() -> Fixture {
    let dir = TempDir::new().unwrap();
    let served = dir.path().join("served");
    write(&served.join("vmlinuz"), KERNEL);
    write(&served.join("initramfs.zst"), b"initramfs");
    write(&served.join("r1/vmlinuz"), KERNEL);
    write(&served.join("r1/snponly.efi"), b"loader");
    write(&served.join("r1/deep/vmlinuz"), KERNEL);
    write(&served.join("nodes/52:54:00:12:34:56.yaml"), b"kind: NodeConfig\n");
    write(&served.join(".hidden/key"), b"secret");
    write(&dir.path().join("outside"), b"secret");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let mut options = options(dir.path());
    options.log = Arc::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let server = Server::start(options).unwrap();
    let client = client(&server);
    Fixture { dir, server, lines, client }
}

impl Fixture {
    fn https(&self, path: &str) -> String {
        format!("https://{}{path}", self.server.https())
    }

    fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.http().unwrap())
    }

    async fn get(&self, url: &str) -> (StatusCode, Vec<u8>) {
        let answer = self.client.get(url).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }
}

/// A request as it is, past a client's own clean-up of paths.
fn raw_http(fixture: &Fixture, path: &str) -> String {
    let mut stream = TcpStream::connect(fixture.server.http().unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn raw_https(fixture: &Fixture, path: &str) -> (String, Vec<Vec<u8>>) {
    let mut roots = RootCertStore::empty();
    let (_, pem) = x509_parser::pem::parse_x509_pem(fixture.server.ca_pem().as_bytes()).unwrap();
    roots.add(pem.contents.into()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("boot.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(fixture.server.https()).unwrap());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let chain =
        stream.conn.peer_certificates().unwrap().iter().map(|certificate| certificate.to_vec()).collect();
    (answer, chain)
}

#[tokio::test]
async fn a_range_is_served_as_such_and_logged() {
    let fixture = fixture();
    let request = fixture.client.get(fixture.https("/vmlinuz")).header(RANGE, "bytes=4-9");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.headers()[CONTENT_RANGE], format!("bytes 4-9/{}", KERNEL.len()));
    assert_eq!(answer.bytes().await.unwrap(), KERNEL[4..10]);
    let beyond =
        fixture.client.get(fixture.https("/vmlinuz")).header(RANGE, "bytes=900-").send().await.unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);

    let Fixture { server, lines, .. } = fixture;
    tokio::task::spawn_blocking(|| server.stop()).await.unwrap().unwrap();
    let lines = lines.lock().unwrap();
    assert!(lines[0].starts_with("GET /vmlinuz range=bytes=4-9 status=206 bytes=6 ms="), "{lines:?}");
}

#[tokio::test]
async fn configs_are_served_over_https_only() {
    let fixture = fixture();
    let config = "/nodes/52:54:00:12:34:56.yaml";
    assert_eq!(fixture.get(&fixture.https(config)).await, (StatusCode::OK, b"kind: NodeConfig\n".to_vec()));
    assert_eq!(fixture.get(&fixture.http(config)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(
        fixture.get(&fixture.http("/nodes/52%3A54%3A00%3A12%3A34%3A56.yaml")).await.0,
        StatusCode::FORBIDDEN
    );
    // A parser that disagrees with ours about what the file's name is must not get around the rule.
    assert_eq!(
        fixture.get(&fixture.http("/nodes/vmlinuz/../52:54:00:12:34:56.yaml")).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn firmware_gets_kernel_loader_and_script_over_http() {
    let fixture = fixture();
    for path in ["/vmlinuz", "/r1/vmlinuz", "/initramfs.zst", "/r1/snponly.efi"] {
        assert_eq!(fixture.get(&fixture.http(path)).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(fixture.get(&fixture.http("/r1/deep/vmlinuz")).await.0, StatusCode::FORBIDDEN);
    let (status, script) = fixture.get(&fixture.http("/boot.ipxe")).await;
    let script = String::from_utf8(script).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(script.starts_with("#!ipxe\n"), "{script}");
    let arguments = fixture.server.kernel_arguments().join(" ");
    assert!(script.contains(&format!("kernel vmlinuz initrd=initramfs.zst {arguments}\n")), "{script}");
    let port = fixture.server.https().port();
    let pin = fixture.server.pin();
    let expected = format!(
        "tatara.config=https://boot.example:{port}/nodes/${{mac}}.yaml tatara.ca=sha256:{pin} console=ttyS0"
    );
    assert_eq!(arguments, expected);
    assert_eq!(fixture.get(&fixture.http("/nodes/boot.ipxe")).await.0, StatusCode::NOT_FOUND);
}

#[test]
fn paths_do_not_lead_out_or_to_hidden_files() {
    let fixture = fixture();
    for path in [
        "/../outside",
        "/..%2foutside",
        "/%2e%2e/outside",
        "/nodes/../../outside",
        "/.hidden/key",
        "/%2ehidden/key",
        "//etc/passwd",
        "/nodes",
        "/nodes/",
        "/",
        "/nodes%5c..%5c..%5coutside",
        "/%ff",
    ] {
        let (answer, _) = raw_https(&fixture, path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(!answer.contains("secret") && !answer.contains("52:54"), "{path}: {answer}");
        let answer = raw_http(&fixture, path);
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
}

#[test]
fn the_pin_is_that_of_the_ca_which_is_sent_along() {
    use sha2::Digest as _;
    let fixture = fixture();
    let (answer, chain) = raw_https(&fixture, "/vmlinuz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(chain.len(), 2, "leaf and CA");
    let (_, ca) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
    assert!(ca.is_ca());
    assert_eq!(Digest(sha2::Sha256::digest(ca.public_key().raw).into()), fixture.server.pin());
}

#[tokio::test]
async fn another_ca_is_not_trusted() {
    let (ours, other) = (fixture(), fixture());
    assert_ne!(ours.server.pin(), other.server.pin());
    assert!(other.client.get(ours.https("/vmlinuz")).send().await.is_err());
}

#[test]
fn the_ca_is_kept_with_its_key_unreadable_for_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("served")).unwrap();
    let first = Server::start(options(dir.path())).unwrap();
    let second = Server::start(options(dir.path())).unwrap();
    assert_eq!(first.pin(), second.pin());
    let key = std::fs::metadata(dir.path().join("state/ca-key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_state_below_the_served_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path());
    options.state = Some(dir.path().join("served/state"));
    std::fs::create_dir(dir.path().join("served")).unwrap();
    let error = Server::start(options).err().unwrap();
    assert!(format!("{error:#}").contains("below the served one"), "{error:#}");
    assert!(!dir.path().join("served/state/ca-key.pem").exists());
}

#[test]
fn the_banner_names_addresses_pin_and_directory() {
    let fixture = fixture();
    let (https, http) = (fixture.server.https(), fixture.server.http().unwrap());
    let dir = fixture.dir.path().join("served").canonicalize().unwrap();
    let pin = fixture.server.pin();
    let expected =
        format!("tatara: serving https={https} http={http} pin=sha256:{pin} dir={}", dir.display());
    assert_eq!(fixture.server.banner(), expected);
}
