//! Verification of a server's chain against pins and roots, and refusals that say what to compare.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tatara_spec::Code;
use tatara_spec::release::Digest;

/// Why a server's certificate was refused; it travels inside the TLS error to where the request was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// [`Code::TlsUntrusted`], [`Code::TlsName`], [`Code::TlsTime`] or [`Code::Tls`].
    pub code: Code,
    /// What was presented and what was expected.
    pub message: String,
}

impl Refusal {
    fn error(code: Code, message: impl Into<String>) -> Error {
        let refusal = Self { code, message: message.into() };
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// The pin of a certificate: SHA-256 of its DER SubjectPublicKeyInfo. `None` when it is not an X.509 v3 certificate.
#[must_use]
pub fn pin(certificate: &CertificateDer<'_>) -> Option<Digest> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(Digest(Sha256::digest(parsed.subject_public_key_info()).into()))
}

/// Trusts the pinned certificates of the presented chain, and the roots; webpki does the rest.
#[derive(Debug)]
pub(super) struct Verifier {
    pins: Vec<Digest>,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(pins: Vec<Digest>, roots: RootCertStore, provider: Arc<CryptoProvider>) -> Self {
        Self { pins, roots, provider }
    }

    /// The roots, and those presented CA certificates whose pin is known. The server's own certificate is no CA.
    fn anchors(&self, presented: &[CertificateDer<'_>]) -> RootCertStore {
        let mut anchors = self.roots.clone();
        for certificate in presented {
            if pin(certificate).is_some_and(|pin| self.pins.contains(&pin)) {
                // One that webpki cannot read is left out, so that nothing is trusted because of it.
                let _ = anchors.add(certificate.clone().into_owned());
            }
        }
        anchors
    }

    fn refuse(&self, error: Error, chain: &[&CertificateDer<'_>]) -> Error {
        match error {
            // A CA made anew under the old name shows as a bad signature.
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                self.untrusted(chain)
            }
            Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
                Refusal::error(
                    Code::TlsTime,
                    format!("the clock says {}, the certificate expired {}", date(time), date(not_after)),
                )
            }
            Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
                Refusal::error(
                    Code::TlsTime,
                    format!(
                        "the clock says {}, the certificate is valid from {}",
                        date(time),
                        date(not_before)
                    ),
                )
            }
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
                Refusal::error(Code::TlsName, wrong_name(&expected, &presented))
            }
            other => other,
        }
    }

    /// What a server that sends too little of its chain has forgotten: a pin is looked for in what is sent.
    fn gap(&self, chain: &[&CertificateDer<'_>]) -> &'static str {
        let trusted =
            |certificate: &&CertificateDer<'_>| pin(certificate).is_some_and(|pin| self.pins.contains(&pin));
        if chain.len() == 1 {
            "; the server sends its own certificate alone, without the CAs that signed it"
        } else if chain.iter().skip(1).any(trusted) {
            "; a certificate between the server's and the trusted one is missing, or the trusted one did not sign it"
        } else {
            ""
        }
    }

    /// Its checks are the same whoever is trusted.
    fn handshake(&self) -> Anyone {
        Anyone(Arc::clone(&self.provider))
    }

    fn untrusted(&self, chain: &[&CertificateDer<'_>]) -> Error {
        let presented: Vec<String> = chain
            .iter()
            .map(|certificate| {
                pin(certificate).map_or_else(|| "(unreadable)".to_owned(), |p| format!("sha256:{p}"))
            })
            .collect();
        let trusted: Vec<String> = self.pins.iter().map(|pin| format!("sha256:{pin}")).collect();
        let expected = match (trusted.is_empty(), self.roots.len()) {
            (true, roots) => format!("one of {roots} known CAs was expected"),
            (false, 0) => format!("expected {}", trusted.join(" or ")),
            (false, roots) => format!("expected {} or one of {roots} known CAs", trusted.join(" or ")),
        };
        let why = self.gap(chain);
        Refusal::error(
            Code::TlsUntrusted,
            format!("the server's chain has the pins {}; {expected}{why}", presented.join(", ")),
        )
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<&CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).collect();
        let anchors = self.anchors(intermediates);
        if anchors.is_empty() {
            return Err(self.untrusted(&chain));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&self.provider))
            .build()
            .map_err(|e| Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|e| self.refuse(e, &chain))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.handshake().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.handshake().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.handshake().supported_verify_schemes()
    }
}

/// Takes whoever answers; the handshake's signatures are checked all the same.
#[derive(Debug)]
pub(super) struct Anyone(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn date(time: UnixTime) -> String {
    crate::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let names = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
    format!("the URL says {}, the certificate is for {names}", expected.to_str())
}
