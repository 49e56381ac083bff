//! The process around a plugin: reads the request, runs the verb, writes the one answer.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cni::{Code, Error, Verb, Version, json};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::request::{Environment, Request, version_to_repeat};
use crate::{Plugin, Undo, logger};

/// How long an answer that needs no configuration waits for one on stdin. Some callers never close the pipe.
const STDIN_LIMIT: Duration = Duration::from_millis(100);

/// Serves the request this process was started for. `main` returns what this returns.
///
/// Exit status 0 is success; 1 is a failure that a CNI error object on stdout describes.
pub fn run<P: Plugin>(plugin: P) -> ExitCode {
    logger::install(P::NAME, Some(&variable("CNI_LOG_LEVEL")));
    std::panic::set_hook(Box::new(
        |panic| log::error!(target: logger::PANIC, "{panic}"),
    ));
    let env = Environment {
        command: variable("CNI_COMMAND"),
        container_id: variable("CNI_CONTAINERID"),
        netns: variable("CNI_NETNS"),
        ifname: variable("CNI_IFNAME"),
        args: variable("CNI_ARGS"),
        path: variable("CNI_PATH"),
        netns_override: variable("CNI_NETNS_OVERRIDE"),
    };
    let mut request = Request::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| serve(&plugin, env, &mut request)));
    let error = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => Error::plugin(format!(
            "{} has a bug and stopped; see its log on stderr",
            P::NAME
        )),
    };
    log::error!(target: logger::ANSWER, "{error}");
    let cni_version = match request.cni_version.as_str() {
        "" => Version::NEWEST.as_str(),
        version => version,
    };
    if let Err(e) = write_stdout(&error.to_json(cni_version)) {
        log::error!("{error}; and the runtime could not be told: {e}");
    }
    ExitCode::FAILURE
}

/// A variable of the environment; empty when it is not set. What the spec defines is in [`crate::Call`].
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the environment is read"
)]
pub fn variable(name: &str) -> String {
    let value = std::env::var_os(name).unwrap_or_default();
    value.to_string_lossy().into_owned()
}

/// Runs the verb. On success the answer, if the verb has one, has been written.
fn serve<P: Plugin>(plugin: &P, env: Environment, request: &mut Request) -> Result<(), Error> {
    if env.command.is_empty() {
        log::error!("{}", about::<P>());
    }
    let verb = match env.verb() {
        Ok(verb) => verb,
        Err(unknown) => {
            // The answer has to say the version of the request. A person at a terminal sends none.
            let _ = request.open(&read_what_comes(STDIN_LIMIT));
            return Err(unknown);
        }
    };
    if verb == Verb::Version {
        let answer = versions(version_to_repeat(&read_what_comes(STDIN_LIMIT)));
        return deliver(&answer);
    }
    let mut stdin = Vec::with_capacity(4096);
    io::stdin()
        .read_to_end(&mut stdin)
        .map_err(|e| Error::new(Code::Io, format!("error reading from stdin: {e}")))?;
    let call = request.validate(env, verb, stdin)?;
    match verb {
        Verb::Add => {
            let mut undo = Undo::default();
            let result = plugin.add(&call, &mut undo)?;
            deliver(&result.to_json(call.version)?)?;
            undo.keep();
            Ok(())
        }
        Verb::Del => plugin.del(&call),
        Verb::Check => plugin.check(&call),
        Verb::Gc => match &call.net.valid_attachments {
            Some(valid) => plugin.gc(&call, valid),
            None => {
                log::warn!("GC without cni.dev/valid-attachments: nothing is known to be stale");
                Ok(())
            }
        },
        Verb::Status => plugin.status(&call),
        Verb::Version => Ok(()),
    }
}

/// The words for a person who starts the plugin by hand.
fn about<P: Plugin>() -> String {
    let versions = Version::ALL.map(Version::as_str).join(", ");
    format!(
        "CNI {} plugin v{}, for CNI versions {versions}; it is run by container runtimes, with CNI_COMMAND set",
        P::NAME,
        env!("CARGO_PKG_VERSION"),
    )
}

/// The answer to VERSION: one compact line, as the originals print it.
fn versions(cni_version: Version) -> String {
    let list = Version::ALL.map(|v| format!("\"{v}\"")).join(",");
    format!("{{\"cniVersion\":\"{cni_version}\",\"supportedVersions\":[{list}]}}\n")
}

fn deliver(document: &str) -> Result<(), Error> {
    write_stdout(document).map_err(|e| {
        Error::new(
            Code::Io,
            format!("the result could not be written to stdout: {e}"),
        )
    })
}

/// Writes the one document. Past `std`'s line buffer, so that it leaves in one piece.
///
/// Rust programs start with SIGPIPE ignored: a reader that is gone is an error here and no signal.
fn write_stdout(document: &str) -> io::Result<()> {
    let stdout = io::stdout();
    let mut rest = document.as_bytes();
    while !rest.is_empty() {
        match nix::unistd::write(stdout.as_fd(), rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Reads stdin until a whole JSON document is there, until its end, or until the limit has passed.
fn read_what_comes(limit: Duration) -> Vec<u8> {
    let stdin = io::stdin();
    let deadline = Instant::now() + limit;
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) if ready > 0 => {}
            _ => return all,
        }
        match nix::unistd::read(stdin.as_fd(), &mut chunk) {
            Ok(n) if n > 0 => all.extend(chunk.iter().take(n)),
            _ => return all,
        }
        if json::Value::parse(&all).is_ok() {
            return all;
        }
    }
}
