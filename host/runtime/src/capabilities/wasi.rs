//! WASI 0.2, inert: toolchains import it whether a plugin uses it or not.
//!
//! No directories, no environment, no arguments, no sockets. Standard output and error go to the log. The wall clock starts at the
//! invocation's time and the monotonic clock at 0; random numbers come from a seed, the same for the same entry of a step.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use caisson_core::ports::LogLevel;
use caisson_core::time::Timestamp;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWrite;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::random;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::limits::{Exceeded, Limit};
use crate::logbook::LogBook;
use crate::state::State;

/// What one write to standard output or error may hold.
const WRITE_BYTES_MAX: usize = 64 << 10;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    random::random::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    random::insecure::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    random::insecure_seed::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The context of one entry.
pub(crate) fn context(now: Timestamp, log: &Arc<LogBook>) -> WasiCtx {
    let started = Instant::now();
    WasiCtxBuilder::new()
        .stdout(Output { log: Arc::clone(log), level: LogLevel::Info })
        .stderr(Output { log: Arc::clone(log), level: LogLevel::Error })
        .wall_clock(Wall { start: Duration::from_millis(u64::try_from(now.0).unwrap_or(0)), started })
        .monotonic_clock(Monotonic { started })
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.handles }
    }
}

struct Wall {
    start: Duration,
    started: Instant,
}

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.start + self.started.elapsed()
    }
}

struct Monotonic {
    started: Instant,
}

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// SHA-256 in counter mode over a seed: not for keys that must be secret from the host, the same on every host.
#[derive(Debug)]
pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
    given: u64,
}

impl Random {
    pub(crate) fn new(step: &str, attempt: u32, entry: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"caisson random 1\0");
        hash.update(step);
        hash.update(attempt.to_be_bytes());
        hash.update(entry.to_be_bytes());
        Self { seed: hash.finalize().into(), counter: 0, given: 0 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.counter.to_be_bytes());
            self.counter += 1;
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
    }
}

impl State {
    fn random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        let max = self.limits.random_bytes;
        self.random.given = self.random.given.saturating_add(length);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self.random.given > max {
            return Err(Exceeded { limit: Limit::Random, max }.into());
        }
        let mut bytes = vec![0; length];
        self.random.fill(&mut bytes);
        Ok(bytes)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        let max = self.limits.random_bytes;
        self.random.given = self.random.given.saturating_add(8);
        if self.random.given > max {
            return Err(Exceeded { limit: Limit::Random, max }.into());
        }
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
}

impl random::random::Host for State {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_u64()
    }
}

impl random::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_u64()
    }
}

impl random::insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random_u64()?, self.random_u64()?))
    }
}

/// Standard output or error, as log lines.
struct Output {
    log: Arc<LogBook>,
    level: LogLevel,
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.stream())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.stream())
    }
}

impl Output {
    fn stream(&self) -> Lines {
        Lines { log: Arc::clone(&self.log), level: self.level, open: Vec::new() }
    }
}

/// Collects bytes until a line is whole.
struct Lines {
    log: Arc<LogBook>,
    level: LogLevel,
    open: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Exceeded> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(part);
            if part.ends_with(b"\n") || self.open.len() >= WRITE_BYTES_MAX {
                self.close()?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Exceeded> {
        if self.open.is_empty() {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).trim_end().to_owned();
        self.log.line(Some(self.level), line, None, None)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // A last line without its end. If it passes a limit, the guest is over anyway.
        let _ = self.close();
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes).map_err(|exceeded| StreamError::Trap(exceeded.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.take(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
