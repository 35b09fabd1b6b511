//! The real binary as a child process, spoken to over HTTP as any client would.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test file uses its part, and a failed unwrap is a failed test"
)]

pub mod cluster;
pub mod proxy;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use caisson_core::engine::chain;
use caisson_core::ids::StepId;
use caisson_core::json::Json;
use caisson_core::ports::EventRow;
use caisson_core::time::Timestamp;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a test waits for something that should happen at once on a quiet machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_caisson")
}

/// Compiled plugins are shared by all tests, as they are by all hosts of a user.
pub fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache")
}

/// A command of the binary, with nothing inherited that could point it at another host.
pub fn caisson(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env_remove("CAISSON_SERVER").env_remove("CAISSON_KEY").env("NO_COLOR", "1");
    command
}

pub fn run_caisson(args: &[&str]) -> Output {
    caisson(args).stdin(Stdio::null()).output().unwrap()
}

/// A host.
pub struct Host {
    pub url: String,
    pub key: String,
    pub data: PathBuf,
    child: Child,
    pub http: Client,
}

/// Starts a program of root's as anybody's: util-linux has it.
pub const UNPRIVILEGED: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// What a host is started with.
pub struct Setup {
    pub data: PathBuf,
    pub args: Vec<String>,
    /// Where its log goes.
    pub log: Option<PathBuf>,
    pub env: Vec<(String, String)>,
    /// A program, with its arguments, that starts the host.
    pub through: Vec<String>,
}

impl Setup {
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), args: Vec::new(), log: None, env: Vec::new(), through: Vec::new() }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without what lets root read whatever it likes in other processes.
    pub fn without_capabilities(mut self) -> Self {
        if is_root() {
            self.through = UNPRIVILEGED.iter().map(|word| (*word).to_owned()).collect();
        }
        self
    }

    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.to_owned(), value.to_owned()]);
        self
    }

    pub fn command(&self) -> Command {
        let own = caisson(&["serve", "--listen", "127.0.0.1:0"]);
        let mut command = match self.through.split_first() {
            None => own,
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(own.get_program()).args(own.get_args());
                for (name, value) in own.get_envs() {
                    match value {
                        Some(value) => command.env(name, value),
                        None => command.env_remove(name),
                    };
                }
                command
            }
        };
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .arg("--data-dir")
            .arg(self.data.join("data"))
            .arg("--admin-key-file")
            .arg(self.data.join("admin.key"))
            .arg("--cache-dir")
            .arg(cache_dir())
            .args(&self.args);
        command
    }

    pub async fn start(&self) -> Host {
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(match &self.log {
                Some(file) => File::create(file).unwrap().into(),
                None if std::env::var_os("CAISSON_TEST_STDERR").is_some() => Stdio::inherit(),
                None => Stdio::null(),
            })
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("the host ended before it listened").unwrap();
            if let Some(at) = line.find("http://") {
                break line[at..].trim().to_owned();
            }
        };
        // Keep the pipe open and empty.
        std::thread::spawn(move || lines.for_each(drop));
        let key = std::fs::read_to_string(self.data.join("admin.key")).unwrap().trim().to_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().no_proxy().build().unwrap();
        let host = Host { url, key, data: self.data.clone(), child, http };
        host.until("it is ready", async || {
            host.http
                .get(format!("{}/readyz", host.url))
                .send()
                .await
                .is_ok_and(|answer| answer.status() == StatusCode::OK)
        })
        .await;
        host
    }
}

impl Host {
    pub async fn new(dir: &Path) -> Self {
        Setup::new(dir).start().await
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(&self.key)
    }

