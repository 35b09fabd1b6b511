//! The built-in actions through the real runtime.

mod support;

use caisson_core::engine::{ApprovalStatus, Wake};
use caisson_core::error::{Category, RetryHint};
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{ActionRunner, Resumption};
use serde_json::{Value, json};
use support::{done, failure, resume, run, runtime, suspended};

#[tokio::test]
async fn echo_gives_back_what_it_is_given() {
    for value in [json!(null), json!({"z": 1, "a": [1.5, "ü", null]}), json!("text"), json!([])] {
        let entry = run("core.echo", value.clone()).await;
        assert_eq!(done(&entry), value);
        assert!(entry.usage.peak_memory_bytes > 0, "usage is measured");
    }
}

#[tokio::test]
async fn echo_keeps_every_byte() {
    // Numbers that a double cannot hold, spaces, and the order of keys.
    let text = r#"{"b": 12345678901234567890123, "a" : 1.00}"#;
    let mut call = support::invocation(runtime(), "core.echo", &Value::Null);
    call.input = Json::parse(text).expect("JSON");
    let entry = runtime().run(call).await;
    match entry.result {
        Ok(caisson_core::ports::Outcome::Done(output)) => assert_eq!(output.get(), text),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn fail_fails_as_it_is_told() {
    let entry = run("core.fail", json!({"code": "NOPE", "category": "TransientError", "message": "not now"})).await;
    let failure = failure(&entry);
    assert_eq!((failure.code.as_str(), failure.category), ("NOPE", Category::TransientError));
    assert_eq!(failure.message, "not now");
    assert_eq!(done(&run("core.fail", json!({"attempts": 0})).await), json!({"attempt": 1}));
}

#[tokio::test]
async fn input_that_does_not_fit_never_reaches_the_plugin() {
    let entry = run("core.sleep", json!({"ms": "soon", "more": 1})).await;
    let failure = failure(&entry);
    assert_eq!(failure.code, "SCHEMA_VALIDATION_INPUT");
    assert_eq!((failure.category, failure.retry), (Category::ValidationError, RetryHint::Never));
    assert!(failure.message.contains("ms: \"soon\" is not"), "{}", failure.message);
    assert_eq!(entry.usage.peak_memory_bytes, 0, "no guest ran");
}

#[tokio::test]
async fn sleep_suspends_and_wakes() {
    let input = json!({"ms": 1234});
    let entry = run("core.sleep", input.clone()).await;
    let suspension = suspended(&entry);
    assert_eq!(suspension.wake_after_ms, Some(1234));
    let resumption = Resumption { state: suspension.state.clone(), wake: Wake::Timer };
    assert_eq!(done(&resume("core.sleep", input, resumption).await), json!({"sleptMs": 1234}));
}

#[tokio::test]
async fn a_signal_wakes_its_step_with_its_payload() {
    let input = json!({"signal": "ready"});
    assert_eq!(suspended(&run("core.wait_signal", input.clone()).await).signals, ["ready"]);
    let payload = Payload::Inline(Json::of(&json!({"x": 1})));
    let wake = Wake::Signal { name: "ready".into(), payload, actor: Some("me".into()) };
    let entry = resume("core.wait_signal", input, Resumption { state: Vec::new(), wake }).await;
    assert_eq!(done(&entry), json!({"x": 1}));
}

#[tokio::test]
async fn an_approval_waits_for_people() {
    let input =
        json!({"message": "ship it?", "summary": {"b": 1, "a": 2}, "approvers": ["team:ops"], "timeoutSeconds": 1.5});
    let entry = run("human.approval", input.clone()).await;
    let request = suspended(&entry).approval.clone().expect("a request");
    assert_eq!(request.message, "ship it?");
    assert_eq!(request.approvers, ["team:ops"]);
    assert_eq!(request.deadline_ms, Some(1500));
    assert_eq!(request.summary.map(|summary| summary.get().to_owned()), Some(r#"{"b":1,"a":2}"#.to_owned()));

    for (status, comment, expected) in [
        (
            ApprovalStatus::Approved,
            Some("go"),
            Ok(json!({"decision": "approved", "approved": true, "actor": "ann", "comment": "go"})),
        ),
        (
            ApprovalStatus::Rejected,
            Some("no"),
            Err(("APPROVAL_REJECTED", Category::PolicyError, "rejected by ann: no")),
        ),
        (ApprovalStatus::TimedOut, None, Err(("APPROVAL_TIMED_OUT", Category::TimeoutError, "nobody decided in time"))),
    ] {
        let wake = Wake::Approval { status, actor: Some("ann".into()), comment: comment.map(str::to_owned) };
        let entry = resume("human.approval", input.clone(), Resumption { state: Vec::new(), wake }).await;
        match expected {
            Ok(value) => assert_eq!(done(&entry), value),
            Err((code, category, message)) => {
                let failure = failure(&entry);
                assert_eq!((failure.code.as_str(), failure.category), (code, category));
                assert_eq!((failure.message.as_str(), failure.retry), (message, RetryHint::Never));
            }
        }
    }
}

#[tokio::test]
async fn an_approval_without_a_message_is_refused() {
    for input in [json!({}), json!({"message": ""}), json!({"message": "x", "approvers": ["ann"]})] {
        let entry = run("human.approval", input).await;
        assert_eq!(failure(&entry).code, "SCHEMA_VALIDATION_INPUT");
    }
}
