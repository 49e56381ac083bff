//! Runs the plugin, or another one with the same store, as a runtime does.
#![expect(clippy::disallowed_methods, reason = "tests start programs")]
#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::allow_attributes,
    reason = "what is unused differs between the test binaries"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// The plugin under test.
pub(crate) const OURS: &str = env!("CARGO_BIN_EXE_host-local");
/// The original, where it is installed.
pub(crate) const ORIGINAL: &str = "/usr/lib/cni/host-local";

/// Whether the original is here; says why a test does nothing when it is not.
pub(crate) fn original_is_here() -> bool {
    let here = Path::new(ORIGINAL).exists();
    if !here {
        println!("skipped: {ORIGINAL} is not installed");
    }
    here
}

/// A data directory of a test's own, removed with the value.
pub(crate) struct Store(PathBuf);

/// What one call answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Exit status; `None` after a signal.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Store {
    pub(crate) fn new() -> Store {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("host-local-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Store(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of network `net1`.
    pub(crate) fn pool(&self) -> PathBuf {
        self.0.join("net1")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.pool().join(name)
    }

    /// Puts a file into the pool.
    pub(crate) fn put(&self, name: &str, content: &str) {
        fs::create_dir_all(self.pool()).unwrap();
        fs::write(self.file(name), content).unwrap();
    }

    /// A configuration of version 1.1.0 with this `ipam`; `dataDir` is added.
    pub(crate) fn conf(&self, ipam: Value) -> Value {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "net1", "type": "macvlan", "ipam": ipam,
                              "prevResult": {"cniVersion": "1.1.0"}});
        if let Some(ipam) = conf["ipam"].as_object_mut() {
            ipam.insert("type".into(), "host-local".into());
            ipam.insert("dataDir".into(), json!(self.0));
        }
        conf
    }

    /// A configuration with one subnet.
    pub(crate) fn subnet(&self, subnet: &str) -> Value {
        self.conf(json!({"subnet": subnet}))
    }

    /// The files of the pool but `lock`, as `name=content name=content`, `^~` for CR LF.
    pub(crate) fn listing(&self) -> String {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.pool()).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name == "lock" || name == ".index" {
                continue;
            }
            let content = fs::read_to_string(entry.path()).unwrap_or_default();
            files.insert(name, content.replace("\r\n", "^~"));
        }
        let all: Vec<String> = files
            .iter()
            .map(|(name, content)| format!("{name}={content}"))
            .collect();
        all.join(" ")
    }

    /// The addresses that have a file.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let listing = self.listing();
        let names = listing.split(' ').filter_map(|file| file.split('=').next());
        let is_address = |name: &&str| name.parse::<std::net::IpAddr>().is_ok();
        names.filter(is_address).map(str::to_owned).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One call, on the way to be run.
pub(crate) struct Call {
    pub(crate) program: Vec<String>,
    pub(crate) verb: String,
    pub(crate) id: String,
    pub(crate) ifname: String,
    pub(crate) args: String,
    pub(crate) conf: String,
}

/// A call of the plugin under test, for interface `eth0`.
pub(crate) fn call(verb: &str, id: &str, conf: &Value) -> Call {
    Call {
        program: vec![OURS.into()],
        verb: verb.into(),
        id: id.into(),
        ifname: "eth0".into(),
        args: String::new(),
        conf: conf.to_string(),
    }
}

impl Call {
    pub(crate) fn args(mut self, args: &str) -> Call {
        self.args = args.into();
        self
    }

    pub(crate) fn ifname(mut self, ifname: &str) -> Call {
        self.ifname = ifname.into();
        self
    }

    /// Another program in place of the plugin.
    pub(crate) fn program(mut self, program: &str) -> Call {
        self.program = vec![program.into()];
        self
    }

    /// A program that runs the plugin, with its arguments.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Call {
        self.program = wrapper
            .iter()
            .map(|w| (*w).to_owned())
            .chain(self.program)
            .collect();
        self
    }

    /// The process with its environment and pipes; nothing is written to it yet.
    pub(crate) fn command(&self) -> Command {
        let (program, arguments) = self.program.split_first().unwrap();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([("CNI_COMMAND", &self.verb), ("CNI_CONTAINERID", &self.id)])
            .envs([("CNI_IFNAME", &self.ifname), ("CNI_ARGS", &self.args)])
            .env("CNI_NETNS", "/no/such/netns")
            .env("CNI_PATH", "/opt/cni/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self) -> Answer {
        let mut child = self.command().spawn().unwrap();
        // A plugin that is killed early does not read; that is the test's affair.
        let _ = child.stdin.take().unwrap().write_all(self.conf.as_bytes());
        let output = child.wait_with_output().unwrap();
        Answer {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it and expects success; answers the addresses, joined with spaces.
    pub(crate) fn ok(&self) -> String {
        let answer = self.run();
        assert_eq!(
            answer.status,
            Some(0),
            "{} {}: {answer:?}",
            self.verb,
            self.id
        );
        assert!(!answer.stderr.contains("error:"), "{answer:?}");
        if answer.stdout.is_empty() {
            return String::new();
        }
        let result: Value = serde_json::from_str(&answer.stdout).unwrap();
        let ips = result["ips"].as_array().unwrap().iter();
        let ips: Vec<&str> = ips.map(|ip| ip["address"].as_str().unwrap()).collect();
        ips.join(" ")
    }

    /// Runs it and expects an error; answers `code msg`.
    pub(crate) fn refused(&self) -> String {
        let answer = self.run();
        assert_eq!(
            answer.status,
            Some(1),
            "{} {}: {answer:?}",
            self.verb,
            self.id
        );
        let error: Value = serde_json::from_str(&answer.stdout).unwrap();
        format!("{} {}", error["code"], error["msg"].as_str().unwrap())
    }

    /// Runs it, expects success and answers the whole result.
    pub(crate) fn result(&self) -> Value {
        let answer = self.run();
        assert_eq!(answer.status, Some(0), "{answer:?}");
        serde_json::from_str(&answer.stdout).unwrap()
    }
}
