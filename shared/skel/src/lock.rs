//! Waiting for the lock of a file, but not for ever.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Who else may have the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Nobody.
    Exclusive,
    /// Others that asked for this too.
    Shared,
}

impl Lock {
    /// Takes the lock (`flock(2)`) and holds it until `file` is closed. `false` when others have kept it for the whole `limit`.
    ///
    /// After that the process should come to its end: it may still get the lock.
    pub fn take(self, file: &File, limit: Duration) -> io::Result<bool> {
        let tried = match self {
            Lock::Exclusive => file.try_lock(),
            Lock::Shared => file.try_lock_shared(),
        };
        match tried {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // The system call knows no limit, so a thread waits in it. The lock belongs to what was opened and not to who waits: it is
        // ours through either descriptor.
        let other = file.try_clone()?;
        let (sender, taken) = mpsc::channel();
        thread::Builder::new().spawn(move || {
            let locked = match self {
                Lock::Exclusive => other.lock(),
                Lock::Shared => other.lock_shared(),
            };
            // Nobody listens any more when the limit has passed.
            let _ = sender.send(locked);
        })?;
        match taken.recv_timeout(limit) {
            Ok(locked) => locked.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A file that has been opened twice, as by two processes.
    fn opened_twice(name: &str) -> [File; 2] {
        let path = std::env::temp_dir().join(format!("skel-{name}-{}", std::process::id()));
        let files = [File::create(&path).unwrap(), File::open(&path).unwrap()];
        std::fs::remove_file(path).unwrap();
        files
    }

    #[test]
    fn others_are_waited_for_and_not_for_ever() {
        let [other, own] = opened_twice("limit");
        other.lock().unwrap();
        let started = Instant::now();
        let limit = Duration::from_millis(50);
        assert!(!Lock::Shared.take(&own, limit).unwrap());
        assert!(started.elapsed() >= limit);
    }

    #[test]
    fn a_lock_that_comes_free_is_taken_and_held() {
        let [other, own] = opened_twice("free");
        other.lock().unwrap();
        let limit = Duration::from_secs(60);
        thread::scope(|scope| {
            let taking = scope.spawn(|| Lock::Exclusive.take(&own, limit).unwrap());
            thread::sleep(Duration::from_millis(20));
            other.unlock().unwrap();
            assert!(taking.join().unwrap());
        });
        assert!(
            other.try_lock().is_err(),
            "the waiting thread has ended, the lock is held"
        );
        drop(own);
        other.lock().unwrap();
    }

    #[test]
    fn readers_share() {
        let [one, two] = opened_twice("readers");
        for file in [&one, &two] {
            assert!(Lock::Shared.take(file, Duration::ZERO).unwrap());
        }
    }
}
