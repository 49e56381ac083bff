//! Family M, capabilities: what a pod asks of one network in `runtimeConfig` and `CNI_ARGS` reaches that network's plugins alone.

use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{DEFAULT_NETWORK, KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::Verb;
use crate::spec::code::INVALID_CONFIG;
use crate::spy::Witness;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M95",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "What a pod asks of a network is runtimeConfig of its plugins that have the capability, as it was asked, on ADD and on DEL.",
        section: "multus: annotations; CNI: Section 3, capabilities",
        cases: &[
            case("single", all_capabilities),
            case("list", each_plugin_its_own),
        ],
    },
    Requirement {
        id: "M96",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "No network gets what was asked of another: not the next one, and not the default network.",
        section: "multus: annotations",
        cases: &[
            case("runtimeConfig", nobody_elses_request),
            case("CNI_ARGS", nobody_elses_args),
            case("runtime's and pod's", runtime_and_pod),
        ],
    },
    Requirement {
        id: "M97",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A request that no plugin of the network has the capability for fails the ADD; the error names the capability and the network.",
        section: "Multi-Net-Spec: Section 4.1.2.1",
        cases: &[
            case("mac", |t| nobody_can(t, "mac", &json!({"mac": MAC}))),
            case("ips", |t| {
                nobody_can(t, "ips", &json!({"ips": ["10.2.0.9"]}))
            }),
            case("infinibandGUID", |t| {
                nobody_can(t, "infinibandGUID", &json!({"infiniband-guid": GUID}))
            }),
            case("portMappings", |t| {
                nobody_can(t, "portMappings", &json!({"portMappings": ports()}))
            }),
            case("bandwidth", |t| {
                nobody_can(t, "bandwidth", &json!({"bandwidth": {"ingressRate": 1000}}))
            }),
            case("default network", default_network_can_not),
        ],
    },
    Requirement {
        id: "M98",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "deviceID of the pod's request is runtimeConfig.deviceID of plugins that have the capability, and doesn't change the configuration.",
        section: "multus: annotations, deviceID",
        cases: &[case("requested", requested_device)],
    },
];

const MAC: &str = "02:00:00:00:00:2a";
const GUID: &str = "00:11:22:33:44:55:66:77";

fn ports() -> Value {
    json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8053, "containerPort": 53, "protocol": "UDP", "hostIP": "192.0.2.7"},
    ])
}

fn rates() -> Value {
    json!({"ingressRate": 2048, "ingressBurst": 1600, "egressRate": 4096, "egressBurst": 1600})
}

/// Every capability that a pod can ask for.
fn capable() -> Value {
    json!({"mac": true, "ips": true, "infinibandGUID": true, "portMappings": true, "bandwidth": true})
}

/// All that can be asked for.
fn everything(name: &str) -> Value {
    json!({
        "name": name,
        "mac": MAC,
        "ips": ["10.2.0.9/24", "2001:db8::9"],
        "infiniband-guid": GUID,
        "portMappings": ports(),
        "bandwidth": rates(),
    })
}

/// `runtimeConfig` that this request is.
fn runtime_config() -> Value {
    json!({
        "mac": MAC,
        "ips": ["10.2.0.9/24", "2001:db8::9"],
        "infinibandGUID": GUID,
        "portMappings": ports(),
        "bandwidth": rates(),
    })
}

/// Three networks whose plugins can do everything; net-b is asked for everything, net-c for nothing.
fn node<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    let mut node = Node::three_networks(t)?;
    let version = t.version.as_str();
    node.runtime.config["delegates"][0]["capabilities"] = capable();
    for (name, spy) in [("net-b", "spy-b"), ("net-c", "spy-c")] {
        let config = json!({"cniVersion": version, "type": spy, "capabilities": capable()});
        node.define(name, &config)?;
    }
    node.annotate(&json!([everything("net-b"), {"name": "net-c"}]).to_string())?;
    Ok(node)
}

fn all_capabilities(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        let got = node.only_call(verb, "spy-b")?.config()["runtimeConfig"].clone();
        ensure!(
            got == runtime_config(),
            "{verb}: the request became the runtimeConfig {got}"
        );
    }
    Ok(())
}

fn each_plugin_its_own(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    let plugins = json!([
        {"type": "spy-b", "capabilities": {"mac": true, "ips": true, "infinibandGUID": true, "bandwidth": false}},
        {"type": "spy-c", "capabilities": {"portMappings": true, "bandwidth": true}},
    ]);
    node.define(
        "net-b",
        &json!({"cniVersion": t.version.as_str(), "plugins": plugins}),
    )?;
    node.annotate(&json!([everything("net-b")]).to_string())?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        for (spy, keys) in [
            ("spy-b", &["mac", "ips", "infinibandGUID"][..]),
            ("spy-c", &["portMappings", "bandwidth"]),
        ] {
            let got = node.only_call(verb, spy)?.config()["runtimeConfig"].clone();
            let all = runtime_config();
            let expected: Value = keys
                .iter()
                .map(|key| ((*key).to_owned(), all[*key].clone()))
                .collect();
            ensure!(got == expected, "{verb}: {spy} got the runtimeConfig {got}");
        }
    }
    Ok(())
}

