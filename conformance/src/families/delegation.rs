//! Family G: how a plugin calls the one that it leaves addresses to.

use serde_json::{Value, json};

use super::add::{addresses, held};
use crate::answer::Answer;
use crate::attachment::Attachment;
use crate::call::Call;
use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case, fail, skip};
use crate::spec::{
    Kind, Must, Should, V0_1_0, V0_3_0, V0_4_0, V1_0_0, V1_1_0, Verb, Version, code,
};
use crate::spy::{Lines, Spy};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "G1",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "A delegate is looked for in CNI_PATH and nowhere else; one that is not found is an error.",
        section: "Delegated plugins",
        cases: &[case("ADD-11", not_found)],
    },
    Requirement {
        id: "G2",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        // One that is a runtime to its delegates makes requests of its own; family M is about those.
        kinds: &[Kind::Interface],
        sentence: "A delegate gets the whole configuration on stdin and the same CNI_* variables.",
        section: "Delegated plugins",
        cases: &[case("ADD-13", same_request)],
    },
    Requirement {
        id: "G3",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "The first directory of CNI_PATH that has the delegate wins; directories that do not exist are passed over.",
        section: "Parameters, CNI_PATH",
        cases: &[case("ADD-14", first_directory_wins)],
    },
    Requirement {
        id: "G4",
        levels: &[(V1_0_0..=V1_1_0, Should)],
        kinds: Kind::ATTACHING,
        sentence: "What a delegate prints on stderr reaches the caller's stderr, when it succeeds and when it fails.",
        section: "Delegated plugins",
        cases: &[
            case("ADD-15", stderr_of_success),
            case("ADD-15 failure", stderr_of_failure),
        ],
    },
    Requirement {
        id: "G5",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "A delegate that fails makes the plugin fail, with the delegate's code and message.",
        section: "Delegated plugins",
        cases: &[case("ADD-16", failure_is_passed_on)],
    },
    Requirement {
        id: "G6",
        levels: &[(V1_0_0..=V1_1_0, Should)],
        kinds: Kind::ATTACHING,
        sentence: "A delegate's failed ADD is followed by its DEL, and so is a failure of the plugin after the delegate's ADD.",
        section: "Delegated plugins",
        cases: &[
            case("ADD-17", failed_add_is_deleted),
            case("ADD-18", later_failure_is_deleted),
        ],
    },
    Requirement {
        id: "G7",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "An answer of a delegate that can't be used is an error: garbage, nothing, null, another version, no or bad addresses.",
        section: "Delegated plugins",
        cases: &[case("ADD-19", useless_answers)],
    },
    Requirement {
        id: "G8",
        levels: &[(V0_4_0..=V0_4_0, Should), (V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "CHECK and DEL, and from 1.1.0 on GC and STATUS, are executed on the delegate too, and its error is the plugin's.",
        section: "Delegated plugins",
        cases: &[
            case("DEL-13", del_is_forwarded),
            case("CHK-14", check_is_forwarded),
            case("GC-05", gc_is_forwarded),
            case("ST-04", status_is_forwarded),
        ],
    },
    Requirement {
        id: "G9",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "Delegation to an IPAM plugin leaves no interface in the host's namespace.",
        section: "Delegated plugins (IPAM)",
        cases: &[case("host untouched", host_untouched)],
    },
    Requirement {
        id: "G10",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ATTACHING,
        sentence: "An ADD that fails because of its delegate leaves no interface in the pod, and the next ADD works.",
        section: "Section 3, lifecycle and ordering",
        cases: &[case("nothing left", nothing_left)],
    },
];

/// The address that the spy hands out.
const ADDRESS: &str = "10.88.0.77/24";

/// Puts a spy in the place of the IPAM plugin; it hands out one address.
pub(super) fn spy_ipam(trial: &Trial<'_>, attachment: &mut Attachment<'_>) -> Result<Spy, Stop> {
    trial.needs_networks_in_config()?;
    let mut spy = Spy::hire(trial, "spy-ipam")?;
    spy.says(Verb::Add, Lines::document(&answer_of_ipam(trial.version)))?;
    attachment.maker()["ipam"] =
        json!({ "type": "spy-ipam", "known only to the spy": [1.5, { "x": null }] });
    attachment.path.insert(0, spy.folder.clone());
    Ok(spy)
}

fn answer_of_ipam(version: Version) -> Value {
    let cni_version = version.as_str();
    if version < V0_3_0 {
        return json!({ "cniVersion": cni_version, "ip4": { "ip": ADDRESS, "gateway": "10.88.0.1" }, "dns": {} });
    }
    let mut ip = json!({ "address": ADDRESS, "gateway": "10.88.0.1" });
    if version < V1_0_0 {
        ip["version"] = "4".into();
    }
    json!({ "cniVersion": cni_version, "ips": [ip], "dns": {} })
}

/// An attachment and the spy it delegates to.
fn spied<'t>(trial: &'t Trial<'_>) -> Result<(Attachment<'t>, Spy), Stop> {
    trial.needs_link_kind()?;
    let mut attachment = trial.attachment()?;
    let spy = spy_ipam(trial, &mut attachment)?;
    Ok((attachment, spy))
}

