//! One run of a plugin as a process.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use cni::Verb;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// What a plugin answered.
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// How long to wait before each new try when the file is being written (`ETXTBSY`): installers copy over plugins
/// while pods start.
const TEXT_BUSY_RETRIES: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(2),
];

/// Runs `path` with `CNI_COMMAND` set to `verb` and waits for its end. What it wrote on stderr goes to our own.
///
/// The three streams are files in memory and not pipes: whatever the sizes nobody blocks nobody, and a daemon
/// that a plugin leaves behind with its stdout open can't keep us waiting.
pub(crate) fn run(path: &Path, verb: Verb, input: &[u8]) -> io::Result<Answer> {
    let mut stdin = memory_file(c"stdin")?;
    stdin.write_all(input)?;
    let (mut stdout, mut stderr) = (memory_file(c"stdout")?, memory_file(c"stderr")?);
    let mut retries = TEXT_BUSY_RETRIES.iter();
    let mut child = loop {
        stdin.rewind()?;
        match spawn(path, verb, [&stdin, &stdout, &stderr]) {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => match retries.next() {
                Some(pause) => sleep(*pause),
                None => return Err(e),
            },
            other => break other?,
        }
    };
    let answer = Answer {
        status: child.wait()?,
        stdout: content(&mut stdout)?,
        stderr: content(&mut stderr)?,
    };
    // Forwarding is a service to whoever reads the log; a closed stderr is no reason to fail.
    let _ = io::stderr().write_all(&answer.stderr);
    Ok(answer)
}

#[expect(
    clippy::disallowed_methods,
    unsafe_code,
    reason = "the one place where plugins are started; pre_exec is unsafe because of what may run \
              between fork and exec: two system calls and no allocation"
)]
fn spawn(path: &Path, verb: Verb, streams: [&File; 3]) -> io::Result<Child> {
    let [stdin, stdout, stderr] = streams;
    let parent = nix::unistd::getpid();
    let mut command = Command::new(path);
    command
        .env("CNI_COMMAND", verb.as_str())
        .stdin(Stdio::from(stdin.try_clone()?))
        .stdout(Stdio::from(stdout.try_clone()?))
        .stderr(Stdio::from(stderr.try_clone()?));
    // A runtime that gives up kills this process only. A delegate that lived on would finish its ADD after the
    // runtime's DEL, and what it took would be lost; so it dies with us.
    let die_with_parent = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and touches no memory of the parent but a copied number.
    unsafe { command.pre_exec(die_with_parent) };
    command.spawn()
}

fn memory_file(name: &CStr) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?))
}

fn content(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
