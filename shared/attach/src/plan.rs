//! The link that a configuration asks for: making it, and comparing it with what is there.

use cni::Error;
use kernel::{Child, Kind, Link, Netns, Rtnl};

/// A link on a master, as a valid configuration asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name of the master; `None` is the link of the default route.
    pub master: Option<String>,
    /// The master is in the pod.
    pub link_in_container: bool,
    /// Bytes, as written; 0 is the master's.
    pub mtu: i64,
    /// Hardware address; `None` leaves it to the kernel.
    pub mac: Option<Vec<u8>>,
    /// What the link is.
    pub kind: Kind,
}

impl Plan {
    /// The link that the pod's traffic goes through, in the calling thread's namespace.
    pub(crate) fn find_master(&self) -> Result<Link, kernel::Error> {
        Rtnl::open()?.master(self.master.as_deref())
    }

    /// Runs `work` where the master is.
    pub(crate) fn on_side_of_master<T: Send, E: Send + From<kernel::Error>>(
        &self,
        pod: &Netns,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        match self.link_in_container {
            true => pod.inside(work),
            false => work(),
        }
    }

    /// The MTU for a link on `master`, in bytes; 0 is the master's. Code 7 when it is more than that.
    ///
    /// Only for ipvlan, which the kernel makes with any MTU, and the original with it, is more than that a warning.
    pub(crate) fn mtu_on(&self, master: &Link) -> Result<u32, Error> {
        let (mtu, limit) = (self.mtu, master.mtu);
        match u32::try_from(mtu) {
            Ok(fits) if fits <= limit => Ok(fits),
            Ok(more) if matches!(self.kind, Kind::IpVlan { .. }) => {
                let name = &master.name;
                log::warn!(
                    "packets of more than {limit} bytes will not get past {name}: the MTU is {mtu}"
                );
                Ok(more)
            }
            _ => {
                let why = format!("invalid MTU {mtu}, must be [0, master MTU({limit})]");
                Err(Error::config(why))
            }
        }
    }

    /// Makes the link in the pod. A repeated ADD ends here, with the first one's interface as it was.
    pub(crate) fn create_link(&self, ifname: &str, pod: &Netns) -> Result<(), Error> {
        self.on_side_of_master(pod, || {
            let mut rtnl = Rtnl::open()?;
            let master = rtnl.master(self.master.as_deref())?;
            let child = Child {
                name: ifname,
                master: master.index,
                mtu: self.mtu_on(&master)?,
                mac: self.mac.as_deref(),
                tx_queue_len: None,
                kind: self.kind,
            };
            let target = (!self.link_in_container).then_some(pod);
            let created = rtnl.create(&child, target);
            created.map_err(|e| self.not_created(e, &master))
        })
    }

    fn not_created(&self, error: kernel::Error, master: &Link) -> Error {
        let kind = self.kind.name();
        let is_busy = error.is_busy();
        let error = Error::from(error.context(format!("failed to create {kind}")));
        if !is_busy {
            return error;
        }
        let master = &master.name;
        error.details(format!(
            "{master} is in use by something else: a link carries either macvlan or ipvlan links, or is a port of a bridge"
        ))
    }

    /// Compares the link with the plan.
    pub(crate) fn compare(&self, link: &Link, master: Option<&Link>) -> Result<(), Error> {
        let name = &link.name;
        if let Some(difference) = self.kind.difference(link) {
            return Err(Error::plugin(format!("container {difference}")));
        }
        if let Some(master) = master.filter(|master| master.index != link.master) {
            let why = format!("interface {name} is not on master {:?}", master.name);
            return Err(Error::plugin(why));
        }
        if self.mtu != 0 && self.mtu != i64::from(link.mtu) {
            let (found, expected) = (link.mtu, self.mtu);
            let why =
                format!("interface {name} has MTU {found}, the configuration says {expected}");
            return Err(Error::plugin(why));
        }
        Ok(())
    }
}

/// Reads a setting that has only certain words as its value; empty is `None`. Code 7 names the words.
pub fn one_of<T: Copy>(
    what: &str,
    text: &str,
    all: &[T],
    word: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let found = all.iter().find(|value| word(**value) == text).copied();
    found.map(Some).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|value| word(*value)).collect();
        let words = words.join(", ");
        Error::config(format!("unknown {what}: {text:?}, must be one of {words}"))
    })
}

#[cfg(test)]
mod tests {
    use cni::Code;
    use kernel::{IpVlanFlag, IpVlanMode, MacVlanMode};

    use super::*;

    fn mtu(kind: Kind, mtu: i64) -> Result<u32, Error> {
        let master = Link {
            mtu: 1500,
            ..Link::default()
        };
        let plan = Plan {
            master: None,
            link_in_container: false,
            mtu,
            mac: None,
            kind,
        };
        plan.mtu_on(&master)
    }

    #[test]
    fn the_mtu_is_at_most_the_masters() {
        let macvlan = Kind::MacVlan {
            mode: MacVlanMode::Bridge,
            bc_queue_len: 0,
        };
        assert_eq!(mtu(macvlan, 0).unwrap(), 0);
        assert_eq!(mtu(macvlan, 1500).unwrap(), 1500);
        for bad in [-1, 1501, 5_000_000_000] {
            let error = mtu(macvlan, bad).unwrap_err();
            let expected = format!("invalid MTU {bad}, must be [0, master MTU(1500)]");
            assert_eq!((error.code, error.msg), (Code::InvalidConfig, expected));
        }
    }

    #[test]
    fn the_mtu_of_ipvlan_may_be_more() {
        let ipvlan = Kind::IpVlan {
            mode: IpVlanMode::L2,
            flag: IpVlanFlag::Bridge,
        };
        assert_eq!(mtu(ipvlan, 1501).unwrap(), 1501);
        for bad in [-1, 5_000_000_000] {
            assert_eq!(mtu(ipvlan, bad).unwrap_err().code, Code::InvalidConfig);
        }
    }

    #[test]
    fn one_of_the_words() {
        let mode = |text| one_of("ipvlan mode", text, &IpVlanMode::ALL, IpVlanMode::as_str);
        assert_eq!(mode("").unwrap(), None);
        assert_eq!(mode("l3s").unwrap(), Some(IpVlanMode::L3s));
        let error = mode("L2").unwrap_err();
        assert_eq!(
            error.msg,
            r#"unknown ipvlan mode: "L2", must be one of l2, l3, l3s"#
        );
        assert_eq!(error.code, Code::InvalidConfig);
    }
}
