//! Journals: in order, behind the fence, gone with their step.

use super::{Whole, exact, make};
use crate::ids::RunId;
use crate::ports::{Commit, CommitError, Effect, EntryKey, JournalError, RunRow, StepRow, StoreError};
use crate::status::{RunStatus, StepStatus};

/// A run whose steps 1 and 2 run under their first claim.
async fn run_with_steps(store: &dyn Whole, id: &str) -> RunRow {
    let mut run = make::run(id, 1_000);
    let steps = vec![make::claimed(1, "h1"), make::claimed(2, "h1")];
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    run
}

async fn step_becomes(store: &dyn Whole, run: &mut RunRow, step: StepRow) {
    store.commit(Commit { steps: vec![step], ..make::commit(run, 1, 1_100) }).await.expect("commits");
}

async fn append(store: &dyn Whole, entry: &EntryKey, number: u32) -> Result<(), JournalError> {
    store.append(entry, number, &make::record(&number.to_string()), &[]).await
}

async fn answers(store: &dyn Whole, entry: &EntryKey) -> Vec<String> {
    let records = store.records(entry).await.expect("answers");
    records.iter().map(|record| record.answer.get().to_owned()).collect()
}

pub(super) async fn records_come_back_in_order_and_by_entry(store: &dyn Whole) {
    let mut run = run_with_steps(store, "r").await;
    let other = run_with_steps(store, "q").await;
    let first = make::entry(&run, 1);
    assert!(store.records(&first).await.expect("answers").is_empty());
    for number in 0..12 {
        append(store, &first, number).await.expect("appends");
    }
    let numbers: Vec<String> = (0..12).map(|number: u32| number.to_string()).collect();
    assert_eq!(answers(store, &first).await, numbers, "by number, not by text");
    let later = EntryKey { entry: 1, ..first.clone() };
    let step = make::entry(&run, 2);
    let of_other = make::entry(&other, 1);
    for entry in [&later, &step, &of_other] {
        assert!(answers(store, entry).await.is_empty(), "{entry:?}");
        append(store, entry, 0).await.expect("appends");
    }
    step_becomes(store, &mut run, StepRow { attempt: 2, claim: 2, ..make::claimed(1, "h1") }).await;
    let retried = EntryKey { attempt: 2, claim: 2, ..first.clone() };
    append(store, &retried, 0).await.expect("appends");
    for entry in [&later, &step, &of_other, &retried] {
        assert_eq!(answers(store, entry).await, ["0"], "{entry:?}");
    }
    assert_eq!(answers(store, &first).await.len(), 12);
}

pub(super) async fn answers_come_back_byte_for_byte(store: &dyn Whole) {
    let run = run_with_steps(store, "r").await;
    let entry = make::entry(&run, 1);
    let large = format!("\"{}\"", "é\\u0000\\n".repeat(100_000));
    let texts = exact::AWKWARD.iter().copied().chain([large.as_str()]);
    let records: Vec<_> = texts.map(make::record).collect();
    for (number, record) in (0..).zip(&records) {
        store.append(&entry, number, record, &[]).await.expect("appends");
        store.append(&entry, number, record, &[]).await.expect("is the same again");
    }
    assert_eq!(store.records(&entry).await.expect("answers"), records);
}

pub(super) async fn the_same_record_again_is_fine_and_its_effects_are_not_repeated(store: &dyn Whole) {
    let run = run_with_steps(store, "r").await;
    let entry = make::entry(&run, 1);
    let first = [make::set("k", b"old")];
    store.append(&entry, 0, &make::record("0"), &first).await.expect("appends");
    store.append(&entry, 1, &make::record("1"), &[make::set("k", b"new")]).await.expect("appends");
    store.append(&entry, 0, &make::record("0"), &first).await.expect("is the same again");
    assert_eq!(store.kv_get(&make::scope(), "k").await.expect("answers").as_deref(), Some(&b"new"[..]));
    assert_eq!(answers(store, &entry).await, ["0", "1"]);
}

