//! What it costs PostgreSQL to take rows in, by the form in which they come: `cargo run --release -p caisson-store --example row_forms`.
//!
//! As JSON (parsed anew for each column), as JSONB (parsed once), or as an array a column (`unnest`); as many rows as one commit and as
//! fifty have. Reports the server's CPU a row.

use std::time::Duration;

use caisson_test_servers::postgres::PostgresServer;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const COLUMNS: usize = 12;
const FORMS: [&str; 3] = ["json", "jsonb", "unnest"];

/// Columns of the table of events, as texts: two of five are numbers there.
fn row(number: usize) -> [String; COLUMNS] {
    let data = format!("{{\"json\":{{\"number\":{number},\"more\":\"{}\"}}}}", "x".repeat(150));
    let run = format!("01a21e43-e5fd-7102-805a-{:012x}", number / 3);
    let hash = "a".repeat(64);
    let texts =
        [&run, "0", "default", "default", "step.completed", "1796000000000", "user:a", "b", "1", &data, &hash, &hash];
    texts.map(str::to_owned)
}

fn insert(form: &str) -> String {
    let cast = |at: usize| if [1, 5, 8].contains(&at) { "::bigint" } else { "" };
    let columns: Vec<String> = (0..COLUMNS)
        .map(|at| if form == "unnest" { format!("c{at}{}", cast(at)) } else { format!("(v->>{at}){}", cast(at)) })
        .collect();
    let from = if form == "unnest" {
        let (names, arrays): (Vec<_>, Vec<_>) =
            (0..COLUMNS).map(|at| (format!("c{at}"), format!("${}::text[]", at + 1))).unzip();
        format!("unnest({}) AS j({})", arrays.join(", "), names.join(", "))
    } else {
        format!("{form}_array_elements($1::{form}) AS j(v)")
    };
    format!("INSERT INTO taken SELECT {} FROM {from}", columns.join(", "))
}

/// CPU of a process, user and system; `/proc` counts a hundred ticks a second.
fn cpu(process: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the server is on this machine");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("has a name").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|at: &usize| fields[*at].parse::<u64>().expect("is a number")).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::main]
async fn main() -> Result<(), sqlx::Error> {
    let server = PostgresServer::new();
    let mut connection = PgConnection::connect(&server.url()).await?;
    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
    for (rows, times) in [(3_u32, 6_000_u32), (150, 400)] {
        for form in FORMS {
            connection.execute("DROP TABLE IF EXISTS taken").await?;
            connection
                .execute("CREATE TABLE taken (run TEXT, seq BIGINT, c TEXT, d TEXT, e TEXT, f BIGINT, g TEXT, h TEXT, i BIGINT, j TEXT, k TEXT, l TEXT)")
                .await?;
            let (sql, batch) = (insert(form), (0..rows as usize).map(row).collect::<Vec<_>>());
            let json = serde_json::to_string(&batch).expect("is JSON");
            let arrays: Vec<Vec<String>> =
                (0..COLUMNS).map(|at| batch.iter().map(|row| row[at].clone()).collect()).collect();
            let before = cpu(process);
            for _ in 0..times {
                let mut query = sqlx::query(AssertSqlSafe(sql.as_str()));
                if form == "unnest" {
                    for array in &arrays {
                        query = query.bind(array);
                    }
                } else {
                    query = query.bind(&json);
                }
                query.execute(&mut connection).await?;
            }
            let each = cpu(process).saturating_sub(before).as_secs_f64() * 1e6 / f64::from(times) / f64::from(rows);
            println!("{rows:4} rows as {form:6}: {each:6.1} us of the server's CPU a row");
        }
    }
    Ok(())
}
