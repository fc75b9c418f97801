//! `tatara drain` on a node that runs what it must ask about: nothing is lost without consent, budgets are honoured, the Node goes.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use support::cluster::worker::{NAME, Node, POD, pod};
use support::cluster::{Cluster, image};
use support::tool;

/// Where the local volume is on the node.
const DATA: &str = "/var/lib/example-data";

const CONSENTS: &[&str] = &["--delete-emptydir-data", "--lose-local-volumes", "--force"];

/// A drain that runs.
struct Drain {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    out: String,
}

/// How a drain ended, and what it said.
struct Ended {
    ok: bool,
    out: String,
    err: String,
}

impl Drain {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut command = Command::new(tool());
        command.arg("drain").arg("--kubeconfig").arg(cluster.admin());
        // Its own limit bounds the test.
        command.args(["--timeout", "240s"]).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("tatara drain");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines, out: String::new() }
    }

    /// Reads on until there is such a line.
    fn says(&mut self, needle: &str) {
        for line in self.lines.by_ref().map_while(Result::ok) {
            self.out += &format!("{line}\n");
            if line.contains(needle) {
                return;
            }
        }
        panic!("it ended without `{needle}`:\n{}", self.out);
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("an interrupt");
    }

    fn end(mut self) -> Ended {
        for line in self.lines.by_ref().map_while(Result::ok) {
            self.out += &format!("{line}\n");
        }
        let ended = self.child.wait_with_output().expect("its end");
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        Ended { ok: ended.status.success(), out: self.out, err }
    }
}

fn drain(cluster: &Cluster, arguments: &[&str]) -> Ended {
    Drain::start(cluster, arguments).end()
}

impl Ended {
    /// It was refused: with this code, and with such a line for each of these.
    fn refused(&self, code: &str, lines: &[&str]) {
        assert!(!self.ok, "it was not refused:\n{}", self.out);
        assert!(self.err.contains(code) && self.err.contains("hint: "), "{}", self.err);
        let all = format!("{}{}", self.out, self.err);
        for wanted in lines {
            assert!(all.contains(wanted), "no `{wanted}` in:\n{all}");
        }
    }

    fn succeeded(&self) {
        assert!(self.ok, "it failed:\n{}{}", self.out, self.err);
    }
}

/// Everything that a drain treats in its own way, beside the DaemonSet of the network and the pods that are there already.
fn deploy(node: &Node<'_>) {
    let cluster = node.cluster;
    let _ = node.ssh(&format!("sudo mkdir -p {DATA} /etc/kubernetes/manifests"));
    let memory = json!({"requests": {"memory": "16Mi"}});
    let own = pod("own", &["say", "static"], &memory);
    let _ = node.ssh(&format!("echo '{own}' | sudo tee /etc/kubernetes/manifests/own.json >/dev/null"));
    for object in volume() {
        cluster.apply(&object);
    }
    for object in budget() {
        cluster.apply(&object);
    }
    let mounts = [
        ("scratch", json!({"emptyDir": {}})),
        ("db", json!({"persistentVolumeClaim": {"claimName": "data"}})),
    ];
    for (name, mut volume) in mounts {
        volume["name"] = "data".into();
        let mut pod = pod(name, &["say", "here"], &memory);
        pod["spec"]["volumes"] = json!([volume]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        cluster.apply(&pod);
    }
    for name in ["scratch", "db", &format!("own-{NAME}")] {
        cluster.until(&format!("{name} Ready"), POD, |it| {
            it.condition(&format!("pod/{name}"), "Ready").filter(|ready| ready == "True")
        });
    }
    cluster.until("a budget that counts two", POD, |it| {
        let budget = it.json(&["get", "poddisruptionbudget/web", "--output=json"])?;
        (budget["status"]["currentHealthy"] == 2 && budget["status"]["disruptionsAllowed"] == 0).then_some(())
    });
}

/// A directory of the node as a volume, and the claim that has it.
fn volume() -> [Value; 2] {
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]});
    let class = "local";
    [
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk-1"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": DATA},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeName": "disk-1",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }),
    ]
}

