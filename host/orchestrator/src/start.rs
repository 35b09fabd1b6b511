//! Starting runs: for a client, and for the step of another run that calls one.

use std::sync::Arc;

use caisson_core::engine::{self, Creation, Inputs, ParentStep, PinnedAction, Slot, Stop};
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::Json;
use caisson_core::model::{Definition, StateKind};
use caisson_core::ports::{Admission, CommitError, NewRun, RunRow, VersionRow};

use crate::admission;
use crate::batch::{Batch, new_row};
use crate::cell::{self, Loaded};
use crate::error::{Error, Kind};
use crate::requests::StartRun;
use crate::service::Service;

/// A run about to begin.
pub(crate) struct Begin {
    pub(crate) id: RunId,
    pub(crate) realm: Realm,
    pub(crate) workflow: String,
    pub(crate) version: Option<String>,
    pub(crate) input: Json,
    pub(crate) actor: Arc<str>,
    pub(crate) parent: Option<ParentStep>,
    pub(crate) new: NewRun,
    /// The message of another run that asks for it.
    pub(crate) message: Option<Arc<str>>,
    /// The client's `traceparent`.
    pub(crate) trace: Option<Arc<str>>,
}

pub(crate) async fn run(service: &Service, id: RunId, start: StartRun) -> Result<(RunRow, bool), Error> {
    let begin = Begin {
        id,
        realm: start.realm.clone(),
        workflow: start.workflow,
        version: start.version,
        input: start.input,
        actor: start.actor,
        parent: None,
        new: NewRun {
            name: start.name,
            project_id: start.project_id,
            forked_from: None,
            idempotency: start.idempotency,
        },
        message: None,
        trace: start.trace,
    };
    match begin_run(service, begin).await {
        Ok(row) => Ok((row, true)),
        // Two requests with one key at the same time: the faster one's run is the answer.
        Err(Begun::Exists(run)) => Ok((service.row(&start.realm.tenant, &run).await?, false)),
        Err(Begun::Not(error)) => Err(error),
    }
}

/// Why no run began.
pub(crate) enum Begun {
    /// It began before.
    Exists(RunId),
    /// It cannot.
    Not(Error),
}

impl From<Error> for Begun {
    fn from(error: Error) -> Self {
        Self::Not(error)
    }
}

/// Why no run was made.
pub(crate) enum Made {
    /// Nothing more can be tried.
    Begun(Begun),
    /// The store refused it: there may be another way.
    Not(CommitError),
}

impl From<Error> for Made {
    fn from(error: Error) -> Self {
        Self::Begun(Begun::Not(error))
    }
}

/// What a run is made of, beside what was asked for.
pub(crate) struct Prepared {
    version: VersionRow,
    pub(crate) def: Arc<Definition>,
    plugins: Vec<PinnedAction>,
    pinned: Vec<Arc<str>>,
}

pub(crate) async fn begin_run(service: &Service, begin: Begin) -> Result<RunRow, Begun> {
    let (version, def) = find(service, &begin).await?;
    check_input(service, &def, &begin.input)?;
    let slot = admission::slot(&def, &begin.input)?;
    let (plugins, pinned) = pins(service, &begin.realm, &def);
    let prepared = Prepared { version, def, plugins, pinned };
    match (&prepared.def.concurrency, slot) {
        (Some(concurrency), Some(slot)) => admission::begin(service, &begin, &prepared, concurrency, &slot).await,
        (None, _) | (_, None) => make(service, &begin, &prepared, None).await.map_err(Made::begun),
    }
}

