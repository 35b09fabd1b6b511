//! Workflows and their revisions.

use super::make;
use crate::ids::Realm;
use crate::json::sha256_hex;
use crate::ports::{DefinitionFilter, NewVersion, PageRequest, Store, StoreError};
use crate::status::RunStatus;
use crate::time::Timestamp;

pub(super) async fn the_same_content_again_is_the_same_version(store: &dyn Store) {
    let (first, new) = store.save_version(make::version("w", Some("1.0"), "{\"a\":1}", 1)).await.expect("saves");
    assert!(new);
    assert_eq!((first.number, &*first.label, &*first.digest), (1, "1.0", &*sha256_hex(b"{\"a\":1}")));
    for label in [Some("1.0"), None] {
        let (again, new) = store.save_version(make::version("w", label, "{\"a\":1}", 2)).await.expect("saves");
        assert!(!new);
        assert_eq!(again, first);
    }
    let (other, new) = store.save_version(make::version("w", Some("1.1"), "{\"a\":1}", 3)).await.expect("saves");
    assert!(new, "another label is another version");
    assert_eq!((other.number, &other.digest), (2, &first.digest));
    let (definition, in_force) = store.definition(&make::realm(), "w").await.expect("answers").expect("is there");
    assert_eq!((definition.current, definition.created_at, definition.updated_at), (2, Timestamp(1), Timestamp(3)));
    assert_eq!(in_force, other);
    assert!(definition.enabled && !definition.paused);
}

