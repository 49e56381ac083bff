//! One set-up at a time: between reading the table and writing it, no other may take the same host port.
//!
//! The lock is a courtesy between our own processes. What must never happen twice, the shared rules, does not
//! depend on it (see the `script` module), so that a host where no lock can be had still works.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::Duration;

use cni::{Code, Error};
use skel::Lock;

const DIRECTORY: &str = "/run/cni";
const FILE: &str = "/run/cni/portmap.lock";
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes the lock; the kernel gives it back when the file is closed, however the process ends.
///
/// `None` when there is no place for it. Errors: code 11 when another process keeps it.
pub(super) fn take() -> Result<Option<File>, Error> {
    let file = match open() {
        Ok(file) => file,
        Err(e) => {
            log::warn!(
                "{FILE}: {e}; two containers that ask for the same port now may both get it"
            );
            return Ok(None);
        }
    };
    match Lock::Exclusive.take(&file, PATIENCE) {
        Ok(true) => Ok(Some(file)),
        Ok(false) => {
            let seconds = PATIENCE.as_secs();
            let why = format!("another portmap has kept {FILE} locked for {seconds} seconds");
            Err(Error::new(Code::TryAgainLater, why))
        }
        Err(e) => {
            log::warn!("{FILE} can't be locked: {e}");
            Ok(None)
        }
    }
}

/// Only root may open the file: whoever can open it can lock it.
fn open() -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(DIRECTORY)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(FILE)
}
