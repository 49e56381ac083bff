//! What it costs to attach pods to several networks: one pod with delegates that do nothing, and many with real networks.

use std::collections::BTreeSet;
use std::io;

use cni_conformance::leases::leases;
use cni_conformance::multus::files_below;
use cni_conformance::pod::Pod;
use cni_conformance::requirement::Stop;
use cni_conformance::spec::Verb;
use cni_conformance::spy::{self, Lines, Spy};
use cni_conformance::stage::Stage;
use serde_json::json;

use crate::meter::Cost;
use crate::node::{DANM, MULTUS, Node, Profile};
use crate::scenes::{Tally, why_not};
use crate::side::{Burst, MASTER, Side};
use crate::table;

/// How many pods there are at once, and how many calls for them.
const PODS: usize = 50;
const AT_A_TIME: usize = 8;
/// How many networks each of them has.
const NETWORKS: usize = 3;

/// Measures every plugin of this kind that is there, on both sides, and prints what came of it.
pub(crate) fn run(stage: &Stage, sides: &[Side<'_>; 2], rounds: usize) -> io::Result<Tally> {
    let mut tally = Tally::default();
    table::head_without_delegates()?;
    for profile in [&MULTUS].into_iter().chain(&DANM) {
        match why_not(stage, &sides[0], profile.plugin) {
            Some(why) => table::left_out(profile.what, &why)?,
            None => tally.add(alone(stage, profile, sides, rounds)?),
        }
    }
    table::head_of_pods()?;
    let what = format!("multus, {PODS} pods, {AT_A_TIME} at a time");
    let needed = [MULTUS.plugin, "macvlan", "host-local"];
    match needed
        .iter()
        .find_map(|name| why_not(stage, &sides[0], name))
    {
        Some(why) => table::left_out(&what, &why)?,
        None => tally.add(together(stage, sides, &what)?),
    }
    Ok(tally)
}

/// What one verb costs.
#[derive(Debug, Default)]
struct Costs {
    /// The plugin with its delegates.
    whole: Vec<Cost>,
    /// One delegate, called in the same way.
    delegate: Vec<Cost>,
}

impl Costs {
    /// The plugin's own, without so many delegates. Of all delegates' costs the least is taken off, so that the rest is never too small by accident.
    fn own(&self, delegates: usize) -> Vec<Cost> {
        let least = |number: fn(&Cost) -> f64| {
            delegates as f64 * self.delegate.iter().map(number).fold(f64::MAX, f64::min)
        };
        let (wall, cpu) = (least(|cost| cost.wall), least(|cost| cost.cpu));
        let own = |whole: &Cost| Cost {
            wall: whole.wall - wall,
            cpu: whole.cpu - cpu,
            ..whole.clone()
        };
        self.whole.iter().map(own).collect()
    }

    fn failures(&self) -> impl Iterator<Item = &String> {
        self.whole.iter().filter_map(|cost| cost.failure.as_ref())
    }
}

/// One pod again and again, with delegates that only write down that they were called. What they use is measured beside it and
/// taken off. The first round is not counted.
fn alone(
    stage: &Stage,
    profile: &Profile,
    sides: &[Side<'_>; 2],
    rounds: usize,
) -> io::Result<Tally> {
    let mut nodes = Vec::new();
    for side in sides {
        nodes.extend(with_spies(stage, profile, side)?);
    }
    let mut costs: Vec<[Costs; 2]> = nodes.iter().map(|_| Default::default()).collect();
    for round in 0..=rounds {
        for (node, costs) in nodes.iter().zip(&mut costs) {
            for (verb, costs) in [Verb::Add, Verb::Del].into_iter().zip(costs) {
                let (sandbox, network) = (node.side.sandbox(), &node.networks[0]);
                let whole = node.call(verb, "pod", sandbox);
                let whole = node.side.measure(&whole, &node.plugin)?;
                let delegate = node.call_with(verb, network, "pod", sandbox);
                let delegate = node
                    .side
                    .measure(&delegate, &node.bin_dir.join(profile.delegates[0]))?;
                if round > 0 || whole.failure.is_some() {
                    costs.whole.push(whole);
                    costs.delegate.push(delegate);
                }
            }
        }
    }
    for (verb, index) in [("ADD", 0), ("DEL", 1)] {
        let count = profile.delegates.len();
        let own: Vec<_> = costs.iter().map(|costs| costs[index].own(count)).collect();
        let what = format!("{} {verb}", profile.what);
        table::without_delegates(&what, &own[0], own.get(1).map_or(&[], Vec::as_slice))?;
    }
    let mut tally = Tally {
        played: 1,
        wrong: costs[0].iter().flat_map(Costs::failures).count(),
    };
    for (node, costs) in nodes.iter().zip(&costs) {
        table::failures(node.side.name, costs.iter().flat_map(Costs::failures))?;
    }
    // A plugin that does not call its delegates is quick.
    let calls = spy::journal(&nodes[0].bin_dir).map_err(broken)?.len();
    let expected = 2 * (rounds + 1) * (profile.delegates.len() + 1);
    if tally.wrong == 0 && calls != expected {
        table::note(&format!(
            "ours made {calls} calls of delegates instead of {expected}"
        ))?;
        tally.wrong += 1;
    }
    Ok(tally)
}

fn with_spies<'a, 's>(
    stage: &Stage,
    profile: &'a Profile,
    side: &'a Side<'s>,
) -> io::Result<Option<Node<'a, 's>>> {
    let bin_dir = stage.folder(&format!("delegates-{}-{}", profile.folder, side.name))?;
    let mut networks = Vec::new();
    for (number, name) in (1..).zip(profile.delegates) {
        if !bin_dir.join(name).exists() {
            let mut spy = Spy::hire_in(stage, bin_dir.clone(), name)?;
            spy.says(Verb::Add, Lines::document(&(profile.answer)(number)))
                .map_err(broken)?;
        }
        networks.push(
            json!({"cniVersion": profile.version.as_str(), "name": format!("net-{number}"), "type": name}),
        );
    }
    let node = Node::new(side, profile, bin_dir, networks)?;
    if let Some(node) = &node {
        node.add_pod("pod")?;
    }
    Ok(node)
}

/// Many pods at once with macvlan links and addresses of host-local.
fn together(stage: &Stage, sides: &[Side<'_>; 2], what: &str) -> io::Result<Tally> {
    let mut tally = Tally {
        played: 1,
        wrong: 0,
    };
    for side in sides {
        let network = |number| {
            json!({
                "cniVersion": "1.0.0",
                "name": format!("pods-{number}"),
                "type": "macvlan",
                "master": MASTER,
                "ipam": {
                    "type": "host-local",
                    "dataDir": side.store.join("pods"),
                    "subnet": format!("10.{}.0.0/16", 80 + number),
                },
            })
        };
        let networks = (0..NETWORKS).map(network).collect();
        let Some(node) = Node::new(side, &MULTUS, side.bin_dir.clone(), networks)? else {
            continue;
        };
        let outcome = come_and_go(stage, &node)?;
        table::pods(what, side.name, &outcome)?;
        if side.name == sides[0].name {
            tally.wrong += outcome.wrong();
        }
    }
    Ok(tally)
}

/// What came of many pods at once.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) adds: Burst,
    pub(crate) dels: Burst,
    /// Addresses that pods lack or have in common with others, by what they have been told; and leases too few or too many.
    pub(crate) wrong_addresses: usize,
    /// Links, leases and files that are there after all is deleted.
    pub(crate) left: usize,
}

impl Outcome {
    fn wrong(&self) -> usize {
        self.adds.failures.len() + self.dels.failures.len() + self.wrong_addresses + self.left
    }
}

fn come_and_go(stage: &Stage, node: &Node<'_, '_>) -> io::Result<Outcome> {
    let (side, store) = (node.side, node.side.store.join("pods"));
    let pods: Vec<_> = (0..PODS)
        .map(|_| Pod::new(stage))
        .collect::<io::Result<_>>()?;
    for pod in &pods {
        node.add_pod(&pod.name)?;
    }
    let links_before = side.host.state()?.links.len();
    let burst = |verb| {
        let calls: Vec<_> = pods
            .iter()
            .map(|pod| node.call(verb, &pod.name, &pod.path))
            .collect();
        side.burst(&calls, &node.plugin, AT_A_TIME)
    };
    let adds = burst(Verb::Add)?;
    let addresses: Vec<_> = pods
        .iter()
        .flat_map(|pod| node.addresses(&pod.name))
        .collect();
    let different = addresses.iter().collect::<BTreeSet<_>>().len();
    let wanted = NETWORKS * (PODS - adds.failures.len());
    let wrong_addresses = wanted.abs_diff(different)
        + (addresses.len() - different)
        + wanted.abs_diff(leases(&store)?.len());
    let dels = burst(Verb::Del)?;
    let mut left = side.host.state()?.links.len().abs_diff(links_before);
    for pod in &pods {
        left += pod
            .state()?
            .links
            .iter()
            .filter(|link| link.name != "lo")
            .count();
    }
    left += leases(&store)?.len() + files_below(&node.state).map_err(broken)?.len();
    Ok(Outcome {
        adds,
        dels,
        wrong_addresses,
        left,
    })
}

fn broken(stop: Stop) -> io::Error {
    io::Error::other(format!("{stop:?}"))
}
