//! A plugin that has what it was granted and wants more: the secret out, the machine seen, others' state read, an approval made up.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../../tests/support/guests.rs"]
mod guests;
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::plugin::Grants;
use caisson_core::ports::{ActionRunner, Entry, Invocation, Journal, KvScope, PageRequest, Secret, Secrets};
use caisson_runtime::{Limits, MemoryJournal, Runtime, RuntimeConfig, embed};
use serde_json::{Value, json};
use support::{Lines, done, failure, invocation};

/// What must not come out.
const SECRET: &str = "correct-horse-battery-staple";
const INJECTED: &str = "only-the-host-knows-this-one";

/// Secrets by realm and name.
struct Known(BTreeMap<(String, &'static str), &'static str>);

impl Secrets for Known {
    fn get(&self, realm: &Realm, name: &str) -> Option<Secret> {
        let found =
            self.0.iter().find(|((environment, known), _)| **environment == *realm.environment && *known == name);
        found.map(|(_, value)| Secret::new(*value))
    }
}

struct Chamber {
    runtime: Runtime,
    journal: Arc<MemoryJournal>,
    lines: Arc<Lines>,
    _artifacts: tempfile::TempDir,
}

/// The hostile plugin and a twin of it, in two environments; the secrets are in the first.
async fn chamber(grants: Value) -> Chamber {
    let (journal, lines) = (Arc::new(MemoryJournal::default()), Arc::new(Lines::default()));
    let artifacts = tempfile::tempdir().expect("a directory");
    let known =
        [(("default".to_owned(), "TEST_SECRET"), SECRET), (("default".to_owned(), "INJECTED_SECRET"), INJECTED)];
    let config = RuntimeConfig {
        journal: journal.clone(),
        log_sink: lines.clone(),
        secrets: Arc::new(Known(known.into())),
        artifacts_dir: Some(artifacts.path().to_path_buf()),
        limits: Limits { cpu_ms: 500, memory_bytes: 32 << 20, ..Limits::default() },
        ..RuntimeConfig::default()
    };
    let runtime = tokio::task::spawn_blocking(move || support::start(config)).await.expect("the runtime starts");
    let grants = Grants::parse(&grants).expect("grants");
    for (realm, bytes) in [
        (Realm::new("tenant", "default"), component().clone()),
        (Realm::new("tenant", "default"), twin()),
        (Realm::new("tenant", "other"), component().clone()),
        (Realm::new("stranger", "default"), component().clone()),
    ] {
        runtime.load(&realm, &bytes, grants.clone(), Json::of(&json!({}))).await.expect("it loads");
    }
    Chamber { runtime, journal, lines, _artifacts: artifacts }
}

fn component() -> &'static Bytes {
    static COMPONENT: OnceLock<Bytes> = OnceLock::new();
    COMPONENT.get_or_init(|| guests::component("hostile").into())
}

/// The same code under another id.
fn twin() -> Bytes {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/hostile/caisson-plugin.toml");
    let manifest = std::fs::read_to_string(path).expect("it reads").replacen("id = \"hostile\"", "id = \"twin\"", 1);
    embed(component(), &manifest, &[], None).expect("it embeds").into()
}

impl Chamber {
    async fn run(&self, action: &str, input: Value) -> Entry {
        self.runtime.run(invocation(&self.runtime, action, &input)).await
    }

    /// In another realm, workflow or run.
    async fn run_as(&self, action: &str, input: Value, change: impl FnOnce(&mut Invocation)) -> Entry {
        let mut call = invocation(&self.runtime, action, &input);
        change(&mut call);
        call.plugin = self.runtime.resolve(&call.realm, action).expect("installed in every realm").plugin;
        self.runtime.run(call).await
    }

    /// Everything that was written where somebody else may read it.
    fn written(&self, entry: &Entry) -> String {
        let lines = self.lines.0.lock();
        format!("{entry:?}\n{:?}\n{:?}", *lines, self.journal.events())
    }
}

