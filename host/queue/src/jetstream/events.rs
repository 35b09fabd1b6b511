//! Events for listeners outside, and news for the other hosts.
//!
//! Every event of a run goes to `wf.event.run.<run>` of `WORKFLOW_EVENTS`; one about a step to `wf.event.step.<run>.<step id>`, too. The body is
//! the event as the API shows it, with run, workflow, environment and tenant. Message ids are `run:seq` (and `run:seq:step`), so that
//! what comes twice within two minutes is stored once. That a session of an agent went on goes to `wf.event.agent.<run>`, as a hint: which one.
//! What guests write and emit goes to `wf.live.<run>`, which no stream keeps: it is for those who watch at this moment, and in the store.
//!
//! Invariants:
//! - The engine never waits for a listener: what does not fit, or is committed while the server is away, is dropped and counted.
//! - News is a plain subscription to the same messages; those of this host are left out.
//!
//! Deliberately absent: a promise that every event gets here. Events have numbers without gaps: a listener that misses one reads it from the
//! API.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, Message};
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::Json;
use caisson_core::ports::{
    CommittedElsewhere, EventRow, EventSink, RunRow, Said, SessionElsewhere, SessionRow, StepRow,
};
use caisson_core::status::RunStatus;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::link::Link;
use super::publish::Ack;
use super::{CLOSE_MAX, Error, JetStreamQueue};

/// Events that wait to be sent at most: half a second of a busy host, and 16 MiB at most, as larger values stand for themselves by hash.
const WAITING_MAX: usize = 4096;
/// Publications that wait for the server's word at most.
const IN_FLIGHT: usize = 256;
/// What guests say and was not sent yet at most. Apart from events, so that a chatty guest costs none of those.
const SAID_MAX: usize = 1024;
/// Between two words about dropped events in the log: the first, and then every so many.
const DROPPED_STEP: u64 = 1000;

/// The host that sent it.
const HOST: &str = "caisson-host";
/// The live event's name, as `workflow.step.completed`.
const EVENT: &str = "caisson-event";
/// Where the run stands. Only on the last event of a commit.
const STATUS: &str = "caisson-status";

/// Publishes events.
pub struct EventPublisher {
    sender: mpsc::Sender<Outgoing>,
    said: mpsc::Sender<(String, bytes::Bytes)>,
    host: Arc<str>,
    dropped: Arc<AtomicU64>,
    link: Link,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Outgoing {
    subject: String,
    message: PublishMessage,
}

/// The event as the API shows it, and where it belongs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    seq: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    at: String,
    actor: Option<&'a str>,
    step_id: Option<&'a str>,
    data: &'a Json,
    prev_hash: &'a str,
    hash: &'a str,
    v: u32,
    run_id: &'a str,
    workflow_id: &'a str,
    environment: &'a str,
    tenant: &'a str,
}

/// A session of an agent went on: the API says how it stands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfAgent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    at: String,
    session_id: &'a str,
    run_id: &'a str,
    step_id: &'a str,
    environment: &'a str,
    tenant: &'a str,
}

impl EventPublisher {
    /// Over the queue's connection. `host` is this process, new at every start.
    pub fn new(queue: &JetStreamQueue, host: impl Into<Arc<str>>) -> Self {
        let link = queue.shared.link.clone();
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = watch::channel(false);
        let (said, spoken) = mpsc::channel(SAID_MAX);
        let host: Arc<str> = host.into();
        let tasks = vec![
            tokio::spawn(send_all(link.clone(), waiting, stopped.clone(), Arc::clone(&dropped))),
            tokio::spawn(pass_on(link.clone(), Arc::clone(&host), spoken, stopped)),
        ];
        Self { sender, said, host, dropped, link, stop, tasks: Mutex::new(tasks) }
    }

