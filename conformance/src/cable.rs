//! What an earlier plugin of a list would have made: a cable from the host into the pod, and the result that tells of it.

use serde_json::{Value, json};

use crate::pod::{NetState, Pod};
use crate::requirement::Stop;
use crate::spec::{V0_3_0, V1_0_0};
use crate::trial::Trial;

/// What the names of the host's ends begin with. They come and go with the pods, whatever a plugin does.
pub const PREFIX: &str = "cable";

/// A pod's end of a cable.
#[derive(Clone, Debug)]
pub struct Cable {
    /// The pod's address, without prefix length.
    pub address: String,
    /// The host's address on the same subnet.
    pub gateway: String,
    /// What the plugin that made it would have printed.
    pub result: Value,
    /// The pod before any call.
    pub pod: NetState,
}

impl Cable {
    /// Lays a cable to the interface `ifname` of the pod, on a subnet of its own.
    pub fn lay(trial: &Trial<'_>, pod: &Pod<'_>, ifname: &str) -> Result<Self, Stop> {
        let serial = trial.serial();
        let host_end = format!("{PREFIX}{serial}");
        // 10.128.0.0/9 has 32768 subnets of 256; a run does not need as many.
        let subnet = format!("10.{}.{}", 128 + (serial >> 8) % 128, serial & 255);
        let (address, gateway) = (format!("{subnet}.2"), format!("{subnet}.1"));
        let stage = trial.stage;
        stage.ip(&[
            "link", "add", &host_end, "type", "veth", "peer", "name", ifname, "netns", &pod.name,
        ])?;
        stage.ip(&["address", "add", &format!("{gateway}/24"), "dev", &host_end])?;
        stage.ip(&["link", "set", &host_end, "up"])?;
        pod.ip(&["address", "add", &format!("{address}/24"), "dev", ifname])?;
        pod.ip(&["link", "set", ifname, "up"])?;
        pod.ip(&["link", "set", "lo", "up"])?;
        pod.ip(&["route", "add", "default", "via", &gateway])?;
        let mac = pod.link(ifname)?.map(|link| link.mac).unwrap_or_default();
        let cidr = format!("{address}/24");
        let mut result = json!({ "cniVersion": trial.version.as_str() });
        if trial.version < V0_3_0 {
            result["ip4"] = json!({ "ip": cidr, "gateway": gateway });
        } else {
            let sandbox = pod.path.to_string_lossy();
            result["interfaces"] =
                json!([{ "name": host_end }, { "name": ifname, "mac": mac, "sandbox": sandbox }]);
            result["ips"] = json!([{ "interface": 1, "address": cidr, "gateway": gateway }]);
        }
        if trial.version < V1_0_0 {
            result["dns"] = json!({});
            if result["ips"].is_array() {
                result["ips"][0]["version"] = "4".into();
            }
        }
        Ok(Self {
            address,
            gateway,
            result,
            pod: pod.state()?,
        })
    }
}
