//! The error object of the spec (section "Error") and its codes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The codes that mean something to a runtime. Everything else is [`Code::Plugin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 1: the version asked for is not supported.
    IncompatibleVersion,
    /// 2: a field is not understood; the message names key and value.
    UnsupportedField,
    /// 3: the container is unknown; the runtime need not clean up.
    UnknownContainer,
    /// 4: `CNI_*` variables are missing or invalid; the message names them.
    InvalidEnvironment,
    /// 5: stdin could not be read, or a file or socket failed.
    Io,
    /// 6: a document could not be decoded.
    Decoding,
    /// 7: the network configuration is invalid.
    InvalidConfig,
    /// 11: a passing condition; the runtime should try again later.
    TryAgainLater,
    /// 50: the plugin can't serve ADD now (STATUS).
    NotAvailable,
    /// 51: as 50, and containers on this network may have limited connectivity (STATUS).
    LimitedConnectivity,
    /// 999: what the original answers for every error of a plugin's own.
    Plugin,
    /// Any other number, as a delegate answered it.
    Other(u32),
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decoding => 6,
            Code::InvalidConfig => 7,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Plugin => 999,
            Code::Other(number) => number,
        }
    }
}

/// Why a request failed, as the runtime is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kind of failure, for programs.
    pub code: Code,
    /// What was asked and what answered, for people.
    pub msg: String,
    /// More, if there is more; empty is left out.
    pub details: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

/// What a delegate may print. Lenient: `cniVersion` is missing from every error of the originals.
#[derive(Deserialize)]
struct Foreign {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl Error {
    /// An error with a code of the spec.
    pub fn new(code: Code, msg: impl Into<String>) -> Error {
        Error {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// An error of the plugin's own, code 999.
    pub fn plugin(msg: impl Into<String>) -> Error {
        Error::new(Code::Plugin, msg)
    }

    /// An error in the network configuration, code 7.
    pub fn config(msg: impl Into<String>) -> Error {
        Error::new(Code::InvalidConfig, msg)
    }

    /// Adds the `details` member.
    pub fn details(mut self, details: impl Into<String>) -> Error {
        self.details = details.into();
        self
    }

    /// Puts words in front of the message: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Error {
        self.msg = format!("{context}: {}", self.msg);
        self
    }

    /// One error out of all that failed in a verb that goes on past failures (DEL, GC). The first code wins.
    pub fn join(errors: Vec<Error>) -> Result<(), Error> {
        let Some(code) = errors.first().map(|e| e.code) else {
            return Ok(());
        };
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Err(Error::new(code, all.join("; ")))
    }

    /// The error object, indented by four spaces and without a final newline as the originals print it.
    pub fn to_json(&self, cni_version: &str) -> String {
        crate::json::pretty(&Wire {
            cni_version,
            code: self.code.number(),
            msg: &self.msg,
            details: &self.details,
        })
    }

    /// Reads the error object of a delegate; the text says why it is none.
    pub fn parse(document: &[u8]) -> Result<Error, String> {
        let foreign: Foreign = crate::json::from_slice(document).map_err(|e| e.to_string())?;
        Ok(Error {
            code: Code::Other(foreign.code),
            msg: foreign.msg,
            details: foreign.details,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
