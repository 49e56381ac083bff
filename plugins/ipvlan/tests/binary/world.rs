//! A host with a network card, the wire behind it, pods, and an IPAM plugin that does as it is told.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the plugin and `ip` itself, and reads how it was started"
)]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Namespaces of their own; gone when it is dropped.
pub(crate) struct World {
    dir: PathBuf,
    namespaces: Vec<String>,
}

/// What the plugin answered.
pub(crate) struct Answer {
    pub(crate) success: bool,
    /// The one document on stdout; null when there is none.
    pub(crate) document: Value,
    pub(crate) stderr: String,
}

impl Answer {
    /// The answer as a success, or the test fails with what was said instead.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.success, "{} {}", self.document, self.stderr);
        self.document
    }

    /// Code and message of the error, or the test fails.
    #[track_caller]
    pub(crate) fn error(&self) -> (u64, &str) {
        assert!(!self.success, "unexpected success: {}", self.document);
        let code = self.document["code"].as_u64().unwrap();
        (code, self.document["msg"].as_str().unwrap())
    }
}

/// An address for the pod, as the fake IPAM plugin hands it out unless told otherwise.
pub(crate) const LEASE: &str =
    r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.2/24","gateway":"10.1.2.1"}]}"#;

impl World {
    /// A world for a test that needs ipvlan. `None`, with the reason on stderr, on a kernel without it.
    pub(crate) fn with_ipvlan(name: &str) -> Option<World> {
        static HAS_IPVLAN: OnceLock<bool> = OnceLock::new();
        let world = World::new(name);
        let try_it = || {
            let probe = "ip link add link enp0s3 name probe type ipvlan && ip link del probe";
            world.succeeds("host", probe)
        };
        if *HAS_IPVLAN.get_or_init(try_it) {
            return Some(world);
        }
        assert!(
            std::env::var_os("NO_SKIP").is_none(),
            "this kernel has no ipvlan"
        );
        // Past the capture of a test's output, which is thrown away when the test passes.
        let reason = format!(
            "{name}: skipped, this kernel has no ipvlan; `make test` runs it in conformance/lab\n"
        );
        std::io::stderr().write_all(reason.as_bytes()).unwrap();
        None
    }

    /// A world for a test that makes no ipvlan link.
    pub(crate) fn new(name: &str) -> World {
        let dir = std::env::temp_dir().join(format!("ipvlan-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut world = World {
            dir,
            namespaces: Vec::new(),
        };
        for namespace in ["host", "wire", "pod"] {
            world.namespace(namespace);
        }
        let wire = world.netns("wire");
        world.run(
            "host",
            &format!(
                "ip link add enp0s3 type veth peer name port netns {wire} && ip link set enp0s3 up"
            ),
        );
        world.run(
            "wire",
            "ip address add 10.1.2.1/24 dev port && ip address add fd01::1/64 dev port nodad && ip link set port up",
        );
        world.ipam(&format!("echo '{LEASE}'"), "");
        world
    }

    /// Adds a network namespace, with its loopback up.
    pub(crate) fn namespace(&mut self, name: &str) {
        let path = self.netns(name);
        fs::write(&path, "").unwrap();
        let made = Command::new("unshare")
            .arg(format!("--net={path}"))
            .args(["ip", "link", "set", "lo", "up"])
            .status();
        assert!(made.unwrap().success());
        self.namespaces.push(name.to_owned());
    }

    /// Where the namespace is to be found: `CNI_NETNS`.
    pub(crate) fn netns(&self, name: &str) -> String {
        self.path(name)
    }

    /// Sets what the IPAM plugin does on ADD and on every other verb, as shell text.
    pub(crate) fn ipam(&self, on_add: &str, otherwise: &str) {
        let log = self.path("ipam.log");
        let script = format!(
            "#!/bin/sh\nwhile read -r _; do :; done\necho $CNI_COMMAND >>{log}\nif [ $CNI_COMMAND = ADD ]; then\n:\n{on_add}\nelse\n:\n{otherwise}\nfi\n"
        );
        let path = self.path("ipam");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// The verbs the IPAM plugin was called with.
    pub(crate) fn ipam_calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("ipam.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Calls the plugin for interface net1 of the pod.
    pub(crate) fn call(&self, verb: &str, conf: &str) -> Answer {
        self.call_for("pod", verb, conf)
    }

    /// Calls the plugin for interface net1 of one of several pods.
    pub(crate) fn call_for(&self, pod: &str, verb: &str, conf: &str) -> Answer {
        self.call_with(verb, &format!("id-{pod}"), &self.netns(pod), conf)
    }

    /// Calls the plugin with any container id and any `CNI_NETNS`.
    pub(crate) fn call_with(&self, verb: &str, container: &str, netns: &str, conf: &str) -> Answer {
        let mut plugin = Command::new("nsenter")
            .arg(format!("--net={}", self.netns("host")))
            .arg(env!("CARGO_BIN_EXE_ipvlan"))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "net1")
            .env("CNI_PATH", &self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = plugin.stdin.take().unwrap();
        stdin.write_all(conf.as_bytes()).unwrap();
        drop(stdin);
        let output = plugin.wait_with_output().unwrap();
        let document = match output.stdout.as_slice() {
            [] => Value::Null,
            stdout => serde_json::from_slice(stdout).unwrap(),
        };
        Answer {
            success: output.status.success(),
            document,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs shell text in a namespace; the test fails when it does.
    #[track_caller]
    pub(crate) fn run(&self, namespace: &str, text: &str) -> String {
        let output = self.shell(namespace, text);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether shell text in a namespace succeeds.
    pub(crate) fn succeeds(&self, namespace: &str, text: &str) -> bool {
        self.shell(namespace, text).status.success()
    }

    /// A link as `ip -details -json` describes it.
    #[track_caller]
    pub(crate) fn link(&self, namespace: &str, name: &str) -> Value {
        let links = self.run(
            namespace,
            &format!("ip -details -json address show dev {name}"),
        );
        // Old iproute2 prints an empty object for every link that is filtered out.
        let links: Vec<Value> = serde_json::from_str(&links).unwrap();
        let mut links = links.into_iter().filter(|link| link["ifname"] == name);
        links.next().unwrap()
    }

    /// Whether the pod has nothing but its loopback.
    #[track_caller]
    pub(crate) fn pod_is_empty(&self) -> bool {
        self.run("pod", "ip -oneline link").lines().count() == 1
    }

    fn shell(&self, namespace: &str, text: &str) -> std::process::Output {
        Command::new("nsenter")
            .arg(format!("--net={}", self.netns(namespace)))
            .args(["sh", "-c", text])
            .output()
            .unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let _ = Command::new("umount").arg(self.netns(namespace)).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
