//! Connections to one server: made when needed, kept, shared. One request over one of them, one answer.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::access::Access;
use crate::error::Cause;
use crate::request::Request;
use crate::tls;
use crate::watched::{Refusal, Watched};

/// The largest answer that is read, in bytes. An object has 1.5 MB at most, so this is a long page of a list.
const LARGEST_ANSWER: usize = 32 << 20;

/// How much of an answer may be on its way unread over HTTP/2: a whole object.
const WINDOW: u32 = 2 << 20;

/// An HTTP answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// What `Retry-After` says, in seconds.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) cause: Cause,
    /// Whether the connection had served before: then it may have been closed while nobody looked, and a new one
    /// is worth a try at once.
    pub(crate) was_idle: bool,
}

/// What is open.
#[derive(Default)]
pub(crate) struct Connections {
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    /// The one connection of a server that speaks HTTP/2; requests share it.
    http2: Option<Connection<http2::SendRequest<Full<Bytes>>>>,
    /// The idle connections of a server that does not; each serves one request at a time.
    idle: Vec<Connection<http1::SendRequest<Full<Bytes>>>>,
    /// Whether the server is known to speak HTTP/1 only.
    http1_only: bool,
}

/// An open connection.
#[derive(Clone)]
struct Connection<S> {
    sender: S,
    refusal: Refusal,
}

/// A way to send one request.
enum Way {
    Http1(Connection<http1::SendRequest<Full<Bytes>>>),
    Http2(Connection<http2::SendRequest<Full<Bytes>>>),
}

impl Connections {
    /// Sends a request and reads the answer. `sent` is set as soon as the server may have got the request.
    pub(crate) async fn exchange(
        &self,
        access: &Access,
        request: &Request,
        sent: &AtomicBool,
    ) -> Result<Answer, Fault> {
        let fresh = |cause| Fault {
            cause,
            was_idle: false,
        };
        let (mut way, was_idle) = self.way(access).await.map_err(fresh)?;
        let message = message(access, request, &way).map_err(fresh)?;
        sent.store(true, Ordering::Relaxed);
        let answered = match &mut way {
            Way::Http1(connection) => connection.sender.send_request(message).await,
            Way::Http2(connection) => connection.sender.send_request(message).await,
        };
        let read = match answered {
            Ok(response) => read(response).await,
            Err(e) => {
                sent.store(!e.is_canceled(), Ordering::Relaxed);
                Err(Cause::Lost(chain(&e)))
            }
        };
        let refusal = match &way {
            Way::Http1(connection) => connection.refusal.clone(),
            Way::Http2(connection) => connection.refusal.clone(),
        };
        let mut pool = self.pool.lock().await;
        match (&read, way) {
            (Ok(_), Way::Http1(connection)) => pool.idle.push(connection),
            (Ok(_), Way::Http2(_)) | (Err(_), Way::Http1(_)) => {}
            // Whatever is wrong with it, the next try shall not meet it again.
            (Err(_), Way::Http2(_)) => pool.http2 = None,
        }
        read.map_err(|cause| match (refusal.get(), &access.tls) {
            (Some(refusal), Some(tls)) => fresh(Cause::Tls(tls.explain(refusal))),
            _ => Fault { cause, was_idle },
        })
    }

    /// A connection that is open, or else a new one; and whether it is an old one. Those who come while the first
    /// connection is being made wait for it, as they can probably share it.
    async fn way(&self, access: &Access) -> Result<(Way, bool), Cause> {
        let mut pool = self.pool.lock().await;
        if pool.http2.is_some() || !pool.idle.is_empty() {
            // Nobody watched the connections while no request ran: let them notice an end that has come.
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
        }
        pool.http2.take_if(|http2| http2.sender.is_closed());
        if let Some(http2) = &pool.http2 {
            return Ok((Way::Http2(http2.clone()), true));
        }
        while let Some(mut http1) = pool.idle.pop() {
            if http1.sender.ready().await.is_ok() {
                return Ok((Way::Http1(http1), true));
            }
        }
        if pool.http1_only {
            drop(pool);
            return connect(access).await.map(|way| (way, false));
        }
        let way = connect(access).await?;
        match &way {
            Way::Http1(_) => pool.http1_only = true,
            Way::Http2(connection) => pool.http2 = Some(connection.clone()),
        }
        Ok((way, false))
    }
}

