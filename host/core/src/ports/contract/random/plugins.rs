//! Random records, effects and plugins.

use std::fmt::Write;

use bytes::Bytes;

use super::super::{Whole, make};
use super::{Random, answer};
use crate::ids::{Realm, RunId};
use crate::ports::{Effect, EntryKey, JournalError, KvScope, PluginRow, StoreError};
use crate::time::Timestamp;

/// Digests that plugins have, and runs pin.
pub(super) const DIGESTS: [&str; 4] = ["d0", "d1", "d2", "d3"];

fn realms() -> [Realm; 2] {
    [make::realm(), Realm::new("acme", "staging")]
}

fn scopes() -> [KvScope; 2] {
    realms().map(|realm| KvScope { realm, ..make::scope() })
}

/// One operation.
pub(super) async fn play(store: &dyn Whole, random: &mut Random) -> String {
    match random.below(10) {
        0..=4 => {
            let small = |random: &mut Random, limit| u32::try_from(random.below(limit)).unwrap_or(0);
            let entry = EntryKey {
                run: RunId::new(format!("r{}", random.below(12))),
                step: 1 + random.below(3),
                attempt: 1,
                entry: small(random, 2),
                claim: small(random, 3),
            };
            let (number, effects) = (small(random, 3), effects(random));
            let record = make::record(random.pick(&["1", "1.0", "null"]));
            appended(&store.append(&entry, number, &record, &effects).await)
        }
        5 | 6 => appended(&store.apply(&effects(random)).await),
        7 => {
            let mut row = make::plugin(random.pick(&["notify", "other"]), random.pick(&DIGESTS), random.time());
            row.realm = random.pick(&realms());
            row.decided_at = random.chance(30).then(|| Timestamp(random.time()));
            answer(&store.save_plugins(&[row]).await)
        }
        8 => {
            let digest = random.pick(&DIGESTS);
            answer(&store.put_component(digest, &Bytes::from_static(digest.as_bytes())).await)
        }
        _ => {
            let digests = [random.pick(&DIGESTS).into(), random.pick(&DIGESTS).into()];
            answer(&store.delete_plugin(&random.pick(&realms()), random.pick(&["notify", "other"]), &digests).await)
        }
    }
}

fn effects(random: &mut Random) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..random.below(4) {
        let (scope, key) = (random.pick(&scopes()), random.pick(&["a", "ab", "b", "c"]));
        let mut run = make::run(&format!("r{}", random.below(12)), 1_000);
        run.realm = random.pick(&realms());
        let (id, at) = (format!("x{}", random.below(9)), random.time());
        effects.push(match random.below(6) {
            0..=2 => {
                let value = "v".repeat(usize::try_from(random.below(6)).unwrap_or(0));
                make::set_within(&scope, key, value.as_bytes(), random.pick(&[2, 9, 9]), random.pick(&[5, 9, 99]))
            }
            3 => Effect::DeleteKey { scope, key: key.to_owned() },
            4 => Effect::Emit(make::emitted(&run, &id, random.pick(&["n", "m"]), at)),
            _ => Effect::Artifact(make::artifact(&run, &id, at)),
        });
    }
    effects
}

/// A quota's message is part of the contract: the guest sees it.
fn appended(result: &Result<(), JournalError>) -> String {
    match result {
        Ok(()) => "appended".to_owned(),
        Err(JournalError::Superseded) => "superseded".to_owned(),
        Err(JournalError::Quota(message)) => message.clone(),
        Err(JournalError::Store(StoreError::Other(_))) => "unsound".to_owned(),
        Err(JournalError::Store(error)) => panic!("{error}"),
    }
}

/// All that is visible.
pub(super) async fn see(store: &dyn Whole, out: &mut String) {
    for number in 0..12 {
        let run = make::run(&format!("r{number}"), 1_000);
        for (step, entry) in [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)] {
            let entry = EntryKey { entry, ..make::entry(&run, step) };
            let _ = writeln!(out, "{:?}", store.records(&entry).await.expect("answers"));
        }
        // What a cursor holds is each store's own.
        let files = store.artifacts(&run.id, None, &make::page(2)).await.expect("answers");
        let _ = writeln!(out, "{:?} {}", files.items, files.next.is_some());
        let of_run = store.emitted("acme", None, Some(&run.id), None, &make::page(2)).await.expect("answers");
        let _ = writeln!(out, "{:?} {}", of_run.items, of_run.next.is_some());
    }
    for scope in scopes() {
        for key in store.kv_keys(&scope, "a", 9).await.expect("answers") {
            let _ = writeln!(out, "{key} {:?}", store.kv_get(&scope, &key).await.expect("answers"));
        }
        let _ = writeln!(out, "{:?}", store.kv_keys(&scope, "", 9).await.expect("answers"));
    }
    for environment in [None, Some("default"), Some("staging")] {
        for name in [None, Some("n")] {
            let found = store.emitted("acme", environment, None, name, &make::page(5)).await.expect("answers");
            let _ = writeln!(out, "emitted {environment:?} {name:?} {:?} {}", found.items, found.next.is_some());
        }
    }
    for realm in realms() {
        for id in ["notify", "other"] {
            let _ = writeln!(out, "{id} {:?}", store.plugin(&realm, id).await.expect("answers"));
        }
        for digest in DIGESTS {
            let _ = writeln!(out, "{digest} {:?}", store.pinned_by(&realm, digest, 9).await.expect("answers"));
        }
    }
    for digest in DIGESTS {
        let _ = writeln!(out, "{digest} {:?}", store.component(digest).await.expect("answers"));
    }
    let mut all: Vec<PluginRow> = store.all_plugins().await.expect("answers");
    all.sort_by_key(|row| (row.realm.clone(), row.package.id.clone(), row.package.digest.clone()));
    let _ = writeln!(out, "{all:?}");
}
