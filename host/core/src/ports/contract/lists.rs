//! Lists and their pages.

use super::{Whole, make};
use crate::engine::ApprovalStatus;
use crate::error::{Category, Failure};
use crate::ids::{Realm, RunId, StepId};
use crate::json::Json;
use crate::ports::{
    ApiKeyRow, ApprovalFilter, ApprovalRow, Commit, Cursor, Effect, HostLogLine, LogLevel, LogLine, PAGE_LIMIT_MAX,
    PageRequest, RunCounts, RunFilter, RunRow, StepRow, Store, StoreError,
};
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;

async fn add(store: &dyn Store, id: &str, at: i64, change: impl FnOnce(&mut RunRow)) {
    let mut run = make::run(id, at);
    change(&mut run);
    store.commit(make::commit(&mut run, 1, at)).await.expect("commits");
}

async fn runs(store: &dyn Store, environment: Option<&str>, filter: &RunFilter) -> Vec<String> {
    let mut ids = Vec::new();
    let mut page = make::page(2);
    loop {
        let found = store.runs("acme", environment, filter, &page).await.expect("answers");
        ids.extend(found.items.iter().map(|run| run.id.to_string()));
        page.cursor = found.next;
        if page.cursor.is_none() {
            return ids;
        }
    }
}

pub(super) async fn runs_come_newest_first_and_filters_hold(store: &dyn Store) {
    add(store, "a", 1_000, |_| {}).await;
    add(store, "b", 2_000, |run| run.status = RunStatus::Failed).await;
    add(store, "c", 2_000, |run| run.workflow_id = "other".into()).await;
    add(store, "d", 500, |run| run.status = RunStatus::Completed).await;
    add(store, "e", 3_000, |run| run.realm = Realm::new("acme", "staging")).await;
    add(store, "f", 4_000, |run| run.realm = Realm::new("umbrella", "default")).await;
    add(store, "g", 1_500, |run| run.parent = Some((RunId::new("a"), 4))).await;
    add(store, "h", 1_600, |run| run.project_id = Some("p".to_owned())).await;
    let any = RunFilter::default();
    assert_eq!(runs(store, None, &any).await, ["e", "c", "b", "h", "g", "a", "d"]);
    assert_eq!(runs(store, Some("default"), &any).await, ["c", "b", "h", "g", "a", "d"]);
    assert_eq!(runs(store, Some("staging"), &any).await, ["e"]);
    assert!(runs(store, Some("nowhere"), &any).await.is_empty());
    let status = |status: &[RunStatus]| RunFilter { status: status.to_vec(), ..RunFilter::default() };
    for environment in [None, Some("default")] {
        assert_eq!(runs(store, environment, &status(&[RunStatus::Failed])).await, ["b"]);
        assert_eq!(runs(store, environment, &status(&[RunStatus::Completed, RunStatus::Failed])).await, ["b", "d"]);
        let of = RunFilter { workflow: Some("other".to_owned()), ..RunFilter::default() };
        assert_eq!(runs(store, environment, &of).await, ["c"]);
        let called = RunFilter { parent: Some(RunId::new("a")), ..RunFilter::default() };
        assert_eq!(runs(store, environment, &called).await, ["g"]);
        let project = RunFilter { project: Some("p".to_owned()), ..RunFilter::default() };
        assert_eq!(runs(store, environment, &project).await, ["h"]);
        let nothing = RunFilter { workflow: Some("other".to_owned()), ..project };
        assert!(runs(store, environment, &nothing).await.is_empty());
    }
    // A status moves with the run.
    let mut run = store.run(&RunId::new("a")).await.expect("answers").expect("is there");
    run.status = RunStatus::Failed;
    store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
    assert_eq!(runs(store, Some("default"), &status(&[RunStatus::Failed])).await, ["b", "a"]);
    assert_eq!(runs(store, Some("default"), &status(&[RunStatus::Running])).await, ["c", "h", "g"]);
}

pub(super) async fn pages_are_stable_while_runs_are_added(store: &dyn Store) {
    for number in 0..5 {
        add(store, &format!("r{number}"), 1_000, |_| {}).await;
    }
    let first = store.runs("acme", None, &RunFilter::default(), &make::page(2)).await.expect("answers");
    let ids = |items: &[RunRow]| items.iter().map(|run| run.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&first.items), ["r4", "r3"]);
    add(store, "new", 2_000, |_| {}).await;
    add(store, "old", 1, |_| {}).await;
    let rest = PageRequest { limit: 10, cursor: first.next };
    let second = store.runs("acme", None, &RunFilter::default(), &rest).await.expect("answers");
    assert_eq!(ids(&second.items), ["r2", "r1", "r0", "old"]);
    assert_eq!(second.next, None);
}

