//! Roll-back as a value.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cni::Error;

/// The opposites of the steps an ADD has made so far; run in reverse when the ADD does not come to its end.
///
/// A plugin registers the opposite on the line after the step. skel owns the value and runs it when the plugin
/// answers an error or panics, when the result has no form in the version asked for, and when the runtime
/// is not there any more to read it.
#[derive(Default)]
pub struct Undo {
    steps: Vec<Step>,
}

struct Step {
    what: String,
    opposite: Box<dyn FnOnce() -> Result<(), Error>>,
}

impl Undo {
    /// Registers the opposite of the step just made. `what` completes "roll-back: ...: failed because".
    pub fn push(
        &mut self,
        what: impl Into<String>,
        opposite: impl FnOnce() -> Result<(), Error> + 'static,
    ) {
        self.steps.push(Step::new(what, opposite));
    }

    /// Registers an opposite that has to run after all others, those registered before it as well. An address
    /// is given back like this: it must outlive the link that answers for it.
    pub fn push_last(
        &mut self,
        what: impl Into<String>,
        opposite: impl FnOnce() -> Result<(), Error> + 'static,
    ) {
        self.steps.insert(0, Step::new(what, opposite));
    }

    /// The ADD has come to its end: nothing is to be undone.
    pub(crate) fn keep(mut self) {
        self.steps.clear();
    }
}

impl Step {
    fn new(
        what: impl Into<String>,
        opposite: impl FnOnce() -> Result<(), Error> + 'static,
    ) -> Step {
        Step {
            what: what.into(),
            opposite: Box::new(opposite),
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(Step { what, opposite }) = self.steps.pop() {
            // We may be here because of a panic; a second one would end the process before the other steps are undone.
            match catch_unwind(AssertUnwindSafe(opposite)) {
                Ok(Ok(())) => log::info!("roll-back: {what}"),
                Ok(Err(e)) => log::error!("roll-back: {what}: {e}"),
                Err(_) => log::error!("roll-back: {what}: the plugin has a bug, see above"),
            }
        }
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.steps.iter().map(|step| &step.what))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn three(order: &Rc<RefCell<Vec<&'static str>>>) -> Undo {
        let mut undo = Undo::default();
        let note = |name| {
            let order = Rc::clone(order);
            move || {
                order.borrow_mut().push(name);
                Err(Error::plugin("a failing step does not stop the others"))
            }
        };
        undo.push("link", note("link"));
        undo.push_last("lease", note("lease"));
        undo.push("address", note("address"));
        undo
    }

    #[test]
    fn the_last_step_is_undone_first_and_the_lease_at_the_end() {
        let order = Rc::default();
        drop(three(&order));
        assert_eq!(*order.borrow(), ["address", "link", "lease"]);
    }

    #[test]
    fn a_panic_in_one_step_does_not_stop_the_others() {
        let order = Rc::default();
        let mut undo = three(&order);
        undo.push("bug", || panic!("a bug"));
        drop(undo);
        assert_eq!(order.borrow().len(), 3);
    }

    #[test]
    fn what_is_kept_is_not_undone() {
        let order = Rc::default();
        three(&order).keep();
        assert!(order.borrow().is_empty());
    }
}
