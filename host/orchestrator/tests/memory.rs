//! The store in memory serves several hosts as any other does, in virtual time.
#![allow(missing_docs, reason = "a test's name says what it is")]

use std::sync::Arc;

use caisson_core::ports::contract;
use caisson_core::time::Timestamp;
use caisson_orchestrator::memory::{ManualClock, MemoryStore};

#[tokio::test]
async fn memory_keeps_the_contract_of_several_hosts() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
    let make = async || Arc::new(MemoryStore::with_clock(clock.clone()));
    let advance = async |ms| {
        clock.advance_ms(ms);
        // Whoever waits is looked at while time passes.
        tokio::task::yield_now().await;
    };
    contract::check_cluster(make, advance).await;
}
