//! The real PostgreSQL that tests get.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use caisson_test_servers::postgres::PostgresServer;

/// Set in the child that a test starts and kills.
const CHILD: &str = "CAISSON_TEST_CHILD";

#[test]
fn what_was_written_is_there_after_a_kill_and_after_a_stop() {
    let server = PostgresServer::new();
    assert_eq!(server.execute("SHOW fsync"), "on");
    server.execute("CREATE TABLE t (n bigint)");
    for (number, end) in [PostgresServer::kill, PostgresServer::stop].into_iter().enumerate() {
        server.execute(&format!("INSERT INTO t VALUES ({number})"));
        end(&server);
        server.start();
        assert_eq!(server.execute("SELECT count(*) FROM t"), (number + 1).to_string());
    }
}

#[test]
fn databases_are_empty_and_apart() {
    let server = PostgresServer::shared();
    let (one, other) = (server.create_database(), server.create_database());
    assert_ne!(one, other);
    assert!(std::ptr::eq(server, std::thread::spawn(PostgresServer::shared).join().expect("joins")));
    assert_eq!(server.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'test_%'"), "2");
}

#[test]
fn a_server_does_not_outlive_a_process_that_is_killed() {
    if std::env::var_os(CHILD).is_some() {
        let server = PostgresServer::new();
        println!("{} {}", server.port(), server.execute("SHOW data_directory"));
        loop {
            std::thread::park();
        }
    }
    let mut child = Command::new(std::env::current_exe().expect("has a path"))
        .args(["--exact", "--nocapture", "a_server_does_not_outlive_a_process_that_is_killed"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    // The harness writes before the child does, on the same line.
    let output = std::io::BufReader::new(child.stdout.take().expect("is piped"));
    let mut lines = std::io::BufRead::lines(output).map_while(Result::ok);
    let told = lines.find_map(|line| {
        let (port, data) = line.split_once(" /")?;
        Some((port.rsplit(' ').next()?.parse::<u16>().ok()?, format!("/{data}")))
    });
    let (port, data) = told.expect("the child tells its server");
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    assert!(listens());
    child.kill().and_then(|()| child.wait()).expect("is killed");
    let began = Instant::now();
    while listens() || std::path::Path::new(&data).exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "the server is still there, or its data");
        std::thread::sleep(Duration::from_millis(10));
    }
}
