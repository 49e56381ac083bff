//! ADD: every interface that the pod asks for, several at a time, or none of them.

use std::sync::{Arc, OnceLock};

use cni::{Code, Error, Success};
use k8s::{DanmEp, Pod};
use kernel::{Netns, Rtnl, sysctl};
use skel::Undo;

use crate::cluster::Cluster;
use crate::conf::PodArgs;
use crate::interface::Work;
use crate::link::{self, WithoutIpv6};
use crate::plan::{self, Job};
use crate::record::{Open, Part, Record, Stage};
use crate::result;
use crate::{Call, Node, OWN_TYPES, detach, open_netns};

/// Attaches the pod.
pub(crate) fn run(
    node: &Arc<Node>,
    call: &Call,
    args: &PodArgs,
    undo: &mut Undo,
) -> Result<Success, Error> {
    // Delegates ask for their addresses under this name, in DEL too.
    if !OWN_TYPES.contains(&call.net.kind.as_str()) {
        let types = OWN_TYPES.join(" or ");
        let why = format!("type is {:?}, must be {types}", call.net.kind);
        return Err(Error::config(why));
    }
    let netns = Arc::new(open_netns(&call.netns)?);
    let cluster = node.cluster()?;
    let record = Arc::new(
        node.records
            .open(&call.net.name, &call.container_id, &call.ifname)?,
    );
    // Registered first, so that the roll-back ends with it. The lock is held until then.
    let (taken, held) = (Arc::clone(node), Arc::clone(&record));
    let without_ipv6 = Arc::new(OnceLock::<WithoutIpv6>::new());
    let (off, within) = (Arc::clone(&without_ipv6), Arc::clone(&netns));
    undo.push("take the interfaces back", move || {
        // The request that the ADD has failed at may have been the only one without an answer.
        if let Some(cluster) = taken.cluster.get() {
            cluster.try_anew();
        }
        let done = detach::all(&taken, &held);
        if let Some(off) = off.get() {
            off.restore(&within)?;
        }
        match (done, Arc::into_inner(held)) {
            (Ok(true), Some(record)) => record.remove(),
            (done, _) => done.map(drop),
        }
    });
    clear_earlier(node, &netns, &record)?;

    let pod = cluster.pod(&args.namespace, &args.name).map_err(|e| {
        Error::plugin(format!(
            "pod {}/{} can't be read: {e}",
            args.namespace, args.name
        ))
    })?;
    let jobs = plan::jobs(node, call, args, &pod)?;
    are_free(&netns, &jobs)?;
    clear_pod(node, call, cluster, args, &pod)?;
    if let Some(off) = link::enable_ipv6(&netns)? {
        let _ = without_ipv6.set(off);
    }

    record.change(|record| {
        *record = Record {
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            netns: call.netns.clone(),
            args: call.args.clone(),
            namespace: args.namespace.clone(),
            pod: args.name.clone(),
            pod_uid: pod.metadata.uid.clone(),
            interfaces: jobs
                .iter()
                .map(|j| Part::new(j.endpoint.clone(), j.place.clone()))
                .collect(),
            strays: std::mem::take(&mut record.strays),
            ..Record::default()
        };
    })?;
    let work = Work {
        node,
        call,
        args,
        cluster,
        pod: &pod,
        netns: &netns,
        record: &record,
        host: sysctl::read("kernel/hostname")?,
    };
    let outcomes = work.all(&jobs)?;
    record.change(|record| {
        for (part, outcome) in record.interfaces.iter_mut().zip(&outcomes) {
            let kind = outcome.link.as_ref().map(|link| link.kind.clone());
            part.link_kind = kind;
        }
        record.is_complete = true;
    })?;
    Ok(match node.settings.tells_all {
        true => result::complete(outcomes, &call.netns, &call.net.dns),
        false => result::compatible(outcomes, &args.cid),
    })
}

/// Takes back what an ADD has left that was cut off. Error: an ADD has come to its end, and its interfaces are in use.
fn clear_earlier(node: &Node, netns: &Netns, record: &Open) -> Result<(), Error> {
    let earlier = record.get();
    if earlier.is_empty() {
        return Ok(());
    }
    let names = earlier.interfaces.iter().map(|part| part.ifname.as_str());
    if let (true, Some(name)) = (earlier.is_complete, first_link(netns, names)?) {
        let why = format!("the container is attached already: interface {name} is there");
        // The roll-back of this call must not take down what is in use.
        record.abandon();
        return Err(
            Error::plugin(why).details("nothing was changed; DEL has to come before another ADD")
        );
    }
    log::warn!("an earlier ADD of this container is taken back first");
    let is_done = detach::all(node, record)?;
    let Record {
        strays, interfaces, ..
    } = record.get();
    // Those are in nobody's way.
    if is_done || interfaces.iter().all(|part| part.stage == Stage::Deleted) {
        return record.change(|record| {
            *record = Record {
                strays,
                ..Record::default()
            }
        });
    }
    Err(Error::new(
        Code::TryAgainLater,
        "what an earlier ADD of this container has left could not be taken back yet",
    ))
}

/// Refuses names that are taken, before anything is made.
fn are_free(netns: &Netns, jobs: &[Job]) -> Result<(), Error> {
    match first_link(netns, jobs.iter().map(|job| job.ifname.as_str()))? {
        None => Ok(()),
        Some(name) => {
            let why = format!("the pod has an interface {name} already");
            Err(Error::plugin(why).details(
                "danm names its first interface eth0, whatever CNI_IFNAME is: it has to be the first to attach the pod, or have honorIfName",
            ))
        }
    }
}

fn first_link<'a>(
    netns: &Netns,
    names: impl Iterator<Item = &'a str>,
) -> Result<Option<String>, Error> {
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    netns.inside(|| {
        let mut rtnl = Rtnl::open()?;
        let there = names.into_iter().find(|name| rtnl.link(name).is_ok());
        Ok(there.map(str::to_owned))
    })
}

/// Removes what another sandbox of the same pod has left: kubelet may ask for a second one without DEL of the first.
fn clear_pod(
    node: &Node,
    call: &Call,
    cluster: &Cluster,
    args: &PodArgs,
    pod: &Pod,
) -> Result<(), Error> {
    let uid = &pod.metadata.uid;
    let listed = |e: k8s::Error| Error::plugin(format!("the DanmEps can't be listed: {e}"));
    let endpoints = cluster.endpoints(Some(&args.namespace)).map_err(listed)?;
    let is_own = |e: &DanmEp| e.spec.pod == args.name && e.spec.pod_uid == *uid;
    let own: Vec<DanmEp> = endpoints.into_iter().filter(is_own).collect();
    if own.is_empty() {
        return Ok(());
    }
    for (path, record) in node.records.all()? {
        if record.pod_uid == *uid && record.container_id != call.container_id {
            detach::at(node, path)?;
        }
    }
    let records = node.records.all()?;
    let is_known = |name: &String| {
        records
            .iter()
            .any(|(_, r)| r.endpoints().any(|e| e == name))
    };
    let unknown: Vec<&DanmEp> = own.iter().filter(|e| !is_known(&e.metadata.name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let all = cluster.endpoints(None).map_err(listed)?;
    for endpoint in unknown {
        detach::foreign(node, cluster, endpoint, &all)?;
    }
    Ok(())
}
