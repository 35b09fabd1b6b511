//! Adapters in memory around a real service: a queue, actions that are plain functions, a store that can be told to fail.
#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "each test file uses its part, and a failed unwrap is a failed test"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use caisson_core::definition::{self, Format};
use caisson_core::engine::{Limits, Wake};
use caisson_core::error::{Category, Failure};
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::Json;
use caisson_core::ports::{
    ActionInfo, ActionRunner, ApprovalRequest, Clock, Cluster, Delivery, Entry, Evaluation, Evaluator, Horizon,
    Invocation, Outcome, PageRequest, PluginRef, Ready, RunRow, Store, Suspension, TaskQueue, Usage,
};
use caisson_core::time::Timestamp;
use caisson_orchestrator::memory::MemoryStore;
use caisson_orchestrator::{LEASE, Live, Load, Options, Ports, SaveDefinition, Service, StartRun};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_millis()).unwrap())
    }
}

/// Small on purpose, so that it overflows.
#[derive(Default)]
pub struct SmallQueue {
    steps: Mutex<(VecDeque<Ready>, bool)>,
    arrived: Notify,
    low: Notify,
}

pub const ROOM: usize = 4;

#[async_trait]
impl TaskQueue for SmallQueue {
    fn publish(&self, ready: Vec<Ready>, more: bool) {
        let mut steps = self.steps.lock();
        steps.1 |= more;
        for one in ready {
            if steps.0.len() < ROOM {
                steps.0.push_back(one);
                self.arrived.notify_one();
            } else {
                steps.1 = true;
            }
        }
    }
    async fn horizon(&self) -> Horizon {
        Horizon::Process
    }
    async fn next(&self) -> Delivery {
        loop {
            let arrived = self.arrived.notified();
            let taken = {
                let mut steps = self.steps.lock();
                let taken = steps.0.pop_front();
                if steps.1 && steps.0.is_empty() {
                    self.low.notify_one();
                }
                taken
            };
            match taken {
                Some(ready) => return Delivery { ready, receipt: None },
                None => arrived.await,
            }
        }
    }
    fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.steps.lock().1)
    }
    async fn wants_refill(&self) {
        self.low.notified().await;
    }
    fn room(&self) -> usize {
        ROOM - self.steps.lock().0.len()
    }
}

/// Actions: `t.ok`, `t.flaky`, `t.ask`, `t.gate` (waits until the test opens it), all under plugin `t`.
#[derive(Default)]
pub struct Actions {
    pub calls: Mutex<BTreeMap<String, u32>>,
    pub at_once: AtomicUsize,
    pub at_once_max: AtomicUsize,
    pub gate: Notify,
    pub keys: Mutex<Vec<String>>,
    pub cleaned: AtomicUsize,
}

struct Inside<'a>(&'a Actions);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ActionRunner for Actions {
    fn resolve(&self, _: &Realm, action: &str) -> Option<ActionInfo> {
        action.starts_with("t.").then(|| ActionInfo {
            name: action.into(),
            plugin: PluginRef { id: "t".into(), version: "1".into(), digest: "d".into() },
            input_schema: None,
            output_schema: None,
            built_in: true,
        })
    }
    fn actions(&self, _: &Realm) -> Vec<ActionInfo> {
        Vec::new()
    }
    async fn run(&self, call: Invocation) -> Entry {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        let _inside = Inside(self);
        self.at_once_max.fetch_max(now, Ordering::SeqCst);
        *self.calls.lock().entry(call.state.to_string()).or_default() += 1;
        self.keys.lock().push(call.idempotency_key.to_string());
        let park = |approval| {
            Ok(Outcome::Suspend(Suspension { state: b"kept".to_vec(), signals: vec![], wake_after_ms: None, approval }))
        };
        let result = match (&*call.action, call.resumed.as_ref().map(|resumed| &resumed.wake)) {
            (_, Some(Wake::Cancelled { .. })) => {
                self.cleaned.fetch_add(1, Ordering::SeqCst);
                Ok(Outcome::Done(Json::null()))
            }
            ("t.flaky", _) if call.attempt < 3 => Err(Failure::new(Category::TransientError, "FLAKY", "again")),
            ("t.gate", _) => {
                self.gate.notified().await;
                Ok(Outcome::Done(call.input))
            }
            ("t.ask", None) => {
                let request =
                    ApprovalRequest { message: "?".into(), summary: None, approvers: vec![], deadline_ms: None };
                park(Some(request))
            }
            ("t.ask", Some(_)) => {
                assert_eq!(call.resumed.unwrap().state, b"kept");
                Ok(Outcome::Done(Json::of("approved")))
            }
            _ => Ok(Outcome::Done(call.input)),
        };
        Entry { result, usage: Usage::default(), warnings: vec![] }
    }
}

