//! Posts to Slack, or to whatever speaks like it, and waits for answers.
//!
//! Everything that this plugin can do is in its manifest: it posts to the hosts that its operator granted, with a token that it never sees.

mod slack;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caisson_sdk::serde_json::Value;
use caisson_sdk::{Category, Context, Failure, Outcome, Retry, Suspend, Wake, log};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use slack::{Config, Message, Posted};

caisson_sdk::plugin!(config = Config, post, ask);

/// What wakes a question.
const REPLY: &str = "slack.reply";

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Post {
    /// Where to; the configuration's channel when absent.
    channel: Option<String>,
    /// The message, and what notifications show of it if there are blocks.
    text: String,
    /// Slack's Block Kit.
    blocks: Option<Vec<Value>>,
    /// Posts into the thread of that message.
    thread_ts: Option<String>,
}

fn post(context: &Context, input: Post) -> Result<Posted, Failure> {
    let config: Config = context.config()?;
    let Post { channel, text, blocks, thread_ts } = input;
    let posted = slack::post(&config, &Message { channel, text, blocks, thread_ts })?;
    log::info(&format!("posted to {}", posted.channel.as_deref().unwrap_or("the webhook's channel")));
    Ok(posted)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ask {
    /// Where to; the configuration's channel when absent.
    channel: Option<String>,
    /// The question.
    text: String,
    /// Fails with `NO_REPLY` after so long; waits for ever when absent.
    #[schemars(range(min = 1))]
    timeout_seconds: Option<u64>,
}

/// What is kept while nobody has answered.
#[derive(Serialize, Deserialize)]
struct Asked {
    posted: Posted,
    /// In seconds since 1970.
    until: Option<u64>,
}

/// The payload of the signal.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    text: String,
    user: Option<String>,
    /// The question's `ts`, if whoever sends the signal knows it.
    thread_ts: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Answered {
    /// What was answered.
    text: String,
    /// Who answered.
    user: Option<String>,
    /// The question's channel.
    channel: Option<String>,
    /// The question's `ts`.
    ts: Option<String>,
}

/// Asks, goes away, and is called again with what it kept: one function for the whole conversation.
fn ask(context: &Context, input: Ask) -> Result<Outcome<Answered>, Failure> {
    let config: Config = context.config()?;
    match context.wake::<Asked>()? {
        None => {
            let message = Message { channel: input.channel, text: input.text, ..Message::default() };
            let posted = slack::post(&config, &message)?;
            let until = input.timeout_seconds.map(|seconds| now().saturating_add(seconds));
            wait(&Asked { posted, until })
        }
        Some((asked, wake @ Wake::Signal { .. })) => {
            let reply: Reply = wake.payload()?;
            if reply.thread_ts.is_some() && reply.thread_ts != asked.posted.ts {
                log::info("a reply in another thread: still waiting");
                return wait(&asked);
            }
            let Posted { channel, ts } = asked.posted;
            Ok(Outcome::Done(Answered { text: reply.text, user: reply.user, channel, ts }))
        }
        Some((asked, Wake::Timer)) => {
            let message = "nobody answered in time";
            Err(Failure::new(Category::Timeout, "NO_REPLY", message).details(&asked.posted).retry(Retry::Never))
        }
        Some((asked, Wake::Cancelled(reason))) => {
            // Whoever still reads the question should know. If that fails, the run is cancelled all the same.
            let text = format!("Never mind: {reason}");
            let Posted { channel, ts: thread_ts } = asked.posted;
            drop(slack::post(&config, &Message { channel, text, thread_ts, ..Message::default() }));
            Err(Failure::cancelled(reason))
        }
        // Not asked for.
        Some((asked, Wake::Approval { .. })) => wait(&asked),
    }
}

fn wait(asked: &Asked) -> Result<Outcome<Answered>, Failure> {
    let suspend = Suspend::new().keep(asked)?.on_signal(REPLY);
    Ok(match asked.until {
        Some(until) => suspend.after(Duration::from_secs(until.saturating_sub(now()))).into(),
        None => suspend.into(),
    })
}

/// By the host's clock, which is the same when a step is run again.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
