//! A host with one server that does what no server should.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::ports::{Secret, Secrets, ServerStatus, ToolCall, ToolError, Tools};
use caisson_tools::{Config, ServerSpec, ToolServers};
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const TOKEN: &str = "correct horse battery";

pub struct Vault;

impl Secrets for Vault {
    fn get(&self, _: &Realm, name: &str) -> Option<Secret> {
        (name == "TOKEN").then(|| Secret::new(TOKEN))
    }
}

fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file()).unwrap()
}

pub fn realm() -> Realm {
    Realm::new("default", "default")
}

pub struct Host(pub ToolServers);

impl Host {
    /// With one server, `s`, that begins in that mode.
    pub fn new(mode: &str) -> Self {
        Self::with(mode, Duration::from_mins(5), &json!({}))
    }

    pub fn with(mode: &str, idle: Duration, env: &Value) -> Self {
        let servers = ToolServers::start(Config { idle, ..Config::new(Arc::new(Vault)) }).unwrap();
        let host = Self(servers);
        host.declare(mode, env);
        host
    }

    pub fn declare(&self, mode: &str, env: &Value) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/mcp/hostile.mjs");
        let file = json!({"command": on_path("node"), "args": [script, mode], "env": env});
        let specs = ServerSpec::read("s", &file.to_string()).unwrap();
        let dir = std::env::temp_dir();
        self.0.set_servers(&realm(), specs.into_iter().map(|spec| (spec, dir.clone())).collect());
    }

    pub async fn ask(&self, tool: &str, arguments: Value, seconds: u64) -> Result<Value, ToolError> {
        let call = ToolCall {
            realm: realm(),
            server: "s".to_owned(),
            tool: tool.to_owned(),
            arguments: Json::of(&arguments),
            idempotency_key: "run:step:0:0".to_owned(),
            timeout: Duration::from_secs(seconds),
            result_bytes_max: 1 << 20,
        };
        self.0.call(call).await.result.map(|json| json.value())
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Value, ToolError> {
        self.ask(tool, arguments, PATIENCE.as_secs()).await
    }

    pub fn status(&self) -> ServerStatus {
        self.0.servers(&realm()).pop().unwrap()
    }

    pub async fn pid(&self) -> u32 {
        self.call("pid", json!({})).await.unwrap().as_str().unwrap().parse().unwrap()
    }
}

pub fn is_alive(pid: u32) -> bool {
    // A zombie is dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
