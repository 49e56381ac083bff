//! Pods, and what iproute2 sees in them: an observer that shares no code with the plugins.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::{Interface, if_nameindex};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use crate::result::parse_cidr;
use crate::stage::{NETNS_DIR, Stage};

/// A network namespace with a name, empty but for `lo`; gone when dropped.
#[derive(Debug)]
pub struct Pod<'stage> {
    /// What `ip -n` calls it.
    pub name: String,
    /// What `CNI_NETNS` calls it.
    pub path: PathBuf,
    stage: &'stage Stage,
}

impl<'stage> Pod<'stage> {
    /// A fresh one.
    pub fn new(stage: &'stage Stage) -> io::Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        let name = format!("pod{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let path = create_netns(&name)?;
        Ok(Self { name, path, stage })
    }

    /// Runs `ip -n` on it.
    pub fn ip(&self, arguments: &[&str]) -> io::Result<Vec<u8>> {
        self.stage.ip(&[&["-n", &self.name], arguments].concat())
    }

    /// Does something inside it, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        inside(&self.path, work)
    }

    /// Everything in it.
    pub fn state(&self) -> io::Result<NetState> {
        NetState::read(self.stage, Some(&self.name))
    }

    /// One link in it.
    pub fn link(&self, name: &str) -> io::Result<Option<Link>> {
        Ok(self.state()?.link(name).cloned())
    }

    /// The namespace ends, as when a container dies before its DEL. The path is gone too.
    ///
    /// The kernel takes its links down some time after that, and until then they would answer for their addresses; so they
    /// go first.
    pub fn vanish(&self) {
        let links = self.inside(|| Ok(if_nameindex()?.iter().map(link_name).collect()));
        let links: Vec<String> = links.unwrap_or_default();
        for link in links.iter().filter(|name| *name != "lo") {
            let _ = self.ip(&["link", "delete", link]);
        }
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

fn link_name(interface: &Interface) -> String {
    interface.name().to_string_lossy().into_owned()
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// Does something inside the network namespace at `path`, on a thread of its own that ends there.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    let enter = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    thread::scope(|scope| {
        let died = |_| Err(io::Error::other("the thread in the namespace died"));
        scope.spawn(enter).join().unwrap_or_else(died)
    })
}

/// Makes a network namespace and mounts it under [`NETNS_DIR`], as `ip netns add` does.
pub fn create_netns(name: &str) -> io::Result<PathBuf> {
    let path = Path::new(NETNS_DIR).join(name);
    File::create_new(&path)?;
    let target = path.clone();
    // A namespace belongs to a thread; this one ends with it, the mount keeps the namespace.
    let made = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(
            Some("/proc/thread-self/ns/net"),
            &target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
    });
    made.join()
        .map_err(|_| io::Error::other("the thread that makes namespaces died"))??;
    Ok(path)
}

/// Links, addresses and routes of one namespace, sorted so that two of them can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetState {
    /// In the order of their index.
    pub links: Vec<Link>,
    /// Both families, main table.
    pub routes: Vec<Route>,
}

/// A link as iproute2 shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// `macvlan`, `veth`, ...; empty for `lo` and hardware.
    pub kind: String,
    /// Lower case with colons.
    pub mac: String,
    /// Bytes.
    pub mtu: u64,
    /// Administratively up.
    pub up: bool,
    /// Addresses that an administrator or plugin set: link-local ones that the kernel makes by itself are left out.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What `ip -d -j link` says about the kind, such as `{"mode":"bridge"}`.
    pub data: Value,
}

/// A route as iproute2 shows it; those the kernel adds by itself are left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// With prefix; the default routes are `0.0.0.0/0` and `::/0`.
    pub destination: String,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Outgoing link.
    pub link: String,
    /// Priority, 0 when none is shown.
    pub metric: u64,
}

impl NetState {
    /// Reads one namespace; `None` is the host of the stage.
    pub fn read(stage: &Stage, namespace: Option<&str>) -> io::Result<Self> {
        let at: Vec<_> = namespace
            .into_iter()
            .flat_map(|name| ["-n", name])
            .collect();
        let addresses = stage.ip_json(&[&at[..], &["-d", "address", "show"]].concat())?;
        let links = list(&addresses).iter().filter_map(Link::read).collect();
        let mut routes = Vec::new();
        for (family, default) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
            let found = stage.ip_json(&[&at[..], &[family, "route", "show"]].concat())?;
            routes.extend(
                list(&found)
                    .iter()
                    .flat_map(|route| Route::read(route, default)),
            );
        }
        routes.sort();
        Ok(Self { links, routes })
    }

    /// The link of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

impl Link {
    fn read(value: &Value) -> Option<Self> {
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let info = value.get("linkinfo");
        Some(Self {
            name: value.get("ifname")?.as_str()?.to_owned(),
            kind: info
                .and_then(|info| info.get("info_kind"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            mac: text("address"),
            mtu: value.get("mtu").and_then(Value::as_u64).unwrap_or(0),
            up: list(value.get("flags")?).iter().any(|flag| flag == "UP"),
            addresses: list(value.get("addr_info")?)
                .iter()
                .filter_map(read_address)
                .collect(),
            data: info
                .and_then(|info| info.get("info_data"))
                .cloned()
                .unwrap_or_default(),
        })
    }

    /// Whether `address/prefix` is configured on it.
    pub fn has(&self, cidr: &str) -> bool {
        parse_cidr(cidr).is_some_and(|wanted| self.addresses.contains(&wanted))
    }
}

impl Route {
    /// One for each next hop; none for what the kernel adds by itself.
    fn read(value: &Value, default: &str) -> Vec<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let destination = match text("dst") {
            None => return Vec::new(),
            Some(_) if text("protocol") == Some("kernel") => return Vec::new(),
            Some("default") => default.to_owned(),
            Some(dst) if dst.contains('/') => dst.to_owned(),
            Some(dst) => format!("{dst}/{}", if default.starts_with(':') { 128 } else { 32 }),
        };
        let metric = value.get("metric").and_then(Value::as_u64).unwrap_or(0);
        let through = |hop: &Value| {
            let text = |key: &str| hop.get(key).and_then(Value::as_str);
            Self {
                destination: destination.clone(),
                gateway: text("gateway").and_then(|gateway| gateway.parse().ok()),
                link: text("dev").unwrap_or_default().to_owned(),
                metric,
            }
        };
        match value.get("nexthops") {
            Some(hops) => list(hops).iter().map(through).collect(),
            None => vec![through(value)],
        }
    }
}

fn read_address(value: &Value) -> Option<(IpAddr, u8)> {
    if value.get("scope")?.as_str()? == "link" && value.get("family")?.as_str()? == "inet6" {
        return None;
    }
    let prefix = u8::try_from(value.get("prefixlen")?.as_u64()?).ok()?;
    Some((value.get("local")?.as_str()?.parse().ok()?, prefix))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
