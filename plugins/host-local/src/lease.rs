//! An address file: named by the address, and in it who holds the address.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;

use cni::{Attachment, names};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::index;

/// Who holds an address: one interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    content: String,
    id: usize,
}

impl Owner {
    pub(crate) fn new(container_id: &str, ifname: &str) -> Owner {
        Owner {
            content: format!("{container_id}\r\n{ifname}"),
            id: container_id.len(),
        }
    }

    /// What its address files contain: `<container id>\r\n<interface>`, no final newline.
    pub(crate) fn content(&self) -> &str {
        &self.content
    }

    /// What address files contained before v0.8 of the original: the container id.
    pub(crate) fn container_id(&self) -> &str {
        self.content.get(..self.id).unwrap_or_default()
    }

    /// Hash of [`Owner::content`], as the index has it.
    pub(crate) fn hash(&self) -> u64 {
        index::hash(self.content.as_bytes())
    }
}

impl From<&Attachment> for Owner {
    fn from(attachment: &Attachment) -> Owner {
        Owner::new(&attachment.container_id, &attachment.ifname)
    }
}

/// What an address file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// Its content, white space at both ends taken off.
    By(Vec<u8>),
    /// No container id is in it: what a crash between creating and writing leaves. Under the lock nobody is
    /// about to write, so it is nobody's.
    ByNobody,
}

impl Held {
    /// Reads the file of an address in the pool's directory. A scan does this for every file, so it takes no more
    /// system calls than needed; O_NONBLOCK, so that a pipe that somebody put there can't stop it.
    pub(crate) fn read(directory: &File, ip: IpAddr) -> io::Result<Held> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let name = ip.to_string();
        let mut file = File::from(openat(directory, name.as_str(), flags, Mode::empty())?);
        // Container ids have no limit, but nearly always fit: then no second look for the end is needed.
        let mut content = [0; 512];
        let length = read_some(&mut file, &mut content)?;
        let (start, _) = content.split_at(length);
        if length < content.len() {
            return Ok(Held::parse(start));
        }
        let mut whole = start.to_vec();
        file.take(1 << 20).read_to_end(&mut whole)?;
        Ok(Held::parse(&whole))
    }

    fn parse(content: &[u8]) -> Held {
        let content = content.trim_ascii();
        let line = content.split(|b| *b == b'\n').next().unwrap_or_default();
        match str::from_utf8(line.trim_ascii_end()) {
            Ok(id) if names::is_identifier(id) => Held::By(content.to_vec()),
            _ => Held::ByNobody,
        }
    }

    pub(crate) fn is_by(&self, content: &str) -> bool {
        matches!(self, Held::By(held) if held == content.as_bytes())
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// The address whose file has this name; `None` for other files. Only the canonical text is a name.
pub(crate) fn address_of(name: &str) -> Option<IpAddr> {
    let ip: IpAddr = name.parse().ok()?;
    (ip.to_string() == name).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content() {
        let owner = Owner::new("c1", "eth0");
        assert_eq!(owner.content().as_bytes(), b"c1\r\neth0");
        assert_eq!(owner.container_id(), "c1");
        for same in ["c1\r\neth0", "c1\r\neth0\n", " c1\r\neth0 \r\n"] {
            assert!(
                Held::parse(same.as_bytes()).is_by(owner.content()),
                "{same:?}"
            );
        }
        assert!(Held::parse(b"c1").is_by(owner.container_id()));
        assert!(!Held::parse(b"c1\neth0").is_by(owner.content()), "as Go");
    }

    #[test]
    fn what_has_no_container_id_is_nobodys() {
        for damaged in [
            &b""[..],
            b"\n",
            b"\0\0\0\0",
            b"\r\neth0",
            b"-x\r\neth0",
            b"\xff\xfe",
        ] {
            // Leading white space is taken off, so the interface stands in the id's place here.
            let expected = match damaged {
                b"\r\neth0" => Held::By(b"eth0".to_vec()),
                _ => Held::ByNobody,
            };
            assert_eq!(Held::parse(damaged), expected, "{damaged:?}");
        }
    }

    #[test]
    fn names_are_canonical() {
        for name in ["10.1.2.5", "fd00:77::2", "::", "fd00:0:0:1::2"] {
            assert_eq!(
                address_of(name).map(|ip| ip.to_string()).as_deref(),
                Some(name)
            );
        }
        for other in [
            "lock",
            "last_reserved_ip.0",
            ".index",
            "FD00::1",
            "fd00:0::1",
            "10.1.2",
        ] {
            assert_eq!(address_of(other), None, "{other}");
        }
    }
}
