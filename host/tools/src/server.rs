//! One tool server: no process until somebody calls, then one that all share; started again when it died, stopped when nobody needs it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use caisson_core::definition::nearest;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::ports::{Secrets, ServerState, ServerStatus, Tool, ToolAnswer, ToolCall, ToolError};
use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
    ListToolsRequest, MetaObject, PaginatedRequestParams, RequestMetaObject, ServerResult,
};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error;
use crate::pipe::{Cut, Pipe};
use crate::process::{Given, Guard, Process, variables};
use crate::result::{self, cut, plain};
use crate::spec::ServerSpec;
use crate::stderr::{self, Last};

/// A first start may fetch a package; longer than this, and somebody should look at it.
pub(crate) const START_MAX: Duration = Duration::from_mins(1);
/// Calls of one server at once; more wait their turn within their own time.
const CALLS_AT_ONCE: usize = 64;
/// Pauses before a new start, from the first death to the seventh in a row.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Whoever ran so long starts anew with the short pause.
const SOUND: Duration = Duration::from_mins(1);
/// No server has more tools that a model could choose from.
const TOOLS_MAX: usize = 500;
/// Pages of a list: as many as the tools would need one by one, and no more.
const PAGES_MAX: usize = TOOLS_MAX;
/// Names and schemas of all tools of a server: a model reads them at every turn.
const LIST_BYTES_MAX: usize = 1 << 20;
/// What models take as a tool's name, its server's and `__` included.
const WIRE_NAME_CHARS_MAX: usize = 64;
/// Of a description, so much.
const DESCRIPTION_BYTES_MAX: usize = 16 << 10;
/// What a call carries, so that a server may tell a repetition from a second call.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What servers share of their host.
pub(crate) struct Around {
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) guard: Option<Guard>,
}

/// A declared server.
pub(crate) struct Server {
    pub(crate) spec: ServerSpec,
    realm: Realm,
    /// Where its relative paths begin.
    pub(crate) dir: PathBuf,
    around: Arc<Around>,
    slot: tokio::sync::Mutex<Slot>,
    seen: Mutex<Seen>,
    calls: AtomicU64,
    permits: Semaphore,
}

/// The process, and when the next one may begin.
#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    deaths: u32,
    not_before: Option<Instant>,
}

/// What is shown.
#[derive(Clone, Default)]
struct Seen {
    state: ServerState,
    pid: Option<u32>,
    protocol: Option<String>,
    tools: Option<usize>,
    problem: Option<String>,
    last: Last,
}

/// A process that answers.
struct Live {
    client: RunningService<RoleClient, Client>,
    process: Mutex<Option<Process>>,
    tools: Mutex<Arc<Vec<Tool>>>,
    given: Given,
    cut: Cut,
    last: Last,
    began: Instant,
    used: Mutex<Instant>,
    /// Calls that have not ended.
    busy: AtomicUsize,
}

/// A call that has not ended, counted.
struct Busy<'a>(&'a Live);

impl<'a> Busy<'a> {
    fn new(live: &'a Live) -> Self {
        live.busy.fetch_add(1, Ordering::SeqCst);
        Self(live)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        *self.0.used.lock() = Instant::now();
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Our side of the connection: whatever a server asks of us is refused by rmcp's own defaults, since we offer nothing.
#[derive(Debug, Default)]
struct Client {
    list_changed: Arc<AtomicBool>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("caisson", env!("CARGO_PKG_VERSION")))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.list_changed.store(true, Ordering::SeqCst);
    }
}

impl Server {
    pub(crate) fn new(spec: ServerSpec, realm: Realm, dir: PathBuf, around: Arc<Around>) -> Self {
        Self {
            spec,
            realm,
            dir,
            around,
            slot: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            calls: AtomicU64::new(0),
            permits: Semaphore::new(CALLS_AT_ONCE),
        }
    }

