//! What people and programs read: the only place that prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is what this program is for"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::answer::Exchange;
use crate::families;
use crate::known::Known;
use crate::process::Ending;
use crate::requirement::{Failure, Requirement};
use crate::run::{Outcome, Verdict};
use crate::spec::{Kind, Level, Version};
use crate::trial::Plugin;

/// Long requests and answers are cut here: enough to see what went wrong.
const SHOWN: usize = 2000;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    pass: usize,
    fail: usize,
    known: usize,
    skip: usize,
}

impl Count {
    fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => self.pass += 1,
            Verdict::Fail(_) => self.fail += 1,
            Verdict::Known(..) => self.known += 1,
            Verdict::Skip(_) => self.skip += 1,
            Verdict::Note => {}
        }
    }

    fn sum(self, other: Self) -> Self {
        Self {
            pass: self.pass + other.pass,
            fail: self.fail + other.fail,
            known: self.known + other.known,
            skip: self.skip + other.skip,
        }
    }
}

/// The report of one run, growing as it goes.
#[derive(Debug)]
pub struct Report {
    json: Option<File>,
    verbose: bool,
    started: Instant,
    counts: BTreeMap<String, [Count; 2]>,
    skips: BTreeMap<String, usize>,
    /// Failures shown in full, and at which version: at the next ones a line will do.
    told: BTreeMap<String, Version>,
}

impl Report {
    /// An empty one; `json` is the file for programs to read.
    pub fn new(json: Option<&Path>, verbose: bool) -> Result<Self, String> {
        let open = |path: &Path| {
            File::create(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let json = json.map(open).transpose()?;
        Ok(Self {
            json,
            verbose,
            started: Instant::now(),
            counts: BTreeMap::new(),
            skips: BTreeMap::new(),
            told: BTreeMap::new(),
        })
    }

    /// One plugin at one version is done.
    pub fn lane(
        &mut self,
        plugin: &Plugin,
        version: Version,
        outcomes: &[Outcome],
    ) -> Result<(), String> {
        if !plugin.claims(version) {
            // That it refuses the version is asked at the others.
            println!(
                "{:16} {version}  not spoken by this plugin",
                plugin.profile.title()
            );
            return Ok(());
        }
        let mut lane = Count::default();
        let totals = self.counts.entry(plugin.profile.title()).or_default();
        for outcome in outcomes {
            lane.add(&outcome.verdict);
            totals[usize::from(outcome.level == Level::Should)].add(&outcome.verdict);
            if let Verdict::Skip(why) = &outcome.verdict {
                *self.skips.entry(why.clone()).or_default() += 1;
            }
            if let Some(file) = &mut self.json {
                writeln!(file, "{}", as_json(outcome))
                    .map_err(|error| format!("the JSON report: {error}"))?;
            }
        }
        let seconds = outcomes
            .iter()
            .map(|outcome| outcome.took)
            .sum::<Duration>()
            .as_secs_f32();
        println!(
            "{:16} {version}  {} passed, {} failed, {} known, {} skipped  ({seconds:.1} s)",
            plugin.profile.title(),
            lane.pass,
            lane.fail,
            lane.known,
            lane.skip
        );
        outcomes.iter().for_each(|outcome| self.tell(outcome));
        Ok(())
    }

    fn tell(&mut self, outcome: &Outcome) {
        let Requirement {
            id,
            sentence,
            section,
            ..
        } = outcome.requirement;
        let Outcome { level, version, .. } = outcome;
        let headline = format!(
            "{} {version} {id}/{}",
            outcome.plugin.profile.title(),
            outcome.case.name
        );
        match &outcome.verdict {
            Verdict::Fail(failure) => {
                let question = format!(
                    "{} {id}/{}",
                    outcome.plugin.profile.title(),
                    outcome.case.name
                );
                if let Some(first) = self.told.get(&question) {
                    println!("FAIL {headline}: as at {first}: {}", failure.what);
                    return;
                }
                self.told.insert(question, *version);
                println!("\nFAIL {headline}: {level}: {sentence} [{section}]");
                println!("     {}", failure.what);
                if let Some(exchange) = &failure.exchange {
                    print_exchange(exchange);
                }
            }
            Verdict::Known(failure, why) => {
                println!("  known {headline}: {why} ({})", failure.what)
            }
            Verdict::Skip(why) if self.verbose => println!("  skip  {headline}: {why}"),
            Verdict::Pass if self.verbose => println!("  pass  {headline}  {:?}", outcome.took),
            _ => {}
        }
        if self.verbose {
            outcome
                .notes
                .iter()
                .for_each(|note| println!("  note  {headline}: {note}"));
        }
    }

    /// The summary. The answer is whether the run is a success: something passed, nothing failed.
    pub fn finish(self, known: &Known) -> Result<bool, String> {
        println!("\n{:16} {:>20} {:>27}", "", "MUST", "SHOULD");
        println!(
            "{:16}  pass fail known skip   pass fail known skip",
            "plugin"
        );
        let mut total = Count::default();
        for (name, levels) in &self.counts {
            let columns =
                levels.map(|c| format!("{:6} {:4} {:5} {:4} ", c.pass, c.fail, c.known, c.skip));
            println!("{name:16}{}", columns.concat());
            total = levels.iter().fold(total, |sum, count| sum.sum(*count));
        }
        for (why, times) in &self.skips {
            println!("skipped {times} times: {why}");
        }
        for deviation in known.fixed() {
            println!(
                "fixed: {} {}: {}",
                deviation.plugins.join(" "),
                deviation.id,
                deviation.why
            );
        }
        if total.known > 0 {
            println!("{} known deviations", total.known);
        }
        println!("took {:.1} s", self.started.elapsed().as_secs_f32());
        println!(
            "{} passed, {} failed, {} skipped",
            total.pass, total.fail, total.skip
        );
        Ok(total.fail == 0 && total.pass > 0)
    }
}

fn print_exchange(exchange: &Exchange) {
    let Exchange { call, outcome } = exchange;
    let variables = call.env.iter().filter(|(name, _)| *name != "PATH");
    let variables: Vec<_> = variables
        .map(|(name, value)| format!("{name}={}", value.display()))
        .collect();
    println!(
        "     call:   {} {}",
        variables.join(" "),
        call.program.display()
    );
    println!("     stdin:  {}", shown(&call.stdin));
    println!(
        "     answer: {} after {:?}",
        ending(outcome.ending),
        outcome.took
    );
    println!("     stdout: {}", shown(&outcome.stdout));
    println!("     stderr: {}", shown(&outcome.stderr));
}

fn ending(ending: Ending) -> String {
    match ending {
        Ending::Exit(status) => format!("exit status {status}"),
        Ending::Signal(signal) => format!("signal {signal}"),
        Ending::Hang => "none; killed".into(),
    }
}

/// Bytes as one line of text. JSON is set without the white space between its words.
fn shown(bytes: &[u8]) -> String {
    let compact = serde_json::from_slice::<Value>(bytes).map(|value| value.to_string());
    let text = compact.unwrap_or_else(|_| {
        String::from_utf8_lossy(bytes)
            .trim()
            .replace('\n', "\n             ")
    });
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} ... ({} bytes)", &text[..end], bytes.len()),
        None => text,
    }
}

