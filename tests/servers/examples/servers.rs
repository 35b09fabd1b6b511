//! `cargo run -p caisson-test-servers --example servers`: a PostgreSQL and a nats-server on the loopback, empty and forgotten at the end,
//! to try several hosts with and for `caisson bench --hosts`. They end when this program does.

use std::io::Read;

use caisson_test_servers::nats::NatsServer;
use caisson_test_servers::postgres::PostgresServer;

fn main() -> std::io::Result<()> {
    let database = PostgresServer::start_with(&["shared_preload_libraries=pg_stat_statements"]);
    let nats = NatsServer::new();
    println!("--database-url {} --nats-url {}", database.url(), nats.url());
    eprintln!("They run until the end of the input: press Ctrl-D.");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
