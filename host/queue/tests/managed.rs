//! A nats-server of our own, for real.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caisson_core::ports::TaskQueue;
use caisson_queue::jetstream::{JetStreamQueue, Options};
use caisson_queue::{ManagedNats, ManagedOptions};
use caisson_test_servers::nats;
use support::{Wall, connect, soon, step, steps, take};

fn managed(dir: &Path) -> ManagedOptions {
    ManagedOptions { program: Some(nats::binary()), data_dir: dir.to_owned(), port: None, monitor: false }
}

fn options(server: &ManagedNats) -> Options {
    Options { token: Some(server.token().to_owned()), ..Options::new(server.url(), "test") }
}

/// The processes that have this directory in their arguments.
fn processes(dir: &Path) -> Vec<u32> {
    let needle = dir.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("a Linux").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).contains(&needle) {
            found.push(id);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_steps_over_a_restart_and_leaves_no_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = ManagedNats::start(managed(dir.path())).await.expect("starts");
    let queue = connect(options(&server)).await;
    queue.publish(steps(0..3), false);
    assert_eq!(soon(take(&queue)).await, step(0));
    soon(queue.close()).await;
    soon(server.stop()).await;
    assert_eq!(processes(dir.path()), Vec::<u32>::new());
    let server = ManagedNats::start(managed(dir.path())).await.expect("starts again");
    let queue = connect(options(&server)).await;
    assert_eq!(soon(take(&queue)).await, step(1));
    soon(server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_started_again_when_it_dies_and_the_queue_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = ManagedNats::start(managed(dir.path())).await.expect("starts");
    let queue = connect(options(&server)).await;
    queue.publish(steps(0..3), false);
    assert_eq!(soon(take(&queue)).await, step(0));
    for id in processes(dir.path()) {
        let killed = std::process::Command::new("kill").args(["-KILL", &id.to_string()]).status();
        assert!(killed.expect("kill can be run").success());
    }
    let mut rest = [soon(take(&queue)).await.step, soon(take(&queue)).await.step];
    rest.sort_unstable();
    assert_eq!(rest, [1, 2]);
    soon(server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_token_may_use_it_and_only_the_owner_may_read_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = ManagedNats::start(managed(dir.path())).await.expect("starts");
    let refused = JetStreamQueue::connect(Options::new(server.url(), "test"), Arc::new(Wall)).await;
    let error = refused.err().expect("it must be refused").to_string();
    assert!(error.contains("authorization"), "{error}");
    let config = dir.path().join("nats/server.conf");
    assert_eq!(std::fs::metadata(&config).expect("is there").permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&config).expect("is readable for us").contains(server.token()));
    for id in processes(dir.path()) {
        let arguments = std::fs::read_to_string(format!("/proc/{id}/cmdline")).expect("runs");
        assert!(!arguments.contains(server.token()), "{arguments}");
    }
    soon(server.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_nobody_holds_it() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(ManagedNats::start(managed(dir.path())).await.expect("starts"));
    soon(async {
        while !processes(dir.path()).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_not_there_or_does_not_run_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let with = |program: &str| ManagedOptions { program: Some(program.into()), ..managed(dir.path()) };
    let error = ManagedNats::start(with("/nowhere/nats-server")).await.expect_err("is not there").to_string();
    assert_eq!(error, "find nats-server at /nowhere/nats-server");
    let error = ManagedNats::start(with("/bin/false")).await.expect_err("does not run").to_string();
    assert!(error.starts_with("start nats-server: it ended with exit status: 1"), "{error}");
    // A port that is taken.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = Some(taken.local_addr().expect("an address").port());
    let options = ManagedOptions { port, ..managed(dir.path()) };
    let error = ManagedNats::start(options).await.expect_err("the port is taken").to_string();
    assert!(error.contains("address already in use"), "{error}");
}

/// Not a test by itself: the process that [`it_does_not_outlive_a_host_that_is_killed`] kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs until it is killed; the test below starts it"]
async fn holds_a_server_until_it_is_killed() {
    let dir = std::env::var_os("CAISSON_TEST_DIR").expect("the directory is named");
    let server = ManagedNats::start(managed(Path::new(&dir))).await.expect("starts");
    std::fs::write(Path::new(&dir).join("url"), server.url()).expect("is written");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_outlive_a_host_that_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut host = std::process::Command::new(std::env::current_exe().expect("is known"))
        .args(["--ignored", "--exact", "holds_a_server_until_it_is_killed"])
        .env("CAISSON_TEST_DIR", dir.path())
        .spawn()
        .expect("starts");
    soon(async {
        while !dir.path().join("url").is_file() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(!processes(dir.path()).is_empty());
    host.kill().and_then(|()| host.wait()).expect("is killed");
    soon(async {
        while !processes(dir.path()).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
