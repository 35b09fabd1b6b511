//! Values come back as the very bytes that went in.

use super::make;
use crate::ids::StepId;
use crate::json::{BlobRef, INLINE_BYTES_MAX, Json, Payload};
use crate::ports::{Commit, ItemRow, OutboxRow, StepRow, Store};

/// Texts of values that any re-serialisation would change.
pub(super) const AWKWARD: &[&str] = &[
    "1.0",
    "1e2",
    "-0",
    "9007199254740993",
    "123456789012345678901234567890.10",
    "null",
    "\"\"",
    "\"a\\u0000b\"",
    "\"\\u00e9 \\ud83d\\ude00 é 😀\"",
    "\"\\\\ \\\" \\/ \\n \\t\"",
    "{\"z\":1,\"a\":2,\"z\":3}",
    "{ \"spaces\" : [ 1 ,\n\t2 ] }",
    "[[],{},[null]]",
    "{\"json\":{\"sha256\":\"x\",\"size\":1}}",
    "{\"\":\"$[0]\",\"'\":\"'); DROP TABLE runs; --\"}",
];

pub(super) async fn json_comes_back_byte_for_byte(store: &dyn Store) {
    for (number, text) in AWKWARD.iter().enumerate() {
        let value = make::json(text);
        let mut run = make::run(&format!("r{number}"), 1_000);
        run.input = Payload::Inline(value.clone());
        run.output = Some(Payload::Inline(value.clone()));
        run.error = Some(value.clone());
        let mut commit = make::commit(&mut run, 1, 1_000);
        commit.events[0].data = value.clone();
        commit.steps = vec![StepRow { plugin: Some(value.clone()), error: Some(value.clone()), ..make::step(1) }];
        commit.items = vec![ItemRow { step: 1, index: 0, result: Payload::Inline(value.clone()) }];
        commit.snapshot = Some(value.clone());
        commit.outbox =
            vec![OutboxRow { id: format!("m{number}").into(), target: run.id.clone(), message: value.clone() }];
        let approval = make::approval(&run, &format!("a{number}"), 1_000);
        commit.approvals =
            vec![crate::ports::ApprovalRow { summary: Some(Payload::Inline(value.clone())), ..approval }];
        store.commit(commit.clone()).await.expect("commits");

        assert_eq!(store.run(&run.id).await.expect("answers"), Some(run.clone()), "{text}");
        let loaded = store.load(&run.id).await.expect("answers").expect("is there");
        assert_eq!(loaded.snapshot.expect("is there").1.get(), *text);
        assert_eq!(store.events(&run.id, 0, 1).await.expect("answers")[0].data.get(), *text);
        assert_eq!(store.step(&run.id, &StepId::new("s1")).await.expect("answers").as_ref(), commit.steps.first());
        assert_eq!(store.items(&run.id, 1).await.expect("answers"), commit.items, "{text}");
        assert_eq!(store.outbox(100).await.expect("answers")[number].message.get(), *text);
        let approval = store.approval(&commit.approvals[0].id).await.expect("answers");
        assert_eq!(approval.as_ref(), commit.approvals.first(), "{text}");
        // The same again by the statements that move a run and replace a step.
        let mut again = make::commit(&mut run, 1, 1_000);
        again.steps.clone_from(&commit.steps);
        store.commit(again).await.expect("commits");
        assert_eq!(store.run(&run.id).await.expect("answers"), Some(run), "{text}");
    }
    let definition = "{ \"z\": 1.0, \"a\": [1e2] }";
    let (saved, _) = store.save_version(make::version("w", None, definition, 1)).await.expect("saves");
    assert_eq!(saved.definition.get(), definition);
    let found = store.version(&make::realm(), "w", None).await.expect("answers").expect("is there");
    assert_eq!(found.definition.get(), definition);
}

pub(super) async fn texts_of_all_kinds_come_back_as_they_were(store: &dyn Store) {
    let texts = ["", "null", "12", "1.50", "[1]", "'\"\\", "a\nb\r\t\u{1}\u{7f}", "\u{2028}\u{feff}é😀", "$[0]", "%_"];
    for (number, text) in texts.iter().enumerate() {
        let mut run = make::run(&format!("r{number}"), 1_000);
        run.name = Some((*text).to_owned());
        run.project_id = Some((*text).to_owned());
        run.created_by = (*text).into();
        run.phase = Some((*text).into());
        run.current_states = vec![(*text).into(), "b".into()];
        let mut commit = make::commit(&mut run, 1, 1_000);
        commit.steps = vec![StepRow { branch_path: (*text).to_owned(), state: (*text).into(), ..make::step(1) }];
        let mut approval = make::approval(&run, &format!("a{number}"), 1_000);
        approval.message = (*text).to_owned();
        approval.approvers = vec![(*text).to_owned()];
        approval.comment = Some((*text).to_owned());
        commit.approvals = vec![approval];
        store.commit(commit.clone()).await.expect("commits");
        assert_eq!(store.run(&run.id).await.expect("answers"), Some(run.clone()), "{text:?}");
        let steps = store.steps(&run.id, &make::page(1)).await.expect("answers").items;
        assert_eq!(steps, commit.steps, "{text:?}");
        let approval = store.approval(&commit.approvals[0].id).await.expect("answers");
        assert_eq!(approval.as_ref(), commit.approvals.first(), "{text:?}");
    }
}

pub(super) async fn a_large_value_is_stored_once(store: &dyn Store) {
    let text = format!("{{\"z\":\"{}\",\"n\":1.0}}", "é\\u0000\\n".repeat(INLINE_BYTES_MAX / 4));
    let (input, blob) = Payload::new(make::json(&text));
    let blob = blob.expect("is large");
    let mut ids = Vec::new();
    for run in ["r1", "r2"] {
        let mut run = make::run(run, 1_000);
        run.input = input.clone();
        let commit = Commit { blobs: vec![blob.clone(), blob.clone()], ..make::commit(&mut run, 1, 1_000) };
        store.commit(commit).await.expect("commits");
        let row = store.run(&run.id).await.expect("answers").expect("is there");
        assert_eq!(row.input, input);
        ids.push(blob.id.clone());
    }
    let found = store.blobs(&ids).await.expect("answers");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].json.get(), &found[0].id), (text.as_str(), &blob.id));
}

pub(super) async fn blobs_that_are_not_there_are_left_out(store: &dyn Store) {
    let (_, blob) = Payload::new(Json::of(&"x".repeat(INLINE_BYTES_MAX)));
    let blob = blob.expect("is large");
    let commit = Commit { blobs: vec![blob.clone()], ..make::commit(&mut make::run("r", 1), 1, 1) };
    store.commit(commit).await.expect("commits");
    let nobody = BlobRef { sha256: "00".into(), size: 1 };
    assert_eq!(store.blobs(&[nobody.clone(), blob.id.clone()]).await.expect("answers"), vec![blob]);
    assert!(store.blobs(&[nobody]).await.expect("answers").is_empty());
    assert!(store.blobs(&[]).await.expect("answers").is_empty());
}
