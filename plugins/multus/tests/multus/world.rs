//! A node with an API server, a pod, and plugins that make real links.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cni_conformance::cluster::Cluster;
use serde_json::{Value, json};

use crate::bed::Bed;

/// The annotation that selects networks.
pub(crate) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that selects another default network.
pub(crate) const DEFAULT: &str = "v1.multus-cni.io/default-network";

const POD: &str = "/api/v1/namespaces/default/pods/samplepod";

/// Makes a veth link with an address in network number N, and a default route there.
const SCRIPT: &str = r#"#!/bin/sh
echo "$CNI_COMMAND netN $CNI_IFNAME" >> @/calls
cat > "@/$CNI_COMMAND.$CNI_IFNAME"
[ -e "@/fail.$CNI_COMMAND.netN" ] && { cat "@/fail.$CNI_COMMAND.netN"; exit 1; }
pod="nsenter --net=$CNI_NETNS ip"
case $CNI_COMMAND in
ADD)
    $pod link add $CNI_IFNAME address 02:00:00:00:00:0N type veth peer name p$CNI_IFNAME
    $pod link set p$CNI_IFNAME up; $pod link set $CNI_IFNAME up
    $pod addr add 10.N.0.2/24 dev $CNI_IFNAME
    $pod route append default via 10.N.0.1 dev $CNI_IFNAME
    echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","mac":"02:00:00:00:00:0N","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.N.0.2/24","gateway":"10.N.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0","gw":"10.N.0.1"}]}'
    ;;
DEL) $pod link del $CNI_IFNAME 2>/dev/null ;;
esac
exit 0
"#;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) bed: Bed,
    pub(crate) dir: PathBuf,
    /// The configuration of multus.
    pub(crate) conf: Value,
}

/// What the plugin answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    #[expect(dead_code, reason = "it is shown when a test fails")]
    pub(crate) stderr: String,
}

impl World {
    /// Plugins net1 to net4; net1 is the default network. A pod that selects nothing.
    pub(crate) fn new() -> World {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("multus-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("bin")).unwrap();
        let bed = Bed::new();
        let cluster = Cluster::start().unwrap();
        let kubeconfig = dir.join("kubeconfig");
        cluster
            .write_kubeconfig(&kubeconfig, &cluster.token_user())
            .unwrap();
        let conf = json!({
            "cniVersion": "1.0.0",
            "name": "multus-cni-network",
            "type": "multus",
            "kubeconfig": kubeconfig,
            "binDir": dir.join("bin"),
            "cniDir": dir.join("state"),
            "confDir": dir.join("net.d"),
            "delegates": [{"cniVersion": "1.0.0", "name": "net1", "type": "net1"}],
        });
        let world = World {
            cluster,
            bed,
            dir,
            conf,
        };
        for number in 1..5 {
            let text = SCRIPT.replace("netN", &format!("net{number}"));
            let text = text.replace("10.N.", &format!("10.{number}."));
            let text = text.replace(":0N", &format!(":0{number}"));
            world.plugin(&format!("net{number}"), &text);
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "samplepod"}});
        world.cluster.put(pod).unwrap();
        for name in ["net2", "net3"] {
            world.define(
                "default",
                name,
                &json!({"cniVersion": "1.0.0", "type": name}),
            );
        }
        world
    }

    /// A plugin that is this script, in which `@` is the folder of this world.
    pub(crate) fn plugin(&self, kind: &str, script: &str) {
        let path = self.dir.join("bin").join(kind);
        fs::write(&path, script.replace('@', self.dir.to_str().unwrap())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// A NetworkAttachmentDefinition.
    pub(crate) fn define(&self, namespace: &str, name: &str, config: &Value) {
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"config": config.to_string()},
        });
        self.cluster.put(object).unwrap();
    }

    /// Sets an annotation of the pod.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        let mut pod = self.pod();
        pod["metadata"]["annotations"][key] = value.into();
        self.cluster.put(pod).unwrap();
        self.cluster.forget_requests();
    }

    pub(crate) fn select(&self, networks: &Value) {
        self.annotate(NETWORKS, &networks.to_string());
    }

    pub(crate) fn pod(&self) -> Value {
        self.cluster.get(POD).unwrap()
    }

    /// What the pod was told of its networks.
    pub(crate) fn status(&self) -> Value {
        let pod = self.pod();
        let text = &pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"];
        text.as_str()
            .map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    }

    /// A file below the folder of this world.
    pub(crate) fn file(&self, path: &str, text: &str) -> String {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The calls of plugins so far: verb, type, interface.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What a plugin got on stdin.
    pub(crate) fn stdin(&self, verb: &str, ifname: &str) -> Value {
        let text = fs::read_to_string(self.dir.join(format!("{verb}.{ifname}"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Runs multus for the container c1 on eth0.
    #[expect(clippy::disallowed_methods, reason = "the plugin under test")]
    pub(crate) fn run(&self, verb: &str) -> Answer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_multus"))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_NETNS", &self.bed.path)
            .env("CNI_IFNAME", "eth0")
            .env(
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=samplepod",
            )
            .env("CNI_PATH", "/nowhere")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let conf = self.conf.to_string();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        Answer {
            succeeded: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a verb that must succeed and returns its result, `null` for an empty one.
    pub(crate) fn ok(&self, verb: &str) -> Value {
        let answer = self.run(verb);
        assert!(answer.succeeded, "{answer:?}");
        match answer.stdout.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        }
    }

    /// Runs a verb that must fail and returns its code, and message and details as one text.
    pub(crate) fn error(&self, verb: &str) -> (u64, String) {
        let answer = self.run(verb);
        assert!(!answer.succeeded, "{answer:?}");
        let error: Value = serde_json::from_str(&answer.stdout).unwrap();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (
            error["code"].as_u64().unwrap(),
            format!("{} | {}", text("msg"), text("details")),
        )
    }

    /// An ADD that is refused before any plugin runs, with these words.
    pub(crate) fn refused(&self, words: &str) {
        let (_, text) = self.error("ADD");
        assert!(text.contains(words), "{text}");
        assert_eq!(self.calls(), Vec::<String>::new());
        assert_eq!(self.status(), Value::Null);
    }

    /// The interfaces of the pod, without the far ends of the cables.
    pub(crate) fn links(&self) -> Vec<String> {
        let text = self.bed.in_pod("ip -o link show");
        let name = |line: &str| {
            let name = line.split(": ").nth(1)?;
            let name = name.split('@').next()?;
            (name != "lo" && !name.starts_with('p')).then(|| name.to_owned())
        };
        let mut names: Vec<String> = text.lines().filter_map(name).collect();
        names.sort();
        names
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
