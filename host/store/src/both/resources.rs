//! Agents, tool servers and schemas.

use async_trait::async_trait;
use caisson_core::json::sha256_hex;
use caisson_core::ports::{NewResource, ResourceKey, ResourceRow, Resources, StoreError};
use caisson_core::time::Timestamp;

use super::read::{all, one};
use super::writer::execute;
use super::{Adapter, Connection, commit, error, rows, writer};

#[async_trait]
impl Resources for Adapter {
    async fn save_resource(&self, new: NewResource) -> Result<(ResourceRow, bool), StoreError> {
        self.write(move |connection| Box::pin(save(connection, new))).await
    }

    async fn set_resource(&self, key: &ResourceKey, enabled: bool, at: Timestamp) -> Result<bool, StoreError> {
        let key = key.clone();
        self.write(move |connection| {
            Box::pin(async move {
                let (tenant, environment) = (&*key.realm.tenant, &*key.realm.environment);
                let query = query!(
                    RESOURCE_SET,
                    tenant,
                    environment,
                    key.kind.as_str(),
                    key.name.as_ref(),
                    i64::from(enabled),
                    at.0
                );
                let changed = query.execute(&mut *connection).await.map_err(|e| error::of(&e))?.rows_affected() > 0;
                if changed {
                    changed_at(connection, at).await?;
                }
                Ok(changed || in_force(connection, &key).await?.is_some())
            })
        })
        .await
    }

    async fn resource(&self, key: &ResourceKey, number: Option<u64>) -> Result<Option<ResourceRow>, StoreError> {
        let (tenant, environment) = (&*key.realm.tenant, &*key.realm.environment);
        let (kind, name) = (key.kind.as_str(), &*key.name);
        let query = match number {
            None => query!(RESOURCE, tenant, environment, kind, name),
            Some(number) => query!(RESOURCE_AT, tenant, environment, kind, name, number.cast_signed()),
        };
        one(&self.readers, query, rows::resource).await
    }

    async fn resource_versions(&self, key: &ResourceKey) -> Result<Vec<ResourceRow>, StoreError> {
        let (tenant, environment) = (&*key.realm.tenant, &*key.realm.environment);
        let query = query!(RESOURCE_VERSIONS, tenant, environment, key.kind.as_str(), key.name.as_ref());
        rows::every(&all(&self.readers, query).await?, rows::resource)
    }

    async fn all_resources(&self) -> Result<Vec<ResourceRow>, StoreError> {
        rows::every(&all(&self.readers, query!(RESOURCES)).await?, rows::resource)
    }

    async fn resources_mark(&self) -> Result<u64, StoreError> {
        Ok(one(&self.readers, query!(RESOURCES_MARK), rows::count).await?.unwrap_or(0))
    }
}

/// Whoever keeps a copy of the resources has to look again.
async fn changed_at(connection: &mut Connection, at: Timestamp) -> Result<(), StoreError> {
    execute(connection, query!(RESOURCES_MARK_RAISE)).await?;
    writer::note_time(connection, at).await?;
    writer::tell_catalog(connection).await
}

async fn in_force(connection: &mut Connection, key: &ResourceKey) -> Result<Option<ResourceRow>, StoreError> {
    let (tenant, environment) = (&*key.realm.tenant, &*key.realm.environment);
    one(connection, query!(RESOURCE, tenant, environment, key.kind.as_str(), key.name.as_ref()), rows::resource).await
}

async fn save(connection: &mut Connection, new: NewResource) -> Result<(ResourceRow, bool), StoreError> {
    let (tenant, environment) = (&*new.key.realm.tenant, &*new.key.realm.environment);
    let (kind, name) = (new.key.kind.as_str(), &*new.key.name);
    commit::lock_name(connection, &new.key.realm, [kind, name]).await?;
    let digest = sha256_hex(new.source.as_bytes());
    let query = query!(RESOURCE_NUMBER, tenant, environment, kind, name, digest.as_str());
    let known = one(&mut *connection, query, rows::count).await?;
    let number = match known {
        Some(number) => number,
        None => {
            let query = query!(RESOURCE_NEWEST, tenant, environment, kind, name);
            let newest = one(&mut *connection, query, rows::number).await?.flatten();
            let number = newest.unwrap_or(0) + 1;
            let query = query!(
                RESOURCE_INSERT,
                tenant,
                environment,
                kind,
                name,
                number.cast_signed(),
                digest.as_str(),
                new.source.as_ref(),
                new.created_by.as_ref(),
                new.at.0
            );
            execute(connection, query).await?;
            number
        }
    };
    let query =
        query!(RESOURCE_IN_FORCE, tenant, environment, kind, name, number.cast_signed(), new.file.as_deref(), new.at.0);
    if query.execute(&mut *connection).await.map_err(|e| error::of(&e))?.rows_affected() > 0 {
        changed_at(connection, new.at).await?;
    }
    let row = in_force(connection, &new.key).await?;
    let row = row.ok_or_else(|| StoreError::Other(format!("resource '{name}' was saved and is not there")))?;
    Ok((row, known.is_none()))
}
