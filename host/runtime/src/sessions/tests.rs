use super::*;

fn owner() -> Owner {
    Owner { realm: Realm::new("acme", "default"), run: RunId::new("r"), step: StepId::new("s1"), attempt: 2 }
}

fn messages(list: Value) -> Vec<Message> {
    serde_json::from_value(list).expect("messages")
}

/// Answers a call and gives the lines that come of it.
fn answer(sessions: &mut Sessions, id: &str, call: &Call<'_>, answer: &Value) -> (SessionRow, Vec<Value>) {
    let text = answer.to_string();
    let change = sessions.answered(id, &owner(), Timestamp(1_000), call, Ok(&text), &|line| line).expect("a change");
    let numbers: Vec<_> = change.lines.iter().map(|line| line.value()["n"].as_u64().expect("a number")).collect();
    let expected: Vec<_> = (u64::from(change.first)..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "lines are numbered without gaps");
    (change.row, change.lines.iter().map(Json::value).collect())
}

fn opening(sessions: &mut Sessions, id: &str, name: Option<&str>, parent: Option<&str>) -> (SessionRow, Vec<Value>) {
    let call = Call::Open { agent: "triage", name, parent };
    answer(
        sessions,
        id,
        &call,
        &json!({"messages": [{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]}),
    )
}

/// Type and what is said, of each line.
fn short(lines: &[Value]) -> Vec<String> {
    let text = |line: &Value| match (&line["role"], &line["content"]) {
        (Value::String(role), Value::String(content)) => format!("{role}: {content}"),
        _ => line["error"]["code"].as_str().or(line["name"].as_str()).unwrap_or_default().to_owned(),
    };
    lines.iter().map(|line| format!("{} {}", line["type"].as_str().unwrap_or_default(), text(line))).collect()
}

#[test]
fn a_loop_becomes_a_line_for_each_thing_that_was_said() {
    let mut sessions = Sessions::default();
    let (row, lines) = opening(&mut sessions, "a", None, None);
    assert_eq!(short(&lines), ["session triage", "message system: You sort.", "message user: db"]);
    assert_eq!((row.lines, row.status, row.attempt, &*row.name), (3, SessionStatus::Running, 2, "triage"));
    assert_eq!((&lines[0]["id"], &lines[0]["stepId"], &lines[0]["attempt"]), (&json!("a"), &json!("s1"), &json!(2)));
    let mut said = json!([{"content": "You sort.", "role": "system"}, {"content": "db", "role": "user"}]);
    let calls = json!([{"id": "c1", "name": "git.log", "arguments": {"n": 1}}]);
    let first =
        json!({"content": "", "toolCalls": calls, "model": "m", "usage": {"inputTokens": 7, "outputTokens": 3}});
    let conversation = messages(said.clone());
    let (row, lines) =
        answer(&mut sessions, "b", &Call::Turn { session: "a", messages: &conversation, last: false }, &first);
    assert_eq!(short(&lines), ["answer assistant: "]);
    assert_eq!((&lines[0]["toolCalls"], &lines[0]["model"]), (&calls, &json!("m")));
    assert_eq!((row.turns, row.input_tokens, row.output_tokens, row.status), (1, 7, 3, SessionStatus::Running));
    let list = said.as_array_mut().expect("a list");
    list.push(json!({"role": "assistant", "content": "", "toolCalls": calls}));
    list.push(json!({"role": "tool", "toolCallId": "c1", "content": "three commits"}));
    let conversation = messages(said.clone());
    let turn = Call::Turn { session: "a", messages: &conversation, last: false };
    let (row, lines) =
        answer(&mut sessions, "c", &turn, &json!({"content": "done", "usage": {"inputTokens": 9, "outputTokens": 1}}));
    assert_eq!(short(&lines), ["message tool: three commits", "answer assistant: done"]);
    assert_eq!((row.turns, row.input_tokens, row.lines, row.status), (2, 16, 6, SessionStatus::Completed));
}

#[test]
fn sessions_of_one_step_have_names_and_parents() {
    let mut sessions = Sessions::default();
    let names: Vec<String> = [("a", None), ("b", None), ("c", Some("research")), ("d", Some("research")), ("e", None)]
        .into_iter()
        .map(|(id, name)| opening(&mut sessions, id, name, (id == "e").then_some("a")).0)
        .map(|row| format!("{} {}", row.name, row.parent.unwrap_or_default()))
        .collect();
    assert_eq!(names, ["triage ", "triage-2 ", "research ", "research-2 ", "triage-3 a"]);
    assert!(sessions.has("a", Some("triage")) && !sessions.has("a", Some("other")) && !sessions.has("z", None));
}

#[test]
fn what_fails_and_what_ends_is_written_down() {
    let mut sessions = Sessions::default();
    opening(&mut sessions, "a", None, None);
    let said = messages(json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]));
    let turn = Call::Turn { session: "a", messages: &said, last: false };
    let failed = Err(("MODEL_TIMEOUT", "no answer"));
    let change = sessions.answered("b", &owner(), Timestamp(1), &turn, failed, &|line| line).expect("a change");
    assert_eq!(change.lines[0].value()["error"], json!({"code": "MODEL_TIMEOUT", "message": "no answer"}));
    assert_eq!((change.row.turns, change.row.status), (0, SessionStatus::Running));
    let said = messages(json!([
        {"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}, {"role": "tool", "content": "late"},
    ]));
    let error = json!({"code": "AGENT_TURN_LIMIT", "message": "no answer after 1 turns"});
    let (row, lines) =
        answer(&mut sessions, "c", &Call::End { session: "a", messages: &said, error: Some(&error) }, &json!({}));
    assert_eq!(short(&lines), ["message tool: late", "end AGENT_TURN_LIMIT"]);
    assert_eq!(row.status, SessionStatus::Failed);
    let unfit = json!({"messages": [], "problems": [{"path": "a", "message": "is missing"}]});
    let (row, lines) = answer(&mut sessions, "d", &Call::Open { agent: "x", name: None, parent: None }, &unfit);
    assert_eq!(
        (short(&lines), row.status),
        (vec!["session x".to_owned(), "end SCHEMA_VALIDATION_INPUT".to_owned()], SessionStatus::Failed)
    );
    let nothing = sessions.answered(
        "e",
        &owner(),
        Timestamp(1),
        &Call::Open { agent: "y", name: None, parent: None },
        failed,
        &|line| line,
    );
    assert!(nothing.is_none(), "what does not begin has no session");
}

