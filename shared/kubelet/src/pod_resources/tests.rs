//! A kubelet that answers what it is told to, on a real socket.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use cni::Code;
use h2::server::SendResponse;
use http::{HeaderValue, Response};
use tokio::net::UnixListener;

use super::*;
use crate::Devices;

const POD: Pod<'_> = Pod {
    namespace: "ns",
    name: "p",
    uid: "u",
};

/// A field of a message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut field = vec![number << 3 | 2];
    while length > 0x7f {
        field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.extend_from_slice(bytes);
    field
}

fn pod(namespace: &str, name: &str, containers: &[Vec<u8>]) -> Vec<u8> {
    let mut pod = [field(1, name.as_bytes()), field(2, namespace.as_bytes())].concat();
    for container in containers {
        pod.extend(field(3, container));
    }
    field(1, &pod)
}

fn device(resource: &str, ids: &[&str]) -> Vec<u8> {
    let mut device = field(1, resource.as_bytes());
    for id in ids {
        device.extend(field(2, id.as_bytes()));
    }
    // The NUMA node it is on.
    device.extend(field(3, b"\x0a\x02\x08\x01"));
    field(2, &device)
}

fn list_of_pods() -> Vec<u8> {
    let claim = [
        field(1, b"class"),
        field(2, b"claim"),
        field(4, &field(1, &field(1, b"vendor.com/net=dev-7"))),
    ];
    let first = [
        field(1, b"c"),
        device("r", &["b", "a"]),
        device("s", &["x"]),
    ];
    let second = [
        device("r", &["c"]),
        b"\x18\x05".to_vec(),
        field(5, &claim.concat()),
    ];
    [
        pod("other", "p", &[device("r", &["1"])]),
        pod("ns", "q", &[device("r", &["2"])]),
        pod("ns", "p", &[first.concat(), second.concat()]),
    ]
    .concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// Serves one connection with `answer` and asks for the pod's devices; both within `limit`.
fn ask<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    limit: Duration,
    answer: impl FnOnce(SendResponse<Bytes>) -> F + Send + 'static,
) -> Result<Devices, cni::Error> {
    let socket: PathBuf =
        std::env::temp_dir().join(format!("kubelet-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let found = runtime.block_on(async {
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().path(), "/v1.PodResourcesLister/List");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            tokio::spawn(answer(respond));
            while connection.accept().await.is_some() {}
        });
        Devices::from(POD, &socket, Path::new("/proc/none"), limit).await
    });
    std::fs::remove_file(&socket).unwrap();
    found
}

/// An answer with this body, in pieces, and this status at its end.
async fn send(mut respond: SendResponse<Bytes>, body: Vec<u8>, status: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    for piece in body.chunks(1000) {
        stream
            .send_data(Bytes::copy_from_slice(piece), false)
            .unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.insert("grpc-message", HeaderValue::from_static("words"));
    stream.send_trailers(trailers).unwrap();
}

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_devices_of_a_pod_in_order() {
    let mut devices = ask("list", LIMIT, |respond| {
        send(respond, framed(&list_of_pods()), "0")
    })
    .unwrap();
    let mut taken = Vec::new();
    for resource in ["r", "r", "s", "r", "claim"] {
        taken.push(devices.take(resource).unwrap());
    }
    assert_eq!(taken, ["a", "b", "x", "c", "dev-7"]);
    assert!(devices.take("r").is_err());
}

#[test]
fn a_long_list_is_read_to_its_end() {
    let many: Vec<Vec<u8>> = (0..5000)
        .map(|n| pod("ns", &format!("pod-{n}"), &[device("r", &["x"])]))
        .collect();
    let list = [many.concat(), list_of_pods()].concat();
    assert!(list.len() > 65_535 * 2, "more than a window of HTTP/2");
    let mut devices = ask("long", LIMIT, move |respond| {
        send(respond, framed(&list), "0")
    })
    .unwrap();
    assert_eq!(devices.take("r").unwrap(), "a");
}

#[test]
fn a_pod_without_devices() {
    let empty = ask("empty", LIMIT, |respond| send(respond, framed(&[]), "0")).unwrap();
    assert_eq!(empty, Devices::default());
}

#[test]
fn answers_that_are_none() {
    let bodies: [(&str, Vec<u8>, &'static str, &str); 6] = [
        ("refused", vec![], "7", "gRPC status 7: words"),
        ("nothing", vec![], "0", "its answer is empty"),
        (
            "compressed",
            b"\x01\0\0\0\0".to_vec(),
            "0",
            "no gRPC message",
        ),
        ("short", b"\0\0\0\0\x09hi".to_vec(), "0", "no gRPC message"),
        ("garbage", framed(b"\x0a\x7f"), "0", "no protobuf message"),
        (
            "inner",
            framed(&field(1, b"\x0a\x7f")),
            "0",
            "no protobuf message",
        ),
    ];
    for (name, body, status, expected) in bodies {
        let error = ask(name, LIMIT, move |respond| send(respond, body, status)).unwrap_err();
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(error.msg.contains(expected), "{name}: {error}");
        assert!(error.msg.contains("devices of pod ns/p"), "{error}");
    }
}

#[test]
fn a_kubelet_that_does_not_answer() {
    let silent = ask("silent", Duration::from_millis(200), |respond| async move {
        tokio::time::sleep(LIMIT).await;
        drop(respond);
    });
    assert!(silent.unwrap_err().msg.contains("no answer within 0.2 s"));
    let broken = ask("broken", LIMIT, |mut respond| async move {
        respond.send_reset(Reason::INTERNAL_ERROR);
    });
    assert_eq!(broken.unwrap_err().code, Code::TryAgainLater);

    let socket = std::env::temp_dir().join(format!("kubelet-dead-{}", std::process::id()));
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dead = runtime.block_on(Devices::from(POD, &socket, Path::new("/proc/none"), LIMIT));
    std::fs::remove_file(&socket).unwrap();
    assert!(dead.unwrap_err().msg.contains("refused"));
}
