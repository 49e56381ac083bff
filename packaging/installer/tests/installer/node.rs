//! A node as the installer sees it, in a folder of its own, and the installer running on it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take here. It is waited for in small steps: a test sees files only.
const LIMIT: Duration = Duration::from_secs(20);

/// The primary configuration most tests start with.
pub(crate) const CALICO: &str = r#"{"cniVersion":"0.3.1","name":"k8s-pod-network","plugins":[{"type":"calico","mtu":1410,"capabilities":{"bandwidth":true}},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#;

pub(crate) struct Node(PathBuf);

/// An installer that runs; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

/// How an installer ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Node {
    /// A node with empty folders, a plugin to install and a service account.
    pub(crate) fn empty() -> Node {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("installer-{}-{number}", std::process::id()));
        for folder in ["net.d", "bin", "image", "account"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let node = Node(root);
        node.write("image/multus", "new multus");
        node.write("account/token", "first-token\n");
        node.write(
            "account/ca.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        node
    }

    /// The same with calico's configuration.
    pub(crate) fn new() -> Node {
        let node = Node::empty();
        node.write("net.d/10-calico.conflist", CALICO);
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub(crate) fn is_there(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    pub(crate) fn make_executable(&self, name: &str) {
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    /// The generated configuration.
    pub(crate) fn conf(&self) -> Value {
        serde_json::from_str(&self.read("net.d/00-multus.conf")).unwrap()
    }

    /// All files of the node with their content, to see that nothing has changed.
    pub(crate) fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => walk(&path, all),
                    false => all.push((path.clone(), fs::read(&path).unwrap())),
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.0, &mut all);
        all.retain(|(path, _)| !path.ends_with("log"));
        all.sort();
        all
    }

    /// Starts an installer on this node, with the folders given and these arguments behind them.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let folder = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        let given = [
            folder("cni-bin-dir", "bin"),
            folder("cni-conf-dir", "net.d"),
            folder("multus-autoconfig-dir", "net.d"),
            folder("multus-cni-conf-dir", "multus-net.d"),
            folder("plugin-dir", "image"),
            folder("service-account-dir", "account"),
        ];
        let log = self.path("log");
        let mut command = installer();
        command
            .args(given)
            .args(arguments)
            .env("KUBERNETES_SERVICE_HOST", "fd00::1")
            .env("KUBERNETES_SERVICE_PORT", "443")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap());
        Running {
            child: command.spawn().unwrap(),
            log,
        }
    }

    /// Starts an installer and waits until it has written the configuration.
    pub(crate) fn install(&self, arguments: &[&str]) -> Running {
        let running = self.start(arguments);
        running.says("00-multus.conf");
        running
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Running {
    /// Waits until the installer has said this.
    pub(crate) fn says(&self, text: &str) {
        self.says_times(text, 1);
    }

    /// Waits until the installer has said this so many times.
    pub(crate) fn says_times(&self, text: &str, times: usize) {
        let said = || self.log().matches(text).count() >= times;
        until(said, || format!("{text:?} is not in {}", self.log()));
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(self, signal: Signal) -> Ended {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        self.wait()
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        let mut status = None;
        until(
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || {
                format!(
                    "it does not end: {}",
                    fs::read_to_string(&self.log).unwrap()
                )
            },
        );
        Ended {
            code: status.unwrap().code(),
            stderr: self.log(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program under test.
pub(crate) fn installer() -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "no plugin: the program under test"
    )]
    let command = Command::new(env!("CARGO_BIN_EXE_multus-installer"));
    command
}

/// Waits for something that the installer does to files.
pub(crate) fn until(mut is_so: impl FnMut() -> bool, why: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "{}", why());
        std::thread::sleep(Duration::from_millis(10));
    }
}
