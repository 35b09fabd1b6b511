//! The port of a store of many hosts. Every time here is the database's.

use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ids::RunId;
use caisson_core::ports::{Beat, Claim, Cluster, HostRow, InboxRow, OutboxRow, Pulse, StoreError, TimerRow};
use caisson_core::time::Timestamp;

use super::PostgresStore;
use super::read::{all, one};
use super::rows::{self, Columns};
use super::writer::execute;
use crate::encode::{Rows, texts};

impl PostgresStore {
    /// The database's time: the one that counts.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let now = one(&self.readers, query!(NOW), moment).await?;
        now.ok_or_else(|| StoreError::Other("PostgreSQL has no time".to_owned()))
    }
}

#[async_trait]
impl Cluster for PostgresStore {
    async fn beat(&self, beat: &Beat) -> Result<Pulse, StoreError> {
        let query = query!(
            BEAT,
            beat.id.as_ref(),
            beat.name.as_ref(),
            beat.version.as_ref(),
            i64::from(beat.slots),
            i64::from(beat.running),
            i64::from(beat.draining),
            beat.first,
            i64::try_from(beat.lease_ms).unwrap_or(i64::MAX / 4)
        );
        let Some(now) = one(&self.readers, query, moment).await? else { return Ok(Pulse::Expired) };
        if beat.first {
            all(&self.readers, query!(HOSTS_FORGET)).await?;
        }
        let claims = rows::every(&all(&self.readers, query!(HELD_BY, beat.id.as_ref())).await?, claim)?;
        Ok(Pulse::Alive { now, claims })
    }

    async fn leave(&self, host: &str) -> Result<(), StoreError> {
        all(&self.readers, query!(LEAVE, host)).await.map(drop)
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        rows::every(&all(&self.readers, query!(HOSTS)).await?, host)
    }

    async fn lost_claims(&self, limit: u32) -> Result<Vec<Claim>, StoreError> {
        rows::every(&all(&self.readers, query!(LOST_CLAIMS, i64::from(limit))).await?, claim)
    }

    async fn inbox_put(&self, rows: &[InboxRow]) -> Result<(), StoreError> {
        let mut list = Rows::default();
        for row in rows {
            list.row(|r| {
                r.text(&row.id).text(row.run.as_str()).text(&row.host).text(row.stimulus.get());
            });
        }
        let list = list.finish();
        self.write(move |connection| {
            Box::pin(async move {
                execute(connection, query!(INBOX_PUT, list)).await?;
                execute(connection, query!(NOTIFY)).await
            })
        })
        .await
    }

    async fn inbox(&self, host: &str, limit: u32) -> Result<Vec<InboxRow>, StoreError> {
        rows::every(&all(&self.readers, query!(INBOX, host, i64::from(limit))).await?, inbox)
    }

    async fn inbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        let ids = texts(ids.iter().map(AsRef::as_ref));
        all(&self.readers, query!(INBOX_DELETE, ids)).await.map(drop)
    }

    async fn take_timers(&self, now: Timestamp, limit: u32, hold_ms: u64) -> Result<Vec<TimerRow>, StoreError> {
        let query = query!(TAKE_TIMERS, now.0, i64::from(limit), milliseconds(hold_ms));
        let mut timers = rows::every(&all(&self.readers, query).await?, rows::timer)?;
        timers.sort_by(|a, b| (a.due_at, &a.run, &a.key).cmp(&(b.due_at, &b.run, &b.key)));
        Ok(timers)
    }

    async fn take_outbox(&self, limit: u32, hold_ms: u64) -> Result<Vec<OutboxRow>, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                execute(connection, query!(TAKE_OUTBOX_LOCK)).await?;
                let taken = all(connection, query!(TAKE_OUTBOX, i64::from(limit), milliseconds(hold_ms))).await?;
                let mut messages = rows::every(&taken, |c| Ok((c.get::<i64>()?, rows::message(c)?)))?;
                messages.sort_by_key(|(number, _)| *number);
                Ok(messages.into_iter().map(|(_, message)| message).collect())
            })
        })
        .await
    }

    async fn hurry(&self) -> Result<(), StoreError> {
        all(&self.readers, query!(NOTIFY)).await.map(drop)
    }

    async fn notified(&self) {
        self.notices.work().await;
    }

    async fn catalog_changed(&self) {
        self.notices.catalog().await;
    }

    async fn shared_key(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        all(&self.readers, query!(SECRET_PUT, name, fresh.as_slice())).await?;
        let value = one(&self.readers, query!(SECRET, name), rows::bytes).await?;
        let key = value.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        key.ok_or_else(|| StoreError::Corrupt(format!("the secret '{name}' does not have 32 bytes")))
    }
}

fn milliseconds(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 4)
}

fn claim(c: &mut Columns<'_>) -> Result<Claim, StoreError> {
    let (run, step, claim): (RunId, u64, u32) = rows::claimed(c)?;
    Ok(Claim { run, step, claim })
}

fn moment(c: &mut Columns<'_>) -> Result<Timestamp, StoreError> {
    c.time()
}

fn host(c: &mut Columns<'_>) -> Result<HostRow, StoreError> {
    Ok(HostRow {
        id: c.text()?,
        name: c.text()?,
        version: c.text()?,
        slots: c.small()?,
        running: c.small()?,
        draining: c.flag()?,
        started_at: c.time()?,
        seen_at: c.time()?,
        lease_until: c.time()?,
    })
}

fn inbox(c: &mut Columns<'_>) -> Result<InboxRow, StoreError> {
    Ok(InboxRow { id: c.text()?, run: c.run_id()?, host: c.text()?, stimulus: c.json()? })
}
