//! Two namespaces of a test's own: a host with a cable, and a pod.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

use kernel::{Child, Kind, Link, MacVlanMode, Netns, Rtnl};
use nix::sched::{CloneFlags, unshare};

/// The calling thread is on the host from now on. The host has the veth pair m0 and m0peer, both up.
pub(crate) struct Bed {
    pub(crate) pod: Netns,
    /// A path that leads to the pod's namespace, for processes as well.
    pub(crate) path: String,
    _pod: File,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        run("ip link add m0 type veth peer name m0peer");
        run("ip link set m0 up");
        run("ip link set m0peer up");
        let file = namespace();
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Bed {
            pod: Netns::open(&path).unwrap(),
            path,
            _pod: file,
        }
    }

    /// Runs a command in the pod and returns what it printed.
    pub(crate) fn in_pod(&self, command: &str) -> String {
        self.pod
            .inside(|| Ok::<_, kernel::Error>(run(command)))
            .unwrap()
    }

    /// Works in the pod with a socket of its own.
    pub(crate) fn pod<T: Send>(
        &self,
        work: impl FnOnce(&mut Rtnl) -> Result<T, kernel::Error> + Send,
    ) -> Result<T, kernel::Error> {
        self.pod.inside(|| work(&mut Rtnl::open()?))
    }

    /// Makes a macvlan link on m0 in the pod.
    pub(crate) fn macvlan(&self, name: &str) -> Result<(), kernel::Error> {
        let mut rtnl = Rtnl::open()?;
        let master = rtnl.link("m0")?.index;
        rtnl.create(&macvlan(name, master), Some(&self.pod))
    }

    pub(crate) fn link(&self, name: &str) -> Result<Link, kernel::Error> {
        self.pod(|rtnl| rtnl.link(name))
    }
}

pub(crate) fn macvlan(name: &str, master: u32) -> Child<'_> {
    Child {
        name,
        master,
        mtu: 0,
        mac: None,
        tx_queue_len: None,
        kind: Kind::MacVlan {
            mode: MacVlanMode::Bridge,
            bc_queue_len: 0,
        },
    }
}

/// A new namespace that nobody is in.
pub(crate) fn namespace() -> File {
    let open = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    thread::spawn(open).join().unwrap()
}

/// Runs a command in the calling thread's namespace; it must succeed. Returns what it printed.
#[expect(
    clippy::disallowed_methods,
    reason = "tests look at the kernel through iproute2"
)]
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
