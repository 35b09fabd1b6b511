//! Hosts that share a PostgreSQL and a nats-server.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "each test uses its part")]

use std::path::Path;

use caisson_test_servers::nats::NatsServer;
use caisson_test_servers::postgres::PostgresServer;
use tempfile::TempDir;

use super::{Host, Setup};

/// What hosts share.
pub struct Shared {
    pub nats: NatsServer,
    pub database: PostgresServer,
    pub database_url: String,
    pub dir: TempDir,
}

impl Shared {
    pub fn start() -> Self {
        let (nats, database) = (NatsServer::new(), PostgresServer::new());
        let database_url = database.create_database();
        Self { nats, database, database_url, dir: tempfile::tempdir().unwrap() }
    }

    /// How one of the hosts is started.
    pub fn setup(&self, number: usize) -> Setup {
        self.setup_over(number, &self.database_url, &self.nats.url())
    }

    /// The same over wires of its own.
    pub fn setup_over(&self, number: usize, database_url: &str, nats_url: &str) -> Setup {
        let data = self.dir.path().join(format!("host{number}"));
        std::fs::create_dir_all(&data).unwrap();
        Setup::new(&data)
            .arg("--database-url", database_url)
            .arg("--nats-url", nats_url)
            .arg("--artifacts-dir", path(&self.dir.path().join("artifacts")))
    }

    pub async fn hosts<const N: usize>(&self) -> [Host; N] {
        let mut hosts = Vec::new();
        for number in 0..N {
            hosts.push(self.setup(number).start().await);
        }
        hosts.try_into().ok().unwrap()
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
