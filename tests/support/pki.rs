//! Certificates for the tests' own web server: right ones, and wrong ones of every kind.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tatara_spec::release::Digest;

/// Years between which no test's clock falls out.
pub const VALID: (i32, i32) = (2000, 2099);

/// A root CA and one below it, which signs servers.
pub struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// What a server sends beside its own certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Intermediate and root.
    Chain,
    /// The root: what is between is missing.
    RootOnly,
    /// Nothing.
    Nothing,
}

/// `sha256:HEX` of the public key of the certificate in a PEM file.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn pin_of(pem: &[u8]) -> String {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).expect("PEM");
    let certificate = block.parse_x509().expect("a certificate");
    format!("sha256:{}", Digest(Sha256::digest(certificate.public_key().raw).into()))
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    years(&mut params, VALID);
    params
}

fn years(params: &mut CertificateParams, (from, to): (i32, i32)) {
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

impl Default for Pki {
    fn default() -> Self {
        let root = CertifiedIssuer::self_signed(ca("test root"), key()).expect("a root CA");
        let intermediate = CertifiedIssuer::signed_by(ca("test intermediate"), key(), &root);
        Self { root, intermediate: intermediate.expect("an intermediate CA") }
    }
}

impl Pki {
    /// `sha256:HEX` of the root's public key, for `tatara.ca=`.
    #[must_use]
    pub fn pin(&self) -> String {
        let key = self.root.key().subject_public_key_info();
        format!("sha256:{}", Digest(Sha256::digest(key).into()))
    }

    /// The certificates and the key of a server of this name or address, in PEM.
    ///
    /// # Panics
    /// When the name is none.
    #[must_use]
    pub fn pem(&self, name: &str) -> (String, String) {
        let (leaf, key) = self.leaf(name, VALID);
        (format!("{}{}{}", leaf.pem(), self.intermediate.pem(), self.root.pem()), key.serialize_pem())
    }

    fn leaf(&self, name: &str, valid: (i32, i32)) -> (Certificate, KeyPair) {
        let key = key();
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        years(&mut params, valid);
        (params.signed_by(&key, &self.intermediate).expect("a certificate"), key)
    }

    /// TLS for a server of this name or address, valid from the begin of one year to the begin of another.
    #[must_use]
    pub fn server(&self, name: &str, valid: (i32, i32), sends: Sends) -> Arc<ServerConfig> {
        let (leaf, key) = self.leaf(name, valid);
        let mut chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
        match sends {
            Sends::Chain => chain.extend([self.intermediate.der().clone(), self.root.der().clone()]),
            Sends::RootOnly => chain.push(self.root.der().clone()),
            Sends::Nothing => {}
        }
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(chain, key.into());
        Arc::new(config.expect("a server's certificate"))
    }
}
