//! The surface as a whole, over a store in memory: who may do what, what is described, what a wrong request is told.

mod dead;
mod load;
mod observed;
mod plugins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use caisson_core::definition::Schemas;
use caisson_core::error::{Category, Failure};
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::Json;
use caisson_core::ports::{
    ActionInfo, ActionRunner, Entry, Evaluation, Evaluator, Invocation, LogLine, NoTools, Outcome, PluginRef, Said,
    Usage,
};
use caisson_core::time::Timestamp;
use caisson_orchestrator::memory::{ManualClock, MemoryStore};
use caisson_orchestrator::{Live, Load, Options, Plugins, Ports, Service};
use caisson_queue::EmbeddedQueue;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::auth::Role;
use super::{Api, Catalog, Files, Parts, Trials, description, openapi, router};
use crate::keys;
use crate::observe::Observe;
use crate::sync::FileText;
use plugins::FakeHost;

/// Gives every input back.
struct Echo;

#[async_trait]
impl ActionRunner for Echo {
    fn resolve(&self, realm: &Realm, action: &str) -> Option<ActionInfo> {
        self.actions(realm).into_iter().find(|info| &*info.name == action)
    }
    fn actions(&self, _: &Realm) -> Vec<ActionInfo> {
        let plugin = PluginRef { id: "core".into(), version: "1".into(), digest: "0".into() };
        vec![ActionInfo { name: "core.echo".into(), plugin, input_schema: None, output_schema: None, built_in: true }]
    }
    async fn run(&self, invocation: Invocation) -> Entry {
        Entry { result: Ok(Outcome::Done(invocation.input)), usage: Usage::default(), warnings: Vec::new() }
    }
}

#[async_trait]
impl Evaluator for Echo {
    async fn evaluate(&self, _: &Evaluation) -> Result<Json, Failure> {
        Err(Failure::new(Category::ExpressionError, "EXPRESSION_FAILED", "there is no evaluator here"))
    }
}

#[async_trait]
impl Catalog for Echo {
    fn agents(&self, _: &Realm) -> BTreeMap<String, Schemas> {
        BTreeMap::new()
    }
    async fn refresh(&self) {}
    async fn files(&self, _: &Realm) -> Option<Vec<FileText>> {
        None
    }
}

#[async_trait]
impl Trials for Echo {
    async fn try_action(&self, invocation: Invocation, config: Option<Json>) -> Entry {
        let input = config.unwrap_or(invocation.input.clone());
        self.run(Invocation { input, ..invocation }).await
    }
}

/// The whole surface over a store in memory.
pub(crate) struct Surface {
    router: Router,
    api: super::AppState,
    pub(crate) store: Arc<MemoryStore>,
    directory: tempfile::TempDir,
}

impl Surface {
    pub(crate) async fn new() -> Self {
        Self::with(Observe::default()).await
    }

    async fn with(observe: Observe) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::new(Timestamp(1_000_000))));
        let plugins = Plugins::start(store.clone(), Arc::new(FakeHost), clock.clone()).await.expect("starts");
        let ports = Ports {
            store: store.clone(),
            queue: Arc::new(EmbeddedQueue::new()),
            runner: Arc::new(Echo),
            evaluator: Arc::new(Echo),
            clock,
            cluster: None,
            events: vec![observe.metrics.clone()],
        };
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files {
            uploads: directory.path().to_path_buf(),
            artifacts: directory.path().join("artifacts"),
            plugin_dirs: vec![directory.path().to_path_buf()],
        };
        let options = Options {
            host: "test".into(),
            name: "test".into(),
            version: "1".into(),
            lease: caisson_orchestrator::LEASE,
            slots: 4,
            limits: caisson_core::engine::Limits::default(),
            load: Load::default(),
        };
        let service = Service::start(ports, options, Live::default()).await.expect("starts");
        let api = Api::new(Parts {
            service,
            plugins,
            journal: store.clone(),
            resources: store.clone(),
            catalog: Arc::new(Echo),
            trials: Arc::new(Echo),
            tools: Arc::new(NoTools),
            files,
            observe,
            stop: CancellationToken::new(),
        });
        Self { router: router(api.clone()), api, store, directory }
    }

    pub(crate) async fn key(&self, role: Role, tenant: &str) -> String {
        let made = keys::make("somebody", role, Vec::new(), tenant.into(), self.api.now()).expect("makes a key");
        self.api.store().add_key(&made.row).await.expect("stores it");
        made.key
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().call(request).await.expect("answers");
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("reads").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn call(&self, key: Option<&str>, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(Body::from(body.to_owned())).expect("a request")).await
    }
}

