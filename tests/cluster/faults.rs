//! Joins that cannot be: the node says why, and goes on by itself.

use super::{INSTALL, JOINED, machine};
use support::cluster::Cluster;
use support::cluster::worker::{ADDRESS, BOOT, HOST, NAME, Node, config, images, network, network_plugin};
use support::guest::Guest;
use support::lan;
use support::release;
use support::server::Server;
use support::ssh::Key;

/// What is wrong is outside of the node, and so is its end: the node says what it is, and goes on.
#[test]
fn a_node_that_cannot_join_says_why_and_goes_on_by_itself() {
    let release = release::node();
    lan::alone(move || {
        let _dhcp = network();
        let mut cluster = Cluster::start(HOST);
        cluster.apply(&network_plugin());
        let server = Server::at(HOST, HOST, &release, &["console=ttyS0"]);
        let (key, setup) = (Key::generate(), machine());
        let images = images(&server.www());
        let token = cluster.token("30s");
        let other = format!("sha256:{}", "0".repeat(64));
        let wrong = config(&cluster, (&token, &other), &images, &key);
        server.publish(&setup.mac(), &wrong.text());

        cluster.api_server(false);
        let guest = Guest::start(&setup, Some(&server));
        guest.expect("step=record state=ok", INSTALL);
        guest.expect("step=join-api state=fail", BOOT);
        guest.printed("code=E-JOIN-API", BOOT);
        cluster.api_server(true);
        let refused = guest.expect("code=E-JOIN-CA", BOOT);
        assert!(refused.contains(&cluster.ca_hash()), "{refused}");
        assert!(guest.never("step=join-token"), "a token for whoever answers:\n{}", guest.tail());
        let _ = key.login_at("alice", ADDRESS, 22, "sudo poweroff");
        guest.ended(BOOT);

        let mut right = config(&cluster, (&token, &cluster.ca_hash()), &images, &key);
        right.serial = 2;
        server.publish(&setup.mac(), &right.text());
        let guest = Guest::start(&setup, Some(&server));
        guest.expect("step=join-token state=fail", BOOT);
        guest.printed("code=E-JOIN-TOKEN", BOOT);
        cluster.takes(&token);
        guest.expect(JOINED, BOOT);
        let ready = Node { cluster: &cluster, key: &key }.ready(None);
        assert_eq!(ready["metadata"]["name"], NAME);
    });
}
