//! All tool servers of a host, on a thread of their own.
//!
//! The thread is there because guests run on many runtimes and a connection needs one that lasts, and because the kernel ends a process with
//! the *thread* that started it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use caisson_core::definition::nearest;
use caisson_core::ids::Realm;
use caisson_core::ports::{Secrets, ServerStatus, Tool, ToolAnswer, ToolCall, ToolError, Tools};
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::process::Guard;
use crate::server::{Around, Server};
use crate::spec::ServerSpec;

/// A server that nobody called for so long is stopped: the next call starts it within a second.
const IDLE_DEFAULT: Duration = Duration::from_mins(5);
/// Idle servers are looked for so often at least.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// All servers together may take so long to end: twice the moment that each has.
const STOP_MAX: Duration = Duration::from_secs(2);

/// How tool servers are run.
#[derive(Clone)]
pub struct Config {
    /// What `{{secret:NAME}}` in a server's variables is filled in from.
    pub secrets: Arc<dyn Secrets>,
    /// Who ends servers that outlive the host; `None` leaves it to the kernel, which ends a server's first process only.
    pub guard: Option<Guard>,
    /// How long a server runs on without a call.
    pub idle: Duration,
}

impl Config {
    /// Without a guard.
    pub fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets, guard: None, idle: IDLE_DEFAULT }
    }
}

type ByName = BTreeMap<String, Arc<Server>>;

/// The tool servers of a host.
pub struct ToolServers {
    around: Arc<Around>,
    servers: Arc<RwLock<BTreeMap<Realm, ByName>>>,
    handle: Handle,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ToolServers {
    /// Starts the thread, and no server.
    pub fn start(config: Config) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let servers: Arc<RwLock<BTreeMap<Realm, ByName>>> = Arc::default();
        let (all, stopped, idle) = (Arc::clone(&servers), stop.clone(), config.idle);
        let thread = std::thread::Builder::new()
            .name("tool-servers".to_owned())
            .spawn(move || runtime.block_on(look_after(&all, idle, &stopped)))?;
        let around = Arc::new(Around { secrets: config.secrets, guard: config.guard });
        Ok(Self { around, servers, handle, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Declares the servers of a realm, all of them; `dir` is where their relative paths begin. What is declared as before goes on; others are
    /// stopped.
    pub fn set_servers(&self, realm: &Realm, declared: Vec<(ServerSpec, PathBuf)>) {
        let mut all = self.servers.write();
        let mut before = all.remove(realm).unwrap_or_default();
        let mut now = ByName::new();
        for (spec, dir) in declared {
            let known = before.remove(&spec.name);
            let server = match known {
                Some(known) if known.spec == spec && known.dir == dir => known,
                changed => {
                    self.retire(changed);
                    Arc::new(Server::new(spec.clone(), realm.clone(), dir, Arc::clone(&self.around)))
                }
            };
            now.insert(spec.name, server);
        }
        for gone in before.into_values() {
            self.retire(Some(gone));
        }
        all.insert(realm.clone(), now);
    }

    /// Ends all servers and waits for it, seconds at most. Calls that are under way fail, and so does whoever calls later.
    pub fn stop(&self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the tool servers panicked");
        }
    }

    fn retire(&self, server: Option<Arc<Server>>) {
        if let Some(server) = server {
            self.handle.spawn(async move { server.stop().await });
        }
    }

    fn server(&self, realm: &Realm, name: &str) -> Result<Arc<Server>, ToolError> {
        let all = self.servers.read();
        let empty = ByName::new();
        let servers = all.get(realm).unwrap_or(&empty);
        servers.get(name).cloned().ok_or_else(|| {
            let near = nearest(name, servers.keys().map(String::as_str));
            let hint = near.map_or_else(
                || {
                    let names: Vec<&str> = servers.keys().map(String::as_str).collect();
                    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                    format!(" (there are: {names}): declare it in mcp-servers/{name}.json of a directory that this host is given with --env")
                },
                |near| format!(": did you mean '{near}'?"),
            );
            ToolError::NotFound(format!(
                "there is no tool server '{name}' in environment '{}'{hint}",
                realm.environment
            ))
        })
    }

    /// Does it on the servers' thread. Dropped by whoever waits, it is dropped there.
    async fn there<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (mut tell, told) = oneshot::channel();
        self.handle.spawn(async move {
            let answer = tokio::select! {
                answer = work => Some(answer),
                () = tell.closed() => None,
            };
            if let Some(answer) = answer {
                // Nobody may be left to hear it.
                let _ = tell.send(answer);
            }
        });
        told.await.ok()
    }
}

/// Until told to stop: then all servers are ended beside each other.
async fn look_after(servers: &RwLock<BTreeMap<Realm, ByName>>, idle: Duration, stop: &CancellationToken) {
    let all = || -> Vec<Arc<Server>> { servers.read().values().flat_map(BTreeMap::values).cloned().collect() };
    let pause = (idle / 4).clamp(Duration::from_millis(10), LOOK_MAX);
    while tokio::time::timeout(pause, stop.cancelled()).await.is_err() {
        join_all(all().iter().map(|server| server.stop_if_idle(idle))).await;
    }
    // What is still starting goes with the runtime, which kills it.
    let ended = tokio::time::timeout(STOP_MAX, join_all(all().iter().map(|server| server.stop()))).await;
    if ended.is_err() {
        tracing::warn!("not every tool server has ended by itself");
    }
}

impl Drop for ToolServers {
    fn drop(&mut self) {
        self.stop();
    }
}

#[async_trait]
impl Tools for ToolServers {
    fn servers(&self, realm: &Realm) -> Vec<ServerStatus> {
        let all = self.servers.read();
        all.get(realm).into_iter().flat_map(BTreeMap::values).map(|server| server.status()).collect()
    }

    async fn tools(&self, realm: &Realm, server: &str) -> Result<Vec<Tool>, ToolError> {
        let server = self.server(realm, server)?;
        self.there(async move { server.tools().await }).await.unwrap_or_else(|| Err(stopped()))
    }

    async fn call(&self, call: ToolCall) -> ToolAnswer {
        let nothing = |error| ToolAnswer { result: Err(error), secrets: Vec::new() };
        match self.server(&call.realm, &call.server) {
            Ok(server) => {
                let answer = self.there(async move { server.call(call).await }).await;
                answer.unwrap_or_else(|| nothing(stopped()))
            }
            Err(error) => nothing(error),
        }
    }
}

fn stopped() -> ToolError {
    ToolError::Unavailable("the host is stopping".to_owned())
}
