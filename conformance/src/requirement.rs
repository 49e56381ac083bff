//! A requirement as a value, and what can come of putting it to a plugin.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::answer::Exchange;
use crate::spec::{Kind, Level, Version};
use crate::trial::Trial;

/// One sentence of the specification that a plugin can be asked to keep.
#[derive(Debug)]
pub struct Requirement {
    /// Family letter and number, such as `E3`.
    pub id: &'static str,
    /// The versions it holds for and how strongly; a version in none of the ranges is not asked.
    pub levels: &'static [(RangeInclusive<Version>, Level)],
    /// The kinds of plugin it can be put to.
    pub kinds: &'static [Kind],
    /// What is required, in words of our own.
    pub sentence: &'static str,
    /// Where the specification says so.
    pub section: &'static str,
    /// The ways of asking. All of them must hold.
    pub cases: &'static [Case],
}

impl Requirement {
    /// How strongly `version` asks for this, or `None` where it doesn't.
    pub fn level(&self, version: Version) -> Option<Level> {
        self.levels
            .iter()
            .find(|(span, _)| span.contains(&version))
            .map(|&(_, level)| level)
    }
}

/// One way of asking for a requirement.
#[derive(Debug)]
pub struct Case {
    /// Unique within its requirement.
    pub name: &'static str,
    /// Asks; called once for each version with a fresh [`Trial`].
    pub run: fn(&Trial) -> Verdict,
}

/// Shorthand for a [`Case`], so that the lists of cases stay lists.
pub const fn case(name: &'static str, run: fn(&Trial) -> Verdict) -> Case {
    Case { name, run }
}

/// What a case says: `Ok` is kept, and `?` carries everything else.
pub type Verdict = Result<(), Stop>;

/// Why a case ended early.
#[derive(Debug)]
pub enum Stop {
    /// The requirement is broken.
    Fail(Failure),
    /// The question could not be put here; the text says why.
    Skip(String),
}

/// A broken requirement.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was expected and what came instead.
    pub what: String,
    /// The call that shows it; the last one of the case when `None`.
    pub exchange: Option<Arc<Exchange>>,
}

impl Stop {
    /// Says in a failure in which of several situations it showed.
    #[must_use]
    pub fn within(self, situation: impl Display) -> Self {
        match self {
            Self::Fail(mut failure) => {
                failure.what = format!("{situation}: {}", failure.what);
                Self::Fail(failure)
            }
            skip => skip,
        }
    }
}

/// A failure that belongs to no particular call.
pub fn fail(what: impl Into<String>) -> Stop {
    Stop::Fail(Failure {
        what: what.into(),
        exchange: None,
    })
}

/// A skip, with the reason a reader needs.
pub fn skip(reason: impl Into<String>) -> Stop {
    Stop::Skip(reason.into())
}

/// Ends the case as failed unless the condition holds; the rest is a format string saying what was seen.
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::requirement::fail(format!($($what)+)));
        }
    };
}
