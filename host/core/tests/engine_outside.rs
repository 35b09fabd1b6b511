//! What people and other systems do to a run: signals, decisions, pauses, cancels; and what a dying host does.

mod sim;

use caisson_core::engine::{Actor, Event, Refusal, Stimulus, TimerKey};
use caisson_core::error::{Category, Failure};
use caisson_core::ids::{ApprovalId, RunId};
use caisson_core::ports::{Entry, Usage};
use caisson_core::status::RunStatus;
use serde_json::{Value, json};
use sim::{Chance, World, read};

fn world(states: &str) -> (World, RunId) {
    let mut world = World::new([read(&format!("id: w\nstates:{states}"))]);
    let id = world.start("w", json!({}));
    (world, id)
}

fn status(world: &World, id: &RunId) -> RunStatus {
    world.runs[id].state.status
}

fn claim(world: &mut World, id: &RunId) -> u64 {
    let step = *world.runs[id].ready.iter().next().expect("something is ready");
    world.submit(id, Stimulus::Claim { step, host: "h".into() }).expect("claims");
    step
}

fn work(world: &mut World, id: &RunId) {
    let step = claim(world, id);
    world.finish(id, step);
}

const SIGNAL: &str = "
- {name: s, type: signal, signal: go, correlation: k1, filter: 'n > 5', timeoutSeconds: 60, resultPath: got, next: after}
- {name: after, type: transform, expression: got.n, end: true}";

#[test]
fn a_signal_is_kept_until_something_waits_for_it_and_only_the_fitting_one_is_taken() {
    let (mut world, id) = world(&format!("\n- {{name: first, type: operation, action: t.ok, next: s}}{SIGNAL}"));
    world.signal(&id, "1", "go", json!({"key": "k1", "n": 3})).expect("taken");
    world.signal(&id, "2", "go", json!({"key": "k2", "n": 9})).expect("taken");
    world.signal(&id, "shapeless", "go", json!({"key": "k1", "other": 1})).expect("taken");
    world.signal(&id, "3", "go", json!({"key": "k1", "n": 7})).expect("taken");
    assert!(matches!(world.signal(&id, "3", "go", json!({})), Err(Refusal::DuplicateSignal(_))));
    work(&mut world, &id);
    assert_eq!(world.output(&id), json!(7));
}

#[test]
fn a_signal_that_does_not_come_in_time_fails_the_step() {
    let (mut world, id) = world(SIGNAL);
    assert_eq!(status(&world, &id), RunStatus::WaitingSignal);
    world.signal(&id, "1", "other", json!({})).expect("kept");
    world.run_to_end(&id, &mut Chance(1), false);
    assert_eq!(world.end(&id), (RunStatus::Failed, Some("SIGNAL_TIMED_OUT".into()), Value::Null));
}

#[test]
fn a_parked_guest_wakes_by_a_signal_that_it_named() {
    let (mut world, id) = world("\n- {name: a, type: operation, action: t.listen, end: true}");
    work(&mut world, &id);
    assert_eq!(status(&world, &id), RunStatus::WaitingSignal);
    world.signal(&id, "1", "news", json!({"x": 1})).expect("taken");
    work(&mut world, &id);
    assert_eq!(world.output(&id), json!({"x": 1}));
}

#[test]
fn a_mailbox_that_is_full_refuses() {
    let (mut world, id) = world("\n- {name: a, type: wait, duration: 60, end: true}");
    world.limits.mailbox_max = 2;
    for key in ["1", "2"] {
        world.signal(&id, key, "x", json!({})).expect("taken");
    }
    assert_eq!(world.signal(&id, "3", "x", json!({})), Err(Refusal::MailboxFull(2)));
}

const ASK: &str = "
- {name: a, type: operation, action: human.approval, input: {message: '?', approvers: ['user:bob', 'team:sre']}, timeoutSeconds: 60, EXTRA end: true}
- {name: no, type: inject, data: rejected, end: true}";

