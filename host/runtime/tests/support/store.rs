//! A store of components in memory that counts how often it is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use caisson_core::ids::{Realm, RunId};
use caisson_core::ports::{PluginRow, PluginStore, StoreError};
use parking_lot::Mutex;

#[derive(Default)]
pub struct Components {
    bytes: Mutex<HashMap<String, Bytes>>,
    asked: AtomicUsize,
}

impl Components {
    pub fn put(&self, digest: &str, bytes: &[u8]) {
        self.bytes.lock().insert(digest.to_owned(), Bytes::copy_from_slice(bytes));
    }

    /// How often bytes were read.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl PluginStore for Components {
    async fn put_component(&self, digest: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.put(digest, bytes);
        Ok(())
    }

    async fn component(&self, digest: &str) -> Result<Option<Bytes>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.bytes.lock().get(digest).cloned())
    }

    async fn save_plugins(&self, _: &[PluginRow]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn plugin(&self, _: &Realm, _: &str) -> Result<Vec<PluginRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn all_plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn delete_plugin(&self, _: &Realm, _: &str, _: &[Arc<str>]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn pinned_by(&self, _: &Realm, _: &str, _: u32) -> Result<Vec<RunId>, StoreError> {
        Ok(Vec::new())
    }
}
