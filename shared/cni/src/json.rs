//! Reading JSON the way Go's `encoding/json` does, because configurations in the field rely on it.
//!
//! Go matches keys without regard to case (containerd sends `HostPort`), lets the last of several spellings
//! win, takes `null` for "not there" and ignores keys it does not know. serde's derived readers refuse the
//! first three. So a document is read into a [`Value`] that keeps order and duplicates, and a struct is then
//! read from that tree by a deserializer that knows the struct's field names.

mod object;

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::{Deserialize, Serialize, Serializer, forward_to_deserialize_any};

pub use object::Object;

/// A JSON document as it was written: keys in order, duplicates kept.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the six kinds of JSON value")]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

/// Why a document could not be read, with the path to the place: `ipam.ranges[0]: ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    path: String,
    msg: String,
}

/// Reads one document leniently (see the module). Bytes after it are an error.
pub fn from_slice<T: DeserializeOwned>(document: &[u8]) -> Result<T, ReadError> {
    Value::parse(document)?.read()
}

/// Writes a document as the originals do: indented by four spaces, no final newline.
#[expect(
    clippy::expect_used,
    reason = "structs with string keys, written to memory, can't fail"
)]
pub fn pretty(value: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(512);
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
    value.serialize(&mut writer).expect("plain data");
    String::from_utf8(text).expect("serde_json writes UTF-8")
}

/// Writes a document on one line.
#[expect(
    clippy::expect_used,
    reason = "structs with string keys, written to memory, can't fail"
)]
pub fn compact(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

impl Value {
    /// Reads one JSON document. At most 128 levels deep.
    pub fn parse(document: &[u8]) -> Result<Value, ReadError> {
        serde_json::from_slice(document).map_err(|e| ReadError {
            path: String::new(),
            msg: e.to_string(),
        })
    }

    /// Reads a struct from this document leniently (see the module).
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        T::deserialize(self)
    }

    fn unexpected(&self) -> de::Unexpected<'_> {
        match self {
            Value::Null => de::Unexpected::Other("null"),
            Value::Bool(b) => de::Unexpected::Bool(*b),
            Value::Integer(_) => de::Unexpected::Other("a number"),
            Value::Float(f) => de::Unexpected::Float(*f),
            Value::String(s) => de::Unexpected::Str(s),
            Value::Array(_) => de::Unexpected::Seq,
            Value::Object(_) => de::Unexpected::Map,
        }
    }
}

impl ReadError {
    /// The same error, told by one who knows in which member the document is.
    pub fn within(self, key: &str) -> ReadError {
        self.under(key)
    }

    pub(crate) fn under(mut self, place: &str) -> ReadError {
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, place);
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.msg)
        } else {
            write!(f, "{}: {}", self.path, self.msg)
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        ReadError {
            path: String::new(),
            msg: msg.to_string(),
        }
    }

    /// A text in the wrong place may be a secret, and is not repeated.
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Str(_) => de::Unexpected::Other("string"),
            other => other,
        };
        Self::custom(format_args!("invalid type: {found}, expected {expected}"))
    }
}

/// A tree is written as it was read: keys in order, duplicates kept.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Integer(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => serializer.serialize_i64(n),
                (_, Ok(n)) => serializer.serialize_u64(n),
                _ => serializer.serialize_i128(*n),
            },
            Value::Float(n) => serializer.serialize_f64(*n),
            Value::String(s) => serializer.serialize_str(s),
            Value::Array(items) => serializer.collect_seq(items),
            Value::Object(members) => serializer.collect_map(members.iter().map(|(k, v)| (k, v))),
        }
    }
}