fn decide(world: &mut World, id: &RunId, who: &str, teams: &[&str], approve: bool) -> Result<(), Refusal> {
    let approval: ApprovalId =
        world.runs[id].state.approvals.keys().next().cloned().unwrap_or_else(|| ApprovalId::new("x"));
    let actor = Actor { name: who.into(), teams: teams.iter().map(ToString::to_string).collect() };
    world.submit(id, Stimulus::Decide { approval, approve, actor, comment: Some("so".into()) })
}

#[test]
fn only_those_named_may_decide_and_only_once() {
    let (mut world, id) = world(&ASK.replace("EXTRA", ""));
    work(&mut world, &id);
    assert_eq!(status(&world, &id), RunStatus::WaitingApproval);
    for (who, teams) in [("admin", vec![]), ("eve", vec!["dev"]), ("team:sre", vec![]), ("sre", vec![])] {
        assert!(matches!(decide(&mut world, &id, who, &teams, true), Err(Refusal::NotApprover { .. })), "{who}");
    }
    assert!(world.signal(&id, "1", "approval", json!({})).is_ok());
    assert_eq!(status(&world, &id), RunStatus::WaitingApproval, "a signal decided an approval");
    decide(&mut world, &id, "carol", &["sre"], true).expect("decides");
    assert!(matches!(decide(&mut world, &id, "bob", &[], false), Err(Refusal::NoSuchApproval(_))));
    work(&mut world, &id);
    assert_eq!(world.output(&id), json!({"approved": true, "actor": "carol"}));
}

#[test]
fn a_rejection_fails_the_step_unless_it_is_sent_elsewhere_and_is_never_retried() {
    for (extra, expected) in [
        ("", (RunStatus::Failed, Some("APPROVAL_REJECTED".to_owned()), Value::Null)),
        (
            "retry: {maxAttempts: 3, retryOn: [PolicyError]},",
            (RunStatus::Failed, Some("APPROVAL_REJECTED".to_owned()), Value::Null),
        ),
        ("onReject: 'no',", (RunStatus::Completed, None, json!("rejected"))),
        ("onError: 'no',", (RunStatus::Completed, None, json!("rejected"))),
    ] {
        let (mut world, id) = world(&ASK.replace("EXTRA", extra));
        work(&mut world, &id);
        decide(&mut world, &id, "bob", &[], false).expect("decides");
        work(&mut world, &id);
        assert_eq!(world.end(&id), expected, "{extra}");
    }
}

#[test]
fn an_approval_that_nobody_gives_in_time_ends_the_run_timed_out() {
    let (mut world, id) = world(&ASK.replace("EXTRA", "retry: {maxAttempts: 3},"));
    work(&mut world, &id);
    world.now = world.now.plus_ms(60_000);
    assert!(
        matches!(decide(&mut world, &id, "bob", &[], true), Err(Refusal::AlreadyDecided(_))),
        "decided after its deadline"
    );
    let step = *world.runs[&id].state.steps.keys().next().expect("open");
    world.submit(&id, Stimulus::Timer { key: TimerKey::Deadline(step) }).expect("fires");
    assert_eq!(world.end(&id), (RunStatus::TimedOut, Some("APPROVAL_TIMED_OUT".into()), Value::Null));
}

#[test]
fn a_paused_run_records_results_and_starts_nothing() {
    let (mut world, id) = world(
        "
- {name: a, type: operation, action: t.ok, next: b}
- {name: b, type: operation, action: t.ok, end: true}",
    );
    let step = claim(&mut world, &id);
    world.submit(&id, Stimulus::Pause { actor: "op".into() }).expect("pauses");
    assert_eq!(world.submit(&id, Stimulus::Pause { actor: "op".into() }), Err(Refusal::AlreadyPaused));
    world.finish(&id, step);
    assert_eq!((status(&world, &id), world.trace(&id).as_str()), (RunStatus::Paused, "a"));
    assert!(world.runs[&id].ready.is_empty());
    world.submit(&id, Stimulus::Resume { actor: "op".into() }).expect("resumes");
    assert!(matches!(world.submit(&id, Stimulus::Resume { actor: "op".into() }), Err(Refusal::NotPaused(_))));
    work(&mut world, &id);
    assert_eq!(status(&world, &id), RunStatus::Completed);
}

