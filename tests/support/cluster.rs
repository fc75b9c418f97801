//! A real control plane for a machine to join: etcd, and Kubernetes' own programs as the source build makes them, in the network
//! namespace of the test. kubeadm itself makes certificates, ConfigMaps, RBAC and tokens, as it does on a first control-plane node.

pub mod image;
mod plane;
pub mod worker;

use crate::cache;
use plane::Plane;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// For what the control plane does by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// Pods' addresses, of which each node gets a part.
pub const PODS: &str = "10.244.0.0/16";

/// A name that the API server's certificate has, for tests that are a name server, too.
pub const API_NAME: &str = "api.cluster.test";

/// The name that kubeadm needs a Node of while it writes the cluster's settings. It is gone afterwards.
const FIRST: &str = "control-plane";

/// Where kubeadm keeps what every kubelet is given.
const KUBELET_CONFIG: &str = "configmap/kubelet-config-1.20";

/// The token that it makes first: its id and its secret.
const FIRST_TOKEN: (&str, &str) = ("first0", "0123456789abcdef");

/// A running control plane; it ends with the value.
pub struct Cluster {
    dir: tempfile::TempDir,
    programs: PathBuf,
    address: String,
    plane: Plane,
}

impl Cluster {
    /// Starts one that answers on this address of the host, port 6443, and waits until nodes can join it.
    ///
    /// # Panics
    /// When Kubernetes was not built ([`crate::release::node`] does), or a part does not start.
    #[must_use]
    pub fn start(address: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let programs = programs();
        fs::write(dir.path().join("kubeadm.yaml"), kubeadm_config(dir.path(), address)).expect("a config");
        let plane = Plane::new(dir.path(), &programs, address);
        let mut cluster = Self { dir, programs, address: address.to_owned(), plane };
        cluster.kubeadm(&["init", "phase", "certs", "all"]);
        let kept = cluster.path("").display().to_string();
        for who in ["admin", "controller-manager", "scheduler"] {
            cluster.kubeadm(&["init", "phase", "kubeconfig", who, "--kubeconfig-dir", &kept]);
        }
        cluster.plane.start();
        cluster.until("the API server's /readyz", SOON, |it| it.kubectl(&["get", "--raw", "/readyz"]).ok());
        cluster.upload();
        cluster
    }

