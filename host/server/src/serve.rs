//! Sockets: accepts connections, bounds them, and lets them end in good order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once. Each takes a file and some 20 KB; beyond this the kernel's backlog holds the others.
pub const CONNECTIONS_MAX: usize = 4096;

/// The head of a request must arrive within this, and an idle connection is closed after it: long enough for a pooled client, short enough
/// that slowloris holds nothing for long.
const HEAD_READ_TIME_MAX: Duration = Duration::from_secs(30);

/// The largest head of a request: keys, cursors and cookies fit in a fraction of it.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Requests under way may take so long to end after the host was told to stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// After a failed accept (out of files, usually) the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until told to stop, then until the requests under way have ended.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let builder = Arc::new(builder());
    while let Some((stream, permit)) = accept(&listener, &room, &stop).await {
        connections.spawn(connection(stream, permit, builder.clone(), router.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIME_MAX, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "requests still under way are broken off");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_READ_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder
}

/// The next connection, once there is room for it; `None` when it is time to stop.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    loop {
        let accepted = async {
            let permit = room.clone().acquire_owned().await.ok()?;
            Some(listener.accept().await.map(|(stream, _)| (stream, permit)))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted?,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((stream, permit)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "connection went away");
                    continue;
                }
                return Some((stream, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
    stop: CancellationToken,
) {
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
    drop(permit);
}
