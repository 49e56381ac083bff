//! F1: SIGKILL at every step of an ADD. strace counts the steps and then ends the plugin at each of them in turn.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::add::{addresses, held};
use super::fault::newest_only;
use crate::answer::Exchange;
use crate::attachment::Attachment;
use crate::call::Call;
use crate::ensure;
use crate::pod::NetState;
use crate::process;
use crate::requirement::{Requirement, Stop, Verdict, case, fail, skip};
use crate::spec::{Kind, Must, V0_1_0, V1_1_0, Verb};
use crate::trial::Trial;

/// The requirement of this file.
pub const REQUIREMENTS: &[Requirement] = &[Requirement {
    id: "F1",
    levels: &[(V0_1_0..=V1_1_0, Must)],
    kinds: Kind::ALL,
    sentence: "After a SIGKILL at any moment of an ADD, DEL succeeds, neither link nor lease is left, and the next ADD works.",
    section: "Section 3, lifecycle and ordering",
    cases: &[case("ROB-10", killed_at_every_step)],
}];

/// The system calls that change something outside the process, or ask the kernel to.
const STEPS: &str = "open,openat,creat,write,pwrite64,writev,link,linkat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,\
                     utimensat,ftruncate,flock,sendto,sendmsg,execve,setns";

fn killed_at_every_step(trial: &Trial<'_>) -> Verdict {
    newest_only(trial)?;
    trial.needs_link_kind()?;
    let strace = find_strace()?;
    let mut attachment = trial.attachment()?;
    let before = attachment.pod.state()?;
    let steps = count_steps(trial, &attachment.call(Verb::Add), &strace)?;
    attachment.del()?;
    let mut kills = 0;
    for (call, count) in &steps {
        for nth in 1..=*count {
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            run_under_strace(
                trial,
                &attachment.call(Verb::Add),
                &strace,
                &["-e", &inject, "-o", "/dev/null"],
            )?;
            recovers(&mut attachment, &before)
                .map_err(|stop| stop.within(format!("killed at {call} number {nth}")))?;
            kills += 1;
        }
    }
    trial.note(format!("killed at {kills} steps"));
    Ok(())
}

/// DEL, nothing left, ADD, DEL.
fn recovers(attachment: &mut Attachment<'_>, before: &NetState) -> Verdict {
    attachment.result = None;
    attachment.del()?;
    let now = attachment.pod.state()?;
    ensure!(
        now == *before,
        "the pod had {before:?}, and after DEL {now:?}"
    );
    let leases = held(attachment)?;
    ensure!(leases.is_empty(), "DEL left the leases {:?}", leases.keys());
    let result = attachment.add()?;
    ensure!(
        !addresses(&result).is_empty(),
        "the next ADD got no address"
    );
    attachment.del().map(drop)
}

pub(super) fn find_strace() -> Result<PathBuf, Stop> {
    let strace = ["/usr/bin/strace", "/bin/strace", "/usr/local/bin/strace"].map(PathBuf::from);
    let Some(strace) = strace.into_iter().find(|file| file.exists()) else {
        return Err(skip(
            "strace is not installed; it is what ends the plugin at every step",
        ));
    };
    let works = Command::new(&strace)
        .args(["-o", "/dev/null", "/bin/true"])
        .output();
    match works {
        Ok(output) if output.status.success() => Ok(strace),
        _ => Err(skip("strace does not work here: tracing is not permitted")),
    }
}

/// How often any one process or thread of a call makes each of the system calls. strace counts for each of them, too.
pub(super) fn count_steps(
    trial: &Trial<'_>,
    call: &Call,
    strace: &Path,
) -> Result<BTreeMap<String, usize>, Stop> {
    let log = trial
        .stage
        .folder("strace")?
        .join(format!("log{}", trial.serial()));
    let trace = format!("trace={STEPS}");
    let log_text = log.to_string_lossy();
    run_under_strace(trial, call, strace, &["-e", &trace, "-o", &log_text])?;
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(&log)?.lines() {
        // `1234  openat(...`; a call that was interrupted by another thread's comes back as `<... openat resumed>`.
        if let Some((head, _)) = line.split_once('(')
            && let [pid, call] = head.split_whitespace().collect::<Vec<_>>()[..]
        {
            *counts.entry((call.to_owned(), pid.to_owned())).or_default() += 1;
        }
    }
    let mut steps = BTreeMap::new();
    for ((call, _), count) in counts {
        let most: &mut usize = steps.entry(call).or_default();
        *most = count.max(*most);
    }
    if steps.is_empty() {
        return Err(fail("strace saw no steps of the call"));
    }
    Ok(steps)
}

/// A call under strace.
pub(super) fn run_under_strace(
    trial: &Trial<'_>,
    call: &Call,
    strace: &Path,
    options: &[&str],
) -> Verdict {
    let mut invocation = call.invocation(strace);
    let plugin = trial.plugin.file.as_os_str();
    invocation.arguments = [&["-f", "-qq"], options]
        .concat()
        .into_iter()
        .map(OsString::from)
        .chain([plugin.to_owned()])
        .collect();
    let outcome = process::run(&invocation)?;
    trial.record(Exchange {
        call: invocation,
        outcome,
    });
    Ok(())
}
