//! A small world around the engine: virtual time, actions that are plain functions, deliveries in any order, duplicates and crashes.
//! It checks the engine's promises after every decision.
#![allow(
    dead_code,
    clippy::needless_pass_by_value,
    reason = "each test file uses its part; a test reads better without `&`"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caisson_core::definition::{self, Format};
use caisson_core::engine::{
    self, Activity, Actor, ChildEnd, Creation, Decision, Event, Inputs, Limits, Message, NewSignal, ParentStep,
    PinnedAction, Question, Recorded, RunState, Slot, Step, StepNo, Stimulus, Stop, TimerKey, Wake,
};
use caisson_core::error::{Category, Failure, RetryHint};
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::{Blob, Json, Payload};
use caisson_core::model::Definition;
use caisson_core::ports::{
    ApprovalRequest, Entry, Evaluation, ItemRow, OutboxRow, Outcome, PluginRef, Suspension, Usage,
};
use caisson_core::status::{RunStatus, StepStatus};
use caisson_core::time::Timestamp;
use serde_json::{Value, json};

/// A generator that is the same everywhere: splitmix64.
#[derive(Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub struct Run {
    pub def: Arc<Definition>,
    pub state: RunState,
    pub history: Vec<Recorded>,
    pub ready: BTreeSet<StepNo>,
    /// `dispatch` of the last publication by step, attempt and entry.
    pub published: BTreeMap<(StepNo, u32, u32), u32>,
    pub running: BTreeMap<StepNo, Arc<Step>>,
    pub timers: BTreeMap<TimerKey, Timestamp>,
    pub items: Vec<ItemRow>,
    past: Vec<Stimulus>,
}

pub struct World {
    pub now: Timestamp,
    pub defs: BTreeMap<String, Arc<Definition>>,
    pub runs: BTreeMap<RunId, Run>,
    pub outbox: Vec<OutboxRow>,
    pub blobs: engine::Blobs,
    pub limits: Limits,
    /// How often each step's guest was entered to the end, by idempotency key, attempt and entry.
    pub executed: BTreeMap<(String, u32, u32), u32>,
    /// What the human answers.
    pub approve: bool,
    /// What to answer on the next claim: for tests that drive by hand.
    pub expressions: fn(&Evaluation) -> Result<Json, Failure>,
}

pub fn read(source: &str) -> Arc<Definition> {
    let reading = definition::read(source.as_bytes(), Format::Detect);
    reading.definition.unwrap_or_else(|| panic!("definition is not accepted: {:#?}\n{source}", reading.diagnostics))
}

impl World {
    pub fn new(defs: impl IntoIterator<Item = Arc<Definition>>) -> Self {
        Self {
            now: Timestamp(1_795_000_000_000),
            defs: defs.into_iter().map(|def| (def.id.to_string(), def)).collect(),
            runs: BTreeMap::new(),
            outbox: Vec::new(),
            blobs: engine::Blobs::default(),
            limits: Limits::default(),
            executed: BTreeMap::new(),
            approve: true,
            expressions: evaluate,
        }
    }

    pub fn start(&mut self, workflow: &str, input: Value) -> RunId {
        let id = RunId::new("run-1");
        self.begin(id.clone(), workflow, &Json::of(&input), None);
        id
    }

    pub fn begin(&mut self, id: RunId, workflow: &str, input: &Json, parent: Option<ParentStep>) {
        let def = self.defs[workflow].clone();
        let plugin = PluginRef { id: "t".into(), version: "1".into(), digest: "d".into() };
        let plugins = ["t.ok", "t.flaky", "t.fail", "t.ask", "t.nap", "t.listen", "human.approval", "agent.run"]
            .iter()
            .map(|action| PinnedAction { action: (*action).into(), plugin: plugin.clone() })
            .collect();
        let slot = self.slot(&def, input);
        let creation = Creation {
            id: id.clone(),
            realm: Realm::new("default", "default"),
            version: "1".into(),
            digest: "d".into(),
            input: input.clone(),
            actor: None,
            plugins,
            parent,
            trace: None,
            slot,
        };
        let mut inputs = Inputs { now: self.now, blobs: self.blobs.clone(), ..Inputs::default() };
        let (state, decision) = loop {
            match engine::create(&def, &self.limits, creation.clone(), &inputs) {
                Ok(made) => break made,
                Err(Stop::Need(Question::Evaluate(e))) => inputs.evaluations.push((self.expressions)(&e)),
                Err(other) => panic!("{other:?}"),
            }
        };
        let run = Run {
            def,
            state,
            history: Vec::new(),
            ready: BTreeSet::new(),
            published: BTreeMap::new(),
            running: BTreeMap::new(),
            timers: BTreeMap::new(),
            items: Vec::new(),
            past: Vec::new(),
        };
        self.runs.insert(id.clone(), run);
        self.take_in(&id, decision);
    }

