//! Family D: DEL releases what its own ADD took, whatever has happened in between.

use std::fs;

use serde_json::json;

use super::add::{addresses, held, same_leases};
use super::delegation::spy_ipam;
use crate::attachment::Attachment;
use crate::call::Call;
use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case, skip};
use crate::spec::{Kind, Must, Should, V0_1_0, V0_3_0, V0_4_0, V1_0_0, V1_1_0, Verb, code};
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "D1",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "DEL releases everything the ADD took: host, pod and leases are as before, the second time too.",
        section: "DEL",
        cases: &[case("DEL-01", two_cycles)],
    },
    Requirement {
        id: "D2",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "A successful DEL prints nothing on stdout.",
        section: "DEL",
        cases: &[case("DEL-02", silence)],
    },
    Requirement {
        id: "D3",
        levels: &[(V0_3_0..=V0_4_0, Should), (V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A repeated DEL succeeds, and so does a DEL without an ADD.",
        section: "DEL",
        cases: &[case("DEL-03", repeated), case("DEL-04", without_add)],
    },
    Requirement {
        id: "D4",
        levels: &[(V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "DEL without CNI_NETNS succeeds and releases what is held outside the pod.",
        section: "DEL",
        cases: &[
            case("DEL-05", netns_not_set),
            case("DEL-05 empty", netns_empty),
        ],
    },
    Requirement {
        id: "D5",
        levels: &[(V0_3_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "DEL succeeds and releases when the namespace is gone, also when a plain file is left at its path.",
        section: "DEL",
        cases: &[case("DEL-06", netns_gone), case("DEL-07", netns_is_a_file)],
    },
    Requirement {
        id: "D6",
        levels: &[(V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "DEL without prevResult succeeds and releases.",
        section: "DEL",
        cases: &[case("DEL-08", no_prev_result)],
    },
    Requirement {
        id: "D7",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "DEL succeeds and releases what is left when the interface, the master or the store is missing.",
        section: "DEL",
        cases: &[
            case("DEL-09", interface_missing),
            case("DEL-10", master_missing),
            case("DEL-11", store_missing),
        ],
    },
    Requirement {
        id: "D8",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "DEL releases only what belongs to its container id and interface name, and not to one that begins alike.",
        section: "DEL",
        cases: &[case("DEL-12", ids_that_begin_alike)],
    },
    Requirement {
        id: "D9",
        levels: &[(V0_4_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "DEL with a prevResult that can't be read still releases what it can.",
        section: "DEL",
        cases: &[case("DEL-14", unreadable_prev_result)],
    },
    Requirement {
        id: "D10",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "DEL of the delegate is executed, also when the namespace is gone; its error becomes the plugin's.",
        section: "Delegated plugins",
        cases: &[
            case("DEL-13", delegate_is_deleted),
            case("DEL-13 error", delegate_error_is_passed_on),
        ],
    },
    Requirement {
        id: "D11",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A malformed DEL is an error and not taken for success.",
        section: "Error",
        cases: &[case("IN-01", malformed), case("IN-05", nameless)],
    },
];

/// DEL by this call succeeds and nothing of the network's leases is left.
fn releases(attachment: &Attachment<'_>, trial: &Trial<'_>, call: &Call) -> Verdict {
    trial.run(call)?.success()?;
    let left = held(attachment)?;
    ensure!(
        left.is_empty(),
        "DEL succeeded and left the leases {:?}",
        left.keys()
    );
    Ok(())
}

fn added<'t>(trial: &'t Trial<'_>) -> Result<Attachment<'t>, Stop> {
    let mut attachment = trial.attachment()?;
    attachment.add()?;
    Ok(attachment)
}

fn two_cycles(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let (host, pod, leases) = (
        trial.stage.host()?,
        attachment.pod.state()?,
        held(&attachment)?,
    );
    for cycle in ["first", "second"] {
        attachment.add()?;
        attachment.del()?;
        let now = attachment.pod.state()?;
        ensure!(
            now == pod,
            "after the {cycle} cycle the pod has {now:?}, before it had {pod:?}"
        );
        let now = trial.stage.host()?;
        let survivor = |name: &str| trial.plugin.profile.survivors.iter().any(|s| s == name);
        let left = now
            .links
            .iter()
            .filter(|link| !host.links.contains(link) && !survivor(&link.name));
        let left: Vec<_> = left.map(|link| &link.name).collect();
        ensure!(
            left.is_empty(),
            "after the {cycle} cycle the host has new or changed links: {left:?}"
        );
        same_leases(&attachment, &leases)?;
    }
    Ok(())
}

fn silence(trial: &Trial<'_>) -> Verdict {
    let answer = added(trial)?.del()?;
    ensure!(
        answer.exchange.outcome.stdout.is_empty(),
        "DEL printed something"
    );
    Ok(())
}

fn repeated(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    attachment.del()?;
    attachment.del().map(drop)
}

fn without_add(trial: &Trial<'_>) -> Verdict {
    trial.attachment()?.del().map(drop)
}

fn netns_not_set(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    releases(
        &attachment,
        trial,
        &attachment.call(Verb::Del).without("CNI_NETNS"),
    )
}

fn netns_empty(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    releases(
        &attachment,
        trial,
        &attachment.call(Verb::Del).with("CNI_NETNS", ""),
    )
}

fn netns_gone(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    attachment.pod.vanish();
    releases(&attachment, trial, &attachment.call(Verb::Del))
}

fn netns_is_a_file(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    attachment.pod.vanish();
    fs::write(&attachment.pod.path, "")?;
    releases(&attachment, trial, &attachment.call(Verb::Del))
}

fn no_prev_result(trial: &Trial<'_>) -> Verdict {
    let mut attachment = added(trial)?;
    attachment.result = None;
    releases(&attachment, trial, &attachment.call(Verb::Del))
}

fn interface_missing(trial: &Trial<'_>) -> Verdict {
    if !trial.kind().attaches() {
        return Err(skip("the plugin makes no interface"));
    }
    let attachment = added(trial)?;
    attachment.pod.ip(&["link", "delete", &attachment.ifname])?;
    releases(&attachment, trial, &attachment.call(Verb::Del))
}

fn master_missing(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    if !trial.kind().attaches() || attachment.maker()["master"].is_null() {
        return Err(skip("the plugin has no master"));
    }
    let master = format!("nic{}", trial.serial());
    trial.stage.ip(&[
        "link",
        "add",
        &master,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{master}p"),
    ])?;
    trial.stage.ip(&["link", "set", &master, "up"])?;
    attachment.maker()["master"] = master.as_str().into();
    let outcome = attachment.add();
    trial.stage.ip(&["link", "delete", &master])?;
    outcome?;
    releases(&attachment, trial, &attachment.call(Verb::Del))
}

fn store_missing(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    fs::remove_dir_all(attachment.store()?)?;
    attachment.del().map(drop)
}

fn ids_that_begin_alike(trial: &Trial<'_>) -> Verdict {
    let mut one = added(trial)?;
    let mut two = one.sibling()?;
    two.container = format!("{}-1", one.container);
    let second = addresses(&two.add()?);
    let before = held(&two)?;
    one.del()?;
    let now = held(&two)?;
    ensure!(
        now.len() + 1 >= before.len(),
        "DEL of {} released more than its own: {:?} are left",
        one.container,
        now.keys()
    );
    one.container = format!("{}x", one.container);
    let third = addresses(&one.add()?);
    ensure!(third != second, "{second:?} was handed out twice");
    two.del().map(drop)
}

fn unreadable_prev_result(trial: &Trial<'_>) -> Verdict {
    let attachment = added(trial)?;
    let call = attachment.call(Verb::Del).edit(|config| {
        config["prevResult"] = json!({ "cniVersion": "9.9.9", "ips": "none" });
    });
    releases(&attachment, trial, &call)
}

fn delegate_is_deleted(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let spy = spy_ipam(trial, &mut attachment)?;
    attachment.add()?;
    attachment.pod.vanish();
    attachment.del()?;
    ensure!(
        !spy.witnessed_verb(Verb::Del)?.is_empty(),
        "the delegate did not get DEL"
    );
    Ok(())
}

fn delegate_error_is_passed_on(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let mut spy = spy_ipam(trial, &mut attachment)?;
    attachment.add()?;
    spy.says(Verb::Del, Lines::error(123, "no release today"))?;
    let refusal = attachment.ask(Verb::Del)?.refused(&[code::OWN])?;
    ensure!(
        refusal.msg.contains("no release today"),
        "the delegate's words are not in {:?}",
        refusal.msg
    );
    let left = attachment.pod.link(&attachment.ifname)?;
    ensure!(
        left.is_none(),
        "the interface was left because the delegate failed"
    );
    Ok(())
}

fn malformed(trial: &Trial<'_>) -> Verdict {
    let call = trial.attachment()?.call(Verb::Del);
    for stdin in ["", "{", "[]"] {
        trial.run(&call.clone().stdin(stdin))?.refused(&[
            code::UNDECODABLE,
            code::IO,
            code::INVALID_CONFIG,
        ])?;
    }
    Ok(())
}

fn nameless(trial: &Trial<'_>) -> Verdict {
    let call = trial.attachment()?.call(Verb::Del).edit(|config| {
        if let Some(config) = config.as_object_mut() {
            config.remove("name");
        }
    });
    trial
        .run(&call)?
        .refused(&[code::INVALID_CONFIG, code::UNDECODABLE])
        .map(drop)
}