    pub(crate) fn status(&self) -> ServerStatus {
        let Seen { mut state, pid, protocol, tools, problem, last } = self.seen.lock().clone();
        let said = last.text();
        // Who died since is noticed at the next call; who asks now is told.
        if let Ok(slot) = self.slot.try_lock() {
            state = match (state, &slot.live) {
                (ServerState::Running, Some(live)) if live.is_gone() => ServerState::Failed,
                // Whoever started it has gone away meanwhile.
                (ServerState::Starting, None) => ServerState::Stopped,
                (state, _) => state,
            };
        }
        let problem = match (state, problem) {
            (ServerState::Failed, None) => Some("it ended".to_owned()),
            (_, problem) => problem,
        };
        ServerStatus {
            name: self.spec.name.as_str().into(),
            file: self.spec.file.as_str().into(),
            command: self.spec.command.clone(),
            state,
            pid: pid.filter(|_| state == ServerState::Running),
            protocol,
            tools,
            calls: self.calls.load(Ordering::Relaxed),
            problem: problem.map(|problem| if said.is_empty() { problem } else { format!("{problem}\n{said}") }),
        }
    }

    /// What it offers now.
    pub(crate) async fn tools(&self) -> Result<Vec<Tool>, ToolError> {
        let live = self.live().await?;
        let _busy = Busy::new(&live);
        Ok(self.fresh(&live).await?.to_vec())
    }

    pub(crate) async fn call(&self, call: ToolCall) -> ToolAnswer {
        match self.live().await {
            Ok(live) => ToolAnswer { result: self.call_on(&live, call).await, secrets: live.given.clone() },
            Err(error) => ToolAnswer { result: Err(error), secrets: Vec::new() },
        }
    }

    async fn call_on(&self, live: &Live, call: ToolCall) -> Result<Json, ToolError> {
        let _busy = Busy::new(live);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{}", self.spec.name, call.tool);
        let tools = self.fresh(live).await?;
        if !tools.iter().any(|tool| tool.name == call.tool) {
            let near = nearest(&call.tool, tools.iter().map(|tool| tool.name.as_str()))
                .map_or_else(String::new, |near| format!(": did you mean '{}.{near}'?", self.spec.name));
            return Err(ToolError::NotFound(format!("there is no tool '{name}'{near}")));
        }
        let Value::Object(arguments) = call.arguments.value() else {
            return Err(ToolError::Invalid(format!("the arguments of tool '{name}' are not a JSON object")));
        };
        let mut params = CallToolRequestParams::new(call.tool).with_arguments(arguments);
        let mut meta = MetaObject::default();
        meta.insert(IDEMPOTENCY_KEY.to_owned(), Value::String(call.idempotency_key));
        params.meta = Some(RequestMetaObject(meta));
        let max = call.result_bytes_max;
        // Dropped, rmcp tells the server that nobody waits any more.
        let asked = async {
            let _permit = self.permits.acquire().await;
            live.client.call_tool_once(params).await
        };
        match timeout(call.timeout, asked).await {
            Err(_) => Err(ToolError::Timeout),
            Ok(Err(failed)) => Err(error::of_call(failed, &name, max, || self.ended(live))),
            Ok(Ok(CallToolResponse::Complete(result))) => result::answer(&name, result, max),
            Ok(Ok(_)) => Err(ToolError::Failed(format!(
                "tool '{name}' asks for input or wants to be asked again later, which is not supported"
            ))),
        }
    }

    /// Why it is gone.
    fn ended(&self, live: &Live) -> String {
        let why = live.cut.lock().clone().unwrap_or_else(|| "it ended".into());
        format!("tool server '{}' is gone in the middle of the call: {why}", self.spec.name)
    }

    /// Its tools, asked again if it said that they are others now.
    async fn fresh(&self, live: &Live) -> Result<Arc<Vec<Tool>>, ToolError> {
        if live.client.service().list_changed.swap(false, Ordering::SeqCst) {
            let tools = Arc::new(self.list(live).await?);
            self.seen.lock().tools = Some(tools.len());
            *live.tools.lock() = tools;
        }
        Ok(Arc::clone(&live.tools.lock()))
    }

