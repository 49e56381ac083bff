//! One call at a time for one container: runtimes repeat calls that they think are lost, while those still run.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni::{Code, Error};

/// Held as long as this value is there, however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

/// Locks the container: the file `<dir>/.<container id>.lock`.
///
/// Errors: code 11 when another call keeps it longer than `limit`, code 5 when there is no place for the file.
pub(crate) fn take(dir: &Path, container_id: &str, limit: Duration) -> Result<Lock, Error> {
    let path = dir.join(format!(".{container_id}.lock"));
    let deadline = Instant::now() + limit;
    let failed =
        |e: io::Error| Error::new(Code::Io, format!("failed to lock {}: {e}", path.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    loop {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if !skel::Lock::Exclusive.take(&file, left).map_err(failed)? {
            let why =
                format!("another call for container {container_id} has not ended in {limit:?}");
            return Err(Error::new(Code::TryAgainLater, why));
        }
        // Whoever had it before may have removed it.
        if is_at(&file, &path) {
            return Ok(Lock { path, _file: file });
        }
    }
}

/// The file is there as long as the lock is held. Those who wait for it see that it is gone, and make another.
impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.path) {
            log::warn!("{}: {e}", self.path.display());
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(own), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (own.dev(), own.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = std::env::temp_dir().join(format!("multus-lock-{}", std::process::id()));
        let first = take(&dir, "c1", Duration::from_secs(1)).unwrap();
        let late = take(&dir, "c1", Duration::from_millis(50)).unwrap_err();
        assert_eq!(late.code, Code::TryAgainLater);
        let other = take(&dir, "c2", Duration::from_millis(50)).unwrap();
        let path = dir.clone();
        let waiter = thread::spawn(move || take(&path, "c1", Duration::from_secs(20)).is_ok());
        thread::sleep(Duration::from_millis(100));
        drop(first);
        assert!(waiter.join().unwrap());
        drop(other);
        fs::remove_dir_all(&dir).unwrap();
    }
}
