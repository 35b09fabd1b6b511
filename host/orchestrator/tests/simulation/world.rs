//! Three hosts on one store and one queue, in virtual time; what they are to do, and what must hold when it is quiet again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caisson_core::definition::{self, Format};
use caisson_core::engine::{Limits, chain};
use caisson_core::error::{Category, Failure};
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::Json;
use caisson_core::ports::{
    ActionInfo, ActionRunner, Clock, Cluster, Entry, Invocation, NewVersion, Outcome, PluginRef, RunFilter, Store,
    Usage,
};
use caisson_core::status::StepStatus;
use caisson_orchestrator::memory::MemoryStore;
use caisson_orchestrator::{LEASE, Live, Load, Options, Ports, SendSignal, Service};
use parking_lot::Mutex;
use serde_json::json;

use super::faults::{Fate, Host, Plant, VirtualClock};
use super::queue::{Consumer, Stream};
use super::seen::Seen;
use super::support::{NoExpressions, page, realm, start};

const CHILD: &str = "
id: child
states:
- {name: one, type: operation, action: t.ok, input: {n: 1}, next: nap}
- {name: nap, type: wait, duration: 700ms, next: two}
- {name: two, type: operation, action: t.ok, input: {n: 2}, end: true}";

const MAIN: &str = "
id: main
states:
- name: p
  type: parallel
  branches:
  - name: a
    states:
    - {name: a1, type: operation, action: t.ok, input: {n: 1}, next: a2}
    - {name: a2, type: operation, action: t.flaky, input: {n: 2}, retry: {maxAttempts: 60, backoffSeconds: 0.5}, end: true}
  - name: b
    states:
    - {name: f, type: foreach, itemsPath: list, maxConcurrency: 3, iterator: {states: [{name: s, type: operation, action: t.ok, input: '{{ item }}', resultPath: r, end: true}]}, end: true}
  - name: c
    states:
    - {name: kid, type: call, workflow: child, input: {k: 1}, end: true}
  next: w
- {name: w, type: wait, duration: 2s, next: g}
- {id: g, type: signal, name: go, next: z}
- {name: z, type: operation, action: t.ok, input: {n: 3}, end: true}";

/// Runs of every simulation.
const RUNS: usize = 3;
/// Faults come for so long, and then everything has so long to mend.
const FAULTS: Duration = Duration::from_secs(25);
const MENDED: Duration = Duration::from_mins(5);

/// Where actions take effect: by run and step, and whose claims brought an answer.
#[derive(Default)]
struct Effects {
    taken: Mutex<BTreeMap<String, u32>>,
    answered: Mutex<BTreeSet<(String, u32)>>,
}

struct Runner(Arc<Host>, Arc<Effects>);

#[async_trait]
impl ActionRunner for Runner {
    fn resolve(&self, _: &Realm, action: &str) -> Option<ActionInfo> {
        Some(ActionInfo {
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
        let work = async {
            tokio::time::sleep(Duration::from_millis(50 + self.0.fate.next() % 200)).await;
            *self.1.taken.lock().entry(call.step.to_string()).or_default() += 1;
        };
        self.0.pass("run", work).await;
        self.1.answered.lock().insert((call.step.to_string(), call.claim.unwrap_or_default()));
        let fails = &*call.action == "t.flaky" && (call.attempt < 3 || self.0.chance(200));
        let result = if fails {
            Err(Failure::new(Category::TransientError, "FLAKY", "again"))
        } else {
            Ok(Outcome::Done(call.input))
        };
        Entry { result, usage: Usage::default(), warnings: vec![] }
    }
}

/// What came of one seed: the transcript, and what the runs look like.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcomes {
    pub transcript: u64,
    pub runs: Vec<String>,
}

struct World {
    fate: Arc<Fate>,
    store: Arc<MemoryStore>,
    stream: Arc<Stream>,
    effects: Arc<Effects>,
    clock: Arc<VirtualClock>,
    services: Mutex<Vec<Option<Service>>>,
}

/// Plays one seed to its end. `Err` says what does not hold.
pub fn play(seed: u64, faults: bool, plant: Option<Plant>) -> Result<Outcomes, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let fate = Fate::new(seed, if faults { FAULTS } else { Duration::ZERO }, plant);
        let clock = Arc::new(VirtualClock(fate.begin));
        let world = Arc::new(World {
            store: Arc::new(MemoryStore::with_clock(clock.clone())),
            fate,
            stream: Arc::default(),
            effects: Arc::default(),
            clock,
            services: Mutex::new(vec![None; 3]),
        });
        for source in [CHILD, MAIN] {
            world.save(source).await;
        }
        for place in 0..3 {
            tokio::spawn(live(world.clone(), place));
        }
        tokio::spawn(wipes(world.clone()));
        world.drive().await
    })
}

