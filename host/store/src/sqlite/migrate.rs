//! The schema, embedded, and brought up to date when the store is opened.

use caisson_core::ports::StoreError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqliteConnection};

use super::error;

/// Number, name and text of every migration. The same numbers as for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../../../../migrations/sqlite/0001_first.sql")),
    (2, "plugins", include_str!("../../../../migrations/sqlite/0002_plugins.sql")),
    (3, "hosts", include_str!("../../../../migrations/sqlite/0003_hosts.sql")),
    (4, "load", include_str!("../../../../migrations/sqlite/0004_load.sql")),
    (5, "dead", include_str!("../../../../migrations/sqlite/0005_dead.sql")),
    (6, "resources", include_str!("../../../../migrations/sqlite/0006_resources.sql")),
    (7, "sessions", include_str!("../../../../migrations/sqlite/0007_sessions.sql")),
];

/// Applies what is missing. A database that knows more than this program is refused.
pub(crate) async fn run(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    apply(connection, MIGRATIONS).await
}

async fn apply(
    connection: &mut SqliteConnection,
    migrations: &[(i64, &'static str, &'static str)],
) -> Result<(), StoreError> {
    let migrations = migrations
        .iter()
        .map(|(number, name, sql)| {
            Migration::new(*number, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations).run_direct(None, connection, false).await.map_err(|e| refused(&e))
}

fn refused(error: &MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(inner) | MigrateError::ExecuteMigration(inner, _) => error::of(inner),
        MigrateError::VersionMissing(number) => StoreError::Newer(format!(
            "its schema has migration {number}, this program ends at {}; use the program that wrote it, or a later one",
            MIGRATIONS.last().map_or(0, |(number, ..)| *number)
        )),
        MigrateError::VersionMismatch(number) => {
            StoreError::Corrupt(format!("migration {number} is not the one that this program knows"))
        }
        other => StoreError::Other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    #[tokio::test]
    async fn data_of_every_earlier_schema_is_kept() {
        for known in 1..=MIGRATIONS.len() {
            let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.expect("opens");
            apply(&mut connection, &MIGRATIONS[..known]).await.expect("migrates");
            let insert = "INSERT INTO meta (tenant, environment, key, value) VALUES ('', '', 'latest_time', 7)";
            sqlx::query(insert).execute(&mut connection).await.expect("inserts");
            for _ in 0..2 {
                run(&mut connection).await.expect("migrates the rest, and then nothing");
            }
            let kept: i64 =
                sqlx::query_scalar("SELECT value FROM meta").fetch_one(&mut connection).await.expect("answers");
            assert_eq!(kept, 7);
            sqlx::query("SELECT * FROM journal").fetch_all(&mut connection).await.expect("is there");
        }
    }
}
