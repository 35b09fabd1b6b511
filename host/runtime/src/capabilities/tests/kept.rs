//! What is kept beside the journal: values and business events; and the quotas of models.

use crate::bindings::caisson::step::{events, kv, model};
use crate::model::{AgentSpec, Scripted};

use super::*;

async fn set(state: &mut State, key: &str, value: &[u8]) -> wasmtime::Result<Result<(), Error>> {
    kv::Host::set(state, key.to_owned(), value.to_vec()).await
}

async fn get(state: &mut State, key: &str) -> Option<Vec<u8>> {
    answer(kv::Host::get(state, key.to_owned()).await).expect("a value or none")
}

async fn keys(state: &mut State, prefix: &str, limit: u32) -> Vec<String> {
    answer(kv::Host::keys(state, prefix.to_owned(), limit).await).expect("keys")
}

#[tokio::test]
async fn values_are_there_for_the_same_plugin_workflow_and_realm_alone() {
    let host = Host::new();
    let guest = Guest::with(json!(["kv"]));
    let mut state = guest.enter(&host);
    answer(set(&mut state, "a", b"\xff\x00one").await).expect("set");
    answer(set(&mut state, "ab", b"").await).expect("set");
    assert_eq!(get(&mut state, "a").await.as_deref(), Some(&b"\xff\x00one"[..]));
    assert_eq!(get(&mut state, "A").await, None);
    assert_eq!(keys(&mut state, "a", 10).await, ["a", "ab"]);
    assert_eq!(keys(&mut state, "", 1).await, ["a"]);
    assert_eq!(keys(&mut state, "", 0).await, [""; 0]);
    // Other runs, steps and attempts of the same see it.
    let again = Guest { run: "run-2", step: "step-9", attempt: 3, entry: 2, ..guest.clone() };
    assert_eq!(get(&mut again.enter(&host), "ab").await.as_deref(), Some(&b""[..]));
    let others = [
        Guest { plugin: "spy", ..guest.clone() },
        Guest { workflow: "other", ..guest.clone() },
        Guest { realm: Realm::new("other", "default"), ..guest.clone() },
        Guest { realm: Realm::new("tenant", "other"), ..guest.clone() },
    ];
    for other in others {
        let mut state = Guest { run: "run-3", ..other }.enter(&host);
        assert_eq!(get(&mut state, "a").await, None);
        assert!(keys(&mut state, "", 100).await.is_empty());
        answer(kv::Host::delete(&mut state, "a".to_owned()).await).expect("removes nothing of others");
        answer(set(&mut state, "a", b"theirs").await).expect("set");
    }
    let mut state = Guest { run: "run-4", ..guest }.enter(&host);
    assert_eq!(get(&mut state, "a").await.as_deref(), Some(&b"\xff\x00one"[..]));
    answer(kv::Host::delete(&mut state, "a".to_owned()).await).expect("removed");
    assert_eq!(get(&mut state, "a").await, None);
}

#[tokio::test]
async fn values_have_quotas() {
    let host = Host::new();
    let guest = Guest::with(json!({"kv": {"maxKeys": 2, "maxBytes": 20}}));
    let mut state = guest.enter(&host);
    answer(set(&mut state, "a", b"12345").await).expect("fits");
    answer(set(&mut state, "b", b"12345").await).expect("fits");
    over_quota(set(&mut state, "c", b"").await);
    over_quota(set(&mut state, "a", b"1234567890123456").await);
    assert_eq!(get(&mut state, "a").await.as_deref(), Some(&b"12345"[..]), "what was refused changes nothing");
    answer(set(&mut state, "a", b"1234567890123").await).expect("just fits");
    answer(kv::Host::delete(&mut state, "b".to_owned()).await).expect("removed");
    answer(set(&mut state, "c", b"").await).expect("there is room again");
    let big = vec![0; 65_537];
    assert!(matches!(answer(set(&mut state, "a", &big).await), Err(Error::TooLarge(65_536))));
    for key in ["", "\0", "a\nb", &"k".repeat(513)] {
        invalid(set(&mut state, key, b"").await, "a key has");
        invalid(kv::Host::get(&mut state, key.to_owned()).await, "a key has");
        invalid(kv::Host::delete(&mut state, key.to_owned()).await, "a key has");
    }
    invalid(kv::Host::keys(&mut state, "k".repeat(513), 1).await, "a key has");
    let mut state = Guest { run: "run-2", workflow: "long", ..Guest::with(json!(["kv"])) }.enter(&host);
    answer(set(&mut state, &"k".repeat(512), &big[1..]).await).expect("the largest there is");
}

