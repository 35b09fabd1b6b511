//! Components from raw WebAssembly: a core module in text, a world, a manifest.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use caisson_core::error::Failure;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::plugin::Grants;
use caisson_core::ports::{ActionRunner, Entry, PluginHost};
use caisson_runtime::{Limits, Runtime, RuntimeConfig};
use serde_json::Value;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::support;

/// A core module that exports `execute`; by default it answers `null`.
pub struct Core {
    imports: String,
    wit: String,
    fields: String,
    realloc: String,
    body: String,
    pages: String,
    data: String,
    packages: String,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            imports: String::new(),
            wit: String::new(),
            fields: String::new(),
            realloc: REALLOC.to_owned(),
            body: "(call $ok)".to_owned(),
            pages: "1".to_owned(),
            data: "null".to_owned(),
            packages: String::new(),
        }
    }
}

/// Gives out memory from 1024 on, and grows it.
const REALLOC: &str = "(local i32)
    (local.set 4 (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get 4) (local.get 3)))
    (block $room (loop $more
      (br_if $room (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $room (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
      (br $more)))
    (local.get 4)";

/// As much of WASI as the cases name.
const WASI: &str = "
package wasi:io@0.2.0 {
  interface poll { resource pollable { block: func(); } }
  interface error { resource error { } }
  interface streams {
    use error.{error};
    variant stream-error { last-operation-failed(error), closed }
    resource output-stream { blocking-flush: func() -> result<_, stream-error>; }
  }
}
package wasi:clocks@0.2.0 {
  interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable}; subscribe-duration: func(when: u64) -> pollable; }
}
package wasi:random@0.2.0 { interface random { get-random-bytes: func(len: u64) -> list<u8>; } }
package wasi:cli@0.2.0 { interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; } }
";

impl Core {
    /// Imports, in text, and the world's lines for them.
    pub fn imports(mut self, wat: &str, wit: &str) -> Self {
        (self.imports, self.wit) = (wat.to_owned(), wit.to_owned());
        self
    }

    /// More functions, tables, memories.
    pub fn fields(mut self, wat: &str) -> Self {
        wat.clone_into(&mut self.fields);
        self
    }

    /// Packages of its own for the world to name.
    pub fn packages(mut self, wit: &str) -> Self {
        wit.clone_into(&mut self.packages);
        self
    }

    /// The body of `cabi_realloc`.
    pub fn realloc(mut self, wat: &str) -> Self {
        wat.clone_into(&mut self.realloc);
        self
    }

    /// The body of `execute`: gives the place of the result.
    pub fn body(mut self, wat: &str) -> Self {
        wat.clone_into(&mut self.body);
        self
    }

    /// The first size of the memory.
    pub fn pages(mut self, pages: &str) -> Self {
        pages.clone_into(&mut self.pages);
        self
    }

    /// What stands at 64.
    pub fn data(mut self, text: &str) -> Self {
        text.clone_into(&mut self.data);
        self
    }

    /// Answers `done` with the text at that place.
    pub fn answer(self, at: i64, length: i64) -> Self {
        self.body(&format!(
            "(i32.store8 (i32.const 0) (i32.const 0)) (i32.store8 (i32.const 8) (i32.const 0))
             (i32.store (i32.const 16) (i32.const {at})) (i32.store (i32.const 20) (i32.const {length})) (i32.const 0)"
        ))
    }

    fn text(&self) -> String {
        let Self { imports, wit: _, fields, realloc, body, pages, data, packages: _ } = self;
        format!(
            r#"(module
  {imports}
  (memory (export "memory") {pages})
  (global $top (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
  {fields}
  (func $ok (result i32)
    (i32.store8 (i32.const 0) (i32.const 0)) (i32.store8 (i32.const 8) (i32.const 0))
    (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 4)) (i32.const 0))
  (data (i32.const 64) "{data}")
  (func (export "caisson:step/executor@1.0.0#execute") (param i32) (result i32) {body}))"#
        )
    }

    /// The component, with a manifest that has one action, `go`, and asks for nothing.
    pub fn component(&self, id: &str) -> Vec<u8> {
        self.component_with(&manifest(id, ""))
    }

    /// The component with that manifest.
    pub fn component_with(&self, manifest: &str) -> Vec<u8> {
        let mut bytes = self.without_manifest();
        custom(&mut bytes, "caisson:manifest", manifest.as_bytes());
        bytes
    }

    /// The component without one.
    pub fn without_manifest(&self) -> Vec<u8> {
        let text = self.text();
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut resolve = Resolve { all_features: true, ..Resolve::default() };
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/caisson-step@1.0.0");
        resolve.push_dir(wit).expect("the interface reads");
        let world = format!(
            "package test:hostile;\nworld hostile {{ {} export caisson:step/executor@1.0.0; }}\n{WASI}\n{}",
            self.wit, self.packages
        );
        let package = resolve.push_str("hostile.wit", &world).expect("the world reads");
        let world = resolve.select_world(&[package], Some("hostile")).expect("the world is there");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata embeds");
        ComponentEncoder::default()
            .validate(false)
            .module(&module)
            .and_then(|mut encoder| encoder.encode())
            .unwrap_or_else(|error| panic!("{error:?}\n{text}"))
    }
}

/// A manifest with one action, `go`, and more lines before it.
pub fn manifest(id: &str, lines: &str) -> String {
    let mut text = format!("id = \"{id}\"\nversion = \"1.0.0\"\nwit = \"1.0.0\"\n");
    writeln!(text, "{lines}\n[[actions]]\nname = \"go\"").expect("a String takes it");
    text
}

/// Appends a custom section.
pub fn custom(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    fn leb(bytes: &mut Vec<u8>, mut number: usize) {
        loop {
            let byte = u8::try_from(number & 0x7f).expect("seven bits");
            number >>= 7;
            if number == 0 {
                return bytes.push(byte);
            }
            bytes.push(byte | 0x80);
        }
    }
    let mut content = Vec::new();
    leb(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    component.push(0);
    leb(component, content.len());
    component.extend_from_slice(&content);
}

/// A runtime with limits tight enough for quick tests.
pub fn hostile_runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let limits = Limits { cpu_ms: 300, wall_ms: 5_000, memory_bytes: 32 << 20, ..Limits::default() };
        let limits_max = Limits { wall_ms: 5_000, ..Limits::generous() };
        Arc::new(support::start(RuntimeConfig { limits, limits_max, ..RuntimeConfig::default() }))
    })
}

/// Why the host refuses to take the bytes, if it does; nothing is compiled.
pub fn refusal(bytes: &[u8]) -> Option<Failure> {
    PluginHost::inspect(&**hostile_runtime(), bytes).err()
}

/// Takes, compiles and installs it.
pub async fn install(bytes: &[u8], grants: Grants) -> Result<(), Failure> {
    let realm = Realm::new("tenant", "default");
    hostile_runtime().load(&realm, &bytes.to_vec().into(), grants, Json::of(&serde_json::json!({}))).await.map(drop)
}

/// Runs an action.
pub async fn run(action: &str, input: &Value) -> Entry {
    let runtime = hostile_runtime();
    runtime.run(support::invocation(runtime, action, input)).await
}
