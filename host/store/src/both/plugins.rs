//! Installed plugins, and which open runs need them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::Json;
use caisson_core::ports::{PluginRow, PluginStore, StoreError};

use super::Select;
use super::read::{all, one};
use super::writer::{self, execute};
use super::{Adapter, Connection, rows};
use crate::encode::texts;

/// Runs that a refusal names.
const USERS_NAMED_MAX: i64 = 5;

#[async_trait]
impl PluginStore for Adapter {
    async fn put_component(&self, digest: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let (digest, bytes) = (digest.to_owned(), bytes.clone());
        self.write(move |connection| {
            Box::pin(async move {
                let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
                execute(connection, query!(COMPONENT_INSERT, digest, size, bytes.as_ref())).await
            })
        })
        .await
    }

    async fn component(&self, digest: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(one(&self.readers, query!(COMPONENT, digest), rows::bytes).await?.map(Bytes::from))
    }

    async fn save_plugins(&self, rows: &[PluginRow]) -> Result<(), StoreError> {
        let rows = rows.to_vec();
        self.write(move |connection| {
            Box::pin(async move {
                for row in &rows {
                    let latest = row.installed_at.max(row.decided_at.unwrap_or(row.installed_at));
                    writer::note_time(connection, latest).await?;
                    execute(connection, upsert(row)).await?;
                }
                writer::tell_catalog(connection).await
            })
        })
        .await
    }

    async fn plugin(&self, realm: &Realm, id: &str) -> Result<Vec<PluginRow>, StoreError> {
        let query = query!(PLUGIN, &*realm.tenant, &*realm.environment, id);
        rows::every(&all(&self.readers, query).await?, rows::plugin)
    }

    async fn all_plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        rows::every(&all(&self.readers, query!(PLUGINS)).await?, rows::plugin)
    }

    async fn delete_plugin(&self, realm: &Realm, id: &str, digests: &[Arc<str>]) -> Result<(), StoreError> {
        let (realm, id, digests) = (realm.clone(), id.to_owned(), texts(digests.iter().map(AsRef::as_ref)));
        self.write(move |connection| Box::pin(async move { delete(connection, &realm, &id, &digests).await })).await
    }

    async fn pinned_by(&self, realm: &Realm, digest: &str, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let query = query!(PINNED_BY, &*realm.tenant, &*realm.environment, digest, i64::from(limit));
        rows::every(&all(&self.readers, query).await?, rows::run_id)
    }
}

fn upsert(row: &PluginRow) -> Select<'_> {
    query!(
        PLUGIN_UPSERT,
        row.realm.tenant.as_ref(),
        row.realm.environment.as_ref(),
        row.package.id.as_str(),
        row.package.digest.as_str(),
        row.package.version.as_str(),
        row.status.as_str(),
        Json::of(&row.package).get().to_owned(),
        Json::of(&row.grants).get().to_owned(),
        row.config.get(),
        row.source.as_ref(),
        row.error.as_deref(),
        row.installed_by.as_ref(),
        row.installed_at.0,
        row.decided_by.as_deref(),
        row.decided_at.map(|at| at.0)
    )
}

async fn delete(connection: &mut Connection, realm: &Realm, id: &str, digests: &str) -> Result<(), StoreError> {
    let (tenant, environment) = (&*realm.tenant, &*realm.environment);
    let users = all(&mut *connection, query!(PLUGIN_USERS, tenant, environment, digests, USERS_NAMED_MAX)).await?;
    let users: Vec<RunId> = rows::every(&users, rows::run_id)?;
    if !users.is_empty() {
        let names: Vec<&str> = users.iter().map(RunId::as_str).collect();
        return Err(StoreError::Conflict(format!(
            "open runs need plugin {id}: {}; wait until they have ended, or cancel them",
            names.join(", ")
        )));
    }
    execute(connection, query!(PLUGIN_DELETE, tenant, environment, id, digests)).await?;
    execute(connection, query!(COMPONENTS_DELETE, digests)).await?;
    writer::tell_catalog(connection).await
}
