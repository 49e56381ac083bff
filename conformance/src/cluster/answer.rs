//! One request and its answer: faults first, then who asks, then what is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::fault::Effect;
use super::held::Place;
use super::path::{self, Target};
use super::request::{Credential, Request};
use super::selector::Selector;
use super::serve::{Connection, Content};
use super::status::Status;
use super::store::Page;
use super::upstream::Upstream;
use super::{Shared, accept, locked, write};

/// What a real server takes, in bytes.
const BODY: usize = 3 * 1024 * 1024;
/// How long a watch lasts when its request does not say.
const WATCH: Duration = Duration::from_secs(1800);

type Answered = Result<Response<Content>, Status>;

/// Answers one request, unless a fault forbids.
pub(super) async fn answer(
    request: hyper::Request<Incoming>,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
) -> Result<Response<Content>, Infallible> {
    let (request, oversized) = read(request, &connection, &shared).await;
    locked(&shared.log).push(request.clone());
    let (effects, held) = {
        let at = request.query_path();
        let mut faults = locked(&shared.faults);
        let struck = faults
            .iter_mut()
            .filter_map(|fault| fault.strike(&request.method, &at));
        let effects: Vec<_> = struck.collect();
        // Before the faults can be taken back.
        let held = effects.contains(&Effect::Held).then(|| shared.held.take());
        (effects, held)
    };
    let mut forced = None;
    for effect in &effects {
        match effect {
            Effect::Delay(time) => tokio::time::sleep(*time).await,
            Effect::Drop => return connection.drop_now().await,
            Effect::Answer(code, retry_after) => {
                forced = forced.or(Some(refusal(&Status {
                    retry_after: *retry_after,
                    ..Status::new(*code, sentence(*code))
                })));
            }
            Effect::Garbage(text) => forced = forced.or(Some(respond(200, text.clone().into()))),
            Effect::Held | Effect::DropApplied | Effect::DropMidway => {}
        }
    }
    let response = match forced {
        Some(response) => response,
        None => {
            let outcome = match permitted(&request, oversized) {
                Err(status) => Err(status),
                Ok(()) => match held {
                    Some(held) => {
                        carried_out_later(held, request.clone(), Arc::clone(&shared)).await
                    }
                    None => carried_out(&request, &shared).await,
                },
            };
            outcome.unwrap_or_else(|status| refusal(&status))
        }
    };
    if effects.contains(&Effect::DropApplied) {
        return connection.drop_now().await;
    }
    // It may have been forgotten meanwhile.
    let mut log = locked(&shared.log);
    let entry = log.iter_mut().rfind(|entry| entry.serial == request.serial);
    if let Some(entry) = entry {
        entry.status = Some(response.status().as_u16());
    }
    drop(log);
    if effects.contains(&Effect::DropMidway) {
        return Ok(halved(response, connection));
    }
    Ok(response)
}

/// By the server behind this one, where there is one.
async fn carried_out(request: &Request, shared: &Shared) -> Answered {
    match &shared.upstream {
        Some(upstream) => pass_on(request, upstream).await,
        None => carry_out(request, shared),
    }
}

/// In a task of its own, which does not end with the connection.
async fn carried_out_later(
    (place, released): (Place, oneshot::Receiver<()>),
    request: Request,
    shared: Arc<Shared>,
) -> Answered {
    let work = tokio::spawn(async move {
        let _ = released.await;
        let answered = carried_out(&request, &shared).await;
        drop(place);
        answered
    });
    let failed = |_| Err(Status::new(500, sentence(500)));
    work.await.unwrap_or_else(failed)
}

