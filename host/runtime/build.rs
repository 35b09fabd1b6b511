//! Builds the built-in plugins for `wasm32-wasip2`, so that the runtime can embed them.
//!
//! A cargo inside cargo: it has a target directory and a profile of its own (`<target>/guests`, profile `guest`), so it
//! waits for no lock of the outer one, and it sees none of the outer one's flags and wrappers, so that clippy or a
//! sanitizer never reaches a guest.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "guest";
/// Folders of `plugins/` that are part of the program. To add one: its name here, and in `src/builtin.rs` what is
/// special about it. One that is not there is left out, so that the runtime can be built without it.
const PLUGINS: [&str; 6] = ["script", "core", "human", "agent", "http", "javascript"];

fn main() {
    if let Err(message) = build() {
        eprintln!("failed to build the built-in plugins: {message}");
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let root = workspace()?;
    for path in ["plugins", "sdk-guest", "wit", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let guests = target_directory(&out)?.join("guests");
    println!("cargo::rustc-env=CAISSON_GUESTS={}", guests.display());

    let plugins: Vec<&str> =
        PLUGINS.into_iter().filter(|plugin| root.join("plugins").join(plugin).join("Cargo.toml").exists()).collect();
    install_target()?;
    let mut cargo = clean(&variable("CARGO")?);
    cargo.current_dir(&root).args(["build", "--target", TARGET, "--profile", PROFILE, "--target-dir"]).arg(&guests);
    if root.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    for plugin in &plugins {
        cargo.args(["--package", &format!("caisson-plugin-{plugin}")]);
    }
    run(&mut cargo)?;

    let mut list = Vec::new();
    for plugin in &plugins {
        let built = guests.join(TARGET).join(PROFILE).join(format!("caisson_plugin_{plugin}.wasm"));
        let copy = out.join(format!("{plugin}.wasm"));
        fs::copy(&built, &copy).map_err(|e| format!("copy {} to {}: {e}", built.display(), copy.display()))?;
        // Debug formatting quotes names as Rust does.
        list.push(format!("    ({plugin:?}, include_bytes!({:?})),\n", copy.display().to_string()));
    }
    fs::write(out.join("components.rs"), format!("[\n{}]\n", list.concat()))
        .map_err(|e| format!("write the list of components: {e}"))
}

fn workspace() -> Result<PathBuf, String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    here.ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("{} has no workspace above it", here.display()))
}

/// Cargo marks the target directory with `CACHEDIR.TAG`; else it is what holds `<profile>/build/<package>/out`.
fn target_directory(out: &Path) -> Result<PathBuf, String> {
    out.ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists())
        .or_else(|| out.ancestors().nth(4))
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("{} lies in no target directory", out.display()))
}

fn install_target() -> Result<(), String> {
    let output = clean(&variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|e| format!("run rustc: {e}"))?;
    if output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    println!("cargo::warning=the target {TARGET} is not installed: running `rustup target add {TARGET}`");
    run(clean("rustup").args(["target", "add", TARGET]))
        .map_err(|e| format!("{e}\nthe target {TARGET} is needed: install it with `rustup target add {TARGET}`"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("run {}: {e}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} ended with {}:\n{said}", command.get_program().display(), output.status))
}

/// A command without what the outer cargo set for its own compilation.
fn clean(program: &str) -> Command {
    const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
    const DROPPED: [&str; 12] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC",
        "RUSTDOC",
        "CLIPPY_",
        "MAKEFLAGS",
        "MFLAGS",
        "TARGET",
        "OUT_DIR",
        "PROFILE",
        "OPT_LEVEL",
        "LD_LIBRARY_PATH",
    ];
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let cargo = text.starts_with("CARGO") && !KEPT.iter().any(|kept| text.starts_with(kept));
        let other = DROPPED.iter().any(|dropped| text.starts_with(dropped)) && text != "RUSTUP_TOOLCHAIN";
        if cargo || other {
            command.env_remove(&name);
        }
    }
    command
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}
