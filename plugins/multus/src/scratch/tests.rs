//! Files of the original, of ours, and damaged ones.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const MACVLAN: &str = r#"{"cniVersion":"0.3.1","name":"macvlan-conf","type":"macvlan","master":"eth0","capabilities":{"ips":true},"ipam":{"type":"host-local","subnet":"10.1.0.0/16"}}"#;
const CALICO: &str = r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","datastore_type":"kubernetes"},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

fn entry(bytes: &str) -> Entry {
    Entry {
        name: "default/n".into(),
        bytes: bytes.into(),
        ..Entry::default()
    }
}

fn folder(name: &str) -> Scratch {
    let folder = std::env::temp_dir().join(format!("scratch-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    Scratch::new(folder)
}

fn whole(text: &str) -> Vec<Entry> {
    let found = parse(text.as_bytes());
    assert!(found.damage.is_empty(), "{text}: {:?}", found.damage);
    let places: Vec<_> = found.entries.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, Vec::from_iter(0..places.len()));
    found.entries.into_iter().map(|(_, entry)| entry).collect()
}

#[test]
fn files_of_the_original() {
    let (list, single) = (STANDARD.encode(CALICO), STANDARD.encode(MACVLAN));
    // 3.5: one filter for both families; indices are in the order of ADD.
    let v3 = format!(
        r#"[{{"Conf":{{"cniVersion":"0.3.1","name":"k8s-pod-network","ipam":{{}},"dns":{{}}}},"ConfList":{{"cniVersion":"0.3.1","name":"k8s-pod-network","plugins":[{{"type":"calico","ipam":{{}},"dns":{{}}}}]}},"Name":"k8s-pod-network","IsFilterGateway":true,"Bytes":"{list}"}},
        {{"Conf":{{"cniVersion":"0.3.1","name":"macvlan-conf","type":"macvlan","ipam":{{"type":"host-local"}},"dns":{{}}}},"ConfList":{{"dns":{{}}}},"Name":"macvlan-conf","ifnameRequest":"lan0","macRequest":"c2:b0:57:49:47:f1","infinibandGUIDRequest":"c2:11:22:33:44:55:66:77","ipRequest":["10.1.2.3/16"],"default-route":["10.1.0.1"],"IsFilterV4Gateway":false,"IsFilterV6Gateway":false,"deviceID":"0000:03:02.0","resourceName":"intel.com/sriov","Bytes":"{single}"}}]"#
    );
    // 4.2.4: a single plugin has an empty list beside it.
    let v4 = v3.replace(
        r#""Name""#,
        r#""CNINetworkConfigList":{"Name":"","CNIVersion":"","DisableCheck":false,"DisableGC":false,"LoadOnlyInlinedPlugins":false,"Plugins":null,"Bytes":null},"Name""#,
    );
    for text in [v3, v4] {
        let [calico, macvlan] = <[Entry; 2]>::try_from(whole(&text)).unwrap();
        assert_eq!(calico.bytes, CALICO.as_bytes());
        assert_eq!(
            (calico.ifname, calico.default_route, calico.ips.len()),
            (None, None, 0)
        );
        let expected = Entry {
            name: "macvlan-conf".into(),
            interface: "lan0".into(),
            mac: "c2:b0:57:49:47:f1".into(),
            infiniband_guid: "c2:11:22:33:44:55:66:77".into(),
            ips: vec!["10.1.2.3/16".into()],
            default_route: Some(vec![[10, 1, 0, 1].into()]),
            device_id: "0000:03:02.0".into(),
            resource_name: "intel.com/sriov".into(),
            ..entry(MACVLAN)
        };
        assert_eq!(macvlan, expected);
    }
}