/// The request as it is logged, and whether its body was too long to be read.
async fn read(
    request: hyper::Request<Incoming>,
    connection: &Connection,
    shared: &Shared,
) -> (Request, bool) {
    let (parts, body) = request.into_parts();
    let header = |name| {
        let value = parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let authorization = header(AUTHORIZATION);
    let credential = match authorization.strip_prefix("Bearer ") {
        Some(token) if locked(&shared.tokens).contains(token.trim()) => Credential::Token,
        Some(_) => Credential::UnknownToken,
        None if connection.certified => Credential::Certificate,
        None => Credential::Nothing,
    };
    let collected = Limited::new(body, BODY).collect().await;
    let oversized = collected.is_err();
    let request = Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: path::query(parts.uri.query().unwrap_or_default()),
        credential,
        user_agent: header(USER_AGENT),
        content_type: header(CONTENT_TYPE),
        accept: header(ACCEPT),
        body: collected
            .map(|body| body.to_bytes().to_vec())
            .unwrap_or_default(),
        uri: parts
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        connection: connection.number,
        http2: parts.version == hyper::Version::HTTP_2,
        status: None,
        serial: shared.arrivals.fetch_add(1, Ordering::Relaxed),
    };
    (request, oversized)
}

fn permitted(request: &Request, oversized: bool) -> Result<(), Status> {
    if oversized {
        let why = "Request entity too large: limit is 3145728";
        return Err(Status::new(413, why));
    }
    allowed(request)
}

/// Has the server behind this one answer. A watch would have to be passed on piece by piece, and is not.
async fn pass_on(request: &Request, upstream: &Upstream) -> Answered {
    if is_true(&request.query, "watch") {
        return Err(Status::new(501, "watches are not passed on"));
    }
    let passed_on = upstream.send(request);
    let (code, body) = passed_on.await.map_err(|why| Status::new(502, why))?;
    let mut response = respond(code, body);
    json_type(&mut response);
    Ok(response)
}

/// Who may do anything: everybody who is known.
fn allowed(request: &Request) -> Result<(), Status> {
    match request.credential {
        Credential::Token | Credential::Certificate => Ok(()),
        Credential::UnknownToken => Err(Status::new(401, sentence(401))),
        Credential::Nothing if is_probe(&request.path) => Ok(()),
        Credential::Nothing => {
            let what = request.permission().map_or_else(
                || {
                    format!(
                        "{} path \"{}\"",
                        request.method.to_ascii_lowercase(),
                        request.path
                    )
                },
                |(verb, resource)| format!("{verb} resource \"{resource}\""),
            );
            Err(Status::new(
                403,
                format!("forbidden: User \"system:anonymous\" cannot {what}"),
            ))
        }
    }
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/version" | "/healthz" | "/livez" | "/readyz")
}

fn carry_out(request: &Request, shared: &Shared) -> Answered {
    let Some(target) = request.target() else {
        return match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/version") => Ok(document(200, &version())),
            ("GET", path) if is_probe(path) => Ok(respond(200, "ok".into())),
            _ => Err(Status::new(
                404,
                "the server could not find the requested resource",
            )),
        };
    };
    let store = &mut *locked(&shared.store);
    let shown = |code, object| Ok(document(code, &accept::form(&request.accept, object)));
    match request.method.as_str() {
        "GET" if is_true(&request.query, "watch") => watch(request, target, shared, store),
        "GET" if target.name.is_empty() => {
            let text = |key: &str| {
                request
                    .query
                    .get(key)
                    .map(String::as_str)
                    .filter(|text| !text.is_empty())
            };
            let page = Page {
                selector: &Selector::parse(&request.query)?,
                limit: text("limit")
                    .and_then(|limit| limit.parse().ok())
                    .unwrap_or(0),
                after: text("continue"),
            };
            shown(200, store.list(&target, &page)?)
        }
        "GET" => shown(200, store.get(&target)?),
        "POST" if target.name.is_empty() => {
            shown(201, write::create(store, &target, decoded(request)?)?)
        }
        "PUT" if !target.name.is_empty() => {
            shown(200, write::update(store, &target, decoded(request)?)?)
        }
        "PATCH" if !target.name.is_empty() => {
            let media = request
                .content_type
                .split(';')
                .next()
                .unwrap_or_default()
                .trim();
            shown(200, write::patch(store, &target, media, &request.body)?)
        }
        "DELETE" => {
            let options = if request.body.is_empty() {
                Value::Null
            } else {
                decoded(request)?
            };
            if !target.name.is_empty() {
                return Ok(document(200, &write::delete(store, &target, &options)?));
            }
            let selector = Selector::parse(&request.query)?;
            let page = Page {
                selector: &selector,
                limit: 0,
                after: None,
            };
            let list = store.list(&target, &page)?;
            for item in list["items"].as_array().into_iter().flatten() {
                write::delete(store, &target.one(item), &Value::Null)?;
            }
            Ok(document(200, &list))
        }
        _ => Err(Status::new(
            405,
            "the server does not allow this method on the requested resource",
        )),
    }
}

