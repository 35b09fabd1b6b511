//! What SQLite's errors mean to the store, by code, never by text.

use caisson_core::ports::StoreError;

/// Primary result codes of SQLite; extended codes hold them in their low byte.
const BUSY: i64 = 5;
const CORRUPT: i64 = 11;
const FULL: i64 = 13;
const NOT_A_DATABASE: i64 = 26;

/// The store's word for an error of the database.
pub(crate) fn of(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<i64>().ok()).unwrap_or(0);
            match code & 0xff {
                FULL => StoreError::Full(text),
                CORRUPT | NOT_A_DATABASE => StoreError::Corrupt(text),
                BUSY => StoreError::Locked(text),
                _ => StoreError::Other(text),
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
            StoreError::Corrupt(text)
        }
        _ => StoreError::Other(text),
    }
}

/// Whether a row with that key was there already.
pub(crate) fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
