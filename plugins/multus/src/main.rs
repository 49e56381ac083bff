//! multus: a CNI plugin that attaches a pod to several networks, by calling the plugin of each.

mod annotation;
mod attach;
mod attachment;
mod cluster;
mod collect;
mod conf;
mod default_route;
mod detach;
mod devices;
mod lock;
mod log_file;
mod network_status;
mod plan;
mod pod_args;
mod readiness;
mod scratch;

use std::process::ExitCode;

use cni::{Attachment as Valid, Code, Error, Success, Verb, Version};
use invoke::{CALLERS, ResultCache, Runtime};
use skel::{Plugin, Undo};

use attach::Room;
use attachment::Container;
use cluster::Cluster;
use conf::{Conf, Keys};
use plan::Planner;
use pod_args::PodArgs;
use scratch::Scratch;

type Call = skel::Call<Keys>;

/// Where versions up to 3.7 of the original have their results.
const OLD_RESULTS: &str = "/var/lib/cni";

struct Multus;

fn main() -> ExitCode {
    skel::run(Multus)
}

impl Plugin for Multus {
    type Conf = Keys;
    const NAME: &'static str = "multus";

    fn add(&self, call: &Call, undo: &mut Undo) -> Result<Success, Error> {
        let callers = callers()?;
        let loading = |e: Error| e.context("Multus: error loading netconf");
        let conf = open(call).map_err(loading)?;
        call.net
            .prev_result()
            .map_err(|e| loading(e.context("LoadNetConf")))?;
        if conf.cluster_network.is_none() {
            conf::static_networks(&call.stdin).map_err(loading)?;
        }
        let args = PodArgs::parse(&call.args)?;
        if let Some(file) = &conf.readiness_file {
            readiness::wait(file, conf.readiness_limit)?;
        }
        let lock = lock::take(&conf.cni_dir, &call.container_id, conf.lock_limit)?;
        // Registered first, so that the roll-back ends with it.
        undo.push("let other calls at the container", move || {
            drop(lock);
            Ok(())
        });
        let cluster = Cluster::open(&conf)?;
        let plan = planner(call, &conf, &args, cluster.as_ref(), false).plan()?;
        room(call, &conf, &args, callers).add(&plan, cluster.as_ref(), undo)
    }

    /// Needs neither pod nor API server nor namespace: what was attached is on record.
    fn del(&self, call: &Call) -> Result<(), Error> {
        let callers = match callers() {
            Ok(callers) => callers,
            Err(e) => {
                // The ADD was refused for the same reason, and those above have to go on.
                log::warn!("there is nothing to delete: {e}");
                return Ok(());
            }
        };
        let conf = open(call)?;
        let args = lenient_args(call);
        if let Some(file) = conf.readiness_file.as_ref().filter(|file| !file.exists()) {
            log::warn!(
                "readinessindicatorfile @ {} does not exist on CNI DEL",
                file.display()
            );
        }
        let _lock = match lock::take(&conf.cni_dir, &call.container_id, conf.lock_limit) {
            Err(e) if e.code == Code::Io => {
                log::warn!("DEL goes on without a lock: {e}");
                None
            }
            lock => Some(lock?),
        };
        let room = room(call, &conf, &args, callers);
        let mut known = room.known();
        if known.is_partial {
            known.add(rebuilt(call, &conf, &args));
        }
        detach::all(&room, known.attachments)
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        let callers = callers()?;
        let conf = open(call)?;
        let args = PodArgs::parse(&call.args)?;
        let _lock = lock::take(&conf.cni_dir, &call.container_id, conf.lock_limit)?;
        let room = room(call, &conf, &args, callers);
        let known = room.known();
        if known.is_partial {
            let id = &call.container_id;
            let why = format!("nothing, or not everything, is on record of container {id}");
            return Err(Error::plugin(why));
        }
        for attachment in &known.attachments {
            let version = Version::parse(&attachment.network.cni_version);
            if version.is_some_and(|version| version < Version::V0_4_0) {
                log::info!("network {:?} is too old for CHECK", attachment.entry.name);
                continue;
            }
            let of = attachment.parameters(&room.container, true);
            room.runtime.check(&attachment.network, &of).map_err(|e| {
                let (name, ifname) = (&attachment.entry.name, &attachment.ifname);
                e.context(format!("DelegateCheck: network {name:?} on {ifname}"))
            })?;
        }
        Ok(())
    }

