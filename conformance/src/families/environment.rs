//! Family E: the CNI_* variables, and what a plugin does when they are missing or wrong.

use std::process;

use nix::unistd::gettid;

use crate::attachment::Attachment;
use crate::call::Call;
use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case, skip};
use crate::spec::code::{INVALID_ENVIRONMENT, OWN};
use crate::spec::{Kind, Must, Obs, Should, V0_1_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0, Verb};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "E1",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A `CNI_COMMAND` that is no verb, or in lower case, is refused, and the message names the variable.",
        section: "Parameters; Error",
        cases: &[
            case("ENV-01", unknown_command),
            case("ENV-02", command_in_lower_case),
        ],
    },
    Requirement {
        id: "E2",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "Without `CNI_COMMAND` the plugin answers with an error.",
        section: "Parameters",
        cases: &[
            case("ENV-03", no_command),
            case("ENV-03/empty", empty_command),
        ],
    },
    Requirement {
        id: "E3",
        levels: &[(V0_1_0..=V0_3_1, Should), (V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "ADD, DEL and CHECK need `CNI_CONTAINERID`, and the message of a refusal names it.",
        section: "Parameters",
        cases: &[case("ENV-04", |t| {
            needed(t, "CNI_CONTAINERID", &[Verb::Add, Verb::Del, Verb::Check])
        })],
    },
    Requirement {
        id: "E4",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "ADD, DEL and CHECK need `CNI_IFNAME`, and the message of a refusal names it.",
        section: "Parameters",
        cases: &[case("ENV-05", |t| {
            needed(t, "CNI_IFNAME", &[Verb::Add, Verb::Del, Verb::Check])
        })],
    },
    Requirement {
        id: "E5",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "ADD and CHECK need `CNI_NETNS`, and the message of a refusal names it.",
        section: "Parameters",
        cases: &[case("ENV-06", |t| {
            needed(t, "CNI_NETNS", &[Verb::Add, Verb::Check])
        })],
    },
    Requirement {
        id: "E6",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "A variable that is set to nothing counts as missing.",
        section: "Parameters",
        cases: &[case("ENV-07", empty_is_missing)],
    },
    Requirement {
        id: "E7",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "The message of code 4 holds the names of the variables that are wrong, all of them.",
        section: "Error",
        cases: &[case("ENV-08", all_missing_are_named)],
    },
    Requirement {
        id: "E8",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "`CNI_PATH` is optional for ADD, CHECK and DEL: a plugin that calls no other works without it.",
        section: "Parameters",
        cases: &[case("ENV-09", works_without_path)],
    },
    Requirement {
        id: "E9",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "`CNI_ARGS` is optional, and with `IgnoreUnknown=1` keys that the plugin doesn't know pass.",
        section: "Parameters",
        cases: &[
            case("ENV-10/unset", works_without_args),
            case("ENV-10/kubernetes", takes_args_of_kubernetes),
        ],
    },
    Requirement {
        id: "E10",
        levels: &[(V0_1_0..=V1_1_0, Obs)],
        kinds: Kind::ALL,
        sentence: "What is done about `CNI_ARGS` with unknown keys or broken pairs is left open.",
        section: "Parameters",
        cases: &[case("ENV-11", odd_args)],
    },
    Requirement {
        id: "E11",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "A `CNI_NETNS` that doesn't exist or is no network namespace is an error, and no lease is kept.",
        section: "Parameters",
        cases: &[
            case("ENV-17", |t| no_namespace(t, "/run/netns/nobody")),
            case("ENV-17/relative", |t| no_namespace(t, "nobody")),
            case("ENV-18/file", |t| no_namespace(t, "/etc/hostname")),
            case("ENV-18/directory", |t| no_namespace(t, "/run/netns")),
            case("ENV-18/root", |t| no_namespace(t, "/")),
            case("ENV-18/device", |t| no_namespace(t, "/dev/null")),
            case("ENV-18/mount-namespace", |t| {
                no_namespace(t, "/proc/self/ns/mnt")
            }),
            case("ENV-17/check", no_namespace_to_check),
        ],
    },
    Requirement {
        id: "E12",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "A `CNI_NETNS` that is the plugin's own namespace is refused before anything is done.",
        section: "Parameters",
        cases: &[
            case("ENV-20", own_namespace_on_add),
            case("ENV-20/del", own_namespace_on_del),
        ],
    },
    Requirement {
        id: "E13",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "The plugin works in the runtime's network namespace, and leaves it as it was after DEL.",
        section: "Overview",
        cases: &[case("DEL-01/host", host_is_unchanged)],
    },
];

fn unknown_command(t: &Trial) -> Verdict {
    let call = t.attachment()?.call(Verb::Add).with("CNI_COMMAND", "FROB");
    t.refused(&call, &[INVALID_ENVIRONMENT])?
        .names("CNI_COMMAND")
        .map(drop)
}

fn command_in_lower_case(t: &Trial) -> Verdict {
    let attachment = t.attachment()?;
    let call = attachment.call(Verb::Add).with("CNI_COMMAND", "add");
    t.refused(&call, &[INVALID_ENVIRONMENT])?
        .names("CNI_COMMAND")?;
    attachment.untouched()
}

fn no_command(t: &Trial) -> Verdict {
    let call = t.attachment()?.call(Verb::Add).without("CNI_COMMAND");
    t.refused(&call, &[INVALID_ENVIRONMENT])?
        .names("CNI_COMMAND")
        .map(drop)
}

fn empty_command(t: &Trial) -> Verdict {
    let call = t.attachment()?.call(Verb::Add).with("CNI_COMMAND", "");
    t.refused(&call, &[INVALID_ENVIRONMENT])?
        .names("CNI_COMMAND")
        .map(drop)
}

/// The verbs of the list that the version has, as calls that would be right but for what the caller takes away.
fn calls(t: &Trial, attachment: &Attachment, verbs: &[Verb]) -> Vec<Call> {
    verbs
        .iter()
        .filter(|verb| t.version >= verb.since())
        .map(|&verb| attachment.call(verb))
        .collect()
}

fn needed(t: &Trial, variable: &str, verbs: &[Verb]) -> Verdict {
    let attachment = t.attachment()?;
    for call in calls(t, &attachment, verbs) {
        t.refused(&call.without(variable), &[INVALID_ENVIRONMENT])?
            .names(variable)?;
    }
    attachment.untouched()
}

fn empty_is_missing(t: &Trial) -> Verdict {
    let attachment = t.attachment()?;
    for variable in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
        let call = attachment.call(Verb::Add).with(variable, "");
        t.refused(&call, &[INVALID_ENVIRONMENT])?.names(variable)?;
    }
    attachment.untouched()
}