fn not_found(trial: &Trial<'_>) -> Verdict {
    let (mut attachment, spy) = spied(trial)?;
    attachment.path.remove(0);
    let refusal = attachment.ask(Verb::Add)?.refused(&[])?;
    refusal.names("spy-ipam")?;
    ensure!(
        spy.witnessed()?.is_empty(),
        "the delegate was run although it is not on CNI_PATH"
    );
    Ok(())
}

fn same_request(trial: &Trial<'_>) -> Verdict {
    let (mut attachment, spy) = spied(trial)?;
    attachment.config["args"] = json!({ "cni": { "labels": [] }, "example.com/x": "y" });
    attachment.args = "IgnoreUnknown=1;K8S_POD_NAME=p".into();
    let call = attachment.call(Verb::Add);
    attachment.add()?;
    let calls = spy.witnessed_verb(Verb::Add)?;
    let [seen] = calls.as_slice() else {
        return Err(fail(format!(
            "the delegate was called {} times for ADD",
            calls.len()
        )));
    };
    let sent = call.invocation(&trial.plugin.file);
    for (name, value) in sent.env.iter().filter(|(name, _)| name.starts_with("CNI_")) {
        let value = value.to_string_lossy();
        ensure!(
            seen.var(name) == value,
            "{name} was {value:?}, the delegate got {:?}",
            seen.var(name)
        );
    }
    let stdin: Value = serde_json::from_slice(&sent.stdin).unwrap_or_default();
    ensure!(
        seen.config() == stdin,
        "the delegate got another configuration: {}",
        seen.stdin
    );
    Ok(())
}

fn first_directory_wins(trial: &Trial<'_>) -> Verdict {
    let (mut attachment, first) = spied(trial)?;
    let second = Spy::hire(trial, "spy-ipam")?;
    attachment.path.push(second.folder.clone());
    attachment.path.insert(0, "/does/not/exist".into());
    attachment.add()?;
    ensure!(
        first.witnessed_verb(Verb::Add)?.len() == 1,
        "the delegate of the first directory was not called"
    );
    ensure!(
        second.witnessed()?.is_empty(),
        "the delegate of a later directory was called"
    );
    Ok(())
}

fn stderr_of_success(trial: &Trial<'_>) -> Verdict {
    let (attachment, mut spy) = spied(trial)?;
    let document = Lines::document(&answer_of_ipam(trial.version));
    spy.says(
        Verb::Add,
        Lines {
            stderr: "words of the delegate\n".into(),
            ..document
        },
    )?;
    let answer = attachment.ask(Verb::Add)?;
    answer.success()?;
    words_reached(&answer)
}

fn words_reached(answer: &Answer) -> Verdict {
    let stderr = String::from_utf8_lossy(&answer.exchange.outcome.stderr);
    ensure!(
        stderr.contains("words of the delegate"),
        "the delegate's words did not reach stderr"
    );
    Ok(())
}

fn stderr_of_failure(trial: &Trial<'_>) -> Verdict {
    let (attachment, mut spy) = spied(trial)?;
    spy.says(
        Verb::Add,
        Lines {
            stderr: "words of the delegate\n".into(),
            ..Lines::error(123, "no")
        },
    )?;
    let answer = attachment.ask(Verb::Add)?;
    answer.refused(&[])?;
    words_reached(&answer)
}

fn failure_is_passed_on(trial: &Trial<'_>) -> Verdict {
    let (attachment, mut spy) = spied(trial)?;
    for code in [code::TRY_AGAIN, 123] {
        spy.says(Verb::Add, Lines::error(code, "no address today"))?;
        let refusal = attachment.ask(Verb::Add)?.refused(&[code])?;
        ensure!(
            refusal.msg.contains("no address today"),
            "the delegate's words are not in {:?}",
            refusal.msg
        );
        attachment
            .pod
            .ip(&["link", "delete", &attachment.ifname])
            .map(drop)
            .or_else(gone)?;
    }
    Ok(())
}

/// What a failed ADD left does not matter to the case that asks; G10 is about it.
fn gone(_: std::io::Error) -> Verdict {
    Ok(())
}

fn failed_add_is_deleted(trial: &Trial<'_>) -> Verdict {
    let (attachment, mut spy) = spied(trial)?;
    spy.says(Verb::Add, Lines::error(123, "no address today"))?;
    attachment.ask(Verb::Add)?.refused(&[])?;
    let deleted = spy.witnessed_verb(Verb::Del)?.len();
    ensure!(
        deleted == 1 || (deleted > 1 && trial.kind() == Kind::Meta),
        "the delegate's failed ADD was followed by {deleted} calls of its DEL"
    );
    Ok(())
}

