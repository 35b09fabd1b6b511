//! The ports of one host: the shared store behind that host's faults, and the bugs that are planted on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caisson_core::engine::{StepNo, StepResult};
use caisson_core::ids::{ApprovalId, Realm, RunId, StepId};
use caisson_core::json::{Blob, BlobRef, Json};
use caisson_core::ports::*;
use caisson_core::time::Timestamp;
use caisson_orchestrator::memory::MemoryStore;

use super::faults::{Host, Plant};

/// The store as one host sees it.
pub struct Seen {
    pub host: Arc<Host>,
    pub store: Arc<MemoryStore>,
}

impl Seen {
    async fn committed(&self, mut commit: Commit) -> Result<(), CommitError> {
        match self.host.plant() {
            Some(Plant::LostTimer) if self.host.chance(200) => commit.timers_set.clear(),
            Some(Plant::DoubleRelay) => commit.outbox_done.clear(),
            Some(Plant::EffectBeforeCommit) => {
                let (host, store) = (self.host.clone(), self.store.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    if !host.is_dead() {
                        let _ = Store::commit(&*store, commit).await;
                    }
                });
                return Ok(());
            }
            _ => {}
        }
        Store::commit(&*self.store, commit).await
    }

    async fn taken(&self, limit: u32, hold_ms: u64) -> Result<Vec<OutboxRow>, StoreError> {
        let mut rows = self.store.take_outbox(limit, hold_ms).await?;
        if self.host.plant() == Some(Plant::DoubleRelay) {
            let again = rows.iter().map(|row| OutboxRow { id: format!("{}'", row.id).into(), ..row.clone() });
            rows.extend(again.collect::<Vec<_>>());
        }
        Ok(rows)
    }

    /// Without the fence a result counts for whichever claim there is now.
    async fn arrived(&self, host: &str, limit: u32) -> Result<Vec<InboxRow>, StoreError> {
        let mut rows = self.store.inbox(host, limit).await?;
        if self.host.plant() == Some(Plant::NoClaimFence) {
            for row in &mut rows {
                let mut result: StepResult = serde_json::from_str(row.stimulus.get()).unwrap();
                let steps = self.store.steps(&row.run, &PageRequest { limit: 100, cursor: None }).await?;
                if let Some(step) = steps.items.iter().find(|step| step.number == result.step) {
                    (result.claim, result.attempt) = (step.claim, step.attempt);
                }
                row.stimulus = Json::of(&result);
            }
        }
        Ok(rows)
    }
}

