//! Family M, delegation: what each delegate is called with, and what becomes of its result.

use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node, result};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::spec::{V0_3_1, V0_4_0, V1_0_0, Verb, Version};
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M10",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A delegate may be a list: its plugins run in order, each with the list's name and version and the result so far; DEL runs them in reverse.",
        section: "multus: delegates; CNI: Section 3, Attachment parameters",
        cases: &[
            case("prevResult", list_passes_results),
            case("order", list_order),
        ],
    },
    Requirement {
        id: "M11",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A delegate's configuration reaches it whole: keys that are not known are kept, and none is added that does not belong there.",
        section: "multus: delegates",
        cases: &[
            case("single", configuration_is_whole),
            case("list", list_is_whole),
            case("DEL", configuration_of_del_is_whole),
        ],
    },
    Requirement {
        id: "M12",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A delegate gets CNI_PATH with binDir before the runtime's folders, the pod's CNI_ARGS once each, and the namespace and container of the call.",
        section: "multus: delegates",
        cases: &[
            case("environment", environment),
            case("binDir", bin_dir_comes_first),
            case("no pod UID", no_uid),
        ],
    },
    Requirement {
        id: "M13",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "runtimeConfig of the runtime goes to the default network's plugins that have the capability, and to no other network.",
        section: "multus: runtimeConfig; multi-network specification 7.5",
        cases: &[
            case("capabilities", capabilities_of_the_default_network),
            case("no leak", runtime_config_does_not_leak),
        ],
    },
    Requirement {
        id: "M14",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The result of the default network is printed in the version of the configuration, whatever version the delegate has; an empty result is one too.",
        section: "multus: result",
        cases: &[
            case("other version", other_version),
            case("empty", empty_result),
            case("no version", delegate_without_version),
        ],
    },
    Requirement {
        id: "M15",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "DEL and CHECK give a delegate the result of its own ADD as prevResult, not that of another network.",
        section: "CNI: Section 4; multus: cniDir",
        cases: &[
            case("DEL", |t| own_result(t, Verb::Del)),
            case("CHECK", |t| own_result(t, Verb::Check)),
        ],
    },
    Requirement {
        id: "M16",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The same attachment twice is two attachments.",
        section: "multus: annotations",
        cases: &[case("twice", twice)],
    },
];

/// spy-a and spy-b as a list that makes the default network.
fn with_list<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    let mut node = Node::new(t)?;
    node.spy("spy-b")?;
    node.runtime.config["delegates"] = json!([{
        "cniVersion": t.version.as_str(),
        "name": "net-list",
        "plugins": [
            {"type": "spy-a", "only a": {"x": [1, null]}},
            {"type": "spy-b", "capabilities": {"portMappings": true}},
        ],
    }]);
    Ok(node)
}

fn list_passes_results(t: &Trial) -> Verdict {
    let mut node = with_list(t)?;
    let result = node.add()?;
    let first = node.only_call(Verb::Add, "spy-a")?.config();
    let second = node.only_call(Verb::Add, "spy-b")?.config();
    ensure!(
        first["prevResult"].is_null(),
        "the first plugin got a prevResult: {first}"
    );
    ensure!(
        second["prevResult"]["ips"][0]["address"] == "10.1.0.2/24",
        "the second plugin did not get the first one's result: {second}"
    );
    for config in [&first, &second] {
        ensure!(
            config["name"] == "net-list"
                && config["cniVersion"] == t.version.as_str()
                && config["plugins"].is_null(),
            "a plugin of the list was called with {config}"
        );
    }
    ensure!(
        result["ips"][0]["address"] == "10.2.0.2/24",
        "the result is not that of the last plugin of the list: {result}"
    );
    node.del().map(drop)
}

fn list_order(t: &Trial) -> Verdict {
    let mut node = with_list(t)?;
    node.add()?;
    node.del()?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-b eth0",
        "DEL spy-b eth0",
        "DEL spy-a eth0",
    ])
}

