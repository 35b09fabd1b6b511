//! The one door: everything that moves a run goes through [`Service`].
//!
//! ```text
//! request │ timer │ signal │ step result ─► submit(run, stimulus) ─► the run's cell
//!    ─► engine::transition (pure) ─► store.commit ─► effects: start, stop, publish, wake
//! ```
//!
//! Invariant: effects follow the commit that decided them, never precede it.
//! Invariant: a run is decided on by one task at a time; whoever comes meanwhile waits in the cell's inbox and is folded into the next
//! decision.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caisson_core::engine::{Limits, NewSignal, RunError, StepNo, Stimulus};
use caisson_core::error::{Category, Failure};
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::{Json, VALUE_DEPTH_MAX, depth};
use caisson_core::model::Definition;
use caisson_core::ports::{
    ActionRunner, ApprovalRow, Clock, Cluster, Evaluator, EventSink, NewVersion, RunRow, Store, TaskQueue, VersionRow,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Load;
use crate::cell::Cell;
use crate::error::{Error, Kind};
use crate::hosts::{self, Member};
use crate::live::{Live, Watch};
use crate::requests::{Decide, SaveDefinition, SendSignal, StartRun};
use crate::{admission, relay, replay, scheduler};

/// Definitions kept parsed: enough for every workflow in use on a host, small beside the runs.
const DEFINITIONS_MAX: usize = 1000;
/// Whoever waits for a run that another host moves looks as often, beside the news.
const LOOK: Duration = Duration::from_secs(1);

/// The ports that an orchestrator works with.
#[derive(Clone)]
pub struct Ports {
    /// Where runs live.
    pub store: Arc<dyn Store>,
    /// How ready steps travel.
    pub queue: Arc<dyn TaskQueue>,
    /// What runs actions.
    pub runner: Arc<dyn ActionRunner>,
    /// What evaluates expressions.
    pub evaluator: Arc<dyn Evaluator>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The other hosts on the store; `None` where there is but one.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// Who is told of what is stored.
    pub events: Vec<Arc<dyn EventSink>>,
}

/// Numbers with names.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names this process among all that ever held the store: new at every start. Among several hosts one whose lease was over goes on
    /// under another id that begins with it.
    pub host: Arc<str>,
    /// Names the machine, for people.
    pub name: Arc<str>,
    /// The program's version, for people.
    pub version: Arc<str>,
    /// How long the others count it as alive after a beat; see [`crate::LEASE`].
    pub lease: Duration,
    /// How many steps may run at once.
    pub slots: usize,
    /// Limits of every run.
    pub limits: Limits,
    /// How much work may wait.
    pub load: Load,
}

/// Moves runs. Cheap to clone.
#[derive(Clone)]
pub struct Service(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) options: Options,
    pub(crate) live: Live,
    pub(crate) cells: Mutex<BTreeMap<RunId, Arc<Cell>>>,
    definitions: Mutex<HashMap<Arc<str>, Arc<Definition>>>,
    /// Steps that run in this process: what stops them.
    pub(crate) running: Mutex<BTreeMap<(RunId, StepNo), (u32, CancellationToken)>>,
    pub(crate) replays: replay::Memory,
    pub(crate) slots: Arc<Semaphore>,
    /// Room in the queue when it is empty: less means that others wait for a slot.
    pub(crate) queue_room: usize,
    pub(crate) messages: Notify,
    pub(crate) timers: scheduler::Alarm,
    pub(crate) freed: admission::Freed,
    pub(crate) backlog: admission::Backlog,
    pub(crate) member: Member,
    pub(crate) tasks: TaskTracker,
    /// Beats go on until all else has ended.
    beats: TaskTracker,
    /// Stops taking work.
    pub(crate) stopping: CancellationToken,
    /// Stops guests that are still running.
    pub(crate) killed: CancellationToken,
    ready: AtomicBool,
}

