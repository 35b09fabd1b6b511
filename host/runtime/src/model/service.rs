//! What every remote provider shares: one client, a limit of calls at once, tries, and reading of answers whole or in pieces.
//!
//! Invariant: a key leaves the host in a header and nowhere else; what a service says of its errors is shown without it.
//!
//! A call is tried again on 429, on 5xx, when the connection fails, when a stream ends before its answer does, and after silence.
//! `Retry-After` in seconds is honoured; as a date it is read as absent. Deliberately absent: trying again an answer that came
//! whole and does not read. It was paid for, and the next one would be too.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::partial::Partial;
use super::sse::Events;
use super::{Error, Progress, Reply, Turn};

/// A service that does not pick up by then is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers are text of some pages; a result may have 1 MiB.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A stream wraps each word in some 200 bytes of JSON; an answer of 4 MiB is never written that finely.
const STREAM_BYTES_MAX: usize = 32 << 20;
/// Of an error's body, so much is shown.
const ERROR_CHARS_MAX: usize = 300;
/// Pauses double from [`CallLimits::pause`] up to this: with four tries they do not get there unless somebody sets more.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a call is pursued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Tries. Four outlast the seconds for which a gateway restarts.
    pub tries: u32,
    /// From the first try to the end of the last. Slow models think for minutes; the step's own timeout is usually shorter.
    pub total: Duration,
    /// Without a byte. Streams of services carry a sign of life every some seconds.
    pub idle: Duration,
    /// Before the second try.
    pub pause: Duration,
    /// Calls at once. More than a small account may have under way; a service that takes more is named so in `models.toml`.
    pub concurrent: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            tries: 4,
            total: Duration::from_mins(10),
            idle: Duration::from_mins(1),
            pause: Duration::from_millis(500),
            concurrent: 16,
        }
    }
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// For example `https://api.openai.com/v1`; the path of the call is added.
    pub base_url: String,
    /// The environment variable that holds the API key; none for a service without.
    pub api_key_env: Option<String>,
    /// Whether to ask for the answer in pieces.
    pub stream: bool,
    /// How long a call is pursued.
    pub limits: CallLimits,
}

impl ServiceConfig {
    /// A service without a key that streams.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), api_key_env: None, stream: true, limits: CallLimits::default() }
    }
}

/// What one kind of service calls things.
pub(super) trait Wire: Send + Sync {
    /// What follows the base URL.
    const PATH: &'static str;
    /// Adds the headers of that kind.
    fn sign(&self, request: RequestBuilder, key: Option<&str>) -> RequestBuilder;
    /// The body of a request.
    fn body(&self, turn: &Turn, stream: bool) -> Value;
    /// Reads an answer that came whole.
    fn whole(&self, partial: &mut Partial, answer: Value) -> Result<(), Error>;
    /// Reads one event of a stream.
    fn event(&self, partial: &mut Partial, data: &str) -> Result<(), Error>;
}

/// One service.
pub(super) struct Service {
    client: Client,
    endpoint: String,
    key: Option<String>,
    stream: bool,
    limits: CallLimits,
    permits: Semaphore,
}

impl fmt::Debug for Service {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A try that gave nothing.
struct Failed {
    error: Error,
    retry: Retry,
}

enum Retry {
    Never,
    Soon,
    After(Duration),
}

impl Failed {
    fn soon(error: Error) -> Self {
        Self { error, retry: Retry::Soon }
    }
}

impl From<Error> for Failed {
    /// What a service says in mid-stream may pass too.
    fn from(error: Error) -> Self {
        let retry = if matches!(error, Error::Unavailable(_)) { Retry::Soon } else { Retry::Never };
        Self { error, retry }
    }
}

impl Service {
    /// Reads the key from the environment and prepares a client: no proxy, no redirects.
    pub(super) fn new(config: &ServiceConfig, path: &str) -> Result<Self, Error> {
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
            .build()
            .map_err(|e| Error::Other(format!("failed to prepare the HTTP client: {e}")))?;
        Ok(Self {
            client,
            endpoint: format!("{}{path}", config.base_url.trim_end_matches('/')),
            key,
            stream: config.stream,
            limits: config.limits,
            permits: Semaphore::new(config.limits.concurrent.max(1)),
        })
    }

