//! One network of the pod, with all that its plugins are called with.

use std::path::{Path, PathBuf};

use cni::json::{Object, Value, compact};
use cni::{Error, Network};
use invoke::Parameters;
use serde::Serialize;

use crate::annotation::{Gateways, Selection};
use crate::devices::device_info;
use crate::pod_args::PodArgs;
use crate::scratch::Entry;

/// A network that the pod is, or is to be, attached to.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    /// What is kept of it until DEL.
    pub(crate) entry: Entry,
    pub(crate) network: Network,
    /// Whether it is the pod's default network, whose result is the runtime's.
    pub(crate) is_default: bool,
    /// The interface in the pod.
    pub(crate) ifname: String,
    /// What the pod wants of the default route.
    pub(crate) default_route: Option<Gateways>,
    /// Whether nothing is on record of it: it is what an ADD now would make.
    pub(crate) is_guess: bool,
    /// Why the resource of this network gave no device; for the error if its plugin fails.
    pub(crate) shortage: Option<String>,
}

/// The container and what the runtime said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container<'a> {
    pub(crate) id: &'a str,
    pub(crate) netns: &'a str,
    pub(crate) args: &'a PodArgs,
    /// `runtimeConfig` of the runtime.
    pub(crate) runtime_config: &'a Object,
}

impl Attachment {
    /// A network that no pod has asked for.
    pub(crate) fn of_node(name: &str, network: Network) -> Attachment {
        Attachment {
            entry: Entry {
                name: name.to_owned(),
                ..Entry::default()
            },
            network,
            is_default: false,
            ifname: String::new(),
            default_route: None,
            is_guess: false,
            shortage: None,
        }
    }

    /// A network that the pod has asked for.
    ///
    /// Errors, code 7: something is asked for that none of the network's plugins can do; `args` is no object.
    pub(crate) fn of_pod(selection: &Selection, mut network: Network) -> Result<Attachment, Error> {
        let name = format!("{}/{}", selection.namespace, selection.name);
        let text = |value: &Option<crate::annotation::HardwareAddr>| {
            value
                .as_ref()
                .map_or_else(String::new, |v| v.as_str().to_owned())
        };
        let entry = Entry {
            name: name.clone(),
            interface: selection
                .interface
                .as_ref()
                .map_or_else(String::new, |v| v.as_str().to_owned()),
            mac: text(&selection.mac),
            infiniband_guid: text(&selection.infiniband_guid),
            ips: selection
                .ips
                .iter()
                .map(|ip| ip.as_str().to_owned())
                .collect(),
            default_route: selection
                .default_route
                .map(|gateways| gateways.iter().collect()),
            device_id: selection.device_id.clone().unwrap_or_default(),
            port_mappings: (!selection.port_mappings.is_empty())
                .then(|| value(&selection.port_mappings)),
            bandwidth: selection.bandwidth.as_ref().map(value),
            ..Entry::default()
        };
        refuse_what_nobody_can(&name, &entry, &network)?;
        insert_cni_args(&name, &selection.cni_args, &mut network)?;
        Ok(Attachment {
            entry,
            network,
            is_default: false,
            ifname: String::new(),
            default_route: selection.default_route,
            is_guess: false,
            shortage: None,
        })
    }

    /// One that was made before.
    ///
    /// Errors, code 7: its configuration is none.
    pub(crate) fn recorded(index: usize, entry: Entry, ifname: &str) -> Result<Attachment, Error> {
        let network = Network::parse(&entry.bytes)
            .map_err(|e| e.context(format!("the record of attachment {:?}", entry.name)))?;
        let ifname = match (&entry.ifname, entry.interface.as_str(), index) {
            (Some(given), ..) => given.clone(),
            (None, "", 0) => ifname.to_owned(),
            (None, "", index) => format!("net{index}"),
            (None, requested, _) => requested.to_owned(),
        };
        Ok(Attachment {
            entry,
            network,
            is_default: index == 0,
            ifname,
            default_route: None,
            is_guess: false,
            shortage: None,
        })
    }

    /// What is kept of it: the configuration as the plugins get it.
    pub(crate) fn record(&self) -> Entry {
        Entry {
            bytes: self.network.to_bytes(),
            ifname: Some(self.ifname.clone()),
            ..self.entry.clone()
        }
    }

