//! How a guest that did not answer ended: a limit by its code, or a trap with what helps to find it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use caisson_core::plugin::Package;
use serde_json::json;
use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};

use crate::journal::Ended;
use crate::limits::{Exceeded, Limit, Limits, STACK_BYTES};
use crate::logbook::LogBook;

/// Frames that a report shows.
const FRAMES_MAX: usize = 12;

/// A passed limit as a failure.
pub(crate) fn exceeded(plugin: &Package, exceeded: Exceeded) -> Failure {
    let message = format!("plugin {}@{} was stopped: {}", plugin.id, plugin.version, exceeded.message());
    let details =
        json!({"limit": exceeded.code(), "max": exceeded.max, "plugin": plugin.id, "version": plugin.version});
    Failure::new(Category::LimitError, exceeded.code(), message).with_details(Json::of(&details))
}

/// What an error out of wasmtime means. `denied` is the growth that was refused, if one was.
pub(crate) fn failure(
    error: &wasmtime::Error,
    plugin: &Package,
    limits: &Limits,
    denied: Option<Exceeded>,
    log: &LogBook,
) -> Failure {
    if let Some(Ended(failure)) = error.downcast_ref::<Ended>() {
        return failure.clone();
    }
    match limit(error, limits, denied) {
        Some(passed) => exceeded(plugin, passed),
        None => trapped(error, plugin, log),
    }
}

fn limit(error: &wasmtime::Error, limits: &Limits, denied: Option<Exceeded>) -> Option<Exceeded> {
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        return Some(*exceeded);
    }
    if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
        return Some(Exceeded { limit: Limit::Handles, max: limits.handles });
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        return Some(Exceeded { limit: Limit::Stack, max: STACK_BYTES as u64 });
    }
    if shadow_stack_overflow(error) {
        return Some(Exceeded { limit: Limit::ShadowStack, max: 0 });
    }
    if out_of_hostcall_fuel(error) {
        // Within a call of the host there are wasm frames; when the result is copied, the guest has returned.
        return Some(if error.downcast_ref::<WasmBacktrace>().is_some() {
            Exceeded { limit: Limit::CallBytes, max: limits.call_bytes }
        } else {
            Exceeded { limit: Limit::Output, max: limits.output_bytes }
        });
    }
    // A guest that gets no memory gives up in its own way, which is a trap like any other.
    denied
}

/// Languages with pointers to locals keep a second stack at the bottom of the memory, growing down: what overflows it
/// touches addresses just below zero, which as unsigned are at the very top. wasmtime keeps the type to itself; a test
/// holds the text.
fn shadow_stack_overflow(error: &wasmtime::Error) -> bool {
    /// No frame is larger.
    const BELOW_ZERO_MAX: u64 = 16 << 20;
    if error.downcast_ref::<Trap>() != Some(&Trap::MemoryOutOfBounds) {
        return false;
    }
    let address = error.chain().find_map(|cause| {
        let text = cause.to_string();
        let (_, rest) = text.split_once("memory fault at wasm address 0x")?;
        let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
        u64::from_str_radix(digits, 16).ok()
    });
    match address {
        // A store at an offset from a pointer below zero lands a little above 4 GiB.
        Some(address) => address.abs_diff(1 << 32) <= BELOW_ZERO_MAX,
        // A copy or a fill says no address: then it is one if the guest was deep in a recursion.
        None => error.downcast_ref::<WasmBacktrace>().is_some_and(recursive),
    }
}

/// Whether a few functions call each other in all frames that there are, and those are many.
fn recursive(backtrace: &WasmBacktrace) -> bool {
    const FRAMES_MIN: usize = 16;
    const FUNCTIONS_MAX: usize = 4;
    let functions: BTreeSet<u32> = backtrace.frames().iter().map(wasmtime::FrameInfo::func_index).collect();
    backtrace.frames().len() >= FRAMES_MIN && functions.len() <= FUNCTIONS_MAX
}

/// wasmtime keeps this error's type to itself; a test holds the text.
fn out_of_hostcall_fuel(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls has been exhausted"))
}

fn trapped(error: &wasmtime::Error, plugin: &Package, log: &LogBook) -> Failure {
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        None => error.root_cause().to_string(),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    let tail = log.tail();

    let mut message = format!("plugin {}@{} trapped: {reason}", plugin.id, plugin.version);
    if let Some(panic) = log.fatal() {
        // Writing to a String cannot fail.
        let _ = write!(message, ": {panic}");
    }
    if let Some(frame) = frames.iter().find(|frame| !plumbing(frame)).or_else(|| frames.first()) {
        let _ = write!(message, " (in {frame})");
    }
    let details = json!({
        "plugin": plugin.id,
        "version": plugin.version,
        "digest": plugin.digest,
        "reason": reason,
        "frames": frames,
        "log": tail,
    });
    Failure::new(Category::ActionError, "PLUGIN_TRAP", message).with_details(Json::of(&details))
}

/// Demangled names, innermost first: wasmtime's own rendering has them.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let text = backtrace.to_string();
    text.lines()
        .filter_map(|line| line.split_once('!').map(|(_, name)| without_hash(name.trim()).to_owned()))
        .take(FRAMES_MAX)
        .collect()
}

/// `path::function` of rustc's `path::function::h0123456789abcdef`.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

/// Frames of a panic's way out, which are the same for every panic.
fn plumbing(frame: &str) -> bool {
    const MACHINERY: [&str; 8] = [
        "std::",
        "core::panicking",
        "__rust",
        "rust_panic",
        "abort",
        "core::result::unwrap_failed",
        "core::option::",
        "__rustc",
    ];
    MACHINERY.iter().any(|prefix| frame.trim_start_matches('<').starts_with(prefix))
}
