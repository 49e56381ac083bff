//! An API server in memory: for plugins that ask Kubernetes, whose tests need pods, attachments, and servers that fail.
//!
//! It keeps objects of any resource below `/api/v1` and `/apis/GROUP/VERSION` and answers as a real one does: GET, LIST with
//! selectors and pages, POST, PUT, PATCH (merge and JSON), DELETE, the subresource `status`, watches, resource versions and
//! their conflicts. It speaks TLS with a certificate authority of its own, HTTP/1.1 and HTTP/2, and knows clients by bearer
//! token or by certificate. It does not do: schemas, defaults, admission, roles (whoever is known may do everything), strategic
//! merge and server-side apply (answered 415). [`Cluster::before`] has a real kube-apiserver do all that instead.
//!
//! ```
//! use cni_conformance::cluster::{Cluster, Effect, Fault};
//!
//! let cluster = Cluster::start()?;
//! cluster.apply("
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: samplepod, annotations: {k8s.v1.cni.cncf.io/networks: macvlan-conf}}
//! ")?;
//! let folder = std::env::temp_dir().join(format!("cluster-{}", std::process::id()));
//! std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
//! cluster.write_kubeconfig(&folder.join("kubeconfig"), &cluster.token_user())?;
//! // The first request to come is answered 503.
//! cluster.strike(Fault::on("", "", Effect::Answer(503, None)).nth(1));
//!
//! // ... here a program is run with that kubeconfig ...
//!
//! let pod = cluster.get("/api/v1/namespaces/default/pods/samplepod");
//! assert_eq!(pod.unwrap()["metadata"]["name"], "samplepod");
//! assert!(cluster.requests().is_empty());
//! # std::fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
//! # Ok::<(), String>(())
//! ```

mod accept;
mod answer;
mod control_plane;
mod credentials;
mod fault;
mod held;
mod loopback;
pub mod manifest;
mod patch;
mod path;
mod request;
mod selector;
mod serve;
mod status;
mod store;
mod upstream;
mod write;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

pub use control_plane::ControlPlane;
pub use credentials::{Identity, User};
pub use fault::{Effect, Fault};
pub use path::Target;
pub use request::{Credential, Request};
pub use status::Status;

use control_plane::Lease;
use credentials::Authority;
use held::Held;
use store::Store;
use upstream::Upstream;

/// A running API server; it ends when dropped. All methods may be called from any thread, while it serves.
#[derive(Debug)]
pub struct Cluster {
    address: SocketAddr,
    authority: Authority,
    token: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Given back when the thread has ended.
    lease: Option<Lease>,
}

/// What the server's thread and the owner of the [`Cluster`] both work on.
#[derive(Debug)]
struct Shared {
    itself: Weak<Shared>,
    store: Mutex<Store>,
    faults: Mutex<Vec<Fault>>,
    held: Arc<Held>,
    log: Mutex<Vec<Request>>,
    tokens: Mutex<BTreeSet<String>>,
    arrivals: AtomicU64,
    /// Answers instead of the store, if there is one.
    upstream: Option<Arc<Upstream>>,
}

impl Shared {
    fn new(upstream: Option<Arc<Upstream>>) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            itself: itself.clone(),
            store: Mutex::new(Store::new()),
            faults: Mutex::default(),
            held: Arc::default(),
            log: Mutex::default(),
            tokens: Mutex::default(),
            arrivals: AtomicU64::new(0),
            upstream,
        })
    }

    /// A handle that does not keep it alive, for watches.
    fn itself(&self) -> Weak<Self> {
        self.itself.clone()
    }
}

impl Cluster {
    /// Starts one on a free port of 127.0.0.1, in the network namespace of this thread.
    ///
    /// # Errors
    /// A sentence saying what did not work.
    pub fn start() -> Result<Self, String> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts one on this address; port 0 takes a free one.
    ///
    /// # Errors
    /// A sentence saying what did not work.
    pub fn listen(address: SocketAddr) -> Result<Self, String> {
        Self::serve(address, None)
    }

    /// Starts one that passes on to a real server what no fault strikes. Clients, credentials and faults are this one's, objects
    /// the other's. It waits until nobody else uses the other one, and leaves nothing in it.
    ///
    /// # Errors
    /// A sentence saying what did not work.
    pub fn before(control_plane: &Arc<ControlPlane>) -> Result<Self, String> {
        let lease = control_plane.lease();
        let mut cluster = Self::serve((Ipv4Addr::LOCALHOST, 0).into(), Some(lease.upstream()))?;
        cluster.lease = Some(lease);
        Ok(cluster)
    }

    /// Whether objects are those of a real server, which gives them their `uid` itself.
    pub fn is_real(&self) -> bool {
        self.shared.upstream.is_some()
    }

