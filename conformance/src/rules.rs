//! The packet filter's rules as its own tools list them.

use std::io;
use std::process::Command;

use crate::requirement::{Stop, skip};

/// The tools that list rules, each with its arguments; what is not installed has no rules.
const LISTS: [(&str, &[&str]); 3] = [
    ("iptables-save", &[]),
    ("ip6tables-save", &[]),
    ("nft", &["list", "ruleset"]),
];

/// Every line of every list, in the stage's host namespace.
pub fn rules() -> Result<Vec<String>, Stop> {
    let mut lines = Vec::new();
    let mut found = false;
    for (tool, arguments) in LISTS {
        match Command::new(tool).args(arguments).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            output => {
                found = true;
                let text = String::from_utf8_lossy(&output?.stdout).into_owned();
                lines.extend(text.lines().map(|line| line.trim().to_owned()));
            }
        }
    }
    if found {
        Ok(lines)
    } else {
        Err(skip(
            "neither iptables-save nor nft is installed: rules can't be looked at",
        ))
    }
}

/// Removes all rules of the stage's host namespace, which is nobody's but ours.
pub fn wipe() -> Result<(), Stop> {
    let wipes: [(&str, &[&str]); 3] = [
        ("iptables", &["-t", "nat", "-F"]),
        ("ip6tables", &["-t", "nat", "-F"]),
        ("nft", &["flush", "ruleset"]),
    ];
    for (tool, arguments) in wipes {
        match Command::new(tool).args(arguments).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            output => drop(output?),
        }
    }
    Ok(())
}
