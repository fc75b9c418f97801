//! The server's certificate, and the clock that judges it.

use crate::{direct, good, refused};
use support::trial::Trial;
use tatara_spec::Code;

#[test]
fn wrong_ca() {
    let mut setup = direct();
    setup.pin = Some(format!("sha256:{}", "0".repeat(64)));
    refused(
        Trial::new("tls", "another CA than the pinned one", setup),
        &good().text(),
        Code::TlsUntrusted,
        "sha256:",
    );
}
