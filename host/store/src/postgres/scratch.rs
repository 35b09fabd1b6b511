//! A database for a measurement: made on somebody's server, dropped when it is over; and what that server did meanwhile.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use super::{StoreError, error, options};

/// A database of its own.
#[derive(Debug)]
pub struct ScratchDatabase {
    /// To the database that the address names.
    outside: PgConnection,
    inside: PgConnection,
    options: PgConnectOptions,
    name: String,
}

/// What a server did since it was started, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerWork {
    /// Statements in the scratch database; absent unless the server has `pg_stat_statements` loaded.
    pub statements: Option<i64>,
    /// Bytes of its write-ahead log, of all databases.
    pub log_bytes: i64,
    /// Its processes that are alive, as the system that it runs on numbers them.
    pub processes: Vec<u32>,
}

impl ScratchDatabase {
    /// Makes it. The role of the address needs the right `CREATEDB`; the database that the address names is only connected to.
    pub async fn create(url: &str, name: &str) -> Result<Self, StoreError> {
        let failed = |e: sqlx::Error| error::of(&e);
        let options = options(url)?;
        let mut outside = PgConnection::connect_with(&options).await.map_err(failed)?;
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        run(&mut outside, format!("CREATE DATABASE {name} TEMPLATE template0")).await?;
        let options = options.database(&name);
        let mut inside = PgConnection::connect_with(&options).await.map_err(failed)?;
        // Statements are counted if the server can and the role may.
        let _ = run(&mut inside, "CREATE EXTENSION pg_stat_statements".to_owned()).await;
        Ok(Self { outside, inside, options, name })
    }

    /// Its address, password included.
    pub fn url(&self) -> String {
        self.options.to_url_lossy().to_string()
    }

    /// What the server did until now. Asking is three statements.
    pub async fn work(&mut self) -> Result<ServerWork, StoreError> {
        let failed = |e: sqlx::Error| error::of(&e);
        let statements = "SELECT sum(s.calls)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
                          WHERE d.datname = current_database()";
        let statements = sqlx::query(statements).fetch_one(&mut self.inside).await;
        let log = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
        let log = sqlx::query(log).fetch_one(&mut self.inside).await.map_err(failed)?;
        let processes = "SELECT pid FROM pg_stat_activity";
        let processes = sqlx::query(processes).fetch_all(&mut self.inside).await.map_err(failed)?;
        Ok(ServerWork {
            statements: statements.ok().and_then(|row| row.try_get(0).ok()),
            log_bytes: log.try_get(0).map_err(failed)?,
            processes: processes.iter().filter_map(|row| u32::try_from(row.get::<i32, _>(0)).ok()).collect(),
        })
    }

    /// Drops it, whoever is still connected.
    pub async fn drop(mut self) -> Result<(), StoreError> {
        run(&mut self.outside, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }
}

/// The only name in these texts is made of letters and digits.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), StoreError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop).map_err(|e| error::of(&e))
}
