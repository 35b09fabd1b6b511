//! Reading what a run refers to. Whoever reads a run that has ended may meet retention: what was there a moment ago is erased now, and
//! that is an answer of its own, not damage.

use caisson_core::ids::RunId;
use caisson_core::json::{Blob, BlobRef, Json, Payload};
use caisson_core::ports::EventRow;
use caisson_core::status::RunStatus;

use crate::error::{Error, Kind};
use crate::service::Service;

/// The run is over, and only its outline is left.
pub(crate) const RUN_ERASED: &str = "RUN_ERASED";

/// A payload of that run.
pub(crate) async fn value(service: &Service, run: &RunId, payload: &Payload) -> Result<Json, Error> {
    match payload {
        Payload::Inline(json) => Ok(json.clone()),
        Payload::Stored(id) => Ok(blob(service, run, id).await?.json),
    }
}

/// A large value of that run.
pub(crate) async fn blob(service: &Service, run: &RunId, id: &BlobRef) -> Result<Blob, Error> {
    let store = &service.0.ports.store;
    if let Some(found) = store.blobs(std::slice::from_ref(id)).await?.pop() {
        return Ok(found);
    }
    let Some(row) = store.run(run).await? else {
        return Err(Error::new(Kind::NotFound, "RUN_NOT_FOUND", format!("there is no run {run}")));
    };
    not_erased(row.status, store.events(run, 0, 1).await?.first())?;
    Err(Error::new(Kind::Internal, "VALUE_GONE", format!("value {} of run {run} is gone from the store", id.sha256)))
}

/// A run is erased part by part, the first events first.
pub(crate) fn not_erased(status: RunStatus, first: Option<&EventRow>) -> Result<(), Error> {
    if first.is_some_and(|event| event.data_sha256.is_some()) {
        let message = format!("run has ended: it is {status}, and its data is erased");
        return Err(Error::new(Kind::Conflict, RUN_ERASED, message));
    }
    Ok(())
}
