//! The demonstration that `caisson up` runs: the files of `demo/`, in the program itself.

use std::path::Path;

use crate::api::auth::DEFAULT_ENVIRONMENT;
use crate::env::{Environment, Source};

/// The workflow's id.
pub const WORKFLOW: &str = "incident-triage";

/// What it is started with.
pub const INPUT: &str = r#"{"namespace": "production", "service": "checkout"}"#;

/// What the scripted model answers.
const ANSWERS: &str = include_str!("../demo/answers.json");

/// The model that the demonstration's agents name: in their files it is `scripted/demo`.
pub const PROVIDER: &str = "scripted";

macro_rules! source {
    ($path:literal) => {
        Source { path: concat!("demo/", $path).into(), bytes: include_bytes!(concat!("../demo/", $path)).to_vec() }
    };
}

/// The environment that its files make.
pub fn environment() -> Environment {
    Environment {
        name: DEFAULT_ENVIRONMENT.to_owned(),
        workflows: vec![source!("workflows/incident-triage.workflow.yaml")],
        agents: vec![
            source!("agents/k8s-pod-checker.prompt"),
            source!("agents/k8s-remediator.prompt"),
            source!("agents/notification-sender.prompt"),
            source!("agents/slo-analyzer.prompt"),
        ],
        scripts: vec![(
            PROVIDER.to_owned(),
            Source { path: Path::new("demo/answers.json").into(), bytes: ANSWERS.into() },
        )],
        ..Environment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{models, prompt};

    #[test]
    fn the_files_of_the_demonstration_are_sound() {
        let environment = environment();
        for agent in &environment.agents {
            let agent = prompt::read(agent).expect("reads");
            assert!(agent.model.starts_with(PROVIDER), "{}", agent.name);
        }
        models::scripted(ANSWERS.as_bytes()).expect("reads");
        let source = &environment.workflows[0].bytes;
        let reading = caisson_core::definition::read(source, caisson_core::definition::Format::Yaml);
        assert_eq!(&*reading.definition.expect("has no errors").id, WORKFLOW);
    }
}
