//! The host that is measured: a child process with a data directory of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cli::output::note;
use crate::client::Client;

/// A host that is not up by then will not be: compiling all plugins takes a development build a minute.
const START_TIME_MAX: Duration = Duration::from_mins(5);

/// Ends in good order within this, or by force.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// Ticks of `/proc/PID/stat` in a second: the same on every Linux that people use.
const TICKS_PER_SECOND: f64 = 100.0;

/// A host to measure.
pub struct BenchHost {
    client: Client,
    own: Option<Own>,
}

struct Own {
    child: Child,
    pid: u32,
    directory: tempfile::TempDir,
}

impl BenchHost {
    /// One that runs already; its CPU and memory cannot be seen.
    pub fn remote(client: Client) -> Self {
        Self { client, own: None }
    }

    /// Starts one with embedded parts.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments.
    pub async fn start_with(args: &[String]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
        let key_file = directory.path().join("key");
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory.path().join("data"))
            .arg("--admin-key-file")
            .arg(&key_file)
            .args(args)
            .env("CAISSON_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start a host")?;
        let pid = child.id().context("failed to start a host: it ended at once")?;
        let stdout = child.stdout.take().context("failed to read what the host says")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(START_TIME_MAX, lines.next_line())
            .await
            .context("failed to start a host: it says nothing")?
            .context("failed to read what the host says")?;
        let Some(url) = first.as_deref().and_then(|line| line.strip_prefix("listening on ")) else {
            bail!("failed to start a host: it said {first:?}");
        };
        // What else it says must not fill the pipe; ends with the child.
        let client = Client::new(url, Some(std::fs::read_to_string(&key_file)?.trim()))?;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { client, own: Some(Own { child, pid, directory }) })
    }

    /// How to speak to it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// In a few words.
    pub fn describe(&self) -> String {
        match &self.own {
            Some(own) => format!("its own host (process {})", own.pid),
            None => format!("the host at {} (its CPU and memory are not measured)", self.client.server()),
        }
    }

    /// CPU that it has used, user and system, in milliseconds.
    pub fn cpu_ms(&self) -> Option<f64> {
        cpu_ms(self.own.as_ref()?.pid)
    }

    /// Memory that it holds, in bytes.
    pub fn memory(&self) -> Option<f64> {
        status_bytes(self.own.as_ref()?.pid, "VmRSS:")
    }

    /// The most that it held since it was last forgotten, in bytes.
    pub fn peak_memory(&self) -> Option<f64> {
        status_bytes(self.own.as_ref()?.pid, "VmHWM:")
    }

    /// Forgets the peak.
    pub fn forget_peak(&self) {
        if let Some(own) = &self.own {
            // Where the kernel does not allow it, the peak is that of the whole life, which is said to be one.
            drop(std::fs::write(format!("/proc/{}/clear_refs", own.pid), "5"));
        }
    }

    /// What its data directory takes, without compiled code.
    #[expect(clippy::cast_precision_loss, reason = "file sizes")]
    pub fn disk(&self) -> Option<f64> {
        let data = self.own.as_ref()?.directory.path().join("data");
        let files = std::fs::read_dir(data).ok()?.filter_map(|entry| entry.ok()?.metadata().ok());
        Some(files.filter(std::fs::Metadata::is_file).map(|file| file.len() as f64).sum())
    }

    /// Ends it.
    pub async fn stop(self) {
        let Some(mut own) = self.own else { return };
        let asked = Command::new("kill").arg(own.pid.to_string()).status().await;
        if asked.is_ok() && tokio::time::timeout(STOP_TIME_MAX, own.child.wait()).await.is_ok() {
            return;
        }
        if let Err(error) = own.child.kill().await {
            note(&format!("warning: the host of the benchmark could not be ended: {error}"));
        }
    }
}

/// CPU of a process, user and system, in milliseconds.
pub fn cpu_ms(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(proc_path(pid, "stat")).ok()?;
    // The name in parentheses may hold anything; the fields begin after the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks * 1000.0 / TICKS_PER_SECOND)
}

fn status_bytes(pid: u32, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(proc_path(pid, "status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

fn proc_path(pid: u32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}
