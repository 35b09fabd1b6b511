//! Components' bytes, and the files in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use caisson_core::ports::{PluginStore, StoreError};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::package;

/// Where components' bytes are.
pub(crate) struct Components {
    /// Built-in ones and, without a store, those that somebody prepared.
    held: Mutex<HashMap<Arc<str>, Bytes>>,
    store: Option<Arc<dyn PluginStore>>,
}

impl Components {
    pub(crate) fn new(store: Option<Arc<dyn PluginStore>>) -> Self {
        Self { held: Mutex::default(), store }
    }

    /// Keeps bytes that are in no store.
    pub(crate) fn hold(&self, digest: &str, bytes: Bytes) {
        self.held.lock().insert(digest.into(), bytes);
    }

    pub(crate) fn has_store(&self) -> bool {
        self.store.is_some()
    }

    pub(crate) async fn get(&self, digest: &str) -> Result<Option<Bytes>, StoreError> {
        if let Some(bytes) = self.held.lock().get(digest) {
            return Ok(Some(bytes.clone()));
        }
        match &self.store {
            Some(store) => store.component(digest).await,
            None => Ok(None),
        }
    }
}

/// The files of one package, read at the first use: most plugins have none.
pub(crate) struct Assets {
    digest: Arc<str>,
    components: Arc<Components>,
    files: OnceCell<BTreeMap<String, Vec<u8>>>,
}

/// Why files cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssetsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the bytes of component {0} are gone")]
    Gone(Arc<str>),
    #[error(transparent)]
    Package(#[from] package::Error),
}

impl Assets {
    pub(crate) fn new(digest: Arc<str>, components: Arc<Components>) -> Self {
        Self { digest, components, files: OnceCell::new() }
    }

    pub(crate) async fn read(&self, name: &str) -> Result<Option<&[u8]>, AssetsError> {
        let files = self
            .files
            .get_or_try_init(async || match self.components.get(&self.digest).await? {
                Some(bytes) => Ok::<_, AssetsError>(package::assets(&bytes)?),
                None => Err(AssetsError::Gone(Arc::clone(&self.digest))),
            })
            .await?;
        Ok(files.get(name).map(Vec::as_slice))
    }
}
