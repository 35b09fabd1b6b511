//! Plugins over a store in memory and a host that compiles when the test says so: what an operator sees, whatever comes together.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use caisson_core::error::{Category, Failure};
use caisson_core::ids::Realm;
use caisson_core::json::{Json, sha256_hex};
use caisson_core::plugin::{ActionSpec, Engine, Grants, Installed, Package, PluginStatus};
use caisson_core::ports::{Compilation, PluginHost, PluginRow, PluginStore};
use caisson_core::time::Timestamp;
use caisson_orchestrator::memory::{ManualClock, MemoryStore};
use caisson_orchestrator::{Consent, Error, FILES_ACTOR, Install, Plugins};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

type Versions = HashMap<(Realm, String), Vec<Installed>>;

/// A component is JSON text here: `{"id": …, "version": …, "asks": […]}`. It compiles when the test lets it.
struct Host {
    installed: Mutex<Versions>,
    compiles: Semaphore,
    broken: Mutex<Vec<String>>,
    /// As many compilations fail for a reason that passes.
    busy: Mutex<Vec<()>>,
}

impl Host {
    fn new(compiles: usize) -> Arc<Self> {
        Arc::new(Self {
            installed: Mutex::default(),
            compiles: Semaphore::new(compiles),
            broken: Mutex::default(),
            busy: Mutex::default(),
        })
    }

    /// Version and grants of what new runs use.
    fn in_force(&self, id: &str) -> Option<(String, Vec<String>)> {
        let installed = self.installed.lock();
        let versions = installed.get(&(realm(), id.to_owned()))?;
        let found: Vec<_> = versions.iter().filter(|version| version.in_force).collect();
        assert!(found.len() <= 1, "two versions of {id} are in force");
        found.first().map(|version| (version.package.version.clone(), version.grants.lines()))
    }

    fn known(&self, id: &str) -> usize {
        self.installed.lock().get(&(realm(), id.to_owned())).map_or(0, Vec::len)
    }
}

fn package(id: &str, version: &str, asks: &Value, digest: String) -> Package {
    Package {
        id: id.to_owned(),
        version: version.to_owned(),
        digest,
        size: 1,
        wit: "1.0.0".into(),
        description: String::new(),
        engine: Engine::Component,
        actions: vec![ActionSpec {
            name: "act".into(),
            description: String::new(),
            config_schema: Some(json!({"type": "object", "properties": {"url": {"type": "string"}}})),
            input_schema: None,
            output_schema: None,
        }],
        asks: Grants::parse(asks).unwrap(),
        limits: BTreeMap::new(),
        imports: Vec::new(),
    }
}

#[async_trait]
impl PluginHost for Host {
    fn inspect(&self, bytes: &[u8]) -> Result<Package, Failure> {
        let refuse = |code: &str| Failure::new(Category::ValidationError, code, "refused");
        let value: Value = serde_json::from_slice(bytes).map_err(|_| refuse("PLUGIN_MALFORMED"))?;
        let id = value["id"].as_str().ok_or_else(|| refuse("SOMETHING_ELSE"))?;
        if id == "core" {
            return Err(refuse("PLUGIN_ID_RESERVED"));
        }
        Ok(package(id, value["version"].as_str().unwrap(), &value["asks"], sha256_hex(bytes)))
    }
    async fn prepare(&self, package: &Package, _: &Bytes) -> Result<(), Failure> {
        self.compiles.acquire().await.unwrap().forget();
        if self.busy.lock().pop().is_some() {
            return Err(Failure::new(Category::TransientError, "PLUGIN_COMPILE", "no process can be started"));
        }
        if self.broken.lock().contains(&package.version) {
            return Err(Failure::new(Category::ValidationError, "PLUGIN_COMPILE", "does not compile"));
        }
        Ok(())
    }
    fn compilation(&self, _: &str) -> Compilation {
        Compilation::Unused
    }
    fn install(&self, realm: &Realm, id: &str, versions: Vec<Installed>) -> Result<(), Failure> {
        if versions.iter().any(|version| version.in_force && version.package.version == "taken") {
            return Err(Failure::new(Category::ValidationError, "PLUGIN_ACTION_TAKEN", "taken"));
        }
        self.installed.lock().insert((realm.clone(), id.to_owned()), versions);
        Ok(())
    }
    fn built_in(&self) -> Vec<Arc<Package>> {
        ["core", "http"]
            .map(|id| Arc::new(package(id, "1", &json!(["kv", "http"]), sha256_hex(id.as_bytes()))))
            .to_vec()
    }
}