    /// The process that answers: the one there is, or a new one.
    async fn live(&self) -> Result<Arc<Live>, ToolError> {
        let mut slot = self.slot.lock().await;
        if let Some(live) = &slot.live {
            if !live.is_gone() {
                *live.used.lock() = Instant::now();
                return Ok(Arc::clone(live));
            }
            slot.bury(Instant::now());
        }
        if let Some(at) = slot.not_before {
            sleep_until(at).await;
        }
        self.note(|seen| *seen = Seen { state: ServerState::Starting, ..Seen::default() });
        match timeout(START_MAX, self.start())
            .await
            .unwrap_or_else(|_| Err(self.failed(&format!("it did not answer within {} seconds", START_MAX.as_secs()))))
        {
            Ok(live) => {
                let live = Arc::new(live);
                slot.live = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(error) => {
                slot.died(Instant::now());
                let problem = error.to_string();
                self.note(|seen| {
                    seen.state = ServerState::Failed;
                    seen.problem = Some(problem);
                });
                Err(error)
            }
        }
    }

    async fn start(&self) -> Result<Live, ToolError> {
        let (variables, given) = variables(&self.spec, &self.realm, &*self.around.secrets)?;
        let (process, ends) = Process::start(&self.spec, &self.dir, self.around.guard.as_ref(), variables)
            .map_err(|error| self.failed(&format!("failed to start '{}': {error}", self.spec.command)))?;
        tracing::info!(server = self.spec.name, environment = %self.realm.environment, pid = process.id(), "a tool server starts");
        let (last, cut) = (Last::default(), Cut::default());
        let pid = process.id();
        self.note(|seen| (seen.pid, seen.last) = (pid, last.clone()));
        let reading = stderr::keep(self.spec.name.clone(), ends.stderr, given.clone(), last.clone());
        // Ends with the process, whose group is killed with what holds it.
        tokio::spawn(reading);
        let pipe = Pipe::new(ends.stdin, ends.stdout, Arc::clone(&cut));
        let client = Client::default()
            .serve(pipe)
            .await
            .map_err(|error| self.failed(&format!("it does not begin to speak MCP: {}", brief(&error.to_string()))))?;
        let live = Live {
            client,
            process: Mutex::new(Some(process)),
            tools: Mutex::default(),
            given,
            cut,
            last,
            began: Instant::now(),
            used: Mutex::new(Instant::now()),
            busy: AtomicUsize::new(0),
        };
        let tools = self.list(&live).await?;
        let protocol = live.client.peer().peer_info().map(|info| info.protocol_version.to_string());
        self.note(|seen| {
            (seen.state, seen.protocol, seen.tools) = (ServerState::Running, protocol, Some(tools.len()));
        });
        *live.tools.lock() = Arc::new(tools);
        Ok(live)
    }

    /// Asks for the list, page by page. What models could not call is left out.
    async fn list(&self, live: &Live) -> Result<Vec<Tool>, ToolError> {
        let (mut tools, mut bytes, mut cursor) = (Vec::<Tool>::new(), 0, None);
        for _ in 0..PAGES_MAX {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
            let page = match timeout(START_MAX, live.client.peer().send_request(request)).await {
                Ok(Ok(ServerResult::ListToolsResult(page))) => page,
                // A server without tools has no such method.
                Ok(Err(rmcp::ServiceError::McpError(error)))
                    if error.code == rmcp::model::ErrorCode::METHOD_NOT_FOUND =>
                {
                    return Ok(tools);
                }
                Ok(Ok(_)) => return Err(self.failed("its list of tools does not read")),
                Ok(Err(error)) => {
                    return Err(self.failed(&format!("it does not list its tools: {}", brief(&error.to_string()))));
                }
                Err(_) => return Err(self.failed("it does not list its tools in time")),
            };
            for tool in page.tools {
                let tool = Tool {
                    name: tool.name.into_owned(),
                    description: cut(tool.description.as_deref().unwrap_or_default(), DESCRIPTION_BYTES_MAX),
                    parameters: Value::Object((*tool.input_schema).clone()),
                };
                if let Some(why) = unfit(&self.spec.name, &tool, &tools) {
                    tracing::warn!(server = self.spec.name, tool = ?brief(&tool.name), why, "a tool is left out");
                    continue;
                }
                bytes += tool.name.len() + tool.description.len() + Json::of(&tool.parameters).get().len();
                if bytes > LIST_BYTES_MAX {
                    return Err(self.failed(&format!("its list of tools has more than {LIST_BYTES_MAX} bytes")));
                }
                tools.push(tool);
            }
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() >= TOOLS_MAX {
                break;
            }
        }
        tools.truncate(TOOLS_MAX);
        Ok(tools)
    }

    fn failed(&self, why: &str) -> ToolError {
        ToolError::Unavailable(format!("tool server '{}' is not available: {why}", self.spec.name))
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock());
    }

