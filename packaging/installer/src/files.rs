//! Files that others read at any moment: each appears whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Gives a file this content and mode, in one step and so that a power cut leaves either the old or the new one.
/// A file that has them already is left alone. Returns whether it was written.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<bool, String> {
    put(path, content, mode).map_err(|e| format!("{}: {e}", path.display()))
}

fn put(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    if has(path, content, mode) {
        return Ok(false);
    }
    // Two installers on one node, an old one and its successor, take turns.
    let directory = File::open(folder)?;
    directory.lock()?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = folder.join(hidden);
    // One that was killed may have left its own: it may be anything, so it is made anew.
    remove(&new)?;
    let written = write_new(&new, content, mode).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = remove(&new);
    }
    written?;
    directory.sync_all()?;
    Ok(true)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // Past the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Whether it is a file of its own (no link to another one) with this content and mode.
fn has(path: &Path, content: &[u8], mode: u32) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return false;
    };
    if !meta.is_file()
        || meta.permissions().mode() & 0o7777 != mode
        || meta.len() != content.len() as u64
    {
        return false;
    }
    let mut bytes = Vec::with_capacity(content.len());
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .is_ok()
        && bytes == content
}

/// Removes a file; one that is not there is removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Reads a file that is named in an error.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Makes a folder and what is above it; one that is there is left alone.
pub(crate) fn make_folder(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The files of a folder by name, without hidden ones, in order of their names.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| format!("{}: {e}", folder.display()))?;
    let hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|path| !hidden(path) && path.is_file());
    files.sort();
    Ok(files)
}