struct Bench {
    store: Arc<MemoryStore>,
    host: Arc<Host>,
    clock: Arc<ManualClock>,
    plugins: Plugins,
}

fn realm() -> Realm {
    Realm::new("default", "default")
}

fn component(id: &str, version: &str, asks: &[&str]) -> Bytes {
    json!({"id": id, "version": version, "asks": asks}).to_string().into()
}

fn upload(bytes: Bytes) -> Install {
    Install {
        realm: realm(),
        bytes,
        grants: None,
        config: None,
        consent: Consent::Wait,
        source: "upload".into(),
        actor: "ann".into(),
        patience: Duration::from_secs(20),
    }
}

impl Bench {
    async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()), Host::new(Semaphore::MAX_PERMITS)).await
    }

    async fn on(store: Arc<MemoryStore>, host: Arc<Host>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1)));
        let plugins = Plugins::start(store.clone(), host.clone(), clock.clone()).await.unwrap();
        Self { store, host, clock, plugins }
    }

    async fn install(&self, install: Install) -> PluginRow {
        self.clock.advance_ms(1);
        self.plugins.install(install).await.unwrap().0
    }

    async fn statuses(&self, id: &str) -> Vec<(String, PluginStatus)> {
        let plugin = self.plugins.plugin(&realm(), id).await.unwrap();
        plugin.versions.into_iter().map(|row| (row.package.version, row.status)).collect()
    }

    async fn enable(&self, id: &str, version: &str) -> Result<PluginRow, Error> {
        self.clock.advance_ms(1);
        self.plugins.enable(&realm(), id, Some(version), "ann".into()).await
    }
}

fn grants(texts: &[&str]) -> Grants {
    Grants::parse(&json!(texts)).unwrap()
}

#[tokio::test]
async fn a_new_version_waits_for_a_yes_and_hands_on_what_it_may() {
    let bench = Bench::new().await;
    let first = Install { grants: Some(grants(&["kv"])), ..upload(component("p", "1", &["kv"])) };
    assert_eq!(bench.install(first).await.status, PluginStatus::Active);
    let second = bench.install(upload(component("p", "2", &["kv", "http"]))).await;
    assert_eq!(second.status, PluginStatus::Pending);
    assert_eq!(bench.host.in_force("p"), Some(("1".into(), vec!["kv".into()])));

    let (from, to, diff) = bench.plugins.diff(&realm(), "p", "2").await.unwrap();
    assert_eq!((from.unwrap().package.version.as_str(), to.package.version.as_str()), ("1", "2"));
    assert_eq!((diff.added, diff.kept, diff.removed), (vec!["http:*".into()], vec!["kv".to_owned()], vec![]));

    bench.enable("p", "2").await.unwrap();
    assert_eq!(bench.host.in_force("p"), Some(("2".into(), vec![])), "grants of one digest are another's");
    assert_eq!(bench.host.known("p"), 2, "open runs need the former version");

    let back = bench.plugins.rollback(&realm(), "p", None, "ann".into()).await.unwrap();
    assert_eq!((back.package.version.as_str(), back.decided_by.as_deref()), ("1", Some("ann")));
    assert_eq!(bench.host.in_force("p"), Some(("1".into(), vec!["kv".into()])));

    // The same bytes again: the row as it is, or in force if the request says so.
    let (same, new) = bench.plugins.install(upload(component("p", "2", &["kv", "http"]))).await.unwrap();
    assert_eq!((same.status, new), (PluginStatus::Superseded, false));
    let yes = Install { consent: Consent::Given, ..upload(component("p", "2", &["kv", "http"])) };
    assert_eq!(bench.install(yes).await.status, PluginStatus::Active);
    let less = Install { consent: Consent::Given, ..upload(component("p", "3", &["kv"])) };
    bench.plugins.grant(&realm(), "p", None, grants(&["kv", "http:a.example"]), None, "ann".into()).await.unwrap();
    bench.install(less).await;
    assert_eq!(bench.host.in_force("p"), Some(("3".into(), vec!["http:a.example".into(), "kv".into()])));
}

