//! Installed plugins: found by realm and name, loaded when they are used, and not before.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use caisson_core::error::Category;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Installed, Package};
use caisson_core::ports::{ActionRunner, Compilation, Invocation, PluginHost, PluginRef};
use caisson_runtime::{Runtime, RuntimeConfig, embed, inspect};
use serde_json::{Value, json};
use support::store::Components;
use support::{cache_dir, done, failure, invocation, load, realm, runtime, wat};

async fn start(config: RuntimeConfig) -> Runtime {
    tokio::task::spawn_blocking(|| Runtime::new(config).expect("it starts")).await.expect("it starts")
}

async fn stop(runtime: Runtime) {
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}

fn installed(package: &Arc<Package>, in_force: bool) -> Installed {
    Installed { package: Arc::clone(package), grants: Arc::default(), config: Json::of(&json!({})), in_force }
}

fn grants(short: &[&str]) -> Arc<Grants> {
    let mut grants = Grants::default();
    for grant in short {
        grants.add(grant).expect("a grant");
    }
    Arc::new(grants)
}

/// A version that no earlier test run has compiled.
fn unique() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    since.as_nanos().to_string()
}

fn pinned(runtime: &Runtime, package: &Package) -> Invocation {
    let plugin = PluginRef {
        id: package.id.as_str().into(),
        version: package.version.as_str().into(),
        digest: package.digest.as_str().into(),
    };
    let action = format!("{}.go", package.id).into();
    Invocation { action, plugin, ..invocation(runtime, "core.echo", &Value::Null) }
}

#[tokio::test]
async fn five_hundred_installed_plugins_cost_nothing_until_they_are_used() {
    let components = Arc::new(Components::default());
    let config = RuntimeConfig {
        cache_dir: Some(cache_dir()),
        components: Some(components.clone()),
        ..RuntimeConfig::default()
    };
    let runtime = start(config).await;
    let component = wat::component(&wat::answering("\"here\""));
    let packages: Vec<Arc<Package>> = (0..500)
        .map(|number| {
            // New code for each: compiled code of an earlier test run must not help.
            let text = wat::manifest(&format!("plugin-{number}"), &unique(), "");
            let bytes = embed(&component, &text, &[], None).expect("a package");
            let package = inspect(&bytes).expect("it reads");
            components.put(&package.digest, &bytes);
            Arc::new(package)
        })
        .collect();
    for package in &packages {
        runtime.install(&realm(), &package.id, vec![installed(package, true)]).expect("it is installed");
    }
    assert_eq!(runtime.actions(&realm()).iter().filter(|action| !action.built_in).count(), 500);
    assert_eq!(components.asked(), 0, "no bytes were read");
    assert!(packages.iter().all(|package| runtime.compilation(&package.digest) == Compilation::Unused));

    // Twenty steps that need it at once load it once.
    let calls = (0..20).map(|_| runtime.run(pinned(&runtime, &packages[7])));
    for entry in futures_util::future::join_all(calls).await {
        assert_eq!(done(&entry), json!("here"));
    }
    assert_eq!(components.asked(), 1);
    let ready = packages.iter().filter(|package| runtime.compilation(&package.digest) == Compilation::Ready).count();
    assert_eq!(ready, 1);
    stop(runtime).await;
}

#[tokio::test]
async fn what_was_unused_for_longest_makes_room() {
    let components = Arc::new(Components::default());
    let config = RuntimeConfig {
        cache_dir: Some(cache_dir()),
        loaded: 2,
        components: Some(components.clone()),
        ..RuntimeConfig::default()
    };
    let runtime = start(config).await;
    let packages: Vec<Arc<Package>> = ["a", "b", "c"]
        .into_iter()
        .map(|id| {
            let bytes = wat::package(id, &unique(), "", &wat::answering(&format!("\"{id}\"")));
            let package = Arc::new(inspect(&bytes).expect("it reads"));
            components.put(&package.digest, &bytes);
            runtime.install(&realm(), id, vec![installed(&package, true)]).expect("it is installed");
            package
        })
        .collect();
    for (at, reads) in [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4), (2, 5)] {
        let entry = runtime.run(pinned(&runtime, &packages[at])).await;
        assert_eq!(done(&entry), json!(packages[at].id));
        assert_eq!(components.asked(), reads, "after {}", packages[at].id);
        // Without its code on disk, loading it again means reading the bytes again.
        for file in std::fs::read_dir(cache_dir()).expect("a cache").filter_map(Result::ok) {
            if file.file_name().to_string_lossy().starts_with(&packages[at].digest) {
                std::fs::remove_file(file.path()).expect("it is ours");
            }
        }
    }
    stop(runtime).await;
}

