//! What is left of finished runs: first their data goes, then all of them. A little at a time, so that nobody waits for it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{StoreError, VersionRow};
use crate::ids::{Realm, RunId};
use crate::json::Blob;
use crate::time::Timestamp;

/// Which finished runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Those that have their data.
    Whole,
    /// Those whose data is erased.
    Erased,
}

/// A store that lets go of what is old. Every call is one transaction of a bounded size; whatever is left of a call that did not come to
/// its end is found again by [`Pruning::ended`].
#[async_trait]
pub trait Pruning: Send + Sync {
    /// The versions in force of all realms' workflows, by realm and id, after one.
    async fn workflows(&self, after: Option<(&Realm, &str)>, limit: u32) -> Result<Vec<VersionRow>, StoreError>;
    /// Runs of a workflow that ended before a time, longest ago first.
    async fn ended(
        &self,
        realm: &Realm,
        workflow: &str,
        stage: Stage,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError>;
    /// Where the files of a run lie that nobody has removed.
    async fn files(&self, run: &RunId, limit: u32) -> Result<Vec<Arc<str>>, StoreError>;
    /// Forgets these files of a run.
    async fn forget_files(&self, run: &RunId, paths: &[Arc<str>]) -> Result<(), StoreError>;
    /// Large values of a run, by hash, after the one of that hash.
    async fn values(&self, run: &RunId, after: Option<&str>, limit: u32) -> Result<Vec<Blob>, StoreError>;
    /// Erases data of a finished run: about `limit` rows, events after `after` in their order. Gives the event to go on after, or `None` when
    /// all is done. What stays: events without their data but with its hash, so that the chain holds; steps with what they used; codes
    /// and categories of errors; who decided which approval. A large value goes when no other run has it.
    /// The first event goes with the first call: as long as it has its data, the run is whole.
    async fn erase(&self, run: &RunId, after: u64, limit: u32, at: Timestamp) -> Result<Option<u64>, StoreError>;
    /// Deletes about `limit` rows of a run whose data is erased, its own row last; whether all is gone.
    async fn delete(&self, run: &RunId, limit: u32) -> Result<bool, StoreError>;
}

/// Where finished runs are written down for good before their data is erased.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Keeps a run: once this returns, what it wrote survives a loss of power. Again is fine, and so are several hosts at
    /// once. A run of which something is erased already is left out: whoever began to erase it has kept it, or was not
    /// told to. An error is for the log, and nothing of the run may be erased after it.
    async fn keep(&self, run: &RunId) -> Result<(), String>;
}

/// The files of runs, outside of the store.
#[async_trait]
pub trait RunFiles: Send + Sync {
    /// Removes files by their place below the directory of artifacts; one that is gone is fine. An error is for the log.
    async fn remove(&self, paths: &[Arc<str>]) -> Result<(), String>;
}
