//! The shapes of answers as data: which keys a version allows, which it requires, and what they hold.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::spec::{Kind, V0_1_0, V0_2_0, V0_3_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0, Version};

/// A key of an object: everything that is not listed is a complaint, so the tables are closed.
struct Key {
    name: &'static str,
    holds: Holds,
    versions: RangeInclusive<Version>,
    need: Need,
}

enum Holds {
    Text,
    /// An integer from 0; never a string.
    Count,
    /// `address/prefix`, the host bits kept.
    Cidr,
    /// An address without prefix.
    Ip,
    Mac,
    Texts,
    Ips,
    One(&'static [Key]),
    Each(&'static [Key]),
}

#[derive(PartialEq, Eq)]
enum Need {
    May,
    Must,
    /// Of no use in the answer of an IPAM plugin, which makes no interfaces.
    MayUnlessIpam,
    MustUnlessIpam,
}

use Holds::{Cidr, Count, Each, Ip, Ips, Mac, One, Text, Texts};
use Need::{May, MayUnlessIpam, Must, MustUnlessIpam};

const fn key(
    name: &'static str,
    holds: Holds,
    versions: RangeInclusive<Version>,
    need: Need,
) -> Key {
    Key {
        name,
        holds,
        versions,
        need,
    }
}

const RESULT: &[Key] = &[
    key("cniVersion", Text, V0_1_0..=V1_1_0, Must),
    key("ip4", One(LEGACY), V0_1_0..=V0_2_0, May),
    key("ip6", One(LEGACY), V0_1_0..=V0_2_0, May),
    key(
        "interfaces",
        Each(INTERFACE),
        V0_3_0..=V1_1_0,
        MustUnlessIpam,
    ),
    key("ips", Each(ADDRESS), V0_3_0..=V1_1_0, May),
    key("routes", Each(ROUTE), V0_3_0..=V1_1_0, May),
    key("dns", One(DNS), V0_1_0..=V0_3_1, Must),
    key("dns", One(DNS), V0_4_0..=V1_1_0, May),
];

/// `ip4` and `ip6` of the first two versions.
const LEGACY: &[Key] = &[
    key("ip", Cidr, V0_1_0..=V0_2_0, Must),
    key("gateway", Ip, V0_1_0..=V0_2_0, May),
    key("routes", Each(ROUTE), V0_1_0..=V0_2_0, May),
];

const INTERFACE: &[Key] = &[
    key("name", Text, V0_3_0..=V1_1_0, Must),
    key("mac", Mac, V0_3_0..=V1_1_0, May),
    key("sandbox", Text, V0_3_0..=V1_1_0, May),
    key("mtu", Count, V1_1_0..=V1_1_0, May),
    key("socketPath", Text, V1_1_0..=V1_1_0, May),
    key("pciID", Text, V1_1_0..=V1_1_0, May),
];

const ADDRESS: &[Key] = &[
    key("version", Text, V0_3_0..=V0_4_0, Must),
    key("address", Cidr, V0_3_0..=V1_1_0, Must),
    key("gateway", Ip, V0_3_0..=V1_1_0, May),
    key("interface", Count, V0_3_0..=V0_4_0, MustUnlessIpam),
    key("interface", Count, V1_0_0..=V1_1_0, MayUnlessIpam),
];

const ROUTE: &[Key] = &[
    key("dst", Cidr, V0_1_0..=V1_1_0, Must),
    key("gw", Ip, V0_1_0..=V1_1_0, May),
    key("mtu", Count, V1_1_0..=V1_1_0, May),
    key("advmss", Count, V1_1_0..=V1_1_0, May),
    key("priority", Count, V1_1_0..=V1_1_0, May),
    key("table", Count, V1_1_0..=V1_1_0, May),
    key("scope", Count, V1_1_0..=V1_1_0, May),
];

const DNS: &[Key] = &[
    key("nameservers", Ips, V0_1_0..=V1_1_0, May),
    key("domain", Text, V0_1_0..=V1_1_0, May),
    key("search", Texts, V0_1_0..=V1_1_0, May),
    key("options", Texts, V0_1_0..=V1_1_0, May),
];

/// Everything that is wrong with the result of an ADD, in words; empty when it has exactly the shape of `version`.
pub fn check_result(version: Version, kind: Kind, result: &Value) -> Vec<String> {
    let mut reader = Reader {
        version,
        kind,
        complaints: Vec::new(),
    };
    let Some(object) = result.as_object() else {
        return vec!["the result is not an object".into()];
    };
    reader.object("", RESULT, object);
    if object
        .get("cniVersion")
        .and_then(Value::as_str)
        .is_some_and(|answered| answered != version.as_str())
    {
        reader.complain(
            "cniVersion",
            &format!("is {}, requested was \"{version}\"", object["cniVersion"]),
        );
    }
    if version <= V0_2_0 {
        reader.legacy_families(object);
    } else {
        reader.addresses(object);
    }
    reader.complaints
}

/// An `address/prefix` text with a prefix that its family allows.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
}

struct Reader {
    version: Version,
    kind: Kind,
    complaints: Vec<String>,
}

impl Reader {
    fn complain(&mut self, at: &str, what: &str) {
        self.complaints.push(format!("`{at}` {what}"));
    }

