//! The key `kubernetes`: how the node becomes a member of a cluster.

use super::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Membership in a cluster; the release must have been built with Kubernetes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// What the node is in the cluster.
    #[serde(default)]
    pub role: Role,
    /// Host and port of the API server that every node uses (kubeadm's `controlPlaneEndpoint`), `k8s.example.com:6443`.
    #[schemars(extend("format" = "host-port"))]
    pub endpoint: String,
    /// How the node proves that it may join, and the cluster that it is the right one.
    pub join: Join,
    /// Name of the Node; `metadata.name` by default.
    #[serde(default)]
    #[schemars(extend("format" = "host-name"))]
    pub node_name: Option<String>,
    /// Labels of the Node, set when it registers.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {"format": "node-label"}, "additionalProperties" = {"type": "string", "format": "label-value"}))]
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node, set when it registers.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Fields of the KubeletConfiguration (`kubelet.config.k8s.io/v1beta1`) that differ from the cluster's: maps are merged, anything else
    /// replaces what the cluster says. Taken at every boot.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {"format": "kubelet-key"}))]
    pub kubelet: BTreeMap<String, Value>,
    /// Container images that are imported before the node joins, and never collected as garbage: each by `release`, or by `url` and `sha256`.
    #[serde(default)]
    pub images: Vec<ImageArchive>,
    /// Where the container runtime asks first for images of a registry.
    #[serde(default)]
    pub registry_mirrors: Vec<RegistryMirror>,
    /// The image of the pods' sandboxes. Without it kubeadm's for clusters of this version.
    #[serde(default)]
    #[schemars(extend("format" = "image-reference"))]
    pub pause_image: Option<String>,
}

/// What a node is in the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs pods.
    #[default]
    Worker,
}

/// How a node joins: exactly one of `token`, `tokenFrom` and `discoveryFile`. Secrets are erased from the node's copy of the config once it
/// has joined.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Join {
    /// Bootstrap token, as `kubeadm token create` prints it.
    #[serde(default)]
    #[schemars(extend("format" = "bootstrap-token", "writeOnly" = true))]
    pub token: Option<Secret>,
    /// HTTPS URL of a bootstrap token, asked just before each attempt. Only kubeadm keeps it, until the kubelet has a certificate of its own. The answer is the token on a line, or JSON with
    /// `token`.
    #[serde(default)]
    #[schemars(extend("format" = "https-url"))]
    pub token_from: Option<String>,
    /// What the node shows to the server of `tokenFrom` when that asks who it is (TLS client authentication): a certificate, its chain, and its
    /// private key, PEM.
    #[serde(default)]
    #[schemars(extend("format" = "identity", "writeOnly" = true))]
    pub identity: Option<Secret>,
    /// Public keys of the cluster's CA: `sha256:` and the SHA-256 of the DER SubjectPublicKeyInfo, as `kubeadm token create
    /// --print-join-command` prints it. Needed with a token.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "format": "ca-cert-hash"}))]
    pub ca_cert_hashes: Vec<String>,
    /// The text of a kubeconfig with the cluster's CA and a credential that may join.
    #[serde(default)]
    #[schemars(extend("format" = "kubeconfig", "writeOnly" = true))]
    pub discovery_file: Option<Secret>,
}

/// A taint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Its key, `example.com/dedicated`.
    #[schemars(extend("format" = "label-key"))]
    pub key: String,
    /// Its value.
    #[serde(default)]
    #[schemars(extend("format" = "label-value"))]
    pub value: Option<String>,
    /// What it does to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TaintEffect {
    /// They are not scheduled here.
    NoSchedule,
    /// They are scheduled elsewhere if there is room.
    PreferNoSchedule,
    /// They are evicted, too.
    NoExecute,
}

/// An archive of container images, as `docker save`, `skopeo copy … docker-archive:` or `oci-archive:` write it: one of the release, by its
/// name alone, or one of any server, by `url` and `sha256`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageArchive {
    /// Name of a tar that was put into the release with `tatara image build --image`. The release's manifest has its digest.
    #[serde(default)]
    #[schemars(extend("format" = "archive-name"))]
    pub release: Option<String>,
    /// URL of a tar; a relative one is relative to the config's.
    #[serde(default)]
    #[schemars(extend("format" = "release-url"))]
    pub url: Option<String>,
    /// SHA-256 of the tar at `url`, 64 lower-case hex digits.
    #[serde(default)]
    #[schemars(extend("format" = "sha256"))]
    pub sha256: Option<String>,
}

/// Where an archive of container images comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSource<'c> {
    /// The release has one of this name.
    Release(&'c str),
    /// A server has it.
    Url {
        /// Its URL, perhaps a relative one.
        url: &'c str,
        /// Its SHA-256, lower-case hex.
        sha256: &'c str,
    },
}

impl ImageArchive {
    /// Where it comes from; `None` when it names nothing, or too much, which no config does that was taken.
    #[must_use]
    pub fn source(&self) -> Option<ImageSource<'_>> {
        match (self.release.as_deref(), self.url.as_deref(), self.sha256.as_deref()) {
            (Some(name), None, None) => Some(ImageSource::Release(name)),
            (None, Some(url), Some(sha256)) => Some(ImageSource::Url { url, sha256 }),
            _ => None,
        }
    }
}

/// Other servers of a registry's images (containerd's `certs.d`, CRI-O's `registries.conf`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryMirror {
    /// Host of the registry as in an image's name, with its port if it has one, `docker.io`; `_default` for all that have no entry, which a
    /// release with CRI-O refuses.
    #[schemars(extend("format" = "registry"))]
    pub registry: String,
    /// URLs that are asked in this order, the registry itself last. A release with CRI-O refuses those with a path.
    #[schemars(length(min = 1), extend("items" = {"type": "string", "format": "registry-url"}))]
    pub endpoints: Vec<String>,
}
