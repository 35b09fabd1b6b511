//! What the capabilities that keep or record something share.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caisson_core::error::{Category, Failure};
use caisson_core::ports::StoreError;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::journal::Ended;

/// Between tries while the store cannot be read. The entry's own time ends them.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Bytes in a record: text where they are text, which most are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form<T> {
    Text(T),
    Base64(T),
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Form::Text(text).serialize(serializer),
            Err(_) => Form::Base64(&*STANDARD.encode(&self.0)).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::<String>::deserialize(deserializer)? {
            Form::Text(text) => Ok(Self(text.into_bytes())),
            Form::Base64(text) => STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// Reads from the store; waits while it cannot be reached.
pub(super) async fn read<'a, T>(read: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>) -> wasmtime::Result<T> {
    let mut pause = RETRY_MIN;
    loop {
        match read().await {
            Ok(value) => return Ok(value),
            Err(error @ (StoreError::Full(_) | StoreError::Locked(_) | StoreError::Other(_))) => {
                tracing::warn!(%error, "the store cannot be read yet");
            }
            Err(error) => {
                let message = format!("what the plugin keeps cannot be read: {error}");
                return Err(Ended(Failure::new(Category::ActionError, "STORE_UNREADABLE", message)).into());
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Whether a name of the guest's may be kept and shown: so many bytes, and nothing that a terminal would obey.
pub(super) fn is_name(name: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&name.len()) && !name.contains(char::is_control)
}
