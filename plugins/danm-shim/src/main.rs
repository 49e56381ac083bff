//! danm-shim: a CNI plugin that attaches a pod to the networks of DANM that its annotation names.

mod add;
mod annotation;
mod check;
mod claims;
mod cluster;
mod collect;
mod conf;
mod delegate;
mod detach;
mod device;
mod fake_ipam;
mod files;
mod flannel;
mod interface;
mod ipam;
mod link;
mod names;
mod plan;
mod record;
mod result;
mod tries;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use cni::{Attachment, Code, Error, Success};
use invoke::{CALLERS, ResultCache, Runtime, called_by};
use kernel::Netns;
use skel::{Plugin, Undo};

use claims::Claims;
use cluster::Cluster;
use conf::{Keys, PodArgs, Settings};
use record::Records;

type Call = skel::Call<Keys>;

/// The names that this plugin is installed under.
const OWN_TYPES: [&str; 2] = ["danm", Danm::NAME];

/// What the verbs work with.
#[derive(Debug)]
struct Node {
    settings: Settings,
    claims: Claims,
    records: Records,
    runtime: Runtime,
    /// Opened by whoever needs it first.
    cluster: OnceLock<Cluster>,
}

struct Danm;

fn main() -> ExitCode {
    skel::run(Danm)
}

impl Plugin for Danm {
    type Conf = Keys;
    const NAME: &'static str = "danm-shim";

    fn add(&self, call: &Call, undo: &mut Undo) -> Result<Success, Error> {
        if is_ipam(call) {
            return fake_ipam::add(&call.stdin);
        }
        let node = Arc::new(Node::new(call)?);
        let pod = PodArgs::read(call)?;
        add::run(&node, call, &pod, undo)
    }

    /// Needs neither pod nor API server nor namespace: what was made is on record. What only the API server can take
    /// back waits for it, so that the container can go.
    fn del(&self, call: &Call) -> Result<(), Error> {
        if is_ipam(call) {
            return Ok(());
        }
        if let Err(e) = callers() {
            // The ADD was refused for the same reason, and those above have to go on.
            log::warn!("there is nothing to delete: {e}");
            return Ok(());
        }
        let node = Node::new(call)?;
        let done = detach::container(&node, call);
        collect::leftovers(&node);
        done
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        if is_ipam(call) {
            return Ok(());
        }
        check::run(&Node::new(call)?, call)
    }

    fn gc(&self, call: &Call, valid: &[Attachment]) -> Result<(), Error> {
        if is_ipam(call) {
            return Ok(());
        }
        collect::gc(&Node::new(call)?, &call.net.name, valid)
    }

    /// The API server has to answer and to know the kinds of DANM.
    fn status(&self, call: &Call) -> Result<(), Error> {
        if is_ipam(call) {
            return Ok(());
        }
        let unavailable = |e: String| Error::new(Code::NotAvailable, e);
        let cluster =
            Cluster::new(&Settings::read(call)?).map_err(|e| unavailable(e.to_string()))?;
        cluster.probe().map_err(|e| unavailable(e.to_string()))
    }
}

impl Node {
    fn new(call: &Call) -> Result<Node, Error> {
        let settings = Settings::read(call)?;
        let callers = callers()?;
        Ok(Node {
            claims: Claims::new(&settings.state_dir),
            records: Records::new(&settings.state_dir),
            runtime: Runtime {
                path: call.path.clone(),
                cache: ResultCache::new(&settings.state_dir),
                limit: settings.delegate_limit,
                callers,
            },
            settings,
            cluster: OnceLock::new(),
        })
    }

    /// The API server; nothing is asked yet. Errors: its access can't be used.
    fn cluster(&self) -> Result<&Cluster, Error> {
        match self.cluster.get() {
            Some(cluster) => Ok(cluster),
            None => Cluster::new(&self.settings).map(|made| self.cluster.get_or_init(|| made)),
        }
    }

    /// Whether the API server is not worth waiting for: it has not answered the last request, with all its tries.
    fn is_alone(&self) -> bool {
        self.cluster.get().is_some_and(Cluster::is_away)
    }
}

/// The plugins above, and this one. Code 7: this one is among them.
fn callers() -> Result<String, Error> {
    called_by(&skel::variable(CALLERS), Danm::NAME)
}

/// Whether a delegate of ours asks for the addresses that were reserved for it. A configuration of DANM has no `ipam`.
fn is_ipam(call: &Call) -> bool {
    let kind = call.net.ipam_kind.as_str();
    kind == delegate::FAKE_IPAM || OWN_TYPES.contains(&kind)
}

/// Opens `CNI_NETNS`. Code 4.
fn open_netns(path: &str) -> Result<Netns, Error> {
    Netns::open(path).map_err(|e| {
        Error::new(Code::InvalidEnvironment, e.to_string()).details(format!("CNI_NETNS={path}"))
    })
}