#[async_trait]
impl Store for Seen {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.host.call("commit", self.committed(commit)).await
    }
    async fn load(&self, run: &RunId) -> Result<Option<StoredRun>, StoreError> {
        self.host.call("load", Store::load(&*self.store, run)).await
    }
    async fn blobs(&self, ids: &[BlobRef]) -> Result<Vec<Blob>, StoreError> {
        self.host.call("blobs", Store::blobs(&*self.store, ids)).await
    }
    async fn dead(
        &self,
        tenant: &str,
        environment: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<(RunId, StepRow)>, StoreError> {
        self.host.call("dead", Store::dead(&*self.store, tenant, environment, page)).await
    }
    async fn items(&self, run: &RunId, step: StepNo) -> Result<Vec<ItemRow>, StoreError> {
        self.host.call("items", Store::items(&*self.store, run, step)).await
    }
    async fn ready(&self, limit: u32) -> Result<Vec<ReadyRow>, StoreError> {
        self.host.call("ready", Store::ready(&*self.store, limit)).await
    }
    async fn redispatch(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<ReadyRow>, StoreError> {
        self.host.call("redispatch", Store::redispatch(&*self.store, before, now, limit)).await
    }
    async fn claimed_by_others(&self, host: &str, limit: u32) -> Result<Vec<(RunId, StepNo, u32)>, StoreError> {
        self.host.call("claimed_by_others", Store::claimed_by_others(&*self.store, host, limit)).await
    }
    async fn due_timers(&self, now: Timestamp, limit: u32) -> Result<Vec<TimerRow>, StoreError> {
        self.host.call("due_timers", Store::due_timers(&*self.store, now, limit)).await
    }
    async fn next_timer(&self) -> Result<Option<Timestamp>, StoreError> {
        self.host.call("next_timer", Store::next_timer(&*self.store)).await
    }
    async fn outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        self.host.call("outbox", Store::outbox(&*self.store, limit)).await
    }
    async fn outbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        if self.host.plant() == Some(Plant::DoubleRelay) {
            return Ok(());
        }
        self.host.call("outbox_delete", self.store.outbox_delete(ids)).await
    }
    async fn admissible(&self, of: Option<&SlotKey>, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.host.call("admissible", Store::admissible(&*self.store, of, limit)).await
    }
    async fn admitted(&self, of: &SlotKey, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.host.call("admitted", Store::admitted(&*self.store, of, limit)).await
    }
    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        self.host.call("backlog", Store::backlog(&*self.store, limit)).await
    }
    async fn latest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.host.call("latest_time", Store::latest_time(&*self.store)).await
    }
    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        self.host.call("run", Store::run(&*self.store, run)).await
    }
    async fn run_by_key(&self, key: &str) -> Result<Option<(RunId, String)>, StoreError> {
        self.host.call("run_by_key", Store::run_by_key(&*self.store, key)).await
    }
    async fn runs(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &RunFilter,
        page: &PageRequest,
    ) -> Result<Page<RunRow>, StoreError> {
        self.host.call("runs", Store::runs(&*self.store, tenant, environment, filter, page)).await
    }
    async fn counts(&self, runs: &[RunId], most: u32) -> Result<BTreeMap<RunId, RunCounts>, StoreError> {
        self.host.call("counts", Store::counts(&*self.store, runs, most)).await
    }
    async fn steps(&self, run: &RunId, page: &PageRequest) -> Result<Page<StepRow>, StoreError> {
        self.host.call("steps", Store::steps(&*self.store, run, page)).await
    }
    async fn step(&self, run: &RunId, step: &StepId) -> Result<Option<StepRow>, StoreError> {
        self.host.call("step", Store::step(&*self.store, run, step)).await
    }
    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.host.call("events", Store::events(&*self.store, run, after, limit)).await
    }
    async fn events_at(&self, run: &RunId, seqs: &[u64]) -> Result<BTreeMap<u64, EventRow>, StoreError> {
        self.host.call("events_at", Store::events_at(&*self.store, run, seqs)).await
    }
    async fn approvals(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        self.host.call("approvals", Store::approvals(&*self.store, tenant, environment, filter, page)).await
    }
    async fn approval(&self, id: &ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        self.host.call("approval", Store::approval(&*self.store, id)).await
    }
    async fn save_version(&self, version: NewVersion) -> Result<(VersionRow, bool), StoreError> {
        self.host.call("save_version", Store::save_version(&*self.store, version)).await
    }
    async fn definition(&self, realm: &Realm, id: &str) -> Result<Option<(DefinitionRow, VersionRow)>, StoreError> {
        self.host.call("definition", Store::definition(&*self.store, realm, id)).await
    }
    async fn definitions(
        &self,
        realm: &Realm,
        filter: &DefinitionFilter,
        page: &PageRequest,
    ) -> Result<Page<(DefinitionRow, VersionRow)>, StoreError> {
        self.host.call("definitions", Store::definitions(&*self.store, realm, filter, page)).await
    }
    async fn version(&self, realm: &Realm, id: &str, version: Option<&str>) -> Result<Option<VersionRow>, StoreError> {
        self.host.call("version", Store::version(&*self.store, realm, id, version)).await
    }
    async fn version_by_digest(&self, realm: &Realm, id: &str, digest: &str) -> Result<Option<VersionRow>, StoreError> {
        self.host.call("version_by_digest", Store::version_by_digest(&*self.store, realm, id, digest)).await
    }
    async fn versions(&self, realm: &Realm, id: &str, page: &PageRequest) -> Result<Page<VersionRow>, StoreError> {
        self.host.call("versions", Store::versions(&*self.store, realm, id, page)).await
    }
    async fn set_definition(
        &self,
        realm: &Realm,
        id: &str,
        enabled: Option<bool>,
        paused: Option<bool>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.host.call("set_definition", Store::set_definition(&*self.store, realm, id, enabled, paused, at)).await
    }
    async fn delete_definition(&self, realm: &Realm, id: &str) -> Result<bool, StoreError> {
        self.host.call("delete_definition", Store::delete_definition(&*self.store, realm, id)).await
    }
    async fn run_stats(&self, realm: &Realm, id: &str, since: Timestamp) -> Result<RunStats, StoreError> {
        self.host.call("run_stats", Store::run_stats(&*self.store, realm, id, since)).await
    }
    async fn add_key(&self, key: &ApiKeyRow) -> Result<(), StoreError> {
        self.host.call("add_key", Store::add_key(&*self.store, key)).await
    }
    async fn key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKeyRow>, StoreError> {
        self.host.call("key_by_hash", Store::key_by_hash(&*self.store, key_hash)).await
    }
    async fn keys(&self, tenant: &str) -> Result<Vec<ApiKeyRow>, StoreError> {
        self.host.call("keys", Store::keys(&*self.store, tenant)).await
    }
    async fn count_keys(&self) -> Result<u64, StoreError> {
        self.host.call("count_keys", Store::count_keys(&*self.store)).await
    }
    async fn revoke_key(&self, tenant: &str, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        self.host.call("revoke_key", Store::revoke_key(&*self.store, tenant, id, at)).await
    }
    async fn touch_keys(&self, used: &[(Arc<str>, Timestamp)]) -> Result<(), StoreError> {
        self.host.call("touch_keys", Store::touch_keys(&*self.store, used)).await
    }
    async fn append_logs(&self, lines: &[HostLogLine]) -> Result<(), StoreError> {
        self.host.call("append_logs", Store::append_logs(&*self.store, lines)).await
    }
    async fn logs(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<HostLogLine>, StoreError> {
        self.host.call("logs", Store::logs(&*self.store, run, step, page)).await
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.host.call("ping", Store::ping(&*self.store)).await
    }
    async fn close(&self) {}
}

