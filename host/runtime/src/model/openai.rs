//! Any service that speaks `OpenAI`'s chat completions.

use std::fmt::{self, Write};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Provider, Reply, Tokens, Turn};

/// Slow models think for minutes; the step's own timeout is usually shorter and ends the request.
const TIMEOUT: Duration = Duration::from_mins(4);
/// A service that does not pick up by then is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers are text of some pages; a result may have 1 MiB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Of an error's body, so much is shown.
const ERROR_CHARS_MAX: usize = 300;

/// Where such a service is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OpenAiConfig {
    /// For example `https://api.openai.com/v1`; `/chat/completions` is added.
    pub base_url: String,
    /// The environment variable that holds the API key; none for a service without.
    #[serde(default)]
    pub api_key_env: Option<String>,
}

/// Speaks to one service.
pub struct OpenAi {
    client: Client,
    endpoint: String,
    key: Option<String>,
}

impl fmt::Debug for OpenAi {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl OpenAi {
    /// Reads the key from the environment and prepares a client: no proxy, no redirects.
    pub fn new(config: &OpenAiConfig) -> Result<Self, Error> {
        let key =
            match &config.api_key_env {
                Some(name) => Some(std::env::var(name).map_err(|_| {
                    Error::Other(format!("the environment variable {name} with the API key is not set"))
                })?),
                None => None,
            };
        // An error means that there is a provider already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(|e| Error::Other(format!("failed to prepare the HTTP client: {e}")))?;
        Ok(Self { client, endpoint: format!("{}/chat/completions", config.base_url.trim_end_matches('/')), key })
    }
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Answer,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

#[async_trait]
impl Provider for OpenAi {
    async fn complete(&self, turn: &Turn) -> Result<Reply, Error> {
        let mut request = self.client.post(&self.endpoint).json(&body(turn));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|e| network(&e))?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = read(response).await?;
        if !status.is_success() {
            return Err(refused(status, wait, &bytes));
        }
        let completion: Completion = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Other(format!("the model's answer does not read: {e}")))?;
        reply(completion, turn)
    }
}

fn body(turn: &Turn) -> Value {
    let mut body = json!({"model": turn.model, "messages": turn.messages});
    if let Some(temperature) = turn.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(max_tokens) = turn.max_tokens {
        body["max_tokens"] = json!(max_tokens);
    }
    if let Some(schema) = &turn.output_schema {
        body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
    }
    body
}

fn reply(completion: Completion, turn: &Turn) -> Result<Reply, Error> {
    let Some(Choice { message }) = completion.choices.into_iter().next() else {
        return Err(Error::Other("the model's answer has no choice".to_owned()));
    };
    let text = match (message.content, message.refusal) {
        (Some(text), _) => text,
        (None, Some(refusal)) => return Err(Error::Other(format!("the model refused: {refusal}"))),
        (None, None) => return Err(Error::Other("the model's answer has no content".to_owned())),
    };
    let content = match &turn.output_schema {
        Some(_) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        None => Value::String(text),
    };
    let usage = completion
        .usage
        .map(|usage| Tokens { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens })
        .unwrap_or_default();
    Ok(Reply { content, model: completion.model.unwrap_or_else(|| turn.model.clone()), usage })
}

async fn read(response: Response) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| network(&e))?;
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::Other(format!("the model's answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn refused(status: StatusCode, wait: Option<String>, bytes: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(bytes).chars().take(ERROR_CHARS_MAX).collect();
    let mut message = format!("the model's service answered {status}: {said}");
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        if let Some(wait) = wait {
            // Writing to a String cannot fail.
            let _ = write!(message, " (Retry-After: {wait})");
        }
        return Error::Unavailable(message);
    }
    Error::Other(message)
}

fn network(error: &reqwest::Error) -> Error {
    if error.is_timeout() && !error.is_connect() {
        return Error::Timeout;
    }
    // The URL holds no secret; the causes say what went wrong.
    let mut message = format!("failed to reach the model's service: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(message, ": {cause}");
        source = cause.source();
    }
    Error::Unavailable(message)
}
