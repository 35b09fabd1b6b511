//! Outgoing HTTP: to granted hosts, from the journal if it is there. The work is done in `net`.

use bytes::Bytes;
use caisson_core::plugin::Capability;
use serde::{Deserialize, Serialize};

use super::stored::Blob;
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::http::{Host, Request, Response};
use crate::journal::{Done, Place};
use crate::net::{Caller, Outgoing, REQUESTS_DEFAULT};
use crate::state::State;

/// What a record keeps of an answer.
#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Blob,
}

impl Host for State {
    async fn send(&mut self, mut request: Request) -> wasmtime::Result<Result<Response, Error>> {
        self.count()?;
        let body = Bytes::from(request.body.take().unwrap_or_default());
        let read = Outgoing::new(&self.effective, &request, body.clone());
        let outgoing = match (read, self.granted(Capability::Http)) {
            // The more exact word of the two.
            (Err(error @ Error::Denied(_)), _) | (_, Err(error)) | (Err(error), Ok(())) => return Ok(Err(error)),
            (Ok(outgoing), Ok(())) => outgoing,
        };
        let requests =
            self.effective.least(REQUESTS_DEFAULT, |grants| grants.http.as_ref().and_then(|http| http.max_requests));
        self.quota.http_requests += 1;
        if self.quota.http_requests > requests {
            return Ok(Err(Error::Quota(format!("one entry of a step may send {requests} requests"))));
        }
        // With the placeholders of secrets, never their values: a secret may be changed while a step waits.
        let timeout = request.timeout_ms.map_or_else(String::new, |ms| ms.to_string());
        let mut parts: Vec<&[u8]> = vec![request.method.as_bytes(), request.url.as_bytes(), timeout.as_bytes(), &body];
        parts.extend(request.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        let answer: Result<Answer, Error> = self
            .journaled("http.send", &parts, async move |state: &mut Self, place: Place| {
                let caller = Caller {
                    realm: &state.realm,
                    effective: &state.effective,
                    redactor: &state.redactor,
                    resolver: &*state.shared.resolver,
                    idempotency_key: &place.idempotency_key,
                };
                let mut seen = outgoing.seen();
                let answer = state.shared.http.send(&caller, outgoing).await;
                seen.extend(answer.iter().map(|answer| ("http.response.status_code", answer.status.to_string())));
                let answer =
                    answer.map(|Response { status, headers, body }| Answer { status, headers, body: Blob(body) });
                Ok(Done::seen(answer, seen))
            })
            .await?;
        Ok(answer.map(|Answer { status, headers, body }| Response { status, headers, body: body.0 }))
    }
}
