//! The plugin's keys, and the settings they amount to.

use std::net::IpAddr;

use cni::Error;
use kernel::nftables::Family;
use serde::Deserialize;

use crate::mapping::{Mapping, Protocol};

/// The keys as they may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Conf {
    backend: Option<String>,
    snat: Option<bool>,
    masq_all: bool,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Vec<String>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Vec<String>,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    host_port_conflict: Option<String>,
    capabilities: Capabilities,
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Capabilities {
    port_mappings: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Vec<PortMapping>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PortMapping {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

/// What writes the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackendKind {
    Iptables,
    Nftables,
}

impl BackendKind {
    fn name(self) -> &'static str {
        match self {
            BackendKind::Iptables => "iptables",
            BackendKind::Nftables => "nftables",
        }
    }
}

/// What to do about a host port that another container holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// The ADD fails and names the holder.
    Refuse,
    /// Both are set up and the older one gets the traffic, as with the original.
    FirstWins,
    /// Both are set up and the newer one gets the traffic.
    LastWins,
}

/// Who marks the packets that are to be masqueraded (iptables).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Our own chain sets this bit.
    Bit(u32),
    /// A chain of somebody else, who masquerades as well.
    ExternalChain(String),
}

/// A configuration that makes sense.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `None` when it is for the plugin to choose.
    pub(crate) backend: Option<BackendKind>,
    pub(crate) snat: bool,
    pub(crate) masq_all: bool,
    pub(crate) mark: Mark,
    pub(crate) on_conflict: OnConflict,
    pub(crate) mappings: Vec<Mapping>,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
}

impl Conf {
    /// Whether runtimes may ask for port mappings on this network.
    pub(crate) fn has_capability(&self) -> bool {
        self.capabilities.port_mappings || !self.runtime_config.port_mappings.is_empty()
    }

    /// Checks the keys. Errors: code 7, in the original's words where it has some.
    pub(crate) fn settings(&self) -> Result<Settings, Error> {
        let backend = match self.backend.as_deref() {
            None => None,
            Some("iptables") => Some(BackendKind::Iptables),
            Some("nftables") => Some(BackendKind::Nftables),
            Some(other) => return Err(Error::config(format!("unrecognized backend {other:?}"))),
        };
        let mark = match (&self.external_set_mark_chain, self.mark_masq_bit) {
            (Some(_), Some(_)) => {
                let why = "Cannot specify externalSetMarkChain and markMasqBit";
                return Err(Error::config(why));
            }
            (Some(chain), None) => Mark::ExternalChain(chain.clone()),
            (None, bit) => match bit.unwrap_or(13) {
                bit @ 0..=31 => Mark::Bit(1 << bit),
                _ => return Err(Error::config("MasqMarkBit must be between 0 and 31")),
            },
        };
        let on_conflict = match self.host_port_conflict.as_deref() {
            None | Some("refuse") => OnConflict::Refuse,
            Some("first-wins") => OnConflict::FirstWins,
            Some("last-wins") => OnConflict::LastWins,
            Some(other) => {
                return Err(Error::config(format!(
                    "unrecognized hostPortConflict {other:?}: refuse, first-wins or last-wins"
                )));
            }
        };
        let texts = [&self.conditions_v4, &self.conditions_v6]
            .into_iter()
            .flatten();
        let mut texts = texts.chain(&self.external_set_mark_chain);
        if let Some(text) = texts.find(|text| text.contains(char::is_control)) {
            // A line break would begin a command of its own.
            let why =
                format!("{text:?} in conditions or externalSetMarkChain has a control character");
            return Err(Error::config(why));
        }
        let mappings = self.runtime_config.port_mappings.iter().map(mapping);
        let settings = Settings {
            backend,
            snat: self.snat.unwrap_or(true),
            masq_all: self.masq_all,
            mark,
            on_conflict,
            mappings: mappings.collect::<Result<_, _>>()?,
            conditions_v4: self.conditions_v4.clone(),
            conditions_v6: self.conditions_v6.clone(),
        };
        if let Some(kind) = backend {
            settings.suit(kind)?;
        }
        Ok(settings)
    }
}

impl Settings {
    /// The matches a packet of this family has to meet besides its port; empty when there are none.
    pub(crate) fn conditions(&self, family: Family) -> &[String] {
        let conditions = match family {
            Family::Ip => &self.conditions_v4,
            Family::Ip6 => &self.conditions_v6,
        };
        match conditions.first().map(String::as_str) {
            Some("") => &[],
            _ => conditions,
        }
    }

