//! Old log files: `multus.log` becomes `multus-2026-11-25T15-04-05.000.log`, and later that with `.gz`.
//!
//! These are the names that the original's logger gives, which collectors of logs look for.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

use super::{clock, open};

/// `logOptions`, as they are written.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Options {
    /// Days; 0 is for ever.
    max_age: u64,
    /// MiB; 0 means the default.
    max_size: u64,
    /// How many old files are kept; 0 is all.
    max_backups: usize,
    compress: bool,
}

const DEFAULT_SIZE: u64 = 100;

impl Default for Options {
    fn default() -> Options {
        Options {
            max_age: 5,
            max_size: DEFAULT_SIZE,
            max_backups: 5,
            compress: true,
        }
    }
}

/// A log file and the rules for its old ones.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    path: PathBuf,
    max_bytes: u64,
    max_age: Option<Duration>,
    max_backups: usize,
    compress: bool,
}

/// Calls that have an old file open yet have ended by then.
const SETTLED: Duration = Duration::from_secs(120);

const GZ: &str = ".gz";

impl Rotation {
    pub(super) fn new(path: PathBuf, options: &Options) -> Rotation {
        let days = |days: u64| Duration::from_secs(days.saturating_mul(86_400));
        let size = match options.max_size {
            0 => DEFAULT_SIZE,
            size => size,
        };
        Rotation {
            path,
            max_bytes: size.saturating_mul(1 << 20),
            max_age: (options.max_age > 0).then(|| days(options.max_age)),
            max_backups: options.max_backups,
            compress: options.compress,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file to go on with when `length` bytes more are too many for this one; else `None`.
    ///
    /// One process renames the file; the others find the new one, or write to the old one meanwhile.
    pub(super) fn rotate(
        &self,
        file: &File,
        length: usize,
        now: SystemTime,
    ) -> io::Result<Option<File>> {
        let ours = file.metadata()?;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if !ours.is_file() || ours.len().saturating_add(length) <= self.max_bytes {
            return Ok(None);
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let is_ours = |found: &fs::Metadata| (found.dev(), found.ino()) == (ours.dev(), ours.ino());
        if fs::metadata(&self.path).is_ok_and(|found| is_ours(&found)) {
            fs::rename(&self.path, self.old_name(&clock::of_file_name(now)))?;
        }
        open(&self.path).map(Some)
    }

    /// Removes old files that are too many or too old, and compresses the others.
    ///
    /// It may take a second for each 100 MB, so it has its place at the end of a DEL or GC, which nobody waits for.
    pub(crate) fn tidy(&self) {
        if let Err(e) = self.tidy_at(SystemTime::now()) {
            log::warn!("old files of the log {}: {e}", self.path.display());
        }
    }

    fn tidy_at(&self, now: SystemTime) -> io::Result<()> {
        let old = self.old_files()?;
        let stamp = |age: Duration| now.checked_sub(age).map(clock::of_file_name);
        let too_old = self.max_age.and_then(stamp).unwrap_or_default();
        let settled = stamp(SETTLED).unwrap_or_default();
        let mut stamps: Vec<&str> = Vec::new();
        for (time, path) in &old {
            if !stamps.contains(&time.as_str()) {
                stamps.push(time);
            }
            let too_many = self.max_backups > 0 && stamps.len() > self.max_backups;
            let is_compressed = path.as_os_str().as_encoded_bytes().ends_with(GZ.as_bytes());
            if too_many || *time < too_old {
                remove(path)?;
            } else if self.compress && !is_compressed && *time < settled {
                compress(path)?;
            }
        }
        Ok(())
    }

    /// The old files with the time in their name, the newest first.
    fn old_files(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let (stem, extension) = self.name();
        let mut old = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let plain = name.strip_suffix(GZ).unwrap_or(name);
            let time = plain
                .strip_prefix(&stem)
                .and_then(|rest| rest.strip_prefix('-'))
                .and_then(|rest| rest.strip_suffix(&extension));
            if let Some(time) = time.filter(|time| clock::is_of_file_name(time)) {
                old.push((time.to_owned(), entry.path()));
            }
        }
        old.sort();
        old.reverse();
        Ok(old)
    }

    fn old_name(&self, time: &str) -> PathBuf {
        let (stem, extension) = self.name();
        self.folder().join(format!("{stem}-{time}{extension}"))
    }

    /// The file's name before its last dot, and the rest.
    fn name(&self) -> (String, String) {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        match name.rfind('.') {
            Some(dot) => {
                let (stem, extension) = name.split_at(dot);
                (stem.to_owned(), extension.to_owned())
            }
            None => (name.into_owned(), String::new()),
        }
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }
}

/// Another process may have been faster.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Puts a compressed file in the place of this one. One process does it; what one that was killed has left of it
/// is overwritten by the next.
fn compress(path: &Path) -> io::Result<()> {
    let source = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    match source.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (done, unfinished) = (with(GZ), with(".gz.new"));
    remove(&unfinished)?;
    let mut writer = GzEncoder::new(open(&unfinished)?, Compression::fast());
    let written = io::copy(&mut &source, &mut writer).and_then(|_| writer.finish()?.flush());
    written
        .and_then(|()| fs::rename(&unfinished, &done))
        .inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })?;
    remove(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::time::UNIX_EPOCH;

    use flate2::read::GzDecoder;

    use super::*;

    const START: Duration = Duration::from_secs(1_764_084_245);

    fn rotation(name: &str) -> Rotation {
        let folder = std::env::temp_dir().join(format!("log-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let options = Options {
            max_size: 1,
            ..Options::default()
        };
        Rotation::new(folder.join("deeper/multus.log"), &options)
    }

    fn names(rotation: &Rotation) -> Vec<String> {
        let entries = fs::read_dir(rotation.folder()).unwrap();
        let name =
            |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    fn clean(rotation: &Rotation) {
        fs::remove_dir_all(rotation.folder().parent().unwrap()).unwrap();
    }

    #[test]
    fn a_full_file_gets_a_name_with_the_time() {
        let rotation = rotation("full");
        let now = UNIX_EPOCH + START;
        let ours = open(rotation.path()).unwrap();
        let mode = ours.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        ours.set_len((1 << 20) - 5).unwrap();
        assert!(rotation.rotate(&ours, 5, now).unwrap().is_none());
        let other = open(rotation.path()).unwrap();

        let mut new = rotation.rotate(&ours, 6, now).unwrap().unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(
            names(&rotation),
            ["multus-2025-11-25T15-24-05.000.log", "multus.log"]
        );
        assert_eq!(fs::read(rotation.path()).unwrap(), b"new");

        // Another process has the old file open: it finds the new one, and renames nothing.
        assert!(
            rotation.rotate(&other, 6, now).unwrap().is_none(),
            "ours is locked"
        );
        drop(ours);
        let mut found = rotation.rotate(&other, 6, now).unwrap().unwrap();
        found.write_all(b"er").unwrap();
        assert_eq!(fs::read(rotation.path()).unwrap(), b"newer");
        assert_eq!(names(&rotation).len(), 2);
        clean(&rotation);
    }

    #[test]
    fn old_files_are_compressed_and_go() {
        let mut rotation = rotation("old");
        rotation.max_backups = 3;
        open(rotation.path()).unwrap();
        let day = Duration::from_secs(86_400);
        let now = UNIX_EPOCH + START;
        for age in [0, 1, 2, 3, 4] {
            let name = rotation.old_name(&clock::of_file_name(now - day * age));
            fs::write(name, format!("{age} days")).unwrap();
        }
        for other in [
            "multus-notes.log",
            "multus-2025-11-25T15-24-05.000.txt",
            "other-2020-11-25T15-24-05.000.log",
        ] {
            fs::write(rotation.folder().join(other), "").unwrap();
        }
        rotation.tidy_at(now).unwrap();
        rotation.tidy_at(now).unwrap();
        let expected = [
            "multus-2025-11-23T15-24-05.000.log.gz",
            "multus-2025-11-24T15-24-05.000.log.gz",
            "multus-2025-11-25T15-24-05.000.log",
            "multus-2025-11-25T15-24-05.000.txt",
            "multus-notes.log",
            "multus.log",
            "other-2020-11-25T15-24-05.000.log",
        ];
        assert_eq!(names(&rotation), expected);
        let compressed = File::open(rotation.folder().join(expected[1])).unwrap();
        let mut text = String::new();
        GzDecoder::new(compressed)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "1 days");

        rotation.tidy_at(now + day * 5).unwrap();
        assert_eq!(names(&rotation)[0], "multus-2025-11-25T15-24-05.000.log.gz");
        rotation.tidy_at(now + day * 6).unwrap();
        assert_eq!(names(&rotation).len(), 4);
        clean(&rotation);
    }

    #[test]
    fn what_a_killed_process_has_left_is_overwritten() {
        let rotation = rotation("killed");
        open(rotation.path()).unwrap();
        let old = rotation.old_name("2025-11-25T15-24-05.000");
        fs::write(&old, "whole").unwrap();
        fs::write(format!("{}.gz.new", old.display()), "half of a long file").unwrap();
        let held = File::open(&old).unwrap();
        held.lock().unwrap();
        compress(&old).unwrap();
        assert!(old.exists(), "another process is at it");
        drop(held);
        compress(&old).unwrap();
        assert_eq!(
            names(&rotation),
            ["multus-2025-11-25T15-24-05.000.log.gz", "multus.log"]
        );
        clean(&rotation);
    }

    #[test]
    fn many_writers_lose_no_line() {
        let rotation = rotation("many");
        let line = format!("{}\n", "x".repeat(9999));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..60 {
                        let mut file = open(rotation.path()).unwrap();
                        let new = rotation
                            .rotate(&file, line.len(), SystemTime::now())
                            .unwrap();
                        if let Some(new) = new {
                            file = new;
                        }
                        file.write_all(line.as_bytes()).unwrap();
                    }
                });
            }
        });
        let all: usize = names(&rotation)
            .iter()
            .map(|name| {
                fs::read_to_string(rotation.folder().join(name))
                    .unwrap()
                    .lines()
                    .count()
            })
            .sum();
        assert_eq!(all, 8 * 60);
        assert!(names(&rotation).len() >= 4);
        clean(&rotation);
    }
}
