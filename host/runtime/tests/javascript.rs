//! JavaScript on the built-in engine: scripts of steps, and packages that are one file.

mod support;

use std::sync::Arc;

use caisson_core::error::Category;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Installed};
use caisson_core::ports::{ActionRunner, Compilation, Entry, Invocation, PluginHost};
use caisson_runtime::{Limits, Runtime, RuntimeConfig, javascript_package};
use serde_json::{Value, json};
use support::{done, failure, invocation, load, start, wat};
use tokio::sync::OnceCell;

async fn runtime() -> &'static Runtime {
    static RUNTIME: OnceCell<Runtime> = OnceCell::const_new();
    RUNTIME
        .get_or_init(|| async {
            let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
            let config = RuntimeConfig { limits, ..RuntimeConfig::default() };
            tokio::task::spawn_blocking(|| start(config)).await.expect("the runtime starts")
        })
        .await
}

async fn script(realm: &Realm, source: &str) -> Entry {
    let runtime = runtime().await;
    let input = json!({"language": "javascript", "script": source, "input": {"n": 20}});
    let call = Invocation { realm: realm.clone(), ..invocation(runtime, "script.run", &input) };
    runtime.run(call).await
}

#[tokio::test]
async fn a_script_step_runs_javascript_in_the_script_plugins_name() {
    let nowhere = support::realm();
    let doubled = script(&nowhere, "function main(input) { return {twice: input.n * 2}; }").await;
    assert_eq!(done(&doubled), json!({"twice": 40}));

    let keep = "function main() { caisson.kv.set('a', 1); return caisson.kv.get('a'); }";
    let denied = script(&nowhere, keep).await;
    assert!(failure(&denied).message.contains("`caisson plugin grant script kv`"), "{:?}", failure(&denied));

    let runtime = runtime().await;
    let granted = Realm::new("tenant", "granted");
    let package = runtime.built_in().into_iter().find(|package| package.id == "script").expect("it is built in");
    let mut grants = Grants::default();
    grants.add("kv").expect("a grant");
    let config = Json::of(&json!({}));
    let version = Installed { package, grants: Arc::new(grants), config, in_force: true };
    runtime.install(&granted, "script", vec![version]).expect("it is granted");
    assert_eq!(done(&script(&granted, keep).await), json!(1));
    let spins = script(&nowhere, "for (;;) {}").await;
    assert_eq!((failure(&spins).code.as_str(), failure(&spins).category), ("CPU_TIME_LIMIT", Category::LimitError));
}

#[tokio::test]
async fn a_package_of_one_file_is_a_plugin_like_any_other() {
    let runtime = runtime().await;
    let source = b"export function go(input, context) { return [input.n + 1, Date.now(), Math.random()]; }";
    let text = wat::manifest("onefile", "1", "engine = \"javascript\"");
    let bytes = javascript_package(&text, source).expect("a package");
    let package = load(runtime, &bytes, &[]).await.expect("it loads");
    assert_eq!(runtime.compilation(&package.digest), Compilation::Ready);
    let call = invocation(runtime, "onefile.go", &json!({"n": 1}));
    let first = done(&runtime.run(call.clone()).await);
    assert_eq!(first[0], json!(2));
    assert_eq!(first[1].as_i64().expect("a time") / 1000, call.now.0 / 1000, "the clock starts with the entry");
    assert_eq!(done(&runtime.run(call.clone()).await), first, "the same entry sees the same");
    assert_ne!(done(&runtime.run(Invocation { attempt: 2, ..call }).await)[2], first[2]);

    let next = javascript_package(&text, b"export function go() { return 'edited'; }").expect("a package");
    load(runtime, &next, &[]).await.expect("it loads");
    assert_eq!(done(&runtime.run(invocation(runtime, "onefile.go", &Value::Null)).await), json!("edited"));
}
