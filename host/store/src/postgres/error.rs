//! What PostgreSQL's errors mean to the store, by code, never by text.

use caisson_core::ports::StoreError;

/// The store's word for an error of the database.
pub(crate) fn of(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("53100") => StoreError::Full(text),
            Some("XX001" | "XX002") => StoreError::Corrupt(text),
            // Deadlocks, conflicts and duplicates: another host was faster, and what it wrote is seen at the next look.
            Some("40P01" | "40001" | "23505" | "55P03") => StoreError::Locked(text),
            // A NUL in a text, or one that is too long for an index.
            Some("22021" | "22P05" | "54000") => StoreError::Invalid(text),
            _ => StoreError::Other(text),
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
            StoreError::Corrupt(text)
        }
        sqlx::Error::PoolTimedOut => {
            StoreError::Other("no connection to PostgreSQL in time: it is busy, or out of reach".to_owned())
        }
        _ => StoreError::Other(text),
    }
}

/// Whether the server may be there in a moment: nobody answers, or it starts up or shuts down.
pub(crate) fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(database) => matches!(database.code().as_deref(), Some("57P03" | "57P01" | "53300")),
        _ => false,
    }
}

/// Whether a row with that key was there already.
pub(crate) fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
