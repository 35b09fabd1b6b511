//! What a store does that serves several hosts: leases by its own clock, claims that are lost with them, runs that somebody moves, inboxes,
//! and work that is taken for a while.
//!
//! Time: `advance` lets so many milliseconds of the store's clock pass. A store with a virtual clock moves it; with a real one it waits. What
//! must not be over is given a minute, what must be over a millisecond, and then the check waits until it is.
//!
//! Deliberately absent: several stores on one database, and what becomes of hints between them: that is each adapter's own test.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use super::{make, side_by_side};
use crate::engine::StepNo;
use crate::ids::RunId;
use crate::ports::{
    Beat, Claim, Cluster, Commit, CommitError, HostRow, InboxRow, NewResource, OutboxRow, PluginStore, Pulse,
    ResourceKey, ResourceKind, Resources, RunLease, RunRow, StepRow, Store,
};
use crate::status::RunStatus;
use crate::time::Timestamp;

/// Outlasts every check.
const LONG_MS: u64 = 60_000;
/// Is over at the next look, or soon after.
const SHORT_MS: u64 = 1;
/// How far one look is from the next.
const LOOK_MS: u64 = 5;
/// What has not happened after so many looks never will: five seconds.
const LOOKS_MAX: u32 = 1_000;

/// Checks a kind of store. `make` gives an empty one, `advance` lets milliseconds of its clock pass.
pub async fn check_cluster<T: Store + Cluster + PluginStore + Resources>(
    make: impl AsyncFn() -> Arc<T>,
    advance: impl AsyncFn(u64),
) {
    macro_rules! run {
        ($($check:ident),* $(,)?) => {
            $({
                let store = make().await;
                $check(&*store, &advance).await;
                store.close().await;
            })*
        };
    }
    run!(
        a_host_is_seen_with_what_it_said_last,
        a_host_that_nobody_knows_must_begin,
        a_lease_that_is_over_is_not_renewed,
        a_host_that_left_is_gone_at_once,
        a_beat_tells_what_the_host_holds,
        claims_of_hosts_that_are_not_alive_are_lost,
        a_run_is_held_until_it_is_released_or_ends,
        a_dead_host_holds_no_run,
        results_wait_in_the_inbox_of_a_host_oldest_first,
        the_inbox_of_a_dead_host_is_anybodys,
        an_inbox_row_goes_with_the_commit_that_takes_it_in,
        a_timer_that_was_taken_is_held_for_a_while,
        a_timer_that_is_moved_is_no_longer_held,
        a_message_that_was_taken_is_held_for_a_while,
        messages_to_one_run_never_overtake_each_other,
        nothing_is_given_to_two_at_once,
        whoever_waits_is_told_what_others_left,
        whoever_waits_is_told_that_the_catalog_changed,
        a_secret_is_the_same_for_all_hosts,
    );
}

/// What a host says with a beat.
fn beat(id: &str, first: bool, lease_ms: u64) -> Beat {
    Beat {
        id: id.into(),
        name: format!("machine of {id}").into(),
        version: "1.2.3".into(),
        slots: 8,
        running: 3,
        draining: false,
        first,
        lease_ms,
    }
}

/// The store's time and the host's claims, of a beat that is taken.
async fn alive(store: &impl Cluster, beat: &Beat) -> (Timestamp, Vec<Claim>) {
    match store.beat(beat).await.expect("answers") {
        Pulse::Alive { now, claims } => (now, claims),
        Pulse::Expired => panic!("{} is refused", beat.id),
    }
}

async fn begin(store: &impl Cluster, id: &str) {
    alive(store, &beat(id, true, LONG_MS)).await;
}

/// Lets a host's lease end: it beats once more for a moment, and is looked at until that is over.
async fn die(store: &impl Cluster, id: &str, advance: &impl AsyncFn(u64)) {
    for _ in 0..LOOKS_MAX {
        if store.beat(&beat(id, false, SHORT_MS)).await.expect("answers") == Pulse::Expired {
            return;
        }
        advance(LOOK_MS).await;
    }
    panic!("the lease of {id} does not end");
}

async fn host(store: &impl Cluster, id: &str) -> Option<HostRow> {
    store.hosts().await.expect("answers").into_iter().find(|host| &*host.id == id)
}

