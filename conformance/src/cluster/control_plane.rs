//! The real thing: etcd and kube-apiserver from a folder, as envtest names it in `KUBEBUILDER_ASSETS`.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rcgen::KeyPair;
use serde_json::Value;

use super::credentials::Authority;
use super::store::Store;
use super::upstream::Upstream;
use super::{locked, loopback, manifest, write_secret};

/// The variable that names the folder.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// How long each of the two may take to begin.
const LIMIT: Duration = Duration::from_secs(90);
/// Between two looks at what has no event.
const PAUSE: Duration = Duration::from_millis(100);
/// What our manifests install: the kinds that tests make objects of.
const MANIFESTS: [&str; 6] = [
    include_str!("../../../packaging/kubernetes/multus.yaml"),
    include_str!("../../../packaging/kubernetes/danm/danm.k8s.io/ClusterNetwork.yaml"),
    include_str!("../../../packaging/kubernetes/danm/danm.k8s.io/DanmEp.yaml"),
    include_str!("../../../packaging/kubernetes/danm/danm.k8s.io/DanmNet.yaml"),
    include_str!("../../../packaging/kubernetes/danm/danm.k8s.io/TenantConfig.yaml"),
    include_str!("../../../packaging/kubernetes/danm/danm.k8s.io/TenantNetwork.yaml"),
];

/// A running etcd and kube-apiserver on the loopback interface. Both end when it is dropped, and with the thread that made it.
#[derive(Debug)]
pub struct ControlPlane {
    upstream: Arc<Upstream>,
    /// The collections that tests put objects into, such as `/api/v1/pods`.
    collections: Vec<String>,
    in_use: Mutex<bool>,
    given_back: Condvar,
    // In this order: the server before its store, the folder last.
    _server: Service,
    _store: Service,
    _folder: Folder,
}

impl ControlPlane {
    /// Starts the programs in the folder that `KUBEBUILDER_ASSETS` names; `None` when it names none.
    ///
    /// # Errors
    /// A sentence saying what did not work, with the last words of the program that failed.
    pub fn from_environment() -> Result<Option<Arc<Self>>, String> {
        match env::var_os(ASSETS).filter(|folder| !folder.is_empty()) {
            None => Ok(None),
            Some(folder) => Self::start(Path::new(&folder)).map(Some),
        }
    }

    /// Starts `etcd` and `kube-apiserver` of this folder in the network namespace of this thread, installs the definitions of
    /// custom resources, and waits until all of it answers.
    ///
    /// # Errors
    /// As [`ControlPlane::from_environment`].
    pub fn start(assets: &Path) -> Result<Arc<Self>, String> {
        loopback::raise()?;
        let folder =
            Folder::new().map_err(|error| format!("no folder for the API server: {error}"))?;
        let at = |name: &str| folder.0.join(name).display().to_string();
        let (client, peer, secure) = (free_port()?, free_port()?, free_port()?);
        let etcd = format!("http://{client}");
        let arguments = [
            format!("--data-dir={}", at("etcd")),
            format!("--listen-client-urls={etcd}"),
            format!("--advertise-client-urls={etcd}"),
            format!("--listen-peer-urls=http://{peer}"),
        ];
        let store = Service::start(assets, "etcd", &arguments, &folder.0)?;
        let (authority, token) = credentials(&folder.0)?;
        let arguments = [
            format!("--etcd-servers={etcd}"),
            format!("--bind-address={}", secure.ip()),
            format!("--advertise-address={}", secure.ip()),
            format!("--secure-port={}", secure.port()),
            format!("--cert-dir={}", at("certificates")),
            format!("--tls-cert-file={}", at("server.crt")),
            format!("--tls-private-key-file={}", at("server.key")),
            format!("--token-auth-file={}", at("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // It would tell the cluster its address, which may not be one of the loopback interface.
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", at("accounts.pub")),
            format!("--service-account-signing-key-file={}", at("accounts.key")),
            // No controller runs that would make the accounts which this asks pods to have.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        let server = Service::start(assets, "kube-apiserver", &arguments, &folder.0)?;
        let upstream = Arc::new(Upstream::new(secure, &authority, &token)?);
        let collections = furnish(&upstream)?;
        Ok(Arc::new(Self {
            upstream,
            collections,
            in_use: Mutex::new(false),
            given_back: Condvar::new(),
            _server: server,
            _store: store,
            _folder: folder,
        }))
    }

    /// Which Kubernetes the server is, such as `v1.34.0`; empty when it does not say.
    pub fn version(&self) -> String {
        let version = self.upstream.get("/version").unwrap_or_default();
        let text = version["gitVersion"].as_str();
        text.unwrap_or_default().to_owned()
    }

    /// The right to use the server, which only one has at a time.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        let mut in_use = locked(&self.in_use);
        while *in_use {
            let woken = self.given_back.wait(in_use);
            in_use = woken.unwrap_or_else(PoisonError::into_inner);
        }
        *in_use = true;
        Lease(Arc::clone(self))
    }
}

/// See [`ControlPlane::lease`]. When it ends, the objects of its holder are removed.
#[derive(Debug)]
pub(super) struct Lease(Arc<ControlPlane>);

impl Lease {
    pub(super) fn upstream(&self) -> Arc<Upstream> {
        Arc::clone(&self.0.upstream)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        for collection in &self.0.collections {
            self.0.upstream.clear(collection);
        }
        *locked(&self.0.in_use) = false;
        self.0.given_back.notify_one();
    }
}

/// Writes what the server needs to know itself and its only client by. Answers its authority and the client's token.
fn credentials(folder: &Path) -> Result<(String, String), String> {
    let failed = |error: rcgen::Error| format!("no certificates: {error}");
    let authority = Authority::new().map_err(failed)?;
    let server = authority
        .server_identity(Ipv4Addr::LOCALHOST.into())
        .map_err(failed)?;
    let accounts = KeyPair::generate().map_err(failed)?;
    let token = format!("{:016x}", Store::new().random());
    for (name, text) in [
        ("server.crt", server.certificate),
        ("server.key", server.key),
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
        (
            "tokens.csv",
            format!("{token},conformance,1,\"system:masters\"\n"),
        ),
    ] {
        write_secret(&folder.join(name), &text)?;
    }
    Ok((authority.pem(), token))
}

/// Waits until the server has begun all its work, and makes the kinds known that tests use. It says that it listens, but neither
/// of these; so it is asked until it answers. Answers the collections that tests put objects into.
fn furnish(upstream: &Upstream) -> Result<Vec<String>, String> {
    until("the API server is not ready", || {
        upstream.ask("GET", "/readyz", &Value::Null)
    })?;
    let mut collections = vec!["/api/v1/pods".to_owned(), "/api/v1/events".to_owned()];
    for manifest in MANIFESTS {
        for definition in manifest::read(manifest)? {
            if definition["kind"] == "CustomResourceDefinition" {
                collections.push(collection_of(&definition));
                upstream.put(&manifest::target_of(&definition)?, definition)?;
            }
        }
    }
    for collection in &collections {
        until(&format!("there is no {collection}"), || {
            upstream.ask("GET", collection, &Value::Null)
        })?;
    }
    Ok(collections)
}

/// Where the objects of a kind are, by its definition.
fn collection_of(definition: &Value) -> String {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, version) = (text(&spec["group"]), text(&spec["versions"][0]["name"]));
    format!("/apis/{group}/{version}/{}", text(&spec["names"]["plural"]))
}

fn until(what: &str, mut ask: impl FnMut() -> Result<(u16, Value), String>) -> Result<(), String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = match ask() {
            Ok((200, _)) => return Ok(()),
            Ok((status, document)) => format!("{status} {document}"),
            Err(why) => why,
        };
        if Instant::now() > deadline {
            return Err(format!("{what} after {LIMIT:?}: {answer}"));
        }
        thread::sleep(PAUSE);
    }
}

