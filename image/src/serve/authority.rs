//! The server's own CA: made once, kept, and pinned by the machines.

use anyhow::{Context, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use tatara_spec::release::Digest;

/// The CA's key, PKCS #8 in PEM, mode 0600.
const KEY_FILE: &str = "ca-key.pem";
/// Its certificate, for browsers and curl.
const CERTIFICATE_FILE: &str = "ca.pem";

/// A CA with its key.
pub(super) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Reads the CA's key from a directory, or makes one there. The certificate follows from the key.
    pub(super) fn open(state: &Path) -> anyhow::Result<Self> {
        let key = read_or_make_key(&state.join(KEY_FILE))?;
        let params = params();
        let certificate = params.self_signed(&key).context("signing the CA's certificate")?;
        let pem = certificate.pem();
        let path = state.join(CERTIFICATE_FILE);
        std::fs::write(&path, &pem)
            .with_context(|| format!("writing the CA's certificate to {}", path.display()))?;
        Ok(Self { params, key, certificate: certificate.der().clone(), pem })
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo, as `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum`.
    pub(super) fn pin(&self) -> Digest {
        Digest(Sha256::digest(self.key.subject_public_key_info()).into())
    }

    /// The certificate in PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS 1.2 and 1.3 with a new leaf for these names and addresses. The CA is sent along: a machine that knows only the pin finds
    /// the pinned key in it.
    pub(super) fn tls_config(&self, hosts: &[String]) -> anyhow::Result<Arc<ServerConfig>> {
        let key = KeyPair::generate().context("making the server's key")?;
        let mut params = CertificateParams::new(hosts).context("taking the names into the certificate")?;
        set_validity(&mut params);
        params.distinguished_name = name("tatara serve");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = params.signed_by(&key, &issuer).context("signing the server's certificate")?;

        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("choosing TLS versions")?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .context("using the server's certificate")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    set_validity(&mut params);
    params.distinguished_name = name("tatara serve CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// The pin is the trust, and machines come with wrong clocks: dates would only add a way to fail.
fn set_validity(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
}

fn read_or_make_key(path: &Path) -> anyhow::Result<KeyPair> {
    match std::fs::read_to_string(path) {
        Ok(pem) => {
            KeyPair::from_pem(&pem).with_context(|| format!("reading the CA's key {}", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make_key(path),
        Err(error) => Err(error).with_context(|| format!("reading the CA's key {}", path.display())),
    }
}

/// Makes the key in one step: it is there whole or not at all, and of two servers that start at once the second takes the first's.
fn make_key(path: &Path) -> anyhow::Result<KeyPair> {
    let key = KeyPair::generate().context("making the CA's key")?;
    let dir = path.parent().ok_or_else(|| anyhow!("{} has no directory", path.display()))?;
    let context = || format!("keeping the CA's key in {}", path.display());
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir).with_context(context)?;
    file.write_all(key.serialize_pem().as_bytes()).with_context(context)?;
    file.as_file().sync_all().with_context(context)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(key),
        Err(lost) if lost.error.kind() == ErrorKind::AlreadyExists => {
            let pem = std::fs::read_to_string(path).with_context(context)?;
            KeyPair::from_pem(&pem).with_context(|| format!("reading the CA's key {}", path.display()))
        }
        Err(lost) => Err(lost.error).with_context(context),
    }
}