#[tokio::test]
async fn a_run_keeps_the_version_that_it_pinned() {
    let runtime = runtime();
    let one = load(runtime, &wat::package("versioned", "1", "", &wat::answering("1")), &[]).await.expect("it loads");
    let old = invocation(runtime, "versioned.go", &Value::Null);
    let two = load(runtime, &wat::package("versioned", "2", "", &wat::answering("2")), &[]).await.expect("it loads");
    assert_eq!(*runtime.resolve(&realm(), "versioned.go").expect("it is there").plugin.version, *"2");
    assert_eq!(done(&runtime.run(invocation(runtime, "versioned.go", &Value::Null)).await), json!(2));
    assert_eq!(done(&runtime.run(old.clone()).await), json!(1), "the open run goes on with what it pinned");

    // Back again.
    let versions = vec![installed(&two, false), installed(&one, true)];
    runtime.install(&realm(), "versioned", versions).expect("it is installed");
    assert_eq!(done(&runtime.run(invocation(runtime, "versioned.go", &Value::Null)).await), json!(1));
    // Switched off: nothing new resolves to it, what is open goes on.
    runtime.install(&realm(), "versioned", vec![installed(&one, false)]).expect("it is installed");
    assert!(runtime.resolve(&realm(), "versioned.go").is_none());
    assert!(runtime.actions(&realm()).iter().all(|action| &*action.name != "versioned.go"));
    assert_eq!(done(&runtime.run(old.clone()).await), json!(1));
    // Gone.
    runtime.install(&realm(), "versioned", Vec::new()).expect("it is removed");
    assert_eq!(failure(&runtime.run(old).await).code, "PLUGIN_NOT_LOADED");
}

#[tokio::test]
async fn realms_do_not_see_each_others_plugins_and_share_their_code() {
    let runtime = runtime();
    let bytes = wat::package("neighbour", "1", "capabilities = [\"kv\"]", KV_GET);
    let here = load(runtime, &bytes, &["kv"]).await.expect("it loads");
    for other in [Realm::new("tenant", "other"), Realm::new("somebody", "default")] {
        assert!(runtime.resolve(&other, "neighbour.go").is_none());
        let call = Invocation { realm: other.clone(), ..pinned(runtime, &here) };
        let entry = runtime.run(call.clone()).await;
        assert_eq!(failure(&entry).code, "PLUGIN_NOT_LOADED", "the digest alone opens nothing");
        // The same package with its own grants: none.
        runtime.install(&other, "neighbour", vec![installed(&here, true)]).expect("it is installed");
        assert_eq!(done(&runtime.run(call).await), json!("denied"));
    }
    assert_eq!(done(&runtime.run(invocation(runtime, "neighbour.go", &Value::Null)).await), json!("allowed"));
    let narrowed = Invocation { narrowed: Some(grants(&[])), ..invocation(runtime, "neighbour.go", &Value::Null) };
    assert_eq!(done(&runtime.run(narrowed).await), json!("denied"), "the workflow took it away");
}

/// Says whether reading a value is allowed: the answer's first byte is whether it is an error, the error's first is 0
/// for a denial.
const KV_GET: &str = r#"
    (data (i32.const 1024) "\"allowed\"") (data (i32.const 1040) "\"denied\"") (data (i32.const 1056) "\"other\"")
    (func $main (param $call i32)
      (call $kv_get (i32.const 1024) (i32.const 1) (i32.const 2048))
      (if (i32.eqz (i32.load8_u (i32.const 2048)))
        (then (call $done (i32.const 1024) (i32.const 9)))
        (else (if (i32.eqz (i32.load8_u (i32.const 2056)))
          (then (call $done (i32.const 1040) (i32.const 8)))
          (else (call $done (i32.const 1056) (i32.const 7)))))))"#;

#[tokio::test]
async fn built_in_plugins_are_granted_by_id_and_realm() {
    let runtime = runtime();
    let realm = Realm::new("tenant", "without-people");
    let human = runtime.built_in().into_iter().find(|package| package.id == "human").expect("it is built in");
    let input = json!({"message": "may I?"});
    let call = Invocation { realm: realm.clone(), ..invocation(runtime, "human.approval", &input) };
    assert!(runtime.run(call.clone()).await.result.is_ok(), "by default it may ask");

    runtime.install(&realm, "human", vec![installed(&human, true)]).expect("the operator says: nothing");
    let entry = runtime.run(call.clone()).await;
    let denied = failure(&entry);
    assert_eq!((denied.code.as_str(), denied.category), ("CAPABILITY_DENIED", Category::PolicyError));
    assert!(denied.message.contains("`caisson plugin grant human approval`"), "{}", denied.message);

    let other = Installed { grants: grants(&["approval"]), ..installed(&human, true) };
    runtime.install(&realm, "human", vec![other]).expect("the operator says: this");
    // A run that pinned it in an older program goes on with this program's.
    let plugin = PluginRef { digest: "0".repeat(64).into(), ..call.plugin.clone() };
    assert!(runtime.run(Invocation { plugin, ..call.clone() }).await.result.is_ok());

    runtime.install(&realm, "human", vec![installed(&human, false)]).expect("it is switched off");
    assert!(runtime.resolve(&realm, "human.approval").is_none());
    assert!(runtime.resolve(&support::realm(), "human.approval").is_some(), "here and nowhere else");
    runtime.install(&realm, "human", Vec::new()).expect("nothing is said any more");
    assert!(runtime.run(call).await.result.is_ok());
}

