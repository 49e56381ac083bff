//! Calling a CNI plugin as the spec's section 4 says: find it on `CNI_PATH`, run it, read its answer.
//!
//! A delegate gets this process's environment with only `CNI_COMMAND` replaced, and the very bytes this plugin
//! got on stdin. It is started from the calling thread, so it runs in that thread's network namespace: call
//! this from the main thread, which never leaves the host's.

mod process;

use std::path::PathBuf;

use cni::{Code, Error, Success, Verb};

/// A plugin found on `CNI_PATH`.
#[derive(Debug, Clone)]
pub struct Delegate {
    path: PathBuf,
}

impl Delegate {
    /// Finds the plugin of type `kind`: the first `<directory>/<kind>` that is a file, in the order of
    /// `cni_path` (colon separated).
    ///
    /// Errors: code 7 for a type that is none (empty, or with a `/`), code 4 for an empty path, 999 when
    /// nothing is found.
    pub fn find(kind: &str, cni_path: &str) -> Result<Delegate, Error> {
        if kind.is_empty() {
            return Err(Error::config("no plugin name provided"));
        }
        if kind.contains('/') {
            return Err(Error::config(format!("invalid plugin name: {kind}")));
        }
        let directories: Vec<&str> = cni_path.split(':').filter(|d| !d.is_empty()).collect();
        if directories.is_empty() {
            let why = format!("no paths provided to find plugin {kind:?}: CNI_PATH is empty");
            return Err(Error::new(Code::InvalidEnvironment, why));
        }
        directories
            .iter()
            .map(|directory| PathBuf::from(directory).join(kind))
            .find(|path| path.is_file())
            .map(|path| Delegate { path })
            .ok_or_else(|| {
                let searched = directories.join(" ");
                Error::plugin(format!(
                    "failed to find plugin {kind:?} in path [{searched}]"
                ))
            })
    }

    /// Runs ADD. `conf_version` is the version of a result that does not say one itself.
    ///
    /// When it fails, however it fails, the delegate's DEL has been run before this returns.
    pub fn add(&self, stdin: &[u8], conf_version: &str) -> Result<Success, Error> {
        let added = self.run(Verb::Add, stdin).and_then(|stdout| {
            Success::parse(&stdout, conf_version).map_err(|e| {
                let who = self.path.display();
                Error::plugin(format!("failed to unmarshal raw result of {who}: {e}"))
            })
        });
        if added.is_err()
            && let Err(e) = self.del(stdin)
        {
            log::warn!("DEL of {} after its failed ADD: {e}", self.path.display());
        }
        added
    }

    /// Runs ADD of an IPAM plugin, which must yield an address. On failure as [`Delegate::add`].
    pub fn add_ipam(&self, stdin: &[u8], conf_version: &str) -> Result<Success, Error> {
        let result = self.add(stdin, conf_version)?;
        if !result.ips.is_empty() {
            return Ok(result);
        }
        if let Err(e) = self.del(stdin) {
            log::warn!(
                "DEL of {} after an ADD without address: {e}",
                self.path.display()
            );
        }
        Err(Error::plugin("IPAM plugin returned missing IP config"))
    }

    /// Runs DEL.
    pub fn del(&self, stdin: &[u8]) -> Result<(), Error> {
        self.run(Verb::Del, stdin).map(drop)
    }

    /// Runs CHECK.
    pub fn check(&self, stdin: &[u8]) -> Result<(), Error> {
        self.run(Verb::Check, stdin).map(drop)
    }

    /// Runs GC.
    pub fn gc(&self, stdin: &[u8]) -> Result<(), Error> {
        self.run(Verb::Gc, stdin).map(drop)
    }

    /// Runs STATUS.
    pub fn status(&self, stdin: &[u8]) -> Result<(), Error> {
        self.run(Verb::Status, stdin).map(drop)
    }

    /// Runs one verb and turns failure into the error that the delegate gave, or into one that says how it went.
    fn run(&self, verb: Verb, stdin: &[u8]) -> Result<Vec<u8>, Error> {
        let answer = process::run(&self.path, verb, stdin).map_err(|e| {
            Error::plugin(format!("failed to run {} {verb}: {e}", self.path.display()))
        })?;
        if answer.status.success() {
            return Ok(answer.stdout);
        }
        Err(failure(&answer))
    }
}

/// The error of a delegate that did not exit with 0. Its own error object passes through as it is.
fn failure(answer: &process::Answer) -> Error {
    let quoted = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    if answer.stdout.is_empty() && answer.stderr.is_empty() {
        let status = answer.status;
        return Error::plugin(format!("netplugin failed with no error message: {status}"));
    }
    if answer.stdout.is_empty() {
        return Error::plugin(format!("netplugin failed: {}", quoted(&answer.stderr)));
    }
    match Error::parse(&answer.stdout) {
        Err(why) => Error::plugin(format!(
            "netplugin failed but error parsing its diagnostic message {}: {why}",
            quoted(&answer.stdout)
        )),
        Ok(mut error) => {
            if error.code.number() == 0 {
                error.code = Code::Plugin;
            }
            if error.msg.is_empty() {
                let status = answer.status;
                error.msg = format!("netplugin failed with no error message: {status}");
            }
            error
        }
    }
}
