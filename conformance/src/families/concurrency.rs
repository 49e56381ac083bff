//! Family X: many calls at once.

use std::collections::BTreeSet;
use std::fs::File;
use std::thread;
use std::time::Duration;

use super::add::{addresses, held};
use crate::answer::{Answer, Exchange};
use crate::attachment::Attachment;
use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case, fail, skip};
use crate::spec::{Kind, Must, V0_1_0, V1_1_0, Verb};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "X1",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "Calls for different containers may come at the same time: none fails, nothing is handed out twice, all is released.",
        section: "Section 3, lifecycle and ordering",
        cases: &[case("ADD-24", at_once)],
    },
    Requirement {
        id: "X2",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: &[Kind::Ipam],
        sentence: "A drop-in for host-local waits for the lock file of the pool, as every other implementation does.",
        section: "Section 3, lifecycle and ordering",
        cases: &[case("ROB-06", waits_for_the_lock)],
    },
];

/// How many calls at once.
const CALLS: usize = 16;

/// Makes the same call for every attachment at the same time.
fn all_at_once(
    trial: &Trial<'_>,
    attachments: &[Attachment<'_>],
    verb: Verb,
) -> Result<Vec<Answer>, Stop> {
    let mut running = Vec::new();
    for attachment in attachments {
        running.push(trial.start(&attachment.call(verb))?);
    }
    let ended = running.into_iter().map(|(call, running)| {
        let outcome = running.wait();
        Answer::judged(&trial.record(Exchange { call, outcome }))
    });
    ended.collect()
}

fn at_once(trial: &Trial<'_>) -> Verdict {
    trial.needs_link_kind()?;
    let first = trial.attachment()?;
    let mut attachments = Vec::new();
    for _ in 0..CALLS {
        attachments.push(first.sibling()?);
    }
    let mut seen = BTreeSet::new();
    for (answer, attachment) in all_at_once(trial, &attachments, Verb::Add)?
        .iter()
        .zip(&mut attachments)
    {
        let result = answer.result(trial.version, trial.kind())?;
        for address in addresses(&result) {
            ensure!(
                seen.insert(address.clone()),
                "{address} was handed out twice"
            );
        }
        attachment.result = Some(result);
    }
    if first.cable.is_some() {
        shared_rules_are_there_once()?;
    }
    for answer in all_at_once(trial, &attachments, Verb::Del)? {
        answer.success()?;
    }
    for attachment in &attachments {
        let left = held(attachment)?;
        ensure!(left.is_empty(), "after all DELs there is {:?}", left.keys());
    }
    Ok(())
}

/// Plugins of a list hook their rules into the kernel's chains; doing that at the same time must not do it twice.
fn shared_rules_are_there_once() -> Verdict {
    let rules = crate::rules::rules()?;
    for hook in ["-A PREROUTING", "-A OUTPUT", "-A POSTROUTING"] {
        let mut seen = BTreeSet::new();
        for rule in rules.iter().filter(|rule| rule.starts_with(hook)) {
            ensure!(seen.insert(rule), "twice: {rule}");
        }
    }
    Ok(())
}

fn waits_for_the_lock(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    attachment.add()?;
    attachment.del()?;
    let lock = attachment.store()?.join(attachment.network()).join("lock");
    let Ok(lock) = File::open(&lock) else {
        return Err(skip("the plugin has no lock file in its store"));
    };
    lock.lock()?;
    let (call, running) = trial.start(&attachment.call(Verb::Add))?;
    // Long enough for an ADD that does not wait; one that does will not notice.
    thread::sleep(Duration::from_millis(50));
    let early = held(&attachment)?;
    lock.unlock()?;
    let outcome = running.wait();
    let answer = Answer::judged(&trial.record(Exchange { call, outcome }))?;
    answer.success()?;
    if !early.is_empty() {
        return Err(fail(
            "an address was taken while somebody else held the lock",
        ));
    }
    Ok(())
}