/// A port that nobody has just now. Somebody may take it before the program does, which then says so and ends.
fn free_port() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))
}

/// A folder of our own for data and credentials, gone when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("control-plane-{}-{serial}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that serves until it is ended, in a process group of its own.
#[derive(Debug)]
struct Service {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts it and waits until it says that it is ready, in the way that systemd has services say so.
    fn start(
        assets: &Path,
        name: &'static str,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Self, String> {
        let program = assets.join(name);
        let failed = |error: io::Error| format!("{}: {error}", program.display());
        let socket = folder.join(format!("{name}.ready"));
        let ready = UnixDatagram::bind(&socket).map_err(failed)?;
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).map_err(failed)?;
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("NOTIFY_SOCKET", &socket)
            .process_group(0)
            // Nothing is written to it: that nobody holds its other end any more is the news that the program has ended.
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        die_with_us(&mut command);
        let child = command.spawn().map_err(failed)?;
        let service = Self { name, child, log };
        service.await_ready(&ready)?;
        Ok(service)
    }

    fn await_ready(&self, ready: &UnixDatagram) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        let mut message = [0; 256];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = vec![PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
            if let Some(stdin) = &self.child.stdin {
                waiting.push(PollFd::new(stdin.as_fd(), PollFlags::empty()));
            }
            match poll(&mut waiting, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                Ok(0) | Err(_) => {
                    return Err(self.last_words(&format!("is not ready after {LIMIT:?}")));
                }
                Ok(_) => {}
            }
            if waiting[0].any() == Some(true) {
                let length = ready.recv(&mut message).unwrap_or_default();
                let message = String::from_utf8_lossy(&message[..length]);
                if message.lines().any(|line| line == "READY=1") {
                    return Ok(());
                }
            } else {
                return Err(self.last_words("has ended"));
            }
        }
    }

    fn last_words(&self, what: &str) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("{} {what}; it said: {}", self.name, lines.join("\n"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Its data go with it, so there is nothing that it could put in order.
        let _ = killpg(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGKILL,
        );
        let _ = self.child.wait();
    }
}

#[expect(
    unsafe_code,
    reason = "pre_exec is unsafe because of what may run between fork and exec: one system call and no allocation"
)]
fn die_with_us(command: &mut Command) {
    let die = || Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: the closure makes one system call and touches no memory.
    unsafe { command.pre_exec(die) };
}