pub(super) async fn another_record_under_the_same_number_is_refused(store: &dyn Whole) {
    let run = run_with_steps(store, "r").await;
    let entry = make::entry(&run, 1);
    let record = make::record("{\"a\":1}");
    store.append(&entry, 0, &record, &[]).await.expect("appends");
    let mut others = vec![record.clone(); 4];
    others[0].call = "kv.set".into();
    others[1].request = "cd".into();
    others[2].answer = make::json("{\"a\":1.0}");
    others[3].clock_ms += 1;
    for other in others {
        let refused = store.append(&entry, 0, &other, &[make::set("k", b"v")]).await;
        assert!(matches!(refused, Err(JournalError::Superseded)), "{other:?}: {refused:?}");
    }
    assert_eq!(store.records(&entry).await.expect("answers"), [record]);
    assert_eq!(store.kv_get(&make::scope(), "k").await.expect("answers"), None);
}

pub(super) async fn a_record_that_would_leave_a_gap_is_refused(store: &dyn Whole) {
    let run = run_with_steps(store, "r").await;
    let entry = make::entry(&run, 1);
    append(store, &make::entry(&run, 2), 0).await.expect("appends");
    append(store, &EntryKey { entry: 1, ..entry.clone() }, 0).await.expect("appends");
    for number in [1, 2, u32::MAX] {
        let refused = store.append(&entry, number, &make::record("1"), &[make::set("k", b"v")]).await;
        assert!(matches!(refused, Err(JournalError::Store(StoreError::Other(_)))), "{number}: {refused:?}");
    }
    assert!(answers(store, &entry).await.is_empty());
    assert_eq!(store.kv_get(&make::scope(), "k").await.expect("answers"), None);
    append(store, &entry, 0).await.expect("appends");
    append(store, &entry, 1).await.expect("appends");
}

/// An append that must be refused, and leave nothing.
async fn refused(store: &dyn Whole, entry: &EntryKey, number: u32, why: &str) {
    let run = RunRow { id: entry.run.clone(), ..make::run("", 1_000) };
    let effects = [
        make::set("fenced", b"v"),
        Effect::Emit(make::emitted(&run, "fenced", "order.paid", 1_000)),
        Effect::Artifact(make::artifact(&run, "fenced", 1_000)),
    ];
    for effects in [&effects[..], &[]] {
        let refused = store.append(entry, number, &make::record("\"late\""), effects).await;
        assert!(matches!(refused, Err(JournalError::Superseded)), "{why}: {refused:?}");
    }
    assert!(!answers(store, entry).await.iter().any(|answer| answer == "\"late\""), "{why}");
    assert_eq!(store.kv_get(&make::scope(), "fenced").await.expect("answers"), None, "{why}");
    assert_eq!(store.artifact("fenced").await.expect("answers"), None, "{why}");
    let events = store.emitted("acme", None, None, None, &make::page(10)).await.expect("answers");
    assert!(events.items.is_empty(), "{why}");
}

pub(super) async fn only_the_attempt_and_the_claim_that_run_may_append(store: &dyn Whole) {
    let mut run = run_with_steps(store, "r").await;
    let stale = make::entry(&run, 1);
    append(store, &stale, 0).await.expect("appends");
    step_becomes(store, &mut run, StepRow { attempt: 2, claim: 3, ..make::claimed(1, "h2") }).await;
    let current = EntryKey { attempt: 2, claim: 3, ..stale.clone() };
    refused(store, &stale, 1, "an older attempt under an older claim").await;
    refused(store, &EntryKey { claim: 2, ..current.clone() }, 0, "an older claim").await;
    refused(store, &EntryKey { claim: 4, ..current.clone() }, 0, "a claim that is not yet").await;
    refused(store, &EntryKey { attempt: 1, ..current.clone() }, 1, "an older attempt").await;
    refused(store, &EntryKey { attempt: 3, ..current.clone() }, 0, "an attempt that is not yet").await;
    refused(store, &EntryKey { step: 9, ..current.clone() }, 0, "a step that nobody knows").await;
    refused(store, &EntryKey { run: RunId::new("nobody"), ..current.clone() }, 0, "a run that nobody knows").await;
    refused(store, &EntryKey { claim: 2, ..stale.clone() }, 0, "a record that is there, under another claim").await;
    append(store, &current, 0).await.expect("appends");
    assert_eq!(answers(store, &stale).await, ["0"]);
}

