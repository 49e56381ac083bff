//! One request as it is to be sent, as often as need be.

use std::fmt::Write;

use hyper::Method;
use hyper::body::Bytes;

/// An object as JSON, in requests and in answers.
pub(crate) const JSON: &str = "application/json";

/// A request and what is known about repeating it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query, below the server's prefix.
    pub(crate) path: String,
    /// Empty without a body.
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// The forms of an answer that can be read, as `Accept` has them.
    pub(crate) accept: &'static str,
    /// For people: `GET pods default/samplepod`.
    pub(crate) what: String,
    pub(crate) repeat: Repeat,
    /// Whether a conflict (409) passes by itself: the request demands nothing about the state it changes.
    pub(crate) conflict_passes: bool,
}

/// Whether a request may be sent again when an earlier try may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing.
    ReadsOnly,
    /// Twice is the same as once, or the second time is refused.
    Safe,
    /// Twice is not once.
    Unsafe,
}

impl Request {
    /// A request without a body that changes nothing.
    pub(crate) fn read(path: String, what: String) -> Request {
        Request {
            method: Method::GET,
            path,
            content_type: "",
            body: Bytes::new(),
            accept: JSON,
            what,
            repeat: Repeat::ReadsOnly,
            conflict_passes: false,
        }
    }
}

/// Appends one segment to a path: `/` and the name, with every byte escaped that means something in a path.
///
/// Names come from annotations, so anybody may have written them: one that would lead elsewhere is refused, as
/// client-go refuses it.
pub(crate) fn push_segment(path: &mut String, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("resource name may not be empty".into());
    }
    if name == "." || name == ".." {
        return Err(format!("resource name may not be {name:?}"));
    }
    if name.contains(['/', '%']) {
        return Err(format!("resource name {name:?} may not contain '/' or '%'"));
    }
    path.push('/');
    push_escaped(path, name);
    Ok(())
}

/// Appends `?key=value` or `&key=value`, unless the value is empty.
pub(crate) fn push_query(path: &mut String, key: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    path.push(if path.contains('?') { '&' } else { '?' });
    path.push_str(key);
    path.push('=');
    push_escaped(path, value);
}

fn push_escaped(path: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        let mut path = String::from("/api/v1");
        push_segment(&mut path, "a b?c#d\n").unwrap();
        assert_eq!(path, "/api/v1/a%20b%3Fc%23d%0A");
        for name in ["", ".", "..", "../secrets/x", "a%2fb"] {
            assert!(push_segment(&mut path, name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_query_grows() {
        let mut path = String::from("/x");
        push_query(&mut path, "a", "");
        push_query(&mut path, "labelSelector", "app=web,tier in (a)");
        push_query(&mut path, "limit", "5");
        assert_eq!(
            path,
            "/x?labelSelector=app%3Dweb%2Ctier%20in%20%28a%29&limit=5"
        );
    }
}
