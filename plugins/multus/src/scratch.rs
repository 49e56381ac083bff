//! The scratch file of a container: with which configurations it was attached, for the DEL that comes later.
//!
//! It is `<cniDir>/<container id>`, a JSON array with one object for each attachment in the order of ADD. The
//! original reads and writes the same file, so a node can change from one to the other while pods run. Of the
//! original's keys only `Bytes` says everything, the configuration as the delegate got it; the others are kept so
//! that it can read our files, and the ones it doesn't know are ours.

mod entry;
mod restore;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni::json::Value;
use cni::{Code, Error};

pub(crate) use entry::Entry;

/// The folder of scratch files, `cniDir`. Calls for one container must not overlap.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    folder: PathBuf,
}

/// What the scratch file of a container says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Attachments {
    /// Each attachment that could be read, with its place in the file: 0 is the default network, and where the
    /// interface's name is not said, the n-th has `net<n>`.
    pub(crate) entries: Vec<(usize, Entry)>,
    /// What could not be read. Where this is not empty, attachments may be missing from `entries`.
    pub(crate) damage: Vec<String>,
}

impl Scratch {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Scratch {
        Scratch {
            folder: folder.into(),
        }
    }

    /// Reads the file of a container; `None` when there is none. Damage is no error: what can be read is read.
    ///
    /// Errors: code 5 when a file is there and the system doesn't let us read it.
    pub(crate) fn read(&self, container_id: &str) -> Result<Option<Attachments>, Error> {
        let path = self.path(container_id);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(parse(&bytes))),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(failed("read", &path, &e)),
        }
    }

    /// Writes the file of a container, whole or not at all, also when the power fails. Errors: code 5.
    pub(crate) fn write(&self, container_id: &str, entries: &[Entry]) -> Result<(), Error> {
        let (path, new) = (self.path(container_id), self.unfinished(container_id));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|e| failed("mkdir", &self.folder, &e))?;
        let document = entry::to_json(entries);
        write_and_sync(&new, document.as_bytes()).map_err(|e| failed("write", &new, &e))?;
        fs::rename(&new, &path).map_err(|e| {
            let _ = fs::remove_file(&new);
            failed("rename", &path, &e)
        })
    }

    /// Removes the file of a container, and what a write that was cut off has left. Nothing there is success.
    ///
    /// Errors: code 5.
    pub(crate) fn remove(&self, container_id: &str) -> Result<(), Error> {
        for path in [self.unfinished(container_id), self.path(container_id)] {
            match fs::remove_file(&path) {
                Err(e) if !is_missing(&e) => return Err(failed("remove", &path, &e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The containers that have a file, whole or cut off. Errors: code 5.
    pub(crate) fn containers(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if is_missing(&e) => return Ok(Vec::new()),
            Err(e) => return Err(failed("read", &self.folder, &e)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("read", &self.folder, &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let unfinished = name.strip_prefix('.').and_then(|n| n.strip_suffix(NEW));
            let id = unfinished.unwrap_or(&name).to_owned();
            if cni::names::is_identifier(&id) && entry.file_type().is_ok_and(|t| t.is_file()) {
                ids.push(id);
            }
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    fn path(&self, container_id: &str) -> PathBuf {
        self.folder.join(container_id)
    }

    /// No container id begins with a dot.
    fn unfinished(&self, container_id: &str) -> PathBuf {
        self.folder.join(format!(".{container_id}{NEW}"))
    }
}

/// How the name of a file ends that is being written.
const NEW: &str = ".new";

/// Reads the elements one after the other, so that those before a damaged place are not lost.
fn parse(bytes: &[u8]) -> Attachments {
    let mut found = Attachments::default();
    let text = bytes.trim_ascii();
    let Some(mut rest) = text.strip_prefix(b"[").map(<[u8]>::trim_ascii_start) else {
        found.damage.push(match text {
            b"" => "the file is empty".to_owned(),
            _ => "the file holds no JSON array".to_owned(),
        });
        return found;
    };
    for index in 0.. {
        if rest == b"]" && index == 0 {
            found.damage.push("the list is empty".to_owned());
        }
        if rest == b"]" {
            break;
        }
        let mut elements = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
        match elements.next() {
            Some(Ok(element)) => match Entry::read(&element) {
                Ok(entry) => found.entries.push((index, entry)),
                Err(why) => found.damage.push(format!("attachment {index}: {why}")),
            },
            Some(Err(e)) => {
                found.damage.push(format!("attachment {index}: {e}"));
                break;
            }
            None => {
                found
                    .damage
                    .push(format!("the file ends after {index} attachments"));
                break;
            }
        }
        let after = rest.get(elements.byte_offset()..).unwrap_or_default();
        let after = after.trim_ascii_start();
        rest = match after.strip_prefix(b",") {
            Some(next) => next.trim_ascii_start(),
            None => after,
        };
        if rest != b"]" && (after == rest || rest.is_empty()) {
            let why = format!("the list breaks off after attachment {index}");
            found.damage.push(why);
            break;
        }
    }
    found
}

/// The data has to be on the disk before the file gets its name: else a power failure leaves the name of an empty file.
fn write_and_sync(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_data());
    written.inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn failed(step: &str, path: &Path, error: &io::Error) -> Error {
    let msg = format!("scratch file: {step} {}: {error}", path.display());
    Error::new(Code::Io, msg)
}
