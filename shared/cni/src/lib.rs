//! The CNI specification as types, without any I/O: versions, verbs, configuration, results, errors.
//!
//! Reading is lenient and writing is strict. Configurations in the field rely on what Go's JSON reader
//! accepts (see [`json`]), while a result or an error is written with exactly the keys of the version
//! that was asked for (see [`result`]).

pub mod args;
pub mod conf;
pub mod error;
pub mod json;
pub mod names;
pub mod network;
pub mod result;
pub mod seconds;
pub mod text;
pub mod verb;
pub mod version;

pub use args::CniArgs;
pub use conf::{Attachment, NetConf};
pub use error::{Code, Error};
pub use network::{Network, PluginConf};
pub use result::{Dns, Interface, Ip, Route, Success};
pub use seconds::Seconds;
pub use verb::Verb;
pub use version::Version;