    /// What a store would say: a new run begins if there is room and nobody waits.
    fn slot(&self, def: &Definition, input: &Json) -> Option<Slot> {
        let mut slot = Slot::of(def.concurrency.as_ref()?, &input.value()).expect("the input has a key");
        slot.queued = self.begun(&def.id, &slot) >= slot.limit || self.next_waiting(&def.id, &slot).is_some();
        Some(slot)
    }

    fn together<'w>(&'w self, workflow: &'w str, slot: &'w Slot) -> impl Iterator<Item = (&'w RunId, &'w RunState)> {
        let open = self.runs.iter().filter(|(_, run)| !run.state.status.is_terminal());
        open.map(|(id, run)| (id, &run.state)).filter(move |(_, state)| {
            *state.workflow == *workflow && state.slot.as_ref().is_some_and(|s| s.key == slot.key)
        })
    }

    fn begun(&self, workflow: &str, slot: &Slot) -> u32 {
        let begun = self.together(workflow, slot).filter(|(_, state)| !state.waits()).count();
        u32::try_from(begun).expect("small")
    }

    /// The run that waits for room longest.
    fn next_waiting(&self, workflow: &str, slot: &Slot) -> Option<RunId> {
        let waiting = self.together(workflow, slot).filter(|(_, state)| state.waits());
        waiting.min_by_key(|(id, state)| (state.created_at, (*id).clone())).map(|(id, _)| id.clone())
    }

    /// Submits one stimulus; whether it changed anything.
    pub fn submit(&mut self, id: &RunId, stimulus: Stimulus) -> Result<(), engine::Refusal> {
        let run = &self.runs[id];
        let mut inputs = Inputs { now: self.now, blobs: self.blobs.clone(), ..Inputs::default() };
        let (state, decision) = loop {
            match engine::transition(&run.def, &self.limits, &run.state, stimulus.clone(), &inputs) {
                Ok(made) => break made,
                Err(Stop::Refused(refusal)) => return Err(refusal),
                Err(Stop::Need(Question::Evaluate(e))) => inputs.evaluations.push((self.expressions)(&e)),
                Err(Stop::Need(Question::Items(step))) => {
                    let rows = run.items.iter().filter(|row| row.step == step).cloned().collect();
                    inputs.items.insert(step, rows);
                }
                Err(Stop::Need(Question::Blob(blob))) => panic!("blob {blob:?} was never stored"),
            }
        };
        if let Some(run) = self.runs.get_mut(id) {
            assert!(!run.state.status.is_terminal(), "a terminal run moved");
            run.state = state;
            run.past.push(stimulus);
        }
        self.take_in(id, decision);
        Ok(())
    }

    fn take_in(&mut self, id: &RunId, decision: Decision) {
        decision.blobs.iter().for_each(|blob: &Blob| self.blobs.insert(blob));
        self.outbox.extend(decision.outbox);
        let run = self.runs.get_mut(id).expect("run");
        // Whatever becomes ready has a row, and every publication of one entry is told from the ones before.
        for step in decision.ready.iter().filter(|step| run.state.steps.get(step).is_some_and(|step| step.is_ready())) {
            let row = decision.steps.get(step).unwrap_or_else(|| panic!("step {step} is ready without a row"));
            let before = run.published.insert((*step, row.attempt, row.entry), row.dispatch);
            assert!(before.is_none_or(|before| before < row.dispatch), "step {step} is published twice as {before:?}");
        }
        run.history.extend(decision.events);
        run.items.extend(decision.items);
        run.items.retain(|row| !decision.items_dropped.contains(&row.step));
        for (key, due) in decision.timers {
            match due {
                Some(due) => run.timers.insert(key, due),
                None => run.timers.remove(&key),
            };
        }
        for (step, claim) in decision.aborted {
            if run.running.get(&step).is_some_and(|running| running.claim == claim) {
                run.running.remove(&step);
            }
        }
        run.ready = run.state.steps.values().filter(|step| step.is_ready()).map(|step| step.number).collect();
        for step in decision.started {
            run.running.insert(step.number, step);
        }
        self.check(id);
    }

    /// The promises that hold after every decision.
    fn check(&self, id: &RunId) {
        let run = &self.runs[id];
        // Replaying the history gives the state; the snapshot's text gives it too.
        assert_eq!(replay(id, &run.history), run.state, "replay differs");
        let kept: RunState = serde_json::from_str(Json::of(&run.state).get()).expect("snapshot reads");
        assert_eq!(kept, run.state, "snapshot differs");
        // Timers are exactly those of what is open.
        let mut expected: BTreeMap<TimerKey, Timestamp> =
            run.state.steps.values().flat_map(|step| step.timers().collect::<Vec<_>>()).collect();
        if !run.state.status.is_terminal() {
            expected.extend(run.state.deadline.map(|due| (TimerKey::Run, due)));
        }
        assert_eq!(run.timers, expected, "timers differ");
        // No step ends twice, and a run's end is its last event.
        let mut ended = BTreeSet::new();
        for (at, recorded) in run.history.iter().enumerate() {
            match &recorded.event {
                Event::StepCompleted { step, .. } => assert!(ended.insert(*step), "step {step} ended twice"),
                Event::StepStarted { step, .. } => assert!(!ended.contains(step), "step {step} ran after its end"),
                Event::RunStatusChanged { status, .. } if status.is_terminal() => {
                    assert_eq!(at + 1, run.history.len(), "something happened after the end");
                }
                _ => {}
            }
        }
        if let Some(slot) = &run.state.slot {
            assert!(self.begun(&run.state.workflow, slot) <= slot.limit, "more runs at once than may");
        }
        if run.state.waits() {
            assert!(run.state.steps.is_empty() && run.state.started_at.is_none(), "a run that waits moved");
        }
        if run.state.status.is_terminal() {
            assert!(run.state.steps.is_empty() && run.ready.is_empty() && run.running.is_empty());
            assert!(run.items.is_empty(), "item rows are left");
        }
    }

    /// Everything that could happen next.
    fn possible(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (id, run) in &self.runs {
            if run.state.status != RunStatus::Paused {
                choices.extend(run.ready.iter().map(|step| Choice::Claim(id.clone(), *step)));
            }
            if let Some(slot) = run.state.slot.as_ref().filter(|slot| slot.queued)
                && self.begun(&run.state.workflow, slot) < slot.limit
                && self.next_waiting(&run.state.workflow, slot).as_ref() == Some(id)
            {
                choices.push(Choice::Admit(id.clone()));
            }
            choices.extend(run.running.keys().map(|step| Choice::Finish(id.clone(), *step)));
            choices.extend(run.state.approvals.keys().map(|approval| Choice::Decide(id.clone(), approval.clone())));
        }
        if !self.outbox.is_empty() {
            choices.push(Choice::Deliver);
        }
        choices
    }

    fn next_timer(&self) -> Option<(RunId, TimerKey, Timestamp)> {
        let all = self.runs.iter().flat_map(|(id, run)| run.timers.iter().map(move |(k, due)| (id, k, due)));
        all.min_by_key(|(id, key, due)| (**due, (*id).clone(), (*key).clone()))
            .map(|(id, key, due)| (id.clone(), key.clone(), *due))
    }

    /// Runs to the end with deliveries in an order of chance, duplicates and crashes.
    pub fn run_to_end(&mut self, id: &RunId, chance: &mut Chance, trouble: bool) {
        for _ in 0..20_000 {
            if self.runs[id].state.status.is_terminal() && self.possible().is_empty() {
                return;
            }
            if trouble && chance.one_in(25) {
                self.crash();
            }
            if trouble && chance.one_in(8) {
                self.repeat(chance);
            }
            if trouble && chance.one_in(20) {
                self.pause_or_resume(chance);
                continue;
            }
            let choices = self.possible();
            if choices.is_empty() {
                if let Some(paused) = self.paused() {
                    self.submit(&paused, Stimulus::Resume { actor: "op".into() }).expect("a paused run goes on");
                    continue;
                }
                let Some((run, key, due)) = self.next_timer() else {
                    panic!(
                        "nothing can happen, yet the run is {}: {:#?}",
                        self.runs[id].state.status, self.runs[id].state
                    )
                };
                self.now = self.now.max(due);
                self.submit(&run, Stimulus::Timer { key }).expect("a timer that is due fires");
                continue;
            }
            let at = usize::try_from(chance.below(choices.len() as u64)).expect("small");
            self.choose(choices.into_iter().nth(at).expect("in range"));
        }
        panic!("the run does not end: {:#?}", self.runs[id].state);
    }

    fn paused(&self) -> Option<RunId> {
        self.runs.iter().find(|(_, run)| run.state.status == RunStatus::Paused).map(|(id, _)| id.clone())
    }

    /// What an operator may do at any time.
    fn pause_or_resume(&mut self, chance: &mut Chance) {
        let open: Vec<_> = self.runs.iter().filter(|(_, run)| !run.state.status.is_terminal()).collect();
        if open.is_empty() {
            return;
        }
        let at = usize::try_from(chance.below(open.len() as u64)).expect("small");
        let (id, run) = open[at];
        let paused = run.state.status == RunStatus::Paused;
        let (id, actor) = (id.clone(), "op".into());
        self.submit(&id, if paused { Stimulus::Resume { actor } } else { Stimulus::Pause { actor } })
            .expect("an open run takes it");
    }

    fn choose(&mut self, choice: Choice) {
        match choice {
            Choice::Claim(id, step) => {
                self.submit(&id, Stimulus::Claim { step, host: "h".into() }).expect("a ready step can be claimed");
            }
            Choice::Finish(id, step) => self.finish(&id, step),
            Choice::Decide(id, approval) => {
                let actor = Actor { name: "alice".into(), teams: vec!["sre".into()] };
                let stimulus = Stimulus::Decide { approval, approve: self.approve, actor, comment: None };
                self.submit(&id, stimulus).expect("an open approval can be decided");
            }
            Choice::Admit(id) => {
                self.submit(&id, Stimulus::Admit).expect("a run that waits can be admitted");
            }
            Choice::Deliver => self.deliver(),
        }
    }

    pub fn finish(&mut self, id: &RunId, number: StepNo) {
        let step = self.runs.get_mut(id).and_then(|run| run.running.remove(&number)).expect("running");
        let result = self.act(&step);
        let entry = Entry { result, usage: Usage { cpu_us: 1, ..Usage::default() }, warnings: Vec::new() };
        let (attempt, claim) = (step.attempt, step.claim);
        self.submit(id, Stimulus::Result { step: number, attempt, claim, entry })
            .expect("a held step takes its result");
    }

    fn act(&mut self, step: &Step) -> Result<Outcome, Failure> {
        let Activity::Operation { action, input, idempotency_key, .. } = &step.activity else { panic!("{step:?}") };
        *self.executed.entry((idempotency_key.to_string(), step.attempt, step.entry)).or_default() += 1;
        let input = match input {
            Payload::Inline(json) => json.value(),
            Payload::Stored(id) => self.blobs.get(id).expect("stored").value().clone(),
        };
        act(action, &input, step)
    }

    fn deliver(&mut self) {
        let row = self.outbox.remove(0);
        let message: Message = serde_json::from_str(row.message.get()).expect("message");
        match message {
            Message::StartChild { parent, step, depth, workflow, version: _, input, trace: _ } => {
                if self.runs.contains_key(&row.target) {
                    return;
                }
                let input = match &input {
                    Payload::Inline(json) => json.clone(),
                    Payload::Stored(id) => self.blobs.get(id).expect("stored").json().clone(),
                };
                if !self.defs.contains_key(&*workflow) {
                    let failure = Failure::new(Category::ActionError, "WORKFLOW_NOT_FOUND", "no such workflow");
                    let error = engine::RunError { failure, state: None, step_id: None };
                    let end = ChildEnd { status: RunStatus::Failed, output: None, error: Some(error) };
                    let _ = self.submit(&parent, Stimulus::ChildEnded { step, child: row.target, end });
                    return;
                }
                self.begin(row.target, &workflow, &input, Some(ParentStep { run: parent, step, depth }));
            }
            Message::CancelChild { reason } => {
                if self.runs.contains_key(&row.target) {
                    let _ = self.submit(&row.target, Stimulus::Cancel { actor: "parent".into(), reason: Some(reason) });
                }
            }
            Message::ChildEnded { step, child, end } => {
                let _ = self.submit(&row.target, Stimulus::ChildEnded { step, child, end });
            }
            Message::Continue => {
                let _ = self.submit(&row.target, Stimulus::Continue);
            }
        }
    }

    /// The process dies: what is in memory is rebuilt from the history, what was running is lost.
    pub fn crash(&mut self) {
        let ids: Vec<RunId> = self.runs.keys().cloned().collect();
        for id in ids {
            let run = self.runs.get_mut(&id).expect("run");
            run.state = replay(&id, &run.history);
            let lost: Vec<Arc<Step>> = std::mem::take(&mut run.running).into_values().collect();
            for step in lost {
                let _ = self.submit(&id, Stimulus::Lost { step: step.number, claim: step.claim });
            }
        }
    }

    /// Something that was delivered before comes again: it must be refused.
    fn repeat(&mut self, chance: &mut Chance) {
        let all: Vec<(RunId, Stimulus)> =
            self.runs.iter().flat_map(|(id, run)| run.past.iter().map(|s| (id.clone(), s.clone()))).collect();
        if all.is_empty() {
            return;
        }
        let at = usize::try_from(chance.below(all.len() as u64)).expect("small");
        let (id, stimulus) = all[at].clone();
        // These may rightly be given twice: the step is ready again, the timer was set anew, an operator pauses again.
        let innocent = matches!(
            stimulus,
            Stimulus::Claim { .. }
                | Stimulus::Timer { .. }
                | Stimulus::Continue
                | Stimulus::Pause { .. }
                | Stimulus::Resume { .. }
        );
        if !innocent {
            let before = self.runs[&id].history.len();
            assert!(self.submit(&id, stimulus).is_err(), "a duplicate was taken");
            assert_eq!(self.runs[&id].history.len(), before);
        }
    }

    pub fn output(&self, id: &RunId) -> Value {
        match self.runs[id].state.output.as_ref() {
            Some(Payload::Inline(json)) => json.value(),
            Some(Payload::Stored(blob)) => self.blobs.get(blob).expect("stored").value().clone(),
            None => Value::Null,
        }
    }

    pub fn context(&self, id: &RunId) -> Value {
        let run = &self.runs[id];
        let inputs = Inputs { now: self.now, blobs: self.blobs.clone(), ..Inputs::default() };
        engine::context(&run.def, &run.state, &inputs).expect("context")
    }

    /// Status, error code and output: what a user sees at the end.
    pub fn end(&self, id: &RunId) -> (RunStatus, Option<String>, Value) {
        let run = &self.runs[id];
        (run.state.status, run.state.error.as_ref().map(|error| error.failure.code.clone()), self.output(id))
    }

    /// The states that were entered, in order, with their ends.
    pub fn trace(&self, id: &RunId) -> String {
        let mut names = BTreeMap::new();
        let mut lines = Vec::new();
        for recorded in &self.runs[id].history {
            match &recorded.event {
                Event::StepScheduled { step, state, .. } => {
                    names.insert(*step, state.to_string());
                }
                Event::StepCompleted { step, status, .. } => {
                    let ok = if *status == StepStatus::Succeeded { String::new() } else { format!("!{status}") };
                    lines.push(format!("{}{ok}", names[step]));
                }
                _ => {}
            }
        }
        lines.join(" ")
    }

    pub fn signal(&mut self, id: &RunId, key: &str, name: &str, payload: Value) -> Result<(), engine::Refusal> {
        let signal = NewSignal {
            id: key.into(),
            name: name.into(),
            correlation: payload.get("key").and_then(Value::as_str).map(Into::into),
            payload: Json::of(&payload),
            actor: None,
        };
        self.submit(id, Stimulus::Signal(signal))
    }
}

