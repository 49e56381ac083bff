//! Addresses and routes that are known to be nobody else's: given without waiting for duplicate address detection.

use cni::Route;
use ipnetwork::IpNetwork;

use crate::socket::Request;
use crate::{Error, Link, Rtnl, address, link, route};

impl Rtnl {
    /// Gives `link` addresses and switches it on. IPv6 addresses are usable at once (`IFA_F_NODAD`), also those
    /// that it has already.
    pub fn assign(&mut self, link: &Link, addresses: &[IpNetwork]) -> Result<(), Error> {
        let requests = addresses.iter().map(|a| address::put(link.index, *a));
        let requests: Vec<Request> = requests.chain([link::up(link.index)]).collect();
        let Some(refusal) = self.batch(requests).into_iter().next() else {
            return Ok(());
        };
        let name = &link.name;
        Err(refusal.error.context(match addresses.get(refusal.index) {
            Some(address) => format!("failed to add IP addr {address} to {name:?}"),
            None => format!("failed to set {name:?} UP"),
        }))
    }

    /// Adds routes through `link`; stops at the first that is refused, and returns its place in the list as well.
    /// A route that is there already is refused (`EEXIST`).
    pub fn add_routes(&mut self, link: &Link, routes: &[Route]) -> Result<(), (usize, Error)> {
        for (place, route) in routes.iter().enumerate() {
            route::add(link.index, route, route.gw)
                .and_then(|request| self.request(request))
                .map_err(|e| (place, e))?;
        }
        Ok(())
    }
}
