//! Compiling in a child process. Has no test harness, because it is the child as well.

mod support;

use std::process::ExitCode;

use caisson_core::error::Category;
use caisson_core::ports::{ActionRunner, Compilation, PluginHost};
use caisson_runtime::{Compiler, Runtime, RuntimeConfig, compile_main};
use serde_json::{Value, json};
use support::{cache_dir, done, invocation, load, wat};

/// What makes this program the child.
const CHILD: &str = "compile-in-a-child";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == CHILD) {
        assert_eq!(std::env::vars_os().count(), 0, "a child has no environment");
        let code = compile_main(args);
        bounded();
        return code;
    }
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    executor.block_on(async {
        what_a_child_compiles_runs().await;
        a_child_that_refuses_says_why().await;
        a_compiler_that_does_not_start_is_nobodys_fault().await;
    });
    println!("child: 3 passed");
    ExitCode::SUCCESS
}

/// In the child: whatever a component makes of the compiler, it ends.
fn bounded() {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux");
    for name in ["Max cpu time", "Max file size", "Max core file size", "Max address space"] {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("the limit is listed");
        assert!(!line.contains("unlimited"), "the compiler has no limit: {line}");
    }
}

async fn start(compiler: Compiler) -> Runtime {
    let config = RuntimeConfig { cache_dir: Some(cache_dir()), compiler, ..RuntimeConfig::default() };
    tokio::task::spawn_blocking(|| Runtime::new(config).expect("it starts")).await.expect("it starts")
}

fn child() -> Compiler {
    let program = std::env::current_exe().expect("this program");
    Compiler::Child { program, args: vec![CHILD.to_owned()] }
}

/// Never seen before, so that no cache knows it.
fn unique() -> String {
    format!("{:?}", std::time::SystemTime::now()).replace(['"', ' '], "")
}

fn files() -> Vec<String> {
    let names = std::fs::read_dir(cache_dir()).expect("a cache").filter_map(Result::ok);
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

async fn what_a_child_compiles_runs() {
    let runtime = start(child()).await;
    let answer = unique();
    let bytes = wat::package("made", "1", "", &wat::answering(&format!("\"{answer}\"")));
    let package = load(&runtime, &bytes, &[]).await.expect("it loads");
    assert_eq!(runtime.compilation(&package.digest), Compilation::Ready);
    assert_eq!(done(&runtime.run(invocation(&runtime, "made.go", &Value::Null)).await), json!(answer));
    let kept: Vec<String> = files().into_iter().filter(|name| name.starts_with(&package.digest)).collect();
    assert_eq!(kept.len(), 2, "code and its seal: {kept:?}");
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");

    // The next host takes it from the cache: it could not compile it.
    let runtime = start(Compiler::Child { program: "/nonexistent".into(), args: Vec::new() }).await;
    load(&runtime, &bytes, &[]).await.expect("it loads");
    assert_eq!(done(&runtime.run(invocation(&runtime, "made.go", &Value::Null)).await), json!(answer));
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}

async fn a_child_that_refuses_says_why() {
    let runtime = start(child()).await;
    let guest = "(func $main (param $call i32) (drop (i32.add (i32.const 1234567) (i32.const 1))))";
    let mut broken = wat::package("broken", &unique(), "", guest);
    let needle = [0x41, 0x87, 0xad, 0xcb, 0x00];
    let at = broken.windows(needle.len()).position(|window| window == needle).expect("the constant");
    broken[at] = 0x42;
    let refused = load(&runtime, &broken, &[]).await.expect_err("it compiled");
    assert_eq!(refused.code, "PLUGIN_COMPILE", "{}", refused.message);
    assert!(refused.message.contains("type mismatch"), "{}", refused.message);
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}

async fn a_compiler_that_does_not_start_is_nobodys_fault() {
    let runtime = start(Compiler::Child { program: "/nonexistent".into(), args: Vec::new() }).await;
    let bytes = wat::package("unmade", &unique(), "", &wat::answering("1"));
    let failed = load(&runtime, &bytes, &[]).await.expect_err("it compiled");
    assert_eq!((failed.code.as_str(), failed.category), ("PLUGIN_NOT_LOADED", Category::TransientError));
    assert!(failed.message.contains("/nonexistent"), "{}", failed.message);
    let package = runtime.inspect(&bytes).expect("it reads");
    assert_eq!(runtime.compilation(&package.digest), Compilation::Unused, "nothing is remembered against it");
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}
