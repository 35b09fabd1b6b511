//! Reading packages: what is in them, and what is wrong with them. Nothing here runs.

mod support;

use caisson_core::error::{Category, Failure, RetryHint};
use caisson_core::plugin::Engine;
use caisson_core::ports::PluginHost;
use caisson_runtime::{ASSET_SECTION, MANIFEST_SECTION, Manifest, SCHEMAS_SECTION, embed, inspect, javascript_package};
use serde_json::json;
use support::{runtime, wat};

const COMPONENT: &[u8] = &[0, b'a', b's', b'm', 0x0d, 0, 1, 0];

fn echoing() -> Vec<u8> {
    wat::component(&wat::answering("1"))
}

/// A custom section behind a component.
fn with_section(component: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    fn length(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).expect("small"));
        bytes
    }
    let body = [&length(name.len())[..], name.as_bytes(), content].concat();
    [component, &[0], &length(body.len()), &body].concat()
}

fn manifest(more: &str) -> String {
    wat::manifest("notify", "1.2.3", more)
}

#[test]
fn a_manifest_says_what_a_plugin_is() {
    let text = r#"
        id = "notify"
        version = "1.2.3"
        wit = "1.0.0"
        description = "Tells people."
        [capabilities.http]
        hosts = ["hooks.example.com"]
        methods = ["POST"]
        [capabilities.secrets]
        inject = [{ secret = "HOOK", hosts = ["hooks.example.com"] }]
        [limits]
        memory_bytes = 1000000
        [[actions]]
        name = "post"
        input = '{"type": "object", "properties": {"text": {"type": "string"}}}'
        output = { type = "object" }
        [[actions]]
        name = "list"
    "#;
    let package = inspect(&embed(&echoing(), text, &[], None).expect("a package")).expect("it reads");
    assert_eq!((package.id.as_str(), package.version.as_str(), package.engine), ("notify", "1.2.3", Engine::Component));
    assert_eq!(package.limits.get("memoryBytes"), Some(&1_000_000));
    let actions: Vec<&str> = package.actions.iter().map(|action| action.name.as_str()).collect();
    assert_eq!(actions, ["post", "list"], "in the manifest's order");
    assert_eq!(package.actions[0].output_schema, Some(json!({"type": "object"})));
    assert_eq!(
        package.permissions(),
        [
            "http:hooks.example.com",
            "http.methods = POST",
            "secrets.inject HOOK into authorization for hooks.example.com",
            "limit memoryBytes = 1000000",
        ]
    );
    let short =
        Manifest::parse(manifest(r#"capabilities = ["kv", "http:a.example", "log"]"#).as_bytes()).expect("reads");
    assert_eq!(short.asks.lines(), ["http:a.example", "kv"]);
}

#[test]
fn a_manifest_that_is_wrong_says_where_and_what_is_expected() {
    for (text, parts) in [
        ("id = ", &["no TOML (line 1)"][..]),
        ("id = 5\nversion = \"1\"", &["id:", "5 is no text", "id = \"notify\""]),
        ("version = \"1\"", &["id: it is missing", "id = \"notify\""]),
        ("id = \"Notify\"", &["id: 'Notify' is no id", "lower-case"]),
        ("id = \"a.b\"", &["'a.b' is no id"]),
        ("id = \"\"", &["'' is no id"]),
        ("id = \"a\"\nversion = \"1 2\"", &["version: '1 2' is no version"]),
        ("id = \"a\"\nversion = \"1\"", &["wit: it is missing"]),
        ("id = \"a\"\nversion = \"1\"\nwit = \"2.0.0\"", &["wit: '2.0.0' is not spoken here", "1.x"]),
        ("id = \"a\"\nversion = \"1\"\nwit = \"1.x\"", &["'1.x' is not spoken here"]),
        ("id = \"a\"\nversion = \"1\"\nwit = \"1\"", &["actions: there are none", "[[actions]]"]),
        ("id = \"a\"\nversion = \"1\"\nwit = \"1\"\nactions = []", &["1 to 256 actions, not 0"]),
        ("id = \"a\"\nversion = \"1\"\nwit = \"1\"\nactions = \"go\"", &["is no list of tables"]),
        ("capabilites = []", &["capabilites: there is no such field", "did you mean 'capabilities'?"]),
    ] {
        refused(text, parts);
    }
    for (more, parts) in [
        ("capabilities = [\"htp\"]", &["capabilities:", "'htp'", "did you mean 'http'?"][..]),
        ("capabilities = \"http\"", &["write a list"]),
        ("capabilities = [\"http:a b\"]", &["'a b' is no host"]),
        ("[capabilities.http]\nhost = [\"a\"]", &["http: unknown field `host`"]),
        ("[capabilities.http]\nprivate = [\"10.0.0.0/8\"]", &["only an operator grants private addresses"]),
        ("[limits]\nmemory = 5", &["limits.memory: there is no such field", "memory_bytes"]),
        ("[limits]\ncpu_ms = 0", &["limits.cpu_ms: 0 is no limit"]),
        ("[limits]\ncpu_ms = \"5\"", &["limits.cpu_ms: \"5\" is no limit"]),
        ("limits = 3", &["limits: 3 is no table"]),
        ("engine = \"javscript\"", &["engine: 'javscript' is no engine", "did you mean 'javascript'?"]),
        ("[[actions]]\nname = \"go\"", &["actions: 'go' is there twice"]),
        ("[[actions]]\nname = \"go-on\"", &["actions[0].name: 'go-on' is no name"]),
        ("[[actions]]\nname = \"x\"\nintput = '{}'", &["actions[0].intput", "did you mean 'input'?"]),
        ("[[actions]]\nname = \"x\"\ninput = '{'", &["actions[0].input: its text is no JSON"]),
        ("[[actions]]\nname = \"x\"\ninput = 5", &["actions[0].input: 5 is no JSON Schema"]),
        ("[[actions]]\nname = \"x\"\ninput = '{\"$ref\": \"http://a.example/s\"}'", &["actions[0].input:", "outside"]),
        ("[[actions]]\nname = \"x\"\noutput = '{\"type\": \"strin\"}'", &["actions[0].output:"]),
    ] {
        refused(&manifest(more), parts);
    }
    assert!(Manifest::parse(&vec![b' '; 300 << 10]).is_err(), "too long");
    assert!(Manifest::parse(b"\xff").is_err(), "not UTF-8");
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let error = Manifest::parse(text.as_bytes()).expect_err(text).to_string();
    for part in parts {
        assert!(error.contains(part), "{text}\n{error}\nlacks: {part}");
    }
}

#[test]
fn a_package_that_is_wrong_has_a_code() {
    let good = embed(&echoing(), &manifest(""), &[], None).expect("a package");
    let asset = |name: &[u8], length: u32| [&length.to_le_bytes()[..], name, b"x"].concat();
    let embedded = |component: &[u8], more: &str| embed(component, &manifest(more), &[], None).expect("a package");
    let foreign = wat::component_of(
        "(module (import \"other:thing/door@1.0.0\" \"open\" (func $open))
           (memory (export \"memory\") 1)
           (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 0))
           (func (export \"caisson:step/executor@1.0.0#execute\") (param i32) (result i32) (call $open) (i32.const 0)))",
        "package other:thing@1.0.0; interface door { open: func(); }
         world guest { import door; export caisson:step/executor@1.0.0; }",
    );
    let silent = wat::component_of(
        "(module (func (export \"go\")))",
        "package other:thing@1.0.0; world guest { export go: func(); }",
    );
    let asking =
        wat::component("(func $main (param $call i32) (call $kv_delete (i32.const 0) (i32.const 0) (i32.const 2048)))");
    for (bytes, code, part) in [
        (b"".to_vec(), "PLUGIN_MALFORMED", "not a WebAssembly component"),
        (b"nonsense".to_vec(), "PLUGIN_MALFORMED", "not a WebAssembly component"),
        (b"\0asm\x01\0\0\0".to_vec(), "PLUGIN_MALFORMED", "it is a core module"),
        (good[..good.len() - 3].to_vec(), "PLUGIN_MALFORMED", ""),
        (vec![0; (64 << 20) + 1], "PLUGIN_TOO_LARGE", "larger than the 67108864"),
        (echoing(), "PLUGIN_MANIFEST", "no manifest"),
        (with_section(&good, MANIFEST_SECTION, manifest("").as_bytes()), "PLUGIN_MANIFEST", "2 manifests"),
        (with_section(&echoing(), MANIFEST_SECTION, b"id = 1"), "PLUGIN_MANIFEST", "caisson-plugin.toml: "),
        (with_section(&good, ASSET_SECTION, b"\x01"), "PLUGIN_MANIFEST", "does not begin with the length"),
        (with_section(&good, ASSET_SECTION, &asset(b"a", 99)), "PLUGIN_MANIFEST", "does not begin with the length"),
        (with_section(&good, ASSET_SECTION, &asset(b"", 0)), "PLUGIN_MANIFEST", "does not begin with the length"),
        (with_section(&good, ASSET_SECTION, &asset(b"\xff", 1)), "PLUGIN_MANIFEST", "does not begin with the length"),
        (with_section(&good, ASSET_SECTION, &[0xff; 8]), "PLUGIN_MANIFEST", "does not begin with the length"),
        (
            with_section(&with_section(&good, ASSET_SECTION, &asset(b"a", 1)), ASSET_SECTION, &asset(b"a", 1)),
            "PLUGIN_MANIFEST",
            "'a' is there twice",
        ),
        (
            (0..65).fold(good.clone(), |package, n| {
                with_section(&package, ASSET_SECTION, &asset(format!("{n:02}").as_bytes(), 2))
            }),
            "PLUGIN_MANIFEST",
            "there are 65",
        ),
        (
            with_section(&good, ASSET_SECTION, &asset(&vec![b'a'; 9 << 20], 1)),
            "PLUGIN_MANIFEST",
            "more than the 8388608",
        ),
        (with_section(&good, SCHEMAS_SECTION, b"{"), "PLUGIN_SCHEMA", "is no JSON"),
        (with_section(&good, SCHEMAS_SECTION, b"[]"), "PLUGIN_SCHEMA", "no object by action"),
        (with_section(&good, SCHEMAS_SECTION, br#"{"og": {}}"#), "PLUGIN_SCHEMA", "did you mean 'go'?"),
        (with_section(&good, SCHEMAS_SECTION, br#"{"go": 5}"#), "PLUGIN_SCHEMA", "no object"),
        (with_section(&good, SCHEMAS_SECTION, br#"{"go": {"in": {}}}"#), "PLUGIN_SCHEMA", "'in' of action 'go'"),
        (with_section(&good, SCHEMAS_SECTION, br#"{"go": {"input": 5}}"#), "PLUGIN_SCHEMA", "no JSON Schema"),
        (with_section(&good, SCHEMAS_SECTION, "[".repeat(100_000).as_bytes()), "PLUGIN_SCHEMA", "is no JSON"),
        (embedded(&silent, ""), "PLUGIN_NO_EXECUTOR", "caisson:step/executor"),
        (embedded(&foreign, ""), "PLUGIN_IMPORT_UNKNOWN", "other:thing/door@1.0.0"),
        (embedded(&asking, ""), "PLUGIN_IMPORT_UNDECLARED", "add \"kv\" to capabilities in its caisson-plugin.toml"),
        (javascript(""), "PLUGIN_NO_EXECUTOR", ""),
        (
            with_section(COMPONENT, MANIFEST_SECTION, manifest("engine = \"javascript\"").as_bytes()),
            "PLUGIN_MANIFEST",
            "there is no 'plugin.js'",
        ),
        (
            javascript_package(&manifest("engine = \"javascript\""), b"\xff").expect("a package"),
            "PLUGIN_MANIFEST",
            "'plugin.js' is not UTF-8",
        ),
        (embedded(&echoing(), "engine = \"javascript\""), "PLUGIN_MANIFEST", "the component has code"),
    ] {
        let error = inspect(&bytes).expect_err(code);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}\nlacks: {part}");
        let failure = Failure::from(error);
        assert_eq!((failure.category, failure.retry), (Category::ValidationError, RetryHint::Never));
    }
}

fn javascript(more: &str) -> Vec<u8> {
    javascript_package(&manifest(more), b"export function go() {}").expect("a package")
}

#[test]
fn a_javascript_package_imports_what_its_manifest_asks_for() {
    let package = inspect(&javascript("engine = \"javascript\"\ncapabilities = [\"kv\", \"http\"]")).expect("it reads");
    assert_eq!(package.engine, Engine::JavaScript);
    assert_eq!(package.imports, ["caisson:step/http@1.0.0", "caisson:step/kv@1.0.0"]);
    assert_eq!(caisson_runtime::assets(&javascript("")).expect("files")["plugin.js"], b"export function go() {}");
}

#[test]
fn ids_of_built_in_plugins_are_refused() {
    for id in ["core", "human", "http", "script", "process", "caisson"] {
        let package = embed(&echoing(), &wat::manifest(id, "1", ""), &[], None).expect("a package");
        assert!(inspect(&package).is_ok(), "{id}: whoever asks for the id knows what to do with it");
        assert_eq!(runtime().inspect(&package).expect_err(id).code, "PLUGIN_ID_RESERVED");
        assert_eq!(
            runtime().install(&support::realm(), id, Vec::new()).is_ok(),
            runtime().built_in().iter().any(|one| one.id == id)
        );
    }
}

#[test]
fn embedding_replaces_what_was_embedded_before() {
    let files = |name: &str| vec![(name.to_owned(), b"1".to_vec())];
    let schemas = r#"{"go": {"input": {"type": "string"}, "output": {"type": "null"}}}"#;
    let first = embed(&echoing(), &manifest("description = \"one\""), &files("a"), Some(schemas)).expect("a package");
    let second = embed(&first, &manifest("description = \"two\""), &files("b"), None).expect("a package");
    let package = inspect(&second).expect("it reads");
    assert_eq!(package.description, "two");
    assert_eq!(package.actions[0].input_schema, Some(json!({"type": "string"})), "schemas stay where none are given");
    assert_eq!(caisson_runtime::assets(&second).expect("files").into_keys().collect::<Vec<_>>(), ["b"]);

    // The manifest's own schema counts more than a derived one.
    let own = embed(&first, &(manifest("") + "input = '{\"type\": \"number\"}'"), &[], None).expect("a package");
    let package = inspect(&own).expect("it reads");
    assert_eq!(package.actions[0].input_schema, Some(json!({"type": "number"})));
    assert_eq!(package.actions[0].output_schema, Some(json!({"type": "null"})));

    // A linker puts the manifest into the module within.
    let core = std::path::Path::new(env!("CAISSON_GUESTS")).join("wasm32-wasip2/guest/caisson_plugin_core.wasm");
    let core = std::fs::read(core).expect("it is built");
    let renamed = embed(&core, &wat::manifest("other", "9", ""), &[], None).expect("a package");
    assert_eq!(inspect(&renamed).expect("one manifest").id, "other");
    assert!(embed(b"nonsense", &manifest(""), &[], None).is_err());
    assert!(embed(&core[..core.len() - 1], &manifest(""), &[], None).is_err());
    assert!(embed(&core, "id = 1", &[], None).is_err());
}

#[test]
fn damaged_packages_never_panic() {
    let good = embed(&echoing(), &manifest(""), &[("a".to_owned(), b"1".to_vec())], None).expect("a package");
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = good.clone();
            damaged[at] ^= change;
            // Fine or refused: either is an answer.
            drop(inspect(&damaged));
            drop(embed(&damaged, &manifest(""), &[], None));
        }
        drop(inspect(&good[..at]));
    }
}
