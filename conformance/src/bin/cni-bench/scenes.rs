//! What is measured: which call, of which plugin, in which surroundings.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use cni_conformance::call::Call;
use cni_conformance::spec::Verb;
use cni_conformance::stage::Stage;
use serde_json::{Value, json};

use crate::meter::Cost;
use crate::side::{Burst, MASTER, Side};
use crate::table;

/// One call in its surroundings. It is made again and again as ADD and then DEL of the same container.
struct Scene {
    what: &'static str,
    plugin: &'static str,
    config: fn(&Side<'_>) -> Value,
    /// Makes the surroundings.
    prepare: fn(&Side<'_>) -> io::Result<()>,
}

/// Many calls at once, for as many containers.
struct Rush {
    what: &'static str,
    plugin: &'static str,
    count: usize,
    at_a_time: usize,
    config: fn(&Side<'_>, usize) -> Value,
    prepare: fn(&Side<'_>) -> io::Result<()>,
    /// Finds what has been given, or made, more than once, and answers how often.
    twice: fn(&Side<'_>, &Burst) -> io::Result<usize>,
}

const SCENES: [Scene; 8] = [
    Scene {
        what: "macvlan + host-local",
        plugin: "macvlan",
        config: |side| interface(side, "macvlan"),
        prepare: |side| reserve(side, 0),
    },
    Scene {
        what: "ipvlan + host-local",
        plugin: "ipvlan",
        config: |side| interface(side, "ipvlan"),
        prepare: |side| reserve(side, 0),
    },
    Scene {
        what: "host-local, empty pool",
        plugin: "host-local",
        config: pool,
        prepare: |side| reserve(side, 0),
    },
    Scene {
        what: "host-local, 10,000 reservations",
        plugin: "host-local",
        config: pool,
        prepare: |side| reserve(side, RESERVATIONS),
    },
    Scene {
        what: "portmap iptables, 10 ports",
        plugin: "portmap",
        config: |side| ports(side, "iptables", 10, 0),
        prepare: |side| rules(side, 0),
    },
    Scene {
        what: "portmap iptables, 10 ports, 1,000 rules",
        plugin: "portmap",
        config: |side| ports(side, "iptables", 10, 0),
        prepare: |side| rules(side, RULES),
    },
    Scene {
        what: "portmap nftables, 10 ports",
        plugin: "portmap",
        config: |side| ports(side, "nftables", 10, 0),
        prepare: |side| rules(side, 0),
    },
    Scene {
        what: "portmap nftables, 10 ports, 1,000 rules",
        plugin: "portmap",
        config: |side| ports(side, "nftables", 10, 0),
        prepare: |side| rules(side, RULES),
    },
];

const RUSHES: [Rush; 2] = [
    Rush {
        what: "host-local, 64 at once, 10,000 reservations",
        plugin: "host-local",
        count: 64,
        at_a_time: 64,
        config: |side, _| pool(side),
        prepare: |side| reserve(side, RESERVATIONS),
        twice: |_, burst| Ok(addresses_given_twice(burst)),
    },
    Rush {
        what: "portmap iptables, 48 pods, 8 at a time",
        plugin: "portmap",
        count: 48,
        at_a_time: 8,
        config: |side, pod| ports(side, "iptables", 1, pod),
        prepare: |side| rules(side, 0),
        twice: |side, _| shared_rules_there_twice(side),
    },
];

const RESERVATIONS: u32 = 10_000;
const RULES: usize = 1_000;
/// The network of all calls, and with it the folder of the pool.
const NETWORK: &str = "bench";

/// What went wrong on our side. The peer's failures are only shown.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Scenes that were played.
    pub(crate) played: usize,
    /// Calls that failed, and things that were there twice.
    pub(crate) wrong: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.played += other.played;
        self.wrong += other.wrong;
    }
}

/// Plays all scenes on both sides and prints what they cost.
pub(crate) fn run(stage: &Stage, sides: &[Side<'_>; 2], rounds: usize) -> io::Result<Tally> {
    let mut tally = Tally::default();
    table::head()?;
    for scene in &SCENES {
        match why_not(stage, &sides[0], scene.plugin) {
            Some(why) => table::left_out(scene.what, &why)?,
            None => play(scene, sides, rounds, &mut tally)?,
        }
    }
    table::head_of_bursts()?;
    for rush in &RUSHES {
        match why_not(stage, &sides[0], rush.plugin) {
            Some(why) => table::left_out(rush.what, &why)?,
            None => storm(rush, sides, &mut tally)?,
        }
    }
    Ok(tally)
}

/// Why scenes of this plugin are left out, if they are.
pub(crate) fn why_not(stage: &Stage, ours: &Side<'_>, plugin: &str) -> Option<String> {
    if ours.plugin(plugin).is_none() {
        return Some("there is no such plugin".into());
    }
    let makes_links = matches!(plugin, "macvlan" | "ipvlan");
    let missing = || stage.has_link_kind(plugin).err();
    makes_links
        .then(missing)
        .flatten()
        .map(|_| format!("this kernel can't make {plugin} links"))
}

/// The sides take turns, each with an ADD and a DEL; the first round is not counted.
fn play(scene: &Scene, sides: &[Side<'_>; 2], rounds: usize, tally: &mut Tally) -> io::Result<()> {
    let mut costs: [[Vec<Cost>; 2]; 2] = Default::default();
    for side in sides {
        (scene.prepare)(side)?;
    }
    for round in 0..=rounds {
        for (side, costs) in sides.iter().zip(&mut costs) {
            let config = (scene.config)(side);
            let Some(plugin) = side.plugin(scene.plugin).filter(|p| speaks(p, &config)) else {
                continue;
            };
            for (verb, costs) in [Verb::Add, Verb::Del].into_iter().zip(costs) {
                let cost = side.measure(&side.call(verb, &config, "pod"), &plugin)?;
                if round > 0 || cost.failure.is_some() {
                    costs.push(cost);
                }
            }
        }
    }
    let [ours, peer] = &costs;
    for (verb, (ours, peer)) in ["ADD", "DEL"].iter().zip(ours.iter().zip(peer)) {
        table::costs(&format!("{} {verb}", scene.what), ours, peer)?;
    }
    for (side, costs) in sides.iter().zip(&costs) {
        let failures = costs
            .iter()
            .flatten()
            .filter_map(|cost| cost.failure.as_ref());
        table::failures(side.name, failures)?;
    }
    let failures = ours.iter().flatten().filter(|cost| cost.failure.is_some());
    tally.played += 1;
    tally.wrong += failures.count();
    Ok(())
}

fn storm(rush: &Rush, sides: &[Side<'_>; 2], tally: &mut Tally) -> io::Result<()> {
    let mut bursts = Vec::new();
    for side in sides {
        (rush.prepare)(side)?;
        let Some(plugin) = side.plugin(rush.plugin) else {
            break;
        };
        let calls = |verb: Verb| -> Vec<Call> {
            let of_pod = |pod| side.call(verb, &(rush.config)(side, pod), &format!("pod{pod}"));
            (0..rush.count).map(of_pod).collect()
        };
        let burst = side.burst(&calls(Verb::Add), &plugin, rush.at_a_time)?;
        let twice = (rush.twice)(side, &burst)?;
        side.burst(&calls(Verb::Del), &plugin, rush.at_a_time)?;
        bursts.push((burst, twice));
    }
    let (ours, twice) = &bursts[0];
    tally.played += 1;
    tally.wrong += ours.failures.len() + twice;
    table::bursts(rush.what, &bursts)?;
    for (side, (burst, _)) in sides.iter().zip(&bursts) {
        table::failures(side.name, burst.failures.iter())?;
    }
    Ok(())
}

/// Versions of the Go portmap before 1.6 have never heard of nftables, and would write rules of iptables.
fn speaks(plugin: &std::path::Path, config: &Value) -> bool {
    let table = b"cni_hostport";
    config["backend"] != "nftables"
        || fs::read(plugin).is_ok_and(|file| file.windows(table.len()).any(|part| part == table))
}

fn interface(side: &Side<'_>, kind: &str) -> Value {
    let mut config = pool(side);
    config["type"] = kind.into();
    config["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }]);
    config
}

fn pool(side: &Side<'_>) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "type": "macvlan",
        "master": MASTER,
        "ipam": { "type": "host-local", "dataDir": side.store, "subnet": "10.77.0.0/16" },
    })
}

/// A pool in which so many addresses are reserved.
fn reserve(side: &Side<'_>, count: u32) -> io::Result<()> {
    let pool = side.store.join(NETWORK);
    let _ = fs::remove_dir_all(&pool);
    fs::create_dir_all(&pool)?;
    let first = u32::from(Ipv4Addr::new(10, 77, 0, 2));
    for i in 0..count {
        let address = Ipv4Addr::from(first + i);
        fs::write(pool.join(address.to_string()), format!("{i:064x}\r\neth0"))?;
        if i + 1 == count {
            fs::write(pool.join("last_reserved_ip.0"), address.to_string())?;
        }
    }
    Ok(())
}

/// A pod of this number, with so many ports mapped.
fn ports(side: &Side<'_>, backend: &str, count: usize, pod: usize) -> Value {
    let mapping = |i| json!({ "hostPort": 20_000 + pod * 20 + i, "containerPort": 8000 + i, "protocol": "tcp" });
    json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "type": "portmap",
        "backend": backend,
        "runtimeConfig": { "portMappings": (0..count).map(mapping).collect::<Vec<_>>() },
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "eth0", "sandbox": side.sandbox() }],
            "ips": [{ "address": format!("10.77.2.{}/16", pod + 1), "interface": 0 }],
        },
    })
}

