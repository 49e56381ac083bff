//! STATUS and VERSION: what can be known without an attachment.

use crate::bed::run;
use crate::plugin::{ADDRESS, IPAM, Plugin, conf};

#[test]
fn ready() {
    let plugin = Plugin::new().ipam(ADDRESS);
    assert!(plugin.ok("STATUS", &conf(IPAM)).is_null());
    assert!(plugin.calls()[0].starts_with("STATUS"));
    plugin.ok(
        "STATUS",
        &conf(r#""master":"in-the-pod","linkInContainer":true"#),
    );
}

#[test]
fn an_add_would_fail() {
    for (members, code, text) in [
        (
            r#""master":"gone""#,
            50,
            r#"failed to lookup master "gone": Link not found"#,
        ),
        (r#""master":"""#, 50, "no default route interface found"),
        (
            r#""ipam":{"type":"nosuch"}"#,
            50,
            r#"failed to find plugin "nosuch""#,
        ),
        (r#""mode":"xx""#, 7, r#"unknown macvlan mode: "xx""#),
        (r#""mtu":9000"#, 7, "invalid MTU 9000"),
        (r#""mac":"zz""#, 7, "invalid args zz for MAC addr"),
    ] {
        let error = Plugin::new().error("STATUS", &conf(members));
        assert!(
            error.0 == code && error.1.starts_with(text),
            "{members}: {error:?}"
        );
    }
    let mut plugin = Plugin::new()
        .ipam(ADDRESS)
        .failing("STATUS", r#"{"code":51,"msg":"pool exhausted"}"#);
    plugin.args = "not;looked=at=all".into();
    assert_eq!(
        plugin.error("STATUS", &conf(IPAM)),
        (51, "pool exhausted".into())
    );
}

#[test]
fn the_master_of_the_default_route() {
    let plugin = Plugin::new();
    run("ip addr add 10.0.0.2/24 dev m0");
    run("ip route add default via 10.0.0.1");
    plugin.ok("STATUS", &conf(r#""master":"""#));
}

#[test]
fn version_says_them_all() {
    let answer = Plugin::new().ok("VERSION", r#"{"cniVersion":"0.3.1"}"#);
    assert_eq!(answer["cniVersion"], "0.3.1");
    assert_eq!(answer["supportedVersions"].as_array().unwrap().len(), 7);
}
