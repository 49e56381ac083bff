//! A JSON object that is changed member by member: what nobody touches stays as it was written.
//!
//! A runtime adds a few members to configurations that belong to others. Read into numbers and written again,
//! theirs would change (`10000000000000000000000`, `1.50`), so a member is kept as the text it came in.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::{ReadError, Value};

/// The members of an object in their order, duplicates kept, each value as text.
///
/// Keys are found as Go finds them: in any case, the last one wins, and `null` is absent.
#[derive(Debug, Clone, Default)]
pub struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// Reads a document that is one object.
    pub fn parse(document: &[u8]) -> Result<Object, ReadError> {
        serde_json::from_slice(document).map_err(|e| unreadable(&e, "an object"))
    }

    /// The text of a member; `None` when it is absent or `null`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rfind(|(k, _)| k.eq_ignore_ascii_case(key))?;
        let text = value.get();
        (text != "null").then_some(text)
    }

    /// A member as a tree; [`Value::Null`] when it is absent.
    ///
    /// Error: it is deeper than a tree may be.
    pub fn value(&self, key: &str) -> Result<Value, ReadError> {
        let text = self.get(key).unwrap_or("null");
        Value::parse(text.as_bytes()).map_err(|e| e.under(key))
    }

    /// A tree of these members only, so that nobody has to understand the others.
    ///
    /// Error: one of them is deeper than a tree may be, or a number beyond all bounds.
    pub fn pick(&self, keys: &[&str]) -> Result<Value, ReadError> {
        let member = |key: &&str| Ok(((*key).to_owned(), self.value(key)?));
        keys.iter()
            .map(member)
            .collect::<Result<_, _>>()
            .map(Value::Object)
    }

    /// A member that is an object itself; an empty one when it is absent.
    ///
    /// Error: it is something else.
    pub fn object(&self, key: &str) -> Result<Object, ReadError> {
        let text = self.get(key).unwrap_or("{}");
        Object::parse(text.as_bytes()).map_err(|e| e.under(key))
    }

    /// A member that is a list, item by item; an empty one when it is absent.
    ///
    /// Error: it is something else.
    pub fn array(&self, key: &str) -> Result<Vec<Box<RawValue>>, ReadError> {
        let text = self.get(key).unwrap_or("[]");
        serde_json::from_str(text).map_err(|e| unreadable(&e, "a list").under(key))
    }

    /// Gives a member a value, in the place of what had its key in any case, or at the end.
    #[expect(
        clippy::expect_used,
        reason = "plain data with string keys, written to memory, can't fail"
    )]
    pub fn set(&mut self, key: &str, value: &impl Serialize) {
        let value = serde_json::value::to_raw_value(value).expect("plain data");
        let named = |(k, _): &(String, Box<RawValue>)| k.eq_ignore_ascii_case(key);
        let place = self.0.iter().position(named).unwrap_or(self.0.len());
        self.0.retain(|member| !named(member));
        self.0.insert(place, (key.to_owned(), value));
    }

    /// Takes out every member of this key.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| !k.eq_ignore_ascii_case(key));
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values as text, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.get()))
    }

    /// The keys that each have a value, `null` left out.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let present = self.members().filter(|(_, text)| *text != "null");
        present.map(|(key, _)| key)
    }
}

/// A text in place of what is expected may be a secret, and is not repeated.
fn unreadable(e: &serde_json::Error, expected: &str) -> ReadError {
    let msg = match e.is_data() {
        true => format!("invalid type, expected {expected}"),
        false => e.to_string(),
    };
    ReadError {
        path: String::new(),
        msg,
    }
}

/// Two objects are equal when they have the same members in the same order with the same text.
impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        self.members().eq(other.members())
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::compact(self))
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// An item of a list is read where the list is somebody's own text; its text has to be an object's.
impl TryFrom<&RawValue> for Object {
    type Error = ReadError;

    fn try_from(text: &RawValue) -> Result<Object, ReadError> {
        Object::parse(text.get().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        Object::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_not_touched_stays_as_it_was_written() {
        let mut conf = object(
            r#"{ "b" : 1.50, "n":123456789012345678901234567890, "a":{"x" :[1e3]}, "u":"\u00e4\/" }"#,
        );
        conf.set("name", &"net");
        let text = conf.to_string();
        assert_eq!(
            text,
            r#"{"b":1.50,"n":123456789012345678901234567890,"a":{"x" :[1e3]},"u":"\u00e4\/","name":"net"}"#
        );
    }

    #[test]
    fn a_member_that_is_set_replaces_every_spelling() {
        let mut conf = object(r#"{"Name":"a","type":"t","NAME":"b"}"#);
        assert_eq!(conf.get("name"), Some("\"b\""));
        conf.set("name", &"c");
        assert_eq!(conf.to_string(), r#"{"name":"c","type":"t"}"#);
        conf.remove("TYPE");
        assert_eq!(conf.to_string(), r#"{"name":"c"}"#);
    }

    #[test]
    fn null_is_absent() {
        let conf = object(r#"{"args":null,"a":[1]}"#);
        assert_eq!(conf.get("args"), None);
        assert!(conf.object("args").unwrap().is_empty());
        assert_eq!(conf.value("args").unwrap(), Value::Null);
        assert_eq!(conf.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn another_kind_of_value_is_told_with_its_place() {
        let conf = object(r#"{"args":"a secret","plugins":{}}"#);
        let text = conf.object("args").unwrap_err().to_string();
        assert_eq!(text, "args: invalid type, expected an object");
        let text = conf.array("plugins").unwrap_err().to_string();
        assert_eq!(text, "plugins: invalid type, expected a list");
        for bad in ["", "null", "[]", "{}x", "{"] {
            assert!(Object::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
