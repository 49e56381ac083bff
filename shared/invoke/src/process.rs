//! One run of a plugin as a process.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};

/// What to run.
pub(crate) struct Run<'a> {
    pub(crate) path: &'a Path,
    pub(crate) stdin: &'a [u8],
    /// Variables that are set in, or replaced in, this process's environment.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// How long it may take. Past it the plugin and what it has started are ended.
    pub(crate) limit: Duration,
}

/// What a plugin answered.
pub(crate) struct Answer {
    /// `None`: it had not ended when its time was over.
    pub(crate) status: Option<ExitStatus>,
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

/// How long the end of a killed process is waited for. It is longer only where the kernel itself hangs.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Stack of the thread that waits for a child, in bytes.
const STACK: usize = 64 * 1024;

impl Run<'_> {
    /// Runs it and waits for its end. What it wrote on stderr goes to our own.
    ///
    /// The three streams are files in memory and not pipes: whatever the sizes nobody blocks nobody, and a daemon
    /// that a plugin leaves behind with its stdout open can't keep us waiting.
    pub(crate) fn answer(&self) -> io::Result<Answer> {
        let mut stdin = memory_file(c"stdin")?;
        stdin.write_all(self.stdin)?;
        let (mut stdout, mut stderr) = (memory_file(c"stdout")?, memory_file(c"stderr")?);
        let mut retries = TEXT_BUSY_RETRIES.iter();
        let mut child = loop {
            stdin.rewind()?;
            match self.spawn([&stdin, &stdout, &stderr]) {
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => match retries.next() {
                    Some(pause) => sleep(*pause),
                    None => return Err(e),
                },
                other => break other?,
            }
        };
        let answer = Answer {
            status: wait_or_end(&mut child, self.limit)?,
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
    fn spawn(&self, streams: [&File; 3]) -> io::Result<Child> {
        let [stdin, stdout, stderr] = streams;
        let parent = nix::unistd::getpid();
        let mut command = Command::new(self.path);
        command
            .envs(self.environment.iter().copied())
            .stdin(Stdio::from(stdin.try_clone()?))
            .stdout(Stdio::from(stdout.try_clone()?))
            .stderr(Stdio::from(stderr.try_clone()?))
            // A group of its own, so that it can be ended with everything it has started.
            .process_group(0);
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
}

/// Waits for the end of a child that leads its process group. `None`: the limit has passed, and the group was ended.
fn wait_or_end(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let ended = end_of(pid)?;
    if ended.recv_timeout(limit).is_ok() {
        return child.wait().map(Some);
    }
    // Nobody has collected the child yet, so the number is still its own.
    killpg(pid, Signal::SIGKILL)?;
    if ended.recv_timeout(END_LIMIT).is_ok() {
        child.wait()?;
    }
    Ok(None)
}

/// An event that comes when the process has ended. It stays to be collected.
fn end_of(pid: Pid) -> io::Result<Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    let wait = move || {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
        // Nobody listens any more when the process outlived even its killing.
        let _ = sender.send(());
    };
    thread::Builder::new().stack_size(STACK).spawn(wait)?;
    Ok(receiver)
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
