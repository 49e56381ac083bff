//! What this node keeps in files: written in one step, and one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{Code, Error, json};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a lock is waited for. Who holds it waits for the API server and for delegates, which have limits themselves.
const LIMIT: Duration = Duration::from_secs(60);

/// Reads a document; `None` if it is not there. Errors: code 5, code 6.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path, &e)),
    };
    let document = json::from_slice(&text).map_err(|e| {
        let why = format!("{} is damaged: {e}; delete it", path.display());
        Error::new(Code::Decoding, why)
    })?;
    Ok(Some(document))
}

/// Writes a document in one step: a process that is killed leaves the old one or the new one. Errors: code 5.
pub(crate) fn write(path: &Path, document: &impl Serialize) -> Result<(), Error> {
    let new = path.with_extension("new");
    let text = json::compact(document);
    let write = || {
        let mut file = open(&new, true)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(|e| failed("write", path, &e))
}

/// Removes a file. Not there is success. Errors: code 5.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, &e)),
        _ => Ok(()),
    }
}

/// Makes a folder that only root can look into.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| failed("make", path, &e))
}

/// The paths in a folder whose names end with `ending`. A folder that is not there has none.
pub(crate) fn list(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, Error> {
    let mut paths = list_all(folder)?;
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    Ok(paths)
}

fn list_all(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("read", folder, &e)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths
        .collect::<io::Result<_>>()
        .map_err(|e| failed("read", folder, &e))?;
    paths.sort();
    Ok(paths)
}

/// The folders in a folder. One that is not there has none.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = list_all(folder)?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

fn failed(what: &str, path: &Path, e: &io::Error) -> Error {
    Error::new(
        Code::Io,
        format!("failed to {what} {}: {e}", path.display()),
    )
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(0o600);
    options.open(path)
}

/// A lock that the other processes of this node respect. It ends with this value and with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock `path`, whose folder is there. Error, code 11: another process holds it for a minute.
    pub(crate) fn acquire(path: &Path) -> Result<Lock, Error> {
        loop {
            let file = open(path, false).map_err(|e| failed("open", path, &e))?;
            let taken = skel::Lock::Exclusive.take(&file, LIMIT);
            if !taken.map_err(|e| failed("lock", path, &e))? {
                let why = format!(
                    "another process holds the lock {} for {LIMIT:?}",
                    path.display()
                );
                return Err(Error::new(Code::TryAgainLater, why));
            }
            let path = path.to_owned();
            let lock = Lock { file, path };
            // Whoever had it before may have removed it: then the next one locks another file.
            let is_there = |own: fs::Metadata| {
                fs::metadata(&lock.path)
                    .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()))
            };
            if lock.file.metadata().is_ok_and(is_there) {
                return Ok(lock);
            }
        }
    }

    /// Ends the lock and removes its file.
    pub(crate) fn remove(self) -> Result<(), Error> {
        remove(&self.path)
    }
}

/// A random UUID, version 4, as the kernel makes it.
pub(crate) fn uuid() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let text = fs::read_to_string(path).map_err(|e| failed("read", path, &e))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = std::env::temp_dir().join(format!("danm-shim-files-{}", std::process::id()));
        make_folder(&folder).unwrap();
        let (path, counter) = (folder.join("lock"), folder.join("counter.json"));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..25 {
                        let lock = Lock::acquire(&path).unwrap();
                        let count: Option<u32> = read(&counter).unwrap();
                        write(&counter, &(count.unwrap_or_default() + 1)).unwrap();
                        if round % 3 == 0 {
                            lock.remove().unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(read(&counter).unwrap(), Some(200_u32));
        assert_eq!(
            list(&folder, "json").unwrap(),
            std::slice::from_ref(&counter)
        );
        fs::write(&counter, "{").unwrap();
        assert_eq!(read::<u32>(&counter).unwrap_err().code, Code::Decoding);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read::<u32>(&counter).unwrap(), None);
        assert!(list(&folder, "json").unwrap().is_empty());
    }

    #[test]
    fn uuids_are_of_version_4() {
        let [one, two] = [uuid().unwrap(), uuid().unwrap()];
        assert_ne!(one, two);
        assert_eq!((one.len(), one.chars().nth(14)), (36, Some('4')));
    }
}
