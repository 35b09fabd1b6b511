//! Schemas of earlier programs.

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::MIGRATIONS;
use super::migrate::{run, up_to};

#[tokio::test]
async fn data_of_every_earlier_schema_is_kept() {
    for known in 1..=MIGRATIONS.len() {
        let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.expect("opens");
        up_to(&mut connection, known).await.expect("migrates");
        let insert = "INSERT INTO meta (tenant, environment, key, value) VALUES ('', '', 'latest_time', 7)";
        sqlx::query(insert).execute(&mut connection).await.expect("inserts");
        for _ in 0..2 {
            run(&mut connection).await.expect("migrates the rest, and then nothing");
        }
        let kept: i64 = sqlx::query_scalar("SELECT value FROM meta").fetch_one(&mut connection).await.expect("answers");
        assert_eq!(kept, 7);
        sqlx::query("SELECT * FROM journal").fetch_all(&mut connection).await.expect("is there");
    }
}

#[test]
fn files_have_the_numbers_that_they_are_applied_by() {
    for (number, (name, _)) in (1..).zip(MIGRATIONS) {
        assert!(name.starts_with(&format!("{number:04}_")), "{name} is applied as number {number}");
    }
}
