//! A blank machine and a real cluster: it boots by PXE under UEFI, installs itself, joins on its first boot, runs pods, is there again after
//! a reboot and after a reinstall, and is drained.
//! Everything is in a network namespace of the test, so that the API server reaches the machine's kubelet.

use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::cluster::worker::{self, ADDRESS, BOOT, HOST, Node, POD, Stage, network, pod};
use support::cluster::{Cluster, image};
use support::guest::{Firmware, Guest, Setup, Start};
use support::lan;
use support::release;
use support::server::word;
use support::ssh::Key;
use tatara_spec::Code;
use tatara_spec::release::{Archives, Release};

mod cuts;
mod drain;
mod faults;
mod rejoin;

const INSTALL: Duration = BOOT;
const JOINED: &str = "step=joined state=ok";

#[test]
fn the_control_plane_is_one_that_nodes_can_join() {
    // It makes the control plane's programs, and needs the host's network for that.
    drop(release::node());
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

fn machine() -> Setup {
    worker::machine(Firmware::Bios, Start::Direct)
}

/// Pods run, speak through the API server, and get the CPUs that are theirs.
fn check_pods(node: &Node<'_>) {
    let whole = json!({"cpu": "1", "memory": "32Mi"});
    // There is one CPU for pods, and the other one wants it whole.
    let part = json!({"memory": "32Mi"});
    let cluster = node.cluster;
    cluster.apply(&pod("shared", &["say", "hello from a pod"], &json!({"requests": part})));
    node.logs("shared", "hello from a pod\n");
    cluster.apply(&pod(
        "alone",
        &["say", "hello from its own CPU"],
        &json!({"requests": whole, "limits": whole}),
    ));
    let log = node.logs("alone", "cpus: ");
    assert!(log.contains("cpus: 1\n"), "a Guaranteed pod of one CPU is not on the isolated one: {log}");
    // The kubelet moves who was there before at its next look, every 10 s.
    cluster.until("a Burstable pod off another pod's CPU", POD, |cluster| {
        let cpus = cluster.kubectl(&["exec", "shared", "--", "/tatara-pod", "cpus"]).ok()?;
        (cpus == "cpus: 0\n").then_some(())
    });
}

/// The kubelet answers the control plane, which the logs of pods come through; what is not named is dropped, not refused.
fn check_firewall(node: &Node<'_>) {
    let rules = node.ssh("sudo nft list table inet tatara");
    assert!(rules.contains(&format!("ip saddr {HOST} tcp dport 10250 accept")), "{rules}");
    let nobody = std::net::SocketAddr::new(ADDRESS.parse().expect("an address"), 9999);
    let answer = std::net::TcpStream::connect_timeout(&nobody, Duration::from_secs(5));
    let error = answer.expect_err("nobody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
}

/// An image archive that the release does not have is refused before anything is written, with those that it has.
fn check_refusal(guest: &Guest) {
    let line = guest.expect("step=plan state=fail", INSTALL);
    let has = format!("it has `{0}`; did you mean `{0}`?", image::PAUSE_FILE);
    assert_eq!(word(&line, "code"), Some(Code::ImageRelease.name()), "{line}");
    guest.printed(&has, INSTALL);
    assert!(guest.never("step=partition"), "the disk was written to:\n{}", guest.tail());
}

/// One image came from the release, as its manifest has it, the other one from a server.
fn check_images(node: &Node<'_>, release: &Path) {
    let manifest = std::fs::read(release.join("release.json")).expect("the release's manifest");
    let archives = Archives::of(&Release::parse(&manifest).expect("the release's manifest"));
    let kept = node.ssh("sudo cat /var/lib/tatara/images-a.json");
    assert_eq!(serde_json::from_str::<Archives>(&kept).expect(&kept), archives);
    let pause = archives.get(image::PAUSE_FILE).expect("its archive").sha256.to_string();
    let markers = node.ssh("sudo ls /var/lib/tatara/kubernetes/images");
    let markers: Vec<&str> = markers.split_whitespace().collect();
    assert!(markers.len() == 2 && markers.contains(&pause.as_str()), "{markers:?} without {pause}");
    let images = node.ssh("sudo ctr --namespace k8s.io images list");
    for name in [image::PAUSE, image::POD] {
        let pinned = images
            .lines()
            .any(|line| line.starts_with(name) && line.contains("io.cri-containerd.pinned=pinned"));
        assert!(pinned, "{name} is not pinned in\n{images}");
    }
}

/// What the release brings starts when the config says so, and what it starts works.
fn check_units(node: &Node<'_>) {
    assert_eq!(node.ssh("systemctl --failed --no-legend --plain"), "", "units have failed");
    assert_eq!(node.ssh("systemctl is-active etcd || true").trim(), "inactive", "nobody asked for etcd");
}

/// The token is nowhere on the node any more.
fn check_secret(node: &Node<'_>, token: &str) {
    let secret = token.split('.').nth(1).unwrap_or_default();
    // The pattern in brackets does not match itself in the journal's own line about this command.
    let (first, rest) = secret.split_at(1);
    let found = node.ssh(&format!(
        "sudo grep -rlsI '[{first}]{rest}' /etc /run /var --exclude-dir=containerd || true; \
         sudo journalctl --no-pager | grep '[{first}]{rest}' || true"
    ));
    assert_eq!(found, "", "the token is still on the node");
}

/// Nor in any block of its disk, be it in use or not.
fn check_blocks(setup: &Setup, token: &str) {
    let secret = token.split('.').nth(1).unwrap_or_default();
    for disk in setup.disk_paths() {
        let mut grep = Command::new("grep");
        // With lines that end at zeros: a hole of gigabytes would be one line.
        grep.args(["--text", "--null-data", "--fixed-strings", "--only-matching", "--byte-offset", secret])
            .arg(&disk);
        let found = grep.output().expect("grep");
        let places = String::from_utf8_lossy(&found.stdout);
        assert_eq!(
            (found.status.code(), &*places),
            (Some(1), ""),
            "the token is on the disk, at these bytes"
        );
    }
}

#[test]
fn a_blank_machine_joins_runs_pods_and_is_there_after_a_reboot() {
    let release = release::node();
    lan::alone(move || {
        let stage = Stage::new(&release, worker::machine(Firmware::Uefi, Start::Pxe), Key::generate());
        let (node, setup) = (stage.node(), &stage.setup);
        let config = stage.config.clone().with(&format!("firewall: {{ssh: [{HOST}], kubelet: [{HOST}]}}\n"));
        let wrong = config.text().replace(&format!("release: {}", image::PAUSE_FILE), "release: pauze.tar");
        stage.server.publish(&setup.mac(), &wrong);

        let guest = Guest::start(setup, Some(&stage.server));
        check_refusal(&guest);
        stage.server.publish(&setup.mac(), &config.text());
        guest.expect("step=record state=ok", INSTALL);
        guest.expect(JOINED, BOOT);
        let first = node.ready(None);
        assert_eq!(first["metadata"]["labels"]["example.com/rack"], "r1");
        assert_eq!(first["status"]["nodeInfo"]["kubeletVersion"], "v1.20.2");
        assert_eq!(first["status"]["allocatable"]["cpu"], "1", "the housekeeping CPU is not the cluster's");
        check_firewall(&node);
        check_images(&node, &release);
        check_pods(&node);
        check_units(&node);
        check_secret(&node, &stage.token);
        node.power_off();
        guest.ended(BOOT);
        check_blocks(setup, &stage.token);

        // By now a join would find a Node of its name, and a token that was used.
        let guest = Guest::start(&setup.again(Start::Disk), None);
        let again = node.ready(first["status"]["nodeInfo"]["bootID"].as_str());
        assert_eq!(again["metadata"]["uid"], first["metadata"]["uid"], "the Node is another one");
        // Ready is the kubelet's doing alone: only this line ends what a boot does about the join.
        guest.expect(JOINED, BOOT);
        assert!(guest.never("step=join state=begin"), "it joined again:\n{}", guest.tail());
        node.logs("shared", "hello from a pod\n");
        let _guest = rejoin::reinstalled(&node, guest, setup, &stage.server, config);
        drain::check(&node);
    });
}