#[test]
fn a_paused_foreach_goes_on_with_its_items_when_resumed() {
    let (mut world, id) = world(
        "
- name: f
  type: foreach
  itemsPath: ctx.list
  iterator: {states: [{name: s, type: operation, action: t.ok, input: '{{ item }}', resultPath: r, end: true}]}
  end: true",
    );
    assert_eq!(status(&world, &id), RunStatus::Failed, "there is no list yet");
    world = World::new([read(
        "id: w\nstates:\n- {name: f, type: foreach, itemsPath: list, iterator: {states: [{name: s, type: operation, action: t.ok, input: '{{ item }}', resultPath: r, end: true}]}, end: true}",
    )]);
    let id = world.start("w", json!({"list": [1, 2, 3]}));
    let step = claim(&mut world, &id);
    world.submit(&id, Stimulus::Pause { actor: "op".into() }).expect("pauses");
    world.finish(&id, step);
    assert!(world.runs[&id].ready.is_empty());
    world.submit(&id, Stimulus::Resume { actor: "op".into() }).expect("resumes");
    world.run_to_end(&id, &mut Chance(1), false);
    assert_eq!(world.output(&id), json!([{"r": 1}, {"r": 2}, {"r": 3}]));
}

#[test]
fn cancel_reaches_branches_guests_approvals_and_children() {
    let parent = read(
        "
id: w
states:
- name: p
  type: parallel
  branches:
  - {name: run, states: [{name: x, type: operation, action: t.ok, end: true}]}
  - {name: ask, states: [{name: y, type: operation, action: t.ask, input: {}, end: true}]}
  - {name: kid, states: [{name: z, type: call, workflow: child, end: true}]}
  end: true",
    );
    let child = read("id: child\nstates:\n- {name: w, type: wait, duration: 60, end: true}");
    let mut world = World::new([parent, child]);
    let id = world.start("w", json!({}));
    let running = claim(&mut world, &id);
    work(&mut world, &id);
    let mut chance = Chance(1);
    // Deliver the child's start.
    world.limits.decision_steps_max = 200;
    assert_eq!(world.outbox.len(), 1);
    world.submit(&id, Stimulus::Cancel { actor: "op".into(), reason: Some("enough".into()) }).expect("cancels");
    assert!(!world.runs[&id].running.contains_key(&running), "the guest runs on");
    assert!(world.runs[&id].state.approvals.is_empty());
    world.run_to_end(&id, &mut chance, false);
    let child = world.runs.iter().find(|(other, _)| **other != id).expect("the child was started").1;
    assert_eq!(child.state.status, RunStatus::Cancelled);
    assert_eq!(
        world.submit(&id, Stimulus::Cancel { actor: "op".into(), reason: None }),
        Err(Refusal::Ended(RunStatus::Cancelled))
    );
}

#[test]
fn a_result_under_an_old_claim_is_refused_and_a_lost_claim_uses_up_no_attempt() {
    let (mut world, id) = world("\n- {name: a, type: operation, action: t.ok, end: true}");
    let step = claim(&mut world, &id);
    world.crash();
    let again = claim(&mut world, &id);
    assert_eq!(again, step);
    let open = &world.runs[&id].state.steps[&step];
    assert_eq!((open.attempt, open.claim), (1, 2));
    let entry =
        Entry { result: Err(Failure::new(Category::ActionError, "X", "x")), usage: Usage::default(), warnings: vec![] };
    let late = world.submit(&id, Stimulus::Result { step, attempt: 1, claim: 1, entry });
    assert_eq!(late, Err(Refusal::StaleClaim { step, claim: 1 }));
    world.finish(&id, step);
    assert_eq!(status(&world, &id), RunStatus::Completed);
}

#[test]
fn a_step_that_kills_five_hosts_is_given_up() {
    let (mut world, id) = world("\n- {name: a, type: operation, action: t.ok, retry: {maxAttempts: 9}, end: true}");
    for _ in 0..5 {
        claim(&mut world, &id);
        world.crash();
    }
    assert_eq!(world.end(&id), (RunStatus::Failed, Some("STEP_LOST".into()), Value::Null));
}