pub struct NoExpressions;

#[async_trait]
impl Evaluator for NoExpressions {
    async fn evaluate(&self, evaluation: &Evaluation) -> Result<Json, Failure> {
        Ok(Json::of(&(&*evaluation.source == "True")))
    }
}

pub struct Bench {
    pub store: Arc<dyn Store>,
    pub actions: Arc<Actions>,
    pub queue: Arc<dyn TaskQueue>,
    pub service: Service,
}

impl Bench {
    pub async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()), 4).await
    }

    pub async fn on(store: Arc<dyn Store>, slots: usize) -> Self {
        Self::with(store, slots, Load::default()).await
    }

    pub async fn with(store: Arc<dyn Store>, slots: usize, load: Load) -> Self {
        Self::among(store, None, Arc::new(SmallQueue::default()), LEASE, slots, load).await
    }

    /// A host among others, which are gone so long after they beat last.
    pub async fn member(store: &Arc<MemoryStore>, lease: Duration, slots: usize) -> Self {
        let queue = Arc::new(SmallQueue::default());
        Self::among(store.clone(), Some(store.clone()), queue, lease, slots, Load::default()).await
    }

    /// One whose steps go through that queue, and that takes none by itself.
    pub async fn over(store: Arc<dyn Store>, queue: Arc<dyn TaskQueue>) -> Self {
        Self::among(store, None, queue, LEASE, 0, Load::default()).await
    }

    async fn among(
        store: Arc<dyn Store>,
        cluster: Option<Arc<dyn Cluster>>,
        queue: Arc<dyn TaskQueue>,
        lease: Duration,
        slots: usize,
        load: Load,
    ) -> Self {
        let actions = Arc::new(Actions::default());
        let ports = Ports {
            store: store.clone(),
            queue: queue.clone(),
            runner: actions.clone(),
            evaluator: Arc::new(NoExpressions),
            clock: Arc::new(SystemClock),
            cluster,
            events: Vec::new(),
        };
        let host = uuid::Uuid::now_v7().to_string();
        let options = Options {
            host: host.into(),
            name: "bench".into(),
            version: "1".into(),
            lease,
            slots,
            limits: Limits::default(),
            load,
        };
        let service = Service::start(ports, options, Live::default()).await.unwrap();
        Self { store, actions, queue, service }
    }

    pub async fn save(&self, source: &str) {
        let reading = definition::read(source.as_bytes(), Format::Detect);
        let definition = reading.definition.unwrap_or_else(|| panic!("{:#?}", reading.diagnostics));
        let json = Json::of(&reading.json.unwrap());
        let save = SaveDefinition { realm: realm(), definition, json, actor: "a".into(), must_exist: None };
        self.service.save_definition(save).await.unwrap();
    }

    pub async fn start(&self, workflow: &str, input: Value) -> RunId {
        self.service.start_run(start(workflow, &input)).await.unwrap().0.id
    }

    pub async fn end(&self, run: &RunId) -> RunRow {
        let row = self.service.wait("default", run, Duration::from_secs(20)).await.unwrap();
        assert!(row.status.is_terminal(), "run does not end: {row:#?}");
        row
    }

    /// Waits for a condition, bounded.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
            tokio::task::yield_now().await;
        }
    }
}

pub fn realm() -> Realm {
    Realm::new("default", "default")
}

pub fn start(workflow: &str, input: &Value) -> StartRun {
    StartRun {
        realm: realm(),
        workflow: workflow.into(),
        version: None,
        input: Json::of(input),
        name: None,
        project_id: None,
        actor: "a".into(),
        idempotency: None,
        trace: None,
    }
}

pub fn page() -> PageRequest {
    PageRequest { limit: 100, cursor: None }
}