    fn object(&mut self, at: &str, table: &'static [Key], object: &Map<String, Value>) {
        let rows = || {
            table
                .iter()
                .filter(|row| row.versions.contains(&self.version))
        };
        let known: Vec<_> = rows().collect();
        for (name, value) in object {
            let at = join(at, name);
            match known.iter().find(|row| row.name == name) {
                Some(Key {
                    need: MayUnlessIpam | MustUnlessIpam,
                    ..
                }) if self.kind == Kind::Ipam => {
                    self.complain(&at, "has no place in the result of an IPAM plugin");
                }
                Some(row) => self.value(&at, &row.holds, value),
                None if name == "ip" && at == "ip" && self.version == V0_3_0 => {
                    self.complain(&at, "is the letter of the 0.3.0 text, and no runtime can read it: it is `ips` everywhere");
                }
                None => self.complain(&at, &format!("is not a key of {}", self.version)),
            }
        }
        for row in known {
            let needed = match row.need {
                Must => true,
                MustUnlessIpam => self.kind != Kind::Ipam,
                May | MayUnlessIpam => false,
            };
            if needed && !object.contains_key(row.name) {
                self.complain(&join(at, row.name), "is missing");
            }
        }
    }

    fn value(&mut self, at: &str, holds: &Holds, value: &Value) {
        let text = value.as_str();
        match holds {
            Text if text.is_none() => self.complain(at, "is not a text"),
            Count if value.as_u64().is_none() => self.complain(at, "is not an integer from 0"),
            Cidr if text.and_then(parse_cidr).is_none() => {
                self.complain(at, "is not an address with prefix")
            }
            Ip if !is_ip(value) => self.complain(at, "is not an address"),
            Mac if !text.is_some_and(is_mac) => self.complain(at, "is not a hardware address"),
            Texts if !is_list_of(value, Value::is_string) => {
                self.complain(at, "is not a list of texts")
            }
            Ips if !is_list_of(value, is_ip) => self.complain(at, "is not a list of addresses"),
            One(table) => match value.as_object() {
                Some(object) => self.object(at, table, object),
                None => self.complain(at, "is not an object"),
            },
            Each(table) => match value.as_array() {
                Some(list) => self.each(at, table, list),
                None => self.complain(at, "is not a list"),
            },
            _ => {}
        }
    }

    fn each(&mut self, at: &str, table: &'static [Key], list: &[Value]) {
        for (index, value) in list.iter().enumerate() {
            let at = format!("{at}[{index}]");
            match value.as_object() {
                Some(object) => self.object(&at, table, object),
                None => self.complain(&at, "is not an object"),
            }
        }
    }

    fn legacy_families(&mut self, object: &Map<String, Value>) {
        for (name, is_v4) in [("ip4", true), ("ip6", false)] {
            let address = object
                .get(name)
                .and_then(|family| family.get("ip"))
                .and_then(Value::as_str)
                .and_then(parse_cidr);
            if address.is_some_and(|(address, _)| address.is_ipv4() != is_v4) {
                self.complain(name, "holds an address of the other family");
            }
        }
        if !object.contains_key("ip4") && !object.contains_key("ip6") {
            self.complaints
                .push("neither `ip4` nor `ip6` is there".into());
        }
    }

