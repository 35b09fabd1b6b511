use caisson_core::json::{Json, Payload};

use super::super::form::{End, Run, Value};
use super::*;
use crate::api::wire::Any;

const AT: &str = "2026-11-21T09:00:00.123Z";

fn json(text: &str) -> Json {
    Json::parse(text).expect(text)
}

/// The lines of a whole archive: a head, three events, a value; and its end.
fn written() -> Vec<String> {
    let mut lines = Vec::new();
    let mut prev: Arc<str> = chain::GENESIS.into();
    for (seq, data) in [(1, r#"{"input":{"json":{"b":1.0,"a":1e2}}}"#), (2, r#"{"status":"RUNNING"}"#), (3, "{}")] {
        let at = Timestamp::parse(AT).expect("a time");
        let actor = (seq == 1).then_some("ann");
        let hash = chain::hash(&prev, seq, "run.x", at, actor, data);
        lines.push(Line::Event(Event {
            seq,
            kind: "run.x".to_owned(),
            at: AT.to_owned(),
            actor: actor.map(str::to_owned),
            step_id: None,
            data: Any(json(data)),
            prev_hash: prev.to_string(),
            hash: hash.to_string(),
            v: 1,
        }));
        prev = hash;
    }
    let large = format!("\"{}\"", "x".repeat(60));
    lines.push(Line::Value(Value { sha256: sha256_hex(large.as_bytes()), json: json(&large) }));
    let run = Run {
        id: "r1".to_owned(),
        tenant: "acme".to_owned(),
        environment: "default".to_owned(),
        workflow_id: "w".to_owned(),
        workflow_version: "1".to_owned(),
        digest: "d".to_owned(),
        name: None,
        project_id: None,
        created_by: "ann".to_owned(),
        status: "COMPLETED".to_owned(),
        phase: None,
        input: Payload::Inline(json("{}")),
        output: None,
        error: Some(Any(json("{\"code\":\"X\"}"))),
        parent: None,
        forked_from: None,
        created_at: AT.to_owned(),
        started_at: None,
        completed_at: Some(AT.to_owned()),
        cancelled_at: None,
        last_seq: 3,
        last_hash: prev.to_string(),
    };
    lines.insert(0, Line::Archive(Box::new(Head { format: FORMAT, writer: "test".to_owned(), run })));
    let lines = lines.iter().map(|line| serde_json::to_string(line).expect("JSON")).collect();
    ended(lines)
}

/// With the end that belongs to them.
fn ended(mut lines: Vec<String>) -> Vec<String> {
    let end = End { lines: lines.len() as u64, sha256: sha256_hex(text(&lines).as_bytes()) };
    lines.push(serde_json::to_string(&Line::End(end)).expect("JSON"));
    lines
}

fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn read(bytes: &[u8]) -> Result<Verified, String> {
    lines(bytes, drop).map_err(|error| error.to_string())
}

#[test]
fn a_whole_archive_is_read_line_by_line() {
    let mut kinds = Vec::new();
    let whole = text(&written());
    let read = lines(whole.as_bytes(), |line| {
        kinds.push(match line {
            Line::Archive(head) => head.run.id,
            Line::Event(event) => event.data.0.get().to_owned(),
            Line::Value(value) => value.json.get().len().to_string(),
            _ => "other".to_owned(),
        });
    });
    let read = read.expect("verifies");
    assert_eq!((&*read.head.run.id, read.events), ("r1", 3));
    assert_eq!(kinds, ["r1", r#"{"input":{"json":{"b":1.0,"a":1e2}}}"#, r#"{"status":"RUNNING"}"#, "{}", "62"]);
}

#[test]
fn damage_is_found_and_named_by_line_and_event() {
    type Change = fn(&mut Vec<String>);
    let cases: [(Change, &str); 14] = [
        (|lines| lines[2] = lines[2].replace("RUNNING", "RUNNINg"), "line 3: event 2 does not match its hash"),
        (|lines| lines[2] = lines[2].replace("run.x", "run.y"), "line 3: event 2 does not match its hash"),
        (|lines| lines[1] = lines[1].replace("ann", "bob"), "line 2: event 1 does not match its hash"),
        (|lines| lines[2] = lines[2].replace(".123Z", ".124Z"), "line 3: event 2 does not match its hash"),
        (|lines| lines[2] = lines[2].replace(AT, "noon"), "line 3: event 2 has no time that can be read"),
        (|lines| drop(lines.remove(2)), "line 3: expected event 2, found 3"),
        (|lines| lines.swap(2, 3), "line 3: expected event 2, found 3"),
        (|lines| lines[4] = lines[4].replace("xx", "xy"), "line 5: the value does not match its hash"),
        (|lines| lines[2].truncate(30), "line 3: it is no line of an archive after event 1: EOF"),
        (|lines| lines[2] = "{\"other\":1}".to_owned(), "line 3: it is no line of an archive after event 1: unknown"),
        (|lines| lines[3] = lines[0].clone(), "line 4: a second head"),
        (|lines| drop(lines.pop()), "line 6: the file ends early after event 3"),
        (|lines| lines.push("{}".to_owned()), "line 7: something stands after the end"),
        (|lines| lines[0] = lines[0].replace("acme", "acne"), "line 6: what stands before the end is not what was"),
    ];
    for (change, expected) in cases {
        let mut changed = written();
        change(&mut changed);
        let error = read(text(&changed).as_bytes()).expect_err(expected);
        assert!(error.starts_with(expected), "{error} instead of {expected}");
    }
}

#[test]
fn an_end_that_was_made_anew_does_not_hide_what_the_head_says() {
    for (from, to, expected) in [
        ("\"lastSeq\":3", "\"lastSeq\":4", "3 events stand here, and the run has 4"),
        ("\"lastHash\":\"", "\"lastHash\":\"0", "event 3 is not the run's last one"),
    ] {
        let mut changed = written();
        changed.pop();
        changed[0] = changed[0].replace(from, to);
        let error = read(text(&ended(changed)).as_bytes()).expect_err(to);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn no_byte_can_be_changed_and_nothing_be_cut_off() {
    let whole = text(&written()).into_bytes();
    for at in 0..whole.len() {
        for flip in [1, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            assert!(read(&changed).is_err(), "byte {at} with {flip:#x}");
        }
        assert!(read(&whole[..at]).is_err(), "the first {at} bytes");
    }
}

#[test]
fn a_file_of_any_kind_is_refused_in_words() {
    let deep = format!("{{\"archive\":{{\"format\":1,\"run\":{}}}}}\n", "[".repeat(100_000));
    let newer = written()[0].replace("\"format\":1", "\"format\":2");
    for (bytes, expected) in [
        (&b""[..], "line 1: the file is empty"),
        (b"\n", "line 1: no archive begins like this"),
        (b"\xff\xfe\0\n", "line 1: no archive begins like this"),
        (b"{\"event\":{}}\n", "line 1: no archive begins like this"),
        (b"{\"archive\":{\"format\":1}}\n", "line 1: it is no line of an archive"),
        (b"{\"archive\":{\"format\":-1}}\n", "line 1: no archive begins like this"),
        (b"{\"archive\"", "line 1: it is cut off"),
        (deep.as_bytes(), "line 1: "),
        (format!("{newer}\n").as_bytes(), "line 1: it has format 2, and this program reads up to 1"),
    ] {
        let error = read(bytes).expect_err(expected);
        assert!(error.starts_with(expected), "{error} instead of {expected}");
    }
    // Longer than any of ours, without a line break.
    let endless = BufReader::new(io::repeat(b'x'));
    let error = lines(endless, drop).expect_err("ends").to_string();
    assert_eq!(error, "line 1: it is too long for one of ours");
}
