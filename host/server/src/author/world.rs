//! The world that a plugin is built against: the interfaces that its manifest asks for, and no others.
//!
//! Toolchains for JavaScript and Python import every interface of the world that they are given, used or not. With the whole interface they
//! would import what the manifest does not ask for, and the host would refuse the component; with this world they cannot.

use std::fmt::Write as _;

use anyhow::Context;
use caisson_core::plugin::{Capability, Grants};

use super::embedded;
use super::project::{Project, write_file};

/// The folder with the world, below the folder for the build's own files.
const FOLDER: &str = "wit";
const STEP: &str = "caisson:step";

/// The interfaces that a plugin imports, by their full names.
pub fn imports(project: &Project) -> anyhow::Result<Vec<String>> {
    let step = embedded::text(embedded::STEP_WIT).context("the program was built without its interface")?;
    let version = version(step);
    let interfaces = interfaces(&project.manifest.asks, !project.assets()?.is_empty());
    Ok(interfaces.into_iter().map(|interface| format!("{STEP}/{interface}@{version}")).collect())
}

/// Writes the world and the interface that it names.
pub fn write(project: &Project) -> anyhow::Result<()> {
    let step = embedded::text(embedded::STEP_WIT).context("the program was built without its interface")?;
    let world = text(&project.manifest.id, &imports(project)?, version(step));
    let folder = project.work(FOLDER);
    write_file(&folder.join("world.wit"), world.as_bytes())?;
    write_file(&folder.join("deps").join("caisson-step").join("step.wit"), step.as_bytes())
}

/// The version in `package caisson:step@VERSION;`.
fn version(step: &str) -> &str {
    step.lines()
        .find_map(|line| line.strip_prefix("package caisson:step@"))
        .map_or("1.0.0", |rest| rest.trim_end_matches(';'))
}

fn interfaces(asks: &Grants, assets: bool) -> Vec<&'static str> {
    let mut interfaces = vec!["log"];
    if assets {
        interfaces.push("assets");
    }
    // A human's decision is part of the outcome and no import.
    interfaces
        .extend(asks.capabilities().into_iter().filter(|one| *one != Capability::Approval).map(Capability::as_str));
    interfaces
}

fn text(id: &str, imports: &[String], version: &str) -> String {
    let mut world = String::from("// Written by `caisson plugin build` from caisson-plugin.toml.\n");
    // Writing to a String cannot fail.
    let _ = writeln!(world, "package plugin:{};\n\nworld plugin {{", package_name(id));
    for import in imports {
        let _ = writeln!(world, "  import {import};");
    }
    let _ = writeln!(world, "  export {STEP}/executor@{version};\n}}");
    world
}

/// An id as WIT names things: words of letters and digits that begin with a letter, joined by `-`. Only tools see it.
fn package_name(id: &str) -> String {
    let words = id.split(['-', '_']).filter(|word| !word.is_empty());
    let words = words
        .map(|word| if word.starts_with(|c: char| c.is_ascii_digit()) { format!("n{word}") } else { word.to_owned() });
    // `%`: an id may be one of WIT's own words.
    format!("%{}", words.collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_world_has_what_the_manifest_asks_for() {
        let asks = Grants::parse(&json!(["kv", "approval", "http:example.com"])).expect("grants");
        assert_eq!(interfaces(&asks, false), ["log", "http", "kv"]);
        assert_eq!(interfaces(&Grants::default(), true), ["log", "assets"]);
        assert_eq!(
            text("my_2nd-import", &["caisson:step/log@1.0.0".to_owned()], "1.0.0"),
            "// Written by `caisson plugin build` from caisson-plugin.toml.\npackage plugin:%my-n2nd-import;\n\nworld plugin {\n  import caisson:step/log@1.0.0;\n  export caisson:step/executor@1.0.0;\n}\n"
        );
    }

    #[test]
    fn the_version_is_the_interfaces_own() {
        let step = embedded::text(embedded::STEP_WIT).expect("it is there");
        assert_eq!(version(step), "1.0.0");
    }
}
