//! Which models answer: providers of the process and of each environment's `models.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use caisson_runtime::model::Models;

use crate::env::{Environment, Problem, models};

/// The providers that environments name, under the names that they have among all environments.
#[derive(Debug, Default)]
pub(super) struct Providers {
    /// Names by environment.
    own: BTreeMap<String, Vec<String>>,
    /// Whether several environments share the models: then each one's providers carry its name.
    several: bool,
}

impl Providers {
    /// Makes them known. Where several environments name one alike, each keeps its own.
    pub(super) fn set_up(models: &Models, environments: &[Environment], problems: &mut Vec<Problem>) -> Self {
        let (of_process, found) = models::from_process();
        problems.extend(found);
        for (name, provider) in of_process {
            models.set_provider(name, provider);
        }
        let mut providers = Self { own: BTreeMap::new(), several: environments.len() > 1 };
        for environment in environments {
            let mut own = Vec::new();
            if let Some(source) = &environment.models {
                let (made, found) = models::read(source, environment.dir.as_deref().unwrap_or(Path::new("")));
                problems.extend(found);
                for (name, provider) in made {
                    models.set_provider(providers.among_all(&name, &environment.name), provider);
                    own.push(name);
                }
            }
            for (name, script) in &environment.scripts {
                match models::scripted(&script.bytes) {
                    Ok(provider) => {
                        models.set_provider(providers.among_all(name, &environment.name), provider);
                        own.push(name.clone());
                    }
                    Err(message) => problems.push(Problem::new(&script.path, message)),
                }
            }
            providers.own.insert(environment.name.clone(), own);
        }
        providers
    }

    /// An agent's model, with its provider's name among all environments.
    pub(super) fn own_model(&self, environment: &str, model: &str) -> String {
        let (provider, rest) = model.split_once('/').unwrap_or((model, model));
        let own = self.own.get(environment).is_some_and(|own| own.iter().any(|name| name == provider));
        if own { format!("{}/{rest}", self.among_all(provider, environment)) } else { model.to_owned() }
    }

    fn among_all(&self, provider: &str, environment: &str) -> String {
        if self.several { format!("{provider}@{environment}") } else { provider.to_owned() }
    }
}
