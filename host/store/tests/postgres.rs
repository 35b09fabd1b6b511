//! PostgreSQL keeps the contract of the ports, that of many hosts among them, and agrees with SQLite and the store in memory.

use std::sync::Arc;
use std::time::Duration;

use caisson_core::ports::{Store, contract};
use caisson_orchestrator::memory::MemoryStore;
use caisson_store::{PostgresOptions, PostgresStore};
use caisson_test_servers::postgres::PostgresServer;

async fn fresh() -> Arc<PostgresStore> {
    let url = tokio::task::spawn_blocking(|| PostgresServer::shared().create_database()).await.expect("a database");
    let options = PostgresOptions { connections: 6, ..PostgresOptions::default() };
    Arc::new(PostgresStore::open(&url, options).await.expect("opens"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract::check_store(async || fresh().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_many_hosts() {
    // The database's clock goes on by itself.
    contract::check_cluster(async || fresh().await, async |ms| tokio::time::sleep(Duration::from_millis(ms)).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_sequence_of_operations_looks_as_in_memory() {
    const OPERATIONS: u32 = 600;
    for seed in [1, 2, 20_261_121] {
        let store = fresh().await;
        let on_disk = contract::transcript(&*store, seed, OPERATIONS).await;
        store.close().await;
        let in_memory = contract::transcript(&MemoryStore::new(), seed, OPERATIONS).await;
        for (number, (disk, memory)) in on_disk.lines().zip(in_memory.lines()).enumerate() {
            assert_eq!(disk, memory, "seed {seed}, line {number}");
        }
        assert_eq!(on_disk.lines().count(), in_memory.lines().count(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nul_in_a_text_is_no_reason_to_lose_a_commit() {
    let store = fresh().await;
    let mut run = contract::make::run("r", 1_000);
    run.name = Some("a\u{0}b\\u0000".to_owned());
    run.input = contract::make::payload("{\"text\":\"a\\u0000\\\\u0000\"}");
    store.commit(contract::make::commit(&mut run, 1, 1_000)).await.expect("commits");
    let stored = store.run(&run.id).await.expect("answers").expect("is there");
    assert_eq!(stored.name.as_deref(), Some("a\u{fffd}b\\u0000"));
    assert_eq!(stored.input, run.input, "values stay as they are");
}