pub(super) async fn a_cursor_that_no_list_gave_is_invalid(store: &dyn Store) {
    for cursor in ["", "zz", "'; --", "00"] {
        let page = PageRequest { limit: 2, cursor: Some(cursor.to_owned()) };
        let runs = store.runs("acme", None, &RunFilter::default(), &page).await;
        assert!(matches!(runs, Err(StoreError::Invalid(_))), "{cursor}: {runs:?}");
        let steps = store.steps(&RunId::new("r"), &page).await;
        assert!(matches!(steps, Err(StoreError::Invalid(_))), "{cursor}: {steps:?}");
        let logs = store.logs(&RunId::new("r"), None, &page).await;
        assert!(matches!(logs, Err(StoreError::Invalid(_))), "{cursor}: {logs:?}");
    }
}

pub(super) async fn a_page_is_never_larger_than_the_limit(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    let steps = (1..=u64::from(PAGE_LIMIT_MAX) + 2).map(make::step).collect();
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    let all = store.steps(&run.id, &make::page(u32::MAX)).await.expect("answers");
    assert_eq!(all.items.len(), PAGE_LIMIT_MAX as usize);
    let rest = PageRequest { limit: u32::MAX, cursor: all.next };
    let rest = store.steps(&run.id, &rest).await.expect("answers");
    assert_eq!((rest.items.len(), rest.next), (2, None));
    let none = store.steps(&run.id, &make::page(0)).await.expect("answers");
    assert_eq!(none.items.len(), 1, "a page holds at least one, or a list would never end");
}

pub(super) async fn dead_steps_come_newest_first(store: &dyn Store) {
    let ended = |number: u64, code: &str, at: i64| StepRow {
        status: StepStatus::Failed,
        error: Some(Json::of(&Failure::new(Category::LimitError, code, "gone \"for good\""))),
        completed_at: Some(Timestamp(at)),
        ..make::step(number)
    };
    let stored = async |id: &str, realm: Realm, steps: Vec<StepRow>| {
        let mut run = RunRow { realm, ..make::run(id, 1_000) };
        store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    };
    let open = StepRow { status: StepStatus::Pending, ..ended(4, "STEP_LOST", 9_000) };
    let own = vec![ended(1, "STEP_LOST", 2_000), ended(2, "OTHER", 2_000), ended(3, "STEP_LOST", 3_000), open];
    stored("r", make::realm(), own).await;
    stored("r-2", make::realm(), vec![ended(1, "STEP_LOST", 3_000), ended(12, "STEP_LOST", 3_000)]).await;
    stored("staged", Realm::new("acme", "staging"), vec![ended(1, "STEP_LOST", 4_000)]).await;
    stored("theirs", Realm::new("umbrella", "default"), vec![ended(1, "STEP_LOST", 5_000)]).await;
    for (environment, expected) in [
        (None, &[("staged", 1), ("r-2", 12), ("r-2", 1), ("r", 3), ("r", 1)][..]),
        (Some("default"), &[("r-2", 12), ("r-2", 1), ("r", 3), ("r", 1)]),
        (Some("nowhere"), &[]),
    ] {
        for limit in [1, 2, 10] {
            let mut page = make::page(limit);
            let mut found = Vec::new();
            loop {
                let part = store.dead("acme", environment, &page).await.expect("answers");
                found.extend(part.items);
                page.cursor = part.next;
                if page.cursor.is_none() {
                    break;
                }
            }
            let places: Vec<_> = found.iter().map(|(run, step)| (run.as_str(), step.number)).collect();
            assert_eq!(places, expected, "{environment:?} by {limit}");
        }
    }
    let first = store.dead("acme", Some("staging"), &make::page(1)).await.expect("answers");
    assert_eq!(first.items, [(RunId::new("staged"), ended(1, "STEP_LOST", 4_000))]);
    let strange = PageRequest { limit: 1, cursor: Some(Cursor::new(1, "r").encode()) };
    let refused = store.dead("acme", None, &strange).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
}

pub(super) async fn steps_are_listed_and_found(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    let mut full = make::claimed(3, "h1");
    full.index = Some(4);
    full.phase = Some("check".into());
    "check_all[4]".clone_into(&mut full.branch_path);
    full.result_seq = Some(9);
    full.child = Some(RunId::new("child"));
    full.started_at = Some(Timestamp(5));
    full.completed_at = Some(Timestamp(6));
    let steps = vec![full.clone(), make::step(1), make::ready(2, 1_000)];
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    let first = store.steps(&run.id, &make::page(2)).await.expect("answers");
    assert_eq!(first.items, [make::step(1), make::ready(2, 1_000)]);
    let second = PageRequest { limit: 2, cursor: first.next };
    let second = store.steps(&run.id, &second).await.expect("answers");
    assert_eq!((second.items, second.next), (vec![full.clone()], None));
    assert_eq!(store.step(&run.id, &full.id).await.expect("answers"), Some(full));
    assert_eq!(store.step(&run.id, &StepId::new("s9")).await.expect("answers"), None);
}

