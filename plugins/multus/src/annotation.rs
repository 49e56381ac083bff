//! What a pod asks for in its annotations: which networks, and how each is to be attached.
//!
//! Two annotations have one grammar: a list separated by commas, or a JSON array of objects. What is read here
//! is valid; a request that can't be served is refused with the original's words in the message, and which item
//! it is and why in the details, before anything is done for the pod.

mod comma;
mod element;
mod request;
#[cfg(test)]
mod tests;

use cni::Error;
use cni::json::Value;

pub(crate) use request::{
    Bandwidth, Gateways, HardwareAddr, InterfaceName, IpRequest, PortMapping,
};

/// Names the networks of a pod beside its default network.
pub(crate) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// Names the network that takes the place of the default network.
pub(crate) const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// One attachment that a pod asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selection {
    /// Namespace of the NetworkAttachmentDefinition; the default one where the annotation names none.
    pub(crate) namespace: String,
    /// Name of the NetworkAttachmentDefinition.
    pub(crate) name: String,
    /// Name of the interface in the pod, if the pod wants a certain one.
    pub(crate) interface: Option<InterfaceName>,
    /// Addresses, as they were written; empty when the pod has no wish.
    pub(crate) ips: Vec<IpRequest>,
    pub(crate) mac: Option<HardwareAddr>,
    pub(crate) infiniband_guid: Option<HardwareAddr>,
    /// Ports of the host that lead to this attachment.
    pub(crate) port_mappings: Vec<PortMapping>,
    pub(crate) bandwidth: Option<Bandwidth>,
    /// `cni-args`, for `args.cni` of the network's configuration; each key once.
    pub(crate) cni_args: Vec<(String, Value)>,
    /// `default-route`. There but empty is a wish as well: that the network's own default route stays.
    pub(crate) default_route: Option<Gateways>,
    /// A certain device, as its plugin names it.
    pub(crate) device_id: Option<String>,
}

/// Why an item is refused: the original's words, and what it doesn't say.
#[derive(Debug)]
struct Refusal {
    msg: String,
    why: String,
}

impl Refusal {
    fn new(msg: impl Into<String>, why: impl Into<String>) -> Refusal {
        Refusal {
            msg: msg.into(),
            why: why.into(),
        }
    }
}

/// Reads the annotation [`NETWORKS`] of a pod in namespace `pod_namespace`. An empty text names no network.
///
/// Errors: code 7.
pub(crate) fn networks(text: &str, pod_namespace: &str) -> Result<Vec<Selection>, Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let selections = selections(NETWORKS, text, pod_namespace)?;
    interfaces_differ(&selections)?;
    one_gateway_per_family(&selections)?;
    Ok(selections)
}

/// Reads the annotation [`DEFAULT_NETWORK`]; where it names no namespace, `multus_namespace` is meant.
///
/// It has to name one network. Errors: code 7.
pub(crate) fn default_network(text: &str, multus_namespace: &str) -> Result<Selection, Error> {
    let refuse = |msg: &str, why: &str| {
        let error = Error::config(format!("tryLoadK8sPodDefaultNetwork: {msg}"));
        Err(error.details(format!("annotation {DEFAULT_NETWORK}: {why}")))
    };
    if text.is_empty() {
        let missing = r#"failed to parse CRD object: parsePodNetworkAnnotation: pod annotation does not have "network" as key"#;
        return refuse(missing, "it is empty; name one network, or remove it");
    }
    let selections = selections(DEFAULT_NETWORK, text, multus_namespace);
    let mut selections = selections
        .map_err(|e| e.context("tryLoadK8sPodDefaultNetwork: failed to parse CRD object"))?;
    match (selections.pop(), selections.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => refuse(
            "no default network is specified",
            "the list is empty; name one network, or remove the annotation",
        ),
        (Some(_), others) => refuse(
            &format!("more than one default network is specified: {text}"),
            &format!("it names {} networks", others + 1),
        ),
    }
}

