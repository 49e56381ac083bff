//! What the server remembers of a request, for tests to look at. Secrets are not among it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::Target;

/// How a client said who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// By a bearer token that the server knows.
    Token,
    /// By a client certificate of the server's authority.
    Certificate,
    /// By a token that the server does not know, or no longer.
    UnknownToken,
    /// Not at all.
    Nothing,
}

/// One request, in the order of arrival.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// How the client said who it is.
    pub credential: Credential,
    /// `User-Agent`; empty when there was none.
    pub user_agent: String,
    /// `Content-Type`; empty when there was none.
    pub content_type: String,
    /// `Accept`; empty when there was none.
    pub accept: String,
    /// The bytes of the body.
    pub body: Vec<u8>,
    /// Counted from 1: requests with the same number came over one connection.
    pub connection: u64,
    /// Whether it was HTTP/2.
    pub http2: bool,
    /// What it was answered with; `None` while it waits, and when the connection was dropped instead.
    pub status: Option<u16>,
    /// Path and query as they came.
    pub(super) uri: String,
    /// Unique within a server, so that the answer finds the entry again.
    pub(super) serial: u64,
}

impl Request {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The path with the query as it was written for rules: `/api/v1/pods?watch=true`.
    pub(super) fn query_path(&self) -> String {
        let pairs: Vec<_> = self
            .query
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if pairs.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, pairs.join("&"))
        }
    }

    /// The resource it is about; `None` for paths such as `/version`.
    pub fn target(&self) -> Option<Target> {
        Target::parse(&self.path)
    }

    /// The verb and resource that a role must allow for it, such as `("patch", "pods/status")`.
    pub fn permission(&self) -> Option<(&'static str, String)> {
        let target = self.target()?;
        let verb = match self.method.as_str() {
            "GET"
                if matches!(
                    self.query.get("watch").map(String::as_str),
                    Some("true" | "1")
                ) =>
            {
                "watch"
            }
            "GET" if target.name.is_empty() => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if target.name.is_empty() => "deletecollection",
            "DELETE" => "delete",
            _ => return None,
        };
        let mut resource = target.resource;
        if !target.subresource.is_empty() {
            resource = format!("{resource}/{}", target.subresource);
        }
        Some((verb, resource))
    }
}