pub(super) async fn a_step_that_does_not_run_takes_no_records(store: &dyn Whole) {
    for status in StepStatus::ALL {
        let mut run = run_with_steps(store, status.as_str()).await;
        step_becomes(store, &mut run, StepRow { status: *status, ..make::claimed(1, "h1") }).await;
        let entry = make::entry(&run, 1);
        if *status == StepStatus::Running {
            append(store, &entry, 0).await.expect("appends");
        } else {
            refused(store, &entry, 0, status.as_str()).await;
        }
    }
}

pub(super) async fn another_host_goes_on_from_the_same_records(store: &dyn Whole) {
    let mut run = run_with_steps(store, "r").await;
    let died = make::entry(&run, 1);
    for number in 0..2 {
        append(store, &died, number).await.expect("appends");
    }
    step_becomes(store, &mut run, StepRow { claim: 1, ..make::ready(1, 1_000) }).await;
    refused(store, &died, 2, "the claim was lost").await;
    step_becomes(store, &mut run, StepRow { claim: 2, ..make::claimed(1, "h2") }).await;
    let next = EntryKey { claim: 2, ..died.clone() };
    assert_eq!(answers(store, &next).await, ["0", "1"]);
    append(store, &next, 1).await.expect("is the same again, by another host");
    append(store, &next, 2).await.expect("appends");
    refused(store, &died, 3, "it came back from the dead").await;
    assert_eq!(answers(store, &next).await, ["0", "1", "2"]);
}

pub(super) async fn records_go_with_the_commit_that_ends_the_step(store: &dyn Whole) {
    for status in StepStatus::ALL.iter().filter(|status| status.is_terminal()) {
        let mut run = run_with_steps(store, status.as_str()).await;
        let other_run = run_with_steps(store, &format!("{status}-other")).await;
        let first = make::entry(&run, 1);
        append(store, &first, 0).await.expect("appends");
        step_becomes(store, &mut run, StepRow { attempt: 2, claim: 2, ..make::claimed(1, "h1") }).await;
        let second = EntryKey { attempt: 2, claim: 2, ..first.clone() };
        let woken = EntryKey { entry: 1, ..second.clone() };
        let neighbours = [make::entry(&run, 2), make::entry(&other_run, 1)];
        for entry in [&second, &woken, &neighbours[0], &neighbours[1]] {
            append(store, entry, 0).await.expect("appends");
        }
        let ended = StepRow { status: *status, attempt: 2, claim: 2, ..make::step(1) };
        step_becomes(store, &mut run, ended).await;
        for entry in [&first, &second, &woken] {
            assert!(answers(store, entry).await.is_empty(), "{status}: {entry:?}");
        }
        for entry in &neighbours {
            assert_eq!(answers(store, entry).await, ["0"], "{status}: {entry:?}");
        }
    }
}

pub(super) async fn records_stay_while_the_step_is_open(store: &dyn Whole) {
    let mut run = run_with_steps(store, "r").await;
    let entry = make::entry(&run, 1);
    append(store, &entry, 0).await.expect("appends");
    for status in StepStatus::ALL.iter().filter(|status| !status.is_terminal()) {
        step_becomes(store, &mut run, StepRow { status: *status, ..make::claimed(1, "h1") }).await;
        assert_eq!(answers(store, &entry).await, ["0"], "{status}");
    }
    run.status = RunStatus::Paused;
    step_becomes(store, &mut run, make::claimed(1, "h1")).await;
    append(store, &entry, 1).await.expect("a run that is paused lets what is under way go on");
}

