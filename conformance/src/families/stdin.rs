//! Family I: what may come on stdin, from an empty request to one of 16 MiB.

use serde_json::{Value, json};

use crate::attachment::Attachment;
use crate::call::Call;

use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case, skip};
use crate::result::check_result;
use crate::spec::code::{INCOMPATIBLE_VERSION, INVALID_CONFIG, IO, UNDECODABLE, UNSUPPORTED_FIELD};
use crate::spec::{Kind, Must, Obs, Should, V0_1_0, V0_2_0, V1_1_0, Verb, Version};
use crate::trial::Trial;

const fn broken_request(
    id: &'static str,
    sentence: &'static str,
    cases: &'static [crate::requirement::Case],
) -> Requirement {
    Requirement {
        id,
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence,
        section: "Network configuration; Error",
        cases,
    }
}

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    broken_request(
        "I1",
        "Nothing on stdin is an error.",
        &[case("IN-01", |t| refuses(t, b"", &[UNDECODABLE, IO]))],
    ),
    broken_request(
        "I2",
        "JSON that ends too early is an error.",
        &[case("IN-02", truncated)],
    ),
    broken_request(
        "I3",
        "JSON that is no object is an error.",
        &[
            case("IN-03/list", |t| refuses(t, b"[]", &[UNDECODABLE])),
            case("IN-03/text", |t| refuses(t, b"\"net\"", &[UNDECODABLE])),
            case("IN-03/number", |t| refuses(t, b"1", &[UNDECODABLE])),
            case("IN-08", |t| {
                refuses(t, b"null", &[UNDECODABLE, INVALID_CONFIG])
            }),
        ],
    ),
    broken_request(
        "I4",
        "Bytes behind the object are an error.",
        &[
            case("IN-04", trailing_bytes),
            case("IN-04/object", trailing_object),
        ],
    ),
    broken_request("I5", "`name` must be there.", &[case("IN-05", nameless)]),
    broken_request(
        "I6",
        "`name` must be a text.",
        &[case("IN-06", name_of_wrong_type)],
    ),
    broken_request(
        "I7",
        "`cniVersion` must be a text.",
        &[case("IN-07", version_of_wrong_type)],
    ),
    broken_request("I8", "A NUL byte is no JSON.", &[case("IN-09", nul_byte)]),
    broken_request(
        "I9",
        "A text that is no UTF-8 is an error.",
        &[case("IN-11", invalid_utf8)],
    ),
    broken_request(
        "I10",
        "A version that the plugin doesn't say it speaks is refused with code 1, however near it is to one that it does.",
        &[case("IN-13", foreign_version)],
    ),
    Requirement {
        id: "I11",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "A `cniVersion` that is not of the form x.y.z is refused.",
        section: "Version considerations",
        cases: &[case("IN-14", malformed_version)],
    },
    Requirement {
        id: "I12",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::LEASING,
        sentence: "Without `cniVersion`, or with an empty one, a request is one of 0.1.0 or 0.2.0, on ADD and on DEL.",
        section: "Version considerations",
        cases: &[
            case("IN-15", no_version),
            case("IN-15/empty", empty_version),
        ],
    },
    Requirement {
        id: "I13",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ALL,
        sentence: "A request of 16 MiB is answered in time.",
        section: "Network configuration",
        cases: &[case("IN-16", huge_request)],
    },
    Requirement {
        id: "I14",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A request nested 200000 deep doesn't crash the plugin.",
        section: "Network configuration",
        cases: &[case("IN-17", deep_request)],
    },
    Requirement {
        id: "I15",
        levels: &[(V0_2_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A key that the plugin doesn't know is ignored, or refused with code 2 and a message with the key and its value.",
        section: "Network configuration; Error",
        cases: &[case("IN-18", unknown_key)],
    },
    Requirement {
        id: "I16",
        levels: &[(V0_2_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "What the plugin doesn't understand in `args`, and unknown `cni.dev/` keys, are ignored.",
        section: "Network configuration",
        cases: &[case("IN-19", unknown_args)],
    },
    Requirement {
        id: "I17",
        levels: &[(V0_1_0..=V1_1_0, Obs)],
        kinds: Kind::ALL,
        sentence: "How far a reader of JSON forgives is left open; configurations in the field lean on it.",
        section: "Network configuration",
        cases: &[case("IN-20", forgiven)],
    },
];

/// ADD and DEL with these bytes are refused with one of these codes.
fn refuses(t: &Trial, stdin: &[u8], codes: &[i64]) -> Verdict {
    let attachment = t.attachment()?;
    for verb in [Verb::Add, Verb::Del] {
        t.refused(&attachment.call(verb).stdin(stdin), codes)?;
    }
    attachment.untouched()
}

/// The same with a right configuration after a change to it.
fn refuses_after(t: &Trial, codes: &[i64], change: impl FnOnce(&mut Value)) -> Verdict {
    let mut config = t.network(None)?;
    change(&mut config);
    refuses(t, config.to_string().as_bytes(), codes)
}

fn right_request(t: &Trial) -> Result<String, Stop> {
    Ok(t.network(None)?.to_string())
}

fn truncated(t: &Trial) -> Verdict {
    let mut request = right_request(t)?;
    request.pop();
    refuses(t, request.as_bytes(), &[UNDECODABLE])
}

fn trailing_bytes(t: &Trial) -> Verdict {
    refuses(t, (right_request(t)? + "x").as_bytes(), &[UNDECODABLE])
}

fn trailing_object(t: &Trial) -> Verdict {
    let request = right_request(t)?;
    refuses(
        t,
        format!("{request}\n{request}").as_bytes(),
        &[UNDECODABLE],
    )
}

fn nameless(t: &Trial) -> Verdict {
    refuses_after(t, &[INVALID_CONFIG], |config| {
        config
            .as_object_mut()
            .and_then(|config| config.remove("name"));
    })
}

fn name_of_wrong_type(t: &Trial) -> Verdict {
    for name in [json!(1), json!(["net"]), json!({"net": 1}), json!(true)] {
        refuses_after(t, &[UNDECODABLE, INVALID_CONFIG], |config| {
            config["name"] = name
        })?;
    }
    Ok(())
}

fn version_of_wrong_type(t: &Trial) -> Verdict {
    for version in [json!(1), json!(0.3), json!(["0.3.1"]), json!({})] {
        let codes = [UNDECODABLE, INCOMPATIBLE_VERSION, INVALID_CONFIG];
        refuses_after(t, &codes, |config| config["cniVersion"] = version)?;
    }
    Ok(())
}

fn nul_byte(t: &Trial) -> Verdict {
    let request = right_request(t)?;
    let inside = request.replacen("\"type\":\"", "\"type\":\"\0", 1);
    for request in [inside, request + "\0"] {
        refuses(t, request.as_bytes(), &[UNDECODABLE])?;
    }
    Ok(())
}

fn invalid_utf8(t: &Trial) -> Verdict {
    let mut request = t.network(None)?;
    request["name"] = "netX".into();
    let mut bytes = request.to_string().into_bytes();
    for index in 0..bytes.len() {
        if bytes[index..].starts_with(b"netX") {
            bytes[index + 3] = 0xff;
        }
    }
    refuses(t, &bytes, &[UNDECODABLE, INVALID_CONFIG])
}

fn foreign_version(t: &Trial) -> Verdict {
    let unspoken = Version::ALL
        .into_iter()
        .filter(|&version| !t.plugin.claims(version))
        .map(Version::as_str);
    for version in ["9.9.9", "0.0.9", "1.0.1", "0.3.2"]
        .into_iter()
        .chain(unspoken)
    {
        let attachment = t.attachment()?;
        for verb in [Verb::Add, Verb::Del] {
            let call = attachment
                .call(verb)
                .edit(|config| config["cniVersion"] = version.into());
            t.run(&call)?.refused(&[INCOMPATIBLE_VERSION])?;
        }
        ensure!(
            attachment.leases()?.is_empty(),
            "version {version} was refused, but a lease is kept"
        );
    }
    Ok(())
}

fn malformed_version(t: &Trial) -> Verdict {
    for version in [
        "1",
        "1.0",
        "one",
        "1.0.0.0",
        "v1.0.0",
        "1.0.0-rc1",
        "01.0.0",
        " 1.0.0",
    ] {
        refuses_after(t, &[INCOMPATIBLE_VERSION, UNDECODABLE], |config| {
            config["cniVersion"] = version.into()
        })?;
    }
    Ok(())
}

fn no_version(t: &Trial) -> Verdict {
    in_the_first_version(t, |config| {
        config
            .as_object_mut()
            .and_then(|config| config.remove("cniVersion"));
    })
}

fn empty_version(t: &Trial) -> Verdict {
    in_the_first_version(t, |config| config["cniVersion"] = "".into())
}

fn in_the_first_version(t: &Trial, change: impl FnOnce(&mut Value)) -> Verdict {
    if !t.plugin.claims(V0_1_0) && !t.plugin.claims(V0_2_0) {
        return Err(skip("the plugin speaks neither 0.1.0 nor 0.2.0"));
    }
    t.needs_link_kind()?;
    let mut attachment = t.attachment()?;
    change(&mut attachment.config);
    let answer = attachment.ask(Verb::Add)?;
    let result = Value::Object(answer.object()?.clone());
    let version = if result["cniVersion"] == "0.2.0" {
        V0_2_0
    } else {
        V0_1_0
    };
    let complaints = check_result(version, t.kind(), &result);
    if !complaints.is_empty() {
        return Err(answer.fail(complaints.join("; ")));
    }
    attachment.del()?;
    ensure!(
        attachment.leases()?.is_empty(),
        "DEL succeeded, but the lease is kept"
    );
    Ok(())
}

fn huge_request(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    let attachment = t.attachment()?;
    let padding = format!(
        "{{\"args\":{{\"org.example\":\"{}\"}},",
        "x".repeat(16 << 20)
    );
    let call = attachment
        .call(Verb::Add)
        .rewrite(|text| text.replacen('{', &padding, 1));
    taken_or_refused(t, &attachment, &call)
}

fn deep_request(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    let attachment = t.attachment()?;
    let depth = 200_000;
    let nested = format!("{{\"deep\":{}{},", "[".repeat(depth), "]".repeat(depth));
    let call = attachment
        .call(Verb::Add)
        .rewrite(|text| text.replacen('{', &nested, 1));
    taken_or_refused(t, &attachment, &call)
}

fn taken_or_refused(t: &Trial, attachment: &Attachment, call: &Call) -> Verdict {
    let answer = t.run(call)?;
    if answer.succeeded() {
        return attachment.del().map(drop);
    }
    answer.refused(&[UNDECODABLE, INVALID_CONFIG]).map(drop)
}

fn unknown_key(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    let attachment = t.attachment()?;
    let call = attachment
        .call(Verb::Add)
        .edit(|config| config["neverHeardOf"] = "quince".into());
    let answer = t.run(&call)?;
    if answer.succeeded() {
        return attachment.del().map(drop);
    }
    answer
        .refused(&[UNSUPPORTED_FIELD])?
        .names("neverHeardOf")?
        .names("quince")
        .map(drop)
}

fn unknown_args(t: &Trial) -> Verdict {
    let mut attachment = t.attachment()?;
    attachment.config["args"] =
        json!({"cni": {"labels": [{"key": "app", "value": "x"}]}, "org.example": [1, null]});
    attachment.config["cni.dev/never-heard-of"] = json!({"a": [true]});
    attachment.add()?;
    attachment.del().map(drop)
}

fn forgiven(t: &Trial) -> Verdict {
    t.needs_link_kind()?;
    for (what, text, replacement) in [
        ("a key twice", "\"name\":", "\"name\":\"other\",\"name\":"),
        ("`NAME` for `name`", "\"name\":", "\"NAME\":"),
        ("`dns` is null", "{", "{\"dns\":null,"),
        ("`args` is null", "{", "{\"args\":null,"),
        ("`runtimeConfig` is null", "{", "{\"runtimeConfig\":null,"),
        ("half a surrogate pair", "{", "{\"x\":\"\\ud800\","),
        ("a byte order mark", "{", "\u{feff}{"),
        ("a comment", "{", "{/* x */"),
    ] {
        let attachment = t.attachment()?;
        let call = attachment
            .call(Verb::Add)
            .rewrite(|request| request.replacen(text, replacement, 1));
        let seen = match t.run(&call)?.refused(&[]) {
            Ok(refusal) => format!("refused with code {}", refusal.code),
            Err(_) => "accepted".into(),
        };
        t.note(format!("{what}: {seen}"));
        attachment.ask(Verb::Del)?;
    }
    Ok(())
}
