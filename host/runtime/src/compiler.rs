//! Who compiles: a child process with limits, or this one.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cache::{Aside, Cache};
use crate::compile::{self, EXIT_REFUSED, EXIT_WARM_UP, Job, Refused, Treatment};
use crate::config;
use crate::package::Shape;
use crate::sys::release_memory;

/// How long a child may take: Python's components take twenty seconds on a quiet core.
const CHILD_TIME: Duration = Duration::from_mins(2);
/// Of what a child says, so much is kept.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;

/// Compiles, at most one component per core at once.
pub(crate) struct Compiler {
    kind: config::Compiler,
    fuel: bool,
    permits: Semaphore,
}

/// A component and how much of a pool it takes.
pub(crate) type Shaped = (Component, Shape);

impl Compiler {
    pub(crate) fn new(kind: config::Compiler, fuel: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { kind, fuel, permits: Semaphore::new(cores) }
    }

    /// Waits for its turn, says that it has begun, compiles, and keeps the code under that name. Dropping it ends a
    /// child.
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        cache: Option<&std::sync::Arc<Cache>>,
        name: &str,
        bytes: Bytes,
        treatment: Treatment,
        began: impl FnOnce() + Send,
    ) -> Result<Shaped, Refused> {
        let _permit = self.permits.acquire().await.map_err(|e| Refused::Broken(e.to_string()))?;
        began();
        let shape = crate::package::Parts::read(&bytes).map_err(|e| Refused::Compiler(e.to_string()))?.shape;
        match (&self.kind, cache) {
            (config::Compiler::Child { program, args }, Some(cache)) => {
                let compiled = self.in_child(program, args, cache, bytes, treatment).await?;
                let (engine, cache, name) = (engine.clone(), std::sync::Arc::clone(cache), name.to_owned());
                blocking(move || {
                    cache.adopt(&name, shape, &compiled).map_err(|e| broken("keep compiled code", &e))?;
                    cache.load(&engine, &name).ok_or_else(|| {
                        Refused::Broken(
                            "what the compiling child wrote does not load: is it of another version?".to_owned(),
                        )
                    })
                })
                .await
            }
            _ => {
                let (engine, cache, name) = (engine.clone(), cache.cloned(), name.to_owned());
                blocking(move || in_process(&engine, cache.as_deref(), &name, shape, &bytes, &treatment)).await
            }
        }
    }

    async fn in_child(
        &self,
        program: &PathBuf,
        args: &[String],
        cache: &Cache,
        bytes: Bytes,
        treatment: Treatment,
    ) -> Result<Aside, Refused> {
        let aside = || cache.aside().map_err(|e| broken("name a file", &e));
        let (input, output) = (aside()?, aside()?);
        let input = blocking(move || {
            input.write(&bytes).map_err(|e| broken("write a component for the compiler", &e))?;
            Ok(input)
        })
        .await?;
        let job = Job { input: input.path().into(), output: output.path().into(), fuel: self.fuel, treatment };
        let mut child = Command::new(program)
            .args(args)
            .args(job.to_args())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| broken(&format!("start the compiler {}", program.display()), &e))?;
        let said = child.stderr.take();
        let ended = tokio::time::timeout(CHILD_TIME, async {
            let mut message = Vec::new();
            if let Some(said) = said {
                // What cannot be read is left out of the message.
                let _ = said.take(MESSAGE_BYTES_MAX).read_to_end(&mut message).await;
            }
            child.wait().await.map(|status| (status, String::from_utf8_lossy(&message).trim().to_owned()))
        });
        match ended.await {
            Err(_) => Err(Refused::Compiler(format!("it took longer than {} seconds", CHILD_TIME.as_secs()))),
            Ok(Err(error)) => Err(broken("wait for the compiler", &error)),
            Ok(Ok((status, message))) => judge(status, message).map(|()| output),
        }
    }
}

/// What a child's end means.
fn judge(status: ExitStatus, message: String) -> Result<(), Refused> {
    if status.success() {
        return Ok(());
    }
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(EXIT_REFUSED) => Err(Refused::Compiler(message)),
        Some(EXIT_WARM_UP) => Err(Refused::WarmUp(message)),
        Some(_) => Err(Refused::Broken(format!("the compiler ended with {status}: {message}"))),
        None => {
            let why = match status.signal() {
                Some(libc::SIGXCPU) => "it took more than the CPU time that a compilation may take".to_owned(),
                // How an allocation that fails ends.
                Some(libc::SIGABRT) => "it needed more memory than a compilation may take".to_owned(),
                _ => format!("the compiler was ended by {status}"),
            };
            Err(Refused::Compiler(why))
        }
    }
}

fn in_process(
    engine: &Engine,
    cache: Option<&Cache>,
    name: &str,
    shape: Shape,
    bytes: &[u8],
    treatment: &Treatment,
) -> Result<Shaped, Refused> {
    let result = compile::treated(bytes, treatment).and_then(|treated| {
        let refused = |e: wasmtime::Error| Refused::Compiler(format!("{e:#}"));
        if let Some(cache) = cache {
            let compiled = engine.precompile_component(&treated).map_err(refused)?;
            if let Err(error) = cache.store(name, shape, &compiled) {
                tracing::warn!(%error, "failed to keep compiled code: it is compiled again at the next start");
            } else if let Some(kept) = cache.load(engine, name) {
                return Ok(kept);
            }
        }
        Component::new(engine, &treated).map(|component| (component, shape)).map_err(refused)
    });
    release_memory();
    result
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Refused::Broken(format!("the compiler did not end well: {error}"))),
    }
}

fn broken(what: &str, error: &std::io::Error) -> Refused {
    Refused::Broken(format!("failed to {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_end_says_whose_fault_it_was() {
        let exited = |code: i32| judge(ExitStatus::from_raw(code << 8), "said".to_owned());
        let killed = |signal: i32| judge(ExitStatus::from_raw(signal), String::new());
        assert!(exited(0).is_ok());
        assert!(matches!(exited(1), Err(Refused::Compiler(message)) if message == "said"));
        assert!(matches!(exited(3), Err(Refused::WarmUp(_))));
        assert!(matches!(exited(2), Err(Refused::Broken(message)) if message.contains("said")));
        assert!(matches!(killed(libc::SIGXCPU), Err(Refused::Compiler(message)) if message.contains("CPU")));
        assert!(matches!(killed(libc::SIGABRT), Err(Refused::Compiler(message)) if message.contains("memory")));
        assert!(matches!(killed(libc::SIGKILL), Err(Refused::Compiler(_))));
    }
}
