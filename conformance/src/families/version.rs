//! Family V: the VERSION verb, and that a plugin speaks what it says there.

use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;
use crate::document::read_versions;
use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::{Kind, Must, Obs, Should, V0_1_0, V0_2_0, V0_4_0, V1_0_0, V1_1_0, Verb, Version};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "V1",
        levels: &[(V0_2_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "VERSION succeeds and prints one object with the texts `cniVersion` and `supportedVersions` (a list, not empty).",
        section: "VERSION",
        cases: &[case("VER-01", answers)],
    },
    Requirement {
        id: "V2",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "`cniVersion` in the answer to VERSION repeats the one that was sent, if the plugin speaks it.",
        section: "VERSION",
        cases: &[case("VER-02", repeats_the_version)],
    },
    Requirement {
        id: "V3",
        levels: &[(V0_2_0..=V0_4_0, Must)],
        kinds: Kind::ALL,
        sentence: "VERSION needs no parameters: no other variable, nothing on stdin.",
        section: "VERSION",
        cases: &[case("VER-03", needs_no_parameters)],
    },
    Requirement {
        id: "V4",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "VERSION doesn't wait for the end of stdin.",
        section: "VERSION",
        cases: &[case("VER-04", does_not_wait)],
    },
    Requirement {
        id: "V5",
        levels: &[(V0_1_0..=V1_1_0, Obs)],
        kinds: Kind::ALL,
        sentence: "VERSION may answer although stdin is no JSON.",
        section: "VERSION",
        cases: &[case("VER-05", survives_garbage)],
    },
    Requirement {
        id: "V6",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "VERSION accepts the call that libcni makes, with the word `dummy` in variables that mean nothing here.",
        section: "VERSION",
        cases: &[case("VER-06", accepts_the_call_of_libcni)],
    },
    Requirement {
        id: "V7",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A version that a plugin says it speaks works for every verb of that version, and is answered in that version.",
        section: "VERSION; Versioning",
        cases: &[case("ADD-01", life_of_an_attachment)],
    },
];

fn versions_in(answer: &Answer) -> Result<Vec<String>, Stop> {
    answer.success()?;
    let document = answer.document.clone().unwrap_or_default();
    read_versions(&document).map_err(|complaints| answer.fail(complaints.join("; ")))
}

fn asking(version: Version) -> Call {
    Call::bare(Verb::Version).config(&json!({ "cniVersion": version.as_str() }))
}

fn answers(t: &Trial) -> Verdict {
    versions_in(&t.run(&asking(t.version))?).map(drop)
}

fn repeats_the_version(t: &Trial) -> Verdict {
    for version in Version::ALL
        .into_iter()
        .filter(|&version| t.plugin.claims(version))
    {
        let answer = t.run(&asking(version))?;
        versions_in(&answer)?;
        let answered = &answer.object()?["cniVersion"];
        if answered != version.as_str() {
            return Err(answer.fail(format!("asked in \"{version}\", answered in {answered}")));
        }
    }
    Ok(())
}

fn needs_no_parameters(t: &Trial) -> Verdict {
    versions_in(&t.run(&Call::bare(Verb::Version))?).map(drop)
}

fn does_not_wait(t: &Trial) -> Verdict {
    versions_in(
        &t.run(
            &asking(t.version)
                .stdin_stays_open()
                .limit(std::time::Duration::from_secs(10)),
        )?,
    )
    .map(drop)
}

fn survives_garbage(t: &Trial) -> Verdict {
    let answer = t.run(&Call::bare(Verb::Version).stdin("{{{"))?;
    t.note(if answer.succeeded() {
        "answers all the same"
    } else {
        "refuses"
    });
    Ok(())
}

fn accepts_the_call_of_libcni(t: &Trial) -> Verdict {
    let call = asking(t.version)
        .with("CNI_CONTAINERID", "")
        .with("CNI_NETNS", "dummy")
        .with("CNI_IFNAME", "dummy")
        .with("CNI_PATH", "dummy")
        .with("CNI_ARGS", "");
    versions_in(&t.run(&call)?).map(drop)
}

fn life_of_an_attachment(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    if t.version >= Verb::Status.since() {
        t.run(&attachment.call(Verb::Status))?.success()?;
    }
    let result = attachment.add()?;
    ensure!(
        result["cniVersion"] == t.version.as_str(),
        "the result is in version {}",
        result["cniVersion"]
    );
    if t.version >= Verb::Check.since() {
        attachment.check()?;
    }
    if t.version >= Verb::Gc.since() {
        t.run(&attachment.gc(&[&attachment]))?.success()?;
    }
    attachment.del()?;
    Ok(())
}
