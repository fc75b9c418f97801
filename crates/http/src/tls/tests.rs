//! Real handshakes with servers made on the spot.

use super::*;
use crate::dns::Servers;
use crate::fetch::{Authenticity, Client, File, Timing};
use crate::testing::{Pki, VALID, client, respond, serve};
use rustls::ServerConfig;

fn fetch(trust: Trust, server: Arc<ServerConfig>) -> Result<Vec<u8>, Fault> {
    let address = serve(Some(server), |_, _, to| respond(to, "200 OK", &[], b"genuine"));
    let url = format!("https://{address}/node.yaml");
    client(trust).get(&File { url: &url, what: "config", limit: 100, authenticity: Authenticity::Connection })
}

fn pinned(certificate: &CertificateDer<'_>) -> Trust {
    Trust { pins: vec![pin(certificate).unwrap()], roots: Vec::new() }
}

fn chain_of(result: Result<Vec<u8>, Fault>, code: Code) -> String {
    let fault = result.unwrap_err();
    assert_eq!(fault.code, code, "{}", fault.chain());
    fault.chain()
}

#[test]
fn a_pinned_ca_of_the_chain_is_enough() {
    let pki = Pki::new();
    let server = pki.server("127.0.0.1", VALID);
    assert_eq!(fetch(pinned(pki.root.der()), Arc::clone(&server)).unwrap(), b"genuine");
    assert_eq!(fetch(pinned(pki.intermediate.der()), server).unwrap(), b"genuine");
}

#[test]
fn a_root_of_the_initramfs_is_enough() {
    let pki = Pki::new();
    let trust = Trust::new(Vec::new(), Some(pki.root.pem().as_bytes())).unwrap();
    assert_eq!(fetch(trust, pki.server("127.0.0.1", VALID)).unwrap(), b"genuine");
    assert_eq!(Trust::new(Vec::new(), Some(b"nothing")).unwrap_err().code, Code::Tls);
}

#[test]
fn a_foreign_ca_is_refused_and_its_pins_are_shown() {
    let (pki, other) = (Pki::new(), Pki::new());
    let text = chain_of(fetch(pinned(other.root.der()), pki.server("127.0.0.1", VALID)), Code::TlsUntrusted);
    assert!(text.contains(&pin(pki.root.der()).unwrap().to_string()), "{text}");
    assert!(text.contains(&pin(other.root.der()).unwrap().to_string()), "{text}");

    let roots = Trust { pins: Vec::new(), roots: vec![other.root.der().clone()] };
    chain_of(fetch(roots, pki.server("127.0.0.1", VALID)), Code::TlsUntrusted);
    chain_of(fetch(Trust::default(), pki.server("127.0.0.1", VALID)), Code::TlsUntrusted);
}

#[test]
fn a_pinned_ca_that_did_not_sign_is_refused() {
    // The chain of one hierarchy with the root of another appended: the pin is presented, but vouches for nothing.
    let (pki, other) = (Pki::new(), Pki::new());
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &pki.intermediate).unwrap();
    let chain = vec![leaf.der().clone(), pki.intermediate.der().clone(), other.root.der().clone()];
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key.serialize_der().try_into().unwrap())
        .unwrap();
    chain_of(fetch(pinned(other.root.der()), Arc::new(server)), Code::TlsUntrusted);
}

#[test]
fn dates_are_compared_with_the_clock_in_the_message() {
    let pki = Pki::new();
    let expired =
        chain_of(fetch(pinned(pki.root.der()), pki.server("127.0.0.1", (2001, 2011))), Code::TlsTime);
    assert!(expired.contains("expired 2011-01-01T00:00:00Z"), "{expired}");
    let future =
        chain_of(fetch(pinned(pki.root.der()), pki.server("127.0.0.1", (2090, 2100))), Code::TlsTime);
    assert!(future.contains("valid from 2090-01-01T00:00:00Z"), "{future}");
    assert!(future.contains("the clock says 20"), "{future}");
}

#[test]
fn another_name_shows_both() {
    let pki = Pki::new();
    let text = chain_of(fetch(pinned(pki.root.der()), pki.server("boot.example", VALID)), Code::TlsName);
    assert!(text.contains("127.0.0.1") && text.contains("boot.example"), "{text}");
}

#[test]
fn no_tls_at_all_is_a_tls_failure() {
    let address = serve(None, |_, _, to| respond(to, "200 OK", &[], b"plain"));
    let url = format!("https://{address}/");
    let file = File { url: &url, what: "config", limit: 100, authenticity: Authenticity::Connection };
    assert!(client(Trust::default()).get(&file).is_err());
}

#[test]
fn who_is_asked_shows_a_certificate() {
    let (pki, other) = (Pki::new(), Pki::new());
    let fetch_as = |identity: &str| {
        let server = pki.server_for_clients("127.0.0.1");
        let address = serve(Some(server), |_, _, to| respond(to, "200 OK", &[], b"genuine"));
        let url = format!("https://{address}/token");
        let file = File { url: &url, what: "token", limit: 100, authenticity: Authenticity::Connection };
        let tls = pinned(pki.root.der()).client_as(identity.as_bytes())?;
        Client::new(tls, Servers::default(), Timing::default())?.get(&file)
    };
    assert_eq!(fetch_as(&pki.identity()).unwrap(), b"genuine");
    chain_of(fetch_as(&other.identity()), Code::TlsClient);
    chain_of(fetch(pinned(pki.root.der()), pki.server_for_clients("127.0.0.1")), Code::TlsClient);

    let (one, two) = (pki.identity(), pki.identity());
    let key = |pem: &str| pem[pem.find("-----BEGIN PRIVATE").unwrap()..].to_owned();
    let mixed = one.replace(&key(&one), &key(&two));
    chain_of(fetch_as(&mixed), Code::JoinIdentity);
    let text = chain_of(fetch_as(&key(&one)), Code::JoinIdentity);
    assert!(!text.contains(&key(&one)[40..60]), "{text}");
}