pub(super) async fn events_are_read_in_parts(store: &dyn Store) {
    let mut run = make::run("r", 1_000);
    let first = make::commit(&mut run, 5, 1_000);
    store.commit(first.clone()).await.expect("commits");
    store.commit(make::commit(&mut make::run("q", 1_000), 2, 1_000)).await.expect("commits");
    assert_eq!(store.events(&run.id, 0, 2).await.expect("answers"), first.events[..2]);
    assert_eq!(store.events(&run.id, 3, 100).await.expect("answers"), first.events[3..]);
    assert!(store.events(&run.id, 5, 100).await.expect("answers").is_empty());
    assert!(store.events(&run.id, u64::MAX, 100).await.expect("answers").is_empty());
    let some = store.events_at(&run.id, &[4, 2, 4, 77, 0]).await.expect("answers");
    assert_eq!(some.into_values().collect::<Vec<_>>(), [first.events[1].clone(), first.events[3].clone()]);
}

pub(super) async fn approvals_are_listed_decided_and_filtered(store: &dyn Store) {
    let mut first = make::run("r1", 1_000);
    let mut second = make::run("r2", 1_000);
    second.realm = Realm::new("acme", "staging");
    for (run, ids) in [(&mut first, ["a", "c"]), (&mut second, ["b", "d"])] {
        let asked = ids.iter().zip(1_000..).map(|(id, at)| make::approval(run, id, at)).collect();
        store.commit(Commit { approvals: asked, ..make::commit(run, 1, 1_000) }).await.expect("commits");
    }
    let ids = async |environment: Option<&str>, filter: ApprovalFilter| -> Vec<String> {
        let found = store.approvals("acme", environment, &filter, &make::page(10)).await.expect("answers");
        found.items.iter().map(|row| row.id.to_string()).collect()
    };
    assert_eq!(ids(None, ApprovalFilter::default()).await, ["d", "c", "b", "a"]);
    assert_eq!(ids(Some("default"), ApprovalFilter::default()).await, ["c", "a"]);
    let of_run = ApprovalFilter { run: Some(second.id.clone()), status: None };
    assert_eq!(ids(None, of_run).await, ["d", "b"]);
    let decided = ApprovalRow {
        status: ApprovalStatus::Approved,
        decided_by: Some("ann".into()),
        comment: Some("go".to_owned()),
        decided_at: Some(Timestamp(2_000)),
        ..make::approval(&first, "a", 1_000)
    };
    let commit = Commit { approvals: vec![decided.clone()], ..make::commit(&mut first, 1, 2_000) };
    store.commit(commit).await.expect("commits");
    assert_eq!(store.approval(&decided.id).await.expect("answers"), Some(decided));
    let pending = ApprovalFilter { run: None, status: Some(ApprovalStatus::Pending) };
    assert_eq!(ids(None, pending.clone()).await, ["d", "c", "b"]);
    assert_eq!(ids(Some("default"), pending).await, ["c"]);
    let page = store.approvals("acme", None, &ApprovalFilter::default(), &make::page(3)).await.expect("answers");
    let rest = PageRequest { limit: 3, cursor: page.next };
    let rest = store.approvals("acme", None, &ApprovalFilter::default(), &rest).await.expect("answers");
    assert_eq!((rest.items.len(), rest.next), (1, None));
}

pub(super) async fn what_runs_have_is_counted(store: &dyn Whole) {
    let (mut first, mut second) = (make::run("r1", 1_000), make::run("r2", 1_000));
    for (run, count) in [(&mut first, 3), (&mut second, 1)] {
        let name = |kind: &str, number: i64| format!("{kind}{number}-{}", run.id);
        let approvals = (0..count).map(|number| make::approval(run, &name("a", number), number)).collect();
        let files = (1..count).map(|number| Effect::Artifact(make::artifact(run, &name("f", number), number)));
        let sessions = (2..count).map(|number| make::change(&make::session(run, &name("s", number), number), 1, &[]));
        let effects: Vec<_> = files.chain(sessions).collect();
        store.commit(Commit { approvals, ..make::commit(run, 1, 1_000) }).await.expect("commits");
        store.apply(&effects).await.expect("applies");
    }
    let runs = [first.id, second.id, RunId::new("nobody")];
    let counts = async |most| {
        let found = store.counts(&runs, most).await.expect("answers");
        runs.each_ref().map(|run| {
            let RunCounts { approvals, artifacts, sessions } = found.get(run).copied().unwrap_or_default();
            [approvals, artifacts, sessions]
        })
    };
    assert_eq!(counts(10).await, [[3, 2, 1], [1, 0, 0], [0, 0, 0]]);
    assert_eq!(counts(2).await, [[2, 2, 1], [1, 0, 0], [0, 0, 0]]);
    assert!(store.counts(&[], 2).await.expect("answers").is_empty());
}

