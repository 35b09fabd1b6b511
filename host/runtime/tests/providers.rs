//! What providers say on the wire, and how each fault of a service ends.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use caisson_runtime::model::{
    Anthropic, CallLimits, Error, Message, OpenAi, Provider, Reply, ServiceConfig, StopReason, Tokens, Tool, ToolCall,
    Turn,
};
use serde_json::{Value, json};
use support::provider::{End, Fake, Say};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    OpenAi,
    Anthropic,
}

const KINDS: [Kind; 2] = [Kind::OpenAi, Kind::Anthropic];

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned(), ..Message::default() }
}

fn turn() -> Turn {
    let call = ToolCall { id: "c1".to_owned(), name: "git.log".to_owned(), arguments: json!({"n": 1}) };
    Turn {
        agent: "a".to_owned(),
        model: "m".to_owned(),
        messages: vec![
            message("system", "Be brief."),
            message("user", "hello"),
            Message { tool_calls: vec![call], ..message("assistant", "") },
            Message { tool_call_id: Some("c1".to_owned()), ..message("tool", "abc") },
        ],
        temperature: None,
        max_tokens: Some(100),
        output_schema: None,
        tools: vec![Tool {
            name: "git.log".to_owned(),
            description: "Commits".to_owned(),
            parameters: json!({"type": "object"}),
        }],
    }
}

fn limits() -> CallLimits {
    CallLimits { tries: 3, pause: Duration::from_millis(5), idle: Duration::from_secs(20), ..CallLimits::default() }
}

async fn ask(kind: Kind, url: &str, limits: CallLimits, stream: bool) -> Result<Reply, Error> {
    let config = ServiceConfig { stream, limits, ..ServiceConfig::new(url) };
    match kind {
        Kind::OpenAi => OpenAi::new(&config).expect("a client").complete(&turn(), &|_| {}).await,
        Kind::Anthropic => Anthropic::new(&config).expect("a client").complete(&turn(), &|_| {}).await,
    }
}

/// An answer in one piece.
fn whole(kind: Kind) -> Say {
    let body = match kind {
        Kind::OpenAi => json!({
            "model": "m-1",
            "choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant", "content": "Let me see.", "tool_calls": [
                {"id": "c2", "type": "function", "function": {"name": "git__log", "arguments": "{\"n\": 2}"}}]}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        }),
        Kind::Anthropic => json!({
            "type": "message", "model": "m-1", "role": "assistant", "stop_reason": "tool_use",
            "content": [{"type": "text", "text": "Let me see."}, {"type": "tool_use", "id": "c2", "name": "git__log", "input": {"n": 2}}],
            "usage": {"input_tokens": 3, "output_tokens": 4},
        }),
    };
    Say::Whole("200 OK", "", body.to_string())
}

/// The same in pieces.
fn pieces(kind: Kind) -> Vec<String> {
    match kind {
        Kind::OpenAi => vec![
            json!({"model": "m-1", "choices": [{"delta": {"role": "assistant", "content": "Let "}}]}).to_string(),
            json!({"choices": [{"delta": {"content": "me see."}}]}).to_string(),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c2", "function": {"name": "git__log", "arguments": "{\"n\":"}}]}}]}).to_string(),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": " 2}"}}]}}]}).to_string(),
            json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}).to_string(),
            json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).to_string(),
            "[DONE]".to_owned(),
        ],
        Kind::Anthropic => [
            json!({"type": "message_start", "message": {"model": "m-1", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me see."}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "c2", "name": "git__log", "input": {}}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"n\":"}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": " 2}"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}}),
            json!({"type": "message_stop"}),
        ]
        .map(|event| event.to_string())
        .to_vec(),
    }
}

fn expected() -> Reply {
    Reply {
        content: json!("Let me see."),
        model: "m-1".to_owned(),
        usage: Tokens { input_tokens: 3, output_tokens: 4 },
        tool_calls: vec![ToolCall { id: "c2".to_owned(), name: "git.log".to_owned(), arguments: json!({"n": 2}) }],
        stop_reason: StopReason::ToolCalls,
    }
}

#[tokio::test]
async fn an_answer_is_the_same_whole_and_in_pieces() {
    for kind in KINDS {
        for (say, stream) in [(whole(kind), false), (Say::Stream(pieces(kind), End::Whole), true), (whole(kind), true)]
        {
            let fake = Fake::start(vec![say]).await;
            let reply = ask(kind, &fake.url, limits(), stream).await;
            assert_eq!(reply, Ok(expected()), "{kind:?} {stream}");
            assert_eq!(fake.asked()[0].body.get("stream"), stream.then_some(&json!(true)), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn requests_have_the_form_that_services_take() {
    let fake = Fake::start(vec![whole(Kind::OpenAi)]).await;
    ask(Kind::OpenAi, &fake.url, limits(), false).await.expect("an answer");
    let asked = &fake.asked()[0];
    assert!(asked.head.starts_with("post /chat/completions "), "{}", asked.head);
    assert_eq!(
        asked.body["messages"],
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "git__log", "arguments": "{\"n\":1}"}}]},
            {"role": "tool", "content": "abc", "tool_call_id": "c1"},
        ])
    );
    assert_eq!(asked.body["tools"][0]["function"]["name"], "git__log");

    let fake = Fake::start(vec![whole(Kind::Anthropic)]).await;
    ask(Kind::Anthropic, &fake.url, limits(), false).await.expect("an answer");
    let asked = &fake.asked()[0];
    assert!(asked.head.starts_with("post /v1/messages "), "{}", asked.head);
    assert!(asked.head.contains("anthropic-version: 2023-06-01"), "{}", asked.head);
    assert_eq!(
        asked.body,
        json!({
            "model": "m",
            "max_tokens": 100,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hello"}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "git__log", "input": {"n": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "abc"}]},
            ],
            "system": "Be brief.",
            "tools": [{"name": "git__log", "description": "Commits", "input_schema": {"type": "object"}}],
        })
    );
}

