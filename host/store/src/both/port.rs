//! The port itself: each method names its statement, or the function that needs several.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::engine::StepNo;
use caisson_core::ids::{ApprovalId, Realm, RunId, StepId};
use caisson_core::json::{Blob, BlobRef};
use caisson_core::ports::{
    ApiKeyRow, ApprovalFilter, ApprovalRow, Commit, CommitError, DefinitionFilter, DefinitionRow, EventRow,
    HostLogLine, ItemRow, NewVersion, OutboxRow, Page, PageRequest, ReadyRow, RunCounts, RunFilter, RunRow, RunStats,
    SlotKey, StepRow, Store, StoreError, StoredRun, TimerRow, VersionRow,
};
use caisson_core::time::Timestamp;
use tokio::sync::oneshot;

use super::read::{all, one};
use super::writer::Job;
use super::{Adapter, closed, rows};
use crate::encode::texts;

#[async_trait]
impl Store for Adapter {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        commit.check()?;
        let (answer, result) = oneshot::channel();
        self.send(Job::Commit(Box::new(commit), answer)).await?;
        result.await.map_err(|_| CommitError::Store(closed()))?
    }

    async fn load(&self, run: &RunId) -> Result<Option<StoredRun>, StoreError> {
        self.load_run(run).await
    }

    async fn blobs(&self, ids: &[BlobRef]) -> Result<Vec<Blob>, StoreError> {
        let query = query!(BLOBS, texts(ids.iter().map(|id| id.sha256.as_ref())));
        let mut blobs = rows::every(&all(&self.readers, query).await?, rows::blob)?;
        // Several realms may hold the same value.
        blobs.sort_by(|a, b| a.id.cmp(&b.id));
        blobs.dedup_by(|a, b| a.id == b.id);
        Ok(blobs)
    }

    async fn items(&self, run: &RunId, step: StepNo) -> Result<Vec<ItemRow>, StoreError> {
        let query = query!(ITEMS, run.as_str(), step.cast_signed());
        rows::every(&all(&self.readers, query).await?, rows::item)
    }

    async fn ready(&self, limit: u32) -> Result<Vec<ReadyRow>, StoreError> {
        rows::every(&all(&self.readers, query!(READY, i64::from(limit))).await?, rows::ready)
    }

    async fn redispatch(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<ReadyRow>, StoreError> {
        self.publish_again(before, now, limit).await
    }

    async fn claimed_by_others(&self, host: &str, limit: u32) -> Result<Vec<(RunId, StepNo, u32)>, StoreError> {
        let query = query!(CLAIMED_BY_OTHERS, host, i64::from(limit));
        rows::every(&all(&self.readers, query).await?, rows::claimed)
    }

    async fn due_timers(&self, now: Timestamp, limit: u32) -> Result<Vec<TimerRow>, StoreError> {
        let query = query!(DUE_TIMERS, now.0, i64::from(limit));
        rows::every(&all(&self.readers, query).await?, rows::timer)
    }

    async fn next_timer(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(one(&self.readers, query!(NEXT_TIMER), rows::time).await?.flatten())
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        rows::every(&all(&self.readers, query!(OUTBOX, i64::from(limit))).await?, rows::message)
    }

    async fn outbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        self.delete_messages(ids).await
    }

    async fn admissible(&self, of: Option<&SlotKey>, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let query = match of {
            None => query!(ADMISSIBLE, i64::from(limit)),
            Some(SlotKey { realm, workflow, key }) => {
                query!(ADMISSIBLE_OF, &*realm.tenant, &*realm.environment, &**workflow, &**key, i64::from(limit))
            }
        };
        rows::every(&all(&self.readers, query).await?, rows::run_id)
    }

    async fn admitted(&self, of: &SlotKey, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let SlotKey { realm, workflow, key } = of;
        let query = query!(ADMITTED, &*realm.tenant, &*realm.environment, &**workflow, &**key, i64::from(limit));
        rows::every(&all(&self.readers, query).await?, rows::run_id)
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(one(&self.readers, query!(BACKLOG, limit.cast_signed()), rows::count).await?.unwrap_or(0))
    }

    async fn latest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(one(&self.readers, query!(LATEST_TIME), rows::time).await?.flatten())
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        one(&self.readers, query!(RUN, run.as_str()), rows::run).await
    }

    async fn run_by_key(&self, key: &str) -> Result<Option<(RunId, String)>, StoreError> {
        one(&self.readers, query!(RUN_BY_KEY, key), rows::keyed_run).await
    }

    async fn runs(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &RunFilter,
        page: &PageRequest,
    ) -> Result<Page<RunRow>, StoreError> {
        self.list_runs(tenant, environment, filter, page).await
    }

    async fn counts(&self, runs: &[RunId], most: u32) -> Result<BTreeMap<RunId, RunCounts>, StoreError> {
        let query = query!(COUNTS, texts(runs.iter().map(RunId::as_str)), i64::from(most));
        Ok(rows::every(&all(&self.readers, query).await?, rows::counts)?.into_iter().collect())
    }

    async fn steps(&self, run: &RunId, page: &PageRequest) -> Result<Page<StepRow>, StoreError> {
        self.list_steps(run, page).await
    }

    async fn step(&self, run: &RunId, step: &StepId) -> Result<Option<StepRow>, StoreError> {
        self.one_step(run, step).await
    }

    async fn dead(
        &self,
        tenant: &str,
        environment: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<(RunId, StepRow)>, StoreError> {
        self.list_dead(tenant, environment, page).await
    }

    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.list_events(run, after, limit).await
    }

    async fn events_at(&self, run: &RunId, seqs: &[u64]) -> Result<BTreeMap<u64, EventRow>, StoreError> {
        self.single_events(run, seqs).await
    }

    async fn approvals(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        self.list_approvals(tenant, environment, filter, page).await
    }

    async fn approval(&self, id: &ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        one(&self.readers, query!(APPROVAL, id.as_str()), rows::approval).await
    }

    async fn save_version(&self, version: NewVersion) -> Result<(VersionRow, bool), StoreError> {
        self.add_version(version).await
    }

    async fn definition(&self, realm: &Realm, id: &str) -> Result<Option<(DefinitionRow, VersionRow)>, StoreError> {
        let query = query!(DEFINITION, &*realm.tenant, &*realm.environment, id);
        one(&self.readers, query, rows::definition_in_force).await
    }

    async fn definitions(
        &self,
        realm: &Realm,
        filter: &DefinitionFilter,
        page: &PageRequest,
    ) -> Result<Page<(DefinitionRow, VersionRow)>, StoreError> {
        self.list_definitions(realm, filter, page).await
    }

    async fn version(&self, realm: &Realm, id: &str, version: Option<&str>) -> Result<Option<VersionRow>, StoreError> {
        self.find_version(realm, id, version).await
    }

    async fn version_by_digest(&self, realm: &Realm, id: &str, digest: &str) -> Result<Option<VersionRow>, StoreError> {
        let query = query!(VERSION_BY_DIGEST, &*realm.tenant, &*realm.environment, id, digest);
        one(&self.readers, query, rows::version).await
    }

    async fn versions(&self, realm: &Realm, id: &str, page: &PageRequest) -> Result<Page<VersionRow>, StoreError> {
        self.list_versions(realm, id, page).await
    }

    async fn set_definition(
        &self,
        realm: &Realm,
        id: &str,
        enabled: Option<bool>,
        paused: Option<bool>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.switch_definition(realm, id, enabled, paused, at).await
    }

    async fn delete_definition(&self, realm: &Realm, id: &str) -> Result<bool, StoreError> {
        self.remove_definition(realm, id).await
    }

    async fn run_stats(&self, realm: &Realm, id: &str, since: Timestamp) -> Result<RunStats, StoreError> {
        self.stats(realm, id, since).await
    }

    async fn add_key(&self, key: &ApiKeyRow) -> Result<(), StoreError> {
        self.insert_key(key.clone()).await
    }

    async fn key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKeyRow>, StoreError> {
        one(&self.readers, query!(KEY_BY_HASH, key_hash), rows::key).await
    }

    async fn keys(&self, tenant: &str) -> Result<Vec<ApiKeyRow>, StoreError> {
        rows::every(&all(&self.readers, query!(KEYS, tenant)).await?, rows::key)
    }

    async fn count_keys(&self) -> Result<u64, StoreError> {
        Ok(one(&self.readers, query!(KEYS_COUNT), rows::count).await?.unwrap_or(0))
    }

    async fn revoke_key(&self, tenant: &str, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        self.end_key(tenant, id, at).await
    }

    async fn touch_keys(&self, used: &[(Arc<str>, Timestamp)]) -> Result<(), StoreError> {
        self.note_key_use(used).await
    }

    async fn append_logs(&self, lines: &[HostLogLine]) -> Result<(), StoreError> {
        self.insert_logs(lines).await
    }

    async fn logs(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<HostLogLine>, StoreError> {
        self.list_logs(run, step, page).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        all(&self.readers, query!(PING)).await.map(drop)
    }

    async fn close(&self) {
        self.shut().await;
    }
}
