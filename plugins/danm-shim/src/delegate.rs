//! The configurations that other plugins make the interface with.

use std::fs;
use std::io;
use std::path::Path;

use cni::json::{self, Object};
use cni::{Error, Network};
use k8s::DanmNetwork;
use serde::Serialize;

use crate::device::Device;
use crate::ipam::{Addresses, NONE};

/// What a delegate is made of.
pub(crate) struct Delegation<'a> {
    pub(crate) network: &'a DanmNetwork,
    /// Addresses of the network's bitmap; those that are none are left out.
    pub(crate) reserved: &'a Addresses,
    /// PCI address of the device, for sriov.
    pub(crate) device: Option<&'a str>,
    /// Where files with configurations are.
    pub(crate) cni_dir: &'a Path,
    /// The `type` of the IPAM plugin that answers with the reserved addresses.
    pub(crate) fake_ipam: &'a str,
    /// The `name` and `cniVersion` that a file lacks are put in.
    pub(crate) completes: bool,
}

/// The name of the IPAM plugin that answers with the addresses of its configuration.
pub(crate) const FAKE_IPAM: &str = "fakeipam";

/// What kind of network it is, in lower case; empty is ipvlan.
pub(crate) fn network_type(network: &DanmNetwork) -> String {
    match network.spec.network_type.as_str() {
        "" => "ipvlan".into(),
        other => other.to_lowercase(),
    }
}

/// Whether other plugins make the interface.
pub(crate) fn is_needed(network_type: &str) -> bool {
    network_type != "ipvlan"
}

/// Whether the interface is a device of its own.
pub(crate) fn needs_device(network_type: &str) -> bool {
    network_type == "sriov"
}

/// Whether addresses come from the network's bitmap. Once they do, both families do.
pub(crate) fn uses_bitmap(network: &DanmNetwork, wanted: &Addresses) -> bool {
    let Addresses { ip, ip6 } = wanted;
    let options = &network.spec.options;
    let has_pool6 = options
        .allocation_pool_v6
        .as_ref()
        .is_some_and(|pool| !pool.cidr.is_empty());
    match network_type(network).as_str() {
        "ipvlan" | "macvlan" | "sriov" => true,
        _ => {
            ip == NONE
                || ip6 == NONE
                || (!ip.is_empty() && !options.cidr.is_empty())
                || (!ip6.is_empty() && has_pool6)
        }
    }
}

/// The link of the host that interfaces of the network are made on.
pub(crate) fn host_device(network: &DanmNetwork) -> String {
    let (options, id) = (&network.spec.options, &network.spec.network_id);
    match (options.vxlan, options.vlan) {
        (0, 0) => options.host_device.clone(),
        (0, vlan) => format!("{id}.{vlan}"),
        _ => format!("vx_{id}"),
    }
}

#[derive(Serialize)]
struct Ipam<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpamIp<'a>>,
}

#[derive(Serialize)]
struct IpamIp<'a> {
    ipcidr: &'a str,
    version: u8,
}

/// `dns` of generated configurations, which is always there and always empty.
#[derive(Serialize)]
struct NoDns {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MacVlan<'a> {
    cni_version: &'a str,
    name: &'a str,
    r#type: &'a str,
    dns: NoDns,
    master: String,
    mode: &'a str,
    mtu: u32,
    ipam: Ipam<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sriov<'a> {
    cni_version: &'a str,
    name: &'a str,
    r#type: &'a str,
    dns: NoDns,
    master: String,
    #[serde(skip_serializing_if = "is_zero")]
    vlan: u32,
    #[serde(rename = "deviceID")]
    device_id: &'a str,
    ipam: Ipam<'a>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The version of generated configurations.
const GENERATED: &str = "0.3.1";

impl Delegation<'_> {
    /// The delegate's network. Errors: a file is missing or no configuration, a device is not there.
    pub(crate) fn build(&self) -> Result<Network, Error> {
        let spec = &self.network.spec;
        let name = spec.network_id.as_str();
        let text = match network_type(self.network).as_str() {
            "macvlan" => json::compact(&MacVlan {
                cni_version: GENERATED,
                name,
                r#type: "macvlan",
                dns: NoDns {},
                master: host_device(self.network),
                mode: "bridge",
                mtu: 1500,
                ipam: self.ipam(),
            }),
            "sriov" => {
                let device = self.device.ok_or_else(|| {
                    Error::plugin(
                        "there is no device of the network's device_pool left for the pod",
                    )
                })?;
                json::compact(&Sriov {
                    cni_version: GENERATED,
                    name,
                    r#type: "sriov",
                    dns: NoDns {},
                    master: Device::new(device).physical_function()?,
                    vlan: spec.options.vlan,
                    device_id: device,
                    ipam: self.ipam(),
                })
            }
            _ => return self.read_file(),
        };
        Network::parse(text.as_bytes())
    }

