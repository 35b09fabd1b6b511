//! The real nats-server that tests get.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use caisson_test_servers::nats::NatsServer;

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let starter = std::thread::spawn(|| {
        let task = std::fs::read_link("/proc/thread-self").expect("a thread has a number");
        (NatsServer::new(), Path::new("/proc").join(task))
    });
    let (server, task) = starter.join().expect("it starts");
    let began = Instant::now();
    while task.exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "the thread does not end");
        std::thread::yield_now();
    }
    // A signal at the thread's end would have been sent by now; each greeting gives the server time to die of it.
    for _ in 0..20 {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("the server speaks");
        assert!(line.starts_with("INFO "), "{line:?}");
    }
}
