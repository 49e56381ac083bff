//! The log that a configuration asks for (`logFile`, `logLevel`, `logToStderr`, `logOptions`), beside stderr.
//!
//! Many processes write the same file at the same time: each line is one write to its end. A log that can't be
//! written is said once on stderr and is no reason to fail.

mod clock;
mod rotation;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use cni::json::Value;
use cni::{Code, Error};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Deserialize;

use rotation::Rotation;

/// The keys as they are written.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    log_file: String,
    log_level: String,
    log_to_stderr: bool,
    log_options: rotation::Options,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            log_file: String::new(),
            log_level: String::new(),
            log_to_stderr: true,
            log_options: rotation::Options::default(),
        }
    }
}

/// How much is logged, in the original's words. Each has all that stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Panic,
    Error,
    Verbose,
    Debug,
}

impl Amount {
    fn parse(text: &str) -> Option<Amount> {
        let words = [
            ("panic", Amount::Panic),
            ("error", Amount::Error),
            ("verbose", Amount::Verbose),
            ("debug", Amount::Debug),
        ];
        let same = |(word, _): &&(&str, Amount)| word.eq_ignore_ascii_case(text);
        words.iter().find(same).map(|(_, amount)| *amount)
    }

    /// The lines of this amount. The line of a panic is written in any case.
    fn filter(self) -> LevelFilter {
        match self {
            Amount::Panic => LevelFilter::Off,
            Amount::Error => LevelFilter::Error,
            Amount::Verbose => LevelFilter::Info,
            Amount::Debug => LevelFilter::Trace,
        }
    }
}

/// Starts logging as the configuration says, and returns what [`LogFile::tidy`] is to be called for at the end.
///
/// An unknown `logLevel` is said on stderr. Errors: code 6 when a key has the wrong type.
pub(crate) fn start(stdin: &[u8]) -> Result<Option<Rotation>, Error> {
    let keys: Keys = Value::parse(stdin)
        .and_then(|document| document.read())
        .map_err(|e| Error::new(Code::Decoding, format!("failed to load netconf: {e}")))?;
    let amount = match keys.log_level.as_str() {
        "" => Amount::Panic,
        text => Amount::parse(text).unwrap_or_else(|| {
            complain(&format!("cannot set logging level to {text}"));
            Amount::Panic
        }),
    };
    // Warnings are for the operator even where nothing was configured, as in the other plugins.
    let stderr = match keys.log_to_stderr {
        true => amount.filter().max(LevelFilter::Warn),
        false => LevelFilter::Off,
    };
    if keys.log_file.is_empty() {
        skel::log_also_to(None, stderr);
        return Ok(None);
    }
    let rotation = Rotation::new(PathBuf::from(keys.log_file), &keys.log_options);
    let file = LogFile::new(rotation.clone(), amount);
    skel::log_also_to(Some((Box::new(file), amount.filter())), stderr);
    Ok(Some(rotation))
}

/// A log file that may be another process's as well. It is opened when the first line comes.
struct LogFile {
    rotation: Rotation,
    amount: Amount,
    state: Mutex<State>,
}

enum State {
    Unopened,
    Open(File),
    /// It could not be opened; that has been said.
    Broken,
}

impl LogFile {
    fn new(rotation: Rotation, amount: Amount) -> LogFile {
        LogFile {
            rotation,
            amount,
            state: Mutex::new(State::Unopened),
        }
    }

    /// Writes one line to the end of the file, which begins anew when the line would make it too big.
    fn write(&self, line: &str, now: SystemTime) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let written = || -> io::Result<()> {
            if matches!(*state, State::Unopened) {
                *state = State::Open(open(self.rotation.path())?);
            }
            let State::Open(file) = &mut *state else {
                return Ok(());
            };
            if let Some(new) = self.rotation.rotate(file, line.len(), now)? {
                *file = new;
            }
            file.write_all(line.as_bytes())
        };
        if let Err(e) = { written }() {
            *state = State::Broken;
            let path = self.rotation.path().display();
            complain(&format!("cannot write the log file {path}: {e}"));
        }
    }
}

impl Log for LogFile {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.amount.filter() || metadata.target() == skel::PANIC
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = SystemTime::now();
            self.write(&line(record, now), now);
        }
    }

    fn flush(&self) {}
}

