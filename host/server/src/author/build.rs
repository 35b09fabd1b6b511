//! `caisson plugin build`: from a plugin's folder to one `.wasm` with its manifest inside, by the language's own published tools.

mod node;
mod python;
mod rust;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caisson_core::plugin::Package;
use caisson_runtime::PackageError;
use clap::Args;

use super::local::{derived_schemas, starts};
use super::project::{Language, MANIFEST, Project, SCRIPT, replace_file};
use super::show::{answer, size};
use super::world;
use crate::cli::Outcome;
use crate::cli::output::{duration, json_line, line};

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The plugin's folder.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// What the tools leave in the folder for the build's own files.
const COMPONENT: &str = "component.wasm";

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// To be handed on: optimised, its types checked.
    Whole,
    /// To be put in force at once: it starts, or what is there stays.
    Sound,
    /// To be tried at once: what is wrong shows.
    Quick,
}

/// A built plugin.
pub struct Built {
    /// The component.
    pub bytes: Vec<u8>,
    /// What it says of itself.
    pub package: Package,
    /// How long it took.
    pub took: Duration,
}

/// Builds a folder and says what came of it.
pub async fn execute(args: BuildArgs, json: bool) -> anyhow::Result<Outcome> {
    let project = Project::open(&args.dir)?;
    let Built { package, took, .. } = build(&project, Effort::Whole).await?;
    if json {
        json_line(&serde_json::to_string(&answer(&package))?);
        return Ok(Outcome::Done);
    }
    let output = project.output();
    let shown = args.dir.join(output.strip_prefix(&project.dir).unwrap_or(&output));
    let shown = shown.strip_prefix(".").unwrap_or(&shown);
    let took = duration(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    line(&format!("built {} in {took}: {}, sha256 {}", shown.display(), size(package.size), package.digest));
    let permissions = package.permissions();
    if permissions.is_empty() {
        line("it asks for nothing");
    } else {
        line(&format!("it asks for: {}", permissions.join(", ")));
    }
    Ok(Outcome::Done)
}

/// What is built there if it is newer than every source, else builds. Cargo knows better than we do, and a script takes no time.
pub async fn current(project: &Project) -> anyhow::Result<Built> {
    let began = Instant::now();
    let trusted = matches!(project.language, Language::Node | Language::Python);
    if trusted && project.is_fresh() {
        let bytes = std::fs::read(project.latest()).with_context(|| project.latest().display().to_string())?;
        if let Ok(package) = caisson_runtime::inspect(&bytes) {
            return Ok(Built { bytes, package, took: began.elapsed() });
        }
    }
    build(project, Effort::Quick).await
}

/// Builds: the world, the tools, the manifest into what they made, and the same check that a host makes.
pub async fn build(project: &Project, effort: Effort) -> anyhow::Result<Built> {
    let began = Instant::now();
    let bytes = match project.language {
        Language::Script => script(project, effort).await?,
        _ => component(project, effort).await?,
    };
    let package = caisson_runtime::inspect(&bytes).map_err(|error| refused(project, error))?;
    if package.id != project.manifest.id {
        bail!("the component holds the manifest of '{}' and not that of '{}'", package.id, project.manifest.id);
    }
    replace_file(&project.latest(), &bytes)?;
    if effort == Effort::Whole {
        replace_file(&project.output(), &bytes)?;
    }
    Ok(Built { bytes, package, took: began.elapsed() })
}

/// No tool has looked at it yet: the engine does, unless it is about to run anyway.
async fn script(project: &Project, effort: Effort) -> anyhow::Result<Vec<u8>> {
    let script = std::fs::read(project.dir.join(SCRIPT)).with_context(|| format!("failed to read {SCRIPT}"))?;
    let bytes = caisson_runtime::javascript_package(&project.text, &script)?;
    if effort != Effort::Quick {
        starts(&bytes).await.with_context(|| SCRIPT.to_owned())?;
    }
    Ok(bytes)
}

async fn component(project: &Project, effort: Effort) -> anyhow::Result<Vec<u8>> {
    world::write(project)?;
    let built = match project.language {
        Language::Rust => rust::build(project, effort).await?,
        Language::Node => node::build(project, effort).await?,
        Language::Python => python::build(project).await?,
        Language::Script => bail!("a script is not built"),
    };
    let assets = project.assets()?;
    let bytes = caisson_runtime::embed(&built, &project.text, &assets, None)?;
    if project.language != Language::Rust || is_described(project) {
        return Ok(bytes);
    }
    // A plugin in Rust can say itself what its types look like.
    match derived_schemas(&bytes).await? {
        Some(schemas) => Ok(caisson_runtime::embed(&bytes, &project.text, &assets, Some(&schemas.to_string()))?),
        None => Ok(bytes),
    }
}

/// Whether the manifest has every schema that could be derived.
fn is_described(project: &Project) -> bool {
    project.manifest.actions.iter().all(|action| action.input_schema.is_some() && action.output_schema.is_some())
}

/// What the host would say, with what an author can do about it.
fn refused(project: &Project, error: PackageError) -> anyhow::Error {
    let code = error.code();
    let error = anyhow::Error::new(error);
    if code == "PLUGIN_IMPORT_UNDECLARED" {
        return error.context(format!(
            "the code of {} uses a capability that {MANIFEST} does not ask for; ask for it there, or do not use it",
            project.manifest.id
        ));
    }
    error.context(format!("a host would refuse what was built ({code})"))
}
