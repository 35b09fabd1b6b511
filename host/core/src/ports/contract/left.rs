//! What guests leave behind: business events and files.

use super::{Whole, exact, make};
use crate::ids::{Realm, RunId, StepId};
use crate::json::{BlobRef, Payload};
use crate::ports::{ArtifactRow, Effect, EmittedEvent, PageRequest, RunRow, StoreError};
use crate::time::Timestamp;

async fn emit(store: &dyn Whole, event: EmittedEvent) {
    store.apply(&[Effect::Emit(event)]).await.expect("stores");
}

/// Ids of every page.
async fn ids(store: &dyn Whole, environment: Option<&str>, run: Option<&RunRow>, name: Option<&str>) -> Vec<String> {
    let (mut ids, mut page) = (Vec::new(), make::page(2));
    loop {
        let found = store.emitted("acme", environment, run.map(|run| &run.id), name, &page).await.expect("answers");
        ids.extend(found.items.iter().map(|event| event.id.to_string()));
        page.cursor = found.next;
        if page.cursor.is_none() {
            return ids;
        }
    }
}

pub(super) async fn an_event_is_stored_once(store: &dyn Whole) {
    let run = make::run("r", 1_000);
    let event = make::emitted(&run, "e", "order.paid", 1_000);
    emit(store, event.clone()).await;
    emit(store, event.clone()).await;
    emit(store, EmittedEvent { name: "other".into(), at: Timestamp(9_000), ..event.clone() }).await;
    store.apply(&[Effect::Emit(event.clone()), Effect::Emit(event.clone())]).await.expect("is there already");
    let found = store.emitted("acme", None, None, None, &make::page(10)).await.expect("answers");
    assert_eq!((found.items, found.next), (vec![event], None));
}

pub(super) async fn events_come_newest_first_and_filters_hold(store: &dyn Whole) {
    let [first, mut second, mut foreign] = ["r", "q", "f"].map(|id| make::run(id, 1_000));
    second.realm = Realm::new("acme", "staging");
    foreign.realm = Realm::new("umbrella", "default");
    for (run, id, name, at) in [
        (&first, "z", "order.paid", 2_000),
        (&first, "y", "order.sent", 2_000),
        (&first, "a", "order.paid", 2_000),
        (&second, "s", "order.paid", 3_000),
        (&second, "t", "order.sent", 1_000),
        (&foreign, "u", "order.paid", 2_500),
    ] {
        emit(store, make::emitted(run, id, name, at)).await;
    }
    let (default, staging, paid) = (Some("default"), Some("staging"), Some("order.paid"));
    assert_eq!(ids(store, None, None, None).await, ["s", "a", "y", "z", "t"], "at the same time, by order of coming");
    assert_eq!(ids(store, default, None, None).await, ["a", "y", "z"]);
    assert_eq!(ids(store, staging, None, None).await, ["s", "t"]);
    assert_eq!(ids(store, None, None, paid).await, ["s", "a", "z"]);
    assert_eq!(ids(store, default, None, paid).await, ["a", "z"]);
    for environment in [None, default] {
        assert_eq!(ids(store, environment, Some(&first), None).await, ["a", "y", "z"]);
        assert_eq!(ids(store, environment, Some(&first), paid).await, ["a", "z"]);
    }
    assert!(ids(store, staging, Some(&first), None).await.is_empty());
    assert!(ids(store, None, Some(&foreign), None).await.is_empty(), "of another tenant");
    assert!(ids(store, Some("nowhere"), None, None).await.is_empty());
    assert!(ids(store, None, None, Some("order.%")).await.is_empty());
}

pub(super) async fn pages_of_events_are_stable_while_events_are_added(store: &dyn Whole) {
    let run = make::run("r", 1_000);
    for number in 0..5 {
        emit(store, make::emitted(&run, &format!("e{number}"), "n", 1_000)).await;
    }
    let ids = |items: &[EmittedEvent]| items.iter().map(|event| event.id.to_string()).collect::<Vec<_>>();
    let first = store.emitted("acme", None, None, None, &make::page(2)).await.expect("answers");
    assert_eq!(ids(&first.items), ["e4", "e3"]);
    emit(store, make::emitted(&run, "new", "n", 1_000)).await;
    emit(store, make::emitted(&run, "old", "n", 1)).await;
    let rest = PageRequest { limit: 10, cursor: first.next };
    let second = store.emitted("acme", None, None, None, &rest).await.expect("answers");
    assert_eq!((ids(&second.items), second.next), (["e2", "e1", "e0", "old"].map(str::to_owned).to_vec(), None));
}

