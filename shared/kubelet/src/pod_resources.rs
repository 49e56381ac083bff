//! kubelet's list of pods with their devices: `v1.PodResourcesLister/List`, gRPC over a unix socket.
//!
//! One call without a body, one answer. Over the HTTP/2 that access to the API server brings along this is less code
//! than a gRPC library needs to be set up, and 0.7 MB less of it in the binary.

use std::path::Path;

use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::net::UnixStream;

use super::Pod;
use super::protobuf::{Field, Fields};

/// What kubelet itself allows for this answer.
const MAX_ANSWER: usize = 16 << 20;

/// gRPC's frame around a message: one byte that says whether it is compressed, four of its length.
const FRAME: usize = 5;

/// Asks for the list. The text says what went wrong.
pub(super) async fn list(socket: &Path) -> Result<Vec<u8>, String> {
    let text = |e: h2::Error| e.to_string();
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|e| e.to_string())?;
    let (client, connection) = h2::client::handshake(stream).await.map_err(text)?;
    // It ends by itself when `client` and the answer's body are gone.
    tokio::spawn(connection);
    let mut client = client.ready().await.map_err(text)?;
    let request = Request::post("http://localhost/v1.PodResourcesLister/List")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|e| e.to_string())?;
    let (answer, mut body) = client.send_request(request, false).map_err(text)?;
    // A message without fields.
    body.send_data(Bytes::from_static(&[0; FRAME]), true)
        .map_err(text)?;
    read(answer).await
}

async fn read(answer: ResponseFuture) -> Result<Vec<u8>, String> {
    let text = |e: h2::Error| e.to_string();
    let (head, mut body) = answer.await.map_err(text)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("it answered HTTP status {}", head.status));
    }
    // An error without a message comes with the head.
    refused(&head.headers)?;
    let message = message(&mut body).await?;
    match body.trailers().await.map_err(text)? {
        Some(trailers) => refused(&trailers)?,
        None => return Err("its answer has no gRPC status".to_owned()),
    }
    let Some((frame, message)) = message.split_first_chunk::<FRAME>() else {
        return Err("its answer is empty".to_owned());
    };
    let [compressed, length @ ..] = *frame;
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return Err("its answer is no gRPC message".to_owned());
    }
    Ok(message.to_vec())
}

async fn message(body: &mut RecvStream) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        // A server that ends a stream in its own way has said all.
        let chunk = match chunk {
            Err(e) if e.reason() == Some(Reason::NO_ERROR) => break,
            chunk => chunk.map_err(|e| e.to_string())?,
        };
        if message.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
        }
        message.extend_from_slice(chunk.chunk());
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    Ok(message)
}

/// The gRPC status, if there is one and it is no success.
fn refused(headers: &HeaderMap) -> Result<(), String> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match header("grpc-status") {
        None | Some("0") => Ok(()),
        Some(status) => {
            let message = header("grpc-message").unwrap_or_default();
            Err(format!("it answered gRPC status {status}: {message}"))
        }
    }
}

/// The resource and id of each device of a pod, out of a list of all pods.
///
/// Field numbers are those of `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`.
pub(super) fn devices(list: &[u8], pod: Pod<'_>) -> Result<Vec<(String, String)>, String> {
    let mut devices = Vec::new();
    for pod_resources in messages(list, 1) {
        let pod_resources = pod_resources?;
        let is = |number, text: &str| {
            let found = messages(pod_resources, number).next();
            found
                .transpose()
                .map(|f| f.unwrap_or_default() == text.as_bytes())
        };
        if !is(1, pod.name)? || !is(2, pod.namespace)? {
            continue;
        }
        for container in messages(pod_resources, 3) {
            let container = container?;
            for of_plugin in messages(container, 2) {
                let of_plugin = of_plugin?;
                let resource = first_text(of_plugin, 1)?;
                for id in messages(of_plugin, 2) {
                    devices.push((resource.clone(), text(id?)));
                }
            }
            for claim in messages(container, 5) {
                claimed(claim?, &mut devices)?;
            }
        }
    }
    Ok(devices)
}

/// Devices of a resource claim: the resource is the claim's name, the id what stands behind `=` in the CDI name.
fn claimed(claim: &[u8], devices: &mut Vec<(String, String)>) -> Result<(), String> {
    let name = first_text(claim, 2)?;
    for resource in messages(claim, 4) {
        for device in messages(resource?, 1) {
            let cdi = first_text(device?, 1)?;
            if let Some((_, id)) = cdi.split_once('=') {
                devices.push((name.clone(), id.to_owned()));
            }
        }
    }
    Ok(())
}

/// All fields of a message that have this number.
fn messages(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], String>> {
    Fields(message).filter_map(move |field| match field {
        Ok(Field::Bytes(found, bytes)) if found == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(e) => Some(Err(e)),
    })
}

fn first_text(message: &[u8], number: u64) -> Result<String, String> {
    let bytes = messages(message, number).next().transpose()?;
    Ok(text(bytes.unwrap_or_default()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