    /// Sends a request and gives its status and JSON.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// A number of `/metrics`, if it is told.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let page = self.http.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, path, Some(body)).await;
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
        answer
    }

    /// Saves a definition given as YAML.
    pub async fn save(&self, yaml: &str) -> Value {
        let request = self.request(Method::POST, "/workflows").header("content-type", "application/yaml");
        let answer = request.body(yaml.to_owned()).send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 201, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub async fn start_run(&self, workflow: &str, input: Value) -> String {
        let body = json!({"workflowId": workflow, "input": input});
        self.post("/workflow-runs", body).await["run"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn run(&self, id: &str) -> Value {
        self.get(&format!("/workflow-runs/{id}")).await["run"].clone()
    }

    /// Waits until the run has ended.
    pub async fn end(&self, id: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let run = self.get(&format!("/workflow-runs/{id}?waitMs=5000")).await["run"].clone();
            if matches!(run["status"].as_str(), Some("COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT")) {
                return run;
            }
            assert!(Instant::now() < deadline, "run does not end: {run:#}");
        }
    }

    /// Runs a definition to its end.
    pub async fn run_yaml(&self, yaml: &str, input: Value) -> Value {
        let saved = self.save(yaml).await;
        let id = self.start_run(saved["workflow"]["id"].as_str().unwrap(), input).await;
        self.end(&id).await
    }

    pub async fn steps(&self, id: &str) -> Vec<Value> {
        self.all(&format!("/workflow-runs/{id}/steps"), "steps").await
    }

    /// All pages of a list.
    pub async fn all(&self, path: &str, name: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}?limit=200{cursor}")).await;
            all.extend(page[name].as_array().unwrap_or_else(|| panic!("{path}: {page}")).iter().cloned());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// A run's history, its chain verified.
    pub async fn events(&self, id: &str) -> Vec<EventRow> {
        #[derive(Deserialize)]
        struct Page {
            events: Vec<Shown>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shown {
            seq: u64,
            r#type: String,
            at: String,
            actor: Option<String>,
            step_id: Option<String>,
            data: Json,
            prev_hash: String,
            hash: String,
        }
        let mut rows: Vec<EventRow> = Vec::new();
        loop {
            let after = rows.last().map_or(0, |row| row.seq);
            let path = format!("/workflow-runs/{id}/events?limit=500&after={after}");
            let text = self.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
            let page: Page = serde_json::from_str(&text).unwrap();
            if page.events.is_empty() {
                break;
            }
            rows.extend(page.events.into_iter().map(|shown| EventRow {
                seq: shown.seq,
                kind: shown.r#type.into(),
                at: Timestamp::parse(&shown.at).unwrap(),
                actor: shown.actor.map(Into::into),
                step_id: shown.step_id.map(StepId::new),
                v: 1,
                data: shown.data,
                data_sha256: None,
                prev_hash: shown.prev_hash.into(),
                hash: shown.hash.into(),
            }));
        }
        chain::verify(chain::GENESIS.into(), 0, &rows).unwrap_or_else(|broken| panic!("run {id}: {broken}"));
        rows
    }

    /// Every step has at most one end, and none runs after it.
    pub async fn check_history(&self, id: &str) {
        let mut ended = BTreeMap::new();
        for event in self.events(id).await {
            let data = event.data.value();
            let step = data["step"].as_u64();
            match &*event.kind {
                "step.completed" => {
                    let before = ended.insert(step, event.seq);
                    assert_eq!(before, None, "run {id}: step {step:?} ended twice");
                }
                "step.started" => assert!(!ended.contains_key(&step), "run {id}: step {step:?} ran after its end"),
                _ => {}
            }
        }
    }

    /// Approves whatever waits.
    pub async fn approve_all(&self) -> usize {
        let waiting = self.get("/approvals?status=PENDING&limit=200").await;
        let approvals = waiting["approvals"].as_array().unwrap().clone();
        for approval in &approvals {
            let (run, id) = (approval["runId"].as_str().unwrap(), approval["id"].as_str().unwrap());
            self.post(&format!("/workflow-runs/{run}/approvals/{id}/approve"), json!({"comment": "ok"})).await;
        }
        approvals.len()
    }

    /// Waits for a condition, bounded.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no time for anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn stop(self) -> Option<i32> {
        self.terminate();
        self.exit_code()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
    }

    /// The exit code, once it ends.
    pub fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A generator that is the same everywhere: splitmix64.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
