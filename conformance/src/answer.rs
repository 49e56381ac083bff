//! What a plugin answered, the rules that every answer must keep, and the assertions that cases make about it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::process::{Ending, Invocation, Outcome};
use crate::requirement::{Failure, Stop};
use crate::result;
use crate::spec::{Kind, Verb, Version, code};

/// One call of a plugin and its answer.
#[derive(Debug)]
pub struct Exchange {
    /// What it was called with.
    pub call: Invocation,
    /// How it answered.
    pub outcome: Outcome,
}

/// An answer that keeps the rules for all answers; see [`Answer::judged`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The call and the raw answer.
    pub exchange: Arc<Exchange>,
    /// stdout as JSON; `None` when nothing was printed.
    pub document: Option<Value>,
}

/// An error object of a plugin.
#[derive(Debug)]
pub struct Refusal {
    /// The answer it came in.
    pub answer: Answer,
    /// `code`
    pub code: i64,
    /// `msg`
    pub msg: String,
    /// `details`, empty when absent.
    pub details: String,
}

impl Answer {
    /// Checks the rules that hold for every answer of every verb: the plugin ends by itself and in time, does not crash,
    /// prints one JSON document or nothing, and its exit status agrees with that document.
    pub fn judged(exchange: &Arc<Exchange>) -> Result<Self, Stop> {
        let broken = |what: String| Err(broken(exchange, what));
        let outcome = &exchange.outcome;
        let exit = match outcome.ending {
            Ending::Exit(exit) => exit,
            Ending::Signal(signal) => return broken(format!("the plugin died of signal {signal}")),
            Ending::Hang => {
                return broken(format!(
                    "no answer within {:?}; killed",
                    exchange.call.limit
                ));
            }
        };
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        if let Some(trace) = ["panicked at", "goroutine "]
            .into_iter()
            .find(|trace| stderr.contains(trace))
        {
            return broken(format!("the plugin crashed: \"{trace}\" on stderr"));
        }
        let document = match parse_stdout(&outcome.stdout) {
            Ok(document) => document,
            Err(why) => return broken(format!("stdout is not one JSON document: {why}")),
        };
        let is_error = document
            .as_ref()
            .is_some_and(|document| document.get("code").is_some());
        let must_print = ["ADD", "VERSION"]
            .iter()
            .any(|verb| exchange.verb() == Some(*verb));
        match (exit, &document) {
            (0, _) if is_error => {
                return broken("exit status 0 with an error object on stdout".into());
            }
            (0, None) if must_print => {
                return broken("exit status 0 without a result on stdout".into());
            }
            (0, Some(document)) if !document.is_object() => {
                return broken("the result is not a JSON object".into());
            }
            (1.., _) if !is_error => {
                return broken(format!(
                    "exit status {exit} without an error object on stdout"
                ));
            }
            _ => {}
        }
        Ok(Self {
            exchange: Arc::clone(exchange),
            document,
        })
    }

    /// A failure shown by this answer.
    pub fn fail(&self, what: impl Into<String>) -> Stop {
        broken(&self.exchange, what.into())
    }

    /// Whether the plugin ended with exit status 0.
    pub fn succeeded(&self) -> bool {
        self.exchange.outcome.ending == Ending::Exit(0)
    }

    /// Requires exit status 0.
    pub fn success(&self) -> Result<&Self, Stop> {
        if self.succeeded() {
            Ok(self)
        } else {
            Err(self.fail("the call should have succeeded"))
        }
    }

    /// Requires exit status 0 and an object on stdout, whatever is in it.
    pub fn object(&self) -> Result<&Map<String, Value>, Stop> {
        self.success()?;
        self.document
            .as_ref()
            .and_then(Value::as_object)
            .ok_or_else(|| self.fail("there is no object on stdout"))
    }

    /// Requires exit status 0 and a result in exactly the shape that `version` gives to a plugin of this kind.
    pub fn result(&self, version: Version, kind: Kind) -> Result<Value, Stop> {
        let result = Value::Object(self.object()?.clone());
        let complaints = result::check_result(version, kind, &result);
        if complaints.is_empty() {
            Ok(result)
        } else {
            Err(self.fail(complaints.join("; ")))
        }
    }

    /// Requires an error with one of these codes ([`code::OWN`] stands for 100 and above; an empty list for any code).
    pub fn refused(&self, codes: &[i64]) -> Result<Refusal, Stop> {
        if self.succeeded() {
            return Err(self.fail("the call should have been refused, and succeeded"));
        }
        let object = self.document.as_ref().and_then(Value::as_object);
        let text = |key| {
            object
                .and_then(|o| o.get(key))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let Some(code) = object.and_then(|o| o.get("code")).and_then(Value::as_i64) else {
            return Err(self.fail("the error object has no integer `code`"));
        };
        let accepted = |&one: &i64| one == code || (one == code::OWN && code >= code::OWN);
        if !codes.is_empty() && !codes.iter().any(accepted) {
            return Err(self.fail(format!(
                "refused with code {code}, expected {}",
                list(codes)
            )));
        }
        Ok(Refusal {
            answer: self.clone(),
            code,
            msg: text("msg"),
            details: text("details"),
        })
    }
}

impl Refusal {
    /// Requires `word` in the message or its details.
    pub fn names(&self, word: &str) -> Result<&Self, Stop> {
        if self.msg.contains(word) || self.details.contains(word) {
            return Ok(self);
        }
        Err(self
            .answer
            .fail(format!("the message does not name `{word}`")))
    }
}

impl Exchange {
    /// `CNI_COMMAND` of the call, whether or not it is a verb.
    pub fn verb(&self) -> Option<&str> {
        self.call
            .env
            .get("CNI_COMMAND")
            .and_then(|verb| verb.to_str())
    }

    /// Whether the call was this verb.
    pub fn is(&self, verb: Verb) -> bool {
        self.verb() == Some(verb.as_str())
    }
}

fn broken(exchange: &Arc<Exchange>, what: String) -> Stop {
    Stop::Fail(Failure {
        what,
        exchange: Some(Arc::clone(exchange)),
    })
}

fn parse_stdout(stdout: &[u8]) -> Result<Option<Value>, String> {
    if stdout.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(stdout)
        .map(Some)
        .map_err(|error| error.to_string())
}

fn list(codes: &[i64]) -> String {
    let words: Vec<_> = codes
        .iter()
        .map(|&one| {
            if one == code::OWN {
                "100 or above".into()
            } else {
                one.to_string()
            }
        })
        .collect();
    words.join(" or ")
}
