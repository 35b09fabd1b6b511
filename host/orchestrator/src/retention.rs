//! Lets go of what is old: of a finished run first its files and its data, later all of it, as the workflow's `retention` says, and the
//! host's where that says nothing. Where there is an archive, it has the run before anything of it goes.
//!
//! Every host sweeps; whatever two of them do at once comes to the same. A sweep works in small transactions with a breath between them, so
//! that runs under way do not wait for it; what it does not finish, the next one finds.
//!
//! Invariant: nothing goes that the archive could not keep; files go before the rows that name them, data before the rows
//! that hold it, a run's own row last.
//! Deliberately absent: anything about runs that have not ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use caisson_core::ids::{Realm, RunId};
use caisson_core::model::Retention;
use caisson_core::ports::{Archive, Clock, Pruning, RunFiles, Stage, StoreError, VersionRow};
use caisson_core::time::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The time between two sweeps, at most: what is kept for days may stay a minute longer.
const SWEEP: Duration = Duration::from_mins(1);
/// The same, at least, where something is kept shorter than a minute: a sweep reads every workflow.
const SWEEP_LEAST: Duration = Duration::from_secs(1);
/// Between two transactions: a batch of commits takes about as long.
const BREATH: Duration = Duration::from_millis(5);
/// Rows that one transaction changes: a few milliseconds of the store's one writer.
const ROWS_MAX: u32 = 500;
/// Runs and workflows that are read at once.
const PAGE: u32 = 100;
/// Runs of one workflow in one sweep, so that the others get their turn.
const RUNS_MAX: u32 = 10_000;
/// Files that are removed at once.
const FILES_MAX: u32 = 100;
/// Retentions that are remembered by digest, instead of reading definitions again in every sweep.
const REMEMBERED_MAX: usize = 10_000;

/// What a sweep works with.
#[derive(Clone)]
pub struct Keep {
    /// Where runs live.
    pub store: Arc<dyn Pruning>,
    /// Where their files lie.
    pub files: Arc<dyn RunFiles>,
    /// Where runs are kept for good.
    pub archive: Option<Arc<dyn Archive>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For workflows that say nothing; for ever, where this says nothing either.
    pub default: Retention,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Runs whose data is erased now.
    pub erased: u64,
    /// Runs that are gone now.
    pub deleted: u64,
}

/// Sweeps from time to time.
pub struct Sweeper {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sweeper {
    /// Starts to sweep.
    pub fn start(keep: Keep) -> Self {
        let sweeper = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        sweeper.tasks.spawn(sweep_always(keep, sweeper.stop.clone()));
        sweeper
    }