    /// Gives the network a device: its plugins find it in their configuration.
    pub(crate) fn set_device(&mut self, resource: &str, id: &str) {
        resource.clone_into(&mut self.entry.resource_name);
        id.clone_into(&mut self.entry.device_id);
        let edited = self.network.edit_plugins(|document| {
            document.set("deviceID", &id);
            document.set("pciBusID", &id);
            Ok::<(), std::convert::Infallible>(())
        });
        match edited {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// The file where its plugins and those of its device tell about the device.
    pub(crate) fn device_info(&self, container_id: &str) -> Option<PathBuf> {
        let folder = Path::new(device_info::FOLDER);
        device_info::of_attachment(folder, &self.entry.name, container_id, &self.ifname)
    }

    /// What the plugins are called with. A pod's requests for addresses are in `CNI_ARGS` as well, on ADD: plugins
    /// from before there were capabilities look for them there.
    pub(crate) fn parameters(&self, container: &Container<'_>, is_add: bool) -> Parameters {
        let mut requested = Vec::new();
        if is_add && !self.entry.mac.is_empty() {
            requested.push(("MAC", self.entry.mac.clone()));
        }
        if is_add && !self.entry.ips.is_empty() {
            requested.push(("IP", self.entry.ips.join(",")));
        }
        Parameters {
            container_id: container.id.to_owned(),
            netns: container.netns.to_owned(),
            ifname: self.ifname.clone(),
            args: container.args.for_delegate(&requested),
            capability_args: self.capability_args(container),
        }
    }

    /// The runtime's own arguments are for the default network (its host ports are the pod's main address's); the
    /// pod's requests for each network are that network's.
    fn capability_args(&self, container: &Container<'_>) -> Object {
        let mut args = match self.is_default {
            true => container.runtime_config.clone(),
            false => Object::default(),
        };
        for (capability, value) in requests(&self.entry) {
            args.set(capability, &value);
        }
        if !self.entry.device_id.is_empty() {
            args.set("deviceID", &self.entry.device_id);
        }
        if let Some(file) = self.device_info(container.id) {
            args.set("CNIDeviceInfoFile", &file.to_string_lossy());
        }
        args
    }

    /// Whether an earlier ADD made the same attachment.
    pub(crate) fn is_same(&self, other: &Attachment) -> bool {
        self.network == other.network
            && self.ifname == other.ifname
            && self.entry.name == other.entry.name
    }
}

/// What the pod asks of this network, by the capability that it needs.
fn requests(entry: &Entry) -> Vec<(&'static str, Value)> {
    let text = |text: &String| (!text.is_empty()).then(|| Value::String(text.clone()));
    let ips = || entry.ips.iter().cloned().map(Value::String).collect();
    let all = [
        ("mac", text(&entry.mac)),
        ("ips", (!entry.ips.is_empty()).then(|| Value::Array(ips()))),
        ("infinibandGUID", text(&entry.infiniband_guid)),
        ("portMappings", entry.port_mappings.clone()),
        ("bandwidth", entry.bandwidth.clone()),
    ];
    let present = all
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    present.collect()
}

/// A request that would have no effect is an error: the pod would run and not be what was asked for.
fn refuse_what_nobody_can(name: &str, entry: &Entry, network: &Network) -> Result<(), Error> {
    let asked = requests(entry)
        .into_iter()
        .map(|(capability, _)| capability);
    let missing: Vec<&str> = asked.filter(|c| !network.has_capability(c)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(", ");
    let why = format!(
        "the pod asks network {name:?} for {list}, and none of its plugins declares the capability"
    );
    let plugins: Vec<&str> = network
        .plugins
        .iter()
        .map(|plugin| plugin.kind.as_str())
        .collect();
    let hint = format!(
        "add \"capabilities\": {{\"{}\": true}} to the plugin ({}) that can do it",
        missing.first().unwrap_or(&""),
        plugins.join(", ")
    );
    Err(Error::config(why).details(hint))
}

/// `cni-args` of the pod go to `args.cni` of every plugin; the pod's value wins.
fn insert_cni_args(
    name: &str,
    cni_args: &[(String, Value)],
    network: &mut Network,
) -> Result<(), Error> {
    if cni_args.is_empty() {
        return Ok(());
    }
    let edited = network.edit_plugins(|document| {
        let mut args = document.object("args")?;
        let mut cni = args.object("cni").map_err(|e| e.within("args"))?;
        for (key, value) in cni_args {
            cni.set(key, value);
        }
        args.set("cni", &cni);
        document.set("args", &args);
        Ok::<(), cni::json::ReadError>(())
    });
    edited.map_err(|e| Error::config(format!("cni-args can't be put into network {name:?}: {e}")))
}

fn value(data: &impl Serialize) -> Value {
    Value::parse(compact(data).as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotation;

    fn selection(json: &str) -> Selection {
        annotation::networks(&format!("[{json}]"), "ns")
            .unwrap()
            .remove(0)
    }

    fn network(json: &str) -> Network {
        Network::parse(json.as_bytes()).unwrap()
    }

    const ALL: &str = r#"{"name":"n","type":"t","capabilities":{"mac":true,"ips":true,"portMappings":true,"bandwidth":true}}"#;

    fn container<'a>(args: &'a PodArgs, runtime_config: &'a Object) -> Container<'a> {
        Container {
            id: "c1",
            netns: "/run/netns/p",
            args,
            runtime_config,
        }
    }

    #[test]
    fn the_runtimes_ports_are_the_default_networks_alone() {
        let args = PodArgs::parse("K8S_POD_NAME=p").unwrap();
        let config = Object::parse(br#"{"portMappings":[{"HostPort":1}]}"#).unwrap();
        let container = container(&args, &config);
        let mut one = Attachment::of_node("n", network(ALL));
        one.ifname = "eth0".into();
        let ports = |a: &Attachment| {
            let of = a.parameters(&container, true).capability_args;
            of.get("portMappings").map(str::to_owned)
        };
        assert_eq!(ports(&one), None);
        one.is_default = true;
        assert_eq!(ports(&one).unwrap(), r#"[{"HostPort":1}]"#);
    }

    #[test]
    fn requests_are_for_their_network_and_survive_to_del() {
        let wish = selection(
            r#"{"name":"a","mac":"02:00:00:00:00:01","ips":["10.0.0.5/24"],"portMappings":[{"hostPort":8080,"containerPort":80}],
                "bandwidth":{"ingressRate":1000}}"#,
        );
        let mut made = Attachment::of_pod(&wish, network(ALL)).unwrap();
        made.ifname = "net1".into();
        let args = PodArgs::parse("K8S_POD_NAME=p").unwrap();
        let config = Object::default();
        let container = container(&args, &config);
        let add = made.parameters(&container, true);
        assert_eq!(
            add.capability_args.to_string(),
            r#"{"mac":"02:00:00:00:00:01","ips":["10.0.0.5/24"],"portMappings":[{"hostPort":8080,"containerPort":80}],"bandwidth":{"ingressRate":1000,"ingressBurst":0,"egressRate":0,"egressBurst":0},"CNIDeviceInfoFile":"/var/run/k8s.cni.cncf.io/devinfo/cni/ns-a-c1_net1"}"#
        );
        assert!(add.args.contains(&("IP".into(), "10.0.0.5/24".into())));
        let later = Attachment::recorded(1, made.record(), "eth0").unwrap();
        let del = later.parameters(&container, false);
        assert_eq!(del.capability_args, add.capability_args);
        assert!(!del.args.iter().any(|(key, _)| key == "IP" || key == "MAC"));
        assert!(later.is_same(&made));
    }

    #[test]
    fn a_request_that_nobody_can_serve_names_the_capability() {
        let wish = selection(r#"{"name":"a","mac":"02:00:00:00:00:01","ips":["10.0.0.5/24"]}"#);
        let error = Attachment::of_pod(
            &wish,
            network(r#"{"name":"n","type":"t","capabilities":{"ips":true}}"#),
        );
        let error = error.unwrap_err();
        assert!(error.msg.contains("\"ns/a\" for mac,"), "{error}");
        assert!(error.details.contains(r#""mac": true"#), "{error}");
    }

    #[test]
    fn cni_args_are_merged_and_the_pods_win() {
        let wish = selection(r#"{"name":"a","cni-args":{"b":"pod","c":[1]}}"#);
        let text = r#"{"name":"n","plugins":[{"type":"t","args":{"x":1.50,"cni":{"a":"nad","b":"nad"}}},{"type":"u"}]}"#;
        let made = Attachment::of_pod(&wish, network(text)).unwrap();
        assert_eq!(
            String::from_utf8(made.network.to_bytes()).unwrap(),
            r#"{"name":"n","plugins":[{"type":"t","args":{"x":1.50,"cni":{"a":"nad","b":"pod","c":[1]}}},{"type":"u","args":{"cni":{"b":"pod","c":[1]}}}]}"#
        );
        for args in ["5", "[]", r#"{"cni":"x"}"#] {
            let text = format!(r#"{{"name":"n","type":"t","args":{args}}}"#);
            let error = Attachment::of_pod(&wish, network(&text)).unwrap_err();
            assert!(error.msg.contains("args"), "{error}");
        }
    }

    #[test]
    fn records_of_the_original_do_not_say_the_interface() {
        let entry = |interface: &str| Entry {
            bytes: br#"{"name":"n","type":"t"}"#.to_vec(),
            interface: interface.into(),
            ..Entry::default()
        };
        let ifname = |index, wish: &str| {
            Attachment::recorded(index, entry(wish), "eth0")
                .unwrap()
                .ifname
        };
        assert_eq!(ifname(0, ""), "eth0");
        assert_eq!(ifname(2, ""), "net2");
        assert_eq!(ifname(2, "foo"), "foo");
    }
}
