//! Points in time as text, in UTC: within lines, and in the names of old log files.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-25T15:04:05Z`.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let (date, [hour, minute, second, _]) = split(time);
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `2026-11-25T15-04-05.000`: as text, later is greater.
pub(super) fn of_file_name(time: SystemTime) -> String {
    let (date, [hour, minute, second, milli]) = split(time);
    format!("{date}T{hour:02}-{minute:02}-{second:02}.{milli:03}")
}

/// Whether a text has the form of [`of_file_name`].
pub(super) fn is_of_file_name(text: &str) -> bool {
    let form = "0000-00-00T00-00-00.000";
    let same = |(a, b): (u8, u8)| {
        if b == b'0' {
            a.is_ascii_digit()
        } else {
            a == b
        }
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(same)
}

/// The date, and hour, minute, second and millisecond. What is before 1970 is 1970.
fn split(time: SystemTime) -> (String, [u64; 4]) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let time = [
        second / 3600,
        second / 60 % 60,
        second % 60,
        u64::from(since.subsec_millis()),
    ];
    let (mut year, mut day) = (1970, days);
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    (format!("{year:04}-{month:02}-{:02}", day + 1), time)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_points_in_time() {
        for (millis, text) in [
            (0, "1970-01-01T00-00-00.000"),
            (951_782_399_999, "2000-02-28T23-59-59.999"),
            (951_782_400_001, "2000-02-29T00-00-00.001"),
            (951_868_800_000, "2000-03-01T00-00-00.000"),
            (1_735_689_599_000, "2024-12-31T23-59-59.000"),
            (1_764_084_245_500, "2025-11-25T15-24-05.500"),
            (4_107_542_400_000, "2100-03-01T00-00-00.000"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(of_file_name(time), text);
            assert!(is_of_file_name(text));
        }
        let time = UNIX_EPOCH + Duration::from_secs(1_764_084_245);
        assert_eq!(rfc3339(time), "2025-11-25T15:24:05Z");
        assert_eq!(
            rfc3339(UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00Z"
        );
        for other in [
            "",
            "2025-11-25",
            "2025-11-25T15:24:05.500",
            "2025-11-25T15-24-05.50x",
        ] {
            assert!(!is_of_file_name(other), "{other}");
        }
    }
}
