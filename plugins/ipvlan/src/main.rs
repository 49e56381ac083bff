//! ipvlan: a CNI plugin that gives the pod an interface on a link of the host, with the MAC address of that link.

mod conf;

use std::process::ExitCode;

use cni::{Attachment, Error, Success};
use skel::{Plugin, Undo};

use conf::Keys;

type Call = skel::Call<Keys>;

struct Ipvlan;

fn main() -> ExitCode {
    skel::run(Ipvlan)
}

impl Plugin for Ipvlan {
    type Conf = Keys;
    const NAME: &'static str = "ipvlan";

    /// In a chain, what the plugins before have made is the master, and what they have got is its addresses,
    /// as far as the configuration does not say otherwise.
    fn add(&self, call: &Call, undo: &mut Undo) -> Result<Success, Error> {
        let mut plan = conf::plan(call)?;
        let before = call.net.prev_result()?;
        if let (None, Some(before)) = (&plan.master, &before) {
            plan.master = Some(conf::chained_master(before)?);
        }
        attach::add(call, undo, &plan, before.unwrap_or_default())
    }

    fn del(&self, call: &Call) -> Result<(), Error> {
        attach::del(call)
    }

    fn check(&self, call: &Call) -> Result<(), Error> {
        attach::check(call, &conf::plan(call)?)
    }

    fn gc(&self, call: &Call, _valid: &[Attachment]) -> Result<(), Error> {
        attach::gc(call)
    }

    /// The master is looked for when the configuration names it and has addresses of its own. In a chain, a plugin
    /// before this one may be about to make it.
    fn status(&self, call: &Call) -> Result<(), Error> {
        let plan = conf::plan(call)?;
        match plan.master.is_some() && !call.net.ipam_kind.is_empty() {
            true => attach::status(call, &plan),
            false => attach::status_of_ipam(call),
        }
    }
}
