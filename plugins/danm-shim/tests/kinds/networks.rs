//! DanmNet, ClusterNetwork and TenantNetwork: each rule with an object on either side of it.

use std::path::Path;

use serde_json::{Value, json};

use crate::definition::{bad, faults, good, objects};

/// The network kinds.
const NETWORKS: [&str; 3] = ["ClusterNetwork", "DanmNet", "TenantNetwork"];

fn network(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "danm.k8s.io/v1", "kind": kind, "metadata": {"name": "net"}, "spec": spec})
}

/// A network of the type ipvlan with these options, of every kind.
fn with(options: &Value) -> [(&'static str, Value); 3] {
    NETWORKS.map(|kind| {
        (
            kind,
            network(kind, &json!({"NetworkID": "net", "Options": options})),
        )
    })
}

fn takes(options: &Value) {
    for (kind, object) in with(options) {
        good(kind, &object);
    }
}

fn refuses(options: &Value, reason: &str) {
    for (kind, object) in with(options) {
        bad(kind, &object, reason);
    }
}

#[test]
fn the_networks_of_the_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    for name in ["default", "oampub"] {
        for object in objects(&folder.join(format!("clusternetwork-{name}.yaml"))) {
            good("ClusterNetwork", &object);
        }
    }
}

/// DANM itself writes both pools, empty or not.
#[test]
fn what_danm_writes() {
    let empty = json!({"allocation_pool": {"start": "", "end": "", "lastIp": ""},
        "allocation_pool_v6": {"start": "", "end": "", "lastIp": "", "cidr": ""}});
    takes(&empty);
    takes(
        &json!({"host_device": "ens4", "vlan": 50, "container_prefix": "ext", "rt_tables": 250,
        "cidr": "10.100.20.0/24", "routes": {"10.20.0.0/24": "10.100.20.1"},
        "alloc": "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=",
        "allocation_pool": {"start": "10.100.20.10", "end": "10.100.20.30", "lastIp": "10.100.20.10/24"},
        "net6": "2001:db8::/64", "routes6": {"2001:db8:1::/64": "2001:db8::1"}, "alloc6": "gAAAAQ==",
        "allocation_pool_v6": {"cidr": "2001:db8::/106", "start": "2001:db8::1", "end": "2001:db8::3f:fffe",
            "lastIp": "2001:db8::1/64"}}),
    );
}

#[test]
fn what_another_version_knows_is_kept() {
    takes(&json!({"multicast": true}));
}

#[test]
fn a_network_has_an_id() {
    for kind in NETWORKS {
        bad(kind, &network(kind, &json!({})), "NetworkID");
        for id in ["", "../etc", "a b", "-a"] {
            bad(kind, &network(kind, &json!({"NetworkID": id})), "NetworkID");
        }
        good(
            kind,
            &network(kind, &json!({"NetworkID": "internal_1.2-a"})),
        );
    }
}

#[test]
fn ids_of_links_of_hosts_are_short() {
    for kind in NETWORKS {
        let of = |kind_of: &str, id: &str, options: Value| {
            network(
                kind,
                &json!({"NetworkID": id, "NetworkType": kind_of, "Options": options}),
            )
        };
        for vni in [json!({"vlan": 50}), json!({"vxlan": 50})] {
            for kind_of in ["", "ipvlan", "macvlan", "IPVLAN"] {
                good(kind, &of(kind_of, "0123456789", vni.clone()));
                bad(
                    kind,
                    &of(kind_of, "0123456789a", vni.clone()),
                    "at most 10 characters",
                );
            }
            good(kind, &of("flannel", "0123456789ab", vni));
        }
        good(
            kind,
            &of("ipvlan", "0123456789ab", json!({"host_device": "ens4"})),
        );
        let untyped = json!({"NetworkID": "0123456789ab", "Options": {"vlan": 50}});
        bad(kind, &network(kind, &untyped), "at most 10 characters");
    }
}

#[test]
fn numbers_of_virtual_networks() {
    takes(&json!({"vlan": 1}));
    takes(&json!({"vlan": 4094}));
    takes(&json!({"vxlan": 16_777_214}));
    for wrong in [0, 4095] {
        refuses(&json!({"vlan": wrong}), "vlan");
    }
    for wrong in [0, 16_777_215] {
        refuses(&json!({"vxlan": wrong}), "vxlan");
    }
    refuses(
        &json!({"vlan": 50, "vxlan": 50}),
        "vlan and vxlan exclude each other",
    );
    takes(&json!({"rt_tables": 255}));
    refuses(&json!({"rt_tables": 256}), "rt_tables");
}