    /// Refuses a backend that some of the keys were not written for. Code 7.
    pub(crate) fn suit(&self, kind: BackendKind) -> Result<(), Error> {
        let wrong = match kind {
            BackendKind::Iptables => BackendKind::Nftables,
            BackendKind::Nftables => BackendKind::Iptables,
        };
        let mut keys = Vec::new();
        if wrong == BackendKind::Iptables && matches!(self.mark, Mark::ExternalChain(_)) {
            keys.push("externalSetMarkChain");
        }
        for (key, family) in [("conditionsV4", Family::Ip), ("conditionsV6", Family::Ip6)] {
            if written_for(self.conditions(family)) == Some(wrong) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let (kind, wrong, keys) = (kind.name(), wrong.name(), keys.join(" "));
        Err(Error::config(format!(
            "{kind} backend was requested but configuration contains {wrong}-specific options [{keys}]"
        )))
    }
}

/// Conditions of iptables begin with an option or with its negation.
fn written_for(conditions: &[String]) -> Option<BackendKind> {
    let first = conditions.first()?;
    let option = first.starts_with('-') || first == "!" || first.starts_with("! ");
    Some(if option {
        BackendKind::Iptables
    } else {
        BackendKind::Nftables
    })
}

fn mapping(entry: &PortMapping) -> Result<Mapping, Error> {
    let port = |what, number: i64| match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Error::config(format!(
            "Invalid {what} port number: {number}"
        ))),
    };
    let container_port = port("container", entry.container_port)?;
    let host_port = port("host", entry.host_port)?;
    let protocol = Protocol::parse(&entry.protocol).ok_or_else(|| {
        let given = &entry.protocol;
        let why = format!("Invalid protocol {given:?} of host port {host_port}: tcp, udp or sctp");
        Error::config(why)
    })?;
    let host_ip: Option<IpAddr> = match entry.host_ip.as_str() {
        "" => None,
        text => Some(cni::text::parse_ip(text).map_err(|_| {
            Error::config(format!("Invalid hostIP {text:?} of host port {host_port}"))
        })?),
    };
    Ok(Mapping {
        protocol,
        host_port,
        host_ip,
        container_port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, Error> {
        let conf: Conf = cni::json::from_slice(text.as_bytes()).unwrap();
        conf.settings()
    }

    fn refusal(text: &str) -> String {
        let error = settings(text).unwrap_err();
        assert_eq!(error.code, cni::Code::InvalidConfig);
        error.msg
    }

    #[test]
    fn the_keys_as_containerd_spells_them() {
        let found = settings(
            r#"{"runtimeConfig":{"portMappings":
                [{"HostPort":18080,"ContainerPort":80,"Protocol":"TCP","HostIP":""}]}}"#,
        )
        .unwrap();
        let wanted = Mapping {
            protocol: Protocol::Tcp,
            host_port: 18080,
            host_ip: None,
            container_port: 80,
        };
        assert_eq!(found.mappings, [wanted]);
        assert!(found.snat && !found.masq_all);
        assert_eq!(found.mark, Mark::Bit(0x2000));
    }

    #[test]
    fn refused_in_the_words_of_the_original() {
        assert_eq!(refusal(r#"{"backend":""}"#), r#"unrecognized backend """#);
        assert_eq!(
            refusal(r#"{"markMasqBit":1,"externalSetMarkChain":"X"}"#),
            "Cannot specify externalSetMarkChain and markMasqBit"
        );
        assert_eq!(
            refusal(r#"{"markMasqBit":32}"#),
            "MasqMarkBit must be between 0 and 31"
        );
        let port = |host: &str, container: &str| {
            refusal(&format!(
                r#"{{"runtimeConfig":{{"portMappings":[
                    {{"hostPort":{host},"containerPort":{container},"protocol":"tcp"}}]}}}}"#
            ))
        };
        assert_eq!(port("1", "0"), "Invalid container port number: 0");
        assert_eq!(port("-1", "1"), "Invalid host port number: -1");
        assert_eq!(port("70000", "1"), "Invalid host port number: 70000");
    }

    #[test]
    fn conditions_belong_to_one_backend() {
        assert_eq!(
            refusal(r#"{"backend":"nftables","conditionsV4":["!","-d","192.0.2.0/24"]}"#),
            "nftables backend was requested but configuration contains iptables-specific options \
             [conditionsV4]"
        );
        assert_eq!(
            refusal(r#"{"backend":"iptables","conditionsV4":["a"],"conditionsV6":["c"]}"#),
            "iptables backend was requested but configuration contains nftables-specific options \
             [conditionsV4 conditionsV6]"
        );
        let free = settings(r#"{"conditionsV4":["ip","saddr","10.0.0.0/8"]}"#).unwrap();
        assert!(
            free.suit(BackendKind::Nftables).is_ok() && free.suit(BackendKind::Iptables).is_err()
        );
        let none = settings(r#"{"backend":"iptables","conditionsV4":[""]}"#).unwrap();
        assert!(none.conditions(Family::Ip).is_empty());
    }
}
