//! Waiting for duplicate address detection (RFC 4862), by the kernel's events.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_route::AddressFamily;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::libc::RTNLGRP_IPV6_IFADDR;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Error, Link, Rtnl};

/// How long duplicate address detection may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A subscription to changes of IPv6 addresses, made before the link is switched on so that none is missed.
#[derive(Debug)]
pub(crate) struct Dad {
    events: Socket,
}

impl Dad {
    /// Subscribes to the changes in the calling thread's namespace.
    pub(crate) fn subscribe() -> Result<Dad, Error> {
        let subscribe = || -> io::Result<Socket> {
            let mut events = Socket::new(NETLINK_ROUTE)?;
            events.bind_auto()?;
            events.add_membership(RTNLGRP_IPV6_IFADDR)?;
            events.set_non_blocking(true)?;
            Ok(events)
        };
        match subscribe() {
            Ok(events) => Ok(Dad { events }),
            Err(e) => Err(Error::from(e).context("failed to subscribe to address changes")),
        }
    }

    /// Waits until no IPv6 address of `link` is tentative any more.
    ///
    /// Without carrier nothing is waited for: the kernel does not start looking before there is one. Errors: an
    /// address turned out to be another host's; 5 seconds were not enough.
    pub(crate) fn settle(&self, rtnl: &mut Rtnl, link: &Link) -> Result<(), Error> {
        let name = &link.name;
        let deadline = Instant::now() + LIMIT;
        loop {
            let addresses = rtnl.addresses_of(link, AddressFamily::Inet6)?;
            if let Some(address) = addresses.iter().find(|a| a.is_duplicate) {
                let ip = address.net.ip();
                let why = format!("link {name} has address {ip} in DADFAILED state");
                return Err(Error::new(why));
            }
            let is_settled = !addresses.iter().any(|a| a.is_tentative);
            if is_settled || !rtnl.link_at(link.index)?.has_carrier {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let seconds = LIMIT.as_secs();
                let why =
                    format!("link {name} still has tentative addresses after {seconds} seconds");
                return Err(Error::new(why));
            }
            self.wait(deadline)?;
        }
    }

    /// Waits for a change, or for the deadline.
    fn wait(&self, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a last wait of less than a millisecond must not become a loop.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut fds = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::from(e).context("failed to wait for address changes")),
        }
        // What has changed is looked up by the caller; an overrun (ENOBUFS) is a change as well.
        let mut event = Vec::with_capacity(4096);
        while self.events.recv(&mut event, 0).is_ok() {
            event.clear();
        }
        Ok(())
    }
}
