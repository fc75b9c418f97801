//! The cluster as a node sees it that is not yet a member: who answers at the endpoint, whether it is the right one, whether it takes the
//! token, whether the name is free.
//!
//! kubeadm looks at the same, says less about it, and sends the token to find out. Source: Kubernetes, cmd/kubeadm/app/discovery/token.

use super::credential::{Credential, Kubeconfig};
use crate::node::{Node, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use tatara_http::fetch::{Answer, Authenticity, Client, File};
use tatara_http::tls::{Trust, pin, unverified};
use tatara_spec::config::Kubernetes;
use tatara_spec::layout::state;
use tatara_spec::{Code, Fault};

/// A ConfigMap has at most 1 MiB (Kubernetes documentation, "ConfigMaps"), a Node object less.
const LIMIT_BYTES: u64 = 4 << 20;

/// The cluster at the endpoint, once it is known to be the one that the config means.
pub(super) struct Cluster {
    /// `https://host:port`.
    server: String,
    ca: Vec<CertificateDer<'static>>,
    /// Ids of the tokens that the cluster takes; `None` when nobody said.
    tokens: Option<BTreeSet<String>>,
}

/// A Node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeObject {
    pub(super) ready: bool,
    pub(super) machine_id: String,
    system_uuid: String,
}

/// UUIDs that vendors of firmware leave in all machines of a model; they tell nobody apart.
const SHARED_UUIDS: [&str; 4] = [
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
];

impl NodeObject {
    /// Whether this machine made it: its machine id outlives reboots, its firmware's UUID reinstalls, too.
    pub(super) fn is_this_machine(&self, node: &Node) -> bool {
        let machine_id = fs::read_to_string(node.state(state::MACHINE_ID)).unwrap_or_default();
        let uuid = tatara_sys::dmi::read(&node.run("/sys")).uuid.unwrap_or_default();
        let same = |ours: &str, theirs: &str| !ours.is_empty() && ours.eq_ignore_ascii_case(theirs);
        let own_uuid = !SHARED_UUIDS.contains(&uuid.as_str());
        same(machine_id.trim(), &self.machine_id) || (own_uuid && same(&uuid, &self.system_uuid))
    }
}

impl Cluster {
    /// Waits for nothing: says what is wrong now.
    pub(super) fn find(node: &Node, kubernetes: &Kubernetes) -> Result<Self, Fault> {
        let found = match &kubernetes.join.discovery_file {
            Some(file) => Self::of_file(file.reveal())?,
            None => Self::of_endpoint(node, kubernetes)?,
        };
        let url = format!("{}/readyz", found.server);
        let answer = ask(&found.client(node)?, &url, "API server's state", None)?;
        match answer.status {
            // Who forbids anonymous questions answers all the same.
            200 | 401 | 403 => Ok(found),
            status => Err(not_ready(&format!("{url} answered {status}"))),
        }
    }

    fn of_file(text: &str) -> Result<Self, Fault> {
        let parsed = Kubeconfig::parse(text, Code::JoinCa)?;
        let entry = parsed.clusters.into_iter().next().unwrap_or_default().cluster;
        let ca = certificates(&entry.certificate_authority_data)?;
        Ok(Self { server: entry.server.trim_end_matches('/').to_owned(), ca, tokens: None })
    }

    /// What is public is read from whoever answers, and believed if its CA has a hash of the config's.
    fn of_endpoint(node: &Node, kubernetes: &Kubernetes) -> Result<Self, Fault> {
        let server = format!("https://{}", kubernetes.endpoint);
        let url = format!("{server}/api/v1/namespaces/kube-public/configmaps/cluster-info");
        let anyone = web::with_tls(node, unverified()?)?;
        let answer = ask(&anyone, &url, "cluster's description", None)?;
        match answer.status {
            200 => {}
            401 | 403 => {
                let why = format!(
                    "{url} answered {}: it must be readable without a credential, as kubeadm sets it up",
                    answer.status
                );
                return Err(not_ready(&why));
            }
            404 => {
                return Err(not_ready(&format!(
                    "{url} answered 404: the cluster was not set up by kubeadm, or is not yet"
                )));
            }
            status => return Err(not_ready(&format!("{url} answered {status}"))),
        }
        let info = Info::parse(&answer.body)?;
        check_ca(&info.ca, &kubernetes.join.ca_cert_hashes)?;
        Ok(Self { server, ca: info.ca, tokens: Some(info.tokens) })
    }

    fn client(&self, node: &Node) -> Result<Client, Fault> {
        let trust = Trust { pins: Vec::new(), roots: self.ca.clone() };
        web::with_tls(node, trust.client()?)
    }

