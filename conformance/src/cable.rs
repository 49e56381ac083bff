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
    /// The pod before any call.
    pub pod: NetState,
}

/// What an IPAM plugin in front would have printed: an address that nobody else gets, of one subnet for all, and a default
/// route.
pub fn addresses_only(trial: &Trial<'_>) -> Value {
    let (address, _) = next_addresses(trial);
    let mut result = result(trial, &format!("{address}/9"), "10.128.0.1", json!([]));
    let routes = json!([{ "dst": "0.0.0.0/0" }]);
    if trial.version < V0_3_0 {
        result["ip4"]["routes"] = routes;
    } else {
        result["routes"] = routes;
    }
    result
}

/// A pod's address and its gateway, without prefix length.
fn next_addresses(trial: &Trial<'_>) -> (String, String) {
    let serial = trial.serial();
    // 10.128.0.0/9 has 32768 subnets of 256; a run does not need as many.
    let subnet = format!("10.{}.{}", 128 + (serial >> 8) % 128, serial & 255);
    (format!("{subnet}.2"), format!("{subnet}.1"))
}

/// A result in the shape of the version; the address belongs to the last of the interfaces, if there are any.
fn result(trial: &Trial<'_>, cidr: &str, gateway: &str, interfaces: Value) -> Value {
    let mut result = json!({ "cniVersion": trial.version.as_str() });
    if trial.version < V0_3_0 {
        result["ip4"] = json!({ "ip": cidr, "gateway": gateway });
    } else {
        result["ips"] = json!([{ "address": cidr, "gateway": gateway }]);
        if let Some(last) = interfaces
            .as_array()
            .and_then(|list| list.len().checked_sub(1))
        {
            result["ips"][0]["interface"] = last.into();
            result["interfaces"] = interfaces;
        }
    }
    if trial.version < V1_0_0 {
        result["dns"] = json!({});
        if result["ips"].is_array() {
            result["ips"][0]["version"] = "4".into();
        }
    }
    result
}

impl Cable {
    /// Lays a cable to the interface `ifname` of the pod, on a subnet of its own.
    ///
    /// Answers the cable, and what the plugin that made it would have printed.
    pub fn lay(trial: &Trial<'_>, pod: &Pod<'_>, ifname: &str) -> Result<(Self, Value), Stop> {
        let (address, gateway) = next_addresses(trial);
        let host_end = format!("{PREFIX}{}", trial.serial());
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
        let sandbox = pod.path.to_string_lossy();
        let own = json!({ "name": ifname, "mac": mac, "sandbox": sandbox });
        let cidr = format!("{address}/24");
        let result = result(trial, &cidr, &gateway, json!([{ "name": host_end }, own]));
        let cable = Self {
            address,
            gateway,
            pod: pod.state()?,
        };
        Ok((cable, result))
    }
}
