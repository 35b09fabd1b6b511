//! Compiling: from a component's bytes to native code. The part that runs in a child process, and in this one where
//! there is none.
//!
//! A compiler that reads what strangers wrote takes the time and the memory that they make it take, so it gets a
//! process of its own: with limits, without an environment, at low priority. It only writes a file; nothing that it
//! wrote is loaded there.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use caisson_core::json::Json;
use caisson_core::plugin::{Effective, Engine as Runs, Grants, Package};
use wasmtime::Engine;

use crate::assets::{Assets, Components};
use crate::bindings::caisson::step::types as wire;
use crate::config::RuntimeConfig;
use crate::entry::{self, Call};
use crate::limits::Limits;
use crate::state::{Shared, State};
use crate::sys::{ProcessLimit, limit_process, lower_process_priority};
use crate::{capabilities, engine, wizen};

/// Python's components take a gigabyte.
const ADDRESS_SPACE_BYTES: u64 = 3 << 30;
/// The same as the parent waits; of all threads together.
const CPU_SECONDS: u64 = 120;
/// Python's compiled code has 60 MB.
const FILE_BYTES: u64 = 1 << 30;
/// Below guests, which are below the host.
const NICE: i32 = 10;

/// The compiler has refused the component: the message is for its author.
pub(crate) const EXIT_REFUSED: u8 = 1;
/// The warm-up failed: the component can be had without.
pub(crate) const EXIT_WARM_UP: u8 = 3;
/// Anything else.
const EXIT_BROKEN: u8 = 2;

/// What is done to a component before it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Nothing.
    Plain,
    /// An action is called once with an input; what it left in memory becomes the image of every instance.
    Warm { action: String, input: String },
}

impl Treatment {
    /// Every name that [`Self::name`] gives.
    pub(crate) const NAMES: [&str; 2] = ["plain", "warm"];

    /// Part of the name under which code is kept.
    pub(crate) fn name(&self) -> &'static str {
        let [plain, warm] = Self::NAMES;
        match self {
            Self::Plain => plain,
            Self::Warm { .. } => warm,
        }
    }
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Compiler(String),
    #[error("{0}")]
    WarmUp(String),
    /// Not the component's fault, so nothing to remember.
    #[error("{0}")]
    Broken(String),
}

/// What a child is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) fuel: bool,
    pub(crate) treatment: Treatment,
}

impl Job {
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let fuel = if self.fuel { "fuel" } else { "plain" };
        let mut args = vec![self.input.clone().into_os_string(), self.output.clone().into_os_string(), fuel.into()];
        if let Treatment::Warm { action, input } = &self.treatment {
            args.extend([action.into(), input.into()]);
        }
        args
    }

    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        const USAGE: &str = "expected: INPUT OUTPUT fuel|plain [ACTION INPUT-JSON]";
        let args: Vec<OsString> = args.into_iter().collect();
        let text = |arg: &OsString| arg.to_str().map(str::to_owned).ok_or_else(|| USAGE.to_owned());
        let (paths, treatment) = match args.as_slice() {
            [input, output, fuel] => ([input, output, fuel], Treatment::Plain),
            [input, output, fuel, action, json] => {
                ([input, output, fuel], Treatment::Warm { action: text(action)?, input: text(json)? })
            }
            _ => return Err(USAGE.to_owned()),
        };
        let [input, output, fuel] = paths;
        let fuel = match fuel.to_str() {
            Some("fuel") => true,
            Some("plain") => false,
            _ => return Err(USAGE.to_owned()),
        };
        Ok(Self { input: input.into(), output: output.into(), fuel, treatment })
    }

    fn run(&self) -> Result<(), Refused> {
        let broken = |what: &str, path: &PathBuf, e: std::io::Error| {
            Refused::Broken(format!("failed to {what} {}: {e}", path.display()))
        };
        let bytes = std::fs::read(&self.input).map_err(|e| broken("read", &self.input, e))?;
        let engine = engine::compiler(self.fuel).map_err(|e| Refused::Broken(format!("{e:#}")))?;
        let compiled = compile(&engine, &bytes, &self.treatment)?;
        std::fs::write(&self.output, compiled).map_err(|e| broken("write", &self.output, e))
    }
}