/// A fault that passes is outlasted, one that stays is named; and so often the service is asked.
#[tokio::test]
async fn each_fault_ends_as_documented() {
    let refused =
        |status: &'static str, headers: &'static str| Say::Whole(status, headers, "{\"error\": \"x\"}".to_owned());
    for kind in KINDS {
        let cut = || Say::Stream(pieces(kind)[..3].to_vec(), End::Cut);
        for (say, passes) in [
            (refused("429 Too Many Requests", ""), true),
            (refused("500 Internal Server Error", ""), true),
            (refused("529 Overloaded", ""), true),
            (cut(), true),
            (refused("400 Bad Request", ""), false),
            (refused("401 Unauthorized", ""), false),
            (Say::Whole("200 OK", "", "{\"choices\": [".to_owned()), false),
            (Say::Stream(vec!["{not json".to_owned()], End::Whole), false),
            (Say::Whole("200 OK", "", json!({"choices": [], "content": []}).to_string()), false),
        ] {
            let once = Fake::start(vec![say.clone(), say.clone(), whole(kind)]).await;
            let reply = ask(kind, &once.url, limits(), true).await;
            assert_eq!(reply.is_ok(), passes, "{kind:?} {reply:?}");
            assert_eq!(once.asked().len(), if passes { 3 } else { 1 }, "{kind:?} {reply:?}");
            if !passes {
                continue;
            }
            let always = Fake::start(vec![say]).await;
            let reply = ask(kind, &always.url, limits(), true).await;
            assert!(matches!(reply, Err(Error::Unavailable(_))), "{kind:?} {reply:?}");
            assert_eq!(always.asked().len(), 3, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn what_a_service_wants_is_waited_for_within_limits() {
    let busy = |headers| Say::Whole("429 Too Many Requests", headers, "{}".to_owned());
    let fake = Fake::start(vec![busy("retry-after: 1\r\n"), whole(Kind::OpenAi)]).await;
    let began = Instant::now();
    assert!(ask(Kind::OpenAi, &fake.url, limits(), true).await.is_ok());
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    let fake = Fake::start(vec![busy("retry-after: 86400\r\n")]).await;
    let reply = ask(Kind::OpenAi, &fake.url, limits(), true).await;
    assert!(matches!(&reply, Err(Error::Unavailable(why)) if why.contains("Retry-After: 86400")), "{reply:?}");
    assert_eq!(fake.asked().len(), 1, "a day is not waited for");
}

#[tokio::test]
async fn silence_ends_a_call() {
    let limits = CallLimits { tries: 2, idle: Duration::from_millis(100), ..limits() };
    for kind in KINDS {
        for said in [0, 3] {
            let fake = Fake::start(vec![Say::Stream(pieces(kind)[..said].to_vec(), End::Silence)]).await;
            assert_eq!(ask(kind, &fake.url, limits, true).await, Err(Error::Timeout), "{kind:?}");
            assert_eq!(fake.asked().len(), 2);
        }
    }
}

#[tokio::test]
async fn ten_megabytes_are_no_answer() {
    let long = "x".repeat(10 << 20);
    let piece = json!({"choices": [{"delta": {"content": "x".repeat(1 << 20)}}]}).to_string();
    for say in [
        Say::Whole("200 OK", "", json!({"choices": [{"message": {"content": long}}]}).to_string()),
        Say::Stream(vec![json!({"choices": [{"delta": {"content": long}}]}).to_string()], End::Whole),
        Say::Stream(vec![piece; 10], End::Whole),
    ] {
        let fake = Fake::start(vec![say]).await;
        let reply = ask(Kind::OpenAi, &fake.url, limits(), true).await;
        assert_eq!(reply, Err(Error::TooLarge(4 << 20)));
        assert_eq!(fake.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_call_of_an_unknown_tool_or_without_json_reaches_whoever_runs_the_loop() {
    let call = |name: &str, arguments: &str| json!({"id": "c", "function": {"name": name, "arguments": arguments}});
    let body = json!({"choices": [{"message": {"tool_calls": [call("rm", "{}"), call("git__log", "{n: "), call("git__log", "")]}}]});
    let fake = Fake::start(vec![Say::Whole("200 OK", "", body.to_string())]).await;
    let reply = ask(Kind::OpenAi, &fake.url, limits(), false).await.expect("an answer");
    let calls: Vec<(&str, &Value)> =
        reply.tool_calls.iter().map(|call| (call.name.as_str(), &call.arguments)).collect();
    assert_eq!(calls, [("rm", &json!({})), ("git.log", &json!("{n:")), ("git.log", &json!({}))]);
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_a_provider_takes() {
    let fake = Fake::start(vec![Say::Stream(Vec::new(), End::Silence)]).await;
    let limits = CallLimits { tries: 1, idle: Duration::from_millis(200), concurrent: 2, ..limits() };
    let config = ServiceConfig { limits, ..ServiceConfig::new(&fake.url) };
    let provider = OpenAi::new(&config).expect("a client");
    let (turn, seen) = (turn(), AtomicUsize::new(0));
    let calls = (0..4).map(|_| async {
        drop(provider.complete(&turn, &|_| {}).await);
        // Each that ends leaves its place to one more: never more than so many beyond those that ended.
        let ended = seen.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(fake.asked().len() <= ended + 2, "{ended}");
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(fake.asked().len(), 4);
}