    /// As `kubeadm init` does after the control plane has come up.
    fn upload(&self) {
        // kubeadm notes the runtime's socket at the Node, and waits for one that has registered: with this label.
        let metadata = json!({"name": FIRST, "labels": {"kubernetes.io/hostname": FIRST}});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"unschedulable": true}});
        self.apply(&node);
        let admin = self.path("admin.conf").display().to_string();
        for phase in [&["upload-config", "all"][..], &["bootstrap-token"]] {
            self.kubeadm(&[&["init", "phase"], phase, &["--kubeconfig", &admin]].concat());
        }
        self.say(&["delete", "node", FIRST]);
        self.signed(FIRST_TOKEN.0);
    }

    /// `10.77.0.1:6443`, as `kubernetes.endpoint` has it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:6443", self.address)
    }

    /// A new bootstrap token that lives so long, in Go's form: `1h`. Whoever joins by it must find it in cluster-info.
    ///
    /// # Panics
    /// When kubeadm makes none.
    #[must_use]
    pub fn token(&self, lives: &str) -> String {
        let token = self.new_token(lives);
        let id = token.split('.').next().unwrap_or_default();
        self.signed(id);
        token
    }

    /// A bootstrap token that has expired when a machine comes to use it, which takes more than its 30 s. Nobody waits until it is in
    /// cluster-info, which may take as long as it lives.
    ///
    /// # Panics
    /// When kubeadm makes none.
    #[must_use]
    pub fn expired_token(&self) -> String {
        self.new_token("30s")
    }

    fn new_token(&self, lives: &str) -> String {
        let admin = self.path("admin.conf").display().to_string();
        self.kubeadm(&["token", "create", "--ttl", lives, "--kubeconfig", &admin]).trim().to_owned()
    }

    /// Takes this token from now on, also if it has expired.
    ///
    /// # Panics
    /// When kubeadm does not make it.
    pub fn takes(&self, token: &str) {
        let admin = self.path("admin.conf").display().to_string();
        self.kubeadm(&["token", "create", token, "--kubeconfig", &admin]);
    }

    /// What kubeadm tells a person to type on a machine that shall join.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    pub fn join_command(&self) -> String {
        let admin = self.path("admin.conf").display().to_string();
        self.kubeadm(&["token", "create", "--print-join-command", "--kubeconfig", &admin])
    }

    /// Waits until who has the token of this id can tell by it that cluster-info is the cluster's.
    fn signed(&self, id: &str) {
        let info = ["get", "--namespace=kube-public", "configmap/cluster-info", "--output=json"];
        self.until("a signature in cluster-info", SOON, |it| {
            it.json(&info)?["data"].get(format!("jws-kubeconfig-{id}")).map(drop)
        });
    }

    /// The CA's public key, as `caCertHashes` has it: `sha256:HEX`.
    ///
    /// # Panics
    /// When the CA's certificate cannot be read.
    #[must_use]
    pub fn ca_hash(&self) -> String {
        let pem = fs::read(self.path("pki/ca.crt")).expect("the cluster's CA");
        crate::pki::pin_of(&pem)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.path("admin.conf")
    }

    /// Takes the API server away, or brings it back.
    pub fn api_server(&mut self, runs: bool) {
        self.plane.api_server(runs);
    }

    /// Takes away who notices that nodes are gone, and approves new ones, or brings it back.
    pub fn controller_manager(&mut self, runs: bool) {
        self.plane.controller_manager(runs);
    }

    /// Makes a Node of another machine, Ready as long as there is no controller manager to miss that machine.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn ready_node(&self, name: &str, machine_id: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.apply(&node);
        let info = [
            "architecture",
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
            "kubeProxyVersion",
            "kubeletVersion",
            "operatingSystem",
            "osImage",
            "systemUUID",
        ];
        let mut info: Value = info.iter().map(|key| ((*key).to_owned(), json!(""))).collect();
        info["machineID"] = json!(machine_id);
        let ready = json!({"type": "Ready", "status": "True"});
        let mut whole = node;
        whole["status"] = json!({"conditions": [ready], "nodeInfo": info});
        self.give(&["replace", "--raw", &format!("/api/v1/nodes/{name}/status"), "--filename=-"], &whole);
    }

    /// Adds lines to the cluster's KubeletConfiguration; gives its text before.
    ///
    /// # Panics
    /// When there is none.
    pub fn add_to_kubelet_configuration(&self, lines: &str) -> String {
        let get = ["get", "--namespace=kube-system", KUBELET_CONFIG, "--output=json"];
        let before = self.json(&get).and_then(|map| map["data"]["kubelet"].as_str().map(str::to_owned));
        let before = before.expect("the cluster's KubeletConfiguration");
        self.set_kubelet_configuration(&format!("{before}{lines}"));
        before
    }

    /// Replaces the cluster's KubeletConfiguration.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn set_kubelet_configuration(&self, text: &str) {
        let patch = json!({"data": {"kubelet": text}}).to_string();
        self.say(&["patch", "--namespace=kube-system", KUBELET_CONFIG, "--patch", &patch]);
    }

    /// Runs kubectl as the cluster's administrator.
    ///
    /// # Errors
    /// What it printed, when it failed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        text(self.kubectl_command(arguments).output().expect("kubectl"))
    }

    /// The same, where it must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn say(&self, arguments: &[&str]) -> String {
        self.kubectl(arguments).unwrap_or_else(|why| panic!("kubectl {}: {why}", arguments.join(" ")))
    }

    /// What kubectl answers as JSON, or nothing when it fails.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Option<Value> {
        serde_json::from_str(&self.kubectl(arguments).ok()?).ok()
    }

    /// Makes an object, or changes it.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn apply(&self, object: &Value) {
        self.give(&["apply", "--filename=-"], object);
    }

    fn give(&self, arguments: &[&str], object: &Value) {
        let mut command = self.kubectl_command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("kubectl");
        let mut input = child.stdin.take().expect("its input");
        input.write_all(object.to_string().as_bytes()).expect("its input");
        drop(input);
        let said = text(child.wait_with_output().expect("kubectl"));
        said.unwrap_or_else(|why| panic!("{object} was refused: {why}"));
    }

    /// The condition of an object, `True`, `False` or `Unknown`; nothing when there is no such object.
    #[must_use]
    pub fn condition(&self, object: &str, kind: &str) -> Option<String> {
        let object = self.json(&["get", object, "--output=json"])?;
        let conditions = object["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        found["status"].as_str().map(str::to_owned)
    }

    /// Asks until there is an answer, anew when the control plane has done something.
    ///
    /// # Panics
    /// When there is none by the deadline; the message has what the control plane says last.
    pub fn until<T>(&self, what: &str, within: Duration, ask: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        loop {
            let lines = self.plane.lines();
            if let Some(answer) = ask(self) {
                return answer;
            }
            if !self.plane.says_more_than(lines, deadline) {
                panic!(
                    "{what}: not within {} s\n{}\n{}",
                    within.as_secs(),
                    self.plane.tails(),
                    self.overview()
                );
            }
        }
    }

    /// Nodes, pods and events, for a message.
    fn overview(&self) -> String {
        let parts = [
            &["get", "nodes,pods,csr", "--all-namespaces", "--output=wide"][..],
            &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
        ];
        parts.iter().map(|part| self.kubectl(part).unwrap_or_else(|why| why)).collect::<Vec<_>>().join("\n")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        // Its cache of what the API has would be in the home directory of whoever runs the tests.
        command.env("HOME", self.dir.path()).arg("--kubeconfig").arg(self.path("admin.conf"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn kubeadm(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join("kubeadm"));
        command.args(arguments).env("HOME", self.dir.path());
        if arguments.first() == Some(&"init") {
            command.arg("--config").arg(self.path("kubeadm.yaml"));
        }
        let said = text(command.stdin(Stdio::null()).output().expect("kubeadm"));
        said.unwrap_or_else(|why| panic!("kubeadm {}: {why}\n{}", arguments.join(" "), self.plane.tails()))
    }
}

fn text(output: Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// What `kubeadm init` would be given. Pods' network is the test's own; there is no kube-proxy, so Services have no use.
/// Where nodes keep the CA is said, because kubeadm takes it to be where the control plane does.
fn kubeadm_config(dir: &Path, address: &str) -> String {
    let pki = dir.join("pki");
    let pki = pki.display();
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta2\n\
         kind: InitConfiguration\n\
         bootstrapTokens: [{{token: {id}.{secret}, ttl: 2h0m0s}}]\n\
         localAPIEndpoint: {{advertiseAddress: {address}, bindPort: 6443}}\n\
         nodeRegistration: {{name: {FIRST}, criSocket: /run/containerd/containerd.sock}}\n\
         ---\n\
         apiVersion: kubeadm.k8s.io/v1beta2\n\
         kind: ClusterConfiguration\n\
         kubernetesVersion: v1.20.2\n\
         certificatesDir: {pki}\n\
         controlPlaneEndpoint: {address}:6443\n\
         apiServer: {{certSANs: [{API_NAME}]}}\n\
         networking: {{podSubnet: {PODS}, serviceSubnet: 10.96.0.0/16}}\n\
         etcd: {{external: {{endpoints: ['{etcd}']}}}}\n\
         ---\n\
         apiVersion: kubelet.config.k8s.io/v1beta1\n\
         kind: KubeletConfiguration\n\
         authentication: {{x509: {{clientCAFile: /etc/kubernetes/pki/ca.crt}}}}\n\
         cgroupDriver: systemd\n",
        etcd = plane::ETCD,
        id = FIRST_TOKEN.0,
        secret = FIRST_TOKEN.1,
    )
}

/// The newest build of Kubernetes in the cache.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn programs() -> PathBuf {
    let entries = fs::read_dir(cache()).expect("the cache").flatten().map(|entry| entry.path());
    let built = entries.filter(|path| path.join("kube-apiserver").is_file());
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|about| about.modified()).ok();
    built.max_by_key(modified).expect(
        "a build of Kubernetes in the cache; `tatara image build --kubernetes debian-source` makes it",
    )
}