pub(super) async fn a_refused_commit_ends_no_journal(store: &dyn Whole) {
    let mut run = run_with_steps(store, "r").await;
    let entry = make::entry(&run, 1);
    append(store, &entry, 0).await.expect("appends");
    let mut late = run.clone();
    step_becomes(store, &mut run, make::claimed(2, "h1")).await;
    let ended = StepRow { status: StepStatus::Succeeded, ..make::step(1) };
    let refused = store.commit(Commit { steps: vec![ended.clone()], ..make::commit(&mut late, 1, 1_200) }).await;
    assert!(matches!(refused, Err(CommitError::Conflict)), "{refused:?}");
    assert_eq!(answers(store, &entry).await, ["0"]);
    append(store, &entry, 1).await.expect("appends");
    let taken = StepRow { id: make::step(2).id, ..make::step(3) };
    let steps = vec![ended.clone(), taken];
    let refused = store.commit(Commit { steps, ..make::commit(&mut run.clone(), 1, 1_200) }).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Other(_)))), "a step's id is taken: {refused:?}");
    assert_eq!(answers(store, &entry).await, ["0", "1"]);
    append(store, &entry, 2).await.expect("appends");
    step_becomes(store, &mut run, ended).await;
    assert!(answers(store, &entry).await.is_empty());
}

pub(super) async fn record_and_effects_are_stored_together_or_not_at_all(store: &dyn Whole) {
    let run = run_with_steps(store, "r").await;
    let (entry, scope) = (make::entry(&run, 1), make::scope());
    let before = [make::set("gone", b"1"), make::set("kept", b"1"), make::set("same", b"1")];
    store.append(&entry, 0, &make::record("0"), &before).await.expect("appends");
    let changes = |last: Effect| {
        [
            make::set("new", b"2"),
            make::set("kept", b"2"),
            make::delete("gone"),
            make::delete("never was"),
            Effect::Emit(make::emitted(&run, "e", "order.paid", 1_000)),
            Effect::Artifact(make::artifact(&run, "f", 1_000)),
            last,
        ]
    };
    let values = async || {
        let mut values = Vec::new();
        for key in store.kv_keys(&scope, "", 100).await.expect("answers") {
            let value = store.kv_get(&scope, &key).await.expect("answers").expect("is there");
            values.push((key, String::from_utf8(value).expect("is text")));
        }
        values
    };
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    let seen = async || {
        let events = store.emitted("acme", None, None, None, &make::page(10)).await.expect("answers").items;
        let files = store.artifacts(&run.id, None, &make::page(10)).await.expect("answers").items;
        (events.len(), files.len())
    };
    let too_much = changes(make::set_within(&scope, "last", b"2", 3, 1_000));
    let refused = store.append(&entry, 1, &make::record("1"), &too_much).await;
    assert!(matches!(refused, Err(JournalError::Quota(_))), "{refused:?}");
    assert_eq!(values().await, pairs(&[("gone", "1"), ("kept", "1"), ("same", "1")]));
    assert_eq!((seen().await, answers(store, &entry).await), ((0, 0), vec!["0".to_owned()]));
    // The guest is told so, and that is what the record says.
    store.append(&entry, 1, &make::record("\"quota\""), &[]).await.expect("the number is free");
    let fits = changes(make::set_within(&scope, "last", b"2", 4, 1_000));
    store.append(&entry, 2, &make::record("2"), &fits).await.expect("appends");
    assert_eq!(values().await, pairs(&[("kept", "2"), ("last", "2"), ("new", "2"), ("same", "1")]));
    assert_eq!((seen().await, answers(store, &entry).await.len()), ((1, 1), 3));
}
