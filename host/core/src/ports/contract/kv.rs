//! Small state: exact values, exact quotas, scopes apart.

use super::{Whole, make};
use crate::ids::Realm;
use crate::ports::{Effect, JournalError, KvScope};

async fn get(store: &dyn Whole, key: &str) -> Option<Vec<u8>> {
    store.kv_get(&make::scope(), key).await.expect("answers")
}

async fn keys(store: &dyn Whole, prefix: &str, limit: u32) -> Vec<String> {
    store.kv_keys(&make::scope(), prefix, limit).await.expect("answers")
}

/// The quota's message.
async fn over(store: &dyn Whole, effect: Effect) -> String {
    match store.apply(&[effect]).await {
        Err(JournalError::Quota(message)) => message,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn values_are_set_replaced_and_deleted(store: &dyn Whole) {
    assert_eq!(get(store, "k").await, None);
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = every_byte.repeat(256);
    for value in [&b""[..], b"text", b"\0", &every_byte, &large, b"short again"] {
        store.apply(&[make::set("k", value)]).await.expect("sets");
        assert_eq!(get(store, "k").await.as_deref(), Some(value));
    }
    for key in ["", "K", "e\u{0}f", "e\u{0}", "e", "é😀", "'; --", &"x".repeat(512)] {
        store.apply(&[make::set(key, key.as_bytes())]).await.expect("sets");
        assert_eq!(get(store, key).await.as_deref(), Some(key.as_bytes()), "{key:?}");
    }
    for _ in 0..2 {
        store.apply(&[make::delete("k")]).await.expect("deletes, also what is not there");
        assert_eq!(get(store, "k").await, None);
    }
    assert_eq!(get(store, "K").await.as_deref(), Some(&b"K"[..]));
    store.apply(&[make::set("k", b"1"), make::delete("k"), make::set("k", b"2")]).await.expect("goes in order");
    assert_eq!(get(store, "k").await.as_deref(), Some(&b"2"[..]));
}

pub(super) async fn keys_come_sorted_by_bytes_and_prefixes_are_literal(store: &dyn Whole) {
    let names = ["a", "A", "ab", "a%", "a_c", "abc", "a\u{0}", "b", "\u{e9}", "\u{ffff}", "\u{10000}", "%", "_"];
    let effects: Vec<Effect> = names.iter().map(|name| make::set(name, b"v")).collect();
    store.apply(&effects).await.expect("sets");
    let mut sorted = names.map(str::to_owned).to_vec();
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(keys(store, "", 100).await, sorted);
    assert_eq!(keys(store, "", 3).await, sorted[..3]);
    assert!(keys(store, "", 0).await.is_empty());
    assert_eq!(keys(store, "a", 100).await, ["a", "a\u{0}", "a%", "a_c", "ab", "abc"]);
    assert_eq!(keys(store, "a", 2).await, ["a", "a\u{0}"]);
    assert_eq!(keys(store, "ab", 100).await, ["ab", "abc"]);
    assert_eq!(keys(store, "abc", 100).await, ["abc"]);
    assert_eq!(keys(store, "%", 100).await, ["%"]);
    assert_eq!(keys(store, "_", 100).await, ["_"]);
    assert_eq!(keys(store, "a_", 100).await, ["a_c"]);
    assert_eq!(keys(store, "A", 100).await, ["A"]);
    assert_eq!(keys(store, "\u{ffff}", 100).await, ["\u{ffff}"]);
    assert!(keys(store, "aa", 100).await.is_empty());
    assert!(keys(store, "zz", 100).await.is_empty());
}

pub(super) async fn the_quota_of_keys_is_exact(store: &dyn Whole) {
    let set = |key: &str| make::set_within(&make::scope(), key, b"v", 3, 1_000);
    store.apply(&[set("a"), set("b"), set("c")]).await.expect("fills it");
    let said = over(store, set("d")).await;
    assert!(said.contains("4 keys") && said.contains("quota of 3") && said.contains("kv.maxKeys"), "{said}");
    store.apply(&[set("b")]).await.expect("replaces");
    store.apply(&[make::delete("nobody")]).await.expect("deletes nothing");
    over(store, set("d")).await;
    store.apply(&[make::delete("a"), set("d")]).await.expect("there is room again");
    over(store, set("a")).await;
    assert_eq!(keys(store, "", 10).await, ["b", "c", "d"]);
    // Counted anew when everything was gone.
    store.apply(&["b", "c", "d"].map(make::delete)).await.expect("deletes");
    store.apply(&["x", "y", "z"].map(set)).await.expect("fills it");
    over(store, set("a")).await;
    over(store, make::set_within(&make::scope(), "a", b"", 0, 1_000)).await;
}

pub(super) async fn the_quota_of_bytes_is_exact(store: &dyn Whole) {
    // Keys count in bytes, not in characters.
    let set = |key: &str, value: &[u8]| make::set_within(&make::scope(), key, value, 10, 10);
    let said = over(store, set("é", &[0; 9])).await;
    assert!(said.contains("11 bytes") && said.contains("quota of 10") && said.contains("kv.maxBytes"), "{said}");
    store.apply(&[set("é", &[0; 8])]).await.expect("fits exactly");
    over(store, set("a", b"")).await;
    over(store, set("é", &[0; 9])).await;
    store.apply(&[set("é", &[0; 4])]).await.expect("shrinks");
    store.apply(&[set("a", &[0; 3])]).await.expect("fits exactly");
    over(store, set("a", &[0; 4])).await;
    over(store, set("b", b"")).await;
    assert_eq!(get(store, "a").await, Some(vec![0; 3]), "a refused value leaves the one before");
    store.apply(&[make::delete("é"), set("a", &[0; 9])]).await.expect("fits exactly");
    over(store, set("b", b"")).await;
    store.apply(&[set("a", &[0; 8]), set("b", b"")]).await.expect("fits exactly");
    over(store, set("c", b"")).await;
}

pub(super) async fn a_quota_that_was_lowered_refuses_and_deletes_nothing(store: &dyn Whole) {
    store.apply(&["a", "b", "c"].map(|key| make::set(key, b"12345"))).await.expect("sets");
    let said = over(store, make::set_within(&make::scope(), "d", b"", 2, 1_000)).await;
    assert!(said.contains("4 keys") && said.contains("quota of 2"), "{said}");
    let said = over(store, make::set_within(&make::scope(), "a", b"1234", 10, 10)).await;
    assert!(said.contains("17 bytes") && said.contains("quota of 10"), "{said}");
    assert_eq!(keys(store, "", 10).await, ["a", "b", "c"]);
    store.apply(&[make::delete("a"), make::delete("b")]).await.expect("deletes");
    store.apply(&[make::set_within(&make::scope(), "d", b"123", 2, 10)]).await.expect("fits");
}

pub(super) async fn scopes_never_see_each_other(store: &dyn Whole) {
    let scope = |tenant: &str, environment: &str, plugin: &str, workflow: &str| KvScope {
        realm: Realm::new(tenant, environment),
        plugin: plugin.into(),
        workflow: workflow.into(),
    };
    // Also such whose names would be alike if they were joined.
    let scopes = [
        scope("acme", "default", "notify", "triage"),
        scope("umbrella", "default", "notify", "triage"),
        scope("acme", "staging", "notify", "triage"),
        scope("acme", "default", "other", "triage"),
        scope("acme", "default", "notify", "deploy"),
        scope("acme", "default", "notify/triage", ""),
        scope("acme", "default", "", "notify/triage"),
        scope("acme/default", "", "notify", "triage"),
    ];
    for (number, scope) in scopes.iter().enumerate() {
        assert_eq!(store.kv_get(scope, "k").await.expect("answers"), None, "{scope:?}");
        assert!(store.kv_keys(scope, "", 10).await.expect("answers").is_empty(), "{scope:?}");
        let value = number.to_string();
        let set = make::set_within(scope, "k", value.as_bytes(), 1, 2);
        store.apply(&[set]).await.expect("has a quota of its own");
    }
    for (number, scope) in scopes.iter().enumerate() {
        let value = store.kv_get(scope, "k").await.expect("answers");
        assert_eq!(value, Some(number.to_string().into_bytes()), "{scope:?}");
    }
    store.apply(&[Effect::DeleteKey { scope: scopes[0].clone(), key: "k".to_owned() }]).await.expect("deletes");
    for (number, scope) in scopes.iter().enumerate() {
        assert_eq!(store.kv_get(scope, "k").await.expect("answers").is_some(), number > 0, "{scope:?}");
    }
    let over = store.apply(&[make::set_within(&scopes[1], "l", b"", 1, 9)]).await;
    assert!(matches!(over, Err(JournalError::Quota(_))), "{over:?}");
}

pub(super) async fn effects_without_a_journal_are_stored_together_or_not_at_all(store: &dyn Whole) {
    let run = make::run("tried", 1_000);
    store.apply(&[]).await.expect("does nothing");
    store.apply(&[make::set("a", b"1")]).await.expect("sets");
    let effects = [
        Effect::Emit(make::emitted(&run, "e", "order.paid", 1_000)),
        Effect::Artifact(make::artifact(&run, "f", 1_000)),
        make::set("a", b"2"),
        make::delete("a"),
        make::set_within(&make::scope(), "b", b"2", 0, 0),
    ];
    let refused = store.apply(&effects).await;
    assert!(matches!(refused, Err(JournalError::Quota(_))), "{refused:?}");
    assert_eq!(get(store, "a").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(store.artifact("f").await.expect("answers"), None);
    let events = async || store.emitted("acme", None, None, None, &make::page(9)).await.expect("answers").items.len();
    assert_eq!(events().await, 0);
    store.apply(&effects[..4]).await.expect("is stored");
    assert_eq!((get(store, "a").await, events().await), (None, 1));
    assert!(store.artifact("f").await.expect("answers").is_some());
}
