//! A server's process: its environment, its group, its end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use caisson_core::ids::Realm;
use caisson_core::ports::{Secret, Secrets, ToolError};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::spec::{Piece, ServerSpec, secrets};

/// Where programs are looked for when a server declares no `PATH`: the system's own places, whatever the host's variables say.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// A server whose input has ended may take so long to end by itself.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How to start this program as a guard: it is expected to hand what follows `args` to [`crate::guard_main`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The program: a host starts itself.
    pub program: PathBuf,
    /// What makes it call [`crate::guard_main`].
    pub args: Vec<String>,
}

/// A process with what hangs on it. Dropped, its whole group is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    guarded: bool,
}

/// The ends of its pipes.
pub(crate) struct Ends {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// Secrets that a server was given, by name.
pub(crate) type Given = Vec<(String, Secret)>;

/// The variables of a server, with secrets filled in, and which those are.
pub(crate) fn variables(
    spec: &ServerSpec,
    realm: &Realm,
    known: &dyn Secrets,
) -> Result<(Vec<(String, OsString)>, Given), ToolError> {
    let mut variables = Vec::new();
    let mut given = Given::new();
    for (name, value) in &spec.env {
        let mut filled = String::new();
        let pieces = secrets(value).map_err(|error| ToolError::Unavailable(error.to_string()))?;
        for piece in pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Secret(secret) => {
                    let found = known.get(realm, secret).ok_or_else(|| {
                        ToolError::Unavailable(format!(
                            "tool server '{}' needs the secret '{secret}' for its variable {name}, and there is none of that name in environment '{}'",
                            spec.name, realm.environment
                        ))
                    })?;
                    filled.push_str(found.expose());
                    given.push((secret.to_owned(), found));
                }
            }
        }
        variables.push((name.clone(), filled.into()));
    }
    given.sort_by(|one, other| one.0.cmp(&other.0));
    given.dedup_by(|one, other| one.0 == other.0);
    Ok((variables, given))
}

impl Process {
    /// Starts it: with these variables and no others, in a group of its own, in its directory.
    pub(crate) fn start(
        spec: &ServerSpec,
        dir: &Path,
        guard: Option<&Guard>,
        variables: Vec<(String, OsString)>,
    ) -> std::io::Result<(Self, Ends)> {
        let mut command = match guard {
            Some(guard) => {
                let mut command = Command::new(&guard.program);
                command.args(&guard.args).arg(std::process::id().to_string()).arg(&spec.command);
                command
            }
            None => {
                let mut command = Command::new(&spec.command);
                die_with_parent(command.as_std_mut());
                command
            }
        };
        command
            .args(&spec.args)
            .env_clear()
            .env("PATH", PATH_DEFAULT)
            .envs(variables)
            .current_dir(spec.cwd.as_ref().map_or_else(|| dir.to_owned(), |cwd| dir.join(cwd)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let gone = || std::io::Error::other("its pipes are gone");
        let ends = Ends {
            stdin: child.stdin.take().ok_or_else(gone)?,
            stdout: child.stdout.take().ok_or_else(gone)?,
            stderr: child.stderr.take().ok_or_else(gone)?,
        };
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok((Self { child, group, guarded: guard.is_some() }, ends))
    }

    /// Its number, while it is there.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it. Its input is closed already: it may end by itself for a moment, then its group is killed.
    pub(crate) async fn end(mut self) {
        if self.guarded {
            // The guard ends last, and by killing all others.
            if tokio::time::timeout(GRACE, self.child.wait()).await.is_ok() {
                self.group = None;
                return;
            }
        } else {
            // Not waited for: its number has to stay its own until its group is killed.
            tokio::time::sleep(GRACE).await;
        }
        self.kill();
        // It was killed; what is left is to let the system forget it.
        let _ = self.child.wait().await;
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // It may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The kernel kills the child when the thread that starts it ends: with its whole process at the latest.
#[expect(unsafe_code, reason = "what runs between fork and exec is one system call")]
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: prctl with plain numbers may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}
