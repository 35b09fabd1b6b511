//! What is read of runs, by list and one by one.

use std::collections::BTreeMap;

use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{
    ApprovalFilter, ApprovalRow, Cursor, EventRow, Page, PageRequest, ReadyRow, RunFilter, RunRow, StepRow, StoreError,
    StoredRun, dead,
};
use caisson_core::time::Timestamp;
use sqlx::{AssertSqlSafe, Executor};

use super::Select;
use super::commit;
use super::sql;
use super::{Adapter, Db, DbRow, error, rows};
use crate::encode::{Rows, texts};
use crate::statement::lists::{self, ApprovalsShape, RunsShape, Statuses};

/// Every row that a query gives.
pub(crate) async fn all<'c>(by: impl Executor<'c, Database = Db>, query: Select<'_>) -> Result<Vec<DbRow>, StoreError> {
    query.fetch_all(by).await.map_err(|e| error::of(&e))
}

/// The first row, read.
pub(crate) async fn one<'c, T>(
    by: impl Executor<'c, Database = Db>,
    query: Select<'_>,
    read: impl Fn(&mut rows::Columns<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let row = query.fetch_optional(by).await.map_err(|e| error::of(&e))?;
    row.as_ref().map(|row| read(&mut rows::Columns::of(row))).transpose()
}

/// One more than the page holds, to see whether there is a next one.
pub(crate) fn fetch_size(page: &PageRequest) -> i64 {
    i64::from(page.size()) + 1
}

impl Adapter {
    /// Row, snapshot and events in one read transaction: a commit in between cannot tear them apart.
    pub(super) async fn load_run(&self, id: &RunId) -> Result<Option<StoredRun>, StoreError> {
        let mut view = self.view().await?;
        let Some(row) = one(&mut *view, query!(RUN, id.as_str()), rows::run).await? else {
            return Ok(None);
        };
        let snapshot = one(&mut *view, query!(SNAPSHOT, id.as_str()), rows::snapshot).await?;
        let after = snapshot.as_ref().map_or(0, |(seq, _)| *seq);
        let query = query!(EVENTS, id.as_str(), after.cast_signed(), i64::MAX);
        let events = rows::every(&all(&mut *view, query).await?, rows::event)?;
        let holder = commit::holder(&mut view, id).await?;
        view.rollback().await.map_err(|e| error::of(&e))?;
        let last = events.last().map_or(after, |event| event.seq);
        if last != row.last_seq {
            return Err(StoreError::Corrupt(format!("run {id} ends at event {}, its events at {last}", row.last_seq)));
        }
        Ok(Some(StoredRun { row, snapshot, events, holder }))
    }

    pub(super) async fn list_runs(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &RunFilter,
        page: &PageRequest,
    ) -> Result<Page<RunRow>, StoreError> {
        let after = page.after()?;
        let (statuses, status) = match filter.status.as_slice() {
            [] => (Statuses::Any, None),
            [one] => (Statuses::One, Some(one.as_str().to_owned())),
            many => (Statuses::Several, Some(texts(many.iter().map(|status| status.as_str())))),
        };
        let shape = RunsShape {
            environment: environment.is_some(),
            workflow: filter.workflow.is_some(),
            statuses,
            project: filter.project.is_some(),
            parent: filter.parent.is_some(),
            cursor: after.is_some(),
        };
        let query = sqlx::query(AssertSqlSafe(sql::runs(shape)))
            .bind(tenant)
            .bind(environment)
            .bind(filter.workflow.as_deref())
            .bind(status)
            .bind(filter.project.as_deref())
            .bind(filter.parent.as_ref().map(RunId::as_str))
            .bind(after.as_ref().map(|cursor| cursor.at))
            .bind(after.as_ref().map(|cursor| cursor.id.as_str()))
            .bind(fetch_size(page));
        let runs = rows::every(&all(&self.readers, query).await?, rows::run)?;
        Ok(Page::cut(runs, page, |run| Cursor::new(run.created_at.0, run.id.as_str())))
    }

