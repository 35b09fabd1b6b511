//! Agents, tool servers and schemas.

use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::json::sha256_hex;
use caisson_core::ports::{NewResource, ResourceKey, ResourceRow, Resources, StoreError};
use caisson_core::time::Timestamp;

use super::MemoryStore;
use super::state::State;

/// A resource and all its versions, oldest first. What is of the resource is that of every row.
#[derive(Debug, Default)]
pub(super) struct Kept {
    versions: Vec<ResourceRow>,
    /// The place of the one in force.
    current: usize,
}

impl Kept {
    /// Changes what is of the resource; says whether anything did.
    fn change(&mut self, current: usize, enabled: bool, file: Option<&Arc<str>>, at: Timestamp) -> bool {
        let before = self.versions.first().map(|row| (self.current, row.enabled, row.file.clone()));
        let changed = before != Some((current, enabled, file.cloned()));
        if changed {
            self.current = current;
            for row in &mut self.versions {
                row.enabled = enabled;
                row.file = file.cloned();
                row.updated_at = at;
            }
        }
        changed
    }
}

impl State {
    fn save_resource(&mut self, new: NewResource) -> (ResourceRow, bool) {
        let kept = self.resources.entry(new.key.clone()).or_default();
        let digest: Arc<str> = sha256_hex(new.source.as_bytes()).into();
        let known = kept.versions.iter().position(|row| row.digest == digest);
        let place = known.unwrap_or(kept.versions.len());
        if known.is_none() {
            kept.versions.push(ResourceRow {
                key: new.key,
                number: place as u64 + 1,
                digest,
                source: new.source,
                enabled: true,
                file: None,
                created_by: new.created_by,
                created_at: new.at,
                updated_at: new.at,
            });
        }
        let changed = kept.change(place, true, new.file.as_ref(), new.at);
        let row = kept.versions[place].clone();
        self.resources_mark += u64::from(changed || known.is_none());
        self.note_time(new.at);
        (row, known.is_none())
    }
}

#[async_trait]
impl Resources for MemoryStore {
    async fn save_resource(&self, new: NewResource) -> Result<(ResourceRow, bool), StoreError> {
        let saved = self.open_with_room()?.save_resource(new);
        self.catalog.notify_one();
        Ok(saved)
    }

    async fn set_resource(&self, key: &ResourceKey, enabled: bool, at: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.open_with_room()?;
        let Some(kept) = state.resources.get_mut(key) else { return Ok(false) };
        let file = kept.versions.first().and_then(|row| row.file.clone());
        let changed = kept.change(kept.current, enabled, file.as_ref(), at);
        state.resources_mark += u64::from(changed);
        self.catalog.notify_one();
        Ok(true)
    }

    async fn resource(&self, key: &ResourceKey, number: Option<u64>) -> Result<Option<ResourceRow>, StoreError> {
        let state = self.open()?;
        let Some(kept) = state.resources.get(key) else { return Ok(None) };
        Ok(match number {
            None => kept.versions.get(kept.current).cloned(),
            Some(number) => kept.versions.iter().find(|row| row.number == number).cloned(),
        })
    }

    async fn resource_versions(&self, key: &ResourceKey) -> Result<Vec<ResourceRow>, StoreError> {
        let state = self.open()?;
        Ok(state.resources.get(key).map(|kept| kept.versions.iter().rev().cloned().collect()).unwrap_or_default())
    }

    async fn all_resources(&self) -> Result<Vec<ResourceRow>, StoreError> {
        let state = self.open()?;
        Ok(state.resources.values().filter_map(|kept| kept.versions.get(kept.current).cloned()).collect())
    }

    async fn resources_mark(&self) -> Result<u64, StoreError> {
        Ok(self.open()?.resources_mark)
    }
}
