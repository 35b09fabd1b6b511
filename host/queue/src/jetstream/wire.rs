//! What messages look like: subjects, headers and bodies.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use caisson_core::ids::RunId;
use caisson_core::ports::Ready;
use caisson_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The trace, as W3C Trace Context writes it.
const TRACEPARENT: &str = "traceparent";
/// For systems outside that take one call for many: `run:step`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The body of a task. Its names are a contract between hosts of different versions.
#[derive(Serialize, Deserialize)]
struct Task<'a> {
    #[serde(borrow)]
    run: std::borrow::Cow<'a, str>,
    step: u64,
    attempt: u32,
    entry: u32,
    dispatch: u32,
}

/// Where a step goes.
pub(super) fn step_subject(ready: &Ready) -> String {
    format!("wf.task.step.{}.{}", ready.run, ready.step)
}

/// A step as a message.
pub(super) fn encode(ready: &Ready) -> PublishMessage {
    let task = Task {
        run: ready.run.as_str().into(),
        step: ready.step,
        attempt: ready.attempt,
        entry: ready.entry,
        dispatch: ready.dispatch,
    };
    let body = serde_json::to_vec(&task).expect("numbers and a text are JSON");
    let message = PublishMessage::build()
        .payload(body.into())
        .message_id(ready.message_id())
        .header(IDEMPOTENCY_KEY, format!("{}:{}", ready.run, ready.step));
    match &ready.traceparent {
        Some(trace) => message.header(TRACEPARENT, &**trace),
        None => message,
    }
}

/// What a message of the task stream says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A step is ready.
    Step(Ready),
    /// Rows of a run changed.
    Hint,
    /// Nothing that we know.
    Unreadable,
}

/// Reads a message. It comes from whoever may write to the stream: anything is possible.
pub(super) fn decode(subject: &str, headers: Option<&HeaderMap>, body: &[u8]) -> Told {
    if subject.starts_with("wf.task.run.") || subject.starts_with("wf.task.resume.") {
        return Told::Hint;
    }
    let Ok(task) = serde_json::from_slice::<Task<'_>>(body) else { return Told::Unreadable };
    let ready = Ready {
        run: RunId::new(&*task.run),
        step: task.step,
        attempt: task.attempt,
        entry: task.entry,
        dispatch: task.dispatch,
        traceparent: headers.and_then(|headers| headers.get(TRACEPARENT)).map(|value| Arc::from(value.as_str())),
    };
    if step_subject(&ready) == subject { Told::Step(ready) } else { Told::Unreadable }
}

/// A time of the server, from nanoseconds.
pub(super) fn time(nanos: i128) -> Timestamp {
    Timestamp(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        Ready { run: RunId::new("r1"), step: 7, attempt: 2, entry: 1, dispatch: 3, traceparent: None }
    }

    #[test]
    fn a_step_says_the_same_to_hosts_of_every_version() {
        let message = encode(&ready()).outbound_message(step_subject(&ready()));
        assert_eq!(message.subject.as_str(), "wf.task.step.r1.7");
        assert_eq!(&message.payload[..], br#"{"run":"r1","step":7,"attempt":2,"entry":1,"dispatch":3}"#);
        let headers = message.headers.expect("has headers");
        assert_eq!(headers.get("Nats-Msg-Id").map(ToString::to_string).as_deref(), Some("r1:7:2:1:3"));
        assert_eq!(headers.get("idempotency-key").map(ToString::to_string).as_deref(), Some("r1:7"));
        assert!(headers.get("traceparent").is_none());
    }

    #[test]
    fn a_step_comes_out_as_it_went_in_with_its_trace() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let ready = Ready { traceparent: Some(trace.into()), ..ready() };
        let message = encode(&ready).outbound_message(step_subject(&ready));
        let told = decode(&message.subject, message.headers.as_ref(), &message.payload);
        assert_eq!(told, Told::Step(ready));
    }

    #[test]
    fn what_others_write_into_the_stream_is_no_step() {
        for (subject, body) in [
            ("wf.task.step.r1.7", "not json"),
            ("wf.task.step.r1.7", r#"{"run":"r1"}"#),
            ("wf.task.step.r1.7", r#"{"run":"r1","step":-1,"attempt":1,"entry":0,"dispatch":0}"#),
            ("wf.task.step.r2.7", r#"{"run":"r1","step":7,"attempt":1,"entry":0,"dispatch":0}"#),
            ("wf.task.else", r#"{"run":"r1","step":7,"attempt":1,"entry":0,"dispatch":0}"#),
        ] {
            assert_eq!(decode(subject, None, body.as_bytes()), Told::Unreadable, "{subject} {body}");
        }
        assert_eq!(decode("wf.task.run.r1", None, b""), Told::Hint);
        assert_eq!(decode("wf.task.resume.r1", None, b"anything"), Told::Hint);
    }
}
