//! kubelet as plugins see it: the devices that it gave to pods, in its checkpoint file and behind its socket, and what the
//! plugins of devices write about them.

use std::convert::Infallible;
use std::fs;
use std::future::ready;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::requirement::{Stop, Verdict};
use crate::stage::Cover;
use crate::trial::Trial;

const FOLDER: &str = "/var/lib/kubelet";
const CHECKPOINT: &str = "device-plugins/kubelet_internal_checkpoint";
const SOCKET: &str = "pod-resources/kubelet.sock";
/// The only call that is answered.
const LIST: &str = "/v1.PodResourcesLister/List";
/// Where everybody who knows something about a device writes it.
const DEVICES: &str = "/var/run/k8s.cni.cncf.io/devinfo";

/// A kubelet that knows nothing yet, with its folders empty; gone when dropped, and the folders with it.
#[derive(Debug)]
pub struct Kubelet {
    folder: Cover,
    devices: Cover,
    service: Option<Service>,
}

#[derive(Debug)]
struct Service {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The devices of one container of a pod.
#[derive(Clone, Copy, Debug)]
pub struct OfContainer<'a> {
    /// `NAMESPACE/NAME` of the pod.
    pub pod: &'a str,
    /// The resource, and the ids of its devices.
    pub devices: &'a [(&'a str, &'a [&'a str])],
    /// Claims by name, and the names of their devices for CDI.
    pub claims: &'a [(&'a str, &'a str)],
}

impl Kubelet {
    /// On the stage of this trial. Skips the case where the folders can't be had.
    pub fn new(trial: &Trial<'_>) -> Result<Self, Stop> {
        let folder = trial.stage.cover(FOLDER)?;
        let devices = trial.stage.cover(DEVICES)?;
        for file in [CHECKPOINT, SOCKET] {
            fs::create_dir_all(Path::new(FOLDER).join(file).with_file_name(""))?;
        }
        for folder in ["dp", "cni"] {
            fs::create_dir_all(Path::new(DEVICES).join(folder))?;
        }
        Ok(Self {
            folder,
            devices,
            service: None,
        })
    }

    /// Writes the checkpoint file: for each device plugin the UID of the pod, the resource and the ids.
    pub fn note(&self, entries: &[(&str, &str, &[&str])]) -> Verdict {
        let entry = |(uid, resource, ids): &(&str, &str, &[&str])| {
            // Each id on a NUMA node of its own, as kubelet keeps them.
            let nodes: serde_json::Map<_, _> = ids
                .iter()
                .enumerate()
                .map(|(node, id)| (node.to_string(), json!([id])))
                .collect();
            json!({"PodUID": uid, "ContainerName": "c", "ResourceName": resource, "DeviceIDs": nodes, "AllocResp": ""})
        };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        let document =
            json!({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": {}}, "Checksum": 1});
        self.note_text(&document.to_string())
    }

    /// Writes a checkpoint file that may be no JSON.
    pub fn note_text(&self, text: &str) -> Verdict {
        Ok(fs::write(self.folder.path.join(CHECKPOINT), text)?)
    }

    /// Answers at the socket from now on.
    pub fn serve(&mut self, pods: &[OfContainer<'_>]) -> Verdict {
        let message: Vec<u8> = pods.iter().flat_map(OfContainer::message).collect();
        self.answer(&message, "0")
    }

    /// Answers every call at the socket with this gRPC status and no message.
    pub fn refuse(&mut self, status: &'static str) -> Verdict {
        self.answer(&[], status)
    }

    /// A socket that nobody listens at.
    pub fn leave_socket(&self) -> Verdict {
        drop(UnixListener::bind(self.folder.path.join(SOCKET))?);
        Ok(())
    }

    fn answer(&mut self, message: &[u8], status: &'static str) -> Verdict {
        let listener = UnixListener::bind(self.folder.path.join(SOCKET))?;
        listener.set_nonblocking(true)?;
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let frame = [&[0], length.to_be_bytes().as_slice(), message].concat();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = serve(listener, Bytes::from(frame), status) => {}
                    _ = ended => {}
                }
            });
        });
        self.service = Some(Service {
            end: Some(end),
            thread: Some(thread),
        });
        Ok(())
    }

    /// What the plugin of a device has written about it.
    pub fn describe(&self, resource: &str, id: &str, text: &str) -> Verdict {
        let file = format!("dp/{}-{id}-device.json", resource.replace('/', "-"));
        Ok(fs::write(self.devices.path.join(file), text)?)
    }

    /// The file about the device of an attachment: `CNIDeviceInfoFile` of its `runtimeConfig`.
    pub fn device_info(&self, network: &str, container: &str, ifname: &str) -> PathBuf {
        let file = format!("cni/{}-{container}_{ifname}", network.replace('/', "-"));
        self.devices.path.join(file)
    }

    /// The files about devices of attachments.
    pub fn device_infos(&self) -> Result<Vec<PathBuf>, Stop> {
        let entries = fs::read_dir(self.devices.path.join("cni"))?;
        Ok(entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes connections until something goes wrong with the socket itself.
async fn serve(listener: UnixListener, frame: Bytes, status: &'static str) -> std::io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let frame = frame.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            // 12 is UNIMPLEMENTED.
            let status = if request.uri().path() == LIST {
                status
            } else {
                "12"
            };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            trailers.insert("grpc-message", HeaderValue::from_static("in its own words"));
            let body = Full::new(frame.clone()).with_trailers(ready(Some(Ok(trailers))));
            let mut response = Response::new(body);
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", kind);
            ready(Ok::<_, Infallible>(response))
        });
        tokio::spawn(async move {
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A client that goes ends the connection: its own matter.
            let _ = http2.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl OfContainer<'_> {
    /// One `PodResources` of the list; field numbers are those of kubelet's `podresources/v1/api.proto`.
    fn message(&self) -> Vec<u8> {
        let (namespace, name) = self.pod.split_once('/').unwrap_or_default();
        let mut container = field(1, b"c");
        for (resource, ids) in self.devices {
            let mut devices = field(1, resource.as_bytes());
            for id in *ids {
                devices.extend(field(2, id.as_bytes()));
            }
            container.extend(field(2, &devices));
        }
        for (claim, cdi) in self.claims {
            let device = field(1, &field(1, cdi.as_bytes()));
            container.extend(field(
                5,
                &[field(2, claim.as_bytes()), field(4, &device)].concat(),
            ));
        }
        let pod = [
            field(1, name.as_bytes()),
            field(2, namespace.as_bytes()),
            field(3, &container),
        ];
        field(1, &pod.concat())
    }
}

/// A field of a protobuf message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    // Seven bits in each byte, the lowest first; the eighth says that there are more.
    while length > 0x7f {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}
