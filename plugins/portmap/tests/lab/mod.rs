//! Three network namespaces with a host in the middle: a pod behind it, a client in front of it.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts programs and reads its own environment"
)]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its part"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// The Go plugin that all is compared with, and the reason to print where it is not installed.
pub(crate) const REFERENCE: &str = "/usr/lib/cni/portmap";

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that lives in it and does what it is told.
pub(crate) struct Namespace {
    work: Sender<Work>,
    pub(crate) thread: i32,
}

impl Namespace {
    pub(crate) fn new() -> Namespace {
        let (work, orders) = channel::<Work>();
        let (tell, told) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            for order in orders {
                order();
            }
        });
        let thread = told.recv().unwrap();
        let namespace = Namespace { work, thread };
        // Without duplicate address detection IPv6 works at once.
        namespace.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up");
        namespace
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/task/{}/ns/net", std::process::id(), self.thread)
    }

    /// Does something in the namespace and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, order: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.work
            .send(Box::new(move || drop(tell.send(order()))))
            .unwrap();
        told.recv().expect("the order panicked in its namespace")
    }

    /// Runs a line of shell, which must succeed; returns what it prints.
    pub(crate) fn sh(&self, line: &str) -> String {
        let line = line.to_owned();
        self.run(move || {
            let done = Command::new("sh").args(["-ec", &line]).output().unwrap();
            let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{line}: {stderr}");
            String::from_utf8(done.stdout).unwrap()
        })
    }

    /// Whom a TCP server at this address says it sees; `None` when it can't be reached.
    pub(crate) fn ask_tcp(&self, address: &str) -> Option<String> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(move || {
            let limit = Duration::from_millis(1500);
            let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
            stream.set_read_timeout(Some(limit)).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        })
    }

    /// The same by UDP, from a fixed source port when one is given.
    pub(crate) fn ask_udp(&self, from_port: u16, address: &str) -> Option<String> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(move || {
            let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = UdpSocket::bind((any, from_port)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(700)))
                .unwrap();
            socket.send_to(b"?", address).ok()?;
            let mut answer = [0; 200];
            let (n, _) = socket.recv_from(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..n]).into_owned())
        })
    }

    /// Answers at this port, by TCP and UDP, with a name and the address that asks.
    pub(crate) fn serve(&self, name: &'static str, port: u16) {
        self.run(move || {
            let tcp = TcpListener::bind(("::", port)).unwrap();
            thread::spawn(move || {
                for stream in tcp.incoming() {
                    let mut stream = stream.unwrap();
                    let peer = stream.peer_addr().unwrap().ip().to_canonical();
                    let _ = write!(stream, "{name} {peer}");
                }
            });
            let udp = UdpSocket::bind(("::", port)).unwrap();
            thread::spawn(move || {
                let mut question = [0; 10];
                while let Ok((_, peer)) = udp.recv_from(&mut question) {
                    let answer = format!("{name} {}", peer.ip().to_canonical());
                    let _ = udp.send_to(answer.as_bytes(), peer);
                }
            });
        });
    }
}

/// Host, pod (10.77.0.5, fd00:77::5) and client (192.0.2.9, 2001:db8::9).
pub(crate) struct Lab {
    pub(crate) host: Namespace,
    pub(crate) pod: Namespace,
    pub(crate) client: Namespace,
    /// `PATH` of the plugin.
    pub(crate) path: String,
    pub(crate) plugin: PathBuf,
}

/// What the plugin did.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    pub(crate) fn expect_ok(self) -> Value {
        assert!(self.ok, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or(Value::Null)
    }

    /// The code and the message of the error.
    pub(crate) fn error(self) -> (u64, String) {
        assert!(!self.ok, "no error: {self:?}");
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        (
            error["code"].as_u64().unwrap(),
            error["msg"].as_str().unwrap().to_owned(),
        )
    }
}

/// Every way there is to write rules: iptables is two programs of one name.
pub(crate) const BACKENDS: [&str; 3] = ["iptables", "iptables-legacy", "nftables"];

impl Lab {
    /// A lab where `iptables` is what this backend needs.
    pub(crate) fn with(backend: &str) -> Lab {
        let mut lab = Lab::new();
        if let Some((_, variant)) = backend.split_once('-') {
            lab.path = lab.path_with(variant);
        }
        lab
    }

