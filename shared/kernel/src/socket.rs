//! The `NETLINK_ROUTE` socket: requests, batches of them, and dumps.

use std::io;
use std::ops::ControlFlow;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::libc::MSG_TRUNC;

use crate::{Error, attribute};

/// Bytes of one receive. The kernel fills the datagrams of a dump up to 32 KiB.
const BUFFER: usize = 32 * 1024;

/// How often a dump is asked for when the tables change under it (`NLM_F_DUMP_INTR`).
const DUMP_TRIES: u32 = 5;

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A socket to the kernel's tables of the namespace it was opened in; it stays there wherever it is used.
///
/// Every call waits for the kernel, which answers at once.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
    sequence: u32,
    /// The datagram on its way, first out and then in.
    buffer: Vec<u8>,
    strict: bool,
}

/// One message to the kernel and its `NLM_F_*` flags beside REQUEST and ACK.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
}

/// Which request of a batch failed, and how. When none got as far as the kernel, it is the first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) index: usize,
    pub(crate) error: Error,
}

impl Rtnl {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Rtnl, Error> {
        let socket = Socket::new(NETLINK_ROUTE)
            .map_err(|e| Error::from(e).context("failed to open a netlink socket"))?;
        // Kernels before 4.12 give their errors as numbers only.
        let _ = socket.set_ext_ack(true);
        Ok(Rtnl {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
            strict: false,
        })
    }

    /// Makes one change.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Error> {
        match self.batch(vec![request]).pop() {
            Some(refusal) => Err(refusal.error),
            None => Ok(()),
        }
    }

    /// Makes changes in order with one send, and returns those that failed. The kernel goes on past a failure.
    ///
    /// Only the last one asks for an acknowledgement: failures are answered without being asked for, so silence
    /// before it is the consent of the others.
    pub(crate) fn batch(&mut self, requests: Vec<Request>) -> Vec<Refusal> {
        let count = requests.len();
        if count == 0 {
            return Vec::new();
        }
        let mut refusals = Vec::new();
        let done = self.send(requests, NLM_F_ACK).and_then(|first| {
            self.answers(|message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= count {
                    return ControlFlow::Continue(());
                }
                refusals.extend(message.error().map(|error| Refusal { index, error }));
                match index + 1 == count {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
        });
        if let Err(error) = done {
            refusals.insert(0, Refusal { index: 0, error });
        }
        refusals
    }

    /// Asks for one thing and reads the answer.
    pub(crate) fn get<T>(
        &mut self,
        message: RouteNetlinkMessage,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, Error> {
        let first = self.send(vec![Request { message, flags: 0 }], 0)?;
        let answer = self.answers(|message| match message.kind {
            _ if message.sequence != first => ControlFlow::Continue(()),
            NLMSG_ERROR => ControlFlow::Break(message.error()),
            _ => ControlFlow::Break(None),
        })?;
        match answer {
            Some(error) => Err(error),
            None => messages(&self.buffer)
                .find(|message| message.sequence == first)
                .and_then(|message| read(message.payload))
                .ok_or_else(|| Error::new("the kernel's answer can't be read")),
        }
    }

    /// Asks for a table with the message `ask` and returns what `read` makes of its entries.
    ///
    /// The filter in the message is checked by the kernel, or ignored by kernels before 4.20: `read` has to
    /// filter as well. When the table changes all the time, the last answer is used.
    pub(crate) fn dump<T>(
        &mut self,
        ask: impl Fn() -> RouteNetlinkMessage,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut entries = Vec::new();
        for _ in 0..DUMP_TRIES {
            entries.clear();
            let mut interrupted = false;
            self.walk(ask(), |entry| {
                interrupted |= entry.flags & NLM_F_DUMP_INTR != 0;
                entries.extend(read(entry.payload));
                ControlFlow::<()>::Continue(())
            })?;
            if !interrupted {
                return Ok(entries);
            }
        }
        log::warn!("a table of the kernel changed in each of {DUMP_TRIES} looks at it");
        Ok(entries)
    }

    /// Asks for a table and returns the first thing that `read` finds in it. The rest is not waited for, so this
    /// is the end of the socket.
    pub(crate) fn first<T>(
        mut self,
        message: RouteNetlinkMessage,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.walk(message, |entry| match read(entry.payload) {
            Some(found) => ControlFlow::Break(found),
            None => ControlFlow::Continue(()),
        })
    }

    fn walk<T>(
        &mut self,
        message: RouteNetlinkMessage,
        mut each: impl FnMut(Message<'_>) -> ControlFlow<T>,
    ) -> Result<Option<T>, Error> {
        if !self.strict {
            // Kernels before 4.20 do not know it and do not filter.
            let _ = self.socket.set_netlink_get_strict_chk(true);
            self.strict = true;
        }
        let flags = NLM_F_DUMP;
        let first = self.send(vec![Request { message, flags }], 0)?;
        self.answers(|message| match message.kind {
            _ if message.sequence != first => ControlFlow::Continue(()),
            NLMSG_ERROR | NLMSG_DONE => ControlFlow::Break(message.error().map_or(Ok(None), Err)),
            _ => each(message).map_break(|found| Ok(Some(found))),
        })?
    }

    /// Sends messages in one datagram, the last one with the flags `last` as well. Returns the number of the first.
    fn send(&mut self, requests: Vec<Request>, last: u16) -> Result<u32, Error> {
        let (first, count) = (self.sequence + 1, requests.len());
        let datagram = &mut self.buffer;
        datagram.clear();
        for (index, request) in requests.into_iter().enumerate() {
            self.sequence += 1;
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | request.flags;
            if index + 1 == count {
                header.flags |= last;
            }
            header.sequence_number = self.sequence;
            let payload = NetlinkPayload::from(request.message);
            let mut message = NetlinkMessage::new(header, payload);
            message.finalize();
            let start = datagram.len();
            datagram.resize(start + aligned(message.buffer_len()), 0);
            message.serialize(datagram.get_mut(start..).unwrap_or_default());
        }
        self.socket
            .send(datagram, 0)
            .map_err(|e| Error::from(e).context("failed to ask the kernel"))?;
        Ok(first)
    }

    /// Receives until `each` has what it wants.
    fn answers<T>(
        &mut self,
        mut each: impl FnMut(Message<'_>) -> ControlFlow<T>,
    ) -> Result<T, Error> {
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                if let ControlFlow::Break(found) = each(message) {
                    return Ok(found);
                }
            }
        }
    }

    fn receive(&mut self) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    let why = format!("an answer of the kernel has {length} bytes, too many");
                    return Err(Error::new(why));
                }
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::from(e).context("failed to hear the kernel")),
            }
        }
    }
}

