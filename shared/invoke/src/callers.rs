//! Who is at work above a plugin: so that one that calls others notices when it is called by way of its own delegates, and would
//! start itself for ever.

use cni::Error;

/// The variable with the names of the plugins above that call others as a runtime does, colon separated, the first caller first.
/// It is handed down to every plugin; one that calls nobody need not know it.
pub const CALLERS: &str = "CNI_CALLERS";

/// Puts a plugin under those that are above it, `above` being what [`CALLERS`] says: what it hands down itself.
///
/// Errors, code 7: it is among them.
pub fn called_by(above: &str, name: &str) -> Result<String, Error> {
    if above.split(':').any(|caller| caller == name) {
        let why = format!(
            "{name} was called by a plugin that {name} itself has called, and would call itself for ever"
        );
        let hint = format!(
            "one of the networks that {name} attaches has a plugin that calls {name}; {CALLERS} is {above:?}"
        );
        return Err(Error::config(why).details(hint));
    }
    Ok(match above {
        "" => name.to_owned(),
        above => format!("{above}:{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_at_most_once() {
        assert_eq!(called_by("", "multus").unwrap(), "multus");
        assert_eq!(called_by("other", "multus").unwrap(), "other:multus");
        assert_eq!(called_by("multus-x", "multus").unwrap(), "multus-x:multus");
        for above in ["multus", "other:multus", "multus:other"] {
            assert_eq!(called_by(above, "multus").unwrap_err().code.number(), 7);
        }
    }
}