#[test]
fn a_conversation_that_was_changed_is_told_again_from_there() {
    let mut sessions = Sessions::default();
    opening(&mut sessions, "a", None, None);
    let said = messages(json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "other"}]));
    let turn = Call::Turn { session: "a", messages: &said, last: true };
    let (_, lines) =
        answer(&mut sessions, "b", &turn, &json!({"content": "x", "problems": [{"path": "", "message": "m"}]}));
    assert_eq!(short(&lines), ["rewritten ", "message user: other", "answer assistant: x"]);
}

#[test]
fn turns_without_a_session_share_one_by_agent() {
    let mut sessions = Sessions::default();
    let sent = || messages(json!([{"role": "user", "content": "hi"}]));
    for (id, agent, lines, session) in [("a", "x", 3, "a"), ("b", "x", 2, "a"), ("c", "y", 3, "c")] {
        let call = Call::Alone { agent, sent: sent(), last: false };
        let (row, found) = answer(&mut sessions, id, &call, &json!({"content": "ho"}));
        assert_eq!((found.len(), &*row.id), (lines, session), "{id}");
    }
}

#[test]
fn calls_that_are_answered_from_records_are_followed_and_add_nothing() {
    let said = messages(json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]));
    let open = Call::Open { agent: "triage", name: None, parent: None };
    let opened = json!({"messages": [{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]})
        .to_string();
    let turn = Call::Turn { session: "a", messages: &said, last: false };
    let mut first = Sessions::default();
    opening(&mut first, "a", None, None);
    let (stored, _) = answer(&mut first, "b", &turn, &json!({"content": "x", "toolCalls": [{"id": "c"}]}));
    let mut second = Sessions::default();
    second.replayed("a", &owner(), Timestamp(5), &open, Some(&opened));
    second.replayed("b", &owner(), Timestamp(5), &turn, Some("{}"));
    assert_eq!(second.stale(), [Arc::<str>::from("a")]);
    second.refresh(stored.clone(), None);
    assert!(second.stale().is_empty());
    let mut longer = said.clone();
    longer.extend(messages(json!([{"role": "assistant", "content": "x"}, {"role": "tool", "content": "y"}])));
    let next = Call::Turn { session: "a", messages: &longer, last: false };
    let (one, lines_of_one) = answer(&mut first, "c", &next, &json!({"content": "z"}));
    let (other, lines_of_other) = answer(&mut second, "c", &next, &json!({"content": "z"}));
    assert_eq!((one, lines_of_one), (other, lines_of_other), "whoever goes on writes the same");
}