/// Every route with what it needs; `None` needs no key.
const ROUTES: &[(&str, &str, Option<Role>)] = {
    use Role::{Admin, Approver, Operator, Viewer};
    &[
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/metrics", None),
        ("GET", "/api/v1/healthz", None),
        ("GET", "/api/v1/readyz", None),
        ("GET", "/api/v1/openapi.json", None),
        ("GET", "/api/v1/workflows", Some(Viewer)),
        ("POST", "/api/v1/workflows", Some(Operator)),
        ("POST", "/api/v1/workflows/validate", Some(Viewer)),
        ("GET", "/api/v1/workflows/{id}", Some(Viewer)),
        ("PUT", "/api/v1/workflows/{id}", Some(Operator)),
        ("DELETE", "/api/v1/workflows/{id}", Some(Operator)),
        ("GET", "/api/v1/workflows/{id}/versions", Some(Viewer)),
        ("GET", "/api/v1/workflows/{id}/versions/{version}", Some(Viewer)),
        ("POST", "/api/v1/workflows/{id}/rollback", Some(Operator)),
        ("POST", "/api/v1/workflows/{id}/enable", Some(Operator)),
        ("POST", "/api/v1/workflows/{id}/disable", Some(Operator)),
        ("POST", "/api/v1/workflows/{id}/pause", Some(Operator)),
        ("POST", "/api/v1/workflows/{id}/unpause", Some(Operator)),
        ("POST", "/api/v1/workflows/{id}/runs", Some(Operator)),
        ("GET", "/api/v1/workflow-runs", Some(Viewer)),
        ("POST", "/api/v1/workflow-runs", Some(Operator)),
        ("GET", "/api/v1/workflow-runs/{id}", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/steps", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/steps/{stepId}", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/steps/{stepId}/logs/{part}", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/events", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/logs", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/stream", Some(Viewer)),
        ("POST", "/api/v1/workflow-runs/{id}/pause", Some(Operator)),
        ("POST", "/api/v1/workflow-runs/{id}/resume", Some(Operator)),
        ("POST", "/api/v1/workflow-runs/{id}/cancel", Some(Operator)),
        ("POST", "/api/v1/workflow-runs/{id}/signals", Some(Operator)),
        ("GET", "/api/v1/workflow-runs/{id}/approvals", Some(Viewer)),
        ("POST", "/api/v1/workflow-runs/{id}/approvals/{approvalId}/approve", Some(Approver)),
        ("POST", "/api/v1/workflow-runs/{id}/approvals/{approvalId}/reject", Some(Approver)),
        ("GET", "/api/v1/approvals", Some(Viewer)),
        ("GET", "/api/v1/dead", Some(Viewer)),
        ("GET", "/api/v1/dead/{runId}/{stepId}", Some(Viewer)),
        ("POST", "/api/v1/dead/{runId}/{stepId}/replay", Some(Operator)),
        ("GET", "/api/v1/workflow-runs/{id}/artifacts", Some(Viewer)),
        ("GET", "/api/v1/artifacts/{id}", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/sessions", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/sessions/{sessionId}", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/sessions/{sessionId}/logs", Some(Viewer)),
        ("GET", "/api/v1/workflow-runs/{id}/sessions/{sessionId}/logs/download", Some(Viewer)),
        ("GET", "/api/v1/events", Some(Viewer)),
        ("GET", "/api/v1/plugins", Some(Viewer)),
        ("POST", "/api/v1/plugins", Some(Admin)),
        ("GET", "/api/v1/plugins/{id}", Some(Viewer)),
        ("DELETE", "/api/v1/plugins/{id}", Some(Admin)),
        ("GET", "/api/v1/plugins/{id}/{version}", Some(Viewer)),
        ("DELETE", "/api/v1/plugins/{id}/{version}", Some(Admin)),
        ("GET", "/api/v1/plugins/{id}/diff", Some(Viewer)),
        ("PUT", "/api/v1/plugins/{id}/grants", Some(Admin)),
        ("POST", "/api/v1/plugins/{id}/enable", Some(Admin)),
        ("POST", "/api/v1/plugins/{id}/disable", Some(Admin)),
        ("POST", "/api/v1/plugins/{id}/rollback", Some(Admin)),
        ("POST", "/api/v1/plugins/{id}/actions/{action}/invoke", Some(Operator)),
        ("GET", "/api/v1/agents", Some(Viewer)),
        ("POST", "/api/v1/agents", Some(Operator)),
        ("GET", "/api/v1/agents/{name}", Some(Viewer)),
        ("PUT", "/api/v1/agents/{name}", Some(Operator)),
        ("DELETE", "/api/v1/agents/{name}", Some(Operator)),
        ("GET", "/api/v1/agents/{name}/versions", Some(Viewer)),
        ("GET", "/api/v1/environments", Some(Viewer)),
        ("GET", "/api/v1/environments/{name}", Some(Viewer)),
        ("POST", "/api/v1/environments/{name}/sync", Some(Operator)),
        ("GET", "/api/v1/tool-servers", Some(Viewer)),
        ("POST", "/api/v1/tool-servers/{name}/check", Some(Operator)),
        ("GET", "/api/v1/hosts", Some(Viewer)),
        ("GET", "/api/v1/api-keys", Some(Admin)),
        ("POST", "/api/v1/api-keys", Some(Admin)),
        ("POST", "/api/v1/api-keys/{id}/revoke", Some(Admin)),
        ("DELETE", "/api/v1/api-keys/{id}", Some(Admin)),
    ]
};

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let known: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    let document = description();
    assert_eq!(openapi::listed(&document).into_iter().collect::<BTreeSet<_>>(), known);
    // The only routes that no description could come with are those added by hand.
    let by_hand = include_str!("../api.rs").matches(".route(").count();
    assert_eq!(by_hand, 1, "a route that is added by hand is not described");
    let text = serde_json::to_string(&document).expect("serialises");
    for schema in [
        "Run",
        "Step",
        "Event",
        "Approval",
        "Workflow",
        "Plugin",
        "Artifact",
        "Session",
        "BusinessEvent",
        "ApiKey",
        "ErrorBody",
        "Live",
    ] {
        assert!(text.contains(&format!("\"{schema}\":{{")), "{schema} is not described");
    }
}