enum Choice {
    Claim(RunId, StepNo),
    Finish(RunId, StepNo),
    Decide(RunId, caisson_core::ids::ApprovalId),
    Admit(RunId),
    Deliver,
}

pub fn replay(id: &RunId, history: &[Recorded]) -> RunState {
    let first = &history[0];
    let mut state = RunState::created(id.clone(), first.at, &first.event).expect("created");
    for recorded in &history[1..] {
        let event = Event::decode(recorded.event.kind(), recorded.event.encode().get()).expect("event reads back");
        assert_eq!(event, recorded.event);
        state.apply(recorded.at, &event);
    }
    state
}

fn act(action: &str, input: &Value, step: &Step) -> Result<Outcome, Failure> {
    let done = |value: Value| Ok(Outcome::Done(Json::of(&value)));
    let fail = |code: &str, category: Category| Err(Failure::new(category, code, "as asked"));
    let park = |signals: Vec<String>, wake_after_ms, approval| {
        Ok(Outcome::Suspend(Suspension { state: vec![1, 2, 3], signals, wake_after_ms, approval }))
    };
    let wake = step.waking.as_ref().map(|waking| &waking.wake);
    let category = input.get("category").and_then(Value::as_str).and_then(Category::parse);
    let code = input.get("code").and_then(Value::as_str).unwrap_or("AS_ASKED");
    match action {
        "t.ok" | "agent.run" => done(input.clone()),
        "t.flaky" => {
            let failures = input.get("failures").and_then(Value::as_u64).unwrap_or(1);
            if u64::from(step.attempt) <= failures {
                fail(code, category.unwrap_or(Category::TransientError))
            } else {
                done(json!({ "attempts": step.attempt }))
            }
        }
        "t.fail" => fail(code, category.unwrap_or(Category::ActionError)),
        "t.nap" => match wake {
            None => park(Vec::new(), input.get("ms").and_then(Value::as_u64), None),
            Some(_) => done(json!("rested")),
        },
        "t.listen" => match wake {
            Some(Wake::Signal { payload: Payload::Inline(json), .. }) => done(json.value()),
            _ => park(vec!["news".into()], None, None),
        },
        "t.ask" | "human.approval" => match wake {
            None => {
                let approvers = input.get("approvers").and_then(|v| serde_json::from_value(v.clone()).ok());
                let request = ApprovalRequest {
                    message: "?".into(),
                    summary: None,
                    approvers: approvers.unwrap_or_default(),
                    deadline_ms: None,
                };
                park(Vec::new(), None, Some(request))
            }
            Some(Wake::Approval { status: engine::ApprovalStatus::Approved, actor, .. }) => {
                done(json!({ "approved": true, "actor": actor }))
            }
            Some(_) => {
                let mut failure = Failure::new(Category::PolicyError, "APPROVAL_REJECTED", "no");
                failure.retry = RetryHint::Never;
                Err(failure)
            }
        },
        other => panic!("no action {other}"),
    }
}

