//! What every queue must do. A check ends each wait by a step that must come, never by time: whoever runs it gives it a time limit.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::ids::RunId;
use crate::ports::{Delivery, Ready, TaskQueue};

/// What queues may do differently.
#[derive(Clone, Copy, Debug)]
pub struct QueueKind {
    /// Steps that fit.
    pub capacity: usize,
    /// Whether a publication that comes twice is delivered once.
    pub removes_duplicates: bool,
}

/// Checks a kind of queue; `make` gives an empty one.
pub async fn check_queue<T: TaskQueue>(kind: QueueKind, make: impl AsyncFn() -> Arc<T>) {
    steps_come_once_and_in_the_order_of_their_publication(&*make().await).await;
    the_same_publication_again_is_delivered_at_most_twice(kind, &*make().await).await;
    another_publication_of_the_same_step_is_delivered(&*make().await).await;
    a_step_that_is_put_off_comes_again(&*make().await).await;
    a_step_that_nobody_settled_comes_again(&*make().await).await;
    a_waiter_that_goes_away_takes_no_step_with_it(&*make().await).await;
    what_does_not_fit_is_remembered_once(kind, &*make().await).await;
    a_refill_is_wanted_when_what_fitted_has_gone(kind, &*make().await).await;
    more_in_the_store_is_remembered_too(&*make().await).await;
}

fn step(number: u64) -> Ready {
    Ready { run: RunId::new("r"), step: number, attempt: 1, entry: 0, dispatch: 1, traceparent: None }
}

fn steps(numbers: std::ops::Range<u64>) -> Vec<Ready> {
    numbers.map(step).collect()
}

/// Takes the next step and settles it.
async fn take(queue: &impl TaskQueue) -> Ready {
    let delivery = queue.next().await;
    let ready = delivery.ready.clone();
    delivery.done();
    ready
}

async fn steps_come_once_and_in_the_order_of_their_publication(queue: &impl TaskQueue) {
    queue.publish(steps(0..2), false);
    queue.publish(Vec::new(), false);
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    queue.publish(vec![Ready { traceparent: trace.clone(), ..step(2) }], false);
    assert_eq!(take(queue).await, step(0));
    assert_eq!(take(queue).await, step(1));
    assert_eq!(take(queue).await, Ready { traceparent: trace, ..step(2) }, "whole");
    queue.publish(steps(3..4), false);
    assert_eq!(take(queue).await, step(3), "none comes twice");
    assert!(!queue.take_overflow());
}

async fn the_same_publication_again_is_delivered_at_most_twice(kind: QueueKind, queue: &impl TaskQueue) {
    queue.publish(steps(0..1), false);
    queue.publish(steps(0..1), false);
    queue.publish(steps(1..2), false);
    assert_eq!(take(queue).await.step, 0);
    if !kind.removes_duplicates {
        assert_eq!(take(queue).await.step, 0);
    }
    assert_eq!(take(queue).await.step, 1);
}

async fn another_publication_of_the_same_step_is_delivered(queue: &impl TaskQueue) {
    queue.publish(steps(0..1), false);
    assert_eq!(take(queue).await.dispatch, 1);
    queue.publish(vec![Ready { dispatch: 2, ..step(0) }], false);
    assert_eq!(take(queue).await.dispatch, 2, "a retry is not taken for a repetition");
}

/// Puts a step off, as the relay does.
fn put_off(queue: &impl TaskQueue, delivery: Delivery) {
    if let Some(ready) = delivery.again(Duration::ZERO) {
        queue.publish(vec![ready], false);
    }
}

async fn a_step_that_is_put_off_comes_again(queue: &impl TaskQueue) {
    queue.publish(steps(0..1), false);
    for _ in 0..3 {
        let delivery = queue.next().await;
        assert_eq!(delivery.ready, step(0));
        put_off(queue, delivery);
    }
    assert_eq!(take(queue).await, step(0));
}

async fn a_step_that_nobody_settled_comes_again(queue: &impl TaskQueue) {
    queue.publish(steps(0..1), false);
    let delivery = queue.next().await;
    if delivery.receipt.is_none() {
        return;
    }
    drop(delivery);
    assert_eq!(take(queue).await, step(0));
}

async fn a_waiter_that_goes_away_takes_no_step_with_it(queue: &impl TaskQueue) {
    {
        let gone = pin!(queue.next());
        assert!(gone.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    queue.publish(steps(0..1), false);
    assert_eq!(take(queue).await, step(0));
}

async fn what_does_not_fit_is_remembered_once(kind: QueueKind, queue: &impl TaskQueue) {
    assert_eq!(queue.room(), kind.capacity);
    queue.publish(steps(0..kind.capacity as u64 + 5), false);
    assert_eq!(queue.room(), 0);
    assert!(queue.take_overflow());
    assert!(!queue.take_overflow());
    for number in 0..kind.capacity as u64 {
        assert_eq!(take(queue).await.step, number, "what fitted is there");
    }
}

async fn a_refill_is_wanted_when_what_fitted_has_gone(kind: QueueKind, queue: &impl TaskQueue) {
    queue.publish(steps(0..kind.capacity as u64 + 5), false);
    for _ in 0..kind.capacity {
        take(queue).await;
    }
    queue.wants_refill().await;
    queue.horizon().await;
    assert!(queue.room() > 0);
    queue.take_overflow();
    queue.publish(steps(kind.capacity as u64..kind.capacity as u64 + 5), false);
    assert_eq!(take(queue).await.step, kind.capacity as u64);
}

async fn more_in_the_store_is_remembered_too(queue: &impl TaskQueue) {
    queue.publish(steps(0..3), true);
    assert!(queue.take_overflow());
    for _ in 0..3 {
        take(queue).await;
    }
}
