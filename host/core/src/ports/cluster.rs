//! Several hosts on one store: who is alive, whose claims are lost, who moves a run, and what others hand to it.
//!
//! A host is alive while its lease lasts; it renews it with every beat. Everything else follows from that: a claim is lost when its host's
//! lease is over, a run's holder counts only while it is alive, and an inbox of a dead host is anybody's.
//!
//! Deliberately absent: a leader. What any host may do (timers, messages, sweeps) is taken for a while by whoever comes first.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{OutboxRow, StoreError, TimerRow};
use crate::engine::StepNo;
use crate::ids::RunId;
use crate::json::Json;
use crate::time::Timestamp;

/// A host, as the others see it. Times are the store's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRow {
    /// Names the process: new at every start.
    pub id: Arc<str>,
    /// Names the machine, for people.
    pub name: Arc<str>,
    /// The program's version.
    pub version: Arc<str>,
    /// Steps that it may run at once.
    pub slots: u32,
    /// Steps that it ran at its last beat.
    pub running: u32,
    /// Whether it takes no new work.
    pub draining: bool,
    /// When it first beat.
    pub started_at: Timestamp,
    /// When it last beat.
    pub seen_at: Timestamp,
    /// Until when it counts as alive.
    pub lease_until: Timestamp,
}

/// What a host says with a beat.
#[derive(Clone, Debug)]
pub struct Beat {
    /// [`HostRow::id`].
    pub id: Arc<str>,
    /// [`HostRow::name`].
    pub name: Arc<str>,
    /// [`HostRow::version`].
    pub version: Arc<str>,
    /// [`HostRow::slots`].
    pub slots: u32,
    /// [`HostRow::running`].
    pub running: u32,
    /// [`HostRow::draining`].
    pub draining: bool,
    /// Whether it is the first: a host that is not known yet, or is no longer, is refused otherwise.
    pub first: bool,
    /// How long it counts as alive from now on, by the store's clock.
    pub lease_ms: u64,
}

/// What a host hears back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The lease is renewed.
    Alive {
        /// The store's time.
        now: Timestamp,
        /// What the host holds, by run and step. Of what it runs and does not hold, somebody else knows better: it was cancelled, paused
        /// past its time, or given to another host.
        claims: Vec<Claim>,
    },
    /// The lease was over before this beat came: others may have taken everything. The host begins anew under another id.
    Expired,
}

/// One taking of a step by a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepNo,
    /// How many claims there were before, plus one.
    pub claim: u32,
}

/// What another host leaves for the one that moves a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxRow {
    /// Unique: the same again is not stored again.
    pub id: Arc<str>,
    /// The run.
    pub run: RunId,
    /// The host that it is for.
    pub host: Arc<str>,
    /// JSON of [`crate::engine::StepResult`].
    pub stimulus: Json,
}

/// Who moves a run from a commit on. A courtesy that spares conflicts: what is right is decided by versions and claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RunLease {
    /// Whoever did.
    #[default]
    Keep,
    /// This host: others leave results in its inbox.
    Hold(Arc<str>),
    /// Nobody in particular.
    Release,
}

/// A store that serves several hosts. Every method is one transaction, and its clock is the store's.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Registers a host, or renews its lease.
    async fn beat(&self, beat: &Beat) -> Result<Pulse, StoreError>;
    /// Ends a host's lease: it has let go of everything.
    async fn leave(&self, host: &str) -> Result<(), StoreError>;
    /// Hosts whose lease lasts, or was over for less than a day, by id.
    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError>;
    /// Claims of hosts that are not alive, by run and step.
    async fn lost_claims(&self, limit: u32) -> Result<Vec<Claim>, StoreError>;

    /// Leaves results for other hosts and wakes them.
    async fn inbox_put(&self, rows: &[InboxRow]) -> Result<(), StoreError>;
    /// What is for this host or for one that is not alive, oldest first.
    async fn inbox(&self, host: &str, limit: u32) -> Result<Vec<InboxRow>, StoreError>;
    /// Removes what needs no commit of its run.
    async fn inbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError>;

    /// Timers that are due, earliest first; no other host is given them for `hold_ms`.
    async fn take_timers(&self, now: Timestamp, limit: u32, hold_ms: u64) -> Result<Vec<TimerRow>, StoreError>;
    /// Messages that are not delivered, oldest first; no other host is given them for `hold_ms`. Of one target, all or none are given
    /// at a time, so that they arrive in their order.
    async fn take_outbox(&self, limit: u32, hold_ms: u64) -> Result<Vec<OutboxRow>, StoreError>;

    /// Tells hosts that run these steps to look at what they hold: a hint, for what was cancelled.
    async fn hurry(&self) -> Result<(), StoreError>;
    /// Waits for a hint that another host left something: an inbox row, a message, an earlier timer, a cancelled step. Hints may be lost
    /// and may come for nothing.
    async fn notified(&self);

    /// Waits for a hint that somebody changed what is installed or registered (plugins, their grants, agents, schemas, files of workflows).
    /// One waits at a time. Hints may be lost and may come for nothing.
    async fn catalog_changed(&self);

    /// A secret that all hosts share, by name: `fresh` if there is none yet.
    async fn shared_key(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError>;
}