pub(super) async fn payloads_come_back_byte_for_byte(store: &dyn Whole) {
    let run = make::run("r", 1_000);
    let large = Payload::Stored(BlobRef { sha256: "ab".repeat(32).into(), size: 5_000 });
    let payloads = exact::AWKWARD.iter().map(|text| make::payload(text)).chain([large]);
    for (number, payload) in payloads.enumerate() {
        let event = EmittedEvent {
            payload,
            correlation_key: (number % 2 == 0).then(|| exact::AWKWARD[0].into()),
            name: "e\u{1}f \"é😀'".into(),
            ..make::emitted(&run, &number.to_string(), "", 1_000)
        };
        emit(store, event.clone()).await;
        let newest = store.emitted("acme", None, Some(&run.id), None, &make::page(1)).await.expect("answers");
        assert_eq!(newest.items, [event]);
    }
}

pub(super) async fn files_are_found_listed_and_replaced(store: &dyn Whole) {
    let [run, other] = ["r", "q"].map(|id| make::run(id, 1_000));
    let second = StepId::new("s2");
    let rows = [
        make::artifact(&run, "c", 1_000),
        make::artifact(&run, "b", 1_000),
        ArtifactRow { step_id: second.clone(), ..make::artifact(&run, "a", 500) },
        make::artifact(&other, "o", 2_000),
    ];
    store.apply(&rows.clone().map(Effect::Artifact)).await.expect("stores");
    let list = async |step: Option<&StepId>| -> Vec<String> {
        let (mut ids, mut page) = (Vec::new(), make::page(2));
        loop {
            let found = store.artifacts(&run.id, step, &page).await.expect("answers");
            ids.extend(found.items.iter().map(|file| file.id.to_string()));
            page.cursor = found.next;
            if page.cursor.is_none() {
                return ids;
            }
        }
    };
    assert_eq!(list(None).await, ["b", "c", "a"]);
    assert_eq!(list(Some(&second)).await, ["a"]);
    assert!(list(Some(&StepId::new("s9"))).await.is_empty());
    assert_eq!(store.artifact("o").await.expect("answers").as_ref(), rows.last());
    assert_eq!(store.artifact("nobody").await.expect("answers"), None);
    let again = ArtifactRow {
        mime_type: "text/plain".into(),
        size: 0,
        sha256: "ef".repeat(32).into(),
        path: "elsewhere".into(),
        at: Timestamp(3_000),
        ..rows[0].clone()
    };
    store.apply(&[Effect::Artifact(again.clone())]).await.expect("replaces");
    assert_eq!(store.artifact("c").await.expect("answers"), Some(again));
    assert_eq!(list(None).await, ["c", "b", "a"]);
}

pub(super) async fn a_cursor_that_no_list_gave_is_invalid(store: &dyn Whole) {
    // The last one is a cursor, but of a list that is sorted by ids.
    let of_runs = crate::ports::Cursor::new(5, "r1").encode();
    for cursor in ["", "zz", "'; --", "00", &of_runs] {
        let page = PageRequest { limit: 2, cursor: Some(cursor.to_owned()) };
        let events = store.emitted("acme", None, None, None, &page).await;
        assert!(matches!(events, Err(StoreError::Invalid(_))), "{cursor}: {events:?}");
        let files = store.artifacts(&RunId::new("r"), None, &page).await;
        assert!(matches!(files, Err(StoreError::Invalid(_))), "{cursor}: {files:?}");
    }
}

pub(super) async fn the_latest_time_is_raised_by_what_guests_leave(store: &dyn Whole) {
    let run = make::run("r", 1_000);
    emit(store, make::emitted(&run, "e", "n", 5_000)).await;
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(5_000)));
    store.apply(&[Effect::Artifact(make::artifact(&run, "f", 4_000))]).await.expect("stores");
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(5_000)));
    store.apply(&[Effect::Artifact(make::artifact(&run, "f", 6_000))]).await.expect("stores");
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(6_000)));
    let late = Effect::Emit(make::emitted(&run, "late", "n", 9_000));
    let refused = store.apply(&[late, make::set_within(&make::scope(), "k", b"", 0, 0)]).await;
    assert!(refused.is_err());
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(6_000)));
    store.save_plugins(&[make::plugin("notify", "d1", 7_000)]).await.expect("saves");
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(7_000)));
}