/// At most one gateway for each family may be asked for over all networks of a pod. Errors: code 7.
pub(crate) fn one_gateway_per_family<'a>(
    selections: impl IntoIterator<Item = &'a Selection>,
) -> Result<(), Error> {
    let (mut v4, mut v6) = (None, None);
    let mut is_second = |selection: &'a Selection, gateways: &Gateways| {
        gateways.v4.is_some_and(|_| v4.replace(selection).is_some())
            || gateways.v6.is_some_and(|_| v6.replace(selection).is_some())
    };
    for selection in selections {
        let Some(gateways) = &selection.default_route else {
            continue;
        };
        if is_second(selection, gateways) {
            let Selection {
                namespace, name, ..
            } = selection;
            return Err(Error::config(request::ECMP).details(format!(
                "annotation {NETWORKS}: the default-route of \"{namespace}/{name}\" is the second of its family for this pod"
            )));
        }
    }
    Ok(())
}

/// Two attachments can't have the same interface; the second would fail when the first is already there.
fn interfaces_differ(selections: &[Selection]) -> Result<(), Error> {
    let names: Vec<_> = selections.iter().map(|s| s.interface.as_ref()).collect();
    for (index, name) in names.iter().enumerate() {
        let Some(name) = name else { continue };
        let first = names.iter().position(|other| *other == Some(name));
        if let Some(first) = first.filter(|first| *first < index) {
            return Err(
                Error::config(format!("interface name {name} already exists")).details(format!(
                    "annotation {NETWORKS}: items {} and {} ask for the same interface",
                    first + 1,
                    index + 1
                )),
            );
        }
    }
    Ok(())
}

/// Reads either form: a JSON document has one of `[{"` in it, a list separated by commas has none of them.
fn selections(
    annotation: &str,
    text: &str,
    default_namespace: &str,
) -> Result<Vec<Selection>, Error> {
    let items: Vec<Result<Selection, Refusal>> = if text.contains(['[', '{', '"']) {
        let refuse = |why: String| {
            let error = Error::config(format!("{}: {why}", element::JSON));
            error.details(format!(
                "annotation {annotation}: a text with [, {{ or \" in it has to be a JSON array of objects"
            ))
        };
        let document = Value::parse(text.as_bytes()).map_err(|e| refuse(e.to_string()))?;
        let Value::Array(items) = document else {
            return Err(refuse("the document is no array".to_owned()));
        };
        items
            .iter()
            .map(|item| element::read(annotation, item, default_namespace))
            .collect()
    } else {
        let items = text.split(',');
        items
            .map(|item| comma::read(item.trim(), default_namespace))
            .collect()
    };
    let count = items.len();
    let located = |(index, item): (usize, Result<Selection, Refusal>)| {
        item.map_err(|Refusal { msg, why }| {
            let place = format!("annotation {annotation}, item {} of {count}", index + 1);
            Error::config(msg).details(format!("{place}: {why}"))
        })
    };
    items.into_iter().enumerate().map(located).collect()
}

/// A selection that asks for a network and nothing more. The name is a DNS subdomain, the namespace a DNS label:
/// nothing else can be the name of an object, and both become part of a path.
fn plain(namespace: &str, name: &str, default_namespace: &str) -> Result<Selection, Refusal> {
    let namespace = match namespace {
        "" => default_namespace,
        namespace => namespace,
    };
    let missing = |why: &str| {
        let object = "cannot find a network-attachment-definition";
        format!("{object} ({name}) in namespace ({namespace}): {why}")
    };
    if name.is_empty() {
        return Err(Refusal::new(
            missing("resource name may not be empty"),
            "it names no network",
        ));
    }
    let labels = "lower case letters, digits and - between them";
    if !request::is_subdomain(name) {
        return Err(Refusal::new(
            missing("no object can have this name"),
            format!("the name of a network is made of {labels}, and ."),
        ));
    }
    if !request::is_label(namespace) {
        return Err(Refusal::new(
            missing("no namespace can have this name"),
            format!("the name of a namespace is made of {labels}"),
        ));
    }
    Ok(Selection {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        interface: None,
        ips: Vec::new(),
        mac: None,
        infiniband_guid: None,
        port_mappings: Vec::new(),
        bandwidth: None,
        cni_args: Vec::new(),
        default_route: None,
        device_id: None,
    })
}
