//! A client of one API server: how long a request may take and when it is tried again.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::access::Access;
use crate::api::Api;
use crate::connection::{Answer, Connections, Fault};
use crate::error::{Cause, Error};
use crate::kinds::status::Status;
use crate::kinds::{Kind, Object};
use crate::request::{Repeat, Request};

/// A client. Its clones share connections and cost nothing.
///
/// A request that can't be answered just now is tried again until its time is up: when the connection is refused
/// or lost, and at 429 and 5xx, after a pause that grows from about 40 ms to a second and is never twice the same,
/// or as long as `Retry-After` says if there is so much time left.
///
/// What changes the world is tried again only where that is safe when the earlier try has been carried out:
///
/// | request | after a try that may have been carried out |
/// |---|---|
/// | replace | again: it names the version it replaces, so the second one meets 409 |
/// | merge patch | again: setting the same values twice is setting them once |
/// | create, with a name | again: the second one meets 409 `AlreadyExists` |
/// | delete | again: 404 is then success |
/// | create without a name, JSON patch | never; [`Error::maybe_applied`] says so |
///
/// 429 is an answer before anything is done, so after it everything is tried again. A conflict (409) is not tried
/// again, but in [`Api::update`] and for merge patches that name no version: they ask for nothing to be as it was.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limit: Limit,
}

struct Shared {
    access: Access,
    connections: Connections,
}

/// How long requests may take.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Each(Duration),
    Until(Instant),
}

impl Client {
    /// A client whose requests take at most `limit` each, over all tries. Nothing is connected yet.
    pub fn new(access: Access, limit: Duration) -> Client {
        Client {
            shared: Arc::new(Shared {
                access,
                connections: Connections::default(),
            }),
            limit: Limit::Each(limit),
        }
    }

    /// The same client with another limit for each request.
    pub fn within(&self, limit: Duration) -> Client {
        Client {
            shared: self.shared.clone(),
            limit: Limit::Each(limit),
        }
    }

    /// The same client with one limit for all its requests together, counted from now.
    pub fn in_all_within(&self, limit: Duration) -> Client {
        Client {
            shared: self.shared.clone(),
            limit: Limit::Until(deadline(limit)),
        }
    }

    /// The objects of a kind in one namespace.
    pub fn namespaced<T: Object>(&self, namespace: &str) -> Api<T> {
        Api::new(self.clone(), T::KIND, Some(namespace))
    }

    /// The objects of a kind that has no namespaces; or those of all namespaces, to list them.
    pub fn cluster_wide<T: Object>(&self) -> Api<T> {
        Api::new(self.clone(), T::KIND, None)
    }

    /// The objects of any kind as JSON values, in one namespace or (`None`) cluster-wide.
    pub fn values(&self, kind: Kind, namespace: Option<&str>) -> Api<serde_json::Value> {
        Api::new(self.clone(), kind, namespace)
    }

    /// The objects of a kind that is known only now, such as one that is in several API groups; in one namespace
    /// or (`None`) cluster-wide.
    pub fn of_kind<T>(&self, kind: Kind, namespace: Option<&str>) -> Api<T> {
        Api::new(self.clone(), kind, namespace)
    }

