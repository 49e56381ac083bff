//! A folder of plugins that are shell scripts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use invoke::Delegate;

/// Longer than any of these plugins takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A folder with plugins in it, removed at the end.
pub(crate) struct Bin(pub(crate) PathBuf);

impl Bin {
    pub(crate) fn new(name: &str) -> Bin {
        let dir = std::env::temp_dir().join(format!("invoke-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Bin(dir)
    }

    /// Adds a plugin that is this shell script. `$d` is the folder.
    pub(crate) fn script(self, kind: &str, body: &str) -> Bin {
        let path = self.0.join(kind);
        fs::write(&path, format!("#!/bin/sh\nd={}\n{body}\n", self.path())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn find(&self, kind: &str) -> Delegate {
        Delegate::find(kind, self.path(), LIMIT).unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Bin {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