/// `<time> [level] message`. The original has no level for warnings: they are verbose lines that say what they are.
fn line(record: &Record<'_>, now: SystemTime) -> String {
    let (level, warning) = match record.level() {
        _ if record.target() == skel::PANIC => ("panic", ""),
        Level::Error => ("error", ""),
        Level::Warn => ("verbose", "warning: "),
        Level::Info => ("verbose", ""),
        Level::Debug | Level::Trace => ("debug", ""),
    };
    // What a pod's owner wrote in an annotation must not look like a line of ours.
    let message = record.args().to_string();
    let message = message.replace('\n', "\\n").replace('\r', "\\r");
    let time = clock::rfc3339(now);
    format!("{time} [{level}] {warning}{message}\n")
}

/// Opens a log file for writing at its end; makes it (0600), and its folder (0755), if they are not there.
fn open(path: &Path) -> io::Result<File> {
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
    };
    match (open(), path.parent()) {
        (Err(e), Some(folder)) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// Says on stderr what is wrong with the log, since the log can't.
fn complain(what: &str) {
    let _ = io::stderr().write_all(format!("multus logging: {what}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn record(level: Level, target: &str, message: &str) -> String {
        let now = UNIX_EPOCH + Duration::from_secs(1_764_084_245);
        let mut builder = Record::builder();
        line(
            &builder
                .level(level)
                .target(target)
                .args(format_args!("{message}"))
                .build(),
            now,
        )
    }

    #[test]
    fn lines_have_the_originals_form() {
        let at = "2025-11-25T15:24:05Z";
        for (level, target, expected) in [
            (Level::Error, "x", "[error] a"),
            (Level::Warn, "x", "[verbose] warning: a"),
            (Level::Info, "x", "[verbose] a"),
            (Level::Debug, "x", "[debug] a"),
            (Level::Trace, "x", "[debug] a"),
            (Level::Error, skel::PANIC, "[panic] a"),
        ] {
            assert_eq!(record(level, target, "a"), format!("{at} {expected}\n"));
        }
        let forged = record(Level::Info, "x", "a\n2025-01-01T00:00:00Z [error] b\r\n");
        assert_eq!(forged.matches('\n').count(), 1, "{forged}");
    }

    #[test]
    fn levels_are_words_in_any_case() {
        for (text, amount) in [
            ("debug", Some(Amount::Debug)),
            ("VERBOSE", Some(Amount::Verbose)),
            ("Error", Some(Amount::Error)),
            ("panic", Some(Amount::Panic)),
            ("warn", None),
            ("", None),
        ] {
            assert_eq!(Amount::parse(text), amount, "{text}");
        }
    }

    #[test]
    fn each_amount_has_its_lines() {
        let path = std::env::temp_dir().join(format!("log-amount-{}", std::process::id()));
        for (amount, lines) in [
            (Amount::Panic, 1),
            (Amount::Error, 2),
            (Amount::Verbose, 4),
            (Amount::Debug, 6),
        ] {
            let options = rotation::Options::default();
            let file = LogFile::new(Rotation::new(path.clone(), &options), amount);
            for level in Level::iter() {
                file.log(
                    &Record::builder()
                        .level(level)
                        .target("x")
                        .args(format_args!("a"))
                        .build(),
                );
            }
            let panic = Record::builder()
                .level(Level::Error)
                .target(skel::PANIC)
                .args(format_args!("a"))
                .build();
            file.log(&panic);
            assert_eq!(
                fs::read_to_string(&path).unwrap().lines().count(),
                lines,
                "{amount:?}"
            );
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_log_that_can_not_be_written_is_no_failure() {
        let options = rotation::Options::default();
        for path in ["/proc/self/no/such/place", "/"] {
            let file = LogFile::new(Rotation::new(path.into(), &options), Amount::Debug);
            for _ in 0..2 {
                file.log(
                    &Record::builder()
                        .level(Level::Error)
                        .args(format_args!("a"))
                        .build(),
                );
            }
            assert!(
                matches!(*file.state.lock().unwrap(), State::Broken),
                "{path}"
            );
        }
    }

    #[test]
    fn keys_of_the_wrong_type_are_an_error() {
        for bad in [
            r#"{"logLevel":5}"#,
            r#"{"logToStderr":"no"}"#,
            r#"{"logOptions":{"maxSize":"1"}}"#,
        ] {
            assert_eq!(
                start(bad.as_bytes()).unwrap_err().code,
                Code::Decoding,
                "{bad}"
            );
        }
        for good in ["{}", r#"{"logLevel":"loud","logOptions":null}"#] {
            assert!(start(good.as_bytes()).unwrap().is_none(), "{good}");
        }
    }
}
