//! A package on the screen.

use caisson_core::plugin::{ActionSpec, Engine, Package};
use serde_json::{Value, json};

use crate::cli::output::{clean, line};

/// The package, and what an operator would say yes to.
pub fn answer(package: &Package) -> Value {
    json!({"plugin": package, "permissions": package.permissions()})
}

/// For people.
pub fn print(package: &Package) {
    let engine = match package.engine {
        Engine::Component => "its own code",
        Engine::JavaScript => "the built-in JavaScript engine",
    };
    for (name, value) in [
        ("id", package.id.as_str()),
        ("version", &package.version),
        ("what", &package.description),
        ("digest", &package.digest),
        ("size", &size(package.size)),
        ("interface", &format!("caisson:step@{}", package.wit)),
        ("runs on", engine),
    ] {
        line(format!("{name:<10} {}", clean(value)).trim_end());
    }
    section("wants granted", &package.asks.lines());
    section("limits", &package.limits.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>());
    line("actions");
    for action in &package.actions {
        print_action(&package.id, action);
    }
    section("imports", &package.imports);
}

fn print_action(id: &str, action: &ActionSpec) {
    line(&format!("  {}", clean(&format!("{id}.{}  {}", action.name, action.description)).trim_end()));
    for (side, schema) in
        [("config", &action.config_schema), ("input", &action.input_schema), ("output", &action.output_schema)]
    {
        if let Some(schema) = schema {
            line(&format!("    {side:<7} {}", clean(&schema.to_string())));
        }
    }
}

fn section(head: &str, lines: &[String]) {
    if lines.is_empty() {
        line(&format!("{head:<14} nothing"));
        return;
    }
    line(head);
    for text in lines {
        line(&format!("  {}", clean(text)));
    }
}

/// Bytes as people say them.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
