//! What multus asks of the API server: a pod, its networks, and the word back to the pod.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use cni::{Code, Error};
use k8s::{
    Access, Client, Event, EventType, Kind, NetworkAttachmentDefinition, Object, ObjectMeta, Pod,
    Runtime, SERVICE_ACCOUNT, together,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::conf::Conf;
use crate::network_status::NETWORK_STATUS;

/// A connection to the API server.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
}

/// A NetworkAttachmentDefinition by namespace and name.
pub(crate) type Reference = (String, String);

/// What the server has for a reference.
pub(crate) type Found = Result<NetworkAttachmentDefinition, k8s::Error>;

/// One answer of several requests under way.
enum Answer {
    Pod(Box<Result<Pod, k8s::Error>>),
    Network(Box<Found>),
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl Cluster {
    /// By the kubeconfig, or by the service account of the pod this runs in; `None` where there is neither.
    ///
    /// Errors: the kubeconfig can't be used.
    pub(crate) fn open(conf: &Conf) -> Result<Option<Cluster>, Error> {
        let access = match &conf.kubeconfig {
            Some(path) => Access::kubeconfig(path),
            None => {
                let host = skel::variable("KUBERNETES_SERVICE_HOST");
                let port = skel::variable("KUBERNETES_SERVICE_PORT").parse();
                let (false, Ok(port)) = (host.is_empty(), port) else {
                    return Ok(None);
                };
                Access::in_cluster(&host, port, Path::new(SERVICE_ACCOUNT))
            }
        };
        let access = access
            .map_err(|e| error(&e).context("Multus: error getting k8s client: GetK8sClient"))?;
        let runtime = Runtime::new()
            .map_err(|e| Error::new(Code::Io, format!("failed to start the API client: {e}")))?;
        Ok(Some(Cluster {
            runtime,
            client: Client::new(access, conf.api_limit),
        }))
    }

    /// Reads a pod and networks at the same time.
    pub(crate) fn pod_and_networks(
        &self,
        namespace: &str,
        name: &str,
        references: &[Reference],
    ) -> (Result<Pod, k8s::Error>, Vec<Found>) {
        let pods = self.client.namespaced::<Pod>(namespace);
        let pod: Pending<'_, Answer> =
            Box::pin(async { Answer::Pod(Box::new(pods.get(name).await)) });
        let others = references.iter().map(|reference| -> Pending<'_, Answer> {
            let found = self.network(reference);
            Box::pin(async { Answer::Network(Box::new(found.await)) })
        });
        let all: Vec<Pending<'_, Answer>> = std::iter::once(pod).chain(others).collect();
        let (mut pod, mut networks) = (Ok(Pod::default()), Vec::new());
        for answer in self.runtime.block_on(together(all)) {
            match answer {
                Answer::Pod(found) => pod = *found,
                Answer::Network(found) => networks.push(*found),
            }
        }
        (pod, networks)
    }

    /// Reads networks at the same time, each one once.
    pub(crate) fn networks(&self, references: &[Reference]) -> Vec<Found> {
        let mut distinct: Vec<&Reference> = Vec::new();
        for reference in references {
            if !distinct.contains(&reference) {
                distinct.push(reference);
            }
        }
        let found = distinct.iter().map(|reference| self.network(reference));
        let found = self.runtime.block_on(together(found));
        let of = |reference: &Reference| {
            let place = distinct.iter().position(|r| *r == reference).unwrap_or(0);
            found.get(place).cloned()
        };
        references.iter().filter_map(of).collect()
    }

    async fn network(&self, (namespace, name): &Reference) -> Found {
        let networks = self
            .client
            .namespaced::<NetworkAttachmentDefinition>(namespace);
        networks.get(name).await
    }

    /// Runs something of somebody else that waits, here.
    pub(crate) fn wait_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Whether the server answers and knows us. That there is no such network is an answer as well.
    pub(crate) fn answers(&self, namespace: &str, name: &str) -> Result<(), k8s::Error> {
        let reference = (namespace.to_owned(), name.to_owned());
        match self.runtime.block_on(self.network(&reference)) {
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    }

    /// Tells the pod its networks, and reports events, all at the same time.
    ///
    /// A pod that is gone needs no word. Events that are lost are only logged. Errors: the status was not accepted.
    pub(crate) fn publish(
        &self,
        pod: &Pod,
        status: Option<&str>,
        events: &[Event],
    ) -> Result<(), Error> {
        let event_api = self.client.namespaced::<Event>(&pod.metadata.namespace);
        let annotate = status.map(|status| -> Pending<'_, Result<(), k8s::Error>> {
            Box::pin(self.annotate(pod, status))
        });
        let reports = events
            .iter()
            .map(|event| -> Pending<'_, Result<(), k8s::Error>> {
                let report = async {
                    if let Err(e) = event_api.create(event).await {
                        log::warn!("an event is lost: {e}");
                    }
                    Ok(())
                };
                Box::pin(report)
            });
        let all: Vec<_> = annotate.into_iter().chain(reports).collect();
        let answers = self.runtime.block_on(together(all));
        match answers.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some(e) if e.is_not_found() => {
                log::warn!("the pod is gone, its networks are not told: {e}");
                Ok(())
            }
            Some(e) => Err(error(&e).context("error setting the networks status")),
        }
    }

    /// One merge patch: nobody else's changes can be lost, and nothing has to be read before. The uid keeps it from a
    /// later pod of the same name.
    ///
    /// The original reads and replaces, so its role may not allow to patch; then it is done in that way.
    async fn annotate(&self, pod: &Pod, status: &str) -> Result<(), k8s::Error> {
        let meta = &pod.metadata;
        let pods = self.client.namespaced::<Pod>(&meta.namespace).status();
        let patch = json!({"metadata": {"uid": meta.uid, "annotations": {NETWORK_STATUS: status}}});
        match pods.merge_patch(&meta.name, &patch).await {
            Err(e) if e.code() == Some(403) => {
                log::info!("{e}; the status is replaced instead");
                self.replace(pod, status).await
            }
            patched => patched.map(drop),
        }
    }

    async fn replace(&self, pod: &Pod, status: &str) -> Result<(), k8s::Error> {
        let meta = &pod.metadata;
        let pods = self.client.namespaced::<WholePod>(&meta.namespace).status();
        let replaced = pods.update(&meta.name, |whole: &mut WholePod| {
            if whole.metadata.uid == meta.uid {
                let annotations = &mut whole.metadata.annotations;
                annotations.insert(NETWORK_STATUS.to_owned(), status.to_owned());
            }
            Ok::<(), k8s::Error>(())
        });
        replaced.await.map(drop)
    }

    /// Reports that a network is missing.
    pub(crate) fn report_missing(&self, pod: &Pod, message: &str) {
        let event = Event::about_pod(pod, "multus", EventType::Warning, "NoNetworkFound", message);
        // Nothing but events: there is no error.
        let _ = self.publish(pod, None, &[event]);
    }
}

/// An error of the API server, for the runtime: code 11 where trying again may help.
pub(crate) fn error(e: &k8s::Error) -> Error {
    let code = match e.is_temporary() {
        true => Code::TryAgainLater,
        false => Code::Plugin,
    };
    Error::new(code, e.to_string())
}

/// A pod with all its members, to be written back.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WholePod {
    metadata: ObjectMeta,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Object for WholePod {
    const KIND: Kind = Pod::KIND;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}
