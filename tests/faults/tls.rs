//! The server's certificate.

use crate::site::{Site, gets_its_config, start};
use crate::{direct, good, refused};
use support::openssl::Tls11;
use support::pki::{Pki, Sends, VALID};
use support::trial::Trial;
use support::web::Greeting;
use tatara_spec::Code;

#[test]
fn pin_mismatch() {
    let mut setup = direct();
    setup.pin = Some(format!("sha256:{}", "0".repeat(64)));
    refused(
        Trial::new("tls", "another CA than the pinned one", setup),
        &good().text(),
        Code::TlsUntrusted,
        "sha256:",
    );
}

#[test]
fn wrong_certificates() {
    let site = Site::new();
    let mut trial = site.trial("tls", "no fault: the right certificate at last", "");
    let (pki, stranger) = (&site.web.pki, Pki::default());
    let name = "10.0.2.2";
    site.web.greets([
        Greeting::Tls(stranger.server(name, VALID, Sends::Chain)),
        Greeting::Tls(pki.server(name, (2001, 2011), Sends::Chain)),
        Greeting::Tls(pki.server(name, (2090, 2099), Sends::Chain)),
        Greeting::Tls(pki.server("boot.example", VALID, Sends::Chain)),
    ]);
    let (ours, theirs) = (pki.pin(), stranger.pin());
    let guest = start(&trial);
    trial.fails(&guest, "another CA", Code::TlsUntrusted, &[&ours, &theirs]);
    trial.fails(
        &guest,
        "an expired certificate",
        Code::TlsTime,
        &["the clock says 20", "expired 2011-01-01T00:00:00Z", "hardware clock"],
    );
    let says = ["the clock says 20", "valid from 2090-01-01T00:00:00Z"];
    trial.fails(&guest, "a certificate of the future", Code::TlsTime, &says);
    trial.fails(&guest, "another name", Code::TlsName, &["the URL says 10.0.2.2", "boot.example"]);
    gets_its_config(trial, guest);
}

#[test]
fn servers_that_send_too_little() {
    let site = Site::new();
    let mut trial = site.trial("tls", "no fault: the right certificate at last", "");
    let (pki, name) = (&site.web.pki, "10.0.2.2");
    let old = Tls11::start(pki, name);
    site.web.greets([
        Greeting::Tls(pki.server(name, VALID, Sends::RootOnly)),
        Greeting::Tls(pki.server(name, VALID, Sends::Nothing)),
        Greeting::Tls11,
        Greeting::Passed(old.address()),
    ]);
    let guest = start(&trial);
    let missing = ["a certificate between the server's and the trusted one is missing"];
    trial.fails(&guest, "an intermediate certificate missing", Code::TlsUntrusted, &missing);
    let alone = ["sends its own certificate alone"];
    trial.fails(&guest, "no CA certificate sent", Code::TlsUntrusted, &alone);
    let version = ["offers no TLS version that is taken here"];
    trial.fails(&guest, "TLS 1.1 only, from before TLS 1.2", Code::Tls, &version);
    trial.fails(&guest, "TLS 1.1 only (OpenSSL)", Code::Tls, &version);
    gets_its_config(trial, guest);
}