fn later_failure_is_deleted(trial: &Trial<'_>) -> Verdict {
    let (attachment, mut spy) = spied(trial)?;
    let mut answer = answer_of_ipam(trial.version);
    answer["routes"] = json!([{ "dst": "10.99.0.0/16", "gw": "10.200.0.1" }]);
    spy.says(Verb::Add, Lines::document(&answer))?;
    attachment.ask(Verb::Add)?.refused(&[])?;
    // The plugin between may delete, and the one above it again.
    let deleted = spy.witnessed_verb(Verb::Del)?.len();
    ensure!(
        deleted == 1 || (deleted > 1 && trial.kind() == Kind::Meta),
        "an unreachable gateway failed the ADD, and the delegate got DEL {deleted} times"
    );
    Ok(())
}

fn useless_answers(trial: &Trial<'_>) -> Verdict {
    let bad_address =
        json!({ "cniVersion": "0.3.1", "ips": [{ "version": "4", "address": "300.1.2.3/24" }] });
    let answers = [
        "no json".to_owned(),
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        json!({ "cniVersion": "9.9.9", "ips": [] }).to_string(),
        json!({ "cniVersion": trial.version.as_str() }).to_string(),
        bad_address.to_string(),
    ];
    let (attachment, mut spy) = spied(trial)?;
    for stdout in answers {
        spy.says(
            Verb::Add,
            Lines {
                stdout,
                ..Lines::default()
            },
        )?;
        attachment.ask(Verb::Add)?.refused(&[])?;
        attachment
            .pod
            .ip(&["link", "delete", &attachment.ifname])
            .map(drop)
            .or_else(gone)?;
    }
    Ok(())
}

/// The verb reaches the delegate; then its error comes back as the plugin's.
fn is_forwarded(trial: &Trial<'_>, verb: Verb, call: impl Fn(&Attachment<'_>) -> Call) -> Verdict {
    if trial.version < verb.since() {
        return Err(skip(format!("{verb} begins with {}", verb.since())));
    }
    let (mut attachment, mut spy) = spied(trial)?;
    attachment.add()?;
    if verb != Verb::Del {
        trial.run(&call(&attachment))?.success()?;
        ensure!(
            !spy.witnessed_verb(verb)?.is_empty(),
            "{verb} was not executed on the delegate"
        );
    }
    spy.says(verb, Lines::error(123, "not now"))?;
    let refusal = trial.run(&call(&attachment))?.refused(&[])?;
    ensure!(
        !spy.witnessed_verb(verb)?.is_empty(),
        "{verb} was not executed on the delegate"
    );
    ensure!(
        refusal.msg.contains("not now"),
        "the delegate's words are not in {:?}",
        refusal.msg
    );
    Ok(())
}

fn del_is_forwarded(trial: &Trial<'_>) -> Verdict {
    is_forwarded(trial, Verb::Del, |attachment| attachment.call(Verb::Del))
}

fn check_is_forwarded(trial: &Trial<'_>) -> Verdict {
    is_forwarded(trial, Verb::Check, |attachment| {
        attachment.call(Verb::Check)
    })
}

fn gc_is_forwarded(trial: &Trial<'_>) -> Verdict {
    is_forwarded(trial, Verb::Gc, |attachment| attachment.gc(&[attachment]))
}

fn status_is_forwarded(trial: &Trial<'_>) -> Verdict {
    is_forwarded(trial, Verb::Status, |attachment| {
        attachment.call(Verb::Status)
    })
}

fn host_untouched(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let before = trial.stage.host()?;
    attachment.add()?;
    let now = trial.stage.host()?;
    let survivor = |name: &str| trial.plugin.profile.survivors.iter().any(|s| s == name);
    let new = now
        .links
        .iter()
        .filter(|link| before.link(&link.name).is_none() && !survivor(&link.name));
    let new: Vec<_> = new.map(|link| &link.name).collect();
    ensure!(
        new.is_empty() || trial.plugin.profile.link_kind.as_deref() == Some("veth"),
        "new on the host: {new:?}"
    );
    attachment.del().map(drop)
}

fn nothing_left(trial: &Trial<'_>) -> Verdict {
    let (mut attachment, mut spy) = spied(trial)?;
    spy.says(Verb::Add, Lines::error(123, "no address today"))?;
    attachment.ask(Verb::Add)?.refused(&[])?;
    let left = attachment.pod.link(&attachment.ifname)?;
    ensure!(left.is_none(), "the failed ADD left {left:?}");
    ensure!(held(&attachment)?.is_empty(), "the failed ADD left a lease");
    spy.says(Verb::Add, Lines::document(&answer_of_ipam(trial.version)))?;
    let result = attachment.add()?;
    ensure!(
        addresses(&result) == [ADDRESS],
        "the next ADD got {:?}",
        addresses(&result)
    );
    Ok(())
}
