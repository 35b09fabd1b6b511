//! A plugin as it is loaded: its code, by digest, which all realms share; and a version of it as it is installed in one
//! realm.

use std::sync::{Arc, OnceLock};

use caisson_core::json::Json;
use caisson_core::plugin::{ActionSpec, Effective, Grants, Package};
use caisson_core::ports::{ActionInfo, PluginRef};

use crate::assets::Assets;
use crate::bindings::PluginPre;
use crate::limits::Limits;
use crate::package::Error;
use crate::schema::Schema;
use crate::state::State;
use crate::threads::Habit;

/// A component that is compiled and linked.
pub(crate) struct Code {
    pub(crate) pre: PluginPre<State>,
    /// How many slots of the pool one instance takes.
    pub(crate) slots: u32,
    /// Whether it counts what it executes.
    pub(crate) fuel: bool,
}

/// A package that is ready to run.
pub(crate) struct Compiled {
    /// Its own, or that of the engine that runs it.
    pub(crate) code: Arc<Code>,
    pub(crate) limits: Limits,
    pub(crate) assets: Arc<Assets>,
    actions: Vec<Action>,
    described: Action,
}

/// What an SDK answers with the schemas that it derives from types: asked for by builds. No manifest can have an action
/// of that name, and no workflow finds it.
const DESCRIBED: &str = "caisson:schemas";

/// An action and its schemas.
pub(crate) struct Action {
    /// Its name within the plugin.
    pub(crate) name: String,
    pub(crate) input: Option<Schema>,
    pub(crate) output: Option<Schema>,
    /// How long its entries last.
    pub(crate) habit: Habit,
}

impl Compiled {
    pub(crate) fn new(package: &Package, code: Arc<Code>, limits: Limits, assets: Arc<Assets>) -> Result<Self, Error> {
        let actions = package.actions.iter().map(action).collect::<Result<_, _>>()?;
        let described = Action { name: DESCRIBED.to_owned(), input: None, output: None, habit: Habit::default() };
        Ok(Self { code, limits, assets, actions, described })
    }

    /// By its full name.
    pub(crate) fn named(&self, plugin: &str, name: &str) -> Option<&Action> {
        let name = name.strip_prefix(plugin)?.strip_prefix('.')?;
        self.actions.iter().chain([&self.described]).find(|action| action.name == name)
    }
}

fn action(spec: &ActionSpec) -> Result<Action, Error> {
    let compile = |moment: &str, schema: Option<&serde_json::Value>| {
        Schema::compile(schema)
            .map_err(|problem| Error::Schema(format!("the {moment} schema of action '{}': {problem}", spec.name)))
    };
    Ok(Action {
        name: spec.name.clone(),
        input: compile("input", spec.input_schema.as_ref())?,
        output: compile("output", spec.output_schema.as_ref())?,
        habit: Habit::default(),
    })
}

/// A version of a plugin in one realm. Holds no code: that is found by the digest when it is called.
pub(crate) struct Version {
    pub(crate) package: Arc<Package>,
    pub(crate) grants: Arc<Grants>,
    /// The operator's configuration, a JSON object.
    pub(crate) config: Json,
    /// Whether new runs use it.
    pub(crate) in_force: bool,
    pub(crate) built_in: bool,
    /// Made when somebody asks: most installed plugins are never called.
    infos: OnceLock<Vec<ActionInfo>>,
}

impl Version {
    pub(crate) fn new(
        package: Arc<Package>,
        grants: Arc<Grants>,
        config: Json,
        in_force: bool,
        built_in: bool,
    ) -> Self {
        Self { package, grants, config, in_force, built_in, infos: OnceLock::new() }
    }

    /// Its actions, in the manifest's order.
    pub(crate) fn infos(&self) -> &[ActionInfo] {
        self.infos.get_or_init(|| {
            let Package { id, version, digest, actions, .. } = &*self.package;
            let plugin =
                PluginRef { id: id.as_str().into(), version: version.as_str().into(), digest: digest.as_str().into() };
            let info = |spec: &ActionSpec| ActionInfo {
                name: format!("{id}.{}", spec.name).into(),
                plugin: plugin.clone(),
                input_schema: spec.input_schema.clone().map(Arc::new),
                output_schema: spec.output_schema.clone().map(Arc::new),
                built_in: self.built_in,
            };
            actions.iter().map(info).collect()
        })
    }

    /// What one entry of it may do.
    pub(crate) fn effective(&self, narrowed: Option<Arc<Grants>>) -> Arc<Effective> {
        Arc::new(Effective::new(Arc::clone(&self.package), Arc::clone(&self.grants), narrowed))
    }
}