/// A server that says back the head and the body of what it is sent, and keeps it.
fn echo() -> (String, Arc<parking_lot::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let keep = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut text = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read) = stream.read(&mut buffer) {
                text.extend_from_slice(&buffer[..read]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                let length = whole
                    .lines()
                    .find_map(|line| {
                        line.to_ascii_lowercase().strip_prefix("content-length:").map(str::trim).map(str::to_owned)
                    })
                    .and_then(|length| length.parse::<usize>().ok())
                    .unwrap_or(0);
                if read == 0 || whole.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
                    break;
                }
            }
            let said = String::from_utf8_lossy(&text).into_owned();
            keep.lock().push(said.clone());
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\nx-said: {}\r\n\r\n{said}",
                said.len(),
                said.lines().next().unwrap_or("")
            );
            // A client that went away is its own affair.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_comes_out_by_no_road() {
    const MODES: [&str; 22] = [
        "log",
        "log_fields",
        "progress",
        "stdout",
        "stderr",
        "panic",
        "output",
        "output_key",
        "error",
        "error_code",
        "error_details",
        "event",
        "event_name",
        "event_key",
        "kv",
        "kv_key",
        "artifact",
        "artifact_name",
        "state",
        "signal_name",
        "approval",
        "http_echo",
    ];
    let (url, _) = echo();
    let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let chamber = chamber(json!({"http": {"hosts": [host]}, "secrets": {"names": ["TEST_SECRET"]}, "kv": {}, "artifacts": {}, "events": {}, "approval": {}})).await;
    for mode in MODES {
        let entry = chamber.run("hostile.secret_leak", json!({"mode": mode, "url": url})).await;
        let written = chamber.written(&entry);
        assert!(!written.contains(SECRET), "{mode}: {written}");
        assert_eq!(done(&chamber.run("core.echo", json!(mode)).await), json!(mode));
    }
    // It was really there: else all of this shows nothing.
    let read = done(&chamber.run("hostile.secret_get", json!({"name": "TEST_SECRET"})).await);
    assert_eq!(read["length"], json!(SECRET.len()), "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_for_others_to_read_holds_no_secret() {
    let chamber = chamber(json!(["secrets:TEST_SECRET", "kv", "artifacts", "events"])).await;
    for mode in ["kv", "kv_key", "artifact", "artifact_name", "event"] {
        chamber.run("hostile.secret_leak", json!({"mode": mode})).await;
    }
    let call = invocation(&chamber.runtime, "hostile.secret_leak", &json!({}));
    let scope = KvScope { realm: call.realm.clone(), plugin: "hostile".into(), workflow: call.workflow.clone() };
    let keys = chamber.journal.kv_keys(&scope, "", 100).await.expect("keys");
    assert!(!format!("{keys:?}").contains(SECRET));
    let page = PageRequest { limit: 100, cursor: None };
    let files = chamber.journal.artifacts(&call.run, None, &page).await.expect("files").items;
    assert!(!format!("{files:?}").contains(SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_filled_in_is_never_seen_and_goes_nowhere_else() {
    let (url, heard) = echo();
    let (other, other_heard) = echo();
    let host = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let inject = json!([{"secret": "INJECTED_SECRET", "headers": ["authorization"], "hosts": [host(&url)]}]);
    let chamber = chamber(json!({"http": {"hosts": [host(&url), host(&other)]}, "secrets": {"inject": inject}})).await;
    let get = async |url: &str, header: &str| {
        chamber
            .run("hostile.http_get", json!({"url": url, "headers": [[header, "Bearer {{secret:INJECTED_SECRET}}"]]}))
            .await
    };

    let granted = get(&url, "authorization").await;
    assert!(
        heard.lock().iter().any(|said| said.contains(&format!("Bearer {INJECTED}"))),
        "the server gets it: {:?}",
        heard.lock()
    );
    assert!(
        !chamber.written(&granted).contains(INJECTED),
        "the guest does not, though the server says it back: {granted:?}"
    );

    for (what, entry) in
        [("another host", get(&other, "authorization").await), ("another header", get(&url, "x-other").await)]
    {
        assert!(!chamber.written(&entry).contains(INJECTED), "{what}: {entry:?}");
    }
    assert!(!format!("{:?}", other_heard.lock()).contains(INJECTED), "{:?}", other_heard.lock());
    assert_eq!(heard.lock().iter().filter(|said| said.contains(INJECTED)).count(), 1, "one header of one request");
    let read = chamber.run("hostile.secret_get", json!({"name": "INJECTED_SECRET"})).await;
    assert!(!chamber.written(&read).contains(INJECTED));
    assert_eq!(done(&read)["error"]["kind"], json!("denied"), "filled in is not read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_and_realms_do_not_see_each_other() {
    let chamber = chamber(json!(["kv", "artifacts", "secrets:TEST_SECRET"])).await;
    let set = json!({"ops": [{"op": "set", "key": "mine", "value": "1"}]});
    let get = || json!({"ops": [{"op": "get", "key": "mine"}, {"op": "keys", "prefix": ""}]});
    done(&chamber.run("hostile.kv_ops", set).await);
    let own = done(&chamber.run("hostile.kv_ops", get()).await).to_string();
    assert!(own.contains("mine"), "{own}");
    let put = done(&chamber.run("hostile.artifact_put", json!({"name": "mine.txt", "text": "private words"})).await);
    let id = put["id"].as_str().unwrap_or_else(|| panic!("{put}")).to_owned();
    let file = || json!({"id": id});
    let own = done(&chamber.run("hostile.artifact_get", file()).await).to_string();
    assert!(own.contains("private words"), "{own}");

    type Change = fn(&mut Invocation);
    let elsewhere: [(&str, &str, Change); 4] = [
        ("another plugin", "twin", |_| {}),
        ("another workflow", "hostile", |call| call.workflow = "another".into()),
        ("another environment", "hostile", |call| call.realm = Realm::new("tenant", "other")),
        ("another tenant", "hostile", |call| call.realm = Realm::new("stranger", "default")),
    ];
    for (who, plugin, change) in elsewhere {
        let keys = done(&chamber.run_as(&format!("{plugin}.kv_ops"), get(), change).await).to_string();
        assert!(!keys.contains("mine"), "{who} sees the key: {keys}");
        let secret = chamber.run_as(&format!("{plugin}.secret_get"), json!({"name": "TEST_SECRET"}), change).await;
        let same_realm = matches!(who, "another plugin" | "another workflow" | "another tenant");
        // This store of secrets knows environments alone; that tenants are apart there is the server's, and tested there.
        assert_eq!(done(&secret).get("length").is_some(), same_realm, "{who}: {secret:?}");
        let mut read = chamber.run_as(&format!("{plugin}.artifact_get"), file(), change).await;
        if who == "another workflow" {
            // Files belong to the run and the plugin, and a run has one workflow.
            read = chamber
                .run_as("hostile.artifact_get", file(), |call| call.run = caisson_core::ids::RunId::new("another"))
                .await;
        }
        assert!(!format!("{:?}", read.result).contains("private words"), "{who} reads the file: {read:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_nothing_to_see_of_the_machine() {
    let chamber = chamber(json!([])).await;
    let seen = done(&chamber.run("hostile.env_probe", json!({})).await);
    for (name, value) in seen.as_object().expect("an object") {
        let nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Number(number) => number.as_u64() == Some(0),
            Value::Bool(true) | Value::Object(_) => false,
        };
        assert!(nothing, "{name}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_cannot_be_made_up() {
    let chamber = chamber(json!([])).await;
    let asked = chamber.run("hostile.forged_approval", json!({"mode": "ask"})).await;
    assert_eq!(failure(&asked).code, "CAPABILITY_DENIED", "asking needs the grant");
    // Waiting for a signal of that name is waiting for a signal: no approval, no decision.
    let signal = chamber.run("hostile.forged_approval", json!({"mode": "signal"})).await;
    assert!(support::suspended(&signal).approval.is_none());
    let said = chamber.run("hostile.forged_approval", json!({"mode": "output"})).await;
    assert_eq!(done(&said)["decision"], json!("approved"), "words are a plugin's own output, and nothing more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_guests_that_burn_or_flood_end_with_a_name() {
    let chamber = chamber(json!(["kv"])).await;
    let cases: &[(&str, Value, &[&str])] = &[
        ("redos", json!({}), &["CPU_TIME_LIMIT"]),
        ("memcopy_storm", json!({}), &["CPU_TIME_LIMIT"]),
        ("host_call_flood", json!({}), &["HOST_CALL_LIMIT", "CPU_TIME_LIMIT", "LOG_LIMIT"]),
        ("handle_flood", json!({}), &["HANDLE_LIMIT"]),
        ("big_string", json!({"bytes": 3_000_000}), &["OUTPUT_LIMIT"]),
        ("big_string", json!({"bytes": 30_000_000}), &["CALL_BYTES_LIMIT", "OUTPUT_LIMIT", "MEMORY_LIMIT"]),
    ];
    for (action, input, codes) in cases {
        let entry = chamber.run(&format!("hostile.{action}"), input.clone()).await;
        let code = entry.result.as_ref().err().map(|failure| failure.code.clone());
        assert!(code.as_deref().is_some_and(|code| codes.contains(&code)), "{action}: {:?}", entry.result);
        assert_eq!(done(&chamber.run("core.echo", json!(action)).await), json!(action));
    }
}
