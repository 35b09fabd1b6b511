//! JavaScript and TypeScript: npm's packages, esbuild and componentize-qjs among them, driven by the SDK's own script.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::super::project::Project;
use super::super::tool::{Tool, result};
use super::super::{sdk, world};
use super::{COMPONENT, Effort};

/// npm's own record of what it installed.
const INSTALLED: &str = "node_modules/.package-lock.json";

pub async fn build(project: &Project, effort: Effort) -> anyhow::Result<Vec<u8>> {
    sdk::write_js(&project.dir, Some(&world::imports(project)?))?;
    install(&project.dir).await?;
    let script = Tool::new("node", &project.dir).args([".caisson/js/build.mjs"]);
    match effort {
        Effort::Whole => script.args(["--check"]),
        Effort::Sound | Effort::Quick => script,
    }
    .run()
    .await?;
    result(&project.work(COMPONENT))
}

/// Installs what `package.json` names, unless that was done since it was changed.
async fn install(dir: &Path) -> anyhow::Result<()> {
    let time = |name: &str| -> Option<SystemTime> { fs::metadata(dir.join(name)).ok()?.modified().ok() };
    let wanted = time("package.json").max(time("package-lock.json"));
    if time(INSTALLED).is_some_and(|installed| Some(installed) >= wanted) {
        return Ok(());
    }
    let how = if dir.join("package-lock.json").is_file() { "ci" } else { "install" };
    Tool::new("npm", dir).args([how, "--no-audit", "--no-fund"]).run().await
}
