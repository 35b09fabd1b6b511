//! Python: componentize-py in a virtual environment, driven by the SDK's own script.

use std::fs;
use std::path::Path;

use super::super::project::{Project, write_file};
use super::super::sdk;
use super::super::tool::{Tool, result};
use super::COMPONENT;

const VENV: &str = ".venv";
/// The requirements that were installed: times say little, because an installation may have failed half-way.
const INSTALLED: &str = ".venv/installed-requirements.txt";
const REQUIREMENTS: &str = "requirements.txt";

pub async fn build(project: &Project) -> anyhow::Result<Vec<u8>> {
    sdk::write_python(&project.dir)?;
    install(&project.dir).await?;
    Tool::new(&python(&project.dir), &project.dir).args([".caisson/python/build.py"]).run().await?;
    result(&project.work(COMPONENT))
}

fn python(dir: &Path) -> String {
    let inside = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
    dir.join(VENV).join(inside).to_string_lossy().into_owned()
}

/// Makes the environment and installs the requirements, unless that was done since they were changed.
async fn install(dir: &Path) -> anyhow::Result<()> {
    let wanted = fs::read(dir.join(REQUIREMENTS)).unwrap_or_default();
    if fs::read(dir.join(INSTALLED)).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    Tool::new("python3", dir).args(["-m", "venv", VENV]).run().await?;
    if dir.join(REQUIREMENTS).is_file() {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS];
        Tool::new(&python(dir), dir).args(pip).run().await?;
    }
    write_file(&dir.join(INSTALLED), &wanted)
}