/// Asks until there is something.
async fn until<T>(advance: &impl AsyncFn(u64), ask: impl AsyncFn() -> Vec<T>) -> Vec<T> {
    for _ in 0..LOOKS_MAX {
        let found = ask().await;
        if !found.is_empty() {
            return found;
        }
        advance(LOOK_MS).await;
    }
    panic!("nothing comes");
}

async fn run_with(store: &impl Store, id: &str, steps: Vec<StepRow>) -> RunRow {
    let mut run = make::run(id, 1_000);
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    run
}

fn claim(run: &str, step: StepNo, claim: u32) -> Claim {
    Claim { run: RunId::new(run), step, claim }
}

fn left(id: &str, run: &str, host: &str) -> InboxRow {
    InboxRow {
        id: id.into(),
        run: RunId::new(run),
        host: host.into(),
        stimulus: make::json("{ \"b\": 1.0, \"a\": \"\\u0000\" }"),
    }
}

fn message(id: &str, target: &str) -> OutboxRow {
    OutboxRow { id: id.into(), target: RunId::new(target), message: make::json("{ \"n\": 1e2 }") }
}

async fn send(store: &impl Store, run: &mut RunRow, outbox: Vec<OutboxRow>) {
    store.commit(Commit { outbox, ..make::commit(run, 1, 1_000) }).await.expect("commits");
}

async fn take(store: &impl Cluster, hold_ms: u64) -> Vec<String> {
    let taken = store.take_outbox(100, hold_ms).await.expect("answers");
    taken.iter().map(|message| message.id.to_string()).collect()
}

async fn take_keys(store: &impl Cluster, now: i64, hold_ms: u64) -> Vec<String> {
    let taken = store.take_timers(Timestamp(now), 100, hold_ms).await.expect("answers");
    taken.iter().map(|timer| timer.key.to_string()).collect()
}

async fn inbox(store: &impl Cluster, host: &str) -> Vec<String> {
    let rows = store.inbox(host, 100).await.expect("answers");
    rows.iter().map(|row| row.id.to_string()).collect()
}

async fn holder(store: &impl Store, run: &RunRow) -> Option<Arc<str>> {
    store.load(&run.id).await.expect("answers").expect("is there").holder
}

async fn a_host_is_seen_with_what_it_said_last(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    assert!(store.hosts().await.expect("answers").is_empty());
    begin(store, "h2").await;
    begin(store, "h1").await;
    let before = host(store, "h1").await.expect("is there");
    assert_eq!((before.slots, before.running, before.draining), (8, 3, false));
    assert_eq!((&*before.name, &*before.version), ("machine of h1", "1.2.3"));
    assert_eq!(before.started_at, before.seen_at);
    assert_eq!(before.lease_until.0 - before.seen_at.0, LONG_MS.cast_signed());
    advance(LOOK_MS).await;
    let again = Beat { slots: 4, running: 0, draining: true, ..beat("h1", false, 2 * LONG_MS) };
    let (now, _) = alive(store, &again).await;
    let after = host(store, "h1").await.expect("is there");
    assert_eq!((after.slots, after.running, after.draining), (4, 0, true));
    assert_eq!(after.started_at, before.started_at);
    assert!(after.seen_at > before.seen_at && after.seen_at <= now, "{after:?} at {now:?}");
    assert_eq!(after.lease_until.0 - after.seen_at.0, 2 * LONG_MS.cast_signed());
    let ids: Vec<_> = store.hosts().await.expect("answers").into_iter().map(|host| host.id).collect();
    assert_eq!(ids.iter().map(|id| &**id).collect::<Vec<_>>(), ["h1", "h2"]);
}

async fn a_host_that_nobody_knows_must_begin(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    assert_eq!(store.beat(&beat("h1", false, LONG_MS)).await.expect("answers"), Pulse::Expired);
    assert!(store.hosts().await.expect("answers").is_empty(), "a refused beat leaves nothing");
    begin(store, "h1").await;
    alive(store, &beat("h1", false, LONG_MS)).await;
}

