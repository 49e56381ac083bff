//! A node with an API server, a pod, and the delegate `macvlan`, a script.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni_conformance::cluster::{Cluster, Request};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::bed::{self, Bed};
use crate::tracer::{End, kill_at_message};

/// Asks its IPAM plugin for the address if its configuration names one, as every delegate does.
const DELEGATE: &str = r#"
conf=$(cat)
echo "$CNI_COMMAND $CNI_IFNAME" >>DIR/calls
case $CNI_COMMAND in
ADD)
    test ! -e DIR/fail || { echo '{"code":123,"msg":"no"}'; exit 1; }
    case $conf in
    *'"ipam":{"type":""}'*) result='{"cniVersion":"0.3.1"}';;
    *) result=$(printf %s "$conf" | DIR/danm) || { echo "$result"; exit 1; };;
    esac
    addresses=$(printf %s "$result" | grep -o '"address": *"[^"]*"' | cut -d '"' -f 4)
    test -e DIR/dry || {
        ip link add "$CNI_IFNAME" link m0 netns "$CNI_NETNS" type macvlan mode bridge || exit 1
        nsenter --net="$CNI_NETNS" ip link set "$CNI_IFNAME" up
        for address in $addresses; do
            nsenter --net="$CNI_NETNS" ip addr add "$address" dev "$CNI_IFNAME" || exit 1
        done
    }
    test ! -e DIR/sleep || sleep 30
    echo "$result";;
DEL) test ! -e "$CNI_NETNS" || nsenter --net="$CNI_NETNS" ip link del "$CNI_IFNAME" 2>/dev/null;:;;
esac
"#;

/// Keeps what it is sent, `spy-VERB-INTERFACE`, and makes no link. `spy-fail`: its ADD fails.
const SPY: &str = r#"
cat >"DIR/spy-$CNI_COMMAND-$CNI_IFNAME"
echo "$CNI_COMMAND $CNI_IFNAME" >>DIR/calls
test "$CNI_COMMAND" = ADD || exit 0
test ! -e DIR/spy-fail || { echo '{"code":123,"msg":"no 100%s of it"}'; exit 1; }
test ! -e DIR/spy-result || { cat DIR/spy-result; exit 0; }
echo '{"cniVersion":"1.1.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.77.0.5/24","interface":0}]}'
"#;

pub(crate) struct World {
    pub(crate) bed: Bed,
    pub(crate) cluster: Cluster,
    pub(crate) dir: PathBuf,
    /// The configuration.
    pub(crate) conf: Value,
    /// More of the environment.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl World {
    /// The ClusterNetwork `oampub` of the example is there, made by `macvlan`, with its bitmap.
    pub(crate) fn new() -> World {
        World::with(Cluster::start)
    }