    fn addresses(&mut self, object: &Map<String, Value>) {
        let list = |name| {
            object
                .get(name)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        let interfaces = list("interfaces").len() as u64;
        if self.kind == Kind::Ipam && list("ips").is_empty() {
            self.complaints
                .push("the result of an IPAM plugin has no `ips`".into());
        }
        for (index, ip) in list("ips").iter().enumerate() {
            let at = format!("ips[{index}]");
            if ip
                .get("interface")
                .and_then(Value::as_u64)
                .is_some_and(|index| index >= interfaces)
            {
                self.complain(&at, "points behind the end of `interfaces`");
            }
            let address = ip
                .get("address")
                .and_then(Value::as_str)
                .and_then(parse_cidr);
            let family = ip.get("version").and_then(Value::as_str);
            if let (Some(family), Some((address, _))) = (family, address) {
                let expected = if address.is_ipv4() { "4" } else { "6" };
                if self.version <= V0_4_0 && family != expected {
                    self.complain(
                        &at,
                        &format!("has version \"{family}\", its address is of \"{expected}\""),
                    );
                }
            }
        }
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

fn is_ip(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.parse::<IpAddr>().is_ok())
}

fn is_list_of(value: &Value, holds: fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(holds))
}

/// Empty stands for "has none": `lo`, tunnels.
fn is_mac(text: &str) -> bool {
    text.is_empty()
        || text
            .split(':')
            .all(|octet| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::Version;

    fn golden(version: Version) -> Value {
        match version {
            V0_1_0 | V0_2_0 => json!({"cniVersion": version.as_str(),
                "ip4": {"ip": "192.0.2.5/24", "gateway": "192.0.2.1", "routes": [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}]},
                "dns": {}}),
            V0_3_0 | V0_3_1 | V0_4_0 => json!({"cniVersion": version.as_str(),
                "interfaces": [{"name": "net1", "mac": "08:00:27:b0:4c:0e", "sandbox": "/run/netns/blue"}],
                "ips": [{"version": "6", "interface": 0, "address": "2001:db8::2/64"}],
                "routes": [{"dst": "::/0"}], "dns": {"nameservers": ["192.0.2.1"]}}),
            V1_0_0 | V1_1_0 => json!({"cniVersion": version.as_str(),
                "interfaces": [{"name": "net1", "sandbox": "/run/netns/blue"}],
                "ips": [{"address": "192.0.2.5/24", "interface": 0}]}),
        }
    }

    #[test]
    fn every_version_accepts_its_own_shape_only() {
        for asked in Version::ALL {
            for answered in Version::ALL {
                let mut result = golden(answered);
                result["cniVersion"] = json!(asked.as_str());
                let shape = |v| {
                    if v <= V0_2_0 {
                        0
                    } else if v <= V0_4_0 {
                        1
                    } else {
                        2
                    }
                };
                let clean = check_result(asked, Kind::Interface, &result).is_empty();
                assert_eq!(
                    clean,
                    shape(asked) == shape(answered),
                    "{answered} shape for {asked}"
                );
            }
        }
    }

    #[test]
    fn the_answered_version_is_compared_exactly() {
        assert_eq!(
            check_result(V0_3_0, Kind::Interface, &golden(V0_3_1)).len(),
            1
        );
    }

    #[test]
    fn keys_of_a_newer_version_are_leaks() {
        for (pointer, key) in [("/interfaces/0", "mtu"), ("/ips/0", "mtu")] {
            let mut result = golden(V1_0_0);
            result.pointer_mut(pointer).unwrap()[key] = json!(1500);
            assert_eq!(
                check_result(V1_0_0, Kind::Interface, &result).len(),
                1,
                "{pointer}/{key}"
            );
        }
        let mut result = golden(V0_4_0);
        result["routes"][0]["table"] = json!(7);
        assert_eq!(
            check_result(V0_4_0, Kind::Interface, &result),
            ["`routes[0].table` is not a key of 0.4.0"]
        );
    }

    #[test]
    fn ipam_results_know_no_interfaces() {
        let mut result = golden(V1_1_0);
        assert_eq!(check_result(V1_1_0, Kind::Ipam, &result).len(), 2);
        result.as_object_mut().unwrap().remove("interfaces");
        result["ips"][0]
            .as_object_mut()
            .unwrap()
            .remove("interface");
        assert!(check_result(V1_1_0, Kind::Ipam, &result).is_empty());
    }

    #[test]
    fn wrong_types_and_indexes_are_seen() {
        for (pointer, value) in [
            ("/ips/0/version", json!(6)),
            ("/ips/0/version", json!("4")),
            ("/ips/0/interface", json!(1)),
            ("/ips/0/interface", json!("0")),
            ("/ips/0/address", json!("2001:db8::2")),
            ("/ips/0/address", json!("2001:db8::2/129")),
            ("/interfaces/0/mac", json!("08-00")),
            ("/interfaces/0/name", json!(null)),
            ("/routes", json!({})),
            ("/dns", json!(null)),
        ] {
            let mut result = golden(V0_3_1);
            *result.pointer_mut(pointer).unwrap() = value;
            assert_eq!(
                check_result(V0_3_1, Kind::Interface, &result).len(),
                1,
                "{pointer}: {result}"
            );
        }
    }
}
