//! Joins that cannot be: the node says why, in `status`, too, and goes on by itself when the cause is gone.

use super::{INSTALL, JOINED, check_secret, machine};
use std::fs;
use std::path::PathBuf;
use support::cluster::worker::{
    BOOT, HOST, NAME, Node, config_joining, network_plugin, network_with_names, pod_image,
};
use support::cluster::{API_NAME, Cluster, image};
use support::guest::{Guest, Setup};
use support::lan::{self, Dnsmasq};
use support::release;
use support::server::{Server, word};
use support::ssh::Key;
use tatara_spec::Code;

/// For so long the API server is away, by the node's own clock.
const OUTAGE_SECONDS: f64 = 120.0;
/// Who has the node's name first.
const OTHER_MACHINE: &str = "feedfeedfeedfeedfeedfeedfeedfeed";

/// A cluster with a name, a server of configs, images and tokens, and what is told to the node.
struct World {
    cluster: Cluster,
    server: Server,
    names: Dnsmasq,
    hosts: PathBuf,
    key: Key,
    /// Digest of the image that is not in the release.
    pod_image: String,
    setup: Setup,
}

/// One thing after another is wrong, from an image to the kubelet. All but the hash of the CA is mended outside of the node.
#[test]
fn a_node_that_cannot_join_says_why_and_goes_on_by_itself() {
    let release = release::node();
    lan::alone(move || {
        let hosts = tempfile::NamedTempFile::new().expect("a file of hosts");
        let names = network_with_names(hosts.path());
        let cluster = Cluster::start(HOST);
        cluster.apply(&network_plugin());
        let server = Server::at(HOST, HOST, &release, &["console=ttyS0"]);
        let pod_image = pod_image(&server.www());
        let (key, hosts) = (Key::generate(), hosts.path().to_owned());
        let mut world = World { cluster, server, names, hosts, key, pod_image, setup: machine() };
        let expired = world.cluster.expired_token();
        world.give_token(&expired);
        world.until_it_is_another_cluster();
        world.until_joined(&expired);
    });
}