    /// Events that were not sent, or of which the server did not say that it stored them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes no more and waits a while for what is on its way.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for mut task in tasks {
            if tokio::time::timeout(CLOSE_MAX, &mut task).await.is_err() {
                task.abort();
            }
        }
    }

    /// What other hosts commit, from now on.
    pub async fn subscribe(&self) -> Result<impl Stream<Item = CommittedElsewhere> + Send + Unpin + use<>, Error> {
        self.listen("wf.event.run.*", news).await
    }

    /// What the agents of other hosts do, from now on.
    pub async fn subscribe_sessions(
        &self,
    ) -> Result<impl Stream<Item = SessionElsewhere> + Send + Unpin + use<>, Error> {
        self.listen("wf.event.agent.*", news_of_session).await
    }

    /// What guests of other hosts write and emit, from now on, in runs of which `wanted` says so.
    pub async fn subscribe_said<F: Fn(&RunId) -> bool + Send + Unpin + 'static>(
        &self,
        wanted: F,
    ) -> Result<impl Stream<Item = (RunId, Said)> + Send + Unpin + use<F>, Error> {
        self.listen("wf.live.*", move |message| {
            let run = RunId::new(message.subject.rsplit('.').next()?);
            let said = wanted(&run).then(|| serde_json::from_slice(&message.payload).ok())??;
            Some((run, said))
        })
        .await
    }

    /// Other hosts' messages of a subject, as far as they read.
    async fn listen<T: Send + 'static, F: Fn(&Message) -> Option<T> + Send + Unpin + 'static>(
        &self,
        subject: &'static str,
        read: F,
    ) -> Result<impl Stream<Item = T> + Send + Unpin + use<T, F>, Error> {
        let refused = |error: &dyn std::error::Error| Error::JetStream {
            what: "the subscription to other hosts' events".to_owned(),
            reason: super::link::with_sources(error),
        };
        let messages = self.link.client.subscribe(subject).await.map_err(|error| refused(&error))?;
        // The server has to know of it before anything is committed that somebody waits for.
        self.link.client.flush().await.map_err(|error| refused(&error))?;
        let own = Arc::clone(&self.host);
        Ok(messages.filter_map(move |message| {
            let sender = message.headers.as_ref().and_then(|headers| headers.get(HOST));
            let others = sender.is_some_and(|host| host.as_str() != &*own);
            std::future::ready(if others { read(&message) } else { None })
        }))
    }

    fn messages(&self, run: &RunRow, event: &EventRow, last: bool) -> impl Iterator<Item = Outgoing> + use<> {
        let body = Body {
            seq: event.seq,
            kind: &event.kind,
            at: event.at.to_string(),
            actor: event.actor.as_deref(),
            step_id: event.step_id.as_ref().map(caisson_core::ids::StepId::as_str),
            data: &event.data,
            prev_hash: &event.prev_hash,
            hash: &event.hash,
            v: event.v,
            run_id: run.id.as_str(),
            workflow_id: &run.workflow_id,
            environment: &run.realm.environment,
            tenant: &run.realm.tenant,
        };
        let body = bytes::Bytes::from(serde_json::to_vec(&body).expect("texts and JSON are JSON"));
        let message = |id: String| {
            PublishMessage::build()
                .payload(body.clone())
                .message_id(id)
                .header(HOST, &*self.host)
                .header(EVENT, format!("workflow.{}", event.kind))
        };
        let mut of_run = message(format!("{}:{}", run.id, event.seq));
        if last {
            of_run = of_run.header(STATUS, run.status.as_str());
        }
        let of_run = Outgoing { subject: format!("wf.event.run.{}", run.id), message: of_run };
        let of_step = event.step_id.as_ref().map(|step| Outgoing {
            subject: format!("wf.event.step.{}.{step}", run.id),
            message: message(format!("{}:{}:step", run.id, event.seq)),
        });
        std::iter::once(of_run).chain(of_step)
    }

    fn of_agent(&self, session: &SessionRow) -> Outgoing {
        let body = OfAgent {
            kind: "agent.updated",
            at: session.updated_at.to_string(),
            session_id: &session.id,
            run_id: session.run.as_str(),
            step_id: session.step_id.as_str(),
            environment: &session.realm.environment,
            tenant: &session.realm.tenant,
        };
        let body = serde_json::to_vec(&body).expect("texts are JSON");
        let message = PublishMessage::build()
            .payload(body.into())
            .message_id(format!("{}:{}:{}", session.id, session.lines, session.turns))
            .header(HOST, &*self.host)
            .header(EVENT, "workflow.agent.updated");
        Outgoing { subject: format!("wf.event.agent.{}", session.run), message }
    }

    fn post(&self, message: Outgoing) {
        if self.sender.try_send(message).is_err() {
            drop_one(&self.dropped, "they come faster than the server takes them");
        }
    }
}

