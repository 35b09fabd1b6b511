//! PostgreSQL keeps the contract of the ports, that of many hosts among them, and agrees with SQLite and the store in memory.

use std::sync::Arc;
use std::time::Duration;

use caisson_core::ports::{Store, contract};
use caisson_orchestrator::memory::MemoryStore;
use caisson_store::{PostgresOptions, PostgresStore};
use caisson_test_servers::postgres::PostgresServer;
use sqlx::{Connection, PgConnection};

async fn create() -> String {
    tokio::task::spawn_blocking(|| PostgresServer::shared().create_database()).await.expect("a database")
}

async fn open(url: &str) -> Arc<PostgresStore> {
    let options = PostgresOptions { connections: 6, ..PostgresOptions::default() };
    Arc::new(PostgresStore::open(url, options).await.expect("opens"))
}

/// The store after all its rows were deleted: to make a database for each of a hundred checks takes a hundred times half a second.
async fn emptied(url: &str) -> Arc<PostgresStore> {
    let store = open(url).await;
    let empty = "DO $$ DECLARE name text; BEGIN \
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations' LOOP \
        EXECUTE format('DELETE FROM %I', name); END LOOP; END $$";
    let mut connection = PgConnection::connect(url).await.expect("connects");
    sqlx::raw_sql(empty).execute(&mut connection).await.expect("empties");
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    let url = create().await;
    contract::check_store(async || emptied(&url).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_many_hosts() {
    let url = create().await;
    // The database's clock goes on by itself.
    let advance = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
    contract::check_cluster(async || emptied(&url).await, advance).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_sequence_of_operations_looks_as_in_memory() {
    const OPERATIONS: u32 = 600;
    for seed in [1, 2, 20_261_121] {
        let store = open(&create().await).await;
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
    let store = open(&create().await).await;
    let mut run = contract::make::run("r", 1_000);
    run.name = Some("a\u{0}b\\u0000".to_owned());
    run.input = contract::make::payload("{\"text\":\"a\\u0000\\\\u0000\"}");
    store.commit(contract::make::commit(&mut run, 1, 1_000)).await.expect("commits");
    let stored = store.run(&run.id).await.expect("answers").expect("is there");
    assert_eq!(stored.name.as_deref(), Some("a\u{fffd}b\\u0000"));
    assert_eq!(stored.input, run.input, "values stay as they are");
}
