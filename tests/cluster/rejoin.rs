//! Again: a node of a name that the cluster knows.

use super::{INSTALL, JOINED};
use serde_json::Value;
use support::cluster::worker::{BOOT, NAME, Node};
use support::config::NodeYaml;
use support::guest::{Guest, Setup};
use support::server::Server;

/// The disk is written anew, so that nothing on it knows of the cluster: the Node of its name, which is not Ready any more, is taken over.
pub(super) fn reinstalled(
    node: &Node<'_>,
    guest: Guest,
    setup: &Setup,
    server: &Server,
    config: NodeYaml,
) -> Guest {
    let object = format!("node/{NAME}");
    let get = |node: &Node<'_>| -> Value {
        node.cluster.json(&["get", &object, "--output=json"]).expect("the Node")
    };
    let before = get(node);
    drop(guest);
    node.cluster.until(&format!("{NAME} is missed"), BOOT, |cluster| {
        cluster.condition(&object, "Ready").filter(|ready| ready == "Unknown")
    });
    server.publish(&setup.mac(), &NodeYaml { serial: 2, generation: 2, ..config }.text());
    let guest = Guest::start(setup, Some(server));
    guest.expect("step=record state=ok", INSTALL);
    let name = guest.expect("step=join-name state=ok", BOOT);
    assert!(name.contains("node=not-ready"), "{name}");
    guest.expect(JOINED, BOOT);
    let after = node.ready(before["status"]["nodeInfo"]["bootID"].as_str());
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "the Node is another one");
    let machine = |node: &Value| node["status"]["nodeInfo"]["machineID"].clone();
    assert_ne!(machine(&after), machine(&before), "nothing was installed");
    guest
}
