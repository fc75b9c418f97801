//! A server that speaks no TLS above 1.1: OpenSSL's own, told so. rustls knows none below 1.2.

use crate::pki::Pki;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// It ends with the value.
pub struct Tls11 {
    server: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Tls11 {
    /// Starts one on loopback, with a certificate of this CA for `name`.
    ///
    /// # Panics
    /// When OpenSSL does not start.
    #[must_use]
    pub fn start(pki: &Pki, name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (chain, key) = pki.pem(name);
        fs::write(dir.path().join("chain.pem"), chain).expect("a certificate");
        fs::write(dir.path().join("key.pem"), key).expect("a key");
        let mut command = Command::new("openssl");
        // Security level 1 and above refuse the SHA-1 of TLS 1.1 (SSL_CTX_set_security_level(3)).
        command.args(["s_server", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0", "-accept", "127.0.0.1:0"]);
        command.args(["-cert", "chain.pem", "-cert_chain", "chain.pem", "-key", "key.pem", "-www"]);
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().expect("openssl s_server");
        let lines = BufReader::new(server.stdout.take().expect("its output")).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok())
            .expect("openssl's address");
        Self { server, address, _dir: dir }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tls11 {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
