//! What the kernel answers when it does not do what it was asked.

use std::{fmt, io};

use nix::errno::Errno;

/// A refusal of the kernel, or a failure on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kernel's number, where it gave one.
    pub errno: Option<Errno>,
    /// What was asked and what was answered, for people.
    pub msg: String,
}

impl Error {
    /// An error that is no answer of the kernel.
    pub fn new(msg: impl Into<String>) -> Error {
        Error {
            errno: None,
            msg: msg.into(),
        }
    }

    /// An answer: the number in words and, if the kernel said more (`NLMSGERR_ATTR_MSG`), what it said.
    pub(crate) fn answer(errno: Errno, more: &str) -> Error {
        let words = words(errno);
        Error {
            errno: Some(errno),
            msg: match more {
                "" => words,
                _ => format!("{words}: {more}"),
            },
        }
    }

    /// Puts words in front of the message: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Error {
        self.msg = format!("{context}: {}", self.msg);
        self
    }

    /// Whether what was asked for is in use otherwise (`EBUSY`).
    pub fn is_busy(&self) -> bool {
        self.is(Errno::EBUSY)
    }

    /// Whether the kernel answered with this number.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == Some(errno)
    }
}

/// The number in the words of the original plugins, which users search for: `file exists`.
pub(crate) fn words(errno: Errno) -> String {
    let text = match errno {
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::UnknownErrno => "unknown error",
        _ => errno.desc(),
    };
    let mut words = text.to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::answer(errno, "")
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        match e.raw_os_error() {
            Some(number) => Errno::from_raw(number).into(),
            None => Error::new(e.to_string()),
        }
    }
}

/// For the runtime it is an error of the plugin's own, code 999 as in the originals.
impl From<Error> for cni::Error {
    fn from(e: Error) -> cni::Error {
        cni::Error::plugin(e.msg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_originals() {
        for (errno, text) in [
            (Errno::EEXIST, "file exists"),
            (Errno::EINVAL, "invalid argument"),
            (Errno::ENETUNREACH, "network is unreachable"),
            (Errno::EADDRNOTAVAIL, "cannot assign requested address"),
            (Errno::EADDRINUSE, "address already in use"),
            (Errno::EOPNOTSUPP, "operation not supported"),
        ] {
            assert_eq!(Error::from(errno).msg, text);
        }
        let more = Error::answer(Errno::EINVAL, "Invalid gateway").context("failed to add route");
        assert_eq!(
            more.to_string(),
            "failed to add route: invalid argument: Invalid gateway"
        );
        assert!(more.is(Errno::EINVAL));
    }
}
