//! The command line.

use std::path::PathBuf;

use crate::spec::{Level, Version};

/// What `--help` prints. The manual page and the completions for shells are made from the same file.
pub const HELP: &str = include_str!("help.txt");

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// `--help`
    Help,
    /// `--list`
    List,
    /// `--explain`
    Explain(String),
    /// Ask plugins.
    Run(Options),
}

/// How to ask.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--bin-dir`
    pub bin_dir: PathBuf,
    /// `--cni-version`; empty for all.
    pub versions: Vec<Version>,
    /// `--id`; empty for all.
    pub ids: Vec<String>,
    /// `--only`
    pub only: Option<Level>,
    /// `--profile`
    pub profiles: Vec<PathBuf>,
    /// `--known`
    pub known: Option<PathBuf>,
    /// `--json`
    pub json: Option<PathBuf>,
    /// `--verbose`
    pub verbose: bool,
    /// The plugins named; empty for all that have a profile.
    pub plugins: Vec<String>,
}

/// Reads the arguments that follow the program's name. Options may be written `--name value` or `--name=value`.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.into_iter();
    let mut options = Options::default();
    let mut bin_dir = None;
    while let Some(argument) = arguments.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                (name.to_owned(), Some(value.to_owned()))
            }
            _ => (argument, None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| arguments.next())
                .ok_or(format!("{name} needs a value"))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--explain" => return Ok(Command::Explain(value()?)),
            "--bin-dir" => bin_dir = Some(PathBuf::from(value()?)),
            "--cni-version" => options.versions.push(version(&value()?)?),
            "--id" => options.ids.push(value()?),
            "--only" => options.only = Some(level(&value()?)?),
            "--profile" => options.profiles.push(value()?.into()),
            "--known" => options.known = Some(value()?.into()),
            "--json" => options.json = Some(value()?.into()),
            "--verbose" | "-v" => options.verbose = true,
            name if name.starts_with('-') => {
                return Err(format!("{name} is not an option; --help lists them"));
            }
            _ => options.plugins.push(name),
        }
    }
    options.bin_dir =
        bin_dir.ok_or("--bin-dir is missing: the folder with the plugins; see --help")?;
    Ok(Command::Run(options))
}

fn version(text: &str) -> Result<Version, String> {
    text.parse().map_err(|()| {
        let all: Vec<_> = Version::ALL
            .iter()
            .map(|version| version.as_str())
            .collect();
        format!(
            "\"{text}\" is no version of the specification; they are {}",
            all.join(" ")
        )
    })
}

fn level(text: &str) -> Result<Level, String> {
    match text.to_ascii_uppercase().as_str() {
        "MUST" => Ok(Level::Must),
        "SHOULD" => Ok(Level::Should),
        _ => Err(format!("--only takes MUST or SHOULD, not \"{text}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{V0_3_0, V1_1_0};

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_full_line() {
        let line = "--bin-dir /b --cni-version 0.3.0 --cni-version=1.1.0 --id E --only must --profile p.json --known k \
                    --json j -v macvlan";
        let options = Options {
            bin_dir: "/b".into(),
            versions: vec![V0_3_0, V1_1_0],
            ids: vec!["E".into()],
            only: Some(Level::Must),
            profiles: vec!["p.json".into()],
            known: Some("k".into()),
            json: Some("j".into()),
            verbose: true,
            plugins: vec!["macvlan".into()],
        };
        assert_eq!(parsed(line), Ok(Command::Run(options)));
    }

    #[test]
    fn slips_are_named() {
        for (line, word) in [
            ("", "--bin-dir"),
            ("--bin-dir", "--bin-dir needs a value"),
            ("--bindir /b", "--bindir is not an option"),
            ("--bin-dir /b --cni-version 2.0.0", "\"2.0.0\""),
            ("--bin-dir /b --only MAY", "\"MAY\""),
        ] {
            assert!(parsed(line).unwrap_err().contains(word), "{line}");
        }
    }
}
