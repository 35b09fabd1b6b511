//! Several hosts over one store and one server, each with the relay's loop: everything that is ready gets to somebody, whatever the server
//! does, and little of it twice.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use caisson_core::ports::{Horizon, Ready, TaskQueue};
use caisson_core::time::Timestamp;
use caisson_queue::jetstream::{JetStreamQueue, Options};
use caisson_test_servers::nats::NatsServer;
use parking_lot::Mutex;
use support::{Wall, connect, options, settled, soon, step};
use tokio::task::JoinSet;

/// What a store does for READY rows.
#[derive(Default)]
struct Rows {
    ready: Mutex<HashMap<u64, (Timestamp, u32)>>,
    claimed: AtomicU64,
    deliveries: AtomicU64,
}

impl Rows {
    /// Commits ready steps: what the commit publishes.
    fn commit(&self, numbers: std::ops::Range<u64>) -> Vec<Ready> {
        let now = Timestamp(Wall::now_ms());
        let mut ready = self.ready.lock();
        numbers
            .map(|number| {
                ready.insert(number, (now, 1));
                step(number)
            })
            .collect()
    }

    fn redispatch(&self, before: Timestamp, limit: usize) -> Vec<Ready> {
        let now = Timestamp(Wall::now_ms());
        let mut ready = self.ready.lock();
        let mut old: Vec<_> = ready.iter_mut().filter(|(_, (at, _))| *at < before).collect();
        old.sort_by_key(|(number, (at, _))| (*at, **number));
        let give = |(number, row): (&u64, &mut (Timestamp, u32))| {
            *row = (now, row.1 + 1);
            Ready { dispatch: row.1, ..step(*number) }
        };
        old.into_iter().take(limit).map(give).collect()
    }

    fn claim(&self, number: u64) {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        if self.ready.lock().remove(&number).is_some() {
            self.claimed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Relay and slots of a host.
async fn host(queue: Arc<JetStreamQueue>, rows: Arc<Rows>) {
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (queue, rows) = (Arc::clone(&queue), Arc::clone(&rows));
        tasks.spawn(async move {
            loop {
                let delivery = queue.next().await;
                rows.claim(delivery.ready.step);
                delivery.done();
            }
        });
    }
    loop {
        let Horizon::Since(since) = queue.horizon().await else { panic!("a time") };
        queue.take_overflow();
        let room = queue.room().max(1);
        let steps = rows.redispatch(since, room);
        let more = steps.len() >= room;
        queue.publish(steps, more);
        queue.wants_refill().await;
    }
}

struct Fleet {
    queues: Vec<Arc<JetStreamQueue>>,
    rows: Arc<Rows>,
    _hosts: JoinSet<()>,
}

impl Fleet {
    async fn new(server: &NatsServer, window: usize) -> Self {
        let rows = Arc::new(Rows::default());
        let mut queues = Vec::new();
        let mut hosts = JoinSet::new();
        for _ in 0..3 {
            let queue = Arc::new(connect(Options { window, ..options(server) }).await);
            hosts.spawn(host(Arc::clone(&queue), Arc::clone(&rows)));
            queues.push(queue);
        }
        Self { queues, rows, _hosts: hosts }
    }

    /// Waits until every step was claimed; how long it took.
    async fn finish(&self, what: &str, total: u64) -> Duration {
        let began = Instant::now();
        while self.rows.claimed.load(Ordering::Relaxed) < total {
            assert!(
                began.elapsed() < Duration::from_secs(40),
                "{what}: {} of {total} steps were claimed; left: {:?}",
                self.rows.claimed.load(Ordering::Relaxed),
                self.rows.ready.lock().iter().take(5).collect::<Vec<_>>(),
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let deliveries = self.rows.deliveries.load(Ordering::Relaxed);
        eprintln!("{what}: {total} steps in {:?}, {deliveries} deliveries", began.elapsed());
        began.elapsed()
    }

    fn deliveries(&self) -> u64 {
        self.rows.deliveries.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_many_windows_flows_without_pauses_and_mostly_once() {
    const TOTAL: u64 = 10_000;
    let server = NatsServer::new();
    let fleet = Fleet::new(&server, 512).await;
    let ready = fleet.rows.commit(0..TOTAL);
    fleet.queues[0].publish(ready, false);
    let took = fleet.finish("a backlog of 20 windows", TOTAL).await;
    assert!(took < Duration::from_secs(20), "a window every {:?}", took / 20);
    assert!(fleet.deliveries() < TOTAL * 3 / 2, "{} deliveries", fleet.deliveries());
}

#[tokio::test(flavor = "multi_thread")]
async fn steady_work_is_delivered_exactly_once_each_while_nothing_fails() {
    const TOTAL: u64 = 2_000;
    let server = NatsServer::new();
    let fleet = Fleet::new(&server, 512).await;
    // The second look of each host is over before there is work: until then it takes whatever is ready for lost.
    fleet.queues[0].publish(fleet.rows.commit(0..1), false);
    fleet.finish("one step", 1).await;
    for queue in &fleet.queues {
        soon(settled(queue)).await;
    }
    let before = fleet.deliveries();
    for batch in 0..TOTAL / 10 {
        let queue = &fleet.queues[usize::try_from(batch % 3).expect("small")];
        queue.publish(fleet.rows.commit(1 + batch * 10..1 + batch * 10 + 10), false);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    fleet.finish("steady work", TOTAL + 1).await;
    assert_eq!(fleet.deliveries() - before, TOTAL);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_server_is_killed_wiped_and_paused_under_work() {
    const TOTAL: u64 = 6_000;
    let mut server = NatsServer::new();
    let fleet = Fleet::new(&server, 512).await;
    let commits = async {
        for batch in 0..TOTAL / 10 {
            let queue = &fleet.queues[usize::try_from(batch % 3).expect("small")];
            queue.publish(fleet.rows.commit(batch * 10..batch * 10 + 10), false);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let faults = async {
        let claimed = || fleet.rows.claimed.load(Ordering::Relaxed);
        for fault in 0..3 {
            let goal = claimed() + 300;
            while claimed() < goal {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let began = Instant::now();
            match fault {
                0 => {
                    server.kill();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    server.start();
                }
                1 => server.wipe(),
                _ => {
                    server.pause();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    server.resume();
                }
            }
            let back = Instant::now();
            let goal = claimed() + 50;
            while claimed() < goal {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            eprintln!("fault {fault}: away {:?}, work goes on {:?} later", back - began, back.elapsed());
            assert!(back.elapsed() < Duration::from_secs(10));
        }
    };
    tokio::join!(commits, faults);
    fleet.finish("after three faults", TOTAL).await;
    // No host counts what was lost for ever.
    soon(async {
        while !fleet.queues.iter().all(|queue| queue.pending() == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