async fn a_lease_that_is_over_is_not_renewed(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    begin(store, "h2").await;
    die(store, "h1", advance).await;
    for _ in 0..2 {
        assert_eq!(store.beat(&beat("h1", false, LONG_MS)).await.expect("answers"), Pulse::Expired);
    }
    assert!(host(store, "h1").await.is_some(), "people see it for a day");
    alive(store, &beat("h2", false, LONG_MS)).await;
    // It begins anew under another id.
    begin(store, "h1b").await;
    alive(store, &beat("h1b", false, LONG_MS)).await;
}

async fn a_host_that_left_is_gone_at_once(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    run_with(store, "r", vec![make::claimed(1, "h1")]).await;
    assert!(store.lost_claims(10).await.expect("answers").is_empty());
    store.leave("h1").await.expect("leaves");
    store.leave("nobody").await.expect("is fine");
    assert_eq!(store.lost_claims(10).await.expect("answers"), [claim("r", 1, 1)]);
    assert_eq!(store.beat(&beat("h1", false, LONG_MS)).await.expect("answers"), Pulse::Expired);
}

async fn a_beat_tells_what_the_host_holds(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    run_with(store, "b", vec![make::claimed(2, "h1"), make::claimed(1, "h2"), make::ready(3, 1_000)]).await;
    let third = StepRow { claim: 3, ..make::claimed(10, "h1") };
    let mut run = run_with(store, "a", vec![third, make::claimed(9, "h1")]).await;
    let (_, claims) = alive(store, &beat("h1", false, LONG_MS)).await;
    assert_eq!(claims, [claim("a", 9, 1), claim("a", 10, 3), claim("b", 2, 1)]);
    // Cancelled: the host hears so by its absence.
    let steps = vec![StepRow { claim: 3, ..make::step(10) }];
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    let (_, claims) = alive(store, &beat("h1", false, LONG_MS)).await;
    assert_eq!(claims, [claim("a", 9, 1), claim("b", 2, 1)]);
}

async fn claims_of_hosts_that_are_not_alive_are_lost(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    begin(store, "h2").await;
    run_with(store, "q", vec![make::claimed(1, "h1"), make::claimed(2, "h2"), make::ready(3, 1_000)]).await;
    let mut run = run_with(store, "p", vec![StepRow { claim: 5, ..make::claimed(7, "never seen") }]).await;
    assert_eq!(store.lost_claims(10).await.expect("answers"), [claim("p", 7, 5)]);
    die(store, "h1", advance).await;
    assert_eq!(store.lost_claims(10).await.expect("answers"), [claim("p", 7, 5), claim("q", 1, 1)]);
    assert_eq!(store.lost_claims(1).await.expect("answers"), [claim("p", 7, 5)]);
    let steps = vec![StepRow { claim: 6, ..make::claimed(7, "h2") }];
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    assert_eq!(store.lost_claims(10).await.expect("answers"), [claim("q", 1, 1)]);
}

async fn a_run_is_held_until_it_is_released_or_ends(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    begin(store, "h2").await;
    let mut run = run_with(store, "r", Vec::new()).await;
    assert_eq!(holder(store, &run).await, None);
    let hold = |host: &str| RunLease::Hold(host.into());
    for (lease, then) in [
        (hold("h1"), Some("h1")),
        (RunLease::Keep, Some("h1")),
        (hold("h2"), Some("h2")),
        (RunLease::Release, None),
        (RunLease::Keep, None),
        (hold("nobody"), None),
        (hold("h1"), Some("h1")),
    ] {
        let commit = Commit { lease: lease.clone(), ..make::commit(&mut run, 1, 1_000) };
        store.commit(commit).await.expect("commits");
        assert_eq!(holder(store, &run).await.as_deref(), then, "{lease:?}");
    }
    let stale = Commit { lease: hold("h2"), ..make::commit(&mut RunRow { version: 1, ..run.clone() }, 1, 1_000) };
    assert!(matches!(store.commit(stale).await, Err(CommitError::Conflict)));
    assert_eq!(holder(store, &run).await.as_deref(), Some("h1"), "what is refused changes nothing");
    run.status = RunStatus::Completed;
    store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
    assert_eq!(holder(store, &run).await, None, "nobody moves a run that has ended");
    let mut made = make::run("made", 1_000);
    store.commit(Commit { lease: hold("h2"), ..make::commit(&mut made, 1, 1_000) }).await.expect("commits");
    assert_eq!(holder(store, &made).await.as_deref(), Some("h2"), "from its first commit on");
}

