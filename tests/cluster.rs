//! A blank machine and a real cluster: it installs itself, joins on its first boot, runs pods, and is there again after a reboot.
//! Everything is in a network namespace of the test, so that the API server reaches the machine's kubelet.

use serde_json::{Value, json};
use std::time::Duration;
use support::cluster::{Cluster, image};
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::lan::{self, Dnsmasq};
use support::release;
use support::server::Server;
use support::ssh::Key;

/// Emulated on two busy cores; a machine that is stuck is ended here.
const INSTALL: Duration = Duration::from_secs(600);
const BOOT: Duration = Duration::from_secs(600);
const BLESSED: &str = "step=bless state=ok";
/// A pod from its begin to its first line.
const POD: Duration = Duration::from_secs(180);

const HOST: &str = "10.77.0.1";
const NODE: &str = "10.77.0.50";
const NAME: &str = "node-1";

/// The network of the test, and who gives the machine its address.
fn network() -> Dnsmasq {
    drop(release::node());
    lan::tap("tap0", &format!("{HOST}/24"));
    let range = format!("--dhcp-range={NODE},{NODE},255.255.255.0,1h");
    Dnsmasq::start(&["--port=0", "--interface=tap0", "--bind-interfaces", "--dhcp-authoritative", &range])
}

#[test]
fn the_control_plane_is_one_that_nodes_can_join() {
    lan::alone(|| {
        let _dhcp = network();
        let cluster = Cluster::start(HOST);
        for name in ["kubeadm-config", "kubelet-config-1.20"] {
            cluster.say(&["get", "configmap", "--namespace=kube-system", name]);
        }
        let command = cluster.join_command();
        assert!(command.contains(&cluster.endpoint()), "{command}");
        assert!(command.contains(&cluster.ca_hash()), "{command} has not {}", cluster.ca_hash());
        assert_eq!(cluster.token("1h").len(), "abcdef.0123456789abcdef".len());
        assert_eq!(cluster.say(&["get", "nodes", "--output=name"]), "");
    });
}