#[test]
fn a_stripped_list_is_made_whole() {
    let stripped = r#"{"cniVersion":"0.3.1","name":"k8s-pod-network","plugins":[{"type":"calico","deviceID":"d1","args":{"cni":{"b":2}}},{"type":"portmap"},{"type":"tuning"}]}"#;
    let plugins = [
        r#"{"type":"calico","datastore_type":"kubernetes","args":{"x":1,"cni":{"a":1,"b":1}}}"#,
        r#"{"type":"portmap","snat":true}"#,
        r#"{"type":"tuning","sysctl":{"k":"v"}}"#,
    ];
    let plugins: Vec<String> = plugins
        .iter()
        .map(|text| format!(r#"{{"Network":{{}},"Bytes":"{}"}}"#, STANDARD.encode(text)))
        .collect();
    let list = STANDARD.encode(CALICO);
    let text = format!(
        r#"[{{"Conf":{{}},"ConfList":{{}},"CNINetworkConfigList":{{"Name":"k8s-pod-network","Plugins":[{}],"Bytes":"{list}"}},"Name":"n","Bytes":"{}"}}]"#,
        plugins.join(","),
        STANDARD.encode(stripped)
    );
    let bytes = whole(&text).remove(0).bytes;
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico","datastore_type":"kubernetes","args":{"x":1,"cni":{"a":1,"b":2}},"deviceID":"d1"},{"type":"portmap","snat":true},{"type":"tuning","sysctl":{"k":"v"}}]}"#
    );
}

#[test]
fn what_is_written_is_read_and_the_original_finds_its_keys() {
    let ours = [
        Entry {
            ifname: Some("eth0".into()),
            ..entry(CALICO)
        },
        Entry {
            ips: vec!["10.1.2.3".into()],
            default_route: Some(vec![]),
            ifname: Some("net1".into()),
            port_mappings: Some(Value::parse(b"[{\"hostPort\":1}]").unwrap()),
            bandwidth: Some(Value::parse(b"{\"ingressRate\":1}").unwrap()),
            deleted: true,
            ..entry(MACVLAN)
        },
    ];
    let text = entry::to_json(&ours);
    assert_eq!(whole(&text), ours);

    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let at = |pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/0/ConfList/plugins/1/type"), "portmap");
    assert_eq!(at("/0/ConfList/name"), "k8s-pod-network");
    assert_eq!(at("/1/Conf/type"), "macvlan");
    assert_eq!(at("/1/ConfList"), serde_json::json!({}));
    assert_eq!(at("/1/default-route"), serde_json::json!([]));
    assert_eq!(at("/0/Bytes"), STANDARD.encode(CALICO));
}

#[test]
fn damage_is_found_and_what_is_whole_is_kept() {
    let good = entry::to_json(&[entry(MACVLAN), entry(CALICO)]);
    let cut = |at: usize| good.get(..good.len() - at).unwrap().to_owned();
    let first = entry::to_json(&[entry(MACVLAN)]);
    let first = first.strip_suffix(']').unwrap();
    for (text, whole, damage) in [
        (String::new(), 0, "the file is empty"),
        (" \n".into(), 0, "the file is empty"),
        ("\0\0\0\0".into(), 0, "the file holds no JSON array"),
        ("null".into(), 0, "the file holds no JSON array"),
        ("{}".into(), 0, "the file holds no JSON array"),
        ("[]".into(), 0, "the list is empty"),
        ("[".into(), 0, "the file ends after 0 attachments"),
        ("[{}]".into(), 0, "attachment 0: it has no Bytes"),
        ("[null]".into(), 0, "attachment 0: it is no object"),
        (
            r#"[{"Bytes":"%"}]"#.into(),
            0,
            "attachment 0: Bytes is no base64",
        ),
        (
            r#"[{"Bytes":"bnVsbA=="}]"#.into(),
            0,
            "attachment 0: Bytes is no configuration",
        ),
        (
            r#"[{"Bytes":5}]"#.into(),
            0,
            "attachment 0: Bytes: invalid type",
        ),
        (cut(1), 2, "the list breaks off after attachment 1"),
        (cut(2), 1, "attachment 1: EOF"),
        (cut(40), 1, "attachment 1: EOF"),
        (
            first.to_owned(),
            1,
            "the list breaks off after attachment 0",
        ),
        (
            format!("{first},"),
            1,
            "the list breaks off after attachment 0",
        ),
        (format!("{first},{{}}]"), 1, "attachment 1: it has no Bytes"),
        (
            format!("{first} {{}}]"),
            1,
            "the list breaks off after attachment 0",
        ),
        (
            format!("[{{}},{}", first.get(1..).unwrap()) + "]",
            1,
            "attachment 0: it has no Bytes",
        ),
    ] {
        let found = parse(text.as_bytes());
        assert_eq!(found.entries.len(), whole, "{text}");
        assert_eq!(found.damage.len(), 1, "{text}: {:?}", found.damage);
        assert!(
            found.damage[0].starts_with(damage),
            "{text}: {:?}",
            found.damage
        );
    }
    let second = parse(format!("[{{}},{}]", first.get(1..).unwrap()).as_bytes());
    assert_eq!(second.entries[0].0, 1, "an attachment keeps its place");
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let scratch = folder("whole");
    assert_eq!(scratch.read("c1").unwrap(), None);
    assert!(scratch.containers().unwrap().is_empty());
    scratch.remove("c1").unwrap();

    scratch.write("c1", &[entry(MACVLAN)]).unwrap();
    scratch.write("c1", &[entry(CALICO)]).unwrap();
    let found = scratch.read("c1").unwrap().unwrap();
    assert_eq!(found.entries, [(0, entry(CALICO))]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&scratch.folder), 0o700);
    assert_eq!(mode(&scratch.path("c1")), 0o600);

    // A call was killed while it wrote; another tool keeps a folder here.
    fs::write(scratch.unfinished("c2"), "[{").unwrap();
    fs::create_dir(scratch.path("results")).unwrap();
    assert_eq!(scratch.containers().unwrap(), ["c1", "c2"]);
    assert_eq!(scratch.read("c2").unwrap(), None);
    for id in ["c1", "c2"] {
        scratch.remove(id).unwrap();
    }
    assert!(scratch.containers().unwrap().is_empty());
    assert_eq!(fs::read_dir(&scratch.folder).unwrap().count(), 1);

    let error = scratch.write("results", &[entry(MACVLAN)]).unwrap_err();
    assert_eq!(error.code, Code::Io);
    assert!(!scratch.unfinished("results").exists());
    fs::remove_dir_all(&scratch.folder).unwrap();
}

proptest! {
    /// However a file was cut off or overwritten, reading it ends, and says so when something is missing.
    #[test]
    fn no_damage_goes_unnoticed(at in 0usize..600, byte in any::<u8>(), cut in any::<bool>()) {
        let ours = [entry(MACVLAN), entry(CALICO)];
        let mut bytes = entry::to_json(&ours).into_bytes();
        let at = at.min(bytes.len() - 1);
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] = byte,
        }
        let found = parse(&bytes);
        prop_assert!(found.entries.len() == 2 || !found.damage.is_empty());
    }
}
