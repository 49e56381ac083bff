//! The program of the DaemonSet: puts the plugins on the node and multus in front of the network that is there, and
//! keeps both the credentials and the configuration up to date as long as it runs.

mod config;
mod files;
mod flags;
mod install;
mod kubeconfig;
mod primary;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::flags::{Command, Flags};
use crate::install::Installer;
use crate::watch::{Change, Watch};

fn main() -> ExitCode {
    let done = flags::parse(std::env::args_os()).and_then(|command| match command {
        Command::Help => print(flags::HELP),
        Command::Version => print(concat!(
            "multus-installer ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )),
        Command::Run(flags) => run(&flags),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            say(&sentence);
            ExitCode::FAILURE
        }
    }
}

/// Installs, then follows what changes until it is told to end.
fn run(flags: &Flags) -> Result<(), String> {
    let mut watch = Watch::new()?;
    for folder in flags.folders_to_watch() {
        watch.folder(folder)?;
    }
    let mut installer = Installer::new(flags)?;
    installer.install()?;
    loop {
        match watch.next()? {
            Change::Told(signal) => {
                say(&format!("{signal}: ending"));
                return installer.clean_up();
            }
            Change::Files { arrived } => installer.follow(arrived)?,
        }
    }
}

/// Tells people what happens, on stderr, where the logs of a container come from.
pub(crate) fn say(sentence: &str) {
    // Nobody can be told that stderr is closed.
    let _ = writeln!(io::stderr(), "multus-installer: {sentence}");
}

fn print(text: &str) -> Result<(), String> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| format!("stdout: {e}"))
}
