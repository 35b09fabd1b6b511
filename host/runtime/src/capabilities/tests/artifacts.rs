//! Files: who reads them, where they lie, and what cannot lead out.

use caisson_core::ports::{ArtifactRow, Journal};

use crate::bindings::caisson::step::artifacts::Host as _;

use super::*;

async fn put(state: &mut State, name: &str, data: &[u8]) -> wasmtime::Result<Result<String, Error>> {
    state.put(name.to_owned(), "text/plain; charset=utf-8".to_owned(), data.to_vec()).await
}

fn guest() -> Guest {
    Guest::with(json!(["artifacts"]))
}

/// Every file below a folder, by its path from there.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below").display().to_string());
            }
        }
    }
    found.sort();
    found
}

async fn row(host: &Host, id: &str) -> ArtifactRow {
    host.journal.artifact(id).await.expect("reads").expect("a row")
}

#[tokio::test]
async fn a_file_is_there_for_the_same_plugin_of_the_same_run() {
    let host = Host::new();
    let mut state = guest().enter(&host);
    let id = answer(put(&mut state, "report.txt", b"\xff\x00data").await).expect("put");
    assert_eq!(answer(state.get(id.clone()).await).expect("its own"), b"\xff\x00data");
    let row = row(&host, &id).await;
    assert_eq!(
        (&*row.name, &*row.mime_type, row.size, &*row.plugin),
        ("report.txt", "text/plain; charset=utf-8", 6, "mail")
    );
    assert_eq!((row.run.as_str(), row.step_id.as_str()), ("run-1", "step-1"));
    assert_eq!(std::fs::read(host.artifacts_dir().join(&*row.path)).expect("the file"), b"\xff\x00data");
    assert!(row.path.starts_with("run-1/step-1/mail/"), "{}", row.path);
    // Another step, a later attempt.
    assert_eq!(
        answer(Guest { step: "step-2", ..guest() }.enter(&host).get(id.clone()).await).expect("the same run"),
        b"\xff\x00data"
    );
    for other in [
        Guest { plugin: "spy", step: "step-3", ..guest() },
        Guest { run: "run-2", ..guest() },
        Guest { realm: Realm::new("other", "default"), attempt: 2, ..guest() },
        Guest { realm: Realm::new("tenant", "other"), attempt: 3, ..guest() },
    ] {
        not_found(other.enter(&host).get(id.clone()).await);
    }
    for unknown in ["", "0", "../../etc/passwd", "/etc/passwd", "a\0b", &*row.path] {
        not_found(state.get(unknown.to_owned()).await);
    }
}