#[tokio::test]
async fn granting_to_a_version_that_waits_is_the_yes() {
    let bench = Bench::new().await;
    bench.install(upload(component("p", "1", &[]))).await;
    bench.install(upload(component("p", "2", &["http"]))).await;
    let row =
        bench.plugins.grant(&realm(), "p", Some("2"), grants(&["http:a.example"]), None, "ann".into()).await.unwrap();
    assert_eq!(row.status, PluginStatus::Active);
    assert_eq!(bench.host.in_force("p"), Some(("2".into(), vec!["http:a.example".into()])));
    let wrong = Some(Json::of(&json!({"url": 5})));
    let error = bench.plugins.grant(&realm(), "p", None, Grants::default(), wrong, "ann".into()).await.unwrap_err();
    assert_eq!(error.code, "PLUGIN_CONFIG_INVALID");
    assert_eq!(bench.host.in_force("p"), Some(("2".into(), vec!["http:a.example".into()])), "nothing was half done");
}

#[tokio::test]
async fn of_two_first_versions_at_once_one_is_in_force() {
    for _ in 0..20 {
        let bench = Bench::on(Arc::new(MemoryStore::new()), Host::new(0)).await;
        let uploads = ["1", "2", "3"].map(|version| {
            let (plugins, install) = (bench.plugins.clone(), upload(component("p", version, &[])));
            tokio::spawn(async move { plugins.install(install).await.unwrap().0.status })
        });
        bench.host.compiles.add_permits(3);
        let mut found = Vec::new();
        for one in uploads {
            found.push(one.await.unwrap());
        }
        found.sort_by_key(|status| status.as_str());
        assert_eq!(found, [PluginStatus::Active, PluginStatus::Pending, PluginStatus::Pending]);
        assert!(bench.host.in_force("p").is_some());
    }
}

#[tokio::test]
async fn a_compilation_goes_on_after_a_crash_and_the_yes_with_it() {
    let (store, stuck) = (Arc::new(MemoryStore::new()), Host::new(1));
    let bench = Bench::on(store.clone(), stuck).await;
    bench.install(upload(component("p", "1", &[]))).await;
    let impatient = |version: &str, consent| Install {
        consent,
        patience: Duration::ZERO,
        ..upload(component("p", version, &["kv"]))
    };
    assert_eq!(bench.install(impatient("2", Consent::Wait)).await.status, PluginStatus::Compiling);
    assert_eq!(bench.install(impatient("3", Consent::Given)).await.status, PluginStatus::Compiling);
    bench.plugins.shutdown().await;
    assert_eq!(bench.host.in_force("p").unwrap().0, "1");

    let bench = Bench::on(store, Host::new(Semaphore::MAX_PERMITS)).await;
    assert_eq!(bench.host.in_force("p").unwrap().0, "1", "what is in force does not wait for what is compiled");
    // The same again waits for the compilation that is under way.
    assert_eq!(bench.install(upload(component("p", "2", &["kv"]))).await.status, PluginStatus::Pending);
    assert_eq!(bench.install(upload(component("p", "3", &["kv"]))).await.status, PluginStatus::Active);
    assert_eq!(bench.host.in_force("p").unwrap().0, "3");
}