/// A tree can hold a tree: members whose shape is somebody else's are kept as they are.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tree;
        impl<'de> Visitor<'de> for Tree {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
                Ok(Value::Bool(b))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
                Ok(Value::Integer(n.into()))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
                Ok(Value::Integer(n.into()))
            }
            fn visit_i128<E>(self, n: i128) -> Result<Value, E> {
                Ok(Value::Integer(n))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
                Ok(Value::Float(n))
            }
            fn visit_str<E>(self, s: &str) -> Result<Value, E> {
                Ok(Value::String(s.to_owned()))
            }
            fn visit_string<E>(self, s: String) -> Result<Value, E> {
                Ok(Value::String(s))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Value::Object(members))
            }
        }
        deserializer.deserialize_any(Tree)
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            // i64 and u64 are what derived readers ask for; a wider number is reported by them as out of range.
            Value::Integer(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => visitor.visit_i64(n),
                (_, Ok(n)) => visitor.visit_u64(n),
                _ => visitor.visit_i128(*n),
            },
            Value::Float(n) => visitor.visit_f64(*n),
            Value::String(s) => visitor.visit_borrowed_str(s),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter(),
                index: 0,
            }),
            Value::Object(members) => visitor.visit_map(Members {
                members: members.iter().map(|(k, v)| (k.as_str(), v)),
                value: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    /// Here the leniency lives: each field takes the last member whose key is its name in any case.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let members: &[(String, Value)] = match self {
            Value::Object(members) => members,
            Value::Null => &[],
            other => return Err(de::Error::invalid_type(other.unexpected(), &"an object")),
        };
        let chosen = fields.iter().filter_map(|field| {
            let named = |(key, _): &&(String, Value)| key.eq_ignore_ascii_case(field);
            let (_, value) = members.iter().rfind(named)?;
            (*value != Value::Null).then_some((*field, value))
        });
        visitor.visit_map(Members {
            members: chosen,
            value: None,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self {
            Value::String(s) => {
                let variant: StrDeserializer<'_, ReadError> = s.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            other => Err(de::Error::invalid_type(other.unexpected(), &"a string")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// Walks an array and knows at which index something went wrong.
struct Items<'de> {
    items: std::slice::Iter<'de, Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        let read = seed.deserialize(item);
        read.map(Some).map_err(|e| e.under(&format!("[{index}]")))
    }
}

/// Walks members and knows under which key something went wrong.
struct Members<'de, I> {
    members: I,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de, I: Iterator<Item = (&'de str, &'de Value)>> MapAccess<'de> for Members<'de, I> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        self.value = self.members.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, ReadError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ReadError> {
        let (key, value) = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(value).map_err(|e| e.under(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Conf {
        name: String,
        range_start: Option<String>,
        mtu: i64,
        inner: Vec<Inner>,
        rest: Value,
    }

    impl Default for Conf {
        fn default() -> Self {
            Conf {
                name: "unset".into(),
                range_start: None,
                mtu: 7,
                inner: vec![],
                rest: Value::Null,
            }
        }
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        a: bool,
    }

    fn read(text: &str) -> Result<Conf, ReadError> {
        from_slice(text.as_bytes())
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_one_wins() {
        let conf = read(r#"{"Name":"a","NAME":"b","rangestart":"x","unknown":[1]}"#).unwrap();
        assert_eq!(conf.name, "b");
        assert_eq!(conf.range_start.as_deref(), Some("x"));
        assert_eq!(read(r#"{"NAME":"b","name":"a"}"#).unwrap().name, "a");
    }

    #[test]
    fn null_is_absent_at_every_depth() {
        let conf =
            read(r#"{"name":null,"mtu":null,"inner":[null,{"a":null}],"rest":null}"#).unwrap();
        assert_eq!((conf.name.as_str(), conf.mtu), ("unset", 7));
        assert_eq!(conf.inner, [Inner { a: false }, Inner { a: false }]);
    }

    #[test]
    fn a_wrong_type_names_the_place() {
        let text = |json| read(json).unwrap_err().to_string();
        assert_eq!(
            text(r#"{"inner":[{"a":true},{"A":3}]}"#),
            "inner[1].a: invalid type: integer `3`, expected a boolean"
        );
        assert!(text(r#"{"mtu":1400.0}"#).starts_with("mtu: invalid type: floating point"));
        assert!(text(r#"{"mtu":99999999999999999999999}"#).starts_with("mtu: "));
        assert_eq!(
            text(r#"{"mtu":"a secret"}"#),
            "mtu: invalid type: string, expected i64"
        );
        assert!(text(r#"[]"#).contains("expected an object"));
    }

    #[test]
    fn malformed_documents_are_refused() {
        for bad in [
            "",
            "{",
            "{}x",
            "nul",
            "\u{feff}{}",
            "{/**/}",
            "{\"a\":\"\u{0}\"}",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&format!("{}{}", "[".repeat(200_000), "]".repeat(200_000))).is_err());
        assert!(from_slice::<Conf>(b"{\"name\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_tree_keeps_order_and_duplicates() {
        let tree: Value = Value::parse(br#"{"b":1,"a":[2.5,"x"],"b":null}"#).unwrap();
        let Value::Object(members) = tree else {
            panic!("an object")
        };
        let keys: Vec<_> = members.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(keys, ["b", "a", "b"]);
    }

    #[test]
    fn a_tree_is_written_as_it_was_read() {
        let text = r#"{"b":1,"a":[2.5,2.0,"<x>",true,[],{}],"b":null,"n":18446744073709551615}"#;
        let tree = Value::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&tree).unwrap(), text);
    }
}