/// Expressions as these tests write them: `True`, `False`, `name op number`.
pub fn evaluate(evaluation: &Evaluation) -> Result<Json, Failure> {
    let undefined = |name: &str| {
        Failure::new(Category::ExpressionError, "EXPRESSION_UNDEFINED_NAME", format!("name '{name}' is not defined"))
    };
    let find = |path: &str| -> Result<Value, Failure> {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or_default();
        let bound = evaluation.bindings.0.iter().find(|(name, _)| name == first);
        let mut value = bound.ok_or_else(|| undefined(first))?.1.value();
        for part in parts {
            value = value.get(part).cloned().ok_or_else(|| undefined(path))?;
        }
        Ok(value)
    };
    let words: Vec<&str> = evaluation.source.split_whitespace().collect();
    let value = match words.as_slice() {
        ["True"] => json!(true),
        ["False"] => json!(false),
        [path] => find(path)?,
        [path, op, number] => {
            let left = find(path)?.as_f64().unwrap_or(f64::NAN);
            let right: f64 = number.parse().map_err(|_| undefined(number))?;
            match *op {
                ">" => json!(left > right),
                "<" => json!(left < right),
                "==" => json!((left - right).abs() < f64::EPSILON),
                "+" => json!(left + right),
                _ => return Err(undefined(op)),
            }
        }
        _ => return Err(undefined(&evaluation.source)),
    };
    Ok(Json::of(&value))
}

pub fn step_ids(run: &Run) -> Vec<StepId> {
    run.history
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::StepScheduled { step_id, .. } => Some(step_id.clone()),
            _ => None,
        })
        .collect()
}