    /// The cluster signs its description with every token that may be used: one that is missing there is expired or wrong, and need
    /// not be sent.
    pub(super) fn check_token(&self, credential: &Credential) -> Result<(), Fault> {
        let (Some(tokens), Credential::Token(token)) = (&self.tokens, credential) else { return Ok(()) };
        let id = token.split('.').next().unwrap_or_default();
        if tokens.contains(id) {
            return Ok(());
        }
        Err(Fault::new(Code::JoinToken, "the cluster has no such token, or it has expired"))
    }

    /// The Node of this name; `None` when there is none, or when the credential may not ask.
    pub(super) fn node(
        &self,
        node: &Node,
        name: &str,
        credential: &Credential,
    ) -> Result<Option<NodeObject>, Fault> {
        let Some(bearer) = credential.bearer() else { return Ok(None) };
        let url = format!("{}/api/v1/nodes/{name}", self.server);
        let answer = ask(&self.client(node)?, &url, "Node of this name", Some(&bearer))?;
        match answer.status {
            200 => parse_node(&answer.body).map(Some),
            403 | 404 => Ok(None),
            401 => Err(Fault::new(
                Code::JoinToken,
                "the API server answered 401 to the token: it is wrong or has expired",
            )),
            status => Err(not_ready(&format!("{url} answered {status}"))),
        }
    }
}

fn not_ready(why: &str) -> Fault {
    Fault::new(Code::JoinApi, format!("the API server is not ready: {why}"))
}

/// A failure to get an answer keeps its words and gets the code of the join, under which it is looked for.
fn ask(client: &Client, url: &str, what: &str, bearer: Option<&str>) -> Result<Answer, Fault> {
    let file = File { url, what, limit: LIMIT_BYTES, authenticity: Authenticity::Connection };
    client.ask(&file, bearer).map_err(|fault| {
        let reason = format!("{}: {}", fault.code, fault.chain());
        Fault::new(Code::JoinApi, reason)
    })
}

/// What `cluster-info` says.
struct Info {
    ca: Vec<CertificateDer<'static>>,
    tokens: BTreeSet<String>,
}

impl Info {
    fn parse(body: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct ConfigMap {
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        let wrong = |why: &str| not_ready(&format!("its cluster-info {why}"));
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

/// As kubeadm: every CA of the cluster has a hash in the config (Kubernetes, cmd/kubeadm/app/util/pubkeypin).
fn check_ca(ca: &[CertificateDer<'static>], hashes: &[String]) -> Result<(), Fault> {
    let found: Vec<String> = ca
        .iter()
        .map(|certificate| pin(certificate).map_or_else(String::new, |pin| format!("sha256:{pin}")))
        .collect();
    if found.iter().any(|hash| !hash.is_empty() && hashes.contains(hash)) {
        return Ok(());
    }
    let message = format!(
        "the CA of the cluster that answers is {}; expected {}",
        found.join(", "),
        hashes.join(" or ")
    );
    Err(Fault::new(Code::JoinCa, message))
}

fn parse_node(body: &[u8]) -> Result<NodeObject, Fault> {
    #[derive(Deserialize)]
    struct Object {
        status: Status,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Status {
        conditions: Vec<Condition>,
        node_info: Info,
    }
    #[derive(Deserialize)]
    struct Condition {
        #[serde(rename = "type")]
        kind: String,
        status: String,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Info {
        #[serde(rename = "machineID")]
        machine_id: String,
        #[serde(rename = "systemUUID")]
        system_uuid: String,
    }
    let object: Object = serde_json::from_slice(body)
        .map_err(|error| Fault::caused(Code::JoinApi, "the API server's answer is not a Node", error))?;
    let ready = object
        .status
        .conditions
        .iter()
        .any(|condition| condition.kind == "Ready" && condition.status == "True");
    let Info { machine_id, system_uuid } = object.status.node_info;
    Ok(NodeObject { ready, machine_id, system_uuid })
}

#[cfg(test)]
mod tests {
    use super::NodeObject;
    use crate::node::Node;
    use std::fs;

    #[test]
    fn a_machine_is_known_by_its_id_or_its_firmware() {
        let root = tempfile::tempdir().unwrap();
        let node = Node::new(root.path().to_owned());
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let is_ours = |machine_id: &str, system_uuid: &str| {
            let found =
                NodeObject { ready: true, machine_id: machine_id.into(), system_uuid: system_uuid.into() };
            found.is_this_machine(&node)
        };
        assert!(!is_ours("", ""), "what nobody knows is the same for nobody");
        put("var/lib/tatara/machine-id", "0123456789abcdef0123456789abcdef\n");
        put("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8051-B4C04F303232\n");
        assert!(is_ours("0123456789abcdef0123456789abcdef", "other"));
        assert!(is_ours("other", "4c4c4544-0042-3510-8051-b4c04f303232"), "reinstalled");
        assert!(!is_ours("other", "other"));
        let shared = "03000200-0400-0500-0006-000700080009";
        put("sys/class/dmi/id/product_uuid", shared);
        assert!(!is_ours("other", shared));
    }
}