fn all_missing_are_named(t: &Trial) -> Verdict {
    let variables = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"];
    let whole = t.attachment()?.call(Verb::Add);
    let call = variables
        .iter()
        .fold(whole, |call, variable| call.without(variable));
    let refusal = t.refused(&call, &[INVALID_ENVIRONMENT])?;
    variables
        .iter()
        .try_for_each(|variable| refusal.names(variable).map(drop))
}

/// An attachment for which the plugin needs no other: an interface without addresses, or what it does alone anyway.
fn alone<'t>(t: &'t Trial) -> Result<Attachment<'t>, Stop> {
    if t.plugin.profile.delegates.is_empty() {
        t.attachment()
    } else {
        t.attachment_to("l2")
    }
}

fn works_without_path(t: &Trial) -> Verdict {
    let mut attachment = alone(t)?;
    attachment.add_by(&attachment.call(Verb::Add).without("CNI_PATH"))?;
    for call in calls(t, &attachment, &[Verb::Check, Verb::Del]) {
        t.run(&call.without("CNI_PATH"))?.success()?;
    }
    Ok(())
}

fn works_without_args(t: &Trial) -> Verdict {
    if !t.plugin.profile.objects.is_empty() {
        return Err(skip("CNI_ARGS say which pod of the API server it is"));
    }
    let mut attachment = t.attachment()?;
    attachment.add_by(&attachment.call(Verb::Add).without("CNI_ARGS"))?;
    t.run(&attachment.call(Verb::Del).without("CNI_ARGS"))?
        .success()
        .map(drop)
}

