//! Deviations of a particular build that are known beforehand: shown and counted, but no reason to fail.

use std::cell::Cell;
use std::path::Path;

use serde::Deserialize;

use crate::spec::Version;

/// One deviation, as its JSON file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// The plugins that deviate.
    pub plugins: Vec<String>,
    /// The requirement.
    pub id: String,
    /// The case of it; all of them when absent.
    #[serde(default)]
    pub case: Option<String>,
    /// The versions at which it deviates; all of them when absent.
    #[serde(default)]
    pub versions: Option<Vec<String>>,
    /// What is known about it.
    pub why: String,
    #[serde(skip)]
    seen: Cell<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    failing: bool,
    passing: bool,
}

impl Deviation {
    fn covers(&self, plugin: &str, id: &str, case: &str, version: Version) -> bool {
        self.plugins.iter().any(|name| name == plugin)
            && self.id == id
            && self.case.as_deref().is_none_or(|name| name == case)
            && self
                .versions
                .as_ref()
                .is_none_or(|list| list.iter().any(|one| one == version.as_str()))
    }
}

/// The deviations of one file.
#[derive(Debug, Default)]
pub struct Known {
    deviations: Vec<Deviation>,
}

impl Known {
    /// Reads a file: a JSON list of deviations.
    pub fn load(file: &Path) -> Result<Self, String> {
        let origin = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{origin}: {error}"))?;
        let deviations =
            serde_json::from_str(&text).map_err(|error| format!("{origin}: {error}"))?;
        Ok(Self { deviations })
    }

    /// What is known about a failure, if anything.
    pub fn excuse(&self, plugin: &str, id: &str, case: &str, version: Version) -> Option<&str> {
        let deviation = self
            .deviations
            .iter()
            .find(|deviation| deviation.covers(plugin, id, case, version))?;
        deviation.seen.set(Seen {
            failing: true,
            ..deviation.seen.get()
        });
        Some(&deviation.why)
    }

    /// Remembers that what is listed did not happen this time.
    pub fn passed(&self, plugin: &str, id: &str, case: &str, version: Version) {
        for deviation in self
            .deviations
            .iter()
            .filter(|deviation| deviation.covers(plugin, id, case, version))
        {
            deviation.seen.set(Seen {
                passing: true,
                ..deviation.seen.get()
            });
        }
    }

    /// Deviations that were asked about and happened nowhere: the list can be shortened.
    pub fn fixed(&self) -> impl Iterator<Item = &Deviation> {
        self.deviations
            .iter()
            .filter(|deviation| deviation.seen.get().passing && !deviation.seen.get().failing)
    }
}
