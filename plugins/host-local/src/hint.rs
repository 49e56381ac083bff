//! `last_reserved_ip.<i>`: where range set i goes on looking. A hint; nothing fails because of it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::files::{create_new, failed};

/// What the file said, and the file, open for what it shall say next.
#[derive(Debug)]
pub(crate) struct Hint {
    path: PathBuf,
    file: Option<File>,
    length: usize,
    /// The address handed out last, if the file says one. A final newline makes it say none, as in the original.
    pub(crate) address: Option<IpAddr>,
}

impl Hint {
    /// Reads the file of range set `set`.
    pub(crate) fn read(pool: &Path, set: usize) -> Hint {
        let path = pool.join(format!("last_reserved_ip.{set}"));
        let mut text = [0; 64];
        let read = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .and_then(|file| Ok((file.read_at(&mut text, 0)?, file)));
        let (length, file) = match read {
            Ok((length, file)) => (length, Some(file)),
            Err(e) => {
                if e.kind() != ErrorKind::NotFound {
                    log::warn!("{}", failed("open", &path, &e));
                }
                (0, None)
            }
        };
        let text = str::from_utf8(text.split_at(length).0).unwrap_or_default();
        Hint {
            address: text.parse().ok(),
            path,
            file,
            length,
        }
    }

    /// Writes down that `ip` was handed out last. `true` when that made a file in the pool's directory.
    pub(crate) fn write(self, ip: IpAddr) -> bool {
        let text = ip.to_string();
        let is_new = self.file.is_none();
        let written = match self.file {
            Some(file) => file.write_all_at(text.as_bytes(), 0).and_then(|()| {
                if text.len() < self.length {
                    file.set_len(text.len() as u64)?;
                }
                Ok(())
            }),
            None => create_new(&self.path).and_then(|mut file| file.write_all(text.as_bytes())),
        };
        if let Err(e) = written {
            log::warn!("{}", failed("write", &self.path, &e));
        }
        is_new
    }
}
