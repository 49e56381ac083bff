//! The tries of a change that others are making at the same time, and the pauses between them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Code, Error};

/// How long one change may take, with all its tries.
const LIMIT: Duration = Duration::from_secs(25);
/// The shortest pause after a conflict, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(600));

/// How many tries there were, and when the next one may be.
#[derive(Debug)]
pub(crate) struct Tries {
    count: u32,
    until: Instant,
    /// The last one.
    pause: Duration,
    /// When the try began that is going on.
    begun: Instant,
}

impl Default for Tries {
    /// The first one begins.
    fn default() -> Tries {
        let begun = Instant::now();
        Tries {
            count: 0,
            until: begun + LIMIT,
            pause: Duration::ZERO,
            begun,
        }
    }
}

impl Tries {
    /// Whether this is not the first one.
    pub(crate) fn are_more(&self) -> bool {
        self.count > 0
    }

    /// Waits before the next try to change `network`: at least as long as two tries of others take, and at most three
    /// times as long as the last time, so that those who met once do not meet again. Error, code 11: time is up.
    pub(crate) fn pause(&mut self, network: &str) -> Result<(), Error> {
        self.count += 1;
        let (shortest, longest) = PAUSES;
        let shortest = (self.begun.elapsed() * 2).clamp(shortest, longest);
        let last = self.pause.max(shortest);
        let range = (last * 3).min(longest).saturating_sub(shortest);
        let part = RandomState::new().hash_one(self.count) % 1024;
        self.pause = shortest + range * u32::try_from(part).unwrap_or_default() / 1024;
        if Instant::now() + self.pause >= self.until {
            let tries = self.count;
            let why = format!(
                "network {network} is changed by others all the time: {tries} tries within {LIMIT:?}"
            );
            return Err(Error::new(Code::TryAgainLater, why));
        }
        sleep(self.pause);
        self.begun = Instant::now();
        Ok(())
    }
}
