//! What a cluster, and who gives out its tokens, answers: read from bytes that somebody else decides about.
//!
//! Messages never repeat what was read, for it may be a credential.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use tatara_spec::config;
use tatara_spec::{Code, Fault};

/// What `cluster-info` says.
#[derive(Debug)]
pub struct Info {
    /// The CAs it names; whether one is to be trusted is for a hash of the config to say.
    pub ca: Vec<CertificateDer<'static>>,
    /// Ids of the tokens that it is signed with.
    pub tokens: BTreeSet<String>,
}

impl Info {
    /// Of the ConfigMap, as the API server answers it.
    ///
    /// # Errors
    /// [`Code::JoinApi`] and [`Code::JoinCa`] when it is not what kubeadm writes.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct ConfigMap {
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        let wrong = |why: &str| {
            Fault::new(Code::JoinApi, format!("the API server is not ready: its cluster-info {why}"))
        };
        let map: ConfigMap = serde_json::from_slice(body).map_err(|_| wrong("is not a ConfigMap"))?;
        let text = map.data.get("kubeconfig").ok_or_else(|| wrong("has no kubeconfig"))?;
        let parsed = Kubeconfig::parse(text, Code::JoinApi)?;
        let entry = parsed.clusters.into_iter().next().ok_or_else(|| wrong("names no cluster"))?.cluster;
        let ids = map.data.keys().filter_map(|key| key.strip_prefix("jws-kubeconfig-"));
        Ok(Self {
            ca: certificates(&entry.certificate_authority_data)?,
            tokens: ids.map(str::to_owned).collect(),
        })
    }
}

/// Base64 of PEM.
fn certificates(data: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let wrong = |why: String| Fault::new(Code::JoinCa, format!("the cluster's CA {why}"));
    let pem = STANDARD.decode(data.trim()).map_err(|error| wrong(format!("is not base64: {error}")))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| wrong(format!("is not PEM: {error}")))?;
    if found.is_empty() { Err(wrong("is missing".to_owned())) } else { Ok(found) }
}

/// A Node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeObject {
    /// Whether its condition `Ready` is `True`.
    pub ready: bool,
    /// `status.nodeInfo.machineID`: of the installed system.
    pub machine_id: String,
    /// `status.nodeInfo.systemUUID`: of the firmware.
    pub system_uuid: String,
}

impl NodeObject {
    /// Of the API server's answer.
    ///
    /// # Errors
    /// [`Code::JoinApi`] when it is none.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        let object: Object = serde_json::from_slice(body)
            .map_err(|error| Fault::caused(Code::JoinApi, "the API server's answer is not a Node", error))?;
        let mut conditions = object.status.conditions.iter();
        Ok(Self {
            ready: conditions.any(|condition| condition.kind == "Ready" && condition.status == "True"),
            machine_id: object.status.node_info.machine_id,
            system_uuid: object.status.node_info.system_uuid,
        })
    }
}

#[derive(Deserialize)]
struct Object {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    conditions: Vec<Condition>,
    node_info: NodeInfo,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeInfo {
    #[serde(rename = "machineID")]
    machine_id: String,
    #[serde(rename = "systemUUID")]
    system_uuid: String,
}

/// The parts of a kubeconfig that are looked at (Kubernetes, client-go/tools/clientcmd/api/v1).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    cluster: ClusterEntry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority_data: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    user: BTreeMap<String, Value>,
}

impl Kubeconfig {
    fn parse(text: &str, code: Code) -> Result<Self, Fault> {
        // The parser's message may show the line that it dislikes, and with it a credential.
        serde_saphyr::from_str(text)
            .map_err(|_| Fault::new(code, "a kubeconfig is not as Kubernetes writes it"))
    }
}

/// Where a discovery file says that the cluster is, and the CAs of it.
///
/// # Errors
/// [`Code::JoinCa`] when it is no kubeconfig, or names no CA.
pub fn discovered(text: &str) -> Result<(String, Vec<CertificateDer<'static>>), Fault> {
    let parsed = Kubeconfig::parse(text, Code::JoinCa)?;
    let entry = parsed.clusters.into_iter().next().unwrap_or_default().cluster;
    let ca = certificates(&entry.certificate_authority_data)?;
    Ok((entry.server.trim_end_matches('/').to_owned(), ca))
}

/// What a discovery file has to show as `Authorization: Bearer`, if it has such.
#[must_use]
pub fn bearer(text: &str) -> Option<String> {
    let parsed = Kubeconfig::parse(text, Code::JoinToken).ok()?;
    parsed.users.iter().find_map(|user| user.user.get("token")?.as_str().map(str::to_owned))
}

/// The credentials in a kubeconfig.
#[must_use]
pub fn secrets(text: &str) -> Vec<String> {
    const SECRET: [&str; 3] = ["token", "password", "client-key-data"];
    let Ok(parsed) = Kubeconfig::parse(text, Code::JoinToken) else { return Vec::new() };
    let users = parsed.users.into_iter().flat_map(|user| user.user);
    users
        .filter(|(key, _)| SECRET.contains(&key.as_str()))
        .filter_map(|(_, value)| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
        .collect()
}

/// The token in an answer of `tokenFrom`: a line, or JSON.
///
/// # Errors
/// [`Code::JoinTokenSource`] when there is none in it.
pub fn token(body: &[u8]) -> Result<String, Fault> {
    #[derive(Deserialize)]
    struct Json {
        token: String,
    }
    let text = String::from_utf8_lossy(body);
    let found = serde_json::from_str(&text).map_or_else(|_| text.trim().to_owned(), |Json { token }| token);
    if config::is_bootstrap_token(&found) {
        return Ok(found);
    }
    let message = format!("the answer has {} bytes and is no token", body.len());
    Err(Fault::new(Code::JoinTokenSource, message))
}

/// The kubelet's configuration of the cluster, as kubeadm writes it to the node.
///
/// # Errors
/// The parser's words, which stay on the node: there is no credential in this file.
pub fn kubelet_config(text: &str) -> Result<Map<String, Value>, serde_saphyr::Error> {
    serde_saphyr::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::{secrets, token};
    use tatara_spec::Code;

    #[test]
    fn an_answer_is_a_line_or_json() {
        let right = "abcdef.0123456789abcdef";
        for body in [format!("{right}\n"), format!("{{\"token\": \"{right}\", \"expires\": 3}}")] {
            assert_eq!(token(body.as_bytes()).unwrap(), right);
        }
        for body in ["", "<html>", "{\"token\": 3}", "abcdef.0123456789abcdeX", "{\"token\": \"x\"}"] {
            let fault = token(body.as_bytes()).unwrap_err();
            assert_eq!(fault.code, Code::JoinTokenSource);
            assert!(body.is_empty() || !fault.chain().contains(body), "{}", fault.chain());
        }
    }

    #[test]
    fn secrets_of_a_kubeconfig() {
        let text = "users:\n- name: x\n  user: {token: abc, client-key-data: S0VZ, username: me}\n";
        assert_eq!(secrets(text), ["S0VZ", "abc"]);
        assert!(secrets("not: [a kubeconfig").is_empty());
    }
}
