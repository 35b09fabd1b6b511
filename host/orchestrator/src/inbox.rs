//! Results on their way to the host that moves their run: what this host leaves for others, and what others left for it.
//!
//! Invariant: a result that came through an inbox is decided on where it arrived, so it never travels twice.
//! Invariant: a row goes with the commit that takes its result in, or when nobody wants that result any more.

use std::sync::Arc;

use caisson_core::engine::{StepResult, Stimulus};
use caisson_core::ids::RunId;
use caisson_core::json::Json;
use caisson_core::ports::{Cluster, InboxRow};
use futures_util::future::join_all;

use crate::cell::{Envelope, Loaded, answer};
use crate::error::{Error, Kind};
use crate::service::Service;

/// Rows read at once.
const PAGE: u32 = 256;

/// The host that results of this run are left for, if it is another.
fn elsewhere(service: &Service, loaded: &Loaded) -> Option<(Arc<dyn Cluster>, Arc<str>)> {
    let cluster = service.0.ports.cluster.clone()?;
    let holder = loaded.holder.clone().filter(|holder| *holder != service.0.member.id())?;
    Some((cluster, holder))
}

/// Leaves results for the host that moves the run, and answers for them; whatever else there is stays.
pub(crate) async fn hand_over(service: &Service, run: &RunId, loaded: &Loaded, envelopes: &mut Vec<Envelope>) {
    let Some((cluster, holder)) = elsewhere(service, loaded) else { return };
    let is_result =
        |envelope: &mut Envelope| envelope.inbox.is_none() && matches!(envelope.stimulus, Stimulus::Result { .. });
    let leaving: Vec<Envelope> = envelopes.extract_if(.., is_result).collect();
    let results = leaving.iter().filter_map(|envelope| result_of(&envelope.stimulus));
    let results: Vec<StepResult> = results.collect();
    if results.is_empty() {
        return;
    }
    let rows: Vec<InboxRow> = results.iter().map(|result| row(run, &holder, result)).collect();
    // Noted before it is left: from then on somebody else may end the step.
    for result in &results {
        service.0.member.handed_over(run, result.step, result.claim);
    }
    let left = cluster.inbox_put(&rows).await.map_err(Error::from);
    for envelope in leaving {
        answer(envelope.reply, left.clone().map(|()| loaded.row.clone()));
    }
}

fn result_of(stimulus: &Stimulus) -> Option<StepResult> {
    let Stimulus::Result { step, attempt, claim, entry } = stimulus else { return None };
    Some(StepResult { step: *step, attempt: *attempt, claim: *claim, entry: entry.clone() })
}

fn row(run: &RunId, host: &Arc<str>, result: &StepResult) -> InboxRow {
    let id = format!("{run}:{}:{}:{}", result.step, result.attempt, result.claim);
    InboxRow { id: id.into(), run: run.clone(), host: host.clone(), stimulus: Json::of(result) }
}

/// Takes in what other hosts left for this one, or for one that is dead.
pub(crate) async fn take_in(service: &Service, cluster: &dyn Cluster) {
    loop {
        let rows = match cluster.inbox(&service.0.member.id(), PAGE).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(error = %error, "inbox cannot be read");
                return;
            }
        };
        let more = rows.len() >= PAGE as usize;
        let taken = join_all(rows.into_iter().map(|row| take_one(service, row))).await;
        let unwanted: Vec<Arc<str>> = taken.iter().filter_map(|taken| taken.clone().err().flatten()).collect();
        if !unwanted.is_empty()
            && let Err(error) = cluster.inbox_delete(&unwanted).await
        {
            tracing::warn!(error = %error, "inbox cannot be cleared");
            return;
        }
        // Those that could not be taken now would come at once again.
        if !more || taken.iter().all(|taken| matches!(taken, Err(None))) {
            return;
        }
    }
}

/// Whether it was taken in; else the row to delete, or none if it has to be tried again.
async fn take_one(service: &Service, row: InboxRow) -> Result<(), Option<Arc<str>>> {
    let result: StepResult = match serde_json::from_str(row.stimulus.get()) {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(run_id = %row.run, id = %row.id, error = %error, "result cannot be read");
            return Err(Some(row.id));
        }
    };
    match service.submit_from_inbox(&row.run, result.into(), row.id.clone()).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind, Kind::Unavailable | Kind::Internal) || error.code == "RUN_BUSY" => {
            tracing::warn!(run_id = %row.run, id = %row.id, error = %error, "result is not taken in yet");
            Err(None)
        }
        Err(error) => {
            tracing::debug!(run_id = %row.run, id = %row.id, error = %error, "result is no longer wanted");
            Err(Some(row.id))
        }
    }
}
