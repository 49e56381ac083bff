//! Kills a process when it sends a message to the kernel: the nth one of all that its threads send.

use std::process::Child;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    /// With this exit code, before it sent so many.
    Exited(i32),
}

/// Lets a process go on that has stopped itself and leads a process group, and kills it at its nth message. Processes that
/// it starts are not traced. Error: tracing is not possible here.
pub(crate) fn kill_at_message(stopped: Child, nth: u32) -> Result<End, Errno> {
    let leader = Pid::from_raw(i32::try_from(stopped.id()).unwrap());
    waitpid(leader, Some(WaitPidFlag::WUNTRACED))?;
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    if let Err(e) = ptrace::seize(leader, options) {
        let _ = kill(leader, Signal::SIGKILL);
        return Err(e);
    }
    kill(leader, Signal::SIGCONT)?;
    let group = Pid::from_raw(-leader.as_raw());
    let mut count = 0;
    loop {
        let (thread, signal) = match waitpid(group, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(pid, code) if pid == leader => return Ok(End::Exited(code)),
            WaitStatus::Signaled(pid, ..) if pid == leader => return Ok(End::Killed),
            WaitStatus::PtraceSyscall(thread) => {
                count += u32::from(is_message(thread)?);
                if count == nth {
                    kill(leader, Signal::SIGKILL)?;
                    // What dies needs no permission to go on.
                    continue;
                }
                (thread, None)
            }
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            _ => continue,
        };
        match ptrace::syscall(thread, signal) {
            // It has been killed meanwhile.
            Err(Errno::ESRCH) => {}
            done => done?,
        }
    }
}

/// Whether a thread is about to send a message.
fn is_message(thread: Pid) -> Result<bool, Errno> {
    let messages = [libc::SYS_sendto, libc::SYS_sendmsg].map(libc::c_long::cast_unsigned);
    match begun(thread) {
        // It has been killed meanwhile.
        Err(Errno::ESRCH) => Ok(false),
        number => Ok(number?.is_some_and(|number| messages.contains(&number))),
    }
}

/// The number of the system call that a thread begins; `None` where it ends one. User-Mode Linux has registers only.
#[cfg(target_arch = "x86_64")]
fn begun(thread: Pid) -> Result<Option<u64>, Errno> {
    let registers = ptrace::getregs(thread)?;
    let no_result_yet = (-i64::from(libc::ENOSYS)).cast_unsigned();
    Ok((registers.rax == no_result_yet).then_some(registers.orig_rax))
}

/// The number of the system call that a thread begins; `None` where it ends one.
#[cfg(not(target_arch = "x86_64"))]
fn begun(thread: Pid) -> Result<Option<u64>, Errno> {
    let info = ptrace::syscall_info(thread)?;
    let is_begun = info.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
    #[expect(unsafe_code, reason = "a union, and `op` says which member is there")]
    Ok(is_begun.then(|| unsafe { info.u.entry.nr }))
}
