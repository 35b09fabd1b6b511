//! Fifty agents at once, ten turns each, against a model on the loopback that takes its time.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Section;
use super::host::BenchHost;
use super::load::{Load, runs};
use super::parts::{AT_ONCE, float};
use crate::api::sessions::SessionList;
use crate::cli::Environment;
use crate::cli::workflows::save;
use crate::client::segment;

const WORKFLOW: &str = "bench-agent";
/// Answers of the model until the last one.
const TURNS: usize = 10;
/// A fast model's answer takes longer; what is measured is the host.
const ANSWER_TIME: Duration = Duration::from_millis(50);
const MIB: f64 = 1024.0 * 1024.0;

/// What a turn and a run in flight cost the host.
pub async fn agents() -> anyhow::Result<Section> {
    let mut section = Section::new(
        "agents",
        format!(
            "{AT_ONCE} runs at once, each an agent of {TURNS} turns; the model answers after {} ms, in the wire format of OpenAI",
            ANSWER_TIME.as_millis()
        ),
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.context("failed to listen")?;
    let address = listener.local_addr().context("failed to listen")?;
    let model = Router::new().route("/v1/chat/completions", post(answer));
    let model = tokio::spawn(async move { axum::serve(listener, model).await });
    let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
    write_environment(directory.path(), &format!("http://{address}/v1")).context("failed to write an environment")?;
    let host = BenchHost::start_with(&["--env".to_owned(), directory.path().display().to_string()]).await?;
    let result = measure(&host, &mut section).await;
    host.stop().await;
    model.abort();
    result.map(|()| section)
}

async fn measure(host: &BenchHost, section: &mut Section) -> anyhow::Result<()> {
    let workflow = json!({
        "id": WORKFLOW,
        "states": [{"name": "work", "type": "operation", "action": "agent.run", "input": {"agent": "worker", "task": "work"}, "end": true}],
    });
    save(host.client(), workflow.to_string().as_bytes(), &Environment::default()).await?;
    let input = json!({});
    runs(host.client(), WORKFLOW, &input, AT_ONCE, AT_ONCE, true).await?.all("COMPLETED")?;
    host.forget_peak();
    let (memory, cpu) = (host.memory(), host.cpu_ms());
    let load = runs(host.client(), WORKFLOW, &input, AT_ONCE, AT_ONCE, true).await?;
    let (peak, cpu_after) = (host.peak_memory(), host.cpu_ms());
    load.all("COMPLETED")?;
    let turns = float(AT_ONCE * TURNS);
    section.add("turns", turns / load.wall.as_secs_f64(), "/s");
    for percent in [50, 99] {
        section.add(format!("p{percent} of a run"), load.percentile(percent), "ms");
    }
    section.add("of which the model took", ANSWER_TIME.as_secs_f64() * 1000.0 * float(TURNS), "ms");
    if let (Some(before), Some(after)) = (cpu, cpu_after) {
        section.add("host's CPU for a turn", (after - before) / turns, "ms");
    }
    if let (Some(before), Some(peak)) = (memory, peak) {
        section.add("memory for a run in flight", (peak - before).max(0.0) / float(AT_ONCE) / MIB, "MiB");
    }
    let transcripts = transcripts(host, &load).await?;
    section.add("bytes of transcript for a turn", transcripts.bytes / turns, "B");
    section.add("lines of transcript for a turn", transcripts.lines / turns, "");
    Ok(())
}

/// What is kept of what the agents of some runs said.
struct Transcripts {
    bytes: f64,
    lines: f64,
}

#[expect(clippy::cast_precision_loss, reason = "megabytes at most")]
async fn transcripts(host: &BenchHost, load: &Load) -> anyhow::Result<Transcripts> {
    let (mut bytes, mut lines) = (0, 0);
    for run in &load.ids {
        let list: SessionList = host.client().get(&format!("/workflow-runs/{}/sessions", segment(run)), &[]).await?;
        for session in list.sessions {
            bytes += session.size_bytes;
            lines += u64::from(session.lines);
        }
    }
    Ok(Transcripts { bytes: bytes as f64, lines: lines as f64 })
}

fn write_environment(directory: &Path, url: &str) -> std::io::Result<()> {
    let agents = directory.join("agents");
    std::fs::create_dir(&agents)?;
    std::fs::write(agents.join("worker.prompt"), "---\nmodel: bench/m\n---\nYou work.\n")?;
    std::fs::write(
        directory.join("models.toml"),
        format!(
            "[providers.bench]\nkind = \"openai\"\nbaseUrl = \"{url}\"\nmaxConcurrent = {AT_ONCE}\nstream = false\n"
        ),
    )
}

/// Calls a tool until the last turn. That there is no such tool it is told as any other result.
async fn answer(Json(request): Json<Value>) -> Json<Value> {
    tokio::time::sleep(ANSWER_TIME).await;
    let messages = request["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let turn = messages.iter().filter(|message| message["role"] == "assistant").count();
    let message = if turn + 1 < TURNS {
        let call =
            json!({"id": format!("call{turn}"), "type": "function", "function": {"name": "look", "arguments": "{}"}});
        json!({"role": "assistant", "content": null, "tool_calls": [call]})
    } else {
        json!({"role": "assistant", "content": "done"})
    };
    Json(
        json!({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
    )
}
