//! Guests in WAT: a core module against the canonical ABI, made a component, made a package.
//!
//! A guest is `(func $main (param $call i32) …)` and whatever it needs. It has memory, a bump allocator, `$done` to
//! answer with JSON text and `$suspend` to park with a state. `$call` points at the invocation: the action's name is at
//! 0, the config at 8, the input at 16, each pointer and length. Memory below 65,536 is the guest's own from 1,024 on.

use caisson_runtime::embed;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What of WASI the guests use.
const WASI: [(&str, &str); 3] = [
    ("io.wit", "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }"),
    (
        "clocks.wit",
        "package wasi:clocks@0.2.0; interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable}; now: func() -> u64; subscribe-duration: func(when: u64) -> pollable; }",
    ),
    (
        "random.wit",
        "package wasi:random@0.2.0; interface random { get-random-u64: func() -> u64; get-random-bytes: func(len: u64) -> list<u8>; }",
    ),
];

const WORLD: &str = "package test:guest; world guest {
    include caisson:step/plugin@1.0.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:random/random@0.2.0;
}";

/// Core imports under names that guests use.
const IMPORTS: [(&str, &str); 14] = [
    ("$kv_get", r#"(import "caisson:step/kv@1.0.0" "get" (func $kv_get (param i32 i32 i32)))"#),
    ("$kv_set", r#"(import "caisson:step/kv@1.0.0" "set" (func $kv_set (param i32 i32 i32 i32 i32)))"#),
    ("$kv_delete", r#"(import "caisson:step/kv@1.0.0" "delete" (func $kv_delete (param i32 i32 i32)))"#),
    ("$emit", r#"(import "caisson:step/events@1.0.0" "emit" (func $emit (param i32 i32 i32 i32 i32 i32 i32 i32)))"#),
    ("$secret", r#"(import "caisson:step/secrets@1.0.0" "get" (func $secret (param i32 i32 i32)))"#),
    ("$asset", r#"(import "caisson:step/assets@1.0.0" "read" (func $asset (param i32 i32 i32)))"#),
    ("$log", r#"(import "caisson:step/log@1.0.0" "write" (func $log (param i32 i32 i32 i32 i32 i32)))"#),
    ("$complete", r#"(import "caisson:step/model@1.0.0" "complete" (func $complete (param i32 i32 i32)))"#),
    ("$list_tools", r#"(import "caisson:step/tools@1.0.0" "list-tools" (func $list_tools (param i32)))"#),
    ("$now", r#"(import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))"#),
    (
        "$timer",
        r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $timer (param i64) (result i32)))"#,
    ),
    ("$block", r#"(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#),
    ("$random_u64", r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random_u64 (result i64)))"#),
    ("$random_bytes", r#"(import "wasi:random/random@0.2.0" "get-random-bytes" (func $random_bytes (param i64 i32)))"#),
];

const RUNTIME: &str = r#"
(memory (export "memory") 2)
(global $next (mut i32) (i32.const 65536))
(func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
  (global.set $next (i32.add (local.get $at) (local.get $size)))
  (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
    (then (if (i32.eq (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1))) (i32.const -1))
      (then (unreachable)))))
  (local.get $at))
(func $done (param $text i32) (param $length i32)
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 24) (i32.const 0))
  (i32.store (i32.const 32) (local.get $text))
  (i32.store (i32.const 36) (local.get $length)))
(func $suspend (param $state i32) (param $length i32) (param $wake_after_ms i64)
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store8 (i32.const 24) (i32.const 1))
  (i32.store (i32.const 32) (local.get $state))
  (i32.store (i32.const 36) (local.get $length))
  (i32.store (i32.const 40) (i32.const 0))
  (i32.store (i32.const 44) (i32.const 0))
  (i32.store8 (i32.const 48) (i32.const 1))
  (i64.store (i32.const 56) (local.get $wake_after_ms))
  (i32.store8 (i32.const 64) (i32.const 0)))
(func $hex (param $number i64) (param $to i32)
  (local $at i32) (local $digit i32)
  (loop $digits
    (local.set $digit (i32.wrap_i64 (i64.and
      (i64.shr_u (local.get $number) (i64.extend_i32_u (i32.sub (i32.const 60) (i32.mul (local.get $at) (i32.const 4)))))
      (i64.const 15))))
    (i32.store8 (i32.add (local.get $to) (local.get $at))
      (i32.add (local.get $digit) (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $digit) (i32.const 9)))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $digits (i32.lt_u (local.get $at) (i32.const 16)))))
(data (i32.const 512) "null")
(func (export "caisson:step/executor@1.0.0#execute") (param $call i32) (result i32)
  (call $done (i32.const 512) (i32.const 4))
  (call $main (local.get $call))
  (i32.const 16))
"#;

/// A component without a manifest.
pub fn component(guest: &str) -> Vec<u8> {
    let imports: Vec<&str> =
        IMPORTS.iter().filter(|(name, _)| guest.contains(name)).map(|(_, import)| *import).collect();
    component_of(&format!("(module\n{}\n{RUNTIME}{guest})", imports.join("\n")), WORLD)
}

/// A component of a whole core module, and of a world that may import more than there is.
pub fn component_of(module: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap_or_else(|e| panic!("{e}\n{module}"));
    let mut resolve = Resolve::default();
    for (name, text) in WASI {
        resolve.push_str(name, text).expect("WIT");
    }
    let step = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/caisson-step@1.0.0/step.wit");
    resolve.push_str("step.wit", &std::fs::read_to_string(step).expect("the interface")).expect("WIT");
    let package = resolve.push_str("world.wit", world).expect("WIT");
    let world = resolve.select_world(&[package], None).expect("a world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
    let mut encoder = ComponentEncoder::default().module(&module).expect("a module").validate(true);
    encoder.encode().unwrap_or_else(|e| panic!("{e:#}"))
}

/// A manifest with one action, `go`; `more` stands before it.
pub fn manifest(id: &str, version: &str, more: &str) -> String {
    format!("id = \"{id}\"\nversion = \"{version}\"\nwit = \"1.0.0\"\n{more}\n[[actions]]\nname = \"go\"\n")
}

/// A package.
pub fn package(id: &str, version: &str, more: &str, guest: &str) -> Vec<u8> {
    embed(&component(guest), &manifest(id, version, more), &[], None).expect("a package")
}

/// A guest that answers with a JSON text.
pub fn answering(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "(data (i32.const 1024) \"{escaped}\") (func $main (param $call i32) (call $done (i32.const 1024) (i32.const {})))",
        text.len()
    )
}