    fn gc(&self, call: &Call, valid: &[Valid]) -> Result<(), Error> {
        let callers = callers()?;
        let conf = open(call)?;
        let args = PodArgs::default();
        let cluster = Cluster::open(&conf).unwrap_or_else(|e| {
            log::warn!("{e}");
            None
        });
        let of_node = planner(call, &conf, &args, cluster.as_ref(), true).of_configuration();
        let of_node = of_node.unwrap_or_else(|e| {
            log::warn!("{e}");
            Vec::new()
        });
        let room = room(call, &conf, &args, callers);
        collect::gc(&room, &conf, &of_node, valid)
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let unavailable = |e: Error| Error {
            code: Code::NotAvailable,
            ..e
        };
        let callers = callers()?;
        let conf = open(call)?;
        if let Some(file) = conf.readiness_file.as_ref().filter(|file| !file.exists()) {
            let why = format!("readinessindicatorfile @ {} is not there", file.display());
            return Err(Error::new(Code::NotAvailable, why));
        }
        let args = PodArgs::default();
        let cluster = Cluster::open(&conf).map_err(unavailable)?;
        if let Some(cluster) = &cluster {
            let name = conf
                .cluster_network
                .as_deref()
                .filter(|name| !name.contains('/'));
            cluster
                .answers(&conf.multus_namespace, name.unwrap_or("default"))
                .map_err(|e| unavailable(cluster::error(&e)))?;
        }
        let planner = planner(call, &conf, &args, cluster.as_ref(), false);
        let networks = planner.of_configuration().map_err(unavailable)?;
        let room = room(call, &conf, &args, callers);
        for attachment in &networks {
            room.runtime
                .judge(&attachment.network)
                .map_err(unavailable)?;
            room.runtime.status(&attachment.network)?;
        }
        Ok(())
    }
}

/// What delegates are told of those above them. Errors, code 7: multus is among those itself.
fn callers() -> Result<String, Error> {
    invoke::called_by(&skel::variable(CALLERS), Multus::NAME)
}

/// Reads the configuration and starts logging as it says.
fn open(call: &Call) -> Result<Conf, Error> {
    let rotation = log_file::start(&call.stdin)?;
    // Compressing an old log may take a while, and a pod that ends has time.
    if let (Some(rotation), Verb::Del) = (rotation, call.verb) {
        rotation.tidy();
    }
    Conf::read(&call.conf, &call.stdin)
}

fn planner<'a>(
    call: &'a Call,
    conf: &'a Conf,
    args: &'a PodArgs,
    cluster: Option<&'a Cluster>,
    is_lenient: bool,
) -> Planner<'a> {
    Planner {
        conf,
        stdin: &call.stdin,
        args,
        cluster,
        ifname: &call.ifname,
        is_lenient,
    }
}

fn room<'a>(call: &'a Call, conf: &'a Conf, args: &'a PodArgs, callers: String) -> Room<'a> {
    Room {
        runtime: Runtime {
            path: conf.plugin_path(&call.path),
            cache: ResultCache::new(&conf.cni_dir).or(OLD_RESULTS),
            limit: conf.delegate_limit,
            callers,
        },
        scratch: Scratch::new(&conf.cni_dir),
        container: Container {
            id: &call.container_id,
            netns: &call.netns,
            args,
            runtime_config: &conf.runtime_config,
        },
        ifname: &call.ifname,
    }
}

/// DEL has to work with arguments that ADD would refuse.
fn lenient_args(call: &Call) -> PodArgs {
    PodArgs::parse(&call.args).unwrap_or_else(|e| {
        log::warn!("{e}");
        PodArgs::default()
    })
}

/// The networks that an ADD now would attach, where the record is lost: those of the pod if it can be asked, else
/// those of the configuration.
fn rebuilt(call: &Call, conf: &Conf, args: &PodArgs) -> Vec<attachment::Attachment> {
    let cluster = Cluster::open(conf).unwrap_or_else(|e| {
        log::warn!("{e}");
        None
    });
    let planner = planner(call, conf, args, cluster.as_ref(), true);
    let planned = planner.plan().map(|plan| plan.attachments).or_else(|e| {
        log::warn!(
            "the networks of the pod can't be had, those of the configuration are deleted: {e}"
        );
        planner.of_configuration()
    });
    planned.unwrap_or_else(|e| {
        log::warn!("{e}");
        Vec::new()
    })
}
