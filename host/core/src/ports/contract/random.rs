//! A seeded random sequence of operations, and everything that can be seen after each.

mod plugins;

use std::fmt::Write;
use std::sync::Arc;

use super::{Whole, make};
use crate::engine::ApprovalStatus;
use crate::ids::{Realm, RunId};
use crate::json::{BlobRef, Payload};
use crate::ports::{
    Admission, ApprovalFilter, Commit, CommitError, DefinitionFilter, HostLogLine, IdempotencyRow, ItemRow, LogLine,
    NewVersion, OutboxRow, Place, RunFilter, RunRow, SlotKey, Stage, StoreError,
};
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn time(&mut self) -> i64 {
        i64::try_from(self.below(10_000)).unwrap_or(0)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)].clone()
    }
}

/// Plays `operations` operations from that seed on an empty store and writes down every answer, and at the end all that is visible.
pub async fn transcript(store: &dyn Whole, seed: u64, operations: u32) -> String {
    let mut random = Random(seed);
    let mut out = String::new();
    let mut runs: Vec<RunRow> = Vec::new();
    let mut blobs: Vec<BlobRef> = Vec::new();
    for number in 0..operations {
        let said = match random.below(29) {
            0..=13 => commit(store, &mut random, &mut runs, &mut blobs).await,
            14 | 15 => {
                let realm = random.pick(&[make::realm(), Realm::new("acme", "staging")]);
                let label = random.pick(&[None, Some("1"), Some("2"), Some("x")]);
                let definition = random.pick(&["{\"a\":1}", "{\"a\":1.0}", "{}"]);
                let workflow = random.pick(&["triage", "other"]);
                let must_exist = random.pick(&[None, None, None, Some(true), Some(false)]);
                let version = make::version(workflow, label, definition, random.time());
                answer(&store.save_version(NewVersion { realm, must_exist, ..version }).await)
            }
            16 => {
                let workflow = random.pick(&["triage", "other"]);
                let switch = random.pick(&[None, Some(true), Some(false)]);
                let at = Timestamp(random.time());
                answer(&store.set_definition(&make::realm(), workflow, switch, None, at).await)
            }
            17 => answer(&store.delete_definition(&make::realm(), random.pick(&["triage", "other"])).await),
            18 => answer(&store.outbox_delete(&[format!("m{}", random.below(20)).into()]).await),
            20..=26 => plugins::play(store, &mut random).await,
            27 | 28 => prune(store, &mut random).await,
            _ => {
                let run = RunId::new(format!("r{}", random.below(12)));
                let line = LogLine {
                    at: Timestamp(random.time()),
                    level: None,
                    message: format!("{number}"),
                    fields: None,
                    percent: Some(1),
                };
                let line = HostLogLine { run, step: make::step(random.below(3)).id, line };
                answer(&store.append_logs(&[line]).await)
            }
        };
        let _ = writeln!(out, "{number}: {said}");
        if number % 16 == 0 {
            see_work(store, &mut out).await;
        }
    }
    see_work(store, &mut out).await;
    see_all(store, &mut out, &blobs).await;
    plugins::see(store, &mut out).await;
    out
}

/// Erases or deletes a run, if it may be.
async fn prune(store: &dyn Whole, random: &mut Random) -> String {
    let run = RunId::new(format!("r{}", random.below(12)));
    if random.chance(70) {
        format!("erase {run} {}", answer(&store.erase(&run, 0, 10_000, Timestamp(random.time())).await))
    } else {
        format!("delete {run} {}", answer(&store.delete(&run, 10_000).await))
    }
}

/// Messages of errors are each store's own.
fn answer<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(StoreError::Conflict(_)) => "conflict".to_owned(),
        Err(StoreError::NotFound(_)) => "not found".to_owned(),
        Err(StoreError::Invalid(_)) => "invalid".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