#[test]
fn a_transcript_is_bounded_and_says_where_it_ends() {
    let mut sessions = Sessions::default();
    opening(&mut sessions, "a", None, None);
    let mut said = json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]);
    let big = "x".repeat(1_000_000);
    let mut last = Vec::new();
    for turn in 0..20 {
        said.as_array_mut()
            .expect("a list")
            .push(json!({"role": "tool", "content": big, "toolCallId": turn.to_string()}));
        let conversation = messages(said.clone());
        let call = Call::Turn { session: "a", messages: &conversation, last: false };
        let (row, lines) = answer(&mut sessions, &turn.to_string(), &call, &json!({"content": "", "toolCalls": [1]}));
        assert!(row.bytes <= (16 << 20) + 1_000, "{} bytes", row.bytes);
        assert_eq!(row.turns, turn + 1);
        last = if lines.is_empty() { last } else { lines };
    }
    assert_eq!(last.last().map(|line| &line["limit"]), Some(&json!("SESSION_TOO_LARGE")));
    // A line longer than that keeps the beginnings of its parts.
    let mut sessions = Sessions::default();
    opening(&mut sessions, "a", None, None);
    let long = messages(
        json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}, {"role": "tool", "content": "é".repeat(1 << 20)}]),
    );
    let call = Call::Turn { session: "a", messages: &long, last: false };
    let (_, lines) = answer(&mut sessions, "b", &call, &json!({"content": "whole", "toolCalls": [1]}));
    assert_eq!(lines[0]["content"].as_str().map(str::len), Some(256 << 10));
    assert_eq!((&lines[0]["cut"], &lines[1]["content"]), (&json!({"content": 2 << 20}), &json!("whole")));
}

#[test]
fn nothing_in_a_line_ends_it_and_secrets_are_hidden() {
    let mut sessions = Sessions::default();
    let call = Call::Alone {
        agent: "x",
        sent: messages(json!([{"role": "user", "content": "a\n\u{1b}[31m\u{9b}\u{2028}s3cret"}])),
        last: false,
    };
    let hide = |line: Json| Json::parse(line.get().replace("s3cret", "***")).expect("is JSON");
    let change =
        sessions.answered("a", &owner(), Timestamp(1), &call, Ok("{\"content\":\"s3cret\"}"), &hide).expect("a change");
    for line in &change.lines {
        let bad = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!line.get().contains(bad) && !line.get().contains("s3cret"), "{}", line.get());
    }
    assert_eq!(change.lines[1].value()["content"], json!("a\n\u{1b}[31m\u{9b}\u{2028}***"));
}

/// One that has called `git.log` twice and an agent, and the conversation so far.
fn calling(sessions: &mut Sessions) -> Value {
    opening(sessions, "a", None, None);
    let calls = json!([
        {"id": "c1", "name": "git.log", "arguments": {"n": 1}},
        {"id": "c2", "name": "agent.other", "arguments": {}},
        {"id": "c3", "name": "git.log", "arguments": {"n": 2, "all": true}},
    ]);
    let mut said = json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]);
    let conversation = messages(said.clone());
    let turn = Call::Turn { session: "a", messages: &conversation, last: false };
    answer(sessions, "b", &turn, &json!({"content": "", "toolCalls": calls}));
    said.as_array_mut().expect("a list").push(json!({"role": "assistant", "content": "", "toolCalls": calls}));
    said
}

fn and(said: &Value, more: Value) -> Vec<Message> {
    let (Value::Array(mut said), Value::Array(more)) = (said.clone(), more) else { panic!("lists") };
    said.extend(more);
    messages(Value::Array(said))
}

/// A tool answers; the session and the lines that come of it.
fn result(sessions: &mut Sessions, tool: &str, arguments: &Value, said: &str) -> Option<(Arc<str>, Vec<Value>)> {
    let call = Call::Tool { name: tool, arguments };
    let change = sessions.answered("t", &owner(), Timestamp(2), &call, Ok(said), &|line| line)?;
    assert_eq!(change.row.status, SessionStatus::Running);
    Some((change.row.id.clone(), change.lines.iter().map(Json::value).collect()))
}

