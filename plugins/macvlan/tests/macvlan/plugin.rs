//! The plugin, its IPAM scripts and what they saw.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::bed::Bed;

/// Whether the interface is there, as an IPAM script sees it.
const SEES: &str =
    "nsenter --net=$CNI_NETNS ip link show $CNI_IFNAME >/dev/null 2>&1 && l=link || l=nolink";

/// A host with m0, a pod, and a folder of IPAM plugins.
pub(crate) struct Plugin {
    pub(crate) bed: Bed,
    pub(crate) dir: PathBuf,
    /// `CNI_ARGS`.
    pub(crate) args: String,
    /// `CNI_NETNS`.
    pub(crate) netns: String,
}

/// What the plugin answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Plugin {
    pub(crate) fn new() -> Plugin {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("macvlan-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let bed = Bed::new();
        Plugin {
            netns: bed.path.clone(),
            bed,
            dir,
            args: String::new(),
        }
    }

    /// Adds the IPAM plugin `ipam`, whose ADD is this shell text; every call is noted, see [`Plugin::calls`].
    pub(crate) fn ipam(self, add: &str) -> Plugin {
        self.script("ipam", add)
    }

    pub(crate) fn script(self, kind: &str, add: &str) -> Plugin {
        let (path, log) = (self.dir.join(kind), self.dir.join("calls"));
        let log = log.display();
        let text = format!(
            "#!/bin/sh\n{SEES}\necho $CNI_COMMAND $l >>{log}\ncat >{log}.stdin\n\
             case $CNI_COMMAND in\nADD) {add};;\n*) {{ test ! -e {log}.$CNI_COMMAND || \
             {{ cat {log}.$CNI_COMMAND; exit 1; }}; }};;\nesac\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Makes a verb of the IPAM plugin fail with this error.
    pub(crate) fn failing(self, verb: &str, error: &str) -> Plugin {
        fs::write(self.dir.join(format!("calls.{verb}")), error).unwrap();
        self
    }

    /// The calls of IPAM plugins so far: verb, and whether the interface was there.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What the last IPAM plugin got on stdin.
    pub(crate) fn ipam_stdin(&self) -> String {
        fs::read_to_string(self.dir.join("calls.stdin")).unwrap()
    }

    /// Starts the plugin on interface net1 with this configuration.
    #[expect(clippy::disallowed_methods, reason = "the plugin under test")]
    pub(crate) fn start(&self, verb: &str, conf: &str, stdout: Stdio) -> Child {
        let path = format!("/nowhere:{}", self.dir.display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_macvlan"))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", "net1")
            .env("CNI_ARGS", &self.args)
            .env("CNI_PATH", path)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf.as_bytes())
            .unwrap();
        child
    }

    pub(crate) fn run(&self, verb: &str, conf: &str) -> Answer {
        let output = self
            .start(verb, conf, Stdio::piped())
            .wait_with_output()
            .unwrap();
        Answer {
            succeeded: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a verb that must succeed and returns its result, `null` for an empty one.
    pub(crate) fn ok(&self, verb: &str, conf: &str) -> Value {
        let answer = self.run(verb, conf);
        assert!(answer.succeeded, "{answer:?}");
        match answer.stdout.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        }
    }

    /// Runs a verb that must fail and returns the code and text of its error.
    pub(crate) fn error(&self, verb: &str, conf: &str) -> (u64, String) {
        let answer = self.run(verb, conf);
        assert!(!answer.succeeded, "{answer:?}");
        let error: Value = serde_json::from_str(&answer.stdout).unwrap();
        let msg = error["msg"].as_str().unwrap().to_owned();
        (error["code"].as_u64().unwrap(), msg)
    }

    pub(crate) fn has_link(&self) -> bool {
        self.bed.link("net1").is_ok()
    }

    /// A result with the interface net1 and these members, as `prevResult` of a configuration.
    pub(crate) fn with_prev(&self, conf: &str, result: &Value) -> String {
        let mut conf: Value = serde_json::from_str(conf).unwrap();
        conf["prevResult"] = result.clone();
        conf.to_string()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A configuration of the newest version on m0 with more members: `"mtu":1400`.
pub(crate) fn conf(members: &str) -> String {
    versioned("1.1.0", members)
}

pub(crate) fn versioned(version: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(
        r#"{{"cniVersion":"{version}","name":"net","type":"macvlan","master":"m0"{comma}{members}}}"#
    )
}

/// The member that asks for the script's addresses.
pub(crate) const IPAM: &str = r#""ipam":{"type":"ipam"}"#;

/// What an IPAM script prints for one address and a default route.
pub(crate) const ADDRESS: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.77.0.2/24","gateway":"10.77.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["10.77.0.53"]}}'"#;
