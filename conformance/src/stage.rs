//! The stage that plugins act on: namespaces of our own, so that nothing they do reaches the machine underneath.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use serde_json::Value;

use crate::pod::{Link, NetState, create_netns};

/// The host's end of a cable: what a plugin takes as its master.
pub const UPLINK: &str = "uplink";
/// The namespace at the other end of that cable.
pub const LAN: &str = "lan";
/// Where network namespaces are mounted by name.
pub const NETNS_DIR: &str = "/run/netns";

/// The namespaces this process has moved into. They vanish with the process; [`Drop`] removes the mount points made for them.
#[derive(Debug)]
pub struct Stage {
    ip: PathBuf,
    scratch: PathBuf,
    made: Vec<PathBuf>,
    link_kinds: Mutex<BTreeMap<String, Result<(), String>>>,
}

impl Stage {
    /// Moves this process onto a stage of its own. Needs to be called while it has one thread.
    ///
    /// # Errors
    /// A sentence for the operator: `ip` is missing, or the kernel doesn't let us.
    pub fn enter() -> Result<Self, String> {
        let ip = find_program("ip")
            .ok_or("the program `ip` is needed to look at interfaces: install iproute2")?;
        unshare_all()?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(|errno| format!("mounts can't be made private: {errno}"))?;
        let mut stage = Self {
            ip,
            scratch: PathBuf::from("/var/lib/cni/conformance"),
            made: Vec::new(),
            link_kinds: Mutex::default(),
        };
        stage.cover(Path::new(NETNS_DIR))?;
        stage.cover(Path::new("/var/lib/cni"))?;
        stage.alias_var_run()?;
        stage
            .furnish()
            .map_err(|error| format!("the stage can't be set up: {error}"))?;
        Ok(stage)
    }

    /// Puts an empty file system over `folder`, which is made when it doesn't exist.
    fn cover(&mut self, folder: &Path) -> Result<(), String> {
        let mut folder = folder;
        let mut missing = Vec::new();
        while !folder.exists() {
            missing.push(folder.to_owned());
            folder = folder.parent().unwrap_or(Path::new("/"));
        }
        for path in missing.iter().rev() {
            if fs::create_dir(path).is_err() {
                // Mapped root may not write there, yet may hide the place from itself.
                return self.cover_with_tmpfs(folder).and_then(|()| {
                    fs::create_dir_all(&missing[0])
                        .map_err(|error| format!("{}: {error}", missing[0].display()))
                });
            }
            self.made.push(path.clone());
        }
        self.cover_with_tmpfs(missing.first().map_or(folder, PathBuf::as_path))
    }

    fn cover_with_tmpfs(&self, folder: &Path) -> Result<(), String> {
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )
        .map_err(|errno| format!("a tmpfs can't be mounted on {}: {errno}", folder.display()))
    }

    /// `ip` looks for namespaces under /var/run, which is nearly always a link to /run.
    fn alias_var_run(&mut self) -> Result<(), String> {
        let alias = Path::new("/var/run/netns");
        if alias
            .canonicalize()
            .is_ok_and(|real| real == Path::new(NETNS_DIR))
        {
            return Ok(());
        }
        self.cover(alias)?;
        mount(
            Some(NETNS_DIR),
            alias,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|errno| format!("{NETNS_DIR} can't be shown as {}: {errno}", alias.display()))
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

    /// A new empty folder that only this run can see.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.scratch.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
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
        NetState::read(self, None)
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

impl Drop for Stage {
    fn drop(&mut self) {
        // The mounts go with the namespace; folders made on the machine's own file systems don't.
        for path in self.made.iter().rev() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
            let _ = umount2(path, MntFlags::MNT_DETACH);
            let _ = fs::remove_dir(path);
        }
    }
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
