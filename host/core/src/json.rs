//! JSON that travels as exact bytes, and the payloads that are stored once.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::ids::hex;

/// A JSON text, valid, shared, never re-serialised on its way through.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// Checks that the text is one JSON value and keeps its bytes.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(|raw| Self(Arc::from(raw)))
    }

    /// The JSON text of anything that serialises to JSON.
    ///
    /// # Panics
    /// If the value cannot be serialised (a map with keys that are not text): a fault of the caller.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        let raw = serde_json::value::to_raw_value(value).expect("value serialises to JSON");
        Self(Arc::from(raw))
    }

    /// `null`.
    pub fn null() -> Self {
        Self::of(&())
    }

    /// The text, byte for byte.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The parsed value.
    ///
    /// # Panics
    /// Never for a text nested less deeply than serde_json allows, which `parse` checked.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.get()).expect("a Json holds valid JSON")
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
