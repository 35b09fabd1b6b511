//! How limits on load and what is erased look to a client.

use caisson_core::engine::erasure;
use caisson_core::ids::RunId;
use caisson_core::ports::Pruning;
use caisson_core::time::Timestamp;

use super::*;

async fn save(surface: &Surface, key: &str, top: &str, state: &Value) {
    let mut definition = json!({"id": "w", "start": "s", "states": [state]});
    let more: Value = serde_json::from_str(top).expect("JSON");
    definition.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let body = json!({ "definition": definition }).to_string();
    let (status, answer) = surface.call(Some(key), "POST", "/api/v1/workflows", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

async fn start(surface: &Surface, key: &str) -> (StatusCode, Value) {
    let body = r#"{"workflowId":"w","input":{"secret":"sesame"}}"#;
    surface.call(Some(key), "POST", "/api/v1/workflow-runs?waitMs=0", body).await
}

#[tokio::test]
async fn a_run_without_room_is_pending_and_one_too_many_is_told_when_to_come_again() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    let waits = json!({"name": "s", "type": "signal", "signal": "go", "end": true});
    save(&surface, &key, r#"{"concurrency":{"limit":1,"maxQueued":1}}"#, &waits).await;
    let (_, first) = start(&surface, &key).await;
    assert_eq!(first["run"]["status"], "WAITING_SIGNAL");
    let (status, second) = start(&surface, &key).await;
    assert_eq!((status, &second["run"]["status"]), (StatusCode::CREATED, &json!("PENDING")));
    assert_eq!((&second["run"]["currentStates"], &second["run"]["startedAt"]), (&json!([]), &json!(null)));
    let request = Request::builder().method("POST").uri("/api/v1/workflow-runs").header("x-api-key", &key);
    let request = request.header("content-type", "application/json").body(Body::from(r#"{"workflowId":"w"}"#));
    let response = surface.router.clone().call(request.expect("a request")).await.expect("answers");
    assert_eq!(
        (response.status(), &response.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().expect("a value"))
    );
}

#[tokio::test]
async fn what_is_erased_is_shown_as_erased_and_is_never_an_error() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    let echo =
        json!({"name": "s", "type": "operation", "action": "core.echo", "input": {"x": "{{ secret }}"}, "end": true});
    save(&surface, &key, r#"{"retention":{"payloads":"1d"}}"#, &echo).await;
    let body = r#"{"workflowId":"w","input":{"secret":"sesame"}}"#;
    let (_, started) = surface.call(Some(&key), "POST", "/api/v1/workflow-runs?waitMs=10000", body).await;
    assert_eq!(started["run"]["status"], "COMPLETED", "{started}");
    let id = started["run"]["id"].as_str().expect("an id").to_owned();
    surface.store.erase(&RunId::new(id.as_str()), 0, 100, Timestamp(2_000_000)).await.expect("erases");

    let base = format!("/api/v1/workflow-runs/{id}");
    let (status, run) = surface.call(Some(&key), "GET", &base, "").await;
    assert_eq!((status, &run["run"]["status"]), (StatusCode::OK, &json!("COMPLETED")));
    let input = Json::parse(r#"{"secret":"sesame"}"#).expect("JSON");
    let shown = erasure::value(&caisson_core::json::sha256_hex(input.get().as_bytes())).value();
    assert_eq!((&run["run"]["input"], &run["run"]["context"]), (&shown, &json!({"erased": true})));
    let (status, steps) = surface.call(Some(&key), "GET", &format!("{base}/steps"), "").await;
    assert_eq!((status, &steps["steps"][0]["output"]["erased"]), (StatusCode::OK, &json!(true)));
    let step = steps["steps"][0]["id"].as_str().expect("an id");
    let mut texts = vec![run.to_string(), steps.to_string()];
    for path in [
        "/events",
        "/logs",
        "/artifacts",
        "/approvals",
        &format!("/steps/{step}"),
        &format!("/steps/{step}/logs/input"),
    ] {
        let (status, answer) = surface.call(Some(&key), "GET", &format!("{base}{path}"), "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        texts.push(answer.to_string());
    }
    let request = Request::builder().uri(format!("{base}/stream")).header("x-api-key", &key).body(Body::empty());
    let stream = surface.router.clone().call(request.expect("a request")).await.expect("answers");
    let bytes = stream.into_body().collect().await.expect("ends").to_bytes();
    texts.push(String::from_utf8(bytes.to_vec()).expect("text"));
    assert!(texts.iter().all(|text| !text.contains("sesame")), "{texts:#?}");
    let (status, refused) = surface.call(Some(&key), "POST", &format!("{base}/cancel"), "{}").await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::CONFLICT, &json!("RUN_ERASED")));
}
