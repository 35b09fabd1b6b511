//! Rust: cargo, for `wasm32-wasip2`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::super::project::Project;
use super::super::tool::{Tool, result};
use super::Effort;

const TARGET: &str = "wasm32-wasip2";

/// A line of cargo's messages, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

pub async fn build(project: &Project, effort: Effort) -> anyhow::Result<Vec<u8>> {
    install_target(&project.dir).await?;
    let cargo = Tool::new("cargo", &project.dir).args([
        "build",
        "--target",
        TARGET,
        "--message-format",
        "json-render-diagnostics",
    ]);
    let messages = match effort {
        Effort::Whole => cargo.args(["--release"]),
        Effort::Sound | Effort::Quick => cargo,
    }
    .output()
    .await?;
    let own = project.dir.join("Cargo.toml");
    let built = String::from_utf8_lossy(&messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.manifest_path.as_ref() == Some(&own))
        .flat_map(|message| message.filenames)
        .find(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    let path = built
        .context("cargo made no .wasm of this folder: its Cargo.toml needs `crate-type = [\"cdylib\"]` under [lib]")?;
    result(&path)
}

/// rustup knows what is installed; without rustup it is somebody else's, and cargo will say what is missing.
async fn install_target(dir: &Path) -> anyhow::Result<()> {
    let rustc = Tool::new("rustc", dir).args(["--print", "target-libdir", "--target", TARGET]);
    let there = rustc.ask().await?.is_some_and(|path| Path::new(&path).is_dir());
    if there {
        return Ok(());
    }
    Tool::new("rustup", dir)
        .args(["target", "add", TARGET])
        .run()
        .await
        .with_context(|| format!("plugins in Rust are built for {TARGET}, which is not installed"))
}
