//! Family K: what a runtime hands in besides the configuration, by the conventions.

use serde_json::json;

use super::add::{addresses, link};
use crate::ensure;
use crate::requirement::{Requirement, Stop, Verdict, case, skip};
use crate::spec::{Kind, Must, Should, V0_1_0, V0_3_0, V1_1_0};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "K1",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: &[Kind::Interface],
        sentence: "The hardware address of `runtimeConfig.mac` is the interface's.",
        section: "Conventions, mac",
        cases: &[case("CAP-01", mac)],
    },
    Requirement {
        id: "K2",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: &[Kind::Ipam],
        sentence: "Addresses are asked for by `runtimeConfig.ips`, `args.cni.ips` or CNI_ARGS; with `args` given, CNI_ARGS is ignored.",
        section: "Conventions, ips",
        cases: &[
            case("CAP-02 runtimeConfig", ips_of_runtime_config),
            case("CAP-02 CNI_ARGS", ips_of_cni_args),
            case("CAP-02", args_before_cni_args),
        ],
    },
    Requirement {
        id: "K3",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: &[Kind::Ipam, Kind::Chained],
        sentence: "Capabilities that a plugin serves are honoured in any spelling of their keys: containerd sends `Subnet` and `HostPort`.",
        section: "Conventions",
        cases: &[case("CAP-03", capitalised_keys)],
    },
    Requirement {
        id: "K4",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "Entries of runtimeConfig that a plugin does not know are ignored.",
        section: "Network configuration",
        cases: &[case("CAP-04", unknown_entries)],
    },
];

fn needs(trial: &Trial<'_>, capability: &str) -> Result<(), Stop> {
    let served = &trial.plugin.profile.capabilities;
    if served.iter().any(|one| one == capability) {
        return Ok(());
    }
    Err(skip(format!("the plugin does not serve `{capability}`")))
}

fn mac(trial: &Trial<'_>) -> Verdict {
    needs(trial, "mac")?;
    let mut attachment = trial.attachment()?;
    attachment.config["mac"] = "02:00:00:00:00:11".into();
    attachment.config["runtimeConfig"] = json!({ "mac": "02:00:00:00:00:22" });
    attachment.add()?;
    let link = link(&attachment)?;
    ensure!(
        link.mac == "02:00:00:00:00:22",
        "the interface has {}",
        link.mac
    );
    Ok(())
}

fn ips_of_runtime_config(trial: &Trial<'_>) -> Verdict {
    needs(trial, "ips")?;
    let mut attachment = trial.attachment()?;
    attachment.config["runtimeConfig"] = json!({ "ips": ["10.88.0.40"] });
    let result = attachment.add()?;
    ensure!(
        addresses(&result) == ["10.88.0.40/24"],
        "got {:?}",
        addresses(&result)
    );
    Ok(())
}

fn ips_of_cni_args(trial: &Trial<'_>) -> Verdict {
    needs(trial, "ips")?;
    let mut attachment = trial.attachment()?;
    attachment.args = "IgnoreUnknown=1;IP=10.88.0.41;K8S_POD_NAME=p".into();
    let result = attachment.add()?;
    ensure!(
        addresses(&result) == ["10.88.0.41/24"],
        "got {:?}",
        addresses(&result)
    );
    Ok(())
}

fn args_before_cni_args(trial: &Trial<'_>) -> Verdict {
    needs(trial, "ips")?;
    let mut attachment = trial.attachment()?;
    attachment.args = "IP=10.88.0.41".into();
    attachment.config["args"] = json!({ "cni": { "ips": ["10.88.0.42"] } });
    let result = attachment.add()?;
    ensure!(
        addresses(&result) == ["10.88.0.42/24"],
        "got {:?}",
        addresses(&result)
    );
    Ok(())
}

/// Recorded calls of containerd 1.6 and 2.4 have every key of runtimeConfig's entries capitalised.
fn capitalised_keys(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    if trial.kind() == Kind::Ipam {
        needs(trial, "ipRanges")?;
        attachment.config["runtimeConfig"] =
            json!({ "ipRanges": [[{ "Subnet": "10.89.0.0/24" }]] });
        attachment.config["ipam"]["ranges"] = json!([]);
        let result = attachment.add()?;
        let got = addresses(&result);
        ensure!(
            got.iter().all(|ip| ip.starts_with("10.89.0.")),
            "got {got:?}"
        );
        return Ok(());
    }
    needs(trial, "portMappings")?;
    let port = attachment.config["runtimeConfig"]["portMappings"][0]["hostPort"].clone();
    attachment.config["runtimeConfig"] = json!({
        "portMappings": [{ "HostPort": port, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" }]
    });
    attachment.add()?;
    let rules = crate::rules::rules()?;
    let port = port.to_string();
    ensure!(
        rules.iter().any(|rule| rule.contains(&port)),
        "no rule names the host port {port}"
    );
    attachment.del().map(drop)
}

fn unknown_entries(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    attachment.config["runtimeConfig"]["example.com/unknown"] = json!([{ "x": null }]);
    attachment.add()?;
    attachment.del().map(drop)
}
