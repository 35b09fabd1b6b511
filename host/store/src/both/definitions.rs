//! Workflows and their revisions.

use caisson_core::ids::Realm;
use caisson_core::json::sha256_hex;
use caisson_core::ports::{
    Cursor, DefinitionFilter, DefinitionRow, NewVersion, Page, PageRequest, RunStats, StoreError, VersionRow,
};
use caisson_core::time::Timestamp;

use super::read::{all, fetch_size, one};
use super::{Adapter, Connection, commit, error, rows, writer};

impl Adapter {
    pub(super) async fn list_definitions(
        &self,
        realm: &Realm,
        filter: &DefinitionFilter,
        page: &PageRequest,
    ) -> Result<Page<(DefinitionRow, VersionRow)>, StoreError> {
        let after = page.after()?.unwrap_or_default();
        let query = query!(
            DEFINITIONS,
            realm.tenant.as_ref(),
            realm.environment.as_ref(),
            after.id,
            filter.enabled.map(i64::from),
            filter.search.as_deref(),
            fetch_size(page)
        );
        let found = rows::every(&all(&self.readers, query).await?, rows::definition_in_force)?;
        Ok(Page::cut(found, page, |(definition, _)| Cursor::new(0, definition.id.as_ref())))
    }

    /// By label first: a label is what an author wrote, a number only what it became.
    pub(super) async fn find_version(
        &self,
        realm: &Realm,
        id: &str,
        wanted: Option<&str>,
    ) -> Result<Option<VersionRow>, StoreError> {
        let (tenant, environment) = (&*realm.tenant, &*realm.environment);
        let Some(wanted) = wanted else {
            return one(&self.readers, query!(VERSION_CURRENT, tenant, environment, id), rows::version).await;
        };
        let by_label =
            one(&self.readers, query!(VERSION_BY_LABEL, tenant, environment, id, wanted), rows::version).await?;
        let Ok(number) = wanted.parse::<i64>() else { return Ok(by_label) };
        match by_label {
            Some(version) => Ok(Some(version)),
            None => one(&self.readers, query!(VERSION_BY_NUMBER, tenant, environment, id, number), rows::version).await,
        }
    }

    pub(super) async fn list_versions(
        &self,
        realm: &Realm,
        id: &str,
        page: &PageRequest,
    ) -> Result<Page<VersionRow>, StoreError> {
        let before = page.after()?.map_or(i64::MAX, |cursor| cursor.at);
        let query = query!(VERSIONS, realm.tenant.as_ref(), realm.environment.as_ref(), id, before, fetch_size(page));
        let versions = rows::every(&all(&self.readers, query).await?, rows::version)?;
        Ok(Page::cut(versions, page, |version| Cursor::new(version.number.cast_signed(), "")))
    }

    pub(super) async fn stats(&self, realm: &Realm, id: &str, since: Timestamp) -> Result<RunStats, StoreError> {
        let query = query!(RUN_STATS, realm.tenant.as_ref(), realm.environment.as_ref(), id, since.0);
        let stats = one(&self.readers, query, |c| {
            Ok(RunStats { last_run_at: c.opt_time()?, runs: c.count()?, success_rate: c.get()?, avg_ms: c.get()? })
        });
        Ok(stats.await?.unwrap_or_default())
    }

    pub(super) async fn switch_definition(
        &self,
        realm: &Realm,
        id: &str,
        enabled: Option<bool>,
        paused: Option<bool>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (realm, id) = (realm.clone(), id.to_owned());
        self.write(move |connection| {
            Box::pin(async move {
                writer::note_time(connection, at).await?;
                let query = query!(
                    DEFINITION_SET,
                    realm.tenant.as_ref(),
                    realm.environment.as_ref(),
                    id,
                    enabled.map(i64::from),
                    paused.map(i64::from),
                    at.0
                );
                Ok(query.execute(connection).await.map_err(|e| error::of(&e))?.rows_affected() > 0)
            })
        })
        .await
    }

    pub(super) async fn remove_definition(&self, realm: &Realm, id: &str) -> Result<bool, StoreError> {
        let (realm, id) = (realm.clone(), id.to_owned());
        self.write(move |connection| Box::pin(async move { remove(connection, &realm, &id).await })).await
    }