impl Service {
    /// Starts the machinery: recovers what a former process left, then runs until [`Service::shutdown`].
    pub async fn start(ports: Ports, options: Options, live: Live) -> Result<Self, Error> {
        let member = Member::new(options.host.clone());
        let service = Self(Arc::new(Inner {
            slots: Arc::new(Semaphore::new(options.slots)),
            queue_room: ports.queue.room(),
            ports,
            options,
            live,
            cells: Mutex::default(),
            definitions: Mutex::default(),
            running: Mutex::default(),
            replays: replay::Memory::default(),
            messages: Notify::new(),
            timers: scheduler::Alarm::default(),
            freed: admission::Freed::default(),
            backlog: admission::Backlog::default(),
            member,
            tasks: TaskTracker::new(),
            beats: TaskTracker::new(),
            stopping: CancellationToken::new(),
            killed: CancellationToken::new(),
            ready: AtomicBool::new(false),
        }));
        let tasks = &service.0.tasks;
        if let Some(cluster) = service.0.ports.cluster.clone() {
            hosts::join(&service, &*cluster).await?;
            service.0.beats.spawn(hosts::beats(service.clone(), cluster.clone()));
            tasks.spawn(hosts::listen(service.clone(), cluster.clone()));
            tasks.spawn(hosts::sweeps(service.clone(), cluster));
        }
        relay::recover(&service).await?;
        tasks.spawn(relay::pump(service.clone()));
        tasks.spawn(relay::refill(service.clone()));
        tasks.spawn(relay::deliver(service.clone()));
        tasks.spawn(scheduler::run(service.clone()));
        tasks.spawn(admission::run(service.clone()));
        service.0.ready.store(true, Ordering::Release);
        Ok(service)
    }

    /// The ports, for reading.
    pub fn ports(&self) -> &Ports {
        &self.0.ports
    }

    /// News.
    pub fn live(&self) -> &Live {
        &self.0.live
    }

    /// Saves a revision. The boolean says whether it is new.
    pub async fn save_definition(&self, save: SaveDefinition) -> Result<(VersionRow, bool), Error> {
        let definition = &save.definition;
        let version = NewVersion {
            realm: save.realm,
            workflow: definition.id.clone(),
            label: definition.version.as_deref().map(Into::into),
            name: definition.name.clone(),
            description: definition.description.clone(),
            definition: save.json,
            created_by: save.actor,
            at: self.0.ports.clock.now(),
            must_exist: save.must_exist,
        };
        Ok(self.0.ports.store.save_version(version).await?)
    }

    /// Starts a run. The boolean is false if the idempotency key named one that exists.
    pub async fn start_run(&self, start: StartRun) -> Result<(RunRow, bool), Error> {
        self.start_run_as(RunId::new(uuid::Uuid::now_v7().to_string()), start).await
    }

    /// The same, with a watch over the run that sees its end wherever it comes after `row`: for [`Self::wait_on`].
    pub async fn start_run_watched(&self, start: StartRun) -> Result<(RunRow, bool, Watch), Error> {
        let id = RunId::new(uuid::Uuid::now_v7().to_string());
        let tenant = start.realm.tenant.clone();
        // Watched before it begins, so that nobody has to look whether it has ended already.
        let watch = self.0.live.watch(&id);
        let (row, new) = self.start_run_as(id, start).await?;
        if new {
            return Ok((row, new, watch));
        }
        let watch = self.0.live.watch(&row.id);
        let row = self.row(&tenant, &row.id).await?;
        Ok((row, new, watch))
    }

    /// The same under an id that the caller made: unique among all runs, and the same id again gives the run that has it.
    pub async fn start_run_as(&self, id: RunId, start: StartRun) -> Result<(RunRow, bool), Error> {
        self.accepting()?;
        if let Some(key) = &start.idempotency
            && let Some((run, hash)) = self.0.ports.store.run_by_key(&key.key).await?
        {
            return if hash == key.request_hash {
                Ok((self.row(&start.realm.tenant, &run).await?, false))
            } else {
                Err(key_reused())
            };
        }
        admission::backlog(self).await?;
        crate::start::run(self, id, start).await
    }

