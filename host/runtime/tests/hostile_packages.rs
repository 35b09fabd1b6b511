//! Packages that lie, are damaged, or name what they may not: refused with a code before anything of them runs.

mod cores;
mod support;

use std::fmt::Write as _;
use std::path::Path;

use caisson_core::plugin::{Capability, Grants};
use caisson_runtime::inspect;
use cores::{Core, custom, install, manifest};
use serde_json::json;
use support::done;
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Function, Resolve, WorldItem, WorldKey};

/// Manifests, what they are refused with, and a word of the message.
const LIES: &[(&str, &str, &str, &str)] = &[
    (
        "the id of a built-in plugin",
        "id = \"human\"\nversion = \"1.0.0\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"approval\"",
        "PLUGIN_ID_RESERVED",
        "human",
    ),
    (
        "another built-in id",
        "id = \"caisson\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"",
        "PLUGIN_ID_RESERVED",
        "caisson",
    ),
    (
        "an id with a dot",
        "id = \"human.approval\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "human.approval",
    ),
    (
        "an id in upper case",
        "id = \"Human\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "Human",
    ),
    (
        "an id that looks like another",
        "id = \"hum\u{0430}n\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "id",
    ),
    (
        "an id with a newline",
        "id = \"a\\nb\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "id",
    ),
    ("no id", "version = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"", "PLUGIN_MANIFEST", "id"),
    ("no actions", "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\nactions = []", "PLUGIN_MANIFEST", "actions"),
    (
        "one action twice",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "twice",
    ),
    (
        "an action with a path",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"../x\"",
        "PLUGIN_MANIFEST",
        "../x",
    ),
    (
        "an interface of the future",
        "id = \"a\"\nversion = \"1\"\nwit = \"2.0.0\"\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "2.0.0",
    ),
    (
        "an unknown capability",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\ncapabilities = [\"htpp\"]\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "http",
    ),
    (
        "private addresses for itself",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\n[capabilities.http]\nprivate = [\"10.0.0.0/8\"]\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "private",
    ),
    (
        "a field that there is not",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\ngrants = [\"http\"]\n[[actions]]\nname = \"x\"",
        "PLUGIN_MANIFEST",
        "grants",
    ),
    (
        "a schema that is none",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"\ninput = '{\"type\": 7}'",
        "PLUGIN_MANIFEST",
        "input",
    ),
    (
        "a schema from somewhere else",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"\ninput = '{\"$ref\": \"http://169.254.169.254/latest\"}'",
        "PLUGIN_MANIFEST",
        "input",
    ),
    (
        "a schema from a file",
        "id = \"a\"\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"\ninput = '{\"$ref\": \"file:///etc/passwd\"}'",
        "PLUGIN_MANIFEST",
        "input",
    ),
    ("no TOML", "}{", "PLUGIN_MANIFEST", ""),
    ("deep TOML", "id = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "PLUGIN_MANIFEST", ""),
];

#[test]
fn a_lying_manifest_is_refused() {
    for (name, text, code, word) in LIES {
        let component = Core::default().component_with(text);
        match refusal(&component) {
            Some((found, message)) => {
                assert_eq!(found, *code, "{name}: {message}");
                assert!(message.contains(word), "{name}: '{message}' does not say '{word}'");
            }
            None => panic!("{name} was accepted"),
        }
    }
}

/// Reserved ids are fine for `inspect`, which also reads the built-in ones: installing refuses them.
fn refusal(component: &[u8]) -> Option<(String, String)> {
    cores::refusal(component).map(|failure| (failure.code, failure.message))
}

#[test]
fn a_component_has_one_manifest_and_it_is_its_own() {
    let core = Core::default();
    let good = core.component("good");
    let mut none = core.without_manifest();
    assert_eq!(refusal(&none).map(|(code, _)| code).as_deref(), Some("PLUGIN_MANIFEST"), "none");
    custom(&mut none, "caisson:manifest", b"\xff\xfe");
    assert_eq!(refusal(&none).map(|(code, _)| code).as_deref(), Some("PLUGIN_MANIFEST"), "no UTF-8");
    let mut two = good.clone();
    custom(&mut two, "caisson:manifest", manifest("other", "").as_bytes());
    assert_eq!(refusal(&two).map(|(code, _)| code).as_deref(), Some("PLUGIN_MANIFEST"), "two");
    let mut long = core.without_manifest();
    custom(&mut long, "caisson:manifest", &vec![b'#'; 1 << 20]);
    assert_eq!(refusal(&long).map(|(code, _)| code).as_deref(), Some("PLUGIN_MANIFEST"), "too long");
    assert!(refusal(&good).is_none(), "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_of_another_plugin_cannot_be_taken() {
    let first = Core::default().component("squat");
    install(&first, Grants::default()).await.expect("the first is fine");
    // A full name is id, a dot, name: ids and names have no dots, so only the same id gives the same full name.
    for id in ["squat.go", "squat.", ".squat", "squat go", "squat\u{200b}"] {
        let text = format!("id = {id:?}\nversion = \"1.0.0\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"go\"");
        let refused = install(&Core::default().component_with(&text), Grants::default()).await;
        assert_eq!(refused.map_err(|failure| failure.code), Err("PLUGIN_MANIFEST".to_owned()), "{id}");
    }
    assert_eq!(done(&cores::run("squat.go", &json!({})).await), json!(null));
}

/// The interface as it is published.
fn published() -> Resolve {
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/caisson-step@1.0.0")).expect("it reads");
    resolve
}

/// Every function that a component could import of the published world: interface, function.
fn functions(resolve: &Resolve) -> Vec<(String, Function)> {
    let (_, world) = resolve.worlds.iter().find(|(_, world)| world.name == "plugin").expect("the world is there");
    let mut all = Vec::new();
    for (key, item) in &world.imports {
        let (WorldKey::Interface(_) | WorldKey::Name(_), WorldItem::Interface { id, .. }) = (key, item) else {
            continue;
        };
        let interface = &resolve.interfaces[*id];
        for function in interface.functions.values() {
            all.push((interface.name.clone().expect("a name"), function.clone()));
        }
    }
    all
}

/// A core that imports one function and calls it, its result at 512; answers `null` if that is `denied`, else traps.
fn caller(resolve: &Resolve, interface: &str, function: &Function) -> Core {
    let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
    let text = |types: &[WasmType]| {
        types.iter().fold(String::new(), |mut text, one| {
            let name = match one {
                WasmType::I64 | WasmType::PointerOrI64 => "i64",
                WasmType::F32 => "f32",
                WasmType::F64 => "f64",
                WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
            };
            write!(text, " {name}").expect("a String takes it");
            text
        })
    };
    let (params, results) = (text(&signature.params), text(&signature.results));
    let import = format!(
        "(import \"caisson:step/{interface}@1.0.0\" \"{}\" (func $f (param{params}) (result{results})))",
        function.name
    );
    let last = signature.params.len().saturating_sub(1);
    let arguments = signature.params.iter().enumerate().fold(String::new(), |mut text, (at, kind)| {
        // Texts are the four bytes at 64; a request has lists in it, so there everything is empty.
        let (pointer, length) = if interface == "http" { (0, 0) } else { (64, 4) };
        let value = match kind {
            _ if signature.retptr && at == last => 512,
            WasmType::Pointer => pointer,
            WasmType::Length => length,
            _ => 0,
        };
        let name = if matches!(kind, WasmType::I64 | WasmType::PointerOrI64) { "i64" } else { "i32" };
        write!(text, " ({name}.const {value})").expect("a String takes it");
        text
    });
    assert!(results.is_empty(), "{interface}.{}: what can be denied has its answer in memory", function.name);
    Core::default().imports(&import, &format!("import caisson:step/{interface}@1.0.0;")).body(&format!(
        "(call $f{arguments})
         (if (i32.and (i32.eq (i32.load8_u (i32.const 512)) (i32.const 1)) (i32.eqz (i32.load8_u (i32.const 520)))) (then) (else (unreachable)))
         (call $ok)"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_import_of_the_interface_needs_the_manifest_and_a_grant() {
    const FREE: [&str; 4] = ["types", "capability", "log", "assets"];
    let resolve = published();
    let mut seen = 0;
    for (at, (interface, function)) in functions(&resolve).into_iter().enumerate() {
        if FREE.contains(&interface.as_str()) {
            continue;
        }
        seen += 1;
        let name = format!("{interface}.{}", function.name);
        assert!(Capability::parse(&interface).is_some(), "{name}: an interface without a capability of its name");
        let core = caller(&resolve, &interface, &function);
        let (code, message) = refusal(&core.component("lean")).unwrap_or_else(|| panic!("{name} was accepted unasked"));
        assert_eq!(code, "PLUGIN_IMPORT_UNDECLARED", "{name}: {message}");
        assert!(message.contains(&format!("\"{interface}\"")), "{name}: {message}");

        let id = format!("asks{at}");
        let asking = core.component_with(&manifest(&id, &format!("capabilities = [\"{interface}\"]")));
        install(&asking, Grants::default()).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        let entry = cores::run(&format!("{id}.go"), &json!({})).await;
        assert!(entry.result.is_ok(), "{name} was not denied: {:?}", entry.result);
    }
    assert!(seen >= 12, "only {seen} functions were tried");
}

#[test]
fn what_is_not_of_the_interface_cannot_be_imported() {
    const STRANGE: &[(&str, &str, &str)] = &[
        (
            "wasi:http/outgoing-handler@0.2.0",
            "handle",
            "package wasi:http@0.2.0 { interface outgoing-handler { handle: func(); } }",
        ),
        ("wasi:keyvalue/store@0.2.0", "open", "package wasi:keyvalue@0.2.0 { interface store { open: func(); } }"),
        (
            "wasi:clocks/monotonic-clock@0.3.0",
            "now",
            "package wasi:clocks@0.3.0 { interface monotonic-clock { now: func(); } }",
        ),
        ("evil:host/shell@1.0.0", "run", "package evil:host@1.0.0 { interface shell { run: func(); } }"),
        ("caisson:stepp/http@1.0.0", "send", "package caisson:stepp@1.0.0 { interface http { send: func(); } }"),
        ("caisson:admin/grants@1.0.0", "set", "package caisson:admin@1.0.0 { interface grants { set: func(); } }"),
    ];
    for (interface, function, package) in STRANGE {
        let import = format!("(import \"{interface}\" \"{function}\" (func $f))");
        let core = Core::default().imports(&import, &format!("import {interface};")).packages(package);
        let (code, message) = refusal(&core.component("strange")).unwrap_or_else(|| panic!("{interface} was accepted"));
        assert_eq!(code, "PLUGIN_IMPORT_UNKNOWN", "{interface}: {message}");
        assert!(message.contains(interface), "{message}");
    }
}

/// A small generator of its own: the same cases everywhere (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % below.max(1)
    }
}

#[test]
fn a_damaged_component_is_refused_or_read_and_never_panics() {
    let good = Core::default().component("good");
    for cut in 0..good.len() {
        assert!(cut == good.len() || inspect(&good[..cut]).is_err() || cut > good.len() - 8, "cut at {cut}");
    }
    let mut chance = Chance(0x1234_5678_9abc_def1);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=chance.next(4) {
            let at = chance.next(bytes.len());
            match chance.next(4) {
                0 => bytes[at] = u8::try_from(chance.next(256)).expect("a byte"),
                1 => bytes[at] ^= 1 << chance.next(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, u8::try_from(chance.next(256)).expect("a byte")),
            }
        }
        // Only that it comes back counts: most are refused, some changed nothing that matters.
        let _ = inspect(&bytes);
    }
    for length in [0, 1, 7, 8, 9, 100, 4096] {
        let noise: Vec<u8> = (0..length).map(|_| u8::try_from(chance.next(256)).expect("a byte")).collect();
        assert!(inspect(&noise).is_err(), "{length} bytes of noise");
    }
    assert!(inspect(b"\0asm\x01\0\0\0").is_err(), "an empty module");
    assert!(inspect(b"\0asm\x0d\0\x01\0").is_err(), "an empty component");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_component_that_reads_harms_nobody_when_it_is_compiled_and_run() {
    let good = Core::default().component("fuzzed");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut compiled = 0;
    for _ in 0..4_000 {
        let mut bytes = good.clone();
        for _ in 0..=chance.next(2) {
            let at = chance.next(bytes.len());
            bytes[at] = u8::try_from(chance.next(256)).expect("a byte");
        }
        let reads = inspect(&bytes).is_ok_and(|package| package.id == "fuzzed");
        if reads && compiled < 150 {
            compiled += 1;
            if install(&bytes, Grants::default()).await.is_ok() {
                let _ = cores::run("fuzzed.go", &json!({})).await;
            }
        }
    }
    assert!(compiled > 20, "only {compiled} were compiled");
    assert_eq!(done(&cores::run("core.echo", &json!(1)).await), json!(1));
}
