//! What a plugin finds around it when it runs here and not on a host: everything real, but in memory, and of one step only.
//!
//! A test's cases run one after the other on one runtime; each brings its own stage.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::ports::{
    ArtifactRow, Effect, EmittedEvent, EntryKey, Journal, JournalError, KvScope, LogLine, LogSink, Page, PageRequest,
    Record, Secret, Secrets, ServerState, ServerStatus, SessionLine, SessionRow, StoreError, Tool, ToolAnswer,
    ToolCall, ToolError, Tools,
};
use caisson_runtime::{MemoryJournal, Resolver, Transport, TransportError, TransportReply, TransportRequest};
use parking_lot::{Mutex, RwLock};

use super::mock::{Exchange, Expectations, ToolExchange};

/// Where every name is found when nothing is sent: a public address, or the host would refuse to go there.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));

/// One step's surroundings.
#[derive(Default)]
pub struct Stage {
    /// Secrets by name.
    pub secrets: BTreeMap<String, String>,
    /// Records, small state, events and files.
    pub journal: MemoryJournal,
    /// Answers to HTTP requests.
    pub http: Expectations<Exchange>,
    /// Answers of tools.
    pub tools: Expectations<ToolExchange>,
    /// What was logged.
    pub lines: Mutex<Vec<LogLine>>,
    /// Takes each line as it is written.
    pub live: Option<fn(&LogLine)>,
}

/// The stage that is in use.
#[derive(Default)]
pub struct Current(RwLock<Arc<Stage>>);

impl Current {
    /// Puts another in its place.
    pub fn set(&self, stage: Arc<Stage>) {
        *self.0.write() = stage;
    }

    /// The one in use.
    pub fn get(&self) -> Arc<Stage> {
        Arc::clone(&self.0.read())
    }
}

impl Secrets for Current {
    fn get(&self, _: &Realm, name: &str) -> Option<Secret> {
        Self::get(self).secrets.get(name).map(|value| Secret::new(value.as_str()))
    }
}

impl LogSink for Current {
    fn write(&self, _: &RunId, _: &StepId, line: LogLine) {
        let stage = Self::get(self);
        if let Some(show) = stage.live {
            show(&line);
        }
        stage.lines.lock().push(line);
    }
}

#[async_trait]
impl Transport for Current {
    async fn send(&self, request: TransportRequest) -> Result<TransportReply, TransportError> {
        Self::get(self).http.answer(&request)
    }
}

#[async_trait]
impl Tools for Current {
    fn servers(&self, _: &Realm) -> Vec<ServerStatus> {
        let status = |name: String| ServerStatus {
            name: name.into(),
            file: "the case".into(),
            command: String::new(),
            state: ServerState::Running,
            pid: None,
            protocol: None,
            tools: None,
            calls: 0,
            problem: None,
        };
        Self::get(self).tools.servers().into_iter().map(status).collect()
    }

    async fn tools(&self, _: &Realm, server: &str) -> Result<Vec<Tool>, ToolError> {
        Ok(Self::get(self).tools.of_server(server))
    }

    async fn call(&self, call: ToolCall) -> ToolAnswer {
        ToolAnswer { result: Self::get(self).tools.answer(&call), secrets: Vec::new() }
    }
}

#[async_trait]
impl Resolver for Current {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let local = host == "localhost" || host.ends_with(".localhost");
        Ok(vec![if local { Ipv4Addr::LOCALHOST.into() } else { SOMEWHERE }])
    }
}

#[async_trait]
impl Journal for Current {
    async fn records(&self, entry: &EntryKey) -> Result<Vec<Record>, StoreError> {
        Self::get(self).journal.records(entry).await
    }

    async fn append(
        &self,
        entry: &EntryKey,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> Result<(), JournalError> {
        Self::get(self).journal.append(entry, number, record, effects).await
    }

    async fn apply(&self, effects: &[Effect]) -> Result<(), JournalError> {
        Self::get(self).journal.apply(effects).await
    }

    async fn kv_get(&self, scope: &KvScope, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Self::get(self).journal.kv_get(scope, key).await
    }

    async fn kv_keys(&self, scope: &KvScope, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        Self::get(self).journal.kv_keys(scope, prefix, limit).await
    }

    async fn artifact(&self, id: &str) -> Result<Option<ArtifactRow>, StoreError> {
        Self::get(self).journal.artifact(id).await
    }

    async fn artifacts(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<ArtifactRow>, StoreError> {
        Self::get(self).journal.artifacts(run, step, page).await
    }

    async fn emitted(
        &self,
        tenant: &str,
        environment: Option<&str>,
        run: Option<&RunId>,
        name: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<EmittedEvent>, StoreError> {
        Self::get(self).journal.emitted(tenant, environment, run, name, page).await
    }

    async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        Self::get(self).journal.session(id).await
    }

    async fn sessions(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<SessionRow>, StoreError> {
        Self::get(self).journal.sessions(run, step, page).await
    }

    async fn session_lines(
        &self,
        run: &RunId,
        session: &str,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SessionLine>, StoreError> {
        Self::get(self).journal.session_lines(run, session, after, limit).await
    }
}
