//! The schema on PostgreSQL: brought up to date once, refused when it is newer, and the same as that of SQLite.

use std::collections::BTreeSet;
use std::path::Path;

use caisson_core::ports::{Store, StoreError};
use caisson_store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use caisson_test_servers::postgres::PostgresServer;
use sqlx::{Connection, PgConnection};

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, PostgresOptions::default()).await.expect("opens")
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connects")
}

async fn execute(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.expect("executes");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_open_at_once_migrate_once() {
    let url = PostgresServer::shared().create_database();
    let opening: Vec<_> =
        (0..8).map(|_| url.clone()).map(|url| tokio::spawn(async move { open(&url).await })).collect();
    for store in opening {
        store.await.expect("joins").close().await;
    }
    caisson_store::migrate(&url).await.expect("has nothing to do");
    let mut connection = connect(&url).await;
    let applied: i64 =
        sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations").fetch_one(&mut connection).await.expect("answers");
    assert_eq!(applied, i64::try_from(migrations("postgres").len()).expect("few"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused() {
    let url = PostgresServer::shared().create_database();
    open(&url).await.close().await;
    let mut connection = connect(&url).await;
    execute(
        &mut connection,
        "UPDATE _sqlx_migrations SET version = 9999 WHERE version = (SELECT max(version) FROM _sqlx_migrations)",
    )
    .await;
    let refused = PostgresStore::open(&url, PostgresOptions::default()).await.err();
    assert!(matches!(&refused, Some(StoreError::Newer(why)) if why.contains("9999")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_lose_commits_is_refused() {
    let url = PostgresServer::shared().create_database();
    let mut connection = connect(&url).await;
    execute(
        &mut connection,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    .await;
    let refused = PostgresStore::open(&url, PostgresOptions::default()).await.err();
    assert!(matches!(&refused, Some(StoreError::Invalid(why)) if why.contains("synchronous_commit")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_refused_without_its_password() {
    let refused = PostgresStore::open("pg:/ann:hunter2@nowhere", PostgresOptions::default()).await.err();
    assert!(matches!(&refused, Some(why) if !why.to_string().contains("hunter2")), "{refused:?}");
}

/// Names of the migrations' files.
fn migrations(database: &str) -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(database);
    let files = std::fs::read_dir(dir).expect("is there");
    files.map(|file| file.expect("reads").file_name().into_string().expect("UTF-8")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_migrations_tables_and_columns() {
    assert_eq!(migrations("postgres"), migrations("sqlite"));
    let url = PostgresServer::shared().create_database();
    caisson_store::migrate(&url).await.expect("migrates");
    let sql = "SELECT table_name || '.' || column_name FROM information_schema.columns \
               WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'";
    let server: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connect(&url).await).await.expect("answers");
    let dir = tempfile::tempdir().expect("makes a directory");
    SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens").close().await;
    let file = format!("sqlite://{}", dir.path().join(caisson_store::DATABASE_FILE).display());
    let mut disk = sqlx::SqliteConnection::connect(&file).await.expect("connects");
    let sql = "SELECT m.name || '.' || c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c \
               WHERE m.type = 'table' AND m.name NOT IN ('_sqlx_migrations', 'sqlite_sequence', 'sqlite_stat1')";
    let disk: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut disk).await.expect("answers");
    let (server, disk): (BTreeSet<_>, BTreeSet<_>) = (server.into_iter().collect(), disk.into_iter().collect());
    assert_eq!(disk.difference(&server).collect::<Vec<_>>(), Vec::<&String>::new(), "PostgreSQL lacks them");
    let more: BTreeSet<&str> = server.difference(&disk).map(|name| name.split('.').next().unwrap_or(name)).collect();
    // What many hosts need alone: tables of their own, and a column each of these.
    assert_eq!(more, ["hosts", "inbox", "outbox", "runs", "secrets", "timers"].into());
}