    /// Sends a request, as often as need be, and returns the first answer that is a success.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let deadline = match self.limit {
            Limit::Each(limit) => deadline(limit),
            Limit::Until(deadline) => deadline,
        };
        let started = Instant::now();
        let mut pauses = Pauses::default();
        let mut maybe_applied = false;
        let mut before = String::new();
        loop {
            let attempt = self.attempt(request, deadline).await;
            let failure = match attempt {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            maybe_applied |= failure.maybe_carried_out && request.repeat != Repeat::ReadsOnly;
            let mut error = self.error(request, failure.cause);
            error.maybe_applied = maybe_applied;
            if let (Cause::Timeout(msg), false) = (&mut error.cause, before.is_empty()) {
                *msg = format!("{msg} in {:.1?}; before that: {before}", started.elapsed());
            } else if let Cause::Timeout(msg) = &mut error.cause {
                *msg = format!("{msg} in {:.1?}", started.elapsed());
            }
            let safe = !maybe_applied || request.repeat == Repeat::Safe;
            let pause = match failure.again {
                Again::Never => return Err(error),
                Again::AtOnce => Duration::ZERO,
                Again::AfterPause => pauses.next(),
                Again::After(said) => said,
            };
            if !safe || Instant::now() + pause >= deadline {
                return Err(error);
            }
            log::info!("{error}; trying again in {pause:.0?}");
            before = error.cause.to_string();
            sleep(pause).await;
        }
    }

    async fn attempt(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        let sent = AtomicBool::new(false);
        let Shared {
            access,
            connections,
        } = &*self.shared;
        let outcome = timeout_at(deadline, connections.exchange(access, request, &sent)).await;
        let sent = sent.load(Ordering::Relaxed);
        match outcome {
            Ok(Ok(answer)) if answer.status.is_success() => Ok(answer),
            Ok(Ok(answer)) => Err(Failure::answer(&answer, request)),
            Ok(Err(fault)) => Err(Failure::fault(fault, sent)),
            Err(_) => {
                let what = if sent { "no answer" } else { "no connection" };
                Err(Failure {
                    cause: Cause::Timeout(what.to_owned()),
                    maybe_carried_out: sent,
                    again: Again::Never,
                })
            }
        }
    }

    /// The deadline of a loop of requests, each of which would have the limit for itself otherwise.
    pub(crate) fn with_common_deadline(&self) -> Client {
        match self.limit {
            Limit::Each(limit) => self.in_all_within(limit),
            Limit::Until(_) => self.clone(),
        }
    }

    /// Waits before another round of such a loop; false if there is not so much time left.
    pub(crate) async fn pause(&self, pauses: &mut Pauses) -> bool {
        let pause = pauses.next();
        if let Limit::Until(deadline) = self.limit
            && Instant::now() + pause >= deadline
        {
            return false;
        }
        sleep(pause).await;
        true
    }

    /// An error that says who was asked for what, and what to do.
    pub(crate) fn error(&self, request: &Request, cause: Cause) -> Error {
        let access = &self.shared.access;
        let advice = match &cause {
            Cause::Answer(status) if status.code == 401 => access.advice_unauthorized(),
            Cause::Answer(status) if status.code == 403 => access.advice_forbidden(),
            Cause::Connect(_) => format!(
                "is the server that {} names reachable from this host?",
                access.from
            ),
            _ => String::new(),
        };
        Error {
            cause,
            request: request.what.clone(),
            server: access.server.to_string(),
            maybe_applied: false,
            advice,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?}, {:?})", self.shared.access, self.limit)
    }
}

/// A try that was no success.
struct Failure {
    cause: Cause,
    maybe_carried_out: bool,
    again: Again,
}

/// Whether and when another try may help.
enum Again {
    Never,
    AtOnce,
    AfterPause,
    After(Duration),
}

impl Failure {
    fn answer(answer: &Answer, request: &Request) -> Failure {
        let code = answer.status.as_u16();
        let again = match code {
            409 if request.conflict_passes => Again::AfterPause,
            429 | 500..=599 => answer.retry_after.map_or(Again::AfterPause, Again::After),
            _ => Again::Never,
        };
        Failure {
            cause: Cause::Answer(Box::new(Status::read(code, &answer.body))),
            // A server that fails may have failed after the work was done.
            maybe_carried_out: code >= 500,
            again,
        }
    }

    fn fault(fault: Fault, sent: bool) -> Failure {
        let again = match fault.cause {
            Cause::Connect(_) | Cause::Lost(_) if fault.was_idle => Again::AtOnce,
            Cause::Connect(_) | Cause::Lost(_) => Again::AfterPause,
            _ => Again::Never,
        };
        Failure {
            cause: fault.cause,
            maybe_carried_out: sent,
            again,
        }
    }
}

/// Pauses between tries: each about twice as long as the one before, up to a second. They differ from process to
/// process, so that those who failed together don't come back together.
#[derive(Default)]
pub(crate) struct Pauses(u32);

impl Pauses {
    const FIRST_MS: u64 = 50;
    const LONGEST_MS: u64 = 1000;

    pub(crate) fn next(&mut self) -> Duration {
        let full = (Self::FIRST_MS << self.0.min(10)).min(Self::LONGEST_MS);
        self.0 += 1;
        // The seed of a hasher is random: as good a source as any where it is not about secrets.
        let random = RandomState::new().hash_one(self.0);
        Duration::from_millis(full / 2 + random % (full / 2 + 1))
    }
}

/// A point in time; a limit beyond the clock is a year.
fn deadline(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit)
        .unwrap_or_else(|| now + Duration::from_secs(365 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_differ() {
        let mut pauses = Pauses::default();
        let first = pauses.next();
        assert!((25..=50).contains(&first.as_millis()), "{first:?}");
        for _ in 0..70 {
            pauses.next();
        }
        let many: Vec<_> = (0..20).map(|_| pauses.next()).collect();
        assert!(many.iter().all(|p| (500..=1000).contains(&p.as_millis())));
        assert!(many.iter().any(|p| p != &many[0]));
    }
}