fn takes_args_of_kubernetes(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    attachment.args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=samplepod;\
                       K8S_POD_INFRA_CONTAINER_ID=0123456789abcdef;K8S_POD_UID=3d3b8c4e-1111-2222-3333-444455556666"
        .into();
    attachment.add()?;
    if t.version >= Verb::Check.since() {
        attachment.check()?;
    }
    attachment.del().map(drop)
}

fn odd_args(t: &Trial) -> Verdict {
    for args in [
        "FOO=bar",
        "FOO",
        "FOO=bar=baz",
        "FOO=bar;;IgnoreUnknown=1",
        "IgnoreUnknown=1;",
    ] {
        let mut attachment = t.attachment()?;
        attachment.args = args.into();
        let seen = match attachment.ask(Verb::Add)?.refused(&[]) {
            Ok(refusal) => format!("refused with code {}", refusal.code),
            Err(_) => "accepted".into(),
        };
        t.note(format!("CNI_ARGS={args}: {seen}"));
        attachment.ask(Verb::Del)?;
    }
    Ok(())
}

fn no_namespace(t: &Trial, path: &str) -> Verdict {
    let attachment = t.attachment()?;
    t.run(&attachment.call(Verb::Add).with("CNI_NETNS", path))?
        .refused(&[])?;
    ensure!(
        attachment.leases()?.is_empty(),
        "a lease was kept for a pod that never was"
    );
    Ok(())
}

fn no_namespace_to_check(t: &Trial) -> Verdict {
    if t.version < Verb::Check.since() {
        return Ok(());
    }
    let mut attachment = t.attachment()?;
    attachment.add()?;
    let call = attachment
        .call(Verb::Check)
        .with("CNI_NETNS", "/run/netns/nobody");
    t.run(&call)?.refused(&[]).map(drop)
}

/// The plugin runs where this thread runs, so this is its own namespace under a name that it can't compare as text.
fn own_namespace() -> String {
    format!("/proc/{}/task/{}/ns/net", process::id(), gettid())
}

fn own_namespace_on_add(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    let mut attachment = t.attachment()?;
    // A name that the host has not, and that can be taken away again from a plugin that went ahead.
    attachment.ifname = format!("own{}", t.serial());
    let before = t.stage.host()?;
    let answer = t.run(
        &attachment
            .call(Verb::Add)
            .with("CNI_NETNS", own_namespace()),
    );
    let after = t.stage.host()?;
    if after.link(&attachment.ifname).is_some() {
        t.stage.ip(&["link", "delete", &attachment.ifname])?;
    }
    answer?.refused(&[INVALID_ENVIRONMENT, OWN])?;
    ensure!(
        after == before,
        "it was refused, but the host namespace has changed"
    );
    ensure!(
        attachment.leases()?.is_empty(),
        "it was refused, but a lease is kept"
    );
    Ok(())
}

fn own_namespace_on_del(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    attachment.ifname = format!("own{}", t.serial());
    attachment.add()?;
    let leases = attachment.leases()?;
    let call = attachment
        .call(Verb::Del)
        .with("CNI_NETNS", own_namespace());
    t.run(&call)?.refused(&[INVALID_ENVIRONMENT, OWN])?;
    ensure!(
        attachment.leases()? == leases,
        "it was refused, but the lease is gone"
    );
    Ok(())
}

fn host_is_unchanged(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    let mut before = t.stage.host()?;
    attachment.add()?;
    let during = t.stage.host()?;
    attachment.del()?;
    let mut after = t.stage.host()?;
    for state in [&mut before, &mut after] {
        state
            .links
            .retain(|link| !t.plugin.profile.survivors.contains(&link.name));
    }
    ensure!(
        during.link("uplink").is_some(),
        "ADD took the master away from the host"
    );
    ensure!(
        before == after,
        "the host namespace is not as before: {before:?} became {after:?}"
    );
    Ok(())
}
