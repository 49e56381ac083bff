//! The short form of the annotation: `[namespace/]name[@interface]`, separated by commas.

use super::{InterfaceName, Refusal, Selection, plain, request};

/// Reads one item, without white space around it. The namespace is split off first, so an interface has no `/`.
pub(super) fn read(item: &str, default_namespace: &str) -> Result<Selection, Refusal> {
    let failed = |at: char| {
        Refusal::new(
            format!("{NAME}: Invalid network object (failed at '{at}')"),
            format!("{item:?} has more than one {at}; the form is [namespace/]name[@interface]"),
        )
    };
    let (namespace, rest) = item.split_once('/').unwrap_or(("", item));
    if rest.contains('/') {
        return Err(failed('/'));
    }
    let (name, interface) = rest.split_once('@').unwrap_or((rest, ""));
    if interface.contains('@') {
        return Err(failed('@'));
    }
    let [namespace, name, interface] = [namespace, name, interface].map(str::trim);
    for part in [namespace, name] {
        // Here a name can't have a dot, because the original's has none.
        if !part.is_empty() && (part.contains('.') || !request::is_subdomain(part)) {
            return Err(mismatch(item, part));
        }
    }
    let mut selection = plain(namespace, name, default_namespace)?;
    selection.interface = match interface {
        "" => None,
        interface => Some(InterfaceName::parse(interface).map_err(|e| {
            let rule = "must be less than 15 chars and not contain '/' or spaces";
            Refusal::new(
                format!(
                    "{NAME}: Failed to parse interface name: {rule}. interface name '{interface}'"
                ),
                e.msg,
            )
        })?),
    };
    Ok(selection)
}

const NAME: &str = "parsePodNetworkAnnotation: parsePodNetworkObjectName";

fn mismatch(item: &str, part: &str) -> Refusal {
    let rule = "one or more items did not match comma-delimited format (must consist of lower case \
                alphanumeric characters). Must start and end with an alphanumeric character)";
    let why = match part.contains('.') {
        true => "a name with a . in it can only be written in the JSON form".to_owned(),
        false => format!("{part:?} in {item:?}"),
    };
    Refusal::new(
        format!("{NAME}: Failed to parse: {rule}, mismatch @ '{part}'"),
        why,
    )
}
