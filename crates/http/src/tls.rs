//! Whom we trust over TLS: pinned CAs, CAs of the initramfs, or Mozilla's list.

mod verifier;

pub use verifier::{Refusal, pin};

use rustls::RootCertStore;
use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder};
use std::sync::Arc;
use tatara_spec::release::Digest;
use tatara_spec::{Code, Fault};
use verifier::Verifier;

/// The CAs to trust. With neither pins nor roots, Mozilla's list is trusted; with any, it is not.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// SHA-256 of the DER SubjectPublicKeyInfo of a CA in the presented chain, as kubeadm's `caCertHashes`
    /// (<https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/>, RFC 7469 section 2.4).
    pub pins: Vec<Digest>,
    /// Whole CA certificates.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Trust in pins and in the certificates of a PEM file (`/etc/tatara/ca.pem`).
    ///
    /// # Errors
    /// [`Code::Tls`] when the file is not PEM or holds no certificate.
    pub fn new(pins: Vec<Digest>, pem: Option<&[u8]>) -> Result<Self, Fault> {
        let Some(pem) = pem else {
            return Ok(Self { pins, roots: Vec::new() });
        };
        let roots = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Fault::caused(Code::Tls, "the CA file of the initramfs is not PEM", e))?;
        if roots.is_empty() {
            return Err(Fault::new(Code::Tls, "the CA file of the initramfs holds no certificate"));
        }
        Ok(Self { pins, roots })
    }

    /// The TLS client that trusts these CAs: TLS 1.2 and 1.3, ring.
    ///
    /// # Errors
    /// [`Code::Tls`] when a CA certificate cannot be used.
    pub fn client(self) -> Result<Arc<ClientConfig>, Fault> {
        Ok(Arc::new(self.builder()?.with_no_client_auth()))
    }

    /// The same, which says who it is to servers that ask (RFC 8446 section 4.4.2): `identity` is PEM with a certificate, its chain, and its
    /// private key.
    ///
    /// # Errors
    /// [`Code::JoinIdentity`] when that cannot be used, and those of [`Self::client`].
    pub fn client_as(self, identity: &[u8]) -> Result<Arc<ClientConfig>, Fault> {
        let unusable = |error: &dyn std::fmt::Display| {
            Fault::new(Code::JoinIdentity, format!("`join.identity` is not usable: {error}"))
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity).collect();
        let chain = chain.map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(identity).map_err(|error| unusable(&error))?;
        let client = self.builder()?.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?;
        Ok(Arc::new(client))
    }

    fn builder(self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Fault> {
        let mut roots = RootCertStore::empty();
        if self.pins.is_empty() && self.roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for root in self.roots {
            roots
                .add(root)
                .map_err(|e| Fault::caused(Code::Tls, "a CA certificate of the initramfs is unusable", e))?;
        }
        let provider = Arc::new(ring::default_provider());
        Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Fault::caused(Code::Tls, "TLS could not be set up", e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(self.pins, roots, provider))))
    }
}

/// A TLS client that takes any certificate: for what is public, and is verified by other means once it has been read.
///
/// # Errors
/// [`Code::Tls`].
pub fn unverified() -> Result<Arc<ClientConfig>, Fault> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Fault::caused(Code::Tls, "TLS could not be set up", e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier::Anyone(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
