//! SQLite keeps the contract of the port, and agrees with the store in memory.

use std::sync::{Arc, Mutex};

use caisson_core::ports::{Store, contract};
use caisson_orchestrator::memory::MemoryStore;
use caisson_store::{SqliteOptions, SqliteStore};

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let dirs = Mutex::new(Vec::new());
    contract::check_store(async || {
        let dir = tempfile::tempdir().expect("makes a directory");
        let store = SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens");
        dirs.lock().expect("is whole").push(dir);
        Arc::new(store)
    })
    .await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::check_store(async || Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn a_random_sequence_of_operations_looks_the_same_on_both() {
    const OPERATIONS: u32 = 600;
    let mut all = String::new();
    for seed in [1, 2, 3, 20_261_121] {
        let dir = tempfile::tempdir().expect("makes a directory");
        let store = SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens");
        let on_disk = contract::transcript(&store, seed, OPERATIONS).await;
        store.close().await;
        let in_memory = contract::transcript(&MemoryStore::new(), seed, OPERATIONS).await;
        for (number, (disk, memory)) in on_disk.lines().zip(in_memory.lines()).enumerate() {
            assert_eq!(disk, memory, "seed {seed}, line {number}");
        }
        assert_eq!(on_disk.lines().count(), in_memory.lines().count(), "seed {seed}");
        assert!(
            on_disk.contains("committed") && on_disk.contains("moved") && on_disk.contains("exists"),
            "seed {seed}"
        );
        all += &on_disk;
    }
    for seen in [": appended", ": superseded", ": unsound", "kv.maxKeys", "kv.maxBytes", ": conflict"] {
        assert!(all.matches(seen).count() > 5, "{seen}");
    }
}
