//! The `Status` objects with which an API server says no, worded as Kubernetes words them: clients look for the reasons.

use serde_json::{Map, Value, json};

use super::path::Target;

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// The word that programs go by, such as `NotFound`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// What the sentence is about.
    pub details: Value,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
}

impl Status {
    /// One of this code, with the reason that belongs to it.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason(code),
            message: message.into(),
            details: Value::Null,
            retry_after: None,
        }
    }

    /// Nothing is there.
    pub fn not_found(target: &Target) -> Self {
        Self::about(target, 404, format!("{} not found", target.title()))
    }

    /// An object of that name is there already.
    pub fn already_exists(target: &Target) -> Self {
        Self {
            reason: "AlreadyExists",
            ..Self::about(target, 409, format!("{} already exists", target.title()))
        }
    }

    /// Somebody else was faster.
    pub fn conflict(target: &Target, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", target.title());
        Self::about(target, 409, message)
    }

    /// The object makes no sense; `why` names the field.
    pub fn invalid(target: &Target, why: &str) -> Self {
        Self::about(target, 422, format!("{} is invalid: {why}", target.title()))
    }

    fn about(target: &Target, code: u16, message: String) -> Self {
        let mut details = Map::new();
        for (key, value) in [
            ("name", &target.name),
            ("group", &target.group),
            ("kind", &target.resource),
        ] {
            if !value.is_empty() {
                details.insert(key.into(), value.as_str().into());
            }
        }
        Self {
            details: details.into(),
            ..Self::new(code, message)
        }
    }

    /// The document.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        let mut details = self.details.clone();
        if let Some(seconds) = self.retry_after {
            details["retryAfterSeconds"] = seconds.into();
        }
        if !details.is_null() {
            document["details"] = details;
        }
        document
    }
}

/// The document that says a deletion was done.
pub(super) fn deleted(target: &Target, uid: &Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": target.name, "group": target.group, "kind": target.resource, "uid": uid},
    })
}

const fn reason(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}