impl Drop for EventPublisher {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

impl EventSink for EventPublisher {
    fn committed(&self, run: &RunRow, events: &[EventRow], _: &[StepRow]) {
        for (index, event) in events.iter().enumerate() {
            for message in self.messages(run, event, index + 1 == events.len()) {
                self.post(message);
            }
        }
    }

    fn session(&self, session: &SessionRow) {
        self.post(self.of_agent(session));
    }

    fn said(&self, run: &RunId, said: &Said) {
        // Nobody has to see it: what does not fit is in the store all the same.
        if let Ok(place) = self.said.try_reserve() {
            let body = serde_json::to_vec(said).expect("texts and numbers are JSON");
            place.send((format!("wf.live.{run}"), body.into()));
        }
    }
}

async fn pass_on(
    link: Link,
    host: Arc<str>,
    mut spoken: mpsc::Receiver<(String, bytes::Bytes)>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, &*host);
    let sending = async {
        while let Some((subject, body)) = spoken.recv().await {
            // Held back, it would come when nobody wants it any more.
            if link.is_up()
                && let Err(error) = link.client.publish_with_headers(subject, headers.clone(), body).await
            {
                tracing::debug!(%error, "a line is not passed on to those who watch elsewhere");
            }
        }
    };
    tokio::select! {
        () = sending => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

async fn send_all(
    link: Link,
    mut waiting: mpsc::Receiver<Outgoing>,
    mut stopped: watch::Receiver<bool>,
    dropped: Arc<AtomicU64>,
) {
    let mut acks: FuturesUnordered<Ack> = FuturesUnordered::new();
    let mut open = true;
    while open || !acks.is_empty() {
        let stop = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        tokio::select! {
            Some(ack) = acks.next(), if !acks.is_empty() => if let Err(error) = ack {
                drop_one(&dropped, &error.to_string());
            },
            next = waiting.recv(), if open && acks.len() < IN_FLIGHT => match next {
                Some(next) => send(&link, next, &mut acks, &dropped).await,
                None => open = false,
            },
            () = stop, if !waiting.is_closed() => waiting.close(),
        }
    }
}

async fn send(link: &Link, next: Outgoing, acks: &mut FuturesUnordered<Ack>, dropped: &AtomicU64) {
    if !link.is_up() {
        return drop_one(dropped, "the server is away");
    }
    match link.context.send_publish(next.subject, next.message).await {
        Ok(ack) => acks.push(ack.into_future()),
        Err(error) => drop_one(dropped, &error.to_string()),
    }
}

fn drop_one(dropped: &AtomicU64, reason: &str) {
    let before = dropped.fetch_add(1, Ordering::Relaxed);
    if before.is_multiple_of(DROPPED_STEP) {
        tracing::warn!(dropped = before + 1, reason, "events are not sent to listeners; the API has them");
    }
}

/// The last event of a commit.
fn news(message: &Message) -> Option<CommittedElsewhere> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct News {
        seq: u64,
        run_id: RunId,
        environment: Arc<str>,
        tenant: Arc<str>,
    }
    let status = RunStatus::parse(message.headers.as_ref()?.get(STATUS)?.as_str())?;
    let News { seq, run_id, environment, tenant } = serde_json::from_slice(&message.payload).ok()?;
    Some(CommittedElsewhere { realm: Realm { tenant, environment }, run: run_id, last_seq: seq, status })
}

fn news_of_session(message: &Message) -> Option<SessionElsewhere> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct News {
        run_id: RunId,
        session_id: Arc<str>,
    }
    let News { run_id, session_id } = serde_json::from_slice(&message.payload).ok()?;
    Some(SessionElsewhere { run: run_id, session: session_id })
}