/// Two pods of a Deployment, of which the budget lets none go.
fn budget() -> [Value; 2] {
    let labels = json!({"app": "web"});
    let container =
        json!({"name": "main", "image": image::POD, "args": ["say", "web"], "imagePullPolicy": "Never"});
    let pod = json!({
        "containers": [container], "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
    });
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }),
        json!({
            "apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": labels}},
        }),
    ]
}

/// The pods that are on the node and not ending, by name, with their uids.
fn pods(cluster: &Cluster) -> BTreeMap<String, String> {
    let here = format!("--field-selector=spec.nodeName={NAME}");
    let list =
        cluster.json(&["get", "pods", "--all-namespaces", &here, "--output=json"]).expect("the node's pods");
    let pods = list["items"].as_array().expect("a list").iter().map(|pod| &pod["metadata"]);
    let staying = pods.filter(|pod| pod["deletionTimestamp"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    staying.map(|pod| (text(&pod["name"]), text(&pod["uid"]))).collect()
}

fn is_cordoned(cluster: &Cluster) -> bool {
    let node = cluster.json(&["get", &format!("node/{NAME}"), "--output=json"]).expect("the Node");
    node["spec"]["unschedulable"] == true
}

/// Takes the node out of its cluster.
pub(super) fn check(node: &Node<'_>) {
    let cluster = node.cluster;
    deploy(node);
    let before = pods(cluster);
    refused(cluster);
    assert_eq!(pods(cluster), before, "a drain that was refused has changed something");
    assert!(!is_cordoned(cluster), "a drain that was refused has cordoned the node");

    let all = [&[NAME, "--yes", "--keep-node"], CONSENTS].concat();
    let mut interrupted = Drain::start(cluster, &all);
    interrupted.says("is held up: The disruption budget web needs 2 healthy pods and has 2 currently");
    interrupted.interrupt();
    interrupted.end().refused("E-DRAIN-LEFT", &["stays cordoned", "default/web-", "disruption budget web"]);
    assert!(is_cordoned(cluster), "an interrupted drain leaves the node cordoned");

    let mut again = Drain::start(cluster, &all);
    again.says("is held up: The disruption budget web");
    cluster.say(&["delete", "poddisruptionbudget/web"]);
    again.end().succeeded();
    let stays = |name: &String| name.starts_with("network-") || *name == format!("own-{NAME}");
    let after: BTreeMap<_, _> = before.into_iter().filter(|(name, _)| stays(name)).collect();
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!(pods(cluster), after, "only the DaemonSet's pod and the static one stay, untouched");
    assert!(is_cordoned(cluster));

    // The volume outlived the drain, but not the disk that is laid out anew.
    drain(cluster, &[NAME, "--yes"]).refused("E-DRAIN-CONSENT", &["disk-1", "--lose-local-volumes"]);
    drain(cluster, &[NAME, "--yes", "--lose-local-volumes"]).succeeded();
    let gone = cluster.kubectl(&["get", &format!("node/{NAME}")]).expect_err("the Node is still there");
    assert!(gone.contains("NotFound"), "{gone}");
}

/// Drains that must change nothing.
fn refused(cluster: &Cluster) {
    drain(cluster, &["nod-1", "--yes"]).refused("E-DRAIN-NODE", &["did you mean `node-1`?"]);
    let volume = format!(
        "BLOCKED PersistentVolume disk-1 ({DATA}, claim default/data, used by default/db): would be lost"
    );
    let skipped = format!("skip    default/own-{NAME}: a static pod");
    drain(cluster, &[NAME, "--yes"]).refused(
        "E-DRAIN-CONSENT",
        &[
            "BLOCKED default/scratch: emptyDir `data` ends with it (--delete-emptydir-data)",
            "BLOCKED default/shared: has no controller: nothing starts it again (--force)",
            &volume,
            &skipped,
            "skip    kube-system/network-",
            "evict   default/web-",
            "--delete-emptydir-data (1), --lose-local-volumes (1), --force (",
        ],
    );
    let unasked = drain(cluster, &[&[NAME], CONSENTS].concat());
    unasked.refused("E-DRAIN-ANSWER", &["`--yes` agrees"]);
    assert!(!unasked.out.contains("BLOCKED") && !unasked.out.contains("not Ready"), "{}", unasked.out);
}
