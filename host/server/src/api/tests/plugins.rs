//! Plugins by HTTP: every way in, what is refused on the way, and what is shown.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use caisson_core::error::{Category, Failure};
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::{Json, Payload, sha256_hex};
use caisson_core::plugin::{ActionSpec, Engine, Grants, Installed, Package};
use caisson_core::ports::{ArtifactRow, Compilation, Effect, EmittedEvent, PluginHost, Said};
use caisson_core::time::Timestamp;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::Service as _;

use super::super::plugin_upload::COMPONENT_BYTES_MAX;
use super::{Role, Surface, events};

/// A component is JSON text here: `{"id": …, "version": …, "asks": […]}`.
pub struct FakeHost;

#[async_trait]
impl PluginHost for FakeHost {
    fn inspect(&self, bytes: &[u8]) -> Result<Package, Failure> {
        let malformed = || Failure::new(Category::ValidationError, "PLUGIN_MALFORMED", "not a WebAssembly component");
        let value: Value = serde_json::from_slice(bytes).map_err(|_| malformed())?;
        Ok(Package {
            id: value["id"].as_str().ok_or_else(malformed)?.to_owned(),
            version: value["version"].as_str().ok_or_else(malformed)?.to_owned(),
            digest: sha256_hex(bytes),
            size: bytes.len() as u64,
            wit: "1.0.0".into(),
            description: "for tests".into(),
            engine: Engine::Component,
            actions: vec![ActionSpec {
                name: "act".into(),
                description: "acts".into(),
                config_schema: Some(json!({"properties": {"n": {"type": "integer"}}})),
                input_schema: None,
                output_schema: None,
            }],
            asks: Grants::parse(&value["asks"]).map_err(|_| malformed())?,
            limits: std::collections::BTreeMap::new(),
            imports: Vec::new(),
        })
    }
    async fn prepare(&self, package: &Package, _: &Bytes) -> Result<(), Failure> {
        if package.version == "broken" {
            return Err(Failure::new(Category::ValidationError, "PLUGIN_COMPILE", "the component does not compile"));
        }
        Ok(())
    }
    fn compilation(&self, _: &str) -> Compilation {
        Compilation::Ready
    }
    fn install(&self, _: &Realm, _: &str, _: Vec<Installed>) -> Result<(), Failure> {
        Ok(())
    }
    fn built_in(&self) -> Vec<Arc<Package>> {
        Vec::new()
    }
}

fn component(version: &str, asks: &[&str]) -> String {
    json!({"id": "p", "version": version, "asks": asks}).to_string()
}

fn form(fields: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    fields.iter().map(part).chain(["--edge--\r\n".to_owned()]).collect()
}

impl Surface {
    async fn upload(&self, key: &str, query: &str, kind: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder()
            .method("POST")
            .uri(format!("/api/v1/plugins{query}"))
            .header("x-api-key", key)
            .header("content-type", kind)
            .body(body.into())
            .expect("a request");
        let (status, answer) = self.send(request).await;
        (status.as_u16(), answer)
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, answer) = self.call(Some(key), method, &format!("/api/v1{path}"), body).await;
        (status.as_u16(), answer)
    }
}