async fn connect(access: &Access) -> Result<Way, Cause> {
    let tcp = reach(&access.server.host, access.server.port)
        .await
        .map_err(|e| Cause::Connect(e.to_string()))?;
    // Requests are small and answers are waited for.
    let _ = tcp.set_nodelay(true);
    let refusal = Refusal::default();
    let Some(tls) = &access.tls else {
        return speak_http1(tcp, refusal).await;
    };
    let stream = TlsConnector::from(tls.config.clone())
        .connect(tls.name.clone(), tcp)
        .await
        .map_err(|e| match tls::refusal(&e) {
            Some(refusal) => Cause::Tls(tls.explain(refusal)),
            None => Cause::Lost(chain(&e)),
        })?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Watched::new(stream, refusal.clone());
    if http2 {
        return speak_http2(stream, refusal).await;
    }
    speak_http1(stream, refusal).await
}

/// Connects to the first address that answers. A name may have several.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    // An address needs no looking up, which would start a thread.
    if let Ok(ip) = host.parse() {
        return TcpStream::connect(SocketAddr::new(ip, port)).await;
    }
    TcpStream::connect((host, port)).await
}

async fn speak_http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    refusal: Refusal,
) -> Result<Way, Cause> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Cause::Lost(e.to_string()))?;
    // Its failure is told to whoever waits for an answer.
    tokio::spawn(async { drop(connection.await) });
    Ok(Way::Http1(Connection { sender, refusal }))
}

async fn speak_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    refusal: Refusal,
) -> Result<Way, Cause> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Cause::Lost(e.to_string()))?;
    tokio::spawn(async { drop(connection.await) });
    Ok(Way::Http2(Connection { sender, refusal }))
}

fn message(
    access: &Access,
    request: &Request,
    way: &Way,
) -> Result<hyper::Request<Full<Bytes>>, Cause> {
    let server = &access.server;
    let target = match way {
        Way::Http1(_) => format!("{}{}", server.prefix, request.path),
        Way::Http2(_) => format!("{server}{}", request.path),
    };
    let mut message = hyper::Request::builder()
        .method(&request.method)
        .uri(target)
        .header(ACCEPT, request.accept)
        .header(USER_AGENT, concat!("cni-k8s/", env!("CARGO_PKG_VERSION")));
    if let Way::Http1(_) = way {
        message = message.header(HOST, server.authority());
    }
    if let Some(token) = &access.token {
        message = message.header(AUTHORIZATION, token.header.clone());
    }
    if !request.content_type.is_empty() {
        message = message.header(CONTENT_TYPE, request.content_type);
    }
    message
        .body(Full::new(request.body.clone()))
        .map_err(|e| Cause::Request(e.to_string()))
}

async fn read(response: Response<Incoming>) -> Result<Answer, Cause> {
    let (head, mut body) = response.into_parts();
    let seconds = head
        .headers
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let announced = body.size_hint().lower();
    let mut all = Vec::new();
    let too_large = || Cause::Decoding(format!("it is larger than {} MB", LARGEST_ANSWER >> 20));
    match usize::try_from(announced) {
        Ok(length) if length <= LARGEST_ANSWER => all.reserve(length),
        _ => return Err(too_large()),
    }
    while let Some(frame) = next_frame(&mut body).await {
        let frame = frame.map_err(|e| Cause::Lost(chain(&e)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if all.len() + data.len() > LARGEST_ANSWER {
            return Err(too_large());
        }
        all.extend_from_slice(&data);
    }
    Ok(Answer {
        status: head.status,
        retry_after: seconds.map(Duration::from_secs),
        body: all,
    })
}

async fn next_frame(body: &mut Incoming) -> Option<hyper::Result<hyper::body::Frame<Bytes>>> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await
}

/// An error and what is behind it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}