#[tokio::test]
async fn what_does_not_compile_harms_nothing_and_may_be_tried_again() {
    let bench = Bench::new().await;
    bench.install(upload(component("p", "1", &[]))).await;
    bench.host.broken.lock().push("2".into());
    let yes = || Install { consent: Consent::Given, ..upload(component("p", "2", &[])) };
    let failed = bench.install(yes()).await;
    assert_eq!((failed.status, failed.error.as_deref()), (PluginStatus::Failed, Some("does not compile")));
    assert_eq!(bench.host.in_force("p").unwrap().0, "1");
    assert_eq!(bench.enable("p", "2").await.unwrap_err().code, "PLUGIN_FAILED");
    bench.host.broken.lock().clear();
    assert_eq!(bench.install(yes()).await.status, PluginStatus::Active);
    assert_eq!(bench.host.in_force("p").unwrap().0, "2");

    // A compiler that cannot work now is asked again.
    bench.host.busy.lock().push(());
    assert_eq!(bench.install(upload(component("busy", "1", &[]))).await.status, PluginStatus::Active);

    // An action's name that another plugin has is found when the version is to be put in force.
    let taken = bench.install(upload(component("q", "taken", &[]))).await;
    assert_eq!((taken.status, taken.error.as_deref()), (PluginStatus::Failed, Some("taken")));
    bench.install(upload(component("r", "1", &[]))).await;
    bench.install(upload(component("r", "taken", &[]))).await;
    assert_eq!(bench.enable("r", "taken").await.unwrap_err().code, "PLUGIN_ACTION_TAKEN");
    assert_eq!(bench.host.in_force("r").unwrap().0, "1");
    assert_eq!(
        bench.statuses("r").await,
        [("taken".into(), PluginStatus::Pending), ("1".into(), PluginStatus::Active)]
    );
}

#[tokio::test]
async fn a_package_that_is_none_is_refused_by_name() {
    let bench = Bench::new().await;
    for (bytes, code) in [
        (Bytes::from_static(b"\0asm"), "PLUGIN_MALFORMED"),
        (component("core", "1", &[]), "PLUGIN_ID_RESERVED"),
        (Bytes::from_static(b"{}"), "PLUGIN_REFUSED"),
    ] {
        assert_eq!(bench.plugins.install(upload(bytes)).await.unwrap_err().code, code);
    }
    let wrong = Install { config: Some(Json::of(&json!([]))), ..upload(component("p", "1", &[])) };
    assert_eq!(bench.plugins.install(wrong).await.unwrap_err().code, "PLUGIN_CONFIG_INVALID");
    assert_eq!(bench.plugins.plugin(&realm(), "p").await.unwrap_err().code, "PLUGIN_NOT_FOUND");
    assert!(bench.store.all_plugins().await.unwrap().is_empty());
}

#[tokio::test]
async fn off_is_off_until_somebody_switches_it_on() {
    let bench = Bench::new().await;
    bench.install(upload(component("p", "1", &[]))).await;
    let disable = async |actor: &str| bench.plugins.disable(&realm(), "p", actor.into()).await;
    disable("ann").await.unwrap();
    assert_eq!((bench.host.in_force("p"), bench.host.known("p")), (None, 1));
    // Its file goes and comes back: that is no reason to switch on what a person switched off.
    disable(FILES_ACTOR).await.unwrap();
    let of_folder = || Install {
        consent: Consent::Standing,
        actor: FILES_ACTOR.into(),
        source: "plugins/p.wasm".into(),
        ..upload(component("p", "1", &[]))
    };
    assert_eq!(bench.install(of_folder()).await.status, PluginStatus::Disabled);
    assert_eq!(bench.install(upload(component("p", "2", &[]))).await.status, PluginStatus::Pending);
    bench.plugins.enable(&realm(), "p", None, "ann".into()).await.unwrap();
    assert_eq!(bench.host.in_force("p").unwrap().0, "1");
    disable(FILES_ACTOR).await.unwrap();
    assert_eq!(bench.host.in_force("p"), None);
    assert_eq!(bench.install(of_folder()).await.status, PluginStatus::Active);
}

