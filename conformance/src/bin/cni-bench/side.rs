//! The world of one of the two: its plugins, a host, a pod and a store, all its own.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cni_conformance::call::Call;
use cni_conformance::pod::{Pod, inside};
use cni_conformance::process::{self, Ending};
use cni_conformance::spec::Verb;
use cni_conformance::stage::Stage;
use serde_json::Value;

use crate::meter::{self, Cost};

/// Where plugins find the tools of the packet filter.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a call may take. Some need half a minute when many are made at once.
const LIMIT: Duration = Duration::from_secs(180);
/// The link of the host that others are made on.
pub(crate) const MASTER: &str = "nic";

/// One of the two.
#[derive(Debug)]
pub(crate) struct Side<'stage> {
    pub(crate) name: &'static str,
    pub(crate) store: PathBuf,
    pub(crate) bin_dir: PathBuf,
    pub(crate) host: Pod<'stage>,
    pod: Pod<'stage>,
}

/// What came of many calls at once.
#[derive(Debug)]
pub(crate) struct Burst {
    /// Calls in a second.
    pub(crate) rate: f64,
    /// What those said that failed.
    pub(crate) failures: Vec<String>,
    /// What those said that did not.
    pub(crate) results: Vec<Vec<u8>>,
}

impl<'stage> Side<'stage> {
    pub(crate) fn new(
        stage: &'stage Stage,
        name: &'static str,
        bin_dir: &Path,
    ) -> io::Result<Side<'stage>> {
        let (host, pod) = (Pod::new(stage)?, Pod::new(stage)?);
        for line in [
            "link set lo up",
            "link add nic type veth peer name wire",
            "link set wire up",
            "link set nic up",
            "address add 10.77.0.1/16 dev nic",
        ] {
            host.ip(&line.split(' ').collect::<Vec<_>>())?;
        }
        Ok(Side {
            name,
            store: stage.folder(&format!("bench-{name}"))?,
            bin_dir: bin_dir.to_owned(),
            host,
            pod,
        })
    }

    /// The plugin of this name, if there is one.
    pub(crate) fn plugin(&self, name: &str) -> Option<PathBuf> {
        Some(self.bin_dir.join(name)).filter(|file| file.is_file())
    }

    /// The path of the pod's namespace.
    pub(crate) fn sandbox(&self) -> &Path {
        &self.pod.path
    }

    /// A call for a container of this name.
    pub(crate) fn call(&self, verb: Verb, config: &Value, container: &str) -> Call {
        Call::bare(verb)
            .with("CNI_CONTAINERID", container)
            .with("CNI_NETNS", self.sandbox())
            .with("CNI_IFNAME", "eth0")
            .with("CNI_PATH", &self.bin_dir)
            .with("CNI_ARGS", "IgnoreUnknown=1")
            .with("PATH", PATH)
            .config(config)
            .limit(LIMIT)
    }

    /// Makes one call and measures it.
    pub(crate) fn measure(&self, call: &Call, plugin: &Path) -> io::Result<Cost> {
        inside(&self.host.path, || meter::measure(call, plugin))
    }

    /// Makes many calls, never more than so many at a time.
    pub(crate) fn burst(
        &self,
        calls: &[Call],
        plugin: &Path,
        at_a_time: usize,
    ) -> io::Result<Burst> {
        let started = Instant::now();
        let outcomes = inside(&self.host.path, || {
            let (mut running, mut outcomes) = (VecDeque::new(), Vec::new());
            for call in calls {
                if running.len() == at_a_time {
                    outcomes.extend(running.pop_front().map(process::Running::wait));
                }
                running.push_back(process::start(&call.invocation(plugin))?);
            }
            outcomes.extend(running.into_iter().map(process::Running::wait));
            Ok(outcomes)
        })?;
        let rate = calls.len() as f64 / started.elapsed().as_secs_f64();
        let (done, failed): (Vec<_>, Vec<_>) = outcomes
            .into_iter()
            .partition(|outcome| outcome.ending == Ending::Exit(0));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let failures = failed.iter();
        Ok(Burst {
            rate,
            failures: failures
                .map(|o| format!("{:?}: {}", o.ending, said(&o.stdout)))
                .collect(),
            results: done.into_iter().map(|outcome| outcome.stdout).collect(),
        })
    }

    /// Runs a tool on the host, with this on its stdin, and answers its stdout.
    pub(crate) fn tool(&self, line: &str, input: &str) -> io::Result<String> {
        let script = self.store.join("stdin");
        fs::write(&script, input)?;
        inside(&self.host.path, || {
            let mut words = line.split(' ');
            let output = Command::new(words.next().unwrap_or_default())
                .args(words)
                .env("PATH", PATH)
                .stdin(fs::File::open(&script)?)
                .stderr(Stdio::inherit())
                .output()?;
            match output.status.success() {
                true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                false => Err(io::Error::other(format!("{line}: {}", output.status))),
            }
        })
    }
}