fn decoded(request: &Request) -> Result<Value, Status> {
    if request.content_type.contains("protobuf") || request.content_type.contains("yaml") {
        return Err(Status::new(415, "this server reads JSON only"));
    }
    serde_json::from_slice(&request.body)
        .map_err(|error| Status::new(400, format!("the object provided is unrecognized: {error}")))
}

/// Starts a stream of events that goes on beside the answer.
fn watch(
    request: &Request,
    target: Target,
    shared: &Shared,
    store: &super::store::Store,
) -> Answered {
    let selector = Selector::parse(&request.query)?;
    let number = |key: &str| {
        request
            .query
            .get(key)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let since = number("resourceVersion").filter(|since| *since > 0);
    let limit = number("timeoutSeconds").map_or(WATCH, Duration::from_secs);
    let (first, mut seen) = store.events(&target, &selector, since)?;
    let mut news = store.subscribe();
    let shared = shared.itself();
    let (pieces, content) = mpsc::channel(16);
    let follow = async move {
        let mut events = first;
        loop {
            for event in events {
                let line = Bytes::from(format!("{event}\n"));
                if pieces.send(line).await.is_err() {
                    return;
                }
            }
            // The revision may have moved on since it was looked at; then this returns at once.
            tokio::select! {
                changed = news.wait_for(|revision| *revision > seen) => if changed.is_err() { return },
                () = pieces.closed() => return,
            }
            let found = shared
                .upgrade()
                .map(|shared| locked(&shared.store).events(&target, &selector, Some(seen)));
            let Some(Ok(found)) = found else { return };
            (events, seen) = found;
        }
    };
    tokio::spawn(tokio::time::timeout(limit, follow));
    let mut response = Response::new(Content::Stream(content));
    json_type(&mut response);
    Ok(response)
}

fn is_true(query: &BTreeMap<String, String>, key: &str) -> bool {
    matches!(query.get(key).map(String::as_str), Some("true" | "1"))
}

fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux/amd64"})
}

fn document(code: u16, document: &Value) -> Response<Content> {
    let mut response = respond(code, document.to_string().into());
    json_type(&mut response);
    response
}

fn refusal(status: &Status) -> Response<Content> {
    let mut response = document(status.code, &status.document());
    if let Some(seconds) = status.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn respond(code: u16, bytes: Bytes) -> Response<Content> {
    let mut response = Response::new(Content::Whole(bytes));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn json_type(response: &mut Response<Content>) {
    let value = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, value);
}

/// The first half of the body; then the connection ends.
fn halved(response: Response<Content>, connection: Arc<Connection>) -> Response<Content> {
    connection.drop_soon();
    response.map(|content| match content {
        Content::Whole(bytes) => Content::Part(bytes.slice(..bytes.len() / 2), bytes.len() as u64),
        other => other,
    })
}

/// What Kubernetes says when it says no for no reason of the object's.
const fn sentence(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "forbidden: a rule of the test says so",
        404 => "the server could not find the requested resource",
        409 => {
            "the object has been modified; please apply your changes to the latest version and try again"
        }
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        _ => "an error on the server has prevented the request from succeeding",
    }
}
