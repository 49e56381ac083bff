//! The table on stdout.

use std::io::{self, Write};

use crate::meter::Cost;
use crate::pods::Outcome;
use crate::side::Burst;

type Column = (&'static str, fn(&[Cost]) -> f64);

/// What is compared of a cost, and how many runs become one number.
const COLUMNS: [Column; 3] = [
    ("cpu ms", |costs| median(costs.iter().map(|cost| cost.cpu))),
    LEAST_WALL,
    PEAK_MEMORY,
];

/// The same where something else was taken off: what a busy machine adds to either does not take itself off.
const COLUMNS_OF_REST: [Column; 3] = [
    ("least cpu ms", |costs| {
        least(costs.iter().map(|cost| cost.cpu))
    }),
    LEAST_WALL,
    PEAK_MEMORY,
];

const LEAST_WALL: Column = ("least wall ms", |costs| {
    least(costs.iter().map(|cost| cost.wall))
});
const PEAK_MEMORY: Column = ("peak memory MB", |costs| {
    median(costs.iter().map(|cost| cost.memory))
});

/// The columns of [`costs`].
pub(crate) fn head() -> io::Result<()> {
    head_of("one call", &COLUMNS)
}

/// The columns of [`without_delegates`].
pub(crate) fn head_without_delegates() -> io::Result<()> {
    head_of("one call, without its delegates", &COLUMNS_OF_REST)
}

fn head_of(what: &str, columns: &[Column]) -> io::Result<()> {
    let mut lines = [format!("\n{:44}", ""), format!("{what:44}")];
    for (what, _) in columns {
        lines[0] += &format!("{what:^26}");
        lines[1] += &format!("{:>8}{:>8}{:>7}   ", "ours", "peer", "ratio");
    }
    writeln!(
        io::stdout(),
        "{}\n{}",
        lines[0].trim_end(),
        lines[1].trim_end()
    )
}

/// One line: the costs of one kind of call, ours and the peer's, who may not have this one.
pub(crate) fn costs(what: &str, ours: &[Cost], peer: &[Cost]) -> io::Result<()> {
    line(what, &COLUMNS, ours, peer)
}

/// The same for what is left of costs.
pub(crate) fn without_delegates(what: &str, ours: &[Cost], peer: &[Cost]) -> io::Result<()> {
    line(what, &COLUMNS_OF_REST, ours, peer)
}

fn line(what: &str, columns: &[Column], ours: &[Cost], peer: &[Cost]) -> io::Result<()> {
    let mut line = format!("{what:44}");
    for (_, number) in columns {
        line += &pair(number(ours), (!peer.is_empty()).then(|| number(peer)));
    }
    writeln!(io::stdout(), "{}", line.trim_end())
}

/// One line: what is not measured, and why.
pub(crate) fn left_out(what: &str, why: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{what:44}  left out: {why}")
}

/// The first of a side's failures, if there are any.
pub(crate) fn failures<'a>(
    side: &str,
    mut failures: impl Iterator<Item = &'a String>,
) -> io::Result<()> {
    match failures.next() {
        Some(first) => writeln!(io::stdout(), "  {side} failed: {first}"),
        None => Ok(()),
    }
}

/// The columns of [`bursts`].
pub(crate) fn head_of_bursts() -> io::Result<()> {
    let columns = format!(
        "{:^26}{:^16}{:^16}",
        "calls in a second", "failed", "there twice"
    );
    let names = format!("{:>8}{:>8}{:>7}   ", "ours", "peer", "ratio")
        + &format!("{:>8}{:>8}", "ours", "peer").repeat(2);
    writeln!(
        io::stdout(),
        "\n{:44}{}\n{:44}{names}",
        "",
        columns.trim_end(),
        "many calls at once"
    )
}

/// One line: many calls at once, ours and the peer's, who may not have this one. Beside each is how much of what there should be once
/// is there twice.
pub(crate) fn bursts(what: &str, sides: &[(Burst, usize)]) -> io::Result<()> {
    let column = |side: usize, number: fn(&(Burst, usize)) -> usize| {
        let number = sides.get(side).map(|side| number(side).to_string());
        format!("{:>8}", number.unwrap_or("-".into()))
    };
    let rate = |side: usize| sides.get(side).map(|(burst, _)| burst.rate);
    let mut line = format!("{what:44}{}", pair(rate(0).unwrap_or_default(), rate(1)));
    for number in [
        |side: &(Burst, usize)| side.0.failures.len(),
        |side: &(Burst, usize)| side.1,
    ] {
        line += &(column(0, number) + &column(1, number));
    }
    writeln!(io::stdout(), "{line}")
}

/// The heading of [`pods`].
pub(crate) fn head_of_pods() -> io::Result<()> {
    writeln!(
        io::stdout(),
        "\npods with several networks, macvlan + host-local"
    )
}

/// What came of many pods at once, ours or the peer's, and the first failure if there was one.
pub(crate) fn pods(what: &str, side: &str, outcome: &Outcome) -> io::Result<()> {
    let Outcome {
        adds,
        dels,
        wrong_addresses,
        left,
    } = outcome;
    writeln!(
        io::stdout(),
        "{what:44}  {side}: ADD {:.1} a second, {} failed, {wrong_addresses} addresses wrong; DEL {:.1} a second, {} failed, {left} left over",
        adds.rate,
        adds.failures.len(),
        dels.rate,
        dels.failures.len(),
    )?;
    failures(side, adds.failures.iter().chain(&dels.failures))
}

/// One line: something that was noticed.
pub(crate) fn note(what: &str) -> io::Result<()> {
    writeln!(io::stdout(), "  {what}")
}

fn least(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(f64::MAX, f64::min)
}

fn pair(ours: f64, peer: Option<f64>) -> String {
    match peer {
        Some(peer) => format!("{ours:8.2}{peer:8.2}{:7.3}   ", ours / peer),
        None => format!("{ours:8.2}{:>8}{:>7}   ", "-", ""),
    }
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([9.0].into_iter()), 9.0);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn a_peer_may_be_missing() {
        assert_eq!(pair(1.0, Some(4.0)), "    1.00    4.00  0.250   ");
        assert_eq!(pair(1.0, None).len(), pair(1.0, Some(4.0)).len());
    }
}
