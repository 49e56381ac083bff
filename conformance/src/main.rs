//! The program `cni-conformance`.

use std::process::ExitCode;

use cni_conformance::cli::{self, Command};
use cni_conformance::{api_server, report, run, spy};

fn main() -> ExitCode {
    if let Some(exit) = spy::play() {
        return exit;
    }
    let done = cli::parse(std::env::args().skip(1)).and_then(|command| match command {
        Command::Help => Ok(report::text(cli::HELP)),
        Command::Version => Ok(report::text(cli::VERSION)),
        Command::List => Ok(report::list()),
        Command::Explain(id) => report::explain(&id),
        Command::Run(options) => run::run(&options),
        Command::ApiServer(options) => api_server::run(&options),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(sentence) => {
            report::trouble(&sentence);
            ExitCode::from(2)
        }
    }
}
