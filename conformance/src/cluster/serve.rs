//! Connections: TLS, HTTP/1.1 and HTTP/2, and the faults that strike below HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::answer;

/// What a request needs to know of its connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Counted from 1.
    pub(super) number: u64,
    /// The client showed a certificate that was verified.
    pub(super) certified: bool,
    /// Ends the connection at once.
    end: Notify,
}

impl Connection {
    /// Ends the connection; what waits for this never goes on.
    pub(super) async fn drop_now<T>(&self) -> T {
        self.end.notify_one();
        std::future::pending().await
    }

    /// Ends the connection when what was answered so far is on its way.
    pub(super) fn drop_soon(self: Arc<Self>) {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.end.notify_one();
        });
    }
}

/// Takes connections for ever.
pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let numbers = AtomicU64::new(1);
    loop {
        // An error here is of the connection, such as one that was reset before it was taken.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connection(
            stream,
            acceptor.clone(),
            number,
            Arc::clone(&shared),
        ));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, number: u64, shared: Arc<Shared>) {
    // Answers are small, and a client waits for each.
    let _ = stream.set_nodelay(true);
    // A client that does not trust us ends the handshake: its own matter.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let connection = Arc::new(Connection {
        number,
        certified: session.peer_certificates().is_some(),
        end: Notify::new(),
    });
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            answer::answer(request, Arc::clone(&connection), Arc::clone(&shared))
        })
    };
    let io = TokioIo::new(stream);
    let end = connection.end.notified();
    if http2 {
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service);
        tokio::select! { _ = served => {}, () = end => {} }
    } else {
        let served = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
        tokio::select! { _ = served => {}, () = end => {} }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Content {
    /// All of it.
    Whole(Bytes),
    /// The beginning of a body of this length; the rest never comes.
    Part(Bytes, u64),
    /// Pieces as they come, for a watch.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Part(bytes, _) if bytes.is_empty() => return Poll::Pending,
            Self::Whole(bytes) | Self::Part(bytes, _) => std::mem::take(bytes),
            Self::Stream(pieces) => match ready!(pieces.poll_recv(context)) {
                Some(bytes) => bytes,
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Part(_, length) => SizeHint::with_exact(*length),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
