//! What holds for every request: a panic is an answer, a refusal reaches its client, and something is written about it.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, Stream, StreamExt};

use super::error::ApiError;
use crate::observe::metrics::Metrics;

/// A body that nobody wants is read on for so long, and for so many bytes, so that the client sees the answer instead of a broken
/// connection: the 100 MB that somebody posts by mistake arrive within it on a local network.
const LINGER_TIME_MAX: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: usize = 256 << 20;

/// Around every handler.
pub async fn guard(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = AssertUnwindSafe(next.run(lingering(request))).catch_unwind().await.unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason");
        tracing::error!(%method, path, reason, "a handler panicked");
        ApiError::internal("the host made a mistake; it is in its log").into_response()
    });
    // What is data stays data, whatever is in it.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    metrics.request(method.as_str(), path.as_deref(), response.status().as_u16());
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(%method, path, status = response.status().as_u16(), ms, "request");
    response
}

/// Whoever says "100-continue" waits for our word before it sends, and needs no lingering.
fn lingering(request: Request) -> Request {
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return request;
    }
    request.map(|body| Body::from_stream(Lingering(Some(body.into_data_stream()))))
}

/// A body that is read to its end, within bounds, also if its reader lets go of it.
struct Lingering(Option<BodyDataStream>);

impl Stream for Lingering {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let next = body.poll_next_unpin(context);
        if let Poll::Ready(None | Some(Err(_))) = next {
            self.0 = None;
        }
        next
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.0.take() else { return };
        // Ends by itself: with the connection, the body or the bounds.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LINGER_TIME_MAX, discard(body)));
        }
    }
}

async fn discard(mut body: BodyDataStream) {
    let mut left = LINGER_BYTES_MAX;
    while let Some(Ok(bytes)) = body.next().await {
        let Some(rest) = left.checked_sub(bytes.len()) else { return };
        left = rest;
    }
}
