//! A small client: one connection for each request.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cni_conformance::cluster::{Cluster, Identity};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_rustls::TlsConnector;

#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    config: ClientConfig,
    token: Option<String>,
}

impl Client {
    pub(crate) fn with_token(cluster: &Cluster, token: &str) -> Self {
        Self {
            token: Some(token.into()),
            ..Self::anonymous(cluster)
        }
    }

    pub(crate) fn anonymous(cluster: &Cluster) -> Self {
        Self::new(cluster, None)
    }

    pub(crate) fn with_certificate(cluster: &Cluster, identity: &Identity) -> Self {
        Self::new(cluster, Some(identity))
    }

    fn new(cluster: &Cluster, identity: Option<&Identity>) -> Self {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&cluster.authority())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                config
                    .with_client_auth_cert(vec![certificate(&identity.certificate)], key)
                    .unwrap()
            }
        };
        Self {
            address: cluster.address(),
            config,
            token: None,
        }
    }

    pub(crate) fn http2(mut self) -> Self {
        self.config.alpn_protocols = vec![b"h2".to_vec()];
        self
    }

    pub(crate) fn is_http2(&self) -> bool {
        !self.config.alpn_protocols.is_empty()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.try_get(path).unwrap()
    }

    pub(crate) fn try_get(&self, path: &str) -> Result<(u16, Value), String> {
        self.try_send("GET", path, "", &Value::Null)
    }

    pub(crate) fn send(&self, method: &str, path: &str, media: &str, body: &Value) -> (u16, Value) {
        self.try_send(method, path, media, body).unwrap()
    }

    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Result<(u16, Value), String> {
        let (status, bytes) = self.exchange(method, path, media, body)?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// The documents of an answer with one to a line.
    pub(crate) fn lines(&self, path: &str) -> Vec<Value> {
        let (_, bytes) = self.exchange("GET", path, "", &Value::Null).unwrap();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Result<(u16, Bytes), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(self.address)
                .await
                .map_err(|e| e.to_string())?;
            let name = ServerName::from(self.address.ip());
            let connector = TlsConnector::from(Arc::new(self.config.clone()));
            let stream = TokioIo::new(
                connector
                    .connect(name, stream)
                    .await
                    .map_err(|e| e.to_string())?,
            );
            let bytes = if body.is_null() {
                Bytes::new()
            } else {
                Bytes::from(body.to_string())
            };
            let uri = if self.is_http2() {
                format!("https://{}{path}", self.address)
            } else {
                path.to_owned()
            };
            let mut request = Request::builder()
                .method(method)
                .uri(uri)
                .header("host", self.address.to_string());
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if !media.is_empty() {
                request = request.header("content-type", media);
            }
            let request = request.body(Full::new(bytes)).unwrap();
            let response = if self.is_http2() {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                        .await
                        .map_err(|e| e.to_string())?;
                tokio::spawn(connection);
                sender.send_request(request).await
            } else {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
                    .await
                    .map_err(|e| e.to_string())?;
                tokio::spawn(connection);
                sender.send_request(request).await
            };
            let response = response.map_err(|e| e.to_string())?;
            let status = response.status().as_u16();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|e| e.to_string())?;
            Ok((status, body.to_bytes()))
        })
    }
}
