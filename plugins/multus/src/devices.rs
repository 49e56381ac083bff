//! Which devices a pod was given by kubelet, and what their plugins tell about them.
//!
//! A NetworkAttachmentDefinition names a resource; each network that does gets the next device that the pod has of it.

pub(crate) mod device_info;

pub(crate) use kubelet::{Devices, Pod};

/// The annotation of a NetworkAttachmentDefinition that names a resource.
pub(crate) const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";
