//! PostgreSQL from the Debian package `postgresql`.