fn as_json(outcome: &Outcome) -> Value {
    let (verdict, what, exchange) = match &outcome.verdict {
        Verdict::Pass => ("pass", None, None),
        Verdict::Fail(Failure { what, exchange }) => ("fail", Some(what), exchange.as_deref()),
        Verdict::Known(Failure { what, exchange }, _) => ("known", Some(what), exchange.as_deref()),
        Verdict::Skip(why) => ("skip", Some(why), None),
        Verdict::Note => ("note", None, None),
    };
    json!({
        "plugin": outcome.plugin.profile.title(),
        "version": outcome.version.as_str(),
        "id": outcome.requirement.id,
        "case": outcome.case.name,
        "level": outcome.level.to_string(),
        "result": verdict,
        "what": what,
        "known": match &outcome.verdict { Verdict::Known(_, why) => Some(why), _ => None },
        "notes": outcome.notes,
        "calls": outcome.exchanges.len(),
        "ms": outcome.took.as_millis(),
        "exchange": exchange.map(exchange_as_json),
    })
}

fn exchange_as_json(exchange: &Exchange) -> Value {
    let env: BTreeMap<_, _> = exchange
        .call
        .env
        .iter()
        .map(|(name, value)| (name, value.to_string_lossy()))
        .collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    json!({
        "program": exchange.call.program.to_string_lossy(),
        "env": env,
        "stdin": text(&exchange.call.stdin),
        "answer": ending(exchange.outcome.ending),
        "stdout": text(&exchange.outcome.stdout),
        "stderr": text(&exchange.outcome.stderr),
    })
}

/// Prints a text as it is.
pub fn text(text: &str) -> bool {
    print!("{text}");
    true
}

/// Prints why the program could not do its work.
pub fn trouble(sentence: &str) {
    eprintln!("cni-conformance: {sentence}");
}

/// Prints all requirements, a line each.
pub fn list() -> bool {
    for requirement in families::requirements() {
        let levels: Vec<_> = levels(requirement).collect();
        println!(
            "{:4} {:28} {}",
            requirement.id,
            levels.join(", "),
            requirement.sentence
        );
    }
    true
}

/// Prints everything about one requirement.
pub fn explain(id: &str) -> Result<bool, String> {
    let requirement =
        families::requirements().find(|requirement| requirement.id.eq_ignore_ascii_case(id));
    let requirement = requirement.ok_or(format!(
        "there is no requirement {id}; --list shows them all"
    ))?;
    let cases: Vec<_> = requirement.cases.iter().map(|case| case.name).collect();
    let kinds: Vec<_> = requirement
        .kinds
        .iter()
        .copied()
        .map(Kind::as_str)
        .collect();
    println!("{}  {}", requirement.id, requirement.sentence);
    println!(
        "level:    {}",
        levels(requirement).collect::<Vec<_>>().join(", ")
    );
    println!("section:  {}", requirement.section);
    println!("asked of: {}", kinds.join(", "));
    println!("cases:    {}", cases.join(", "));
    Ok(true)
}

fn levels(requirement: &Requirement) -> impl Iterator<Item = String> {
    requirement
        .levels
        .iter()
        .map(|(span, level)| format!("{level} {}-{}", span.start(), span.end()))
}
