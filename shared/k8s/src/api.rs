//! The verbs on objects of one kind.

use std::marker::PhantomData;

use hyper::Method;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use crate::client::{Client, Pauses};
use crate::error::{Cause, Error};
use crate::kinds::meta::{List, PartialObjectMetadata};
use crate::kinds::{Kind, Object};
use crate::request::{JSON, Repeat, Request, push_query, push_segment};

/// The objects of one kind in one place. Made by [`Client::namespaced`] and its neighbours.
#[derive(Debug)]
pub struct Api<T> {
    client: Client,
    kind: Kind,
    /// `None`: the whole cluster.
    namespace: Option<String>,
    subresource: &'static str,
    /// Whether answers are to have metadata only.
    is_partial: bool,
    of: PhantomData<fn() -> T>,
}

/// Not derived: that would ask for objects that can be cloned.
impl<T> Clone for Api<T> {
    fn clone(&self) -> Self {
        Api {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            ..*self
        }
    }
}

/// Which objects to list. The default is all, on one page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `app=web,tier!=test`; empty for all.
    pub label_selector: String,
    /// `spec.nodeName=node1`; empty for all.
    pub field_selector: String,
    /// The most objects on one page; 0 for no limit.
    pub limit: u32,
    /// [`crate::ListMeta::next`] of the page before; empty for the first one.
    pub next: String,
}

/// What must be true of an object that is to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// It is this one, and not another one of its name; empty for any.
    pub uid: String,
    /// It has not changed since; empty for any.
    pub resource_version: String,
}

impl<T> Api<T> {
    pub(crate) fn new(client: Client, kind: Kind, namespace: Option<&str>) -> Api<T> {
        Api {
            client,
            kind,
            namespace: namespace.map(str::to_owned),
            subresource: "",
            is_partial: false,
            of: PhantomData,
        }
    }

    /// The same objects, of which answers have the metadata only: where objects are large and nobody asks for the rest,
    /// that is less to send and to read.
    pub fn metadata_only(self) -> Api<PartialObjectMetadata> {
        Api {
            client: self.client,
            kind: self.kind,
            namespace: self.namespace,
            subresource: self.subresource,
            is_partial: true,
            of: PhantomData,
        }
    }

    /// The same objects, where patches and replacements are for their `status`, which needs another right. On
    /// pods, annotations can be patched this way too.
    pub fn status(mut self) -> Api<T> {
        self.subresource = "status";
        self
    }

    /// The same objects, with one time limit for all requests from now on.
    fn with_common_deadline(&self) -> Api<T> {
        Api {
            client: self.client.with_common_deadline(),
            ..self.clone()
        }
    }

    /// The path of the collection, or of one object in it, and words for what is done with it.
    fn place(&self, verb: &str, name: Option<&str>) -> Result<(String, String), Error> {
        let namespace = self.namespace.as_deref();
        let object = match (namespace, name) {
            (None, None) => "of all namespaces".to_owned(),
            (None, Some(name)) => name.to_owned(),
            (Some(namespace), None) => format!("in {namespace}"),
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        };
        let plural = self.kind.plural;
        let what = match self.subresource {
            "" => format!("{verb} {plural} {object}"),
            part => format!("{verb} {plural}/{part} {object}"),
        };
        let mut path = match self.kind.group {
            "" => format!("/api/{}", self.kind.version),
            group => format!("/apis/{group}/{}", self.kind.version),
        };
        let segments = namespace.map(|n| ["namespaces", n]).into_iter().flatten();
        for segment in segments.chain([plural]).chain(name) {
            push_segment(&mut path, segment).map_err(|msg| Error::request(&what, msg))?;
        }
        if !self.subresource.is_empty() && name.is_some() {
            path.push('/');
            path.push_str(self.subresource);
        }
        Ok((path, what))
    }

    /// A request that reads, until more is said of it.
    fn request(&self, path: String, what: String) -> Request {
        Request {
            accept: if self.is_partial { PARTIAL } else { JSON },
            ..Request::read(path, what)
        }
    }

    /// Deletes an object. One that is not there is an error (404).
    pub async fn delete(&self, name: &str, only_if: &Preconditions) -> Result<(), Error> {
        let (path, what) = self.place("DELETE", Some(name))?;
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        let conditions = [
            ("uid", &only_if.uid),
            ("resourceVersion", &only_if.resource_version),
        ];
        for (key, value) in conditions
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
        {
            options["preconditions"][key] = json!(value);
        }
        let request = Request {
            method: Method::DELETE,
            content_type: JSON,
            body: body(&options, &what)?,
            repeat: Repeat::Safe,
            ..self.request(path, what)
        };
        // The answer is the object or a `Status`; what is neither comes from somebody else, who has deleted nothing.
        match self.decoded::<IgnoredAny>(request).await {
            // An earlier try may have been lost on its way back.
            Err(e) if e.is_not_found() && e.maybe_applied => Ok(()),
            sent => sent.map(drop),
        }
    }

    async fn decoded<A: DeserializeOwned>(&self, request: Request) -> Result<A, Error> {
        let answer = self.client.send(&request).await?;
        // serde would take a list for a struct.
        let is_object = answer.body.trim_ascii_start().starts_with(b"{");
        let read = match is_object {
            true => serde_json::from_slice(&answer.body).map_err(|e| e.to_string()),
            false => Err("no JSON object".to_owned()),
        };
        read.map_err(|e| {
            let cause = Cause::Decoding(format!("no {} in it: {e}", self.kind.kind));
            let mut error = self.client.error(&request, cause);
            error.maybe_applied = request.repeat != Repeat::ReadsOnly;
            error
        })
    }
}