async fn a_dead_host_holds_no_run(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    let mut run = make::run("r", 1_000);
    let lease = RunLease::Hold("h1".into());
    store.commit(Commit { lease, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    assert_eq!(holder(store, &run).await.as_deref(), Some("h1"));
    die(store, "h1", advance).await;
    assert_eq!(holder(store, &run).await, None);
}

async fn results_wait_in_the_inbox_of_a_host_oldest_first(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    for id in ["h1", "h2"] {
        begin(store, id).await;
    }
    store.inbox_put(&[left("z", "r", "h1"), left("y", "q", "h2")]).await.expect("puts");
    store.inbox_put(&[left("a", "q", "h1"), left("z", "r", "h1")]).await.expect("puts");
    store.inbox_put(&[]).await.expect("is fine");
    let rows = store.inbox("h1", 10).await.expect("answers");
    assert_eq!(rows, [left("z", "r", "h1"), left("a", "q", "h1")], "each once, byte for byte");
    assert_eq!(store.inbox("h1", 1).await.expect("answers"), [left("z", "r", "h1")]);
    assert_eq!(inbox(store, "h2").await, ["y"]);
    store.inbox_delete(&["z".into(), "nobody".into()]).await.expect("deletes");
    assert_eq!(inbox(store, "h1").await, ["a"]);
    assert_eq!(inbox(store, "h2").await, ["y"]);
}

async fn the_inbox_of_a_dead_host_is_anybodys(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    for id in ["h1", "h2", "h3"] {
        begin(store, id).await;
    }
    let rows = [left("1", "r", "h1"), left("2", "r", "h2"), left("3", "r", "never seen"), left("4", "r", "h1")];
    store.inbox_put(&rows).await.expect("puts");
    assert_eq!(inbox(store, "h2").await, ["2", "3"]);
    die(store, "h1", advance).await;
    assert_eq!(inbox(store, "h2").await, ["1", "2", "3", "4"]);
    assert_eq!(inbox(store, "h3").await, ["1", "3", "4"]);
}

async fn an_inbox_row_goes_with_the_commit_that_takes_it_in(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    let mut run = run_with(store, "r", Vec::new()).await;
    store.inbox_put(&[left("1", "r", "h1"), left("2", "r", "h1")]).await.expect("puts");
    let inbox_done: Vec<Arc<str>> = vec!["1".into()];
    let stale = Commit { inbox_done: inbox_done.clone(), ..make::commit(&mut make::run("r", 1_000), 1, 1_000) };
    assert!(matches!(store.commit(stale).await, Err(CommitError::Exists(_))));
    assert_eq!(inbox(store, "h1").await, ["1", "2"], "a refused commit takes nothing in");
    store.commit(Commit { inbox_done, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    assert_eq!(inbox(store, "h1").await, ["2"]);
    let alone = Commit { inbox_done: vec!["2".into()], ..Commit::default() };
    store.commit(alone).await.expect("commits");
    assert!(inbox(store, "h1").await.is_empty(), "without a run as well");
}

async fn a_timer_that_was_taken_is_held_for_a_while(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    let mut run = make::run("r", 1_000);
    let due = [("c", 3_000), ("b", 2_000), ("a", 2_500)];
    let timers_set = due.iter().map(|(key, due)| make::timer(&run, key, *due)).collect();
    store.commit(Commit { timers_set, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    assert!(take_keys(store, 1_999, LONG_MS).await.is_empty());
    let one = store.take_timers(Timestamp(2_500), 1, SHORT_MS).await.expect("answers");
    assert_eq!(one, [make::timer(&run, "b", 2_000)]);
    assert_eq!(take_keys(store, 2_500, LONG_MS).await.last().map(String::as_str), Some("a"));
    assert_eq!(
        until(advance, async || take_keys(store, 3_000, LONG_MS).await).await.last().map(String::as_str),
        Some("c")
    );
    let timers_cleared = vec!["c".into(), "a".into()];
    store.commit(Commit { timers_cleared, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    let still: Vec<_> = store.due_timers(Timestamp(9_000), 10).await.expect("answers");
    assert_eq!(still, [make::timer(&run, "b", 2_000)], "to take is not to clear");
}

async fn a_timer_that_is_moved_is_no_longer_held(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    let mut run = make::run("r", 1_000);
    for due in [1_000, 2_000] {
        let timers_set = vec![make::timer(&run, "t", due)];
        store.commit(Commit { timers_set, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
        assert_eq!(take_keys(store, due, LONG_MS).await, ["t"]);
        assert!(take_keys(store, due, LONG_MS).await.is_empty());
    }
    // One whose host died with it comes again.
    let timers_set = vec![make::timer(&run, "t", 3_000)];
    store.commit(Commit { timers_set, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    assert_eq!(take_keys(store, 3_000, SHORT_MS).await, ["t"]);
    assert_eq!(until(advance, async || take_keys(store, 3_000, LONG_MS).await).await, ["t"]);
}

async fn a_message_that_was_taken_is_held_for_a_while(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    let mut run = run_with(store, "r", Vec::new()).await;
    send(store, &mut run, vec![message("z", "t1"), message("y", "t2"), message("a", "t1")]).await;
    let taken = store.take_outbox(100, SHORT_MS).await.expect("answers");
    assert_eq!(taken, [message("z", "t1"), message("y", "t2"), message("a", "t1")], "oldest first, byte for byte");
    assert_eq!(until(advance, async || take(store, LONG_MS).await).await, ["z", "y", "a"]);
    assert!(take(store, LONG_MS).await.is_empty());
    let outbox_done = vec!["z".into(), "y".into()];
    store.commit(Commit { outbox_done, ..Commit::default() }).await.expect("commits");
    let still = store.outbox(10).await.expect("answers");
    assert_eq!(still, [message("a", "t1")], "to take is not to deliver");
}

async fn messages_to_one_run_never_overtake_each_other(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    let mut run = run_with(store, "r", Vec::new()).await;
    send(store, &mut run, vec![message("1", "t1")]).await;
    assert_eq!(take(store, LONG_MS).await, ["1"]);
    send(store, &mut run, vec![message("2", "t1"), message("3", "t2")]).await;
    assert_eq!(take(store, SHORT_MS).await, ["3"], "the first one to t1 is under way");
    assert_eq!(until(advance, async || take(store, LONG_MS).await).await, ["3"]);
    store.outbox_delete(&["1".into()]).await.expect("deletes");
    assert_eq!(take(store, SHORT_MS).await, ["2"]);
    send(store, &mut run, vec![message("4", "t1")]).await;
    let again = until(advance, async || take(store, LONG_MS).await).await;
    assert_eq!(again, ["2", "4"], "the later one never goes alone");
}

async fn nothing_is_given_to_two_at_once(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    const THINGS: u64 = 40;
    const TAKERS: u32 = 4;
    let mut run = make::run("r", 1_000);
    let commit = Commit {
        steps: (1..=THINGS).map(|number| make::ready(number, 1_000)).collect(),
        timers_set: (0..THINGS).map(|n| make::timer(&run, &format!("{n:02}"), 1_000)).collect(),
        outbox: (0..THINGS).map(|n| message(&format!("{n:02}"), &format!("t{}", n % 7))).collect(),
        ..make::commit(&mut run, 1, 1_000)
    };
    store.commit(commit).await.expect("commits");
    let again = async || {
        let rows = store.redispatch(Timestamp(2_000), Timestamp(3_000), 100).await.expect("answers");
        rows.iter().map(|row| format!("{:02}", row.step)).collect::<Vec<_>>()
    };
    let steps = side_by_side((0..TAKERS).map(|_| again())).await;
    assert_each_once("a step is published", steps.concat(), THINGS);
    let timers = side_by_side((0..TAKERS).map(|_| take_keys(store, 1_000, LONG_MS))).await;
    assert_each_once("a timer is taken", timers.concat(), THINGS);
    let messages = side_by_side((0..TAKERS).map(|_| take(store, LONG_MS))).await;
    for taken in &messages {
        assert!(taken.is_sorted(), "a message overtakes another: {taken:?}");
    }
    // Whoever looked while others took may have seen only a part; nothing is lost for it.
    let rest = take(store, LONG_MS).await;
    assert_each_once("a message is taken", [messages.concat(), rest].concat(), THINGS);
}

fn assert_each_once(what: &str, mut taken: Vec<String>, count: u64) {
    taken.sort();
    let all = taken.len();
    taken.dedup();
    assert_eq!((taken.len(), all as u64), (all, count), "{what} exactly once");
}

async fn whoever_waits_is_told_what_others_left(store: &(impl Store + Cluster), advance: &impl AsyncFn(u64)) {
    begin(store, "h1").await;
    hint("a hurry", async || store.notified().await, advance, async |_| store.hurry().await.expect("hurries")).await;
    hint(
        "an inbox row",
        async || store.notified().await,
        advance,
        async |n| {
            store.inbox_put(&[left(&n.to_string(), "r", "h1")]).await.expect("puts");
        },
    )
    .await;
    hint(
        "a message",
        async || store.notified().await,
        advance,
        async |n| {
            let mut run = make::run(&format!("sends {n}"), 1_000);
            send(store, &mut run, vec![message(&n.to_string(), "t")]).await;
        },
    )
    .await;
    hint(
        "a timer",
        async || store.notified().await,
        advance,
        async |n| {
            let mut run = make::run(&format!("waits {n}"), 1_000);
            let timers_set = vec![make::timer(&run, "t", 1_000)];
            store.commit(Commit { timers_set, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
        },
    )
    .await;
}

async fn whoever_waits_is_told_that_the_catalog_changed(
    store: &(impl Cluster + PluginStore + Resources),
    advance: &impl AsyncFn(u64),
) {
    let key = ResourceKey { realm: make::realm(), kind: ResourceKind::Agent, name: "triage".into() };
    hint(
        "a plugin",
        async || store.catalog_changed().await,
        advance,
        async |n| {
            let row = make::plugin("notify", &format!("d{n}"), 1_000);
            store.put_component(&row.package.digest, &Bytes::from_static(b"code")).await.expect("puts");
            store.save_plugins(&[row]).await.expect("saves");
        },
    )
    .await;
    hint(
        "a plugin that goes",
        async || store.catalog_changed().await,
        advance,
        async |n| {
            store.delete_plugin(&make::realm(), "notify", &[format!("d{n}").into()]).await.expect("deletes");
        },
    )
    .await;
    hint(
        "an agent",
        async || store.catalog_changed().await,
        advance,
        async |n| {
            let (key, source) = (key.clone(), format!("version {n}").into());
            let new = NewResource { key, source, file: None, created_by: "ann".into(), at: Timestamp(1_000) };
            store.save_resource(new).await.expect("saves");
        },
    )
    .await;
    hint(
        "an agent that is disabled",
        async || store.catalog_changed().await,
        advance,
        async |n| {
            store.set_resource(&key, n % 2 == 1, Timestamp(2_000)).await.expect("sets");
        },
    )
    .await;
}

/// A hint may be lost, so the thing is left again and again until two have come: one may be of what was left before.
async fn hint(what: &str, told: impl AsyncFn(), advance: &impl AsyncFn(u64), leave: impl AsyncFn(u32)) {
    let leaving = async {
        for number in 0..LOOKS_MAX {
            leave(number).await;
            advance(LOOK_MS).await;
        }
    };
    let told = async {
        told().await;
        told().await;
    };
    let (mut told, mut leaving) = (Box::pin(told), Box::pin(leaving));
    let heard = std::future::poll_fn(|context| match (told.as_mut().poll(context), leaving.as_mut().poll(context)) {
        (Poll::Ready(()), _) => Poll::Ready(true),
        (Poll::Pending, Poll::Ready(())) => Poll::Ready(false),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    });
    assert!(heard.await, "nobody hears of {what}");
}

async fn a_secret_is_the_same_for_all_hosts(store: &(impl Store + Cluster), _: &impl AsyncFn(u64)) {
    let keys = side_by_side((1..=4).map(|byte| async move { store.shared_key("cookies", [byte; 32]).await })).await;
    let keys: Vec<[u8; 32]> = keys.into_iter().map(|key| key.expect("answers")).collect();
    assert!(keys.iter().all(|key| *key == keys[0] && key[0] != 0), "{keys:?}");
    assert_eq!(store.shared_key("cookies", [9; 32]).await.expect("answers"), keys[0]);
    assert_eq!(store.shared_key("other", [0xff; 32]).await.expect("answers"), [0xff; 32]);
}