    /// Asks until there is an answer or a limit. A call that waits to try again keeps its place: others would be refused alike.
    pub(super) async fn ask<W: Wire>(&self, wire: &W, turn: &Turn, progress: Progress<'_>) -> Result<Reply, Error> {
        turn.check()?;
        let body = wire.body(turn, self.stream);
        let _permit = self.permits.acquire().await.map_err(|e| Error::Other(e.to_string()))?;
        let deadline = Instant::now() + self.limits.total;
        let mut pause = self.limits.pause;
        let mut tried = 1;
        loop {
            let Ok(answer) = timeout_at(deadline, self.once(wire, &body, progress)).await else {
                return Err(Error::Timeout);
            };
            let Failed { error, retry } = match answer {
                Ok(partial) => return partial.into_reply(turn),
                Err(failed) => failed,
            };
            let wait = match retry {
                Retry::Never => return Err(error),
                Retry::Soon => pause,
                Retry::After(wait) => wait,
            };
            if tried >= self.limits.tries || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, tried, "a model's service is asked again");
            sleep(wait).await;
            tried += 1;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn once<W: Wire>(&self, wire: &W, body: &Value, progress: Progress<'_>) -> Result<Partial, Failed> {
        let request = wire.sign(self.client.post(&self.endpoint), self.key.as_deref()).json(body);
        let response = self.in_time(request.send()).await?.map_err(|e| network(&e))?;
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !status.is_success() {
            let wait = header(RETRY_AFTER).to_owned();
            let bytes = self.read(response).await.unwrap_or_default();
            return Err(self.refused(status, &wait, &bytes));
        }
        if header(CONTENT_TYPE).starts_with("text/event-stream") {
            return self.follow(wire, response, progress).await;
        }
        let bytes = self.read(response).await?;
        let answer = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Malformed(format!("the model's answer does not read: {e}")))?;
        let mut partial = Partial::default();
        wire.whole(&mut partial, answer)?;
        Ok(partial)
    }

    async fn follow<W: Wire>(&self, wire: &W, response: Response, progress: Progress<'_>) -> Result<Partial, Failed> {
        let (mut partial, mut events, mut bytes) = (Partial::default(), Events::default(), 0);
        let mut stream = response.bytes_stream();
        while !partial.over {
            let Some(chunk) = self.in_time(stream.next()).await? else { break };
            let chunk = chunk.map_err(|e| network(&e))?;
            bytes += chunk.len();
            if bytes > STREAM_BYTES_MAX {
                return Err(too_large().into());
            }
            for data in events.push(&chunk)? {
                wire.event(&mut partial, &data)?;
                if partial.bytes() > ANSWER_BYTES_MAX {
                    return Err(too_large().into());
                }
            }
            progress(partial.bytes());
        }
        // Some services end the connection where others write an end.
        if partial.over || partial.stop.is_some() {
            return Ok(partial);
        }
        Err(Failed::soon(Error::Unavailable("the model's answer was cut off".to_owned())))
    }

    async fn read(&self, response: Response) -> Result<Vec<u8>, Failed> {
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = self.in_time(stream.next()).await? {
            let chunk = chunk.map_err(|e| network(&e))?;
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(too_large().into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn in_time<T>(&self, wait: impl Future<Output = T>) -> Result<T, Failed> {
        timeout(self.limits.idle, wait).await.map_err(|_| Failed::soon(Error::Timeout))
    }

    fn refused(&self, status: StatusCode, wait: &str, bytes: &[u8]) -> Failed {
        let said = String::from_utf8_lossy(bytes);
        // Services like to repeat a key that they refuse.
        let said = match &self.key {
            Some(key) if !key.is_empty() => said.replace(key.as_str(), "[key]"),
            _ => said.into_owned(),
        };
        let said: String = said.chars().take(ERROR_CHARS_MAX).collect();
        let message = format!("the model's service answered {status}: {said}");
        if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
            return Failed { error: Error::Other(message), retry: Retry::Never };
        }
        if wait.is_empty() {
            return Failed::soon(Error::Unavailable(message));
        }
        let retry = wait.parse().map_or(Retry::Soon, |seconds| Retry::After(Duration::from_secs(seconds)));
        Failed { error: Error::Unavailable(format!("{message} (Retry-After: {wait})")), retry }
    }
}

pub(super) fn too_large() -> Error {
    Error::TooLarge(ANSWER_BYTES_MAX as u64)
}

fn network(error: &reqwest::Error) -> Failed {
    // The URL holds no secret; the causes say what went wrong.
    let mut message = format!("failed to reach the model's service: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    Failed::soon(Error::Unavailable(message))
}
