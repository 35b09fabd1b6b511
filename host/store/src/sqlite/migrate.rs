//! The schema, embedded, and brought up to date when the store is opened.

use caisson_core::ports::StoreError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqliteConnection};

use super::error;

/// Number, name and text of every migration. The same numbers as for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str)] = &[(1, "first", include_str!("../../../../migrations/sqlite/0001_first.sql"))];

/// Applies what is missing. A database that knows more than this program is refused.
pub(crate) async fn run(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let migrations = MIGRATIONS
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
