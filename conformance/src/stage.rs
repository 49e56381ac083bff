//! The stage that plugins act on: namespaces of our own, so that nothing they do reaches the machine underneath.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use serde_json::Value;

use crate::cable;
use crate::cluster::{Cluster, ControlPlane};
use crate::pod::{Link, NetState, create_netns};
use crate::requirement::{Stop, skip};

/// The host's end of a cable: what a plugin takes as its master.
pub const UPLINK: &str = "uplink";
/// The namespace at the other end of that cable.
pub const LAN: &str = "lan";
/// Where network namespaces are mounted by name.
pub const NETNS_DIR: &str = "/run/netns";

/// What all stages stand on: this process in namespaces of its own, and the folders that stages put their file systems over.
#[derive(Debug)]
pub struct Ground {
    ip: PathBuf,
    /// A real API server, for the plugins that ask one.
    pub control_plane: Option<Arc<ControlPlane>>,
}

impl Ground {
    /// Moves this process away from the machine. Needs to be called while it has one thread.
    ///
    /// # Errors
    /// A sentence for the operator: `ip` is missing, or the kernel doesn't let us.
    pub fn prepare() -> Result<Self, String> {
        let ip = find_program("ip")
            .ok_or("the program `ip` is needed to look at interfaces: install iproute2")?;
        unshare_all()?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(|errno| format!("mounts can't be made private: {errno}"))?;
        COVERED
            .into_iter()
            .try_for_each(|folder| make(Path::new(folder)))?;
        Ok(Self {
            ip,
            control_plane: None,
        })
    }
}

