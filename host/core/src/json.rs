//! JSON that travels as exact bytes, and the payloads that are stored once.

mod plain;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::ids::hex;

/// Lists and objects in each other, at most: what `serde_json` reads into a [`Value`]. The raw text alone would be accepted at any depth.
const DEPTH_MAX: usize = 127;

/// A JSON text, valid, not too deep, shared, never re-serialised on its way through.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Arc<RawValue>);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if depth(raw.get()) > DEPTH_MAX {
            return Err(serde::de::Error::custom(format!("lists and objects are nested more than {DEPTH_MAX} deep")));
        }
        Ok(Self(Arc::from(raw)))
    }
}

/// Lists and objects in each other that a user's value may have, at most: as deep as a definition. It leaves room for what stands around a value in
/// events, rows and scopes, so that all of them can be read back.
pub const VALUE_DEPTH_MAX: usize = 64;

/// How deeply lists and objects are nested in a valid JSON text.
pub fn depth(text: &str) -> usize {
    let (mut open, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' if !quoted => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl Json {
    /// Checks that the text is one JSON value, not nested deeper than a [`Value`] may be, and keeps its bytes.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        let text = match Self::plain(text.into()) {
            Ok(json) => return Ok(json),
            Err(text) => text,
        };
        if depth(&text) > DEPTH_MAX {
            return Err(serde::de::Error::custom(format!("lists and objects are nested more than {DEPTH_MAX} deep")));
        }
        RawValue::from_string(text).map(|raw| Self(Arc::from(raw)))
    }

    /// Takes a text that is easily seen to be JSON which any reader can read as a value; else gives it back, for [`Json::parse`] to decide.
    #[expect(unsafe_code, reason = "a second reading would cost more than the first")]
    pub fn plain(text: String) -> Result<Self, String> {
        if !plain::is_plain(&text) {
            return Err(text);
        }
        // SAFETY: it is one well-formed value without space around it.
        let raw = unsafe { RawValue::from_string_unchecked(text) };
        Ok(Self(Arc::from(raw)))
    }

    /// The JSON text of anything that serialises to JSON.
    ///
    /// # Panics
    /// If the value cannot be serialised (a map with keys that are not text): a fault of the caller.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        let raw = serde_json::value::to_raw_value(value).expect("value serialises to JSON");
        Self(Arc::from(raw))
    }

    /// The text of something that this crate has just serialised: valid by construction, and as deep as its parts were allowed to be.
    pub(crate) fn own(text: String) -> Self {
        Self(Arc::from(RawValue::from_string(text).expect("our own JSON is valid")))
    }

    /// `null`.
    pub fn null() -> Self {
        Self::of(&())
    }

    /// The text, byte for byte.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The parsed value. A text that is JSON by its grammar and still no value (half of a surrogate pair, a number beyond all doubles) is given
    /// as that text: the API and the plugin host refuse such texts, so this is the last line, not the first.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.get()).unwrap_or_else(|_| Value::String(self.get().to_owned()))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}
impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self::of(value)
    }
}

/// Values up to this size stand in the row that mentions them; larger ones are stored once, by hash.
/// 4 KiB is one database page: below it a second row costs more than it saves.
pub const INLINE_BYTES_MAX: usize = 4096;

/// A JSON value as events and state hold it. Written `{"json": …}` or `{"sha256": …, "size": …}`, so that a
/// user's own value can never look like a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PayloadForm", into = "PayloadForm")]
pub enum Payload {
    /// A value of at most [`INLINE_BYTES_MAX`] bytes.
    Inline(Json),
    /// A large value, stored elsewhere under its hash.
    Stored(BlobRef),
}

/// A plain struct: `RawValue` cannot be read through serde's untagged enums.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PayloadForm {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    json: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// `null` is a value, not an absence.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl From<Payload> for PayloadForm {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Inline(json) => Self { json: Some(json), sha256: None, size: None },
            Payload::Stored(BlobRef { sha256, size }) => Self { json: None, sha256: Some(sha256), size: Some(size) },
        }
    }
}

impl TryFrom<PayloadForm> for Payload {
    type Error = &'static str;
    fn try_from(form: PayloadForm) -> Result<Self, Self::Error> {
        match form {
            PayloadForm { json: Some(json), sha256: None, size: None } => Ok(Self::Inline(json)),
            PayloadForm { json: None, sha256: Some(sha256), size: Some(size) } => {
                Ok(Self::Stored(BlobRef { sha256, size }))
            }
            PayloadForm { .. } => Err("a payload is either json, or sha256 and size"),
        }
    }
}

/// The name of a stored value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobRef {
    /// SHA-256 of the bytes, lower-case hexadecimal.
    pub sha256: Arc<str>,
    /// Length in bytes.
    pub size: u64,
}

/// A large value on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub id: BlobRef,
    /// Its bytes.
    pub json: Json,
}

impl Payload {
    /// Splits a value into what is kept in place and, if it is large, the blob to store.
    pub fn new(json: Json) -> (Self, Option<Blob>) {
        if json.get().len() <= INLINE_BYTES_MAX {
            return (Self::Inline(json), None);
        }
        let id = BlobRef { sha256: sha256_hex(json.get().as_bytes()).into(), size: json.get().len() as u64 };
        (Self::Stored(id.clone()), Some(Blob { id, json }))
    }

    /// The value if it stands in place.
    pub fn inline(&self) -> Option<&Json> {
        match self {
            Self::Inline(json) => Some(json),
            Self::Stored(_) => None,
        }
    }

    /// Length of the value in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(json) => json.get().len() as u64,
            Self::Stored(blob) => blob.size,
        }
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_deep_for_a_value_is_no_json() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse(nested(DEPTH_MAX)).expect("fits").value().is_array());
        assert!(Json::parse(nested(DEPTH_MAX + 1)).is_err());
        assert!(serde_json::from_str::<Json>(&nested(100_000)).is_err());
        let text = format!("\"{}\\\"[\"", "[".repeat(1000));
        assert!(Json::parse(text).expect("brackets in a text are text").value().is_string());
    }

    #[test]
    fn a_text_that_is_json_and_no_value_does_not_panic() {
        for text in [r#""\ud800""#, "1e999"] {
            assert_eq!(Json::parse(text).expect("grammar").value(), Value::String(text.to_owned()));
        }
    }

    #[test]
    fn a_payload_keeps_null_and_refuses_anything_else_than_its_two_forms() {
        for text in [r#"{"json":null}"#, r#"{"json":{"b":1.0,"a":1e2}}"#, r#"{"sha256":"ab","size":5000}"#] {
            let payload: Payload = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&payload).expect(text), text);
        }
        for text in ["{}", r#"{"json":1,"size":2}"#, r#"{"other":1}"#, r#"{"sha256":"ab"}"#] {
            assert!(serde_json::from_str::<Payload>(text).is_err(), "{text}");
        }
    }
}
