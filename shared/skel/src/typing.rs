//! Keys of a configuration that look like typing errors.

use cni::json::Value;

/// The keys that every configuration may have.
const COMMON: [&str; 11] = [
    "args",
    "capabilities",
    "cniVersion",
    "disableCheck",
    "disableGC",
    "dns",
    "ipam",
    "name",
    "prevResult",
    "runtimeConfig",
    "type",
];

/// Unknown keys are allowed and mean nothing, so a typing error goes unnoticed until somebody misses its effect.
///
/// `own` are the keys that the plugin has beside those of every configuration.
pub fn warn_of_typing_errors(stdin: &[u8], own: &[&str]) {
    let Ok(Value::Object(members)) = Value::parse(stdin) else {
        return;
    };
    for (key, _) in &members {
        if let Some(meant) = meant(key, own) {
            log::warn!("the configuration's key {key:?} means nothing; {meant:?} was meant?");
        }
    }
}

fn meant<'a>(key: &str, own: &[&'a str]) -> Option<&'a str> {
    nearly(key, COMMON.iter().chain(own).copied())
}

/// The known key that `key` is almost, but not quite; for documents that are no configuration.
pub fn nearly<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let mut known = known;
    let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    if known.clone().any(|known| known.eq_ignore_ascii_case(key)) {
        return None;
    }
    let key = plain(key);
    known.find(|known| one_edit_apart(key.as_bytes(), plain(known).as_bytes()))
}

/// Whether two words are the same, or but for one letter that is wrong, missing or too many, or two that changed places.
fn one_edit_apart(a: &[u8], b: &[u8]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (
        a.get(same..).unwrap_or_default(),
        b.get(same..).unwrap_or_default(),
    );
    match (a, b) {
        ([], []) => true,
        ([a0, a1, a @ ..], [b0, b1, b @ ..]) if a0 == b1 && a1 == b0 && a == b => true,
        _ => {
            let (a_tail, b_tail) = (a.get(1..), b.get(1..));
            a_tail == Some(b) || b_tail == Some(a) || (a_tail.is_some() && a_tail == b_tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 4] = ["linkInContainer", "master", "mode", "mtu"];

    #[test]
    fn almost_a_key() {
        for (key, known) in [
            ("mastre", "master"),
            ("modee", "mode"),
            ("mut", "mtu"),
            ("link_in_container", "linkInContainer"),
            ("ipma", "ipam"),
            ("MTUs", "mtu"),
        ] {
            assert_eq!(meant(key, &OWN), Some(known), "{key}");
        }
        for key in [
            "MTU",
            "mac",
            "LinkInContainer",
            "vlan",
            "",
            "m",
            "maximum",
            "labels",
        ] {
            assert_eq!(meant(key, &OWN), None, "{key}");
        }
    }
}
