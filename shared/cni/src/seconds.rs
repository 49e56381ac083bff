//! Limits of time in configurations.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A positive number of seconds, at most an hour; fractions are allowed.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(f64);

impl Seconds {
    /// So many whole seconds.
    pub const fn whole(seconds: u16) -> Self {
        Seconds(seconds as f64)
    }

    /// As the clock counts.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if seconds > 0.0 && seconds <= 3600.0 {
            return Ok(Seconds(seconds));
        }
        let why = format!("{seconds} is not more than 0 and at most 3600 seconds");
        Err(de::Error::custom(why))
    }
}
