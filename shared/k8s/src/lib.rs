//! The Kubernetes API server: how it is reached, the requests made to it, and the few kinds of object we use.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//! use k8s::{Access, Client, Pod, Runtime};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let access = Access::kubeconfig(Path::new("/etc/cni/net.d/multus.d/multus.kubeconfig"))?;
//! let client = Client::new(access, Duration::from_secs(10));
//! let pods = client.namespaced::<Pod>("default");
//! let runtime = Runtime::new()?;
//! let pod = runtime.block_on(pods.get("samplepod"))?;
//! # Ok(())
//! # }
//! ```
//!
//! Read on at [`Access`] (server and credentials), [`Client`] (time limits and repeated tries), [`Api`] (the verbs)
//! and [`Error`]. Each kind of object is one file in `kinds/`; to add one, implement [`Object`].
//!
//! TLS is verified always, with `ring` and with the cluster's own certificate authority: the system's certificates
//! are never read, which alone would cost a process tens of milliseconds. Nothing here reads the environment.

mod access;
mod api;
mod client;
mod clock;
mod connection;
mod error;
mod kinds;
mod kubeconfig;
mod request;
mod runtime;
mod server;
mod tls;
mod watched;

pub use access::{Access, SERVICE_ACCOUNT};
pub use api::{Api, ListOptions, Preconditions};
pub use client::Client;
pub use error::{Cause, Error};
pub use kinds::danm_endpoint::{DanmEp, DanmEpInterface, DanmEpSpec};
pub use kinds::danm_network::{
    DanmGroup, DanmNetwork, DanmNetworkSpec, DanmOptions, DanmPool, DanmScope,
};
pub use kinds::event::{Event, EventSource, EventType, ObjectReference};
pub use kinds::meta::{List, ListMeta, ObjectMeta, OwnerReference, PartialObjectMetadata};
pub use kinds::network_attachment::{NetworkAttachmentDefinition, NetworkAttachmentSpec};
pub use kinds::pod::{Pod, PodSpec, PodStatus};
pub use kinds::status::{Status, StatusDetails};
pub use kinds::{Kind, Object};
pub use runtime::{Runtime, together};
