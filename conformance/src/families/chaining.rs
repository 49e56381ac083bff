//! Family P: plugins that come later in a list.

use serde_json::{Value, json};

use super::add::{addresses, held};
use crate::ensure;
use crate::requirement::{Requirement, Verdict, case, fail};
use crate::spec::{Kind, Must, Obs, Should, V0_3_0, V0_4_0, V1_0_0, V1_1_0, Verb, code};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "P1",
        levels: &[(V0_3_0..=V0_4_0, Should), (V1_0_0..=V1_1_0, Must)],
        kinds: &[Kind::Chained],
        sentence: "A plugin that changes nothing of prevResult prints it as it is, also when it has nothing to do.",
        section: "ADD, prevResult",
        cases: &[
            case("ADD-20", echoes),
            case("ADD-22", echoes_with_nothing_to_do),
        ],
    },
    Requirement {
        id: "P2",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: &[Kind::Chained],
        sentence: "A plugin that works on what an earlier one made is an error without prevResult on ADD.",
        section: "ADD, prevResult",
        cases: &[case("ADD-21", no_prev_result)],
    },
    Requirement {
        id: "P3",
        levels: &[(V0_3_0..=V1_1_0, Obs)],
        kinds: &[Kind::Chained],
        sentence: "What a plugin makes of a prevResult without cniVersion, or of another version, is left open.",
        section: "ADD, prevResult",
        cases: &[case("ADD-23", odd_prev_results)],
    },
    Requirement {
        id: "P6",
        levels: &[(V0_4_0..=V1_1_0, Should)],
        kinds: &[Kind::Chained],
        sentence: "DEL releases what it can when the runtime has lost its runtimeConfig.",
        section: "DEL",
        cases: &[case("DEL-15", lost_runtime_config)],
    },
    Requirement {
        id: "P7",
        levels: &[(V1_1_0..=V1_1_0, Should)],
        kinds: &[Kind::Chained],
        sentence: "GC releases what belongs to attachments that are not listed, and keeps the rest.",
        section: "GC",
        cases: &[case("GC-02", gc)],
    },
    Requirement {
        id: "P8",
        levels: &[(V0_3_0..=V1_1_0, Should)],
        kinds: &[Kind::Chained],
        sentence: "An ADD repeated with another address leaves nothing of the first one in force.",
        section: "ADD",
        cases: &[case("new address", repeated_with_another_address)],
    },
];

fn echoes(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let result = attachment.add()?;
    let sent = attachment.earlier.clone();
    ensure!(
        bare(&result) == bare(&sent.clone().unwrap_or_default()),
        "prevResult was {sent:?}, the result is {result}"
    );
    ensure!(
        !held(&attachment)?.is_empty(),
        "ADD succeeded and no rule names the pod"
    );
    attachment.del().map(drop)
}

/// Without empty members: in CNI, empty and absent mean the same.
fn bare(value: &Value) -> Value {
    let holds = |value: &Value| match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        other => !other.is_null(),
    };
    match value {
        Value::Object(object) => {
            let members = object.iter().map(|(key, value)| (key.clone(), bare(value)));
            members.filter(|(_, value)| holds(value)).collect()
        }
        Value::Array(list) => list.iter().map(bare).collect(),
        other => other.clone(),
    }
}

fn echoes_with_nothing_to_do(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    attachment.config["runtimeConfig"] = json!({});
    let result = attachment.add()?;
    let sent = attachment.earlier.clone();
    ensure!(
        bare(&result) == bare(&sent.clone().unwrap_or_default()),
        "prevResult was {sent:?}, the result is {result}"
    );
    attachment.del().map(drop)
}

fn no_prev_result(trial: &Trial<'_>) -> Verdict {
    let attachment = trial.attachment()?;
    let call = attachment.call(Verb::Add).edit(|config| {
        if let Some(config) = config.as_object_mut() {
            config.remove("prevResult");
        }
    });
    trial
        .run(&call)?
        .refused(&[code::INVALID_CONFIG, code::OWN])?;
    ensure!(held(&attachment)?.is_empty(), "the refused ADD left rules");
    Ok(())
}

fn odd_prev_results(trial: &Trial<'_>) -> Verdict {
    let attachment = trial.attachment()?;
    for version in [json!(null), json!("0.2.0"), json!("9.9.9"), json!(5)] {
        let call = attachment
            .call(Verb::Add)
            .edit(|config| config["prevResult"]["cniVersion"] = version.clone());
        let answer = trial.run(&call)?;
        let word = if answer.succeeded() {
            "accepted"
        } else {
            "refused"
        };
        trial.note(format!("prevResult of cniVersion {version}: {word}"));
        attachment.del()?;
    }
    Ok(())
}

fn lost_runtime_config(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    attachment.add()?;
    if let Some(config) = attachment.config.as_object_mut() {
        config.remove("runtimeConfig");
    }
    attachment.del()?;
    let left = held(&attachment)?;
    ensure!(left.is_empty(), "DEL succeeded and left {:?}", left.keys());
    Ok(())
}

fn gc(trial: &Trial<'_>) -> Verdict {
    let mut kept = trial.attachment()?;
    kept.add()?;
    let mut stale = kept.sibling()?;
    stale.add()?;
    let before = held(&kept)?;
    trial.run(&kept.gc(&[&kept]))?.success()?;
    let left = held(&stale)?;
    ensure!(left.is_empty(), "GC left {:?}", left.keys());
    ensure!(
        held(&kept)? == before,
        "GC changed the rules of a valid attachment"
    );
    kept.del().map(drop)
}

fn repeated_with_another_address(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    attachment.add()?;
    let Some(cable) = attachment.cable.as_mut() else {
        return Err(fail("the stage has no cable"));
    };
    let old = cable.address.clone();
    let new = format!("{old}9");
    cable.address.clone_from(&new);
    if let Some(earlier) = attachment.earlier.as_mut() {
        earlier["ips"][0]["address"] = format!("{new}/24").into();
    }
    let result = attachment.add()?;
    ensure!(
        addresses(&result) == [format!("{new}/24")],
        "the result is {result}"
    );
    if let Some(cable) = attachment.cable.as_mut() {
        cable.address = old.clone();
    }
    let container = std::mem::replace(&mut attachment.container, "nobody".into());
    let left = held(&attachment)?;
    attachment.container = container;
    ensure!(
        left.is_empty(),
        "rules for {old} are left: {:?}",
        left.keys()
    );
    attachment.del().map(drop)
}
