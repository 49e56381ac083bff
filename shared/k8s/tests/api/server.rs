//! An API server that answers what a test tells it to, over TLS or plain, HTTP/1 or HTTP/2, whole or broken.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s::{Access, Client};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::pki::{Authority, Certified};

/// One answer.
pub(crate) enum Reply {
    /// Code and body.
    Json(u16, Value),
    /// Code, one header and body.
    With(u16, (&'static str, &'static str), Value),
    /// Code and a body that is no JSON.
    Text(u16, &'static str),
    /// The same, late.
    Late(Duration, Value),
    /// Nothing: the connection (HTTP/1) or the stream (HTTP/2) is cut.
    CutBeforeHeaders,
    /// Headers that promise a body, and a cut.
    CutAfterHeaders,
    /// Half of the body, and a cut.
    CutInBody,
    /// A body of so many bytes, which nobody announced.
    Huge(usize),
    /// A whole answer, after which the connection is closed.
    AndClose(Value),
}

/// What a request looked like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) content_type: String,
    pub(crate) body: String,
    pub(crate) http2: bool,
    /// Which connection it came over, from 1.
    pub(crate) connection: usize,
}

/// What a server is to be.
pub(crate) struct Options {
    pub(crate) certified: Option<Certified>,
    pub(crate) http2: bool,
    /// Whether clients need a certificate of the authority.
    pub(crate) client_certificates: bool,
    pub(crate) address: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            certified: None,
            http2: true,
            client_certificates: false,
            address: "127.0.0.1:0",
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) scratch: Scratch,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<Seen>>,
}

impl Server {
    pub(crate) fn new() -> Server {
        Server::with(Options::default())
    }

    pub(crate) fn http1() -> Server {
        Server::with(Options {
            http2: false,
            ..Options::default()
        })
    }

    pub(crate) fn with(options: Options) -> Server {
        let authority = Authority::new();
        Server::of(authority, options)
    }

    /// A server whose certificate is `certified`, or one of `authority` for 127.0.0.1 and ::1.
    pub(crate) fn of(authority: Authority, options: Options) -> Server {
        let certified = options.certified.clone();
        let certified = certified.unwrap_or_else(|| authority.certify(&["127.0.0.1", "::1"]));
        let tls = tls(&authority, &certified, &options);
        Server::start(authority, Some(tls), options.address)
    }

    pub(crate) fn plain() -> Server {
        Server::start(Authority::new(), None, "127.0.0.1:0")
    }

    fn start(authority: Authority, tls: Option<TlsAcceptor>, address: &str) -> Server {
        loopback_up();
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let serving = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.spawn(serve(listener, tls, serving));
            let _ = runtime.block_on(stopped);
        });
        Server {
            address,
            authority,
            scratch: Scratch::new(),
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The answers to come, in their order.
    pub(crate) fn replies(&self, replies: impl IntoIterator<Item = Reply>) -> &Server {
        self.shared.replies.lock().unwrap().extend(replies);
        self
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// A kubeconfig with these members of its user, next to `ca.crt`.
    pub(crate) fn kubeconfig(&self, user: Value) -> PathBuf {
        self.scratch.write("ca.crt", &self.authority.pem());
        let cluster = json!({
            "server": format!("https://{}", self.address),
            "certificate-authority": "ca.crt",
        });
        self.scratch.kubeconfig(cluster, user)
    }

    /// A client with a token.
    pub(crate) fn client(&self, limit: Duration) -> Client {
        let path = self.kubeconfig(json!({"token": "secret-token"}));
        Client::new(Access::kubeconfig(&path).unwrap(), limit)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let _ = self.thread.take().unwrap().join();
    }
}

/// Tests run in a network namespace of their own, which is made without any link that is up.
pub(crate) fn loopback_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "no plugin: a tool that sets a stage"
        )]
        let ip = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(ip.unwrap().success());
    });
}

/// A folder of one test, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("k8s-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn kubeconfig(&self, cluster: Value, user: Value) -> PathBuf {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        });
        self.write("kubeconfig", &config.to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tls(authority: &Authority, certified: &Certified, options: &Options) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if options.client_certificates {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = match options.http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    for connection in 1.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            match tls {
                None => speak(TokioIo::new(stream), false, shared, connection).await,
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    speak(TokioIo::new(stream), http2, shared, connection).await;
                }
            }
        });
    }
}

async fn speak<I>(io: I, http2: bool, shared: Arc<Shared>, connection: usize)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service =
        hyper::service::service_fn(move |request| answer(request, shared.clone(), connection));
    // Whether a connection ends well is the client's to tell.
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await
    };
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    connection: usize,
) -> io::Result<Response<Script>> {
    let header = |name| {
        let value = request.headers().get(name).map(|v| v.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    let mut seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path_and_query().unwrap().to_string(),
        authorization: header("authorization"),
        content_type: header("content-type"),
        body: String::new(),
        http2: request.version() == hyper::Version::HTTP_2,
        connection,
    };
    let body = request.into_body().collect().await.unwrap().to_bytes();
    seen.body = String::from_utf8(body.to_vec()).unwrap();
    shared.seen.lock().unwrap().push(seen);
    let reply = shared.replies.lock().unwrap().pop_front();
    let reply = reply.unwrap_or(Reply::Text(500, "the test has no answer to this"));
    let builder = Response::builder();
    let cut = || Err(io::Error::other("cut"));
    let built = match reply {
        Reply::Json(code, body) => builder.status(code).body(Script::whole(body.to_string())),
        Reply::With(code, (name, value), body) => builder
            .status(code)
            .header(name, value)
            .body(Script::whole(body.to_string())),
        Reply::Text(code, text) => builder.status(code).body(Script::whole(text)),
        Reply::Late(delay, body) => {
            tokio::time::sleep(delay).await;
            builder.body(Script::whole(body.to_string()))
        }
        Reply::CutBeforeHeaders => return Err(io::Error::other("cut")),
        Reply::CutAfterHeaders => builder
            .header("content-length", "1000")
            .body(Script::parts([cut()])),
        Reply::CutInBody => {
            let half = Bytes::from_static(br#"{"metadata":{"name":"#);
            builder
                .header("content-length", "1000")
                .body(Script::parts([Ok(half), cut()]))
        }
        Reply::Huge(bytes) => {
            let parts = std::iter::repeat_n(Bytes::from(vec![b' '; 1 << 20]), bytes >> 20);
            builder.body(Script::parts(parts.map(Ok)))
        }
        Reply::AndClose(body) => builder
            .header("connection", "close")
            .body(Script::whole(body.to_string())),
    };
    Ok(built.unwrap())
}

/// A body as a list of parts, the last of which may be a cut.
struct Script(VecDeque<io::Result<Bytes>>);

impl Script {
    fn whole(text: impl Into<Bytes>) -> Script {
        Script::parts([Ok(text.into())])
    }

    fn parts(parts: impl IntoIterator<Item = io::Result<Bytes>>) -> Script {
        Script(parts.into_iter().collect())
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(|part| part.map(Frame::data)))
    }
}
