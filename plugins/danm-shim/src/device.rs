//! The devices that kubelet has given to a pod, as its checkpoint tells.

use std::path::Path;

use cni::Error;
use cni::json::Value;
use serde::Deserialize;

use crate::files;

/// Where kubelet keeps account of devices.
pub(crate) const CHECKPOINT: &str = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    resource_name: String,
    /// A list, or since 1.20 a list for each NUMA node.
    #[serde(rename = "DeviceIDs")]
    device_ids: Value,
}

/// The devices of a pod that are still to be used.
#[derive(Debug, Default)]
pub(crate) struct Devices(Vec<(String, Vec<String>)>);

impl Devices {
    /// Reads those of the pod `uid`.
    pub(crate) fn read(path: &Path, uid: &str) -> Result<Devices, Error> {
        let checkpoint: Checkpoint = files::read(path)?.ok_or_else(|| {
            Error::plugin(format!(
                "{} is not there: is kubelet running?",
                path.display()
            ))
        })?;
        let own = checkpoint
            .data
            .pod_device_entries
            .into_iter()
            .filter(|entry| entry.pod_uid == uid);
        Ok(Devices(
            own.map(|entry| (entry.resource_name, flat(entry.device_ids)))
                .collect(),
        ))
    }

    /// Takes the last one of a resource. The text says that there is none left.
    pub(crate) fn pop(&mut self, pool: &str) -> Result<String, Error> {
        let mut lists = self.0.iter_mut().filter(|(name, _)| name == pool);
        lists.find_map(|(_, devices)| devices.pop()).ok_or_else(|| {
            Error::plugin(format!(
                "kubelet has given the pod no more devices of {pool:?}"
            ))
        })
    }
}

fn flat(ids: Value) -> Vec<String> {
    match ids {
        Value::String(id) => vec![id],
        Value::Array(ids) => ids.into_iter().flat_map(flat).collect(),
        Value::Object(nodes) => nodes.into_iter().flat_map(|(_, ids)| flat(ids)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `popDevice` of the original.
    #[test]
    fn the_last_one_first_until_there_is_none() {
        let mut devices = Devices(vec![("pool".into(), vec!["d1".into(), "d2".into()])]);
        assert_eq!(devices.pop("pool").unwrap(), "d2");
        assert_eq!(devices.pop("pool").unwrap(), "d1");
        assert!(
            devices
                .pop("pool")
                .unwrap_err()
                .msg
                .contains("no more devices")
        );
        assert!(Devices::default().pop("pool").is_err());
    }

    #[test]
    fn checkpoints_of_old_and_new_kubelets() {
        let folder = std::env::temp_dir().join(format!("danm-shim-device-{}", std::process::id()));
        files::make_folder(&folder).unwrap();
        let path = folder.join("checkpoint");
        assert!(Devices::read(&path, "u").is_err());
        for ids in [r#"["a","b"]"#, r#"{"0":["a"],"1":["b"]}"#] {
            let text = format!(
                r#"{{"Data":{{"PodDeviceEntries":[{{"PodUID":"v","ResourceName":"pool","DeviceIDs":["x"]}},
                   {{"PodUID":"u","ResourceName":"pool","DeviceIDs":{ids}}}],"RegisteredDevices":{{}}}},"Checksum":1}}"#
            );
            std::fs::write(&path, text).unwrap();
            let mut devices = Devices::read(&path, "u").unwrap();
            assert_eq!(
                [devices.pop("pool").unwrap(), devices.pop("pool").unwrap()],
                ["b", "a"]
            );
            assert!(devices.pop("pool").is_err());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