    fn serve(address: SocketAddr, upstream: Option<Arc<Upstream>>) -> Result<Self, String> {
        loopback::raise()?;
        let authority =
            Authority::new().map_err(|error| format!("no certificate authority: {error}"))?;
        let config = authority.server(address.ip())?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let trouble = |error: std::io::Error| format!("no server on {address}: {error}");
        let listener = std::net::TcpListener::bind(address).map_err(trouble)?;
        listener.set_nonblocking(true).map_err(trouble)?;
        let address = listener.local_addr().map_err(trouble)?;
        let shared = Shared::new(upstream);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(trouble)?;
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let work = move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                tokio::select! {
                    () = serve::serve(listener, acceptor, serving) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("api-server".into())
            .spawn(work)
            .map_err(trouble)?;
        let mut cluster = Self {
            address,
            authority,
            token: String::new(),
            shared,
            stop: Some(stop),
            thread: Some(thread),
            lease: None,
        };
        cluster.token = cluster.issue_token();
        Ok(cluster)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of its authority, PEM.
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// A token it knows from the start.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A further token.
    pub fn issue_token(&self) -> String {
        let token = format!("{:016x}", locked(&self.shared.store).random());
        locked(&self.shared.tokens).insert(token.clone());
        token
    }

    /// Forgets a token, as when it expires: from now on it is answered 401.
    pub fn revoke_token(&self, token: &str) {
        locked(&self.shared.tokens).remove(token);
    }

    /// A client certificate for this user.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn issue_certificate(&self, user: &str) -> Result<Identity, String> {
        self.authority
            .client(user)
            .map_err(|error| format!("no client certificate: {error}"))
    }

    /// The user of a kubeconfig that shows [`Cluster::token`].
    pub fn token_user(&self) -> User {
        User::Token(self.token.clone())
    }

    /// The text of a kubeconfig file that leads here.
    pub fn kubeconfig(&self, user: &User) -> String {
        credentials::kubeconfig(&self.url(), &self.authority(), user)
    }

    /// The same in a file that only its owner can read.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_kubeconfig(&self, file: &Path, user: &User) -> Result<(), String> {
        write_secret(file, &self.kubeconfig(user))
    }

    /// Writes what a pod finds in `/var/run/secrets/kubernetes.io/serviceaccount`: `token`, `ca.crt` and `namespace`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_service_account(&self, folder: &Path, namespace: &str) -> Result<(), String> {
        write_secret(&folder.join("token"), &self.token)?;
        write_secret(&folder.join("ca.crt"), &self.authority())?;
        write_secret(&folder.join("namespace"), namespace)
    }

    /// Puts down the objects of a manifest (YAML or JSON, any number of documents), whatever was there under their names.
    ///
    /// # Errors
    /// A sentence naming the object and what is wrong with it.
    pub fn apply(&self, manifest: &str) -> Result<(), String> {
        manifest::read(manifest)?
            .into_iter()
            .try_for_each(|object| self.put(object).map(drop))
    }

    /// Puts down one object with `apiVersion`, `kind` and `metadata`, and returns it as it is stored. Nothing is refused or
    /// changed but what makes no sense at all; its status is kept, its `uid` too.
    ///
    /// # Errors
    /// A sentence naming the object and what is wrong with it.
    pub fn put(&self, object: Value) -> Result<Value, String> {
        let target = manifest::target_of(&object)?;
        if let Some(upstream) = &self.shared.upstream {
            return upstream.put(&target, object);
        }
        write::place_as_is(&mut locked(&self.shared.store), &target, object)
            .map_err(|status| format!("{target}: {}", status.message))
    }

    /// The object at a path such as `/api/v1/namespaces/default/pods/samplepod`, past all faults and not logged.
    pub fn get(&self, path: &str) -> Option<Value> {
        if let Some(upstream) = &self.shared.upstream {
            return upstream.get(path);
        }
        let target = Target::parse(path)?;
        locked(&self.shared.store).get(&target).ok()
    }

    /// The objects of the collection at a path such as `/api/v1/events`, past all faults and not logged.
    pub fn list(&self, path: &str) -> Vec<Value> {
        if let Some(upstream) = &self.shared.upstream {
            return upstream.list(path);
        }
        let Some(target) = Target::parse(path) else {
            return Vec::new();
        };
        let store = locked(&self.shared.store);
        store
            .collection(&target)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Removes the object at a path, finalizers or not. Whether it was there.
    pub fn remove(&self, path: &str) -> bool {
        if let Some(upstream) = &self.shared.upstream {
            return upstream.remove(path);
        }
        let Some(target) = Target::parse(path) else {
            return false;
        };
        let mut store = locked(&self.shared.store);
        let there = store.find(&target).is_some();
        if there {
            store.commit(&target, None);
        }
        there
    }

    /// Sets a fault beside those that are set.
    pub fn strike(&self, fault: Fault) {
        locked(&self.shared.faults).push(fault);
    }

    /// Takes all faults back. When it returns, requests that were held have been carried out.
    pub fn heal(&self) {
        locked(&self.shared.faults).clear();
        self.shared.held.release();
    }

    /// The requests since the start or since they were last forgotten, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.shared.log).clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        locked(&self.shared.log).clear();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_secret(file: &Path, text: &str) -> Result<(), String> {
    let trouble = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    let mut opened = options.open(file).map_err(trouble)?;
    opened.write_all(text.as_bytes()).map_err(trouble)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
