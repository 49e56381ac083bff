//! The seven released versions of the CNI specification, and how a configuration's version is judged.

use std::fmt;

use crate::{Code, Error, Verb};

/// A released version of the CNI specification.
///
/// The order is the order of release, so `version >= Version::V0_4_0` reads as in the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each name is the version itself, 0.3.1 is V0_3_1"
)]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest version, used where nobody asked for another one.
    pub const NEWEST: Version = Version::V1_1_0;

    /// The version as it is written in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Reads the `cniVersion` of a configuration. Absent (`""`) means 0.1.0, the version from before the
    /// key existed. Anything but an exact match (`1.0`, `v1.0.0`) is `None`.
    pub fn parse(text: &str) -> Option<Version> {
        if text.is_empty() {
            return Some(Version::V0_1_0);
        }
        Version::ALL.into_iter().find(|v| v.as_str() == text)
    }

    /// The version a request of `verb` is served in, or why it is not served at all.
    ///
    /// `text` is the configuration's `cniVersion`. Errors: code 1 when the version does not know the verb or
    /// this code does not know the version, code 6 when CHECK, GC or STATUS come with a version that
    /// is no version (their place in history can't be told then).
    pub fn for_verb(verb: Verb, text: &str) -> Result<Version, Error> {
        let since = verb.since();
        let known = Version::parse(text);
        if since > Version::V0_1_0 {
            let place = match known {
                Some(version) => version.semver()?,
                None => parse_semver(text)?,
            };
            let refuse = |who: &str| {
                Err(Error::new(
                    Code::IncompatibleVersion,
                    format!("{who} version does not allow {verb}"),
                ))
            };
            if place < since.semver()? {
                return refuse("config");
            }
            if place > Version::NEWEST.semver()? {
                return refuse("plugin");
            }
        }
        known.ok_or_else(|| {
            let supported = Version::ALL.map(|v| format!("{:?}", v.as_str())).join(" ");
            Error::new(Code::IncompatibleVersion, "incompatible CNI versions")
                .details(format!("config is {text:?}, plugin supports [{supported}]"))
        })
    }

    fn semver(self) -> Result<semver::Version, Error> {
        parse_semver(self.as_str())
    }
}

/// Places a version in history; `1` and `1.0` are short for `1.0.0`, as the original reads them.
fn parse_semver(text: &str) -> Result<semver::Version, Error> {
    let missing = 2_usize.saturating_sub(text.matches('.').count());
    let full = format!("{text}{}", ".0".repeat(missing));
    semver::Version::parse(&full)
        .map_err(|e| Error::new(Code::Decoding, format!("invalid version {text:?}: {e}")))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
