//! Requests that are held back, and carried out when the faults are taken back.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::locked;

/// Where they wait.
#[derive(Debug, Default)]
pub(super) struct Held {
    requests: Mutex<Requests>,
    carried_out: Condvar,
}

#[derive(Debug, Default)]
struct Requests {
    waiting: Vec<oneshot::Sender<()>>,
    /// Those that wait and those that have been let go and are not carried out yet.
    count: usize,
}

/// One of them, until it has been carried out.
#[derive(Debug)]
pub(super) struct Place(Arc<Held>);

impl Held {
    /// Takes a request in. It is let go when the receiver has a value or an error.
    pub(super) fn take(self: &Arc<Self>) -> (Place, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        let mut requests = locked(&self.requests);
        requests.waiting.push(sender);
        requests.count += 1;
        (Place(Arc::clone(self)), receiver)
    }

    /// Lets all go, and returns when they have been carried out. Not to be called by the thread that does that.
    pub(super) fn release(&self) {
        let mut requests = locked(&self.requests);
        requests.waiting.clear();
        while requests.count > 0 {
            let waited = self.carried_out.wait(requests);
            requests = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.0.requests).count -= 1;
        self.0.carried_out.notify_all();
    }
}