pub(super) async fn keys_are_found_revoked_and_touched(store: &dyn Store) {
    let key = |id: &str, tenant: &str, at| ApiKeyRow {
        id: id.into(),
        key_hash: format!("hash-{id}").into(),
        tenant: tenant.into(),
        actor: "ann".into(),
        teams: vec!["sre".to_owned(), "dba".to_owned()],
        role: "admin".into(),
        created_at: Timestamp(at),
        last_used_at: None,
        revoked_at: None,
    };
    assert_eq!(store.count_keys().await.expect("answers"), 0);
    for (id, tenant, at) in [("a", "acme", 1), ("b", "acme", 2), ("c", "umbrella", 3)] {
        store.add_key(&key(id, tenant, at)).await.expect("adds");
    }
    let twice = store.add_key(&key("a", "acme", 9)).await;
    assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");
    let same_hash = store.add_key(&ApiKeyRow { id: "z".into(), ..key("a", "acme", 9) }).await;
    assert!(matches!(same_hash, Err(StoreError::Conflict(_))), "{same_hash:?}");
    assert_eq!(store.keys("acme").await.expect("answers"), [key("b", "acme", 2), key("a", "acme", 1)]);
    assert_eq!(store.count_keys().await.expect("answers"), 3);
    assert_eq!(store.key_by_hash("hash-c").await.expect("answers"), Some(key("c", "umbrella", 3)));
    assert_eq!(store.key_by_hash("other").await.expect("answers"), None);
    assert!(!store.revoke_key("acme", "c", Timestamp(5)).await.expect("answers"), "of another tenant");
    assert!(store.revoke_key("acme", "a", Timestamp(5)).await.expect("answers"));
    assert!(store.revoke_key("acme", "a", Timestamp(7)).await.expect("answers"));
    let used = [
        ("a".into(), Timestamp(9)),
        ("b".into(), Timestamp(8)),
        ("b".into(), Timestamp(7)),
        ("x".into(), Timestamp(1)),
    ];
    store.touch_keys(&used[..2]).await.expect("notes");
    store.touch_keys(&used[2..]).await.expect("notes");
    store.touch_keys(&[]).await.expect("notes nothing");
    let keys = store.keys("acme").await.expect("answers");
    assert_eq!(keys[0].last_used_at, Some(Timestamp(8)));
    assert_eq!((keys[1].last_used_at, keys[1].revoked_at), (Some(Timestamp(9)), Some(Timestamp(5))));
}

pub(super) async fn log_lines_come_oldest_first(store: &dyn Store) {
    add(store, "r", 1_000, |_| {}).await;
    let line = |run: &str, step: &str, number: u8| HostLogLine {
        run: RunId::new(run),
        step: StepId::new(step),
        line: LogLine {
            at: Timestamp(2_000 - i64::from(number)),
            level: (number != 2).then_some(if number == 1 { LogLevel::Warn } else { LogLevel::Trace }),
            message: format!("line {number} \u{1}\n"),
            fields: (number == 1).then(|| "{\"b\":1.0}".to_owned()),
            percent: (number == 2).then_some(50),
        },
    };
    let lines = [line("r", "s1", 1), line("r", "s2", 2), line("q", "s1", 3), line("r", "s1", 4)];
    store.append_logs(&lines[..2]).await.expect("stores");
    store.append_logs(&lines[2..]).await.expect("stores");
    store.append_logs(&[]).await.expect("stores nothing");
    let run = RunId::new("r");
    let first = store.logs(&run, None, &make::page(2)).await.expect("answers");
    assert_eq!(first.items, lines[..2]);
    let second = PageRequest { limit: 2, cursor: first.next };
    let second = store.logs(&run, None, &second).await.expect("answers");
    assert_eq!((second.items.as_slice(), second.next), (&lines[3..], None));
    let of_step = store.logs(&run, Some(&StepId::new("s1")), &make::page(10)).await.expect("answers");
    assert_eq!(of_step.items, [lines[0].clone(), lines[3].clone()]);
}