    /// Stops it if nobody has called for so long.
    pub(crate) async fn stop_if_idle(&self, idle: Duration) {
        let Ok(mut slot) = self.slot.try_lock() else { return };
        if slot.live.as_deref().is_some_and(Live::is_gone) {
            slot.bury(Instant::now());
            self.note(|seen| seen.state = ServerState::Failed);
        }
        let is_idle = |live: &Live| live.busy.load(Ordering::SeqCst) == 0 && live.used.lock().elapsed() >= idle;
        if slot.live.as_deref().is_some_and(is_idle) {
            let live = slot.live.take();
            drop(slot);
            self.end(live).await;
        }
    }

    /// Stops it, whoever calls.
    pub(crate) async fn stop(&self) {
        let live = self.slot.lock().await.live.take();
        self.end(live).await;
    }

    async fn end(&self, live: Option<Arc<Live>>) {
        let Some(live) = live else { return };
        self.note(|seen| {
            (seen.state, seen.pid, seen.problem) = (ServerState::Stopped, None, None);
        });
        tracing::info!(server = self.spec.name, "a tool server is stopped");
        // Its input ends, and with it the calls that are under way.
        live.client.cancellation_token().cancel();
        let process = live.process.lock().take();
        if let Some(process) = process {
            process.end().await;
        }
    }
}

impl Slot {
    /// The process is gone: its rest is killed.
    fn bury(&mut self, now: Instant) {
        let Some(live) = self.live.take() else { return };
        live.process.lock().take();
        let why = live.cut.lock().clone();
        tracing::warn!(why = ?why, said = ?live.last.text(), "a tool server ended by itself");
        if live.began.elapsed() >= SOUND {
            self.deaths = 0;
        }
        self.died(now);
    }

    fn died(&mut self, now: Instant) {
        let pause = PAUSE_MIN.saturating_mul(1 << self.deaths.min(6)).min(PAUSE_MAX);
        self.deaths += 1;
        self.not_before = Some(now + pause);
    }
}

impl Live {
    fn is_gone(&self) -> bool {
        self.client.peer().is_transport_closed()
    }
}

/// Why models could not call a tool, if so.
fn unfit(server: &str, tool: &Tool, others: &[Tool]) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    // As models see it: see `wire_name` of the runtime's providers.
    let wire = |name: &str| name.replace('.', "__").replace('/', "_");
    let name = &tool.name;
    if name.is_empty() || !name.chars().all(plain) {
        Some("its name has other characters than letters, digits, '_', '-', '.' and '/'")
    } else if server.len() + "__".len() + wire(name).len() > WIRE_NAME_CHARS_MAX {
        Some("its name with its server's is longer than the 64 characters that models take")
    } else if others.iter().any(|other| wire(&other.name) == wire(name)) {
        Some("models could not tell its name from another one's")
    } else {
        None
    }
}

/// The beginning of what somebody else says, for a message.
fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let text = plain(text);
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_models_could_not_call_is_left_out() {
        let tool = |name: &str| Tool { name: name.to_owned(), description: String::new(), parameters: json!({}) };
        let others = [tool("a.b")];
        for (name, fits) in [
            ("read_file", true),
            ("repo/read", true),
            ("a.c", true),
            ("", false),
            ("rm -rf", false),
            ("\u{1b}[31mred", false),
            ("a.b", false),
            ("a__b", false),
            (&"x".repeat(59), true),
            (&"x".repeat(60), false),
        ] {
            assert_eq!(unfit("git", &tool(name), &others).is_none(), fits, "{name:?}");
        }
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut slot = Slot::default();
        let now = Instant::now();
        let pauses: Vec<u128> = (0..9)
            .map(|_| {
                slot.died(now);
                slot.not_before.map_or(0, |at| at.duration_since(now).as_millis())
            })
            .collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    }
}