#[tokio::test]
async fn the_description_is_one_that_tools_take() {
    let surface = Surface::new().await;
    let (_, document) = surface.call(None, "GET", "/api/v1/openapi.json", "").await;
    let mut waiting = vec![(String::new(), &document)];
    while let Some((path, value)) = waiting.pop() {
        match value {
            Value::Object(map) => {
                if let Some(responses) = map.get("responses").and_then(Value::as_object) {
                    for (status, response) in responses {
                        let described = response["description"].as_str().is_some_and(|text| !text.is_empty());
                        assert!(described, "{path}/responses/{status} has no description");
                    }
                }
                // A value that is `null` would be two of them.
                if let Some(of) = map.get("oneOf").and_then(Value::as_array) {
                    assert!(!of.iter().any(|one| one["$ref"] == "#/components/schemas/Any"), "{path}: {of:?}");
                }
                waiting.extend(map.iter().map(|(key, value)| (format!("{path}/{key}"), value)));
            }
            Value::Array(list) => waiting.extend(list.iter().map(|value| (path.clone(), value))),
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_role_may_do_what_it_is_for_and_nothing_else() {
    let surface = Surface::new().await;
    let mut keys = Vec::new();
    for role in Role::ALL {
        keys.push((role, surface.key(role, "default").await));
    }
    for (method, path, need) in ROUTES {
        let path = path.replace('{', "x").replace('}', "");
        let (status, _) = surface.call(None, method, &path, "").await;
        assert_eq!(status == StatusCode::UNAUTHORIZED, need.is_some(), "{method} {path} without a key: {status}");
        for (role, key) in &keys {
            let (status, body) = surface.call(Some(key), method, &path, "").await;
            let allowed = need.is_none_or(|need| role.may(need));
            assert_eq!(status == StatusCode::FORBIDDEN, !allowed, "{method} {path} as {role}: {status}");
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path} as {role}");
            assert!(!status.is_server_error(), "{method} {path} as {role}: {status} {body}");
            if !allowed {
                assert_eq!(body["error"]["details"]["needs"], need.expect("needs a role").as_str());
            }
        }
    }
}

#[test]
fn roles_form_the_promised_order() {
    use Role::{Admin, Approver, Operator, Viewer};
    for (role, may) in [
        (Viewer, &[Viewer][..]),
        (Operator, &[Viewer, Operator]),
        (Approver, &[Viewer, Approver]),
        (Admin, &[Viewer, Operator, Approver, Admin]),
    ] {
        for need in Role::ALL {
            assert_eq!(role.may(need), may.contains(&need), "{role} for {need}");
        }
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
}

#[tokio::test]
async fn a_revoked_key_ends_with_its_revocation() {
    let surface = Surface::new().await;
    let admin = surface.key(Role::Admin, "default").await;
    let (_, made) = surface.call(Some(&admin), "POST", "/api/v1/api-keys", r#"{"actor":"eve","role":"viewer"}"#).await;
    let key = made["key"].as_str().expect("a key").to_owned();
    assert_eq!(surface.call(Some(&key), "GET", "/api/v1/workflows", "").await.0, StatusCode::OK);
    let path = format!("/api/v1/api-keys/{}/revoke", made["apiKey"]["id"].as_str().expect("an id"));
    assert_eq!(surface.call(Some(&admin), "POST", &path, "").await.0, StatusCode::NO_CONTENT);
    let (status, body) = surface.call(Some(&key), "GET", "/api/v1/workflows", "").await;
    assert_eq!((status, body["error"]["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("UNAUTHENTICATED")));
}

#[tokio::test]
async fn another_tenants_things_are_not_there() {
    let surface = Surface::new().await;
    let (own, other) = (surface.key(Role::Admin, "default").await, surface.key(Role::Admin, "other").await);
    let definition = json!({"definition": {"id": "w", "start": "a", "states": [
        {"name": "a", "type": "inject", "data": {"x": 1}, "end": true}]}});
    let (status, _) = surface.call(Some(&own), "POST", "/api/v1/workflows", &definition.to_string()).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, started) = surface.call(Some(&own), "POST", "/api/v1/workflows/w/runs?waitMs=5000", "").await;
    assert_eq!((status, started["run"]["status"].as_str()), (StatusCode::CREATED, Some("COMPLETED")));
    let run = started["run"]["id"].as_str().expect("an id");
    for path in [
        "/api/v1/workflows/w".to_owned(),
        format!("/api/v1/workflow-runs/{run}"),
        format!("/api/v1/workflow-runs/{run}/steps"),
        format!("/api/v1/workflow-runs/{run}/events"),
        format!("/api/v1/workflow-runs/{run}/logs"),
        format!("/api/v1/workflow-runs/{run}/stream"),
        format!("/api/v1/workflow-runs/{run}/approvals"),
        format!("/api/v1/workflow-runs/{run}/artifacts"),
        format!("/api/v1/workflow-runs/{run}/sessions"),
    ] {
        assert_eq!(surface.call(Some(&own), "GET", &path, "").await.0, StatusCode::OK, "{path}");
        assert_eq!(surface.call(Some(&other), "GET", &path, "").await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (_, runs) = surface.call(Some(&other), "GET", "/api/v1/workflow-runs", "").await;
    assert_eq!(runs["runs"], json!([]));
    let (status, _) = surface
        .call(Some(&other), "POST", "/api/v1/api-keys", r#"{"actor":"a","role":"admin","tenant":"default"}"#)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_wrong_request_is_told_what_is_wrong() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Admin, "default").await;
    for (method, path, body, status, code) in [
        ("GET", "/nowhere", "", 404, "NOT_FOUND"),
        ("PATCH", "/api/v1/workflows", "", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/workflow-runs?state=x", "", 400, "MALFORMED_QUERY"),
        ("GET", "/api/v1/workflow-runs?status=RUNING", "", 400, "MALFORMED_QUERY"),
        ("GET", "/api/v1/workflow-runs?limit=1&limit=2", "", 400, "MALFORMED_QUERY"),
        ("GET", "/api/v1/workflow-runs?limit=501", "", 400, "MALFORMED_QUERY"),
        ("GET", "/api/v1/workflows?environment=", "", 400, "MALFORMED_ENVIRONMENT"),
        ("GET", "/api/v1/workflow-runs/none", "", 404, "RUN_NOT_FOUND"),
        ("POST", "/api/v1/workflow-runs", "{", 400, "MALFORMED_JSON"),
        ("POST", "/api/v1/workflow-runs", "{}", 400, "MALFORMED_BODY"),
        ("POST", "/api/v1/workflow-runs", r#"{"workflowId":"none"}"#, 404, "WORKFLOW_NOT_FOUND"),
        ("POST", "/api/v1/workflow-runs?waitMs=99999", r#"{"workflowId":"none"}"#, 400, "MALFORMED_QUERY"),
        ("POST", "/api/v1/workflows", r#"{"definition":{"id":"x"}}"#, 400, "DEFINITION_INVALID"),
        ("POST", "/api/v1/workflows", r#"{"definiton":{}}"#, 400, "MALFORMED_BODY"),
        ("PUT", "/api/v1/workflows/x", r#"{"definition":"id: x"}"#, 400, "DEFINITION_INVALID"),
        ("POST", "/api/v1/workflow-runs/none/signals", r#"{"name":""}"#, 422, "SIGNAL_WITHOUT_NAME"),
        ("POST", "/api/v1/workflow-runs/none/signals", r#"{"name":"a"}"#, 404, "RUN_NOT_FOUND"),
        ("POST", "/api/v1/workflow-runs/none/cancel", r#"{"why":"a"}"#, 400, "MALFORMED_BODY"),
        ("POST", "/api/v1/api-keys", r#"{"actor":"a","role":"king"}"#, 422, "UNKNOWN_ROLE"),
        ("DELETE", "/api/v1/api-keys/none", "", 404, "API_KEY_NOT_FOUND"),
        ("GET", "/api/v1/plugins/none", "", 404, "PLUGIN_NOT_FOUND"),
    ] {
        let (found, answer) = surface.call(Some(&key), method, path, body).await;
        assert_eq!(
            (found.as_u16(), answer["error"]["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {answer}"
        );
        assert!(answer["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
}

#[tokio::test]
async fn a_body_of_another_kind_or_size_is_refused_before_it_is_read() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Admin, "default").await;
    let request = |kind: &str, length: &str| {
        Request::builder()
            .method("POST")
            .uri("/api/v1/workflows")
            .header("x-api-key", &key)
            .header("content-type", kind)
            .header("content-length", length)
            .body(Body::from("x"))
            .expect("a request")
    };
    for (kind, length, status, code) in [
        ("application/json", "104857600", 413, "BODY_TOO_LARGE"),
        ("application/yaml", "104857600", 413, "BODY_TOO_LARGE"),
        ("text/html", "1", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("application/yaml; charset=utf-8", "1", 400, "DEFINITION_INVALID"),
    ] {
        let (found, answer) = surface.send(request(kind, length)).await;
        assert_eq!((found.as_u16(), answer["error"]["code"].as_str()), (status, Some(code)), "{kind}: {answer}");
    }
}

#[tokio::test]
async fn a_definition_keeps_its_order_and_its_versions() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    let state = |value: u32| format!(r#"[{{"type":"inject","name":"a","data":{{"z":{value},"a":null}},"end":true}}]"#);
    let body = |version: &str, value: u32| {
        format!(r#"{{"definition":{{"version":"{version}","id":"w","start":"a","states":{}}}}}"#, state(value))
    };
    let call = async |method: &'static str, path: &'static str, body: String| {
        let (status, answer) = surface.call(Some(&key), method, path, &body).await;
        (status.as_u16(), answer)
    };
    let (status, made) = call("POST", "/api/v1/workflows", body("1", 1)).await;
    assert_eq!(status, 201, "{made}");
    let keys: Vec<_> = made["workflow"]["definition"].as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["version", "id", "start", "states"]);
    for (method, path, body, status, code) in [
        ("POST", "/api/v1/workflows", body("1", 1), 409, "WORKFLOW_EXISTS"),
        ("PUT", "/api/v1/workflows/w", body("1", 2), 409, "VERSION_EXISTS"),
        ("PUT", "/api/v1/workflows/v", body("1", 1), 422, "ID_MISMATCH"),
        ("POST", "/api/v1/workflows/w/rollback", r#"{"version":"9"}"#.to_owned(), 404, "VERSION_NOT_FOUND"),
    ] {
        let (found, answer) = call(method, path, body).await;
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{method} {path}: {answer}");
    }
    let (status, second) = call("PUT", "/api/v1/workflows/w", body("2", 2)).await;
    assert_eq!((status, second["workflow"]["version"].as_str()), (200, Some("2")));
    let (status, back) = call("POST", "/api/v1/workflows/w/rollback", r#"{"version":"1"}"#.to_owned()).await;
    assert_eq!((status, back["workflow"]["version"].as_str()), (200, Some("1")));
    assert_eq!(call("DELETE", "/api/v1/workflows/w", String::new()).await.0, 204);
    assert_eq!(call("GET", "/api/v1/workflows/w", String::new()).await.0, 404);
}

/// The events of a stream as (event, id, data).
fn events(text: &str) -> Vec<(String, Option<u64>, Value)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data: "));
    blocks
        .map(|block| {
            let id = field(block, "id").map(|id| id.parse().expect("a number"));
            let data = field(block, "data").expect("data");
            (field(block, "event").expect("an event"), id, serde_json::from_str(&data).expect("JSON"))
        })
        .collect()
}

#[tokio::test]
async fn a_stream_tells_everything_once_and_ends_with_the_run() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    let state = json!({"name": "s", "type": "signal", "signal": "go", "end": true});
    let definition = json!({"definition": {"id": "w", "start": "s", "states": [state]}}).to_string();
    let (status, answer) = surface.call(Some(&key), "POST", "/api/v1/workflows", &definition).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let start = r#"{"workflowId":"w","projectId":"p"}"#;
    let (_, started) = surface.call(Some(&key), "POST", "/api/v1/workflow-runs", start).await;
    let run = started["run"]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/workflow-runs/{run}/stream");
    let open = |after: &str| {
        let request = Request::builder().uri(&path).header("x-api-key", &key).header("last-event-id", after);
        let mut router = surface.router.clone();
        let request = request.body(Body::empty()).expect("a request");
        async move { router.call(request).await.expect("answers") }
    };
    let response = open("0").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    // Both come after the stream was opened, and before it is read.
    let (_, steps) = surface.call(Some(&key), "GET", &format!("/api/v1/workflow-runs/{run}/steps"), "").await;
    let step = steps["steps"][0]["id"].as_str().expect("an id").to_owned();
    let line = LogLine { at: Timestamp(1), level: None, message: "half".to_owned(), fields: None, percent: Some(50) };
    let said = Said::Line { step: StepId::new(step.as_str()), line };
    surface.api.service.live().said(&RunId::new(run.as_str()), said);
    let (status, _) =
        surface.call(Some(&key), "POST", &format!("/api/v1/workflow-runs/{run}/signals"), r#"{"name":"go"}"#).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let text = response.into_body().collect().await.expect("ends").to_bytes();
    let told = events(std::str::from_utf8(&text).expect("text"));
    let numbers: Vec<u64> = told.iter().filter_map(|(_, id, _)| *id).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let progress = told.iter().find(|(event, _, _)| event == "workflow.step.progress").expect("progress");
    assert_eq!((progress.1, &progress.2["stepName"], &progress.2["data"]["percent"]), (None, &json!("s"), &json!(50)));
    let done = told.iter().find(|(event, _, _)| event == "workflow.step.completed").expect("the step's end");
    assert_eq!(
        (&done.2["runId"], &done.2["stepId"], &done.2["stepName"], &done.2["projectId"], &done.2["status"]),
        (&json!(run), &json!(step), &json!("s"), &json!("p"), &json!("SUCCEEDED"))
    );
    let (event, last, data) = told.last().expect("events");
    assert_eq!((event.as_str(), &data["status"]), ("workflow.run.status_changed", &json!("COMPLETED")));
    let last = last.expect("a number");
    let rest = open(&(last - 1).to_string()).await.into_body().collect().await.expect("ends").to_bytes();
    assert_eq!(events(std::str::from_utf8(&rest).expect("text")).len(), 1);
    assert_eq!(open(&last.to_string()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(open("soon").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_handler_that_panics_is_an_answer() {
    async fn broken() -> &'static str {
        panic!("on purpose")
    }
    let mut router: Router =
        Router::new().route("/broken", get(broken)).layer(from_fn_with_state(Arc::default(), super::layers::guard));
    let request = Request::builder().uri("/broken").body(Body::empty()).expect("a request");
    let response = router.call(request).await.expect("answers");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = response.into_body().collect().await.expect("reads").to_bytes();
    let body: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(body["error"]["code"], "INTERNAL");
    assert!(!body.to_string().contains("on purpose"), "the reason is for the log");
}
