//! A run's events as they happen: server-sent events.
//!
//! What is stored carries its number as `id`, so a client that lost its connection goes on where it was. What guests write while they run
//! (`workflow.step.progress`, `workflow.step.log`), what they emit (`workflow.event.emitted`) and how their agents go on (`workflow.agent.updated`)
//! carries none and is not repeated; emitted events are listed at `/events`, agents at `/workflow-runs/{id}/sessions`. Of what other hosts' guests
//! do, how agents go on comes here too, as it stands when it comes. The stream ends after the run's last event; a client
//! that asks again then gets 204, which tells an `EventSource` to stay away.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use caisson_core::engine::{Event, StepNo};
use caisson_core::ids::StepId;
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{EmittedEvent, EventRow, LogLine, RunRow, SessionRow};
use caisson_core::status::RunStatus;
use caisson_orchestrator::{News, Watch};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Viewer;
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::logs::{level_name, show_fields};
use super::values::Values;
use super::wire::Any;
use super::{AppState, emitted, runs, sessions};

/// A comment is sent after so much silence: below the idle time-outs of common proxies, which begin at 30 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events read from the store at once.
const BATCH_EVENTS: u32 = 200;

/// Open steps whose names a stream remembers; older ones are asked of the store again.
const NAMES_MAX: usize = 10_000;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stream_run))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// Only events after this number: for clients that cannot send `Last-Event-ID`.
    last_event_id: Option<u64>,
}

/// The data of a live event. Its `event:` is `workflow.` and the type.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Its number in the history; absent for progress, log lines and emitted events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// As `step.completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub at: String,
    /// Who caused it, if a person or a program did.
    pub actor: Option<String>,
    /// The run.
    pub run_id: String,
    /// The workflow.
    pub workflow_id: String,
    /// The step it is about.
    pub step_id: Option<String>,
    /// That step's state.
    pub step_name: Option<String>,
    /// That step's branch or item, as `diagnostics.pods`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_path: Option<String>,
    /// The phase.
    pub phase: Option<String>,
    /// The run's project.
    pub project_id: Option<String>,
    /// The status that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The output that came of it; large ones as `{"$truncated": true, "sizeBytes": n}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Any>,
    /// What happened, as it is stored; for progress and log lines: level, message, fields, percent; for an emitted event, the event; for
    /// `agent.updated`, the session.
    pub data: Any,
}

