//! Runs one program to its end with exactly the environment and stdin it is given, and never waits longer than told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a program is called with.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The file that runs.
    pub program: PathBuf,
    /// Its arguments; a plugin has none.
    pub arguments: Vec<OsString>,
    /// The whole environment; nothing else is inherited.
    pub env: BTreeMap<String, OsString>,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// Leave stdin open behind the bytes, as a runtime does that keeps its pipe.
    pub stdin_stays_open: bool,
    /// Nobody reads stdout: writing to it is EPIPE.
    pub stdout_closed: bool,
    /// After this the program and everything it started is killed.
    pub limit: Duration,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// Not at all within the limit; it was killed.
    Hang,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
}

/// A program that was started and runs beside us.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    started: Instant,
    limit: Duration,
    parts: mpsc::Receiver<Part>,
    /// Held only to keep the pipe open until the program has ended.
    _stdin: Option<std::process::ChildStdin>,
}

#[derive(Debug)]
enum Part {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Ended(Ending),
}

/// Starts the program and waits for its end.
pub fn run(invocation: &Invocation) -> io::Result<Outcome> {
    Ok(start(invocation)?.wait())
}

/// Starts the program in a process group of its own.
pub fn start(invocation: &Invocation) -> io::Result<Running> {
    let started = Instant::now();
    let mut child = Command::new(&invocation.program)
        .args(&invocation.arguments)
        .env_clear()
        .envs(&invocation.env)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = child.id().cast_signed();
    let (sender, parts) = mpsc::channel();
    // One thread for each pipe: a program may answer at length before it has read its request, and must not block on us.
    match child.stdout.take() {
        Some(stdout) if !invocation.stdout_closed => drain(stdout, sender.clone(), Part::Stdout),
        // Closed here and now: the program has hardly begun, and answers at its end.
        closed => drop((closed, sender.send(Part::Stdout(Vec::new())))),
    }
    if let Some(stderr) = child.stderr.take() {
        drain(stderr, sender.clone(), Part::Stderr);
    }
    let stdin = feed(&mut child, invocation);
    thread::spawn(move || {
        let ending = match child.wait() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Ending::Exit(code),
                (None, signal) => Ending::Signal(signal.unwrap_or(0)),
            },
            Err(_) => Ending::Hang,
        };
        // The receiver is gone when the limit was reached first.
        let _ = sender.send(Part::Ended(ending));
    });
    Ok(Running {
        pid,
        started,
        limit: invocation.limit,
        parts,
        _stdin: stdin,
    })
}

impl Running {
    /// Ends the program and everything in its process group with SIGKILL.
    pub fn kill(&self) {
        // ESRCH: it has ended already.
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
    }

    /// Waits until the program has ended and its pipes are closed.
    pub fn wait(self) -> Outcome {
        let mut outcome = Outcome {
            ending: Ending::Hang,
            stdout: Vec::new(),
            stderr: Vec::new(),
            took: Duration::ZERO,
        };
        let mut ending = None;
        for _ in 0..3 {
            let left = self.limit.saturating_sub(self.started.elapsed());
            match self.parts.recv_timeout(left) {
                Ok(Part::Stdout(bytes)) => outcome.stdout = bytes,
                Ok(Part::Stderr(bytes)) => outcome.stderr = bytes,
                Ok(Part::Ended(how)) => ending = Some(how),
                Err(RecvTimeoutError::Timeout) => {
                    // Also when the program itself has ended: something it left behind holds its pipes.
                    self.kill();
                    ending = Some(Ending::Hang);
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        outcome.ending = ending.unwrap_or(Ending::Hang);
        outcome.took = self.started.elapsed();
        outcome
    }
}

fn drain(
    mut pipe: impl Read + Send + 'static,
    sender: mpsc::Sender<Part>,
    part: fn(Vec<u8>) -> Part,
) {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(part(bytes));
    });
}

fn feed(child: &mut Child, invocation: &Invocation) -> Option<std::process::ChildStdin> {
    let mut pipe = child.stdin.take()?;
    // A pipe takes 64 KiB without a reader; only longer requests need a thread.
    if invocation.stdin.len() <= 4096 {
        // EPIPE: a program need not read what it has no use for.
        let _ = pipe.write_all(&invocation.stdin);
        return invocation.stdin_stays_open.then_some(pipe);
    }
    let bytes = invocation.stdin.clone();
    thread::spawn(move || {
        let _ = pipe.write_all(&bytes);
    });
    None
}
