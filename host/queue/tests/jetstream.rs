//! The queue over JetStream, with real servers.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull;
use caisson_core::ports::contract::{QueueKind, check_queue};
use caisson_core::ports::{Horizon, TaskQueue};
use caisson_core::time::Timestamp;
use caisson_queue::jetstream::{Error, JetStreamQueue, Lag, Options};
use caisson_test_servers::nats::NatsServer;
use support::{Wall, connect, options, raw, refill_until, settled, soon, step, steps, take};

const STREAM: &str = "WORKFLOW_TASKS";

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_queue_does() {
    const WINDOW: usize = 64;
    let server = NatsServer::new();
    let kind = QueueKind { capacity: WINDOW, removes_duplicates: true };
    let make = async || {
        // Empty for each check.
        let _ = raw(&server).await.delete_stream(STREAM).await;
        Arc::new(connect(Options { window: WINDOW, ..options(&server) }).await)
    };
    tokio::time::timeout(Duration::from_mins(1), check_queue(kind, make)).await.expect("the checks end");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_goes_to_one_of_two_hosts_and_both_get_some() {
    let server = NatsServer::new();
    let (a, b) = (Arc::new(connect(options(&server)).await), Arc::new(connect(options(&server)).await));
    let (done, mut finished) = tokio::sync::mpsc::channel(1000);
    let mut workers = tokio::task::JoinSet::new();
    for (host, queue) in [(0, &a), (1, &b)] {
        for _ in 0..4 {
            let (queue, done) = (Arc::clone(queue), done.clone());
            workers.spawn(async move { while done.send((host, take(&queue).await.step)).await.is_ok() {} });
        }
    }
    a.publish(steps(0..200), false);
    b.publish(steps(200..400), false);
    let mut seen = BTreeSet::new();
    let mut by_host = [0, 0];
    while seen.len() < 400 {
        let (host, step) = soon(finished.recv()).await.expect("workers run");
        assert!(seen.insert(step), "step {step} came twice");
        by_host[host] += 1;
    }
    assert!(by_host.iter().all(|steps| *steps > 0), "{by_host:?}");
    soon(empty(&server)).await;
    assert!(finished.try_recv().is_err(), "no step comes after the last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_fetches_no_more_than_it_has_waiters_for() {
    let server = NatsServer::new();
    let (busy, free) = (connect(options(&server)).await, connect(options(&server)).await);
    busy.publish(steps(0..5), false);
    let held = soon(busy.next()).await;
    // The busy host has a step and waits for none: the others are all there for the free one.
    let mut others: BTreeSet<u64> = BTreeSet::new();
    for _ in 0..4 {
        others.insert(soon(take(&free)).await.step);
    }
    assert_eq!(others, (1..5).collect());
    held.done();
    soon(empty(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_went_away_leaves_its_step_to_another_host_at_once() {
    let server = NatsServer::new();
    let (leaves, stays) = (connect(options(&server)).await, connect(options(&server)).await);
    let waiting = tokio::time::timeout(Duration::from_millis(100), leaves.next()).await;
    assert!(waiting.is_err(), "there is nothing yet, and its pull is still open");
    let began = Instant::now();
    stays.publish(steps(0..1), false);
    assert_eq!(soon(take(&stays)).await, step(0));
    assert!(began.elapsed() < Duration::from_secs(4), "not only after the delivery was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_has_to_wait_does_not_stop_the_others() {
    let server = NatsServer::new();
    let queue = connect(Options { window: 16, ..options(&server) }).await;
    queue.publish(steps(0..16), false);
    soon(queue.next()).await.again(Duration::from_mins(10));
    for expected in 1..16 {
        assert_eq!(soon(take(&queue)).await.step, expected);
    }
    queue.publish(steps(16..20), false);
    for expected in 16..20 {
        assert_eq!(soon(take(&queue)).await.step, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_put_off_for_ever_is_left_to_the_sweep() {
    let server = NatsServer::new();
    let queue = connect(options(&server)).await;
    queue.publish(steps(0..1), false);
    let mut times = 0;
    while !is_empty(&server).await {
        let next = tokio::time::timeout(Duration::from_millis(500), queue.next()).await;
        if let Ok(delivery) = next {
            delivery.again(Duration::ZERO);
            times += 1;
        }
    }
    assert_eq!(times, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_horizon_follows_the_oldest_message() {
    let server = NatsServer::new();
    let queue = connect(options(&server)).await;
    let Horizon::Since(first) = soon(queue.horizon()).await else { panic!("a time") };
    assert!(Wall::now_ms() - first.0 < 2_000, "an empty stream: everything that is ready is missing");
    queue.publish(steps(0..1), false);
    let held = soon(queue.next()).await;
    let at = Wall::now_ms();
    // A moment later the empty start is made up for.
    let mut horizon = Timestamp(i64::MAX);
    soon(async {
        while horizon.0 > at - 4_000 {
            let Horizon::Since(since) = queue.horizon().await else { panic!("a time") };
            horizon = since;
            queue.take_overflow();
        }
    })
    .await;
    assert!((at - 7_000..at - 4_000).contains(&horizon.0), "the message and a margin: {} ms before", at - horizon.0);
    held.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_bring_the_next_look_forward_and_are_removed() {
    let server = NatsServer::new();
    let queue = Arc::new(connect(options(&server)).await);
    // What the empty start asks for.
    soon(queue.horizon()).await;
    let waiter = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { take(&queue).await }
    });
    let context = raw(&server).await;
    context.publish("wf.task.run.r1", "".into()).await.expect("sends").await.expect("is stored");
    context.publish("wf.task.step.r1.1", "nonsense".into()).await.expect("sends").await.expect("is stored");
    soon(queue.wants_refill()).await;
    soon(empty(&server)).await;
    queue.publish(steps(0..1), false);
    assert_eq!(soon(waiter).await.expect("joins"), step(0), "whoever waited still waits for a step");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_wait_in_a_stream_that_is_wiped_come_after_a_refill() {
    let mut server = NatsServer::new();
    let queue = connect(options(&server)).await;
    soon(settled(&queue)).await;
    queue.publish(steps(0..100), false);
    assert_eq!(soon(take(&queue)).await.step, 0);
    soon(async {
        while server_messages(&server).await != 99 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    server.wipe();
    let began = Instant::now();
    let ready = 1..100;
    let seen = soon(refill_until(&queue, ready.clone())).await;
    assert_eq!(seen, ready.collect());
    eprintln!("wiped: all 99 steps came again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(4), "at once, and not only with the next sweep");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_while_running_is_made_again() {
    let server = NatsServer::new();
    let queue = connect(options(&server)).await;
    soon(settled(&queue)).await;
    queue.publish(steps(0..50), false);
    assert_eq!(soon(take(&queue)).await.step, 0);
    raw(&server).await.delete_stream(STREAM).await.expect("is deleted");
    let began = Instant::now();
    assert_eq!(soon(refill_until(&queue, 1..50)).await, (1..50).collect());
    eprintln!("deleted: all 49 steps came again after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_deleted_while_running_is_made_again_and_nothing_is_lost() {
    let server = NatsServer::new();
    let queue = connect(options(&server)).await;
    queue.publish(steps(0..3), false);
    assert_eq!(soon(take(&queue)).await.step, 0);
    let stream = raw(&server).await.get_stream(STREAM).await.expect("is there");
    stream.delete_consumer("hosts").await.expect("is deleted");
    let rest: BTreeSet<u64> = [soon(take(&queue)).await.step, soon(take(&queue)).await.step].into();
    assert_eq!(rest, [1, 2].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_is_found_again_and_what_was_published_meanwhile_too() {
    let mut server = NatsServer::new();
    let queue = Arc::new(connect(options(&server)).await);
    soon(settled(&queue)).await;
    queue.publish(steps(0..10), false);
    assert_eq!(soon(take(&queue)).await.step, 0);
    server.kill();
    // Nothing hangs while it is away.
    let began = Instant::now();
    queue.publish(steps(10..20), false);
    assert!(began.elapsed() < Duration::from_millis(100));
    let waiter = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { refill_until(&queue, 1..20).await }
    });
    soon(async {
        while queue.is_connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.start();
    let began = Instant::now();
    assert_eq!(soon(waiter).await.expect("joins"), (1..20).collect());
    eprintln!("killed: all 19 steps came {:?} after the server was back", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_what_waits_and_what_is_not_settled_and_unknown_while_the_server_is_away() {
    let mut server = NatsServer::new();
    let queue = connect(options(&server)).await;
    soon(settled(&queue)).await;
    queue.publish(steps(0..10), false);
    let delivery = soon(queue.next()).await;
    let until = async |what: &str, holds: &dyn Fn(Option<Lag>) -> bool| {
        let began = Instant::now();
        while !holds(queue.lag()) {
            assert!(began.elapsed() < Duration::from_secs(30), "waited in vain until {what}: {:?}", queue.lag());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until("nine wait", &|lag| lag == Some(Lag { pending: 9, unsettled: 1 })).await;
    delivery.done();
    until("all is settled", &|lag| lag == Some(Lag { pending: 9, unsettled: 0 })).await;
    server.kill();
    until("nobody knows", &|lag| lag.is_none()).await;
    server.start();
    until("it is known again", &|lag| lag == Some(Lag { pending: 9, unsettled: 0 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_under_way_when_the_server_dies_come_again_and_take_no_room_for_ever() {
    let mut server = NatsServer::new();
    let queue = connect(options(&server)).await;
    soon(settled(&queue)).await;
    server.pause();
    queue.publish(steps(0..10), false);
    assert_eq!(queue.room(), 4096 - 10);
    server.kill();
    server.start();
    assert_eq!(soon(refill_until(&queue, 0..10)).await, (0..10).collect());
    soon(async {
        while queue.room() < 4096 {
            soon(queue.horizon()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_host_did_not_settle_comes_when_its_time_is_over() {
    let server = NatsServer::new();
    let (dies, lives) = (connect(options(&server)).await, connect(options(&server)).await);
    dies.publish(steps(0..1), false);
    let delivery = soon(dies.next()).await;
    // As a host that is killed: no word to the server.
    std::mem::forget(delivery);
    drop(dies);
    let came = tokio::time::timeout(Duration::from_secs(40), take(&lives)).await.expect("comes again");
    assert_eq!(came, step(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_differ_are_named_one_by_one_and_nothing_is_changed() {
    let server = NatsServer::new();
    let context = raw(&server).await;
    let other = jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["wf.task.step.>".to_owned()],
        storage: jetstream::stream::StorageType::Memory,
        duplicate_window: Duration::from_secs(10),
        ..jetstream::stream::Config::default()
    };
    context.create_stream(other).await.expect("is made");
    let error = refused(options(&server)).await;
    let Error::Settings { differences, .. } = &error else { panic!("{error}") };
    let fields: Vec<_> = differences.iter().map(|difference| difference.field).collect();
    assert_eq!(fields, ["subjects", "retention", "storage", "discard", "duplicate_window", "max_msgs"]);
    let text = error.to_string();
    for part in [
        "the stream WORKFLOW_TASKS",
        r#"subjects is ["wf.task.step.>"] and has to be ["wf.task.>"]"#,
        "retention is Limits and has to be WorkQueue",
        "nats stream rm WORKFLOW_TASKS",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let config = context.get_stream(STREAM).await.expect("is there").cached_info().config.clone();
    assert_eq!(config.storage, jetstream::stream::StorageType::Memory, "as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_other_settings_and_a_second_consumer_are_refused() {
    let server = NatsServer::new();
    drop(connect(options(&server)).await);
    let stream = raw(&server).await.get_stream(STREAM).await.expect("is there");
    stream.delete_consumer("hosts").await.expect("is deleted");
    let other = pull::Config {
        durable_name: Some("hosts".to_owned()),
        max_deliver: 3,
        ack_wait: Duration::from_secs(9),
        ..pull::Config::default()
    };
    stream.create_consumer(other.clone()).await.expect("is made");
    let error = refused(options(&server)).await;
    let Error::Settings { what, differences, .. } = &error else { panic!("{error}") };
    assert_eq!(what, "the consumer hosts of WORKFLOW_TASKS");
    let fields: Vec<_> = differences.iter().map(|difference| difference.field).collect();
    assert_eq!(fields, ["ack_wait", "max_deliver", "max_ack_pending", "max_waiting"]);
    stream.delete_consumer("hosts").await.expect("is deleted");
    stream.create_consumer(pull::Config { durable_name: Some("mine".to_owned()), ..other }).await.expect("is made");
    let error = refused(options(&server)).await;
    assert!(matches!(error, Error::JetStream { .. }), "{error}");
    assert!(error.to_string().contains("workqueue"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_disagree_about_the_window_hear_of_it() {
    let server = NatsServer::new();
    let _first = connect(options(&server)).await;
    let error = refused(Options { window: 100, ..options(&server) }).await;
    assert!(error.to_string().contains("max_msgs is 4096 and has to be 100"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_holds_over_all_hosts() {
    let server = NatsServer::new();
    let small = || Options { window: 32, ..options(&server) };
    let (a, b) = (connect(small()).await, connect(small()).await);
    a.publish(steps(0..30), false);
    soon(async {
        while server_messages(&server).await < 30 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // This host has not heard of the others' steps.
    b.publish(steps(100..110), false);
    soon(async {
        while !b.take_overflow() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(server_messages(&server).await, 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_what_is_on_its_way() {
    let server = NatsServer::new();
    let queue = connect(options(&server)).await;
    queue.publish(steps(0..1000), false);
    soon(queue.close()).await;
    assert_eq!(server_messages(&server).await, 1000);
    queue.publish(steps(1000..1001), false);
    assert!(queue.take_overflow(), "what is published after it is not stored, and says so");
}

async fn refused(options: Options) -> Error {
    match JetStreamQueue::connect(options, Arc::new(Wall)).await {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error,
    }
}

async fn server_messages(server: &NatsServer) -> u64 {
    raw(server).await.get_stream(STREAM).await.expect("is there").cached_info().state.messages
}

async fn is_empty(server: &NatsServer) -> bool {
    server_messages(server).await == 0
}

async fn empty(server: &NatsServer) {
    while !is_empty(server).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_closes_takes_no_step_with_it() {
    let server = NatsServer::new();
    let (leaves, stays) = (connect(options(&server)).await, connect(options(&server)).await);
    let waiting = tokio::time::timeout(Duration::from_millis(100), leaves.next()).await;
    assert!(waiting.is_err(), "there is nothing yet, and its pull is still open");
    soon(leaves.close()).await;
    let began = Instant::now();
    stays.publish(steps(0..1), false);
    assert_eq!(soon(take(&stays)).await, step(0));
    assert!(began.elapsed() < Duration::from_secs(4), "not only after the delivery was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_on_its_way_for_milliseconds() {
    const STEPS: u64 = 300;
    let server = NatsServer::new();
    let queue = connect(options(&server)).await;
    let mut took = Vec::new();
    for number in 0..STEPS {
        let began = Instant::now();
        queue.publish(steps(number..number + 1), false);
        assert_eq!(soon(take(&queue)).await.step, number);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let (median, late) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    eprintln!("from publish to next: median {median:?}, 99 of 100 within {late:?}");
    assert!(median < Duration::from_millis(50), "{median:?}");
}