/// Makes a folder to mount on, with those above it. It stays: a folder that is removed takes along what other runs have
/// mounted on it in their namespaces, and these would go on writing to the machine itself.
fn make(folder: &Path) -> Result<(), String> {
    let missing: Vec<_> = folder
        .ancestors()
        .take_while(|path| !path.exists())
        .collect();
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // Mapped root may not write there, yet may hide the place above from itself.
                cover(path.parent().unwrap_or(path))?;
                return fs::create_dir_all(folder)
                    .map_err(|error| format!("{}: {error}", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where `ip` looks for namespaces; nearly always the same folder.
const NETNS_ALIAS: &str = "/var/run/netns";
/// What every stage has of its own. /var/lib/cni is where plugins keep their state by default.
const COVERED: [&str; 3] = [NETNS_DIR, NETNS_ALIAS, "/var/lib/cni"];

/// The namespaces of one thread, which vanish with it: several threads can work beside each other and not meet.
#[derive(Debug)]
pub struct Stage {
    ip: PathBuf,
    scratch: PathBuf,
    control_plane: Option<Arc<ControlPlane>>,
    link_kinds: Mutex<BTreeMap<String, Result<(), String>>>,
}

impl Stage {
    /// Moves this thread onto a stage. Threads and programs it starts from now on are there too; other threads are not.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn enter(ground: &Ground) -> Result<Self, String> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("namespaces can't be made: {errno}"))?;
        for folder in COVERED {
            cover(Path::new(folder))?;
        }
        let alias = Path::new(NETNS_ALIAS);
        if alias
            .canonicalize()
            .is_ok_and(|real| real != Path::new(NETNS_DIR))
        {
            mount(
                Some(NETNS_DIR),
                alias,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(|errno| format!("{NETNS_DIR} can't be shown as {NETNS_ALIAS}: {errno}"))?;
        }
        let scratch = PathBuf::from("/var/lib/cni/conformance");
        let stage = Self {
            ip: ground.ip.clone(),
            scratch,
            control_plane: ground.control_plane.clone(),
            link_kinds: Mutex::default(),
        };
        stage
            .furnish()
            .map_err(|error| format!("the stage can't be set up: {error}"))?;
        Ok(stage)
    }

    fn furnish(&self) -> io::Result<()> {
        fs::create_dir_all(&self.scratch)?;
        create_netns(LAN)?;
        self.ip(&["link", "set", "lo", "up"])?;
        self.ip(&[
            "link", "add", UPLINK, "type", "veth", "peer", "name", "port", "netns", LAN,
        ])?;
        // Link-local addresses come and go by themselves, and would make the host look changed.
        let _ = fs::write(
            format!("/proc/sys/net/ipv6/conf/{UPLINK}/disable_ipv6"),
            "1",
        );
        self.ip(&["-n", LAN, "link", "set", "port", "up"])?;
        self.ip(&["link", "set", UPLINK, "up"])?;
        Ok(())
    }

    /// An API server for one trial: the one in memory, with the real one behind it where there is one.
    ///
    /// # Errors
    /// A sentence saying what did not work.
    pub fn cluster(&self) -> Result<Cluster, String> {
        match &self.control_plane {
            Some(control_plane) => Cluster::before(control_plane),
            None => Cluster::start(),
        }
    }

    /// A new empty folder that only this run can see.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.scratch.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Puts an empty file system over a folder that programs have no other name for, until the guard is dropped. Skips the
    /// case where the folder isn't there and can't be made. It stays, as those do that every stage stands on.
    pub fn cover(&self, folder: &str) -> Result<Cover, Stop> {
        let path = PathBuf::from(folder);
        fs::create_dir_all(&path).map_err(|error| skip(format!("{folder}: {error}")))?;
        cover(&path).map_err(skip)?;
        Ok(Cover { path })
    }

    /// Runs `ip` in the host namespace of the stage and returns its stdout.
    pub fn ip(&self, arguments: &[&str]) -> io::Result<Vec<u8>> {
        let output = Command::new(&self.ip).args(arguments).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "`ip {}`: {}",
            arguments.join(" "),
            said.trim()
        )))
    }

    /// Runs `ip -j` and reads its answer.
    pub fn ip_json(&self, arguments: &[&str]) -> io::Result<Value> {
        let stdout = self.ip(&[&["-j"], arguments].concat())?;
        // Nothing to list is printed as nothing.
        if stdout.trim_ascii().is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        serde_json::from_slice(&stdout).map_err(io::Error::other)
    }

    /// Everything a plugin could have changed in the host namespace: links, addresses, routes, named namespaces apart.
    pub fn host(&self) -> io::Result<NetState> {
        let mut state = NetState::read(self, None)?;
        state
            .links
            .retain(|link| !link.name.starts_with(cable::PREFIX));
        Ok(state)
    }

    /// A link of the host namespace.
    pub fn host_link(&self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.host()?.link(name).cloned())
    }

    /// Whether the kernel can make links of this kind (`macvlan`, `ipvlan`, ...); the error says that it can't, and why.
    pub fn has_link_kind(&self, kind: &str) -> Result<(), String> {
        let Ok(mut kinds) = self.link_kinds.lock() else {
            return Ok(());
        };
        kinds
            .entry(kind.to_owned())
            .or_insert_with(|| {
                let made = self.ip(&["link", "add", "probe", "link", UPLINK, "type", kind]);
                made.and_then(|_| self.ip(&["link", "delete", "probe"]))
                    .map(drop)
                    .map_err(|error| format!("this kernel can't make {kind} links ({error})"))
            })
            .clone()
    }
}

/// A folder with a file system of its own, which is gone when this is dropped.
#[derive(Debug)]
pub struct Cover {
    /// The folder.
    pub path: PathBuf,
}

impl Drop for Cover {
    fn drop(&mut self) {
        // What is still open in it goes with the stage.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Puts an empty file system over a folder.
fn cover(folder: &Path) -> Result<(), String> {
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )
    .map_err(|errno| format!("a tmpfs can't be mounted on {}: {errno}", folder.display()))
}

/// The file that runs when `name` is typed, also where PATH leaves out the folders of the administrator.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| {
        file.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    })
}

fn unshare_all() -> Result<(), String> {
    let spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    if geteuid().is_root() && unshare(spaces).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).and_then(|()| unshare(spaces)).map_err(|errno| {
        format!("namespaces can't be made ({errno}): run as root, or allow unprivileged user namespaces")
    })?;
    // In this order: the kernel takes a group map from the unprivileged only after setgroups is denied.
    [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ]
    .into_iter()
    .try_for_each(|(file, text)| fs::write(format!("/proc/self/{file}"), text))
    .map_err(|error| format!("root can't be mapped in the user namespace: {error}"))
}