    pub(super) async fn list_steps(&self, run: &RunId, page: &PageRequest) -> Result<Page<StepRow>, StoreError> {
        let after = page.after()?.map_or(0, |cursor| cursor.at);
        let query = query!(STEPS, run.as_str(), after, fetch_size(page));
        let steps = rows::every(&all(&self.readers, query).await?, rows::step)?;
        Ok(Page::cut(steps, page, |step| Cursor::new(step.number.cast_signed(), "")))
    }

    pub(super) async fn one_step(&self, run: &RunId, step: &StepId) -> Result<Option<StepRow>, StoreError> {
        one(&self.readers, query!(STEP, run.as_str(), step.as_str()), rows::step).await
    }

    pub(super) async fn list_dead(
        &self,
        tenant: &str,
        environment: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<(RunId, StepRow)>, StoreError> {
        let (at, run, number) = match page.after()? {
            Some(cursor) => {
                let (run, number) = dead::place(&cursor)?;
                (cursor.at, run, number.cast_signed())
            }
            None => (i64::MAX, RunId::new(""), 0),
        };
        let query = query!(DEAD, tenant, environment, at, run.as_str(), number, fetch_size(page));
        let found = rows::every(&all(&self.readers, query).await?, rows::dead)?;
        Ok(Page::cut(found, page, |(run, step)| dead::cursor(run, step)))
    }

    pub(super) async fn list_events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let query = query!(EVENTS, run.as_str(), after, i64::from(limit));
        rows::every(&all(&self.readers, query).await?, rows::event)
    }

    pub(super) async fn single_events(&self, run: &RunId, seqs: &[u64]) -> Result<BTreeMap<u64, EventRow>, StoreError> {
        let mut list = String::from("[");
        for (place, seq) in seqs.iter().enumerate() {
            if place > 0 {
                list.push(',');
            }
            list.push_str(&seq.to_string());
        }
        list.push(']');
        let query = query!(EVENTS_AT, run.as_str(), list);
        let events = rows::every(&all(&self.readers, query).await?, rows::event)?;
        Ok(events.into_iter().map(|event| (event.seq, event)).collect())
    }

    pub(super) async fn list_approvals(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        let after = page.after()?;
        let shape = ApprovalsShape {
            environment: environment.is_some(),
            run: filter.run.is_some(),
            status: filter.status.is_some(),
            cursor: after.is_some(),
        };
        let query = sqlx::query(AssertSqlSafe(lists::approvals(shape)))
            .bind(tenant)
            .bind(environment)
            .bind(filter.run.as_ref().map(RunId::as_str))
            .bind(filter.status.map(caisson_core::engine::ApprovalStatus::as_str))
            .bind(after.as_ref().map(|cursor| cursor.at))
            .bind(after.as_ref().map(|cursor| cursor.id.as_str()))
            .bind(fetch_size(page));
        let approvals = rows::every(&all(&self.readers, query).await?, rows::approval)?;
        Ok(Page::cut(approvals, page, |row| Cursor::new(row.created_at.0, row.id.as_str())))
    }

    /// Raises the numbers of steps that are published again.
    pub(super) async fn publish_again(
        &self,
        before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ReadyRow>, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let rows = all(connection, query!(REDISPATCH, before.0, now.0, i64::from(limit))).await?;
                let mut steps = rows::every(&rows, rows::redispatched)?;
                steps.sort_by(|(a, since_a), (b, since_b)| (since_a, &a.run, a.step).cmp(&(since_b, &b.run, b.step)));
                Ok(steps.into_iter().map(|(step, _)| step).collect())
            })
        })
        .await
    }

    /// Removes messages whose target needs no commit.
    pub(super) async fn delete_messages(&self, ids: &[std::sync::Arc<str>]) -> Result<(), StoreError> {
        let mut list = Rows::default();
        for id in ids {
            list.text(id);
        }
        let list = list.finish();
        self.write(move |connection| {
            Box::pin(async move {
                let done = query!(OUTBOX_DELETE, list).execute(connection).await;
                done.map(drop).map_err(|e| error::of(&e))
            })
        })
        .await
    }
}