#[test]
fn a_tools_result_has_its_line_at_once_and_the_next_turn_adds_none() {
    let mut sessions = Sessions::default();
    let said = calling(&mut sessions);
    // The order of keys is nobody's business.
    let (id, lines) = result(&mut sessions, "git.log", &json!({"all": true, "n": 2}), "the second").expect("a line");
    assert_eq!(
        (&*id, short(&lines), &lines[0]["toolCallId"]),
        ("a", vec!["message tool: the second".to_owned()], &json!("c3"))
    );
    for (tool, arguments) in
        [("git.log", json!({"n": 2, "all": true})), ("git.log", json!({})), ("git.push", json!({"n": 1}))]
    {
        assert!(result(&mut sessions, tool, &arguments, "x").is_none(), "nobody called {tool} {arguments}");
    }
    // While another agent works, what it called is its own.
    opening(&mut sessions, "other", None, Some("a"));
    let conversation = messages(json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]));
    let turn = Call::Turn { session: "other", messages: &conversation, last: false };
    let calls = json!({"content": "", "toolCalls": [{"id": "o", "name": "git.log", "arguments": {"n": 1}}]});
    answer(&mut sessions, "o1", &turn, &calls);
    for (session, called) in [("other", "o"), ("a", "c1")] {
        let (id, lines) = result(&mut sessions, "git.log", &json!({"n": 1}), "the first").expect("a line");
        assert_eq!((&*id, &lines[0]["toolCallId"]), (session, &json!(called)));
    }
    let conversation = and(
        &said,
        json!([
            {"role": "tool", "toolCallId": "c1", "content": "the first"},
            {"role": "tool", "toolCallId": "c2", "content": "the other"},
            {"role": "tool", "toolCallId": "c3", "content": "the second"},
        ]),
    );
    let turn = Call::Turn { session: "a", messages: &conversation, last: false };
    let (_, lines) = answer(&mut sessions, "c", &turn, &json!({"content": "done"}));
    assert_eq!(short(&lines), ["message tool: the other", "answer assistant: done"]);
    assert!(result(&mut sessions, "git.log", &json!({"n": 1}), "x").is_none(), "it calls nothing any more");
}

#[test]
fn whoever_goes_on_knows_which_results_have_their_lines() {
    let mut first = Sessions::default();
    let said = calling(&mut first);
    let mut second = Sessions::default();
    let opened = json!({"messages": [{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]});
    let open = Call::Open { agent: "triage", name: None, parent: None };
    second.replayed("a", &owner(), Timestamp(5), &open, Some(&opened.to_string()));
    let conversation = messages(json!([{"role": "system", "content": "You sort."}, {"role": "user", "content": "db"}]));
    let called = json!({"toolCalls": said[2]["toolCalls"]}).to_string();
    let turn = Call::Turn { session: "a", messages: &conversation, last: false };
    second.replayed("b", &owner(), Timestamp(5), &turn, Some(&called));
    result(&mut first, "git.log", &json!({"n": 1}), "the first").expect("a line");
    let call = Call::Tool { name: "git.log", arguments: &json!({"n": 1}) };
    second.replayed("t", &owner(), Timestamp(5), &call, Some("the first"));
    second.refresh(first.0[0].row.clone(), None);
    // The agent ends before another turn, or goes on with one.
    let conversation = and(&said, json!([{"role": "tool", "toolCallId": "c1", "content": "the first"}]));
    let error = json!({"code": "AGENT_TOKEN_LIMIT"});
    let end = Call::End { session: "a", messages: &conversation, error: Some(&error) };
    let (one, lines) = answer(&mut first, "c", &end, &json!({}));
    assert_eq!(short(&lines), ["end AGENT_TOKEN_LIMIT"]);
    assert_eq!((one, lines), answer(&mut second, "c", &end, &json!({})));
}

#[test]
fn a_model_that_is_told_something_else_than_the_tool_said_has_both_lines() {
    let check = |said: &dyn Fn(&Value) -> Vec<Message>, expected: &[&str]| {
        let mut sessions = Sessions::default();
        let before = calling(&mut sessions);
        result(&mut sessions, "git.log", &json!({"n": 1}), "the first").expect("a line");
        let conversation = said(&before);
        let turn = Call::Turn { session: "a", messages: &conversation, last: false };
        let (_, lines) = answer(&mut sessions, "c", &turn, &json!({"content": "done"}));
        assert_eq!(short(&lines), expected);
    };
    let tool = |content: &str| json!([{"role": "tool", "toolCallId": "c1", "content": content}]);
    check(&|said| and(said, tool("summed up")), &["message tool: summed up", "answer assistant: done"]);
    check(&|said| and(said, tool("the first")), &["answer assistant: done"]);
    let rewritten = |said: &Value| and(&json!([{"role": "system", "content": "Other."}, said[2]]), tool("the first"));
    check(
        &rewritten,
        &[
            "rewritten ",
            "message system: Other.",
            "message assistant: ",
            "message tool: the first",
            "answer assistant: done",
        ],
    );
}
