//! PostgreSQL from the Debian package `postgresql`.
//!
//! Found in the newest `/usr/lib/postgresql/*/bin` or on the `PATH`; else installed with apt-get, which needs root. PostgreSQL does not run
//! as root, so tests of root run it as another user.
//!
//! Each server has a guard: a process that waits for the end of a pipe that this process holds, then ends the server and deletes its data. It
//! comes however this process ends, and a server may be shared by threads that come and go (a parent-death signal would come with the end of
//! the *thread* that started it).
//!
//! Durable as in earnest: `fsync` stays on, and a server that is killed recovers from its log when it is started again.

use std::ffi::OsStr;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::nats::free_port;

/// The package.
const PACKAGE: &str = "postgresql";
/// Who runs the server when root may not: the package's own user, else the one that owns nothing.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// The role and the first database.
const ROLE: &str = "caisson";
/// A server that does not answer by then never will: it takes 100 ms on a quiet machine, recovery included.
const START_MAX: Duration = Duration::from_secs(30);
/// Somebody else may take a free port before the server does: so many are tried.
const PORTS_MAX: u32 = 5;

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    user: Option<User>,
    dir: TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
    databases: AtomicU64,
    guard: Option<Child>,
    settings: Vec<String>,
}

/// Numbers of a user and its group.
#[derive(Clone, Debug)]
struct User {
    uid: String,
    gid: String,
}

impl PostgresServer {
    /// Starts a server on a free port of the loopback with no data.
    pub fn new() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more settings, each `name=value`.
    pub fn start_with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for PostgreSQL");
        let guard = Some(guard(dir.path()));
        let (child, databases) = (Mutex::default(), AtomicU64::new(0));
        let settings = settings.iter().map(ToString::to_string).collect();
        let mut server = Self { programs: programs(), user: user(), dir, port: 0, child, databases, guard, settings };
        server.make_data();
        for _ in 0..PORTS_MAX {
            server.port = free_port();
            if server.launch().is_ok() {
                return server;
            }
        }
        panic!("PostgreSQL does not start: {}", server.log());
    }

    /// The server that all tests of this process share. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// A URL of the database that is there from the start, by its superuser.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes an empty database and gives its URL.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.url_of(&name)
    }

    /// Runs a statement in the database that is there from the start, and gives what it answers, a line for each row.
    pub fn execute(&self, sql: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "--set",
                "ON_ERROR_STOP=1",
                "--command",
                sql,
            ])
            .arg(self.url())
            .output()
            .expect("psql can be run");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends the server at once, as a power cut would: no connection is told, and the next start recovers.
    pub fn kill(&self) {
        self.end("-KILL");
    }

    /// Ends the server in order: connections are told, and all is written.
    pub fn stop(&self) {
        // PostgreSQL's fast shutdown.
        self.end("-INT");
    }

    /// Starts it again on the same port and data.
    pub fn start(&self) {
        assert!(self.child().is_none(), "PostgreSQL runs already");
        let began = Instant::now();
        // The children of one that was killed end by themselves, a little later; until then the data is not free.
        while let Err(error) = self.launch() {
            assert!(began.elapsed() < START_MAX, "PostgreSQL does not start again: {error}: {}", self.log());
        }
    }

    /// Stops the process that takes connections, without ending it: nobody new is let in.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, name: &str) {
        let id = self.child().as_ref().expect("PostgreSQL runs").id().to_string();
        let status = Command::new("kill").args([name, &id]).status().expect("kill can be run");
        assert!(status.success(), "kill {name} {id}");
    }

    fn end(&self, signal: &str) {
        self.signal(signal);
        let child = self.child().take();
        child.expect("PostgreSQL runs").wait().expect("PostgreSQL can be waited for");
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Makes the files of an empty server.
    fn make_data(&self) {
        if let Some(User { uid, .. }) = &self.user {
            let status = Command::new("chown").arg(uid).arg(self.dir.path()).status().expect("chown can be run");
            assert!(status.success(), "chown {uid}");
        }
        let output = self
            .command("initdb")
            .arg("--pgdata")
            .arg(self.data())
            .args(["--username", ROLE, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .output()
            .expect("initdb can be run");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// One of the programs, as the user who may run it.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match &self.user {
            None => Command::new(program),
            Some(User { uid, gid }) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", uid, "--regid", gid, "--clear-groups"]).arg(program);
                command
            }
        };
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn launch(&self) -> Result<(), String> {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.map_err(|error| error.to_string())?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // Several stores with pools of their own, for each of the tests that run side by side.
            "max_connections=300",
            // Small machines: many servers run at once.
            "shared_buffers=64MB",
        ] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("it, or setpriv of util-linux, cannot be run: {error}"))?;
        let began = Instant::now();
        loop {
            if self.answers() {
                *self.child() = Some(child);
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if began.elapsed() > START_MAX {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!("it did not answer within {START_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it lets somebody in: it may listen before.
    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && Command::new(self.programs.join("pg_isready"))
                .args(["--quiet", "--host", "127.0.0.1", "--port", &self.port.to_string()])
                .status()
                .is_ok_and(|status| status.success())
    }
}

impl Default for PostgresServer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill().and_then(|()| child.wait());
        }
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

/// What ends a server and deletes its directory when this process is gone, or drops it. A number that another process has by now is left
/// alone.
fn guard(dir: &Path) -> Child {
    const SCRIPT: &str = r#"
        read -r _
        pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
        if [ -n "$pid" ] && grep -q "$1/data" "/proc/$pid/cmdline" 2>/dev/null; then kill -KILL "$pid"; fi
        rm -rf "$1"
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "guard"]).arg(dir).current_dir("/");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sh can be run")
}

/// Where the programs are; installs them if they are nowhere.
fn programs() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed().or_else(on_path).unwrap_or_else(install)).clone()
}

/// The newest that is installed.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let whole = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("postgres").is_file());
    whole.max_by_key(|bin| {
        bin.parent().and_then(Path::file_name).and_then(OsStr::to_str).and_then(|v| v.parse::<u32>().ok())
    })
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|dir| dir.join("postgres").is_file() && dir.join("initdb").is_file())
}

fn install() -> PathBuf {
    let missing = format!("no PostgreSQL in /usr/lib/postgresql or on the PATH: apt-get install {PACKAGE}");
    assert!(is_root(), "{missing}");
    eprintln!("installing the package {PACKAGE}");
    let installed_now = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends", PACKAGE])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status();
    match installed_now {
        Ok(status) if status.success() => installed().unwrap_or_else(|| panic!("{PACKAGE} has no server: {missing}")),
        Ok(status) => panic!("apt-get ended with {status}; {missing}"),
        Err(error) => panic!("apt-get cannot be run ({error}); {missing}"),
    }
}

/// Who runs the server; `None` for whoever runs the test.
fn user() -> Option<User> {
    if !is_root() {
        return None;
    }
    let known = USERS.into_iter().find_map(|name| Some(User { uid: id(&["-u", name])?, gid: id(&["-g", name])? }));
    Some(known.unwrap_or_else(|| panic!("PostgreSQL refuses root, and there is no user {}", USERS.join(" or "))))
}

fn is_root() -> bool {
    id(&["-u"]).as_deref() == Some("0")
}

fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).output().expect("id can be run");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