    /// A file `<NetworkID>.conf` or `<NetworkID>.conflist`. With addresses of the bitmap, the plugin that makes the
    /// interface gets them in place of its `ipam`.
    fn read_file(&self) -> Result<Network, Error> {
        let spec = &self.network.spec;
        let (id, kind) = (&spec.network_id, &spec.network_type);
        let cni_dir = self.cni_dir.display();
        let missing = || {
            Error::plugin(format!(
                "Could not load CNI config file: {id}.conf for plugin:{kind} from directory:{cni_dir}"
            ))
        };
        if !cni::names::is_identifier(id) {
            return Err(missing().details(format!("NetworkID {id:?} can't be a file's name")));
        }
        let read = |ending: &str| match fs::read(self.cni_dir.join(format!("{id}.{ending}"))) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(missing().details(e.to_string())),
        };
        let mut network = match (read("conf")?, read("conflist")?) {
            (Some(text), _) => Network::parse_single(&text),
            (None, Some(text)) => Network::parse_list(&text),
            (None, None) => return Err(missing()),
        }
        .map_err(|e| missing().details(e.msg))?;
        if self.completes && network.name.is_empty() {
            network.set_name(id);
        }
        if self.completes && network.cni_version.is_empty() {
            network.set_cni_version(GENERATED);
        }
        let ipam = self.ipam();
        if !ipam.ips.is_empty() {
            let mut is_first = true;
            network.edit_plugins(|document: &mut Object| {
                if std::mem::take(&mut is_first) {
                    document.set("ipam", &ipam);
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(network)
    }

    fn ipam(&self) -> Ipam<'_> {
        let Addresses { ip, ip6 } = self.reserved;
        let is_address = |(address, _): &(&String, u8)| address.contains('/');
        let all = [(ip, 4), (ip6, 6)].into_iter().filter(is_address);
        let ips: Vec<IpamIp<'_>> = all
            .map(|(ipcidr, version)| IpamIp { ipcidr, version })
            .collect();
        let r#type = if ips.is_empty() { "" } else { self.fake_ipam };
        Ipam { r#type, ips }
    }
}

#[cfg(test)]
mod tests {
    use k8s::{DanmNetworkSpec, DanmOptions, DanmPool};

    use super::*;

    fn network(kind: &str) -> DanmNetwork {
        DanmNetwork {
            spec: DanmNetworkSpec {
                network_type: kind.into(),
                network_id: "net".into(),
                ..DanmNetworkSpec::default()
            },
            ..DanmNetwork::default()
        }
    }

    /// `IsDelegationRequired` and `IsDeviceNeeded` of the original.
    #[test]
    fn who_makes_the_interface() {
        for (kind, delegated, has_device) in [
            ("", false, false),
            ("ipvlan", false, false),
            ("IPVLAN", false, false),
            ("macvlan", true, false),
            ("sriov", true, true),
            ("SRIOV", true, true),
            ("flannel", true, false),
            ("hulu", true, false),
        ] {
            let kind = network_type(&network(kind));
            assert_eq!(
                (is_needed(&kind), needs_device(&kind)),
                (delegated, has_device),
                "{kind}"
            );
        }
    }

    #[test]
    fn whose_addresses_they_are() {
        let with = |kind: &str, cidr: &str, pool6: &str| {
            let mut network = network(kind);
            network.spec.options = DanmOptions {
                cidr: cidr.into(),
                allocation_pool_v6: Some(DanmPool {
                    cidr: pool6.into(),
                    ..DanmPool::default()
                }),
                ..DanmOptions::default()
            };
            network
        };
        for (kind, cidr, pool6, (ip, ip6), from_bitmap) in [
            ("ipvlan", "", "", ("", ""), true),
            ("macvlan", "", "", ("dynamic", ""), true),
            ("sriov", "", "", ("", "none"), true),
            ("calico", "", "", ("dynamic", "dynamic"), false),
            ("calico", "", "", ("none", ""), true),
            ("calico", "", "", ("", "none"), true),
            ("calico", "10.0.0.0/24", "", ("dynamic", ""), true),
            ("calico", "10.0.0.0/24", "", ("", "dynamic"), false),
            ("calico", "", "fd00::/120", ("", "dynamic"), true),
            ("calico", "", "fd00::/120", ("dynamic", ""), false),
        ] {
            let wanted = Addresses {
                ip: ip.into(),
                ip6: ip6.into(),
            };
            let found = uses_bitmap(&with(kind, cidr, pool6), &wanted);
            assert_eq!(found, from_bitmap, "{kind} {cidr} {pool6} {wanted:?}");
        }
    }
}