#[tokio::test]
async fn events_are_recorded_once_and_bounded() {
    let host = Host::new();
    let guest = Guest::with(json!({"events": {"names": ["order.*"], "maxEvents": 3}}));
    let emit = |state: &mut State, name: &str, key: Option<&str>, payload: &str| {
        let (name, key, payload) = (name.to_owned(), key.map(str::to_owned), payload.to_owned());
        // A closure cannot borrow the state for as long as the future lives.
        futures_util::FutureExt::now_or_never(events::Host::emit(state, name, key, payload))
            .expect("a journal in memory is ready")
    };
    let mut state = guest.enter(&host);
    let state = &mut state;
    denied(emit(state, "invoice.paid", None, "{}"), "\"events:invoice.paid\"");
    for name in ["", "order.\n", &format!("order.{}", "x".repeat(128))] {
        invalid(emit(state, name, None, "{}"), "an event's name has");
    }
    for payload in
        ["", "{", "nul", "\"\\ud800\"", "1e999", &"[".repeat(1000), &format!("{}1{}", "[".repeat(70), "]".repeat(70))]
    {
        invalid(emit(state, "order.paid", None, payload), "not JSON");
    }
    invalid(emit(state, "order.paid", Some(""), "{}"), "correlation key");
    let big = format!("\"{}\"", "x".repeat(65_535));
    assert!(matches!(answer(emit(state, "order.paid", None, &big)), Err(Error::TooLarge(65_536))));
    assert!(host.journal.events().is_empty());

    answer(emit(state, "order.paid", Some("order-7"), r#"{"total": 1.50, "a": 1}"#)).expect("emitted");
    answer(emit(state, "order.sent", None, "null")).expect("emitted");
    // The same entry once more, as after a crash: nothing twice.
    let mut again = guest.enter(&host);
    answer(emit(&mut again, "order.paid", Some("order-7"), r#"{"total": 1.50, "a": 1}"#)).expect("from the journal");
    answer(emit(&mut again, "order.sent", None, "null")).expect("from the journal");
    answer(emit(&mut again, "order.done", None, "[]")).expect("emitted");
    over_quota(emit(&mut again, "order.more", None, "[]"));

    let all = host.journal.events();
    assert_eq!(all.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["order.paid", "order.sent", "order.done"]);
    let first = &all[0];
    assert_eq!(first.payload.inline().expect("in place").get(), r#"{"total": 1.50, "a": 1}"#);
    assert_eq!((first.correlation_key.as_deref(), &*first.plugin), (Some("order-7"), "mail"));
    assert_eq!(
        (first.realm.clone(), first.run.as_str(), first.step_id.as_str()),
        (guest.realm.clone(), "run-1", "step-1")
    );
    assert!(first.at.0 >= 1_795_251_600_000);
    assert!(all[0].id != all[1].id && all[1].id != all[2].id);
}

#[tokio::test]
async fn models_are_called_for_granted_agents_and_so_often() {
    let host = Host::new();
    let script = r#"{"agents": {"*": [{"reply": "the token is hunter2000"}]}}"#;
    host.shared.models.set_provider("scripted", Arc::new(Scripted::parse(script).expect("a script")));
    host.shared
        .models
        .set_agents("default", ["triager", "writer"].map(|name| AgentSpec::new(name, "scripted", "Say it.")));
    let guest = Guest::with(json!({"model": {"agents": ["triager"], "maxCalls": 2}, "secrets": {"names": ["A"]}}));
    host.vault.set(&guest.realm, "A", "hunter2000");
    let mut state = guest.enter(&host);
    let ask = |agent: &str| json!({"agent": agent, "task": "go"}).to_string();
    denied(model::Host::complete(&mut state, ask("writer")).await, "\"model:writer\"");
    invalid(model::Host::complete(&mut state, "{}".to_owned()).await, "does not read");
    let said = answer(model::Host::complete(&mut state, ask("triager")).await).expect("a reply");
    assert!(said.contains("the token is [secret:A]") && !said.contains("hunter2000"), "{said}");
    // From the journal, though the model says something else by now.
    let script = r#"{"agents": {"*": [{"reply": "something else"}]}}"#;
    host.shared.models.set_provider("scripted", Arc::new(Scripted::parse(script).expect("a script")));
    let mut again = guest.enter(&host);
    assert_eq!(answer(model::Host::complete(&mut again, ask("triager")).await).expect("a reply"), said);
    assert!(
        answer(model::Host::complete(&mut again, ask("triager")).await).expect("a reply").contains("something else")
    );
    over_quota(model::Host::complete(&mut again, ask("triager")).await);
    let everyone = Guest { run: "run-2", ..Guest::with(json!(["model"])) };
    not_found(model::Host::complete(&mut everyone.enter(&host), ask("nobody")).await);
}
