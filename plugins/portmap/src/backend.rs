//! The two ways to write rules, and which of them is used.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Attachment as Valid, Code, Error};
use kernel::nftables::Family;

use crate::conf::{BackendKind, OnConflict, Settings};
use crate::iptables::Iptables;
use crate::mapping::{Attachment, Forward, Job};
use crate::nftables::Nftables;

/// Writes, compares and removes rules.
///
/// `remove` and `collect` add to `removed` the forwards they have taken away, also when they fail in the end.
pub(crate) trait Backend {
    /// Whether it can work here for these families; the text says why not.
    fn usable(&self, families: &[Family]) -> Result<(), String>;
    /// Sets up all mappings of the job, in place of what the attachment had.
    fn add(&self, job: &Job) -> Result<(), Error>;
    /// Compares the rules with what `add` would write.
    fn check(&self, job: &Job) -> Result<(), Error>;
    /// Removes the rules of an attachment, whoever of the two implementations made them.
    fn remove(&self, attachment: &Attachment, removed: &mut Vec<Forward>) -> Result<(), Error>;
    /// Removes the rules of attachments to `network` that are not in `valid`.
    fn collect(
        &self,
        network: &str,
        valid: &[Valid],
        removed: &mut Vec<Forward>,
    ) -> Result<(), Error>;
}

/// Both, in the order in which they are preferred.
pub(crate) const ALL: [&dyn Backend; 2] = [&Iptables, &Nftables];

/// The backend for these families: the one configured, else iptables unless only nftables works.
///
/// Errors: code 7 when the configuration was written for the other one.
pub(crate) fn choose(
    settings: &Settings,
    families: &[Family],
) -> Result<&'static dyn Backend, Error> {
    let kind = settings.backend.unwrap_or_else(|| {
        let only_nftables = Iptables.usable(families).is_err() && Nftables.usable(families).is_ok();
        if only_nftables {
            BackendKind::Nftables
        } else {
            BackendKind::Iptables
        }
    });
    settings.suit(kind)?;
    Ok(match kind {
        BackendKind::Iptables => &Iptables,
        BackendKind::Nftables => &Nftables,
    })
}

/// A mapping that is there, and the container it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) forward: Forward,
    pub(crate) network: Option<String>,
    pub(crate) container_id: String,
    /// It holds only for some packets, so that the port may be somebody else's for the others.
    pub(crate) has_conditions: bool,
}

/// Refuses a job that wants a host port which another container holds. Code 7.
pub(crate) fn refuse_conflicts(job: &Job, held: &[Held]) -> Result<(), Error> {
    if job.settings.on_conflict != OnConflict::Refuse {
        return Ok(());
    }
    let mut wanted = job
        .addresses
        .iter()
        .flat_map(|address| job.forwards(address.ip()));
    let conflict = wanted.find_map(|forward| {
        // The same target is the same pod: the holder has left the address, and nothing would go astray.
        let holds = |other: &&Held| {
            other.container_id != job.attachment.container_id
                && other.forward.target != forward.target
                && !other.has_conditions
                && other.forward.collides(&forward)
        };
        held.iter().find(holds).map(|other| (forward, other))
    });
    let Some((forward, holder)) = conflict else {
        return Ok(());
    };
    let port = forward.host_port;
    let protocol = forward.protocol.name();
    let container = &holder.container_id;
    let target = holder.forward.target;
    let network = holder
        .network
        .as_ref()
        .map(|n| format!(" on network {n:?}"))
        .unwrap_or_default();
    Err(Error::config(format!(
        "host port {port}/{protocol} is held by container {container:?}{network}, which has it mapped to \
         {target}: choose another port, delete that container's attachment, or set hostPortConflict to \
         first-wins or last-wins"
    )))
}

/// How long to try again while others keep changing the rules.
const PATIENCE: Duration = Duration::from_secs(10);

/// Repeats a look-and-change for as long as somebody else's change comes between (`Interrupted`). Code 11 when
/// that does not end.
pub(crate) fn until_undisturbed<T>(
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Kernel(e)) if e.kind() != io::ErrorKind::Interrupted => {
                return Err(Error::plugin(format!("the kernel answered: {e}")));
            }
            Err(Failure::Kernel(_)) if Instant::now() > deadline => {
                let why = "the rules of this host are changed by others without a pause";
                return Err(Error::new(Code::TryAgainLater, why));
            }
            Err(Failure::Kernel(_)) => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }
}

/// Why an attempt failed: by our own judgement, or by the kernel's.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Error),
    Kernel(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Refused(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Kernel(error)
    }
}

/// `ipv4` or `ipv6`, as the original's messages say it.
pub(crate) fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ip => "ipv4",
        Family::Ip6 => "ipv6",
    }
}
