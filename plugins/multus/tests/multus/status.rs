//! What the pod is told of a network whose plugin says little, by the link that is there.

use serde_json::json;

use crate::world::{NETWORKS, World};

#[test]
fn an_old_result_without_interfaces_is_completed() {
    let world = World::new();
    world.file("bin/net4", &format!(
        "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\nCNI_COMMAND=ADD {}/bin/net3 > /dev/null\necho '{{\"ip4\":{{\"ip\":\"10.3.0.2/24\"}}}}'\n",
        world.dir.display()
    ));
    world.define("default", "old", &json!({"type": "net4"}));
    world.annotate(NETWORKS, "old");
    world.ok("ADD");
    let status = world.status();
    assert_eq!(status[1]["interface"], "net1", "{status}");
    assert_eq!(status[1]["ips"], json!(["10.3.0.2"]));
    assert_eq!(status[1]["mac"], "02:00:00:00:00:03");
}