fn nobody_elses_request(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        for spy in ["spy-a", "spy-c"] {
            let got = node.only_call(verb, spy)?.config()["runtimeConfig"].clone();
            ensure!(
                got.is_null(),
                "{verb}: {spy}, of which nothing was asked, got the runtimeConfig {got}"
            );
        }
    }
    Ok(())
}

/// The values of a key of `CNI_ARGS`.
fn values<'a>(call: &'a Witness, key: &str) -> Vec<&'a str> {
    let pairs = call.var("CNI_ARGS").split(';');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value)
        .collect()
}

/// Plugins from before there were capabilities look for the requests here.
fn nobody_elses_args(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    node.runtime.args += ";IP=10.9.9.9;VENDOR=x";
    node.add()?;
    node.del()?;
    for (verb, spy, mac, ip) in [
        (Verb::Add, "spy-a", None, "10.9.9.9"),
        (Verb::Add, "spy-b", Some(MAC), "10.2.0.9/24,2001:db8::9"),
        (Verb::Add, "spy-c", None, "10.9.9.9"),
        (Verb::Del, "spy-b", None, "10.9.9.9"),
    ] {
        let call = node.only_call(verb, spy)?;
        let mac: Vec<_> = mac.into_iter().collect();
        ensure!(
            values(&call, "MAC") == mac && values(&call, "IP") == [ip],
            "{verb}: {spy} got the CNI_ARGS {:?}, expected MAC {mac:?} and IP {ip}",
            call.var("CNI_ARGS")
        );
        ensure!(
            values(&call, "VENDOR") == ["x"],
            "{verb}: {spy} got the CNI_ARGS {:?} without the runtime's own",
            call.var("CNI_ARGS")
        );
    }
    Ok(())
}

/// The runtime's values are the default network's, the pod's those of the network it names: neither is added to the other.
fn runtime_and_pod(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    let of_runtime = json!({"portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "tcp"}], "bandwidth": {"ingressRate": 8}, "mac": "02:00:00:00:00:01"});
    node.runtime.config["runtimeConfig"] = of_runtime.clone();
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        for (spy, expected) in [
            ("spy-a", of_runtime.clone()),
            ("spy-b", runtime_config()),
            ("spy-c", Value::Null),
        ] {
            let got = node.only_call(verb, spy)?.config()["runtimeConfig"].clone();
            ensure!(
                got == expected,
                "{verb}: {spy} got the runtimeConfig {got}, expected {expected}"
            );
        }
    }
    Ok(())
}

fn nobody_can(t: &Trial, capability: &str, request: &Value) -> Verdict {
    let node = Node::three_networks(t)?;
    let mut others = capable();
    others[capability] = false.into();
    let mut request = request.clone();
    request["name"] = "net-c".into();
    node.annotate(&json!([{"name": "net-b"}, request]).to_string())?;
    for config in [
        json!({"type": "spy-c"}),
        json!({"type": "spy-c", "capabilities": others}),
        json!({"plugins": [{"type": "spy-c"}, {"type": "spy-b", "capabilities": others}]}),
    ] {
        node.define("net-c", &config)?;
        node.refuses(&[INVALID_CONFIG], &["default/net-c", capability])
            .map_err(|stop| stop.within(&config))?;
    }
    Ok(())
}

fn default_network_can_not(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    node.define_text("kube-system", "net-b", r#"{"type":"spy-b"}"#)?;
    node.set_annotation(
        DEFAULT_NETWORK,
        &json!([{"name": "net-b", "mac": MAC}]).to_string(),
    )?;
    node.refuses(&[INVALID_CONFIG], &["kube-system/net-b", "mac"])
}

fn requested_device(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    let version = t.version.as_str();
    let plugins = json!([{"type": "spy-b", "capabilities": {"deviceID": true}}, {"type": "spy-c"}]);
    node.define("net-b", &json!({"cniVersion": version, "plugins": plugins}))?;
    node.annotate(r#"[{"name":"net-b","deviceID":"0000:03:02.0"}]"#)?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        let able = node.only_call(verb, "spy-b")?.config();
        ensure!(
            able["runtimeConfig"] == json!({"deviceID": "0000:03:02.0"}),
            "{verb}: the plugin got the runtimeConfig {}",
            able["runtimeConfig"]
        );
        let other = node.only_call(verb, "spy-c")?.config();
        ensure!(
            other["runtimeConfig"].is_null(),
            "{verb}: a plugin without the capability got {other}"
        );
        for config in [able, other] {
            ensure!(
                config["deviceID"].is_null() && config["pciBusID"].is_null(),
                "{verb}: the configuration of the plugin became {config}"
            );
        }
    }
    Ok(())
}
