//! One call, measured from outside by a process that does nothing but start the plugin and wait for it.
//!
//! The kernel adds up what the children of a process have used, and of their memory it keeps the largest. So each call has a
//! parent of its own: this program once more, with another first argument.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use cni_conformance::call::Call;
use cni_conformance::process::{self, Ending};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// The first argument of a measuring process; the second is the plugin.
const ROLE: &str = "--measure";

/// What one call cost.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// Milliseconds from start to end.
    pub(crate) wall: f64,
    /// Milliseconds of user and system time, of the plugin and all that it waited for.
    pub(crate) cpu: f64,
    /// Peak resident memory of the largest process, in MB.
    pub(crate) memory: f64,
    /// What the plugin said, if it failed.
    pub(crate) failure: Option<String>,
}

/// Calls `plugin` from the calling thread's namespace.
pub(crate) fn measure(call: &Call, plugin: &Path) -> io::Result<Cost> {
    let mut invocation = call.invocation(Path::new("/proc/self/exe"));
    invocation.arguments = vec![ROLE.into(), plugin.into()];
    let outcome = process::run(&invocation)?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let numbers: Vec<f64> = said
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [wall, cpu, memory] = numbers[..] else {
        let what = format!("{}: {:?}: {said}", plugin.display(), outcome.ending);
        return Err(io::Error::other(what));
    };
    let stdout = || String::from_utf8_lossy(&outcome.stdout).into_owned();
    Ok(Cost {
        wall,
        cpu,
        memory,
        failure: (outcome.ending != Ending::Exit(0)).then(stdout),
    })
}

/// Is a measuring process, if that is what this one was started for.
pub(crate) fn play() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(ROLE)) {
        return None;
    }
    let plugin: OsString = arguments.next().unwrap_or_default();
    let played = once(&plugin);
    Some(played.unwrap_or_else(|error| {
        // Read by `measure`, which finds no numbers in it.
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::from(2)
    }))
}

fn once(plugin: &OsStr) -> io::Result<ExitCode> {
    let started = Instant::now();
    // To ask for a group, here the one it has anyway, makes the standard library fork. Without that the child would begin in this
    // process's own memory, which would then be counted as the plugin's peak.
    let status = Command::new(plugin)
        .gid(nix::unistd::getgid().as_raw())
        .stderr(Stdio::null())
        .status()?;
    let wall = started.elapsed().as_secs_f64() * 1e3;
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (used.user_time() + used.system_time()).num_microseconds();
    // Linux counts `ru_maxrss` in units of 1024 bytes.
    let (cpu, memory) = (cpu as f64 / 1e3, used.max_rss() as f64 * 1024.0 / 1e6);
    writeln!(io::stderr(), "{wall} {cpu} {memory}")?;
    Ok(ExitCode::from(if status.success() { 0 } else { 1 }))
}