#[tokio::test]
async fn a_removed_version_is_gone_and_the_others_stay() {
    let bench = Bench::new().await;
    bench.install(upload(component("p", "1", &[]))).await;
    bench.install(Install { consent: Consent::Given, ..upload(component("p", "2", &[])) }).await;
    bench.plugins.remove(&realm(), "p", Some("2"), "ann".into()).await.unwrap();
    assert_eq!(bench.statuses("p").await, [("1".into(), PluginStatus::Superseded)]);
    assert_eq!((bench.host.in_force("p"), bench.host.known("p")), (None, 1));
    bench.plugins.rollback(&realm(), "p", None, "ann".into()).await.unwrap();
    bench.plugins.remove(&realm(), "p", None, "ann".into()).await.unwrap();
    assert_eq!((bench.host.in_force("p"), bench.host.known("p")), (None, 0));
    for error in [
        bench.plugins.remove(&realm(), "p", None, "ann".into()).await.unwrap_err(),
        bench.plugins.disable(&realm(), "p", "ann".into()).await.unwrap_err(),
    ] {
        assert_eq!(error.code, "PLUGIN_NOT_FOUND");
    }
}

#[tokio::test]
async fn built_in_plugins_take_grants_and_nothing_else() {
    let bench = Bench::new().await;
    let listed = bench.plugins.list(&realm()).await.unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|plugin| (plugin.versions[0].package.id.as_str(), plugin.versions[0].grants.lines()))
        .collect();
    assert_eq!(shown, [("core", vec!["http:*".into(), "kv".into()]), ("http", vec![])]);
    bench.plugins.grant(&realm(), "http", None, grants(&["http:a.example"]), None, "ann".into()).await.unwrap();
    let granted = |host: &Host| host.in_force("http").unwrap().1;
    assert_eq!(granted(&bench.host), ["http:a.example"]);
    for error in [
        bench.plugins.remove(&realm(), "http", None, "ann".into()).await.unwrap_err(),
        bench.plugins.disable(&realm(), "http", "ann".into()).await.unwrap_err(),
        bench.plugins.rollback(&realm(), "http", None, "ann".into()).await.unwrap_err(),
    ] {
        assert_eq!(error.code, "PLUGIN_BUILT_IN");
    }
    // Another build of the program, another digest: what was granted to the id stays.
    let mut row = bench.store.plugin(&realm(), "http").await.unwrap().remove(0);
    bench.store.delete_plugin(&realm(), "http", &[row.package.digest.as_str().into()]).await.unwrap();
    row.package.digest = "0".repeat(64);
    bench.store.save_plugins(&[row]).await.unwrap();
    let bench = Bench::on(bench.store.clone(), Host::new(0)).await;
    assert_eq!(granted(&bench.host), ["http:a.example"]);
    bench.plugins.grant(&realm(), "http", None, grants(&["http:b.example"]), None, "ann".into()).await.unwrap();
    let rows = bench.store.plugin(&realm(), "http").await.unwrap();
    assert_eq!(rows.len(), 1, "the row of the other build is dropped");
    assert_eq!(rows[0].grants.lines(), ["http:b.example"]);
}

#[tokio::test]
async fn another_realm_has_its_own_versions() {
    let bench = Bench::new().await;
    bench.install(upload(component("p", "1", &[]))).await;
    let other = Realm::new("other", "default");
    let theirs = Install { realm: other.clone(), ..upload(component("p", "2", &[])) };
    assert_eq!(bench.install(theirs).await.status, PluginStatus::Active, "the first there");
    bench.plugins.remove(&other, "p", None, "eve".into()).await.unwrap();
    assert_eq!(bench.statuses("p").await, [("1".into(), PluginStatus::Active)]);
}
