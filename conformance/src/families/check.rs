//! Family C: CHECK sees what is broken, tolerates what is not, and changes nothing.

use std::fs;

use serde_json::{Value, json};

use super::add::{dual_stack, held, link, same_leases, with_ranges};
use crate::attachment::Attachment;
use crate::ensure;
use crate::leases::leases;
use crate::requirement::{Requirement, Stop, Verdict, case, skip};
use crate::rules::wipe;
use crate::spec::{Kind, Must, Should, V0_1_0, V0_3_1, V0_4_0, V1_1_0, Verb, code};
use crate::trial::Trial;

/// The requirements of this family. That CHECK reaches the delegate (C9) is G8's.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "C1",
        levels: &[(V0_1_0..=V0_3_1, Must)],
        kinds: Kind::ALL,
        sentence: "CHECK of a configuration older than 0.4.0 is refused and changes nothing.",
        section: "CHECK",
        cases: &[case("CHK-01", too_old)],
    },
    Requirement {
        id: "C2",
        levels: &[(V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "Right after ADD, CHECK succeeds and prints nothing.",
        section: "CHECK",
        cases: &[
            case("CHK-02", after_add),
            case("CHK-15", routes_without_gateway),
            case("other spelling of the path", other_path),
        ],
    },
    Requirement {
        id: "C3",
        levels: &[(V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "CHECK consults prevResult, so it is an error without one.",
        section: "CHECK",
        cases: &[case("CHK-03", no_prev_result)],
    },
    Requirement {
        id: "C4",
        levels: &[(V0_4_0..=V1_1_0, Should)],
        kinds: Kind::ATTACHING,
        sentence: "CHECK is an error when an interface, address or route of prevResult that the plugin made is missing or another.",
        section: "CHECK",
        cases: &[
            case("CHK-04", interface_deleted),
            case("CHK-05", interface_of_another_kind),
            case("CHK-06", another_hardware_address),
            case("CHK-08", address_removed),
            case("CHK-10", route_removed),
            case("CHK-17", namespace_gone),
        ],
    },
    Requirement {
        id: "C5",
        levels: &[(V0_4_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "CHECK is an error when what the plugin holds outside the pod is missing.",
        section: "CHECK",
        cases: &[case("CHK-07", lease_removed)],
    },
    Requirement {
        id: "C6",
        levels: &[(V0_4_0..=V1_1_0, Should)],
        kinds: Kind::ATTACHING,
        sentence: "CHECK is an error when the pod can't be reached at all.",
        section: "CHECK",
        cases: &[case("CHK-09", link_down)],
    },
    Requirement {
        id: "C7",
        levels: &[(V0_4_0..=V1_1_0, Must)],
        // A runtime to its delegates gives each the result of its own ADD; see M15.
        kinds: &[Kind::Interface],
        sentence: "CHECK tolerates what plugins later in a chain may do: more addresses and routes, another hardware address in kernel and prevResult.",
        section: "CHECK",
        cases: &[
            case("CHK-13", work_of_others),
            case("interfaces of others", interfaces_of_others),
        ],
    },
    Requirement {
        id: "C8",
        levels: &[(V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "CHECK changes nothing.",
        section: "CHECK",
        cases: &[case("CHK-16", changes_nothing)],
    },
    Requirement {
        id: "C10",
        levels: &[(V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "Straight after ADD, CHECK allows for what is still settling, such as IPv6 address detection.",
        section: "CHECK",
        cases: &[case("dual stack", still_settling)],
    },
];

fn added<'t>(trial: &'t Trial<'_>) -> Result<Attachment<'t>, Stop> {
    let mut attachment = trial.attachment()?;
    attachment.add()?;
    Ok(attachment)
}

/// CHECK must be an error now; whatever the code.
fn is_refused(attachment: &Attachment<'_>) -> Verdict {
    attachment.ask(Verb::Check)?.refused(&[]).map(drop)
}

fn too_old(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    let result = attachment.result.clone().unwrap_or_default();
    let (pod, before) = (attachment.pod.state()?, held(&attachment)?);
    let call = attachment
        .call(Verb::Check)
        .edit(|config| config["prevResult"] = result);
    // A plugin that knows no newer version does not know the verb.
    trial
        .run(&call)?
        .refused(&[code::INCOMPATIBLE_VERSION, code::INVALID_ENVIRONMENT])?;
    ensure!(attachment.pod.state()? == pod, "CHECK changed the pod");
    same_leases(&attachment, &before)
}

fn after_add(trial: &Trial<'_>) -> Verdict {
    let answer = added(trial)?.check()?;
    ensure!(
        answer.exchange.outcome.stdout.is_empty(),
        "CHECK printed something"
    );
    Ok(())
}

fn routes_without_gateway(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "10.99.0.0/16" }]);
    with_ranges(
        &mut attachment,
        json!([[{ "subnet": "10.88.0.0/24" }]]),
        routes,
    )?;
    attachment.add()?;
    attachment.check().map(drop)
}

fn other_path(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    let path = format!("/var/run/netns/{}", attachment.pod.name);
    trial
        .run(&attachment.call(Verb::Check).with("CNI_NETNS", path))?
        .success()
        .map(drop)
}

fn no_prev_result(trial: &Trial<'_>) -> Verdict {
    let mut attachment = added(trial)?;
    attachment.result = None;
    attachment
        .ask(Verb::Check)?
        .refused(&[code::INVALID_CONFIG, code::OWN])
        .map(drop)
}

fn interface_deleted(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    attachment.pod.ip(&["link", "delete", &attachment.ifname])?;
    is_refused(&attachment)
}

fn interface_of_another_kind(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    let (pod, name) = (&attachment.pod, &attachment.ifname);
    let own = link(&attachment)?;
    let result = attachment.result.as_ref();
    let gateway = result.and_then(|result| result["ips"][0]["gateway"].as_str());
    let gateway = gateway.unwrap_or("10.88.0.1");
    pod.ip(&["link", "delete", name])?;
    pod.ip(&[
        "link", "add", name, "address", &own.mac, "type", "veth", "peer", "name", "other",
    ])?;
    pod.ip(&["link", "set", "other", "up"])?;
    pod.ip(&["link", "set", name, "up"])?;
    for (ip, prefix) in &own.addresses {
        pod.ip(&["address", "add", &format!("{ip}/{prefix}"), "dev", name])?;
    }
    pod.ip(&["route", "add", "default", "via", gateway, "dev", name])?;
    is_refused(&attachment)
}

fn another_hardware_address(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    change_hardware_address(&attachment, "02:00:00:00:00:99")?;
    is_refused(&attachment)
}

/// Skips the case where the kind of link does not allow it.
fn change_hardware_address(attachment: &Attachment<'_>, mac: &str) -> Verdict {
    let change = ["link", "set", &attachment.ifname, "address", mac];
    let refused = |error| skip(format!("its hardware address can't be changed: {error}"));
    attachment.pod.ip(&change).map(drop).map_err(refused)
}

fn address_removed(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    let own = link(&attachment)?;
    let Some((ip, prefix)) = own.addresses.first() else {
        return Err(skip("the interface has no address"));
    };
    attachment.pod.ip(&[
        "address",
        "delete",
        &format!("{ip}/{prefix}"),
        "dev",
        &own.name,
    ])?;
    is_refused(&attachment)
}

fn route_removed(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    attachment.pod.ip(&["route", "delete", "default"])?;
    is_refused(&attachment)
}

fn namespace_gone(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    attachment.pod.vanish();
    is_refused(&attachment)
}

fn lease_removed(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    if attachment.cable.is_some() {
        wipe()?;
        return is_refused(&attachment);
    }
    let leases = leases(&attachment.store()?)?;
    if leases.is_empty() {
        return Err(skip("the plugin keeps no leases in the store"));
    }
    for path in leases.keys() {
        fs::remove_file(path)?;
    }
    is_refused(&attachment)
}

fn link_down(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    attachment
        .pod
        .ip(&["link", "set", &attachment.ifname, "down"])?;
    is_refused(&attachment)
}

fn work_of_others(trial: &Trial<'_>) -> Verdict {
    let mut attachment = added(trial)?;
    let (pod, name) = (&attachment.pod, &attachment.ifname);
    pod.ip(&["address", "add", "10.66.0.5/24", "dev", name])?;
    pod.ip(&[
        "route",
        "add",
        "10.67.0.0/16",
        "via",
        "10.66.0.1",
        "dev",
        name,
    ])?;
    attachment.check()?;
    let mac = "02:00:00:00:00:99";
    change_hardware_address(&attachment, mac)?;
    let interfaces = attachment
        .result
        .as_mut()
        .and_then(|result| result["interfaces"].as_array_mut());
    for interface in interfaces.into_iter().flatten() {
        interface["mac"] = mac.into();
    }
    attachment.check().map(drop)
}

/// A plugin later in the list made an interface of its own and gave it an address.
fn interfaces_of_others(trial: &Trial<'_>) -> Verdict {
    let mut attachment = added(trial)?;
    attachment.pod.ip(&[
        "link", "add", "other0", "type", "veth", "peer", "name", "other1",
    ])?;
    let sandbox = attachment.pod.path.to_string_lossy().into_owned();
    let Some(result) = attachment.result.as_mut() else {
        return Err(skip("there is no result"));
    };
    let mut ip = json!({ "interface": 1, "address": "10.66.0.5/24" });
    if result["ips"][0]["version"].is_string() {
        ip["version"] = "4".into();
    }
    push(
        &mut result["interfaces"],
        json!({ "name": "other0", "mac": "02:00:00:00:00:66", "sandbox": sandbox }),
    );
    push(&mut result["ips"], ip);
    attachment.check().map(drop)
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

fn changes_nothing(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    let before = (trial.stage.host()?, attachment.pod.state()?);
    let leases_before = held(&attachment)?;
    attachment.check()?;
    let now = (trial.stage.host()?, attachment.pod.state()?);
    ensure!(now == before, "CHECK changed {before:?} to {now:?}");
    same_leases(&attachment, &leases_before)
}

fn still_settling(trial: &Trial<'_>) -> Verdict {
    let mut attachment = dual_stack(trial)?;
    attachment.add()?;
    attachment.check().map(drop)
}