async fn commit(store: &dyn Whole, random: &mut Random, runs: &mut Vec<RunRow>, blobs: &mut Vec<BlobRef>) -> String {
    let fresh = runs.is_empty() || random.chance(25);
    let mut run = if fresh { new_run(random) } else { random.pick(runs) };
    let at = random.time();
    if !fresh {
        run.status = random.pick(RunStatus::ALL);
        run.completed_at = run.status.is_terminal().then_some(Timestamp(at));
        run.output = random.chance(50).then(|| make::payload("1.0"));
        run.steps += 1;
    }
    if random.chance(10) {
        // Decided on what is no longer so.
        run.version = run.version.saturating_sub(random.below(3));
    }
    let events = random.below(4);
    let mut commit = make::commit(&mut run, events, at);
    for number in 1..=random.below(4) {
        let ready = random.chance(40).then(|| Timestamp(random.time()));
        let host = random.pick(&[None, None, Some("h1".into()), Some("h2".into())]);
        let claim = u32::try_from(random.below(3)).unwrap_or(0);
        let status = random.pick(&[StepStatus::Pending, StepStatus::Running, StepStatus::Running, StepStatus::Failed]);
        commit.steps.push(crate::ports::StepRow { ready_at: ready, host, claim, status, ..make::step(number) });
    }
    for key in ["a", "b", "c"] {
        match random.below(6) {
            0 | 1 => commit.timers_set.push(make::timer(&run, key, random.time())),
            2 => commit.timers_cleared.push(key.into()),
            _ => {}
        }
    }
    if random.chance(20) {
        let mut approval = make::approval(&run, &format!("{}-{}", run.id, random.below(3)), at);
        approval.created_at = Timestamp(7);
        approval.status = random.pick(&[ApprovalStatus::Pending, ApprovalStatus::Approved, ApprovalStatus::TimedOut]);
        commit.approvals.push(approval);
    }
    for index in 0..random.below(3) {
        let result = make::payload(&format!("{}.0", random.below(100)));
        commit.items.push(ItemRow { step: random.below(3), index, result });
    }
    if random.chance(10) {
        commit.items_dropped.push(random.below(3));
    }
    if random.chance(20) {
        let id: Arc<str> = format!("m{}", random.below(20)).into();
        commit.outbox.push(OutboxRow { id, target: run.id.clone(), message: make::json("{\"z\":1,\"a\":2}") });
    }
    if random.chance(20) {
        commit.outbox_done.push(format!("m{}", random.below(20)).into());
    }
    if random.chance(15) {
        commit.snapshot = Some(make::json(&format!("{{\"at\":{at}}}")));
    }
    if random.chance(10) {
        let large = make::json(&format!("\"{}\"", format!("{}", random.below(5)).repeat(5_000)));
        let (_, blob) = Payload::new(large);
        blobs.extend(blob.iter().map(|blob| blob.id.clone()));
        commit.blobs.extend(blob);
    }
    if commit.expected == 0 && random.chance(40) {
        let key = format!("k{}", random.below(6));
        commit.idempotency = Some(IdempotencyRow { key, request_hash: format!("h{}", random.below(2)) });
    }
    if commit.expected == 0 && random.chance(50) {
        commit.pins = vec![random.pick(&plugins::DIGESTS).into(), "d0".into()];
    }
    if random.chance(60) {
        let new = [Place::Begin { overtakes: false }, Place::Begin { overtakes: true }, Place::Wait { queued_max: 2 }];
        let place = if commit.expected == 0 { random.pick(&new) } else { Place::Admit };
        // One that does not wait is not admitted: the engine would refuse it.
        let waits = store.admissible(None, 50).await.expect("answers").contains(&run.id);
        if place != Place::Admit || waits {
            commit.admission = Some(Admission { key: "k".into(), limit: 2, place });
        }
    }
    let result = store.commit(Commit { ..commit }).await;
    match result {
        Ok(()) => {
            let id = run.id.clone();
            let row = store.run(&id).await.expect("answers").expect("was committed");
            runs.retain(|known| known.id != id);
            runs.push(row);
            runs.sort_by(|a, b| a.id.cmp(&b.id));
            "committed".to_owned()
        }
        Err(CommitError::Conflict) => "moved".to_owned(),
        Err(CommitError::Exists(run)) => format!("exists {run}"),
        Err(CommitError::KeyReused) => "key reused".to_owned(),
        Err(CommitError::NoRoom) => "no room".to_owned(),
        Err(CommitError::QueueFull) => "queue full".to_owned(),
        Err(CommitError::Store(StoreError::Other(_))) => "unsound".to_owned(),
        Err(CommitError::Store(error)) => panic!("{error}"),
    }
}

fn new_run(random: &mut Random) -> RunRow {
    let mut run = make::run(&format!("r{}", random.below(12)), random.time());
    run.realm = random.pick(&[make::realm(), make::realm(), Realm::new("acme", "staging")]);
    run.workflow_id = random.pick(&["triage".into(), "other".into()]);
    run.project_id = random.pick(&[None, Some("p".to_owned())]);
    run.parent = random.pick(&[None, Some((RunId::new("r1"), 1))]);
    run
}

