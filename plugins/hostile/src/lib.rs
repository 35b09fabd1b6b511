//! A plugin that misbehaves in every way we know, and one whose every call a test can choose. The tests build it; nothing ships it.
//!
//! What the host refuses is output and no failure where a test wants to look at it: `{"error": {"kind": "denied", "message": …}}`.

#![expect(clippy::unnecessary_wraps, clippy::needless_pass_by_value, reason = "actions have one form")]

mod exhaust;
mod forge;
mod leak;
mod probe;
mod world;

use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use caisson_sdk::{Approval, CapabilityError, Context, Failure, Outcome, RawJson, Suspend, kv, log};
use serde_json::{Value, json};

caisson_sdk::plugin!(
    spin,
    allocate,
    recurse,
    output,
    flood_log,
    flood_stdout,
    trap,
    panic,
    exit,
    call_host,
    big_call,
    denied,
    suspend_for_ever,
    ask,
    surroundings,
    lie,
    "memcopy_storm" => exhaust::memcopy_storm,
    "redos" => exhaust::redos,
    "handle_flood" => exhaust::handle_flood,
    "host_call_flood" => exhaust::host_call_flood,
    "big_string" => exhaust::big_string,
    "http_ten" => world::http_ten,
    "http_get" => world::http_get,
    "kv_ops" => world::kv_ops,
    "emit" => world::emit,
    "artifact_put" => world::artifact_put,
    "artifact_get" => world::artifact_get,
    "mismatch" => world::mismatch,
    "secret_get" => leak::secret_get,
    "secret_leak" => leak::secret_leak,
    "read_clock" => probe::read_clock,
    "read_random" => probe::read_random,
    "env_probe" => probe::env_probe,
    "forged_approval" => forge::forged_approval,
);

fn spin(_: &Context, _: Value) -> Result<Value, Failure> {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

fn allocate(_: &Context, _: Value) -> Result<Value, Failure> {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn recurse(_: &Context, _: Value) -> Result<Value, Failure> {
    #[expect(unconditional_recursion, reason = "that is the point")]
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        deeper(black_box(depth + 1)).wrapping_add(frame[0])
    }
    Ok(json!(deeper(0)))
}

fn output(_: &Context, input: Value) -> Result<RawJson, Failure> {
    let bytes = usize::try_from(input["bytes"].as_u64().unwrap_or(2 << 20)).unwrap_or(0);
    Ok(serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(bytes)))?)
}

fn flood_log(_: &Context, _: Value) -> Result<Value, Failure> {
    loop {
        log::info("again");
    }
}

#[expect(clippy::print_stdout, reason = "that is the point")]
fn flood_stdout(_: &Context, _: Value) -> Result<Value, Failure> {
    loop {
        println!("{}", "x".repeat(1000));
    }
}

fn trap(_: &Context, _: Value) -> Result<Value, Failure> {
    log::info("before the trap");
    step_on_it();
}

#[inline(never)]
fn step_on_it() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

fn panic(_: &Context, _: Value) -> Result<Value, Failure> {
    panic!("seven is not eight");
}

fn exit(_: &Context, _: Value) -> Result<Value, Failure> {
    std::process::exit(3);
}

fn call_host(_: &Context, _: Value) -> Result<Value, Failure> {
    loop {
        // Denied, and cheap: only the count ends it.
        drop(black_box(kv::get("x")));
    }
}

fn big_call(_: &Context, _: Value) -> Result<Value, Failure> {
    drop(kv::set("x", vec![0; 32 << 20]));
    Ok(Value::Null)
}

fn denied(_: &Context, _: Value) -> Result<Value, Failure> {
    kv::get("x")?;
    Ok(Value::Null)
}

fn suspend_for_ever(_: &Context, _: Value) -> Result<Outcome<Value>, Failure> {
    Ok(Suspend::new().into())
}

fn ask(_: &Context, _: Value) -> Result<Outcome<Value>, Failure> {
    Ok(Suspend::new().on_approval(Approval { message: "may I?".to_owned(), ..Approval::default() }).into())
}

/// What a guest can learn of its host: nothing, and the same every time.
fn surroundings(_: &Context, _: Value) -> Result<Value, Failure> {
    use std::hash::{BuildHasher, RandomState};
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(json!({
        "args": std::env::args().count(),
        "vars": std::env::vars().count(),
        "root": std::fs::read_dir("/").is_ok(),
        "passwd": std::fs::read_to_string("/etc/passwd").is_ok(),
        "socket": std::net::TcpStream::connect("127.0.0.1:22").is_ok(),
        "seconds": now.as_secs(),
        "random": RandomState::new().hash_one(1).to_string(),
    }))
}

fn lie(_: &Context, _: Value) -> Result<Value, Failure> {
    Ok(json!("no object"))
}

/// A refusal as something to look at.
fn refused(error: &CapabilityError) -> Value {
    let (kind, message) = match error {
        CapabilityError::Denied(what) => ("denied", what.clone()),
        CapabilityError::NotFound(what) => ("not-found", what.clone()),
        CapabilityError::Invalid(what) => ("invalid", what.clone()),
        CapabilityError::TooLarge(max) => ("too-large", max.to_string()),
        CapabilityError::Quota(what) => ("quota", what.clone()),
        CapabilityError::Timeout => ("timeout", String::new()),
        CapabilityError::Unavailable(what) => ("unavailable", what.clone()),
        CapabilityError::Other(what) => ("other", what.clone()),
    };
    json!({"error": {"kind": kind, "message": message}})
}

/// An answer or a refusal.
fn told<T>(result: Result<T, CapabilityError>, show: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(value) => show(value),
        Err(error) => refused(&error),
    }
}