/// No rules on the host but so many of other pods, made as the plugins make them: of 250 pods, or as many as it takes.
fn rules(side: &Side<'_>, count: usize) -> io::Result<()> {
    side.tool("nft flush ruleset", "")?;
    let mut iptables =
        String::from("*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-HOSTPORT-SETMARK - [0:0]\n");
    let mut nft = String::from(
        "add table ip cni_hostport\nadd chain ip cni_hostport hostports\n\
         add chain ip cni_hostport masquerading { type nat hook postrouting priority 100; }\n",
    );
    for pod in 0..count / 4 {
        let (ip, port) = (Ipv4Addr::from(0x0a4d_0400 + pod as u32), 30_000 + pod);
        let chain = format!("CNI-DN-{pod:021x}");
        let _ = writeln!(
            iptables,
            ":{chain} - [0:0]\n\
             -A {chain} -s {ip}/16 -p tcp --dport {port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -s 127.0.0.1 -p tcp --dport {port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -p tcp --dport {port} -j DNAT --to-destination {ip}:80\n\
             -A CNI-HOSTPORT-DNAT -m comment --comment \"dnat name: \\\"{NETWORK}\\\" id: \\\"other{pod}\\\"\" -m multiport \
             -p tcp --destination-ports {port} -j {chain}"
        );
        let rule = "add rule ip cni_hostport";
        let comment = format!("comment \"other{pod}\"");
        let _ = writeln!(
            nft,
            "{rule} hostports tcp dport {port} dnat to {ip}:80 {comment}\n\
             {rule} hostports udp dport {port} dnat to {ip}:80 {comment}\n\
             {rule} masquerading ip saddr {ip} ip daddr {ip} masquerade {comment}\n\
             {rule} masquerading ip saddr 127.0.0.1 ip daddr {ip} masquerade {comment}"
        );
    }
    if count > 0 {
        side.tool("iptables-restore --noflush", &format!("{iptables}COMMIT\n"))?;
        side.tool("nft -f -", &nft)?;
    }
    Ok(())
}

fn addresses_given_twice(burst: &Burst) -> usize {
    let address = |result: &Vec<u8>| {
        let result: Value = serde_json::from_slice(result).unwrap_or_default();
        result["ips"][0]["address"].to_string()
    };
    let different: BTreeSet<String> = burst.results.iter().map(address).collect();
    burst.results.len() - different.len()
}

/// The rules by which the shared chains are entered, which every first ADD wants to make.
fn shared_rules_there_twice(side: &Side<'_>) -> io::Result<usize> {
    let list = side.tool("iptables-save -t nat", "")?;
    let entries = ["-A PREROUTING", "-A OUTPUT", "-A POSTROUTING"];
    let rules = || {
        list.lines()
            .filter(|line| entries.iter().any(|entry| line.starts_with(entry)))
    };
    Ok(rules().count() - rules().collect::<BTreeSet<_>>().len())
}