#[test]
fn devices() {
    takes(&json!({"host_device": "ens4"}));
    takes(&json!({"device_pool": "nokia.k8s.io/sriov_ens4"}));
    takes(&json!({"host_device": "ens4", "device_pool": ""}));
    let both = json!({"host_device": "ens4", "device_pool": "nokia.k8s.io/sriov_ens4"});
    refuses(&both, "host_device and device_pool exclude each other");
    refuses(&json!({"host_device": "sixteen-letters."}), "host_device");
    let reason = "device_pool must be set for sriov networks";
    for kind in NETWORKS {
        let sriov = |spec: &mut Value| {
            spec["NetworkID"] = "net".into();
            spec["NetworkType"] = "sriov".into();
            network(kind, spec)
        };
        let pool = json!({"device_pool": "nokia.k8s.io/sriov_ens4"});
        good(kind, &sriov(&mut json!({"Options": pool})));
        bad(kind, &sriov(&mut json!({})), reason);
        bad(
            kind,
            &sriov(&mut json!({"Options": {"device_pool": ""}})),
            reason,
        );
        bad(
            kind,
            &sriov(&mut json!({"Options": {"host_device": "ens4"}})),
            reason,
        );
    }
}

#[test]
fn tenants_are_for_cluster_networks() {
    let of = |kind| {
        network(
            kind,
            &json!({"NetworkID": "net", "AllowedTenants": ["default"]}),
        )
    };
    good("ClusterNetwork", &of("ClusterNetwork"));
    for kind in ["DanmNet", "TenantNetwork"] {
        bad(kind, &of(kind), "AllowedTenants is for ClusterNetworks");
    }
}

#[test]
fn gateways_lie_in_their_subnet() {
    for (routes, cidr, inside, outside) in [
        (
            "routes",
            json!({"cidr": "10.2.157.0/27"}),
            "10.2.157.30",
            "10.2.157.32",
        ),
        (
            "routes6",
            json!({"net6": "2001:db8::/64"}),
            "2001:db8::1",
            "2001:db8:0:1::1",
        ),
    ] {
        let with = |gateways: &[&str]| {
            let mut options = cidr.clone();
            for (number, gateway) in gateways.iter().enumerate() {
                options[routes][format!("10.{number}.0.0/16")] = (*gateway).into();
            }
            options
        };
        takes(&with(&[inside]));
        let reason = format!("each gateway of {routes} must lie in");
        refuses(&with(&[outside]), &reason);
        refuses(&with(&[inside, outside]), &reason);
        refuses(&with(&["gateway"]), &reason);
        let need = format!("{routes} need a");
        refuses(&json!({routes: {}}), &need);
        refuses(&json!({routes: {"10.0.0.0/16": inside}}), &need);
    }
}

#[test]
fn subnets() {
    for cidr in ["", "10.0.0.0/9", "10.2.157.0/30", "10.2.157.77/27"] {
        takes(&json!({"cidr": cidr}));
    }
    refuses(&json!({"cidr": "10.0.0.0/8"}), "must be from /9");
    for cidr in ["10.2.157.0/31", "10.2.157.0/32"] {
        refuses(
            &json!({"cidr": cidr}),
            "no addresses between its first and its last",
        );
    }
    for cidr in [
        "10.2.157.0",
        "10.2.157.0/33",
        "10.2.157/24",
        "2001:db8::/24",
        "cidr",
    ] {
        refuses(&json!({"cidr": cidr}), ".cidr");
    }
    takes(&json!({"net6": ""}));
    takes(&json!({"net6": "2001:db8::/32"}));
    for net6 in ["10.2.157.0/27", "2001:db8::", "2001:db8::/129"] {
        refuses(&json!({"net6": net6}), ".net6");
    }
}

#[test]
fn pools_of_ipv4() {
    let pool = |start: &str, end: &str| json!({"cidr": "10.2.157.0/27", "allocation_pool": {"start": start, "end": end}});
    for (start, end) in [
        ("10.2.157.1", "10.2.157.30"),
        ("10.2.157.9", "10.2.157.10"),
        ("10.2.157.1", ""),
        ("", "10.2.157.30"),
    ] {
        takes(&pool(start, end));
    }
    let outside = "start and end of allocation_pool must lie in cidr";
    refuses(&pool("10.2.156.255", "10.2.157.30"), outside);
    refuses(&pool("10.2.157.1", "10.2.157.32"), outside);
    refuses(&pool("", "10.2.157.32"), outside);
    let order = "the end of allocation_pool must come after its start";
    refuses(&pool("10.2.157.10", "10.2.157.9"), order);
    refuses(&pool("10.2.157.10", "10.2.157.10"), order);
    let wide = json!({"cidr": "10.0.0.0/9",
        "allocation_pool": {"start": "10.99.2.1", "end": "10.100.1.1"}});
    takes(&wide);
    refuses(
        &json!({"cidr": "10.0.0.0/9", "allocation_pool": {"start": "10.100.1.1", "end": "10.99.2.1"}}),
        order,
    );
    let whole = json!({"cidr": "10.2.157.0/31", "allocation_pool": {"start": "10.2.157.0", "end": "10.2.157.1"}});
    takes(&whole);
    refuses(
        &json!({"allocation_pool": {"start": "10.2.157.1"}}),
        "an allocation_pool needs a cidr",
    );
    refuses(
        &json!({"cidr": "", "allocation_pool": {"end": "10.2.157.1"}}),
        "an allocation_pool needs a cidr",
    );
    for wrong in ["10.2.157.1/27", "2001:db8::1", "first"] {
        let faults = faults("DanmNet", &with(&pool(wrong, ""))[1].1, None);
        assert!(
            faults.iter().any(|f| f.contains(".allocation_pool.start")),
            "{wrong}: {faults:?}"
        );
    }
}

