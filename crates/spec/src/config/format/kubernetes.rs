//! What Kubernetes and container registries name.

use super::net::{is_domain_name, is_host, network_address};
use super::{Checked, expect};
use crate::release::is_archive_name;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use url::Url;

/// A port of TCP, not 0.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `host:port`, an IPv6 address in brackets.
pub(super) fn host_port(text: &str) -> Checked {
    const EXPECTED: &str = "a host and a port without scheme, e.g. `k8s.example.com:6443`";
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_valid = match bracketed {
            Some(host) => host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
            None => is_host(host) && !host.contains(':'),
        };
        host_valid && is_port(port)
    });
    let bare = text.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    let hint = match bare {
        Some(bare) if host_port(bare).is_ok() => format!("; did you mean `{bare}`?"),
        _ if is_host(text) && !text.contains(':') => format!("; did you mean `{text}:6443`?"),
        _ => String::new(),
    };
    expect(valid, &format!("{EXPECTED}{hint}"))
}

/// Whether a text is a bootstrap token (Kubernetes, `cluster-bootstrap/token/api`: BootstrapTokenPattern).
#[must_use]
pub fn is_bootstrap_token(text: &str) -> bool {
    let part = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
    };
    text.split_once('.').is_some_and(|(id, secret)| part(id, 6) && part(secret, 16))
}

pub(super) fn bootstrap_token(text: &str) -> Checked {
    expect(is_bootstrap_token(text), "a bootstrap token: 6 lower-case letters or digits, a dot, 16 of them")
}

fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn ca_cert_hash(text: &str) -> Checked {
    let hint = if is_hex_digest(text) { format!("; did you mean `sha256:{text}`?") } else { String::new() };
    let valid = text.strip_prefix("sha256:").is_some_and(is_hex_digest);
    expect(valid, &format!("`sha256:` and 64 lower-case hex digits{hint}"))
}

pub(super) fn sha256(text: &str) -> Checked {
    let hint = match text.strip_prefix("sha256:") {
        Some(digest) if is_hex_digest(digest) => format!("; did you mean `{digest}`?"),
        _ => String::new(),
    };
    expect(is_hex_digest(text), &format!("64 lower-case hex digits{hint}"))
}

pub(super) fn archive_name(text: &str) -> Checked {
    let file = text.rsplit('/').next().unwrap_or_default();
    let hint = match file != text && is_archive_name(file) {
        true => format!("; did you mean `{file}`?"),
        false => String::new(),
    };
    let valid = is_archive_name(text);
    expect(
        valid,
        &format!(
            "the name of a file in the release: letters, digits and `._-+`, not beginning with a dot{hint}"
        ),
    )
}

/// What kubeadm needs of it; the rest is for kubeadm to judge.
pub(super) fn kubeconfig(text: &str) -> Checked {
    let has = |key: &str| text.lines().any(|line| line.trim_start_matches([' ', '-']).starts_with(key));
    expect(
        has("certificate-authority-data:") && has("server:") && has("kind:"),
        "a kubeconfig with `kind`, `server` and `certificate-authority-data`",
    )
}

/// Whether the key is the certificate's is for the TLS library to judge, where both are used.
pub(super) fn identity(text: &str) -> Checked {
    let pem = text.as_bytes();
    let mut certificates = CertificateDer::pem_slice_iter(pem);
    let keys = PrivateKeyDer::pem_slice_iter(pem).filter(Result::is_ok).count();
    expect(
        certificates.next().is_some_and(|first| first.is_ok())
            && certificates.all(|other| other.is_ok())
            && keys == 1,
        "PEM of one or more certificates and one private key",
    )
}

/// Kubernetes, `apimachinery/pkg/util/validation`: IsQualifiedName, IsValidLabelValue.
fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    text.len() <= 63
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            is_domain_name(prefix) && prefix.to_ascii_lowercase() == prefix && is_name_part(name)
        }
        None => is_name_part(text),
    }
}

