//! Installed plugins, in memory.

use std::cmp::Reverse;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use caisson_core::ids::{Realm, RunId};
use caisson_core::ports::{PluginRow, PluginStore, RunRow, StoreError};

use super::state::State;
use super::{MemoryStore, some};

#[async_trait]
impl PluginStore for MemoryStore {
    async fn put_component(&self, digest: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.open_with_room()?.components.entry(digest.to_owned()).or_insert_with(|| bytes.clone());
        Ok(())
    }

    async fn component(&self, digest: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.open()?.components.get(digest).cloned())
    }

    async fn save_plugins(&self, rows: &[PluginRow]) -> Result<(), StoreError> {
        let mut state = self.open_with_room()?;
        for row in rows {
            state.note_time(row.installed_at);
            if let Some(at) = row.decided_at {
                state.note_time(at);
            }
            let key = (row.realm.clone(), row.package.id.clone(), row.package.digest.clone());
            state.plugins.insert(key, row.clone());
        }
        self.catalog.notify_one();
        Ok(())
    }

    async fn plugin(&self, realm: &Realm, id: &str) -> Result<Vec<PluginRow>, StoreError> {
        let state = self.open()?;
        let versions = state.plugins.values().filter(|row| row.realm == *realm && row.package.id == id);
        let mut versions: Vec<PluginRow> = versions.cloned().collect();
        versions.sort_by(|a, b| (b.installed_at, &b.package.digest).cmp(&(a.installed_at, &a.package.digest)));
        Ok(versions)
    }

    async fn all_plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        Ok(self.open()?.plugins.values().cloned().collect())
    }

    async fn delete_plugin(&self, realm: &Realm, id: &str, digests: &[Arc<str>]) -> Result<(), StoreError> {
        let mut state = self.open()?;
        if let Some(user) = digests.iter().find_map(|digest| state.users(realm, digest).next()) {
            let message =
                format!("open runs need plugin {id}: {}; wait until they have ended, or cancel them", user.id);
            return Err(StoreError::Conflict(message));
        }
        for digest in digests {
            state.plugins.remove(&(realm.clone(), id.to_owned(), digest.to_string()));
            let needed = state.plugins.values().any(|row| row.package.digest == **digest)
                || state.pins.values().any(|pins| pins.contains(digest));
            if !needed {
                state.components.remove(&**digest);
            }
        }
        self.catalog.notify_one();
        Ok(())
    }

    async fn pinned_by(&self, realm: &Realm, digest: &str, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let state = self.open()?;
        let mut users: Vec<&RunRow> = state.users(realm, digest).collect();
        users.sort_by_key(|run| Reverse((run.created_at, &run.id)));
        Ok(some(users.into_iter().map(|run| run.id.clone()), limit))
    }
}

impl State {
    /// Open runs of the realm that need the digest.
    fn users(&self, realm: &Realm, digest: &str) -> impl Iterator<Item = &RunRow> {
        let pinned = self.pins.iter().filter(move |(_, pins)| pins.iter().any(|pin| **pin == *digest));
        pinned.filter_map(|(run, _)| self.runs.get(run)).filter(move |run| run.realm == *realm)
    }
}
