//! The program `cni-bench`: what a call costs, our plugins side by side with others of the same names.

mod meter;
mod node;
mod pods;
mod scenes;
mod side;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cni_conformance::report;
use cni_conformance::spy;
use cni_conformance::stage::{Ground, Stage};

use side::Side;

const HELP: &str = "\
Measures what calls of CNI plugins cost, side by side with other plugins of the same names.

    cni-bench --bin-dir DIR --peer DIR [--rounds N]

    --bin-dir DIR    our plugins
    --peer DIR       the others
    --rounds N       how often each call is measured (20)

The two take turns, so that a busy machine is hard on both. Cpu time is that of the plugin and all that it starts; wall time is
the shortest that was seen; memory is the peak of the largest process. Everything happens in namespaces of the program's own; it
needs root, or unprivileged user namespaces.

Exit status: 0 all of our calls succeeded, 1 some failed, 2 the program could not do its work.
";

/// What the command line asks for.
struct Options {
    bin_dir: PathBuf,
    peer: PathBuf,
    rounds: usize,
}

fn main() -> ExitCode {
    // Both are this program once more: one that measures, and a delegate that is measured.
    if let Some(exit) = meter::play().or_else(spy::play) {
        return exit;
    }
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_none_or(|first| first == "--help") {
        let shown = io::stdout().write_all(HELP.as_bytes());
        return ExitCode::from(if shown.is_ok() { 0 } else { 2 });
    }
    match parse(arguments).and_then(|options| compare(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(sentence) => {
            report::trouble(&sentence);
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut bin_dir, mut peer, mut rounds) = (None, None, 20);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--bin-dir" => bin_dir = Some(folder(&value)?),
            "--peer" => peer = Some(folder(&value)?),
            "--rounds" => {
                let number = value.parse().ok().filter(|rounds| *rounds > 0);
                rounds = number.ok_or(format!("--rounds takes a number, not {value:?}"))?;
            }
            _ => return Err(format!("{name} is not an option; --help lists them")),
        }
    }
    Ok(Options {
        bin_dir: bin_dir.ok_or("--bin-dir is missing: the folder with our plugins")?,
        peer: peer.ok_or("--peer is missing: the folder with the plugins to compare with")?,
        rounds,
    })
}

fn folder(path: &str) -> Result<PathBuf, String> {
    std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))
}

/// Plays all scenes and prints the table. Answers whether all went well on our side.
fn compare(options: &Options) -> Result<bool, String> {
    let stage = Stage::enter(&Ground::prepare()?)?;
    let sides = [("ours", &options.bin_dir), ("peer", &options.peer)]
        .map(|(name, bin_dir)| Side::new(&stage, name, bin_dir));
    let [ours, peer] = sides;
    let failed = |error: io::Error| format!("the measurement could not be made: {error}");
    let sides = [ours.map_err(failed)?, peer.map_err(failed)?];
    let mut tally = scenes::run(&stage, &sides, options.rounds).map_err(failed)?;
    tally.add(pods::run(&stage, &sides, options.rounds).map_err(failed)?);
    match tally.played {
        0 => Err("nothing was measured: --bin-dir has none of the plugins".into()),
        _ => Ok(tally.wrong == 0),
    }
}
