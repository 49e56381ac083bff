//! Making files and directories of a pool, and saying what failed in the words people search for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use cni::{Code, Error};
use nix::unistd::AccessFlags;

/// `open /a/b: no such file or directory`, as the original says it. Code 5.
pub(crate) fn failed(step: &str, path: &Path, error: &io::Error) -> Error {
    let mut why = match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    };
    if let Some(first) = why.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    Error::new(Code::Io, format!("{step} {}: {why}", path.display()))
}

/// Makes a file that is not there yet, mode 0600.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes a file that is not there yet, with this content; when the content can't be written there is no file.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create_new(path)?;
    file.write_all(content).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Makes a directory and those above it, mode 0755. The error names the one that could not be made.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    let make = || DirBuilder::new().mode(0o755).create(path);
    let made = match (make(), path.parent()) {
        (Err(e), Some(parent)) if is_missing(&e) => {
            make_directory(parent)?;
            make()
        }
        (made, _) => made,
    };
    match made {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => match path.is_dir() {
            true => Ok(()),
            false => Err(failed("mkdir", path, &nix::errno::Errno::ENOTDIR.into())),
        },
        made => made.map_err(|e| failed("mkdir", path, &e)),
    }
}

/// Whether [`make_directory`] would work, as far as can be told without trying. The error is the one it would give.
pub(crate) fn check_can_make(path: &Path) -> Result<(), Error> {
    let above = path.ancestors().find(|above| above.exists());
    let above = above.unwrap_or(Path::new("."));
    if !above.is_dir() {
        return Err(failed("mkdir", above, &nix::errno::Errno::ENOTDIR.into()));
    }
    let access = nix::unistd::access(above, AccessFlags::W_OK);
    access.map_err(|errno| failed("mkdir", path, &errno.into()))
}

/// Whether a file is not there because its directory is not there either, or is none.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
