//! The devices of a pod's own, virtual functions of a network card, as sysfs tells of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cni::{Code, Error};
use kernel::Rtnl;

/// Where PCI devices are found by their address.
const DEVICES: &str = "/sys/bus/pci/devices";

/// Drivers that hand a device to a program, so that the kernel has no link of it.
const USER_SPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// A virtual function by its PCI address, `0000:03:02.0`.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    folder: PathBuf,
}

impl Device {
    /// It need not be there.
    pub(crate) fn new(id: &str) -> Device {
        Device {
            folder: Path::new(DEVICES).join(id),
        }
    }

    /// The link of the network card that it belongs to.
    pub(crate) fn physical_function(&self) -> Result<String, Error> {
        let links = self.folder.join("physfn/net");
        let failed = |why: String| Error::new(Code::Io, format!("{}: {why}", links.display()));
        let first = fs::read_dir(&links).and_then(|mut entries| entries.next().transpose());
        match first.map_err(|e| failed(e.to_string()))? {
            Some(entry) => Ok(entry.file_name().to_string_lossy().into_owned()),
            None => Err(failed("the network card has no link".into())),
        }
    }

    /// Whether it is a program's, and not the kernel's.
    pub(crate) fn is_in_user_space(&self) -> bool {
        let driver = fs::read_link(self.folder.join("driver"));
        let driver = driver.unwrap_or_default();
        let name = driver.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| USER_SPACE_DRIVERS.contains(&name))
    }

    /// Its hardware address, which the network card tells; empty if it does not.
    pub(crate) fn mac(&self) -> Vec<u8> {
        let found = || -> Result<Vec<u8>, Error> {
            let function = self.number().map_err(|e| Error::plugin(e.to_string()))?;
            Ok(Rtnl::open()?.mac_of_function(&self.physical_function()?, function)?)
        };
        found().unwrap_or_else(|e| {
            log::info!(
                "{}: its hardware address is not known: {e}",
                self.folder.display()
            );
            Vec::new()
        })
    }

    /// Its number among the virtual functions of the card: `physfn/virtfnN` is a link that leads back to it.
    fn number(&self) -> io::Result<u32> {
        let own = fs::canonicalize(&self.folder)?;
        for entry in fs::read_dir(self.folder.join("physfn"))? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("virtfn"));
            let number = number.and_then(|number| number.parse().ok());
            if let Some(number) = number
                && fs::canonicalize(entry.path())? == own
            {
                return Ok(number);
            }
        }
        let why = "its network card does not list it";
        Err(io::Error::new(io::ErrorKind::NotFound, why))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_sysfs_says() {
        let root = std::env::temp_dir().join(format!("danm-shim-device-{}", std::process::id()));
        let device = |id: &str| Device {
            folder: root.join(id),
        };
        for (id, driver) in [("vf0", "iavf"), ("vf1", "vfio-pci")] {
            fs::create_dir_all(root.join(id)).unwrap();
            symlink("../pf", root.join(id).join("physfn")).unwrap();
            symlink(
                Path::new("../drivers").join(driver),
                root.join(id).join("driver"),
            )
            .unwrap();
        }
        fs::create_dir_all(root.join("pf/net/ens1f0")).unwrap();
        for (number, id) in [(3, "vf1"), (2, "vf0")] {
            let link = root.join("pf").join(format!("virtfn{number}"));
            symlink(Path::new("..").join(id), link).unwrap();
        }
        let (kernel, program) = (device("vf0"), device("vf1"));
        assert_eq!(kernel.physical_function().unwrap(), "ens1f0");
        assert_eq!(
            [kernel.number().unwrap(), program.number().unwrap()],
            [2, 3]
        );
        assert!(!kernel.is_in_user_space() && program.is_in_user_space());
        let absent = device("vf9");
        assert!(!absent.is_in_user_space() && absent.mac().is_empty());
        let error = absent.physical_function().unwrap_err();
        assert!(error.msg.contains("vf9/physfn/net"), "{error}");
        fs::remove_dir_all(&root).unwrap();
    }
}
