//! Files of the plugin's own package: always granted, because nobody else's can be named. Not journaled: a digest's
//! files never change.

use std::sync::Arc;
use std::time::Duration;

use caisson_core::error::{Category, Failure};

use crate::assets::AssetsError;
use crate::bindings::caisson::step::assets::Host;
use crate::journal::Ended;
use crate::state::State;

/// Between tries while the store cannot be read. The entry's own time ends them.
const PAUSE: Duration = Duration::from_millis(100);

impl Host for State {
    async fn read(&mut self, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.count()?;
        let assets = Arc::clone(&self.assets);
        loop {
            match assets.read(&name).await {
                Ok(file) => return Ok(file.map(<[u8]>::to_vec)),
                Err(AssetsError::Store(error)) => tracing::warn!(%error, "files of a package cannot be read yet"),
                Err(error) => {
                    let failure = Failure::new(Category::ActionError, "PLUGIN_NOT_LOADED", error.to_string());
                    return Err(Ended(failure).into());
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
