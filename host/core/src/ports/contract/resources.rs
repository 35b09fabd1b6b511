//! Agents, tool servers and schemas.

use std::sync::Arc;

use super::make;
use crate::ids::Realm;
use crate::json::sha256_hex;
use crate::ports::{NewResource, ResourceKey, ResourceKind, ResourceRow, Resources};
use crate::time::Timestamp;

fn key(kind: ResourceKind, name: &str) -> ResourceKey {
    ResourceKey { realm: make::realm(), kind, name: name.into() }
}

fn agent(name: &str) -> ResourceKey {
    key(ResourceKind::Agent, name)
}

async fn save(store: &dyn Resources, key: &ResourceKey, source: &str, at: i64) -> (ResourceRow, bool) {
    let new = NewResource {
        key: key.clone(),
        source: source.into(),
        file: Some("agents/a.prompt".into()),
        created_by: "ann".into(),
        at: Timestamp(at),
    };
    store.save_resource(new).await.expect("saves")
}

pub(super) async fn a_text_comes_back_byte_for_byte_as_a_numbered_version(store: &dyn Resources) {
    let key = agent("triage");
    assert!(store.resource(&key, None).await.expect("answers").is_none());
    let text = "---\r\nmodel: a/b\n---\n\u{feff}Grüße {{name}}\t\n\n";
    let (first, new) = save(store, &key, text, 1_000).await;
    let expected = ResourceRow {
        key: key.clone(),
        number: 1,
        digest: sha256_hex(text.as_bytes()).into(),
        source: text.into(),
        enabled: true,
        file: Some("agents/a.prompt".into()),
        created_by: "ann".into(),
        created_at: Timestamp(1_000),
        updated_at: Timestamp(1_000),
    };
    assert_eq!((&first, new), (&expected, true));
    assert_eq!(store.resource(&key, None).await.expect("answers"), Some(expected.clone()));
    assert_eq!(store.resource(&key, Some(1)).await.expect("answers"), Some(expected));
    assert!(store.resource(&key, Some(2)).await.expect("answers").is_none());
}

pub(super) async fn a_text_that_was_there_before_is_the_version_it_was(store: &dyn Resources) {
    let key = agent("triage");
    save(store, &key, "one", 1_000).await;
    let (second, new) = save(store, &key, "two", 2_000).await;
    assert_eq!((second.number, new), (2, true));
    let (again, new) = save(store, &key, "two", 3_000).await;
    assert_eq!((again.number, again.created_at, again.updated_at, new), (2, Timestamp(2_000), Timestamp(2_000), false));
    let (back, new) = save(store, &key, "one", 4_000).await;
    assert_eq!((back.number, back.updated_at, new), (1, Timestamp(4_000), false));
    assert_eq!(store.resource(&key, None).await.expect("answers").map(|row| row.number), Some(1));
    let numbers: Vec<_> = store.resource_versions(&key).await.expect("answers").iter().map(|row| row.number).collect();
    assert_eq!(numbers, [2, 1]);
}

pub(super) async fn a_disabled_resource_keeps_its_history_and_is_enabled_by_saving(store: &dyn Resources) {
    let key = agent("triage");
    assert!(!store.set_resource(&key, false, Timestamp(1)).await.expect("answers"));
    save(store, &key, "one", 1_000).await;
    assert!(store.set_resource(&key, false, Timestamp(2_000)).await.expect("answers"));
    let row = store.resource(&key, None).await.expect("answers").expect("is there");
    assert_eq!((row.enabled, row.updated_at, row.number), (false, Timestamp(2_000), 1));
    assert!(save(store, &key, "one", 3_000).await.0.enabled);
}

pub(super) async fn all_are_listed_by_realm_kind_and_name_and_the_mark_moves(store: &dyn Resources) {
    let empty = store.resources_mark().await.expect("answers");
    let other = ResourceKey { realm: Realm::new("acme", "prod"), ..agent("z") };
    for key in [&agent("b"), &key(ResourceKind::Schema, "a"), &agent("a"), &other, &key(ResourceKind::McpServer, "m")] {
        save(store, key, "x", 1_000).await;
    }
    let listed = store.all_resources().await.expect("answers");
    let names: Vec<(Arc<str>, &str, Arc<str>)> = listed
        .into_iter()
        .map(|row| (row.key.realm.environment.clone(), row.key.kind.as_str(), row.key.name.clone()))
        .collect();
    let expected = [
        ("default", "agent", "a"),
        ("default", "agent", "b"),
        ("default", "mcp-server", "m"),
        ("default", "schema", "a"),
        ("prod", "agent", "z"),
    ];
    assert_eq!(names, expected.map(|(environment, kind, name)| (environment.into(), kind, name.into())));
    let mut mark = store.resources_mark().await.expect("answers");
    assert_ne!(mark, empty);
    store.set_resource(&agent("a"), false, Timestamp(2_000)).await.expect("answers");
    let moved = store.resources_mark().await.expect("answers");
    assert_ne!(moved, mark);
    mark = moved;
    save(store, &agent("a"), "y", 2_000).await;
    let moved = store.resources_mark().await.expect("answers");
    assert_ne!(moved, mark);
    save(store, &agent("a"), "y", 3_000).await;
    assert_eq!(store.resources_mark().await.expect("answers"), moved, "nothing changed");
}
