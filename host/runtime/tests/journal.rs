//! A step whose host dies goes on from its journal: nothing that was recorded is done again, and the guest sees what it
//! saw before.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use caisson_core::error::Category;
use caisson_core::ids::{Realm, StepId};
use caisson_core::ports::{ActionRunner, Invocation, Journal, KvScope, Secret, Secrets};
use caisson_runtime::{Runtime, RuntimeConfig};
use serde_json::{Value, json};
use support::dying::Dying;
use support::{done, failure, invocation, start, wat};

/// Sets ten keys to its input and answers with two random numbers and two readings of the clock, one pair before and
/// one after.
const GUEST: &str = r"
    (func $main (param $call i32) (local $at i32)
      (call $hex (call $random_u64) (i32.const 1025))
      (call $hex (call $now) (i32.const 1041))
      (loop $again
        (i32.store8 (i32.const 1000) (i32.add (i32.const 97) (local.get $at)))
        (call $kv_set (i32.const 1000) (i32.const 1)
          (i32.load (i32.add (local.get $call) (i32.const 16))) (i32.load (i32.add (local.get $call) (i32.const 20)))
          (i32.const 2048))
        (if (i32.load8_u (i32.const 2048)) (then (unreachable)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $at) (i32.const 10))))
      (call $hex (call $random_u64) (i32.const 1057))
      (call $hex (call $now) (i32.const 1073))
      (i32.store8 (i32.const 1024) (i32.const 34))
      (i32.store8 (i32.const 1089) (i32.const 34))
      (call $done (i32.const 1024) (i32.const 66)))";

async fn host(journal: Arc<Dying>) -> Runtime {
    let config = RuntimeConfig { journal, random_key: [7; 32], ..RuntimeConfig::default() };
    let runtime = tokio::task::spawn_blocking(|| start(config)).await.expect("the runtime starts");
    let package = wat::package("keeper", "1", "capabilities = [\"kv\"]", GUEST);
    support::load(&runtime, &package, &["kv"]).await.expect("it loads");
    runtime
}

fn call(runtime: &Runtime, claim: u32, input: &Value) -> Invocation {
    Invocation { claim: Some(claim), ..invocation(runtime, "keeper.go", input) }
}

async fn stop(runtime: Runtime) {
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}

#[tokio::test]
async fn no_recorded_call_is_made_again() {
    for appends in 0..10 {
        let journal = Arc::new(Dying::after(appends));
        let first = host(Arc::clone(&journal)).await;
        tokio::select! {
            entry = first.run(call(&first, 1, &json!("x"))) => panic!("it ended: {entry:?}"),
            () = journal.died.notified() => {}
        }
        stop(first).await;
        assert_eq!(*journal.appended.lock(), (0..appends).collect::<Vec<_>>());

        journal.left.store(u32::MAX, Ordering::SeqCst);
        let second = host(Arc::clone(&journal)).await;
        done(&second.run(call(&second, 2, &json!("x"))).await);
        assert_eq!(*journal.appended.lock(), (0..10).collect::<Vec<_>>(), "each once");
        let scope =
            KvScope { realm: Realm::new("tenant", "default"), plugin: "keeper".into(), workflow: "workflow".into() };
        assert_eq!(journal.kv_keys(&scope, "", 100).await.expect("keys").len(), 10);
        stop(second).await;
    }
}

#[tokio::test]
async fn an_entry_that_is_run_again_sees_the_same_times_and_random_numbers() {
    let journal = Arc::new(Dying::after(u32::MAX));
    let first = host(Arc::clone(&journal)).await;
    let seen = done(&first.run(call(&first, 1, &json!("x"))).await);
    stop(first).await;
    let second = host(Arc::clone(&journal)).await;
    assert_eq!(done(&second.run(call(&second, 2, &json!("x"))).await), seen);
    assert_eq!(journal.appended.lock().len(), 10, "nothing was done again");

    // Other entries and attempts see others.
    for other in [
        Invocation { attempt: 2, ..call(&second, 2, &json!("x")) },
        Invocation { entry: 1, ..call(&second, 2, &json!("x")) },
        Invocation { step: StepId::new("other"), number: 2, ..call(&second, 2, &json!("x")) },
    ] {
        assert_ne!(
            done(&second.run(other).await).as_str().map(|text| &text[..16]),
            seen.as_str().map(|text| &text[..16])
        );
    }
    stop(second).await;
}

