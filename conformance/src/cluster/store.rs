//! The objects, their history, and what readers ask of them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::manifest;
use super::path::Target;
use super::selector::Selector;
use super::status::Status;

/// Group, resource, namespace, name: what an object is found by, whatever version of its group is asked for.
pub(super) type Key = (String, String, String, String);

/// All objects. Everything happens under one lock, so that revisions are a line.
#[derive(Debug)]
pub(super) struct Store {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
    /// Group and resource of a CustomResourceDefinition that has the subresource `status`.
    with_status: HashMap<(String, String), bool>,
    /// Told the revision of every change.
    news: watch::Sender<u64>,
}

/// One change, for those who watch.
#[derive(Clone, Debug)]
struct Change {
    revision: u64,
    key: Key,
    before: Option<Value>,
    after: Option<Value>,
}

/// One page of a collection.
#[derive(Debug)]
pub(super) struct Page<'query> {
    pub(super) selector: &'query Selector,
    /// 0 for no limit.
    pub(super) limit: usize,
    /// The token of the page before.
    pub(super) after: Option<&'query str>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            // Never 0: clients read that as "any".
            revision: 1,
            objects: BTreeMap::new(),
            history: Vec::new(),
            with_status: HashMap::new(),
            news: watch::Sender::new(1),
        }
    }

    /// For waiting on changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(super) fn find(&self, target: &Target) -> Option<&Value> {
        self.objects.get(&key(target))
    }

    /// The object as a reader of this version of the group gets it.
    pub(super) fn get(&self, target: &Target) -> Result<Value, Status> {
        let found = self.find(target).ok_or_else(|| Status::not_found(target))?;
        Ok(shown(target, found))
    }

    /// The document of a LIST.
    pub(super) fn list(&self, target: &Target, page: &Page<'_>) -> Result<Value, Status> {
        let start = page.after.map(continued).transpose()?;
        let of_page = |(key, object): &(&Key, &Value)| {
            start
                .as_ref()
                .is_none_or(|start| (&key.2, &key.3) > (&start.0, &start.1))
                && page.selector.matches(object)
        };
        let mut chosen: Vec<_> = self.collection(target).filter(of_page).collect();
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if page.limit > 0 && chosen.len() > page.limit {
            metadata["remainingItemCount"] = (chosen.len() - page.limit).into();
            chosen.truncate(page.limit);
            if let Some((key, _)) = chosen.last() {
                metadata["continue"] = format!("{}/{}", key.2, key.3).into();
            }
        }
        let items: Vec<_> = chosen
            .iter()
            .map(|(_, object)| shown(target, object))
            .collect();
        let kind = items
            .first()
            .and_then(|item| item["kind"].as_str())
            .map_or_else(|| manifest::kind_of(&target.resource), str::to_owned);
        Ok(json!({
            "apiVersion": target.api_version(),
            "kind": format!("{kind}List"),
            "metadata": metadata,
            "items": items,
        }))
    }

    /// The objects of a collection, over all namespaces when none is named.
    pub(super) fn collection<'a>(
        &'a self,
        target: &'a Target,
    ) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.objects
            .iter()
            .filter(move |(key, _)| belongs(key, target))
    }

    /// The watch events after a revision, each with the revision it leads to. `None` begins with everything that is there.
    ///
    /// # Errors
    /// 410 when a revision is asked for that this server has not reached: it has begun anew since.
    pub(super) fn events(
        &self,
        target: &Target,
        selector: &Selector,
        since: Option<u64>,
    ) -> Result<(Vec<Value>, u64), Status> {
        let event =
            |kind: &str, object: &Value| json!({"type": kind, "object": shown(target, object)});
        let Some(since) = since else {
            let there = self
                .collection(target)
                .filter(|(_, object)| selector.matches(object));
            let events = there.map(|(_, object)| event("ADDED", object)).collect();
            return Ok((events, self.revision));
        };
        if since > self.revision {
            return Err(Status::new(
                410,
                format!("too old resource version: {since}"),
            ));
        }
        let mut events = Vec::new();
        let begin = self
            .history
            .partition_point(|change| change.revision <= since);
        for change in &self.history[begin..] {
            if !belongs(&change.key, target) {
                continue;
            }
            let chosen =
                |object: &Option<Value>| object.as_ref().is_some_and(|o| selector.matches(o));
            match (chosen(&change.before), chosen(&change.after)) {
                (false, true) => events.extend(change.after.iter().map(|o| event("ADDED", o))),
                (true, true) => events.extend(change.after.iter().map(|o| event("MODIFIED", o))),
                (true, false) => events.extend(change.before.iter().map(|before| {
                    let mut last = change.after.as_ref().unwrap_or(before).clone();
                    last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                    event("DELETED", &last)
                })),
                (false, false) => {}
            }
        }
        Ok((events, self.revision))
    }

    /// Puts a new state of an object down, or removes it, and tells those who watch. Returns the object as it is now.
    pub(super) fn commit(&mut self, target: &Target, object: Option<Value>) -> Option<Value> {
        let key = key(target);
        self.revision += 1;
        let after = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = self.revision.to_string().into();
            object
        });
        if target.resource == "customresourcedefinitions" {
            self.learn(after.as_ref());
        }
        let before = match &after {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        self.history.push(Change {
            revision: self.revision,
            key,
            before,
            after: after.clone(),
        });
        self.news.send_replace(self.revision);
        after
    }

    fn learn(&mut self, definition: Option<&Value>) {
        let Some(spec) = definition.map(|definition| &definition["spec"]) else {
            return;
        };
        if let (Some(group), Some(plural)) =
            (spec["group"].as_str(), spec["names"]["plural"].as_str())
        {
            let versions = spec["versions"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let has = |part: &Value| part["subresources"]["status"].is_object();
            let has = has(spec) || versions.iter().any(has);
            self.with_status.insert((group.into(), plural.into()), has);
        }
    }

    /// Whether the main endpoint of this resource leaves the status alone, because it has an endpoint of its own.
    pub(super) fn status_is_apart(&self, target: &Target) -> bool {
        if target.is_custom() {
            let key = (target.group.clone(), target.resource.clone());
            self.with_status.get(&key).copied().unwrap_or(false)
        } else {
            matches!(
                target.resource.as_str(),
                "pods" | "nodes" | "namespaces" | "deployments" | "daemonsets"
            )
        }
    }

    /// A number that can't be guessed and did not come before.
    pub(super) fn random(&self) -> u64 {
        RandomState::new().hash_one(self.revision)
    }
}

/// What an object is found by.
pub(super) fn key(target: &Target) -> Key {
    (
        target.group.clone(),
        target.resource.clone(),
        target.namespace.clone(),
        target.name.clone(),
    )
}

fn belongs(key: &Key, target: &Target) -> bool {
    key.0 == target.group
        && key.1 == target.resource
        && (target.namespace.is_empty() || key.2 == target.namespace)
        // A watch of one object by its path.
        && (target.name.is_empty() || key.3 == target.name)
}

/// Objects are kept once and shown in the version that is asked for.
fn shown(target: &Target, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = target.api_version().into();
    object
}

fn continued(token: &str) -> Result<(String, String), Status> {
    token
        .split_once('/')
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
        .ok_or_else(|| Status::new(400, "continue key is not valid"))
}
