//! A plugin as a file: found on `CNI_PATH`, run for one verb, its answer read.

use std::path::PathBuf;
use std::time::Duration;

use cni::{Code, Error, Success, Verb};

use crate::process::{Answer, Run};

/// A plugin found on `CNI_PATH`.
#[derive(Debug, Clone)]
pub struct Delegate {
    path: PathBuf,
    limit: Duration,
}

impl Delegate {
    /// Finds the plugin of type `kind`: the first `<directory>/<kind>` that is a file, in the order of
    /// `cni_path` (colon separated). Each verb may take `limit`; past it the plugin is ended, and the error has code 11.
    ///
    /// Errors: code 7 for a type that is none (empty, or with a `/`), code 4 for an empty path, 999 when
    /// nothing is found.
    pub fn find(kind: &str, cni_path: &str, limit: Duration) -> Result<Delegate, Error> {
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
            .map(|path| Delegate { path, limit })
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
        let answer = self.forward(Verb::Add, stdin);
        let added = answer.and_then(|stdout| self.read_result(&stdout, conf_version));
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
        self.forward(Verb::Del, stdin).map(drop)
    }

    /// Runs CHECK.
    pub fn check(&self, stdin: &[u8]) -> Result<(), Error> {
        self.forward(Verb::Check, stdin).map(drop)
    }

    /// Runs GC.
    pub fn gc(&self, stdin: &[u8]) -> Result<(), Error> {
        self.forward(Verb::Gc, stdin).map(drop)
    }

    /// Runs STATUS.
    pub fn status(&self, stdin: &[u8]) -> Result<(), Error> {
        self.forward(Verb::Status, stdin).map(drop)
    }

    /// Runs a verb in this process's own environment: the attachment is the one that this process serves.
    fn forward(&self, verb: Verb, stdin: &[u8]) -> Result<Vec<u8>, Error> {
        self.run(verb, stdin, &[("CNI_COMMAND", verb.as_str())])
    }

    /// Runs a verb and turns failure into the error that the delegate gave, or into one that says how it went.
    pub(crate) fn run(
        &self,
        verb: Verb,
        stdin: &[u8],
        environment: &[(&str, &str)],
    ) -> Result<Vec<u8>, Error> {
        let Delegate { path, limit } = self;
        let run = Run {
            path,
            stdin,
            environment,
            limit: *limit,
        };
        let answer = run
            .answer()
            .map_err(|e| Error::plugin(format!("failed to run {} {verb}: {e}", path.display())))?;
        match answer.status {
            Some(status) if status.success() => Ok(answer.stdout),
            Some(_) => Err(failure(&answer)),
            None => {
                let path = path.display();
                let why = format!("{path} {verb} did not answer within {limit:?} and was ended");
                Err(Error::new(Code::TryAgainLater, why))
            }
        }
    }

    /// Reads the answer to ADD.
    pub(crate) fn read_result(&self, stdout: &[u8], conf_version: &str) -> Result<Success, Error> {
        let read = match stdout.trim_ascii() {
            b"null" => Err("null is no result".to_owned()),
            document => Success::parse(document, conf_version),
        };
        read.map_err(|e| {
            let who = self.path.display();
            Error::plugin(format!("failed to unmarshal raw result of {who}: {e}"))
        })
    }
}

/// The error of a delegate that did not exit with 0. Its own error object passes through as it is.
fn failure(answer: &Answer) -> Error {
    let quoted = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    let status = || answer.status.map_or_else(String::new, |s| s.to_string());
    if answer.stdout.is_empty() && answer.stderr.is_empty() {
        return Error::plugin(format!(
            "netplugin failed with no error message: {}",
            status()
        ));
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
                error.msg = format!("netplugin failed with no error message: {}", status());
            }
            error
        }
    }
}