#[test]
fn a_woken_step_that_loses_its_host_is_handed_the_same_wake_again() {
    let (mut world, id) = world("\n- {name: a, type: operation, action: t.listen, end: true}");
    work(&mut world, &id);
    world.signal(&id, "1", "news", json!(42)).expect("taken");
    claim(&mut world, &id);
    world.crash();
    work(&mut world, &id);
    assert_eq!(world.output(&id), json!(42));
    let started: Vec<(u32, u32)> = world.runs[&id]
        .history
        .iter()
        .filter_map(|r| match r.event {
            Event::StepStarted { entry, claim, .. } => Some((entry, claim)),
            _ => None,
        })
        .collect();
    assert_eq!(started, [(0, 1), (1, 2), (1, 3)]);
}

/// A world of runs that count together; the first begins, the second waits.
fn two_of(top: &str) -> (World, RunId, RunId) {
    let source = format!(
        "id: w\n{top}\nstates:\n- {{name: a, type: operation, action: t.ok, input: {{k: '{{{{ k }}}}'}}, end: true}}"
    );
    let mut world = World::new([read(&source)]);
    let first = world.start("w", json!({"k": 1}));
    world.now = world.now.plus_ms(1000);
    let second = RunId::new("run-2");
    world.begin(second.clone(), "w", &caisson_core::json::Json::of(&json!({"k": 1})), None);
    (world, first, second)
}

#[test]
fn a_run_that_waits_for_room_does_nothing_until_it_is_admitted_and_then_its_time_runs() {
    let (mut world, first, second) = two_of("concurrency: 1\ntimeoutSeconds: 60");
    assert_eq!((status(&world, &first), status(&world, &second)), (RunStatus::Running, RunStatus::Pending));
    world.signal(&second, "1", "go", json!({})).expect("kept");
    assert_eq!(status(&world, &second), RunStatus::Pending);
    assert!(world.runs[&second].timers.is_empty(), "the time of a run that waits does not run");
    work(&mut world, &first);
    world.now = world.now.plus_ms(3_600_000);
    world.submit(&second, Stimulus::Admit).expect("begins");
    assert_eq!(status(&world, &second), RunStatus::Running);
    assert_eq!(world.runs[&second].timers[&TimerKey::Run], world.now.plus_ms(60_000));
    assert_eq!(world.submit(&second, Stimulus::Admit), Err(Refusal::NotQueued(RunStatus::Running)));
    world.now = world.now.plus_ms(60_000);
    world.submit(&second, Stimulus::Timer { key: TimerKey::Run }).expect("is due");
    let error = world.runs[&second].state.error.clone().expect("timed out");
    assert!(error.failure.message.contains("timeoutSeconds: 60"), "{error:?}");
}

#[test]
fn a_run_that_waits_for_room_can_be_cancelled_and_paused() {
    let (mut world, first, second) = two_of("concurrency: {limit: 1, key: '{{ k }}'}");
    world.submit(&second, Stimulus::Pause { actor: "ann".into() }).expect("pauses");
    world.submit(&second, Stimulus::Resume { actor: "ann".into() }).expect("resumes");
    assert_eq!(status(&world, &second), RunStatus::Pending, "resuming gives no room");
    world.submit(&second, Stimulus::Pause { actor: "ann".into() }).expect("pauses");
    work(&mut world, &first);
    world.submit(&second, Stimulus::Admit).expect("takes the room");
    assert_eq!(status(&world, &second), RunStatus::Paused);
    world.submit(&second, Stimulus::Resume { actor: "ann".into() }).expect("resumes");
    work(&mut world, &second);
    assert_eq!(status(&world, &second), RunStatus::Completed);

    let (mut world, _, second) = two_of("concurrency: 1");
    world.submit(&second, Stimulus::Cancel { actor: "ann".into(), reason: None }).expect("cancels");
    assert_eq!(status(&world, &second), RunStatus::Cancelled);
}