    /// Stops; what is under way comes to the end of its transaction.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn sweep_always(keep: Keep, stop: CancellationToken) {
    let mut memory = Memory::default();
    let work = async {
        loop {
            match sweep(&keep, &mut memory).await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(Swept { erased, deleted }) => tracing::info!(erased, deleted, "old runs are swept"),
                Err(error) => tracing::warn!(%error, "old runs are not swept"),
            }
            tokio::time::sleep(pause(memory.shortest_ms)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

impl Keep {
    /// Sweeps once.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        sweep(self, &mut Memory::default()).await
    }
}

/// What one sweep leaves to the next.
#[derive(Default)]
struct Memory {
    /// What versions say, by digest.
    known: HashMap<Arc<str>, Retention>,
    /// The shortest time that anything is kept, as far as the last sweep came.
    shortest_ms: Option<u64>,
    /// Runs of this sweep that the archive could not keep.
    not_kept: u64,
    /// Why, as it was last told: an archive that is out of reach for a day is worth one line, not one for each run and
    /// sweep.
    told: Option<String>,
}

impl Memory {
    fn begin_sweep(&mut self, default: Retention) {
        // Workflows that come before the next sweep may have this.
        self.shortest_ms = in_force(Retention::default(), default).payloads_ms;
        self.not_kept = 0;
    }

    fn end_sweep(&mut self) {
        if self.not_kept == 0 && self.told.take().is_some() {
            tracing::info!("old runs are archived again");
        }
    }

    fn not_kept(&mut self, run: &RunId, error: String) {
        self.not_kept += 1;
        if self.not_kept == 1 && self.told.as_ref() != Some(&error) {
            tracing::warn!(run_id = %run, error, "old runs cannot be archived: they stay, and are tried again");
            self.told = Some(error);
        }
    }
}

/// Until the next sweep: nothing is kept for much longer than it should be.
fn pause(shortest_ms: Option<u64>) -> Duration {
    shortest_ms.map_or(SWEEP, |ms| Duration::from_millis(ms).clamp(SWEEP_LEAST, SWEEP))
}

async fn sweep(keep: &Keep, memory: &mut Memory) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    memory.begin_sweep(keep.default);
    let mut after: Option<(Realm, Arc<str>)> = None;
    loop {
        let last = after.as_ref().map(|(realm, id)| (realm, &**id));
        let workflows = keep.store.workflows(last, PAGE).await?;
        let Some(end) = workflows.last() else { break };
        after = Some((end.realm.clone(), end.workflow.clone()));
        for version in &workflows {
            let retention = in_force(retention_of(version, &mut memory.known), keep.default);
            // Never longer than that of the run.
            memory.shortest_ms = memory.shortest_ms.into_iter().chain(retention.payloads_ms).min();
            sweep_workflow(keep, memory, version, retention, &mut swept).await?;
        }
    }
    memory.end_sweep();
    Ok(swept)
}

/// What the version in force says.
fn retention_of(version: &VersionRow, known: &mut HashMap<Arc<str>, Retention>) -> Retention {
    if let Some(retention) = known.get(&version.digest) {
        return *retention;
    }
    let reading = caisson_core::definition::from_json(&version.definition.value());
    // One that cannot be read says nothing: what nobody can read is not deleted for it.
    let retention = reading.definition.map_or(Retention::default(), |definition| definition.retention);
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(version.digest.clone(), retention);
    retention
}

/// What holds: data is never kept longer than its run.
fn in_force(own: Retention, default: Retention) -> Retention {
    let runs_ms = own.runs_ms.or(default.runs_ms);
    let payloads_ms = own.payloads_ms.or(default.payloads_ms);
    let payloads_ms = match (payloads_ms, runs_ms) {
        (Some(payloads), Some(runs)) => Some(payloads.min(runs)),
        (one, other) => one.or(other),
    };
    Retention { payloads_ms, runs_ms }
}

async fn sweep_workflow(
    keep: &Keep,
    memory: &mut Memory,
    version: &VersionRow,
    retention: Retention,
    swept: &mut Swept,
) -> Result<(), StoreError> {
    let now = keep.clock.now();
    let before = |ms: u64| Timestamp(now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
    if let Some(ms) = retention.payloads_ms {
        swept.erased += each(keep, memory, version, Stage::Whole, before(ms)).await?;
    }
    if let Some(ms) = retention.runs_ms {
        swept.deleted += each(keep, memory, version, Stage::Erased, before(ms)).await?;
    }
    Ok(())
}

/// Takes every run of that stage a stage further; how many it took.
async fn each(
    keep: &Keep,
    memory: &mut Memory,
    version: &VersionRow,
    stage: Stage,
    before: Timestamp,
) -> Result<u64, StoreError> {
    let mut done = 0;
    for _ in 0..RUNS_MAX / PAGE {
        let runs = keep.store.ended(&version.realm, &version.workflow, stage, before, PAGE).await?;
        let mut moved = 0;
        for run in &runs {
            let done = match stage {
                Stage::Whole => erase(keep, memory, run).await?,
                Stage::Erased => delete(keep, run).await?,
            };
            moved += u64::from(done);
        }
        done += moved;
        // Those that could not be dealt with would come at once again.
        if moved == 0 || runs.len() < PAGE as usize {
            break;
        }
    }
    Ok(done)
}

/// Files, then data, once the archive has them. False if it could not be kept or a file not be removed: the run stays as
/// it is until the next sweep.
async fn erase(keep: &Keep, memory: &mut Memory, run: &RunId) -> Result<bool, StoreError> {
    if let Some(archive) = &keep.archive
        && let Err(error) = archive.keep(run).await
    {
        memory.not_kept(run, error);
        return Ok(false);
    }
    if !remove_files(keep, run).await? {
        return Ok(false);
    }
    let mut after = 0;
    while let Some(next) = keep.store.erase(run, after, ROWS_MAX, keep.clock.now()).await? {
        after = next;
        tokio::time::sleep(BREATH).await;
    }
    tokio::time::sleep(BREATH).await;
    Ok(true)
}

async fn remove_files(keep: &Keep, run: &RunId) -> Result<bool, StoreError> {
    loop {
        let paths = keep.store.files(run, FILES_MAX).await?;
        if paths.is_empty() {
            return Ok(true);
        }
        if let Err(error) = keep.files.remove(&paths).await {
            tracing::warn!(run_id = %run, error, "files of an old run cannot be removed");
            return Ok(false);
        }
        keep.store.forget_files(run, &paths).await?;
    }
}

async fn delete(keep: &Keep, run: &RunId) -> Result<bool, StoreError> {
    while !keep.store.delete(run, ROWS_MAX).await? {
        tokio::time::sleep(BREATH).await;
    }
    tokio::time::sleep(BREATH).await;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_sweep_comes_as_soon_as_what_is_kept_shortest_asks() {
        for (shortest_ms, pause_ms) in
            [(None, 60_000), (Some(86_400_000), 60_000), (Some(60_000), 60_000), (Some(5_000), 5_000), (Some(1), 1_000)]
        {
            assert_eq!(pause(shortest_ms), Duration::from_millis(pause_ms), "{shortest_ms:?}");
        }
    }

    #[test]
    fn data_is_never_kept_longer_than_its_run_and_the_workflow_goes_before_the_host() {
        let of = |payloads_ms, runs_ms| Retention { payloads_ms, runs_ms };
        for (own, default, expected) in [
            (of(None, None), of(None, None), of(None, None)),
            (of(Some(1), Some(2)), of(Some(7), Some(8)), of(Some(1), Some(2))),
            (of(None, None), of(Some(7), Some(8)), of(Some(7), Some(8))),
            (of(None, Some(2)), of(None, None), of(Some(2), Some(2))),
            (of(None, Some(2)), of(Some(7), None), of(Some(2), Some(2))),
            (of(Some(9), None), of(Some(7), Some(8)), of(Some(8), Some(8))),
            (of(Some(9), None), of(None, None), of(Some(9), None)),
        ] {
            assert_eq!(in_force(own, default), expected, "{own:?} {default:?}");
        }
    }
}
