//! Which devices a pod was given by kubelet, and what their plugins tell about them.
//!
//! A NetworkAttachmentDefinition names a resource; each network that does gets the next device that the pod has of
//! it. kubelet says which those are through its socket, or, where there is none, in its checkpoint file.

mod checkpoint;
pub(crate) mod device_info;
mod pod_resources;
mod protobuf;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use cni::{Code, Error};

/// The annotation of a NetworkAttachmentDefinition that names a resource.
pub(crate) const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// kubelet's service of pods' resources.
const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// Where kubelet notes the devices it gave out.
const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

/// How long kubelet may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The pod whose devices are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pod<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// As the API server has it; the checkpoint file knows pods by nothing else.
    pub(crate) uid: &'a str,
}

/// The devices of a pod, by resource, each to be handed out once over all networks of the pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    of_resource: BTreeMap<String, OfResource>,
}

/// In order of their names, so that every call hands them out alike.
#[derive(Debug, Default, PartialEq, Eq)]
struct OfResource {
    ids: Vec<String>,
    handed_out: usize,
}

/// Why there is no device for a network.
///
/// It is no failure by itself: there are networks whose resource only steers pods to the right nodes, and they work
/// without. Where the delegate fails then, this says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    resource: String,
    had: usize,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = &self.resource;
        match self.had {
            0 => write!(
                f,
                "kubelet gave the pod no device of the resource {resource}; does a container of the pod ask for it?"
            ),
            had => write!(
                f,
                "kubelet gave the pod {had} of the resource {resource}, and its networks before this one have them all"
            ),
        }
    }
}

impl Devices {
    /// Asks kubelet. Errors: code 11 when it doesn't say, 5 and 6 for a checkpoint file that can't be read.
    pub(crate) async fn of(pod: Pod<'_>) -> Result<Devices, Error> {
        Devices::from(pod, Path::new(SOCKET), Path::new(CHECKPOINT), LIMIT).await
    }

    async fn from(
        pod: Pod<'_>,
        socket: &Path,
        checkpoint: &Path,
        limit: Duration,
    ) -> Result<Devices, Error> {
        if !socket.exists() {
            return checkpoint::read(checkpoint, pod.uid).map(Devices::new);
        }
        let asked = format!(
            "kubelet's socket {}: the devices of pod {}/{}",
            socket.display(),
            pod.namespace,
            pod.name
        );
        let answer = tokio::time::timeout(limit, pod_resources::list(socket)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(format!(
                "there was no answer within {} s",
                limit.as_secs_f32()
            ))
        });
        let found = answer.and_then(|list| pod_resources::devices(&list, pod));
        found
            .map(Devices::new)
            .map_err(|why| Error::new(Code::TryAgainLater, format!("{asked}: {why}")))
    }

    fn new(pairs: Vec<(String, String)>) -> Devices {
        let mut devices = Devices::default();
        for (resource, id) in pairs {
            devices
                .of_resource
                .entry(resource)
                .or_default()
                .ids
                .push(id);
        }
        for of_resource in devices.of_resource.values_mut() {
            of_resource.ids.sort();
            of_resource.ids.dedup();
        }
        devices
    }

    /// The next device of a resource.
    pub(crate) fn take(&mut self, resource: &str) -> Result<String, Shortage> {
        let of_resource = self.of_resource.get_mut(resource);
        let next = of_resource.and_then(|of_resource| {
            let id = of_resource.ids.get(of_resource.handed_out)?;
            of_resource.handed_out += 1;
            Some(id.clone())
        });
        next.ok_or_else(|| Shortage {
            resource: resource.to_owned(),
            had: self.of_resource.get(resource).map_or(0, |of| of.ids.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_handed_out_once_and_in_order() {
        let pairs = [("r", "b"), ("r", "a"), ("s", "c"), ("r", "b")];
        let mut devices = Devices::new(pairs.map(|(r, id)| (r.into(), id.into())).into());
        let taken = ["r", "s", "r"].map(|resource| devices.take(resource).unwrap());
        assert_eq!(taken, ["a", "c", "b"]);
        let none_left = devices.take("r").unwrap_err().to_string();
        assert!(
            none_left.contains("gave the pod 2 of the resource r"),
            "{none_left}"
        );
        let unknown = devices.take("x").unwrap_err().to_string();
        assert!(unknown.contains("no device of the resource x"), "{unknown}");
    }
}
