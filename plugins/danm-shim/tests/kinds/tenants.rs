//! TenantConfig and DanmEp.

use serde_json::{Value, json};

use crate::definition::{bad, good};

fn config(members: &Value) -> Value {
    let mut config = json!({"apiVersion": "danm.k8s.io/v1", "kind": "TenantConfig", "metadata": {"name": "all"}});
    for (name, member) in members.as_object().unwrap() {
        config[name] = member.clone();
    }
    config
}

fn device(members: &Value) -> Value {
    config(&json!({"hostDevices": [members]}))
}

#[test]
fn a_tenant_config_says_something() {
    let nothing = "hostDevices or networkIds must be given";
    bad("TenantConfig", &config(&json!({})), nothing);
    bad(
        "TenantConfig",
        &config(&json!({"hostDevices": [], "networkIds": {}})),
        nothing,
    );
    good("TenantConfig", &device(&json!({"name": "ens4"})));
    good(
        "TenantConfig",
        &config(&json!({"networkIds": {"flannel": "flannel_conf"}})),
    );
}

#[test]
fn profiles_of_devices() {
    let full =
        json!({"name": "ens4", "vniType": "vxlan", "vniRange": "200,500-510", "alloc": "gAAAAQ=="});
    good("TenantConfig", &device(&full));
    good(
        "TenantConfig",
        &device(&json!({"name": "ens4", "vniType": "", "vniRange": ""})),
    );
    bad("TenantConfig", &device(&json!({"name": ""})), "name");
    bad(
        "TenantConfig",
        &device(&json!({"vniType": "vlan", "vniRange": "1"})),
        "name",
    );
    let together = "vniType and vniRange go together";
    bad(
        "TenantConfig",
        &device(&json!({"name": "ens4", "vniType": "vlan"})),
        together,
    );
    bad(
        "TenantConfig",
        &device(&json!({"name": "ens4", "vniType": "", "vniRange": "1"})),
        together,
    );
    let other = json!({"name": "ens4", "vniType": "geneve", "vniRange": "1"});
    bad("TenantConfig", &device(&other), "vniType");
}

#[test]
fn ranges_of_virtual_networks() {
    let with = |range: &str| device(&json!({"name": "ens4", "vniType": "vlan", "vniRange": range}));
    for range in ["0", "5000", "200,500-510", "1-2,3,4-4999"] {
        good("TenantConfig", &with(range));
    }
    for range in [
        "5001", "1-5001", "70000", "1,", ",1", "1-", "-1", "1-2-3", "a", "1 2",
    ] {
        bad("TenantConfig", &with(range), "vniRange");
    }
}

#[test]
fn ids_of_networks_by_type() {
    let with = |kind: &str, id: &str| config(&json!({"networkIds": {kind: id}}));
    good("TenantConfig", &with("flannel", "0123456789ab"));
    good("TenantConfig", &with("macvlan", "0123456789"));
    for kind in ["ipvlan", "macvlan", "sriov"] {
        bad(
            "TenantConfig",
            &with(kind, "0123456789a"),
            "at most 10 characters",
        );
    }
    bad(
        "TenantConfig",
        &with("flannel", ""),
        "each NetworkType has a name",
    );
    bad(
        "TenantConfig",
        &with("", "flannel_conf"),
        "each NetworkType has a name",
    );
}

#[test]
fn endpoints() {
    let of = |api_type: &str| {
        json!({"apiVersion": "danm.k8s.io/v1", "kind": "DanmEp",
            "metadata": {"name": "5c1d0d8c-3a8e-4c55-9f0e-0a6f6b7c1d2e", "namespace": "default", "labels": {"app": "a"}},
            "spec": {"NetworkName": "oampub", "NetworkType": "ipvlan", "EndpointID": "5c1d0d8c-3a8e-4c55-9f0e-0a6f6b7c1d2e",
                "Interface": {"Name": "oampub1", "Address": "10.2.157.1/27", "AddressIPv6": "", "MacAddress": "",
                    "proutes": null, "proutes6": {"2001:db8::/64": "2001:db8::1"}},
                "Host": "localhost.localdomain", "Pod": "samplepod-danm", "PodUID": "u", "CID": "c",
                "netns": "/var/run/netns/cni-1", "apiType": api_type}})
    };
    for api_type in ["", "DanmNet", "TenantNetwork", "ClusterNetwork"] {
        good("DanmEp", &of(api_type));
    }
    bad("DanmEp", &of("Network"), "apiType");
    let mut bare = of("");
    bare["spec"].as_object_mut().unwrap().remove("Interface");
    bad("DanmEp", &bare, "Interface");
}
