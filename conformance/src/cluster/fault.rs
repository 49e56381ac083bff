//! Faults on demand: which request is struck, and by what.

use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is answered properly, this much later.
    Delay(Duration),
    /// It is carried out and answered when the faults are taken back, even if its client has gone by then.
    Held,
    /// It is not carried out but answered with this HTTP status, and a `Retry-After` of so many seconds.
    Answer(u16, Option<u64>),
    /// The connection ends before anything is done.
    Drop,
    /// It is carried out, and the connection ends before the answer.
    DropApplied,
    /// It is carried out, and the connection ends in the middle of the answer's body.
    DropMidway,
    /// It is answered 200 with this text, which may be no JSON at all.
    Garbage(String),
}

/// A rule. Of several rules for one request all take effect, in the order in which they were set.
///
/// ```
/// use cni_conformance::cluster::{Effect, Fault};
///
/// // The second GET of a pod is answered 503, all others are not touched.
/// let _ = Fault::on("GET", "/pods/", Effect::Answer(503, None)).nth(2);
/// // Every request is answered a second late.
/// let _ = Fault::on("", "", Effect::Delay(std::time::Duration::from_secs(1)));
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    method: String,
    path: String,
    first: u32,
    last: u32,
    effect: Effect,
    seen: u32,
}

impl Fault {
    /// For every request with this method whose path (with its query) contains this text. An empty text stands for all.
    pub fn on(method: &str, path: &str, effect: Effect) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            first: 1,
            last: u32::MAX,
            effect,
            seen: 0,
        }
    }

    /// For the nth such request only, counted from 1 and from now on.
    #[must_use]
    pub fn nth(self, nth: u32) -> Self {
        Self {
            first: nth,
            last: nth,
            ..self
        }
    }

    /// For the first so many such requests only.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self {
            last: count,
            ..self
        }
    }

    /// Counts a request, and says what strikes it.
    pub(super) fn strike(&mut self, method: &str, path: &str) -> Option<Effect> {
        let meant = (self.method.is_empty() || self.method == method) && path.contains(&self.path);
        if !meant {
            return None;
        }
        self.seen += 1;
        (self.first..=self.last)
            .contains(&self.seen)
            .then(|| self.effect.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(mut fault: Fault, requests: &[(&str, &str)]) -> Vec<bool> {
        requests
            .iter()
            .map(|(method, path)| fault.strike(method, path).is_some())
            .collect()
    }

    #[test]
    fn rules_count_what_they_mean() {
        let requests = [
            ("GET", "/pods/a"),
            ("GET", "/events"),
            ("GET", "/pods/b"),
            ("PUT", "/pods/b"),
            ("GET", "/pods/c"),
        ];
        let on = |method| Fault::on(method, "/pods/", Effect::Drop);
        assert_eq!(
            struck(on("GET"), &requests),
            [true, false, true, false, true]
        );
        assert_eq!(
            struck(on("GET").nth(2), &requests),
            [false, false, true, false, false]
        );
        assert_eq!(
            struck(on("").times(2), &requests),
            [true, false, true, false, false]
        );
        assert_eq!(
            struck(Fault::on("", "", Effect::Drop).nth(4), &requests),
            [false, false, false, true, false]
        );
    }
}
