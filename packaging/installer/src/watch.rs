//! Waiting for something to happen: a file in one of the folders, or a signal to end.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What can be waited for.
pub(crate) struct Watch {
    files: Inotify,
    signals: SignalFd,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Change {
    /// A signal to end.
    Told(Signal),
    /// Files came, went or were written.
    Files {
        /// Whether one came or was written to its end; if not, some only went.
        arrived: bool,
    },
}

/// A file is whole when its writer closes it or when it gets its name; a link is whole at once.
const ARRIVED: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CREATE);
const WENT: AddWatchFlags = AddWatchFlags::IN_DELETE.union(AddWatchFlags::IN_MOVED_FROM);

impl Watch {
    /// Watches for SIGTERM and SIGINT, which from now on end nothing by themselves (as the first process of a
    /// container this program would not even notice them otherwise).
    pub(crate) fn new() -> Result<Watch, String> {
        let make = || {
            let mut set = SigSet::empty();
            set.add(Signal::SIGTERM);
            set.add(Signal::SIGINT);
            set.thread_block()?;
            let signals =
                SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
            let files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            Ok(Watch { files, signals })
        };
        make().map_err(|e: Errno| format!("signals and files can't be watched: {e}"))
    }

    /// Adds a folder. Watch before looking: what happens in between is told then.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<(), String> {
        let flags = ARRIVED | WENT | AddWatchFlags::IN_ONLYDIR;
        self.files
            .add_watch(path, flags)
            .map(drop)
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Waits for the next change. What happens at once is told at once.
    pub(crate) fn next(&mut self) -> Result<Change, String> {
        loop {
            let mut ready = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.files.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(format!("poll: {e}")),
            }
            if let Ok(Some(info)) = self.signals.read_signal() {
                let signal = i32::try_from(info.ssi_signo).ok();
                let signal = signal.and_then(|number| Signal::try_from(number).ok());
                return Ok(Change::Told(signal.unwrap_or(Signal::SIGTERM)));
            }
            let events = match self.files.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(e) => return Err(format!("inotify: {e}")),
            };
            if events
                .iter()
                .any(|e| e.mask.contains(AddWatchFlags::IN_IGNORED))
            {
                return Err("a folder that is watched is gone".to_owned());
            }
            // When there was too much to tell, anything may have come.
            let told = ARRIVED | AddWatchFlags::IN_Q_OVERFLOW;
            let arrived = events.iter().any(|e| e.mask.intersects(told));
            return Ok(Change::Files { arrived });
        }
    }
}