    pub(super) async fn add_version(&self, version: NewVersion) -> Result<(VersionRow, bool), StoreError> {
        self.write(move |connection| Box::pin(save(connection, version))).await
    }
}

async fn remove(connection: &mut Connection, realm: &Realm, id: &str) -> Result<bool, StoreError> {
    let (tenant, environment) = (&*realm.tenant, &*realm.environment);
    let runs = query!(DEFINITION_HAS_RUNS, tenant, environment, id)
        .fetch_optional(&mut *connection)
        .await
        .map_err(|e| error::of(&e))?;
    if runs.is_some() {
        return Err(StoreError::Conflict(format!("workflow {id} has runs")));
    }
    query!(VERSIONS_DELETE, tenant, environment, id).execute(&mut *connection).await.map_err(|e| error::of(&e))?;
    let deleted = query!(DEFINITION_DELETE, tenant, environment, id)
        .execute(&mut *connection)
        .await
        .map_err(|e| error::of(&e))?;
    Ok(deleted.rows_affected() > 0)
}

async fn save(connection: &mut Connection, new: NewVersion) -> Result<(VersionRow, bool), StoreError> {
    let (realm, workflow) = (new.realm.clone(), new.workflow.clone());
    let (tenant, environment, id) = (&*realm.tenant, &*realm.environment, &*workflow);
    commit::lock_name(connection, &realm, ["workflow", id]).await?;
    let current = one(&mut *connection, query!(VERSION_CURRENT, tenant, environment, id), rows::version).await?;
    let exists = current.is_some();
    match (new.must_exist, exists) {
        (Some(true), false) => return Err(StoreError::NotFound(format!("workflow {id}"))),
        (Some(false), true) => return Err(StoreError::Conflict(format!("workflow {id} exists already"))),
        (None, _) | (Some(true), true) | (Some(false), false) => {}
    }
    let digest = sha256_hex(new.definition.get().as_bytes());
    let same = match &new.label {
        Some(label) => {
            one(&mut *connection, query!(VERSION_BY_LABEL, tenant, environment, id, &**label), rows::version).await?
        }
        None if current.as_ref().is_some_and(|version| *version.digest == digest) => current,
        None => {
            one(&mut *connection, query!(VERSION_BY_DIGEST, tenant, environment, id, &*digest), rows::version).await?
        }
    };
    if let Some(same) = same {
        if *same.digest != digest {
            return Err(StoreError::Conflict(format!("workflow {id} has other content under version {}", same.label)));
        }
        in_force(connection, &same, new.at).await?;
        return Ok((same, false));
    }
    let newest = one(&mut *connection, query!(VERSION_NEWEST, tenant, environment, id), rows::number).await?.flatten();
    let mut number = newest.unwrap_or(0) + 1;
    // A number that some author used as a label is skipped, so that the number as text is always free for its own version.
    if new.label.is_none() {
        while one(
            &mut *connection,
            query!(VERSION_BY_LABEL, tenant, environment, id, number.to_string()),
            rows::version,
        )
        .await?
        .is_some()
        {
            number += 1;
        }
    }
    let version = VersionRow {
        realm: realm.clone(),
        workflow: workflow.clone(),
        number,
        label: new.label.unwrap_or_else(|| number.to_string().into()),
        digest: digest.into(),
        name: new.name,
        description: new.description,
        definition: new.definition,
        created_by: new.created_by,
        created_at: new.at,
    };
    query!(
        VERSION_INSERT,
        tenant,
        environment,
        id,
        number.cast_signed(),
        version.label.as_ref(),
        version.digest.as_ref(),
        version.name.as_deref(),
        version.description.as_deref(),
        version.definition.get(),
        version.created_by.as_ref(),
        new.at.0
    )
    .execute(&mut *connection)
    .await
    .map_err(|e| error::of(&e))?;
    in_force(connection, &version, new.at).await?;
    Ok((version, true))
}

/// New runs take this version from now on.
async fn in_force(connection: &mut Connection, version: &VersionRow, at: Timestamp) -> Result<(), StoreError> {
    writer::note_time(connection, at).await?;
    query!(
        DEFINITION_IN_FORCE,
        version.realm.tenant.as_ref(),
        version.realm.environment.as_ref(),
        version.workflow.as_ref(),
        version.number.cast_signed(),
        at.0
    )
    .execute(connection)
    .await
    .map(drop)
    .map_err(|e| error::of(&e))
}