/// A place for hosts: when one dies, another comes.
async fn live(world: Arc<World>, place: usize) {
    for life in 0.. {
        let host = Host::new(format!("h{place}-{life}"), world.fate.clone());
        let begun = async {
            loop {
                if let Ok(service) = world.host(&host).await {
                    world.services.lock()[place] = Some(service);
                    return std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::select! {
            biased;
            () = host.died.notified() => {}
            () = begun => {}
        }
        world.services.lock()[place] = None;
        tokio::time::sleep(Duration::from_millis(500 + world.fate.next() % 3000)).await;
    }
}

async fn wipes(world: Arc<World>) {
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if world.fate.chance(60) {
            world.fate.note("the queue is wiped");
            world.stream.wipe(world.clock.now());
        }
    }
}

impl World {
    async fn save(&self, source: &str) {
        let reading = definition::read(source.as_bytes(), Format::Detect);
        let definition = reading.definition.unwrap_or_else(|| panic!("{:#?}", reading.diagnostics));
        let version = NewVersion {
            realm: realm(),
            workflow: definition.id.clone(),
            label: None,
            name: None,
            description: None,
            definition: Json::of(&reading.json.unwrap()),
            created_by: "a".into(),
            at: self.clock.now(),
            must_exist: None,
        };
        self.store.save_version(version).await.unwrap();
    }

    async fn host(&self, host: &Arc<Host>) -> Result<Service, caisson_orchestrator::Error> {
        let seen = Arc::new(Seen { host: host.clone(), store: self.store.clone() });
        let ports = Ports {
            store: seen.clone(),
            queue: Arc::new(Consumer { host: host.clone(), stream: self.stream.clone() }),
            runner: Arc::new(Runner(host.clone(), self.effects.clone())),
            evaluator: Arc::new(NoExpressions),
            clock: self.clock.clone(),
            cluster: Some(seen),
            events: Vec::new(),
        };
        let options = Options {
            host: host.name.as_str().into(),
            name: "sim".into(),
            version: "1".into(),
            lease: LEASE,
            slots: 3,
            limits: Limits::default(),
            load: Load::default(),
        };
        Service::start(ports, options, Live::default()).await
    }

    /// Asks one host after the other until one has said yes.
    async fn ask(&self, what: impl AsyncFn(&Service) -> Result<(), caisson_orchestrator::Error>) -> Result<(), String> {
        let mut last = "nobody is there".to_owned();
        for turn in 0..500 {
            let service = self.services.lock()[turn % 3].clone();
            if let Some(service) = service {
                match tokio::time::timeout(Duration::from_secs(3), what(&service)).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => last = format!("{error:?}"),
                    Err(_) => "no answer".clone_into(&mut last),
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!("no host takes a request: {last}"))
    }

    async fn drive(&self) -> Result<Outcomes, String> {
        let runs: Vec<RunId> = (0..RUNS).map(|n| RunId::new(format!("run-{n}"))).collect();
        for run in &runs {
            self.ask(async |service| {
                let input = json!({"list": [1, 2, 3, 4, 5]});
                service.start_run_as(run.clone(), start("main", &input)).await.map(drop)
            })
            .await?;
        }
        for run in &runs {
            tokio::time::sleep(Duration::from_secs(2)).await;
            self.ask(async |service| {
                let signal = SendSignal {
                    id: Some(format!("go-{run}")),
                    name: "go".into(),
                    correlation: None,
                    payload: Json::of(&json!({"yes": 1})),
                };
                service.signal("default", run, signal, "a".into()).await.map(drop)
            })
            .await?;
        }
        let mut left = String::new();
        while self.fate.begin.elapsed() < FAULTS + MENDED {
            left = self.left(&runs).await;
            if left.is_empty() {
                return self.outcomes().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(format!("left over: {left}"))
    }

    /// What is not at its end.
    async fn left(&self, runs: &[RunId]) -> String {
        let store = &*self.store;
        let mut left = Vec::new();
        for run in runs {
            match Store::run(store, run).await.unwrap() {
                Some(row) if row.status.is_terminal() => {}
                Some(row) => left.push(format!("{run} is {} in {:?}", row.status, row.current_states)),
                None => left.push(format!("{run} is gone")),
            }
        }
        left.extend(store.ready(9).await.unwrap().iter().map(|ready| format!("{ready:?}")));
        left.extend(store.claimed_by_others("", 9).await.unwrap().iter().map(|claim| format!("claim {claim:?}")));
        left.extend(store.next_timer().await.unwrap().iter().map(|timer| format!("timer {timer}")));
        left.extend(store.outbox(9).await.unwrap().iter().map(|message| format!("message {}", message.id)));
        for host in store.hosts().await.unwrap() {
            left.extend(store.inbox(&host.id, 9).await.unwrap().iter().map(|row| format!("inbox {}", row.id)));
        }
        left.join("; ")
    }

    async fn outcomes(&self) -> Result<Outcomes, String> {
        let store = &*self.store;
        let mut runs = Vec::new();
        for row in store.runs("default", None, &RunFilter::default(), &page()).await.unwrap().items {
            let events = Store::events(store, &row.id, 0, 10_000).await.unwrap();
            let last = chain::verify(chain::GENESIS.into(), 0, &events).map_err(|broken| broken.to_string())?;
            if last != row.last_hash {
                return Err(format!("{}: the chain ends elsewhere", row.id));
            }
            let mut once = BTreeSet::new();
            for event in events.iter().filter(|event| &*event.kind == "step.completed") {
                if !once.insert(event.step_id.clone()) {
                    return Err(format!("{}: step {:?} succeeds twice", row.id, event.step_id));
                }
            }
            let mut states = Vec::new();
            for step in store.steps(&row.id, &page()).await.unwrap().items {
                states.push(format!("{}/{}:{:?}", step.branch_path, step.state, step.status));
                if step.action.is_some() && step.status == StepStatus::Succeeded {
                    let id = step.id.to_string();
                    if !self.effects.taken.lock().contains_key(&id) {
                        return Err(format!("{}: {} succeeded without its action", row.id, step.state));
                    }
                    if !self.effects.answered.lock().contains(&(id, step.claim)) {
                        return Err(format!("{}: {} took the result of another claim", row.id, step.state));
                    }
                }
            }
            states.sort();
            self.fate.note(&row.last_hash);
            // A child's id tells when it was called.
            let name = row.parent.map_or_else(|| row.id.to_string(), |(run, step)| format!("child of {run}:{step}"));
            runs.push(format!("{name} {} {:?} {states:?}", row.status, row.output));
        }
        runs.sort();
        Ok(Outcomes { transcript: self.fate.transcript(), runs })
    }
}