#[tokio::test]
async fn a_guest_that_asks_for_something_else_has_lost_its_way() {
    let journal = Arc::new(Dying::after(u32::MAX));
    let runtime = host(Arc::clone(&journal)).await;
    done(&runtime.run(call(&runtime, 1, &json!("x"))).await);
    let entry = runtime.run(call(&runtime, 2, &json!("y"))).await;
    let lost = failure(&entry);
    assert_eq!((lost.code.as_str(), lost.category), ("JOURNAL_MISMATCH", Category::ActionError));
    assert!(lost.message.contains("call 1 was kv.set"), "{}", lost.message);
    assert!(entry.usage.cpu_us > 0, "usage is counted on failure too");
    stop(runtime).await;
}

#[tokio::test]
async fn a_step_that_another_host_took_ends_here() {
    let journal = Arc::new(Dying { superseded_at: 3, ..Dying::after(u32::MAX) });
    let runtime = host(Arc::clone(&journal)).await;
    let entry = runtime.run(call(&runtime, 1, &json!("x"))).await;
    assert_eq!(
        (failure(&entry).code.as_str(), failure(&entry).category),
        ("STEP_SUPERSEDED", Category::TransientError)
    );
    assert_eq!(*journal.appended.lock(), [0, 1, 2]);
    stop(runtime).await;
}

#[tokio::test]
async fn without_a_claim_nothing_is_recorded_and_effects_happen() {
    let journal = Arc::new(Dying::after(0));
    let runtime = host(Arc::clone(&journal)).await;
    done(&runtime.run(invocation(&runtime, "keeper.go", &json!("x"))).await);
    let scope =
        KvScope { realm: Realm::new("tenant", "default"), plugin: "keeper".into(), workflow: "workflow".into() };
    assert_eq!(journal.kv_get(&scope, "a").await.expect("a value"), Some(b"\"x\"".to_vec()));
    stop(runtime).await;
}

struct OneSecret;

impl Secrets for OneSecret {
    fn get(&self, realm: &Realm, name: &str) -> Option<Secret> {
        (*realm == support::realm() && name == "TOKEN").then(|| Secret::new("hunter22"))
    }
}

#[tokio::test]
async fn a_secret_is_hidden_in_results_and_refused_in_states() {
    let read = r#"(data (i32.const 1024) "TOKEN")
        (func $read
          (call $secret (i32.const 1024) (i32.const 5) (i32.const 2048))
          (if (i32.load8_u (i32.const 2048)) (then (unreachable)))
          (i32.store8 (i32.const 1100) (i32.const 34))
          (memory.copy (i32.const 1101) (i32.load (i32.const 2056)) (i32.const 8))
          (i32.store8 (i32.const 1109) (i32.const 34)))"#;
    let tell = "(func $main (param $call i32) (call $read) (call $log (i32.const 2) (i32.const 1100) (i32.const 10) (i32.const 0) (i32.const 0) (i32.const 0)) (call $done (i32.const 1100) (i32.const 10)))";
    let keep =
        "(func $main (param $call i32) (call $read) (call $suspend (i32.const 1100) (i32.const 10) (i64.const 1000)))";
    let config =
        RuntimeConfig { secrets: Arc::new(OneSecret), log_sink: support::lines().clone(), ..RuntimeConfig::default() };
    let runtime = tokio::task::spawn_blocking(|| start(config)).await.expect("the runtime starts");
    for (id, guest) in [("teller", tell), ("hoarder", keep)] {
        let package = wat::package(id, "1", "capabilities = [\"secrets:TOKEN\"]", &format!("{read}{guest}"));
        support::load(&runtime, &package, &["secrets"]).await.expect("it loads");
    }
    let step = Invocation { step: StepId::new("telling"), ..invocation(&runtime, "teller.go", &Value::Null) };
    assert_eq!(done(&runtime.run(step).await), json!("[secret:TOKEN]"));
    assert_eq!(support::lines().of("telling"), ["\"[secret:TOKEN]\""]);
    let entry = runtime.run(invocation(&runtime, "hoarder.go", &Value::Null)).await;
    assert_eq!((failure(&entry).code.as_str(), failure(&entry).category), ("SECRET_IN_STATE", Category::PolicyError));
    assert!(failure(&entry).message.contains("'TOKEN'"), "{}", failure(&entry).message);
    stop(runtime).await;
}
