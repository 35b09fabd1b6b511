//! `import`: other modules of the same package by a relative path, and the modules of the API among themselves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use boa_engine::module::{ModuleLoader, ModuleRequest, Referrer, resolve_module_specifier};
use boa_engine::{Context, JsNativeError, JsResult, Module, Source};

use crate::host::Host;

/// What the names of the API's modules begin with; frames with it are taken out of stacks.
pub const API: &str = "caisson:api/";

/// The API's sources; components built with the toolchain have the same.
const SOURCES: [(&str, &str); 4] = [
    ("prelude.js", include_str!("../../../sdk-guest/js/prelude.js")),
    ("step.js", include_str!("../../../sdk-guest/js/step.js")),
    ("http.js", include_str!("../../../sdk-guest/js/http.js")),
    ("values.js", include_str!("../../../sdk-guest/js/values.js")),
];

/// Modules by their path.
pub struct Modules {
    host: Rc<dyn Host>,
    loaded: RefCell<HashMap<PathBuf, Module>>,
}

impl Modules {
    /// Those of this package, and the API's.
    pub fn new(host: Rc<dyn Host>) -> Self {
        Self { host, loaded: RefCell::default() }
    }

    /// The module of that path, parsed.
    pub fn module(&self, path: &Path, context: &mut Context) -> JsResult<Module> {
        if let Some(module) = self.loaded.borrow().get(path) {
            return Ok(module.clone());
        }
        let name = path.to_string_lossy().replace('\\', "/");
        let source = match name.strip_prefix(API) {
            Some(own) => SOURCES.iter().find(|(name, _)| *name == own).map(|(_, source)| source.as_bytes().to_vec()),
            None => self.host.asset(&name),
        };
        let Some(source) = source else {
            return Err(JsNativeError::typ().with_message(format!("the plugin has no file {name}")).into());
        };
        let module = Module::parse(Source::from_bytes(&source).with_path(Path::new(&name)), None, context)?;
        self.loaded.borrow_mut().insert(path.to_path_buf(), module.clone());
        Ok(module)
    }

    fn load(&self, referrer: &Referrer, request: &ModuleRequest, context: &mut Context) -> JsResult<Module> {
        let specifier = request.specifier().to_std_string_lossy();
        let refuse = |why: &str| JsNativeError::typ().with_message(format!("import '{specifier}': {why}"));
        if !specifier.starts_with("./") && !specifier.starts_with("../") {
            return Err(refuse("there are no packages here, only the plugin's own files: import './name.js'").into());
        }
        let path = resolve_module_specifier(None, request.specifier(), referrer.path(), context)
            .map_err(|_| refuse("the path leads out of the plugin"))?;
        self.module(&path, context)
    }
}

impl ModuleLoader for Modules {
    async fn load_imported_module(
        self: Rc<Self>,
        referrer: Referrer,
        request: ModuleRequest,
        context: &RefCell<&mut Context>,
    ) -> JsResult<Module> {
        self.load(&referrer, &request, &mut context.borrow_mut())
    }
}