pub(super) fn label_key(text: &str) -> Checked {
    expect(
        is_qualified_name(text),
        "a name of at most 63 letters, digits, `-`, `_` and `.`, perhaps after a domain and `/`",
    )
}

pub(super) fn label_value(text: &str) -> Checked {
    expect(text.is_empty() || is_name_part(text), "at most 63 letters, digits, `-`, `_` and `.`, or nothing")
}

/// Labels of Kubernetes' own that a kubelet may set on its Node (Kubernetes, `pkg/kubelet/apis/well_known_labels.go`).
const OWN_LABELS: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// The namespaces in which it may set any (the same file).
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// A label that a kubelet may set on its own Node: with another one of Kubernetes' own it would end at its start.
pub(super) fn node_label(text: &str) -> Checked {
    label_key(text)?;
    let Some((namespace, _)) = text.split_once('/') else { return Ok(()) };
    let within = |domain: &str| namespace == domain || namespace.ends_with(&format!(".{domain}"));
    let free = OWN_NAMESPACES.iter().any(|domain| within(domain));
    let reserved = within("kubernetes.io") || within("k8s.io");
    expect(
        !reserved || free || OWN_LABELS.contains(&text),
        "a label that a kubelet may set: in `kubernetes.io` and `k8s.io` only below `node.kubernetes.io/` (roles are set with `kubectl label`)",
    )
}

/// Fields of a KubeletConfiguration that are made from other keys, or that must be as the rest of the node is.
const OWN_KUBELET_KEYS: [(&str, &str); 11] = [
    ("apiVersion", "the release"),
    ("kind", "the release"),
    ("cgroupDriver", "the release"),
    ("containerRuntimeEndpoint", "the release"),
    ("registerWithTaints", "`kubernetes.taints`"),
    ("reservedSystemCPUs", "`tuning.housekeeping`"),
    ("cpuManagerPolicy", "`tuning.isolation`"),
    ("reservedMemory", "`tuning.isolation`"),
    ("healthzPort", "the release"),
    ("healthzBindAddress", "the release"),
    ("port", "the release"),
];

pub(super) fn kubelet_key(text: &str) -> Checked {
    let valid = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    expect(valid, "a field of the KubeletConfiguration, e.g. `maxPods`")?;
    match OWN_KUBELET_KEYS.iter().find(|(own, _)| *own == text) {
        Some((_, from)) => Err(format!("expected another field: this one is set by {from}")),
        None => Ok(()),
    }
}

/// distribution/reference, `reference.go`: `[host[:port]/]path[:tag][@digest]`.
pub(super) fn image_reference(text: &str) -> Checked {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    let (repository, tag) = match last.split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b':'))
    };
    let tag_valid = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let valid = repository.split('/').all(part)
        && (tag.is_some() || digest.is_some())
        && tag.is_none_or(tag_valid)
        && digest.is_none_or(|digest| ca_cert_hash(digest).is_ok());
    expect(valid, "an image with its tag or digest, e.g. `registry.k8s.io/pause:3.10`")
}

pub(super) fn registry(text: &str) -> Checked {
    let host = text == "_default"
        || match text.rsplit_once(':') {
            Some((host, port)) => is_host(host) && is_port(port),
            None => is_host(text),
        };
    expect(host, "a registry's host as in an image's name, e.g. `docker.io` or `registry.example.com:5000`")
}

pub(super) fn registry_url(text: &str) -> Checked {
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '"'));
    let scheme = ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
    let url = Url::parse(text).is_ok_and(|url| {
        url.has_host() && url.username().is_empty() && url.password().is_none() && url.query().is_none()
    });
    expect(clean && scheme && url, "an https:// or http:// URL without user name, password and query")
}

/// Where packets come from: an address, or a network.
pub(super) fn source(text: &str) -> Checked {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    network_address(text).map_err(|expected| match expected.contains("did you mean") {
        true => expected,
        false => "expected an address or a network, e.g. `192.0.2.10` or `10.0.0.0/8`".to_owned(),
    })
}
