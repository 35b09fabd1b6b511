//! What the documentation and the Compose file tell people to start can be started.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::path::Path;

use caisson_core::definition::document::{Data, Format, Node, read_value};

/// The root of the repository.
fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

/// What `caisson COMMAND --help` says; `None` for a command that is not there.
fn help(command: &str) -> Option<String> {
    let output = support::run_caisson(&[command, "--help"]);
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Checks a command line: the command is there, and so is each of its options. A build that serves one host only is asked for no others.
fn check(words: &[&str], place: &str) {
    const MANY_HOSTS: [&str; 7] = [
        "--database-url",
        "--nats",
        "--nats-url",
        "--nats-creds",
        "--nats-token-file",
        "--artifacts-dir",
        "--lease-seconds",
    ];
    let one_host = !help("serve").unwrap().contains("--database-url");
    if one_host && words[0] == "migrate" {
        return;
    }
    let help = help(words[0]).unwrap_or_else(|| panic!("{place}: there is no `caisson {}`", words[0]));
    let known: Vec<&str> = help.split([' ', ',', '\n', '=', '[', ']']).filter(|word| word.starts_with("--")).collect();
    for option in words.iter().filter(|word| word.starts_with("--")) {
        if one_host && MANY_HOSTS.contains(option) {
            continue;
        }
        assert!(known.contains(option), "{place}: `caisson {}` has no {option}", words[0]);
    }
}

fn texts(node: &Node) -> Vec<&str> {
    match &node.data {
        Data::List(items) => items.iter().map(|item| item.text().unwrap()).collect(),
        _ => panic!("a command is a list of words"),
    }
}

#[test]
fn the_compose_file_starts_three_hosts_with_options_that_exist() {
    let text = file("deploy/compose.yaml");
    let document = read_value(text.as_bytes(), Format::Yaml).unwrap_or_else(|found| panic!("{found:?}"));
    let services = document.root.get("services").unwrap();
    let Data::Map(entries) = &services.data else { panic!("services are named") };
    let ours: Vec<_> = entries
        .iter()
        .filter(|entry| entry.value.get("image").and_then(Node::text) == Some("caisson"))
        .map(|entry| (entry.key.as_str(), texts(entry.value.get("command").unwrap())))
        .collect();
    assert_eq!(ours.iter().filter(|(_, words)| words[0] == "serve").count(), 3);
    for (name, words) in ours {
        check(&words, name);
    }
    for needed in ["postgres", "nats"] {
        assert!(services.get(needed).is_some(), "{needed}");
    }
    // Whatever a service mounts or waits for is there.
    let volumes = document.root.get("volumes").unwrap();
    for entry in entries {
        for volume in entry.value.get("volumes").map(texts).unwrap_or_default() {
            assert!(volumes.get(volume.split(':').next().unwrap()).is_some(), "{}: {volume}", entry.key);
        }
        if let Some(Data::Map(needed)) = entry.value.get("depends_on").map(|node| &node.data) {
            for other in needed {
                assert!(services.get(&other.key).is_some(), "{}: {}", entry.key, other.key);
            }
        }
    }
}

#[test]
fn every_command_of_the_page_can_be_said() {
    let text = file("docs/deploy.md");
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("caisson "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(lines.len() >= 5, "the page has commands");
    for words in lines {
        check(&words, &words.join(" "));
    }
}

#[test]
fn the_image_starts_with_options_that_exist() {
    let text = file("deploy/Dockerfile");
    let command = text.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    check(&words.iter().map(String::as_str).collect::<Vec<_>>(), "deploy/Dockerfile");
}
