//! A server behind this one, which then answers what no fault strikes: requests are passed on to it, and objects are put there.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use super::path::Target;
use super::request::Request;

const JSON: &str = "application/json";

/// A server and how to speak to it; one connection for each request.
#[derive(Debug)]
pub(super) struct Upstream {
    way: Way,
    /// Where connections are made, which has to be the network namespace that this was made in: a thread of its own.
    runtime: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Way {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: String,
}

/// A status code and a body.
pub(super) type Reply = (u16, Bytes);

impl Upstream {
    /// A server in the network namespace of this thread, by its authority (PEM) and a token that may do everything.
    pub(super) fn new(address: SocketAddr, authority: &str, token: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(authority.as_bytes());
        let certificate = certificate.map_err(|error| format!("the authority: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("the authority: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| format!("no client: {error}"))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("upstream".into())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
            });
        Ok(Self {
            way: Way {
                address,
                tls: Arc::new(tls),
                token: token.into(),
            },
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread.map_err(|error| format!("no client: {error}"))?),
        })
    }

    /// Sends a request on as it came, but for who sends it.
    pub(super) async fn send(&self, request: &Request) -> Result<Reply, String> {
        let Request {
            method,
            uri,
            content_type,
            accept,
            body,
            ..
        } = request;
        let request = self
            .way
            .request(method, uri, (content_type, accept), body.clone())?;
        let way = self.way.clone();
        let sent = self
            .runtime
            .spawn(async move { way.exchange(request).await });
        sent.await.map_err(|error| error.to_string())?
    }

    /// Sends one request and waits for the answer; `Null` is no body.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), String> {
        let bytes = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = self.way.request(method, path, (JSON, JSON), bytes)?;
        let (way, (sender, answered)) = (self.way.clone(), mpsc::channel());
        self.runtime.spawn(async move {
            let _ = sender.send(way.exchange(request).await);
        });
        let (status, bytes) = answered.recv().map_err(|error| error.to_string())??;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// The same where any other answer than success is an error.
    fn must(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        match self.ask(method, path, body)? {
            (200..=299, document) => Ok(document),
            (status, document) => {
                let why = document["message"].as_str().unwrap_or_default();
                Err(format!("{method} {path}: {status} {why}"))
            }
        }
    }

    /// The object at a path, or the list.
    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.must("GET", path, &Value::Null).ok()
    }

    /// Makes an object, or replaces it, with its status. What the server must have and tests leave out is put in.
    pub(super) fn put(&self, target: &Target, mut object: Value) -> Result<Value, String> {
        self.make_namespace(&target.namespace)?;
        if target.resource == "pods" && object["spec"]["containers"].is_null() {
            object["spec"]["containers"] = json!([{"name": "main", "image": "none"}]);
        }
        let path = target.path();
        let mut stored = match self.get(&path) {
            None => {
                let collection = Target {
                    name: String::new(),
                    ..target.clone()
                };
                for key in ["resourceVersion", "uid"] {
                    if let Some(metadata) = object["metadata"].as_object_mut() {
                        metadata.remove(key);
                    }
                }
                self.must("POST", &collection.path(), &object)?
            }
            Some(there) => {
                object["metadata"]["resourceVersion"] =
                    there["metadata"]["resourceVersion"].clone();
                self.must("PUT", &path, &object)?
            }
        };
        if !object["status"].is_null() {
            stored["status"] = object["status"].take();
            stored = self.must("PUT", &format!("{path}/status"), &stored)?;
        }
        Ok(stored)
    }

    fn make_namespace(&self, name: &str) -> Result<(), String> {
        let path = format!("/api/v1/namespaces/{name}");
        if name.is_empty() || self.get(&path).is_some() {
            return Ok(());
        }
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.must("POST", "/api/v1/namespaces", &namespace)
            .map(drop)
    }

    /// Removes the object at a path at once. Whether it was there.
    pub(super) fn remove(&self, path: &str) -> bool {
        let at_once = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        let Some(there) = self.get(path) else {
            return false;
        };
        if !there["metadata"]["finalizers"].is_null() {
            let mut free = there;
            free["metadata"]["finalizers"] = Value::Null;
            let _ = self.must("PUT", path, &free);
        }
        self.must("DELETE", path, &at_once).is_ok()
    }

    /// Removes all objects of a collection, such as `/api/v1/pods`.
    pub(super) fn clear(&self, collection: &str) {
        let Some(target) = Target::parse(collection) else {
            return;
        };
        for object in self.list(collection) {
            self.remove(&target.one(&object).path());
        }
    }

    /// The objects of a collection.
    pub(super) fn list(&self, collection: &str) -> Vec<Value> {
        let list = self.get(collection).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

impl Way {
    fn request(
        &self,
        method: &str,
        uri: &str,
        (content_type, accept): (&str, &str),
        body: Vec<u8>,
    ) -> Result<hyper::Request<Full<Bytes>>, String> {
        hyper::Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, accept)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| format!("{method} {uri}: {error}"))
    }

    async fn exchange(self, request: hyper::Request<Full<Bytes>>) -> Result<Reply, String> {
        let at = format!("{} {} at {}", request.method(), request.uri(), self.address);
        let exchanged = async {
            let stream = TcpStream::connect(self.address).await?;
            // The end of the handshake and the request are two messages, and a server need not acknowledge the first at once.
            stream.set_nodelay(true)?;
            let name = ServerName::from(self.address.ip());
            let stream = TlsConnector::from(self.tls).connect(name, stream).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(connection);
            let response = sender
                .send_request(request)
                .await
                .map_err(io::Error::other)?;
            let status = response.status().as_u16();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(io::Error::other)?;
            io::Result::Ok((status, body.to_bytes()))
        };
        exchanged.await.map_err(|error| format!("{at}: {error}"))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cluster, Effect, Fault};
    use super::*;

    const POD: &str = "/api/v1/namespaces/x/pods/p";

    fn client(cluster: &Cluster) -> Upstream {
        Upstream::new(cluster.address(), &cluster.authority(), cluster.token()).unwrap()
    }

    /// A server, and one in front of it.
    fn two() -> (Cluster, Cluster) {
        let real = Cluster::start().unwrap();
        let upstream = Arc::new(client(&real));
        let front = Cluster::serve((std::net::Ipv4Addr::LOCALHOST, 0).into(), Some(upstream));
        (real, front.unwrap())
    }

    fn pod() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "x"}, "status": {"phase": "Running"}})
    }

    #[test]
    fn objects_are_in_the_server_behind() {
        let (real, front) = two();
        assert!(front.is_real() && !real.is_real());
        let mut stored = front.put(pod()).unwrap();
        assert_eq!(real.get(POD), Some(stored.clone()));
        assert_eq!(stored["status"]["phase"], "Running");
        assert_eq!(stored["spec"]["containers"][0]["name"], "main");
        assert!(real.get("/api/v1/namespaces/x").is_some());
        stored["metadata"]["annotations"] = json!({"a": "b"});
        // As one who has not seen the last change: tests change objects behind everybody's back.
        stored["metadata"]["resourceVersion"] = "1".into();
        front.put(stored).unwrap();
        assert_eq!(front.get(POD).unwrap()["metadata"]["annotations"]["a"], "b");
        assert_eq!(front.list("/api/v1/pods").len(), 1);
        assert!(front.remove(POD) && !front.remove(POD));
        assert!(real.list("/api/v1/pods").is_empty());
    }

    #[test]
    fn requests_are_passed_on_and_struck_in_front() {
        let (real, front) = two();
        let asked = client(&front);
        assert_eq!(asked.ask("GET", POD, &Value::Null).unwrap().0, 404);
        let (status, made) = asked
            .ask("POST", "/api/v1/namespaces/x/pods?a=%20b", &pod())
            .unwrap();
        assert_eq!((status, &made["metadata"]["name"]), (201, &json!("p")));
        assert_eq!(real.requests()[1].query["a"], " b");
        front.strike(Fault::on("GET", "", Effect::Answer(503, None)));
        assert_eq!(asked.ask("GET", POD, &Value::Null).unwrap().0, 503);
        front.heal();
        front.revoke_token(front.token());
        assert_eq!(asked.ask("GET", POD, &Value::Null).unwrap().0, 401);
        assert_eq!((real.requests().len(), front.requests().len()), (2, 4));
    }

    #[test]
    fn a_collection_is_cleared_whatever_holds_its_objects() {
        let (real, front) = two();
        let mut held = pod();
        held["metadata"]["finalizers"] = json!(["example.org/held"]);
        front.put(held).unwrap();
        client(&real).clear("/api/v1/pods");
        assert!(real.list("/api/v1/pods").is_empty());
    }

    #[test]
    fn a_server_that_is_gone_is_said() {
        let (real, front) = two();
        let address = real.address().to_string();
        drop(real);
        let (status, answer) = client(&front).ask("GET", POD, &Value::Null).unwrap();
        assert_eq!(status, 502);
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(&address), "{message}");
    }
}
