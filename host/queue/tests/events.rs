//! Events for listeners and news for other hosts, over a real server.

mod support;

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::contract::make;
use caisson_core::ports::{CommittedElsewhere, EventRow, EventSink, LogLevel, LogLine, RunRow, Said, SessionElsewhere};
use caisson_core::status::RunStatus;
use caisson_core::time::Timestamp;
use caisson_queue::jetstream::EventPublisher;
use caisson_test_servers::nats::NatsServer;
use futures_util::StreamExt;
use support::{connect, options, raw, soon};

/// A run and the events of a commit that moved it.
fn moved(run: &mut RunRow, events: u64) -> Vec<EventRow> {
    let mut events = make::commit(run, events, 1_000).events;
    for event in &mut events {
        event.kind = "step.completed".into();
        event.actor = Some("ann".into());
        event.step_id = None;
    }
    if let Some(last) = events.last_mut() {
        last.step_id = Some(StepId::new("s1"));
    }
    events
}

async fn stored(server: &NatsServer) -> Vec<(String, serde_json::Value, Option<String>)> {
    let stream = raw(server).await.get_stream("WORKFLOW_EVENTS").await.expect("is there");
    let consumer = stream.create_consumer(pull::Config::default()).await.expect("is made");
    let mut messages = consumer.fetch().max_messages(100).messages().await.expect("answers");
    let mut found = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message.expect("is whole");
        let body = serde_json::from_slice(&message.payload).expect("is JSON");
        let name = message.headers.as_ref().and_then(|headers| headers.get("caisson-event")).map(ToString::to_string);
        found.push((message.subject.to_string(), body, name));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_gets_every_event_once_as_the_api_shows_it() {
    let server = NatsServer::new();
    let queue = connect(options(&server)).await;
    let events = EventPublisher::new(&queue, "h1");
    let mut run = make::run("r1", 1_000);
    let committed = moved(&mut run, 2);
    events.committed(&run, &committed, &[]);
    events.committed(&run, &committed, &[]);
    soon(events.close()).await;
    let found = stored(&server).await;
    let subjects: Vec<_> = found.iter().map(|(subject, ..)| subject.as_str()).collect();
    assert_eq!(subjects, ["wf.event.run.r1", "wf.event.run.r1", "wf.event.step.r1.s1"]);
    let (_, body, name) = &found[1];
    assert_eq!(name.as_deref(), Some("workflow.step.completed"));
    let last = &committed[1];
    let expected = serde_json::json!({
        "seq": last.seq, "type": "step.completed", "at": last.at.to_string(), "actor": "ann", "stepId": "s1",
        "data": serde_json::from_str::<serde_json::Value>(last.data.get()).expect("is JSON"),
        "prevHash": &*last.prev_hash, "hash": &*last.hash, "v": last.v,
        "runId": "r1", "workflowId": "triage", "environment": "default", "tenant": "acme",
    });
    assert_eq!(*body, expected);
    assert_eq!(found[2].1, expected, "the step's listeners hear the same");
    assert_eq!(events.dropped(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_hears_of_the_commits_of_others_and_not_of_its_own() {
    let server = NatsServer::new();
    let (a, b) = (connect(options(&server)).await, connect(options(&server)).await);
    let (a, b) = (EventPublisher::new(&a, "a"), EventPublisher::new(&b, "b"));
    let mut news = a.subscribe().await.expect("is subscribed");
    let mut own = make::run("own", 1_000);
    let events = moved(&mut own, 1);
    a.committed(&own, &events, &[]);
    let mut other = make::run("other", 1_000);
    let events = moved(&mut other, 3);
    other.status = RunStatus::Completed;
    b.committed(&other, &events, &[]);
    let heard = soon(news.next()).await.expect("lasts");
    let expected = CommittedElsewhere {
        realm: make::realm(),
        run: other.id.clone(),
        last_seq: other.last_seq,
        status: RunStatus::Completed,
    };
    assert_eq!(heard, expected, "one word for a commit");
    assert!(heard.ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_hears_that_agents_of_others_go_on_and_not_of_its_own() {
    let server = NatsServer::new();
    let (a, b) = (connect(options(&server)).await, connect(options(&server)).await);
    let (a, b) = (EventPublisher::new(&a, "a"), EventPublisher::new(&b, "b"));
    let mut news = a.subscribe_sessions().await.expect("is subscribed");
    let mut run = make::run("r1", 1_000);
    a.session(&make::session(&run, "own", 1_000));
    let events = moved(&mut run, 1);
    b.committed(&run, &events, &[]);
    let session = make::session(&run, "other", 1_000);
    // Twice the same, as after a crash.
    b.session(&session);
    b.session(&session);
    let heard = soon(news.next()).await.expect("lasts");
    assert_eq!(heard, SessionElsewhere { run: run.id.clone(), session: "other".into() });
    soon(a.close()).await;
    soon(b.close()).await;
    let found = stored(&server).await;
    let found: Vec<_> = found.iter().filter(|(subject, ..)| subject.starts_with("wf.event.agent.")).collect();
    let mut sessions: Vec<_> = found.iter().map(|(_, body, _)| body["sessionId"].as_str().expect("a text")).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, ["other", "own"], "what is the same is kept once");
    let (subject, body, name) = found.iter().find(|(_, body, _)| body["sessionId"] == "other").expect("is there");
    assert_eq!((subject.as_str(), name.as_deref()), ("wf.event.agent.r1", Some("workflow.agent.updated")));
    let expected = serde_json::json!({
        "type": "agent.updated", "at": session.updated_at.to_string(), "sessionId": "other", "runId": "r1",
        "stepId": session.step_id.as_str(), "environment": "default", "tenant": "acme",
    });
    assert_eq!(*body, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_guests_say_is_heard_elsewhere_in_watched_runs_and_is_kept_by_no_stream() {
    let server = NatsServer::new();
    let (a, b) = (connect(options(&server)).await, connect(options(&server)).await);
    let (a, b) = (EventPublisher::new(&a, "a"), EventPublisher::new(&b, "b"));
    let mut heard = a.subscribe_said(|run| run.as_str() != "other").await.expect("is subscribed");
    let run = make::run("r1", 1_000);
    let line = |message: &str| Said::Line {
        step: StepId::new("s1"),
        line: LogLine {
            at: Timestamp(1_000),
            level: Some(LogLevel::Warn),
            message: message.to_owned(),
            fields: Some("{\"n\": 1}".to_owned()),
            percent: None,
        },
    };
    let event = make::emitted(&run, "e1", "order.paid", 1_000);
    a.said(&run.id, &line("own"));
    b.said(&RunId::new("other"), &line("of a run that nobody watches"));
    b.said(&run.id, &line("first"));
    b.said(&run.id, &Said::Emitted(Box::new(event.clone())));
    assert_eq!(soon(heard.next()).await, Some((run.id.clone(), line("first"))));
    assert_eq!(soon(heard.next()).await, Some((run.id.clone(), Said::Emitted(Box::new(event)))));
    soon(b.close()).await;
    assert!(stored(&server).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_server_that_is_away_are_counted_and_nobody_waits_and_later_ones_arrive() {
    let mut server = NatsServer::new();
    let queue = connect(options(&server)).await;
    let events = EventPublisher::new(&queue, "h1");
    let mut news = EventPublisher::new(&queue, "h2").subscribe().await.expect("is subscribed");
    server.kill();
    soon(async {
        while queue.is_connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut run = make::run("r1", 1_000);
    let committed = moved(&mut run, 2);
    events.committed(&run, &committed, &[]);
    soon(async {
        while events.dropped() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.start();
    soon(async {
        while !queue.is_connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let committed = moved(&mut run, 1);
    events.committed(&run, &committed, &[]);
    assert_eq!(soon(news.next()).await.expect("lasts").last_seq, run.last_seq);
}