/// Makes the run and moves it as far as it goes; nowhere, if it waits.
pub(crate) async fn make(
    service: &Service,
    begin: &Begin,
    prepared: &Prepared,
    place: Option<(Slot, Admission)>,
) -> Result<RunRow, Made> {
    let Prepared { version, def, plugins, pinned } = prepared;
    let (slot, admission) = place.unzip();
    let creation = Creation {
        id: begin.id.clone(),
        realm: begin.realm.clone(),
        version: version.label.clone(),
        digest: version.digest.clone(),
        input: begin.input.clone(),
        actor: Some(begin.actor.clone()),
        plugins: plugins.clone(),
        parent: begin.parent.clone(),
        slot,
        trace: begin.trace.clone(),
    };
    let mut batch = Batch::default();
    let mut inputs = Inputs { now: service.0.ports.clock.now(), ..Inputs::default() };
    let (state, decision) = loop {
        match engine::create(def, &service.0.options.limits, creation.clone(), &inputs) {
            Ok(made) => break made,
            Err(Stop::Need(question)) => cell::reply(service, &begin.id, &batch, &mut inputs, question).await?,
            Err(Stop::Refused(refusal)) => return Err(Error::from(refusal).into()),
        }
    };
    batch.add(decision);
    batch.pinned(pinned.clone());
    batch.asks(admission);
    if let Some(message) = &begin.message {
        batch.took(message.clone());
    }
    let row = new_row(&state, &begin.new, begin.actor.clone());
    let mut before = state.clone();
    before.seq = 0;
    let mut loaded = Loaded { def: def.clone(), state: before, row, blobs: inputs.blobs, unsaved: 0, holder: None };
    let mut state = state;
    let mut permits = Vec::new();
    cell::claim_ready(service, &mut loaded, &mut state, &mut batch, &mut permits).await;
    let effects = match cell::commit(service, &mut loaded, state, batch, begin.new.idempotency.clone()).await {
        Ok(effects) => effects,
        Err(CommitError::Exists(run)) => return Err(Made::Begun(Begun::Exists(run))),
        Err(other) => return Err(Made::Not(other)),
    };
    let row = loaded.row.clone();
    // The state goes into its cell before anything can happen to it, so that nobody reads it back from the store.
    service.install(&begin.id, loaded, effects, permits).await;
    Ok(row)
}

async fn find(service: &Service, begin: &Begin) -> Result<(VersionRow, Arc<Definition>), Error> {
    let store = &service.0.ports.store;
    let missing = || {
        let (workflow, environment) = (&begin.workflow, &begin.realm.environment);
        let message = format!("there is no workflow '{workflow}' in environment '{environment}'");
        Error::new(Kind::NotFound, "WORKFLOW_NOT_FOUND", message)
    };
    let (definition, in_force) = store.definition(&begin.realm, &begin.workflow).await?.ok_or_else(missing)?;
    if !definition.enabled {
        let message = format!("workflow '{}' is disabled: enable it to start runs", begin.workflow);
        return Err(Error::new(Kind::Conflict, "WORKFLOW_DISABLED", message));
    }
    let version = match &begin.version {
        None => in_force,
        Some(wanted) => store.version(&begin.realm, &begin.workflow, Some(wanted)).await?.ok_or_else(|| {
            let message = format!("workflow '{}' has no version '{wanted}'", begin.workflow);
            Error::new(Kind::NotFound, "VERSION_NOT_FOUND", message)
        })?,
    };
    let def = service.parsed(&version)?;
    Ok((version, def))
}

fn check_input(service: &Service, def: &Definition, input: &Json) -> Result<(), Error> {
    service.fits("input", input)?;
    let Some(validator) = &def.input_validator else { return Ok(()) };
    validator.validate(&input.value()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let message = format!("input does not fit the workflow's inputSchema: {}", lines.join("; "));
        Error::new(Kind::Invalid, "SCHEMA_VALIDATION_INPUT", message).with_details(Json::of(&lines))
    })
}

/// Every action of the definition and the package that it means from now on, for this run; and the digests that have to be kept for it.
fn pins(service: &Service, realm: &Realm, def: &Definition) -> (Vec<PinnedAction>, Vec<Arc<str>>) {
    let mut pins: Vec<PinnedAction> = Vec::new();
    let mut kept: Vec<Arc<str>> = Vec::new();
    for state in &def.states {
        if let StateKind::Operation(operation) = &state.kind
            && !pins.iter().any(|pin| pin.action == operation.action)
            && let Some(info) = service.0.ports.runner.resolve(realm, &operation.action)
        {
            if !info.built_in && !kept.contains(&info.plugin.digest) {
                kept.push(info.plugin.digest.clone());
            }
            pins.push(PinnedAction { action: operation.action.clone(), plugin: info.plugin });
        }
    }
    (pins, kept)
}