impl<T: DeserializeOwned> Api<T> {
    /// Reads one object.
    pub async fn get(&self, name: &str) -> Result<T, Error> {
        let (path, what) = self.place("GET", Some(name))?;
        self.decoded(self.request(path, what)).await
    }

    /// Reads one page of objects.
    pub async fn list(&self, options: &ListOptions) -> Result<List<T>, Error> {
        let (mut path, what) = self.place("LIST", None)?;
        push_query(&mut path, "labelSelector", &options.label_selector);
        push_query(&mut path, "fieldSelector", &options.field_selector);
        if options.limit > 0 {
            push_query(&mut path, "limit", &options.limit.to_string());
        }
        push_query(&mut path, "continue", &options.next);
        let mut request = self.request(path, what);
        if self.is_partial {
            request.accept = PARTIAL_LIST;
        }
        self.decoded(request).await
    }

    /// Reads all pages. The time limit is for all of them together.
    pub async fn list_all(&self, options: &ListOptions) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut options = options.clone();
        let limited = self.with_common_deadline();
        loop {
            let page = limited.list(&options).await?;
            all.extend(page.items);
            if page.metadata.next.is_empty() {
                return Ok(all);
            }
            options.next = page.metadata.next;
        }
    }

    /// Changes the members that `patch` has (RFC 7386): maps are merged, `null` removes, all else is replaced.
    ///
    /// Without `metadata.resourceVersion` in it, a conflict is tried again like a failure of the server.
    pub async fn merge_patch(&self, name: &str, patch: &Value) -> Result<T, Error> {
        let (path, what) = self.place("PATCH", Some(name))?;
        let request = Request {
            method: Method::PATCH,
            content_type: "application/merge-patch+json",
            body: body(patch, &what)?,
            repeat: Repeat::Safe,
            conflict_passes: patch.pointer("/metadata/resourceVersion").is_none(),
            ..self.request(path, what)
        };
        self.decoded(request).await
    }

    /// Makes the changes of a list of operations (RFC 6902), all or none.
    pub async fn json_patch(&self, name: &str, operations: &[Value]) -> Result<T, Error> {
        let (path, what) = self.place("PATCH", Some(name))?;
        let request = Request {
            method: Method::PATCH,
            content_type: "application/json-patch+json",
            body: body(&operations, &what)?,
            repeat: Repeat::Unsafe,
            ..self.request(path, what)
        };
        self.decoded(request).await
    }
}

impl<T: Object> Api<T> {
    /// Makes an object and returns it as the server has it.
    ///
    /// `AlreadyExists` with [`Error::maybe_applied`] means that it may be the one made by this very call.
    pub async fn create(&self, object: &T) -> Result<T, Error> {
        let (path, what) = self.place("CREATE", None)?;
        let named = !object.metadata().name.is_empty();
        let request = Request {
            method: Method::POST,
            content_type: JSON,
            body: body(&self.typed(object, &what)?, &what)?,
            repeat: if named { Repeat::Safe } else { Repeat::Unsafe },
            ..self.request(path, what)
        };
        self.decoded(request).await
    }

    /// Puts an object in the place of the one it was read from: it has to have that one's `resourceVersion`, and
    /// the answer is a conflict when somebody else has written since.
    pub async fn replace(&self, object: &T) -> Result<T, Error> {
        let meta = object.metadata();
        let (path, what) = self.place("REPLACE", Some(&meta.name))?;
        if meta.resource_version.is_empty() {
            return Err(Error::request(
                &what,
                "it has no resourceVersion, so it was not read before",
            ));
        }
        let request = Request {
            method: Method::PUT,
            content_type: JSON,
            body: body(&self.typed(object, &what)?, &what)?,
            repeat: Repeat::Safe,
            ..self.request(path, what)
        };
        self.decoded(request).await
    }

    /// Reads an object, changes it and writes it back; again from the start when somebody else was faster, as long
    /// as there is time. The time limit is for all of it together.
    ///
    /// `change` may be called several times, always with the object as it is now. When an answer gets lost, that
    /// object may have this very change already: `change` has to see that.
    pub async fn update<E: From<Error>>(
        &self,
        name: &str,
        mut change: impl FnMut(&mut T) -> Result<(), E>,
    ) -> Result<T, E> {
        let writer = self.with_common_deadline();
        let reader = Api {
            subresource: "",
            ..writer.clone()
        };
        let mut pauses = Pauses::default();
        loop {
            let mut object = reader.get(name).await?;
            change(&mut object)?;
            match writer.replace(&object).await {
                Err(e) if e.is_conflict() => {
                    if !writer.client.pause(&mut pauses).await {
                        return Err(e.into());
                    }
                }
                replaced => return Ok(replaced?),
            }
        }
    }

    /// The object with the two members that every object has and no struct of ours.
    fn typed(&self, object: &T, what: &str) -> Result<Value, Error> {
        let mut value = serde_json::to_value(object)
            .map_err(|e| Error::request(what, format!("it is no JSON: {e}")))?;
        if let Value::Object(members) = &mut value {
            members.insert("apiVersion".into(), json!(self.kind.api_version()));
            members.insert("kind".into(), json!(self.kind.kind));
        }
        Ok(value)
    }
}

/// One object without all but its metadata; from a server that does not know this form, the whole object.
const PARTIAL: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// The same of a list.
const PARTIAL_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

fn body(value: &impl Serialize, what: &str) -> Result<Bytes, Error> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| Error::request(what, format!("it is no JSON: {e}")))
}
