//! Reservations that a reboot left behind, and when they may be taken back.
//!
//! A reboot ends every container, but nobody calls DEL for those that the runtime does not remember, and
//! their addresses would be gone for ever. The first command of a new boot that reads the whole pool writes
//! down what it finds, name and modification time, in `.index/previous-boot`. An address on that list is given to
//! somebody else only
//!
//! 1. when its range set would otherwise have no address left, or when this very one is asked for: as long as there
//!    is a choice, nothing is taken from a container whose runtime may still come to clean up, or to check;
//! 2. and when its file is still the very one written down, to the nanosecond: by then it may have been released
//!    and belong to a container of this boot.
//!
//! Written down is only what is older than this boot's start, because another implementation may have served
//! ADDs in this boot before we were called for the first time. The age alone does not do: a machine whose
//! clock was wrong until it found a time server has files of this boot that look older than the boot. And the first
//! look alone does not do either, for the reason given. Both together are wrong only where both go wrong.
//! A pool that no boot is known of (made by another implementation, or its index is damaged) gets no
//! list: nothing can be said about it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which boot of the machine this is, as the kernel's `random/boot_id` says it (36 bytes of text).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootId(pub(crate) [u8; 36]);

impl BootId {
    /// This boot; `None` when there is no /proc to ask.
    pub(crate) fn current() -> Option<BootId> {
        let mut id = [0; 36];
        let read = fs::File::open("/proc/sys/kernel/random/boot_id")
            .and_then(|mut file| io::Read::read_exact(&mut file, &mut id));
        read.ok().map(|()| BootId(id))
    }
}

/// When this boot began, by today's clock; `None` when there is no /proc to ask.
pub(crate) fn start() -> Option<SystemTime> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    SystemTime::now().checked_sub(Duration::try_from_secs_f64(seconds).ok()?)
}

/// A reservation from before this boot: the address and its file's modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) ip: IpAddr,
    pub(crate) modified: SystemTime,
}

/// Writes the list; one line for each, the address and nanoseconds since 1970.
pub(crate) fn write(path: &Path, leftovers: &[Leftover]) -> io::Result<()> {
    let mut text = String::new();
    for leftover in leftovers {
        let since = leftover.modified.duration_since(UNIX_EPOCH);
        let nanos = since.unwrap_or_default().as_nanos();
        text += &format!("{} {nanos}\n", leftover.ip);
    }
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// Reads the list; empty when there is none. A line that says nothing is passed over.
pub(crate) fn read(path: &Path) -> Vec<Leftover> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| {
        let (ip, nanos) = line.split_once(' ')?;
        let nanos: u64 = nanos.parse().ok()?;
        Some(Leftover {
            ip: ip.parse().ok()?,
            modified: UNIX_EPOCH + Duration::from_nanos(nanos),
        })
    };
    text.lines().filter_map(parse).collect()
}
