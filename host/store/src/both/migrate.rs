//! The schema, embedded, and brought up to date when the store is opened: on PostgreSQL by one host, under a lock of the database, while the
//! others wait.

use caisson_core::ports::StoreError;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::{Connection, MIGRATIONS, error};

/// Applies what is missing. A database that knows more than this program is refused.
pub(crate) async fn run(connection: &mut Connection) -> Result<(), StoreError> {
    up_to(connection, MIGRATIONS.len()).await
}

/// The same with the first so many of them.
pub(super) async fn up_to(connection: &mut Connection, count: usize) -> Result<(), StoreError> {
    let migrations = (1..).zip(&MIGRATIONS[..count]).map(|(number, (name, sql))| {
        Migration::new(number, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect()).run_direct(None, connection, false).await.map_err(|e| refused(&e))
}

fn refused(error: &MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(inner) | MigrateError::ExecuteMigration(inner, _) => error::of(inner),
        MigrateError::VersionMissing(number) => StoreError::Newer(format!(
            "its schema has migration {number}, this program ends at {}; use the program that wrote it, or a later one",
            MIGRATIONS.len()
        )),
        MigrateError::VersionMismatch(number) => {
            StoreError::Corrupt(format!("migration {number} is not the one that this program knows"))
        }
        other => StoreError::Other(other.to_string()),
    }
}
