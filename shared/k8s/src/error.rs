//! Why a request has no useful answer.

use std::fmt;

use crate::kinds::status::Status;

/// A failed request, or access that can't be used. Its text says what was asked of whom, what was answered and
/// what to do about it; it never holds a token or a key.
#[derive(Debug, Clone)]
pub struct Error {
    /// What happened.
    pub cause: Cause,
    /// What was asked: `GET pods default/samplepod`; empty if it did not come to a request.
    pub request: String,
    /// Who was asked: `https://10.96.0.1:443`; empty if it did not come to a request.
    pub server: String,
    /// Whether the server may have done what was asked all the same. Always false for requests that only read.
    pub maybe_applied: bool,
    /// More about it, for people; may be empty.
    pub(crate) advice: String,
}

/// What happened to a request.
#[derive(Debug, Clone)]
pub enum Cause {
    /// The kubeconfig or the service account can't be used.
    Access(String),
    /// The request was not sent, because it can't be right: an empty name for example.
    Request(String),
    /// No connection: refused, unreachable, unknown host.
    Connect(String),
    /// The two sides could not agree on TLS: certificate, name, protocol.
    Tls(String),
    /// No answer within the time allowed.
    Timeout(String),
    /// The connection was lost before the whole answer was here.
    Lost(String),
    /// The server's answer, which is no success.
    Answer(Box<Status>),
    /// An answer that can't be used: too large, or not what was asked for.
    Decoding(String),
}

impl Error {
    /// Access that can't be used.
    pub(crate) fn access(msg: impl Into<String>) -> Error {
        Error::bare(Cause::Access(msg.into()))
    }

    /// A request that is not worth sending.
    pub(crate) fn request(what: &str, msg: impl Into<String>) -> Error {
        Error {
            request: what.to_owned(),
            ..Error::bare(Cause::Request(msg.into()))
        }
    }

    fn bare(cause: Cause) -> Error {
        Error {
            cause,
            request: String::new(),
            server: String::new(),
            maybe_applied: false,
            advice: String::new(),
        }
    }

    /// The HTTP status code, if the server answered.
    pub fn code(&self) -> Option<u16> {
        match &self.cause {
            Cause::Answer(status) => Some(status.code),
            _ => None,
        }
    }

    /// Whether there is no such object (404).
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the server knows the object's kind and says that there is no such object. A server that has only just been
    /// started, or a definition that was removed, is a 404 too, after which nothing can be said of the object.
    pub fn is_absent(&self) -> bool {
        matches!(&self.cause, Cause::Answer(s) if s.code == 404 && !s.details.name.is_empty())
    }

    /// Whether the object has been changed by somebody else since it was read (409, reason `Conflict`).
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && !self.is_already_exists()
    }

    /// Whether there is an object of this name already (409, reason `AlreadyExists`).
    pub fn is_already_exists(&self) -> bool {
        matches!(&self.cause, Cause::Answer(s) if s.code == 409 && s.reason == "AlreadyExists")
    }

    /// Whether asking again later may help: nobody answered, or the server said it can't just now.
    pub fn is_temporary(&self) -> bool {
        match &self.cause {
            Cause::Connect(_) | Cause::Timeout(_) | Cause::Lost(_) => true,
            Cause::Answer(status) => status.code == 429 || status.code >= 500,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.request.is_empty() {
            f.write_str(&self.request)?;
            if !self.server.is_empty() {
                write!(f, " at {}", self.server)?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}", self.cause)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Access(msg) | Cause::Request(msg) => f.write_str(msg),
            Cause::Connect(msg) => write!(f, "no connection: {msg}"),
            Cause::Tls(msg) => write!(f, "TLS: {msg}"),
            Cause::Timeout(msg) => f.write_str(msg),
            Cause::Lost(msg) => write!(f, "the connection was lost: {msg}"),
            Cause::Answer(status) => write!(f, "{status}"),
            Cause::Decoding(msg) => write!(f, "the answer can't be used: {msg}"),
        }
    }
}

impl std::error::Error for Error {}
