//! A call of a plugin before it is made: start from what a runtime sends, and change what the case is about.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::process::Invocation;
use crate::spec::Verb;

/// A runtime waits longer; a plugin in a namespace of its own has no reason to.
const LIMIT: Duration = Duration::from_secs(20);

/// The environment and stdin of one call. Methods take and give it by value, so that a case reads as a sentence.
#[derive(Clone, Debug)]
pub struct Call {
    env: BTreeMap<String, OsString>,
    stdin: Vec<u8>,
    stdin_stays_open: bool,
    stdout_closed: bool,
    limit: Duration,
}

impl Call {
    /// Only `CNI_COMMAND`, and nothing on stdin.
    pub fn bare(verb: Verb) -> Self {
        Self {
            env: BTreeMap::new(),
            stdin: Vec::new(),
            stdin_stays_open: false,
            stdout_closed: false,
            limit: LIMIT,
        }
        .with("CNI_COMMAND", verb.as_str())
    }

    /// Sets a variable.
    pub fn with(mut self, variable: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(variable.into(), value.into());
        self
    }

    /// Removes a variable.
    pub fn without(mut self, variable: &str) -> Self {
        self.env.remove(variable);
        self
    }

    /// Sends these bytes.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sends this configuration.
    pub fn config(self, config: &Value) -> Self {
        self.stdin(config.to_string())
    }

    /// Changes the configuration that would be sent. Only for calls that have one.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut config = serde_json::from_slice(&self.stdin).unwrap_or(Value::Null);
        change(&mut config);
        self.stdin = config.to_string().into_bytes();
        self
    }

    /// Changes the text that would be sent, where JSON values can't say what is meant.
    pub fn rewrite(mut self, change: impl FnOnce(String) -> String) -> Self {
        self.stdin = change(String::from_utf8_lossy(&self.stdin).into_owned()).into_bytes();
        self
    }

    /// Leaves stdin open behind the bytes.
    pub fn stdin_stays_open(mut self) -> Self {
        self.stdin_stays_open = true;
        self
    }

    /// Closes the plugin's stdout, as a runtime does that died.
    pub fn stdout_closed(mut self) -> Self {
        self.stdout_closed = true;
        self
    }

    /// How long the plugin may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The call as something that can run.
    pub fn invocation(&self, program: &Path) -> Invocation {
        Invocation {
            arguments: Vec::new(),
            program: program.to_owned(),
            env: self.env.clone(),
            stdin: self.stdin.clone(),
            stdin_stays_open: self.stdin_stays_open,
            stdout_closed: self.stdout_closed,
            limit: self.limit,
        }
    }
}
