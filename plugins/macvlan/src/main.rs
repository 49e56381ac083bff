//! macvlan: a CNI plugin that gives the pod an interface of its own on a link of the host, with its own MAC address.

mod conf;

use std::process::ExitCode;

use cni::{Attachment, Error, Success};
use skel::{Plugin, Undo};

use conf::Keys;

type Call = skel::Call<Keys>;

struct Macvlan;

fn main() -> ExitCode {
    skel::run(Macvlan)
}

impl Plugin for Macvlan {
    type Conf = Keys;
    const NAME: &'static str = "macvlan";

    /// A `prevResult` is not looked at: macvlan has addresses from IPAM or none.
    fn add(&self, call: &Call, undo: &mut Undo) -> Result<Success, Error> {
        attach::add(call, undo, &conf::plan(call)?, Success::default())
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

    fn status(&self, call: &Call) -> Result<(), Error> {
        attach::status(call, &conf::plan_without_args(&call.conf)?)
    }
}