/// Follows a run. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/stream", tag = "runs",
    params(
        ("id" = String, Path, description = "The run."), StreamQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Only events after this number."),
    ),
    responses(
        (status = 200, description = "Server-sent events; the data of each is a Live.", body = Live, content_type = "text/event-stream"),
        (status = 204, description = "The run has ended and the client has seen its last event."),
    )
)]
async fn stream_run(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = match headers.get("last-event-id") {
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| ApiError::malformed("MALFORMED_LAST_EVENT_ID", "Last-Event-ID is not a number"))?,
        None => query.last_event_id.unwrap_or(0),
    };
    // Before the first look at the store, or what is committed in between would be missed.
    let news = api.service.live().subscribe();
    let row = runs::find(&api, &caller, &id).await?;
    if row.status.is_terminal() && after >= row.last_seq {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follower = Follower {
        _watch: api.service.live().watch(&row.id),
        api,
        news,
        // Read from the start, the phase is learned on the way; read from the middle, it is the present one.
        phase: if after == 0 { None } else { row.phase.clone() },
        row,
        after,
        behind: true,
        ended: false,
        names: HashMap::new(),
        waiting: VecDeque::new(),
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat")).into_response())
}

struct Follower {
    /// While it lasts, other hosts' news of the run's agents are of interest.
    _watch: Watch,
    api: AppState,
    news: Receiver<News>,
    row: RunRow,
    /// The last event that was sent.
    after: u64,
    /// Whether the store may hold more than was sent.
    behind: bool,
    /// Whether the run's last event was taken.
    ended: bool,
    phase: Option<Arc<str>>,
    names: HashMap<StepNo, StepName>,
    waiting: VecDeque<SseEvent>,
}

#[derive(Clone)]
struct StepName {
    id: StepId,
    state: Arc<str>,
    branch_path: Option<String>,
    phase: Option<Arc<str>>,
}

impl Follower {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            if self.behind {
                self.read().await?;
            } else {
                self.listen().await?;
            }
        }
    }

    /// Takes what the store has; `None` if it cannot answer: the client comes back with its last number.
    async fn read(&mut self) -> Option<()> {
        // What guests wrote before, or it would come after the end, which is never sent.
        while let Ok(news) = self.news.try_recv() {
            self.take(news).await;
        }
        let stored = self.api.store().events(&self.row.id, self.after, BATCH_EVENTS).await;
        let events = stored.inspect_err(|error| tracing::warn!(%error, run = %self.row.id, "stream broke off")).ok()?;
        self.behind = events.len() >= BATCH_EVENTS as usize;
        for stored in events {
            self.after = stored.seq;
            let event = self.show(&stored).await;
            self.waiting.push_back(event);
        }
        Some(())
    }

    /// Waits for news of this run; `None` when the host stops.
    async fn listen(&mut self) -> Option<()> {
        let news = tokio::select! {
            news = self.news.recv() => news,
            () = self.api.stop.cancelled() => return None,
        };
        match news {
            Ok(News::Committed { run, last_seq, .. }) => self.behind = run == self.row.id && last_seq > self.after,
            Ok(news) => self.take(news).await,
            Err(RecvError::Lagged(_)) => self.behind = true,
            Err(RecvError::Closed) => return None,
        }
        Some(())
    }

    /// Takes what a guest of this run wrote or emitted.
    async fn take(&mut self, news: News) {
        let event = match news {
            News::Line { run, step, line } if run == self.row.id => self.show_line(&step, line).await,
            News::Emitted(event) if event.run == self.row.id => self.show_emitted(&event).await,
            News::Session(session) if session.run == self.row.id => self.show_session(&session).await,
            News::Line { .. } | News::Emitted(_) | News::Session(_) | News::Committed { .. } => return,
        };
        self.waiting.push_back(event);
    }

    async fn show(&mut self, stored: &EventRow) -> SseEvent {
        let mut live = self.blank(&stored.kind, stored.at.to_string());
        live.seq = Some(stored.seq);
        live.actor = stored.actor.as_deref().map(str::to_owned);
        live.data = Any(stored.data.clone());
        if let Ok(event) = Event::decode(&stored.kind, stored.data.get()) {
            if let Event::RunPhaseChanged { phase } = &event {
                self.phase = Some(phase.clone());
                live.phase = Some(phase.to_string());
            }
            if let Some(step) = event.step() {
                let name = self.name(step, &event, stored.step_id.as_ref()).await;
                put_name(&mut live, name);
            }
            let (status, output) = outcome(&event);
            live.status = status;
            live.output = output.map(|payload| Values::short().show(&payload));
            if let Event::RunStatusChanged { status, .. } = event {
                self.ended = status.is_terminal();
            }
        }
        if stored.data_sha256.is_some() && stored.seq == self.row.last_seq {
            // Only a run that has ended is erased; what its last event said is gone.
            self.ended = true;
            live.status = Some(self.row.status.to_string());
        }
        if live.step_id.is_none() {
            live.step_id = stored.step_id.as_ref().map(ToString::to_string);
        }
        sse(&live)
    }

    async fn show_line(&mut self, step: &StepId, line: LogLine) -> SseEvent {
        #[derive(Serialize)]
        struct Line {
            #[serde(skip_serializing_if = "Option::is_none")]
            level: Option<&'static str>,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            percent: Option<u8>,
            fields: Any,
        }
        let kind = if line.level.is_some() { "step.log" } else { "step.progress" };
        let mut live = self.blank(kind, line.at.to_string());
        put_name(&mut live, self.name_of(step).await);
        live.step_id = Some(step.to_string());
        live.data = Any(Json::of(&Line {
            level: line.level.map(level_name),
            message: line.message,
            percent: line.percent,
            fields: show_fields(line.fields),
        }));
        sse(&live)
    }

    async fn show_emitted(&mut self, event: &EmittedEvent) -> SseEvent {
        let mut live = self.blank("event.emitted", event.at.to_string());
        put_name(&mut live, self.name_of(&event.step_id).await);
        live.step_id = Some(event.step_id.to_string());
        live.data = Any(Json::of(&emitted::show(event, &Values::short())));
        sse(&live)
    }

    async fn show_session(&mut self, session: &SessionRow) -> SseEvent {
        let mut live = self.blank("agent.updated", session.updated_at.to_string());
        put_name(&mut live, self.name_of(&session.step_id).await);
        live.step_id = Some(session.step_id.to_string());
        live.status = Some(session.status.as_str().to_owned());
        live.data = Any(Json::of(&sessions::show(session, session.status)));
        sse(&live)
    }

    async fn name_of(&self, step: &StepId) -> Option<StepName> {
        match self.names.values().find(|name| name.id == *step) {
            Some(name) => Some(name.clone()),
            None => self.ask(step).await.map(|(_, name)| name),
        }
    }

    fn blank(&self, kind: &str, at: String) -> Live {
        Live {
            seq: None,
            kind: kind.to_owned(),
            at,
            actor: None,
            run_id: self.row.id.to_string(),
            workflow_id: self.row.workflow_id.to_string(),
            step_id: None,
            step_name: None,
            branch_path: None,
            phase: self.phase.as_deref().map(str::to_owned),
            project_id: self.row.project_id.clone(),
            status: None,
            output: None,
            data: Any::null(),
        }
    }

    /// What a step is called: learned when it is entered, asked of the store when the stream began later.
    async fn name(&mut self, step: StepNo, event: &Event, id: Option<&StepId>) -> Option<StepName> {
        if let Event::StepCompleted { .. } = event
            && let Some(name) = self.names.remove(&step)
        {
            return Some(name);
        }
        if let Some(name) = self.names.get(&step) {
            return Some(name.clone());
        }
        let asked = match id {
            Some(id) => self.ask(id).await.map(|(_, name)| name),
            None => None,
        };
        let name = match (asked, event) {
            (Some(name), _) => name,
            (None, Event::StepScheduled { step_id, state, .. }) => {
                StepName { id: step_id.clone(), state: state.clone(), branch_path: None, phase: self.phase.clone() }
            }
            (None, _) => return None,
        };
        if self.names.len() < NAMES_MAX && !matches!(event, Event::StepCompleted { .. }) {
            self.names.insert(step, name.clone());
        }
        Some(name)
    }

    async fn ask(&self, id: &StepId) -> Option<(StepNo, StepName)> {
        let row = self.api.store().step(&self.row.id, id).await.ok()??;
        let branch_path = (!row.branch_path.is_empty()).then_some(row.branch_path);
        Some((row.number, StepName { id: row.id, state: row.state, branch_path, phase: row.phase }))
    }
}