#[tokio::test]
async fn no_name_leads_out() {
    let host = Host::new();
    let mut state = guest().enter(&host);
    let refused = [
        "",
        ".",
        "..",
        "../x",
        "../../../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a/../b",
        "..\\x",
        "C:\\x",
        "\\\\host\\share",
        "a\0b",
        "\0",
        "a\nb",
        "a\u{7f}",
        "\u{85}",
        &"x".repeat(256),
        &"ü".repeat(128),
    ];
    for name in refused {
        invalid(put(&mut state, name, b"x").await, "a file's name has");
    }
    assert!(files(host.folder.path()).is_empty());
    // Odd, and harmless: names that file systems know, Unicode's ways to write the same, dots, case.
    let odd = [
        "...",
        ".hidden",
        "-rf",
        "con",
        "NUL.txt",
        "a:b",
        "a*b?",
        "%2e%2e%2f",
        "..%2f..",
        "file.",
        "file ",
        "~",
        "$(id)",
        "é",
        "e\u{301}",
        "ﬁ",
        "fi",
        "A",
        "a",
        "\u{202e}txt.exe",
        "．．",
        "‥",
        "∕etc∕passwd",
        "..\u{2215}x",
        &"x".repeat(255),
        "d1",
        "💣",
    ];
    let mut ids = Vec::new();
    for name in odd {
        let id =
            answer(put(&mut state, name, name.as_bytes()).await).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        ids.push((id, name));
    }
    for (id, name) in &ids {
        assert_eq!(
            answer(state.get(id.clone()).await).expect(name),
            name.as_bytes(),
            "names that look alike are not alike"
        );
        assert_eq!(&*row(&host, id).await.name, *name);
    }
    let found = files(host.folder.path());
    assert_eq!(found.len(), odd.len());
    for path in found {
        let name = path.strip_prefix("artifacts/run-1/step-1/mail/").unwrap_or_else(|| panic!("{path}"));
        assert!(name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{path}");
    }
    for mime in ["", "text", "text/plain\r\nx: y", "text/pläin", &"x/".repeat(100)] {
        invalid(state.put("a".to_owned(), mime.to_owned(), Vec::new()).await, "a media type");
    }
}

/// Ids come from elsewhere, a run's above all: none of them is a path.
#[tokio::test]
async fn no_id_leads_out() {
    let host = Host::new();
    for run in ["../../up", "/abs", "..", ".", "", "a/b", "UPPER", "a\0b", "x x"] {
        let mut state = Guest { run, ..guest() }.enter(&host);
        let id = answer(put(&mut state, "a", run.as_bytes()).await).expect("put");
        assert_eq!(answer(state.get(id.clone()).await).expect("got"), run.as_bytes());
        let first = row(&host, &id).await.path.split('/').next().expect("a part").to_owned();
        assert!(first.len() == 64 && first.bytes().all(|b| b.is_ascii_hexdigit()), "{run}: {first}");
    }
    assert!(files(host.folder.path()).iter().all(|path| path.starts_with("artifacts/")));
}

#[cfg(unix)]
#[tokio::test]
async fn symlinks_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let host = Host::new();
    let outside = host.folder.path().join("outside");
    std::fs::create_dir_all(outside.join("step-1/mail")).expect("a folder");
    std::fs::write(outside.join("secret"), b"outside").expect("a file");
    std::fs::create_dir_all(host.artifacts_dir()).expect("a folder");
    // In place of the run's folder.
    symlink(&outside, host.artifacts_dir().join("run-1")).expect("a link");
    match answer(put(&mut guest().enter(&host), "a", b"x").await) {
        Err(Error::Unavailable(why)) => assert!(!why.contains("outside"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(files(&outside), ["secret"]);
    // In place of the file.
    for target in ["secret", "run-3/step-1/mail/other"] {
        let mut state = Guest { run: "run-2", ..guest() }.enter(&host);
        let id = answer(put(&mut state, "a", b"mine").await).expect("put");
        let path = host.artifacts_dir().join(&*row(&host, &id).await.path);
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir_all(host.artifacts_dir().join("run-3/step-1/mail")).expect("a folder");
        std::fs::write(host.artifacts_dir().join("run-3/step-1/mail/other"), b"theirs").expect("a file");
        symlink(if target == "secret" { outside.join(target) } else { host.artifacts_dir().join(target) }, &path)
            .expect("a link");
        let error = state.get(id).await.expect_err("the guest ends: its file is gone");
        assert!(error.to_string().contains("cannot be read any more"), "{error:?}");
    }
    // A link is replaced, not followed.
    let mut state = Guest { run: "run-4", ..guest() }.enter(&host);
    let id = answer(put(&mut state, "a", b"one").await).expect("put");
    let path = host.artifacts_dir().join(&*row(&host, &id).await.path);
    std::fs::remove_file(&path).expect("removed");
    symlink(outside.join("secret"), &path).expect("a link");
    let folder = super::super::artifacts::Folder::new(host.artifacts_dir(), ["run-4", "step-1", "mail"]);
    folder.write(path.file_name().and_then(|name| name.to_str()).expect("a name"), b"two").expect("written");
    assert_eq!(std::fs::read(outside.join("secret")).expect("the file"), b"outside");
    assert_eq!(std::fs::read(&path).expect("the file"), b"two");
}

#[tokio::test]
async fn a_damaged_file_is_not_handed_out() {
    let host = Host::new();
    let mut state = guest().enter(&host);
    let id = answer(put(&mut state, "a", b"mine").await).expect("put");
    let path = host.artifacts_dir().join(&*row(&host, &id).await.path);
    std::fs::write(&path, b"else").expect("written");
    assert!(state.get(id.clone()).await.is_err());
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder");
    assert!(state.get(id).await.is_err());
}

#[tokio::test]
async fn files_have_quotas() {
    let host = Host::new();
    let quota = Guest::with(json!({"artifacts": {"maxFiles": 3, "maxBytes": 10}}));
    let mut state = quota.enter(&host);
    answer(put(&mut state, "a", b"1234").await).expect("fits");
    answer(put(&mut state, "b", b"1234").await).expect("fits");
    over_quota(put(&mut state, "c", b"123").await);
    // Other entries of the step go on from there.
    let mut later = Guest { entry: 1, ..quota.clone() }.enter(&host);
    over_quota(put(&mut later, "c", b"123").await);
    answer(put(&mut later, "c", b"12").await).expect("just fits");
    let mut later = Guest { entry: 2, ..quota.clone() }.enter(&host);
    over_quota(put(&mut later, "d", b"").await);
    // An artifact that is put again counts once.
    let mut retry = Guest { attempt: 2, ..quota.clone() }.enter(&host);
    let id = answer(put(&mut retry, "a", b"9876").await).expect("replaces");
    assert_eq!(answer(retry.get(id).await).expect("got"), b"9876");
    // Other steps have their own.
    answer(put(&mut Guest { step: "step-2", ..quota }.enter(&host), "a", b"1234567890").await).expect("fits");
}

/// An entry that is run again reads what it read before, though the name means another file by now.
#[tokio::test]
async fn what_was_read_is_read_again() {
    let host = Host::new();
    let before = async |state: &mut State| {
        let id = answer(put(state, "a", b"first").await).expect("put");
        let read = answer(state.get(id.clone()).await).expect("got");
        let second = answer(put(state, "a", b"second").await).expect("put");
        assert_eq!(id, second);
        let again = answer(state.get(id.clone()).await).expect("got");
        (id, read, again)
    };
    let mut state = guest().enter(&host);
    let first = before(&mut state).await;
    assert_eq!((&*first.1, &*first.2), (&b"first"[..], &b"second"[..]));
    let mut state = guest().enter(&host);
    assert_eq!(before(&mut state).await, first);
    let kept = files(&host.artifacts_dir());
    assert_eq!(kept.len(), 2);
    // Once it is old, what no row knows goes with the next file; what a row knows stays.
    let hours = std::time::SystemTime::now() - std::time::Duration::from_hours(5);
    for path in &kept {
        let file = std::fs::File::options().append(true).open(host.artifacts_dir().join(path)).expect("a file");
        file.set_modified(hours).expect("set");
    }
    answer(put(&mut Guest { attempt: 2, ..guest() }.enter(&host), "b", b"third").await).expect("put");
    assert_eq!(files(&host.artifacts_dir()).len(), 2);
    let mut later = Guest { attempt: 2, entry: 1, ..guest() }.enter(&host);
    assert_eq!(answer(later.get(first.0).await).expect("got"), b"second");
}

#[tokio::test]
async fn a_host_without_a_folder_says_so() {
    let mut host = Host::new();
    host.shared = Arc::new(Shared::new(&RuntimeConfig { journal: host.journal.clone(), ..RuntimeConfig::default() }));
    let mut state = guest().enter(&host);
    match answer(put(&mut state, "a", b"x").await) {
        Err(Error::Unavailable(why)) => assert!(why.contains("without a directory"), "{why}"),
        other => panic!("{other:?}"),
    }
}
