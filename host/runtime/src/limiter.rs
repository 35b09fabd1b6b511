//! Memory of one store, all memories and tables together.

use async_trait::async_trait;

use crate::limits::{Exceeded, INSTANCES_MAX, Limit, MEMORIES_MAX, TABLES_MAX};

/// A guest that gets more memory has given way before. Filling or hashing so much takes some milliseconds, in which no
/// tick reaches it, and an entry that gives way leaves the host's threads (see `threads`).
const BRIEF_BYTES_MAX: u64 = 8 << 20;

/// Bytes that a table element takes in the host.
const ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// Counts what grows, refuses what is too much, and remembers that it did: a guest whose allocation is refused traps a little
/// later, and the error has to name the limit and not the trap.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_max: u64,
    elements_max: u64,
    bytes: u64,
    elements: u64,
    peak_bytes: u64,
    denied: Option<Exceeded>,
}

impl Limiter {
    pub(crate) fn new(memory_max: u64, elements_max: u64) -> Self {
        Self { memory_max, elements_max, bytes: 0, elements: 0, peak_bytes: 0, denied: None }
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    pub(crate) fn denied(&self) -> Option<Exceeded> {
        self.denied
    }

    async fn grow(&mut self, more: u64) -> bool {
        let total = self.bytes.saturating_add(more);
        if total > self.memory_max {
            self.denied = Some(Exceeded { limit: Limit::Memory, max: self.memory_max });
            return false;
        }
        if total > BRIEF_BYTES_MAX && self.peak_bytes <= BRIEF_BYTES_MAX {
            tokio::task::yield_now().await;
        }
        self.bytes = total;
        self.peak_bytes = self.peak_bytes.max(total);
        true
    }
}

#[async_trait]
impl wasmtime::ResourceLimiterAsync for Limiter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The guest's own maximum or the pool's slot: it will be refused, so it must not count.
            self.denied = Some(Exceeded { limit: Limit::Memory, max: self.memory_max });
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64).await)
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.denied = Some(Exceeded { limit: Limit::Table, max: self.elements_max });
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        if self.elements.saturating_add(more) > self.elements_max {
            self.denied = Some(Exceeded { limit: Limit::Table, max: self.elements_max });
            return Ok(false);
        }
        if !self.grow(more * ELEMENT_BYTES).await {
            return Ok(false);
        }
        self.elements += more;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        // The pool's slot is full.
        self.denied = Some(Exceeded { limit: Limit::Table, max: self.elements_max });
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
