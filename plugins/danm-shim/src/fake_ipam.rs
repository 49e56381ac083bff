//! The IPAM plugin that answers with the addresses of its configuration: how a delegate gets those that were reserved.

use cni::json::Object;
use cni::{Error, Ip, Success};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ipam {
    ips: Vec<IpamIp>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpamIp {
    ipcidr: String,
}

/// The result of ADD. Errors, in the original's words: no address is there, or one can't be read.
pub(crate) fn add(stdin: &[u8]) -> Result<Success, Error> {
    let unreadable = |e: cni::json::ReadError| Error::config(format!("ipam: {e}"));
    let document = Object::parse(stdin).map_err(unreadable)?;
    let ipam: Ipam = document
        .value("ipam")
        .and_then(|ipam| ipam.read())
        .map_err(unreadable)?;
    if ipam.ips.is_empty() {
        return Err(Error::config("No IP was passed to fake IPAM"));
    }
    let read = |ip: &IpamIp| {
        let address = cni::text::parse_cidr(&ip.ipcidr).map_err(|_| {
            Error::config(format!(
                "Unable to parse the given IpamConfig.IpCidr: {}",
                ip.ipcidr
            ))
        })?;
        Ok(Ip {
            address,
            gateway: None,
            interface: None,
        })
    };
    let ips = ipam.ips.iter().map(read).collect::<Result<_, Error>>()?;
    Ok(Success {
        ips,
        ..Success::default()
    })
}
