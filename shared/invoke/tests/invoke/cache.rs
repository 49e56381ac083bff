//! The files of the result cache: libcni's own, older ones, and damaged ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cni::json::Object;
use cni::{Code, Network, Success};
use invoke::{Parameters, ResultCache};

use crate::bin::Bin;

/// As libcni 1.x writes it.
const LIBCNI: &str = r#"{"kind":"cniCacheV1","containerId":"c1","config":"eyJjbmlWZXJzaW9uIjoiMC40LjAiLCJuYW1lIjoibmV0IiwidHlwZSI6Im9uZSJ9","ifName":"net1","networkName":"net","netns":"/run/netns/pod","cniArgs":[["IgnoreUnknown","true"],["K8S_POD_NAME","p"]],"capabilityArgs":{"mac":"02:00:00:00:00:01"},"result":{"cniVersion":"0.4.0","dns":{},"ips":[{"address":"10.0.0.2/24","version":"4"}]}}"#;

fn parameters() -> Parameters {
    Parameters {
        container_id: "c1".into(),
        netns: "/run/netns/pod".into(),
        ifname: "net1".into(),
        args: vec![
            ("IgnoreUnknown".into(), "true".into()),
            ("K8S_POD_NAME".into(), "p".into()),
        ],
        capability_args: Object::parse(br#"{"mac":"02:00:00:00:00:01"}"#).unwrap(),
    }
}

fn dir_with(name: &str, text: &str) -> Bin {
    let bin = Bin::new(name);
    fs::create_dir(bin.0.join("results")).unwrap();
    fs::write(bin.0.join("results/net-c1-net1"), text).unwrap();
    bin
}

#[test]
fn a_file_of_libcni_is_read() {
    let bin = dir_with("libcni", LIBCNI);
    let cache = ResultCache::new(bin.path());
    let cached = cache.read("net", &parameters()).unwrap().unwrap();
    assert_eq!(
        (cached.network.as_str(), &cached.parameters),
        ("net", &parameters())
    );
    let network = Network::parse(&cached.config).unwrap();
    assert_eq!(network.plugins[0].kind, "one");
    assert_eq!(cached.result("0.4.0").unwrap().ips.len(), 1);
    assert_eq!(cache.all().unwrap(), [cached]);
}

#[test]
fn what_is_written_is_what_libcni_writes() {
    let bin = dir_with("written", LIBCNI);
    let cache = ResultCache::new(bin.path());
    let cached = cache.read("net", &parameters()).unwrap().unwrap();
    let network = Network::parse(&cached.config).unwrap();
    let result = cached.result("0.4.0").unwrap();
    cache.write(&network, &parameters(), &result).unwrap();
    let path = bin.0.join("results/net-c1-net1");
    let (before, after) = (
        Object::parse(LIBCNI.as_bytes()).unwrap(),
        Object::parse(&fs::read(&path).unwrap()).unwrap(),
    );
    let keys = |o: &Object| o.keys().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(keys(&before), keys(&after));
    for (key, text) in before.members().filter(|(key, _)| *key != "result") {
        assert_eq!(after.get(key), Some(text), "{key}");
    }
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let names: Vec<_> = fs::read_dir(bin.0.join("results")).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing is left beside it");
}

#[test]
fn a_bare_result_from_before_is_read_too() {
    let bin = dir_with(
        "bare",
        r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}"#,
    );
    let new = Bin::new("bare-new");
    let cache = ResultCache::new(new.path()).or(bin.path());
    let cached = cache.read("net", &parameters()).unwrap().unwrap();
    assert!(cached.config.is_empty());
    assert_eq!(cached.result("0.3.1").unwrap().ips.len(), 1);
    cache.remove("net", &parameters()).unwrap();
    assert_eq!(cache.read("net", &parameters()).unwrap(), None);
}

#[test]
fn damage_is_told() {
    for text in [
        "",
        "{",
        "null",
        "[]",
        r#"{"kind":"other"}"#,
        r#"{"kind":"cniCacheV1","config":"%"}"#,
    ] {
        let bin = dir_with("damage", text);
        let cache = ResultCache::new(bin.path());
        let error = cache.read("net", &parameters()).unwrap_err();
        assert_eq!(error.code, Code::Decoding, "{text}");
        assert!(error.msg.contains("net-c1-net1 is damaged"), "{error}");
        assert!(cache.all().unwrap().is_empty());
    }
}

#[test]
fn names_do_not_lead_out_of_the_folder() {
    let bin = Bin::new("names");
    let cache = ResultCache::new(bin.path());
    assert!(cache.read("../net", &parameters()).is_err());
    let other = Parameters {
        container_id: "a/b".into(),
        ..parameters()
    };
    let network = Network::parse(br#"{"name":"n","type":"one"}"#).unwrap();
    assert!(cache.write(&network, &other, &Success::default()).is_err());
    assert!(cache.remove("n", &other).is_err());
    assert!(!bin.0.join("results").exists());
}