    /// The same with another API server.
    pub(crate) fn with(cluster: impl FnOnce() -> Result<Cluster, String>) -> World {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("danm-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let bed = Bed::new();
        let cluster = cluster().unwrap();
        let kubeconfig = dir.join("kubeconfig");
        cluster
            .write_kubeconfig(&kubeconfig, &cluster.token_user())
            .unwrap();
        symlink(env!("CARGO_BIN_EXE_danm-shim"), dir.join("danm")).unwrap();
        let conf = json!({"cniVersion": "1.1.0", "name": "danm", "type": "danm", "kubeconfig": kubeconfig,
            "stateDir": dir.join("state"), "cniDir": dir});
        let world = World {
            bed,
            cluster,
            dir,
            conf,
            variables: vec![("KUBERNETES_SERVICE_HOST", String::new())],
        };
        world.script("macvlan", DELEGATE);
        world.network(
            "oampub",
            json!({"host_device": "m0", "container_prefix": "oampub", "rt_tables": 107,
            "cidr": "10.2.157.0/27", "alloc": "gBCAAQ==",
            "allocation_pool": {"start": "10.2.157.1", "end": "10.2.157.30", "lastIp": ""}}),
        );
        world
    }

    /// Makes a ClusterNetwork whose interfaces the plugin `spy` makes, by a file of its own, with an address of its own.
    pub(crate) fn static_network(&self, name: &str) {
        self.script("spy", SPY);
        let conf = json!({"cniVersion": "1.1.0", "name": name, "type": "spy", "ipam": {"type": "host-local"}, "key": [1]});
        fs::write(self.dir.join(format!("{name}.conf")), conf.to_string()).unwrap();
        let spec =
            json!({"NetworkID": name, "NetworkType": "spy", "Options": {"container_prefix": name}});
        self.object("ClusterNetwork", name, &spec);
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        let text = format!("#!/bin/sh\n{text}").replace("DIR", self.dir.to_str().unwrap());
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes a ClusterNetwork.
    pub(crate) fn network(&self, name: &str, options: Value) {
        self.object(
            "ClusterNetwork",
            name,
            &json!({"NetworkID": name, "NetworkType": "macvlan", "Options": options}),
        );
    }

    pub(crate) fn object(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({"apiVersion": "danm.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.cluster.put(object).unwrap();
    }

    /// Makes a pod with this annotation; its labels are `app: NAME`.
    pub(crate) fn pod(&self, name: &str, interfaces: &Value) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name},
            "annotations": {"danm.k8s.io/interfaces": interfaces.to_string()}}, "spec": {}});
        self.cluster.put(pod).unwrap();
    }

    /// A pod with one interface on a network.
    pub(crate) fn simple_pod(&self, name: &str, network: &str) {
        self.pod(name, &json!([{"clusterNetwork": network, "ip": "dynamic"}]));
    }

    pub(crate) fn start(&self, verb: &str, pod: &str, netns: &str) -> Child {
        let container = format!("c-{pod}");
        self.start_by(self.program(), &self.conf, verb, (pod, &container), netns)
    }

    /// For another sandbox of the pod.
    pub(crate) fn run_for(&self, container: &str, verb: &str, pod: &str) -> Output {
        let netns = &self.bed.path;
        self.start_by(self.program(), &self.conf, verb, (pod, container), netns)
            .wait_with_output()
            .unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "the plugin under test")]
    fn program(&self) -> Command {
        Command::new(self.dir.join("danm"))
    }

    /// As on another machine: with a hostname and with state of its own.
    #[expect(clippy::disallowed_methods, reason = "the plugin under test")]
    pub(crate) fn start_on(&self, node: usize, verb: &str, pod: &str) -> Child {
        let mut conf = self.conf.clone();
        conf["stateDir"] = json!(self.dir.join(format!("state-{node}")));
        let script = format!("echo node{node} >/proc/sys/kernel/hostname && exec \"$0\"");
        let mut command = Command::new("unshare");
        command
            .args(["--uts", "sh", "-c", &script])
            .arg(self.dir.join("danm"));
        let container = format!("c-{pod}");
        self.start_by(command, &conf, verb, (pod, &container), &self.bed.path)
    }

    fn start_by(
        &self,
        mut command: Command,
        conf: &Value,
        verb: &str,
        (pod, container): (&str, &str),
        netns: &str,
    ) -> Child {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={container}"
        );
        let mut child = command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", args)
            .env("CNI_PATH", &self.dir)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(conf.to_string().as_bytes()).unwrap();
        child
    }

    pub(crate) fn run(&self, verb: &str, pod: &str) -> Output {
        self.start(verb, pod, &self.bed.path)
            .wait_with_output()
            .unwrap()
    }

    /// Runs a verb that must succeed; `null` is an empty answer.
    pub(crate) fn ok(&self, verb: &str, pod: &str) -> Value {
        let output = self.run(verb, pod);
        assert!(output.status.success(), "{verb} {pod}: {output:?}");
        match output.stdout.as_slice() {
            b"" => Value::Null,
            text => serde_json::from_slice(text).unwrap(),
        }
    }

    /// Runs a verb that must fail; the text of its error.
    pub(crate) fn error(&self, verb: &str, pod: &str) -> String {
        let output = self.run(verb, pod);
        assert!(!output.status.success(), "{verb} {pod}: {output:?}");
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        error["msg"].as_str().unwrap().to_owned()
    }

    /// The bitmap of a ClusterNetwork.
    pub(crate) fn alloc(&self, network: &str) -> String {
        self.option(network, "alloc")
    }

    /// The IPv6 bitmap of a ClusterNetwork.
    pub(crate) fn alloc6(&self, network: &str) -> String {
        self.option(network, "alloc6")
    }

    fn option(&self, network: &str, key: &str) -> String {
        let path = format!("/apis/danm.k8s.io/v1/clusternetworks/{network}");
        let network = self.cluster.get(&path).unwrap();
        let text = network["spec"]["Options"][key].as_str();
        text.unwrap_or_default().to_owned()
    }

    /// The IPv6 bitmap of a /106 whose address ::2 is a gateway.
    pub(crate) fn fresh6(&self) -> String {
        let mut bitmap = "A".repeat(699_052);
        bitmap.replace_range(..1, "o");
        bitmap.replace_range(bitmap.len() - 4.., "AAE=");
        bitmap
    }

    pub(crate) fn endpoints(&self) -> Vec<Value> {
        self.cluster
            .list("/apis/danm.k8s.io/v1/namespaces/default/danmeps")
    }

    /// Waits until the API server has such a request.
    pub(crate) fn wait_for_request(&self, method: &str, path: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        let is_meant = |r: &Request| r.method == method && r.path.contains(path);
        while !self.cluster.requests().iter().any(is_meant) {
            assert!(Instant::now() < end, "{method} {path} was not sent");
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the API server has so many requests. False: the process has ended with fewer.
    pub(crate) fn wait_for_requests(&self, count: usize, sender: &mut Child) -> bool {
        loop {
            let has_ended = sender.try_wait().unwrap().is_some();
            if self.cluster.requests().len() >= count {
                return true;
            }
            if has_ended {
                return false;
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Runs a verb, and kills it at its nth message to the kernel.
    #[expect(clippy::disallowed_methods, reason = "the plugin under test")]
    pub(crate) fn run_killed(&self, verb: &str, pod: &str, nth: u32) -> Result<End, Errno> {
        let mut command = Command::new("sh");
        command
            .args(["-c", "kill -STOP $$ && exec \"$0\""])
            .arg(self.dir.join("danm"))
            .process_group(0);
        let container = format!("c-{pod}");
        let child = self.start_by(command, &self.conf, verb, (pod, &container), &self.bed.path);
        kill_at_message(child, nth)
    }

    /// Changes a ClusterNetwork as another client does.
    pub(crate) fn change(&self, network: &str, change: impl FnOnce(&mut Value)) {
        let path = format!("/apis/danm.k8s.io/v1/clusternetworks/{network}");
        let mut object = self.cluster.get(&path).unwrap();
        change(&mut object);
        self.cluster.put(object).unwrap();
    }

    /// What the spy was sent.
    pub(crate) fn sent(&self, verb: &str, ifname: &str) -> Value {
        let text = fs::read(self.dir.join(format!("spy-{verb}-{ifname}"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Names of DanmEps, and of links in the pod.
    pub(crate) fn left(&self) -> Vec<String> {
        let endpoints = self.endpoints().into_iter();
        let names = endpoints.map(|e| e["metadata"]["name"].to_string());
        let links = self.links().into_iter().filter(|name| name != "lo");
        names.chain(links).collect()
    }

    /// Nothing is left but the network as it was.
    pub(crate) fn is_clean(&self, alloc: &str) {
        assert_eq!(self.alloc("oampub"), alloc);
        assert_eq!(self.endpoints(), Vec::<Value>::new());
        // A record may wait for a DanmEp whose request has never been answered.
        let waits = |text: &str| text.contains("\"requested\"") && !text.contains("\"strays\":[]");
        for entry in fs::read_dir(self.dir.join("state/containers/danm"))
            .into_iter()
            .flatten()
        {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(path.with_extension("json")).unwrap_or_default();
            assert!(waits(&text), "{}: {text}", path.display());
        }
        assert_eq!(self.links(), ["lo"]);
    }

    /// Names of the pod's links.
    pub(crate) fn links(&self) -> Vec<String> {
        let text = self.bed.in_pod("ip -j link");
        let links: Vec<Value> = serde_json::from_str(&text).unwrap();
        links
            .iter()
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes the delegate behave: `fail`, `sleep`, or `dry` (no link).
    pub(crate) fn delegate(&self, how: &str) {
        fs::write(self.dir.join(how), "").unwrap();
    }
}

/// From now on the calling thread, and what it starts, has mounts of its own.
pub(crate) fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    bed::run("mount --make-rprivate /");
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
