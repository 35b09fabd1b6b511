//! How long runs are kept, and what is left of them: data erased, runs deleted, and before that an archive which tells
//! all of it, whatever happens to the host or to the directory meanwhile.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use support::{Chance, Host, Setup, run_caisson};

const WORKFLOW: &str = "
id: order
states:
- {name: first, type: operation, action: core.echo, input: {word: '{{ word }}'}, next: second}
- {name: second, type: operation, action: script.run, input: {source: 'len(\"abc\")'}, resultPath: n, end: true}";

/// Runs that are archived while the host is killed.
const RUNS: u64 = 120;

/// A host that writes to the archive below the test's directory.
fn archiving(dir: &Path, retention: &[(&str, &str)]) -> Setup {
    let archive = dir.join("archive").display().to_string();
    let setup = Setup::new(dir).arg("--archive-dir", &archive);
    retention.iter().fold(setup, |setup, (name, value)| setup.arg(name, value))
}

/// All archives, by path.
fn archives(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.join("archive")];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.extend((name != ".partial").then(|| entry.path()));
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Exit code and what was written.
fn archive(args: &[&str]) -> (Option<i32>, String) {
    let output = run_caisson(&[&["archive"], args].concat());
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

fn verify(path: &Path) -> (Option<i32>, String) {
    archive(&["verify", path.to_str().unwrap()])
}

async fn is_erased(host: &Host, run: &str) -> bool {
    host.run(run).await["input"]["erased"] == json!(true)
}

#[tokio::test]
async fn a_finished_run_is_archived_then_erased_then_gone() {
    let dir = tempfile::tempdir().unwrap();
    let word = "sesame".repeat(2_000);
    let host = Setup::new(dir.path()).start().await;
    host.save(WORKFLOW).await;
    let run = host.start_run("order", json!({"word": word})).await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended}");
    let events = host.events(&run).await;
    let steps = host.steps(&run).await;
    assert_eq!(host.stop(), Some(0));

    let host = archiving(dir.path(), &[("--retain-payloads", "1s")]).start().await;
    host.until("its data is erased", async || is_erased(&host, &run).await).await;
    assert!(host.metric("caisson_runs_archived_total").await.unwrap() >= 1.0);
    let date = &ended["completedAt"].as_str().unwrap()[..10];
    let file = dir.path().join(format!("archive/default/default/order/{date}/{run}.jsonl"));
    assert_eq!(archives(dir.path()), std::slice::from_ref(&file));
    let written = lines(&file);
    let of = |kind: &str| written.iter().filter_map(|line| line.get(kind)).collect::<Vec<_>>();
    let head = &written[0]["archive"];
    assert_eq!(
        (&head["format"], &head["run"]["id"], &head["run"]["status"]),
        (&json!(1), &json!(run), &json!("COMPLETED"))
    );
    assert_eq!(of("definition").len(), 1);
    let kept: Vec<_> = of("event").iter().map(|event| event["hash"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kept, events.iter().map(|event| event.hash.to_string()).collect::<Vec<_>>());
    let names = |steps: &[&Value]| steps.iter().map(|step| step["state"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&of("step")), names(&steps.iter().collect::<Vec<_>>()));
    let value = &head["run"]["input"]["sha256"];
    let values: BTreeMap<_, _> =
        of("value").iter().map(|one| (one["sha256"].to_string(), one["json"].clone())).collect();
    assert_eq!(values[&value.to_string()], json!({"word": word}), "large values are there");
    let (code, text) = verify(&dir.path().join("archive"));
    assert_eq!((code, text.trim()), (Some(0), &*format!("1 run verified ({} events), 0 files damaged", events.len())));
    let (code, shown) = archive(&["show", file.to_str().unwrap(), "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (code, &shown["run"]["workflowId"], shown["steps"].as_array().unwrap().len()),
        (Some(0), &json!("order"), 2)
    );
    let (code, shown) = archive(&["show", file.to_str().unwrap()]);
    assert!(code == Some(0) && shown.contains("script.run") && shown.contains("COMPLETED"), "{shown}");
    assert_eq!(host.stop(), Some(0));

    let before = fs::read(&file).unwrap();
    let host = archiving(dir.path(), &[("--retain-runs", "1s")]).start().await;
    let path = format!("/workflow-runs/{run}");
    host.until("it is gone", async || host.send(Method::GET, &path, None).await.0 == 404).await;
    assert_eq!(fs::read(&file).unwrap(), before, "the archive of an erased run was written over");
    damage_is_found(dir.path(), &file);
}

/// A byte of an event is flipped, a file is cut off, and a directory has nothing in it.
fn damage_is_found(dir: &Path, file: &Path) {
    let whole = fs::read_to_string(file).unwrap();
    let (at, line) = whole.lines().enumerate().find(|(_, line)| line.contains("\"step.started\"")).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    let seq = event["event"]["seq"].as_u64().unwrap();
    let place = whole.find(line).unwrap() + line.find("\"attempt\":1").unwrap() + "\"attempt\":".len();
    let mut flipped = whole.clone().into_bytes();
    flipped[place] ^= 3;
    fs::write(file, flipped).unwrap();
    let (code, text) = verify(&dir.join("archive"));
    let expected = format!("{}: line {}: event {seq} does not match its hash", file.display(), at + 1);
    assert!(code == Some(1) && text.contains(&expected), "{text}");
    let (code, text) = archive(&["verify", file.to_str().unwrap(), "--json"]);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert!(code == Some(1) && found["problem"].as_str().unwrap().contains("does not match"), "{found}");
    assert_eq!(archive(&["show", file.to_str().unwrap()]).0, Some(1));
    fs::write(file, &whole[..whole.len() / 2]).unwrap();
    let (code, text) = verify(file);
    assert!(code == Some(1) && text.contains("cut off"), "{text}");
    let empty = dir.join("empty");
    fs::create_dir(&empty).unwrap();
    let (code, text) = verify(&empty);
    assert!(code == Some(1) && text.contains("no archive lies below"), "{text}");
    assert_eq!(archive(&["verify", "/nowhere.jsonl"]).0, Some(1));
}

#[tokio::test]
async fn nothing_is_erased_while_the_archive_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the tenant's directory should be: this also stops root.
    fs::create_dir(dir.path().join("archive")).unwrap();
    fs::write(dir.path().join("archive/default"), "in the way").unwrap();
    let log = dir.path().join("log");
    let setup = Setup { log: Some(log.clone()), ..archiving(dir.path(), &[("--retain-runs", "1s")]) };
    let host = setup.start().await;
    host.save(WORKFLOW).await;
    let run = host.start_run("order", json!({"word": "sesame"})).await;
    host.end(&run).await;
    let failures = async || host.metric("caisson_archive_failures_total").await.unwrap();
    host.until("several sweeps have failed", async || failures().await >= 3.0).await;
    assert_eq!(host.run(&run).await["input"], json!({"word": "sesame"}));
    assert_eq!(host.metric("caisson_runs_archived_total").await, Some(0.0));
    assert!(fs::read_dir(dir.path().join("archive/.partial")).unwrap().next().is_none(), "files are left aside");
    fs::remove_file(dir.path().join("archive/default")).unwrap();
    let path = format!("/workflow-runs/{run}");
    host.until("it is gone", async || host.send(Method::GET, &path, None).await.0 == 404).await;
    assert_eq!(archives(dir.path()).len(), 1);
    assert_eq!(verify(&dir.path().join("archive")).0, Some(0));
    assert_eq!(host.stop(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    for once in ["old runs cannot be archived", "old runs are archived again"] {
        assert_eq!(log.matches(once).count(), 1, "{once}: {log}");
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_sweep_leaves_no_half_file_and_loses_nothing() {
    let kills: u64 = std::env::var("CAISSON_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let seed = 20_261_127;
    let mut chance = Chance(seed);
    let dir = tempfile::tempdir().unwrap();
    let host = Setup::new(dir.path()).start().await;
    host.save(WORKFLOW).await;
    let mut runs = BTreeMap::new();
    for number in 0..RUNS {
        let run = host.start_run("order", json!({"word": format!("w{number}")})).await;
        runs.insert(run, number);
    }
    for run in runs.keys() {
        assert_eq!(host.end(run).await["status"], "COMPLETED");
    }
    assert_eq!(host.stop(), Some(0));

    let setup = archiving(dir.path(), &[("--retain-payloads", "1ms")]);
    let mut in_the_middle = 0;
    for round in 0..kills {
        let host = setup.start().await;
        // So many more, and then whatever happens next.
        let some = (archives(dir.path()).len() as u64 + chance.below(RUNS / kills)).min(RUNS);
        host.until("the sweep is under way", async || archives(dir.path()).len() as u64 >= some).await;
        host.kill();
        let kept = archives(dir.path()).len() as u64;
        in_the_middle += u64::from(kept < RUNS);
        let (code, text) = verify(&dir.path().join("archive"));
        assert!(kept == 0 || code == Some(0), "seed {seed}, round {round}: {text}");
    }
    assert!(in_the_middle > 0, "no kill came before all was archived: more runs are needed");
    let host = setup.start().await;
    for run in runs.keys() {
        host.until("its data is erased", async || is_erased(&host, run).await).await;
    }
    assert_eq!(verify(&dir.path().join("archive")).0, Some(0));
    let mut words = BTreeMap::new();
    for file in archives(dir.path()) {
        let run = lines(&file)[0]["archive"]["run"].clone();
        let word = run["input"]["json"]["word"].as_str().unwrap().to_owned();
        words.insert(run["id"].as_str().unwrap().to_owned(), word);
    }
    let expected: BTreeMap<_, _> = runs.into_iter().map(|(run, number)| (run, format!("w{number}"))).collect();
    assert_eq!(words, expected, "a run was erased and is in no archive");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for (args, code, says) in [
        (vec![("--retain-payloads", "2d"), ("--retain-runs", "1d")], 2, "raise --retain-runs"),
        (vec![("--retain-runs", "soon")], 2, "write 30d"),
        (vec![("--backlog-max", "0")], 2, "--backlog-max"),
        (vec![("--archive-dir", file.to_str().unwrap())], 1, "make the directory"),
    ] {
        let setup = args.iter().fold(Setup::new(dir.path()), |setup, (name, value)| setup.arg(name, value));
        let output = setup.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && text.contains(says), "{args:?}: {text}");
    }
    let mut command = Setup::new(dir.path()).command();
    command.env("CAISSON_RETAIN_PAYLOADS", "2d").env("CAISSON_RETAIN_RUNS", "1d");
    assert_eq!(command.output().unwrap().status.code(), Some(2), "the variables count as the flags do");
}