/// A configuration with all that typed readers like to lose.
fn rich(version: Version) -> Value {
    json!({
        "cniVersion": version.as_str(),
        "name": "net-a",
        "type": "spy-a",
        "datastore_type": "kubernetes",
        "policy": {"type": "k8s"},
        "big": 9_007_199_254_740_993_u64,
        "fraction": 1.5,
        "empty": {"list": [], "object": {}, "null": null, "text": ""},
        "ipam": {"type": "other-ipam", "ranges": [[{"subnet": "10.9.0.0/16"}]]},
    })
}

/// What multus may add to a configuration.
fn without_additions(mut config: Value) -> Value {
    if let Some(members) = config.as_object_mut() {
        members.remove("prevResult");
    }
    config
}

fn configuration_is_whole(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["delegates"] = json!([rich(t.version)]);
    node.add()?;
    let got = node.only_call(Verb::Add, "spy-a")?.config();
    ensure!(got == rich(t.version), "the delegate got {got}");
    node.del().map(drop)
}

fn list_is_whole(t: &Trial) -> Verdict {
    let mut node = with_list(t)?;
    node.runtime.config["delegates"][0]["plugins"][0] = rich(t.version);
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        let got = without_additions(node.only_call(verb, "spy-a")?.config());
        let mut expected = rich(t.version);
        expected["name"] = "net-list".into();
        ensure!(got == expected, "{verb}: the plugin of the list got {got}");
    }
    Ok(())
}

fn configuration_of_del_is_whole(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["delegates"] = json!([rich(t.version)]);
    node.add()?;
    node.del()?;
    let got = without_additions(node.only_call(Verb::Del, "spy-a")?.config());
    ensure!(got == rich(t.version), "DEL of the delegate got {got}");
    Ok(())
}

fn environment(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.runtime.args += ";VENDOR_KEY=42";
    node.add()?;
    for (spy, ifname) in [("spy-a", "eth0"), ("spy-b", "net1"), ("spy-c", "net2")] {
        let call = node.only_call(Verb::Add, spy)?;
        let expected = [
            ("CNI_IFNAME", ifname.to_owned()),
            ("CNI_CONTAINERID", node.runtime.container.clone()),
            ("CNI_NETNS", node.runtime.pod.path.display().to_string()),
        ];
        for (name, value) in expected {
            ensure!(
                call.var(name) == value,
                "{spy}: {name} is {:?}, expected {value:?}",
                call.var(name)
            );
        }
        let args = call.var("CNI_ARGS");
        for pair in node.runtime.args.split(';') {
            let (key, value) = pair.split_once('=').unwrap_or_default();
            let values: Vec<_> = args
                .split(';')
                .filter_map(|pair| pair.split_once('='))
                .filter(|(name, _)| *name == key)
                .map(|(_, value)| value)
                .collect();
            // Go's reader takes any word for true.
            let right = values.len() == 1 && (values[0] == value || key == "IgnoreUnknown");
            ensure!(
                right,
                "{spy}: {key} is {values:?} in CNI_ARGS, expected {value:?} once: {args}"
            );
        }
    }
    node.del().map(drop)
}

fn bin_dir_comes_first(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.path.insert(0, "/some/where".into());
    node.add()?;
    let call = node.only_call(Verb::Add, "spy-a")?;
    let expected = format!("{}:/some/where", node.bin_dir.display());
    ensure!(
        call.var("CNI_PATH").starts_with(&expected),
        "CNI_PATH is {:?}, expected {expected} first",
        call.var("CNI_PATH")
    );
    node.del().map(drop)
}

fn no_uid(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let kept: Vec<_> = node
        .runtime
        .args
        .split(';')
        .filter(|pair| !pair.starts_with("K8S_POD_UID"))
        .collect();
    node.runtime.args = kept.join(";");
    node.add()?;
    node.del()?;
    node.everything_deleted()
}

