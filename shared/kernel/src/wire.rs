//! Netlink in the few forms that netfilter and the FIB need: write attributes, read attributes, send and receive.
//!
//! The crates of the rust-netlink family have types for links, addresses and routes. They have none for rule
//! comments (`NFTA_RULE_USERDATA`), for `nat`, `masq`, `fib` and xtables expressions or for conntrack filters,
//! so those messages are written here, byte by byte, on the family's own socket.

use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::{Socket as NetlinkSocket, SocketAddr};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;

const DUMP_INTERRUPTED: u16 = 0x10; // NLM_F_DUMP_INTR
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16; // sizeof(struct nlmsghdr)
const NESTED: u16 = 0x8000; // NLA_F_NESTED
const ATTRIBUTE_TYPE: u16 = 0x3fff; // NLA_TYPE_MASK

/// One or more messages on their way to the kernel.
#[derive(Debug, Default, Clone)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
}

/// The part of a message behind its headers.
pub(crate) struct Body<'a>(&'a mut Vec<u8>);

impl Messages {
    /// Appends a message. `kind` is `nlmsg_type`, `header` the fixed part of its family, `sequence` what its
    /// acknowledgement repeats.
    pub(crate) fn push(
        &mut self,
        (kind, flags, sequence): (u16, u16, u32),
        header: &[u8],
        fill: impl FnOnce(&mut Body<'_>),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]); // nlmsg_pid: the kernel knows who sends
        self.bytes.extend(header);
        fill(&mut Body(&mut self.bytes));
        let length = length(start, self.bytes.len());
        patch(&mut self.bytes, start, &length.to_ne_bytes());
        align(&mut self.bytes);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body<'_> {
    /// The bytes that `fill` writes.
    pub(crate) fn collect(fill: impl FnOnce(&mut Body<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        fill(&mut Body(&mut bytes));
        bytes
    }

    /// Appends an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |body| body.0.extend(value));
    }

    /// Appends an attribute that is a number in network byte order, as all of netfilter's are.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that is a handle.
    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that is a C string.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |body| {
            body.0.extend(value.as_bytes());
            body.0.push(0);
        });
    }

    /// Appends an attribute made of attributes.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        self.attribute(kind | NESTED, fill);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        fill(&mut Body(self.0));
        // nla_len has 16 bits; the callers' attributes are far smaller, and a longer one is refused by the kernel.
        let length = length(start, self.0.len()) as u16;
        patch(self.0, start, &length.to_ne_bytes());
        align(self.0);
    }
}

fn length(start: usize, end: usize) -> u32 {
    (end - start) as u32
}

fn patch(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`: kind without its flags, and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & ATTRIBUTE_TYPE;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this kind.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

/// A number in network byte order.
pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// A handle.
pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// A C string, up to its end or its first NUL.
pub(crate) fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A blocking netlink socket of the calling thread's network namespace.
pub(crate) struct Socket {
    inner: NetlinkSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// Opens a socket of `protocol` (`NETLINK_*`).
    pub(crate) fn open(protocol: isize) -> io::Result<Socket> {
        let mut inner = NetlinkSocket::new(protocol)?;
        inner.bind_auto()?;
        inner.connect(&SocketAddr::new(0, 0))?;
        // The kernel fills at most 32 KiB into one datagram of a dump, and no more than the reader has room for.
        Ok(Socket {
            inner,
            buffer: vec![0; 64 * 1024],
            sequence: 0,
        })
    }

    /// A sequence number not used before.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// Sends one request and hands the bodies of all messages that answer it to `each`. With [`DUMP`] these are
    /// many, without it one at most. `NLM_F_ACK` is added.
    ///
    /// Errors: what the kernel answered; `Interrupted` when the table changed while it was dumped.
    pub(crate) fn request(
        &mut self,
        (kind, flags): (u16, u16),
        header: &[u8],
        fill: impl FnOnce(&mut Body<'_>),
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let sequence = self.next_sequence();
        let mut messages = Messages::default();
        messages.push((kind, flags | ACK, sequence), header, fill);
        self.inner.send(messages.as_bytes(), 0)?;
        let mut interrupted = false;
        loop {
            let received = self.receive(0)?;
            for message in split(received).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        message.outcome()?;
                        return match interrupted {
                            true => Err(io::ErrorKind::Interrupted.into()),
                            false => Ok(()),
                        };
                    }
                    _ => each(message.body),
                }
            }
        }
    }

    /// Sends a batch of nfnetlink. The kernel has dealt with all of it when `send` returns; what is then in the
    /// socket are its complaints. The first of them is the error.
    pub(crate) fn batch(&mut self, messages: &Messages) -> io::Result<()> {
        self.make_room(messages.as_bytes().len());
        self.inner.send(messages.as_bytes(), 0)?;
        loop {
            match self.receive(nix::libc::MSG_DONTWAIT) {
                Ok(received) => split(received).try_for_each(|complaint| complaint.outcome())?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Raises the send buffer, which a batch has to fit in as a whole.
    fn make_room(&self, bytes: usize) {
        use nix::sys::socket::{setsockopt, sockopt};
        // A small default suffices for nearly all; where it does not and the kernel refuses, `send` says so.
        if bytes > 64 * 1024 {
            let room = bytes * 2;
            if setsockopt(&self.inner, sockopt::SndBufForce, &room).is_err() {
                let _ = setsockopt(&self.inner, sockopt::SndBuf, &room);
            }
        }
    }

    fn receive(&mut self, flags: i32) -> io::Result<&[u8]> {
        let received = loop {
            let mut window = self.buffer.as_mut_slice();
            match self.inner.recv(&mut window, flags) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        Ok(self.buffer.get(..received).unwrap_or_default())
    }
}

/// The messages of one datagram.
fn split(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0)? as usize;
        let message = Message {
            kind: u16_at(rest, 4)?,
            flags: u16_at(rest, 6)?,
            sequence: u32_at(rest, 8)?,
            body: rest.get(HEADER..length)?,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket({})", self.inner.as_raw_fd())
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Message<'_> {
    /// The error in an `NLMSG_ERROR`, which is an acknowledgement when its number is 0, or in an `NLMSG_DONE`.
    fn outcome(&self) -> io::Result<()> {
        match u32_at(self.body, 0).unwrap_or(0) as i32 {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_and_its_attributes() {
        let mut messages = Messages::default();
        messages.push((7, ACK, 3), &[2, 0, 0, 0], |body| {
            body.string(1, "abcd");
            body.nested(2, |inner| inner.be32(1, 9));
        });
        let bytes = messages.as_bytes();
        assert_eq!(u32_at(bytes, 0).unwrap() as usize, bytes.len());
        assert_eq!(bytes.len(), 16 + 4 + 12 + 12);
        let body = &bytes[20..];
        assert_eq!(attribute(body, 1), Some(&b"abcd\0"[..]));
        let inner = attribute(body, 2).unwrap();
        assert_eq!(attribute(inner, 1).and_then(be32), Some(9));
        assert_eq!(attribute(body, 3), None);
    }

    #[test]
    fn broken_attributes_end_the_walk() {
        assert_eq!(attributes(&[]).count(), 0);
        assert_eq!(
            attributes(&[3, 0, 1, 0]).count(),
            0,
            "shorter than its own header"
        );
        assert_eq!(
            attributes(&[200, 0, 1, 0, 5]).count(),
            0,
            "longer than the message"
        );
        assert_eq!(
            attributes(&[5, 0, 1, 0, 5]).count(),
            1,
            "padding is missing at the end"
        );
    }
}