impl World {
    fn node(&self) -> Node<'_> {
        Node { cluster: &self.cluster, key: &self.key }
    }

    fn publish(&self, serial: u64, ca_hash: &str) {
        let url = format!("https://{HOST}:{}/join-token", self.server.https_port);
        let join = format!("tokenFrom: '{url}', caCertHashes: ['{ca_hash}']");
        let mut config = config_joining(&format!("{API_NAME}:6443"), &join, &self.pod_image, &self.key);
        config.serial = serial;
        self.server.publish(&self.setup.mac(), &config.text());
    }

    fn give_token(&self, token: &str) {
        fs::write(self.server.www().join("join-token"), format!("{token}\n")).expect("the token");
    }

    /// The step comes to fail with this code, and `status` says the same, with what to do.
    fn says(&self, guest: &Guest, step: &str, code: Code, state: &str) -> String {
        let line = guest.expect(&format!("code={} ", code.name()), BOOT);
        assert_eq!(word(&line, "step"), Some(step), "{line}\n{}", guest.tail());
        guest.printed(&format!("hint: {}", code.hint()), BOOT);
        let join = self.node().join_status();
        let said = [&join["state"], &join["code"], &join["hint"]];
        assert_eq!(said, [state, code.name(), code.hint()], "{join}");
        line
    }

    /// The install, and everything up to the hash of the CA, which only another config mends: then the power goes.
    fn until_it_is_another_cluster(&mut self) {
        let strange = format!("sha256:{}", "0".repeat(64));
        self.publish(1, &strange);
        let archive = self.server.www().join("images/pod.tar");
        let right = fs::read(&archive).expect("the archive");
        fs::write(&archive, "another file").expect("the archive");
        self.cluster.api_server(false);
        let guest = Guest::start(&self.setup, Some(&self.server));
        guest.expect("step=record state=ok", INSTALL);
        // People can log in while it waits.
        guest.expect("step=bless state=ok", BOOT);
        self.wrong_image(&guest);
        self.full_disk(&guest, &right);
        self.nameless(&guest);
        self.outage(&guest);
        self.cluster.api_server(true);
        let refused = self.says(&guest, "join-api", Code::JoinCa, "refused");
        assert!(refused.contains(&self.cluster.ca_hash()) && refused.contains(&strange), "{refused}");
        assert!(guest.never("step=join-token"), "a token for whoever answers:\n{}", guest.tail());
        let asked = self.server.log().iter().filter(|line| line.contains("join-token")).count();
        assert_eq!(asked, 0, "a token was fetched for whoever answers");
    }

    fn wrong_image(&self, guest: &Guest) {
        let line = self.says(guest, "images", Code::ImageDigest, "waiting");
        for part in ["images/pod.tar", &self.pod_image] {
            assert!(line.contains(part), "`{part}` is not in `{line}`");
        }
        let there = self.node().ssh("sudo ctr --namespace k8s.io images list --quiet");
        assert!(there.contains(image::PAUSE) && !there.contains(image::POD), "{there}");
    }

    /// The right file now, and no room for it.
    fn full_disk(&self, guest: &Guest, right: &[u8]) {
        let node = self.node();
        // Whatever fallocate(1) cannot have at once, the copy takes.
        let fill = "F=$(stat -fc %f /var); S=$(stat -fc %S /var); fallocate -l $((F * S - 4194304)) /var/full; \
                    cat /dev/zero > /var/full2";
        drop(node.ssh(&format!("sudo sh -c '{fill}' 2>/dev/null; true")));
        fs::write(self.server.www().join("images/pod.tar"), right).expect("the archive");
        let line = self.says(guest, "images", Code::StateFull, "waiting");
        assert!(line.contains("MiB are free"), "{line}");
        drop(node.ssh("sudo rm /var/full /var/full2"));
        guest.expect("step=images state=ok", BOOT);
        let left = node.ssh("sudo ls /var/lib/tatara/kubernetes /var/lib/tatara/kubernetes/images");
        assert!(!left.contains("partial") && !left.contains("importing"), "{left}");
    }

    fn nameless(&self, guest: &Guest) {
        let line = self.says(guest, "join-api", Code::JoinApi, "waiting");
        assert!(line.contains(Code::NetDns.name()) && line.contains(API_NAME), "{line}");
        fs::write(&self.hosts, format!("{HOST} {API_NAME}\n")).expect("the hosts");
        self.names.reads_hosts_again();
    }

    /// Nobody answers: it asks again, ever less often.
    fn outage(&self, guest: &Guest) {
        guest.expect(Code::NetConnect.name(), BOOT);
        let begun = || {
            let line = guest.expect("step=join-api state=begin", BOOT);
            word(&line, "t").and_then(|t| t.parse::<f64>().ok()).expect("the line's time")
        };
        let mut times = vec![begun()];
        while times.last().is_some_and(|last| last - times[0] < OUTAGE_SECONDS) {
            times.push(begun());
        }
        let waits: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(waits.len() >= 3 && waits[0] < waits[waits.len() - 1], "its waits do not grow: {waits:?}");
    }

    /// With the right hash: a token that has expired, a name that is taken, a kubelet that ends at its start.
    fn until_joined(&mut self, expired: &str) {
        let token = self.cluster.token("2h");
        self.publish(2, &self.cluster.ca_hash());
        let guest = Guest::start(&self.setup, Some(&self.server));
        guest.expect("step=bless state=ok", BOOT);
        self.says(&guest, "join-token", Code::JoinToken, "waiting");
        self.cluster.controller_manager(false);
        self.cluster.ready_node(NAME, OTHER_MACHINE);
        self.give_token(&token);
        let theirs = self.taken(&guest);
        let right = self.cluster.add_to_kubelet_configuration("maxPods: -1\n");
        self.cluster.say(&["delete", "node", NAME]);
        self.cluster.controller_manager(true);
        let line = self.says(&guest, "join", Code::Kubelet, "waiting");
        assert!(line.contains("the kubelet says: ") && line.contains("maxPods"), "{line}");
        self.cluster.set_kubelet_configuration(&right);
        guest.expect(JOINED, BOOT);
        let node = self.node();
        assert_ne!(node.ready(None)["metadata"]["uid"], theirs);
        assert_eq!(node.join_status()["state"], "joined");
        for secret in [expired, &token] {
            check_secret(&node, secret);
        }
    }

    /// The Node of another machine is as it was; its uid.
    fn taken(&self, guest: &Guest) -> String {
        let node = || {
            let get = ["get", "node", NAME, "--output=json"];
            self.cluster.json(&get).expect("the other machine's Node")["metadata"].clone()
        };
        let before = node();
        let line = self.says(guest, "join-name", Code::JoinName, "refused");
        assert!(line.contains(OTHER_MACHINE), "{line}");
        assert_eq!(node(), before, "somebody changed a Node that is another machine's");
        let requests = self.cluster.say(&["get", "csr", "--output=name"]);
        assert_eq!(requests, "", "a machine that is refused asks for no certificate");
        before["uid"].as_str().expect("its uid").to_owned()
    }
}