fn put_name(live: &mut Live, name: Option<StepName>) {
    let Some(name) = name else { return };
    live.step_id = Some(name.id.to_string());
    live.step_name = Some(name.state.to_string());
    live.branch_path = name.branch_path;
    if let Some(phase) = name.phase {
        live.phase = Some(phase.to_string());
    }
}

/// The status and the output that an event brought about.
fn outcome(event: &Event) -> (Option<String>, Option<Payload>) {
    match event {
        Event::RunCreated { .. } => (Some(RunStatus::Pending.to_string()), None),
        Event::RunStatusChanged { status, output, .. } => (Some(status.to_string()), output.clone()),
        Event::StepScheduled { .. }
        | Event::StepReady { .. }
        | Event::StepWoken { .. }
        | Event::StepLost { .. }
        | Event::ApprovalRequested { .. } => (Some("PENDING".to_owned()), None),
        Event::StepStarted { .. } | Event::ScopeOpened { .. } => (Some("RUNNING".to_owned()), None),
        Event::StepSuspended { approval, .. } => {
            let status = if approval.is_some() { "WAITING_APPROVAL" } else { "WAITING_SIGNAL" };
            (Some(status.to_owned()), None)
        }
        Event::StepRetrying { .. } => (Some("RETRYING".to_owned()), None),
        Event::StepCompleted { status, output, .. } => (Some(status.to_string()), output.clone()),
        Event::ScopeCompleted { status, result, .. } => (Some(status.to_string()), result.clone()),
        Event::ApprovalDecided { status, .. } => (Some(status.as_str().to_owned()), None),
        Event::RunAdmitted { .. }
        | Event::RunPhaseChanged { .. }
        | Event::SignalReceived { .. }
        | Event::SignalConsumed { .. } => (None, None),
    }
}

fn sse(live: &Live) -> SseEvent {
    // Outside of strings a line break of the author's own JSON is only space, and inside there is none.
    let data = Json::of(live).get().replace(['\n', '\r'], " ");
    let event = SseEvent::default().event(format!("workflow.{}", live.kind)).data(data);
    match live.seq {
        Some(seq) => event.id(seq.to_string()),
        None => event,
    }
}
