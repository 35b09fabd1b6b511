//! The schema, embedded. One host brings it up to date while the others wait.

use caisson_core::ports::StoreError;
use sqlx::PgConnection;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::error;

/// Number, name and text of every migration. The same numbers as for SQLite.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../../../../migrations/postgres/0001_first.sql")),
    (2, "plugins", include_str!("../../../../migrations/postgres/0002_plugins.sql")),
    (3, "hosts", include_str!("../../../../migrations/postgres/0003_hosts.sql")),
    (4, "load", include_str!("../../../../migrations/postgres/0004_load.sql")),
    (5, "dead", include_str!("../../../../migrations/postgres/0005_dead.sql")),
    (6, "resources", include_str!("../../../../migrations/postgres/0006_resources.sql")),
    (7, "sessions", include_str!("../../../../migrations/postgres/0007_sessions.sql")),
];

/// Applies what is missing, under a lock of the database. A database that knows more than this program is refused.
pub(crate) async fn run(connection: &mut PgConnection) -> Result<(), StoreError> {
    let migrations = MIGRATIONS.iter().map(|(number, name, sql)| {
        Migration::new(*number, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect()).run_direct(None, connection, false).await.map_err(|e| refused(&e))
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
