//! The iptables tools of one family: where they are, and running them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kernel::nftables::{Family, Nftables};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::removal::legacy_table_exists;

/// Seconds that a tool waits for the lock of xtables.
const LOCK_SECONDS: &str = "10";
/// After this time a tool is ended: it waits for its lock, and hardly works at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// What stands behind the name `iptables`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Nft,
    Legacy,
    /// A script that chooses, or a tool from before there was a choice.
    Unknown,
}

/// `iptables-save` and `iptables-restore`, or those of ip6tables.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) family: Family,
    variant: Variant,
    save: Program,
    restore: Program,
}

#[derive(Debug)]
struct Program {
    path: PathBuf,
    name: String,
}

/// `iptables` or `ip6tables`.
pub(super) fn name(family: Family) -> &'static str {
    match family {
        Family::Ip => "iptables",
        Family::Ip6 => "ip6tables",
    }
}

impl Tool {
    /// Finds the tools of a family in `PATH`. The text of the error is that of the original.
    pub(super) fn find(family: Family) -> Result<Tool, String> {
        let name = name(family);
        let path = in_path(name)
            .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))?;
        Ok(Tool::at(family, &path))
    }

    /// The tools of the legacy tables, by their own name or because `iptables` is them.
    pub(super) fn find_legacy(family: Family) -> Option<Tool> {
        let own_name = in_path(&format!("{}-legacy", name(family)));
        let tool = match own_name {
            Some(path) => Tool::at(family, &path),
            None => Tool::find(family).ok()?,
        };
        (tool.variant != Variant::Nft).then_some(tool)
    }

    fn at(family: Family, path: &Path) -> Tool {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let file = real
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let variant = match file.as_str() {
            file if file.contains("nft") => Variant::Nft,
            file if file.contains("legacy") => Variant::Legacy,
            _ => Variant::Unknown,
        };
        // One binary is all the tools, and is told by its name which one to be. The link that was found may have
        // no brothers, or brothers of the other variant.
        let program = |verb: &str| {
            let name = format!("{}-{verb}", name(family));
            let is_many = file.starts_with("xtables-");
            let path = if is_many {
                real.clone()
            } else {
                path.with_file_name(&name)
            };
            Program { path, name }
        };
        Tool {
            family,
            variant,
            save: program("save"),
            restore: program("restore"),
        }
    }

    /// Whether its rules are rules of nf_tables, so that netlink shows them.
    pub(super) fn writes_nf_tables(&self) -> bool {
        self.variant == Variant::Nft
    }

    /// Whether the kernel has what the tool needs. A tool is run only where the kernel can't be asked.
    pub(super) fn works(&self) -> Result<(), String> {
        match self.variant {
            Variant::Nft => Nftables::open().map(drop).map_err(|e| e.to_string()),
            _ if legacy_table_exists(self.family) => Ok(()),
            Variant::Unknown if Nftables::open().is_ok() => Ok(()),
            _ => self.save().map(drop).map_err(|e| e.to_string()),
        }
    }

    /// Lists the nat table.
    pub(super) fn save(&self) -> Result<String, Failure> {
        self.save.run(&["-t", "nat"], "")
    }

    /// Carries out a script as one transaction.
    pub(super) fn restore(&self, script: &str) -> Result<(), Failure> {
        self.restore
            .run(&["--noflush", "-w", LOCK_SECONDS], script)
            .map(drop)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "skel reads the environment of a plugin; PATH is no part of it, and tools are found there"
)]
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// A tool that did not do what it was asked for.
#[derive(Debug)]
pub(super) struct Failure {
    command: String,
    why: String,
    /// It came to its own end, and refused.
    refused: bool,
}

impl Failure {
    /// The table may not be as the script takes it to be. The tools have no exit status for just that: to jump to a
    /// chain that is gone is "a target that can't be loaded".
    pub(super) fn is_about_rules(&self) -> bool {
        self.refused
    }

    /// The line of the script that it names, the first being 1.
    pub(super) fn line(&self) -> Option<usize> {
        let after = self.why.split("line ").nth(1)?;
        after
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "running [{}]: {}", self.command, self.why.trim_end())
    }
}

impl Program {
    fn run(&self, args: &[&str], input: &str) -> Result<String, Failure> {
        let path = self.path.display();
        let command = match self.path.ends_with(&self.name) {
            true => format!("{path} {}", args.join(" ")),
            false => format!("{path} {} {}", self.name, args.join(" ")),
        };
        let failure = |why: String, refused| Failure {
            command: command.clone(),
            why,
            refused,
        };
        let (status, stdout, stderr) =
            run(&self.path, &self.name, args, input).map_err(|e| failure(e.to_string(), false))?;
        if status.success() {
            return Ok(stdout);
        }
        Err(failure(
            format!("{status}: {stderr}"),
            status.code().is_some(),
        ))
    }
}

/// Runs a program to its end, or to the end of our patience.
fn run(
    path: &Path,
    name: &str,
    args: &[&str],
    input: &str,
) -> io::Result<(ExitStatus, String, String)> {
    let memory = |name| Ok::<_, io::Error>(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?));
    let mut stdin = memory(c"stdin")?;
    stdin.write_all(input.as_bytes())?;
    stdin.rewind()?;
    let mut stderr = memory(c"stderr")?;
    let mut child = spawn(path, name, args, stdin, stderr.try_clone()?)?;
    let stdout = read_to_end(&mut child);
    if stdout.is_err() {
        // It is waited for in any case, so that nothing of it is left.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let mut complaints = String::new();
    stderr.rewind()?;
    stderr.read_to_string(&mut complaints)?;
    Ok((status, stdout?, complaints))
}

#[expect(
    clippy::disallowed_methods,
    unsafe_code,
    reason = "the tools are no CNI plugins, which `invoke` is for; pre_exec is unsafe because of what may run \
              between fork and exec: two system calls and no allocation"
)]
fn spawn(path: &Path, name: &str, args: &[&str], stdin: File, stderr: File) -> io::Result<Child> {
    let parent = nix::unistd::getpid();
    let mut command = Command::new(path);
    command
        .arg0(name)
        .args(args)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(stderr);
    // A runtime that gives up kills this process only. A tool that lived on would write its rules after the
    // runtime's DEL; so it dies with us.
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

/// Reads what the child prints until it closes its stdout, which it does by ending.
fn read_to_end(child: &mut Child) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let Some(mut pipe) = child.stdout.take() else {
        return Ok(String::new());
    };
    let (mut all, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => {
                let why = format!("no end after {} seconds", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
            Ok(_) => {}
        }
        match pipe.read(&mut chunk)? {
            0 => return Ok(String::from_utf8_lossy(&all).into_owned()),
            n => all.extend(chunk.iter().take(n)),
        }
    }
}
