//! kubelet's own note of the devices it gave out, for nodes where its socket is not there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cni::{Code, Error};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct File {
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Vec<OfContainer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OfContainer {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    #[serde(rename = "DeviceIDs")]
    ids: Ids,
}

/// By NUMA node; kubelet before 1.20 had no nodes here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    ByNode(BTreeMap<String, Option<Vec<String>>>),
    Plain(Vec<String>),
}

impl Default for Ids {
    fn default() -> Ids {
        Ids::Plain(Vec::new())
    }
}

/// The resource and id of each device of a pod.
///
/// Errors: code 11 when the file is not there, 5 when it can't be read, 6 when it is no checkpoint.
pub(super) fn read(path: &Path, pod_uid: &str) -> Result<Vec<(String, String)>, Error> {
    let failed = |code, why: String| {
        let what = "kubelet's checkpoint of devices";
        Error::new(code, format!("{what} {}: {why}", path.display()))
    };
    let text = fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => failed(
            Code::TryAgainLater,
            "it is not there, and kubelet's socket is neither".to_owned(),
        ),
        _ => failed(Code::Io, e.to_string()),
    })?;
    let file: File =
        cni::json::from_slice(&text).map_err(|e| failed(Code::Decoding, e.to_string()))?;
    if pod_uid.is_empty() {
        return Ok(Vec::new());
    }
    let of_pod = file.data.pod_device_entries.into_iter();
    let of_pod = of_pod.filter(|entry| entry.pod_uid == pod_uid);
    let devices = of_pod.flat_map(|OfContainer { resource, ids, .. }| {
        let ids = match ids {
            Ids::ByNode(nodes) => nodes.into_values().flatten().flatten().collect(),
            Ids::Plain(ids) => ids,
        };
        ids.into_iter().map(move |id| (resource.clone(), id))
    });
    Ok(devices.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, uid: &str) -> Result<Vec<(String, String)>, Error> {
        let name = format!("checkpoint-{}-{}", std::process::id(), text.len());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        let found = read(&path, uid);
        fs::remove_file(&path).unwrap();
        found
    }

    #[test]
    fn devices_of_one_pod() {
        let text = r#"{"Data":{"PodDeviceEntries":[
            {"PodUID":"u1","ContainerName":"c","ResourceName":"intel.com/sriov","DeviceIDs":{"-1":["0000:03:02.3"],"0":["0000:03:02.0"],"1":null},"AllocResp":"x"},
            {"PodUID":"u2","ResourceName":"intel.com/sriov","DeviceIDs":{"0":["0000:03:02.1"]}},
            {"PodUID":"u1","ResourceName":"old.com/r","DeviceIDs":["a"]},
            {"PodUID":"u1","ResourceName":"none.com/r","DeviceIDs":null}],
            "RegisteredDevices":{}},"Checksum":1}"#;
        let found = read_text(text, "u1").unwrap();
        let found: Vec<_> = found.iter().map(|(r, id)| format!("{r}={id}")).collect();
        let expected = [
            "intel.com/sriov=0000:03:02.3",
            "intel.com/sriov=0000:03:02.0",
            "old.com/r=a",
        ];
        assert_eq!(found, expected);
        assert!(read_text(text, "u3").unwrap().is_empty());
        assert!(read_text(text, "").unwrap().is_empty());
    }

    #[test]
    fn files_that_are_no_checkpoint() {
        for bad in [
            "",
            "{",
            "[]",
            r#"{"Data":5}"#,
            r#"{"Data":{"PodDeviceEntries":[{"DeviceIDs":"x"}]}}"#,
        ] {
            assert_eq!(
                read_text(bad, "u").unwrap_err().code,
                Code::Decoding,
                "{bad}"
            );
        }
        let missing = read(Path::new("/proc/no/checkpoint"), "u").unwrap_err();
        assert_eq!(missing.code, Code::TryAgainLater);
        assert!(missing.msg.contains("/proc/no/checkpoint"), "{missing}");
    }
}