pub(super) async fn other_content_under_the_same_label_is_a_conflict(store: &dyn Store) {
    store.save_version(make::version("w", Some("1"), "{\"a\":1}", 1)).await.expect("saves");
    let refused = store.save_version(make::version("w", Some("1"), "{\"a\":1.0}", 2)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    let page = store.versions(&make::realm(), "w", &make::page(10)).await.expect("answers");
    assert_eq!(page.items.len(), 1);
    store
        .save_version(make::version("v", Some("1"), "{\"a\":1.0}", 2))
        .await
        .expect("another workflow's label is free");
}

pub(super) async fn versions_without_a_label_are_numbered(store: &dyn Store) {
    let mut labels = Vec::new();
    // An author took the label 2 before the second unlabelled version came.
    for (label, text) in [(Some("2"), "0"), (None, "1"), (None, "2"), (Some("x"), "3"), (None, "4")] {
        let (version, new) = store.save_version(make::version("w", label, text, 1)).await.expect("saves");
        assert!(new);
        labels.push((version.number, version.label.to_string()));
    }
    let expected = [(1, "2"), (3, "3"), (4, "4"), (5, "x"), (6, "6")];
    assert_eq!(labels, expected.map(|(number, label)| (number, label.to_owned())));
}

pub(super) async fn a_version_must_or_must_not_exist(store: &dyn Store) {
    let with = |must_exist, text: &str| NewVersion { must_exist, ..make::version("w", None, text, 1) };
    let refused = store.save_version(with(Some(true), "1")).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    assert_eq!(store.definition(&make::realm(), "w").await.expect("answers"), None);
    store.save_version(with(Some(false), "1")).await.expect("saves");
    for text in ["1", "2"] {
        let refused = store.save_version(with(Some(false), text)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
    store.save_version(with(Some(true), "2")).await.expect("saves");
}

pub(super) async fn an_older_version_that_is_saved_again_is_in_force_again(store: &dyn Store) {
    for (label, text) in [("a", "1"), ("b", "2"), ("a", "1")] {
        store.save_version(make::version("w", Some(label), text, 1)).await.expect("saves");
    }
    let current = store.version(&make::realm(), "w", None).await.expect("answers").expect("is there");
    assert_eq!(&*current.label, "a");
    assert_eq!(store.versions(&make::realm(), "w", &make::page(10)).await.expect("answers").items.len(), 2);
}

pub(super) async fn versions_are_found_by_label_number_and_digest(store: &dyn Store) {
    let realm = make::realm();
    for (label, text) in [("1.0", "1"), ("1", "2"), ("x", "2")] {
        store.save_version(make::version("w", Some(label), text, 1)).await.expect("saves");
    }
    let number = async |version: Option<&str>| {
        store.version(&realm, "w", version).await.expect("answers").map(|version| version.number)
    };
    assert_eq!(number(None).await, Some(3));
    assert_eq!(number(Some("1.0")).await, Some(1));
    assert_eq!(number(Some("1")).await, Some(2), "a label comes before a number");
    assert_eq!(number(Some("3")).await, Some(3));
    for nobody in ["4", "0", "-1", "", "99999999999999999999", "1 "] {
        assert_eq!(number(Some(nobody)).await, None, "{nobody}");
    }
    let digest = sha256_hex(b"2");
    let found = store.version_by_digest(&realm, "w", &digest).await.expect("answers").expect("is there");
    assert_eq!(found.number, 3, "the newest");
    assert_eq!(store.version_by_digest(&realm, "w", "00").await.expect("answers"), None);
    let first = store.versions(&realm, "w", &make::page(2)).await.expect("answers");
    assert_eq!(first.items.iter().map(|version| version.number).collect::<Vec<_>>(), [3, 2]);
    let rest = PageRequest { limit: 2, cursor: first.next };
    let rest = store.versions(&realm, "w", &rest).await.expect("answers");
    assert_eq!((rest.items.len(), rest.items[0].number, rest.next), (1, 1, None));
}

pub(super) async fn workflows_are_listed_searched_and_switched(store: &dyn Store) {
    let realm = make::realm();
    for id in ["restart-db", "triage", "a_b", "deploy"] {
        store.save_version(make::version(id, None, "1", 1)).await.expect("saves");
    }
    let nameless = NewVersion { name: None, ..make::version("nameless", None, "1", 1) };
    store.save_version(nameless).await.expect("saves");
    let ids = async |filter: DefinitionFilter| -> Vec<String> {
        let (mut ids, mut page) = (Vec::new(), make::page(2));
        loop {
            let found = store.definitions(&realm, &filter, &page).await.expect("answers");
            ids.extend(found.items.iter().map(|(definition, _)| definition.id.to_string()));
            page.cursor = found.next;
            if page.cursor.is_none() {
                return ids;
            }
        }
    };
    let search = |text: &str| DefinitionFilter { search: Some(text.to_owned()), enabled: None };
    assert_eq!(ids(DefinitionFilter::default()).await, ["a_b", "deploy", "nameless", "restart-db", "triage"]);
    assert_eq!(ids(search("TRIAGE")).await, ["triage"]);
    assert_eq!(ids(search("flow re")).await, ["restart-db"], "names are searched too");
    assert_eq!(ids(search("_")).await, ["a_b"], "nothing is a wildcard");
    assert_eq!(ids(search("%")).await, Vec::<String>::new());
    let switched = store.set_definition(&realm, "triage", Some(false), Some(true), Timestamp(7)).await;
    assert!(switched.expect("answers"));
    let (row, _) = store.definition(&realm, "triage").await.expect("answers").expect("is there");
    assert_eq!((row.enabled, row.paused, row.updated_at), (false, true, Timestamp(7)));
    assert!(store.set_definition(&realm, "triage", None, Some(false), Timestamp(8)).await.expect("answers"));
    let (row, _) = store.definition(&realm, "triage").await.expect("answers").expect("is there");
    assert_eq!((row.enabled, row.paused), (false, false));
    let enabled = |enabled| DefinitionFilter { search: None, enabled: Some(enabled) };
    assert_eq!(ids(enabled(false)).await, ["triage"]);
    assert_eq!(ids(enabled(true)).await.len(), 4);
    assert!(!store.set_definition(&realm, "nobody", None, None, Timestamp(9)).await.expect("answers"));
}

pub(super) async fn realms_do_not_see_each_other(store: &dyn Store) {
    for other in [Realm::new("acme", "staging"), Realm::new("umbrella", "default")] {
        let version = NewVersion { realm: other.clone(), ..make::version("w", None, "1", 1) };
        store.save_version(version).await.expect("saves");
        assert!(store.definition(&other, "w").await.expect("answers").is_some());
    }
    let here = make::realm();
    assert_eq!(store.definition(&here, "w").await.expect("answers"), None);
    assert_eq!(store.version(&here, "w", None).await.expect("answers"), None);
    assert!(!store.delete_definition(&here, "w").await.expect("answers"));
    let list = store.definitions(&here, &DefinitionFilter::default(), &make::page(10)).await.expect("answers");
    assert!(list.items.is_empty());
}

pub(super) async fn a_workflow_with_runs_cannot_be_deleted(store: &dyn Store) {
    let realm = make::realm();
    for id in ["triage", "unused"] {
        store.save_version(make::version(id, None, "1", 1)).await.expect("saves");
    }
    store.commit(make::commit(&mut make::run("r", 1_000), 1, 1_000)).await.expect("commits");
    let refused = store.delete_definition(&realm, "triage").await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert!(store.version(&realm, "triage", None).await.expect("answers").is_some());
    assert!(store.delete_definition(&realm, "unused").await.expect("answers"));
    assert!(!store.delete_definition(&realm, "unused").await.expect("answers"));
    assert_eq!(store.version(&realm, "unused", Some("1")).await.expect("answers"), None);
    let (again, new) = store.save_version(make::version("unused", None, "1", 2)).await.expect("saves");
    assert_eq!((again.number, new), (1, true));
}

pub(super) async fn numbers_about_runs_are_right(store: &dyn Store) {
    let realm = make::realm();
    let none = store.run_stats(&realm, "triage", Timestamp(0)).await.expect("answers");
    assert_eq!((none.runs, none.last_run_at, none.success_rate, none.avg_ms), (0, None, None, None));
    let ends = [
        (RunStatus::Completed, Some(1_400)),
        (RunStatus::Failed, Some(1_600)),
        (RunStatus::Completed, Some(900)),
        (RunStatus::Running, None),
        (RunStatus::Completed, Some(1_700)),
    ];
    for (number, (status, end)) in ends.into_iter().enumerate() {
        let mut run = make::run(&format!("r{number}"), 500);
        run.status = status;
        run.started_at = Some(Timestamp(600));
        run.completed_at = end.map(Timestamp);
        if number == 4 {
            run.started_at = None;
        }
        store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
    }
    let stats = store.run_stats(&realm, "triage", Timestamp(1_000)).await.expect("answers");
    assert_eq!((stats.runs, stats.last_run_at), (5, Some(Timestamp(500))));
    let near = |value: Option<f64>, expected: f64| value.is_some_and(|value| (value - expected).abs() < 1e-9);
    assert!(near(stats.success_rate, 2.0 / 3.0), "{stats:?}");
    assert!(near(stats.avg_ms, 1_000.0), "{stats:?}");
}