fn port_mappings() -> Value {
    json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}])
}

fn capabilities_of_the_default_network(t: &Trial) -> Verdict {
    let mut node = with_list(t)?;
    let sent = json!({"portMappings": port_mappings(), "bandwidth": {"ingressRate": 2048, "ingressBurst": 1600, "egressRate": 4096, "egressBurst": 1600}});
    node.runtime.config["runtimeConfig"] = sent;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        let without = node.only_call(verb, "spy-a")?.config();
        ensure!(
            without["runtimeConfig"].is_null(),
            "{verb}: a plugin without capability got {without}"
        );
        let with = node.only_call(verb, "spy-b")?.config();
        ensure!(
            with["runtimeConfig"] == json!({"portMappings": port_mappings()}),
            "{verb}: the plugin with the capability portMappings got {}",
            with["runtimeConfig"]
        );
    }
    Ok(())
}

fn runtime_config_does_not_leak(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.runtime.config["runtimeConfig"] = json!({"portMappings": port_mappings()});
    let able = json!({"cniVersion": t.version.as_str(), "name": "net-b", "type": "spy-b", "capabilities": {"portMappings": true}});
    node.define("net-b", &able)?;
    node.add()?;
    let got = node.only_call(Verb::Add, "spy-b")?.config();
    ensure!(
        got["runtimeConfig"]["portMappings"].is_null(),
        "the host ports of the pod were given to a secondary network: {got}"
    );
    node.del().map(drop)
}

fn other_version(t: &Trial) -> Verdict {
    for version in [V0_3_1, V0_4_0, V1_0_0] {
        let mut node = Node::new(t)?;
        node.runtime.config["delegates"][0]["cniVersion"] = version.as_str().into();
        let answer = result(version, "10.1.0.2/24", "10.1.0.1");
        node.spied("spy-a")?
            .says(Verb::Add, Lines::document(&answer))?;
        // The shape is looked at where the result comes in.
        let printed = node.add()?;
        ensure!(
            printed["ips"][0]["address"] == "10.1.0.2/24",
            "of {version}: {printed}"
        );
        node.del()?;
    }
    Ok(())
}

fn empty_result(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let nothing = json!({"cniVersion": t.version.as_str()});
    node.spied("spy-a")?
        .says(Verb::Add, Lines::document(&nothing))?;
    node.add()?;
    node.del().map(drop)
}

fn delegate_without_version(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["delegates"] = json!([{"name": "net-a", "type": "spy-a"}]);
    let oldest =
        json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"}});
    node.spied("spy-a")?
        .says(Verb::Add, Lines::document(&oldest))?;
    let printed = node.add()?;
    ensure!(
        printed["ips"][0]["address"] == "10.1.0.2/24",
        "the address was lost: {printed}"
    );
    node.del()?;
    node.everything_deleted()
}

fn own_result(t: &Trial, verb: Verb) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.ask(verb)?.success()?;
    for (number, spy) in ["spy-a", "spy-b", "spy-c"].into_iter().enumerate() {
        let got = node.only_call(verb, spy)?.config();
        let expected = format!("10.{}.0.2/24", number + 1);
        ensure!(
            got["prevResult"]["ips"][0]["address"] == expected.as_str(),
            "{verb} of {spy} got the prevResult {}",
            got["prevResult"]
        );
    }
    node.del().map(drop)
}

fn twice(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.spy("spy-b")?;
    node.attach("net-b", "spy-b")?;
    node.annotate("net-b,net-b")?;
    node.add()?;
    let status = node.status()?;
    let entries = status
        .as_array()
        .ok_or_else(|| fail("there is no network-status"))?;
    ensure!(
        entries.len() == 3,
        "network-status has {} entries: {status}",
        entries.len()
    );
    node.del()?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-b net1",
        "ADD spy-b net2",
        "DEL spy-b net2",
        "DEL spy-b net1",
        "DEL spy-a eth0",
    ])
}