#[async_trait]
impl Cluster for Seen {
    async fn beat(&self, beat: &Beat) -> Result<Pulse, StoreError> {
        self.host.call("beat", Cluster::beat(&*self.store, beat)).await
    }
    async fn leave(&self, host: &str) -> Result<(), StoreError> {
        self.host.call("leave", Cluster::leave(&*self.store, host)).await
    }
    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.host.call("hosts", Cluster::hosts(&*self.store)).await
    }
    async fn lost_claims(&self, limit: u32) -> Result<Vec<Claim>, StoreError> {
        self.host.call("lost_claims", Cluster::lost_claims(&*self.store, limit)).await
    }
    async fn inbox_put(&self, rows: &[InboxRow]) -> Result<(), StoreError> {
        self.host.call("inbox_put", Cluster::inbox_put(&*self.store, rows)).await
    }
    async fn inbox(&self, host: &str, limit: u32) -> Result<Vec<InboxRow>, StoreError> {
        self.host.call("inbox", self.arrived(host, limit)).await
    }
    async fn inbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        self.host.call("inbox_delete", Cluster::inbox_delete(&*self.store, ids)).await
    }
    async fn take_timers(&self, now: Timestamp, limit: u32, hold_ms: u64) -> Result<Vec<TimerRow>, StoreError> {
        self.host.call("take_timers", Cluster::take_timers(&*self.store, now, limit, hold_ms)).await
    }
    async fn take_outbox(&self, limit: u32, hold_ms: u64) -> Result<Vec<OutboxRow>, StoreError> {
        self.host.call("take_outbox", self.taken(limit, hold_ms)).await
    }
    async fn hurry(&self) -> Result<(), StoreError> {
        self.host.call("hurry", Cluster::hurry(&*self.store)).await
    }
    async fn notified(&self) {
        self.host.alive().await;
        self.store.notified().await;
        self.host.alive().await;
    }
    async fn catalog_changed(&self) {
        self.host.alive().await;
        self.store.catalog_changed().await;
    }
    async fn shared_key(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.host.call("shared_key", Cluster::shared_key(&*self.store, name, fresh)).await
    }
}
