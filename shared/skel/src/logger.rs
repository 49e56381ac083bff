//! Log lines on stderr, where runtimes collect them. `CNI_LOG_LEVEL` chooses how much; `warn` if not set.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::{LevelFilter, Log, Metadata, Record};

/// The target of the line that says why the plugin stopped in the middle. It is written wherever lines go.
pub const PANIC: &str = "panic";

/// The target of the line with the error that the runtime gets. It is for the second place: the runtime has it on stdout,
/// and shows stderr beside it.
pub(crate) const ANSWER: &str = "answer";

struct Logger {
    prefix: OnceLock<String>,
    /// `CNI_LOG_LEVEL`, if it says a level.
    asked_for: OnceLock<LevelFilter>,
    /// How much goes to stderr, a [`LevelFilter`] as a number.
    stderr: AtomicUsize,
    second: OnceLock<Box<dyn Log>>,
}

static LOGGER: Logger = Logger {
    prefix: OnceLock::new(),
    asked_for: OnceLock::new(),
    stderr: AtomicUsize::new(0),
    second: OnceLock::new(),
};

/// Sends all log lines to stderr, each led by `prefix` (the plugin's name).
pub(crate) fn install(prefix: &str, level: Option<&str>) {
    let _ = LOGGER.prefix.set(prefix.to_owned());
    if let Some(level) = level.and_then(|l| l.parse().ok()) {
        let _ = LOGGER.asked_for.set(level);
    }
    if log::set_logger(&LOGGER).is_ok() {
        log_also_to(None, LevelFilter::Warn);
    }
}

/// Where a plugin's configuration has its own word on logging: a second place for log lines, with its level, and how
/// much goes to stderr. `CNI_LOG_LEVEL` goes before what is said here of stderr.
pub fn log_also_to(second: Option<(Box<dyn Log>, LevelFilter)>, stderr: LevelFilter) {
    let stderr = LOGGER.asked_for.get().copied().unwrap_or(stderr);
    LOGGER.stderr.store(stderr as usize, Ordering::Relaxed);
    // The line of a panic is an error.
    let mut max = stderr.max(LevelFilter::Error);
    if let Some((place, level)) = second {
        max = max.max(level);
        let _ = LOGGER.second.set(place);
    }
    log::set_max_level(max);
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let to_stderr = record.level() as usize <= self.stderr.load(Ordering::Relaxed);
        if (to_stderr && record.target() != ANSWER) || record.target() == PANIC {
            let prefix = self.prefix.get().map_or("", String::as_str);
            let level = record.level().as_str().to_ascii_lowercase();
            let line = format!("{prefix}: {level}: {}\n", record.args());
            // Nobody can be told that stderr is closed.
            let _ = io::stderr().write_all(line.as_bytes());
        }
        if let Some(second) = self.second.get() {
            second.log(record);
        }
    }

    fn flush(&self) {}
}