/// What the relay and the scheduler see.
async fn see_work(store: &dyn Whole, out: &mut String) {
    let _ = writeln!(out, "ready {:?}", store.ready(50).await.expect("answers"));
    let _ = writeln!(out, "claimed {:?}", store.claimed_by_others("h1", 50).await.expect("answers"));
    let _ = writeln!(out, "due {:?}", store.due_timers(Timestamp(6_000), 50).await.expect("answers"));
    let _ = writeln!(out, "next {:?}", store.next_timer().await.expect("answers"));
    let _ = writeln!(out, "outbox {:?}", store.outbox(50).await.expect("answers"));
    let _ = writeln!(out, "admissible {:?}", store.admissible(None, 50).await.expect("answers"));
    for workflow in ["triage", "other"] {
        let of = SlotKey { realm: make::realm(), workflow: workflow.into(), key: "k".into() };
        let _ = writeln!(out, "admitted {:?}", store.admitted(&of, 50).await.expect("answers"));
    }
    let _ = writeln!(out, "backlog {:?}", store.backlog(7).await.expect("answers"));
    let _ = writeln!(out, "latest {:?}", store.latest_time().await.expect("answers"));
}

/// What everybody else sees.
async fn see_all(store: &dyn Whole, out: &mut String, blobs: &[BlobRef]) {
    let page = make::page(7);
    for environment in [None, Some("default"), Some("staging")] {
        let mut rest = page.clone();
        loop {
            let found = store.runs("acme", environment, &RunFilter::default(), &rest).await.expect("answers");
            let _ = writeln!(out, "runs {environment:?} {:?}", found.items);
            rest.cursor = found.next;
            if rest.cursor.is_none() {
                break;
            }
        }
        for status in RunStatus::ALL {
            let filter =
                RunFilter { status: vec![*status], workflow: Some("triage".to_owned()), ..RunFilter::default() };
            let found = store.runs("acme", environment, &filter, &page).await.expect("answers");
            let ids: Vec<_> = found.items.iter().map(|run| run.id.as_str()).collect();
            let _ = writeln!(out, "{status} {ids:?} {:?}", found.next);
        }
        let filter = ApprovalFilter { run: None, status: Some(ApprovalStatus::Pending) };
        let _ = writeln!(out, "{:?}", store.approvals("acme", environment, &filter, &page).await.expect("answers"));
    }
    for number in 0..12 {
        let id = RunId::new(format!("r{number}"));
        let _ = writeln!(out, "{:?}", store.load(&id).await.expect("answers"));
        let _ = writeln!(out, "{:?}", store.events(&id, 2, 5).await.expect("answers"));
        let _ = writeln!(out, "{:?}", store.steps(&id, &make::page(2)).await.expect("answers"));
        let _ = writeln!(out, "{:?}", store.items(&id, 1).await.expect("answers"));
        let _ = writeln!(out, "{:?}", store.logs(&id, None, &page).await.expect("answers").items);
    }
    for stage in [Stage::Whole, Stage::Erased] {
        let found = store.ended(&make::realm(), "triage", stage, Timestamp(i64::MAX), 50).await;
        let _ = writeln!(out, "{stage:?} {:?}", found.expect("answers"));
    }
    for key in 0..6 {
        let _ = writeln!(out, "{:?}", store.run_by_key(&format!("k{key}")).await.expect("answers"));
    }
    for realm in [make::realm(), Realm::new("acme", "staging")] {
        let filter = DefinitionFilter::default();
        let _ = writeln!(out, "{:?}", store.definitions(&realm, &filter, &page).await.expect("answers"));
        for workflow in ["triage", "other"] {
            let _ = writeln!(out, "{:?}", store.versions(&realm, workflow, &page).await.expect("answers"));
            let stats = store.run_stats(&realm, workflow, Timestamp(5_000)).await.expect("answers");
            // Sums of doubles may differ in the last bit.
            let round = |value: Option<f64>| value.map(|value| format!("{value:.6}"));
            let rest = (round(stats.success_rate), round(stats.avg_ms));
            let _ = writeln!(out, "{:?} {} {rest:?}", stats.last_run_at, stats.runs);
        }
    }
    let _ = writeln!(out, "{:?}", store.blobs(blobs).await.expect("answers"));
}
