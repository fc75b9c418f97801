//! What the tests share: a small CA hierarchy and a web server whose every byte the test decides.

use crate::dns::Servers;
use crate::fetch::{Client, Timing};
use crate::tls::Trust;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Root, intermediate, and what is needed to issue server certificates.
pub(crate) struct Pki {
    pub root: CertifiedIssuer<'static, KeyPair>,
    pub intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// The years between which a server's certificate is valid.
pub(crate) const VALID: (i32, i32) = (2020, 2100);

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca("root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(ca("intermediate"), KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, intermediate }
    }

    /// A server certificate for `name`, presented with intermediate and root.
    pub(crate) fn server(&self, name: &str, years: (i32, i32)) -> Arc<ServerConfig> {
        self.server_for(name, years, Arc::new(NoClientAuth))
    }

    /// The same, which lets in only who has a certificate of this root.
    pub(crate) fn server_for_clients(&self, name: &str) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        self.server_for(name, VALID, clients)
    }

    /// A client's certificate with its chain and key, PEM.
    pub(crate) fn identity(&self) -> String {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &self.intermediate).unwrap();
        format!("{}{}{}", leaf.pem(), self.intermediate.pem(), key.serialize_pem())
    }

    fn server_for(
        &self,
        name: &str,
        years: (i32, i32),
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        let chain: Vec<CertificateDer<'static>> =
            vec![leaf.der().clone(), self.intermediate.der().clone(), self.root.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

/// Serves: calls `answer` with the number of the request (from 0), its head, and where to write; then closes the connection.
pub(crate) fn serve(
    tls: Option<Arc<ServerConfig>>,
    mut answer: impl FnMut(usize, &str, &mut dyn Write) + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept() {
            let answered = match &tls {
                None => one(stream.try_clone().unwrap(), stream, |head, to| answer(number, head, to)),
                Some(config) => {
                    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                    let mut stream = StreamOwned::new(connection, stream);
                    let mut text = Vec::new();
                    read_head(&mut stream, &mut text).then(|| {
                        answer(number, &String::from_utf8(text).unwrap(), &mut stream);
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    })
                }
            };
            number += usize::from(answered.is_some());
        }
    });
    address
}

fn one(from: impl Read, mut to: impl Write, answer: impl FnOnce(&str, &mut dyn Write)) -> Option<()> {
    let mut text = Vec::new();
    read_head(&mut BufReader::new(from), &mut text)
        .then(|| answer(&String::from_utf8(text).unwrap(), &mut to))
}

/// Reads to the empty line that ends a request's head. The bodies that the tests send are not needed.
fn read_head(from: &mut impl Read, text: &mut Vec<u8>) -> bool {
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        match from.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// An answer with a length and more header lines.
pub(crate) fn respond(to: &mut dyn Write, status: &str, headers: &[&str], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    // The client may have seen enough and be gone.
    let _ = to.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| to.write_all(body));
}

/// A client of little patience.
pub(crate) fn client(trust: Trust) -> Client {
    let timing = Timing {
        connect: Duration::from_secs(5),
        stall: Duration::from_secs(2),
        whole: Duration::from_secs(20),
        first_retry: Duration::from_millis(2),
    };
    Client::new(trust.client().unwrap(), Servers::default(), timing).unwrap()
}
