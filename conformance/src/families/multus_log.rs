//! Family M, logging: what an operator finds in the log that the configuration asks for, and what is never in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::ensure;
use crate::multus::{KINDS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::Verb;
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M145",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "Each line of the log is `TIME [level] message`; the log is made for its owner alone, with its folder, and lines are added to one that is there.",
        section: "multus: logging",
        cases: &[case("lines", lines_of_the_log), case("appended", appended)],
    },
    Requirement {
        id: "M146",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "At level error, whatever case the word has, the error that the runtime gets is in the log; at level panic it is not.",
        section: "multus: logging",
        cases: &[
            case("error", |t| errors_are_logged(t, "error", true)),
            case("VERBOSE", |t| errors_are_logged(t, "VERBOSE", true)),
            case("panic", |t| errors_are_logged(t, "panic", false)),
        ],
    },
    Requirement {
        id: "M147",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "What is logged is on stderr too, unless `logToStderr` is false; configurations, which may hold secrets, are in neither.",
        section: "multus: logging",
        cases: &[
            case("stderr", on_stderr),
            case("not on stderr", not_on_stderr),
            case("secrets", no_secrets),
        ],
    },
];

/// A node that logs at this level into a folder that isn't there yet.
fn logging<'t>(t: &'t Trial, level: &str) -> Result<(Node<'t>, PathBuf), Stop> {
    let mut node = Node::three_networks(t)?;
    let file = node.conf_dir.join("log/multus.log");
    node.runtime.config["logFile"] = json!(file);
    node.runtime.config["logLevel"] = level.into();
    Ok((node, file))
}

fn lines_of_the_log(t: &Trial) -> Verdict {
    let (mut node, file) = logging(t, "debug")?;
    node.add()?;
    node.del()?;
    let mode = fs::metadata(&file)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "the log has the mode {mode:o}");
    let text = fs::read_to_string(&file)?;
    ensure!(!text.is_empty(), "nothing was logged at level debug");
    for line in text.lines() {
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        let is_time = time.len() == "2025-11-25T15:24:05Z".len() && time.ends_with('Z');
        let levels = ["[debug] ", "[verbose] ", "[error] ", "[panic] "];
        ensure!(
            is_time && levels.iter().any(|level| rest.starts_with(level)),
            "a line of the log is {line:?}"
        );
    }
    Ok(())
}

fn appended(t: &Trial) -> Verdict {
    let (mut node, file) = logging(t, "verbose")?;
    node.add()?;
    let before = fs::read_to_string(&file)?;
    node.del()?;
    let after = fs::read_to_string(&file)?;
    ensure!(
        after.len() > before.len() && after.starts_with(&before),
        "DEL did not add to the log of ADD"
    );
    for (ifname, network) in [("eth0", "net-a"), ("net1", "net-b"), ("net2", "net-c")] {
        let is_line = |line: &str| {
            line.contains("[verbose] Del: default:samplepod:")
                && line.ends_with(&format!(":{network}:{ifname}"))
        };
        let count = after.lines().filter(|line| is_line(line)).count();
        ensure!(
            count == 1,
            "{count} lines tell of the DEL of {network} on {ifname}: {after}"
        );
    }
    Ok(())
}

fn errors_are_logged(t: &Trial, level: &str, expected: bool) -> Verdict {
    let (mut node, file) = logging(t, level)?;
    node.spied("spy-b")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    let refusal = node.ask(Verb::Add)?.refused(&[123])?;
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut errors = text.lines().filter(|line| line.contains(" [error] "));
    let is_there = errors.any(|line| line.contains(&refusal.msg));
    ensure!(
        is_there == expected,
        "the error {:?} and the log at level {level}: {text}",
        refusal.msg
    );
    Ok(())
}

fn on_stderr(t: &Trial) -> Verdict {
    let (node, _) = logging(t, "verbose")?;
    let answer = node.ask(Verb::Add)?;
    answer.success()?;
    let stderr = String::from_utf8_lossy(&answer.exchange.outcome.stderr).into_owned();
    ensure!(
        stderr.contains("Add: default:samplepod:"),
        "stderr has no line of ADD: {stderr:?}"
    );
    node.del().map(drop)
}

fn not_on_stderr(t: &Trial) -> Verdict {
    let (mut node, _) = logging(t, "debug")?;
    node.runtime.config["logToStderr"] = false.into();
    node.spied("spy-c")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    let answer = node.ask(Verb::Add)?;
    answer.refused(&[123])?;
    let stderr = String::from_utf8_lossy(&answer.exchange.outcome.stderr).into_owned();
    ensure!(stderr.is_empty(), "stderr is {stderr:?}");
    Ok(())
}

const SECRET: &str = "correct horse battery staple";

fn no_secrets(t: &Trial) -> Verdict {
    let (mut node, file) = logging(t, "debug")?;
    let config = json!({
        "cniVersion": t.version.as_str(), "name": "net-b", "type": "spy-b", "password": SECRET,
    });
    node.define("net-b", &config)?;
    node.runtime.config["delegates"][0]["password"] = SECRET.into();
    node.add()?;
    node.del()?;
    for (spy, verb) in [("spy-c", Verb::Add), ("spy-b", Verb::Del)] {
        node.spied(spy)?
            .says(verb, Lines::error(123, "no luck today"))?;
    }
    let answer = node.ask(Verb::Add)?;
    answer.refused(&[123])?;
    let text = fs::read_to_string(&file)?;
    let stderr = String::from_utf8_lossy(&answer.exchange.outcome.stderr).into_owned();
    for told in [&text, &stderr] {
        ensure!(!told.contains(SECRET), "a secret is told: {told}");
    }
    let token = node.cluster.token();
    ensure!(
        !text.contains(token) && !stderr.contains(token),
        "the token is told"
    );
    Ok(())
}