#[tokio::test]
async fn bytes_that_are_gone_fail_the_step_by_name() {
    let components = Arc::new(Components::default());
    let config = RuntimeConfig {
        cache_dir: Some(cache_dir()),
        components: Some(components.clone()),
        ..RuntimeConfig::default()
    };
    let runtime = start(config).await;
    let bytes = wat::package("lost", &unique(), "", &wat::answering("1"));
    let package = Arc::new(inspect(&bytes).expect("it reads"));
    runtime.install(&realm(), "lost", vec![installed(&package, true)]).expect("it is installed");
    let entry = runtime.run(pinned(&runtime, &package)).await;
    assert_eq!(failure(&entry).code, "PLUGIN_NOT_LOADED");
    assert!(failure(&entry).message.contains("its bytes are gone"), "{}", failure(&entry).message);
    // They come back, and nothing has been remembered against it.
    components.put(&package.digest, b"something else");
    assert!(failure(&runtime.run(pinned(&runtime, &package)).await).message.contains("damaged"));
    stop(runtime).await;
}

#[tokio::test]
async fn what_does_not_compile_or_link_says_so() {
    // A constant of another type than its use: the binary reads, but it does not type-check.
    let mut broken = wat::package(
        "broken",
        "1",
        "",
        "(func $main (param $call i32) (drop (i32.add (i32.const 1234567) (i32.const 1))))",
    );
    let needle = [0x41, 0x87, 0xad, 0xcb, 0x00];
    let at = broken.windows(needle.len()).position(|window| window == needle).expect("the constant");
    broken[at] = 0x42;
    let runtime = runtime();
    let package = runtime.inspect(&broken).expect("it reads");
    let bytes = Bytes::from(broken);
    let refused = runtime.prepare(&package, &bytes).await.expect_err("it compiled");
    assert_eq!(refused.code, "PLUGIN_COMPILE", "{}", refused.message);
    assert!(
        matches!(runtime.compilation(&package.digest), Compilation::Failed { message } if message.contains("does not compile"))
    );
    // Whoever uses it is told the same, without another try.
    let package = Arc::new(package);
    runtime.install(&realm(), "broken", vec![installed(&package, true)]).expect("it is installed");
    assert_eq!(failure(&runtime.run(pinned(runtime, &package)).await).code, "PLUGIN_COMPILE");
    // A function that the interface does not have.
    let guest = "(func $main (param $call i32) (call $kv_delete (i32.const 0) (i32.const 0) (i32.const 2048)))";
    let mut foreign = wat::package("foreign", "1", "capabilities = [\"kv\"]", guest);
    for at in 0..foreign.len() - 6 {
        if foreign[at..].starts_with(b"delete") {
            foreign[at..at + 6].copy_from_slice(b"detele");
        }
    }
    let refused = load(runtime, &foreign, &[]).await.expect_err("it linked");
    assert_eq!(refused.code, "PLUGIN_LINK", "{}", refused.message);

    let other = Package { digest: "0".repeat(64), ..(*package).clone() };
    assert_eq!(runtime.prepare(&other, &bytes).await.expect_err("other bytes").code, "PLUGIN_MALFORMED");
}

#[tokio::test]
async fn a_plugin_reads_the_files_of_its_own_package() {
    let guest = r#"
        (data (i32.const 1024) "answer.json") (data (i32.const 1040) "none.json")
        (func $main (param $call i32)
          (call $asset (i32.const 1040) (i32.const 9) (i32.const 2048))
          (if (i32.load8_u (i32.const 2048)) (then (unreachable)))
          (call $asset (i32.const 1024) (i32.const 11) (i32.const 2048))
          (call $done (i32.load (i32.const 2052)) (i32.load (i32.const 2056))))"#;
    let files = [("answer.json".to_owned(), b"[1, 2]".to_vec()), ("other".to_owned(), Vec::new())];
    let bytes = embed(&wat::component(guest), &wat::manifest("reader", "1", ""), &files, None).expect("a package");
    load(runtime(), &bytes, &[]).await.expect("it loads");
    assert_eq!(done(&runtime().run(invocation(runtime(), "reader.go", &Value::Null)).await), json!([1, 2]));
}
