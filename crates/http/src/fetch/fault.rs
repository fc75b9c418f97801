//! From errors of the HTTP stack to faults with a code: the stack nests them deeply and repeats itself.

use crate::tls::Refusal;
use reqwest::{StatusCode, Url};
use rustls::{AlertDescription, CertificateError};
use std::error::Error;
use std::io;
use tatara_spec::{Code, Fault, redact};

/// What is being done to which URL; every fault of it starts with this.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// `the config could not be fetched from https://…`.
    message: String,
    /// Host and port.
    server: String,
}

/// Why: the cause of a fault, without the layers between.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Reason(String);

impl Target {
    pub(super) fn new(action: &str, url: &Url) -> Self {
        let port = url.port_or_known_default().unwrap_or_default();
        let server = format!("{}:{port}", url.host_str().unwrap_or_default());
        Self { message: format!("{action} ({})", redact::urls(url.as_str())), server }
    }

    /// A fault whose cause is said in words.
    pub(super) fn reason(&self, code: Code, reason: impl Into<String>) -> Fault {
        Fault::caused(code, self.message.clone(), Reason(reason.into()))
    }

    pub(super) fn status(&self, status: StatusCode) -> Fault {
        self.reason(Code::HttpStatus, format!("{} answered {status}", self.server))
    }

    /// The fault for an error of the HTTP stack.
    pub(super) fn fault(&self, error: &reqwest::Error) -> Fault {
        if let Some(fault) = find::<Fault>(error) {
            return self.reason(fault.code, fault.chain());
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            let (code, reason) = tls_reason(tls);
            return self.reason(code, format!("{}: {reason}", self.server));
        }
        if error.is_connect() {
            return self.reason(Code::NetConnect, format!("{}: {}", self.server, connect_reason(error)));
        }
        if error.is_builder() {
            return self.reason(Code::UrlBad, innermost(error));
        }
        if error.is_body() || error.is_decode() {
            return self.reason(Code::HttpBody, format!("the answer was cut off: {}", innermost(error)));
        }
        self.reason(Code::NetConnect, format!("{} broke the connection: {}", self.server, innermost(error)))
    }
}

/// Code and words for a TLS error. What our own verifier refused already has them.
fn tls_reason(error: &rustls::Error) -> (Code, String) {
    if let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error
        && let Some(refusal) = other.0.downcast_ref::<Refusal>()
    {
        return (refusal.code, refusal.message.clone());
    }
    let reason = match error {
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("the server offers no TLS version that is taken here: {error}")
        }
        rustls::Error::AlertReceived(alert) if is_about_us(*alert) => {
            return (Code::TlsClient, format!("the server ended the handshake with `{alert:?}`"));
        }
        other => other.to_string(),
    };
    (Code::Tls, reason)
}

/// Alerts that a server sends about a client's certificate, or the want of one (RFC 8446 section 6.2).
fn is_about_us(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

fn connect_reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer to the attempt to connect".to_owned();
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection was refused".to_owned(),
        Some(io::ErrorKind::HostUnreachable) => "there is no such host on the network".to_owned(),
        Some(io::ErrorKind::NetworkUnreachable) => "no route leads there".to_owned(),
        _ => innermost(error),
    }
}

/// The first error of type `T` in the chain, looking into I/O errors too: their `source` skips what they hold.
pub(super) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = below(error);
    }
    None
}

fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The text of the last error of the chain: the layers above only say "error sending request".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = below(last) {
        last = next;
    }
    last.to_string()
}
