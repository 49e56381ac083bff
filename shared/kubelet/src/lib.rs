//! Which devices a pod was given by kubelet.
//!
//! A network names a resource, and its interface gets one of the devices that the pod has of it. kubelet says which
//! those are through its socket, or, where there is none, in its checkpoint file.

mod checkpoint;
mod pod_resources;
mod protobuf;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use cni::{Code, Error};

/// kubelet's service of pods' resources.
const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// Where kubelet notes the devices it gave out.
const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

/// How long kubelet may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The pod whose devices are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// As the API server has it; the checkpoint file knows pods by nothing else.
    pub uid: &'a str,
}

/// The devices of a pod, by resource, each to be handed out once over all networks of the pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Devices {
    of_resource: BTreeMap<String, OfResource>,
}

/// In order of their names, so that every call hands them out alike.
#[derive(Debug, Default, PartialEq, Eq)]
struct OfResource {
    left: VecDeque<String>,
    had: usize,
}

/// Why there is no device for a network.
///
/// It is no failure by itself: there are networks whose resource only steers pods to the right nodes, and they work
/// without. Where the delegate fails then, this says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
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
    pub async fn of(pod: Pod<'_>) -> Result<Devices, Error> {
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
        let distinct: BTreeSet<(String, String)> = pairs.into_iter().collect();
        let mut devices = Devices::default();
        for (resource, id) in distinct {
            let of_resource = devices.of_resource.entry(resource).or_default();
            of_resource.left.push_back(id);
            of_resource.had += 1;
        }
        devices
    }

    /// The first device of a resource that has not been handed out.
    pub fn take(&mut self, resource: &str) -> Result<String, Shortage> {
        self.hand_out(resource, VecDeque::pop_front)
    }

    /// The last one.
    pub fn take_last(&mut self, resource: &str) -> Result<String, Shortage> {
        self.hand_out(resource, VecDeque::pop_back)
    }

    fn hand_out(
        &mut self,
        resource: &str,
        next: fn(&mut VecDeque<String>) -> Option<String>,
    ) -> Result<String, Shortage> {
        let of_resource = self.of_resource.get_mut(resource);
        let had = of_resource.as_ref().map_or(0, |of| of.had);
        let id = of_resource.and_then(|of| next(&mut of.left));
        id.ok_or_else(|| Shortage {
            resource: resource.to_owned(),
            had,
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
        let mut backwards = Devices::new(pairs.map(|(r, id)| (r.into(), id.into())).into());
        assert_eq!(backwards.take_last("r").unwrap(), "b");
        assert_eq!(backwards.take_last("r").unwrap(), "a");
        backwards.take_last("r").unwrap_err();
        let none_left = devices.take("r").unwrap_err().to_string();
        assert!(
            none_left.contains("gave the pod 2 of the resource r"),
            "{none_left}"
        );
        let unknown = devices.take("x").unwrap_err().to_string();
        assert!(unknown.contains("no device of the resource x"), "{unknown}");
    }
}
