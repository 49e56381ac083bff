//! Family R: stdout, exit status and error objects. Much of it is checked at every answer already; see [`Answer::judged`].

use serde_json::Value;

use crate::answer::{Answer, Refusal};
use crate::call::Call;
use crate::document::check_error;
use crate::ensure;
use crate::process::Ending;
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::code::{INVALID_ENVIRONMENT, TRY_AGAIN, UNKNOWN_CONTAINER};
use crate::spec::{Kind, Must, Obs, Should, V0_1_0, V0_4_0, V1_0_0, V1_1_0, Verb};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "R1",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "An error object has `cniVersion`: the request's, or one that the plugin speaks where that can't be read.",
        section: "Error",
        cases: &[
            case("ERR-01", error_has_version),
            case("ERR-01/unreadable", error_has_a_version),
        ],
    },
    Requirement {
        id: "R2",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "An error object has `cniVersion`, `code`, `msg` and perhaps `details`, nothing else, and a code that is defined or from 100.",
        section: "Error",
        cases: &[case("ERR-02", error_objects_are_closed)],
    },
    Requirement {
        id: "R3",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "stdout holds one JSON document and nothing else; logs go to stderr.",
        section: "Success; Error",
        cases: &[case("ERR-03", one_document)],
    },
    Requirement {
        id: "R4",
        levels: &[(V0_1_0..=V1_1_0, Obs)],
        kinds: Kind::ALL,
        sentence: "What a plugin does whose caller doesn't listen any more is left open.",
        section: "Success",
        cases: &[case("ERR-04", nobody_listens)],
    },
    Requirement {
        id: "R5",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "The exit status is 0 with a result, and another with an error object.",
        section: "Success; Error",
        cases: &[case("exit status", exit_status_tells)],
    },
    Requirement {
        id: "R6",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "The message of code 4 holds the name of the variable that is wrong.",
        section: "Error",
        cases: &[case("ENV-01..08", wrong_variables_are_named)],
    },
    Requirement {
        id: "R7",
        levels: &[(V0_4_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "Codes 3 (container unknown) and 11 (try again) are not used for wrong requests: runtimes act on them.",
        section: "Error",
        cases: &[case("codes of wrong requests", codes_with_consequences)],
    },
    Requirement {
        id: "R8",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "A successful DEL, CHECK, GC or STATUS prints nothing on stdout.",
        section: "Success",
        cases: &[case("DEL-02", silent_success)],
    },
];

/// Six ways to be wrong, each in a request that is right but for that.
fn wrong_calls(t: &Trial) -> Result<Vec<Call>, Stop> {
    let attachment = t.attachment()?;
    let add = attachment.call(Verb::Add);
    Ok(vec![
        add.clone().without("CNI_IFNAME"),
        add.clone().with("CNI_COMMAND", "FROB"),
        add.clone().with("CNI_IFNAME", "a/b"),
        add.clone().edit(|config| config["name"] = "a/b".into()),
        add.clone()
            .edit(|config| config["cniVersion"] = "9.9.9".into()),
        add.stdin("{"),
    ])
}

fn refusals(t: &Trial) -> Result<Vec<Refusal>, Stop> {
    wrong_calls(t)?
        .iter()
        .map(|call| t.run(call)?.refused(&[]))
        .collect()
}

fn version_of(answer: &Answer) -> &str {
    answer
        .document
        .as_ref()
        .and_then(|error| error.get("cniVersion"))
        .and_then(Value::as_str)
        .unwrap_or("none")
}

fn error_has_version(t: &Trial) -> Verdict {
    for call in &wrong_calls(t)?[..4] {
        let answer = t.run(call)?.refused(&[])?.answer;
        let seen = version_of(&answer);
        if seen != t.version.as_str() {
            return Err(answer.fail(format!(
                "cniVersion of the error: {seen}, of the request: {}",
                t.version
            )));
        }
    }
    Ok(())
}

fn error_has_a_version(t: &Trial) -> Verdict {
    for call in &wrong_calls(t)?[4..] {
        let answer = t.run(call)?.refused(&[])?.answer;
        let seen = version_of(&answer);
        // 9.9.9 is what one of the requests says, and can be read.
        if seen != "9.9.9" && !seen.parse().is_ok_and(|version| t.plugin.claims(version)) {
            return Err(answer.fail(format!(
                "cniVersion of the error: {seen}, expected one the plugin speaks"
            )));
        }
    }
    Ok(())
}

fn error_objects_are_closed(t: &Trial) -> Verdict {
    for refusal in refusals(t)? {
        let complaints = check_error(refusal.answer.document.as_ref().unwrap_or(&Value::Null));
        if !complaints.is_empty() {
            return Err(refusal.answer.fail(complaints.join("; ")));
        }
    }
    Ok(())
}

fn one_document(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    attachment.add()?;
    attachment.ask(Verb::Add)?;
    if t.version >= Verb::Check.since() {
        attachment.ask(Verb::Check)?;
    }
    attachment.del()?;
    refusals(t).map(drop)
}

fn nobody_listens(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    let attachment = t.attachment()?;
    let exchange = t.run_unjudged(&attachment.call(Verb::Add).stdout_closed())?;
    let ending = match exchange.outcome.ending {
        Ending::Exit(status) => format!("ends with status {status}"),
        Ending::Signal(signal) => format!("dies of signal {signal}"),
        Ending::Hang => return Err(crate::requirement::fail("doesn't end")),
    };
    let link = if attachment.pod.link(&attachment.ifname)?.is_some() {
        "an interface"
    } else {
        "no interface"
    };
    let leases = attachment.leases()?.len();
    t.note(format!("{ending}; {link} and {leases} leases stay"));
    attachment.del().map(drop)
}

fn exit_status_tells(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    attachment.add()?;
    attachment.del()?;
    for refusal in refusals(t)? {
        let ending = refusal.answer.exchange.outcome.ending;
        ensure!(
            matches!(ending, Ending::Exit(1..)),
            "an error object came with {ending:?}"
        );
    }
    Ok(())
}

fn wrong_variables_are_named(t: &Trial) -> Verdict {
    for (call, variable) in wrong_calls(t)?.iter().zip(["CNI_IFNAME", "CNI_COMMAND"]) {
        t.run(call)?
            .refused(&[INVALID_ENVIRONMENT])?
            .names(variable)?;
    }
    Ok(())
}

fn codes_with_consequences(t: &Trial) -> Verdict {
    for refusal in refusals(t)? {
        if [UNKNOWN_CONTAINER, TRY_AGAIN].contains(&refusal.code) {
            return Err(refusal.answer.fail(format!(
                "a wrong request was answered with code {}",
                refusal.code
            )));
        }
    }
    Ok(())
}

fn silent_success(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    attachment.add()?;
    let mut calls = Vec::new();
    if t.version >= Verb::Check.since() {
        calls.push(attachment.call(Verb::Check));
    }
    if t.version >= Verb::Gc.since() {
        calls.push(attachment.gc(&[&attachment]));
        calls.push(attachment.call(Verb::Status));
    }
    calls.push(attachment.call(Verb::Del));
    for call in &calls {
        let answer = t.run(call)?;
        answer.success()?;
        if answer.document.is_some() {
            return Err(answer.fail("the call succeeded, and printed something on stdout"));
        }
    }
    Ok(())
}
