//! The cluster as a node sees it that is not yet a member: who answers at the endpoint, whether it is the right one, whether it takes the
//! token, whether the name is free.
//!
//! kubeadm looks at the same, says less about it, and sends the token to find out. Source: Kubernetes, cmd/kubeadm/app/discovery/token.

use super::credential::Credential;
use crate::node::{Node, web};
use rustls::pki_types::CertificateDer;
use std::collections::BTreeSet;
use std::fs;
use tatara_firstboot::cluster::{Info, NodeObject, discovered};
use tatara_http::fetch::{Answer, Authenticity, Client, File};
use tatara_http::tls::{Trust, pin, unverified};
use tatara_spec::cmdline;
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

/// Whether this machine made the Node: its machine id outlives reboots, its firmware's UUID reinstalls, too, unless many machines have it.
pub(super) fn is_this_machine(object: &NodeObject, node: &Node) -> bool {
    let machine_id = fs::read_to_string(node.state(state::MACHINE_ID)).unwrap_or_default();
    let uuid = tatara_sys::dmi::read(&node.run("/sys")).uuid.unwrap_or_default();
    let same = |ours: &str, theirs: &str| !ours.is_empty() && ours.eq_ignore_ascii_case(theirs);
    same(machine_id.trim(), &object.machine_id)
        || (cmdline::is_of_one_machine(&uuid) && same(&uuid, &object.system_uuid))
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
        let (server, ca) = discovered(text)?;
        Ok(Self { server, ca, tokens: None })
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
        let ca = pinned(info.ca, &kubernetes.join.ca_cert_hashes)?;
        Ok(Self { server, ca, tokens: Some(info.tokens) })
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
            200 => NodeObject::parse(&answer.body).map(Some),
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

/// The CAs that have a hash in the config. Nothing vouches for any other that whoever answers has put beside them: a stranger may add
/// their own to the real one, which is public.
fn pinned(
    ca: Vec<CertificateDer<'static>>,
    hashes: &[String],
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let hash = |certificate: &CertificateDer<'_>| pin(certificate).map(|pin| format!("sha256:{pin}"));
    let found: Vec<String> =
        ca.iter().map(|certificate| hash(certificate).unwrap_or_else(|| "unreadable".to_owned())).collect();
    let trusted: Vec<_> =
        ca.into_iter().filter(|one| hash(one).is_some_and(|hash| hashes.contains(&hash))).collect();
    if !trusted.is_empty() {
        return Ok(trusted);
    }
    let message = format!(
        "the CA of the cluster that answers is {}; expected {}",
        found.join(", "),
        hashes.join(" or ")
    );
    Err(Fault::new(Code::JoinCa, message))
}

#[cfg(test)]
mod tests {
    use super::{NodeObject, is_this_machine, pinned};
    use crate::node::Node;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;
    use std::fs;
    use tatara_http::tls::pin;
    use tatara_spec::Code;

    fn ca() -> CertificateDer<'static> {
        let certificate = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate.der().clone()
    }

    /// The real CA is public: who answers with it and with one of their own beside it must not be believed by the second.
    #[test]
    fn a_ca_without_a_hash_is_not_trusted_beside_one_that_has_it() {
        let (real, strange) = (ca(), ca());
        let hashes = [format!("sha256:{}", pin(&real).unwrap())];
        let both = vec![strange.clone(), real.clone()];
        assert_eq!(pinned(both, &hashes).unwrap(), [real]);
        let fault = pinned(vec![strange.clone()], &hashes).unwrap_err();
        assert_eq!(fault.code, Code::JoinCa);
        assert!(fault.message.contains(&format!("{}", pin(&strange).unwrap())), "{}", fault.message);
    }

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
            is_this_machine(&found, &node)
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
