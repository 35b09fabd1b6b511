//! How a client finds a dead step and replays its run.

use caisson_core::ports::{Commit, StepRow};
use caisson_core::status::StepStatus;

use super::*;

const WORKFLOW: &str = r#"{"definition":{"id":"w","start":"s","states":[
    {"name":"s","type":"operation","action":"core.echo","input":{"n":1},"end":true}]}}"#;

/// Stores that every host that took the step was lost.
async fn give_up(surface: &Surface, run: &str, step: &str) {
    let (store, run) = (surface.api.store(), RunId::new(run));
    let mut row = store.run(&run).await.expect("answers").expect("is there");
    let step = store.step(&run, &StepId::new(step)).await.expect("answers").expect("is there");
    let failure = Failure::new(Category::LimitError, "STEP_LOST", "every host was lost");
    let (error, completed_at) = (Some(Json::of(&failure)), Some(Timestamp(2_000)));
    let dead = StepRow { status: StepStatus::Failed, error, claim: 5, completed_at, ..step };
    let expected = row.version;
    row.version += 1;
    let commit = Commit { run: Some(row), expected, steps: vec![dead], ..Commit::default() };
    store.commit(commit).await.expect("commits");
}

#[tokio::test]
async fn a_dead_step_is_listed_shown_and_replayed_and_no_other_is() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    assert_eq!(surface.call(Some(&key), "POST", "/api/v1/workflows", WORKFLOW).await.0, StatusCode::CREATED);
    let path = "/api/v1/workflows/w/runs?waitMs=5000";
    let (_, old) = surface.call(Some(&key), "POST", path, r#"{"input":{"n":1}}"#).await;
    let id = old["run"]["id"].as_str().expect("an id").to_owned();
    let (_, steps) = surface.call(Some(&key), "GET", &format!("/api/v1/workflow-runs/{id}/steps"), "").await;
    let step = steps["steps"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/dead/{id}/{step}");
    let (status, alive) = surface.call(Some(&key), "POST", &format!("{path}/replay"), "").await;
    assert_eq!((status, &alive["error"]["code"]), (StatusCode::NOT_FOUND, &json!("DEAD_STEP_NOT_FOUND")));
    give_up(&surface, &id, &step).await;

    let (status, list) = surface.call(Some(&key), "GET", "/api/v1/dead?environment=default&limit=5", "").await;
    assert_eq!(status, StatusCode::OK, "{list}");
    let expected = json!([{"runId": id, "stepId": step, "state": "s", "branchPath": "", "action": "core.echo",
        "attempt": 1, "claims": 5, "failedAt": Timestamp(2_000).to_string()}]);
    assert_eq!((&list["dead"], &list["nextCursor"]), (&expected, &Value::Null));
    let (_, none) = surface.call(Some(&key), "GET", "/api/v1/dead?environment=other", "").await;
    assert_eq!(none["dead"], json!([]));
    let (status, shown) = surface.call(Some(&key), "GET", &path, "").await;
    assert_eq!((status, &shown["step"]["error"]["code"]), (StatusCode::OK, &json!("STEP_LOST")), "{shown}");
    let other = surface.key(Role::Admin, "other").await;
    assert_eq!(surface.call(Some(&other), "GET", &path, "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(surface.call(Some(&other), "GET", "/api/v1/dead", "").await.1["dead"], json!([]));

    let (status, new) = surface.call(Some(&key), "POST", &format!("{path}/replay"), "").await;
    assert_eq!((status, &new["run"]["forkedFrom"]), (StatusCode::CREATED, &json!(id)), "{new}");
    let path = format!("/api/v1/workflow-runs/{}?waitMs=5000", new["run"]["id"].as_str().expect("an id"));
    let (_, ended) = surface.call(Some(&key), "GET", &path, "").await;
    assert_eq!((&ended["run"]["status"], &ended["run"]["input"]), (&json!("COMPLETED"), &json!({"n": 1})));
}
