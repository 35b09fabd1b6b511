//! From stored payloads to the values that clients see.

use std::collections::{BTreeSet, HashMap};

use caisson_core::json::{BlobRef, INLINE_BYTES_MAX, Json, Payload};
use caisson_core::ports::{Store, StoreError};
use serde_json::json;

use super::wire::Any;

/// Large values, as far as they were fetched.
#[derive(Default)]
pub struct Values(HashMap<BlobRef, Json>);

impl Values {
    /// None: large values are shown as `{"$truncated": true, "sizeBytes": n}`. For lists and live events.
    pub fn short() -> Self {
        Self::default()
    }

    /// All that these payloads refer to, with one question to the store, or none.
    pub async fn full<'a>(
        store: &dyn Store,
        payloads: impl IntoIterator<Item = &'a Payload>,
    ) -> Result<Self, StoreError> {
        let wanted: BTreeSet<_> = payloads
            .into_iter()
            .filter_map(|payload| match payload {
                Payload::Inline(_) => None,
                Payload::Stored(blob) => Some(blob.clone()),
            })
            .collect();
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        Ok(Self(store.blobs(&wanted).await?.into_iter().map(|blob| (blob.id, blob.json)).collect()))
    }

    /// The value, or what stands for it.
    pub fn show(&self, payload: &Payload) -> Any {
        match payload {
            Payload::Inline(json) => Any(json.clone()),
            Payload::Stored(blob) => Any(self.0.get(blob).cloned().unwrap_or_else(|| truncated(blob.size))),
        }
    }

    /// The value, or `null`.
    pub fn show_optional(&self, payload: Option<&Payload>) -> Any {
        payload.map_or_else(Any::null, |payload| self.show(payload))
    }
}

/// A value as lists show it.
pub fn shortened(json: &Json) -> Any {
    if json.get().len() <= INLINE_BYTES_MAX { Any(json.clone()) } else { Any(truncated(json.get().len() as u64)) }
}

fn truncated(size: u64) -> Json {
    Json::of(&json!({"$truncated": true, "sizeBytes": size}))
}
