//! Reading a result of any version: a `prevResult`, or what a delegate printed.

use serde::Deserialize;

use crate::json::{ReadError, Value};
use crate::text::{Addr, Cidr};
use crate::{Dns, Interface, Ip, Route, Success, Version};

/// The members of all versions together; the version decides which are looked at.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    cni_version: String,
    ip4: Option<WireFamily>,
    ip6: Option<WireFamily>,
    interfaces: Vec<Interface>,
    ips: Vec<WireIp>,
    routes: Vec<WireRoute>,
    dns: Dns,
}

/// `ip4` and `ip6` of 0.1.0 and 0.2.0.
#[derive(Deserialize)]
struct WireFamily {
    ip: Cidr,
    #[serde(default)]
    gateway: Addr,
    #[serde(default)]
    routes: Vec<WireRoute>,
}

#[derive(Deserialize)]
struct WireIp {
    address: Cidr,
    #[serde(default)]
    gateway: Addr,
    interface: Option<usize>,
}

#[derive(Deserialize)]
struct WireRoute {
    dst: Cidr,
    #[serde(default)]
    gw: Addr,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    advmss: u32,
    #[serde(default)]
    priority: u32,
    table: Option<u32>,
    scope: Option<u32>,
}

impl Success {
    /// Reads a result whose version is its own `cniVersion` or, where that is missing, the configuration's.
    ///
    /// The text says what is wrong with it.
    pub fn read(document: &Value, conf_version: &str) -> Result<Success, String> {
        let wire: Wire = document.read().map_err(|e: ReadError| e.to_string())?;
        let version = match wire.cni_version.as_str() {
            "" => conf_version,
            own => own,
        };
        let Some(version) = Version::parse(version) else {
            return Err(format!("unsupported CNI result version {version:?}"));
        };
        if version >= Version::V0_3_0 {
            return Ok(Success {
                interfaces: wire.interfaces,
                ips: wire.ips.into_iter().map(Ip::from).collect(),
                routes: wire.routes.into_iter().map(Route::from).collect(),
                dns: wire.dns,
            });
        }
        let mut result = Success {
            dns: wire.dns,
            ..Success::default()
        };
        for family in [wire.ip4, wire.ip6].into_iter().flatten() {
            result.ips.push(Ip {
                address: family.ip.0,
                gateway: family.gateway.0,
                interface: None,
            });
            result
                .routes
                .extend(family.routes.into_iter().map(Route::from));
        }
        Ok(result)
    }

    /// Reads what a delegate printed.
    pub fn parse(document: &[u8], conf_version: &str) -> Result<Success, String> {
        let document = Value::parse(document).map_err(|e| e.to_string())?;
        Success::read(&document, conf_version)
    }
}

impl From<WireIp> for Ip {
    fn from(wire: WireIp) -> Ip {
        Ip {
            address: wire.address.0,
            gateway: wire.gateway.0,
            interface: wire.interface,
        }
    }
}

impl From<WireRoute> for Route {
    fn from(wire: WireRoute) -> Route {
        Route {
            dst: wire.dst.0,
            gw: wire.gw.0,
            mtu: wire.mtu,
            advmss: wire.advmss,
            priority: wire.priority,
            table: wire.table,
            scope: wire.scope,
        }
    }
}

/// A route of a configuration (`ipam.routes`) has the shape of a result's.
impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        WireRoute::deserialize(deserializer).map(Route::from)
    }
}
