//! Waiting for the file by which the default network says that it is ready.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use cni::{Code, Error};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Returns when the file is there. Errors, code 11: it has not come within the limit.
pub(crate) fn wait(file: &Path, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    while !file.exists() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || wait_for_change(file, left).is_err() {
            return Err(Error::new(Code::TryAgainLater, missing(file, limit)));
        }
    }
    Ok(())
}

fn missing(file: &Path, limit: Duration) -> String {
    format!(
        "have you checked that your default network is ready? still waiting for readinessindicatorfile @ {}: \
         it is not there after {limit:?}",
        file.display()
    )
}

/// Waits until something appears where the file will be, or its folder; or until the time is over.
fn wait_for_change(file: &Path, limit: Duration) -> nix::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let mut above = file.ancestors().skip(1);
    let folder = above.find(|folder| folder.is_dir()).ok_or(Errno::ENOENT)?;
    let events = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    inotify.add_watch(folder, events)?;
    // It may have come between the look and the watch.
    let next = file.ancestors().take_while(|path| *path != folder).last();
    if next.is_some_and(Path::exists) {
        return Ok(());
    }
    // Rounded up, or the last millisecond would be waited for again and again.
    let limit = limit + Duration::from_millis(1);
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Err(e) if e != Errno::EINTR => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn a_file_that_comes_later_in_a_folder_that_comes_later() {
        let dir = std::env::temp_dir().join(format!("multus-ready-{}", std::process::id()));
        let file = dir.join("net.d/ready");
        let comes = file.clone();
        let maker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            fs::create_dir_all(comes.parent().unwrap()).unwrap();
            thread::sleep(Duration::from_millis(150));
            fs::write(&comes, "").unwrap();
        });
        let start = Instant::now();
        wait(&file, Duration::from_secs(20)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(15));
        maker.join().unwrap();
        wait(&file, Duration::from_millis(1)).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_does_not_come() {
        let start = Instant::now();
        let error = wait(Path::new("/nowhere/ready"), Duration::from_millis(200)).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(
            error
                .msg
                .contains("readinessindicatorfile @ /nowhere/ready"),
            "{error}"
        );
    }
}