    /// A `PATH` where `iptables` is the given variant, by links that have no brothers.
    pub(crate) fn path_with(&self, variant: &str) -> String {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("path-{variant}"));
        fs::create_dir_all(&directory).unwrap();
        for tool in ["iptables", "ip6tables"] {
            let link = directory.join(tool);
            // Another test may make the same link.
            let _ = symlink(format!("/usr/sbin/{tool}-{variant}"), &link);
            assert!(link.exists());
        }
        format!("{}:{}", directory.display(), self.path)
    }

    pub(crate) fn new() -> Lab {
        let (host, pod, client) = (Namespace::new(), Namespace::new(), Namespace::new());
        let link = |name: &str, to: &Namespace, four: &str, six: &str| {
            let thread = to.thread;
            host.sh(&format!(
                "ip link add {name} type veth peer name eth0 netns {thread}
                 ip address add {four}.1/24 dev {name}; ip -6 address add {six}::1/64 dev {name} nodad
                 ip link set {name} up"
            ));
        };
        link("h0", &pod, "10.77.0", "fd00:77");
        link("c0", &client, "192.0.2", "2001:db8");
        host.sh(
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             ip address add 192.0.2.2/24 dev c0",
        );
        let end = |namespace: &Namespace, four: &str, six: &str, n: u8| {
            namespace.sh(&format!(
                "ip address add {four}.{n}/24 dev eth0; ip -6 address add {six}::{n}/64 dev eth0 nodad
                 ip link set eth0 up
                 ip route add default via {four}.1; ip -6 route add default via {six}::1"
            ));
        };
        end(&pod, "10.77.0", "fd00:77", 5);
        pod.sh("ip address add 10.77.0.6/24 dev eth0");
        end(&client, "192.0.2", "2001:db8", 9);
        Lab {
            host,
            pod,
            client,
            path: std::env::var("PATH").unwrap(),
            plugin: env!("CARGO_BIN_EXE_portmap").into(),
        }
    }

    /// A call of `id` on its interface eth0.
    pub(crate) fn call(&self, verb: &str, id: &str, conf: &Value) -> Answer {
        call_in(&self.host, &self.plugin, &self.path, verb, id, conf)
    }

    /// A configuration with these port mappings for the pod at `addresses`.
    pub(crate) fn conf(&self, backend: &str, mappings: Value, addresses: &[&str]) -> Value {
        let ips: Vec<Value> = addresses
            .iter()
            .map(|a| json!({"address": a, "interface": 0}))
            .collect();
        json!({
            "cniVersion": "1.0.0", "name": "net1", "type": "portmap",
            "backend": backend.split('-').next().unwrap(),
            "runtimeConfig": {"portMappings": mappings},
            "prevResult": {
                "cniVersion": "1.0.0",
                "interfaces": [{"name": "eth0", "sandbox": self.pod.path()}],
                "ips": ips,
            },
        })
    }

    /// Runs one call for each configuration, `at_once` at a time, and returns the answers that failed.
    pub(crate) fn burst(
        &self,
        plugin: &Path,
        verb: &'static str,
        at_once: usize,
        confs: &[Value],
    ) -> (Vec<String>, Duration) {
        let confs: Arc<Vec<String>> = Arc::new(confs.iter().map(ToString::to_string).collect());
        let (plugin, path) = (plugin.to_owned(), self.path.clone());
        // Threads that are started in a namespace are in it.
        self.host.run(move || {
            let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
            let start = Instant::now();
            thread::scope(|scope| {
                for _ in 0..at_once {
                    scope.spawn(|| {
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            let Some(conf) = confs.get(n) else { return };
                            let answer = run(&plugin, &path, verb, &format!("c{n}"), conf);
                            if !answer.ok {
                                failed.lock().unwrap().push(answer.stdout);
                            }
                        }
                    });
                }
            });
            (failed.into_inner().unwrap(), start.elapsed())
        })
    }

    /// Configurations with a port each.
    pub(crate) fn confs(&self, backend: &str, count: u16) -> Vec<Value> {
        let conf = |n: u16| {
            let mapping = json!([{"hostPort": 20000 + n, "containerPort": 80, "protocol": "tcp"}]);
            self.conf(backend, mapping, &["10.77.0.5/24", "fd00:77::5/64"])
        };
        (0..count).map(conf).collect()
    }

    /// All rules of both backends and families, without the counters.
    pub(crate) fn rules(&self) -> String {
        self.host.sh(
            "for family in ip ip6; do nft list table $family cni_hostport 2>/dev/null || true; done
             for tool in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do
                 $tool-save -t nat 2>/dev/null | grep '^-A' || true
             done",
        )
    }

    /// Fails when anything of an attachment is left.
    pub(crate) fn expect_nothing_left(&self) {
        let rules = self.rules();
        assert!(!rules.contains("dnat to"), "{rules}");
        assert!(!rules.contains("CNI-DN-"), "{rules}");
        assert!(!rules.contains("comment \"c"), "{rules}");
    }
}

/// A call in the given namespace.
pub(crate) fn call_in(
    host: &Namespace,
    plugin: &Path,
    path: &str,
    verb: &str,
    id: &str,
    conf: &Value,
) -> Answer {
    let (plugin, path) = (plugin.to_owned(), path.to_owned());
    let (verb, id, conf) = (verb.to_owned(), id.to_owned(), conf.to_string());
    host.run(move || run(&plugin, &path, &verb, &id, &conf))
}

/// A call in the calling thread's namespace.
pub(crate) fn run(plugin: &Path, path: &str, verb: &str, id: &str, conf: &str) -> Answer {
    let mut child = Command::new(plugin)
        .env_clear()
        .env("PATH", path)
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", "/proc/1/ns/none")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(conf.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    Answer {
        ok: done.status.success(),
        stdout: String::from_utf8(done.stdout).unwrap(),
        stderr: String::from_utf8(done.stderr).unwrap(),
    }
}

/// One TCP mapping, as the original's examples have it.
pub(crate) fn one_port() -> Value {
    json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}])
}

/// What the host tracks, as `destination from answerer`.
pub(crate) fn connections(protocol: u8) -> Vec<String> {
    let mut conntrack = kernel::conntrack::Conntrack::open().unwrap();
    let found = conntrack
        .connections(kernel::nftables::Family::Ip, protocol)
        .unwrap();
    found
        .iter()
        .map(|c| format!("{} from {}", c.destination, c.answers_from))
        .collect()
}
