//! Log lines on stderr, where runtimes collect them. `CNI_LOG_LEVEL` chooses how much; `warn` if not set.

use std::io::{self, Write};
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr(OnceLock<String>);

static STDERR: Stderr = Stderr(OnceLock::new());

/// Sends all log lines to stderr, each led by `prefix` (the plugin's name).
pub(crate) fn install(prefix: &str, level: Option<&str>) {
    let _ = STDERR.0.set(prefix.to_owned());
    let level = level
        .and_then(|l| l.parse().ok())
        .unwrap_or(LevelFilter::Warn);
    if log::set_logger(&STDERR).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let prefix = self.0.get().map_or("", String::as_str);
        let level = record.level().as_str().to_ascii_lowercase();
        let line = format!("{prefix}: {level}: {}\n", record.args());
        // Nobody can be told that stderr is closed.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
