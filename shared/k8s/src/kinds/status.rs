//! The answer of an API server that is no object: what went wrong.

use std::fmt;

use serde::Deserialize;

use super::meta::null_is_empty;

/// `Status` of the API: why a request failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// One word for programs: `NotFound`, `AlreadyExists`, `Conflict`; empty when a proxy answered.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// What it is about.
    #[serde(deserialize_with = "null_is_empty")]
    pub details: StatusDetails,
}

/// What a [`Status`] is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusDetails {
    /// The name of the object.
    pub name: String,
    /// Its kind, as it stands in paths.
    pub kind: String,
    /// Seconds to wait before asking again; 0 if the server said nothing about that.
    pub retry_after_seconds: u64,
}

/// How much of an answer that is no `Status` is repeated to people.
const QUOTED: usize = 300;

impl Status {
    /// Reads the body of a failed answer. A proxy's page is quoted, not decoded.
    pub(crate) fn read(code: u16, body: &[u8]) -> Status {
        let read: Option<Status> = serde_json::from_slice(body).ok();
        match read {
            Some(status) if !status.message.is_empty() || !status.reason.is_empty() => {
                Status { code, ..status }
            }
            _ => {
                let text = String::from_utf8_lossy(body);
                let line: Vec<&str> = text.split_whitespace().collect();
                let message = line
                    .join(" ")
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(QUOTED)
                    .collect();
                Status {
                    code,
                    message,
                    ..Status::default()
                }
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        } else if let Some(words) = hyper::StatusCode::from_u16(self.code)
            .ok()
            .and_then(|c| c.canonical_reason())
        {
            write!(f, " {words}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}
