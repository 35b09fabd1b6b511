//! How ready steps travel: in the process, or over NATS JetStream.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use caisson_core::ports::{Clock, EventSink, Journal, SessionElsewhere, TaskQueue};
use caisson_orchestrator::Live;
use caisson_queue::jetstream::{self, EventPublisher, JetStreamQueue, Options, Tls};
use caisson_queue::{EmbeddedQueue, ManagedNats, ManagedOptions};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Error, START_PATIENCE};
use crate::observe::Probe;
use crate::observe::metrics::{self, Source};

/// Which NATS.
#[derive(Clone, Debug)]
pub enum NatsConfig {
    /// A child of this host.
    Managed {
        /// `nats-server`.
        program: Option<PathBuf>,
    },
    /// One that runs already.
    At(NatsAt),
}

/// How to reach a NATS that runs already.
#[derive(Clone, Debug)]
pub struct NatsAt {
    /// Addresses of one cluster.
    pub urls: Vec<String>,
    /// A `.creds` file.
    pub credentials: Option<PathBuf>,
    /// A file that holds a token.
    pub token_file: Option<PathBuf>,
    /// Roots that are trusted beside the system's (PEM).
    pub ca: Option<PathBuf>,
    /// Our certificate and its key (PEM).
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Copies of each stream.
    pub replicas: usize,
}

/// Hints about agents that are taken together: a session that went on many times meanwhile is read once.
const HINTS_AT_ONCE: usize = 256;

/// Between two tries to reach NATS at the start.
const START_PAUSE: Duration = Duration::from_millis(500);

/// The queue by its port, and what ends with it.
pub(super) struct Queue {
    pub(super) port: Arc<dyn TaskQueue>,
    nats: Option<Shared>,
    /// What waits in it.
    pub(super) waiting: Source,
}

/// What hosts share over NATS.
struct Shared {
    queue: Arc<JetStreamQueue>,
    events: Arc<EventPublisher>,
    server: Option<ManagedNats>,
}

impl Queue {
    pub(super) async fn open(
        nats: Option<&NatsConfig>,
        data_dir: &Path,
        host: &str,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let (options, server) = match nats {
            None => {
                let queue = Arc::new(EmbeddedQueue::new());
                let counted = queue.clone();
                let waiting: Source = Arc::new(move || metrics::queue(Some(counted.waiting() as u64), None));
                return Ok(Self { port: queue, nats: None, waiting });
            }
            Some(NatsConfig::At(nats)) => (options(nats, host)?, None),
            Some(NatsConfig::Managed { program }) => {
                let options = ManagedOptions {
                    program: program.clone(),
                    data_dir: data_dir.to_path_buf(),
                    port: None,
                    monitor: false,
                };
                let server = ManagedNats::start(options).await?;
                let token = Some(server.token().to_owned());
                (Options { token, ..Options::new(server.url(), host) }, Some(server))
            }
        };
        let queue = Arc::new(connect(options, clock).await?);
        let events = Arc::new(EventPublisher::new(&queue, host));
        let counted = queue.clone();
        let waiting: Source = Arc::new(move || {
            let lag = counted.lag();
            metrics::queue(lag.map(|lag| lag.pending), lag.map(|lag| lag.unsettled))
        });
        Ok(Self { port: queue.clone(), nats: Some(Shared { queue, events, server }), waiting })
    }

    /// Whether work travels.
    pub(super) fn probe(&self) -> Option<Arc<dyn Probe>> {
        self.nats.as_ref().map(|nats| -> Arc<dyn Probe> { Arc::new(Connected(nats.queue.clone())) })
    }

    /// Who is told of what is stored.
    pub(super) fn events(&self) -> Option<Arc<dyn EventSink>> {
        self.nats.as_ref().map(|nats| -> Arc<dyn EventSink> { nats.events.clone() })
    }

    /// Tells those who watch here what other hosts did, until the host is stopped.
    pub(super) fn listen(
        &self,
        live: Live,
        journal: Arc<dyn Journal>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let events = self.nats.as_ref().map(|nats| nats.events.clone());
        async move {
            let Some(events) = events else { return };
            let listening = async {
                match events.subscribe().await {
                    Ok(mut news) => {
                        while let Some(one) = news.next().await {
                            live.committed_elsewhere(&one);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "news of other hosts come late: they are looked for in the store");
                    }
                }
            };
            let following = async {
                match events.subscribe_sessions().await {
                    Ok(news) => {
                        let mut news = news.ready_chunks(HINTS_AT_ONCE);
                        while let Some(hints) = news.next().await {
                            follow(hints, &live, &*journal).await;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "nobody here is told how agents of other hosts go on"),
                }
            };
            let watched = live.clone();
            let hearing = async {
                match events.subscribe_said(move |run| watched.is_watched(run)).await {
                    Ok(mut news) => {
                        while let Some((run, said)) = news.next().await {
                            live.said(&run, said);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "nobody here sees at once what guests of other hosts write"),
                }
            };
            tokio::select! {
                ((), (), ()) = async { tokio::join!(listening, following, hearing) } => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Waits a moment for what is on its way.
    pub(super) async fn close(self) {
        if let Some(Shared { queue, events, server }) = self.nats {
            events.close().await;
            queue.close().await;
            if let Some(server) = server {
                server.stop().await;
            }
        }
    }
}

/// Tells those who watch a run how its agents stand: what is true is read from the store, and of runs alone that are watched.
async fn follow(hints: Vec<SessionElsewhere>, live: &Live, journal: &dyn Journal) {
    let distinct: BTreeSet<_> = hints.into_iter().collect();
    for hint in distinct.into_iter().filter(|hint| live.is_watched(&hint.run)) {
        match journal.session(&hint.session).await {
            Ok(Some(row)) if row.run == hint.run => live.session(&row),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, session = &*hint.session, "a session of another host cannot be read"),
        }
    }
}

/// Connects; a server that does not answer is asked again for a while.
async fn connect(options: Options, clock: &Arc<dyn Clock>) -> Result<JetStreamQueue, jetstream::Error> {
    let began = Instant::now();
    loop {
        match JetStreamQueue::connect(options.clone(), Arc::clone(clock)).await {
            Err(error @ jetstream::Error::Connect { passing: true, .. }) if began.elapsed() < START_PATIENCE => {
                tracing::warn!(%error, "NATS cannot be reached yet");
                tokio::time::sleep(START_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

struct Connected(Arc<JetStreamQueue>);

impl Probe for Connected {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn problem(&self) -> Option<String> {
        (!self.0.is_connected()).then(|| "NATS is out of reach".to_owned())
    }
}

fn options(nats: &NatsAt, host: &str) -> Result<Options, Error> {
    let token = match &nats.token_file {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|source| Error::TokenFile { file: file.display().to_string(), source })?;
            Some(text.trim().to_owned())
        }
    };
    Ok(Options {
        urls: nats.urls.clone(),
        token,
        credentials: nats.credentials.clone(),
        tls: Tls { required: false, ca: nats.ca.clone(), certificate: nats.certificate.clone() },
        replicas: nats.replicas,
        ..Options::new("", host)
    })
}
