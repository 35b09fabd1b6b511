//! The schema, embedded. One host brings it up to date while the others wait.

use std::collections::BTreeMap;

use caisson_core::ports::StoreError;
use sqlx::PgConnection;
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::error;

/// Where sqlx notes what was applied.
const TABLE: &str = "_sqlx_migrations";

/// Number, name and text of every migration. The same numbers as for SQLite.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../../../../migrations/postgres/0001_first.sql")),
    (2, "plugins", include_str!("../../../../migrations/postgres/0002_plugins.sql")),
    (3, "hosts", include_str!("../../../../migrations/postgres/0003_hosts.sql")),
    (4, "load", include_str!("../../../../migrations/postgres/0004_load.sql")),
    (6, "resources", include_str!("../../../../migrations/postgres/0006_resources.sql")),
];

/// Applies what is missing, under a lock of the database. A database that knows more than this program is refused.
pub(crate) async fn run(connection: &mut PgConnection) -> Result<(), StoreError> {
    Migrator::with_migrations(all().collect()).run_direct(None, connection, false).await.map_err(|e| refused(&e))
}

/// Numbers of what is missing, without applying it.
pub(crate) async fn pending(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    let begun = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(TABLE).fetch_one(&mut *connection).await;
    let mut missing: BTreeMap<i64, Migration> = all().map(|migration| (migration.version, migration)).collect();
    if begun.map_err(|e| error::of(&e))? {
        for applied in connection.list_applied_migrations(TABLE).await.map_err(|e| refused(&e))? {
            let number = applied.version;
            let known = missing.remove(&number).ok_or_else(|| refused(&MigrateError::VersionMissing(number)))?;
            if known.checksum != applied.checksum {
                return Err(refused(&MigrateError::VersionMismatch(number)));
            }
        }
    }
    Ok(missing.into_keys().collect())
}

fn all() -> impl Iterator<Item = Migration> {
    MIGRATIONS.iter().map(|(number, name, sql)| {
        Migration::new(*number, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    })
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
