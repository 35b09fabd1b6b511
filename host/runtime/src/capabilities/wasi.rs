//! WASI 0.2, inert: toolchains import it whether a plugin uses it or not.
//!
//! No directories, no environment, no arguments, no sockets. Standard output and error go to the log. Both clocks are
//! the entry's own (see `clock`): the wall clock starts at the invocation's time and the monotonic clock at 0. Random
//! numbers come from a seed (see `random`).
//!
//! Clocks and random numbers count as calls of the host; output is bounded by the log's limits, handles by their own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use caisson_core::ports::LogLevel;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamError, StreamResult, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::clock::{READING_NS, VirtualClock};
use crate::limits::{Exceeded, Limit};
use crate::logbook::LogBook;
use crate::state::State;

/// What one write to standard output or error may hold.
const WRITE_BYTES_MAX: usize = 64 << 10;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    wall_clock::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    monotonic_clock::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    random::random::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    random::insecure::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    random::insecure_seed::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The context of one entry.
fn context(log: &Arc<LogBook>) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(Output { log: Arc::clone(log), level: LogLevel::Info })
        .stderr(Output { log: Arc::clone(log), level: LogLevel::Error })
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let log = &self.log;
        WasiCtxView { ctx: self.wasi.get_or_insert_with(|| context(log)), table: &mut self.handles }
    }
}

impl wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.count()?;
        let now = self.clock.read_wall();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.count()?;
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: READING_NS })
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.count()?;
        Ok(self.clock.read_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        self.count()?;
        Ok(u64::from(READING_NS))
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.count()?;
        self.sleep(when)
    }

    fn subscribe_duration(&mut self, length: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.count()?;
        self.sleep(self.clock.after(length))
    }
}

/// Is ready once the guest's clock has reached a time, for which it waits for real.
struct Sleep {
    clock: Arc<VirtualClock>,
    until_ns: u64,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Sleep {
    async fn ready(&mut self) {
        self.clock.reach(self.until_ns).await;
    }
}

impl State {
    fn sleep(&mut self, until_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let sleep = self.handles.push(Sleep { clock: Arc::clone(&self.clock), until_ns })?;
        subscribe(&mut self.handles, sleep)
    }

    /// Counts what is asked for, before anything is allocated for it.
    fn ask_random(&mut self, length: u64) -> wasmtime::Result<()> {
        self.count()?;
        let max = self.limits.random_bytes;
        if self.random.ask(length) > max {
            return Err(Exceeded { limit: Limit::Random, max }.into());
        }
        Ok(())
    }

    fn random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.ask_random(length)?;
        let mut bytes = vec![0; usize::try_from(length)?];
        self.random.fill(&mut bytes);
        Ok(bytes)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        self.ask_random(size_of::<u64>() as u64)?;
        let mut bytes = [0; size_of::<u64>()];
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