/// What a child process does that was started to compile: call it first, with what follows the arguments of
/// [`crate::Compiler::Child`]. Limits the whole process, compiles, and says by the exit code and on standard error how
/// it went.
pub fn compile_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    for limit in [
        ProcessLimit::Core(0),
        ProcessLimit::AddressSpace(ADDRESS_SPACE_BYTES),
        ProcessLimit::Cpu(CPU_SECONDS),
        ProcessLimit::File(FILE_BYTES),
    ] {
        if let Err(error) = limit_process(limit) {
            return ended(EXIT_BROKEN, &format!("failed to limit the compiler ({limit:?}): {error}"));
        }
    }
    lower_process_priority(NICE);
    match Job::parse(args).map_err(Refused::Broken).and_then(|job| job.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refused::Compiler(message)) => ended(EXIT_REFUSED, &message),
        Err(Refused::WarmUp(message)) => ended(EXIT_WARM_UP, &message),
        Err(Refused::Broken(message)) => ended(EXIT_BROKEN, &message),
    }
}

fn ended(code: u8, message: &str) -> ExitCode {
    // If nobody listens, the code says enough.
    drop(std::io::stderr().write_all(message.as_bytes()));
    ExitCode::from(code)
}

/// Native code of a component.
fn compile(engine: &Engine, bytes: &[u8], treatment: &Treatment) -> Result<Vec<u8>, Refused> {
    let treated = treated(bytes, treatment)?;
    engine.precompile_component(&treated).map_err(|e| Refused::Compiler(format!("{e:#}")))
}

/// The component as it is to be compiled.
pub(crate) fn treated<'a>(bytes: &'a [u8], treatment: &Treatment) -> Result<Cow<'a, [u8]>, Refused> {
    match treatment {
        Treatment::Plain => Ok(bytes.into()),
        Treatment::Warm { action, input } => warm(bytes, action, input).map(Into::into).map_err(Refused::WarmUp),
    }
}

/// Runs the warm-up. On a thread and a runtime of its own, because compiling is synchronous and may be called from
/// anywhere.
fn warm(bytes: &[u8], action: &str, input: &str) -> Result<Vec<u8>, String> {
    let input = Json::parse(input).map_err(|e| e.to_string())?;
    let state = warm_state();
    let call = warm_call(action, &input);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| e.to_string())?
                .block_on(wizen::pre_initialise(bytes, capabilities::link, state, call))
                .map_err(|e| e.to_string())
        });
        worker.join().unwrap_or_else(|_| Err("the warm-up panicked".to_owned()))
    })
}

/// Of a plugin that may do nothing.
fn warm_state() -> State {
    let package = Arc::new(Package {
        id: String::new(),
        version: String::new(),
        digest: String::new(),
        size: 0,
        wit: String::new(),
        description: String::new(),
        engine: Runs::Component,
        actions: Vec::new(),
        asks: Grants::default(),
        limits: std::collections::BTreeMap::new(),
        imports: Vec::new(),
    });
    let effective = Arc::new(Effective::new(package, Arc::default(), None));
    let shared = Arc::new(Shared::new(&RuntimeConfig::default()));
    let invocation = entry::standalone(&effective, "".into(), Json::null());
    let assets = Arc::new(Assets::new("".into(), Arc::new(Components::new(None))));
    entry::state(&Call { effective, limits: Limits::default(), invocation, shared, deadline: None }, assets)
}

fn warm_call(action: &str, input: &Json) -> wire::Invocation {
    wire::Invocation {
        action: action.to_owned(),
        config: "{}".to_owned(),
        input: input.get().to_owned(),
        context: wire::Context {
            tenant: String::new(),
            environment: String::new(),
            workflow: String::new(),
            workflow_version: String::new(),
            run_id: String::new(),
            step_id: String::new(),
            state: String::new(),
            attempt: 1,
            entry: 0,
            idempotency_key: String::new(),
            deadline_ms: None,
            traceparent: None,
        },
        resumed: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reads_back_and_nothing_else_is_one() {
        for treatment in
            [Treatment::Plain, Treatment::Warm { action: "run".to_owned(), input: r#"{"a": 1}"#.to_owned() }]
        {
            for fuel in [false, true] {
                let job = Job { input: "/a b".into(), output: "c".into(), fuel, treatment: treatment.clone() };
                assert_eq!(Job::parse(job.to_args()), Ok(job));
            }
        }
        for wrong in [&["a"][..], &["a", "b"], &["a", "b", "other"], &["a", "b", "fuel", "run"]] {
            assert!(Job::parse(wrong.iter().map(OsString::from)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_does_not_compile_is_refused_with_a_reason() {
        let engine = engine::compiler(false).expect("an engine");
        let refused = compile(&engine, b"nonsense", &Treatment::Plain).expect_err("nonsense compiled");
        assert!(matches!(&refused, Refused::Compiler(message) if !message.is_empty()), "{refused:?}");
        let warm = Treatment::Warm { action: "a".to_owned(), input: "{}".to_owned() };
        assert!(matches!(compile(&engine, b"nonsense", &warm), Err(Refused::WarmUp(_))));
    }
}
