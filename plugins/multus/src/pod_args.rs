//! What the runtime says about the pod in `CNI_ARGS`.

use cni::{CniArgs, Error};

/// The keys that we know.
const KNOWN: [&str; 5] = [
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
    "IP",
];

/// Which pod it is; each part may be empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PodArgs {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// What delegates get, each key once.
    pairs: Vec<(String, String)>,
}

impl PodArgs {
    /// Errors, code 4: a pair that is none, an unknown key without `IgnoreUnknown`.
    pub(crate) fn parse(text: &str) -> Result<PodArgs, Error> {
        let args = CniArgs::parse(text, &KNOWN)
            .map_err(|e| e.context("Multus: error getting k8s args"))?;
        let value = |key| args.get(key).unwrap_or_default().to_owned();
        let mut pairs = vec![("IgnoreUnknown".to_owned(), "true".to_owned())];
        let ours = KNOWN.iter().filter(|key| key.starts_with("K8S_"));
        pairs.extend(ours.map(|key| ((*key).to_owned(), value(key))));
        pairs.retain(|(_, value)| !value.is_empty());
        for (key, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
            if key == "IgnoreUnknown" {
                continue;
            }
            match pairs.iter_mut().find(|(known, _)| known == key) {
                Some(pair) => value.clone_into(&mut pair.1),
                None => pairs.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(PodArgs {
            namespace: value("K8S_POD_NAMESPACE"),
            name: value("K8S_POD_NAME"),
            uid: value("K8S_POD_UID"),
            pairs,
        })
    }

    /// As error messages and log lines name the pod.
    pub(crate) fn label(&self) -> String {
        format!("[{}/{}/{}]", self.namespace, self.name, self.uid)
    }

    /// `CNI_ARGS` of a delegate. A request of the pod's takes the place of the runtime's.
    pub(crate) fn for_delegate(&self, requested: &[(&str, String)]) -> Vec<(String, String)> {
        let mut pairs = self.pairs.clone();
        for (key, value) in requested {
            pairs.retain(|(known, _)| known != key);
            pairs.push(((*key).to_owned(), value.clone()));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delegates_get_each_key_once() {
        let text = "IgnoreUnknown=1;K8S_POD_NAME=p;IP=1.2.3.4;K8S_POD_NAMESPACE=n;K8S_POD_UID=;X=y;K8S_POD_NAME=p";
        let args = PodArgs::parse(text).unwrap();
        assert_eq!(args.label(), "[n/p/]");
        let pairs = args.for_delegate(&[("IP", "10.0.0.9/24".into())]);
        let text: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text.join(";"),
            "IgnoreUnknown=true;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;K8S_POD_UID=;X=y;IP=10.0.0.9/24"
        );
    }

    #[test]
    fn what_is_no_argument_is_refused() {
        let msg = |text| PodArgs::parse(text).unwrap_err().msg;
        let prefix = "Multus: error getting k8s args: ARGS: ";
        assert_eq!(
            msg("K8S_POD_NAME"),
            format!("{prefix}invalid pair \"K8S_POD_NAME\"")
        );
        assert_eq!(
            msg("FOO=bar"),
            format!("{prefix}unknown args [\"FOO=bar\"]")
        );
    }
}
