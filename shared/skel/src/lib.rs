//! Being a CNI plugin: environment and stdin in, one JSON document and an exit status out.
//!
//! A plugin implements [`Plugin`] and its `main` is one line. Everything a plugin must get right as a process
//! lives here: which request is valid, which version it is served in, that nothing is done in the wrong
//! namespace, that stdout carries one document written once, and that an ADD which fails at any point, even
//! while its result is being delivered, is undone.

mod lock;
mod logger;
mod process;
mod request;
mod typing;
mod undo;

use cni::{Attachment, Error, NetConf, Success, Verb, Version};
use serde::de::DeserializeOwned;

pub use lock::Lock;
pub use logger::{PANIC, log_also_to};
pub use process::{run, variable};
pub use typing::{nearly, warn_of_typing_errors};
pub use undo::Undo;

/// A CNI plugin: one method for each verb that does work.
///
/// The methods get a request that is valid as far as the spec can tell. They write nothing to stdout.
pub trait Plugin {
    /// The plugin's own keys of the network configuration, read leniently (see [`cni::json`]). Give every
    /// field a default; a key with a wrong type is answered with code 6 before any method is called.
    type Conf: DeserializeOwned;

    /// The `type` of a configuration, the name of the binary.
    const NAME: &'static str;

    /// Attaches the container. Every step that changes the world registers its opposite with `undo`.
    fn add(&self, call: &Call<Self::Conf>, undo: &mut Undo) -> Result<Success, Error>;

    /// Detaches the container: does everything that can be done, then reports what failed. Nothing there is success.
    fn del(&self, call: &Call<Self::Conf>) -> Result<(), Error>;

    /// Compares the world with `prevResult`, which is present. Changes nothing.
    fn check(&self, call: &Call<Self::Conf>) -> Result<(), Error>;

    /// Removes what belongs to attachments of this network that are not in `valid`.
    fn gc(&self, call: &Call<Self::Conf>, valid: &[Attachment]) -> Result<(), Error>;

    /// Whether an ADD could work now: code 50 if not, 51 if containers are cut off as well.
    fn status(&self, call: &Call<Self::Conf>) -> Result<(), Error>;
}

/// One valid request.
#[derive(Debug, Clone)]
pub struct Call<C> {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// `CNI_CONTAINERID`, a valid identifier; empty for GC and STATUS.
    pub container_id: String,
    /// `CNI_NETNS` as it was given; may be empty for DEL, is empty for GC and STATUS.
    pub netns: String,
    /// `CNI_IFNAME`, a valid interface name; empty for GC and STATUS.
    pub ifname: String,
    /// `CNI_ARGS`; read it with [`cni::CniArgs`].
    pub args: String,
    /// `CNI_PATH`, where delegates are found.
    pub path: String,
    /// The version the request is served in.
    pub version: Version,
    /// The keys that every plugin has.
    pub net: NetConf,
    /// The plugin's own keys.
    pub conf: C,
    /// The configuration as it came; delegates get these bytes.
    pub stdin: Vec<u8>,
}
