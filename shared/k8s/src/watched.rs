//! A TLS stream that remembers why it failed. The layers above pass an error on as mere words, and a server that
//! refuses a client's certificate says so only after the handshake (TLS 1.3).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::Error;

use crate::tls;

/// Where a stream's refusal can be read; empty as long as there is none.
pub(crate) type Refusal = Arc<OnceLock<Error>>;

/// A stream and its refusal.
pub(crate) struct Watched<S> {
    stream: S,
    refusal: Refusal,
    /// Why writing has failed, as long as nobody has been told.
    failure: Option<io::Error>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, refusal: Refusal) -> Watched<S> {
        Watched {
            stream,
            refusal,
            failure: None,
        }
    }

    fn note(&self, error: &io::Error) {
        if let Some(refusal) = tls::refusal(error) {
            // The first one is the reason; what follows follows from it.
            let _ = self.refusal.set(refusal.clone());
        }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// What has become of writing. A server that closes the connection may have said why just before; where writing
    /// fails first, nobody would read that any more. So failure is told when all has been read.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(failure)) = written else {
            return written;
        };
        self.note(&failure);
        self.failure = Some(failure);
        self.poll_failure(context).map(Err)
    }

    /// Reads to the end, which has come: what can't be written to is closed.
    fn poll_failure(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let mut bytes = [0; 1024];
        while self.refusal.get().is_none() {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) => break,
                Err(e) => {
                    self.note(&e);
                    break;
                }
            }
        }
        let failure = self.failure.take();
        Poll::Ready(failure.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(e)) = &read {
            self.note(e);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.failure.is_some() {
            return self.poll_failure(context).map(Err);
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.failure.is_some() {
            return self.poll_failure(context).map(Err);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failure.is_some() {
            return self.poll_failure(context).map(Err);
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio_rustls::rustls::AlertDescription;

    use super::*;

    const ALERT: Error = Error::AlertReceived(AlertDescription::UnknownCA);

    /// What is left to read of a connection that the server has closed.
    enum Left {
        NotYet,
        Bytes,
        Alert,
    }

    /// The last one comes first.
    struct Closed(Vec<Left>);

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop() {
                Some(Left::NotYet) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Left::Bytes) => buffer.put_slice(b"what came before"),
                Some(Left::Alert) => return Poll::Ready(Err(io::Error::other(ALERT))),
                None => {}
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn refusal(left: Vec<Left>) -> Option<Error> {
        let refusal = Refusal::default();
        let mut stream = Watched::new(Closed(left), refusal.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let write = poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"GET"));
        let error = runtime.unwrap().block_on(write).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        refusal.get().cloned()
    }

    #[test]
    fn the_reason_is_read_where_writing_fails_first() {
        use Left::{Alert, Bytes, NotYet};
        assert_eq!(refusal(vec![Alert]), Some(ALERT));
        assert_eq!(
            refusal(vec![Alert, NotYet, Bytes, Bytes, NotYet]),
            Some(ALERT)
        );
        assert_eq!(refusal(vec![Bytes, NotYet]), None);
        assert_eq!(refusal(vec![]), None);
    }
}
