//! The power goes on the way from switch_root to Ready. Started again, the machine goes on: in the end it is one Node, and Ready.

use super::{JOINED, check_secret, machine};
use support::cluster::worker::{BOOT, NAME, Stage};
use support::guest::{Guest, Setup, Start};
use support::lan;
use support::release;
use support::seed::some;
use support::ssh::Key;

/// Console lines, in their order: PID 1 hands over, systemd begins, containerd is up and an archive is fetched, is verified and now
/// imported, is imported and not yet on the disk, kubeadm begins, has written the kubelet's configuration and starts it, waits for the
/// kubelet's certificate, has joined, and the stamp is written but no secret erased.
const POINTS: [&str; 10] = [
    "step=switch-root state=ok",
    "systemd[1]: Listening on",
    "step=images state=begin",
    "pod.tar is verified; importing it",
    "pod.tar is imported",
    "step=join state=begin",
    "kubeadm: [kubelet-start] Starting the kubelet",
    "kubeadm: [kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap",
    "step=join state=ok",
    "step=joined state=begin",
];
/// So many of them in `make test`, by the seed.
const SAMPLE: usize = 3;
const SALT: u64 = 21;

/// One disk: cut at a line, started again, cut at the next one. `make test` takes three of the lines, `TATARA_ALL=1` all.
#[test]
fn a_node_whose_power_goes_before_it_is_ready_goes_on() {
    let release = release::node();
    lan::alone(move || {
        let stage = Stage::new(&release, machine(), Key::generate());
        let mut guest = Guest::start(&stage.setup, Some(&stage.server));
        for point in some(&POINTS, SAMPLE, SALT) {
            println!("the power goes at `{point}`");
            guest = cut(guest, &stage.setup, point);
        }
        guest.expect(JOINED, BOOT);
        let node = stage.node();
        let ready = node.ready(None);
        // The images are whole: the pod that brings the cluster's network runs from one of them.
        assert_eq!(stage.cluster.say(&["get", "nodes", "--output=name"]).trim(), format!("node/{NAME}"));
        assert_eq!(ready["metadata"]["name"], NAME);
        assert_eq!(node.join_status()["state"], "joined");
        let left = node.ssh("sudo ls /var/lib/tatara/kubernetes /var/lib/tatara/kubernetes/images");
        assert!(
            !left.contains("partial") && !left.contains("joining") && !left.contains("importing"),
            "{left}"
        );
        check_secret(&node, &stage.token);
    });
}

/// The machine, started again from its disk after it was cut off at this line.
fn cut(guest: Guest, setup: &Setup, point: &str) -> Guest {
    guest.expect(point, BOOT);
    drop(guest);
    Guest::start(&setup.again(Start::Disk), None)
}
