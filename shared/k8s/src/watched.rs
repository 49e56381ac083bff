//! A TLS stream that remembers why it failed. The layers above pass an error on as mere words, and a server that
//! refuses a client's certificate says so only after the handshake (TLS 1.3).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::Error;

use crate::tls;

/// Where a stream's refusal can be read; empty as long as there is none.
pub(crate) type Refusal = Arc<OnceLock<Error>>;

/// A stream and its refusal.
pub(crate) struct Watched<S> {
    pub(crate) stream: S,
    pub(crate) refusal: Refusal,
}

impl<S> Watched<S> {
    fn note<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(e)) = &poll
            && let Some(refusal) = tls::refusal(e)
        {
            // The first one is the reason; what follows follows from it.
            let _ = self.refusal.set(refusal.clone());
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// As [`Watched::note`], for what goes to the server. One that closes the connection may have said why just before;
    /// where writing fails first, nobody would read it any more.
    fn note_written<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &poll {
            let mut bytes = [0; 1024];
            loop {
                let mut buffer = ReadBuf::new(&mut bytes);
                let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
                match self.note(read) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    _ => break,
                }
            }
        }
        self.note(poll)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.note(poll)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note_written(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.note_written(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.note_written(context, poll)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio_rustls::rustls::AlertDescription;

    use super::*;

    /// What is left of a connection that the server has closed after an alert.
    struct Closed(Vec<Result<&'static [u8], Error>>);

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop() {
                Some(Ok(bytes)) => buffer.put_slice(bytes),
                Some(Err(alert)) => return Poll::Ready(Err(io::Error::other(alert))),
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

    fn written(left: Vec<Result<&'static [u8], Error>>) -> Option<Error> {
        let refusal = Refusal::default();
        let mut stream = Watched {
            stream: Closed(left),
            refusal: refusal.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let write = poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"GET"));
        let error = runtime.unwrap().block_on(write).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        refusal.get().cloned()
    }

    #[test]
    fn the_reason_is_read_where_writing_fails_first() {
        let alert = Error::AlertReceived(AlertDescription::UnknownCA);
        let before: &[u8] = b"what came before";
        assert_eq!(
            written(vec![Err(alert.clone()), Ok(before)]),
            Some(alert.clone())
        );
        assert_eq!(written(vec![Err(alert.clone())]), Some(alert));
        assert_eq!(written(vec![]), None);
    }
}