#[tokio::test]
async fn a_plugin_comes_in_by_every_door_and_is_shown_the_same() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Admin, "default").await;
    let (status, made) = surface.upload(&key, "?grants=kv", "application/wasm", component("1", &["kv"])).await;
    assert_eq!(status, 201, "{made}");
    let plugin = &made["plugin"];
    for (field, expected) in [
        ("id", json!("p")),
        ("status", json!("ACTIVE")),
        ("enabled", json!(true)),
        ("grants", json!({"kv": {}})),
        ("capabilities", json!({"kv": {}})),
        ("permissions", json!(["kv"])),
        ("config", json!({})),
        ("source", json!("upload")),
        ("installedBy", json!("somebody")),
        ("compilation", json!({"state": "ready"})),
        ("builtIn", json!(false)),
        ("engine", json!("component")),
    ] {
        assert_eq!(plugin[field], expected, "{field}");
    }
    assert_eq!(surface.upload(&key, "", "application/wasm", component("1", &["kv"])).await.0, 200, "the same again");

    let body = form(&[("component", &component("2", &["kv", "http"])), ("config", r#"{"n":1}"#), ("enable", "false")]);
    let (status, made) = surface.upload(&key, "", "multipart/form-data; boundary=edge", body).await;
    assert_eq!((status, &made["plugin"]["status"]), (201, &json!("PENDING")), "{made}");
    assert_eq!(made["plugin"]["permissionDiff"], json!({"added": ["http:*"], "removed": [], "kept": ["kv"]}));
    assert_eq!(made["plugin"]["config"], json!({"n": 1}));

    std::fs::write(surface.directory.path().join("p 3.wasm"), component("3", &[])).expect("writes");
    let url = format!("file://{}/p%203.wasm", surface.directory.path().display());
    let digest = sha256_hex(component("3", &[]).as_bytes());
    let body = json!({"from": url, "digest": digest, "enable": true, "grants": ["kv"]});
    let (status, made) = surface.upload(&key, "", "application/json", body.to_string()).await;
    assert_eq!((status, &made["plugin"]["status"], &made["plugin"]["source"]), (201, &json!("ACTIVE"), &json!(url)));
    let wrong = json!({"from": url, "digest": "0".repeat(64)}).to_string();
    let (status, answer) = surface.upload(&key, "", "application/json", wrong).await;
    assert_eq!((status, &answer["error"]["code"]), (422, &json!("PLUGIN_DIGEST_MISMATCH")));

    let (_, list) = surface.ask(&key, "GET", "/plugins", "").await;
    let listed = list["plugins"].as_array().expect("a list");
    assert_eq!(listed.len(), 1, "one entry for an id");
    assert_eq!((&listed[0]["version"], &listed[0]["pending"]["version"]), (&json!("3"), &json!("2")));
    let (_, shown) = surface.ask(&key, "GET", "/plugins/p", "").await;
    let statuses: Vec<_> =
        shown["plugin"]["versions"].as_array().expect("a list").iter().map(|v| &v["status"]).collect();
    assert_eq!(statuses.len(), 3, "{shown}");
    assert_eq!(shown["plugin"]["runs"], json!([]));
    let (_, shown) = surface.ask(&key, "GET", "/plugins/p/1", "").await;
    assert_eq!(shown["plugin"]["status"], "SUPERSEDED");
    let other = surface.key(Role::Admin, "other").await;
    assert_eq!(surface.ask(&other, "GET", "/plugins/p", "").await.0, 404, "another tenant's plugin");
    assert_eq!(surface.ask(&key, "GET", "/plugins/p?environment=prod", "").await.0, 404, "another environment's");
    let (status, diff) = surface.ask(&key, "GET", "/plugins/p/diff?to=2", "").await;
    assert_eq!((status, &diff["from"]["version"], &diff["to"]["version"]), (200, &json!("3"), &json!("2")));
    assert_eq!(diff["permissions"]["added"], json!(["http:*", "kv"]));
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_with_its_name() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Admin, "default").await;
    let too_large = usize::try_from(COMPONENT_BYTES_MAX).expect("fits") + 1;
    let chunks = |count: usize| {
        let chunk = Bytes::from(vec![b' '; 1 << 20]);
        Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone()))))
    };
    let (multipart, wasm) = ("multipart/form-data; boundary=edge", "application/wasm");
    let large_form =
        format!("--edge\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n{}\r\n--edge--", " ".repeat(too_large));
    for (what, kind, body, status, code) in [
        ("nothing", wasm, Body::empty(), 422, "PLUGIN_MALFORMED"),
        ("no component", wasm, Body::from("hello"), 422, "PLUGIN_MALFORMED"),
        ("does not compile", wasm, Body::from(component("broken", &[])), 422, "PLUGIN_FAILED"),
        ("too large, and says so", wasm, Body::from(vec![b' '; too_large]), 413, "PLUGIN_TOO_LARGE"),
        ("too large, and does not say so", wasm, chunks(40), 413, "PLUGIN_TOO_LARGE"),
        ("a form that is too large", multipart, Body::from(large_form), 413, "PLUGIN_TOO_LARGE"),
        ("a form without component", multipart, Body::from(form(&[("enable", "true")])), 400, "MALFORMED_BODY"),
        ("a form that ends early", multipart, Body::from("--edge\r\ncontent-dispo"), 400, "MALFORMED_BODY"),
        ("an unknown field", multipart, Body::from(form(&[("x", "1")])), 400, "MALFORMED_BODY"),
        (
            "a field twice",
            multipart,
            Body::from(form(&[("enable", "true"), ("enable", "false")])),
            400,
            "MALFORMED_BODY",
        ),
        ("wrong grants", multipart, Body::from(form(&[("grants", "teleport")])), 422, "PLUGIN_GRANTS_INVALID"),
        ("no boundary", "multipart/form-data", Body::from("x"), 400, "MALFORMED_BODY"),
        ("another type", "text/html", Body::from("x"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("no digest", "application/json", Body::from(r#"{"from":"file:///x"}"#), 400, "MALFORMED_BODY"),
        (
            "no such scheme",
            "application/json",
            Body::from(json!({"from": "oci://x", "digest": "0".repeat(64)}).to_string()),
            422,
            "PLUGIN_SOURCE_INVALID",
        ),
        (
            "a digest that is none",
            "application/json",
            Body::from(r#"{"from":"file:///x","digest":"12"}"#),
            422,
            "PLUGIN_DIGEST_INVALID",
        ),
        (
            "a path outside",
            "application/json",
            Body::from(json!({"from": "file:///etc/hostname", "digest": "0".repeat(64)}).to_string()),
            403,
            "PLUGIN_PATH_FORBIDDEN",
        ),
    ] {
        let (found, answer) = surface.upload(&key, "", kind, body).await;
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{what}: {answer}");
    }
    let left: Vec<_> = std::fs::read_dir(surface.directory.path()).expect("reads").collect();
    assert!(left.is_empty(), "uploads are left: {left:?}");
    let (status, answer) = surface.upload(&key, "?config=[]", wasm, component("1", &[])).await;
    assert_eq!((status, &answer["error"]["code"]), (422, &json!("PLUGIN_CONFIG_INVALID")));
}

#[tokio::test]
async fn an_operator_says_yes_no_and_back() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Admin, "default").await;
    for version in ["1", "2"] {
        surface.upload(&key, "", "application/wasm", component(version, &["kv"])).await;
    }
    for (method, path, body, status, expected) in [
        ("POST", "/plugins/p/enable", "", 409, "PLUGIN_VERSION_NEEDED"),
        ("POST", "/plugins/p/enable", r#"{"version":"9"}"#, 404, "PLUGIN_VERSION_UNKNOWN"),
        ("POST", "/plugins/p/enable", r#"{"version":"2"}"#, 200, "ACTIVE"),
        ("POST", "/plugins/p/rollback", "", 200, "ACTIVE"),
        ("POST", "/plugins/p/disable", "", 200, "DISABLED"),
        ("POST", "/plugins/p/actions/act/invoke", "{}", 409, "PLUGIN_NOT_IN_FORCE"),
        ("POST", "/plugins/p/enable", "", 200, "ACTIVE"),
        ("PUT", "/plugins/p/grants", r#"{"grants":["kv"],"config":{"n":"x"}}"#, 422, "PLUGIN_CONFIG_INVALID"),
        ("PUT", "/plugins/p/grants", r#"{"grants":["vk"]}"#, 422, "PLUGIN_GRANTS_INVALID"),
        ("PUT", "/plugins/p/grants", r#"{"grants":{"kv":{"maxKeys":3}},"config":{"n":2}}"#, 200, "ACTIVE"),
        ("POST", "/plugins/p/actions/none/invoke", "{}", 404, "ACTION_NOT_FOUND"),
        ("POST", "/plugins/none/actions/a/invoke", "{}", 404, "PLUGIN_NOT_FOUND"),
        ("DELETE", "/plugins/p/2", "", 204, ""),
        ("GET", "/plugins/p/2", "", 404, "PLUGIN_VERSION_UNKNOWN"),
        ("DELETE", "/plugins/p", "", 204, ""),
        ("GET", "/plugins/p", "", 404, "PLUGIN_NOT_FOUND"),
    ] {
        let (found, answer) = surface.ask(&key, method, path, body).await;
        let said = answer["error"]["code"].as_str().or(answer["plugin"]["status"].as_str()).unwrap_or_default();
        assert_eq!((found, said), (status, expected), "{method} {path} {body}: {answer}");
    }
}

#[tokio::test]
async fn an_action_is_tried_without_a_run() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    let invoke = "/plugins/core/actions/echo/invoke";
    let (status, answer) = surface.ask(&key, "POST", invoke, r#"{"input":{"a":1}}"#).await;
    assert_eq!((status, &answer["outcome"], &answer["logs"]), (200, &json!({"done": {"a": 1}}), &json!([])));
    let (_, answer) = surface.ask(&key, "POST", invoke, r#"{"input":1,"config":{"b":2}}"#).await;
    assert_eq!(answer["outcome"]["done"], json!({"b": 2}), "its configuration for this call");
    let (_, runs) = surface.ask(&key, "GET", "/workflow-runs", "").await;
    assert_eq!(runs["runs"], json!([]));
    let large = format!(r#"{{"input":"{}"}}"#, "x".repeat(1 << 20));
    let (status, answer) = surface.ask(&key, "POST", invoke, &large).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("VALUE_TOO_LARGE")));
}

#[tokio::test]
async fn files_and_business_events_are_their_tenants() {
    let surface = Surface::new().await;
    let (own, other) = (surface.key(Role::Operator, "default").await, surface.key(Role::Admin, "other").await);
    let state = json!({"name": "s", "type": "signal", "signal": "go", "end": true});
    let definition = json!({"definition": {"id": "w", "start": "s", "states": [state]}}).to_string();
    surface.ask(&own, "POST", "/workflows", &definition).await;
    let (_, started) = surface.ask(&own, "POST", "/workflows/w/runs", "").await;
    let run = started["run"]["id"].as_str().expect("an id").to_owned();
    let realm = Realm::new("default", "default");
    let artifact = |id: &str, path: &str, size| ArtifactRow {
        id: id.into(),
        realm: realm.clone(),
        run: RunId::new(run.as_str()),
        step_id: StepId::new("step"),
        plugin: "p".into(),
        name: "re port.html".into(),
        mime_type: "text/html".into(),
        size,
        sha256: sha256_hex(b"<b>").into(),
        path: path.into(),
        at: Timestamp(5),
    };
    let event = EmittedEvent {
        id: "e1".into(),
        realm: realm.clone(),
        run: RunId::new(run.as_str()),
        step_id: StepId::new("step"),
        plugin: "p".into(),
        name: "order.paid".into(),
        correlation_key: Some("o-1".into()),
        payload: Payload::Inline(Json::of(&json!({"amount": 3}))),
        at: Timestamp(5),
    };
    let effects = [
        Effect::Artifact(artifact("good", "r/file", 3)),
        Effect::Artifact(artifact("escaped", "../secret", 3)),
        Effect::Artifact(artifact("gone", "r/none", 3)),
        Effect::Artifact(artifact("changed", "r/file", 4)),
        Effect::Emit(event.clone()),
    ];
    surface.api.journal.apply(&effects).await.expect("stores");
    std::fs::create_dir_all(surface.directory.path().join("artifacts/r")).expect("makes it");
    std::fs::write(surface.directory.path().join("artifacts/r/file"), "<b>").expect("writes");
    std::fs::write(surface.directory.path().join("secret"), "abc").expect("writes");

    let (_, list) = surface.ask(&own, "GET", &format!("/workflow-runs/{run}/artifacts"), "").await;
    assert_eq!(list["artifacts"].as_array().map(Vec::len), Some(4), "{list}");
    let (_, list) = surface.ask(&own, "GET", &format!("/workflow-runs/{run}/artifacts?stepId=other"), "").await;
    assert_eq!(list["artifacts"], json!([]));
    let (_, shown) = surface.ask(&own, "GET", &format!("/workflow-runs/{run}"), "").await;
    assert_eq!(shown["run"]["counts"]["artifacts"], 4);

    let request = Request::builder().uri("/api/v1/artifacts/good").header("x-api-key", &own);
    let response = surface.router.clone().call(request.body(Body::empty()).expect("a request")).await.expect("answers");
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("x-content-type-options", "nosniff"),
        ("content-length", "3"),
        ("content-disposition", "attachment; filename=\"re port.html\"; filename*=UTF-8''re%20port.html"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    assert_eq!(response.into_body().collect().await.expect("reads").to_bytes(), "<b>");
    for (id, status, code) in [
        ("escaped", 410, "ARTIFACT_GONE"),
        ("gone", 410, "ARTIFACT_GONE"),
        ("changed", 410, "ARTIFACT_GONE"),
        ("none", 404, "ARTIFACT_NOT_FOUND"),
    ] {
        let (found, answer) = surface.ask(&own, "GET", &format!("/artifacts/{id}"), "").await;
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{id}");
    }
    assert_eq!(surface.ask(&other, "GET", "/artifacts/good", "").await.0, 404, "another tenant's file");

    for (key, query, count) in [
        (&own, String::new(), 1),
        (&own, format!("?run={run}&name=order.paid"), 1),
        (&own, "?name=order".to_owned(), 0),
        (&own, "?run=x".to_owned(), 0),
        (&own, "?environment=prod".to_owned(), 0),
        (&other, String::new(), 0),
    ] {
        let (status, list) = surface.ask(key, "GET", &format!("/events{query}"), "").await;
        assert_eq!((status, list["events"].as_array().map(Vec::len)), (200, Some(count)), "{query}: {list}");
        if count == 1 {
            assert_eq!(list["events"][0]["payload"], json!({"amount": 3}));
        }
    }

    // Told to those who watch, without a number.
    let path = format!("/api/v1/workflow-runs/{run}/stream");
    let request = Request::builder().uri(path).header("x-api-key", &own).body(Body::empty()).expect("a request");
    let response = surface.router.clone().call(request).await.expect("answers");
    surface.api.service.live().said(&event.run, Said::Emitted(Box::new(event.clone())));
    surface.ask(&own, "POST", &format!("/workflow-runs/{run}/signals"), r#"{"name":"go"}"#).await;
    let text = response.into_body().collect().await.expect("ends").to_bytes();
    let told = events(std::str::from_utf8(&text).expect("text"));
    let emitted = told.iter().find(|(event, _, _)| event == "workflow.event.emitted").expect("is told");
    assert_eq!((emitted.1, &emitted.2["data"]["name"]), (None, &json!("order.paid")));
}
