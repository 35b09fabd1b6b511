//! Several hosts on the store in memory, all of them in one process: for tests, where their leases end in virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ids::RunId;
use caisson_core::ports::{Beat, Claim, Cluster, HostRow, InboxRow, OutboxRow, Pulse, StoreError, TimerRow};
use caisson_core::time::Timestamp;

use super::state::State;
use super::{MemoryStore, some};

/// People see a dead host for so long.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1000;

impl State {
    pub(super) fn is_alive(&self, host: &str, now: Timestamp) -> bool {
        self.hosts.get(host).is_some_and(|row| row.lease_until > now)
    }

    /// Claims of the hosts that are wanted, by run and step.
    fn claims(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Claim> {
        self.claimed.iter().filter_map(move |key| {
            let step = self.steps.get(key)?;
            let claim = Claim { run: key.0.clone(), step: key.1, claim: step.claim };
            step.host.as_deref().is_some_and(&wanted).then_some(claim)
        })
    }

    /// A host comes back as it was, or not at all: an id whose lease was over once is never alive again.
    fn beat(&mut self, beat: &Beat, now: Timestamp) -> bool {
        let known = self.hosts.get(&beat.id);
        let welcome = known.map_or(beat.first, |row| row.lease_until > now);
        if !welcome {
            return false;
        }
        let row = HostRow {
            id: Arc::clone(&beat.id),
            name: Arc::clone(&beat.name),
            version: Arc::clone(&beat.version),
            slots: beat.slots,
            running: beat.running,
            draining: beat.draining,
            started_at: known.map_or(now, |row| row.started_at),
            seen_at: now,
            lease_until: now.plus_ms(beat.lease_ms),
        };
        self.hosts.insert(Arc::clone(&beat.id), row);
        if beat.first {
            self.hosts.retain(|_, row| now.since_ms(row.lease_until) < REMEMBERED_MS);
        }
        true
    }

    fn take_timers(&mut self, due: Timestamp, limit: u32, now: Timestamp, until: Timestamp) -> Vec<TimerRow> {
        let due = self.due.iter().take_while(|(at, ..)| *at <= due);
        let free = due.filter_map(|(at, run, key)| {
            let held = self.timers_held.get(&(run.clone(), Arc::clone(key)));
            let free = held.is_none_or(|until| *until <= now);
            free.then(|| TimerRow { run: run.clone(), key: Arc::clone(key), due_at: *at })
        });
        let taken = some(free, limit);
        self.timers_held.extend(taken.iter().map(|timer| ((timer.run.clone(), Arc::clone(&timer.key)), until)));
        taken
    }

    fn take_outbox(&mut self, limit: u32, now: Timestamp, until: Timestamp) -> Vec<OutboxRow> {
        let held = |message: &&OutboxRow| self.messages_held.get(&message.id).is_some_and(|until| *until > now);
        let busy: BTreeSet<&RunId> = self.outbox.iter().filter(held).map(|message| &message.target).collect();
        let taken = some(self.outbox.iter().filter(|message| !busy.contains(&message.target)).cloned(), limit);
        self.messages_held.extend(taken.iter().map(|message| (Arc::clone(&message.id), until)));
        taken
    }
}

#[async_trait]
impl Cluster for MemoryStore {
    async fn beat(&self, beat: &Beat) -> Result<Pulse, StoreError> {
        let mut state = self.open()?;
        let now = self.clock.now();
        if !state.beat(beat, now) {
            return Ok(Pulse::Expired);
        }
        let claims = state.claims(|host| *host == *beat.id).collect();
        Ok(Pulse::Alive { now, claims })
    }

    async fn leave(&self, host: &str) -> Result<(), StoreError> {
        let mut state = self.open()?;
        let now = self.clock.now();
        if let Some(row) = state.hosts.get_mut(host) {
            row.lease_until = row.lease_until.min(now);
        }
        Ok(())
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        let state = self.open()?;
        let now = self.clock.now();
        Ok(state.hosts.values().filter(|row| now.since_ms(row.lease_until) < REMEMBERED_MS).cloned().collect())
    }

    async fn lost_claims(&self, limit: u32) -> Result<Vec<Claim>, StoreError> {
        let state = self.open()?;
        let now = self.clock.now();
        Ok(some(state.claims(|host| !state.is_alive(host, now)), limit))
    }

    async fn inbox_put(&self, rows: &[InboxRow]) -> Result<(), StoreError> {
        {
            let mut state = self.open_with_room()?;
            for row in rows {
                if !state.inbox.iter().any(|known| known.id == row.id) {
                    state.inbox.push(row.clone());
                }
            }
        }
        self.notices.notify_waiters();
        Ok(())
    }

    async fn inbox(&self, host: &str, limit: u32) -> Result<Vec<InboxRow>, StoreError> {
        let state = self.open()?;
        let now = self.clock.now();
        let wanted = state.inbox.iter().filter(|row| *row.host == *host || !state.is_alive(&row.host, now));
        Ok(some(wanted.cloned(), limit))
    }

    async fn inbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        self.open()?.inbox.retain(|row| !ids.contains(&row.id));
        Ok(())
    }

    async fn take_timers(&self, now: Timestamp, limit: u32, hold_ms: u64) -> Result<Vec<TimerRow>, StoreError> {
        let mut state = self.open()?;
        let time = self.clock.now();
        Ok(state.take_timers(now, limit, time, time.plus_ms(hold_ms)))
    }

    async fn take_outbox(&self, limit: u32, hold_ms: u64) -> Result<Vec<OutboxRow>, StoreError> {
        let mut state = self.open()?;
        let now = self.clock.now();
        Ok(state.take_outbox(limit, now, now.plus_ms(hold_ms)))
    }

    async fn hurry(&self) -> Result<(), StoreError> {
        drop(self.open()?);
        self.notices.notify_waiters();
        Ok(())
    }

    async fn notified(&self) {
        self.notices.notified().await;
    }

    async fn catalog_changed(&self) {
        self.catalog.notified().await;
    }

    async fn shared_key(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        Ok(*self.open()?.shared_keys.entry(name.to_owned()).or_insert(fresh))
    }
}