    /// Delivers a signal. `tenant` is checked: another tenant's run is not found (so everywhere below).
    pub async fn signal(&self, tenant: &str, run: &RunId, signal: SendSignal, actor: Arc<str>) -> Result<(), Error> {
        self.row(tenant, run).await?;
        self.fits("payload", &signal.payload)?;
        let id = signal.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let signal = NewSignal {
            id: id.into(),
            name: signal.name.into(),
            correlation: signal.correlation.map(Into::into),
            payload: signal.payload,
            actor: Some(actor),
        };
        match self.submit(run, Stimulus::Signal(signal)).await {
            // The same signal again: as asked, it counts once.
            Err(error) if error.code == "DUPLICATE_SIGNAL" => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Pauses: results are recorded, nothing new starts.
    pub async fn pause(&self, tenant: &str, run: &RunId, actor: Arc<str>) -> Result<RunRow, Error> {
        self.row(tenant, run).await?;
        self.submit(run, Stimulus::Pause { actor }).await
    }

    /// Lets a paused run go on.
    pub async fn resume(&self, tenant: &str, run: &RunId, actor: Arc<str>) -> Result<RunRow, Error> {
        self.row(tenant, run).await?;
        self.submit(run, Stimulus::Resume { actor }).await
    }

    /// Ends a run, what is open in it, and its children.
    pub async fn cancel(
        &self,
        tenant: &str,
        run: &RunId,
        actor: Arc<str>,
        reason: Option<String>,
    ) -> Result<RunRow, Error> {
        self.row(tenant, run).await?;
        self.submit(run, Stimulus::Cancel { actor, reason }).await
    }

    /// Answers an approval.
    pub async fn decide(&self, tenant: &str, decide: Decide) -> Result<ApprovalRow, Error> {
        let not_found = || {
            let message = format!("run {} has no approval {}", decide.run, decide.approval);
            Error::new(Kind::NotFound, "APPROVAL_NOT_FOUND", message)
        };
        self.row(tenant, &decide.run).await?;
        let store = &self.0.ports.store;
        let row = store.approval(&decide.approval).await?.filter(|row| row.run == decide.run).ok_or_else(not_found)?;
        if row.status != caisson_core::engine::ApprovalStatus::Pending {
            let message = format!("approval is decided already: it is {}", row.status.as_str());
            return Err(Error::new(Kind::Conflict, "APPROVAL_DECIDED", message));
        }
        let stimulus = Stimulus::Decide {
            approval: decide.approval.clone(),
            approve: decide.approve,
            actor: decide.actor,
            comment: decide.comment,
        };
        match self.submit(&decide.run, stimulus).await {
            // Somebody was faster between the look and the decision.
            Err(error) if error.code == "APPROVAL_NOT_FOUND" => {
                Err(Error::new(Kind::Conflict, "APPROVAL_DECIDED", "approval was decided a moment ago"))
            }
            Err(error) => Err(error),
            Ok(_) => store.approval(&decide.approval).await?.ok_or_else(not_found),
        }
    }

    /// A run's row, once it has ended or the time is up.
    pub async fn wait(&self, tenant: &str, run: &RunId, limit: Duration) -> Result<RunRow, Error> {
        // Watched before looked at: an end in between is seen by one of the two.
        let watch = self.0.live.watch(run);
        let row = self.row(tenant, run).await?;
        self.wait_on(&watch, row, limit).await
    }

    /// The same for a run that was watched before it was looked at and was as in `row`; that row is the answer, too, if the store does not
    /// give another at the end of the time.
    pub async fn wait_on(&self, watch: &Watch, row: RunRow, limit: Duration) -> Result<RunRow, Error> {
        if row.status.is_terminal() {
            return Ok(row);
        }
        let (tenant, run) = (&*row.realm.tenant, &row.id);
        tokio::select! {
            biased;
            ended = watch.ended() => Ok((*ended).clone()),
            ended = self.ended_elsewhere(tenant, run, watch) => ended,
            () = tokio::time::sleep(limit) => self.row(tenant, run).await.or(Ok(row)),
            () = self.0.stopping.cancelled() => Ok(row),
        }
    }

    /// The run, once another host has ended it.
    async fn ended_elsewhere(&self, tenant: &str, run: &RunId, watch: &Watch) -> Result<RunRow, Error> {
        if self.0.ports.cluster.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                biased;
                () = watch.ended_elsewhere() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.row(tenant, run).await {
                Ok(row) if row.status.is_terminal() => return Ok(row),
                // The run has begun all the same, and the store may answer the next time.
                Ok(_) | Err(Error { kind: Kind::Unavailable, .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The context of a run's root scope as one JSON value: input, then everything written.
    pub async fn context(&self, tenant: &str, run: &RunId) -> Result<Json, Error> {
        self.row(tenant, run).await?;
        crate::cell::context(self, run).await
    }

    /// Whether it takes work.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire) && !self.0.stopping.is_cancelled()
    }

    /// How many steps run in this process now.
    pub fn running(&self) -> usize {
        self.0.running.lock().len()
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Takes no new work, lets running steps end for at most `limit`, then stops; what still ran is attempted again at the next start.
    pub async fn shutdown(&self, limit: Duration) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(limit, self.0.tasks.wait()).await.is_err() {
            self.0.killed.cancel();
            self.0.tasks.wait().await;
        }
        self.0.member.gone.cancel();
        self.0.beats.close();
        self.0.beats.wait().await;
        if let Some(cluster) = &self.0.ports.cluster
            && let Err(error) = cluster.leave(&self.0.member.id()).await
        {
            tracing::warn!(error = %error, "the other hosts learn only by its lease that this one is gone");
        }
    }

    /// A run's row, if it is the tenant's.
    pub async fn row(&self, tenant: &str, run: &RunId) -> Result<RunRow, Error> {
        let row = self.0.ports.store.run(run).await?.filter(|row| &*row.realm.tenant == tenant);
        row.ok_or_else(|| Error::new(Kind::NotFound, "RUN_NOT_FOUND", format!("there is no run {run}")))
    }

    /// A value from outside within the limits of a value.
    pub(crate) fn fits(&self, what: &str, json: &Json) -> Result<(), Error> {
        let (size, limit) = (json.get().len() as u64, self.0.options.limits.value_bytes_max);
        if size > limit {
            let message = format!("{what} is {size} bytes, more than the {limit} that a value may have");
            return Err(Error::new(Kind::TooLarge, "VALUE_TOO_LARGE", message));
        }
        if depth(json.get()) > VALUE_DEPTH_MAX {
            let message = format!("{what} is nested more than {VALUE_DEPTH_MAX} deep");
            return Err(Error::new(Kind::Invalid, "VALUE_TOO_DEEP", message));
        }
        Ok(())
    }

    pub(crate) fn accepting(&self) -> Result<(), Error> {
        if self.0.stopping.is_cancelled() {
            return Err(Error::new(Kind::Unavailable, "SHUTTING_DOWN", "this host is shutting down"));
        }
        Ok(())
    }

    /// The parsed definition of a version, kept by digest.
    pub(crate) async fn definition(
        &self,
        realm: &Realm,
        workflow: &str,
        digest: &Arc<str>,
    ) -> Result<Arc<Definition>, Error> {
        if let Some(definition) = self.0.definitions.lock().get(digest) {
            return Ok(definition.clone());
        }
        let version = self.0.ports.store.version_by_digest(realm, workflow, digest).await?.ok_or_else(|| {
            let message = format!("version {digest} of workflow '{workflow}' is gone");
            Error::new(Kind::Internal, "VERSION_NOT_FOUND", message)
        })?;
        self.parsed(&version)
    }

    pub(crate) fn parsed(&self, version: &VersionRow) -> Result<Arc<Definition>, Error> {
        if let Some(definition) = self.0.definitions.lock().get(&version.digest) {
            return Ok(definition.clone());
        }
        let reading = caisson_core::definition::from_json(&version.definition.value());
        let definition = reading.definition.ok_or_else(|| {
            let message =
                format!("stored version {} of workflow '{}' cannot be read", version.number, version.workflow);
            Error::new(Kind::Internal, "DEFINITION_UNREADABLE", message)
        })?;
        let mut kept = self.0.definitions.lock();
        if kept.len() >= DEFINITIONS_MAX {
            kept.clear();
        }
        kept.insert(version.digest.clone(), definition.clone());
        Ok(definition)
    }
}

pub(crate) fn key_reused() -> Error {
    let message = "this Idempotency-Key was used with another request: use a new key for a new request";
    Error::new(Kind::Conflict, "IDEMPOTENCY_KEY_REUSED", message)
}

/// A run error out of a service error: for a child that could not be started.
pub(crate) fn as_run_error(error: &Error) -> RunError {
    let category = match error.kind {
        Kind::Invalid | Kind::Malformed | Kind::TooLarge => Category::ValidationError,
        Kind::NotFound | Kind::Conflict | Kind::Internal => Category::ActionError,
        Kind::Forbidden => Category::PolicyError,
        Kind::TooMany | Kind::Unavailable => Category::TransientError,
    };
    let failure = Failure::new(category, error.code, error.message.to_string());
    RunError { failure, state: None, step_id: None }
}