/// One message of the kernel.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    /// The failure that an `NLMSG_ERROR` or `NLMSG_DONE` carries; `None` is success.
    fn error(&self) -> Option<Error> {
        let code = self.payload.first_chunk().map(|b| i32::from_ne_bytes(*b))?;
        if code == 0 {
            return None;
        }
        // An error repeats the request: whole, or only its header.
        let request = match self.kind {
            NLMSG_DONE => 0,
            _ if self.flags & NLM_F_CAPPED != 0 => HEADER,
            _ => aligned(attribute::u32(self.payload.get(4..).unwrap_or_default()) as usize),
        };
        let more = (self.flags & NLM_F_ACK_TLVS != 0)
            .then(|| self.payload.get(4 + request..))
            .flatten()
            .and_then(|attributes| attribute::find(attributes, NLMSGERR_ATTR_MSG))
            .map(attribute::string)
            .unwrap_or_default();
        Some(Error::answer(Errno::from_raw(-code), &more))
    }
}

/// The messages of a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = aligned(message.length() as usize);
        datagram = datagram.get(length..).unwrap_or_default();
        Some(Message {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: message.payload(),
        })
    })
}

/// `NLMSG_ALIGN`.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::bed::{Bed, run};
    use crate::{address, link};

    #[test]
    fn each_request_of_a_batch_is_answered_for() {
        let _bed = Bed::new();
        let mut rtnl = Rtnl::open().unwrap();
        let m0 = rtnl.link("m0").unwrap().index;
        let requests = |indexes: &[u32]| -> Vec<Request> {
            let addresses = ["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24"];
            let pairs = indexes.iter().zip(addresses);
            pairs
                .map(|(index, a)| address::add(*index, a.parse().unwrap()))
                .collect()
        };
        let failed = |refusals: Vec<Refusal>| -> Vec<(usize, Option<Errno>)> {
            refusals
                .into_iter()
                .map(|r| (r.index, r.error.errno))
                .collect()
        };
        let nodev = Some(Errno::ENODEV);
        let some = failed(rtnl.batch(requests(&[m0, 4711, m0, 4712])));
        assert_eq!(some, [(1, nodev), (3, nodev)]);
        assert_eq!(
            failed(rtnl.batch(requests(&[m0]))),
            [(0, Some(Errno::EEXIST))]
        );
        assert_eq!(failed(rtnl.batch(vec![])), []);
        assert_eq!(failed(rtnl.batch(vec![link::up(m0), link::up(m0)])), []);
        let shown = run("ip -4 -o addr show m0");
        assert_eq!(shown.lines().count(), 2, "the kernel went on: {shown}");
    }

    #[test]
    fn a_table_of_many_datagrams_is_read_whole() {
        let bed = Bed::new();
        let mut batch = String::new();
        for i in 0..3000 {
            let (a, b) = (i / 250, i % 250);
            writeln!(batch, "route add 10.{a}.{b}.0/24 dev m0").unwrap();
        }
        let file = std::env::temp_dir().join(format!("routes-{}", std::process::id()));
        std::fs::write(&file, batch).unwrap();
        run(&format!("ip -batch {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        assert_eq!(rtnl.routes(false).unwrap().len(), 3000);
        assert_eq!(
            rtnl.routes(false).unwrap().len(),
            3000,
            "the socket can be used again"
        );
        assert_eq!(bed.pod(|rtnl| rtnl.routes(false)).unwrap().len(), 0);
        run("ip route add default dev m0");
        assert_eq!(crate::default_link().unwrap().name, "m0");
    }

    #[test]
    fn the_kernels_reasons_are_read_from_short_and_long_answers() {
        let reason = [&[9, 0, 1, 0][..], b"why\0\0\0\0\0"].concat();
        let header = [20_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let code = (-22_i32).to_ne_bytes();
        let capped = [&code[..], &header, &reason].concat();
        let whole = [&code[..], &header, &[0; 4], &reason].concat();
        let done = [&code[..], &reason].concat();
        for (kind, flags, payload) in [
            (NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED, &capped),
            (NLMSG_ERROR, NLM_F_ACK_TLVS, &whole),
            (NLMSG_DONE, NLM_F_ACK_TLVS, &done),
        ] {
            let message = Message {
                kind,
                flags,
                sequence: 1,
                payload,
            };
            assert_eq!(message.error().unwrap().msg, "invalid argument: why");
            let message = Message {
                kind,
                flags: 0,
                sequence: 1,
                payload,
            };
            assert_eq!(message.error().unwrap().msg, "invalid argument");
            let message = Message {
                kind,
                flags,
                sequence: 1,
                payload: &[0; 4],
            };
            assert_eq!(message.error(), None);
        }
    }
}