#[test]
fn pools_of_ipv6() {
    let pool = |pool: Value| json!({"net6": "2001:db8::/64", "allocation_pool_v6": pool});
    takes(&pool(json!({"cidr": "2001:db8::/105"})));
    takes(&pool(json!({"start": "2001:db8::1", "end": "2001:db8::2"})));
    takes(&pool(json!({"cidr": "2001:db8::/127"})));
    let outside = "must lie in net6";
    refuses(&pool(json!({"cidr": "2001:db8:0:1::/106"})), outside);
    refuses(&pool(json!({"start": "2001:db8:0:1::1"})), outside);
    refuses(&pool(json!({"end": "2001:db8:0:1::1"})), outside);
    for member in [
        json!({"cidr": "2001:db8::/106"}),
        json!({"start": "2001:db8::1"}),
        json!({"end": "2001:db8::1"}),
    ] {
        refuses(
            &json!({"allocation_pool_v6": member}),
            "an allocation_pool_v6 needs a net6",
        );
    }
    for wrong in ["10.2.157.0/27", "2001:db8::"] {
        let faults = faults("DanmNet", &with(&pool(json!({"cidr": wrong})))[1].1, None);
        assert!(
            faults
                .iter()
                .any(|f| f.contains(".allocation_pool_v6.cidr")),
            "{wrong}: {faults:?}"
        );
    }
}

/// Both bitmaps together have 2^23 addresses.
#[test]
fn what_there_is_room_for() {
    let reason = "the cidr of allocation_pool_v6 must be from";
    for (cidr, first) in [
        ("", 105),
        ("10.0.0.0/11", 106),
        ("10.0.0.0/26", 106),
        ("10.0.0.0/10", 107),
    ] {
        let with = |prefix: u8| {
            let mut options = json!({"net6": "2001:db8::/64",
                "allocation_pool_v6": {"cidr": format!("2001:db8::/{prefix}")}});
            if !cidr.is_empty() {
                options["cidr"] = cidr.into();
            }
            options
        };
        takes(&with(first));
        refuses(&with(first - 1), reason);
        refuses(&with(128), reason);
    }
    for prefix in [105, 127, 128] {
        let options = json!({"cidr": "10.0.0.0/9", "net6": "2001:db8::/64",
            "allocation_pool_v6": {"cidr": format!("2001:db8::/{prefix}")}});
        refuses(&options, reason);
    }
}

#[test]
fn bitmaps_are_base64() {
    takes(&json!({"cidr": "10.2.157.0/27", "alloc": "gBCAAQ==", "alloc6": ""}));
    for wrong in ["gBCAAQ", "gBC AAQ==", "===="] {
        refuses(&json!({"alloc": wrong}), ".alloc");
        refuses(&json!({"alloc6": wrong}), ".alloc6");
    }
}

#[test]
fn a_tenant_network_stays_where_it_is() {
    let of = |options: Value| {
        network(
            "TenantNetwork",
            &json!({"NetworkID": "net", "Options": options}),
        )
    };
    let old = of(json!({"host_device": "ens4", "vlan": 50, "cidr": "10.0.0.0/24"}));
    let same =
        of(json!({"host_device": "ens4", "vlan": 50, "cidr": "10.0.1.0/24", "alloc": "gAAAAQ=="}));
    assert_eq!(
        faults("TenantNetwork", &same, Some(&old)),
        Vec::<String>::new()
    );
    for changed in [
        json!({"host_device": "ens5", "vlan": 50}),
        json!({"host_device": "ens4", "vlan": 51}),
        json!({"host_device": "ens4"}),
        json!({"vlan": 50}),
        json!({"device_pool": "nokia.k8s.io/sriov_ens4", "vlan": 50}),
        json!({"host_device": "ens4", "vxlan": 50}),
    ] {
        let faults = faults("TenantNetwork", &of(changed), Some(&old));
        assert!(
            faults.len() == 1 && faults[0].contains("can't be changed"),
            "{faults:?}"
        );
    }
    let bare = network("TenantNetwork", &json!({"NetworkID": "net"}));
    assert_eq!(
        faults("TenantNetwork", &bare, Some(&bare)),
        Vec::<String>::new()
    );
    assert_eq!(faults("TenantNetwork", &bare, Some(&old)).len(), 1);
}
