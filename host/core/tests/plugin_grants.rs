//! What a plugin may do: grants as they are written, and who has a say in them.

use std::borrow::Borrow;
use std::net::IpAddr;
use std::sync::Arc;

use caisson_core::plugin::{Capability, Denied, Effective, Engine, Grants, Package, PermissionDiff};
use serde_json::{Value, json};

fn grants(value: impl Borrow<Value>) -> Grants {
    let value = value.borrow();
    Grants::parse(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn package(asks: impl Borrow<Value>) -> Package {
    Package {
        id: "notify".to_owned(),
        version: "1.0.0".to_owned(),
        digest: "ab".repeat(32),
        size: 1,
        wit: "1.0.0".to_owned(),
        description: String::new(),
        engine: Engine::Component,
        actions: Vec::new(),
        asks: grants(asks),
        limits: [("cpuMs".to_owned(), 5)].into(),
        imports: Vec::new(),
    }
}

fn effective(asks: impl Borrow<Value>, granted: impl Borrow<Value>) -> Effective {
    Effective::new(Arc::new(package(asks)), Arc::new(grants(granted)), None)
}

fn narrowed(asks: impl Borrow<Value>, granted: impl Borrow<Value>, narrowed: impl Borrow<Value>) -> Effective {
    Effective::new(Arc::new(package(asks)), Arc::new(grants(granted)), Some(Arc::new(grants(narrowed))))
}

fn says<T: std::fmt::Debug>(result: Result<T, Denied>, parts: &[&str]) {
    let message = result.expect_err("should be denied").0;
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn lists_and_objects_say_the_same() {
    let cases = [
        (json!(["kv"]), json!({"kv": {}})),
        (json!(["kv", "log"]), json!({"kv": true, "log": {}})),
        (json!(["http"]), json!({"http": true})),
        (json!(["http:a.example"]), json!({"http": {"hosts": ["a.example"]}})),
        (
            json!(["http:A.example.", "http:[fd00::1]:8080"]),
            json!({"http": {"hosts": ["a.example", "[fd00::1]:8080"]}}),
        ),
        // A host beside "http" restricts: what is unclear gives less.
        (json!(["http", "http:a.example"]), json!({"http": {"hosts": ["a.example"]}})),
        (json!(["secrets:A", "secrets:B"]), json!({"secrets": {"names": ["A", "B"]}})),
        (
            json!(["events:order.*", "model:triager", "tools"]),
            json!({"events": {"names": ["order.*"]}, "model": {"agents": ["triager"]}, "tools": {}}),
        ),
        (json!(["tools:git.log", "tools:files.*"]), json!({"tools": {"names": ["git.log", "files.*"]}})),
        (json!(["approval", "artifacts"]), json!({"approval": {}, "artifacts": true, "kv": false, "http": null})),
        (json!([]), json!(null)),
    ];
    for (list, object) in cases {
        assert_eq!(grants(list.clone()), grants(object), "{list}");
    }
}

#[test]
fn what_is_written_reads_back() {
    let full = json!({
        "http": {"hosts": ["https://*.example.com:*", "10.0.0.7:80", "fd00::1"], "methods": ["GET"], "private": ["10.0.0.0/8"], "maxRequests": 3, "maxRequestBytes": 4, "maxResponseBytes": 5, "timeoutMs": 6},
        "secrets": {"names": ["A"], "inject": [{"secret": "B", "headers": ["x-token"], "hosts": ["a.example"]}]},
        "kv": {"maxKeys": 1, "maxBytes": 2}, "approval": {}, "events": {"names": ["a*"], "maxEvents": 7},
        "artifacts": {"maxFiles": 8, "maxBytes": 9}, "model": {"agents": ["m"], "maxCalls": 10},
        "tools": {"names": ["git.*"], "maxCalls": 11, "maxResultBytes": 12, "timeoutMs": 13},
    });
    let read = grants(full.clone());
    let again = serde_json::to_value(&read).expect("serialises");
    assert_eq!(again, full);
    assert_eq!(serde_json::from_value::<Grants>(again).expect("reads"), read);
    assert_eq!(read.capabilities(), Capability::ALL);
    assert_eq!(
        read.lines(),
        [
            "http:https://*.example.com:*",
            "http:10.0.0.7:80",
            "http:fd00::1",
            "http.methods = GET",
            "http.private = 10.0.0.0/8",
            "http.maxRequests = 3",
            "http.maxRequestBytes = 4",
            "http.maxResponseBytes = 5",
            "http.timeoutMs = 6",
            "secrets:A",
            "secrets.inject B into x-token for a.example",
            "kv",
            "kv.maxKeys = 1",
            "kv.maxBytes = 2",
            "approval",
            "events:a*",
            "events.maxEvents = 7",
            "artifacts",
            "artifacts.maxFiles = 8",
            "artifacts.maxBytes = 9",
            "model:m",
            "model.maxCalls = 10",
            "tools:git.*",
            "tools.maxCalls = 11",
            "tools.maxResultBytes = 12",
            "tools.timeoutMs = 13",
        ]
    );
    let inject_alone = grants(json!({"secrets": {"inject": [{"secret": "B", "hosts": ["a.example"]}]}}));
    assert_eq!(inject_alone.lines(), ["secrets.inject B into authorization for a.example"]);
}

#[test]
fn what_does_not_read_says_why() {
    let cases = [
        (json!("kv"), "list"),
        (json!(5), "list"),
        (json!([5]), "text"),
        (json!(["filesystem"]), "unknown capability 'filesystem'"),
        (json!(["htpp:a.example"]), "did you mean 'http'"),
        (json!({"htp": {}}), "did you mean 'http'"),
        (json!(["kv:all"]), "nothing after the colon"),
        (json!(["log:x"]), "nothing after the colon"),
        (json!(["http:a.example/path"]), "without a path"),
        (json!({"http": {"host": ["a.example"]}}), "unknown field"),
        (json!({"http": {"hosts": "a.example"}}), "http"),
        (json!({"http": {"maxRequests": -1}}), "http"),
        (json!({"http": {"private": ["10.0.0.0/33"]}}), "range"),
        (json!({"secrets": {"inject": [{"secret": "A"}]}}), "hosts"),
        // An empty list must not read as "no restrictions".
        (json!({"http": []}), "not a list"),
        (json!({"approval": []}), "not a list"),
        (json!({"kv": [1, 2]}), "not a list"),
        (json!({"kv": "all"}), "kv"),
    ];
    for (value, part) in cases {
        let error = Grants::parse(&value).expect_err(&value.to_string()).to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn a_denial_is_the_line_to_add_and_where() {
    let nothing = || effective(json!([]), json!([]));
    says(
        nothing().http(true, "a.example", 443, "GET"),
        &["not asked for by plugin 'notify'", "\"http:a.example\"", "caisson-plugin.toml"],
    );
    says(nothing().check(Capability::Kv), &["\"kv\"", "caisson-plugin.toml"]);
    let asked = json!(["http", "kv", "secrets:A", "events", "model", "approval", "artifacts"]);
    let ungranted = || effective(asked.clone(), json!([]));
    says(
        ungranted().http(true, "a.example", 8443, "GET"),
        &["caisson plugin grant notify http:a.example:8443", "plugins.toml"],
    );
    says(ungranted().http(false, "fd00::1", 80, "GET"), &["http:[fd00::1]"]);
    says(ungranted().secret("A"), &["caisson plugin grant notify secrets:A"]);
    says(ungranted().event("order.paid"), &["grant notify events:order.paid"]);
    says(ungranted().agent("triager"), &["grant notify model:triager"]);
    for capability in [Capability::Kv, Capability::Approval, Capability::Artifacts] {
        says(ungranted().check(capability), &["is not granted", capability.as_str()]);
    }
    let step = narrowed(asked.clone(), asked.clone(), json!(["http:a.example"]));
    step.http(true, "a.example", 443, "GET").expect("left");
    says(step.http(true, "b.example", 443, "GET"), &["not left to this step", "\"http:b.example\"", "'capabilities'"]);
    says(step.check(Capability::Kv), &["not left to this step", "\"kv\""]);
    // The line reads as a grant again.
    for line in ["http:a.example:8443", "http:[fd00::1]", "secrets:A", "events:order.paid", "model:triager"] {
        grants(json!([line]));
    }
}

#[test]
fn nobody_alone_lets_a_request_out() {
    let all = json!(["http"]);
    let one = json!(["http:a.example"]);
    let other = json!(["http:b.example"]);
    // Asked, granted, narrowed, and whether a.example is reached.
    let cases = [
        (&all, &all, None, true),
        (&one, &all, None, true),
        (&all, &one, None, true),
        (&other, &all, None, false),
        (&all, &other, None, false),
        (&other, &one, None, false),
        (&all, &all, Some(&one), true),
        (&all, &all, Some(&other), false),
        (&one, &all, Some(&all), true),
        (&other, &all, Some(&one), false),
    ];
    for (asked, granted, left, reached) in cases {
        let effective = match left {
            None => effective(asked.clone(), granted.clone()),
            Some(left) => narrowed(asked.clone(), granted.clone(), left.clone()),
        };
        assert_eq!(effective.http(true, "a.example", 443, "GET").is_ok(), reached, "{asked} {granted} {left:?}");
    }
    let none: Value = json!({"http": {"hosts": []}});
    assert!(effective(all, none).http(true, "a.example", 443, "GET").is_err());
}

#[test]
fn methods_are_restricted_by_each() {
    let get = json!({"http": {"methods": ["get"]}});
    let post = json!({"http": {"methods": ["POST"]}});
    let all = json!(["http"]);
    let of =
        |asked: &Value, granted: &Value| effective(asked.clone(), granted.clone()).http(true, "a.example", 443, "GET");
    of(&get, &all).expect("asked");
    of(&all, &get).expect("granted");
    says(of(&post, &all), &["method GET is not asked for", "caisson-plugin.toml"]);
    says(of(&all, &post), &["method GET is not granted", "http.methods"]);
    let left = narrowed(all.clone(), all, post);
    says(left.http(true, "a.example", 443, "GET"), &["method GET is not left to this step", "'capabilities'"]);
}

#[test]
fn private_addresses_need_the_operators_word() {
    let asked = json!({"http": {"private": ["0.0.0.0/0", "::/0"]}});
    // Granted, host, address, whether it may be dialled.
    let cases = [
        (json!(["http"]), "a.example", "93.184.216.34", true),
        (json!(["http"]), "a.example", "10.0.0.1", false),
        (json!(["http"]), "10.0.0.1", "10.0.0.1", false),
        (json!(["http:*"]), "10.0.0.1", "10.0.0.1", false),
        (json!(["http:a.example"]), "a.example", "127.0.0.1", false),
        (json!(["http:*.localhost"]), "x.localhost", "127.0.0.1", false),
        (json!(["http:x.localhost"]), "x.localhost", "127.0.0.1", true),
        (json!(["http:localhost"]), "localhost", "127.0.0.1", true),
        (json!(["http:localhost"]), "localhost", "::1", true),
        (json!(["http:localhost"]), "localhost", "10.0.0.1", false),
        (json!(["http:localhost"]), "localhost", "169.254.169.254", false),
        (json!(["http:10.0.0.1"]), "10.0.0.1", "10.0.0.1", true),
        (json!(["http:10.0.0.1"]), "10.0.0.1", "10.0.0.2", false),
        (json!(["http:10.0.0.1"]), "a.example", "10.0.0.1", false),
        (json!(["http:10.0.0.1"]), "::ffff:10.0.0.1", "10.0.0.1", true),
        (json!({"http": {"private": ["10.0.0.0/8"]}}), "a.example", "10.1.2.3", true),
        (json!({"http": {"private": ["10.0.0.0/8"]}}), "a.example", "::ffff:10.1.2.3", true),
        (json!({"http": {"private": ["10.0.0.0/8"]}}), "a.example", "169.254.169.254", false),
        (json!({"http": {"private": ["10.0.0.0/8"]}}), "a.example", "64:ff9b::a01:203", false),
        (json!([]), "a.example", "10.0.0.1", false),
    ];
    for (granted, host, address, allowed) in cases {
        let effective = narrowed(asked.clone(), granted.clone(), asked.clone());
        let address: IpAddr = address.parse().expect(address);
        assert_eq!(effective.address(false, host, 80, address).is_ok(), allowed, "{granted} {host} {address}");
    }
    says(
        effective(asked, json!(["http"])).address(false, "a.example", 80, "10.0.0.1".parse().expect("address")),
        &["'a.example' is at 10.0.0.1", "http.private", "'notify'"],
    );
}

#[test]
fn secrets_are_read_and_filled_in_as_all_agree() {
    let inject = |secret: &str, host: &str| json!({"secret": secret, "headers": ["Authorization"], "hosts": [host]});
    let asked = json!({"secrets": {"names": ["READ"], "inject": [inject("FILL", "a.example")]}});
    let fills = |effective: &Effective, name: &str, header: &str, host: &str, port| {
        effective.inject(name, header, true, host, port).is_ok()
    };
    // The operator says nothing of names: as asked.
    let quiet = effective(asked.clone(), json!(["secrets"]));
    quiet.secret("READ").expect("asked by name");
    says(quiet.secret("FILL"), &["not asked for", "secrets:FILL"]);
    says(quiet.secret("OTHER"), &["not asked for", "secrets:OTHER"]);
    assert!(fills(&quiet, "FILL", "authorization", "a.example", 443));
    assert!(fills(&quiet, "FILL", "AUTHORIZATION", "a.example", 443));
    assert!(!fills(&quiet, "FILL", "x-token", "a.example", 443));
    assert!(!fills(&quiet, "FILL", "authorization", "b.example", 443));
    assert!(!fills(&quiet, "FILL", "authorization", "a.example", 444));
    // Who may read it may have it anywhere.
    assert!(fills(&quiet, "READ", "x-token", "b.example", 444));
    assert_eq!(quiet.secret_names(), ["FILL", "READ"]);

    let strict = effective(asked.clone(), json!({"secrets": {"inject": [inject("FILL", "b.example")]}}));
    says(strict.secret("READ"), &["not granted", "secrets:READ"]);
    assert!(!fills(&strict, "FILL", "authorization", "a.example", 443));
    assert!(!fills(&strict, "FILL", "authorization", "b.example", 443));
    says(
        strict.inject("FILL", "authorization", true, "a.example", 443),
        &["under secrets of its grants", "FILL", "a.example"],
    );
    assert_eq!(strict.secret_names(), ["FILL"]);

    let nobody = effective(asked.clone(), json!([]));
    assert!(nobody.secret("READ").is_err() && !fills(&nobody, "FILL", "authorization", "a.example", 443));
    assert!(nobody.secret_names().is_empty(), "what it asks for in vain is not redacted: it could be guessed by that");

    // A manifest has to name what it wants.
    let unnamed = effective(json!(["secrets"]), json!({"secrets": {"names": ["READ"]}}));
    assert!(unnamed.secret("READ").is_err());
    assert!(unnamed.secret_names().is_empty());

    let step = narrowed(asked.clone(), json!(["secrets"]), json!({"secrets": {"names": ["READ"]}}));
    step.secret("READ").expect("left");
    says(step.inject("FILL", "authorization", true, "a.example", 443), &["the state's 'capabilities'"]);
    assert_eq!(step.secret_names(), ["FILL", "READ"], "what the plugin knows from elsewhere is redacted here too");
    let step = narrowed(asked, json!(["secrets"]), json!(["secrets"]));
    step.secret("READ").expect("narrowed to as it was");
    assert_eq!(step.secret_names(), ["FILL", "READ"]);
}

#[test]
fn a_manifest_may_leave_secrets_and_headers_to_the_operator() {
    let asked = json!({"secrets": {"inject": [{"secret": "*", "headers": ["*"], "hosts": ["*:*"]}]}});
    let inject = |effective: &Effective, name: &str, header: &str, host: &str| {
        effective.inject(name, header, true, host, 443).is_ok()
    };
    let named = effective(
        asked.clone(),
        json!({"secrets": {"inject": [{"secret": "A", "headers": ["x-a"], "hosts": ["a.example"]}]}}),
    );
    assert!(inject(&named, "A", "X-A", "a.example"));
    assert!(!inject(&named, "A", "x-b", "a.example"));
    assert!(!inject(&named, "A", "x-a", "b.example"));
    assert!(!inject(&named, "B", "x-a", "a.example"));
    assert!(!inject(&named, "*", "x-a", "a.example"));
    assert!(named.secret("A").is_err() && named.secret("*").is_err());
    assert_eq!(named.secret_names(), ["A"]);
    // Who leaves it to the operator gets nothing from one who says nothing.
    let silent = effective(asked.clone(), json!(["secrets"]));
    assert!(!inject(&silent, "A", "authorization", "a.example"));
    assert!(silent.secret_names().is_empty());
    // An operator's or a workflow's star is a name like any other.
    let star = json!({"secrets": {"inject": [{"secret": "*", "headers": ["*"], "hosts": ["*"]}]}});
    assert!(!inject(&effective(asked.clone(), star.clone()), "A", "x-a", "a.example"));
    let open = json!({"secrets": {"inject": [{"secret": "A", "headers": ["x-a"], "hosts": ["*"]}]}});
    assert!(!inject(&narrowed(asked.clone(), open.clone(), star), "A", "x-a", "a.example"));
    assert!(inject(&narrowed(asked, open, json!(["secrets"])), "A", "x-a", "a.example"));
}

#[test]
fn a_host_that_gets_a_hidden_secret_is_known() {
    let inject = json!([{"secret": "FILL", "headers": ["x-a"], "hosts": ["https://a.example"]}]);
    let hidden = effective(json!({"secrets": {"inject": inject}}), json!(["secrets"]));
    for (tls, host, port, hides) in
        [(true, "a.example", 443, true), (false, "a.example", 80, false), (true, "b.example", 443, false)]
    {
        assert_eq!(hidden.hides(tls, host, port), hides, "{tls} {host} {port}");
    }
    let read_anyway = effective(json!({"secrets": {"names": ["FILL"], "inject": inject}}), json!(["secrets"]));
    assert!(!read_anyway.hides(true, "a.example", 443));
    assert!(!effective(json!({"secrets": {"inject": inject}}), json!([])).hides(true, "a.example", 443));
}

#[test]
fn names_of_events_and_agents() {
    let events = effective(json!(["events:order.*", "events:done"]), json!(["events"]));
    for (name, allowed) in
        [("order.paid", true), ("order.", true), ("order", false), ("done", true), ("done2", false), ("", false)]
    {
        assert_eq!(events.event(name).is_ok(), allowed, "{name}");
    }
    let models = effective(json!(["model"]), json!(["model:triager"]));
    models.agent("triager").expect("granted");
    says(models.agent("writer"), &["not granted", "model:writer"]);
}

#[test]
fn names_of_tools() {
    let tools = effective(json!(["tools"]), json!(["tools:git.log", "tools:files.*"]));
    for (name, allowed) in [
        ("git.log", true),
        ("git.push", false),
        ("files.read", true),
        ("files.a.b", true),
        ("files.", true),
        ("files", false),
        ("files2.read", false),
        ("", false),
    ] {
        assert_eq!(tools.tool(name).is_ok(), allowed, "{name}");
    }
    for (server, allowed) in [("git", true), ("files", true), ("file", false), ("", false)] {
        assert_eq!(tools.tool_server(server), allowed, "{server}");
    }
    says(tools.tool("git.push"), &["not granted", "caisson plugin grant notify tools:git.push"]);
    says(effective(json!(["kv"]), json!(["tools"])).tool("git.log"), &["not asked for", "\"tools:git.log\""]);
    let left = narrowed(json!(["tools"]), json!(["tools"]), json!(["tools:git.*"]));
    left.tool("git.log").expect("left");
    says(left.tool("files.read"), &["not left to this step"]);
    // A star is every tool, and half a name none.
    effective(json!(["tools:*"]), json!(["tools"])).tool("git.log").expect("every tool");
    says(effective(json!(["tools:git.l*"]), json!(["tools"])).tool("git.log"), &["not asked for"]);
}

#[test]
fn numbers_are_lowered_by_all_and_lifted_by_the_operator() {
    let number = |grants: &Grants| grants.http.as_ref().and_then(|http| http.max_requests);
    let with = |n: Option<u64>| n.map_or(json!(["http"]), |n| json!({"http": {"maxRequests": n}}));
    // Asked, granted, narrowed, and what holds where the default is 100.
    let cases = [
        (None, None, None, 100),
        (Some(5), None, None, 5),
        (Some(500), None, None, 100),
        (None, Some(500), None, 500),
        (Some(200), Some(500), None, 200),
        (Some(200), Some(50), None, 50),
        (None, Some(500), Some(20), 20),
        (None, None, Some(200), 100),
        (None, Some(0), None, 0),
    ];
    for (asked, granted, left, holds) in cases {
        let effective = narrowed(with(asked), with(granted), with(left));
        assert_eq!(effective.least(100, number), holds, "{asked:?} {granted:?} {left:?}");
    }
}

#[test]
fn a_new_version_shows_what_it_wants_more() {
    let old = package(json!(["kv", "http:a.example"]));
    let mut new = package(json!(["http:a.example", "http:b.example", "secrets:TOKEN"]));
    new.limits.insert("cpuMs".to_owned(), 50);
    let diff = PermissionDiff::between(Some(&old), &new);
    assert_eq!(diff.added, ["http:b.example", "secrets:TOKEN", "limit cpuMs = 50"]);
    assert_eq!(diff.removed, ["kv", "limit cpuMs = 5"]);
    assert_eq!(diff.kept, ["http:a.example"]);
    let first = PermissionDiff::between(None, &old);
    assert_eq!((first.added.len(), first.removed.len(), first.kept.len()), (3, 0, 0));
}
