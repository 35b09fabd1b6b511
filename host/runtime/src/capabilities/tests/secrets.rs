//! Secrets: who reads them, and where they must not turn up.

use caisson_core::error::{Category, Failure};
use caisson_core::ports::Outcome;

use crate::bindings::caisson::step::log::{self, Level};
use crate::bindings::caisson::step::types::{self as wire, ApprovalRequest, Suspension};
use crate::bindings::caisson::step::{artifacts, events, kv, secrets};

use super::*;

async fn get(state: &mut State, name: &str) -> wasmtime::Result<Result<String, Error>> {
    secrets::Host::get(state, name.to_owned()).await
}

#[tokio::test]
async fn secrets_are_read_by_name_in_their_own_realm() {
    let host = Host::new();
    let guest = Guest::with(json!(["secrets:A", "secrets:B", "secrets:GONE"]));
    host.vault.set(&guest.realm, "A", "value of a");
    host.vault.set(&guest.realm, "B", "b");
    host.vault.set(&guest.realm, "C", "value of c");
    let mut state = guest.enter(&host);
    assert_eq!(answer(get(&mut state, "A").await).expect("granted"), "value of a");
    assert_eq!(answer(get(&mut state, "B").await).expect("granted"), "b");
    denied(get(&mut state, "C").await, "\"secrets:C\"");
    denied(get(&mut state, "a").await, "\"secrets:a\"");
    not_found(get(&mut state, "GONE").await);
    for name in ["", "A\n", &"A".repeat(300)] {
        invalid(get(&mut state, name).await, "a secret's name has");
    }
    for realm in [Realm::new("other", "default"), Realm::new("tenant", "other")] {
        not_found(get(&mut Guest { realm, run: "run-2", ..guest.clone() }.enter(&host), "A").await);
    }
    let narrowed = Guest { narrowed: Some(json!(["secrets:B"])), run: "run-3", ..guest };
    denied(get(&mut narrowed.enter(&host), "A").await, "the state's 'capabilities'");
}

/// An entry knows a secret as it was when it began: what it was handed out is what is redacted. The next entry knows the new one.
#[tokio::test]
async fn a_secret_that_changes_meanwhile_changes_with_the_next_entry() {
    let host = Host::new();
    let guest = Guest::with(json!(["secrets:A"]));
    host.vault.set(&guest.realm, "A", "old value");
    let mut state = guest.enter(&host);
    host.vault.set(&guest.realm, "A", "new value");
    assert_eq!(answer(get(&mut state, "A").await).expect("granted"), "old value");
    assert_eq!(state.redactor.text("old value"), "[secret:A]");
    let mut again = guest.enter(&host);
    assert_eq!(answer(get(&mut again, "A").await).expect("from the journal and the vault"), "new value");
    assert_eq!(again.redactor.text("new value"), "[secret:A]");
}

#[tokio::test]
async fn what_a_step_writes_holds_no_secret() {
    let host = Host::new();
    let guest = Guest::with(json!(["secrets:A", "kv", "events", "artifacts", "approval"]));
    host.vault.set(&guest.realm, "A", "hunter\"2000");
    let mut state = guest.enter(&host);
    let state = &mut state;

    log::Host::write(state, Level::Info, "it is hunter\"2000!".to_owned(), Some(r#"{"k":"hunter\"2000"}"#.to_owned()))
        .expect("logged");
    log::Host::progress(state, Some(5), "hunter\"2000".to_owned()).expect("logged");
    let lines = host.lines.0.lock().clone();
    assert_eq!(lines[0].message, "it is [secret:A]!");
    assert_eq!(lines[0].fields.as_deref(), Some(r#"{"k":"[secret:A]"}"#));
    assert_eq!(lines[1].message, "[secret:A]");
    assert_eq!(state.log.tail(), ["it is [secret:A]!"]);

    let emitted = events::Host::emit(
        state,
        "said hunter\"2000".to_owned(),
        Some("hunter\"2000".to_owned()),
        r#"{"hunter\"2000":["hunter\u00222000"]}"#.to_owned(),
    );
    answer(emitted.await).expect("emitted");
    let event = &host.journal.events()[0];
    assert_eq!((&*event.name, event.correlation_key.as_deref()), ("said [secret:A]", Some("[secret:A]")));
    assert_eq!(event.payload.inline().expect("in place").get(), r#"{"[secret:A]":["[secret:A]"]}"#);

    // What is kept for later is refused, in whatever spelling.
    for value in ["hunter\"2000", "x hunter\"2000 y", r#"{"a":"hunter\"2000"}"#, "hunter%222000"] {
        invalid(kv::Host::set(state, "k".to_owned(), value.into()).await, "the secret 'A' is in it");
        invalid(
            artifacts::Host::put(state, "f".to_owned(), "text/plain".to_owned(), value.into()).await,
            "the secret 'A' is in it",
        );
    }
    invalid(kv::Host::set(state, "hunter\"2000".to_owned(), Vec::new()).await, "the secret 'A' is in it");
    assert_eq!(answer(kv::Host::get(state, "k".to_owned()).await).expect("none"), None);
}

#[tokio::test]
async fn what_a_step_ends_with_holds_no_secret() {
    let host = Host::new();
    let guest = Guest::with(json!(["secrets:A", "approval"]));
    host.vault.set(&guest.realm, "A", "hunter2000");
    let state = guest.enter(&host);
    let finish = |outcome| entry::finish(&state.effective, &state.limits, &state.redactor, outcome);

    match finish(wire::Outcome::Done(r#"{"a":"hunter2000","hunter2000":[1]}"#.to_owned())) {
        Ok(Outcome::Done(output)) => assert_eq!(output.get(), r#"{"a":"[secret:A]","[secret:A]":[1]}"#),
        other => panic!("{other:?}"),
    }
    let suspension = |state: &[u8], message: &str| {
        wire::Outcome::Suspend(Suspension {
            state: state.to_vec(),
            signals: vec!["go hunter2000".to_owned()],
            wake_after_ms: None,
            approval: Some(ApprovalRequest {
                message: message.to_owned(),
                summary: Some(r#"["hunter2000"]"#.to_owned()),
                approvers: Vec::new(),
                deadline_ms: None,
            }),
        })
    };
    match finish(suspension(b"\x01\x02", "use hunter2000?")) {
        Ok(Outcome::Suspend(suspension)) => {
            let approval = suspension.approval.expect("asked");
            assert_eq!(
                (&*approval.message, approval.summary.expect("given").get()),
                ("use [secret:A]?", r#"["[secret:A]"]"#)
            );
            assert_eq!(suspension.signals, ["go [secret:A]"]);
        }
        other => panic!("{other:?}"),
    }
    match finish(suspension(b"\x01hunter2000\xff", "fine")) {
        Err(failure) => {
            assert_eq!((&*failure.code, failure.category), ("SECRET_IN_STATE", Category::PolicyError));
            assert!(failure.message.contains("'A'") && !failure.message.contains("hunter"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
    let failure =
        Failure::new(Category::ActionError, "FAILED", "with hunter2000").with_details(Json::of(&json!(["hunter2000"])));
    let failure = state.redactor.failure(failure);
    assert_eq!((&*failure.message, failure.details.expect("details").get()), ("with [secret:A]", r#"["[secret:A]"]"#));
}
