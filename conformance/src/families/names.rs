//! Family N: names that end up in paths, messages and the kernel.

use std::fs;

use crate::ensure;
use crate::requirement::{Requirement, Verdict, case};
use crate::spec::code::{INVALID_CONFIG, INVALID_ENVIRONMENT, UNDECODABLE};
use crate::spec::{Kind, Must, Obs, Should, V0_1_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0, Verb};
use crate::spy::Spy;
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "N1",
        levels: &[(V0_1_0..=V0_3_1, Should), (V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A container id begins with an ASCII letter or digit, goes on with those and `_.-`, and may be long; others are refused.",
        section: "Parameters",
        cases: &[
            case("ENV-12", bad_container_ids),
            case("ENV-13", good_container_ids),
        ],
    },
    Requirement {
        id: "N2",
        levels: &[(V0_1_0..=V0_3_1, Should), (V0_4_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A network name keeps the rule of container ids; others are refused and never become part of a path.",
        section: "Network configuration",
        cases: &[
            case("IN-12", bad_network_names),
            case("IN-12/good", good_network_names),
        ],
    },
    Requirement {
        id: "N3",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "An interface name that the kernel can't use is refused: longer than 15 bytes, `.`, `..`, with `/`, `:` or white space.",
        section: "Parameters",
        cases: &[
            case("ENV-14", bad_interface_names),
            case("ENV-15", longest_interface_name),
        ],
    },
    Requirement {
        id: "N4",
        levels: &[(V0_1_0..=V1_1_0, Obs)],
        kinds: Kind::ATTACHING,
        sentence: "Interface names with a meaning elsewhere (templates, sysctl names, options) are left open.",
        section: "Parameters",
        cases: &[case("ENV-16", odd_interface_names)],
    },
    Requirement {
        id: "N5",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "`ipam.type` is a file name: with a path separator, or as `.` or `..`, it is refused and nothing runs.",
        section: "Network configuration",
        cases: &[case("ADD-12", delegate_type_is_no_path)],
    },
];

fn bad_container_ids(t: &Trial) -> Verdict {
    let attachment = t.attachment()?;
    let bad = [
        "-a",
        ".a",
        "_a",
        "..",
        "a/b",
        "../../../../tmp/x",
        "a b",
        "a\n",
        "\na",
        "a:b",
        "a;b",
        "a*",
        "a\\b",
        "\u{e4}b",
        "a\u{ff11}",
    ];
    for id in bad {
        for verb in [Verb::Add, Verb::Del] {
            t.refused(
                &attachment.call(verb).with("CNI_CONTAINERID", id),
                &[INVALID_ENVIRONMENT],
            )?;
        }
    }
    attachment.untouched()
}

fn good_container_ids(t: &Trial) -> Verdict {
    for id in ["a", "0", "A_.-z", &"f".repeat(64), &"0".repeat(128)] {
        let mut attachment = t.attachment()?;
        attachment.container = id.into();
        attachment.add()?;
        attachment.del()?;
    }
    Ok(())
}

fn bad_network_names(t: &Trial) -> Verdict {
    let attachment = t.attachment()?;
    let planted = format!("planted{}", t.serial());
    let bad = [
        &format!("../{planted}"),
        &format!("x/../../{planted}"),
        "../../../../../../tmp/x",
        "a/b",
        "..",
        ".a",
        "-a",
        "a b",
        "a\nb",
        "a\0b",
        "a:b",
        "\u{e4}b",
    ];
    for name in bad {
        for verb in [Verb::Add, Verb::Del] {
            let call = attachment
                .call(verb)
                .edit(|config| config["name"] = name.into());
            // A reader of JSON may already choke on the NUL.
            t.refused(&call, &[INVALID_CONFIG, UNDECODABLE])?;
        }
    }
    let store = attachment.store()?;
    let beside = store.with_file_name(&planted);
    ensure!(
        !beside.exists(),
        "the name was refused, but {} was made",
        beside.display()
    );
    let made = fs::read_dir(&store)?.count();
    ensure!(
        made == 0,
        "the names were refused, but there are {made} new files in {}",
        store.display()
    );
    Ok(())
}

fn good_network_names(t: &Trial) -> Verdict {
    for name in ["a", "0", "A_.-z", &"n".repeat(64)] {
        let mut attachment = t.attachment()?;
        attachment.config["name"] = name.into();
        attachment.add()?;
        attachment.del()?;
    }
    Ok(())
}

fn bad_interface_names(t: &Trial) -> Verdict {
    let attachment = t.attachment()?;
    let bad = [
        "sixteen-letters-",
        "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ".",
        "..",
        "a/b",
        "../x",
        "a:b",
        "a b",
        "a\tb",
        "a\nb",
        "a\u{a0}b",
        "a\u{2003}b",
    ];
    for name in bad {
        for verb in [Verb::Add, Verb::Del] {
            t.refused(
                &attachment.call(verb).with("CNI_IFNAME", name),
                &[INVALID_ENVIRONMENT],
            )?;
        }
    }
    attachment.untouched()
}

fn longest_interface_name(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    attachment.ifname = "fifteen-letters".into();
    attachment.add()?;
    let made = attachment.pod.link(&attachment.ifname)?.is_some();
    ensure!(
        made || !t.kind().attaches(),
        "ADD succeeded, but there is no link fifteen-letters in the pod"
    );
    attachment.del().map(drop)
}

fn odd_interface_names(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    for name in ["eth%d", "all", "default", "lo", "-x", "\u{fc}ber"] {
        let mut attachment = t.attachment()?;
        attachment.ifname = name.into();
        let seen = match attachment.ask(Verb::Add)?.refused(&[]) {
            Ok(refusal) => format!("refused with code {}", refusal.code),
            Err(_) if attachment.pod.link(name)?.is_some() => "made".into(),
            Err(_) => "reported as made, but under another name".into(),
        };
        t.note(format!("CNI_IFNAME={name}: {seen}"));
        attachment.ask(Verb::Del)?;
    }
    Ok(())
}

fn delegate_type_is_no_path(t: &Trial) -> Verdict {
    t.needs_networks_in_config()?;
    let spy = Spy::hire(t, "planted")?;
    let folder = spy
        .folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let inside = format!("{folder}/planted");
    let around = format!("../{folder}/planted");
    let whole = spy.folder.join("planted").to_string_lossy().into_owned();
    for name in [inside.as_str(), &around, "./planted", &whole, ".", ".."] {
        let mut attachment = t.attachment()?;
        // Each of the names leads from one of these folders to the spy.
        attachment.path.push(spy.folder.clone());
        attachment.path.extend(spy.folder.parent().map(Into::into));
        attachment.maker()["ipam"] = serde_json::json!({ "type": name });
        attachment.ask(Verb::Add)?.refused(&[])?;
    }
    ensure!(
        spy.witnessed()?.is_empty(),
        "a program was run by a `type` that is a path"
    );
    Ok(())
}
