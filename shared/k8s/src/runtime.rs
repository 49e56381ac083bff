//! Requests from a program that is not asynchronous itself: everything on the calling thread.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

/// Runs requests on the calling thread. Connections live as long as this and stay open from one
/// [`Runtime::block_on`] to the next.
#[derive(Debug)]
pub struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// Makes one. Fails only when the kernel has no file descriptors left.
    pub fn new() -> io::Result<Runtime> {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map(|runtime| Runtime(Some(runtime)))
    }

    /// Runs a request, or several (see [`together`]), to the end.
    ///
    /// Don't call it from within one of its own requests.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        #[expect(clippy::expect_used, reason = "it is taken out by drop only")]
        let runtime = self.0.as_ref().expect("a runtime that was not dropped");
        runtime.block_on(future)
    }
}

impl Drop for Runtime {
    /// Waits for nobody: looking up a host's name can't be interrupted and may take long.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs independent requests at the same time and returns their outcomes in the order of the requests.
pub async fn together<F: Future>(requests: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Running<F>> = requests
        .into_iter()
        .map(|f| Running::Waits(Box::pin(f)))
        .collect();
    poll_fn(|context| {
        let mut all = Poll::Ready(());
        for one in &mut running {
            if let Running::Waits(future) = one {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *one = Running::Done(output),
                    Poll::Pending => all = Poll::Pending,
                }
            }
        }
        all
    })
    .await;
    let done = |one| match one {
        Running::Done(output) => Some(output),
        Running::Waits(_) => None,
    };
    running.into_iter().filter_map(done).collect()
}

/// One of the requests of [`together`].
enum Running<F: Future> {
    Waits(Pin<Box<F>>),
    Done(F::Output),
}

impl<F: Future> Unpin for Running<F> {}
