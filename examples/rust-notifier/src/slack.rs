//! What Slack understands: a webhook, or `chat.postMessage`.

use caisson_sdk::serde_json::{Value, json};
use caisson_sdk::{Category, Failure, Retry, http};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The secret that the operator sets and lets the host fill in.
const TOKEN: &str = "SLACK_TOKEN";

/// What the operator sets for this plugin.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Config {
    /// Posts to this webhook instead of the API. It needs no token, and gives no `ts`.
    webhook_url: Option<String>,
    /// Where the API is.
    #[serde(default = "Config::api_url")]
    api_url: String,
    /// Where messages go that name no channel.
    channel: Option<String>,
}

impl Config {
    fn api_url() -> String {
        "https://slack.com/api".to_owned()
    }
}

/// What is posted.
#[derive(Default, Serialize)]
pub(crate) struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread_ts: Option<String>,
}

/// Where a message is.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Posted {
    /// Its channel.
    pub(crate) channel: Option<String>,
    /// What names it within the channel.
    pub(crate) ts: Option<String>,
}

/// The API's answer; its status is 200 even when it refuses.
#[derive(Deserialize)]
struct Answer {
    ok: bool,
    error: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
}

/// Posts a message. A pause that Slack asks for (429) is kept by the run, not by this plugin.
pub(crate) fn post(config: &Config, message: &Message) -> Result<Posted, Failure> {
    let channel = message.channel.as_deref().or(config.channel.as_deref());
    let mut body = caisson_sdk::serde_json::to_value(message)?;
    if let Some(channel) = channel {
        body["channel"] = json!(channel);
    }
    if let Some(webhook) = &config.webhook_url {
        http::post(webhook).json(&body).send()?.error_for_status()?;
        return Ok(Posted { channel: channel.map(str::to_owned), ts: None });
    }
    if channel.is_none() {
        let message = "no channel: give one in the input, or set one in the plugin's configuration";
        return Err(Failure::validation("CHANNEL_REQUIRED", message).retry(Retry::Never));
    }
    let url = format!("{}/chat.postMessage", config.api_url.trim_end_matches('/'));
    let answer: Answer = http::post(url).bearer_secret(TOKEN).json(&body).send()?.error_for_status()?.json()?;
    if answer.ok {
        return Ok(Posted { channel: answer.channel, ts: answer.ts });
    }
    Err(refusal(answer.error.as_deref().unwrap_or("unknown_error")))
}

/// Slack's own errors, as far as they mean different things to a workflow.
fn refusal(error: &str) -> Failure {
    let message = format!("Slack refused the message: {error}");
    let failure = match error {
        "ratelimited" | "rate_limited" => Failure::transient("RATE_LIMITED", message),
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
            Failure::transient("SLACK_UNAVAILABLE", message)
        }
        "not_authed" | "invalid_auth" | "account_inactive" | "token_revoked" | "token_expired" | "missing_scope" => {
            let message = format!("{message}: look at the secret {TOKEN} and the scopes of its app");
            Failure::new(Category::Policy, "SLACK_AUTH", message).retry(Retry::Never)
        }
        _ => Failure::action("SLACK_ERROR", message).retry(Retry::Never),
    };
    failure.details(&json!({"error": error}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whether_it_may_pass() {
        for (error, category, code, advice) in [
            ("ratelimited", Category::Transient, "RATE_LIMITED", Retry::Default),
            ("internal_error", Category::Transient, "SLACK_UNAVAILABLE", Retry::Default),
            ("invalid_auth", Category::Policy, "SLACK_AUTH", Retry::Never),
            ("channel_not_found", Category::Action, "SLACK_ERROR", Retry::Never),
        ] {
            let failure = refusal(error);
            assert_eq!((failure.category(), failure.code(), failure.advice()), (category, code, advice), "{error}");
        }
    }
}
