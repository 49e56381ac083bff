//! The requirements, one file for each family of the catalogue.

use crate::profile::Profile;
use crate::requirement::Requirement;

pub mod add;
pub mod capability;
pub mod chaining;
pub mod check;
pub mod concurrency;
pub mod del;
pub mod delegation;
pub mod environment;
pub mod fault;
pub mod fault_kill;
pub mod gc_status;
pub mod multus_api;
pub mod multus_config;
pub mod multus_del;
pub mod multus_delegation;
pub mod multus_events;
pub mod multus_failure;
pub mod multus_kill;
pub mod multus_route;
pub mod multus_status;
pub mod multus_verbs;
pub mod names;
pub mod output;
pub mod stdin;
pub mod traffic;
pub mod version;

/// All families, in the order in which they are asked.
pub const ALL: &[&[Requirement]] = &[
    version::REQUIREMENTS,
    environment::REQUIREMENTS,
    names::REQUIREMENTS,
    stdin::REQUIREMENTS,
    output::REQUIREMENTS,
    gc_status::REQUIREMENTS,
    add::REQUIREMENTS,
    del::REQUIREMENTS,
    check::REQUIREMENTS,
    delegation::REQUIREMENTS,
    chaining::REQUIREMENTS,
    capability::REQUIREMENTS,
    concurrency::REQUIREMENTS,
    traffic::REQUIREMENTS,
    fault::REQUIREMENTS,
    fault_kill::REQUIREMENTS,
    multus_config::REQUIREMENTS,
    multus_delegation::REQUIREMENTS,
    multus_failure::REQUIREMENTS,
    multus_api::REQUIREMENTS,
    multus_del::REQUIREMENTS,
    multus_verbs::REQUIREMENTS,
    multus_status::REQUIREMENTS,
    multus_events::REQUIREMENTS,
    multus_route::REQUIREMENTS,
    multus_kill::REQUIREMENTS,
];

/// Families about the ways of one plugin: their letter, and the `type` they are put to.
const OF_ONE_PLUGIN: [(&str, &str); 1] = [("M", "multus")];

/// Whether a requirement can be put to the plugin of this profile.
pub fn concerns(requirement: &Requirement, profile: &Profile) -> bool {
    let own = OF_ONE_PLUGIN
        .iter()
        .find(|(letter, _)| requirement.id.starts_with(letter));
    requirement.kinds.contains(&profile.kind) && own.is_none_or(|(_, name)| *name == profile.name)
}

/// All requirements.
pub fn requirements() -> impl Iterator<Item = &'static Requirement> {
    ALL.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_and_case_names_are_unique() {
        let mut ids = BTreeSet::new();
        for requirement in requirements() {
            assert!(ids.insert(requirement.id), "{} twice", requirement.id);
            assert!(
                !requirement.cases.is_empty(),
                "{} asks nothing",
                requirement.id
            );
            assert!(
                !requirement.kinds.is_empty() && !requirement.levels.is_empty(),
                "{} is never asked",
                requirement.id
            );
            let names: BTreeSet<_> = requirement.cases.iter().map(|case| case.name).collect();
            assert_eq!(
                names.len(),
                requirement.cases.len(),
                "{}: a case name twice",
                requirement.id
            );
        }
    }

    #[test]
    fn every_file_of_a_family_is_registered() {
        let source =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/families/mod.rs"))
                .unwrap();
        let files =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/families")).unwrap();
        for file in files {
            let name = file.unwrap().file_name().into_string().unwrap();
            let family = name.strip_suffix(".rs").unwrap();
            // Split, so that this very line does not count as the registration.
            let entry = format!("{family}::{}", "REQUIREMENTS");
            assert!(
                family == "mod" || source.contains(&entry),
                "{entry} is not in ALL"
            );
        }
    }
}
